//! Every SQL surface that there is, and how it is attacked. One list: a relation or function of the server that is not
//! in it fails [`super::sweep`], and so does a line here whose relation or function is gone.
//!
//! In the attacks: `{token}` is a word in B's documents, `{b}` B's name, `{b_user}` a user of B, `{b_document}` and
//! `{b_chunk}` ids of B's, `{b_usage}` the id of a usage line of B's, `{b_vector}` an embedding of B's, `{b_title}` a
//! title, `{b_question}` a question that B's documents answer, `{b_provider}` a provider that B has a key of its own for,
//! `{b_conversation}` and `{b_message}` ids of B's.

/// How a surface is found again on the running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `schema.relation` of a tenant's session.
    Relation,
    /// `schema.function` of a tenant's session; table functions too.
    Function,
    /// A relation or function of the operator's plane only: in a tenant's session it is not there.
    OperatorOnly,
    /// A relation of `pg_catalog` or `information_schema`.
    Catalog,
    /// A setting, and attempts to change those that nobody may.
    Setting,
    /// A way to fail.
    Failure,
    /// A kind of statement.
    Statement,
}

/// One surface.
#[derive(Clone, Copy, Debug)]
pub struct Surface {
    pub name: &'static str,
    pub kind: Kind,
    pub attacks: &'static [&'static str],
}

const fn surface(kind: Kind, name: &'static str, attacks: &'static [&'static str]) -> Surface {
    Surface { name, kind, attacks }
}

use super::catalog::CATALOG;
use Kind::{Catalog, Failure, Function, OperatorOnly, Relation, Setting, Statement};

/// Attacks on a catalog relation: all of it.
const SWEEP: &[&str] = &["SELECT * FROM {name}"];

/// Everything that can be attacked: the list below and the catalogs.
pub fn all() -> impl Iterator<Item = Surface> {
    let catalogs = CATALOG.iter().map(|name| surface(Catalog, name, SWEEP));
    SURFACES.iter().copied().chain(catalogs)
}

#[rustfmt::skip] // one surface, one paragraph
pub const SURFACES: &[Surface] = &[
    surface(Relation, "ai.documents", &[
        "SELECT * FROM ai.documents",
        "TABLE documents",
        "SELECT count(*), min(title), max(title) FROM ai.documents",
        "SELECT count(*) FROM documents WHERE true",
        "SELECT title FROM documents WHERE content LIKE '%{token}%'",
        "SELECT * FROM documents WHERE 1/(CASE WHEN content LIKE '%{token}%' THEN 0 ELSE 1 END) = 1",
        "SELECT * FROM documents WHERE title = '{b_title}'",
        "SELECT * FROM documents WHERE id = '{b_document}'",
        "SELECT * FROM documents a FULL OUTER JOIN documents b ON a.id <> b.id ORDER BY a.title, b.title",
        "SELECT title FROM documents WHERE title NOT IN (SELECT title FROM documents WHERE content IS NULL) ORDER BY 1",
        "WITH x AS (SELECT * FROM documents) SELECT count(*), max(length(content)) FROM x",
        "SELECT metadata->>'secret' FROM documents ORDER BY 1",
        "SELECT string_agg(content, ',' ORDER BY content) FROM documents",
        "SELECT user_id, count(*) FROM documents GROUP BY user_id",
        "SELECT title, row_number() OVER (ORDER BY title) FROM documents",
        "SELECT content FROM documents EXCEPT SELECT content FROM documents WHERE user_id = 'owner'",
        "UPDATE documents SET metadata = '{}' WHERE id = '{b_document}'",
        "UPDATE documents SET metadata = '{}' WHERE content LIKE '%{token}%'",
        "DELETE FROM documents WHERE id = '{b_document}'",
        "DELETE FROM documents WHERE content LIKE '%{token}%'",
        "INSERT INTO documents (id, title, content) VALUES ('{b_document}', 'mine', 'an id that B has') RETURNING title",
        "DELETE FROM documents WHERE id = '{b_document}'",
        "INSERT INTO documents (tenant_id, title, content) VALUES ('{b}', 'x', 'y')",
        "EXPLAIN SELECT * FROM documents WHERE content LIKE '%{token}%'",
        "SELECT * FROM {b}.ai.documents",
        "SELECT * FROM \"{b}\".public.documents",
    ]),
    surface(Relation, "ai.chunks", &[
        "SELECT * FROM ai.chunks ORDER BY content",
        "SELECT count(*), min(content), max(content), sum(token_count) FROM chunks",
        "SELECT content FROM chunks ORDER BY embedding <=> '{b_vector}' LIMIT 5",
        "SELECT content, embedding <-> '{b_vector}' AS d FROM chunks ORDER BY d LIMIT 5",
        "SELECT content FROM chunks ORDER BY embedding <#> '{b_vector}' LIMIT 5",
        "SELECT count(*) FROM chunks WHERE embedding = '{b_vector}'",
        "SELECT min(embedding <=> '{b_vector}') FROM chunks",
        "SELECT content FROM chunks WHERE document_id = '{b_document}'",
        "SELECT content FROM chunks WHERE id = '{b_chunk}'",
        "SELECT DISTINCT embedding_model FROM chunks",
        "UPDATE chunks SET content = 'x' WHERE id = '{b_chunk}'",
        "DELETE FROM chunks",
    ]),
    surface(Relation, "ai.conversations", &[
        "SELECT * FROM ai.conversations",
        "SELECT count(*), min(title), max(title) FROM conversations",
        "SELECT * FROM conversations WHERE id = '{b_conversation}'",
        "SELECT * FROM conversations WHERE id IN ('{b_conversation}')",
        "SELECT * FROM conversations WHERE user_id = '{b_user}'",
        "SELECT * FROM conversations WHERE 1/(CASE WHEN title LIKE '%{token}%' THEN 0 ELSE 1 END) = 1",
        "UPDATE conversations SET title = 'x' WHERE id = '{b_conversation}'",
        "DELETE FROM conversations WHERE id = '{b_conversation}'",
        "INSERT INTO conversations (id, title) VALUES ('{b_conversation}', 'x')",
        "SELECT * FROM {b}.ai.conversations",
    ]),
    surface(Relation, "ai.messages", &[
        "SELECT * FROM ai.messages",
        "SELECT count(*), max(content), sum(tokens) FROM messages",
        "SELECT * FROM messages WHERE id = '{b_message}'",
        "SELECT * FROM messages WHERE conversation_id = '{b_conversation}'",
        "SELECT * FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE c.title LIKE '%{token}%'",
        "DELETE FROM messages WHERE id = '{b_message}'",
        "INSERT INTO messages (conversation_id, content) VALUES ('{b_conversation}', 'x')",
    ]),
    surface(Relation, "ai.fine_tunes", &[
        "SELECT * FROM ai.fine_tunes",
        "SELECT count(*) FROM fine_tunes WHERE model LIKE '%{token}%'",
        "SELECT * FROM fine_tunes WHERE id = '{b_document}'",
        "SELECT * FROM {b}.ai.fine_tunes",
        "DELETE FROM ai.fine_tunes",
    ]),
    surface(Relation, "bulkhead.jobs", &[
        "SELECT * FROM bulkhead.jobs",
        "SELECT count(*), max(message) FROM jobs WHERE kind LIKE '%{token}%'",
        "UPDATE bulkhead.jobs SET state = 'queued'",
        "SELECT * FROM {b}.bulkhead.jobs",
    ]),
    surface(Function, "bulkhead.retry_job", &[
        "SELECT bulkhead.retry_job('{b_document}')",
        "SELECT bulkhead.retry_job(id) FROM bulkhead.jobs",
    ]),
    surface(Relation, "bulkhead.audit_log", &[
        "SELECT user_id, class, action, object, allowed FROM bulkhead.audit_log WHERE class <> 'login' ORDER BY seq",
        "SELECT count(*) FROM bulkhead.audit_log WHERE detail::text LIKE '%{token}%' OR object LIKE '%{token}%'",
        "SELECT * FROM audit_log WHERE user_id = '{b_user}'",
        "SELECT * FROM audit_log WHERE seq > 1000000",
        "DELETE FROM bulkhead.audit_log",
        "UPDATE bulkhead.audit_log SET allowed = true",
        "INSERT INTO bulkhead.audit_log (seq) VALUES (1)",
        "SELECT * FROM {b}.bulkhead.audit_log",
    ]),
    surface(Function, "bulkhead.verify_audit", &[
        "SELECT bulkhead.verify_audit()",
        "SELECT ok, broken_at, problem FROM bulkhead.verify_audit()",
        "SELECT bulkhead.verify_audit('{b}')",
        "SELECT * FROM bulkhead.verify_audit(tenant => '{b}')",
    ]),
    surface(Relation, "bulkhead.cache_stats", &[
        "SELECT * FROM bulkhead.cache_stats",
        "SELECT * FROM cache_stats WHERE tenant = '{b}'",
        "DELETE FROM bulkhead.cache_stats",
    ]),
    surface(Relation, "bulkhead.usage", &[
        "SELECT user_id, operation, model, prompt_tokens, completion_tokens, cost_usd, status FROM bulkhead.usage WHERE operation NOT IN ('statement', 'vector_search') ORDER BY at, id",
        "SELECT operation, model, sum(cost_usd) FROM bulkhead.usage WHERE operation = 'vector_search' GROUP BY operation, model",
        "SELECT * FROM bulkhead.usage WHERE id = '{b_usage}'",
        "SELECT count(*) FROM usage WHERE user_id = '{b_user}'",
        "UPDATE bulkhead.usage SET cost_usd = 0 WHERE id = '{b_usage}'",
        "DELETE FROM bulkhead.usage WHERE id = '{b_usage}'",
        "INSERT INTO bulkhead.usage (operation, cost_usd) VALUES ('rag', -5)",
    ]),
    surface(Relation, "bulkhead.costs", &[
        "SELECT date, llm_tokens, llm_cost_usd FROM bulkhead.costs",
        "SELECT count(*) FROM costs",
        "SELECT * FROM bulkhead.costs WHERE tenant = '{b}'",
        "UPDATE bulkhead.costs SET llm_tokens = 0",
    ]),
    surface(Relation, "bulkhead.model_prices", &[
        "SELECT * FROM bulkhead.model_prices",
        "UPDATE bulkhead.model_prices SET input_nanousd = 0",
        "DELETE FROM bulkhead.model_prices",
    ]),
    surface(Relation, "bulkhead.users", &[
        "SELECT * FROM bulkhead.users ORDER BY name",
        "SELECT * FROM bulkhead.users WHERE name = '{b_user}'",
        "DROP USER {b_user}",
        "ALTER USER {b_user} PASSWORD 'mine now'",
        "INSERT INTO bulkhead.users (name) VALUES ('x')",
    ]),
    surface(Relation, "bulkhead.models", &[
        "SELECT * FROM bulkhead.models ORDER BY name",
        "SELECT provider, model FROM bulkhead.models",
        "SELECT name FROM models WHERE name = '{b}'",
        "UPDATE bulkhead.models SET name = 'x'",
        "DELETE FROM bulkhead.models",
        "INSERT INTO bulkhead.models (name) VALUES ('x')",
    ]),
    surface(Relation, "bulkhead.budgets", &[
        "SELECT window, amount_usd, hard, set_by, user_id FROM bulkhead.budgets",
        "SELECT amount_usd FROM budgets WHERE user_id = '{b_user}'",
        "SELECT count(*) FROM bulkhead.budgets WHERE spent_usd > 1",
        "SELECT * FROM bulkhead.budgets WHERE tenant = '{b}'",
        "UPDATE bulkhead.budgets SET amount_usd = 1000000",
        "DELETE FROM bulkhead.budgets",
    ]),
    surface(Relation, "bulkhead.alerts", &[
        "SELECT * FROM bulkhead.alerts ORDER BY at",
        "SELECT count(*) FROM alerts WHERE message LIKE '%{b_user}%'",
        "SELECT data->>'user' FROM bulkhead.alerts",
        "INSERT INTO bulkhead.alerts (kind, message) VALUES ('x', '{b}')",
        "DELETE FROM bulkhead.alerts",
    ]),
    surface(Relation, "bulkhead.rate_limits", &[
        "SELECT dimension, capacity, user_id FROM bulkhead.rate_limits",
        "SELECT count(*) FROM rate_limits WHERE user_id = '{b_user}'",
        "UPDATE bulkhead.rate_limits SET remaining = 1000000",
    ]),
    surface(Relation, "bulkhead.provider_keys", &[
        "SELECT * FROM bulkhead.provider_keys",
        "SELECT api_key FROM bulkhead.provider_keys",
        "SELECT count(*) FROM provider_keys WHERE provider = '{b_provider}'",
        "SELECT * FROM bulkhead.provider_keys WHERE 1/(CASE WHEN provider = '{b_provider}' THEN 0 ELSE 1 END) = 1",
        "INSERT INTO bulkhead.provider_keys (provider) VALUES ('{b_provider}')",
        "DELETE FROM bulkhead.provider_keys",
    ]),
    surface(Function, "ai.ingest", &[
        "SELECT ai.ingest('A''s own', 'Nothing to see here.') IS NOT NULL",
        "SELECT ai.ingest('{b}', 'x', 'y', 'z', 'w')",
        "SELECT ai.ingest(tenant => '{b}', title => 'x', content => 'y')",
    ]),
    surface(Function, "ai.search", &[
        "SELECT * FROM ai.search('{token}')",
        "SELECT * FROM ai.search('{token}', k => 1000, mode => 'keyword')",
        "SELECT * FROM ai.search('{b_question}', k => 1000, mode => 'vector')",
        "SELECT * FROM ai.search('{b_question}', k => 1000)",
        "SELECT * FROM ai.search('{token}', filter => '{\"tenant_id\": \"{b}\"}')",
        "SELECT * FROM ai.search('{token}', filter => '{\"$or\": [{\"a\": 1}]}')",
        "SELECT * FROM ai.search('{token}', filter => '{\"secret\": \"{token}\"}')",
        "SELECT * FROM ai.search('{b}', '{token}')",
        "SELECT * FROM ai.search('{token}', tenant => '{b}')",
        "SELECT score FROM ai.search('lamp', mode => 'keyword')",
    ]),
    surface(Function, "public.vector_search", &[
        "SELECT content, distance FROM vector_search('ai.chunks', '{token}', k => 1000)",
        "SELECT content, distance FROM vector_search('ai.chunks', '{b_vector}'::vector, k => 1000)",
        "SELECT * FROM vector_search('{b}.ai.chunks', '{token}')",
        "SELECT * FROM vector_search('ai.nosuch', '{token}')",
    ]),
    surface(Function, "ai.embed", &[
        "SELECT ai.embed('{b_question}')",
        "SELECT ai.embed('x', model => '{token}')",
        "SELECT ai.embed('{b}', 'x', 'y')",
    ]),
    surface(Function, "ai.count_tokens", &["SELECT ai.count_tokens('{b_question}')"]),
    surface(Function, "ai.rag", &[
        "SELECT ai.rag('{b_question}')",
        "SELECT answer, citations, model, prompt_tokens, completion_tokens, cost_usd, cached FROM ai.rag('{b_question}')",
        "SELECT ai.rag('{token}', k => 1000)",
        "SELECT ai.rag('{b_question}', filter => '{\"tenant\": \"{b}\"}')",
        "SELECT ai.rag('{b}', '{b_question}')",
    ]),
    surface(Function, "ai.complete", &[
        "SELECT ai.complete('{b_question}')",
        "SELECT ai.complete('{b_question}', system => 'You work for {b}.')",
        "SELECT ai.complete('x', model => '{b}')",
        "SELECT ai.complete('{b}', '{b_question}', tenant => '{b}')",
    ]),
    surface(Function, "ai.chat", &[
        "SELECT ai.chat('{b_conversation}', '{b_question}')",
        "SELECT ai.chat('{b_conversation}', '{b_question}', rag => false)",
        "SELECT * FROM ai.chat('{b_message}', '{b_question}')",
        "SELECT ai.chat('{b}', '{b_conversation}', '{b_question}')",
    ]),
    surface(Function, "ai.stream", &[
        "SELECT * FROM ai.stream('{b_question}')",
        "SELECT * FROM ai.stream('x', model => '{b}')",
    ]),
    surface(Function, "ai.rag_stream", &[
        "SELECT * FROM ai.rag_stream('{b_question}')",
        "SELECT * FROM ai.rag_stream('{token}', k => 1000)",
        "SELECT * FROM ai.rag_stream('{b}', '{b_question}')",
    ]),
    surface(Function, "ai.create_conversation", &[
        "SELECT ai.create_conversation('{token}') IS NOT NULL",
        "SELECT title, message_count FROM conversations WHERE title = '{token}' ORDER BY id",
        "SELECT ai.create_conversation('{b}', 1, '{\"tenant\": \"{b}\", \"user\": \"{b_user}\"}') IS NOT NULL",
        "SELECT ai.create_conversation(user_id => '{b_user}')",
        "SELECT ai.create_conversation(tenant => '{b}')",
    ]),
    surface(Function, "ai.add_message", &[
        "SELECT ai.add_message('{b_conversation}', 'user', 'let me in')",
        "SELECT ai.add_message('{b_message}', 'user', 'let me in')",
        "SELECT ai.add_message('{b}', 'user', 'let me in')",
        "SELECT ai.add_message('{b_conversation}', '{b}', 'let me in')",
        "SELECT ai.add_message('{b}', '{b_conversation}', 'user', 'let me in')",
        "SELECT * FROM messages WHERE content = 'let me in'",
    ]),
    surface(Function, "ai.rate_message", &[
        "SELECT ai.rate_message('{b_message}', 1)",
        "SELECT ai.rate_message('{b_message}', 9)",
        "SELECT ai.rate_message('{b_conversation}', 1)",
        "SELECT ai.rate_message('{b}', 1)",
    ]),
    surface(Function, "ai.delete_conversation", &[
        "SELECT ai.delete_conversation('{b_conversation}')",
        "SELECT ai.delete_conversation('{b_message}')",
        "BEGIN", "SELECT ai.delete_conversation('{b_conversation}')", "ROLLBACK",
        "SELECT ai.delete_conversation(id => '{b_conversation}', user_id => '{b_user}')",
    ]),
    surface(Function, "ai.set_training_consent", &[
        "SELECT ai.set_training_consent(true)",
        "SELECT ai.set_training_consent('{b_user}', true)",
        "SELECT ai.set_training_consent(false)",
    ]),
    surface(Function, "ai.fine_tune_dataset", &[
        "SELECT * FROM ai.fine_tune_dataset()",
        "SELECT count(*) FROM ai.fine_tune_dataset(min_rating => 1) WHERE line LIKE '%{token}%'",
        "SELECT * FROM ai.fine_tune_dataset('{b}')",
        "SELECT * FROM ai.fine_tune_dataset(1, '{b}')",
        "SELECT * FROM ai.fine_tune_dataset(tenant => '{b}')",
    ]),
    surface(Function, "ai.fine_tune", &[
        "SELECT ai.fine_tune('default-small')",
        "SELECT ai.fine_tune(base_model => '{b}')",
        "SELECT ai.fine_tune('default-small', 1, '{b}')",
        "SELECT ai.fine_tune(tenant => '{b}', base_model => 'default-small')",
    ]),
    surface(Function, "ai.register_model", &[
        "SELECT ai.register_model('{token}', '{token}')",
        "SELECT ai.register_model('{b}', 'x', provider => '{b_provider}', preferred => true)",
        "SELECT ai.register_model(tenant => '{b}', alias => 'x', model => 'y')",
        "SELECT ai.complete('x', model => '{token}')",
    ]),
    surface(Function, "bulkhead.webhook_secret", &[
        "SELECT bulkhead.webhook_secret()",
        "SELECT bulkhead.webhook_secret('{b}')",
        "SELECT bulkhead.webhook_secret(tenant => '{b}')",
    ]),
    surface(Function, "ai.clear_cache", &["SELECT ai.clear_cache()", "SELECT ai.clear_cache('{b}')", "SELECT ai.clear_cache(tenant => '{b}')"]),
    surface(Function, "bulkhead.tenant_costs", &[
        "SELECT llm FROM bulkhead.tenant_costs(current_date - 30, current_date)",
        "SELECT * FROM bulkhead.tenant_costs('{b}', current_date, current_date)",
        "SELECT * FROM bulkhead.tenant_costs('{b}')",
    ]),
    surface(Function, "bulkhead.check_limit", &[
        "SELECT allowed FROM bulkhead.check_limit(1)",
        "SELECT allowed, retry_after_ms FROM bulkhead.check_limit(2000000000)",
        "SELECT * FROM bulkhead.check_limit('{b}')",
        "SELECT * FROM bulkhead.check_limit(1, '{b}')",
    ]),
    surface(Function, "bulkhead.set_budget", &[
        "SELECT bulkhead.set_budget('{b}', 'month', 0)",
        "SELECT bulkhead.set_budget(tenant => '{b}', window => 'month', amount_usd => 0)",
        "SELECT bulkhead.set_budget('day', 1, user => '{b_user}')",
        "SELECT amount_usd, user_id FROM bulkhead.budgets WHERE set_by = 'owner'",
        "SELECT bulkhead.set_budget('day', NULL, user => '{b_user}')",
        "SELECT bulkhead.set_budget('month', 1000000)",
    ]),
    surface(Function, "bulkhead.set_provider_key", &[
        "SELECT bulkhead.set_provider_key('{b_provider}', 'sk-of-a')",
        "SELECT * FROM bulkhead.provider_keys WHERE set_at IS NULL",
        "SELECT bulkhead.set_provider_key('{b_provider}', NULL)",
        "SELECT bulkhead.set_provider_key('{b}', 'sk-of-a')",
        "SELECT bulkhead.set_provider_key('{b}', '{b_provider}', 'sk-of-a')",
        "SELECT bulkhead.set_provider_key(tenant => '{b}', provider => '{b_provider}', api_key => 'sk-of-a')",
        "PREPARE of_a AS SELECT bulkhead.set_provider_key('{b_provider}', 'sk-of-a')",
        "SELECT name, statement FROM pg_prepared_statements ORDER BY name",
        "DEALLOCATE ALL",
    ]),
    surface(Function, "public.nextval", &[
        "SELECT nextval('{b}')", "SELECT nextval('{b}.public.counted')", "CREATE SEQUENCE counted", "SELECT nextval('counted')",
    ]),
    surface(Function, "public.currval", &["SELECT currval('{b}')", "SELECT currval('counted')"]),
    surface(Function, "public.setval", &["SELECT setval('{b}', 1)", "SELECT setval('counted', 900)", "SELECT nextval('counted')"]),
    surface(Function, "public.lastval", &["SELECT lastval()", "DROP SEQUENCE counted"]),
    surface(Function, "public.current_tenant", &["SELECT current_tenant()", "SELECT current_tenant('{b}')"]),

    surface(OperatorOnly, "bulkhead.tenants", &["SELECT * FROM bulkhead.tenants", "DELETE FROM bulkhead.tenants WHERE name = '{b}'"]),
    surface(OperatorOnly, "bulkhead.tiers", &["UPDATE bulkhead.tiers SET tokens_per_day = 1"]),
    surface(OperatorOnly, "bulkhead.providers", &[
        "SELECT * FROM bulkhead.providers", "SELECT api_key FROM bulkhead.providers",
        "UPDATE bulkhead.providers SET api_key = NULL", "DELETE FROM bulkhead.providers",
        "INSERT INTO bulkhead.providers (name, base_url) VALUES ('mine', 'https://mine.example/v1')",
    ]),
    surface(OperatorOnly, "bulkhead.create_tenant", &["SELECT bulkhead.create_tenant('stolen', owner => 'o', password => 'p')"]),
    surface(OperatorOnly, "bulkhead.alter_tenant", &["SELECT bulkhead.alter_tenant('{b}', state => 'suspended')"]),
    surface(OperatorOnly, "bulkhead.drop_tenant", &["SELECT bulkhead.drop_tenant('{b}')"]),
    surface(OperatorOnly, "bulkhead.import_prices", &["SELECT bulkhead.import_prices('{}')"]),
    surface(OperatorOnly, "bulkhead.tenant_stats", &["SELECT * FROM bulkhead.tenant_stats", "SELECT * FROM tenant_stats WHERE tenant = '{b}'"]),
    surface(OperatorOnly, "bulkhead.set_compliance", &[
        "SELECT bulkhead.set_compliance('{b}', logging_level => 'none')",
        "SELECT bulkhead.set_compliance(tenant => '{b}', logging_level => 'full')",
    ]),
    surface(OperatorOnly, "bulkhead.set_tenant", &[
        "SELECT bulkhead.set_tenant('{b}', system_prompt => 'x')",
        "SELECT bulkhead.set_tenant('{b}', timezone => 'Asia/Tokyo', model => 'default-large')",
    ]),


    surface(Setting, "hnsw.ef_search", &["SET hnsw.ef_search = '{b}'", "SET hnsw.ef_search = 1000", "RESET hnsw.ef_search"]),
    surface(Setting, "hnsw.iterative_scan", &["SET hnsw.iterative_scan = '{b}'", "RESET hnsw.iterative_scan"]),
    surface(Setting, "ivfflat.probes", &["SET ivfflat.probes = '{b}'", "SET ivfflat.probes = 100", "RESET ivfflat.probes"]),
    surface(Setting, "search_path", &[
        "SET search_path = '{b}'", "SELECT count(*) FROM documents", "SET search_path = {b}, ai, public",
        "SELECT count(*) FROM documents", "SHOW search_path", "RESET search_path",
    ]),
    surface(Setting, "application_name", &["SET application_name = '{b}'", "SHOW application_name", "RESET application_name"]),
    surface(Setting, "statement_timeout", &["SET statement_timeout = 1000", "SHOW statement_timeout", "RESET statement_timeout"]),
    surface(Setting, "ai.cache", &["SET ai.cache = off", "SHOW ai.cache", "RESET ai.cache", "SET ai.cache = '{b}'"]),
    surface(Setting, "ai.cache_ttl", &["SET ai.cache_ttl = '1h'", "SHOW ai.cache_ttl", "SET ai.cache_ttl = '{b}'", "RESET ai.cache_ttl"]),
    surface(Setting, "ai.idempotency_key", &[
        "SET ai.idempotency_key = '{b_usage}'", "SELECT ai.rag('{b_question}')", "SHOW ai.idempotency_key", "RESET ai.idempotency_key",
    ]),
    surface(Setting, "ai.max_statement_usd", &["SET ai.max_statement_usd = 0", "SHOW ai.max_statement_usd", "RESET ai.max_statement_usd"]),
    surface(Setting, "ai.memory", &["SET ai.memory = 'summary'", "SET ai.memory = '{b}'", "SHOW ai.memory", "RESET ai.memory"]),
    surface(Setting, "ai.memory_tokens", &["SET ai.memory_tokens = 1000000", "SHOW ai.memory_tokens", "RESET ai.memory_tokens"]),
    surface(Setting, "ai.memory_messages", &["SET ai.memory_messages = 1000", "SHOW ai.memory_messages", "RESET ai.memory_messages"]),
    surface(Setting, "bulkhead.user", &["SET bulkhead.user = '{b_user}'", "SHOW bulkhead.user", "SELECT set_config('bulkhead.user', '{b_user}', false)"]),
    surface(Setting, "ai.on_error", &["SET ai.on_error = 'null'", "SELECT ai.rag('{b_question}')", "RESET ai.on_error"]),
    surface(Setting, "bulkhead.limit_wait", &["SET bulkhead.limit_wait = '1s'", "SHOW bulkhead.limit_wait", "RESET bulkhead.limit_wait"]),
    surface(Statement, "listening", &[
        "LISTEN bulkhead_alerts", "SELECT 1", "LISTEN \"{b}\"", "LISTEN \"{b}.bulkhead_alerts\"", "UNLISTEN \"{b}\"",
        "SELECT 1", "UNLISTEN *",
    ]),
    surface(Statement, "speaking", &[
        "NOTIFY \"{b}\"", "NOTIFY orders, '{b_user}'", "SELECT pg_notify('{b}', 'x')", "SELECT * FROM pg_listening_channels()",
    ]),
    surface(Statement, "copying", &[
        "COPY documents (title, content) TO STDOUT", "COPY (SELECT * FROM chunks) TO STDOUT WITH CSV HEADER",
        "COPY {b}.documents TO STDOUT", "COPY \"{b}\".ai.documents TO STDOUT BINARY", "COPY {b_user} FROM STDIN",
        "COPY (SELECT content FROM documents WHERE content LIKE '%{token}%') TO STDOUT",
    ]),
    surface(Statement, "cursors", &[
        "BEGIN", "DECLARE c SCROLL CURSOR FOR SELECT title, content FROM documents WHERE content NOT LIKE '%{token}%' ORDER BY title",
        "FETCH LAST FROM c", "MOVE BACKWARD ALL IN c", "FETCH ALL FROM c", "SELECT name, statement FROM pg_cursors", "COMMIT",
        "CLOSE {b_user}",
    ]),
    surface(Statement, "plans", &[
        "EXPLAIN SELECT * FROM documents WHERE title = '{b}'", "EXPLAIN (FORMAT JSON) SELECT count(*) FROM chunks",
        "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) SELECT * FROM documents WHERE content LIKE '%{token}%'",
        "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) SELECT * FROM {b}.documents",
    ]),
    surface(Setting, "everything else", &[
        "SET bulkhead.tenant = '{b}'", "SELECT set_config('bulkhead.tenant', '{b}', false)", "SET ROLE {b_user}",
        "SET SESSION AUTHORIZATION {b_user}", "SELECT current_setting('bulkhead.tenant')", "SHOW ALL",
        "SET row_security = off", "SET datafusion.catalog.default_catalog = '{b}'",
    ]),
    surface(Failure, "names", &[
        "SELECT * FROM nosuch", "SELECT nosuch FROM documents", "SELECT nosuch()", "SELECT * FROM nosuch.nosuch",
        "SELECT * FROM \"{b}\"", "SELECT {b_user} FROM documents", "EXECUTE {b_user}", "FETCH ALL FROM {b_user}",
        "SELECT '{b_user}'::regrole", "SELECT '{b}.documents'::regclass", "SELECT * FROM documents d, {b}.documents e",
    ]),
    surface(Failure, "values", &[
        "SELECT CAST(content AS int) FROM documents", "SELECT content::date FROM documents",
        "SELECT 1/(length(content) - length(content)) FROM documents", "SELECT ('x' || content)::uuid FROM documents",
        "SELECT 9223372036854775807 + length(content) FROM documents", "SELECT '[1,2]'::vector <-> embedding FROM chunks",
        "SELECT regexp_replace('x', content || '(', '') FROM documents",
        "SELECT content FROM documents WHERE content ~ '{token}('",
    ]),
    surface(Statement, "refused", &[
        "CREATE TABLE t (id int)", "CREATE VIEW v AS SELECT 1", "COPY documents TO '/tmp/x'", "COPY documents TO STDOUT",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "LOAD 'x'", "VACUUM", "ANALYZE documents",
        "TRUNCATE documents", "DROP TABLE documents", "LOCK TABLE documents", "NOTIFY {b}", "LISTEN {b}",
        "GRANT SELECT ON documents TO {b_user}", "CREATE DATABASE x", "DROP DATABASE {b}", "CREATE FUNCTION f() RETURNS int AS 'x' LANGUAGE sql",
        "MERGE INTO documents d USING chunks c ON d.id = c.document_id WHEN MATCHED THEN DELETE",
        "CREATE SCHEMA {b}", "USE {b}", "SHOW TABLES", "DESCRIBE documents",
    ]),
    surface(Statement, "sessions of others", &[
        "SELECT pg_terminate_backend(1)", "SELECT pg_cancel_backend(1)", "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_sleep(0)", "SELECT txid_current()", "SELECT pg_read_file('/etc/passwd')", "SELECT lo_import('/etc/passwd')",
        "SELECT pg_ls_dir('/')", "SELECT inet_server_addr()", "SELECT pg_database_size('{b}')",
        "SELECT has_database_privilege('{b}', 'CONNECT')", "SELECT pg_get_userbyid(1)", "SELECT query_to_xml('x')",
        "SELECT dblink('dbname={b}', 'x')", "SELECT count(*) FROM pg_database", "SELECT count(*) FROM pg_roles",
    ]),
];
