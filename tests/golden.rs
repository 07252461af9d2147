//! Runs every script of `tests/golden` twice, against a real server over real sockets and against the engine in this
//! process. Both must answer what the script says.

mod common;

#[path = "golden/in_process.rs"]
mod in_process;

use std::path::PathBuf;

use common::golden::{Sockets, run, scripts};
use common::server::Server;
use in_process::InProcess;

/// Scripts at a time; each has a server of its own.
const AT_ONCE: usize = 3;

/// All of them, or those whose path contains `BULKHEAD_SCRIPT`.
fn wanted() -> Vec<PathBuf> {
    let only = std::env::var("BULKHEAD_SCRIPT").unwrap_or_default();
    let mut all = scripts();
    all.retain(|p| p.to_string_lossy().contains(&only));
    assert!(!all.is_empty(), "no scripts");
    all
}

fn assert_none(wrong: &[String], of: usize) {
    assert!(
        wrong.is_empty(),
        "{} scripts of {of} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_over_a_socket() {
    let all = wanted();
    let mut wrong = Vec::new();
    for group in all.chunks(AT_ONCE) {
        let runs = group.iter().cloned().map(|script| {
            tokio::spawn(async move {
                let mut world = Sockets(Server::start("golden"));
                let result = run(&script, &mut world).await;
                world.0.assert_alive();
                result
            })
        });
        for result in futures::future::join_all(runs).await {
            wrong.extend(result.expect("the runner did not panic").err());
        }
    }
    assert_none(&wrong, all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_in_process() {
    let all = wanted();
    let mut wrong = Vec::new();
    for script in &all {
        wrong.extend(run(script, &mut InProcess::start()).await.err());
    }
    assert_none(&wrong, all.len());
}
