//! Commits a second over the wire, beside bare append and fdatasync of as many bytes on the same file system.
//!
//! `cargo bench --bench commits`. Every commit counted here was acknowledged, so it is on disk.

mod report;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use report::common::Seed;
use report::common::server::Server;
use report::{Round, Words, connections, create_tenants, machine, round, server, spread};
use tokio_postgres::{Client, Statement};

const SEED: u64 = 20_240_229;
const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(2);
/// Words of a document: one chunk, some hundred bytes.
const DOCUMENT_WORDS: usize = 16;
const SESSIONS: usize = 64;

const INSERT: &str = "INSERT INTO ai.documents (title, content) VALUES ('a title', $1)";
/// One usage line and its day's sums, and nothing else.
const EMBED: &str = "SELECT ai.embed($1)";

/// Sessions in so many tenants.
struct Case {
    what: &'static str,
    sql: &'static str,
    sessions: usize,
    tenants: usize,
}

/// Appends and syncs blocks of so many bytes, one after the other; blocks a second.
fn bare(path: &Path, bytes: usize, length: Duration) -> f64 {
    let mut seed = Seed(SEED);
    let block: Vec<u8> = (0..bytes).map(|_| seed.below(256) as u8).collect();
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .expect("the directory can be written");
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < length {
        file.write_all(&block).expect("appended");
        file.sync_data().expect("synced");
        count += 1;
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    drop(file);
    let _ = std::fs::remove_file(path);
    rate
}

/// Bytes that the server has sent to the disk since it started, in pages, as the kernel counts them.
fn written(server: &Server) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", server.pid())).unwrap_or_default();
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: "));
    line.and_then(|n| n.parse().ok()).unwrap_or(0)
}

async fn run(clients: &[(Client, Statement)], length: Duration, words: &Mutex<Words>) -> Round {
    round(clients, length, |connection, _| async move {
        let text = words.lock().expect("nobody panicked").text(DOCUMENT_WORDS);
        let (client, statement) = &clients[connection];
        client.query(statement, &[&text]).await.expect("committed");
    })
    .await
}

async fn measure(case: &Case, server: &Server, scratch: &Path, words: &Mutex<Words>) {
    let mut clients = Vec::new();
    for i in 0..case.tenants {
        for client in connections(server, &format!("tenant-{i}"), case.sessions / case.tenants).await {
            let statement = client.prepare(case.sql).await.expect("prepared");
            clients.push((client, statement));
        }
    }
    let before = written(server);
    let warm = run(&clients, Duration::from_secs(1), words).await;
    let bytes = (written(server) - before) / warm.each.len().max(1) as u64;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let bare = bare(scratch, bytes.max(1) as usize, Duration::from_secs(1));
        rounds.push((run(&clients, LENGTH, words).await, bare));
    }
    let (rate, least, most) = spread(rounds.iter().map(|(r, _)| r.rate()));
    let (bare, ..) = spread(rounds.iter().map(|(_, bare)| *bare));
    let (ratio, ..) = spread(rounds.iter().map(|(r, bare)| r.rate() / bare));
    let (half, ..) = spread(rounds.iter().map(|(r, _)| r.quantile(0.5)));
    let (slow, ..) = spread(rounds.iter().map(|(r, _)| r.quantile(0.99)));
    println!(
        "{:<24} {:>3} {:>7} | {rate:>7.0} {:>13} {half:>7.2} {slow:>7.2} | {bytes:>7} {bare:>7.0} | {ratio:>5.2}",
        case.what,
        case.sessions,
        case.tenants,
        format!("{least:.0}-{most:.0}"),
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (mut server, dir) = server("bench-commits");
    machine(&dir.0);
    println!(
        "seed {SEED}; median of {ROUNDS} rounds of {} s; a document has {DOCUMENT_WORDS} words and a vector of 1024 numbers",
        LENGTH.as_secs()
    );
    println!(
        "bare: one thread, append of as many bytes as the server wrote for a commit, then fdatasync, between the rounds"
    );
    let tenants: Vec<String> = (0..SESSIONS).map(|i| format!("tenant-{i}")).collect();
    create_tenants(&server, &tenants).await;
    println!(
        "{:<24} {:>3} {:>7} | {:>7} {:>13} {:>7} {:>7} | {:>7} {:>7} | {:>5}",
        "commit", "n", "tenants", "per s", "range", "p50 ms", "p99 ms", "bytes", "bare/s", "ratio"
    );
    let words = Mutex::new(Words::new(SEED));
    let scratch = dir.0.join("bare");
    for (what, sql) in [("ai.embed, a usage line", EMBED), ("INSERT of a document", INSERT)] {
        for (sessions, tenants) in [(1, 1), (SESSIONS, 1), (SESSIONS, SESSIONS)] {
            let case = Case {
                what,
                sql,
                sessions,
                tenants,
            };
            measure(&case, &server, &scratch, &words).await;
        }
    }
    server.assert_alive();
}
