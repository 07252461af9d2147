//! Rows of a shard that no longer change: their vectors, codes and, once it is built, their graph.

use std::collections::HashMap;
use std::sync::Arc;

use super::Metric;
use super::aligned::Rows;
use super::codes::{Codes, can_be_coded};
use super::graph::Graph;
use super::kernel;
use super::rotation::Rotation;

/// Rows by node: equal vectors are one node with several ids. Everything is shared, so that a part
/// with a graph added, or without its exact vectors, costs nothing to make.
#[derive(Clone)]
pub(super) struct Part {
    pub ids: Arc<Ids>,
    /// Of the first nodes; the others cannot be coded and are always compared.
    pub codes: Arc<Codes>,
    /// None where a caller gives the vectors when they are needed.
    pub exact: Option<Arc<Exact>>,
    pub graph: Option<Arc<Graph>>,
}

/// Whose vector each node is. A slot is a place in `ids`.
pub(super) struct Ids {
    /// Node after node; within one ascending.
    pub ids: Vec<u64>,
    /// The first slot of each node and the end; empty when every node has one slot.
    pub first: Vec<u32>,
    /// Slots in the order of their ids; empty when that is their order.
    pub by_id: Vec<u32>,
}

/// Vectors by node.
pub(super) struct Exact {
    pub vectors: Rows<f32>,
    pub squared: Vec<f32>,
}

impl Ids {
    /// From ids grouped by node.
    pub fn new(groups: impl Iterator<Item = Vec<u64>>) -> Self {
        let (mut ids, mut first) = (Vec::new(), vec![0]);
        for mut group in groups {
            group.sort_unstable();
            ids.append(&mut group);
            first.push(ids.len() as u32);
        }
        if first.len() == ids.len() + 1 {
            first = Vec::new();
        }
        let mut made = Self {
            ids,
            first,
            by_id: Vec::new(),
        };
        made.ids.shrink_to_fit();
        made.order();
        made
    }

    /// Finds [`Ids::by_id`].
    pub fn order(&mut self) {
        self.by_id = Vec::new();
        if !self.ids.is_sorted() {
            self.by_id = (0..self.ids.len() as u32).collect();
            self.by_id.sort_unstable_by_key(|slot| self.ids[*slot as usize]);
        }
    }

    pub fn nodes(&self) -> usize {
        match self.first.len() {
            0 => self.ids.len(),
            ends => ends - 1,
        }
    }

    /// The slots of a node.
    #[inline]
    pub fn slots(&self, node: usize) -> std::ops::Range<usize> {
        match self.first.as_slice() {
            [] => node..node + 1,
            first => first[node] as usize..first[node + 1] as usize,
        }
    }

    /// The node of a slot.
    #[inline]
    pub fn node(&self, slot: usize) -> usize {
        match self.first.as_slice() {
            [] => slot,
            first => first.partition_point(|start| *start as usize <= slot) - 1,
        }
    }

    /// The slot of an id.
    #[inline]
    pub fn slot(&self, id: u64) -> Option<usize> {
        match self.by_id.as_slice() {
            [] => self.ids.binary_search(&id).ok(),
            by_id => {
                let place = by_id.binary_search_by_key(&id, |slot| self.ids[*slot as usize]).ok()?;
                Some(by_id[place] as usize)
            }
        }
    }

    pub fn memory(&self) -> usize {
        size_of::<u64>() * self.ids.capacity() + size_of::<u32>() * (self.first.capacity() + self.by_id.capacity())
    }
}

impl Exact {
    pub fn memory(&self) -> usize {
        self.vectors.bytes() + size_of::<f32>() * self.squared.capacity()
    }
}

/// The same for vectors that are equal as numbers.
fn fingerprint(vector: &[f32]) -> u64 {
    let mut state = 0u64;
    for value in vector {
        // A negative zero is a zero.
        let bits = u64::from((value + 0.0).to_bits());
        state = (state.rotate_left(5) ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    state ^ state >> 32
}

impl Part {
    /// Of these rows, coded, without a graph. Ids differ from each other.
    pub fn of(metric: Metric, rotation: &Arc<Rotation>, dimensions: usize, rows: &[(u64, &[f32])]) -> Self {
        struct Node<'a> {
            vector: &'a [f32],
            squared: f32,
            ids: Vec<u64>,
        }
        let kernel = kernel::best();
        let mut nodes: Vec<Node> = Vec::with_capacity(rows.len());
        let mut known: HashMap<u64, Vec<u32>> = HashMap::with_capacity(rows.len());
        for (id, vector) in rows {
            let same_print = known.entry(fingerprint(vector)).or_default();
            let equal = same_print.iter().find(|node| nodes[**node as usize].vector == *vector);
            if let Some(node) = equal {
                nodes[*node as usize].ids.push(*id);
                continue;
            }
            same_print.push(nodes.len() as u32);
            nodes.push(Node {
                vector,
                squared: (kernel.dot)(vector, vector),
                ids: vec![*id],
            });
        }
        drop(known);
        let (coded, others): (Vec<Node>, Vec<Node>) = nodes
            .into_iter()
            .partition(|node| can_be_coded(metric, node.vector, node.squared));
        let codes = Codes::of(metric, rotation, dimensions, coded.len(), |node| {
            (coded[node].vector, coded[node].squared)
        });
        let mut vectors = Rows::with_capacity(dimensions, coded.len() + others.len());
        let mut squared = Vec::with_capacity(coded.len() + others.len());
        for node in coded.iter().chain(&others) {
            vectors.push(node.vector);
            squared.push(node.squared);
        }
        let ids = Ids::new(coded.into_iter().chain(others).map(|node| node.ids));
        Self {
            ids: Arc::new(ids),
            codes: Arc::new(codes),
            exact: Some(Arc::new(Exact { vectors, squared })),
            graph: None,
        }
    }

    pub fn nodes(&self) -> usize {
        self.ids.nodes()
    }

    pub fn slots(&self) -> usize {
        self.ids.ids.len()
    }

    pub fn memory(&self) -> usize {
        self.ids.memory()
            + self.codes.memory()
            + self.exact.as_ref().map_or(0, |exact| exact.memory())
            + self.graph.as_ref().map_or(0, |graph| graph.memory())
    }
}
