//! Locks of one tenant's transactions: first come, first served, and nobody waits in a circle.
//!
//! Row modes and their conflicts are PostgreSQL's (FOR KEY SHARE, FOR SHARE, FOR NO KEY UPDATE, FOR UPDATE). A circle
//! is found when its last member begins to wait, and that one is refused: a request only ever waits for those that
//! hold the resource or asked for it before, so no circle closes later.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    key::Key,
    queues::Queues,
    schema::{Oid, RowId},
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// What is locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// All definitions of the tenant.
    Catalog,
    /// A table.
    Table(Oid),
    /// A row of a table.
    Row(Oid, RowId),
    /// A key of an index, be there a row or not.
    Key(Oid, Key),
    /// `pg_advisory_lock(bigint)`.
    Advisory(i64),
    /// `pg_advisory_lock(int, int)`.
    AdvisoryPair(i32, i32),
}

/// How it is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// The row's key stays: what a referencing row asks for.
    KeyShared,
    /// What is read stays.
    Shared,
    /// A table's rows will be written.
    IntentWrite,
    /// The row is changed, its key stays.
    NoKeyExclusive,
    /// Alone.
    Exclusive,
}

pub(super) const MODES: [Mode; 5] = [
    Mode::KeyShared,
    Mode::Shared,
    Mode::IntentWrite,
    Mode::NoKeyExclusive,
    Mode::Exclusive,
];

impl Mode {
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The modes that another may not hold at the same time.
    pub(super) const fn conflicts(self) -> u8 {
        match self {
            Self::KeyShared => Self::Exclusive.bit(),
            Self::Shared => Self::IntentWrite.bit() | Self::NoKeyExclusive.bit() | Self::Exclusive.bit(),
            Self::IntentWrite => Self::Shared.bit() | Self::NoKeyExclusive.bit() | Self::Exclusive.bit(),
            Self::NoKeyExclusive => !Self::KeyShared.bit(),
            Self::Exclusive => u8::MAX,
        }
    }

    /// Whether who holds these modes need not ask for this one.
    fn is_covered_by(self, held: u8) -> bool {
        let covers = |mode: &Mode| held & mode.bit() != 0 && self.conflicts() & !mode.conflicts() == 0;
        MODES.iter().any(covers)
    }
}

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Until it is there.
    Forever,
    /// Not at all.
    NoWait,
    /// Up to a moment.
    Until(Instant),
}

/// The locks of a tenant.
#[derive(Default)]
pub struct Locks {
    queues: Mutex<Queues>,
    owners: AtomicU64,
}

/// A place in the order of an owner's locks; for savepoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// Who holds locks: a session. All of them go with it.
pub struct Owner {
    id: u64,
    locks: Arc<Locks>,
    /// What was locked for the transaction, in order.
    held: Mutex<Vec<(Resource, Mode)>>,
    /// What was locked for the session.
    session: Mutex<Vec<(Resource, Mode)>>,
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Locks({} resources)", self.queues.lock().len())
    }
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Owner({} locks)", self.held.lock().len())
    }
}

/// A lock that is held or waited for, for `pg_locks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    /// What.
    pub resource: Resource,
    /// Whose, see [`Owner::id`].
    pub owner: u64,
    /// How.
    pub mode: Mode,
    /// Held, or waited for.
    pub granted: bool,
}

impl Locks {
    /// A new owner, which holds nothing.
    pub fn owner(self: &Arc<Self>) -> Owner {
        Owner {
            id: self.owners.fetch_add(1, Ordering::Relaxed) + 1,
            locks: self.clone(),
            held: Mutex::default(),
            session: Mutex::default(),
        }
    }

    /// Every lock that is held or waited for.
    pub fn list(&self) -> Vec<LockInfo> {
        self.queues.lock().list()
    }
}

impl Owner {
    /// Its number in [`Locks::list`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Locks until the end of the transaction, or until [`Owner::release_to`] a mark before. Dropping the future
    /// leaves the queue.
    ///
    /// # Errors
    /// [`Code::DeadlockDetected`], [`Code::LockNotAvailable`] when it may not wait (any longer),
    /// [`Code::OutOfMemory`] beyond [`limits::TRANSACTION_LOCKS`].
    pub async fn lock(&self, resource: Resource, mode: Mode, wait: Wait) -> Result<()> {
        if self.held_modes(&resource, mode) {
            return Ok(());
        }
        if self.held.lock().len() >= limits::TRANSACTION_LOCKS {
            return Err(Error::new(Code::OutOfMemory, "a transaction holds too many locks")
                .with_hint("lock the table, or change fewer rows at once"));
        }
        self.acquire(&resource, mode, wait, false).await?;
        self.held.lock().push((resource, mode));
        Ok(())
    }

    /// Whether the transaction need not ask.
    fn held_modes(&self, resource: &Resource, mode: Mode) -> bool {
        mode.is_covered_by(self.locks.queues.lock().of_transaction(self.id, resource))
    }

    /// Locks rows, in the order of their ids, so that two who want the same ones do not meet crosswise. For more than
    /// [`limits::ROW_LOCKS`] it locks the table [`Mode::Exclusive`] instead.
    ///
    /// # Errors
    /// Those of [`Owner::lock`].
    pub async fn lock_rows(&self, table: Oid, rows: &[RowId], mode: Mode, wait: Wait) -> Result<()> {
        if rows.len() > limits::ROW_LOCKS {
            return self.lock(Resource::Table(table), Mode::Exclusive, wait).await;
        }
        if self.held_modes(&Resource::Table(table), Mode::Exclusive) {
            return Ok(());
        }
        let mut sorted = rows.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        for row in sorted {
            self.lock(Resource::Row(table, row), mode, wait).await?;
        }
        Ok(())
    }

    /// Locks keys of a table's index; for more than [`limits::ROW_LOCKS`] the table [`Mode::Exclusive`] instead.
    ///
    /// # Errors
    /// Those of [`Owner::lock`].
    pub async fn lock_keys(&self, table: Oid, index: Oid, keys: &[Key], mode: Mode, wait: Wait) -> Result<()> {
        if keys.len().saturating_add(self.held.lock().len()) > limits::ROW_LOCKS {
            return self.lock(Resource::Table(table), Mode::Exclusive, wait).await;
        }
        let mut sorted: Vec<&Key> = keys.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        for key in sorted {
            self.lock(Resource::Key(index, key.clone()), mode, wait).await?;
        }
        Ok(())
    }

    /// Locks for the transaction if nothing stands against it.
    pub fn try_lock(&self, resource: Resource, mode: Mode) -> bool {
        if self.held_modes(&resource, mode) {
            return true;
        }
        let locked = self.try_acquire(&resource, mode, false);
        if locked {
            self.held.lock().push((resource, mode));
        }
        locked
    }

    /// Locks until [`Owner::unlock_session`], as often as it was locked.
    ///
    /// # Errors
    /// Those of [`Owner::lock`].
    pub async fn lock_session(&self, resource: Resource, mode: Mode, wait: Wait) -> Result<()> {
        if self.session.lock().len() >= limits::TRANSACTION_LOCKS {
            return Err(Error::new(Code::OutOfMemory, "a session holds too many locks"));
        }
        self.acquire(&resource, mode, wait, true).await?;
        self.session.lock().push((resource, mode));
        Ok(())
    }

    /// The same if nothing stands against it.
    pub fn try_lock_session(&self, resource: Resource, mode: Mode) -> bool {
        let room = self.session.lock().len() < limits::TRANSACTION_LOCKS;
        let locked = room && self.try_acquire(&resource, mode, true);
        if locked {
            self.session.lock().push((resource, mode));
        }
        locked
    }

    /// Gives back a lock of the session; false if it does not hold it.
    pub fn unlock_session(&self, resource: &Resource, mode: Mode) -> bool {
        let mut session = self.session.lock();
        let Some(at) = session.iter().rposition(|(held, how)| held == resource && *how == mode) else {
            return false;
        };
        session.remove(at);
        self.give_back(resource, mode, true);
        true
    }

    /// Gives back all locks of the session.
    pub fn unlock_session_all(&self) {
        for (resource, mode) in std::mem::take(&mut *self.session.lock()) {
            self.give_back(&resource, mode, true);
        }
    }

    /// Gives back all locks of the transaction.
    pub fn release_transaction(&self) {
        self.release_to(Mark(0));
    }

    /// How far it has come; for [`Owner::release_to`].
    pub fn mark(&self) -> Mark {
        Mark(self.held.lock().len())
    }

    /// Gives back what the transaction locked since.
    pub fn release_to(&self, mark: Mark) {
        let mut held = self.held.lock();
        let keep = mark.0.min(held.len());
        let released = held.split_off(keep);
        drop(held);
        for (resource, mode) in released.into_iter().rev() {
            self.give_back(&resource, mode, false);
        }
    }

    fn give_back(&self, resource: &Resource, mode: Mode, session: bool) {
        self.locks.queues.lock().release(self.id, resource, mode, session);
    }

    fn try_acquire(&self, resource: &Resource, mode: Mode, session: bool) -> bool {
        self.locks.queues.lock().try_lock(self.id, resource, mode, session)
    }

    async fn acquire(&self, resource: &Resource, mode: Mode, wait: Wait, session: bool) -> Result<()> {
        let (ticket, done) = {
            let mut queues = self.locks.queues.lock();
            if queues.try_lock(self.id, resource, mode, session) {
                return Ok(());
            }
            if matches!(wait, Wait::NoWait) {
                return Err(not_available(resource));
            }
            queues.wait(self.id, resource, mode, session).ok_or_else(|| {
                Error::new(Code::DeadlockDetected, "deadlock detected")
                    .with_detail("Transactions wait for each other's locks.")
                    .with_hint("run the transaction again")
            })?
        };
        let mut request = Request {
            owner: self,
            resource,
            mode,
            session,
            ticket,
            done,
            over: false,
        };
        match wait {
            Wait::Until(moment) => {
                if timeout_at(moment, &mut request.done).await.is_err() {
                    // It may have come at the last moment: then the request gives it back.
                    return Err(Error::new(
                        Code::LockNotAvailable,
                        "canceling statement due to lock timeout",
                    ));
                }
            }
            Wait::Forever | Wait::NoWait => {
                let _ = (&mut request.done).await;
            }
        }
        request.over = true;
        Ok(())
    }
}

/// A request that waits. Dropped before its end it leaves the queue, or gives back what it was given unseen.
struct Request<'a> {
    owner: &'a Owner,
    resource: &'a Resource,
    mode: Mode,
    session: bool,
    ticket: u64,
    done: oneshot::Receiver<()>,
    over: bool,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let waited = self
            .owner
            .locks
            .queues
            .lock()
            .leave(self.owner.id, self.ticket, self.resource);
        if !waited {
            self.owner.give_back(self.resource, self.mode, self.session);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.release_transaction();
        self.unlock_session_all();
    }
}

fn not_available(resource: &Resource) -> Error {
    let what = match resource {
        Resource::Row(..) => "row",
        Resource::Table(_) | Resource::Catalog | Resource::Key(..) => "relation",
        Resource::Advisory(_) | Resource::AdvisoryPair(..) => "resource",
    };
    Error::new(Code::LockNotAvailable, format!("could not obtain lock on {what}"))
}
