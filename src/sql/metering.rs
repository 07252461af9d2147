//! Calls of models as lines of the ledger.

use std::time::Instant;

use super::world::TenantWorld;
use crate::{
    ai::embedder,
    error::{Code, Error, Result},
    ledger::{
        books,
        meter::Meter,
        model::BUILTIN,
        price::Tokens,
        usage::{Operation, UsageLine},
    },
    policy::audit,
    tenant::Batch,
};

/// A call of the built-in models: which, how much, since when.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) model: &'a str,
    pub(super) prompt_tokens: i64,
    pub(super) completion_tokens: i64,
    pub(super) started: Instant,
}

/// The priced line of a call. A model without a price is an error, never a gift.
pub(super) fn line(meter: &Meter, user: &str, call: &Call<'_>) -> Result<UsageLine> {
    let mut line = UsageLine::now(user, call.operation, call.model);
    let prices = meter.prices()?;
    let price = prices.get(BUILTIN, call.model, line.day()).ok_or_else(|| {
        Error::new(Code::NotReady, format!("model {} has no price", call.model))
            .with_hint("the operator adds one to bulkhead.model_prices")
    })?;
    line.cost = match call.operation {
        Operation::Embed => price.embed(call.prompt_tokens)?,
        _ => price.call(Tokens::new(call.prompt_tokens, 0, call.completion_tokens, 0)?)?,
    };
    line.prompt_tokens = call.prompt_tokens;
    line.completion_tokens = call.completion_tokens;
    line.latency_ms = i32::try_from(call.started.elapsed().as_millis()).unwrap_or(i32::MAX);
    line.price_id = Some(price.id());
    Ok(line)
}

/// Puts the line of what the built-in model embedded beside the rows it is for.
pub(super) fn embedded(meter: &Meter, user: &str, batch: &mut Batch, tokens: i64) -> Result<()> {
    if tokens == 0 {
        return Ok(());
    }
    let call = Call {
        operation: Operation::Embed,
        model: embedder::MODEL,
        prompt_tokens: tokens,
        completion_tokens: 0,
        started: Instant::now(),
    };
    books::record(batch, &line(meter, user, &call)?)
}

/// Writes a line to disk, with whatever counts wait, before the answer it is for is given.
pub(super) async fn settle(world: &TenantWorld, line: &UsageLine) -> Result<()> {
    let mut batch = world.tenant.batch();
    books::record(&mut batch, line)?;
    world.state.log.write(&mut batch, [&audit::of_call(line, None)]);
    world.state.meter.drain_into(&mut batch)?;
    world.tenant.commit(batch).await
}
