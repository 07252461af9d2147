//! X11, F03, F04: SIGKILL between reserve, call and settle. `BULKHEAD_KILLS` says how often; README names the long run.

use std::time::{Duration, Instant};

use crate::common::provider::Provider;
use crate::common::server::{one, rows};
use crate::served;

/// Kills of the usual run.
const KILLS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x11_killed_calls_are_settled_once() {
    let kills = std::env::var("BULKHEAD_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(KILLS);
    let provider = Provider::start();
    let mut server = served(&provider, "wait-30", &["acme"]).await;
    let mut acknowledged = 0;
    for kill in 0..kills {
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..4 {
            let client = server.connect("acme", "owner").await;
            calls.spawn(async move {
                let mut done = 0_u64;
                for i in 0.. {
                    let sql = format!("SELECT ai.complete('call {kill} {call} {i}', max_tokens => 10, system => '')");
                    match client.simple_query(&sql).await {
                        Ok(_) => done += 1,
                        Err(_) => break,
                    }
                }
                done
            });
        }
        // At every phase of a call that takes some forty milliseconds.
        tokio::time::sleep(Duration::from_millis(40 + kill * 7 % 60)).await;
        server.kill();
        acknowledged += calls.join_all().await.into_iter().sum::<u64>();
        server.again();
    }
    // The start settles what was left, though nobody logs in to the tenant.
    let operator = server.operator().await;
    let reserved = "SELECT sum(reserved_usd) FROM bulkhead.budgets";
    let begun = Instant::now();
    while one(&operator, reserved).await.as_deref() != Some("0") {
        assert!(begun.elapsed() < Duration::from_secs(30), "reservations are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let billed = one(&operator, "SELECT sum(llm_cost_usd) FROM bulkhead.costs").await;
    let client = server.connect("acme", "owner").await;
    assert_eq!(
        one(&client, "SELECT sum(llm_cost_usd) FROM bulkhead.costs").await,
        billed
    );
    assert_eq!(one(&client, reserved).await.as_deref(), Some("0"));
    assert_eq!(
        one(&client, "SELECT bulkhead.verify_audit()").await.as_deref(),
        Some("t")
    );
    let told = "SELECT count(*) FROM bulkhead.audit_log WHERE class = 'ai'";
    let told = one(&client, told).await;
    let by_status = rows(
        &client,
        "SELECT status, count(*), count(DISTINCT id), sum(cost_usd) > 0 FROM bulkhead.usage WHERE operation = 'complete' GROUP BY status ORDER BY status",
    )
    .await;
    println!("{kills} kills: {by_status:?}");
    let lines: u64 = by_status
        .iter()
        .map(|row| row[1].parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(told, Some(lines.to_string()), "entries of the log, and lines");
    let count = |status: &str| -> u64 {
        let row = by_status.iter().find(|row| row[0] == status);
        row.map_or(0, |row| {
            assert_eq!(row[1], row[2], "a call is billed twice");
            row[1].parse().expect("a number")
        })
    };
    assert!(count("ok") >= acknowledged, "an acknowledged call is not in the ledger");
    assert!(count("orphaned") > 0, "no kill met a call");
    // Every line is a request that the provider got, or one that was reserved and never sent.
    assert!(count("ok") <= provider.log_of("call ").len() as u64 + 1);
    let balance = "SELECT (SELECT sum(cost_usd) FROM bulkhead.usage) = (SELECT sum(total_cost_usd) FROM bulkhead.costs), \
                   (SELECT sum(cost_usd) FROM bulkhead.usage WHERE operation = 'complete') = \
                   (SELECT max(spent_usd) FROM bulkhead.budgets WHERE window = 'month')";
    assert_eq!(rows(&client, balance).await, [["t", "t"]]);
    server.assert_alive();
}
