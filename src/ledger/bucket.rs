//! Token buckets (leaky buckets as meters) in integers, with continuous refill.
//!
//! A bucket holds at most `capacity` units and fills at `capacity` units a period. The level is kept
//! in units times microseconds of the period, in which one microsecond refills exactly `capacity`:
//! nothing is ever rounded, so whatever is asked in whatever steps, what was taken and not refunded
//! never exceeds capacity + capacity x time / period.

use serde::{Deserialize, Serialize};

const MINUTE_MICROS: i64 = 60_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// What is limited by a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Dimension {
    /// Tokens of prompts and answers, a minute.
    TokensPerMinute,
    /// The same a day: any 24 hours, not the calendar's.
    TokensPerDay,
    /// Calls a minute.
    RequestsPerMinute,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Dimension; 3] = [
        Dimension::TokensPerMinute,
        Dimension::TokensPerDay,
        Dimension::RequestsPerMinute,
    ];

    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokensPerMinute => "tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::RequestsPerMinute => "requests_per_minute",
        }
    }

    /// How long an empty bucket takes to fill.
    pub const fn period_micros(self) -> i64 {
        match self {
            Self::TokensPerMinute | Self::RequestsPerMinute => MINUTE_MICROS,
            Self::TokensPerDay => DAY_MICROS,
        }
    }
}

/// One bucket. Moments are microseconds of a clock of the caller's; one that steps back refills
/// nothing until it has passed where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    capacity: i64,
    period_micros: i64,
    /// Units x microseconds: `capacity x period_micros` is full.
    level: i128,
    at_micros: i64,
}

/// What is stored of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    capacity: i64,
    level: i128,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// The bucket never holds that much.
    Never,
    /// It does after this many microseconds, if nobody else takes.
    For {
        /// Exact: one microsecond less is too early.
        micros: i64,
    },
}

impl Bucket {
    /// A full one.
    pub fn full(capacity: i64, period_micros: i64, now_micros: i64) -> Self {
        let capacity = capacity.max(0);
        Self {
            capacity,
            period_micros,
            level: i128::from(capacity) * i128::from(period_micros),
            at_micros: now_micros,
        }
    }

    /// One that was stored `elapsed_micros` ago by a clock that may have been put back since.
    pub fn restored(stored: Level, capacity: i64, period_micros: i64, elapsed_micros: i64, now_micros: i64) -> Self {
        let mut bucket = Self::full(stored.capacity, period_micros, 0);
        bucket.level = stored.level.clamp(0, bucket.most());
        bucket.refill(elapsed_micros);
        bucket.at_micros = now_micros;
        bucket.resize(capacity);
        bucket
    }

    /// What to store.
    pub fn stored(&self) -> Level {
        Level {
            capacity: self.capacity,
            level: self.level,
        }
    }

    fn most(&self) -> i128 {
        i128::from(self.capacity) * i128::from(self.period_micros)
    }

    /// Fills up to a moment.
    pub fn refill(&mut self, now_micros: i64) {
        if now_micros > self.at_micros {
            let elapsed = i128::from(now_micros) - i128::from(self.at_micros);
            self.level = self.most().min(self.level + elapsed * i128::from(self.capacity));
            self.at_micros = now_micros;
        }
    }

    /// Another capacity from now on: what was taken stays taken.
    pub fn resize(&mut self, capacity: i64) {
        let capacity = capacity.max(0);
        if capacity != self.capacity {
            let taken = self.most() - self.level;
            self.capacity = capacity;
            self.level = (self.most() - taken).max(0);
        }
    }

    /// Whether `units` are there. Takes nothing; call [`Bucket::refill`] first.
    ///
    /// # Errors
    /// [`Short`].
    pub fn check(&self, units: i64) -> Result<(), Short> {
        if units > self.capacity {
            return Err(Short::Never);
        }
        let missing = i128::from(units) * i128::from(self.period_micros) - self.level;
        if missing <= 0 {
            return Ok(());
        }
        // capacity > 0 here, and the quotient is at most a period
        let micros = missing.div_euclid(i128::from(self.capacity))
            + i128::from(missing.rem_euclid(i128::from(self.capacity)) > 0);
        Err(Short::For {
            micros: i64::try_from(micros).unwrap_or(i64::MAX),
        })
    }

    /// Takes `units` that [`Bucket::check`] has found.
    pub fn take(&mut self, units: i64) {
        self.level -= i128::from(units) * i128::from(self.period_micros);
    }

    /// Gives back what was taken and not used. What does not fit any more is lost.
    pub fn refund(&mut self, units: i64) {
        let units = i128::from(units.max(0)) * i128::from(self.period_micros);
        self.level = self.most().min(self.level + units);
    }

    /// Most units it can hold.
    pub fn capacity(&self) -> i64 {
        self.capacity
    }

    /// Whole units that could be taken now.
    pub fn remaining(&self) -> i64 {
        i64::try_from(self.level.max(0) / i128::from(self.period_micros)).unwrap_or(i64::MAX)
    }

    /// Microseconds until it is full, if nobody takes.
    pub fn full_in_micros(&self) -> i64 {
        match self.check(self.capacity) {
            Err(Short::For { micros }) => micros,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    };

    use proptest::prelude::*;

    use super::*;

    fn take(bucket: &mut Bucket, now: i64, units: i64) -> Result<(), Short> {
        bucket.refill(now);
        bucket.check(units)?;
        bucket.take(units);
        Ok(())
    }

    #[test]
    fn f14_a_retry_at_the_named_moment_passes_and_one_before_it_does_not() {
        let mut bucket = Bucket::full(1_000, MINUTE_MICROS, 0);
        take(&mut bucket, 0, 1_000).unwrap();
        assert_eq!(bucket.check(1), Err(Short::For { micros: 60_000 }));
        assert_eq!(bucket.check(1_000), Err(Short::For { micros: MINUTE_MICROS }));
        assert_eq!(bucket.check(1_001), Err(Short::Never));
        assert!(take(&mut bucket, 59_999, 1).is_err());
        assert_eq!(take(&mut bucket, 60_000, 1), Ok(()));
        let mut odd = Bucket::full(7, MINUTE_MICROS, 0);
        take(&mut odd, 0, 7).unwrap();
        let Err(Short::For { micros }) = odd.check(3) else {
            panic!()
        };
        assert_eq!(micros, 25_714_286); // 3/7 of a minute, rounded up
        assert!(take(&mut odd.clone(), micros - 1, 3).is_err());
        assert_eq!(take(&mut odd, micros, 3), Ok(()));
    }

    #[test]
    fn what_was_taken_stays_taken_when_the_capacity_changes() {
        let mut bucket = Bucket::full(100, MINUTE_MICROS, 0);
        bucket.take(30);
        bucket.resize(200);
        assert_eq!((bucket.capacity(), bucket.remaining()), (200, 170));
        bucket.resize(20);
        assert_eq!(bucket.remaining(), 0);
        bucket.refill(MINUTE_MICROS);
        assert_eq!(bucket.remaining(), 20);
        bucket.resize(0);
        assert_eq!(bucket.check(1), Err(Short::Never));
        assert_eq!(bucket.check(0), Ok(()));
        assert_eq!(Bucket::full(-5, MINUTE_MICROS, 0).check(1), Err(Short::Never));
    }

    #[test]
    fn a_refund_never_fills_beyond_the_brim() {
        let mut bucket = Bucket::full(100, MINUTE_MICROS, 0);
        bucket.take(40);
        bucket.refill(MINUTE_MICROS);
        bucket.refund(40);
        assert_eq!(bucket.remaining(), 100);
        bucket.take(40);
        bucket.refund(10);
        bucket.refund(-1_000);
        assert_eq!(bucket.remaining(), 70);
        assert_eq!(bucket.full_in_micros(), 18_000_000);
    }

    #[test]
    fn f12_a_restart_gains_what_time_gives_and_nothing_more() {
        let mut bucket = Bucket::full(100, MINUTE_MICROS, 500);
        bucket.take(100);
        let stored = bucket.stored();
        let back = |elapsed| Bucket::restored(stored, 100, MINUTE_MICROS, elapsed, 7).remaining();
        assert_eq!(back(0), 0);
        assert_eq!(back(-DAY_MICROS), 0, "the clock was put back");
        assert_eq!(back(30_000_000), 50);
        assert_eq!(back(i64::MAX), 100);
        assert_eq!(Bucket::restored(stored, 300, MINUTE_MICROS, 0, 7).remaining(), 200);
    }

    /// 10⁶ decisions of 8 threads whose clock is stepped both ways while they run.
    #[test]
    fn f10_admitted_is_never_above_burst_and_rate_times_time() {
        const THREADS: u64 = 8;
        const DECISIONS: u64 = 125_000;
        let (capacity, period) = (1_000, 1_000_000);
        let clock = AtomicI64::new(0);
        // bucket, units taken, latest moment seen, refused
        let shared = Mutex::new((Bucket::full(capacity, period, 0), 0_i64, 0_i64, 0_u64));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (clock, shared) = (&clock, &shared);
                scope.spawn(move || {
                    let mut seed = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(thread + 1);
                    for _ in 0..DECISIONS {
                        seed ^= seed << 13;
                        seed ^= seed >> 7;
                        seed ^= seed << 17;
                        let step = match seed % 100 {
                            0 => -5_000,
                            1 => 6_000,
                            _ => (seed % 20) as i64,
                        };
                        let now = clock.fetch_add(step, Ordering::Relaxed) + step;
                        let units = (seed >> 32) as i64 % 50 + 1;
                        let mut shared = shared.lock().unwrap();
                        let (bucket, taken, latest, refused) = &mut *shared;
                        *latest = now.max(*latest);
                        match take(bucket, now, units) {
                            Ok(()) => *taken += units,
                            Err(_) => *refused += 1,
                        }
                        let bound =
                            i128::from(capacity) * i128::from(period) + i128::from(*latest) * i128::from(capacity);
                        assert!(i128::from(*taken) * i128::from(period) <= bound);
                    }
                });
            }
        });
        let (bucket, taken, latest, refused) = shared.into_inner().unwrap();
        let bound = capacity + latest * capacity / period;
        println!(
            "{} decisions, {THREADS} threads: {taken} units admitted of {bound} at most, {refused} refused",
            THREADS * DECISIONS
        );
        assert!(
            refused > 100_000 && taken > 5 * capacity,
            "both outcomes were met: {taken} {refused}"
        );
        assert!(bucket.level >= 0 && latest > period);
    }

    proptest! {
        #[test]
        fn any_order_of_takes_refunds_and_steps_stays_within_the_bound(
            capacity in 1_i64..1_000_000,
            period in 1_i64..DAY_MICROS,
            steps in prop::collection::vec((-1_000_000_i64..1_000_000_i64, 0_i64..2_000_000, 0_i64..100), 1..200),
        ) {
            let mut bucket = Bucket::full(capacity, period, 0);
            let (mut now, mut latest, mut net) = (0_i64, 0_i64, 0_i128);
            for (step, units, unused) in steps {
                now += step;
                latest = latest.max(now);
                let before = { bucket.refill(now); bucket.clone() };
                match take(&mut bucket, now, units) {
                    Ok(()) => {
                        net += i128::from(units);
                        let unused = units * unused / 100;
                        bucket.refund(unused);
                        net -= i128::from(unused);
                    }
                    Err(short) => {
                        prop_assert_eq!(&bucket, &before, "a denial takes nothing");
                        match short {
                            Short::Never => prop_assert!(units > capacity),
                            Short::For { micros } => {
                                let at = before.at_micros;
                                prop_assert!(take(&mut before.clone(), at + micros - 1, units).is_err());
                                prop_assert!(take(&mut before.clone(), at + micros, units).is_ok());
                            }
                        }
                    }
                }
                let bound = i128::from(capacity) * (i128::from(period) + i128::from(latest));
                prop_assert!(net * i128::from(period) <= bound);
                prop_assert!(bucket.level >= 0 && bucket.level <= bucket.most());
            }
        }
    }
}
