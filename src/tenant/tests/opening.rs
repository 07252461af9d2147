//! Opening a data directory: locks, permissions, formats, keys.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[tokio::test]
async fn a_second_opening_is_refused_even_without_the_lock_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme"]).await;
    let before = fs::read(folder.path().join("keyring")).expect("the keyring");
    for remove in [false, true] {
        if remove {
            fs::remove_file(folder.path().join("lock")).expect("removed");
        }
        let error = open(folder.path(), MasterKey::File(None)).expect_err("in use");
        assert!(error.message().contains("in use by another process"), "{error}");
        assert!(
            error
                .message()
                .contains(&*folder.path().canonicalize().expect("a path").to_string_lossy())
        );
    }
    assert_eq!(fs::read(folder.path().join("keyring")).expect("the keyring"), before);
    put(&owner(&directory, "acme"), Table::Documents, b"k", b"v")
        .await
        .expect("the first goes on");
    drop(directory);
    open(folder.path(), MasterKey::File(None)).expect("free again, at once");
}

#[tokio::test]
async fn another_master_key_is_named_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path(), master(1)).expect("a directory"));
    let error = open(folder.path(), master(2)).expect_err("another key");
    assert!(error.message().contains("the master key does not fit"), "{error}");
    let error = open(folder.path(), MasterKey::File(None)).expect_err("no key is made beside sealed data");
    assert!(error.message().contains("master.key"), "{error}");
    open(folder.path(), master(1)).expect("the right key still opens it");
}

#[test]
fn another_format_is_refused_naming_both() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path(), master(1)).expect("a directory"));
    let ours = fs::read_to_string(folder.path().join("format")).expect("it says its format");
    fs::write(folder.path().join("format"), "bulkhead 1\n").expect("written");
    let error = open(folder.path(), master(1)).expect_err("another format");
    assert!(
        error.message().contains(ours.trim()) && error.message().contains("\"bulkhead 1\""),
        "{error}"
    );
    fs::remove_file(folder.path().join("format")).expect("removed");
    assert!(
        open(folder.path(), master(1))
            .expect_err("no format")
            .message()
            .contains("no format file")
    );
    fs::write(folder.path().join("format"), ours).expect("written");
    fs::remove_file(folder.path().join("keyring")).expect("removed");
    assert_eq!(
        code(open(folder.path(), master(1))),
        Some(Code::Corrupted),
        "no new keys over old data"
    );
}

#[test]
fn files_that_others_may_read_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    drop(open(&data, MasterKey::File(None)).expect("a directory"));
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(
        (mode(&data), mode(&data.join("master.key")), mode(&data.join("keyring"))),
        (0o700, 0o600, 0o600)
    );
    for file in ["master.key", "keyring"] {
        for others in [0o644, 0o640] {
            chmod(&data.join(file), others);
            let error = open(&data, MasterKey::File(None)).expect_err("readable");
            assert!(
                error.message().contains(file) && error.message().contains("read by others"),
                "{error}"
            );
        }
        chmod(&data.join(file), 0o600);
    }
    chmod(&data, 0o755);
    assert!(
        open(&data, MasterKey::File(None))
            .expect_err("readable")
            .message()
            .contains("entered by others")
    );
    chmod(&data, 0o700);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&data, &link).expect("a link");
    drop(open(&link, MasterKey::File(None)).expect("through a link"));
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    chmod(&empty, 0o755);
    drop(open(&empty, MasterKey::File(None)).expect("an empty one is closed to others"));
    assert_eq!(mode(&empty), 0o700);
    fs::write(data.join("master.key"), "short").expect("written");
    assert!(
        open(&data, MasterKey::File(None))
            .expect_err("no key")
            .message()
            .contains("64 hex digits")
    );
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).expect("a folder");
    chmod(&foreign, 0o700);
    fs::write(foreign.join("thesis.txt"), "precious").expect("written");
    assert!(
        open(&foreign, MasterKey::File(None))
            .expect_err("not ours")
            .message()
            .contains("no format file")
    );
}

#[tokio::test]
async fn what_a_crash_leaves_is_cleared_away() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(on_disk(folder.path(), &["acme"]).await);
    fs::write(folder.path().join("store/snap.00000000000000FF.generating"), "half").expect("written");
    // A key whose tenant was never committed, and a slot of which only a part was written.
    let hex = fs::read_to_string(folder.path().join("master.key")).expect("a key");
    let bytes = hex
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().expect("hex");
    let mut options = fs::OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .open(folder.path().join("keyring"))
        .expect("the keyring");
    let key = Zeroizing::new(bytes.try_into().expect("32 bytes"));
    Keyring::open(key, file).expect("a keyring").add(77).expect("a key");
    let mut ring = fs::read(folder.path().join("keyring")).expect("the keyring");
    ring.extend_from_slice(&[9; 50]);
    fs::write(folder.path().join("keyring"), ring).expect("written");

    let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
    assert!(!folder.path().join("store/snap.00000000000000FF.generating").exists());
    assert!(!directory.keyring.lock().expect("a keyring").planes().contains(&77));
    testing::populate(&directory, "admin's", &["umbra"]).await;
    drop(directory);
    let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
    owner(&directory, "acme");
    owner(&directory, "umbra");
}

#[test]
fn the_first_password_is_generated_once_and_a_given_one_replaces_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |admin_password: Option<&str>| {
        let admin_password = admin_password.map(str::to_owned);
        let data = folder.path().to_owned();
        Directory::open(OpenOptions {
            data,
            master_key: master(1),
            min_free_bytes: 0,
            admin_password,
        })
        .expect("opened")
    };
    let (directory, generated) = open(None);
    let generated = generated.expect("a password");
    assert!(generated.0.len() >= 24 && !format!("{generated:?}").contains(&generated.0));
    testing::operator(&directory, &generated.0);
    drop(directory);
    let (directory, again) = open(None);
    assert!(again.is_none());
    testing::operator(&directory, &generated.0);
    drop(directory);
    let (directory, _) = open(Some("chosen"));
    testing::operator(&directory, "chosen");
    let old = testing::log_in(&directory, OPERATOR_DATABASE, FIRST_OPERATOR, &generated.0);
    assert_eq!(code(old), Some(Code::InvalidPassword));
}
