//! The vectors of one index, side by side in memory, and an exact scan over them.

use super::embedding::check_dimensions;
use super::kernel;
use super::{Embedding, Metric, TopK};
use crate::error::Result;

/// Bytes of vectors kept in one allocation, so that growing never copies them all.
const SEGMENT_BYTES: usize = 1 << 20;

/// Equal-length vectors by row number, 0 upwards in the order of insertion. Rows are never
/// reused: a removed one stays as a tombstone until [`Arena::compact`].
pub struct Arena {
    dimensions: usize,
    segment_rows: usize,
    segments: Vec<Vec<f32>>,
    /// Squared length of each row, which the cosine needs.
    squared: Vec<f32>,
    alive: Vec<bool>,
    live: usize,
}

impl Arena {
    /// Without rows, for vectors of this many dimensions.
    pub fn new(dimensions: usize) -> Self {
        let segment_rows = (SEGMENT_BYTES / size_of::<f32>() / dimensions.max(1)).max(1);
        Self {
            dimensions,
            segment_rows,
            segments: Vec::new(),
            squared: Vec::new(),
            alive: Vec::new(),
            live: 0,
        }
    }

    /// Numbers in each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Rows, tombstones included.
    pub fn rows(&self) -> usize {
        self.alive.len()
    }

    /// Rows that have not been removed.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether the row exists and has not been removed.
    #[inline]
    pub fn is_live(&self, row: usize) -> bool {
        self.alive.get(row).copied().unwrap_or(false)
    }

    /// Appends a vector and returns its row.
    ///
    /// # Errors
    /// [`DataException`](crate::error::Code::DataException) for a vector of another length.
    pub fn push(&mut self, vector: &Embedding) -> Result<usize> {
        check_dimensions(self.dimensions, vector.dimensions())?;
        let vector = vector.as_slice();
        match self.segments.last_mut() {
            Some(last) if last.len() < self.segment_rows * self.dimensions => last.extend_from_slice(vector),
            _ => self.segments.push(vector.to_vec()),
        }
        self.squared.push((kernel::best().dot)(vector, vector));
        self.alive.push(true);
        self.live += 1;
        Ok(self.alive.len() - 1)
    }

    /// Makes a row a tombstone; false if it was none or one already.
    pub fn remove(&mut self, row: usize) -> bool {
        match self.alive.get_mut(row) {
            Some(alive) if *alive => {
                *alive = false;
                self.live -= 1;
                true
            }
            _ => false,
        }
    }

    /// Drops tombstones in place, keeping the order. Returns each old row's new number.
    pub fn compact(&mut self) -> Vec<Option<usize>> {
        let mut moved = Vec::with_capacity(self.rows());
        let mut next = 0;
        for row in 0..self.rows() {
            if !self.alive[row] {
                moved.push(None);
                continue;
            }
            if next != row {
                self.copy_down(row, next);
                self.squared[next] = self.squared[row];
            }
            moved.push(Some(next));
            next += 1;
        }
        self.alive = vec![true; next];
        self.squared.truncate(next);
        self.squared.shrink_to_fit();
        self.segments.truncate(next.div_ceil(self.segment_rows));
        if let Some(last) = self.segments.last_mut() {
            let rows = next - (next - 1) / self.segment_rows * self.segment_rows;
            last.truncate(rows * self.dimensions);
            last.shrink_to_fit();
        }
        moved
    }

    fn copy_down(&mut self, from: usize, to: usize) {
        let (segment, at) = self.place(from);
        let (target, target_at) = self.place(to);
        if segment == target {
            self.segments[segment].copy_within(at..at + self.dimensions, target_at);
        } else {
            let (head, tail) = self.segments.split_at_mut(segment);
            head[target][target_at..target_at + self.dimensions].copy_from_slice(&tail[0][at..at + self.dimensions]);
        }
    }

    fn place(&self, row: usize) -> (usize, usize) {
        (row / self.segment_rows, row % self.segment_rows * self.dimensions)
    }

    /// Calls `visit(row, distance)` for every live row that `keep` keeps, in row order.
    ///
    /// # Errors
    /// [`DataException`](crate::error::Code::DataException) for a query of another length.
    pub fn scan(
        &self,
        metric: Metric,
        query: &[f32],
        mut keep: impl FnMut(usize) -> bool,
        mut visit: impl FnMut(usize, f64),
    ) -> Result<()> {
        check_dimensions(self.dimensions, query.len())?;
        let kernel = kernel::best();
        let squared = (kernel.dot)(query, query);
        let vectors = self
            .segments
            .iter()
            .flat_map(|segment| segment.chunks_exact(self.dimensions));
        for (row, vector) in vectors.enumerate() {
            if self.alive[row] && keep(row) {
                visit(row, metric.between(kernel, query, squared, vector, self.squared[row]));
            }
        }
        Ok(())
    }

    /// The `k` nearest rows of those that `keep` keeps, nearest first, equal ones in the order of
    /// insertion, NaN last: always as many as there are, up to `k`.
    ///
    /// # Errors
    /// As [`Arena::scan`].
    pub fn nearest(
        &self,
        metric: Metric,
        query: &[f32],
        k: usize,
        keep: impl FnMut(usize) -> bool,
    ) -> Result<Vec<(usize, f64)>> {
        let mut top = TopK::new(k);
        self.scan(metric, query, keep, |row, distance| top.push(distance, row))?;
        Ok(top
            .into_sorted()
            .into_iter()
            .map(|(distance, row)| (row, distance))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METRICS: [Metric; 4] = [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::L1];

    fn embedding(values: &[f32]) -> Embedding {
        Embedding::new(values.to_vec()).unwrap()
    }

    /// The twin: every distance, then a stable sort.
    fn naive(rows: &[Vec<f32>], metric: Metric, query: &[f32], k: usize, keep: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut all: Vec<(usize, f64)> = (0..rows.len())
            .filter(|row| keep(*row))
            .map(|row| (row, metric.distance(query, &rows[row])))
            .collect();
        all.sort_by(|a, b| {
            a.1.is_nan()
                .cmp(&b.1.is_nan())
                .then(a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal))
        });
        all.into_iter().take(k).map(|(row, _)| row).collect()
    }

    proptest! {
        #[test]
        fn scan_removal_and_compaction_agree_with_a_full_sort(
            rows in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![-1f32, 0.0, 0.0, 0.5, 2.0]), 3), 0..40),
            query in prop::collection::vec(-2f32..2.0, 3),
            removed in prop::collection::vec(any::<bool>(), 40),
            k in prop::sample::select(vec![0usize, 1, 5, 1 << 31]),
            metric in prop::sample::select(METRICS.to_vec()),
        ) {
            let mut arena = Arena::new(3);
            // Segments of two rows, so that moving between them is tested too.
            arena.segment_rows = 2;
            for row in &rows {
                arena.push(&embedding(row)).unwrap();
            }
            for (row, removed) in removed.iter().enumerate().take(rows.len()) {
                if *removed {
                    prop_assert!(arena.remove(row));
                    prop_assert!(!arena.remove(row));
                }
            }
            let expected = naive(&rows, metric, &query, k, |row| !removed[row] && row % 3 != 1);
            let found = arena.nearest(metric, &query, k, |row| row % 3 != 1).unwrap();
            prop_assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), expected);

            let all = naive(&rows, metric, &query, k, |row| !removed[row]);
            let moved = arena.compact();
            prop_assert_eq!(arena.rows(), arena.live());
            let found = arena.nearest(metric, &query, k, |_| true).unwrap();
            let expected: Vec<usize> = all.into_iter().filter_map(|row| moved[row]).collect();
            prop_assert_eq!(found.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), expected);
            arena.push(&embedding(&query)).unwrap();
            let last = arena.rows() - 1;
            let itself = arena.nearest(Metric::L2, &query, 1, |row| row == last).unwrap();
            prop_assert_eq!(itself, vec![(last, 0.0)]);
        }
    }

    #[test]
    fn another_length_is_an_error_and_an_empty_arena_answers_nothing() {
        let mut arena = Arena::new(3);
        assert!(
            arena
                .nearest(Metric::Cosine, &[1.0; 3], 5, |_| true)
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            arena.push(&embedding(&[1.0])).unwrap_err().message(),
            "expected 3 dimensions, not 1"
        );
        assert_eq!(
            arena.nearest(Metric::L2, &[1.0; 4], 1, |_| true).unwrap_err().message(),
            "expected 3 dimensions, not 4"
        );
        assert!(!arena.remove(7));
        assert!(arena.compact().is_empty());
    }

    #[test]
    fn ten_thousand_equal_vectors_come_in_the_order_of_insertion() {
        let mut arena = Arena::new(2);
        for _ in 0..10_000 {
            arena.push(&embedding(&[0.0, 0.0])).unwrap();
        }
        let found = arena
            .nearest(Metric::Cosine, &[1.0, 0.0], 100, |row| row >= 50)
            .unwrap();
        assert!(found.iter().all(|(_, distance)| distance.is_nan()));
        assert_eq!(
            found.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
            (50..150).collect::<Vec<_>>()
        );
    }
}
