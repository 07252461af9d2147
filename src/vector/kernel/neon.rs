//! The loops for 64-bit ARM, every one of which has NEON.

use std::arch::aarch64::*;

use super::{Kernel, PLAIN, PLANES, differing};

/// Adds the NEON form.
pub(super) fn add_available(all: &mut Vec<Kernel>) {
    if !std::arch::is_aarch64_feature_detected!("neon") {
        return;
    }
    // SAFETY, for all calls in this function: the processor has just said that it has NEON, which is
    // all that the loops need.
    all.push(Kernel {
        name: "neon",
        dot: |a, b| unsafe { dot(a, b) },
        squared_l2: |a, b| unsafe { squared_l2(a, b) },
        l1: |a, b| unsafe { l1(a, b) },
        dot_bytes: |a, b| unsafe { dot_bytes(a, b) },
        l1_bytes: |a, b| unsafe { l1_bytes(a, b) },
        planes: |codes, bits, out| unsafe { planes(codes, bits, out) },
    });
}

/// Numbers in a register.
const F32S: usize = 4;

macro_rules! sum {
    ($name:ident, |$acc:ident, $x:ident, $y:ident| $step:expr, |$u:ident, $v:ident| $term:expr) => {
        #[target_feature(enable = "neon")]
        fn $name(a: &[f32], b: &[f32]) -> f32 {
            let n = a.len().min(b.len());
            let mut sums = [vdupq_n_f32(0.0); 4];
            let mut i = 0;
            while i + 4 * F32S <= n {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let at = i + lane * F32S;
                    // SAFETY: at + 4 <= n, which is at most the length of either slice.
                    let ($x, $y) = unsafe { (vld1q_f32(a.as_ptr().add(at)), vld1q_f32(b.as_ptr().add(at))) };
                    let $acc = *sum;
                    *sum = $step;
                }
                i += 4 * F32S;
            }
            let sum = vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3]));
            let mut total = vaddvq_f32(sum);
            for ($u, $v) in a[i..n].iter().zip(&b[i..n]) {
                total += $term;
            }
            total
        }
    };
}

sum!(dot, |acc, x, y| vfmaq_f32(acc, x, y), |u, v| u * v);
sum!(
    squared_l2,
    |acc, x, y| {
        let difference = vsubq_f32(x, y);
        vfmaq_f32(acc, difference, difference)
    },
    |u, v| (u - v) * (u - v)
);
sum!(l1, |acc, x, y| vaddq_f32(acc, vabdq_f32(x, y)), |u, v| (u - v).abs());

/// Codes in a register.
const BYTES: usize = 16;

#[target_feature(enable = "neon")]
fn dot_bytes(a: &[i8], b: &[i8]) -> i32 {
    let n = a.len().min(b.len());
    let mut sum = vdupq_n_s32(0);
    let mut i = 0;
    while i + BYTES <= n {
        // SAFETY: i + 16 <= n, which is at most the length of either slice.
        let (x, y) = unsafe { (vld1q_s8(a.as_ptr().add(i)), vld1q_s8(b.as_ptr().add(i))) };
        sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        sum = vpadalq_s16(sum, vmull_high_s8(x, y));
        i += BYTES;
    }
    vaddvq_s32(sum) + (PLAIN.dot_bytes)(&a[i..n], &b[i..n])
}

#[target_feature(enable = "neon")]
fn l1_bytes(a: &[i8], b: &[i8]) -> u32 {
    let n = a.len().min(b.len());
    let mut sum = vdupq_n_u32(0);
    let mut i = 0;
    while i + BYTES <= n {
        // SAFETY: i + 16 <= n, which is at most the length of either slice.
        let (x, y) = unsafe { (vld1q_s8(a.as_ptr().add(i)), vld1q_s8(b.as_ptr().add(i))) };
        // A difference of 128 and more reads as negative; without a sign it is right.
        sum = vpadalq_u16(sum, vpaddlq_u8(vreinterpretq_u8_s8(vabdq_s8(x, y))));
        i += BYTES;
    }
    vaddvq_u32(sum) + (PLAIN.l1_bytes)(&a[i..n], &b[i..n])
}

/// Words of one-bit codes in a register.
const WORDS: usize = 2;

#[target_feature(enable = "neon")]
fn planes(codes: &[u64], planes: &[u64], out: &mut [u32]) {
    let words = planes.len() / PLANES;
    for (code, out) in codes.chunks_exact(words.max(1)).zip(out) {
        let mut total = 0;
        let mut i = 0;
        while i + WORDS <= words {
            // SAFETY: i + 2 <= words, the length of `code`.
            let x = unsafe { vld1q_u64(code.as_ptr().add(i)) };
            // By doubling, from the highest plane down: at most 8 * 15 a byte.
            let mut weighted = vdupq_n_u8(0);
            for plane in (0..PLANES).rev() {
                // SAFETY: plane * words + i + 2 <= PLANES * words, at most the length of `planes`.
                let y = unsafe { vld1q_u64(planes.as_ptr().add(plane * words + i)) };
                let count = vcntq_u8(vreinterpretq_u8_u64(veorq_u64(x, y)));
                weighted = vaddq_u8(vaddq_u8(weighted, weighted), count);
            }
            total += u32::from(vaddlvq_u8(weighted));
            i += WORDS;
        }
        *out = total + differing(code, planes, i);
    }
}
