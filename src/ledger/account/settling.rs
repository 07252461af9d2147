//! The end of calls: one commit each, whoever waits for it.

use std::sync::Arc;

use super::{
    Account, Commit,
    call::{Call, End},
};
use crate::{
    error::{Code, Result},
    ledger::{alert::Alert, books, money::Nano, usage::UsageLine},
    tenant::{Batch, Sums, Table},
};

/// A settlement on its way, and the alerts it sets off.
type Settling = (Commit, Vec<(Vec<u8>, Alert)>);

impl Account {
    /// Settles a call. Frees what it did not use at once, and the money when the line is durable.
    pub(super) async fn close(self: Arc<Self>, call: Arc<Call>, end: End, extra: Option<Batch>) -> Result<UsageLine> {
        let line = call.line(&end)?;
        let used = line.prompt_tokens.saturating_add(line.completion_tokens);
        self.state().release(call.id, call.tokens().saturating_sub(used), false);
        self.freed.notify_waiters();
        let had_extra = extra.as_ref().is_some_and(|extra| !extra.is_empty());
        let Err(error) = self.write(&line, extra).await else {
            self.write_overdue();
            return Ok(line);
        };
        // What the caller wanted beside it may be what failed: the money is written all the same.
        let written = match had_extra {
            true => self.write(&line, None).await.is_ok(),
            false => false,
        };
        if !written && error.code() != Code::InvalidAuthorization {
            tracing::warn!(%error, "a call cannot be settled yet; what it reserved stays reserved");
            self.state().unwritten.push(line);
        }
        Err(error)
    }

    async fn write(self: &Arc<Self>, line: &UsageLine, extra: Option<Batch>) -> Result<()> {
        let moving = self.moves.clone().read_owned().await;
        let (commit, alerts) = self.settling(line, extra)?;
        let outcome = commit.await;
        {
            let mut state = self.state();
            match &outcome {
                Ok(()) => state.settled(line),
                Err(_) => state.not_settled(line, &alerts),
            }
        }
        drop(moving);
        if outcome.is_ok() {
            self.tell(&alerts);
        }
        outcome
    }

    fn settling(&self, line: &UsageLine, extra: Option<Batch>) -> Result<Settling> {
        let terms = self
            .terms()
            .inspect_err(|error| tracing::error!(%error, "a call is settled without a look at thresholds"))
            .ok();
        let now = self.clock.now();
        let mut batch = self.tenant().batch();
        books::record(&mut batch, line)?;
        let mut state = self.state();
        let prompt = state.held.get(&line.id).and_then(|held| held.call.prompt.clone());
        (self.recorder)(line, prompt.as_deref(), &mut batch);
        let alerts = state.settle_into(self.tenant(), terms.as_ref(), &mut batch, line, now)?;
        if let Some(extra) = extra {
            batch.merge(extra);
        }
        Ok((self.submit(batch), alerts))
    }

    /// Tries again what could not be written, now that something could.
    fn write_overdue(self: &Arc<Self>) {
        for line in std::mem::take(&mut self.state().unwritten) {
            let account = self.clone();
            self.runtime.spawn(async move {
                if account.write(&line, None).await.is_err() {
                    account.state().unwritten.push(line);
                }
            });
        }
    }

    /// Forgets a call that was reserved and never went out.
    pub(super) async fn void(self: Arc<Self>, call: Arc<Call>) {
        let moving = self.moves.clone().read_owned().await;
        let now = self.clock.now();
        let commit = {
            let mut state = self.state();
            let held = state.held.get(&call.id).map(|held| (held.durable, held.places.clone()));
            let Some((durable, places)) = held else { return };
            state.release(call.id, call.tokens(), true);
            durable.then(|| {
                let mut batch = self.tenant().batch();
                batch.delete(Table::Reservations, call.id.as_bytes());
                for place in &places {
                    let sums = Sums(vec![Nano::ZERO.0, -call.amount.0]);
                    place.add(self.tenant(), &mut batch, &sums);
                }
                state
                    .store_levels(self.tenant(), &mut batch, &call.user, now)
                    .map(|()| self.submit(batch))
            })
        };
        self.freed.notify_waiters();
        let outcome = match commit {
            Some(Ok(commit)) => commit.await,
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        match outcome {
            Ok(()) => self.state().undo(call.id),
            // It stays reserved, and the next start settles it as one that may have gone out.
            Err(error) => tracing::warn!(%error, "a reservation could not be taken back"),
        }
        drop(moving);
    }
}
