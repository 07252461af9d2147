//! Vectors in a quarter and in a thirty-second of their size, and estimates of distances from them.
//!
//! A vector is brought to length one where the metric is the cosine, and moved so that the middle of
//! all vectors is at zero; neither changes which is nearer. What is left is kept twice: as one byte a
//! number, scaled by the vector's largest, and as one bit a number after a random rotation, with two
//! factors that make the estimate unbiased and tell its error (RaBitQ, Gao and Long, SIGMOD 2024).
//!
//! Estimates are in units of the walk: squared Euclidean distance for L2 and the cosine (of unit
//! vectors), the negated product with the moved vector for the inner product, L1 as it is.

use std::sync::Arc;

use super::Metric;
use super::aligned::Rows;
use super::kernel::{self, Kernel, PLANES};
use super::rotation::{Rotation, mix};

/// The largest absolute number that is coded; sums of squares then stay far from infinity.
const LARGEST: f32 = 1e15;
/// The smallest squared length that gives a direction.
const SHORTEST: f32 = 1e-30;
/// Vectors from whose median the middle is taken: outliers do not move it.
const SAMPLE: usize = 255;
/// Codes go from minus this to this.
const CODE_MAX: f32 = 127.0;

/// The codes of many vectors.
pub(super) struct Codes {
    pub metric: Metric,
    pub middle: Vec<f32>,
    pub bytes: Rows<i8>,
    /// What one step of a code means, by row.
    pub steps: Vec<f32>,
    /// Squared length after moving, by row.
    pub norms: Vec<f32>,
    /// None for L1, which a rotation does not keep.
    pub bits: Rows<u64>,
    /// By row: what the sum of signed query numbers is multiplied with, and the estimate's error.
    pub factors: Vec<[f32; 2]>,
    pub rotation: Arc<Rotation>,
}

/// Whether a vector may be coded; others are always compared exactly.
pub(super) fn can_be_coded(metric: Metric, vector: &[f32], squared: f32) -> bool {
    let moderate = vector.iter().all(|value| value.abs() <= LARGEST);
    moderate && (metric != Metric::Cosine || (squared.is_finite() && squared >= SHORTEST))
}

impl Codes {
    /// Of `count` vectors, which can be coded; `vector(i)` gives them and their squared lengths.
    pub fn of<'a>(
        metric: Metric,
        rotation: &Arc<Rotation>,
        dimensions: usize,
        count: usize,
        vector: impl Fn(usize) -> (&'a [f32], f32),
    ) -> Self {
        let mut codes = Self {
            metric,
            middle: vec![0.0; dimensions],
            bytes: Rows::with_capacity(dimensions, count),
            steps: Vec::with_capacity(count),
            norms: Vec::with_capacity(count),
            bits: Rows::with_capacity(words(metric, rotation), if metric == Metric::L1 { 0 } else { count }),
            factors: Vec::with_capacity(if metric == Metric::L1 { 0 } else { count }),
            rotation: rotation.clone(),
        };
        codes.middle = codes.find_middle(count, &vector);
        let mut moved = vec![0.0; dimensions];
        let mut common = None;
        if metric == Metric::L1 {
            // Differences of codes add up only where all have the same step.
            let mut largest = 0f32;
            for i in 0..count {
                codes.move_into(vector(i), &mut moved);
                largest = moved.iter().fold(largest, |largest, value| largest.max(value.abs()));
            }
            common = Some(largest / CODE_MAX);
        }
        let mut coded = vec![0; dimensions];
        let mut rotated = vec![0.0; rotation.padded()];
        let mut signs = vec![0; words(metric, rotation)];
        for i in 0..count {
            codes.move_into(vector(i), &mut moved);
            let step = to_bytes(&moved, common, &mut coded);
            let norm = (kernel::best().dot)(&moved, &moved);
            codes.bytes.push(&coded);
            codes.steps.push(step);
            codes.norms.push(norm);
            if metric != Metric::L1 {
                rotated[..dimensions].copy_from_slice(&moved);
                rotated[dimensions..].fill(0.0);
                rotation.rotate(&mut rotated);
                codes.factors.push(to_bits(&rotated, norm, &mut signs));
                codes.bits.push(&signs);
            }
        }
        codes
    }

    /// The median of a sample, dimension by dimension.
    fn find_middle<'a>(&self, count: usize, vector: &impl Fn(usize) -> (&'a [f32], f32)) -> Vec<f32> {
        let mut state = count as u64;
        let sample: Vec<(&[f32], f32)> = match count {
            0..=SAMPLE => (0..count).map(vector).collect(),
            _ => (0..SAMPLE)
                .map(|_| vector((mix(&mut state) % count as u64) as usize))
                .collect(),
        };
        let mut column = Vec::with_capacity(sample.len());
        (0..self.middle.len())
            .map(|dimension| {
                column.clear();
                column.extend(
                    sample
                        .iter()
                        .map(|(vector, squared)| vector[dimension] * self.scale(*squared)),
                );
                let half = column.len() / 2;
                if column.is_empty() {
                    return 0.0;
                }
                *column.select_nth_unstable_by(half, f32::total_cmp).1
            })
            .collect()
    }

    fn scale(&self, squared: f32) -> f32 {
        match self.metric {
            Metric::Cosine => 1.0 / squared.sqrt(),
            Metric::L2 | Metric::InnerProduct | Metric::L1 => 1.0,
        }
    }

    fn move_into(&self, (vector, squared): (&[f32], f32), moved: &mut [f32]) {
        let scale = self.scale(squared);
        for ((moved, value), middle) in moved.iter_mut().zip(vector).zip(&self.middle) {
            *moved = value * scale - middle;
        }
    }

    /// Whether row `row` is what this vector is coded as.
    pub fn is_code_of(&self, row: usize, vector: &[f32], squared: f32) -> bool {
        let mut moved = vec![0.0; self.middle.len()];
        self.move_into((vector, squared), &mut moved);
        let mut coded = vec![0; moved.len()];
        let common = (self.metric == Metric::L1).then(|| self.steps[row]);
        let step = to_bytes(&moved, common, &mut coded);
        // Another processor's sums may round otherwise.
        let same = |a: f32, b: f32| (a - b).abs() <= 1e-4 * a.abs().max(b.abs()) + f32::MIN_POSITIVE;
        let code_differs = |(a, b): (&i8, &i8)| (i16::from(*a) - i16::from(*b)).abs() > 1;
        same(step, self.steps[row])
            && same((kernel::best().dot)(&moved, &moved), self.norms[row])
            && !coded.iter().zip(self.bytes.row(row)).any(code_differs)
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.bytes.bytes()
            + self.bits.bytes()
            + size_of::<f32>() * (self.steps.capacity() + self.norms.capacity() + self.middle.capacity())
            + size_of::<[f32; 2]>() * self.factors.capacity()
    }

    /// A query in the form that meets these codes. With `bits`, also for [`Query::lower_bounds`].
    pub fn query(&self, vector: &[f32], squared: f32, bits: bool) -> Query<'_> {
        let mut moved = vec![0.0; vector.len()];
        let mut offset = 0.0;
        match self.metric {
            // Moving the query too would give every row another constant.
            Metric::InnerProduct => {
                moved.copy_from_slice(vector);
                offset = (kernel::best().dot)(vector, &self.middle);
            }
            Metric::Cosine | Metric::L2 | Metric::L1 => self.move_into((vector, squared), &mut moved),
        }
        let mut query = self.blank_query();
        let common = (self.metric == Metric::L1).then(|| self.steps.first().copied().unwrap_or(0.0));
        query.bytes.resize(moved.len(), 0);
        query.step = to_bytes(&moved, common, &mut query.bytes);
        query.norm = (kernel::best().dot)(&moved, &moved);
        query.offset = offset;
        if bits && self.metric != Metric::L1 {
            moved.resize(self.rotation.padded(), 0.0);
            self.rotation.rotate(&mut moved);
            (query.planes, query.plane_step) = to_planes(&moved);
        }
        query
    }

    /// A stored row as a query, by L2 whatever the metric is.
    pub fn row_query(&self, row: usize) -> Query<'_> {
        let mut query = self.blank_query();
        query.bytes.extend_from_slice(self.bytes.row(row));
        query.step = self.steps[row];
        query.norm = self.norms[row];
        if self.metric == Metric::InnerProduct {
            query.unit = Metric::L2;
        }
        query
    }

    fn blank_query(&self) -> Query<'_> {
        Query {
            codes: self,
            kernel: kernel::best(),
            unit: self.metric,
            bytes: Vec::new(),
            step: 0.0,
            norm: 0.0,
            offset: 0.0,
            planes: Vec::new(),
            plane_step: 0.0,
        }
    }

    /// The squared Euclidean distance of two rows, or L1, from their one-byte codes.
    #[inline]
    pub fn between(&self, kernel: &Kernel, a: usize, b: usize) -> f32 {
        let (x, y) = (self.bytes.row(a), self.bytes.row(b));
        if self.metric == Metric::L1 {
            return self.steps[a] * (kernel.l1_bytes)(x, y) as f32;
        }
        let product = self.steps[a] * self.steps[b] * (kernel.dot_bytes)(x, y) as f32;
        self.norms[a] + self.norms[b] - 2.0 * product
    }
}

fn words(metric: Metric, rotation: &Rotation) -> usize {
    match metric {
        Metric::L1 => 0,
        Metric::Cosine | Metric::L2 | Metric::InnerProduct => rotation.padded() / 64,
    }
}

/// Rounds to codes; returns what one step means.
fn to_bytes(moved: &[f32], common: Option<f32>, coded: &mut [i8]) -> f32 {
    let largest = moved.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let step = common.unwrap_or(largest / CODE_MAX);
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    for (code, value) in coded.iter_mut().zip(moved) {
        *code = (value * inverse).clamp(-CODE_MAX, CODE_MAX).round_ties_even() as i8;
    }
    step
}

/// Keeps signs; returns the factor and the error.
fn to_bits(rotated: &[f32], norm: f32, signs: &mut [u64]) -> [f32; 2] {
    let mut sum = 0f32;
    for (word, values) in signs.iter_mut().zip(rotated.chunks_exact(64)) {
        *word = 0;
        for (bit, value) in values.iter().enumerate() {
            *word |= u64::from(*value >= 0.0) << bit;
            sum += value.abs();
        }
    }
    let length = norm.sqrt();
    if sum <= 0.0 || length <= 0.0 {
        return [0.0, 0.0];
    }
    let dimensions = rotated.len() as f32;
    // The cosine of the vector and its signs.
    let aligned = (sum / (dimensions.sqrt() * length)).clamp(f32::MIN_POSITIVE, 1.0);
    let error = length * (1.0 - aligned * aligned).max(0.0).sqrt() / aligned / (dimensions - 1.0).sqrt();
    [norm / sum, error]
}

/// Rounds to [`PLANES`] bits, one plane for each: bit `j` of a number says whether `2^j` or `-2^j`
/// is added to it, in units of half a step.
fn to_planes(rotated: &[f32]) -> (Vec<u64>, f32) {
    const TOP: f32 = ((1 << PLANES) - 1) as f32;
    let words = rotated.len() / 64;
    let mut planes = vec![0u64; words * PLANES];
    let largest = rotated.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let step = 2.0 * largest / TOP;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    for (i, value) in rotated.iter().enumerate() {
        let level = ((value + largest) * inverse).round_ties_even().clamp(0.0, TOP) as u64;
        for plane in 0..PLANES {
            planes[plane * words + i / 64] |= (level >> plane & 1) << (i % 64);
        }
    }
    (planes, step)
}

/// A query that meets codes.
pub(super) struct Query<'a> {
    codes: &'a Codes,
    kernel: &'static Kernel,
    unit: Metric,
    bytes: Vec<i8>,
    step: f32,
    norm: f32,
    offset: f32,
    planes: Vec<u64>,
    plane_step: f32,
}

impl Query<'_> {
    /// The distance to a row as its one-byte code tells it.
    #[inline(always)]
    pub fn estimate(&self, row: usize) -> f32 {
        let code = self.codes.bytes.row(row);
        match self.unit {
            Metric::Cosine | Metric::L2 => {
                let product = self.codes.steps[row] * self.step * (self.kernel.dot_bytes)(code, &self.bytes) as f32;
                self.codes.norms[row] + self.norm - 2.0 * product
            }
            Metric::InnerProduct => {
                -(self.codes.steps[row] * self.step) * (self.kernel.dot_bytes)(code, &self.bytes) as f32
            }
            Metric::L1 => self.step * (self.kernel.l1_bytes)(code, &self.bytes) as f32,
        }
    }

    /// Asks for what [`Query::estimate`] will read of a row.
    #[inline(always)]
    pub fn prefetch(&self, row: usize) {
        kernel::prefetch(self.codes.bytes.row(row));
    }

    /// By how much an estimate may be too large, at so many standard deviations: rounding errors of
    /// both codes, each even over a step.
    #[inline]
    pub fn slack(&self, row: usize, deviations: f32) -> f32 {
        let dimensions = self.bytes.len() as f32;
        let (a, b) = (self.codes.steps[row], self.step);
        match self.unit {
            Metric::Cosine | Metric::L2 | Metric::InnerProduct => {
                let variance =
                    (a * a * self.norm + b * b * self.codes.norms[row]) / 12.0 + a * a * b * b * dimensions / 144.0;
                let product = if self.unit == Metric::InnerProduct { 1.0 } else { 2.0 };
                // What f32 itself cannot tell apart.
                let rounding = 1e-6 * (self.norm + self.codes.norms[row]);
                product * deviations * variance.sqrt() + rounding
            }
            // Differences smaller than a step are told a third of one too large on average; codes of a
            // query beyond the rows' range are cut, which tells too little and never too much.
            Metric::L1 => b * (dimensions / 3.0 + deviations * (dimensions / 6.0).sqrt()),
        }
    }

    /// Whether [`Query::lower_bounds`] can be asked.
    pub fn has_bits(&self) -> bool {
        !self.planes.is_empty()
    }

    /// For rows from `first` on, as many as `out` has places, the least distance that the one-bit code
    /// allows, at so many standard deviations. `counts` is scratch of the same length.
    pub fn lower_bounds(&self, first: usize, deviations: f32, counts: &mut [u32], out: &mut [f32]) {
        let words = self.planes.len() / PLANES;
        let codes = &self.codes.bits.all()[first * words..][..counts.len() * words];
        (self.kernel.planes)(codes, &self.planes, counts);
        let dimensions = (words * 64) as f32;
        let half = self.plane_step * 0.5;
        let all = ((1 << PLANES) - 1) as f32 * dimensions;
        let error = deviations * self.norm.sqrt();
        let rounding = deviations * self.plane_step * (dimensions / 12.0).sqrt();
        let factors = &self.codes.factors[first..];
        let norms = &self.codes.norms[first..];
        let product = |count: u32, [factor, own]: [f32; 2]| {
            let signed = all - 2.0 * count as f32;
            factor * half * signed + own * error + factor * rounding
        };
        let rows = out.iter_mut().zip(counts.iter()).zip(factors.iter().zip(norms));
        if self.unit == Metric::InnerProduct {
            rows.for_each(|((out, count), (factors, _))| *out = -product(*count, *factors));
        } else {
            let norm = self.norm;
            rows.for_each(|((out, count), (factors, own))| *out = own + norm - 2.0 * product(*count, *factors));
        }
    }

    /// An exact distance in the unit of estimates.
    #[inline]
    pub fn in_walk_units(&self, distance: f64) -> f32 {
        (match self.unit {
            Metric::Cosine => 2.0 * distance,
            Metric::L2 => distance * distance,
            Metric::InnerProduct => distance + f64::from(self.offset),
            Metric::L1 => distance,
        }) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: [Metric; 4] = [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::L1];

    /// Estimates are right on average, and bounds hold as often as their deviations promise.
    #[test]
    fn estimates_and_bounds_tell_the_distance() {
        for dimensions in [100, 384] {
            let mut state = 3;
            let mut vector = |far: f32| -> Vec<f32> {
                // Uneven axes, which the rotation has to spread.
                let number = |i: usize, bits: u64| ((bits >> 40) as f32 / (1 << 23) as f32 - 1.0) / (1 + i % 9) as f32;
                (0..dimensions).map(|i| number(i, mix(&mut state)) + far).collect()
            };
            let rows: Vec<Vec<f32>> = (0..300).map(|_| vector(0.2)).collect();
            let queries: Vec<Vec<f32>> = (0..10).map(|_| vector(0.2)).collect();
            let squared = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
            for metric in METRICS {
                let rotation = Arc::new(Rotation::new(dimensions));
                let codes = Codes::of(metric, &rotation, dimensions, rows.len(), |i| {
                    (&rows[i], squared(&rows[i]))
                });
                let (mut below, mut within, mut errors, mut sizes) = (0, 0, 0.0, 0.0);
                for query_vector in &queries {
                    let query = codes.query(query_vector, squared(query_vector), true);
                    assert_eq!(query.has_bits(), metric != Metric::L1);
                    let mut bounds = vec![0.0; rows.len()];
                    let mut middle = vec![0.0; rows.len()];
                    if query.has_bits() {
                        query.lower_bounds(0, 2.5, &mut vec![0; rows.len()], &mut bounds);
                        query.lower_bounds(0, 0.0, &mut vec![0; rows.len()], &mut middle);
                    }
                    for (i, row) in rows.iter().enumerate() {
                        let exact = query.in_walk_units(metric.distance(query_vector, row));
                        let estimate = query.estimate(i);
                        assert!(codes.is_code_of(i, row, squared(row)));
                        assert!(!codes.is_code_of((i + 1) % rows.len(), row, squared(row)));
                        within += usize::from(estimate - query.slack(i, 3.0) <= exact);
                        if query.has_bits() {
                            below += usize::from(bounds[i] <= exact);
                            errors += f64::from(middle[i] - exact);
                            sizes += f64::from(exact.abs());
                        }
                    }
                }
                let all = rows.len() * queries.len();
                assert!(within * 1000 >= all * 995, "{metric:?} {dimensions}: {within} of {all}");
                if metric != Metric::L1 {
                    assert!(below * 1000 >= all * 985, "{metric:?} {dimensions}: {below} of {all}");
                    assert!(
                        errors.abs() <= 0.02 * sizes,
                        "{metric:?} {dimensions}: {errors} of {sizes}"
                    );
                }
            }
        }
    }
}
