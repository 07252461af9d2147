//! Stopping statements: by CancelRequest, by `statement_timeout`, and when the server stops.
//!
//! A CancelRequest comes over a socket of its own and proves nothing but the knowledge of a key. Process
//! ids are random, keys are compared in constant time, and an address that guesses wrong soon has to wait.

use std::{
    collections::HashMap,
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use subtle::ConstantTimeEq;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{Stop, Trouble, presence::Presence};
use crate::{
    error::{Code, Error},
    limits,
    sql::{Commitment, HOLD_TICK, Hold, Watch},
};

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
const CANCELLED: u8 = 2;
/// Why a statement was cancelled.
const BY_USER: &str = "user request";
const BY_TIMEOUT: &str = "statement timeout";
/// Key bytes of protocol 3.0, and from 3.2 on.
const SHORT_KEY: usize = 4;
const LONG_KEY: usize = 32;

/// What a cancel request reaches of a connection.
#[derive(Default)]
pub(super) struct Interrupt {
    state: AtomicU8,
    notify: Notify,
    /// Of the running statement.
    deadline: Mutex<Option<Instant>>,
    /// Whether the connection must end.
    terminated: AtomicBool,
}

impl Watch for Interrupt {
    fn verdict(&self) -> Option<&'static str> {
        let late = || lock(&self.deadline).is_some_and(|deadline| Instant::now() >= deadline);
        match self.state.load(Ordering::SeqCst) {
            _ if self.terminated.load(Ordering::SeqCst) => Some(BY_USER),
            CANCELLED => Some(BY_USER),
            RUNNING if late() => Some(BY_TIMEOUT),
            _ => None,
        }
    }

    fn cancel(&self) {
        self.interrupt();
    }

    fn terminate(&self) {
        self.terminated.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }
}

impl Interrupt {
    /// A statement begins: only requests from now on count.
    fn begin(&self, deadline: Instant) {
        *lock(&self.deadline) = Some(deadline);
        self.state.store(RUNNING, Ordering::SeqCst);
    }

    fn end(&self) {
        self.state.store(IDLE, Ordering::SeqCst);
    }

    /// Stops the running statement; between statements nothing happens, as in PostgreSQL.
    fn interrupt(&self) {
        if self
            .state
            .compare_exchange(RUNNING, CANCELLED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            self.notify.notify_waiters();
        }
    }

    async fn cancelled(&self) {
        self.until(|| self.state.load(Ordering::SeqCst) == CANCELLED).await;
    }

    /// Returns once another session has ended this one.
    pub(super) async fn terminated(&self) {
        self.until(|| self.terminated.load(Ordering::SeqCst)).await;
    }

    async fn until(&self, so: impl Fn() -> bool) {
        loop {
            // Listening starts before the look, so that a cancel in between is not missed.
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if so() {
                return;
            }
            notified.await;
        }
    }
}

/// One running statement: everything it awaits goes through [`Running::run`].
pub(super) struct Running {
    interrupt: Arc<Interrupt>,
    stop: watch::Receiver<Stop>,
    /// Whether it can still be taken back: to stop it while its outcome is being written would be to answer
    /// "canceled" for what may be on disk. As in PostgreSQL it then runs to its end.
    commitment: Arc<Commitment>,
    deadline: Instant,
    /// Once it was interrupted, and nothing was being written any more: until when an answer that is paid for is
    /// waited for.
    patience: Option<Instant>,
    presence: Option<Arc<Presence>>,
}

impl Running {
    /// A statement begins now and may take `timeout`.
    pub(super) fn new(
        interrupt: &Arc<Interrupt>,
        stop: &watch::Receiver<Stop>,
        commitment: Arc<Commitment>,
        timeout: Duration,
    ) -> Self {
        let deadline = Instant::now() + timeout.min(limits::STATEMENT_TIMEOUT);
        interrupt.begin(deadline);
        commitment.begin();
        Self {
            interrupt: interrupt.clone(),
            stop: stop.clone(),
            commitment,
            deadline,
            patience: None,
            presence: None,
        }
    }

    /// Ends it also when the client is gone.
    pub(super) fn watching(mut self, presence: Arc<Presence>) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Runs a part of the statement until it is done, cancelled, out of time or the server stops. A panic
    /// in it is an error of this statement.
    pub(super) async fn run<T, E: Into<Trouble>>(
        &mut self,
        part: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Trouble> {
        let canceled = |why: &str| {
            let message = format!("canceling statement due to {why}");
            Trouble::Statement(Error::new(Code::QueryCanceled, message))
        };
        // A part that is always ready would never let the timer look at the clock.
        if Instant::now() >= self.deadline && self.commitment.hold() == Hold::Free {
            return Err(canceled(BY_TIMEOUT));
        }
        let mut part = std::pin::pin!(AssertUnwindSafe(part).catch_unwind());
        let ended = |result: Result<Result<T, E>, _>| match result {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(Trouble::Statement(panicked())),
        };
        // A part that computes without end uses up its share of each turn, and what is looked at after it
        // would then be told to wait: the clock must not be.
        let timeout = tokio::task::unconstrained(tokio::time::sleep_until(self.deadline));
        let presence = self.presence.clone();
        let gone = tokio::task::unconstrained(async move {
            match presence {
                Some(presence) => presence.ended().await,
                None => std::future::pending().await,
            }
        });
        let interruption = tokio::select! {
            biased;
            () = self.interrupt.terminated() => Trouble::Fatal(stopping()),
            () = self.interrupt.cancelled() => canceled(BY_USER),
            _ = self.stop.wait_for(|stop| *stop == Stop::Now) => Trouble::Fatal(stopping()),
            result = &mut part => return ended(result),
            () = timeout => canceled(BY_TIMEOUT),
            () = gone => Trouble::Gone,
        };
        loop {
            match self.commitment.hold() {
                Hold::ToTheEnd => return ended(part.await),
                Hold::Free => return Err(interruption),
                Hold::ForNow => {}
            }
            let until = match self.commitment.is_settling() {
                true => None,
                false => Some(
                    *self
                        .patience
                        .get_or_insert_with(|| Instant::now() + limits::ANSWER_GRACE),
                ),
            };
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(interruption);
            }
            let tick = tokio::task::unconstrained(tokio::time::sleep(HOLD_TICK));
            tokio::select! {
                biased;
                result = &mut part => return ended(result),
                () = tick => {}
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupt.end();
    }
}

/// The error of a panic. Its text may hold what rows hold, so it is told to nobody; the place where it
/// happened is in the log.
pub(super) fn panicked() -> Error {
    Error::internal("a statement or a connection panicked")
}

/// The farewell of a server that stops.
pub(super) fn stopping() -> Error {
    Error::new(Code::Shutdown, "terminating connection due to administrator command")
}

/// Which process ids and keys stop which connection.
#[derive(Default)]
pub(super) struct Cancels {
    connections: Mutex<HashMap<i32, Entry>>,
    guesses: Mutex<HashMap<IpAddr, Guesses>>,
}

struct Entry {
    key: Bytes,
    interrupt: Arc<Interrupt>,
}

/// Wrong guesses of one address, forgotten one by one.
struct Guesses {
    count: u32,
    since: Instant,
}

/// A connection's place in the registry, freed when dropped.
pub(super) struct Ticket {
    registry: Arc<Cancels>,
    pub(super) pid: i32,
    pub(super) key: Bytes,
    pub(super) interrupt: Arc<Interrupt>,
}

impl Cancels {
    /// A place for a connection, with a long key where the protocol has room for it.
    pub(super) fn register(self: &Arc<Self>, long: bool) -> Ticket {
        let key: [u8; LONG_KEY] = rand::random();
        let key = Bytes::copy_from_slice(if long { &key[..] } else { &key[..SHORT_KEY] });
        let interrupt = Arc::new(Interrupt::default());
        let mut connections = lock(&self.connections);
        let mut pid = rand::random_range(1..i32::MAX);
        while connections.contains_key(&pid) {
            pid = rand::random_range(1..i32::MAX);
        }
        connections.insert(
            pid,
            Entry {
                key: key.clone(),
                interrupt: interrupt.clone(),
            },
        );
        Ticket {
            registry: self.clone(),
            pid,
            key,
            interrupt,
        }
    }

    /// Cancels what runs on the connection with this id and key. Says nothing about the outcome, so that
    /// nothing can be learnt from it.
    pub(super) fn cancel(&self, peer: IpAddr, pid: i32, key: &[u8]) {
        if !self.may_guess(peer) {
            return;
        }
        let hit = match lock(&self.connections).get(&pid) {
            Some(entry) if bool::from(entry.key.ct_eq(key)) => Some(entry.interrupt.clone()),
            _ => None,
        };
        match hit {
            Some(interrupt) => interrupt.interrupt(),
            None => self.guessed_wrong(peer),
        }
    }

    fn may_guess(&self, peer: IpAddr) -> bool {
        lock(&self.guesses)
            .get(&peer)
            .is_none_or(|guesses| guesses.left(Instant::now()) < limits::CANCEL_GUESSES)
    }

    fn guessed_wrong(&self, peer: IpAddr) {
        let now = Instant::now();
        let mut guesses = lock(&self.guesses);
        if guesses.len() >= limits::THROTTLE_ENTRIES {
            guesses.retain(|_, guesses| guesses.left(now) > 0);
        }
        if guesses.len() >= limits::THROTTLE_ENTRIES {
            // So many addresses at once are one attacker: forgetting them all is no gift to it, since each
            // new address has free guesses anyway.
            guesses.clear();
        }
        let entry = guesses.entry(peer).or_insert(Guesses { count: 0, since: now });
        *entry = Guesses {
            count: entry.left(now) + 1,
            since: now,
        };
    }
}

impl Guesses {
    /// Wrong guesses that still count.
    fn left(&self, now: Instant) -> u32 {
        let forgotten = now.duration_since(self.since).as_millis() / limits::CANCEL_GUESS_INTERVAL.as_millis();
        self.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.registry.connections).remove(&self.pid);
    }
}

/// A map behind its lock; nothing that holds it panics halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn running(ticket: &Ticket, timeout: Duration) -> (Running, watch::Sender<Stop>) {
        let (sender, stop) = watch::channel(Stop::No);
        (Running::new(&ticket.interrupt, &stop, Arc::default(), timeout), sender)
    }

    async fn forever(running: &mut Running) -> String {
        match running.run(std::future::pending::<Result<(), Error>>()).await {
            Err(Trouble::Statement(error)) | Err(Trouble::Fatal(error)) => error.to_string(),
            _ => "went on".to_owned(),
        }
    }

    #[tokio::test]
    async fn only_the_right_key_stops_and_only_what_runs() {
        let cancels = Arc::new(Cancels::default());
        let ticket = cancels.register(false);
        assert_eq!(ticket.key.len(), SHORT_KEY);
        cancels.cancel(HERE, ticket.pid, &ticket.key);
        let (mut statement, _stop) = running(&ticket, Duration::from_millis(50));
        cancels.cancel(HERE, ticket.pid, b"nope");
        cancels.cancel(HERE, ticket.pid, b"");
        cancels.cancel(HERE, ticket.pid ^ 1, &ticket.key);
        assert_eq!(
            forever(&mut statement).await,
            "canceling statement due to statement timeout"
        );
        let (mut statement, _stop) = running(&ticket, Duration::from_secs(60));
        cancels.cancel(HERE, ticket.pid, &ticket.key);
        assert_eq!(forever(&mut statement).await, "canceling statement due to user request");
        drop(statement);
        let pid = ticket.pid;
        drop(ticket);
        assert!(!lock(&cancels.connections).contains_key(&pid));
    }

    #[tokio::test]
    async fn c24_guessing_ends_soon_and_elsewhere_nothing_changes() {
        let cancels = Arc::new(Cancels::default());
        let ticket = cancels.register(true);
        assert_eq!(ticket.key.len(), LONG_KEY);
        for guess in 0..limits::CANCEL_GUESSES {
            cancels.cancel(HERE, ticket.pid, &guess.to_be_bytes());
        }
        let (mut statement, _stop) = running(&ticket, Duration::from_millis(20));
        cancels.cancel(HERE, ticket.pid, &ticket.key);
        assert_eq!(
            forever(&mut statement).await,
            "canceling statement due to statement timeout"
        );
        let (mut statement, _stop) = running(&ticket, Duration::from_secs(60));
        cancels.cancel(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), ticket.pid, &ticket.key);
        assert_eq!(forever(&mut statement).await, "canceling statement due to user request");
    }

    #[tokio::test]
    async fn a_panic_and_a_stop_end_a_statement() {
        let ticket = Arc::new(Cancels::default()).register(false);
        let (mut statement, stop) = running(&ticket, Duration::from_secs(60));
        let fail = |secret: bool| if secret { panic!("secret") } else { Ok::<_, Error>(()) };
        let result = statement.run(async { fail(true) }).await;
        let Err(Trouble::Statement(error)) = result else {
            panic!("a panic is not an error of the statement")
        };
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("secret"));
        stop.send_replace(Stop::Now);
        assert_eq!(
            forever(&mut statement).await,
            "terminating connection due to administrator command"
        );
    }

    #[tokio::test]
    async fn what_computes_without_end_is_stopped() {
        let ticket = Arc::new(Cancels::default()).register(false);
        let (mut statement, _stop) = running(&ticket, Duration::from_millis(20));
        let endless = async {
            loop {
                tokio::task::coop::consume_budget().await;
            }
        };
        let result: Result<(), _> = statement.run::<_, Error>(endless).await;
        assert!(matches!(result, Err(Trouble::Statement(e)) if e.code() == Code::QueryCanceled));
    }

    #[tokio::test]
    async fn what_is_being_written_is_not_interrupted() {
        let cancels = Arc::new(Cancels::default());
        let ticket = cancels.register(false);
        let (mut statement, stop) = running(&ticket, Duration::from_millis(20));
        let commitment = statement.commitment.clone();
        let (cancel, key) = (cancels.clone(), ticket.key.clone());
        let pid = ticket.pid;
        let result = statement.run(async move {
            commitment.no_return();
            cancel.cancel(HERE, pid, &key);
            stop.send_replace(Stop::Now);
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok::<_, Error>("written")
        });
        assert!(matches!(result.await, Ok("written")));
        // And what it has to say is said.
        assert!(matches!(
            statement.run(async { Ok::<_, Error>("told") }).await,
            Ok("told")
        ));
        drop(statement);
        let (mut next, _stop) = running(&ticket, Duration::from_millis(20));
        assert_eq!(forever(&mut next).await, "canceling statement due to statement timeout");
    }

    /// An answer that is being written when the cancel comes is given; what goes on after it is not waited for.
    #[tokio::test]
    async fn an_answer_that_is_paid_for_is_given() {
        let cancels = Arc::new(Cancels::default());
        let ticket = cancels.register(false);
        for (computes_on, given) in [(Duration::from_millis(1), true), (Duration::from_secs(30), false)] {
            let (mut statement, _stop) = running(&ticket, Duration::from_secs(60));
            let commitment = statement.commitment.clone();
            let (cancel, pid, key) = (cancels.clone(), ticket.pid, ticket.key.clone());
            let result = statement.run(async move {
                let settling = commitment.settling();
                cancel.cancel(HERE, pid, &key);
                tokio::time::sleep(Duration::from_millis(200)).await; // a slow disk
                drop(settling);
                tokio::time::sleep(computes_on).await;
                Ok::<_, Error>("answer")
            });
            assert_eq!(matches!(result.await, Ok("answer")), given);
        }
    }
}
