//! The inner loops: sums over two vectors, in the widest form the processor has.
//!
//! Each loop keeps [`LANES`] independent sums, so that the compiler may use vector registers
//! without reordering additions. It is compiled twice: as the plain twin, right everywhere, and
//! for AVX2 with FMA, chosen once a scan by what the processor says of itself.

/// Independent sums: four AVX2 registers.
const LANES: usize = 32;

type Sum = fn(&[f32], &[f32]) -> f32;

/// The loops for one processor. Both slices must be of the same length; a longer one is cut.
pub(super) struct Kernel {
    /// Sum of products.
    pub dot: Sum,
    /// Sum of squared differences.
    pub squared_l2: Sum,
    /// Sum of absolute differences.
    pub l1: Sum,
}

macro_rules! sum {
    ($a:ident, $b:ident, |$acc:ident, $x:ident, $y:ident| $step:expr) => {{
        let mut sums = [0f32; LANES];
        let (blocks_a, rest_a) = $a.as_chunks::<LANES>();
        let (blocks_b, rest_b) = $b.as_chunks::<LANES>();
        for (block_a, block_b) in blocks_a.iter().zip(blocks_b) {
            for lane in 0..LANES {
                let ($acc, $x, $y) = (sums[lane], block_a[lane], block_b[lane]);
                sums[lane] = $step;
            }
        }
        for (lane, ($x, $y)) in rest_a.iter().copied().zip(rest_b.iter().copied()).enumerate() {
            let $acc = sums[lane];
            sums[lane] = $step;
        }
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for lane in 0..width {
                sums[lane] += sums[lane + width];
            }
        }
        sums[0]
    }};
}

/// Right on every processor.
pub(super) static PLAIN: Kernel = Kernel {
    dot: |a, b| sum!(a, b, |acc, x, y| acc + x * y),
    squared_l2: |a, b| sum!(a, b, |acc, x, y| acc + (x - y) * (x - y)),
    l1: |a, b| sum!(a, b, |acc, x, y| acc + (x - y).abs()),
};

/// The fastest loops this processor can run.
pub(super) fn best() -> &'static Kernel {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return &avx2::KERNEL;
    }
    &PLAIN
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Kernel, LANES};

    /// Only [`super::best`] hands this out, after the processor has said that it has both features.
    pub(super) static KERNEL: Kernel = Kernel {
        // SAFETY: see above; the functions need nothing but the features.
        dot: |a, b| unsafe { dot(a, b) },
        // SAFETY: as for `dot`.
        squared_l2: |a, b| unsafe { squared_l2(a, b) },
        // SAFETY: as for `dot`.
        l1: |a, b| unsafe { l1(a, b) },
    };

    #[target_feature(enable = "avx2,fma")]
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum!(a, b, |acc, x, y| x.mul_add(y, acc))
    }

    #[target_feature(enable = "avx2,fma")]
    fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
        sum!(a, b, |acc, x, y| (x - y).mul_add(x - y, acc))
    }

    #[target_feature(enable = "avx2,fma")]
    fn l1(a: &[f32], b: &[f32]) -> f32 {
        sum!(a, b, |acc, x, y| acc + (x - y).abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f32, b: f32, scale: f32) -> bool {
        (a - b).abs() <= 1e-5 * (1.0 + scale)
    }

    proptest! {
        #[test]
        fn the_fast_loops_agree_with_the_plain_twin(pairs in prop::collection::vec((-9f32..9.0, -9f32..9.0), 1..200)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let scale = a.iter().zip(&b).map(|(x, y)| x * x + y * y).sum::<f32>();
            let fast = best();
            prop_assert!(close((fast.dot)(&a, &b), (PLAIN.dot)(&a, &b), scale));
            prop_assert!(close((fast.squared_l2)(&a, &b), (PLAIN.squared_l2)(&a, &b), scale));
            prop_assert!(close((fast.l1)(&a, &b), (PLAIN.l1)(&a, &b), scale));
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            prop_assert!(close((PLAIN.dot)(&a, &b), exact as f32, scale));
        }
    }
}
