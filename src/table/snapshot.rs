//! What is there at one moment: the catalog and all tables that were ever touched. A clone costs nothing.

use std::{
    collections::HashMap,
    ops,
    sync::{Arc, Weak},
};

use arrow::array::RecordBatch;
use imbl::OrdMap;
use parking_lot::Mutex;

use super::{
    garbage::Shared,
    index::{Index, IndexScan},
    key::Key,
    row,
    scan::{self, Bound, Scan},
    schema::{Catalog, IndexDef, KeyOf, Oid, RowId, TableDef},
    state::{Found, TableState},
    store::Tables,
    write::WriteSet,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// See the module.
#[derive(Clone)]
pub struct Database(Arc<Moment>);

struct Moment {
    version: u64,
    catalog: Arc<Catalog>,
    tables: OrdMap<Oid, Arc<TableState>>,
    /// Memory of `tables`.
    bytes: usize,
    later: Arc<Later>,
    /// Tables that were loaded with another definition than this moment's catalog has.
    redefined: Mutex<HashMap<Oid, Arc<TableState>>>,
    home: Weak<Tables>,
    shared: Arc<Shared>,
}

/// Tables that were loaded after a moment had passed. They are as they were then: nothing changes a table before it
/// is loaded.
#[derive(Default)]
pub(super) struct Later(Mutex<HashMap<Oid, Arc<TableState>>>);

impl Later {
    pub fn insert(&self, oid: Oid, state: Arc<TableState>) {
        self.0.lock().entry(oid).or_insert(state);
    }

    fn get(&self, oid: Oid) -> Option<Arc<TableState>> {
        self.0.lock().get(&oid).cloned()
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Database(version {}, {} tables)",
            self.0.version,
            self.0.tables.len()
        )
    }
}

impl Database {
    pub(super) fn first(catalog: Arc<Catalog>, home: Weak<Tables>, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Moment {
            version: 1,
            catalog,
            tables: OrdMap::new(),
            bytes: 0,
            later: Arc::default(),
            redefined: Mutex::default(),
            home,
            shared,
        }))
    }

    /// What exists.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.0.catalog
    }

    /// Grows with each commit.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The same with a transaction's writes over it. It costs what was written since the last call with this set, or
    /// with what it was cloned from; an index that is new is built here, which reads its table.
    ///
    /// # Errors
    /// [`Code::OutOfMemory`] when a tenant's tables would take more than [`limits::TENANT_TABLE_BYTES`] of memory;
    /// those of reading.
    pub fn with(&self, writes: &WriteSet) -> Result<Self> {
        if writes.is_empty() {
            return Ok(self.clone());
        }
        let view = self.over(writes, self.0.version)?;
        let grows = view.0.bytes > self.0.bytes;
        match grows && view.0.bytes > self.0.shared.memory() {
            true => Err(too_much_memory()),
            false => Ok(view),
        }
    }

    /// The moment after these writes.
    pub(super) fn over(&self, writes: &WriteSet, version: u64) -> Result<Self> {
        let catalog = writes.catalog().unwrap_or(&self.0.catalog).clone();
        let mut next = self.next(catalog.clone(), version);
        if !Arc::ptr_eq(&catalog, &self.0.catalog) {
            for (&oid, state) in &self.0.tables {
                match catalog.table(oid) {
                    None => next.remove(oid),
                    Some(def) if Arc::ptr_eq(def, &state.def) || writes.touches(oid) => {}
                    Some(def) => next.insert(oid, writes.over(Some(state), def, &self.0.shared)?),
                }
            }
            for def in catalog.tables() {
                if self.0.catalog.table(def.oid).is_none() && !writes.touches(def.oid) {
                    next.insert(def.oid, writes.over(None, def, &self.0.shared)?);
                }
            }
        }
        for oid in writes.tables() {
            let Some(def) = catalog.table(oid) else { continue };
            let base = self.state(oid);
            if base.is_none() && self.0.catalog.table(oid).is_some() {
                return Err(Error::internal("a table was written that is not loaded"));
            }
            next.insert(oid, writes.over(base.as_ref(), def, &self.0.shared)?);
        }
        Ok(Self(Arc::new(next)))
    }

    /// The moment after a table has come to be, or another state of it.
    pub(super) fn replacing(&self, oid: Oid, state: Arc<TableState>, version: u64) -> Self {
        let mut next = self.next(self.0.catalog.clone(), version);
        next.insert(oid, state);
        Self(Arc::new(next))
    }

    /// The moment after a table was loaded; moments before it find it in `later`.
    pub(super) fn loading(&self, oid: Oid, state: Arc<TableState>, later: Arc<Later>) -> Self {
        let mut next = self.next(self.0.catalog.clone(), self.0.version);
        next.insert(oid, state);
        next.later = later;
        Self(Arc::new(next))
    }

    /// The moment after these writes, with the tables that they touch left to be loaded again.
    pub(super) fn forgetting(&self, writes: &WriteSet, version: u64, later: Arc<Later>) -> Self {
        let catalog = writes.catalog().unwrap_or(&self.0.catalog).clone();
        let mut next = self.next(catalog.clone(), version);
        for (&oid, state) in &self.0.tables {
            let same = catalog.table(oid).is_some_and(|def| Arc::ptr_eq(def, &state.def));
            if !same || writes.touches(oid) {
                next.remove(oid);
            }
        }
        next.later = later;
        Self(Arc::new(next))
    }

    fn next(&self, catalog: Arc<Catalog>, version: u64) -> Moment {
        Moment {
            version,
            catalog,
            tables: self.0.tables.clone(),
            bytes: self.0.bytes,
            later: self.0.later.clone(),
            redefined: Mutex::default(),
            home: self.0.home.clone(),
            shared: self.0.shared.clone(),
        }
    }

    pub(super) fn later(&self) -> &Arc<Later> {
        &self.0.later
    }

    /// A table's state, if it is loaded.
    pub(super) fn state(&self, oid: Oid) -> Option<Arc<TableState>> {
        self.0.tables.get(&oid).cloned().or_else(|| self.0.later.get(oid))
    }

    /// Whether nothing was committed to a table between here and there, as far as that is known: where it was folded
    /// or loaded meanwhile it is not.
    pub fn same_table(&self, other: &Database, table: Oid) -> bool {
        match (self.state(table), other.state(table)) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether a row is the same version here and there, or missing in both. A table that is not loaded in both has
    /// no same rows.
    pub fn same_row(&self, other: &Database, table: Oid, row: RowId) -> bool {
        let (Some(one), Some(other)) = (self.state(table), other.state(table)) else {
            return false;
        };
        if Arc::ptr_eq(&one, &other) {
            return true;
        }
        match (one.find(row), other.find(row)) {
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
            (Some(Found::Row(one)), Some(Found::Row(other))) => one.is(other) || one == other,
            (Some(Found::Block(one, _)), Some(Found::Block(other, _))) if Arc::ptr_eq(&one.block, &other.block) => true,
            // Rows move into blocks and from block to block: what they hold tells.
            (Some(_), Some(_)) => same_values(&one, &other, row).unwrap_or(false),
        }
    }

    /// A table, loaded at first use.
    ///
    /// # Errors
    /// [`Code::UndefinedTable`] if it is not there or was dropped before it was ever read, [`Code::Corrupted`] for
    /// damaged cells, those of reading.
    pub async fn table(&self, oid: Oid) -> Result<Arc<TableData>> {
        if let Some(data) = self.loaded(oid) {
            return Ok(data);
        }
        let def = self.0.catalog.table(oid).ok_or_else(gone)?;
        let home = self.0.home.upgrade();
        home.ok_or_else(|| Error::new(Code::Shutdown, "the tenant is closed"))?
            .load(oid)
            .await?;
        let state = self.state(oid).ok_or_else(gone)?;
        if Arc::ptr_eq(&state.def, def) {
            return Ok(TableData::of(state));
        }
        let (mut redefined, def) = (TableState::clone(&state), def.clone());
        let work = tokio::task::spawn_blocking(move || redefined.redefine(&def).map(|()| Arc::new(redefined)));
        let state = work.await.map_err(Error::internal)??;
        self.0.redefined.lock().insert(oid, state.clone());
        Ok(TableData::of(state))
    }

    /// A table, if it is loaded.
    pub fn loaded(&self, oid: Oid) -> Option<Arc<TableData>> {
        let def = self.0.catalog.table(oid)?;
        let state = self.state(oid)?;
        if Arc::ptr_eq(&state.def, def) {
            return Some(TableData::of(state));
        }
        self.0.redefined.lock().get(&oid).cloned().map(TableData::of)
    }
}

impl Moment {
    fn insert(&mut self, oid: Oid, state: Arc<TableState>) {
        self.bytes += state.bytes();
        if let Some(old) = self.tables.insert(oid, state) {
            self.bytes -= old.bytes();
        }
    }

    fn remove(&mut self, oid: Oid) {
        if let Some(old) = self.tables.remove(&oid) {
            self.bytes -= old.bytes();
        }
    }
}

fn same_values(one: &TableState, other: &TableState, row: RowId) -> Result<bool> {
    let columns: Vec<u16> = one.def.columns.iter().map(|column| column.id).collect();
    let ids = |state: &TableState| state.def.columns.iter().map(|column| column.id).collect::<Vec<_>>();
    if ids(other) != columns {
        return Ok(false);
    }
    Ok(one.arrays(&[row], &columns)?.0 == other.arrays(&[row], &columns)?.0)
}

fn gone() -> Error {
    Error::new(Code::UndefinedTable, "the table does not exist any more")
}

pub(super) fn too_much_memory() -> Error {
    let megabytes = limits::TENANT_TABLE_BYTES >> 20;
    Error::new(Code::OutOfMemory, "the tables of this tenant take too much memory")
        .with_detail(format!(
            "Indexes and rows that were just written may take {megabytes} MB together."
        ))
        .with_hint("drop indexes that are not needed, or delete rows; many rows at once are best written by COPY")
}

/// One table at one moment.
#[derive(Clone)]
pub struct TableData(Arc<TableState>);

impl std::fmt::Debug for TableData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableData({} rows)", self.0.count)
    }
}

impl TableData {
    fn of(state: Arc<TableState>) -> Arc<Self> {
        Arc::new(Self(state))
    }

    /// Its definition.
    pub fn def(&self) -> &Arc<TableDef> {
        &self.0.def
    }

    /// The number under which its rows are stored: another one when it was truncated or written anew.
    pub fn storage(&self) -> Oid {
        self.0.storage.number
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.0.count
    }

    /// Whether the other is the same moment of the same table.
    pub fn is(&self, other: &TableData) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The rows that are not the same here and there, in order; a row that only moved into a block may be among them.
    /// It costs what was changed. `None` if they are more than about `most`, or if one of the two was truncated or
    /// written anew since the other.
    pub fn changed_since(&self, other: &TableData, most: usize) -> Option<Vec<RowId>> {
        match self.is(other) {
            true => Some(Vec::new()),
            false => self.0.changed_since(&other.0, most),
        }
    }

    /// Whether a row is there.
    pub fn contains(&self, row: RowId) -> bool {
        self.0.find(row).is_some()
    }

    /// Every row that is not in a block which `bounds` excludes: a hint, so callers filter again. With
    /// `with_row_ids` the last column is [`super::ROW_COLUMN`].
    pub fn scan(&self, columns: Vec<u16>, bounds: Vec<Bound>, with_row_ids: bool) -> Scan {
        self.scan_part(columns, bounds, with_row_ids, 0, 1)
    }

    /// One of several parts that together are the scan; `part` from 0.
    pub fn scan_part(&self, columns: Vec<u16>, bounds: Vec<Bound>, with_row_ids: bool, part: usize, of: usize) -> Scan {
        Scan::new(self.0.clone(), columns, bounds, with_row_ids, part, of)
    }

    /// Some rows, in the order asked for; those that are not there are left out. With `with_row_ids` the last column
    /// is [`super::ROW_COLUMN`].
    ///
    /// # Errors
    /// [`Code::Corrupted`] and others of reading.
    pub fn get(&self, rows: &[RowId], columns: &[u16], with_row_ids: bool) -> Result<RecordBatch> {
        let (arrays, found) = self.0.arrays(rows, columns)?;
        let batch = row::batch(row::schema(&self.0.def, columns)?, arrays, found.len())?;
        if with_row_ids {
            scan::add_ids(&batch, found)
        } else {
            Ok(batch)
        }
    }

    fn index(&self, index: Oid) -> Option<&Index> {
        self.0.indexes.iter().find(|kept| kept.oid() == index)
    }

    /// Whether an index answers for all rows by their columns: it is ordered, without expressions or WHERE.
    pub fn has_index(&self, index: Oid) -> bool {
        self.index(index)
            .is_some_and(|index| super::index::is_plain(&index.def))
    }

    /// Whether an index is kept at all, so that [`TableData::lookup`] answers for the keys that [`super::Expressions`]
    /// gives.
    pub fn keeps_index(&self, index: Oid) -> bool {
        self.index(index).is_some()
    }

    /// The rows of a whole key. None if the index is not one that answers.
    pub fn lookup(&self, index: Oid, key: &Key) -> Vec<RowId> {
        self.index(index).map(|index| index.rows_of(key)).unwrap_or_default()
    }

    /// The rows of keys that begin with a key's first columns, in the index's order.
    pub fn prefix(&self, index: Oid, prefix: &Key, reverse: bool) -> IndexScan {
        let range = (
            ops::Bound::Included(prefix.clone()),
            ops::Bound::Included(prefix.clone()),
        );
        self.range(index, range, reverse)
    }

    /// The rows of keys in a range, in the index's order or its reverse. Bounds may be first columns of keys:
    /// included, they take in every key that begins so, excluded they leave all of these out.
    pub fn range(&self, index: Oid, range: (ops::Bound<Key>, ops::Bound<Key>), reverse: bool) -> IndexScan {
        match self.index(index) {
            Some(index) => index.scan(range, reverse),
            None => IndexScan::empty(),
        }
    }

    /// Checks that no two rows have one key, NULLs being distinct unless the index says otherwise.
    ///
    /// # Errors
    /// [`Code::UniqueViolation`], those of reading.
    pub fn check_unique(&self, index: Oid) -> Result<()> {
        let Some(index) = self.index(index) else { return Ok(()) };
        for row in index.duplicates() {
            if index.def.nulls_not_distinct || !self.0.has_null_key(row, &index.def)? {
                return Err(not_unique(&index.def));
            }
        }
        Ok(())
    }

    /// Names of an index's columns, for messages.
    pub fn index_columns(&self, index: Oid) -> Vec<&str> {
        let def = self.0.def.indexes.iter().find(|def| def.oid == index);
        let ids = def
            .into_iter()
            .flat_map(|def| &def.keys)
            .filter_map(|key| match &key.key {
                KeyOf::Column(id) => Some(*id),
                KeyOf::Expression(_) => None,
            });
        ids.filter_map(|id| self.0.def.column_of(id))
            .map(|column| column.name.as_str())
            .collect()
    }
}

/// That rows which were there before a unique index keep it from being made.
pub fn not_unique(index: &IndexDef) -> Error {
    let text = format!("could not create unique index \"{}\"", index.name);
    Error::new(Code::UniqueViolation, text).with_detail("Some key is duplicated.")
}
