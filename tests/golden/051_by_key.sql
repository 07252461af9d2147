# A query for one whole key is answered from the index: the same as any other plan gives, whatever happens between.
acme> CREATE TABLE item (id bigint PRIMARY KEY, code text NOT NULL UNIQUE, n integer, note text);
acme> INSERT INTO item VALUES (1, 'one', 10, 'first'), (2, 'two', 20, NULL), (3, 'three', NULL, 'third');
acme> PREPARE by_id(bigint) AS SELECT n, note FROM item WHERE id = $1;
acme> EXECUTE by_id(1);
n|note
10|first
(1 row)
acme> EXECUTE by_id(2);
n|note
20|NULL
(1 row)
acme> EXECUTE by_id(4);
(0 rows)
acme> EXECUTE by_id(NULL);
(0 rows)
acme> SELECT i.code || '!' AS loud, i.n + 1 AS more FROM item AS i WHERE 2 = i.id ORDER BY i.code LIMIT 1;
loud|more
two!|21
(1 row)
acme> SELECT * FROM item WHERE code = 'three' AND n IS NULL;
id|code|n|note
3|three|NULL|third
(1 row)
acme> SELECT * FROM item WHERE code = 'three' AND n > 5;
(0 rows)
acme> SELECT 1 / (n - 20) AS broken FROM item WHERE id = 2;
ERROR 22012
acme> SELECT n FROM item WHERE id = 1 LIMIT 0;
(0 rows)
acme> SELECT count(*) FROM item WHERE id = 1;
count
1
(1 row)
# What others committed is seen, and so is what the transaction wrote itself, until it is taken back.
acme#2> UPDATE item SET n = 11 WHERE id = 1;
acme> EXECUTE by_id(1);
n|note
11|first
(1 row)
acme> BEGIN;
acme> UPDATE item SET n = 12 WHERE id = 1;
acme> INSERT INTO item VALUES (4, 'four', 40, 'fourth');
acme> EXECUTE by_id(1);
n|note
12|first
(1 row)
acme> EXECUTE by_id(4);
n|note
40|fourth
(1 row)
acme#2> SELECT n FROM item WHERE id = 4;
(0 rows)
acme> DELETE FROM item WHERE id = 1;
acme> EXECUTE by_id(1);
(0 rows)
acme> ROLLBACK;
acme> EXECUTE by_id(1);
n|note
11|first
(1 row)
acme> EXECUTE by_id(4);
(0 rows)
# In REPEATABLE READ the snapshot stays.
acme> BEGIN ISOLATION LEVEL REPEATABLE READ;
acme> EXECUTE by_id(2);
n|note
20|NULL
(1 row)
acme#2> UPDATE item SET n = 21 WHERE id = 2;
acme> EXECUTE by_id(2);
n|note
20|NULL
(1 row)
acme> COMMIT;
acme> EXECUTE by_id(2);
n|note
21|NULL
(1 row)
# Rights and policies are those of now, not of when it was prepared.
acme> CREATE USER bob PASSWORD 'pw-bob';
acme/bob> PREPARE by_id(bigint) AS SELECT n, note FROM item WHERE id = $1;
acme/bob> EXECUTE by_id(1);
ERROR 42501
acme> GRANT SELECT ON item TO bob;
acme/bob> EXECUTE by_id(1);
n|note
11|first
(1 row)
acme> CREATE POLICY small ON item USING (n < 20);
acme> ALTER TABLE item ENABLE ROW LEVEL SECURITY;
acme/bob> EXECUTE by_id(1);
n|note
11|first
(1 row)
acme/bob> EXECUTE by_id(2);
(0 rows)
acme> ALTER TABLE item DISABLE ROW LEVEL SECURITY;
acme/bob> EXECUTE by_id(2);
n|note
21|NULL
(1 row)
acme> REVOKE SELECT ON item FROM bob;
acme/bob> EXECUTE by_id(1);
ERROR 42501
# A key of two columns; one of them alone is no key.
acme> CREATE TABLE pair (a integer, b text, v numeric(6, 2), PRIMARY KEY (a, b));
acme> INSERT INTO pair VALUES (1, 'x', 1.50), (1, 'y', 2.50), (2, 'x', 3.50);
acme> SELECT v FROM pair WHERE b = 'y' AND a = 1;
v
2.50
(1 row)
acme> SELECT v FROM pair WHERE a = 1 ORDER BY b;
v
1.50
2.50
(2 rows)
# The table is dropped and made anew, or changed: never the old one's columns.
acme> DROP TABLE item;
acme> EXECUTE by_id(1);
ERROR 42P01
acme> CREATE TABLE item (id bigint PRIMARY KEY, note text, n text);
acme> INSERT INTO item VALUES (1, 'new', 'text');
acme> EXECUTE by_id(1);
ERROR 0A000
acme> DEALLOCATE by_id;
acme> PREPARE by_id(bigint) AS SELECT n, note FROM item WHERE id = $1;
acme> EXECUTE by_id(1);
n|note
text|new
(1 row)
acme> ALTER TABLE item DROP COLUMN note;
acme> EXECUTE by_id(1);
ERROR 42703
acme> ALTER TABLE item DROP CONSTRAINT item_pkey;
acme> SELECT n FROM item WHERE id = 1;
n
text
(1 row)
beta> SELECT n FROM item WHERE id = 1;
ERROR 42P01
