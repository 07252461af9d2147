//! Values that have come in, column by column, until they are a batch.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray},
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{Schema, SchemaRef},
};

use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Error, Result},
    limits,
    sql::Column,
    wire::{decode, values::Format},
};

/// Characters of a value or a line that an error shows.
const SHOWN_CHARS: usize = 100;

/// The values of one column: their bytes one after the other, and where each ends.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    ends: Vec<(usize, bool)>,
}

impl Values {
    /// Each value, `None` for NULL.
    fn all(&self) -> Vec<Option<&[u8]>> {
        let mut start = 0;
        let value = |&(end, null): &(usize, bool)| {
            let value = &self.bytes[start..end];
            start = end;
            (!null).then_some(value)
        };
        self.ends.iter().map(value).collect()
    }

    /// The values as an array of text without looking at each by itself. `None` where one of them is no text.
    fn texts(&self) -> Option<ArrayRef> {
        let whole = std::str::from_utf8(&self.bytes)
            .ok()
            .filter(|text| !text.contains('\0'))?;
        if !self.ends.iter().all(|&(end, _)| whole.is_char_boundary(end)) {
            return None;
        }
        let offsets: Option<Vec<i32>> = std::iter::once(Some(0))
            .chain(self.ends.iter().map(|&(end, _)| i32::try_from(end).ok()))
            .collect();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets?));
        let valid: Vec<bool> = self.ends.iter().map(|&(_, null)| !null).collect();
        let bytes = Buffer::from(self.bytes.as_slice());
        let array = StringArray::try_new(offsets, bytes, Some(NullBuffer::from(valid)));
        Some(Arc::new(array.ok()?))
    }
}

/// Types whose values are kept as they are written.
fn is_plain_text(pg_type: PgType) -> bool {
    use Scalar::{Bpchar, Text, Varchar};
    matches!(pg_type, PgType::Scalar(Text | Varchar | Bpchar))
}

/// Rows in the making.
pub(super) struct Cells {
    table: String,
    columns: Vec<Column>,
    format: Format,
    schema: SchemaRef,
    values: Vec<Values>,
    /// The line on which each row ends.
    lines: Vec<u64>,
    bytes: usize,
}

impl Cells {
    pub(super) fn new(table: &str, columns: &[Column], format: Format) -> Self {
        let field = |c: &Column| c.pg_type.field_of(&c.name, true, c.type_modifier);
        Self {
            table: table.to_owned(),
            columns: columns.to_vec(),
            format,
            schema: Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())),
            values: columns.iter().map(|_| Values::default()).collect(),
            lines: Vec::new(),
            bytes: 0,
        }
    }

    /// The columns' names.
    pub(super) fn column(&self, column: usize) -> &str {
        &self.columns[column].name
    }

    /// Where the bytes of the next value of a column go, followed by [`Cells::end`].
    pub(super) fn bytes(&mut self, column: usize) -> &mut Vec<u8> {
        &mut self.values[column].bytes
    }

    /// The value whose bytes were put is whole.
    pub(super) fn end(&mut self, column: usize, null: bool) {
        let values = &mut self.values[column];
        values.ends.push((values.bytes.len(), null));
    }

    /// The row is whole.
    pub(super) fn row(&mut self, line: u64, bytes: usize) {
        self.lines.push(line);
        self.bytes += bytes;
    }

    /// Whether it is time for a batch.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= limits::COPY_BATCH_ROWS || self.bytes >= limits::COPY_BATCH_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The rows as a batch; what was a value of no use is an error with its place.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, values) in self.columns.iter().zip(&self.values) {
            if is_plain_text(column.pg_type)
                && let Some(array) = values.texts()
            {
                arrays.push(array);
                continue;
            }
            match decode::column(column.pg_type, column.type_modifier, self.format, &values.all()) {
                Ok(array) => arrays.push(array),
                Err(error) => return Err(self.first_error().unwrap_or(error)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.lines.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options);
        for values in &mut self.values {
            values.ends.clear();
            // A row of megabytes shall not keep its room for those that come after it.
            match values.bytes.capacity() > limits::COPY_BATCH_BYTES {
                true => values.bytes = Vec::new(),
                false => values.bytes.clear(),
            }
        }
        self.lines.clear();
        self.bytes = 0;
        batch.map_err(Error::internal)
    }

    /// The error that reading row by row would have met first.
    fn first_error(&self) -> Option<Error> {
        let values: Vec<_> = self.values.iter().map(Values::all).collect();
        for (row, line) in self.lines.iter().enumerate() {
            for (column, values) in self.columns.iter().zip(&values) {
                let value = values.get(row).copied().flatten();
                if let Err(error) = decode::column(column.pg_type, column.type_modifier, self.format, &[value]) {
                    let place = format!("COPY {}, line {line}, column {}", self.table, column.name);
                    return Some(match (value, self.format) {
                        (Some(value), Format::Text) => error.with_context(format!("{place}: \"{}\"", shown(value))),
                        (None, Format::Text) => error.with_context(format!("{place}: null input")),
                        (_, Format::Binary) => error.with_context(place),
                    });
                }
            }
        }
        None
    }

    /// An error of a whole row.
    pub(super) fn wrong_line(&self, error: Error, line: u64, text: Option<&[u8]>) -> Error {
        let place = format!("COPY {}, line {line}", self.table);
        match text {
            Some(text) => error.with_context(format!("{place}: \"{}\"", shown(text))),
            None => error.with_context(place),
        }
    }
}

/// The beginning of what came, as far as it is text.
fn shown(bytes: &[u8]) -> String {
    // A character has at most four bytes.
    let beginning = &bytes[..bytes.len().min(SHOWN_CHARS * 4)];
    let text = String::from_utf8_lossy(beginning);
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < bytes.len() && text.chars().count() > SHOWN_CHARS {
        shown.push_str("...");
    }
    shown
}
