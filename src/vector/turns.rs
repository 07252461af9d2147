//! Work on shards beside searches: whose turn it is to keep a processor busy.
//!
//! Each tenant has one [`Queue`] and works on one of its shards at a time. Half of the processors are left to
//! statements; the other half goes round among the tenants that have work, a slice of time each, so that a build of
//! minutes does not make another tenant's build of seconds wait for its end.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Cancel, Due, Shard};

/// How long one tenant's work goes on while another's waits.
const SLICE: Duration = Duration::from_millis(100);
/// Tenants whose work has begun; that of others waits for one of these to end. Each is a thread.
const THREADS: usize = 32;

/// What the queues of all tenants share: processors, and nothing of a tenant.
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    /// Works that may run at the same time.
    processors: usize,
}

#[derive(Default)]
struct State {
    /// Works that run.
    running: usize,
    /// Works that wait for a processor, by number, the next one first.
    line: VecDeque<u64>,
    next: u64,
    threads: usize,
    /// Queues that wait for a thread.
    waiting: VecDeque<Arc<Queue>>,
}

/// Some work that may take minutes.
pub(super) trait Work: Send + Sync {
    /// Does a part of it, and calls `pause` every few milliseconds. Whether there is more to do.
    fn work(&self, pause: &mut dyn FnMut()) -> bool;
}

/// One tenant's work, in the order in which it came up.
pub struct Queue {
    turns: Arc<Turns>,
    works: Mutex<Works>,
}

#[derive(Default)]
struct Works {
    waiting: VecDeque<Arc<dyn Work>>,
    /// Whether a thread takes them, or will.
    taken: bool,
}

impl Turns {
    /// Half of the processors of this machine, at least one.
    pub fn of_machine() -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new((processors / 2).max(1))
    }

    pub(super) fn new(processors: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            processors,
        })
    }

    /// Has a thread take a queue's work, now or when one is free.
    fn admit(self: &Arc<Self>, queue: Arc<Queue>) {
        let mut state = self.state.lock();
        if state.threads >= THREADS {
            state.waiting.push_back(queue);
            return;
        }
        state.threads += 1;
        drop(state);
        let (turns, first) = (self.clone(), queue.clone());
        // A thread of its own: a build may take minutes, and the end of the process must not wait for it.
        let thread = std::thread::Builder::new().name("vectors".to_owned());
        if let Err(error) = thread.spawn(move || turns.run(first)) {
            tracing::warn!(%error, "vectors in memory are not arranged: there is no thread for it");
            self.state.lock().threads -= 1;
            queue.works.lock().taken = false;
        }
    }

    /// Works as long as there is work, for one queue after the other.
    fn run(&self, first: Arc<Queue>) {
        let mut queue = first;
        loop {
            let more = self.run_one(&queue);
            let mut state = self.state.lock();
            if more {
                state.waiting.push_back(queue);
            }
            match state.waiting.pop_front() {
                Some(next) => queue = next,
                None => {
                    state.threads -= 1;
                    return;
                }
            }
        }
    }

    /// Waits for a processor, behind all that wait already.
    fn wait(&self) {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.line.push_back(number);
        while state.running >= self.processors || state.line.front() != Some(&number) {
            self.changed.wait(&mut state);
        }
        state.line.pop_front();
        state.running += 1;
        drop(state);
        self.changed.notify_all();
    }

    fn give_back(&self) {
        self.state.lock().running -= 1;
        self.changed.notify_all();
    }

    /// Does some of a queue's work; whether it has more.
    fn run_one(&self, queue: &Queue) -> bool {
        let Some(work) = queue.works.lock().waiting.pop_front() else {
            return queue.is_left();
        };
        let mut turn = Turn::take(self);
        // What panics is not tried again, and others go on.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.work(&mut || turn.pass())));
        drop(turn);
        if let Ok(true) = worked {
            queue.works.lock().waiting.push_back(work);
        }
        queue.is_left()
    }
}

/// The right to keep a processor busy.
struct Turn<'a> {
    turns: &'a Turns,
    since: Instant,
}

impl<'a> Turn<'a> {
    fn take(turns: &'a Turns) -> Self {
        turns.wait();
        Self {
            turns,
            since: Instant::now(),
        }
    }

    /// Lets another have it, if its time is up and another waits.
    fn pass(&mut self) {
        if self.since.elapsed() < SLICE {
            return;
        }
        let others_wait = !self.turns.state.lock().line.is_empty();
        if others_wait {
            self.turns.give_back();
            self.turns.wait();
        }
        self.since = Instant::now();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.give_back();
    }
}

impl Queue {
    /// Without work.
    pub fn new(turns: Arc<Turns>) -> Arc<Self> {
        Arc::new(Self {
            turns,
            works: Mutex::default(),
        })
    }

    /// Adds work. Who adds it twice has it done twice.
    pub(super) fn add(self: &Arc<Self>, work: Arc<dyn Work>) {
        let mut works = self.works.lock();
        works.waiting.push_back(work);
        if !std::mem::replace(&mut works.taken, true) {
            drop(works);
            self.turns.admit(self.clone());
        }
    }

    /// Whether there is work; if not, the next one needs a thread again.
    fn is_left(&self) -> bool {
        let mut works = self.works.lock();
        works.taken = !works.waiting.is_empty();
        works.taken
    }
}

/// A shard that is arranged in the background.
pub struct Tended(Arc<Arranged>);

struct Arranged {
    shard: Shard,
    cancel: Cancel,
    /// Whether it is in a queue.
    queued: AtomicBool,
    /// Whether it is being worked on.
    working: AtomicBool,
    /// Called when something was done.
    then: OnceLock<Box<dyn Fn(Due) + Send + Sync>>,
}

impl Tended {
    /// Arranged when [`Tended::arrange`] is called.
    pub fn new(shard: Shard) -> Self {
        Self(Arc::new(Arranged {
            shard,
            cancel: Cancel::new(),
            queued: AtomicBool::new(false),
            working: AtomicBool::new(false),
            then: OnceLock::new(),
        }))
    }

    /// Has something called in the background after each piece of work, with what was done. Only the first counts.
    pub fn when_arranged(&self, then: impl Fn(Due) + Send + Sync + 'static) {
        let _ = self.0.then.set(Box::new(then));
    }

    /// Has searches made faster in the background, where something [would](Shard::due).
    pub fn arrange(&self, queue: &Arc<Queue>) {
        if self.0.shard.due().is_some() && !self.0.queued.swap(true, Ordering::SeqCst) {
            queue.add(self.0.clone());
        }
    }

    /// Whether it neither waits for work nor is worked on.
    pub fn is_at_rest(&self) -> bool {
        !self.0.queued.load(Ordering::SeqCst) && !self.0.working.load(Ordering::SeqCst)
    }
}

/// Says that a shard is worked on, as long as it is.
struct Working<'a>(&'a AtomicBool);

impl<'a> Working<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::SeqCst);
        Self(flag)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Deref for Tended {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.0.shard
    }
}

impl Drop for Tended {
    /// Nobody searches it any more: work on it ends.
    fn drop(&mut self) {
        self.0.cancel.cancel();
    }
}

impl Work for Arranged {
    fn work(&self, pause: &mut dyn FnMut()) -> bool {
        if self.cancel.is_cancelled() {
            return false;
        }
        let _working = Working::begin(&self.working);
        // From here on what is written asks for work of its own.
        self.queued.store(false, Ordering::SeqCst);
        let due = self.shard.due();
        let done = self.shard.work_with(&self.cancel, None, pause);
        if let (Ok(true), Some(due), Some(then)) = (&done, due, self.then.get()) {
            then(due);
        }
        match done {
            Ok(done) => done && self.shard.due().is_some() && !self.queued.swap(true, Ordering::SeqCst),
            Err(error) => {
                tracing::error!(%error, "vectors in memory could not be arranged; they are compared one by one");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Goes on until another work has been done, or for too long.
    struct Noisy(Arc<AtomicBool>, mpsc::Sender<bool>);
    struct Quick(Arc<AtomicBool>);

    impl Work for Noisy {
        fn work(&self, pause: &mut dyn FnMut()) -> bool {
            let begun = Instant::now();
            while !self.0.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
                pause();
            }
            self.1.send(self.0.load(Ordering::Relaxed)).unwrap();
            false
        }
    }

    impl Work for Quick {
        fn work(&self, _: &mut dyn FnMut()) -> bool {
            self.0.store(true, Ordering::Relaxed);
            false
        }
    }

    #[test]
    fn a_long_work_lets_anothers_short_one_pass() {
        let turns = Turns::new(1);
        let (done, (sender, receiver)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let (noisy, other) = (Queue::new(turns.clone()), Queue::new(turns));
        for _ in 0..3 {
            noisy.add(Arc::new(Noisy(done.clone(), sender.clone())));
        }
        // It runs.
        std::thread::sleep(Duration::from_millis(20));
        other.add(Arc::new(Quick(done)));
        for _ in 0..3 {
            assert!(receiver.recv_timeout(Duration::from_secs(30)).unwrap());
        }
    }

    /// Counts how many run at the same time.
    struct Counted {
        running: Arc<Mutex<(usize, usize)>>,
        left: Mutex<usize>,
        done: mpsc::Sender<()>,
    }

    impl Work for Counted {
        fn work(&self, pause: &mut dyn FnMut()) -> bool {
            {
                let mut running = self.running.lock();
                running.0 += 1;
                running.1 = running.1.max(running.0);
            }
            std::thread::sleep(Duration::from_millis(2));
            self.running.lock().0 -= 1;
            pause();
            let mut left = self.left.lock();
            *left -= 1;
            if *left == 0 {
                self.done.send(()).unwrap();
            }
            *left > 0
        }
    }

    #[test]
    fn many_tenants_are_all_served_and_few_at_a_time() {
        let turns = Turns::new(2);
        let (running, (done, receiver)) = (Arc::new(Mutex::new((0, 0))), mpsc::channel());
        let queues: Vec<_> = (0..3 * THREADS).map(|_| Queue::new(turns.clone())).collect();
        for queue in &queues {
            queue.add(Arc::new(Counted {
                running: running.clone(),
                left: Mutex::new(3),
                done: done.clone(),
            }));
        }
        for _ in &queues {
            receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        assert!((1..=2).contains(&running.lock().1), "{:?}", running.lock());
        // Threads end, and a queue that was empty is served again.
        queues[0].add(Arc::new(Counted {
            running: running.clone(),
            left: Mutex::new(1),
            done,
        }));
        receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        let begun = Instant::now();
        while turns.state.lock().threads > 0 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let state = turns.state.lock();
        assert_eq!((state.threads, state.running, state.line.len()), (0, 0, 0));
    }

    #[test]
    fn a_shard_is_arranged_and_a_dropped_one_is_not() {
        let queue = Queue::new(Turns::new(1));
        let rows = super::super::shard_tests::grouped(600, 16, 3);
        let shard = Shard::new(super::super::Metric::L2, 16);
        shard.insert(&rows).unwrap();
        let tended = Tended::new(shard);
        assert!(tended.due().is_some());
        tended.arrange(&queue);
        let begun = Instant::now();
        while tended.due().is_some() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(tended.due().is_none());

        let again = Shard::new(super::super::Metric::L2, 16);
        again.insert(&rows).unwrap();
        let dropped = Tended::new(again);
        let arranged = dropped.0.clone();
        drop(dropped);
        assert!(!arranged.work(&mut || ()));
        assert!(arranged.shard.due().is_some());
    }
}
