//! Scans: a table's blocks as they are, then its rows, as Arrow batches.

use std::{sync::Arc, vec};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array},
    compute::filter,
    datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
};

use super::{
    block::Block,
    blocks::Placed,
    key::put_value,
    row::{self, Row},
    schema::{RowId, TableDef},
    state::TableState,
};
use crate::{
    error::{Error, Result},
    limits,
};

/// The name of the column of row ids.
pub const ROW_COLUMN: &str = "_row";

/// What a scan may leave out: blocks in which no row fulfils it.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The column's id.
    pub column: u16,
    /// How the column is compared.
    pub op: BoundOp,
    /// With what: one value, or any number for [`BoundOp::In`].
    pub value: ArrayRef,
}

/// See [`Bound::op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "SQL's own comparisons")]
pub enum BoundOp {
    Eq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    In,
}

/// A bound in the form in which a block's values are bounded.
struct Check {
    column: u16,
    op: BoundOp,
    values: Vec<Vec<u8>>,
}

impl Check {
    /// `None` if it says nothing about blocks.
    fn of(bound: &Bound, def: &TableDef) -> Option<Self> {
        let column = def.column_of(bound.column)?.field();
        let integer = |t: &DataType| matches!(t, DataType::Int16 | DataType::Int32 | DataType::Int64);
        let float = |t: &DataType| matches!(t, DataType::Float32 | DataType::Float64);
        let (kept, given) = (column.data_type(), bound.value.data_type());
        if !(kept == given || integer(kept) && integer(given) || float(kept) && float(given)) {
            return None;
        }
        let mut values = Vec::with_capacity(bound.value.len());
        for at in 0..bound.value.len() {
            if bound.value.is_null(at) {
                // Equal to nothing; in a list it stands for nothing.
                if bound.op == BoundOp::In {
                    continue;
                }
                return None;
            }
            let mut value = Vec::new();
            put_value(&mut value, &bound.value, at).ok()?;
            values.push(value);
        }
        Some(Self {
            column: bound.column,
            op: bound.op,
            values,
        })
    }

    /// Whether a row of the block may fulfil it.
    fn may_hold(&self, block: &Block) -> bool {
        let Some(head) = block.head.columns.iter().find(|column| column.id == self.column) else {
            return true;
        };
        if head.nulls as usize == block.rows() {
            return false;
        }
        let above = |value: &Vec<u8>| head.min.as_ref().is_none_or(|min| min <= value);
        let below = |value: &Vec<u8>| head.max.as_ref().is_none_or(|max| value <= max);
        let over = |value: &Vec<u8>| head.min.as_ref().is_none_or(|min| min < value);
        let under = |value: &Vec<u8>| head.max.as_ref().is_none_or(|max| value < max);
        self.values.iter().any(|value| match self.op {
            BoundOp::Eq | BoundOp::In => above(value) && below(value),
            BoundOp::Lt => over(value),
            BoundOp::LtEq => above(value),
            BoundOp::Gt => under(value),
            BoundOp::GtEq => below(value),
        })
    }
}

/// Batches of at most [`limits::SCAN_ROWS`] rows, in no promised order. It owns what it reads, and reads blocks that
/// are not at hand from the store as it advances.
pub struct Scan {
    state: Arc<TableState>,
    columns: Vec<u16>,
    with_row_ids: bool,
    blocks: vec::IntoIter<Placed>,
    /// The next of the rows that are in no block; `None` when they are done.
    next: Option<RowId>,
}

impl Scan {
    pub(super) fn new(
        state: Arc<TableState>,
        columns: Vec<u16>,
        bounds: Vec<Bound>,
        with_row_ids: bool,
        part: usize,
        of: usize,
    ) -> Self {
        let checks: Vec<Check> = bounds.iter().filter_map(|bound| Check::of(bound, &state.def)).collect();
        let wanted = state.blocks.iter().skip(part).step_by(of.max(1));
        let wanted =
            wanted.filter(|placed| placed.rows() > 0 && checks.iter().all(|check| check.may_hold(&placed.block)));
        let blocks: Vec<Placed> = wanted.cloned().collect();
        Self {
            next: (part + 1 >= of.max(1)).then_some(0),
            state,
            columns,
            with_row_ids,
            blocks: blocks.into_iter(),
        }
    }

    /// The schema of its batches.
    ///
    /// # Errors
    /// [`crate::error::Code::Internal`] for a column that does not exist.
    pub fn schema(&self) -> Result<SchemaRef> {
        let schema = row::schema(&self.state.def, &self.columns)?;
        Ok(if self.with_row_ids {
            with_row_column(&schema)
        } else {
            schema
        })
    }

    /// Blocks that it has yet to read.
    #[cfg(test)]
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block(&self, placed: &Placed) -> Result<RecordBatch> {
        let mut arrays = self.state.block_columns(&placed.block, &self.columns)?;
        if self.with_row_ids {
            arrays.push(Arc::new(UInt64Array::from_iter_values(placed.block.ids())));
        }
        if placed.marks.count() > 0 {
            let kept: BooleanArray = (0..placed.block.rows())
                .map(|at| Some(!placed.marks.contains(at)))
                .collect();
            let kept = arrays.iter().map(|array| filter(array, &kept).map_err(Error::internal));
            arrays = kept.collect::<Result<_>>()?;
        }
        row::batch(self.schema()?, arrays, placed.rows())
    }

    fn rows(&mut self, from: RowId) -> Result<Option<RecordBatch>> {
        let page = self.state.rows.range(from..).take(limits::SCAN_ROWS);
        let (ids, rows): (Vec<RowId>, Vec<&Row>) = page.map(|(id, row)| (*id, row)).unzip();
        let Some(last) = ids.last() else { return Ok(None) };
        let next = last.checked_add(1).filter(|_| ids.len() == limits::SCAN_ROWS);
        let batch = row::decode(&rows, &self.state.def, &self.columns)?;
        self.next = next;
        let batch = if self.with_row_ids {
            add_ids(&batch, ids)?
        } else {
            batch
        };
        Ok(Some(batch))
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(placed) = self.blocks.next() {
            return Some(self.block(&placed));
        }
        let from = self.next.take()?;
        self.rows(from).transpose()
    }
}

fn with_row_column(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(ROW_COLUMN, DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

/// Puts row ids after the last column.
pub(super) fn add_ids(batch: &RecordBatch, ids: Vec<RowId>) -> Result<RecordBatch> {
    let mut arrays = batch.columns().to_vec();
    arrays.push(Arc::new(UInt64Array::from(ids)));
    row::batch(with_row_column(&batch.schema()), arrays, batch.num_rows())
}

/// Row ids and the other columns.
pub(super) fn split_ids(batch: &RecordBatch) -> Result<(&UInt64Array, &[ArrayRef])> {
    use arrow::array::AsArray;
    let last = batch.columns().split_last();
    let ids = last.and_then(|(ids, rest)| Some((ids.as_primitive_opt::<UInt64Type>()?, rest)));
    ids.ok_or_else(|| Error::internal("a batch lacks its row ids"))
}
