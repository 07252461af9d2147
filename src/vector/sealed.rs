//! Codes and graph of a shard as bytes, so that a restart need not build them again.
//!
//! Whoever keeps the bytes seals them; here they are read as if anybody could have written them.
//! Lengths, node numbers and a checksum are checked before anything is used, and a row whose vector
//! no longer is what was coded counts as new.
//!
//! Little-endian: magic, version, metric, dimensions, how the graph was linked, then each array with its length before it, then
//! the checksum of all that.

use std::sync::Arc;

use super::aligned::Rows;
use super::build::Linking;
use super::codes::{Codes, can_be_coded};
use super::graph::{Graph, MOST_NODES, Measured};
use super::kernel;
use super::part::{Exact, Ids, Part};
use super::rotation::Rotation;
use super::shard::Shard;
use super::state::{Held, State};
use super::{Embedding, Metric, RowSet};
use crate::error::{Code, Error, Result};

const MAGIC: &[u8; 8] = b"bhvector";
const VERSION: u32 = 2;
/// Without what the graph was built with, which was always the same.
const UNTOLD: u32 = 1;
const CHECKSUM_BYTES: usize = 8;
const _: () = assert!(size_of::<usize>() == 8);

fn damaged() -> Error {
    Error::new(Code::Corrupted, "a stored vector graph is damaged")
        .with_hint("it is built anew from the rows; nothing is lost")
}

/// Different for bytes that differ by accident; a seal is what protects against intent.
fn checksum(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let (blocks, single) = words.as_chunks::<4>();
    let mut lanes = [1u64, 2, 3, bytes.len() as u64];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(ODD).rotate_left(29);
        }
    }
    let mut sum = 0u64;
    for lane in lanes
        .into_iter()
        .chain(single.iter().map(|word| u64::from_le_bytes(*word)))
    {
        sum = (sum ^ lane).wrapping_mul(ODD).rotate_left(31);
    }
    rest.iter().fold(sum, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(ODD).rotate_left(27)
    })
}

/// A number of fixed size in little-endian bytes.
trait Number: Copy {
    fn put(self, out: &mut Vec<u8>);
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($type:ty)*) => { $(
        impl Number for $type {
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                // The bytes of a whole number, by construction of the chunks below.
                <$type>::from_le_bytes(bytes.try_into().unwrap_or_default())
            }
        }
    )* };
}
numbers!(i8 u32 u64 f32);

fn put<T: Number>(values: &[T], out: &mut Vec<u8>) {
    (values.len() as u64).put(out);
    out.reserve(size_of_val(values));
    values.iter().for_each(|value| value.put(out));
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn one<T: Number>(&mut self) -> Result<T> {
        Ok(T::get(self.take(size_of::<T>())?))
    }

    /// Values whose bytes are really there, whatever length is claimed.
    fn raw<T: Number>(&mut self) -> Result<impl Iterator<Item = T> + use<'a, T>> {
        let count = usize::try_from(self.one::<u64>()?).map_err(|_| damaged())?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or_else(damaged)?;
        Ok(self.take(bytes)?.chunks_exact(size_of::<T>()).map(T::get))
    }

    fn many<T: Number>(&mut self) -> Result<Vec<T>> {
        Ok(self.raw()?.collect())
    }

    /// As many values as there must be.
    fn exactly<T: Number>(&mut self, count: usize) -> Result<Vec<T>> {
        let values = self.many()?;
        check(values.len() == count)?;
        Ok(values)
    }

    fn rows<T: Number + Default>(&mut self, width: usize, count: usize) -> Result<Rows<T>> {
        let values = self.exactly(width.checked_mul(count).ok_or_else(damaged)?)?;
        let mut rows = Rows::with_capacity(width, count);
        values.chunks_exact(width.max(1)).for_each(|row| rows.push(row));
        Ok(rows)
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>> {
        let values: Vec<f32> = self.exactly(count)?;
        check(values.iter().all(|value| value.is_finite()))?;
        Ok(values)
    }
}

fn check(fine: bool) -> Result<()> {
    if fine { Ok(()) } else { Err(damaged()) }
}

fn metric_number(metric: Metric) -> u32 {
    match metric {
        Metric::Cosine => 0,
        Metric::L2 => 1,
        Metric::InnerProduct => 2,
        Metric::L1 => 3,
    }
}

fn seal(part: &Part, graph: &Graph, dimensions: usize) -> Vec<u8> {
    let codes = &part.codes;
    let mut out = Vec::with_capacity(part.codes.memory() + part.ids.memory() + graph.memory() + 1024);
    out.extend_from_slice(MAGIC);
    VERSION.put(&mut out);
    metric_number(codes.metric).put(&mut out);
    (dimensions as u64).put(&mut out);
    u32::from(graph.linking.m).put(&mut out);
    u32::from(graph.linking.ef_construction).put(&mut out);
    put(&part.ids.ids, &mut out);
    put(&part.ids.first, &mut out);
    put(&codes.middle, &mut out);
    put(&codes.steps, &mut out);
    put(&codes.norms, &mut out);
    put(codes.bytes.all(), &mut out);
    put(codes.bits.all(), &mut out);
    put(codes.factors.as_flattened(), &mut out);
    put(&graph.offsets, &mut out);
    put(&graph.links, &mut out);
    put(&graph.entries, &mut out);
    put(&graph.strays, &mut out);
    (graph.measured.len() as u64).put(&mut out);
    for measured in &graph.measured {
        measured.ef.put(&mut out);
        measured.recall[0].put(&mut out);
        measured.recall[1].put(&mut out);
        measured.nanoseconds.put(&mut out);
    }
    with_checksum(out)
}

pub(super) fn with_checksum(mut body: Vec<u8>) -> Vec<u8> {
    checksum(&body).put(&mut body);
    body
}

fn open(bytes: &[u8], metric: Metric, dimensions: usize, rotation: &Arc<Rotation>) -> Result<Part> {
    let (body, sum) = bytes
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .and_then(|at| bytes.split_at_checked(at))
        .ok_or_else(damaged)?;
    check(u64::get(sum) == checksum(body))?;
    let mut reader = Reader(body);
    check(reader.take(MAGIC.len())? == MAGIC)?;
    let version = reader.one::<u32>()?;
    check([UNTOLD, VERSION].contains(&version))?;
    check(reader.one::<u32>()? == metric_number(metric))?;
    check(reader.one::<u64>()? == dimensions as u64)?;
    let mut linking = Linking::default();
    if version != UNTOLD {
        let mut small = || u16::try_from(reader.one::<u32>()?).map_err(|_| damaged());
        linking = Linking {
            m: small()?,
            ef_construction: small()?,
        };
    }
    let ids: Vec<u64> = reader.many()?;
    let first: Vec<u32> = reader.many()?;
    let middle = reader.floats(dimensions)?;
    let steps: Vec<f32> = reader.many()?;
    check(steps.iter().all(|step| step.is_finite()))?;
    let coded = steps.len();
    let norms = reader.floats(coded)?;
    let code_bytes = reader.rows(dimensions, coded)?;
    let with_bits = if metric == Metric::L1 { 0 } else { coded };
    let words = if metric == Metric::L1 {
        0
    } else {
        rotation.padded() / 64
    };
    let bits = reader.rows(words, with_bits)?;
    let factors = reader.floats(2 * with_bits)?;
    let ids = open_ids(ids, first)?;
    check(ids.nodes() >= coded && coded > 0 && coded <= MOST_NODES)?;
    let graph = open_graph(&mut reader, coded, linking)?;
    check(reader.0.is_empty())?;
    let codes = Codes {
        metric,
        middle,
        bytes: code_bytes,
        steps,
        norms,
        bits,
        factors: factors.as_chunks::<2>().0.to_vec(),
        rotation: rotation.clone(),
    };
    Ok(Part {
        ids: Arc::new(ids),
        codes: Arc::new(codes),
        exact: None,
        graph: Some(Arc::new(graph)),
    })
}

/// Every node has at least one slot, and no id comes twice.
fn open_ids(ids: Vec<u64>, first: Vec<u32>) -> Result<Ids> {
    check(u32::try_from(ids.len()).is_ok())?;
    if let (Some(start), Some(end)) = (first.first(), first.last()) {
        check(*start == 0 && *end as usize == ids.len() && first.is_sorted_by(|a, b| a < b))?;
    }
    let mut ids = Ids {
        ids,
        first,
        by_id: Vec::new(),
    };
    ids.order();
    let different = match ids.by_id.as_slice() {
        [] => ids.ids.is_sorted_by(|a, b| a < b),
        by_id => by_id.is_sorted_by(|a, b| ids.ids[*a as usize] < ids.ids[*b as usize]),
    };
    check(different)?;
    Ok(ids)
}

fn open_graph(reader: &mut Reader, nodes: usize, linking: Linking) -> Result<Graph> {
    let inside = |numbers: &[u32]| numbers.iter().all(|node| (*node as usize) < nodes);
    let mut graph = Graph {
        offsets: reader.exactly(nodes + 1)?,
        links: reader.many()?,
        entries: reader.many()?,
        strays: reader.many()?,
        measured: Vec::new(),
        linking,
    };
    check(graph.offsets[0] == 0 && graph.offsets.is_sorted() && graph.offsets[nodes] as usize == graph.links.len())?;
    for nodes in [&graph.entries, &graph.strays] {
        check(inside(nodes) && nodes.is_sorted_by(|a, b| a < b))?;
    }
    check(inside(&graph.links) && !graph.entries.is_empty())?;
    // Each takes bytes, so the claimed number cannot make this long.
    for _ in 0..reader.one::<u64>()? {
        let measured = Measured {
            ef: reader.one()?,
            recall: [reader.one()?, reader.one()?],
            nanoseconds: reader.one()?,
        };
        check(measured.nanoseconds.is_finite() && measured.recall.iter().all(|recall| recall.is_finite()))?;
        graph.measured.push(measured);
    }
    check(graph.measured.is_sorted_by(|a, b| a.ef < b.ef))?;
    Ok(graph)
}

impl Shard {
    /// Codes and graph of the largest part that has one, without exact vectors; `None` without a graph.
    pub fn sealed(&self) -> Option<Vec<u8>> {
        let state = self.now();
        let with_graph = state
            .parts
            .iter()
            .filter_map(|held| Some((held, held.part.graph.as_ref()?)));
        let (held, graph) = with_graph.max_by_key(|(held, _)| held.part.slots())?;
        Some(seal(&held.part, graph, self.dimensions))
    }

    /// From what [`Shard::sealed`] gave and the rows that there are now, in any order. Rows that were
    /// not sealed, or have changed since, are added as new ones.
    ///
    /// # Errors
    /// [`Code::Corrupted`] for bytes that are damaged or of another shard,
    /// [`Code::DataException`] for a vector of another length.
    pub fn open<'a>(
        metric: Metric,
        dimensions: usize,
        sealed: &[u8],
        rows: impl Iterator<Item = (u64, &'a Embedding)>,
    ) -> Result<Self> {
        let rotation = Rotation::shared(dimensions);
        let mut part = open(sealed, metric, dimensions, &rotation)?;
        let (nodes, coded) = (part.nodes(), part.codes.len());
        let mut exact = Exact {
            vectors: Rows::zeroed(dimensions, nodes),
            squared: vec![0.0; nodes],
        };
        let mut filled = vec![false; nodes];
        let mut found = vec![false; part.slots()];
        let mut new = Vec::new();
        for (id, embedding) in rows {
            super::embedding::check_dimensions(dimensions, embedding.dimensions())?;
            let vector = embedding.as_slice();
            let squared = (kernel::best().dot)(vector, vector);
            let slot = part.ids.slot(id).filter(|slot| {
                let node = part.ids.node(*slot);
                if found[*slot] {
                    return false;
                }
                if filled[node] {
                    return exact.vectors.row(node) == vector;
                }
                let coded_as = node < coded && part.codes.is_code_of(node, vector, squared);
                let same = match can_be_coded(metric, vector, squared) {
                    true => coded_as,
                    false => node >= coded,
                };
                if same {
                    exact.vectors.row_mut(node).copy_from_slice(vector);
                    exact.squared[node] = squared;
                    filled[node] = true;
                }
                same
            });
            match slot {
                Some(slot) => found[slot] = true,
                None => new.push((id, embedding.clone())),
            }
        }
        part.exact = Some(Arc::new(exact));
        let mut held = Held::new(part);
        let gone = (0..).zip(&found).filter(|(_, found)| !**found);
        gone.for_each(|(slot, _)| held.remove_slot(slot));
        let shard = Self::holding(metric, dimensions, held, rotation);
        shard.insert(&new)?;
        Ok(shard)
    }

    /// From what [`Shard::sealed`] gave, with codes and graph only; searches need
    /// [`Options::fetch`](super::Options). `unchanged` are the rows that are still as they were when it
    /// was sealed; the caller inserts the others.
    ///
    /// # Errors
    /// [`Code::Corrupted`] for bytes that are damaged or of another shard.
    pub fn open_codes(metric: Metric, dimensions: usize, sealed: &[u8], unchanged: &RowSet) -> Result<Self> {
        let rotation = Rotation::shared(dimensions);
        let mut held = Held::new(open(sealed, metric, dimensions, &rotation)?);
        for slot in 0..held.part.slots() {
            if !unchanged.contains(held.part.ids.ids[slot]) {
                held.remove_slot(slot);
            }
        }
        Ok(Self::holding(metric, dimensions, held, rotation))
    }

    fn holding(metric: Metric, dimensions: usize, held: Held, rotation: Arc<Rotation>) -> Self {
        let mut state = State::new(metric, dimensions);
        state.parts.push(held);
        Self::with_state(state, rotation)
    }
}
