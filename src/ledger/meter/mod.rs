//! Counts of what is too frequent for a commit of its own: statements and vector searches.
//!
//! Counting touches memory only. What is counted goes out with the next commit of the tenant or
//! within [`limits::METER_INTERVAL`]; a crash loses at most that. Views read
//! [`Meter::pending`] beside the store, so nobody waits for a disk to see current numbers.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    books,
    money::{Day, Nano},
    price::{DATABASE, Prices, STATEMENT, VECTOR_SEARCH},
    published::Cached,
    usage::{Operation, UsageLine, now_micros},
};
use crate::{
    error::{Code, Result},
    limits,
    tenant::{Batch, PerTenant, Tenant},
};

/// Counts the events of one tenant. Lives in a [`PerTenant`].
pub struct Meter {
    tenant: Tenant,
    prices: Arc<Cached<Prices>>,
    clock: fn() -> i64,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Lines that still grow, by user. A user has one for each operation, day and price.
    open: HashMap<String, Vec<Open>>,
    /// Lines in a batch whose end is not known yet.
    leaving: HashMap<Uuid, Open>,
}

#[derive(Clone)]
struct Open {
    line: UsageLine,
    /// Price of one event.
    unit: Nano,
}

impl Open {
    /// Adds what `other` counted; false (and nothing added) if it is priced otherwise or too much.
    fn absorb(&mut self, other: &Open) -> bool {
        let (a, b) = (&self.line, &other.line);
        if a.operation != b.operation || a.day() != b.day() || self.unit != other.unit || a.price_id != b.price_id {
            return false;
        }
        let (Some(count), Ok(cost)) = (a.count.checked_add(b.count), a.cost.plus(b.cost)) else {
            return false;
        };
        (self.line.count, self.line.cost) = (count, cost);
        true
    }
}

impl Counts {
    fn add(&mut self, more: Open) {
        let lines = self.open.entry(more.line.user_id.clone()).or_default();
        if !lines.iter_mut().any(|open| open.absorb(&more)) {
            lines.push(more);
        }
    }
}

impl Meter {
    /// A meter of this tenant with nothing counted. `prices` are shared by all meters.
    pub fn new(tenant: Tenant, prices: Arc<Cached<Prices>>) -> Self {
        Self::with_clock(tenant, prices, now_micros)
    }

    /// [`Meter::new`] with a clock that gives microseconds since 1970 UTC.
    pub fn with_clock(tenant: Tenant, prices: Arc<Cached<Prices>>, clock: fn() -> i64) -> Self {
        Self {
            tenant,
            prices,
            clock,
            counts: Mutex::default(),
        }
    }

    /// Whose events are counted.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The price table of this moment.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn prices(&self) -> Result<Arc<Prices>> {
        self.prices.get(&self.tenant)
    }

    /// Counts one statement of a user.
    pub fn statement(&self, user: &str) {
        self.count(user, Operation::Statement, STATEMENT);
    }

    /// Counts one vector search of a user.
    pub fn vector_search(&self, user: &str) {
        self.count(user, Operation::VectorSearch, VECTOR_SEARCH);
    }

    fn count(&self, user: &str, operation: Operation, model: &'static str) {
        let now = (self.clock)();
        let day = Day::of_micros(now);
        if let Some(lines) = self.counts().open.get_mut(user)
            && let Some(open) = lines
                .iter_mut()
                .find(|o| o.line.operation == operation && o.line.day() == day)
            && let (Some(count), Ok(cost)) = (open.line.count.checked_add(1), open.line.cost.plus(open.unit))
        {
            (open.line.count, open.line.cost) = (count, cost);
            return;
        }
        let mut line = UsageLine::at(now, user, operation, model);
        let mut unit = Nano::ZERO;
        match self.prices() {
            Ok(prices) => {
                if let Some(price) = prices.get(DATABASE, model, day) {
                    unit = price.event();
                    line.price_id = Some(price.id());
                }
            }
            Err(error) => {
                tracing::error!(%error, "the price table cannot be read; a statement is counted without a price");
                line.estimated = true;
            }
        }
        line.cost = unit;
        self.counts().add(Open { line, unit });
    }

    /// What is counted and not yet known to be stored, for views; lines in a running commit included.
    pub fn pending(&self) -> Vec<UsageLine> {
        let counts = self.counts();
        let all = counts.open.values().flatten().chain(counts.leaving.values());
        all.map(|open| open.line.clone()).collect()
    }

    /// Moves what is counted into a batch of this tenant. It leaves memory when the batch is durable;
    /// if the batch is dropped or its commit fails, it counts here again.
    ///
    /// # Errors
    /// Those of [`books::record`]; the batch is then to be dropped.
    pub fn drain_into(self: &Arc<Self>, batch: &mut Batch) -> Result<()> {
        let lines: Vec<Open> = {
            let mut counts = self.counts();
            let lines: Vec<Open> = std::mem::take(&mut counts.open).into_values().flatten().collect();
            counts
                .leaving
                .extend(lines.iter().map(|open| (open.line.id, open.clone())));
            lines
        };
        if lines.is_empty() {
            return Ok(());
        }
        let drained = Drained {
            meter: Arc::clone(self),
            ids: lines.iter().map(|open| open.line.id).collect(),
        };
        for open in &lines {
            books::record(batch, &open.line)?;
        }
        batch.on_durable(move || drained.written());
        Ok(())
    }

    /// Commits what is counted, if anything is. A tenant that no longer exists forgets its counts.
    ///
    /// # Errors
    /// Those of a commit; the counts then stay in memory.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        let mut batch = self.tenant.batch();
        self.drain_into(&mut batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        match self.tenant.commit(batch).await {
            Err(error) if error.code() == Code::InvalidAuthorization => {
                self.counts().open.clear();
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Never held over an `.await` or while another lock is taken.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({})", self.tenant.name())
    }
}

/// Lines in a batch. Dropped without [`Drained::written`], it puts them back.
struct Drained {
    meter: Arc<Meter>,
    ids: Vec<Uuid>,
}

impl Drained {
    fn written(mut self) {
        let mut counts = self.meter.counts();
        for id in std::mem::take(&mut self.ids) {
            counts.leaving.remove(&id);
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let mut counts = self.meter.counts();
        for id in std::mem::take(&mut self.ids) {
            if let Some(open) = counts.leaving.remove(&id) {
                counts.add(open);
            }
        }
    }
}

/// Flushes every meter each [`limits::METER_INTERVAL`], and once more when told to stop. Run it as
/// a task; stop it before the directory closes.
pub async fn flusher(meters: Arc<PerTenant<Meter>>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let stopped = stop.run_until_cancelled(pause(limits::METER_INTERVAL)).await.is_none();
        let mut all = Vec::new();
        meters.for_each(|meter| all.push(Arc::clone(meter)));
        // At once, so that all of them share a few syncs of the disk.
        let failures: usize = stream::iter(all)
            .map(|meter| async move { meter.flush().await.err() })
            .buffer_unordered(limits::GROUP_COMMITS)
            .filter_map(|failure| async move {
                if let Some(error) = &failure {
                    tracing::debug!(%error, "counts of statements stay in memory");
                }
                failure
            })
            .count()
            .await;
        if failing != (failures > 0) {
            failing = failures > 0;
            match failing {
                true => tracing::warn!(failures, "counts of statements cannot be written; they stay in memory"),
                false => tracing::info!("counts of statements are written again"),
            }
        }
        if stopped {
            return;
        }
    }
}

async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

#[cfg(test)]
mod tests;
