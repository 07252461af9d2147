# EXPLAIN prints what PostgreSQL prints, and counts nothing of what is stored.
acme> EXPLAIN SELECT 1;
QUERY PLAN
Result  (cost=0.00..0.01 rows=1 width=4)
(1 row)
acme> EXPLAIN (COSTS OFF) SELECT title FROM documents WHERE content = 'x' ORDER BY title DESC LIMIT 3;
QUERY PLAN
Limit
  ->  Sort
        Sort Key: title DESC
        ->  Seq Scan on documents
              Filter: (content = 'x'::text)
(5 rows)
acme> EXPLAIN (COSTS OFF) SELECT * FROM documents WHERE id = '6f1c1a52-8a3e-4a53-9a51-0d5c7a3f2b10';
QUERY PLAN
Index Scan using documents_pkey on documents
  Index Cond: (id = '{uuid}'::text)
(2 rows)
acme> EXPLAIN (COSTS OFF) SELECT user_id, count(*) FROM documents GROUP BY user_id;
QUERY PLAN
HashAggregate
  Group Key: user_id
  ->  Seq Scan on documents
(3 rows)
acme> EXPLAIN (COSTS OFF) SELECT count(*) FROM documents;
QUERY PLAN
Aggregate
  ->  Seq Scan on documents
(2 rows)
acme> EXPLAIN (COSTS OFF) SELECT d.title, c.chunk_no FROM documents d LEFT JOIN chunks c ON c.document_id = d.id;
QUERY PLAN
Hash Right Join
  Hash Cond: (document_id = id)
  ->  Seq Scan on chunks
  ->  Hash
        ->  Seq Scan on documents
(5 rows)
acme> EXPLAIN (COSTS OFF) SELECT 1 FROM documents WHERE EXISTS (SELECT 1 FROM chunks WHERE chunks.document_id = documents.id);
QUERY PLAN
Hash Semi Join
  Hash Cond: (document_id = id)
  ->  Seq Scan on chunks
  ->  Hash
        ->  Seq Scan on documents
(5 rows)
acme> EXPLAIN (COSTS OFF) SELECT * FROM generate_series(1, 3) AS g(n) UNION ALL SELECT 4;
QUERY PLAN
Append
  ->  Function Scan on generate_series
  ->  Result
(3 rows)
acme> EXPLAIN (COSTS OFF) SELECT * FROM ai.search('x');
QUERY PLAN
Function Scan on ai.search
(1 row)
acme> EXPLAIN (COSTS OFF) SELECT relname FROM pg_class WHERE relname LIKE 'pg%' OR relkind IN ('r', 'v');
QUERY PLAN
Seq Scan on pg_class
  Filter: ((relname ~~ 'pg%'::text) OR ((relkind = 'r'::text) OR (relkind = 'v'::text)))
(2 rows)
acme> EXPLAIN (COSTS OFF, VERBOSE) SELECT title AS t FROM documents;
QUERY PLAN
Seq Scan on documents
  Output: t
(2 rows)
acme> EXPLAIN (COSTS OFF) INSERT INTO documents (title, content) VALUES ('a', 'b');
QUERY PLAN
Insert on documents
  ->  Values Scan on "*VALUES*"
(2 rows)
acme> EXPLAIN (COSTS OFF) DELETE FROM documents WHERE title = 'a';
QUERY PLAN
Delete on documents
  ->  Seq Scan on documents
        Filter: (title = 'a'::text)
(3 rows)
acme> EXPLAIN (FORMAT JSON, COSTS OFF) SELECT title FROM documents LIMIT 1;
QUERY PLAN
[\n  {\n    "Plan": {\n      "Node Type": "Limit",\n      "Parallel Aware": false,\n      "Async Capable": false,\n      "Plans": [\n        {\n          "Node Type": "Seq Scan",\n          "Parallel Aware": false,\n          "Async Capable": false,\n          "Parent Relationship": "Outer",\n          "Relation Name": "documents",\n          "Alias": "documents"\n        }\n      ]\n    }\n  }\n]
(1 row)
acme> EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT n FROM generate_series(1, 10) AS g(n) WHERE n > 7;
QUERY PLAN
Function Scan on generate_series  (actual rows=3 loops=1)
  Filter: (value > 7)
(2 rows)
acme> EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO documents (title, content) VALUES ('a', 'b');
QUERY PLAN
Insert on documents  (actual rows=0 loops=1)
  ->  Values Scan on "*VALUES*"
(2 rows)
acme> SELECT count(*) FROM documents;
count
1
(1 row)
acme> EXPLAIN SELECT * FROM documents;
QUERY PLAN
Seq Scan on documents  (cost=0.00..10.00 rows=1000 width=176)
(1 row)
umbra> EXPLAIN SELECT * FROM documents;
QUERY PLAN
Seq Scan on documents  (cost=0.00..10.00 rows=1000 width=176)
(1 row)
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
