//! What sessions may do to each other: channels, signals, and the end of a user.

use crate::common::raw::{Frame, Raw, code, fields, letters, query, text_rows};
use crate::{T, served};

/// Channel, payload and process number of each notification.
fn told(frames: &[Frame]) -> Vec<(String, String, i32)> {
    let one = |frame: &Frame| {
        let pid = i32::from_be_bytes(frame.body[..4].try_into().expect("four bytes"));
        let text = String::from_utf8_lossy(&frame.body[4..]).into_owned();
        let (channel, payload) = text.split_once('\0').expect("a channel, then a payload");
        (channel.to_owned(), payload.trim_end_matches('\0').to_owned(), pid)
    };
    frames.iter().filter(|f| f.tag == b'A').map(one).collect()
}

fn pid(raw: &Raw) -> i32 {
    i32::from_be_bytes(raw.key[..4].try_into().expect("four bytes"))
}

fn said(payloads: &[&str], channel: &str, by: i32) -> Vec<(String, String, i32)> {
    payloads
        .iter()
        .map(|p| (channel.to_owned(), (*p).to_owned(), by))
        .collect()
}

/// What is said in a channel reaches those of the tenant who listen, at the commit, once, in order; and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a43_channels_are_a_tenants_own() {
    let mut server = served().await;
    server.create_tenants(&["umbra"]).await;
    let mut teller = server.raw(T, "owner").await;
    let mut idle = server.raw(T, "owner").await;
    let mut busy = server.raw(T, "owner").await;
    let mut deaf = server.raw(T, "owner").await;
    let mut other = server.raw("umbra", "owner").await;
    for raw in [&mut idle, &mut busy, &mut other] {
        assert_eq!(letters(&raw.query("LISTEN orders").await), "CZ");
    }
    deaf.query("LISTEN invoices").await;
    busy.query("BEGIN").await;
    let by = pid(&teller);
    teller.query("NOTIFY orders, 'first'").await;
    // An idle session is told at once.
    assert_eq!(
        told(&[idle.frame().await.expect("it lives")]),
        said(&["first"], "orders", by)
    );
    // A transaction says what it has to say when it commits: each thing once, in order.
    teller.query("BEGIN").await;
    teller.query("NOTIFY orders, 'a'; NOTIFY orders, 'b'").await;
    teller.query("SAVEPOINT s").await;
    teller.query("NOTIFY orders, 'taken back'").await;
    teller.query("ROLLBACK TO s").await;
    teller
        .query("SELECT pg_notify('orders', 'a'), pg_notify('orders', 'c')")
        .await;
    teller.query("COMMIT").await;
    teller.query("BEGIN; NOTIFY orders, 'never'; ROLLBACK").await;
    teller.query("NOTIFY orders, 'lost'; SELECT 1/0").await;
    teller
        .query("SELECT pg_notify('orders', n::text) FROM generate_series(1, 2) AS g(n)")
        .await;
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(idle.frame().await.expect("it lives"));
    }
    assert_eq!(told(&heard), said(&["a", "b", "c", "1", "2"], "orders", by));
    // One in a transaction hears it all when that ends.
    assert!(told(&busy.query("SELECT 1").await).is_empty());
    let all = busy.query("COMMIT").await;
    assert_eq!(told(&all), said(&["first", "a", "b", "c", "1", "2"], "orders", by));
    // Who speaks hears itself, if it listens.
    busy.query("UNLISTEN orders").await;
    teller.query("LISTEN orders").await;
    let own = teller.query("NOTIFY orders").await;
    assert_eq!((letters(&own).as_str(), told(&own)), ("CAZ", said(&[""], "orders", by)));
    for raw in [&mut busy, &mut deaf, &mut other] {
        assert!(told(&raw.query("SELECT 1").await).is_empty(), "nobody else is told");
    }
    server.assert_alive();
}

/// A session that sleeps is stopped by its timeout.
#[tokio::test]
async fn a43_pg_sleep_is_bounded() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    raw.query("SET statement_timeout = '100ms'").await;
    assert_eq!(
        code(&raw.query("SELECT pg_sleep(3600)").await).as_deref(),
        Some("57014")
    );
    assert_eq!(text_rows(&raw.query("SELECT pg_sleep(0) IS NULL, 1").await)[0][1], "1");
}

/// Signals reach one's own sessions, an owner's reach the tenant's, and a foreign number is one that nobody has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a43_signals_stay_in_the_tenant() {
    let mut server = served().await;
    server.create_tenants(&["umbra"]).await;
    let mut owner = server.raw(T, "owner").await;
    owner.query("CREATE USER bob PASSWORD 'pw-bob'").await;
    let mut bob = server.raw(T, "bob").await;
    let mut foreign = server.raw("umbra", "owner").await;
    // A foreign session's number and one that nobody has are answered alike.
    let absent = (1..)
        .find(|n| ![pid(&owner), pid(&bob), pid(&foreign)].contains(n))
        .unwrap_or(1);
    let answers = |frames: &[Frame], pid: i32| -> String {
        let notice = frames
            .iter()
            .find(|f| f.tag == b'N')
            .map(|f| fields(f).remove(&'M').unwrap_or_default());
        format!("{} {:?} {:?}", letters(frames), text_rows(frames), notice).replace(&pid.to_string(), "PID")
    };
    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        let ask = |pid: i32| format!("SELECT {function}({pid})");
        let of_foreign = owner.query(&ask(pid(&foreign))).await;
        let of_nobody = owner.query(&ask(absent)).await;
        assert_eq!(answers(&of_foreign, pid(&foreign)), answers(&of_nobody, absent));
        assert_eq!(text_rows(&of_foreign), [["f"]]);
        // A user's signals do not reach another's session.
        assert_eq!(code(&bob.query(&ask(pid(&owner))).await).as_deref(), Some("42501"));
    }
    assert_eq!(text_rows(&foreign.query("SELECT 'alive'").await), [["alive"]]);
    // Nobody sees sessions that are none of theirs.
    let seen = "SELECT usename FROM pg_stat_activity ORDER BY 1";
    assert_eq!(text_rows(&owner.query(seen).await), [["bob"], ["owner"]]);
    assert_eq!(text_rows(&bob.query(seen).await), [["bob"]]);
    assert_eq!(text_rows(&foreign.query(seen).await), [["owner"]]);
    // An owner cancels a statement, which the session survives, and ends a session, running or idle.
    for sleeps in [true, false] {
        let mut victim = server.raw(T, "bob").await;
        if sleeps {
            victim.say(&[query("SELECT pg_sleep(3600)")]).await;
            loop {
                let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%3600)'";
                if text_rows(&owner.query(active).await) == [["1"]] {
                    break;
                }
            }
            let cancelled = owner
                .query(&format!("SELECT pg_cancel_backend({})", pid(&victim)))
                .await;
            assert_eq!(text_rows(&cancelled), [["t"]]);
            assert_eq!(code(&victim.until(b'Z').await).as_deref(), Some("57014"));
            victim.say(&[query("SELECT pg_sleep(3600)")]).await;
        }
        let ended = bob
            .query(&format!("SELECT pg_terminate_backend({})", pid(&victim)))
            .await;
        assert_eq!(text_rows(&ended), [["t"]], "one's own");
        assert_eq!(code(&victim.rest().await).as_deref(), Some("57P01"));
    }
    assert_eq!(
        text_rows(&owner.query("SELECT count(*) FROM pg_stat_activity").await),
        [["2"]]
    );
    server.assert_alive();
}

/// Advisory locks are waited for, and no longer than one wants; who waits crosswise is told; their end frees them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a43_advisory_locks() {
    let mut server = served().await;
    server.create_tenants(&["umbra"]).await;
    let mut one = server.raw(T, "owner").await;
    let mut two = server.raw(T, "owner").await;
    let mut other = server.raw("umbra", "owner").await;
    for raw in [&mut one, &mut other] {
        let locked = raw.query("SELECT pg_try_advisory_lock(1)").await;
        assert_eq!(text_rows(&locked), [["t"]], "both tenants have it");
    }
    assert_eq!(text_rows(&two.query("SELECT pg_try_advisory_lock(1)").await), [["f"]]);
    // A wait ends by its time, by a cancel, or when the lock is given back.
    two.query("SET lock_timeout = '50ms'").await;
    assert_eq!(
        code(&two.query("SELECT pg_advisory_lock(1)").await).as_deref(),
        Some("55P03")
    );
    two.query("RESET lock_timeout; SET statement_timeout = '50ms'").await;
    assert_eq!(
        code(&two.query("SELECT pg_advisory_lock(1)").await).as_deref(),
        Some("57014")
    );
    two.query("RESET statement_timeout").await;
    two.say(&[query("SELECT pg_advisory_lock(1)")]).await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'";
    while text_rows(&one.query(waits).await) != [["1"]] {}
    assert_eq!(text_rows(&other.query(waits).await), [["0"]]);
    one.query("SELECT pg_advisory_unlock(1)").await;
    assert_eq!(code(&two.until(b'Z').await), None);
    // Crosswise: one of the two is told, the other gets its lock.
    one.query("BEGIN; SELECT pg_advisory_xact_lock(2)").await;
    one.say(&[query("SELECT pg_advisory_xact_lock(1)")]).await;
    while text_rows(&other.query("SELECT 0").await) != [["0"]] {}
    let told = code(&two.query("SELECT pg_advisory_lock(2)").await);
    if told.is_none() {
        assert_eq!(code(&one.until(b'Z').await).as_deref(), Some("40P01"));
    } else {
        assert_eq!(told.as_deref(), Some("40P01"));
        two.query("SELECT pg_advisory_unlock_all()").await;
        assert_eq!(code(&one.until(b'Z').await), None);
    }
    one.query("ROLLBACK").await;
    two.query("SELECT pg_advisory_unlock_all()").await;
    // The end of a session is the end of its locks.
    two.query("SELECT pg_advisory_lock(3)").await;
    drop(two);
    assert_eq!(code(&one.query("SELECT pg_advisory_lock(3)").await), None);
    server.assert_alive();
}

/// Who is dropped, gets another password or a lower role is told so at the next statement, and is out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a40_revocation_while_connected() {
    let mut server = served().await;
    server.create_tenants(&["umbra"]).await;
    let mut owner = server.raw(T, "owner").await;
    let mut other = server.raw("umbra", "owner").await;
    other.query("CREATE USER bob PASSWORD 'pw-bob'").await;
    let mut namesake = server.raw("umbra", "bob").await;
    for change in [
        "DROP USER bob",
        "ALTER USER bob PASSWORD 'pw-other'",
        "ALTER USER bob IN ROLE analyst",
    ] {
        owner.query("DROP USER IF EXISTS bob").await;
        owner.query("CREATE USER bob PASSWORD 'pw-bob'").await;
        let mut simple = server.raw(T, "bob").await;
        let mut extended = server.raw(T, "bob").await;
        let mut open = server.raw(T, "bob").await;
        let mut listens = server.raw(T, "bob").await;
        listens.query("LISTEN orders").await;
        open.query("BEGIN").await;
        open.query("INSERT INTO documents (title, content) VALUES ('revoked', 'x')")
            .await;
        extended.prepared("SELECT 1", &[], 0).await;
        assert_eq!(code(&owner.query(change).await), None, "{change}");
        for (raw, frames) in [
            (&mut simple, vec![query("SELECT 1")]),
            (&mut open, vec![query("COMMIT")]),
        ] {
            raw.say(&frames).await;
            let end = raw.rest().await;
            assert_eq!(code(&end).as_deref(), Some("28000"), "{change}: {end:?}");
            let error = end.iter().find(|f| f.tag == b'E').expect("an error");
            assert_eq!(fields(error)[&'S'], "FATAL");
        }
        let end = extended.prepared("SELECT 1", &[], 0).await;
        assert_eq!(code(&end).as_deref(), Some("28000"), "{change}: {end:?}");
        // Nor is anything told any more.
        owner.query("NOTIFY orders, 'secret'").await;
        let end = listens.rest().await;
        assert_eq!(
            (letters(&end).as_str(), code(&end).as_deref()),
            ("E", Some("28000")),
            "{change}"
        );
    }
    let revoked = "SELECT count(*) FROM documents WHERE title = 'revoked'";
    assert_eq!(text_rows(&owner.query(revoked).await), [["0"]]);
    // A namesake in another tenant goes on, and so does who changes nothing but their own password, here.
    assert_eq!(text_rows(&namesake.query("SELECT 'alive'").await), [["alive"]]);
    let mut elsewhere = server.raw("umbra", "bob").await;
    namesake.query("ALTER USER bob PASSWORD 'pw-new'").await;
    assert_eq!(text_rows(&namesake.query("SELECT 'alive'").await), [["alive"]]);
    assert_eq!(code(&elsewhere.query("SELECT 1").await).as_deref(), Some("28000"));
    // A better role takes nothing away.
    other.query("ALTER USER bob IN ROLE owner").await;
    assert_eq!(text_rows(&namesake.query("SELECT 'alive'").await), [["alive"]]);
    server.assert_alive();
}

/// A connection that a pool hands on is as it was after its login.
#[tokio::test]
async fn a28_discard_all_leaves_nothing() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    raw.query("PREPARE p AS SELECT 1").await;
    raw.query("SET application_name = 'one'; LISTEN orders").await;
    raw.query("DECLARE h CURSOR WITH HOLD FOR SELECT 1").await;
    raw.query("SET statement_timeout = '7s'").await;
    assert_eq!(letters(&raw.query("DISCARD ALL").await).replace('S', ""), "CZ");
    assert_eq!(code(&raw.query("EXECUTE p").await).as_deref(), Some("26000"));
    assert_eq!(code(&raw.query("FETCH h").await).as_deref(), Some("34000"));
    for (sql, left) in [
        ("SELECT count(*) FROM pg_cursors", "0"),
        ("SELECT count(*) FROM pg_prepared_statements", "0"),
        ("SELECT count(*) FROM pg_listening_channels()", "0"),
        ("SHOW application_name", ""),
    ] {
        assert_eq!(text_rows(&raw.query(sql).await), [[left]], "{sql}");
    }
    assert_ne!(text_rows(&raw.query("SHOW statement_timeout").await), [["7s"]]);
    raw.query("NOTIFY orders").await;
    assert!(told(&raw.query("SELECT 1").await).is_empty());
    raw.query("BEGIN").await;
    assert_eq!(code(&raw.query("DISCARD ALL").await).as_deref(), Some("25001"));
}
