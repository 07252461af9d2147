//! The typed columns that [`super::encode`] writes, and the forms of values shared by both directions.

use std::fmt::{Display, Write};

use arrow::{
    array::{
        BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
        Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray,
        StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    },
    buffer::NullBuffer,
};
use bytes::{BufMut, BytesMut};

use crate::codec::pgtype::Scalar;

/// How a value is written: PostgreSQL's format codes 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    /// Of a code that the frame check has let through.
    pub(super) fn of(code: i16) -> Self {
        if code == 1 { Self::Binary } else { Self::Text }
    }

    /// The code in RowDescription.
    pub(super) fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// One column's values under the type they are sent as.
pub(super) enum Values {
    /// `void`: never NULL, always empty.
    Void,
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Oid(Int32Array, Scalar),
    Float4(Float32Array),
    Float8(Float64Array),
    Numeric(Decimal128Array, i8),
    /// `numeric` without a scale of its own: the zeros that fill up its fraction are not shown.
    NumericUnscaled(Decimal128Array, i8),
    NumericFloat(Float64Array),
    NumericText(Strings),
    Text(Strings),
    Char(Strings),
    /// `regclass` and its like, given by name.
    Named(Strings),
    Jsonb(Strings),
    Uuid(FixedSizeBinaryArray),
    UuidText(Strings),
    Bytea(BinaryArray),
    ByteaView(BinaryViewArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    /// With a zone or without.
    Timestamp(TimestampMicrosecondArray, bool),
    Interval(IntervalMonthDayNanoArray),
    Vector {
        list: ListArray,
        floats: Float32Array,
        half: bool,
    },
    List {
        list: ListArray,
        items: Box<Values>,
        nulls: Option<NullBuffer>,
        item: Scalar,
    },
    /// `int2vector` and `oidvector`: elements between spaces.
    Spaced {
        list: ListArray,
        items: Box<Values>,
        item: Scalar,
    },
}

/// Text in either of the two layouts that queries produce most.
pub(super) enum Strings {
    Plain(StringArray),
    View(StringViewArray),
}

impl Strings {
    pub(super) fn value(&self, row: usize) -> &str {
        match self {
            Self::Plain(array) => array.value(row),
            Self::View(array) => array.value(row),
        }
    }
}

/// Writes what `Display` says.
pub(super) fn put_display(value: impl Display, out: &mut BytesMut) {
    // BytesMut grows: writing to it does not fail.
    let _ = write!(out, "{value}");
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn put_hex(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.put_u8(HEX[usize::from(byte >> 4)]);
        out.put_u8(HEX[usize::from(byte & 15)]);
    }
}

/// Writes `bytea`, as `\x` and hex or raw.
pub(super) fn put_bytea(bytes: &[u8], text: bool, out: &mut BytesMut) {
    if text {
        out.put_slice(b"\\x");
        put_hex(bytes, out);
    } else {
        out.put_slice(bytes);
    }
}

/// Writes 16 bytes as 8-4-4-4-12 hex digits.
pub(super) fn put_uuid(bytes: &[u8], out: &mut BytesMut) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.put_u8(b'-');
        }
        put_hex(&[*byte], out);
    }
}

/// Bytes of hex digits, `None` where they are none.
pub(super) fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |b: u8| char::from(b).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some((nibble(*high)? * 16 + nibble(*low)?) as u8),
        _ => None,
    });
    pairs.collect()
}

/// Reads a UUID in the forms PostgreSQL takes: braces and hyphens after every fourth digit are optional.
pub(super) fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.trim();
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut digits = Vec::with_capacity(32);
    for byte in inner.bytes() {
        match byte {
            b'-' if !digits.is_empty() && digits.len() % 4 == 0 && digits.len() < 32 => {}
            byte if byte.is_ascii_hexdigit() => digits.push(byte),
            _ => return None,
        }
    }
    unhex(&digits)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_read_in_every_form() {
        let wanted = Some(*b"\x3d\xfa\xc4\xc0\x69\xa4\x4f\xc8\xb0\x2e\xf6\xf7\x8d\x25\x7a\xe4");
        for text in [
            "3dfac4c0-69a4-4fc8-b02e-f6f78d257ae4",
            "{3DFAC4C0-69A4-4FC8-B02E-F6F78D257AE4}",
            "3dfac4c069a44fc8b02ef6f78d257ae4",
            "3dfa-c4c0-69a4-4fc8-b02e-f6f7-8d25-7ae4",
        ] {
            assert_eq!(uuid(text), wanted);
        }
        for text in [
            "",
            "3dfac4c0",
            "3d-fac4c069a44fc8b02ef6f78d257ae4",
            "{3dfac4c069a44fc8b02ef6f78d257ae4",
            "xx",
        ] {
            assert_eq!(uuid(text), None);
        }
    }
}
