//! X11, F03, F04: SIGKILL between reserve, call and settle. `BULKHEAD_KILLS` says how often; README names the long run.

use std::time::Duration;

use crate::common::provider::Provider;
use crate::common::server::{one, rows};
use crate::{run, served};

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
    let client = server.connect("acme", "owner").await;
    // The first call of a tenant opens its account, which settles what was left.
    run(
        &client,
        "SELECT ai.complete('after all', max_tokens => 10, system => '')",
    )
    .await;
    let reserved = one(&client, "SELECT sum(reserved_usd) FROM bulkhead.budgets").await;
    assert_eq!(reserved.as_deref(), Some("0"), "reservations are left");
    let by_status = rows(
        &client,
        "SELECT status, count(*), count(DISTINCT id), sum(cost_usd) > 0 FROM bulkhead.usage WHERE operation = 'complete' GROUP BY status ORDER BY status",
    )
    .await;
    println!("{kills} kills: {by_status:?}");
    let count = |status: &str| -> u64 {
        let row = by_status.iter().find(|row| row[0] == status);
        row.map_or(0, |row| {
            assert_eq!(row[1], row[2], "a call is billed twice");
            row[1].parse().expect("a number")
        })
    };
    assert!(count("ok") > acknowledged, "an acknowledged call is not in the ledger");
    assert!(count("orphaned") > 0, "no kill met a call");
    // Every line is a request that the provider got, or one that was reserved and never sent.
    assert!(count("ok") <= provider.log_of("call ").len() as u64 + 1);
    let balance = "SELECT (SELECT sum(cost_usd) FROM bulkhead.usage) = (SELECT sum(total_cost_usd) FROM bulkhead.costs), \
                   (SELECT sum(cost_usd) FROM bulkhead.usage WHERE operation = 'complete') = \
                   (SELECT max(spent_usd) FROM bulkhead.budgets WHERE window = 'month')";
    assert_eq!(rows(&client, balance).await, [["t", "t"]]);
    server.assert_alive();
}
