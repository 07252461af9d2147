//! Waiting for a rate limit, first come first served.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Account, Admitted,
    call::Call,
    denial::{Admission, Retry},
    state::{Claim, Scope},
};
use crate::{error::Result, limits};

impl Account {
    /// Admits a call when its turn has come and the limits let it pass, or fails as soon as it is
    /// known that they will not in time.
    pub(super) async fn admit_in_turn(
        self: &Arc<Self>,
        call: &Call,
        durable: bool,
        wait: Duration,
    ) -> Result<Admission<Admitted>> {
        let deadline = Instant::now() + wait.min(limits::LIMIT_WAIT);
        let Ok(_first) = tokio::time::timeout_at(deadline, self.line.lock()).await else {
            // Others wait ahead of it: what keeps them keeps this one.
            return self.admit(call, durable, false).await;
        };
        // What comes free belongs to the first in line, not to those who do not wait.
        let _claimed = Claimed::of(self, call);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable(); // before the decision, so that nothing that is freed is missed
            let denial = match self.admit(call, durable, true).await? {
                Ok(admitted) => return Ok(Ok(admitted)),
                Err(denial) => denial,
            };
            let again = match denial.retry {
                Retry::Freed => deadline,
                Retry::After(micros) => {
                    let micros = u64::try_from(micros).unwrap_or(0);
                    Instant::now() + Duration::from_micros(micros).min(2 * limits::LIMIT_WAIT)
                }
            };
            if Instant::now() >= deadline || again > deadline {
                return Ok(Err(denial));
            }
            let _ = tokio::time::timeout_at(again, freed).await;
        }
    }
}

struct Claimed<'a>(&'a Account);

impl<'a> Claimed<'a> {
    fn of(account: &'a Account, call: &Call) -> Self {
        account.state().claim = Some(Claim {
            user: Scope::user(&call.user),
            tokens: call.tokens(),
        });
        Self(account)
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.0.state().claim = None;
    }
}
