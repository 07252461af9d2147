# Tables are made, changed and dropped as PostgreSQL does it, with its names, codes and notices.
acme> CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL UNIQUE, price numeric(8,2) DEFAULT 1.5 CHECK (price > 0), tags text[], made timestamptz DEFAULT now());
CREATE TABLE
acme> CREATE TABLE items (id int);
ERROR 42P07: relation "items" already exists
acme> CREATE TABLE IF NOT EXISTS items (id int);
NOTICE 42P07: relation "items" already exists, skipping
CREATE TABLE
acme> INSERT INTO items (name, price) VALUES ('lamp', 3), ('chair', 4.25);
INSERT 0 2
acme> SELECT id, name, price, tags FROM items ORDER BY id;
id|name|price|tags
1|lamp|3.00|NULL
2|chair|4.25|NULL
(2 rows)
acme> SELECT count(*) FROM items;
count
2
(1 row)
acme> SELECT name FROM items WHERE id = 2;
name
chair
(1 row)
acme> SELECT conname, contype FROM pg_constraint WHERE conrelid = 'items'::regclass ORDER BY conname;
conname|contype
items_name_key|u
items_pkey|p
items_price_check|c
(3 rows)
acme> CREATE TABLE bad (a int, a text);
ERROR 42701: column "a" specified more than once
acme> CREATE TABLE bad (a int PRIMARY KEY, b int PRIMARY KEY);
ERROR 42P16: multiple primary keys for table "bad" are not allowed
acme> CREATE TABLE bad (a nosuchtype);
ERROR 42704: type "nosuchtype" does not exist
acme> CREATE TABLE bad (a int DEFAULT 'x' || 'y');
ERROR 42804: column "a" is of type integer but default expression is of type text
acme> CREATE TABLE bad (a int CHECK (b > 1));
ERROR 42703: column "b" does not exist
acme> CREATE TABLE bad (a int CHECK (a));
ERROR 42804: argument of CHECK must be type boolean, not type integer
acme> CREATE TABLE bad (a int REFERENCES nowhere);
ERROR 42P01: relation "nowhere" does not exist
acme> CREATE TABLE bad (a int, UNIQUE (b));
ERROR 42703: column "b" named in key does not exist
acme> CREATE TABLE bad (a varchar(0));
ERROR 22023: length for type varchar must be at least 1
acme> CREATE TABLE bad (a int) PARTITION BY RANGE (a);
ERROR 0A000: PARTITION BY is not supported
acme> CREATE TABLE ai.mine (a int);
ERROR 42501: permission denied for schema ai
acme> CREATE TABLE nowhere.mine (a int);
ERROR 3F000: schema "nowhere" does not exist
acme> CREATE FUNCTION f() RETURNS int AS 'SELECT 1' LANGUAGE sql;
ERROR 42501: permission denied: CREATE FUNCTION
acme> CREATE TRIGGER g BEFORE INSERT ON items EXECUTE FUNCTION f();
ERROR 0A000: CREATE TRIGGER is not supported
# ALTER TABLE
acme> ALTER TABLE items ADD COLUMN stock int NOT NULL DEFAULT 7;
ALTER TABLE
acme> SELECT name, stock FROM items ORDER BY id;
name|stock
lamp|7
chair|7
(2 rows)
acme> ALTER TABLE items ADD COLUMN stock int;
ERROR 42701: column "stock" of relation "items" already exists
acme> ALTER TABLE items ADD COLUMN IF NOT EXISTS stock int;
NOTICE 42701: column "stock" of relation "items" already exists, skipping
ALTER TABLE
acme> ALTER TABLE items ADD COLUMN must int NOT NULL;
ERROR 23502: column "must" of relation "items" contains null values
acme> ALTER TABLE items RENAME COLUMN stock TO kept;
ALTER TABLE
acme> ALTER TABLE items ADD CONSTRAINT few CHECK (kept < 5);
ERROR 23514: check constraint "few" of relation "items" is violated by some row
acme> ALTER TABLE items ADD CONSTRAINT few CHECK (kept < 50);
ALTER TABLE
acme> ALTER TABLE items ADD CONSTRAINT few CHECK (kept < 500);
ERROR 42710: constraint "few" for relation "items" already exists
acme> INSERT INTO items (name, kept) VALUES ('table', 60);
ERROR 23514: new row for relation "items" violates check constraint "few"
acme> ALTER TABLE items DROP CONSTRAINT few;
ALTER TABLE
acme> ALTER TABLE items DROP CONSTRAINT few;
ERROR 42704: constraint "few" of relation "items" does not exist
acme> ALTER TABLE items ALTER COLUMN kept TYPE text;
ALTER TABLE
acme> SELECT name, kept || '!' AS kept FROM items ORDER BY id;
name|kept
lamp|7!
chair|7!
(2 rows)
acme> ALTER TABLE items ALTER COLUMN kept TYPE int;
ERROR 42804: column "kept" cannot be cast automatically to type integer
acme> ALTER TABLE items ALTER COLUMN kept TYPE int USING kept::int + 1;
ALTER TABLE
acme> SELECT sum(kept) FROM items;
sum
16
(1 row)
acme> ALTER TABLE items ALTER COLUMN tags SET NOT NULL;
ERROR 23502: column "tags" of relation "items" contains null values
acme> ALTER TABLE items ALTER COLUMN id DROP NOT NULL;
ERROR 42P16: column "id" is in a primary key
acme> ALTER TABLE items ALTER COLUMN price SET DEFAULT 'abc'::text;
ERROR 42804: column "price" is of type numeric but default expression is of type text
acme> ALTER TABLE items DROP COLUMN nothing;
ERROR 42703: column "nothing" of relation "items" does not exist
acme> ALTER TABLE items DROP COLUMN IF EXISTS nothing;
NOTICE 00000: column "nothing" of relation "items" does not exist, skipping
ALTER TABLE
acme> ALTER TABLE items DROP COLUMN tags;
ALTER TABLE
acme> SELECT column_name, ordinal_position FROM information_schema.columns WHERE table_name = 'items' ORDER BY 2;
column_name|ordinal_position
id|1
name|2
price|3
made|5
kept|6
(5 rows)
acme> ALTER TABLE items RENAME TO things;
ALTER TABLE
acme> SELECT count(*) FROM things;
count
2
(1 row)
acme> SELECT count(*) FROM items;
ERROR 42P01: relation "items" does not exist
acme> ALTER TABLE nothing RENAME TO thing;
ERROR 42P01: relation "nothing" does not exist
acme> ALTER TABLE IF EXISTS nothing RENAME TO thing;
NOTICE 00000: relation "nothing" does not exist, skipping
ALTER TABLE
# references
acme> CREATE TABLE orders (id int PRIMARY KEY, thing int REFERENCES things ON DELETE CASCADE, who varchar(5));
CREATE TABLE
acme> CREATE TABLE more (thing text REFERENCES things (id));
ERROR 42804: foreign key constraint "more_thing_fkey" cannot be implemented
acme> CREATE TABLE more (thing int REFERENCES things (kept));
ERROR 42830: there is no unique constraint matching given keys for referenced table "things"
acme> INSERT INTO orders VALUES (1, 1, 'bob');
INSERT 0 1
acme> ALTER TABLE orders ALTER COLUMN who TYPE varchar(2);
ERROR 22001: value too long for type character varying(2)
acme> DROP TABLE things;
ERROR 2BP01: cannot drop table things because other objects depend on it
acme> DROP TABLE things CASCADE;
NOTICE 00000: drop cascades to constraint orders_thing_fkey on table orders
DROP TABLE
acme> INSERT INTO orders VALUES (2, 99, 'ann');
INSERT 0 1
acme> ALTER TABLE orders ADD PRIMARY KEY (thing);
ERROR 42P16: multiple primary keys for table "orders" are not allowed
acme> ALTER TABLE orders DROP CONSTRAINT orders_pkey;
ALTER TABLE
acme> INSERT INTO orders VALUES (2, 100, 'ann');
INSERT 0 1
acme> ALTER TABLE orders ADD PRIMARY KEY (id);
ERROR 23505: could not create unique index "orders_pkey"
acme> CREATE UNIQUE INDEX orders_id ON orders (id);
ERROR 23505: could not create unique index "orders_id"
acme> CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE
acme> ALTER TABLE orders ADD FOREIGN KEY (thing) REFERENCES parents;
ERROR 23503: insert or update on table "orders" violates foreign key constraint "orders_thing_fkey"
# drops
acme> DROP TABLE nothing;
ERROR 42P01: table "nothing" does not exist
acme> DROP TABLE IF EXISTS nothing, parents;
NOTICE 00000: table "nothing" does not exist, skipping
DROP TABLE
acme> DROP VIEW orders;
ERROR 42809: "orders" is not a view
acme> DROP TABLE orders;
DROP TABLE
# in a transaction all of it can be taken back
acme> BEGIN;
BEGIN
acme> CREATE TABLE passing (a int);
CREATE TABLE
acme> INSERT INTO passing VALUES (1), (2);
INSERT 0 2
acme> SELECT sum(a) FROM passing;
sum
3
(1 row)
acme> ALTER TABLE passing ADD COLUMN b text DEFAULT 'x';
ALTER TABLE
acme> SELECT * FROM passing ORDER BY a;
a|b
1|x
2|x
(2 rows)
acme#2> SELECT * FROM passing;
ERROR 42P01: relation "passing" does not exist
acme> ROLLBACK;
ROLLBACK
acme> SELECT * FROM passing;
ERROR 42P01: relation "passing" does not exist
acme> CREATE TABLE copied AS SELECT n, n * n AS square FROM generate_series(1, 3) AS s(n);
SELECT 3
acme> SELECT * FROM copied ORDER BY n;
n|square
1|1
2|4
3|9
(3 rows)
acme> SELECT n INTO odd FROM copied WHERE n <> 2;
SELECT 2
acme> SELECT count(*) FROM odd;
count
2
(1 row)
acme> CREATE TABLE alike (LIKE copied, extra int);
CREATE TABLE
acme> SELECT * FROM alike;
(0 rows)
# temporary tables are of one session
acme> CREATE TEMP TABLE scratch (a int);
CREATE TABLE
acme> INSERT INTO scratch VALUES (5);
INSERT 0 1
acme> SELECT a FROM scratch;
a
5
(1 row)
acme#2> SELECT a FROM scratch;
ERROR 42P01: relation "scratch" does not exist
acme> SELECT schemaname LIKE 'pg_temp%' AS temporary FROM pg_tables WHERE tablename = 'scratch';
temporary
t
(1 row)
# schemas and sequences
acme> CREATE SCHEMA shop;
CREATE SCHEMA
acme> CREATE SCHEMA shop;
ERROR 42P06: schema "shop" already exists
acme> CREATE SCHEMA IF NOT EXISTS shop;
NOTICE 42P06: schema "shop" already exists, skipping
CREATE SCHEMA
acme> CREATE SCHEMA pg_shop;
ERROR 42939: unacceptable schema name "pg_shop"
acme> CREATE TABLE shop.goods (id int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (id * 2) STORED, v text);
CREATE TABLE
acme> INSERT INTO shop.goods (v) VALUES ('a'), ('b');
INSERT 0 2
acme> SELECT * FROM shop.goods ORDER BY id;
id|twice|v
1|2|a
2|4|b
(2 rows)
acme> SELECT * FROM goods;
ERROR 42P01: relation "goods" does not exist
acme> SET search_path = shop, public;
SET
acme> SELECT count(*) FROM goods;
count
2
(1 row)
acme> RESET search_path;
RESET
acme> DROP SCHEMA shop;
ERROR 2BP01: cannot drop schema shop because other objects depend on it
acme> DROP SCHEMA shop CASCADE;
NOTICE 00000: drop cascades to table shop.goods
DROP SCHEMA
acme> CREATE SEQUENCE counter START 5 INCREMENT 5 MAXVALUE 15;
CREATE SEQUENCE
acme> SELECT nextval('counter');
nextval
5
(1 row)
acme> SELECT nextval('counter');
nextval
10
(1 row)
acme> CREATE SEQUENCE bad INCREMENT 0;
ERROR 22023: INCREMENT must not be zero
acme> CREATE TABLE counted (id int DEFAULT nextval('counter'), v int);
CREATE TABLE
acme> DROP SEQUENCE counter;
ERROR 2BP01: cannot drop sequence counter because other objects depend on it
acme> DROP SEQUENCE counter CASCADE;
NOTICE 00000: drop cascades to default value for column id of table counted
DROP SEQUENCE
acme> SELECT column_default FROM information_schema.columns WHERE table_name = 'counted' AND column_name = 'id';
column_default
NULL
(1 row)
# the other tenant knows nothing of it
beta> SELECT * FROM copied;
ERROR 42P01: relation "copied" does not exist
beta> SELECT count(*) FROM pg_class WHERE relname IN ('copied', 'odd', 'alike', 'counted');
count
0
(1 row)
beta> CREATE TABLE copied (mine int);
CREATE TABLE
beta> SELECT * FROM copied;
(0 rows)
