//! B22, X12: what the audit log of a tenant tells, and of whom; that it says nothing that users wrote; that it survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::provider::Provider;
use crate::common::server::{fails, one, password_of, rows};
use crate::{run, served};

/// Class, action, object, user and whether it was allowed of every entry but logins and reads of the log itself.
const TOLD: &str = "SELECT class, action, object, user_id, allowed FROM bulkhead.audit_log \
                    WHERE class <> 'login' AND (object IS NULL OR object NOT LIKE '%audit_log%') ORDER BY seq";
const WHOLE: &str = "SELECT ok, broken_at FROM bulkhead.verify_audit()";

fn told(entries: &[[&str; 5]]) -> Vec<Vec<String>> {
    let entries = entries.iter().map(|entry| entry.map(str::to_owned).to_vec());
    entries.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b22_each_is_told_once_with_its_outcome() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme", "globex"]).await;
    let operator = server.operator().await;
    run(
        &operator,
        "SELECT bulkhead.set_compliance('acme', logging_level => 'full')",
    )
    .await;
    let owner = server.connect("acme", "owner").await;
    let bad = crate::common::server::connect(server.port, "acme", "owner", "wrong").await;
    assert!(bad.is_err());
    run(
        &owner,
        &format!("CREATE USER ann PASSWORD '{}' IN ROLE analyst", password_of("ann")),
    )
    .await;
    run(
        &owner,
        "INSERT INTO documents (title, content) VALUES ('a', 'b'), ('c', 'd')",
    )
    .await;
    run(&owner, "UPDATE documents SET title = 'e' WHERE title = 'a'").await;
    run(&owner, "DELETE FROM documents WHERE title = 'nobody'").await;
    run(&owner, "SELECT title FROM documents").await;
    run(&owner, "SELECT 1").await;
    run(&owner, "SELECT ai.ingest('f', 'g')").await;
    let copied = owner
        .copy_in("COPY documents (title, content) FROM STDIN")
        .await
        .expect("a COPY");
    let mut copied = std::pin::pin!(copied);
    let lines = bytes::Bytes::from_static(b"j\tk\nl\tm\n");
    futures::SinkExt::send(&mut copied, lines).await.expect("rows");
    assert_eq!(copied.finish().await.expect("a commit"), 2);
    // Together or not at all.
    run(
        &owner,
        "BEGIN; INSERT INTO documents (title, content) VALUES ('h', 'i')",
    )
    .await;
    run(&owner, "DELETE FROM documents WHERE title = 'h'").await;
    run(&owner, "ROLLBACK").await;
    run(&owner, "BEGIN; DELETE FROM documents WHERE title = 'c'").await;
    assert_eq!(fails(&owner, "SELECT 1 / 0 FROM documents").await, "22012");
    run(&owner, "ROLLBACK").await;
    run(
        &owner,
        "PREPARE p AS DELETE FROM documents WHERE title = 'c'; EXECUTE p",
    )
    .await;
    // Calls of models.
    for _ in 0..2 {
        run(&owner, "SELECT ai.complete('a secret question', system => '')").await;
    }
    run(&owner, "SELECT ai.embed('x')").await;
    run(&operator, "SELECT bulkhead.set_budget('acme', 'day', 0)").await;
    assert_eq!(
        fails(&owner, "SELECT ai.complete('too dear', system => '')").await,
        "53400"
    );
    run(&owner, "SET ai.on_error = 'null'").await;
    run(&owner, "SELECT ai.complete('too dear, too', system => '')").await;
    // What may not be.
    assert_eq!(fails(&owner, "SET ROLE ann").await, "42501");
    assert_eq!(fails(&owner, "COPY documents TO '/tmp/secret question'").await, "42501");
    let ann = server.connect("acme", "ann").await;
    assert_eq!(fails(&ann, "SELECT content FROM documents").await, "42501");
    assert_eq!(fails(&ann, "SELECT ai.ingest('a', 'b')").await, "42501");
    assert_eq!(fails(&ann, "CREATE USER eve PASSWORD 'x'").await, "42501");
    assert_eq!(fails(&ann, "SELECT * FROM bulkhead.audit_log").await, "42501");
    run(&owner, "SELECT bulkhead.set_budget('day', 0)").await;
    run(&owner, "DROP USER ann").await;
    let entries = rows(&owner, TOLD).await;
    let expected = told(&[
        ["users", "CREATE ROLE", "ann", "owner", "t"],
        ["write", "INSERT", "documents", "owner", "t"],
        ["write", "UPDATE", "documents", "owner", "t"],
        ["write", "DELETE", "documents", "owner", "t"],
        ["read", "SELECT", "documents", "owner", "t"],
        ["write", "ai.ingest", "NULL", "owner", "t"],
        ["write", "COPY", "documents", "owner", "t"],
        ["write", "INSERT", "documents", "owner", "t"],
        ["write", "DELETE", "documents", "owner", "t"],
        ["read", "SELECT", "documents", "owner", "t"],
        ["write", "DELETE", "documents", "owner", "t"],
        ["write", "DELETE", "documents", "owner", "t"],
        ["ai", "complete", "echo", "owner", "t"],
        ["ai", "complete", "echo", "owner", "t"],
        ["ai", "embed", "builtin-hash-1024", "owner", "t"],
        ["ai", "complete", "default-small", "owner", "f"],
        ["ai", "complete", "default-small", "owner", "f"],
        ["session", "SET", "NULL", "owner", "f"],
        ["session", "COPY DOCUMENTS", "NULL", "owner", "f"],
        ["read", "SELECT", "documents", "ann", "f"],
        ["read", "SELECT", "NULL", "ann", "f"],
        ["users", "CREATE ROLE", "eve", "ann", "f"],
        ["settings", "bulkhead.set_budget", "NULL", "owner", "t"],
        ["users", "DROP ROLE", "ann", "owner", "t"],
    ]);
    for (entry, expected) in entries.iter().zip(&expected) {
        assert_eq!(entry, expected, "of {entries:#?}");
    }
    assert_eq!(entries.len(), expected.len(), "{entries:#?}");
    let detail = |filter: &str| format!("SELECT detail FROM bulkhead.audit_log WHERE {filter} ORDER BY seq");
    let first = async |filter: &str| one(&owner, &detail(filter)).await.unwrap_or_default();
    assert_eq!(first("action = 'INSERT'").await, r#"{"rows": 2}"#);
    assert_eq!(first("action = 'COPY'").await, r#"{"rows": 2}"#);
    assert!(
        first("action = 'INSERT' AND detail::text LIKE '%rolled_back%'")
            .await
            .contains("true")
    );
    assert!(
        first("class = 'login' AND NOT allowed")
            .await
            .contains(r#""attempts": 1"#)
    );
    let calls = rows(&owner, &detail("class = 'ai' AND object = 'echo'")).await;
    assert!(calls[0][0].contains(r#""status": "ok""#) && calls[1][0].contains(r#""status": "cache_hit""#));
    let booked = "SELECT count(*) FROM bulkhead.usage u, bulkhead.audit_log a \
                  WHERE a.class = 'ai' AND a.detail->>'usage_id' = u.id::text";
    assert_eq!(one(&owner, booked).await.as_deref(), Some("3"));
    assert_eq!(rows(&owner, WHOLE).await, [["t", "NULL"]]);
    // Nothing of what was written or asked, nothing of another tenant, and nothing in another tenant's.
    let all = rows(&owner, "SELECT action, object, user_id, detail FROM bulkhead.audit_log").await;
    let all = format!("{all:?}");
    assert!(
        !all.contains("secret question") && !all.contains("too dear") && !all.contains("globex"),
        "{all}"
    );
    let globex = server.connect("globex", "owner").await;
    let others = rows(&globex, "SELECT class, user_id FROM bulkhead.audit_log").await;
    assert!(others.iter().all(|entry| entry == &["login", "owner"]), "{others:?}");
    assert_eq!(rows(&globex, WHOLE).await, [["t", "NULL"]]);
}

/// Levels are the operator's to set, at once for open sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b22_the_operator_says_how_much_is_told() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let operator = server.operator().await;
    let owner = server.connect("acme", "owner").await;
    let level = async |level: &str| {
        run(
            &operator,
            &format!("SELECT bulkhead.set_compliance('acme', logging_level => '{level}')"),
        )
        .await;
        run(&owner, "SELECT count(*) FROM documents").await;
        run(
            &owner,
            &format!("INSERT INTO documents (title, content) VALUES ('{level}', 'x')"),
        )
        .await;
        run(&owner, &format!("SELECT ai.complete('canary {level}', system => '')")).await;
        let last = "SELECT class FROM bulkhead.audit_log WHERE object <> 'bulkhead.audit_log' ORDER BY seq";
        rows(&owner, last).await.into_iter().flatten().collect::<Vec<_>>()
    };
    assert_eq!(level("none").await, <[String; 0]>::default());
    assert_eq!(level("standard").await, ["write", "ai"]);
    assert_eq!(level("full").await[2..], ["read", "write", "ai"]);
    assert_eq!(level("prompts").await[5..], ["read", "write", "ai"]);
    let prompts = rows(
        &owner,
        "SELECT detail->>'prompt' FROM bulkhead.audit_log WHERE class = 'ai' ORDER BY seq",
    )
    .await;
    assert_eq!(prompts, [["NULL"], ["NULL"], ["canary prompts"]]);
    assert_eq!(
        fails(
            &operator,
            "SELECT bulkhead.set_compliance('acme', logging_level => 'loud')"
        )
        .await,
        "22023"
    );
    assert_eq!(rows(&owner, WHOLE).await, [["t", "NULL"]]);
}

/// X12: SIGKILL amid commits of several sessions. Each document that is there has its entry, and no other has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_a_kill_leaves_a_whole_log() {
    let provider = Provider::start();
    let mut server = served(&provider, "echo", &["acme"]).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    for kill in 0..6_u64 {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let (client, done) = (server.connect("acme", "owner").await, acknowledged.clone());
            writers.spawn(async move {
                for n in 0.. {
                    let sql = format!("INSERT INTO documents (title, content) VALUES ('{kill} {writer} {n}', 'x')");
                    let call = format!("SELECT ai.complete('{kill} {writer} {n}', max_tokens => 5, system => '')");
                    if client.simple_query(&sql).await.is_err() {
                        break;
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    if client.simple_query(&call).await.is_err() {
                        break;
                    }
                }
            });
        }
        while acknowledged.load(Ordering::SeqCst) < 5 * (kill + 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(kill * 7)).await;
        server.kill();
        writers.join_all().await;
        server.again();
    }
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    let owner = server.connect("acme", "owner").await;
    assert_eq!(rows(&owner, WHOLE).await, [["t", "NULL"]]);
    let counts = "SELECT (SELECT count(*) FROM documents), \
                  (SELECT count(*) FROM bulkhead.audit_log WHERE action = 'INSERT'), \
                  (SELECT count(*) FROM bulkhead.usage WHERE operation = 'complete'), \
                  (SELECT count(*) FROM bulkhead.audit_log WHERE action = 'complete')";
    let counts: Vec<u64> = rows(&owner, counts).await[0]
        .iter()
        .map(|n| n.parse().expect("a number"))
        .collect();
    println!("{acknowledged} acknowledged; documents, their entries, calls, their entries: {counts:?}");
    assert_eq!((counts[0], counts[2]), (counts[1], counts[3]));
    assert!(counts[0] >= acknowledged && acknowledged > 0);
    server.assert_alive();
}
