//! OIDs that differ between the logged server and this one: types of the vector extension, which PostgreSQL numbers when
//! the extension is made, and relations, which are learnt from the rows that name them.

use std::collections::HashMap;

use crate::common::raw;

use super::log::Said;

/// PostgreSQL's first OID that is not its own.
const FIRST_OF_USERS: u32 = 16_384;
/// `vector`, `vector[]`, `halfvec`, `halfvec[]` of the logged server, and here.
const TYPES: &[(u32, u32)] = &[(16_387, 16_385), (16_393, 16_386), (16_500, 16_387), (16_506, 16_388)];

/// From the log's OIDs to this server's.
pub struct Oids(HashMap<u32, u32>);

impl Default for Oids {
    fn default() -> Self {
        Self(TYPES.iter().copied().collect())
    }
}

impl Oids {
    /// This server's OID for one of the log.
    pub fn ours(&self, logged: u32) -> u32 {
        self.0.get(&logged).copied().unwrap_or(logged)
    }

    /// Learns from the first row of both, if they seem to be about the same: all but numbers are equal.
    pub fn learn(&mut self, logged: &[String], got: &[Option<Vec<u8>>]) {
        if logged.len() != got.len() {
            return;
        }
        let mut found = Vec::new();
        let mut same = logged.len() == 1;
        for (logged, got) in logged.iter().zip(got) {
            let Some(got) = got else {
                continue;
            };
            if let Some(text) = logged.strip_prefix('\'').and_then(|l| l.strip_suffix('\'')) {
                let got = String::from_utf8_lossy(got);
                match (text.parse::<u32>(), got.parse::<u32>()) {
                    (Ok(from), Ok(to)) if from >= FIRST_OF_USERS && to >= FIRST_OF_USERS => found.push((from, to)),
                    (Err(_), Err(_)) if text.len() > 1 => {
                        if text != got {
                            return;
                        }
                        same = true;
                    }
                    _ => {}
                }
            } else if let (Some(hex), Ok(bytes)) = (logged.strip_prefix("bin:"), <[u8; 4]>::try_from(&got[..])) {
                let from = u32::from_str_radix(hex, 16).unwrap_or(0);
                let to = u32::from_be_bytes(bytes);
                if hex.len() == 8 && from >= FIRST_OF_USERS && to >= FIRST_OF_USERS && from < 1 << 16 {
                    found.push((from, to));
                }
            }
        }
        if same {
            for (from, to) in found {
                self.0.entry(from).or_insert(to);
            }
        }
    }

    /// The message for this server.
    pub fn message(&self, said: &Said) -> Vec<u8> {
        match said {
            Said::Query(sql) => raw::query(&self.text(sql)),
            Said::Parse { name, oids, sql } => {
                let oids: Vec<u32> = oids.iter().map(|&oid| self.ours(oid)).collect();
                raw::parse(name, &self.text(sql), &oids)
            }
            Said::Bind {
                portal,
                statement,
                formats,
                results,
                values,
            } => {
                let value = |n: usize, value: &Vec<u8>| match formats.get(n).or(formats.first()) {
                    Some(1) => self.binary(value),
                    _ => self.text(&String::from_utf8_lossy(value)).into_bytes(),
                };
                let values: Vec<Option<Vec<u8>>> = values
                    .iter()
                    .enumerate()
                    .map(|(n, v)| v.as_ref().map(|v| value(n, v)))
                    .collect();
                let values: Vec<Option<&[u8]>> = values.iter().map(|v| v.as_deref()).collect();
                raw::bind(portal, statement, formats, &values, results)
            }
            Said::Describe(kind, name) => raw::describe(*kind, name),
            Said::Execute(portal, rows) => raw::execute(portal, *rows),
            Said::Close(kind, name) => raw::close(*kind, name),
            Said::Sync => raw::sync(),
            Said::Startup(_) | Said::CopyData(_) | Said::CopyDone(_) => Vec::new(),
        }
    }

    /// A text with this server's OIDs where the log's stand as whole numbers.
    fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
            let (digits, tail) = from.split_at(end);
            let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
            match digits.parse::<u32>() {
                Ok(oid) if whole && oid >= FIRST_OF_USERS => out.push_str(&self.ours(oid).to_string()),
                _ => out.push_str(digits),
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }

    /// The same for a binary value: an OID of two, four or eight bytes, or an array that ends with one.
    fn binary(&self, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        let width = match value.len() {
            2 => 2,
            4 | 8 | 24 => 4,
            _ => return value,
        };
        let at = value.len() - width;
        let logged = value[at..].iter().fold(0_u32, |all, &b| all << 8 | u32::from(b));
        let ours = self.ours(logged).to_be_bytes();
        let head_is_zero = value.len() != 8 || value[..4] == [0; 4];
        if head_is_zero && (width == 4 || (ours[0], ours[1]) == (0, 0)) {
            value[at..].copy_from_slice(&ours[4 - width..]);
        }
        value
    }
}
