//! From an open socket to a startup message: encryption, cancel requests, protocol versions.
//!
//! Everything here reads exactly the bytes of one packet from the socket, so that no byte sent in plain
//! can be taken for one sent under TLS (CVE-2021-23214).

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Trouble,
    cancel::Cancels,
    frame::{self, Body},
    tls::Tls,
    transport::Transport,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// Protocol 3.2, the newest served; its cancel keys may be long.
const NEWEST: u32 = 3 << 16 | 2;

/// A checked startup message.
#[derive(Debug, PartialEq)]
pub(super) struct Startup {
    /// As spoken from now on: what the client asked for, but at most [`NEWEST`].
    pub(super) version: u32,
    /// Whether and with which refused options the client must be told so.
    pub(super) negotiate: Option<Vec<String>>,
    pub(super) user: String,
    pub(super) database: String,
    /// Everything the client sent, in its order, `user` and `database` included.
    pub(super) parameters: Vec<(String, String)>,
}

impl Startup {
    /// Whether the protocol has room for a long cancel key.
    pub(super) fn long_keys(&self) -> bool {
        self.version >= NEWEST
    }
}

/// The first thing a client says over one socket.
#[derive(Debug, PartialEq)]
enum Packet {
    Startup(Startup),
    Cancel { pid: i32, key: Bytes },
    Ssl,
    Gss,
}

/// What came of the beginning of a connection.
pub(super) enum Opening {
    /// A client wants to log in over this transport.
    Login(Transport, Startup),
    /// A cancel request was handled, or the client hung up.
    Over,
    /// The client has to be told why not, over the transport there is.
    Refused(Transport, Error),
}

/// Settles encryption and reads the startup message.
pub(super) async fn open(mut socket: TcpStream, peer: IpAddr, tls: Option<&Tls>, cancels: &Cancels) -> Opening {
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        let packet = match packet(&mut socket).await {
            Ok(packet) => packet,
            Err(Trouble::Fatal(error) | Trouble::Statement(error)) => {
                return Opening::Refused(Transport::Plain(socket), error);
            }
            Err(Trouble::Gone) => return Opening::Over,
        };
        let answer = match packet {
            Packet::Startup(startup) => return Opening::Login(Transport::Plain(socket), startup),
            Packet::Cancel { pid, key } => {
                cancels.cancel(peer, pid, &key);
                return Opening::Over;
            }
            Packet::Ssl if asked_ssl => return again(socket),
            Packet::Gss if asked_gss => return again(socket),
            Packet::Ssl => {
                asked_ssl = true;
                if tls.is_some() { b'S' } else { b'N' }
            }
            Packet::Gss => {
                asked_gss = true;
                b'N'
            }
        };
        // A client that waits for the answer has sent nothing more. Bytes that are there already would be
        // an attacker's, put before the encrypted ones.
        if matches!(socket.peek(&mut [0]).now_or_never(), Some(Ok(1))) {
            let error = frame::violation("received unencrypted data after SSL request")
                .with_detail("this could be a man in the middle or a client with a bug");
            return Opening::Refused(Transport::Plain(socket), error);
        }
        if socket.write_all(&[answer]).await.is_err() {
            return Opening::Over;
        }
        if let (b'S', Some(tls)) = (answer, tls) {
            return secure(socket, peer, tls, cancels).await;
        }
    }
}

fn again(socket: TcpStream) -> Opening {
    Opening::Refused(
        Transport::Plain(socket),
        frame::violation("encryption was asked for twice"),
    )
}

/// The TLS handshake and the packet after it.
async fn secure(socket: TcpStream, peer: IpAddr, tls: &Tls, cancels: &Cancels) -> Opening {
    let Ok(mut stream) = tls.acceptor.accept(socket).await else {
        return Opening::Over;
    };
    match packet(&mut stream).await {
        Ok(Packet::Startup(startup)) => Opening::Login(Transport::Tls(Box::new(stream)), startup),
        Ok(Packet::Cancel { pid, key }) => {
            cancels.cancel(peer, pid, &key);
            Opening::Over
        }
        Ok(Packet::Ssl | Packet::Gss) => {
            let error = frame::violation("encryption was asked for twice");
            Opening::Refused(Transport::Tls(Box::new(stream)), error)
        }
        Err(Trouble::Fatal(error) | Trouble::Statement(error)) => {
            Opening::Refused(Transport::Tls(Box::new(stream)), error)
        }
        Err(Trouble::Gone) => Opening::Over,
    }
}

/// Reads one packet without a type byte, and not a byte more.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Packet, Trouble> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(|_| Trouble::Gone)?;
    let body = match usize::try_from(i32::from_be_bytes(length)) {
        Ok(length) if (8..=limits::STARTUP_FRAME_BYTES).contains(&length) => length - 4,
        _ => return Err(Trouble::Fatal(frame::violation("invalid length of startup packet"))),
    };
    let mut bytes = BytesMut::zeroed(body);
    stream.read_exact(&mut bytes).await.map_err(|_| Trouble::Gone)?;
    parse(bytes.freeze()).map_err(Trouble::Fatal)
}

fn parse(bytes: Bytes) -> Result<Packet> {
    let mut body = Body::new(bytes);
    let version = body.u32()?;
    match version {
        SSL | GSS if !body.is_empty() => Err(frame::violation("invalid length of startup packet")),
        SSL => Ok(Packet::Ssl),
        GSS => Ok(Packet::Gss),
        CANCEL => {
            // No cancel request is answered, so a malformed one becomes one that reaches nobody.
            let (pid, key) = (body.i32().unwrap_or(0), body.rest());
            Ok(Packet::Cancel { pid, key })
        }
        version if version >> 16 == 3 => startup(version, body).map(Packet::Startup),
        version => {
            let (major, minor) = (version >> 16, version & 0xffff);
            let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2");
            Err(Error::new(Code::Unsupported, message))
        }
    }
}

fn startup(version: u32, mut body: Body) -> Result<Startup> {
    let mut parameters = vec![];
    loop {
        if body.is_empty() {
            return Err(frame::violation(
                "invalid startup packet layout: expected terminator as last byte",
            ));
        }
        let name = body.cstring()?;
        if name.is_empty() {
            break;
        }
        if parameters.len() == limits::STARTUP_PARAMETERS {
            return Err(frame::violation(format!(
                "more than {} startup parameters",
                limits::STARTUP_PARAMETERS
            )));
        }
        parameters.push((name, body.cstring()?));
    }
    if !body.is_empty() {
        return Err(frame::violation(
            "invalid startup packet layout: expected terminator as last byte",
        ));
    }
    // The last of several wins, as in PostgreSQL.
    let value = |name: &str| {
        parameters
            .iter()
            .rev()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.clone())
    };
    let Some(user) = value("user") else {
        return Err(Error::new(
            Code::InvalidAuthorization,
            "no PostgreSQL user name specified in startup packet",
        ));
    };
    let replication = value("replication").is_some_and(|v| !["false", "off", "no", "0"].contains(&v.as_str()));
    if replication {
        return Err(Error::new(
            Code::Unsupported,
            "replication connections are not supported",
        ));
    }
    let refused: Vec<_> = parameters
        .iter()
        .filter(|(n, _)| n.starts_with("_pq_."))
        .map(|(n, _)| n.clone())
        .collect();
    Ok(Startup {
        version: version.min(NEWEST),
        negotiate: (version > NEWEST || !refused.is_empty()).then_some(refused),
        database: value("database").unwrap_or_else(|| user.clone()),
        user,
        parameters,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(version: u32, rest: &[u8]) -> Bytes {
        [&version.to_be_bytes(), rest].concat().into()
    }

    fn code(version: u32, rest: &[u8]) -> &'static str {
        parse(bytes(version, rest)).unwrap_err().code().sqlstate()
    }

    fn read(version: u32, rest: &[u8]) -> Startup {
        match parse(bytes(version, rest)).unwrap() {
            Packet::Startup(startup) => startup,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_startup_message_is_read() {
        let startup = read(3 << 16, b"user\0ann\0database\0acme\0client_encoding\0'utf-8'\0\0");
        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("ann", "acme"));
        assert_eq!(startup.negotiate, None);
        assert_eq!(startup.parameters.len(), 3);
        assert!(!startup.long_keys());
        assert_eq!(read(3 << 16, b"user\0ann\0\0").database, "ann");
    }

    #[test]
    fn newer_minor_versions_and_options_are_negotiated() {
        assert_eq!(read(NEWEST, b"user\0a\0\0").negotiate, None);
        assert!(read(NEWEST, b"user\0a\0\0").long_keys());
        let newer = read(3 << 16 | 9999, b"user\0a\0\0");
        assert_eq!((newer.version, newer.negotiate), (NEWEST, Some(vec![])));
        let option = read(3 << 16, b"user\0a\0_pq_.x\0on\0\0");
        assert_eq!(
            (option.version, option.negotiate),
            (3 << 16, Some(vec!["_pq_.x".to_owned()]))
        );
        assert_eq!(code(2 << 16, b"user\0a\0\0"), "0A000");
        assert_eq!(code(4 << 16, b"user\0a\0\0"), "0A000");
    }

    #[test]
    fn c30_what_is_malformed_is_refused() {
        assert_eq!(code(3 << 16, b""), "08P01");
        assert_eq!(code(3 << 16, b"user\0a\0"), "08P01");
        assert_eq!(code(3 << 16, b"user\0a\0\0x"), "08P01");
        assert_eq!(code(3 << 16, b"user"), "08P01");
        assert_eq!(code(3 << 16, b"\0"), "28000");
        assert_eq!(code(3 << 16, b"user\0\0\0"), "28000");
        assert_eq!(code(3 << 16, b"user\0a\0replication\0database\0\0"), "0A000");
        assert_eq!(
            code(
                3 << 16,
                &[&b"user\0a\0"[..], &b"x\0\0".repeat(limits::STARTUP_PARAMETERS), b"\0"].concat()
            ),
            "08P01"
        );
        assert_eq!(code(SSL, b"x"), "08P01");
    }

    #[test]
    fn a_cancel_request_has_no_answer_even_if_it_is_malformed() {
        for rest in [&b""[..], b"abc", b"\0\0\0\x01", b"\0\0\0\x01abc", &[7; 9_000]] {
            assert!(
                matches!(parse(bytes(CANCEL, rest)), Ok(Packet::Cancel { .. })),
                "{rest:?}"
            );
        }
    }

    #[test]
    fn a35_names_that_are_not_utf8_are_refused() {
        assert_eq!(code(3 << 16, b"user\0a\xff\0\0"), "22021");
        assert_eq!(code(3 << 16, b"user\0a\0database\0a\xfe\0\0"), "22021");
    }

    proptest! {
        #[test]
        fn c29_no_bytes_panic(kind in 0..4_usize, rest in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(bytes([3 << 16, NEWEST + 1, CANCEL, SSL][kind], &rest));
        }
    }
}
