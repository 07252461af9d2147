//! [`PerTenant`]: the only state that the process keeps for all tenants together.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use super::handle::Tenant;

/// One `T` for each tenant, which opens only when shown the [`Tenant`]. What belongs to a tenant is
/// forgotten when the tenant is dropped.
pub struct PerTenant<T> {
    slots: Arc<Slots<T>>,
}

struct Slots<T>(Mutex<HashMap<u64, Slot<T>>>);
type Slot<T> = Arc<OnceLock<Arc<T>>>;

/// What a dropped tenant tells everyone who keeps something for it.
pub(super) trait Forget: Send + Sync {
    fn forget(&self, serial: u64);
}

impl<T: Send + Sync> Forget for Slots<T> {
    fn forget(&self, serial: u64) {
        let forgotten = self.lock().remove(&serial);
        drop(forgotten); // outside of the lock: it may be large
    }
}

impl<T> Slots<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Slot<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync + 'static> PerTenant<T> {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self {
            slots: Arc::new(Slots(Mutex::new(HashMap::new()))),
        }
    }

    /// This tenant's `T`, made on first use. Others wait only if they open the same tenant's.
    /// For a tenant that is dropped it is made and not kept.
    pub fn open(&self, tenant: &Tenant, make: impl FnOnce() -> T) -> Arc<T> {
        let serial = tenant.serial();
        let (slot, new) = {
            let mut slots = self.slots.lock();
            let new = !slots.contains_key(&serial);
            (slots.entry(serial).or_default().clone(), new)
        };
        if new {
            let slots: Arc<dyn Forget> = self.slots.clone();
            let weak: Weak<dyn Forget> = Arc::downgrade(&slots);
            if !tenant.when_dropped(weak) {
                self.slots.forget(serial);
            }
        }
        slot.get_or_init(|| Arc::new(make())).clone()
    }

    /// Visits what each tenant has, for background work.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<T>)) {
        let slots: Vec<Slot<T>> = self.slots.lock().values().cloned().collect();
        for made in slots.iter().filter_map(|slot| slot.get()) {
            visit(made);
        }
    }
}

impl<T: Send + Sync + 'static> Default for PerTenant<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for PerTenant<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PerTenant({} tenants)", self.slots.lock().len())
    }
}
