//! Values as the text that PostgreSQL's output functions give: what `x::text` is, and what JSON is made of.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
        IntervalMonthDayNanoType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    },
    util::display::array_value_to_string,
};
use bytes::{BufMut, BytesMut};
use datafusion::common::Result;

use crate::codec::{
    datetime::{self, Interval},
    numeric,
    pgtype::{PgType, Scalar},
};

/// A column of one type, read as text row by row.
pub struct Texts {
    array: ArrayRef,
    pg_type: PgType,
    items: Option<Box<Texts>>,
}

impl Texts {
    /// The column `array` of this type.
    pub fn new(array: &ArrayRef, pg_type: PgType) -> Result<Self> {
        let array = match array.data_type() {
            DataType::Utf8View | DataType::LargeUtf8 => cast(array, &DataType::Utf8)?,
            DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
                cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
            }
            DataType::Time64(TimeUnit::Nanosecond) | DataType::Time32(_) => {
                cast(array, &DataType::Time64(TimeUnit::Microsecond))?
            }
            DataType::Date64 => cast(array, &DataType::Date32)?,
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => cast(array, &DataType::List(item.clone()))?,
            DataType::Interval(_) | DataType::Duration(_) => cast(array, &Scalar::Interval.arrow())?,
            DataType::Dictionary(_, value) => cast(array, value)?,
            other if other.is_unsigned_integer() => cast(array, &DataType::Decimal128(20, 0))?,
            _ => array.clone(),
        };
        let items = match array.data_type() {
            DataType::List(field) => {
                let item = match pg_type {
                    PgType::Array(scalar) => PgType::Scalar(scalar),
                    PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => PgType::Scalar(Scalar::Float4),
                    PgType::Scalar(scalar) => scalar.vector_item().map_or_else(|| PgType::of(field), PgType::Scalar),
                };
                Some(Box::new(Self::new(array.as_list::<i32>().values(), item)?))
            }
            _ => None,
        };
        Ok(Self { array, pg_type, items })
    }

    /// The text of a row; `None` for NULL.
    pub fn text(&self, row: usize) -> Result<Option<String>> {
        if self.array.is_null(row) || self.array.data_type().is_null() {
            return Ok(None);
        }
        let mut out = BytesMut::new();
        self.put(row, &mut out)?;
        Ok(Some(String::from_utf8_lossy(&out).into_owned()))
    }

    /// Writes the text of a row that is not NULL.
    fn put(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        let array = &self.array;
        let display = |out: &mut BytesMut, text: &str| out.put_slice(text.as_bytes());
        match array.data_type() {
            DataType::Boolean => display(out, if array.as_boolean().value(row) { "true" } else { "false" }),
            DataType::Utf8 => display(out, array.as_string::<i32>().value(row)),
            DataType::Int16 => display(out, &array.as_primitive::<Int16Type>().value(row).to_string()),
            DataType::Int32 => {
                let value = array.as_primitive::<Int32Type>().value(row);
                let unsigned = matches!(
                    self.pg_type,
                    PgType::Scalar(Scalar::Oid | Scalar::Regclass | Scalar::Regproc)
                );
                match unsigned {
                    true => display(out, &value.cast_unsigned().to_string()),
                    false => display(out, &value.to_string()),
                }
            }
            DataType::Int64 => display(out, &array.as_primitive::<Int64Type>().value(row).to_string()),
            DataType::Float32 => numeric::put_float4(array.as_primitive::<Float32Type>().value(row), out),
            DataType::Float64 => numeric::put_float8(array.as_primitive::<Float64Type>().value(row), out),
            DataType::Decimal128(_, scale) => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                // Zeros that fill up a numeric without a scale of its own are not its digits.
                let (value, scale) = match *array.data_type() == Scalar::Numeric.arrow() {
                    true => numeric::unscaled(value, *scale),
                    false => (value, *scale),
                };
                numeric::put_text(value, scale, out);
            }
            DataType::Date32 => datetime::put_date(array.as_primitive::<Date32Type>().value(row), out),
            DataType::Time64(_) => datetime::put_time(array.as_primitive::<Time64MicrosecondType>().value(row), out),
            DataType::Timestamp(_, zone) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                datetime::put_timestamp(micros, zone.is_some(), out);
            }
            DataType::Interval(_) => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                let (months, days, micros) = (value.months, value.days, value.nanoseconds / 1000);
                datetime::put_interval(Interval { months, days, micros }, out);
            }
            DataType::Binary => {
                display(out, "\\x");
                for byte in array.as_binary::<i32>().value(row) {
                    display(out, &format!("{byte:02x}"));
                }
            }
            DataType::List(_) => self.put_list(row, out)?,
            DataType::Struct(_) => self.put_row(row, out)?,
            _ => display(out, &array_value_to_string(array, row)?),
        }
        Ok(())
    }

    fn put_list(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        let Some(items) = &self.items else {
            return Ok(());
        };
        let offsets = self.array.as_list::<i32>().value_offsets();
        let range = offsets[row] as usize..offsets[row + 1] as usize;
        let (open, between, close) = match self.pg_type {
            PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => ("[", ",", "]"),
            PgType::Scalar(Scalar::Int2vector | Scalar::Oidvector) => ("", " ", ""),
            _ => ("{", ",", "}"),
        };
        out.put_slice(open.as_bytes());
        for at in range.clone() {
            if at > range.start {
                out.put_slice(between.as_bytes());
            }
            if items.array.is_null(at) {
                out.put_slice(b"NULL");
                continue;
            }
            if items.array.data_type() == &DataType::Boolean {
                out.put_u8(if items.array.as_boolean().value(at) { b't' } else { b'f' });
                continue;
            }
            let mut one = BytesMut::new();
            items.put(at, &mut one)?;
            let nested = matches!(items.array.data_type(), DataType::List(_));
            quoted(&one, !nested && needs_quotes(&one), out);
        }
        out.put_slice(close.as_bytes());
        Ok(())
    }

    /// `(a,"b c",)`.
    fn put_row(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        let fields = self.array.as_struct();
        out.put_u8(b'(');
        for (at, (column, field)) in fields.columns().iter().zip(fields.fields()).enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            let texts = Self::new(column, PgType::of(field))?;
            if column.is_null(row) {
                continue;
            }
            if let DataType::Boolean = column.data_type() {
                out.put_u8(if column.as_boolean().value(row) { b't' } else { b'f' });
                continue;
            }
            let mut one = BytesMut::new();
            texts.put(row, &mut one)?;
            let special = |b: &u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || b.is_ascii_whitespace();
            let quotes = one.is_empty() || one.iter().any(special);
            match quotes {
                true => {
                    let doubled = String::from_utf8_lossy(&one).replace('\\', "\\\\").replace('"', "\"\"");
                    out.put_u8(b'"');
                    out.put_slice(doubled.as_bytes());
                    out.put_u8(b'"');
                }
                false => out.put_slice(&one),
            }
        }
        out.put_u8(b')');
        Ok(())
    }
}

fn quoted(text: &[u8], quotes: bool, out: &mut BytesMut) {
    if !quotes {
        out.put_slice(text);
        return;
    }
    out.put_u8(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}

/// Whether an element of an array literal must be quoted.
fn needs_quotes(text: &[u8]) -> bool {
    let special = |b: &u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || b.is_ascii_whitespace() || *b == 0x0b;
    text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special)
}
