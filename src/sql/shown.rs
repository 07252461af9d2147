//! Values whose text is a name: `regclass`, `regproc` and `regtype` leave a session as the name that the session's own
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
};

/// The kind of a column that is shown by name.
fn named(column: &Column) -> Option<Scalar> {
    match column.pg_type {
        PgType::Scalar(scalar @ (Scalar::Regclass | Scalar::Regproc | Scalar::Regtype)) => Some(scalar),
        _ => None,
    }
}

/// Whether any column is shown by name.
pub(super) fn any_named(columns: &[Column]) -> bool {
    columns.iter().any(|c| named(c).is_some())
}

/// The rows with names in place of numbers.
pub(super) fn by_name(columns: &[Column], rows: RowStream, catalog: Arc<CatalogSnapshot>) -> RowStream {
    let kinds: Vec<Option<Scalar>> = columns.iter().map(named).collect();
    Box::pin(rows.map(move |batch| renamed(&batch?, &kinds, &catalog)))
}

fn renamed(batch: &RecordBatch, kinds: &[Option<Scalar>], catalog: &CatalogSnapshot) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(kinds.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(kinds.len());
    let schema = batch.schema();
    for ((array, field), kind) in batch.columns().iter().zip(schema.fields()).zip(kinds) {
        match (kind, array.as_primitive_opt::<Int32Type>()) {
            (Some(kind), Some(oids)) => {
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
