//! Tests of the wall from inside: raw cells, failing disks, forged and foreign values.

mod chain;
mod commits;
mod login;
mod opening;
mod scram;
mod wall;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use zeroize::Zeroizing;

use super::{
    keyring::Keyring,
    table, testing,
    vault::{Cells, Changes, Memory, Store},
    *,
};
use crate::error::Code;

/// A directory on disk with the tenants named; `min_free_bytes` is 0.
async fn on_disk(data: &Path, tenants: &[&str]) -> Arc<Directory> {
    let directory = open(data, MasterKey::File(None)).expect("a directory");
    testing::populate(&directory, "admin's", tenants).await;
    directory
}

fn open(data: &Path, master_key: MasterKey) -> Result<Arc<Directory>> {
    let admin_password = Some("admin's".to_owned());
    Ok(Directory::open(OpenOptions {
        data: data.to_owned(),
        master_key,
        min_free_bytes: 0,
        admin_password,
    })?
    .0)
}

fn owner(directory: &Arc<Directory>, name: &str) -> Tenant {
    testing::tenant(directory, name, "owner", "secret")
}

fn code<T>(result: Result<T>) -> Option<Code> {
    result.err().map(|error| error.code())
}

/// The twin with a disk that can fail and fill up.
#[derive(Default)]
struct Faulty {
    memory: Memory,
    sync_fails: AtomicBool,
    apply_fails: AtomicBool,
    used: AtomicU64,
    /// Happens right after the next cell is read, before its reader goes on.
    meanwhile: Mutex<Changes>,
}

impl Store for Faulty {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let cell = self.memory.get(key)?;
        self.memory
            .apply(std::mem::take(&mut *self.meanwhile.lock().expect("no panic")))?;
        Ok(cell)
    }

    fn page(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Cells> {
        self.memory.page(from, to, limit)
    }

    fn apply(&self, changes: Changes) -> Result<()> {
        match self.apply_fails.load(Ordering::SeqCst) {
            true => Err(Error::new(Code::Io, "injected")),
            false => self.memory.apply(changes),
        }
    }

    fn sync(&self) -> Result<()> {
        match self.sync_fails.load(Ordering::SeqCst) {
            true => Err(Error::new(Code::Io, "injected")),
            false => Ok(()),
        }
    }

    fn free_bytes(&self) -> Result<u64> {
        Ok((1 << 40) - self.used.load(Ordering::SeqCst))
    }
}

async fn faulty(tenants: &[&str]) -> (Arc<Faulty>, Arc<Directory>) {
    let store = Arc::new(Faulty::default());
    let keyring = Keyring::in_memory().expect("a keyring");
    let directory = Directory::start(store.clone(), keyring, None, 0, Some("admin's"))
        .expect("a directory")
        .0;
    testing::populate(&directory, "admin's", tenants).await;
    (store, directory)
}

/// Every cell of the store.
fn cells(directory: &Directory) -> Cells {
    directory.store.page(&[], None, usize::MAX).expect("cells")
}

/// The cells of one value.
fn cells_of(directory: &Directory, tenant: &Tenant, table: Table, key: &[u8]) -> Cells {
    let id = directory.find(tenant.name()).expect("a tenant").plane.id;
    let stem = table::stem(id, table, key);
    directory
        .store
        .page(&stem, table::after(&stem).as_deref(), usize::MAX)
        .expect("cells")
}

/// Puts the cells of one value in place of another's, as an attacker with the disk would.
fn transplant(directory: &Directory, from: (&Tenant, Table, &[u8]), to: (&Tenant, Table, &[u8])) {
    let stem = table::stem(directory.find(to.0.name()).expect("a tenant").plane.id, to.1, to.2);
    let moved = cells_of(directory, from.0, from.1, from.2);
    assert!(!moved.is_empty());
    let changes = moved
        .into_iter()
        .enumerate()
        .map(|(part, (_, cell))| (table::cell(&stem, part), Some(cell)));
    directory.store.apply(changes.collect()).expect("a change");
}

async fn put(tenant: &Tenant, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
    let mut batch = tenant.batch();
    batch.put(table, key, value.to_vec());
    tenant.commit(batch).await
}

fn value(tenant: &Tenant, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    tenant
        .get(table, key)
        .expect("a readable value")
        .map(|stored| stored.value)
}

fn master(byte: u8) -> MasterKey {
    MasterKey::Bytes(Zeroizing::new([byte; 32]))
}
