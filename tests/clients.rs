//! Clients as people use them: psql, psycopg 3, tokio-postgres. Each connects with a password, ingests, searches, asks,
//! reads its costs, and looks around.

mod common;

use std::process::{Command, Output};

use common::server::{Server, fails, one, password_of, rows};
use common::tools::{exists, python, shown};
use common::{skipped, tests_dir};

const T: &str = "acme";

async fn served() -> Server {
    let server = Server::start("clients");
    server.create_tenants(&[T, "umbra"]).await;
    let other = server.connect("umbra", "owner").await;
    let sql = "INSERT INTO documents (title, content) VALUES ('Foreign', 'The secret of umbra is mauve.')";
    other.batch_execute(sql).await.expect("inserted");
    server
}

/// psql with a script; standard and error output.
fn psql(server: &Server, user: &str, arguments: &[&str]) -> Output {
    Command::new("psql")
        .arg(format!("host=127.0.0.1 port={} dbname={T} user={user}", server.port))
        .args(["-X", "--no-password"])
        .args(arguments)
        .env("PGPASSWORD", password_of(user))
        .env("PAGER", "cat")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("psql runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_does_it_all() {
    if !exists("psql") {
        skipped("psql is not installed (Debian: postgresql-client)");
        return;
    }
    let mut server = served().await;
    let script = tests_dir().join("clients/psql.sql");
    let output = psql(
        &server,
        "owner",
        &["-v", "ON_ERROR_STOP=1", "-f", &script.display().to_string()],
    );
    let said = shown(&output);
    assert!(output.status.success(), "{said}");
    for word in ["Rhine", "1 row", "total", "lamp", "thirty days", "done: psql"] {
        assert!(said.contains(word), "no {word:?} in:\n{said}");
    }
    assert!(!said.contains("mauve") && !said.contains("umbra"), "{said}");

    let meta = |command: &str| {
        let output = psql(&server, "owner", &["-c", command]);
        let said = shown(&output);
        assert!(output.status.success() && !said.contains("ERROR"), "{command}: {said}");
        assert!(!said.contains("umbra"), "{command}: {said}");
        said
    };
    for (command, words) in [
        ("\\l", &["acme", "UTF8"][..]),
        ("\\dt ai.*", &["ai", "documents", "chunks", "table"]),
        (
            "\\d ai.documents",
            &[
                "id",
                "uuid",
                "title",
                "text",
                "metadata",
                "jsonb",
                "created_at",
                "timestamp with time zone",
            ],
        ),
        ("\\d ai.chunks", &["embedding", "vector", "document_id"]),
        ("\\du", &["owner"]),
        ("\\dn", &["ai", "bulkhead"]),
        ("\\df ai.*", &["search", "rag", "ingest"]),
        ("\\conninfo", &["acme", "owner"]),
    ] {
        let said = meta(command);
        for word in words {
            assert!(said.contains(word), "{command}: no {word:?} in:\n{said}");
        }
    }
    for command in [
        "\\d",
        "\\dt",
        "\\dv",
        "\\di",
        "\\dx",
        "\\dT",
        "\\dp",
        "\\l+",
        "\\dt+ ai.*",
        "\\d+ ai.documents",
        "\\du+",
        "\\dn+",
        "\\encoding",
    ] {
        meta(command);
    }
    // A mistake is shown where it is, and does not end the session.
    let output = psql(
        &server,
        "owner",
        &["-c", "SELECT nosuch FROM documents", "-c", "SELECT 'still ' || 'here'"],
    );
    assert!(
        shown(&output).contains("nosuch") && shown(&output).contains("still here"),
        "{}",
        shown(&output)
    );
    let output = Command::new("psql")
        .args([
            "-X",
            "-w",
            "-c",
            "SELECT 1",
            &format!("host=127.0.0.1 port={} dbname={T} user=owner", server.port),
        ])
        .env("PGPASSWORD", "wrong")
        .output()
        .expect("psql runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        shown(&output).contains("password authentication failed"),
        "{}",
        shown(&output)
    );
    let output = psql(&server, "owner", &["-c", "CREATE USER bob PASSWORD 'pw-bob'"]);
    assert!(output.status.success(), "{}", shown(&output));
    assert!(shown(&psql(&server, "bob", &["-Atc", "SELECT current_user"])).contains("bob"));
    server.assert_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psycopg_does_it_all() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skipped(&why),
    };
    let mut server = served().await;
    let output = Command::new(python)
        .arg(tests_dir().join("clients/psycopg3.py"))
        .arg(server.port.to_string())
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", shown(&output));
    assert!(shown(&output).contains("done: psycopg"), "{}", shown(&output));
    server.assert_alive();
}

#[tokio::test]
async fn tokio_postgres_does_it_all() {
    let mut server = served().await;
    let client = server.connect(T, "owner").await;
    let row = client
        .query_one(
            "SELECT ai.ingest($1, $2)::text",
            &[&"Rivers", &"The Rhine flows past Cologne."],
        )
        .await;
    let id: String = row.expect("ingested").get(0);
    let insert = client
        .prepare("INSERT INTO ai.documents (title, content) VALUES ($1, $2) RETURNING title")
        .await
        .expect("prepared");
    let row = client
        .query_one(&insert, &[&"Returns", &"Returns are free for thirty days."])
        .await
        .expect("inserted");
    assert_eq!(row.get::<_, &str>(0), "Returns");
    let search = client
        .prepare("SELECT rank, score, document_id::text, content FROM ai.search($1, k => $2)")
        .await;
    let search = search.expect("prepared");
    for k in [1_i32, 2] {
        let found = client
            .query(&search, &[&"Which river flows past Cologne?", &k])
            .await
            .expect("found");
        assert_eq!(found.len(), k as usize);
        assert_eq!(
            (found[0].get::<_, i32>(0), found[0].get::<_, &str>(2)),
            (1, id.as_str())
        );
    }
    let row = client
        .query_one(
            "SELECT answer, prompt_tokens, cached FROM ai.rag($1)",
            &[&"How long are returns free?"],
        )
        .await;
    let row = row.expect("answered");
    assert!(
        row.get::<_, &str>(0).contains("thirty days"),
        "{:?}",
        row.get::<_, &str>(0)
    );
    assert!(row.get::<_, i32>(1) > 0 && !row.get::<_, bool>(2));
    let costs = rows(
        &client,
        "SELECT total, llm, database, vector_search FROM bulkhead.tenant_costs(current_date, current_date)",
    )
    .await;
    assert_eq!(costs.len(), 1);
    assert_eq!(
        one(&client, "SELECT count(*) FROM bulkhead.costs").await.as_deref(),
        Some("1")
    );
    // The nearest rows come from the index, which is a vector search and is counted as one.
    let vector = one(&client, "SELECT ai.embed('thirty days of returns')")
        .await
        .expect("embedded");
    let searches = "SELECT sum(vector_search_count) FROM bulkhead.costs";
    let before: u64 = one(&client, searches)
        .await
        .expect("counted")
        .parse()
        .expect("a number");
    let nearest = format!("SELECT content FROM ai.chunks ORDER BY embedding <=> '{vector}' LIMIT 1");
    assert_eq!(
        one(&client, &nearest).await.as_deref(),
        Some("Returns are free for thirty days.")
    );
    let after: u64 = one(&client, searches)
        .await
        .expect("counted")
        .parse()
        .expect("a number");
    assert_eq!(after, before + 1);
    // Transactions and savepoints as an application has them.
    let mut client = client;
    let transaction = client.transaction().await.expect("begun");
    transaction
        .execute("INSERT INTO documents (title, content) VALUES ('x', 'y')", &[])
        .await
        .expect("inserted");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("2")
    );
    let transaction = client.transaction().await.expect("begun");
    transaction
        .execute("INSERT INTO documents (title, content) VALUES ('x', 'y')", &[])
        .await
        .expect("inserted");
    let portal = transaction
        .bind("SELECT title FROM documents ORDER BY title", &[])
        .await
        .expect("bound");
    let first = transaction.query_portal(&portal, 2).await.expect("rows");
    let rest = transaction.query_portal(&portal, 2).await.expect("rows");
    assert_eq!((first.len(), rest.len()), (2, 1));
    transaction.commit().await.expect("committed");
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("3")
    );
    assert_eq!(fails(&client, "SELECT * FROM umbra.ai.documents").await, "42P01");
    let none = client
        .query("SELECT content FROM ai.search('secret of umbra mauve', k => 50)", &[])
        .await
        .expect("found");
    assert!(none.iter().all(|r| !r.get::<_, &str>(0).contains("mauve")));
    server.assert_alive();
}
