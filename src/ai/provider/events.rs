//! Server-sent events: the bytes of a streamed reply become the data of its events.
//!
//! As the HTML standard says (section 9.2.6), but only data matters: comments and other fields are
//! skipped. No event is longer than [`limits::PROVIDER_EVENT_BYTES`].

use std::collections::VecDeque;

use crate::limits;

/// An event that is longer than it may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts bytes into events, however they arrive.
#[derive(Default)]
pub(super) struct Events {
    /// Bytes of a line whose end has not arrived.
    line: Vec<u8>,
    /// The last byte was a CR, so that a LF now belongs to it.
    after_cr: bool,
    /// Data lines of the event whose end has not arrived.
    data: Option<Vec<u8>>,
    ready: VecDeque<Vec<u8>>,
}

impl Events {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TooLong`]; nothing can be taken after it.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        if self.after_cr && bytes.first() == Some(&b'\n') {
            bytes = &bytes[1..];
        }
        self.after_cr &= bytes.is_empty();
        while let Some(end) = bytes.iter().position(|&b| b == b'\n' || b == b'\r') {
            self.grow(&bytes[..end])?;
            let cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.after_cr = cr && bytes.is_empty();
            if cr && bytes.first() == Some(&b'\n') {
                bytes = &bytes[1..];
            }
            self.end_of_line()?;
        }
        self.grow(bytes)
    }

    /// The data of the next whole event.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// No more bytes come. Some servers forget the empty line after the last event.
    pub fn end(&mut self) {
        if !self.line.is_empty() && self.end_of_line().is_err() {
            self.data = None;
        }
        self.ready.extend(self.data.take());
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let data = self.data.as_ref().map_or(0, Vec::len);
        if self.line.len() + data + bytes.len() > limits::PROVIDER_EVENT_BYTES {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_of_line(&mut self) -> Result<(), TooLong> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.ready.extend(self.data.take());
            return Ok(());
        }
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
        let Some(value) = line.strip_prefix(b"data") else {
            return Ok(());
        };
        let value = match value {
            [] => value,
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            _ => return Ok(()),
        };
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<String> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in pieces {
            events.feed(piece).unwrap();
            found.extend(std::iter::from_fn(|| events.next()));
        }
        events.end();
        found.extend(std::iter::from_fn(|| events.next()));
        found.into_iter().map(|data| String::from_utf8(data).unwrap()).collect()
    }

    const STREAM: &str = "\u{feff}data: {\"a\":1}\n\n: comment\r\n\r\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\n\
                          id: 7\rdata\r\rdatum: no\n\ndata: größe ✓\n\nretry: 1\n\ndata: [DONE]";
    const FOUND: [&str; 5] = ["{\"a\":1}", "two\nlines", "", "größe ✓", "[DONE]"];

    #[test]
    fn events_do_not_depend_on_how_bytes_arrive() {
        let bytes = STREAM.as_bytes();
        assert_eq!(all(&[bytes]), FOUND);
        assert_eq!(all(&bytes.chunks(1).collect::<Vec<_>>()), FOUND);
        for cut in 0..bytes.len() {
            assert_eq!(all(&[&bytes[..cut], &[], &bytes[cut..]]), FOUND, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_or_an_event_without_end_is_refused() {
        let most = limits::PROVIDER_EVENT_BYTES;
        let mut events = Events::default();
        let part = vec![b'x'; most / 4];
        for _ in 0..4 {
            events.feed(&part).unwrap();
        }
        assert_eq!(events.feed(b"x"), Err(TooLong));
        let mut events = Events::default();
        let line = [b"data:".as_slice(), &part, b"\n"].concat();
        let fed: Result<Vec<()>, TooLong> = (0..5).map(|_| events.feed(&line)).collect();
        assert_eq!(fed, Err(TooLong));
    }
}
