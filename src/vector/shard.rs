//! The vectors of one index of one tenant: added to, deleted from and searched at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::build::{self, Cancel, Linking, Progress};
use super::costs::costs;
use super::embedding::check_dimensions;
use super::kernel;
use super::measure::measure;
use super::part::Part;
use super::rotation::Rotation;
use super::search::{Fetch, Hit, Method, Options, Trace};
use super::state::{Held, Located, Segment, State};
use super::{Embedding, Metric};
use crate::error::{Error, Result};

/// New rows from which it is worth coding them. Few in tests, so that small ones come through every step.
const CODED_ROWS: usize = if cfg!(test) { 64 } else { 1024 };
/// Distances that a walk is expected to compute, before one was measured.
const WALK_DISTANCES: f64 = 1000.0;
/// A graph is built anew when rows beside it are more than this part of it and cost more than it does.
const BESIDE: usize = 8;
/// A graph is built anew when more than this part of its rows are deleted.
const DEAD: usize = 5;

/// Vectors by row id, nearest first on demand.
///
/// New rows are compared one by one until [`Shard::work`] has coded them and, where that pays, built
/// a graph; it is called in the background, while searches and writes go on. A search keeps the state
/// it began with: no lock is held during it.
pub struct Shard {
    pub(super) metric: Metric,
    pub(super) dimensions: usize,
    pub(super) rotation: Arc<Rotation>,
    pub(super) state: RwLock<Arc<State>>,
    /// Held by writers from first to last step, so that each makes the state after the one it read.
    pub(super) writer: Mutex<Located>,
    /// Held while rows of the tail become a part.
    coding: Mutex<()>,
    /// Held while a graph is built.
    building: Mutex<()>,
    /// How many parts, from the first on, are being made into one with a graph.
    pinned: AtomicUsize,
    /// How graphs are to be built; where nobody has said it, any that there is will do.
    linking: Mutex<Option<Linking>>,
    /// Whether the graph that there is is to be built anew.
    anew: AtomicBool,
    progress: Progress,
}

/// What [`Shard::work`] would do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Code new rows: milliseconds.
    Code,
    /// Build a graph over all rows: seconds to minutes.
    Build,
}

/// What a shard holds at one moment: nothing that is written later shows in it.
#[derive(Clone)]
pub struct Moment(Arc<State>);

impl Moment {
    /// As [`Shard::search_traced`].
    ///
    /// # Errors
    /// As [`Shard::search`].
    pub fn search_traced(&self, query: &[f32], k: usize, options: &Options) -> Result<(Vec<Hit>, Trace)> {
        self.0.search(query, k, options)
    }

    /// How the largest part would be searched; none where there is nothing but new rows.
    pub fn expected(&self, query: &[f32], k: usize, options: &Options) -> Option<Method> {
        self.0.expected(query, k, options)
    }

    /// Calls back with the exact distance of each row by any metric, in no order.
    ///
    /// # Errors
    /// [`DataException`](crate::error::Code::DataException) for a vector of another length,
    /// [`Internal`](crate::error::Code::Internal) where vectors are not in memory.
    pub fn scan(&self, metric: Metric, query: &[f32], visit: impl FnMut(u64, f64)) -> Result<()> {
        self.0.scan(metric, query, visit)
    }
}

/// What a shard occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Rows that are not deleted.
    pub rows: usize,
    /// Bytes for all of them, codes and graph included.
    pub bytes: usize,
}

impl Memory {
    /// Bytes a row; 0 without rows.
    pub fn per_row(self) -> f64 {
        match self.rows {
            0 => 0.0,
            rows => self.bytes as f64 / rows as f64,
        }
    }
}

impl Shard {
    /// Without rows, for vectors of so many numbers.
    pub fn new(metric: Metric, dimensions: usize) -> Self {
        Self::with_state(State::new(metric, dimensions), Rotation::shared(dimensions))
    }

    pub(super) fn with_state(state: State, rotation: Arc<Rotation>) -> Self {
        Self {
            metric: state.metric,
            dimensions: state.dimensions,
            rotation,
            state: RwLock::new(Arc::new(state)),
            writer: Mutex::default(),
            coding: Mutex::default(),
            building: Mutex::default(),
            pinned: AtomicUsize::new(0),
            linking: Mutex::default(),
            anew: AtomicBool::new(false),
            progress: Progress::default(),
        }
    }

    /// What near means here.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Numbers in each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Rows that are not deleted.
    pub fn len(&self) -> usize {
        self.now().live()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it occupies, without what searches use while they run.
    pub fn memory(&self) -> Memory {
        let state = self.now();
        Memory {
            rows: state.live(),
            bytes: state.memory(),
        }
    }

    /// Rows that a walk in a graph leads to.
    pub fn in_graph(&self) -> usize {
        let state = self.now();
        let with_graph = state.parts.iter().filter(|held| held.part.graph.is_some());
        with_graph.map(Held::live).sum()
    }

    pub(super) fn now(&self) -> Arc<State> {
        self.state.read().clone()
    }

    /// Adds rows, each in place of one with the same id. The next search sees all of them.
    ///
    /// # Errors
    /// [`DataException`](crate::error::Code::DataException) for a vector of another length; nothing is
    /// added then.
    pub fn insert(&self, rows: &[(u64, Embedding)]) -> Result<()> {
        for (_, vector) in rows {
            check_dimensions(self.dimensions, vector.dimensions())?;
        }
        let kernel = kernel::best();
        let mut located = self.writer.lock();
        let mut state = self.state.write();
        let state = Arc::make_mut(&mut state);
        for (id, vector) in rows {
            let vector = vector.as_slice();
            state.insert(*id, vector, (kernel.dot)(vector, vector), &mut located);
        }
        Ok(())
    }

    /// Deletes rows; returns how many there were. No search that begins later gives them.
    pub fn remove(&self, ids: &[u64]) -> usize {
        let mut located = self.writer.lock();
        let mut state = self.state.write();
        let state = Arc::make_mut(&mut state);
        ids.iter().filter(|id| state.remove(**id, &mut located)).count()
    }

    /// The `k` nearest rows, nearest first, equal ones by id, NaN last: always as many as match, up to
    /// `k`. Distances are exact.
    ///
    /// # Errors
    /// [`DataException`](crate::error::Code::DataException) for a vector of another length; what
    /// [`Options::fetch`] fails with; [`Internal`](crate::error::Code::Internal) where a fetch is
    /// needed and there is none.
    pub fn search(&self, query: &[f32], k: usize, options: &Options) -> Result<Vec<Hit>> {
        Ok(self.search_traced(query, k, options)?.0)
    }

    /// The same, and how it went.
    ///
    /// # Errors
    /// As [`Shard::search`].
    pub fn search_traced(&self, query: &[f32], k: usize, options: &Options) -> Result<(Vec<Hit>, Trace)> {
        self.now().search(query, k, options)
    }

    /// What it holds now.
    pub fn moment(&self) -> Moment {
        Moment(self.now())
    }

    /// Says how graphs are to be built. One that was built in another way is [due](Shard::due) to be built again;
    /// with `None` it stays.
    pub fn set_linking(&self, linking: Option<Linking>) {
        *self.linking.lock() = linking;
    }

    /// Has a graph that there is be built anew.
    pub fn build_anew(&self) {
        self.anew.store(true, Ordering::SeqCst);
    }

    /// Rows that a running build has linked, and all that it will; `None` where none runs.
    pub fn progress(&self) -> Option<(usize, usize)> {
        self.progress.now()
    }

    /// Whether a graph is not what was asked for.
    fn is_outdated(&self, state: &State) -> bool {
        let (anew, asked) = (self.anew.load(Ordering::SeqCst), *self.linking.lock());
        let mut graphs = state.parts.iter().filter_map(|held| held.part.graph.as_ref());
        graphs.any(|graph| anew || asked.is_some_and(|asked| graph.linking != asked))
    }

    /// What would make searches faster, if anything would.
    pub fn due(&self) -> Option<Due> {
        let state = self.now();
        let beside: usize = state.tail.full().iter().map(|segment| segment.ids.len()).sum();
        let coded = state.parts.iter().filter(|held| held.part.graph.is_none());
        let beside = beside + coded.map(|held| held.part.slots()).sum::<usize>();
        let costs = costs();
        let scan = match self.metric {
            Metric::L1 => costs.bytes_random.at(self.dimensions),
            Metric::Cosine | Metric::L2 | Metric::InnerProduct => costs.bits.at(self.dimensions),
        };
        let walk = WALK_DISTANCES * costs.bytes_random.at(self.dimensions);
        let graphs = state.parts.iter().filter(|held| held.part.graph.is_some());
        let (slots, dead) = graphs.fold((0, 0), |(slots, dead), held| {
            (slots + held.part.slots(), dead + held.dead.len())
        });
        // Scans also compare, which doubles them.
        let pays = 2.0 * scan * beside as f64 > walk && beside >= CODED_ROWS;
        if self.is_outdated(&state) || dead * DEAD > slots || (pays && beside * BESIDE > slots) {
            return Some(Due::Build);
        }
        (state.tail.full().len() * super::state::SEGMENT_ROWS >= CODED_ROWS).then_some(Due::Code)
    }

    /// Does what is [due](Shard::due). Takes as long as that takes: for a background thread, one a
    /// tenant. Searches and writes go on meanwhile. Returns whether something was done.
    ///
    /// # Errors
    /// What `fetch` fails with, [`Internal`](crate::error::Code::Internal) where it is needed and absent.
    pub fn work(&self, cancel: &Cancel, fetch: Option<Fetch>) -> Result<bool> {
        self.work_with(cancel, fetch, &mut || ())
    }

    /// The same; `pause` is called every few milliseconds, and may take its time.
    ///
    /// # Errors
    /// As [`Shard::work`].
    pub fn work_with(&self, cancel: &Cancel, fetch: Option<Fetch>, pause: &mut dyn FnMut()) -> Result<bool> {
        match self.due() {
            None => Ok(false),
            Some(Due::Code) => Ok(self.code_tail()),
            Some(Due::Build) => self.build_with(cancel, fetch, pause),
        }
    }

    /// Builds a graph over all rows but the newest few. False when cancelled, when another build is
    /// running, or when there is nothing to build from.
    ///
    /// # Errors
    /// As [`Shard::work`].
    pub fn build(&self, cancel: &Cancel, fetch: Option<Fetch>) -> Result<bool> {
        self.build_with(cancel, fetch, &mut || ())
    }

    fn build_with(&self, cancel: &Cancel, fetch: Option<Fetch>, pause: &mut dyn FnMut()) -> Result<bool> {
        let Some(_building) = self.building.try_lock() else {
            return Ok(false);
        };
        self.code_rows(1);
        let sources = {
            let _coding = self.coding.lock();
            let sources = self.now().parts.clone();
            self.pinned.store(sources.len(), Ordering::Relaxed);
            sources
        };
        // Whoever waits for it sees it begin before it is no longer due, and end after it is done.
        self.progress.begin(sources.iter().map(Held::live).sum());
        let built = self.build_of(&sources, cancel, fetch, pause);
        let done = match built {
            Ok(Some(part)) => {
                let _coding = self.coding.lock();
                self.replace(&sources, &[], Some(part));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        self.pinned.store(0, Ordering::Relaxed);
        self.progress.end();
        done
    }

    fn build_of(
        &self,
        sources: &[Held],
        cancel: &Cancel,
        fetch: Option<Fetch>,
        pause: &mut dyn FnMut(),
    ) -> Result<Option<Part>> {
        let fetched = fetched(sources, self.dimensions, fetch)?;
        let rows = rows_of(sources, &fetched, self.dimensions)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut part = Part::of(self.metric, &self.rotation, self.dimensions, &rows);
        drop(rows);
        // What is asked for may change while it is built: then it begins again.
        let mut graph = loop {
            self.anew.store(false, Ordering::SeqCst);
            let linking = self.linking.lock().unwrap_or_default();
            let (stop, mut outdated) = (Cancel::new(), false);
            let mut pause = || {
                self.code_tail();
                outdated = self.linking.lock().is_some_and(|asked| asked != linking);
                if outdated || cancel.is_cancelled() {
                    stop.cancel();
                }
                pause();
            };
            match build::build(&part.codes, linking, &stop, &self.progress, &mut pause) {
                Some(graph) => break graph,
                None if outdated && !cancel.is_cancelled() => {}
                None => return Ok(None),
            }
        };
        graph.measured = measure(self.metric, self.dimensions, &part, &graph);
        part.graph = Some(Arc::new(graph));
        if sources.iter().all(|held| held.part.exact.is_none()) {
            part.exact = None;
        }
        Ok(Some(part))
    }

    /// Codes the tail's rows if they are many; false if not.
    fn code_tail(&self) -> bool {
        self.code_rows(CODED_ROWS)
    }

    /// Makes the tail's full pieces a part, together with former parts that are not much larger, so
    /// that there are always few. False if there are fewer rows than `least`.
    pub(super) fn code_rows(&self, least: usize) -> bool {
        let _coding = self.coding.lock();
        let state = self.now();
        let segments = state.tail.full();
        let mut total: usize = segments.iter().map(|segment| segment.ids.len()).sum();
        if total < least {
            return false;
        }
        let mut from = state.parts.len();
        while from > self.pinned.load(Ordering::Relaxed) {
            let held = &state.parts[from - 1];
            if held.part.graph.is_some() || held.part.exact.is_none() || held.part.slots() > 2 * total {
                break;
            }
            total += held.part.slots();
            from -= 1;
        }
        let sources = &state.parts[from..];
        let Ok(mut rows) = rows_of(sources, &[], self.dimensions) else {
            return false;
        };
        for segment in segments {
            segment.each(&mut |id, vector, _| rows.push((id, vector)));
        }
        let part = match rows.is_empty() {
            true => None,
            false => Some(Part::of(self.metric, &self.rotation, self.dimensions, &rows)),
        };
        self.replace(sources, segments, part);
        true
    }

    /// Puts a part in the place of what it was made from, without what was deleted meanwhile.
    fn replace(&self, sources: &[Held], segments: &[Arc<Segment>], part: Option<Part>) {
        let mut made = part.map(Held::new);
        let mut located = self.writer.lock();
        let mut state = self.state.write();
        let state = Arc::make_mut(&mut state);
        let mut remove = |id| {
            if let Some(made) = &mut made {
                made.remove(id);
            }
        };
        let same = |a: &Held, b: &Held| Arc::ptr_eq(&a.part.ids, &b.part.ids);
        let at = state
            .parts
            .iter()
            .position(|held| sources.first().is_some_and(|source| same(held, source)));
        for source in sources {
            let Some(now) = state.parts.iter().find(|held| same(held, source)) else {
                continue;
            };
            if now.dead.len() > source.dead.len() {
                let newly =
                    (0..now.part.slots()).filter(|slot| now.dead.contains(*slot) && !source.dead.contains(*slot));
                newly.for_each(|slot| remove(now.part.ids.ids[slot]));
            }
        }
        state
            .parts
            .retain(|held| !sources.iter().any(|source| same(held, source)));
        let tail = &mut state.tail;
        for (then, now) in segments.iter().zip(&tail.segments) {
            for (row, id) in now.ids.iter().enumerate() {
                if now.dead[row] {
                    tail.dead -= 1;
                    if !then.dead[row] {
                        remove(*id);
                    }
                }
            }
        }
        tail.segments.drain(..segments.len());
        tail.first += (segments.len() * super::state::SEGMENT_ROWS) as u64;
        let first = tail.first;
        located.0.retain(|_, number| *number >= first);
        if let Some(made) = made {
            state.parts.insert(at.unwrap_or(state.parts.len()), made);
        }
    }

    /// Takes over the rows of another shard for the same vectors, in place of its own. Not while work goes on.
    pub fn take_over(&self, other: Shard) {
        debug_assert_eq!((self.metric, self.dimensions), (other.metric, other.dimensions));
        let _building = self.building.lock();
        let _coding = self.coding.lock();
        let mut located = self.writer.lock();
        *located = other.writer.into_inner();
        *self.state.write() = other.state.into_inner();
    }

    /// Keeps only codes and graphs in memory; searches then need [`Options::fetch`]. Rows that have
    /// not been coded stay as they are.
    pub fn release_vectors(&self) {
        let _coding = self.coding.lock();
        let _writer = self.writer.lock();
        let mut state = self.state.write();
        for held in &mut Arc::make_mut(&mut state).parts {
            held.part.exact = None;
        }
    }
}

/// The vectors of rows that are not in memory, by source and node; empty where they are.
fn fetched(sources: &[Held], dimensions: usize, fetch: Option<Fetch>) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(sources.len());
    for held in sources {
        if held.part.exact.is_some() {
            all.push(Vec::new());
            continue;
        }
        let fetch = fetch.ok_or_else(|| Error::internal("a build has no way to fetch vectors"))?;
        let (ids, nodes): (Vec<u64>, Vec<usize>) = held.rows().unzip();
        let mut vectors = vec![0.0; held.part.nodes() * dimensions];
        let mut given = vec![false; ids.len()];
        fetch(&ids, &mut |place, vector| {
            if let Some(node) = nodes.get(place)
                && vector.len() == dimensions
            {
                vectors[node * dimensions..(node + 1) * dimensions].copy_from_slice(vector);
                given[place] = true;
            }
        })?;
        if given.contains(&false) {
            return Err(Error::internal("a fetch left out a row"));
        }
        all.push(vectors);
    }
    Ok(all)
}

/// The rows of these parts that are not deleted.
fn rows_of<'a>(sources: &'a [Held], fetched: &'a [Vec<f32>], dimensions: usize) -> Result<Vec<(u64, &'a [f32])>> {
    let mut rows = Vec::with_capacity(sources.iter().map(Held::live).sum());
    for (source, held) in sources.iter().enumerate() {
        for (id, node) in held.rows() {
            let vector = match (&held.part.exact, fetched.get(source)) {
                (Some(exact), _) => exact.vectors.row(node),
                (None, Some(fetched)) => &fetched[node * dimensions..(node + 1) * dimensions],
                (None, None) => return Err(Error::internal("vectors are not in memory")),
            };
            rows.push((id, vector));
        }
    }
    Ok(rows)
}
