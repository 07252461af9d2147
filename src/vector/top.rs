//! The best k of many, in one pass and little memory.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps the `k` smallest of what is pushed, by distance and then by tie-breaker. NaN is larger
/// than every number. Memory grows with what is kept, not with `k`.
pub struct TopK<T> {
    k: usize,
    worst_first: BinaryHeap<Entry<T>>,
}

struct Entry<T> {
    distance: f64,
    tie: T,
}

impl<T: Ord> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance
            .total_cmp(&other.distance)
            .then_with(|| self.tie.cmp(&other.tie))
    }
}

impl<T: Ord> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Entry<T> {}

impl<T: Ord> TopK<T> {
    /// Of `k` places; none keeps nothing.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            worst_first: BinaryHeap::new(),
        }
    }

    /// Offers one more.
    #[inline]
    pub fn push(&mut self, distance: f64, tie: T) {
        self.keep(distance, tie);
    }

    /// Offers one more; false if there are `k` better ones.
    #[inline]
    pub fn keep(&mut self, distance: f64, tie: T) -> bool {
        // One NaN and one zero, so that the order is that of numbers and not of bit patterns.
        let distance = if distance.is_nan() { f64::NAN } else { distance + 0.0 };
        let entry = Entry { distance, tie };
        if self.worst_first.len() < self.k {
            self.worst_first.push(entry);
            return true;
        }
        match self.worst_first.peek_mut() {
            Some(mut worst) if entry < *worst => {
                *worst = entry;
                true
            }
            _ => false,
        }
    }

    /// A larger distance than this is not kept any more; infinite while there are free places.
    #[inline]
    pub fn bound(&self) -> f64 {
        match self.worst_first.peek() {
            Some(worst) if self.worst_first.len() >= self.k && !worst.distance.is_nan() => worst.distance,
            _ => f64::INFINITY,
        }
    }

    /// What was kept, nearest first.
    pub fn into_sorted(self) -> Vec<(f64, T)> {
        self.worst_first
            .into_sorted_vec()
            .into_iter()
            .map(|entry| (entry.distance, entry.tie))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_heap_agrees_with_a_full_sort(
            distances in prop::collection::vec(prop::sample::select(vec![f64::NAN, -f64::NAN, -0.0, 0.0, 1.0, -2.5, 3.0, f64::INFINITY]), 0..60),
            k in prop::sample::select(vec![0usize, 1, 3, 10, usize::MAX]),
        ) {
            let mut top = TopK::new(k);
            let mut all = Vec::new();
            for (i, distance) in distances.iter().enumerate() {
                let free = top.bound() == f64::INFINITY;
                let kept = top.keep(*distance, i);
                prop_assert!(!kept || k > 0);
                prop_assert!(free || kept || *distance >= top.bound() || distance.is_nan());
                all.push((*distance, i));
            }
            // Stable: equal distances stay in the order of insertion.
            all.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or_else(|| a.0.is_nan().cmp(&b.0.is_nan())));
            all.truncate(k);
            let kept: Vec<usize> = top.into_sorted().into_iter().map(|(_, i)| i).collect();
            prop_assert_eq!(kept, all.into_iter().map(|(_, i)| i).collect::<Vec<_>>());
        }
    }
}
