# The operator sets what one tenant gets: prompt, models, zone, budgets; amounts are exact.
bulkhead> SELECT bulkhead.create_tenant('plain', tier => 'pro', owner => 'owner', password => 'pw-owner');
create_tenant
plain
(1 row)
bulkhead> SELECT bulkhead.create_tenant('grand', tier => 'enterprise', owner => 'owner', password => 'pw-owner');
create_tenant
grand
(1 row)
bulkhead> SELECT bulkhead.set_tenant(tenant => 'grand', system_prompt => 'Answer in verse.', timezone => 'Europe/Berlin');
set_tenant
grand
(1 row)
bulkhead> SELECT bulkhead.set_tenant('grand', model => 'default-small', embedding_model => 'default-embedding');
set_tenant
grand
(1 row)
bulkhead> SELECT bulkhead.set_tenant('grand', webhook => 'https://hooks.example/alerts', allow_unpriced => true);
set_tenant
grand
(1 row)
bulkhead> SELECT bulkhead.set_tenant('plain', system_prompt => 'Answer in verse.');
ERROR 42501: tier "pro" has no system prompt of its own
bulkhead> SELECT bulkhead.set_tenant('plain', timezone => 'Asia/Tokyo', system_prompt => '');
set_tenant
plain
(1 row)
bulkhead> SELECT bulkhead.set_tenant('plain', timezone => 'Atlantis/Sea');
ERROR 22023
bulkhead> SELECT bulkhead.set_tenant('plain', model => 'nosuch');
ERROR 42704: model "nosuch" does not exist
bulkhead> SELECT bulkhead.set_tenant('plain', model => 'default-embedding');
ERROR 42704
bulkhead> SELECT bulkhead.set_tenant('plain', embedding_model => 'default-large');
ERROR 42704
bulkhead> SELECT bulkhead.set_tenant('plain', webhook => 'https://user:pw@hooks.example/');
ERROR 23514
bulkhead> SELECT bulkhead.set_tenant('grand', system_prompt => repeat('x', 40000));
ERROR 54000
bulkhead> SELECT bulkhead.set_tenant('nobody', timezone => 'UTC');
ERROR 42704
bulkhead> SELECT bulkhead.set_tenant(NULL);
ERROR 22023
# A model that a tenant was given stays.
bulkhead> INSERT INTO bulkhead.models VALUES ('house', 'builtin', 'builtin-extractive', 'chat', 8192, 1024);
bulkhead> SELECT bulkhead.set_tenant('plain', model => 'house');
set_tenant
plain
(1 row)
bulkhead> DELETE FROM bulkhead.models WHERE name = 'house';
ERROR 23503: chat model "house" is still used by tenant "plain"
bulkhead> SELECT bulkhead.set_tenant('plain', model => '');
set_tenant
plain
(1 row)
bulkhead> DELETE FROM bulkhead.models WHERE name = 'house';
# Budgets
bulkhead> SELECT bulkhead.set_budget(tenant => 'plain', window => 'month', amount_usd => 50, hard => true);
set_budget
plain
(1 row)
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 0.000000001);
set_budget
plain
(1 row)
bulkhead> SELECT bulkhead.set_budget('plain', 'day', '2.50', hard => false);
set_budget
plain
(1 row)
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 1.10::numeric);
set_budget
plain
(1 row)
bulkhead> SELECT bulkhead.set_budget('plain', 'day', amount_usd => NULL);
set_budget
plain
(1 row)
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 0.0000000001);
ERROR 22023: an amount of USD has at most nine digits after the point
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 0.1::float8 + 0.2);
ERROR 42804: bulkhead.set_budget: amount_usd must be numeric
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 1e3);
ERROR 22P02
bulkhead> SELECT bulkhead.set_budget('plain', 'day', -1);
ERROR 22023: a budget cannot be negative
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 99999999999);
ERROR 22003
bulkhead> SELECT bulkhead.set_budget('plain', 'week', 1);
ERROR 22023
bulkhead> SELECT bulkhead.set_budget('nobody', 'day', 1);
ERROR 42704
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 1, hard => NULL);
ERROR 22023
bulkhead> BEGIN;
bulkhead> SELECT bulkhead.set_budget('plain', 'day', 1);
ERROR 25001
bulkhead> ROLLBACK;
grand> SELECT bulkhead.set_tenant('grand', system_prompt => 'Mine.');
ERROR 42883
