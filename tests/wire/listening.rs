//! `LISTEN bulkhead_alerts` over a socket: real alerts of real budgets.

use crate::common::raw::{Frame, Raw, code, letters, query, text_rows};
use crate::{T, served};

/// What is told, as JSON.
fn told(frames: &[Frame]) -> Vec<serde_json::Value> {
    let notifications = frames.iter().filter(|f| f.tag == b'A');
    let payload = |frame: &Frame| {
        let text = String::from_utf8_lossy(&frame.body[4..]).into_owned();
        let (channel, payload) = text.split_once('\0').expect("a channel, then a payload");
        assert_eq!(channel, "bulkhead_alerts");
        serde_json::from_str(payload.trim_end_matches('\0')).expect("the payload is JSON")
    };
    notifications.map(payload).collect()
}

/// Waits for so many notifications without asking anything.
async fn wait(raw: &mut Raw, count: usize) -> Vec<serde_json::Value> {
    let mut frames = Vec::new();
    while frames.len() < count {
        frames.push(raw.frame().await.expect("the session lives on"));
    }
    assert_eq!(letters(&frames), "A".repeat(count));
    told(&frames)
}

const ASK: &str = "SELECT ai.complete('Lamps and boats?', max_tokens => 20)";

/// Each threshold of a budget wakes a waiting client once; a client in a transaction hears it after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thresholds_wake_who_listens_and_nobody_else() {
    let mut server = served().await;
    server.create_tenants(&["umbra"]).await;
    let mut owner = server.raw(T, "owner").await;
    owner.query("CREATE USER mel PASSWORD 'pw-mel' IN ROLE member").await;
    let mut mel = server.raw(T, "mel").await;
    let mut idle = server.raw(T, "owner").await;
    let mut busy = server.raw(T, "owner").await;
    let mut other = server.raw("umbra", "owner").await;
    for raw in [&mut idle, &mut busy, &mut other] {
        assert_eq!(letters(&raw.query("LISTEN bulkhead_alerts").await), "CZ");
    }
    busy.query("BEGIN").await;
    assert_eq!(code(&mel.query(ASK).await), None);
    owner
        .query("SELECT bulkhead.set_budget('day', 0.000000001, user => 'mel')")
        .await;
    assert_eq!(
        code(&mel.query(ASK.replace('L', "l").as_str()).await).as_deref(),
        Some("53400")
    );

    let alerts = wait(&mut idle, 3).await;
    let thresholds: Vec<_> = alerts.iter().map(|a| a["data"]["threshold"].as_i64()).collect();
    assert_eq!(thresholds, [Some(50), Some(80), Some(100)]);
    assert_eq!(alerts[0]["data"]["user"], "mel");
    let stored = text_rows(&idle.query("SELECT id FROM bulkhead.alerts ORDER BY at, id").await);
    let ids: Vec<_> = alerts
        .iter()
        .map(|a| vec![a["id"].as_str().unwrap_or_default().to_owned()])
        .collect();
    assert_eq!(stored, ids, "what is told is what is stored");

    assert_eq!(
        letters(&busy.query("SELECT 1").await),
        "TDCZ",
        "not within a transaction"
    );
    busy.say(&[query("COMMIT")]).await;
    let frames = busy.until(b'Z').await;
    assert_eq!(letters(&frames), "CAAAZ");
    assert_eq!(told(&frames), alerts);
    // Once a window, however often it is asked.
    assert_eq!(
        code(&mel.query(ASK.replace('b', "B").as_str()).await).as_deref(),
        Some("53400")
    );
    for raw in [&mut idle, &mut busy, &mut other] {
        assert_eq!(letters(&raw.query("SELECT 1").await), "TDCZ");
    }
    server.assert_alive();
}
