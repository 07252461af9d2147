//! The inner loops: sums over two vectors or two codes, in the widest form the processor has.
//!
//! [`PLAIN`] is the twin that is right everywhere and that every other form is tested against. Which
//! form runs is decided once, by what the processor says of itself; sums of whole numbers are the
//! same in all forms, sums of `f32` differ by rounding.
//!
//! `unsafe` stands only in this folder, for loads of vector registers, calls of functions compiled
//! for features that have been seen to be there, and hints to the memory system.

use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

/// Bits to which a query's numbers are rounded when they meet one-bit codes.
pub(super) const PLANES: usize = 4;
/// Bytes that the processor moves between memory and its caches at once.
pub(super) const LINE_BYTES: usize = 64;

/// The loops for one processor. Two slices are of the same length; a longer one is cut.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Which form of each loop this is, for benchmarks and test failures.
    pub name: &'static str,
    /// Sum of products.
    pub dot: fn(&[f32], &[f32]) -> f32,
    /// Sum of squared differences.
    pub squared_l2: fn(&[f32], &[f32]) -> f32,
    /// Sum of absolute differences.
    pub l1: fn(&[f32], &[f32]) -> f32,
    /// Sum of products of one-byte codes, each of -127 to 127 (-128 gives a wrong sum).
    pub dot_bytes: fn(&[i8], &[i8]) -> i32,
    /// Sum of absolute differences of one-byte codes.
    pub l1_bytes: fn(&[i8], &[i8]) -> u32,
    /// For each row of one-bit codes, the sum over [`PLANES`] bit planes of `2^j` times the number of
    /// bits in which row and plane `j` differ. Planes follow each other; rows are as long as a plane.
    pub planes: fn(&[u64], &[u64], &mut [u32]),
}

/// Right on every processor.
pub(super) static PLAIN: Kernel = Kernel {
    name: "plain",
    dot: |a, b| sum(a, b, |x, y| x * y),
    squared_l2: |a, b| sum(a, b, |x, y| (x - y) * (x - y)),
    l1: |a, b| sum(a, b, |x, y| (x - y).abs()),
    dot_bytes: |a, b| a.iter().zip(b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum(),
    l1_bytes: |a, b| a.iter().zip(b).map(|(x, y)| u32::from(x.abs_diff(*y))).sum(),
    planes: |codes, planes, out| {
        let words = planes.len() / PLANES;
        for (code, out) in codes.chunks_exact(words.max(1)).zip(out) {
            *out = differing(code, planes, 0);
        }
    },
};

/// Independent sums, so that the compiler may use vector registers without reordering additions.
const LANES: usize = 32;

#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (blocks_a, rest_a) = a.as_chunks::<LANES>();
    let (blocks_b, rest_b) = b.as_chunks::<LANES>();
    for (block_a, block_b) in blocks_a.iter().zip(blocks_b) {
        for lane in 0..LANES {
            sums[lane] += term(block_a[lane], block_b[lane]);
        }
    }
    if blocks_a.len() == blocks_b.len() {
        for (sum, (x, y)) in sums.iter_mut().zip(rest_a.iter().zip(rest_b)) {
            *sum += term(*x, *y);
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}

/// One row of [`Kernel::planes`], from a word on.
#[inline(always)]
fn differing(code: &[u64], planes: &[u64], from: usize) -> u32 {
    let words = code.len();
    let mut total = 0;
    for word in from..words {
        for plane in 0..PLANES {
            total += (code[word] ^ planes[plane * words + word]).count_ones() << plane;
        }
    }
    total
}

/// The fastest loops this processor can run.
#[inline]
pub(super) fn best() -> &'static Kernel {
    static BEST: LazyLock<Kernel> = LazyLock::new(|| available().pop().unwrap_or(PLAIN));
    &BEST
}

/// Every form that this processor can run, the fastest last.
pub(super) fn available() -> Vec<Kernel> {
    #[allow(unused_mut)]
    let mut all = vec![PLAIN];
    #[cfg(target_arch = "x86_64")]
    x86::add_available(&mut all);
    #[cfg(target_arch = "aarch64")]
    neon::add_available(&mut all);
    all
}

/// Asks for the cache lines of `values`, which are about to be read.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = values.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(values)).step_by(LINE_BYTES) {
            // SAFETY: a hint that reads nothing; the address lies inside `values`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Asks the system to keep a large allocation in large pages: random reads of vectors then seldom
/// miss the processor's cache of page addresses. Without effect where that is not possible.
pub(super) fn large_pages<T>(values: &[T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4 << 10;
        const LARGE_PAGE: usize = 2 << 20;
        const MADV_HUGEPAGE: i32 = 14;
        unsafe extern "C" {
            fn madvise(address: *mut std::ffi::c_void, length: usize, advice: i32) -> i32;
        }
        let start = (values.as_ptr() as usize).next_multiple_of(PAGE);
        let end = (values.as_ptr() as usize + size_of_val(values)) & !(PAGE - 1);
        if end.saturating_sub(start) >= LARGE_PAGE {
            // SAFETY: whole pages inside memory that `values` borrows; the advice changes neither what
            // is there nor whether it may be read. A failure leaves everything as it was.
            unsafe { madvise(start as *mut std::ffi::c_void, end - start, MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = values;
}
