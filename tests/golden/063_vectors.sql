# Vectors without a table: arithmetic, functions, casts and errors are pgvector's.
acme> SELECT '[1,2]'::vector + '[3,4]', '[1,2]'::vector - '[3,4]', '[1,2]'::vector * '[3,4]', '[1]'::vector || '[2,3]';
?column?|?column?|?column?|?column?
[4,6]|[-2,-2]|[3,8]|[1,2,3]
(1 row)
acme> SELECT '[1,2]'::vector <-> '[4,6]', '[1,1]'::vector <=> '[1,1]', '[1,2]'::vector <#> '[3,4]', '[1,2]'::vector <+> '[3,5]';
?column?|?column?|?column?|?column?
5|0|-11|5
(1 row)
acme> SELECT l2_distance('[1,2]', '[4,6]'), l1_distance('[1,2]', '[3,5]'), vector_dims('[1,2,3]'::vector), vector_norm('[3,4]'), l2_normalize('[3,4]'), subvector('[1,2,3,4]'::vector, 2, 2);
l2_distance|l1_distance|vector_dims|vector_norm|l2_normalize|subvector
5|5|3|5|[0.6,0.8]|[2,3]
(1 row)
acme> SELECT avg(v), sum(v), count(v) FROM (VALUES ('[1,2]'::vector), ('[3,6]')) x(v);
avg|sum|count
[2,4]|[4,8]|2
(1 row)
acme> SELECT avg(v) FROM (VALUES ('[1,2]'::vector)) x(v) WHERE false;
avg
NULL
(1 row)
acme> SELECT DISTINCT v FROM (VALUES ('[1,2]'::vector), ('[1,2]'), ('[0,1]')) x(v) ORDER BY v;
v
[0,1]
[1,2]
(2 rows)
acme> SELECT '[1,2]'::vector = '[1,2]', '[1,2]'::vector < '[1,3]', ARRAY[1, 2]::vector, ARRAY[1.5, 2]::real[]::vector(2), '[1.0001]'::halfvec;
?column?|?column?|array|array|halfvec
t|t|[1,2]|[1.5,2]|[1]
(1 row)
acme> SELECT '[1,2,3]'::vector(2);
ERROR 22000: expected 2 dimensions, not 3
acme> SELECT '[1,2]'::vector + '[3]';
ERROR 22000: different vector dimensions 2 and 1
acme> SELECT '[1,x]'::vector;
ERROR 22P02: invalid input syntax for type vector: "[1,x]"
acme> SELECT ARRAY[1, NULL]::vector;
ERROR 22004: array must not contain nulls
acme> SELECT 1::vector;
ERROR 42846: cannot cast type integer to vector
