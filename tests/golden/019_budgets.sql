# Budgets: the tier's, the operator's and the owner's own stand beside each other; a hard one that is used up stops AI only.
acme> CREATE USER mel PASSWORD 'pw-mel' IN ROLE member;
acme> CREATE USER ann PASSWORD 'pw-ann' IN ROLE analyst;
acme> SELECT window, amount_usd, spent_usd, reserved_usd, remaining_usd, resets_at > now() AS later, hard, set_by, user_id FROM bulkhead.budgets;
window|amount_usd|spent_usd|reserved_usd|remaining_usd|later|hard|set_by|user_id
month|5|0|0|5|t|t|tier|NULL
(1 row)
bulkhead> SELECT bulkhead.set_budget('acme', 'month', 2.5);
set_budget
acme
(1 row)
bulkhead> SELECT bulkhead.set_budget('acme', 'day', 1, hard => false);
set_budget
acme
(1 row)
acme> SELECT window, amount_usd, hard, set_by FROM bulkhead.budgets ORDER BY set_by, window;
window|amount_usd|hard|set_by
day|1|f|operator
month|2.5|t|operator
month|5|t|tier
(3 rows)
# The owner's may only be lower than what the operator allows.
acme> SELECT bulkhead.set_budget('month', 3);
ERROR 22023: the budget cannot be higher than the operator's of 2.500000000 USD
acme> SELECT bulkhead.set_budget('month', -1);
ERROR 22023
acme> SELECT bulkhead.set_budget('week', 1);
ERROR 22023
acme> SELECT bulkhead.set_budget('month', 0.1::float8 + 0.1);
ERROR 42804
acme> SELECT bulkhead.set_budget(tenant => 'other', window => 'month', amount_usd => 1);
ERROR 42883
acme> SELECT bulkhead.set_budget('month', 2.4);
set_budget
t
(1 row)
acme> SELECT bulkhead.set_budget('day', 0.00001, user => 'mel');
set_budget
t
(1 row)
acme/mel> SELECT bulkhead.set_budget('month', 1);
ERROR 42501
acme/ann> SELECT bulkhead.set_budget('month', 1);
ERROR 42501
acme/ann> SELECT window, amount_usd, set_by, user_id FROM bulkhead.budgets ORDER BY set_by, window, user_id;
window|amount_usd|set_by|user_id
day|1|operator|NULL
month|2.5|operator|NULL
day|0.00001|owner|mel
month|2.4|owner|NULL
month|5|tier|NULL
(5 rows)
acme/mel> SELECT window, amount_usd, set_by, user_id FROM bulkhead.budgets WHERE set_by = 'owner' ORDER BY window;
window|amount_usd|set_by|user_id
day|0.00001|owner|mel
month|2.4|owner|NULL
(2 rows)
acme> BEGIN;
acme> SELECT bulkhead.set_budget('month', 1);
ERROR 25001
acme> ROLLBACK;
# A call counts in the windows of its user and of the tenant.
acme/mel> SELECT ai.complete('Say a word about lamps and boats.', max_tokens => 20) IS NOT NULL AS answered;
answered
t
(1 row)
acme/ann> SELECT window, set_by, user_id, spent_usd = (SELECT sum(cost_usd) FROM bulkhead.usage WHERE operation = 'complete') AS of_the_ledger, spent_usd + remaining_usd = amount_usd AS adds_up, reserved_usd FROM bulkhead.budgets ORDER BY set_by, window, user_id;
window|set_by|user_id|of_the_ledger|adds_up|reserved_usd
day|operator|NULL|t|t|0
month|operator|NULL|t|t|0
day|owner|mel|t|t|0
month|owner|NULL|t|t|0
month|tier|NULL|t|t|0
(5 rows)
bulkhead> SELECT tenant, window, amount_usd, set_by, hard, spent_usd > 0 AS spent, spent_usd + remaining_usd = amount_usd AS adds_up, reserved_usd, resets_at > now() AS later FROM bulkhead.budgets ORDER BY set_by, window;
tenant|window|amount_usd|set_by|hard|spent|adds_up|reserved_usd|later
acme|day|1|operator|f|t|t|0|t
acme|month|2.5|operator|t|t|t|0|t
acme|month|5|tier|t|t|t|0|t
umbra|month|5|tier|t|f|t|0|t
(4 rows)
# Above a hard limit AI functions are disabled, and plain SQL goes on.
acme> SELECT bulkhead.set_budget('day', 0.000000001, user => 'mel');
set_budget
t
(1 row)
acme/mel> SELECT ai.complete('Say another word about lamps and boats.', max_tokens => 20);
NOTICE 00000: max_tokens was lowered from 20 to 1
ERROR 53400: limit user_daily_budget is reached: 0.000001270 of 0.000000001 USD in use
acme/mel> SELECT count(*) FROM documents;
count
0
(1 row)
acme> SELECT ai.complete('Say a third word about lamps and boats.', max_tokens => 20) IS NOT NULL AS answered;
answered
t
(1 row)
acme> SELECT kind, message, data->>'user' AS user_id, data->>'threshold' AS threshold FROM bulkhead.alerts ORDER BY at, id;
kind|message|user_id|threshold
budget_threshold|50 % of the day's budget of 0.000000001 USD of user mel is used|mel|50
budget_threshold|80 % of the day's budget of 0.000000001 USD of user mel is used|mel|80
budget_threshold|the day's budget of 0.000000001 USD of user mel is used up (0.000001270 USD); AI functions are disabled until the window ends or it is raised|mel|100
(3 rows)
bulkhead> SELECT tenant, date = current_date AS today, threshold, alerts FROM bulkhead.alerts ORDER BY threshold;
tenant|today|threshold|alerts
acme|t|50|1
acme|t|80|1
acme|t|100|1
(3 rows)
bulkhead> SELECT message FROM bulkhead.alerts;
ERROR 42703
acme> SELECT bulkhead.set_budget('day', NULL, user => 'mel');
set_budget
f
(1 row)
acme/mel> SELECT ai.complete('Say a fourth word about lamps and boats.', max_tokens => 20) IS NOT NULL AS answered;
answered
t
(1 row)
acme> SELECT count(*) FROM bulkhead.budgets WHERE user_id IS NOT NULL;
count
0
(1 row)
# What is spent stays with the tenant: another one has its own.
umbra> SELECT window, spent_usd, set_by FROM bulkhead.budgets;
window|spent_usd|set_by
month|0|tier
(1 row)
umbra> SELECT count(*) FROM bulkhead.alerts;
count
0
(1 row)
# Rate limits
umbra> SELECT dimension, capacity, remaining, user_id FROM bulkhead.rate_limits;
dimension|capacity|remaining|user_id
tokens_per_minute|1000|1000|NULL
tokens_per_day|50000|50000|NULL
requests_per_minute|60|60|NULL
concurrent_calls|4|4|NULL
(4 rows)
umbra> SELECT * FROM bulkhead.check_limit(900);
allowed|remaining|retry_after_ms
t|1000|0
(1 row)
umbra> SELECT * FROM bulkhead.check_limit(900);
allowed|remaining|retry_after_ms
t|1000|0
(1 row)
umbra> SELECT * FROM bulkhead.check_limit(1001);
allowed|remaining|retry_after_ms
f|1000|NULL
(1 row)
umbra> SELECT * FROM bulkhead.check_limit(-1);
ERROR 22023
umbra> SELECT allowed FROM bulkhead.check_limit(tokens => 1);
allowed
t
(1 row)
acme/ann> SELECT * FROM bulkhead.check_limit(1);
ERROR 42501
acme/ann> SELECT count(*) FROM bulkhead.rate_limits;
count
4
(1 row)
acme> UPDATE bulkhead.budgets SET amount_usd = 100;
ERROR 42501
acme> DELETE FROM bulkhead.alerts;
ERROR 42501
acme> INSERT INTO bulkhead.rate_limits (dimension) VALUES ('x');
ERROR 42501
bulkhead> SELECT tenant, tier, state, active_days >= 1 AS active, last_active IS NOT NULL AS seen, llm_tokens > 0 AS used FROM bulkhead.tenant_stats WHERE tenant = 'acme';
tenant|tier|state|active|seen|used
acme|free|active|t|t|t
(1 row)
bulkhead> SELECT bulkhead.check_limit(1);
ERROR 42883
bulkhead> SELECT * FROM bulkhead.rate_limits;
ERROR 42P01
# A dropped tenant has no budgets any more; what it has used stays known.
bulkhead> SELECT bulkhead.drop_tenant('acme') IS NULL AS x;
x
f
(1 row)
bulkhead> SELECT count(*) FROM bulkhead.budgets WHERE tenant = 'acme';
count
0
(1 row)
bulkhead> SELECT state FROM bulkhead.tenant_stats WHERE tenant = 'acme';
state
dropped
(1 row)
# Limits of each single user, within those of the tenant; 0 takes one away.
bulkhead> SELECT bulkhead.set_tenant('umbra', user_tokens_per_day => 700, user_requests_per_minute => 20);
set_tenant
umbra
(1 row)
umbra> SELECT dimension, capacity, remaining, user_id FROM bulkhead.rate_limits WHERE user_id IS NOT NULL;
dimension|capacity|remaining|user_id
tokens_per_day|700|700|owner
requests_per_minute|20|20|owner
(2 rows)
umbra> SELECT * FROM bulkhead.check_limit(701);
allowed|remaining|retry_after_ms
f|700|NULL
(1 row)
bulkhead> SELECT bulkhead.set_tenant('umbra', user_tokens_per_day => 0);
set_tenant
umbra
(1 row)
umbra> SELECT dimension FROM bulkhead.rate_limits WHERE user_id IS NOT NULL;
dimension
requests_per_minute
(1 row)
bulkhead> SELECT bulkhead.set_tenant('umbra', user_concurrent_calls => -1);
ERROR 22023: a limit of a user is at least 1, or 0 for none
