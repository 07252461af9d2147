# A provider's key can be written and nothing reads, compares, copies or returns it.
bulkhead> INSERT INTO bulkhead.providers (name, base_url, api_key) VALUES ('openai', 'https://api.openai.com/v1', 'sk-canary-7Q') RETURNING *;
name|base_url|api_key|region|timeout_ms
openai|https://api.openai.com/v1|********|NULL|60000
(1 row)
bulkhead> INSERT INTO bulkhead.providers (name, base_url, region, timeout_ms) VALUES ('local', 'http://127.0.0.1:11434/v1', 'here', 5000) RETURNING *;
name|base_url|api_key|region|timeout_ms
local|http://127.0.0.1:11434/v1|NULL|here|5000
(1 row)
bulkhead> SELECT * FROM bulkhead.providers ORDER BY name;
name|base_url|api_key|region|timeout_ms
local|http://127.0.0.1:11434/v1|NULL|here|5000
openai|https://api.openai.com/v1|********|NULL|60000
(2 rows)
bulkhead> SELECT name FROM bulkhead.providers WHERE api_key = 'sk-canary-7Q';
(0 rows)
bulkhead> SELECT name FROM bulkhead.providers WHERE api_key LIKE 'sk-%' OR api_key ~ '^sk' OR api_key > 'sk' OR length(api_key) = 12;
(0 rows)
bulkhead> SELECT count(*) FROM bulkhead.providers WHERE api_key <> 'sk-canary-7Q';
count
1
(1 row)
bulkhead> SELECT md5(api_key) = md5('sk-canary-7Q') AS same, api_key::bytea, substr(api_key, 1, 3), api_key || '' AS joined FROM bulkhead.providers WHERE name = 'openai';
same|api_key|substring|joined
f|\\x2a2a2a2a2a2a2a2a|***|********
(1 row)
bulkhead> SELECT name FROM bulkhead.providers ORDER BY api_key = 'sk-canary-7Q' DESC, api_key, name;
name
local
openai
(2 rows)
bulkhead> SELECT api_key::int FROM bulkhead.providers WHERE name = 'openai';
ERROR 22P02: invalid input syntax for type integer: "********"
bulkhead> SELECT 1 / (CASE WHEN api_key = 'sk-canary-7Q' THEN 0 ELSE 1 END) AS x FROM bulkhead.providers;
x
1
1
(2 rows)
bulkhead> SELECT min(api_key), max(api_key), string_agg(api_key, ',') FROM bulkhead.providers;
min|max|string_agg
********|********|********
(1 row)
bulkhead> UPDATE bulkhead.providers SET region = api_key WHERE name = 'openai' RETURNING *;
name|base_url|api_key|region|timeout_ms
openai|https://api.openai.com/v1|********|********|60000
(1 row)
bulkhead> UPDATE bulkhead.providers SET region = 'us' WHERE api_key = 'sk-canary-7Q';
bulkhead> DELETE FROM bulkhead.providers WHERE api_key = 'sk-canary-7Q';
bulkhead> UPDATE bulkhead.providers SET timeout_ms = CASE WHEN api_key = 'sk-canary-7Q' THEN 1 ELSE 2000 END WHERE name = 'openai' RETURNING timeout_ms, api_key;
timeout_ms|api_key
2000|********
(1 row)
bulkhead> INSERT INTO bulkhead.providers (name, base_url, api_key) SELECT 'copy', 'https://evil.example/v1', api_key FROM bulkhead.providers WHERE name = 'openai';
ERROR 22023: the key of another provider cannot be copied
# It stays with its host: sent elsewhere it could be read there.
bulkhead> UPDATE bulkhead.providers SET base_url = 'https://evil.example/v1' WHERE name = 'openai';
ERROR 42501: the key of provider "openai" belongs to its present host
bulkhead> UPDATE bulkhead.providers SET base_url = 'http://api.openai.com/v1', api_key = api_key WHERE name = 'openai';
ERROR 42501
bulkhead> UPDATE bulkhead.providers SET base_url = 'https://api.openai.com/v2', api_key = api_key WHERE name = 'openai' RETURNING base_url, api_key;
base_url|api_key
https://api.openai.com/v2|********
(1 row)
bulkhead> UPDATE bulkhead.providers SET base_url = 'https://eu.openai.example/v1', api_key = 'sk-other' WHERE name = 'openai' RETURNING base_url, api_key;
base_url|api_key
https://eu.openai.example/v1|********
(1 row)
bulkhead> UPDATE bulkhead.providers SET api_key = NULL WHERE name = 'openai' RETURNING api_key;
api_key
NULL
(1 row)
# What cannot be a provider is refused, and the key not repeated.
bulkhead> INSERT INTO bulkhead.providers (name, base_url, api_key) VALUES ('bad', 'https://ok.example/v1', 'sk canary with blanks');
ERROR 22023: an API key is 1 to 512 printable ASCII characters without blanks
bulkhead> INSERT INTO bulkhead.providers (name, base_url) VALUES ('bad', 'ftp://host/');
ERROR 23514
bulkhead> INSERT INTO bulkhead.providers (name, base_url) VALUES ('bad', 'https://user:secret@host/');
ERROR 23514: the URL must not hold a user or a password
bulkhead> INSERT INTO bulkhead.providers (name, base_url, timeout_ms) VALUES ('bad', 'https://host/', 0);
ERROR 23514
bulkhead> INSERT INTO bulkhead.providers (name, base_url) VALUES ('builtin', 'https://host/');
ERROR 23514
bulkhead> INSERT INTO bulkhead.providers (name, base_url) VALUES ('local', 'https://host/');
ERROR 23505
bulkhead> INSERT INTO bulkhead.providers (name, base_url) VALUES ('two', 'https://host/'), ('two', 'https://host/');
ERROR 23505
bulkhead> INSERT INTO bulkhead.providers (name) VALUES ('bad');
ERROR 23502
bulkhead> UPDATE bulkhead.providers SET name = 'other' WHERE name = 'local';
ERROR 0A000
bulkhead> BEGIN;
bulkhead> DELETE FROM bulkhead.providers;
ERROR 25001
bulkhead> ROLLBACK;
# Models name a provider that exists, and keep it.
bulkhead> UPDATE bulkhead.models SET provider = 'nosuch' WHERE name = 'default-small';
ERROR 23503: provider "nosuch" does not exist
bulkhead> INSERT INTO bulkhead.models VALUES ('small', 'local', 'llama3', 'chat', 8192, 1024, '2030-01-01');
bulkhead> INSERT INTO bulkhead.models VALUES ('small', 'local', 'llama3', 'chat', 8192, 1024);
ERROR 23505
bulkhead> SELECT * FROM bulkhead.models WHERE name = 'small';
name|provider|model|kind|context_tokens|max_output_tokens|retires_at
small|local|llama3|chat|8192|1024|2030-01-01 00:00:00+00
(1 row)
bulkhead> DELETE FROM bulkhead.providers WHERE name = 'local';
ERROR 23503
bulkhead> UPDATE bulkhead.models SET kind = 'picture' WHERE name = 'small';
ERROR 23514
bulkhead> UPDATE bulkhead.models SET context_tokens = 0 WHERE name = 'small';
ERROR 23514
bulkhead> UPDATE bulkhead.models SET max_output_tokens = 0 WHERE name = 'small';
ERROR 23514
bulkhead> UPDATE bulkhead.models SET max_output_tokens = 9000 WHERE name = 'small';
ERROR 23514
bulkhead> UPDATE bulkhead.models SET model = 'gpt-4o-mini' WHERE name = 'default-small';
ERROR 23514
bulkhead> UPDATE bulkhead.models SET kind = 'chat', model = 'builtin-extractive', max_output_tokens = 5 WHERE name = 'default-embedding';
ERROR 23503
bulkhead> UPDATE bulkhead.models SET retires_at = NULL, provider = 'local', model = 'llama3' WHERE name = 'default-small' RETURNING provider, model, retires_at;
provider|model|retires_at
local|llama3|NULL
(1 row)
bulkhead> DELETE FROM bulkhead.models WHERE name = 'default-small';
ERROR 23503
bulkhead> DELETE FROM bulkhead.models WHERE name = 'small';
bulkhead> UPDATE bulkhead.models SET provider = 'builtin', model = 'builtin-extractive' WHERE name = 'default-small';
bulkhead> UPDATE bulkhead.tiers SET model = 'nosuch' WHERE name = 'free';
ERROR 23503
bulkhead> UPDATE bulkhead.tiers SET model = 'default-embedding' WHERE name = 'free';
ERROR 23503: model "default-embedding" is no chat model
acme> SELECT 1 AS one;
one
1
(1 row)
bulkhead> DELETE FROM bulkhead.tiers WHERE name = 'free';
ERROR 23503: tier "free" is still used by tenant "acme"
bulkhead> DELETE FROM bulkhead.providers WHERE name = 'local';
bulkhead> SELECT name FROM bulkhead.providers;
name
openai
(1 row)
# To a tenant there are no providers, and no addresses of models.
acme> SELECT * FROM bulkhead.providers;
ERROR 42P01
acme> SELECT * FROM bulkhead.models ORDER BY name;
name|kind|context_tokens|max_output_tokens|retires_at
default-embedding|embedding|8192|0|NULL
default-large|chat|8192|4096|NULL
default-small|chat|8192|4096|NULL
(3 rows)
acme> SELECT provider FROM bulkhead.models;
ERROR 42703
acme> UPDATE bulkhead.models SET name = 'mine';
ERROR 42501
