//! `bulkhead bench vectors`, small: on a server that it starts, and on one that is there; and that it leaves nothing behind.

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::server::{PATIENCE, Server, binary, fresh_dir, one, password_of};
use common::tools::shown;

const T: &str = "acme";
const SMALL: [&str; 8] = [
    "--tenants",
    "2",
    "--per-tenant",
    "300",
    "--dim",
    "16",
    "--queries",
    "40",
];
/// As many searches as nobody waits for.
const ENDLESS: [&str; 8] = [
    "--tenants",
    "2",
    "--per-tenant",
    "50",
    "--dim",
    "8",
    "--queries",
    "9000000",
];
const MINE: &str = "SELECT mine FROM bulkhead_bench_00002";
const OURS: &str = "SELECT count(*)::text FROM pg_class WHERE relname LIKE 'bulkhead_bench_%'";

fn bench(arguments: &[&str], scratch: &Path) -> Command {
    let mut command = Command::new(binary());
    command.args(["bench", "vectors"]).args(arguments);
    command.env("TMPDIR", scratch).env("PGPASSWORD", password_of("owner"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Cells after the bar of the table's line for so many connections, and the words in them.
fn line<'a>(said: &'a str, connections: &str) -> Vec<&'a str> {
    let line = said
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{connections} |")));
    line.unwrap_or_else(|| panic!("no line for {connections} connections in:\n{said}"))
        .split(['|', ' '])
        .filter(|word| !word.is_empty())
        .collect()
}

fn recall(said: &str) -> f64 {
    let line = said.lines().find(|line| line.starts_with("recall@"));
    let line = line.unwrap_or_else(|| panic!("no recall in:\n{said}"));
    let number = line[10..].split(',').next().expect("a first part");
    number.trim().parse().unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn judge(said: &str, missing: &str) {
    for word in [
        "seed 7",
        "load",
        "build",
        "m = 16, ef_construction = 200",
        "plan",
        missing,
    ] {
        assert!(said.contains(word), "no {word:?} in:\n{said}");
    }
    assert!(recall(said) > 0.99, "{said}");
    for connections in ["1", "3"] {
        let cells = line(said, connections);
        let numbers: Vec<f64> = cells[1..4].iter().map(|cell| cell.parse().expect("a number")).collect();
        assert!(
            numbers[0] > 0.0 && numbers[1] >= numbers[0] && numbers[2] > 0.0,
            "{said}"
        );
    }
    assert!(!said.contains("ROWS MISSING"), "{said}");
}

#[test]
fn a_server_of_its_own_is_measured_and_gone() {
    let scratch = fresh_dir("bench-own");
    let mut arguments = SMALL.to_vec();
    arguments.extend(["--connections", "1,3", "--seed", "7", "--k", "5"]);
    let output = bench(&arguments, &scratch).output().expect("the bench runs");
    let said = shown(&output);
    assert!(output.status.success(), "{said}");
    judge(&said, "missing   0 of 200 rows");
    assert!(said.contains("MiB more resident"), "{said}");
    let left: Vec<_> = std::fs::read_dir(&scratch).expect("readable").collect();
    assert!(left.is_empty(), "{left:?}");

    // More neighbours than there are rows: all rows, and none missing.
    let few = [
        "--tenants",
        "1",
        "--per-tenant",
        "3",
        "--dim",
        "4",
        "--queries",
        "2",
        "--connections",
        "1",
    ];
    let output = bench(&few, &scratch).output().expect("the bench runs");
    let said = shown(&output);
    assert!(
        output.status.success() && said.contains("missing   0 of 6 rows"),
        "{said}"
    );
    std::fs::remove_dir_all(&scratch).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_there_keeps_what_it_had() {
    let mut server = Server::start("bench-there");
    server.create_tenants(&[T]).await;
    let scratch = fresh_dir("bench-url");
    let url = format!("postgresql://owner@127.0.0.1:{}/{T}", server.port);
    let client = server.connect(T, "owner").await;
    let small = |more: &[&str]| {
        let mut arguments = SMALL.to_vec();
        arguments.extend([
            "--url",
            &url,
            "--connections",
            "1,3",
            "--seed",
            "7",
            "--k",
            "5",
            "--ef-search",
            "64",
        ]);
        arguments.extend(more);
        let output = bench(&arguments, &scratch).output().expect("the bench runs");
        (output.status.code(), shown(&output))
    };
    let (code, said) = small(&[]);
    assert_eq!(code, Some(0), "{said}");
    judge(&said, "missing   0 of 200 rows");
    assert_eq!(one(&client, OURS).await.as_deref(), Some("0"), "tables were left");

    // What somebody else named so is neither overwritten nor removed.
    let sql = "CREATE TABLE bulkhead_bench_00002 (mine text); INSERT INTO bulkhead_bench_00002 VALUES ('kept')";
    client.batch_execute(sql).await.expect("made");
    let (code, said) = small(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("bulkhead_bench_00002") && said.contains("overwrites nothing"),
        "{said}"
    );
    assert_eq!(one(&client, MINE).await.as_deref(), Some("kept"));
    assert_eq!(one(&client, OURS).await.as_deref(), Some("1"), "the table alone");
    client
        .batch_execute("DROP TABLE bulkhead_bench_00002")
        .await
        .expect("dropped");

    // An interruption removes what was made.
    let mut arguments = ENDLESS.to_vec();
    arguments.extend(["--url", &url]);
    let child = bench(&arguments, &scratch).spawn().expect("the bench starts");
    let (child, said) = after(child, "median of");
    assert_ne!(
        one(&client, OURS).await.as_deref(),
        Some("0"),
        "there is something to remove"
    );
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("kill exists").success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{said}{}", shown(&output));
    assert!(shown(&output).contains("interrupted"), "{}", shown(&output));
    assert_eq!(one(&client, OURS).await.as_deref(), Some("0"), "tables were left");

    // A server that goes away is told from one that was cleaned.
    let child = bench(&arguments, &scratch).spawn().expect("the bench starts");
    let (child, _) = after(child, "median of");
    server.kill();
    let output = child.wait_with_output().expect("it ends");
    let said = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("tables bulkhead_bench_00001 to bulkhead_bench_00002 are left"),
        "{said}"
    );
    std::fs::remove_dir_all(&scratch).expect("removed");
}

/// Waits until a process has said something.
fn after(mut child: Child, words: &str) -> (Child, String) {
    let begun = Instant::now();
    let mut said = String::new();
    let mut part = [0; 4096];
    while !said.contains(words) {
        assert!(begun.elapsed() < PATIENCE, "it does not say {words:?}:\n{said}");
        let out = child.stdout.as_mut().expect("piped");
        let read = out.read(&mut part).expect("readable");
        if read == 0 {
            let output = child.wait_with_output().expect("it ended");
            panic!("it ended without saying {words:?}:\n{said}{}", shown(&output));
        }
        said.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    (child, said)
}
