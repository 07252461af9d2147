//! One request and its reply: bounded in time and bytes, sent once, with our headers only.
//!
//! The library builds requests; replies are read here. Its own reading has no bound, logs what it
//! cannot parse (which is what a tenant's model said) and queues a stream without limit, so the
//! service given to it keeps the reply for us and ends the library's part.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use async_openai::{
    Client,
    config::{Config, OpenAIConfig},
    error::OpenAIError,
    middleware::HttpRequestFactory,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::{
    address::BaseUrl,
    failure::{Failure, Kind},
};
use crate::{ai::trust::Authorities, ledger::provider::Secret, limits};

/// The library's client for one call.
pub(super) type Api = Client<Arc<dyn Config>>;

/// Connections to one provider, made for one key.
pub(super) struct Upstream {
    http: reqwest::Client,
    config: Arc<dyn Config>,
    /// Whether it is OpenAI itself.
    pub openai: bool,
}

impl Upstream {
    /// # Errors
    /// [`Kind::Connect`] if the system has no certificates to trust.
    pub fn new(base_url: &BaseUrl, authorities: &Authorities) -> Result<Self, Failure> {
        let builder = reqwest::Client::builder()
            .user_agent("bulkhead")
            .connect_timeout(limits::PROVIDER_CONNECT)
            .pool_idle_timeout(limits::PROVIDER_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            // With one request at a time on a connection, a reply cannot be taken for another's.
            .http1_only();
        let builder = authorities.apply(builder, base_url.is_https());
        let http = builder.build().map_err(|_| Failure {
            message: "the system's certificates could not be read".to_owned(),
            retryable: false,
            ..Failure::new(Kind::Connect)
        })?;
        // The default reads OPENAI_* of the environment, so all of it is replaced.
        let config = OpenAIConfig::new()
            .with_api_base(base_url.as_str())
            .with_api_key("")
            .with_org_id("")
            .with_project_id("");
        Ok(Self {
            http,
            config: Arc::new(config),
            openai: base_url.is_openai(),
        })
    }

    /// For one call, which ends by `deadline`.
    pub fn api(&self, key: Option<&Secret>, deadline: Instant) -> Api {
        Client::build(self.http.clone(), Arc::clone(&self.config)).with_http_service(SendOnce {
            http: self.http.clone(),
            key: key.cloned(),
            deadline,
        })
    }
}

/// Sends a request once and takes the reply away from the library.
#[derive(Clone)]
struct SendOnce {
    http: reqwest::Client,
    key: Option<Secret>,
    deadline: Instant,
}

impl SendOnce {
    async fn send(self, request: HttpRequestFactory) -> Result<reqwest::Response, Failure> {
        let unsendable = |_| Failure {
            message: "the request could not be built".to_owned(),
            ..Failure::new(Kind::Rejected)
        };
        let mut request = request.build().await.map_err(unsendable)?;
        let headers = request.headers_mut();
        headers.remove(AUTHORIZATION);
        if let Some(key) = &self.key {
            headers.insert(AUTHORIZATION, bearer(key)?);
        }
        match timeout_at(self.deadline, self.http.execute(request)).await {
            Ok(sent) => sent.map_err(|error| Failure::new(kind_of(&error))),
            Err(_) => Err(Failure::new(Kind::Timeout)),
        }
    }
}

impl tower::Service<HttpRequestFactory> for SendOnce {
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequestFactory) -> Self::Future {
        let once = self.clone();
        Box::pin(async move { Err(OpenAIError::Boxed(Box::new(Sent(once.send(request).await)))) })
    }
}

/// What came of sending; leaves the library as if it were an error.
struct Sent(Result<reqwest::Response, Failure>);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sent(..)")
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sent")
    }
}

impl std::error::Error for Sent {}

/// A reply whose head says success and whose body is still to be read.
pub(super) struct Reply {
    response: reqwest::Response,
    deadline: Instant,
    left: usize,
}

impl Reply {
    /// The reply to what the library was asked to send; its body may have `most_bytes`.
    ///
    /// # Errors
    /// The failure of sending, or what a status other than success says.
    pub async fn of<T>(
        sent: Result<T, OpenAIError>,
        key: Option<&Secret>,
        deadline: Instant,
        most_bytes: usize,
    ) -> Result<Self, Failure> {
        let Err(OpenAIError::Boxed(sent)) = sent else {
            // The library gave up before it called the service.
            return Err(Failure::new(Kind::Rejected));
        };
        let response = sent.downcast::<Sent>().map_err(|_| Failure::new(Kind::Rejected))?.0?;
        let status = response.status();
        let mut reply = Self {
            response,
            deadline,
            left: most_bytes.min(limits::PROVIDER_REPLY_BYTES),
        };
        if status.is_success() {
            return Ok(reply);
        }
        let retry_after = retry_after(reply.response.headers(), SystemTime::now());
        let body = reply.complaint().await;
        Err(Failure::of_reply(status.as_u16(), retry_after, &body, key))
    }

    /// The status, which is a success.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Whether the body is one JSON value, whatever was asked for.
    pub fn is_json(&self) -> bool {
        let kind = self.response.headers().get(CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
    }

    /// The next bytes of the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let status = Some(self.status());
        let failed = |kind| Failure {
            status,
            ..Failure::new(kind)
        };
        let chunk = match timeout_at(self.deadline, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(_)) => return Err(failed(Kind::Cut)),
            Err(_) => return Err(failed(Kind::Timeout)),
        };
        if let Some(chunk) = &chunk {
            self.left = self
                .left
                .checked_sub(chunk.len())
                .ok_or_else(|| failed(Kind::TooLarge))?;
        }
        Ok(chunk)
    }

    /// All of the body.
    pub async fn whole(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What can be had of a failure's body.
    async fn complaint(&mut self) -> Vec<u8> {
        self.left = limits::PROVIDER_COMPLAINT_BYTES;
        self.deadline = self.deadline.min(Instant::now() + limits::PROVIDER_COMPLAINT);
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk);
        }
        body
    }
}

/// The type that the library is told to read replies as; it never gets to read one.
pub(super) type Unread = IgnoredAny;

fn bearer(key: &Secret) -> Result<HeaderValue, Failure> {
    let text = Zeroizing::new(format!("Bearer {}", key.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| Failure::new(Kind::Auth))?;
    value.set_sensitive(true);
    Ok(value)
}

fn kind_of(error: &reqwest::Error) -> Kind {
    if error.is_connect() {
        Kind::Connect
    } else if error.is_timeout() {
        Kind::Timeout
    } else if error.is_builder() {
        Kind::Rejected
    } else {
        Kind::Cut
    }
}

/// How long a provider asks to wait: `retry-after-ms`, or `retry-after` as seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str, unit: f64| Duration::try_from_secs_f64(text.parse::<f64>().ok()? * unit).ok();
    if let Some(wait) = text("retry-after-ms").and_then(|text| number(text, 1e-3)) {
        return Some(wait);
    }
    let after = text(RETRY_AFTER.as_str())?;
    if let Some(wait) = number(after, 1.0) {
        return Some(wait);
    }
    let date = SystemTime::from(chrono::DateTime::parse_from_rfc2822(after).ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            retry_after(&headers, now)
        };
        assert_eq!(of("retry-after", "20"), Some(Duration::from_secs(20)));
        assert_eq!(of("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(of("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        // One minute after `now`.
        let date = "Tue, 14 Nov 2023 22:14:20 GMT";
        assert_eq!(of("retry-after", date), Some(Duration::from_secs(60)));
        assert_eq!(of("retry-after", "Tue, 14 Nov 2000 22:14:20 GMT"), Some(Duration::ZERO));
        for wrong in ["soon", "-1", "NaN", "inf", "1e300", ""] {
            assert_eq!(of("retry-after", wrong), None, "{wrong}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_key_in_a_header_is_marked_sensitive() {
        let value = bearer(&Secret::new("sk-abc").unwrap()).unwrap();
        assert_eq!(value.as_bytes(), b"Bearer sk-abc");
        assert!(!format!("{value:?}").contains("abc"));
    }
}
