//! Models elsewhere: any server with OpenAI's interface, called once per attempt.
//!
//! [`Upstreams`] keeps connections by address and key, so that a tenant's own key never shares one
//! with another's. A call ends by its deadline with an answer or a [`Failure`] that says what it may
//! have cost; nothing here tries again, [`backoff`] tells the caller whether to. Replies are bounded
//! while they arrive, errors carry the provider's words without its key, and dropping a call closes
//! its connection.

mod address;
mod chat;
mod embeddings;
mod events;
mod exchange;
mod failure;
mod fine_tuning;
mod scrub;
mod usage;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

pub use chat::{ChatRequest, ChatStream, Event, Finish, Message, Role};
pub use embeddings::Embedded;
pub use failure::{Billed, Failure, Kind, backoff};
pub use fine_tuning::{FineTuneJob, JobStatus};
pub use usage::ReportedUsage;

use self::{address::BaseUrl, exchange::Upstream, fine_tuning::Call};
use super::trust::{Authorities, crypto};
use crate::{
    ledger::provider::{ProviderRow, Secret},
    limits,
};

/// Connections to providers, for the whole process. Holds nothing of any tenant but connections
/// that were made with its key, which only that key reaches again.
pub struct Upstreams {
    /// Keeps the hashes of keys from meaning anything outside of this process.
    salt: [u8; 32],
    authorities: Authorities,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    upstreams: HashMap<Route, (Arc<Upstream>, u64)>,
    uses: u64,
}

/// Who shares connections: one address, one key.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Route {
    base_url: BaseUrl,
    key: [u8; 32],
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::new()
    }
}

impl Upstreams {
    /// No connections yet.
    pub fn new() -> Self {
        Self::trusting(Authorities::default())
    }

    /// The same; certificates of these authorities are trusted, too.
    pub fn trusting(authorities: Authorities) -> Self {
        crypto();
        Self {
            salt: rand::random(),
            authorities,
            kept: Mutex::default(),
        }
    }

    /// Sends a prompt to `row`'s provider, with `own_key` instead of the operator's if there is one.
    /// Returns when the answer has begun, or, if it is not asked for as a stream, is complete.
    /// The whole of it ends by `deadline`, and within the provider's timeout.
    ///
    /// # Errors
    /// A [`Failure`]; later ones come through the stream.
    pub async fn chat(
        &self,
        row: &ProviderRow,
        own_key: Option<&Secret>,
        request: &ChatRequest,
        deadline: Instant,
    ) -> Result<ChatStream, Failure> {
        let (upstream, key, deadline) = self.open(row, own_key, deadline)?;
        chat::chat(&upstream, key, request, deadline).await
    }

    /// Embeds a batch of texts with the model that the provider calls `model`.
    ///
    /// # Errors
    /// A [`Failure`].
    pub async fn embed(
        &self,
        row: &ProviderRow,
        own_key: Option<&Secret>,
        model: &str,
        inputs: &[&str],
        deadline: Instant,
    ) -> Result<Embedded, Failure> {
        let (upstream, key, deadline) = self.open(row, own_key, deadline)?;
        embeddings::embed(&upstream, key, model, inputs, deadline).await
    }

    /// Uploads examples for fine-tuning, one JSON object a line; the provider's id of the file.
    ///
    /// # Errors
    /// A [`Failure`].
    pub async fn upload_examples(
        &self,
        row: &ProviderRow,
        own_key: Option<&Secret>,
        jsonl: Bytes,
        deadline: Instant,
    ) -> Result<String, Failure> {
        let (upstream, key, deadline) = self.open(row, own_key, deadline)?;
        fine_tuning::upload(call(&upstream, key, deadline), jsonl).await
    }

    /// Deletes an uploaded file at the provider.
    ///
    /// # Errors
    /// A [`Failure`].
    pub async fn delete_file(
        &self,
        row: &ProviderRow,
        own_key: Option<&Secret>,
        file: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let (upstream, key, deadline) = self.open(row, own_key, deadline)?;
        fine_tuning::delete(call(&upstream, key, deadline), file).await
    }

    /// Starts to train `model` on an uploaded file. `suffix` becomes a part of the trained model's
    /// name at the provider: it must tell nothing.
    ///
    /// # Errors
    /// A [`Failure`].
    pub async fn create_fine_tune(
        &self,
        row: &ProviderRow,
        own_key: Option<&Secret>,
        (model, file, suffix): (&str, &str, &str),
        deadline: Instant,
    ) -> Result<FineTuneJob, Failure> {
        let (upstream, key, deadline) = self.open(row, own_key, deadline)?;
        fine_tuning::create(call(&upstream, key, deadline), model, file, suffix).await
    }

    /// Asks how far a fine-tuning job is.
    ///
    /// # Errors
    /// A [`Failure`].
    pub async fn fine_tune(
        &self,
        row: &ProviderRow,
        own_key: Option<&Secret>,
        job: &str,
        deadline: Instant,
    ) -> Result<FineTuneJob, Failure> {
        let (upstream, key, deadline) = self.open(row, own_key, deadline)?;
        fine_tuning::retrieve(call(&upstream, key, deadline), job).await
    }

    /// Stops a fine-tuning job.
    ///
    /// # Errors
    /// A [`Failure`].
    pub async fn cancel_fine_tune(
        &self,
        row: &ProviderRow,
        own_key: Option<&Secret>,
        job: &str,
        deadline: Instant,
    ) -> Result<FineTuneJob, Failure> {
        let (upstream, key, deadline) = self.open(row, own_key, deadline)?;
        fine_tuning::cancel(call(&upstream, key, deadline), job).await
    }

    /// The connections to use, the key to send, and when this attempt ends.
    fn open<'k>(
        &self,
        row: &'k ProviderRow,
        own_key: Option<&'k Secret>,
        deadline: Instant,
    ) -> Result<(Arc<Upstream>, Option<&'k Secret>, tokio::time::Instant), Failure> {
        let now = Instant::now();
        if deadline <= now {
            return Err(Failure::too_late());
        }
        let key = own_key.or(row.api_key.as_ref());
        let upstream = self.upstream(&address(row)?, key)?;
        Ok((upstream, key, deadline.min(now + timeout(row)).into()))
    }

    fn upstream(&self, base_url: &BaseUrl, key: Option<&Secret>) -> Result<Arc<Upstream>, Failure> {
        let mut hash = Sha256::new_with_prefix(self.salt);
        hash.update([u8::from(key.is_some())]);
        hash.update(key.map_or("", Secret::expose));
        let route = Route {
            base_url: base_url.clone(),
            key: hash.finalize().into(),
        };
        if let Some(upstream) = self.kept.lock().get(&route) {
            return Ok(upstream);
        }
        // Reads the system's certificates: too slow for the lock. Of two made at once one is kept.
        let fresh = Arc::new(Upstream::new(base_url, &self.authorities)?);
        Ok(self.kept.lock().keep(route, fresh))
    }
}

/// Checked when the row was written.
fn address(row: &ProviderRow) -> Result<BaseUrl, Failure> {
    BaseUrl::parse(&row.base_url).map_err(|_| Failure::new(Kind::Rejected))
}

/// Longest time of one attempt.
fn timeout(row: &ProviderRow) -> Duration {
    Duration::from_millis(u64::try_from(row.timeout_ms).unwrap_or(0)).min(limits::STATEMENT_TIMEOUT)
}

fn call<'a>(upstream: &'a Upstream, key: Option<&'a Secret>, deadline: tokio::time::Instant) -> Call<'a> {
    Call {
        upstream,
        key,
        deadline,
    }
}

impl Kept {
    fn get(&mut self, route: &Route) -> Option<Arc<Upstream>> {
        self.uses += 1;
        let (upstream, last) = self.upstreams.get_mut(route)?;
        *last = self.uses;
        Some(Arc::clone(upstream))
    }

    fn keep(&mut self, route: Route, fresh: Arc<Upstream>) -> Arc<Upstream> {
        if let Some(kept) = self.get(&route) {
            return kept;
        }
        if self.upstreams.len() >= limits::PROVIDER_CLIENTS {
            let oldest = self.upstreams.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(route, _)| route.clone()) {
                self.upstreams.remove(&oldest);
            }
        }
        self.upstreams.insert(route, (Arc::clone(&fresh), self.uses));
        fresh
    }
}
