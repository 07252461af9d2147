# SERIALIZABLE: what a transaction reads is locked against writers until it ends.
acme> CREATE TABLE acc (id integer PRIMARY KEY, n integer);
acme> INSERT INTO acc VALUES (3, 100), (4, 100);
acme> SET lock_timeout = '200ms';
acme#2> SET lock_timeout = '200ms';
acme> BEGIN ISOLATION LEVEL SERIALIZABLE;
acme#2> BEGIN ISOLATION LEVEL SERIALIZABLE;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
sum
200
(1 row)
acme#2> SELECT sum(n) FROM acc WHERE id IN (3, 4);
sum
200
(1 row)
acme> UPDATE acc SET n = n - 150 WHERE id = 3;
ERROR 55P03
acme> ROLLBACK;
acme#2> UPDATE acc SET n = n - 150 WHERE id = 4;
UPDATE 1
acme#2> COMMIT;
acme> SELECT sum(n) FROM acc WHERE id IN (3, 4);
sum
50
(1 row)
acme> BEGIN ISOLATION LEVEL SERIALIZABLE;
acme> SELECT count(*) FROM acc;
count
2
(1 row)
acme#2> INSERT INTO acc VALUES (5, 1);
ERROR 55P03
acme> SELECT count(*) FROM acc;
count
2
(1 row)
acme> COMMIT;
acme#2> INSERT INTO acc VALUES (5, 1);
INSERT 0 1
