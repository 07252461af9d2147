//! One table of 1,000,000 rows and 8 columns on Bulkhead and on PostgreSQL in the same run: COPY in, count, aggregates
//! by group, ranges, lookups by key. Both must give the same answers.
//!
//! `cargo bench --bench tables [-- ROWS]`. Needs what tests/clients/requirements.txt names.

mod report;

use std::fmt::Write;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::SinkExt;
use report::common::Seed;
use report::common::reference::Reference;
use report::common::server::{connect, password_of, rows};
use report::{Words, create_tenants, machine, server, spread};
use tokio_postgres::Client;

const SEED: u64 = 20_240_229;
const ROWS: u64 = 1_000_000;
const ROUNDS: usize = 5;
/// Lookups of a round, one after the other.
const LOOKUPS: u64 = 2_000;
const TENANT: &str = "tables";
/// Of a message of COPY.
const PART_BYTES: usize = 64 << 10;

const CREATE: &str = "CREATE TABLE sale (id bigint PRIMARY KEY, customer integer NOT NULL, region text NOT NULL, \
                      product text NOT NULL, quantity integer NOT NULL, price numeric(10, 2) NOT NULL, \
                      sold timestamptz NOT NULL, note text)";
const REGIONS: [&str; 8] = [
    "north", "south", "east", "west", "centre", "islands", "abroad", "online",
];

const QUERIES: &[(&str, &str)] = &[
    ("count(*)", "SELECT count(*) FROM sale"),
    (
        "sum, avg, min, max",
        "SELECT sum(quantity), avg(quantity), min(sold), max(sold) FROM sale",
    ),
    (
        "GROUP BY 8 regions",
        "SELECT region, count(*), sum(quantity) FROM sale GROUP BY region ORDER BY region",
    ),
    (
        "GROUP BY 2,000 products",
        "SELECT product, count(*), sum(price) FROM sale GROUP BY product ORDER BY sum(price) DESC, product LIMIT 10",
    ),
    (
        "count of a range of 1 %",
        "SELECT count(*), sum(price) FROM sale WHERE sold >= '2024-06-01' AND sold < '2024-06-05'",
    ),
    (
        "text LIKE over all",
        "SELECT count(*) FROM sale WHERE note LIKE '%abc%'",
    ),
    (
        "range of 1,000 keys",
        "SELECT count(*), sum(quantity) FROM sale WHERE id BETWEEN 500000 AND 500999",
    ),
    (
        "top 10 of all",
        "SELECT id, price FROM sale ORDER BY price DESC, id LIMIT 10",
    ),
];

/// The rows in COPY's text form, cut at lines.
fn generate(count: u64) -> Vec<Bytes> {
    let mut seed = Seed(SEED);
    let mut words = Words::new(SEED);
    let notes: Vec<String> = (0..1_000).map(|_| words.text(6)).collect();
    let products: Vec<String> = (0..2_000).map(|i| format!("product-{i:04}")).collect();
    let mut parts = Vec::new();
    let mut part = String::new();
    for id in 1..=count {
        let sold = seed.below(366 * 86_400);
        let (day, second) = (sold / 86_400, sold % 86_400);
        let note = if seed.below(10) == 0 { "\\N" } else { seed.pick(&notes) };
        let cents = seed.below(1_000_000);
        writeln!(
            part,
            "{id}\t{}\t{}\t{}\t{}\t{}.{:02}\t{} {:02}:{:02}:{:02}+00\t{note}",
            seed.below(50_000),
            seed.pick(&REGIONS),
            seed.pick(&products),
            1 + seed.below(20),
            cents / 100,
            cents % 100,
            date(day),
            second / 3_600,
            second / 60 % 60,
            second % 60,
        )
        .expect("a string can be written");
        if part.len() >= PART_BYTES {
            parts.push(Bytes::from(std::mem::take(&mut part)));
        }
    }
    parts.push(Bytes::from(part));
    parts
}

/// A day of the leap year 2024, from 0.
fn date(mut day: u64) -> String {
    for (month, length) in [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
        if day < length {
            return format!("2024-{:02}-{:02}", month + 1, day + 1);
        }
        day -= length;
    }
    unreachable!("a year has 366 days")
}

async fn copy_in(client: &Client, parts: &[Bytes]) -> Duration {
    client
        .batch_execute(&format!("DROP TABLE IF EXISTS sale; {CREATE}"))
        .await
        .expect("created");
    let begun = Instant::now();
    let sink = client.copy_in("COPY sale FROM STDIN").await.expect("COPY begins");
    let mut sink = pin!(sink);
    for part in parts {
        sink.send(part.clone()).await.expect("sent");
    }
    sink.finish().await.expect("all rows");
    begun.elapsed()
}

/// Milliseconds of each round, and what it answered.
async fn timed(client: &Client, sql: &str) -> (f64, Vec<Vec<String>>) {
    let begun = Instant::now();
    let answer = rows(client, sql).await;
    (begun.elapsed().as_secs_f64() * 1e3, answer)
}

/// Microseconds of a lookup by key, prepared, of keys that the seed picks.
async fn lookups(client: &Client, count: u64, seed: &mut Seed) -> f64 {
    let sql = "SELECT customer, region, product, quantity, note FROM sale WHERE id = $1";
    let statement = client.prepare(sql).await.expect("prepared");
    let begun = Instant::now();
    for _ in 0..LOOKUPS {
        let id = i64::try_from(1 + seed.below(count)).expect("few rows");
        let row = client.query_one(&statement, &[&id]).await.expect("one row");
        assert!(row.get::<_, i32>(3) > 0);
    }
    begun.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64
}

fn line(what: &str, ours: &[f64], theirs: &[f64], unit: &str) {
    let (a, least_a, most_a) = spread(ours.iter().copied());
    let (b, least_b, most_b) = spread(theirs.iter().copied());
    println!(
        "  {what:<26} | {a:>10.2} ({least_a:.2} to {most_a:.2}) | {b:>10.2} ({least_b:.2} to {most_b:.2}) | {unit} | {:.2}",
        b / a
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let count = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(ROWS);
    let (mut server, dir) = server("bench-tables");
    machine(&dir.0);
    create_tenants(&server, &[TENANT.to_owned()]).await;
    let reference = Reference::start(true).expect("PostgreSQL of the package pgserver");
    reference.database(TENANT).await;
    let parts = generate(count);
    println!(
        "seed {SEED}; {count} rows of 8 columns, {} MiB as text; median of {ROUNDS} rounds (least to most), the two \
         servers in turns; PostgreSQL 16 with synchronous_commit=on, fsync=on, shared_buffers 1 GB, work_mem 64 MB",
        parts.iter().map(Bytes::len).sum::<usize>() >> 20
    );
    let login = async |port| {
        connect(port, TENANT, "owner", &password_of("owner"))
            .await
            .expect("logged in")
    };
    let (ours, theirs) = (login(server.port).await, login(reference.port).await);
    println!(
        "  {:<26} | Bulkhead | PostgreSQL | unit | times as fast as PostgreSQL",
        "what"
    );

    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(copy_in(&ours, &parts).await.as_secs_f64());
        b.push(copy_in(&theirs, &parts).await.as_secs_f64());
    }
    line("COPY in", &a, &b, "s");
    let (first, _) = timed(&ours, QUERIES[2].1).await;
    let (other, _) = timed(&theirs, QUERIES[2].1).await;
    line("GROUP BY right after COPY", &[first], &[other], "ms");
    for client in [&ours, &theirs] {
        client.batch_execute("VACUUM ANALYZE sale").await.expect("vacuumed");
    }
    for (what, sql) in QUERIES {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mine, mut answer) = timed(&ours, sql).await;
            let (yours, mut expected) = timed(&theirs, sql).await;
            // avg of integers has more digits in PostgreSQL than mean anything.
            for row in answer.iter_mut().chain(&mut expected) {
                row.iter_mut().for_each(|v| v.truncate(24));
            }
            assert_eq!(answer, expected, "{sql}");
            a.push(mine);
            b.push(yours);
        }
        line(what, &a, &b, "ms");
    }
    let mut seed = Seed(SEED);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(lookups(&ours, count, &mut seed).await);
        b.push(lookups(&theirs, count, &mut seed).await);
    }
    line("lookup by key", &a, &b, "us");
    println!(
        "server's resident memory at the end: {} MiB",
        server.resident_bytes() >> 20
    );
    server.assert_alive();
}
