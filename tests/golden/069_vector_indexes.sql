# Indexes of vectors: their options, and what changes them.
acme> CREATE TABLE p (id integer PRIMARY KEY, v vector(2), loose vector, half halfvec(2));
acme> INSERT INTO p SELECT i, ARRAY[i, i % 2]::vector, ARRAY[i, i]::vector, ARRAY[i, 1]::halfvec FROM generate_series(1, 600) i;
acme> CREATE INDEX p_v ON p USING hnsw (v vector_l2_ops);
acme> SELECT indexdef FROM pg_indexes WHERE indexname = 'p_v';
indexdef
CREATE INDEX p_v ON public.p USING hnsw (v vector_l2_ops) WITH (m='16', ef_construction='64')
(1 row)
acme> CREATE INDEX p_m ON p USING hnsw (v vector_cosine_ops) WITH (m = 24, ef_construction = 100);
acme> CREATE INDEX p_h ON p USING hnsw (half halfvec_l2_ops) WITH (m = 8);
acme> SELECT indexdef FROM pg_indexes WHERE indexname IN ('p_m', 'p_h') ORDER BY 1;
indexdef
CREATE INDEX p_h ON public.p USING hnsw (half halfvec_l2_ops) WITH (m='8', ef_construction='64')
CREATE INDEX p_m ON public.p USING hnsw (v vector_cosine_ops) WITH (m='24', ef_construction='100')
(2 rows)
acme> CREATE INDEX ON p USING hnsw (v vector_l2_ops) WITH (m = 1);
ERROR 22023
acme> CREATE INDEX ON p USING hnsw (v vector_l2_ops) WITH (ef_construction = 2000);
ERROR 22023
acme> CREATE INDEX ON p USING hnsw (v vector_l2_ops) WITH (m = 40);
ERROR 22023
acme> CREATE INDEX ON p USING hnsw (v vector_l2_ops) WITH (lists = 40);
ERROR 22023
acme> CREATE INDEX ON p USING hnsw (v vector_l2_ops) WITH (m = many);
ERROR 22023
acme> CREATE INDEX ON p USING hnsw (loose vector_l2_ops);
ERROR 22023
acme> CREATE INDEX ON p USING ivfflat (loose);
ERROR 22023
# Options change, and the graph with them.
acme> ALTER INDEX p_v SET (m = 32);
acme> SELECT indexdef FROM pg_indexes WHERE indexname = 'p_v';
indexdef
CREATE INDEX p_v ON public.p USING hnsw (v vector_l2_ops) WITH (m='32', ef_construction='64')
(1 row)
acme> ALTER INDEX p_v SET (m = 33);
ERROR 22023
acme> ALTER INDEX p_v SET (ef_construction = 500);
acme> ALTER INDEX p_v RESET (m);
acme> ALTER INDEX p_v SET (lists = 3);
ERROR 22023
acme> ALTER INDEX p_v RESET (lists);
ERROR 22023
acme> ALTER INDEX p_pkey SET (fillfactor = 70);
acme> ALTER INDEX p_pkey SET (m = 7);
ERROR 22023
acme> ALTER INDEX missing SET (m = 7);
ERROR 42P01
acme> SELECT indexdef FROM pg_indexes WHERE indexname = 'p_v';
indexdef
CREATE INDEX p_v ON public.p USING hnsw (v vector_l2_ops) WITH (m='16', ef_construction='500')
(1 row)
acme> SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 3;
id
100
101
99
(3 rows)
# Built anew.
acme> REINDEX INDEX p_v;
acme> REINDEX INDEX CONCURRENTLY p_v;
acme> REINDEX TABLE p;
acme> REINDEX SCHEMA public;
acme> REINDEX INDEX missing;
ERROR 42704
acme> BEGIN; CREATE INDEX p_w ON p USING hnsw (v vector_l1_ops); REINDEX INDEX p_v; ROLLBACK;
BEGIN
CREATE INDEX
REINDEX
ROLLBACK
acme> SELECT count(*) FROM pg_stat_progress_create_index;
count
0
(1 row)
acme> DROP INDEX p_v, p_m;
acme> SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 3;
id
100
101
99
(3 rows)
# What a walk looks at: the default is none that was set.
acme> SHOW hnsw.ef_search;
hnsw.ef_search
40
(1 row)
acme> SET hnsw.ef_search = 40;
acme> SHOW hnsw.ef_search;
hnsw.ef_search
40
(1 row)
acme> RESET hnsw.ef_search;
acme> SHOW hnsw.ef_search;
hnsw.ef_search
40
(1 row)
acme> SET hnsw.ef_search = 0;
ERROR 22023
acme> SET hnsw.ef_search = 1001;
ERROR 22023
