//! Budgets and the windows they hold for: calendar days and months in the tenant's time zone.
//!
//! A window is computed from the clock and never reset by a job. Windows of one kind and zone follow
//! each other without gap or overlap, also where clocks are put forward or back around midnight: a
//! day begins with the first moment whose local date is that day, and once begun it stays begun.

use chrono::{DateTime, Datelike, Days, Duration, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::money::Nano;
use crate::error::{Code, Error, Result};

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl Window {
    /// Both.
    pub const ALL: [Window; 2] = [Window::Day, Window::Month];

    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The series in which what is spent and reserved is published to the operator; its points are
    /// the first moments of windows.
    pub const fn series(self) -> u8 {
        match self {
            Self::Day => 1,
            Self::Month => 2,
        }
    }

    /// The window of this name in SQL.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == text)
    }

    /// The window of this kind that holds a moment (microseconds since 1970 UTC).
    pub fn span(self, zone: Tz, now_micros: i64) -> Span {
        let now = DateTime::from_timestamp_micros(now_micros.clamp(EARLIEST, LATEST)).unwrap_or_default();
        let date = self.first_day(now.with_timezone(&zone).date_naive());
        // The local date may be that of yesterday again after clocks were put back over midnight.
        let (mut first, mut next) = (date, self.following(date));
        if begin(zone, next) <= now_micros {
            (first, next) = (next, self.following(next));
        }
        Span {
            start_micros: begin(zone, first),
            end_micros: begin(zone, next),
        }
    }

    fn first_day(self, date: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => date,
            Self::Month => date.with_day(1).unwrap_or(date),
        }
    }

    fn following(self, first: NaiveDate) -> NaiveDate {
        let next = match self {
            Self::Day => first.checked_add_days(Days::new(1)),
            Self::Month => first.checked_add_months(Months::new(1)),
        };
        next.unwrap_or(NaiveDate::MAX)
    }
}

/// Moments outside of the years 1 to 9999 are taken for the nearest one inside: calendars end there.
const EARLIEST: i64 = -62_000_000_000_000_000;
const LATEST: i64 = 253_000_000_000_000_000;

/// One window: from `start_micros` (included) to `end_micros` (excluded), since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Its first moment.
    pub start_micros: i64,
    /// The first moment of the next one.
    pub end_micros: i64,
}

/// The first moment whose local date is `date` or later.
fn begin(zone: Tz, date: NaiveDate) -> i64 {
    let midnight = NaiveDateTime::new(date, NaiveTime::MIN);
    match zone.from_local_datetime(&midnight) {
        LocalResult::Single(moment) => moment.timestamp_micros(),
        LocalResult::Ambiguous(first, second) => first.min(second).timestamp_micros(),
        LocalResult::None => after_gap(zone, midnight),
    }
}

/// Where clocks skip midnight: the moment at which they are put forward, found by halving.
fn after_gap(zone: Tz, midnight: NaiveDateTime) -> i64 {
    let local = |seconds: i64| {
        let moment = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        moment.with_timezone(&zone).naive_local()
    };
    let margin = Duration::hours(30); // no zone is further from UTC, nor skips more than a day
    let (mut before, mut after) = (
        (midnight - margin).and_utc().timestamp(),
        (midnight + margin).and_utc().timestamp(),
    );
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        match local(middle) < midnight {
            true => before = middle,
            false => after = middle,
        }
    }
    after * 1_000_000
}

/// The time zone of this IANA name.
///
/// # Errors
/// [`Code::InvalidParameterValue`].
pub fn zone(name: &str) -> Result<Tz> {
    name.parse().map_err(|_| {
        Error::new(
            Code::InvalidParameterValue,
            format!("time zone \"{name}\" is not recognized"),
        )
        .with_hint("use a name of the IANA database such as 'Europe/Berlin' or 'UTC'")
    })
}

/// What may be spent on calls of models within one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// How long it lasts.
    pub window: Window,
    /// How much. 0 allows nothing.
    pub amount: Nano,
    /// A hard one refuses; a soft one only alerts.
    pub hard: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    fn span(window: Window, zone_name: &str, at: &str) -> (String, String) {
        let show = |micros| {
            let moment = DateTime::from_timestamp_micros(micros).unwrap();
            moment.format("%Y-%m-%dT%H:%M:%SZ").to_string()
        };
        let span = window.span(zone(zone_name).unwrap(), micros(at));
        (show(span.start_micros), show(span.end_micros))
    }

    #[test]
    fn windows_begin_and_end_with_the_local_calendar() {
        let cases = [
            (
                Window::Day,
                "UTC",
                "2026-03-01T00:00:00Z",
                "2026-03-01T00:00:00Z",
                "2026-03-02T00:00:00Z",
            ),
            (
                Window::Day,
                "UTC",
                "2026-02-28T23:59:59Z",
                "2026-02-28T00:00:00Z",
                "2026-03-01T00:00:00Z",
            ),
            (
                Window::Month,
                "UTC",
                "2024-02-29T12:00:00Z",
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                Window::Month,
                "UTC",
                "2026-12-31T23:59:59Z",
                "2026-12-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                Window::Day,
                "Asia/Kathmandu",
                "2026-01-01T18:14:59Z",
                "2025-12-31T18:15:00Z",
                "2026-01-01T18:15:00Z",
            ),
            (
                Window::Month,
                "Pacific/Kiritimati",
                "2026-01-31T10:00:00Z",
                "2026-01-31T10:00:00Z",
                "2026-02-28T10:00:00Z",
            ),
            // 23 and 25 hours
            (
                Window::Day,
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                Window::Day,
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z",
            ),
            (
                Window::Month,
                "America/New_York",
                "2026-03-15T12:00:00Z",
                "2026-03-01T05:00:00Z",
                "2026-04-01T04:00:00Z",
            ),
            // midnight is skipped: the day begins at 01:00
            (
                Window::Day,
                "Africa/Cairo",
                "2024-04-26T12:00:00Z",
                "2024-04-25T22:00:00Z",
                "2024-04-26T21:00:00Z",
            ),
            (
                Window::Day,
                "America/Sao_Paulo",
                "2018-11-04T12:00:00Z",
                "2018-11-04T03:00:00Z",
                "2018-11-05T02:00:00Z",
            ),
            // midnight comes twice: the day begins with the first
            (
                Window::Day,
                "America/Havana",
                "2025-11-02T12:00:00Z",
                "2025-11-02T04:00:00Z",
                "2025-11-03T05:00:00Z",
            ),
            // 00:01 is put back to 23:01: the new day stays begun
            (
                Window::Day,
                "America/St_Johns",
                "2010-11-07T02:45:00Z",
                "2010-11-07T02:30:00Z",
                "2010-11-08T03:30:00Z",
            ),
            (
                Window::Day,
                "America/St_Johns",
                "2010-11-07T02:15:00Z",
                "2010-11-06T02:30:00Z",
                "2010-11-07T02:30:00Z",
            ),
            // a date that did not exist
            (
                Window::Day,
                "Pacific/Apia",
                "2011-12-30T09:59:59Z",
                "2011-12-29T10:00:00Z",
                "2011-12-30T10:00:00Z",
            ),
            (
                Window::Day,
                "Pacific/Apia",
                "2011-12-30T10:00:00Z",
                "2011-12-30T10:00:00Z",
                "2011-12-31T10:00:00Z",
            ),
        ];
        for (window, zone, at, start, end) in cases {
            assert_eq!(
                span(window, zone, at),
                (start.to_owned(), end.to_owned()),
                "{zone} {at}"
            );
        }
    }

    #[test]
    fn zones_are_iana_names() {
        assert!(zone("Europe/Berlin").is_ok() && zone("UTC").is_ok());
        for name in ["", "Berlin", "UTC+2", "../etc/passwd"] {
            assert_eq!(zone(name).unwrap_err().code(), Code::InvalidParameterValue, "{name}");
        }
        assert_eq!(Window::parse("month"), Some(Window::Month));
        assert_eq!(Window::parse("week"), None);
    }

    proptest! {
        /// Any moment lies in its window, and the windows touch.
        #[test]
        fn windows_part_time(
            at in micros("1990-01-01T00:00:00Z")..micros("2100-01-01T00:00:00Z"),
            zone in 0..chrono_tz::TZ_VARIANTS.len(),
            window in prop_oneof![Just(Window::Day), Just(Window::Month)],
        ) {
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let span = window.span(zone, at);
            prop_assert!(span.start_micros <= at && at < span.end_micros, "{zone} {at} {span:?}");
            prop_assert_eq!(window.span(zone, span.start_micros), span);
            prop_assert_eq!(window.span(zone, span.end_micros - 1), span);
            prop_assert_eq!(window.span(zone, span.end_micros).start_micros, span.end_micros);
            prop_assert_eq!(window.span(zone, span.start_micros - 1).end_micros, span.start_micros);
        }

        #[test]
        fn no_moment_is_out_of_reach(at: i64, month: bool) {
            let window = if month { Window::Month } else { Window::Day };
            let span = window.span(Tz::Asia__Tokyo, at);
            prop_assert!(span.start_micros < span.end_micros);
        }
    }
}
