//! The one gate through which every call of a model goes.
//!
//! It knows the tenant, the user, the price and the limits: [`models`] says which model a call goes to and
//! [`Gate::size`] how large it may get; its worst case is reserved before anything is sent; each attempt is
//! settled as a line of the ledger before its answer is given, together with the rows that belong to it.
//! Retries are made here and nowhere else.

mod builtin;
pub mod citations;
mod embed;
pub mod models;

pub use embed::Room;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use self::models::Target;
use super::{
    answerer::Citation,
    prompt::Packed,
    provider::{self, Billed, ChatRequest, Event, Failure, Kind, Message, Upstreams},
    tokens::{count_tokens, cut_to_tokens},
};
use crate::{
    error::{Code, Error, Result},
    ledger::{
        account::{Account, Ask, End},
        model::BUILTIN,
        money::{Day, Nano},
        plan::TenantPlan,
        price::{Price, Prices},
        tier::Tier,
        usage::{Operation, Status, UsageLine, now_micros},
    },
    policy::audit::Log,
    tenant::{Batch, Tenant},
};

/// What a statement may spend.
pub trait Purse: Send + Sync {
    /// Sets aside what a call may cost at most.
    ///
    /// # Errors
    /// 53400 if the statement's own limit does not allow it.
    fn set_aside(&self, most: Nano) -> Result<()>;

    /// An answer is being written until what this gives is dropped, and then given: to interrupt the statement
    /// would be to take the money and keep the answer.
    fn settling(&self) -> Box<dyn Send>;

    /// Replaces what was set aside by what it cost.
    fn spent(&self, set_aside: Nano, cost: Nano);
}

/// On whose behalf calls are made, and under which rules.
pub struct Caller {
    /// Whose money, limits and keys.
    pub tenant: Tenant,
    /// The tenant's budgets and limits.
    pub account: Arc<Account>,
    /// The tenant's audit log.
    pub log: Arc<Log>,
    /// The price table of this moment.
    pub prices: Arc<Prices>,
    /// Who, inside the tenant.
    pub user: String,
    /// What the operator set for the tenant.
    pub plan: Arc<TenantPlan>,
    /// The tenant's tier.
    pub tier: Tier,
    /// When the statement must have ended.
    pub deadline: Instant,
    /// How long a call may wait for a rate limit.
    pub wait: Duration,
    /// The statement's own limit.
    pub purse: Arc<dyn Purse>,
    /// Takes what the client should be told beside the answer.
    pub notice: Arc<dyn Fn(String) + Send + Sync>,
}

/// One chat call.
#[derive(Clone)]
pub struct Call {
    /// What it is for.
    pub operation: Operation,
    /// Where it goes.
    pub target: Target,
    /// What the model is told to do; may be empty.
    pub system: String,
    /// What was said before.
    pub earlier: Vec<Message>,
    /// The message to answer, as the model sees it.
    pub message: String,
    /// The question in the message, and the passages shown beside it.
    pub question: String,
    /// The passages, for RAG.
    pub packed: Option<Packed>,
    /// The length that was asked for, in tokens.
    pub max_tokens: Option<i64>,
    /// Sampling temperature in thousandths, instead of the tier's.
    pub temperature_milli: Option<i32>,
    /// The conversation it belongs to.
    pub conversation_id: Option<Uuid>,
    /// Where pieces of the answer go as they come.
    pub pieces: Option<mpsc::Sender<String>>,
}

/// How large a call is, and what it can cost.
#[derive(Clone, Debug)]
pub struct Size {
    /// Tokens of the prompt as counted here.
    pub prompt_tokens: i64,
    /// Tokens of the prompt at most, by the model's own tokenizer.
    pub prompt_bound: i64,
    /// Tokens of the answer at most.
    pub max_tokens: i64,
    /// What it is charged by; `None` where models without a price are allowed and this one has none.
    pub price: Option<Price>,
}

impl Size {
    /// The most that one attempt can cost.
    ///
    /// # Errors
    /// 22003.
    pub fn worst(&self) -> Result<Nano> {
        match &self.price {
            Some(price) => price.worst(self.prompt_bound, self.max_tokens),
            None => Ok(Nano::ZERO),
        }
    }
}

/// An answer, and its line of the ledger.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The passages it rests on.
    pub citations: Vec<Citation>,
    /// The line.
    pub line: UsageLine,
}

/// What all calls of the process share: connections to providers.
#[derive(Default)]
pub struct Gate {
    upstreams: Upstreams,
}

/// How an attempt ended.
struct Reply {
    text: String,
    citations: Vec<Citation>,
    usage: Usage,
}

/// Tokens as told or counted.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    prompt: i64,
    cached: i64,
    completion: i64,
    reasoning: i64,
    estimated: bool,
}

impl Gate {
    /// A gate with these connections.
    pub fn new(upstreams: Upstreams) -> Self {
        Self { upstreams }
    }

    /// The connections, for what is no call of a model.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Judges and clamps a call. Tells the client if it gets less than it asked for.
    ///
    /// # Errors
    /// 22023 for a length below 1, 54000 for a prompt that the model's context cannot hold, 55000 for a model
    /// without a price, 53400 where the budget does not even afford a short answer.
    pub fn size(&self, caller: &Caller, call: &Call) -> Result<Size> {
        let model = &call.target.model;
        let texts = [&call.system, &call.message]
            .into_iter()
            .chain(call.earlier.iter().map(|m| &m.content));
        let count: usize = texts.map(|text| count_tokens(text) + MESSAGE_TOKENS).sum();
        let prompt_tokens = i64::try_from(count).unwrap_or(i64::MAX);
        let prompt_bound = match call.target.upstream {
            // The model may count by another tokenizer than ours.
            Some(_) => prompt_tokens.saturating_add(prompt_tokens / 4 + FOREIGN_TOKENS),
            None => prompt_tokens,
        };
        let room = i64::from(model.context_tokens) - prompt_tokens;
        if room < 1 {
            return Err(Error::new(
                Code::TooLarge,
                format!(
                    "the prompt has {prompt_tokens} tokens, and the context of model \"{}\" holds {}",
                    model.name, model.context_tokens
                ),
            )
            .with_hint("shorten the prompt or ask for a model with a longer context"));
        }
        let price = self.price(caller, call)?;
        let mut most = i64::from(caller.tier.max_tokens).min(room);
        if model.max_output_tokens > 0 {
            most = most.min(model.max_output_tokens.into());
        }
        if let Some(affordable) = price
            .as_ref()
            .map(|price| caller.account.affordable(&caller.user, price, prompt_bound))
            .transpose()?
            .flatten()
        {
            // Where not even one token is left, reserving says which budget is used up.
            most = most.min(affordable.max(1));
        }
        let max_tokens = match call.max_tokens {
            Some(n) if n < 1 => {
                return Err(Error::new(Code::InvalidParameterValue, "max_tokens must be at least 1"));
            }
            Some(n) if n > most => {
                (caller.notice)(format!("max_tokens was lowered from {n} to {most}"));
                most
            }
            Some(n) => n,
            None => most,
        };
        Ok(Size {
            prompt_tokens,
            prompt_bound,
            max_tokens,
            price,
        })
    }

    fn price(&self, caller: &Caller, call: &Call) -> Result<Option<Price>> {
        let model = &call.target.model;
        let day = Day::of_micros(now_micros());
        let of = |provider: &str, model: &str| caller.prices.get(provider, model, day);
        // A fine-tuned model has a name of its own, and rarely a price.
        let instead = || {
            let base = call.target.base.as_ref().filter(|base| base.provider != BUILTIN)?;
            let family = fine_tuned_family(&model.model).and_then(|family| of(&model.provider, family));
            family.or_else(|| of(&base.provider, &base.model))
        };
        match of(&model.provider, &model.model).or_else(instead) {
            Some(price) => Ok(Some(price.clone())),
            None if caller.plan.allow_unpriced => Ok(None),
            None => Err(unpriced(&model.name)),
        }
    }

    /// Makes the call. `rows` adds what belongs to the answer to the commit that settles it.
    ///
    /// # Errors
    /// 53400 and 54000 of limits and budgets, 58030 and 57014 of the provider, and those of `rows`.
    pub async fn complete(
        &self,
        caller: &Caller,
        call: &Call,
        size: &Size,
        mut rows: impl FnMut(&mut Batch, &Answer) -> Result<()>,
    ) -> Result<Answer> {
        let (request, worst) = (Uuid::now_v7(), size.worst()?);
        let mut attempt = 1;
        loop {
            caller.purse.set_aside(worst)?;
            let set_aside = SetAside {
                caller,
                worst,
                cost: worst,
            };
            let reserved = caller.account.reserve(Ask {
                request,
                attempt,
                user: caller.user.clone(),
                operation: call.operation,
                provider: call.target.model.provider.clone(),
                model: call.target.model.model.clone(),
                price: size.price.clone(),
                prompt_tokens: size.prompt_bound,
                max_completion_tokens: size.max_tokens,
                conversation_id: call.conversation_id,
                prompt: caller.log.prompt(&call.question),
                wait: caller.wait,
                durable: call.target.upstream.is_some(),
            });
            let reservation = match reserved.await {
                Ok(reservation) => reservation,
                Err(error) => {
                    set_aside.settle(Nano::ZERO);
                    return Err(error);
                }
            };
            let started = Instant::now();
            let end = |status, usage: Usage| End {
                status,
                prompt: usage.prompt,
                cached: usage.cached,
                completion: usage.completion,
                reasoning: usage.reasoning,
                estimated: usage.estimated,
                latency: started.elapsed(),
            };
            let mut sent = String::new();
            match self.attempt(caller, call, size, &mut sent).await {
                Ok(Reply { text, citations, usage }) => {
                    let end = end(Status::Ok, usage);
                    let answer = Answer {
                        text,
                        citations,
                        line: reservation.line(&end)?,
                    };
                    let mut batch = caller.tenant.batch();
                    rows(&mut batch, &answer)?;
                    let settling = caller.purse.settling();
                    let line = reservation.settle(end, batch).await?;
                    drop(settling);
                    set_aside.settle(line.cost);
                    return Ok(Answer { line, ..answer });
                }
                Err(failure) => {
                    let usage = match failure.billed {
                        Billed::Nothing => Usage::default(),
                        Billed::Maybe => Usage {
                            prompt: size.prompt_tokens,
                            completion: count_tokens(&sent) as i64,
                            estimated: true,
                            ..Usage::default()
                        },
                    };
                    let line = reservation
                        .settle(end(Status::Error, usage), caller.tenant.batch())
                        .await?;
                    set_aside.settle(line.cost);
                    let remaining = caller.deadline.saturating_duration_since(Instant::now());
                    // What the client has read cannot be taken back by another try.
                    let heard = call.pieces.is_some() && !sent.is_empty();
                    match provider::backoff(attempt, &failure, remaining) {
                        Some(pause) if !heard => tokio::time::sleep(pause).await,
                        _ => return Err(failure.into()),
                    }
                    attempt += 1;
                }
            }
        }
    }

    /// One attempt. `sent` holds what came of the answer, also when it fails.
    async fn attempt(&self, caller: &Caller, call: &Call, size: &Size, sent: &mut String) -> Result<Reply, Failure> {
        let max_tokens = usize::try_from(size.max_tokens).unwrap_or(usize::MAX);
        let Some(upstream) = &call.target.upstream else {
            let answered = builtin::answer(&call.question, call.packed.as_ref(), &call.earlier, max_tokens);
            if let Some(pieces) = &call.pieces {
                for piece in answered.text.split_inclusive(' ') {
                    // A reader that left has dropped this future, too.
                    let _ = pieces.send(piece.to_owned()).await;
                }
            }
            let usage = Usage {
                prompt: size.prompt_tokens,
                completion: answered.completion_tokens as i64,
                ..Usage::default()
            };
            return Ok(Reply {
                text: answered.text,
                citations: answered.citations,
                usage,
            });
        };
        let mut messages = Vec::with_capacity(call.earlier.len() + 2);
        if !call.system.is_empty() {
            messages.push(Message::system(&*call.system));
        }
        messages.extend(call.earlier.iter().cloned());
        messages.push(Message::user(&*call.message));
        let request = ChatRequest {
            model: call.target.model.model.clone(),
            messages,
            max_tokens: i32::try_from(size.max_tokens).unwrap_or(i32::MAX),
            temperature_milli: Some(call.temperature_milli.unwrap_or(caller.tier.temperature_milli)),
            stream: call.pieces.is_some(),
        };
        let mut stream = self
            .upstreams
            .chat(&upstream.row, upstream.own_key.as_ref(), &request, caller.deadline)
            .await?;
        let mut finish = None;
        while let Some(piece) = stream.next().await {
            match piece? {
                Event::Delta(text) => {
                    sent.push_str(&text);
                    if let Some(pieces) = &call.pieces {
                        let _ = pieces.send(text).await;
                    }
                }
                Event::Finish(end) => finish = Some(end),
            }
        }
        let finish = finish.ok_or_else(|| Failure::new(Kind::Cut))?;
        // A dated name is the same model: gpt-4o-mini answers as gpt-4o-mini-2024-07-18.
        let other = finish
            .model
            .as_ref()
            .filter(|model| !model.starts_with(&*call.target.model.model));
        if let Some(model) = other {
            (caller.notice)(format!("the provider answered with model \"{model}\""));
        }
        // A provider that does not keep to what was asked is cut off; its tokenizer may count less than ours.
        let text = cut_to_tokens(
            sent,
            max_tokens.saturating_add(max_tokens / 4 + FOREIGN_TOKENS as usize),
        );
        if text.len() < sent.len() {
            (caller.notice)(format!(
                "the answer was longer than the {max_tokens} tokens asked for, and is cut"
            ));
        }
        let text = text.to_owned();
        let usage = match finish.usage {
            Some(told) => Usage {
                prompt: told.prompt,
                cached: told.cached,
                completion: told.completion,
                reasoning: told.reasoning,
                estimated: other.is_some(),
            },
            None => Usage {
                prompt: size.prompt_tokens,
                completion: count_tokens(&text) as i64,
                estimated: true,
                ..Usage::default()
            },
        };
        let citations = call
            .packed
            .as_ref()
            .map(|packed| citations::cited(&text, &call.question, packed))
            .unwrap_or_default();
        Ok(Reply { text, citations, usage })
    }
}

/// `ft:gpt-4o-mini` of `ft:gpt-4o-mini:..`: price lists name what was fine-tuned, not each result.
fn fine_tuned_family(model: &str) -> Option<&str> {
    let (base, _) = model.strip_prefix("ft:")?.split_once(':')?;
    Some(&model[.."ft:".len() + base.len()])
}

/// Tokens that a message takes beside its text, as OpenAI counts them.
const MESSAGE_TOKENS: usize = 4;
/// What another tokenizer may count beside its share.
const FOREIGN_TOKENS: i64 = 16;

fn unpriced(model: &str) -> Error {
    Error::new(Code::NotReady, format!("model \"{model}\" has no price"))
        .with_hint("the operator adds one to bulkhead.model_prices")
}

/// What a statement has set aside for an attempt. Dropped without a settlement, all of it counts as spent.
struct SetAside<'a> {
    caller: &'a Caller,
    worst: Nano,
    cost: Nano,
}

impl SetAside<'_> {
    fn settle(mut self, cost: Nano) {
        self.cost = cost;
    }
}

impl Drop for SetAside<'_> {
    fn drop(&mut self) {
        self.caller.purse.spent(self.worst, self.cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_of_a_fine_tuned_model_is_in_its_name() {
        assert_eq!(fine_tuned_family("ft:gpt-4o-mini:org:x:1"), Some("ft:gpt-4o-mini"));
        assert_eq!(fine_tuned_family("ft:gpt-4o-mini"), None);
        assert_eq!(fine_tuned_family("gpt-4o-mini:x"), None);
    }
}
