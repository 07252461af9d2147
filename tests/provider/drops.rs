//! B15: calls that are dropped at any moment take their connection with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead::ai::provider::{Event, Upstreams};
use bulkhead::ledger::provider::ProviderRow;
use futures::StreamExt;

use super::common::Seed;
use super::common::provider::Provider;
use super::common::server::PATIENCE;
use super::{answer, canary, prompt, row_at, until};

#[tokio::test]
async fn a_dropped_call_closes_its_connection_for_ever() {
    let provider = Provider::start();
    // Only being dropped ends a call here: its deadline lies beyond the test's patience.
    let row = ProviderRow {
        timeout_ms: 3_600_000,
        ..row_at(&provider.base_url())
    };
    let deadline = Instant::now() + PATIENCE * 10;
    let upstreams = Upstreams::new();
    let connection_of = |text: &str| provider.log_of(text)[0]["connection"].as_u64().unwrap();
    let mut broken = Vec::new();
    for (n, (model, stream)) in [("stall", false), ("stall", true), ("stall-after", true)]
        .into_iter()
        .enumerate()
    {
        // A connection lies ready, and is the one that the next call takes.
        let text = canary();
        answer(&upstreams, &row, &prompt("echo", &text, false)).await.unwrap();
        let ready = connection_of(&text);
        let text = canary();
        let request = prompt(model, &text, stream);
        let call = async {
            let mut stream = upstreams.chat(&row, None, &request, deadline).await.unwrap();
            assert_eq!(
                stream.next().await.unwrap().unwrap(),
                Event::Delta("canary ".to_owned())
            );
            std::future::pending::<()>().await;
        };
        let sent = async {
            until("the call has arrived", || !provider.log_of(&text).is_empty()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        tokio::select! {
            () = call => unreachable!("the provider stalls"),
            () = sent => {}
        }
        assert_eq!(connection_of(&text), ready);
        broken.push(ready);
        until("the provider sees the connection close", || {
            provider.counter("aborted") == n as u64 + 1
        })
        .await;
    }
    for _ in 0..5 {
        let text = canary();
        let (said, _) = answer(&upstreams, &row, &prompt("echo", &text, false)).await.unwrap();
        assert_eq!(said, text);
        assert!(!broken.contains(&connection_of(&text)), "a connection was used again");
    }
}

/// Drops of the usual run.
const DROPS: u64 = 4_000;

/// Many callers on one pool; each call is dropped at a random moment or must give its own text. `BULKHEAD_DROPS` says
/// how many are dropped; README names the long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b15_after_random_drops_every_answer_is_its_callers_own() {
    const CALLERS: u64 = 16;
    let wanted = std::env::var("BULKHEAD_DROPS").ok().and_then(|n| n.parse().ok());
    let wanted: u64 = wanted.unwrap_or(DROPS) / CALLERS;
    let provider = Provider::start();
    let upstreams = Arc::new(Upstreams::new());
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (upstreams, row) = (upstreams.clone(), row_at(&provider.base_url()));
        callers.spawn(async move {
            let mut seed = Seed(caller);
            let (mut dropped, mut answered) = (0, 0);
            while dropped < wanted {
                let text = format!("canary {} ends", seed.word(20));
                let model = *seed.pick(&["echo", "wait-1", "slow-stream-2"]);
                let request = prompt(model, &text, seed.below(2) == 0);
                let call = answer(&upstreams, &row, &request);
                // One third of the calls has all the time it wants.
                let moment = match seed.below(3) {
                    0 => PATIENCE,
                    _ => Duration::from_micros(seed.below(6_000)),
                };
                match tokio::time::timeout(moment, call).await {
                    Ok(Ok((said, _))) => {
                        assert_eq!(said, text);
                        answered += 1;
                    }
                    Ok(Err(failure)) => panic!("{model}: {failure:?}"),
                    Err(_) => dropped += 1,
                }
            }
            (dropped, answered)
        });
    }
    let (mut dropped, mut answered) = (0, 0);
    while let Some(caller) = callers.join_next().await {
        let (more_dropped, more_answered) = caller.unwrap();
        dropped += more_dropped;
        answered += more_answered;
    }
    println!("{dropped} calls dropped at random moments, {answered} answered, each with its own text");
    assert_eq!(dropped, wanted * CALLERS);
    assert!(answered > dropped / 10, "{dropped} dropped, {answered} answered");
    let text = canary();
    let row = row_at(&provider.base_url());
    assert_eq!(
        answer(&upstreams, &row, &prompt("echo", &text, true)).await.unwrap().0,
        text
    );
}
