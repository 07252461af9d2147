//! What "near" means: the four distances of pgvector.

use super::kernel::{self, Kernel};

/// A distance; smaller is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `<=>`: one minus the cosine of the angle, 0 to 2; NaN when either vector is all zeros.
    Cosine,
    /// `<->`: Euclidean.
    L2,
    /// `<#>`: the inner product, negated so that nearer is smaller.
    InnerProduct,
    /// `<+>`: sum of absolute differences.
    L1,
}

impl Metric {
    /// The distance of two vectors of the same length (a caller checks that; numbers beyond the
    /// shorter one are ignored). May be infinite where the sum of squares is beyond `f32`.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let kernel = kernel::best();
        match self {
            Metric::Cosine => self.between(kernel, a, (kernel.dot)(a, a), b, (kernel.dot)(b, b)),
            _ => self.between(kernel, a, 0.0, b, 0.0),
        }
    }

    /// The same, with the squared lengths known; only the cosine uses them.
    #[inline]
    pub(super) fn between(self, kernel: &Kernel, a: &[f32], squared_a: f32, b: &[f32], squared_b: f32) -> f64 {
        match self {
            Metric::Cosine => {
                let lengths = (f64::from(squared_a) * f64::from(squared_b)).sqrt();
                let cosine = f64::from((kernel.dot)(a, b)) / lengths;
                1.0 - cosine.clamp(-1.0, 1.0)
            }
            Metric::L2 => f64::from((kernel.squared_l2)(a, b)).sqrt(),
            Metric::InnerProduct => -f64::from((kernel.dot)(a, b)),
            Metric::L1 => f64::from((kernel.l1)(a, b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Metric::*;

    #[test]
    fn the_meanings_are_pgvectors() {
        let (a, b) = ([1.0, 2.0], [3.0, 4.0]);
        assert_eq!(L2.distance(&[0.0, 0.0], &[3.0, 4.0]), 5.0);
        assert_eq!(InnerProduct.distance(&a, &b), -11.0);
        assert_eq!(L1.distance(&[0.0, 0.0], &[3.0, -4.0]), 7.0);
        assert_eq!(Cosine.distance(&[1.0, 0.0], &[0.0, 2.0]), 1.0);
        assert_eq!(Cosine.distance(&[1.0, 1.0], &[-1.0, -1.0]), 2.0);
        assert!(Cosine.distance(&a, &a).abs() < 1e-7);
        assert!(Cosine.distance(&a, &[0.0, 0.0]).is_nan());
    }

    #[test]
    fn extreme_numbers_give_a_number_or_nan_and_no_panic() {
        let huge = [f32::MAX; 40];
        let tiny = [f32::MIN_POSITIVE / 2.0; 40];
        for metric in [Cosine, L2, InnerProduct, L1] {
            metric.distance(&huge, &tiny);
            metric.distance(&huge, &huge);
            metric.distance(&tiny, &tiny);
        }
        assert_eq!(L2.distance(&huge, &tiny), f64::INFINITY);
    }
}
