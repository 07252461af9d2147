//! What a transaction has written so far. All of it is persistent: a savepoint is a clone.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use parking_lot::Mutex;

use super::{
    block::Block,
    garbage::{Shared, Storage},
    row::Row,
    schema::{Catalog, Oid, RowId, TableDef},
    state::TableState,
};
use crate::error::Result;

/// See the module.
#[derive(Clone, Default)]
pub struct WriteSet {
    catalog: Option<Arc<Catalog>>,
    tables: OrdMap<Oid, TableWrites>,
    /// The next number of sequences that begin again.
    sequences: OrdMap<Oid, i64>,
    known: Known,
}

/// What a transaction has written to one table.
#[derive(Clone, Default)]
pub(super) struct TableWrites {
    changes: OrdMap<RowId, RowChange>,
    /// The rows in the order in which they changed, so that a view takes in what is new since the last one.
    log: Vector<RowId>,
    blocks: Vector<NewBlock>,
    /// The storage that its rows are in from now on: all that were before are gone.
    pub truncated: Option<Arc<NewStorage>>,
}

/// A storage that TRUNCATE gave to a table.
pub(super) struct NewStorage(pub Oid);

#[derive(Clone)]
enum RowChange {
    Insert(Row),
    Update(Row),
    Delete,
}

/// Rows that were written as blocks, ahead of the commit that makes them live. They go if that does not come.
#[derive(Clone)]
pub struct NewBlock {
    pub(super) table: Oid,
    pub(super) blocks: Vec<Arc<Block>>,
}

impl NewBlock {
    /// The table it is for.
    pub fn table(&self) -> Oid {
        self.table
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.rows()).sum()
    }

    /// Its first row; the others follow one by one, in the order of the batch that was written.
    pub fn first_row(&self) -> RowId {
        self.blocks.first().map_or(0, |block| block.first())
    }
}

impl std::fmt::Debug for WriteSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WriteSet({} tables)", self.tables.len())
    }
}

impl std::fmt::Debug for NewBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewBlock({} rows)", self.rows())
    }
}

impl WriteSet {
    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.catalog.is_none() && self.tables.is_empty() && self.sequences.is_empty()
    }

    /// Whether committing it only takes rows away.
    pub fn only_deletes(&self) -> bool {
        let only_deletes = |table: &TableWrites| {
            table.blocks.is_empty() && table.changes.values().all(|change| matches!(change, RowChange::Delete))
        };
        self.catalog.is_none() && self.sequences.is_empty() && self.tables.values().all(only_deletes)
    }

    /// Whether rows of a table were written.
    pub fn touches(&self, table: Oid) -> bool {
        self.tables.contains_key(&table)
    }

    /// The tables of which rows were written.
    pub fn tables(&self) -> impl Iterator<Item = Oid> {
        self.tables.keys().copied()
    }

    /// The catalog as this transaction leaves it, if it changed it.
    pub fn catalog(&self) -> Option<&Arc<Catalog>> {
        self.catalog.as_ref()
    }

    /// Puts another catalog in the place of what the transaction saw.
    pub fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        self.catalog = Some(catalog);
    }

    /// A new row, of an id that [`super::Tables::allocate_rows`] gave.
    pub fn insert(&mut self, table: Oid, row: RowId, new: Row) {
        self.change(table, row, |_| Some(RowChange::Insert(new)));
    }

    /// Another version of a row that is there.
    pub fn update(&mut self, table: Oid, row: RowId, new: Row) {
        self.change(table, row, |own| match own {
            Some(RowChange::Insert(_)) => Some(RowChange::Insert(new)),
            Some(RowChange::Update(_) | RowChange::Delete) | None => Some(RowChange::Update(new)),
        });
    }

    /// Removes a row.
    pub fn delete(&mut self, table: Oid, row: RowId) {
        self.change(table, row, |own| match own {
            Some(RowChange::Insert(_)) => None,
            Some(RowChange::Update(_) | RowChange::Delete) | None => Some(RowChange::Delete),
        });
    }

    fn change(&mut self, table: Oid, row: RowId, change: impl FnOnce(Option<&RowChange>) -> Option<RowChange>) {
        let writes = self.tables.entry(table).or_default();
        match change(writes.changes.get(&row)) {
            Some(change) => writes.changes.insert(row, change),
            None => writes.changes.remove(&row),
        };
        writes.log.push_back(row);
    }

    /// Removes all rows, this transaction's own too. `storage` is a number of
    /// [`super::Tables::allocate_oids`]: what is inserted from now on is kept under it.
    pub fn truncate(&mut self, table: Oid, storage: Oid) {
        let emptied = TableWrites {
            truncated: Some(Arc::new(NewStorage(storage))),
            ..TableWrites::default()
        };
        self.tables.insert(table, emptied);
    }

    /// New rows that [`super::Tables::write_block`] has written.
    pub fn insert_block(&mut self, block: NewBlock) {
        self.tables.entry(block.table).or_default().blocks.push_back(block);
    }

    /// The next number of a sequence, once this is committed.
    pub fn restart_sequence(&mut self, oid: Oid, next: i64) {
        self.sequences.insert(oid, next);
    }

    /// The rows that changed, in order; `None` for one that is gone. Rows of blocks are not among them.
    pub fn changes(&self, table: Oid) -> impl Iterator<Item = (RowId, Option<&Row>)> {
        self.tables.get(&table).into_iter().flat_map(TableWrites::changes)
    }

    pub(super) fn of(&self, table: Oid) -> Option<&TableWrites> {
        self.tables.get(&table)
    }

    pub(super) fn sequences(&self) -> impl Iterator<Item = (Oid, i64)> {
        self.sequences.iter().map(|(oid, next)| (*oid, *next))
    }

    /// A table with these writes, out of what it was without. `base` is `None` for a table that the transaction made.
    pub(super) fn over(
        &self,
        base: Option<&Arc<TableState>>,
        def: &Arc<TableDef>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<TableState>> {
        // Taken out, so that it is changed in place where nobody else looks at it.
        let known = self.known.0.lock().remove(&def.oid);
        let writes = self.tables.get(&def.oid);
        let still = known.filter(|known| known.is_of(base, def, writes));
        let (mut state, from, blocks) = match still {
            Some(known) => (known.state, known.log, known.blocks),
            None => (start(base, def, writes, shared)?, 0, 0),
        };
        if let Some(writes) = writes
            && (writes.log.len() > from || writes.blocks.len() > blocks)
        {
            let changed = Arc::make_mut(&mut state);
            for block in writes.blocks.iter().skip(blocks).flat_map(|new| &new.blocks) {
                changed.add_block(block)?;
            }
            changed.apply(&writes.since(from))?;
        }
        let view = View {
            base: base.cloned(),
            state: state.clone(),
            truncated: writes.and_then(|writes| writes.truncated.clone()),
            log: writes.map_or(0, |writes| writes.log.len()),
            blocks: writes.map_or(0, |writes| writes.blocks.len()),
        };
        self.known.0.lock().insert(def.oid, view);
        Ok(state)
    }
}

/// A table before its rows are written.
fn start(
    base: Option<&Arc<TableState>>,
    def: &Arc<TableDef>,
    writes: Option<&TableWrites>,
    shared: &Arc<Shared>,
) -> Result<Arc<TableState>> {
    let truncated = writes.and_then(|writes| writes.truncated.as_ref());
    match (base, truncated) {
        (_, Some(storage)) => Ok(Arc::new(TableState::empty(
            def.clone(),
            Storage::new(storage.0, shared.clone()),
        ))),
        (None, None) => Ok(Arc::new(TableState::empty(
            def.clone(),
            Storage::new(def.oid, shared.clone()),
        ))),
        (Some(base), None) => {
            let mut state = base.clone();
            if !Arc::ptr_eq(&state.def, def) {
                Arc::make_mut(&mut state).redefine(def)?;
            }
            Ok(state)
        }
    }
}

impl TableWrites {
    pub fn changes(&self) -> impl Iterator<Item = (RowId, Option<&Row>)> {
        self.changes.iter().map(|(row, change)| (*row, change.row()))
    }

    pub fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.iter().flat_map(|new| &new.blocks)
    }

    /// Changes from a place of the log on, each row once.
    fn since(&self, from: usize) -> Vec<(RowId, Option<Row>)> {
        let current = |row: RowId| (row, self.changes.get(&row).and_then(RowChange::row).cloned());
        if from == 0 && self.log.len() == self.changes.len() {
            return self
                .changes
                .iter()
                .map(|(row, change)| (*row, change.row().cloned()))
                .collect();
        }
        let mut rows: Vec<RowId> = self.log.iter().skip(from).copied().collect();
        rows.sort_unstable();
        rows.dedup();
        rows.into_iter().map(current).collect()
    }
}

impl RowChange {
    fn row(&self) -> Option<&Row> {
        match self {
            Self::Insert(row) | Self::Update(row) => Some(row),
            Self::Delete => None,
        }
    }
}

/// The tables as this transaction last saw them. A clone begins with what is known.
#[derive(Default)]
struct Known(Mutex<OrdMap<Oid, View>>);

#[derive(Clone)]
struct View {
    base: Option<Arc<TableState>>,
    state: Arc<TableState>,
    truncated: Option<Arc<NewStorage>>,
    /// How much of the log, and of the blocks, is in it.
    log: usize,
    blocks: usize,
}

impl View {
    /// Whether it only lacks what was written since.
    fn is_of(&self, base: Option<&Arc<TableState>>, def: &Arc<TableDef>, writes: Option<&TableWrites>) -> bool {
        let same_base = match (&self.base, base) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        let truncated = writes.and_then(|writes| writes.truncated.as_ref());
        let same_storage = match (&self.truncated, truncated) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_base && same_storage && Arc::ptr_eq(&self.state.def, def)
    }
}

impl Clone for Known {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.0.lock().clone()))
    }
}
