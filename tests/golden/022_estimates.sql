# EXPLAIN says what the calls of models would cost, one for each distinct input, and makes none of them.
bulkhead> UPDATE bulkhead.tiers SET tokens_per_minute = 100000 WHERE name = 'free';
acme> EXPLAIN SELECT ai.complete('word ' || (n % 3)::text, max_tokens => 10, system => '') FROM generate_series(1, 100) AS g(n);
acme> SELECT count(*) FROM bulkhead.usage WHERE operation IN ('complete', 'rag', 'embed');
count
0
(1 row)
acme> EXPLAIN SELECT ai.embed('four words of text');
acme> SELECT count(DISTINCT ai.complete('word ' || (n % 3)::text, max_tokens => 10, system => '')) FROM generate_series(1, 100) AS g(n);
count
1
(1 row)
acme> SELECT count(*), sum(prompt_tokens) FROM bulkhead.usage WHERE operation = 'complete';
count|sum
3|30
(1 row)
