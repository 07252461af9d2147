//! Two clocks: the wall's, by which windows and bills go, and a steady one, by which limits refill.

use std::{fmt, sync::Arc, time::Instant};

use crate::ledger::usage::now_micros;

type Micros = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Where an account reads the time. Moments are microseconds.
#[derive(Clone)]
pub struct Clock {
    wall: Micros,
    steady: Micros,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        let started = Instant::now();
        Self::new(now_micros, move || {
            i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX)
        })
    }

    /// `wall` counts since 1970 UTC and may be set forward and back; `steady` counts since any moment
    /// and only grows.
    pub fn new(
        wall: impl Fn() -> i64 + Send + Sync + 'static,
        steady: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            wall: Arc::new(wall),
            steady: Arc::new(steady),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: (self.wall)(),
            steady: (self.steady)(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(..)")
    }
}

/// One reading of both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub wall: i64,
    pub steady: i64,
}
