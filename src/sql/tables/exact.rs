//! The nearest rows of a table by comparing the vectors of all, of which only the best are kept.

use arrow::{
    array::{Array, AsArray, ListArray, PrimitiveArray, RecordBatch, UInt64Array},
    datatypes::{Float32Type, UInt64Type},
};

use super::shards::Wanted;
use crate::{
    error::{Code, Error, Result},
    limits,
    table::{TableData, schema::RowId},
    vector::{Cancel, RowSet, TopK},
};

/// Vectors with their rows.
pub(super) struct Column {
    ids: UInt64Array,
    lists: ListArray,
    values: PrimitiveArray<Float32Type>,
}

impl Column {
    /// A column, and the row ids after it.
    pub(super) fn of(batch: &RecordBatch) -> Result<Self> {
        let wrong = || Error::internal("a column of vectors is none");
        let [lists, ids] = batch.columns() else {
            return Err(wrong());
        };
        let lists = lists.as_list_opt::<i32>().ok_or_else(wrong)?.clone();
        Ok(Self {
            ids: ids.as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?.clone(),
            values: lists
                .values()
                .as_primitive_opt::<Float32Type>()
                .ok_or_else(wrong)?
                .clone(),
            lists,
        })
    }

    /// The vectors of some rows, in their order.
    pub(super) fn of_rows(data: &TableData, rows: &[RowId], column: u16) -> Result<Self> {
        Self::of(&data.get(rows, &[column], true)?)
    }

    /// Rows that have a vector.
    pub(super) fn vectors(&self) -> impl Iterator<Item = (RowId, &[f32])> {
        let offsets = self.lists.value_offsets();
        (0..self.ids.len()).filter_map(move |at| {
            let range = offsets[at] as usize..offsets[at + 1] as usize;
            let vector = self.values.values().get(range)?;
            self.lists.is_valid(at).then(|| (self.ids.value(at), vector))
        })
    }
}

fn offer(top: &mut TopK<RowId>, row: RowId, vector: &[f32], wanted: &Wanted) {
    top.push(wanted.metric.distance(&wanted.query, vector), row);
}

/// The nearest of some rows and how far they are, nearest first.
///
/// # Errors
/// Those of reading.
pub(super) fn of_rows(view: &TableData, rows: &[RowId], wanted: &Wanted) -> Result<Vec<(f64, RowId)>> {
    let mut top = TopK::new(wanted.k);
    for rows in rows.chunks(limits::SCAN_ROWS) {
        let column = Column::of_rows(view, rows, wanted.column)?;
        column
            .vectors()
            .for_each(|(row, vector)| offer(&mut top, row, vector, wanted));
    }
    Ok(top.into_sorted())
}

/// The nearest of all rows, or of those of a set, and how far they are, nearest first.
///
/// # Errors
/// Those of reading; 57014 when told to stop.
pub(super) fn of_table(
    view: &TableData,
    set: Option<&RowSet>,
    wanted: &Wanted,
    stop: &Cancel,
) -> Result<Vec<(f64, RowId)>> {
    let mut top = TopK::new(wanted.k);
    for batch in view.scan(vec![wanted.column], Vec::new(), true) {
        check(stop)?;
        let column = Column::of(&batch?)?;
        let rows = column
            .vectors()
            .filter(|(row, _)| set.is_none_or(|set| set.contains(*row)));
        rows.for_each(|(row, vector)| offer(&mut top, row, vector, wanted));
    }
    Ok(top.into_sorted())
}

/// 57014 once nobody waits for the answer.
pub(super) fn check(stop: &Cancel) -> Result<()> {
    match stop.is_cancelled() {
        true => Err(Error::new(
            Code::QueryCanceled,
            "canceling statement due to user request",
        )),
        false => Ok(()),
    }
}
