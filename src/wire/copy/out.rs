//! Rows as CopyData messages: text, CSV and binary.

use bytes::{BufMut, BytesMut};

use crate::{
    error::Result,
    sql::{Column, CopyFormat, CopyKind, Header},
    wire::encode::{self, patch_length},
};

/// What every binary COPY begins with: the signature, no flags, no header extension.
pub(super) const BINARY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Writes the rows of one COPY.
pub(in crate::wire) struct Encoder {
    format: CopyFormat,
    columns: usize,
    /// The header of the binary form, until the first message took it along: some clients look for it there.
    pending: &'static [u8],
}

impl Encoder {
    pub(super) fn new(format: CopyFormat, columns: &[Column]) -> Self {
        let pending: &[u8] = match format.kind {
            CopyKind::Binary => BINARY_HEADER,
            CopyKind::Text | CopyKind::Csv => &[],
        };
        Self {
            format,
            columns: columns.len(),
            pending,
        }
    }

    /// One message of what `put` writes; on an error nothing is appended.
    fn message(&mut self, out: &mut BytesMut, put: impl FnOnce(&Self, &mut BytesMut) -> Result<()>) -> Result<()> {
        let start = out.len();
        out.put_u8(b'd');
        out.put_i32(0);
        out.put_slice(std::mem::take(&mut self.pending));
        let written = put(self, out).and_then(|()| patch_length(out, start + 1, start + 1));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// The line of the columns' names, if there is to be one.
    pub(super) fn begin(&mut self, names: &[String], out: &mut BytesMut) -> Result<()> {
        if self.format.header == Header::No {
            return Ok(());
        }
        self.message(out, |encoder, out| {
            for (at, name) in names.iter().enumerate() {
                if at > 0 {
                    out.put_u8(encoder.format.delimiter);
                }
                let start = out.len();
                out.put_slice(name.as_bytes());
                match encoder.format.kind {
                    CopyKind::Csv => encoder.quote(start, false, out),
                    _ => encoder.escape(start, out),
                }
            }
            out.put_u8(b'\n');
            Ok(())
        })
    }

    /// One row.
    pub(in crate::wire) fn put(&mut self, rows: &encode::Rows, row: usize, out: &mut BytesMut) -> Result<()> {
        match self.format.kind {
            CopyKind::Binary => self.message(out, |encoder, out| {
                out.put_i16(encoder.columns as i16);
                (0..encoder.columns).try_for_each(|column| rows.put_sized_cell(row, column, out))
            }),
            kind => self.message(out, |encoder, out| {
                for column in 0..encoder.columns {
                    if column > 0 {
                        out.put_u8(encoder.format.delimiter);
                    }
                    let start = out.len();
                    match (rows.put_cell(row, column, out)?, kind) {
                        (false, _) => out.put_slice(encoder.format.null.as_bytes()),
                        (true, CopyKind::Csv) => encoder.quote(start, encoder.format.force_quote[column], out),
                        (true, _) => encoder.escape(start, out),
                    }
                }
                out.put_u8(b'\n');
                Ok(())
            }),
        }
    }

    /// What ends the rows.
    pub(in crate::wire) fn end(&mut self, out: &mut BytesMut) -> Result<()> {
        match self.format.kind {
            CopyKind::Binary => self.message(out, |_, out| {
                out.put_i16(-1);
                Ok(())
            }),
            CopyKind::Text | CopyKind::Csv => Ok(()),
        }
    }

    /// Puts backslashes into the value that begins at `start`.
    fn escape(&self, start: usize, out: &mut BytesMut) {
        let delimiter = self.format.delimiter;
        let letter = |byte: u8| match byte {
            0x08 => Some(b'b'),
            0x0c => Some(b'f'),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            0x0b => Some(b'v'),
            b'\\' => Some(b'\\'),
            byte if byte == delimiter => Some(byte),
            _ => None,
        };
        let Some(first) = out[start..].iter().position(|&byte| letter(byte).is_some()) else {
            return;
        };
        let rest = out.split_off(start + first);
        out.reserve(rest.len() + rest.len() / 8);
        for &byte in &rest {
            match letter(byte) {
                Some(letter) => out.put_slice(&[b'\\', letter]),
                None => out.put_u8(byte),
            }
        }
    }

    /// Puts the value that begins at `start` into quotes, if it needs them.
    fn quote(&self, start: usize, always: bool, out: &mut BytesMut) {
        let CopyFormat {
            delimiter,
            quote,
            escape,
            ..
        } = self.format;
        let value = &out[start..];
        let special = |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
        let needed = always
            || value == self.format.null.as_bytes()
            || (self.columns == 1 && value == b"\\.")
            || value.iter().any(special);
        if !needed {
            return;
        }
        let plain = out.split_off(start);
        out.reserve(plain.len() + 2);
        out.put_u8(quote);
        for &byte in &plain {
            if byte == quote || byte == escape {
                out.put_u8(escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(quote);
    }
}
