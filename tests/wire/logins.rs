//! Logins: what a guesser, a slow client and an enumerator learn (rows C13, C18, C19, C31).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::common::raw::{Frame, Raw, code, fields, initial, message_of, startup_of, text_rows};
use crate::common::scram::{Challenge, Scram};
use crate::common::server::{Server, connect, one, password_of, state};
use crate::{T, served};

/// A connection from another address of the loopback interface.
async fn from(address: [u8; 4], server: &Server) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    let bound = socket.bind((IpAddr::V4(Ipv4Addr::from(address)), 0).into());
    bound.expect("all of 127.0.0.0/8 is ours");
    let stream = socket
        .connect((Ipv4Addr::LOCALHOST, server.port).into())
        .await
        .expect("the server takes connections");
    Raw::over(stream)
}

/// Sockets that say little or nothing are closed at the login deadline, and others connect meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c13_slowloris() {
    let mut server = served().await;
    let startup = startup_of(&[("user", "owner"), ("database", T)]);
    let mut slow = Vec::new();
    for i in 0..300 {
        let mut raw = server.socket().await;
        match i % 3 {
            0 => {}
            1 => raw.say(&[startup[..5].to_vec()]).await,
            _ => raw.say(&[startup.clone(), b"p".to_vec()]).await,
        }
        slow.push(raw);
    }
    let client = server.connect(T, "owner").await;
    assert_eq!(
        one(&client, "SELECT 1").await.as_deref(),
        Some("1"),
        "others connect meanwhile"
    );
    let endings = slow.into_iter().enumerate().map(|(i, mut raw)| {
        let trickle = if i % 3 == 1 { startup[5] } else { 0 };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            if i % 3 != 0 {
                raw.say(&[vec![trickle]]).await;
            }
            raw.until_closed().await // fails the test itself if it never ends
        })
    });
    for ending in futures::future::join_all(endings).await {
        let heard = ending.expect("each is closed");
        assert!(!heard.contains(&b'Z'), "{heard:?}");
    }
    assert_eq!(
        one(&client, "SELECT 2").await.as_deref(),
        Some("2"),
        "the one who logged in is still there"
    );
    server.assert_alive();
}

/// Guessing gets slower, for the guesser alone, and holds nothing that others need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c18_brute_force() {
    let mut server = served().await;
    let owner = server.connect(T, "owner").await;
    owner
        .batch_execute("CREATE USER bob PASSWORD 'pw-bob'")
        .await
        .expect("made");
    let mut longest = Duration::ZERO;
    for _ in 0..9 {
        let mut raw = from([127, 0, 0, 2], &server).await;
        let begun = Instant::now();
        let failed = raw.login(T, "owner", "a guess").await.expect_err("a guess");
        assert_eq!(code(&failed).as_deref(), Some("28P01"));
        longest = longest.max(begun.elapsed());
    }
    assert!(
        longest > Duration::from_millis(400),
        "the ninth guess is as quick as the first: {longest:?}"
    );
    // Many guesses wait; meanwhile the same user logs in from elsewhere, and another user from there.
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let mut raw = from([127, 0, 0, 2], &server).await;
        waiting.push(tokio::spawn(
            async move { raw.login(T, "owner", "a guess").await.err() },
        ));
    }
    from([127, 0, 0, 3], &server)
        .await
        .login(T, "owner", &password_of("owner"))
        .await
        .expect("from another address");
    from([127, 0, 0, 2], &server)
        .await
        .login(T, "bob", &password_of("bob"))
        .await
        .expect("another user");
    for guess in futures::future::join_all(waiting).await {
        let failed = guess.expect("no panic").expect("no guess logs in");
        // Answered late, or cut off at the deadline; never let in.
        assert!(!failed.iter().any(|f| f.tag == b'Z'), "{failed:?}");
    }
    // One address and many names: unknown ones count too.
    let mut longest = Duration::ZERO;
    for i in 0..60 {
        let mut raw = from([127, 0, 0, 4], &server).await;
        let begun = Instant::now();
        raw.login(T, &format!("guess{i}"), "x").await.expect_err("no such user");
        longest = longest.max(begun.elapsed());
        if longest > Duration::from_millis(400) {
            break;
        }
    }
    assert!(
        longest > Duration::from_millis(400),
        "sixty names from one address cost nothing: {longest:?}"
    );
    server.assert_alive();
}

/// All that a login that fails at the last step is told.
async fn told(
    server: &Server,
    tenant: &str,
    user: &str,
    password: &str,
    nonce: &str,
) -> (Vec<u8>, Challenge, Vec<Frame>) {
    let mut raw = server.socket().await;
    raw.say(&[startup_of(&[("user", user), ("database", tenant)])]).await;
    let asked = raw.frame().await.expect("asked");
    let mut scram = Scram::plain(nonce);
    raw.say(&[initial("SCRAM-SHA-256", &scram.first())]).await;
    let challenge = raw.frame().await.expect("a challenge");
    assert_eq!(
        (challenge.tag, &challenge.body[..4]),
        (b'R', &[0, 0, 0, 11][..]),
        "{challenge:?}"
    );
    let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
    let last = scram.last(&text, password);
    raw.say(&[message_of(b'p', last.as_bytes())]).await;
    let rest = raw.rest().await;
    (asked.body, Challenge::read(&text), rest)
}

/// A user who exists, one who does not, and a tenant that does not: the same messages, salts that stay.
#[tokio::test]
async fn c19_user_and_tenant_enumeration() {
    let mut server = served().await;
    let names = [
        (T, "owner"),
        (T, "nobody"),
        ("nosuch", "owner"),
        ("nosuch", "nobody"),
        ("bulkhead", "admin"),
        ("bulkhead", "nobody"),
        (T, "admin"),
    ];
    let mut heard: BTreeMap<(&str, &str), Vec<u8>> = BTreeMap::new();
    let (known_ask, known_challenge, known_end) = told(&server, T, "owner", "wrong", "aaaaaaaaaaaaaaaaaaaa").await;
    for round in 0..3 {
        for name in names {
            let nonce = format!("bbbbbbbbbbbbbbbbbbbbbbb{round}");
            let (ask, challenge, end) = told(&server, name.0, name.1, "wrong", &nonce).await;
            assert_eq!(ask, known_ask, "{name:?}");
            assert_eq!(challenge.iterations, known_challenge.iterations, "{name:?}");
            assert_eq!(challenge.salt.len(), known_challenge.salt.len(), "{name:?}");
            assert_eq!(
                challenge.nonce.len() - nonce.len(),
                known_challenge.nonce.len() - 20,
                "{name:?}"
            );
            assert!(challenge.nonce.starts_with(&nonce), "{name:?}");
            let salt = heard.entry(name).or_insert_with(|| challenge.salt.clone());
            assert_eq!(*salt, challenge.salt, "the salt of {name:?} changes");
            let named = |frames: &[Frame], user: &str| format!("{frames:?}").replace(user, "{user}");
            assert_eq!(named(&end, name.1), named(&known_end, "owner"), "{name:?}");
        }
        if round == 1 {
            server.stop();
            server.again();
        }
    }
    let salts: std::collections::BTreeSet<_> = heard.values().collect();
    assert_eq!(salts.len(), names.len(), "two names have one salt");
    // A user who is dropped is as one who never was; the password of one tenant opens no other.
    let owner = server.connect(T, "owner").await;
    owner
        .batch_execute("CREATE USER gone PASSWORD 'pw-gone'")
        .await
        .expect("made");
    owner.batch_execute("DROP USER gone").await.expect("dropped");
    let (_, _, end) = told(&server, T, "gone", "pw-gone", "cccccccccccccccccccc").await;
    assert_eq!(
        format!("{end:?}").replace("gone", "{user}"),
        format!("{known_end:?}").replace("owner", "{user}")
    );
    server
        .operator()
        .await
        .batch_execute("SELECT bulkhead.create_tenant('other', owner => 'owner', password => 'different')")
        .await
        .expect("made");
    let refused = connect(server.port, "other", "owner", &password_of("owner")).await;
    assert_eq!(refused.err().map(|e| state(&e)).as_deref(), Some("28P01"));
}

/// What a session is told at login, and that it is true.
#[tokio::test]
async fn c31_status_values() {
    let server = served().await;
    let mut raw = server.socket().await;
    let startup = [
        ("user", "owner"),
        ("database", T),
        ("application_name", "the test"),
        ("client_encoding", "'utf-8'"),
        ("made_up", "x"),
    ];
    let ready = raw
        .login_with(&startup, &password_of("owner"))
        .await
        .expect("unknown parameters are no obstacle");
    let mut told = BTreeMap::new();
    for status in ready.iter().filter(|f| f.tag == b'S') {
        let text = String::from_utf8_lossy(&status.body).into_owned();
        let mut parts = text.split('\0');
        told.insert(
            parts.next().unwrap_or_default().to_owned(),
            parts.next().unwrap_or_default().to_owned(),
        );
    }
    for (name, value) in [
        ("is_superuser", "off"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("session_authorization", "owner"),
        ("application_name", "the test"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("in_hot_standby", "off"),
        ("default_transaction_read_only", "off"),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name} in {told:?}");
    }
    assert!(told.contains_key("TimeZone"));
    for value in told.values() {
        assert!(!value.contains('/') || value.starts_with("Etc/"), "a path: {value}");
    }
    let mut shown = text_rows(&raw.query("SHOW server_version").await);
    assert_eq!(Some(&shown.remove(0).remove(0)), told.get("server_version"));
    // Both agree, and drivers find the number at the start.
    let version = text_rows(&raw.query("SELECT version()").await).remove(0).remove(0);
    assert!(version.starts_with("PostgreSQL 16.6 (Bulkhead "), "{version}");
    assert!(told["server_version"].starts_with("16.6"), "{told:?}");
    assert!(version.contains(&told["server_version"]), "{version} and {told:?}");
    // A change is told.
    let changed = raw.query("SET application_name = 'another'").await;
    assert!(
        changed
            .iter()
            .any(|f| f.tag == b'S' && f.body == b"application_name\0another\0"),
        "{changed:?}"
    );
    assert_eq!(text_rows(&raw.query("SELECT pg_backend_pid() > 0").await), [["t"]]);
    assert_eq!(raw.key.len(), 8, "process number and secret");
}

/// Startup messages that are none.
#[tokio::test]
async fn startup_messages_that_are_none() {
    let mut server = served().await;
    let version = |major: u16, minor: u16| {
        let mut startup = startup_of(&[("user", "owner"), ("database", T)]);
        startup[4..6].copy_from_slice(&major.to_be_bytes());
        startup[6..8].copy_from_slice(&minor.to_be_bytes());
        startup
    };
    let many: Vec<(String, String)> = (0..400).map(|i| (format!("p{i}"), "x".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let large = "x".repeat(20_000);
    for (what, bytes, expected) in [
        ("version 2", version(2, 0), &["08P01", "0A000"][..]),
        ("version 4", version(4, 0), &["08P01", "0A000"]),
        ("no user", startup_of(&[("database", T)]), &["28000", "08P01", "28P01"]),
        (
            "an empty user",
            startup_of(&[("user", ""), ("database", T)]),
            &["28000", "08P01", "28P01"],
        ),
        ("400 parameters", startup_of(&many), &["08P01", "54000"]),
        (
            "20,000 bytes",
            startup_of(&[("user", &large), ("database", T)]),
            &["08P01", "54000"],
        ),
        (
            "replication",
            startup_of(&[("user", "owner"), ("database", T), ("replication", "true")]),
            &["0A000", "08P01", "28P01", ""],
        ),
    ] {
        let mut raw = server.socket().await;
        raw.say(&[bytes]).await;
        let first = raw.frame().await;
        let Some(first) = first else { continue };
        if first.tag == b'R' {
            assert_eq!(what, "replication", "asked for a password");
            continue;
        }
        let mut of = fields(&first);
        let state = of.remove(&'C').unwrap_or_default();
        assert!(expected.contains(&state.as_str()), "{what}: {state} {of:?}");
    }
    // A protocol's minor version that we do not know is negotiated down or refused, never ignored in silence.
    let mut raw = server.socket().await;
    raw.say(&[version(3, 9)]).await;
    let first = raw.frame().await.expect("an answer");
    assert!(matches!(first.tag, b'v' | b'E' | b'R'), "{first:?}");
    // No database: PostgreSQL takes the user's name, and here there is no such tenant.
    let mut raw = server.socket().await;
    raw.say(&[startup_of(&[("user", "owner")])]).await;
    let failed = raw
        .authenticate("x", "dddddddddddddddddddd")
        .await
        .expect_err("no such tenant");
    assert_eq!(code(&failed).as_deref(), Some("28P01"), "{failed:?}");
    server.assert_alive();
}

/// A tenant that holds all of its connections is told so; others are not the worse for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_connections_have_an_end() {
    let mut server = served().await;
    server.create_tenants(&["other"]).await;
    let mut held = Vec::new();
    let mut refused = None;
    for _ in 0..260 {
        match connect(server.port, T, "owner", &password_of("owner")).await {
            Ok(client) => held.push(client),
            Err(e) => {
                refused = Some(state(&e));
                break;
            }
        }
    }
    assert_eq!(refused.as_deref(), Some("53300"), "after {} connections", held.len());
    let other = server.connect("other", "owner").await;
    assert_eq!(one(&other, "SELECT 1").await.as_deref(), Some("1"));
    assert_eq!(one(&held[0], "SELECT 1").await.as_deref(), Some("1"));
    drop(held);
    let begun = Instant::now();
    while connect(server.port, T, "owner", &password_of("owner")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "places are not given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.assert_alive();
}
