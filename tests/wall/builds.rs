//! Builds of indexes: ready when CREATE INDEX is, stopped by nobody's impatience, and told to nobody else.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::common::Seed;
use crate::common::raw::{code, fields, letters};
use crate::common::server::{Server, one, rows};

const A: &str = "acme";
const B: &str = "umbra";
const ROWS: usize = 4_000;
const DIMENSIONS: usize = 96;
const PATIENCE: Duration = Duration::from_secs(120);
/// Slow enough to be looked at.
const SLOW: &str = "CREATE INDEX t_slow ON t USING hnsw (v vector_l1_ops) WITH (m = 64, ef_construction = 1000)";
const BUILDS: &str = "SELECT pid, phase, tuples_done, tuples_total FROM pg_stat_progress_create_index";

fn vector(seed: &mut Seed, group: usize) -> String {
    let number = |d: usize, seed: &mut Seed| {
        let middle = ((group * 7 + d * 3) % 11) as f64;
        format!("{:.3}", middle + seed.below(2_000) as f64 / 1_000.0)
    };
    let numbers: Vec<String> = (0..DIMENSIONS).map(|d| number(d, seed)).collect();
    format!("[{}]", numbers.join(","))
}

/// A table of vectors without an index; one of them.
async fn fill(client: &Client) -> String {
    let mut seed = Seed(8);
    let make = format!("CREATE TABLE t (id integer PRIMARY KEY, v vector({DIMENSIONS}))");
    client.batch_execute(&make).await.expect(&make);
    let vectors: Vec<String> = (0..ROWS).map(|i| vector(&mut seed, i % 9)).collect();
    for (page, some) in vectors.chunks(500).enumerate() {
        let values = some
            .iter()
            .enumerate()
            .map(|(i, v)| format!("({}, '{v}')", page * 500 + i));
        let sql = format!("INSERT INTO t VALUES {}", values.collect::<Vec<_>>().join(","));
        client.batch_execute(&sql).await.expect("rows");
    }
    vectors[77].clone()
}

async fn plan(client: &Client, query: &str) -> String {
    let sql = format!("EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <+> '{query}' LIMIT 10");
    rows(client, &sql)
        .await
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
}

/// The build that goes on, once it does.
async fn build(client: &Client) -> Vec<String> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let seen = rows(client, BUILDS).await;
        if let [row] = seen.as_slice()
            && row[1] == "loading tuples"
            && row[2] != "0"
        {
            return row.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no build is seen");
}

#[tokio::test]
async fn an_index_is_built_when_it_is_made_and_only_its_tenant_sees_it() {
    let mut server = Server::start("index_builds");
    server.create_tenants(&[A, B]).await;
    let (client, other) = (server.connect(A, "owner").await, server.connect(B, "owner").await);
    client
        .batch_execute("CREATE USER reader PASSWORD 'pw-reader' IN ROLE member")
        .await
        .expect("a user");
    let reader = server.connect(A, "reader").await;
    let query = fill(&client).await;
    assert!(rows(&client, BUILDS).await.is_empty());

    // Nothing is built before the commit.
    client
        .batch_execute(&format!("BEGIN; {SLOW}; ROLLBACK"))
        .await
        .expect("ROLLBACK");
    assert!(rows(&client, BUILDS).await.is_empty());

    let mut maker = server.raw(A, "owner").await;
    let making = tokio::spawn(async move { (maker.query(SLOW).await, maker) });
    let row = build(&client).await;
    // The newest few stay outside of the graph.
    let total: usize = row[3].parse().expect("a number");
    assert!((ROWS * 9 / 10..=ROWS).contains(&total), "{total}");
    let all = "SELECT datname, relid = 't'::regclass, index_relid = 't_slow'::regclass, command,
               blocks_done < blocks_total, tuples_done < tuples_total FROM pg_stat_progress_create_index";
    let seen = rows(&client, all).await;
    assert_eq!(seen, [["acme", "t", "t", "CREATE INDEX", "t", "t"].map(str::to_owned)]);
    // Who sees only some of the rows is not told how many there are.
    let some = "SELECT pid IS NULL, coalesce(relid::text, index_relid::text, phase, command, tuples_total::text,
                tuples_done::text, blocks_total::text, blocks_done::text, '-') FROM pg_stat_progress_create_index";
    assert_eq!(rows(&reader, some).await, [["f", "-"].map(str::to_owned)]);
    assert!(rows(&other, BUILDS).await.is_empty(), "another tenant's build is seen");
    let near = format!("SELECT id FROM t ORDER BY v <+> '{query}' LIMIT 1");
    assert_eq!(one(&client, &near).await.as_deref(), Some("77"));

    // Who no longer wants to wait has the index all the same, and it is built.
    let cancel = "SELECT bool_and(pg_cancel_backend(pid)) FROM pg_stat_progress_create_index";
    assert_eq!(one(&client, cancel).await.as_deref(), Some("t"));
    let (frames, mut maker) = making.await.expect("the maker");
    assert_eq!((letters(&frames).as_str(), code(&frames)), ("NCZ", None));
    let warning = fields(&frames[0]);
    assert_eq!(
        warning[&'M'],
        "canceling wait for the index to be built due to user request"
    );
    assert_eq!(rows(&client, BUILDS).await.len(), 1);
    assert!(plan(&client, &query).await.contains("t_slow"));
    maker.query("SET statement_timeout = 200").await;
    let frames = maker.query("REINDEX INDEX t_slow").await;
    assert_eq!((letters(&frames).as_str(), code(&frames)), ("NCZ", None));
    let warning = fields(&frames[0]);
    assert_eq!(
        warning[&'M'],
        "canceling wait for the index to be built due to statement timeout"
    );

    // Who waits finds it ready: one that is quick to build takes the place of the slow one.
    let quick =
        "DROP INDEX t_slow; CREATE INDEX t_quick ON t USING hnsw (v vector_l1_ops) WITH (m = 8, ef_construction = 32)";
    client.batch_execute(quick).await.expect(quick);
    let plan = plan(&client, &query).await;
    assert!(
        plan.contains("t_quick") && plan.contains("Search Method: graph"),
        "{plan}"
    );
    assert!(rows(&client, BUILDS).await.is_empty());
    server.assert_alive();
}
