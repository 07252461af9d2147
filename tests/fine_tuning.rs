//! Models of one tenant's own, over the wire and against a scripted provider: which examples it is sent, what becomes
//! of a job that succeeds, fails or outlives the server, and of a model that is gone; and the webhook of alerts. Rows
//! of THREATS.md are named by their ids.

mod common;

use std::time::{Duration, Instant};

use common::canary::{Canary, assert_silent};
use common::provider::Provider;
use common::raw::{Frame, Raw, fields, text_rows};
use common::server::{PATIENCE, Server, fails, one, password_of, rows};
use hmac::{Hmac, Mac};
use serde_json::Value;
use tokio_postgres::Client;

/// A name that shows wherever it goes.
const TENANT: &str = "quillfeather-x7q2k9";
const KEY: &str = "sk-operators-own-key-0123456789";

/// A server with the provider `up`, whose model `echo` is every tier's default, and the models `tunable`, `failing`
/// and `slow`, which can be trained. The tenants are enterprises.
async fn served(provider: &Provider, tenants: &[&str]) -> Server {
    let server = Server::start("fine_tuning");
    let operator = server.operator().await;
    let url = provider.base_url();
    let row = format!(
        "INSERT INTO bulkhead.providers (name, base_url, api_key, timeout_ms) VALUES ('up', '{url}', '{KEY}', 20000)"
    );
    run(&operator, &row).await;
    for (alias, model) in [
        ("default-small", "echo"),
        ("default-large", "echo"),
        ("tunable", "tune-2"),
        ("failing", "tune-fail-2"),
        ("slow", "tune-4"),
        ("stalling", "tune-stall"),
    ] {
        run(
            &operator,
            &format!(
                "INSERT INTO bulkhead.model_prices (provider, model, valid_from, input_nanousd, cached_input_nanousd, \
                 output_nanousd, reasoning_nanousd, embedding_nanousd) \
                 SELECT 'up', '{model}', '2020-01-01', 100, 100, 100, 100, 0 \
                 WHERE NOT EXISTS (SELECT 1 FROM bulkhead.model_prices WHERE model = '{model}')"
            ),
        )
        .await;
        let sql = match alias.starts_with("default-") {
            true => format!("UPDATE bulkhead.models SET provider = 'up', model = '{model}' WHERE name = '{alias}'"),
            false => format!(
                "INSERT INTO bulkhead.models (name, provider, model, kind, context_tokens, max_output_tokens) \
                 VALUES ('{alias}', 'up', '{model}', 'chat', 8192, 4096)"
            ),
        };
        run(&operator, &sql).await;
    }
    server.create_tenants(tenants).await;
    for tenant in tenants {
        set_tier(&server, tenant, "enterprise").await;
    }
    server
}

async fn set_tier(server: &Server, tenant: &str, tier: &str) {
    let sql = format!("SELECT bulkhead.alter_tenant('{tenant}', tier => '{tier}')");
    run(&server.operator().await, &sql).await;
}

async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {error:?}");
    }
}

async fn value(client: &Client, sql: &str) -> String {
    one(client, sql).await.unwrap_or_else(|| panic!("NULL: {sql}"))
}

/// A conversation of one turn; its id.
async fn turn(client: &Client, title: &str, asked: &str, replied: &str, rating: u8) -> String {
    let id = value(client, &format!("SELECT ai.create_conversation('{title}')")).await;
    value(client, &format!("SELECT ai.add_message('{id}', 'user', '{asked}')")).await;
    let reply = value(
        client,
        &format!("SELECT ai.add_message('{id}', 'assistant', '{replied}')"),
    )
    .await;
    value(client, &format!("SELECT ai.rate_message('{reply}', {rating})")).await;
    id
}

/// Ten good turns of a user who agrees.
async fn ten_turns(client: &Client) {
    for n in 0..10 {
        turn(
            client,
            "Private title of plumbago",
            &format!("question {n}"),
            &format!("answer {n}"),
            5,
        )
        .await;
    }
    value(client, "SELECT ai.set_training_consent(true)").await;
}

fn example(asked: &str, replied: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"{asked}"}},{{"role":"assistant","content":"{replied}"}}]}}"#)
}

/// Waits until a fine-tuning has this status.
async fn until_status(client: &Client, id: &str, status: &str) {
    let sql = format!("SELECT status FROM ai.fine_tunes WHERE id = '{id}'");
    until(&format!("{id} is {status}"), async || {
        value(client, &sql).await == status
    })
    .await;
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < patience, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The notices among these frames.
fn notices(frames: &[Frame]) -> Vec<String> {
    let notices = frames.iter().filter(|frame| frame.tag == b'N');
    notices
        .map(|frame| fields(frame).remove(&'M').unwrap_or_default())
        .collect()
}

/// What `ai.complete` answers, and the notices beside it.
async fn complete(raw: &mut Raw, more: &str) -> (String, Vec<String>) {
    let frames = raw
        .query(&format!("SELECT ai.complete('say this', system => ''{more})"))
        .await;
    let rows = text_rows(&frames);
    let answer = rows.first().unwrap_or_else(|| panic!("no answer: {frames:?}"));
    (answer[0].clone(), notices(&frames))
}

/// The models of the calls so far, in order.
async fn called(client: &Client) -> Vec<String> {
    let sql = "SELECT model FROM bulkhead.usage WHERE operation = 'complete' AND status = 'ok' ORDER BY at, id";
    rows(client, sql).await.into_iter().flatten().collect()
}

/// What the provider was sent to this path, oldest first.
fn sent(provider: &Provider, method: &str, path: &str) -> Vec<Value> {
    let mut log = provider.log();
    log.retain(|entry| entry["method"] == method && entry["path"].as_str().is_some_and(|p| p.starts_with(path)));
    log
}

/// B23: only who agreed, only what is still there and well rated, only this tenant; exactly, line by line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b23_examples_are_of_who_agreed_and_of_nobody_else() {
    let provider = Provider::start();
    let server = served(&provider, &[TENANT, "umbra"]).await;
    let (owner, neighbour) = (
        server.connect(TENANT, "owner").await,
        server.connect("umbra", "owner").await,
    );
    for user in ["ann", "bob", "carol", "dora"] {
        run(
            &owner,
            &format!("CREATE USER {user} PASSWORD '{}' IN ROLE member", password_of(user)),
        )
        .await;
    }
    let (ann, bob) = (server.connect(TENANT, "ann").await, server.connect(TENANT, "bob").await);
    let (carol, dora) = (
        server.connect(TENANT, "carol").await,
        server.connect(TENANT, "dora").await,
    );
    let kept = turn(&ann, "t", "one", "1", 5).await;
    turn(&ann, "t", "two", "2", 3).await;
    let deleted = turn(&ann, "t", "unsaid deleted", "unsaid gone", 5).await;
    for (client, words) in [
        (&bob, "unsaid never asked"),
        (&carol, "unsaid withdrawn"),
        (&neighbour, "unsaid neighbour"),
    ] {
        turn(client, "t", words, words, 5).await;
    }
    turn(&dora, "t", "three", "3", 4).await;
    for agreeing in [&ann, &carol, &dora, &neighbour] {
        value(agreeing, "SELECT ai.set_training_consent(true)").await;
    }
    value(&carol, "SELECT ai.set_training_consent(false)").await;
    value(&ann, &format!("SELECT ai.delete_conversation('{deleted}')")).await;

    let (one, two, three) = (example("one", "1"), example("two", "2"), example("three", "3"));
    let lines = async |sql: &str| rows(&owner, sql).await.into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(lines("SELECT line FROM ai.fine_tune_dataset()").await, [&*one, &three]);
    assert_eq!(
        lines("SELECT line FROM ai.fine_tune_dataset(min_rating => 5)").await,
        [&*one]
    );
    assert_eq!(
        lines("SELECT * FROM ai.fine_tune_dataset(3)").await,
        [&*two, &one, &three]
    );

    // A run of well-rated turns is one example, a bad reply ends it.
    for (role, content, rating) in [
        ("user", "one and", 0),
        ("assistant", "1 and", 4),
        ("user", "bad", 0),
        ("assistant", "worse", 1),
    ] {
        let id = value(&ann, &format!("SELECT ai.add_message('{kept}', '{role}', '{content}')")).await;
        if rating > 0 {
            value(&ann, &format!("SELECT ai.rate_message('{id}', {rating})")).await;
        }
    }
    let run_of_two = r#"{"messages":[{"role":"user","content":"one"},{"role":"assistant","content":"1"},{"role":"user","content":"one and"},{"role":"assistant","content":"1 and"}]}"#;
    assert_eq!(
        lines("SELECT line FROM ai.fine_tune_dataset()").await,
        [run_of_two, &three]
    );

    // A member, and a tier without it, are refused; of either nothing is sent.
    for sql in [
        "SELECT * FROM ai.fine_tune_dataset()",
        "SELECT ai.fine_tune(base_model => 'tunable')",
        "SELECT ai.register_model('mine', 'echo')",
    ] {
        assert_eq!(fails(&ann, sql).await, "42501", "{sql}");
        set_tier(&server, TENANT, "pro").await;
        assert_eq!(fails(&owner, sql).await, "42501", "{sql}");
        set_tier(&server, TENANT, "enterprise").await;
    }
    assert_eq!(fails(&owner, "SELECT * FROM ai.fine_tune_dataset(6)").await, "22023");
    // Two examples are too few.
    assert_eq!(fails(&owner, "SELECT ai.fine_tune('tunable')").await, "55000");
    assert_eq!(provider.log().len(), 0);
}

/// A job that succeeds: what is sent, who is not named, and that the model answers until the tier or the provider ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trained_model_answers_until_it_is_gone() {
    let provider = Provider::start();
    let server = served(&provider, &[TENANT, "umbra"]).await;
    let owner = server.connect(TENANT, "owner").await;
    let mut raw = server.raw(TENANT, "owner").await;
    run(&owner, "SET ai.cache = off").await;
    raw.query("SET ai.cache = off").await;
    ten_turns(&owner).await;
    assert_eq!(fails(&owner, "SELECT ai.fine_tune('nothing')").await, "42704");
    assert_eq!(fails(&owner, "SELECT ai.fine_tune('default-embedding')").await, "42704");
    assert_eq!(
        fails(&owner, "BEGIN; SELECT ai.fine_tune('tunable'); COMMIT").await,
        "25001"
    );
    run(&owner, "ROLLBACK").await;
    assert_eq!(provider.log().len(), 0);

    let id = value(&owner, "SELECT ai.fine_tune(base_model => 'tunable')").await;
    until_status(&owner, &id, "succeeded").await;
    let alias = value(&owner, "SELECT model FROM ai.fine_tunes").await;
    assert_eq!(alias, format!("fine-tuned-{}", &id[24..]));
    let told = rows(&owner, "SELECT base_model, examples, error FROM ai.fine_tunes").await;
    assert_eq!(told, [["tunable", "10", "NULL"]]);
    let line = rows(
        &owner,
        "SELECT model, prompt_tokens, cost_usd, status, estimated FROM bulkhead.usage WHERE operation = 'fine_tune'",
    )
    .await;
    assert_eq!(line, [["tune-2", "0", "0", "ok", "t"]]);
    let alerts = rows(&owner, "SELECT kind, data->>'model' FROM bulkhead.alerts").await;
    assert_eq!(alerts, [["fine_tune_succeeded", &*alias]]);

    // The file is what was shown, and is deleted when the job has ended.
    let dataset = rows(&owner, "SELECT line FROM ai.fine_tune_dataset()").await;
    let file: String = dataset.iter().flatten().map(|line| format!("{line}\n")).collect();
    let uploaded = sent(&provider, "POST", "/v1/files");
    let body = uploaded[0]["body"].as_str().expect("a form");
    assert!(
        uploaded.len() == 1 && body.contains(&format!("\r\n\r\n{file}\r\n")),
        "{body}"
    );
    assert_eq!(file.lines().count(), 10);
    until("the file is deleted", async || {
        !sent(&provider, "DELETE", "/v1/files/file-1").is_empty()
    })
    .await;
    // O1: nobody is named to the provider, in whatever form, nor any id of ours.
    let secrets = [TENANT, "Private title of plumbago", &id, &alias].map(Canary::text);
    let heard = serde_json::to_vec(&provider.log()).expect("JSON");
    assert_silent(&secrets, &heard, "what the provider was sent");
    let job = &sent(&provider, "POST", "/v1/fine_tuning/jobs")[0]["body"];
    let suffix = job["suffix"].as_str().expect("a suffix");
    assert!(
        suffix.len() == 12 && suffix.bytes().all(|b| b.is_ascii_hexdigit()),
        "{job}"
    );

    let trained = format!("ft:tune-2:{suffix}:1");
    assert_eq!(complete(&mut raw, "").await, ("say this".to_owned(), Vec::new()));
    assert_eq!(
        complete(&mut raw, &format!(", model => '{alias}'")).await.1,
        Vec::<String>::new()
    );
    assert_eq!(called(&owner).await, [&*trained, &trained]);
    // It has no price of its own: its base's stands in.
    let priced = "SELECT DISTINCT price_id, cost_usd > 0 FROM bulkhead.usage WHERE operation = 'complete'";
    assert_eq!(rows(&owner, priced).await, [["up/tune-2@2020-01-01", "t"]]);
    // Another tenant has no such model.
    let neighbour = server.connect("umbra", "owner").await;
    let asked = format!("SELECT ai.complete('x', model => '{alias}')");
    assert_eq!(fails(&neighbour, &asked).await, "42704");
    assert!(rows(&neighbour, "SELECT * FROM ai.fine_tunes").await.is_empty());

    // After a downgrade the tier's model answers, and the base where the own one is asked for by name.
    set_tier(&server, TENANT, "pro").await;
    assert_eq!(complete(&mut raw, "").await.1, Vec::<String>::new());
    let (_, told) = complete(&mut raw, &format!(", model => '{alias}'")).await;
    assert!(
        told.len() == 1 && told[0].contains("\"tunable\" answers instead"),
        "{told:?}"
    );
    assert_eq!(called(&owner).await[2..], ["echo", "tune-2"]);
    set_tier(&server, TENANT, "enterprise").await;

    // Once the provider does not know it any more the base answers, each time with a notice.
    provider.retire();
    provider.forget();
    for _ in 0..2 {
        let (answer, told) = complete(&mut raw, "").await;
        let words = format!("model \"{alias}\" is no longer served; \"tunable\" answers instead");
        assert_eq!((answer.as_str(), &*told), ("say this", &[words][..]));
    }
    assert_eq!(called(&owner).await[4..], ["tune-2", "tune-2"]);
    assert_eq!(provider.log_of(&trained).len(), 1, "it is asked for once");
    assert_eq!(value(&owner, "SELECT status FROM ai.fine_tunes").await, "retired");
    let failed = "SELECT model, cost_usd FROM bulkhead.usage WHERE status = 'error'";
    assert_eq!(rows(&owner, failed).await, [[&*trained, "0"]]);
    let alerts = "SELECT kind FROM bulkhead.alerts ORDER BY at";
    assert_eq!(rows(&owner, alerts).await, [["fine_tune_succeeded"], ["model_retired"]]);
}

/// A job that fails is told, and the default goes on; one that the server does not outlive is followed by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_job_changes_nothing_and_a_restart_ends_none() {
    let provider = Provider::start();
    let mut server = served(&provider, &[TENANT]).await;
    let owner = server.connect(TENANT, "owner").await;
    ten_turns(&owner).await;
    let id = value(&owner, "SELECT ai.fine_tune('failing')").await;
    until_status(&owner, &id, "failed").await;
    let told = rows(&owner, "SELECT model, error FROM ai.fine_tunes").await;
    assert_eq!(told, [["NULL", "line 1 is bad"]]);
    until("an alert", async || {
        let alerts = rows(&owner, "SELECT kind, data->>'error' FROM bulkhead.alerts").await;
        alerts == [["fine_tune_failed", "line 1 is bad"]]
    })
    .await;
    let mut raw = server.raw(TENANT, "owner").await;
    assert_eq!(complete(&mut raw, "").await, ("say this".to_owned(), Vec::new()));
    assert_eq!(called(&owner).await, ["echo"]);

    let id = value(&owner, "SELECT ai.fine_tune('slow')").await;
    server.again();
    let owner = server.connect(TENANT, "owner").await;
    until_status(&owner, &id, "succeeded").await;
    let mut raw = server.raw(TENANT, "owner").await;
    complete(&mut raw, "").await;
    assert!(called(&owner).await[1].starts_with("ft:tune-4:"));
    assert_eq!(sent(&provider, "POST", "/v1/fine_tuning/jobs").len(), 2, "no job twice");
    server.assert_alive();
}

/// A server that stops before the provider has confirmed a job has begun none: it says so, charges nothing, and takes
/// its examples back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_never_confirmed_has_failed() {
    let provider = Provider::start();
    let mut server = served(&provider, &[TENANT]).await;
    let owner = server.connect(TENANT, "owner").await;
    ten_turns(&owner).await;
    let begin = async { owner.simple_query("SELECT ai.fine_tune('stalling')").await.map(drop) };
    let asked = async {
        until("the job is asked for", async || {
            !sent(&provider, "POST", "/v1/fine_tuning/jobs").is_empty()
        })
        .await;
        server.again();
    };
    let (begun, ()) = tokio::join!(begin, asked);
    assert!(begun.is_err(), "the connection broke");
    let owner = server.connect(TENANT, "owner").await;
    let id = value(&owner, "SELECT id FROM ai.fine_tunes").await;
    until_status(&owner, &id, "failed").await;
    let why = value(&owner, "SELECT error FROM ai.fine_tunes").await;
    assert_eq!(why, "the server stopped before the provider had confirmed the job");
    until("the file is deleted", async || {
        !sent(&provider, "DELETE", "/v1/files/file-1").is_empty()
    })
    .await;
    assert_eq!(
        rows(&owner, "SELECT kind FROM bulkhead.alerts").await,
        [["fine_tune_failed"]]
    );
    assert_eq!(
        rows(&owner, "SELECT * FROM bulkhead.budgets WHERE reserved_usd > 0")
            .await
            .len(),
        0
    );
    let line = "SELECT status, cost_usd FROM bulkhead.usage WHERE operation = 'fine_tune'";
    until("its line is written", async || {
        rows(&owner, line).await == [["orphaned", "0"]]
    })
    .await;
}

/// What cannot begin says why, on the ledger too, and leaves nothing under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_begin_says_why() {
    let mut provider = Provider::start();
    let server = served(&provider, &[TENANT]).await;
    let owner = server.connect(TENANT, "owner").await;
    ten_turns(&owner).await;
    let operator = server.operator().await;
    run(
        &operator,
        "UPDATE bulkhead.models SET provider = 'builtin', model = 'builtin-extractive' WHERE name = 'slow'",
    )
    .await;
    assert_eq!(fails(&owner, "SELECT ai.fine_tune('slow')").await, "0A000");
    assert!(rows(&owner, "SELECT * FROM ai.fine_tunes").await.is_empty());
    provider.kill();
    assert_eq!(fails(&owner, "SELECT ai.fine_tune('tunable')").await, "58030");
    let told = rows(&owner, "SELECT status, error FROM ai.fine_tunes").await;
    assert_eq!(told, [["failed", "the model's provider cannot be reached"]]);
    let line = rows(
        &owner,
        "SELECT status, cost_usd FROM bulkhead.usage WHERE operation = 'fine_tune'",
    )
    .await;
    assert_eq!(line, [["error", "0"]]);
    // A budget that is used up refuses it, like any call.
    run(&operator, &format!("SELECT bulkhead.set_budget('{TENANT}', 'day', 0)")).await;
    assert_eq!(fails(&owner, "SELECT ai.fine_tune('tunable')").await, "53400");
    assert_eq!(rows(&owner, "SELECT * FROM ai.fine_tunes").await.len(), 1);
}

/// A model trained elsewhere is one of the tenant's own account, and answers only when preferred or asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_model_is_one_of_the_tenants_own_account() {
    let provider = Provider::start();
    let server = served(&provider, &[TENANT, "umbra"]).await;
    let owner = server.connect(TENANT, "owner").await;
    let mut raw = server.raw(TENANT, "owner").await;
    raw.query("SET ai.cache = off").await;
    let register = "SELECT ai.register_model('mine', 'words-3')";
    // Under the operator's key this could be the model of another tenant.
    assert_eq!(fails(&owner, register).await, "42501");
    value(&owner, "SELECT bulkhead.set_provider_key('up', 'sk-of-this-tenant')").await;
    for (wrong, code) in [
        ("'echo', 'words-3', base => 'nothing'", "42704"),
        ("'mine', 'words-3', provider => 'nobody'", "42704"),
        ("'mine', 'words-3', provider => 'builtin'", "22023"),
        ("'tunable', 'words-3'", "42710"),
        ("'no alias', 'words-3'", "22023"),
        ("'mine', 'two words'", "22023"),
    ] {
        assert_eq!(
            fails(&owner, &format!("SELECT ai.register_model({wrong})")).await,
            code,
            "{wrong}"
        );
    }
    assert_eq!(value(&owner, register).await, "mine");
    assert_eq!(complete(&mut raw, "").await.0, "say this");
    assert_eq!(complete(&mut raw, ", model => 'mine'").await.0, "w0 w1 w2 ");
    assert_eq!(
        provider.log_of("words-3")[0]["headers"]["authorization"],
        "Bearer sk-of-this-tenant"
    );
    let shown = "SELECT name FROM bulkhead.models WHERE name = 'mine'";
    assert_eq!(rows(&owner, shown).await, [["mine"]]);
    let neighbour = server.connect("umbra", "owner").await;
    assert!(rows(&neighbour, shown).await.is_empty());
    assert_eq!(
        fails(&neighbour, "SELECT ai.complete('x', model => 'mine')").await,
        "42704"
    );

    value(&owner, "SELECT ai.register_model('mine', 'words-3', preferred => true)").await;
    assert_eq!(complete(&mut raw, "").await.0, "w0 w1 w2 ");
    value(
        &owner,
        "SELECT ai.register_model('newer', 'words-2', preferred => true)",
    )
    .await;
    assert_eq!(complete(&mut raw, "").await.0, "w0 w1 ");
    value(&owner, "SELECT ai.register_model('newer', 'words-2', base => 'slow')").await;
    assert_eq!(complete(&mut raw, "").await.0, "say this");
    // It outlives the alias that it was made from, and is charged like the default then.
    run(
        &server.operator().await,
        "DELETE FROM bulkhead.models WHERE name = 'slow'",
    )
    .await;
    assert_eq!(complete(&mut raw, ", model => 'newer'").await.0, "w0 w1 ");
}

/// Each threshold of a budget is posted once, signed, tried again when it has to be, and only to whom it belongs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_posted_once_a_threshold() {
    let provider = Provider::start();
    let server = served(&provider, &[TENANT, "umbra"]).await;
    let operator = server.operator().await;
    let hook = provider.base_url().replace("/v1", "/hook/status-503-once");
    run(
        &operator,
        &format!("SELECT bulkhead.set_tenant('{TENANT}', webhook => '{hook}')"),
    )
    .await;
    // A call costs 100 nano-USD for each of its words and those of its answer.
    for tenant in [TENANT, "umbra"] {
        run(
            &operator,
            &format!("SELECT bulkhead.set_budget('{tenant}', 'day', 0.00001, hard => false)"),
        )
        .await;
        let client = server.connect(tenant, "owner").await;
        run(&client, "SET ai.cache = off").await;
        for _ in 0..60 {
            value(&client, "SELECT ai.complete('one', system => '')").await;
        }
    }
    let owner = server.connect(TENANT, "owner").await;
    let posted = || sent(&provider, "POST", "/hook");
    // Each is refused once, and comes again.
    until("six posts", async || posted().len() >= 6).await;
    let posts = posted();
    assert_eq!(posts.len(), 6);
    let thresholds: Vec<_> = posts
        .iter()
        .map(|post| post["body"]["data"]["threshold"].clone())
        .collect();
    assert_eq!(thresholds, [50, 50, 80, 80, 100, 100]);
    let stored = rows(&owner, "SELECT id, kind, message FROM bulkhead.alerts ORDER BY at").await;
    let secret = value(&owner, "SELECT bulkhead.webhook_secret()").await;
    for (n, post) in posts.iter().enumerate() {
        let body = &post["body"];
        let told = ["id", "kind", "message"].map(|name| body[name].as_str().unwrap_or_default().to_owned());
        assert_eq!(told[..], stored[n / 2]);
        let names: Vec<_> = body.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["id", "at", "kind", "message", "data"]);
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(body.to_string().as_bytes());
        let digest: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(post["headers"]["x-bulkhead-signature"], format!("sha256={digest}"));
        assert_eq!(post["headers"]["authorization"], Value::Null);
    }
    let neighbour = server.connect("umbra", "owner").await;
    assert_eq!(rows(&neighbour, "SELECT * FROM bulkhead.alerts").await.len(), 3);
    assert_eq!(one(&neighbour, "SELECT bulkhead.webhook_secret()").await, None);
}
