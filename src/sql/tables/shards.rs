//! Vectors of a tenant's columns in memory, arranged so that the nearest are found without comparing all.
//!
//! What a shard holds is a column at one moment of its table, which need not be the moment that a statement sees. The
//! two are compared ([`TableData::changed_since`]): rows in which they differ are left out of the shard's answer and
//! compared one by one as the statement sees them. So a shard may be behind a statement or ahead of it, and no answer
//! shows it; own writes, old snapshots and rollbacks are nothing special. Where a shard cannot answer, vectors are
//! compared one by one ([`super::exact`]).

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    exact::{self, Column},
    graphs::Graphs,
    shard::{Kept, State, bytes, dimensions},
};
use crate::{
    error::Result,
    limits,
    table::{
        TableData, Tables,
        schema::{Oid, RowId},
    },
    tenant::Tenant,
    vector::{Cancel, Filter, Hit, Member, Method, Metric, Options, Pool, Queue, RowSet, Trace},
};

/// The shards of one tenant. Filled at first use, derived from rows; their graphs are stored.
pub(in crate::sql) struct Vectors {
    pub(super) tenant: Tenant,
    shards: Mutex<HashMap<Key, Arc<Kept>>>,
    /// Where they are arranged.
    queue: Arc<Queue>,
    pool: Arc<Pool>,
    me: Weak<Vectors>,
}

/// What a shard is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) table: Oid,
    pub(super) column: u16,
    pub(super) metric: Metric,
}

/// The rows that are asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) column: u16,
    pub(super) metric: Metric,
    /// As long as the column's vectors.
    pub(super) query: Vec<f32>,
    pub(super) k: usize,
    /// `hnsw.ef_search`, where it was set.
    pub(super) ef: Option<usize>,
}

/// What a statement sees.
pub(super) struct Seen {
    pub(super) view: Arc<TableData>,
    /// What is committed; `None` for a table that is not.
    pub(super) latest: Option<Arc<TableData>>,
    /// The rows of `view` that may be given, in any order; all without it.
    pub(super) matching: Option<Vec<RowId>>,
}

/// The nearest rows, nearest first.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) rows: Vec<RowId>,
    /// How far each is, as the operator tells it.
    pub(super) distances: Vec<f64>,
    /// How a shard was searched; without a method where vectors of the table were compared one by one.
    pub(super) trace: Trace,
}

impl Found {
    /// By comparing so many vectors of the table.
    fn compared(hits: Vec<(f64, RowId)>, compared: usize) -> Self {
        let (distances, rows) = hits.into_iter().unzip();
        let trace = Trace {
            compared,
            ..Trace::default()
        };
        Self { rows, distances, trace }
    }
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vectors({} shards)", self.shards.lock().len())
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        self.shards.get_mut().values().for_each(|kept| kept.cancel.cancel());
    }
}

impl Vectors {
    /// None yet.
    pub(in crate::sql) fn new(tenant: Tenant, queue: Arc<Queue>, pool: Arc<Pool>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            tenant,
            shards: Mutex::default(),
            queue,
            pool,
            me: me.clone(),
        })
    }

    /// Whether a search takes no longer than what may run on an async thread.
    pub(super) fn is_quick(&self, seen: &Seen, wanted: &Wanted) -> bool {
        let key = Key::of(&seen.view, wanted);
        let Some(kept) = self.shards.lock().get(&key).cloned() else {
            return false;
        };
        let same = |moment: &Arc<TableData>| moment.is(&seen.view);
        seen.matching.is_none() && kept.moment.lock().as_ref().is_some_and(same) && kept.shard.due().is_none()
    }

    /// How a shard would be searched for all rows, as far as that is known before a search; for EXPLAIN.
    pub(super) fn expected(&self, view: &TableData, wanted: &Wanted) -> Option<Method> {
        let kept = self.shards.lock().get(&Key::of(view, wanted)).cloned()?;
        let (_, moment) = kept.now()?;
        let options = Options {
            ef: wanted.ef,
            ..Options::default()
        };
        Some(
            moment
                .expected(&wanted.query, wanted.k, &options)
                .unwrap_or(Method::Exact),
        )
    }

    /// The rows nearest to a vector: `k` of them, or as many as may be given. `None` if fewer of these have a vector:
    /// then rows without one belong to the answer, and the table is to be read.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn nearest(&self, seen: &Seen, wanted: &Wanted, stop: &Cancel) -> Result<Option<Found>> {
        let given = match &seen.matching {
            Some(matching) => matching.len(),
            None => usize::try_from(seen.view.rows()).unwrap_or(usize::MAX),
        };
        let given = given.min(wanted.k);
        let few = seen.matching.as_ref().filter(|rows| rows.len() <= limits::NEAREST_FEW);
        let found = match few {
            Some(rows) => Found::compared(exact::of_rows(&seen.view, rows, wanted)?, rows.len()),
            None => {
                let set = seen
                    .matching
                    .as_ref()
                    .map(|rows| rows.iter().copied().collect::<RowSet>());
                match self.by_shard(seen, wanted, set.as_ref())? {
                    Some(found) if found.rows.len() == given => found,
                    _ => {
                        let all = || usize::try_from(seen.view.rows()).unwrap_or(usize::MAX);
                        let compared = set.as_ref().map_or_else(all, RowSet::len);
                        Found::compared(exact::of_table(&seen.view, set.as_ref(), wanted, stop)?, compared)
                    }
                }
            }
        };
        Ok((found.rows.len() == given).then_some(found))
    }

    /// What the column's shard answers. `None` where it cannot.
    fn by_shard(&self, seen: &Seen, wanted: &Wanted, set: Option<&RowSet>) -> Result<Option<Found>> {
        let Some(kept) = self.kept(seen, wanted)? else {
            return Ok(None);
        };
        let Some((base, moment)) = kept.now() else {
            return Ok(None);
        };
        let most = limits::SHARD_LAG.max(usize::try_from(seen.view.rows() / 8).unwrap_or(usize::MAX));
        let Some(mut changed) = seen.view.changed_since(&base, most) else {
            return Ok(None);
        };
        let hidden: RowSet = changed.iter().copied().collect();
        changed.retain(|row| set.is_none_or(|set| set.contains(*row)));
        let mut own = Vec::new();
        for rows in changed.chunks(limits::SCAN_ROWS) {
            let column = Column::of_rows(&seen.view, rows, wanted.column)?;
            own.extend(column.vectors().map(|(row, vector)| (row, vector.to_vec())));
        }
        let overlay: Vec<(RowId, &[f32])> = own.iter().map(|(row, vector)| (*row, vector.as_slice())).collect();
        let options = Options {
            ef: wanted.ef,
            filter: set.map(Filter::Rows),
            hidden: Some(&hidden),
            overlay: &overlay,
            ..Options::default()
        };
        let (hits, trace) = moment.search_traced(&wanted.query, wanted.k, &options)?;
        let (distances, rows): (_, Vec<RowId>) = hits.iter().map(|hit: &Hit| (hit.distance, hit.id)).unzip();
        // Whatever the shard says, a row that the statement does not see is none.
        let seen_all = rows.iter().all(|row| seen.view.contains(*row));
        Ok(seen_all.then_some(Found {
            rows,
            distances,
            trace: Trace {
                method: Some(trace.method.unwrap_or(Method::Exact)),
                ..trace
            },
        }))
    }

    /// The shard of a column, holding what is committed or something near to it.
    fn kept(&self, seen: &Seen, wanted: &Wanted) -> Result<Option<Arc<Kept>>> {
        let Some(latest) = &seen.latest else { return Ok(None) };
        let key = Key::of(&seen.view, wanted);
        let length = latest.def().column_of(wanted.column).and_then(dimensions);
        if length != Some(wanted.query.len()) || latest.rows() < limits::SHARD_ROWS {
            return Ok(None);
        }
        let known = self.shards.lock().get(&key).cloned();
        let kept = match known {
            Some(kept) => kept,
            None if bytes(latest, wanted.query.len()) > self.pool.limit() => return Ok(None),
            None => {
                let (kept, new) = self.add(key, wanted.query.len());
                // Reading it may take longer than to compare all this once.
                if new
                    && Graphs::of(&self.tenant, latest.storage(), key.column, key.metric)
                        .exist()
                        .unwrap_or(true)
                {
                    self.fill_aside(key, kept, latest.clone());
                    return Ok(None);
                }
                kept
            }
        };
        kept.share.touch();
        Ok(match self.take_to(key, &kept, latest)? {
            State::Filled => Some(kept),
            State::Filling | State::Stale => None,
        })
    }

    /// A shard without rows; whether it is new.
    pub(super) fn add(&self, key: Key, dimensions: usize) -> (Arc<Kept>, bool) {
        let kept = {
            let mut all = self.shards.lock();
            if let Some(kept) = all.get(&key) {
                return (kept.clone(), false);
            }
            let kept = Arc::new(Kept::new(key, self.me.clone(), dimensions, self.pool.share()));
            all.insert(key, kept.clone());
            kept
        };
        let member: Arc<dyn Member> = kept.clone();
        self.pool.join(Arc::downgrade(&member));
        let arranged = Arc::downgrade(&kept);
        kept.shard.when_arranged(move |done| {
            if let Some(kept) = arranged.upgrade() {
                kept.arranged(done);
            }
        });
        (kept, true)
    }

    /// Fills a shard while vectors are compared one by one. What it gives turns true when that has ended.
    pub(super) fn fill_aside(&self, key: Key, kept: Arc<Kept>, latest: Arc<TableData>) -> Arc<AtomicBool> {
        let vectors = self.me.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        let fill = move || {
            if let Some(vectors) = vectors.upgrade()
                && let Err(error) = vectors.take_to(key, &kept, &latest)
            {
                tracing::warn!(%error, "vectors could not be read; it is tried again at the next search");
            }
            told.store(true, Ordering::SeqCst);
        };
        // If there is no thread the next search fills it.
        if let Err(error) = std::thread::Builder::new().name("vectors-load".to_owned()).spawn(fill) {
            tracing::warn!(%error, "vectors are not read in the background: there is no thread for it");
            ended.store(true, Ordering::SeqCst);
        }
        ended
    }

    /// Every shard that there is.
    pub(super) fn all(&self) -> Vec<(Key, Arc<Kept>)> {
        let all = self.shards.lock();
        all.iter().map(|(key, kept)| (*key, kept.clone())).collect()
    }

    /// Bytes of memory for the vectors of all.
    pub(super) fn limit(&self) -> usize {
        self.pool.limit()
    }

    /// Has a shard arranged, where something is due.
    pub(super) fn arrange(&self, kept: &Kept) {
        kept.shard.arrange(&self.queue);
    }

    /// Brings a shard up to date, and forgets it where that is not possible.
    fn take_to(&self, key: Key, kept: &Arc<Kept>, latest: &Arc<TableData>) -> Result<State> {
        let state = kept.take_to(latest, &self.tenant);
        match &state {
            Ok(State::Filled) => {
                kept.share.set(kept.shard.memory().bytes);
                kept.shard.arrange(&self.queue);
            }
            Ok(State::Filling) => {}
            Ok(State::Stale) | Err(_) => drop(self.forget(key, kept)),
        }
        state
    }

    /// Whether it was known.
    pub(super) fn forget(&self, key: Key, kept: &Kept) -> bool {
        let mut all = self.shards.lock();
        let known = all.get(&key).is_some_and(|now| std::ptr::eq(&raw const **now, kept));
        let forgotten = if known { all.remove(&key) } else { None };
        drop(all);
        kept.cancel.cancel();
        // Outside of the lock: it may be large.
        forgotten.is_some()
    }

    /// To be called after a commit: shards of tables that are gone go, others follow soon.
    pub(in crate::sql) fn committed(self: &Arc<Self>, tables: &Arc<Tables>) {
        let all = self.all();
        if all.is_empty() {
            return;
        }
        let latest = tables.latest();
        for (key, kept) in all {
            let Some(now) = latest.loaded(key.table) else {
                self.forget(key, &kept);
                continue;
            };
            let same = kept.moment.lock().as_ref().is_some_and(|moment| moment.is(&now));
            if same || kept.scheduled.swap(true, Ordering::Relaxed) {
                continue;
            }
            let (vectors, tables) = (Arc::downgrade(self), Arc::downgrade(tables));
            tokio::spawn(async move {
                tokio::time::sleep(limits::SHARD_DELAY).await;
                kept.scheduled.store(false, Ordering::Relaxed);
                let (Some(vectors), Some(tables)) = (vectors.upgrade(), tables.upgrade()) else {
                    return;
                };
                let followed = tokio::task::spawn_blocking(move || match tables.latest().loaded(key.table) {
                    Some(now) => vectors.take_to(key, &kept, &now).map(drop),
                    None => {
                        vectors.forget(key, &kept);
                        Ok(())
                    }
                });
                if let Ok(Err(error)) = followed.await {
                    tracing::warn!(%error, "vectors in memory could not follow a commit; they are read again");
                }
            });
        }
    }
}

impl Key {
    pub(super) fn new(table: Oid, column: u16, metric: Metric) -> Self {
        Self { table, column, metric }
    }

    fn of(view: &TableData, wanted: &Wanted) -> Self {
        Self {
            table: view.def().oid,
            column: wanted.column,
            metric: wanted.metric,
        }
    }
}
