//! The frame check: what a client sent, judged before anything acts on it.
//!
//! [`header`] judges the first five bytes (type and declared length) while the rest is still on its
//! way; [`request`] judges the body, which the caller has cut to exactly the declared length. Every
//! string must end inside the frame and be UTF-8, every count and length must fit, and nothing may be
//! left over, so one frame can never hold the beginning of another. pgwire's own decoders check none
//! of this and are never shown a byte from the network: its message structs are built here.

use bytes::Bytes;
use pgwire::messages::{
    extendedquery::{Bind, Close, Describe, Execute, Parse},
    simplequery::Query,
};

use crate::{
    error::{Code, Error, Result},
    limits,
};

/// Type byte and length that stand before every body.
pub(super) const HEADER_BYTES: usize = 5;

/// Largest frame of a type that only carries a name (PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_FRAME_BYTES: usize = 10_000;

/// How far the connection is, which decides what it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The login is not finished: only its answers (`p`) may come.
    Login,
    /// The session runs.
    Session,
}

/// A checked request of a session.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Query(Query),
    Parse(Parse),
    Bind(Bind),
    Describe(Describe),
    Execute(Execute),
    Close(Close),
    Flush,
    Sync,
    Terminate,
    FunctionCall,
    /// Rests of a COPY that has already failed; PostgreSQL ignores them too.
    Copy,
}

/// What a frame's five header bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The type byte.
    pub(super) kind: u8,
    /// Bytes after the header.
    pub(super) body: usize,
}

/// Reads the header of the frame at the start of `bytes`; `None` while fewer than five are there.
///
/// An error is fatal to the connection: after it nobody knows where the next frame begins.
pub(super) fn header(bytes: &[u8], stage: Stage) -> Result<Option<Header>> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let most = match (stage, kind) {
        (Stage::Login, b'p') => limits::STARTUP_FRAME_BYTES,
        (Stage::Login, _) => return Err(violation(format!("expected SASL response, got message type {kind}"))),
        (Stage::Session, b'Q' | b'P' | b'B' | b'F' | b'd') => limits::FRAME_BYTES,
        (Stage::Session, b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f') => SMALL_FRAME_BYTES,
        (Stage::Session, _) => return Err(violation(format!("invalid frontend message type {kind}"))),
    };
    let Some(length) = bytes.get(1..HEADER_BYTES).and_then(|b| <[u8; 4]>::try_from(b).ok()) else {
        return Ok(None);
    };
    // The declared length counts its own four bytes. As in PostgreSQL it is signed.
    match usize::try_from(i32::from_be_bytes(length)) {
        Ok(length) if (4..=most).contains(&length) => Ok(Some(Header { kind, body: length - 4 })),
        _ => Err(violation("invalid message length")),
    }
}

/// Reads the body of a session's frame. An error concerns this frame only: its end is known.
pub(super) fn request(kind: u8, body: Bytes) -> Result<Request> {
    let mut body = Body::new(body);
    let request = match kind {
        b'Q' => Request::Query(Query::new(body.cstring()?)),
        b'P' => {
            let (name, query) = (body.name()?, body.cstring()?);
            let count = body.u16()?;
            let types = (0..count).map(|_| body.u32()).collect::<Result<_>>()?;
            Request::Parse(Parse::new(name, query, types))
        }
        b'B' => {
            let (portal, statement) = (body.name()?, body.name()?);
            let formats = body.formats()?;
            let count = body.u16()?;
            let parameters = (0..count).map(|_| body.value()).collect::<Result<_>>()?;
            Request::Bind(Bind::new(portal, statement, formats, parameters, body.formats()?))
        }
        b'D' => Request::Describe(Describe::new(body.target("DESCRIBE")?, body.name()?)),
        b'C' => Request::Close(Close::new(body.target("CLOSE")?, body.name()?)),
        b'E' => Request::Execute(Execute::new(body.name()?, body.i32()?)),
        b'H' => Request::Flush,
        b'S' => Request::Sync,
        b'X' => Request::Terminate,
        // What these hold is not looked at: the first is not served, the others have no COPY to go to.
        b'F' => return Ok(Request::FunctionCall),
        b'd' | b'c' | b'f' => return Ok(Request::Copy),
        _ => return Err(violation(format!("invalid frontend message type {kind}"))),
    };
    body.finish()?;
    Ok(request)
}

/// The first answer of a login: the mechanism and its data.
pub(super) fn sasl_first(body: Bytes) -> Result<(String, Bytes)> {
    let mut body = Body::new(body);
    let mechanism = body.cstring()?;
    let data = body.value()?;
    body.finish()?;
    Ok((mechanism, data.unwrap_or_default()))
}

/// What a CopyFail says.
pub(super) fn copy_fail(body: Bytes) -> Result<String> {
    let mut body = Body::new(body);
    let said = body.cstring()?;
    body.finish()?;
    Ok(said)
}

/// An 08P01 of this text.
pub(super) fn violation(message: impl Into<String>) -> Error {
    Error::new(Code::ProtocolViolation, message)
}

/// Text from the wire, or 22021 naming the first bad byte as PostgreSQL does.
pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    let bad = match std::str::from_utf8(bytes) {
        Ok(text) => match text.bytes().position(|b| b == 0) {
            None => return Ok(text),
            Some(at) => at,
        },
        Err(error) => error.valid_up_to(),
    };
    let byte = bytes.get(bad).copied().unwrap_or_default();
    Err(Error::new(
        Code::InvalidEncoding,
        format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
    ))
}

/// A cursor over one frame's body that cannot leave it.
pub(super) struct Body {
    rest: Bytes,
}

impl Body {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    fn take(&mut self, count: usize) -> Result<Bytes> {
        if count > self.rest.len() {
            return Err(violation("insufficient data left in message"));
        }
        Ok(self.rest.split_to(count))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(&bytes[..]).map_err(|_| violation("insufficient data left in message"))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A NUL-terminated string.
    pub(super) fn cstring(&mut self) -> Result<String> {
        let end = self
            .rest
            .iter()
            .position(|&b| b == 0)
            .ok_or_else(|| violation("invalid string in message"))?;
        let bytes = self.take(end + 1)?;
        Ok(text(&bytes[..end])?.to_owned())
    }

    /// A name, `None` where it is empty.
    fn name(&mut self) -> Result<Option<String>> {
        Ok(Some(self.cstring()?).filter(|name| !name.is_empty()))
    }

    /// A length and that many bytes; -1 is NULL.
    fn value(&mut self) -> Result<Option<Bytes>> {
        match self.i32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.take(length).map(Some),
                Err(_) => Err(violation("insufficient data left in message")),
            },
        }
    }

    fn formats(&mut self) -> Result<Vec<i16>> {
        let count = self.u16()?;
        (0..count)
            .map(|_| match self.u16()? {
                0 => Ok(0),
                1 => Ok(1),
                other => {
                    let message = format!("unsupported format code: {}", other.cast_signed());
                    Err(Error::new(Code::InvalidParameterValue, message))
                }
            })
            .collect()
    }

    /// Whether a statement or a portal is meant.
    fn target(&mut self, message: &str) -> Result<u8> {
        match self.u8()? {
            target @ (b'S' | b'P') => Ok(target),
            other => Err(violation(format!("invalid {message} message subtype {other}"))),
        }
    }

    /// The bytes not read yet.
    pub(super) fn rest(self) -> Bytes {
        self.rest
    }

    /// Whether all of the frame has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn finish(self) -> Result<()> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(violation("invalid message format")),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use pgwire::messages::Message;
    use proptest::prelude::*;

    use super::*;

    fn frame(message: &impl Message) -> (u8, Bytes) {
        let mut out = BytesMut::new();
        message.encode(&mut out).unwrap();
        let header = header(&out, Stage::Session).unwrap().unwrap();
        assert_eq!(header.body + HEADER_BYTES, out.len());
        (header.kind, out.split_off(HEADER_BYTES).freeze())
    }

    fn code(result: Result<Request>) -> &'static str {
        result.unwrap_err().code().sqlstate()
    }

    #[test]
    fn what_pgwire_encodes_is_read_back() {
        let parse = || Parse::new(Some("s".into()), "select $1".into(), vec![0, 23]);
        let (kind, body) = frame(&parse());
        assert_eq!(request(kind, body).unwrap(), Request::Parse(parse()));
        let bind = || {
            Bind::new(
                None,
                Some("s".into()),
                vec![1, 0],
                vec![None, Some(Bytes::from_static(b"x"))],
                vec![1],
            )
        };
        let (kind, body) = frame(&bind());
        assert_eq!(request(kind, body).unwrap(), Request::Bind(bind()));
        let (kind, body) = frame(&Execute::new(None, -1));
        assert_eq!(request(kind, body).unwrap(), Request::Execute(Execute::new(None, -1)));
        let (kind, body) = frame(&Close::new(b'S', Some("s".into())));
        assert_eq!(
            request(kind, body).unwrap(),
            Request::Close(Close::new(b'S', Some("s".into())))
        );
    }

    #[test]
    fn c06_a_second_message_inside_the_first_is_refused() {
        assert_eq!(
            code(request(b'Q', Bytes::from_static(b"select 1\0Q\0\0\0\x0dselect 2\0"))),
            "08P01"
        );
        assert_eq!(code(request(b'S', Bytes::from_static(b"Q"))), "08P01");
    }

    #[test]
    fn c07_a_string_ends_inside_its_frame() {
        assert_eq!(code(request(b'Q', Bytes::from_static(b"s"))), "08P01");
        assert_eq!(code(request(b'Q', Bytes::new())), "08P01");
    }

    #[test]
    fn c09_declared_lengths_are_bounded() {
        for kind in *b"QPBDECHSXFdcf" {
            for length in [-1_i32, 0, 1, 3, i32::MIN, i32::MAX] {
                let mut bytes = vec![kind];
                bytes.put_i32(length);
                assert!(header(&bytes, Stage::Session).is_err(), "{kind} {length}");
            }
        }
        assert!(header(b"p\0\0\0\x03", Stage::Login).is_err());
        assert!(header(b"p\0\0\x7f\xff", Stage::Login).is_err());
        assert_eq!(
            header(b"p\0\0\0\x04", Stage::Login).unwrap(),
            Some(Header { kind: b'p', body: 0 })
        );
        assert_eq!(header(b"Q\0\0\0", Stage::Session).unwrap(), None);
    }

    #[test]
    fn c03_a_login_takes_nothing_but_its_answers() {
        for kind in 0..=u8::MAX {
            assert_eq!(header(&[kind], Stage::Login).is_ok(), kind == b'p');
        }
        assert!(header(b"p", Stage::Session).is_err());
    }

    #[test]
    fn c10_counts_and_value_lengths_must_fit() {
        assert_eq!(code(request(b'P', Bytes::from_static(b"\0\0\xff\xff"))), "08P01");
        assert_eq!(code(request(b'B', Bytes::from_static(b"\0\0\xff\xff"))), "08P01");
        assert_eq!(code(request(b'B', Bytes::from_static(b"\0\0\0\0\xff\xff"))), "08P01");
        assert_eq!(
            code(request(b'B', Bytes::from_static(b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"))),
            "08P01"
        );
        assert_eq!(
            code(request(b'B', Bytes::from_static(b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"))),
            "08P01"
        );
        assert_eq!(
            code(request(b'B', Bytes::from_static(b"\0\0\0\x01\0\x02\0\0\0\0"))),
            "22023"
        );
        assert_eq!(code(request(b'D', Bytes::from_static(b"T\0"))), "08P01");
        assert_eq!(code(request(b'E', Bytes::from_static(b"\0\0\0\0"))), "08P01");
    }

    #[test]
    fn c27_only_utf8_comes_in() {
        assert_eq!(code(request(b'Q', Bytes::from_static(b"select '\xff'\0"))), "22021");
        assert_eq!(code(request(b'Q', Bytes::from_static(b"\xc0\xaf\0"))), "22021");
        assert_eq!(text(b"a\0b").unwrap_err().code(), Code::InvalidEncoding);
    }

    proptest! {
        #[test]
        fn c29_no_bytes_panic(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(body);
            let _ = request(kind, body.clone());
            let _ = sasl_first(body);
        }

        #[test]
        fn c29_a_frame_is_read_to_its_very_end(
            kind in proptest::sample::select(b"QPBDEC".to_vec()),
            body in proptest::collection::vec(proptest::sample::select(vec![0_u8, 0, 0, 1, 2, b'S', b'P', 255]), 0..40),
        ) {
            if request(kind, Bytes::from(body.clone())).is_ok() {
                // One byte more or one byte less is another frame, and a wrong one.
                let mut longer = body.clone();
                longer.push(0);
                prop_assert!(request(kind, Bytes::from(longer)).is_err());
                prop_assert!(request(kind, Bytes::from(body[..body.len() - 1].to_vec())).is_err());
            }
        }

        #[test]
        fn c29_headers_never_promise_more_than_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            for stage in [Stage::Login, Stage::Session] {
                if let Ok(Some(header)) = header(&bytes, stage) {
                    prop_assert!(header.body < limits::FRAME_BYTES);
                }
            }
        }
    }
}
