//! Rows become Arrow batches, built only for the columns that were asked for.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder,
        ListBuilder, PrimitiveBuilder, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Float32Type, Schema, SchemaRef},
};

use crate::error::{Error, Result};

/// One value of a row, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub(in crate::sql) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Microseconds since 1970, UTC.
    Time(i64),
    /// Days since 1970.
    Date(i32),
    /// Nano-USD: `numeric` with nine digits after the point.
    Nano(i64),
    Vector(&'a [f32]),
}

enum Column {
    Bool(BooleanBuilder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float8(Float64Builder),
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Numeric(Decimal128Builder),
    Vector(ListBuilder<PrimitiveBuilder<Float32Type>>),
}

/// Gathers rows of a schema.
pub(in crate::sql) struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    len: usize,
}

impl Rows {
    pub(in crate::sql) fn new(schema: SchemaRef) -> Self {
        let columns = schema
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                DataType::Boolean => Column::Bool(BooleanBuilder::new()),
                DataType::Int32 => Column::Int4(Int32Builder::new()),
                DataType::Int64 => Column::Int8(Int64Builder::new()),
                DataType::Float64 => Column::Float8(Float64Builder::new()),
                DataType::Timestamp(..) => Column::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
                DataType::Date32 => Column::Date(Date32Builder::new()),
                DataType::Decimal128(..) => {
                    Column::Numeric(Decimal128Builder::new().with_data_type(field.data_type().clone()))
                }
                DataType::List(item) => {
                    Column::Vector(ListBuilder::new(PrimitiveBuilder::new()).with_field(item.clone()))
                }
                _ => Column::Text(StringBuilder::new()),
            })
            .collect();
        Self {
            schema,
            columns,
            len: 0,
        }
    }

    pub(in crate::sql) fn len(&self) -> usize {
        self.len
    }

    /// Adds a row; `cell` is asked for each column of the schema by its place.
    pub(in crate::sql) fn push<'a>(&mut self, mut cell: impl FnMut(usize) -> Cell<'a>) {
        for (i, column) in self.columns.iter_mut().enumerate() {
            column.push(cell(i));
        }
        self.len += 1;
    }

    /// The rows so far as a batch; empties this.
    pub(in crate::sql) fn finish(&mut self) -> Result<RecordBatch> {
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.len)));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(Error::internal)
    }
}

impl Column {
    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Bool(b), Cell::Bool(v)) => b.append_value(v),
            (Self::Int4(b), Cell::Int(v)) => b.append_value(v.clamp(i32::MIN.into(), i32::MAX.into()) as i32),
            (Self::Int8(b), Cell::Int(v)) => b.append_value(v),
            (Self::Float8(b), Cell::Float(v)) => b.append_value(v),
            (Self::Text(b), Cell::Text(v)) => b.append_value(v),
            (Self::Time(b), Cell::Time(v)) => b.append_value(v),
            (Self::Date(b), Cell::Date(v)) => b.append_value(v),
            (Self::Numeric(b), Cell::Nano(v)) => b.append_value(v.into()),
            (Self::Vector(b), Cell::Vector(v)) => {
                b.values().append_slice(v);
                b.append(true);
            }
            // A cell of another kind than its column would be a defect of a relation's list; NULL
            // is what its test sees.
            (Self::Bool(b), _) => b.append_null(),
            (Self::Int4(b), _) => b.append_null(),
            (Self::Int8(b), _) => b.append_null(),
            (Self::Float8(b), _) => b.append_null(),
            (Self::Text(b), _) => b.append_null(),
            (Self::Time(b), _) => b.append_null(),
            (Self::Date(b), _) => b.append_null(),
            (Self::Numeric(b), _) => b.append_null(),
            (Self::Vector(b), _) => b.append(false),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Int4(b) => Arc::new(b.finish()),
            Self::Int8(b) => Arc::new(b.finish()),
            Self::Float8(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Numeric(b) => Arc::new(b.finish()),
            Self::Vector(b) => Arc::new(b.finish()),
        }
    }
}

/// A batch of these rows.
pub(in crate::sql) fn batch<T>(
    fields: Vec<datafusion::arrow::datatypes::Field>,
    rows: &[T],
    cell: impl for<'a> Fn(&'a T, usize) -> Cell<'a>,
) -> Result<RecordBatch> {
    let mut builder = Rows::new(Arc::new(Schema::new(fields)));
    for row in rows {
        builder.push(|i| cell(row, i));
    }
    builder.finish()
}
