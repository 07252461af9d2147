# Rows are locked to the end of the transaction; who may not wait is told.
acme> CREATE TABLE job (id integer PRIMARY KEY, state text);
acme> INSERT INTO job VALUES (1, 'new'), (2, 'new'), (3, 'new');
acme> BEGIN;
acme> SELECT id FROM job WHERE state = 'new' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
id
1
(1 row)
acme#2> BEGIN;
acme#2> SELECT id FROM job WHERE state = 'new' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
id
2
(1 row)
acme#2> SELECT id FROM job WHERE id = 1 FOR UPDATE NOWAIT;
ERROR 55P03
acme#2> ROLLBACK;
acme#2> SET lock_timeout = '100ms';
acme#2> UPDATE job SET state = 'x' WHERE id = 1;
ERROR 55P03
acme#2> SELECT id FROM job WHERE id = 1 FOR SHARE;
ERROR 55P03
acme#2> UPDATE job SET state = 'x' WHERE id = 3 RETURNING id;
id
3
(1 row)
acme> UPDATE job SET state = 'done' WHERE id = 1;
acme> COMMIT;
acme#2> SELECT id, state FROM job j WHERE id = 1 FOR NO KEY UPDATE OF j;
id|state
1|done
(1 row)
acme#2> SELECT count(*) FROM job FOR UPDATE;
ERROR 42803
acme#2> SELECT DISTINCT state FROM job FOR UPDATE;
ERROR 0A000
acme#2> SELECT id FROM job FOR UPDATE OF nosuch;
ERROR 42P01
acme> BEGIN;
acme> INSERT INTO job VALUES (9, 'mine');
acme#2> INSERT INTO job VALUES (9, 'yours');
ERROR 55P03
acme> ROLLBACK;
acme#2> INSERT INTO job VALUES (9, 'yours');
acme> BEGIN;
acme> SAVEPOINT s;
acme> UPDATE job SET state = 'held' WHERE id = 2;
acme> ROLLBACK TO s;
acme#2> UPDATE job SET state = 'free' WHERE id = 2;
acme> COMMIT;
acme> SELECT id, state FROM job ORDER BY id;
id|state
1|done
2|free
3|x
9|yours
(4 rows)
