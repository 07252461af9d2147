//! The loops for x86-64: AVX2 with FMA, and AVX-512 with what it has of VNNI and VPOPCNTDQ.

use std::arch::x86_64::*;

use super::{Kernel, PLANES, differing};

/// Adds what this processor can run, slower before faster.
pub(super) fn add_available(all: &mut Vec<Kernel>) {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") || !is_x86_feature_detected!("popcnt") {
        return;
    }
    // SAFETY, for all calls in this function: a loop is put into a kernel only after the processor has
    // said that it has every feature the loop is compiled for, and the loops need nothing else.
    let mut kernel = Kernel {
        name: "avx2",
        dot: |a, b| unsafe { avx2_dot(a, b) },
        squared_l2: |a, b| unsafe { avx2_squared_l2(a, b) },
        l1: |a, b| unsafe { avx2_l1(a, b) },
        dot_bytes: |a, b| unsafe { avx2_dot_bytes(a, b) },
        l1_bytes: |a, b| unsafe { avx2_l1_bytes(a, b) },
        planes: |codes, planes, out| unsafe { avx2_planes(codes, planes, out) },
    };
    all.push(kernel);
    if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("avx512bw") {
        return;
    }
    kernel.name = "avx512";
    kernel.dot = |a, b| unsafe { avx512_dot(a, b) };
    kernel.squared_l2 = |a, b| unsafe { avx512_squared_l2(a, b) };
    kernel.l1 = |a, b| unsafe { avx512_l1(a, b) };
    kernel.l1_bytes = |a, b| unsafe { avx512_l1_bytes(a, b) };
    all.push(kernel);
    if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vpopcntdq") {
        kernel.name = "avx512 with vnni and vpopcntdq";
        kernel.dot_bytes = |a, b| unsafe { avx512_dot_bytes(a, b) };
        kernel.planes = |codes, planes, out| unsafe { avx512_planes(codes, planes, out) };
        all.push(kernel);
    }
}

/// Numbers in an AVX2 register.
const F32S: usize = 8;
/// Numbers in an AVX-512 register.
const F32S_512: usize = 16;

macro_rules! avx2_sum {
    ($name:ident, |$acc:ident, $x:ident, $y:ident| $step:expr, |$u:ident, $v:ident| $term:expr) => {
        #[target_feature(enable = "avx2,fma")]
        fn $name(a: &[f32], b: &[f32]) -> f32 {
            let n = a.len().min(b.len());
            let mut sums = [_mm256_setzero_ps(); 4];
            let mut i = 0;
            while i + 4 * F32S <= n {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let at = i + lane * F32S;
                    // SAFETY: at + 8 <= n, which is at most the length of either slice.
                    let ($x, $y) = unsafe {
                        (
                            _mm256_loadu_ps(a.as_ptr().add(at)),
                            _mm256_loadu_ps(b.as_ptr().add(at)),
                        )
                    };
                    let $acc = *sum;
                    *sum = $step;
                }
                i += 4 * F32S;
            }
            while i + F32S <= n {
                // SAFETY: as above.
                let ($x, $y) = unsafe {
                    (
                        _mm256_loadu_ps(a.as_ptr().add(i)),
                        _mm256_loadu_ps(b.as_ptr().add(i)),
                    )
                };
                let $acc = sums[0];
                sums[0] = $step;
                i += F32S;
            }
            let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
            let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
            let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
            let mut total = _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
            for ($u, $v) in a[i..n].iter().zip(&b[i..n]) {
                total += $term;
            }
            total
        }
    };
}

avx2_sum!(avx2_dot, |acc, x, y| _mm256_fmadd_ps(x, y, acc), |u, v| u * v);
avx2_sum!(
    avx2_squared_l2,
    |acc, x, y| {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, acc)
    },
    |u, v| (u - v) * (u - v)
);
avx2_sum!(
    avx2_l1,
    |acc, x, y| _mm256_add_ps(acc, _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(x, y))),
    |u, v| (u - v).abs()
);

#[target_feature(enable = "avx2")]
fn avx2_add_i32(sum: __m256i) -> i32 {
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_11_10>(sum));
    _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_00_01>(sum)))
}

#[target_feature(enable = "avx2")]
fn avx2_add_i64(sum: __m256i) -> u64 {
    let sum = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    _mm_cvtsi128_si64(_mm_add_epi64(sum, _mm_unpackhi_epi64(sum, sum))) as u64
}

/// Codes in an AVX2 register.
const BYTES: usize = 32;

#[target_feature(enable = "avx2")]
fn avx2_dot_bytes(a: &[i8], b: &[i8]) -> i32 {
    let n = a.len().min(b.len());
    let ones = _mm256_set1_epi16(1);
    let mut sum = _mm256_setzero_si256();
    let mut i = 0;
    while i + BYTES <= n {
        // SAFETY: i + 32 <= n, which is at most the length of either slice.
        let (x, y) = unsafe {
            (
                _mm256_loadu_si256(a.as_ptr().add(i).cast()),
                _mm256_loadu_si256(b.as_ptr().add(i).cast()),
            )
        };
        // Pairs of products of up to 127 fit into 16 bits with a sign.
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        i += BYTES;
    }
    avx2_add_i32(sum) + (super::PLAIN.dot_bytes)(&a[i..n], &b[i..n])
}

#[target_feature(enable = "avx2")]
fn avx2_l1_bytes(a: &[i8], b: &[i8]) -> u32 {
    let n = a.len().min(b.len());
    let flip = _mm256_set1_epi8(-128);
    let mut sum = _mm256_setzero_si256();
    let mut i = 0;
    while i + BYTES <= n {
        // SAFETY: i + 32 <= n, which is at most the length of either slice.
        let (x, y) = unsafe {
            (
                _mm256_loadu_si256(a.as_ptr().add(i).cast()),
                _mm256_loadu_si256(b.as_ptr().add(i).cast()),
            )
        };
        let differences = _mm256_sad_epu8(_mm256_xor_si256(x, flip), _mm256_xor_si256(y, flip));
        sum = _mm256_add_epi64(sum, differences);
        i += BYTES;
    }
    avx2_add_i64(sum) as u32 + (super::PLAIN.l1_bytes)(&a[i..n], &b[i..n])
}

/// Words of one-bit codes in an AVX2 register.
const WORDS: usize = 4;

#[target_feature(enable = "avx2,popcnt")]
fn avx2_planes(codes: &[u64], planes: &[u64], out: &mut [u32]) {
    let words = planes.len() / PLANES;
    let nibble = _mm256_set1_epi8(0x0f);
    // How many bits each half byte has.
    let counts = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    for (code, out) in codes.chunks_exact(words.max(1)).zip(out) {
        let mut sum = _mm256_setzero_si256();
        let mut i = 0;
        while i + WORDS <= words {
            // SAFETY: i + 4 <= words, the length of `code`.
            let x = unsafe { _mm256_loadu_si256(code.as_ptr().add(i).cast()) };
            // By doubling, from the highest plane down: at most 8 * 15 a byte.
            let mut weighted = _mm256_setzero_si256();
            for plane in (0..PLANES).rev() {
                // SAFETY: plane * words + i + 4 <= PLANES * words, at most the length of `planes`.
                let y = unsafe { _mm256_loadu_si256(planes.as_ptr().add(plane * words + i).cast()) };
                let bits = _mm256_xor_si256(x, y);
                let low = _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, nibble));
                let high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble));
                weighted = _mm256_add_epi8(_mm256_add_epi8(weighted, weighted), _mm256_add_epi8(low, high));
            }
            sum = _mm256_add_epi64(sum, _mm256_sad_epu8(weighted, _mm256_setzero_si256()));
            i += WORDS;
        }
        *out = avx2_add_i64(sum) as u32 + differing(code, planes, i);
    }
}

macro_rules! avx512_sum {
    ($name:ident, |$acc:ident, $x:ident, $y:ident| $step:expr) => {
        #[target_feature(enable = "avx512f")]
        fn $name(a: &[f32], b: &[f32]) -> f32 {
            let n = a.len().min(b.len());
            let mut sums = [_mm512_setzero_ps(); 4];
            let mut i = 0;
            while i + 4 * F32S_512 <= n {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let at = i + lane * F32S_512;
                    // SAFETY: at + 16 <= n, which is at most the length of either slice.
                    let ($x, $y) = unsafe {
                        (
                            _mm512_loadu_ps(a.as_ptr().add(at)),
                            _mm512_loadu_ps(b.as_ptr().add(at)),
                        )
                    };
                    let $acc = *sum;
                    *sum = $step;
                }
                i += 4 * F32S_512;
            }
            while i < n {
                let mask = ((1u32 << (n - i).min(F32S_512)) - 1) as u16;
                // SAFETY: only the n - i or 16 numbers of the mask are read; the others are zeros, which
                // add nothing to any of the sums.
                let ($x, $y) = unsafe {
                    (
                        _mm512_maskz_loadu_ps(mask, a.as_ptr().add(i)),
                        _mm512_maskz_loadu_ps(mask, b.as_ptr().add(i)),
                    )
                };
                let $acc = sums[0];
                sums[0] = $step;
                i += F32S_512;
            }
            _mm512_reduce_add_ps(_mm512_add_ps(
                _mm512_add_ps(sums[0], sums[1]),
                _mm512_add_ps(sums[2], sums[3]),
            ))
        }
    };
}

avx512_sum!(avx512_dot, |acc, x, y| _mm512_fmadd_ps(x, y, acc));
avx512_sum!(avx512_squared_l2, |acc, x, y| {
    let difference = _mm512_sub_ps(x, y);
    _mm512_fmadd_ps(difference, difference, acc)
});
avx512_sum!(avx512_l1, |acc, x, y| _mm512_add_ps(
    acc,
    _mm512_abs_ps(_mm512_sub_ps(x, y))
));

/// Codes in an AVX-512 register.
const BYTES_512: usize = 64;

/// The lowest `count` bits of 64, all from 64 on.
#[inline(always)]
fn low_bits(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn avx512_dot_bytes(a: &[i8], b: &[i8]) -> i32 {
    let n = a.len().min(b.len());
    let flip = _mm512_set1_epi8(-128);
    // The instruction multiplies bytes without a sign by bytes with one: 128 is added to each of `a`,
    // and 128 times the sum of `b` taken away. Lanes that are not read hold a 0 of `b`.
    let mut sums = [_mm512_setzero_si512(); 2];
    let mut of_b = [_mm512_setzero_si512(); 2];
    let mut i = 0;
    while i + 2 * BYTES_512 <= n {
        for lane in 0..2 {
            let at = i + lane * BYTES_512;
            // SAFETY: at + 64 <= n, which is at most the length of either slice.
            let (x, y) = unsafe {
                (
                    _mm512_loadu_si512(a.as_ptr().add(at).cast()),
                    _mm512_loadu_si512(b.as_ptr().add(at).cast()),
                )
            };
            sums[lane] = _mm512_dpbusd_epi32(sums[lane], _mm512_xor_si512(x, flip), y);
            of_b[lane] = _mm512_dpbusd_epi32(of_b[lane], flip, y);
        }
        i += 2 * BYTES_512;
    }
    while i < n {
        let mask = low_bits(n - i);
        // SAFETY: only the n - i or 64 codes of the mask are read.
        let (x, y) = unsafe {
            (
                _mm512_maskz_loadu_epi8(mask, a.as_ptr().add(i)),
                _mm512_maskz_loadu_epi8(mask, b.as_ptr().add(i)),
            )
        };
        sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_xor_si512(x, flip), y);
        of_b[0] = _mm512_dpbusd_epi32(of_b[0], flip, y);
        i += BYTES_512;
    }
    let sum = _mm512_add_epi32(sums[0], sums[1]);
    // `flip` read without a sign is 128.
    _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, _mm512_add_epi32(of_b[0], of_b[1])))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn avx512_l1_bytes(a: &[i8], b: &[i8]) -> u32 {
    let n = a.len().min(b.len());
    let flip = _mm512_set1_epi8(-128);
    let mut sum = _mm512_setzero_si512();
    let mut i = 0;
    while i < n {
        let mask = low_bits(n - i);
        // SAFETY: only the n - i or 64 codes of the mask are read; the others are equal zeros.
        let (x, y) = unsafe {
            (
                _mm512_maskz_loadu_epi8(mask, a.as_ptr().add(i)),
                _mm512_maskz_loadu_epi8(mask, b.as_ptr().add(i)),
            )
        };
        let differences = _mm512_sad_epu8(_mm512_xor_si512(x, flip), _mm512_xor_si512(y, flip));
        sum = _mm512_add_epi64(sum, differences);
        i += BYTES_512;
    }
    _mm512_reduce_add_epi64(sum) as u32
}

/// Words of one-bit codes in an AVX-512 register.
const WORDS_512: usize = 8;

#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn avx512_planes(codes: &[u64], planes: &[u64], out: &mut [u32]) {
    let words = planes.len() / PLANES;
    for (code, out) in codes.chunks_exact(words.max(1)).zip(out) {
        let mut sum = _mm512_setzero_si512();
        let mut i = 0;
        while i < words {
            let mask = low_bits((words - i).min(WORDS_512)) as u8;
            // SAFETY: only the words - i or 8 words of the mask are read, all of them inside `code`.
            let x = unsafe { _mm512_maskz_loadu_epi64(mask, code.as_ptr().add(i).cast()) };
            let mut weighted = _mm512_setzero_si512();
            for plane in (0..PLANES).rev() {
                // SAFETY: as above, inside the words of this plane.
                let y = unsafe { _mm512_maskz_loadu_epi64(mask, planes.as_ptr().add(plane * words + i).cast()) };
                let count = _mm512_popcnt_epi64(_mm512_xor_si512(x, y));
                weighted = _mm512_add_epi64(_mm512_add_epi64(weighted, weighted), count);
            }
            sum = _mm512_add_epi64(sum, weighted);
            i += WORDS_512;
        }
        *out = _mm512_reduce_add_epi64(sum) as u32;
    }
}
