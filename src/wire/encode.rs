//! Rows on their way out: Arrow columns to DataRow messages, text or binary.
//!
//! A batch is looked at once per column (cast to the expected Arrow type where it has another, type and
//! format chosen); then each row is written straight into the output buffer.

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    buffer::NullBuffer,
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float16Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
        IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
    },
    record_batch::RecordBatch,
    util::display::array_value_to_string,
};
use bytes::{BufMut, BytesMut};

use super::{
    datetime::{self, Interval},
    numeric,
    values::{self, Format, Strings, Values},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    sql::Column,
};

/// A batch ready to be written row by row.
pub(super) struct Rows {
    count: usize,
    cells: Vec<Cell>,
}

struct Cell {
    values: Values,
    nulls: Option<NullBuffer>,
    format: Format,
}

impl Rows {
    /// Prepares a batch whose columns are `columns`, each in its format.
    pub(super) fn new(columns: &[Column], formats: &[Format], batch: &RecordBatch) -> Result<Self> {
        if columns.len() != batch.num_columns() || columns.len() != formats.len() {
            return Err(Error::internal("a batch does not have the columns that were described"));
        }
        let cells = std::iter::zip(columns, formats)
            .zip(batch.columns())
            .map(|((column, &format), array)| Cell::new(column.pg_type, format, array))
            .collect::<Result<_>>()?;
        Ok(Self {
            count: batch.num_rows(),
            cells,
        })
    }

    /// Rows in the batch.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Appends one value without a length; false, and nothing, if it is NULL.
    pub(super) fn put_cell(&self, row: usize, column: usize, out: &mut BytesMut) -> Result<bool> {
        let cell = &self.cells[column];
        if cell.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(false);
        }
        put_value(&cell.values, row, cell.format, out).map(|()| true)
    }

    /// Appends one value after its length, which is -1 for NULL.
    pub(super) fn put_sized_cell(&self, row: usize, column: usize, out: &mut BytesMut) -> Result<()> {
        self.cells[column].put(row, out)
    }

    /// Appends one row as a DataRow; on an error nothing is appended.
    pub(super) fn put(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        let start = out.len();
        let result = self.put_row(row, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn put_row(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        out.put_u8(b'D');
        let at = out.len();
        out.put_i32(0);
        out.put_u16(u16::try_from(self.cells.len()).map_err(|_| too_large())?);
        for cell in &self.cells {
            cell.put(row, out)?;
        }
        patch_length(out, at, at)
    }
}

/// The rows of a batch as a client reads them in text format; `None` is NULL. For those who run a
/// [`crate::sql::Session`] without a socket.
///
/// # Errors
/// Those of a value that cannot be shown.
pub fn text_rows(columns: &[Column], batch: &RecordBatch) -> Result<Vec<Vec<Option<String>>>> {
    let rows = Rows::new(columns, &vec![Format::Text; columns.len()], batch)?;
    let text = |cell: &Cell, row| {
        if cell.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        let mut out = BytesMut::new();
        put_value(&cell.values, row, cell.format, &mut out)?;
        Ok(Some(String::from_utf8_lossy(&out).into_owned()))
    };
    let row = |row| rows.cells.iter().map(|cell| text(cell, row)).collect();
    (0..rows.count).map(row).collect()
}

impl Cell {
    fn new(pg_type: PgType, format: Format, array: &ArrayRef) -> Result<Self> {
        let values = values(pg_type, array)?;
        let nulls = match values {
            Values::Void => None,
            _ => array.logical_nulls(),
        };
        Ok(Self { values, nulls, format })
    }

    fn put(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.put_i32(-1);
            return Ok(());
        }
        put_sized(out, |out| put_value(&self.values, row, self.format, out))
    }
}

/// Writes a four-byte length, then what `put` writes.
fn put_sized(out: &mut BytesMut, put: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<()> {
    let at = out.len();
    out.put_i32(0);
    put(out)?;
    patch_length(out, at, at + 4)
}

/// Stores at `at` how many bytes `out` has after `from`.
pub(super) fn patch_length(out: &mut BytesMut, at: usize, from: usize) -> Result<()> {
    let length = i32::try_from(out.len() - from).map_err(|_| too_large())?;
    match out.get_mut(at..at + 4) {
        Some(place) => place.copy_from_slice(&length.to_be_bytes()),
        None => return Err(Error::internal("a length has no place")),
    }
    Ok(())
}

fn too_large() -> Error {
    Error::new(Code::TooLarge, "a row is too large to be sent")
}

/// Casts to the Arrow type that values of a type are read from here; failures are errors, not NULLs.
fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options).map_err(|cause| {
        let message = format!("a result of Arrow type {} cannot be sent as {to}", array.data_type());
        Error::new(Code::NumericOutOfRange, message).with_source(cause)
    })
}

/// The typed values of a column.
fn values(pg_type: PgType, array: &ArrayRef) -> Result<Values> {
    let scalar = match pg_type {
        PgType::Scalar(scalar) => scalar,
        PgType::Array(item) => {
            let field = arrow::datatypes::Field::new_list_field(item_type(array.data_type()), true);
            let list = cast(array, &DataType::List(field.into()))?;
            let list = list.as_list::<i32>().clone();
            let inner = match list.values().data_type() {
                // Several dimensions.
                DataType::List(_) | DataType::LargeList(_) if !matches!(item, Scalar::Vector | Scalar::Halfvec) => {
                    pg_type
                }
                _ => PgType::Scalar(item),
            };
            let items = values(inner, list.values())?;
            let nulls = list.values().logical_nulls();
            return Ok(Values::List {
                list,
                items: Box::new(items),
                nulls,
                item,
            });
        }
    };
    let data_type = array.data_type();
    Ok(match scalar {
        Scalar::Int2vector | Scalar::Oidvector => {
            let item = scalar.vector_item().unwrap_or(scalar);
            let list = cast(array, &scalar.arrow())?.as_list::<i32>().clone();
            let items = Box::new(values(PgType::Scalar(item), list.values())?);
            Values::Spaced { list, items, item }
        }
        Scalar::Void => Values::Void,
        Scalar::Bool => Values::Bool(cast(array, &DataType::Boolean)?.as_boolean().clone()),
        Scalar::Int2 => Values::Int2(cast(array, &DataType::Int16)?.as_primitive::<Int16Type>().clone()),
        Scalar::Int4 => Values::Int4(cast(array, &DataType::Int32)?.as_primitive::<Int32Type>().clone()),
        Scalar::Int8 => Values::Int8(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        Scalar::Float4 => Values::Float4(cast(array, &DataType::Float32)?.as_primitive::<Float32Type>().clone()),
        Scalar::Float8 => Values::Float8(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone()),
        Scalar::Oid | Scalar::Regclass | Scalar::Regtype | Scalar::Regproc => match data_type {
            // A name: its text is the name, and that is all that is known of it.
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Values::Named(strings(array)?),
            // An oid is unsigned: above 2^31 it would not fit the signed type that keeps it.
            DataType::Int32 => Values::Oid(array.as_primitive::<Int32Type>().clone(), scalar),
            _ => {
                let wide = cast(array, &DataType::Int64)?;
                let narrow = wide
                    .as_primitive::<Int64Type>()
                    .unary::<_, Int32Type>(|oid| oid as u32 as i32);
                Values::Oid(narrow, scalar)
            }
        },
        Scalar::Numeric => numeric_values(array)?,
        Scalar::Bytea => match data_type {
            DataType::BinaryView => Values::ByteaView(array.as_binary_view().clone()),
            _ => Values::Bytea(cast(array, &DataType::Binary)?.as_binary::<i32>().clone()),
        },
        Scalar::Date => Values::Date(cast(array, &Scalar::Date.arrow())?.as_primitive::<Date32Type>().clone()),
        Scalar::Time => Values::Time(
            cast(array, &Scalar::Time.arrow())?
                .as_primitive::<Time64MicrosecondType>()
                .clone(),
        ),
        Scalar::Timestamp | Scalar::Timestamptz => {
            let zone = scalar == Scalar::Timestamptz;
            let array = cast(array, &scalar.arrow())?;
            Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone(), zone)
        }
        Scalar::Interval => {
            let array = cast(array, &Scalar::Interval.arrow())?;
            Values::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone())
        }
        Scalar::Uuid => match data_type {
            DataType::FixedSizeBinary(16) => Values::Uuid(array.as_fixed_size_binary().clone()),
            _ => Values::UuidText(strings(array)?),
        },
        Scalar::Jsonb => Values::Jsonb(strings(array)?),
        Scalar::Char => Values::Char(strings(array)?),
        Scalar::Vector | Scalar::Halfvec => {
            let list = cast(array, &scalar.arrow())?.as_list::<i32>().clone();
            let floats = list.values().as_primitive::<Float32Type>().clone();
            Values::Vector {
                list,
                floats,
                half: scalar == Scalar::Halfvec,
            }
        }
        Scalar::Text | Scalar::Json | Scalar::Unknown | Scalar::Bpchar | Scalar::Varchar | Scalar::Name => {
            Values::Text(strings(array)?)
        }
        // Their binary forms are of PostgreSQL's own making; as text they are what every client shows.
        Scalar::Aclitem | Scalar::Tsvector | Scalar::Tsquery => Values::Text(strings(array)?),
    })
}

/// The type of a list's items, whichever kind of list it is.
fn item_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type().clone(),
        _ => DataType::Utf8,
    }
}

fn numeric_values(array: &ArrayRef) -> Result<Values> {
    Ok(match array.data_type() {
        // What `numeric` without a scale of its own is kept in; the zeros that fill it up are not its digits.
        DataType::Decimal128(_, scale) if *array.data_type() == Scalar::Numeric.arrow() => {
            Values::NumericUnscaled(array.as_primitive::<Decimal128Type>().clone(), *scale)
        }
        DataType::Decimal128(_, scale) => Values::Numeric(array.as_primitive::<Decimal128Type>().clone(), *scale),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            let array = cast(array, &DataType::Decimal128(*precision, *scale))?;
            Values::Numeric(array.as_primitive::<Decimal128Type>().clone(), *scale)
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let array = cast(array, &DataType::Float64)?;
            Values::NumericFloat(array.as_primitive::<Float64Type>().clone())
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => integers(array)?,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => integers(array)?,
        // 256-bit decimals and texts of numbers.
        _ => Values::NumericText(strings(array)?),
    })
}

fn integers(array: &ArrayRef) -> Result<Values> {
    let array = cast(array, &DataType::Decimal128(20, 0))?;
    Ok(Values::Numeric(array.as_primitive::<Decimal128Type>().clone(), 0))
}

/// Text, from whatever can be told as text.
fn strings(array: &ArrayRef) -> Result<Strings> {
    Ok(match array.data_type() {
        DataType::Utf8View => Strings::View(array.as_string_view().clone()),
        DataType::Utf8 => Strings::Plain(array.as_string::<i32>().clone()),
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) | DataType::List(_) | DataType::LargeList(_) => {
            let texts = (0..array.len()).map(|row| array_value_to_string(array, row));
            let texts = texts
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(Error::internal)?;
            Strings::Plain(StringArray::from(texts))
        }
        _ => Strings::Plain(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()),
    })
}

/// Writes one value that is not NULL, without a length.
fn put_value(values: &Values, row: usize, format: Format, out: &mut BytesMut) -> Result<()> {
    let text = format == Format::Text;
    match values {
        Values::Void => {}
        Values::Bool(a) if text => out.put_u8(if a.value(row) { b't' } else { b'f' }),
        Values::Bool(a) => out.put_u8(a.value(row).into()),
        Values::Int2(a) if text => values::put_display(a.value(row), out),
        Values::Int2(a) => out.put_i16(a.value(row)),
        Values::Int4(a) if text => values::put_display(a.value(row), out),
        Values::Int4(a) => out.put_i32(a.value(row)),
        Values::Int8(a) if text => values::put_display(a.value(row), out),
        Values::Int8(a) => out.put_i64(a.value(row)),
        Values::Oid(a, scalar) if text => match (a.value(row), scalar) {
            (0, Scalar::Regclass | Scalar::Regtype | Scalar::Regproc) => out.put_u8(b'-'),
            (oid, _) => values::put_display(oid.cast_unsigned(), out),
        },
        Values::Oid(a, _) => out.put_i32(a.value(row)),
        Values::Float4(a) if text => numeric::put_float4(a.value(row), out),
        Values::Float4(a) => out.put_f32(a.value(row)),
        Values::Float8(a) if text => numeric::put_float8(a.value(row), out),
        Values::Float8(a) => out.put_f64(a.value(row)),
        Values::NumericUnscaled(a, scale) => {
            let (value, scale) = numeric::unscaled(a.value(row), *scale);
            match text {
                true => numeric::put_text(value, scale, out),
                false => numeric::put_binary(value, scale, out),
            }
        }
        Values::Numeric(a, scale) if text => numeric::put_text(a.value(row), *scale, out),
        Values::Numeric(a, scale) => numeric::put_binary(a.value(row), *scale, out),
        Values::NumericFloat(a) => put_numeric_float(a.value(row), text, out),
        Values::NumericText(a) if text => out.put_slice(a.value(row).as_bytes()),
        Values::NumericText(a) => numeric::put_binary_of_text(a.value(row).as_bytes(), out),
        Values::Text(a) => out.put_slice(a.value(row).as_bytes()),
        Values::Char(a) => match a.value(row).as_bytes() {
            [] if !text => out.put_u8(0),
            bytes => out.put_slice(bytes),
        },
        // The name, and after a NUL the number, where a catalog has told both.
        Values::Named(a) if text => out.put_slice(a.value(row).split('\0').next().unwrap_or_default().as_bytes()),
        Values::Named(a) => out.put_u32(named_oid(a.value(row).rsplit('\0').next().unwrap_or_default())?),
        Values::Jsonb(a) => {
            if !text {
                out.put_u8(1);
            }
            out.put_slice(a.value(row).as_bytes());
        }
        Values::Uuid(a) if text => values::put_uuid(a.value(row), out),
        Values::Uuid(a) => out.put_slice(a.value(row)),
        Values::UuidText(a) if text => out.put_slice(a.value(row).as_bytes()),
        Values::UuidText(a) => match values::uuid(a.value(row)) {
            Some(bytes) => out.put_slice(&bytes),
            None => return Err(Error::new(Code::InvalidText, "a value of type uuid is not a UUID")),
        },
        Values::Bytea(a) => values::put_bytea(a.value(row), text, out),
        Values::ByteaView(a) => values::put_bytea(a.value(row), text, out),
        Values::Date(a) if text => datetime::put_date(a.value(row), out),
        Values::Date(a) => out.put_i32(match a.value(row) {
            end @ (i32::MAX | i32::MIN) => end,
            days => days.saturating_sub(datetime::EPOCH_DAYS),
        }),
        Values::Time(a) if text => datetime::put_time(a.value(row), out),
        Values::Time(a) => out.put_i64(a.value(row)),
        Values::Timestamp(a, zone) if text => datetime::put_timestamp(a.value(row), *zone, out),
        Values::Timestamp(a, _) => out.put_i64(match a.value(row) {
            end @ (i64::MAX | i64::MIN) => end,
            micros => micros.saturating_sub(datetime::EPOCH_MICROS),
        }),
        Values::Interval(a) => {
            let value = a.value(row);
            let (months, days, micros) = (value.months, value.days, value.nanoseconds / 1000);
            if text {
                datetime::put_interval(Interval { months, days, micros }, out);
            } else {
                out.put_i64(micros);
                out.put_i32(days);
                out.put_i32(months);
            }
        }
        Values::Vector { list, floats, half } => {
            let offsets = list.value_offsets();
            let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
            put_vector(&floats.values()[from..to], *half, text, out)?;
        }
        Values::Spaced { list, items, item } => {
            let offsets = list.value_offsets();
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            if !text {
                return put_array_binary(items, range, |_| false, item.oid(), 0, out);
            }
            for at in range.clone() {
                if at > range.start {
                    out.put_u8(b' ');
                }
                put_value(items, at, Format::Text, out)?;
            }
        }
        Values::List {
            list,
            items,
            nulls,
            item,
        } => {
            let offsets = list.value_offsets();
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            let is_null = |at| nulls.as_ref().is_some_and(|nulls| nulls.is_null(at));
            match format {
                Format::Text => put_array_text(items, range, is_null, out)?,
                Format::Binary => put_array_binary(items, range, is_null, item.oid(), 1, out)?,
            }
        }
    }
    Ok(())
}

fn put_numeric_float(value: f64, text: bool, out: &mut BytesMut) {
    match (value.is_finite(), text) {
        (true, true) => values::put_display(value, out),
        (true, false) => numeric::put_binary_of_text(value.to_string().as_bytes(), out),
        (false, true) => numeric::put_float8(value, out),
        (false, false) => {
            let sign = if value.is_nan() {
                0xC000
            } else if value > 0.0 {
                0xD000
            } else {
                0xF000
            };
            [0, 0, sign, 0].into_iter().for_each(|word| out.put_u16(word));
        }
    }
}

fn named_oid(name: &str) -> Result<u32> {
    let known = name.parse().ok().or_else(|| PgType::from_name(name).map(PgType::oid));
    known.ok_or_else(|| Error::new(Code::Unsupported, "the name of an object cannot be sent in binary form"))
}

fn put_vector(floats: &[f32], half: bool, text: bool, out: &mut BytesMut) -> Result<()> {
    if text {
        out.put_u8(b'[');
        for (at, &value) in floats.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            numeric::put_float4(value, out);
        }
        out.put_u8(b']');
        return Ok(());
    }
    out.put_u16(u16::try_from(floats.len()).map_err(|_| too_large())?);
    out.put_u16(0);
    for &value in floats {
        match half {
            false => out.put_f32(value),
            true => {
                out.put_u16(<Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native::from_f32(value).to_bits())
            }
        }
    }
    Ok(())
}

fn put_array_text(
    items: &Values,
    range: std::ops::Range<usize>,
    is_null: impl Fn(usize) -> bool,
    out: &mut BytesMut,
) -> Result<()> {
    out.put_u8(b'{');
    let first = range.start;
    for at in range {
        if at > first {
            out.put_u8(b',');
        }
        if is_null(at) {
            out.put_slice(b"NULL");
            continue;
        }
        let start = out.len();
        put_value(items, at, Format::Text, out)?;
        if !matches!(items, Values::List { .. }) && needs_quotes(&out[start..]) {
            let plain = out.split_off(start);
            out.put_u8(b'"');
            for &byte in &plain {
                if matches!(byte, b'"' | b'\\') {
                    out.put_u8(b'\\');
                }
                out.put_u8(byte);
            }
            out.put_u8(b'"');
        }
    }
    out.put_u8(b'}');
    Ok(())
}

fn needs_quotes(text: &[u8]) -> bool {
    let special = |b: &u8| {
        matches!(
            b,
            b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c
        )
    };
    text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special)
}

fn put_array_binary(
    items: &Values,
    range: std::ops::Range<usize>,
    is_null: impl Fn(usize) -> bool,
    oid: u32,
    lower_bound: i32,
    out: &mut BytesMut,
) -> Result<()> {
    if matches!(items, Values::List { .. }) {
        let message = "an array of several dimensions is sent as text only";
        return Err(Error::new(Code::Unsupported, message).with_hint("ask for the column in text format"));
    }
    let dimensions = i32::from(!range.is_empty());
    out.put_i32(dimensions);
    out.put_i32(range.clone().any(&is_null).into());
    out.put_u32(oid);
    if dimensions > 0 {
        out.put_i32(i32::try_from(range.len()).map_err(|_| too_large())?);
        out.put_i32(lower_bound);
    }
    for at in range {
        if is_null(at) {
            out.put_i32(-1);
        } else {
            put_sized(out, |out| put_value(items, at, Format::Binary, out))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
