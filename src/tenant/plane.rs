//! One plane of the store: a tenant's, or the operator's (plane 0). Key prefix, seal and state in one place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    vec,
};

use super::{
    batch::check_access,
    seal::{self, Header, Keys, Stored},
    table::{self, Access, Table},
    vault::Store,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// The values under one id, and the keys that open them.
pub(super) struct Plane {
    pub id: u64,
    pub keys: Keys,
    state: AtomicU8,
    store: Arc<dyn Store>,
}

/// Whether a plane may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Active,
    Suspended,
    Dropped,
}

/// Reading again after a value changed under the reader; each round needs another commit in between.
const READ_ROUNDS: usize = 1_000;
/// Cells a scan reads at first, and at most, in one go.
const PAGE_CELLS: (usize, usize) = (32, 256);

impl Plane {
    pub fn new(id: u64, keys: Keys, store: Arc<dyn Store>) -> Self {
        Self {
            id,
            keys,
            state: AtomicU8::new(State::Active as u8),
            store,
        }
    }

    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Active,
            1 => State::Suspended,
            _ => State::Dropped,
        }
    }

    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Fails once the tenant is dropped.
    pub fn check_exists(&self) -> Result<()> {
        match self.state() {
            State::Active | State::Suspended => Ok(()),
            State::Dropped => Err(Error::new(Code::InvalidAuthorization, "the tenant no longer exists")),
        }
    }

    /// One value. A value of several cells may be replaced while they are read: then its version
    /// has changed, and it is read again.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Stored>> {
        self.check_exists()?;
        let stem = table::stem(self.id, table, key);
        let mut first = self.store.get(&table::cell(&stem, 0))?;
        for _ in 0..READ_ROUNDS {
            let Some(cell) = first else {
                return self.check_exists().map(|()| None);
            };
            let header = Header::read(&cell).ok_or_else(|| seal::corrupted(table))?;
            let mut sealed = cell;
            for part in 1..header.parts {
                match self.store.get(&table::cell(&stem, part))? {
                    Some(cell) => sealed.extend_from_slice(&cell),
                    None => break,
                }
            }
            if let Some(stored) = self.keys.open(self.id, table, key, sealed) {
                return Ok(Some(stored));
            }
            first = self.store.get(&table::cell(&stem, 0))?;
            if first.as_deref().and_then(Header::read) == Some(header) {
                break;
            }
        }
        Err(seal::corrupted(table))
    }

    /// Values whose logical keys lie from `from` (included) to `to` (excluded), in key order.
    pub fn scan_from(self: &Arc<Self>, table: Table, from: &[u8], to: Option<&[u8]>) -> Scan {
        let end = match to {
            Some(to) => Some(table::stem(self.id, table, to)),
            None => table::after(&table::stem(self.id, table, &[])),
        };
        let from = table::stem(self.id, table, from);
        Scan {
            plane: self.clone(),
            table,
            from,
            end,
            page: Vec::new().into_iter(),
            ahead: None,
            cells: PAGE_CELLS.0,
            refused: None,
            done: false,
        }
    }

    /// Values whose logical keys start with `prefix`, in key order.
    pub fn scan(self: &Arc<Self>, table: Table, prefix: &[u8]) -> Scan {
        self.scan_from(table, prefix, table::after(prefix).as_deref())
    }

    /// The same, if `table` is within reach; else a scan that fails.
    pub fn scan_as(self: &Arc<Self>, access: Access, table: Table, prefix: &[u8]) -> Scan {
        self.scan(table, prefix).refused(check_access(table, access).err())
    }

    /// The keys of at most `limit` cells of a plane, in any table; it takes no key to remove them.
    pub fn cell_keys(store: &dyn Store, id: u64, limit: usize) -> Result<Vec<Vec<u8>>> {
        let from = id.to_be_bytes();
        let cells = store.page(&from, table::after(&from).as_deref(), limit)?;
        Ok(cells.into_iter().map(|(key, _)| key).collect())
    }
}

/// A lazy scan: pages of cells are read as the iterator advances, each at its own moment, so a
/// commit during the scan may be seen in part (never half of one value).
pub(super) struct Scan {
    plane: Arc<Plane>,
    table: Table,
    from: Vec<u8>,
    end: Option<Vec<u8>>,
    page: vec::IntoIter<(Vec<u8>, Vec<u8>)>,
    ahead: Option<(Vec<u8>, Vec<u8>)>,
    cells: usize,
    refused: Option<Error>,
    done: bool,
}

impl Scan {
    /// Fails at once if there is a reason.
    pub fn refused(mut self, reason: Option<Error>) -> Self {
        self.refused = reason;
        self
    }

    /// The next cell of the store, from the page at hand or a new one.
    fn cell(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        if let Some(cell) = self.ahead.take().or_else(|| self.page.next()) {
            return Ok(Some(cell));
        }
        self.plane.check_exists()?;
        let page = self.plane.store.page(&self.from, self.end.as_deref(), self.cells)?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        self.from = [last, &[0][..]].concat();
        self.cells = PAGE_CELLS.1;
        self.page = page.into_iter();
        Ok(self.page.next())
    }

    /// The next value.
    fn value(&mut self) -> Result<Option<(Vec<u8>, Stored)>> {
        while let Some((cell_key, cell)) = self.cell()? {
            let (stem, part) = table::split(&cell_key).ok_or_else(|| seal::corrupted(self.table))?;
            if part > 0 {
                continue; // its value was passed or replaced
            }
            let header = Header::read(&cell).ok_or_else(|| seal::corrupted(self.table))?;
            let mut sealed = cell;
            for part in 1..header.parts {
                match self.cell()? {
                    Some((key, cell)) if key == table::cell(stem, part) => sealed.extend_from_slice(&cell),
                    other => {
                        self.ahead = other;
                        break;
                    }
                }
            }
            let key = table::logical(stem).to_vec();
            if let Some(stored) = self.plane.keys.open(self.plane.id, self.table, &key, sealed) {
                return Ok(Some((key, stored)));
            }
            // Replaced or removed under the scan, or truly damaged: a single read tells.
            if let Some(stored) = self.plane.get(self.table, &key)? {
                return Ok(Some((key, stored)));
            }
        }
        self.plane.check_exists().map(|()| None)
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Stored)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = match self.refused.take() {
            Some(error) => Some(Err(error)),
            None => self.value().transpose(),
        };
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

const _: () = assert!(PAGE_CELLS.0 < PAGE_CELLS.1 && PAGE_CELLS.1 * limits::CELL_BYTES <= 1 << 20);
