//! PostgreSQL's `numeric` and float texts and its binary `numeric`, to and from 128-bit decimals.

use std::fmt::{self, Write};

use bytes::{BufMut, BytesMut};

use crate::error::{Code, Error, Result};

/// Decimal digits of one base-10000 digit on the wire.
const GROUP: usize = 4;
/// Largest exponent looked at: far outside of what 38 digits can hold.
const EXPONENT: i64 = 1 << 20;
const NEGATIVE: u16 = 0x4000;

/// Text on the stack: long enough for any 128-bit number and any float in `{:e}`.
struct Short {
    bytes: [u8; 64],
    len: usize,
}

impl Short {
    fn of(value: impl fmt::Display) -> Self {
        let mut short = Self { bytes: [0; 64], len: 0 };
        // Nothing formatted here is longer; what did not fit would be cut, not written elsewhere.
        let _ = write!(short, "{value}");
        short
    }

    fn exponent_of(value: impl fmt::LowerExp) -> Self {
        let mut short = Self { bytes: [0; 64], len: 0 };
        let _ = write!(short, "{value:e}");
        short
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Writes a decimal with exactly `scale` digits after the point, as `numeric` of that scale prints.
pub(crate) fn put_text(value: i128, scale: i8, out: &mut BytesMut) {
    let digits = Short::of(value.unsigned_abs());
    let digits = digits.text();
    if value < 0 {
        out.put_u8(b'-');
    }
    let Ok(scale) = usize::try_from(scale) else {
        out.put_slice(digits);
        if value != 0 {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    };
    let (whole, rest) = digits.split_at(digits.len().saturating_sub(scale));
    out.put_slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.put_u8(b'.');
        out.put_bytes(b'0', scale - rest.len());
        out.put_slice(rest);
    }
}

/// A decimal without the zeros at the end of its fraction.
pub(crate) fn unscaled(mut value: i128, mut scale: i8) -> (i128, i8) {
    while scale > 0 && value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    (value, scale)
}

/// Writes the binary form of a decimal: base-10000 digits around the point.
pub(crate) fn put_binary(value: i128, scale: i8, out: &mut BytesMut) {
    let mut text = BytesMut::with_capacity(64);
    put_text(value, scale, &mut text);
    put_binary_of_text(&text, out);
}

/// Writes the binary form of plain decimal text (`-12.50`, no exponent).
pub(crate) fn put_binary_of_text(text: &[u8], out: &mut BytesMut) {
    let (sign, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (NEGATIVE, digits),
        None => (0, text),
    };
    let point = digits.iter().position(|&b| b == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &b""[..]),
    };
    let lead = (GROUP - whole.len() % GROUP) % GROUP;
    let digit = |at: usize| -> u16 {
        let byte = match at.checked_sub(lead) {
            None => b'0',
            Some(at) if at < whole.len() => whole[at],
            Some(at) => fraction.get(at - whole.len()).copied().unwrap_or(b'0'),
        };
        u16::from(byte.wrapping_sub(b'0') % 10)
    };
    let whole_groups = (lead + whole.len()) / GROUP;
    let groups = whole_groups + fraction.len().div_ceil(GROUP);
    let group = |g: usize| (0..GROUP).fold(0, |sum, at| sum * 10 + digit(g * GROUP + at));
    let first = (0..groups).find(|&g| group(g) != 0);
    let last = (0..groups).rev().find(|&g| group(g) != 0);
    let (first, count) = match (first, last) {
        (Some(first), Some(last)) => (first, last - first + 1),
        _ => (0, 0),
    };
    let weight = if count == 0 {
        0
    } else {
        whole_groups as i64 - 1 - first as i64
    };
    out.put_u16(count as u16);
    out.put_i16(weight as i16);
    out.put_u16(if count == 0 { 0 } else { sign });
    out.put_u16(fraction.len() as u16);
    for g in first..first + count {
        out.put_u16(group(g));
    }
}

/// Reads `numeric` text into a decimal of `scale` digits after the point, rounding half away from zero.
pub(crate) fn from_text(text: &str, scale: u32) -> Result<i128> {
    let wrong = || {
        Error::new(
            Code::InvalidText,
            format!("invalid input syntax for type numeric: \"{text}\""),
        )
    };
    let body = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let (negative, body) = match body.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if ["nan", "inf", "infinity"]
        .iter()
        .any(|name| body.eq_ignore_ascii_case(name.as_bytes()))
    {
        return Err(not_finite());
    }
    let (mantissa, exponent) = match body.iter().position(|b| matches!(b, b'e' | b'E')) {
        None => (body, 0),
        Some(at) => {
            let exponent = std::str::from_utf8(&body[at + 1..])
                .ok()
                .and_then(|e| e.parse::<i64>().ok());
            (&body[..at], exponent.ok_or_else(wrong)?.clamp(-EXPONENT, EXPONENT))
        }
    };
    let point = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
    let mut digits = mantissa.to_vec();
    if point < digits.len() {
        digits.remove(point);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let magnitude = decimal(digits.iter().map(|d| d - b'0'), point as i64 + exponent, scale)?;
    Ok(if negative { -magnitude } else { magnitude })
}

/// Reads binary `numeric` like [`from_text`]. `None` where the bytes are not of that form.
pub(crate) fn from_binary(bytes: &[u8], scale: u32) -> Option<Result<i128>> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(2 * at)?, *bytes.get(2 * at + 1)?]));
    let (count, weight, sign, _scale) = (word(0)?, word(1)?.cast_signed(), word(2)?, word(3)?);
    if bytes.len() != 8 + 2 * usize::from(count) {
        return None;
    }
    match sign {
        0 | NEGATIVE => {}
        0xC000 | 0xD000 | 0xF000 => return Some(Err(not_finite())),
        _ => return None,
    }
    let mut digits = Vec::with_capacity(GROUP * usize::from(count));
    for at in 0..usize::from(count) {
        let group = word(4 + at).filter(|&group| group < 10_000)?;
        digits.extend([group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|d| d as u8));
    }
    let point = (i64::from(weight) + 1) * GROUP as i64;
    let magnitude = decimal(digits.into_iter(), point, scale);
    Some(magnitude.map(|m| if sign == NEGATIVE { -m } else { m }))
}

/// The integer of `digits` with the point after `point` of them, at `scale`.
fn decimal(digits: impl Iterator<Item = u8>, point: i64, scale: u32) -> Result<i128> {
    let keep = point + i64::from(scale);
    let mut value = 0_i128;
    let mut read = 0_i64;
    let push = |value: i128, digit: u8| {
        value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit)))
            .ok_or_else(overflow)
    };
    for digit in digits {
        match read.cmp(&keep) {
            std::cmp::Ordering::Less => value = push(value, digit)?,
            std::cmp::Ordering::Equal if digit >= 5 => value = value.checked_add(1).ok_or_else(overflow)?,
            _ => {}
        }
        read += 1;
    }
    while read < keep && value != 0 {
        value = push(value, 0)?;
        read += 1;
    }
    if value.unsigned_abs() >= 10_u128.pow(38) {
        return Err(overflow());
    }
    Ok(value)
}

fn overflow() -> Error {
    Error::new(Code::NumericOutOfRange, "numeric field overflow").with_detail("a numeric has at most 38 digits")
}

fn not_finite() -> Error {
    Error::new(Code::NumericOutOfRange, "numeric values must be finite")
}

/// Writes `float8` text: the shortest that reads back, in PostgreSQL's layout.
pub(crate) fn put_float8(value: f64, out: &mut BytesMut) {
    match special(value) {
        Some(name) => out.put_slice(name),
        None => layout(Short::exponent_of(value).text(), 15, out),
    }
}

/// Writes `float4` text, also that of a vector's element.
pub(crate) fn put_float4(value: f32, out: &mut BytesMut) {
    match special(f64::from(value)) {
        Some(name) => out.put_slice(name),
        None => layout(Short::exponent_of(value).text(), 6, out),
    }
}

fn special(value: f64) -> Option<&'static [u8]> {
    match value {
        v if v.is_nan() => Some(b"NaN"),
        f64::INFINITY => Some(b"Infinity"),
        f64::NEG_INFINITY => Some(b"-Infinity"),
        _ => None,
    }
}

/// Lays out `-d.ddde-x`: plain while the exponent is at least -4 and below `limit`, else `d.ddde-xx`.
fn layout(text: &[u8], limit: i32, out: &mut BytesMut) {
    let text = match text.strip_prefix(b"-") {
        Some(rest) => {
            out.put_u8(b'-');
            rest
        }
        None => text,
    };
    let at = text.iter().position(|&b| b == b'e').unwrap_or(text.len());
    let exponent = text
        .get(at + 1..)
        .and_then(|e| std::str::from_utf8(e).ok())
        .and_then(|e| e.parse::<i32>().ok());
    let exponent = exponent.unwrap_or(0);
    let first = &text[..at.min(1)];
    let rest = text.get(2..at).unwrap_or(b"");
    if !(-4..limit).contains(&exponent) {
        out.put_slice(&text[..at]);
        // BytesMut grows: writing to it does not fail.
        let _ = write!(
            out,
            "e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.unsigned_abs()
        );
    } else if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', exponent.unsigned_abs() as usize - 1);
        out.put_slice(first);
        out.put_slice(rest);
    } else {
        let exponent = exponent.unsigned_abs() as usize;
        out.put_slice(first);
        out.put_slice(&rest[..rest.len().min(exponent)]);
        out.put_bytes(b'0', exponent.saturating_sub(rest.len()));
        if rest.len() > exponent {
            out.put_u8(b'.');
            out.put_slice(&rest[exponent..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn decimals_keep_their_scale() {
        for (value, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (-5, 2, "-0.05"),
            (1250, 2, "12.50"),
            (7, -2, "700"),
            (i128::MAX, 0, "170141183460469231731687303715884105727"),
        ] {
            assert_eq!(written(|out| put_text(value, scale, out)), text);
        }
    }

    #[test]
    fn binary_numerics_are_postgresqls() {
        // As captured from asyncpg: 1.5000 -> 000200000000000100011388 has dscale 1.
        let mut out = BytesMut::new();
        put_binary(15, 1, &mut out);
        assert_eq!(&out[..], [0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0x13, 0x88]);
        out.clear();
        put_binary(-100_000_001, 4, &mut out);
        assert_eq!(&out[..], [0, 3, 0, 1, 0x40, 0, 0, 4, 0, 1, 0, 0, 0, 1]);
        out.clear();
        put_binary(0, 2, &mut out);
        assert_eq!(&out[..], [0, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn numeric_text_is_rounded_half_away_from_zero() {
        for (text, value) in [
            ("1.5", 150),
            (" -0.005 ", -1),
            ("0.004999", 0),
            (".5", 50),
            ("5.", 500),
            ("1e2", 10_000),
            ("12345e-4", 123),
            ("9.999", 1000),
            ("0e999999999", 0),
            ("1e-999999999", 0),
        ] {
            assert_eq!(from_text(text, 2).unwrap(), value, "{text}");
        }
        for text in ["", ".", "1.2.3", "e5", "1e", "--1", "1 2", "0x1"] {
            assert_eq!(from_text(text, 2).unwrap_err().code(), Code::InvalidText, "{text}");
        }
        for text in ["1e40", "1e99999999999999999", "NaN", "-Infinity"] {
            let code = from_text(text, 2).unwrap_err().code();
            assert!(matches!(code, Code::NumericOutOfRange | Code::InvalidText), "{text}");
        }
    }

    #[test]
    fn floats_print_as_in_postgresql() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123456789.125, "123456789.125"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (-1.5e300, "-1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(written(|out| put_float8(value, out)), text);
        }
        for (value, text) in [
            (100_000.0, "100000"),
            (1_234_567.0, "1.234567e+06"),
            (0.1, "0.1"),
            (1e-45, "1e-45"),
        ] {
            assert_eq!(written(|out| put_float4(value, out)), text);
        }
    }

    proptest! {
        #[test]
        fn binary_numerics_come_back(value in -10_i128.pow(37)..10_i128.pow(37), scale in 0_i8..30) {
            let mut out = BytesMut::new();
            put_binary(value, scale, &mut out);
            prop_assert_eq!(from_binary(&out, scale as u32).unwrap().unwrap(), value);
            let text = written(|out| put_text(value, scale, out));
            prop_assert_eq!(from_text(&text, scale as u32).unwrap(), value);
        }

        #[test]
        fn floats_read_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(written(|out| put_float8(value, out)).parse::<f64>().unwrap(), value);
            let value = f32::from_bits(bits as u32);
            prop_assume!(value.is_finite());
            prop_assert_eq!(written(|out| put_float4(value, out)).parse::<f32>().unwrap(), value);
        }

        #[test]
        fn no_input_panics(text in "[-+.eE0-9 nN]{0,50}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = from_text(&text, 9);
            let _ = from_binary(&bytes, 9);
        }
    }
}
