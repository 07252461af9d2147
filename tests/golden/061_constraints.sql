# What a table forbids is refused with PostgreSQL's codes, and nothing of the statement stays.
acme> CREATE TABLE p (id integer PRIMARY KEY, code varchar(3) UNIQUE, n integer CHECK (n > 0), d date, u uuid, flag boolean, c char(2), at timestamp(0));
acme> INSERT INTO p (id, code, n) VALUES (1, 'a', 1), (2, 'b', 2);
acme> INSERT INTO p (id) VALUES (3), (1);
ERROR 23505
acme> SELECT count(*) FROM p;
count
2
(1 row)
acme> INSERT INTO p (id) VALUES (5), (5);
ERROR 23505
acme> INSERT INTO p (id, code) VALUES (3, 'b');
ERROR 23505
acme> INSERT INTO p (code) VALUES ('z');
ERROR 23502
acme> INSERT INTO p (id, n) VALUES (3, 0);
ERROR 23514
acme> INSERT INTO p (id, n) VALUES (3, NULL);
acme> UPDATE p SET n = -1 WHERE id = 1;
ERROR 23514
acme> UPDATE p SET id = 2 WHERE id = 1;
ERROR 23505
acme> UPDATE p SET id = id + 10;
acme> SELECT id FROM p ORDER BY id;
id
11
12
13
(3 rows)
acme> INSERT INTO p (id, code) VALUES (20, 'long');
ERROR 22001
acme> INSERT INTO p (id, code) VALUES (20, 'abc   ') RETURNING code;
code
abc
(1 row)
acme> INSERT INTO p (id) VALUES ('x');
ERROR 22P02
acme> INSERT INTO p (id) VALUES (99999999999);
ERROR 22003
acme> INSERT INTO p (id) VALUES (2147483648);
ERROR 22003
acme> INSERT INTO p (id, d) VALUES (21, 'yesterday-ish');
ERROR 22007
acme> INSERT INTO p (id, d) VALUES (21, 5);
ERROR 42804
acme> INSERT INTO p (id, u) VALUES (21, 'no');
ERROR 22P02
acme> INSERT INTO p (id, flag) VALUES (21, 1);
ERROR 42804
acme> INSERT INTO p (id, flag, c, at) VALUES (21, 'yes', 'x', '2024-02-03 04:05:06.7') RETURNING flag, c, at;
flag|c|at
t|x|2024-02-03 04:05:07
(1 row)
acme> CREATE TABLE c (id serial PRIMARY KEY, p integer REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE);
acme> INSERT INTO c (p) VALUES (11), (12), (NULL);
acme> INSERT INTO c (p) VALUES (404);
ERROR 23503
acme> UPDATE c SET p = 404 WHERE p = 11;
ERROR 23503
acme> UPDATE p SET id = 1 WHERE id = 11;
acme> SELECT p FROM c ORDER BY id;
p
1
12
NULL
(3 rows)
acme> DELETE FROM p WHERE id = 12;
acme> SELECT p FROM c ORDER BY id;
p
1
NULL
(2 rows)
acme> CREATE TABLE r (id integer PRIMARY KEY, p integer REFERENCES p (id));
acme> INSERT INTO r VALUES (1, 1);
acme> DELETE FROM p WHERE id = 1;
ERROR 23503
acme> UPDATE p SET id = 77 WHERE id = 1;
ERROR 23503
acme> TRUNCATE p;
ERROR 0A000
acme> DELETE FROM r;
acme> CREATE TABLE s (id integer PRIMARY KEY, p integer DEFAULT 20 REFERENCES p (id) ON DELETE SET NULL ON UPDATE SET DEFAULT);
acme> INSERT INTO s VALUES (1, 1), (2, 21);
acme> DELETE FROM p WHERE id = 21;
acme> UPDATE p SET id = 5 WHERE id = 1;
acme> SELECT * FROM s ORDER BY id;
id|p
1|20
2|NULL
(2 rows)
acme> CREATE TABLE tree (id integer PRIMARY KEY, up integer REFERENCES tree (id) DEFERRABLE INITIALLY DEFERRED);
acme> BEGIN;
acme> INSERT INTO tree VALUES (2, 1);
acme> INSERT INTO tree VALUES (1, NULL);
acme> COMMIT;
acme> BEGIN;
acme> INSERT INTO tree VALUES (4, 3);
acme> COMMIT;
ERROR 23503
acme> SELECT id FROM tree ORDER BY id;
id
1
2
(2 rows)
acme> CREATE TABLE g (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED, i integer GENERATED ALWAYS AS IDENTITY);
acme> INSERT INTO g (a) VALUES (1), (2) RETURNING a, b, i;
a|b|i
1|2|1
2|4|2
(2 rows)
acme> INSERT INTO g (a, b) VALUES (1, 1);
ERROR 428C9
acme> INSERT INTO g (a, i) VALUES (1, 50);
ERROR 428C9
acme> INSERT INTO g (a, i) OVERRIDING SYSTEM VALUE VALUES (1, 50) RETURNING i;
i
50
(1 row)
acme> INSERT INTO g (a, i) OVERRIDING USER VALUE VALUES (1, 60) RETURNING i;
i
3
(1 row)
acme> UPDATE g SET a = 10 WHERE a = 2 RETURNING b;
b
20
(1 row)
acme> UPDATE g SET b = 1;
ERROR 428C9
acme> INSERT INTO documents (id) VALUES (DEFAULT) ON CONFLICT DO NOTHING;
ERROR 0A000
acme> DELETE FROM ai.chunks;
ERROR 42501
