//! The client matrix: each client of tests/clients does with tables of its own what an application does, on Bulkhead
//! and on PostgreSQL, and prints what it saw. The transcripts must be equal, but for tests/clients/differences.txt.
//!
//! `BULKHEAD_BLESS=1` writes PostgreSQL's transcripts to tests/clients/expected, which serve where PostgreSQL cannot be
//! installed; where it can, they must be what it says.

#[path = "../common/mod.rs"]
mod common;
mod rust;

use std::path::PathBuf;
use std::process::Command;

use common::reference::{Reference, differences, judge, known, transcript};
use common::server::{Server, password_of};
use common::{skipped, tests_dir, tools};

/// Where a client finds a database.
pub struct Place {
    pub port: u16,
    pub database: String,
}

impl Place {
    fn url(&self) -> String {
        let (port, database) = (self.port, &self.database);
        format!(
            "postgresql://owner:{}@127.0.0.1:{port}/{database}",
            password_of("owner")
        )
    }
}

/// What a command printed. A script that breaks off has not said `done`, which is a difference.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        eprintln!("{command:?}: {}\n{errors}", output.status);
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a client on PostgreSQL, where that is present, and on Bulkhead, and compares.
async fn compare(client: &str, run: impl AsyncFn(Place) -> String) {
    let database = client.replace('-', "_");
    let place = |port| Place {
        port,
        database: database.clone(),
    };
    let committed = tests_dir().join("clients/expected").join(format!("{client}.txt"));
    match Reference::shared() {
        Ok(reference) => {
            reference.database(&database).await;
            let text = run(place(reference.port)).await;
            assert!(
                transcript(&text).contains_key("done"),
                "{client} broke off on PostgreSQL:\n{text}"
            );
            if std::env::var_os("BULKHEAD_BLESS").is_some() {
                std::fs::write(&committed, text).expect("written");
            } else {
                let old = std::fs::read_to_string(&committed).unwrap_or_default();
                let stale = differences(&transcript(&old), &transcript(&text));
                assert!(
                    stale.is_empty(),
                    "{}: run this with BULKHEAD_BLESS=1: {stale:#?}",
                    committed.display()
                );
            }
        }
        Err(why) => skipped(&format!("{client} on PostgreSQL: {why}")),
    }
    let expected = transcript(&std::fs::read_to_string(&committed).expect("a transcript of PostgreSQL's"));

    let mut server = Server::start(client);
    server.create_tenants(&[&database, "umbra"]).await;
    server.widen_tiers().await;
    let text = run(place(server.port)).await;
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{client}-transcript.txt"));
    std::fs::write(&kept, &text).expect("the target directory can be written");
    let actual = transcript(&text);
    server.assert_alive();
    let list = tests_dir().join("clients/differences.txt");
    let complaints = judge(&differences(&expected, &actual), &known(&list, client));
    let all = expected.len();
    assert!(
        complaints.is_empty(),
        "{client}: {} of {all} differ\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

fn script(name: &str) -> PathBuf {
    tests_dir().join("clients").join(name)
}

async fn python(client: &str, file: &str) {
    match tools::python() {
        Ok(python) => {
            compare(client, async |place| {
                said(
                    Command::new(&python)
                        .args(["-W", "ignore"])
                        .arg(script(file))
                        .arg(place.url()),
                )
            })
            .await;
        }
        Err(why) => skipped(&format!("{client}: {why}")),
    }
}

async fn node(client: &str, file: &str) {
    match tools::node() {
        Ok(folder) => {
            compare(client, async |place| {
                said(Command::new("node").arg(folder.join(file)).arg(place.url()))
            })
            .await;
        }
        Err(why) => skipped(&format!("{client}: {why}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psycopg2() {
    python("psycopg2", "psycopg2_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psycopg3() {
    python("psycopg3", "psycopg3_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asyncpg() {
    python("asyncpg", "asyncpg_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlalchemy() {
    python("sqlalchemy", "sqlalchemy_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pandas() {
    python("pandas", "pandas_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgvector_python() {
    python("pgvector-python", "pgvector_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langchain() {
    python("langchain", "langchain_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench() {
    python("tpcb", "pgbench_tables.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbouncer() {
    let at_all = ["pgbouncer", "/usr/sbin/pgbouncer"].into_iter().any(tools::exists);
    if at_all {
        python("pooled", "pgbouncer_tables.py").await;
    } else {
        skipped("pgbouncer is not installed (Debian: pgbouncer)");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_postgres() {
    node("node-postgres", "nodepg_tables.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_js() {
    node("postgres-js", "postgresjs_tables.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drizzle() {
    node("drizzle", "drizzle_tables.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knex() {
    node("knex", "knex_tables.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jdbc() {
    match tools::jdbc() {
        Ok(jar) => {
            compare("jdbc", async |place| {
                let mut java = Command::new("java");
                java.args(["-XX:TieredStopAtLevel=1", "-cp"])
                    .arg(&jar)
                    .arg(script("Tables.java"));
                said(java.arg(place.url()).arg(script("every.sql")))
            })
            .await;
        }
        Err(why) => skipped(&format!("jdbc: {why}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres() {
    compare("tokio-postgres", rust::tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql() {
    if !tools::exists("psql") {
        skipped("psql is not installed (Debian: postgresql-client)");
        return;
    }
    compare("psql", async |place| {
        // Both outputs in one pipe, in the order in which they were written; errors name the file as it was given.
        let mut psql = Command::new("sh");
        psql.args(["-c", "exec psql -X -q --no-password -f psql_tables.sql \"$0\" 2>&1"]);
        psql.arg(place.url()).current_dir(tests_dir().join("clients"));
        psql.env("LC_ALL", "C.UTF-8").env("PGTZ", "UTC");
        let name = "psql:psql_tables.sql:";
        // A section a line; where in the script or in PostgreSQL's source an error arose is no part of it.
        let mut text = String::new();
        for line in said(&mut psql).lines() {
            let line = match line.strip_prefix(name) {
                Some(rest) => rest.split_once(": ").map_or(rest, |(_, told)| told),
                None => line,
            };
            if let Some(section) = line.strip_prefix("=== ") {
                text.push_str(&format!("{section}\t\n"));
            } else if !line.starts_with("LOCATION:") {
                text.push_str(&format!("{}\n", line.replace('\t', "\\t")));
            }
        }
        text
    })
    .await;
}
