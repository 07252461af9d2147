//! One socket with its two buffers: frames come in, gathered bytes go out.
//!
//! Reading takes what has arrived and never allocates by a declared length. Writing gathers up to
//! [`limits::WRITE_BUFFER_BYTES`]; both can be dropped at any await point without losing a byte, so that a
//! cancelled statement leaves a connection in which the next message can be sent.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    Trouble,
    frame::{self, HEADER_BYTES, Stage},
    transport::Transport,
};
use crate::{
    error::{Code, Error},
    limits,
};

/// Most bytes of room made for one read.
const READ_BYTES: usize = 64 << 10;

/// How long a socket stays open for a client to read the last words.
const LINGER: Duration = Duration::from_millis(500);

/// A client's socket, plain or under TLS.
pub(super) struct Channel<S> {
    stream: S,
    incoming: BytesMut,
    /// What goes out next. Messages are appended whole; [`Channel::flush`] sends from the front.
    pub(super) out: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// A channel over a socket from which nothing has been read ahead.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            incoming: BytesMut::new(),
            out: BytesMut::new(),
        }
    }

    /// The next frame: its type and exactly its body. `None` when the client has hung up.
    pub(super) async fn frame(&mut self, stage: Stage) -> Result<Option<(u8, Bytes)>, Trouble> {
        loop {
            let mut wanted = HEADER_BYTES;
            if let Some(header) = frame::header(&self.incoming, stage).map_err(Trouble::Fatal)? {
                wanted += header.body;
                if self.incoming.len() >= wanted {
                    let mut frame = self.incoming.split_to(wanted);
                    if wanted > READ_BYTES {
                        // Otherwise the big frame's memory would stay with the connection.
                        self.incoming = BytesMut::from(&self.incoming[..]);
                    }
                    frame.advance(HEADER_BYTES);
                    return Ok(Some((header.kind, frame.freeze())));
                }
            }
            self.incoming
                .reserve((wanted - self.incoming.len()).clamp(4 << 10, READ_BYTES));
            match self.stream.read_buf(&mut self.incoming).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// Appends one message to what goes out.
    pub(super) fn put(&mut self, message: &impl Message) -> Result<(), Error> {
        put(&mut self.out, message)
    }

    /// Sends everything gathered. A client that takes nothing for [`limits::WRITE_DEADLINE`] is gone.
    pub(super) async fn flush(&mut self) -> Result<(), Trouble> {
        while !self.out.is_empty() {
            match tokio::time::timeout(limits::WRITE_DEADLINE, self.stream.write(&self.out)).await {
                Ok(Ok(sent)) if sent > 0 => self.out.advance(sent),
                _ => return Err(Trouble::Gone),
            }
        }
        if self.out.capacity() > 4 * limits::WRITE_BUFFER_BYTES {
            self.out = BytesMut::new();
        }
        match tokio::time::timeout(limits::WRITE_DEADLINE, self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Trouble::Gone),
        }
    }

    /// Sends what is gathered and parts in the way of the transport.
    pub(super) async fn close(mut self) {
        if self.flush().await.is_err() {
            return;
        }
        // A socket closed with unread bytes is reset, and the reset may overtake the last words. So the
        // other side gets a moment to read them and hang up.
        let linger = async {
            self.stream.shutdown().await?;
            let mut rest = [0; 4096];
            while self.stream.read(&mut rest).await? > 0 {}
            std::io::Result::Ok(())
        };
        // However the parting fails, the connection is over.
        let _ = tokio::time::timeout(LINGER, linger).await;
    }
}

impl Channel<Transport> {
    /// Whether nobody else can read along.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Transport::Tls(_))
    }
}

/// Appends one message to `out`, or nothing at all.
fn put(out: &mut BytesMut, message: &impl Message) -> Result<(), Error> {
    let start = out.len();
    message.encode(out).map_err(|cause| {
        out.truncate(start);
        Error::new(Code::TooLarge, "a message to the client would be too long").with_source(cause)
    })
}

#[cfg(test)]
mod tests {
    use pgwire::messages::response::CommandComplete;
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn frames_are_cut_exactly_however_they_arrive() {
        let (mut client, server) = duplex(7);
        let mut channel = Channel::new(server);
        let long = vec![b'x'; 200_000];
        let mut sent = b"S\0\0\0\x04Q\0\0\0\x06a\0d".to_vec();
        sent.extend((200_004_u32).to_be_bytes());
        sent.extend(&long);
        sent.extend(b"X\0\0\0\x04");
        let writer = tokio::spawn(async move { client.write_all(&sent).await });
        assert_eq!(
            channel.frame(Stage::Session).await.ok().flatten(),
            Some((b'S', Bytes::new()))
        );
        assert_eq!(
            channel.frame(Stage::Session).await.ok().flatten(),
            Some((b'Q', Bytes::from_static(b"a\0")))
        );
        assert_eq!(
            channel.frame(Stage::Session).await.ok().flatten(),
            Some((b'd', Bytes::from(long)))
        );
        assert_eq!(
            channel.frame(Stage::Session).await.ok().flatten(),
            Some((b'X', Bytes::new()))
        );
        writer.await.unwrap().unwrap();
        assert_eq!(channel.frame(Stage::Session).await.ok().flatten(), None);
    }

    #[tokio::test]
    async fn a_declared_length_allocates_nothing() {
        let (mut client, server) = duplex(64);
        let mut channel = Channel::new(server);
        client.write_all(b"Q\x03\xff\xff\xff").await.unwrap();
        drop(client);
        assert!(channel.frame(Stage::Session).await.ok().flatten().is_none());
        assert!(channel.incoming.capacity() <= 2 * READ_BYTES);
    }

    #[tokio::test]
    async fn an_interrupted_flush_goes_on_where_it_stopped() {
        let (mut client, server) = duplex(10);
        let mut channel = Channel::new(server);
        channel.put(&CommandComplete::new("SELECT 12345678".into())).unwrap();
        let expected = channel.out.to_vec();
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(20), channel.flush())
                .await
                .is_err()
        );
        let reader = tokio::spawn(async move {
            let mut all = vec![];
            client.read_to_end(&mut all).await.map(|_| all)
        });
        channel.close().await;
        assert_eq!(reader.await.unwrap().unwrap(), expected);
    }
}
