//! Frames that are not what they say: each ends the connection with 08P01 and touches nobody else.

use crate::common::raw::{
    Frame, Raw, bind, code, execute, fields, initial, letters, message_of, parse, query, startup_of, sync, text_rows,
};
use crate::common::server::{Server, one};
use crate::{T, served};

/// The connection ends, after an error with this code, without a ReadyForQuery.
async fn refused(raw: &mut Raw, what: &str) -> Vec<Frame> {
    let answer = raw.rest().await;
    assert!(
        !answer.iter().any(|f| f.tag == b'Z'),
        "{what}: ReadyForQuery: {answer:?}"
    );
    assert!(!answer.iter().any(|f| f.tag == b'D'), "{what}: a row: {answer:?}");
    let error = answer
        .iter()
        .find(|f| f.tag == b'E')
        .unwrap_or_else(|| panic!("{what}: no reason: {answer:?}"));
    assert_eq!(
        fields(error).get(&'S').map(String::as_str),
        Some("FATAL"),
        "{what}: {error:?}"
    );
    answer
}

/// A frame that is whole but wrong inside is refused with 08P01, and none of it is carried out. The session ends, or
/// goes on with the next message, of which nothing is missing.
async fn refused_alone(server: &Server, what: &str, bytes: Vec<u8>) {
    let mut raw = server.raw(T, "owner").await;
    raw.say(&[parse("", "SELECT 'prepared'", &[]), sync()]).await;
    raw.until(b'Z').await;
    raw.say(&[bytes, sync(), query("SELECT 'after'")]).await;
    let mut heard = Vec::new();
    while let Some(frame) = raw.frame().await {
        let last = frame.tag == b'C';
        heard.push(frame);
        if last {
            break;
        }
    }
    assert_eq!(code(&heard).as_deref(), Some("08P01"), "{what}: {heard:?}");
    let rows = text_rows(&heard);
    assert!(rows.is_empty() || rows == [["after"]], "{what}: {heard:?}");
    assert_eq!(heard.iter().filter(|f| f.tag == b'E').count(), 1, "{what}: {heard:?}");
}

async fn assert_serves(server: &mut Server) {
    server.assert_alive();
    let client = server.connect(T, "owner").await;
    assert_eq!(one(&client, "SELECT 1").await.as_deref(), Some("1"));
}

/// Nothing but a startup message, then but a password, before the login.
#[tokio::test]
async fn c03_query_before_authentication() {
    let mut server = served().await;
    let early: Vec<(&str, Vec<u8>)> = vec![
        ("Q", query("SELECT 1")),
        ("P", parse("", "SELECT 1", &[])),
        ("B", bind("", "", &[], &[], &[])),
        ("E", message_of(b'E', &[0, 0, 0, 0, 0])),
        ("C", message_of(b'C', b"S\0")),
        ("D", message_of(b'D', b"S\0")),
        ("F", message_of(b'F', &[0; 10])),
        ("d", message_of(b'd', b"x")),
        ("c", message_of(b'c', b"")),
        ("f", message_of(b'f', b"\0")),
        ("S", sync()),
        ("H", message_of(b'H', &[])),
        ("no type", message_of(b'\x7f', b"x")),
    ];
    for (what, bytes) in &early {
        let mut raw = server.socket().await;
        raw.say(&[startup_of(&[("user", "owner"), ("database", T)])]).await;
        let asked = raw.frame().await.expect("the server asks for a password");
        assert_eq!(asked.tag, b'R', "{asked:?}");
        raw.say(&[bytes.clone(), query("SELECT 1")]).await;
        refused(&mut raw, what).await;
    }
    // And in one write with the startup message, before the server has asked.
    for (what, bytes) in &early {
        let mut raw = server.socket().await;
        raw.say(&[startup_of(&[("user", "owner"), ("database", T)]), bytes.clone()])
            .await;
        refused(&mut raw, what).await;
    }
    // The type decides, not the body: a right answer under another type is none.
    for tag in (0..=u8::MAX).filter(|&tag| tag != b'p') {
        let mut raw = server.socket().await;
        raw.say(&[startup_of(&[("user", "owner"), ("database", T)])]).await;
        raw.frame().await.expect("asked");
        let mut bytes = initial("SCRAM-SHA-256", "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        bytes[0] = tag;
        raw.say(&[bytes]).await;
        let answer = raw.rest().await;
        assert_eq!(
            (letters(&answer).as_str(), code(&answer).as_deref()),
            ("E", Some("08P01")),
            "type {tag}: {answer:?}"
        );
    }
    // In the place of the startup message.
    for (what, bytes) in &early {
        let mut raw = server.socket().await;
        raw.say(std::slice::from_ref(bytes)).await;
        let answer = raw.rest().await;
        assert!(answer.iter().all(|f| f.tag == b'E'), "{what}: {answer:?}");
    }
    assert_serves(&mut server).await;
}

/// After a failed login nothing more is answered.
#[tokio::test]
async fn c04_auth_error_then_query() {
    let mut server = served().await;
    server
        .operator()
        .await
        .batch_execute("SELECT bulkhead.create_tenant('asleep', owner => 'owner', password => 'pw-owner')")
        .await
        .expect("made");
    server
        .operator()
        .await
        .batch_execute("SELECT bulkhead.alter_tenant('asleep', state => 'suspended')")
        .await
        .expect("suspended");
    for (tenant, user, password) in [
        (T, "owner", "wrong"),
        (T, "nobody", "x"),
        ("nosuch", "owner", "x"),
        ("bulkhead", "admin", "wrong"),
        ("bulkhead", "owner", "pw-owner"),
    ] {
        let mut raw = server.socket().await;
        raw.say(&[startup_of(&[("user", user), ("database", tenant)])]).await;
        let failed = raw
            .authenticate(password, "abcdefghijklmnopqrst")
            .await
            .expect_err("no login");
        assert_eq!(code(&failed).as_deref(), Some("28P01"), "{tenant}/{user}: {failed:?}");
        raw.say(&[query("SELECT 1")]).await;
        assert!(raw.rest().await.is_empty(), "the connection was closed");
    }
    // Broken SASL messages are other ways to fail.
    for (what, bytes) in [
        ("empty", message_of(b'p', b"")),
        ("no mechanism of ours", message_of(b'p', b"PLAIN\0\0\0\0\x05hello")),
        ("MD5", message_of(b'p', b"md5c7a9d3f2\0")),
        ("no length", message_of(b'p', b"SCRAM-SHA-256\0")),
        (
            "a longer length",
            message_of(b'p', b"SCRAM-SHA-256\0\0\0\xff\xffn,,n=,r=x"),
        ),
        (
            "a negative length",
            message_of(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=,r=x"),
        ),
        ("no nonce", message_of(b'p', b"SCRAM-SHA-256\0\0\0\0\x03n,,")),
        (
            "an authorization id",
            message_of(b'p', b"SCRAM-SHA-256\0\0\0\0\x12n,a=admin,n=,r=abcd"),
        ),
        (
            "no UTF-8",
            message_of(b'p', b"SCRAM-SHA-256\0\0\0\0\x04\xff\xfe\xfd\xfc"),
        ),
        (
            "binding that was not offered",
            message_of(b'p', b"SCRAM-SHA-256-PLUS\0\0\0\0\x08n,,n=,r=x"),
        ),
    ] {
        let mut raw = server.socket().await;
        raw.say(&[startup_of(&[("user", "owner"), ("database", T)])]).await;
        raw.frame().await.expect("asked");
        raw.say(&[bytes, query("SELECT 1")]).await;
        let answer = refused(&mut raw, what).await;
        let state = code(&answer).unwrap_or_default();
        assert!(["28P01", "08P01", "28000"].contains(&state.as_str()), "{what}: {state}");
    }
    // A suspended tenant: the login fails or every statement does; nothing is answered from its rows.
    let mut raw = server.socket().await;
    if raw.login("asleep", "owner", "pw-owner").await.is_ok() {
        assert_eq!(
            code(&raw.query("SELECT count(*) FROM documents").await).as_deref(),
            Some("55000")
        );
    }
    assert_serves(&mut server).await;
}

/// One message is exactly as long as it says.
#[tokio::test]
async fn c06_embedded_second_message() {
    let mut server = served().await;
    let second = query("INSERT INTO documents (title, content) VALUES ('smuggled', 'x')");
    let embedded: Vec<(&str, Vec<u8>)> = vec![
        ("Q", message_of(b'Q', &[&b"SELECT 1\0"[..], &second].concat())),
        ("P", message_of(b'P', &[&b"\0SELECT 1\0\0\0"[..], &second].concat())),
        ("B", message_of(b'B', &[&b"\0\0\0\0\0\0\0\0"[..], &second].concat())),
        ("E", message_of(b'E', &[&b"\0\0\0\0\0"[..], &second].concat())),
        ("D", message_of(b'D', &[&b"S\0"[..], &second].concat())),
        ("C", message_of(b'C', &[&b"S\0"[..], &second].concat())),
        ("S", message_of(b'S', &second)),
        ("H", message_of(b'H', &second)),
        ("two strings in Q", message_of(b'Q', b"SELECT 1\0SELECT 2\0")),
    ];
    for (what, bytes) in embedded {
        refused_alone(&server, what, bytes).await;
    }
    let client = server.connect(T, "owner").await;
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("0")
    );
    assert_serves(&mut server).await;
}

/// A string without its end does not reach into the next message.
#[tokio::test]
async fn c07_string_longer_than_message() {
    let mut server = served().await;
    let cut: Vec<(&str, Vec<u8>)> = vec![
        ("Q of one byte", message_of(b'Q', b"S")),
        ("Q without a byte", message_of(b'Q', b"")),
        ("Q without an end", message_of(b'Q', b"SELECT 1")),
        ("P without an end", message_of(b'P', b"name")),
        ("P with half", message_of(b'P', b"\0SELECT 1")),
        ("P without a count", message_of(b'P', b"\0SELECT 1\0")),
        ("B without an end", message_of(b'B', b"portal")),
        ("D without a name", message_of(b'D', b"S")),
        ("D of nothing", message_of(b'D', b"")),
        ("D of an unknown kind", message_of(b'D', b"X\0")),
        ("C without a name", message_of(b'C', b"P")),
        ("E without an end", message_of(b'E', b"portal")),
        ("E without a count", message_of(b'E', b"portal\0\0")),
    ];
    for (what, bytes) in cut {
        refused_alone(&server, what, bytes).await;
    }
    assert_serves(&mut server).await;
}

/// Lengths below four, negative and enormous, for every type of message.
#[tokio::test]
async fn c09_length_underflow() {
    let mut server = served().await;
    let before = server.resident_bytes();
    for tag in *b"QPBEDCSHFXpdcf\x00\x7f\xff" {
        for length in [-1_i32, 0, 1, 3, i32::MAX, i32::MIN, (64 << 20) + 5] {
            let mut raw = server.raw(T, "owner").await;
            raw.say(&[[&[tag][..], &length.to_be_bytes(), b"abc"].concat()]).await;
            let answer = refused(&mut raw, &format!("{} with length {length}", tag.escape_ascii())).await;
            let state = code(&answer);
            assert!(
                matches!(state.as_deref(), Some("08P01" | "54000")),
                "{tag} {length}: {answer:?}"
            );
        }
    }
    // The same in a password message, and in a startup message, which has no type.
    for length in [-1_i32, 0, 1, 3, 10_001, i32::MAX, i32::MIN] {
        let mut raw = server.socket().await;
        raw.say(&[startup_of(&[("user", "owner"), ("database", T)])]).await;
        raw.frame().await.expect("asked");
        raw.say(&[[b"p", &length.to_be_bytes()[..], b"abc"].concat()]).await;
        refused(&mut raw, &format!("p with length {length}")).await;
        let mut raw = server.socket().await;
        raw.say(&[[&length.to_be_bytes()[..], &[0, 3, 0, 0, 0]].concat()]).await;
        let answer = raw.rest().await;
        assert!(answer.iter().all(|f| f.tag == b'E'), "startup of {length}: {answer:?}");
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 256 << 20, "lengths alone took {grown} bytes");
    assert_serves(&mut server).await;
}

/// Counts that the body does not hold.
#[tokio::test]
async fn c10_counts() {
    let mut server = served().await;
    let parameter = |length: i32| [&b"\0\0\0\0\0\x01"[..], &length.to_be_bytes(), b"abc\0\0"].concat();
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("65,535 formats", message_of(b'B', b"\0\0\xff\xff\0\0")),
        ("65,535 values", message_of(b'B', b"\0\0\0\0\xff\xff")),
        ("65,535 result formats", message_of(b'B', b"\0\0\0\0\0\0\xff\xff")),
        ("65,535 types", message_of(b'P', b"\0SELECT 1\0\xff\xff\0\0")),
        ("a value of 2^31-1 bytes", message_of(b'B', &parameter(i32::MAX))),
        ("a value of -2 bytes", message_of(b'B', &parameter(-2))),
        ("a value of less than it says", message_of(b'B', &parameter(2))),
        ("a result format 7", message_of(b'B', b"\0\0\0\0\0\0\0\x01\0\x07")),
    ];
    for (what, bytes) in wrong {
        let mut raw = server.raw(T, "owner").await;
        raw.say(&[
            parse("", "SELECT 1", &[]),
            bytes,
            execute("", 0),
            sync(),
            query("SELECT 'after'"),
        ])
        .await;
        // A frame that is cut short ends the connection; a wrong format may be an error of the statement.
        let answer = raw.until(b'Z').await;
        let state = code(&answer);
        assert!(
            matches!(state.as_deref(), Some("08P01" | "22023" | "0A000")),
            "{what}: {answer:?}"
        );
    }
    assert_serves(&mut server).await;
}

/// A frame that comes byte by byte is the same frame.
#[tokio::test]
async fn slow_writers_are_understood() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    for byte in query("SELECT 'slowly'") {
        raw.write(&[byte]).await.expect("open");
        tokio::task::yield_now().await;
    }
    let answer = raw.until(b'Z').await;
    assert_eq!(text_rows(&answer), [["slowly"]]);
    // Many at once, in one write.
    raw.say(&(0..50).map(|i| query(&format!("SELECT {i}"))).collect::<Vec<_>>())
        .await;
    for i in 0..50 {
        assert_eq!(text_rows(&raw.until(b'Z').await), [[i.to_string()]]);
    }
}
