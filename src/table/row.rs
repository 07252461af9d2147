//! Rows as bytes: what a row has is stored under the ids of its columns, each value with its kind.
//!
//! ```text
//! 1  count (2)  { column id (2)  kind (1)  value }*        numbers are little-endian
//! ```

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
        IntervalMonthDayNanoType, IntervalUnit, Schema, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    },
};

use super::{build::Builder, schema::TableDef};
use crate::error::{Code, Error, Result};

/// The first byte of a row; 0 is the mark of a deleted one.
pub(super) const VERSION: u8 = 1;

/// One version of a row. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(Arc<[u8]>);

/// What stands before a value.
pub(super) mod kind {
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const INT16: u8 = 3;
    pub const INT32: u8 = 4;
    pub const INT64: u8 = 5;
    pub const FLOAT32: u8 = 6;
    pub const FLOAT64: u8 = 7;
    /// Scale (1), number (16).
    pub const DECIMAL: u8 = 8;
    /// Length (4), bytes.
    pub const TEXT: u8 = 9;
    /// Length (4), bytes.
    pub const BYTES: u8 = 10;
    pub const DATE: u8 = 11;
    pub const TIME: u8 = 12;
    pub const TIMESTAMP: u8 = 13;
    /// Months (4), days (4), nanoseconds (8).
    pub const INTERVAL: u8 = 14;
    /// Length (4), then each item with its kind.
    pub const LIST: u8 = 15;
    /// Length (4), then items of 4 bytes without kinds: a vector.
    pub const FLOATS: u8 = 16;
}

impl Row {
    /// The bytes, as they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A row that was stored, or kept in [`super::schema::ColumnDef::missing`]. Checked when it is decoded.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Whether both are one and the same version.
    pub(super) fn is(&self, other: &Row) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row({} bytes)", self.0.len())
    }
}

/// The row at a place of some columns, each with its id.
///
/// # Errors
/// [`Code::Internal`] for an Arrow type that no column has, [`Code::TooLarge`] for a value over 4 GiB.
pub fn encode(columns: &[(u16, ArrayRef)], at: usize) -> Result<Row> {
    let mut bytes = Vec::new();
    encode_into(&mut bytes, columns, at)?;
    Ok(Row(bytes.into()))
}

/// All rows of some columns, each with its id.
///
/// # Errors
/// Those of [`encode`].
pub fn encode_all(columns: &[(u16, ArrayRef)]) -> Result<Vec<Row>> {
    let rows = columns.first().map_or(0, |(_, column)| column.len());
    let mut bytes = Vec::new();
    let one = |at| {
        bytes.clear();
        encode_into(&mut bytes, columns, at)?;
        Ok(Row(bytes.as_slice().into()))
    };
    (0..rows).map(one).collect()
}

fn encode_into(bytes: &mut Vec<u8>, columns: &[(u16, ArrayRef)], at: usize) -> Result<()> {
    let count = u16::try_from(columns.len()).map_err(Error::internal)?;
    bytes.push(VERSION);
    bytes.extend_from_slice(&count.to_le_bytes());
    for (id, column) in columns {
        bytes.extend_from_slice(&id.to_le_bytes());
        put(bytes, column, at)?;
    }
    Ok(())
}

/// Appends a value with its kind.
fn put(bytes: &mut Vec<u8>, column: &ArrayRef, at: usize) -> Result<()> {
    macro_rules! fixed {
        ($kind:ident, $type:ty) => {{
            bytes.push(kind::$kind);
            bytes.extend_from_slice(&column.as_primitive::<$type>().value(at).to_le_bytes());
        }};
    }
    if column.is_null(at) || column.data_type() == &DataType::Null {
        bytes.push(kind::NULL);
        return Ok(());
    }
    match column.data_type() {
        DataType::Boolean => bytes.push(match column.as_boolean().value(at) {
            true => kind::TRUE,
            false => kind::FALSE,
        }),
        DataType::Int16 => fixed!(INT16, Int16Type),
        DataType::Int32 => fixed!(INT32, Int32Type),
        DataType::Int64 => fixed!(INT64, Int64Type),
        DataType::Float32 => fixed!(FLOAT32, Float32Type),
        DataType::Float64 => fixed!(FLOAT64, Float64Type),
        DataType::Date32 => fixed!(DATE, Date32Type),
        DataType::Time64(TimeUnit::Microsecond) => fixed!(TIME, Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => fixed!(TIMESTAMP, TimestampMicrosecondType),
        DataType::Decimal128(_, scale) => {
            bytes.extend_from_slice(&[kind::DECIMAL, scale.cast_unsigned()]);
            bytes.extend_from_slice(&column.as_primitive::<Decimal128Type>().value(at).to_le_bytes());
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = column.as_primitive::<IntervalMonthDayNanoType>().value(at);
            bytes.push(kind::INTERVAL);
            bytes.extend_from_slice(&value.months.to_le_bytes());
            bytes.extend_from_slice(&value.days.to_le_bytes());
            bytes.extend_from_slice(&value.nanoseconds.to_le_bytes());
        }
        DataType::Utf8 => put_bytes(bytes, kind::TEXT, column.as_string::<i32>().value(at).as_bytes())?,
        DataType::Binary => put_bytes(bytes, kind::BYTES, column.as_binary::<i32>().value(at))?,
        DataType::List(_) => put_list(bytes, &column.as_list::<i32>().value(at))?,
        other => return Err(Error::internal(format!("no column is of type {other}"))),
    }
    Ok(())
}

fn put_bytes(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<()> {
    bytes.push(kind);
    put_length(bytes, value.len())?;
    bytes.extend_from_slice(value);
    Ok(())
}

fn put_length(bytes: &mut Vec<u8>, length: usize) -> Result<()> {
    let length = u32::try_from(length).map_err(|_| Error::new(Code::TooLarge, "a value is too long"))?;
    bytes.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

fn put_list(bytes: &mut Vec<u8>, items: &ArrayRef) -> Result<()> {
    if let Some(floats) = items.as_primitive_opt::<Float32Type>()
        && floats.null_count() == 0
    {
        bytes.push(kind::FLOATS);
        put_length(bytes, floats.len())?;
        bytes.extend(floats.values().iter().flat_map(|float| float.to_le_bytes()));
        return Ok(());
    }
    bytes.push(kind::LIST);
    put_length(bytes, items.len())?;
    (0..items.len()).try_for_each(|at| put(bytes, items, at))
}

/// What does not read as a row.
pub(super) fn corrupted() -> Error {
    tracing::error!("a stored row could not be read");
    Error::new(Code::Corrupted, "a stored row could not be read")
}

/// Bytes that are read from the front.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(corrupted)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(corrupted)?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn length(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// Passes over a value of this kind.
    fn skip(&mut self, kind: u8) -> Result<()> {
        let fixed = match kind {
            kind::NULL | kind::FALSE | kind::TRUE => 0,
            kind::INT16 => 2,
            kind::INT32 | kind::FLOAT32 | kind::DATE => 4,
            kind::INT64 | kind::FLOAT64 | kind::TIME | kind::TIMESTAMP => 8,
            kind::INTERVAL => 16,
            kind::DECIMAL => 17,
            kind::TEXT | kind::BYTES => self.length()?,
            kind::FLOATS => self.length()?.checked_mul(4).ok_or_else(corrupted)?,
            kind::LIST => {
                // Lists of lists are not written, so this goes one level down.
                for _ in 0..self.length()? {
                    match self.array()? {
                        [kind::LIST] => return Err(corrupted()),
                        [kind] => self.skip(kind)?,
                    }
                }
                0
            }
            _ => return Err(corrupted()),
        };
        self.take(fixed).map(drop)
    }
}

/// The values of some rows in the columns asked for, in that order. What a row lacks, having been written before the
/// column was added, is [`super::schema::ColumnDef::missing`].
///
/// # Errors
/// [`Code::Corrupted`] for bytes that are no row, or hold another type than the column's.
pub fn decode(rows: &[&Row], def: &TableDef, columns: &[u16]) -> Result<RecordBatch> {
    let schema = schema(def, columns)?;
    let mut wanted = Wanted::of(&schema, columns, rows.len())?;
    let missing = columns.iter().map(|&id| {
        let column = def.column_of(id).and_then(|column| column.missing.as_deref());
        column.map(|row| only(row, id)).transpose()
    });
    let missing = missing.collect::<Result<Vec<_>>>()?;
    for (at, row) in rows.iter().enumerate() {
        let mut reader = Reader(&row.0);
        let [version] = reader.array()?;
        if version != VERSION {
            return Err(corrupted());
        }
        for _ in 0..u16::from_le_bytes(reader.array()?) {
            let id = u16::from_le_bytes(reader.array()?);
            let [kind] = reader.array()?;
            match wanted.of_id(id) {
                Some(builder) if builder.len() == at => builder.push(kind, &mut reader)?,
                Some(_) => return Err(corrupted()),
                None => reader.skip(kind)?,
            }
        }
        for (builder, missing) in wanted.builders.iter_mut().zip(&missing) {
            match missing {
                _ if builder.len() > at => {}
                Some((kind, value)) => builder.push(*kind, &mut Reader(value))?,
                None => builder.push_null(),
            }
        }
    }
    let arrays = wanted
        .builders
        .into_iter()
        .map(Builder::finish)
        .collect::<Result<_>>()?;
    batch(schema, arrays, rows.len())
}

/// A value as it is stored: its kind, and bytes that begin with it.
pub(super) type Value<'a> = (u8, &'a [u8]);

/// The value of a column's [`super::schema::ColumnDef::missing`].
pub(super) fn only(row: &[u8], id: u16) -> Result<Value<'_>> {
    let mut reader = Reader(row);
    let [version, one, 0] = reader.array()? else {
        return Err(corrupted());
    };
    let stored = u16::from_le_bytes(reader.array()?);
    let [kind] = reader.array()?;
    match (version, one) {
        (VERSION, 1) if stored == id => Ok((kind, reader.0)),
        _ => Err(corrupted()),
    }
}

/// Builders of the columns asked for, found by column id.
struct Wanted {
    builders: Vec<Builder>,
    /// By column id: one more than the place in `builders`, 0 for none.
    places: Vec<u16>,
}

impl Wanted {
    fn of(schema: &Schema, columns: &[u16], rows: usize) -> Result<Self> {
        let last = columns.iter().max().map_or(0, |&id| usize::from(id) + 1);
        let (mut builders, mut places) = (Vec::with_capacity(columns.len()), vec![0; last]);
        for (field, &id) in schema.fields().iter().zip(columns) {
            builders.push(Builder::of(field.data_type(), rows)?);
            let place = u16::try_from(builders.len()).map_err(Error::internal)?;
            if std::mem::replace(&mut places[usize::from(id)], place) > 0 {
                return Err(Error::internal("a column was asked for twice"));
            }
        }
        Ok(Self { builders, places })
    }

    fn of_id(&mut self, id: u16) -> Option<&mut Builder> {
        let place = self.places.get(usize::from(id)).copied()?;
        self.builders.get_mut(usize::from(place).checked_sub(1)?)
    }
}

/// The Arrow schema of some columns of a table.
pub(super) fn schema(def: &TableDef, columns: &[u16]) -> Result<Arc<Schema>> {
    let field = |&id| {
        let column = def.column_of(id);
        column
            .map(|column| column.field())
            .ok_or_else(|| Error::internal("a column that does not exist was read"))
    };
    Ok(Arc::new(Schema::new(
        columns.iter().map(field).collect::<Result<Vec<_>>>()?,
    )))
}

/// A batch that may have no columns.
pub(super) fn batch(schema: Arc<Schema>, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options).map_err(|error| {
        tracing::error!(%error, "stored columns do not fit their table");
        corrupted()
    })
}
