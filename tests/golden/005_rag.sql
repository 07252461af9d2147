# An answer quotes the tenant's own chunks, and costs are on its own ledger.
acme>  INSERT INTO ai.documents (title, content) VALUES ('Shipping', 'Orders ship within two days. Returns are free for thirty days.');
INSERT 0 1
umbra> INSERT INTO ai.documents (title, content) VALUES ('Shipping', 'Orders ship within nine weeks. Returns are never accepted.');
INSERT 0 1
acme>  SELECT ai.rag('How long are returns free?') LIKE '%thirty days%' AS own;
own
t
(1 row)
umbra> SELECT ai.rag('How long are returns free?') LIKE '%thirty days%' AS foreign_answer;
foreign_answer
f
(1 row)
acme>  SELECT answer LIKE '%two days%' AS own, citations->0->>'title' AS title, citations->0->>'quote' LIKE '%two days%' AS quoted, model, prompt_tokens > 0 AS asked, completion_tokens > 0 AS said, cost_usd >= 0 AS priced, cached, usage_id IS NOT NULL AS booked FROM ai.rag('How fast do orders ship?');
own|title|quoted|model|asked|said|priced|cached|booked
t|Shipping|t|builtin-extractive|t|t|t|f|t
(1 row)
acme>  SELECT count(*) FROM bulkhead.usage u JOIN ai.rag('How fast do orders ship?') r ON r.usage_id = u.id;
count
0
(1 row)
umbra> SELECT operation, user_id, status FROM bulkhead.usage WHERE operation = 'rag';
operation|user_id|status
rag|owner|ok
(1 row)
