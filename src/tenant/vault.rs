//! The store: one sorted map of small cells, changed by atomic batches.
//!
//! [`Disk`] is sled, [`Memory`] its twin: a `BTreeMap`, obviously right, that tests compare it with.
//! Only the committer calls [`Store::apply`] and [`Store::sync`], from its own thread.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use crate::error::{Code, Error, Result};

/// Cells to write (`Some`) and to remove (`None`), in key order.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// Cells read, in key order.
pub(super) type Cells = Vec<(Vec<u8>, Vec<u8>)>;

pub(super) trait Store: Send + Sync {
    /// One cell.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// At most `limit` cells from `from` (included) to `to` (excluded; `None` is the end).
    fn page(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Cells>;
    /// All of the changes or none. Durable only after [`Store::sync`].
    fn apply(&self, changes: Changes) -> Result<()>;
    /// Returns when everything applied before is on disk.
    fn sync(&self) -> Result<()>;
    /// Bytes that may still be written to the disk.
    fn free_bytes(&self) -> Result<u64>;
}

/// The twin in memory.
#[derive(Default)]
pub(super) struct Memory {
    cells: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self
            .cells
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned())
    }

    fn page(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Cells> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let range = cells.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded));
        let inside = range.take_while(|(key, _)| to.is_none_or(|to| key.as_slice() < to));
        Ok(inside
            .take(limit)
            .map(|(key, cell)| (key.clone(), cell.clone()))
            .collect())
    }

    fn apply(&self, changes: Changes) -> Result<()> {
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        for (key, change) in changes {
            match change {
                Some(cell) => cells.insert(key, cell),
                None => cells.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64> {
        Ok(u64::MAX)
    }
}

/// sled, and the handle through which what it wrote is forced to the disk.
pub(super) struct Disk {
    /// Everything lives in one tree: sled applies a batch to one tree atomically.
    cells: sled::Tree,
    /// sled's `db` file, opened a second time: `Db::flush` ends in `sync_file_range`, which says
    /// nothing of the disk's cache or the file's length. A descriptor of our own also reports a
    /// write error that sled's background `fsync` has already seen and only logged.
    log: File,
    folder: PathBuf,
    _db: sled::Db,
}

/// sled's page cache. It also bounds how much a scan of one tenant can push out of it.
const CACHE_BYTES: u64 = 256 << 20;

impl Disk {
    /// Opens or creates sled in a folder that nobody else may have open.
    pub fn open(folder: &Path) -> Result<Self> {
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            .use_compression(false)
            .open()
            .map_err(|e| failed("open", e))?;
        let cells = db.open_tree("cells").map_err(|e| failed("open", e))?;
        let log = File::open(folder.join("db")).map_err(|e| failed("open", e))?;
        let disk = Self {
            cells,
            log,
            folder: folder.to_owned(),
            _db: db,
        };
        disk.sync()?;
        Ok(disk)
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self
            .cells
            .get(key)
            .map_err(|e| failed("read", e))?
            .map(|cell| cell.to_vec()))
    }

    fn page(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Cells> {
        let range = match to {
            Some(to) => self.cells.range(from..to),
            None => self.cells.range(from..),
        };
        let copied = range
            .take(limit)
            .map(|pair| pair.map(|(key, cell)| (key.to_vec(), cell.to_vec())));
        copied.collect::<sled::Result<_>>().map_err(|e| failed("read", e))
    }

    fn apply(&self, changes: Changes) -> Result<()> {
        let mut batch = sled::Batch::default();
        for (key, change) in changes {
            match change {
                Some(cell) => batch.insert(key, cell),
                None => batch.remove(key),
            }
        }
        self.cells.apply_batch(batch).map_err(|e| failed("write", e))
    }

    fn sync(&self) -> Result<()> {
        self.cells.flush().map_err(|e| failed("write", e))?;
        self.log.sync_data().map_err(|e| failed("write", e))
    }

    fn free_bytes(&self) -> Result<u64> {
        fs2::available_space(&self.folder).map_err(|e| failed("measure", e))
    }
}

fn failed(verb: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    tracing::error!(verb, %cause, "storage failed");
    Error::new(Code::Io, format!("storage failed: could not {verb}")).with_source(cause)
}
