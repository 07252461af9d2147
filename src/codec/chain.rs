//! Numbered entries, each bound to the one before it by a hash, so that a changed, missing or moved one is found.

use sha2::{Digest, Sha256};

use crate::error::{Code, Result};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The last entry there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub hash: Hash,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Counts from 1.
    pub seq: u64,
    /// The hash of the entry before it; zeros for the first.
    pub prev: Hash,
    /// [`hash`] of what is here.
    pub hash: Hash,
    /// What it says.
    pub payload: Vec<u8>,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first number of which something is wrong.
    pub seq: u64,
    /// What, in a few words.
    pub what: &'static str,
}

/// What looking at a whole log finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Where it ends. Whoever notes this elsewhere sees later whether all of the log was replaced.
    pub head: Head,
    /// Entries that follow each other from the first one on.
    pub entries: u64,
    /// What comes after them.
    pub fault: Option<Fault>,
}

/// SHA-256 over the hash before, the number (8 bytes, big-endian) and what the entry says.
pub fn hash(prev: &Hash, seq: u64, payload: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(prev);
    hash.update(seq.to_be_bytes());
    hash.update(payload);
    hash.finalize().into()
}

impl Head {
    /// As stored.
    pub fn encode(&self) -> Vec<u8> {
        [&self.seq.to_be_bytes()[..], &self.hash].concat()
    }

    /// What [`Head::encode`] made.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (seq, rest) = bytes.split_first_chunk()?;
        Some(Self {
            seq: u64::from_be_bytes(*seq),
            hash: rest.try_into().ok()?,
        })
    }

    /// The value of entries that follow this one, and the head after them.
    pub fn extend(self, payloads: &[Vec<u8>]) -> (Vec<u8>, Head) {
        let (mut value, mut head) = (self.hash.to_vec(), self);
        for payload in payloads {
            head.seq += 1;
            head.hash = hash(&head.hash, head.seq, payload);
            value.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            value.extend_from_slice(&head.hash);
            value.extend_from_slice(payload);
        }
        (value, head)
    }
}

/// The entries of one value of [`Head::extend`], which is stored under the number of its first (8 bytes, big-endian).
pub fn links(key: &[u8], value: &[u8]) -> Option<Vec<Link>> {
    let mut seq = u64::from_be_bytes(key.try_into().ok()?);
    let (prev, mut rest) = value.split_first_chunk::<32>()?;
    let (mut prev, mut links) = (*prev, Vec::new());
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk()?;
        let (hash, after) = after.split_first_chunk::<32>()?;
        let (payload, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        links.push(Link {
            seq,
            prev,
            hash: *hash,
            payload: payload.to_vec(),
        });
        (seq, prev, rest) = (seq.checked_add(1)?, *hash, after);
    }
    Some(links)
}

/// Looks at every entry of a log that ends with `head`. Damage is part of the answer.
///
/// # Errors
/// What else goes wrong with reading.
pub fn check(head: Head, links: impl Iterator<Item = Result<Link>>) -> Result<Checked> {
    let (mut last, mut fault) = (Head::default(), None);
    for link in links {
        let seq = last.seq + 1;
        let what = match link {
            Err(error) if error.code() == Code::Corrupted => "an entry cannot be read",
            Err(error) => return Err(error),
            Ok(link) if link.seq != seq => "entries are missing",
            Ok(link) if link.prev != last.hash => "an entry does not follow the one before it",
            Ok(link) if hash(&link.prev, link.seq, &link.payload) != link.hash => "an entry was changed",
            Ok(link) => {
                last = Head {
                    seq: link.seq,
                    hash: link.hash,
                };
                continue;
            }
        };
        fault = Some(Fault { seq, what });
        break;
    }
    if fault.is_none() && last.seq < head.seq {
        fault = Some(Fault {
            seq: last.seq + 1,
            what: "the last entries are missing",
        });
    } else if fault.is_none() && last != head {
        fault = Some(Fault {
            seq: last.seq,
            what: "the last entry is not the one that the head names",
        });
    }
    Ok(Checked {
        head,
        entries: last.seq,
        fault,
    })
}
