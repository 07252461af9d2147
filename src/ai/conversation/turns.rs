//! One change of a conversation at a time, so that a commit that must not fail does not meet another.
//!
//! Correctness is the commit's: it expects the row as it was read, and whoever lost reads again.
//! Holding a [`Turn`] from reading to commit means never to lose, which matters where the batch also
//! settles a paid call.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use uuid::Uuid;

use super::Staged;

/// Names below this number are not worth looking for those that nobody uses any more.
const SWEEP_MIN: usize = 64;

type Name = (String, Uuid);

/// Who changes which conversation of one tenant.
#[derive(Default)]
pub struct Turns {
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    by_name: HashMap<Name, Weak<AsyncMutex<()>>>,
    sweep_at: usize,
}

/// The right to change some conversations until it is dropped.
#[derive(Debug, Default)]
pub struct Turn {
    _held: Vec<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn to change the conversations that these changes are about. Only one turn
    /// at a time: asking for a second while holding one may wait for ever.
    pub async fn hold(&self, staged: &Staged) -> Turn {
        let mut held = Vec::new();
        // In the order of their names, the same for all, so that no two wait for each other.
        for name in staged.names() {
            let lock = self.lock(name);
            held.push(lock.lock_owned().await);
        }
        Turn { _held: held }
    }

    fn lock(&self, name: &Name) -> Arc<AsyncMutex<()>> {
        let mut running = self.running.lock();
        if let Some(lock) = running.by_name.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        if running.by_name.len() >= running.sweep_at.max(SWEEP_MIN) {
            running.by_name.retain(|_, lock| lock.strong_count() > 0);
            running.sweep_at = running.by_name.len() * 2;
        }
        let lock = Arc::new(AsyncMutex::new(()));
        running.by_name.insert(name.clone(), Arc::downgrade(&lock));
        lock
    }
}
