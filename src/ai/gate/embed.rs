//! Texts into vectors behind the gate: in batches, some of them at a time.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::{Caller, Gate, SetAside, Target, unpriced};
use crate::{
    ai::{
        embedder,
        provider::{self, Billed, Failure},
        tokens::count_tokens,
    },
    error::{Code, Error, Result},
    ledger::{
        account::{Ask, End},
        money::{Day, Nano},
        usage::{Operation, Status, now_micros},
    },
    limits,
    vector::Embedding,
};

/// How much one call of an embedding model may hold, and how many calls may be made at once.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The smallest rate limit: no call above it is ever admitted.
    tokens: i64,
    calls: usize,
}

impl Room {
    /// What the limits of a caller leave.
    pub fn of(caller: &Caller) -> Self {
        let (tier, own) = (&caller.tier, &caller.plan.user_limits);
        let own_tokens = [own.tokens_per_minute, own.tokens_per_day].into_iter().flatten();
        let calls = tier.concurrent_calls.min(own.concurrent_calls.unwrap_or(i64::MAX));
        Self {
            tokens: own_tokens.fold(tier.tokens_per_minute.min(tier.tokens_per_day), i64::min),
            calls: usize::try_from(calls).unwrap_or(0).clamp(1, limits::EMBED_CALLS),
        }
    }

    /// Whether one call may hold so many texts of so many tokens together.
    pub fn holds(&self, texts: usize, tokens: usize) -> bool {
        let most = texts <= limits::EMBED_TEXTS && tokens <= limits::EMBED_TOKENS;
        most && bound(texts, tokens as i64) <= self.tokens
    }
}

/// Tokens at most by another tokenizer than ours.
fn bound(texts: usize, counted: i64) -> i64 {
    counted.saturating_add(counted / 4 + 16 * texts as i64)
}

impl Gate {
    /// One vector for each text, in their order. What is built in is counted by the caller, whose commit it
    /// belongs to; what a provider does is settled here.
    ///
    /// # Errors
    /// 53400 and 54000 of limits and budgets, 58030 and 57014 of the provider, 22000 for a vector that is none.
    pub async fn embed(&self, caller: &Caller, target: &Target, texts: &[String]) -> Result<Vec<Embedding>> {
        if target.upstream.is_none() {
            return texts.iter().map(|text| embedder::embed(text)).collect();
        }
        let room = Room::of(caller);
        let mut batches: Vec<&[String]> = Vec::new();
        let (mut rest, mut tokens, mut end) = (texts, 0, 0);
        for text in texts {
            let more = count_tokens(text);
            if end > 0 && !room.holds(end + 1, tokens + more) {
                let (batch, others) = rest.split_at(end);
                batches.push(batch);
                (rest, tokens, end) = (others, 0, 0);
            }
            (tokens, end) = (tokens + more, end + 1);
        }
        if !rest.is_empty() {
            batches.push(rest);
        }
        let calls: Vec<_> = batches
            .into_iter()
            .map(|batch| self.embed_batch(caller, target, batch))
            .collect();
        let vectors: Vec<Vec<Embedding>> = stream::iter(calls).buffered(room.calls).try_collect().await?;
        let vectors: Vec<Embedding> = vectors.into_iter().flatten().collect();
        if let Some(first) = vectors.first()
            && vectors.iter().any(|vector| vector.dimensions() != first.dimensions())
        {
            return Err(Error::new(
                Code::DataException,
                "the provider sent vectors of different lengths",
            ));
        }
        Ok(vectors)
    }

    async fn embed_batch(&self, caller: &Caller, target: &Target, texts: &[String]) -> Result<Vec<Embedding>> {
        let Some(upstream) = &target.upstream else {
            return Err(Error::internal("a built-in model was called as a provider's"));
        };
        let model = &target.model;
        let price = caller
            .prices
            .get(&model.provider, &model.model, Day::of_micros(now_micros()))
            .cloned();
        if price.is_none() && !caller.plan.allow_unpriced {
            return Err(unpriced(&model.name));
        }
        let counted = texts.iter().map(|text| count_tokens(text) as i64).sum::<i64>();
        let bound = bound(texts.len(), counted);
        let worst = price.as_ref().map_or(Ok(Nano::ZERO), |price| price.embed(bound))?;
        let (request, mut attempt) = (Uuid::now_v7(), 1);
        loop {
            caller.purse.set_aside(worst)?;
            let set_aside = SetAside {
                caller,
                worst,
                cost: worst,
            };
            let ask = Ask {
                request,
                attempt,
                user: caller.user.clone(),
                operation: Operation::Embed,
                provider: model.provider.clone(),
                model: model.model.clone(),
                price: price.clone(),
                prompt_tokens: bound,
                max_completion_tokens: 0,
                conversation_id: None,
                prompt: None,
                wait: caller.wait,
                durable: true,
            };
            let reservation = match caller.account.reserve(ask).await {
                Ok(reservation) => reservation,
                Err(error) => {
                    set_aside.settle(Nano::ZERO);
                    return Err(error);
                }
            };
            let started = Instant::now();
            // Providers refuse an empty text.
            let shown = |text| if str::is_empty(text) { " " } else { text };
            let inputs: Vec<&str> = texts.iter().map(|text| shown(text)).collect();
            let embedded = self
                .upstreams
                .embed(
                    &upstream.row,
                    upstream.own_key.as_ref(),
                    &model.model,
                    &inputs,
                    caller.deadline,
                )
                .await;
            let (status, prompt, estimated) = match &embedded {
                Ok(embedded) => (Status::Ok, embedded.usage.unwrap_or(counted), embedded.usage.is_none()),
                Err(Failure {
                    billed: Billed::Nothing,
                    ..
                }) => (Status::Error, 0, false),
                Err(_) => (Status::Error, counted, true),
            };
            let end = End {
                status,
                prompt,
                cached: 0,
                completion: 0,
                reasoning: 0,
                estimated,
                latency: started.elapsed(),
            };
            let line = reservation.settle(end, caller.tenant.batch()).await?;
            set_aside.settle(line.cost);
            match embedded {
                Ok(embedded) => return embedded.vectors.into_iter().map(Embedding::new).collect(),
                Err(failure) => {
                    let remaining = caller.deadline.saturating_duration_since(Instant::now());
                    match provider::backoff(attempt, &failure, remaining) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(failure.into()),
                    }
                    attempt += 1;
                }
            }
        }
    }
}
