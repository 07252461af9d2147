//! Rows of THREATS.md about writes to tenants' own tables, each a test named by its id.

use tokio_postgres::Client;

use crate::common::raw::{Frame, letters};
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

/// Whether a key is B's shows neither in the tag of an upsert nor in the error of an insert.
#[tokio::test]
async fn a14_a16_keys_of_another_tenant() {
    let server = server().await;
    let mut a = server.socket().await;
    a.login(A, "owner", "pw-owner").await.expect("the owner logs in");
    let b = server.connect(B, "owner").await;
    b.batch_execute("INSERT INTO docs VALUES (50, 'only-b', 'owner', 'x')")
        .await
        .expect("B's own");
    for sql in [
        "INSERT INTO docs VALUES (50, 'only-b', 'owner', 'y') ON CONFLICT DO NOTHING",
        "INSERT INTO docs VALUES (51, 's-beta', 'owner', 'y')",
    ] {
        let frames = a.query(sql).await;
        let tag = frames
            .iter()
            .find(|f: &&Frame| f.tag == b'C')
            .map(|f| String::from_utf8_lossy(&f.body).into_owned());
        assert_eq!(tag.as_deref(), Some("INSERT 0 1\0"), "{sql}: {}", letters(&frames));
    }
    assert_eq!(
        one(&b, "SELECT body FROM docs WHERE id = 50").await.as_deref(),
        Some("x")
    );
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
