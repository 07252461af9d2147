//! The sessions of one tenant, as far as they may know of each other: `pg_stat_activity`, `pg_cancel_backend`,
//! `pg_terminate_backend`. The number of another tenant's session is a number that nobody has.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    documents::now_micros,
    session::{Session, Status},
    world::{TenantState, TenantWorld, World},
    yielding::Watch,
};
use crate::{
    error::{Code, Error, Result},
    table::{LockInfo, Mode, Owner, Resource},
    tenant::Role,
};

/// A session as `pg_stat_activity` shows it. Times are microseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// The number that its client cancels it by.
    pub pid: i32,
    /// What its locks belong to; 0 before its first.
    pub owner: u64,
    /// Who logged in.
    pub user: String,
    /// `application_name`.
    pub application: String,
    /// When it logged in.
    pub started: i64,
    /// When its transaction began, if one is open.
    pub transaction_started: Option<i64>,
    /// When its last statement began.
    pub statement_started: Option<i64>,
    /// When `state` changed.
    pub changed: i64,
    /// `active`, `idle`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: &'static str,
    /// The text of its last statement.
    pub query: String,
}

struct Backend {
    activity: Mutex<Activity>,
    watch: Arc<dyn Watch>,
}

/// The sessions of one tenant.
#[derive(Default)]
pub(super) struct Backends(Mutex<HashMap<i32, Arc<Backend>>>);

/// A session's place among them, given back when dropped.
pub(super) struct Registered {
    backend: Arc<Backend>,
    state: Arc<TenantState>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let pid = self.backend.activity.lock().pid;
        self.state.backends.0.lock().remove(&pid);
    }
}

/// A lock as `pg_locks` shows it.
#[derive(Clone, Debug, Default)]
pub struct HeldLock {
    /// `advisory`, `relation`, `tuple`.
    pub kind: &'static str,
    /// The table that is locked, or of which a row is.
    pub relation: Option<i64>,
    /// The two numbers of an advisory lock, and 1 where they are one, 2 where they are two.
    pub advisory: Option<(i64, i64, i16)>,
    /// The session's number, if it may be known.
    pub pid: Option<i32>,
    /// As PostgreSQL calls it.
    pub mode: &'static str,
    /// Whether it is held, rather than waited for.
    pub granted: bool,
}

impl HeldLock {
    /// `None` for what PostgreSQL has no line for.
    fn of(lock: &LockInfo, sessions: &[Activity]) -> Option<Self> {
        let unsigned = |n: i32| i64::from(n.cast_unsigned());
        let (kind, relation, advisory) = match &lock.resource {
            Resource::Advisory(number) => {
                let (high, low) = ((number >> 32) as i32, *number as i32);
                ("advisory", None, Some((unsigned(high), unsigned(low), 1)))
            }
            Resource::AdvisoryPair(first, second) => ("advisory", None, Some((unsigned(*first), unsigned(*second), 2))),
            Resource::Table(table) => ("relation", Some(i64::from(*table)), None),
            Resource::Row(table, _) => ("tuple", Some(i64::from(*table)), None),
            Resource::Catalog | Resource::Key(..) => return None,
        };
        Some(Self {
            kind,
            relation,
            advisory,
            pid: sessions.iter().find(|s| s.owner == lock.owner).map(|s| s.pid),
            mode: match (lock.mode, kind) {
                (Mode::Exclusive, "relation") => "AccessExclusiveLock",
                (Mode::Exclusive | Mode::NoKeyExclusive, _) => "ExclusiveLock",
                (Mode::IntentWrite, _) => "RowExclusiveLock",
                (Mode::Shared, _) => "ShareLock",
                (Mode::KeyShared, _) => "RowShareLock",
            },
            granted: lock.granted,
        })
    }
}

/// The locks of a tenant; what a row's number is, is nobody's business.
pub(super) fn locks(world: &TenantWorld) -> Vec<HeldLock> {
    let Some(tables) = world.state.tables.get() else {
        return Vec::new();
    };
    let sessions: Vec<Activity> = world.state.backends.all();
    let locks = tables.locks().list();
    locks.iter().filter_map(|lock| HeldLock::of(lock, &sessions)).collect()
}

/// How a session is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Its statement.
    Cancel,
    /// All of it.
    Terminate,
}

impl Backends {
    fn all(&self) -> Vec<Activity> {
        let all = self.0.lock();
        all.values().map(|backend| backend.activity.lock().clone()).collect()
    }

    /// The sessions that a user may see: all of them for an owner, else the user's own.
    pub(super) fn list(&self, world: &TenantWorld) -> Vec<Activity> {
        let mut list = self.all();
        list.retain(|activity| world.user.role == Role::Owner || activity.user == world.user.name);
        list.sort_by_key(|activity| (activity.started, activity.pid));
        list
    }

    /// Signals a session of the tenant; false if there is none of this number.
    pub(super) fn signal(&self, world: &TenantWorld, pid: i32, signal: Signal) -> Result<bool> {
        let Some(backend) = self.0.lock().get(&pid).cloned() else {
            return Ok(false);
        };
        if world.user.role != Role::Owner && backend.activity.lock().user != world.user.name {
            let message = match signal {
                Signal::Cancel => "permission denied to cancel query",
                Signal::Terminate => "permission denied to terminate process",
            };
            let error = Error::new(Code::InsufficientPrivilege, message);
            return Err(error.with_hint("the session is another user's: ask an owner"));
        }
        match signal {
            Signal::Cancel => backend.watch.cancel(),
            Signal::Terminate => backend.watch.terminate(),
        }
        Ok(true)
    }
}

impl Session {
    /// Lets the tenant's other sessions know of this one.
    pub(super) fn register(&mut self, pid: i32, watch: Arc<dyn Watch>) {
        let World::Tenant(world) = &*self.world else { return };
        let now = now_micros();
        let backend = Arc::new(Backend {
            activity: Mutex::new(Activity {
                pid,
                user: world.user.name.clone(),
                started: now,
                changed: now,
                state: "idle",
                ..Activity::default()
            }),
            watch,
        });
        world.state.backends.0.lock().insert(pid, backend.clone());
        self.registered = Some(Registered {
            backend,
            state: world.state.clone(),
        });
    }

    /// A statement begins.
    pub(super) fn show_active(&self, text: &str) {
        let Some(registered) = &self.registered else { return };
        let now = now_micros();
        let mut activity = registered.backend.activity.lock();
        if let World::Tenant(world) = &*self.world {
            activity.owner = world.owner.get().map_or(0, Owner::id);
        }
        activity.state = "active";
        activity.changed = now;
        activity.statement_started = Some(now);
        activity.transaction_started.get_or_insert(now);
        text.clone_into(&mut activity.query);
    }

    /// The client is asked for more.
    pub fn show_idle(&self) {
        let Some(registered) = &self.registered else { return };
        let mut activity = registered.backend.activity.lock();
        activity.state = match self.status {
            Status::Idle | Status::Implicit => {
                activity.transaction_started = None;
                "idle"
            }
            Status::Open => "idle in transaction",
            Status::Failed => "idle in transaction (aborted)",
        };
        activity.changed = now_micros();
        let settings = self.settings.lock();
        if let Ok(setting) = super::settings::find("application_name") {
            activity.application = settings.get(setting);
        }
    }
}
