//! Building a graph: hnsw_rs links the nodes, one after the other, and what it has linked is copied
//! out into flat arrays.
//!
//! hnsw_rs is given row numbers in place of vectors and asks back for distances, which come from
//! one-byte codes; so it never sees a number that it could panic on, and keeps no vectors. Insertion
//! is sequential: parallel insertion leaves nodes that nothing leads to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;

use super::Metric;
use super::codes::Codes;
use super::graph::{Graph, MOST_NODES, Scratch};
use super::kernel::{self, Kernel};

/// Most levels, hnsw_rs's own bound.
const LEVELS: usize = 16;
/// Walks with at least this `ef` are what a build promises to find every vector with.
pub(super) const LEAST_EF: usize = 16;
/// Nodes left out of the graph: recall is measured with them, and they are compared one by one.
const HELD_OUT: usize = 128;
/// A graph of n nodes has this many times the root of n entries, and no more than [`MOST_ENTRIES`].
const ENTRIES: usize = 2;
/// See [`ENTRIES`].
const MOST_ENTRIES: usize = 1024;
/// Insertions between two times that the caller is asked whether to go on.
const PAUSE: usize = 64;

/// How the nodes of a graph are linked: pgvector's options of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linking {
    /// Half of the most links of a node, 2 to 100.
    pub m: u16,
    /// Candidates from which links are chosen.
    pub ef_construction: u16,
}

impl Default for Linking {
    /// Of a graph for which nobody has said anything: pgvector's `m`, and more candidates than its default, which cost
    /// time once and let walks be short.
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 200,
        }
    }
}

/// How far a build is, in rows. Shared with whoever looks.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// None while there is no build.
    total: AtomicUsize,
    done: AtomicUsize,
}

impl Progress {
    /// Rows that are linked, and all rows; `None` while there is no build.
    pub fn now(&self) -> Option<(usize, usize)> {
        let total = self.total.load(Ordering::Relaxed);
        (total > 0).then(|| (self.done.load(Ordering::Relaxed).min(total), total))
    }

    fn set(&self, done: usize, total: usize) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// A build of so many rows begins.
    pub fn begin(&self, total: usize) {
        self.set(0, total.max(1));
    }

    /// The build has ended.
    pub fn end(&self) {
        self.set(0, 0);
    }
}

/// Whether a build goes on. Shared with whoever may want it to end.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Of a build that goes on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the build end without a result, soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Distances of rows, never negative and never NaN.
struct Between {
    codes: Arc<Codes>,
    kernel: &'static Kernel,
    /// For the inner product, a further dimension that makes all vectors equally long: near by L2 then
    /// is near by the inner product.
    filled: Vec<f32>,
}

impl Between {
    fn new(codes: &Arc<Codes>) -> Self {
        let mut filled = Vec::new();
        if codes.metric == Metric::InnerProduct {
            let longest = codes.norms.iter().fold(0f32, |longest, norm| longest.max(*norm));
            filled.extend(codes.norms.iter().map(|norm| (longest - norm).max(0.0).sqrt()));
        }
        Self {
            codes: codes.clone(),
            kernel: kernel::best(),
            filled,
        }
    }
}

impl Distance<u32> for Between {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        let (&[a], &[b]) = (a, b) else { return 0.0 };
        let (a, b) = (a as usize, b as usize);
        let mut distance = self.codes.between(self.kernel, a, b);
        if !self.filled.is_empty() {
            let difference = self.filled[a] - self.filled[b];
            distance += difference * difference;
        }
        // Rounding may leave less than nothing. The order of the arguments turns NaN into 0.
        distance.max(0.0)
    }
}

/// Links all rows of `codes`. `None` when cancelled, or when hnsw_rs failed, which is logged. `pause`
/// is called now and then, and `progress` is told; the caller ends it.
pub(super) fn build(
    codes: &Arc<Codes>,
    linking: Linking,
    cancel: &Cancel,
    progress: &Progress,
    pause: &mut dyn FnMut(),
) -> Option<Graph> {
    let count = codes.len();
    if count == 0 || count > MOST_NODES {
        return None;
    }
    let held_out = held_out(count);
    let linked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let hnsw = Hnsw::<u32, Between>::new(
            linking.m.into(),
            count,
            LEVELS,
            linking.ef_construction.into(),
            Between::new(codes),
        );
        let mut left_out = held_out.iter().peekable();
        for node in 0..count as u32 {
            if left_out.next_if_eq(&&node).is_some() {
                continue;
            }
            if cancel.is_cancelled() {
                return None;
            }
            if (node as usize).is_multiple_of(PAUSE) {
                progress.set(node as usize, count);
                pause();
            }
            hnsw.insert_slice((&[node], node as usize));
        }
        Some(freeze(&hnsw, count, linking))
    }));
    let mut graph = match linked {
        Ok(graph) => graph?,
        Err(_) => {
            tracing::error!("the graph builder panicked; scans go on");
            return None;
        }
    };
    progress.set(count, count);
    graph.strays = held_out;
    let lost = lost(&graph, codes, cancel, pause)?;
    graph.strays.extend(lost);
    graph.strays.sort_unstable();
    graph.strays.dedup();
    graph.strays.shrink_to_fit();
    Some(graph)
}

/// Rows that stay out of a graph of so many, ascending, spread evenly.
pub(super) fn held_out(count: usize) -> Vec<u32> {
    let number = HELD_OUT.min(count / 32);
    (0..number).map(|i| ((i * count + count / 2) / number) as u32).collect()
}

/// Copies the links of the lowest level out of hnsw_rs, and spreads them.
fn freeze(hnsw: &Hnsw<u32, Between>, count: usize, linking: Linking) -> Graph {
    let points = hnsw.get_point_indexation();
    let mut links: Vec<Vec<u32>> = vec![Vec::new(); count];
    let (mut lowest, mut upper) = (Vec::new(), Vec::new());
    for top in 0..LEVELS {
        for point in points.get_layer_iterator(top) {
            let node = point.get_origin_id() as u32;
            let of_lowest = point.get_neighborhood_id().into_iter().next().unwrap_or_default();
            let ids = of_lowest
                .into_iter()
                .map(|link| link.d_id as u32)
                .filter(|link| *link != node);
            links[node as usize] = ids.collect();
            if top == 0 { &mut lowest } else { &mut upper }.push(node);
        }
    }
    // Few enough to look at all of them, enough to have one in every group: nodes of the upper levels,
    // which are a random choice, and others where these are not enough.
    let wanted = (ENTRIES * count.isqrt()).min(MOST_ENTRIES);
    let spread = |nodes: &[u32], wanted: usize| -> Vec<u32> {
        let taken = wanted.min(nodes.len());
        (0..taken).map(|i| nodes[i * nodes.len() / taken]).collect()
    };
    let mut entries = spread(&upper, wanted);
    entries.extend(spread(&lowest, wanted - entries.len()));
    entries.sort_unstable();
    let links = spread_links(hnsw.get_distance(), &links, 2 * usize::from(linking.m));
    let mut graph = Graph {
        offsets: Vec::with_capacity(count + 1),
        links: Vec::with_capacity(links.iter().map(Vec::len).sum()),
        entries,
        linking,
        ..Graph::default()
    };
    for links in links {
        graph.offsets.push(graph.links.len() as u32);
        graph.links.extend(links);
    }
    graph.offsets.push(graph.links.len() as u32);
    graph
}

/// hnsw_rs drops a node's farthest link when it has too many, and with it the ways to other groups.
/// From the links of both directions, those are chosen that lead to where no nearer one leads; then
/// the nearest of the others, `most` in all.
fn spread_links(distance: &Between, links: &[Vec<u32>], most: usize) -> Vec<Vec<u32>> {
    let mut backwards: Vec<Vec<u32>> = vec![Vec::new(); links.len()];
    for (node, links) in (0..).zip(links) {
        links.iter().for_each(|link| backwards[*link as usize].push(node));
    }
    let between = |a: u32, b: u32| distance.eval(&[a], &[b]);
    let mut candidates: Vec<(f32, u32)> = Vec::new();
    let choose = |(node, (out, back)): (u32, (&Vec<u32>, &Vec<u32>))| {
        candidates.clear();
        candidates.extend(out.iter().chain(back).map(|other| (between(node, *other), *other)));
        candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        candidates.dedup();
        let mut chosen: Vec<u32> = Vec::with_capacity(most);
        let mut others = Vec::new();
        for (far, other) in &candidates {
            if chosen.len() == most {
                break;
            }
            if chosen.iter().all(|nearer| between(*nearer, *other) > *far) {
                chosen.push(*other);
            } else {
                others.push(*other);
            }
        }
        let free = most.saturating_sub(chosen.len());
        chosen.extend(others.into_iter().take(free));
        chosen
    };
    (0..).zip(links.iter().zip(&backwards)).map(choose).collect()
}

/// Nodes that a walk for themselves does not find, or that nothing leads to. `None` when cancelled.
fn lost(graph: &Graph, codes: &Codes, cancel: &Cancel, pause: &mut dyn FnMut()) -> Option<Vec<u32>> {
    let mut lost = graph.unreachable();
    if codes.metric == Metric::InnerProduct {
        // A vector need not be its own nearest one.
        return Some(lost);
    }
    let mut scratch = Scratch::default();
    for node in 0..codes.len() {
        if node.is_multiple_of(PAUSE) {
            pause();
            if cancel.is_cancelled() {
                return None;
            }
        }
        graph.walk(&codes.row_query(node), LEAST_EF, &mut scratch);
        if !scratch.pool.iter().any(|seen| seen.node() == node) {
            lost.push(node as u32);
        }
    }
    Some(lost)
}
