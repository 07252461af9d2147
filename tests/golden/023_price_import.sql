# LiteLLM's price file: exact nano-USD, finer prices rounded up and told, what it says twice written once.
bulkhead> SELECT bulkhead.import_prices('{"gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.5e-07, "cache_read_input_token_cost": 7.5e-08, "output_cost_per_token": 6e-07}, "text-embedding-3-small": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08}, "tiny": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1.5e-10, "output_cost_per_token": 1e-09}, "picture": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_pixel": 1e-09}, "mine": {"litellm_provider": "builtin", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0}}', valid_from => '2026-03-01');
import_prices
{"rounded": [{"usd": "1.5e-10", "name": "tiny", "field": "input_cost_per_token", "nanousd": 1}], "skipped": [{"why": "its provider is this server", "name": "builtin/mine@2026-03-01"}, {"why": "mode image_generation is not charged by the token", "name": "picture"}], "imported": 3, "unchanged": 0, "valid_from": "2026-03-01", "long_context": [], "rounded_count": 1, "skipped_count": 2, "long_context_count": 0}
(1 row)
bulkhead> SELECT provider, model, valid_from, input_nanousd, cached_input_nanousd, output_nanousd, embedding_nanousd FROM bulkhead.model_prices WHERE provider NOT IN ('builtin', 'database') ORDER BY provider, model;
provider|model|valid_from|input_nanousd|cached_input_nanousd|output_nanousd|embedding_nanousd
openai|gpt-4o-mini|2026-03-01|150|75|600|0
openai|text-embedding-3-small|2026-03-01|0|0|0|20
other|tiny|2026-03-01|1|1|1|0
(3 rows)
# Again, and later with one change: only that is written.
bulkhead> SELECT bulkhead.import_prices('{"gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.5e-07, "cache_read_input_token_cost": 7.5e-08, "output_cost_per_token": 6e-07}}', '2026-03-01')->>'unchanged' AS unchanged;
unchanged
1
(1 row)
bulkhead> SELECT r->>'imported' AS imported, r->>'unchanged' AS unchanged FROM (SELECT bulkhead.import_prices('{"gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.0e-07, "output_cost_per_token": 6e-07}, "text-embedding-3-small": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08}}', '2026-04-01') AS r) AS x;
imported|unchanged
1|1
(1 row)
bulkhead> SELECT valid_from, input_nanousd FROM bulkhead.model_prices WHERE model = 'gpt-4o-mini' ORDER BY valid_from;
valid_from|input_nanousd
2026-03-01|150
2026-04-01|100
(2 rows)
bulkhead> SELECT bulkhead.import_prices('{"gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 9e-07, "output_cost_per_token": 6e-07}}') ->> 'valid_from' = current_date::text AS today;
today
t
(1 row)
bulkhead> SELECT bulkhead.import_prices('[1, 2]');
ERROR 22P02
bulkhead> SELECT bulkhead.import_prices('{"a": ');
ERROR 22P02
bulkhead> SELECT bulkhead.import_prices(NULL);
ERROR 22023
bulkhead> BEGIN;
bulkhead> SELECT bulkhead.import_prices('{}');
ERROR 25001
bulkhead> ROLLBACK;
bulkhead> SELECT count(*) FROM bulkhead.model_prices WHERE provider = 'builtin' AND model = 'mine';
count
0
(1 row)
acme> SELECT model, input_nanousd FROM bulkhead.model_prices WHERE provider = 'other';
model|input_nanousd
tiny|1
(1 row)
acme> SELECT bulkhead.import_prices('{}');
ERROR 42883
