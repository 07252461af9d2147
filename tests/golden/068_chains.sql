# Writes in WITH: each is a statement of its own for rights, policies and constraints, and all are one for the rest.
acme> CREATE TABLE item (id bigint PRIMARY KEY, name text NOT NULL, n integer CHECK (n >= 0));
acme> CREATE TABLE log (at bigint GENERATED ALWAYS AS IDENTITY, item bigint, what text);
acme> WITH new AS (INSERT INTO item VALUES (1, 'one', 10), (2, 'two', 20) RETURNING id, name) INSERT INTO log (item, what) SELECT id, 'made ' || name FROM new;
acme> SELECT at, item, what FROM log ORDER BY at;
at|item|what
1|1|made one
2|2|made two
(2 rows)
acme> WITH gone AS (DELETE FROM item WHERE id = 2 RETURNING *), kept AS (INSERT INTO log (item, what) SELECT id, 'gone' FROM gone RETURNING at) SELECT g.name, k.at FROM gone g, kept k;
name|at
two|3
(1 row)
# The parts see what was there before the statement.
acme> WITH more AS (UPDATE item SET n = n + 1 RETURNING n) SELECT i.n AS before, m.n AS after FROM item i, more m;
before|after
10|11
(1 row)
# With parameters that are used in several parts.
acme> PREPARE add(bigint, text) AS WITH new AS (INSERT INTO item VALUES ($1, $2, 0) RETURNING id) INSERT INTO log (item, what) SELECT id, $2 FROM new RETURNING item, what;
acme> EXECUTE add(3, 'three');
item|what
3|three
(1 row)
# What fails in one part undoes all of them.
acme> WITH a AS (INSERT INTO log (item, what) VALUES (9, 'lost')), b AS (INSERT INTO item VALUES (4, 'four', -1)) SELECT 1;
ERROR 23514
acme> EXECUTE add(3, 'again');
ERROR 23505
acme> SELECT count(*) FROM log;
count
4
(1 row)
acme> SELECT id, n FROM item ORDER BY id;
id|n
1|11
3|0
(2 rows)
acme> BEGIN;
acme> WITH a AS (DELETE FROM item RETURNING id) SELECT count(*) FROM a;
count
2
(1 row)
acme> SELECT count(*) FROM item;
count
0
(1 row)
acme#2> SELECT count(*) FROM item;
count
2
(1 row)
acme> ROLLBACK;
acme> SELECT count(*) FROM item;
count
2
(1 row)
# Rows that two parts would change are refused rather than changed by one of them.
acme> WITH a AS (UPDATE item SET n = 1), b AS (UPDATE item SET n = 2) SELECT 1;
ERROR 0A000
acme> BEGIN READ ONLY;
acme> WITH a AS (DELETE FROM item RETURNING id) SELECT * FROM a;
ERROR 25006
acme> ROLLBACK;
# Only where the statement stands at the top.
acme> SELECT * FROM (WITH a AS (DELETE FROM item RETURNING id) SELECT * FROM a) x;
ERROR 0A000
acme> DECLARE c CURSOR WITH HOLD FOR WITH a AS (DELETE FROM item RETURNING id) SELECT * FROM a;
ERROR 0A000
acme> EXPLAIN WITH a AS (DELETE FROM item RETURNING id) SELECT * FROM a;
ERROR 0A000
acme> SELECT count(*) FROM item;
count
2
(1 row)
# Rights and policies hold for each part.
acme> CREATE USER reader PASSWORD 'pw-reader' IN ROLE member;
acme> GRANT SELECT ON item, log TO reader;
acme/reader> WITH a AS (DELETE FROM item RETURNING id) SELECT * FROM a;
ERROR 42501
acme/reader> WITH a AS (SELECT 1 AS id) SELECT count(*) FROM item JOIN a USING (id);
count
1
(1 row)
# Rows compared; comparisons with all or any rows of a sub-query.
acme> SELECT (1, 2) = (1, 2) AS a, (1, 2) < (1, 3) AS b, (2, 1) <= (1, 9) AS c, (1, NULL) = (2, 3) AS d, (1, NULL) = (1, 3) AS e;
a|b|c|d|e
t|t|f|f|NULL
(1 row)
acme> SELECT id FROM item WHERE (id, n) IN ((1, 11), (3, 7)) ORDER BY id;
id
1
(1 row)
acme> SELECT id FROM item WHERE n > ALL (SELECT n FROM item WHERE id = 3) ORDER BY id;
id
1
(1 row)
acme> SELECT id FROM item WHERE n >= ANY (SELECT n FROM item) ORDER BY id;
id
1
3
(2 rows)
acme> SELECT id FROM item WHERE (id, n) NOT IN (SELECT id, 11 FROM item) ORDER BY id;
id
3
(1 row)
acme> SELECT id FROM item ORDER BY id FETCH FIRST 1 ROW ONLY;
id
1
(1 row)
