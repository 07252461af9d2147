//! Rows B04, B06 and D09 of THREATS.md where a graph is searched, and graphs after a restart.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::common::Seed;
use crate::common::server::{Server, Spec, fails, fresh_dir, one, rows};

const A: &str = "acme";
const B: &str = "umbra";
/// By the taxicab distance codes are slow to look at: so few rows have a graph that is used.
const ROWS: usize = 4_000;
const DIMENSIONS: usize = 96;
/// For a build on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(240);

/// A vector as text, in one of a few groups.
fn vector(seed: &mut Seed, group: usize) -> String {
    let number = |d: usize, seed: &mut Seed| {
        let middle = ((group * 7 + d * 3) % 11) as f64;
        format!("{:.3}", middle + seed.below(2_000) as f64 / 1_000.0)
    };
    let numbers: Vec<String> = (0..DIMENSIONS).map(|d| number(d, seed)).collect();
    format!("[{}]", numbers.join(","))
}

/// A table of vectors, and some of these.
async fn fill(client: &Client, count: usize, seed: u64) -> Vec<String> {
    let mut seed = Seed(seed);
    let make = format!("CREATE TABLE t (id integer PRIMARY KEY, part integer, v vector({DIMENSIONS}))");
    client.batch_execute(&make).await.expect(&make);
    let index = "CREATE INDEX t_v ON t USING hnsw (v vector_l1_ops)";
    client.batch_execute(index).await.expect(index);
    let vectors: Vec<String> = (0..count).map(|i| vector(&mut seed, i % 9)).collect();
    for (page, some) in vectors.chunks(500).enumerate() {
        let values = some.iter().enumerate().map(|(i, vector)| {
            let id = page * 500 + i;
            format!("({id}, {}, '{vector}')", id % 1000)
        });
        let sql = format!("INSERT INTO t VALUES {}", values.collect::<Vec<_>>().join(","));
        client.batch_execute(&sql).await.expect("rows");
    }
    vectors
}

async fn near(client: &Client, query: &str, filter: &str, k: usize) -> Vec<String> {
    let sql = format!("SELECT id FROM t {filter} ORDER BY v <+> '{query}' LIMIT {k}");
    rows(client, &sql).await.into_iter().flatten().collect()
}

/// The same by sorting all rows: a second key asks for that.
async fn sorted(client: &Client, query: &str, filter: &str, k: usize) -> Vec<String> {
    let sql = format!("SELECT id FROM t {filter} ORDER BY v <+> '{query}', id LIMIT {k}");
    rows(client, &sql).await.into_iter().flatten().collect()
}

/// How a search goes about it, as EXPLAIN tells.
async fn method(client: &Client, query: &str) -> String {
    let sql = format!("EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <+> '{query}' LIMIT 10");
    let plan: Vec<String> = rows(client, &sql).await.into_iter().flatten().collect();
    let told = plan.iter().find_map(|line| line.trim().strip_prefix("Search Method: "));
    told.unwrap_or("none").to_owned()
}

/// Waits until searches walk in a graph.
async fn graph(client: &Client, query: &str) {
    let begun = Instant::now();
    let mut last = String::new();
    while begun.elapsed() < PATIENCE {
        last = method(client, query).await;
        if last == "graph" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no graph is searched: {last}");
}

fn said(server: &Server, what: &str) -> usize {
    String::from_utf8_lossy(&server.output()).matches(what).count()
}

const OPENED: &str = "a stored graph of vectors was opened";
const STORED: &str = "a graph of vectors was stored";

/// Deleted rows never come out of a graph, filters never empty its list, and a restart brings it back without a build.
#[tokio::test]
async fn b04_b06_graphs_and_restarts() {
    let mut server = Server::start("b06_graphs");
    server.create_tenants(&[A]).await;
    let client = server.connect(A, "owner").await;
    let vectors = fill(&client, ROWS, 1).await;
    let query = vectors[1234].clone();
    assert_eq!(near(&client, &query, "", 1).await, ["1234"]);
    graph(&client, &query).await;

    for ef in ["40", "1", "1000"] {
        let set = format!("SET hnsw.ef_search = {ef}");
        client.batch_execute(&set).await.expect(&set);
        for (filter, matches) in [
            ("", ROWS),
            ("WHERE id = 2222", 1),
            ("WHERE part = 17", 4),
            ("WHERE id < 0", 0),
            ("WHERE id % 2 = 0", ROWS / 2),
            ("WHERE id > 0 AND part >= 0", ROWS - 1),
        ] {
            for k in [0, 1, 10, 300, ROWS + 5] {
                let found = near(&client, &query, filter, k).await;
                let distinct: std::collections::HashSet<&String> = found.iter().collect();
                assert_eq!(
                    (found.len(), distinct.len()),
                    (matches.min(k), matches.min(k)),
                    "{ef}, {filter}, {k}"
                );
                if matches <= 1_024 {
                    assert_eq!(found, sorted(&client, &query, filter, k).await, "{filter}, LIMIT {k}");
                }
            }
        }
    }
    client.batch_execute("RESET hnsw.ef_search").await.expect("RESET");

    for _ in 0..30 {
        let nearest = near(&client, &query, "", 1).await.remove(0);
        let delete = format!("DELETE FROM t WHERE id = {nearest}");
        client.batch_execute(&delete).await.expect(&delete);
        let found = near(&client, &query, "", 10).await;
        assert!(found.len() == 10 && !found.contains(&nearest), "{nearest} in {found:?}");
    }
    assert_eq!(method(&client, &query).await, "graph");

    // The graph is stored in the background.
    let begun = Instant::now();
    while said(&server, STORED) == 0 {
        assert!(begun.elapsed() < PATIENCE, "no graph was stored");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What changes after it was stored: the former vector of a row, a row that goes, one that comes.
    let mut seed = Seed(99);
    let far = vector(&mut seed, 5);
    let changes = format!(
        "UPDATE t SET v = '{far}' WHERE id = 777;
         DELETE FROM t WHERE id = 778;
         INSERT INTO t VALUES (9001, 1, '{}')",
        vectors[778]
    );
    client.batch_execute(&changes).await.expect("changes");
    assert!(server.stop().success());
    assert_eq!((said(&server, OPENED), said(&server, STORED)), (0, 1));
    server.again();
    let client = server.connect(A, "owner").await;
    for round in ["compared one by one", "with the graph"] {
        for id in [5, 1999, 3333] {
            assert_eq!(near(&client, &vectors[id], "", 1).await, [id.to_string()], "{round}");
        }
        assert_ne!(near(&client, &vectors[777], "", 1).await, ["777"], "{round}");
        assert_eq!(near(&client, &far, "", 1).await, ["777"], "{round}");
        assert_eq!(near(&client, &vectors[778], "", 1).await, ["9001"], "{round}");
        let found = near(&client, &query, "", 10).await;
        assert_eq!(found.len(), 10, "{round}");
        assert_eq!(found[..1], sorted(&client, &query, "", 1).await, "{round}");
        graph(&client, &query).await;
    }
    let told = (said(&server, OPENED), said(&server, STORED));
    assert_eq!(told, (1, 1), "it came back, and was not built again");
    server.assert_alive();
}

/// While one tenant's vectors come in great numbers, another's are searched and arranged as if it were alone.
#[tokio::test]
async fn d09_a_vector_hog_keeps_nobody_waiting() {
    let server = Server::start("d09_vector_hog");
    server.create_tenants(&[A, B]).await;
    let (hog, searcher) = (server.connect(A, "owner").await, server.connect(A, "owner").await);
    let other = server.connect(B, "owner").await;
    assert_eq!(fails(&hog, "SET hnsw.ef_search = 10000").await, "22023");
    let of_hog = fill(&hog, 2 * ROWS, 2).await;
    assert_eq!(near(&hog, &of_hog[5], "", 1).await, ["5"]);
    let noise = tokio::spawn(async move {
        for (round, query) in of_hog.iter().cycle().enumerate() {
            let insert = format!("INSERT INTO t VALUES ({}, 1, '{query}')", 100_000 + round);
            hog.batch_execute(&insert).await.expect("a row");
            assert_eq!(near(&searcher, query, "", 1_000).await.len(), 1_000);
        }
    });
    let vectors = fill(&other, ROWS, 3).await;
    for id in (0..ROWS).step_by(500) {
        assert_eq!(near(&other, &vectors[id], "", 1).await, [id.to_string()]);
    }
    graph(&other, &vectors[7]).await;
    assert!(!noise.is_finished(), "the other goes on all the time");
    noise.abort();
    let count = "SELECT count(*) FROM t";
    assert_eq!(one(&other, count).await.as_deref(), Some(ROWS.to_string().as_str()));
}

/// With little memory for vectors the coldest go, and what was taken out is found all the same.
#[tokio::test]
async fn b06_little_memory_changes_no_answer() {
    let dir = fresh_dir("b06_little_memory");
    let mut server = Server::with(Spec::on(&dir.join("data")).arg("--vector-memory").arg("1MiB"));
    server.create_tenants(&[A, B]).await;
    let (a, b) = (server.connect(A, "owner").await, server.connect(B, "owner").await);
    // Each has room alone: 1,500 vectors of 384 bytes.
    let (of_a, of_b) = (fill(&a, 1_500, 4).await, fill(&b, 1_500, 5).await);
    for round in 0..20 {
        let id = round * 71;
        for (client, vectors) in [(&a, &of_a), (&b, &of_b)] {
            assert_eq!(near(client, &vectors[id], "", 1).await, [id.to_string()]);
            assert_eq!(near(client, &vectors[id], "WHERE id >= 700", 5).await.len(), 5);
        }
    }
    // And none at all for this one.
    let long = |i: usize| format!("[{}]", vec![i.to_string(); 384].join(","));
    let values: Vec<String> = (1..=900).map(|i| format!("({i}, '{}')", long(i))).collect();
    let insert = format!("INSERT INTO large VALUES {}", values.join(","));
    for statement in ["CREATE TABLE large (id integer PRIMARY KEY, v vector(384))", &insert] {
        a.batch_execute(statement).await.expect("a large table");
    }
    let sql = format!("SELECT id FROM large ORDER BY v <-> '{}' LIMIT 1", long(321));
    for _ in 0..2 {
        assert_eq!(one(&a, &sql).await.as_deref(), Some("321"));
        let plan = rows(&a, &format!("EXPLAIN {sql}")).await;
        assert!(!format!("{plan:?}").contains("Search Method"), "{plan:?}");
    }
    assert!(said(&server, "vectors were taken out of memory") > 0);
    server.assert_alive();
    drop(server);
    let _ = std::fs::remove_dir_all(dir);
}
