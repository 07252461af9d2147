# What a session asks of model calls are settings, as strict as the others.
acme> SHOW ai.cache;
ai.cache
on
(1 row)
acme> SET ai.cache = off;
acme> SET ai.cache_ttl = 90;
acme> SHOW ai.cache_ttl;
ai.cache_ttl
90s
(1 row)
acme> SET bulkhead.limit_wait = '5s';
acme> SET ai.max_statement_usd = 0.05;
acme> SHOW ai.max_statement_usd;
ai.max_statement_usd
0.050000000
(1 row)
acme> SET ai.on_error = 'null';
acme> SHOW ai.on_error;
ai.on_error
null
(1 row)
acme> SET ai.on_error = 'ignore';
ERROR 22023
acme> SET ai.max_statement_usd = '-1';
ERROR 22023
acme> SET ai.memory = 'summary';
acme> SET ai.idempotency_key = 'order-7';
acme> SELECT current_setting('ai.idempotency_key'), current_setting('ai.cache');
current_setting|current_setting
order-7|off
(1 row)
acme> BEGIN;
acme> SET LOCAL ai.max_statement_usd = 1;
acme> ROLLBACK;
acme> SHOW ai.max_statement_usd;
ai.max_statement_usd
0.050000000
(1 row)
acme> RESET ALL;
acme> SHOW ai.max_statement_usd;
ai.max_statement_usd
none
(1 row)
# Alerts are a channel in which only the server speaks.
acme> LISTEN bulkhead_alerts;
acme> LISTEN "bulkhead_alerts";
acme> LISTEN;
ERROR 42601
acme> LISTEN bulkhead_alerts orders;
ERROR 42601
acme> UNLISTEN bulkhead_alerts;
acme> UNLISTEN *;
acme> NOTIFY bulkhead_alerts;
ERROR 42501: permission denied for channel bulkhead_alerts
acme> SELECT pg_notify('bulkhead_alerts', 'false');
ERROR 42501
bulkhead> LISTEN bulkhead_alerts;
ERROR 0A000
