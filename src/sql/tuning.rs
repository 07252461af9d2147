//! Fine-tunings of tenants that are open in this process: begun by a statement, followed in the background.
//!
//! What a fine-tuning needs is in its row, so the next session of a tenant after a restart brings it back. A row that
//! is still `starting` then is of a statement that a crash ended: nobody knows whether the provider has a job, and it
//! has failed. The model is registered in the commit that says that the job has succeeded.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

use super::{
    engine::Engine,
    world::{TenantState, TenantWorld},
};
use crate::{
    ai::{
        fine_tune::{FineTune, State, job},
        gate::{
            Caller,
            models::{Target, Upstream},
        },
        provider::Failure,
    },
    error::{Code, Error, Result},
    ledger::{
        account::{Ask, End},
        alert::Alert,
        model::Model,
        own_model::OwnModel,
        usage::{Operation, Status, now_micros},
    },
    limits,
    tenant::{Table, Version},
};

/// What the process knows of a tenant's fine-tunings beside their rows.
pub(super) struct Tuning {
    /// When to look at them next; `None` while there is nothing to look for.
    due: Mutex<Option<Instant>>,
    /// Those that a statement is about to start.
    starting: Mutex<HashSet<Uuid>>,
    /// When to ask for each. Held by who asks, one at a time.
    waits: tokio::sync::Mutex<HashMap<Uuid, Wait>>,
    /// Held from reading the tenant's own models to the commit that changes them.
    models: tokio::sync::Mutex<()>,
}

/// When to ask again.
#[derive(Clone, Copy)]
struct Wait {
    at: Instant,
    pause: Duration,
}

impl Wait {
    fn over() -> Self {
        Self {
            at: Instant::now(),
            pause: limits::FINE_TUNE_POLL,
        }
    }

    /// Longer and longer while nothing changes.
    fn after(self, progress: bool) -> Self {
        let pause = match progress {
            true => limits::FINE_TUNE_POLL,
            false => (self.pause * 2).min(limits::FINE_TUNE_POLL_MAX),
        };
        Self {
            at: Instant::now() + pause,
            pause,
        }
    }
}

impl Tuning {
    /// To be looked at soon: rows may be there from before.
    pub(super) fn new() -> Self {
        Self {
            due: Mutex::new(Some(Instant::now())),
            starting: Mutex::default(),
            waits: tokio::sync::Mutex::default(),
            models: tokio::sync::Mutex::default(),
        }
    }

    fn due_at(&self, at: Instant) {
        let mut due = self.due.lock();
        *due = Some(due.map_or(at, |earlier| earlier.min(at)));
    }

    fn take_due(&self) -> bool {
        self.due.lock().take_if(|at| *at <= Instant::now()).is_some()
    }

    /// The right to change the tenant's own models.
    pub(super) async fn models(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.models.lock().await
    }
}

/// A fine-tuning that a statement is about to start. However that ends, its row is looked at then.
struct Starting<'a> {
    tuning: &'a Tuning,
    id: Uuid,
}

impl<'a> Starting<'a> {
    fn new(tuning: &'a Tuning, id: Uuid) -> Self {
        tuning.starting.lock().insert(id);
        Self { tuning, id }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.tuning.starting.lock().remove(&self.id);
        self.tuning.due_at(Instant::now());
    }
}

impl Engine {
    /// Follows the fine-tunings of all tenants that had a session since the start.
    pub(super) async fn tuner(self: &Arc<Self>) {
        let places = Arc::new(Semaphore::new(limits::FINE_TUNE_CALLS));
        let mut running = JoinSet::new();
        loop {
            tokio::time::sleep(limits::FINE_TUNE_TICK).await;
            while running.try_join_next().is_some() {}
            let mut due = Vec::new();
            self.tenants.for_each(|state| {
                if state.tuning.take_due() {
                    due.push(state.clone());
                }
            });
            for state in due {
                let (engine, places) = (self.clone(), places.clone());
                running.spawn(async move {
                    if let Ok(_place) = places.acquire_owned().await {
                        state.follow(&engine).await;
                    }
                });
            }
        }
    }
}

impl TenantState {
    /// Asks for the tenant's fine-tunings whose time it is.
    async fn follow(&self, engine: &Engine) {
        let mut waits = self.tuning.waits.lock().await;
        let next = match self.follow_all(engine, &mut waits).await {
            Ok(next) => next,
            // Dropped: there is nothing left to look for.
            Err(error) if error.code() == Code::InvalidAuthorization => None,
            Err(error) => {
                tracing::warn!(%error, "fine-tunings cannot be followed; it is tried again");
                Some(Instant::now() + limits::FINE_TUNE_POLL_MAX)
            }
        };
        if let Some(at) = next {
            self.tuning.due_at(at);
        }
    }

    async fn follow_all(&self, engine: &Engine, waits: &mut HashMap<Uuid, Wait>) -> Result<Option<Instant>> {
        let tenant = self.meter.tenant();
        match tenant.check_open() {
            // Suspended: whoever lifts that does not tell us.
            Err(error) if error.code() == Code::NotReady => {
                return Ok(Some(Instant::now() + limits::FINE_TUNE_POLL_MAX));
            }
            open => open?,
        }
        // Both before and after the rows are read: a statement may start one, or be done with one, meanwhile.
        let starting = self.tuning.starting.lock().clone();
        let rows = FineTune::all(tenant)?.into_iter();
        let open: Vec<_> = rows
            .filter(|(row, _)| !row.state.has_ended() || (row.file.is_some() && !is_old(row)))
            .filter(|(row, _)| !starting.contains(&row.id) && !self.tuning.starting.lock().contains(&row.id))
            .collect();
        waits.retain(|id, _| open.iter().any(|(row, _)| row.id == *id));
        for (row, version) in open {
            let wait = *waits.entry(row.id).or_insert_with(Wait::over);
            if wait.at > Instant::now() {
                continue;
            }
            let id = row.id;
            let progress = self.follow_one(engine, row, version).await?;
            waits.insert(id, wait.after(progress));
        }
        Ok(waits.values().map(|wait| wait.at).min())
    }

    /// Asks for one; says whether it got further.
    async fn follow_one(&self, engine: &Engine, mut row: FineTune, version: Version) -> Result<bool> {
        let before = row.state;
        let deadline = Instant::now() + limits::PROVIDER_TIMEOUT;
        let providers = engine.providers.get(self.meter.tenant())?;
        let Some(at) = Upstream::find(self.meter.tenant(), &providers, &row.provider)? else {
            let error = Error::new(
                Code::NotReady,
                format!("provider \"{}\" does not exist any more", row.provider),
            );
            if row.complain(&error) {
                self.write(engine, &row, version, (before, None)).await?;
            }
            return Ok(false);
        };
        let upstreams = engine.gate.upstreams();
        if before.has_ended() {
            let Some(file) = &row.file else { return Ok(true) };
            if job::forget(upstreams, &at, file, deadline).await {
                row.file = None;
                self.write(engine, &row, version, (before, None)).await?;
                return Ok(true);
            }
            return Ok(false);
        }
        let mut model = None;
        let news = match row.job.clone() {
            None => {
                row.fail("the server stopped before the provider had confirmed the job");
                true
            }
            Some(_) if is_old(&row) => {
                row.fail("the provider did not come to an end with it");
                true
            }
            Some(job) => match job::poll(upstreams, &at, &job, deadline).await {
                Ok(told) => {
                    model = told.model.clone();
                    row.hear(&told)
                }
                Err(failure) if failure.status == Some(404) => {
                    row.fail(said(&failure));
                    true
                }
                Err(failure) => row.complain(&failure.into()),
            },
        };
        if news {
            self.write(engine, &row, version, (before, model)).await?;
        }
        Ok(row.state != before)
    }

    /// Writes what was heard of one that was in another state `before`, and with it the model that it brought.
    async fn write(
        &self,
        engine: &Engine,
        row: &FineTune,
        version: Version,
        (before, model): (State, Option<String>),
    ) -> Result<()> {
        let account = self.account(engine).await?;
        let tenant = self.meter.tenant();
        let _turn = self.tuning.models().await;
        let mut batch = tenant.batch();
        batch.expect(Table::FineTunes, row.key(), Some(version));
        batch.put(Table::FineTunes, row.key(), row.encode()?);
        let alias = row.alias();
        if let Some(model) = model.filter(|_| row.state == State::Succeeded) {
            let own = OwnModel {
                alias: alias.clone(),
                provider: row.provider.clone(),
                model,
                base: row.base.clone(),
                preferred: true,
                at_micros: row.updated_at,
                retired_at_micros: None,
            };
            own.put(tenant, &mut batch)?;
            let data = serde_json::json!({"fine_tune": row.id, "model": alias, "base_model": row.base});
            let message = format!("model \"{alias}\" is trained and answers from now on");
            account.raise(Alert::now("fine_tune_succeeded", message, &data), &mut batch)?;
        } else if row.state.has_ended() && row.state != before {
            account.raise(failed(row), &mut batch)?;
        }
        tenant.commit(batch).await
    }
}

/// Whether nothing more is expected of a provider.
fn is_old(row: &FineTune) -> bool {
    let age = u64::try_from(now_micros().saturating_sub(row.created_at)).unwrap_or(0);
    Duration::from_micros(age) > limits::FINE_TUNE_LIFE
}

fn failed(row: &FineTune) -> Alert {
    let why = row.error.as_deref().unwrap_or("the provider does not say why");
    let message = format!(
        "training \"{}\" further has {}: {why}; it goes on answering as it is",
        row.base,
        row.state.as_str()
    );
    let data = serde_json::json!({"fine_tune": row.id, "base_model": row.base, "error": row.error});
    Alert::now("fine_tune_failed", message, &data)
}

/// A failure in one sentence, with the provider's own words.
fn said(failure: &Failure) -> String {
    match failure.message.as_str() {
        "" => failure.to_string(),
        words => format!("{failure}: {words}"),
    }
}

impl TenantWorld {
    /// Sends examples to the provider of `target` and starts to train on them. Its usage line costs nothing and is
    /// flagged as estimated, because providers do not say what a job will be charged; used-up budgets and full rate
    /// limits refuse it like any call.
    ///
    /// # Errors
    /// Those of the provider and of a reservation; 53400 while too many are under way.
    pub(super) async fn start_fine_tune(&self, caller: &Caller, target: &Target, lines: &[String]) -> Result<Uuid> {
        let Some(at) = &target.upstream else {
            return Err(Error::new(
                Code::Unsupported,
                format!("model \"{}\" is built in and cannot be trained", target.model.name),
            )
            .with_hint("name a model of a provider that can train it"));
        };
        let mut row = FineTune::new(&target.model.name, &at.row.name, lines.len());
        let starting = Starting::new(&self.state.tuning, row.id);
        let reservation = caller.account.reserve(Ask {
            request: Uuid::now_v7(),
            attempt: 1,
            user: caller.user.clone(),
            operation: Operation::FineTune,
            provider: target.model.provider.clone(),
            model: target.model.model.clone(),
            price: None,
            prompt_tokens: 0,
            max_completion_tokens: 0,
            conversation_id: None,
            prompt: None,
            wait: caller.wait,
            durable: true,
        });
        let reservation = reservation.await?;
        self.announce(&row).await?;
        let mut jsonl = lines.join("\n").into_bytes();
        jsonl.push(b'\n');
        let suffix = row.suffix(&self.tenant);
        let begun = Instant::now();
        let (upstreams, deadline) = (self.engine.gate.upstreams(), caller.deadline);
        let outcome = match job::upload(upstreams, at, Bytes::from(jsonl), deadline).await {
            Ok(file) => {
                // Known from here on: whatever happens now, it will be deleted there.
                row.file = Some(file.clone());
                self.put(&row).await?;
                job::start(upstreams, at, (&target.model.model, &file, &suffix), deadline).await
            }
            Err(failure) => Err(failure),
        };
        match &outcome {
            // Whatever it is by now is asked for soon, and done then.
            Ok(job) => (row.state, row.job) = (State::Queued, Some(job.id.clone())),
            Err(failure) => row.fail(said(failure)),
        }
        let end = End {
            status: match outcome {
                Ok(_) => Status::Ok,
                Err(_) => Status::Error,
            },
            prompt: 0,
            cached: 0,
            completion: 0,
            reasoning: 0,
            estimated: true,
            latency: begun.elapsed(),
        };
        let mut batch = self.tenant.batch();
        batch.put(Table::FineTunes, row.key(), row.encode()?);
        reservation.settle(end, batch).await?;
        drop(starting);
        outcome?;
        Ok(row.id)
    }

    /// Writes the row of one that is about to be started, unless there are too many.
    async fn announce(&self, row: &FineTune) -> Result<()> {
        let _turn = self.state.tuning.models().await;
        let running = FineTune::all(&self.tenant)?;
        let running = running.iter().filter(|(row, _)| !row.state.has_ended()).count();
        if running >= limits::FINE_TUNES_RUNNING {
            let detail = serde_json::json!({
                "limit": "fine_tunes", "used": running, "capacity": limits::FINE_TUNES_RUNNING,
            });
            return Err(Error::new(
                Code::LimitReached,
                format!("{running} fine-tunings are under way already"),
            )
            .with_detail(detail.to_string())
            .with_hint("wait until one has ended: SELECT status FROM ai.fine_tunes"));
        }
        check_room(OwnModel::all(&self.tenant)?.len() + running)?;
        self.put(row).await
    }

    async fn put(&self, row: &FineTune) -> Result<()> {
        let mut batch = self.tenant.batch();
        batch.put(Table::FineTunes, row.key(), row.encode()?);
        self.commit(batch).await
    }

    /// Registers a model of the tenant's own.
    ///
    /// # Errors
    /// 54000 at the limit.
    pub(super) async fn register(&self, own: &OwnModel) -> Result<()> {
        let _turn = self.state.tuning.models().await;
        if OwnModel::find(&self.tenant, &own.alias)?.is_none() {
            check_room(OwnModel::all(&self.tenant)?.len())?;
        }
        let mut batch = self.tenant.batch();
        own.put(&self.tenant, &mut batch)?;
        self.commit(batch).await
    }

    /// Notes that the provider no longer has this model of the tenant's own, and tells the client that `base` answers.
    pub(super) async fn retire(&self, caller: &Caller, model: &Model, base: &str) -> Result<()> {
        let _turn = self.state.tuning.models().await;
        let Some(mut own) = OwnModel::find(&self.tenant, &model.name)? else {
            return Ok(());
        };
        if own.model == model.model && own.retired_at_micros.is_none() {
            own.retired_at_micros = Some(now_micros());
            let mut batch = self.tenant.batch();
            batch.put(Table::OwnModels, &own.key(), own.encode()?);
            let data = serde_json::json!({"model": own.alias, "base_model": base});
            let alert = Alert::now("model_retired", own.fallback(base), &data);
            caller.account.raise(alert, &mut batch)?;
            self.tenant.commit(batch).await?;
        }
        (caller.notice)(own.fallback(base));
        Ok(())
    }
}

fn check_room(models: usize) -> Result<()> {
    match models >= limits::OWN_MODELS {
        true => Err(Error::new(
            Code::TooLarge,
            format!("a tenant has at most {} models of its own", limits::OWN_MODELS),
        )
        .with_hint("register under an alias that is no longer needed")),
        false => Ok(()),
    }
}
