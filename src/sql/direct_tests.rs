//! Searches for the nearest rows that need no plan, held against the plans that they replace.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray},
    compute::concat_batches,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    engine::Engine, pg::casts, prepared::Plan, run::gather, session::Session, tables::direct::Direct, testing::run,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    tenant::{Directory, testing},
};

const SEED: u64 = 20_240_229;
const ROWS: usize = 700;

async fn session() -> Session {
    let directory = Directory::in_memory("operator's").unwrap();
    let engine = Engine::new(directory.clone()).unwrap();
    let operator = testing::operator(&directory, "operator's");
    operator.create_tenant(testing::new_tenant("acme")).await.unwrap();
    let login = testing::log_in(&directory, "acme", "owner", "secret").unwrap();
    Session::open(engine, login, &[]).await.unwrap()
}

fn vector(random: &mut StdRng) -> String {
    let numbers: Vec<String> = (0..3)
        .map(|_| format!("{:.4}", random.random_range(-1.0..1.0)))
        .collect();
    format!("[{}]", numbers.join(","))
}

fn rows(random: &mut StdRng, ids: std::ops::Range<usize>) -> String {
    let row = |id: usize, random: &mut StdRng| {
        let (kind, n) = (random.random_range(0..4), random.random_range(0..100));
        format!("({id}, 'k{kind}', {n}, '{}')", vector(random))
    };
    let rows: Vec<String> = ids.map(|id| row(id, random)).collect();
    format!("INSERT INTO t VALUES {}", rows.join(", "))
}

/// `$1` is the vector, `$2` how many, `$3` a number.
const DIRECT: &[&str] = &[
    "SELECT id FROM t ORDER BY v <-> $1 LIMIT 10",
    "SELECT id, v <=> $1 AS d FROM t ORDER BY d LIMIT $2",
    "SELECT id, 1 - (v <=> $1) AS s, kind FROM t ORDER BY v <=> $1 LIMIT $2 OFFSET 3",
    "SELECT id, 1 - (v <=> $1) AS s, v <-> $1 AS other FROM t ORDER BY 1 - s, id LIMIT 0",
    "SELECT * FROM t ORDER BY l1_distance($1, v) LIMIT $2",
    "SELECT *, v <#> $1 FROM t ORDER BY v <#> $1 LIMIT $2 OFFSET $3",
    "SELECT id FROM t WHERE kind = 'k1' ORDER BY v <-> $1 LIMIT $2",
    "SELECT id, n FROM t WHERE n < $3 AND kind <> 'k2' ORDER BY v <=> $1 LIMIT $2",
    "SELECT v FROM t WHERE v <-> $1 < 0.4 ORDER BY v <-> $1 LIMIT $2",
    "SELECT id FROM t WHERE id = $3 ORDER BY v <-> $1 LIMIT 1",
    "SELECT id FROM t WHERE id IN (3, 4, 5) AND v <-> $1 < 9 ORDER BY v <-> $1 LIMIT $2",
    "SELECT id FROM t WHERE kind = 'nosuch' ORDER BY v <-> $1 LIMIT $2",
    "SELECT s.id, s.d + 1 AS e FROM (SELECT id, v <-> $1 AS d FROM t WHERE n <> $3 ORDER BY d LIMIT $2) s",
    "WITH near AS (SELECT a.id AS n, a.v AS w FROM t AS a WHERE a.id > $3) SELECT n FROM near ORDER BY w <-> $1 LIMIT $2",
    "SELECT upper(kind) || 'x' AS k, n + $3 AS m FROM t ORDER BY cosine_distance(v, $1) LIMIT $2",
    "SELECT id FROM t ORDER BY v <-> '[0.1,0.2,0.3]' LIMIT 5",
    "SELECT id, v <=> '[0.1,0.2,0.3]'::vector AS d FROM t ORDER BY d LIMIT 5 OFFSET 2",
    "SELECT id FROM (SELECT id, n FROM t ORDER BY v <-> $1 LIMIT 8 OFFSET 1) x LIMIT 3 OFFSET 2",
    "SELECT 1 AS one FROM t ORDER BY v <-> $1 LIMIT $2",
];

/// Of these a plan is needed, and the answer is the same.
const PLANNED: &[&str] = &[
    "SELECT id FROM t ORDER BY v <-> $1 DESC LIMIT 3",
    "SELECT id FROM t ORDER BY v <-> $1, id LIMIT 3",
    "SELECT id FROM (SELECT id, n FROM t ORDER BY v <-> $1 LIMIT 20) x WHERE n > $3",
    "SELECT id FROM t ORDER BY v <-> $1",
    "SELECT n FROM (SELECT n FROM t ORDER BY v <-> $1 LIMIT 20) x ORDER BY n LIMIT 3",
    "SELECT count(*) AS c FROM (SELECT n FROM t ORDER BY v <-> $1 LIMIT 20) x",
];

struct Given {
    vector: String,
    count: i32,
    number: i32,
}

/// What the direct way and the plan give for a query; whether there was a direct way.
async fn both(session: &mut Session, sql: &str, given: &Given) -> (bool, Option<RecordBatch>, RecordBatch) {
    let types = [Scalar::Vector, Scalar::Int4, Scalar::Int4].map(|scalar| Some(PgType::Scalar(scalar)));
    let parsed = session.parse(sql).unwrap().remove(0);
    let prepared = session.prepare(&parsed, &types).await.unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec![given.vector.as_str()]));
    let int = |n: i32| Arc::new(Int32Array::from(vec![n])) as ArrayRef;
    let params = [
        casts::vectors_of_text(&text).unwrap(),
        int(given.count),
        int(given.number),
    ];
    // As a statement does, so that it sees what there is.
    drop(session.execute(&prepared, &params).await.unwrap());
    let Plan::Query(query) = &prepared.plan else {
        panic!("{sql} is a query")
    };
    let known = matches!(query.direct.get(), Some(Some(Direct::Nearest(_))));
    let direct = session.read_directly(query, &params).await.unwrap();
    let planned = gather(session.read_planned(query, &params).await.unwrap())
        .await
        .unwrap();
    let schema = planned
        .first()
        .map_or_else(|| query.plan.schema().inner().clone(), RecordBatch::schema);
    (known, direct, concat_batches(&schema, &planned).unwrap())
}

async fn compare(session: &mut Session, random: &mut StdRng, all: bool) {
    for &sql in DIRECT {
        let given = Given {
            vector: vector(random),
            count: random.random_range(1..30),
            number: random.random_range(0..60),
        };
        let (known, direct, planned) = both(session, sql, &given).await;
        assert!(known || sql.ends_with("LIMIT 0"), "{sql} needs no plan");
        if all && !sql.ends_with("LIMIT 0") {
            assert!(direct.is_some(), "{sql} is answered without one");
        }
        if let Some(direct) = direct {
            assert_eq!(direct.columns(), planned.columns(), "{sql} of {}", given.vector);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_direct_way_gives_what_the_plan_gives() {
    let (mut session, mut random) = (session().await, StdRng::seed_from_u64(SEED));
    run(
        &mut session,
        "CREATE TABLE t (id integer PRIMARY KEY, kind text, n integer, v vector(3))",
    )
    .await
    .unwrap();
    // Few rows, then enough for a shard.
    run(&mut session, &rows(&mut random, 0..60)).await.unwrap();
    compare(&mut session, &mut random, false).await;
    run(&mut session, &rows(&mut random, 60..ROWS)).await.unwrap();
    compare(&mut session, &mut random, true).await;
    // What a transaction has written itself.
    run(&mut session, "BEGIN").await.unwrap();
    run(&mut session, &rows(&mut random, ROWS..ROWS + 50)).await.unwrap();
    run(&mut session, "DELETE FROM t WHERE id % 7 = 1").await.unwrap();
    run(
        &mut session,
        "UPDATE t SET v = '[0.1,0.2,0.3]', kind = 'k1' WHERE id = 12",
    )
    .await
    .unwrap();
    compare(&mut session, &mut random, true).await;
    run(&mut session, "ROLLBACK").await.unwrap();
    compare(&mut session, &mut random, true).await;
    // A graph, or what else was made of the vectors meanwhile; blocks; another column between.
    run(&mut session, "ALTER TABLE t ADD COLUMN late integer DEFAULT 5")
        .await
        .unwrap();
    run(
        &mut session,
        &rows(&mut random, 2 * ROWS..5 * ROWS).replace("INTO t", "INTO t (id, kind, n, v)"),
    )
    .await
    .unwrap();
    run(&mut session, "VACUUM t").await.unwrap();
    compare(&mut session, &mut random, true).await;
    // Vectors that are none, and one that is at no angle to any.
    run(
        &mut session,
        "INSERT INTO t VALUES (-1, 'k1', 5, NULL), (-2, 'k1', 5, '[0,0,0]')",
    )
    .await
    .unwrap();
    compare(&mut session, &mut random, true).await;
    for &sql in PLANNED {
        let given = Given {
            vector: vector(&mut random),
            count: 5,
            number: 50,
        };
        let (known, direct, _) = both(&mut session, sql, &given).await;
        assert!(!known && direct.is_none(), "{sql} needs a plan");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_vector_are_left_to_the_plan() {
    let mut session = session().await;
    run(
        &mut session,
        "CREATE TABLE t (id integer PRIMARY KEY, kind text, n integer, v vector(3))",
    )
    .await
    .unwrap();
    run(
        &mut session,
        "INSERT INTO t VALUES (1, 'a', 1, '[1,2,3]'), (2, 'a', 2, NULL), (3, 'b', 3, NULL)",
    )
    .await
    .unwrap();
    let mut given = Given {
        vector: "[1,2,3]".to_owned(),
        count: 1,
        number: 0,
    };
    let sql = "SELECT id, v <-> $1 AS d FROM t ORDER BY d LIMIT $2";
    let (_, direct, planned) = both(&mut session, sql, &given).await;
    assert_eq!(direct.unwrap().columns(), planned.columns());
    given.count = 2;
    let (_, direct, planned) = both(&mut session, sql, &given).await;
    assert!(direct.is_none());
    assert_eq!(planned.num_rows(), 2);
}
