//! A client's startup parameters as settings of its session, and the settings that it is told of.

use super::{session::Session, settings};
use crate::error::Result;

impl Session {
    /// Sets those that are settings; the rest is ignored.
    pub(super) fn start(&mut self, startup: &[(String, String)]) -> Result<()> {
        for (name, value) in startup {
            match name.as_str() {
                "options" => {
                    for (name, value) in startup_options(value) {
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

    /// Settings to report since the last call.
    pub fn take_parameter_changes(&mut self) -> Vec<(&'static str, String)> {
        let mut settings = self.settings.lock();
        let mut changed = std::mem::take(&mut self.changed);
        changed.append(&mut settings.reported);
        changed.sort_unstable();
        changed.dedup();
        changed
            .into_iter()
            .filter_map(|name| Some((name, settings.get(settings::find(name).ok()?))))
            .collect()
    }

    /// Settings to report at login.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings.lock();
        settings::SETTINGS
            .iter()
            .filter(|s| s.reported)
            .map(|s| (s.name, settings.get(s)))
            .collect()
    }
}

/// `-c name=value -c name=value`, as libpq sends it in `options`.
fn startup_options(text: &str) -> Vec<(String, String)> {
    let mut words = text.split_whitespace();
    let mut pairs = Vec::new();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(rest) => Some(rest),
            None => word.strip_prefix("--"),
        };
        if let Some((name, value)) = pair.and_then(|p| p.split_once('=')) {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
    pairs
}
