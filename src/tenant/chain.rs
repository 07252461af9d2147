//! A tenant's log: numbered entries, each bound to the one before it by a hash.
//!
//! Only the committer appends, one commit after the other, so entries stand in the order of commits and
//! no number is left out; an entry is stored exactly if the commit is that it belongs to. The entries of one
//! commit are one value under their first number. A value of its own, the head, says how far the log goes,
//! so that a missing end is seen, too. What the entries say is not known here.

use sha2::{Digest, Sha256};

use super::{plane::Plane, seal, table::Table};
use crate::error::{Code, Result};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Where the head is stored; entries count from 1.
pub(super) const HEAD_KEY: [u8; 8] = 0_u64.to_be_bytes();

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
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.seq.to_be_bytes()[..], &self.hash].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (seq, rest) = bytes.split_first_chunk()?;
        Some(Self {
            seq: u64::from_be_bytes(*seq),
            hash: rest.try_into().ok()?,
        })
    }

    /// The value of entries that follow this one, and the head after them.
    pub(super) fn extend(self, payloads: &[Vec<u8>]) -> (Vec<u8>, Head) {
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

/// The entries of one value, as stored.
fn links(key: &[u8], value: &[u8]) -> Option<Vec<Link>> {
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

/// The head as stored now.
pub(super) fn head(plane: &Plane) -> Result<Head> {
    match plane.get(Table::Audit, &HEAD_KEY)? {
        None => Ok(Head::default()),
        Some(stored) => Head::decode(&stored.value).ok_or_else(|| seal::corrupted(Table::Audit)),
    }
}

/// The entries from a number on, up to a head that was read before. Ends after the first error.
pub(super) fn read(plane: &std::sync::Arc<Plane>, head: Head) -> impl Iterator<Item = Result<Link>> + Send + use<> {
    let values = plane.scan_from(Table::Audit, &1_u64.to_be_bytes(), None);
    let links = values.flat_map(|found| {
        let read =
            found.and_then(|(key, stored)| links(&key, &stored.value).ok_or_else(|| seal::corrupted(Table::Audit)));
        match read {
            Ok(links) => links.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        }
    });
    // What was appended since does not belong to this head.
    links.take_while(move |link| link.as_ref().map_or(true, |link| link.seq <= head.seq))
}

/// Looks at every entry.
pub(super) fn check(plane: &std::sync::Arc<Plane>) -> Result<Checked> {
    let head = match head(plane) {
        Ok(head) => head,
        Err(error) if error.code() == Code::Corrupted => {
            return Ok(Checked {
                head: Head::default(),
                entries: 0,
                fault: Some(Fault {
                    seq: 0,
                    what: "the head of the log cannot be read",
                }),
            });
        }
        Err(error) => return Err(error),
    };
    let (mut last, mut fault) = (Head::default(), None);
    for link in read(plane, head) {
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
