//! Queries of every shape over a table of which policies or the wall hide rows, against the same queries over a copy
//! that holds only what may be seen.

use crate::common::Seed;
use crate::common::canary::{Canary, assert_silent};
use crate::common::raw::{Raw, code, text_rows};
use crate::common::server::Server;

const A: &str = "acme";
const B: &str = "beta";
/// Begins what every hidden row says; a cast of it to a number fails.
const CANARY: &str = "Cnryq8Hidden4Pomegranate";

/// A table `t` in A of which `bob` sees some rows, `seen` with these rows only; in both tenants `plain`, and in A
/// `same` with what A's has.
async fn world(name: &str) -> Server {
    let server = Server::start(name);
    server.create_tenants(&[A, B]).await;
    let columns = "(id int, k int, owner text, body text, v int)";
    let a = server.connect(A, "owner").await;
    let b = server.connect(B, "owner").await;
    let mut seed = Seed(44);
    let or_null = |seed: &mut Seed, value: String| if seed.below(5) == 0 { "NULL".to_owned() } else { value };
    let (mut seen, mut hidden) = (Vec::new(), Vec::new());
    for id in 0..24 {
        let k = seed.below(4).to_string();
        let k = or_null(&mut seed, k);
        let v = (seed.below(12) as i64 - 3).to_string();
        let v = or_null(&mut seed, v);
        if id % 2 == 0 {
            let body = format!("'{}'", seed.below(9));
            let body = or_null(&mut seed, body);
            let owner = if id % 6 == 0 { "NULL" } else { "'bob'" };
            seen.push(format!("({id}, {k}, {owner}, {body}, {v})"));
        } else {
            hidden.push(format!("({id}, {k}, 'owner', '{CANARY}{id}', {v})"));
        }
    }
    let (seen, hidden) = (seen.join(", "), hidden.join(", "));
    for sql in [
        format!("CREATE TABLE plain {columns}"),
        format!("INSERT INTO plain VALUES {hidden}"),
    ] {
        b.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    for table in ["t", "seen", "plain", "same"] {
        a.batch_execute(&format!("CREATE TABLE {table} {columns}"))
            .await
            .expect("a table");
        a.batch_execute(&format!("INSERT INTO {table} VALUES {seen}"))
            .await
            .expect("rows");
    }
    for sql in [
        "CREATE USER bob PASSWORD 'pw-bob' IN ROLE member".to_owned(),
        format!("INSERT INTO t VALUES {hidden}"),
        "GRANT SELECT ON t, seen TO bob".to_owned(),
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY".to_owned(),
        "CREATE POLICY own ON t USING (owner = current_user OR owner IS NULL)".to_owned(),
    ] {
        a.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    server
}

/// The rows, without order, or the SQLSTATE.
async fn answer(raw: &mut Raw, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let frames = raw.query(sql).await;
    if let Some(state) = code(&frames) {
        return Err(state);
    }
    let mut rows = text_rows(&frames);
    rows.sort();
    Ok(rows)
}

const ALL: &str = "id, k, owner, body, v";

/// A relation with the columns of the table.
fn source(seed: &mut Seed, depth: u32) -> String {
    if depth == 0 {
        return (*seed.pick(&["{t}", "(SELECT ALL * FROM {t})", "(SELECT * FROM public.{t})", "{t}"])).to_owned();
    }
    let (s, u) = (source(seed, depth - 1), source(seed, depth - 1));
    let p = predicate(seed, "s", 1);
    match seed.below(10) {
        0 | 1 => format!("(SELECT * FROM {s} s WHERE {p})"),
        2 => format!("(SELECT * FROM {s} s UNION ALL SELECT * FROM {u} u)"),
        3 => format!("(SELECT * FROM {s} s UNION SELECT * FROM {u} u)"),
        4 => format!("(SELECT * FROM {s} s EXCEPT SELECT * FROM {u} s WHERE {p})"),
        5 => format!("(SELECT * FROM {s} s INTERSECT SELECT * FROM {u} s WHERE {p})"),
        6 => format!("(WITH c AS (SELECT * FROM {s} s WHERE {p}) SELECT a.* FROM c a JOIN c b ON a.id = b.id)"),
        7 => format!("(SELECT * FROM {s} s ORDER BY {ALL} LIMIT {})", seed.below(9)),
        8 => format!(
            "(SELECT max(id) AS id, k, owner, min(body) AS body, max(v) AS v FROM {s} s WHERE {p} GROUP BY k, owner)"
        ),
        _ => format!("(SELECT a.* FROM {s} a LEFT JOIN {u} b ON a.id = b.id AND b.v > 1)"),
    }
}

/// A condition that fails on no row that may be seen.
fn predicate(seed: &mut Seed, of: &str, depth: u32) -> String {
    if depth > 0 && seed.below(2) == 0 {
        let (p, q) = (predicate(seed, of, depth - 1), predicate(seed, of, depth - 1));
        return match seed.below(3) {
            0 => format!("({p} AND {q})"),
            1 => format!("({p} OR {q})"),
            _ => format!("(NOT ({p}))"),
        };
    }
    let n = seed.below(9);
    match seed.below(9) {
        0 => format!("{of}.v > {n}"),
        1 => format!("{of}.k IN (1, {n})"),
        2 => format!("CAST({of}.body AS int) % 3 = {}", n % 3),
        3 => format!("1 / (CASE WHEN {of}.body LIKE 'Cnry%' THEN 0 ELSE 1 END) = 1"),
        4 => format!("EXISTS (SELECT 1 FROM {{t}} e WHERE e.k = {of}.k AND e.id <> {n})"),
        5 => format!("{of}.id IN (SELECT x.v FROM {{t}} x)"),
        6 => format!("{of}.id NOT IN (SELECT x.v FROM {{t}} x WHERE x.v IS NOT NULL)"),
        7 => format!("{of}.v >= (SELECT min(m.v) + {n} FROM {{t}} m)"),
        _ => format!("{of}.owner IS DISTINCT FROM current_user"),
    }
}

/// A statement whose answer is one, but for the order of rows.
fn shape(seed: &mut Seed) -> String {
    let (s, u) = (source(seed, 2), source(seed, 1));
    let p = predicate(seed, "q", 2);
    match seed.below(15) {
        13 => "TABLE {t}".to_owned(),
        0 => format!("SELECT * FROM {s} q WHERE {p}"),
        1 => format!("SELECT count(*), min(body), max(body), sum(v), count(DISTINCT owner) FROM {s} q WHERE {p}"),
        2 => format!(
            "SELECT k, owner, count(*), sum(CAST(body AS INT)) FROM {s} q GROUP BY GROUPING SETS ((k), (owner), ())"
        ),
        3 => format!("SELECT k, owner, count(*) FROM {s} q GROUP BY ROLLUP (k, owner)"),
        4 => format!("SELECT q.id, (SELECT max(x.body) FROM {{t}} x WHERE x.k = q.k) FROM {s} q"),
        5 => format!("SELECT CASE WHEN (SELECT count(*) FROM {u} z) > 6 THEN 'many' ELSE 'few' END, q.id FROM {s} q"),
        6 => format!(
            "WITH RECURSIVE r(id, d) AS (SELECT q.id, 0 FROM {s} q UNION ALL SELECT x.id, r.d + 1 FROM r JOIN {{t}} x ON x.v = r.id WHERE r.d < 3) SELECT id, d FROM r"
        ),
        7 => format!(
            "SELECT id, sum(v) OVER (PARTITION BY k ORDER BY {ALL}), lag(body) OVER (ORDER BY {ALL}), count(*) OVER () FROM {s} q"
        ),
        8 => format!("SELECT a.id, b.body FROM {s} a FULL OUTER JOIN {u} b ON a.id = b.id + 1"),
        9 => format!("SELECT string_agg(body, ',' ORDER BY id, body) FROM {s} q WHERE {p}"),
        10 => format!(
            "SELECT k, count(*) FROM {s} q GROUP BY k HAVING count(*) >= (SELECT count(*) FROM {{t}} x WHERE x.v IS NULL) ORDER BY k"
        ),
        11 => format!(
            "SELECT o.id, l.id, l.body FROM {s} o CROSS JOIN LATERAL (SELECT i.id, i.body FROM {{t}} i WHERE i.k = o.k) l"
        ),
        12 => format!("SELECT DISTINCT q.owner, CAST(q.body AS int) + 1 FROM {s} q WHERE {p}"),
        _ => format!(
            "WITH c AS (SELECT * FROM {s} s) SELECT q.id FROM c q WHERE {p} UNION SELECT v FROM c EXCEPT SELECT id FROM {u} e"
        ),
    }
}

/// No shape of query shows, counts or fails on a row that is not its reader's.
#[tokio::test]
async fn a07_query_shapes() {
    let mut server = world("wall_a07").await;
    let canaries = [Canary::text(CANARY)];
    let mut bob = server.raw(A, "bob").await;
    let mut owner = server.raw(A, "owner").await;
    let mut seed = Seed(7);
    let (mut answered, mut told) = (0, 0);
    let cases = 110;
    for _ in 0..cases {
        let template = shape(&mut seed);
        let hidden = answer(&mut bob, &template.replace("{t}", "t")).await;
        let copy = answer(&mut bob, &template.replace("{t}", "seen")).await;
        assert_eq!(hidden, copy, "by policy: {template}");
        let walled = answer(&mut owner, &template.replace("{t}", "plain")).await;
        let copy = answer(&mut owner, &template.replace("{t}", "same")).await;
        assert_eq!(walled, copy, "by the wall: {template}");
        answered += usize::from(hidden.is_ok() && walled.is_ok());
        told += usize::from(hidden.is_ok_and(|rows| rows.len() > 1));
    }
    assert_silent(&canaries, &bob.heard, "A07 by policy");
    assert_silent(&canaries, &owner.heard, "A07 by the wall");
    assert!(answered * 5 >= cases * 4, "only {answered} of {cases} were answered");
    assert!(told * 2 >= cases, "only {told} of {cases} have rows to compare");
    // The control: the tap hears what the owner may see.
    owner.query("TABLE t").await;
    assert!(canaries[0].found_in(&owner.heard).is_some());
    server.assert_alive();
}

/// Joins that keep rows without a partner keep none that are hidden.
#[tokio::test]
async fn a08_joins_that_keep_rows() {
    let server = world("wall_a08").await;
    let canaries = [Canary::text(CANARY)];
    let mut bob = server.raw(A, "bob").await;
    for template in [
        "SELECT a.id, b.id, b.body FROM {t} a FULL OUTER JOIN {t} b ON a.id = b.id + 1",
        "SELECT a.id, b.id FROM {t} a FULL OUTER JOIN {t} b USING (k)",
        "SELECT a.id, b.* FROM {t} a RIGHT JOIN {t} b ON a.id = b.v",
        "SELECT a.*, b.id FROM {t} a LEFT JOIN {t} b ON a.id = b.v AND b.owner = 'owner'",
        "SELECT a.id, b.id FROM {t} a CROSS JOIN {t} b",
        "SELECT id FROM {t} a WHERE NOT EXISTS (SELECT 1 FROM {t} b WHERE b.v = a.id)",
        "SELECT id FROM {t} a WHERE EXISTS (SELECT 1 FROM {t} b WHERE b.id = a.id + 1 OR b.id = a.id + 2)",
        "SELECT id FROM {t} WHERE id NOT IN (SELECT v FROM {t} WHERE v IS NOT NULL)",
        "SELECT id FROM {t} WHERE id NOT IN (SELECT v FROM {t} WHERE v IS NOT NULL OR owner = 'owner')",
        "SELECT id FROM {t} WHERE v NOT IN (SELECT k FROM {t} WHERE k IS NOT NULL)",
        "SELECT g, a.id FROM generate_series(0, 23) AS g(g) LEFT JOIN {t} a ON a.id = g",
        "SELECT g FROM generate_series(0, 23) AS g(g) WHERE g NOT IN (SELECT id FROM {t})",
        "SELECT count(*) FROM {t} a FULL OUTER JOIN (SELECT * FROM {t} WHERE v > 2) b ON a.id = b.id WHERE a.id IS NULL OR b.id IS NULL",
    ] {
        let hidden = answer(&mut bob, &template.replace("{t}", "t")).await;
        let copy = answer(&mut bob, &template.replace("{t}", "seen")).await;
        assert!(copy.as_ref().is_ok_and(|rows| !rows.is_empty()), "{template}: {copy:?}");
        assert_eq!(hidden, copy, "{template}");
    }
    // With a NULL in the list nothing is known to be outside of it.
    let null = "SELECT id FROM t WHERE id NOT IN (SELECT v FROM t)";
    assert_eq!(answer(&mut bob, null).await, Ok(Vec::new()));
    assert_silent(&canaries, &bob.heard, "A08");
}

/// A condition that may be NULL, over one table's columns.
fn condition(seed: &mut Seed, depth: u32) -> String {
    if depth > 0 && seed.below(3) > 0 {
        let (p, q) = (condition(seed, depth - 1), condition(seed, depth - 1));
        return match seed.below(5) {
            0 => format!("({p} AND {q})"),
            1 => format!("({p} OR {q})"),
            2 => format!("(NOT {p})"),
            3 => format!("(({p}) IS NOT TRUE)"),
            _ => format!("(CASE WHEN {p} THEN {q} ELSE v > k END)"),
        };
    }
    let column = *seed.pick(&["id", "k", "v", "v + k", "coalesce(v, k)", "v * k", "CAST(body AS int)"]);
    let other = *seed.pick(&["k", "v", "3", "0", "NULL", "id - 5"]);
    let n = seed.below(9);
    match seed.below(8) {
        0 => format!("({column} = {other})"),
        1 => format!("({column} < {other})"),
        2 => format!("({column} <> {other})"),
        3 => format!("({column} BETWEEN {n} AND {n} + 3)"),
        4 => format!("({column} IN ({n}, 2, NULL))"),
        5 => format!("({column} NOT IN ({n}, 4))"),
        6 => format!("({column} IS DISTINCT FROM {other})"),
        _ => format!("(body LIKE '%{n}%' OR owner IS NULL)"),
    }
}

/// A table is what a condition holds for, what it does not, and what it is NULL for (TLP); and each row
/// is in the part that the condition's value says (NoREC).
#[tokio::test]
async fn a44_conditions_part_a_table() {
    let server = world("wall_a44").await;
    let mut bob = server.raw(A, "bob").await;
    let all = answer(&mut bob, "SELECT id FROM seen").await;
    assert_eq!(all.as_ref().map(Vec::len), Ok(12));
    assert_eq!(answer(&mut bob, "SELECT id FROM t").await, all);
    let mut seed = Seed(4401);
    let mut kinds = [0_usize; 3];
    for case in 0..320 {
        let p = condition(&mut seed, 3);
        let parts = format!(
            "SELECT id, 0 FROM t WHERE {p} UNION ALL SELECT id, 1 FROM t WHERE NOT ({p}) UNION ALL SELECT id, 2 FROM t WHERE ({p}) IS NULL"
        );
        let parted = answer(&mut bob, &parts)
            .await
            .unwrap_or_else(|state| panic!("{case}: {state}: {p}"));
        let mut ids: Vec<Vec<String>> = parted.iter().map(|row| row[..1].to_vec()).collect();
        ids.sort();
        assert_eq!(Ok(ids), all, "{case}: {p}");
        // Computed for each row, where no plan can use it to leave rows out.
        let valued = answer(&mut bob, &format!("SELECT id, {p} FROM t")).await;
        let valued = valued.unwrap_or_else(|state| panic!("{case}: {state}: {p}"));
        let part = |value: &str| {
            ["t", "f", "NULL"]
                .iter()
                .position(|v| *v == value)
                .expect("a truth value")
        };
        let expected: Vec<Vec<String>> = valued
            .iter()
            .map(|row| vec![row[0].clone(), part(&row[1]).to_string()])
            .collect();
        assert_eq!(parted, expected, "{case}: {p}");
        for (part, cases) in kinds.iter_mut().enumerate() {
            *cases += usize::from(parted.iter().any(|row| row[1] == part.to_string()));
        }
    }
    assert!(
        kinds.iter().all(|cases| *cases > 60),
        "each part has rows often enough: {kinds:?}"
    );
}
