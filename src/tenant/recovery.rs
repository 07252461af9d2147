//! [`Recovery`]: what a process that starts may do for tenants to which nobody has logged in.
//!
//! A former process may have left calls of models that it reserved and did not settle. They are money, so they are
//! not to wait for a login. What it takes to settle them is all that is reached here: the reservations are read,
//! and a commit may take them away, add their lines and their entries of the log, and add to sums. Documents,
//! messages, secrets and settings of the tenant are out of reach, and once somebody has logged in so is all of it.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use tokio::sync::MutexGuard;

use super::{
    batch::Batch,
    directory::{Directory, Live, TenantSettings},
    handle::{Keyed, Tenant},
    seal::Stored,
    table::{Access, Table},
};
use crate::error::{Error, Result};

/// The unsettled calls of one tenant.
#[derive(Clone)]
pub struct Recovery {
    directory: Arc<Directory>,
    live: Arc<Live>,
}

/// What a commit of a [`Recovery`] may put in or take away.
const WRITES: &[Table] = &[Table::Usage, Table::Reservations];
/// Where it may add to sums.
const ADDS: &[Table] = &[Table::Costs, Table::Counters];

impl Directory {
    /// Those of all tenants that have unsettled calls. Reads the disk.
    ///
    /// # Errors
    /// Those of reading.
    pub fn recoveries(self: &Arc<Self>) -> Result<Vec<Recovery>> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = live.values().cloned().collect();
        drop(live);
        let mut found = Vec::new();
        for live in all {
            let recovery = Recovery {
                directory: self.clone(),
                live,
            };
            if recovery.unsettled().next().transpose()?.is_some() {
                found.push(recovery);
            }
        }
        Ok(found)
    }
}

impl Tenant {
    /// Its own unsettled calls.
    pub fn recovery(&self) -> Recovery {
        let (directory, live) = self.parts();
        Recovery { directory, live }
    }
}

impl Recovery {
    /// For whom an account is opened: waits until nobody else settles, and keeps everybody else from it until
    /// the guard is dropped; those who come without a login for good.
    pub async fn take_over(&self) -> MutexGuard<'_, bool> {
        let mut taken = self.live.taken_over.lock().await;
        *taken = true;
        taken
    }

    /// For who comes without a login; `None` once an account was opened, whose calls are not unsettled but
    /// under way.
    pub async fn begin(&self) -> Option<MutexGuard<'_, bool>> {
        let taken = self.live.taken_over.lock().await;
        (!*taken).then_some(taken)
    }

    /// What is reserved, as [`Tenant::scan`] gives it.
    pub fn unsettled(&self) -> impl Iterator<Item = Result<(Vec<u8>, Stored)>> + Send + use<> {
        self.live.plane.scan_as(Access::Tenant, Table::Reservations, &[])
    }

    /// What the operator has set for the tenant.
    pub fn settings(&self) -> TenantSettings {
        let settings = self.live.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.clone()
    }

    /// An empty set of changes.
    pub fn batch(&self) -> Batch {
        Batch::new(self.live.plane.clone())
    }

    /// As [`Tenant::commit`], for what settles.
    ///
    /// # Errors
    /// Those of a commit; an internal one for a change of anything else.
    pub async fn commit(&self, batch: Batch) -> Result<()> {
        if !batch.is_within(WRITES, ADDS) {
            return Err(Error::internal("a recovery changes what it must not reach"));
        }
        let request = batch.seal(&self.live.plane, Access::Tenant, Some(&self.directory.operator))?;
        self.directory.committer.submit(request).await
    }
}

impl Keyed for Recovery {
    fn keyed_hash(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        self.live.plane.keys.hash(&format!("data:{label}"), bytes)
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recovery({})", self.live.name)
    }
}
