//! The PostgreSQL protocol, from the socket to [`crate::sql::Session`] and back.
//!
//! A connection's life: `startup` settles encryption and reads the startup message, `login` proves who
//! is there, `connection` serves the session until it ends. In it `frame` judges every byte before
//! anything acts on it, `simple` and `extended` are the two ways to query, `portal` streams rows with
//! back-pressure, `encode` and `decode` turn Arrow into wire values and back,
//! `copy` moves rows in bulk, `cancel` stops statements,
//! and `complaint` says what went wrong.
//!
//! Only this folder names pgwire, and only its message structs: sockets, limits, TLS and states are ours.
//! Never is a byte acted on that was not part of a whole, checked frame. Only a finished login leads to
//! ReadyForQuery. Never is more of a result in memory here than one batch and one buffer.

mod cancel;
mod channel;
mod complaint;
mod connection;
#[cfg(test)]
mod connection_tests;
mod copy;
mod decode;
mod encode;
mod extended;
mod frame;
mod login;
mod portal;
mod presence;
mod simple;
mod startup;
mod tls;
mod transport;
mod values;

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot, watch},
};

use crate::codec::{datetime, numeric};
pub use encode::text_rows;
pub use tls::TlsFiles;

use self::{
    cancel::Cancels,
    channel::Channel,
    complaint::Severity,
    connection::{Connection, Parts},
    presence::Presence,
    startup::{Opening, Startup},
    tls::Tls,
    transport::Transport,
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{Engine, Session},
};

/// How far a server's stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It runs.
    No,
    /// Sessions end when their statement does.
    Idle,
    /// Statements are interrupted too.
    Now,
}

/// Why a request was not answered as asked.
enum Trouble {
    /// The statement failed; the connection goes on.
    Statement(Error),
    /// The client is told and the connection ends.
    Fatal(Error),
    /// There is nobody to tell.
    Gone,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Statement(error)
    }
}

/// What all connections of a server share.
pub(crate) struct Door {
    engine: Arc<Engine>,
    tls: Option<Tls>,
    require_tls: bool,
    cancels: Arc<Cancels>,
    connections: Arc<Semaphore>,
    stop: watch::Receiver<Stop>,
}

impl Door {
    /// A door to `engine`. With `require_tls`, logins over plain sockets are refused.
    pub(crate) fn new(
        engine: Arc<Engine>,
        tls: Option<&TlsFiles>,
        require_tls: bool,
        stop: watch::Receiver<Stop>,
    ) -> Result<Self> {
        if require_tls && tls.is_none() {
            let error = Error::new(
                Code::InvalidParameterValue,
                "TLS is required, but no certificate and key are set",
            );
            return Err(error.with_hint("name a certificate and a key, or do not require TLS"));
        }
        Ok(Self {
            engine,
            tls: tls.map(Tls::load).transpose()?,
            require_tls,
            cancels: Arc::default(),
            connections: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            stop,
        })
    }

    /// Serves one client until it leaves. A login ends early when the sender of `evicted` goes away (its
    /// place among the pending ones is needed); `login_over` is called when it holds no place any more.
    pub(crate) async fn serve(
        &self,
        socket: TcpStream,
        peer: IpAddr,
        evicted: oneshot::Receiver<()>,
        login_over: impl FnOnce(),
    ) {
        let mut stop = self.stop.clone();
        // Past the deadline the socket is closed without a word, as PostgreSQL does.
        let login = tokio::time::timeout(limits::LOGIN_DEADLINE, self.log_in(socket, peer));
        let connection = tokio::select! {
            biased;
            _ = evicted => None,
            _ = stop.wait_for(|stop| *stop != Stop::No) => None,
            connection = login => connection.ok().flatten(),
        };
        login_over();
        if let Some(connection) = connection {
            connection.run().await;
        }
    }

    async fn log_in(&self, socket: TcpStream, peer: IpAddr) -> Option<Connection<Transport>> {
        let presence = Presence::of(&socket);
        let (transport, startup) = match startup::open(socket, peer, self.tls.as_ref(), &self.cancels).await {
            Opening::Login(transport, startup) => (transport, startup),
            Opening::Over => return None,
            Opening::Refused(transport, error) => {
                refuse(Channel::new(transport), &error).await;
                return None;
            }
        };
        let mut channel = Channel::new(transport);
        match self.admit(&mut channel, &startup, peer).await {
            Ok(parts) => Some(Connection::new(channel, parts, presence)),
            Err(Trouble::Statement(error) | Trouble::Fatal(error)) => {
                refuse(channel, &error).await;
                None
            }
            Err(Trouble::Gone) => None,
        }
    }

    /// Everything between the startup message and the first ReadyForQuery.
    async fn admit(&self, channel: &mut Channel<Transport>, startup: &Startup, peer: IpAddr) -> Result<Parts, Trouble> {
        let encrypted = channel.is_encrypted();
        if self.require_tls && !encrypted {
            let error = Error::new(
                Code::InvalidAuthorization,
                "connections without encryption are not accepted",
            );
            return Err(error.with_hint("connect with sslmode=require or better").into());
        }
        let end_point = self
            .tls
            .as_ref()
            .filter(|_| encrypted)
            .and_then(|tls| tls.server_end_point.clone());
        let login = login::login(channel, &self.engine, startup, peer, end_point).await?;
        // Taken only now, so that nobody without a password keeps others out.
        let place = self.connections.clone().try_acquire_owned();
        let place = place.map_err(|_| Error::new(Code::TooManyConnections, "sorry, too many clients already"))?;
        let opened = AssertUnwindSafe(Session::open(self.engine.clone(), login, &startup.parameters)).catch_unwind();
        let mut session = opened.await.unwrap_or_else(|_| Err(cancel::panicked()))?;
        let ticket = self.cancels.register(startup.long_keys());
        session.set_backend_pid(ticket.pid);
        session.set_watch(ticket.interrupt.clone());
        Ok(Parts {
            session,
            ticket,
            stop: self.stop.clone(),
            place,
        })
    }
}

/// Tells a client why it may not come in, and closes.
async fn refuse(mut channel: Channel<Transport>, error: &Error) {
    if channel.put(&complaint::error(Severity::Fatal, error)).is_ok() {
        channel.close().await;
    }
}
