//! How far a statement is from where it cannot be taken back.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits;

/// What a session tells of its running statement to whoever may interrupt it.
#[derive(Debug, Default)]
pub struct Commitment(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Its outcome is being written, or is.
    written: bool,
    /// Answers of models that are being written just now.
    settling: usize,
    /// When the last of them was.
    settled: Option<Instant>,
}

/// Whether a statement may be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Yes.
    Free,
    /// No: to say "canceled" would be wrong, because its outcome may be on disk. It runs to its end.
    ToTheEnd,
    /// Not now: an answer that is paid for is being written, or was just now and is about to be given.
    /// Ask again.
    ForNow,
}

impl Commitment {
    /// A statement begins.
    pub fn begin(&self) {
        *self.0.lock() = State::default();
    }

    /// Whether the statement may be interrupted now.
    pub fn hold(&self) -> Hold {
        let state = *self.0.lock();
        let lately = |at: Instant| at.elapsed() < limits::ANSWER_GRACE;
        match state {
            State { written: true, .. } => Hold::ToTheEnd,
            State { settling: 1.., .. } => Hold::ForNow,
            State { settled: Some(at), .. } if lately(at) => Hold::ForNow,
            _ => Hold::Free,
        }
    }

    /// Whether an answer is being written at this moment.
    pub fn is_settling(&self) -> bool {
        self.0.lock().settling > 0
    }

    /// From here on its outcome is being written.
    pub fn no_return(&self) {
        self.0.lock().written = true;
    }

    /// An answer is being written until what this gives is dropped.
    pub fn settling(self: &Arc<Self>) -> Settling {
        self.0.lock().settling += 1;
        Settling(self.clone())
    }
}

/// How often to ask a [`Commitment`] again.
pub const HOLD_TICK: Duration = Duration::from_millis(5);

/// See [`Commitment::settling`].
#[derive(Debug)]
pub struct Settling(Arc<Commitment>);

impl Drop for Settling {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.settling = state.settling.saturating_sub(1);
        state.settled = Some(Instant::now());
    }
}
