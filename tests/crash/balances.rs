//! pgbench's TPC-B, killed in the middle again and again: the balances add up, and every transaction that a client was
//! told of is in the history.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::server::{Server, password_of, rows};
use crate::common::{Seed, skipped, tools};

const CYCLES: u64 = 5;
const CLIENTS: u64 = 4;
const T: &str = "acme";

fn pgbench(program: &std::path::Path, port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "owner"]);
    command.args(arguments).arg(T).env("PGPASSWORD", password_of("owner"));
    command
}

/// The sum that all four tables tell, and the number of transactions.
async fn books(server: &Server) -> (String, u64) {
    let client = server.connect(T, "owner").await;
    let sql = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), \
               (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history), \
               (SELECT count(*) FROM pgbench_history), (SELECT count(*) FROM pgbench_accounts)";
    let row = rows(&client, sql).await.remove(0);
    assert!(
        row[..4].iter().all(|sum| *sum == row[0]),
        "the balances do not add up: {row:?}"
    );
    assert_eq!(row[5], "100000", "accounts came or went");
    (row[0].clone(), row[4].parse().expect("a count"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_add_up_after_every_kill() {
    let program = match tools::pgbench() {
        Ok(program) => program,
        Err(why) => return skipped(&format!("TPC-B: {why}")),
    };
    let mut server = Server::start("balances");
    server.create_tenants(&[T]).await;
    server.widen_tiers().await;
    let made = pgbench(&program, server.port, &["-i", "-q"])
        .output()
        .expect("pgbench runs");
    assert!(made.status.success(), "{}", tools::shown(&made));
    let mut seed = Seed(7);
    let mut known = 0;
    for cycle in 0..CYCLES {
        let clients = CLIENTS.to_string();
        let mut command = pgbench(
            &program,
            server.port,
            &["-n", "-M", "prepared", "-j", "2", "-T", "600", "-c", &clients],
        );
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("pgbench runs");
        tokio::time::sleep(Duration::from_millis(500 + seed.below(1_500))).await;
        server.kill();
        let said = tools::shown(&child.wait_with_output().expect("it ends"));
        // All its clients connect before the first of them begins.
        let told = match said.contains("could not create connection") {
            true => 0,
            false => said
                .split("number of transactions actually processed: ")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or_else(|| panic!("pgbench did not say how many it did:\n{said}")),
        };
        server.again();
        let (_, found) = books(&server).await;
        assert!(
            found >= known + told,
            "cycle {cycle}: LOST: {told} were acknowledged, {} are there",
            found - known
        );
        assert!(
            found <= known + told + CLIENTS,
            "cycle {cycle}: {told} were acknowledged, and {} are there",
            found - known
        );
        known = found;
    }
    assert!(known > 0, "nothing was ever written");
    server.assert_alive();
}
