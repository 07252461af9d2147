//! The extended protocol: statements, portals, max_rows, Describe, Flush, errors that skip to Sync (row C12).

use crate::common::raw::{
    Raw, bind, close, code, columns, describe, execute, flush, letters, parse, query, sync, text_rows,
};
use crate::{T, served};

const SERIES: &str = "SELECT * FROM generate_series(1, 10) AS g(n)";

/// Rows come in portions; between them the portal is suspended.
#[tokio::test]
async fn portals_with_max_rows() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    raw.say(&[
        parse("s", SERIES, &[]),
        bind("p", "s", &[], &[], &[]),
        execute("p", 4),
        flush(),
    ])
    .await;
    let first = raw.until(b's').await;
    assert_eq!(letters(&first), "12DDDDs");
    raw.say(&[execute("p", 4), flush()]).await;
    let second = raw.until(b's').await;
    assert_eq!(text_rows(&second), [["5"], ["6"], ["7"], ["8"]]);
    raw.say(&[execute("p", 4), sync()]).await;
    let third = raw.until(b'Z').await;
    assert_eq!(letters(&third), "DDCZ");
    assert_eq!(text_rows(&third), [["9"], ["10"]]);
    // The transaction ended at Sync, and its portals with it.
    let gone = raw.extended(&[execute("p", 0)]).await;
    assert_eq!(code(&gone).as_deref(), Some("34000"), "{gone:?}");
    // Within a transaction a portal lives on.
    raw.query("BEGIN").await;
    let opened = raw.extended(&[bind("p", "s", &[], &[], &[]), execute("p", 3)]).await;
    assert_eq!(letters(&opened), "2DDDsZ");
    let more = raw.extended(&[execute("p", 3)]).await;
    assert_eq!(text_rows(&more), [["4"], ["5"], ["6"]]);
    let closed = raw.extended(&[close(b'P', "p"), execute("p", 1)]).await;
    assert_eq!(letters(&closed), "3EZ");
    assert_eq!(closed.last().map(|f| f.body.clone()), Some(b"E".to_vec()));
    raw.query("ROLLBACK").await;
    // Exactly as many as there are: PostgreSQL says suspended, then an empty completion.
    let exact = raw
        .extended(&[bind("", "s", &[], &[], &[]), execute("", 10), execute("", 10)])
        .await;
    assert_eq!(letters(&exact), "2DDDDDDDDDDsCZ");
}

/// A portal's name is taken until its transaction ends.
#[tokio::test]
async fn two_portals_of_one_name() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let twice = raw
        .extended(&[
            parse("s", SERIES, &[]),
            bind("p", "s", &[], &[], &[]),
            bind("p", "s", &[], &[], &[]),
        ])
        .await;
    assert_eq!(letters(&twice), "12EZ");
    assert_eq!(code(&twice).as_deref(), Some("42P03"));
    let again = raw.extended(&[bind("p", "s", &[], &[], &[]), execute("p", 1)]).await;
    assert_eq!(letters(&again), "2DsZ");
}

/// A client that says nothing for as long as it has set itself is let go (C15).
#[tokio::test]
async fn c15_idle_sessions() {
    let server = served().await;
    for (begin, state) in [("SELECT 1", "57P05"), ("BEGIN", "25P03")] {
        let mut raw = server.raw(T, "owner").await;
        raw.query("SET idle_session_timeout = '300ms'; SET idle_in_transaction_session_timeout = '300ms'")
            .await;
        raw.query(begin).await;
        let end = raw.until(b'E').await;
        assert_eq!(code(&end).as_deref(), Some(state), "after {begin}");
    }
}

/// max_rows of 0, -1 and the largest number mean all rows, as a stream.
#[tokio::test]
async fn c12_execute_max_rows() {
    let mut server = served().await;
    let before = server.resident_bytes();
    for max_rows in [0, -1, i32::MIN, i32::MAX] {
        let mut raw = server.raw(T, "owner").await;
        let few = raw
            .extended(&[
                parse("", SERIES, &[]),
                bind("", "", &[], &[], &[]),
                execute("", max_rows),
            ])
            .await;
        assert_eq!(letters(&few), "12DDDDDDDDDDCZ", "max_rows {max_rows}");
        // 10^8 rows: the first come at once, and memory stays where it was while nobody reads.
        let endless = parse("", "SELECT * FROM generate_series(1, 100000000)", &[]);
        raw.say(&[endless, bind("", "", &[], &[], &[]), execute("", max_rows), sync()])
            .await;
        for _ in 0..1_000 {
            let frame = raw.frame().await.expect("rows stream");
            assert!(matches!(frame.tag, b'1' | b'2' | b'D'), "{frame:?}");
        }
        drop(raw);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 400 << 20, "streams took {} MiB", grown >> 20);
    server.assert_alive();
}

/// Describe of a statement and of a portal, before and after Bind.
#[tokio::test]
async fn describe_statements_and_portals() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let sql = "SELECT id, title, $1::int4 AS n FROM documents WHERE title = $2 AND created_at < $3";
    let frames = raw.extended(&[parse("s", sql, &[]), describe(b'S', "s")]).await;
    assert_eq!(letters(&frames), "1tTZ", "{frames:?}");
    let types = &frames[1].body;
    assert_eq!(types[..2], [0, 3]);
    let oids: Vec<u32> = types[2..]
        .chunks(4)
        .map(|c| u32::from_be_bytes(c.try_into().expect("four")))
        .collect();
    assert_eq!(oids, [23, 25, 1184], "types are inferred from their place");
    let shape: Vec<(String, u32, i16)> = columns(&frames[2])
        .into_iter()
        .map(|c| (c.name, c.oid, c.format))
        .collect();
    assert_eq!(
        shape,
        [
            ("id".to_owned(), 2950, 0),
            ("title".to_owned(), 25, 0),
            ("n".to_owned(), 23, 0)
        ]
    );
    let bound = bind(
        "p",
        "s",
        &[0],
        &[Some(b"7"), Some(b"x"), Some(b"2030-01-01")],
        &[1, 0, 1],
    );
    let frames = raw.extended(&[bound, describe(b'P', "p"), execute("p", 0)]).await;
    assert_eq!(letters(&frames), "2TCZ", "{frames:?}");
    let formats: Vec<i16> = columns(&frames[1]).into_iter().map(|c| c.format).collect();
    assert_eq!(formats, [1, 0, 1]);
    // Statements without rows.
    let insert = parse("i", "INSERT INTO documents (title, content) VALUES ($1, $2)", &[]);
    let frames = raw.extended(&[insert, describe(b'S', "i")]).await;
    assert_eq!(letters(&frames), "1tnZ");
    let frames = raw
        .extended(&[
            bind("", "i", &[], &[Some(b"t"), Some(b"c")], &[]),
            describe(b'P', ""),
            execute("", 0),
        ])
        .await;
    assert_eq!(letters(&frames), "2nCZ");
    assert_eq!(frames[2].body, b"INSERT 0 1\0");
    let frames = raw
        .extended(&[
            parse("", "", &[]),
            describe(b'S', ""),
            bind("", "", &[], &[], &[]),
            execute("", 0),
        ])
        .await;
    assert_eq!(letters(&frames), "1tn2IZ");
    let frames = raw
        .extended(&[
            parse("", "BEGIN", &[]),
            describe(b'S', ""),
            bind("", "", &[], &[], &[]),
            execute("", 0),
        ])
        .await;
    assert_eq!(
        (letters(&frames).as_str(), frames.last().map(|f| f.body[0])),
        ("1tn2CZ", Some(b'T'))
    );
    raw.query("ROLLBACK").await;
    for unknown in [describe(b'S', "nosuch"), bind("", "nosuch", &[], &[], &[])] {
        assert_eq!(code(&raw.extended(&[unknown]).await).as_deref(), Some("26000"));
    }
    assert_eq!(
        code(&raw.extended(&[describe(b'P', "nosuch")]).await).as_deref(),
        Some("34000")
    );
}

/// After an error everything up to Sync is skipped, and one ReadyForQuery answers each Sync.
#[tokio::test]
async fn errors_skip_to_sync() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let good = [parse("", "SELECT 1", &[]), bind("", "", &[], &[], &[]), execute("", 0)].concat();
    let bad = parse("", "SELECT nosuch", &[]);
    let frames = raw
        .extended(&[bad.clone(), good.clone(), describe(b'S', ""), close(b'S', "x"), flush()])
        .await;
    assert_eq!(letters(&frames), "EZ");
    let frames = raw.extended(&[good.clone(), bad.clone(), good.clone()]).await;
    assert_eq!(letters(&frames), "12DCEZ");
    raw.say(&[
        bad.clone(),
        sync(),
        good.clone(),
        sync(),
        bad.clone(),
        good.clone(),
        sync(),
        query("SELECT 'alive'"),
    ])
    .await;
    assert_eq!(letters(&raw.until(b'Z').await), "EZ");
    assert_eq!(letters(&raw.until(b'Z').await), "12DCZ");
    assert_eq!(letters(&raw.until(b'Z').await), "EZ");
    assert_eq!(text_rows(&raw.until(b'Z').await), [["alive"]]);
    // An error while rows stream, in either protocol.
    let late = "SELECT 10 / (5 - n) FROM generate_series(1, 10) AS g(n)";
    assert_eq!(code(&raw.query(late).await).as_deref(), Some("22012"));
    assert_eq!(code(&raw.prepared(late, &[], 0).await).as_deref(), Some("22012"));
    // What one Sync closes is one transaction: the insert before the error is undone.
    let insert = [
        parse("", "INSERT INTO documents (title, content) VALUES ('half', 'x')", &[]),
        bind("", "", &[], &[], &[]),
        execute("", 0),
    ]
    .concat();
    let frames = raw.extended(&[insert.clone(), bad.clone()]).await;
    assert_eq!(letters(&frames), "12CEZ", "{frames:?}");
    assert_eq!(text_rows(&raw.query("SELECT count(*) FROM documents").await), [["0"]]);
    let frames = raw.extended(&[insert.clone(), insert]).await;
    assert_eq!(letters(&frames), "12C12CZ");
    assert_eq!(text_rows(&raw.query("SELECT count(*) FROM documents").await), [["2"]]);
    // Sync alone, Flush alone, Terminate.
    raw.say(&[sync(), sync()]).await;
    assert_eq!(letters(&raw.until(b'Z').await), "Z");
    assert_eq!(letters(&raw.until(b'Z').await), "Z");
    raw.say(&[flush(), crate::common::raw::message_of(b'X', b"")]).await;
    assert!(raw.rest().await.is_empty());
}

/// Named statements live until closed; the unnamed one until the next Parse.
#[tokio::test]
async fn statements_by_name() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    assert_eq!(letters(&raw.extended(&[parse("one", "SELECT 1", &[])]).await), "1Z");
    assert_eq!(
        code(&raw.extended(&[parse("one", "SELECT 2", &[])]).await).as_deref(),
        Some("42P05")
    );
    let frames = raw
        .extended(&[close(b'S', "one"), close(b'S', "never"), parse("one", "SELECT 2", &[])])
        .await;
    assert_eq!(letters(&frames), "331Z");
    let frames = raw.extended(&[bind("", "one", &[], &[], &[]), execute("", 0)]).await;
    assert_eq!(text_rows(&frames), [["2"]]);
    raw.extended(&[parse("", "SELECT 3", &[]), parse("", "SELECT 4", &[])])
        .await;
    assert_eq!(
        text_rows(&raw.extended(&[bind("", "", &[], &[], &[]), execute("", 0)]).await),
        [["4"]]
    );
    let listed = text_rows(&raw.query("SELECT name FROM pg_prepared_statements").await);
    assert_eq!(listed, [["one"]]);
    raw.query("DEALLOCATE ALL").await;
    assert_eq!(
        code(&raw.extended(&[bind("", "one", &[], &[], &[])]).await).as_deref(),
        Some("26000")
    );
    assert_eq!(
        code(&raw.extended(&[parse("", "SELECT 1; SELECT 2", &[])]).await).as_deref(),
        Some("42601")
    );
    // Too few, too many values; a type that is declared wrong.
    raw.extended(&[parse("two", "SELECT $1::int + $2::int", &[])]).await;
    for values in [&[Some(&b"1"[..])][..], &[Some(b"1"), Some(b"2"), Some(b"3")]] {
        assert_eq!(
            code(&raw.extended(&[bind("", "two", &[], values, &[])]).await).as_deref(),
            Some("08P01")
        );
    }
    let frames = raw
        .extended(&[bind("", "two", &[], &[Some(b"1"), None], &[]), execute("", 0)])
        .await;
    assert_eq!(text_rows(&frames), [["NULL"]]);
    assert_eq!(
        code(
            &raw.extended(&[bind("", "two", &[], &[Some(b"1"), Some(b"x")], &[])])
                .await
        )
        .as_deref(),
        Some("22P02")
    );
    let short = raw
        .extended(&[bind("", "two", &[1], &[Some(b"123"), Some(b"x")], &[])])
        .await;
    assert!(matches!(code(&short).as_deref(), Some("22P03" | "08P01")), "{short:?}");
}

/// Statements and portals of a session have an end (a small part of C16).
#[tokio::test]
async fn statements_and_portals_have_an_end() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let mut state = None;
    for group in 0..30 {
        let parses: Vec<_> = (0..100)
            .map(|i| parse(&format!("s{group}-{i}"), "SELECT 1", &[]))
            .collect();
        state = code(&raw.extended(&parses).await);
        if state.is_some() {
            break;
        }
    }
    assert_eq!(state.as_deref(), Some("54000"), "3,000 statements");
    raw.query("DEALLOCATE ALL").await;
    raw.query("BEGIN").await;
    raw.extended(&[parse("s", "SELECT 1", &[])]).await;
    let binds: Vec<_> = (0..500).map(|i| bind(&format!("p{i}"), "s", &[], &[], &[])).collect();
    assert_eq!(
        code(&raw.extended(&binds).await).as_deref(),
        Some("54000"),
        "500 portals"
    );
    raw.query("ROLLBACK").await;
    assert_eq!(text_rows(&raw.query("SELECT 1").await), [["1"]]);
    server.assert_alive();
}

/// Several statements in one simple query.
#[tokio::test]
async fn several_statements_in_one_query() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    assert_eq!(
        letters(
            &raw.query("SELECT 1; SELECT 2 WHERE false; SET application_name = 'x'")
                .await
        )
        .replace('S', ""),
        "TDCTCCZ"
    );
    assert_eq!(letters(&raw.query("").await), "IZ");
    assert_eq!(letters(&raw.query(" ; -- nothing\n /* at all */ ;").await), "IZ");
    assert_eq!(letters(&raw.query("SELECT 1; SELECT nosuch; SELECT 3").await), "TDCEZ");
    assert_eq!(
        letters(&raw.query("SELECT 1; SELEC 2").await),
        "EZ",
        "nothing runs of a text that does not parse"
    );
    let insert = "INSERT INTO documents (title, content) VALUES ('x', 'y')";
    raw.query(&format!("{insert}; {insert}; SELECT 1/0")).await;
    assert_eq!(
        text_rows(&raw.query("SELECT count(*) FROM documents").await),
        [["0"]],
        "one transaction"
    );
    let frames = raw
        .query(&format!("BEGIN; {insert}; COMMIT; {insert}; SELECT 1/0"))
        .await;
    assert_eq!(letters(&frames), "CCCCEZ", "{frames:?}");
    assert_eq!(text_rows(&raw.query("SELECT count(*) FROM documents").await), [["1"]]);
    // ReadyForQuery tells where one is.
    let status = |frames: &[crate::common::raw::Frame]| frames.last().map(|f| f.body[0] as char);
    assert_eq!(status(&raw.query("BEGIN").await), Some('T'));
    assert_eq!(status(&raw.query("SELECT nosuch").await), Some('E'));
    let refused = raw.query("SELECT 1").await;
    assert_eq!(
        (code(&refused).as_deref(), status(&refused)),
        (Some("25P02"), Some('E'))
    );
    assert_eq!(status(&raw.query("ROLLBACK").await), Some('I'));
    two_columns_of_one_name(&mut raw).await;
}

async fn two_columns_of_one_name(raw: &mut Raw) {
    let frames = raw.query("SELECT 1, 2, 3 AS a, 4 AS a, 'x'").await;
    assert_eq!(text_rows(&frames), [["1", "2", "3", "4", "x"]]);
    let names: Vec<String> = columns(&frames[0]).into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["?column?", "?column?", "a", "a", "?column?"]);
}
