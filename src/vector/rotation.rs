//! A random rotation of vectors of any length, in n log n steps.
//!
//! One-bit codes keep only the sign of each number; how good they are must not depend on the axes
//! that the embedder happened to choose (RaBitQ, Gao and Long, SIGMOD 2024). Instead of a random
//! matrix, four rounds of random signs and a fast Hadamard transform over the largest power of two
//! that fits, at the front and at the back in turn, mixed by one step of Kac's walk.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

/// Rounds of signs and transform.
const ROUNDS: usize = 4;
/// Lengths are filled up to whole words of one-bit codes.
const WORD_BITS: usize = 64;

/// A rotation of vectors of one length. Equal for equal lengths, in every process.
pub(super) struct Rotation {
    padded: usize,
    /// The sign bits to flip, round by round.
    flips: Vec<u32>,
}

impl Rotation {
    /// The one for vectors of so many numbers, shared by all shards that have such.
    pub fn shared(dimensions: usize) -> Arc<Self> {
        static SHARED: LazyLock<Mutex<HashMap<usize, Weak<Rotation>>>> = LazyLock::new(Mutex::default);
        let mut shared = SHARED.lock();
        if let Some(rotation) = shared.get(&dimensions).and_then(Weak::upgrade) {
            return rotation;
        }
        shared.retain(|_, rotation| rotation.strong_count() > 0);
        let rotation = Arc::new(Self::new(dimensions));
        shared.insert(dimensions, Arc::downgrade(&rotation));
        rotation
    }

    /// For vectors of so many numbers.
    pub fn new(dimensions: usize) -> Self {
        let padded = dimensions.max(1).next_multiple_of(WORD_BITS);
        let mut state = dimensions as u64;
        let flips = (0..ROUNDS * padded).map(|_| ((mix(&mut state) >> 63) as u32) << 31);
        Self {
            padded,
            flips: flips.collect(),
        }
    }

    /// The length of what is rotated: that of the vectors, filled up to whole words with zeros.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates in place; `values` is [`Rotation::padded`] long. Keeps lengths and angles.
    pub fn rotate(&self, values: &mut [f32]) {
        let power = 1usize << self.padded.ilog2();
        let whole = power == self.padded;
        for (round, flips) in self.flips.chunks_exact(self.padded).enumerate() {
            for (value, flip) in values.iter_mut().zip(flips) {
                *value = f32::from_bits(value.to_bits() ^ flip);
            }
            let from = if round % 2 == 0 { 0 } else { self.padded - power };
            hadamard(&mut values[from..from + power]);
            if !whole {
                let (front, back) = values.split_at_mut(self.padded / 2);
                for (x, y) in front.iter_mut().zip(back) {
                    (*x, *y) = (*x + *y, *x - *y);
                }
            }
        }
        if !whole {
            // Each step of the walk made the vector longer by the root of two.
            let scale = 0.5f32.powi(ROUNDS as i32 / 2);
            values.iter_mut().for_each(|value| *value *= scale);
        }
    }
}

/// The next number of a sequence without a pattern (splitmix64).
pub(super) fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The fast Walsh-Hadamard transform, scaled so that it keeps lengths.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (front, back) = block.split_at_mut(half);
            for (x, y) in front.iter_mut().zip(back) {
                (*x, *y) = (*x + *y, *x - *y);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    values.iter_mut().for_each(|value| *value *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_angles_are_kept_and_axes_are_spread_out() {
        for dimensions in [1, 2, 63, 64, 65, 128, 200, 384, 768, 1000, 1536] {
            let rotation = Rotation::new(dimensions);
            let mut state = 5;
            let mut number = || (mix(&mut state) >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let mut a: Vec<f32> = (0..dimensions).map(|_| number()).collect();
            let mut b: Vec<f32> = (0..dimensions).map(|_| number()).collect();
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
            let before = [dot(&a, &a), dot(&b, &b), dot(&a, &b)];
            a.resize(rotation.padded(), 0.0);
            b.resize(rotation.padded(), 0.0);
            rotation.rotate(&mut a);
            rotation.rotate(&mut b);
            for (x, y) in before.into_iter().zip([dot(&a, &a), dot(&b, &b), dot(&a, &b)]) {
                assert!((x - y).abs() <= 1e-4 * (1.0 + before[0]), "{dimensions}: {x} {y}");
            }
            // What was one axis is spread over all: none holds more than a sixth of the length.
            let mut axis = vec![0.0; rotation.padded()];
            axis[dimensions / 2] = 1.0;
            rotation.rotate(&mut axis);
            let largest = axis.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            assert!(largest * largest <= 6.0 / 36.0 + 1e-6, "{dimensions}: {largest}");
        }
    }
}
