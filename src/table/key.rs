//! Index keys: bytes that sort as the index does.
//!
//! Each column is a byte that says NULL or value, then the value so that none is a prefix of another: integers and
//! floats of any width alike, big-endian with the sign turned; text and bytes escaped (as [`crate::codec::key`]
//! does); intervals by their length, a month being 30 days. DESC turns the bits of a value.

use std::{borrow::Borrow, cmp::Ordering, fmt, hash};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
        IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
        TimestampMicrosecondType,
    },
};

use super::schema::IndexDef;
use crate::{
    codec::key::{put_bytes, put_i64},
    error::{Error, Result},
};

/// A key, or the first columns of one. Sorts as its bytes. Short ones take no memory of their own.
#[derive(Clone)]
pub struct Key(Bytes);

#[derive(Clone)]
enum Bytes {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

const SHORT: usize = 22;
const _: () = assert!(size_of::<Key>() == 24);

const VALUE: u8 = 1;
const NULL_FIRST: u8 = 0;
const NULL_LAST: u8 = 2;
/// After the last item of a list; items begin with [`VALUE`] or [`NULL_LAST`].
const LIST_END: u8 = 0;

impl Key {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(length, bytes) => &bytes[..usize::from(*length)],
            Bytes::Long(bytes) => bytes,
        }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        if bytes.len() > SHORT {
            return Self(Bytes::Long(bytes.into()));
        }
        let mut short = [0; SHORT];
        short[..bytes.len()].copy_from_slice(bytes);
        Self(Bytes::Short(bytes.len() as u8, short))
    }

    /// Bytes beside its own size.
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Bytes::Short(..) => 0,
            Bytes::Long(bytes) => bytes.len() + 16,
        }
    }

    /// The first key after all that start with this one; `None` after the last.
    pub(super) fn after(&self) -> Option<Self> {
        let bytes = self.as_bytes();
        let last = bytes.iter().rposition(|&byte| byte < u8::MAX)?;
        let mut after = bytes[..=last].to_vec();
        after[last] += 1;
        Some(Self::from_bytes(&after))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl hash::Hash for Key {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.as_bytes().len())
    }
}

/// The key at a place of the key's columns, or of the first of them; and whether one of them is NULL there. A column
/// must be of the type that the index has it in, save that integers and floats may be of any width.
///
/// # Errors
/// [`crate::error::Code::Internal`] for more columns than the index has, or a type that no column has.
pub fn key(columns: &[ArrayRef], at: usize, index: &IndexDef) -> Result<(Key, bool)> {
    let mut bytes = Vec::with_capacity(SHORT);
    let has_null = put_key(&mut bytes, columns, at, index)?;
    Ok((Key::from_bytes(&bytes), has_null))
}

/// Appends a key. Whether it has a NULL.
pub(super) fn put_key(bytes: &mut Vec<u8>, columns: &[ArrayRef], at: usize, index: &IndexDef) -> Result<bool> {
    if columns.len() > index.keys.len() {
        return Err(Error::internal("a key has more columns than its index"));
    }
    let mut has_null = false;
    for (column, key) in columns.iter().zip(&index.keys) {
        if column.is_null(at) || column.data_type() == &DataType::Null {
            has_null = true;
            bytes.push(if key.nulls_first { NULL_FIRST } else { NULL_LAST });
            continue;
        }
        bytes.push(VALUE);
        let begin = bytes.len();
        put_value(bytes, column, at)?;
        if key.descending {
            bytes[begin..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
    Ok(has_null)
}

/// Appends a value that is not NULL so that byte order is its order.
///
/// # Errors
/// [`crate::error::Code::Internal`] for a type that no column has.
pub(super) fn put_value(bytes: &mut Vec<u8>, column: &ArrayRef, at: usize) -> Result<()> {
    macro_rules! integer {
        ($type:ty) => {
            put_i64(bytes, i64::from(column.as_primitive::<$type>().value(at)))
        };
    }
    match column.data_type() {
        DataType::Boolean => bytes.push(u8::from(column.as_boolean().value(at))),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::Date32 => integer!(Date32Type),
        DataType::Time64(TimeUnit::Microsecond) => integer!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integer!(TimestampMicrosecondType),
        DataType::Float32 => put_float(bytes, f64::from(column.as_primitive::<Float32Type>().value(at))),
        DataType::Float64 => put_float(bytes, column.as_primitive::<Float64Type>().value(at)),
        DataType::Decimal128(..) => put_i128(bytes, column.as_primitive::<Decimal128Type>().value(at)),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            put_i128(
                bytes,
                length(column.as_primitive::<IntervalMonthDayNanoType>().value(at)),
            );
        }
        DataType::Utf8 => put_bytes(bytes, column.as_string::<i32>().value(at).as_bytes()),
        DataType::Binary => put_bytes(bytes, column.as_binary::<i32>().value(at)),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(at);
            for at in 0..items.len() {
                match items.is_null(at) {
                    true => bytes.push(NULL_LAST),
                    false => {
                        bytes.push(VALUE);
                        put_value(bytes, &items, at)?;
                    }
                }
            }
            bytes.push(LIST_END);
        }
        other => return Err(Error::internal(format!("no index has a column of type {other}"))),
    }
    Ok(())
}

/// -0 is 0, and NaN is the greatest of all, as PostgreSQL has it.
fn put_float(bytes: &mut Vec<u8>, float: f64) {
    let float = if float.is_nan() { f64::NAN.abs() } else { float + 0.0 };
    let bits = float.to_bits();
    let sorted = match bits >> 63 {
        0 => bits | (1 << 63),
        _ => !bits,
    };
    bytes.extend_from_slice(&sorted.to_be_bytes());
}

fn put_i128(bytes: &mut Vec<u8>, n: i128) {
    bytes.extend_from_slice(&(n.cast_unsigned() ^ (1 << 127)).to_be_bytes());
}

/// What PostgreSQL compares intervals by, in nanoseconds.
fn length(interval: IntervalMonthDayNano) -> i128 {
    const DAY: i128 = 86_400_000_000_000;
    (i128::from(interval.months) * 30 + i128::from(interval.days)) * DAY + i128::from(interval.nanoseconds)
}
