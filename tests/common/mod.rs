//! What the black-box tests share: a real server on a directory of its own, clients that speak to it over a real
//! socket, and a search for secrets in everything that comes back. Nothing here uses the library.
#![allow(dead_code)] // each test binary uses a part

pub mod canary;
pub mod golden;
pub mod picture;
pub mod provider;
pub mod raw;
pub mod reference;
pub mod scram;
pub mod server;
pub mod tools;

use std::path::PathBuf;

/// A small seeded generator (SplitMix64), so that every run of a test does the same.
pub struct Seed(pub u64);

impl Seed {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// `n` lower-case letters and digits.
    pub fn word(&mut self, n: usize) -> String {
        (0..n)
            .map(|_| *self.pick(b"abcdefghijklmnopqrstuvwxyz0123456789") as char)
            .collect()
    }
}

/// A decimal amount of dollars as whole nano-dollars. Panics on more than nine digits after the point.
pub fn nano(amount: &str) -> i128 {
    let (sign, digits) = match amount.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, amount),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = part.trim_end_matches('0');
    assert!(part.len() <= 9, "{amount} has a fraction of a nano-dollar");
    let whole: i128 = whole.parse().unwrap_or_else(|_| panic!("{amount} is no amount"));
    let part: i128 = format!("{part:0<9}")
        .parse()
        .unwrap_or_else(|_| panic!("{amount} is no amount"));
    sign * (whole * 1_000_000_000 + part)
}

/// An SQL text literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Says on the error output, which cargo shows with `--nocapture`, that a test did not run.
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// The folder `tests/` of this package.
pub fn tests_dir() -> PathBuf {
    let here = PathBuf::from_iter([env!("CARGO_MANIFEST_DIR"), file!()]);
    here.ancestors()
        .nth(2)
        .expect("tests/common/mod.rs has two folders above")
        .to_owned()
}

/// A file of `../shared/data`, beside this repository, if it is there.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let path = tests_dir().join("../../shared/data").join(name);
    path.exists().then_some(path)
}
