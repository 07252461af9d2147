//! The prepared statements of a session.

use std::sync::Arc;

use super::{prepared::Prepared, session::Session};
use crate::{
    error::{Code, Error, Result},
    limits,
};

impl Session {
    /// The prepared statement of a name.
    pub fn statement(&self, name: &str) -> Option<Arc<Prepared>> {
        self.statements.get(name).cloned()
    }

    /// Keeps a prepared statement; the empty name is the unnamed one, which is replaced.
    ///
    /// # Errors
    /// 42P05 if the name is taken, 54000 at the limit.
    pub fn keep_statement(&mut self, name: &str, prepared: Arc<Prepared>) -> Result<()> {
        if !name.is_empty() {
            if self.statements.contains_key(name) {
                return Err(Error::new(
                    Code::DuplicatePrepared,
                    format!("prepared statement \"{name}\" already exists"),
                ));
            }
            if self.statements.len() >= limits::SESSION_STATEMENTS {
                return Err(Error::new(
                    Code::TooLarge,
                    format!("a session may hold {} prepared statements", limits::SESSION_STATEMENTS),
                )
                .with_hint("DEALLOCATE those that are no longer used"));
            }
            self.listed.lock().push((name.to_owned(), prepared.parsed.text.clone()));
        }
        self.statements.insert(name.to_owned(), prepared);
        Ok(())
    }

    /// Forgets a prepared statement; false if there was none.
    pub fn drop_statement(&mut self, name: &str) -> bool {
        self.listed.lock().retain(|(n, _)| n != name);
        self.statements.remove(name).is_some()
    }

    pub(super) fn drop_all_statements(&mut self) {
        self.listed.lock().clear();
        self.statements.clear();
        self.plans.clear();
    }
}
