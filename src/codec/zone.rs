//! Time zones by name or offset.

use chrono::{Duration, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// A zone by its name in the IANA database, or by its offset.
pub(crate) fn zone(name: &str) -> Option<Zone> {
    let name = name.trim();
    if let Ok(zone) = name.parse::<Tz>() {
        return Some(Zone::Named(zone));
    }
    let lower = name.to_ascii_lowercase();
    if let Some(named) = chrono_tz::TZ_VARIANTS
        .iter()
        .find(|z| z.name().eq_ignore_ascii_case(&lower))
    {
        return Some(Zone::Named(*named));
    }
    if lower == "z" || lower == "utc" {
        return Some(Zone::Named(Tz::UTC));
    }
    // POSIX counts offsets westwards, ISO eastwards; PostgreSQL takes a bare one as ISO here.
    let digits = lower.trim_start_matches("utc").trim_start_matches("gmt");
    let posix = digits.len() != lower.len();
    let (sign, rest) = match digits.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, digits.strip_prefix('+')?),
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some((h, m)) => (h.parse::<i32>().ok()?, m.parse::<i32>().ok()?),
        None if rest.len() == 4 => (rest.get(..2)?.parse().ok()?, rest.get(2..)?.parse().ok()?),
        None => (rest.parse::<i32>().ok()?, 0),
    };
    if hours > 15 || minutes > 59 {
        return None;
    }
    let seconds = sign * (hours * 3600 + minutes * 60);
    Some(Zone::East(if posix { -seconds } else { seconds }))
}

/// Where clocks show another time than in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Named(Tz),
    /// Seconds east of UTC.
    East(i32),
}

impl Zone {
    /// Seconds east of UTC at a moment.
    pub(crate) fn at(self, utc: NaiveDateTime) -> i32 {
        match self {
            Self::Named(zone) => zone.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
            Self::East(seconds) => seconds,
        }
    }

    /// Seconds east of UTC where clocks show this. In the hour that exists twice it is the first; one that is skipped is
    /// counted as if clocks had not been set.
    pub(crate) fn of_local(self, local: NaiveDateTime) -> i32 {
        match self {
            Self::East(seconds) => seconds,
            Self::Named(zone) => match zone.offset_from_local_datetime(&local).earliest() {
                Some(offset) => offset.fix().local_minus_utc(),
                None => self.at(local - Duration::days(1)),
            },
        }
    }
}
