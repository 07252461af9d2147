//! Rows A33 to D01 of THREATS.md, each a test named by its id.

use crate::common::canary::{Canary, assert_silent};
use crate::common::raw::{code, fields, message, startup_of, text_rows};
use crate::common::server::{ADMIN_PASSWORD, Server, connect, fails, one, password_of, rows, state};
use crate::worlds::{A, B, B_USER, Neighbour, World};

/// Errors say what is wrong in the user's words: nothing foreign, no build path, no library's talk.
#[tokio::test]
async fn a33_error_texts() {
    let world = World::with(Neighbour::Full).await;
    let mut canaries = world.canaries.clone();
    canaries.extend([Canary::text(B), Canary::text(B_USER)]);
    let mut a = world.a().await;
    for sql in [
        "SELECT 9223372036854775807 + 1",
        "SELECT 2147483647::int + 1::int",
        "SELECT CAST('x' AS int)",
        "SELECT 'x'::uuid",
        "SELECT 'x'::jsonb",
        "SELECT '{\"a\":'::json",
        "SELECT 'x' ~ '('",
        "SELECT 1/0",
        "SELECT 1 % 0",
        "SELECT sqrt(-1)",
        "SELECT ln(0)",
        "SELECT nosuch(1)",
        "SELECT lower(1, 2, 3)",
        "SELECT ai.embed()",
        "SELECT ai.search('x')",
        "SELECT * FROM ai.embed('x')",
        "SELECT nosuch FROM documents",
        "SELECT documents.nosuch FROM documents",
        "SELECT d.id FROM documents",
        "SELECT * FROM nosuch",
        "SELECT * FROM ai.nosuch",
        "SELECT * FROM a.b.c.d",
        "SELECT sum(title) FROM documents",
        "SELECT title + 1 FROM documents",
        "SELECT title FROM documents GROUP BY content",
        "SELECT count(*) FROM documents HAVING title = 'x'",
        "SELECT 1 FROM documents WHERE 'x'",
        "SELECT 1 UNION SELECT 'x', 2",
        "SELECT * FROM documents ORDER BY 99",
        "SELECT * FROM documents LIMIT -1",
        "SELECT * FROM documents LIMIT 'x'",
        "INSERT INTO documents (title) VALUES (1, 2)",
        "INSERT INTO documents (title, title) VALUES ('a', 'b')",
        "INSERT INTO nosuch VALUES (1)",
        "UPDATE documents SET nosuch = 1",
        "UPDATE documents SET id = 'x'",
        "DELETE FROM nosuch",
        "SELECT",
        "SELECT FROM WHERE",
        "SELEC 1",
        "SELECT 'unterminated",
        "SELECT \"unterminated",
        "SELECT $1",
        "EXECUTE nosuch",
        "DEALLOCATE nosuch",
        "SELECT ''::vector",
        "SELECT '[1,2]'::vector <-> '[1]'::vector",
        "SELECT substr('x', -9223372036854775808)",
        "SELECT repeat('x', -1)",
        "SELECT to_timestamp('x')",
        "SELECT date_trunc('nosuch', now())",
        "SELECT extract(nosuch FROM now())",
        "SELECT '2024-02-30'::date",
        "SELECT interval 'x'",
        "SELECT chr(-1)",
        "SELECT decode('zz', 'hex')",
        "SELECT array[1,2][5000000000]",
        "SELECT (SELECT 1 UNION SELECT 2)",
        "SELECT row_number() FROM documents",
        "SELECT sum(sum(1))",
        "SELECT * FROM generate_series(1, 2, 0)",
        "SELECT * FROM ai.search()",
        "SELECT * FROM ai.search('x', k => 'many')",
        "SELECT * FROM ai.search('x', k => -1)",
        "SELECT ai.rag(NULL)",
        "SELECT ai.rag('x', nosuch => 1)",
        "SELECT * FROM vector_search('documents', '[1]'::vector)",
        "SET TimeZone = 'Nowhere/Land'",
        "SHOW nosuch",
        "CREATE USER owner PASSWORD 'x'",
        "SELECT bulkhead.tenant_costs(1, 2)",
        "SELECT * FROM bulkhead.tenant_costs('x', 'y')",
        "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT n FROM r) SELECT * FROM r",
        "SELECT * FROM documents a JOIN documents b USING (nosuch)",
        "SELECT id FROM documents a, documents b",
        "ROLLBACK TO x",
        "RELEASE x",
    ] {
        let answer = a.query(sql).await;
        for error in answer.iter().filter(|f| f.tag == b'E') {
            let of = fields(error);
            let all: String = of.values().map(String::as_str).collect::<Vec<_>>().join("\n");
            for word in [
                "/root/",
                "/home/",
                ".cargo",
                ".rs:",
                "datafusion",
                "DataFusion",
                "Arrow",
                "arrow",
                "panicked",
                "backtrace",
                "Schema error",
                "valid fields",
                "Valid fields",
                "SchemaError",
                "Some(",
                "None)",
                "LogicalPlan",
                "sqlparser",
                "sled",
                "This was likely caused by a bug",
            ] {
                assert!(!all.contains(word), "{sql}: {word:?} in {all}");
            }
            let state = of.get(&'C').map_or("", String::as_str);
            assert!(!state.starts_with("XX"), "a user's mistake is a defect: {sql}: {all}");
            assert!(
                of.contains_key(&'M') && of.contains_key(&'S') && of.contains_key(&'V'),
                "{sql}: {of:?}"
            );
        }
        assert_eq!(answer.last().map(|f| f.tag), Some(b'Z'), "{sql} ended the session");
    }
    assert_silent(&canaries, &a.heard, "A33");
}

/// Two names never mean one tenant; names outside the rule are refused; a login with one is any other failed login.
#[tokio::test]
async fn a35_tenant_name_collisions() {
    let server = Server::start("names");
    let long = |last: char| format!("n{}{last}", "x".repeat(60));
    let names = ["aa", "aa-", "aa_", "aa0", "ab", &long('y'), &long('z')];
    server.create_tenants(&names).await;
    let operator = server.operator().await;
    for bad in [
        "",
        "a",
        "A",
        "AA",
        "Aa",
        "aA",
        "aa/",
        "aa:",
        "aa.",
        "aa b",
        " aa",
        "aa ",
        "ä",
        "aä",
        "a\u{0308}a",
        "aa\u{200b}",
        "-aa",
        "_aa",
        "0aa",
        "bulkhead",
        "postgres",
        "template1",
        &"x".repeat(64),
        &"x".repeat(255),
        "aa'||'b",
        "../aa",
        "aa%00",
        "aa\n",
        "АА",
    ] {
        let literal = bad.replace('\'', "''");
        let sql = format!("SELECT bulkhead.create_tenant('{literal}', owner => 'owner', password => 'x')");
        let refused = fails(&operator, &sql).await;
        let reserved = ["postgres", "template1"].contains(&bad);
        assert!(refused == "22023" || reserved, "{bad:?}: {refused}");
    }
    for name in names {
        let client = server.connect(name, "owner").await;
        let sql = format!("INSERT INTO documents (title, content) VALUES ('{name}', 'of {name} alone')");
        client.batch_execute(&sql).await.expect("a tenant can write");
    }
    for name in names {
        let client = server.connect(name, "owner").await;
        assert_eq!(rows(&client, "SELECT title FROM documents").await, [[name]]);
        assert_eq!(one(&client, "SELECT current_tenant()").await.as_deref(), Some(name));
        assert_eq!(
            rows(&client, "SELECT title FROM ai.search('alone', k => 100)").await,
            [[name]]
        );
    }
    for near in [
        "AA", "Aa", "aa/", "aa:", "aa ", " aa", "aa.", "aä", "nosuch", "../aa", "BULKHEAD", "postgres",
    ] {
        match connect(server.port, near, "owner", &password_of("owner")).await {
            Ok(_) => panic!("logged in as {near:?}"),
            Err(e) => assert_eq!(state(&e), "28P01", "{near:?}"),
        }
    }
    // Names that are no UTF-8 are refused as such, and not by replacing what is wrong in them.
    for bytes in [&b"aa\xff"[..], b"aa\xfe", b"\xc0\xaf", b"aa\xed\xa0\x80"] {
        let mut startup = startup_of(&[("user", "owner"), ("database", "@@@@@")]);
        let at = startup.windows(5).position(|w| w == b"@@@@@").expect("the placeholder");
        startup.splice(at..at + 5, bytes.iter().copied());
        let size = (startup.len() as u32).to_be_bytes();
        startup[..4].copy_from_slice(&size);
        let mut raw = server.socket().await;
        raw.say(&[startup]).await;
        let answer = raw.rest().await;
        let state = code(&answer);
        assert!(
            matches!(state.as_deref(), Some("22021" | "08P01")),
            "{bytes:?}: {answer:?}"
        );
    }
}

/// A tenant of a dropped one's name starts from nothing, and the old one's sessions and passwords are dead.
#[tokio::test]
async fn a39_tenant_re_creation() {
    let mut world = World::with(Neighbour::Full).await;
    world.canaries.push(Canary::text(B_USER));
    let operator = world.server.operator().await;
    let mut old = world.server.raw(B, "owner").await;
    let before = text_rows(&old.query("SELECT id FROM documents ORDER BY id").await);
    old.query("PREPARE p AS SELECT * FROM documents").await;
    let mut certificate = rows(&operator, &format!("SELECT bulkhead.drop_tenant('{B}')")).await;
    let certificate: serde_json::Value = serde_json::from_str(&certificate.remove(0).remove(0)).expect("jsonb");
    assert!(certificate.is_object(), "an erasure certificate: {certificate}");
    let sql = format!("SELECT bulkhead.create_tenant('{B}', owner => 'owner', password => 'another')");
    operator.batch_execute(&sql).await.expect("the name is free again");

    let ended = old.query("EXECUTE p").await;
    assert_eq!(code(&ended).as_deref(), Some("28000"), "{ended:?}");
    assert!(text_rows(&ended).is_empty());
    for user in ["owner", B_USER] {
        let refused = connect(world.server.port, B, user, &password_of(user)).await;
        assert_eq!(
            refused.err().map(|e| state(&e)).as_deref(),
            Some("28P01"),
            "{user} of the old tenant"
        );
    }
    let mut new = world.server.socket().await;
    new.login(B, "owner", "another").await.expect("the new owner logs in");
    for (sql, expected) in [
        ("SELECT count(*) FROM documents", "0"),
        ("SELECT count(*) FROM chunks", "0"),
        (
            "SELECT count(*) FROM bulkhead.usage WHERE operation IN ('ingest', 'rag', 'search', 'embed')",
            "0",
        ),
        ("SELECT coalesce(sum(llm_tokens), 0) FROM bulkhead.costs", "0"),
        ("SELECT count(*) FROM ai.search('lamp', k => 100)", "0"),
        ("SELECT count(*) FROM bulkhead.users", "1"),
        ("SELECT count(*) FROM pg_prepared_statements", "0"),
    ] {
        let answer = new.query(sql).await;
        assert_eq!(text_rows(&answer), [[expected]], "{sql}: {answer:?}");
    }
    for id in before.iter().flatten().take(3) {
        assert_eq!(
            text_rows(
                &new.query(&format!("SELECT count(*) FROM documents WHERE id = '{id}'"))
                    .await
            ),
            [["0"]]
        );
    }
    assert_eq!(code(&new.query("EXECUTE p").await).as_deref(), Some("26000"));
    assert_silent(&world.canaries, &new.heard, "A39");
    // And so it stays over a restart.
    world.server.stop();
    world.server.again();
    let mut new = world.server.socket().await;
    new.login(B, "owner", "another").await.expect("the new owner logs in");
    assert_eq!(text_rows(&new.query("SELECT count(*) FROM documents").await), [["0"]]);
    let operator = connect(world.server.port, "bulkhead", "admin", ADMIN_PASSWORD).await;
    assert!(operator.is_ok());
}

/// Exactly B's vector finds A's rows only.
#[tokio::test]
async fn b01_search_without_a_filter() {
    let world = World::with(Neighbour::Full).await;
    let facts = world.facts.clone().expect("full");
    let mut a = world.a().await;
    let own = [
        "The boat is in the cellar. Nobody rows it.",
        "The lamp is in the attic, beside the trunk.",
        "The printer eats paper on Mondays.",
    ];
    for operator in ["<->", "<=>", "<#>", "<+>"] {
        let sql = format!("SELECT content FROM chunks ORDER BY embedding {operator} $1 LIMIT 5");
        for value in [facts.vector.as_str()] {
            let answer = a.prepared(&sql, &[Some(value.as_bytes())], 0).await;
            let mut found: Vec<String> = text_rows(&answer).into_iter().flatten().collect();
            found.sort();
            assert_eq!(found, own, "{sql}: {answer:?}");
        }
    }
    let sql = format!(
        "SELECT content FROM vector_search('ai.chunks', '{}'::vector, k => 1000)",
        facts.vector
    );
    assert_eq!(text_rows(&a.query(&sql).await).len(), 3);
    assert_silent(&world.canaries, &a.heard, "B01");
    // The control: B finds its own at distance zero.
    let b = world.server.connect(B, "owner").await;
    let sql = format!("SELECT min(embedding <-> '{}') = 0 FROM chunks", facts.vector);
    assert_eq!(one(&b, &sql).await.as_deref(), Some("t"));
}

/// Vectors that are none, or of another length, are data errors, and nothing is the worse for them.
#[tokio::test]
async fn b05_bad_vectors() {
    let mut world = World::with(Neighbour::Full).await;
    let mut a = world.a().await;
    let before = text_rows(
        &a.query("SELECT rank, title, score FROM ai.search('lamp', k => 3)")
            .await,
    );
    assert_eq!(before.len(), 3);
    let repeated = |value: &str, n: usize| format!("[{}]", vec![value; n].join(","));
    let bad = [
        ("[NaN,1,2]".to_owned(), "22000"),
        ("[1,Infinity,2]".to_owned(), "22000"),
        ("[1,-inf,2]".to_owned(), "22000"),
        ("[1e39]".to_owned(), "22003"),
        ("[]".to_owned(), "22000"),
        ("[1,2,".to_owned(), "22P02"),
        ("[1,,2]".to_owned(), "22P02"),
        ("1,2,3".to_owned(), "22P02"),
        ("[a]".to_owned(), "22P02"),
        (String::new(), "22P02"),
        (repeated("1", 65_536), "54000"),
        (repeated("NaN", 1024), "22000"),
        (repeated("1", 3), "22000"), // only wrong beside the stored ones
    ];
    for (text, expected) in &bad {
        for sql in [
            format!("SELECT content FROM chunks ORDER BY embedding <=> '{text}'::vector LIMIT 3"),
            format!("SELECT content FROM chunks ORDER BY embedding <-> '{text}'::vector"),
            format!("SELECT content FROM vector_search('ai.chunks', '{text}'::vector, k => 3)"),
            format!("SELECT embedding <#> '{text}'::vector FROM chunks"),
        ] {
            let state = code(&a.query(&sql).await).unwrap_or_else(|| panic!("succeeded: {:.120}", sql));
            let close = state.starts_with("22") && expected.starts_with("22")
                || state.starts_with("54") && expected.starts_with("54");
            assert!(state == *expected || close, "{:.120}: {state} and not {expected}", sql);
        }
        let sql = "SELECT content FROM chunks ORDER BY embedding <=> $1 LIMIT 3";
        let state = code(&a.prepared(sql, &[Some(text.as_bytes())], 0).await);
        let state = state.unwrap_or_else(|| panic!("succeeded with {text:.40}"));
        assert!(
            state.starts_with("22") || state.starts_with("54"),
            "{text:.40}: {state}"
        );
    }
    let answer = a.query("SELECT '[1,2,3]'::vector <-> '[1,2]'::vector").await;
    assert_eq!(message(&answer).as_deref(), Some("different vector dimensions 3 and 2"));
    // Length zero under cosine, and the smallest floats: a distance that is no number, and no failure.
    for text in [repeated("0", 1024), repeated("1e-45", 1024), repeated("3e38", 1024)] {
        let sql =
            format!("SELECT count(*) FROM (SELECT content FROM chunks ORDER BY embedding <=> '{text}' LIMIT 3) x");
        let answer = a.query(&sql).await;
        assert!(
            text_rows(&answer) == [["3"]] || code(&answer).is_some_and(|c| c.starts_with("22")),
            "{answer:?}"
        );
    }
    for k in ["-1", "2147483648", "99999999999999999999"] {
        let answer = a
            .query(&format!("SELECT count(*) FROM ai.search('lamp', k => {k})"))
            .await;
        let capped = text_rows(&answer) == [["3"]];
        assert!(
            capped || code(&answer).is_some_and(|c| c.starts_with("22") || c.starts_with("54") || c == "42883"),
            "{k}: {answer:?}"
        );
    }
    let after = text_rows(
        &a.query("SELECT rank, title, score FROM ai.search('lamp', k => 3)")
            .await,
    );
    assert_eq!(before, after);
    world.server.assert_alive();
}

/// Attacks that are no SQL either, so that either refusal is right.
const UNREADABLE: &[&str] = &[
    "brackets alone",
    "explain",
    "types",
    "inserts",
    "case as a name",
    "end as a name",
];

/// Statements too deep or too long are refused before they are planned; others go on answering.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d01_deep_sql() {
    let mut world = World::with(Neighbour::Full).await;
    let mut a = world.a().await;
    let b = world.server.connect(B, "owner").await;
    let n = 100_000;
    let nested =
        |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    let joined = |item: &str, with: &str, n: usize| vec![item; n].join(with);
    let ctes: Vec<String> = (0..10_000).map(|i| format!("c{i} AS (SELECT 1)")).collect();
    let joins: Vec<String> = (0..10_000).map(|i| format!("documents d{i}")).collect();
    let attacks: Vec<(&str, String)> = vec![
        ("parentheses", format!("SELECT {}", nested("(", "1", ")", n))),
        ("brackets alone", format!("SELECT {}", "(".repeat(n))),
        ("pluses", format!("SELECT {}", joined("1", "+", n))),
        (
            "ors",
            format!("SELECT 1 FROM documents WHERE {}", joined("title = 'x'", " OR ", n)),
        ),
        (
            "ands",
            format!("SELECT 1 FROM documents WHERE {}", joined("true", " AND ", n)),
        ),
        ("nots", format!("SELECT {} true", "NOT ".repeat(n))),
        ("minuses", format!("SELECT {} 1", "- ".repeat(n))),
        ("casts", format!("SELECT 1{}", "::int".repeat(n))),
        ("concatenations", format!("SELECT {}", joined("'x'", "||", n))),
        (
            "subscripts",
            format!("SELECT metadata{} FROM documents", "[1]".repeat(n)),
        ),
        (
            "collations",
            format!("SELECT title{} FROM documents", " COLLATE x".repeat(n)),
        ),
        ("zones", format!("SELECT now(){}", " AT TIME ZONE 'UTC'".repeat(n))),
        ("tests", format!("SELECT 1{}", " IS NULL".repeat(n))),
        ("patterns", format!("SELECT {}", joined("title", " ILIKE ", n))),
        (
            "named operators",
            format!("SELECT {}", joined("1", " OPERATOR(pg_catalog.+) ", n)),
        ),
        ("differences", joined("SELECT 1", " MINUS ", n)),
        (
            "inserts",
            "INSERT INTO documents WITH a AS (SELECT 1), b AS (SELECT 2) ".repeat(n),
        ),
        // CASE, WHEN and END as names, which some parsers take: what they end must not be forgotten.
        (
            "when as a name",
            format!("SELECT {}", joined(&joined("1", "+", 300), "+when+", 300)),
        ),
        ("end as a name", format!("SELECT {}", nested("(end+", "1", ")", n))),
        (
            "case as a name",
            format!(
                "SELECT {}",
                joined(&format!("case+{}+end", joined("1", "+", 300)), "+", 300)
            ),
        ),
        ("arrows", format!("SELECT metadata{} FROM documents", "->'a'".repeat(n))),
        ("unions", joined("SELECT 1", " UNION ALL ", 3_000)),
        (
            "cases",
            format!("SELECT {}", nested("CASE WHEN true THEN ", "1", " ELSE 0 END", 5_000)),
        ),
        ("subqueries", nested("SELECT * FROM (", "SELECT 1", ") x", 5_000)),
        ("scalar subqueries", nested("SELECT (", "SELECT 1", ")", 5_000)),
        ("arrays", format!("SELECT {}", nested("ARRAY[", "1", "]", 5_000))),
        ("functions", format!("SELECT {}", nested("abs(", "1", ")", n))),
        (
            "in list",
            format!("SELECT 1 FROM documents WHERE title IN ({})", joined("'x'", ",", n)),
        ),
        ("joins", format!("SELECT 1 FROM {}", joins.join(", "))),
        (
            "natural joins",
            format!("SELECT 1 FROM {}", joined("documents", " NATURAL JOIN ", 5_000)),
        ),
        ("with", format!("WITH {} SELECT 1", ctes.join(", "))),
        ("explain", format!("{}SELECT 1", "EXPLAIN ".repeat(n))),
        ("types", format!("SELECT NULL::int{}", "[]".repeat(n))),
    ];
    for (what, sql) in &attacks {
        let answer = a.query(sql).await;
        let state = code(&answer).unwrap_or_else(|| panic!("{what} succeeded"));
        let fine = state == "54001" || state == "54000" || (UNREADABLE.contains(what) && state == "42601");
        assert!(fine, "{what}: {state} {:?}", message(&answer));
        let prepared = code(&a.prepared(sql, &[], 0).await);
        assert_eq!(prepared.as_deref(), Some(state.as_str()), "{what}, prepared");
        assert_eq!(one(&b, "SELECT 1").await.as_deref(), Some("1"), "after {what}");
        world.server.assert_alive();
    }
    let json = format!("SELECT '{}'::jsonb", nested("[", "1", "]", n));
    let answer = a.query(&json).await;
    assert!(
        code(&answer).is_some_and(|c| ["54001", "54000", "22P02"].contains(&c.as_str())),
        "deep json: {answer:?}"
    );
    // What people write is allowed.
    for (what, sql) in [
        ("parentheses", format!("SELECT {}", nested("(", "1", ")", 40))),
        ("pluses", format!("SELECT {}", joined("1", "+", 100))),
        (
            "in list",
            format!(
                "SELECT count(*) FROM documents WHERE title IN ({})",
                joined("'x'", ",", 1_000)
            ),
        ),
        ("unions", joined("SELECT 1", " UNION ALL ", 50)),
        (
            "cases",
            format!(
                "SELECT CASE {} END FROM documents",
                "WHEN title = 'x' AND content <> 'y' THEN 1 ".repeat(100)
            ),
        ),
        (
            "joins",
            format!(
                "SELECT count(*) FROM documents d0{}",
                (1..20)
                    .map(|i| format!(" JOIN documents d{i} ON d{i}.id = d0.id"))
                    .collect::<String>()
            ),
        ),
    ] {
        let answer = a.query(&sql).await;
        assert_eq!(code(&answer), None, "{what} of an ordinary size: {answer:?}");
    }
    assert_eq!(
        rows(
            &world.server.connect(A, "owner").await,
            "SELECT count(*) FROM documents"
        )
        .await,
        [["3"]]
    );
    world.server.assert_alive();
}
