//! COPY over a socket: both directions, three forms, two protocols; what breaks it, and what is left then.

use crate::common::raw::{
    Frame, Raw, bind, code, describe, execute, fields, letters, message, message_of, parse, query, sync, text_rows,
};
use crate::common::server::{Server, one};
use crate::{T, served};

const IN: &str = "COPY documents (title, content) FROM STDIN";

/// The bytes of all CopyData among them.
fn data(frames: &[Frame]) -> Vec<u8> {
    let data = frames.iter().filter(|f| f.tag == b'd');
    data.flat_map(|f| f.body.clone()).collect()
}

fn text(frames: &[Frame]) -> String {
    String::from_utf8(data(frames)).expect("it is text")
}

/// The tag of the first command among them.
fn tag(frames: &[Frame]) -> String {
    let frame = frames
        .iter()
        .find(|f| f.tag == b'C')
        .unwrap_or_else(|| panic!("{frames:?}"));
    String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()
}

fn copy_data(bytes: &[u8]) -> Vec<u8> {
    message_of(b'd', bytes)
}

/// A simple COPY of these pieces, to its end.
async fn copied(raw: &mut Raw, sql: &str, pieces: &[&[u8]]) -> Vec<Frame> {
    raw.say(&[query(sql)]).await;
    let begun = raw.frame().await.expect("the session lives on");
    if begun.tag != b'G' {
        let mut all = vec![begun];
        all.extend(raw.until(b'Z').await);
        return all;
    }
    let mut messages: Vec<_> = pieces.iter().map(|piece| copy_data(piece)).collect();
    messages.push(message_of(b'c', &[]));
    raw.say(&messages).await;
    raw.until(b'Z').await
}

async fn count(raw: &mut Raw) -> String {
    text_rows(&raw.query("SELECT count(*) FROM documents").await)[0][0].clone()
}

/// What goes out in each form is what PostgreSQL sends, with its messages in its order.
#[tokio::test]
async fn copy_to_stdout() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let values = "SELECT n::int4 AS n, s, b FROM (VALUES (1, 'a,b', true), (2, NULL, false), (3, E'x\\ty\"', NULL)) AS t(n, s, b) ORDER BY n";
    let frames = raw.query(&format!("COPY ({values}) TO STDOUT")).await;
    assert_eq!(letters(&frames), "HdddcCZ");
    assert_eq!(
        frames[0].body,
        [0, 0, 3, 0, 0, 0, 0, 0, 0],
        "text, three columns of text"
    );
    assert_eq!(text(&frames), "1\ta,b\tt\n2\t\\N\tf\n3\tx\\ty\"\t\\N\n");
    assert_eq!(tag(&frames), "COPY 3");
    let frames = raw.query(&format!("COPY ({values}) TO STDOUT WITH CSV HEADER")).await;
    assert_eq!(text(&frames), "n,s,b\n1,\"a,b\",t\n2,,f\n3,\"x\ty\"\"\",\n");
    assert_eq!(tag(&frames), "COPY 3");
    let frames = raw.query(&format!("COPY ({values}) TO STDOUT (FORMAT binary)")).await;
    assert_eq!(letters(&frames), "HddddcCZ");
    assert_eq!(frames[0].body, [1, 0, 3, 0, 1, 0, 1, 0, 1]);
    let first = [
        &b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..],
        b"\0\x03\0\0\0\x04\0\0\0\x01\0\0\0\x03a,b\0\0\0\x01\x01",
    ];
    assert_eq!(frames[1].body, first.concat(), "the header comes with the first row");
    assert_eq!(frames[4].body, [255, 255]);
    // Nothing is something, too.
    let frames = raw.query("COPY (SELECT 1 WHERE false) TO STDOUT BINARY").await;
    assert_eq!(data(&frames), b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff");
    assert_eq!(tag(&frames), "COPY 0");
    // What fails before the first row fails without a row; what fails later ends with its error.
    let failed = raw.query("COPY (SELECT 1/0) TO STDOUT").await;
    assert_eq!(
        (letters(&failed).as_str(), code(&failed).as_deref()),
        ("EZ", Some("22012"))
    );
    let late = "COPY (SELECT 100 / (50000 - n) FROM generate_series(1, 100000) AS g(n)) TO STDOUT";
    let failed = raw.query(late).await;
    assert!(letters(&failed).starts_with("Hdd") && letters(&failed).ends_with("dEZ"));
    assert_eq!(code(&failed).as_deref(), Some("22012"));
    // In one text with others, and in the extended protocol, where Describe knows of no row.
    let several = raw.query("SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3").await;
    assert_eq!(letters(&several), "TDCHdcCTDCZ");
    let extended = raw
        .extended(&[
            parse("s", "COPY (SELECT 7) TO STDOUT", &[]),
            describe(b'S', "s"),
            bind("", "s", &[], &[], &[1]),
            describe(b'P', ""),
            execute("", 1),
        ])
        .await;
    assert_eq!(letters(&extended), "1tn2nHdcCZ");
    assert_eq!(text(&extended), "7\n");
}

/// COPY into documents chunks and embeds as INSERT does, and what comes out goes in again in every form.
#[tokio::test]
async fn documents_out_and_in() {
    let mut server = served().await;
    server.create_tenants(&["umbra"]).await;
    let mut raw = server.raw(T, "owner").await;
    let rows = b"lamps\tLamps burn oil.\t{\"a\": 1}\nboats\tBoats\\nfloat.\t\\N\n";
    let sql = "COPY documents (title, content, metadata) FROM STDIN";
    let frames = copied(&mut raw, sql, &[&rows[..20], &rows[20..]]).await;
    assert_eq!(
        (letters(&frames).as_str(), tag(&frames)),
        ("CZ", "COPY 2".to_owned()),
        "{frames:?}"
    );
    let found = raw.query("SELECT title FROM ai.search('oil lamps', k => 1)").await;
    assert_eq!(text_rows(&found), [["lamps"]]);
    let stored = "SELECT title, content, metadata FROM documents ORDER BY title";
    let expected = text_rows(&raw.query(stored).await);
    assert_eq!(expected[0][1], "Boats\nfloat.");
    assert_eq!(expected[0][2], "{}");
    for options in ["", "CSV HEADER", "BINARY"] {
        let out = data(&raw.query(&format!("COPY documents TO STDOUT {options}")).await);
        let mut other = server.raw("umbra", "owner").await;
        let frames = copied(&mut other, &format!("COPY documents FROM STDIN {options}"), &[&out]).await;
        assert_eq!(tag(&frames), "COPY 2", "{options}: {frames:?}");
        assert_eq!(text_rows(&other.query(stored).await), expected, "{options}");
        other.query("DELETE FROM documents").await;
    }
    // Within a transaction it is part of it.
    raw.query("BEGIN").await;
    assert_eq!(tag(&copied(&mut raw, IN, &[b"more\ttext\n"]).await), "COPY 1");
    assert_eq!(count(&mut raw).await, "3");
    raw.query("ROLLBACK").await;
    assert_eq!(count(&mut raw).await, "2");
    server.assert_alive();
}

/// A broken stream writes nothing, says which line, and leaves a session that goes on.
#[tokio::test]
async fn a_broken_stream_writes_nothing() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let id = "COPY documents (id, title, content) FROM STDIN";
    for (sql, input, state, context) in [
        (
            IN,
            &b"one\tgood\ntwo\n"[..],
            "22P04",
            Some("COPY documents, line 2: \"two\""),
        ),
        (
            IN,
            b"one\tgood\ntwo\tx\ty\n",
            "22P04",
            Some("COPY documents, line 2: \"two\tx\ty\""),
        ),
        (IN, b"one\tgood\ntwo\t\xff\n", "22021", None),
        (IN, b"one\tgood\ntwo\t\\N\n", "23502", None),
        (
            id,
            b"x\tone\tgood\n",
            "22P02",
            Some("COPY documents, line 1, column id: \"x\""),
        ),
        (
            "COPY documents (title, content) FROM STDIN CSV",
            b"one,\"good\n",
            "22P04",
            None,
        ),
        (
            "COPY documents (title, content) FROM STDIN BINARY",
            b"one,good\n",
            "22P04",
            None,
        ),
        (
            "COPY documents (created_at, content) FROM STDIN BINARY",
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x01x\0\0\0\x01x",
            "22P03",
            Some("COPY documents, line 1, column created_at"),
        ),
    ] {
        let frames = copied(&mut raw, sql, &[input]).await;
        assert_eq!(code(&frames).as_deref(), Some(state), "{sql}: {frames:?}");
        assert_eq!(letters(&frames), "EZ");
        if let Some(context) = context {
            let error = frames.iter().find(|f| f.tag == b'E').expect("an error");
            assert_eq!(fields(error).get(&'W').map(String::as_str), Some(context));
        }
        assert_eq!(count(&mut raw).await, "0", "{sql}");
    }
    // The client gives up.
    raw.say(&[query(IN)]).await;
    raw.until(b'G').await;
    raw.say(&[copy_data(b"one\tgood\n"), message_of(b'f', b"no more\0")])
        .await;
    let frames = raw.until(b'Z').await;
    assert_eq!(code(&frames).as_deref(), Some("57014"));
    assert_eq!(message(&frames).as_deref(), Some("COPY from stdin failed: no more"));
    // It asks for something else.
    raw.say(&[query(IN)]).await;
    raw.until(b'G').await;
    raw.say(&[copy_data(b"one\tgood\n"), query("SELECT 1")]).await;
    let frames = raw.until(b'Z').await;
    assert_eq!(code(&frames).as_deref(), Some("08P01"), "{frames:?}");
    // It goes on to send what nobody wants after the error.
    raw.say(&[query(IN)]).await;
    raw.until(b'G').await;
    let mut messages = vec![copy_data(b"bad\n")];
    messages.extend((0..50).map(|_| copy_data(&b"more\tof it\n".repeat(1_000))));
    messages.push(message_of(b'c', &[]));
    raw.say(&messages).await;
    assert_eq!(code(&raw.until(b'Z').await).as_deref(), Some("22P04"));
    assert_eq!(count(&mut raw).await, "0");
    // It leaves.
    let mut gone = server.raw(T, "owner").await;
    gone.say(&[query(IN)]).await;
    gone.until(b'G').await;
    gone.say(&[copy_data(b"one\tgood\n")]).await;
    drop(gone);
    assert_eq!(count(&mut raw).await, "0");
    // In a transaction an error is the transaction's.
    raw.query("BEGIN").await;
    copied(&mut raw, IN, &[b"bad\n"]).await;
    assert_eq!(code(&raw.query("SELECT 1").await).as_deref(), Some("25P02"));
    raw.query("ROLLBACK").await;
    server.assert_alive();
}

/// COPY FROM STDIN in the extended protocol, with a Sync that comes too early as libpq sends it.
#[tokio::test]
async fn copy_in_over_the_extended_protocol() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    for early in [true, false] {
        let mut begin = vec![parse("", IN, &[]), bind("", "", &[], &[], &[]), execute("", 0)];
        begin.push(if early { sync() } else { message_of(b'H', &[]) });
        raw.say(&begin).await;
        assert_eq!(letters(&raw.until(b'G').await), "12G");
        raw.say(&[copy_data(b"a\tb\nc\td"), message_of(b'c', &[]), sync()])
            .await;
        let frames = raw.until(b'Z').await;
        assert_eq!((letters(&frames).as_str(), tag(&frames)), ("CZ", "COPY 2".to_owned()));
        // After an error everything up to Sync is skipped, the rest of the data too.
        raw.say(&begin).await;
        raw.until(b'G').await;
        raw.say(&[copy_data(b"bad\n"), copy_data(b"a\tb\n"), message_of(b'c', &[]), sync()])
            .await;
        let frames = raw.until(b'Z').await;
        assert_eq!(
            (letters(&frames).as_str(), code(&frames).as_deref()),
            ("EZ", Some("22P04"))
        );
    }
    assert_eq!(count(&mut raw).await, "4");
}

/// Neither a COPY that nobody reads nor one that never ends takes memory, and both can be cancelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_bounded_and_can_be_cancelled() {
    let mut server = served().await;
    let before = server.resident_bytes();
    let mut out = server.raw(T, "owner").await;
    let key = out.key.clone();
    out.say(&[query("COPY (SELECT * FROM generate_series(1, 100000000)) TO STDOUT")])
        .await;
    for _ in 0..1_000 {
        out.frame().await.expect("rows stream");
    }
    cancel(&server, &key).await;
    loop {
        let frame = out.frame().await.expect("the session lives on");
        if frame.tag == b'E' {
            assert_eq!(code(&[frame]).as_deref(), Some("57014"));
            break;
        }
    }
    out.until(b'Z').await;
    assert_eq!(text_rows(&out.query("SELECT 'alive'").await), [["alive"]]);
    // A line that does not end is refused before it fills the memory.
    let mut long = server.raw(T, "owner").await;
    long.say(&[query(IN)]).await;
    long.until(b'G').await;
    let piece = copy_data(&vec![b'x'; 1 << 20]);
    for _ in 0..34 {
        long.say(std::slice::from_ref(&piece)).await;
    }
    long.say(&[message_of(b'c', &[])]).await;
    assert_eq!(code(&long.until(b'Z').await).as_deref(), Some("54000"));
    // One that waits for its client is cancelled, too.
    let key = long.key.clone();
    long.say(&[query(IN), copy_data(b"a\tb\n")]).await;
    long.until(b'G').await;
    cancel(&server, &key).await;
    assert_eq!(code(&long.until(b'Z').await).as_deref(), Some("57014"));
    assert_eq!(count(&mut long).await, "0");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 300 << 20, "copies took {} MiB", grown >> 20);
    server.assert_alive();
}

async fn cancel(server: &Server, key: &[u8]) {
    let mut other = server.socket().await;
    other.write(&crate::common::raw::cancel(key)).await.expect("open");
    other.until_closed().await;
}

/// A real driver's own COPY.
#[tokio::test]
async fn a_driver_copies() {
    use futures::{SinkExt, StreamExt};
    let server = served().await;
    let client = server.connect(T, "owner").await;
    let sink = client.copy_in::<_, bytes::Bytes>(IN).await.expect("it begins");
    let mut sink = std::pin::pin!(sink);
    for n in 0..100 {
        sink.send(format!("title {n}\tcontent {n}\n").into())
            .await
            .expect("it takes");
    }
    assert_eq!(sink.finish().await.expect("it ends"), 100);
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("100")
    );
    let stream = client
        .copy_out("COPY (SELECT title FROM documents) TO STDOUT")
        .await
        .expect("it begins");
    let pieces: Vec<_> = stream.collect().await;
    assert_eq!(pieces.len(), 100);
    // One that is dropped halfway writes nothing.
    {
        let sink = client.copy_in::<_, bytes::Bytes>(IN).await.expect("it begins");
        let mut sink = std::pin::pin!(sink);
        sink.send("half\twritten\n".into()).await.expect("it takes");
    }
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("100")
    );
}
