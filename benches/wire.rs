//! Latency over the wire: opening a session, and prepared statements over 1,000 and 10,000 vectors, with what they
//! found held against an exact scan that this program makes of the same vectors.
//!
//! `cargo bench --bench wire`.

mod report;

use std::collections::HashSet;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use report::common::quoted;
use report::common::raw::{self, Raw};
use report::common::scram::Scram;
use report::common::server::{Server, password_of};
use report::{Round, Words, connections, create_tenants, machine, round, server, spread};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

const SEED: u64 = 20_240_229;
const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(1);
const SIZES: [usize; 2] = [1_000, 10_000];
const CONNECTIONS: [usize; 2] = [1, 8];
const LOGINS: usize = 300;
const QUERIES: usize = 100;
/// Words of a document: it is one chunk.
const DOCUMENT_WORDS: usize = 40;
const QUERY_WORDS: usize = 6;
const K: usize = 10;

const ONE: &str = "SELECT 1";
const NEAREST: &str = "SELECT id, content FROM ai.chunks ORDER BY embedding <=> $1 LIMIT 10";
const HYBRID: &str = "SELECT chunk_id, content FROM ai.search($1, k => 10)";
const VECTOR: &str = "SELECT chunk_id, content FROM ai.search($1, k => 10, mode => 'vector')";

/// A vector in pgvector's binary form: dimensions, an unused number, and the numbers, all big-endian.
#[derive(Debug)]
struct Vector(Vec<f32>);

impl<'a> FromSql<'a> for Vector {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let numbers = raw.get(4..).ok_or("a vector has a head")?;
        let number = |b: &[u8]| f32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        Ok(Self(numbers.chunks_exact(4).map(number).collect()))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }
}

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

#[derive(PartialEq, Eq, Hash)]
struct Id(Vec<u8>);

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

struct Query {
    text: String,
    vector: Vector,
    /// The chunks that are among the `K` nearest, with all that tie with the last of them.
    nearest: HashSet<Vec<u8>>,
}

fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Fills a tenant, and returns queries with their exact answers.
async fn fill(client: &Client, size: usize, words: &mut Words) -> Vec<Query> {
    let begun = Instant::now();
    let mut left = size;
    while left > 0 {
        let row = |i| format!("('document {i}', {})", quoted(&words.text(DOCUMENT_WORDS)));
        let rows: Vec<String> = (0..left.min(100)).map(row).collect();
        left -= rows.len();
        let sql = format!("INSERT INTO ai.documents (title, content) VALUES {}", rows.join(", "));
        client.batch_execute(&sql).await.expect("inserted");
    }
    let length = begun.elapsed().as_secs_f64();
    println!(
        "{size} documents of {DOCUMENT_WORDS} words inserted, 100 a statement: {:.0} per second",
        size as f64 / length
    );

    let chunks = client
        .query("SELECT id, embedding FROM ai.chunks", &[])
        .await
        .expect("read");
    let chunks: Vec<(Id, Vector)> = chunks.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(chunks.len(), size, "a document is one chunk");
    let embed = client.prepare("SELECT ai.embed($1)").await.expect("prepared");
    let mut queries = Vec::new();
    for _ in 0..QUERIES {
        let text = words.text(QUERY_WORDS);
        let vector: Vector = client.query_one(&embed, &[&text]).await.expect("embedded").get(0);
        let mut all: Vec<(f64, &Id)> = chunks
            .iter()
            .map(|(id, v)| (cosine_distance(&v.0, &vector.0), id))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let limit = all[K - 1].0 + 1e-6;
        let nearest = all.iter().take_while(|(d, _)| *d <= limit).map(|(_, id)| id.0.clone());
        queries.push(Query {
            nearest: nearest.collect(),
            text,
            vector,
        });
    }
    queries
}

fn parameters<'a>(sql: &str, query: &'a Query) -> Vec<&'a (dyn ToSql + Sync)> {
    match sql {
        NEAREST => vec![&query.vector],
        HYBRID | VECTOR => vec![&query.text],
        _ => Vec::new(),
    }
}

/// Share of the `K` nearest that a statement finds, over all queries.
async fn recall(client: &Client, sql: &str, queries: &[Query]) -> f64 {
    let statement = client.prepare(sql).await.expect("prepared");
    let mut found = 0;
    for query in queries {
        let rows = client.query(&statement, &parameters(sql, query)).await.expect("found");
        let ids: HashSet<Id> = rows.iter().map(|r| r.get(0)).collect();
        found += ids.iter().filter(|id| query.nearest.contains(&id.0)).count();
    }
    found as f64 / (queries.len() * K) as f64
}

async fn latency(clients: &[Client], sql: &str, queries: &[Query]) -> Vec<Round> {
    let mut prepared: Vec<(&Client, Statement)> = Vec::new();
    for client in clients {
        prepared.push((client, client.prepare(sql).await.expect("prepared")));
    }
    let mut rounds = Vec::new();
    for n in 0..=ROUNDS {
        let one = round(clients, LENGTH, |connection, n| {
            let (client, statement) = &prepared[connection];
            let query = &queries[(n as usize + connection * 13) % queries.len()];
            async move {
                client
                    .query(statement, &parameters(sql, query))
                    .await
                    .expect("answered");
            }
        });
        let one = one.await;
        if n > 0 {
            rounds.push(one); // the first one warms up
        }
    }
    rounds
}

async fn statements(server: &Server, size: usize, words: &mut Words) {
    let tenant = format!("vectors-{size}");
    create_tenants(server, std::slice::from_ref(&tenant)).await;
    let clients = connections(server, &tenant, CONNECTIONS[1]).await;
    let queries = fill(&clients[0], size, words).await;
    println!(
        "  {:<62} {:>2} | {:>8} {:>8} {:>8} | recall",
        "statement", "n", "p50 ms", "p99 ms", "per s"
    );
    for sql in [ONE, NEAREST, VECTOR, HYBRID] {
        let recall = match sql {
            NEAREST | VECTOR => format!("{:.4}", recall(&clients[0], sql, &queries).await),
            _ => String::new(),
        };
        for count in CONNECTIONS {
            let rounds = latency(&clients[..count], sql, &queries).await;
            let (half, ..) = spread(rounds.iter().map(|r| r.quantile(0.5)));
            let (slow, ..) = spread(rounds.iter().map(|r| r.quantile(0.99)));
            let (rate, ..) = spread(rounds.iter().map(Round::rate));
            let short = sql.replace(", content FROM", ", .. FROM");
            println!("  {short:<62} {count:>2} | {half:>8.3} {slow:>8.3} {rate:>8.0} | {recall}");
        }
    }
}

/// One login: from the TCP connection to ReadyForQuery, and the part of it after the client's proof was sent.
async fn login(server: &Server, tenant: &str) -> (Duration, Duration) {
    let begun = Instant::now();
    let mut raw: Raw = server.socket().await;
    raw.say(&[raw::startup_of(&[("user", "owner"), ("database", tenant)])])
        .await;
    raw.frame().await.expect("the server asks for SASL");
    let mut scram = Scram::plain("rOprNGfwEbeRWgbNEkqO");
    raw.say(&[raw::initial("SCRAM-SHA-256", &scram.first())]).await;
    let challenge = raw.frame().await.expect("a challenge");
    let proof = scram.last(&String::from_utf8_lossy(&challenge.body[4..]), &password_of("owner"));
    let sent = Instant::now();
    raw.say(&[raw::message_of(b'p', proof.as_bytes())]).await;
    let frames = raw.until(b'Z').await;
    assert_eq!(frames.last().map(|f| f.tag), Some(b'Z'), "{frames:?}");
    (begun.elapsed(), sent.elapsed())
}

async fn logins(server: &Server, tenant: &str) {
    let (mut whole, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..LOGINS {
        let (a, b) = login(server, tenant).await;
        whole.push(a);
        opened.push(b);
    }
    println!(
        "{LOGINS} logins one after the other at a tenant with {} documents, in ms:",
        SIZES[1]
    );
    for (what, each) in [
        ("TCP connection to ReadyForQuery (client's 4096 hashes included)", whole),
        ("client's proof sent to ReadyForQuery", opened),
    ] {
        let all = Round::new(each, Duration::ZERO);
        let [half, nine, slow, worst] = [0.5, 0.9, 0.99, 1.0].map(|q| all.quantile(q));
        println!("  {what:<64} p50 {half:.2}  p90 {nine:.2}  p99 {slow:.2}  max {worst:.2}");
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (mut server, dir) = server("bench-wire");
    machine(&dir.0);
    println!(
        "seed {SEED}; median of {ROUNDS} rounds of {} s; {QUERIES} queries of {QUERY_WORDS} words; 1024 dimensions; recall of the {K} nearest against an exact scan by the client",
        LENGTH.as_secs()
    );
    let mut words = Words::new(SEED);
    for size in SIZES {
        statements(&server, size, &mut words).await;
    }
    logins(&server, &format!("vectors-{}", SIZES[1])).await;
    println!(
        "server's resident memory at the end: {} MiB",
        server.resident_bytes() >> 20
    );
    server.assert_alive();
}
