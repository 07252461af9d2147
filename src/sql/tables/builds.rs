//! Graphs of indexes, built when the index is made.
//!
//! CREATE INDEX says what is to be built; nothing is until its transaction has committed. Then the build waits for its
//! turn in the tenant's own queue, and whoever asked for it may wait for its end, which holds no lock. Searches compare
//! meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    ranked::class_of,
    rights,
    shard::{Kept, bytes, dimensions},
    shards::{Key, Vectors},
};
use crate::{
    error::{Error, Result},
    limits,
    sql::{
        pg::catalog::BuildInfo,
        session::{Notice, Session},
        world::{TenantWorld, World},
    },
    table::{
        TableData,
        schema::{IndexDef, IndexMethod, KeyOf, Oid, TableDef},
    },
    vector::{Due, Linking, Metric},
};

/// How often to look whether a build has ended.
const TICK: Duration = Duration::from_millis(10);
/// What PostgreSQL counts the progress of a build in.
const BLOCK_BYTES: usize = 8_192;
const METRICS: [Metric; 4] = [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::L1];

/// An index whose graph is to be built once the transaction has committed.
#[derive(Clone, Copy, Debug)]
pub(in crate::sql) struct Ask {
    table: Oid,
    index: Oid,
    /// Also where there is one that would do.
    anew: bool,
}

/// Graphs that are being built.
pub struct Builds(Vec<Building>);

/// One of them.
pub(in crate::sql) struct Building {
    kept: Arc<Kept>,
    vectors: Arc<Vectors>,
    /// Whether an attempt to read the vectors has ended.
    read: Arc<AtomicBool>,
}

/// The index that was made last for a column and a distance; one over some rows only where there is no other.
pub(super) fn index_for(table: &TableDef, column: u16, metric: Metric) -> Option<&IndexDef> {
    let fits = |index: &&IndexDef| is_of(index, column, metric);
    let whole = table.indexes.iter().filter(fits).filter(|i| i.predicate.is_none());
    let newest = whole.max_by_key(|index| index.oid);
    newest.or_else(|| table.indexes.iter().filter(fits).max_by_key(|index| index.oid))
}

fn is_of(index: &IndexDef, column: u16, metric: Metric) -> bool {
    is_approximate(index)
        && index.keys.first().is_some_and(|key| {
            // pgvector's default of ivfflat.
            let named = key.operator_class.as_deref().unwrap_or("vector_l2_ops");
            matches!(key.key, KeyOf::Column(of) if of == column) && named.ends_with(class_of(metric))
        })
}

pub(super) fn is_approximate(index: &IndexDef) -> bool {
    matches!(index.method, IndexMethod::Hnsw { .. } | IndexMethod::Ivfflat { .. })
}

/// How the graph of a column and a distance is to be built; `None` where no index says it.
pub(super) fn linking(table: &TableDef, column: u16, metric: Metric) -> Option<Linking> {
    match index_for(table, column, metric)?.method {
        IndexMethod::Hnsw { m, ef_construction } => Some(Linking { m, ef_construction }),
        IndexMethod::Ivfflat { .. } | IndexMethod::Btree | IndexMethod::Hash | IndexMethod::Gin => None,
    }
}

impl Ask {
    /// Of an index, where it has a graph.
    pub(super) fn of(table: Oid, index: &IndexDef, anew: bool) -> Option<Self> {
        is_approximate(index).then_some(Self {
            table,
            index: index.oid,
            anew,
        })
    }
}

impl TenantWorld {
    /// Has something built once the transaction has committed.
    pub(super) fn ask(&self, asked: impl IntoIterator<Item = Ask>) {
        self.desk.builds.lock().extend(asked);
    }
}

impl Vectors {
    /// Begins to build what was asked for; `None` where there is nothing to be built.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::error::Code::OutOfMemory) where it has no room.
    fn begin(self: &Arc<Self>, latest: &Arc<TableData>, asked: Ask, pid: i32) -> Result<Option<Building>> {
        let table = latest.def();
        let Some(index) = table.indexes.iter().find(|index| index.oid == asked.index) else {
            return Ok(None); // a savepoint took it back
        };
        let Some(KeyOf::Column(column)) = index.keys.first().map(|key| &key.key) else {
            return Ok(None);
        };
        let length = table.column_of(*column).and_then(dimensions);
        let metric = METRICS.into_iter().find(|metric| is_of(index, *column, *metric));
        let (Some(length), Some(metric)) = (length, metric) else {
            return Ok(None);
        };
        if latest.rows() < limits::SHARD_ROWS {
            return Ok(None);
        }
        if bytes(latest, length) > self.limit() {
            let text = format!("the vectors of index \"{}\" do not fit into memory", index.name);
            return Err(Error::new(crate::error::Code::OutOfMemory, text));
        }
        let key = Key::new(table.oid, *column, metric);
        let (kept, _) = self.add(key, length);
        kept.asked_by(pid);
        if asked.anew {
            kept.shard.build_anew();
        }
        let read = self.fill_aside(key, kept.clone(), latest.clone());
        Ok(Some(Building {
            kept,
            vectors: self.clone(),
            read,
        }))
    }

    /// The builds of indexes that go on or wait for their turn.
    pub(in crate::sql) fn building(&self, world: &TenantWorld) -> Vec<BuildInfo> {
        let Ok(tables) = world.opened() else { return Vec::new() };
        let latest = tables.latest();
        let all = self.all().into_iter();
        let told = all.filter_map(|(key, kept)| {
            let table = latest.catalog().table(key.table)?;
            let index = index_for(table, key.column, key.metric)?;
            let (phase, done, total) = match kept.shard.progress() {
                Some((done, total)) => ("loading tuples", done, total),
                None if kept.is_awaited() => ("initializing", 0, 0),
                None => return None,
            };
            // How many rows there are is nothing for whoever sees only some of them.
            let owns = rights::owns(world, &table.owner);
            let blocks = |rows: usize| rows.saturating_mul(kept.shard.dimensions() * size_of::<f32>()) / BLOCK_BYTES;
            let count = |number: usize| i64::try_from(number).ok().filter(|_| owns);
            Some(BuildInfo {
                pid: kept.asker(),
                table: owns.then_some(key.table),
                index: owns.then_some(index.oid),
                phase: owns.then_some(phase),
                blocks: [count(blocks(done)), count(blocks(total))],
                tuples: [count(done), count(total)],
            })
        });
        told.collect()
    }
}

impl Building {
    /// Returns once searches have what was asked for, or will not get it.
    async fn ended(&self) {
        let mut asked = false;
        while !self.kept.is_forgotten() {
            let filled = self.read.load(Ordering::SeqCst) && self.kept.is_filled();
            if filled && self.kept.shard.due() != Some(Due::Build) && self.kept.shard.progress().is_none() {
                return;
            }
            if filled && self.kept.shard.is_at_rest() {
                // It failed; or this came before who has filled it could ask for the work.
                if std::mem::replace(&mut asked, true) {
                    return;
                }
                self.vectors.arrange(&self.kept);
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

impl Builds {
    /// Returns once all have ended.
    pub async fn ended(&self) {
        for building in &self.0 {
            building.ended().await;
        }
    }
}

impl Session {
    /// After a commit: begins what it asked for.
    pub(in crate::sql) async fn begin_builds(&mut self) {
        let World::Tenant(world) = &*self.world else { return };
        let asked = std::mem::take(&mut *world.desk.builds.lock());
        if asked.is_empty() {
            return;
        }
        let Ok(tables) = world.opened() else { return };
        let latest = tables.latest();
        for ask in asked {
            let begun = match latest.table(ask.table).await {
                Ok(data) => world.state.vectors.begin(&data, ask, self.backend_pid()),
                // It is gone again.
                Err(_) => continue,
            };
            match begun {
                Ok(building) => self.builds.extend(building),
                Err(error) => self.notices.push(Notice {
                    severity: "WARNING",
                    code: "01000",
                    message: error.message().to_owned(),
                    hint: Some("searches compare all rows".to_owned()),
                }),
            }
        }
    }

    /// The builds that the last commit began, for who waits until they have ended.
    pub fn take_builds(&mut self) -> Option<Builds> {
        match self.builds.is_empty() {
            true => None,
            false => Some(Builds(std::mem::take(&mut self.builds))),
        }
    }

    /// Tells the client that the builds of its indexes go on without it. What it committed stays, so this is no error.
    pub fn stopped_waiting(&mut self, why: &Error) {
        let why = why.message().trim_start_matches("canceling statement due to ");
        self.notices.push(Notice {
            severity: "WARNING",
            code: "01000",
            message: format!("canceling wait for the index to be built due to {why}"),
            hint: Some(
                "The index is created, and built in the background; searches compare all rows meanwhile.".into(),
            ),
        });
    }
}
