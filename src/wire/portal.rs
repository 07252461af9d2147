//! A statement with its values, and the rows it gives: sent as the client takes them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::BytesMut;
use futures::{StreamExt, future::poll_immediate};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Trouble, cancel::Running, channel::Channel, copy, encode, values::Format};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{Answer, Column, Prepared, RowStream, RowTag},
};

/// What Bind makes and Execute runs.
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) parameters: Vec<ArrayRef>,
    /// One for each column.
    pub(super) formats: Vec<Format>,
    pub(super) state: State,
}

/// How far a portal is.
pub(super) enum State {
    /// Not executed yet.
    Bound,
    /// Executed; rows may be left.
    Rows(Box<Rows>),
    /// A statement without rows has run.
    Done,
}

/// Rows on their way to the client.
pub(super) struct Rows {
    columns: Vec<Column>,
    formats: Vec<Format>,
    rows: Option<RowStream>,
    tag: RowTag,
    batch: Option<(encode::Rows, usize)>,
    /// How they are written in a COPY; else they are DataRows.
    copy: Option<copy::Encoder>,
}

/// How one round of sending ended.
pub(super) enum Sent {
    /// There are no more rows; the tag counts those of this round.
    All(String),
    /// The limit was reached.
    Suspended,
}

impl Rows {
    pub(super) fn new(columns: Vec<Column>, formats: Vec<Format>, rows: RowStream, tag: RowTag) -> Self {
        Self {
            columns,
            formats,
            rows: Some(rows),
            tag,
            batch: None,
            copy: None,
        }
    }

    /// The same rows as CopyData.
    pub(super) fn copied(mut self, encoder: copy::Encoder) -> Self {
        self.copy = Some(encoder);
        self
    }

    /// What ends the rows of a COPY.
    pub(super) fn end_copy(&mut self, out: &mut BytesMut) -> Result<()> {
        self.copy.as_mut().map_or(Ok(()), |encoder| encoder.end(out))
    }

    /// Sends rows until there are none or `limit` are sent. As in PostgreSQL, reaching the limit with the
    /// last row still counts as suspended: nobody has looked further.
    pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        channel: &mut Channel<S>,
        running: &mut Running,
        limit: Option<u64>,
    ) -> Result<Sent, Trouble> {
        let mut sent = 0;
        loop {
            if let Some((rows, next)) = &mut self.batch {
                while *next < rows.count() {
                    if limit == Some(sent) {
                        return Ok(Sent::Suspended);
                    }
                    match &mut self.copy {
                        None => rows.put(*next, &mut channel.out)?,
                        Some(encoder) => encoder.put(rows, *next, &mut channel.out)?,
                    }
                    *next += 1;
                    sent += 1;
                    if channel.out.len() >= limits::WRITE_BUFFER_BYTES {
                        running.run(channel.flush()).await?;
                    }
                }
            }
            self.batch = None;
            if limit == Some(sent) {
                return Ok(Sent::Suspended);
            }
            if self.rows.is_none() {
                return Ok(Sent::All(self.tag.render(sent)));
            }
            self.fetch_or_flush(channel, running).await?;
        }
    }

    /// Computes the next rows. Where that takes time, those that are ready go out first: an answer that comes
    /// word by word is read word by word.
    async fn fetch_or_flush<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        channel: &mut Channel<S>,
        running: &mut Running,
    ) -> Result<(), Trouble> {
        let Some(stream) = &mut self.rows else { return Ok(()) };
        let ready = running.run(async { Ok::<_, Error>(poll_immediate(stream.next()).await) });
        match ready.await? {
            Some(next) => self.took(next.transpose()?),
            None => {
                if !channel.out.is_empty() {
                    running.run(channel.flush()).await?;
                }
                self.fetch(running).await
            }
        }
    }

    /// Computes the next rows. Called before the columns are told, it lets what fails at once fail without
    /// them, as it does in PostgreSQL, which evaluates constants when it plans.
    pub(super) async fn fetch(&mut self, running: &mut Running) -> Result<(), Trouble> {
        let Some(stream) = &mut self.rows else { return Ok(()) };
        let next = running.run(async { stream.next().await.transpose() }).await?;
        self.took(next)
    }

    fn took(&mut self, next: Option<RecordBatch>) -> Result<(), Trouble> {
        match next {
            Some(batch) => self.batch = Some((encode::Rows::new(&self.columns, &self.formats, &batch)?, 0)),
            // Dropped at once: it may hold memory and locks that a suspended portal need not.
            None => self.rows = None,
        }
        Ok(())
    }
}

impl Portal {
    /// Keeps the answer of the first Execute. The columns must be those that were described.
    pub(super) fn started(&mut self, answer: Answer) -> Result<Option<String>> {
        match answer {
            Answer::Rows { columns, rows, tag } => {
                let types = |columns: &[Column]| columns.iter().map(|c| c.pg_type).collect::<Vec<_>>();
                if types(&columns) != types(&self.prepared.columns) {
                    return Err(Error::new(Code::Unsupported, "cached plan must not change result type"));
                }
                self.state = State::Rows(Box::new(Rows::new(columns, self.formats.clone(), rows, tag)));
                Ok(None)
            }
            Answer::Done { tag } => {
                self.state = State::Done;
                Ok(Some(tag))
            }
            Answer::Empty => {
                self.state = State::Done;
                Ok(None)
            }
            Answer::Copy(_) => Err(Error::internal("a COPY was taken for a query")),
        }
    }
}
