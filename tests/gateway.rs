//! Calls of models over the wire, with a scripted provider as a process of its own: what is asked of it, what comes
//! back, what it costs. Rows of THREATS.md are named by their ids.

mod common;

#[path = "gateway/audit.rs"]
mod audit;
#[path = "gateway/crash.rs"]
mod crash;
#[path = "gateway/faults.rs"]
mod faults;
#[path = "gateway/isolation.rs"]
mod isolation;
#[path = "gateway/statements.rs"]
mod statements;

use common::provider::Provider;
use common::server::{Server, rows};
use tokio_postgres::Client;

/// Nano-USD a token of every scripted model: prompt, cached prompt, answer, reasoning.
const PRICES: [i64; 4] = [100, 50, 400, 500];
const KEY: &str = "sk-operators-own-key-0123456789";

/// A server whose default chat model is this one of a provider's, and tenants with limits that are in nobody's way.
async fn served(provider: &Provider, model: &str, tenants: &[&str]) -> Server {
    let server = Server::start("gateway");
    let operator = server.operator().await;
    let url = provider.base_url();
    run(
        &operator,
        &format!("INSERT INTO bulkhead.providers (name, base_url, api_key, timeout_ms) VALUES ('up', '{url}', '{KEY}', 20000)"),
    )
    .await;
    server.widen_tiers().await;
    use_model(&operator, model).await;
    server.create_tenants(tenants).await;
    server
}

/// Points the default alias to a scripted model, and prices that.
async fn use_model(operator: &Client, model: &str) {
    let [input, cached, output, reasoning] = PRICES;
    run(
        operator,
        &format!("DELETE FROM bulkhead.model_prices WHERE provider = 'up' AND model = '{model}'"),
    )
    .await;
    run(
        operator,
        &format!(
            "INSERT INTO bulkhead.model_prices (provider, model, valid_from, input_nanousd, cached_input_nanousd, \
             output_nanousd, reasoning_nanousd, embedding_nanousd) \
             VALUES ('up', '{model}', '2020-01-01', {input}, {cached}, {output}, {reasoning}, 0)"
        ),
    )
    .await;
    run(
        operator,
        &format!("UPDATE bulkhead.models SET provider = 'up', model = '{model}' WHERE name = 'default-small'"),
    )
    .await;
}

async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {error:?}");
    }
}

/// The lines of calls, oldest first: status, prompt and completion tokens, cost in nano-USD, estimated.
async fn lines(client: &Client) -> Vec<Vec<String>> {
    let sql = "SELECT status, prompt_tokens, completion_tokens, (cost_usd * 1000000000)::bigint, estimated \
               FROM bulkhead.usage WHERE operation IN ('complete', 'rag', 'chat') ORDER BY at, id";
    rows(client, sql).await
}
