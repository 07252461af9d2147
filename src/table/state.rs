//! One table at one moment: rows, blocks and indexes, all persistent, so that a clone costs nothing and shares them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray},
    compute::interleave,
};
use imbl::OrdMap;

use super::{
    block::Block,
    blocks::{Blocks, Placed},
    build::Builder,
    garbage::Storage,
    index::{self, Index},
    key::{self, Key},
    row::{self, Row},
    scan::Scan,
    schema::{ColumnDef, IndexDef, RowId, TableDef},
};
use crate::{
    error::{Error, Result},
    limits,
};

/// See the module.
#[derive(Clone)]
pub(super) struct TableState {
    pub def: Arc<TableDef>,
    pub storage: Arc<Storage>,
    /// Rows that are in no block, and newer versions of some that are.
    pub rows: OrdMap<RowId, Row>,
    pub blocks: Blocks,
    pub indexes: Vec<Index>,
    pub count: u64,
    /// How many of `rows` have never been in a block.
    pub loose: usize,
    /// Blocks of which so many rows are gone that they are to be written anew.
    heavy: usize,
    row_bytes: usize,
    block_bytes: usize,
}

/// Where a row is.
pub(super) enum Found<'a> {
    Row(&'a Row),
    Block(&'a Placed, usize),
}

/// What a row in memory takes beside its bytes: its place in the map, and its head.
const ROW_BYTES: usize = 64;

/// A change of a row: its new version, or `None` where it goes.
pub(super) type Change = (RowId, Option<Row>);

impl TableState {
    /// A table without rows.
    pub fn empty(def: Arc<TableDef>, storage: Arc<Storage>) -> Self {
        let kept = kept_indexes(&def, &storage);
        let indexes = kept.map(|index| Index::new(Arc::new(index.clone()))).collect();
        Self {
            def,
            storage,
            rows: OrdMap::new(),
            blocks: Blocks::default(),
            indexes,
            count: 0,
            loose: 0,
            heavy: 0,
            row_bytes: 0,
            block_bytes: 0,
        }
    }

    /// Memory that it takes, shared or not.
    pub fn bytes(&self) -> usize {
        let indexes: usize = self.indexes.iter().map(Index::bytes).sum();
        self.row_bytes + self.rows.len() * ROW_BYTES + self.block_bytes + indexes
    }

    pub fn find(&self, row: RowId) -> Option<Found<'_>> {
        if let Some(found) = self.rows.get(&row) {
            return Some(Found::Row(found));
        }
        let (placed, place) = self.blocks.find(row)?;
        (!placed.marks.contains(place)).then_some(Found::Block(placed, place))
    }

    /// Makes changes, the last of several to one row counting.
    ///
    /// # Errors
    /// Those of reading what the indexes held; then it is in an undefined state, and to be dropped.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        for changes in changes.chunks(limits::SCAN_ROWS) {
            self.reindex(changes)?;
            for (id, new) in changes {
                self.put(*id, new.clone());
            }
        }
        Ok(())
    }

    /// Changes a row, but not the indexes.
    pub fn put(&mut self, id: RowId, new: Option<Row>) {
        let place = self
            .blocks
            .find(id)
            .map(|(placed, place)| (placed.block.first(), place, placed.marks.contains(place)));
        let existed = self.rows.contains_key(&id) || place.is_some_and(|(_, _, marked)| !marked);
        if let Some((first, place, false)) = place {
            self.heavy += usize::from(self.blocks.mark(first, place));
        }
        match (&new, existed) {
            (Some(_), false) => self.count += 1,
            (None, true) => self.count -= 1,
            (Some(_), true) | (None, false) => {}
        }
        let (stays, added) = (new.is_some(), new.as_ref().map_or(0, |row| row.as_bytes().len()));
        let old = match new {
            Some(row) => self.rows.insert(id, row),
            None => self.rows.remove(&id),
        };
        self.row_bytes = self.row_bytes + added - old.as_ref().map_or(0, |row| row.as_bytes().len());
        if place.is_none() {
            self.loose = self.loose + usize::from(stays) - usize::from(old.is_some());
        }
    }

    /// What a fold does to a row: if it is now in a block it is no row any more; if it is not, it is no loose one.
    pub fn leave_rows(&mut self, row: RowId, in_block: bool, was_loose: bool) {
        if was_loose && self.rows.contains_key(&row) {
            self.loose -= 1;
        }
        if in_block && let Some(old) = self.rows.remove(&row) {
            self.row_bytes -= old.as_bytes().len();
        }
    }

    /// Whether enough has gathered to fold.
    pub fn wants_fold(&self) -> bool {
        self.heavy > 0 || self.loose >= limits::FOLD_ROWS
    }

    fn reindex(&mut self, changes: &[Change]) -> Result<()> {
        if self.indexes.is_empty() {
            return Ok(());
        }
        let columns = self.key_columns();
        let ids: Vec<RowId> = changes.iter().map(|(id, _)| *id).collect();
        let (old, found) = self.arrays(&ids, &columns)?;
        let rows: Vec<&Row> = changes.iter().filter_map(|(_, new)| new.as_ref()).collect();
        let new = row::decode(&rows, &self.def, &columns)?;
        let (def, storage) = (self.def.clone(), self.storage.clone());
        let mut bytes = Vec::new();
        for index in &mut self.indexes {
            let of = |arrays: &[ArrayRef], rows| Keys::of(&def, &storage, &index.def, &columns, arrays, rows);
            let (old, new) = (of(&old, found.len())?, of(new.columns(), rows.len())?);
            let (mut old_at, mut new_at) = (0, 0);
            for (id, change) in changes {
                let mut before = None;
                if found.get(old_at) == Some(id) {
                    before = old.at(old_at, &index.def, &mut bytes)?;
                    old_at += 1;
                }
                let mut after = None;
                if change.is_some() {
                    after = new.at(new_at, &index.def, &mut bytes)?;
                    new_at += 1;
                }
                if before == after {
                    continue;
                }
                if let Some(before) = before {
                    index.remove(before, *id);
                }
                if let Some(after) = after {
                    index.insert(after, *id);
                }
            }
        }
        Ok(())
    }

    /// The columns that all indexes need, each once.
    fn key_columns(&self) -> Vec<u16> {
        needed(&self.def, self.indexes.iter().map(|index| &*index.def))
    }

    /// Whether a row has a NULL in its key.
    pub fn has_null_key(&self, row: RowId, index: &IndexDef) -> Result<bool> {
        let columns = needed(&self.def, [index].into_iter());
        let (arrays, found) = self.arrays(&[row], &columns)?;
        let keys = Keys::of(&self.def, &self.storage, index, &columns, &arrays, found.len())?;
        Ok(keys.arrays.iter().any(|array| array.logical_null_count() > 0))
    }

    /// Adds a block that is new, none of whose rows is marked.
    ///
    /// # Errors
    /// Those of reading what the indexes need.
    pub fn add_block(&mut self, block: &Arc<Block>) -> Result<()> {
        if self.blocks.get(block).is_some() {
            return Ok(());
        }
        if !self.indexes.is_empty() {
            let columns = self.key_columns();
            let arrays = self.block_columns(block, &columns)?;
            let mut bytes = Vec::new();
            for index in &mut self.indexes {
                let keys = Keys::of(&self.def, &self.storage, &index.def, &columns, &arrays, block.rows())?;
                for (at, id) in block.ids().enumerate() {
                    if let Some(key) = keys.at(at, &index.def, &mut bytes)? {
                        index.insert(key, id);
                    }
                }
            }
        }
        self.place_block(block.clone(), Arc::default());
        Ok(())
    }

    /// Adds a block whose rows the indexes have already, or will have by [`TableState::build`].
    pub fn place_block(&mut self, block: Arc<Block>, marks: Arc<super::block::Marks>) {
        self.count += (block.rows() - marks.count()) as u64;
        self.block_bytes += block.bytes();
        self.heavy += usize::from(self.blocks.insert(block, marks));
    }

    /// Takes out a block, not its rows from the indexes.
    pub fn remove_block(&mut self, block: &Block) {
        if let Some(placed) = self.blocks.get(block) {
            self.count -= placed.rows() as u64;
            self.heavy -= usize::from(placed.is_heavy());
            self.block_bytes -= block.bytes();
            self.blocks.remove(block);
        }
    }

    /// Columns of a block, with [`ColumnDef::missing`] for those that it is older than.
    pub fn block_columns(&self, block: &Block, columns: &[u16]) -> Result<Vec<ArrayRef>> {
        let one = |&id: &u16| {
            let column = self.column(id)?;
            match block.column(id, &column.field())? {
                Some(array) => Ok(array),
                None => missing(column, block.rows()),
            }
        };
        columns.iter().map(one).collect()
    }

    fn column(&self, id: u16) -> Result<&ColumnDef> {
        let column = self.def.column_of(id);
        column.ok_or_else(|| Error::internal("a column that does not exist was read"))
    }

    /// Columns of the rows that are there, in the order asked for, and which these are.
    ///
    /// # Errors
    /// Those of reading.
    pub fn arrays(&self, ids: &[RowId], columns: &[u16]) -> Result<(Vec<ArrayRef>, Vec<RowId>)> {
        let (mut kept, mut places) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        let (mut rows, mut blocks) = (Vec::new(), Vec::<&Placed>::new());
        for &id in ids {
            match self.find(id) {
                None => continue,
                Some(Found::Row(row)) => {
                    places.push((0, rows.len()));
                    rows.push(row);
                }
                Some(Found::Block(placed, place)) => {
                    let known = blocks
                        .iter()
                        .rposition(|known| Arc::ptr_eq(&known.block, &placed.block));
                    let source = known.unwrap_or_else(|| {
                        blocks.push(placed);
                        blocks.len() - 1
                    });
                    places.push((source + 1, place));
                }
            }
            kept.push(id);
        }
        let decoded = row::decode(&rows, &self.def, columns)?;
        if blocks.is_empty() {
            return Ok((decoded.columns().to_vec(), kept));
        }
        let read = blocks.iter().map(|placed| self.block_columns(&placed.block, columns));
        let read = read.collect::<Result<Vec<_>>>()?;
        if let [(source @ 1.., place)] = places.as_slice() {
            let arrays = &read[*source - 1];
            return Ok((arrays.iter().map(|array| array.slice(*place, 1)).collect(), kept));
        }
        let column = |at: usize| {
            let sources = std::iter::once(decoded.column(at)).chain(read.iter().map(|arrays| &arrays[at]));
            let sources: Vec<&dyn Array> = sources.map(|array| &**array).collect();
            interleave(&sources, &places).map_err(Error::internal)
        };
        let arrays = (0..columns.len()).map(column).collect::<Result<_>>()?;
        Ok((arrays, kept))
    }

    /// Takes on a new definition: drops indexes that are no more, builds new ones.
    ///
    /// # Errors
    /// Those of reading.
    pub fn redefine(&mut self, def: &Arc<TableDef>) -> Result<()> {
        if Arc::ptr_eq(&self.def, def) {
            return Ok(());
        }
        self.def = def.clone();
        let had = std::mem::take(&mut self.indexes);
        for index in kept_indexes(def, &self.storage.clone()) {
            let same = had.iter().find(|had| index::same_entries(&had.def, index));
            let built = match same {
                Some(same) => {
                    let mut same = same.clone();
                    same.def = Arc::new(index.clone());
                    same
                }
                None => self.build(Arc::new(index.clone()))?,
            };
            self.indexes.push(built);
        }
        Ok(())
    }

    /// Builds every index anew.
    ///
    /// # Errors
    /// Those of reading.
    pub fn build_indexes(&mut self) -> Result<()> {
        let built = self.indexes.iter().map(|index| self.build(index.def.clone()));
        self.indexes = built.collect::<Result<_>>()?;
        Ok(())
    }

    fn build(&self, def: Arc<IndexDef>) -> Result<Index> {
        let columns = needed(&self.def, [&*def].into_iter());
        let mut index = Index::new(def);
        let mut bytes = Vec::new();
        for batch in Scan::new(Arc::new(self.clone()), columns.clone(), Vec::new(), true, 0, 1) {
            let batch = batch?;
            let (ids, arrays) = super::scan::split_ids(&batch)?;
            let keys = Keys::of(&self.def, &self.storage, &index.def, &columns, arrays, ids.len())?;
            for (at, id) in ids.values().iter().enumerate() {
                if let Some(key) = keys.at(at, &index.def, &mut bytes)? {
                    index.insert(key, *id);
                }
            }
        }
        Ok(index)
    }
}

/// The indexes that are kept in memory.
fn kept_indexes<'a>(def: &'a TableDef, storage: &Storage) -> impl Iterator<Item = &'a IndexDef> {
    let computes = storage.shared().expressions.get().is_some();
    let indexes = def.indexes.iter();
    indexes.filter(move |index| index::is_plain(index) || computes && index::is_ordered(index))
}

/// The columns that some indexes need, each once.
fn needed<'a>(table: &TableDef, mut indexes: impl Iterator<Item = &'a IndexDef>) -> Vec<u16> {
    let mut columns = Vec::new();
    let all_plain = indexes.all(|index| {
        columns.extend(index::columns(index));
        index::is_plain(index)
    });
    if !all_plain {
        return table.columns.iter().map(|column| column.id).collect();
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Keys of some rows in one index.
struct Keys {
    arrays: Vec<ArrayRef>,
    /// The rows that it has.
    within: Option<BooleanArray>,
}

impl Keys {
    /// `columns` are the ids of `arrays`: all of the table, where the index is not plain.
    fn of(
        table: &TableDef,
        storage: &Storage,
        index: &IndexDef,
        columns: &[u16],
        arrays: &[ArrayRef],
        rows: usize,
    ) -> Result<Self> {
        if index::is_plain(index) {
            let places = index::columns(index)
                .into_iter()
                .filter_map(|id| columns.iter().position(|&c| c == id));
            let arrays = places.map(|place| arrays[place].clone()).collect();
            return Ok(Self { arrays, within: None });
        }
        let expressions = storage.shared().expressions.get();
        let expressions = expressions.ok_or_else(|| Error::internal("an index of expressions has no keys"))?;
        let batch = row::batch(table.arrow(), arrays.to_vec(), rows)?;
        let (arrays, within) = expressions.keys(table, index, &batch)?;
        let lengths = arrays
            .iter()
            .map(|array| array.len())
            .chain(within.iter().map(|within| within.len()));
        match arrays.len() == index.keys.len() && lengths.into_iter().all(|length| length == rows) {
            true => Ok(Self { arrays, within }),
            false => Err(Error::internal("keys do not fit their rows")),
        }
    }

    /// The key at a place; `None` if the index does not have the row.
    fn at(&self, at: usize, index: &IndexDef, bytes: &mut Vec<u8>) -> Result<Option<Key>> {
        if self
            .within
            .as_ref()
            .is_some_and(|within| within.is_null(at) || !within.value(at))
        {
            return Ok(None);
        }
        bytes.clear();
        key::put_key(bytes, &self.arrays, at, index)?;
        Ok(Some(Key::from_bytes(bytes)))
    }
}

/// What rows have in a column that was added after they were written.
pub(super) fn missing(column: &ColumnDef, rows: usize) -> Result<ArrayRef> {
    let mut builder = Builder::of(column.field().data_type(), rows)?;
    let value = column
        .missing
        .as_deref()
        .map(|row| row::only(row, column.id))
        .transpose()?;
    for _ in 0..rows {
        match value {
            Some((kind, bytes)) => builder.push(kind, &mut row::Reader(bytes))?,
            None => builder.push_null(),
        }
    }
    builder.finish()
}
