//! Statements that run: cancel, timeout, clients that vanish, a stop in the middle.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use crate::common::Seed;
use crate::common::raw::{Raw, bind, cancel, code, execute, parse, query, sync, text_rows};
use crate::common::server::{Server, one};
use crate::{T, served};

const ENDLESS: &str = "SELECT * FROM generate_series(1, 100000000)";
const BUSY: &str =
    "SELECT count(*) FROM generate_series(1, 200000) AS a(n), generate_series(1, 200000) AS b(m) WHERE n % 7 = m % 11";

/// Joins that look at pairs for hours and find none, so that no row is ever produced between two looks.
const BARREN: [&str; 3] = [
    "SELECT count(*) FROM generate_series(1, 2000000) AS a(n), generate_series(1, 2000000) AS b(m) WHERE n > m + 9000000",
    "SELECT count(*) FROM generate_series(1, 200000) AS a(n), generate_series(1, 200000) AS b(m) \
     WHERE n % 7 = m % 7 AND n + m < 0",
    "SELECT count(*) FROM generate_series(1, 500000) AS a(n) \
     WHERE EXISTS (SELECT 1 FROM generate_series(1, 500000) AS b(m) WHERE n % 7 = m % 7 AND n > m + 9000000)",
];

async fn send_cancel(server: &Server, key: &[u8]) {
    let mut other = server.socket().await;
    other.write(&cancel(key)).await.expect("open");
    assert!(other.until_closed().await.is_empty(), "a cancel request gets no answer");
}

/// Reads rows, but only from now and then on, until the statement's end.
async fn to_ready(raw: &mut Raw) -> Option<String> {
    let mut state = None;
    loop {
        let frame = raw.frame().await.expect("the session lives on");
        match frame.tag {
            b'E' => state = code(&[frame]),
            b'Z' => return state,
            _ => {}
        }
    }
}

/// A cancel ends a statement while its rows stream, in both protocols, and leaves the session usable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_while_rows_stream() {
    let mut server = served().await;
    for extended in [false, true] {
        let mut raw = server.raw(T, "owner").await;
        let key = raw.key.clone();
        if extended {
            raw.say(&[
                parse("", ENDLESS, &[]),
                bind("", "", &[], &[], &[]),
                execute("", 0),
                sync(),
            ])
            .await;
        } else {
            raw.say(&[query(ENDLESS)]).await;
        }
        for _ in 0..100 {
            raw.frame().await.expect("rows stream");
        }
        send_cancel(&server, &key).await;
        assert_eq!(
            to_ready(&mut raw).await.as_deref(),
            Some("57014"),
            "extended: {extended}"
        );
        assert_eq!(text_rows(&raw.query("SELECT 'alive'").await), [["alive"]]);
        // With nothing running it does nothing, to this session or to its next statement.
        send_cancel(&server, &key).await;
        assert_eq!(text_rows(&raw.query("SELECT 'alive'").await), [["alive"]]);
    }
    // While it computes and no row is out.
    let mut raw = server.raw(T, "owner").await;
    let key = raw.key.clone();
    raw.say(&[query(BUSY)]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    send_cancel(&server, &key).await;
    assert_eq!(to_ready(&mut raw).await.as_deref(), Some("57014"));
    server.assert_alive();
}

/// A wrong secret, another's process number and rubbish cancel nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_needs_the_secret() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let key = raw.key.clone();
    raw.say(&[query("SELECT count(*) FROM generate_series(1, 3000000)")])
        .await;
    for flip in 0..8 {
        let mut wrong = key.clone();
        wrong[flip] ^= 1;
        send_cancel(&server, &wrong).await;
    }
    for rubbish in [&b""[..], b"abc", &[0; 8], &[0xff; 8], &[7; 300]] {
        send_cancel(&server, rubbish).await;
    }
    assert_eq!(text_rows(&raw.until(b'Z').await), [["3000000"]]);
    server.assert_alive();
}

/// statement_timeout ends what runs longer, also while rows stream to a client that reads slowly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_timeout() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    raw.query("SET statement_timeout = '300ms'").await;
    for sql in [&[BUSY, ENDLESS], &BARREN[..]].concat() {
        let begun = Instant::now();
        raw.say(&[query(sql)]).await;
        assert_eq!(to_ready(&mut raw).await.as_deref(), Some("57014"), "{sql}");
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{sql} took {:?}",
            begun.elapsed()
        );
        let state = code(&raw.prepared(sql, &[], 1).await);
        assert_eq!(state.as_deref(), Some("57014"), "prepared: {sql}");
    }
    assert_eq!(text_rows(&raw.query("SELECT 'alive'").await), [["alive"]]);
    // SET LOCAL ends with its transaction.
    raw.query("RESET statement_timeout").await;
    let normal = text_rows(&raw.query("SHOW statement_timeout").await);
    raw.query("BEGIN").await;
    raw.query("SET LOCAL statement_timeout = '123ms'").await;
    assert_eq!(text_rows(&raw.query("SHOW statement_timeout").await), [["123ms"]]);
    raw.query("COMMIT").await;
    assert_eq!(text_rows(&raw.query("SHOW statement_timeout").await), normal);
    server.assert_alive();
}

/// Rows of one interrupted statement.
const ROWS: usize = 60;

/// What is answered about a write is true: an error means that nothing was written, even if a cancel or a timeout
/// comes while it is being committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_write_is_not_written() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let key = raw.key.clone();
    let mut seed = Seed(26);
    // Many rows, so that there is something to interrupt on a fast machine, too.
    let rows = |title: &str| {
        format!(
            "INSERT INTO documents (title, content) SELECT '{title}', 'x' || n FROM generate_series(1, {ROWS}) t(n)"
        )
    };
    raw.query(&rows("first")).await;
    let begun = Instant::now();
    raw.query(&rows("second")).await;
    let usual = begun.elapsed().as_micros() as u64;
    let mut written = vec!["first".to_owned(); ROWS];
    written.extend(vec!["second".to_owned(); ROWS]);
    let mut interrupted = 0;
    for i in 0..90 {
        let insert = rows(&i.to_string());
        let messages = match i % 3 {
            0 => query(&insert),
            1 => query(&format!("{insert} RETURNING title")),
            _ => {
                raw.query("BEGIN").await;
                raw.query(&insert).await;
                query("COMMIT")
            }
        };
        // Around the time that it takes.
        let wait = seed.below(usual * 3 / 2);
        if i % 2 == 0 {
            raw.say(&[messages]).await;
            tokio::time::sleep(Duration::from_micros(wait)).await;
            send_cancel(&server, &key).await;
        } else {
            raw.query(&format!("SET statement_timeout = {}", wait / 1_000 + 1))
                .await;
            raw.say(&[messages]).await;
        }
        let answer = raw.until(b'Z').await;
        match code(&answer).as_deref() {
            None => written.extend(vec![i.to_string(); ROWS]),
            Some("57014") => interrupted += 1,
            Some(other) => panic!("{i}: {other}"),
        }
        raw.query("ROLLBACK").await;
        raw.query("RESET statement_timeout").await;
    }
    let mut there: Vec<String> = text_rows(&raw.query("SELECT title FROM documents").await).concat();
    there.sort_unstable();
    written.sort_unstable();
    assert_eq!(there, written);
    assert!(interrupted > 0, "nothing was interrupted: the test tests nothing");
    println!("{} written, {interrupted} interrupted", written.len());
    // An error in RETURNING undoes the write, too.
    let frames = raw
        .query("INSERT INTO documents (title, content) VALUES ('half', 'x') RETURNING 1 / (length(title) - 4)")
        .await;
    assert_eq!(code(&frames).as_deref(), Some("22012"), "{frames:?}");
    let half = "SELECT count(*) FROM documents WHERE title = 'half'";
    assert_eq!(text_rows(&raw.query(half).await), [["0"]]);
    server.assert_alive();
}

/// A client that vanishes takes its statement with it, and what it had not committed is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_vanish() {
    let mut server = served().await;
    for i in 0..20 {
        let mut raw = server.raw(T, "owner").await;
        let sql = if i % 2 == 0 { ENDLESS } else { BUSY };
        raw.say(&[
            query("BEGIN"),
            query("INSERT INTO documents (title, content) VALUES ('never', 'committed')"),
            query(sql),
        ])
        .await;
        raw.until(b'Z').await;
        drop(raw);
    }
    let client = server.connect(T, "owner").await;
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("0")
    );
    // Twenty statements of nobody would hold both cores for minutes; they end.
    let begun = Instant::now();
    loop {
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap_or_default();
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            fields.nth(11).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0)
        };
        let before = ticks();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if ticks() - before < 10 {
            break; // under a fifth of one core
        }
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "statements of clients that left go on"
        );
    }
    server.assert_alive();
}

/// A statement that computes without a pause holds up neither its neighbours nor a cancel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_computes_lets_others_work() {
    let mut server = served().await;
    let mut busy = Vec::new();
    for sql in BARREN.iter().cycle().take(6) {
        let mut raw = server.raw(T, "owner").await;
        raw.say(&[query(sql)]).await;
        busy.push(raw);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // More of them run than there are threads, and yet somebody can log in and ask.
    let client = server.connect(T, "owner").await;
    assert_eq!(one(&client, "SELECT 'there'").await.as_deref(), Some("there"));
    for raw in &mut busy {
        let key = raw.key.clone();
        send_cancel(&server, &key).await;
        assert_eq!(to_ready(raw).await.as_deref(), Some("57014"));
    }
    server.assert_alive();
}

/// SIGTERM lets what runs end within its bound, tells idle sessions, and exits with 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop() {
    let mut server = served().await;
    let mut idle = server.raw(T, "owner").await;
    let mut busy = server.raw(T, "owner").await;
    busy.say(&[query("SELECT count(*) FROM generate_series(1, 2000000)")])
        .await;
    let silent = server.socket().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let status = tokio::task::block_in_place(|| server.stop());
    assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&server.output()));
    let answer = busy.rest().await;
    let finished = text_rows(&answer) == [["2000000"]];
    assert!(
        finished || matches!(code(&answer).as_deref(), Some("57P01" | "57014")),
        "{answer:?}"
    );
    let told = idle.rest().await;
    assert!(told.is_empty() || code(&told).as_deref() == Some("57P01"), "{told:?}");
    let mut silent = silent.into_stream();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    server.again();
    assert_eq!(
        one(&server.connect(T, "owner").await, "SELECT 1").await.as_deref(),
        Some("1")
    );
}
