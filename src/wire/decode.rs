//! Values on their way in: parameters, text or binary, to Arrow arrays of length 1.
//!
//! Each scalar type has one reader per format; arrays use the same readers for their items.

use std::{str::FromStr, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
        Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, NullArray, StringArray,
        Time64MicrosecondArray, TimestampMicrosecondArray, new_empty_array, new_null_array,
    },
    buffer::OffsetBuffer,
    compute::concat,
    datatypes::{DataType, Field, Float16Type, Float32Type, IntervalMonthDayNano},
};
use bytes::BytesMut;

use super::{
    datetime, frame, numeric,
    values::{self, Format},
};
use crate::{
    codec::{
        array_text,
        pgtype::{PgType, Scalar, numeric_modifier},
    },
    error::{Code, Error, Result},
    limits,
    sql::json,
};

/// One parameter as an array of length 1 in `pg_type.arrow()`; `None` is NULL.
///
/// Wrong text is 22P02 (or 22007, 22003, 22000 by kind), wrong binary 22P03, wrong encoding 22021.
pub(super) fn parameter(pg_type: PgType, format: Format, bytes: Option<&[u8]>) -> Result<ArrayRef> {
    match (pg_type, bytes) {
        (_, None) => Ok(new_null_array(&pg_type.arrow(), 1)),
        (PgType::Scalar(scalar), bytes) => scalars(scalar, format, &[bytes]),
        (PgType::Array(item), Some(bytes)) => {
            let items = match format {
                Format::Text => {
                    let parsed = array_text::items(frame::text(bytes)?)?;
                    let parsed: Vec<_> = parsed.iter().map(|item| item.as_deref().map(str::as_bytes)).collect();
                    // No cast looks names up inside an array: its items are numbers.
                    let item = if names(item) { Scalar::Oid } else { item };
                    scalars(item, format, &parsed)?
                }
                Format::Binary => scalars(item, format, &binary_items(item, bytes)?)?,
            };
            let field = Arc::new(Field::new("item", item.arrow(), true));
            let offsets = OffsetBuffer::from_lengths([items.len()]);
            Ok(Arc::new(
                ListArray::try_new(field, offsets, items, None).map_err(Error::internal)?,
            ))
        }
    }
}

/// Values of one column as one array in the Arrow type of [`PgType::field_of`]; `None` is NULL. Of a type
/// modifier only that of `numeric` matters here, which rounds to its scale.
///
/// Errors are those of [`parameter`], of any of the values.
pub(super) fn column(
    pg_type: PgType,
    type_modifier: i32,
    format: Format,
    values: &[Option<&[u8]>],
) -> Result<ArrayRef> {
    match pg_type {
        PgType::Scalar(Scalar::Numeric) => match numeric_modifier(type_modifier) {
            Some((precision, scale)) => numerics(precision, scale, format, values),
            None => scalars(Scalar::Numeric, format, values),
        },
        PgType::Scalar(scalar) => scalars(scalar, format, values),
        PgType::Array(_) if values.is_empty() => Ok(new_empty_array(&pg_type.arrow())),
        PgType::Array(_) => {
            let arrays = values.iter().map(|value| parameter(pg_type, format, *value));
            let arrays = arrays.collect::<Result<Vec<_>>>()?;
            let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            concat(&arrays).map_err(Error::internal)
        }
    }
}

/// Values of a `numeric(precision, scale)`.
fn numerics(precision: u8, scale: i8, format: Format, values: &[Option<&[u8]>]) -> Result<ArrayRef> {
    let input = Input {
        scalar: Scalar::Numeric,
        format,
        values,
    };
    let digits = u32::from(scale.unsigned_abs());
    let most = 10_i128.checked_pow(precision.into());
    let fits = |value: i128| match most.is_none_or(|most| value.abs() < most) {
        true => Ok(value),
        false => Err(
            Error::new(Code::NumericOutOfRange, "numeric field overflow").with_detail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}.",
                precision.cast_signed() - scale
            )),
        ),
    };
    let text = |t: &str| numeric::from_text(t, digits).and_then(fits);
    let binary = |b: &[u8]| numeric::from_binary(b, digits).map(|value| value.and_then(fits));
    let array = Decimal128Array::from(input.read(text, binary)?);
    let array = array.with_precision_and_scale(precision, scale);
    Ok(Arc::new(array.map_err(Error::internal)?))
}

/// The items of a binary array of one dimension.
fn binary_items(item: Scalar, bytes: &[u8]) -> Result<Vec<Option<&[u8]>>> {
    let mut rest = bytes;
    let mut word = || {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(i32::from_be_bytes(*head))
    };
    let (Some(dimensions @ 0..=6), Some(0 | 1), Some(oid)) = (word(), word(), word()) else {
        return Err(wrong_binary());
    };
    if oid.cast_unsigned() != item.oid() {
        let (got, wanted) = (oid.cast_unsigned(), item.oid());
        let message = format!(
            "binary data has array element type {got} instead of expected {wanted} ({})",
            item.name()
        );
        return Err(Error::new(Code::DatatypeMismatch, message));
    }
    let count = match dimensions {
        0 => 0,
        1 => match (word(), word()) {
            (Some(count), Some(_)) => usize::try_from(count).map_err(|_| wrong_binary())?,
            _ => return Err(wrong_binary()),
        },
        _ => {
            return Err(Error::new(
                Code::Unsupported,
                "arrays of several dimensions are not supported",
            ));
        }
    };
    // Every item has a length of four bytes, so a count that passes this allocates what was sent.
    if count > rest.len() / 4 {
        return Err(wrong_binary());
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(wrong_binary)?;
        rest = tail;
        items.push(match i32::from_be_bytes(*head) {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| wrong_binary())?;
                let (item, tail) = rest.split_at_checked(length).ok_or_else(wrong_binary)?;
                rest = tail;
                Some(item)
            }
        });
    }
    if rest.is_empty() {
        Ok(items)
    } else {
        Err(wrong_binary())
    }
}

/// Whether a text of this type may name what it identifies by number.
const fn names(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Regclass | Scalar::Regproc | Scalar::Regtype)
}

/// Values of one scalar type, as one array.
fn scalars(scalar: Scalar, format: Format, values: &[Option<&[u8]>]) -> Result<ArrayRef> {
    let input = Input { scalar, format, values };
    let syntax = |text: &str| wrong_text(scalar, text);
    Ok(match scalar {
        Scalar::Bool => {
            let read = input.fixed(|t| boolean(t).ok_or_else(|| syntax(t)), |[b]: [u8; 1]| b != 0)?;
            Arc::new(BooleanArray::from(read))
        }
        Scalar::Int2 => Arc::new(Int16Array::from(
            input.fixed(|t| integer(scalar, t), i16::from_be_bytes)?,
        )),
        Scalar::Int4 => Arc::new(Int32Array::from(
            input.fixed(|t| integer(scalar, t), i32::from_be_bytes)?,
        )),
        Scalar::Int8 => Arc::new(Int64Array::from(
            input.fixed(|t| integer(scalar, t), i64::from_be_bytes)?,
        )),
        scalar if names(scalar) && format == Format::Text => {
            // Names are looked up by the statement.
            strings(&input, |b| frame::text(b).map(str::to_owned))?
        }
        Scalar::Oid | Scalar::Regproc | Scalar::Regclass | Scalar::Regtype => {
            Arc::new(Int32Array::from(input.fixed(|t| oid(scalar, t), i32::from_be_bytes)?))
        }
        Scalar::Float4 => Arc::new(Float32Array::from(
            input.fixed(|t| float(scalar, t), f32::from_be_bytes)?,
        )),
        Scalar::Float8 => Arc::new(Float64Array::from(
            input.fixed(|t| float(scalar, t), f64::from_be_bytes)?,
        )),
        Scalar::Numeric => {
            let DataType::Decimal128(precision, scale) = scalar.arrow() else {
                return Err(Error::internal("numeric is kept in another type"));
            };
            let digits = u32::from(scale.unsigned_abs());
            let read = input.read(|t| numeric::from_text(t, digits), |b| numeric::from_binary(b, digits))?;
            Arc::new(
                Decimal128Array::from(read)
                    .with_precision_and_scale(precision, scale)
                    .map_err(Error::internal)?,
            )
        }
        Scalar::Date => {
            let from_wire = |days| match days {
                end @ (i32::MAX | i32::MIN) => Some(end),
                days => i32::checked_add(days, datetime::EPOCH_DAYS),
            };
            let binary = |b: &[u8]| from_wire(i32::from_be_bytes(b.try_into().ok()?)).map(Ok);
            Arc::new(Date32Array::from(
                input.read(|t| datetime::date(t).ok_or_else(|| syntax(t)), binary)?,
            ))
        }
        Scalar::Time => {
            let binary = |b: &[u8]| {
                let micros = i64::from_be_bytes(b.try_into().ok()?);
                (0..=86_400_000_000).contains(&micros).then_some(Ok(micros))
            };
            let read = input.read(|t| datetime::time(t).ok_or_else(|| syntax(t)), binary)?;
            Arc::new(Time64MicrosecondArray::from(read))
        }
        Scalar::Timestamp | Scalar::Timestamptz => {
            let zoned = scalar == Scalar::Timestamptz;
            let binary = |b: &[u8]| match i64::from_be_bytes(b.try_into().ok()?) {
                end @ (i64::MAX | i64::MIN) => Some(Ok(end)),
                micros => micros.checked_add(datetime::EPOCH_MICROS).map(Ok),
            };
            let read = input.read(|t| datetime::timestamp(t, zoned).ok_or_else(|| syntax(t)), binary)?;
            Arc::new(TimestampMicrosecondArray::from(read).with_data_type(scalar.arrow()))
        }
        Scalar::Interval => {
            let text = |t: &str| datetime::interval(t).and_then(kept_interval).ok_or_else(|| syntax(t));
            let binary = |b: &[u8]| {
                let (micros, rest) = b.split_first_chunk::<8>()?;
                let (days, months) = rest.split_first_chunk::<4>()?;
                kept_interval(datetime::Interval {
                    months: i32::from_be_bytes(months.try_into().ok()?),
                    days: i32::from_be_bytes(*days),
                    micros: i64::from_be_bytes(*micros),
                })
                .map(Ok)
            };
            Arc::new(IntervalMonthDayNanoArray::from(input.read(text, binary)?))
        }
        Scalar::Bytea => {
            let read = input.read(|t| bytea(t).ok_or_else(|| syntax(t)), |b| Some(Ok(b.to_vec())))?;
            Arc::new(read.iter().map(|v| v.as_deref()).collect::<BinaryArray>())
        }
        Scalar::Uuid => {
            let text = |t: &str| values::uuid(t).ok_or_else(|| syntax(t));
            let read = input.read(text, |b| b.try_into().ok().map(Ok))?;
            Arc::new(
                read.into_iter()
                    .map(|v| v.map(|bytes| uuid_text(&bytes)))
                    .collect::<StringArray>(),
            )
        }
        Scalar::Json => strings(&input, |b| {
            let text = frame::text(b)?;
            json::check(text).map(|()| text.to_owned())
        })?,
        Scalar::Jsonb => strings(&input, |b| match (format, b) {
            (Format::Text, text) | (Format::Binary, [1, text @ ..]) => json::canonical(frame::text(text)?),
            (Format::Binary, _) => Err(wrong_binary()),
        })?,
        // The spaces that pad it are not kept.
        Scalar::Bpchar => strings(&input, |b| Ok(frame::text(b)?.trim_end_matches(' ').to_owned()))?,
        Scalar::Char | Scalar::Name | Scalar::Text | Scalar::Unknown | Scalar::Varchar => {
            strings(&input, |b| frame::text(b).map(str::to_owned))?
        }
        Scalar::Vector | Scalar::Halfvec => {
            let read = input.read(vector_text, |b| vector_binary(b, scalar == Scalar::Halfvec))?;
            let lists = read.into_iter().map(|v| v.map(|floats| floats.into_iter().map(Some)));
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists))
        }
        Scalar::Aclitem | Scalar::Tsvector | Scalar::Tsquery => strings(&input, |b| frame::text(b).map(str::to_owned))?,
        Scalar::Int2vector | Scalar::Oidvector => {
            return Err(Error::new(
                Code::Unsupported,
                format!("a parameter of type {} is not supported", scalar.name()),
            ));
        }
        Scalar::Void => Arc::new(NullArray::new(values.len())),
    })
}

/// The undecoded values of one type.
struct Input<'a> {
    scalar: Scalar,
    format: Format,
    values: &'a [Option<&'a [u8]>],
}

impl Input<'_> {
    /// Reads every value; `binary` gives `None` where the bytes have not the form of the type.
    fn read<T>(
        &self,
        text: impl Fn(&str) -> Result<T>,
        binary: impl Fn(&[u8]) -> Option<Result<T>>,
    ) -> Result<Vec<Option<T>>> {
        let one = |bytes: &[u8]| match self.format {
            Format::Text => text(frame::text(bytes)?),
            Format::Binary => binary(bytes).unwrap_or_else(|| {
                let message = format!("incorrect binary data format for type {}", spoken(self.scalar));
                Err(Error::new(Code::InvalidBinary, message))
            }),
        };
        self.values.iter().map(|value| value.map(one).transpose()).collect()
    }

    /// Reads values whose binary form has `N` bytes, each of which is a value.
    fn fixed<T, const N: usize>(
        &self,
        text: impl Fn(&str) -> Result<T>,
        binary: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<Option<T>>> {
        self.read(text, |bytes| bytes.try_into().ok().map(|bytes| Ok(binary(bytes))))
    }
}

fn strings(input: &Input<'_>, read: impl Fn(&[u8]) -> Result<String>) -> Result<ArrayRef> {
    let read = input.values.iter().map(|value| value.map(&read).transpose());
    Ok(Arc::new(read.collect::<Result<StringArray>>()?))
}

/// The type's name in messages.
fn spoken(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Bool => "boolean",
        Scalar::Int2 => "smallint",
        Scalar::Int4 => "integer",
        Scalar::Int8 => "bigint",
        Scalar::Float4 => "real",
        Scalar::Float8 => "double precision",
        Scalar::Timestamptz => "timestamp with time zone",
        other => other.name(),
    }
}

fn wrong_text(scalar: Scalar, text: &str) -> Error {
    let code = match scalar {
        Scalar::Date | Scalar::Time | Scalar::Timestamp | Scalar::Timestamptz | Scalar::Interval => {
            Code::InvalidDatetime
        }
        _ => Code::InvalidText,
    };
    Error::new(
        code,
        format!("invalid input syntax for type {}: \"{text}\"", spoken(scalar)),
    )
}

fn wrong_binary() -> Error {
    Error::new(Code::InvalidBinary, "incorrect binary data format")
}

fn out_of_range(scalar: Scalar, text: &str) -> Error {
    Error::new(
        Code::NumericOutOfRange,
        format!("value \"{text}\" is out of range for type {}", spoken(scalar)),
    )
}

/// `true` and `false` as PostgreSQL takes them: any unambiguous beginning of a word.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    match text.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ if begins("true", 1) || begins("yes", 1) || text == "on" => Some(true),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Some(false),
        _ => None,
    }
}

fn integer<T: FromStr<Err = std::num::ParseIntError>>(scalar: Scalar, text: &str) -> Result<T> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.trim()
        .parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            PosOverflow | NegOverflow => out_of_range(scalar, text),
            _ => wrong_text(scalar, text),
        })
}

/// An oid, kept in the signed type of the same width; a type's name where one is asked for.
fn oid(scalar: Scalar, text: &str) -> Result<i32> {
    if let Some(known) = PgType::from_name(text.trim()).filter(|_| scalar == Scalar::Regtype) {
        return Ok(known.oid().cast_signed());
    }
    let wide: i64 = integer(scalar, text)?;
    match (u32::try_from(wide), i32::try_from(wide)) {
        (Ok(oid), _) => Ok(oid.cast_signed()),
        (_, Ok(oid)) => Ok(oid),
        _ => Err(out_of_range(scalar, text)),
    }
}

trait Float: FromStr {
    fn infinite(&self) -> bool;
    fn zero(&self) -> bool;
}

impl Float for f32 {
    fn infinite(&self) -> bool {
        self.is_infinite()
    }
    fn zero(&self) -> bool {
        *self == 0.0
    }
}

impl Float for f64 {
    fn infinite(&self) -> bool {
        self.is_infinite()
    }
    fn zero(&self) -> bool {
        *self == 0.0
    }
}

/// A float; digits that are too large or too small for the type are an error, as in PostgreSQL.
fn float<T: Float>(scalar: Scalar, text: &str) -> Result<T> {
    let value: T = text.trim().parse().map_err(|_| wrong_text(scalar, text))?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let has_digits = text.bytes().any(|b| b.is_ascii_digit());
    let lost = value.zero() && mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if lost || (has_digits && value.infinite()) {
        let message = format!("\"{text}\" is out of range for type {}", spoken(scalar));
        return Err(Error::new(Code::NumericOutOfRange, message));
    }
    Ok(value)
}

fn kept_interval(interval: datetime::Interval) -> Option<IntervalMonthDayNano> {
    Some(IntervalMonthDayNano::new(
        interval.months,
        interval.days,
        interval.micros.checked_mul(1000)?,
    ))
}

/// `bytea` text: `\x` and hex, or the older escapes (`\\` and `\ooo`).
fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return values::unhex(&hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<_>>());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, _) = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => (tail, out.push(b'\\')),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                (tail, out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0')))
            }
            (b'\\', _) => return None,
            (&byte, tail) => (tail, out.push(byte)),
        };
    }
    Some(out)
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut out = BytesMut::with_capacity(36);
    values::put_uuid(bytes, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// What pgvector refuses, in its words.
fn checked_vector(floats: Vec<f32>) -> Result<Vec<f32>> {
    if floats.is_empty() {
        return Err(Error::new(Code::DataException, "vector must have at least 1 dimension"));
    }
    if floats.len() > limits::VECTOR_DIMENSIONS {
        let message = format!("vector cannot have more than {} dimensions", limits::VECTOR_DIMENSIONS);
        return Err(Error::new(Code::TooLarge, message));
    }
    if floats.iter().any(|f| f.is_nan()) {
        return Err(Error::new(Code::DataException, "NaN not allowed in vector"));
    }
    if floats.iter().any(|f| f.is_infinite()) {
        return Err(Error::new(Code::DataException, "infinite value not allowed in vector"));
    }
    Ok(floats)
}

fn vector_text(text: &str) -> Result<Vec<f32>> {
    // Not the text itself: it may hold thousands of numbers, and a vector is content.
    let wrong = || Error::new(Code::InvalidText, "invalid input syntax for type vector");
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .ok_or_else(wrong)?;
    if inner.trim().is_empty() {
        return checked_vector(vec![]);
    }
    let number = |item: &str| {
        let value = item.trim().parse::<f32>().map_err(|_| wrong())?;
        if value.is_infinite() && item.bytes().any(|b| b.is_ascii_digit()) {
            return Err(Error::new(
                Code::NumericOutOfRange,
                "value is out of range for type vector",
            ));
        }
        Ok(value)
    };
    checked_vector(inner.split(',').map(number).collect::<Result<_>>()?)
}

fn vector_binary(bytes: &[u8], half: bool) -> Option<Result<Vec<f32>>> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let (unused, rest) = rest.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    if *unused != [0, 0] || rest.len() != count * if half { 2 } else { 4 } {
        return None;
    }
    type Half = <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native;
    let floats = match half {
        true => rest
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&b| Half::from_bits(u16::from_be_bytes(b)).to_f32())
            .collect(),
        false => rest.as_chunks::<4>().0.iter().map(|&b| f32::from_be_bytes(b)).collect(),
    };
    Some(checked_vector(floats))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
