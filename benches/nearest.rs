//! The nearest rows of a tenant's own table over the wire, beside PostgreSQL with pgvector in the same run: recall beside
//! latency and throughput, for prepared statements with binary and text parameters and for plain text; and filters.
//!
//! `cargo bench --bench nearest`. Needs what tests/clients/requirements.txt names. `NEAREST_ROWS=10000,100000`,
//! `NEAREST_ROUNDS=5`, `NEAREST_SECONDS=1` and `NEAREST_CONNECTIONS=1,8` say how much.

mod report;

use std::error::Error;
use std::fmt::Write;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use report::common::reference::Reference;
use report::common::server::{connect, password_of};
use report::{Round, create_tenants, machine, round, server, spread};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

const SEED: u64 = 20_240_601;
const DIMENSIONS: usize = 384;
const K: usize = 10;
const QUERIES: usize = 200;
const TENANT: &str = "nearest";
/// Of a message of COPY.
const PART_BYTES: usize = 256 << 10;
/// Values of the column that filters look at.
const BUCKETS: u64 = 10_000;
/// pgvector's `ef_search` from which one is chosen.
const EFS: [usize; 10] = [10, 20, 30, 40, 60, 80, 120, 160, 240, 400];

const ONE: &str = "SELECT 1";
const NEAREST: &str = "SELECT id FROM item ORDER BY embedding <=> $1 LIMIT 10";
const FILTERED: &str = "SELECT id FROM item WHERE bucket < $2 ORDER BY embedding <=> $1 LIMIT 10";
/// The same by comparing every row that matches: the sum keeps every index out.
const EXACT: &str = "SELECT id FROM item WHERE bucket < $2 ORDER BY (embedding <=> $1) + 0 LIMIT 10";

/// A vector in pgvector's binary form: dimensions, an unused number, and the numbers, all big-endian.
#[derive(Debug)]
struct Vector(Vec<f32>);

impl ToSql for Vector {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u16(u16::try_from(self.0.len())?);
        out.put_u16(0);
        self.0.iter().for_each(|x| out.put_f32(*x));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

/// The same as text.
#[derive(Debug)]
struct Text(String);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A generator of uniform and normal numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        let (a, b) = (self.uniform().max(1e-12), self.uniform());
        ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

struct Query {
    binary: Vector,
    text: Text,
}

struct Data {
    rows: Vec<Vec<f32>>,
    buckets: Vec<i32>,
    queries: Vec<Query>,
}

/// Sixty-four topics, each spread in a space of forty-eight directions that all topics share, of length one.
fn clustered(rows: usize) -> Data {
    let mut numbers = Numbers(SEED);
    let topics: Vec<Vec<f32>> = (0..64).map(|_| numbers.normals(DIMENSIONS)).collect();
    let directions: Vec<Vec<f32>> = (0..48).map(|_| numbers.normals(DIMENSIONS)).collect();
    let mut one = || {
        let mut values: Vec<f32> = topics[numbers.next() as usize % 64].iter().map(|x| x * 0.5).collect();
        for direction in &directions {
            let along = numbers.normal() / 48f32.sqrt() * 0.9;
            values.iter_mut().zip(direction).for_each(|(x, y)| *x += along * y);
        }
        values.iter_mut().for_each(|x| *x += numbers.normal() * 0.2);
        let length = dot(&values, &values).sqrt();
        values.iter_mut().for_each(|x| *x /= length);
        values
    };
    let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| one()).collect();
    let rows: Vec<Vec<f32>> = (0..rows).map(|_| one()).collect();
    let mut numbers = Numbers(SEED + 1);
    Data {
        buckets: rows.iter().map(|_| (numbers.next() % BUCKETS) as i32).collect(),
        rows,
        queries: queries
            .into_iter()
            .map(|values| Query {
                text: Text(text(&values)),
                binary: Vector(values),
            })
            .collect(),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn text(values: &[f32]) -> String {
    let numbers: Vec<String> = values.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// For each query the least cosine that is among the `K` nearest of the rows of buckets below a number, and how many
/// such rows there are, up to `K`.
fn truths(data: &Data, below: i32) -> Vec<(f32, usize)> {
    let truth = |query: &Query| {
        let rows = data
            .rows
            .iter()
            .zip(&data.buckets)
            .filter(|(_, bucket)| **bucket < below);
        let mut all: Vec<f32> = rows.map(|(row, _)| dot(row, &query.binary.0)).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        let count = K.min(all.len());
        (all.get(count.wrapping_sub(1)).copied().unwrap_or(2.0), count)
    };
    data.queries.iter().map(truth).collect()
}

/// Share of the nearest that a statement finds, and the share of rows that it gives at all.
async fn recall(client: &Client, sql: &str, data: &Data, below: i32) -> (f64, f64) {
    let statement = client.prepare(sql).await.expect("prepared");
    let (mut found, mut given, mut wanted) = (0, 0, 0);
    for (query, (least, count)) in data.queries.iter().zip(truths(data, below)) {
        let all = [&query.binary as &(dyn ToSql + Sync), &below];
        let rows = client
            .query(&statement, &all[..statement.params().len()])
            .await
            .expect("found");
        let near = |id: i32| dot(&data.rows[id as usize], &query.binary.0) >= least - 1e-6;
        found += rows.iter().filter(|row| near(row.get(0))).count().min(count);
        given += rows.len();
        wanted += count;
    }
    (found as f64 / wanted.max(1) as f64, given as f64 / wanted.max(1) as f64)
}

async fn fill(client: &Client, data: &Data) -> (f64, f64) {
    let create = format!(
        "DROP TABLE IF EXISTS item; CREATE TABLE item (id integer PRIMARY KEY, bucket integer, embedding vector({DIMENSIONS}))"
    );
    client.batch_execute(&create).await.expect("created");
    let begun = Instant::now();
    let sink = client.copy_in("COPY item FROM STDIN").await.expect("COPY begins");
    let mut sink = pin!(sink);
    let mut part = String::new();
    for (id, (row, bucket)) in data.rows.iter().zip(&data.buckets).enumerate() {
        writeln!(part, "{id}\t{bucket}\t{}", text(row)).expect("a string can be written");
        if part.len() >= PART_BYTES {
            sink.send(Bytes::from(std::mem::take(&mut part))).await.expect("sent");
        }
    }
    sink.send(Bytes::from(part)).await.expect("sent");
    sink.finish().await.expect("all rows");
    let copied = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let index =
        "CREATE INDEX item_near ON item USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 200)";
    client.batch_execute(index).await.expect("an index");
    client
        .batch_execute("CREATE INDEX item_bucket ON item (bucket); ANALYZE item")
        .await
        .expect("an index");
    (copied, begun.elapsed().as_secs_f64())
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Binary,
    Text,
    Simple,
}

/// One case on one server: statements of its connections.
struct Case<'a> {
    clients: &'a [Client],
    statements: Vec<Statement>,
    sql: &'a str,
    how: How,
    below: i32,
}

impl<'a> Case<'a> {
    async fn new(clients: &'a [Client], sql: &'a str, how: How, below: i32) -> Self {
        let mut statements = Vec::new();
        for client in clients {
            statements.push(client.prepare(sql).await.expect("prepared"));
        }
        Self {
            clients,
            statements,
            sql,
            how,
            below,
        }
    }

    async fn round(&self, data: &Data, length: Duration) -> Round {
        let one = |connection: usize, n: u64| async move {
            let query = &data.queries[(n as usize + connection * 13) % data.queries.len()];
            let (client, statement) = (&self.clients[connection], &self.statements[connection]);
            if self.how == How::Simple {
                let sql = self.sql.replace("$1", &format!("'{}'", query.text.0));
                client.simple_query(&sql).await.expect("answered");
                return;
            }
            let vector: &(dyn ToSql + Sync) = match self.how {
                How::Binary => &query.binary,
                _ => &query.text,
            };
            let all = [vector, &self.below];
            client
                .query(statement, &all[..statement.params().len()])
                .await
                .expect("answered");
        };
        round(self.clients, length, one).await
    }
}

fn numbers(name: &str, default: &[usize]) -> Vec<usize> {
    let set = std::env::var(name).unwrap_or_default();
    let set: Vec<usize> = set.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    if set.is_empty() { default.to_vec() } else { set }
}

/// Both servers in turns; prints medians of rounds.
async fn beside(what: &str, cases: [Case<'_>; 2], data: &Data, rounds: usize, length: Duration, said: &str) {
    let mut all: [Vec<Round>; 2] = Default::default();
    for n in 0..=rounds {
        for (case, all) in cases.iter().zip(&mut all) {
            let one = case.round(data, length).await;
            if n > 0 {
                all.push(one); // the first one warms up
            }
        }
    }
    let middle = |rounds: &[Round], of: &dyn Fn(&Round) -> f64| spread(rounds.iter().map(of)).0;
    let line = |rounds: &[Round]| {
        [
            middle(rounds, &|r| r.quantile(0.5) * 1e3),
            middle(rounds, &|r| r.quantile(0.99) * 1e3),
            middle(rounds, &Round::rate),
        ]
    };
    let ([a, b, c], [x, y, z]) = (line(&all[0]), line(&all[1]));
    println!(
        "  {what:<30} {:>2} | {a:>8.0} {b:>8.0} {c:>8.0} | {x:>8.0} {y:>8.0} {z:>8.0} | {:>5.2} {:>5.2} | {said}",
        cases[0].clients.len(),
        x / a,
        c / z
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds = numbers("NEAREST_ROUNDS", &[5])[0];
    let length = Duration::from_secs(numbers("NEAREST_SECONDS", &[1])[0] as u64);
    let counts = numbers("NEAREST_CONNECTIONS", &[1, 8]);
    let most = counts.iter().copied().max().unwrap_or(1);
    let (mut server, dir) = server("bench-nearest");
    machine(&dir.0);
    create_tenants(&server, &[TENANT.to_owned()]).await;
    let reference = Reference::start(true).expect("PostgreSQL of the package pgserver");
    reference.database(TENANT).await;
    println!(
        "seed {SEED}; {DIMENSIONS} dimensions, clustered, nearest {K} by cosine, {QUERIES} queries; median of {rounds} rounds \
         of {} s, the two servers in turns; PostgreSQL 16, pgvector, HNSW m 16, ef_construction 200, shared_buffers 1 GB",
        length.as_secs()
    );
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..most {
        for (port, clients) in [(server.port, &mut ours), (reference.port, &mut theirs)] {
            let client = connect(port, TENANT, "owner", &password_of("owner")).await;
            clients.push(client.expect("logged in"));
        }
    }
    for client in &theirs {
        let sql = "SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 1";
        client.batch_execute(sql).await.expect("set");
    }
    for size in numbers("NEAREST_ROWS", &[10_000]) {
        let data = clustered(size);
        let everything = BUCKETS as i32;
        let (copied, indexed) = fill(&ours[0], &data).await;
        println!("{size} vectors: Bulkhead COPY {copied:.1} s, CREATE INDEX {indexed:.1} s");
        let (copied, indexed) = fill(&theirs[0], &data).await;
        println!("{size} vectors: pgvector COPY {copied:.1} s, CREATE INDEX {indexed:.1} s");
        let (mine, _) = recall(&ours[0], NEAREST, &data, everything).await;
        let (mut ef, mut yours) = (EFS[0], 0.0);
        for wide in EFS {
            theirs[0]
                .batch_execute(&format!("SET hnsw.ef_search = {wide}"))
                .await
                .expect("set");
            let (now, _) = recall(&theirs[0], NEAREST, &data, everything).await;
            if now > mine && wide > EFS[0] {
                break;
            }
            (ef, yours) = (wide, now);
        }
        for client in &theirs {
            client
                .batch_execute(&format!("SET hnsw.ef_search = {ef}"))
                .await
                .expect("set");
        }
        println!("  recall: Bulkhead {mine:.4}, pgvector {yours:.4} at ef_search {ef}");
        println!(
            "  {:<30} {:>2} | {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | times as fast: p50, throughput",
            "Bulkhead | pgvector", "n", "p50 us", "p99 us", "per s", "p50 us", "p99 us", "per s"
        );
        for &count in &counts {
            for (what, sql, how) in [
                ("prepared SELECT 1", ONE, How::Binary),
                ("prepared, binary", NEAREST, How::Binary),
                ("prepared, text", NEAREST, How::Text),
                ("simple, text", NEAREST, How::Simple),
            ] {
                let case = [
                    Case::new(&ours[..count], sql, how, 0).await,
                    Case::new(&theirs[..count], sql, how, 0).await,
                ];
                beside(what, case, &data, rounds, length, "").await;
            }
        }
        for (share, below) in [("0.01 %", 1), ("1 %", 100), ("10 %", 1_000), ("50 %", 5_000)] {
            let (mine, all) = recall(&ours[0], FILTERED, &data, below).await;
            let (yours, some) = recall(&theirs[0], FILTERED, &data, below).await;
            let said = format!("recall {mine:.4} of {all:.2} of the rows, pgvector {yours:.4} of {some:.2}");
            for (what, sql, said) in [("filter", FILTERED, said.as_str()), ("its exact scan", EXACT, "")] {
                let case = [
                    Case::new(&ours[..1], sql, How::Binary, below).await,
                    Case::new(&theirs[..1], sql, How::Binary, below).await,
                ];
                beside(&format!("{what} {share}"), case, &data, rounds, length, said).await;
            }
        }
    }
    println!(
        "server's resident memory at the end: {} MiB",
        server.resident_bytes() >> 20
    );
    server.assert_alive();
}
