//! Vectors from a seed, and their exact neighbours by comparing all: the reference of every recall that is printed.

use std::{collections::HashSet, sync::Arc};

use super::Vector;

/// Different searches of a tenant, at most.
pub(super) const QUERIES: usize = 200;
/// What a tenant's vectors are about, and the directions in which the vectors of a topic differ.
const TOPICS: usize = 64;
const DIRECTIONS: usize = 48;
/// Distances that differ by less are equal: sums of the same numbers in another order differ by this much.
const TIE: f32 = 1e-5;

/// A generator of uniform and normal numbers (splitmix64: Steele, Lea & Flood 2014).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn of(seed: u64, stream: u64) -> Self {
        let mut numbers = Self(seed);
        Self(numbers.next() ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.next() % (count as u64).max(1)) as usize
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        let (a, b) = (self.uniform().max(1e-12), self.uniform());
        ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

/// A search and what it should find.
pub(super) struct Query {
    pub(super) vector: Vector,
    /// The ids of the nearest, with all that tie with the last of them.
    pub(super) nearest: HashSet<i64>,
}

/// Unit vectors as embeddings of short texts are: topics, and around each a cloud that is flat in most directions.
#[derive(Clone)]
pub(super) struct Source {
    seed: u64,
    dimensions: usize,
    directions: Arc<Vec<Vec<f32>>>,
}

impl Source {
    pub(super) fn new(seed: u64, dimensions: usize) -> Self {
        let mut numbers = Numbers::of(seed, 0);
        let directions = (0..DIRECTIONS).map(|_| numbers.normals(dimensions)).collect();
        Self {
            seed,
            dimensions,
            directions: Arc::new(directions),
        }
    }

    fn topics(&self, tenant: usize) -> Vec<Vec<f32>> {
        let mut numbers = Numbers::of(self.seed, 3 * tenant as u64 + 1);
        (0..TOPICS).map(|_| numbers.normals(self.dimensions)).collect()
    }

    fn one(&self, numbers: &mut Numbers, topics: &[Vec<f32>]) -> Vec<f32> {
        let topic = &topics[numbers.below(TOPICS)];
        let mut values: Vec<f32> = topic.iter().map(|x| x * 0.5).collect();
        for direction in self.directions.iter() {
            let along = numbers.normal() / (DIRECTIONS as f32).sqrt() * 0.9;
            values.iter_mut().zip(direction).for_each(|(x, y)| *x += along * y);
        }
        values.iter_mut().for_each(|x| *x += numbers.normal() * 0.2);
        let length = dot(&values, &values).sqrt().max(f32::MIN_POSITIVE);
        values.iter_mut().for_each(|x| *x /= length);
        values
    }

    /// A tenant's vectors, by id from 0.
    pub(super) fn rows(&self, tenant: usize, count: usize) -> Vec<Vec<f32>> {
        let topics = self.topics(tenant);
        let mut numbers = Numbers::of(self.seed, 3 * tenant as u64 + 2);
        (0..count).map(|_| self.one(&mut numbers, &topics)).collect()
    }

    /// Searches of a tenant with their exact answers.
    pub(super) fn queries(&self, tenant: usize, count: usize, rows: &[Vec<f32>], k: usize) -> Vec<Query> {
        let topics = self.topics(tenant);
        let mut numbers = Numbers::of(self.seed, 3 * tenant as u64 + 3);
        let mut one = || {
            let vector = self.one(&mut numbers, &topics);
            let nearest = nearest(&vector, rows, k);
            let vector = Vector(vector);
            Query { vector, nearest }
        };
        (0..count).map(|_| one()).collect()
    }
}

fn nearest(query: &[f32], rows: &[Vec<f32>], k: usize) -> HashSet<i64> {
    let distances: Vec<f32> = rows.iter().map(|row| 1.0 - dot(query, row)).collect();
    let mut sorted = distances.clone();
    let last = k.min(sorted.len()).saturating_sub(1);
    let (_, farthest, _) = sorted.select_nth_unstable_by(last, f32::total_cmp);
    let limit = *farthest + TIE;
    let near = (0..).zip(&distances).filter(|(_, distance)| **distance <= limit);
    near.map(|(id, _)| id).collect()
}

/// In eight sums, so that a compiler may use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0_f32; LANES];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
