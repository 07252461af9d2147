//! The keys under which a tenant's tables are stored. Numbers are big-endian, so that a table's cells lie together.
//!
//! ```text
//! Catalog     'm'                       the next OID
//!             's' schema                its definition
//!             'r' relation              its definition
//!             't' table                 the storage its rows are in, if that has not the table's own number
//!             'p' storage block         columns of a block that is not live; what to remove
//!             'g' storage               a storage that is not live
//!             'f' storage               written by commits that a fold must not overtake
//! Rows        storage row               a row, or the mark that a block's row is gone
//! BlockHeads  storage block             what the block holds
//! Blocks      storage block column part
//! Sequences   sequence                  the number it has reached
//! Graphs      storage ...               derived from the vectors of a column; what follows is its maker's affair
//! ```

use super::schema::{Oid, RowId};
use crate::error::{Code, Error, Result};

/// Of [`crate::tenant::Table::Catalog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Next,
    Schema(Oid),
    Relation(Oid),
    Storage(Oid),
    PendingBlock(Oid, u32),
    Garbage(Oid),
    Fence(Oid),
}

impl Entry {
    pub fn key(self) -> Vec<u8> {
        let (kind, numbers) = match self {
            Self::Next => (b'm', vec![]),
            Self::Schema(oid) => (b's', vec![oid]),
            Self::Relation(oid) => (b'r', vec![oid]),
            Self::Storage(oid) => (b't', vec![oid]),
            Self::PendingBlock(storage, no) => (b'p', vec![storage, no]),
            Self::Garbage(storage) => (b'g', vec![storage]),
            Self::Fence(storage) => (b'f', vec![storage]),
        };
        let mut key = vec![kind];
        key.extend(numbers.into_iter().flat_map(u32::to_be_bytes));
        key
    }

    pub fn read(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let numbers: Vec<u32> = rest.as_chunks::<4>().0.iter().map(|n| u32::from_be_bytes(*n)).collect();
        match (kind, numbers.as_slice(), rest.len() % 4) {
            (b'm', [], 0) => Some(Self::Next),
            (b's', [oid], 0) => Some(Self::Schema(*oid)),
            (b'r', [oid], 0) => Some(Self::Relation(*oid)),
            (b't', [oid], 0) => Some(Self::Storage(*oid)),
            (b'p', [storage, no], 0) => Some(Self::PendingBlock(*storage, *no)),
            (b'g', [storage], 0) => Some(Self::Garbage(*storage)),
            (b'f', [storage], 0) => Some(Self::Fence(*storage)),
            _ => None,
        }
    }
}

/// A storage's prefix in Rows, BlockHeads and Blocks.
pub(super) fn storage(storage: Oid) -> [u8; 4] {
    storage.to_be_bytes()
}

pub(super) fn row(storage: Oid, row: RowId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&storage.to_be_bytes());
    key[4..].copy_from_slice(&row.to_be_bytes());
    key
}

pub(super) fn read_row(key: &[u8]) -> Option<RowId> {
    let id = key.get(4..)?.try_into().ok()?;
    Some(RowId::from_be_bytes(id))
}

pub(super) fn head(storage: Oid, no: u32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&storage.to_be_bytes());
    key[4..].copy_from_slice(&no.to_be_bytes());
    key
}

pub(super) fn read_head(key: &[u8]) -> Option<u32> {
    let no = key.get(4..)?.try_into().ok()?;
    Some(u32::from_be_bytes(no))
}

pub(super) fn column(storage: Oid, no: u32, column: u16, part: u16) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&head(storage, no));
    key[8..10].copy_from_slice(&column.to_be_bytes());
    key[10..].copy_from_slice(&part.to_be_bytes());
    key
}

pub(super) fn sequence(oid: Oid) -> [u8; 4] {
    oid.to_be_bytes()
}

/// The form of what is kept in cells by [`encode`].
const FORM: u8 = 1;

/// A value with the number of its form in front.
///
/// # Errors
/// [`Code::Internal`] in practice never.
pub(super) fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    postcard::to_extend(value, vec![FORM]).map_err(Error::internal)
}

/// Reverses [`encode`].
///
/// # Errors
/// [`Code::Corrupted`].
pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let body = bytes.strip_prefix(&[FORM]);
    body.and_then(|body| postcard::from_bytes(body).ok()).ok_or_else(|| {
        tracing::error!("a stored definition could not be read");
        Error::new(Code::Corrupted, "a stored definition could not be read")
    })
}
