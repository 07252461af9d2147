# The nearest rows of a tenant's own table are found without sorting all of them, and are those that sorting gives.
acme> CREATE TABLE p (id integer PRIMARY KEY, kind text, v vector(2));
acme> INSERT INTO p SELECT i, 'k' || i % 3, ARRAY[i, i % 2]::vector FROM generate_series(1, 600) i;
acme> INSERT INTO p SELECT i, 'none', NULL FROM generate_series(601, 604) i;
acme> SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 3;
id
100
101
99
(3 rows)
acme> EXPLAIN (COSTS OFF) SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 3;
QUERY PLAN
Limit
  ->  Sort
        Sort Key: l2_distance(v, '[100.2, 0.0]'::real[])
        ->  Index Scan using p_v_nearest on p
              Order By: (v <-> '[100.2,0]'::vector)
              Search Method: exact
(6 rows)
acme> CREATE INDEX p_v ON p USING hnsw (v vector_l2_ops);
acme> EXPLAIN (COSTS OFF) SELECT id FROM p WHERE kind = 'k1' ORDER BY v <-> '[100.2,0]' LIMIT 3;
QUERY PLAN
Limit
  ->  Sort
        Sort Key: l2_distance(v, '[100.2, 0.0]'::real[])
        ->  Index Scan using p_v on p
              Order By: (v <-> '[100.2,0]'::vector)
              Filter: (kind = 'k1'::text)
(6 rows)
acme> EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 3;
QUERY PLAN
Limit  (actual rows=3 loops=1)
  ->  Sort
        Sort Key: l2_distance(v, '[100.2, 0.0]'::real[])
        ->  Index Scan using p_v on p
              Order By: (v <-> '[100.2,0]'::vector)
              Search Method: exact
              Candidates Visited: 600
              Vectors Compared: 600
(8 rows)
acme> EXPLAIN (COSTS OFF) SELECT id FROM p ORDER BY v <-> '[100.2,0]' DESC LIMIT 3;
QUERY PLAN
Limit
  ->  Sort
        Sort Key: l2_distance(v, '[100.2, 0.0]'::real[]) DESC
        ->  Seq Scan on p
(4 rows)
acme> SELECT id, v <-> '[100.1,0]' AS d FROM p ORDER BY d LIMIT 3 OFFSET 1;
id|d
101|1.3453634467319566
99|1.4866057649178095
102|1.900001540936297
(3 rows)
acme> SELECT id FROM p ORDER BY l1_distance('[7,1]', v) LIMIT 2;
id
7
5
(2 rows)
acme> SELECT id FROM p ORDER BY v <#> '[1,0]' LIMIT 2;
id
600
599
(2 rows)
acme> SELECT id FROM p ORDER BY cosine_distance(v, '[3,1]') LIMIT 1;
id
3
(1 row)
acme> SELECT x.id, x.d FROM (SELECT id, v <+> '[9.25,1]' AS d FROM p ORDER BY v <+> '[9.25,1]' LIMIT 2) x JOIN p USING (id) ORDER BY x.d DESC;
id|d
10|1.75
9|0.25
(2 rows)
acme> WITH near AS (SELECT a.id AS n, a.v AS w FROM p AS a WHERE a.id > 300) SELECT n FROM near ORDER BY w <-> '[250,0]' LIMIT 2;
n
301
302
(2 rows)
acme> SELECT id FROM p WHERE kind = 'k2' AND id < 50 ORDER BY v <-> '[100.2,0]' LIMIT 2;
id
47
44
(2 rows)
acme> SELECT id FROM p WHERE v <-> '[100.1,0]' < 1.6 ORDER BY v <-> '[100.1,0]' LIMIT 10;
id
100
101
99
(3 rows)
acme> SELECT id FROM p WHERE kind = 'nosuch' ORDER BY v <-> '[100,0]' LIMIT 10;
(0 rows)
acme> SELECT count(*), count(v) FROM (SELECT v FROM p WHERE id > 598 ORDER BY v <-> '[600.1,0]' LIMIT 10) x;
count|count
6|2
(1 row)
acme> SELECT count(*), count(d) FROM (SELECT v <-> '[1,1]' AS d FROM p ORDER BY d LIMIT 603) x;
count|count
603|600
(1 row)
acme> SELECT d IS NULL, count(*) FROM (SELECT v <-> NULL AS d FROM p ORDER BY d LIMIT 5) x GROUP BY 1;
?column?|count
t|5
(1 row)
acme> SELECT id FROM p ORDER BY v <-> '[1,2,3]' LIMIT 1;
ERROR 22000
acme> SELECT d, count(*) FROM (SELECT v <=> '[0,0]' AS d FROM p ORDER BY d LIMIT 2) x GROUP BY d;
d|count
NaN|2
(1 row)
acme> PREPARE near(vector, int, int) AS SELECT id FROM p WHERE id <> $3 ORDER BY v <-> $1 LIMIT $2;
acme> EXECUTE near('[100.2,0]'::vector, 2, 100);
id
101
99
(2 rows)
acme> EXECUTE near('[5.2,0]'::vector, 1, 0);
id
6
(1 row)
acme> EXECUTE near('[5.2,0]'::vector, 0, 0);
(0 rows)
# A transaction sees its own vectors, others do not; a rollback takes them back.
acme> BEGIN;
acme> DELETE FROM p WHERE id = 100;
acme> UPDATE p SET v = '[100,5]' WHERE id = 7;
acme> INSERT INTO p VALUES (1000, 'new', '[100.1,0]');
acme> SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 4;
id
1000
101
99
102
(4 rows)
acme/owner#2> SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 4;
id
100
101
99
102
(4 rows)
acme> ROLLBACK;
acme> SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 4;
id
100
101
99
102
(4 rows)
acme> UPDATE p SET v = '[1,1]', kind = 'moved' WHERE id = 100;
acme/owner#2> SELECT id FROM p ORDER BY v <-> '[100.2,0]' LIMIT 2;
id
101
99
(2 rows)
acme> SELECT id FROM p WHERE kind = 'moved' ORDER BY v <-> '[100.2,0]' LIMIT 2;
id
100
(1 row)
# The zero vector is at no angle to any: after all numbers, before NULL.
acme> INSERT INTO p VALUES (-1, 'zero', '[0,0]');
acme> SELECT count(*) FROM (SELECT v <=> '[1,0]' AS d FROM p ORDER BY d LIMIT 600) x WHERE d = 'NaN' OR d IS NULL;
count
0
(1 row)
acme> SELECT d FROM (SELECT v <=> '[1,0]' AS d FROM p ORDER BY d LIMIT 602) x WHERE d = 'NaN' OR d IS NULL ORDER BY d;
d
NaN
NULL
(2 rows)
acme> DELETE FROM p WHERE id = -1;
# What policies hide is not among the nearest, and costs none of them.
acme> CREATE USER bob PASSWORD 'pw-bob' IN ROLE member;
acme> GRANT SELECT ON p TO bob;
acme> ALTER TABLE p ENABLE ROW LEVEL SECURITY;
acme> CREATE POLICY few ON p USING (id % 100 = 0);
acme/bob> SELECT id FROM p ORDER BY v <-> '[290,0]' LIMIT 3;
id
300
200
400
(3 rows)
acme/bob> SELECT id FROM p WHERE id > 300 ORDER BY v <-> '[290,0]' LIMIT 9;
id
400
500
600
(3 rows)
acme/bob> SELECT count(*) FROM (SELECT id FROM p ORDER BY v <-> '[290,0]' LIMIT 100) x;
count
6
(1 row)
acme> TRUNCATE p;
acme> SELECT id FROM p ORDER BY v <-> '[290,0]' LIMIT 3;
(0 rows)
acme> INSERT INTO p SELECT i, 'k', ARRAY[i, 0]::vector FROM generate_series(1, 700) i;
acme> SELECT id FROM p ORDER BY v <-> '[290.2,0]' LIMIT 3;
id
290
291
289
(3 rows)
acme> ALTER TABLE p ALTER COLUMN v TYPE vector(1) USING ARRAY[id]::vector;
acme> DROP TABLE p;
