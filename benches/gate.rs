//! What the gate costs: `ai.complete` over the wire with a provider that answers at once, against the same request sent
//! to that provider directly, one after the other in the same run. Each gated call is two durable commits: reserved
//! before it is sent, settled before it is answered.
//!
//! `cargo bench --bench gate`.

mod report;

use std::time::{Duration, Instant};

use report::common::provider::{self, Provider};
use report::{create_tenants, machine, server};

const CALLS: usize = 300;
const ROUNDS: usize = 5;

fn main() {
    if provider::is_wanted() {
        return provider::serve();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(bench());
}

async fn bench() {
    let provider = Provider::start();
    let (server, directory) = server("gate");
    machine(&directory.0);
    let operator = server.operator().await;
    let sql = format!(
        "INSERT INTO bulkhead.providers (name, base_url, api_key) VALUES ('up', '{}', 'sk-bench');
         INSERT INTO bulkhead.model_prices (provider, model, valid_from, input_nanousd, cached_input_nanousd, output_nanousd,
             reasoning_nanousd, embedding_nanousd) VALUES ('up', 'echo', '2020-01-01', 1, 1, 1, 1, 0);
         UPDATE bulkhead.models SET provider = 'up', model = 'echo' WHERE kind = 'chat'",
        provider.base_url()
    );
    operator.batch_execute(&sql).await.expect("a provider is set");
    server.widen_tiers().await;
    create_tenants(&server, &["acme".to_owned()]).await;
    let client = server.connect("acme", "owner").await;
    client.batch_execute("SET ai.cache = off").await.expect("a setting");
    let gated = client
        .prepare("SELECT ai.complete($1, max_tokens => 20, system => '')")
        .await
        .expect("a statement");
    // The same choice as the server makes; there is no TLS here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let direct = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/chat/completions", provider.base_url());
    println!("{ROUNDS} rounds of {CALLS} calls each way, one connection, prompts of four words, all different");
    println!(
        "{:>8} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "round", "direct p50", "gate p50", "direct p99", "gate p99", "added p50"
    );
    let mut added = Vec::new();
    for round in 0..ROUNDS {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for call in 0..CALLS {
            let prompt = format!("bench prompt {round} {call}");
            let begun = Instant::now();
            let body = serde_json::json!({
                "model": "echo", "max_tokens": 20, "temperature": 0.3, "messages": [{"role": "user", "content": prompt}],
            });
            let reply = direct
                .post(&url)
                .bearer_auth("sk-bench")
                .json(&body)
                .send()
                .await
                .expect("an answer");
            let reply: serde_json::Value = reply.json().await.expect("JSON");
            assert_eq!(reply["choices"][0]["message"]["content"], prompt);
            one.push(begun.elapsed());
            let begun = Instant::now();
            let row = client.query_one(&gated, &[&prompt]).await.expect("an answer");
            assert_eq!(row.get::<_, &str>(0), prompt);
            other.push(begun.elapsed());
        }
        one.sort();
        other.sort();
        let at = |all: &[Duration], percent: usize| all[all.len() * percent / 100];
        let more = at(&other, 50).saturating_sub(at(&one, 50));
        added.push(more);
        println!(
            "{:>8} {:>12.2?} {:>12.2?} {:>12.2?} {:>12.2?} {:>12.2?}",
            round + 1,
            at(&one, 50),
            at(&other, 50),
            at(&one, 99),
            at(&other, 99),
            more
        );
    }
    added.sort();
    println!(
        "the gate adds {:.2?} at the median of the rounds' medians",
        added[ROUNDS / 2]
    );
}
