//! Starts that are refused: each says which file or setting, and touches nothing (E08, E09, E11, X37).

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::common::server::{ADMIN_PASSWORD, Ended, Server, Spec, connect, one, rows, state};

const T: &str = "acme";

/// A stopped server's directory with one document in it.
async fn filled(name: &str) -> Server {
    let mut server = Server::start(name);
    server.create_tenants(&[T]).await;
    let client = server.connect(T, "owner").await;
    client
        .batch_execute("INSERT INTO documents (title, content) VALUES ('kept', 'the one document')")
        .await
        .expect("inserted");
    assert_eq!(server.stop().code(), Some(0));
    server
}

async fn assert_kept(server: &mut Server) {
    server.again();
    let client = server.connect(T, "owner").await;
    assert_eq!(
        rows(&client, "SELECT content FROM documents").await,
        [["the one document"]]
    );
}

fn refused(spec: Spec, words: &[&str]) -> Ended {
    let ended = match Server::attempt(spec) {
        Ok(_) => panic!("it started"),
        Err(ended) => ended,
    };
    assert!(ended.status.code().is_some_and(|c| c != 0), "{ended:?}");
    assert!(!ended.said.contains("panicked"), "{}", ended.said);
    for word in words {
        assert!(ended.said.contains(word), "no {word:?} in: {}", ended.said);
    }
    ended
}

/// Every file with its length and the time of its last change.
fn listing(dir: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("can be read") {
            let entry = entry.expect("an entry");
            let of = entry.metadata().expect("our own file");
            if of.is_dir() {
                folders.push(entry.path());
            } else {
                all.insert(entry.path(), (of.len(), of.modified().expect("a time")));
            }
        }
    }
    all
}

/// The key that the server made for itself.
fn key_of(server: &Server) -> PathBuf {
    server.spec.data.join("master.key")
}

/// E08: one process to a directory; the second refuses at once, and after SIGKILL there is no stale lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e08_second_process() {
    let mut first = filled("second").await;
    first.again();
    let client = first.connect(T, "owner").await;
    let before = listing(&first.spec.data);
    let dir = first.spec.data.display().to_string();
    refused(first.spec.clone(), &[&dir]);
    assert_eq!(
        listing(&first.spec.data).keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("1"),
        "the first is unharmed"
    );
    // The lock is the process's, not a file's existence.
    first.kill();
    assert_kept(&mut first).await;
    for entry in std::fs::read_dir(&first.spec.data).expect("can be read") {
        let path = entry.expect("an entry").path();
        if path.to_string_lossy().contains("lock") {
            assert!(Server::attempt(first.spec.clone()).is_err(), "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_master_key() {
    let mut server = filled("key").await;
    let key = key_of(&server);
    assert_eq!(
        std::fs::metadata(&key).expect("the key is a file").permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::metadata(&server.spec.data)
            .expect("a directory")
            .permissions()
            .mode()
            & 0o077,
        0
    );
    let right = std::fs::read(&key).expect("ours");
    let mut wrong = right.clone();
    let at = wrong.iter().position(|b| b.is_ascii_alphanumeric()).unwrap_or(0);
    wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
    let write = |bytes: &[u8]| {
        std::fs::write(&key, bytes).expect("ours");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("ours");
    };
    write(&wrong);
    refused(server.spec.clone(), &["master key"]);
    for broken in [&b""[..], b"short", &[0xff; 5_000]] {
        write(broken);
        refused(server.spec.clone(), &["master"]);
    }
    std::fs::remove_file(&key).expect("ours");
    refused(server.spec.clone(), &["master"]);
    assert!(!key.exists(), "a new key was made for a directory that has another");
    write(&right);
    for mode in [0o644, 0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("ours");
        refused(server.spec.clone(), &["master.key"]);
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("ours");
    assert_kept(&mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_version() {
    let mut server = filled("version").await;
    let file = server.spec.data.join("format");
    let right = std::fs::read(&file).expect("the directory says its version");
    for other in ["bulkhead 9999\n", "9999\n", "", "rubbish", "bulkhead 0\n"] {
        std::fs::write(&file, other).expect("ours");
        let before = listing(&server.spec.data.join("."));
        let ended = refused(server.spec.clone(), &["version"]);
        assert!(
            !other.contains("9999") || ended.said.contains("9999"),
            "names the version it found: {}",
            ended.said
        );
        let changed: Vec<_> = listing(&server.spec.data.join("."))
            .into_iter()
            .filter(|(path, of)| before.get(path) != Some(of) && !path.to_string_lossy().contains("lock"))
            .collect();
        assert!(changed.is_empty(), "a refused directory was written to: {changed:?}");
    }
    std::fs::write(&file, right).expect("ours");
    assert_kept(&mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_stop_the_start() {
    let mut server = filled("settings").await;
    server.again();
    let dir = server.spec.data.parent().expect("has one").to_owned();
    let other = || Spec::on(&dir.join("other"));
    let listen = |to: &str| Spec {
        listen: to.to_owned(),
        ..other()
    };
    let taken = format!("127.0.0.1:{}", server.port);
    refused(listen(&taken), &[&taken]);
    for nonsense in ["nonsense", "127.0.0.1", "127.0.0.1:99999", "256.0.0.1:1", ":", ""] {
        refused(listen(nonsense), &["listen"]);
    }
    refused(other().arg("--nosuch"), &["--nosuch"]);
    let file = dir.join("a file");
    std::fs::write(&file, "x").expect("ours");
    refused(Spec::on(&file), &["a file"]);
    refused(Spec::on(&file.join("under it")), &["a file"]);
    let config = dir.join("bulkhead.toml");
    for (text, word) in [
        ("nosuch = 1\n", "nosuch"),
        ("min_free_mib = \"many\"\n", "min_free_mib"),
        ("min_free_mib = [1]\n", "min_free_mib"),
        ("= broken", "bulkhead.toml"),
    ] {
        std::fs::write(&config, text).expect("ours");
        refused(other().arg("--config").arg(config.display().to_string()), &[word]);
    }
    refused(
        other().arg("--config").arg(dir.join("gone.toml").display().to_string()),
        &["gone.toml"],
    );
    // The first server noticed nothing.
    let client = server.connect(T, "owner").await;
    assert_eq!(
        one(&client, "SELECT count(*) FROM documents").await.as_deref(),
        Some("1")
    );
}

/// The operator's password: one that is given is the one from then on, also where another was before (there is no
/// other way to change it); without one it stays; without any it is made up and told once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_password() {
    let mut server = Server::start("password");
    server.stop();
    server.spec.env = vec![("BULKHEAD_ADMIN_PASSWORD".to_owned(), "another".to_owned())];
    server.again();
    let refused = connect(server.port, "bulkhead", "admin", ADMIN_PASSWORD).await;
    assert_eq!(refused.err().map(|e| state(&e)).as_deref(), Some("28P01"));
    assert!(connect(server.port, "bulkhead", "admin", "another").await.is_ok());
    server.stop();
    server.spec.env.clear();
    server.again();
    assert!(
        connect(server.port, "bulkhead", "admin", "another").await.is_ok(),
        "it stays"
    );

    let dir = server.spec.data.parent().expect("has one").join("generated");
    let spec = Spec {
        env: Vec::new(),
        ..Spec::on(&dir)
    };
    let mut generated = Server::with(spec);
    let said = String::from_utf8_lossy(&generated.output()).into_owned();
    let mut opened = 0;
    for word in said
        .split_whitespace()
        .map(|w| w.trim_matches(['"', '\'', '.', ',', ':', '`']))
        .filter(|w| w.len() >= 12)
    {
        opened += usize::from(connect(generated.port, "bulkhead", "admin", word).await.is_ok());
        if opened > 0 {
            break;
        }
    }
    assert_eq!(opened, 1, "no password among what it said: {said}");
    generated.stop();
    let told = generated.output().len();
    generated.again();
    let later = String::from_utf8_lossy(&generated.output()[told..]).into_owned();
    assert!(!later.to_lowercase().contains("password"), "told twice: {later}");
}
