//! What the operator sets for one tenant beyond its tier: zone, models, prompt, budgets, limits.

use serde::{Deserialize, Serialize};

use super::{
    bucket::Dimension,
    budget::{Budget, Window},
    money::Nano,
    row,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// The settings of one tenant. The directory stores them as bytes that it does not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantPlan {
    /// IANA name of the zone in which days and months begin.
    pub timezone: String,
    /// Alias of the chat model, instead of the tier's.
    pub model: Option<String>,
    /// Alias of the embedding model, instead of the default.
    pub embedding_model: Option<String>,
    /// When that was set last, in microseconds since 1970 UTC; a re-embedding that failed before is tried again.
    pub embedding_set_at_micros: i64,
    /// The tenant's own system prompt.
    pub system_prompt: Option<SystemPrompt>,
    /// Its former ones, oldest first.
    pub prompt_history: Vec<SystemPrompt>,
    /// Budgets of the whole tenant, beside the tier's of a month. One of each window and kind.
    pub budgets: Vec<Budget>,
    /// Where alerts are posted to.
    pub webhook: Option<String>,
    /// Whether models without a price may be called, at cost 0.
    pub allow_unpriced: bool,
    /// Limits of each single user.
    pub user_limits: UserLimits,
    /// How much the audit log tells.
    pub logging: Level,
}

/// How much a tenant's audit log tells: `logging_level` in SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Logins, changes of tables, users and settings, writes, calls of models, and whatever was refused.
    #[default]
    Standard,
    /// Nothing.
    None,
    /// Reads, too.
    Full,
    /// As [`Level::Full`], and the prompts of calls.
    Prompts,
}

impl Level {
    /// All of them, the fewest entries first.
    pub const ALL: &'static [Self] = &[Self::None, Self::Standard, Self::Full, Self::Prompts];

    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Standard => "standard",
            Self::Full => "full",
            Self::Prompts => "prompts",
        }
    }

    /// The one of this name in SQL.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.as_str() == text)
    }
}

/// One version of a system prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemPrompt {
    /// Counts from 1.
    pub version: u32,
    /// What the model is told.
    pub text: String,
    /// Since when, in microseconds since 1970 UTC.
    pub set_at_micros: i64,
}

/// Rate limits of each user within those of the tenant. `None`: only the tenant's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLimits {
    /// Tokens a minute.
    pub tokens_per_minute: Option<i64>,
    /// Tokens in any 24 hours.
    pub tokens_per_day: Option<i64>,
    /// Calls a minute.
    pub requests_per_minute: Option<i64>,
    /// Calls at once.
    pub concurrent_calls: Option<i64>,
}

impl UserLimits {
    /// The capacity of a user's bucket, if there is one.
    pub fn capacity(&self, dimension: Dimension) -> Option<i64> {
        match dimension {
            Dimension::TokensPerMinute => self.tokens_per_minute,
            Dimension::TokensPerDay => self.tokens_per_day,
            Dimension::RequestsPerMinute => self.requests_per_minute,
        }
    }
}

impl Default for TenantPlan {
    fn default() -> Self {
        Self {
            timezone: "UTC".to_owned(),
            model: None,
            embedding_model: None,
            embedding_set_at_micros: 0,
            system_prompt: None,
            prompt_history: Vec::new(),
            budgets: Vec::new(),
            webhook: None,
            allow_unpriced: false,
            user_limits: UserLimits::default(),
            logging: Level::default(),
        }
    }
}

impl TenantPlan {
    /// The stored value.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    /// Reads a stored value. No bytes are the default plan: nothing was ever set.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn decode(value: &[u8]) -> Result<Self> {
        match value {
            [] => Ok(Self::default()),
            // One that was stored before there were levels ends before it.
            _ => row::decode("plan", value)
                .or_else(|damage| row::decode("plan", &[value, &[0]].concat()).map_err(|_| damage)),
        }
    }

    /// Sets, replaces or (`None`) removes the budget of a window. A hard and a soft one of the same
    /// window stand beside each other.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] for a negative amount.
    pub fn set_budget(&mut self, window: Window, amount: Option<Nano>, hard: bool) -> Result<()> {
        if amount.is_some_and(|amount| amount < Nano::ZERO) {
            return Err(Error::new(Code::InvalidParameterValue, "a budget cannot be negative"));
        }
        self.budgets.retain(|old| (old.window, old.hard) != (window, hard));
        self.budgets
            .extend(amount.map(|amount| Budget { window, amount, hard }));
        Ok(())
    }

    /// Sets a new version of the system prompt, or (`None`) goes back to the built-in one. Former
    /// versions are kept, up to [`limits::PROMPT_VERSIONS`].
    pub fn set_system_prompt(&mut self, text: Option<String>, set_at_micros: i64) {
        let former = self.prompt_history.iter().chain(&self.system_prompt);
        let version = former.map(|prompt| prompt.version).max().unwrap_or(0) + 1;
        self.prompt_history.extend(self.system_prompt.take());
        let surplus = self.prompt_history.len().saturating_sub(limits::PROMPT_VERSIONS);
        self.prompt_history.drain(..surplus);
        self.system_prompt = text.map(|text| SystemPrompt {
            version,
            text,
            set_at_micros,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_storage() {
        let mut plan = TenantPlan::default();
        assert_eq!(TenantPlan::decode(&[]).unwrap(), plan);
        plan.timezone = "Asia/Tokyo".to_owned();
        plan.set_system_prompt(Some("Answer in verse.".to_owned()), 5);
        plan.set_budget(Window::Day, Some(Nano(7)), true).unwrap();
        plan.user_limits.tokens_per_day = Some(9);
        let stored = plan.encode().unwrap();
        assert_eq!(TenantPlan::decode(&stored).unwrap(), plan);
        assert_eq!(TenantPlan::decode(&stored[..stored.len() - 1]).unwrap(), plan);
        plan.logging = Level::Full;
        assert_eq!(TenantPlan::decode(&plan.encode().unwrap()).unwrap(), plan);
        assert!(TenantPlan::decode(&[9]).is_err());
    }

    #[test]
    fn budgets_of_a_window_replace_each_other() {
        let mut plan = TenantPlan::default();
        plan.set_budget(Window::Month, Some(Nano(5)), true).unwrap();
        plan.set_budget(Window::Month, Some(Nano(4)), true).unwrap();
        plan.set_budget(Window::Month, Some(Nano(3)), false).unwrap();
        plan.set_budget(Window::Day, Some(Nano(1)), true).unwrap();
        assert_eq!(plan.budgets.len(), 3);
        assert_eq!(plan.budgets[0].amount, Nano(4));
        plan.set_budget(Window::Month, None, true).unwrap();
        assert_eq!(plan.budgets.len(), 2);
        assert!(plan.set_budget(Window::Day, Some(Nano(-1)), true).is_err());
    }

    #[test]
    fn prompts_are_versioned_and_old_ones_kept() {
        let mut plan = TenantPlan::default();
        for n in 0..limits::PROMPT_VERSIONS as i64 + 5 {
            plan.set_system_prompt(Some(format!("prompt {n}")), n);
        }
        plan.set_system_prompt(None, 99);
        assert_eq!(plan.system_prompt, None);
        assert_eq!(plan.prompt_history.len(), limits::PROMPT_VERSIONS);
        let last = plan.prompt_history.last().unwrap().clone();
        assert_eq!(last.version as usize, limits::PROMPT_VERSIONS + 5);
        plan.set_system_prompt(Some("again".to_owned()), 100);
        assert!(plan.system_prompt.unwrap().version > last.version);
    }
}
