//! Folding: rows become blocks, and blocks of which many rows are gone are written anew.
//!
//! Neither readers nor writers wait for it, so a row may change while it is being folded. From the moment a fold
//! begins its table is watched: commits under way are waited for, and every later one leaves the rows it changes
//! ([`Watch::touched`]) and marks what it deletes, wherever the row lies by then. The cells of rows that were touched
//! stay, and lie over the block. In the short time between looking at what was touched and the fold's own commit, other
//! commits also write a cell (the fence) that the fold expects unchanged: so the fold loses, and tries again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    block::{Block, Fate},
    cells::{self, Entry},
    row,
    schema::{Oid, RowId},
    state::{Found, TableState},
    store::{Publication, Tables, piece},
    write::WriteSet,
};
use crate::{
    error::{Code, Error, Result},
    limits,
    tenant::{Batch, Table},
};

/// How often a fold tries to commit against others.
const ATTEMPTS: usize = 8;

/// The tables whose rows are on their way to the disk, and those that are being folded.
#[derive(Default)]
pub(super) struct Folding {
    watches: Mutex<Watches>,
    /// Told whenever a commit has ended.
    ended: Notify,
}

#[derive(Default)]
struct Watches {
    next: u64,
    tables: HashMap<Oid, Watch>,
}

#[derive(Default)]
struct Watch {
    /// Commits under way, in the order in which they began.
    under_way: BTreeSet<u64>,
    fold: Option<Fold>,
}

/// A fold under way.
#[derive(Default)]
struct Fold {
    /// Rows that others changed, or may have, since it began.
    touched: HashSet<RowId>,
    /// All rows are gone.
    truncated: bool,
    /// Whether it has looked at what was touched, and is committing.
    committing: bool,
}

/// A commit under way; it has ended, one way or the other, when this is dropped.
pub(super) struct UnderWay {
    folding: Arc<Folding>,
    number: u64,
    tables: Vec<Oid>,
}

impl Folding {
    /// Called before a transaction's writes are put into a batch: which of its tables are being folded.
    pub fn begin(self: &Arc<Self>, writes: &WriteSet) -> (UnderWay, HashMap<Oid, Watched>) {
        let mut watches = self.watches.lock();
        watches.next += 1;
        let number = watches.next;
        let mut folded = HashMap::new();
        for table in writes.tables() {
            let watch = watches.tables.entry(table).or_default();
            watch.under_way.insert(number);
            let (Some(fold), Some(writes)) = (&mut watch.fold, writes.of(table)) else {
                continue;
            };
            fold.touched.extend(writes.changes().map(|(row, _)| row));
            fold.truncated |= writes.truncated.is_some();
            let fenced = fold.committing;
            folded.insert(table, Watched { fenced });
        }
        let under_way = UnderWay {
            folding: self.clone(),
            number,
            tables: writes.tables().collect(),
        };
        (under_way, folded)
    }

    /// Begins to watch a table.
    pub(super) fn watch(self: &Arc<Self>, table: Oid) -> Watching {
        let mut watches = self.watches.lock();
        let until = watches.next;
        watches.tables.entry(table).or_default().fold = Some(Fold::default());
        Watching {
            folding: self.clone(),
            table,
            until,
        }
    }
}

/// How a commit deals with a table that is being folded.
pub(super) struct Watched {
    /// Whether it writes the fence.
    pub fenced: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut watches = self.folding.watches.lock();
        for table in &self.tables {
            if let Some(watch) = watches.tables.get_mut(table) {
                watch.under_way.remove(&self.number);
                if watch.under_way.is_empty() && watch.fold.is_none() {
                    watches.tables.remove(table);
                }
            }
        }
        drop(watches);
        self.folding.ended.notify_waiters();
    }
}

/// A table that is watched until this is dropped.
pub(super) struct Watching {
    folding: Arc<Folding>,
    table: Oid,
    /// The last commit that began before.
    until: u64,
}

impl Watching {
    /// Waits for the commits that began before.
    async fn settled(&self) {
        loop {
            let ended = self.folding.ended.notified();
            let waits = {
                let watches = self.folding.watches.lock();
                let watch = watches.tables.get(&self.table);
                watch
                    .and_then(|watch| watch.under_way.first())
                    .is_some_and(|&first| first <= self.until)
            };
            if !waits {
                return;
            }
            ended.await;
        }
    }

    /// The rows that were touched so far; others write the fence from here on. `None` if all rows are gone.
    pub(super) fn commit(&self) -> Option<HashSet<RowId>> {
        let mut watches = self.folding.watches.lock();
        let fold = watches.tables.get_mut(&self.table)?.fold.as_mut()?;
        fold.committing = true;
        (!fold.truncated).then(|| fold.touched.clone())
    }

    fn committed(&self) {
        let mut watches = self.folding.watches.lock();
        if let Some(fold) = watches
            .tables
            .get_mut(&self.table)
            .and_then(|watch| watch.fold.as_mut())
        {
            fold.committing = false;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watches = self.folding.watches.lock();
        if let Some(watch) = watches.tables.get_mut(&self.table) {
            watch.fold = None;
            if watch.under_way.is_empty() {
                watches.tables.remove(&self.table);
            }
        }
    }
}

/// Rows that become blocks together, and the block that some of them are in so far.
pub(super) struct Part {
    rows: Vec<RowId>,
    old: Option<Arc<Block>>,
}

/// What a fold has put on disk.
pub(super) struct Folded {
    pub table: Oid,
    /// The table of which the rows were taken.
    pub source: Arc<TableState>,
    pub old: Option<Arc<Block>>,
    pub new: Vec<Arc<Block>>,
}

/// What there is to fold; with `all`, down to the last row.
pub(super) fn plan(state: &TableState, all: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    for placed in state.blocks.iter() {
        if placed.is_heavy() || all && placed.marks.count() > 0 {
            let rows = placed.block.ids().filter(|&row| state.find(row).is_some()).collect();
            let old = Some(placed.block.clone());
            parts.push(Part { rows, old });
        }
    }
    if state.loose >= limits::FOLD_ROWS || all {
        let loose = state
            .rows
            .keys()
            .copied()
            .filter(|&row| state.blocks.find(row).is_none());
        let loose: Vec<RowId> = loose.collect();
        let wanted = loose
            .chunks(limits::BLOCK_ROWS)
            .filter(|rows| all || rows.len() == limits::BLOCK_ROWS);
        parts.extend(wanted.map(|rows| Part {
            rows: rows.to_vec(),
            old: None,
        }));
    }
    parts
}

/// Following ids as runs.
fn runs(rows: &[RowId]) -> Vec<(RowId, u32)> {
    let mut runs = Vec::<(RowId, u32)>::new();
    for &row in rows {
        match runs.last_mut() {
            Some((first, count)) if *first + u64::from(*count) == row => *count += 1,
            _ => runs.push((row, 1)),
        }
    }
    runs
}

impl Tables {
    /// Folds a table down to its last row. What is worth folding is folded without it, in the background.
    ///
    /// # Errors
    /// [`Code::SerializationFailure`] if others changed it again and again, those of reading and committing.
    pub async fn fold(self: &Arc<Self>, table: Oid) -> Result<()> {
        self.fold_table(table, true).await
    }

    /// The same; without `all` only what is worth it. It goes on if the caller stops waiting: a commit of its must
    /// not be under way when the table is not watched any more.
    pub(super) async fn fold_table(self: &Arc<Self>, table: Oid, all: bool) -> Result<()> {
        let tables = self.clone();
        let work = tokio::spawn(async move { tables.fold_watched(table, all).await });
        work.await.map_err(Error::internal)?
    }

    async fn fold_watched(&self, table: Oid, all: bool) -> Result<()> {
        self.latest().table(table).await?;
        let gate = self.gate(table);
        let _one_at_a_time = gate.lock().await;
        let watching = self.folding.watch(table);
        watching.settled().await;
        let Some(state) = self.latest().state(table) else {
            return Ok(());
        };
        let planned = state.clone();
        let parts = tokio::task::spawn_blocking(move || plan(&planned, all)).await;
        for part in parts.map_err(Error::internal)? {
            self.fold_part(&watching, &state, part).await?;
        }
        Ok(())
    }

    pub(super) async fn fold_part(&self, watching: &Watching, state: &Arc<TableState>, part: Part) -> Result<()> {
        let mut new = Vec::new();
        let mut at = 0;
        while at < part.rows.len() {
            let (source, rows) = (state.clone(), part.rows[at..].to_vec());
            let read = tokio::task::spawn_blocking(move || gather(&source, &rows));
            let batch = read.await.map_err(Error::internal)??;
            let rows = &part.rows[at..at + batch.num_rows()];
            at += rows.len();
            let no = self.allocate_block(state.storage.number);
            new.push(self.write_piece(state.clone(), no, runs(rows), batch).await?);
        }
        for _ in 0..ATTEMPTS {
            let storage = state.storage.number;
            let tenant = &self.shared.tenant;
            let fence = Entry::Fence(storage).key();
            // Read before the others begin to write it.
            let version = tenant.get(Table::Catalog, &fence)?.map(|fence| fence.version);
            let Some(touched) = watching.commit() else {
                return Ok(());
            };
            let mut batch = tenant.batch();
            batch.expect(Table::Catalog, &fence, version);
            put_fold(&mut batch, state, &part, &new, &touched)?;
            let folded = Folded {
                table: watching.table,
                source: state.clone(),
                old: part.old.clone(),
                new: new.clone(),
            };
            let queue = self.queue.clone();
            batch.on_durable(move || {
                folded.new.iter().for_each(|block| block.set_fate(Fate::Live));
                folded.old.iter().for_each(|block| block.set_fate(Fate::Replaced));
                queue.lock().push_back(Publication::Fold(folded));
            });
            let committed = tenant.commit(batch).await;
            watching.committed();
            match committed {
                Err(error) if error.code() == Code::SerializationFailure => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.latest();
                    return Ok(());
                }
            }
        }
        Err(Error::new(
            Code::SerializationFailure,
            "the table was changed while it was folded",
        ))
    }
}

/// As many of the rows as make one block.
fn gather(state: &TableState, rows: &[RowId]) -> Result<RecordBatch> {
    let columns: Vec<u16> = state.def.columns.iter().map(|column| column.id).collect();
    let (arrays, found) = state.arrays(rows, &columns)?;
    if found.len() != rows.len() {
        return Err(Error::internal("a row vanished from a snapshot"));
    }
    piece(&row::batch(state.def.arrow(), arrays, rows.len())?, 0)
}

/// The cells of a fold: new heads in the place of the old one, and no more cells for rows that are in the blocks now.
fn put_fold(
    batch: &mut Batch,
    state: &TableState,
    part: &Part,
    new: &[Arc<Block>],
    touched: &HashSet<RowId>,
) -> Result<()> {
    let storage = state.storage.number;
    for block in new {
        batch.put(
            Table::BlockHeads,
            &cells::head(storage, block.no),
            cells::encode(&block.head)?,
        );
        batch.delete(Table::Catalog, &Entry::PendingBlock(storage, block.no).key());
    }
    let delete = |batch: &mut Batch, row: RowId| {
        if !touched.contains(&row) {
            batch.delete(Table::Rows, &cells::row(storage, row));
        }
    };
    for &row in &part.rows {
        if matches!(state.find(row), Some(Found::Row(_))) {
            delete(batch, row);
        }
    }
    if let Some(old) = &part.old {
        batch.delete(Table::BlockHeads, &cells::head(storage, old.no));
        old.put_pending(batch)?;
        // The marks of rows that are in no block any more.
        old.ids()
            .filter(|&row| state.find(row).is_none())
            .for_each(|row| delete(batch, row));
    }
    Ok(())
}

impl TableState {
    /// Moves rows to the blocks that a fold has made of them, as far as they are still the same.
    pub fn take_fold(&mut self, folded: &Folded) {
        let before = self.clone();
        if let Some(old) = &folded.old {
            self.remove_block(old);
        }
        for block in &folded.new {
            let mut marks = super::block::Marks::default();
            for (place, row) in block.ids().enumerate() {
                let same = match (before.find(row), folded.source.find(row)) {
                    (Some(Found::Row(one)), Some(Found::Row(other))) => one.is(other),
                    (Some(Found::Block(one, _)), Some(Found::Block(other, _))) => Arc::ptr_eq(&one.block, &other.block),
                    _ => false,
                };
                if !same {
                    marks.insert(place);
                }
                self.leave_rows(row, same, before.blocks.find(row).is_none());
            }
            self.place_block(block.clone(), Arc::new(marks));
        }
        self.count = before.count;
    }
}
