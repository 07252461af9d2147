//! The binary form on its way in.

use bytes::{Buf, Bytes, BytesMut};

use super::{cells::Cells, out::BINARY_HEADER};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// Bytes of the signature that begins the header.
const SIGNATURE_BYTES: usize = 11;
/// Flags that a reader must understand; none is defined but that of oids, which are gone.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
const OIDS_FLAG: u32 = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    /// So many bytes of the header's extension are skipped.
    Extension(usize),
    Rows,
    /// After the trailer nothing may come.
    Trailer,
}

/// Bytes to rows.
pub(super) struct Binary {
    columns: usize,
    buffer: BytesMut,
    state: State,
    /// How many bytes the next row has at least.
    needed: usize,
    line: u64,
    finished: bool,
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Code::BadCopyFormat, message)
}

impl Binary {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            columns,
            buffer: BytesMut::new(),
            state: State::Header,
            needed: 0,
            line: 0,
            finished: false,
        }
    }

    pub(super) fn push(&mut self, bytes: &Bytes) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Reads rows until `cells` is full or more must come; true at the end of the data.
    pub(super) fn read(&mut self, cells: &mut Cells) -> Result<bool> {
        while !cells.is_full() {
            let went_on = match self.state {
                State::Header => self.header()?,
                State::Extension(left) => self.extension(left),
                State::Rows => {
                    let (line, row) = (self.line + 1, self.row(cells));
                    row.map_err(|error| cells.wrong_line(error, line, None))?
                }
                State::Trailer if self.buffer.is_empty() => false,
                State::Trailer => {
                    let error = bad("received copy data after EOF marker");
                    return Err(cells.wrong_line(error, self.line + 1, None));
                }
            };
            if went_on {
                continue;
            }
            let between_rows = matches!(self.state, State::Rows | State::Trailer) && self.buffer.is_empty();
            return match (self.finished, between_rows, self.state) {
                (false, ..) => Ok(false),
                (true, true, _) => Ok(true),
                (true, false, State::Header) => Err(bad("COPY file signature not recognized")),
                (true, false, _) => Err(cells.wrong_line(bad("unexpected EOF in COPY data"), self.line + 1, None)),
            };
        }
        Ok(false)
    }

    fn header(&mut self) -> Result<bool> {
        let seen = self.buffer.len().min(SIGNATURE_BYTES);
        if self.buffer[..seen] != BINARY_HEADER[..seen] {
            return Err(bad("COPY file signature not recognized"));
        }
        if self.buffer.len() < BINARY_HEADER.len() {
            return Ok(false);
        }
        self.buffer.advance(SIGNATURE_BYTES);
        let flags = self.buffer.get_u32();
        if flags & OIDS_FLAG != 0 {
            return Err(bad("invalid COPY file header (WITH OIDS)"));
        }
        if flags & CRITICAL_FLAGS != 0 {
            return Err(bad("unrecognized critical flags in COPY file header"));
        }
        let extension = self.buffer.get_i32();
        let extension = usize::try_from(extension).map_err(|_| bad("invalid COPY file header (missing length)"))?;
        self.state = State::Extension(extension);
        Ok(true)
    }

    fn extension(&mut self, left: usize) -> bool {
        let skipped = left.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.state = match left - skipped {
            0 => State::Rows,
            left => State::Extension(left),
        };
        self.state == State::Rows
    }

    /// Takes one row; false if it is not all there.
    fn row(&mut self, cells: &mut Cells) -> Result<bool> {
        if self.buffer.len() < self.needed.max(2) {
            return Ok(false);
        }
        let count = i16::from_be_bytes([self.buffer[0], self.buffer[1]]);
        if count == -1 {
            self.buffer.advance(2);
            self.state = State::Trailer;
            return Ok(true);
        }
        if usize::try_from(count) != Ok(self.columns) {
            return Err(bad(format!("row field count is {count}, expected {}", self.columns)));
        }
        // First all lengths, so that no half row is taken.
        let mut end = 2;
        for column in 0..self.columns {
            let Some(length) = self.buffer.get(end..end + 4) else {
                self.needed = end + 4;
                return Ok(false);
            };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            end += 4;
            match usize::try_from(length) {
                Ok(length) => end += length,
                Err(_) if length == -1 => {}
                Err(_) => {
                    let message = format!("invalid field size in column \"{}\"", cells.column(column));
                    return Err(bad(message));
                }
            }
            if end > limits::COPY_ROW_BYTES {
                let message = format!(
                    "a row of COPY is too large: at most {} bytes are allowed",
                    limits::COPY_ROW_BYTES
                );
                return Err(Error::new(Code::TooLarge, message));
            }
        }
        if self.buffer.len() < end {
            self.needed = end;
            return Ok(false);
        }
        let mut row = self.buffer.split_to(end);
        row.advance(2);
        for column in 0..self.columns {
            let length = usize::try_from(row.get_i32()).ok();
            if let Some(length) = length {
                let value = row.split_to(length);
                cells.bytes(column).extend_from_slice(&value);
            }
            cells.end(column, length.is_none());
        }
        self.line += 1;
        self.needed = 0;
        cells.row(self.line, end);
        Ok(true)
    }
}
