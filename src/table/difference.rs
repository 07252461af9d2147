//! In which rows two moments of a table differ: found by what they share, so that it costs what was changed.

use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::{blocks::Placed, schema::RowId, state::TableState};

impl TableState {
    /// The rows that are not the same here and there, in order; a row that only moved into a block may be among them.
    /// `None` if they are more than `most`, or if the rows of one have nothing to do with those of the other.
    pub fn changed_since(&self, other: &TableState, most: usize) -> Option<Vec<RowId>> {
        if self.storage.number != other.storage.number {
            return None;
        }
        let mut changed = Changed { rows: Vec::new(), most };
        for item in other.rows.diff(&self.rows) {
            let (DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { new: (id, _), .. }) = item;
            changed.add(*id)?;
        }
        for placed in self.blocks.iter() {
            match other.blocks.get(&placed.block) {
                Some(then) if Arc::ptr_eq(&then.marks, &placed.marks) => {}
                Some(then) => {
                    let marked = |at: usize| (placed.marks.contains(at), then.marks.contains(at));
                    let differs = |at: &usize| matches!(marked(*at), (true, false) | (false, true));
                    changed.add_some(placed, differs)?;
                }
                None => changed.add_some(placed, |at| !placed.marks.contains(*at))?,
            }
        }
        let gone = other
            .blocks
            .iter()
            .filter(|then| self.blocks.get(&then.block).is_none());
        for then in gone {
            changed.add_some(then, |at| !then.marks.contains(*at))?;
        }
        changed.rows.sort_unstable();
        changed.rows.dedup();
        Some(changed.rows)
    }
}

struct Changed {
    rows: Vec<RowId>,
    most: usize,
}

impl Changed {
    fn add(&mut self, row: RowId) -> Option<()> {
        self.rows.push(row);
        // An update of a row of a block stands twice: as a row and as a mark.
        (self.rows.len() <= self.most.saturating_mul(2)).then_some(())
    }

    fn add_some(&mut self, placed: &Placed, wanted: impl Fn(&usize) -> bool) -> Option<()> {
        let mut ids = placed.block.ids().enumerate();
        ids.by_ref()
            .filter(|(at, _)| wanted(at))
            .try_for_each(|(_, id)| self.add(id))
    }
}
