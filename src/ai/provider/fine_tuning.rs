//! Fine-tuning at a provider: a file of examples, a job that trains on it, the model it leaves.

use async_openai::{
    error::OpenAIError,
    types::{
        InputSource,
        files::{CreateFileRequest, FileInput, FilePurpose},
    },
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    exchange::{Reply, Unread, Upstream},
    failure::{Failure, Kind},
    scrub::scrub,
};
use crate::{ledger::provider::Secret, limits};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits, or its file is checked.
    Queued,
    /// It trains.
    Running,
    /// Its model can be used.
    Succeeded,
    /// It has ended without a model.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// A fine-tuning job as the provider tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FineTuneJob {
    /// The provider's id of it.
    pub id: String,
    /// How far it is.
    pub status: JobStatus,
    /// The provider's name of the trained model, once it has succeeded.
    pub model: Option<String>,
    /// Why it failed, shortened and without keys.
    pub error: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    training_file: &'a str,
    suffix: &'a str,
}

/// What the provider sees as the file's name: the same for everybody.
const FILE_NAME: &str = "training.jsonl";

/// Uploads examples; the id of the file.
pub(super) async fn upload(call: Call<'_>, jsonl: Bytes) -> Result<String, Failure> {
    let request = CreateFileRequest {
        file: FileInput {
            source: InputSource::Bytes {
                filename: FILE_NAME.to_owned(),
                bytes: jsonl,
            },
        },
        purpose: FilePurpose::FineTune,
        expires_after: None,
    };
    let api = call.upstream.api(call.key, call.deadline);
    let (file, status) = call.read(api.files().create_byot::<_, Unread>(request).await).await?;
    id_of(&file).ok_or_else(|| malformed(status))
}

/// Deletes an uploaded file.
pub(super) async fn delete(call: Call<'_>, file: &str) -> Result<(), Failure> {
    let api = call.upstream.api(call.key, call.deadline);
    call.read(api.files().delete_byot::<_, Unread>(checked(file)?).await)
        .await?;
    Ok(())
}

/// Starts a job.
pub(super) async fn create(call: Call<'_>, model: &str, file: &str, suffix: &str) -> Result<FineTuneJob, Failure> {
    let body = Body {
        model,
        training_file: file,
        suffix,
    };
    let api = call.upstream.api(call.key, call.deadline);
    call.job(api.fine_tuning().create_byot::<_, Unread>(&body).await).await
}

/// Asks how far a job is.
pub(super) async fn retrieve(call: Call<'_>, job: &str) -> Result<FineTuneJob, Failure> {
    let api = call.upstream.api(call.key, call.deadline);
    call.job(api.fine_tuning().retrieve_byot::<_, Unread>(checked(job)?).await)
        .await
}

/// Stops a job.
pub(super) async fn cancel(call: Call<'_>, job: &str) -> Result<FineTuneJob, Failure> {
    let api = call.upstream.api(call.key, call.deadline);
    call.job(api.fine_tuning().cancel_byot::<_, Unread>(checked(job)?).await)
        .await
}

/// Where and until when.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub upstream: &'a Upstream,
    pub key: Option<&'a Secret>,
    pub deadline: Instant,
}

impl Call<'_> {
    /// The reply's JSON object and its status.
    async fn read(self, sent: Result<Unread, OpenAIError>) -> Result<(Map<String, Value>, u16), Failure> {
        let mut reply = Reply::of(sent, self.key, self.deadline, limits::PROVIDER_REPLY_BASE_BYTES).await?;
        let body = reply.whole().await?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok((fields, reply.status())),
            _ => Err(malformed(reply.status())),
        }
    }

    async fn job(self, sent: Result<Unread, OpenAIError>) -> Result<FineTuneJob, Failure> {
        let (fields, status) = self.read(sent).await?;
        job_of(&fields, self.key).ok_or_else(|| malformed(status))
    }
}

fn malformed(status: u16) -> Failure {
    Failure {
        status: Some(status),
        ..Failure::new(Kind::Malformed)
    }
}

fn job_of(fields: &Map<String, Value>, key: Option<&Secret>) -> Option<FineTuneJob> {
    let status = match fields.get("status")?.as_str()?.to_ascii_lowercase().as_str() {
        "succeeded" | "completed" => JobStatus::Succeeded,
        "failed" | "error" => JobStatus::Failed,
        "cancelled" | "canceled" => JobStatus::Cancelled,
        "running" => JobStatus::Running,
        // `validating_files`, `queued`, `pending`, and whatever else comes before the end.
        _ => JobStatus::Queued,
    };
    let model = fields
        .get("fine_tuned_model")
        .and_then(Value::as_str)
        .filter(|name| is_id(name));
    if status == JobStatus::Succeeded && model.is_none() {
        return None;
    }
    let error = fields
        .get("error")
        .and_then(|error| error.get("message").unwrap_or(error).as_str());
    Some(FineTuneJob {
        id: id_of(fields)?,
        status,
        model: model.filter(|_| status == JobStatus::Succeeded).map(str::to_owned),
        error: error.map(|text| scrub(text, key)).filter(|text| !text.is_empty()),
    })
}

fn id_of(fields: &Map<String, Value>) -> Option<String> {
    let id = fields.get("id")?.as_str()?;
    (is_id(id) && checked(id).is_ok()).then(|| id.to_owned())
}

fn is_id(text: &str) -> bool {
    (1..=limits::PROVIDER_ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// An id that becomes a part of an address, and only one part of it.
fn checked(id: &str) -> Result<&str, Failure> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.');
    let sound = is_id(id) && id.bytes().all(plain) && id.bytes().any(|b| b.is_ascii_alphanumeric());
    sound.then_some(id).ok_or_else(|| Failure {
        message: "the id is not one that a provider gives".to_owned(),
        ..Failure::new(Kind::Rejected)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(value: Value) -> Option<FineTuneJob> {
        job_of(value.as_object()?, Secret::new("k9zQw7Er5Ty3Ui1").ok().as_ref())
    }

    #[test]
    fn jobs_are_read_leniently_but_ids_are_not() {
        let done = job(json!({"id": "ftjob-1", "status": "succeeded", "fine_tuned_model": "ft:m:x"})).unwrap();
        assert_eq!(
            (done.status, done.model.as_deref()),
            (JobStatus::Succeeded, Some("ft:m:x"))
        );
        for (word, status) in [
            ("validating_files", JobStatus::Queued),
            ("queued", JobStatus::Queued),
            ("RUNNING", JobStatus::Running),
            ("failed", JobStatus::Failed),
            ("cancelled", JobStatus::Cancelled),
        ] {
            let found = job(json!({"id": "j", "status": word, "fine_tuned_model": null, "error": {}})).unwrap();
            assert_eq!((found.status, found.model, found.error), (status, None, None), "{word}");
        }
        let failed = json!({"id": "j", "status": "failed", "error": {"message": "bad file, key k9zQw7Er5Ty3Ui1"}});
        assert_eq!(job(failed).unwrap().error.unwrap(), "bad file, key [hidden]");
        for wrong in [
            json!({"id": "j", "status": "succeeded"}),
            json!({"id": "../files", "status": "queued"}),
            json!({"id": "..", "status": "queued"}),
            json!({"id": "", "status": "queued"}),
            json!({"id": 7, "status": "queued"}),
            json!({"status": "queued"}),
            json!({"id": "j"}),
            json!([]),
        ] {
            assert_eq!(job(wrong.clone()), None, "{wrong}");
        }
        assert_eq!(checked("a/b").unwrap_err().kind, Kind::Rejected);
        assert!(checked(&"a".repeat(limits::PROVIDER_ID_BYTES + 1)).is_err());
    }
}
