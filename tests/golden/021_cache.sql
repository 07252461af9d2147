# Answers are given again to the same user of the same tenant, until the documents change; a hit costs nothing.
bulkhead> UPDATE bulkhead.tiers SET tokens_per_minute = 100000 WHERE name = 'free';
acme> CREATE USER ada PASSWORD 'pw-ada' IN ROLE member;
acme> CREATE USER ann PASSWORD 'pw-ann' IN ROLE analyst;
acme> SELECT * FROM bulkhead.cache_stats;
entries|bytes|hits|misses|saved_usd
0|0|0|0|0
(1 row)
acme> INSERT INTO documents (title, content) VALUES ('lamp', 'The lamp is in the attic.');
umbra> INSERT INTO documents (title, content) VALUES ('lamp', 'The lamp is in the attic.');
acme> SELECT answer, cached FROM ai.rag('Where is the lamp?');
answer|cached
The lamp is in the attic. [1]|f
(1 row)
acme> SELECT answer, cached, cost_usd FROM ai.rag('Where is the lamp?');
answer|cached|cost_usd
The lamp is in the attic. [1]|t|0
(1 row)
acme#2> SELECT cached FROM ai.rag('Where is the lamp?');
cached
t
(1 row)
# another user, another tenant, another parameter: another answer
acme/ada> SELECT cached FROM ai.rag('Where is the lamp?');
cached
f
(1 row)
umbra> SELECT cached FROM ai.rag('Where is the lamp?');
cached
f
(1 row)
acme> SELECT cached FROM ai.rag('Where is the lamp?', k => 4);
cached
f
(1 row)
acme> SELECT cached FROM ai.rag('Where is the lamp?', max_tokens => 50);
cached
f
(1 row)
acme> SELECT cached FROM ai.rag('Where is the lamp ?');
cached
f
(1 row)
acme> SELECT entries, hits, misses FROM bulkhead.cache_stats;
entries|hits|misses
5|2|5
(1 row)
umbra> SELECT entries, hits, misses, saved_usd FROM bulkhead.cache_stats;
entries|hits|misses|saved_usd
1|0|1|0
(1 row)
acme/ann> SELECT entries FROM cache_stats;
entries
5
(1 row)
acme> SELECT status, count(*), sum(cost_usd) AS cost FROM bulkhead.usage WHERE operation = 'rag' GROUP BY status ORDER BY status;
status|count|cost
cache_hit|2|0
ok|5|0.00001031
(2 rows)
# every change of the documents ends what was found before
acme> UPDATE documents SET content = 'The lamp is in the cellar.';
acme> SELECT answer, cached FROM ai.rag('Where is the lamp?');
answer|cached
The lamp is in the cellar. [1]|f
(1 row)
acme> SELECT answer, cached FROM ai.rag('Where is the lamp?');
answer|cached
The lamp is in the cellar. [1]|t
(1 row)
acme> SELECT ai.ingest('boat', 'The boat is on the river.') IS NOT NULL AS done;
done
t
(1 row)
acme> SELECT cached FROM ai.rag('Where is the lamp?');
cached
f
(1 row)
acme> DELETE FROM documents WHERE title = 'lamp';
acme> SELECT answer LIKE '%cellar%' AS stale, cached FROM ai.rag('Where is the lamp?');
stale|cached
f|f
(1 row)
acme> SELECT ai.create_conversation('talk') IS NOT NULL AS made;
made
t
(1 row)
acme> SELECT cached FROM ai.rag('Where is the lamp?');
cached
t
(1 row)
# a transaction's own documents are nobody else's, and their answers are not kept
acme> BEGIN;
acme> INSERT INTO documents (title, content) VALUES ('lamp', 'The lamp is in my pocket.');
acme> SELECT answer, cached FROM ai.rag('Where is the lamp?');
answer|cached
The lamp is in my pocket. [1]|f
(1 row)
acme#2> SELECT answer LIKE '%pocket%' AS leaked, cached FROM ai.rag('Where is the lamp?');
leaked|cached
f|t
(1 row)
acme> ROLLBACK;
acme> SELECT answer LIKE '%pocket%' AS remembered, cached FROM ai.rag('Where is the lamp?');
remembered|cached
f|t
(1 row)
# switched off, too old, cleared
acme> SET ai.cache = off;
acme> SELECT cached FROM ai.rag('Where is the lamp?');
cached
f
(1 row)
acme> RESET ai.cache;
acme> SET ai.cache_ttl = '0s';
acme> SELECT cached FROM ai.rag('Where is the lamp?');
cached
f
(1 row)
acme> RESET ai.cache_ttl;
acme/ann> SELECT ai.clear_cache();
ERROR 42501
acme> SELECT ai.clear_cache() > 0 AS cleared;
cleared
t
(1 row)
acme> SELECT cached FROM ai.rag('Where is the lamp?');
cached
f
(1 row)
umbra> SELECT cached FROM ai.rag('Where is the lamp?');
cached
t
(1 row)
acme> DELETE FROM bulkhead.cache_stats;
ERROR 42501
# one idempotency key is one call, whatever happens to the documents
acme> SET ai.idempotency_key = 'k1';
acme> SELECT answer LIKE '%river%' AS river, cached FROM ai.rag('Where is the boat?');
river|cached
t|f
(1 row)
acme> UPDATE documents SET content = 'The boat has sunk.';
acme> SELECT answer LIKE '%river%' AS river, cached FROM ai.rag('Where is the boat?');
river|cached
t|t
(1 row)
acme> SELECT cached FROM ai.rag('Where is the lamp?');
ERROR 22023
acme> SET ai.idempotency_key = 'k2';
acme> SELECT answer LIKE '%sunk%' AS sunk, cached FROM ai.rag('Where is the boat?');
sunk|cached
t|f
(1 row)
acme/ada> SET ai.idempotency_key = 'k1';
acme/ada> SELECT cached FROM ai.rag('Where is the boat?');
cached
f
(1 row)
