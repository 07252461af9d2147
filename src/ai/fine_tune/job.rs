//! A fine-tuning job at its provider: started once, asked for, cleaned up after.

use std::time::Instant;

use bytes::Bytes;

use crate::ai::{
    gate::models::Upstream,
    provider::{Billed, Failure, FineTuneJob, Upstreams, backoff},
};

/// Uploads examples, one JSON object a line; the provider's id of them. Ends by `deadline`.
///
/// # Errors
/// The last [`Failure`].
pub async fn upload(upstreams: &Upstreams, at: &Upstream, jsonl: Bytes, deadline: Instant) -> Result<String, Failure> {
    let upload = || upstreams.upload_examples(&at.row, at.own_key.as_ref(), jsonl.clone(), deadline);
    again(deadline, |_| true, upload).await
}

/// Starts what is ordered: the provider's model to train, the examples to train on, the suffix of the name that comes
/// of it. Ends by `deadline`.
///
/// # Errors
/// The last [`Failure`]. A job is asked for again only where the provider certainly has not begun one.
pub async fn start(
    upstreams: &Upstreams,
    at: &Upstream,
    order: (&str, &str, &str),
    deadline: Instant,
) -> Result<FineTuneJob, Failure> {
    let create = || upstreams.create_fine_tune(&at.row, at.own_key.as_ref(), order, deadline);
    again(deadline, |failure| failure.billed == Billed::Nothing, create).await
}

/// Asks once how far a job is.
///
/// # Errors
/// A [`Failure`].
pub async fn poll(upstreams: &Upstreams, at: &Upstream, job: &str, deadline: Instant) -> Result<FineTuneJob, Failure> {
    upstreams.fine_tune(&at.row, at.own_key.as_ref(), job, deadline).await
}

/// Deletes the examples at the provider; says whether they are gone.
pub async fn forget(upstreams: &Upstreams, at: &Upstream, file: &str, deadline: Instant) -> bool {
    let delete = || upstreams.delete_file(&at.row, at.own_key.as_ref(), file, deadline);
    match again(deadline, |_| true, delete).await {
        Ok(()) => true,
        // It is not there: somebody else deleted it.
        Err(failure) => failure.status == Some(404),
    }
}

/// Tries as often as [`backoff`] says, and as `may` allows.
async fn again<T, F: Future<Output = Result<T, Failure>>>(
    deadline: Instant,
    may: impl Fn(&Failure) -> bool,
    call: impl Fn() -> F,
) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        let failure = match call().await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        let remaining = deadline.saturating_duration_since(Instant::now());
        match backoff(attempt, &failure, remaining) {
            Some(pause) if may(&failure) => tokio::time::sleep(pause).await,
            _ => return Err(failure),
        }
        attempt += 1;
    }
}
