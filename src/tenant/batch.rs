//! What one commit changes, in plain keys and values; sealed when it is committed.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    committer::{Request, check_size},
    plane::Plane,
    seal::Version,
    table::{Access, Table},
};
use crate::{
    codec::key,
    error::{Code, Error, Result},
};

/// Counters that are added up by the committer. What each place means is the ledger's affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub Vec<i64>);

impl Sums {
    /// Adds place by place; missing places are zero. Fails with [`Code::NumericOutOfRange`].
    pub fn add(&mut self, delta: &Sums) -> Result<()> {
        if self.0.len() < delta.0.len() {
            self.0.resize(delta.0.len(), 0);
        }
        for (sum, delta) in self.0.iter_mut().zip(&delta.0) {
            *sum = sum.checked_add(*delta).ok_or_else(out_of_range)?;
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|sum| sum.to_le_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (sums, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        Some(Self(sums.iter().map(|&sum| i64::from_le_bytes(sum)).collect()))
    }
}

fn out_of_range() -> Error {
    Error::new(
        Code::NumericOutOfRange,
        "a counter would leave the range of 64-bit integers",
    )
}

/// A set of changes that take effect together or not at all. Made by
/// [`Tenant::batch`](super::Tenant::batch), and only that tenant commits it.
pub struct Batch {
    plane: Arc<Plane>,
    writes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    expects: Vec<(Table, Vec<u8>, Option<Version>)>,
    adds: BTreeMap<(Table, Vec<u8>), Sums>,
    amounts: BTreeMap<(u8, i64), Sums>,
    entries: Vec<Vec<u8>>,
    on_durable: Vec<Box<dyn FnOnce() + Send>>,
    /// What was wrong when it was filled; told at commit.
    refused: Option<Error>,
}

impl Batch {
    pub(super) fn new(plane: Arc<Plane>) -> Self {
        Self {
            plane,
            writes: BTreeMap::new(),
            expects: Vec::new(),
            adds: BTreeMap::new(),
            amounts: BTreeMap::new(),
            entries: Vec::new(),
            on_durable: Vec::new(),
            refused: None,
        }
    }

    /// Stores a value. The last of several changes to one key counts.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.writes.insert((table, key.to_vec()), Some(value));
    }

    /// Removes a value, if it is there.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.writes.insert((table, key.to_vec()), None);
    }

    /// First committer wins: the commit fails with [`Code::SerializationFailure`] unless the stored
    /// value is still this version (`None`: absent) when the committer reaches it.
    pub fn expect(&mut self, table: Table, key: &[u8], version: Option<Version>) {
        self.expects.push((table, key.to_vec(), version));
    }

    /// Adds to counters, in the committer and thus one after the other, so that no update is lost.
    /// Overflow fails the commit with [`Code::NumericOutOfRange`]. Happens after the batch's own
    /// puts and deletes.
    pub fn add(&mut self, table: Table, key: &[u8], delta: &Sums) {
        let sum = self.adds.entry((table, key.to_vec())).or_default().add(delta);
        self.note(sum);
    }

    /// Adds to this tenant's amounts at a point of a series (its days, for one) on the operator's
    /// plane. Numbers are all that can pass there.
    pub fn publish(&mut self, series: u8, point: i64, delta: &Sums) {
        let sum = self.amounts.entry((series, point)).or_default().add(delta);
        self.note(sum);
    }

    /// Appends an entry to the tenant's log, where it gets its number and its [hash](crate::codec::chain) when the
    /// batch is committed.
    pub fn append(&mut self, entry: Vec<u8>) {
        self.entries.push(entry);
    }

    /// Runs in the committer, in commit order, once the batch is on disk and before the commit
    /// returns; never if it fails. Must be quick: every other commit waits.
    pub fn on_durable(&mut self, then: impl FnOnce() + Send + 'static) {
        self.on_durable.push(Box::new(then));
    }

    /// Whether committing it would do nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.expects.is_empty()
            && self.adds.is_empty()
            && self.amounts.is_empty()
            && self.entries.is_empty()
            && self.on_durable.is_empty()
            && self.refused.is_none()
    }

    /// Whether it writes and adds to these tables only.
    pub(super) fn is_within(&self, writes: &[Table], adds: &[Table]) -> bool {
        let written = self.writes.keys().all(|(table, _)| writes.contains(table));
        let added = self.adds.keys().all(|(table, _)| adds.contains(table));
        written && added && self.expects.iter().all(|(table, ..)| writes.contains(table))
    }

    /// Takes over all of another batch, whose changes count as the later ones.
    pub fn merge(&mut self, other: Batch) {
        if !Arc::ptr_eq(&self.plane, &other.plane) {
            self.note(Err(Error::internal("batches of two tenants were merged")));
            return;
        }
        self.writes.extend(other.writes);
        self.expects.extend(other.expects);
        for ((table, key), delta) in &other.adds {
            self.add(*table, key, delta);
        }
        for ((series, point), delta) in &other.amounts {
            self.publish(*series, *point, delta);
        }
        self.entries.extend(other.entries);
        self.on_durable.extend(other.on_durable);
        if let Some(error) = other.refused {
            self.note(Err(error));
        }
    }

    /// The tables that it writes.
    pub(super) fn tables(&self) -> Vec<Table> {
        self.writes
            .keys()
            .chain(self.adds.keys())
            .map(|(table, _)| *table)
            .collect()
    }

    fn note(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.refused.get_or_insert(error);
        }
    }

    /// Seals everything for the committer. `plane` is whose commit it is, `access` what it may
    /// write, `amounts` the operator's plane where amounts may be published.
    pub(super) fn seal(self, plane: &Arc<Plane>, access: Access, amounts: Option<&Arc<Plane>>) -> Result<Request> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if !Arc::ptr_eq(plane, &self.plane) {
            return Err(Error::internal("a batch was committed by another tenant than its own"));
        }
        plane.check_exists()?;
        let tables = self.writes.keys().chain(self.adds.keys()).map(|(table, _)| table);
        for table in tables.chain(self.expects.iter().map(|(table, ..)| table)) {
            check_access(*table, access)?;
        }
        let plain =
            |((_, key), value): (&(Table, Vec<u8>), &Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
        check_size(self.writes.iter().map(plain).sum())?; // before time goes into sealing
        let mut request = Request::new(plane.clone());
        for (table, key, version) in self.expects {
            request.expect(plane, table, &key, version);
        }
        for ((table, key), value) in self.writes {
            request.write(plane, table, &key, value.as_deref())?;
        }
        for ((table, key), delta) in self.adds {
            request.add(plane, table, &key, delta)?;
        }
        for ((series, point), delta) in self.amounts {
            let operator = amounts.ok_or_else(|| Error::internal("only tenants have amounts"))?;
            request.add(operator, Table::Amounts, &amounts_key(plane.id, series, point), delta)?;
        }
        request.append(self.entries)?;
        request.on_durable = self.on_durable;
        Ok(request)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch({} writes, {} counters)",
            self.writes.len(),
            self.adds.len() + self.amounts.len()
        )
    }
}

/// Refuses tables that are not the caller's; a defect of the caller, so an internal error.
pub(super) fn check_access(table: Table, access: Access) -> Result<()> {
    match table.access() == access {
        true => Ok(()),
        false => Err(Error::internal(format!("table {} is out of reach here", table.name()))),
    }
}

/// The series that a tenant's bill is made of: its points are days since 1970.
pub const AMOUNTS_BY_DAY: u8 = 0;

/// The key in [`Table::Amounts`]: tenant, series, point.
pub(super) fn amounts_key(tenant: u64, series: u8, point: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17);
    key::put_i64(&mut bytes, tenant as i64);
    bytes.push(series);
    key::put_i64(&mut bytes, point);
    bytes
}

/// Tenant, series and point of such a key.
pub(super) fn amounts_read(key: &[u8]) -> Option<(u64, u8, i64)> {
    let (tenant, rest) = key::take_i64(key)?;
    let (series, rest) = rest.split_first()?;
    match key::take_i64(rest)? {
        (point, []) => Some((tenant as u64, *series, point)),
        _ => None,
    }
}
