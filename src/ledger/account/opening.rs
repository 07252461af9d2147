//! Opening an account: settling what a crash left, and counting anew when the zone has changed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use chrono_tz::Tz;
use tokio::{
    runtime::Handle,
    sync::{Notify, RwLock, broadcast},
};
use uuid::Uuid;

use super::{
    Account, PlanSource, Recorder,
    call::Call,
    clock::Clock,
    orphans,
    state::{Counter, Place, Scope, State},
    views::OwnBudget,
};
use crate::{
    error::{Error, Result},
    ledger::{
        budget::{Span, Window},
        meter::Meter,
        money::Nano,
        published::Cached,
        row,
        tier::Tiers,
        usage::{Class, UsageLine},
    },
    limits,
    tenant::{Sums, Table, Tenant},
};

/// In [`Table::Counters`]: the zone whose windows the counters are of. Keys of counters begin with 0 or 1.
const ZONE_KEY: &[u8] = &[0xFF];

impl Account {
    /// Opens the account of the meter's tenant. Reservations that a crash left are settled by rule
    /// (see the [module](super)). Runs in a tokio runtime, in which calls that are given up settle.
    ///
    /// # Errors
    /// [`Code::Corrupted`](crate::error::Code::Corrupted) and those of a commit.
    pub async fn open(
        meter: Arc<Meter>,
        tiers: Arc<Cached<Tiers>>,
        plan: PlanSource,
        recorder: Recorder,
        clock: Clock,
    ) -> Result<Arc<Self>> {
        let tenant = meter.tenant().clone();
        let mut state = State::default();
        for found in tenant.scan(Table::Budgets, &[]) {
            let own: OwnBudget = row::decode("budget", &found?.1.value)?;
            let scope = own.user.as_deref().map_or(Scope::Tenant, Scope::user);
            state.set_own(scope, own.budget.window, Some(own.budget));
        }
        let recovery = tenant.recovery();
        let taken = recovery.take_over().await;
        orphans::settle(&recovery, &recorder).await?;
        drop(taken);
        state.zone = match tenant.get(Table::Counters, ZONE_KEY)? {
            Some(stored) => row::decode::<String>("time zone", &stored.value)?.parse().ok(),
            None => None,
        };
        let (alerts, _) = broadcast::channel(limits::ALERT_BACKLOG);
        let account = Arc::new(Self {
            meter,
            tiers,
            plan,
            recorder,
            clock,
            runtime: Handle::current(),
            state: Mutex::new(state),
            decoded: Mutex::default(),
            moves: Arc::new(RwLock::new(())),
            line: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            alerts,
        });
        account.terms_and_move().await?; // counts what was used before there were counters
        Ok(account)
    }

    /// Makes the counters those of another zone: of the running windows they are added up from the
    /// usage lines and from what is reserved. Nothing else moves meanwhile.
    pub(super) async fn count_anew(self: &Arc<Self>, zone: Tz) -> Result<()> {
        let _still = self.moves.clone().write_owned().await;
        if self.state().zone == Some(zone) {
            return Ok(());
        }
        let now = self.clock.now();
        let windows = Window::ALL.map(|window| (window, window.span(zone, now.wall)));
        let tenant = self.tenant().clone();
        let counting = tokio::task::spawn_blocking(move || spent(&tenant, &windows));
        let spent = counting.await.map_err(Error::internal)??;
        let mut counters: HashMap<Place, Counter> = HashMap::new();
        for (place, spent) in spent {
            counters.entry(place).or_default().spent = spent;
        }
        let (mut batch, mut places) = (self.tenant().batch(), HashMap::<Uuid, Vec<Place>>::new());
        {
            let state = self.state();
            for held in state.held.values() {
                let mut all = held.places.clone();
                for place in Place::of(&held.call.user, &around(&windows, held.call.at_micros)) {
                    counters.entry(place.clone()).or_default().hold(held.call.amount)?;
                    if !all.contains(&place) {
                        all.push(place);
                    }
                }
                if held.durable {
                    let call = Call {
                        windows: windows_of(&all),
                        ..Call::clone(&held.call)
                    };
                    batch.put(Table::Reservations, call.id.as_bytes(), call.encode()?);
                }
                places.insert(held.call.id, all);
            }
            for (place, counter) in &counters {
                let stored = state.held.values().filter(|held| held.durable);
                let stored = stored.filter(|held| places.get(&held.call.id).is_some_and(|all| all.contains(place)));
                let reserved: i64 = stored.map(|held| held.call.amount.0).sum();
                // What is there of a former time in this zone is replaced, also where the operator sees it.
                let mut change = Sums(vec![counter.spent.0, reserved]);
                let former = self.tenant().sums(Table::Counters, &place.key(self.tenant()))?;
                let former = former
                    .unwrap_or_default()
                    .0
                    .iter()
                    .map(|n| n.saturating_neg())
                    .collect();
                change.add(&Sums(former))?;
                place.add(self.tenant(), &mut batch, &change);
            }
        }
        batch.put(Table::Counters, ZONE_KEY, row::encode(&zone.name())?);
        self.tenant().commit(batch).await?;
        let mut state = self.state();
        for (id, all) in places {
            if let Some(held) = state.held.get_mut(&id) {
                held.places = all;
            }
        }
        state.counters.extend(counters);
        state.zone = Some(zone);
        Ok(())
    }
}

/// The windows of places, each once.
fn windows_of(places: &[Place]) -> Vec<(Window, i64)> {
    let mut seen = HashSet::new();
    let all = places.iter().map(|place| (place.window, place.start_micros));
    all.filter(|window| seen.insert(*window)).collect()
}

/// Those of the windows that hold a moment, by their starts.
fn around(windows: &[(Window, Span)], at_micros: i64) -> Vec<(Window, i64)> {
    let holds = |span: &Span| (span.start_micros..span.end_micros).contains(&at_micros);
    let around = windows.iter().filter(|(_, span)| holds(span));
    around.map(|(window, span)| (*window, span.start_micros)).collect()
}

/// What the usage lines of these windows cost, by place. Costs of models only: what budgets count.
pub(super) fn spent(tenant: &Tenant, windows: &[(Window, Span)]) -> Result<HashMap<Place, Nano>> {
    let mut sums = HashMap::new();
    let Some(earliest) = windows.iter().map(|(_, span)| span.start_micros).min() else {
        return Ok(sums);
    };
    for found in tenant.scan_from(Table::Usage, &first_id(earliest), None) {
        let line = UsageLine::decode(&found?.1.value)?;
        if line.operation.class() != Class::Llm {
            continue;
        }
        for place in Place::of(&line.user_id, &around(windows, line.at_micros)) {
            let sum = sums.entry(place).or_insert(Nano::ZERO);
            *sum = sum.plus(line.cost)?;
        }
    }
    Ok(sums)
}

/// How much earlier than its moment the id of a line may have been made: requests wait, clocks step.
const ID_SLACK_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// No line of this moment has a smaller key.
fn first_id(micros: i64) -> [u8; 16] {
    let millis = (micros / 1000 - ID_SLACK_MILLIS).clamp(0, (1 << 48) - 1);
    let mut id = [0; 16];
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    id
}
