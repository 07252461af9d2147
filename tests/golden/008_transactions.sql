# Several statements in one text are one transaction; BEGIN, COMMIT and ROLLBACK do what they say.
acme> BEGIN;
BEGIN
acme> INSERT INTO documents (title, content) VALUES ('one', 'first'), ('two', 'second');
INSERT 0 2
acme> SELECT count(*) FROM documents;
count
2
(1 row)
acme#2> SELECT count(*) FROM documents;
count
0
(1 row)
acme> ROLLBACK;
ROLLBACK
acme> SELECT count(*) FROM documents;
count
0
(1 row)
acme> BEGIN;
BEGIN
acme> INSERT INTO documents (title, content) VALUES ('one', 'first');
INSERT 0 1
acme> COMMIT;
COMMIT
acme#2> SELECT title FROM documents;
title
one
(1 row)
acme> INSERT INTO documents (title, content) VALUES ('lost', 'x'); SELECT 1/0 FROM documents;
INSERT 0 1
ERROR 22012
acme> SELECT count(*) FROM documents;
count
1
(1 row)
acme> BEGIN;
BEGIN
acme> SELECT * FROM nosuch;
ERROR 42P01
acme> SELECT 1;
ERROR 25P02
acme> COMMIT;
ROLLBACK
acme> SELECT 1 AS alive;
alive
1
(1 row)
acme> COMMIT;
WARNING 25P01: there is no transaction in progress
COMMIT
