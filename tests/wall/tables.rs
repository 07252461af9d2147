//! Rows of THREATS.md about writes to tenants' own tables, each a test named by its id.

use tokio_postgres::Client;

use crate::common::raw::{Frame, fields, letters};
use crate::common::server::{Server, fails, one, rows};

const A: &str = "acme";
const B: &str = "beta";
const CANARY: &str = "CNRYB";

/// Two tenants with one table of the same shape; B's holds the canary.
async fn server() -> Server {
    let server = Server::start("wall_tables");
    server.create_tenants(&[A, B]).await;
    for tenant in [A, B] {
        let client = server.connect(tenant, "owner").await;
        let body = if tenant == B { CANARY } else { "own" };
        let sql = format!(
            "CREATE TABLE docs (id integer PRIMARY KEY, slug text UNIQUE, owner_name text, body text);
             INSERT INTO docs VALUES (1, 'a-{tenant}', 'owner', '{body}'), (7, 's-{tenant}', 'owner', '{body}')"
        );
        client.batch_execute(&sql).await.expect("tables are made");
    }
    server
}

/// A user of A to whom policies apply.
async fn member(server: &Server, policies: &str) -> Client {
    let owner = server.connect(A, "owner").await;
    let sql = format!(
        "CREATE USER bob PASSWORD 'pw-bob' IN ROLE member;
         GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO bob;
         ALTER TABLE docs ENABLE ROW LEVEL SECURITY; {policies}"
    );
    for statement in sql.split(';') {
        owner.batch_execute(statement).await.expect(statement);
    }
    server.connect(A, "bob").await
}

const OWN: &str = "CREATE POLICY own ON docs USING (owner_name = current_user)";

/// A row can be moved neither to another tenant, whose name is no column, nor to another user.
#[tokio::test]
async fn a11_move_a_row() {
    let server = server().await;
    let owner = server.connect(A, "owner").await;
    assert_eq!(fails(&owner, "UPDATE docs SET tenant_id = 'beta'").await, "42703");
    assert_eq!(fails(&owner, "UPDATE beta.public.docs SET body = 'x'").await, "42P01");
    let bob = member(&server, OWN).await;
    bob.batch_execute("INSERT INTO docs VALUES (20, 'bob', 'bob', 'mine')")
        .await
        .expect("his own");
    assert_eq!(
        fails(&bob, "UPDATE docs SET owner_name = 'owner' WHERE id = 20").await,
        "42501"
    );
    assert_eq!(
        fails(&bob, "INSERT INTO docs VALUES (21, 'x', 'owner', 'x')").await,
        "42501"
    );
    assert_eq!(rows(&bob, "SELECT id FROM docs").await, [["20"]]);
    assert_eq!(one(&owner, "SELECT count(*) FROM docs").await.as_deref(), Some("3"));
}

/// What a write reads and returns is the tenant's own, and only what policies let pass.
#[tokio::test]
async fn a12_returning_and_from() {
    let server = server().await;
    let owner = server.connect(A, "owner").await;
    let from = format!("UPDATE docs d SET body = 'x' FROM docs e WHERE e.body LIKE '%{CANARY}%' RETURNING e.*");
    assert!(rows(&owner, &from).await.is_empty());
    let using = format!("DELETE FROM docs USING docs e WHERE e.body LIKE '%{CANARY}%' RETURNING e.body");
    assert!(rows(&owner, &using).await.is_empty());
    let bob = member(&server, OWN).await;
    let stolen = "UPDATE docs SET body = 'x' RETURNING *";
    assert!(rows(&bob, stolen).await.is_empty());
    assert!(rows(&bob, "DELETE FROM docs RETURNING *").await.is_empty());
    assert_eq!(
        one(&owner, "SELECT count(*) FROM docs WHERE body = 'own'")
            .await
            .as_deref(),
        Some("2")
    );
    let b = server.connect(B, "owner").await;
    let all = format!("SELECT count(*) FROM docs WHERE body = '{CANARY}'");
    assert_eq!(one(&b, &all).await.as_deref(), Some("2"));
}

/// The command tag of an answer.
fn tag(frames: &[Frame]) -> Option<String> {
    let done = frames.iter().find(|f| f.tag == b'C')?;
    Some(String::from_utf8_lossy(&done.body).trim_end_matches('\0').to_owned())
}

/// Whether a key is B's does not show in the tag of an upsert.
#[tokio::test]
async fn a14_upserts_count_no_foreign_keys() {
    let server = server().await;
    let mut a = server.socket().await;
    a.login(A, "owner", "pw-owner").await.expect("the owner logs in");
    let b = server.connect(B, "owner").await;
    b.batch_execute("INSERT INTO docs VALUES (50, 'only-b', 'owner', 'x')")
        .await
        .expect("B's own");
    for sql in [
        "INSERT INTO docs VALUES (50, 'only-b', 'owner', 'y') ON CONFLICT DO NOTHING",
        "INSERT INTO docs VALUES (51, 's-beta', 'owner', 'y') ON CONFLICT (slug) DO UPDATE SET body = 'stolen'",
    ] {
        let frames = a.query(sql).await;
        assert_eq!(
            tag(&frames).as_deref(),
            Some("INSERT 0 1"),
            "{sql}: {}",
            letters(&frames)
        );
    }
    assert_eq!(
        rows(&b, "SELECT id, body FROM docs ORDER BY id").await,
        [["1", CANARY], ["7", CANARY], ["50", "x"]]
    );
    assert_eq!(
        rows(
            &server.connect(A, "owner").await,
            "SELECT body FROM docs WHERE id > 7 ORDER BY id"
        )
        .await,
        [["y"], ["y"]]
    );
}

/// A key that B owns is free in A, however it is declared and brought; of a key that a policy hides within A, the
/// error names neither column nor value.
#[tokio::test]
async fn a16_unique_keys_of_others_tell_nothing() {
    let server = server().await;
    let b = server.connect(B, "owner").await;
    let owner = server.connect(A, "owner").await;
    let shape =
        "CREATE TABLE people (id uuid PRIMARY KEY, email text NOT NULL, place int, CONSTRAINT email UNIQUE (email));
                 CREATE UNIQUE INDEX folded ON people (lower(email));
                 CREATE UNIQUE INDEX placed ON people (place) WHERE place > 0";
    let row = format!("'00000000-0000-4000-8000-000000000001', '{CANARY}@b.example', 7");
    for client in [&owner, &b] {
        client.batch_execute(shape).await.expect("a table");
    }
    b.batch_execute(&format!("INSERT INTO people VALUES ({row})"))
        .await
        .expect("B's own");
    let mut a = server.socket().await;
    a.login(A, "owner", "pw-owner").await.expect("the owner logs in");
    for (sql, expected) in [
        (format!("INSERT INTO people VALUES ({row})"), "INSERT 0 1"),
        ("UPDATE people SET email = 'free', place = 8".to_owned(), "UPDATE 1"),
        (
            format!("UPDATE people SET email = '{CANARY}@B.EXAMPLE', place = 7"),
            "UPDATE 1",
        ),
        (
            "INSERT INTO docs VALUES (50, 's-beta', 'owner', 'y')".to_owned(),
            "INSERT 0 1",
        ),
    ] {
        let frames = a.query(&sql).await;
        assert_eq!(tag(&frames).as_deref(), Some(expected), "{sql}: {}", letters(&frames));
    }
    let hidden = format!("INSERT INTO docs VALUES (60, '{CANARY}', 'owner', 'y')");
    owner.batch_execute(&hidden).await.expect("a row that bob may not see");
    member(&server, OWN).await;
    let mut bob = server.socket().await;
    bob.login(A, "bob", "pw-bob").await.expect("bob logs in");
    for taken in [
        "INSERT INTO docs VALUES (60, 'bobs', 'bob', 'x')".to_owned(),
        format!("INSERT INTO docs VALUES (61, '{CANARY}', 'bob', 'x')"),
    ] {
        let frames = bob.query(&taken).await;
        let error = frames.iter().find(|f| f.tag == b'E').expect("an error");
        let of = fields(error);
        assert_eq!(of.get(&'C').map(String::as_str), Some("23505"), "{taken}");
        assert!(!of.contains_key(&'D') && !of.contains_key(&'c'), "{taken}: {of:?}");
        assert!(
            of.values().all(|told| !told.contains(CANARY) && !told.contains("60")),
            "{taken}: {of:?}"
        );
    }
    // The control: who may see the row is told.
    let mut told = server.socket().await;
    told.login(A, "owner", "pw-owner").await.expect("the owner logs in");
    let frames = told.query("INSERT INTO docs VALUES (60, 'z', 'owner', 'x')").await;
    let of = frames.iter().find(|f| f.tag == b'E').map(fields).unwrap_or_default();
    assert_eq!(of.get(&'D').map(String::as_str), Some("Key (id)=(60) already exists."));
}

/// MERGE does not exist here.
#[tokio::test]
async fn a15_merge() {
    let server = server().await;
    let owner = server.connect(A, "owner").await;
    let merge = "MERGE INTO docs USING (SELECT 1 AS id) s ON docs.id = s.id WHEN MATCHED THEN DELETE";
    assert_eq!(fails(&owner, merge).await, "0A000");
    assert_eq!(one(&owner, "SELECT count(*) FROM docs").await.as_deref(), Some("2"));
}

/// A row that breaks a policy and a key tells of the policy alone.
#[tokio::test]
async fn a19_order_of_checks() {
    let server = server().await;
    let bob = member(&server, OWN).await;
    let both = "INSERT INTO docs VALUES (1, 'a-acme', 'owner', 'x')";
    assert_eq!(fails(&bob, both).await, "42501");
    let update = "INSERT INTO docs VALUES (1, 'z', 'bob', 'x') ON CONFLICT (id) DO UPDATE SET body = 'stolen'";
    assert_eq!(fails(&bob, update).await, "42501");
    let owner = server.connect(A, "owner").await;
    assert_eq!(
        one(&owner, "SELECT body FROM docs WHERE id = 1").await.as_deref(),
        Some("own")
    );
}
