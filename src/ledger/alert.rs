//! Alerts: what the owner of a tenant should know, once.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    budget::{Budget, Span},
    money::Nano,
    row,
};
use crate::{
    codec::key,
    error::Result,
    tenant::{Table, Tenant},
};

/// Shares of a budget, in percent, that are told once a window.
pub const THRESHOLDS: [i64; 3] = [50, 80, 100];

/// One row of `bulkhead.alerts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Its name.
    #[serde(with = "row::uuid")]
    pub id: Uuid,
    /// When, in microseconds since 1970 UTC.
    pub at_micros: i64,
    /// `budget_threshold`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// The same for programs: a JSON object.
    pub data: String,
}

/// Who set a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    /// The tenant's tier.
    Tier = 0,
    /// The operator, for this tenant.
    Operator = 1,
    /// The tenant's owner.
    Owner = 2,
}

impl Source {
    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tier => "tier",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

/// A budget that has passed a threshold in a window.
pub(super) struct Passed<'a> {
    pub source: Source,
    pub budget: &'a Budget,
    pub span: Span,
    /// Whose budget, if it is a single user's.
    pub user: Option<&'a str>,
    pub threshold: i64,
}

impl Passed<'_> {
    /// What makes it happen once a window: its place in [`Table::Alerts`]. `scope` stands for the user.
    pub fn key(&self, scope: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        key::put_i64(&mut bytes, self.span.start_micros);
        bytes.extend([
            self.budget.window as u8,
            self.source as u8,
            u8::from(self.budget.hard),
            self.threshold as u8,
        ]);
        bytes.extend_from_slice(scope);
        bytes
    }

    pub fn alert(&self, at_micros: i64, spent: Nano) -> Alert {
        let Budget { window, amount, hard } = self.budget;
        let (threshold, window) = (self.threshold, window.as_str());
        let whose = self.user.map_or(String::new(), |user| format!(" of user {user}"));
        let then = match (threshold, hard) {
            (100, true) => "; AI functions are disabled until the window ends or the budget is raised",
            _ => "",
        };
        let data = serde_json::json!({
            "window": window,
            "threshold": threshold,
            "amount_usd": amount.to_string(),
            "spent_usd": spent.to_string(),
            "hard": hard,
            "set_by": self.source.as_str(),
            "user": self.user,
            "resets_at": moment(self.span.end_micros),
        });
        Alert {
            id: Uuid::now_v7(),
            at_micros,
            kind: "budget_threshold".to_owned(),
            message: format!("{threshold} % of the {window}'s budget of {amount} USD{whose} is used{then}"),
            data: data.to_string(),
        }
    }
}

/// Whether a threshold is passed when this much of a budget is used.
pub(super) fn passes(used: Nano, amount: Nano, threshold: i64) -> bool {
    amount > Nano::ZERO && used.decimal() * 100 >= amount.decimal() * i128::from(threshold)
}

impl Alert {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }
}

/// The tenant's alerts, oldest first.
///
/// # Errors
/// [`Code::Corrupted`](crate::error::Code::Corrupted).
pub fn alerts(tenant: &Tenant) -> Result<Vec<Alert>> {
    let mut all = tenant
        .scan(Table::Alerts, &[])
        .map(|found| row::decode::<Alert>("alert", &found?.1.value))
        .collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|alert| (alert.at_micros, alert.id));
    Ok(all)
}

/// A moment as RFC 3339 in UTC, with milliseconds.
pub(super) fn moment(micros: i64) -> String {
    let moment = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_passed_when_it_is_reached() {
        assert!(!passes(Nano(49), Nano(100), 50));
        assert!(passes(Nano(50), Nano(100), 50));
        assert!(!passes(Nano(79), Nano(99), 80));
        assert!(passes(Nano(i64::MAX), Nano(i64::MAX), 100));
        assert!(!passes(Nano(0), Nano(0), 50));
    }
}
