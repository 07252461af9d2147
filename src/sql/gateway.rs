//! A session's way to models: who calls, by which rules, with which prompt.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    embedding::Origin,
    engine::Engine,
    jobs,
    statement::Statement,
    world::{TenantState, TenantWorld},
};
use crate::{
    ai::{
        answerer::Citation,
        cache::{self, Asked, Claim, Epoch, Guard, Looked, Request},
        conversation::Role,
        gate::{
            Answer, Call, Caller, Size,
            models::{Choice, Target},
        },
        prompt::{self, Packed, Passage},
        provider::{Failure, Kind, Message},
    },
    error::{Code, Error, Result},
    ledger::{
        books,
        model::Models,
        provider::Providers,
        usage::{Operation, Status, UsageLine},
    },
    limits,
    policy::audit,
    tenant::Batch,
};

/// What one call is made with.
pub(super) struct Gateway {
    pub(super) caller: Caller,
    models: Arc<Models>,
    providers: Arc<Providers>,
}

/// What a caller asks of one answer besides its text.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) model: Option<String>,
    pub(super) max_tokens: Option<i64>,
    pub(super) temperature_milli: Option<i32>,
    pub(super) system: Option<String>,
    pub(super) conversation_id: Option<Uuid>,
    pub(super) earlier: Vec<Message>,
    pub(super) pieces: Option<mpsc::Sender<String>>,
}

impl TenantWorld {
    /// The gateway of this moment.
    ///
    /// # Errors
    /// 55000 where the operator switched AI off or the tenant's tier is gone.
    pub(super) async fn gateway(&self) -> Result<Gateway> {
        if !self.tenant.settings().ai_enabled {
            return Err(
                Error::new(Code::NotReady, "AI functions are switched off for this tenant")
                    .with_hint("ask the operator to switch them on"),
            );
        }
        let settings = self.call_settings();
        let desk = self.desk.clone();
        let notice = Arc::new(move |message| desk.notice(message, None));
        let statement = self.desk.statement();
        statement.limit(settings.max_statement);
        let (user, wait) = (self.acting_user(), settings.limit_wait);
        Gateway::open(&self.engine, &self.state, user, statement, wait, notice).await
    }
}

impl Gateway {
    async fn open(
        engine: &Engine,
        state: &TenantState,
        user: String,
        statement: Arc<Statement>,
        wait: Duration,
        notice: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<Self> {
        let tenant = state.meter.tenant();
        let account = state.account(engine).await?.clone();
        Ok(Self {
            caller: Caller {
                tenant: tenant.clone(),
                plan: account.plan()?,
                account,
                log: state.log.clone(),
                prices: state.meter.prices()?,
                user,
                tier: state.tier(engine)?,
                deadline: statement.deadline,
                wait,
                purse: statement,
                notice,
            },
            models: engine.models.get(tenant)?,
            providers: engine.providers.get(tenant)?,
        })
    }

    /// The gateway for work in the background, which waits for limits and tells nobody.
    ///
    /// # Errors
    /// 55000 where the tenant's tier is gone.
    pub(super) async fn of_job(engine: &Engine, state: &TenantState) -> Result<Self> {
        let statement = Arc::new(Statement::new(limits::REEMBED_CALL));
        let user = jobs::USER.to_owned();
        Self::open(
            engine,
            state,
            user,
            statement,
            limits::REEMBED_CALL / 2,
            Arc::new(|_| ()),
        )
        .await
    }

    /// The model that fills a space.
    ///
    /// # Errors
    /// See [`Choice::chat`].
    pub(super) fn embedder(&self, origin: &Origin) -> Result<Target> {
        self.choice().embedder(&origin.provider, &origin.model)
    }

    fn choice(&self) -> Choice<'_> {
        Choice {
            tenant: &self.caller.tenant,
            models: &self.models,
            providers: &self.providers,
            plan: &self.caller.plan,
            tier: &self.caller.tier,
        }
    }

    /// The chat model for a call.
    ///
    /// # Errors
    /// See [`Choice::chat`].
    pub(super) fn chat_model(&self, asked: Option<&str>) -> Result<Target> {
        let (target, told) = self.choice().chat(asked)?;
        if let Some(told) = told {
            (self.caller.notice)(told);
        }
        Ok(target)
    }

    /// A chat model of the operator's, to make another of it.
    ///
    /// # Errors
    /// See [`Choice::base`].
    pub(super) fn base_model(&self, asked: Option<&str>) -> Result<Target> {
        self.choice().base(asked)
    }

    /// The providers there are.
    pub(super) fn providers(&self) -> &Providers {
        &self.providers
    }

    /// The models that every tenant may use.
    pub(super) fn models(&self) -> &Models {
        &self.models
    }

    /// The embedding model of a name.
    ///
    /// # Errors
    /// See [`Choice::embedding`].
    pub(super) fn embedding_model(&self, asked: &str) -> Result<Target> {
        self.choice().embedding(asked)
    }

    /// What the model is told to be: the tenant's own prompt where its tier has one, else ours.
    fn system(&self) -> String {
        let own = self
            .caller
            .plan
            .system_prompt
            .as_ref()
            .filter(|_| self.caller.tier.custom_prompt);
        match own {
            Some(own) => own.text.clone(),
            None => format!(
                "You are the assistant of {}. You know what is in its documents as far as they are shown to you, and \
                 nothing of any other customer.",
                self.caller.tenant.name()
            ),
        }
    }

    /// A completion of a prompt.
    ///
    /// # Errors
    /// Those of choosing a model.
    pub(super) fn completion(&self, prompt: &str, wishes: Wishes) -> Result<Call> {
        Ok(Call {
            operation: Operation::Complete,
            target: self.chat_model(wishes.model.as_deref())?,
            system: wishes.system.unwrap_or_else(|| self.system()),
            earlier: wishes.earlier,
            message: prompt.to_owned(),
            question: prompt.to_owned(),
            packed: None,
            max_tokens: wishes.max_tokens,
            temperature_milli: wishes.temperature_milli,
            conversation_id: wishes.conversation_id,
            pieces: wishes.pieces,
        })
    }

    /// An answer from passages, best first. Of them as many are shown as the limits have room for.
    ///
    /// # Errors
    /// Those of choosing a model.
    pub(super) fn answer_from(&self, question: &str, passages: &[Passage], wishes: Wishes) -> Result<Call> {
        let target = self.chat_model(wishes.model.as_deref())?;
        let packed = prompt::pack(question, passages, self.context_tokens(&target, wishes.max_tokens));
        let Packed { system, user, .. } = &packed;
        let (system, message) = (format!("{}\n\n{system}", self.system()), user.clone());
        Ok(Call {
            operation: Operation::Rag,
            target,
            system,
            earlier: wishes.earlier,
            message,
            question: question.to_owned(),
            packed: Some(packed),
            max_tokens: wishes.max_tokens,
            temperature_milli: wishes.temperature_milli,
            conversation_id: wishes.conversation_id,
            pieces: wishes.pieces,
        })
    }

    /// Tokens of passages that fit beside the answer into the model's context and into the smallest rate limit: a
    /// tier that allows a thousand tokens a minute gets shorter prompts, not a refusal of each.
    fn context_tokens(&self, target: &Target, max_tokens: Option<i64>) -> usize {
        let tier = &self.caller.tier;
        let longest = i64::from(tier.max_tokens).min(max_tokens.unwrap_or(i64::MAX));
        let limit = tier
            .tokens_per_minute
            .min(tier.tokens_per_day)
            .min(target.model.context_tokens.into());
        // Instructions, question and another tokenizer's share take some of it.
        let room = (limit - longest).max(0) / 5 * 4 - limits::RAG_INSTRUCTION_TOKENS;
        usize::try_from(room).unwrap_or(0).min(limits::RAG_CONTEXT_TOKENS)
    }

    /// Makes a call, unless its answer is there: by the idempotency key of the session, or in the cache.
    /// `found` is what was searched. Where a model of the tenant's own turns out to be gone, the one it was made
    /// from answers.
    ///
    /// # Errors
    /// Those of the gate; 22023 for an idempotency key that stands for another call.
    pub(super) async fn ask(&self, world: &TenantWorld, call: &Call, found: Option<&Searched>) -> Result<Given> {
        let outcome = self.ask_model(world, call, found).await;
        let outcome = outcome.inspect_err(|error| world.refused_call(call, error));
        let (Err(error), Some(base)) = (&outcome, &call.target.base) else {
            return outcome;
        };
        if !is_gone(error) {
            return outcome;
        }
        world.retire(&self.caller, &call.target.model, &base.name).await?;
        let call = Call {
            target: self.choice().base(Some(&base.name))?,
            ..call.clone()
        };
        self.ask_model(world, &call, found).await
    }

    async fn ask_model(&self, world: &TenantWorld, call: &Call, found: Option<&Searched>) -> Result<Given> {
        let size = world.engine.gate.size(&self.caller, call)?;
        let settings = world.call_settings();
        // What a conversation or a reader of pieces gets is made for it.
        let alone = call.conversation_id.is_some() || call.pieces.is_some();
        // What was found among documents that only this transaction sees is nobody else's.
        let shared = settings.cache && found.is_none_or(|searched| searched.epoch.is_some());
        if alone || (settings.idempotency_key.is_none() && !shared) {
            return self.make(world, call, &size, Keep::Nothing).await;
        }
        // A repeated call is the same one though a budget affords less by now; a cached answer is not.
        let max = match (&settings.idempotency_key, call.max_tokens) {
            (Some(_), Some(asked)) => asked.to_string(),
            (Some(_), None) => String::new(),
            (None, _) => size.max_tokens.to_string(),
        };
        let temperature = self.temperature(call).to_string();
        let mut parameters = vec![("max_tokens", &*max), ("temperature", &*temperature)];
        let (k, filter) = match found {
            Some(searched) => (searched.k.to_string(), searched.filter.clone().unwrap_or_default()),
            None => Default::default(),
        };
        parameters.extend([("k", &*k), ("filter", &*filter)]);
        let own_system = self.system();
        let system = match found {
            Some(_) => &own_system,
            None => &call.system,
        };
        let request = Request {
            user: &self.caller.user,
            operation: call.operation.as_str(),
            provider: &call.target.model.provider,
            model: &call.target.model.model,
            parameters: &parameters,
            prompt_version: self
                .caller
                .plan
                .system_prompt
                .as_ref()
                .map_or(0, |prompt| prompt.version),
            messages: &[(Role::System, system), (Role::User, &call.question)],
            corpus: found.and_then(|searched| searched.epoch),
        };
        if let Some(key) = &settings.idempotency_key {
            return match world.state.replays.ask(key, &request).await? {
                Asked::Replay(answer) => self.again(world, call, &answer, |_| ()).await,
                Asked::Run(claim) => self.make(world, call, &size, Keep::Replay(claim)).await,
            };
        }
        match world.state.cache.lookup_or_lead(&request, settings.cache_ttl).await? {
            Looked::Hit(answer) => {
                let hit = |batch: &mut Batch| world.state.cache.record_hit(batch, &answer);
                self.again(world, call, &answer, hit).await
            }
            Looked::Lead(guard) => self.make(world, call, &size, Keep::Cached(guard)).await,
        }
    }

    fn temperature(&self, call: &Call) -> i32 {
        call.temperature_milli.unwrap_or(self.caller.tier.temperature_milli)
    }

    async fn make(&self, world: &TenantWorld, call: &Call, size: &Size, keep: Keep) -> Result<Given> {
        let mut keep = Some(keep);
        let rows = |batch: &mut Batch, answer: &Answer| {
            let entry = || {
                Ok::<_, Error>(cache::Answer {
                    text: answer.text.clone(),
                    citations: Some(citations(&answer.citations)?),
                    model: answer.line.model.clone(),
                    prompt_tokens: answer.line.prompt_tokens,
                    completion_tokens: answer.line.completion_tokens,
                    cost: answer.line.cost,
                    usage_id: answer.line.id,
                })
            };
            match keep.take() {
                Some(Keep::Cached(guard)) => guard.store(batch, entry()?),
                Some(Keep::Replay(claim)) => claim.store(batch, entry()?),
                Some(Keep::Nothing) | None => Ok(()),
            }
        };
        let answer = world.engine.gate.complete(&self.caller, call, size, rows).await?;
        Ok(Given {
            citations: citations(&answer.citations)?,
            text: answer.text,
            line: answer.line,
            cached: false,
        })
    }

    /// Makes a call of a conversation. `rows` puts what belongs to the answer, whose citations are JSON text, into
    /// the commit that settles it.
    ///
    /// # Errors
    /// Those of the gate and of `rows`.
    pub(super) async fn converse(
        &self,
        world: &TenantWorld,
        call: &Call,
        mut rows: impl FnMut(&mut Batch, &Answer, &str) -> Result<()>,
    ) -> Result<Given> {
        let gate = &world.engine.gate;
        let refused = |error: &Error| world.refused_call(call, error);
        let size = gate.size(&self.caller, call).inspect_err(refused)?;
        let rows = |batch: &mut Batch, answer: &Answer| rows(batch, answer, &citations(&answer.citations)?);
        let answer = gate
            .complete(&self.caller, call, &size, rows)
            .await
            .inspect_err(refused)?;
        Ok(Given {
            citations: citations(&answer.citations)?,
            text: answer.text,
            line: answer.line,
            cached: false,
        })
    }

    /// Gives an answer again. The line says so, and costs nothing.
    async fn again(
        &self,
        world: &TenantWorld,
        call: &Call,
        answer: &cache::Answer,
        more: impl FnOnce(&mut Batch),
    ) -> Result<Given> {
        let mut line = UsageLine::now(&self.caller.user, call.operation, &answer.model);
        line.status = Status::CacheHit;
        let mut batch = self.caller.tenant.batch();
        books::record(&mut batch, &line)?;
        let log = &self.caller.log;
        log.write(
            &mut batch,
            [&audit::of_call(&line, log.prompt(&call.question).as_deref())],
        );
        more(&mut batch);
        world.state.meter.drain_into(&mut batch)?;
        let settling = self.caller.purse.settling();
        self.caller.tenant.commit(batch).await?;
        drop(settling);
        Ok(Given {
            text: answer.text.clone(),
            citations: answer.citations.clone().unwrap_or_else(|| "[]".to_owned()),
            line,
            cached: true,
        })
    }
}

/// Whether the provider says that it has no such model.
fn is_gone(error: &Error) -> bool {
    let failure = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Failure>());
    failure.is_some_and(|failure| failure.kind == Kind::NoModel)
}

/// What becomes of an answer once it is settled.
enum Keep {
    Nothing,
    Cached(Guard),
    Replay(Claim),
}

/// What was searched for an answer.
pub(super) struct Searched {
    pub(super) k: usize,
    pub(super) filter: Option<String>,
    /// The state of the documents before; `None` where the transaction sees others than those.
    pub(super) epoch: Option<Epoch>,
}

/// An answer as a function gives it.
pub(super) struct Given {
    pub(super) text: String,
    /// JSON text of an array.
    pub(super) citations: String,
    pub(super) line: UsageLine,
    pub(super) cached: bool,
}

fn citations(all: &[Citation]) -> Result<String> {
    let all = all.iter().map(|c| {
        serde_json::json!({
            "n": c.n, "document_id": c.document_id.to_string(), "chunk_id": c.chunk_id.to_string(),
            "title": c.title, "score": c.score, "quote": c.quote,
        })
    });
    super::pg::json::canonical(&serde_json::Value::Array(all.collect()).to_string())
}
