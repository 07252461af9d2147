//! Opening a data directory: who may read it, who has it open, which format and key it has.
//!
//! ```text
//! <data>/lock         locked (flock) while a process has the directory open
//! <data>/format       "bulkhead 1"
//! <data>/master.key   the master key in hex, unless it is kept elsewhere
//! <data>/keyring      wrapped data keys
//! <data>/store/       sled
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    keyring::Keyring,
    seal::{self, FORMAT, Key},
    vault::Disk,
};
use crate::error::{Code, Error, Result};

/// Where the key comes from that wraps all data keys.
pub enum MasterKey {
    /// A file of 64 hex digits that only its owner may read. `None` is `master.key` in the data
    /// directory, which is made at the first start.
    File(Option<PathBuf>),
    /// The key itself.
    Bytes(Zeroizing<[u8; 32]>),
}

/// An open data directory. Fields drop in this order: the lock goes last.
pub(super) struct Opened {
    pub store: Disk,
    pub keyring: Keyring,
    pub lock: File,
}

/// How long to wait for sled's own lock: sled's threads may outlive the store that was just dropped.
const SLED_LOCK_WAIT: Duration = Duration::from_millis(500);

/// Opens or creates a data directory. Nothing in it is touched before it is locked.
pub(super) fn open(data: &Path, master: MasterKey) -> Result<Opened> {
    let data = folder(data)?;
    let lock = private()
        .truncate(false)
        .open(data.join("lock"))
        .map_err(|e| io(&data.join("lock"), e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(&data)),
        Err(TryLockError::Error(e)) => return Err(io(&data.join("lock"), e)),
    }
    let (store, keyring) = (data.join("store"), data.join("keyring"));
    check_sled_lock(&data, &store.join("db"))?;
    check_format(&data)?;
    let begun = fs::metadata(&keyring).is_ok_and(|file| file.len() > 0) || store.join("db").exists();
    let master = master_key(&data, master, begun)?;
    if store.join("db").exists() && !fs::metadata(&keyring).is_ok_and(|file| file.len() > 0) {
        return Err(
            Error::new(Code::Corrupted, format!("{} is missing or empty", keyring.display()))
                .with_hint("restore the data directory from a backup"),
        );
    }
    let file = private().truncate(false).open(&keyring).map_err(|e| io(&keyring, e))?;
    only_owner(&keyring)?;
    let keyring = Keyring::open(master, file)?;
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&store)
        .map_err(|e| io(&store, e))?;
    remove_unfinished_snapshots(&store)?;
    let opened = Opened {
        store: Disk::open(&store)?,
        keyring,
        lock,
    };
    for path in [store.join("conf"), store, data] {
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|e| io(&path, e))?;
    }
    Ok(opened)
}

/// Makes the directory, or checks that nobody else may read it.
fn folder(data: &Path) -> Result<PathBuf> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(data)
        .map_err(|e| io(data, e))?;
    let data = data.canonicalize().map_err(|e| io(data, e))?;
    let mode = fs::metadata(&data).map_err(|e| io(&data, e))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(data);
    }
    if fs::read_dir(&data).map_err(|e| io(&data, e))?.next().is_none() {
        fs::set_permissions(&data, Permissions::from_mode(0o700)).map_err(|e| io(&data, e))?;
        return Ok(data);
    }
    let text = format!(
        "the data directory {} may be entered by others (mode {:03o})",
        data.display(),
        mode & 0o777
    );
    Err(Error::new(Code::Io, text).with_hint(format!("chmod 700 {}", data.display())))
}

/// Also refuses when our lock file was deleted under a running process: sled's lock is on the data itself.
fn check_sled_lock(data: &Path, db: &Path) -> Result<()> {
    if !db.exists() {
        return Ok(());
    }
    let file = File::open(db).map_err(|e| io(db, e))?;
    for wait in 0..=10 {
        match file.try_lock() {
            Ok(()) => return file.unlock().map_err(|e| io(db, e)),
            Err(TryLockError::WouldBlock) if wait < 10 => thread::sleep(SLED_LOCK_WAIT / 10),
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(e)) => return Err(io(db, e)),
        }
    }
    Err(in_use(data))
}

/// Reads the format, or writes it first of all into a directory that holds nothing yet.
fn check_format(data: &Path) -> Result<()> {
    let path = data.join("format");
    let ours = format!("bulkhead {FORMAT}\n");
    match fs::read(&path) {
        Ok(found) if found == ours.as_bytes() => Ok(()),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found[..found.len().min(40)])
                .trim()
                .escape_debug()
                .to_string();
            let text = format!(
                "{} has format \"{found}\"; this program reads \"{}\"",
                data.display(),
                ours.trim()
            );
            Err(Error::new(Code::Io, text).with_hint("start the version that wrote it, export, and import here"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            for entry in fs::read_dir(data).map_err(|e| io(data, e))? {
                let name = entry.map_err(|e| io(data, e))?.file_name();
                if !["lock", "master.key", "format.new", "master.key.new"]
                    .iter()
                    .any(|known| name == *known)
                {
                    let text = format!("{} is no data directory: it has no format file", data.display());
                    return Err(Error::new(Code::Io, text).with_hint("name an empty directory, or restore a backup"));
                }
            }
            create(data, "format", ours.as_bytes())
        }
        Err(e) => Err(io(&path, e)),
    }
}

/// The master key. A new one is made only while nothing was sealed with another.
fn master_key(data: &Path, from: MasterKey, begun: bool) -> Result<Key> {
    let path = match from {
        MasterKey::Bytes(key) => return Ok(key),
        MasterKey::File(Some(path)) => path,
        MasterKey::File(None) => {
            let path = data.join("master.key");
            if !begun && !path.exists() {
                let key = seal::random_key()?;
                let mut hex = Zeroizing::new(String::with_capacity(65));
                hex.extend(
                    key.iter()
                        .flat_map(|b| [b >> 4, b & 15])
                        .filter_map(|n| char::from_digit(n.into(), 16)),
                );
                hex.push('\n');
                create(data, "master.key", hex.as_bytes())?;
            }
            path
        }
    };
    only_owner(&path)?;
    let text = Zeroizing::new(fs::read(&path).map_err(|e| io(&path, e))?);
    parse_key(text.trim_ascii()).ok_or_else(|| {
        Error::new(
            Code::Io,
            format!("the master key file {} must hold 64 hex digits", path.display()),
        )
    })
}

fn parse_key(hex: &[u8]) -> Option<Key> {
    let mut key = Key::default();
    let (pairs, []) = hex.as_chunks::<2>() else { return None };
    if pairs.len() != key.len() {
        return None;
    }
    for (byte, &[high, low]) in key.iter_mut().zip(pairs) {
        *byte = (char::from(high).to_digit(16)? << 4 | char::from(low).to_digit(16)?) as u8;
    }
    Some(key)
}

fn only_owner(path: &Path) -> Result<()> {
    let mode = fs::metadata(path).map_err(|e| io(path, e))?.permissions().mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(Error::new(
            Code::Io,
            format!("{} may be read by others (mode {:03o})", path.display(), mode & 0o777),
        )
        .with_hint(format!("chmod 600 {}", path.display()))),
    }
}

/// Writes a file that is there whole or not at all.
fn create(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    let write = || {
        let mut file = private().truncate(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|e| io(&path, e))
}

/// A crash while sled writes a snapshot leaves a file that its next start cannot read.
fn remove_unfinished_snapshots(store: &Path) -> Result<()> {
    for entry in fs::read_dir(store).map_err(|e| io(store, e))? {
        let entry = entry.map_err(|e| io(store, e))?;
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating"))
        {
            fs::remove_file(entry.path()).map_err(|e| io(&entry.path(), e))?;
        }
    }
    Ok(())
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn in_use(data: &Path) -> Error {
    Error::new(
        Code::Io,
        format!("the data directory {} is in use by another process", data.display()),
    )
    .with_hint("stop that process, or name another directory")
}

fn io(path: &Path, cause: std::io::Error) -> Error {
    Error::new(Code::Io, format!("{}: {cause}", path.display())).with_source(cause)
}
