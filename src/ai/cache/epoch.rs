//! The state of a tenant's documents, as part of the keys of answers that were found in them.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use uuid::Uuid;

/// One state of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    process: Uuid,
    commits: u64,
}

/// The present one. Its start is random, so that no answer of before a restart is ever asked for: a
/// durable counter would refuse deletions on a full disk.
pub struct CorpusEpoch {
    process: Uuid,
    commits: AtomicU64,
}

impl fmt::Debug for CorpusEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorpusEpoch({:?})", self.now())
    }
}

impl CorpusEpoch {
    /// One that never was.
    pub fn new() -> Self {
        Self {
            process: Uuid::new_v4(),
            commits: AtomicU64::new(0),
        }
    }

    /// The documents have changed: call it when the commit is durable and every search sees it.
    pub fn advance(&self) {
        self.commits.fetch_add(1, Ordering::Release);
    }

    /// The state now. To be read before the documents are searched: what is found may then be newer
    /// than the epoch says, which nobody minds, and never older.
    pub fn now(&self) -> Epoch {
        Epoch {
            process: self.process,
            commits: self.commits.load(Ordering::Acquire),
        }
    }
}

impl Default for CorpusEpoch {
    fn default() -> Self {
        Self::new()
    }
}

impl Epoch {
    pub(super) fn bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(self.process.as_bytes());
        bytes[16..].copy_from_slice(&self.commits.to_be_bytes());
        bytes
    }
}
