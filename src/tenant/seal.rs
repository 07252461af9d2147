//! Sealing: the key hierarchy and the AEAD.
//!
//! The master key wraps one random data key per plane ([`super::keyring`]). Of a data key come, by
//! HMAC-SHA-256 over a label, the key that seals values (XChaCha20-Poly1305) and the key of keyed
//! hashes. A value is sealed whole; its random nonce is also its [`Version`]. The associated data
//! binds format, key version, plane, table and logical key, so that a sealed value moved anywhere
//! else does not open.

use std::fmt;

use chacha20poly1305::{AeadInPlace, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use rand::{RngCore, TryRngCore};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::table::Table;
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// A key of 32 bytes that is wiped when dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// The format of sealed values and of the data directory.
pub(super) const FORMAT: u8 = 2;
const KEY_VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Format, key version, part count (2), nonce.
pub(super) const HEADER_BYTES: usize = 4 + NONCE_BYTES;
const _: () = assert!(HEADER_BYTES + TAG_BYTES < limits::CELL_BYTES);
const _: () =
    assert!((HEADER_BYTES + limits::VALUE_BYTES + TAG_BYTES).div_ceil(limits::CELL_BYTES) <= limits::VALUE_CELLS);

/// Which writing of a value this is; two writings never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version([u8; NONCE_BYTES]);

/// A value read from the store, and which writing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The plain bytes.
    pub value: Vec<u8>,
    /// For [`Batch::expect`](super::Batch::expect).
    pub version: Version,
}

/// What the first cell of a value says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub version: Version,
    /// How many cells there are, this one included.
    pub parts: usize,
}

impl Header {
    /// Of the first cell; `None` if this program did not write it.
    pub fn read(cell: &[u8]) -> Option<Self> {
        let (&[format, key_version, high, low], rest) = cell.split_first_chunk::<4>()?;
        let parts = usize::from(u16::from_be_bytes([high, low]));
        let ours = format == FORMAT && key_version == KEY_VERSION && parts > 0;
        ours.then_some(Self {
            version: Version(*rest.first_chunk()?),
            parts,
        })
    }
}

/// The derived keys of one plane.
pub(super) struct Keys {
    cipher: XChaCha20Poly1305,
    hash: Key,
}

impl Keys {
    pub fn derive(data_key: &Key) -> Self {
        let seal = Zeroizing::new(hmac(data_key, &[b"seal"]));
        Self {
            cipher: XChaCha20Poly1305::new((&*seal).into()),
            hash: Zeroizing::new(hmac(data_key, &[b"hash"])),
        }
    }

    /// Seals a value into cells.
    pub fn seal(&self, plane: u64, table: Table, key: &[u8], value: &[u8]) -> Result<Vec<Vec<u8>>> {
        if value.len() > limits::VALUE_BYTES {
            let most = limits::VALUE_BYTES;
            return Err(Error::new(
                Code::TooLarge,
                format!("a stored value is longer than {most} bytes"),
            ));
        }
        if key.len() > limits::KEY_BYTES {
            let most = limits::KEY_BYTES;
            return Err(Error::new(Code::TooLarge, format!("a key is longer than {most} bytes")));
        }
        let length = HEADER_BYTES + value.len() + TAG_BYTES;
        let parts = length.div_ceil(limits::CELL_BYTES) as u16;
        let mut sealed = Vec::with_capacity(length);
        sealed.extend_from_slice(&[FORMAT, KEY_VERSION]);
        sealed.extend_from_slice(&parts.to_be_bytes());
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let body = &mut sealed[HEADER_BYTES..];
        let tag = self
            .cipher
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &bound(plane, table, key), body)
            .map_err(|_| Error::internal("the cipher refused a value"))?;
        sealed.extend_from_slice(&tag);
        if parts == 1 {
            return Ok(vec![sealed]);
        }
        Ok(sealed.chunks(limits::CELL_BYTES).map(<[u8]>::to_vec).collect())
    }

    /// Opens a value whose cells have been joined. `None` if it is not what was sealed here.
    pub fn open(&self, plane: u64, table: Table, key: &[u8], mut sealed: Vec<u8>) -> Option<Stored> {
        let Header { version, parts } = Header::read(&sealed)?;
        if parts != sealed.len().div_ceil(limits::CELL_BYTES) {
            return None;
        }
        let body_end = sealed.len().checked_sub(TAG_BYTES)?;
        let (head, tag) = sealed.split_at_mut(body_end);
        let body = head.get_mut(HEADER_BYTES..)?;
        let (nonce, tag) = (XNonce::from_slice(&version.0), Tag::from_slice(tag));
        self.cipher
            .decrypt_in_place_detached(nonce, &bound(plane, table, key), body, tag)
            .ok()?;
        sealed.truncate(body_end);
        sealed.drain(..HEADER_BYTES);
        Some(Stored { value: sealed, version })
    }

    /// HMAC over label and bytes; other labels give unrelated hashes.
    pub fn hash(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        hmac(&self.hash, &[label.as_bytes(), bytes])
    }

    /// Names the key in records of its destruction; tells nothing about it.
    pub fn fingerprint(&self) -> String {
        self.hash("fingerprint", &[])[..16]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// What does not open where it lies.
pub(super) fn corrupted(table: Table) -> Error {
    tracing::error!(table = table.name(), "a stored value could not be opened");
    Error::new(
        Code::Corrupted,
        format!("a stored value could not be opened (table {})", table.name()),
    )
}

/// The associated data of a value.
fn bound(plane: u64, table: Table, key: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(15 + key.len());
    bound.extend_from_slice(&[FORMAT, KEY_VERSION]);
    bound.extend_from_slice(&plane.to_be_bytes());
    bound.push(table as u8);
    bound.extend_from_slice(&(key.len() as u32).to_be_bytes());
    bound.extend_from_slice(key);
    bound
}

/// HMAC-SHA-256 over parts, each with its length in front.
pub(super) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A block-sized key is always accepted, so there is no error to handle.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A fresh key from the system's generator.
pub(super) fn random_key() -> Result<Key> {
    let mut key = Key::default();
    rand::rngs::OsRng
        .try_fill_bytes(&mut *key)
        .map_err(|e| Error::new(Code::Io, "the system gave no random bytes").with_source(e))?;
    Ok(key)
}

/// Wraps a plane's data key under the master key: nonce, then key and tag.
pub(super) fn wrap(master: &Key, plane: u64, data_key: &Key) -> Result<[u8; WRAPPED_BYTES]> {
    let mut wrapped = [0; WRAPPED_BYTES];
    let (nonce, rest) = wrapped.split_at_mut(NONCE_BYTES);
    let (body, tag) = rest.split_at_mut(data_key.len());
    rand::rng().fill_bytes(nonce);
    body.copy_from_slice(&**data_key);
    let sealed = wrapping(master)
        .encrypt_in_place_detached(XNonce::from_slice(nonce), &wrapping_bound(plane), body)
        .map_err(|_| Error::internal("the cipher refused a key"))?;
    tag.copy_from_slice(&sealed);
    Ok(wrapped)
}

/// Reverses [`wrap`]; `None` under another master key or for another plane.
pub(super) fn unwrap(master: &Key, plane: u64, wrapped: &[u8; WRAPPED_BYTES]) -> Option<Key> {
    let (nonce, rest) = wrapped.split_at(NONCE_BYTES);
    let (body, tag) = rest.split_at(32);
    let mut key = Key::default();
    key.copy_from_slice(body);
    let (nonce, tag) = (XNonce::from_slice(nonce), Tag::from_slice(tag));
    wrapping(master)
        .decrypt_in_place_detached(nonce, &wrapping_bound(plane), &mut *key, tag)
        .ok()?;
    Some(key)
}

/// Length of a wrapped key.
pub(super) const WRAPPED_BYTES: usize = NONCE_BYTES + 32 + TAG_BYTES;

fn wrapping(master: &Key) -> XChaCha20Poly1305 {
    let key = Zeroizing::new(hmac(master, &[b"wrap"]));
    XChaCha20Poly1305::new((&*key).into())
}

fn wrapping_bound(plane: u64) -> [u8; 10] {
    let mut bound = [FORMAT, KEY_VERSION, 0, 0, 0, 0, 0, 0, 0, 0];
    bound[2..].copy_from_slice(&plane.to_be_bytes());
    bound
}
