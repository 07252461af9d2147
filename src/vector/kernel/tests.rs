//! Every form of every loop that this processor can run, against the plain twin.

use proptest::prelude::*;

use super::*;

/// Deterministic numbers without a pattern that a loop could hide behind.
fn mixed(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

const TYPICAL: [usize; 10] = [192, 255, 256, 257, 384, 513, 768, 1024, 1536, 4096];

fn lengths() -> impl Iterator<Item = usize> {
    (0..=130).chain(TYPICAL)
}

/// Whether two sums are equal up to the rounding of additions in another order.
fn close(a: f32, b: f32, magnitude: f64) -> bool {
    a == b || f64::from((a - b).abs()) <= 1e-5 * magnitude + f64::from(f32::MIN_POSITIVE)
}

fn check_f32(a: &[f32], b: &[f32]) {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let exact: [f64; 3] = [
        pairs().map(|(x, y)| x * y).sum(),
        pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
        pairs().map(|(x, y)| (x - y).abs()).sum(),
    ];
    let magnitude: [f64; 3] = [pairs().map(|(x, y)| (x * y).abs()).sum(), exact[1], exact[2]];
    for kernel in available() {
        let got = [(kernel.dot)(a, b), (kernel.squared_l2)(a, b), (kernel.l1)(a, b)];
        for loop_no in 0..3 {
            // Beyond what f32 holds, order decides between a large number and infinity.
            if magnitude[loop_no] < f64::from(f32::MAX) / 4.0 {
                let twin = exact[loop_no] as f32;
                let fine = close(got[loop_no], twin, magnitude[loop_no]);
                assert!(fine, "{} loop {loop_no}, {} numbers: {got:?}", kernel.name, a.len());
            }
        }
    }
}

fn check_codes(a: &[i8], b: &[i8]) {
    for kernel in available() {
        let (name, n) = (kernel.name, a.len());
        assert_eq!((kernel.dot_bytes)(a, b), (PLAIN.dot_bytes)(a, b), "{name}, {n} codes");
        assert_eq!((kernel.l1_bytes)(a, b), (PLAIN.l1_bytes)(a, b), "{name}, {n} codes");
    }
}

#[test]
fn sums_of_numbers_agree_at_every_length_and_place() {
    let mut next = mixed(1);
    let mut number = || (next() % 2001) as f32 / 100.0 - 10.0;
    for n in lengths() {
        let a: Vec<f32> = (0..n + 3).map(|_| number()).collect();
        let b: Vec<f32> = (0..n + 3).map(|_| number()).collect();
        for skip in 0..3 {
            check_f32(&a[skip..skip + n], &b[3 - skip..3 - skip + n]);
        }
    }
}

#[test]
fn extreme_numbers_agree_and_never_panic() {
    let extremes = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::MIN_POSITIVE / 8.0,
        1e19,
        1e-20,
    ];
    let mut next = mixed(2);
    for n in lengths() {
        let mut pick = || extremes[next() as usize % extremes.len()];
        let a: Vec<f32> = (0..n).map(|_| pick()).collect();
        let b: Vec<f32> = (0..n).map(|_| pick()).collect();
        check_f32(&a, &b);
        for value in extremes {
            check_f32(&vec![value; n], &b);
        }
    }
}

#[test]
fn sums_of_codes_are_the_same_at_every_length_and_place() {
    let mut next = mixed(3);
    let mut code = || (next() % 255) as i8;
    for n in lengths() {
        let a: Vec<i8> = (0..n + 3).map(|_| code().max(-127)).collect();
        let b: Vec<i8> = (0..n + 3).map(|_| code().max(-127)).collect();
        for skip in 0..3 {
            check_codes(&a[skip..skip + n], &b[3 - skip..3 - skip + n]);
        }
        for (x, y) in [(127, 127), (-127, -127), (127, -127), (0, -127)] {
            check_codes(&vec![x; n], &vec![y; n]);
        }
    }
}

#[test]
fn plane_counts_are_the_same_for_every_number_of_words_and_rows() {
    let mut next = mixed(4);
    for words in (1..=35).chain([64, 250]) {
        for rows in [0, 1, 2, 5] {
            let planes: Vec<u64> = (0..words * PLANES).map(|_| next()).collect();
            for codes in [
                (0..words * rows).map(|_| next()).collect::<Vec<u64>>(),
                vec![u64::MAX; words * rows],
                vec![0; words * rows],
            ] {
                let mut twin = vec![0; rows];
                (PLAIN.planes)(&codes, &planes, &mut twin);
                for kernel in available() {
                    let mut out = vec![7; rows];
                    (kernel.planes)(&codes, &planes, &mut out);
                    assert_eq!(out, twin, "{}, {words} words", kernel.name);
                }
            }
        }
    }
    // All bits of all planes differ: each counts its weight.
    let mut out = [0];
    (PLAIN.planes)(&[u64::MAX], &[0; PLANES], &mut out);
    assert_eq!(out, [64 * 15]);
}

#[test]
fn the_processor_is_given_its_best_form() {
    assert_eq!(best().name, available().last().unwrap().name);
    prefetch(&[0u8; 200]);
    prefetch::<f32>(&[]);
    let large = vec![1u8; 5 << 20];
    large_pages(&large);
    assert!(large.iter().all(|byte| *byte == 1));
}

proptest! {
    #[test]
    fn any_numbers_agree(pairs in prop::collection::vec((any::<f32>(), any::<f32>()), 0..200)) {
        let finite = pairs.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        let (a, b): (Vec<f32>, Vec<f32>) = finite.unzip();
        check_f32(&a, &b);
    }
}
