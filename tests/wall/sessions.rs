//! Rows A20 to A43 of THREATS.md that are about statements and sessions, each a test named by its id.

use std::collections::BTreeSet;

use crate::common::canary::assert_silent;
use crate::common::picture;
use crate::common::raw::{Frame, bind, code, execute, letters, message_of, parse, query, text_rows};
use crate::common::server::fresh_dir;
use crate::worlds::{A, B, B_USER, Neighbour, World};

/// What a client sees of an answer, without ids and times.
fn picture(frames: &[Frame]) -> String {
    picture::picture(frames).join("\n")
}

fn copied(frames: &[Frame]) -> String {
    let data: Vec<u8> = frames
        .iter()
        .filter(|f| f.tag == b'd')
        .flat_map(|f| f.body.clone())
        .collect();
    String::from_utf8_lossy(&data).into_owned()
}

/// COPY gives A's rows only, whatever it is asked, and reaches the client only.
#[tokio::test]
async fn a20_copy_out() {
    let world = World::with(Neighbour::Full).await;
    let facts = world.facts.clone().expect("full");
    let mut a = world.a().await;
    for options in ["", " CSV", " BINARY"] {
        for sql in [
            "COPY documents (title) TO STDOUT".to_owned(),
            "COPY (SELECT title FROM documents ORDER BY title) TO STDOUT".to_owned(),
            facts.attack(
                "COPY (SELECT title FROM documents WHERE content NOT LIKE '%{token}%') TO STDOUT",
                "",
            ),
        ] {
            let frames = a.query(&format!("{sql}{options}")).await;
            let rows = copied(&frames);
            for title in ["Attic", "Cellar", "Office"] {
                assert!(rows.contains(title), "{sql}{options}: {frames:?}");
            }
            let tag = frames.iter().find(|f| f.tag == b'C').map(|f| f.body.clone());
            assert_eq!(tag.as_deref(), Some(&b"COPY 3\0"[..]), "{sql}{options}");
        }
        let theirs = format!(
            "COPY (SELECT * FROM chunks WHERE id = '{}') TO STDOUT{options}",
            facts.chunk
        );
        let theirs = a.query(&theirs).await;
        assert!(!picture(&theirs).contains(&facts.title));
        for name in [
            format!("\"{B}\".ai.documents"),
            format!("\"{B}\".documents"),
            format!("\"{B}\""),
        ] {
            let state = code(&a.query(&format!("COPY {name} TO STDOUT{options}")).await);
            assert_eq!(state.as_deref(), Some("42P01"), "{name}");
            let state = code(&a.query(&format!("COPY {name} FROM STDIN{options}")).await);
            assert_eq!(state.as_deref(), Some("42P01"), "{name}");
        }
    }
    let out = fresh_dir("copy").join("out");
    let path = out.display();
    for sql in [
        format!("COPY documents TO '{path}'"),
        format!("COPY (SELECT 1) TO '{path}' CSV"),
        format!("COPY (SELECT 1) TO '{path}' WITH (FORMAT parquet)"),
        format!("COPY documents TO PROGRAM 'cat > {path}'"),
        format!("COPY (SELECT 1) TO PROGRAM 'cat > {path}'"),
        format!("COPY documents FROM '{path}'"),
        "COPY (SELECT 1) TO 's3://bucket/key'".to_owned(),
        "COPY documents TO 'http://127.0.0.1/x'".to_owned(),
        "COPY documents FROM PROGRAM 'id'".to_owned(),
    ] {
        assert_eq!(code(&a.query(&sql).await).as_deref(), Some("42501"), "{sql}");
        let prepared = a.extended(&[parse("", &sql, &[])]).await;
        assert_eq!(code(&prepared).as_deref(), Some("42501"), "{sql}");
    }
    assert!(!out.exists());
    // What comes in is A's, and nobody else's.
    a.query("BEGIN").await;
    a.say(&[
        query("COPY documents (title, content, user_id) FROM STDIN"),
        message_of(b'd', format!("x\ty\t{B_USER}\n").as_bytes()),
        message_of(b'c', &[]),
    ])
    .await;
    assert_eq!(code(&a.until(b'Z').await), None);
    a.query("ROLLBACK").await;
    assert_silent(&world.canaries, &a.heard, "A20");
}

/// A cursor or portal of another session, of this tenant or not, is one that never was.
#[tokio::test]
async fn a22_cursors_of_another_session() {
    let world = World::with(Neighbour::Full).await;
    let mut mine = world.a().await;
    let mut neighbour = world.a().await;
    let mut foreign = world.server.raw(B, "owner").await;
    let mut told = BTreeSet::new();
    for owner in [&mut neighbour, &mut foreign] {
        owner.query("BEGIN").await;
        let declared = owner
            .query("DECLARE c SCROLL CURSOR FOR SELECT content FROM documents")
            .await;
        assert_eq!(code(&declared), None, "{declared:?}");
        let opened = owner
            .extended(&[
                parse("s", "SELECT content FROM documents", &[]),
                bind("p", "s", &[], &[], &[]),
                execute("p", 1),
            ])
            .await;
        assert_eq!(letters(&opened), "12DsZ");
        for sql in [
            "FETCH ALL FROM c",
            "FETCH ABSOLUTE 1 FROM c",
            "MOVE c",
            "CLOSE c",
            "UPDATE documents SET title = 'x' WHERE CURRENT OF c",
            "DELETE FROM documents WHERE CURRENT OF c",
        ] {
            let frames = mine.query(sql).await;
            assert_eq!(code(&frames).as_deref(), Some("34000"), "{sql}: {frames:?}");
            told.insert(format!("{sql}: {}", picture(&frames)));
        }
        let executed = mine.extended(&[execute("p", 0)]).await;
        assert_eq!(code(&executed).as_deref(), Some("34000"), "{executed:?}");
        assert!(text_rows(&mine.query("SELECT name FROM pg_cursors").await).is_empty());
    }
    assert_eq!(told.len(), 6, "the answers do not depend on whose it is: {told:?}");
    // The control: its own session fetches.
    assert_eq!(text_rows(&neighbour.query("FETCH ALL FROM c").await).len(), 3);
    assert_silent(&world.canaries, &mine.heard, "A22");
}

/// No statement changes who a session is, in no branch of a transaction.
#[tokio::test]
async fn a26_role_switching_and_rollback() {
    let world = World::with(Neighbour::Full).await;
    let mut owner = world.a().await;
    owner.query("CREATE USER bob PASSWORD 'pw-bob' IN ROLE analyst").await;
    let mut bob = world.server.raw(A, "bob").await;
    let who = "SELECT current_tenant(), current_user, session_user, current_setting('session_authorization')";
    let expected = text_rows(&bob.query(who).await);
    for attempt in [
        "SET ROLE owner",
        "SET ROLE 'owner'",
        "SET SESSION ROLE owner",
        "SET LOCAL ROLE owner",
        "SET ROLE NONE",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION owner",
        "SET session_authorization = 'owner'",
        "SET role = 'owner'",
        "SELECT set_config('role', 'owner', true)",
        "SELECT set_config('session_authorization', 'owner', false)",
    ] {
        assert_eq!(code(&bob.query(attempt).await).as_deref(), Some("42501"), "{attempt}");
        for (before, after) in [
            ("BEGIN", "ROLLBACK"),
            ("BEGIN", "COMMIT"),
            ("BEGIN; SAVEPOINT s", "ROLLBACK TO s"),
        ] {
            bob.query(before).await;
            assert_eq!(
                code(&bob.query(attempt).await).as_deref(),
                Some("42501"),
                "{before}; {attempt}"
            );
            bob.query(after).await;
            if after.ends_with('s') {
                assert_eq!(
                    text_rows(&bob.query(who).await),
                    expected,
                    "{before}; {attempt}; {after}"
                );
                bob.query("COMMIT").await;
            }
            assert_eq!(
                text_rows(&bob.query(who).await),
                expected,
                "{before}; {attempt}; {after}"
            );
        }
    }
    // Going back to who logged in is where everybody is.
    for same in ["SET SESSION AUTHORIZATION DEFAULT", "DISCARD ALL", "RESET ALL"] {
        assert_eq!(code(&bob.query(same).await), None, "{same}");
        assert_eq!(text_rows(&bob.query(who).await), expected, "{same}");
        assert_eq!(
            code(&bob.query("SELECT count(*) FROM documents").await).as_deref(),
            Some("42501")
        );
    }
}

/// EXPLAIN tells nothing of how many rows there are: the same plan whatever is stored, here or there.
#[tokio::test]
async fn a02_plans_count_no_rows() {
    let world = World::with(Neighbour::Full).await;
    let mut a = world.a().await;
    let mut b = world.server.raw(B, "owner").await;
    for sql in [
        "EXPLAIN SELECT * FROM documents",
        "EXPLAIN SELECT count(*) FROM documents d JOIN chunks c ON c.document_id = d.id",
        "EXPLAIN (FORMAT JSON, VERBOSE) SELECT title FROM documents WHERE content LIKE '%x%' ORDER BY 1 LIMIT 5",
    ] {
        let of_few = picture(&a.query(sql).await);
        assert_eq!(
            of_few,
            picture(&b.query(sql).await),
            "three documents and forty-one: {sql}"
        );
        assert!(of_few.contains("Seq Scan"), "{of_few}");
    }
    let analyzed = a.query("EXPLAIN (ANALYZE, TIMING OFF) SELECT * FROM documents").await;
    assert!(
        picture(&analyzed).contains("actual rows=3 "),
        "one's own are counted: {analyzed:?}"
    );
    assert_silent(&world.canaries, &a.heard, "A02");
}
