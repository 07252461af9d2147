//! A call that is turned away: by which limit, and when to come again.

use super::{clock::Now, state::units};
use crate::{
    error::{Code, Error},
    ledger::{
        alert::{Alert, moment},
        bucket::{Bucket, Dimension},
        budget::{Budget, Span},
        money::Nano,
    },
    limits,
};

/// When a call that was turned away may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Retry {
    /// When another call ends, whenever that is.
    Freed,
    /// After this many microseconds, if nobody else takes what is missing.
    After(i64),
}

/// A limit that is reached.
#[derive(Debug)]
pub(super) struct Denial {
    limit: String,
    /// Both as JSON numbers.
    used: String,
    capacity: String,
    unit: &'static str,
    hint: &'static str,
    pub retry: Retry,
    resets_at: String,
    /// What this sets off.
    pub alerts: Vec<(Vec<u8>, Alert)>,
}

/// What was admitted, or why it was not.
pub(super) type Admission<T> = Result<T, Box<Denial>>;

impl Denial {
    /// Keeps the denial that lasts longer, so that a retry after it passes all limits; and the alerts
    /// of both.
    pub fn worse(worst: &mut Option<Denial>, mut other: Denial) {
        match worst {
            Some(worst) if worst.retry >= other.retry => worst.alerts.append(&mut other.alerts),
            _ => {
                if let Some(mut milder) = worst.take() {
                    other.alerts.append(&mut milder.alerts);
                }
                *worst = Some(other);
            }
        }
    }

    pub fn rate(user: Option<&str>, dimension: Dimension, bucket: &Bucket, micros: i64, now: Now) -> Self {
        Self {
            limit: named(user, dimension.as_str()),
            used: (bucket.capacity() - bucket.remaining()).to_string(),
            capacity: bucket.capacity().to_string(),
            unit: unit(dimension),
            hint: "wait as long as the detail says, or SET bulkhead.limit_wait",
            retry: Retry::After(micros),
            resets_at: moment(now.wall.saturating_add(bucket.full_in_micros())),
            alerts: Vec::new(),
        }
    }

    pub fn concurrency(user: Option<&str>, running: i64, most: i64, now: Now) -> Self {
        let retry_micros = limits::CONCURRENCY_RETRY.as_micros() as i64;
        Self {
            limit: named(user, "concurrent_calls"),
            used: running.to_string(),
            capacity: most.to_string(),
            unit: "calls",
            hint: "try again when another call has ended, or SET bulkhead.limit_wait",
            retry: Retry::Freed,
            resets_at: moment(now.wall.saturating_add(retry_micros)),
            alerts: Vec::new(),
        }
    }

    pub fn budget(user: Option<&str>, budget: &Budget, used: Nano, span: Span, now: Now) -> Self {
        let name = match budget.window {
            crate::ledger::budget::Window::Day => "daily_budget",
            crate::ledger::budget::Window::Month => "monthly_budget",
        };
        Self {
            limit: named(user, name),
            used: used.to_string(),
            capacity: budget.amount.to_string(),
            unit: "USD",
            hint: "wait until the window ends or have the budget raised; plain SQL goes on",
            retry: Retry::After(span.end_micros.saturating_sub(now.wall).max(0)),
            resets_at: moment(span.end_micros),
            alerts: Vec::new(),
        }
    }

    /// More than a bucket ever holds: to wait would not help.
    pub fn too_large(user: Option<&str>, dimension: Dimension, tokens: i64, bucket: &Bucket) -> Error {
        let (limit, capacity) = (named(user, dimension.as_str()), bucket.capacity());
        let units = units(dimension, tokens);
        Error::new(
            Code::TooLarge,
            format!(
                "this call may take {units} {}, limit {limit} never has more than {capacity}",
                unit(dimension)
            ),
        )
        .with_hint("send less or lower max_tokens; waiting does not help")
        .with_detail(format!(
            r#"{{"limit":"{limit}","used":{units},"capacity":{capacity},"retry_after_ms":null,"resets_at":null}}"#
        ))
    }

    /// Whole milliseconds, rounded up: a retry then is never too early.
    fn retry_after_ms(&self) -> i64 {
        match self.retry {
            Retry::Freed => limits::CONCURRENCY_RETRY.as_millis() as i64,
            Retry::After(micros) => millis(micros),
        }
    }

    /// As the caller hears of it.
    pub fn error(&self) -> Error {
        let Self {
            limit,
            used,
            capacity,
            unit,
            resets_at,
            hint,
            ..
        } = self;
        let retry_after_ms = self.retry_after_ms();
        Error::new(
            Code::LimitReached,
            format!("limit {limit} is reached: {used} of {capacity} {unit} in use"),
        )
        .with_hint(*hint)
        .with_detail(format!(
            r#"{{"limit":"{limit}","used":{used},"capacity":{capacity},"retry_after_ms":{retry_after_ms},"resets_at":"{resets_at}"}}"#
        ))
    }
}

/// Microseconds as milliseconds, rounded up.
pub(super) fn millis(micros: i64) -> i64 {
    micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) > 0)
}

fn named(user: Option<&str>, name: &str) -> String {
    match user {
        Some(_) => format!("user_{name}"),
        None => name.to_owned(),
    }
}

fn unit(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::TokensPerMinute | Dimension::TokensPerDay => "tokens",
        Dimension::RequestsPerMinute => "requests",
    }
}
