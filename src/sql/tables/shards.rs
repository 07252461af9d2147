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
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::exact::{self, Column};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Result,
    limits,
    table::{
        TableData, Tables,
        schema::{ColumnDef, Oid, RowId},
    },
    vector::{Cancel, Embedding, Filter, Hit, Method, Metric, Moment, Options, RowSet, Shard, Trace},
};

/// The shards of one tenant. Filled at first use, derived from rows, gone with the process.
#[derive(Default)]
pub(in crate::sql) struct Vectors(Mutex<HashMap<Key, Arc<Kept>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    table: Oid,
    column: u16,
    metric: Metric,
}

/// One shard.
struct Kept {
    shard: Shard,
    /// The moment that it holds; `None` until it is filled.
    moment: Mutex<Option<Arc<TableData>>>,
    /// Held by who takes it to another moment.
    moving: Mutex<()>,
    /// Whether it will be made to follow a commit.
    scheduled: AtomicBool,
    /// Whether a thread works on it.
    working: AtomicBool,
    /// Ends that work.
    cancel: Cancel,
}

/// What an attempt to bring a shard up to date has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It holds some moment of the table.
    Filled,
    /// Another thread fills it.
    Filling,
    /// It is of no use any more.
    Stale,
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
        write!(f, "Vectors({} shards)", self.0.lock().len())
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        self.0.get_mut().values().for_each(|kept| kept.cancel.cancel());
    }
}

/// How long the vectors of a column are; `None` if they may differ, or if it holds none.
pub(super) fn dimensions(column: &ColumnDef) -> Option<usize> {
    match column.pg_type {
        PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => {
            usize::try_from(column.type_modifier).ok().filter(|&length| length > 0)
        }
        _ => None,
    }
}

impl Vectors {
    /// Whether a search takes no longer than what may run on an async thread.
    pub(super) fn is_quick(&self, seen: &Seen, wanted: &Wanted) -> bool {
        let key = Key::of(&seen.view, wanted);
        let Some(kept) = self.0.lock().get(&key).cloned() else {
            return false;
        };
        let same = |moment: &Arc<TableData>| moment.is(&seen.view);
        seen.matching.is_none() && kept.moment.lock().as_ref().is_some_and(same) && kept.shard.due().is_none()
    }

    /// How a shard would be searched for all rows, as far as that is known before a search; for EXPLAIN.
    pub(super) fn expected(&self, view: &TableData, wanted: &Wanted) -> Option<Method> {
        let kept = self.0.lock().get(&Key::of(view, wanted)).cloned()?;
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
        let kept = {
            let mut all = self.0.lock();
            match all.get(&key) {
                Some(kept) => kept.clone(),
                None => {
                    let others: usize = all.values().map(|kept| kept.shard.memory().bytes).sum();
                    if others.saturating_add(bytes(latest, wanted.query.len())) > limits::SHARD_BYTES {
                        return Ok(None);
                    }
                    let kept = Arc::new(Kept::new(wanted.metric, wanted.query.len()));
                    all.insert(key, kept.clone());
                    kept
                }
            }
        };
        Ok(match self.take_to(key, &kept, latest)? {
            State::Filled => Some(kept),
            State::Filling | State::Stale => None,
        })
    }

    /// Brings a shard up to date, and forgets it where that is not possible.
    fn take_to(&self, key: Key, kept: &Arc<Kept>, latest: &Arc<TableData>) -> Result<State> {
        let state = kept.take_to(latest, key.column);
        match &state {
            Ok(State::Filled) => kept.work(),
            Ok(State::Filling) => {}
            Ok(State::Stale) | Err(_) => self.forget(key, kept),
        }
        state
    }

    fn forget(&self, key: Key, kept: &Arc<Kept>) {
        let mut all = self.0.lock();
        if all.get(&key).is_some_and(|now| Arc::ptr_eq(now, kept)) {
            all.remove(&key);
        }
        drop(all);
        kept.cancel.cancel();
    }

    /// To be called after a commit: shards of tables that are gone go, others follow soon.
    pub(in crate::sql) fn committed(self: &Arc<Self>, tables: &Arc<Tables>) {
        let all: Vec<(Key, Arc<Kept>)> = match self.0.lock() {
            all if all.is_empty() => return,
            all => all.iter().map(|(key, kept)| (*key, kept.clone())).collect(),
        };
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
    fn of(view: &TableData, wanted: &Wanted) -> Self {
        Self {
            table: view.def().oid,
            column: wanted.column,
            metric: wanted.metric,
        }
    }
}

/// Bytes of a column's vectors.
fn bytes(data: &TableData, dimensions: usize) -> usize {
    let rows = usize::try_from(data.rows()).unwrap_or(usize::MAX);
    rows.saturating_mul(dimensions).saturating_mul(size_of::<f32>())
}

impl Kept {
    fn new(metric: Metric, dimensions: usize) -> Self {
        Self {
            shard: Shard::new(metric, dimensions),
            moment: Mutex::new(None),
            moving: Mutex::new(()),
            scheduled: AtomicBool::new(false),
            working: AtomicBool::new(false),
            cancel: Cancel::new(),
        }
    }

    /// The moment that the shard holds, and what it holds of it.
    fn now(&self) -> Option<(Arc<TableData>, Moment)> {
        let moment = self.moment.lock();
        moment.as_ref().map(|base| (base.clone(), self.shard.moment()))
    }

    /// Makes the shard hold another moment of its table.
    fn take_to(&self, latest: &Arc<TableData>, column: u16) -> Result<State> {
        if self.moment.lock().as_ref().is_some_and(|moment| moment.is(latest)) {
            return Ok(State::Filled);
        }
        let Some(_moving) = self.moving.try_lock() else {
            // What it holds meanwhile is as good.
            return Ok(match self.moment.lock().is_some() {
                true => State::Filled,
                false => State::Filling,
            });
        };
        let length = latest.def().column_of(column).and_then(dimensions);
        if length != Some(self.shard.dimensions()) || bytes(latest, self.shard.dimensions()) > limits::SHARD_BYTES {
            return Ok(State::Stale);
        }
        let before = self.moment.lock().clone();
        let Some(before) = before else {
            return self.fill(latest, column);
        };
        let Some(changed) = latest.changed_since(&before, usize::MAX) else {
            return Ok(State::Stale);
        };
        let (mut inserted, mut removed) = (Vec::new(), Vec::new());
        for rows in changed.chunks(limits::SCAN_ROWS) {
            let then = Column::of_rows(&before, rows, column)?;
            let now = Column::of_rows(latest, rows, column)?;
            let (mut then, mut now) = (then.vectors().peekable(), now.vectors().peekable());
            // Both come in the order of `rows`.
            for &row in rows {
                let then = then.next_if(|(id, _)| *id == row).map(|(_, vector)| vector);
                let now = now.next_if(|(id, _)| *id == row).map(|(_, vector)| vector);
                match (then, now) {
                    // Another column changed, or the row moved into a block.
                    (Some(then), Some(now)) if then == now => {}
                    (_, Some(now)) => inserted.push((row, Embedding::new(now)?)),
                    (Some(_), None) => removed.push(row),
                    (None, None) => {}
                }
            }
        }
        // Whoever looks meanwhile waits, and finds both changed.
        let mut moment = self.moment.lock();
        self.shard.remove(&removed);
        self.shard.insert(&inserted)?;
        *moment = Some(latest.clone());
        Ok(State::Filled)
    }

    fn fill(&self, latest: &Arc<TableData>, column: u16) -> Result<State> {
        for batch in latest.scan(vec![column], Vec::new(), true) {
            if self.cancel.is_cancelled() {
                return Ok(State::Stale);
            }
            let batch = Column::of(&batch?)?;
            let rows = batch.vectors().map(|(row, vector)| Ok((row, Embedding::new(vector)?)));
            self.shard.insert(&rows.collect::<Result<Vec<_>>>()?)?;
        }
        *self.moment.lock() = Some(latest.clone());
        Ok(State::Filled)
    }

    /// Has a thread make searches faster, where something would and a processor is free for it.
    fn work(self: &Arc<Self>) {
        if self.shard.due().is_none() || self.working.swap(true, Ordering::Relaxed) {
            return;
        }
        let kept = self.clone();
        let work = move |_slot: Slot| {
            while !kept.cancel.is_cancelled() {
                match kept.shard.work(&kept.cancel, None) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::error!(%error, "vectors in memory could not be arranged; they are compared one by one");
                        break;
                    }
                }
            }
            kept.working.store(false, Ordering::Relaxed);
        };
        // A thread of its own: a build may take minutes, and the end of the process must not wait for it.
        let begun = Slot::take().is_some_and(|slot| {
            let thread = std::thread::Builder::new().name("vectors".to_owned());
            thread.spawn(move || work(slot)).is_ok()
        });
        if !begun {
            self.working.store(false, Ordering::Relaxed);
        }
    }
}

/// The right to keep a processor busy: half of them are left to statements.
struct Slot;

static SLOTS: AtomicUsize = AtomicUsize::new(0);

impl Slot {
    fn take() -> Option<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let more = |taken: usize| (taken < (processors / 2).max(1)).then_some(taken + 1);
        SLOTS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        SLOTS.fetch_sub(1, Ordering::Relaxed);
    }
}
