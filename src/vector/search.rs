//! One search over a state of a shard: choosing how, estimating, and comparing exactly what is left.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use super::build::LEAST_EF;
use super::codes::{Query, can_be_coded};
use super::costs::{Costs, costs};
use super::embedding::check_dimensions;
use super::graph;
use super::kernel::{self, Kernel};
use super::state::{Held, State};
use super::{Metric, RowSet, TopK};
use crate::error::{Error, Result};

/// The recall that is promised when none is asked for.
pub const RECALL: f32 = 0.995;
/// Largest `ef` of a walk; a scan of codes is faster than a wider one.
const MOST_EF: usize = 2_000;
/// Rows whose bounds are computed at a time.
const BLOCK: usize = 512;
/// Rows asked for at a time where exact vectors are fetched.
const FETCH: usize = 256;
/// How many candidates ahead vectors are asked for from memory.
const AHEAD: usize = 2;
/// Rows from which the share that a predicate keeps is guessed.
const PROBES: usize = 64;

/// Which rows a search may give.
#[derive(Clone, Copy)]
pub enum Filter<'a> {
    /// These.
    Rows(&'a RowSet),
    /// Those of which this is true. Called at most a few times for each row.
    Where(&'a dyn Fn(u64) -> bool),
}

/// Gives the vectors of rows: calls back with a place in the list and the vector, for each row.
pub type Fetch<'a> = &'a dyn Fn(&[u64], &mut dyn FnMut(usize, &[f32])) -> Result<()>;

/// How a search goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Every row that may be given is compared.
    Exact,
    /// All codes are looked at, then what may be near is compared.
    Codes,
    /// A walk in the graph, then what may be near is compared.
    Graph,
}

/// What a search is asked beside the vector and `k`.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// pgvector's `ef_search`: how many nodes a walk in the graph keeps, at least `k`. Chosen by
    /// `recall` without it.
    pub ef: Option<usize>,
    /// The share of the true nearest rows that an average search shall give, 0 to 1.
    pub recall: f32,
    /// Which rows; all without one.
    pub filter: Option<Filter<'a>>,
    /// Rows that the caller's transaction has changed or deleted.
    pub hidden: Option<&'a RowSet>,
    /// Rows that the caller's transaction has written; the filter does not apply to them.
    pub overlay: &'a [(u64, &'a [f32])],
    /// Where vectors are that are not in memory.
    pub fetch: Option<Fetch<'a>>,
    /// Use this method if it can be used. By cost without it.
    pub method: Option<Method>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            ef: None,
            recall: RECALL,
            filter: None,
            hidden: None,
            overlay: &[],
            fetch: None,
            method: None,
        }
    }
}

/// A row near a vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The row.
    pub id: u64,
    /// How far, as [`Metric::distance`] tells it; NaN for an all-zero vector by cosine.
    pub distance: f64,
}

/// How a search went, for `EXPLAIN` and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// How the largest part was searched; none where there was nothing to search.
    pub method: Option<Method>,
    /// Codes looked at.
    pub estimated: usize,
    /// Vectors compared.
    pub compared: usize,
}

/// What is reused from search to search of a thread.
#[derive(Default)]
struct Scratch {
    graph: graph::Scratch,
    lower: Vec<f32>,
    candidates: Vec<Candidate>,
}

/// A node that may be near.
#[derive(Clone, Copy)]
struct Candidate {
    estimate: f32,
    node: u32,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One way to search a part.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    Exact { listed: bool },
    Codes { listed: bool },
    Graph { ef: usize },
}

struct Search<'a> {
    metric: Metric,
    kernel: &'static Kernel,
    query: &'a [f32],
    squared: f32,
    k: usize,
    options: &'a Options<'a>,
    /// Standard deviations that estimates may be off.
    deviations: f32,
    top: TopK<u64>,
    trace: Trace,
}

impl State {
    /// The `k` nearest rows, nearest first, equal ones by id, NaN last: always as many as may be
    /// given, up to `k`.
    ///
    /// # Errors
    /// [`DataException`](crate::error::Code::DataException) for a vector of another length; what `fetch`
    /// fails with; [`Internal`](crate::error::Code::Internal) where a fetch is needed and there is none.
    pub fn search(&self, query: &[f32], k: usize, options: &Options) -> Result<(Vec<Hit>, Trace)> {
        check_dimensions(self.dimensions, query.len())?;
        let mut search = Search::new(self.metric, query, k, options);
        if k > 0 {
            for (id, vector) in options.overlay {
                check_dimensions(self.dimensions, vector.len())?;
                search.compare(vector, None, *id);
            }
            self.tail.each(|id, vector, squared| {
                if search.may_give(id) {
                    search.compare(vector, Some(squared), id);
                }
            });
            // The largest first: what it finds bounds what the others need to look at.
            let mut parts: Vec<&Held> = self.parts.iter().collect();
            parts.sort_by_key(|held| std::cmp::Reverse(held.part.slots()));
            for held in parts {
                search.part(held)?;
            }
        }
        let hits = search.top.into_sorted().into_iter();
        let hits = hits.map(|(distance, id)| Hit { id, distance }).collect();
        Ok((hits, search.trace))
    }

    /// How the largest part would be searched; none where there is none.
    pub fn expected(&self, query: &[f32], k: usize, options: &Options) -> Option<Method> {
        let live = self.parts.iter().filter(|held| held.live() > 0);
        let largest = live.max_by_key(|held| held.part.slots())?;
        Some(Search::new(self.metric, query, k, options).plan(largest).method())
    }
}

impl Plan {
    fn method(self) -> Method {
        match self {
            Self::Exact { .. } => Method::Exact,
            Self::Codes { .. } => Method::Codes,
            Self::Graph { .. } => Method::Graph,
        }
    }
}

/// How many standard deviations an estimate must be wrong by, so that of all near rows no more than
/// the recall allows are passed over.
fn deviations(recall: f32) -> f32 {
    let missed = (1.0 - recall.clamp(0.5, 0.9999)).max(1e-4);
    // The normal distribution's quantile, to within 0.1 in this range.
    (-2.0 * missed.ln()).sqrt() - 0.7
}

impl<'a> Search<'a> {
    fn new(metric: Metric, query: &'a [f32], k: usize, options: &'a Options<'a>) -> Self {
        let kernel = kernel::best();
        Self {
            metric,
            kernel,
            query,
            squared: (kernel.dot)(query, query),
            k,
            options,
            deviations: deviations(options.recall),
            top: TopK::new(k),
            trace: Trace::default(),
        }
    }

    fn may_give(&self, id: u64) -> bool {
        let filtered = match self.options.filter {
            None => true,
            Some(Filter::Rows(rows)) => rows.contains(id),
            Some(Filter::Where(keeps)) => keeps(id),
        };
        filtered && !self.options.hidden.is_some_and(|hidden| hidden.contains(id))
    }

    fn slot_is_visible(&self, held: &Held, slot: usize) -> bool {
        !held.dead.contains(slot) && self.may_give(held.part.ids.ids[slot])
    }

    /// Whether all rows of all nodes can be given without asking.
    fn everything_is_visible(&self, held: &Held) -> bool {
        self.options.filter.is_none() && self.options.hidden.is_none_or(RowSet::is_empty) && held.dead.is_empty()
    }

    fn node_is_visible(&self, held: &Held, node: usize) -> bool {
        held.part.ids.slots(node).any(|slot| self.slot_is_visible(held, slot))
    }

    fn distance(&self, vector: &[f32], squared: Option<f32>) -> f64 {
        let squared = squared.unwrap_or_else(|| match self.metric {
            Metric::Cosine => (self.kernel.dot)(vector, vector),
            Metric::L2 | Metric::InnerProduct | Metric::L1 => 0.0,
        });
        self.metric
            .between(self.kernel, self.query, self.squared, vector, squared)
    }

    fn compare(&mut self, vector: &[f32], squared: Option<f32>, id: u64) {
        self.trace.compared += 1;
        let distance = self.distance(vector, squared);
        self.top.push(distance, id);
    }

    /// Offers the visible rows of a node.
    fn offer(&mut self, held: &Held, node: usize, distance: f64) {
        self.trace.compared += 1;
        for slot in held.part.ids.slots(node) {
            // Rows of a node come by id: when one is not kept, none after it is.
            if self.slot_is_visible(held, slot) && !self.top.keep(distance, held.part.ids.ids[slot]) {
                break;
            }
        }
    }

    /// Compares nodes exactly, in this order.
    fn compare_nodes(&mut self, held: &Held, nodes: impl Iterator<Item = usize>) -> Result<()> {
        if let Some(exact) = &held.part.exact {
            for node in nodes {
                let distance = self.distance(exact.vectors.row(node), Some(exact.squared[node]));
                self.offer(held, node, distance);
            }
            return Ok(());
        }
        let fetch = self
            .options
            .fetch
            .ok_or_else(|| Error::internal("vectors are not in memory and the search has no way to fetch them"))?;
        let mut nodes = nodes.peekable();
        while nodes.peek().is_some() {
            let (mut ids, mut wanted) = (Vec::new(), Vec::new());
            for node in nodes.by_ref() {
                // A row that may be given is a row that is still there.
                let mut slots = held.part.ids.slots(node);
                if let Some(slot) = slots.find(|slot| self.slot_is_visible(held, *slot)) {
                    ids.push(held.part.ids.ids[slot]);
                    wanted.push(node);
                    if ids.len() == FETCH {
                        break;
                    }
                }
            }
            let mut distances = vec![None; ids.len()];
            fetch(&ids, &mut |place, vector| {
                if let Some(distance) = distances.get_mut(place)
                    && vector.len() == self.query.len()
                {
                    *distance = Some(self.distance(vector, None));
                }
            })?;
            for (node, distance) in wanted.into_iter().zip(distances) {
                let distance = distance.ok_or_else(|| Error::internal("a fetch left out a row"))?;
                self.offer(held, node, distance);
            }
        }
        Ok(())
    }

    fn part(&mut self, held: &Held) -> Result<()> {
        if held.live() == 0 {
            return Ok(());
        }
        let plan = self.plan(held);
        self.trace.method = self.trace.method.or(Some(plan.method()));
        SCRATCH.with_borrow_mut(|scratch| match plan {
            Plan::Exact { listed } => self.exact(held, listed),
            Plan::Codes { listed } => self.codes(held, listed, scratch),
            Plan::Graph { ef } => self.graph(held, ef, scratch),
        })
    }

    /// The cheapest way that keeps the promise, by measured costs.
    fn plan(&self, held: &Held) -> Plan {
        let (part, costs) = (&held.part, costs());
        let slots = part.slots();
        let matches = match self.options.filter {
            None => held.live(),
            Some(Filter::Rows(rows)) => rows.len().min(held.live()),
            Some(Filter::Where(keeps)) => {
                let probes = PROBES.min(slots);
                let kept = (0..probes).filter(|i| keeps(part.ids.ids[i * slots / probes])).count();
                // Never none: a probe may have missed them.
                (held.live() * (2 * kept + 1) / (2 * probes + 1)).max(1)
            }
        };
        let listing = match self.options.filter {
            None => 0.0,
            // Either each of the filter's rows is looked up, or each row is looked for in the filter.
            Some(Filter::Rows(rows)) => costs.lookup * rows.len().min(slots) as f64,
            Some(Filter::Where(_)) => costs.lookup * slots as f64,
        };
        let listed = self.options.filter.is_some();
        let share = matches as f64 / slots.max(1) as f64;
        let exact = self.exact_cost(held, matches, listed, costs) + listing;
        let codable = part.codes.len() > 0 && can_be_coded(self.metric, self.query, self.squared);
        let mut best = (exact, Plan::Exact { listed });
        let mut all = vec![best];
        if codable {
            all.push((self.codes_cost(held, slots, costs), Plan::Codes { listed: false }));
            if listed {
                let cost = self.codes_cost(held, matches, costs) + listing;
                all.push((cost, Plan::Codes { listed: true }));
            }
            if let Some(graph) = &part.graph
                && let Some(ef) = self.ef(graph)
            {
                let wider = (ef as f64 / share.max(1e-9)).ceil() as usize;
                let forced = self.options.method == Some(Method::Graph);
                if wider <= MOST_EF || forced {
                    let wider = wider.min(MOST_EF.max(ef));
                    all.push((graph.cost(wider), Plan::Graph { ef: wider }));
                }
            }
        }
        let wanted = |plan: &Plan| match self.options.method {
            None => true,
            Some(Method::Exact) => matches!(plan, Plan::Exact { .. }),
            Some(Method::Codes) => matches!(plan, Plan::Codes { .. }),
            Some(Method::Graph) => matches!(plan, Plan::Graph { .. }),
        };
        let all_wanted = all.iter().filter(|(_, plan)| wanted(plan));
        if let Some(cheapest) = all_wanted.min_by(|a, b| a.0.total_cmp(&b.0)) {
            best = *cheapest;
        }
        best.1
    }

    fn exact_cost(&self, held: &Held, rows: usize, random: bool, costs: &Costs) -> f64 {
        let dimensions = self.query.len();
        let one = match (&held.part.exact, random) {
            // Somewhere else: no cost that could be less than that of codes.
            (None, _) => return f64::MAX,
            (Some(_), true) => costs.exact_random.at(dimensions),
            (Some(_), false) => costs.exact.at(dimensions),
        };
        one * rows as f64
    }

    fn codes_cost(&self, held: &Held, rows: usize, costs: &Costs) -> f64 {
        let dimensions = self.query.len();
        let rows = rows.min(held.part.codes.len()) as f64;
        let one = match self.metric {
            Metric::L1 => costs.bytes_random.at(dimensions),
            Metric::Cosine | Metric::L2 | Metric::InnerProduct => costs.bits.at(dimensions),
        };
        // What earlier scans had to look at more closely.
        let passed = (f64::from(held.passed.load(Ordering::Relaxed)) / 1024.0 * rows).max(self.k as f64);
        let compared = (self.k as f64 * 2.0 + 16.0).min(rows);
        costs.prepare.at(dimensions)
            + rows * one
            + passed * costs.bytes_random.at(dimensions)
            + compared * costs.exact_random.at(dimensions)
    }

    /// The `ef` of a walk that keeps the promise, if one does.
    fn ef(&self, graph: &graph::Graph) -> Option<usize> {
        let ef = match self.options.ef {
            Some(ef) => Some(ef),
            None if self.options.method == Some(Method::Graph) => {
                Some(graph.ef_for(self.k, self.options.recall).unwrap_or(MOST_EF))
            }
            None => graph.ef_for(self.k, self.options.recall),
        };
        ef.map(|ef| ef.max(self.k).max(LEAST_EF)).filter(|ef| *ef <= MOST_EF)
    }

    fn exact(&mut self, held: &Held, listed: bool) -> Result<()> {
        if listed {
            let nodes = self.list(held);
            return self.compare_nodes(held, nodes.into_iter().map(|node| node as usize));
        }
        self.compare_nodes(held, 0..held.part.nodes())
    }

    /// The nodes that the filter leaves, ascending.
    fn list(&self, held: &Held) -> Vec<u32> {
        let ids = &held.part.ids;
        let mut nodes: Vec<u32> = match self.options.filter {
            Some(Filter::Rows(rows)) if rows.len() < ids.ids.len() / 8 => {
                let slots = rows.iter().filter_map(|id| ids.slot(id));
                let visible = slots.filter(|slot| self.slot_is_visible(held, *slot));
                visible.map(|slot| ids.node(slot) as u32).collect()
            }
            _ => {
                let visible = (0..held.part.nodes()).filter(|node| self.node_is_visible(held, *node));
                visible.map(|node| node as u32).collect()
            }
        };
        if !nodes.is_sorted() {
            nodes.sort_unstable();
        }
        nodes.dedup();
        nodes
    }

    fn codes(&mut self, held: &Held, listed: bool, scratch: &mut Scratch) -> Result<()> {
        let codes = &held.part.codes;
        let query = codes.query(self.query, self.squared, true);
        let list = listed.then(|| self.list(held));
        let Scratch { lower, candidates, .. } = scratch;
        lower.clear();
        let coded = match &list {
            Some(list) => list.partition_point(|node| (*node as usize) < codes.len()),
            None => codes.len(),
        };
        let node = |place: usize| list.as_ref().map_or(place, |list| list[place] as usize);
        lower.resize(coded, 0.0);
        let mut counts = [0u32; BLOCK];
        if !query.has_bits() {
            for (place, lower) in lower.iter_mut().enumerate() {
                *lower = query.estimate(node(place)) - query.slack(node(place), self.deviations);
            }
        } else if list.is_some() {
            for (place, lower) in lower.iter_mut().enumerate() {
                query.lower_bounds(
                    node(place),
                    self.deviations,
                    &mut counts[..1],
                    std::slice::from_mut(lower),
                );
            }
        } else {
            for (block, lower) in lower.chunks_mut(BLOCK).enumerate() {
                query.lower_bounds(block * BLOCK, self.deviations, &mut counts[..lower.len()], lower);
            }
        }
        self.trace.estimated += coded;

        // A few that look near, compared first, tell how near the others must look.
        let sure = listed || self.everything_is_visible(held);
        let mut first = TopK::new(self.k.saturating_add(self.k / 2 + 8).min(coded));
        for (place, bound) in lower.iter().enumerate() {
            let bound = f64::from(*bound);
            if bound < first.bound() && (sure || self.node_is_visible(held, node(place))) {
                first.push(bound, place);
            }
        }
        let first: Vec<usize> = first.into_sorted().into_iter().map(|(_, place)| place).collect();
        self.compare_nodes(held, first.iter().map(|place| node(*place)))?;
        for place in first {
            lower[place] = f32::INFINITY;
        }
        // Nodes without codes.
        match &list {
            Some(list) => self.compare_nodes(held, list[coded..].iter().map(|node| *node as usize))?,
            None => self.compare_nodes(held, codes.len()..held.part.nodes())?,
        }
        let bound = query.in_walk_units(self.top.bound());
        candidates.clear();
        let mut passed = 0;
        for (place, lower) in lower.iter().enumerate() {
            if *lower > bound || *lower == f32::INFINITY {
                continue;
            }
            passed += 1;
            let node = node(place);
            let estimate = query.estimate(node);
            let near = estimate - query.slack(node, self.deviations) <= bound;
            if near && (sure || self.node_is_visible(held, node)) {
                candidates.push(Candidate {
                    estimate,
                    node: node as u32,
                });
            }
        }
        self.trace.estimated += if query.has_bits() { passed } else { 0 };
        // A short list says nothing of how many of all rows pass.
        if !listed {
            held.note_passed(passed, coded);
        }
        candidates.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate));
        self.compare_candidates(held, &query, candidates)
    }

    /// Compares those of ascending candidates that may still be near enough.
    fn compare_candidates(&mut self, held: &Held, query: &Query, candidates: &[Candidate]) -> Result<()> {
        // Where vectors are fetched, some at a time; else each tightens the bound for the next.
        let at_once = self.k.saturating_add(8);
        let deviations = self.deviations;
        let near = |candidate: &&Candidate, bound: f32| {
            candidate.estimate - query.slack(candidate.node as usize, deviations) <= bound
        };
        if let Some(exact) = &held.part.exact {
            for (at, candidate) in candidates.iter().enumerate() {
                if let Some(later) = candidates.get(at + AHEAD) {
                    kernel::prefetch(exact.vectors.row(later.node as usize));
                }
                if near(&candidate, query.in_walk_units(self.top.bound())) {
                    let node = candidate.node as usize;
                    let distance = self.distance(exact.vectors.row(node), Some(exact.squared[node]));
                    self.offer(held, node, distance);
                }
            }
            return Ok(());
        }
        for candidates in candidates.chunks(at_once) {
            let bound = query.in_walk_units(self.top.bound());
            let near = candidates.iter().filter(|candidate| near(candidate, bound));
            self.compare_nodes(held, near.map(|candidate| candidate.node as usize))?;
        }
        Ok(())
    }

    fn graph(&mut self, held: &Held, ef: usize, scratch: &mut Scratch) -> Result<()> {
        let codes = &held.part.codes;
        let Some(graph) = held.part.graph.as_deref() else {
            return self.codes(held, false, scratch);
        };
        let query = codes.query(self.query, self.squared, false);
        graph.walk(&query, ef, &mut scratch.graph);
        let pool = &scratch.graph.pool;
        self.trace.estimated += scratch.graph.visited + graph.strays.len();
        let candidates = &mut scratch.candidates;
        candidates.clear();
        candidates.extend(pool.iter().map(|seen| Candidate {
            estimate: seen.distance,
            node: seen.node() as u32,
        }));
        let worst = match pool.last() {
            Some(worst) if pool.len() >= ef => worst.distance,
            _ => f32::INFINITY,
        };
        for stray in &graph.strays {
            let estimate = query.estimate(*stray as usize);
            if estimate <= worst {
                candidates.push(Candidate { estimate, node: *stray });
            }
        }
        // A stray that the walk found is there twice, with one estimate.
        candidates.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate).then(a.node.cmp(&b.node)));
        candidates.dedup_by_key(|candidate| candidate.node);
        if !self.everything_is_visible(held) {
            candidates.retain(|candidate| self.node_is_visible(held, candidate.node as usize));
        }
        // Fewer than asked for: what the walk has left out may still match.
        if candidates.len() < self.k && pool.len() < codes.len() {
            let listed = self.options.filter.is_some();
            return self.codes(held, listed, scratch);
        }
        self.compare_candidates(held, &query, &scratch.candidates)?;
        self.compare_nodes(held, codes.len()..held.part.nodes())
    }
}
