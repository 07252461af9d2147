//! Which embedding model a tenant's vectors are from, and how texts become vectors of it.
//!
//! All vectors that are compared are of one space: the active one. While a change of the model is under way, those
//! of the next lie beside them under keys of their own, and nobody looks at them. Who commits documents holds the
//! gate's shared side until that is durable; who changes the spaces holds it alone, so that no document is ever
//! committed with vectors of a space that is not active.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use uuid::Uuid;

use super::{
    documents::{self, Cut, Vector, Written, vector_key},
    engine::Engine,
    gateway::Gateway,
    world::TenantWorld,
};
use crate::{
    ai::{
        corpus::{Corpus, Layers, Space},
        embedder,
        gate::models::Target,
    },
    error::{Code, Error, Result},
    ledger::{
        model::{BUILTIN, BUILTIN_HASH, DEFAULT_EMBEDDING, Kind},
        plan::TenantPlan,
        usage::now_micros,
    },
    tenant::{Batch, Table, Tenant},
    vector::Embedding,
};

/// Key in [`Table::Settings`] of the tenant's [`Spaces`].
const SPACES_KEY: &[u8] = b"embedding";

/// A space and the model that fills it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) space: Space,
    /// Name in `bulkhead.providers`, or `builtin`.
    pub(super) provider: String,
    /// The provider's name of the model.
    pub(super) model: String,
}

impl Origin {
    pub(super) fn is_builtin(&self) -> bool {
        self.provider == BUILTIN
    }

    pub(super) fn is(&self, wanted: &Wanted) -> bool {
        (&self.provider, &self.model) == (&wanted.provider, &wanted.model)
    }
}

/// The model that the operator has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) provider: String,
    pub(super) model: String,
    /// When it was set for this tenant, in microseconds since 1970 UTC; 0 for the default.
    pub(super) set_at: i64,
}

/// The model that the operator has set for a tenant; `None` where its name means none that is served.
pub(super) fn wanted(engine: &Engine, tenant: &Tenant) -> Result<Option<Wanted>> {
    let plan = TenantPlan::decode(&tenant.settings().plan)?;
    let models = engine.models.get(tenant)?;
    let name = plan.embedding_model.as_deref().unwrap_or(DEFAULT_EMBEDDING);
    let served = models.get(name).filter(|model| {
        model.kind == Kind::Embedding && model.retires_at_micros.is_none_or(|retires| retires > now_micros())
    });
    Ok(served.map(|model| Wanted {
        provider: model.provider.clone(),
        model: model.model.clone(),
        set_at: plan.embedding_set_at_micros,
    }))
}

/// The spaces of a tenant's vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spaces {
    /// What is searched.
    pub(super) active: Origin,
    /// What is being filled, to become active.
    pub(super) next: Option<Origin>,
    /// What is no longer used and still to be deleted.
    pub(super) stale: Vec<Space>,
}

impl Default for Spaces {
    /// Those of a tenant that never had another model.
    fn default() -> Self {
        Self {
            active: Origin {
                space: Space(0),
                provider: BUILTIN.to_owned(),
                model: BUILTIN_HASH.to_owned(),
            },
            next: None,
            stale: Vec::new(),
        }
    }
}

impl Spaces {
    /// A space that was never used, for this model.
    pub(super) fn fresh(&self, wanted: &Wanted) -> Origin {
        let used = [self.active.space].into_iter().chain(self.next.iter().map(|o| o.space));
        let last = used.chain(self.stale.iter().copied()).max().unwrap_or_default();
        Origin {
            space: Space(last.0 + 1),
            provider: wanted.provider.clone(),
            model: wanted.model.clone(),
        }
    }
}

/// Held until a commit of documents is durable.
pub(super) type Shared = Arc<OwnedRwLockReadGuard<()>>;
/// Held while no documents are committed.
pub(super) type Alone = OwnedRwLockWriteGuard<()>;

/// What the process keeps of a tenant's vectors.
pub(super) struct Embeddings {
    tenant: Tenant,
    current: Arc<Mutex<Option<Arc<Spaces>>>>,
    gate: Arc<RwLock<()>>,
    /// The length of the vectors of a space, once it is known.
    dimensions: Mutex<Option<(Space, usize)>>,
    /// Documents that were written since a change of the model began; `None` while there is none.
    pub(super) changed: Arc<Mutex<Option<HashSet<Uuid>>>>,
    /// Whether a change of the model is being worked on.
    pub(super) busy: AtomicBool,
}

impl Embeddings {
    pub(super) fn new(tenant: Tenant) -> Self {
        Self {
            tenant,
            current: Arc::default(),
            gate: Arc::default(),
            dimensions: Mutex::default(),
            changed: Arc::default(),
            busy: AtomicBool::new(false),
        }
    }

    /// The spaces of this moment.
    pub(super) fn current(&self) -> Result<Arc<Spaces>> {
        let mut current = self.current.lock();
        if let Some(spaces) = &*current {
            return Ok(spaces.clone());
        }
        let stored = self.tenant.get(Table::Settings, SPACES_KEY)?;
        let spaces: Option<Spaces> = stored.map(|row| documents::decode(&row.value)).transpose()?;
        Ok(current.insert(Arc::new(spaces.unwrap_or_default())).clone())
    }

    pub(super) async fn shared(&self) -> Shared {
        Arc::new(self.gate.clone().read_owned().await)
    }

    pub(super) async fn alone(&self) -> Alone {
        self.gate.clone().write_owned().await
    }

    /// Replaces the spaces, in one commit with the rest of the batch. `then` runs once it is durable, before
    /// documents are committed again.
    pub(super) async fn replace(
        &self,
        alone: Alone,
        spaces: Spaces,
        mut batch: Batch,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        batch.put(Table::Settings, SPACES_KEY, documents::encode(&spaces)?);
        let current = self.current.clone();
        // In the committer: whoever awaits this may be gone by then.
        batch.on_durable(move || {
            *current.lock() = Some(Arc::new(spaces));
            then();
            drop(alone);
        });
        self.tenant.commit(batch).await
    }

    /// The active vector of a chunk; `None` if the chunk is gone.
    pub(super) fn vector(&self, document: Uuid, no: u32) -> Result<Option<Vector>> {
        loop {
            let spaces = self.current()?;
            let key = vector_key(spaces.active.space, document, no);
            if let Some(stored) = self.tenant.get(Table::Vectors, &key)? {
                return documents::decode(&stored.value).map(Some);
            }
            if Arc::ptr_eq(&spaces, &self.current()?) {
                return Ok(None);
            }
        }
    }

    /// Refuses vectors of another length than the space has: under the same name it is another model.
    pub(super) fn check_dimensions(&self, space: Space, vectors: &[Embedding]) -> Result<()> {
        let Some(first) = vectors.first() else { return Ok(()) };
        let mut known = self.dimensions.lock();
        if known.is_none_or(|(of, _)| of != space) {
            let Some(row) = self.tenant.scan(Table::Vectors, &space.0.to_be_bytes()).next() else {
                return Ok(());
            };
            let stored: Vector = documents::decode(&row?.1.value)?;
            *known = Some((space, stored.values.len()));
        }
        match *known {
            Some((_, dimensions)) if dimensions != first.dimensions() => Err(Error::new(
                Code::DataException,
                format!(
                    "the embedding model gave vectors of {} dimensions, and before of {dimensions}",
                    first.dimensions()
                ),
            )
            .with_hint("it is another model under the same name: name it anew in bulkhead.models")),
            _ => Ok(()),
        }
    }
}

impl TenantWorld {
    /// The spaces of this moment, with all documents of this transaction in the active one. A tenant without
    /// documents takes over the model that is set for it.
    pub(super) async fn spaces(&self) -> Result<Arc<Spaces>> {
        let mut spaces = self.state.embeddings.current()?;
        if spaces.next.is_none()
            && let Some(wanted) = wanted(&self.engine, &self.tenant)?
            && !spaces.active.is(&wanted)
            && !self.has_documents()?
        {
            spaces = self.adopt(&wanted).await?;
        }
        let strays = self.tx.lock().outside(spaces.active.space);
        if !strays.is_empty() {
            let cuts = strays.iter().map(|written| Cut::again(written)).collect();
            let embedded = self.embed_documents(&spaces.active, cuts).await?;
            self.tx.lock().replace(&strays, embedded)?;
        }
        Ok(spaces)
    }

    fn has_documents(&self) -> Result<bool> {
        Ok(self.tenant.scan(Table::Documents, &[]).next().transpose()?.is_some())
    }

    async fn adopt(&self, wanted: &Wanted) -> Result<Arc<Spaces>> {
        let (embeddings, index) = (&self.state.embeddings, self.state.index().await?);
        let alone = embeddings.alone().await;
        let spaces = embeddings.current()?;
        // Another session may have been first, with a document or with this.
        if spaces.next.is_some() || spaces.active.is(wanted) || self.has_documents()? {
            return Ok(spaces);
        }
        let active = spaces.fresh(wanted);
        let space = active.space;
        let replaced = Spaces {
            active,
            next: None,
            stale: spaces.stale.clone(),
        };
        let batch = self.tenant.batch();
        embeddings
            .replace(alone, replaced, batch, move || index.replace(Corpus::of(space)))
            .await?;
        embeddings.current()
    }

    /// The embedding model of a name; without one that of the vectors which are searched, because what it gives is
    /// for comparing with them.
    pub(super) async fn embedding_model(&self, gateway: &Gateway, asked: Option<&str>) -> Result<Target> {
        match asked {
            Some(name) => gateway.embedding_model(name),
            None => gateway.embedder(&self.spaces().await?.active),
        }
    }

    /// Vectors of texts by the model of a space.
    pub(super) async fn embed(&self, origin: &Origin, texts: Vec<String>) -> Result<Vec<Embedding>> {
        if origin.is_builtin() {
            return builtin(texts).await;
        }
        let gateway = self.gateway().await?;
        let target = gateway.embedder(origin)?;
        let vectors = self.engine.gate.embed(&gateway.caller, &target, &texts).await?;
        self.state.embeddings.check_dimensions(origin.space, &vectors)?;
        Ok(vectors)
    }

    /// Embeds documents, all texts together.
    pub(super) async fn embed_documents(&self, origin: &Origin, mut cuts: Vec<Cut>) -> Result<Vec<Arc<Written>>> {
        let texts = cuts.iter_mut().flat_map(|cut| cut.texts.iter().cloned()).collect();
        let mut vectors = self.embed(origin, texts).await?.into_iter();
        let embedded = cuts.into_iter().map(|cut| {
            let own = cut.texts.len();
            Arc::new(cut.embedded(origin, vectors.by_ref().take(own)))
        });
        Ok(embedded.collect())
    }

    /// Runs `search` over this transaction's view of the tenant, with the embedding of `text` by the model of the
    /// vectors that are searched.
    pub(super) async fn search<T>(
        &self,
        text: Option<&str>,
        mut search: impl FnMut(&Layers<'_>, Option<(Space, &Embedding)>) -> Result<T>,
    ) -> Result<T> {
        let mut embedded: Option<(Space, Embedding)> = None;
        loop {
            let spaces = self.spaces().await?;
            let active = &spaces.active;
            if let Some(text) = text
                && embedded.as_ref().is_none_or(|(space, _)| *space != active.space)
            {
                let mut vectors = self.embed(active, vec![text.to_owned()]).await?;
                let vector = vectors.pop().ok_or_else(|| Error::internal("a text has no vector"))?;
                embedded = Some((active.space, vector));
            }
            let query = embedded.as_ref().map(|(space, vector)| (*space, vector));
            let found = self.with_layers(active.space, |layers| search(layers, query)).await?;
            if let Some(found) = found {
                return Ok(found);
            }
            // The model was changed just now.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Vectors of the built-in model, computed off the async threads.
pub(super) async fn builtin(texts: Vec<String>) -> Result<Vec<Embedding>> {
    if let [text] = texts.as_slice() {
        return Ok(vec![embedder::embed(text)?]);
    }
    let work = move || texts.iter().map(|text| embedder::embed(text)).collect();
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
