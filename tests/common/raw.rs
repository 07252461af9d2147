//! A client that speaks the protocol frame by frame, right or wrong, and keeps every byte that it hears.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::scram::Scram;
use super::server::PATIENCE;

/// A message of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(300)];
        write!(
            f,
            "{}({})",
            self.tag as char,
            String::from_utf8_lossy(shown).replace('\0', "|")
        )
    }
}

/// The fields of an ErrorResponse or NoticeResponse.
pub fn fields(frame: &Frame) -> BTreeMap<char, String> {
    let parts = frame.body.split(|&b| b == 0).filter(|p| !p.is_empty());
    parts
        .map(|p| (p[0] as char, String::from_utf8_lossy(&p[1..]).into_owned()))
        .collect()
}

/// The SQLSTATE of the first error among them.
pub fn code(frames: &[Frame]) -> Option<String> {
    frames
        .iter()
        .find(|f| f.tag == b'E')
        .map(|f| fields(f).remove(&'C').unwrap_or_default())
}

/// The message of the first error among them.
pub fn message(frames: &[Frame]) -> Option<String> {
    frames
        .iter()
        .find(|f| f.tag == b'E')
        .map(|f| fields(f).remove(&'M').unwrap_or_default())
}

/// The letters of the messages, in order: `TDDCZ`.
pub fn letters(frames: &[Frame]) -> String {
    frames.iter().map(|f| f.tag as char).collect()
}

/// The fields of one DataRow.
pub fn cells(frame: &Frame) -> Vec<Option<Vec<u8>>> {
    let mut at = 2;
    let count = u16::from_be_bytes([frame.body[0], frame.body[1]]);
    let mut cells = Vec::new();
    for _ in 0..count {
        let size = i32::from_be_bytes(frame.body[at..at + 4].try_into().expect("four bytes"));
        at += 4;
        cells.push((size >= 0).then(|| frame.body[at..at + size as usize].to_vec()));
        at += size.max(0) as usize;
    }
    assert_eq!(at, frame.body.len(), "a DataRow is as long as its fields");
    cells
}

/// All rows among them, as text; NULL is the word.
pub fn text_rows(frames: &[Frame]) -> Vec<Vec<String>> {
    let row = |f: &Frame| {
        let text = |c: Option<Vec<u8>>| c.map_or("NULL".to_owned(), |b| String::from_utf8_lossy(&b).into_owned());
        cells(f).into_iter().map(text).collect()
    };
    frames.iter().filter(|f| f.tag == b'D').map(row).collect()
}

/// A column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub oid: u32,
    pub format: i16,
}

/// The columns of a RowDescription.
pub fn columns(frame: &Frame) -> Vec<Described> {
    assert_eq!(frame.tag, b'T');
    let mut at = 2;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes([frame.body[0], frame.body[1]]) {
        let end = at
            + frame.body[at..]
                .iter()
                .position(|&b| b == 0)
                .expect("a name ends with NUL");
        let name = String::from_utf8_lossy(&frame.body[at..end]).into_owned();
        let tail = &frame.body[end + 1..end + 19];
        let oid = u32::from_be_bytes(tail[6..10].try_into().expect("four bytes"));
        let format = i16::from_be_bytes(tail[16..18].try_into().expect("two bytes"));
        columns.push(Described { name, oid, format });
        at = end + 19;
    }
    columns
}

/// A whole message: type byte, length, body.
pub fn message_of(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut all = vec![tag];
    all.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    all.extend_from_slice(body);
    all
}

/// A startup message with these parameters.
pub fn startup_of(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in parameters.iter().flat_map(|(k, v)| [k, v]) {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut all = (body.len() as u32 + 4).to_be_bytes().to_vec();
    all.extend_from_slice(&body);
    all
}

/// `SSLRequest`.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

fn text(into: &mut Vec<u8>, value: &str) {
    into.extend_from_slice(value.as_bytes());
    into.push(0);
}

pub fn query(sql: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, sql);
    message_of(b'Q', &body)
}

pub fn parse(name: &str, sql: &str, oids: &[u32]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, name);
    text(&mut body, sql);
    body.extend_from_slice(&(oids.len() as u16).to_be_bytes());
    oids.iter().for_each(|o| body.extend_from_slice(&o.to_be_bytes()));
    message_of(b'P', &body)
}

/// `formats` and `results` are codes as in the protocol: none, one for all, or one each.
pub fn bind(portal: &str, statement: &str, formats: &[i16], values: &[Option<&[u8]>], results: &[i16]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    text(&mut body, statement);
    body.extend_from_slice(&(formats.len() as u16).to_be_bytes());
    formats.iter().for_each(|f| body.extend_from_slice(&f.to_be_bytes()));
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        body.extend_from_slice(&value.map_or(-1, |v| v.len() as i32).to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default());
    }
    body.extend_from_slice(&(results.len() as u16).to_be_bytes());
    results.iter().for_each(|f| body.extend_from_slice(&f.to_be_bytes()));
    message_of(b'B', &body)
}

/// `kind` is `S` for a statement and `P` for a portal, here and in [`close`].
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    text(&mut body, name);
    message_of(b'D', &body)
}

pub fn close(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    text(&mut body, name);
    message_of(b'C', &body)
}

pub fn execute(portal: &str, max_rows: i32) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    body.extend_from_slice(&max_rows.to_be_bytes());
    message_of(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    message_of(b'S', &[])
}

pub fn flush() -> Vec<u8> {
    message_of(b'H', &[])
}

/// A connection that speaks frames.
pub struct Raw<S = TcpStream> {
    stream: S,
    inbox: Vec<u8>,
    /// Every byte that the server sent.
    pub heard: Vec<u8>,
    /// Process number and secret for a cancel request.
    pub key: Vec<u8>,
    /// Hash of the server's certificate: set, the login binds to it.
    pub certificate_hash: Option<Vec<u8>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Frames over this.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            heard: Vec::new(),
            key: Vec::new(),
            certificate_hash: None,
        }
    }

    /// Back to the bytes, for TLS.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = timeout(PATIENCE, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
        sent.await.expect("the server takes what is sent")
    }

    /// Sends one message.
    pub async fn send(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        self.write(&message_of(tag, body)).await
    }

    /// Sends messages in one write; a server that has closed already shows in what is read next.
    pub async fn say(&mut self, messages: &[Vec<u8>]) {
        let _ = self.write(&messages.concat()).await;
    }

    /// Reads at least `n` bytes into the inbox; false: the server closed.
    async fn fill(&mut self, n: usize) -> bool {
        while self.inbox.len() < n {
            let mut part = [0; 16 << 10];
            let read = timeout(PATIENCE, self.stream.read(&mut part)).await;
            match read.expect("the server hangs: no answer and no end") {
                Ok(0) | Err(_) => return false,
                Ok(got) => {
                    self.heard.extend_from_slice(&part[..got]);
                    self.inbox.extend_from_slice(&part[..got]);
                }
            }
        }
        true
    }

    /// One byte, as after an SSLRequest; none: closed.
    pub async fn byte(&mut self) -> Option<u8> {
        if self.fill(1).await {
            Some(self.inbox.remove(0))
        } else {
            None
        }
    }

    /// The next message; none: the server closed the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        if !self.fill(5).await {
            assert!(self.inbox.is_empty(), "closed within a message: {:?}", self.inbox);
            return None;
        }
        let size = u32::from_be_bytes(self.inbox[1..5].try_into().expect("four bytes")) as usize;
        assert!(
            (4..1 << 30).contains(&size),
            "a message of {size} bytes: {:?}",
            &self.inbox[..5]
        );
        assert!(self.fill(size + 1).await, "closed within a message");
        let body = self.inbox[5..size + 1].to_vec();
        let tag = self.inbox[0];
        self.inbox.drain(..size + 1);
        Some(Frame { tag, body })
    }

    /// Messages up to and with the first of this type, or all until the server closes.
    pub async fn until(&mut self, tag: u8) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            let last = frame.tag == tag;
            frames.push(frame);
            if last {
                break;
            }
        }
        frames
    }

    /// Bytes as they are, until the server closes.
    pub async fn until_closed(&mut self) -> Vec<u8> {
        while self.fill(self.inbox.len() + 1).await {}
        std::mem::take(&mut self.inbox)
    }

    /// All messages until the server closes.
    pub async fn rest(&mut self) -> Vec<Frame> {
        self.until(0).await
    }

    /// A simple query and all of its answer.
    pub async fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.say(&[query(sql)]).await;
        self.until(b'Z').await
    }

    /// These messages, a Sync, and all of the answer.
    pub async fn extended(&mut self, messages: &[Vec<u8>]) -> Vec<Frame> {
        self.say(&[messages.concat(), sync()]).await;
        self.until(b'Z').await
    }

    /// One statement by the extended protocol: its parameters as text (formats 0) and its rows in this format.
    pub async fn prepared(&mut self, sql: &str, values: &[Option<&[u8]>], results: i16) -> Vec<Frame> {
        let parts = [
            parse("", sql, &[]),
            bind("", "", &[], values, &[results]),
            describe(b'P', ""),
            execute("", 0),
        ];
        self.extended(&parts).await
    }

    /// Startup and SCRAM. Ok: the messages up to ReadyForQuery. Err: those up to the end.
    pub async fn login(&mut self, tenant: &str, user: &str, password: &str) -> Result<Vec<Frame>, Vec<Frame>> {
        self.login_with(&[("user", user), ("database", tenant)], password).await
    }

    /// [`Raw::login`] with these startup parameters.
    pub async fn login_with(&mut self, startup: &[(&str, &str)], password: &str) -> Result<Vec<Frame>, Vec<Frame>> {
        self.say(&[startup_of(startup)]).await;
        self.authenticate(password, "rOprNGfwEbeRWgbNEkqO").await
    }

    /// SCRAM after the startup message.
    pub async fn authenticate(&mut self, password: &str, nonce: &str) -> Result<Vec<Frame>, Vec<Frame>> {
        let Some(asked) = self.frame().await else {
            return Err(Vec::new());
        };
        if asked.tag != b'R' {
            let mut all = vec![asked];
            all.extend(self.rest().await);
            return Err(all);
        }
        let mut scram = match &self.certificate_hash {
            Some(hash) => Scram::bound(hash, nonce),
            None => Scram::plain(nonce),
        };
        let mechanism = if self.certificate_hash.is_some() {
            "SCRAM-SHA-256-PLUS"
        } else {
            "SCRAM-SHA-256"
        };
        self.say(&[initial(mechanism, &scram.first())]).await;
        let Some(challenge) = self.frame().await else {
            return Err(Vec::new());
        };
        if challenge.tag != b'R' || challenge.body[..4] != [0, 0, 0, 11] {
            let mut all = vec![challenge];
            all.extend(self.rest().await);
            return Err(all);
        }
        let server_first = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
        let last = scram.last(&server_first, password);
        self.say(&[message_of(b'p', last.as_bytes())]).await;
        let frames = self.until(b'Z').await;
        let Some(Frame { tag: b'Z', .. }) = frames.last() else {
            return Err(frames);
        };
        assert_eq!(
            frames[0].body[..4],
            [0, 0, 0, 12],
            "AuthenticationSASLFinal comes first: {frames:?}"
        );
        assert!(
            scram.proven(&String::from_utf8_lossy(&frames[0].body[4..])),
            "the server proves itself"
        );
        self.key = frames
            .iter()
            .find(|f| f.tag == b'K')
            .map(|f| f.body.clone())
            .unwrap_or_default();
        Ok(frames)
    }
}

/// SASLInitialResponse.
pub fn initial(mechanism: &str, first: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, mechanism);
    body.extend_from_slice(&(first.len() as u32).to_be_bytes());
    body.extend_from_slice(first.as_bytes());
    message_of(b'p', &body)
}

/// The message that cancels what the connection with this key does.
pub fn cancel(key: &[u8]) -> Vec<u8> {
    let body = [&80_877_102_u32.to_be_bytes()[..], key].concat();
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}
