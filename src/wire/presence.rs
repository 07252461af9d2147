//! Whether a client is still there while its statement runs.
//!
//! The connection reads nothing then, so it would learn of a closed socket only when it writes: a statement
//! of nobody could compute to its time limit. The kernel knows at once, whatever waits unread before the end
//! and whether TLS is in between; it is asked through a second descriptor of the socket.

use std::{net::TcpStream, os::fd::AsFd};

use tokio::{io::Interest, time::sleep};

use crate::limits;

/// A second descriptor of a client's socket, for looking only.
pub(super) struct Presence(Option<TcpStream>);

impl Presence {
    /// Of this socket. Without descriptors to spare nobody is watched, and time limits have to do.
    pub(super) fn of(socket: &tokio::net::TcpStream) -> Self {
        Self(socket.as_fd().try_clone_to_owned().ok().map(TcpStream::from))
    }

    /// Of a client without a socket, who is never seen to leave.
    #[cfg(test)]
    pub(super) fn unknown() -> Self {
        Self(None)
    }

    /// Waits until the client has closed its side. Costs nothing within the first
    /// [`limits::PRESENCE_INTERVAL`], which most statements never reach.
    pub(super) async fn ended(&self) {
        sleep(limits::PRESENCE_INTERVAL).await;
        let watched = self.0.as_ref().and_then(|socket| socket.try_clone().ok());
        let Some(Ok(socket)) = watched.map(tokio::net::TcpStream::from_std) else {
            return std::future::pending().await;
        };
        loop {
            match socket.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => sleep(limits::PRESENCE_INTERVAL).await,
                _ => return,
            }
        }
    }
}
