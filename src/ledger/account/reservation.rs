//! [`Reservation`]: permission to call a model once, and the duty to say how it ended.

use std::{fmt, sync::Arc};

use uuid::Uuid;

use super::{
    Account,
    call::{Call, End},
};
use crate::{
    error::{Error, Result},
    ledger::{money::Nano, usage::UsageLine},
    tenant::Batch,
};

/// What is set aside for one call. Settle it. Dropped unsettled (the client cancelled, a panic), it
/// settles in the background as cancelled, with the input charged.
pub struct Reservation {
    account: Arc<Account>,
    call: Option<Arc<Call>>,
}

impl Reservation {
    pub(super) fn new(account: Arc<Account>, call: Arc<Call>) -> Self {
        Self {
            account,
            call: Some(call),
        }
    }

    /// Id of the usage line that will be.
    pub fn id(&self) -> Uuid {
        self.call.as_ref().map_or(Uuid::nil(), |call| call.id)
    }

    /// Most that it can cost.
    pub fn reserved(&self) -> Nano {
        self.call.as_ref().map_or(Nano::ZERO, |call| call.amount)
    }

    /// The line that [`Reservation::settle`] writes for this end.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`](crate::error::Code::NumericOutOfRange).
    pub fn line(&self, end: &End) -> Result<UsageLine> {
        let call = self
            .call
            .as_ref()
            .ok_or_else(|| Error::internal("a reservation was settled twice"))?;
        call.line(end)
    }

    /// Writes how the call ended: its usage line, the sums, what is free again and `extra` are one
    /// commit. The charge is never above what was reserved: what `end` claims beyond is cut off, and
    /// the line is flagged. Happens even if the caller stops waiting.
    ///
    /// # Errors
    /// Those of a commit. If `extra` was why it failed, the line is written without it.
    pub async fn settle(mut self, end: End, extra: Batch) -> Result<UsageLine> {
        let Some(call) = self.call.take() else {
            return Err(Error::internal("a reservation was settled twice"));
        };
        let account = self.account.clone();
        let closing = self.account.runtime.spawn(account.close(call, end, Some(extra)));
        closing.await.map_err(Error::internal)?
    }

    /// The call never went out.
    fn void(mut self) {
        if let Some(call) = self.call.take() {
            self.account.runtime.spawn(self.account.clone().void(call));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let end = call.given_up();
            self.account.runtime.spawn(self.account.clone().close(call, end, None));
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({}, {})", self.id(), self.reserved())
    }
}

/// A reservation on its way to who asked for it. If nobody takes it, no call was made and nothing is
/// charged.
pub(super) struct Handed(Option<Reservation>);

impl Handed {
    pub fn new(reservation: Reservation) -> Self {
        Self(Some(reservation))
    }

    pub fn take(mut self) -> Option<Reservation> {
        self.0.take()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(reservation) = self.0.take() {
            reservation.void();
        }
    }
}
