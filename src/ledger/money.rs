//! Money and days: whole nano-USD and whole UTC days.

use std::fmt;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Nano-USD in one USD.
pub const NANO: i64 = 1_000_000_000;
/// Digits after the point of an amount.
const DECIMALS: usize = 9;
const _: () = assert!(NANO == 10_i64.pow(DECIMALS as u32));
const MICROS_A_DAY: i64 = 86_400_000_000;

/// An amount in nano-USD (10⁻⁹ USD). `i64` reaches 9.2 thousand million USD; beyond it every
/// operation is an error, never a wrapped sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nano(pub i64);

impl Nano {
    /// Nothing.
    pub const ZERO: Nano = Nano(0);

    /// Whole USD.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn from_usd(usd: i64) -> Result<Self> {
        usd.checked_mul(NANO).map(Self).ok_or_else(out_of_range)
    }

    /// The sum.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn plus(self, other: Self) -> Result<Self> {
        self.0.checked_add(other.0).map(Self).ok_or_else(out_of_range)
    }

    /// This much for each of `count` things.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn times(self, count: i64) -> Result<Self> {
        self.0.checked_mul(count).map(Self).ok_or_else(out_of_range)
    }

    /// A decimal of USD such as `0.05`, exactly.
    ///
    /// # Errors
    /// [`Code::InvalidText`] unless it is digits with at most one point, [`Code::InvalidParameterValue`] where it
    /// is finer than a nano-USD, [`Code::NumericOutOfRange`].
    pub fn from_text(text: &str) -> Result<Self> {
        let (negative, digits) = match text.trim() {
            text if text.starts_with('-') => (true, &text[1..]),
            text => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + part.len() == 0 || !all_digits(whole) || !all_digits(part) {
            return Err(Error::new(Code::InvalidText, "an amount of USD is written like 12.50"));
        }
        let part = part.trim_end_matches('0');
        if part.len() > DECIMALS {
            let text = "an amount of USD has at most nine digits after the point";
            return Err(Error::new(Code::InvalidParameterValue, text));
        }
        // Signed from the start: i64::MIN has no positive counterpart.
        let number = format!("{}{whole}{part:0<DECIMALS$}", if negative { "-" } else { "" });
        number.parse().map(Self).map_err(|_| out_of_range())
    }

    /// The unscaled value of an Arrow `Decimal128(38, 9)` of USD.
    pub const fn decimal(self) -> i128 {
        self.0 as i128
    }

    /// From the unscaled value of a `Decimal128(38, 9)` of USD.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn from_decimal(unscaled: i128) -> Result<Self> {
        i64::try_from(unscaled).map(Self).map_err(|_| out_of_range())
    }
}

/// USD with nine decimals: `0.000012340`.
impl fmt::Display for Nano {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (
            self.0.unsigned_abs() / NANO.unsigned_abs(),
            self.0.unsigned_abs() % NANO.unsigned_abs(),
        );
        f.pad(&format!("{sign}{whole}.{part:09}"))
    }
}

pub(super) fn out_of_range() -> Error {
    Error::new(
        Code::NumericOutOfRange,
        "an amount is outside of what can be kept (9.2e18 nano-USD or units)",
    )
}

/// A UTC day, counted from 1970-01-01 as Arrow's `Date32` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(pub i32);

impl Day {
    /// The day of a moment in microseconds since 1970-01-01 UTC. Every `i64` has one that fits.
    pub const fn of_micros(micros: i64) -> Self {
        Self(micros.div_euclid(MICROS_A_DAY) as i32)
    }
}

const _: () = assert!(i64::MAX / MICROS_A_DAY < i32::MAX as i64);

/// `2026-01-31`, or the number of days where the calendar ends.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NaiveDate::from_epoch_days(self.0) {
            Some(date) => date.fmt(f),
            None => write!(f, "day {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn money_shows_nine_decimals_and_never_wraps() {
        assert_eq!(Nano(12_340).to_string(), "0.000012340");
        assert_eq!(Nano(-1).to_string(), "-0.000000001");
        assert_eq!(Nano(5 * NANO + 1).to_string(), "5.000000001");
        assert_eq!(Nano(i64::MIN).to_string(), "-9223372036.854775808");
        assert_eq!(Nano::from_usd(5_000).unwrap(), Nano(5_000 * NANO));
        assert!(Nano::from_usd(i64::MAX).is_err());
        assert!(Nano(i64::MAX).plus(Nano(1)).is_err());
        assert!(Nano(i64::MAX / 2).times(3).is_err());
        assert!(Nano::from_decimal(i128::from(i64::MAX) + 1).is_err());
        assert!(Nano::from_decimal(i128::MIN).is_err());
    }

    #[test]
    fn an_amount_is_read_exactly_or_not_at_all() {
        for (text, nano) in [
            ("0.1", 100_000_000),
            ("50", 50 * NANO),
            (" +0.000000001 ", 1),
            ("-.5", -500_000_000),
            ("7.", 7 * NANO),
            ("0.10000000000000000000", 100_000_000),
            ("9223372036.854775807", i64::MAX),
            ("-9223372036.854775808", i64::MIN),
        ] {
            assert_eq!(Nano::from_text(text).unwrap(), Nano(nano), "{text}");
        }
        for (text, code) in [
            ("", Code::InvalidText),
            (".", Code::InvalidText),
            ("1e3", Code::InvalidText),
            ("--1", Code::InvalidText),
            ("1.2.3", Code::InvalidText),
            ("NaN", Code::InvalidText),
            ("\u{661}", Code::InvalidText),
            ("0.0000000001", Code::InvalidParameterValue),
            ("9223372036.854775808", Code::NumericOutOfRange),
        ] {
            assert_eq!(Nano::from_text(text).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        assert_eq!(Day::of_micros(0), Day(0));
        assert_eq!(Day::of_micros(-1), Day(-1));
        assert_eq!(Day::of_micros(MICROS_A_DAY - 1), Day(0));
        assert_eq!(Day::of_micros(MICROS_A_DAY), Day(1));
        assert_eq!(Day(20_454).to_string(), "2026-01-01");
        assert_eq!(Day::of_micros(i64::MIN).0, -106_751_992);
    }

    proptest! {
        #[test]
        fn decimals_and_sums_are_exact(a: i64, b: i64) {
            prop_assert_eq!(Nano::from_text(&Nano(a).to_string()).ok(), Some(Nano(a)));
            prop_assert_eq!(Nano::from_decimal(Nano(a).decimal()).ok(), Some(Nano(a)));
            prop_assert_eq!(Nano(a).plus(Nano(b)).ok().map(Nano::decimal), Some(i128::from(a) + i128::from(b))
                .filter(|sum| i64::try_from(*sum).is_ok()));
        }
    }
}
