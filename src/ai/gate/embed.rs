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
        let mut batches: Vec<&[String]> = Vec::new();
        let (mut rest, mut tokens, mut end) = (texts, 0, 0);
        for text in texts {
            let more = count_tokens(text);
            if end > 0 && (end == limits::EMBED_TEXTS || tokens + more > limits::EMBED_TOKENS) {
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
        let vectors: Vec<Vec<Embedding>> = stream::iter(calls).buffered(limits::EMBED_CALLS).try_collect().await?;
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
        let bound = counted.saturating_add(counted / 4 + 16 * texts.len() as i64);
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
            let inputs: Vec<&str> = texts.iter().map(String::as_str).collect();
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
