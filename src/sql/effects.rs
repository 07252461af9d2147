//! What a transaction does beside writing rows: cursors, channels, notifications and locks that end, or take
//! effect, with it.

use super::{
    session::{Session, Status},
    world::World,
};

/// How much of it there was at each savepoint.
#[derive(Default)]
pub(super) struct Marks {
    savepoints: Vec<(String, Mark)>,
}

#[derive(Clone, Copy)]
struct Mark {
    /// Cursors declared before it.
    cursors: u64,
    /// Notifications said before it.
    said: usize,
    /// Channels asked for before it.
    listening: usize,
}

impl Marks {
    fn place(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(n, _)| n == name)
    }

    /// `RELEASE name`.
    pub(super) fn release(&mut self, name: &str) {
        if let Some(at) = self.place(name) {
            self.savepoints.truncate(at);
        }
    }
}

impl Session {
    /// `SAVEPOINT name`.
    pub(super) fn set_mark(&mut self, name: &str) {
        let mark = Mark {
            cursors: self.cursors.mark(),
            said: self.world.desk().said.lock().mark(),
            listening: self.listening.mark(),
        };
        self.marks.savepoints.push((name.to_owned(), mark));
    }

    /// `ROLLBACK TO name`.
    pub(super) fn roll_back_to_mark(&mut self, name: &str) {
        let Some(at) = self.marks.place(name) else { return };
        self.marks.savepoints.truncate(at + 1);
        let mark = self.marks.savepoints[at].1;
        self.cursors.roll_back_to(mark.cursors);
        self.world.desk().said.lock().take_back(mark.said);
        self.listening.take_back(mark.listening);
        self.list_cursors();
    }

    /// Whether each statement commits by itself.
    pub(super) fn is_idle(&self) -> bool {
        self.status == Status::Idle
    }

    /// The transaction ended.
    pub(super) fn end_effects(&mut self, committed: bool) {
        self.marks.savepoints.clear();
        if !committed {
            self.world.desk().builds.lock().clear();
        }
        self.world.desk().passing.lock().clear();
        self.end_listening(committed);
        self.cursors.end_transaction(committed);
        self.list_cursors();
    }

    /// `DISCARD ALL`: the session as it was after its login.
    pub(super) fn discard_all(&mut self) {
        self.drop_all_statements();
        self.reset_all();
        self.listening.stop();
        self.world.desk().channels.lock().clear();
        self.cursors.close_all();
        self.list_cursors();
        if let World::Tenant(world) = &*self.world
            && let Some(owner) = world.owner.get()
        {
            owner.unlock_session_all();
        }
    }
}
