//! One shard: the vectors of a column at one moment of its table, and the way to another moment.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicI32, Ordering},
};

use parking_lot::Mutex;

use super::{
    builds,
    exact::Column,
    graphs::Graphs,
    shards::{Key, Vectors},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Error, Result},
    limits,
    table::{TableData, schema::ColumnDef},
    tenant::Tenant,
    vector::{Cancel, Due, Embedding, Member, Moment, Shard, Share, Tended},
};

/// One shard.
pub(super) struct Kept {
    key: Key,
    home: Weak<Vectors>,
    pub(super) shard: Tended,
    /// The session that wanted its index, by its number; 0 for none.
    asker: AtomicI32,
    /// What it takes of the memory for all vectors.
    pub(super) share: Share,
    /// The moment that it holds; `None` until it is filled.
    pub(super) moment: Mutex<Option<Arc<TableData>>>,
    /// Held by who takes it to another moment.
    moving: Mutex<()>,
    /// Whether it will be made to follow a commit.
    pub(super) scheduled: AtomicBool,
    /// Ends the filling.
    pub(super) cancel: Cancel,
}

/// What an attempt to bring a shard up to date has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It holds some moment of the table.
    Filled,
    /// Another thread fills it.
    Filling,
    /// It is of no use any more.
    Stale,
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

/// Bytes of a column's vectors.
pub(super) fn bytes(data: &TableData, dimensions: usize) -> usize {
    let rows = usize::try_from(data.rows()).unwrap_or(usize::MAX);
    rows.saturating_mul(dimensions).saturating_mul(size_of::<f32>())
}

impl Member for Kept {
    fn share(&self) -> &Share {
        &self.share
    }

    fn evict(&self) -> bool {
        self.home.upgrade().is_some_and(|home| home.forget(self.key, self))
    }
}

/// Throws away what is stored of a shard and of no use: its rows are read, and its graph built, again.
fn discard(graphs: &Graphs, error: &Error) {
    tracing::warn!(%error, "a stored graph of vectors is thrown away");
    if let Err(error) = graphs.remove() {
        tracing::warn!(%error, "a stored graph of vectors could not be removed");
    }
}

impl Kept {
    pub(super) fn new(key: Key, home: Weak<Vectors>, dimensions: usize, share: Share) -> Self {
        Self {
            key,
            home,
            shard: Tended::new(Shard::new(key.metric, dimensions)),
            share,
            moment: Mutex::new(None),
            moving: Mutex::new(()),
            scheduled: AtomicBool::new(false),
            cancel: Cancel::new(),
            asker: AtomicI32::new(0),
        }
    }

    /// A session wants its index.
    pub(super) fn asked_by(&self, pid: i32) {
        self.asker.store(pid, Ordering::Relaxed);
    }

    /// The session that wanted its index last; `None` where none did.
    pub(super) fn asker(&self) -> Option<i32> {
        Some(self.asker.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Whether it holds some moment of its table.
    pub(super) fn is_filled(&self) -> bool {
        self.moment.lock().is_some()
    }

    /// Whether nobody searches it any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Whether it is being read, or waits to be built.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_filled() || (!self.shard.is_at_rest() && self.shard.due() == Some(Due::Build))
    }

    /// The moment that the shard holds, and what it holds of it.
    pub(super) fn now(&self) -> Option<(Arc<TableData>, Moment)> {
        let moment = self.moment.lock();
        moment.as_ref().map(|base| (base.clone(), self.shard.moment()))
    }

    /// Makes the shard hold another moment of its table.
    pub(super) fn take_to(&self, latest: &Arc<TableData>, tenant: &Tenant) -> Result<State> {
        let asked = builds::linking(latest.def(), self.key.column, self.key.metric);
        self.shard.set_linking(asked);
        if self.moment.lock().as_ref().is_some_and(|moment| moment.is(latest)) {
            return Ok(State::Filled);
        }
        let column = self.key.column;
        let Some(_moving) = self.moving.try_lock() else {
            // What it holds meanwhile is as good.
            return Ok(match self.moment.lock().is_some() {
                true => State::Filled,
                false => State::Filling,
            });
        };
        let length = latest.def().column_of(column).and_then(dimensions);
        let most = self.share.pool().limit();
        if length != Some(self.shard.dimensions()) || bytes(latest, self.shard.dimensions()) > most {
            return Ok(State::Stale);
        }
        let before = self.moment.lock().clone();
        let Some(before) = before else {
            return self.fill(latest, tenant);
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

    /// With the graph that is stored, where it is of these rows or most of them.
    fn fill(&self, latest: &Arc<TableData>, tenant: &Tenant) -> Result<State> {
        let graphs = Graphs::of(tenant, latest.storage(), self.key.column, self.key.metric);
        let stored = graphs.read().unwrap_or_else(|error| {
            discard(&graphs, &error);
            None
        });
        let mut rows = Vec::new();
        for batch in latest.scan(vec![self.key.column], Vec::new(), true) {
            if self.cancel.is_cancelled() {
                return Ok(State::Stale);
            }
            let batch = Column::of(&batch?)?;
            for (row, vector) in batch.vectors() {
                rows.push((row, Embedding::new(vector)?));
            }
            if stored.is_none() {
                self.shard.insert(&rows)?;
                rows.clear();
            }
        }
        if let Some(stored) = stored {
            let given = rows.iter().map(|(row, vector)| (*row, vector));
            match Shard::open(self.key.metric, self.shard.dimensions(), &stored, given) {
                Ok(opened) => {
                    tracing::info!(
                        rows = opened.len(),
                        in_graph = opened.in_graph(),
                        "a stored graph of vectors was opened"
                    );
                    self.shard.take_over(opened);
                }
                Err(error) => {
                    discard(&graphs, &error);
                    self.shard.insert(&rows)?;
                }
            }
        }
        *self.moment.lock() = Some(latest.clone());
        Ok(State::Filled)
    }

    /// After work on the shard: what it takes, and its graph if that is new, are told.
    pub(super) fn arranged(&self, done: Due) {
        self.share.set(self.shard.memory().bytes);
        if done != Due::Build {
            return;
        }
        // As long as somebody holds the moment, what is stored of it is not swept.
        let (Some(vectors), Some((base, _))) = (self.home.upgrade(), self.now()) else {
            return;
        };
        let graphs = Graphs::of(&vectors.tenant, base.storage(), self.key.column, self.key.metric);
        let Some(sealed) = self.shard.sealed() else { return };
        match graphs.write(&sealed) {
            Ok(()) => tracing::info!(bytes = sealed.len(), "a graph of vectors was stored"),
            Err(error) => {
                tracing::warn!(%error, "a graph of vectors could not be stored; it is built again after a restart");
            }
        }
    }
}
