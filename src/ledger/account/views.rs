//! What an account shows, and the budgets that the tenant's owner sets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Account,
    call::worst,
    denial::millis,
    state::{Scope, State, units},
};
use crate::{
    error::{Code, Error, Result},
    ledger::{
        alert::{self, Alert, Source},
        bucket::{Dimension, Short},
        budget::{Budget, Window},
        money::Nano,
        price::Price,
        row,
        usage::Operation,
    },
    tenant::{Batch, Table},
};

/// What [`Account::check_limit`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitCheck {
    /// Whether a call that takes so many tokens would pass the rate limits now.
    pub allowed: bool,
    /// Tokens that could be taken now.
    pub remaining: i64,
    /// When it would pass: 0 for now, `None` for never.
    pub retry_after_ms: Option<i64>,
}

/// One row of `bulkhead.rate_limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitRow {
    /// The user, if it is a limit of each user.
    pub user: Option<String>,
    /// A [`Dimension`]'s name, or `concurrent_calls`.
    pub dimension: &'static str,
    /// Most there ever is.
    pub capacity: i64,
    /// What there is now.
    pub remaining: i64,
    /// When it is full again, in microseconds since 1970 UTC; `None` where that is not a matter of time.
    pub refills_at_micros: Option<i64>,
}

/// One row of `bulkhead.budgets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRow {
    /// Who set it.
    pub source: Source,
    /// The user, if it is a single user's.
    pub user: Option<String>,
    /// How long it lasts.
    pub window: Window,
    /// How much.
    pub amount: Nano,
    /// What is spent in the running window.
    pub spent: Nano,
    /// What running calls may still cost.
    pub reserved: Nano,
    /// What is left; never below 0.
    pub remaining: Nano,
    /// When the next window begins, in microseconds since 1970 UTC.
    pub resets_at_micros: i64,
    /// Whether it refuses.
    pub hard: bool,
}

/// A row of [`Table::Budgets`].
#[derive(Serialize, Deserialize)]
pub(super) struct OwnBudget {
    pub user: Option<String>,
    pub budget: Budget,
}

impl Account {
    /// How many tokens of an answer the hard budgets leave for one more call, at worst; `None` if the
    /// answer costs nothing.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn affordable(&self, user: &str, price: &Price, prompt_tokens: i64) -> Result<Option<i64>> {
        let (input, output) = worst(price, Operation::Complete);
        if output <= Nano::ZERO {
            return Ok(None);
        }
        let prompt = input.times(prompt_tokens.max(0))?;
        let rows = self.budgets(Some(user))?;
        let left = rows.iter().filter(|row| row.hard).map(|row| row.remaining.0).min();
        Ok(left.map(|left| left.saturating_sub(prompt.0).max(0) / output.0))
    }

    /// Whether a call of a user that takes so many tokens would pass the rate limits now. Takes
    /// nothing.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] for a negative number, [`Code::Corrupted`].
    pub fn check_limit(&self, user: &str, tokens: i64) -> Result<LimitCheck> {
        if tokens < 0 {
            return Err(Error::new(
                Code::InvalidParameterValue,
                "a number of tokens cannot be negative",
            ));
        }
        let (terms, now) = (self.terms()?, self.clock.now());
        let mut state = self.state();
        let (mut remaining, mut wait, mut never) = (i64::MAX, 0, false);
        for scope in [Scope::Tenant, Scope::user(user)] {
            state.refill(self.tenant(), &terms, &scope, now)?;
            for (dimension, bucket) in state.levels(&scope) {
                if *dimension != Dimension::RequestsPerMinute {
                    remaining = remaining.min(bucket.remaining());
                }
                match bucket.check(units(*dimension, tokens)) {
                    Ok(()) => {}
                    Err(Short::Never) => never = true,
                    Err(Short::For { micros }) => wait = wait.max(millis(micros)),
                }
            }
        }
        Ok(LimitCheck {
            allowed: !never && wait == 0,
            remaining,
            retry_after_ms: (!never).then_some(wait),
        })
    }

    /// The rate limits of the tenant and, where there are any, of a user.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn rate_limits(&self, user: Option<&str>) -> Result<Vec<RateLimitRow>> {
        let (terms, now) = (self.terms()?, self.clock.now());
        let mut state = self.state();
        let mut rows = Vec::new();
        for scope in [Some(Scope::Tenant), user.map(Scope::user)].into_iter().flatten() {
            let whose = || user.filter(|_| scope != Scope::Tenant).map(str::to_owned);
            state.refill(self.tenant(), &terms, &scope, now)?;
            rows.extend(state.levels(&scope).iter().map(|(dimension, bucket)| RateLimitRow {
                user: whose(),
                dimension: dimension.as_str(),
                capacity: bucket.capacity(),
                remaining: bucket.remaining(),
                refills_at_micros: Some(now.wall.saturating_add(bucket.full_in_micros())),
            }));
            if let Some((running, most)) = state.running(&terms, &scope) {
                rows.push(RateLimitRow {
                    user: whose(),
                    dimension: "concurrent_calls",
                    capacity: most,
                    remaining: (most - running).max(0),
                    refills_at_micros: None,
                });
            }
        }
        Ok(rows)
    }

    /// The budgets of the tenant and, where there are any, of a user.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn budgets(&self, user: Option<&str>) -> Result<Vec<BudgetRow>> {
        let (terms, now) = (self.terms()?, self.clock.now());
        let mut state = self.state();
        let applied = state.budgets(&terms, user.map(Scope::user).as_ref());
        let rows = applied.into_iter().map(|applied| {
            let Budget { window, amount, hard } = applied.budget;
            let span = window.span(terms.zone, now.wall);
            let counter = *state.counter(self.tenant(), &applied.scope, window, span)?;
            Ok(BudgetRow {
                source: applied.source,
                user: user.filter(|_| applied.scope != Scope::Tenant).map(str::to_owned),
                window,
                amount,
                spent: counter.spent,
                reserved: counter.reserved,
                remaining: Nano(amount.0.saturating_sub(counter.used()?.0).max(0)),
                resets_at_micros: span.end_micros,
                hard,
            })
        });
        rows.collect()
    }

    /// The users for whom the owner has set a budget, by name.
    pub fn budget_users(&self) -> Vec<String> {
        let state = self.state();
        let scopes = state.own.iter().filter(|(_, budgets)| !budgets.is_empty());
        let mut users: Vec<String> = scopes
            .filter_map(|(scope, _)| scope.name().map(str::to_owned))
            .collect();
        users.sort();
        users
    }

    /// The tenant's alerts, oldest first.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        alert::alerts(self.tenant())
    }

    /// A batch that sets a budget of the owner's, for the whole tenant or for one user, once it is committed. It
    /// can only be lower than what the operator allows.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] if it is negative or higher.
    pub fn set_budget(
        self: &Arc<Self>,
        user: Option<String>,
        window: Window,
        amount: Nano,
        hard: bool,
    ) -> Result<Batch> {
        if amount < Nano::ZERO {
            return Err(Error::new(Code::InvalidParameterValue, "a budget cannot be negative"));
        }
        let terms = self.terms()?;
        let operators = self.state().budgets(&terms, None);
        let most = operators
            .iter()
            .filter(|applied| applied.source != Source::Owner && applied.budget.hard)
            // A day cannot have more than its month.
            .filter(|applied| applied.budget.window >= window)
            .map(|applied| applied.budget.amount)
            .min();
        if let Some(most) = most.filter(|most| amount > *most) {
            return Err(Error::new(
                Code::InvalidParameterValue,
                format!("the budget cannot be higher than the operator's of {most} USD"),
            )
            .with_hint("ask the operator of this server to raise it"));
        }
        self.write_budget(user, window, Some(Budget { window, amount, hard }))
    }

    /// A batch that removes a budget of the owner's.
    ///
    /// # Errors
    /// None in practice.
    pub fn clear_budget(self: &Arc<Self>, user: Option<String>, window: Window) -> Result<Batch> {
        self.write_budget(user, window, None)
    }

    fn write_budget(self: &Arc<Self>, user: Option<String>, window: Window, budget: Option<Budget>) -> Result<Batch> {
        let scope = user.as_deref().map_or(Scope::Tenant, Scope::user);
        let mut key = scope.bytes(self.tenant());
        key.push(window as u8);
        let mut batch = self.tenant().batch();
        match budget {
            Some(budget) => batch.put(Table::Budgets, &key, row::encode(&OwnBudget { user, budget })?),
            None => batch.delete(Table::Budgets, &key),
        }
        // Of two writers the later commit is the later in memory too.
        let account = self.clone();
        batch.on_durable(move || account.state().set_own(scope, window, budget));
        Ok(batch)
    }
}

impl State {
    pub(super) fn set_own(&mut self, scope: Scope, window: Window, budget: Option<Budget>) {
        let own = self.own.entry(scope).or_default();
        own.retain(|old| old.window != window);
        own.extend(budget);
    }
}
