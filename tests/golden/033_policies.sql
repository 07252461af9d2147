# Row policies: what PostgreSQL's own test of row security asks, where it applies here.
acme> CREATE USER bob PASSWORD 'pw-bob' IN ROLE member;
CREATE ROLE
acme> CREATE USER carol PASSWORD 'pw-carol' IN ROLE member;
CREATE ROLE
acme> CREATE USER dave PASSWORD 'pw-dave' IN ROLE analyst;
CREATE ROLE
acme> CREATE TABLE category (cid int PRIMARY KEY, cname text);
CREATE TABLE
acme> INSERT INTO category VALUES (11, 'novel'), (22, 'science fiction'), (33, 'technology'), (44, 'manga');
INSERT 0 4
acme> CREATE TABLE document (did int PRIMARY KEY, cid int REFERENCES category, dlevel int NOT NULL, dauthor text, dtitle text);
CREATE TABLE
acme> CREATE TABLE uaccount (pguser text PRIMARY KEY, seclv int);
CREATE TABLE
acme> INSERT INTO uaccount VALUES ('bob', 1), ('carol', 2), ('dave', 3), ('owner', 99);
INSERT 0 4
acme> INSERT INTO document VALUES (1, 11, 1, 'bob', 'my first novel'), (2, 11, 2, 'bob', 'my second novel'), (3, 22, 2, 'bob', 'my science fiction'), (4, 44, 1, 'bob', 'my first manga'), (5, 44, 2, 'bob', 'my second manga'), (6, 22, 1, 'carol', 'great science fiction'), (7, 33, 2, 'carol', 'great technology book'), (8, 44, 1, 'carol', 'great manga');
INSERT 0 8
# nothing may be read before it is granted
acme/bob> SELECT count(*) FROM document;
ERROR 42501: permission denied for table document
acme> GRANT CONNECT ON DATABASE umbra TO PUBLIC;
ERROR 3D000
acme> GRANT ALL ON document TO PUBLIC;
GRANT
acme> GRANT SELECT ON category, uaccount TO PUBLIC;
GRANT
acme/bob> SELECT count(*) FROM document;
count
8
(1 row)
# without a policy nothing is seen
acme> ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE
acme/bob> SELECT count(*) FROM document;
count
0
(1 row)
acme> SELECT count(*) FROM document;
count
8
(1 row)
acme> CREATE POLICY p1 ON document AS PERMISSIVE USING (dlevel <= (SELECT seclv FROM uaccount WHERE pguser = current_user));
CREATE POLICY
acme> CREATE POLICY p1 ON document USING (true);
ERROR 42710: policy "p1" for table "document" already exists
acme> CREATE POLICY p1r ON document AS RESTRICTIVE TO dave USING (cid <> 44);
CREATE POLICY
acme> CREATE POLICY bad ON document AS UGLY USING (true);
ERROR 42601: unrecognized row security option "ugly"
acme> CREATE POLICY bad ON document FOR SELECT WITH CHECK (true);
ERROR 42601: WITH CHECK cannot be applied to SELECT or DELETE
acme> CREATE POLICY bad ON document FOR INSERT USING (true);
ERROR 42601: only WITH CHECK expression allowed for INSERT
acme> CREATE POLICY bad ON document TO nobody USING (true);
ERROR 42704: role "nobody" does not exist
acme> CREATE POLICY bad ON document USING (dlevel);
ERROR 42804: argument of POLICY must be type boolean, not type integer
acme> CREATE POLICY bad ON document USING (nothing > 1);
ERROR 42703: column "nothing" does not exist
acme> SELECT policyname, permissive, roles, cmd FROM pg_policies ORDER BY 1;
policyname|permissive|roles|cmd
p1|PERMISSIVE|{public}|ALL
p1r|RESTRICTIVE|{dave}|ALL
(2 rows)
acme/bob> SELECT did, dtitle FROM document ORDER BY did;
did|dtitle
1|my first novel
4|my first manga
6|great science fiction
8|great manga
(4 rows)
acme/carol> SELECT did, dtitle FROM document ORDER BY did;
did|dtitle
1|my first novel
2|my second novel
3|my science fiction
4|my first manga
5|my second manga
6|great science fiction
7|great technology book
8|great manga
(8 rows)
acme/dave> SELECT did, dtitle FROM document ORDER BY did;
did|dtitle
1|my first novel
2|my second novel
3|my science fiction
6|great science fiction
7|great technology book
(5 rows)
acme/bob> SELECT did, cname FROM document JOIN category USING (cid) ORDER BY did;
did|cname
1|novel
4|manga
6|science fiction
8|manga
(4 rows)
acme/bob> SELECT count(*), min(did), max(did) FROM document;
count|min|max
4|1|8
(1 row)
acme/bob> SELECT count(*) FROM document WHERE true;
count
4
(1 row)
acme/bob> SELECT d.did, e.did FROM document d FULL OUTER JOIN document e ON d.did = e.did + 1 ORDER BY 1, 2;
did|did
1|NULL
4|NULL
6|NULL
8|NULL
NULL|1
NULL|4
NULL|6
NULL|8
(8 rows)
acme/bob> SELECT did FROM document WHERE did NOT IN (SELECT did FROM document WHERE did = 1) ORDER BY did;
did
4
6
8
(3 rows)
acme/bob> SELECT did FROM document WHERE did = 2;
(0 rows)
acme/bob> SELECT did FROM document WHERE did IN (1, 2, 3) ORDER BY did;
did
1
(1 row)
# what fails on a row that is not seen does not fail
acme/bob> SELECT did FROM document WHERE 1 / (CASE WHEN dlevel = 2 THEN 0 ELSE 1 END) = 1 ORDER BY did;
did
1
4
6
8
(4 rows)
acme/bob> SELECT sum(1 / (2 - dlevel)) FILTER (WHERE dlevel = 1) FROM document;
sum
4
(1 row)
acme/bob> WITH RECURSIVE r(n) AS (SELECT min(did) FROM document UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT max(did) FROM document)) SELECT count(*) FROM r;
count
8
(1 row)
# writes
acme/bob> INSERT INTO document VALUES (9, 11, 1, 'bob', 'new');
INSERT 0 1
acme/bob> INSERT INTO document VALUES (10, 11, 2, 'bob', 'too high');
ERROR 42501: new row violates row-level security policy for table "document"
acme/bob> INSERT INTO document VALUES (1, 11, 2, 'bob', 'policies come before keys');
ERROR 42501: new row violates row-level security policy for table "document"
acme/bob> INSERT INTO document VALUES (8, 44, 1, 'bob', 'the key is there');
ERROR 23505: duplicate key value violates unique constraint "document_pkey"
acme/bob> INSERT INTO document VALUES (2, 44, 1, 'bob', 'hidden') ON CONFLICT (did) DO NOTHING;
INSERT 0 0
acme/bob> INSERT INTO document VALUES (2, 44, 1, 'bob', 'hidden') ON CONFLICT (did) DO UPDATE SET dtitle = excluded.dtitle;
ERROR 42501: new row violates row-level security policy (USING expression) for table "document"
acme/bob> INSERT INTO document VALUES (9, 11, 1, 'bob', 'newer') ON CONFLICT (did) DO UPDATE SET dtitle = excluded.dtitle RETURNING did, dtitle;
did|dtitle
9|newer
(1 row)
acme/bob> UPDATE document SET dtitle = dtitle || '!' WHERE did IN (1, 2) RETURNING did;
did
1
(1 row)
acme/bob> UPDATE document SET dlevel = 2 WHERE did = 1;
ERROR 42501: new row violates row-level security policy for table "document"
acme/bob> DELETE FROM document WHERE did IN (2, 9);
DELETE 1
acme> SELECT did, dtitle FROM document WHERE did IN (1, 2, 9) ORDER BY did;
did|dtitle
1|my first novel!
2|my second novel
(2 rows)
# by command
acme> ALTER TABLE document DISABLE ROW LEVEL SECURITY;
ALTER TABLE
acme> CREATE TABLE notes (id int PRIMARY KEY, who text DEFAULT current_user, body text);
CREATE TABLE
acme> GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO member;
GRANT
acme> ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE
acme> CREATE POLICY see ON notes FOR SELECT USING (true);
CREATE POLICY
acme> CREATE POLICY add ON notes FOR INSERT WITH CHECK (who = current_user);
CREATE POLICY
acme> CREATE POLICY change ON notes FOR UPDATE USING (who = current_user) WITH CHECK (who = current_user);
CREATE POLICY
acme/bob> INSERT INTO notes (id, body) VALUES (1, 'of bob');
INSERT 0 1
acme/bob> INSERT INTO notes VALUES (2, 'carol', 'forged');
ERROR 42501: new row violates row-level security policy for table "notes"
acme/carol> INSERT INTO notes (id, body) VALUES (2, 'of carol') RETURNING who;
who
carol
(1 row)
acme/carol> UPDATE notes SET body = 'changed' RETURNING id;
id
2
(1 row)
acme/carol> UPDATE notes SET who = 'bob';
ERROR 42501: new row violates row-level security policy for table "notes"
acme/carol> DELETE FROM notes;
DELETE 0
acme/dave> SELECT * FROM notes;
ERROR 42501: permission denied for table notes
acme/bob> SELECT id, who, body FROM notes ORDER BY id;
id|who|body
1|bob|of bob
2|carol|changed
(2 rows)
# the end user of a service
acme> CREATE USER app PASSWORD 'pw-app' IN ROLE service;
CREATE ROLE
acme> GRANT ALL ON notes TO app;
GRANT
acme> ALTER POLICY see ON notes TO service USING (who = current_setting('bulkhead.user', true));
ALTER POLICY
acme/app> SELECT id FROM notes;
(0 rows)
acme/app> SET bulkhead.user = 'carol';
SET
acme/app> SELECT id FROM notes;
id
2
(1 row)
# plans that are kept see who asks, and what is now
acme/bob> PREPARE p AS SELECT count(*) FROM notes;
PREPARE
acme/bob> EXECUTE p;
count
0
(1 row)
acme> CREATE POLICY all_of_it ON notes FOR SELECT TO bob USING (true);
CREATE POLICY
acme/bob> EXECUTE p;
count
2
(1 row)
acme> DROP POLICY all_of_it ON notes;
DROP POLICY
acme/bob> EXECUTE p;
count
0
(1 row)
acme> DROP POLICY all_of_it ON notes;
ERROR 42704: policy "all_of_it" for table "notes" does not exist
acme> DROP POLICY IF EXISTS all_of_it ON notes;
NOTICE 00000: policy "all_of_it" for table "notes" does not exist, skipping
DROP POLICY
# owners
acme> ALTER TABLE notes FORCE ROW LEVEL SECURITY;
ALTER TABLE
acme> SELECT count(*) FROM notes;
count
0
(1 row)
acme> ALTER TABLE notes NO FORCE ROW LEVEL SECURITY;
ALTER TABLE
acme> SELECT count(*) FROM notes;
count
2
(1 row)
acme/bob> ALTER TABLE notes DISABLE ROW LEVEL SECURITY;
ERROR 42501: must be owner of table notes
acme/bob> CREATE POLICY mine ON notes USING (true);
ERROR 42501: must be owner of table notes
acme/bob> DROP TABLE notes;
ERROR 42501: must be owner of table notes
acme/bob> TRUNCATE notes;
ERROR 42501: permission denied for table notes
acme/dave> CREATE TABLE of_dave (a int);
ERROR 42501: permission denied for schema public
acme/bob> CREATE TABLE of_bob (a int);
CREATE TABLE
acme/carol> SELECT * FROM of_bob;
ERROR 42501: permission denied for table of_bob
acme/carol> INSERT INTO of_bob VALUES (1);
ERROR 42501: permission denied for table of_bob
acme/bob> GRANT SELECT ON of_bob TO carol;
GRANT
acme/carol> SELECT * FROM of_bob;
(0 rows)
acme/bob> REVOKE SELECT ON of_bob FROM carol;
REVOKE
acme/carol> SELECT * FROM of_bob;
ERROR 42501: permission denied for table of_bob
acme/bob> GRANT SELECT ON of_bob TO stranger;
ERROR 42704: role "stranger" does not exist
# recursion
acme> CREATE TABLE rec1 (x int, y int);
CREATE TABLE
acme> CREATE TABLE rec2 (a int, b int);
CREATE TABLE
acme> GRANT SELECT ON rec1, rec2 TO PUBLIC;
GRANT
acme> ALTER TABLE rec1 ENABLE ROW LEVEL SECURITY;
ALTER TABLE
acme> ALTER TABLE rec2 ENABLE ROW LEVEL SECURITY;
ALTER TABLE
acme> CREATE POLICY r1 ON rec1 USING (x = (SELECT r.x FROM rec1 r WHERE y = r.y));
CREATE POLICY
acme/bob> SELECT * FROM rec1;
ERROR 42P17: infinite recursion detected in policy for relation "rec1"
acme> DROP POLICY r1 ON rec1;
DROP POLICY
acme> CREATE POLICY r1 ON rec1 USING (x = (SELECT a FROM rec2 WHERE b = y));
CREATE POLICY
acme> CREATE POLICY r2 ON rec2 USING (a = (SELECT x FROM rec1 WHERE y = b));
CREATE POLICY
acme/bob> SELECT * FROM rec1;
ERROR 42P17: infinite recursion detected in policy for relation "rec1"
acme> CREATE VIEW rec1v AS SELECT * FROM rec1;
CREATE VIEW
acme> GRANT SELECT ON rec1v TO PUBLIC;
GRANT
acme> ALTER POLICY r2 ON rec2 USING (a = (SELECT x FROM rec1v WHERE y = b));
ALTER POLICY
acme/bob> SELECT * FROM rec1;
ERROR 42P17: infinite recursion detected in policy for relation "rec1"
acme> DROP TABLE rec2;
ERROR 2BP01: cannot drop table rec2 because other objects depend on it
acme> DROP TABLE rec2 CASCADE;
NOTICE 00000: drop cascades to policy r1 on table rec1
DROP TABLE
acme/bob> SELECT * FROM rec1;
(0 rows)
# views read with the policies of their reader
acme> ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE
acme> CREATE VIEW titles AS SELECT did, dtitle FROM document;
CREATE VIEW
acme> GRANT SELECT ON titles TO PUBLIC;
GRANT
acme> SELECT count(*) FROM titles;
count
8
(1 row)
acme/bob> SELECT count(*) FROM titles;
count
4
(1 row)
