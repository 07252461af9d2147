//! Dates, times and intervals row by row: what functions and operators on them compute with.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
        IntervalMonthDayNanoArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
    },
    compute::cast,
    datatypes::{
        DataType, Date32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
        TimestampMicrosecondType,
    },
};
use chrono::{Datelike, Duration, Months, NaiveDate, NaiveDateTime};
use datafusion::common::{DataFusionError, Result};

pub(super) use crate::codec::datetime::Interval;
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

use super::{function::fail, text::Texts};

/// Microseconds in a second.
pub(super) const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub(super) const DAY: i64 = 86_400 * SECOND;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Moment {
    Null,
    Bool(bool),
    Text(String),
    Number(f64),
    /// A whole number, or one of so many digits after the point.
    Exact(i128, i8),
    /// Days since 1970.
    Date(i32),
    /// Microseconds of the day.
    Time(i64),
    /// Microseconds since 1970, in no zone.
    Stamp(i64),
    /// The same, in UTC.
    Zoned(i64),
    Span(Interval),
}

/// A column whose rows are read as [`Moment`]s.
pub(super) struct Moments {
    array: ArrayRef,
    texts: Option<Texts>,
}

impl Moments {
    /// The column of this type.
    pub fn new(array: &ArrayRef, pg_type: PgType) -> Result<Self> {
        use Scalar::{Date, Interval, Time, Timestamp, Timestamptz};
        let to = match array.data_type() {
            DataType::Timestamp(_, None) => Timestamp.arrow(),
            DataType::Timestamp(_, Some(_)) => Timestamptz.arrow(),
            DataType::Date32 | DataType::Date64 => Date.arrow(),
            DataType::Time32(_) | DataType::Time64(_) => Time.arrow(),
            DataType::Interval(_) | DataType::Duration(_) => Interval.arrow(),
            DataType::Float32 => DataType::Float64,
            other if other.is_integer() => DataType::Decimal128(20, 0),
            other => other.clone(),
        };
        let array = cast(array, &to)?;
        let texts = match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Texts::new(&array, pg_type)?),
            _ => None,
        };
        Ok(Self { array, texts })
    }

    /// The value of a row.
    pub fn at(&self, row: usize) -> Result<Moment> {
        let array = &self.array;
        if array.is_null(row) || array.data_type().is_null() {
            return Ok(Moment::Null);
        }
        if let Some(texts) = &self.texts {
            return Ok(texts.text(row)?.map_or(Moment::Null, Moment::Text));
        }
        Ok(match array.data_type() {
            DataType::Boolean => Moment::Bool(array.as_boolean().value(row)),
            DataType::Float64 => Moment::Number(array.as_primitive::<Float64Type>().value(row)),
            DataType::Decimal128(_, scale) => {
                let value = array.as_primitive::<arrow::datatypes::Decimal128Type>().value(row);
                Moment::Exact(value, *scale)
            }
            DataType::Date32 => Moment::Date(array.as_primitive::<Date32Type>().value(row)),
            DataType::Time64(_) => Moment::Time(array.as_primitive::<Time64MicrosecondType>().value(row)),
            DataType::Timestamp(_, zone) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                match zone {
                    Some(_) => Moment::Zoned(micros),
                    None => Moment::Stamp(micros),
                }
            }
            DataType::Interval(_) => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                Moment::Span(Interval {
                    months: value.months,
                    days: value.days,
                    micros: value.nanoseconds / 1000,
                })
            }
            _ => {
                return Err(fail(
                    Code::DatatypeMismatch,
                    "a date, time or interval is expected here",
                ));
            }
        })
    }
}

/// The values as an array of this type; a value of another kind is NULL, for the callers are ours.
pub(super) fn array(pg_type: PgType, data_type: &DataType, values: Vec<Moment>) -> Result<ArrayRef> {
    let PgType::Scalar(scalar) = pg_type else {
        return Ok(new_null_array(data_type, values.len()));
    };
    let rows = values.into_iter();
    Ok(match scalar {
        Scalar::Bool => Arc::new(
            rows.map(|v| if let Moment::Bool(b) = v { Some(b) } else { None })
                .collect::<BooleanArray>(),
        ),
        Scalar::Float8 => Arc::new(rows.map(|v| number(&v)).collect::<Float64Array>()),
        Scalar::Int4 => {
            let whole = |v| {
                if let Moment::Exact(n, 0) = v {
                    i32::try_from(n).ok()
                } else {
                    None
                }
            };
            Arc::new(rows.map(whole).collect::<Int32Array>())
        }
        Scalar::Int8 => {
            let whole = |v| {
                if let Moment::Exact(n, 0) = v {
                    i64::try_from(n).ok()
                } else {
                    None
                }
            };
            Arc::new(rows.map(whole).collect::<Int64Array>())
        }
        Scalar::Numeric => {
            let exact = |v| if let Moment::Exact(n, _) = v { Some(n) } else { None };
            Arc::new(
                rows.map(exact)
                    .collect::<Decimal128Array>()
                    .with_data_type(data_type.clone()),
            )
        }
        Scalar::Date => Arc::new(
            rows.map(|v| if let Moment::Date(d) = v { Some(d) } else { None })
                .collect::<Date32Array>(),
        ),
        Scalar::Time => {
            let micros = |v| if let Moment::Time(t) = v { Some(t) } else { None };
            Arc::new(rows.map(micros).collect::<Time64MicrosecondArray>())
        }
        Scalar::Timestamp | Scalar::Timestamptz => {
            let micros = |v| match v {
                Moment::Stamp(t) | Moment::Zoned(t) => Some(t),
                _ => None,
            };
            let times: TimestampMicrosecondArray = rows.map(micros).collect();
            Arc::new(times.with_data_type(scalar.arrow()))
        }
        Scalar::Interval => {
            let spans = rows.map(|v| match v {
                Moment::Span(span) => match span.micros.checked_mul(1000) {
                    Some(nanos) => Ok(Some(IntervalMonthDayNano::new(span.months, span.days, nanos))),
                    None => Err(fail(Code::DatetimeOverflow, "interval out of range")),
                },
                _ => Ok(None),
            });
            Arc::new(spans.collect::<Result<IntervalMonthDayNanoArray>>()?)
        }
        _ => Arc::new(
            rows.map(|v| if let Moment::Text(t) = v { Some(t) } else { None })
                .collect::<StringArray>(),
        ),
    })
}

/// A number as a float.
pub(super) fn number(value: &Moment) -> Option<f64> {
    match value {
        Moment::Number(n) => Some(*n),
        Moment::Exact(n, scale) => Some(*n as f64 / 10_f64.powi(i32::from(*scale))),
        _ => None,
    }
}

/// What lies outside of the years that can be told.
pub(super) fn overflow() -> DataFusionError {
    fail(Code::DatetimeOverflow, "timestamp out of range")
}

/// The calendar's view of microseconds since 1970.
pub(super) fn civil(micros: i64) -> Result<NaiveDateTime> {
    let at = chrono::DateTime::from_timestamp_micros(micros);
    at.map(|t| t.naive_utc()).ok_or_else(overflow)
}

/// Microseconds since 1970.
pub(super) fn micros(at: NaiveDateTime) -> i64 {
    at.and_utc().timestamp_micros()
}

/// The first moment of a day.
pub(super) fn midnight(days: i32) -> Result<i64> {
    i64::from(days).checked_mul(DAY).ok_or_else(overflow)
}

/// The moment an interval later: months first, then days, then the time.
pub(super) fn later(from: i64, span: Interval) -> Result<i64> {
    if from == i64::MAX || from == i64::MIN {
        return Ok(from);
    }
    let start = civil(from)?;
    let months = Months::new(span.months.unsigned_abs());
    let moved = match span.months < 0 {
        true => start.checked_sub_months(months),
        false => start.checked_add_months(months),
    };
    let moved = moved.and_then(|t| t.checked_add_signed(Duration::days(span.days.into())));
    let moved = moved.ok_or_else(overflow)?;
    micros(moved).checked_add(span.micros).ok_or_else(overflow)
}

/// The opposite of an interval.
pub(super) fn negated(span: Interval) -> Interval {
    Interval {
        months: span.months.saturating_neg(),
        days: span.days.saturating_neg(),
        micros: span.micros.saturating_neg(),
    }
}

/// An interval of days and time between two moments.
pub(super) fn between(later: i64, earlier: i64) -> Result<Interval> {
    let micros = later.checked_sub(earlier).ok_or_else(overflow)?;
    Ok(Interval {
        months: 0,
        days: i32::try_from(micros / DAY).map_err(|_| overflow())?,
        micros: micros % DAY,
    })
}

/// Microseconds of an interval whose months have thirty days, as intervals are compared.
pub(super) fn length(span: Interval) -> i128 {
    (i128::from(span.months) * 30 + i128::from(span.days)) * i128::from(DAY) + i128::from(span.micros)
}

/// Times a number, what is left of months going to days, and of days to the time, as PostgreSQL does.
pub(super) fn scaled(span: Interval, factor: f64) -> Result<Interval> {
    let wrong = || fail(Code::DatetimeOverflow, "interval out of range");
    let months = f64::from(span.months) * factor;
    let days = f64::from(span.days) * factor;
    let rest_days = (months - months.trunc()) * 30.0;
    let rest_days = (rest_days * 1e6).round() / 1e6;
    let all_days = days + rest_days;
    let rest = ((all_days - all_days.trunc()) * 86_400.0 * 1e6).round();
    let micros = (span.micros as f64 * factor + rest).round();
    let fits = |n: f64| n.is_finite() && n.abs() <= f64::from(i32::MAX);
    if !fits(months) || !fits(all_days) || !micros.is_finite() || micros.abs() > 9.2e18 {
        return Err(wrong());
    }
    Ok(Interval {
        months: months.trunc() as i32,
        days: all_days.trunc() as i32,
        micros: micros as i64,
    })
}

/// Years, months and days and the time between two moments, as a person would count them.
pub(super) fn age(later: i64, earlier: i64) -> Result<Interval> {
    if later < earlier {
        return age(earlier, later).map(negated);
    }
    let (to, from) = (civil(later)?, civil(earlier)?);
    let mut months = (to.year() - from.year()) * 12 + to.month() as i32 - from.month() as i32;
    let mut days = to.day() as i32 - from.day() as i32;
    let mut time = later.rem_euclid(DAY) - earlier.rem_euclid(DAY);
    if time < 0 {
        time += DAY;
        days -= 1;
    }
    if days < 0 {
        // The days of the month in which it began.
        let first = NaiveDate::from_ymd_opt(from.year(), from.month(), 1);
        let next = first.and_then(|d| d.checked_add_months(Months::new(1)));
        let length = match (first, next) {
            (Some(first), Some(next)) => next.signed_duration_since(first).num_days() as i32,
            _ => 30,
        };
        days += length;
        months -= 1;
    }
    Ok(Interval {
        months,
        days,
        micros: time,
    })
}

/// Whole months out of its days.
pub(super) fn justify_days(span: Interval) -> Interval {
    let (months, days) = (span.days / 30, span.days % 30);
    signs(Interval {
        months: span.months.saturating_add(months),
        days,
        ..span
    })
}

/// Whole days out of its time.
pub(super) fn justify_hours(span: Interval) -> Interval {
    let days = i32::try_from(span.micros / DAY).unwrap_or(i32::MAX);
    let mut out = Interval {
        days: span.days.saturating_add(days),
        micros: span.micros % DAY,
        ..span
    };
    if out.days > 0 && out.micros < 0 {
        (out.days, out.micros) = (out.days - 1, out.micros + DAY);
    } else if out.days < 0 && out.micros > 0 {
        (out.days, out.micros) = (out.days + 1, out.micros - DAY);
    }
    out
}

/// Months and days of one sign, and the time's.
pub(super) fn signs(mut span: Interval) -> Interval {
    let (days, time) = (span.days, span.micros);
    if span.months > 0 && (days < 0 || (days == 0 && time < 0)) {
        (span.months, span.days) = (span.months - 1, days + 30);
    } else if span.months < 0 && (days > 0 || (days == 0 && time > 0)) {
        (span.months, span.days) = (span.months + 1, days - 30);
    }
    if span.days > 0 && span.micros < 0 {
        (span.days, span.micros) = (span.days - 1, span.micros + DAY);
    } else if span.days < 0 && span.micros > 0 {
        (span.days, span.micros) = (span.days + 1, span.micros - DAY);
    }
    span
}
