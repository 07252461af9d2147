//! Documents embedded by any model, with a scripted provider as a process of its own: what it costs, what a failure
//! leaves, and how a tenant passes from one model to another while it searches.

mod common;

use std::time::{Duration, Instant};

use common::provider::{Provider, vector, words};
use common::server::{PATIENCE, Server, fails, one, rows};
use tokio_postgres::Client;

/// Nano-USD a token of every scripted model.
const PRICE: i64 = 7;

/// A server with this provider and an alias of the same name for each of these models, and tenants.
async fn served(provider: &Provider, models: &[&str], tenants: &[&str]) -> Server {
    let server = Server::start("embedding");
    let operator = server.operator().await;
    let url = provider.base_url();
    run(
        &operator,
        &format!("INSERT INTO bulkhead.providers (name, base_url, api_key, timeout_ms) VALUES ('up', '{url}', 'sk-none-of-yours-012345', 20000)"),
    )
    .await;
    for model in models {
        run(
            &operator,
            &format!(
                "INSERT INTO bulkhead.model_prices (provider, model, valid_from, input_nanousd, cached_input_nanousd, \
                 output_nanousd, reasoning_nanousd, embedding_nanousd) VALUES ('up', '{model}', '2020-01-01', 0, 0, 0, 0, {PRICE}); \
                 INSERT INTO bulkhead.models (name, provider, model, kind, context_tokens, max_output_tokens) \
                 VALUES ('{model}', 'up', '{model}', 'embedding', 8192, 0)"
            ),
        )
        .await;
    }
    server.widen_tiers().await;
    server.create_tenants(tenants).await;
    server
}

async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {error:?}");
    }
}

async fn number(client: &Client, sql: &str) -> i64 {
    let text = one(client, sql).await.unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("{sql}: {text:?} is no number"))
}

async fn set_model(server: &Server, tenant: &str, model: &str) {
    let sql = format!("SELECT bulkhead.set_tenant('{tenant}', embedding_model => '{model}')");
    run(&server.operator().await, &sql).await;
}

/// Documents of one chunk each, in one statement.
async fn insert(client: &Client, numbers: std::ops::Range<usize>) {
    let values: Vec<String> = numbers
        .map(|n| format!("('title {n}', 'the harbour number{n} opens at nine')"))
        .collect();
    run(
        client,
        &format!("INSERT INTO documents (title, content) VALUES {}", values.join(", ")),
    )
    .await;
}

/// State, done, total, message and id of the newest job.
async fn job(client: &Client) -> Option<Vec<String>> {
    let sql = "SELECT state, done, total, message, id FROM bulkhead.jobs ORDER BY created_at DESC LIMIT 1";
    rows(client, sql).await.pop()
}

/// Waits until the newest job is like this.
async fn until(client: &Client, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < PATIENCE {
        last = job(client).await;
        if let Some(job) = &last
            && holds(job)
        {
            return job.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {what}: {last:?}");
}

/// Every chunk has the vector that this model gives to it now.
async fn assert_vectors(client: &Client, model: &str, dimensions: usize) {
    let sql = "SELECT d.title, c.content, c.embedding_model, c.embedding FROM chunks c JOIN documents d ON d.id = c.document_id";
    let all = rows(client, sql).await;
    assert!(!all.is_empty());
    for row in all {
        assert_eq!(row[2], model);
        let stored: Vec<f32> = serde_json::from_str(&row[3]).expect("a vector");
        let made = vector(&format!("{}\n\n{}", row[0], row[1]), dimensions);
        assert_eq!(stored.len(), dimensions);
        let far = stored.iter().zip(&made).any(|(a, b)| (a - b).abs() > 1e-5);
        assert!(!far, "{} has a vector of another text", row[0]);
    }
}

/// What the provider was asked to embed.
fn inputs(provider: &Provider) -> Vec<String> {
    let texts = provider.log().into_iter().flat_map(|entry| {
        let input = entry["body"]["input"].as_array().cloned().unwrap_or_default();
        input
            .into_iter()
            .map(|text| text.as_str().unwrap_or_default().to_owned())
    });
    texts.collect()
}

#[tokio::test]
async fn documents_cost_what_the_provider_reports() {
    let provider = Provider::start();
    let mut server = served(&provider, &["embed-384"], &["acme", "beta"]).await;
    set_model(&server, "acme", "embed-384").await;
    let (acme, beta) = (
        server.connect("acme", "owner").await,
        server.connect("beta", "owner").await,
    );
    insert(&acme, 0..150).await;
    run(
        &acme,
        "SELECT ai.ingest('long', repeat('many words of a long text. ', 2000))",
    )
    .await;
    run(
        &acme,
        "UPDATE documents SET content = 'the harbour has moved' WHERE title = 'title 3'",
    )
    .await;
    insert(&beta, 0..20).await;
    assert_vectors(&acme, "embed-384", 384).await;
    let sent = inputs(&provider);
    assert!(sent.len() > 152, "{} texts", sent.len());
    let used: i64 = sent.iter().map(|text| words(text)).sum();
    let billed = "SELECT sum(prompt_tokens), (sum(cost_usd) * 1000000000)::bigint, count(*), min(status), max(status) \
                  FROM bulkhead.usage WHERE operation = 'embed'";
    let calls = provider.log().len();
    let expected = [
        used.to_string(),
        (used * PRICE).to_string(),
        calls.to_string(),
        "ok".into(),
        "ok".into(),
    ];
    assert_eq!(rows(&acme, billed).await, [expected]);
    assert!(calls < sent.len() / 20, "texts go in batches: {calls} calls");
    // A query goes to the model of the documents, and a tenant that has another model sends nothing.
    provider.forget();
    for search in [
        "SELECT title FROM ai.search('harbour number7', mode => 'vector', k => 1)",
        "SELECT content FROM vector_search('chunks', 'harbour number7', 1)",
        "SELECT ai.embed('harbour number7')",
        "SELECT content FROM ai.search('harbour number7', mode => 'keyword', k => 1)",
    ] {
        assert_eq!(rows(&acme, search).await.len(), 1, "{search}");
        assert_eq!(rows(&beta, search).await.len(), 1, "{search}");
    }
    assert_eq!(inputs(&provider), ["harbour number7"; 3]);
    assert_eq!(
        one(&beta, "SELECT DISTINCT embedding_model FROM chunks")
            .await
            .as_deref(),
        Some("builtin-hash-1024")
    );
    server.assert_alive();
}

#[tokio::test]
async fn a_failing_provider_leaves_nothing() {
    let mut provider = Provider::start();
    let server = served(&provider, &["embed-8-status-400", "embed-8"], &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    set_model(&server, "acme", "embed-8-status-400").await;
    let insert_one = "INSERT INTO documents (title, content) VALUES ('a', 'b')";
    for sql in [insert_one, "SELECT ai.ingest('a', 'b')"] {
        assert_eq!(fails(&client, sql).await, "58030");
    }
    run(&client, "BEGIN").await;
    assert_eq!(fails(&client, insert_one).await, "58030");
    run(&client, "ROLLBACK").await;
    let nothing = "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM chunks), \
                   (SELECT sum(reserved_usd) FROM bulkhead.budgets)::float8 = 0";
    assert_eq!(rows(&client, nothing).await, [["0", "0", "t"]]);
    // A tenant without documents takes another model at once.
    set_model(&server, "acme", "embed-8").await;
    run(&client, insert_one).await;
    assert_vectors(&client, "embed-8", 8).await;
    assert_eq!(job(&client).await, None);
    provider.kill();
    assert_eq!(
        fails(&client, "UPDATE documents SET content = 'changed'").await,
        "58030"
    );
    assert_eq!(fails(&client, "SELECT * FROM ai.search('b')").await, "58030");
    assert_eq!(
        rows(&client, "SELECT d.content, c.content FROM documents d, chunks c").await,
        [["b", "b"]]
    );
    assert_eq!(
        rows(&client, "SELECT * FROM ai.search('b', mode => 'keyword')")
            .await
            .len(),
        1
    );
    run(&client, "DELETE FROM documents").await;
    assert_eq!(number(&client, "SELECT count(*) FROM chunks").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_go_on_while_the_model_changes() {
    let slow = "embed-384-wait-150";
    let provider = Provider::start();
    let mut server = served(&provider, &[slow], &["acme", "beta"]).await;
    let client = server.connect("acme", "owner").await;
    let beta = server.connect("beta", "owner").await;
    insert(&client, 0..300).await;
    insert(&beta, 900..905).await;
    // A transaction that was begun under the old model.
    let other = server.connect("acme", "owner").await;
    run(&other, "BEGIN").await;
    run(
        &other,
        "INSERT INTO documents (title, content) VALUES ('open', 'the harbour of an open transaction')",
    )
    .await;

    set_model(&server, "acme", slow).await;
    let searcher = server.connect("acme", "owner").await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let searching = tokio::spawn(async move {
        let (mut searches, mut stopped) = (0, std::pin::pin!(stopped));
        while futures::poll!(&mut stopped).is_pending() {
            for (sql, expected) in [
                ("SELECT title FROM ai.search('harbour number5', k => 7)", 7),
                (
                    "SELECT title FROM ai.search('harbour', k => 1000, mode => 'vector')",
                    298,
                ),
                ("SELECT distance FROM vector_search('chunks', 'harbour number5', 9)", 9),
            ] {
                let found = rows(&searcher, sql).await.len();
                assert!(found >= expected, "{sql}: {found} rows");
                searches += 1;
            }
        }
        searches
    });
    let begun = until(&client, "embeds", |job| job[0] == "running" && job[1] != "0").await;
    assert_eq!(
        one(&client, "SELECT DISTINCT embedding_model FROM chunks")
            .await
            .as_deref(),
        Some("builtin-hash-1024")
    );
    // Documents that the job has passed, or has yet to come to.
    run(
        &client,
        "UPDATE documents SET content = 'the harbour changed meanwhile' WHERE title IN ('title 1', 'title 299')",
    )
    .await;
    run(&client, "DELETE FROM documents WHERE title IN ('title 2', 'title 298')").await;
    insert(&client, 300..310).await;
    let done = until(&client, "done", |job| job[0] == "succeeded").await;
    assert_eq!(
        (&done[1], &done[2], &done[3], &done[4]),
        (&"308".into(), &"308".into(), &"NULL".into(), &begun[4])
    );
    // Its own document is among what the transaction sees, by the new model.
    let own = "SELECT title FROM ai.search('the harbour of an open transaction', k => 1, mode => 'vector')";
    assert_eq!(one(&other, own).await.as_deref(), Some("open"));
    assert_eq!(
        rows(&other, "SELECT * FROM ai.search('harbour', k => 1000)")
            .await
            .len(),
        309
    );
    run(&other, "COMMIT").await;
    stop.send(()).expect("it searches still");
    let searches = searching.await.expect("every search answers");
    assert!(searches > 3, "{searches} searches");
    assert_vectors(&client, slow, 384).await;
    assert_eq!(number(&client, "SELECT count(*) FROM chunks").await, 309);
    let nearest =
        "SELECT distance::float8 FROM vector_search('chunks', 'title 7 the harbour number7 opens at nine', 1)";
    let distance: f64 = one(&client, nearest)
        .await
        .and_then(|d| d.parse().ok())
        .expect("a distance");
    assert!(distance.abs() < 1e-5, "{distance}: not by the new model");
    // What was done is charged to the tenant that it was done for.
    let charged = "SELECT count(*) > 0, sum(cost_usd) > 0 FROM bulkhead.usage WHERE operation = 'embed' AND model = 'embed-384-wait-150' AND user_id = 'bulkhead'";
    assert_eq!(rows(&client, charged).await, [["t", "t"]]);
    assert_eq!(rows(&beta, charged).await[0][0], "f");
    assert_eq!(
        one(&beta, "SELECT DISTINCT embedding_model FROM chunks")
            .await
            .as_deref(),
        Some("builtin-hash-1024")
    );
    assert_eq!(
        rows(&beta, "SELECT * FROM ai.search('harbour', k => 1000)").await.len(),
        5
    );
    assert_eq!(job(&beta).await, None);
    server.assert_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_goes_on_where_it_was() {
    let slow = "embed-64-wait-200";
    let provider = Provider::start();
    let mut server = served(&provider, &[slow], &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    insert(&client, 0..400).await;
    set_model(&server, "acme", slow).await;
    let mut id = None;
    for part in [64, 192] {
        let client = server.connect("acme", "owner").await;
        let running = until(&client, "under way", |job| {
            job[1].parse::<i64>().is_ok_and(|done| done >= part)
        })
        .await;
        assert_eq!(running[0], "running");
        assert_eq!(id.get_or_insert(running[4].clone()), &running[4], "another job");
        server.kill();
        server.again();
    }
    let client = server.connect("acme", "owner").await;
    assert_eq!(
        rows(&client, "SELECT * FROM ai.search('harbour', k => 1000)")
            .await
            .len(),
        400
    );
    let done = until(&client, "done", |job| job[0] == "succeeded").await;
    assert_eq!((Some(done[4].clone()), &done[1]), (id, &"400".into()));
    assert_vectors(&client, slow, 64).await;
    assert_eq!(
        rows(&client, "SELECT * FROM ai.search('harbour', k => 1000)")
            .await
            .len(),
        400
    );
    // Each kill may cost the call that was under way, and the call after each start is a search's.
    let sent = inputs(&provider).len();
    assert!(sent <= 400 + 2 * 64 + 4, "{sent} texts were sent for 400");
    server.again();
    let client = server.connect("acme", "owner").await;
    assert_eq!(
        rows(&client, "SELECT * FROM ai.search('harbour', k => 1000)")
            .await
            .len(),
        400
    );
    assert_eq!(number(&client, "SELECT count(*) FROM bulkhead.jobs").await, 1);
}

#[tokio::test]
async fn a_job_that_failed_is_tried_again_when_asked() {
    let provider = Provider::start();
    let server = served(
        &provider,
        &["embed-8-unauthorized", "embed-8-status-500-times-4", "embed-16"],
        &["acme"],
    )
    .await;
    let client = server.connect("acme", "owner").await;
    insert(&client, 0..5).await;
    set_model(&server, "acme", "embed-8-unauthorized").await;
    let failed = until(&client, "failed", |job| job[0] == "failed").await;
    assert_ne!(failed[3], "NULL");
    assert!(!failed[3].contains("sk-none"), "{}", failed[3]);
    let search = "SELECT title FROM ai.search('harbour number3', k => 10)";
    assert_eq!(rows(&client, search).await.len(), 5);
    insert(&client, 5..6).await;
    let retry = format!("SELECT bulkhead.retry_job('{}')", failed[4]);
    let before = provider.log().len();
    run(&client, &retry).await;
    until(&client, "failed again", |job| job[0] == "failed").await;
    assert!(provider.log().len() > before);
    assert_eq!(rows(&client, search).await.len(), 6);
    // The gate gives up, the job does not.
    set_model(&server, "acme", "embed-8-status-500-times-4").await;
    let done = until(&client, "done", |job| job[0] == "succeeded").await;
    assert_ne!(done[4], failed[4]);
    assert_vectors(&client, "embed-8-status-500-times-4", 8).await;
    assert_eq!(
        fails(&client, &format!("SELECT bulkhead.retry_job('{}')", done[4])).await,
        "55000"
    );
    assert_eq!(
        fails(
            &client,
            &format!("SELECT bulkhead.retry_job('{}')", uuid::Uuid::new_v4())
        )
        .await,
        "42704"
    );
    // By the default of all tenants, and back to the built-in model.
    set_model(&server, "acme", "").await;
    until(&client, "built in", |job| job[0] == "succeeded" && job[4] != done[4]).await;
    let built_in = one(&client, "SELECT DISTINCT embedding_model FROM chunks").await;
    assert_eq!(built_in.as_deref(), Some("builtin-hash-1024"));
    let operator = server.operator().await;
    run(
        &operator,
        "UPDATE bulkhead.models SET provider = 'up', model = 'embed-16' WHERE name = 'default-embedding'",
    )
    .await;
    let begun = Instant::now();
    while one(&client, "SELECT DISTINCT embedding_model FROM chunks")
        .await
        .as_deref()
        != Some("embed-16")
    {
        assert!(begun.elapsed() < PATIENCE, "{:?}", job(&client).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_vectors(&client, "embed-16", 16).await;
    assert_eq!(rows(&client, search).await.len(), 6);
    assert_eq!(
        fails(&client, "UPDATE bulkhead.jobs SET state = 'queued'").await,
        "42501"
    );
}

/// A job that a budget stops says so and waits, while searches go on over the old vectors; it goes on once the budget is
/// raised, and never spends more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_waits_for_its_budget() {
    let provider = Provider::start();
    let mut server = served(&provider, &["embed-32"], &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    insert(&client, 0..300).await;
    let operator = server.operator().await;
    // For two of the five calls that it takes.
    let spent = "SELECT COALESCE(sum(cost_usd), 0)::float8 FROM bulkhead.usage WHERE operation = 'embed' AND model = 'embed-32'";
    run(&operator, "SELECT bulkhead.set_budget('acme', 'day', 0.000020)").await;
    set_model(&server, "acme", "embed-32").await;
    let waiting = until(&client, "waits", |job| job[3].contains("daily_budget")).await;
    assert_eq!(waiting[0], "running");
    let done: i64 = waiting[1].parse().expect("a number");
    assert!((1..300).contains(&done), "{done} done");
    let search = "SELECT title FROM ai.search('harbour number7', k => 1, mode => 'vector')";
    assert_eq!(one(&client, search).await.as_deref(), Some("title 7"));
    let old = "SELECT DISTINCT embedding_model FROM chunks";
    assert_eq!(one(&client, old).await.as_deref(), Some("builtin-hash-1024"));
    let used: f64 = one(&client, spent)
        .await
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(used > 0.0 && used <= 0.000_020, "{used}");
    run(&operator, "SELECT bulkhead.set_budget('acme', 'day', 100)").await;
    let finished = until(&client, "done", |job| job[0] == "succeeded").await;
    assert_eq!((&finished[1], &finished[4]), (&"300".into(), &waiting[4]));
    assert_vectors(&client, "embed-32", 32).await;
    // What was embedded before the budget was used up is not sent again.
    assert_eq!(inputs(&provider).len(), 300);
    server.assert_alive();
}

/// Another model is set while a job runs: that job ends, its vectors go, and the last model that was set is the one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_model_that_was_set_is_the_one() {
    let provider = Provider::start();
    let mut server = served(
        &provider,
        &["embed-64-wait-150", "embed-384", "embed-8-wait-2000"],
        &["acme"],
    )
    .await;
    let client = server.connect("acme", "owner").await;
    insert(&client, 0..300).await;
    set_model(&server, "acme", "embed-64-wait-150").await;
    let first = until(&client, "embeds", |job| job[0] == "running" && job[1] != "0").await;
    set_model(&server, "acme", "embed-384").await;
    let second = until(&client, "done", |job| job[0] == "succeeded").await;
    assert_ne!(first[4], second[4]);
    let all = rows(&client, "SELECT state, message FROM bulkhead.jobs ORDER BY created_at").await;
    assert_eq!(
        all,
        [["failed", "another embedding model was set"], ["succeeded", "NULL"]]
    );
    assert_vectors(&client, "embed-384", 384).await;
    let nearest = "SELECT content FROM vector_search('chunks', 'title 7 the harbour number7 opens at nine', 1)";
    assert_eq!(
        one(&client, nearest).await.as_deref(),
        Some("the harbour number7 opens at nine")
    );
    // And back again while one runs: nothing is sent anew for what is there.
    let sent = inputs(&provider).len();
    set_model(&server, "acme", "embed-8-wait-2000").await;
    until(&client, "begun", |job| job[0] == "running").await;
    set_model(&server, "acme", "embed-384").await;
    until(&client, "given up", |job| job[0] == "failed").await;
    assert_vectors(&client, "embed-384", 384).await;
    assert!(
        inputs(&provider).len() <= sent + 64,
        "the vectors that are there are made again"
    );
    server.assert_alive();
}

/// Another provider is another model though the name and the length of its vectors are the same: everything is
/// embedded anew, and no vector of one is compared with one of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_name_elsewhere_is_another_model() {
    let (here, elsewhere) = (Provider::start(), Provider::start());
    let mut server = served(&here, &["embed-16"], &["acme"]).await;
    let operator = server.operator().await;
    let url = elsewhere.base_url();
    run(
        &operator,
        &format!(
            "INSERT INTO bulkhead.providers (name, base_url) VALUES ('other', '{url}'); \
             INSERT INTO bulkhead.model_prices (provider, model, valid_from, input_nanousd, cached_input_nanousd, \
             output_nanousd, reasoning_nanousd, embedding_nanousd) VALUES ('other', 'embed-16', '2020-01-01', 0, 0, 0, 0, {PRICE})"
        ),
    )
    .await;
    set_model(&server, "acme", "embed-16").await;
    let client = server.connect("acme", "owner").await;
    insert(&client, 0..20).await;
    assert_eq!((inputs(&here).len(), inputs(&elsewhere).len()), (20, 0));
    run(
        &operator,
        "UPDATE bulkhead.models SET provider = 'other' WHERE name = 'embed-16'",
    )
    .await;
    let done = until(&client, "done", |job| job[0] == "succeeded").await;
    assert_eq!(done[1], "20");
    assert_eq!((inputs(&here).len(), inputs(&elsewhere).len()), (20, 20));
    run(&client, "SELECT * FROM ai.search('harbour number7')").await;
    insert(&client, 20..21).await;
    assert_eq!((inputs(&here).len(), inputs(&elsewhere).len()), (20, 22));
    assert_vectors(&client, "embed-16", 16).await;
    server.assert_alive();
}
