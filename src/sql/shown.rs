//! Values that leave a session otherwise than they are kept.
//!
//! `char(n)` is kept without the spaces that pad it. `regclass`, `regproc` and `regtype` leave a session as the name that the session's own
//! catalog has for them, with the number beside it for clients that read the binary form.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Int32Type, Schema},
};
use futures::StreamExt;

use super::{
    pg::catalog::CatalogSnapshot,
    session::{Column, RowStream},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Error, Result},
    limits,
};

/// How a column is shown.
#[derive(Clone, Copy)]
enum As {
    /// The name of this kind.
    Name(Scalar),
    /// Padded to so many characters.
    Padded(usize),
}

/// How a column is shown that is not shown as it is.
fn named(column: &Column) -> Option<As> {
    match column.pg_type {
        PgType::Scalar(scalar @ (Scalar::Regclass | Scalar::Regproc | Scalar::Regtype)) => Some(As::Name(scalar)),
        PgType::Scalar(Scalar::Bpchar) => usize::try_from(column.type_modifier - 4)
            .ok()
            .filter(|length| (1..=limits::PADDED_CHARACTERS).contains(length))
            .map(As::Padded),
        _ => None,
    }
}

/// Whether any column is shown otherwise than it is.
pub(super) fn any_named(columns: &[Column]) -> bool {
    columns.iter().any(|c| named(c).is_some())
}

/// The rows as they are shown.
pub(super) fn by_name(columns: &[Column], rows: RowStream, catalog: Arc<CatalogSnapshot>) -> RowStream {
    let kinds: Vec<Option<As>> = columns.iter().map(named).collect();
    Box::pin(rows.map(move |batch| renamed(&batch?, &kinds, &catalog)))
}

fn renamed(batch: &RecordBatch, kinds: &[Option<As>], catalog: &CatalogSnapshot) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(kinds.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(kinds.len());
    let schema = batch.schema();
    for ((array, field), kind) in batch.columns().iter().zip(schema.fields()).zip(kinds) {
        match (kind, array.as_primitive_opt::<Int32Type>()) {
            (Some(As::Padded(length)), _) if let Some(values) = array.as_string_opt::<i32>() => {
                let padded = |value: &str| format!("{value:length$}");
                arrays.push(Arc::new(values.iter().map(|v| v.map(padded)).collect::<StringArray>()));
                fields.push(field.clone());
            }
            (Some(As::Name(kind)), Some(oids)) => {
                // The number after a NUL, which no name holds.
                let name = |oid: i32| format!("{}\0{}", catalog.print_reg(*kind, oid), oid.cast_unsigned());
                arrays.push(Arc::new(oids.iter().map(|oid| oid.map(name)).collect::<StringArray>()));
                fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            }
            _ => {
                arrays.push(array.clone());
                fields.push(field.clone());
            }
        }
    }
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(Error::internal)
}
