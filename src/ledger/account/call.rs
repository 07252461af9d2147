//! One call of a model: what is asked for, what it costs at worst, and what it cost in the end.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::{Code, Error, Result},
    ledger::{
        budget::Window,
        money::{Nano, out_of_range},
        price::{Price, Tokens},
        row,
        usage::{Operation, Status, UsageLine},
    },
};

/// What a call may take at most.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The request, a UUID of version 7. Its attempts share all of it but the last byte.
    pub request: Uuid,
    /// Which attempt: the last byte of the usage line's id.
    pub attempt: u8,
    /// Who, inside the tenant.
    pub user: String,
    /// What for.
    pub operation: Operation,
    /// Name in `bulkhead.providers`.
    pub provider: String,
    /// The model's name as in the price table.
    pub model: String,
    /// The price it is charged by, whatever the table says later. `None`: unpriced, and allowed.
    pub price: Option<Price>,
    /// Tokens sent.
    pub prompt_tokens: i64,
    /// Most tokens of the answer; 0 for embeddings.
    pub max_completion_tokens: i64,
    /// The conversation it belongs to.
    pub conversation_id: Option<Uuid>,
    /// What it asks, if the log is to tell.
    pub prompt: Option<Arc<str>>,
    /// How long to wait for a rate limit instead of failing.
    pub wait: Duration,
    /// Whether the reservation is written before the call. False for models of the database itself,
    /// whose calls are owed to nobody if a crash interrupts them.
    pub durable: bool,
}

/// How a call ended. What is not known is negative, and is then taken from the reservation.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Its status.
    pub status: Status,
    /// Tokens of the prompt, cached ones included.
    pub prompt: i64,
    /// Of these, what the provider had cached.
    pub cached: i64,
    /// Tokens of the answer, those of reasoning included.
    pub completion: i64,
    /// Of these, what was spent on reasoning.
    pub reasoning: i64,
    /// Whether the counts are ours.
    pub estimated: bool,
    /// How long it took.
    pub latency: Duration,
}

/// A call that is reserved and not settled: the row of [`Table::Reservations`](crate::tenant::Table).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    #[serde(with = "row::uuid")]
    pub id: Uuid,
    /// When it was reserved. Its windows, its line and its price are those of this moment.
    pub at_micros: i64,
    pub user: String,
    pub operation: Operation,
    pub provider: String,
    pub model: String,
    pub price: Option<Price>,
    pub prompt_tokens: i64,
    pub max_completion_tokens: i64,
    /// What it costs at worst.
    pub amount: Nano,
    #[serde(with = "row::optional_uuid")]
    pub conversation_id: Option<Uuid>,
    /// Starts of the windows whose counters hold the amount.
    pub windows: Vec<(Window, i64)>,
    /// See [`Ask::prompt`]; a crash forgets it.
    #[serde(skip)]
    pub prompt: Option<Arc<str>>,
}

impl Call {
    /// A call as asked for, in no window yet.
    pub fn new(ask: &Ask, at_micros: i64) -> Result<Self> {
        if ask.prompt_tokens < 0 || ask.max_completion_tokens < 0 {
            return Err(Error::new(
                Code::InvalidParameterValue,
                "a call cannot take less than no tokens",
            ));
        }
        let mut id = *ask.request.as_bytes();
        id[15] = ask.attempt;
        let mut call = Self {
            id: Uuid::from_bytes(id),
            at_micros,
            user: ask.user.clone(),
            operation: ask.operation,
            provider: ask.provider.clone(),
            model: ask.model.clone(),
            price: ask.price.clone(),
            prompt_tokens: ask.prompt_tokens,
            max_completion_tokens: ask.max_completion_tokens,
            amount: Nano::ZERO,
            conversation_id: ask.conversation_id,
            windows: Vec::new(),
            prompt: ask.prompt.clone(),
        };
        call.prompt_tokens
            .checked_add(call.max_completion_tokens)
            .ok_or_else(out_of_range)?;
        if let Some(price) = &call.price {
            let (input, output) = worst(price, call.operation);
            call.amount = input
                .times(call.prompt_tokens)?
                .plus(output.times(call.max_completion_tokens)?)?;
        }
        Ok(call)
    }

    /// Tokens at worst. [`Call::new`] has seen that the sum exists.
    pub fn tokens(&self) -> i64 {
        self.prompt_tokens.saturating_add(self.max_completion_tokens)
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    pub fn decode(value: &[u8]) -> Result<Self> {
        row::decode("reservation", value)
    }

    /// The line of a call that ended. No claim makes it dearer than what was reserved, nor longer:
    /// counts that are negative, contradict each other or exceed the reservation are replaced by what
    /// was reserved, and the line is flagged.
    pub fn line(&self, end: &End) -> Result<UsageLine> {
        let mut estimated = end.estimated || end.prompt < 0 || end.completion < 0;
        let mut prompt = or_bound(end.prompt, self.prompt_tokens);
        let mut completion = or_bound(end.completion, self.max_completion_tokens);
        let mut cached = end.cached.clamp(0, prompt);
        let mut reasoning = end.reasoning.clamp(0, completion);
        estimated |= (cached, reasoning) != (end.cached, end.reasoning);
        let within = prompt
            .checked_add(completion)
            .is_some_and(|tokens| tokens <= self.tokens())
            && matches!(self.cost(prompt, cached, completion, reasoning), Ok(cost) if cost <= self.amount);
        if !within {
            prompt = prompt.min(self.prompt_tokens);
            completion = completion.min(self.max_completion_tokens);
            (cached, reasoning) = (cached.min(prompt), reasoning.min(completion));
            estimated = true;
        }
        let cost = self.cost(prompt, cached, completion, reasoning)?;
        let mut line = self.blank(end.status);
        (line.prompt_tokens, line.cached_tokens, line.completion_tokens) = (prompt, cached, completion);
        (line.cost, line.estimated) = (cost, estimated);
        line.latency_ms = i32::try_from(end.latency.as_millis()).unwrap_or(i32::MAX);
        Ok(line)
    }

    /// The line of a call of which nobody knows how it ended: all that was reserved.
    pub fn orphaned(&self) -> UsageLine {
        let mut line = self.blank(Status::Orphaned);
        (line.prompt_tokens, line.completion_tokens) = (self.prompt_tokens, self.max_completion_tokens);
        (line.cost, line.estimated) = (self.amount, true);
        line
    }

    /// How a call ends that is given up while the provider works: the input is charged.
    pub fn given_up(&self) -> End {
        End {
            status: Status::Cancelled,
            prompt: self.prompt_tokens,
            cached: 0,
            completion: 0,
            reasoning: 0,
            estimated: true,
            latency: Duration::ZERO,
        }
    }

    fn blank(&self, status: Status) -> UsageLine {
        let mut line = UsageLine::at(self.at_micros, &self.user, self.operation, &self.model);
        line.id = self.id;
        line.status = status;
        line.conversation_id = self.conversation_id;
        line.price_id = self.price.as_ref().map(Price::id);
        line
    }

    fn cost(&self, prompt: i64, cached: i64, completion: i64, reasoning: i64) -> Result<Nano> {
        match &self.price {
            None => Ok(Nano::ZERO),
            Some(price) if self.operation == Operation::Embed => price.embed(prompt),
            Some(price) => price.call(Tokens::new(prompt, cached, completion, reasoning)?),
        }
    }
}

fn or_bound(claimed: i64, bound: i64) -> i64 {
    match claimed < 0 {
        true => bound,
        false => claimed,
    }
}

/// The dearest a token sent and a token received can be.
pub(super) fn worst(price: &Price, operation: Operation) -> (Nano, Nano) {
    match operation {
        Operation::Embed => (price.embedding, Nano::ZERO),
        _ => (price.input.max(price.cached_input), price.output.max(price.reasoning)),
    }
}
