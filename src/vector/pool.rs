//! What the vectors of all tenants share: memory, and the threads that arrange them. It holds nothing of a tenant but
//! how many bytes something of it takes and when that was last searched.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use super::turns::{Queue, Turns};

/// See the module.
pub struct Pool {
    turns: Arc<Turns>,
    /// Bytes that all shares together may take.
    limit: usize,
    bytes: AtomicUsize,
    members: Mutex<Vec<Weak<dyn Member>>>,
    /// Whether a thread makes room.
    settling: AtomicBool,
    start: Instant,
}

/// What may be taken out of memory: it can be read again.
pub trait Member: Send + Sync {
    /// What it takes.
    fn share(&self) -> &Share;

    /// Takes it out of memory; false if that is not possible now.
    fn evict(&self) -> bool;
}

/// What one member takes of a pool. Given back when it is dropped.
pub struct Share {
    pool: Arc<Pool>,
    bytes: AtomicUsize,
    /// Milliseconds from the pool's start to the last search.
    used: AtomicU64,
}

impl Pool {
    /// With room for so many bytes of vectors.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::of_machine(),
            limit,
            bytes: AtomicUsize::new(0),
            members: Mutex::default(),
            settling: AtomicBool::new(false),
            start: Instant::now(),
        })
    }

    /// A tenant's place among those whose vectors are arranged.
    pub fn queue(&self) -> Arc<Queue> {
        Queue::new(self.turns.clone())
    }

    /// Bytes that all shares together may take.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Of something that was searched just now, and takes nothing yet.
    pub fn share(self: &Arc<Self>) -> Share {
        let share = Share {
            pool: self.clone(),
            bytes: AtomicUsize::new(0),
            used: AtomicU64::new(0),
        };
        share.touch();
        share
    }

    /// Lets a member be taken out of memory when there is too little.
    pub fn join(&self, member: Weak<dyn Member>) {
        let mut members = self.members.lock();
        // Those that are gone go from here when they may be half of all.
        if members.len() == members.capacity() {
            members.retain(|member| member.strong_count() > 0);
        }
        members.push(member);
    }

    /// Takes out of memory what was not searched for longest, until the rest is within the limit.
    pub fn settle(&self) {
        if self.bytes() <= self.limit {
            return;
        }
        let members: Vec<Weak<dyn Member>> = {
            let mut members = self.members.lock();
            members.retain(|member| member.strong_count() > 0);
            members.clone()
        };
        let held = members.iter().filter_map(Weak::upgrade);
        let mut by_use: Vec<_> = held
            .map(|held| (held.share().used.load(Ordering::Relaxed), held))
            .collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (_, member) in by_use {
            if self.bytes() <= self.limit {
                break;
            }
            if member.share().bytes.load(Ordering::Relaxed) > 0 && member.evict() {
                // Before it is freed: somebody may still search it, and nobody finds it any more.
                member.share().set(0);
                tracing::debug!("vectors were taken out of memory");
            }
        }
    }

    fn settle_aside(self: &Arc<Self>) {
        if self.bytes() <= self.limit || self.settling.swap(true, Ordering::AcqRel) {
            return;
        }
        let pool = self.clone();
        let thread = std::thread::Builder::new().name("vectors-evict".to_owned());
        let begun = thread.spawn(move || {
            pool.settle();
            pool.settling.store(false, Ordering::Release);
        });
        if begun.is_err() {
            self.settling.store(false, Ordering::Release);
        }
    }
}

impl Share {
    /// To be called at every search.
    pub fn touch(&self) {
        let now = u64::try_from(self.pool.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    /// Tells how much it takes now; what is colder is taken out of memory, soon, where that is too much.
    pub fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if bytes > before {
            self.pool.bytes.fetch_add(bytes - before, Ordering::Relaxed);
            self.pool.settle_aside();
        } else if bytes < before {
            self.pool.bytes.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// What it shares.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Held {
        share: Share,
        here: AtomicBool,
        pinned: bool,
    }

    impl Member for Held {
        fn share(&self) -> &Share {
            &self.share
        }

        fn evict(&self) -> bool {
            !self.pinned && self.here.swap(false, Ordering::Relaxed)
        }
    }

    #[test]
    fn the_coldest_go_and_no_more_than_must() {
        let pool = Pool::new(1000);
        let held: Vec<Arc<Held>> = (0..6)
            .map(|i| {
                let held = Arc::new(Held {
                    share: pool.share(),
                    here: AtomicBool::new(true),
                    pinned: i == 1,
                });
                let member: Arc<dyn Member> = held.clone();
                pool.join(Arc::downgrade(&member));
                held
            })
            .collect();
        // Searched in this order, the second of them never let go.
        for (time, i) in [(1, 4), (2, 1), (3, 0), (4, 5), (5, 2), (6, 3)] {
            held[i].share.used.store(time, Ordering::Relaxed);
        }
        // As if no other thread made room.
        pool.settling.store(true, Ordering::Release);
        held.iter().for_each(|held| held.share.set(300));
        assert_eq!(pool.bytes(), 1800);
        pool.settle();
        let here: Vec<bool> = held.iter().map(|held| held.here.load(Ordering::Relaxed)).collect();
        assert_eq!(here, [false, true, true, true, false, false]);
        assert_eq!(pool.bytes(), 900);
        // Another thread does it where nobody waits for that.
        pool.settling.store(false, Ordering::Release);
        held[3].share.set(1001);
        let begun = Instant::now();
        while pool.bytes() > 1000 && begun.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        assert_eq!(pool.bytes(), 300, "the pinned one stays");
        drop(held);
        assert_eq!(pool.bytes(), 0);
        pool.settle();
        assert!(pool.members.lock().len() <= 6);
    }
}
