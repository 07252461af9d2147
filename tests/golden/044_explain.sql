# EXPLAIN prints what PostgreSQL prints, and counts nothing of what is stored.
acme> EXPLAIN SELECT 1;
QUERY PLAN
Result  (cost=0.00..0.01 rows=1 width=8)
(1 row)
acme> EXPLAIN (COSTS OFF) SELECT title FROM documents WHERE content = 'x' ORDER BY title DESC LIMIT 3;
acme> EXPLAIN (COSTS OFF) SELECT * FROM documents WHERE id = '6f1c1a52-8a3e-4a53-9a51-0d5c7a3f2b10';
acme> EXPLAIN (COSTS OFF) SELECT user_id, count(*) FROM documents GROUP BY user_id;
acme> EXPLAIN (COSTS OFF) SELECT count(*) FROM documents;
acme> EXPLAIN (COSTS OFF) SELECT d.title, c.chunk_no FROM documents d LEFT JOIN chunks c ON c.document_id = d.id;
acme> EXPLAIN (COSTS OFF) SELECT 1 FROM documents WHERE EXISTS (SELECT 1 FROM chunks WHERE chunks.document_id = documents.id);
acme> EXPLAIN (COSTS OFF) SELECT * FROM generate_series(1, 3) AS g(n) UNION ALL SELECT 4;
acme> EXPLAIN (COSTS OFF) SELECT * FROM ai.search('x');
acme> EXPLAIN (COSTS OFF) SELECT relname FROM pg_class WHERE relname LIKE 'pg%' OR relkind IN ('r', 'v');
acme> EXPLAIN (COSTS OFF, VERBOSE) SELECT title AS t FROM documents;
acme> EXPLAIN (COSTS OFF) INSERT INTO documents (title, content) VALUES ('a', 'b');
acme> EXPLAIN (COSTS OFF) DELETE FROM documents WHERE title = 'a';
acme> EXPLAIN (FORMAT JSON, COSTS OFF) SELECT title FROM documents LIMIT 1;
acme> EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT n FROM generate_series(1, 10) AS g(n) WHERE n > 7;
acme> EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO documents (title, content) VALUES ('a', 'b');
acme> SELECT count(*) FROM documents;
acme> EXPLAIN SELECT * FROM documents;
umbra> EXPLAIN SELECT * FROM documents;
acme> EXPLAIN SELECT * FROM nosuch;
ERROR 42P01
acme> EXPLAIN (FORMAT xml) SELECT 1;
ERROR 0A000
acme> EXPLAIN (FORMAT nosuch) SELECT 1;
ERROR 22023: unrecognized value for EXPLAIN option "format": "nosuch"
acme> EXPLAIN (NOSUCH) SELECT 1;
ERROR 42601: unrecognized EXPLAIN option "nosuch"
acme> EXPLAIN (TIMING) SELECT 1;
ERROR 22023: EXPLAIN option TIMING requires ANALYZE
acme> EXPLAIN (COSTS maybe) SELECT 1;
ERROR 42601: costs requires a Boolean value
acme> EXPLAIN BEGIN;
ERROR 0A000
