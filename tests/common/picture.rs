//! Answers as text that can be compared: every message of the server, with what may differ between two runs masked
//! (random ids, the clock, backend keys), and nothing else.

use std::time::{SystemTime, UNIX_EPOCH};

use super::raw::{Described, Frame, cells, columns, fields};

/// Columns whose values are this run's own.
const VOLATILE: &[&str] = &[
    "latency_ms",
    "pid",
    "client_port",
    "pg_backend_pid",
    "backend_xid",
    "backend_xmin",
];
/// `uuid`, and the types of the clock.
const UUID: u32 = 2950;
const CLOCK: &[u32] = &[1114, 1184];
/// Types whose binary form is text too, jsonb's after one byte: name, text, json, varchar, jsonb.
const TEXTS: &[u32] = &[19, 25, 114, 1043, 3802];

/// One line a message: its type and all that it carries, masked.
pub fn picture(frames: &[Frame]) -> Vec<String> {
    let mut described: Vec<Described> = Vec::new();
    frames.iter().map(|frame| line(frame, &mut described)).collect()
}

fn line(frame: &Frame, described: &mut Vec<Described>) -> String {
    let tag = frame.tag as char;
    match frame.tag {
        b'T' => {
            *described = columns(frame);
            let each: Vec<String> = described
                .iter()
                .map(|c| format!("{}:{}:{}", c.name, c.oid, c.format))
                .collect();
            format!("T {}", each.join("|"))
        }
        b'D' => {
            let values = cells(frame).into_iter().enumerate();
            let each: Vec<String> = values.map(|(i, v)| cell(described.get(i), v)).collect();
            format!("D {}", each.join("|"))
        }
        b'E' | b'N' => {
            let each: Vec<String> = fields(frame)
                .iter()
                .map(|(k, v)| format!("{k}={}", masked(v)))
                .collect();
            format!("{tag} {}", each.join("|"))
        }
        b'K' => "K".to_owned(),
        _ => format!(
            "{tag} {}",
            masked(&String::from_utf8_lossy(&frame.body).replace('\0', "|"))
        ),
    }
}

fn cell(column: Option<&Described>, value: Option<Vec<u8>>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    match column {
        Some(c) if c.oid == UUID => "{uuid}".to_owned(),
        Some(c) if CLOCK.contains(&c.oid) => "{time}".to_owned(),
        Some(c) if VOLATILE.contains(&c.name.as_str()) => "{own}".to_owned(),
        Some(c) if c.format == 1 && !TEXTS.contains(&c.oid) => super::canary::hex(&value),
        _ => masked(&String::from_utf8_lossy(&value)),
    }
}

/// The text with ids and clock readings of today replaced: `{uuid}`, `{time}`, `{today}`, `{id}`.
pub fn masked(text: &str) -> String {
    let days = [today() - 1, today(), today() + 1].map(date);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let fresh = !out.ends_with(|c: char| c.is_ascii_hexdigit() || c == '-');
        if fresh && uuid_at(rest) {
            out.push_str("{uuid}");
            rest = &rest[36..];
        } else if let Some(day) = days.iter().find(|d| fresh && rest.starts_with(d.as_str())) {
            let clock = clock_length(&rest[day.len()..]);
            out.push_str(if clock > 0 { "{time}" } else { "{today}" });
            rest = &rest[day.len() + clock..];
        } else if out.ends_with("internal error ") && rest.len() >= 32 && rest.as_bytes()[..32].is_ascii() {
            out.push_str("{id}");
            rest = &rest[32..];
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

fn uuid_at(text: &str) -> bool {
    let Some(bytes) = text.as_bytes().get(..36) else {
        return false;
    };
    let dashes = [8, 13, 18, 23];
    bytes.iter().enumerate().all(|(i, b)| {
        if dashes.contains(&i) {
            *b == b'-'
        } else {
            b.is_ascii_hexdigit()
        }
    })
}

/// Length of ` 12:34:56.789+00`, `T12:34:56Z` and the like; 0 where the text goes on otherwise.
fn clock_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let shape = |at: usize, form: &str| {
        let there = bytes.get(at..at + form.len());
        there.is_some_and(|b| {
            b.iter()
                .zip(form.bytes())
                .all(|(b, f)| if f == b'0' { b.is_ascii_digit() } else { *b == f })
        })
    };
    if !(matches!(bytes.first(), Some(b' ' | b'T')) && shape(1, "00:00:00")) {
        return 0;
    }
    let mut at = 9;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        at += bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    }
    if matches!(bytes.get(at), Some(b'+' | b'-')) && shape(at + 1, "00") {
        at += 3;
        at += if shape(at, ":00") { 3 } else { 0 };
    } else if bytes.get(at) == Some(&b'Z') {
        at += 1;
    }
    at
}

/// Days since 1970, by the clock in UTC.
pub fn today() -> i64 {
    (SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
        / 86_400) as i64
}

/// `2024-02-29` of days since 1970 (Hinnant's civil_from_days).
pub fn date(days: i64) -> String {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
