//! What the steps of a search cost on this machine, measured once, in a few milliseconds.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use super::Metric;
use super::codes::Codes;
use super::kernel::{self, PLANES};
use super::rotation::Rotation;

/// Lengths of vectors with which is measured; others are taken to lie on the line through both.
const SHORT: usize = 64;
const LONG: usize = 1024;
/// Bytes walked through, more than the processor's nearest caches hold.
const BYTES: usize = 4 << 20;
/// The fastest of so many runs counts: other work on the machine only slows down.
const RUNS: usize = 3;

/// Nanoseconds of one step with a vector of any length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    fixed: f64,
    per_number: f64,
}

impl Line {
    /// For vectors of this length.
    pub fn at(self, dimensions: usize) -> f64 {
        self.fixed + self.per_number * dimensions as f64
    }

    fn through(short: f64, long: f64) -> Self {
        let per_number = ((long - short) / (LONG - SHORT) as f64).max(1e-4);
        Self {
            fixed: (short - per_number * SHORT as f64).max(0.5),
            per_number,
        }
    }
}

/// Nanoseconds a row of each kind of step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// An exact distance, row after row.
    pub exact: Line,
    /// An exact distance of a row that nobody expected.
    pub exact_random: Line,
    /// A one-byte estimate of a row that nobody expected.
    pub bytes_random: Line,
    /// A one-bit bound, row after row.
    pub bits: Line,
    /// Bringing a query into the form that meets codes.
    pub prepare: Line,
    /// Looking for an id among many.
    pub lookup: f64,
}

/// Measures what searches cost on this machine, if that was not done yet: some milliseconds, which
/// the first search or [`Shard::due`](super::Shard::due) takes otherwise.
pub fn calibrate() {
    costs();
}

/// As measured at the first call.
pub(super) fn costs() -> &'static Costs {
    static COSTS: LazyLock<Costs> = LazyLock::new(measure);
    &COSTS
}

fn measure() -> Costs {
    let line = |step: fn(usize) -> f64| Line::through(step(SHORT), step(LONG));
    Costs {
        exact: line(|dimensions| exact(dimensions, 1)),
        // A stride that visits every row once, never the next one.
        exact_random: line(|dimensions| exact(dimensions, 1_000_003)),
        bytes_random: line(bytes),
        bits: line(bits),
        prepare: line(prepare),
        lookup: lookup(),
    }
}

/// The fastest run's nanoseconds for each of `steps`.
fn fastest(steps: usize, mut run: impl FnMut()) -> f64 {
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_nanos() as f64 / steps.max(1) as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

fn exact(dimensions: usize, stride: usize) -> f64 {
    let kernel = kernel::best();
    let rows = BYTES / size_of::<f32>() / dimensions;
    let numbers = vec![0.5f32; rows * dimensions];
    fastest(rows, || {
        let query = &numbers[..dimensions];
        for step in 0..rows {
            let at = step * stride % rows * dimensions;
            black_box((kernel.dot)(query, &numbers[at..at + dimensions]));
        }
    })
}

fn bytes(dimensions: usize) -> f64 {
    let kernel = kernel::best();
    let rows = BYTES / dimensions;
    let codes = vec![1i8; rows * dimensions];
    let steps = rows.min(16 << 10);
    fastest(steps, || {
        let query = &codes[..dimensions];
        for step in 0..steps {
            let at = step * 1_000_003 % rows * dimensions;
            black_box((kernel.dot_bytes)(query, &codes[at..at + dimensions]));
        }
    })
}

fn bits(dimensions: usize) -> f64 {
    let kernel = kernel::best();
    let words = dimensions.div_ceil(64);
    let rows = 8 << 10;
    let codes = vec![1u64; rows * words];
    let planes = vec![3u64; PLANES * words];
    let mut counts = vec![0u32; rows];
    let mut bounds = vec![0f32; rows];
    fastest(rows, || {
        (kernel.planes)(&codes, &planes, &mut counts);
        for (bound, count) in bounds.iter_mut().zip(&counts) {
            *bound = black_box(*count) as f32 * 0.5;
        }
        black_box(&bounds);
    })
}

fn prepare(dimensions: usize) -> f64 {
    const STEPS: usize = 32;
    let vector: Vec<f32> = (0..dimensions).map(|i| i as f32).collect();
    let rotation = Rotation::shared(dimensions);
    let codes = Codes::of(Metric::L2, &rotation, dimensions, 1, |_| (&vector, 1.0));
    fastest(STEPS, || {
        for _ in 0..STEPS {
            black_box(codes.query(&vector, 1.0, true));
        }
    })
}

fn lookup() -> f64 {
    let ids: Vec<u64> = (0..64 << 10).map(|i| i * 3).collect();
    let steps = 4 << 10;
    fastest(steps, || {
        for step in 0..steps as u64 {
            let _ = black_box(ids.binary_search(&(step * 1_000_003 % (192 << 10))));
        }
    })
}

/// One line for each form of each loop that this processor can run: what it takes for vectors of this
/// length that are in its cache. For benchmarks.
pub fn kernel_timings(dimensions: usize) -> Vec<String> {
    const ROWS: usize = 64;
    const ROUNDS: usize = 200;
    let words = dimensions.div_ceil(64);
    let numbers = vec![0.5f32; ROWS * dimensions];
    let codes = vec![3i8; ROWS * dimensions];
    let (bits, planes) = (vec![5u64; ROWS * words], vec![3u64; PLANES * words]);
    let mut lines = Vec::new();
    for kernel in kernel::available() {
        let over = |one: &mut dyn FnMut(usize)| {
            fastest(ROWS * ROUNDS, || {
                for step in 0..ROWS * ROUNDS {
                    one(step % ROWS * dimensions);
                }
            })
        };
        let f32s = |sum: fn(&[f32], &[f32]) -> f32| {
            over(&mut |at| {
                black_box(sum(black_box(&numbers[..dimensions]), &numbers[at..at + dimensions]));
            })
        };
        let (dot, l2, l1) = (f32s(kernel.dot), f32s(kernel.squared_l2), f32s(kernel.l1));
        let bytes = over(&mut |at| {
            black_box((kernel.dot_bytes)(
                black_box(&codes[..dimensions]),
                &codes[at..at + dimensions],
            ));
        });
        let bytes_l1 = over(&mut |at| {
            black_box((kernel.l1_bytes)(
                black_box(&codes[..dimensions]),
                &codes[at..at + dimensions],
            ));
        });
        let mut counts = [0u32; ROWS];
        let one_bit = fastest(ROWS * ROUNDS, || {
            for _ in 0..ROUNDS {
                (kernel.planes)(&bits, black_box(&planes), &mut counts);
                black_box(&counts);
            }
        });
        lines.push(format!(
            "{:<34} dot {dot:.1}  squared L2 {l2:.1}  L1 {l1:.1}  bytes {bytes:.1}  bytes L1 {bytes_l1:.1}  bits {one_bit:.1}",
            kernel.name
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cost_is_a_positive_number() {
        let costs = costs();
        for line in [
            costs.exact,
            costs.exact_random,
            costs.bytes_random,
            costs.bits,
            costs.prepare,
        ] {
            for dimensions in [1, 384, 16_000] {
                assert!(
                    line.at(dimensions) > 0.0 && line.at(dimensions).is_finite(),
                    "{costs:?}"
                );
            }
        }
        assert!(costs.lookup > 0.0);
    }
}
