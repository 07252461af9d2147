//! Embeds a tenant's chunks by another model while the vectors there are go on answering.
//!
//! The new vectors are stored under the next space's keys, commit by commit, so that after a restart only what lacks
//! is embedded. What is written meanwhile is remembered and embedded after the rest, the last of it while writers wait.
//! Then one commit makes the next space the active one, and a corpus that was built beside takes the old one's place.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    documents::{self, Chunk, Document, Vector, chunk_key, vector_key},
    embedding::{self, Embeddings, Origin, Spaces, Wanted},
    engine::Engine,
    gateway::Gateway,
    jobs::{self, Job, State},
    metering,
    world::{TenantState, load, stored_entry},
};
use crate::{
    ai::{chunking, corpus::Corpus, gate::Room, tokens::count_tokens},
    error::{Code, Error, Result},
    limits,
    tenant::{Table, Tenant, Version},
    vector::Embedding,
};

/// Looks for tenants whose model was changed, of those that had a session since the start, and does the work.
pub(super) async fn run(engine: &Arc<Engine>) {
    let mut running = JoinSet::new();
    loop {
        for state in engine.open_tenants() {
            let tenant = state.meter.tenant();
            if tenant.check_open().is_err() || !tenant.settings().ai_enabled {
                continue;
            }
            match due(engine, &state) {
                Ok(true) if !state.embeddings.busy.swap(true, Ordering::SeqCst) => {
                    running.spawn(work(engine.clone(), state));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the embedding model of a tenant could not be determined"),
            }
        }
        while running.try_join_next().is_some() {}
        // Whichever comes first.
        let _ = tokio::time::timeout(limits::REEMBED_POLL, engine.reembed.notified()).await;
    }
}

/// Whether there is something to do.
fn due(engine: &Engine, state: &TenantState) -> Result<bool> {
    let (tenant, spaces) = (state.meter.tenant(), state.embeddings.current()?);
    if !spaces.stale.is_empty() {
        return Ok(true);
    }
    let Some(wanted) = embedding::wanted(engine, tenant)? else {
        return Ok(false);
    };
    match &spaces.next {
        _ if spaces.active.is(&wanted) => Ok(spaces.next.is_some()),
        Some(next) if next.is(&wanted) => {
            let job = jobs::of_space(tenant, next.space)?;
            Ok(job.is_none_or(|job| job.state != State::Failed || job.updated_at < wanted.set_at))
        }
        Some(_) => Ok(true),
        // A tenant without documents takes over the model at its next statement.
        None => Ok(tenant.scan(Table::Documents, &[]).next().transpose()?.is_some()),
    }
}

/// Why a job does not go on.
enum Stop {
    /// It failed.
    Failed(Error),
    /// Another model is wanted by now, or the tenant may not call models: whether to go on is decided anew.
    Aside,
    /// A call did not succeed this time.
    Again(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

async fn work(engine: Arc<Engine>, state: Arc<TenantState>) {
    /// Also when the server stops meanwhile.
    struct Busy(Arc<TenantState>);
    impl Drop for Busy {
        fn drop(&mut self) {
            *self.0.embeddings.changed.lock() = None;
            self.0.embeddings.busy.store(false, Ordering::SeqCst);
        }
    }
    let _busy = Busy(state.clone());
    if let Err(error) = change(&engine, &state).await {
        tracing::warn!(%error, "embedding a tenant's documents anew was interrupted; it is tried again");
    }
}

async fn change(engine: &Arc<Engine>, state: &Arc<TenantState>) -> Result<()> {
    let (tenant, embeddings) = (state.meter.tenant(), &state.embeddings);
    let wanted = embedding::wanted(engine, tenant)?;
    let spaces = embeddings.current()?;
    match wanted {
        Some(wanted) if spaces.active.is(&wanted) => abandon(tenant, embeddings).await?,
        Some(wanted) => {
            let (next, job) = begin(tenant, embeddings, &wanted).await?;
            let mut work = Work {
                engine: engine.clone(),
                state: state.clone(),
                next,
                job,
            };
            match work.run().await {
                Ok(()) => {}
                Err(Stop::Failed(error) | Stop::Again(error)) => work.fail(&error).await?,
                Err(Stop::Aside) => return Ok(()),
            }
        }
        None => {}
    }
    clear(tenant, embeddings).await
}

/// Opens the next space, or goes on with it.
async fn begin(tenant: &Tenant, embeddings: &Embeddings, wanted: &Wanted) -> Result<(Origin, Job)> {
    let alone = embeddings.alone().await;
    let mut spaces = Spaces::clone(&*embeddings.current()?);
    let mut batch = tenant.batch();
    let next = match spaces.next.take() {
        Some(next) if next.is(wanted) => next,
        other => {
            supersede(tenant, other.as_ref(), &mut batch)?;
            let next = Spaces {
                next: other.clone(),
                ..spaces.clone()
            }
            .fresh(wanted);
            spaces.stale.extend(other.map(|other| other.space));
            next
        }
    };
    let mut job = jobs::of_space(tenant, next.space)?.unwrap_or_else(|| Job::new(next.space));
    (job.state, job.message) = (State::Running, None);
    job.put(&mut batch)?;
    spaces.next = Some(next.clone());
    // From the first commit after this one on; none is under way.
    *embeddings.changed.lock() = Some(HashSet::new());
    embeddings.replace(alone, spaces, batch, || ()).await?;
    Ok((next, job))
}

/// Gives up the next space: the model of the active one is wanted again.
async fn abandon(tenant: &Tenant, embeddings: &Embeddings) -> Result<()> {
    let alone = embeddings.alone().await;
    let mut spaces = Spaces::clone(&*embeddings.current()?);
    let Some(next) = spaces.next.take() else { return Ok(()) };
    let mut batch = tenant.batch();
    supersede(tenant, Some(&next), &mut batch)?;
    spaces.stale.push(next.space);
    embeddings.replace(alone, spaces, batch, || ()).await
}

fn supersede(tenant: &Tenant, next: Option<&Origin>, batch: &mut crate::tenant::Batch) -> Result<()> {
    let Some(next) = next else { return Ok(()) };
    if let Some(mut job) = jobs::of_space(tenant, next.space)? {
        job.state = State::Failed;
        job.message = Some("another embedding model was set".to_owned());
        job.put(batch)?;
    }
    Ok(())
}

/// Deletes the vectors of spaces that are no longer used.
async fn clear(tenant: &Tenant, embeddings: &Embeddings) -> Result<()> {
    let stale = embeddings.current()?.stale.clone();
    for space in &stale {
        loop {
            let rows = tenant.scan(Table::Vectors, &space.0.to_be_bytes());
            let keys: Vec<Vec<u8>> = rows
                .take(limits::VECTORS_A_COMMIT)
                .map(|row| row.map(|(key, _)| key))
                .collect::<Result<_>>()?;
            if keys.is_empty() {
                break;
            }
            let mut batch = tenant.batch();
            for key in &keys {
                batch.delete(Table::Vectors, key);
            }
            tenant.commit(batch).await?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let alone = embeddings.alone().await;
    let mut spaces = Spaces::clone(&*embeddings.current()?);
    spaces.stale.retain(|space| !stale.contains(space));
    embeddings.replace(alone, spaces, tenant.batch(), || ()).await
}

/// A chunk to embed.
struct Piece {
    document: Uuid,
    /// The document's as it was read.
    version: Version,
    no: u32,
    text: String,
    tokens: usize,
}

/// How a call that did not succeed is treated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It is made again, as long as there is hope.
    Long,
    /// Writers wait: it is left.
    None,
}

struct Work {
    engine: Arc<Engine>,
    state: Arc<TenantState>,
    next: Origin,
    job: Job,
}

impl Work {
    fn tenant(&self) -> &Tenant {
        self.state.meter.tenant()
    }

    fn take_changed(&self) -> Vec<Uuid> {
        let mut changed = self.state.embeddings.changed.lock();
        changed
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
            .into_iter()
            .collect()
    }

    fn put_back(&self, ids: &[Uuid]) {
        if let Some(changed) = self.state.embeddings.changed.lock().as_mut() {
            changed.extend(ids);
        }
    }

    async fn run(&mut self) -> Result<(), Stop> {
        let index = self.state.index().await?;
        let (mut ids, chunks) = index.documents();
        ids.sort_unstable();
        (self.job.done, self.job.total) = (0, chunks as i64);
        self.embed_missing(&ids, Patience::Long).await?;

        let (tenant, space) = (self.tenant().clone(), self.next.space);
        let built = tokio::task::spawn_blocking(move || load(&tenant, space));
        let (mut beside, lacking) = built.await.map_err(Error::internal)??;
        self.put_back(&lacking);
        loop {
            for _ in 0..limits::REEMBED_ROUNDS {
                let ids = self.take_changed();
                if ids.is_empty() {
                    break;
                }
                self.embed_missing(&ids, Patience::Long).await?;
                let lacking = self.refresh(&mut beside, &ids)?;
                self.put_back(&lacking);
            }
            let alone = self.state.embeddings.alone().await;
            let ids = self.take_changed();
            let rest = self.embed_missing(&ids, Patience::None);
            match tokio::time::timeout(limits::REEMBED_LAST, rest).await {
                Ok(Ok(())) => {}
                Err(_) | Ok(Err(Stop::Again(_))) => {
                    self.put_back(&ids);
                    continue;
                }
                Ok(Err(stop)) => return Err(stop),
            }
            if let Some(id) = self.refresh(&mut beside, &ids)?.first() {
                return Err(Error::internal(format!("document {id} lacks vectors")).into());
            }
            if !embedding::wanted(&self.engine, self.tenant())?.is_some_and(|wanted| self.next.is(&wanted)) {
                return Err(Stop::Aside);
            }
            let mut spaces = Spaces::clone(&*self.state.embeddings.current()?);
            let former = std::mem::replace(&mut spaces.active, self.next.clone());
            spaces.next = None;
            spaces.stale.push(former.space);
            let mut batch = self.tenant().batch();
            self.job.state = State::Succeeded;
            self.job.message = None;
            self.job.total = beside.len() as i64;
            self.job.done = self.job.total;
            self.job.put(&mut batch)?;
            let epoch = self.state.epoch.clone();
            let swap = move || {
                index.replace(beside);
                // Answers that rest on what the former model found.
                epoch.advance();
            };
            return Ok(self.state.embeddings.replace(alone, spaces, batch, swap).await?);
        }
    }

    /// Takes documents as they are stored now into a corpus; gives those that lack a vector.
    fn refresh(&self, beside: &mut Corpus, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        let mut lacking = Vec::new();
        for id in ids {
            let Some((document, _)) = self.document(*id)? else {
                beside.remove(*id);
                continue;
            };
            match stored_entry(self.tenant(), &document, self.next.space)? {
                Some(entry) => beside.upsert(entry)?,
                None => lacking.push(*id),
            }
        }
        Ok(lacking)
    }

    fn document(&self, id: Uuid) -> Result<Option<(Document, Version)>> {
        let Some(stored) = self.tenant().get(Table::Documents, id.as_bytes())? else {
            return Ok(None);
        };
        Ok(Some((documents::decode(&stored.value)?, stored.version)))
    }

    /// Embeds the chunks of documents that have no vector yet, a call's worth at a time.
    async fn embed_missing(&mut self, ids: &[Uuid], patience: Patience) -> Result<(), Stop> {
        let room = Room::of(&Gateway::of_job(&self.engine, &self.state).await?.caller);
        let (mut pieces, mut tokens): (Vec<Piece>, usize) = (Vec::new(), 0);
        for id in ids {
            let Some((document, version)) = self.document(*id)? else {
                continue;
            };
            for no in 0..document.chunks {
                let tenant = self.tenant();
                if tenant
                    .get(Table::Vectors, &vector_key(self.next.space, *id, no))?
                    .is_some()
                {
                    self.job.done = self.job.total.min(self.job.done + 1);
                    continue;
                }
                // Otherwise it was written anew just now, and comes again.
                let Some(stored) = tenant.get(Table::Chunks, &chunk_key(*id, no))? else {
                    break;
                };
                let chunk: Chunk = documents::decode(&stored.value)?;
                let text = chunking::passage(&document.title, &chunk.content);
                let piece = Piece {
                    document: *id,
                    version,
                    no,
                    tokens: count_tokens(&text),
                    text,
                };
                if !pieces.is_empty() && !room.holds(pieces.len() + 1, tokens + piece.tokens) {
                    self.flush(std::mem::take(&mut pieces), patience).await?;
                    tokens = 0;
                }
                tokens += piece.tokens;
                pieces.push(piece);
            }
        }
        match pieces.is_empty() {
            true => Ok(()),
            false => self.flush(pieces, patience).await,
        }
    }

    /// Embeds pieces and stores their vectors, of documents that are as they were read.
    async fn flush(&mut self, pieces: Vec<Piece>, patience: Patience) -> Result<(), Stop> {
        let texts: Vec<String> = pieces.iter().map(|piece| piece.text.clone()).collect();
        let vectors = self.embed(&texts, patience).await?;
        let tokens: usize = pieces.iter().map(|piece| piece.tokens).sum();
        let done = self.job.done;
        loop {
            let mut batch = self.tenant().batch();
            self.job.done = done;
            for (piece, embedding) in pieces.iter().zip(&vectors) {
                let stored = self.tenant().get(Table::Documents, piece.document.as_bytes())?;
                if stored.is_none_or(|stored| stored.version != piece.version) {
                    continue;
                }
                batch.expect(Table::Documents, piece.document.as_bytes(), Some(piece.version));
                let vector = Vector {
                    model: self.next.model.clone(),
                    values: embedding.as_slice().to_vec(),
                };
                let key = vector_key(self.next.space, piece.document, piece.no);
                batch.put(Table::Vectors, &key, documents::encode(&vector)?);
                self.job.done = self.job.total.min(self.job.done + 1);
            }
            self.job.message = None;
            self.job.put(&mut batch)?;
            if self.next.is_builtin() {
                metering::embedded(&self.state.meter, jobs::USER, &mut batch, tokens as i64)?;
            }
            match self.tenant().commit(batch).await {
                // A document was written between the look at it and the commit.
                Err(error) if error.code() == Code::SerializationFailure => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    async fn embed(&mut self, texts: &[String], patience: Patience) -> Result<Vec<Embedding>, Stop> {
        let mut failed = 0;
        loop {
            let tenant = self.tenant();
            let wanted = embedding::wanted(&self.engine, tenant)?;
            let still = wanted.is_some_and(|wanted| self.next.is(&wanted));
            if !still || tenant.check_open().is_err() || !tenant.settings().ai_enabled {
                return Err(Stop::Aside);
            }
            let error = match self.call(texts).await {
                Ok(vectors) => return Ok(vectors),
                Err(error) => error,
            };
            let pause = match error.code() {
                _ if patience == Patience::None && passes(&error) => return Err(Stop::Again(error)),
                Code::LimitReached => retry_after(&error).clamp(limits::REEMBED_BACKOFF / 10, limits::REEMBED_POLL),
                _ if passes(&error) && failed + 1 < limits::REEMBED_ATTEMPTS => {
                    failed += 1;
                    limits::REEMBED_BACKOFF * (1 << (failed - 1))
                }
                _ => return Err(Stop::Failed(error)),
            };
            let message = Some(format!("waiting: {}", error.message()));
            if self.job.message != message {
                self.job.message = message;
                let mut batch = self.tenant().batch();
                self.job.put(&mut batch)?;
                self.tenant().commit(batch).await?;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn call(&self, texts: &[String]) -> Result<Vec<Embedding>> {
        if self.next.is_builtin() {
            return embedding::builtin(texts.to_vec()).await;
        }
        let gateway = Gateway::of_job(&self.engine, &self.state).await?;
        let target = gateway.embedder(&self.next)?;
        let vectors = self.engine.gate.embed(&gateway.caller, &target, texts).await?;
        self.state.embeddings.check_dimensions(self.next.space, &vectors)?;
        Ok(vectors)
    }

    /// Gives up until someone asks for it again. What is embedded stays, for then.
    async fn fail(&mut self, error: &Error) -> Result<()> {
        let mut batch = self.tenant().batch();
        self.job.state = State::Failed;
        self.job.message = Some(error.message().to_owned());
        self.job.put(&mut batch)?;
        self.tenant().commit(batch).await
    }
}

/// Whether the same call may succeed later.
fn passes(error: &Error) -> bool {
    let detail: serde_json::Value = error
        .detail()
        .and_then(|detail| serde_json::from_str(detail).ok())
        .unwrap_or_default();
    match error.code() {
        Code::LimitReached | Code::QueryCanceled => true,
        Code::ProviderFailed => !matches!(detail["status"].as_u64(), Some(400..=407 | 409..=428 | 430..=499)),
        _ => false,
    }
}

/// When a limit allows it again, if it stays as it is.
fn retry_after(error: &Error) -> Duration {
    let detail = error
        .detail()
        .and_then(|detail| serde_json::from_str::<serde_json::Value>(detail).ok());
    let millis = detail.and_then(|detail| detail["retry_after_ms"].as_u64());
    millis.map_or(limits::REEMBED_POLL, Duration::from_millis)
}
