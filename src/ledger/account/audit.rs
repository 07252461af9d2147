//! Whether the books balance: every counter against the lines and reservations it stands for.

use std::collections::HashMap;

use super::{
    Account,
    call::Call,
    opening,
    state::{Place, Scope},
};
use crate::{
    error::{Code, Error, Result},
    ledger::{
        budget::{Span, Window},
        money::Nano,
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
        let witness = Place {
            scope: Scope::Tenant,
            window: Window::Month,
            start_micros: windows[Window::Month as usize].1.start_micros,
        };
        let witness = witness.key(self.tenant());
        for _ in 0..ATTEMPTS {
            // Every commit that moves money of a month rewrites the month's counter.
            let before = self.tenant().get(Table::Counters, &witness)?.map(|found| found.version);
            let imbalances = self.compare(&windows)?;
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

    fn compare(&self, windows: &[(Window, Span)]) -> Result<Vec<Imbalance>> {
        let tenant = self.tenant();
        let mut found: HashMap<Place, [Nano; 2]> = HashMap::new();
        for (place, spent) in opening::spent(tenant, windows)? {
            found.entry(place).or_default()[0] = spent;
        }
        for stored in tenant.scan(Table::Reservations, &[]) {
            let call = Call::decode(&stored?.1.value)?;
            let starts = windows.iter().map(|(window, span)| (*window, span.start_micros));
            let running = starts.filter(|window| call.windows.contains(window));
            for place in Place::of(&call.user, &running.collect::<Vec<_>>()) {
                let sums = found.entry(place).or_default();
                sums[1] = sums[1].plus(call.amount)?;
            }
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
