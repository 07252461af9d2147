//! Every surface, attacked in three worlds (O1, O2), with parity (O3), books (O4) and the positive control; and the
//! proof that the list of surfaces is the whole of them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::canary::assert_silent;
use crate::common::picture::picture;
use crate::common::raw::Raw;
use crate::common::server::{Server, rows};
use crate::surfaces::{Kind, Surface, all};
use crate::worlds::{A, B, Facts, Neighbour, World};

/// What A hears to one attack: by the simple protocol, and by the extended one in binary.
async fn hear(a: &mut Raw, sql: &str) -> Vec<String> {
    let mut heard = picture(&a.query(sql).await);
    heard.push("-- extended".to_owned());
    heard.extend(picture(&a.prepared(sql, &[], 1).await));
    heard
}

/// All attacks of a surface on a session of its own.
async fn attack(world: &World, surface: &Surface, facts: &Facts) -> Vec<(String, Vec<String>)> {
    let mut a = world.a().await;
    let mut all = Vec::new();
    for template in surface.attacks {
        let sql = facts.attack(template, surface.name);
        let heard = hear(&mut a, &sql).await;
        all.push((sql, heard));
    }
    assert_silent(&world.canaries, &a.heard, surface.name);
    all
}

/// Amounts of B as the operator sees them, once what was gathered in memory is written.
async fn books(server: &Server) -> Vec<Vec<String>> {
    let operator = server.operator().await;
    let sql = format!("SELECT * FROM bulkhead.costs WHERE tenant = '{B}'");
    let mut last = rows(&operator, &sql).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let now = rows(&operator, &sql).await;
        if now == last {
            return now;
        }
        last = now;
    }
    panic!("the books of a tenant that does nothing keep changing");
}

/// B's rows, as B sees them.
async fn holdings(server: &Server) -> Vec<Vec<Vec<String>>> {
    let b = server.connect(B, "owner").await;
    let mut all = Vec::new();
    for sql in [
        "SELECT id, title, content, metadata, user_id, created_at, updated_at FROM ai.documents ORDER BY id",
        "SELECT id, document_id, chunk_no, content, embedding FROM ai.chunks ORDER BY id",
        "SELECT name, role FROM bulkhead.users ORDER BY name",
        "SELECT * FROM ai.conversations",
        "SELECT * FROM ai.messages",
        "SELECT rank, title, chunk_no, score FROM ai.search('lamp', k => 10)",
    ] {
        all.push(rows(&b, sql).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_surface_in_two_worlds() {
    let mut full = World::with(Neighbour::Full).await;
    let facts = full.facts.clone().expect("a full world has facts");
    let mut empty = World::with(Neighbour::Empty).await;
    let mut absent = World::with(Neighbour::Absent).await;
    let held = holdings(&full.server).await;
    let booked = books(&full.server).await;

    for surface in all() {
        let in_full = attack(&full, &surface, &facts).await;
        let in_empty = attack(&empty, &surface, &facts).await;
        let in_absent = attack(&absent, &surface, &facts).await;
        for (i, (sql, heard)) in in_full.iter().enumerate() {
            assert_eq!(
                *heard, in_empty[i].1,
                "{}: a full and an empty B differ on {sql}",
                surface.name
            );
            assert_eq!(
                *heard, in_absent[i].1,
                "{}: a full and an absent B differ on {sql}",
                surface.name
            );
            let answered = heard.iter().any(|l| l.starts_with("C ") || l.starts_with("E "));
            assert!(answered, "{}: neither done nor refused: {sql}: {heard:?}", surface.name);
            let fault = heard.iter().find(|l| l.starts_with('E') && l.contains("C=XX"));
            assert!(
                fault.is_none(),
                "{}: a defect, not a refusal: {sql}: {fault:?}",
                surface.name
            );
        }
    }
    assert_eq!(
        booked,
        books(&full.server).await,
        "A's script changed what B is charged"
    );
    assert_eq!(held, holdings(&full.server).await, "A's script changed what B holds");
    for world in [&mut full, &mut empty, &mut absent] {
        world.server.assert_alive();
    }
    assert_silent(
        &full.canaries,
        &full.server.output(),
        "the server's standard and error output",
    );
}

#[tokio::test]
async fn a_foreign_thing_is_a_thing_that_never_was() {
    let world = World::with(Neighbour::Full).await;
    let facts = world.facts.clone().expect("a full world has facts");
    let nobody = facts.of_nobody();
    for surface in all() {
        let ids = [
            "{b_document}",
            "{b_chunk}",
            "{b_usage}",
            "{b_conversation}",
            "{b_message}",
        ];
        let about_ids = |t: &&&str| ids.iter().any(|id| t.contains(id));
        // An INSERT of an id succeeds once; its parity is in the two worlds.
        for template in surface
            .attacks
            .iter()
            .filter(about_ids)
            .filter(|t| !t.starts_with("INSERT"))
        {
            let foreign = hear(&mut world.a().await, &facts.attack(template, surface.name)).await;
            let never = hear(&mut world.a().await, &nobody.attack(template, surface.name)).await;
            assert_eq!(foreign, never, "{}: {template}", surface.name);
        }
        for template in surface
            .attacks
            .iter()
            .filter(|t| t.contains("{b}") || t.contains("{b_user}"))
        {
            let foreign_sql = facts.attack(template, surface.name);
            let never_sql = foreign_sql
                .replace(B, "umbra-q7x2k9w4")
                .replace("hidden_m3v8t5", "hidden_n3v8t5");
            let foreign = hear(&mut world.a().await, &foreign_sql).await.join("\n");
            let never = hear(&mut world.a().await, &never_sql).await.join("\n");
            let never = never
                .replace("umbra-q7x2k9w4", B)
                .replace("hidden_n3v8t5", "hidden_m3v8t5");
            assert_eq!(foreign, never, "{}: {template}", surface.name);
        }
    }
}

fn listed(kinds: &[Kind]) -> BTreeSet<String> {
    all()
        .filter(|s| kinds.contains(&s.kind))
        .map(|s| s.name.to_owned())
        .collect()
}

fn set(rows: Vec<Vec<String>>) -> BTreeSet<String> {
    rows.into_iter().map(|r| format!("{}.{}", r[0], r[1])).collect()
}

fn assert_same(what: &str, there: &BTreeSet<String>, listed: &BTreeSet<String>) {
    let unlisted: Vec<_> = there.difference(listed).collect();
    assert!(
        unlisted.is_empty(),
        "{what} that no line of tests/wall/surfaces.rs attacks: {unlisted:?}"
    );
    let gone: Vec<_> = listed.difference(there).collect();
    assert!(
        gone.is_empty(),
        "{what} of tests/wall/surfaces.rs that the server does not have: {gone:?}"
    );
}

const BY_SCHEMA: &str = "SELECT table_schema, table_name FROM information_schema.tables";
const BY_CLASS: &str = "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p')";
/// What DataFusion and PostgreSQL bring along works on values only; ours are those outside pg_catalog.
const BY_PROC: &str = "SELECT DISTINCT n.nspname, p.proname FROM pg_catalog.pg_proc p \
     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')";

#[tokio::test]
async fn no_surface_is_without_attacks() {
    let server = Server::start("surfaces");
    server.create_tenants(&[A]).await;
    let a = server.connect(A, "owner").await;
    let relations = listed(&[Kind::Relation, Kind::Catalog]);
    let mut there = set(rows(&a, BY_SCHEMA).await);
    assert!(there.len() > 5, "information_schema.tables is empty: {there:?}");
    there.extend(set(rows(&a, BY_CLASS).await));
    assert_same("relations", &there, &relations);
    let functions = set(rows(&a, BY_PROC).await);
    assert_same("functions", &functions, &listed(&[Kind::Function]));
    for surface in all() {
        assert!(!surface.attacks.is_empty(), "{} has no attacks", surface.name);
    }
    let settings = rows(&a, "SHOW ALL").await.into_iter().map(|row| row[0].clone());
    let ours: BTreeSet<String> = settings.filter(|name| name.contains('.')).collect();
    assert!(ours.len() > 5, "SHOW ALL shows our settings: {ours:?}");
    let unlisted: Vec<_> = ours.difference(&listed(&[Kind::Setting])).cloned().collect();
    assert!(
        unlisted.is_empty(),
        "settings that no line of tests/wall/surfaces.rs attacks: {unlisted:?}"
    );
    // A name that the catalog hides but the planner knows is a surface too: everything listed answers.
    for surface in all().filter(|s| matches!(s.kind, Kind::Relation | Kind::Catalog)) {
        rows(&a, &format!("SELECT count(*) FROM {}", surface.name)).await;
    }
}

/// Functions whose value is this session's or this moment's own.
const OWN: &[&str] = &["random", "pg_backend_pid", "uuid"];

/// Functions that PostgreSQL and DataFusion bring along are not listed one by one, so all there are get B's names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_of_the_catalog_in_two_worlds() {
    let mut full = World::with(Neighbour::Full).await;
    let absent = World::with(Neighbour::Absent).await;
    let facts = full.facts.clone().expect("a full world has facts");
    let client = full.server.connect(A, "owner").await;
    let sql = "SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n \
         ON n.oid = p.pronamespace WHERE n.nspname = 'pg_catalog' ORDER BY 1";
    let names: Vec<String> = rows(&client, sql).await.into_iter().flatten().collect();
    assert!(names.len() > 50, "pg_proc is all but empty: {names:?}");
    let (mut here, mut there) = (full.a().await, absent.a().await);
    for name in names.iter().filter(|n| !OWN.contains(&n.as_str())) {
        for args in [
            "",
            "'{b}'",
            "'{b}.ai.documents'",
            "'{b_document}'",
            "'{b}', 'CONNECT'",
            "'{b_user}', '{b}', 'CONNECT'",
            "1",
            "16384, 1",
        ] {
            let sql = facts.attack(&format!("SELECT pg_catalog.{name}({args})"), "");
            let heard = picture(&here.query(&sql).await);
            assert_eq!(heard, picture(&there.query(&sql).await), "{sql}");
            assert!(!heard.iter().any(|l| l.contains("C=XX")), "a defect: {sql}: {heard:?}");
        }
    }
    assert_silent(&full.canaries, &here.heard, "the functions of pg_catalog");
    full.server.assert_alive();
}

#[tokio::test]
async fn the_operator_has_its_own_surfaces_and_no_tenants_content() {
    let world = World::with(Neighbour::Full).await;
    let mut operator = world.server.raw("bulkhead", "admin").await;
    let client = world.server.operator().await;
    let relations = set(rows(&client, BY_SCHEMA).await);
    let own: BTreeSet<String> = listed(&[Kind::OperatorOnly]);
    for name in relations.iter().filter(|n| n.starts_with("bulkhead.")) {
        let shared = [
            "bulkhead.costs",
            "bulkhead.usage",
            "bulkhead.users",
            "bulkhead.model_prices",
            "bulkhead.models",
            "bulkhead.budgets",
            "bulkhead.alerts",
        ]
        .contains(&name.as_str());
        assert!(
            own.contains(name) || shared,
            "{name} of the operator's plane is in no line of surfaces.rs"
        );
    }
    let functions = set(rows(&client, BY_PROC).await);
    assert!(functions.len() > 3, "the operator has functions: {functions:?}");
    let listed = listed(&[Kind::OperatorOnly, Kind::Function]);
    for name in &functions {
        assert!(
            listed.contains(name),
            "{name} of the operator's plane is in no line of surfaces.rs"
        );
    }
    for name in relations {
        operator.query(&format!("SELECT * FROM {name}")).await;
        operator.prepared(&format!("SELECT * FROM {name}"), &[], 1).await;
    }
    for surface in all() {
        let facts = world.facts.as_ref().expect("a full world has facts");
        for template in surface
            .attacks
            .iter()
            .filter(|t| t.starts_with("SELECT") || t.starts_with("TABLE"))
        {
            operator.query(&facts.attack(template, surface.name)).await;
        }
    }
    // B's amounts are the operator's to see; what B wrote is not.
    assert_silent(&world.canaries, &operator.heard, "the operator's plane");
    let facts = world.facts.as_ref().expect("a full world has facts");
    let seen = rows(
        &client,
        &format!("SELECT tenant FROM bulkhead.costs WHERE tenant = '{B}'"),
    )
    .await;
    assert!(!seen.is_empty(), "the operator sees B's amounts");
    assert!(facts.token.len() > 8);
}
