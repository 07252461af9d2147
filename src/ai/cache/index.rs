//! How much one tenant's cache holds, and what goes first when it is full. Knows keys and sizes only;
//! the answers are in the store.

use std::collections::{BTreeMap, HashMap};

use super::Hash;
use crate::limits;

/// Bytes that one answer takes besides its own: key, seal, place in the index.
const OVERHEAD_BYTES: usize = 256;

/// Most that is held.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Answers.
    pub entries: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: limits::CACHE_ENTRIES,
            bytes: limits::CACHE_BYTES,
        }
    }
}

/// One answer that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    bytes: usize,
    ends_at: i64,
    /// Larger is later.
    used: u64,
}

impl Held {
    pub(super) fn new(value_bytes: usize, ends_at: i64) -> Self {
        Self {
            bytes: value_bytes + OVERHEAD_BYTES,
            ends_at,
            used: 0,
        }
    }
}

/// All that are held.
pub(super) struct Index {
    bounds: Bounds,
    held: HashMap<Hash, Held>,
    by_use: BTreeMap<u64, Hash>,
    bytes: usize,
    uses: u64,
}

impl Index {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: HashMap::new(),
            by_use: BTreeMap::new(),
            bytes: 0,
            uses: 0,
        }
    }

    /// Number and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.held.len(), self.bytes)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Hash> {
        self.held.keys().copied()
    }

    /// Those whose time is over.
    pub(super) fn over(&self, now: i64) -> Vec<Hash> {
        let over = self.held.iter().filter(|(_, held)| held.ends_at <= now);
        over.map(|(key, _)| *key).collect()
    }

    /// It was used just now.
    pub(super) fn touch(&mut self, key: &Hash) {
        if let Some(held) = self.remove(key) {
            self.insert(*key, held);
        }
    }

    pub(super) fn insert(&mut self, key: Hash, mut held: Held) {
        self.remove(&key);
        self.uses += 1;
        held.used = self.uses;
        self.bytes += held.bytes;
        self.by_use.insert(held.used, key);
        self.held.insert(key, held);
    }

    pub(super) fn remove(&mut self, key: &Hash) -> Option<Held> {
        let held = self.held.remove(key)?;
        self.by_use.remove(&held.used);
        self.bytes -= held.bytes;
        Some(held)
    }

    /// Takes one in, and gives those that were used least recently as far as they must go for it.
    pub(super) fn place(&mut self, key: Hash, held: Held) -> Vec<(Hash, Held)> {
        self.insert(key, held);
        let mut evicted = Vec::new();
        while self.held.len() > self.bounds.entries || self.bytes > self.bounds.bytes {
            let oldest = self.by_use.first_key_value().map(|(_, key)| *key);
            let Some(oldest) = oldest.filter(|oldest| *oldest != key) else {
                break;
            };
            evicted.extend(self.remove(&oldest).map(|held| (oldest, held)));
        }
        evicted
    }
}
