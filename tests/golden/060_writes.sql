# INSERT, UPDATE and DELETE of a tenant's own tables, as PostgreSQL does them.
acme> CREATE TABLE t (id serial PRIMARY KEY, name text NOT NULL DEFAULT 'none', n integer, at timestamptz DEFAULT now(), price numeric(8,2));
acme> INSERT INTO t (name, n) VALUES ('a', 1), ('b', 2), ('c', NULL) RETURNING id, name, n;
id|name|n
1|a|1
2|b|2
3|c|NULL
(3 rows)
acme> INSERT INTO t DEFAULT VALUES RETURNING id, name, at IS NOT NULL AS dated;
id|name|dated
4|none|t
(1 row)
acme> INSERT INTO t VALUES (10, DEFAULT, 5, DEFAULT, 1.005);
INSERT 0 1
acme> SELECT id, name, n, price FROM t ORDER BY id;
id|name|n|price
1|a|1|NULL
2|b|2|NULL
3|c|NULL|NULL
4|none|NULL|NULL
10|none|5|1.01
(5 rows)
acme> UPDATE t SET n = n + 1, name = upper(name) WHERE n > 0 RETURNING id, name, n;
id|name|n
1|A|2
2|B|3
10|NONE|6
(3 rows)
acme> UPDATE t SET (name, n) = ('x', 7) WHERE id = 4;
acme> UPDATE t SET name = DEFAULT WHERE id = 4 RETURNING name;
name
none
(1 row)
acme> DELETE FROM t WHERE id = 10 RETURNING id, price;
id|price
10|1.01
(1 row)
acme> DELETE FROM t WHERE id = 10;
DELETE 0
acme> INSERT INTO t (name, n) SELECT name || '!', n FROM t WHERE n IS NOT NULL ORDER BY id;
acme> SELECT count(*) FROM t;
count
7
(1 row)
acme> CREATE TABLE u (id integer PRIMARY KEY, of_t integer, label text);
acme> INSERT INTO u VALUES (1, 1, 'one'), (2, 2, 'two');
acme> UPDATE t SET name = u.label FROM u WHERE u.of_t = t.id RETURNING t.id, t.name, u.id AS u_id;
id|name|u_id
1|one|1
2|two|2
(2 rows)
acme> DELETE FROM t USING u WHERE t.id = u.of_t AND u.label = 'two' RETURNING t.id, u.label;
id|label
2|two
(1 row)
acme> WITH big AS (SELECT id FROM t WHERE n >= 3) UPDATE t SET n = 0 WHERE id IN (SELECT id FROM big);
acme> WITH s AS (SELECT 20 AS id) INSERT INTO u (id, label) SELECT id, 'cte' FROM s RETURNING *;
id|of_t|label
20|NULL|cte
(1 row)
acme> INSERT INTO t AS x (id, name) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET name = x.name || '/' || excluded.name RETURNING id, name;
id|name
1|one/again
(1 row)
acme> INSERT INTO t (id, name) VALUES (1, 'no') ON CONFLICT DO NOTHING;
INSERT 0 0
acme> INSERT INTO t (id, name) VALUES (1, 'no'), (100, 'new') ON CONFLICT (id) DO NOTHING RETURNING id;
id
100
(1 row)
acme> INSERT INTO t (id, name) VALUES (1, 'p') ON CONFLICT ON CONSTRAINT t_pkey DO UPDATE SET n = 9 WHERE t.n = 12345;
acme> INSERT INTO t (id, name) VALUES (7, 'p'), (7, 'q') ON CONFLICT (id) DO UPDATE SET name = excluded.name;
ERROR 21000
acme> INSERT INTO t (id, name) VALUES (7, 'p') ON CONFLICT (name) DO NOTHING;
ERROR 42P10
acme> INSERT INTO t (id, name) VALUES (7, 'p') ON CONFLICT DO UPDATE SET name = 'x';
ERROR 42601
acme> INSERT INTO t (id, nosuch) VALUES (7, 'p');
ERROR 42703
acme> INSERT INTO t (id, id) VALUES (7, 8);
ERROR 42701
acme> INSERT INTO t (id, name) VALUES (7);
ERROR 42601
acme> INSERT INTO t (id) VALUES (7, 8);
ERROR 42601
acme> INSERT INTO nosuch VALUES (1);
ERROR 42P01
acme> UPDATE t SET nosuch = 1;
ERROR 42703
acme> UPDATE t SET n = 1, n = 2;
ERROR 42601
acme> TRUNCATE t RESTART IDENTITY;
TRUNCATE TABLE
acme> INSERT INTO t (name) VALUES ('first') RETURNING id;
id
1
(1 row)
acme> EXECUTE nothing;
ERROR 26000
acme> PREPARE put AS INSERT INTO t (name, n) VALUES ($1, $2) RETURNING id;
acme> EXECUTE put('p', 1);
id
2
(1 row)
acme> EXECUTE put(NULL, 1);
ERROR 23502
acme> PREPARE set_n AS UPDATE t SET n = $2 WHERE id = $1;
acme> EXECUTE set_n(2, 42);
UPDATE 1
acme> EXECUTE set_n(3, 42);
UPDATE 0
acme> SELECT id, n FROM t ORDER BY id;
id|n
1|NULL
2|42
(2 rows)
acme> PREPARE gone AS DELETE FROM t WHERE id = $1;
acme> EXECUTE gone(2);
DELETE 1
acme> EXECUTE gone(2);
DELETE 0
