//! Bad input: each piece gets a message that says which limit or setting, the right SQLSTATE, and nothing is lost.

use crate::common::raw::{bind, code, execute, fields, message_of, parse, text_rows};
use crate::common::server::{connect, fails, one, password_of, state};
use crate::{T, served};

const INSERT: &str = "INSERT INTO documents (title, content) VALUES ($1, $2)";

/// The error says something to go by.
fn assert_helps(frames: &[crate::common::raw::Frame], expected: &str, words: &[&str]) {
    let error = frames
        .iter()
        .find(|f| f.tag == b'E')
        .unwrap_or_else(|| panic!("no error but {frames:?}"));
    let of = fields(error);
    assert_eq!(of[&'C'], expected, "{of:?}");
    let all = of.values().cloned().collect::<Vec<_>>().join(" ").to_lowercase();
    for word in words {
        assert!(all.contains(word), "no {word:?} in {all}");
    }
    assert!(
        of[&'M'].len() < 2_000,
        "an error repeats its input: {} bytes",
        of[&'M'].len()
    );
}

#[tokio::test]
async fn titles_and_texts_that_are_too_large() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let mebi = "t".repeat(1 << 20);
    let refused = raw.prepared(INSERT, &[Some(mebi.as_bytes()), Some(b"x")], 0).await;
    assert_helps(&refused, "54000", &["title", "65536"]);
    let refused = raw.query(&format!("SELECT ai.ingest('{mebi}', 'x')")).await;
    assert_helps(&refused, "54000", &["title"]);
    let content = "word ".repeat((9 << 20) / 5);
    let refused = raw.prepared(INSERT, &[Some(b"t"), Some(content.as_bytes())], 0).await;
    assert_helps(&refused, "54000", &["content"]);
    let refused = raw
        .query(&format!("SELECT ai.ingest('t', 'x', '{{\"k\": \"{mebi}\"}}')"))
        .await;
    assert_helps(&refused, "54000", &["metadata"]);
    let deep = format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000));
    let refused = raw
        .query(&format!("SELECT ai.ingest('t', 'x', '{{\"k\": {deep}}}')"))
        .await;
    assert!(
        matches!(code(&refused).as_deref(), Some("54001" | "54000" | "22P02")),
        "{refused:?}"
    );
    for sql in [
        format!("SELECT * FROM ai.search('{mebi}')"),
        format!("SELECT ai.rag('{mebi}')"),
        format!("SELECT ai.embed('{mebi}')"),
    ] {
        assert_helps(&raw.query(&sql).await, "54000", &[]);
    }
    let refused = raw.query(&format!("SELECT '{}'", "x".repeat(17 << 20))).await;
    assert_helps(&refused, "54000", &[]);
    assert_eq!(text_rows(&raw.query("SELECT count(*) FROM documents").await), [["0"]]);
    // What is large and allowed is kept whole.
    let large = "All work and no play. ".repeat(2_000);
    let kept = raw.prepared(INSERT, &[Some(b"large"), Some(large.as_bytes())], 0).await;
    assert_eq!(code(&kept), None, "{kept:?}");
    assert_eq!(text_rows(&raw.query("SELECT content FROM documents").await), [[large]]);
    let listed = text_rows(
        &raw.query("SELECT count(*) > 10, count(DISTINCT document_id) FROM chunks")
            .await,
    );
    assert_eq!(listed, [["t", "1"]]);
    server.assert_alive();
}

#[tokio::test]
async fn text_that_is_no_utf8() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    for bytes in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"abc\x80",
    ] {
        let body = [b"SELECT '", bytes, b"'\0"].concat();
        raw.say(&[message_of(b'Q', &body)]).await;
        assert_eq!(
            code(&raw.until(b'Z').await).as_deref(),
            Some("22021"),
            "in a query: {bytes:?}"
        );
        let body = [b"\0SELECT '", bytes, b"'\0\0\0"].concat();
        assert_eq!(
            code(&raw.extended(&[message_of(b'P', &body)]).await).as_deref(),
            Some("22021"),
            "in Parse: {bytes:?}"
        );
        for format in [0, 1] {
            let parts = [
                parse("", INSERT, &[25, 25]),
                bind("", "", &[format], &[Some(bytes), Some(b"x")], &[]),
                execute("", 0),
            ];
            assert_eq!(
                code(&raw.extended(&parts).await).as_deref(),
                Some("22021"),
                "as a parameter: {bytes:?}"
            );
        }
    }
    for format in [0, 1] {
        let parts = [
            parse("", INSERT, &[25, 25]),
            bind("", "", &[format], &[Some(b"a\0b"), Some(b"x")], &[]),
            execute("", 0),
        ];
        assert_eq!(
            code(&raw.extended(&parts).await).as_deref(),
            Some("22021"),
            "NUL in a text"
        );
    }
    for sql in [
        "SELECT E'\\xff'",
        "SELECT E'a\\000b'",
        "SELECT chr(0)",
        "SELECT convert_from('\\xff', 'UTF8')",
    ] {
        let state = code(&raw.query(sql).await);
        assert!(state.is_some(), "{sql} makes text that is none");
    }
    for encoding in ["SJIS", "EUC_JP", "LATIN1", "SQL_ASCII", "nosuch"] {
        let state = code(&raw.query(&format!("SET client_encoding = '{encoding}'")).await);
        assert!(
            matches!(state.as_deref(), Some("22023" | "0A000")),
            "{encoding}: {state:?}"
        );
        let mut other = server.socket().await;
        let startup = [("user", "owner"), ("database", T), ("client_encoding", encoding)];
        let answer = other.login_with(&startup, &password_of("owner")).await;
        if let Ok(ready) = answer {
            let told = ready
                .iter()
                .any(|f| f.tag == b'S' && f.body == b"client_encoding\0UTF8\0");
            assert!(told, "{encoding} was taken");
        }
    }
    assert_eq!(text_rows(&raw.query("SELECT count(*) FROM documents").await), [["0"]]);
    assert_eq!(
        text_rows(&raw.query("SELECT 'Grüße, 世界 🌍', length('🌍')").await),
        [["Grüße, 世界 🌍", "1"]]
    );
    server.assert_alive();
}

#[tokio::test]
async fn wrong_passwords_and_names() {
    let server = served().await;
    let mut texts = std::collections::BTreeSet::new();
    for (tenant, user, password) in [
        (T, "owner", "wrong"),
        (T, "nobody", "wrong"),
        ("nosuch", "owner", "pw-owner"),
        ("bulkhead", "admin", "wrong"),
        (T, "owner", "PW-OWNER"),
        (T, "OWNER", "pw-owner"),
    ] {
        let error = match connect(server.port, tenant, user, password).await {
            Ok(_) => panic!("{user}@{tenant} logged in with {password:?}"),
            Err(error) => error,
        };
        assert_eq!(state(&error), "28P01", "{user}@{tenant}");
        let db = error.as_db_error().expect("an answer");
        texts.insert(format!(
            "{} {:?} {:?}",
            db.message().replace(user, "{user}"),
            db.detail(),
            db.hint()
        ));
        assert_eq!(db.severity(), "FATAL");
    }
    assert_eq!(texts.len(), 1, "they can be told apart: {texts:?}");
    let long = "x".repeat(5_000);
    assert_eq!(
        connect(server.port, T, "owner", &long)
            .await
            .err()
            .map(|e| state(&e))
            .as_deref(),
        Some("28P01")
    );
    // Passwords that people really have.
    let owner = server.connect(T, "owner").await;
    for (i, password) in [
        "with 'quotes' and \\ slashes",
        "mit Umlauten äöü",
        "パスワード",
        " spaces ",
        "🔑",
    ]
    .iter()
    .enumerate()
    {
        let sql = format!("CREATE USER u{i} PASSWORD '{}'", password.replace('\'', "''"));
        owner
            .batch_execute(&sql)
            .await
            .unwrap_or_else(|e| panic!("{password:?}: {e:?}"));
        let client = connect(server.port, T, &format!("u{i}"), password).await;
        assert!(client.is_ok(), "{password:?}: {:?}", client.err());
    }
    assert!(
        fails(&owner, "CREATE USER empty PASSWORD ''").await.starts_with("22"),
        "an empty password"
    );
    assert_eq!(
        one(&owner, "SELECT count(*) FROM bulkhead.users").await.as_deref(),
        Some("6")
    );
}
