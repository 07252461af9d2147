//! What a tenant's tables share, and what nobody reads any more.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    cache::Cache,
    index::Expressions,
    schema::{Oid, RowId},
};
use crate::{limits, tenant::Tenant};

/// What the tables of a tenant have in common.
pub(super) struct Shared {
    pub tenant: Tenant,
    pub cache: Cache,
    garbage: Mutex<Vec<Garbage>>,
    /// Memory that indexes and rows may take.
    memory: AtomicUsize,
    /// What knows the values of keys that are no columns.
    pub expressions: OnceLock<Arc<dyn Expressions>>,
    /// Tables to fold.
    wanted: Mutex<BTreeSet<Oid>>,
    /// Wakes the work in the background.
    pub wake: Notify,
}

/// Cells that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Garbage {
    /// Columns of a block, each with its number of parts.
    Block {
        storage: Oid,
        no: u32,
        columns: Vec<(u16, u16)>,
    },
    /// Marks of rows that are in no block.
    Rows { storage: Oid, rows: Vec<RowId> },
    /// Everything under a storage.
    Storage(Oid),
}

impl Shared {
    pub fn new(tenant: Tenant) -> Self {
        Self {
            tenant,
            cache: Cache::new(limits::TABLE_CACHE_BYTES),
            garbage: Mutex::default(),
            memory: limits::TENANT_TABLE_BYTES.into(),
            expressions: OnceLock::new(),
            wanted: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Memory that the tables may take, in bytes.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub fn set_memory(&self, bytes: usize) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    /// Leaves something to the work in the background.
    pub fn discard(&self, garbage: Garbage) {
        if let Garbage::Block { storage, no, columns } = &garbage {
            columns
                .iter()
                .for_each(|&(column, _)| self.cache.remove((*storage, *no, column)));
        }
        self.garbage.lock().push(garbage);
        self.wake.notify_one();
    }

    /// Leaves a table's folding to the work in the background.
    pub fn want_fold(&self, table: Oid) {
        if self.wanted.lock().insert(table) {
            self.wake.notify_one();
        }
    }

    /// The tables to fold.
    pub fn take_wanted(&self) -> BTreeSet<Oid> {
        std::mem::take(&mut *self.wanted.lock())
    }

    /// What was left so far.
    pub fn take_garbage(&self) -> Vec<Garbage> {
        std::mem::take(&mut *self.garbage.lock())
    }
}

/// Under which number a table's rows are stored. TRUNCATE gives it another.
pub(super) struct Storage {
    pub number: Oid,
    doomed: AtomicBool,
    shared: Arc<Shared>,
}

impl Storage {
    pub fn new(number: Oid, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            number,
            doomed: AtomicBool::new(false),
            shared,
        })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Once nobody reads it any more, its cells go.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if *self.doomed.get_mut() {
            self.shared.discard(Garbage::Storage(self.number));
        }
    }
}
