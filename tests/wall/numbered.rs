//! Rows A01 to A30 of THREATS.md, each a test named by its id.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::common::canary::{Canary, assert_silent};
use crate::common::picture::picture;
use crate::common::raw::{code, letters, message, text_rows};
use crate::common::server::{fails, fresh_dir, one, rows};
use crate::worlds::{A, B, B_USER, Neighbour, World};

/// Errors must come from A's own rows only, whatever B's rows would do to the expression.
#[tokio::test]
async fn a01_error_oracle_in_where() {
    let world = World::with(Neighbour::Full).await;
    let facts = world.facts.clone().expect("full");
    let mut a = world.a().await;
    let harmless = [
        "SELECT title FROM documents WHERE 1/(CASE WHEN content LIKE '%{token}%' THEN 0 ELSE 1 END) = 1 ORDER BY 1",
        "SELECT title FROM documents WHERE CAST(CASE WHEN content LIKE '%{token}%' THEN 'x' ELSE '1' END AS int) = 1 ORDER BY 1",
        "SELECT title FROM documents WHERE (CASE WHEN content LIKE '%{token}%' THEN 'x' ELSE '2024-01-01' END)::date > '2000-01-01' ORDER BY 1",
        "SELECT title FROM documents WHERE 'x' !~ (CASE WHEN content LIKE '%{token}%' THEN '(' ELSE 'y' END) ORDER BY 1",
        "SELECT title FROM documents WHERE 1/(CASE WHEN EXISTS (SELECT 1 FROM chunks WHERE content LIKE '%{token}%') THEN 0 ELSE 1 END) = 1 ORDER BY 1",
    ];
    for template in harmless {
        let sql = facts.attack(template, "");
        let answer = a.query(&sql).await;
        let titles: Vec<String> = text_rows(&answer).into_iter().flatten().collect();
        assert_eq!(titles, ["Attic", "Cellar", "Office"], "{sql}: {answer:?}");
    }
    // The control: where a row of A's own causes it, the error comes, so the expressions are evaluated at all.
    let own = "SELECT title FROM documents WHERE 1/(CASE WHEN content LIKE '%lamp%' THEN 0 ELSE 1 END) = 1";
    assert_eq!(code(&a.query(own).await).as_deref(), Some("22012"));
    let own = "SELECT title FROM documents WHERE CAST(content AS int) = 1";
    let refused = a.query(own).await;
    assert_eq!(code(&refused).as_deref(), Some("22P02"));
    assert_silent(&world.canaries, &a.heard, "A01");
}

/// Counts and bounds come from A's rows in every plan.
#[tokio::test]
async fn a03_statistics_answer_the_query() {
    let world = World::with(Neighbour::Full).await;
    let a = world.server.connect(A, "owner").await;
    let b = world.server.connect(B, "owner").await;
    assert_eq!(
        one(&b, "SELECT count(*) FROM documents").await.as_deref(),
        Some("41"),
        "the control: B is larger"
    );
    for condition in [
        "",
        " WHERE true",
        " WHERE title IS NOT NULL",
        " WHERE length(content) > 0",
    ] {
        let sql = format!("SELECT count(*), min(title), max(title) FROM documents{condition}");
        assert_eq!(rows(&a, &sql).await, [["3", "Attic", "Office"]], "{sql}");
        let sql = format!("SELECT count(*) FROM documents{condition}");
        assert_eq!(rows(&a, &sql).await, [["3"]], "{sql}");
        let sql = format!("SELECT x.n FROM (SELECT count(*) AS n FROM documents{condition}) x");
        assert_eq!(rows(&a, &sql).await, [["3"]], "{sql}");
    }
    let chunks = "SELECT count(*), count(DISTINCT document_id), max(chunk_no) FROM chunks";
    assert_eq!(rows(&a, chunks).await, [["3", "3", "0"]]);
    let ids = "SELECT count(*) FROM chunks c WHERE c.document_id NOT IN (SELECT id FROM documents)";
    assert_eq!(rows(&a, ids).await, [["0"]]);
}

/// A plan made before an attempt to change identity still reads what the login may read.
#[tokio::test]
async fn a05_prepared_plan_survives_identity_change() {
    let world = World::with(Neighbour::Full).await;
    let mut a = world.a().await;
    let before = a.query("PREPARE p AS SELECT title FROM documents ORDER BY title").await;
    assert_eq!(code(&before), None, "{before:?}");
    let expected = picture(&a.query("EXECUTE p").await);
    for attempt in [
        format!("SET ROLE \"{B_USER}\""),
        format!("SET ROLE \"{B}\""),
        "SET ROLE b_admin".to_owned(),
        "SET SESSION AUTHORIZATION 'admin'".to_owned(),
        "SET LOCAL ROLE admin".to_owned(),
        format!("SET bulkhead.tenant = '{B}'"),
        format!("SELECT set_config('role', '{B_USER}', false)"),
        format!("SELECT set_config('session_authorization', '{B_USER}', false)"),
    ] {
        assert_eq!(code(&a.query(&attempt).await).as_deref(), Some("42501"), "{attempt}");
        assert_eq!(picture(&a.query("EXECUTE p").await), expected, "after {attempt}");
    }
    let who = text_rows(&a.query("SELECT current_tenant(), current_user, session_user").await);
    assert_eq!(who, [[A, "owner", "owner"]]);
    assert_silent(&world.canaries, &a.heard, "A05");
}

/// No column, position or default writes into another tenant.
#[tokio::test]
async fn a10_insert_for_another_tenant() {
    let world = World::with(Neighbour::Full).await;
    let a = world.server.connect(A, "owner").await;
    let b = world.server.connect(B, "owner").await;
    let held = rows(&b, "SELECT id, title FROM documents ORDER BY id").await;
    for (sql, expected) in [
        (
            format!("INSERT INTO documents (tenant_id, title, content) VALUES ('{B}', 'x', 'y')"),
            "42703",
        ),
        (
            format!("INSERT INTO documents (tenant, title, content) VALUES ('{B}', 'x', 'y')"),
            "42703",
        ),
        (format!("UPDATE documents SET tenant_id = '{B}'"), "42703"),
        (
            format!("INSERT INTO \"{B}\".ai.documents (title, content) VALUES ('x', 'y')"),
            "42P01",
        ),
        (
            format!("INSERT INTO documents (title, content) SELECT title, content FROM \"{B}\".ai.documents"),
            "42P01",
        ),
        ("INSERT INTO documents SELECT * FROM chunks".to_owned(), "42601"),
        (
            "INSERT INTO bulkhead.users (name, role) VALUES ('x', 'owner')".to_owned(),
            "42501",
        ),
        ("INSERT INTO ai.chunks (content) VALUES ('x')".to_owned(), "42501"),
    ] {
        let state = fails(&a, &sql).await;
        let also = sql.contains("SELECT * FROM chunks") && ["42804", "42703", "0A000"].contains(&state.as_str());
        assert!(state == expected || also, "{sql}: {state}");
    }
    // A key in the metadata that looks like a tenant is data.
    let sql =
        format!("INSERT INTO documents (title, content, metadata) VALUES ('m', 'm', '{{\"tenant_id\": \"{B}\"}}')");
    a.batch_execute(&sql).await.expect("metadata is free");
    assert_eq!(one(&a, "SELECT count(*) FROM documents").await.as_deref(), Some("4"));
    assert_eq!(rows(&b, "SELECT id, title FROM documents ORDER BY id").await, held);
    let filter = format!("SELECT title FROM ai.search('m lamp', filter => '{{\"tenant_id\": \"{B}\"}}')");
    assert_eq!(rows(&a, &filter).await, [["m"]]);
}

/// Everything that the catalogs tell, without a word of B in any question: not even its name comes back.
#[tokio::test]
async fn a23_catalog_sweep() {
    let mut world = World::with(Neighbour::Full).await;
    world.canaries.push(Canary::text(B));
    world.canaries.push(Canary::text(B_USER));
    let mut beside = world.server.raw(B, B_USER).await; // a live session of B's, prepared and in a transaction
    beside.query("PREPARE hidden_statement AS SELECT 1").await;
    beside.query("BEGIN").await;
    world.canaries.push(Canary::text("hidden_statement"));
    let client = world.server.connect(A, "owner").await;
    let found = rows(
        &client,
        "SELECT table_schema, table_name FROM information_schema.tables ORDER BY 1, 2",
    )
    .await;
    assert!(found.len() > 10, "few relations: {found:?}");
    let mut a = world.a().await;
    for relation in &found {
        let sql = format!("SELECT * FROM \"{}\".\"{}\"", relation[0], relation[1]);
        let answer = a.query(&sql).await;
        assert_eq!(code(&answer), None, "{sql}: {answer:?}");
        a.prepared(&sql, &[], 1).await;
    }
    for name in [
        "pg_stat_activity",
        "pg_stat_user_tables",
        "pg_stat_statements",
        "pg_stats",
        "pg_stats_ext",
        "pg_statistic",
        "pg_roles",
        "pg_user",
        "pg_authid",
        "pg_shadow",
        "pg_database",
        "pg_settings",
        "pg_file_settings",
        "pg_hba_file_rules",
        "pg_locks",
        "pg_prepared_statements",
        "pg_prepared_xacts",
        "pg_cursors",
        "pg_largeobject",
        "pg_user_mappings",
        "pg_shmem_allocations",
    ] {
        a.query(&format!("SELECT * FROM {name}")).await;
    }
    for sql in [
        "SHOW ALL",
        "SHOW TABLES",
        "SHOW COLUMNS FROM documents",
        "SHOW FUNCTIONS",
        "SELECT current_database()",
    ] {
        a.query(sql).await;
    }
    for sql in [
        "SELECT datname FROM pg_database",
        "SELECT usename FROM pg_user",
        "SELECT rolname FROM pg_roles",
    ] {
        let answer = a.query(sql).await;
        assert!(
            code(&answer).is_some() || !text_rows(&answer).is_empty(),
            "{sql} is empty: {answer:?}"
        );
    }
    assert!(a.heard.len() > 10_000, "the sweep heard something");
    assert_silent(&world.canaries, &a.heard, "A23");
}

/// Only settings of the allow-list can be changed, by any spelling.
#[tokio::test]
async fn a25_settings() {
    let world = World::with(Neighbour::Absent).await;
    let mut a = world.a().await;
    let refused = [
        "datafusion.runtime.memory_limit",
        "datafusion.runtime.temp_directory",
        "datafusion.execution.target_partitions",
        "datafusion.catalog.default_catalog",
        "datafusion.catalog.location",
        "datafusion.sql_parser.dialect",
        "datafusion.execution.batch_size",
        "bulkhead.tenant",
        "bulkhead.role",
        "role",
        "session_authorization",
        "is_superuser",
        "session_preload_libraries",
        "shared_preload_libraries",
        "log_statement",
        "data_directory",
        "default_tablespace",
        "zero_damaged_pages",
        "nosuch_setting",
        "nosuch.setting",
    ];
    for name in refused {
        for sql in [
            format!("SET {name} = '1'"),
            format!("SET {name} TO DEFAULT"),
            format!("SET LOCAL {name} = '1'"),
            format!("SET SESSION {name} = 'off'"),
            format!("RESET {name}"),
            format!("SELECT set_config('{name}', '1', false)"),
            format!("SELECT set_config('{name}', '1', true) FROM documents"),
        ] {
            let answer = a.query(&sql).await;
            let state = code(&answer).unwrap_or_else(|| panic!("succeeded: {sql}"));
            // A name that PostgreSQL does not have either may be called so; SET ROLE DEFAULT may be a syntax error.
            let fine = state == "42501" || (name.contains("nosuch") && state == "42704") || state == "42601";
            assert!(fine, "{sql}: {state} {:?}", message(&answer));
        }
    }
    // Known to clients, so it may be said; that it is off may not be.
    for sql in [
        "SET row_security = off",
        "SET LOCAL row_security = 0",
        "SELECT set_config('row_security', 'off', false)",
    ] {
        assert_eq!(code(&a.query(sql).await).as_deref(), Some("42501"), "{sql}");
        assert_eq!(text_rows(&a.query("SHOW row_security").await), [["on"]], "after {sql}");
    }
    for sql in [
        "SET search_path = public",
        "SET TimeZone = 'UTC'",
        "SET DateStyle = 'ISO'",
        "SET client_encoding = 'UTF8'",
        "SET application_name = 'x'",
        "SET statement_timeout = '10s'",
        "RESET ALL",
    ] {
        assert_eq!(code(&a.query(sql).await), None, "{sql}");
    }
    // Above the cap is refused; 0, which elsewhere means no limit, is the cap itself.
    for sql in ["SET statement_timeout = '30d'", "SET statement_timeout = 300001"] {
        assert_eq!(code(&a.query(sql).await).as_deref(), Some("22023"), "{sql}");
        assert_eq!(text_rows(&a.query("SHOW statement_timeout").await), [["0"]], "{sql}");
    }
    // The pool is bounded after every attempt.
    let hog = "SELECT count(*) FROM (SELECT DISTINCT n, m FROM generate_series(1, 30000) AS a(n), generate_series(1, 30000) AS b(m)) x";
    a.query("SET statement_timeout = '60s'").await;
    let state = code(&a.query(hog).await);
    assert!(matches!(state.as_deref(), Some("53200" | "57014")), "{state:?}");
}

/// No function takes a tenant, in any position, by any name.
#[tokio::test]
async fn a29_tenant_as_argument() {
    let world = World::with(Neighbour::Full).await;
    let mut a = world.a().await;
    for sql in [
        format!("SELECT * FROM ai_search('{B}', 'lamp')"),
        format!("SELECT * FROM ai.search('{B}', 'lamp', 'boat', 'x', 'y', 'z')"),
        format!("SELECT * FROM ai.search('lamp', tenant => '{B}')"),
        format!("SELECT * FROM ai.search('lamp', tenant_id => '{B}')"),
        format!("SELECT * FROM ai.search(tenant => '{B}', query => 'lamp')"),
        format!("SELECT ai.rag('lamp', tenant => '{B}')"),
        format!("SELECT ai.ingest('t', 'c', tenant => '{B}')"),
        format!("SELECT ai.embed('t', tenant => '{B}')"),
        format!("SELECT tenant_usage('{B}')"),
        format!("SELECT bulkhead.usage('{B}')"),
        format!("SELECT * FROM bulkhead.tenant_costs('{B}', current_date, current_date)"),
        format!("SELECT current_tenant('{B}')"),
        format!("SELECT bulkhead.drop_tenant('{B}')"),
        format!("SELECT bulkhead.set_budget(tenant => '{B}', amount_usd => 0)"),
        format!("SELECT ai.search('{{\"tenant\": \"{B}\", \"query\": \"lamp\"}}', 1, 2, 3, 4, 5)"),
    ] {
        let answer = a.query(&sql).await;
        assert_eq!(code(&answer).as_deref(), Some("42883"), "{sql}: {answer:?}");
    }
    let as_text = format!("SELECT title FROM ai.search('{{\"tenant\": \"{B}\", \"query\": \"lamp\"}}')");
    let found: Vec<String> = text_rows(&a.query(&as_text).await).into_iter().flatten().collect();
    assert!(
        found
            .iter()
            .all(|t| ["Attic", "Cellar", "Office"].contains(&t.as_str())),
        "{found:?}"
    );
    assert_silent(&world.canaries, &a.heard, "A29");
}

/// SQL opens no file and no connection. What a file that exists gets is what one gets that does not.
#[tokio::test]
async fn a30_files_and_network_from_sql() {
    let dir = fresh_dir("bait");
    let bait = dir.join("bait.csv");
    std::fs::write(&bait, "id,secret\n1,BaitSecret77Xylophone\n").expect("the bait is laid");
    let canary = Canary::text("BaitSecret77Xylophone");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/x.csv", listener.local_addr().expect("bound"));
    let world = World::with(Neighbour::Absent).await;
    let mut a = world.a().await;
    let (there, nowhere) = (bait.display().to_string(), dir.join("gone.csv").display().to_string());
    let data = world.server.spec.data.display().to_string();
    let out = dir.join("stolen.csv");
    for template in [
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{path}'",
        "CREATE EXTERNAL TABLE x (id int) STORED AS CSV LOCATION '{path}' OPTIONS ('format.has_header' 'true')",
        "CREATE UNBOUNDED EXTERNAL TABLE x (id int) STORED AS CSV LOCATION '{path}'",
        "SELECT * FROM '{path}'",
        "SELECT * FROM \"{path}\"",
        "SELECT * FROM read_csv('{path}')",
        "SELECT * FROM read_parquet('{path}')",
        "SELECT pg_read_file('{path}')",
        "SELECT pg_read_binary_file('{path}')",
        "SELECT pg_stat_file('{path}')",
        "SELECT pg_ls_dir('{path}')",
        "SELECT lo_import('{path}')",
        "COPY documents FROM '{path}'",
        "COPY (SELECT 1) TO '{path}'",
        "COPY documents TO '{path}' STORED AS CSV",
        "COPY documents TO PROGRAM 'cat > {path}'",
        "COPY documents FROM PROGRAM 'cat {path}'",
        "LOAD '{path}'",
        "LOAD DATA INPATH '{path}' INTO TABLE documents",
        "EXPLAIN SELECT * FROM '{path}'",
        "INSERT INTO '{path}' VALUES (1)",
        "CREATE FUNCTION f() RETURNS int AS '{path}' LANGUAGE c",
        "SELECT * FROM documents WHERE content = (SELECT secret FROM '{path}')",
    ] {
        let mut heard = Vec::new();
        for path in [
            &there,
            &nowhere,
            &url,
            &format!("file://{there}"),
            &format!("{data}/master.key"),
            &format!("{data}/"),
        ] {
            let sql = template.replace("{path}", path);
            let answer = a.query(&sql).await;
            let state = code(&answer).unwrap_or_else(|| panic!("succeeded: {sql}"));
            let refusals = ["42501", "0A000", "42601", "42P01", "42883"];
            assert!(
                refusals.contains(&state.as_str()),
                "{sql}: {state} {:?}",
                message(&answer)
            );
            assert_eq!(letters(&answer), "EZ", "{sql}");
            heard.push(picture(&answer).join("\n").replace(path.as_str(), "{path}"));
        }
        assert_eq!(heard[0], heard[1], "a file that exists answers otherwise: {template}");
    }
    for sql in [
        format!("COPY (SELECT 1) TO '{}'", out.display()),
        format!("COPY documents TO '{}'", out.display()),
    ] {
        assert_eq!(code(&a.query(&sql).await).as_deref(), Some("42501"), "{sql}");
    }
    assert!(!out.exists(), "SQL wrote a file");
    let visitor = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(visitor.is_err(), "SQL opened a connection");
    assert_silent(&[canary], &a.heard, "A30");
    assert_eq!(text_rows(&a.query("SELECT count(*) FROM documents").await), [["3"]]);
    let _ = std::fs::remove_dir_all(dir);
}
