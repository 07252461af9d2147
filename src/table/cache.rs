//! Columns of blocks that were read lately, up to a bound of bytes. One for each tenant.

use std::collections::{BTreeMap, HashMap};

use arrow::array::ArrayRef;
use parking_lot::Mutex;

use super::schema::Oid;

/// Storage, block, column.
pub(super) type Place = (Oid, u32, u16);

/// See the module.
pub(super) struct Cache {
    bound: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    columns: HashMap<Place, Column>,
    /// By last use.
    order: BTreeMap<u64, Place>,
    uses: u64,
    bytes: usize,
}

struct Column {
    array: ArrayRef,
    bytes: usize,
    used: u64,
}

impl Cache {
    pub fn new(bound: usize) -> Self {
        Self {
            bound,
            held: Mutex::default(),
        }
    }

    pub fn get(&self, place: Place) -> Option<ArrayRef> {
        let mut held = self.held.lock();
        let held = &mut *held;
        held.uses += 1;
        let column = held.columns.get_mut(&place)?;
        held.order.remove(&column.used);
        column.used = held.uses;
        held.order.insert(held.uses, place);
        Some(column.array.clone())
    }

    /// Keeps a column that takes this many bytes; those that were not used for longest make room.
    pub fn put(&self, place: Place, array: ArrayRef, bytes: usize) {
        if bytes > self.bound / 4 {
            return; // it would push out everything else
        }
        let mut held = self.held.lock();
        let held = &mut *held;
        held.remove(place);
        held.uses += 1;
        let used = held.uses;
        held.columns.insert(place, Column { array, bytes, used });
        held.order.insert(used, place);
        held.bytes += bytes;
        while held.bytes > self.bound {
            let Some((_, &oldest)) = held.order.first_key_value() else {
                break;
            };
            held.remove(oldest);
        }
    }

    /// Forgets a column.
    pub fn remove(&self, place: Place) {
        self.held.lock().remove(place);
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.held.lock().bytes
    }
}

impl Held {
    fn remove(&mut self, place: Place) {
        if let Some(column) = self.columns.remove(&place) {
            self.order.remove(&column.used);
            self.bytes -= column.bytes;
        }
    }
}
