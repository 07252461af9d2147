//! A full disk: 53100, nothing lost, reads and deletes go on, and so do writes once there is space (X20).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::server::{Server, Spec, fresh_dir, rows, state};
use crate::common::skipped;

const T: &str = "acme";
/// More than what the server keeps free (256 MiB), and some to write to.
const DISK_BYTES: u64 = 400 << 20;

/// A small disk of our own, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        matches!(mounted, Ok(done) if done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let dir = fresh_dir("disk");
    let Some(disk) = Disk::mount(&dir) else {
        skipped("a_full_disk needs to be root and able to mount a tmpfs");
        return;
    };
    let mut server = Server::with(Spec::on(&dir.join("data")));
    server.create_tenants(&[T]).await;
    let client = server.connect(T, "owner").await;
    let insert = "INSERT INTO documents (title, content) VALUES ($1, $2)";
    for i in 0..20 {
        client
            .execute(insert, &[&format!("before {i}"), &"kept"])
            .await
            .expect("there is space");
    }
    // Ballast takes the disk to some space less than what the server leaves free.
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![7; 200 << 20]).expect("there is space for it");
    let mut kept = 20;
    let mut refused = None;
    for i in 0..2_000 {
        match client.execute(insert, &[&format!("during {i}"), &"maybe"]).await {
            Ok(_) => kept += 1,
            Err(e) => {
                refused = Some(e);
                break;
            }
        }
    }
    let refused = refused.expect("the disk is never full");
    assert_eq!(state(&refused), "53100", "{refused:?}");
    let said = refused
        .as_db_error()
        .map(|e| format!("{} {:?}", e.message(), e.hint()))
        .unwrap_or_default();
    assert!(said.contains("disk") || said.contains("space"), "{said}");
    // Nothing is lost, reads go on, and deletes.
    let count = || async {
        rows(&client, "SELECT count(*) FROM documents").await[0][0]
            .parse::<usize>()
            .expect("a count")
    };
    assert_eq!(count().await, kept);
    assert_eq!(
        rows(&client, "SELECT count(*) FROM ai.search('kept', k => 3)").await,
        [["3"]]
    );
    client
        .batch_execute("DELETE FROM documents WHERE title = 'before 0'")
        .await
        .expect("deletes go on");
    kept -= 1;
    assert_eq!(count().await, kept);
    let again = client
        .execute(insert, &[&"still", &"full"])
        .await
        .err()
        .map(|e| state(&e));
    assert_eq!(again.as_deref(), Some("53100"));
    // Space comes back, and writes with it, without a restart.
    std::fs::remove_file(&ballast).expect("ours");
    client
        .execute(insert, &[&"after", &"space"])
        .await
        .expect("writes go on");
    kept += 1;
    assert_eq!(count().await, kept);
    server.assert_alive();
    server.kill();
    server.again();
    let client = server.connect(T, "owner").await;
    assert_eq!(
        rows(&client, "SELECT count(*) FROM documents").await,
        [[kept.to_string()]],
        "after SIGKILL"
    );
    drop(server);
    drop(disk);
    let _ = std::fs::remove_dir_all(dir);
}
