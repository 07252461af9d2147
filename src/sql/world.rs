//! Everything one session can reach, and nothing else.
//!
//! A session's tables, functions and plans hold a [`World`]: of one tenant, or of the operator.
//! There is no way from one to another, because there is no value that names two.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use datafusion::execution::SessionState;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, broadcast};
use uuid::Uuid;

use super::{
    backends::Backends,
    documents::{self, Chunk, Document},
    embedding::Embeddings,
    engine::Engine,
    functions::sequences::Given,
    index::{Index, IndexCell},
    listen::{self, Told},
    settings::CallSettings,
    statement::Desk,
    tables::shards::Vectors,
    trail::Trail,
    tuning::Tuning,
    tx::{Change, Tx},
};
use crate::{
    ai::{
        cache::{Cache, CorpusEpoch, Epoch, Replays},
        conversation::{Conversations, Turns, store::purge},
        corpus::{Corpus, DocumentEntry, Layers, Space},
    },
    error::{Code, Error, Result},
    ledger::{
        account::{Account, Clock, PlanSource},
        meter::Meter,
        tier::Tier,
    },
    limits,
    policy::audit::Log,
    table::{Owner, Tables},
    tenant::{Operator, Role, Table, Tenant, User},
    vector::Pool,
};

/// What a session reaches.
#[derive(Debug)]
pub(super) enum World {
    /// One tenant.
    Tenant(Box<TenantWorld>),
    /// The operator's plane.
    Operator(Box<OperatorWorld>),
}

/// A tenant as one of its sessions sees it.
pub(super) struct TenantWorld {
    pub(super) tenant: Tenant,
    pub(super) user: User,
    pub(super) state: Arc<TenantState>,
    pub(super) engine: Arc<Engine>,
    /// This session's transaction.
    pub(super) tx: Mutex<Tx>,
    /// What this session's locks belong to, once it takes one.
    pub(super) owner: OnceLock<Owner>,
    pub(super) desk: Arc<Desk>,
    /// What this session's statements leave in the audit log.
    pub(super) trail: Mutex<Trail>,
    /// The end user for whom a service acts.
    pub(super) acting_for: Mutex<Option<String>>,
    /// What its statements got of sequences.
    pub(super) given: Mutex<Given>,
    /// The schema of its temporary tables, once it makes one.
    pub(super) temporary: OnceLock<String>,
}

/// The operator's plane as one of its sessions sees it.
pub(super) struct OperatorWorld {
    pub(super) operator: Operator,
    pub(super) engine: Arc<Engine>,
    pub(super) desk: Arc<Desk>,
}

impl std::fmt::Debug for TenantWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TenantWorld({:?})", self.tenant)
    }
}

impl std::fmt::Debug for OperatorWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperatorWorld")
    }
}

impl World {
    /// The tenant's side, or the error a tenant's function gives on the operator's plane.
    pub(super) fn tenant(&self) -> Result<&TenantWorld> {
        match self {
            Self::Tenant(world) => Ok(world),
            Self::Operator(_) => Err(Error::new(
                Code::InsufficientPrivilege,
                "the operator has no access to a tenant's data",
            )),
        }
    }

    /// The operator's side.
    pub(super) fn operator(&self) -> Result<&OperatorWorld> {
        match self {
            Self::Operator(world) => Ok(world),
            Self::Tenant(_) => Err(Error::new(Code::InsufficientPrivilege, "only the operator may do this")),
        }
    }

    /// The name of the database: the tenant's.
    pub(super) fn database(&self) -> &str {
        match self {
            Self::Tenant(world) => world.tenant.name(),
            Self::Operator(_) => "bulkhead",
        }
    }

    /// The name of the logged-in user.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::Tenant(world) => &world.user.name,
            Self::Operator(world) => world.operator.name(),
        }
    }

    /// The role of the user in the tenant; the operator has none.
    pub(super) fn role(&self) -> Option<Role> {
        match self {
            Self::Tenant(world) => Some(world.user.role),
            Self::Operator(_) => None,
        }
    }

    /// What the session and its functions share.
    pub(super) fn desk(&self) -> &Arc<Desk> {
        match self {
            Self::Tenant(world) => &world.desk,
            Self::Operator(world) => &world.desk,
        }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        match self {
            Self::Tenant(world) => &world.engine,
            Self::Operator(world) => &world.engine,
        }
    }
}

impl TenantWorld {
    /// The user that rows and usage lines name: the end user where a service acts for one.
    pub(super) fn acting_user(&self) -> String {
        self.acting_for.lock().clone().unwrap_or_else(|| self.user.name.clone())
    }

    /// What the session's settings ask of a model call made now.
    pub(super) fn call_settings(&self) -> CallSettings {
        self.desk.settings.lock().call()
    }

    /// The tenant's budgets and limits.
    pub(super) async fn account(&self) -> Result<&Arc<Account>> {
        self.state.account(&self.engine).await
    }

    /// Runs `search` over the tenant's index with this transaction's writes on top. `None` if either
    /// is of another space.
    pub(super) async fn with_layers<T>(
        &self,
        space: Space,
        search: impl FnOnce(&Layers<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let index = self.state.index().await?;
        index.catch_up();
        let corpus = index.corpus();
        let tx = self.tx.lock();
        if corpus.space() != space || tx.has_strays(space) {
            return Ok(None);
        }
        let (overlay, hidden) = tx.layer();
        search(&Layers {
            base: &corpus,
            overlay,
            hidden: &hidden,
        })
        .map(Some)
    }

    /// The stored conversations of the user who acts, and that user's name. This transaction's own
    /// changes are to be laid over them.
    pub(super) fn conversations(&self) -> (Conversations, String) {
        let user = self.acting_user();
        let stored = Conversations::of(&self.tenant, &user, documents::now_micros());
        (stored, user)
    }

    /// The state of the documents, for the key of an answer that is found in them; to be read before
    /// they are searched. `None` while this transaction sees documents that others do not: its
    /// answers are nobody else's, and nobody else's are its.
    pub(super) fn corpus_epoch(&self) -> Option<Epoch> {
        (!self.tx.lock().has_documents()).then(|| self.state.epoch.now())
    }

    /// A document as this transaction sees it.
    pub(super) fn document(&self, id: Uuid) -> Result<Option<Document>> {
        if let Some(own) = self.tx.lock().document(id) {
            return Ok(own.map(|w| w.document.clone()));
        }
        let stored = self.tenant.get(Table::Documents, id.as_bytes())?;
        stored.map(|s| documents::decode(&s.value)).transpose()
    }

    /// A chunk as this transaction sees it, with its vector if that is asked for.
    pub(super) fn chunk(&self, document: Uuid, no: u32, vector: bool) -> Result<Option<Chunk>> {
        if let Some(own) = self.tx.lock().document(document) {
            return Ok(own.and_then(|w| w.chunks.get(no as usize).cloned()));
        }
        let Some(stored) = self.tenant.get(Table::Chunks, &documents::chunk_key(document, no))? else {
            return Ok(None);
        };
        let chunk = documents::decode(&stored.value)?;
        match vector {
            true => self.with_vector(chunk),
            false => Ok(Some(chunk)),
        }
    }

    /// A stored chunk with its vector; `None` if it was deleted meanwhile.
    pub(super) fn with_vector(&self, mut chunk: Chunk) -> Result<Option<Chunk>> {
        let vector = self.state.embeddings.vector(chunk.document_id, chunk.no)?;
        Ok(vector.map(|vector| {
            chunk.vector = vector;
            chunk
        }))
    }
}

/// What the process keeps for a tenant between its sessions. Derived from rows, all of it.
pub(super) struct TenantState {
    pub(super) meter: Arc<Meter>,
    /// Its audit log.
    pub(super) log: Arc<Log>,
    /// What its sessions start from, with query memory of theirs together; made for the first of them.
    template: OnceLock<SessionState>,
    pub(super) connections: AtomicUsize,
    /// Tells the tenant's sessions that listen; the payload of an alert.
    pub(super) alerts: broadcast::Sender<String>,
    /// The same of what they say to each other.
    pub(super) told: broadcast::Sender<Told>,
    /// Those sessions.
    pub(super) backends: Backends,
    /// Who changes which conversation.
    pub(super) turns: Turns,
    account: OnceCell<Arc<Account>>,
    /// Its fine-tunings, and when to ask for them.
    pub(super) tuning: Tuning,
    /// Answers that may be given again.
    pub(super) cache: Arc<Cache>,
    /// Answers to calls that carried an idempotency key.
    pub(super) replays: Arc<Replays>,
    /// The state of the documents.
    pub(super) epoch: Arc<CorpusEpoch>,
    /// Which model its vectors are from.
    pub(super) embeddings: Embeddings,
    index: Arc<IndexCell>,
    /// Its own tables.
    pub(super) tables: OnceCell<Arc<Tables>>,
    /// Vectors of its own tables in memory.
    pub(super) vectors: Arc<Vectors>,
}

impl std::fmt::Debug for TenantState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TenantState")
    }
}

impl TenantState {
    pub(super) fn new(meter: Arc<Meter>, pool: &Arc<Pool>) -> Self {
        let (queue, tenant) = (pool.queue(), meter.tenant().clone());
        Self {
            template: OnceLock::new(),
            connections: AtomicUsize::new(0),
            alerts: broadcast::Sender::new(limits::ALERTS_AHEAD),
            told: broadcast::Sender::new(limits::NOTIFIES_AHEAD),
            backends: Backends::default(),
            turns: Turns::default(),
            account: OnceCell::new(),
            tuning: Tuning::new(),
            cache: Cache::new(meter.tenant().clone()),
            replays: Replays::new(meter.tenant().clone()),
            epoch: Arc::default(),
            embeddings: Embeddings::new(meter.tenant().clone()),
            log: Arc::new(Log::new(meter.tenant().clone())),
            meter,
            index: IndexCell::new(pool, queue.clone()),
            tables: OnceCell::new(),
            vectors: Vectors::new(tenant, queue, pool.clone()),
        }
    }

    /// The tenant's tier.
    pub(super) fn tier(&self, engine: &Engine) -> Result<Tier> {
        let tenant = self.meter.tenant();
        let tiers = engine.tiers.get(tenant)?;
        tiers.get(&tenant.settings().tier).cloned().ok_or_else(|| {
            Error::new(Code::NotReady, "the tier of this tenant does not exist any more").with_hint("ask the operator")
        })
    }

    /// The tenant's index, built from its rows where it is not in memory.
    pub(super) async fn index(&self) -> Result<Arc<Index>> {
        let space = || Ok(self.embeddings.current()?.active.space);
        self.index.get(self.meter.tenant(), space).await
    }

    /// A callback for a batch: queues its changes for the index once they are on disk, and ends the
    /// time of answers that were found before.
    pub(super) fn apply_when_durable(&self, changes: Vec<Change>) -> impl FnOnce() + Send + 'static {
        let (index, epoch) = (self.index.clone(), self.epoch.clone());
        let changed = self.embeddings.changed.clone();
        move || {
            if changes.is_empty() {
                return;
            }
            if let Some(changed) = changed.lock().as_mut() {
                changed.extend(changes.iter().map(Change::document));
            }
            index.queue(changes);
            // Only now: whoever reads the new epoch searches with these changes.
            epoch.advance();
        }
    }

    /// A session's own state: the shared rules and functions, the tenant's query memory.
    pub(super) fn session_state(&self, engine: &Engine) -> Result<SessionState> {
        if let Some(made) = self.template.get() {
            return Ok(made.clone());
        }
        let made = engine.shared().state()?;
        Ok(self.template.get_or_init(|| made).clone())
    }

    /// The tenant's budgets and limits; opened at first use, which settles what a crash left.
    pub(super) async fn account(&self, engine: &Engine) -> Result<&Arc<Account>> {
        let open = || async {
            let plan: PlanSource = Arc::new(|tenant| tenant.settings().plan);
            let (meter, tiers) = (self.meter.clone(), engine.tiers.clone());
            let account = Account::open(meter, tiers, plan, self.log.recorder(), Clock::system()).await?;
            tokio::spawn(listen::forward(account.subscribe(), self.alerts.clone()));
            let (alerts, tenant, webhooks) = (account.subscribe(), account.tenant().clone(), engine.webhooks.clone());
            tokio::spawn(async move { webhooks.forward(&tenant, alerts).await });
            Ok(account)
        };
        self.account.get_or_try_init(open).await
    }

    /// Deletes what has expired at `now` (microseconds since 1970, UTC): nobody sees it any more.
    ///
    /// # Errors
    /// Those of reading and committing. What was deleted before stays so.
    pub(super) async fn purge(&self, now: i64) -> Result<()> {
        purge(self.meter.tenant(), now).await?;
        self.cache.purge().await?;
        self.replays.purge().await?;
        Ok(())
    }

    /// Counts a connection in, or refuses it at the cap.
    pub(super) fn connect(self: &Arc<Self>, cap: usize) -> Result<Connection> {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= cap {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(
                Code::TooManyConnections,
                format!("too many connections: this tenant may have {cap} at once"),
            )
            .with_hint("close idle connections or use a pool"));
        }
        Ok(Connection(self.clone()))
    }
}

/// A counted connection; uncounted when dropped.
pub(super) struct Connection(Arc<TenantState>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The searchable form of what is stored, with the vectors of a space. Also the documents that lack one: it is
/// being filled, or they were written while this ran.
pub(super) fn load(tenant: &Tenant, space: Space) -> Result<(Corpus, Vec<Uuid>)> {
    let (mut corpus, mut lacking) = (Corpus::of(space), Vec::new());
    for row in tenant.scan(Table::Documents, &[]) {
        let document: Document = documents::decode(&row?.1.value)?;
        match stored_entry(tenant, &document, space)? {
            Some(entry) => corpus.upsert(entry)?,
            None => lacking.push(document.id),
        }
    }
    Ok((corpus, lacking))
}

/// A stored document as the index takes it; `None` if it lacks a vector of the space.
pub(super) fn stored_entry(tenant: &Tenant, document: &Document, space: Space) -> Result<Option<DocumentEntry>> {
    let mut chunks = Vec::with_capacity(document.chunks as usize);
    for row in tenant.scan(Table::Chunks, document.key()) {
        let mut chunk: Chunk = documents::decode(&row?.1.value)?;
        let Some(vector) = tenant.get(Table::Vectors, &documents::vector_key(space, document.id, chunk.no))? else {
            return Ok(None);
        };
        chunk.vector = documents::decode(&vector.value)?;
        chunks.push(chunk);
    }
    documents::index_entry(document, chunks, space).map(Some)
}
