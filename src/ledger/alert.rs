//! Alerts: what the owner of a tenant should know, once.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    budget::{Budget, Span},
    money::{Day, Nano},
    row,
    usage::now_micros,
};
use crate::{
    codec::key,
    error::Result,
    tenant::{Batch, Sums, Table, Tenant},
};

/// Shares of a budget, in percent, that are told once a window.
pub const THRESHOLDS: [i64; 3] = [50, 80, 100];

/// The series in which alerts are counted for the operator, by UTC day, in the order of [`THRESHOLDS`].
pub const SERIES: u8 = 3;

/// One row of `bulkhead.alerts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Its name.
    #[serde(with = "row::uuid")]
    pub id: Uuid,
    /// When, in microseconds since 1970 UTC.
    pub at_micros: i64,
    /// `budget_threshold`, `fine_tune_succeeded`, `fine_tune_failed` or `model_retired`.
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

    /// Which of [`THRESHOLDS`] a key is of.
    fn threshold_of(key: &[u8]) -> Option<usize> {
        let percent = i64::from(*key.get(size_of::<i64>() + 3)?);
        THRESHOLDS.iter().position(|threshold| *threshold == percent)
    }

    pub fn alert(&self, at_micros: i64, spent: Nano) -> Alert {
        let Budget { window, amount, hard } = self.budget;
        let (threshold, window) = (self.threshold, window.as_str());
        let whose = self.user.map_or(String::new(), |user| format!(" of user {user}"));
        let budget = format!("the {window}'s budget of {amount} USD{whose}");
        let message = match (threshold, hard) {
            (100, true) => format!(
                "{budget} is used up ({spent} USD); AI functions are disabled until the window ends or it is raised"
            ),
            _ => format!("{threshold} % of {budget} is used"),
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
            message,
            data: data.to_string(),
        }
    }
}

/// Whether a threshold is passed when this much of a budget is used.
pub(super) fn passes(used: Nano, amount: Nano, threshold: i64) -> bool {
    amount > Nano::ZERO && used.decimal() * 100 >= amount.decimal() * i128::from(threshold)
}

impl Alert {
    /// One of this moment that is no budget's. `data` is a JSON object.
    pub fn now(kind: &str, message: impl Into<String>, data: &serde_json::Value) -> Self {
        Self {
            id: Uuid::now_v7(),
            at_micros: now_micros(),
            kind: kind.to_owned(),
            message: message.into(),
            data: data.to_string(),
        }
    }

    /// Puts one that is no budget's. It is not counted for the operator.
    pub(super) fn put_event(&self, batch: &mut Batch) -> Result<()> {
        batch.put(Table::Alerts, &self.event_key(), row::encode(self)?);
        Ok(())
    }

    /// Where no threshold of a budget can be.
    fn event_key(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        key::put_i64(&mut bytes, self.at_micros);
        bytes.extend([u8::MAX; 4]);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes
    }

    /// Puts it at its [key](Passed::key), and counts it for the operator.
    pub(super) fn put(&self, key: &[u8], batch: &mut Batch) -> Result<()> {
        batch.put(Table::Alerts, key, row::encode(self)?);
        let mut counts = vec![0; THRESHOLDS.len()];
        if let Some(threshold) = Passed::threshold_of(key) {
            counts[threshold] = 1;
        }
        batch.publish(SERIES, Day::of_micros(self.at_micros).0.into(), &Sums(counts));
        Ok(())
    }

    /// It as JSON, as those who listen are told.
    pub fn payload(&self) -> String {
        let data: serde_json::Value = serde_json::from_str(&self.data).unwrap_or_default();
        let at = moment(self.at_micros);
        serde_json::json!({"id": self.id, "at": at, "kind": self.kind, "message": self.message, "data": data})
            .to_string()
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
    use crate::ledger::budget::Window;

    #[test]
    fn a_key_tells_its_threshold() {
        for (place, threshold) in THRESHOLDS.into_iter().enumerate() {
            let passed = Passed {
                source: Source::Owner,
                budget: &Budget {
                    window: Window::Month,
                    amount: Nano(1),
                    hard: true,
                },
                span: Span {
                    start_micros: -5,
                    end_micros: 7,
                },
                user: None,
                threshold,
            };
            assert_eq!(Passed::threshold_of(&passed.key(b"scope")), Some(place));
        }
        assert_eq!(Passed::threshold_of(b"short"), None);
        let event = Alert::now("model_retired", "gone", &serde_json::json!({}));
        assert_eq!(Passed::threshold_of(&event.event_key()), None);
    }

    #[test]
    fn a_threshold_is_passed_when_it_is_reached() {
        assert!(!passes(Nano(49), Nano(100), 50));
        assert!(passes(Nano(50), Nano(100), 50));
        assert!(!passes(Nano(79), Nano(99), 80));
        assert!(passes(Nano(i64::MAX), Nano(i64::MAX), 100));
        assert!(!passes(Nano(0), Nano(0), 50));
    }
}
