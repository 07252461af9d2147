//! Functions of dates, times and intervals: `extract`, `date_trunc`, `age`, `make_*`, `justify_*`, `AT TIME ZONE`.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::datatypes::{DataType, FieldRef};
use chrono::{Datelike, Duration, NaiveDate, Timelike};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
    },
};

use super::{
    function::fail,
    moments::{self, DAY, Interval, Moment, SECOND, number},
    temporal, to_char,
};
use crate::{
    codec::{
        datetime,
        pgtype::{PgType, Scalar},
        zone::zone,
    },
    error::Code,
};

/// What a function gives: a type, or one that its arguments decide.
#[derive(Clone, Copy)]
enum Returns {
    Fixed(Scalar),
    /// `numeric` with the digits that the field, the first argument, has.
    Extracted,
    /// `date_trunc`: of a date it is a timestamptz.
    Truncated,
    /// `timezone(zone, x)`: with a zone where `x` has none, and the other way round.
    OtherZone,
}

struct Entry {
    name: &'static str,
    arguments: &'static [usize],
    returns: Returns,
    volatility: Volatility,
    body: fn(&[Moment]) -> Result<Moment>,
}

const fn entry(
    name: &'static str,
    arguments: &'static [usize],
    returns: Scalar,
    body: fn(&[Moment]) -> Result<Moment>,
) -> Entry {
    Entry {
        name,
        arguments,
        returns: Returns::Fixed(returns),
        volatility: Volatility::Immutable,
        body,
    }
}

const ENTRIES: &[Entry] = &[
    Entry {
        name: "bulkhead_extract",
        arguments: &[2],
        returns: Returns::Extracted,
        volatility: Volatility::Immutable,
        body: |a| match a {
            [Moment::Text(field), from] => extract(field, from),
            _ => Ok(Moment::Null),
        },
    },
    entry("date_part", &[2], Scalar::Float8, |a| match a {
        [Moment::Text(field), from] => Ok(number(&extract(field, from)?).map_or(Moment::Null, Moment::Number)),
        _ => Ok(Moment::Null),
    }),
    Entry {
        name: "date_trunc",
        arguments: &[2, 3],
        returns: Returns::Truncated,
        volatility: Volatility::Immutable,
        body: truncate,
    },
    Entry {
        name: "timezone",
        arguments: &[2],
        returns: Returns::OtherZone,
        volatility: Volatility::Immutable,
        body: |a| match a {
            [Moment::Text(zone), at] => in_zone(zone, at),
            _ => Ok(Moment::Null),
        },
    },
    entry("age", &[2], Scalar::Interval, |a| {
        match (a.first().map(stamp), a.get(1).map(stamp)) {
            (Some(Some(later)), Some(Some(earlier))) => Ok(Moment::Span(moments::age(later?, earlier?)?)),
            _ => Ok(Moment::Null),
        }
    }),
    entry("isfinite", &[1], Scalar::Bool, |a| {
        Ok(match a.first() {
            Some(Moment::Date(d)) => Moment::Bool(!matches!(*d, i32::MAX | i32::MIN)),
            Some(Moment::Stamp(t) | Moment::Zoned(t)) => Moment::Bool(!matches!(*t, i64::MAX | i64::MIN)),
            Some(Moment::Span(_)) => Moment::Bool(true),
            _ => Moment::Null,
        })
    }),
    entry("justify_days", &[1], Scalar::Interval, |a| {
        of_span(a, moments::justify_days)
    }),
    entry("justify_hours", &[1], Scalar::Interval, |a| {
        of_span(a, moments::justify_hours)
    }),
    entry("justify_interval", &[1], Scalar::Interval, |a| {
        of_span(a, |s| moments::signs(moments::justify_days(moments::justify_hours(s))))
    }),
    entry("make_date", &[3], Scalar::Date, |a| match whole(a)[..] {
        [Some(y), Some(m), Some(d)] => Ok(Moment::Date(days(date(y, m, d)?)?)),
        _ => Ok(Moment::Null),
    }),
    entry("make_time", &[3], Scalar::Time, |a| {
        match (&whole(a)[..], a.get(2).and_then(number)) {
            ([Some(h), Some(m), _], Some(s)) => Ok(Moment::Time(time(*h, *m, s)?)),
            _ => Ok(Moment::Null),
        }
    }),
    entry("make_timestamp", &[6], Scalar::Timestamp, |a| {
        Ok(made(a)?.map_or(Moment::Null, Moment::Stamp))
    }),
    entry("make_timestamptz", &[6], Scalar::Timestamptz, |a| {
        Ok(made(a)?.map_or(Moment::Null, Moment::Zoned))
    }),
    entry(
        "make_interval",
        &[0, 1, 2, 3, 4, 5, 6, 7],
        Scalar::Interval,
        make_interval,
    ),
    entry("to_char", &[2], Scalar::Text, |a| match a {
        [Moment::Null, _] | [_, Moment::Null] => Ok(Moment::Null),
        [value, Moment::Text(form)] => Ok(Moment::Text(to_char::print(value, form)?)),
        _ => Ok(Moment::Null),
    }),
    entry("to_date", &[2], Scalar::Date, |a| match a {
        [Moment::Text(text), Moment::Text(form)] => Ok(Moment::Date(days(to_char::read(text, form)?.date())?)),
        _ => Ok(Moment::Null),
    }),
    entry("to_timestamp", &[1, 2], Scalar::Timestamptz, |a| match a {
        [Moment::Text(text), Moment::Text(form)] => Ok(Moment::Zoned(moments::micros(to_char::read(text, form)?))),
        [seconds] => match number(seconds).map(|s| (s * SECOND as f64).round()) {
            Some(micros) if micros.abs() < 9.2e18 => Ok(Moment::Zoned(micros as i64)),
            Some(_) => Err(moments::overflow()),
            None => Ok(Moment::Null),
        },
        _ => Ok(Moment::Null),
    }),
    entry("to_number", &[2], Scalar::Numeric, |a| match a {
        [Moment::Text(text), Moment::Text(_)] => to_char::number_of(text),
        _ => Ok(Moment::Null),
    }),
    Entry {
        name: "clock_timestamp",
        arguments: &[0],
        returns: Returns::Fixed(Scalar::Timestamptz),
        volatility: Volatility::Volatile,
        body: |_| Ok(Moment::Zoned(chrono::Utc::now().timestamp_micros())),
    },
    Entry {
        name: "timeofday",
        arguments: &[0],
        returns: Returns::Fixed(Scalar::Text),
        volatility: Volatility::Volatile,
        body: |_| {
            Ok(Moment::Text(
                chrono::Utc::now().format("%a %b %d %H:%M:%S%.6f %Y UTC").to_string(),
            ))
        },
    },
];

/// The functions, made once.
pub fn shared() -> Vec<Arc<ScalarUDF>> {
    let make = |entry: &'static Entry| {
        let counts = entry.arguments.iter().map(|n| match n {
            0 => TypeSignature::Nullary,
            n => TypeSignature::Any(*n),
        });
        let signature = Signature::one_of(counts.collect(), entry.volatility);
        Arc::new(ScalarUDF::new_from_impl(Clock { entry, signature }))
    };
    ENTRIES.iter().map(make).collect()
}

struct Clock {
    entry: &'static Entry,
    signature: Signature,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.entry.name)
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        self.entry.name == other.entry.name
    }
}

impl Eq for Clock {}

impl Hash for Clock {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entry.name.hash(state);
    }
}

impl ScalarUDFImpl for Clock {
    fn name(&self) -> &str {
        self.entry.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(datafusion::common::DataFusionError::Internal(format!(
            "{} tells a field, not a type",
            self.entry.name
        )))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let second = arguments.arg_fields.get(1).map(|f| f.data_type());
        let scalar = match self.entry.returns {
            Returns::Fixed(scalar) => scalar,
            Returns::Extracted => {
                let scale = match arguments.scalar_arguments.first() {
                    Some(Some(ScalarValue::Utf8(Some(field)))) => field_scale(field),
                    _ => 6,
                };
                let field = PgType::from(Scalar::Numeric).field(self.name(), true);
                return Ok(Arc::new(field.with_data_type(DataType::Decimal128(38, scale))));
            }
            Returns::Truncated => match second {
                Some(DataType::Timestamp(_, None)) => Scalar::Timestamp,
                Some(DataType::Interval(_) | DataType::Duration(_)) => Scalar::Interval,
                _ => Scalar::Timestamptz,
            },
            Returns::OtherZone => match second {
                Some(DataType::Timestamp(_, Some(_))) => Scalar::Timestamp,
                _ => Scalar::Timestamptz,
            },
        };
        Ok(Arc::new(PgType::from(scalar).field(self.name(), true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let returns = PgType::of(&arguments.return_field);
        if arguments.args.is_empty() {
            let value = (self.entry.body)(&[])?;
            let array = moments::array(returns, arguments.return_field.data_type(), vec![value])?;
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        temporal::invoke(&arguments, returns, self.entry.body)
    }
}

fn stamp(value: &Moment) -> Option<Result<i64>> {
    match value {
        Moment::Stamp(t) | Moment::Zoned(t) => Some(Ok(*t)),
        Moment::Date(d) => Some(moments::midnight(*d)),
        Moment::Text(t) => datetime::timestamp(t, false).map(Ok),
        _ => None,
    }
}

fn whole(arguments: &[Moment]) -> Vec<Option<i64>> {
    let each = |v: &Moment| match v {
        Moment::Exact(n, 0) => i64::try_from(*n).ok(),
        other => number(other).filter(|n| n.fract() == 0.0).map(|n| n as i64),
    };
    arguments.iter().map(each).collect()
}

fn date(year: i64, month: i64, day: i64) -> Result<NaiveDate> {
    let wrong = || {
        fail(
            Code::DatetimeOverflow,
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        )
    };
    // There is no year 0: the one before 1 is -1.
    let year = i32::try_from(if year < 0 { year + 1 } else { year }).map_err(|_| wrong())?;
    let (month, day) = (
        u32::try_from(month).map_err(|_| wrong())?,
        u32::try_from(day).map_err(|_| wrong())?,
    );
    NaiveDate::from_ymd_opt(year, month, day).ok_or_else(wrong)
}

fn days(date: NaiveDate) -> Result<i32> {
    let since = date.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(since).map_err(|_| moments::overflow())
}

fn time(hour: i64, minute: i64, second: f64) -> Result<i64> {
    let fits = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second);
    let micros = (hour * 3600 + minute * 60) * SECOND + (second * SECOND as f64).round() as i64;
    match fits && micros <= DAY {
        true => Ok(micros),
        false => Err(fail(
            Code::DatetimeOverflow,
            format!("time field value out of range: {hour}:{minute:02}:{second}"),
        )),
    }
}

fn made(arguments: &[Moment]) -> Result<Option<i64>> {
    match (&whole(arguments)[..], arguments.get(5).and_then(number)) {
        ([Some(y), Some(mo), Some(d), Some(h), Some(mi), _], Some(s)) => {
            Ok(Some(moments::midnight(days(date(*y, *mo, *d)?)?)? + time(*h, *mi, s)?))
        }
        _ => Ok(None),
    }
}

/// `(years, months, weeks, days, hours, mins, secs)`, each 0 if not given.
fn make_interval(arguments: &[Moment]) -> Result<Moment> {
    if arguments.contains(&Moment::Null) {
        return Ok(Moment::Null);
    }
    let numbers = whole(arguments);
    let at = |i: usize| numbers.get(i).copied().flatten().unwrap_or(0);
    let seconds = arguments.get(6).and_then(number).unwrap_or(0.0);
    let fits = |n: i64| i32::try_from(n).map_err(|_| fail(Code::DatetimeOverflow, "interval out of range"));
    Ok(Moment::Span(Interval {
        months: fits(at(0).saturating_mul(12).saturating_add(at(1)))?,
        days: fits(at(2).saturating_mul(7).saturating_add(at(3)))?,
        micros: at(4)
            .saturating_mul(3600)
            .saturating_add(at(5).saturating_mul(60))
            .saturating_mul(SECOND)
            .saturating_add((seconds * SECOND as f64).round() as i64),
    }))
}

fn of_span(arguments: &[Moment], f: fn(Interval) -> Interval) -> Result<Moment> {
    Ok(match arguments.first() {
        Some(Moment::Span(span)) => Moment::Span(f(*span)),
        _ => Moment::Null,
    })
}

/// Digits after the point of a field.
fn field_scale(field: &str) -> i8 {
    match field.to_ascii_lowercase().as_str() {
        "second" | "seconds" | "epoch" => 6,
        "millisecond" | "milliseconds" => 3,
        _ => 0,
    }
}

fn unknown(field: &str, from: &Moment) -> Result<Moment> {
    let of = match from {
        Moment::Date(_) => "date",
        Moment::Time(_) => "time without time zone",
        Moment::Span(_) => "interval",
        Moment::Zoned(_) => "timestamp with time zone",
        _ => "timestamp without time zone",
    };
    let message = format!("unit \"{}\" not recognized for type {of}", field.to_lowercase());
    Err(fail(Code::InvalidParameterValue, message))
}

fn extract(field: &str, from: &Moment) -> Result<Moment> {
    let field = field.to_ascii_lowercase();
    let scale = field_scale(&field);
    let exact = |n: i128| Ok(Moment::Exact(n, scale));
    let second = i128::from(SECOND);
    match from {
        Moment::Null => Ok(Moment::Null),
        Moment::Span(span) => {
            let micros = i128::from(span.micros);
            exact(match field.as_str() {
                "epoch" => {
                    let years = i128::from(span.months / 12) * 31_557_600;
                    let months = i128::from(span.months % 12) * 30 * 86_400;
                    (years + months + i128::from(span.days) * 86_400) * second + micros
                }
                "year" | "years" => i128::from(span.months / 12),
                "month" | "months" => i128::from(span.months % 12),
                "quarter" => i128::from(span.months % 12) / 3 + 1,
                "decade" => i128::from(span.months / 120),
                "century" => i128::from(span.months / 1200),
                "day" | "days" => i128::from(span.days),
                "hour" | "hours" => micros / (3600 * second),
                "minute" | "minutes" => micros / (60 * second) % 60,
                "second" | "seconds" | "millisecond" | "milliseconds" | "microsecond" | "microseconds" => {
                    micros % (60 * second)
                }
                _ => return unknown(&field, from),
            })
        }
        Moment::Time(micros) => {
            let micros = i128::from(*micros);
            exact(match field.as_str() {
                "epoch" => micros,
                "hour" | "hours" => micros / (3600 * second),
                "minute" | "minutes" => micros / (60 * second) % 60,
                "second" | "seconds" | "millisecond" | "milliseconds" | "microsecond" | "microseconds" => {
                    micros % (60 * second)
                }
                _ => return unknown(&field, from),
            })
        }
        _ => {
            let Some(micros) = stamp(from).transpose()? else {
                return unknown(&field, from);
            };
            let at = moments::civil(micros)?;
            let year = i128::from(at.year());
            // Years before 1 are counted from -1.
            let shown = if year <= 0 { year - 1 } else { year };
            let of_day = i128::from(micros.rem_euclid(DAY));
            exact(match field.as_str() {
                "epoch" => i128::from(micros),
                "year" | "years" => shown,
                "month" | "months" => at.month().into(),
                "day" | "days" => at.day().into(),
                "hour" | "hours" => at.hour().into(),
                "minute" | "minutes" => at.minute().into(),
                "second" | "seconds" | "millisecond" | "milliseconds" | "microsecond" | "microseconds" => {
                    of_day % (60 * second)
                }
                "quarter" => i128::from(at.month0() / 3 + 1),
                "week" => at.iso_week().week().into(),
                "isoyear" => at.iso_week().year().into(),
                "dow" => at.weekday().num_days_from_sunday().into(),
                "isodow" => at.weekday().number_from_monday().into(),
                "doy" => at.ordinal().into(),
                "decade" => year.div_euclid(10),
                "century" if year > 0 => (year + 99) / 100,
                "century" => -((100 - shown - 1) / 100),
                "millennium" if year > 0 => (year + 999) / 1000,
                "millennium" => -((1000 - shown - 1) / 1000),
                "julian" => i128::from(micros.div_euclid(DAY)) + 2_440_588,
                "timezone" | "timezone_hour" | "timezone_minute" if matches!(from, Moment::Zoned(_)) => 0,
                _ => return unknown(&field, from),
            })
        }
    }
}

fn truncate(arguments: &[Moment]) -> Result<Moment> {
    let (Some(Moment::Text(field)), Some(value)) = (arguments.first(), arguments.get(1)) else {
        return Ok(Moment::Null);
    };
    let field = field.to_ascii_lowercase();
    if let Moment::Span(span) = value {
        return truncated_span(&field, *span).map_or_else(|| unknown(&field, value), |s| Ok(Moment::Span(s)));
    }
    let Some(micros) = stamp(value).transpose()? else {
        return Ok(Moment::Null);
    };
    if let (Some(Moment::Text(zone)), Moment::Zoned(_)) = (arguments.get(2), value) {
        let Moment::Stamp(local) = in_zone(zone, value)? else {
            return Ok(Moment::Null);
        };
        return match truncated(&field, local)? {
            Some(local) => in_zone(zone, &Moment::Stamp(local)),
            None => unknown(&field, value),
        };
    }
    match (truncated(&field, micros)?, value) {
        (Some(micros), Moment::Stamp(_)) => Ok(Moment::Stamp(micros)),
        (Some(micros), _) => Ok(Moment::Zoned(micros)),
        (None, _) => unknown(&field, value),
    }
}

fn truncated(field: &str, micros: i64) -> Result<Option<i64>> {
    let at = moments::civil(micros)?;
    let unit = |unit: i64| Ok(Some(micros - micros.rem_euclid(unit)));
    let start = |date: Option<NaiveDate>| match date.and_then(|d| d.and_hms_opt(0, 0, 0)) {
        Some(at) => Ok(Some(moments::micros(at))),
        None => Err(moments::overflow()),
    };
    let year = |year: i32| start(NaiveDate::from_ymd_opt(year, 1, 1));
    match field {
        "microsecond" | "microseconds" => Ok(Some(micros)),
        "millisecond" | "milliseconds" => unit(1000),
        "second" | "seconds" => unit(SECOND),
        "minute" | "minutes" => unit(60 * SECOND),
        "hour" | "hours" => unit(3600 * SECOND),
        "day" | "days" => unit(DAY),
        "week" => {
            let monday = Duration::days(at.weekday().num_days_from_monday().into());
            start(at.date().checked_sub_signed(monday))
        }
        "month" | "months" => start(NaiveDate::from_ymd_opt(at.year(), at.month(), 1)),
        "quarter" => start(NaiveDate::from_ymd_opt(at.year(), at.month0() / 3 * 3 + 1, 1)),
        "year" | "years" => year(at.year()),
        "decade" => year(at.year().div_euclid(10) * 10),
        "century" => year((at.year() - 1).div_euclid(100) * 100 + 1),
        "millennium" => year((at.year() - 1).div_euclid(1000) * 1000 + 1),
        _ => Ok(None),
    }
}

fn truncated_span(field: &str, span: Interval) -> Option<Interval> {
    let time = |unit: i64| Interval {
        micros: span.micros - span.micros % unit,
        ..span
    };
    let months = |unit: i32| Interval {
        months: span.months - span.months % unit,
        days: 0,
        micros: 0,
    };
    Some(match field {
        "microsecond" | "microseconds" => span,
        "millisecond" | "milliseconds" => time(1000),
        "second" | "seconds" => time(SECOND),
        "minute" | "minutes" => time(60 * SECOND),
        "hour" | "hours" => time(3600 * SECOND),
        "day" | "days" => Interval { micros: 0, ..span },
        "month" | "months" => months(1),
        "quarter" => months(3),
        "year" | "years" => months(12),
        "decade" => months(120),
        "century" => months(1200),
        "millennium" => months(12_000),
        _ => return None,
    })
}

fn in_zone(name: &str, at: &Moment) -> Result<Moment> {
    let unknown = || {
        fail(
            Code::InvalidParameterValue,
            format!("time zone \"{name}\" not recognized"),
        )
    };
    let zone = zone(name).ok_or_else(unknown)?;
    let shifted = |micros: i64, seconds: i32| {
        micros
            .checked_add(i64::from(seconds) * SECOND)
            .ok_or_else(moments::overflow)
    };
    Ok(match at {
        Moment::Zoned(micros) => Moment::Stamp(shifted(*micros, zone.at(moments::civil(*micros)?))?),
        Moment::Null => Moment::Null,
        other => match stamp(other).transpose()? {
            Some(micros) => Moment::Zoned(shifted(micros, -zone.of_local(moments::civil(micros)?))?),
            None => Moment::Null,
        },
    })
}
