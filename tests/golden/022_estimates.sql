# EXPLAIN says what the calls of models would cost, one for each distinct input, and makes none of them.
bulkhead> UPDATE bulkhead.tiers SET tokens_per_minute = 100000 WHERE name = 'free';
acme> EXPLAIN SELECT ai.complete('word ' || (n % 3)::text, max_tokens => 10, system => '') FROM generate_series(1, 100) AS g(n);
QUERY PLAN
Function Scan on generate_series  (cost=0.00..10.00 rows=1000 width=32)
AI calls: ai.complete: 3 (one for each distinct input), about 33 prompt tokens, at most 30 completion tokens, at most 0.000001530 USD
(2 rows)
acme> SELECT count(*) FROM bulkhead.usage WHERE operation IN ('complete', 'rag', 'embed');
count
0
(1 row)
acme> EXPLAIN SELECT ai.embed('four words of text');
QUERY PLAN
Result  (cost=0.00..0.01 rows=1 width=32)
AI calls: ai.embed: 1 (one for each distinct input), about 4 prompt tokens, at most 0 completion tokens, at most 0.000000004 USD
(2 rows)
acme> SELECT count(*), count(DISTINCT answer) FROM (SELECT ai.complete('word ' || (n % 3)::text, max_tokens => 10, system => '') AS answer FROM generate_series(1, 100) AS g(n)) AS answers;
count|count
100|1
(1 row)
acme> SELECT count(*), sum(prompt_tokens) FROM bulkhead.usage WHERE operation = 'complete';
count|sum
3|33
(1 row)
