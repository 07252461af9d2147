//! Whether the books balance: every counter against the lines and reservations it stands for.

use std::collections::HashMap;

use super::{
    Account,
    call::Call,
    state::{Place, Scope},
};
use crate::{
    error::{Code, Error, Result},
    ledger::{
        budget::Window,
        money::Nano,
        usage::{Class, UsageLine},
    },
    tenant::Table,
};

/// How often to start again because something was committed meanwhile.
const ATTEMPTS: usize = 1_000;

/// A counter that is not what lines and reservations add up to. Shows a defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imbalance {
    /// Which window.
    pub window: Window,
    /// The user, or the whole tenant.
    pub user: Option<String>,
    /// What the counter has: spent and reserved.
    pub counted: [Nano; 2],
    /// What lines and stored reservations add up to.
    pub found: [Nano; 2],
}

impl Account {
    /// Compares, on disk, the counters of the running windows with the usage lines and reservations of
    /// one and the same instant. Reads every line of the month.
    ///
    /// # Errors
    /// [`Code::SerializationFailure`] if commits never paused for long enough, [`Code::Corrupted`].
    pub fn audit(&self) -> Result<Vec<Imbalance>> {
        let terms = self.terms()?;
        let now = self.clock.now().wall;
        let windows = Window::ALL.map(|window| (window, window.span(terms.zone, now)));
        let starts = windows.map(|(window, span)| (window, span.start_micros));
        let witness = Place {
            scope: Scope::Tenant,
            window: Window::Month,
            start_micros: starts[Window::Month as usize].1,
        };
        let witness = witness.key(self.tenant());
        for _ in 0..ATTEMPTS {
            // Every commit that moves money of a month rewrites the month's counter.
            let before = self.tenant().get(Table::Counters, &witness)?.map(|found| found.version);
            let imbalances = self.compare(&starts)?;
            let after = self.tenant().get(Table::Counters, &witness)?.map(|found| found.version);
            if before == after {
                return Ok(imbalances);
            }
        }
        Err(Error::new(
            Code::SerializationFailure,
            "the books changed too often while they were read; try again",
        ))
    }

    fn compare(&self, starts: &[(Window, i64)]) -> Result<Vec<Imbalance>> {
        let tenant = self.tenant();
        let mut found: HashMap<Place, [Nano; 2]> = HashMap::new();
        let mut count = |user: &str, windows: &[(Window, i64)], at: usize, amount: Nano| -> Result<()> {
            for place in Place::of(user, windows) {
                let sums = found.entry(place).or_default();
                sums[at] = sums[at].plus(amount)?;
            }
            Ok(())
        };
        for stored in tenant.scan(Table::Usage, &[]) {
            let line = UsageLine::decode(&stored?.1.value)?;
            let running = starts.iter().filter(|(_, start)| line.at_micros >= *start);
            if line.operation.class() == Class::Llm {
                count(&line.user_id, &running.copied().collect::<Vec<_>>(), 0, line.cost)?;
            }
        }
        for stored in tenant.scan(Table::Reservations, &[]) {
            let call = Call::decode(&stored?.1.value)?;
            let running = call.windows.iter().filter(|window| starts.contains(window));
            count(&call.user, &running.copied().collect::<Vec<_>>(), 1, call.amount)?;
        }
        let mut imbalances = Vec::new();
        for (place, found) in found {
            let sums = tenant.sums(Table::Counters, &place.key(tenant))?.unwrap_or_default();
            let counted = [0, 1].map(|i| Nano(sums.0.get(i).copied().unwrap_or(0)));
            if counted != found {
                let user = match &place.scope {
                    Scope::Tenant => None,
                    Scope::User(name) => Some(name.to_string()),
                };
                imbalances.push(Imbalance {
                    window: place.window,
                    user,
                    counted,
                    found,
                });
            }
        }
        Ok(imbalances)
    }
}
