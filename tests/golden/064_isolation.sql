# What each isolation level lets happen: the section "Transactions" of the README.
acme> CREATE TABLE acc (id integer PRIMARY KEY, n integer);
acme> INSERT INTO acc VALUES (1, 100), (2, 100);
# Dirty read: never.
acme> BEGIN;
acme> UPDATE acc SET n = 0 WHERE id = 1;
acme#2> BEGIN ISOLATION LEVEL READ UNCOMMITTED;
acme#2> SELECT n FROM acc WHERE id = 1;
n
100
(1 row)
acme#2> COMMIT;
acme> ROLLBACK;
# Non-repeatable read and phantom: in READ COMMITTED.
acme> BEGIN;
acme> SELECT n FROM acc WHERE id = 1;
n
100
(1 row)
acme#2> UPDATE acc SET n = 90 WHERE id = 1;
acme#2> INSERT INTO acc VALUES (3, 100);
acme> SELECT id, n FROM acc ORDER BY id;
id|n
1|90
2|100
3|100
(3 rows)
acme> COMMIT;
# Neither in REPEATABLE READ.
acme> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme> SELECT n FROM acc WHERE id = 1;
n
90
(1 row)
acme#2> UPDATE acc SET n = 80 WHERE id = 1;
acme#2> INSERT INTO acc VALUES (4, 100);
acme> SELECT id, n FROM acc ORDER BY id;
id|n
1|90
2|100
3|100
(3 rows)
acme> COMMIT;
acme> SELECT id, n FROM acc ORDER BY id;
id|n
1|80
2|100
3|100
4|100
(4 rows)
# Lost update by a statement that computes: never in READ COMMITTED.
acme> BEGIN;
acme> SELECT n FROM acc WHERE id = 1;
n
80
(1 row)
acme#2> UPDATE acc SET n = n - 5 WHERE id = 1;
acme> UPDATE acc SET n = n - 5 WHERE id = 1;
acme> COMMIT;
acme> SELECT n FROM acc WHERE id = 1;
n
70
(1 row)
# Lost update by a client that computes: in READ COMMITTED, not in REPEATABLE READ.
acme> BEGIN;
acme> SELECT n FROM acc WHERE id = 2;
n
100
(1 row)
acme#2> UPDATE acc SET n = 50 WHERE id = 2;
acme> UPDATE acc SET n = 100 - 1 WHERE id = 2;
acme> COMMIT;
acme> SELECT n FROM acc WHERE id = 2;
n
99
(1 row)
acme> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme> SELECT n FROM acc WHERE id = 2;
n
99
(1 row)
acme#2> UPDATE acc SET n = 50 WHERE id = 2;
acme> UPDATE acc SET n = 99 - 1 WHERE id = 2;
ERROR 40001
acme> ROLLBACK;
# Write skew: in REPEATABLE READ.
acme> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme#2> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
sum
200
(1 row)
acme#2> SELECT sum(n) FROM acc WHERE id IN (3, 4);
sum
200
(1 row)
acme> UPDATE acc SET n = n - 150 WHERE id = 3;
acme#2> UPDATE acc SET n = n - 150 WHERE id = 4;
acme> COMMIT;
acme#2> COMMIT;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
sum
-100
(1 row)
