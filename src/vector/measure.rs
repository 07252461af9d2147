//! How good and how fast walks in a graph are, measured after it was built.
//!
//! The queries are the vectors that were left out of the graph: a vector that has links of its own is
//! found more easily than a stranger.

use std::sync::Arc;
use std::time::Instant;

use super::Metric;
use super::build::{LEAST_EF, held_out};
use super::graph::{Graph, Measured};
use super::part::Part;
use super::search::{Method, Options};
use super::state::{Held, State};

/// The values of `ef` that are tried, until one finds everything.
const TRIED: [usize; 14] = [LEAST_EF, 24, 32, 48, 64, 80, 100, 128, 192, 256, 384, 512, 768, 1024];
/// How many neighbours are looked for.
const NEIGHBOURS: [usize; 2] = [10, 100];
/// Recall from which no larger `ef` is tried.
const ENOUGH: f32 = 0.9995;

/// Measures a graph over this part, which must have its exact vectors; else nothing is known.
pub(super) fn measure(metric: Metric, dimensions: usize, part: &Part, graph: &Graph) -> Vec<Measured> {
    let mut part = part.clone();
    let Some(exact) = part.exact.clone() else {
        return Vec::new();
    };
    part.graph = Some(Arc::new(graph.clone()));
    let ids = part.ids.clone();
    let mut state = State::new(metric, dimensions);
    state.parts.push(Held::new(part));
    let queries = held_out(graph.nodes());
    let search = |node: u32, k: usize, method, ef| {
        let options = Options {
            method: Some(method),
            ef,
            ..Options::default()
        };
        let own = ids.ids[ids.slots(node as usize)].to_vec();
        let found = state.search(exact.vectors.row(node as usize), k + own.len(), &options);
        let hits = found.map(|(hits, _)| hits).unwrap_or_default().into_iter();
        let mut distances: Vec<f64> = hits
            .filter(|hit| !own.contains(&hit.id))
            .map(|hit| hit.distance)
            .collect();
        distances.truncate(k);
        distances
    };
    let truths: Vec<Vec<f64>> = queries
        .iter()
        .map(|node| search(*node, NEIGHBOURS[1], Method::Exact, None))
        .collect();
    let mut measured = Vec::new();
    for ef in TRIED {
        let mut recall = [0.0; 2];
        let mut nanoseconds = f32::INFINITY;
        for (recall, k) in recall.iter_mut().zip(NEIGHBOURS) {
            if ef < k && k > NEIGHBOURS[0] {
                continue;
            }
            let (mut found, mut wanted) = (0, 0);
            let mut times = Vec::with_capacity(queries.len());
            for (node, truth) in queries.iter().zip(&truths) {
                let truth = &truth[..k.min(truth.len())];
                let farthest = truth.last().copied().unwrap_or(f64::NEG_INFINITY);
                let start = Instant::now();
                let hits = search(*node, k, Method::Graph, Some(ef));
                times.push(start.elapsed().as_nanos() as f32);
                found += hits
                    .iter()
                    .filter(|distance| **distance <= farthest)
                    .count()
                    .min(truth.len());
                wanted += truth.len();
            }
            // The median: now and then the system runs something else in between.
            let half = times.len() / 2;
            if !times.is_empty() {
                nanoseconds = nanoseconds.min(*times.select_nth_unstable_by(half, f32::total_cmp).1);
            }
            *recall = if wanted == 0 { 0.0 } else { found as f32 / wanted as f32 };
        }
        if queries.is_empty() {
            break;
        }
        let ef = ef as u32;
        measured.push(Measured {
            ef,
            recall,
            nanoseconds,
        });
        if recall[1] >= ENOUGH {
            break;
        }
    }
    measured
}

impl Graph {
    /// The least `ef` whose walks were measured to miss half of what this recall of the `k` nearest allows.
    pub fn ef_for(&self, k: usize, recall: f32) -> Option<usize> {
        let column = usize::from(k > NEIGHBOURS[0]);
        // Half of the misses allowed: users' queries are a little farther from the stored vectors than
        // these are from each other.
        let recall = 1.0 - (1.0 - recall) / 2.0;
        let good = self
            .measured
            .iter()
            .find(|measured| measured.recall[column] >= recall)?;
        // Beyond what was measured, in proportion.
        let larger = k.div_ceil(NEIGHBOURS[1]).max(1);
        Some((good.ef as usize).saturating_mul(larger).max(k))
    }

    /// Nanoseconds of a walk, on the line between those measured.
    pub fn cost(&self, ef: usize) -> f64 {
        let at = self.measured.partition_point(|measured| (measured.ef as usize) < ef);
        let point = |measured: &Measured| (f64::from(measured.ef), f64::from(measured.nanoseconds));
        let (from, to) = match (
            at.checked_sub(1).and_then(|at| self.measured.get(at)),
            self.measured.get(at),
        ) {
            (Some(from), Some(to)) => (point(from), point(to)),
            (None, Some(only)) => return point(only).1,
            (Some(last), None) => ((0.0, 0.0), point(last)),
            // Nothing is known: never chosen by cost.
            (None, None) => return f64::MAX,
        };
        from.1 + (to.1 - from.1) * (ef as f64 - from.0) / (to.0 - from.0).max(1.0)
    }
}
