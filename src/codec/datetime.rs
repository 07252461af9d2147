//! Dates, times and intervals as PostgreSQL writes and reads them (ISO, UTC, IntervalStyle postgres).
//!
//! Days count from 1970-01-01 and times are in microseconds, as in Arrow; the wire's own epoch is
//! 2000-01-01 ([`EPOCH_DAYS`]). Both use the type's extremes for `infinity`.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

/// Days from 1970-01-01 to 2000-01-01.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(crate) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Months, days and microseconds: an interval as the wire has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) months: i32,
    pub(crate) days: i32,
    pub(crate) micros: i64,
}

/// Year, month and day of a day number (H. Hinnant, `civil_from_days`).
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (
        year_of_era + era * 400 + i64::from(month <= 2),
        month as u32,
        day as u32,
    )
}

/// The day number of a date, `None` where there is no such day.
fn days(year: i64, month: u32, day: u32) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

// Writing to BytesMut grows it and does not fail, so results of `write!` are ignored below.

/// Writes `YYYY-MM-DD`; years before 1 get ` BC` at the end, which the caller adds after the time.
fn put_civil(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = civil(days);
    let (year, before) = if year <= 0 { (1 - year, true) } else { (year, false) };
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    before
}

fn put_fraction(micros: i64, out: &mut BytesMut) {
    if micros != 0 {
        let _ = write!(out, ".{micros:06}");
        while out.last() == Some(&b'0') {
            out.truncate(out.len() - 1);
        }
    }
}

/// Writes a date.
pub(crate) fn put_date(days: i32, out: &mut BytesMut) {
    match days {
        i32::MAX => out.put_slice(b"infinity"),
        i32::MIN => out.put_slice(b"-infinity"),
        days => {
            if put_civil(i64::from(days), out) {
                out.put_slice(b" BC");
            }
        }
    }
}

/// Writes a time of day.
pub(crate) fn put_time(micros: i64, out: &mut BytesMut) {
    let seconds = micros / SECOND;
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    put_fraction(micros % SECOND, out);
}

/// Writes a timestamp; with `zone`, the `+00` of UTC.
pub(crate) fn put_timestamp(micros: i64, zone: bool, out: &mut BytesMut) {
    match micros {
        i64::MAX => out.put_slice(b"infinity"),
        i64::MIN => out.put_slice(b"-infinity"),
        micros => {
            let before = put_civil(micros.div_euclid(DAY), out);
            out.put_u8(b' ');
            put_time(micros.rem_euclid(DAY), out);
            if zone {
                out.put_slice(b"+00");
            }
            if before {
                out.put_slice(b" BC");
            }
        }
    }
}

/// Writes an interval in IntervalStyle postgres.
pub(crate) fn put_interval(interval: Interval, out: &mut BytesMut) {
    let mut first = true;
    let mut before = false;
    let (years, months) = (interval.months / 12, interval.months % 12);
    for (value, unit) in [(years, "year"), (months, "mon"), (interval.days, "day")] {
        if value != 0 {
            let space = if first { "" } else { " " };
            let plus = if before && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            let _ = write!(out, "{space}{plus}{value} {unit}{plural}");
            before = value < 0;
            first = false;
        }
    }
    if first || interval.micros != 0 {
        let space = if first { "" } else { " " };
        let sign = if interval.micros < 0 {
            "-"
        } else if before {
            "+"
        } else {
            ""
        };
        let micros = interval.micros.unsigned_abs();
        let seconds = micros / SECOND as u64;
        let _ = write!(
            out,
            "{space}{sign}{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        put_fraction((micros % SECOND as u64) as i64, out);
    }
}

/// A date and time that has been read.
struct Moment {
    days: i64,
    micros: i64,
    /// Seconds east of UTC, where the text said so.
    zone: Option<i64>,
}

/// A reader over ASCII text.
struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&b, rest)) if b.eq_ignore_ascii_case(&byte) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// A number of `min` to `max` digits.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let count = self.rest.iter().take(max).take_while(|b| b.is_ascii_digit()).count();
        if count < min {
            return None;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        Some(digits.iter().fold(0, |sum, d| sum * 10 + i64::from(d - b'0')))
    }

    fn spaces(&mut self) {
        while self.eat(b' ') {}
    }

    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// `.ffffff`: digits past the sixth are rounded away.
    fn fraction(&mut self) -> Option<i64> {
        if !self.eat(b'.') {
            return Some(0);
        }
        let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        let digit = |at: usize| i64::from(digits.get(at).map_or(0, |d| d - b'0'));
        Some((0..6).fold(0, |sum, at| sum * 10 + digit(at)) + i64::from(digit(6) >= 5))
    }

    /// `HH:MM[:SS[.ffffff]] [AM|PM]` or `HHMMSS` in microseconds, up to 24:00:00.
    fn time(&mut self) -> Option<i64> {
        let run = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let mut hours = self.number(1, 2)?;
        let minutes;
        let (mut seconds, mut micros) = (0, 0);
        if run == 6 {
            minutes = self.number(2, 2)?;
            seconds = self.number(2, 2)?;
            micros = self.fraction()?;
        } else {
            self.eat(b':').then_some(())?;
            minutes = self.number(2, 2)?;
            if self.eat(b':') {
                seconds = self.number(2, 2)?;
                micros = self.fraction()?;
            }
        }
        if minutes > 59 || seconds > 60 {
            return None;
        }
        let rest = self.rest.trim_ascii_start();
        for (half, offset) in [(&b"AM"[..], 0), (&b"PM"[..], 12)] {
            if rest.len() >= 2 && rest[..2].eq_ignore_ascii_case(half) {
                if !(1..=12).contains(&hours) {
                    return None;
                }
                hours = hours % 12 + offset;
                self.rest = &rest[2..];
            }
        }
        let total = (hours * 3600 + minutes * 60 + seconds) * SECOND + micros;
        (total <= DAY).then_some(total)
    }

    /// `Z`, `UTC`, `+HH`, `+HHMM`, `+HH:MM[:SS]` in seconds; outer `None` where it is malformed.
    fn zone(&mut self) -> Option<Option<i64>> {
        for name in [&b"UTC"[..], b"GMT", b"Z"] {
            if self.rest.len() >= name.len() && self.rest[..name.len()].eq_ignore_ascii_case(name) {
                self.rest = &self.rest[name.len()..];
                return Some(Some(0));
            }
        }
        let sign = if self.eat(b'+') {
            1
        } else if self.eat(b'-') {
            -1
        } else {
            return Some(None);
        };
        let hours = self.number(1, 2)?;
        let colon = self.eat(b':');
        let minutes = match self.number(2, 2) {
            Some(minutes) => minutes,
            None if colon => return None,
            None => 0,
        };
        let seconds = if self.eat(b':') { self.number(2, 2)? } else { 0 };
        if hours > 15 || minutes > 59 || seconds > 59 {
            return None;
        }
        Some(Some(sign * (hours * 3600 + minutes * 60 + seconds)))
    }

    /// The month whose name, or first three letters of it, stand here.
    fn month(&mut self) -> Option<u32> {
        const MONTHS: [&str; 12] = [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ];
        let count = self.rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let (word, rest) = self.rest.split_at(count);
        let word = std::str::from_utf8(word).ok()?.to_ascii_lowercase();
        let at = MONTHS
            .iter()
            .position(|m| *m == word || (word.len() == 3 && m.starts_with(&word)))?;
        self.rest = rest;
        u32::try_from(at + 1).ok()
    }

    /// What stands between the parts of a date: `-`, `/`, `,` or spaces.
    fn between(&mut self) {
        while [b'-', b'/', b',', b' '].iter().any(|b| self.eat(*b)) {}
    }

    /// `YYYY-MM-DD`, `YYYYMMDD`, `MM/DD/YYYY`, `January 8, 1999` or `8 Jan 1999`.
    fn day(&mut self) -> Option<(i64, u32, u32)> {
        let run = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if run == 0 {
            let month = self.month()?;
            self.between();
            let day = self.number(1, 2)? as u32;
            self.between();
            return Some((self.number(4, 7)?, month, day));
        }
        if run == 8 {
            return Some((self.number(4, 4)?, self.number(2, 2)? as u32, self.number(2, 2)? as u32));
        }
        if run <= 2 {
            let first = self.number(1, 2)? as u32;
            let slash = self.rest.first() == Some(&b'/');
            self.between();
            let (month, day) = match slash {
                true => (first, self.number(1, 2)? as u32),
                false => (self.month()?, first),
            };
            self.between();
            return Some((self.number(4, 7)?, month, day));
        }
        let year = self.number(4, 7)?;
        let separator = if self.rest.first() == Some(&b'/') { b'/' } else { b'-' };
        self.eat(separator).then_some(())?;
        let month = self.number(1, 2)? as u32;
        self.eat(separator).then_some(())?;
        Some((year, month, self.number(1, 2)? as u32))
    }

    /// A zone's name, at the end; seconds east of UTC where clocks show this.
    fn named_zone(&mut self, days: i64, micros: i64) -> Option<i64> {
        let name = std::str::from_utf8(self.rest).ok()?;
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.eq_ignore_ascii_case("BC") {
            return None;
        }
        let local = chrono::DateTime::from_timestamp_micros(days.checked_mul(DAY)?.checked_add(micros)?)?;
        let seconds = super::zone::zone(name)?.of_local(local.naive_utc());
        self.rest = b"";
        Some(seconds.into())
    }

    /// A date, `[(T| )time][zone][ BC]`.
    fn moment(&mut self) -> Option<Moment> {
        let (mut year, month, day) = self.day()?;
        let separated = self.eat(b'T') || self.rest.first() == Some(&b' ');
        self.spaces();
        let timed = separated && self.rest.first().is_some_and(u8::is_ascii_digit);
        let micros = if timed { self.time()? } else { 0 };
        self.spaces();
        let mut zone = self.zone()?;
        self.spaces();
        if let (None, Some(days)) = (zone, days(year, month, day)) {
            zone = self.named_zone(days, micros);
        }
        if self.rest.eq_ignore_ascii_case(b"BC") {
            self.rest = b"";
            year = 1 - year;
        } else if year == 0 {
            return None;
        }
        self.end()?;
        Some(Moment {
            days: days(year, month, day)?,
            micros,
            zone,
        })
    }
}

fn named(text: &str) -> Option<i64> {
    match text.to_ascii_lowercase().as_str() {
        "infinity" => Some(i64::MAX),
        "-infinity" => Some(i64::MIN),
        "epoch" => Some(0),
        _ => None,
    }
}

/// Reads a date; a time and zone after it are allowed and ignored, as in PostgreSQL.
pub(crate) fn date(text: &str) -> Option<i32> {
    let text = text.trim();
    match named(text) {
        Some(i64::MAX) => Some(i32::MAX),
        Some(i64::MIN) => Some(i32::MIN),
        Some(_) => Some(0),
        None => i32::try_from(Scan { rest: text.as_bytes() }.moment()?.days).ok(),
    }
}

/// Reads a time of day in microseconds; a zone after it is ignored, as `time` does.
pub(crate) fn time(text: &str) -> Option<i64> {
    let mut scan = Scan {
        rest: text.trim().as_bytes(),
    };
    let micros = scan.time()?;
    scan.spaces();
    scan.zone()?;
    scan.end()?;
    Some(micros)
}

/// Reads a timestamp in microseconds. With `zoned`, the offset counts (UTC where none is given);
/// without, it is ignored.
pub(crate) fn timestamp(text: &str, zoned: bool) -> Option<i64> {
    let text = text.trim();
    if let Some(micros) = named(text) {
        return Some(micros);
    }
    let moment = Scan { rest: text.as_bytes() }.moment()?;
    let offset = if zoned { moment.zone.unwrap_or(0) } else { 0 };
    moment
        .days
        .checked_mul(DAY)?
        .checked_add(moment.micros)?
        .checked_sub(offset * SECOND)
}

/// Reads an interval: `1 year 2 mons -3 days 04:05:06.7`, `1 day ago` or ISO 8601 `P1Y2M3DT4H5M6S`.
pub(crate) fn interval(text: &str) -> Option<Interval> {
    let text = text.trim();
    match text.strip_prefix(['P', 'p']) {
        Some(iso) => interval_iso(iso),
        None => interval_words(text),
    }
}

impl Interval {
    /// Adds `amount` of a unit; fractions go down to smaller units (a month has 30 days).
    fn add(&mut self, amount: f64, unit: &str) -> Option<()> {
        let (months, days, micros) = match unit.to_ascii_lowercase().as_str() {
            "millennium" | "millennia" | "mil" | "mils" => (12_000.0, 0.0, 0.0),
            "century" | "centuries" | "cent" | "c" => (1200.0, 0.0, 0.0),
            "decade" | "decades" | "dec" | "decs" => (120.0, 0.0, 0.0),
            "year" | "years" | "yr" | "yrs" | "y" => (12.0, 0.0, 0.0),
            "month" | "months" | "mon" | "mons" => (1.0, 0.0, 0.0),
            "week" | "weeks" | "w" => (0.0, 7.0, 0.0),
            "day" | "days" | "d" => (0.0, 1.0, 0.0),
            "hour" | "hours" | "hr" | "hrs" | "h" => (0.0, 0.0, 3600e6),
            "minute" | "minutes" | "min" | "mins" | "m" => (0.0, 0.0, 60e6),
            "second" | "seconds" | "sec" | "secs" | "s" => (0.0, 0.0, 1e6),
            "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => (0.0, 0.0, 1e3),
            "microsecond" | "microseconds" | "usec" | "usecs" | "us" => (0.0, 0.0, 1.0),
            _ => return None,
        };
        let months = amount * months;
        let days = amount * days
            + if unit.to_ascii_lowercase().starts_with('y') {
                0.0
            } else {
                months.fract() * 30.0
            };
        let micros = (amount * micros + days.fract() * DAY as f64).round();
        if months.abs() > f64::from(i32::MAX) || days.abs() > f64::from(i32::MAX) || micros.abs() > 9e18 {
            return None;
        }
        self.months = self.months.checked_add(months.trunc() as i32)?;
        self.days = self.days.checked_add(days.trunc() as i32)?;
        self.micros = self.micros.checked_add(micros as i64)?;
        Some(())
    }

    fn negated(self) -> Option<Self> {
        Some(Self {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }
}

fn interval_words(text: &str) -> Option<Interval> {
    let mut result = Interval::default();
    let mut words = text.trim_start_matches('@').split_ascii_whitespace().peekable();
    let mut any = false;
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case("ago") {
            return words.next().is_none().then_some(result).filter(|_| any)?.negated();
        }
        any = true;
        if word.contains(':') {
            let (negative, clock) = match word.strip_prefix('-') {
                Some(clock) => (true, clock),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let mut scan = Scan { rest: clock.as_bytes() };
            let hours = scan.number(1, 9)?;
            scan.eat(b':').then_some(())?;
            let minutes = scan.number(2, 2).filter(|&m| m < 60)?;
            let mut micros = (hours * 3600 + minutes * 60) * SECOND;
            if scan.eat(b':') {
                micros += scan.number(2, 2).filter(|&s| s <= 60)? * SECOND + scan.fraction()?;
            }
            scan.end()?;
            result.micros = result.micros.checked_add(if negative { -micros } else { micros })?;
            continue;
        }
        let split = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (amount, mut unit) = word.split_at(split);
        let amount = amount.parse::<f64>().ok().filter(|a| a.is_finite())?;
        if unit.is_empty() {
            unit = match words.peek() {
                Some(next) if !next.eq_ignore_ascii_case("ago") => words.next()?,
                _ => "second",
            };
        }
        result.add(amount, unit)?;
    }
    any.then_some(result)
}

fn interval_iso(text: &str) -> Option<Interval> {
    let mut result = Interval::default();
    let mut rest = text;
    let mut clock = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']) {
            clock = true;
            rest = after;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let amount = rest[..end].parse::<f64>().ok().filter(|a| a.is_finite())?;
        let unit = match (rest.as_bytes()[end].to_ascii_uppercase(), clock) {
            (b'Y', false) => "year",
            (b'M', false) => "month",
            (b'W', false) => "week",
            (b'D', false) => "day",
            (b'H', true) => "hour",
            (b'M', true) => "minute",
            (b'S', true) => "second",
            _ => return None,
        };
        result.add(amount, unit)?;
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then_some(result)
}

#[cfg(test)]
#[path = "datetime_tests.rs"]
mod tests;
