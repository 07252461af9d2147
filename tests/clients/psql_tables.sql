-- psql with tables of one's own. Each part begins with a line "=== name"; tests/matrix.rs compares them with PostgreSQL's.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\pset pager off
\echo === create
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE author (id serial PRIMARY KEY, name varchar(40) NOT NULL UNIQUE, born date);
CREATE TABLE book (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author_id integer NOT NULL REFERENCES author ON DELETE CASCADE,
    title text NOT NULL DEFAULT 'untitled',
    price numeric(8, 2) CHECK (price >= 0),
    tags text[],
    data jsonb,
    made timestamptz DEFAULT now(),
    embedding vector(3),
    UNIQUE (author_id, title)
);
CREATE INDEX book_price ON book (price DESC);
CREATE INDEX book_near ON book USING hnsw (embedding vector_cosine_ops);
CREATE VIEW cheap AS SELECT id, title FROM book WHERE price < 10;
CREATE SEQUENCE counter START 100;
COMMENT ON TABLE book IS 'what was written';
COMMENT ON COLUMN book.title IS 'as on the cover';
\echo === insert
INSERT INTO author (name, born) VALUES ('Ada', '1815-12-10'), ('Bob', NULL) RETURNING *;
INSERT INTO book (author_id, title, price, tags, data, made, embedding) VALUES
    (1, 'Notes', 9.995, '{x,"y z"}', '{"k": [1, null]}', '2024-02-29 12:00+00', '[1,2,3]'),
    (1, 'Letters', 5, NULL, NULL, '2024-02-29 12:00+00', '[3,2,1]');
\echo === select
SELECT * FROM book ORDER BY id;
\echo === expanded
SELECT * FROM book ORDER BY id LIMIT 1 \gx
\echo === formats
\pset format csv
SELECT id, title, tags FROM book ORDER BY id;
\pset format unaligned
SELECT id, title, data FROM book ORDER BY id;
\pset format aligned
\pset null '(null)'
SELECT id, tags FROM book ORDER BY id;
\pset null ''
\echo === gset
SELECT count(*) AS n, max(price) AS top FROM book \gset
\echo :n :top
SELECT :n + 1 AS next, :'top' AS quoted;
\echo === gexec
SELECT format('SELECT %L AS made', title) FROM book ORDER BY id \gexec
\echo === gdesc
SELECT id, title, price, tags, data, made FROM book \gdesc
\echo === bind
PREPARE p (int) AS SELECT title FROM book WHERE id = $1;
EXECUTE p (2);
DEALLOCATE p;
\echo === crosstab
SELECT * FROM (VALUES ('a', 'x', 1), ('a', 'y', 2), ('b', 'x', 3)) v(r, c, n) \crosstabview
\echo === transaction
BEGIN;
DELETE FROM book;
SELECT count(*) FROM book;
ROLLBACK;
SELECT count(*) FROM book;
BEGIN;
SAVEPOINT s;
INSERT INTO author (name) VALUES ('Ada');
ROLLBACK TO s;
INSERT INTO author (name) VALUES ('Cy');
COMMIT;
SELECT name FROM author ORDER BY name;
\echo === errors
INSERT INTO author (id, name) VALUES (1, 'again');
INSERT INTO book (author_id) VALUES (77);
INSERT INTO book (author_id, price, made) VALUES (1, -1, '2024-02-29');
UPDATE author SET name = NULL WHERE id = 1;
DROP TABLE author;
SELECT nosuch FROM book;
SELECT * FROM nosuch;
SELEC 1;
SELECT 1 / 0;
INSERT INTO book (author_id, embedding) VALUES (1, '[1]');
SELECT 'x'::int, *
FROM book
WHERE nosuch = 1;
\echo === copy
\copy author (name, born) FROM stdin WITH (FORMAT csv)
Di,2000-01-01
"E, F",
\.
COPY author (name, born) FROM STDIN;
Gus	1999-12-31
Hal	\N
\.
COPY (SELECT name, born FROM author ORDER BY name) TO STDOUT;
\copy (SELECT name FROM author ORDER BY name) TO stdout WITH (FORMAT csv, HEADER)
COPY author (name, born) FROM STDIN;
Ivy	not a date
\.
SELECT count(*) FROM author;
\echo === cursor
\set FETCH_COUNT 2
SELECT id, name FROM author ORDER BY id;
\unset FETCH_COUNT
\echo === describe book
\d book
\echo === describe author
\d author
\echo === describe view
\d cheap
\echo === describe plus
\d+ cheap
\echo === describe index
\d book_price
\echo === describe sequence
\d counter
\echo === list
\dtvs public.*
\echo === tables
\dt public.*
\echo === tables like
\dt public.bo*
\echo === views
\dv public.*
\echo === indexes
\di public.*
\echo === sequences
\ds public.*
\echo === nothing
\d nosuch
\dt nosuch*
\echo === descriptions
\dd public.*
\echo === schemas
\dn public
\echo === alter
ALTER TABLE book ADD COLUMN pages integer DEFAULT 10, DROP COLUMN data;
ALTER TABLE book RENAME COLUMN title TO name;
ALTER TABLE book RENAME TO work;
\d work
SELECT * FROM cheap ORDER BY id;
\echo === conninfo
SELECT current_database() = :'DBNAME', current_user, session_user, inet_server_port() = :PORT;
\encoding
\echo === explain
EXPLAIN (COSTS OFF) SELECT 1;
\echo === timing
\timing off
\echo === drop
DROP VIEW cheap;
DROP TABLE work, author;
DROP SEQUENCE counter;
\dt public.*
\echo === done
