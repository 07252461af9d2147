//! An account of a tenant in memory, with clocks, a tier and a plan that tests turn.

mod crash;
mod limits;
mod money;
mod prices;
mod shown;

mod windows;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use super::{Account, Ask, Clock, End, PlanSource, Recorder, Reservation};
use crate::{
    error::{Code, Error, Result},
    ledger::{
        self,
        budget::Window,
        meter::Meter,
        money::{Day, Nano},
        plan::TenantPlan,
        price::Price,
        published::Cached,
        tier::{self, Tier, Tiers},
        usage::{Operation, Status, UsageLine},
    },
    tenant::{Batch, Directory, Table, Tenant, testing},
};

/// 2026-07-15T12:00:00Z
const NOON: i64 = 1_784_116_800_000_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

struct House {
    directory: Arc<Directory>,
    tenant: Tenant,
    tiers: Arc<Cached<Tiers>>,
    wall: Arc<AtomicI64>,
    steady: Arc<AtomicI64>,
    plan: Arc<Mutex<TenantPlan>>,
    account: Arc<Account>,
}

/// A tier whose limits are out of the way.
fn wide() -> Tier {
    let [free, ..] = tier::defaults();
    Tier {
        tokens_per_day: 1_000_000_000_000,
        tokens_per_minute: 1_000_000_000_000,
        requests_per_minute: 1_000_000_000,
        concurrent_calls: 1_000_000,
        monthly_budget: Nano(1_000_000_000_000),
        ..free
    }
}

impl House {
    async fn new() -> Self {
        let directory = testing::directory(&["acme"]).await;
        directory.seed(ledger::defaults().unwrap()).unwrap();
        put_tier(&directory, &wide()).await;
        let tenant = testing::tenant(&directory, "acme", "owner", "secret");
        let (wall, steady) = (Arc::new(AtomicI64::new(NOON)), Arc::new(AtomicI64::new(0)));
        let (plan, tiers) = (Arc::<Mutex<TenantPlan>>::default(), Arc::default());
        let account = open(&tenant, &tiers, &plan, &wall, &steady).await;
        Self {
            directory,
            tenant,
            tiers,
            wall,
            steady,
            plan,
            account,
        }
    }

    /// With a hard budget of the operator's.
    async fn with_budget(window: Window, amount: i64) -> Self {
        let house = Self::new().await;
        house
            .plan
            .lock()
            .unwrap()
            .set_budget(window, Some(Nano(amount)), true)
            .unwrap();
        house
    }

    async fn with_tier(tier: Tier) -> Self {
        let house = Self::new().await;
        put_tier(&house.directory, &tier).await;
        house
    }

    /// What a new process would find: memory is gone, the store is as it is.
    async fn restart(&mut self) {
        self.steady.store(0, Ordering::SeqCst);
        self.account = open(&self.tenant, &self.tiers, &self.plan, &self.wall, &self.steady).await;
    }

    fn pass(&self, micros: i64) {
        self.wall.fetch_add(micros, Ordering::SeqCst);
        self.steady.fetch_add(micros, Ordering::SeqCst);
    }

    fn lines(&self) -> Vec<UsageLine> {
        let found = self.tenant.scan(Table::Usage, &[]);
        found
            .map(|row| UsageLine::decode(&row.unwrap().1.value).unwrap())
            .collect()
    }

    fn reservations(&self) -> usize {
        self.tenant.scan(Table::Reservations, &[]).count()
    }

    fn batch(&self) -> Batch {
        self.tenant.batch()
    }

    /// Spent and reserved of the tenant in the running window.
    fn counted(&self, window: Window) -> (i64, i64) {
        let rows = self.account.budgets(None).unwrap();
        let row = rows.iter().find(|row| row.window == window).unwrap();
        (row.spent.0, row.reserved.0)
    }

    async fn call(&self, ask: Ask, end: End) -> Result<UsageLine> {
        self.account.reserve(ask).await?.settle(end, self.batch()).await
    }
}

async fn put_tier(directory: &Arc<Directory>, tier: &Tier) {
    let operator = testing::operator(directory, "operator's");
    let mut batch = operator.batch();
    batch.put(Table::Tiers, &tier.key(), tier.encode().unwrap());
    operator.commit(batch).await.unwrap();
}

async fn open(
    tenant: &Tenant,
    tiers: &Arc<Cached<Tiers>>,
    plan: &Arc<Mutex<TenantPlan>>,
    wall: &Arc<AtomicI64>,
    steady: &Arc<AtomicI64>,
) -> Arc<Account> {
    let meter = Arc::new(Meter::new(tenant.clone(), Arc::default()));
    let (plan, wall, steady) = (plan.clone(), wall.clone(), steady.clone());
    let plan: PlanSource = Arc::new(move |_| plan.lock().unwrap().encode().unwrap().into());
    let clock = Clock::new(
        move || wall.load(Ordering::SeqCst),
        move || steady.load(Ordering::SeqCst),
    );
    let recorder: Recorder = Arc::new(|_, _, _| ());
    Account::open(meter, tiers.clone(), plan, recorder, clock)
        .await
        .unwrap()
}

/// Commits what an account was asked to set.
async fn apply(account: &Account, batch: Batch) {
    account.tenant().commit(batch).await.unwrap();
}

/// Waits for what happens in the background; fails if it does not.
async fn until(mut reached: impl FnMut() -> bool) {
    let reaching = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, reaching)
        .await
        .expect("it never came to that");
}

/// Polls a future until something is so, and not once more.
async fn poll_until<F: Future + Unpin>(future: &mut F, reached: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if reached() {
            return;
        }
        assert!(futures::poll!(&mut *future).is_pending());
    }
    panic!("it never came to that");
}

/// 1 nano-USD a token of any kind.
fn unit_price() -> Price {
    price([1, 1, 1, 1, 1])
}

fn price([input, cached, output, reasoning, embedding]: [i64; 5]) -> Price {
    Price {
        provider: "openai".to_owned(),
        model: "m".to_owned(),
        valid_from: Day(0),
        input: Nano(input),
        cached_input: Nano(cached),
        output: Nano(output),
        reasoning: Nano(reasoning),
        embedding: Nano(embedding),
    }
}

/// A call of `prompt` tokens and an answer of at most `completion`, at [`unit_price`].
fn ask(prompt: i64, completion: i64) -> Ask {
    Ask {
        request: Uuid::now_v7(),
        attempt: 0,
        user: "alice".to_owned(),
        operation: Operation::Complete,
        provider: "openai".to_owned(),
        model: "m".to_owned(),
        price: Some(unit_price()),
        prompt_tokens: prompt,
        max_completion_tokens: completion,
        conversation_id: None,
        prompt: None,
        wait: Duration::ZERO,
        durable: true,
    }
}

fn end(prompt: i64, completion: i64) -> End {
    End {
        status: Status::Ok,
        prompt,
        cached: 0,
        completion,
        reasoning: 0,
        estimated: false,
        latency: Duration::from_millis(7),
    }
}

/// The members of a denial's detail.
fn detail(error: &Error) -> HashMap<String, serde_json::Value> {
    assert_eq!(error.code(), Code::LimitReached, "{error}");
    serde_json::from_str(error.detail().unwrap()).unwrap()
}

fn refused(outcome: Result<Reservation>) -> HashMap<String, serde_json::Value> {
    detail(&outcome.unwrap_err())
}
