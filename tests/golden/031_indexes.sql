# Indexes as PostgreSQL and pgvector make, name and print them.
acme> CREATE TABLE docs (id int PRIMARY KEY, title text, body jsonb, e vector(3), at timestamp);
CREATE TABLE
acme> CREATE INDEX ON docs (title);
CREATE INDEX
acme> CREATE INDEX ON docs (title DESC NULLS LAST, at);
CREATE INDEX
acme> CREATE INDEX ON docs (lower(title)) WHERE id > 10;
CREATE INDEX
acme> CREATE INDEX docs_e ON docs USING hnsw (e vector_cosine_ops) WITH (m = 8, ef_construction = 32);
CREATE INDEX
acme> CREATE INDEX docs_f ON docs USING ivfflat (e vector_l2_ops) WITH (lists = 10);
CREATE INDEX
acme> CREATE INDEX docs_g ON docs USING gin (body jsonb_path_ops);
CREATE INDEX
acme> CREATE INDEX docs_i ON docs (at) INCLUDE (title);
CREATE INDEX
acme> CREATE INDEX CONCURRENTLY IF NOT EXISTS docs_i ON docs (at);
NOTICE 42P07: relation "docs_i" already exists, skipping
CREATE INDEX
acme> CREATE INDEX docs_i ON docs (at);
ERROR 42P07: relation "docs_i" already exists
acme> SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'docs' ORDER BY indexname;
indexname|indexdef
docs_e|CREATE INDEX docs_e ON public.docs USING hnsw (e vector_cosine_ops) WITH (m='8', ef_construction='32')
docs_f|CREATE INDEX docs_f ON public.docs USING ivfflat (e vector_l2_ops) WITH (lists='10')
docs_g|CREATE INDEX docs_g ON public.docs USING gin (body jsonb_path_ops)
docs_i|CREATE INDEX docs_i ON public.docs USING btree (at) INCLUDE (title)
docs_lower_idx|CREATE INDEX docs_lower_idx ON public.docs USING btree (lower(title)) WHERE (id > 10)
docs_pkey|CREATE UNIQUE INDEX docs_pkey ON public.docs USING btree (id)
docs_title_at_idx|CREATE INDEX docs_title_at_idx ON public.docs USING btree (title DESC NULLS LAST, at)
docs_title_idx|CREATE INDEX docs_title_idx ON public.docs USING btree (title)
(8 rows)
acme> CREATE INDEX ON docs (nothing);
ERROR 42703: column "nothing" does not exist
acme> CREATE INDEX ON nothing (a);
ERROR 42P01: relation "nothing" does not exist
acme> CREATE INDEX ON docs USING nothing (id);
ERROR 42704: access method "nothing" does not exist
acme> CREATE INDEX ON docs USING hnsw (e);
ERROR 42704: data type vector has no default operator class for access method "hnsw"
acme> CREATE INDEX ON docs USING hnsw (title vector_l2_ops);
ERROR 42804: operator class "vector_l2_ops" does not accept data type text
acme> CREATE INDEX ON docs USING hnsw (e vector_l2_ops) WITH (m = 1);
ERROR 22023: value 1 out of bounds for option "m"
acme> CREATE INDEX ON docs USING hnsw (e vector_l2_ops) WITH (m = 40, ef_construction = 64);
ERROR 22023: ef_construction must be greater than or equal to 2 * m
acme> CREATE INDEX ON docs USING gist (at);
ERROR 0A000: access method "gist" is not supported
acme> CREATE INDEX ON docs (body json_ops);
ERROR 42804: operator class "json_ops" does not accept data type jsonb
acme> INSERT INTO docs (id, title, e) VALUES (1, 'a', '[1,0,0]'), (2, 'a', '[0,1,0]'), (3, NULL, '[0,0,1]');
INSERT 0 3
acme> CREATE INDEX docs_again ON docs (title);
CREATE INDEX
acme> CREATE UNIQUE INDEX docs_low ON docs (lower(title));
ERROR 23505: could not create unique index "docs_low"
acme> CREATE UNIQUE INDEX docs_low ON docs (lower(title)) WHERE id > 1;
CREATE INDEX
acme> CREATE UNIQUE INDEX docs_few ON docs (title) WHERE id < 3;
ERROR 23505: could not create unique index "docs_few"
acme> INSERT INTO docs (id) VALUES (4);
INSERT 0 1
acme> CREATE UNIQUE INDEX docs_nulls ON docs ((upper(title)), title);
ERROR 23505: could not create unique index "docs_nulls"
acme> CREATE UNIQUE INDEX docs_nulls ON docs (lower(title)) NULLS NOT DISTINCT WHERE id > 2;
ERROR 23505: could not create unique index "docs_nulls"
acme> CREATE UNIQUE INDEX docs_nulls ON docs (lower(title)) WHERE id > 2;
CREATE INDEX
acme> DELETE FROM docs WHERE id = 4;
DELETE 1
acme> DROP INDEX docs_again, docs_low, docs_nulls;
DROP INDEX
acme> CREATE UNIQUE INDEX docs_title ON docs (title);
ERROR 23505: could not create unique index "docs_title"
acme> UPDATE docs SET title = 'b' WHERE id = 2;
UPDATE 1
acme> CREATE UNIQUE INDEX docs_title ON docs (title);
CREATE INDEX
acme> INSERT INTO docs (id, title) VALUES (4, 'b');
ERROR 23505: duplicate key value violates unique constraint "docs_title"
acme> SELECT id FROM docs WHERE title = 'b';
id
2
(1 row)
acme> SELECT id FROM docs WHERE id BETWEEN 2 AND 3 ORDER BY id DESC;
id
3
2
(2 rows)
acme> SELECT id FROM docs WHERE id IN (1, 3, 3, 9) ORDER BY id;
id
1
3
(2 rows)
acme> SELECT id FROM docs ORDER BY e <=> '[0,1,0]' LIMIT 1;
id
2
(1 row)
acme> ALTER TABLE docs ADD CONSTRAINT titles UNIQUE USING INDEX docs_title;
NOTICE 00000: ALTER TABLE / ADD CONSTRAINT USING INDEX will rename index "docs_title" to "titles"
ALTER TABLE
acme> DROP INDEX titles;
ERROR 2BP01: cannot drop index titles because constraint titles on table docs requires it
acme> DROP INDEX docs_i, docs_g;
DROP INDEX
acme> DROP INDEX docs_i;
ERROR 42704: index "docs_i" does not exist
acme> DROP INDEX IF EXISTS docs_i;
NOTICE 00000: index "docs_i" does not exist, skipping
DROP INDEX
acme> ALTER INDEX docs_f RENAME TO docs_h;
ALTER INDEX
acme> REINDEX INDEX docs_h;
REINDEX
acme> REINDEX TABLE docs;
REINDEX
acme> VACUUM ANALYZE docs;
VACUUM
acme> ANALYZE docs;
ANALYZE
acme> VACUUM nothing;
ERROR 42P01: relation "nothing" does not exist
acme> CREATE EXTENSION IF NOT EXISTS vector;
NOTICE 42710: extension "vector" already exists, skipping
CREATE EXTENSION
acme> CREATE EXTENSION vector;
CREATE EXTENSION
acme> CREATE EXTENSION nothing;
ERROR 0A000: extension "nothing" is not available
acme> SELECT extname FROM pg_extension WHERE extname = 'vector';
extname
vector
(1 row)
