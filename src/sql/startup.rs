//! A client's startup parameters as settings of its session.

use super::{session::Session, settings};
use crate::error::Result;

impl Session {
    /// Sets those that are settings; the rest is ignored.
    pub(super) fn start(&mut self, startup: &[(String, String)]) -> Result<()> {
        for (name, value) in startup {
            match name.as_str() {
                "options" => {
                    for (name, value) in settings::startup_options(value) {
                        self.set(&name, &value, false)?;
                    }
                }
                "user" | "database" | "replication" => {}
                // A driver sends its machine's time zone; times are shown in UTC and it is told so.
                "TimeZone" | "timezone" => {
                    let _ = self.set(name, value, false);
                }
                _ if settings::find(name).is_ok() => self.set(name, value.trim_matches('\''), false)?,
                _ => {}
            }
        }
        self.changed.clear();
        Ok(())
    }
}
