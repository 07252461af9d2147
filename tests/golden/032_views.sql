# Views read with the rights and policies of whoever reads them, and hold what they read.
acme> CREATE TABLE people (id int PRIMARY KEY, name text, age int);
CREATE TABLE
acme> INSERT INTO people VALUES (1, 'ann', 30), (2, 'bob', 17);
INSERT 0 2
acme> CREATE VIEW adults AS SELECT * FROM people WHERE age >= 18;
CREATE VIEW
acme> CREATE VIEW names (who, twice) AS SELECT name, age * 2 FROM adults;
CREATE VIEW
acme> SELECT * FROM names;
who|twice
ann|60
(1 row)
acme> SELECT pg_get_viewdef('adults'::regclass);
pg_get_viewdef
 SELECT "people"."id", "people"."name", "people"."age" FROM "public".people WHERE age >= 18;
(1 row)
acme> ALTER TABLE people ADD COLUMN extra text DEFAULT 'x';
ALTER TABLE
acme> SELECT * FROM adults;
id|name|age
1|ann|30
(1 row)
acme> CREATE VIEW adults AS SELECT 1 AS a;
ERROR 42P07: relation "adults" already exists
acme> CREATE OR REPLACE VIEW adults AS SELECT id FROM people;
ERROR 42P16: cannot drop columns from view
acme> CREATE OR REPLACE VIEW adults AS SELECT id, name, age, extra FROM people WHERE age > 20;
CREATE VIEW
acme> SELECT * FROM adults;
id|name|age|extra
1|ann|30|x
(1 row)
acme> CREATE OR REPLACE VIEW adults AS SELECT 1 AS id, who AS name, twice AS age, 'x'::text AS extra FROM names;
ERROR 42P17: infinite recursion detected in rules for relation "adults"
acme> DROP TABLE people;
ERROR 2BP01: cannot drop table people because other objects depend on it
acme> DROP VIEW adults;
ERROR 2BP01: cannot drop view adults because other objects depend on it
acme> ALTER TABLE people DROP COLUMN age;
ERROR 2BP01: cannot drop column age of table people because other objects depend on it
acme> ALTER TABLE people ALTER COLUMN age TYPE bigint;
ERROR 0A000: cannot alter type of a column used by a view or rule
acme> ALTER TABLE people RENAME COLUMN name TO called;
ALTER TABLE
acme> SELECT * FROM names;
who|twice
ann|60
(1 row)
acme> ALTER TABLE people RENAME TO persons;
ALTER TABLE
acme> SELECT * FROM names;
who|twice
ann|60
(1 row)
acme> SELECT table_name, is_updatable FROM information_schema.views WHERE table_schema = 'public' ORDER BY 1;
table_name|is_updatable
adults|NO
names|NO
(2 rows)
acme> CREATE VIEW bad AS SELECT 1 AS a, 2 AS a;
ERROR 42701: column "a" specified more than once
acme> CREATE VIEW bad AS SELECT * FROM nothing;
ERROR 42P01: relation "nothing" does not exist
acme> CREATE MATERIALIZED VIEW bad AS SELECT 1;
ERROR 0A000: CREATE MATERIALIZED VIEW is not supported
acme> INSERT INTO adults (id) VALUES (1);
ERROR 55000: view "adults" cannot be written
acme> DROP VIEW adults CASCADE;
NOTICE 00000: drop cascades to view names
DROP VIEW
acme> SELECT * FROM names;
ERROR 42P01: relation "names" does not exist
acme> DROP TABLE persons;
DROP TABLE
