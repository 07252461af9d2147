# Cursors live in their transaction and their session.
acme> DECLARE c CURSOR FOR SELECT 1;
ERROR 25P01: DECLARE CURSOR can only be used in transaction blocks
acme> FETCH c;
ERROR 34000: cursor "c" does not exist
acme> BEGIN;
acme> DECLARE c SCROLL CURSOR FOR SELECT * FROM generate_series(1, 4) AS g(n);
DECLARE CURSOR
acme> FETCH 2 FROM c;
n
1
2
(2 rows)
acme> FETCH LAST FROM c;
n
4
(1 row)
acme> FETCH BACKWARD ALL FROM c;
n
3
2
1
(3 rows)
acme> MOVE FORWARD 3 IN c;
MOVE 3
acme> SELECT name, statement, is_scrollable FROM pg_cursors;
name|statement|is_scrollable
c|DECLARE c SCROLL CURSOR FOR SELECT * FROM generate_series(1, 4) AS g(n)|t
(1 row)
acme#2> SELECT name FROM pg_cursors;
(0 rows)
acme#2> FETCH ALL FROM c;
ERROR 34000: cursor "c" does not exist
umbra> CLOSE c;
ERROR 34000: cursor "c" does not exist
acme#2> DELETE FROM documents WHERE CURRENT OF c;
ERROR 34000: cursor "c" does not exist
acme> CLOSE c;
CLOSE CURSOR
acme> COMMIT;
# One that is held is read at the commit, and a rollback before it leaves nothing.
acme> BEGIN;
acme> DECLARE h CURSOR WITH HOLD FOR SELECT title FROM documents ORDER BY title;
acme> INSERT INTO documents (title, content) VALUES ('later', 'than the cursor');
acme> COMMIT;
acme> FETCH ALL h;
(0 rows)
acme> CLOSE ALL;
CLOSE CURSOR ALL
acme> DISCARD ALL;
