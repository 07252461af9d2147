//! How a call of a provider fails, what that may have cost, and when it is worth another try.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::scrub::scrub;
use crate::{
    error::{Code, Error},
    ledger::provider::Secret,
    limits,
};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The provider does not accept the key (401, 403).
    Auth,
    /// Too many calls, or no money left there (429, 402).
    Quota {
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
    },
    /// The provider does not do what was asked (any other status that is neither success nor 5xx).
    Rejected,
    /// The provider has no model of this name, or no longer.
    NoModel,
    /// The provider's own fault (5xx, or an error inside a reply).
    Server,
    /// No connection was made: nothing was sent.
    Connect,
    /// No complete reply before the deadline.
    Timeout,
    /// A reply that is not what the interface promises.
    Malformed,
    /// The connection or the stream ended before the reply did.
    Cut,
    /// More bytes than the answer could need.
    TooLarge,
}

impl Kind {
    /// Its name in details.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Quota { .. } => "quota",
            Self::Rejected => "rejected",
            Self::NoModel => "no_model",
            Self::Server => "server",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::TooLarge => "too_large",
        }
    }
}

/// What the provider may ask for a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billed {
    /// It did no work.
    Nothing,
    /// It may have worked before it failed.
    Maybe,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// HTTP status of the reply, if there was one.
    pub status: Option<u16>,
    /// What the provider said, shortened and without keys; may be empty.
    pub message: String,
    /// What it may cost.
    pub billed: Billed,
    /// Whether the same call may succeed when it is sent again.
    pub retryable: bool,
}

impl Failure {
    /// A failure without a word of the provider's.
    pub(in crate::ai) fn new(kind: Kind) -> Self {
        let (billed, retryable) = match kind {
            Kind::Auth | Kind::Rejected | Kind::NoModel => (Billed::Nothing, false),
            Kind::Quota { .. } | Kind::Connect => (Billed::Nothing, true),
            Kind::Server | Kind::Cut => (Billed::Maybe, true),
            Kind::Timeout | Kind::Malformed | Kind::TooLarge => (Billed::Maybe, false),
        };
        Self {
            kind,
            status: None,
            message: String::new(),
            billed,
            retryable,
        }
    }

    /// The deadline has passed before anything was sent.
    pub(super) fn too_late() -> Self {
        Self {
            billed: Billed::Nothing,
            ..Self::new(Kind::Timeout)
        }
    }

    /// From a reply that is no success.
    pub(super) fn of_reply(status: u16, retry_after: Option<Duration>, body: &[u8], key: Option<&Secret>) -> Self {
        let said = Complaint::read(body);
        let kind = match status {
            400..500 if said.is_no_model(status) => Kind::NoModel,
            401 | 403 => Kind::Auth,
            402 | 429 => Kind::Quota { retry_after },
            500.. => Kind::Server,
            _ => Kind::Rejected,
        };
        let plain = Self::new(kind);
        Self {
            status: Some(status),
            message: scrub(&said.message, key),
            // 402 and a spent quota stay until somebody pays; 501 will not be implemented soon.
            retryable: plain.retryable && !said.is_out_of_money() && !matches!(status, 402 | 501),
            ..plain
        }
    }

    /// From an error object inside a reply that began as a success.
    pub(super) fn of_error_object(status: u16, error: &Value, key: Option<&Secret>) -> Self {
        let said = Complaint::of(error);
        let kind = match said.code.as_str() {
            "429" | "rate_limit_exceeded" | "insufficient_quota" => Kind::Quota { retry_after: None },
            MODEL_NOT_FOUND => Kind::NoModel,
            _ => Kind::Server,
        };
        Self {
            status: Some(status),
            message: scrub(&said.message, key),
            billed: Billed::Maybe,
            retryable: !said.is_out_of_money() && kind != Kind::NoModel,
            ..Self::new(kind)
        }
    }

    fn sentence(&self) -> &'static str {
        match self.kind {
            Kind::Auth => "the model's provider does not accept the key",
            Kind::Quota { .. } => "the model's provider accepts no more calls at present",
            Kind::Rejected => "the model's provider refused the call",
            Kind::NoModel => "the model's provider does not have this model",
            Kind::Server => "the model's provider failed",
            Kind::Connect => "the model's provider cannot be reached",
            Kind::Timeout => "the model's provider did not answer in time",
            Kind::Malformed => "the model's provider sent a reply that cannot be read",
            Kind::Cut => "the model's provider ended its reply too early",
            Kind::TooLarge => "the model's provider sent more than was asked for",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    /// 57014 for a timeout, 58030 for the rest; the detail is JSON: `kind`, `status` or null,
    /// `provider_message`, and `retry_after_ms` if the provider told.
    fn from(failure: Failure) -> Self {
        let (code, hint) = match failure.kind {
            Kind::Timeout => (
                Code::QueryCanceled,
                "try again; timeout_ms of the provider and statement_timeout bound the wait",
            ),
            Kind::Auth => (
                Code::ProviderFailed,
                "whoever set the key of this provider sets the right one",
            ),
            Kind::Rejected => (Code::ProviderFailed, "the provider says why in the detail"),
            Kind::NoModel => (
                Code::ProviderFailed,
                "ask for another model; the operator says in bulkhead.models what an alias stands for",
            ),
            Kind::Quota { .. } => (Code::ProviderFailed, "try again later"),
            Kind::Server | Kind::Connect | Kind::Malformed | Kind::Cut | Kind::TooLarge => {
                (Code::ProviderFailed, "try again; if it lasts, ask the operator")
            }
        };
        let mut detail = json!({
            "kind": failure.kind.as_str(),
            "status": failure.status,
            "provider_message": failure.message,
        });
        if let Kind::Quota {
            retry_after: Some(wait),
        } = failure.kind
        {
            detail["retry_after_ms"] = json!(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        Error::new(code, failure.sentence())
            .with_detail(detail.to_string())
            .with_hint(hint)
            .with_source(failure)
    }
}

/// How long to wait before the attempt after number `attempt` (the first is 1); `None` if there is
/// to be none: the failure will not pass, the attempts are used up, or `remaining`, the time to the
/// deadline, is too short. Never shorter than the provider asked.
pub fn backoff(attempt: u8, failure: &Failure, remaining: Duration) -> Option<Duration> {
    wait(attempt, failure, remaining, rand::random())
}

/// [`backoff`] with its chance handed in: 0 is the shortest wait.
fn wait(attempt: u8, failure: &Failure, remaining: Duration, jitter: u16) -> Option<Duration> {
    if !failure.retryable || attempt >= limits::PROVIDER_ATTEMPTS {
        return None;
    }
    let half = limits::PROVIDER_BACKOFF * (1 << attempt.saturating_sub(1)) / 2;
    // Callers that failed together should not come back together.
    let spread = half * u32::from(jitter) / u32::from(u16::MAX);
    let wait = match failure.kind {
        Kind::Quota {
            retry_after: Some(asked),
        } => asked.saturating_add(spread),
        _ => half + spread,
    };
    (wait < remaining).then_some(wait)
}

/// OpenAI's code for a name that is no model, or no longer one.
const MODEL_NOT_FOUND: &str = "model_not_found";

/// What a provider's error says.
#[derive(Default)]
struct Complaint {
    message: String,
    code: String,
    kind: String,
}

impl Complaint {
    /// From a body: OpenAI's `{"error": {..}}`, `{"error": ".."}`, vLLM's `{"message": ..}`,
    /// FastAPI's `{"detail": ..}`, or plain text.
    fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of(value.get("error").unwrap_or(&value)),
            Err(_) => Self {
                message: String::from_utf8_lossy(body).into_owned(),
                ..Self::default()
            },
        }
    }

    fn of(error: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let field = |name: &str| error.get(name).map(text).unwrap_or_default();
        let message = match error {
            Value::Object(fields) => ["message", "detail", "error"]
                .into_iter()
                .find_map(|name| fields.get(name))
                .map(text)
                .unwrap_or_default(),
            other => text(other),
        };
        Self {
            message,
            code: field("code"),
            kind: field("type"),
        }
    }

    /// Whether the model is what is not there. A path that is not there gives a 404 as well, which says nothing
    /// about the model.
    fn is_no_model(&self, status: u16) -> bool {
        let named = self.message.to_ascii_lowercase().contains("model");
        self.code == MODEL_NOT_FOUND || (matches!(status, 404 | 410) && named)
    }

    fn is_out_of_money(&self) -> bool {
        [&self.code, &self.kind]
            .into_iter()
            .any(|word| matches!(word.as_str(), "insufficient_quota" | "billing_hard_limit_reached"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn quota(retry_after: Option<Duration>) -> Failure {
        Failure::new(Kind::Quota { retry_after })
    }

    #[test]
    fn statuses_become_kinds() {
        let of = |status, body: &str| Failure::of_reply(status, None, body.as_bytes(), None);
        for (status, kind, billed, retryable) in [
            (400, Kind::Rejected, Billed::Nothing, false),
            (401, Kind::Auth, Billed::Nothing, false),
            (402, Kind::Quota { retry_after: None }, Billed::Nothing, false),
            (403, Kind::Auth, Billed::Nothing, false),
            (404, Kind::Rejected, Billed::Nothing, false),
            (302, Kind::Rejected, Billed::Nothing, false),
            (429, Kind::Quota { retry_after: None }, Billed::Nothing, true),
            (500, Kind::Server, Billed::Maybe, true),
            (501, Kind::Server, Billed::Maybe, false),
            (503, Kind::Server, Billed::Maybe, true),
            (529, Kind::Server, Billed::Maybe, true),
        ] {
            let failure = of(status, "{}");
            assert_eq!(
                (failure.kind, failure.billed, failure.retryable),
                (kind, billed, retryable),
                "{status}"
            );
            assert_eq!(failure.status, Some(status));
        }
        for (status, body) in [
            (
                404,
                r#"{"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}"#,
            ),
            (
                404,
                r#"{"error": {"message": "model \"x\" not found, try pulling it first", "code": null}}"#,
            ),
            (
                404,
                r#"{"object": "error", "message": "The model `x` does not exist.", "code": 404}"#,
            ),
            (410, "this model is gone"),
            (400, r#"{"error": {"message": "no", "code": "model_not_found"}}"#),
        ] {
            let failure = of(status, body);
            assert_eq!(
                (failure.kind, failure.billed),
                (Kind::NoModel, Billed::Nothing),
                "{body}"
            );
            assert!(!failure.retryable);
        }
        assert_eq!(of(404, "404 page not found").kind, Kind::Rejected);
        assert_eq!(of(400, "the model said no").kind, Kind::Rejected);
        assert_eq!(of(500, r#"{"error": {"code": "model_not_found"}}"#).kind, Kind::Server);
        let spent = r#"{"error": {"message": "pay", "code": "insufficient_quota"}}"#;
        assert!(!of(429, spent).retryable);
        assert!(!of(429, r#"{"error": {"type": "insufficient_quota"}}"#).retryable);
        for (body, message) in [
            (spent, "pay"),
            (r#"{"error": "plain"}"#, "plain"),
            (r#"{"object": "error", "message": "vllm"}"#, "vllm"),
            (r#"{"detail": "fastapi"}"#, "fastapi"),
            (r#"{"error": null}"#, ""),
            ("<html>gateway</html>", "<html>gateway</html>"),
            ("", ""),
        ] {
            assert_eq!(of(500, body).message, message);
        }
        let inside = |error: Value| Failure::of_error_object(200, &error, None);
        assert_eq!(inside(json!({"message": "m", "code": 503})).kind, Kind::Server);
        assert_eq!(inside(json!({"code": "model_not_found"})).kind, Kind::NoModel);
        assert!(!inside(json!({"code": "model_not_found"})).retryable);
        assert_eq!(inside(json!({"code": 429})).kind, Kind::Quota { retry_after: None });
        assert!(!inside(json!({"code": "insufficient_quota"})).retryable);
    }

    #[test]
    fn errors_tell_status_and_wait() {
        let failure = Failure {
            status: Some(429),
            message: "slow down \"please\"".to_owned(),
            ..quota(Some(Duration::from_millis(1500)))
        };
        let error = Error::from(failure);
        assert_eq!(error.code(), Code::ProviderFailed);
        let detail: Value = serde_json::from_str(error.detail().unwrap()).unwrap();
        assert_eq!(
            detail,
            json!({"kind": "quota", "status": 429, "provider_message": "slow down \"please\"", "retry_after_ms": 1500})
        );
        assert_eq!(Error::from(Failure::new(Kind::Timeout)).code(), Code::QueryCanceled);
        assert_eq!(Error::from(Failure::new(Kind::Timeout)).code().sqlstate(), "57014");
        assert_eq!(Error::from(Failure::new(Kind::Cut)).code().sqlstate(), "58030");
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_only_so_often() {
        for kind in [
            Kind::Auth,
            Kind::Rejected,
            Kind::Timeout,
            Kind::Malformed,
            Kind::TooLarge,
        ] {
            assert_eq!(backoff(1, &Failure::new(kind), LONG), None, "{kind:?}");
        }
        for kind in [
            Kind::Quota { retry_after: None },
            Kind::Server,
            Kind::Connect,
            Kind::Cut,
        ] {
            let failure = Failure::new(kind);
            for attempt in 1..limits::PROVIDER_ATTEMPTS {
                let most = limits::PROVIDER_BACKOFF * (1 << (attempt - 1));
                for jitter in [0, 1, 40_000, u16::MAX] {
                    let wait = wait(attempt, &failure, LONG, jitter).unwrap();
                    assert!(most / 2 <= wait && wait <= most, "{kind:?} {attempt} {wait:?}");
                }
            }
            assert_eq!(backoff(limits::PROVIDER_ATTEMPTS, &failure, LONG), None);
            assert_eq!(backoff(u8::MAX, &failure, LONG), None);
        }
    }

    #[test]
    fn no_wait_passes_the_deadline_or_ends_before_the_provider_said() {
        let asked = Duration::from_secs(7);
        for jitter in [0, 1, 40_000, u16::MAX] {
            let wait = wait(1, &quota(Some(asked)), LONG, jitter).unwrap();
            assert!(asked <= wait && wait <= asked + limits::PROVIDER_BACKOFF / 2);
        }
        assert_eq!(wait(1, &quota(Some(asked)), asked, 0), None);
        assert_eq!(wait(1, &quota(Some(Duration::MAX)), LONG, u16::MAX), None);
        let failure = Failure::new(Kind::Server);
        assert_eq!(wait(1, &failure, limits::PROVIDER_BACKOFF, u16::MAX), None);
        assert_eq!(wait(1, &failure, limits::PROVIDER_BACKOFF / 2, 0), None);
        assert_eq!(backoff(1, &failure, Duration::ZERO), None);
    }
}
