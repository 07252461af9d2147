//! Posts a tenant's alerts to the address that the operator set for it.
//!
//! The body is the alert as JSON: `id`, `at`, `kind`, `message`, `data`. The header [`SIGNATURE`] is `sha256=` and the
//! HMAC-SHA-256 of the body in hexadecimal digits; its key is the text of [`secret`], which only the tenant's owner can
//! read and which changes with the address. An alert is tried again with growing pauses while the other side is not
//! there or asks for it, and is the same by its `id`; a redirect is not followed.
//!
//! Nothing waits for this. Alerts of a tenant go out one after the other, [`limits::ALERT_BACKLOG`] of them wait at
//! most, and those that wait when the server stops are not sent: `bulkhead.alerts` has them all. The address is the
//! operator's, who may set one in its own network: no user of a tenant has any say in it.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use hmac::{Hmac, Mac};
use reqwest::{StatusCode, header::CONTENT_TYPE};
use sha2::Sha256;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::trust::{Authorities, crypto};
use crate::{
    ledger::{alert::Alert, plan::TenantPlan},
    limits,
    tenant::Tenant,
};

/// The header with the signature.
pub const SIGNATURE: &str = "x-bulkhead-signature";

/// The text with which alerts to this address are signed: 64 hexadecimal digits.
pub fn secret(tenant: &Tenant, url: &str) -> String {
    hex(&tenant.keyed_hash("secret of a webhook", url.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signature(secret: &str, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(body.as_bytes());
    Some(format!("sha256={}", hex(&mac.finalize().into_bytes())))
}

/// How one attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Done,
    /// The other side may take it later.
    Later,
    /// It does not take it.
    Refused,
}

impl Sent {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..300 => Self::Done,
            408 | 425 | 429 | 500.. => Self::Later,
            _ => Self::Refused,
        }
    }
}

/// Connections to webhooks, for the whole process. Made at the first use: where none is set, none is needed.
#[derive(Default)]
pub struct Webhooks {
    authorities: Authorities,
    encrypted: Mutex<Option<reqwest::Client>>,
    plain: Mutex<Option<reqwest::Client>>,
}

impl Webhooks {
    /// No connections yet; these are trusted, too.
    pub fn trusting(authorities: Authorities) -> Self {
        Self {
            authorities,
            ..Self::default()
        }
    }

    /// Posts the alerts that come, each to the address of that moment, until there is nobody left to send any.
    pub async fn forward(&self, tenant: &Tenant, mut alerts: Receiver<Alert>) {
        loop {
            match alerts.recv().await {
                Ok(alert) => self.post(tenant, &alert).await,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "alerts were not posted: the webhook takes them too slowly");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn post(&self, tenant: &Tenant, alert: &Alert) {
        let body = alert.payload();
        let mut pause = limits::WEBHOOK_BACKOFF;
        for attempt in 1..=limits::WEBHOOK_ATTEMPTS {
            // The operator may have changed it since the last attempt.
            let Ok(TenantPlan { webhook: Some(url), .. }) = TenantPlan::decode(&tenant.settings().plan) else {
                return;
            };
            // Neither address nor answer is logged: both can hold what is nobody's business.
            match self.attempt(&url, &secret(tenant, &url), &body).await {
                Sent::Done => return,
                Sent::Refused => {
                    tracing::warn!(alert = %alert.id, "the webhook refused an alert");
                    return;
                }
                Sent::Later if attempt < limits::WEBHOOK_ATTEMPTS => {
                    tokio::time::sleep(pause + jitter(pause)).await;
                    pause *= 2;
                }
                Sent::Later => {}
            }
        }
        tracing::warn!(alert = %alert.id, "an alert could not be posted to the webhook");
    }

    async fn attempt(&self, url: &str, secret: &str, body: &str) -> Sent {
        let (Some(client), Some(signature)) = (self.client(url), signature(secret, body)) else {
            return Sent::Later;
        };
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, signature)
            .body(body.to_owned());
        match request.send().await {
            // What it says beside the status is not read.
            Ok(response) => Sent::of(response.status()),
            Err(error) if error.is_builder() => Sent::Refused,
            Err(_) => Sent::Later,
        }
    }

    fn client(&self, url: &str) -> Option<reqwest::Client> {
        let is_https = url.starts_with("https:");
        let slot = if is_https { &self.encrypted } else { &self.plain };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = client(&self.authorities, is_https)
                .inspect_err(|error| tracing::error!(%error, "no webhook can be called"))
                .ok();
        }
        slot.clone()
    }
}

fn client(authorities: &Authorities, is_https: bool) -> reqwest::Result<reqwest::Client> {
    crypto();
    let builder = reqwest::Client::builder()
        .user_agent("bulkhead")
        .timeout(limits::WEBHOOK_TIMEOUT)
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only();
    authorities.apply(builder, is_https).build()
}

/// Up to a quarter more, so that what failed together does not come back together.
fn jitter(pause: Duration) -> Duration {
    pause / 4 * u32::from(rand::random::<u8>()) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::testing;

    #[test]
    fn a_signature_is_the_hmac_of_the_body() {
        // The second case of RFC 4231.
        let signed = signature("Jefe", "what do ya want for nothing?").unwrap();
        assert_eq!(
            signed,
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[tokio::test]
    async fn a_secret_is_of_one_tenant_and_one_address() {
        let directory = testing::directory(&["acme", "globex"]).await;
        let acme = testing::tenant(&directory, "acme", "owner", "secret");
        let globex = testing::tenant(&directory, "globex", "owner", "secret");
        let own = secret(&acme, "https://one.example/");
        assert_eq!(own.len(), 64);
        assert_eq!(own, secret(&acme, "https://one.example/"));
        assert_ne!(own, secret(&acme, "https://two.example/"));
        assert_ne!(own, secret(&globex, "https://one.example/"));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let of = |code| Sent::of(StatusCode::from_u16(code).unwrap());
        for code in [200, 202, 204] {
            assert_eq!(of(code), Sent::Done);
        }
        for code in [408, 429, 500, 503] {
            assert_eq!(of(code), Sent::Later);
        }
        for code in [301, 307, 400, 401, 404, 410] {
            assert_eq!(of(code), Sent::Refused);
        }
    }
}
