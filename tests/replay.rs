//! Every statement that real clients sent to a PostgreSQL, sent to this server: how many work, client by client.
//!
//! The logs are in `../shared/clients`; without them nothing is tested, and the test says so. What does not work is listed
//! in `target/replay_failures.md`. The numbers are compared with `tests/clients/COMPATIBILITY.md`.

mod common;

#[path = "replay/log.rs"]
mod log;
#[path = "replay/oids.rs"]
mod oids;
#[path = "replay/run.rs"]
mod run;
#[path = "replay/script.rs"]
mod script;
#[path = "replay/table.rs"]
mod table;

use std::path::{Path, PathBuf};

use common::raw;
use common::server::Server;
use common::{skipped, tests_dir};
use table::Client;

/// Set to anything, the page is written instead of compared.
const WRITE: &str = "BULKHEAD_REPLAY_WRITE";
/// Set to a part of names of files, only those are replayed, and nothing is compared.
const ONLY: &str = "BULKHEAD_REPLAY_ONLY";

/// The logs, by name.
fn logs() -> Vec<PathBuf> {
    let folder = tests_dir().join("../../shared/clients");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "sql"));
    paths.sort();
    paths
}

/// Runs a file of statements, one a line, and gives those that failed.
async fn prepared(server: &Server, tenant: &str, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(tests_dir().join("replay").join(file)).expect("a file of this test");
    let mut connection = server.raw(tenant, "owner").await;
    let mut failed = Vec::new();
    for sql in text.lines().filter(|l| !l.starts_with("--")) {
        let frames = connection.query(sql).await;
        if let Some(message) = raw::message(&frames) {
            failed.push(format!("{} {message}: {sql}", raw::code(&frames).unwrap_or_default()));
        }
    }
    failed
}

async fn replayed(server: &Server, path: &Path) -> Client {
    let name = path.file_stem().expect("a file's name").to_string_lossy().into_owned();
    let tenant = format!("c-{}", name.replace('_', "-"));
    server.create_tenants(&[&tenant]).await;
    let mut unprepared = prepared(server, &tenant, "fixture.sql").await;
    if name.starts_with("pgbench_") && name != "pgbench_init" {
        unprepared.extend(prepared(server, &tenant, "pgbench.sql").await);
    }
    let text = std::fs::read_to_string(path).expect("a readable log");
    let log = match text.contains("-- [c") {
        true => log::captured(&text),
        false => log::from_source(&text, name.starts_with("pgx_")),
    };
    let (mut units, exchanges) = script::script(&log);
    let mut run = run::Run::new(server, &tenant);
    for exchange in &exchanges {
        run.exchange(exchange, &mut units).await;
    }
    Client {
        name,
        units,
        unprepared,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_send_works() {
    let mut logs = logs();
    if logs.is_empty() {
        skipped("../shared/clients is not there: no client's statements to replay");
        return;
    }
    let only = std::env::var(ONLY).ok();
    if let Some(only) = &only {
        logs.retain(|p| p.to_string_lossy().contains(only.as_str()));
    }
    let mut server = Server::start("replay");
    server.widen_tiers().await;
    let mut clients = Vec::new();
    for path in &logs {
        let client = replayed(&server, path).await;
        eprintln!("{:44} {:4} of {:4}", client.name, client.working(), client.units.len());
        clients.push(client);
    }
    let (all, working) = clients
        .iter()
        .fold((0, 0), |(a, w), c| (a + c.units.len(), w + c.working()));
    eprintln!(
        "{:44} {working:4} of {all:4} = {:.1} %",
        "all",
        100.0 * working as f64 / all as f64
    );
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("..")
        .join("replay_failures.md");
    std::fs::write(&target, table::list(&clients)).expect("the target directory can be written");
    server.assert_alive();
    if only.is_some() {
        return;
    }
    let page = tests_dir().join("clients/COMPATIBILITY.md");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&page, table::page(&clients)).expect("the page can be written");
        return;
    }
    let committed = std::fs::read_to_string(&page).unwrap_or_default();
    let worse = table::worse(&committed, &clients);
    assert!(
        worse.is_empty(),
        "fewer statements of {worse:?} work than {} says; see {}",
        page.display(),
        target.display()
    );
}

/// The page's numbers are read back as they were written, and a client that got worse is found.
#[test]
fn a_client_that_got_worse_is_found() {
    let unit = |failure: Option<&str>| script::Unit {
        line: 1,
        sql: "SELECT 'a|b'".to_owned(),
        failure: failure.map(str::to_owned),
        remark: None,
    };
    let client = |failures: [Option<&str>; 2]| Client {
        name: "psql".to_owned(),
        units: failures.map(unit).into(),
        unprepared: Vec::new(),
    };
    let good = [client([None, Some("42883 no such function")])];
    let page = table::page(&good);
    assert_eq!(table::counts(&page).get("psql"), Some(&1));
    assert!(table::worse(&page, &good).is_empty());
    assert_eq!(table::worse(&page, &[client([Some("x"), Some("y")])]), ["psql"]);
    assert!(table::worse(&page, &[client([None, None])]).is_empty());
    assert_eq!(table::worse("", &good), ["psql"]);
}

/// The parts of a log that are easy to read wrong.
#[test]
fn a_log_is_read_as_it_was_sent() {
    let text = "-- [c5] >> StartupMessage v3.0 user=postgres options=-c search_path=public,billing application_name=x y\n\
                -- [c5] << ReadyForQuery I\n\
                -- [c5] >> Parse stmt='s' param_oids=[0, 23]\n\
                select $1,\n$2;\n\
                -- [c5] >> Bind portal='' stmt='s' param_formats=[0, 1] result_formats=[1] params=['it, \\'s\\t', bin:0001, NULL]\n\
                -- [c5] >> Describe portal ''\n\
                -- [c5] >> Sync\n\
                -- [c5] << RowDescription a, b:c:25, n:1700(786440):bin\n\
                -- [c5] << ReadyForQuery T\n";
    let (units, exchanges) = script::script(&log::captured(text));
    assert_eq!(units.len(), 1);
    assert_eq!(units[0].sql, "select $1,\n$2;");
    let log::Said::Startup(parameters) = &exchanges[0].steps[0].said else {
        panic!("{exchanges:?}");
    };
    let parameters: Vec<(&str, &str)> = parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        parameters,
        [
            ("user", "postgres"),
            ("options", "-c search_path=public,billing"),
            ("application_name", "x y")
        ]
    );
    let log::Said::Bind { formats, values, .. } = &exchanges[1].steps[1].said else {
        panic!("{exchanges:?}");
    };
    assert_eq!(formats, &[0, 1]);
    assert_eq!(values, &[Some(b"it, 's\t".to_vec()), Some(vec![0, 1]), None]);
    let log::Heard::Columns(columns) = &exchanges[1].steps[2].heard[0] else {
        panic!("{exchanges:?}");
    };
    assert_eq!(columns, &[("a, b:c".to_owned(), 25), ("n".to_owned(), 1700)]);
    assert!(matches!(exchanges[1].steps[3].heard[..], [log::Heard::Ready('T')]));
    assert_eq!(
        log::mend("[0.1, 0.2, 0.3\u{2026}(99B)"),
        "[0.1,0.2,0.5,0.5,0.5,0.5,0.5,0.5]"
    );
}
