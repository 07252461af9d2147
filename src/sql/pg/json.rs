//! JSON text: checked for `json`, and in the one canonical form for `jsonb`.
//!
//! As in PostgreSQL, a `jsonb` object has its keys ordered by length, then bytes, of equal keys the
//! last one, and `, ` and `: ` between. Numbers keep their digits: nothing goes through a float.

use std::collections::BTreeMap;

use crate::{
    error::{Code, Error, Result},
    limits::JSON_DEPTH,
};

/// Checks that the text is one JSON value.
pub fn check(text: &str) -> Result<()> {
    parse(text).map(|_| ())
}

/// The canonical text of a JSON value.
pub fn canonical(text: &str) -> Result<String> {
    Ok(parse(text)?.canonical())
}

/// Reads one JSON value.
pub(super) fn parse(text: &str) -> Result<Json> {
    Parser { rest: text, depth: 0 }.whole()
}

/// One JSON value.
pub(super) enum Json {
    /// A number, or `true`, `false`, `null`.
    Plain(String),
    /// A string's characters.
    Text(String),
    Array(Vec<Json>),
    /// By length, then bytes.
    Object(BTreeMap<(usize, String), Json>),
}

impl Json {
    /// The canonical text.
    pub(super) fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Text(text) => write_text(text, out),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { ", " });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                out.push('{');
                for (i, ((_, key), value)) in entries.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { ", " });
                    write_text(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

pub(super) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

fn invalid() -> Error {
    Error::new(Code::InvalidText, "invalid input syntax for type json")
}

impl Parser<'_> {
    fn whole(mut self) -> Result<Json> {
        let value = self.value()?;
        self.space();
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(invalid())
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: char) -> bool {
        self.space();
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn value(&mut self) -> Result<Json> {
        self.space();
        if self.depth >= JSON_DEPTH {
            return Err(Error::new(
                Code::TooComplex,
                format!("json is nested deeper than {JSON_DEPTH}"),
            ));
        }
        self.depth += 1;
        let value = match self.rest.chars().next() {
            Some('{') => self.object(),
            Some('[') => self.array(),
            Some('"') => self.text().map(Json::Text),
            Some('-' | '0'..='9') => self.number().map(Json::Plain),
            _ => self.word(),
        };
        self.depth -= 1;
        value
    }

    fn word(&mut self) -> Result<Json> {
        for word in ["null", "true", "false"] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(Json::Plain(word.to_owned()));
            }
        }
        Err(invalid())
    }

    fn object(&mut self) -> Result<Json> {
        let mut entries = BTreeMap::new();
        self.take('{');
        if self.take('}') {
            return Ok(Json::Object(entries));
        }
        loop {
            self.space();
            let key = self.text()?;
            if !self.take(':') {
                return Err(invalid());
            }
            let value = self.value()?;
            entries.insert((key.len(), key), value);
            if self.take('}') {
                return Ok(Json::Object(entries));
            }
            if !self.take(',') {
                return Err(invalid());
            }
        }
    }

    fn array(&mut self) -> Result<Json> {
        let mut items = Vec::new();
        self.take('[');
        if self.take(']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(']') {
                return Ok(Json::Array(items));
            }
            if !self.take(',') {
                return Err(invalid());
            }
        }
    }

    fn text(&mut self) -> Result<String> {
        let mut chars = self.rest.strip_prefix('"').ok_or_else(invalid)?.chars();
        let mut text = String::new();
        loop {
            match chars.next().ok_or_else(invalid)? {
                '"' => break,
                '\\' => match chars.next().ok_or_else(invalid)? {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    c @ ('"' | '\\' | '/') => text.push(c),
                    'u' => text.push(unicode(&mut chars)?),
                    _ => return Err(invalid()),
                },
                c if c < ' ' => return Err(invalid()),
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    fn number(&mut self) -> Result<String> {
        let end = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        let (negative, digits) = number.strip_prefix('-').map_or((false, number), |d| (true, d));
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((m, e)) => (m, Some(e)),
            None => (digits, None),
        };
        let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
        let all_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if !all_digits(whole) || leading_zero || fraction.is_some_and(|f| !all_digits(f)) {
            return Err(invalid());
        }
        let exponent = match exponent {
            None => 0,
            Some(e) if all_digits(e.strip_prefix(['+', '-']).unwrap_or(e)) => {
                e.parse::<i32>().map_err(|_| invalid())?
            }
            Some(_) => return Err(invalid()),
        };
        plain(negative, whole, fraction.unwrap_or(""), exponent)
    }
}

/// A number without exponent, as PostgreSQL's numeric prints it.
fn plain(negative: bool, whole: &str, fraction: &str, exponent: i32) -> Result<String> {
    if exponent.unsigned_abs() > 16_383 {
        return Err(Error::new(Code::NumericOutOfRange, "value overflows numeric format"));
    }
    let (mut left, mut right) = (whole.to_owned(), fraction.to_owned());
    for _ in 0..exponent.unsigned_abs() {
        if exponent > 0 {
            left.push(if right.is_empty() { '0' } else { right.remove(0) });
        } else {
            right.insert(0, left.pop().unwrap_or('0'));
        }
    }
    let left = left.trim_start_matches('0');
    let zero = left.is_empty() && right.bytes().all(|b| b == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    let left = if left.is_empty() { "0" } else { left };
    Ok(if right.is_empty() {
        format!("{sign}{left}")
    } else {
        format!("{sign}{left}.{right}")
    })
}

fn four(chars: &mut std::str::Chars<'_>) -> Result<u32> {
    let mut code = 0;
    for _ in 0..4 {
        code = code * 16 + chars.next().and_then(|c| c.to_digit(16)).ok_or_else(invalid)?;
    }
    Ok(code)
}

/// The character of a `\u` escape, the second half of a surrogate pair included.
fn unicode(chars: &mut std::str::Chars<'_>) -> Result<char> {
    let mut code = four(chars)?;
    if (0xd800..0xdc00).contains(&code) {
        if chars.next() != Some('\\') || chars.next() != Some('u') {
            return Err(invalid());
        }
        let second = four(chars)?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(invalid());
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
    }
    if code == 0 {
        return Err(Error::new(Code::InvalidText, "\\u0000 cannot be converted to text"));
    }
    char::from_u32(code).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> String {
        canonical(text).unwrap_or_else(|e| format!("{e:?}"))
    }

    #[test]
    fn jsonb_has_one_form() {
        assert_eq!(
            form(r#"{"bb":1,"a":[1,2 , {}],"c":null,"a":true}"#),
            r#"{"a": true, "c": null, "bb": 1}"#
        );
        assert_eq!(form(r#" "a\u00e9\ud83d\ude00\n" "#), "\"aé😀\\n\"");
        assert_eq!(form("[1.10, 1e3, -0, 12.5e-1, 0.5E1]"), "[1.10, 1000, 0, 1.25, 5]");
        assert_eq!(form("12345678901234567890123"), "12345678901234567890123");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "01",
            "1.",
            "tru",
            "1 2",
            "\"\u{1}\"",
            "\"\\ud800\"",
            "'a'",
            "+1",
        ] {
            assert_eq!(check(text).map_err(|e| e.code()), Err(Code::InvalidText), "{text}");
        }
        assert_eq!(
            check(&"[".repeat(JSON_DEPTH + 1)).map_err(|e| e.code()),
            Err(Code::TooComplex)
        );
    }
}
