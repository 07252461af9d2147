//! What a shard holds at one moment. Searches keep the moment they began with; writers make the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::embedding::check_dimensions;
use super::part::Part;
use super::{Metric, kernel};
use crate::error::{Error, Result};

/// Rows of one piece of the tail. Few in tests, so that small ones come through every step.
pub(super) const SEGMENT_ROWS: usize = if cfg!(test) { 8 } else { 256 };

/// Parts with codes, and a tail of new rows without.
#[derive(Clone)]
pub(super) struct State {
    pub metric: Metric,
    pub dimensions: usize,
    pub parts: Vec<Held>,
    pub tail: Tail,
}

/// A part and which of its rows are deleted.
#[derive(Clone)]
pub(super) struct Held {
    pub part: Part,
    pub dead: Arc<Dead>,
    /// Of 1,024 rows, how many a bound from one bit did not rule out, on average.
    pub passed: Arc<AtomicU32>,
}

/// Deleted slots.
#[derive(Clone, Default)]
pub(super) struct Dead {
    words: Vec<u64>,
    count: usize,
}

impl Dead {
    #[inline]
    pub fn contains(&self, slot: usize) -> bool {
        self.words
            .get(slot / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub fn insert(&mut self, slot: usize) -> bool {
        if self.contains(slot) {
            return false;
        }
        if self.words.len() <= slot / 64 {
            self.words.resize(slot / 64 + 1, 0);
        }
        self.words[slot / 64] |= 1 << (slot % 64);
        self.count += 1;
        true
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn len(&self) -> usize {
        self.count
    }
}

impl Held {
    pub fn new(part: Part) -> Self {
        Self {
            part,
            dead: Arc::default(),
            // Until a scan has told better.
            passed: Arc::new(AtomicU32::new(32)),
        }
    }

    /// Rows that are not deleted.
    pub fn live(&self) -> usize {
        self.part.slots() - self.dead.len()
    }

    /// Deletes a row; false if it is not here.
    pub fn remove(&mut self, id: u64) -> bool {
        match self.part.ids.slot(id) {
            Some(slot) if !self.dead.contains(slot) => Arc::make_mut(&mut self.dead).insert(slot),
            _ => false,
        }
    }

    /// Deletes a slot.
    pub fn remove_slot(&mut self, slot: usize) {
        Arc::make_mut(&mut self.dead).insert(slot);
    }

    /// The ids of rows that are not deleted, with their nodes.
    pub fn rows(&self) -> impl Iterator<Item = (u64, usize)> {
        let slots = (0..self.part.nodes()).flat_map(|node| self.part.ids.slots(node).map(move |slot| (slot, node)));
        slots
            .filter(|(slot, _)| !self.dead.contains(*slot))
            .map(|(slot, node)| (self.part.ids.ids[slot], node))
    }

    pub fn note_passed(&self, passed: usize, of: usize) {
        let now = (passed * 1024).checked_div(of).unwrap_or(0) as u32;
        let before = self.passed.load(Ordering::Relaxed);
        self.passed.store((before * 7 + now).div_ceil(8), Ordering::Relaxed);
    }
}

/// The newest rows, in pieces of [`SEGMENT_ROWS`], so that a writer copies at most one of them.
#[derive(Clone, Default)]
pub(super) struct Tail {
    /// The number of the first row of the first piece.
    pub first: u64,
    pub segments: Vec<Arc<Segment>>,
    pub dead: usize,
}

#[derive(Clone, Default)]
pub(super) struct Segment {
    pub ids: Vec<u64>,
    pub vectors: Vec<f32>,
    pub squared: Vec<f32>,
    pub dead: Vec<bool>,
}

impl Tail {
    /// Appends a row and returns its number.
    pub fn push(&mut self, id: u64, vector: &[f32], squared: f32) -> u64 {
        let full = |segment: &Arc<Segment>| segment.ids.len() >= SEGMENT_ROWS;
        if self.segments.last().is_none_or(full) {
            self.segments.push(Arc::default());
        }
        let number = self.first + (self.segments.len() as u64 - 1) * SEGMENT_ROWS as u64;
        let Some(segment) = self.segments.last_mut().map(Arc::make_mut) else {
            return number;
        };
        segment.ids.push(id);
        segment.vectors.extend_from_slice(vector);
        segment.squared.push(squared);
        segment.dead.push(false);
        number + segment.ids.len() as u64 - 1
    }

    /// Deletes a row by number; false if it is not here.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(at) = number.checked_sub(self.first) else {
            return false;
        };
        let (segment, row) = ((at / SEGMENT_ROWS as u64) as usize, (at % SEGMENT_ROWS as u64) as usize);
        let Some(segment) = self.segments.get_mut(segment) else {
            return false;
        };
        if segment.dead.get(row) != Some(&false) {
            return false;
        }
        Arc::make_mut(segment).dead[row] = true;
        self.dead += 1;
        true
    }

    /// Calls back with id, vector and squared length of each row.
    pub fn each<'a>(&'a self, mut visit: impl FnMut(u64, &'a [f32], f32)) {
        for segment in &self.segments {
            segment.each(&mut visit);
        }
    }

    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.ids.len()).sum()
    }

    /// Pieces that no row will be added to.
    pub fn full(&self) -> &[Arc<Segment>] {
        let full = self
            .segments
            .iter()
            .take_while(|segment| segment.ids.len() >= SEGMENT_ROWS)
            .count();
        &self.segments[..full]
    }

    pub fn memory(&self) -> usize {
        let bytes = |segment: &Arc<Segment>| {
            size_of::<f32>() * (segment.vectors.capacity() + segment.squared.capacity())
                + size_of::<u64>() * segment.ids.capacity()
                + segment.dead.capacity()
        };
        self.segments.iter().map(bytes).sum()
    }
}

impl Segment {
    pub fn each<'a>(&'a self, visit: &mut impl FnMut(u64, &'a [f32], f32)) {
        let Some(dimensions) = self.vectors.len().checked_div(self.ids.len()) else {
            return;
        };
        let vectors = self.vectors.chunks_exact(dimensions.max(1));
        for (row, vector) in vectors.enumerate() {
            if !self.dead[row] {
                visit(self.ids[row], vector, self.squared[row]);
            }
        }
    }
}

/// Where a writer finds rows of the tail.
#[derive(Default)]
pub(super) struct Located(pub HashMap<u64, u64>);

impl State {
    pub fn new(metric: Metric, dimensions: usize) -> Self {
        Self {
            metric,
            dimensions,
            parts: Vec::new(),
            tail: Tail::default(),
        }
    }

    /// Rows that are not deleted.
    pub fn live(&self) -> usize {
        self.parts.iter().map(Held::live).sum::<usize>() + self.tail.rows() - self.tail.dead
    }

    /// Deletes a row; false if there is none.
    pub fn remove(&mut self, id: u64, located: &mut Located) -> bool {
        let of_tail = located.0.remove(&id).is_some_and(|number| self.tail.remove(number));
        of_tail || self.parts.iter_mut().any(|held| held.remove(id))
    }

    /// Adds a row in place of one with the same id.
    pub fn insert(&mut self, id: u64, vector: &[f32], squared: f32, located: &mut Located) {
        self.remove(id, located);
        let number = self.tail.push(id, vector, squared);
        located.0.insert(id, number);
    }

    /// Calls back with the exact distance of each row by any metric, in no order.
    ///
    /// # Errors
    /// [`DataException`](crate::error::Code::DataException) for a vector of another length,
    /// [`Internal`](crate::error::Code::Internal) where vectors are not in memory.
    pub fn scan(&self, metric: Metric, query: &[f32], mut visit: impl FnMut(u64, f64)) -> Result<()> {
        check_dimensions(self.dimensions, query.len())?;
        let kernel = kernel::best();
        let length = (kernel.dot)(query, query);
        let distance = |vector: &[f32], squared| metric.between(kernel, query, length, vector, squared);
        for held in &self.parts {
            let exact = held.part.exact.as_ref();
            let exact = exact.ok_or_else(|| Error::internal("vectors are not in memory"))?;
            for node in 0..held.part.nodes() {
                let distance = distance(exact.vectors.row(node), exact.squared[node]);
                let slots = held.part.ids.slots(node).filter(|slot| !held.dead.contains(*slot));
                slots.for_each(|slot| visit(held.part.ids.ids[slot], distance));
            }
        }
        self.tail
            .each(|id, vector, squared| visit(id, distance(vector, squared)));
        Ok(())
    }

    pub fn memory(&self) -> usize {
        let parts = self
            .parts
            .iter()
            .map(|held| held.part.memory() + held.dead.words.capacity() * size_of::<u64>());
        parts.sum::<usize>() + self.tail.memory()
    }
}
