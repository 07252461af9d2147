//! An index in memory: a persistent ordered set of keys with their rows. A clone shares it.

use std::{ops::Bound, sync::Arc};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use imbl::OrdSet;

use super::{
    key::Key,
    schema::{IndexDef, IndexMethod, KeyOf, Oid, RowId, TableDef},
};
use crate::error::Result;

/// The keys of one index.
#[derive(Clone)]
pub(super) struct Index {
    pub def: Arc<IndexDef>,
    entries: OrdSet<(Key, RowId)>,
    /// Memory of keys that are too long to lie in the set itself.
    heap_bytes: usize,
}

/// What an entry takes: itself, and its share of nodes that are on average three quarters full, with their own heads.
const ENTRY_BYTES: usize = (size_of::<(Key, RowId)>() * 4).div_ceil(3) + 8;

/// Values of keys that are no columns. They are SQL, which these tables know nothing of.
pub trait Expressions: Send + Sync {
    /// For some rows (all columns of the table) an array for each key of the index, and which rows fulfil its WHERE,
    /// if it has one.
    ///
    /// # Errors
    /// Those of the expressions: whoever writes such a row hears of them.
    fn keys(
        &self,
        table: &TableDef,
        index: &IndexDef,
        rows: &RecordBatch,
    ) -> Result<(Vec<ArrayRef>, Option<BooleanArray>)>;
}

/// Whether an index is ordered, and thus kept in memory.
pub(super) fn is_ordered(index: &IndexDef) -> bool {
    matches!(index.method, IndexMethod::Btree | IndexMethod::Hash)
}

/// Whether it has all rows by their columns.
pub(super) fn is_plain(index: &IndexDef) -> bool {
    is_ordered(index) && index.predicate.is_none() && index.keys.iter().all(|key| matches!(key.key, KeyOf::Column(_)))
}

/// The columns of an index that [`is_plain`].
pub(super) fn columns(index: &IndexDef) -> Vec<u16> {
    let column = |key: &KeyOf| match key {
        KeyOf::Column(id) => Some(*id),
        KeyOf::Expression(_) => None,
    };
    index.keys.iter().filter_map(|key| column(&key.key)).collect()
}

/// Whether two definitions have the same entries.
pub(super) fn same_entries(one: &IndexDef, other: &IndexDef) -> bool {
    let of = |index: &IndexDef| -> Vec<_> {
        let keys = index.keys.iter();
        keys.map(|key| (key.key.clone(), key.descending, key.nulls_first))
            .collect()
    };
    one.oid == other.oid && of(one) == of(other) && one.predicate == other.predicate
}

impl Index {
    pub fn new(def: Arc<IndexDef>) -> Self {
        Self {
            def,
            entries: OrdSet::new(),
            heap_bytes: 0,
        }
    }

    pub fn oid(&self) -> Oid {
        self.def.oid
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES + self.heap_bytes
    }

    pub fn insert(&mut self, key: Key, row: RowId) {
        let bytes = key.heap_bytes();
        if self.entries.insert((key, row)).is_none() {
            self.heap_bytes += bytes;
        }
    }

    pub fn remove(&mut self, key: Key, row: RowId) {
        let bytes = key.heap_bytes();
        if self.entries.remove(&(key, row)).is_some() {
            self.heap_bytes = self.heap_bytes.saturating_sub(bytes);
        }
    }

    /// The rows of a key.
    pub fn rows_of(&self, key: &Key) -> Vec<RowId> {
        let (from, to) = ((key.clone(), RowId::MIN), (key.clone(), RowId::MAX));
        self.entries.range(from..=to).map(|(_, row)| *row).collect()
    }

    /// The rows of keys in a range, bounds being whole keys or first columns of keys.
    pub fn scan(&self, range: (Bound<Key>, Bound<Key>), reverse: bool) -> IndexScan {
        let first = |key: Key| (key, RowId::MIN);
        let after = |key: Key| {
            key.after()
                .map_or(Bound::Unbounded, |key| Bound::Excluded((key, RowId::MIN)))
        };
        let from = match range.0 {
            Bound::Included(key) => Bound::Included(first(key)),
            Bound::Excluded(key) => match key.after() {
                Some(key) => Bound::Included(first(key)),
                // Nothing sorts after it.
                None => return IndexScan::empty(),
            },
            Bound::Unbounded => Bound::Unbounded,
        };
        let to = match range.1 {
            Bound::Included(key) => after(key),
            Bound::Excluded(key) => Bound::Excluded(first(key)),
            Bound::Unbounded => Bound::Unbounded,
        };
        IndexScan::over(self.entries.clone(), (from, to), reverse)
    }

    /// A row of each key that several rows have.
    pub fn duplicates(&self) -> impl Iterator<Item = RowId> {
        let entries = self.entries.iter();
        entries
            .zip(self.entries.iter().skip(1))
            .filter(|((one, _), (other, _))| one == other)
            .map(|((_, row), _)| *row)
    }
}

/// Entries read in one go.
const PAGE: usize = 256;

type Entry = (Key, RowId);

/// The rows of a range of an index, in its order. It owns what it reads.
pub struct IndexScan {
    entries: OrdSet<Entry>,
    range: (Bound<Entry>, Bound<Entry>),
    reverse: bool,
    /// In reverse.
    page: Vec<RowId>,
    done: bool,
}

impl IndexScan {
    pub(super) fn empty() -> Self {
        Self::over(OrdSet::new(), (Bound::Unbounded, Bound::Unbounded), false)
    }

    fn over(entries: OrdSet<Entry>, range: (Bound<Entry>, Bound<Entry>), reverse: bool) -> Self {
        // A range whose end lies before its begin is empty.
        let done = match (&range.0, &range.1) {
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
            _ => false,
        };
        Self {
            entries,
            range,
            reverse,
            page: Vec::new(),
            done,
        }
    }

    fn read(&mut self) {
        let mut page = Vec::with_capacity(PAGE);
        let mut last = None;
        let mut take = |entry: &Entry| {
            page.push(entry.1);
            last = Some(entry.clone());
        };
        let range = self
            .entries
            .range::<_, Entry>((self.range.0.as_ref(), self.range.1.as_ref()));
        match self.reverse {
            false => range.take(PAGE).for_each(&mut take),
            true => range.rev().take(PAGE).for_each(&mut take),
        }
        self.done = page.len() < PAGE;
        match (last, self.reverse) {
            (None, _) => {}
            (Some(last), false) => self.range.0 = Bound::Excluded(last),
            (Some(last), true) => self.range.1 = Bound::Excluded(last),
        }
        page.reverse();
        self.page = page;
    }
}

impl Iterator for IndexScan {
    type Item = RowId;

    fn next(&mut self) -> Option<RowId> {
        if self.page.is_empty() && !self.done {
            self.read();
        }
        self.page.pop()
    }
}
