//! Answers that are given again: the response cache, and the replays of calls with an idempotency key.
//!
//! Both live in the tenant's own keyspace, under keyed hashes that begin with the user, so that
//! neither another tenant nor another user of this one can ever be given the answer (`key`). An
//! answer found in documents names the state of the documents ([`CorpusEpoch`]); after they change
//! nobody asks for it any more. Identical calls at once make one call (`flight`): one leads, the
//! others wait for what it stores, and if it fails or is cancelled one of them leads.

mod epoch;
mod flight;
mod index;
mod key;
mod replay;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ledger::{money::Nano, row, usage::now_micros},
    limits,
    tenant::{Batch, Sums, Table, Tenant},
};
use flight::{Flights, Join, Lead};
use index::{Held, Index};

pub use epoch::{CorpusEpoch, Epoch};
pub use index::Bounds;
pub use key::Request;
pub use replay::{Asked, Claim, Replays};

const ENTRIES: u8 = 0;
const STATISTICS: &[u8] = &[1];
const GENERATION: &[u8] = &[2];

/// A hash that stands for a call.
pub type Hash = [u8; 32];

/// An answer as it is given again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What the model said, whole.
    pub text: String,
    /// JSON text of an array, where documents were quoted.
    pub citations: Option<String>,
    /// The model that said it.
    pub model: String,
    /// What it was asked, in tokens.
    pub prompt_tokens: i64,
    /// What it said, in tokens.
    pub completion_tokens: i64,
    /// What it cost, and who gets it again saves.
    pub cost: Nano,
    /// Its line of the ledger.
    pub usage_id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    stored_at: i64,
    ttl_micros: i64,
    answer: Answer,
}

impl Entry {
    /// Whether it may be given at `now` to someone who wants nothing older than `ttl_micros`. One
    /// from the future, which a clock stepped back leaves behind, may not.
    fn is_fresh(&self, now: i64, ttl_micros: i64) -> bool {
        let age = now.saturating_sub(self.stored_at);
        (0..self.ttl_micros.min(ttl_micros)).contains(&age)
    }

    fn ends_at(&self) -> i64 {
        self.stored_at.saturating_add(self.ttl_micros)
    }
}

/// One tenant's cached answers.
pub struct Cache {
    tenant: Tenant,
    clock: fn() -> i64,
    bounds: Bounds,
    index: OnceCell<Mutex<Index>>,
    /// Raised by every clearing and part of every key, so that an answer which was under way comes
    /// to lie where nobody looks.
    generation: AtomicU64,
    flights: Arc<Flights<Answer>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({:?})", self.tenant)
    }
}

/// What a look-up gives.
#[derive(Debug)]
pub enum Looked {
    /// The answer; record it with [`Cache::record_hit`].
    Hit(Arc<Answer>),
    /// There is none: the caller makes the call, and others with the same wait for it.
    Lead(Guard),
}

/// The duty to make a call. Dropped without [`Guard::store`], it passes to one of those who wait.
pub struct Guard {
    cache: Arc<Cache>,
    key: Hash,
    ttl_micros: i64,
    lead: Lead<Answer>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({:?})", self.cache)
    }
}

/// What the cache holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Answers held.
    pub entries: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Answers given again.
    pub hits: i64,
    /// Answers that had to be made, and were stored.
    pub misses: i64,
    /// What the hits would have cost.
    pub saved: Nano,
}

impl Cache {
    /// The cache of a tenant; keep one for all its sessions.
    pub fn new(tenant: Tenant) -> Arc<Self> {
        Self::with(tenant, now_micros, Bounds::default())
    }

    /// [`Cache::new`] with a clock (microseconds since 1970 UTC) and other bounds.
    pub fn with(tenant: Tenant, clock: fn() -> i64, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            clock,
            bounds,
            index: OnceCell::new(),
            generation: AtomicU64::new(0),
            flights: Arc::default(),
        })
    }

    /// The answer to a call, no older than `ttl`; or the duty to make it. Waits while the same call
    /// is under way elsewhere.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn lookup_or_lead(self: &Arc<Self>, request: &Request<'_>, ttl: Duration) -> Result<Looked> {
        let index = self.index().await?;
        let ttl_micros = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
        loop {
            let generation = self.generation.load(Ordering::Acquire);
            let hash = request.hash(&self.tenant);
            let key = self
                .tenant
                .keyed_hash("cache", &[&generation.to_be_bytes()[..], &hash].concat());
            match self.flights.join(key, hash) {
                Join::Follow(flight) => {
                    if let Some(answer) = flight.landed().await {
                        return Ok(Looked::Hit(answer));
                    }
                }
                // Unlike an idempotency key, this key is the call itself.
                Join::Other => return Err(Error::internal("two calls of one hash")),
                Join::Lead(lead) => {
                    // Looked for as the leader only: whoever led before has stored it by now.
                    return Ok(match self.find(index, &key, ttl_micros)? {
                        Some(answer) => Looked::Hit(Arc::new(answer)),
                        None => Looked::Lead(Guard {
                            cache: self.clone(),
                            key,
                            ttl_micros,
                            lead,
                        }),
                    });
                }
            }
        }
    }

    fn find(&self, index: &Mutex<Index>, key: &Hash, ttl_micros: i64) -> Result<Option<Answer>> {
        let Some(stored) = self.tenant.get(Table::Cache, &entry_key(key))? else {
            // Pushed out while it was stored anew.
            index.lock().remove(key);
            return Ok(None);
        };
        let entry: Entry = row::decode("cached answer", &stored.value)?;
        if !entry.is_fresh((self.clock)(), ttl_micros) {
            return Ok(None);
        }
        index.lock().touch(key);
        Ok(Some(entry.answer))
    }

    /// Puts a hit into the statistics, beside its line of the ledger.
    pub fn record_hit(&self, batch: &mut Batch, answer: &Answer) {
        batch.add(Table::Cache, STATISTICS, &Sums(vec![1, 0, answer.cost.0]));
    }

    /// What it holds and has done.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn statistics(&self) -> Result<Statistics> {
        let (entries, bytes) = self.index().await?.lock().size();
        let sums = self.tenant.sums(Table::Cache, STATISTICS)?.unwrap_or_default().0;
        let place = |i: usize| sums.get(i).copied().unwrap_or(0);
        Ok(Statistics {
            entries: entries as u64,
            bytes: bytes as u64,
            hits: place(0),
            misses: place(1),
            saved: Nano(place(2)),
        })
    }

    /// Forgets every answer, those under way included, and says how many were held.
    ///
    /// # Errors
    /// Those of a commit.
    pub async fn clear(self: &Arc<Self>) -> Result<usize> {
        let index = self.index().await?;
        let next = self.generation.load(Ordering::Acquire).wrapping_add(1);
        let held: Vec<Hash> = index.lock().keys().collect();
        let mut batch = self.tenant.batch();
        batch.put(Table::Cache, GENERATION, row::encode(&next)?);
        for key in &held {
            batch.delete(Table::Cache, &entry_key(key));
        }
        let (cache, gone) = (self.clone(), held.clone());
        batch.on_durable(move || {
            cache.generation.store(next, Ordering::Release);
            cache.forget(&gone);
        });
        self.tenant.commit(batch).await?;
        Ok(held.len())
    }

    /// Deletes answers whose time is over, and says how many.
    ///
    /// # Errors
    /// Those of a commit.
    pub async fn purge(self: &Arc<Self>) -> Result<usize> {
        let over = self.index().await?.lock().over((self.clock)());
        if over.is_empty() {
            return Ok(0);
        }
        let mut batch = self.tenant.batch();
        for key in &over {
            batch.delete(Table::Cache, &entry_key(key));
        }
        let (cache, gone) = (self.clone(), over.clone());
        batch.on_durable(move || cache.forget(&gone));
        self.tenant.commit(batch).await?;
        Ok(over.len())
    }

    fn forget(&self, gone: &[Hash]) {
        if let Some(index) = self.index.get() {
            let mut index = index.lock();
            for key in gone {
                index.remove(key);
            }
        }
    }

    /// What is stored, read at first use.
    async fn index(&self) -> Result<&Mutex<Index>> {
        self.index
            .get_or_try_init(|| async {
                let (tenant, bounds) = (self.tenant.clone(), self.bounds);
                let load = move || -> Result<(u64, Index)> {
                    let mut index = Index::new(bounds);
                    for stored in tenant.scan(Table::Cache, &[ENTRIES]) {
                        let (key, stored) = stored?;
                        let bytes = stored.value.len();
                        let entry: Entry = row::decode("cached answer", &stored.value)?;
                        if let Some(hash) = key.last_chunk::<32>() {
                            let held = Held::new(bytes, entry.ends_at());
                            index.insert(*hash, held);
                        }
                    }
                    let generation = match tenant.get(Table::Cache, GENERATION)? {
                        Some(stored) => row::decode("generation of the cache", &stored.value)?,
                        None => 0,
                    };
                    Ok((generation, index))
                };
                let (generation, index) = tokio::task::spawn_blocking(load).await.map_err(Error::internal)??;
                self.generation.store(generation, Ordering::Release);
                Ok(Mutex::new(index))
            })
            .await
    }
}

impl Guard {
    /// Puts the answer into the batch that settles its call. Once that is on disk, those who wait are
    /// given it; if the batch fails, one of them leads. Only a whole answer may be stored.
    ///
    /// # Errors
    /// None in practice: the answer is text and numbers.
    pub fn store(self, batch: &mut Batch, answer: Answer) -> Result<()> {
        batch.add(Table::Cache, STATISTICS, &Sums(vec![0, 1, 0]));
        let entry = Entry {
            stored_at: (self.cache.clock)(),
            ttl_micros: self.ttl_micros,
            answer,
        };
        let value = row::encode(&entry)?;
        let held = Held::new(value.len(), entry.ends_at());
        let mut storing = Storing {
            cache: self.cache,
            placed: None,
            evicted: Vec::new(),
        };
        let worth_it = value.len() <= limits::CACHE_ANSWER_BYTES && self.ttl_micros > 0;
        if let Some(index) = storing.cache.index.get().filter(|_| worth_it) {
            storing.evicted = index.lock().place(self.key, held);
            storing.placed = Some(self.key);
            for (key, _) in &storing.evicted {
                batch.delete(Table::Cache, &entry_key(key));
            }
            batch.put(Table::Cache, &entry_key(&self.key), value);
        }
        let lead = self.lead;
        batch.on_durable(move || {
            storing.done();
            lead.land(entry.answer);
        });
        Ok(())
    }
}

/// An answer in a batch whose end is not known yet. Dropped before [`Storing::done`], the index is as
/// the store is: without it, and with what it was to push out.
struct Storing {
    cache: Arc<Cache>,
    placed: Option<Hash>,
    evicted: Vec<(Hash, Held)>,
}

impl Storing {
    fn done(mut self) {
        self.placed = None;
        self.evicted.clear();
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        let Some(index) = self.cache.index.get() else { return };
        let mut index = index.lock();
        if let Some(key) = self.placed {
            index.remove(&key);
        }
        for (key, held) in self.evicted.drain(..) {
            index.insert(key, held);
        }
    }
}

fn entry_key(key: &Hash) -> Vec<u8> {
    [&[ENTRIES], &key[..]].concat()
}
