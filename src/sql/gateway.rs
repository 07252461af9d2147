//! A session's way to models: who calls, by which rules, with which prompt.

use std::sync::Arc;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::world::TenantWorld;
use crate::{
    ai::{
        gate::{
            Answer, Call, Caller,
            models::{Choice, Target},
        },
        prompt::{self, Packed, Passage},
        provider::Message,
    },
    error::{Code, Error, Result},
    ledger::{model::Models, provider::Providers, usage::Operation},
    limits,
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
        let statement = self.desk.statement();
        let desk = self.desk.clone();
        let account = self.account().await?.clone();
        Ok(Gateway {
            caller: Caller {
                tenant: self.tenant.clone(),
                plan: account.plan()?,
                account,
                prices: self.state.meter.prices()?,
                user: self.acting_user(),
                tier: self.tier()?,
                deadline: statement.deadline,
                wait: settings.limit_wait,
                purse: statement,
                notice: Arc::new(move |message| desk.notice(message, None)),
            },
            models: self.engine.models.get(&self.tenant)?,
            providers: self.engine.providers.get(&self.tenant)?,
        })
    }
}

impl Gateway {
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

    /// The embedding model for a call.
    ///
    /// # Errors
    /// See [`Choice::embedding`].
    pub(super) fn embedding_model(&self, asked: Option<&str>) -> Result<Target> {
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

    /// Sizes and makes a call.
    ///
    /// # Errors
    /// Those of the gate.
    pub(super) async fn ask(&self, world: &TenantWorld, call: Call) -> Result<Answer> {
        let gate = &world.engine.gate;
        let size = gate.size(&self.caller, &call)?;
        gate.complete(&self.caller, &call, &size, |_, _| Ok(())).await
    }
}
