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
    tenant::Role,
};

/// A session as `pg_stat_activity` shows it. Times are microseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// The number that its client cancels it by.
    pub pid: i32,
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

/// How a session is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Its statement.
    Cancel,
    /// All of it.
    Terminate,
}

impl Backends {
    /// The sessions that a user may see: all of them for an owner, else the user's own.
    pub(super) fn list(&self, world: &TenantWorld) -> Vec<Activity> {
        let all = self.0.lock();
        let mut list: Vec<Activity> = all.values().map(|backend| backend.activity.lock().clone()).collect();
        drop(all);
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
