//! A tenant's search index of its documents: in memory from the first search on, as long as there is room for it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use uuid::Uuid;

use super::{tx::Change, world::load};
use crate::{
    ai::corpus::{Corpus, Space},
    error::{Error, Result},
    tenant::Tenant,
    vector::{Member, Pool, Queue, Share},
};

/// Commits to apply to the index, in commit order; `None` while it is not in memory.
type Changes = Arc<Mutex<Option<VecDeque<Change>>>>;

/// A tenant's search index and the commits it has yet to take in.
pub(super) struct Index {
    corpus: RwLock<Corpus>,
    changes: Changes,
    /// Where its vectors are arranged.
    queue: Arc<Queue>,
    share: Arc<Share>,
}

/// Where the index is while it is in memory.
pub(super) struct IndexCell {
    now: RwLock<Option<Arc<Index>>>,
    /// Held by who loads it.
    loading: tokio::sync::Mutex<()>,
    changes: Changes,
    queue: Arc<Queue>,
    share: Arc<Share>,
    joined: AtomicBool,
    me: Weak<IndexCell>,
}

impl IndexCell {
    pub fn new(pool: &Arc<Pool>, queue: Arc<Queue>) -> Arc<Self> {
        let share = Arc::new(pool.share());
        Arc::new_cyclic(|me| Self {
            now: RwLock::default(),
            loading: tokio::sync::Mutex::default(),
            changes: Arc::default(),
            queue,
            share,
            joined: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// The index, built from the tenant's rows if it is not in memory, with the vectors of a space. While somebody
    /// has it, it stays.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn get(&self, tenant: &Tenant, space: impl Fn() -> Result<Space>) -> Result<Arc<Index>> {
        self.share.touch();
        if let Some(index) = self.now.read().clone() {
            return Ok(index);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(index) = self.now.read().clone() {
            return Ok(index);
        }
        // From here on commits queue up; the scan may already contain them, and applying them again changes nothing.
        *self.changes.lock() = Some(VecDeque::new());
        let (tenant, space) = (tenant.clone(), space()?);
        let loaded = tokio::task::spawn_blocking(move || load(&tenant, space));
        // What lacks a vector was written while this ran: it queues up.
        let (corpus, _) = loaded.await.map_err(Error::internal)??;
        let index = Arc::new(Index {
            corpus: RwLock::new(corpus),
            changes: self.changes.clone(),
            queue: self.queue.clone(),
            share: self.share.clone(),
        });
        *self.now.write() = Some(index.clone());
        if !self.joined.swap(true, Ordering::Relaxed) {
            let member: Weak<dyn Member> = self.me.clone();
            self.share.pool().join(member);
        }
        index.arrange(&index.corpus.read());
        Ok(index)
    }

    /// Leaves what was committed to whoever searches next.
    pub fn queue(&self, changes: Vec<Change>) {
        if let Some(queue) = self.changes.lock().as_mut() {
            queue.extend(changes);
        }
    }
}

impl Member for IndexCell {
    fn share(&self) -> &Share {
        &self.share
    }

    fn evict(&self) -> bool {
        let mut now = self.now.write();
        // Who has it may yet apply commits to it, or put another corpus in its place.
        if now.as_ref().is_none_or(|index| Arc::strong_count(index) > 1) {
            return false;
        }
        *self.changes.lock() = None;
        let index = now.take();
        drop(now);
        drop(index);
        true
    }
}

impl Index {
    /// What is searched.
    pub fn corpus(&self) -> RwLockReadGuard<'_, Corpus> {
        self.corpus.read()
    }

    /// Takes in the commits that are on disk. The queue is emptied under the index's own lock, so
    /// that two readers cannot apply two commits in the wrong order.
    pub fn catch_up(&self) {
        if self.changes.lock().as_ref().is_none_or(VecDeque::is_empty) {
            return;
        }
        let mut corpus = self.corpus.write();
        let changes = self.changes.lock().as_mut().map(std::mem::take).unwrap_or_default();
        for change in changes {
            match change {
                Change::Upsert(written) => {
                    // Two first documents whose vectors differ in length; the others must be found all the same.
                    if let Err(error) = corpus.upsert(written.entry.clone()) {
                        tracing::error!(%error, document = %written.document.id, "a document could not be indexed");
                    }
                }
                Change::Remove(id) => {
                    corpus.remove(id);
                }
            }
        }
        self.arrange(&corpus);
    }

    /// Has vectors that came lately arranged in the background, once they are many.
    fn arrange(&self, corpus: &Corpus) {
        let bytes = corpus.vectors().map_or(0, |vectors| {
            vectors.arrange(&self.queue);
            vectors.memory().bytes
        });
        self.share.set(bytes);
    }

    /// The documents that it holds, and how many chunks they have.
    pub fn documents(&self) -> (Vec<Uuid>, usize) {
        self.catch_up();
        let corpus = self.corpus.read();
        (corpus.ids().collect(), corpus.len())
    }

    /// Puts another corpus in its place, which holds all that is committed.
    pub fn replace(&self, corpus: Corpus) {
        let mut held = self.corpus.write();
        if let Some(changes) = self.changes.lock().as_mut() {
            changes.clear();
        }
        self.arrange(&corpus);
        let old = std::mem::replace(&mut *held, corpus);
        drop(held);
        // It may be large, and the committer waits.
        std::thread::spawn(move || drop(old));
    }
}
