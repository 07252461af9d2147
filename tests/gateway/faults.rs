//! Providers that fail, lie, stall or send too much; limits and budgets that say no.

use std::time::Duration;

use crate::common::provider::Provider;
use crate::common::server::{fails, one, rows};
use crate::{KEY, lines, run, served, use_model};

/// What each fault is to the client, and what the attempts are in the ledger.
const FAULTS: &[(&str, &str, &[&str])] = &[
    ("unauthorized", "58030", &["error"]),
    ("forbidden", "58030", &["error"]),
    ("quota-spent", "58030", &["error"]),
    ("status-503", "58030", &["error", "error", "error"]),
    ("context-exceeded", "58030", &["error"]),
    ("redirect", "58030", &["error"]),
    ("bad-json", "58030", &["error"]),
    ("html", "58030", &["error", "error", "error"]),
    ("no-choices", "58030", &["error"]),
    ("huge", "58030", &["error"]),
];

/// X38: a failed call is an error with the provider's status in its detail, its attempts are in the ledger, and
/// nothing else is left of it: no cached answer, no reservation, no key in any text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x38_faults_of_providers() {
    let provider = Provider::start();
    let mut server = served(&provider, "echo", &["acme"]).await;
    let operator = server.operator().await;
    let client = server.connect("acme", "owner").await;
    let mut before = 0;
    for (model, expected, attempts) in FAULTS {
        use_model(&operator, model).await;
        let sql = format!("SELECT ai.complete('what {model} makes of it')");
        let error = client.simple_query(&sql).await.expect_err(model);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), *expected, "{model}: {error:?}");
        let detail: serde_json::Value = serde_json::from_str(error.detail().unwrap_or_default())
            .unwrap_or_else(|e| panic!("{model}: {e}: {error:?}"));
        assert!(
            detail.get("kind").is_some() && detail.get("status").is_some(),
            "{model}: {detail}"
        );
        assert!(!format!("{error:?}").contains(KEY), "{model} tells the key");
        let all = lines(&client).await;
        let statuses: Vec<&str> = all[before..].iter().map(|line| &*line[0]).collect();
        assert_eq!(statuses, *attempts, "{model}");
        before = all.len();
    }
    assert_eq!(
        one(&client, "SELECT sum(reserved_usd) FROM bulkhead.budgets")
            .await
            .as_deref(),
        Some("0")
    );
    let costs = "SELECT (SELECT sum(cost_usd) FROM bulkhead.usage) = (SELECT sum(total_cost_usd) FROM bulkhead.costs)";
    assert_eq!(one(&client, costs).await.as_deref(), Some("t"));
    server.assert_alive();
    assert!(
        !String::from_utf8_lossy(&server.output()).contains(KEY),
        "the log tells the key"
    );
}

/// F05: each attempt is a line of its own under one request: the ids differ in the last byte only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f05_every_attempt_is_in_the_ledger() {
    let provider = Provider::start();
    let server = served(&provider, "status-500-once", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    let answer = one(&client, "SELECT ai.complete('one two three', system => '')").await;
    assert_eq!(answer.as_deref(), Some("one two three"));
    let all = lines(&client).await;
    assert_eq!(all.iter().map(|l| &*l[0]).collect::<Vec<_>>(), ["error", "ok"]);
    // The first may have been worked on: its prompt is charged as counted here, the second as told: one of three cached.
    assert_eq!(all[0][4], "t");
    assert_eq!(all[1][1..], ["3", "3", "1450", "f"]);
    let ids = rows(&client, "SELECT left(id::text, 34), right(id::text, 2) FROM bulkhead.usage WHERE operation = 'complete' ORDER BY at, id").await;
    assert_eq!(ids[0][0], ids[1][0]);
    assert_eq!((&*ids[0][1], &*ids[1][1]), ("01", "02"));
    assert_eq!(provider.log_of("one two three").len(), 2, "no other retries");
}

/// F09: usage that is missing or cannot be true is replaced by what was counted, flagged, and never above what was
/// reserved; a provider that names another model is told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_what_providers_claim() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let operator = server.operator().await;
    let client = server.connect("acme", "owner").await;
    run(&client, "SET ai.cache = off").await;
    let models = [
        ("echo", "f"),
        ("usage-first", "f"),
        ("no-usage", "t"),
        ("negative-usage", "t"),
        ("absurd-usage", "t"),
        ("text-usage", "t"),
        ("other-model", "t"),
    ];
    for (at, (model, estimated)) in models.into_iter().enumerate() {
        use_model(&operator, model).await;
        let answer = one(
            &client,
            "SELECT ai.complete('one two three', max_tokens => 50, system => '')",
        )
        .await;
        assert_eq!(answer.as_deref(), Some("one two three"), "{model}");
        let line = lines(&client).await.swap_remove(at);
        assert_eq!((&*line[0], &*line[4]), ("ok", estimated), "{model}: {line:?}");
        let cost: i64 = line[3].parse().expect("a number");
        assert!((1..=100 * 40 + 500 * 50).contains(&cost), "{model} costs {cost}");
    }
}

/// A reply longer than asked for is cut, and paid for as reserved at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_was_asked_for() {
    let provider = Provider::start();
    let server = served(&provider, "words-4000", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    let sql = "SELECT ai.complete('go on', max_tokens => 20, system => '')";
    let answer = one(&client, sql).await.expect("a value");
    let words = answer.split_whitespace().count();
    assert!(words <= 41, "{words} words");
    let line = lines(&client).await.remove(0);
    assert!(line[2].parse::<i64>().expect("a number") <= 20, "{line:?}");
    assert_eq!(line[4], "t");
}

/// A prompt that the context cannot hold is refused before anything is reserved or sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_prompts_that_do_not_fit() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    assert_eq!(
        fails(&client, "SELECT ai.complete(repeat('word ', 20000))").await,
        "54000"
    );
    assert_eq!(
        fails(&client, "SELECT ai.complete('x', max_tokens => 0)").await,
        "22023"
    );
    assert_eq!(
        fails(&client, "SELECT ai.complete('x', model => 'nosuch')").await,
        "42704"
    );
    assert!(lines(&client).await.is_empty());
    assert_eq!(provider.counter("requests"), 0);
}

/// B15: a call whose client cancels or leaves is charged its input, and its answer reaches nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b15_cancelled_calls() {
    let provider = Provider::start();
    let server = served(&provider, "stall", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    let cancel = client.cancel_token();
    let canceller = async {
        while provider.log_of("never told").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel
            .cancel_query(tokio_postgres::NoTls)
            .await
            .expect("a cancel request is sent");
    };
    let (state, ()) = tokio::join!(
        fails(&client, "SELECT ai.complete('never told', system => '')"),
        canceller
    );
    assert_eq!(state, "57014");
    // Settled in the background.
    let mut line = Vec::new();
    for _ in 0..100 {
        line = lines(&client).await;
        if !line.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(line[0][0], "cancelled");
    assert!(line[0][3].parse::<i64>().expect("a number") > 0, "the input is charged");
    let operator = server.operator().await;
    use_model(&operator, "echo").await;
    let answer = one(&client, "SELECT ai.complete('my own question', system => '')").await;
    assert_eq!(answer.as_deref(), Some("my own question"));
    let reserved = one(&client, "SELECT sum(reserved_usd) FROM bulkhead.budgets").await;
    assert_eq!(reserved.as_deref(), Some("0"));
}

/// F01 over the wire: of sixty calls at once a hard budget admits those that it affords, to the nano-dollar; plain SQL
/// goes on, and raising the budget lets calls pass again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_a_budget_admits_what_it_affords() {
    let provider = Provider::start();
    let server = served(&provider, "words-1", &["acme"]).await;
    let operator = server.operator().await;
    let client = server.connect("acme", "owner").await;
    run(&client, "SET ai.cache = off").await;
    run(&client, "SELECT ai.complete('x', max_tokens => 10, system => '')").await;
    let spent: i64 = lines(&client).await[0][3].parse().expect("a number");
    let budget = 10_000 + spent;
    let amount = format!("{}.{:09}", budget / 1_000_000_000, budget % 1_000_000_000);
    run(
        &operator,
        &format!("SELECT bulkhead.set_budget(tenant => 'acme', window => 'day', amount_usd => {amount}, hard => true)"),
    )
    .await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = server.connect("acme", "owner").await;
        calls.spawn(async move {
            run(&client, "SET ai.cache = off").await;
            let mut admitted = 0;
            for _ in 0..3 {
                match client
                    .simple_query("SELECT ai.complete('x', max_tokens => 10, system => '')")
                    .await
                {
                    Ok(_) => admitted += 1,
                    Err(error) => {
                        let error = error.as_db_error().expect("an error of the server").clone();
                        assert_eq!(error.code().code(), "53400", "{error:?}");
                        assert!(error.detail().is_some_and(|d| d.contains("resets_at")), "{error:?}");
                    }
                }
            }
            admitted
        });
    }
    let admitted: u32 = calls.join_all().await.into_iter().sum();
    let row = rows(
        &client,
        "SELECT (spent_usd * 1000000000)::bigint, reserved_usd FROM bulkhead.budgets WHERE window = 'day'",
    )
    .await;
    let all: i64 = row[0][0].parse().expect("a number");
    assert!(all <= budget, "overshoot: {all} of {budget}");
    assert_eq!(all, spent * (i64::from(admitted) + 1));
    assert!((1..=20).contains(&admitted), "{admitted} admitted");
    assert_eq!(row[0][1], "0");
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("0")
    );
    run(
        &operator,
        "SELECT bulkhead.set_budget(tenant => 'acme', window => 'day', amount_usd => 5, hard => true)",
    )
    .await;
    run(&client, "SELECT ai.complete('x', max_tokens => 10, system => '')").await;
}
