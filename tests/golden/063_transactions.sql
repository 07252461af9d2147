# Transactions over tables and documents together: real rollback, savepoints, own writes, READ ONLY.
acme> CREATE TABLE t (id integer PRIMARY KEY, n integer);
acme> BEGIN;
acme> INSERT INTO t VALUES (1, 1), (2, 2);
acme> INSERT INTO documents (title, content) VALUES ('d', 'with a row');
acme> SELECT count(*) FROM t;
count
2
(1 row)
acme#2> SELECT count(*) FROM t;
count
0
(1 row)
acme> SAVEPOINT a;
acme> UPDATE t SET n = 10;
acme> SAVEPOINT b;
acme> DELETE FROM t;
acme> SELECT count(*) FROM t;
count
0
(1 row)
acme> ROLLBACK TO b;
acme> SELECT id, n FROM t ORDER BY id;
id|n
1|10
2|10
(2 rows)
acme> INSERT INTO t VALUES (1, 1);
ERROR 23505
acme> SELECT 1;
ERROR 25P02
acme> ROLLBACK TO a;
acme> SELECT id, n FROM t ORDER BY id;
id|n
1|1
2|2
(2 rows)
acme> RELEASE a;
acme> ROLLBACK TO a;
ERROR 3B001
acme> ROLLBACK;
acme> SELECT count(*) FROM t;
count
0
(1 row)
acme> SELECT count(*) FROM documents;
count
0
(1 row)
acme> INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2); INSERT INTO t VALUES (1, 3);
INSERT 0 1
INSERT 0 1
ERROR 23505
acme> SELECT count(*) FROM t;
count
0
(1 row)
acme> INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2);
INSERT 0 1
INSERT 0 1
acme#2> SELECT count(*) FROM t;
count
2
(1 row)
acme> BEGIN READ ONLY;
acme> INSERT INTO t VALUES (3, 3);
ERROR 25006
acme> ROLLBACK;
acme> BEGIN;
acme> SET TRANSACTION READ ONLY;
acme> SELECT count(*) FROM t;
count
2
(1 row)
acme> SET TRANSACTION READ WRITE;
ERROR 25001
acme> ROLLBACK;
acme> SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
acme> SHOW transaction_isolation;
transaction_isolation
repeatable read
(1 row)
acme> UPDATE t SET n = 0;
ERROR 25006
acme> BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE, NOT DEFERRABLE;
acme> SHOW transaction_isolation;
transaction_isolation
repeatable read
(1 row)
acme> UPDATE t SET n = 0 WHERE id = 1;
acme> COMMIT AND CHAIN;
acme> SHOW transaction_isolation;
transaction_isolation
repeatable read
(1 row)
acme> COMMIT;
acme> SHOW transaction_isolation;
transaction_isolation
repeatable read
(1 row)
acme> RESET ALL;
acme> BEGIN;
acme> SELECT 1;
?column?
1
(1 row)
acme> SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
ERROR 25001
acme> ROLLBACK;
acme> SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
WARNING 25P01: SET TRANSACTION can only be used in transaction blocks
SET
acme> BEGIN;
acme> SAVEPOINT s;
acme> SET LOCAL application_name = 'inner';
acme> ROLLBACK TO s;
acme> SHOW application_name;
application_name
''
(1 row)
acme> COMMIT;
acme> SELECT id, n FROM t ORDER BY id;
id|n
1|0
2|2
(2 rows)
acme> BEGIN;
acme> CREATE TABLE made (a integer);
acme> INSERT INTO made VALUES (1);
acme#2> SELECT * FROM made;
ERROR 42P01
acme> ROLLBACK;
acme> SELECT * FROM made;
ERROR 42P01
