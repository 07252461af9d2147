//! Rows of THREATS.md about users' own tables under row policies and beside another tenant's: failures, ids, plans,
//! commands on whole tables. Each is a test named by its id.

use tokio_postgres::Client;

use crate::common::canary::{Canary, assert_silent};
use crate::common::raw::{bind, code, execute, parse, text_rows};
use crate::common::server::{Server, fails, one, rows};

const A: &str = "acme";
const B: &str = "beta";
/// What B, or a row that a policy hides, holds. No statement of who may not see it says it.
const CANARY: &str = "Cnryq8Hidden4Pomegranate";

async fn run(client: &Client, statements: &[&str]) {
    for sql in statements {
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
}

/// Tenants A and B, and a member `bob` of A.
async fn server(name: &str) -> (Server, Client, Client) {
    let server = Server::start(name);
    server.create_tenants(&[A, B]).await;
    let a = server.connect(A, "owner").await;
    run(&a, &["CREATE USER bob PASSWORD 'pw-bob' IN ROLE member"]).await;
    let b = server.connect(B, "owner").await;
    (server, a, b)
}

/// What fails on a row that is another's does not fail, and is not summed.
#[tokio::test]
async fn a02_a03_filters_and_statistics() {
    let (server, a, b) = server("wall_a02").await;
    let table = "CREATE TABLE docs (id int PRIMARY KEY, owner text, body text)";
    run(&b, &[table]).await;
    run(&a, &[table]).await;
    let many = format!("INSERT INTO docs SELECT g, 'bob', '{CANARY}' FROM generate_series(-2000, 2000) AS g(g)");
    run(&b, &[&many]).await;
    run(
        &a,
        &["INSERT INTO docs VALUES (4, 'bob', '1'), (5, 'bob', '2'), (6, 'owner', '4')"],
    )
    .await;
    let sum = "SELECT sum(CAST(body AS INT)) FILTER (WHERE owner = current_user) FROM docs";
    let bounds = ["", " WHERE true", " WHERE owner IS NOT NULL", " WHERE id > -5000"];
    assert_eq!(rows(&a, sum).await, [["4"]]);
    for condition in bounds {
        let sql = format!("SELECT count(*), min(id), max(id) FROM docs{condition}");
        assert_eq!(rows(&a, &sql).await, [["3", "4", "6"]], "{sql}");
    }
    // The same within the tenant.
    let hidden = format!("INSERT INTO docs SELECT g, 'owner', '{CANARY}' FROM generate_series(1000, 1100) AS g(g)");
    run(
        &a,
        &[
            &hidden,
            "GRANT SELECT ON docs TO bob",
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON docs USING (owner = current_user)",
        ],
    )
    .await;
    assert_eq!(
        fails(&a, "SELECT sum(CAST(body AS INT)) FROM docs").await,
        "22P02",
        "the control"
    );
    let bob = server.connect(A, "bob").await;
    assert_eq!(rows(&bob, sum).await, [["3"]]);
    assert_eq!(rows(&bob, "SELECT sum(CAST(body AS INT)) FROM docs").await, [["3"]]);
    for condition in bounds {
        let sql = format!("SELECT count(*), min(id), max(id) FROM docs{condition}");
        assert_eq!(rows(&bob, &sql).await, [["2", "4", "5"]], "{sql}");
    }
}

/// A violation shows nothing of a row that its user may not read, though the user may change it.
#[tokio::test]
async fn a18_constraint_text() {
    let (server, a, _) = server("wall_a18").await;
    let table = "(id int PRIMARY KEY, secret text NOT NULL, amount int NOT NULL CHECK (amount < 100), place int, \
                 UNIQUE (secret, place))";
    let child = "(id int PRIMARY KEY, secret text, place int, FOREIGN KEY (secret, place) REFERENCES";
    for name in ["policed", "granted"] {
        for sql in [
            format!("CREATE TABLE {name} {table}"),
            format!("INSERT INTO {name} VALUES (1, '{CANARY}', 1, 1), (2, '{CANARY}', 2, 2)"),
            format!("CREATE TABLE {name}_child {child} {name} (secret, place))"),
            format!("INSERT INTO {name}_child VALUES (1, '{CANARY}', 1)"),
            format!("GRANT UPDATE ON {name}, {name}_child TO bob"),
        ] {
            run(&a, &[&sql]).await;
        }
    }
    for name in ["policed", "policed_child"] {
        for sql in [
            format!("GRANT SELECT ON {name} TO bob"),
            format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"),
            format!("CREATE POLICY none ON {name} FOR SELECT USING (false)"),
            format!("CREATE POLICY every ON {name} FOR UPDATE USING (true)"),
        ] {
            run(&a, &[&sql]).await;
        }
    }
    let canaries = [Canary::text(CANARY)];
    let mut owner = server.raw(A, "owner").await;
    let mut bob = server.raw(A, "bob").await;
    for name in ["policed", "granted"] {
        for (sql, state) in [
            (format!("UPDATE {name} SET amount = NULL"), "23502"),
            (format!("UPDATE {name} SET amount = 200"), "23514"),
            (format!("UPDATE {name} SET place = 7"), "23505"),
            (format!("UPDATE {name} SET secret = NULL"), "23502"),
            (format!("UPDATE {name}_child SET place = 9"), "23503"),
        ] {
            let frames = bob.query(&sql).await;
            assert_eq!(code(&frames).as_deref(), Some(state), "{sql}: {frames:?}");
            assert_silent(&canaries, &bob.heard, &sql);
            // The control: who may read it is told.
            let before = owner.heard.len();
            assert_eq!(code(&owner.query(&sql).await).as_deref(), Some(state), "{sql}");
            let told = String::from_utf8_lossy(&owner.heard[before..]).into_owned();
            assert!(told.contains("Failing row") || told.contains(CANARY), "{sql}: {told}");
        }
    }
}

/// Policies that need themselves are refused, however they come to.
#[tokio::test]
async fn a31_policy_recursion() {
    let (mut server, a, _) = server("wall_a31").await;
    for name in ["t", "u", "w"] {
        for sql in [
            format!("CREATE TABLE {name} (a int)"),
            format!("INSERT INTO {name} VALUES (1)"),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO bob"),
            format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"),
            format!("CREATE VIEW {name}_view AS SELECT a FROM {name}"),
            format!("CREATE VIEW {name}_twice AS SELECT a FROM {name}_view WHERE a IN (SELECT a FROM {name}_view)"),
            format!("GRANT SELECT ON {name}_view, {name}_twice TO bob"),
            format!("CREATE POLICY p ON {name} USING (true)"),
        ] {
            run(&a, &[&sql]).await;
        }
    }
    let bob = server.connect(A, "bob").await;
    let kinds: [(&str, [(&str, &str); 3]); 5] = [
        ("itself", [("t", "t"), ("u", ""), ("w", "")]),
        ("each other", [("t", "u"), ("u", "t"), ("w", "")]),
        ("a ring", [("t", "u"), ("u", "w"), ("w", "t")]),
        ("a view", [("t", "t_view"), ("u", ""), ("w", "")]),
        ("views", [("t", "u_twice"), ("u", "t_twice"), ("w", "")]),
    ];
    for (kind, policies) in kinds {
        for (name, of) in policies {
            let using = match of {
                "" => "true".to_owned(),
                of => format!("EXISTS (SELECT 1 FROM {of} x WHERE x.a = {name}.a)"),
            };
            run(&a, &[&format!("ALTER POLICY p ON {name} USING ({using})")]).await;
        }
        for sql in [
            "SELECT * FROM t",
            "SELECT count(*) FROM t_twice",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM t)",
            "UPDATE t SET a = 2",
            "DELETE FROM t",
        ] {
            assert_eq!(fails(&bob, sql).await, "42P17", "{kind}: {sql}");
        }
        assert_eq!(one(&a, "SELECT a FROM t").await.as_deref(), Some("1"), "{kind}");
    }
    run(&a, &["ALTER POLICY p ON t USING (true)"]).await;
    assert_eq!(rows(&bob, "SELECT * FROM t").await, [["1"]]);
    server.assert_alive();
}

/// What numbers A's rows get does not tell how many rows B has made.
#[tokio::test]
async fn a34_ids_reveal_no_volume() {
    let mut seen = Vec::new();
    for busy in [false, true] {
        let (_server, a, b) = server("wall_a34").await;
        let table = "CREATE TABLE t (s serial, l bigserial, i int GENERATED ALWAYS AS IDENTITY, u uuid DEFAULT \
                     gen_random_uuid(), x int)";
        run(&a, &[table]).await;
        run(&b, &[table]).await;
        for _ in 0..2 {
            run(&a, &["INSERT INTO t (x) VALUES (0)"]).await;
            if busy {
                run(
                    &b,
                    &["INSERT INTO t (x) SELECT g FROM generate_series(1, 1000) AS g(g)"],
                )
                .await;
            }
        }
        run(&a, &["INSERT INTO t (x) VALUES (0)"]).await;
        let made = if busy { "2000" } else { "0" };
        assert_eq!(one(&b, "SELECT count(*) FROM t").await.as_deref(), Some(made));
        seen.push(rows(&a, "SELECT s, l, i FROM t ORDER BY s").await);
        let version = "SELECT count(DISTINCT u), min(substr(u::text, 15, 1)), max(substr(u::text, 15, 1)) FROM t";
        assert_eq!(rows(&a, version).await, [["3", "4", "4"]], "random");
    }
    let expected: [[&str; 3]; 3] = [["1", "1", "1"], ["2", "2", "2"], ["3", "3", "3"]];
    assert_eq!(seen[0], expected);
    assert_eq!(seen[1], expected);
}

/// Names are printed so that they read back as the same names, and a script cannot name another tenant.
#[tokio::test]
async fn a37_names_in_definitions() {
    let (_server, a, b) = server("wall_a37").await;
    let name = "x\"\n\\! touch p";
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    for sql in [
        format!("CREATE TABLE {quoted} ({quoted} int, \"y;--\" text)"),
        format!("INSERT INTO {quoted} VALUES (7, 'seven')"),
        format!("CREATE INDEX \"i\"\"\n\" ON {quoted} ({quoted})"),
        format!("CREATE VIEW \"v\"\"\n\" AS SELECT {quoted} FROM {quoted}"),
    ] {
        run(&a, &[&sql]).await;
    }
    let literal = format!("'{name}'");
    assert_eq!(
        one(&a, &format!("SELECT quote_ident({literal})")).await.as_deref(),
        Some(&*quoted)
    );
    let oid = format!("SELECT oid::regclass::text FROM pg_class WHERE relname = {literal}");
    assert_eq!(one(&a, &oid).await.as_deref(), Some(&*quoted));
    let index = "SELECT pg_get_indexdef(indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE \
                 c.relname LIKE 'i\"%'";
    let printed = one(&a, index).await.expect("an index");
    run(&a, &["DROP INDEX \"i\"\"\n\"", &printed]).await;
    assert_eq!(one(&a, index).await.as_deref(), Some(&*printed), "it reads back");
    let view = "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relname LIKE 'v\"%'";
    let printed = one(&a, view).await.expect("a view");
    assert_eq!(rows(&a, printed.trim_end_matches(';')).await, [["7"]], "{printed}");
    // A dump that a hand has edited.
    run(
        &b,
        &["CREATE TABLE t (a text)", &format!("INSERT INTO t VALUES ('{CANARY}')")],
    )
    .await;
    for sql in [
        "CREATE TABLE beta.public.t2 (a text)",
        "INSERT INTO beta.public.t VALUES ('x')",
        "COPY beta.public.t FROM STDIN",
        "COPY beta.public.t TO STDOUT",
        "CREATE INDEX stolen ON beta.public.t (a)",
        "CREATE VIEW stolen AS SELECT * FROM beta.public.t",
        "ALTER TABLE beta.public.t ADD COLUMN b int",
        "DROP TABLE beta.public.t",
        "TRUNCATE beta.public.t",
        "GRANT SELECT ON beta.public.t TO PUBLIC",
    ] {
        let state = fails(&a, sql).await;
        assert!(
            ["42P01", "0A000", "3F000", "42601"].contains(&&*state),
            "{sql}: {state}"
        );
    }
    assert_eq!(rows(&b, "SELECT * FROM t").await, [[CANARY]]);
    assert_eq!(
        one(&b, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .await
            .as_deref(),
        Some("1")
    );
}

/// A statement prepared for a table that is another now reads that one or is refused.
#[tokio::test]
async fn a38_stale_plans() {
    let (server, a, _) = server("wall_a38").await;
    let first = ["CREATE TABLE t (a int, b text)", "INSERT INTO t VALUES (1, 'one')"];
    let changes: [(&str, &[&str], &[&str]); 6] = [
        ("DROP TABLE t; CREATE TABLE t (a text, b int)", &["x", "5"], &["5", "x"]),
        ("DROP TABLE t; CREATE TABLE t (b text, a int)", &["y", "6"], &["y", "6"]),
        (
            "DROP TABLE t; CREATE TABLE t (z int, a int, b text)",
            &["9", "8", "w"],
            &["w", "8"],
        ),
        (
            "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b text DEFAULT 'new'",
            &[],
            &["new", "1"],
        ),
        (
            "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b int DEFAULT 3",
            &[],
            &["3", "1"],
        ),
        (
            "ALTER TABLE t RENAME COLUMN a TO c; ALTER TABLE t RENAME COLUMN b TO a; ALTER TABLE t RENAME COLUMN c TO b",
            &[],
            &["1", "one"],
        ),
    ];
    for (change, values, expected) in changes {
        run(&a, &["DROP TABLE IF EXISTS t"]).await;
        run(&a, &first).await;
        let mut raw = server.raw(A, "owner").await;
        let prepared = raw
            .extended(&[
                parse("s", "SELECT b, a FROM t", &[]),
                bind("", "s", &[], &[], &[]),
                execute("", 0),
            ])
            .await;
        assert_eq!(text_rows(&prepared), [["one", "1"]]);
        assert_eq!(code(&raw.query("PREPARE q AS SELECT b, a FROM t").await), None);
        for sql in change.split("; ") {
            run(&a, &[sql]).await;
        }
        if !values.is_empty() {
            let list: Vec<String> = values.iter().map(|v| format!("'{v}'")).collect();
            let sql = format!("INSERT INTO t VALUES ({})", list.join(", "));
            run(
                &a,
                &[&sql
                    .replace("'5'", "5")
                    .replace("'6'", "6")
                    .replace("'8'", "8")
                    .replace("'9'", "9")],
            )
            .await;
        }
        let executed = raw.extended(&[bind("", "s", &[], &[], &[]), execute("", 0)]).await;
        let simple = raw.query("EXECUTE q").await;
        for frames in [executed, simple] {
            match code(&frames).as_deref() {
                None => assert_eq!(text_rows(&frames), [expected.to_vec()], "{change}"),
                state => assert_eq!(state, Some("0A000"), "{change}: {frames:?}"),
            }
        }
        // Prepared anew it is what is there.
        assert_eq!(
            text_rows(&raw.query("SELECT b, a FROM t").await),
            [expected.to_vec()],
            "{change}"
        );
    }
    // A cursor that is open gives what it was opened on, or the change is refused.
    run(&a, &["DROP TABLE t"]).await;
    run(&a, &first).await;
    run(&a, &["INSERT INTO t VALUES (2, 'two')"]).await;
    for change in ["DROP TABLE t", "ALTER TABLE t DROP COLUMN b", "TRUNCATE t"] {
        let mut raw = server.raw(A, "owner").await;
        raw.query("BEGIN").await;
        raw.query("DECLARE c CURSOR FOR SELECT b, a FROM t ORDER BY a").await;
        assert_eq!(text_rows(&raw.query("FETCH 1 FROM c").await), [["one", "1"]]);
        let refused = code(&raw.query(change).await);
        let fetched = raw.query("FETCH 1 FROM c").await;
        match (refused, code(&fetched)) {
            (None, None) => assert_eq!(text_rows(&fetched), [["two", "2"]], "{change}"),
            (_, failed) => assert!(
                failed.is_some() && text_rows(&fetched).is_empty(),
                "{change}: {fetched:?}"
            ),
        }
        raw.query("ROLLBACK").await;
        assert_eq!(
            one(&a, "SELECT count(b) FROM t").await.as_deref(),
            Some("2"),
            "{change}"
        );
    }
}

/// Commands on a whole table mean the tenant's own.
#[tokio::test]
async fn a41_table_wide_commands() {
    let (server, a, b) = server("wall_a41").await;
    let made = [
        "CREATE TABLE docs (id int PRIMARY KEY, body text)",
        "INSERT INTO docs VALUES (1, 'kept'), (2, 'too')",
    ];
    run(&b, &made).await;
    run(
        &b,
        &[
            "CREATE USER eve PASSWORD 'pw-eve' IN ROLE member",
            "GRANT SELECT ON docs TO eve",
        ],
    )
    .await;
    let eve = server.connect(B, "eve").await;
    let mut before = Vec::new();
    for round in 0..2 {
        let mut after = Vec::new();
        for sql in [
            "SELECT * FROM docs ORDER BY id",
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'docs' ORDER BY 1",
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'docs' ORDER BY 1",
            "SELECT relname, relkind, relrowsecurity FROM pg_class WHERE relname LIKE 'docs%' ORDER BY 1",
        ] {
            after.push(rows(&b, sql).await);
        }
        after.push(rows(&eve, "SELECT * FROM docs ORDER BY id").await);
        assert_eq!(fails(&eve, "DELETE FROM docs").await, "42501");
        if round == 1 {
            assert_eq!(after, before);
            break;
        }
        assert_eq!(after[0].len(), 2);
        before = after;
        for (sql, control, value) in [
            ("TRUNCATE docs", "SELECT count(*) FROM docs", "0"),
            ("DELETE FROM docs", "SELECT count(*) FROM docs", "0"),
            (
                "ALTER TABLE docs ADD COLUMN n int DEFAULT 4",
                "SELECT sum(n) FROM docs",
                "8",
            ),
            (
                "ALTER TABLE docs ALTER COLUMN id TYPE bigint",
                "SELECT pg_typeof(id)::text FROM docs LIMIT 1",
                "bigint",
            ),
            ("ALTER TABLE docs RENAME TO docs2", "SELECT count(*) FROM docs2", "2"),
            (
                "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
                "SELECT count(*) FROM docs",
                "2",
            ),
            (
                "CREATE INDEX docs_body ON docs (body)",
                "SELECT count(*) FROM pg_indexes WHERE tablename = 'docs'",
                "2",
            ),
            ("GRANT ALL ON docs TO PUBLIC", "SELECT count(*) FROM docs", "2"),
            ("REVOKE ALL ON docs FROM PUBLIC", "SELECT count(*) FROM docs", "2"),
            ("VACUUM docs", "SELECT count(*) FROM docs", "2"),
            ("ANALYZE docs", "SELECT count(*) FROM docs", "2"),
            (
                "DROP TABLE docs",
                "SELECT count(*) FROM pg_tables WHERE tablename = 'docs'",
                "0",
            ),
        ] {
            run(&a, &["DROP TABLE IF EXISTS docs", "DROP TABLE IF EXISTS docs2"]).await;
            run(&a, &made).await;
            run(&a, &[sql]).await;
            assert_eq!(one(&a, control).await.as_deref(), Some(value), "{sql}");
        }
    }
    // A's lock of its table keeps nobody of B waiting.
    run(&a, &made).await;
    run(&a, &["BEGIN", "LOCK TABLE docs IN ACCESS EXCLUSIVE MODE"]).await;
    run(
        &b,
        &[
            "SET lock_timeout = '5s'",
            "UPDATE docs SET body = 'written' WHERE id = 1",
        ],
    )
    .await;
    run(&a, &["ROLLBACK"]).await;
    assert_eq!(
        one(&b, "SELECT body FROM docs WHERE id = 1").await.as_deref(),
        Some("written")
    );
    assert_eq!(
        one(&a, "SELECT body FROM docs WHERE id = 1").await.as_deref(),
        Some("kept")
    );
}
