//! Calls that a former process reserved and did not settle.

use super::{Recorder, call::Call, state::Place};
use crate::{
    error::Result,
    ledger::books,
    limits,
    tenant::{Batch, Recovery, Sums, Table},
};

/// Settles by rule (see the [module](super)) what a former process left of a tenant, unless its account is open.
///
/// # Errors
/// [`Code::Corrupted`](crate::error::Code::Corrupted) and those of a commit; what is settled stays so.
pub async fn recover(recovery: &Recovery, recorder: &Recorder) -> Result<()> {
    match recovery.begin().await {
        Some(_alone) => settle(recovery, recorder).await,
        None => Ok(()),
    }
}

/// Settles them, each in one commit with its line. The caller keeps everybody else from it.
pub(super) async fn settle(recovery: &Recovery, recorder: &Recorder) -> Result<()> {
    loop {
        let rows = recovery.unsettled().take(limits::ORPHANS_A_COMMIT);
        let calls = rows
            .map(|found| Call::decode(&found?.1.value))
            .collect::<Result<Vec<_>>>()?;
        if calls.is_empty() {
            return Ok(());
        }
        tracing::warn!(calls = calls.len(), "calls of a former process are settled as orphaned");
        let mut batch = recovery.batch();
        for call in &calls {
            settle_one(recovery, &mut batch, call, recorder)?;
        }
        recovery.commit(batch).await?;
    }
}

fn settle_one(recovery: &Recovery, batch: &mut Batch, call: &Call, recorder: &Recorder) -> Result<()> {
    let line = call.orphaned();
    books::record(batch, &line)?;
    recorder(&line, None, batch);
    batch.delete(Table::Reservations, line.key());
    for place in Place::of(&call.user, &call.windows) {
        let sums = Sums(vec![line.cost.0, -call.amount.0]);
        place.add(recovery, batch, &sums);
    }
    Ok(())
}
