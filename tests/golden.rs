//! Runs every script of `tests/golden` against a real server, over real sockets.

mod common;

use common::golden::{Sockets, run, scripts};
use common::server::Server;

/// Scripts at a time; each has a server of its own.
const AT_ONCE: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_over_a_socket() {
    let only = std::env::var("BULKHEAD_SCRIPT").unwrap_or_default();
    let all: Vec<_> = scripts()
        .into_iter()
        .filter(|p| p.to_string_lossy().contains(&only))
        .collect();
    assert!(!all.is_empty(), "no scripts");
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
    assert!(
        wrong.is_empty(),
        "{} scripts of {} differ:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
}
