//! What an account knows in memory, and its decisions: all budgets and limits of a call at once.
//!
//! Everything here runs under the account's lock and never waits.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    call::Call,
    clock::Now,
    denial::{Admission, Denial},
};
use crate::{
    codec::key,
    error::{Error, Result},
    ledger::{
        alert::{self, Alert, Passed, Source, THRESHOLDS},
        bucket::{Bucket, Dimension, Level, Short},
        budget::{Budget, Span, Window},
        money::Nano,
        plan::TenantPlan,
        row,
        usage::UsageLine,
    },
    limits,
    tenant::{Batch, Keyed, Sums, Table, Tenant},
};

/// Whose counters and limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Tenant,
    User(Arc<str>),
}

impl Scope {
    pub fn user(name: &str) -> Self {
        Self::User(name.into())
    }

    /// In a stored key. Names of users stay out of keys, which are not sealed.
    pub fn bytes(&self, tenant: &impl Keyed) -> Vec<u8> {
        match self {
            Self::Tenant => vec![0],
            Self::User(name) => [&[1][..], &tenant.keyed_hash("account user", name.as_bytes())].concat(),
        }
    }

    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Tenant => None,
            Self::User(name) => Some(name),
        }
    }
}

/// One window of one scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub scope: Scope,
    pub window: Window,
    pub start_micros: i64,
}

impl Place {
    pub fn key(&self, tenant: &impl Keyed) -> Vec<u8> {
        let mut bytes = self.scope.bytes(tenant);
        bytes.push(self.window as u8);
        key::put_i64(&mut bytes, self.start_micros);
        bytes
    }

    /// Adds to what is stored of this place. The whole tenant's is shown to the operator, too.
    pub fn add(&self, tenant: &impl Keyed, batch: &mut Batch, delta: &Sums) {
        batch.add(Table::Counters, &self.key(tenant), delta);
        if self.scope == Scope::Tenant {
            batch.publish(self.window.series(), self.start_micros, delta);
        }
    }

    /// The places of a user's call in these windows: the tenant's and the user's.
    pub fn of(user: &str, windows: &[(Window, i64)]) -> Vec<Place> {
        let place = |scope: &Scope| {
            let scope = scope.clone();
            windows.iter().map(move |&(window, start_micros)| Place {
                scope: scope.clone(),
                window,
                start_micros,
            })
        };
        place(&Scope::Tenant).chain(place(&Scope::user(user))).collect()
    }
}

/// What is spent and reserved in one place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    pub spent: Nano,
    pub reserved: Nano,
    /// Costs in commits whose end is not known yet; they still count as reserved.
    settling: Nano,
    /// Calls that hold something here; it stays in memory as long as there is one.
    open: usize,
}

impl Counter {
    pub fn used(&self) -> Result<Nano> {
        self.spent.plus(self.reserved)
    }

    /// One more call holds an amount here.
    pub fn hold(&mut self, amount: Nano) -> Result<()> {
        self.reserved = self.reserved.plus(amount)?;
        self.open += 1;
        Ok(())
    }
}

/// What applies at this moment: the tier's numbers and the plan.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub monthly_budget: Nano,
    /// Capacities of the tenant's buckets, in the order of [`Dimension::ALL`].
    pub capacities: [i64; 3],
    pub concurrent_calls: i64,
    pub plan: Arc<TenantPlan>,
    pub zone: Tz,
}

impl Terms {
    fn capacity(&self, scope: &Scope, dimension: Dimension) -> Option<i64> {
        match scope {
            Scope::Tenant => Some(self.capacities[dimension as usize]),
            Scope::User(_) => self.plan.user_limits.capacity(dimension),
        }
    }

    fn calls(&self, scope: &Scope) -> Option<i64> {
        match scope {
            Scope::Tenant => Some(self.concurrent_calls),
            Scope::User(_) => self.plan.user_limits.concurrent_calls,
        }
    }
}

/// A call that is reserved.
#[derive(Debug)]
pub(super) struct Held {
    pub call: Arc<Call>,
    pub durable: bool,
    /// Where its amount is counted.
    pub places: Vec<Place>,
    /// Whether it still occupies one of the concurrent calls, and its tokens.
    running: bool,
}

/// What the first in line waits for; others leave it there.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub user: Scope,
    pub tokens: i64,
}

/// A budget that applies, and to whom.
pub(super) struct Applied {
    pub source: Source,
    pub scope: Scope,
    pub budget: Budget,
}

#[derive(Serialize, Deserialize)]
struct StoredLevels {
    at_micros: i64,
    levels: Vec<(Dimension, Level)>,
}

/// See the module. The zone is that of the counters.
#[derive(Default)]
pub(super) struct State {
    pub zone: Option<Tz>,
    pub counters: HashMap<Place, Counter>,
    pub held: HashMap<Uuid, Held>,
    pub own: HashMap<Scope, Vec<Budget>>,
    pub claim: Option<Claim>,
    /// Lines that could not be written; the next commit that succeeds is followed by another try.
    pub unwritten: Vec<UsageLine>,
    buckets: HashMap<Scope, Vec<(Dimension, Bucket)>>,
    running: HashMap<Scope, i64>,
    /// Keys of alerts that are stored or on their way.
    fired: HashSet<Vec<u8>>,
}

impl State {
    /// Decides on a call and, if it may go, takes everything it needs; otherwise takes nothing.
    /// `first`: it is the claim's own.
    pub fn admit(
        &mut self,
        tenant: &Tenant,
        terms: &Terms,
        mut call: Call,
        durable: bool,
        first: bool,
        now: Now,
    ) -> Result<Admission<Arc<Call>>> {
        self.sweep();
        let scopes = [Scope::Tenant, Scope::user(&call.user)];
        let spans = Window::ALL.map(|window| (window, window.span(terms.zone, now.wall)));
        if self.held.contains_key(&call.id) {
            return Err(Error::internal("a call was reserved twice"));
        }
        let claim = self.claim.clone().filter(|_| !first);
        let mut worst: Option<Denial> = None;
        for scope in &scopes {
            let ahead = claim
                .as_ref()
                .filter(|claim| *scope == Scope::Tenant || claim.user == *scope);
            self.refill(tenant, terms, scope, now)?;
            for (dimension, bucket) in self.buckets.get(scope).into_iter().flatten() {
                let units = units(*dimension, call.tokens());
                let ahead = ahead.map_or(0, |claim| self::units(*dimension, claim.tokens));
                // What waits ahead may fill the bucket: then this call waits for all of it.
                let both = units.saturating_add(ahead).min(bucket.capacity().max(units));
                match bucket.check(both) {
                    Ok(()) => {}
                    Err(Short::Never) => return Err(Denial::too_large(scope.name(), *dimension, units, bucket)),
                    Err(Short::For { micros }) => {
                        Denial::worse(&mut worst, Denial::rate(scope.name(), *dimension, bucket, micros, now));
                    }
                }
            }
            let running = self.running.get(scope).copied().unwrap_or(0);
            if let Some(most) = terms.calls(scope)
                && running + i64::from(ahead.is_some()) >= most
            {
                Denial::worse(&mut worst, Denial::concurrency(scope.name(), running, most, now));
            }
        }
        for applied in self.budgets(terms, Some(&scopes[1])) {
            let Applied { scope, budget, .. } = &applied;
            let (_, span) = spans[budget.window as usize];
            let counter = *self.counter(tenant, scope, budget.window, span)?;
            let used = counter.used()?;
            // A budget that is used up disables what costs nothing as well.
            let fits = used.plus(call.amount).is_ok_and(|sum| sum <= budget.amount) && counter.spent < budget.amount;
            if budget.hard && !fits {
                let mut denial = Denial::budget(scope.name(), budget, used, span, now);
                denial.alerts = self.fire(tenant, &applied, span, counter.spent, now, true)?;
                Denial::worse(&mut worst, denial);
            }
        }
        if let Some(denial) = worst {
            return Ok(Err(Box::new(denial)));
        }
        call.windows = spans.map(|(window, span)| (window, span.start_micros)).to_vec();
        let places = Place::of(&call.user, &call.windows);
        for place in &places {
            let (_, span) = spans[place.window as usize];
            let counter = self.counter(tenant, &place.scope, place.window, span)?;
            counter.used()?.plus(call.amount)?; // the sum exists: it is taken below, all or nothing
        }
        let call = Arc::new(call);
        self.hold(call.clone(), durable, places)?;
        self.take(&call);
        Ok(Ok(call))
    }

    /// Counts a call where it belongs.
    fn hold(&mut self, call: Arc<Call>, durable: bool, places: Vec<Place>) -> Result<()> {
        for place in &places {
            self.counters.entry(place.clone()).or_default().hold(call.amount)?;
        }
        let held = Held {
            call: call.clone(),
            durable,
            places,
            running: true,
        };
        self.held.insert(call.id, held);
        Ok(())
    }

    fn take(&mut self, call: &Call) {
        for scope in [Scope::Tenant, Scope::user(&call.user)] {
            for (dimension, bucket) in self.buckets.get_mut(&scope).into_iter().flatten() {
                bucket.take(units(*dimension, call.tokens()));
            }
            *self.running.entry(scope).or_default() += 1;
        }
    }

    /// The end of a call's running: its place among the concurrent calls is free, and tokens it did
    /// not use come back. `requests`: it never went out, so it does not count as a request either.
    pub fn release(&mut self, id: Uuid, unused_tokens: i64, requests: bool) {
        let Some(held) = self.held.get_mut(&id).filter(|held| held.running) else {
            return;
        };
        held.running = false;
        for scope in [Scope::Tenant, Scope::user(&held.call.user)] {
            for (dimension, bucket) in self.buckets.get_mut(&scope).into_iter().flatten() {
                match dimension {
                    Dimension::RequestsPerMinute => bucket.refund(i64::from(requests)),
                    _ => bucket.refund(unused_tokens),
                }
            }
            if let Some(running) = self.running.get_mut(&scope) {
                *running -= 1;
                if *running == 0 {
                    self.running.remove(&scope);
                }
            }
        }
    }

    /// Forgets a call that never took place.
    pub fn undo(&mut self, id: Uuid) {
        let tokens = self.held.get(&id).map_or(0, |held| held.call.tokens());
        self.release(id, tokens, true);
        self.leave(id, Nano::ZERO, Nano::ZERO);
    }

    /// A line is on disk: what it held is free, what it cost is spent.
    pub fn settled(&mut self, line: &UsageLine) {
        self.leave(line.id, line.cost, line.cost);
    }

    fn leave(&mut self, id: Uuid, cost: Nano, settling: Nano) {
        let Some(held) = self.held.remove(&id) else {
            return;
        };
        for place in &held.places {
            if let Some(counter) = self.counters.get_mut(place) {
                counter.reserved.0 -= held.call.amount.0;
                counter.spent.0 += cost.0;
                counter.settling.0 -= settling.0;
                counter.open -= 1;
            }
        }
    }

    /// Writes what a settlement changes into a batch, the line itself excepted; tells the alerts that
    /// it sets off.
    pub fn settle_into(
        &mut self,
        tenant: &Tenant,
        terms: Option<&Terms>,
        batch: &mut Batch,
        line: &UsageLine,
        now: Now,
    ) -> Result<Vec<(Vec<u8>, Alert)>> {
        let Some(held) = self.held.get(&line.id) else {
            return Err(Error::internal("a call was settled twice"));
        };
        let (places, amount) = (held.places.clone(), held.call.amount);
        let freed = if held.durable { amount.0 } else { 0 };
        if held.durable {
            batch.delete(Table::Reservations, line.key());
        }
        for place in &places {
            place.add(tenant, batch, &Sums(vec![line.cost.0, -freed]));
            if let Some(counter) = self.counters.get_mut(place) {
                counter.settling.0 += line.cost.0;
            }
        }
        self.store_levels(tenant, batch, &line.user_id, now)?;
        let mut alerts = Vec::new();
        if let Some(terms) = terms {
            for applied in self.budgets(terms, Some(&Scope::user(&line.user_id))) {
                let span = applied.budget.window.span(terms.zone, line.at_micros);
                let counter = *self.counter(tenant, &applied.scope, applied.budget.window, span)?;
                let spent = counter.spent.plus(counter.settling)?;
                alerts.extend(self.fire(tenant, &applied, span, spent, now, false)?);
            }
        }
        for (key, alert) in &alerts {
            alert.put(key, batch)?;
        }
        Ok(alerts)
    }

    /// A commit of [`State::settle_into`] failed.
    pub fn not_settled(&mut self, line: &UsageLine, alerts: &[(Vec<u8>, Alert)]) {
        if let Some(held) = self.held.get(&line.id) {
            for place in &held.places {
                if let Some(counter) = self.counters.get_mut(place) {
                    counter.settling.0 -= line.cost.0;
                }
            }
        }
        self.not_fired(alerts);
    }

    pub fn not_fired(&mut self, alerts: &[(Vec<u8>, Alert)]) {
        for (key, _) in alerts {
            self.fired.remove(key);
        }
    }

    /// The alerts that what is spent of a budget sets off for the first time in the window. `refused`:
    /// a call was turned away; if little is left, that is the end of the budget.
    fn fire(
        &mut self,
        tenant: &Tenant,
        applied: &Applied,
        span: Span,
        spent: Nano,
        now: Now,
        refused: bool,
    ) -> Result<Vec<(Vec<u8>, Alert)>> {
        let Applied { source, scope, budget } = applied;
        let mut alerts = Vec::new();
        for threshold in THRESHOLDS {
            let ended = refused && threshold == 100 && alert::passes(spent, budget.amount, 80);
            if !(ended || alert::passes(spent, budget.amount, threshold)) {
                break;
            }
            let passed = Passed {
                source: *source,
                budget,
                span,
                user: scope.name(),
                threshold,
            };
            let key = passed.key(&scope.bytes(tenant));
            if self.fired.insert(key.clone()) && tenant.get(Table::Alerts, &key)?.is_none() {
                let alert = passed.alert(now.wall, spent);
                alerts.push((key, alert));
            }
        }
        Ok(alerts)
    }

    /// All budgets that apply to the tenant and, if given, to a user's calls.
    pub fn budgets(&self, terms: &Terms, user: Option<&Scope>) -> Vec<Applied> {
        let applied = |source, scope: &Scope, budget: &Budget| Applied {
            source,
            scope: scope.clone(),
            budget: *budget,
        };
        let tier = Budget {
            window: Window::Month,
            amount: terms.monthly_budget,
            hard: true,
        };
        let mut all = vec![applied(Source::Tier, &Scope::Tenant, &tier)];
        all.extend(
            terms
                .plan
                .budgets
                .iter()
                .map(|budget| applied(Source::Operator, &Scope::Tenant, budget)),
        );
        for scope in [Some(&Scope::Tenant), user].into_iter().flatten() {
            let own = self.own.get(scope).into_iter().flatten();
            all.extend(own.map(|budget| applied(Source::Owner, scope, budget)));
        }
        all
    }

    /// What is counted in a window, read from the store if nobody asked for it yet.
    pub fn counter(&mut self, tenant: &Tenant, scope: &Scope, window: Window, span: Span) -> Result<&mut Counter> {
        let place = Place {
            scope: scope.clone(),
            window,
            start_micros: span.start_micros,
        };
        if !self.counters.contains_key(&place) {
            let stored = tenant.sums(Table::Counters, &place.key(tenant))?.unwrap_or_default();
            let at = |i: usize| Nano(stored.0.get(i).copied().unwrap_or(0));
            let counter = Counter {
                spent: at(0),
                reserved: at(1),
                ..Counter::default()
            };
            self.counters.insert(place.clone(), counter);
        }
        Ok(self.counters.entry(place).or_default())
    }

    /// Brings a scope's buckets to this moment and these capacities.
    pub fn refill(&mut self, tenant: &Tenant, terms: &Terms, scope: &Scope, now: Now) -> Result<()> {
        let wanted = Dimension::ALL
            .into_iter()
            .filter_map(|dimension| Some((dimension, terms.capacity(scope, dimension)?)));
        let wanted = wanted.collect::<Vec<_>>();
        if !self.buckets.contains_key(scope) {
            if wanted.is_empty() {
                return Ok(());
            }
            let restored = restored(tenant, scope, &wanted, now)?;
            self.buckets.insert(scope.clone(), restored);
        }
        if let Some(buckets) = self.buckets.get_mut(scope) {
            buckets.retain(|(dimension, _)| wanted.iter().any(|(other, _)| other == dimension));
            for (dimension, capacity) in wanted {
                match buckets.iter_mut().find(|(other, _)| *other == dimension) {
                    Some((_, bucket)) => {
                        bucket.refill(now.steady);
                        bucket.resize(capacity);
                    }
                    None => {
                        let full = Bucket::full(capacity, dimension.period_micros(), now.steady);
                        buckets.push((dimension, full));
                    }
                }
            }
        }
        Ok(())
    }

    pub fn levels(&self, scope: &Scope) -> &[(Dimension, Bucket)] {
        self.buckets.get(scope).map_or(&[], Vec::as_slice)
    }

    /// How many calls run, and how many may.
    pub fn running(&self, terms: &Terms, scope: &Scope) -> Option<(i64, i64)> {
        Some((self.running.get(scope).copied().unwrap_or(0), terms.calls(scope)?))
    }

    /// Puts the levels that a call of this user has changed into a batch.
    pub fn store_levels(&mut self, tenant: &Tenant, batch: &mut Batch, user: &str, now: Now) -> Result<()> {
        for scope in [Scope::Tenant, Scope::user(user)] {
            let Some(buckets) = self.buckets.get_mut(&scope) else {
                continue;
            };
            buckets.iter_mut().for_each(|(_, bucket)| bucket.refill(now.steady));
            let levels = buckets.iter().map(|(dimension, bucket)| (*dimension, bucket.stored()));
            let stored = StoredLevels {
                at_micros: now.wall,
                levels: levels.collect(),
            };
            batch.put(Table::Buckets, &scope.bytes(tenant), row::encode(&stored)?);
        }
        Ok(())
    }

    /// Lets go of users nobody asked for lately, once there are many.
    fn sweep(&mut self) {
        if self.counters.len() > 4 * limits::ACCOUNT_USERS {
            self.counters.retain(|_, counter| counter.open > 0);
        }
        if self.buckets.len() > limits::ACCOUNT_USERS {
            let running = &self.running;
            self.buckets
                .retain(|scope, _| *scope == Scope::Tenant || running.contains_key(scope));
        }
        if self.fired.len() > limits::ACCOUNT_USERS {
            self.fired.clear(); // the store knows
        }
    }
}

/// What a call takes of a bucket.
pub(super) fn units(dimension: Dimension, tokens: i64) -> i64 {
    match dimension {
        Dimension::TokensPerMinute | Dimension::TokensPerDay => tokens,
        Dimension::RequestsPerMinute => 1,
    }
}

/// The buckets of a scope as a former process left them.
fn restored(tenant: &Tenant, scope: &Scope, wanted: &[(Dimension, i64)], now: Now) -> Result<Vec<(Dimension, Bucket)>> {
    let stored = match tenant.get(Table::Buckets, &scope.bytes(tenant))? {
        Some(stored) => row::decode::<StoredLevels>("rate limit", &stored.value)?,
        None => return Ok(Vec::new()),
    };
    let elapsed = now.wall.saturating_sub(stored.at_micros);
    Ok(wanted
        .iter()
        .filter_map(|&(dimension, capacity)| {
            let (_, level) = stored.levels.iter().find(|(other, _)| *other == dimension)?;
            let bucket = Bucket::restored(*level, capacity, dimension.period_micros(), elapsed, now.steady);
            Some((dimension, bucket))
        })
        .collect())
}
