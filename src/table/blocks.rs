//! The blocks of a table, found by row.

use std::sync::Arc;

use imbl::OrdMap;

use super::{
    block::{Block, Marks},
    schema::RowId,
};
use crate::limits;

/// A block of a table at one moment.
#[derive(Clone)]
pub(super) struct Placed {
    pub block: Arc<Block>,
    /// Rows that are not in it any more.
    pub marks: Arc<Marks>,
    /// The last row of all blocks before: mostly below this block's first, since few blocks reach over another.
    reach: RowId,
}

impl Placed {
    /// Rows that are still in it.
    pub fn rows(&self) -> usize {
        self.block.rows() - self.marks.count()
    }

    /// Whether so many are gone that it is to be written anew.
    pub fn is_heavy(&self) -> bool {
        is_heavy(self.block.rows(), self.marks.count())
    }
}

fn is_heavy(rows: usize, marked: usize) -> bool {
    marked * limits::FOLD_SHARE > rows
}

/// Blocks by their first row. A clone shares them.
#[derive(Clone, Default)]
pub(super) struct Blocks(OrdMap<RowId, Placed>);

impl Blocks {
    /// Adds a block. No row is in two. Whether it is heavy.
    pub fn insert(&mut self, block: Arc<Block>, marks: Arc<Marks>) -> bool {
        let first = block.first();
        let heavy = is_heavy(block.rows(), marks.count());
        let placed = Placed { block, marks, reach: 0 };
        self.0.insert(first, placed);
        self.update_reach(first);
        heavy
    }

    pub fn remove(&mut self, block: &Block) {
        if self.get(block).is_some() {
            self.0.remove(&block.first());
            self.update_reach(block.first());
        }
    }

    /// Makes `reach` right from a place on.
    fn update_reach(&mut self, from: RowId) {
        let before = self.0.range(..from).next_back();
        let mut reach = before.map_or(0, |(_, placed)| placed.reach.max(placed.block.last()));
        let mut next = from;
        while let Some((&first, placed)) = self.0.range(next..).next() {
            let unchanged = placed.reach == reach && first > from;
            if unchanged {
                break;
            }
            let last = placed.block.last();
            if let Some(placed) = self.0.get_mut(&first) {
                placed.reach = reach;
            }
            reach = reach.max(last);
            next = first + 1;
        }
    }

    /// The same block, if it is here.
    pub fn get(&self, block: &Block) -> Option<&Placed> {
        self.0.get(&block.first()).filter(|placed| placed.block.no == block.no)
    }

    /// The block that a row was put in, be it there still or not, and its place.
    pub fn find(&self, row: RowId) -> Option<(&Placed, usize)> {
        for (_, placed) in self.0.range(..=row).rev() {
            if let Some(place) = placed.block.place(row) {
                return Some((placed, place));
            }
            if placed.reach < row {
                return None;
            }
        }
        None
    }

    /// Marks a row of a block. Whether that made it heavy.
    pub fn mark(&mut self, first: RowId, place: usize) -> bool {
        let Some(placed) = self.0.get_mut(&first) else {
            return false;
        };
        let before = placed.is_heavy();
        Arc::make_mut(&mut placed.marks).insert(place);
        placed.is_heavy() && !before
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Placed> {
        self.0.values()
    }
}
