//! SQL cursors over a socket: DECLARE, FETCH, MOVE, CLOSE.

use crate::common::raw::{Raw, bind, code, columns, describe, execute, letters, parse, text_rows};
use crate::{T, served};

async fn rows(raw: &mut Raw, sql: &str) -> Vec<String> {
    let frames = raw.query(sql).await;
    assert_eq!(code(&frames), None, "{sql}: {frames:?}");
    text_rows(&frames).concat()
}

async fn fails(raw: &mut Raw, sql: &str) -> String {
    code(&raw.query(sql).await).unwrap_or_else(|| panic!("{sql} did not fail"))
}

/// A cursor runs while it is fetched from: the first of 10^8 rows come at once, whatever comes after them.
#[tokio::test]
async fn a_cursor_is_lazy() {
    let mut server = served().await;
    let before = server.resident_bytes();
    let mut raw = server.raw(T, "owner").await;
    raw.query("BEGIN").await;
    raw.query("DECLARE c CURSOR FOR SELECT 100 / (100000 - n) FROM generate_series(1, 100000000) AS g(n)")
        .await;
    assert_eq!(rows(&mut raw, "FETCH 3 FROM c").await, ["0", "0", "0"]);
    assert_eq!(rows(&mut raw, "FETCH FORWARD 2 IN c").await, ["0", "0"]);
    let moved = raw.query("MOVE 1000 c").await;
    assert_eq!(moved[0].body, b"MOVE 1000\0");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "a cursor took {} MiB", grown >> 20);
    // What fails far behind fails when it is reached.
    assert_eq!(fails(&mut raw, "MOVE ALL c").await, "22012");
    assert_eq!(fails(&mut raw, "FETCH c").await, "25P02");
    raw.query("ROLLBACK").await;
    server.assert_alive();
}

/// Cursors live in their session and their transaction, unless they are held.
#[tokio::test]
async fn cursors_end_with_their_transaction() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let mut other = server.raw(T, "owner").await;
    assert_eq!(fails(&mut raw, "DECLARE c CURSOR FOR SELECT 1").await, "25P01");
    raw.query("BEGIN").await;
    let declared = raw
        .query("DECLARE c NO SCROLL CURSOR FOR SELECT * FROM generate_series(1, 5)")
        .await;
    assert_eq!(declared[0].body, b"DECLARE CURSOR\0");
    raw.query("DECLARE h BINARY CURSOR WITH HOLD FOR SELECT n::int4 FROM generate_series(1, 5) AS g(n)")
        .await;
    assert_eq!(rows(&mut raw, "FETCH 2 FROM c").await, ["1", "2"]);
    assert_eq!(
        text_rows(
            &raw.query("SELECT name, is_holdable, is_binary, is_scrollable FROM pg_cursors ORDER BY 1")
                .await
        ),
        [["c", "f", "f", "f"], ["h", "t", "t", "f"]]
    );
    // Another session has none of them.
    assert!(rows(&mut other, "SELECT name FROM pg_cursors").await.is_empty());
    assert_eq!(fails(&mut other, "FETCH ALL FROM c").await, "34000");
    assert_eq!(fails(&mut other, "CLOSE h").await, "34000");
    assert_eq!(fails(&mut raw, "DECLARE c CURSOR FOR SELECT 1").await, "42P03");
    raw.query("ROLLBACK").await;
    assert_eq!(fails(&mut raw, "FETCH c").await, "34000");
    assert_eq!(fails(&mut raw, "FETCH h").await, "34000");
    // Held: it outlives the commit, its rows are in binary form, and a later rollback leaves it alone.
    raw.query("BEGIN").await;
    raw.query("DECLARE h BINARY CURSOR WITH HOLD FOR SELECT n::int4 FROM generate_series(1, 5) AS g(n)")
        .await;
    raw.query("FETCH 1 FROM h").await;
    raw.query("COMMIT").await;
    let frames = raw.query("FETCH 2 FROM h").await;
    assert_eq!(columns(&frames[0])[0].format, 1);
    assert_eq!(frames[1].body, [0, 1, 0, 0, 0, 4, 0, 0, 0, 2]);
    raw.query("BEGIN").await;
    raw.query("ROLLBACK").await;
    assert_eq!(raw.query("MOVE ALL IN h").await[0].body, b"MOVE 2\0");
    assert_eq!(raw.query("CLOSE h").await[0].body, b"CLOSE CURSOR\0");
    assert_eq!(fails(&mut raw, "CLOSE h").await, "34000");
    // Outside of a transaction a held one is its own.
    raw.query("DECLARE h CURSOR WITH HOLD FOR VALUES (1), (2)").await;
    assert_eq!(rows(&mut raw, "FETCH ALL h").await, ["1", "2"]);
    assert_eq!(raw.query("CLOSE ALL").await[0].body, b"CLOSE CURSOR ALL\0");
    assert!(rows(&mut raw, "SELECT name FROM pg_cursors").await.is_empty());
    // A savepoint takes those declared after it along.
    raw.query("BEGIN").await;
    raw.query("DECLARE a CURSOR FOR SELECT 1").await;
    raw.query("SAVEPOINT s").await;
    raw.query("DECLARE b CURSOR FOR SELECT 2").await;
    raw.query("ROLLBACK TO s").await;
    assert_eq!(rows(&mut raw, "FETCH a").await, ["1"]);
    assert_eq!(fails(&mut raw, "FETCH b").await, "34000");
    raw.query("ROLLBACK").await;
    // WHERE CURRENT OF names a cursor too, and none is another session's.
    let update = "UPDATE documents SET title = 'x' WHERE CURRENT OF a";
    assert_eq!(fails(&mut raw, update).await, "34000");
}

/// Forward and backward, and what cannot go backward.
#[tokio::test]
async fn scrolling() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    raw.query("BEGIN").await;
    raw.query("DECLARE c SCROLL CURSOR FOR SELECT * FROM generate_series(1, 5)")
        .await;
    for (sql, expected) in [
        ("FETCH LAST c", &["5"][..]),
        ("FETCH PRIOR FROM c", &["4"]),
        ("FETCH BACKWARD 2 FROM c", &["3", "2"]),
        ("FETCH ABSOLUTE 4 c", &["4"]),
        ("FETCH RELATIVE -1 c", &["3"]),
        ("FETCH 0 c", &["3"]),
        ("FETCH -1 c", &["2"]),
        ("FETCH BACKWARD ALL c", &["1"]),
        ("FETCH NEXT c", &["1"]),
        ("FETCH FORWARD ALL c", &["2", "3", "4", "5"]),
        ("FETCH c", &[]),
        ("FETCH FIRST c", &["1"]),
    ] {
        assert_eq!(rows(&mut raw, sql).await, expected, "{sql}");
    }
    raw.query("SAVEPOINT s").await;
    raw.query("DECLARE f NO SCROLL CURSOR FOR SELECT 1").await;
    assert_eq!(fails(&mut raw, "FETCH PRIOR f").await, "55000");
    raw.query("ROLLBACK TO s").await;
    for (sql, state) in [
        ("FETCH SIDEWAYS c x", "42601"),
        ("FETCH", "42601"),
        ("DECLARE d SCROLL NO SCROLL CURSOR FOR SELECT 1", "42P11"),
        ("DECLARE d CURSOR FOR DELETE FROM documents", "42601"),
        ("DECLARE d CURSOR FOR", "42601"),
        ("DECLARE d CURSOR FOR SELECT * FROM nosuch", "42P01"),
        ("DECLARE d CURSOR FOR SELECT $1", "42P02"),
    ] {
        assert_eq!(fails(&mut raw, sql).await, state, "{sql}");
        raw.query("ROLLBACK TO s").await;
    }
}

/// FETCH in the extended protocol: described before it runs, in portions, in binary form if that is asked for.
#[tokio::test]
async fn fetch_over_the_extended_protocol() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    raw.query("BEGIN").await;
    let begin = raw
        .extended(&[
            parse(
                "",
                "DECLARE c CURSOR FOR SELECT n::int4 AS n FROM generate_series(1, 9) AS g(n)",
                &[],
            ),
            bind("", "", &[], &[], &[]),
            describe(b'P', ""),
            execute("", 0),
        ])
        .await;
    assert_eq!(letters(&begin), "12nCZ");
    let fetched = raw
        .extended(&[
            parse("f", "FETCH 4 FROM c", &[]),
            describe(b'S', "f"),
            bind("", "f", &[], &[], &[1]),
            execute("", 0),
        ])
        .await;
    assert_eq!(letters(&fetched), "1tT2DDDDCZ");
    assert_eq!(columns(&fetched[2])[0].oid, 23);
    assert_eq!(fetched[4].body, [0, 1, 0, 0, 0, 4, 0, 0, 0, 1]);
    // Again, and in portions of a portal.
    let portions = raw
        .extended(&[bind("p", "f", &[], &[], &[]), execute("p", 3), execute("p", 3)])
        .await;
    assert_eq!(letters(&portions), "2DDDsDCZ");
    assert_eq!(text_rows(&portions), [["5"], ["6"], ["7"], ["8"]]);
    assert_eq!(rows(&mut raw, "FETCH ALL c").await, ["9"]);
    // A cursor of SQL is described as a portal.
    let described = raw.extended(&[describe(b'P', "c")]).await;
    assert_eq!(letters(&described), "TZ");
    assert_eq!(columns(&described[0])[0].name, "n");
    // Prepared where there was such a cursor and run where there is none.
    raw.query("COMMIT").await;
    let gone = raw.extended(&[bind("", "f", &[], &[], &[]), execute("", 0)]).await;
    assert_eq!(code(&gone).as_deref(), Some("34000"));
}
