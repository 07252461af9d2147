-- What a person does with psql on the first day. Run by tests/clients.rs with ON_ERROR_STOP.
\echo connected as :USER to :DBNAME
SELECT version();
SELECT current_tenant(), current_user;
SELECT ai.ingest('Rivers', 'The Rhine flows past Basel and Cologne.');
INSERT INTO ai.documents (title, content, metadata)
  VALUES ('Attic', 'The lamp is in the attic.', '{"room": "attic"}'),
         ('Returns', 'Returns are free for thirty days.', '{"room": "office"}');
SELECT title, left(content, 30) AS content FROM documents ORDER BY title;
SELECT rank, round(score::numeric, 3) AS score, title, content FROM ai.search('Which river flows past Cologne?', k => 1);
SELECT ai.rag('How long are returns free?');
SELECT answer, jsonb_array_length(citations) > 0 AS cited, model, cost_usd FROM ai.rag('How long are returns free?') \gx
SELECT content, round(distance::numeric, 2) AS distance FROM vector_search('ai.chunks', 'lamp', k => 1);
SELECT operation, count(*) FROM bulkhead.usage GROUP BY operation ORDER BY operation;
SELECT date = current_date AS today, total_cost_usd >= 0 AS total FROM bulkhead.costs;
SELECT * FROM bulkhead.tenant_costs(current_date - 30, current_date);
BEGIN;
DELETE FROM documents WHERE title = 'Attic';
ROLLBACK;
SELECT count(*) = 3 AS all_there FROM documents \gset
\if :all_there
\echo done: psql
\endif
