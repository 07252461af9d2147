//! One session over one socket: the loop that reads a request, answers it and survives its failure.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::FutureExt;
use pgwire::messages::{
    data::{FieldDescription, RowDescription},
    response::{CommandComplete, NotificationResponse, ReadyForQuery, TransactionStatus},
    startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use super::{
    Stop, Trouble,
    cancel::{self, Running, Ticket},
    channel::Channel,
    complaint::{self, Severity, clean},
    frame::{self, Request, Stage},
    portal::Portal,
    presence::Presence,
    values::Format,
};
use crate::{
    error::{Code, Error, Result},
    sql::{Column, Notification, Session},
};

/// What a finished login gives to the connection.
pub(super) struct Parts {
    pub(super) session: Session,
    pub(super) ticket: Ticket,
    pub(super) stop: watch::Receiver<Stop>,
    pub(super) place: OwnedSemaphorePermit,
}

/// A logged-in client.
pub(super) struct Connection<S> {
    pub(super) channel: Channel<S>,
    pub(super) session: Session,
    pub(super) portals: HashMap<String, Portal>,
    ticket: Ticket,
    stop: watch::Receiver<Stop>,
    presence: Arc<Presence>,
    /// Whether the statements since the last ReadyForQuery are one implicit transaction.
    implicit: bool,
    /// Whether one of them failed.
    failed: bool,
    /// Whether everything is skipped up to the next Sync, as after an error in the extended protocol.
    skipping: bool,
    /// Whether nothing has been asked since the last ReadyForQuery and no transaction is open: the only
    /// time at which a client expects to be told something.
    at_rest: bool,
    /// The place among all connections, given back at the end.
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(channel: Channel<S>, parts: Parts, presence: Presence) -> Self {
        let Parts {
            session,
            ticket,
            stop,
            place,
        } = parts;
        let portals = HashMap::new();
        Self {
            channel,
            session,
            portals,
            ticket,
            stop,
            presence: Arc::new(presence),
            implicit: false,
            failed: false,
            skipping: false,
            at_rest: false,
            _place: place,
        }
    }

    /// Serves the session to its end.
    pub(super) async fn run(mut self) {
        let trouble = match AssertUnwindSafe(self.serve()).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(trouble)) => trouble,
            // Not in a statement, so nobody knows what state this connection is in.
            Err(_) => Trouble::Fatal(cancel::panicked()),
        };
        if let Trouble::Fatal(error) | Trouble::Statement(error) = trouble
            && self.channel.put(&complaint::error(Severity::Fatal, &error)).is_ok()
        {
            self.channel.close().await;
        }
    }

    async fn serve(&mut self) -> Result<(), Trouble> {
        self.welcome()?;
        self.ready().await?;
        while let Some((kind, body)) = self.next().await? {
            if self.skipping && !matches!(kind, b'S' | b'X') {
                continue;
            }
            match self.answer(kind, body).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Trouble::Statement(error)) if self.session.is_over() => return Err(Trouble::Fatal(error)),
                Err(Trouble::Statement(error)) => self.statement_failed(kind, &error).await?,
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    fn welcome(&mut self) -> Result<()> {
        self.channel.put(&Authentication::Ok)?;
        for (name, value) in self.session.parameters() {
            self.channel
                .put(&ParameterStatus::new(name.to_owned(), clean(&value)))?;
        }
        let key = SecretKey::Bytes(self.ticket.key.clone());
        self.channel.put(&BackendKeyData::new(self.ticket.pid, key))
    }

    /// Waits for the next frame; a stop of the server and too long a silence end the session. A client
    /// that listens is told meanwhile, which does not make its silence shorter.
    async fn next(&mut self) -> Result<Option<(u8, Bytes)>, Trouble> {
        let in_transaction = self.session.status() != b'I';
        let deadline = Instant::now() + self.session.idle_timeout();
        loop {
            let frame = tokio::time::timeout_at(deadline, self.channel.frame(Stage::Session));
            tokio::select! {
                biased;
                () = self.ticket.interrupt.terminated() => return Err(Trouble::Fatal(cancel::stopping())),
                _ = self.stop.wait_for(|stop| *stop != Stop::No) => return Err(Trouble::Fatal(cancel::stopping())),
                frame = frame => return frame.unwrap_or_else(|_| {
                    let (code, what) = match in_transaction {
                        true => (Code::IdleInTransaction, "idle-in-transaction"),
                        false => (Code::IdleTimeout, "idle-session"),
                    };
                    Err(Trouble::Fatal(Error::new(code, format!("terminating connection due to {what} timeout"))))
                }),
                () = self.session.notified(), if self.at_rest => {}
            };
            // Who may not ask any more is not told any more.
            self.session.check_alive().map_err(Trouble::Fatal)?;
            let notifications = self.session.take_notifications();
            notifications
                .iter()
                .try_for_each(|notification| self.tell(notification))?;
            self.channel.flush().await?;
        }
    }

    fn tell(&mut self, notification: &Notification) -> Result<()> {
        let (channel, payload) = (clean(&notification.channel), clean(&notification.payload));
        self.channel
            .put(&NotificationResponse::new(notification.pid, channel, payload))
    }

    /// Answers one frame; `false` ends the session.
    async fn answer(&mut self, kind: u8, body: Bytes) -> Result<bool, Trouble> {
        // The rest of a failed COPY asks for nothing, and nothing answers it.
        self.at_rest &= matches!(kind, b'd' | b'c' | b'f');
        match frame::request(kind, body)? {
            Request::Query(query) => {
                self.query(&query.query).await?;
                self.ready().await?;
            }
            Request::Parse(parse) => self.parse(parse).await?,
            Request::Bind(bind) => self.bind(bind)?,
            Request::Describe(describe) => self.describe(describe)?,
            Request::Execute(execute) => self.execute(execute).await?,
            Request::Close(close) => self.close(close)?,
            Request::Flush => self.channel.flush().await?,
            Request::Sync => {
                self.skipping = false;
                self.ready().await?;
            }
            Request::FunctionCall => {
                return Err(Error::new(Code::Unsupported, "function calls of the fast path are not supported").into());
            }
            Request::Copy => {}
            Request::Terminate => return Ok(false),
        }
        Ok(true)
    }

    /// Tells of a failed statement. The extended protocol then skips to Sync; a simple query is over.
    async fn statement_failed(&mut self, kind: u8, error: &Error) -> Result<(), Trouble> {
        self.failed = true;
        self.session.failed(error);
        self.notices()?;
        self.channel.put(&complaint::error(Severity::Error, error))?;
        match kind {
            b'Q' | b'F' | b'S' => self.ready().await,
            _ => {
                self.skipping = true;
                self.channel.flush().await
            }
        }
    }

    /// Ends a cycle: commits what was implicit, reports settings and asks for more.
    async fn ready(&mut self) -> Result<(), Trouble> {
        self.skipping = false;
        let ok = !std::mem::take(&mut self.failed);
        if let Err(error) = self.end_implicit(ok).await {
            self.session.failed(&error);
            self.channel.put(&complaint::error(Severity::Error, &error))?;
        }
        let status = self.session.status();
        // Portals live as long as their transaction.
        if status != b'T' {
            self.portals.clear();
        }
        self.notices()?;
        for (name, value) in self.session.take_parameter_changes() {
            self.channel
                .put(&ParameterStatus::new(name.to_owned(), clean(&value)))?;
        }
        self.session.show_idle();
        self.at_rest = status == b'I';
        if self.at_rest {
            let notifications = self.session.take_notifications();
            notifications
                .iter()
                .try_for_each(|notification| self.tell(notification))?;
        }
        let status = TransactionStatus::try_from(status).map_err(Error::internal)?;
        self.channel.put(&ReadyForQuery::new(status))?;
        self.channel.flush().await
    }

    /// The statements from here to the end of the cycle are one transaction, or begin another one if a
    /// COMMIT among them ended the first. Called before each of them.
    pub(super) fn begin_implicit(&mut self, several: bool) {
        self.implicit = true;
        self.session.begin_implicit(several);
    }

    /// Commits (or drops, after a failure) what [`Connection::begin_implicit`] began. A commit is neither
    /// cancelled nor timed: its outcome must be known.
    pub(super) async fn end_implicit(&mut self, ok: bool) -> Result<()> {
        if !std::mem::take(&mut self.implicit) {
            self.session.look_away();
            return Ok(());
        }
        let ended = AssertUnwindSafe(self.session.end_implicit(ok)).catch_unwind().await;
        ended.unwrap_or_else(|_| Err(cancel::panicked()))
    }

    /// Marks the beginning of a statement that can be cancelled and timed.
    pub(super) fn running(&self) -> Running {
        let (commitment, timeout) = (self.session.commitment(), self.session.statement_timeout());
        Running::new(&self.ticket.interrupt, &self.stop, commitment, timeout).watching(self.presence.clone())
    }

    /// The end of a statement: what it had to say besides, and its tag.
    pub(super) fn complete(&mut self, tag: &str) -> Result<()> {
        self.notices()?;
        self.channel.put(&CommandComplete::new(clean(tag)))
    }

    fn notices(&mut self) -> Result<()> {
        self.session
            .take_notices()
            .iter()
            .try_for_each(|notice| self.channel.put(&complaint::notice(notice)))
    }
}

/// The RowDescription of columns.
pub(super) fn row_description(columns: &[Column], formats: &[Format]) -> Result<RowDescription> {
    if i16::try_from(columns.len()).is_err() {
        return Err(Error::new(Code::TooLarge, "a result has too many columns"));
    }
    let field = |(column, format): (&Column, &Format)| {
        let (oid, size) = (column.pg_type.oid(), column.pg_type.size());
        FieldDescription::new(
            clean(&column.name),
            // As drivers have it, an OID is signed.
            column.origin.map_or(0, |(table, _)| table.cast_signed()),
            column.origin.map_or(0, |(_, number)| number),
            oid,
            size,
            column.type_modifier,
            format.code(),
        )
    };
    Ok(RowDescription::new(
        std::iter::zip(columns, formats).map(field).collect(),
    ))
}
