//! The account of one tenant: what it has spent, what is set aside, and whether a call may go.
//!
//! One lock decides over all budgets and rate limits at once, in memory; the decision then becomes
//! one durable commit before the caller hears of it, and is undone in memory if that fails. The store
//! follows memory: counters are changed by adding, so that on disk, at every instant, what is spent
//! is the sum of the usage lines of its window, and what is reserved that of the stored reservations.
//!
//! # A call's life
//!
//! [`Account::reserve`] takes the worst case: the amount in each window of tenant and user, tokens
//! and a request of each bucket, a place among the concurrent calls; or, if any is missing, nothing.
//! [`Reservation::settle`] writes the usage line and frees the rest. Window, day and price are those
//! of the moment of reservation, so nothing is ever charged where it was not reserved.
//!
//! # After a crash
//!
//! Nobody can say of a stored reservation whether the provider was called and has answered. The row
//! is written immediately before the call goes out, so it is taken to have: the next start, or the opening
//! of the account if that is sooner, settles it once, at all that was reserved, with status `orphaned` and flagged as estimated. Never
//! free, never twice, never above a budget. A crash before the row was written leaves nothing and
//! costs nothing; nor does one during a call of a built-in model, whose reservation is in memory only
//! ([`Ask::durable`]), and whose tokens may then be taken again from the rate limits.

mod audit;
mod call;
mod clock;
mod denial;
mod opening;
mod orphans;
mod reservation;
mod settling;
mod state;
#[cfg(test)]
mod tests;
mod views;
mod waiting;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedRwLockReadGuard, RwLock, broadcast, oneshot},
};

pub use self::{
    audit::Imbalance,
    call::{Ask, End},
    clock::Clock,
    orphans::recover,
    reservation::Reservation,
    views::{BudgetRow, LimitCheck, RateLimitRow},
};
use self::{
    call::Call,
    denial::{Admission, Denial},
    reservation::Handed,
    state::{State, Terms},
};
use super::{alert::Alert, budget, meter::Meter, plan::TenantPlan, published::Cached, tier::Tiers, usage::UsageLine};
use crate::{
    error::{Code, Error, Result},
    tenant::{Batch, Sums, Table, Tenant},
};

/// Where an account reads the tenant's plan: its stored bytes as of now.
pub type PlanSource = Arc<dyn Fn(&Tenant) -> Arc<[u8]> + Send + Sync>;

/// What else goes into the commit of a call's line: told the line and, if the log keeps it, the prompt.
pub type Recorder = Arc<dyn Fn(&UsageLine, Option<&str>, &mut Batch) + Send + Sync>;

/// See the [module](self). One for each tenant; keep it in a
/// [`PerTenant`](crate::tenant::PerTenant).
pub struct Account {
    meter: Arc<Meter>,
    tiers: Arc<Cached<Tiers>>,
    plan: PlanSource,
    recorder: Recorder,
    clock: Clock,
    runtime: Handle,
    /// Never held over an `.await`.
    state: Mutex<State>,
    /// The plan as decoded last.
    decoded: Mutex<Option<Decoded>>,
    /// Read-held from a decision until memory and store agree on it; write-held to count anew.
    moves: Arc<RwLock<()>>,
    /// Who waits for a rate limit, in order.
    line: tokio::sync::Mutex<()>,
    freed: Notify,
    alerts: broadcast::Sender<Alert>,
}

/// A plan's bytes and what they say.
type Decoded = (Arc<[u8]>, Arc<TenantPlan>);
/// What comes of an admitted call.
type Admitted = oneshot::Receiver<Result<Handed>>;
/// A commit on its way to the committer.
type Commit = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Account {
    /// Sets aside what a call takes at worst. With [`Ask::wait`] it queues for a rate limit, first
    /// come first served, if that can pass in time.
    ///
    /// # Errors
    /// [`Code::LimitReached`] with the limit in the detail (of several the one that lasts longest),
    /// [`Code::TooLarge`] if a rate limit never has that much, and those of a commit. In each case
    /// nothing is taken of any limit.
    pub async fn reserve(self: &Arc<Self>, ask: Ask) -> Result<Reservation> {
        let call = Call::new(&ask, self.clock.now().wall)?;
        let admitted = match ask.wait.is_zero() {
            true => self.admit(&call, ask.durable, false).await?,
            false => self.admit_in_turn(&call, ask.durable, ask.wait).await?,
        };
        let admitted = admitted.map_err(|denial| denial.error())?;
        let handed = admitted.await.map_err(|_| stopping())??;
        handed
            .take()
            .ok_or_else(|| Error::internal("a reservation was taken twice"))
    }

    /// Decides on a call. What comes of an admitted one arrives once it is durable; if nobody waits
    /// for that any more, the call is void.
    async fn admit(self: &Arc<Self>, call: &Call, durable: bool, first: bool) -> Result<Admission<Admitted>> {
        let (terms, moving) = self.terms_and_move().await?;
        let (sender, receiver) = oneshot::channel();
        let now = self.clock.now();
        let mut call = call.clone();
        call.at_micros = now.wall;
        let decided = {
            let mut state = self.state();
            match state.admit(self.tenant(), &terms, call, durable, first, now)? {
                Err(denial) => Err(denial),
                Ok(call) => {
                    let commit = durable.then(|| self.reserving(&mut state, &call, now)).transpose();
                    Ok((commit.inspect_err(|_| state.undo(call.id))?, call))
                }
            }
        };
        // No await from here on: what is taken has an owner before anyone can stop waiting for it.
        match decided {
            Ok((commit, call)) => {
                self.runtime.spawn(self.clone().confirm(call, commit, moving, sender));
                Ok(Ok(receiver))
            }
            Err(denial) => {
                self.tell_of(&denial);
                Ok(Err(denial))
            }
        }
    }

    /// The commit of a reservation, handed over in the order of decisions.
    fn reserving(&self, state: &mut State, call: &Call, now: clock::Now) -> Result<Commit> {
        let tenant = self.tenant();
        let mut batch = tenant.batch();
        batch.put(Table::Reservations, call.id.as_bytes(), call.encode()?);
        batch.expect(Table::Usage, call.id.as_bytes(), None); // a call that is settled is not made again
        for place in state.held.get(&call.id).iter().flat_map(|held| &held.places) {
            place.add(tenant, &mut batch, &Sums(vec![0, call.amount.0]));
        }
        state.store_levels(tenant, &mut batch, &call.user, now)?;
        Ok(self.submit(batch))
    }

    /// Waits for the commit of a reservation and hands it over, or undoes it.
    async fn confirm(
        self: Arc<Self>,
        call: Arc<Call>,
        commit: Option<Commit>,
        moving: OwnedRwLockReadGuard<()>,
        to: oneshot::Sender<Result<Handed>>,
    ) {
        let outcome = match commit {
            Some(commit) => commit.await,
            None => Ok(()),
        };
        if outcome.is_err() {
            self.state().undo(call.id);
            self.freed.notify_waiters();
        }
        drop(moving);
        let handed = outcome.map(|()| Handed::new(Reservation::new(self.clone(), call)));
        let _ = to.send(handed); // a `Handed` that nobody takes voids itself
    }

    /// Writes and tells what a refusal has set off.
    fn tell_of(self: &Arc<Self>, denial: &Denial) {
        if denial.alerts.is_empty() {
            return;
        }
        let (account, alerts) = (self.clone(), denial.alerts.clone());
        self.runtime.spawn(async move {
            let mut batch = account.tenant().batch();
            let filled = alerts.iter().try_for_each(|(key, alert)| alert.put(key, &mut batch));
            let written = match filled {
                Ok(()) => account.tenant().commit(batch).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => account.tell(&alerts),
                Err(error) => {
                    tracing::warn!(%error, "an alert could not be written; the next refusal tries again");
                    account.state().not_fired(&alerts);
                }
            }
        });
    }

    fn tell(&self, alerts: &[(Vec<u8>, Alert)]) {
        for (_, alert) in alerts {
            let _ = self.alerts.send(alert.clone()); // nobody has to listen
        }
    }

    /// Lets a commit write an alert that is no budget's, and tell it once it is durable.
    ///
    /// # Errors
    /// None in practice.
    pub fn raise(&self, alert: Alert, batch: &mut Batch) -> Result<()> {
        alert.put_event(batch)?;
        let alerts = self.alerts.clone();
        batch.on_durable(move || drop(alerts.send(alert)));
        Ok(())
    }

    /// Alerts from now on, each once it is durable.
    pub fn subscribe(&self) -> broadcast::Receiver<Alert> {
        self.alerts.subscribe()
    }

    /// Whose account it is.
    pub fn tenant(&self) -> &Tenant {
        self.meter.tenant()
    }

    /// The tenant's plan as of now.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn plan(&self) -> Result<Arc<TenantPlan>> {
        let bytes = (self.plan)(self.tenant());
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, plan)) = &*decoded
            && *of == bytes
        {
            return Ok(plan.clone());
        }
        let plan = Arc::new(TenantPlan::decode(&bytes)?);
        *decoded = Some((bytes, plan.clone()));
        Ok(plan)
    }

    fn terms(&self) -> Result<Terms> {
        let plan = self.plan()?;
        let tiers = self.tiers.get(self.tenant())?;
        let tier = tiers.get(&self.tenant().settings().tier).ok_or_else(|| {
            Error::new(Code::NotReady, "the tier of this tenant does not exist any more")
                .with_hint("ask the operator of this server")
        })?;
        Ok(Terms {
            monthly_budget: tier.monthly_budget,
            capacities: [tier.tokens_per_minute, tier.tokens_per_day, tier.requests_per_minute],
            concurrent_calls: tier.concurrent_calls,
            zone: budget::zone(&plan.timezone)?,
            plan,
        })
    }

    /// What applies now, and the counters kept in the zone of that.
    async fn terms_and_move(self: &Arc<Self>) -> Result<(Terms, OwnedRwLockReadGuard<()>)> {
        loop {
            let moving = self.moves.clone().read_owned().await;
            let terms = self.terms()?;
            if self.state().zone == Some(terms.zone) {
                return Ok((terms, moving));
            }
            drop(moving);
            self.count_anew(terms.zone).await?;
        }
    }

    /// Hands a batch to the committer now, under the lock of who decided, so that levels reach the
    /// disk in the order of decisions. (If the committer's queue is full they may pass each other;
    /// amounts do not depend on order.)
    fn submit(&self, batch: Batch) -> Commit {
        let tenant = self.tenant().clone();
        let commit = async move { tenant.commit(batch).await };
        let mut commit: Commit = Box::pin(tokio::task::unconstrained(commit));
        match commit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Box::pin(std::future::ready(outcome)),
            Poll::Pending => commit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.tenant().name())
    }
}

fn stopping() -> Error {
    Error::new(Code::Shutdown, "the server is stopping")
}
