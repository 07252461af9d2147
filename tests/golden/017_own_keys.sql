# A tenant's own key of a provider: set by its owner, listed without the key, used for nobody else.
bulkhead> INSERT INTO bulkhead.providers (name, base_url) VALUES ('openai', 'https://api.openai.com/v1');
acme> CREATE USER mel PASSWORD 'pw-mel' IN ROLE member;
acme> CREATE USER ann PASSWORD 'pw-ann' IN ROLE analyst;
acme> CREATE USER sam PASSWORD 'pw-sam' IN ROLE service;
acme> SELECT bulkhead.set_provider_key('openai', 'sk-canary-own');
set_provider_key
t
(1 row)
acme> SELECT * FROM bulkhead.provider_keys;
provider|set_at
openai|{time}
(1 row)
umbra> SELECT count(*) FROM bulkhead.provider_keys;
count
0
(1 row)
acme> SELECT bulkhead.set_provider_key('nosuch', 'sk-canary-own');
ERROR 42704: provider "nosuch" does not exist
acme> SELECT bulkhead.set_provider_key('openai', 'sk canary');
ERROR 22023: an API key is 1 to 512 printable ASCII characters without blanks
acme> SELECT bulkhead.set_provider_key('openai', 'sk-canary-own', 'more');
ERROR 42883: function bulkhead.set_provider_key does not exist with these arguments
acme> SELECT bulkhead.set_provider_key('openai');
ERROR 42883
acme> SELECT bulkhead.set_provider_key(NULL, 'sk-canary-own');
ERROR 22023: bulkhead.set_provider_key: provider must not be null
acme/mel> SELECT bulkhead.set_provider_key('openai', 'sk-mine');
ERROR 42501
acme/ann> SELECT bulkhead.set_provider_key('openai', 'sk-mine');
ERROR 42501
acme/sam> SELECT bulkhead.set_provider_key('openai', NULL);
ERROR 42501
acme/mel> SELECT * FROM bulkhead.provider_keys;
ERROR 42501
acme/ann> SELECT * FROM bulkhead.provider_keys;
ERROR 42501
acme/ann> SELECT * FROM bulkhead.models;
ERROR 42501
acme> INSERT INTO bulkhead.provider_keys (provider) VALUES ('x');
ERROR 42501
acme> BEGIN;
acme> SELECT bulkhead.set_provider_key('openai', NULL);
ERROR 25001
acme> ROLLBACK;
# What was prepared is listed without its literals.
acme> PREPARE p AS SELECT bulkhead.set_provider_key('openai', 'sk-canary-own');
acme> PREPARE q AS SELECT bulkhead.set_provider_key($1, 'sk-canary-own') WHERE $$sk-canary-own$$ <> E'sk-canary-own';
acme> PREPARE r AS SELECT 'kept' AS kept;
acme> SELECT name, statement FROM pg_prepared_statements ORDER BY name;
name|statement
p|SELECT bulkhead.set_provider_key('********', '********')
q|SELECT bulkhead.set_provider_key($1, '********') WHERE '********' '********' '********'
r|SELECT 'kept' AS kept
(3 rows)
bulkhead> PREPARE s AS INSERT INTO bulkhead.providers (name, base_url, api_key) VALUES ('p', 'https://h/', 'sk-canary-own');
bulkhead> PREPARE t AS UPDATE bulkhead."providers" SET "api_key" = 'sk-canary-own' WHERE name = "sk-canary-own";
ERROR 42703
bulkhead> SELECT statement FROM pg_prepared_statements;
statement
INSERT INTO bulkhead.providers (name, base_url, api_key) VALUES ('********', '********', '********')
(1 row)
acme> EXECUTE p;
set_provider_key
t
(1 row)
acme> SELECT bulkhead.set_provider_key('openai', NULL);
set_provider_key
f
(1 row)
acme> SELECT count(*) FROM bulkhead.provider_keys;
count
0
(1 row)
bulkhead> SELECT bulkhead.set_provider_key('openai', 'sk');
ERROR 42883
bulkhead> SELECT * FROM bulkhead.provider_keys;
ERROR 42P01
