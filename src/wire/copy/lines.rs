//! Text and CSV on their way in: bytes to lines, lines to values.
//!
//! The rules are those of PostgreSQL's `copyfromparse.c`: the first line's end decides how all lines end, a
//! backslash (in text) or quotes (in CSV) take a line's end into a value, and a line of `\.` ends the data.

use bytes::{Buf, Bytes, BytesMut};

use super::cells::Cells;
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{Column, CopyFormat, CopyKind, Header},
};

/// How lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Newline,
    Return,
    Both,
}

/// What the next bytes are.
enum Found {
    /// A line of so many bytes, followed by so many of its end.
    Line(usize, usize),
    /// `\.`: what comes after it is not data.
    End,
    /// More bytes must come first.
    Nothing,
}

/// Bytes to rows.
pub(super) struct Lines {
    format: CopyFormat,
    names: Vec<String>,
    buffer: BytesMut,
    /// How much of the first line in `buffer` was looked at.
    scanned: usize,
    /// Whether that ended inside of quotes, and after an escape there.
    quoted: bool,
    escaped: bool,
    line_end: Option<LineEnd>,
    /// Lines that were read.
    line: u64,
    /// Lines' ends inside of the values of the line that is looked at.
    inner_lines: u64,
    header: Header,
    finished: bool,
    ended: bool,
    /// A value in the making, where it is not what the line holds.
    value: Vec<u8>,
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Code::BadCopyFormat, message)
}

impl Lines {
    pub(super) fn new(format: CopyFormat, columns: &[Column]) -> Self {
        Self {
            header: format.header,
            names: columns.iter().map(|column| column.name.clone()).collect(),
            format,
            buffer: BytesMut::new(),
            scanned: 0,
            quoted: false,
            escaped: false,
            line_end: None,
            line: 0,
            inner_lines: 0,
            finished: false,
            ended: false,
            value: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, bytes: &Bytes) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        if self.buffer.len() > limits::COPY_ROW_BYTES {
            let message = format!(
                "a row of COPY is too large: at most {} bytes are allowed",
                limits::COPY_ROW_BYTES
            );
            return Err(Error::new(Code::TooLarge, message));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Reads rows until `cells` is full or more must come; true at the end of the data.
    pub(super) fn read(&mut self, cells: &mut Cells) -> Result<bool> {
        while !self.ended && !cells.is_full() {
            let found = match self.format.kind {
                CopyKind::Csv => self.csv_line(),
                _ => self.text_line(),
            };
            let found = found.map_err(|error| {
                let line = self.line + self.inner_lines + 1;
                cells.wrong_line(error, line, None)
            })?;
            let (length, end) = match found {
                Found::Line(length, end) => (length, end),
                Found::End => {
                    self.ended = true;
                    break;
                }
                Found::Nothing if !self.finished => return Ok(false),
                // The last line may lack its end.
                Found::Nothing if self.buffer.is_empty() => {
                    self.ended = true;
                    break;
                }
                Found::Nothing => {
                    self.ended = true;
                    (self.buffer.len(), 0)
                }
            };
            if length > limits::COPY_ROW_BYTES {
                let message = format!(
                    "a row of COPY is too large: at most {} bytes are allowed",
                    limits::COPY_ROW_BYTES
                );
                return Err(Error::new(Code::TooLarge, message));
            }
            let line = self.buffer.split_to(length);
            self.buffer.advance(end);
            self.line += 1 + self.inner_lines;
            (self.scanned, self.inner_lines) = (0, 0);
            (self.quoted, self.escaped) = (false, false);
            let read = match std::mem::take(&mut self.header) {
                Header::No => self.row(&line, cells),
                Header::Yes => Ok(()),
                Header::Match => self.match_header(&line),
            };
            read.map_err(|error| cells.wrong_line(error, self.line, Some(&line)))?;
        }
        if self.ended {
            self.buffer.clear();
        }
        Ok(self.ended)
    }

    /// Whether a line's end stands at `at`, and how long it is; `None` if more must come to know.
    fn line_end(&mut self, at: usize) -> Result<Option<usize>> {
        let csv = self.format.kind == CopyKind::Csv;
        let misplaced = |what: &str| {
            let (message, hint) = match (csv, what) {
                (false, "newline") => ("literal newline found in data", "Use \"\\n\" to represent newline."),
                (false, _) => (
                    "literal carriage return found in data",
                    "Use \"\\r\" to represent carriage return.",
                ),
                (true, "newline") => (
                    "unquoted newline found in data",
                    "Use quoted CSV field to represent newline.",
                ),
                (true, _) => (
                    "unquoted carriage return found in data",
                    "Use quoted CSV field to represent carriage return.",
                ),
            };
            Err(bad(message).with_hint(hint))
        };
        if self.buffer[at] == b'\n' {
            return match self.line_end.get_or_insert(LineEnd::Newline) {
                LineEnd::Newline => Ok(Some(1)),
                LineEnd::Return | LineEnd::Both => misplaced("newline"),
            };
        }
        let next = match (self.line_end, self.buffer.get(at + 1)) {
            (Some(LineEnd::Newline), _) => return misplaced("carriage return"),
            (Some(LineEnd::Return), _) => return Ok(Some(1)),
            (_, Some(next)) => *next,
            (_, None) if !self.finished => return Ok(None),
            (_, None) => 0,
        };
        let kind = if next == b'\n' { LineEnd::Both } else { LineEnd::Return };
        match *self.line_end.get_or_insert(kind) {
            LineEnd::Both if kind == LineEnd::Both => Ok(Some(2)),
            LineEnd::Both => misplaced("carriage return"),
            _ => Ok(Some(1)),
        }
    }

    /// What follows `\.` at the beginning of a line must be the line's end.
    fn end_of_data(&mut self) -> Result<Found> {
        let Some(&byte) = self.buffer.get(2) else {
            return Ok(if self.finished { Found::End } else { Found::Nothing });
        };
        if !matches!(byte, b'\n' | b'\r') {
            return Err(bad("end-of-copy marker corrupt"));
        }
        match self.line_end(2) {
            Ok(Some(_)) => Ok(Found::End),
            Ok(None) => Ok(Found::Nothing),
            Err(_) => Err(bad("end-of-copy marker does not match previous newline style")),
        }
    }

    fn text_line(&mut self) -> Result<Found> {
        loop {
            let rest = &self.buffer[self.scanned..];
            let Some(ahead) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r' | b'\\')) else {
                self.scanned = self.buffer.len();
                return Ok(Found::Nothing);
            };
            let at = self.scanned + ahead;
            self.scanned = at;
            if self.buffer[at] != b'\\' {
                return Ok(match self.line_end(at)? {
                    Some(end) => Found::Line(at, end),
                    None => Found::Nothing,
                });
            }
            match self.buffer.get(at + 1) {
                None => {
                    if self.finished {
                        self.scanned = self.buffer.len();
                    }
                    return Ok(Found::Nothing);
                }
                Some(b'.') if at == 0 => return self.end_of_data(),
                Some(next) => {
                    self.inner_lines += u64::from(*next == b'\n');
                    self.scanned = at + 2;
                }
            }
        }
    }

    fn csv_line(&mut self) -> Result<Found> {
        let (quote, escape) = (self.format.quote, self.format.escape);
        if self.scanned == 0 && self.buffer.first() == Some(&b'\\') {
            match self.buffer.get(1) {
                Some(b'.') => {
                    // Only a line of nothing else; anything else is data.
                    match self.end_of_data() {
                        Err(error) if error.message() == "end-of-copy marker corrupt" => {}
                        other => return other,
                    }
                }
                None if !self.finished => return Ok(Found::Nothing),
                _ => {}
            }
        }
        let (mut quoted, mut escaped, mut inner_lines) = (self.quoted, self.escaped, self.inner_lines);
        let ahead = self.buffer[self.scanned..].iter().position(|&byte| {
            if !quoted {
                quoted = byte == quote;
                return matches!(byte, b'\n' | b'\r') && !quoted;
            }
            // Where quote and escape are one, a doubled one ends the quotes and begins them again.
            if byte == escape && escape != quote {
                escaped = !escaped;
                return false;
            }
            quoted = byte != quote || escaped;
            escaped = false;
            inner_lines += u64::from(byte == b'\n');
            false
        });
        (self.quoted, self.escaped, self.inner_lines) = (quoted, escaped, inner_lines);
        let Some(ahead) = ahead else {
            self.scanned = self.buffer.len();
            return Ok(Found::Nothing);
        };
        self.scanned += ahead;
        let at = self.scanned;
        Ok(match self.line_end(at)? {
            Some(end) => Found::Line(at, end),
            None => Found::Nothing,
        })
    }

    /// The values of a line.
    fn row(&mut self, line: &[u8], cells: &mut Cells) -> Result<()> {
        let width = self.names.len();
        if width == 0 {
            if !line.is_empty() {
                return Err(bad("extra data after last expected column"));
            }
            cells.row(self.line, 1);
            return Ok(());
        }
        let mut rest = Some(line);
        for column in 0..width {
            let Some(text) = rest else {
                let message = format!("missing data for column \"{}\"", cells.column(column));
                return Err(bad(message));
            };
            let bytes = cells.bytes(column);
            let (after, null) = match self.format.kind {
                CopyKind::Csv => csv_value(text, column, &self.format, bytes)?,
                _ => text_value(text, &self.format, bytes),
            };
            cells.end(column, null);
            rest = after;
        }
        if rest.is_some() {
            return Err(bad("extra data after last expected column"));
        }
        cells.row(self.line, line.len() + width);
        Ok(())
    }

    fn match_header(&mut self, line: &[u8]) -> Result<()> {
        let mut given = Vec::new();
        let mut rest = Some(line);
        while let Some(text) = rest {
            self.value.clear();
            let (after, null) = match self.format.kind {
                CopyKind::Csv => csv_value(text, usize::MAX, &self.format, &mut self.value)?,
                _ => text_value(text, &self.format, &mut self.value),
            };
            given.push((!null).then(|| String::from_utf8_lossy(&self.value).into_owned()));
            rest = after;
        }
        if given.len() != self.names.len() {
            let (got, expected) = (given.len(), self.names.len());
            let message = format!("wrong number of fields in header line: got {got}, expected {expected}");
            return Err(bad(message));
        }
        for (at, (got, expected)) in given.iter().zip(&self.names).enumerate() {
            let field = at + 1;
            match got {
                None => {
                    let message = format!(
                        "column name mismatch in header line field {field}: got null value (\"{}\"), expected \"{expected}\"",
                        self.format.null
                    );
                    return Err(bad(message));
                }
                Some(got) if got != expected => {
                    let message = format!(
                        "column name mismatch in header line field {field}: got \"{got}\", expected \"{expected}\""
                    );
                    return Err(bad(message));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Reads one value of a text line into `out`: what is left after its delimiter, if there was one, and whether
/// it is NULL.
fn text_value<'a>(line: &'a [u8], format: &CopyFormat, out: &mut Vec<u8>) -> (Option<&'a [u8]>, bool) {
    let delimiter = format.delimiter;
    let mut at = 0;
    let start = out.len();
    let end = loop {
        let plain = &line[at..];
        let Some(ahead) = plain.iter().position(|&byte| byte == delimiter || byte == b'\\') else {
            out.extend_from_slice(plain);
            break line.len();
        };
        out.extend_from_slice(&plain[..ahead]);
        at += ahead;
        if line[at] == delimiter {
            break at;
        }
        at += 1;
        let Some(&byte) = line.get(at) else { break at };
        at += 1;
        let digits = |most: usize, radix: u32, from: usize| {
            let digits = line[from..]
                .iter()
                .take(most)
                .map_while(|&b| char::from(b).to_digit(radix));
            digits.fold((0_u32, 0_usize), |(value, count), digit| {
                (value * radix + digit, count + 1)
            })
        };
        out.push(match byte {
            b'0'..=b'7' => {
                let (value, count) = digits(3, 8, at - 1);
                at += count - 1;
                // As in PostgreSQL, what is over a byte is cut off.
                (value & 0xff) as u8
            }
            b'x' => match digits(2, 16, at) {
                (_, 0) => b'x',
                (value, count) => {
                    at += count;
                    value as u8
                }
            },
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        });
    };
    let null = line[..end] == *format.null.as_bytes();
    if null {
        out.truncate(start);
    }
    // A delimiter at the very end is followed by one more value, an empty one.
    let rest = (end < line.len()).then(|| &line[end + 1..]);
    (rest, null)
}

/// The same of a CSV line.
fn csv_value<'a>(
    line: &'a [u8],
    column: usize,
    format: &CopyFormat,
    out: &mut Vec<u8>,
) -> Result<(Option<&'a [u8]>, bool)> {
    let (delimiter, quote, escape) = (format.delimiter, format.quote, format.escape);
    let start = out.len();
    let (mut at, mut quoted) = (0, false);
    'value: loop {
        let plain = &line[at..];
        let Some(ahead) = plain.iter().position(|&byte| byte == delimiter || byte == quote) else {
            out.extend_from_slice(plain);
            at = line.len();
            break;
        };
        out.extend_from_slice(&plain[..ahead]);
        at += ahead;
        if line[at] == delimiter {
            break;
        }
        quoted = true;
        at += 1;
        loop {
            let Some(&byte) = line.get(at) else {
                return Err(bad("unterminated CSV quoted field"));
            };
            at += 1;
            if byte == escape
                && let Some(&next) = line.get(at)
                && (next == escape || next == quote)
            {
                out.push(next);
                at += 1;
                continue;
            }
            if byte == quote {
                continue 'value;
            }
            out.push(byte);
        }
    }
    let is_null_text = out[start..] == *format.null.as_bytes();
    let forced = |marks: &[bool]| marks.get(column).copied().unwrap_or(false);
    let null = is_null_text
        && match quoted {
            false => !forced(&format.force_not_null),
            true => forced(&format.force_null),
        };
    if null {
        out.truncate(start);
    }
    let rest = (at < line.len()).then(|| &line[at + 1..]);
    Ok((rest, null))
}
