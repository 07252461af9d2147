//! `to_char`, `to_date`, `to_timestamp`, `to_number`: values after PostgreSQL's templates.

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::Result;

use super::{
    function::fail,
    moments::{self, DAY, Interval, Moment, SECOND},
    to_char_number::number,
};
use crate::error::Code;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Patterns of dates and times, longer ones before those that they begin with.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "HH", "MI", "SSSSS", "SSSS", "SS", "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "AM",
    "PM", "am", "pm", "A.M.", "P.M.", "a.m.", "p.m.", "Y,YYY", "YYYY", "YYY", "YY", "IYYY", "IYY", "IY", "Y", "BC",
    "AD", "MONTH", "Month", "month", "MON", "Mon", "mon", "MM", "DAY", "Day", "day", "DY", "Dy", "dy", "DDD", "DD",
    "IDDD", "ID", "D", "IW", "WW", "W", "CC", "Q", "J", "TZH", "TZM", "TZ", "tz", "OF", "RM", "rm",
];

/// A value by a template.
pub(super) fn print(value: &Moment, form: &str) -> Result<String> {
    match value {
        Moment::Number(n) => Ok(number(&format!("{n:.10}"), form)),
        Moment::Exact(n, scale) => Ok(number(&decimal(*n, *scale), form)),
        Moment::Span(span) => print_span(*span, form),
        Moment::Date(days) => print_time(moments::midnight(*days)?, form),
        Moment::Stamp(micros) | Moment::Zoned(micros) => print_time(*micros, form),
        Moment::Time(micros) => print_span(
            Interval {
                months: 0,
                days: 0,
                micros: *micros,
            },
            form,
        ),
        _ => Err(fail(
            Code::UndefinedFunction,
            "function to_char does not exist for these arguments",
        )),
    }
}

fn decimal(value: i128, scale: i8) -> String {
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// What a pattern stands for at a moment.
struct Clock {
    at: NaiveDateTime,
    /// Hours, which an interval can have more than 23 of.
    hours: i64,
    micros: i64,
}

fn print_time(micros: i64, form: &str) -> Result<String> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(String::new());
    }
    let at = moments::civil(micros)?;
    Ok(filled(
        &Clock {
            at,
            hours: at.hour().into(),
            micros: micros.rem_euclid(DAY),
        },
        form,
    ))
}

fn print_span(span: Interval, form: &str) -> Result<String> {
    let wrong = || fail(Code::DatetimeOverflow, "interval out of range");
    // A calendar's day that has the interval's months and days as its own, for the patterns that name them.
    let date = NaiveDate::from_ymd_opt(span.months / 12, (span.months % 12).unsigned_abs().max(1), 1);
    let date = date.and_then(|d| d.with_day(u32::try_from(span.days.clamp(1, 28)).unwrap_or(1)));
    let at = date.and_then(|d| d.and_hms_opt(0, 0, 0)).ok_or_else(wrong)?;
    let hours = span.micros / (3600 * SECOND);
    Ok(filled(
        &Clock {
            at,
            hours,
            micros: span.micros.rem_euclid(DAY),
        },
        form,
    ))
}

fn filled(clock: &Clock, form: &str) -> String {
    let mut out = String::new();
    let mut rest = form;
    let mut fill = true;
    while let Some(first) = rest.chars().next() {
        if let Some(inner) = rest.strip_prefix('"') {
            let end = inner.find('"').unwrap_or(inner.len());
            out.push_str(&inner[..end]);
            rest = inner.get(end + 1..).unwrap_or("");
            continue;
        }
        if let Some(after) = rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
            fill = false;
            rest = after;
            continue;
        }
        let found = PATTERNS.iter().find(|p| {
            let head = rest.get(..p.len());
            let exact = head == Some(**p);
            exact || (!mixed(p) && head.is_some_and(|h| h.eq_ignore_ascii_case(p)))
        });
        let Some(pattern) = found else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = &rest[pattern.len()..];
        let mut one = clock.pattern(pattern, fill);
        if let Some(after) = rest.strip_prefix("TH").or_else(|| rest.strip_prefix("th")) {
            let ordinal = ordinal(&one);
            one.push_str(&if rest.starts_with("TH") {
                ordinal.to_uppercase()
            } else {
                ordinal.to_owned()
            });
            rest = after;
        }
        out.push_str(&one);
        fill = true;
    }
    out
}

/// Patterns whose letters' case means something.
fn mixed(pattern: &str) -> bool {
    ["MON", "DAY", "DY", "AM", "PM", "A.M.", "P.M.", "TZ", "RM"]
        .iter()
        .any(|p| pattern.len() >= p.len() && pattern[..p.len()].eq_ignore_ascii_case(p))
        && !pattern.starts_with("TZH")
        && !pattern.starts_with("TZM")
}

fn ordinal(number: &str) -> &'static str {
    let digits: Vec<char> = number.trim().chars().rev().collect();
    match (digits.get(1), digits.first()) {
        (Some('1'), _) => "th",
        (_, Some('1')) => "st",
        (_, Some('2')) => "nd",
        (_, Some('3')) => "rd",
        _ => "th",
    }
}

impl Clock {
    fn pattern(&self, pattern: &str, fill: bool) -> String {
        let padded = |n: i64, width: usize| match fill {
            true => format!("{n:0width$}"),
            false => n.to_string(),
        };
        let at = &self.at;
        let word = |word: &str, pattern: &str, width: usize| {
            let word = match (pattern.chars().next(), pattern.chars().nth(1)) {
                (Some(a), Some(b)) if a.is_uppercase() && b.is_uppercase() => word.to_uppercase(),
                (Some(a), _) if a.is_lowercase() => word.to_lowercase(),
                _ => word.to_owned(),
            };
            if fill { format!("{word:<width$}") } else { word }
        };
        let half = if self.hours.rem_euclid(24) < 12 {
            ("AM", "am")
        } else {
            ("PM", "pm")
        };
        let year = i64::from(at.year());
        let shown = if year <= 0 { 1 - year } else { year };
        let (month, day) = (
            MONTHS[at.month0() as usize],
            DAYS[at.weekday().num_days_from_sunday() as usize],
        );
        let fraction = self.micros % SECOND;
        let minute = self.micros / (60 * SECOND) % 60;
        let second = self.micros / SECOND % 60;
        match pattern {
            "HH24" => padded(self.hours, 2),
            "HH12" | "HH" => padded((self.hours + 11).rem_euclid(12) + 1, 2),
            "MI" => padded(minute, 2),
            "SSSSS" | "SSSS" => (self.micros / SECOND).to_string(),
            "SS" => padded(second, 2),
            "MS" => format!("{:03}", fraction / 1000),
            "US" => format!("{fraction:06}"),
            "AM" | "PM" => half.0.to_owned(),
            "am" | "pm" => half.1.to_owned(),
            "A.M." | "P.M." => format!("{}.M.", &half.0[..1]),
            "a.m." | "p.m." => format!("{}.m.", &half.1[..1]),
            "Y,YYY" => format!("{},{:03}", shown / 1000, shown % 1000),
            "YYYY" => padded(shown, 4),
            "YYY" => padded(shown % 1000, 3),
            "YY" => padded(shown % 100, 2),
            "Y" => (shown % 10).to_string(),
            "IYYY" => padded(at.iso_week().year().into(), 4),
            "IYY" => padded(i64::from(at.iso_week().year()) % 1000, 3),
            "IY" => padded(i64::from(at.iso_week().year()) % 100, 2),
            "BC" | "AD" => (if year <= 0 { "BC" } else { "AD" }).to_owned(),
            "MONTH" | "Month" | "month" => word(month, pattern, 9),
            "MON" | "Mon" | "mon" => word(&month[..3], pattern, 3),
            "MM" => padded(at.month().into(), 2),
            "RM" | "rm" => {
                let roman = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
                word(
                    roman[at.month0() as usize],
                    if pattern == "rm" { "rm" } else { "RM" },
                    4,
                )
            }
            "DAY" | "Day" | "day" => word(day, pattern, 9),
            "DY" | "Dy" | "dy" => word(&day[..3], pattern, 3),
            "DDD" => padded(at.ordinal().into(), 3),
            "DD" => padded(at.day().into(), 2),
            "D" => (at.weekday().num_days_from_sunday() + 1).to_string(),
            "ID" => at.weekday().number_from_monday().to_string(),
            "IDDD" => {
                let week = i64::from(at.iso_week().week0()) * 7;
                padded(week + i64::from(at.weekday().number_from_monday()), 3)
            }
            "IW" => padded(at.iso_week().week().into(), 2),
            "WW" => padded(i64::from(at.ordinal0() / 7 + 1), 2),
            "W" => (at.day0() / 7 + 1).to_string(),
            "CC" => padded((shown + 99) / 100, 2),
            "Q" => (at.month0() / 3 + 1).to_string(),
            "J" => (self.at.and_utc().timestamp().div_euclid(86_400) + 2_440_588).to_string(),
            "TZ" => "UTC".to_owned(),
            "tz" => "utc".to_owned(),
            "TZH" | "OF" => "+00".to_owned(),
            "TZM" => "00".to_owned(),
            digits => {
                let places = digits.trim_start_matches("FF").parse().unwrap_or(6_usize);
                format!("{fraction:06}")[..places.min(6)].to_owned()
            }
        }
    }
}

/// The number in a text, whatever else is in it.
pub(super) fn number_of(text: &str) -> Result<Moment> {
    let negative = text.contains('-') || text.trim_start().starts_with('<');
    let plain: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let value = crate::codec::numeric::from_text(&plain, 9)
        .map_err(|e| datafusion::common::DataFusionError::External(Box::new(e)))?;
    Ok(Moment::Exact(if negative { -value } else { value }, 9))
}

/// A date and time read by a template.
pub(super) fn read(text: &str, form: &str) -> Result<NaiveDateTime> {
    let mut reader = Reader {
        rest: text.trim_start(),
        ..Reader::default()
    };
    let mut form = form;
    while let Some(first) = form.chars().next() {
        if let Some(after) = form.strip_prefix("FM").or_else(|| form.strip_prefix("fm")) {
            form = after;
            continue;
        }
        let found = PATTERNS
            .iter()
            .find(|p| form.get(..p.len()).is_some_and(|h| h.eq_ignore_ascii_case(p)));
        let Some(pattern) = found else {
            form = &form[first.len_utf8()..];
            if first == '"' {
                continue;
            }
            // A character between fields stands for any one there.
            let next = reader.rest.chars().next();
            if let Some(c) = next.filter(|c| !c.is_ascii_alphanumeric() || *c == first) {
                reader.rest = &reader.rest[c.len_utf8()..];
            }
            continue;
        };
        form = &form[pattern.len()..];
        if let Some(after) = form.strip_prefix("TH").or_else(|| form.strip_prefix("th")) {
            form = after;
        }
        reader.field(&pattern.to_uppercase(), text)?;
    }
    reader.finish(text)
}

#[derive(Default)]
struct Reader<'a> {
    rest: &'a str,
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
    afternoon: Option<bool>,
}

fn wrong(text: &str) -> datafusion::common::DataFusionError {
    let shown: String = text.chars().take(60).collect();
    fail(
        Code::InvalidDatetime,
        format!("invalid value in \"{shown}\" for the template"),
    )
}

impl Reader<'_> {
    fn number(&mut self, most: usize, text: &str) -> Result<u32> {
        self.rest = self.rest.trim_start();
        let digits = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        number.parse().map_err(|_| wrong(text))
    }

    fn word(&mut self, words: &[&str], short: bool, text: &str) -> Result<usize> {
        self.rest = self.rest.trim_start();
        for (at, word) in words.iter().enumerate() {
            let length = if short { 3 } else { word.len() };
            if self
                .rest
                .get(..length)
                .is_some_and(|h| h.eq_ignore_ascii_case(&word[..length]))
            {
                self.rest = &self.rest[length..];
                return Ok(at);
            }
        }
        Err(wrong(text))
    }

    fn field(&mut self, pattern: &str, text: &str) -> Result<()> {
        match pattern {
            "YYYY" | "IYYY" => self.year = Some(self.number(4, text)? as i32),
            "YYY" | "YY" | "Y" => {
                let year = self.number(pattern.len(), text)? as i32;
                self.year = Some(if year < 70 { year + 2000 } else { year + 1900 });
            }
            "MONTH" => self.month = Some(self.word(&MONTHS, false, text)? as u32 + 1),
            "MON" => self.month = Some(self.word(&MONTHS, true, text)? as u32 + 1),
            "MM" => self.month = Some(self.number(2, text)?),
            "DAY" => drop(self.word(&DAYS, false, text)?),
            "DY" => drop(self.word(&DAYS, true, text)?),
            "DDD" => self.day_of_year = Some(self.number(3, text)?),
            "DD" => self.day = Some(self.number(2, text)?),
            "HH24" | "HH12" | "HH" => self.hour = self.number(2, text)?,
            "MI" => self.minute = self.number(2, text)?,
            "SS" => self.second = self.number(2, text)?,
            "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
                let before = self.rest.len();
                let number = self.number(6, text)?;
                let digits = u32::try_from(before - self.rest.len()).unwrap_or(6);
                self.micros = number * 10_u32.pow(6_u32.saturating_sub(digits));
            }
            "AM" | "PM" | "A.M." | "P.M." => {
                self.rest = self.rest.trim_start();
                self.afternoon = Some(self.rest.starts_with(['p', 'P']));
                self.rest = self
                    .rest
                    .trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '.');
            }
            _ => {
                return Err(fail(
                    Code::Unsupported,
                    format!("template pattern \"{pattern}\" is not read here"),
                ));
            }
        }
        Ok(())
    }

    fn finish(self, text: &str) -> Result<NaiveDateTime> {
        let out = || {
            let shown: String = text.chars().take(60).collect();
            fail(
                Code::DatetimeOverflow,
                format!("date/time field value out of range: \"{shown}\""),
            )
        };
        let year = self.year.unwrap_or(0);
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year, day),
            None => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1)),
        };
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let at = date.and_then(|d| d.and_hms_micro_opt(hour, self.minute, self.second, self.micros));
        at.ok_or_else(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_as_in_postgresql() {
        let at = Moment::Stamp(1_709_211_909_000_000); // 2024-02-29 13:05:09
        let print = |form: &str| print(&at, form).unwrap_or_default();
        assert_eq!(print("YYYY-MM-DD HH24:MI:SS"), "2024-02-29 13:05:09");
        assert_eq!(print("Day, DD Month YYYY"), "Thursday , 29 February  2024");
        assert_eq!(print("HH12:MI AM"), "01:05 PM");
        assert_eq!(print("FMDay FMDDth Mon IYYY-IW"), "Thursday 29th Feb 2024-09");
    }

    #[test]
    fn dates_are_read_by_templates() {
        let read = |text, form| read(text, form).map(|t| t.to_string()).unwrap_or_default();
        assert_eq!(read("29 Feb 2024", "DD Mon YYYY"), "2024-02-29 00:00:00");
        assert_eq!(read("2024-02-29 13:05", "YYYY-MM-DD HH24:MI"), "2024-02-29 13:05:00");
        assert_eq!(read("01:05 pm", "HH:MI am"), "0000-01-01 13:05:00");
        assert_eq!(read("2024-02-30", "YYYY-MM-DD"), "");
    }
}
