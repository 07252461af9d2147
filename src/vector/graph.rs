//! A navigable graph over one-byte codes, frozen: neighbours as one flat array, searched without a
//! lock and without an allocation.
//!
//! A walk (Malkov and Yashunin, 2016) keeps the `ef` nearest nodes it has seen and goes on from the
//! nearest one it has not yet left. It does not come down from upper levels but begins at the nearest
//! of some hundred nodes spread over the graph, all of which are looked at: where vectors lie in
//! groups far from each other, a way down through few nodes can end in the wrong group, and no link
//! leads out of it.

use super::build::Linking;
use super::codes::Query;
use super::kernel;

/// The links, and what is known of how well they work.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Graph {
    /// Where each node's links begin, and where the last one's end.
    pub offsets: Vec<u32>,
    pub links: Vec<u32>,
    /// Where walks may begin, ascending.
    pub entries: Vec<u32>,
    /// Nodes that a walk may not find, ascending; they are compared one by one.
    pub strays: Vec<u32>,
    /// What was measured after the build, by ascending `ef`.
    pub measured: Vec<Measured>,
    /// How it was built.
    pub linking: Linking,
}

/// How good walks of one `ef` are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub ef: u32,
    /// Recall of the nearest 10 and of the nearest 100, of vectors that are not in the graph.
    pub recall: [f32; 2],
    /// One walk with its exact comparisons.
    pub nanoseconds: f32,
}

/// A node that a walk has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub distance: f32,
    /// The node; the highest bit is set once the walk has gone on from it.
    node: u32,
}

const LEFT: u32 = 1 << 31;
/// Most nodes of a graph: the highest bit of a number is needed.
pub(super) const MOST_NODES: usize = LEFT as usize - 1;

impl Seen {
    #[inline(always)]
    pub fn node(self) -> usize {
        (self.node & !LEFT) as usize
    }
}

/// What walks need beside the graph, reused from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// A bit for each node that was seen.
    seen: Vec<u64>,
    fresh: Vec<u32>,
    /// The nearest nodes seen, nearest first.
    pub pool: Vec<Seen>,
    /// Distances computed by the last walk.
    pub visited: usize,
}

/// Nodes that a walk begins with.
const BEGINNINGS: usize = 8;
/// How many entries ahead are asked for from memory.
const AHEAD: usize = 8;

impl Graph {
    /// How many nodes it has.
    pub fn nodes(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Where a node's links lead.
    #[inline(always)]
    pub fn of(&self, node: usize) -> &[u32] {
        &self.links[self.offsets[node] as usize..self.offsets[node + 1] as usize]
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        let numbers = [&self.offsets, &self.links, &self.entries, &self.strays];
        numbers.into_iter().map(Vec::capacity).sum::<usize>() * size_of::<u32>()
            + self.measured.capacity() * size_of::<Measured>()
    }

    /// Fills the pool of `scratch` with the `ef` nodes nearest to the query that the walk finds.
    pub fn walk(&self, query: &Query, ef: usize, scratch: &mut Scratch) {
        let Scratch {
            seen,
            fresh,
            pool,
            visited,
        } = scratch;
        pool.clear();
        seen.clear();
        seen.resize(self.nodes().div_ceil(64), 0);
        *visited = self.entries.len();
        for (at, node) in self.entries.iter().enumerate() {
            if let Some(later) = self.entries.get(at + AHEAD) {
                query.prefetch(*later as usize);
            }
            keep(pool, query.estimate(*node as usize), *node, BEGINNINGS.min(ef));
        }
        for begun in pool.iter() {
            seen[begun.node() / 64] |= 1 << (begun.node() % 64);
        }
        // The first place of the pool from which the walk may not have gone on.
        let mut next = 0;
        while next < pool.len() {
            let node = pool[next].node;
            if node & LEFT != 0 {
                next += 1;
                continue;
            }
            pool[next].node |= LEFT;
            fresh.clear();
            for node in self.of(node as usize) {
                let (word, bit) = (&mut seen[*node as usize / 64], 1u64 << (node % 64));
                if *word & bit == 0 {
                    *word |= bit;
                    query.prefetch(*node as usize);
                    fresh.push(*node);
                }
            }
            *visited += fresh.len();
            let mut lowest = next + 1;
            for node in fresh.iter() {
                let distance = query.estimate(*node as usize);
                lowest = lowest.min(keep(pool, distance, *node, ef));
            }
            next = lowest;
            if let Some(seen) = pool.get(next) {
                kernel::prefetch(self.of(seen.node()));
            }
        }
    }

    /// Nodes that no walk comes to, ascending.
    pub fn unreachable(&self) -> Vec<u32> {
        let mut reached = vec![false; self.nodes()];
        let mut open = self.entries.clone();
        for node in &open {
            reached[*node as usize] = true;
        }
        while let Some(node) = open.pop() {
            for other in self.of(node as usize) {
                if !std::mem::replace(&mut reached[*other as usize], true) {
                    open.push(*other);
                }
            }
        }
        (0..)
            .zip(reached)
            .filter(|(_, reached)| !reached)
            .map(|(node, _)| node)
            .collect()
    }
}

/// Puts a node into its place in the pool of at most `ef`; returns the place, beyond all places
/// where the node is too far.
#[inline(always)]
fn keep(pool: &mut Vec<Seen>, distance: f32, node: u32, ef: usize) -> usize {
    if pool.len() >= ef {
        match pool.last() {
            Some(worst) if distance < worst.distance => pool.pop(),
            _ => return usize::MAX,
        };
    }
    let place = pool.partition_point(|seen| seen.distance <= distance);
    pool.insert(place, Seen { distance, node });
    place
}
