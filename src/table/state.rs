//! One table at one moment: rows, blocks and indexes, all persistent, so that a clone costs nothing and shares them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef},
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
        let kept = def.indexes.iter().filter(|index| index::is_kept(index));
        let indexes = kept.map(|index| Index::new(Arc::new(index.clone()))).collect();
        Self {
            def,
            storage,
            rows: OrdMap::new(),
            blocks: Blocks::default(),
            indexes,
            count: 0,
            loose: 0,
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
            self.blocks.mark(first, place);
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

    fn reindex(&mut self, changes: &[Change]) -> Result<()> {
        if self.indexes.is_empty() {
            return Ok(());
        }
        let columns = self.index_columns();
        let ids: Vec<RowId> = changes.iter().map(|(id, _)| *id).collect();
        let (old, found) = self.arrays(&ids, &columns)?;
        let rows: Vec<&Row> = changes.iter().filter_map(|(_, new)| new.as_ref()).collect();
        let new = row::decode(&rows, &self.def, &columns)?;
        let mut bytes = Vec::new();
        for index in &mut self.indexes {
            let of = |arrays: &[ArrayRef]| select(&columns, arrays, &index.def);
            let (old, new) = (of(&old), of(new.columns()));
            let (mut old_at, mut new_at) = (0, 0);
            for (id, change) in changes {
                let mut make = |arrays: &[ArrayRef], at: usize| -> Result<Key> {
                    bytes.clear();
                    key::put_key(&mut bytes, arrays, at, &index.def)?;
                    Ok(Key::from_bytes(&bytes))
                };
                let before = match found.get(old_at) == Some(id) {
                    true => {
                        old_at += 1;
                        Some(make(&old, old_at - 1)?)
                    }
                    false => None,
                };
                let after = match change {
                    Some(_) => {
                        new_at += 1;
                        Some(make(&new, new_at - 1)?)
                    }
                    None => None,
                };
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

    /// The columns of all indexes, each once.
    pub fn index_columns(&self) -> Vec<u16> {
        let mut columns: Vec<u16> = self
            .indexes
            .iter()
            .flat_map(|index| index::columns(&index.def))
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
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
            let columns = self.index_columns();
            let arrays = self.block_columns(block, &columns)?;
            let mut bytes = Vec::new();
            for index in &mut self.indexes {
                let arrays = select(&columns, &arrays, &index.def);
                for (at, id) in block.ids().enumerate() {
                    bytes.clear();
                    key::put_key(&mut bytes, &arrays, at, &index.def)?;
                    index.insert(Key::from_bytes(&bytes), id);
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
        self.blocks.insert(block, marks);
    }

    /// Takes out a block, not its rows from the indexes.
    pub fn remove_block(&mut self, block: &Block) {
        if let Some(placed) = self.blocks.get(block) {
            self.count -= placed.rows() as u64;
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
        for index in def.indexes.iter().filter(|index| index::is_kept(index)) {
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
        let columns = index::columns(&def);
        let mut wanted = columns.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let mut index = Index::new(def);
        let mut bytes = Vec::new();
        for batch in Scan::new(Arc::new(self.clone()), wanted.clone(), Vec::new(), true, 0, 1) {
            let batch = batch?;
            let (ids, arrays) = super::scan::split_ids(&batch)?;
            let arrays = select(&wanted, arrays, &index.def);
            for (at, id) in ids.values().iter().enumerate() {
                bytes.clear();
                key::put_key(&mut bytes, &arrays, at, &index.def)?;
                index.insert(Key::from_bytes(&bytes), *id);
            }
        }
        Ok(index)
    }
}

/// An index's columns out of some.
fn select(columns: &[u16], arrays: &[ArrayRef], index: &IndexDef) -> Vec<ArrayRef> {
    let ids = index::columns(index).into_iter();
    ids.filter_map(|id| columns.iter().position(|&column| column == id))
        .map(|at| arrays[at].clone())
        .collect()
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
