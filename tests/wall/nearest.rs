//! Rows B04 and B06 of THREATS.md for tenants' own tables, each a test named by its id.

use tokio_postgres::Client;

use crate::common::server::{Server, one, rows};

const A: &str = "acme";
const ROWS: usize = 3_000;
/// Makes a vector of 16 numbers of one number `i`, the same wherever it is made.
const VECTOR: &str = "ARRAY[sin(i), cos(i), sin(i*0.7), cos(i*0.7), sin(i*1.3), cos(i*1.3), sin(i*1.9), cos(i*1.9), \
                      sin(i*2.3), cos(i*2.3), sin(i*2.9), cos(i*2.9), sin(i*3.1), cos(i*3.1), sin(i*3.7), cos(i*3.7)]";

async fn server(name: &str) -> Server {
    let server = Server::start(name);
    server.create_tenants(&[A]).await;
    let owner = server.connect(A, "owner").await;
    let sql = format!(
        "CREATE TABLE t (id integer PRIMARY KEY, part integer, v vector(16));
         CREATE INDEX t_v ON t USING hnsw (v vector_cosine_ops);
         INSERT INTO t SELECT i, i % 1000, {VECTOR}::vector FROM generate_series(1, {ROWS}) i"
    );
    for statement in sql.split(';') {
        owner.batch_execute(statement).await.expect(statement);
    }
    server
}

/// The vector of a number as text.
async fn vector(client: &Client, i: f64) -> String {
    let sql = format!("SELECT {VECTOR}::vector FROM (SELECT {i}::float8 AS i) x");
    one(client, &sql).await.expect("a vector")
}

/// The ids nearest to a vector.
async fn near(client: &Client, query: &str, filter: &str, k: usize) -> Vec<String> {
    let sql = format!("SELECT id FROM t {filter} ORDER BY v <=> '{query}' LIMIT {k}");
    rows(client, &sql).await.into_iter().flatten().collect()
}

/// The same by sorting all rows: a second key asks for that.
async fn sorted(client: &Client, query: &str, filter: &str, k: usize) -> Vec<String> {
    let sql = format!("SELECT id FROM t {filter} ORDER BY v <=> '{query}', id LIMIT {k}");
    rows(client, &sql).await.into_iter().flatten().collect()
}

/// A search goes to the vectors in memory, or these tests would not test them.
async fn assert_indexed(client: &Client, query: &str) {
    let sql = format!("EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <=> '{query}' LIMIT 10");
    let plan: Vec<String> = rows(client, &sql).await.into_iter().flatten().collect();
    assert!(plan.join("\n").contains("Index Scan using t_v on t"), "{plan:?}");
}

/// A deleted vector, or the former one of an updated row, is never among the nearest: not in the session that deletes
/// it, not in others after the commit, not after a restart; after a rollback it is there again.
#[tokio::test]
async fn b06_deleted_vectors() {
    let mut server = server("b06_deleted_vectors").await;
    let one_session = server.connect(A, "owner").await;
    let other = server.connect(A, "owner").await;
    let query = vector(&one_session, 1500.0).await;
    let far = vector(&one_session, 2.5).await;
    assert_eq!(near(&one_session, &query, "", 1).await, ["1500"]);
    assert_indexed(&one_session, &query).await;
    for (change, is_back) in [
        ("DELETE FROM t WHERE id = 1500".to_owned(), "1500"),
        (format!("UPDATE t SET v = '{far}' WHERE id = 1500"), "1500"),
        ("UPDATE t SET v = NULL WHERE id = 1500".to_owned(), "1500"),
    ] {
        one_session.batch_execute("BEGIN").await.expect("BEGIN");
        one_session.batch_execute(&change).await.expect(&change);
        let own = near(&one_session, &query, "", 10).await;
        assert!(!own.contains(&"1500".to_owned()), "{change}: {own:?}");
        assert_eq!(own, sorted(&one_session, &query, "", 10).await, "{change}");
        assert_eq!(near(&other, &query, "", 1).await, [is_back], "{change}");
        one_session.batch_execute("ROLLBACK").await.expect("ROLLBACK");
        assert_eq!(near(&one_session, &query, "", 1).await, [is_back], "{change}");
    }
    // An old snapshot keeps what it saw.
    other
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .expect("BEGIN");
    assert_eq!(near(&other, &query, "", 1).await, ["1500"]);
    let change = format!("UPDATE t SET v = '{query}' WHERE id = 7; DELETE FROM t WHERE id = 1500");
    one_session.batch_execute(&change).await.expect("a commit");
    assert_eq!(near(&one_session, &query, "", 1).await, ["7"]);
    assert_eq!(near(&other, &query, "", 1).await, ["1500"]);
    other.batch_execute("COMMIT").await.expect("COMMIT");
    assert_eq!(near(&other, &query, "", 1).await, ["7"]);
    // One after the other: each search is right after a commit.
    for _ in 0..60 {
        let nearest = near(&one_session, &query, "", 1).await.remove(0);
        let delete = format!("DELETE FROM t WHERE id = {nearest}");
        one_session.batch_execute(&delete).await.expect(&delete);
        for client in [&one_session, &other] {
            let found = near(client, &query, "", 5).await;
            assert!(!found.contains(&nearest), "{nearest} in {found:?}");
            assert_eq!(found.len(), 5);
        }
    }
    // So many that rows are folded into blocks meanwhile.
    let many = format!(
        "INSERT INTO t SELECT i, 1, {VECTOR}::vector FROM generate_series(10001, 28000) i;
         DELETE FROM t WHERE id > 10000 AND id % 2 = 0"
    );
    for statement in many.split(';') {
        one_session.batch_execute(statement).await.expect(statement);
    }
    for i in [10_004.0, 20_000.0, 27_998.0] {
        let query = vector(&one_session, i).await;
        let found = near(&other, &query, "", 20).await;
        assert_eq!(found.len(), 20);
        assert!(
            found
                .iter()
                .all(|id| id.parse::<i64>().is_ok_and(|id| id < 10_000 || id % 2 == 1))
        );
    }
    let before = sorted(&one_session, &query, "", 10).await;
    server.again();
    let again = server.connect(A, "owner").await;
    for _ in 0..2 {
        assert_eq!(near(&again, &query, "", 1).await, before[..1]);
        let found = near(&again, &query, "", 10).await;
        assert!(!found.contains(&"1500".to_owned()), "{found:?}");
    }
    assert_eq!(
        one(&again, "SELECT count(*) FROM t WHERE id = 1500").await.as_deref(),
        Some("0")
    );
}

/// However few rows a filter leaves, all of them come, up to `k`.
#[tokio::test]
async fn b04_filters_never_empty_the_list() {
    let server = server("b04_filters").await;
    let client = server.connect(A, "owner").await;
    for ef in ["40", "1", "1000"] {
        client
            .batch_execute(&format!("SET hnsw.ef_search = {ef}"))
            .await
            .expect("SET");
        for i in [2.5, 777.25, 2_999.0] {
            let query = vector(&client, i).await;
            for (filter, matches) in [
                ("", ROWS),
                ("WHERE id = 2222", 1),
                ("WHERE part = 17", 3),
                ("WHERE id < 0", 0),
                ("WHERE part % 100 = 3", 30),
                ("WHERE id % 2 = 0", ROWS / 2),
                ("WHERE id > 1 AND part >= 0", ROWS - 1),
            ] {
                for k in [0, 1, 10, 100, ROWS + 5] {
                    let found = near(&client, &query, filter, k).await;
                    assert_eq!(found.len(), matches.min(k), "ef {ef}, {filter}, LIMIT {k}");
                    if matches <= 1_024 || k >= matches {
                        assert_eq!(found, sorted(&client, &query, filter, k).await, "{filter}, LIMIT {k}");
                    }
                    let distinct: std::collections::HashSet<&String> = found.iter().collect();
                    assert_eq!(distinct.len(), found.len(), "{filter}, LIMIT {k}");
                }
            }
        }
    }
    // Rows without a vector come last, and come.
    client
        .batch_execute("INSERT INTO t SELECT i, -1, NULL FROM generate_series(5001, 5003) i")
        .await
        .expect("rows without vectors");
    let query = vector(&client, 5.5).await;
    assert_eq!(near(&client, &query, "", ROWS + 2).await.len(), ROWS + 2);
    assert_eq!(near(&client, &query, "WHERE part < 1", 100).await.len(), 6);
    assert_eq!(near(&client, &query, "WHERE part = -1", 2).await.len(), 2);
    let found = near(&client, &query, "WHERE part <= 1", 6).await;
    assert!(
        found.iter().all(|id| id.parse::<usize>().is_ok_and(|id| id <= ROWS)),
        "{found:?}"
    );
}
