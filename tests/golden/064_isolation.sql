# What each isolation level lets happen: the section "Transactions" of the README.
acme> CREATE TABLE acc (id integer PRIMARY KEY, n integer);
acme> INSERT INTO acc VALUES (1, 100), (2, 100);
# Dirty read: never.
acme> BEGIN;
acme> UPDATE acc SET n = 0 WHERE id = 1;
acme#2> BEGIN ISOLATION LEVEL READ UNCOMMITTED;
acme#2> SELECT n FROM acc WHERE id = 1;
acme#2> COMMIT;
acme> ROLLBACK;
# Non-repeatable read and phantom: in READ COMMITTED.
acme> BEGIN;
acme> SELECT n FROM acc WHERE id = 1;
acme#2> UPDATE acc SET n = 90 WHERE id = 1;
acme#2> INSERT INTO acc VALUES (3, 100);
acme> SELECT id, n FROM acc ORDER BY id;
acme> COMMIT;
# Neither in REPEATABLE READ.
acme> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme> SELECT n FROM acc WHERE id = 1;
acme#2> UPDATE acc SET n = 80 WHERE id = 1;
acme#2> INSERT INTO acc VALUES (4, 100);
acme> SELECT id, n FROM acc ORDER BY id;
acme> COMMIT;
acme> SELECT id, n FROM acc ORDER BY id;
# Lost update by a statement that computes: never in READ COMMITTED.
acme> BEGIN;
acme> SELECT n FROM acc WHERE id = 1;
acme#2> UPDATE acc SET n = n - 5 WHERE id = 1;
acme> UPDATE acc SET n = n - 5 WHERE id = 1;
acme> COMMIT;
acme> SELECT n FROM acc WHERE id = 1;
# Lost update by a client that computes: in READ COMMITTED, not in REPEATABLE READ.
acme> BEGIN;
acme> SELECT n FROM acc WHERE id = 2;
acme#2> UPDATE acc SET n = 50 WHERE id = 2;
acme> UPDATE acc SET n = 100 - 1 WHERE id = 2;
acme> COMMIT;
acme> SELECT n FROM acc WHERE id = 2;
acme> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme> SELECT n FROM acc WHERE id = 2;
acme#2> UPDATE acc SET n = 50 WHERE id = 2;
acme> UPDATE acc SET n = 99 - 1 WHERE id = 2;
acme> ROLLBACK;
# Write skew: in REPEATABLE READ, not in SERIALIZABLE.
acme> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme#2> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
acme#2> SELECT sum(n) FROM acc WHERE id IN (3, 4);
acme> UPDATE acc SET n = n - 150 WHERE id = 3;
acme#2> UPDATE acc SET n = n - 150 WHERE id = 4;
acme> COMMIT;
acme#2> COMMIT;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
acme> UPDATE acc SET n = 100 WHERE id IN (3, 4);
acme> SET lock_timeout = '200ms';
acme#2> SET lock_timeout = '200ms';
acme> BEGIN ISOLATION LEVEL SERIALIZABLE;
acme#2> BEGIN ISOLATION LEVEL SERIALIZABLE;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
acme#2> SELECT sum(n) FROM acc WHERE id IN (3, 4);
acme> UPDATE acc SET n = n - 150 WHERE id = 3;
acme> ROLLBACK;
acme#2> UPDATE acc SET n = n - 150 WHERE id = 4;
acme#2> COMMIT;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
acme> BEGIN ISOLATION LEVEL SERIALIZABLE;
acme> SELECT count(*) FROM acc;
acme#2> INSERT INTO acc VALUES (5, 1);
acme> SELECT count(*) FROM acc;
acme> COMMIT;
acme#2> INSERT INTO acc VALUES (5, 1);
