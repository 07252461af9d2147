# Every AI call is one line; the day's costs are the sum of the lines, to the nano-dollar.
acme> SELECT ai.embed('a few words') IS NOT NULL AS done;
done
t
(1 row)
acme> INSERT INTO documents (title, content) VALUES ('t', 'Some text to pay for.');
INSERT 0 1
acme> SELECT ai.rag('What is there to pay for?') IS NOT NULL AS done;
done
t
(1 row)
acme> SELECT user_id, operation, status, prompt_tokens > 0 AS tokens, cost_usd >= 0 AS priced FROM bulkhead.usage WHERE operation IN ('embed', 'rag') ORDER BY at;
user_id|operation|status|tokens|priced
owner|embed|ok|t|t
owner|embed|ok|t|t
owner|rag|ok|t|t
(3 rows)
acme> SELECT date, (SELECT sum(cost_usd) FROM bulkhead.usage) = total_cost_usd AS equal FROM bulkhead.costs;
date|equal
{today}|t
(1 row)
acme> SELECT total >= llm AS adds FROM bulkhead.tenant_costs(current_date - 1, current_date);
adds
t
(1 row)
acme> UPDATE bulkhead.usage SET cost_usd = 0;
ERROR 42501
acme> DELETE FROM bulkhead.usage;
ERROR 42501
acme> INSERT INTO bulkhead.costs (date) VALUES (current_date);
ERROR 42501
bulkhead> SELECT tenant, total_cost_usd >= 0 AS seen FROM bulkhead.costs;
tenant|seen
acme|t
(1 row)
