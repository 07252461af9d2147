//! What the benchmarks share: a server under test, the machine they run on, and how measurements are summed up.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

#[path = "../../tests/common/mod.rs"]
pub mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Seed;
use common::server::{Server, Spec, binary, fresh_dir, password_of};
use tokio_postgres::Client;

/// A server on a fresh directory, which goes when the server is dropped.
pub fn server(name: &str) -> (Server, Directory) {
    let dir = Directory(fresh_dir(name));
    let spec = Spec {
        args: vec!["--log-level".to_owned(), "warn".to_owned()],
        ..Spec::on(&dir.0.join("data"))
    };
    (Server::with(spec), dir)
}

/// A directory that is removed when this is dropped.
pub struct Directory(pub std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Creates tenants of the largest tier, so that no limit of a tier is measured.
pub async fn create_tenants(server: &Server, names: &[String]) {
    let operator = server.operator().await;
    for name in names {
        let sql = format!(
            "SELECT bulkhead.create_tenant('{name}', tier => 'enterprise', owner => 'owner', password => '{}')",
            password_of("owner")
        );
        operator.batch_execute(&sql).await.expect("a tenant is created");
    }
}

/// This many connections as the tenant's owner.
pub async fn connections(server: &Server, tenant: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.connect(tenant, "owner").await);
    }
    clients
}

/// Prints on what this runs, in a line or two.
pub fn machine(data: &Path) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
    };
    let mounts = read("/proc/mounts");
    let holds = |line: &&str| {
        line.split(' ')
            .nth(1)
            .is_some_and(|at| std::path::absolute(data).is_ok_and(|d| d.starts_with(at)))
    };
    let mount = mounts
        .lines()
        .filter(holds)
        .max_by_key(|l| l.split(' ').nth(1).map(str::len));
    println!(
        "machine: {}, {} cores (server and client share them), {} memory, Linux {}, {} file system",
        value(&read("/proc/cpuinfo"), "model name"),
        std::thread::available_parallelism().map_or(0, usize::from),
        value(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        mount.and_then(|l| l.split(' ').nth(2)).unwrap_or("unknown"),
    );
    println!(
        "server: {}, one process, its own directory, loopback without TLS",
        binary().display()
    );
}

/// What one round of one case gave.
pub struct Round {
    /// How long each call took, ascending.
    pub each: Vec<Duration>,
    /// From the first call to the end of the last.
    pub length: Duration,
}

impl Round {
    /// Calls of all connections together that ended in `length`.
    pub fn new(mut each: Vec<Duration>, length: Duration) -> Self {
        each.sort();
        Self { each, length }
    }

    /// Calls a second.
    pub fn rate(&self) -> f64 {
        self.each.len() as f64 / self.length.as_secs_f64()
    }

    /// The call that this share of them was not slower than, in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.each.len().saturating_sub(1);
        let at = (last as f64 * share).ceil() as usize;
        self.each.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
    }
}

/// Calls `work(connection, number of the call)` on every connection at once, one call after the other, for this long.
pub async fn round<C, F>(clients: &[C], length: Duration, work: impl Fn(usize, u64) -> F) -> Round
where
    F: Future<Output = ()>,
{
    let begun = Instant::now();
    let one = async |connection: usize| {
        let mut each = Vec::new();
        for n in 0.. {
            let before = Instant::now();
            if before - begun >= length {
                break;
            }
            work(connection, n).await;
            each.push(before.elapsed());
        }
        each
    };
    let all = futures::future::join_all((0..clients.len()).map(one)).await;
    Round::new(all.concat(), begun.elapsed())
}

/// The middle one, and the smallest and largest.
pub fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

/// Text that looks like text to an index: words of which few are frequent and many rare.
pub struct Words {
    seed: Seed,
    vocabulary: Vec<String>,
}

impl Words {
    /// The same seed gives the same words.
    pub fn new(seed: u64) -> Self {
        let mut seed = Seed(seed);
        let vocabulary = (0..5_000)
            .map(|_| {
                let length = 3 + seed.below(8) as usize;
                seed.word(length)
            })
            .collect();
        Self { seed, vocabulary }
    }

    /// This many words.
    pub fn text(&mut self, count: usize) -> String {
        let pick = |_| {
            let unit = self.seed.below(1 << 20) as f64 / f64::from(1 << 20);
            let at = (unit.powi(3) * self.vocabulary.len() as f64) as usize;
            self.vocabulary[at].as_str()
        };
        (0..count).map(pick).collect::<Vec<_>>().join(" ")
    }
}
