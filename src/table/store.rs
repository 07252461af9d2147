//! A tenant's tables: the newest moment, what is committed to it, and what is loaded into it.
//!
//! A commit is cells in a [`Batch`] and a [`Publication`], which the committer queues when the cells are on disk.
//! [`Tables::latest`] takes in what is queued, in commit order; so who was told of a commit sees it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::{
    background,
    block::{self, Block, Fate},
    cells::{self, Entry},
    fold::{Folded, Folding},
    garbage::{Garbage, Shared},
    index::Expressions,
    load::{self, GONE},
    locks::Locks,
    schema::{Catalog, Oid, Relation, RowId},
    sequence::Sequences,
    snapshot::{Database, Later},
    state::TableState,
    write::{NewBlock, TableWrites, WriteSet},
};
use crate::{
    error::{Code, Error, Result},
    limits,
    tenant::{Batch, Table, Tenant},
};

/// See the module. One for each tenant.
pub struct Tables {
    pub(super) shared: Arc<Shared>,
    now: Mutex<Now>,
    pub(super) queue: Arc<Mutex<VecDeque<Publication>>>,
    locks: Arc<Locks>,
    sequences: Arc<Sequences>,
    next_oid: AtomicU32,
    numbers: Mutex<Numbers>,
    pub(super) folding: Arc<Folding>,
    /// Held by who loads or folds a table.
    gates: Mutex<HashMap<Oid, Arc<tokio::sync::Mutex<()>>>>,
}

struct Now {
    current: Database,
    /// Where moments that have passed find tables that are loaded from now on.
    later: Vec<Weak<Later>>,
}

struct Numbers {
    /// The next row of each table.
    rows: HashMap<Oid, RowId>,
    /// The next block of each storage.
    blocks: HashMap<Oid, u32>,
    /// Storages that have another number than their table.
    storages: HashMap<Oid, Oid>,
}

/// What is on disk and not yet in the newest moment.
pub(super) enum Publication {
    Commit(WriteSet),
    Fold(Folded),
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tables({:?})", self.now.lock().current)
    }
}

impl Tables {
    /// Reads the tenant's catalog, and begins to remove what a crash left.
    ///
    /// # Errors
    /// [`Code::Corrupted`] for a damaged definition, those of reading.
    pub async fn open(tenant: Tenant) -> Result<Arc<Self>> {
        let reader = tenant.clone();
        let opened = tokio::task::spawn_blocking(move || load::open(&reader));
        let opened = opened.await.map_err(Error::internal)??;
        let shared = Arc::new(Shared::new(tenant.clone()));
        // A block that waits to be removed keeps its number.
        let mut blocks = HashMap::new();
        for garbage in &opened.garbage {
            if let Garbage::Block { storage, no, .. } = garbage {
                let next = blocks.entry(*storage).or_insert(1);
                *next = no.saturating_add(1).max(*next);
            }
        }
        let tables = Arc::new_cyclic(|home| {
            let current = Database::first(Arc::new(opened.catalog), home.clone(), shared.clone());
            let later = vec![Arc::downgrade(current.later())];
            Self {
                shared: shared.clone(),
                now: Mutex::new(Now { current, later }),
                queue: Arc::default(),
                locks: Arc::default(),
                sequences: Arc::new(Sequences::new(tenant)),
                next_oid: AtomicU32::new(opened.next_oid),
                numbers: Mutex::new(Numbers {
                    rows: HashMap::new(),
                    blocks,
                    storages: opened.storages,
                }),
                folding: Arc::default(),
                gates: Mutex::default(),
            }
        });
        tokio::spawn(background::run(Arc::downgrade(&tables), shared.clone()));
        opened.garbage.into_iter().for_each(|garbage| shared.discard(garbage));
        Ok(tables)
    }

    /// Has indexes kept whose keys are no columns, or not of all rows. To be called before anything is read.
    pub fn set_expressions(&self, expressions: Arc<dyn Expressions>) {
        let _ = self.shared.expressions.set(expressions);
    }

    /// Everything that is committed.
    pub fn latest(&self) -> Database {
        self.taken_in().current.clone()
    }

    /// The newest moment, after all that is queued.
    fn taken_in(&self) -> parking_lot::MutexGuard<'_, Now> {
        let mut now = self.now.lock();
        loop {
            let Some(publication) = self.queue.lock().pop_front() else {
                break;
            };
            match publication {
                Publication::Commit(writes) => self.publish(&mut now, &writes),
                Publication::Fold(folded) => publish_fold(&mut now, &folded),
            }
        }
        now
    }

    /// The locks of the tenant's sessions.
    pub fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    /// The tenant's sequences.
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Numbers for `n` new rows of a table that is loaded or new: the first of them.
    pub fn allocate_rows(&self, table: Oid, n: u64) -> RowId {
        let mut numbers = self.numbers.lock();
        let next = numbers.rows.entry(table).or_insert(1);
        let first = *next;
        *next = next.saturating_add(n);
        first
    }

    /// `n` numbers for what is made: the first of them.
    pub fn allocate_oids(&self, n: u32) -> Oid {
        self.next_oid.fetch_add(n, Ordering::Relaxed)
    }

    /// The number of a new block.
    pub(super) fn allocate_block(&self, storage: Oid) -> u32 {
        let mut numbers = self.numbers.lock();
        let next = numbers.blocks.entry(storage).or_insert(1);
        let no = *next;
        *next = next.saturating_add(1);
        no
    }

    /// The storage of a table's committed rows.
    fn storage(&self, table: Oid) -> Oid {
        self.numbers.lock().storages.get(&table).copied().unwrap_or(table)
    }

    pub(super) fn gate(&self, table: Oid) -> Arc<tokio::sync::Mutex<()>> {
        self.gates.lock().entry(table).or_default().clone()
    }

    /// Loads a table into the newest moment, and into those before it.
    pub(super) async fn load(&self, oid: Oid) -> Result<()> {
        let gate = self.gate(oid);
        let _one_at_a_time = gate.lock().await;
        let latest = self.latest();
        let gone = || Error::new(Code::UndefinedTable, "the table does not exist any more");
        if latest.state(oid).is_some() {
            return Ok(());
        }
        let def = latest.catalog().table(oid).cloned().ok_or_else(gone)?;
        let (shared, storage) = (self.shared.clone(), self.storage(oid));
        let loaded = tokio::task::spawn_blocking(move || load::table(&shared, def, storage));
        let loaded = loaded.await.map_err(Error::internal)??;
        let mut now = self.taken_in();
        // It may have been dropped meanwhile, and its cells with it.
        let def = now.current.catalog().table(oid).cloned().ok_or_else(gone)?;
        {
            let mut numbers = self.numbers.lock();
            let row = numbers.rows.entry(oid).or_insert(1);
            *row = loaded.next_row.max(*row);
            let block = numbers.blocks.entry(storage).or_insert(1);
            *block = loaded.next_block.max(*block);
        }
        let state = Arc::new(loaded.state);
        now.later.retain(|later| match later.upgrade() {
            Some(later) => {
                later.insert(oid, state.clone());
                true
            }
            None => false,
        });
        let mut newest = state;
        Arc::make_mut(&mut newest).redefine(&def)?;
        if newest.wants_fold() {
            self.shared.want_fold(oid);
        }
        let later = Arc::default();
        now.later.push(Arc::downgrade(&later));
        now.current = now.current.loading(oid, newest, later);
        drop(now);
        if !loaded.strays.is_empty() {
            let rows = loaded.strays;
            self.shared.discard(Garbage::Rows { storage, rows });
        }
        Ok(())
    }

    /// Puts all of a transaction's writes into a batch, and sees to it that they are in [`Tables::latest`] when the
    /// batch is committed.
    ///
    /// # Errors
    /// [`Code::OutOfMemory`] as [`Database::with`], those of reading.
    pub fn fill(self: &Arc<Self>, batch: &mut Batch, writes: &WriteSet) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        // Before the newest moment is taken: a fold that has ended by now is in it, and one that begins waits.
        let (under_way, watched) = self.folding.begin(writes);
        let latest = self.latest();
        // Made here and not when it is published: there everyone waits, and finds it made.
        let after = latest.with(writes)?;
        let (old, new) = (latest.catalog(), after.catalog());
        if !Arc::ptr_eq(old, new) {
            load::put_changes(batch, old, new)?;
            for oid in dropped_tables(old, new) {
                batch.put(Table::Catalog, &Entry::Garbage(self.storage(oid)).key(), Vec::new());
                batch.delete(Table::Catalog, &Entry::Storage(oid).key());
            }
            for oid in dropped_sequences(old, new) {
                batch.delete(Table::Sequences, &cells::sequence(oid));
            }
        }
        let truncated = writes
            .tables()
            .any(|oid| writes.of(oid).is_some_and(|w| w.truncated.is_some()));
        if truncated || !Arc::ptr_eq(old, new) {
            let next = self.next_oid.load(Ordering::Relaxed);
            batch.put(Table::Catalog, &Entry::Next.key(), cells::encode(&next)?);
        }
        let mut made = Vec::new();
        for oid in writes.tables() {
            // Of one that is dropped by the same transaction nothing stays.
            let (Some(writes), Some(_), Some(state)) = (writes.of(oid), new.table(oid), after.state(oid)) else {
                continue;
            };
            if let Some(storage) = &writes.truncated {
                batch.put(Table::Catalog, &Entry::Storage(oid).key(), cells::encode(&storage.0)?);
                if old.table(oid).is_some() {
                    batch.put(Table::Catalog, &Entry::Garbage(self.storage(oid)).key(), Vec::new());
                }
            }
            let watched = watched.get(&oid);
            if watched.is_some_and(|watched| watched.fenced) {
                batch.put(Table::Catalog, &Entry::Fence(self.storage(oid)).key(), Vec::new());
            }
            put_rows(batch, writes, &state, watched.is_some())?;
            made.extend(writes.blocks().cloned());
        }
        for (oid, next) in writes.sequences() {
            Sequences::put_restart(batch, oid, next)?;
        }
        let (queue, sequences, writes) = (self.queue.clone(), self.sequences.clone(), writes.clone());
        batch.on_durable(move || {
            writes.sequences().for_each(|(oid, _)| sequences.forget(oid));
            made.iter().for_each(|block: &Arc<Block>| block.set_fate(Fate::Live));
            queue.lock().push_back(Publication::Commit(writes));
            drop(under_way);
        });
        Ok(())
    }

    fn publish(&self, now: &mut Now, writes: &WriteSet) {
        let old = now.current.clone();
        let version = old.version() + 1;
        now.current = match old.over(writes, version) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "what was committed could not be taken in; its tables are loaded again");
                let later = Arc::default();
                now.later.push(Arc::downgrade(&later));
                old.forgetting(writes, version, later)
            }
        };
        for oid in writes.tables() {
            if now.current.state(oid).is_some_and(|state| state.wants_fold()) {
                self.shared.want_fold(oid);
            }
        }
        let (before, after) = (old.catalog(), now.current.catalog());
        if !Arc::ptr_eq(before, after) {
            for oid in dropped_tables(before, after) {
                let storage = self.storage(oid);
                self.numbers.lock().storages.remove(&oid);
                self.doom(&old, oid, storage);
            }
            dropped_sequences(before, after).for_each(|oid| self.sequences.forget(oid));
        }
        for oid in writes.tables().filter(|&oid| after.table(oid).is_some()) {
            if let Some(storage) = writes.of(oid).and_then(|writes| writes.truncated.as_ref()) {
                let former = self.storage(oid);
                self.numbers.lock().storages.insert(oid, storage.0);
                if before.table(oid).is_some() {
                    self.doom(&old, oid, former);
                }
            }
        }
    }

    /// Has a storage removed, when those that read it are done.
    fn doom(&self, old: &Database, table: Oid, storage: Oid) {
        match old.state(table) {
            Some(state) => state.storage.doom(),
            None => self.shared.discard(Garbage::Storage(storage)),
        }
    }

    /// Writes many new rows as blocks, ahead of the transaction's commit: columns as the table has them, in order.
    /// `view` is what the transaction sees, the table being loaded or its own.
    ///
    /// # Errors
    /// [`Code::Internal`] for columns that are not the table's, those of committing.
    pub async fn write_block(self: &Arc<Self>, view: &Database, table: Oid, rows: &RecordBatch) -> Result<NewBlock> {
        let state = view
            .state(table)
            .ok_or_else(|| Error::internal("a table was written that is not loaded"))?;
        let schema = state.def.arrow();
        let types = |schema: &arrow::datatypes::Schema| {
            schema
                .fields()
                .iter()
                .map(|field| field.data_type().clone())
                .collect::<Vec<_>>()
        };
        if types(&schema) != types(&rows.schema()) {
            return Err(Error::internal("rows do not have their table's columns"));
        }
        let mut first = self.allocate_rows(table, rows.num_rows() as u64);
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < rows.num_rows() {
            let piece = piece(rows, at)?;
            at += piece.num_rows();
            let runs = vec![(first, piece.num_rows() as u32)];
            first += piece.num_rows() as u64;
            let no = self.allocate_block(state.storage.number);
            blocks.push(self.write_piece(state.clone(), no, runs, piece).await?);
        }
        Ok(NewBlock { table, blocks })
    }

    pub(super) async fn write_piece(
        &self,
        state: Arc<TableState>,
        no: u32,
        runs: Vec<(RowId, u32)>,
        piece: RecordBatch,
    ) -> Result<Arc<Block>> {
        let shared = self.shared.clone();
        let work = move || {
            let tenant = &shared.tenant;
            let ids = state.def.columns.iter().map(|column| column.id);
            let columns: Vec<_> = ids.zip(piece.columns().iter().cloned()).collect();
            let mut batch = tenant.batch();
            let head = block::write(&mut batch, state.storage.number, no, runs, &columns)?;
            // Made first: whatever happens from here on, its cells go with it.
            let block = Block::new(shared.clone(), state.storage.number, no, head, Fate::Pending)?;
            block.put_pending(&mut batch)?;
            tenant.commit_blocking(batch)?;
            Ok(Arc::new(block))
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.shared.wake.notify_one(); // ends the work in the background
    }
}

/// Puts the blocks of a fold in the place of rows and of the block they were made of.
fn publish_fold(now: &mut Now, folded: &Folded) {
    // A table that was left to be loaded again is loaded with the fold.
    let Some(mut state) = now.current.state(folded.table) else {
        return;
    };
    if state.storage.number == folded.source.storage.number {
        Arc::make_mut(&mut state).take_fold(folded);
        now.current = now.current.replacing(folded.table, state, now.current.version());
    }
}

/// Tables of one catalog that another lacks.
fn dropped_tables(old: &Catalog, new: &Catalog) -> impl Iterator<Item = Oid> {
    old.tables()
        .map(|table| table.oid)
        .filter(|&oid| new.table(oid).is_none())
}

fn dropped_sequences(old: &Catalog, new: &Catalog) -> impl Iterator<Item = Oid> {
    let sequences = old
        .relations
        .iter()
        .filter(|(_, relation)| matches!(relation, Relation::Sequence(_)));
    sequences
        .map(|(oid, _)| *oid)
        .filter(|oid| !new.relations.contains_key(oid))
}

/// The cells of a table's changed rows. `after` is the table with them. While the table is folded nobody knows whether
/// a row that goes is in a block, so all of them are marked; those that are in none go when the table is loaded next.
fn put_rows(batch: &mut Batch, writes: &TableWrites, after: &TableState, folded: bool) -> Result<()> {
    let storage = after.storage.number;
    for (row, change) in writes.changes() {
        let key = cells::row(storage, row);
        match change {
            Some(new) => batch.put(Table::Rows, &key, new.as_bytes().to_vec()),
            None if folded || after.blocks.find(row).is_some() => batch.put(Table::Rows, &key, GONE.to_vec()),
            None => batch.delete(Table::Rows, &key),
        }
    }
    for block in writes.blocks() {
        batch.put(
            Table::BlockHeads,
            &cells::head(storage, block.no),
            cells::encode(&block.head)?,
        );
        batch.delete(Table::Catalog, &Entry::PendingBlock(storage, block.no).key());
    }
    Ok(())
}

/// As many of the rows from a place on as make one block.
pub(super) fn piece(rows: &RecordBatch, at: usize) -> Result<RecordBatch> {
    let mut count = limits::BLOCK_ROWS.min(rows.num_rows() - at);
    loop {
        let piece = rows.slice(at, count);
        let sizes = piece
            .columns()
            .iter()
            .map(|column| column.to_data().get_slice_memory_size());
        let bytes = sizes.sum::<std::result::Result<usize, _>>().map_err(Error::internal)?;
        if bytes <= limits::BLOCK_BYTES || count == 1 {
            return Ok(piece);
        }
        count = (count * (limits::BLOCK_BYTES / 2) / bytes).max(1);
    }
}
