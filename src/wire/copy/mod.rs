//! COPY over the wire: rows out as CopyData, and CopyData in as batches of rows.
//!
//! [`out`] writes the three forms, [`lines`] (text and CSV) and [`binary`] read them; what they read gathers in
//! [`cells`], column by column, until there is enough of it for a batch. Nothing more of a COPY is in memory than
//! one message of the client, one row that has not ended yet and one batch.

mod binary;
mod cells;
mod lines;
mod out;
#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::stream;
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) use out::Encoder;

use self::{binary::Binary, cells::Cells, lines::Lines};
use super::{
    Trouble,
    cancel::Running,
    channel::Channel,
    complaint::clean,
    connection::Connection,
    frame::{self, Stage},
    portal::{Rows, Sent},
    values::Format,
};
use crate::{
    error::{Code, Error, Result},
    sql::{Column, CopyAnswer, CopyFormat, CopyKind, CopyTarget, RowStream, RowTag},
};

/// The tag of a COPY, which counts its rows.
const TAG: RowTag = RowTag("COPY");

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Carries out a COPY and gives its tag.
    pub(super) async fn copy(&mut self, answer: CopyAnswer, running: &mut Running) -> Result<String, Trouble> {
        match answer {
            CopyAnswer::Out { columns, rows, format } => self.copy_out(columns, rows, format, running).await,
            CopyAnswer::In { target, format } => self.copy_in(&target, format, running).await,
        }
    }

    async fn copy_out(
        &mut self,
        columns: Vec<Column>,
        rows: RowStream,
        format: CopyFormat,
        running: &mut Running,
    ) -> Result<String, Trouble> {
        let (code, formats) = formats(&format, columns.len())?;
        let each = match format.kind {
            CopyKind::Binary => Format::Binary,
            CopyKind::Text | CopyKind::Csv => Format::Text,
        };
        let mut encoder = Encoder::new(format, &columns);
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let mut rows = Rows::new(columns, vec![each; formats.len()], rows, TAG);
        // What fails at once fails before the client is told that rows come.
        rows.fetch(running).await?;
        let response = CopyOutResponse::new(code, formats.len() as i16, formats);
        self.channel.put(&response)?;
        encoder.begin(&names, &mut self.channel.out)?;
        let mut rows = rows.copied(encoder);
        let sent = rows.send(&mut self.channel, running, None).await?;
        rows.end_copy(&mut self.channel.out)?;
        self.channel.put(&CopyDone::new())?;
        match sent {
            Sent::All(tag) => Ok(tag),
            Sent::Suspended => Err(Error::internal("a COPY without a limit was suspended").into()),
        }
    }

    async fn copy_in(
        &mut self,
        target: &CopyTarget,
        format: CopyFormat,
        running: &mut Running,
    ) -> Result<String, Trouble> {
        let (code, formats) = formats(&format, target.columns.len())?;
        let response = CopyInResponse::new(code, formats.len() as i16, formats);
        self.channel.put(&response)?;
        running.run(self.channel.flush()).await?;
        let mut lost = None;
        let input = Input {
            channel: &mut self.channel,
            parser: Parser::new(&target.name, &target.columns, format),
            lost: &mut lost,
            state: State::Open,
        };
        let batches = stream::unfold(input, |mut input| async move {
            let next = input.next().await;
            next.map(|batch| (batch, input))
        });
        let copied = running.run(self.session.copy_in(target, Box::pin(batches))).await;
        match lost {
            Some(trouble) => Err(trouble),
            None => Ok(TAG.render(copied?)),
        }
    }
}

/// The overall format code and that of each column.
fn formats(format: &CopyFormat, columns: usize) -> Result<(i8, Vec<i16>)> {
    let code = i8::from(format.kind == CopyKind::Binary);
    match i16::try_from(columns) {
        Ok(_) => Ok((code, vec![code.into(); columns])),
        Err(_) => Err(Error::new(Code::TooLarge, "a COPY has too many columns")),
    }
}

/// Bytes of one of the forms, as they come, to batches of rows.
enum Parser {
    Lines(Lines, Cells),
    Binary(Binary, Cells),
}

impl Parser {
    fn new(table: &str, columns: &[Column], format: CopyFormat) -> Self {
        let binary = format.kind == CopyKind::Binary;
        let value_format = if binary { Format::Binary } else { Format::Text };
        let cells = Cells::new(table, columns, value_format);
        match binary {
            true => Self::Binary(Binary::new(columns.len()), cells),
            false => Self::Lines(Lines::new(format, columns), cells),
        }
    }

    /// Takes what the client sent.
    fn push(&mut self, bytes: &Bytes) -> Result<()> {
        match self {
            Self::Lines(lines, _) => lines.push(bytes),
            Self::Binary(binary, _) => binary.push(bytes),
        }
    }

    /// The client sends no more.
    fn finish(&mut self) {
        match self {
            Self::Lines(lines, _) => lines.finish(),
            Self::Binary(binary, _) => binary.finish(),
        }
    }

    /// The next full batch of what was taken; `None` when more must come first. After [`Parser::finish`] the
    /// last one may be smaller, and none comes after it.
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let (ended, cells) = match self {
            Self::Lines(lines, cells) => (lines.read(cells)?, cells),
            Self::Binary(binary, cells) => (binary.read(cells)?, cells),
        };
        match cells.is_full() || (ended && !cells.is_empty()) {
            true => cells.take().map(Some),
            false => Ok(None),
        }
    }
}

enum State {
    /// More may come.
    Open,
    /// The client has said that this is all.
    Finished,
    /// Nothing is to be read any more.
    Over,
}

/// The client's side of a COPY FROM STDIN.
struct Input<'a, S> {
    channel: &'a mut Channel<S>,
    parser: Parser,
    /// What ends the connection, rather than the statement.
    lost: &'a mut Option<Trouble>,
    state: State,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Input<'_, S> {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if matches!(self.state, State::Over) {
            return None;
        }
        let next = self.read().await;
        if !matches!(next, Ok(Some(_))) {
            self.state = State::Over;
        }
        next.transpose()
    }

    async fn read(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.parser.batch()? {
                return Ok(Some(batch));
            }
            if matches!(self.state, State::Finished) {
                return Ok(None);
            }
            // A client that sends more than is used up waits here.
            let (kind, body) = match self.channel.frame(Stage::Session).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Err(self.lose(Trouble::Gone)),
                Err(trouble) => return Err(self.lose(trouble)),
            };
            match kind {
                b'd' => self.parser.push(&body)?,
                b'c' => {
                    self.parser.finish();
                    self.state = State::Finished;
                }
                b'f' => {
                    let said = frame::copy_fail(body)?;
                    let message = format!("COPY from stdin failed: {}", clean(&said));
                    return Err(Error::new(Code::QueryCanceled, message));
                }
                // Those who send them at once with Execute have not waited for the answer.
                b'H' | b'S' => {}
                b'X' => return Err(self.lose(Trouble::Gone)),
                other => {
                    let message = format!("unexpected message type 0x{other:02X} during COPY from stdin");
                    return Err(frame::violation(message));
                }
            }
            // A client that always has more ready must not keep its neighbours waiting.
            tokio::task::consume_budget().await;
        }
    }

    fn lose(&mut self, trouble: Trouble) -> Error {
        *self.lost = Some(trouble);
        Error::new(Code::ProtocolViolation, "the connection ended during COPY from stdin")
    }
}
