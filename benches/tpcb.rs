//! pgbench's TPC-B on Bulkhead and on PostgreSQL (synchronous_commit = on) in the same run: with 1 and 8 clients, in
//! turns, every transaction must succeed and the balances must add up; for Bulkhead also after SIGKILL in the middle.
//!
//! `cargo bench --bench tpcb`. Needs pgbench and what tests/clients/requirements.txt names.

mod report;

use std::process::{Command, Stdio};
use std::time::Duration;

use report::common::reference::Reference;
use report::common::server::{Server, connect, password_of, rows};
use report::common::tools::{pgbench, shown};
use report::{create_tenants, machine, server, spread};

const SCALE: u32 = 10;
const ROUNDS: usize = 5;
const SECONDS: u32 = 5;
const CLIENTS: [u32; 2] = [1, 8];
const PROTOCOLS: [&str; 2] = ["simple", "prepared"];
const TENANT: &str = "tpcb";
/// Into the run that SIGKILL ends.
const KILL_AFTER: Duration = Duration::from_secs(4);

fn command(port: u16, arguments: &[String]) -> Command {
    let mut command = Command::new(pgbench().expect("pgbench"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "owner"]);
    command
        .args(arguments)
        .arg(TENANT)
        .env("PGPASSWORD", password_of("owner"));
    command
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The number that follows these words in what pgbench printed.
fn number(said: &str, words: &str) -> Option<f64> {
    let rest = said.split(words).nth(1)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Transactions a second and the mean latency in milliseconds of one run without a failure.
fn run(port: u16, protocol: &str, clients: u32) -> (f64, f64) {
    let arguments = format!("-n -M {protocol} -c {clients} -j 2 -T {SECONDS}");
    let output = command(port, &words(&arguments)).output().expect("pgbench runs");
    let said = shown(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(number(&said, "number of failed transactions: "), Some(0.0), "{said}");
    let of = |words| number(&said, words).unwrap_or_else(|| panic!("no {words:?} in {said}"));
    (of("tps = "), of("latency average = "))
}

/// That accounts, tellers, branches and history tell the same sum, and how many transactions the history has.
async fn balances(port: u16) -> u64 {
    let client = connect(port, TENANT, "owner", &password_of("owner"))
        .await
        .expect("logged in");
    let sql = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), \
               (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history), \
               (SELECT count(*) FROM pgbench_history)";
    let row = rows(&client, sql).await.remove(0);
    assert!(
        row[..4].iter().all(|sum| *sum == row[0]),
        "the balances do not add up: {row:?}"
    );
    row[4].parse().expect("a count")
}

/// SIGKILL while eight clients write; whoever was told of a commit finds it.
async fn kill(server: &mut Server) {
    let before = balances(server.port).await;
    let arguments = words("-n -M prepared -c 8 -j 2 -T 30 --progress 1");
    let mut child = command(server.port, &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pgbench runs");
    tokio::time::sleep(KILL_AFTER).await;
    server.kill();
    let _ = child.wait();
    server.again();
    let after = balances(server.port).await;
    assert!(after > before, "nothing was written before SIGKILL");
    println!(
        "SIGKILL after {} s with 8 clients: {} transactions kept, balances add up",
        KILL_AFTER.as_secs(),
        after - before
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (mut server, dir) = server("bench-tpcb");
    machine(&dir.0);
    create_tenants(&server, &[TENANT.to_owned()]).await;
    let reference = Reference::start(true).expect("PostgreSQL of the package pgserver");
    reference.database(TENANT).await;
    println!(
        "TPC-B of pgbench at scale {SCALE}; median of {ROUNDS} rounds of {SECONDS} s, the two servers in turns; \
         PostgreSQL 16 with synchronous_commit=on, fsync=on, shared_buffers 1 GB"
    );
    for (name, port) in [("Bulkhead", server.port), ("PostgreSQL", reference.port)] {
        let begun = std::time::Instant::now();
        let output = command(port, &words(&format!("-i -q -s {SCALE}")))
            .output()
            .expect("pgbench runs");
        assert!(output.status.success(), "{name}: {}", shown(&output));
        println!("{name}: initialised in {:.1} s", begun.elapsed().as_secs_f64());
    }
    println!(
        "  {:<10} {:>2} | {:>10} {:>8} | {:>10} {:>8} | ratio",
        "protocol", "n", "Bulkhead/s", "ms", "Postgres/s", "ms"
    );
    for protocol in PROTOCOLS {
        for clients in CLIENTS {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ours.push(run(server.port, protocol, clients));
                theirs.push(run(reference.port, protocol, clients));
            }
            let middle = |all: &[(f64, f64)]| (spread(all.iter().map(|r| r.0)).0, spread(all.iter().map(|r| r.1)).0);
            let ((a, slow_a), (b, slow_b)) = (middle(&ours), middle(&theirs));
            println!(
                "  {protocol:<10} {clients:>2} | {a:>10.0} {slow_a:>8.2} | {b:>10.0} {slow_b:>8.2} | {:.2}",
                a / b
            );
        }
    }
    for (name, port) in [("Bulkhead", server.port), ("PostgreSQL", reference.port)] {
        println!(
            "{name}: {} transactions, 0 failed, balances add up",
            balances(port).await
        );
    }
    kill(&mut server).await;
    server.assert_alive();
}
