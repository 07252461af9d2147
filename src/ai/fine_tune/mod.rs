//! Fine-tuning for one tenant: examples from its own conversations, jobs at a provider, what came of them.
//!
//! [`dataset`] makes the examples, [`job`] sends them and asks how far the training is, and a [`FineTune`] is the
//! tenant's row of it. What the provider gets is the examples, and a suffix that is a keyed hash of the row's id: no
//! name of the tenant, of a user or of a conversation. Its file is deleted when the job has ended.

pub mod dataset;
pub mod job;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::provider::{FineTuneJob, JobStatus};
use crate::{
    error::{Error, Result},
    ledger::{row, usage::now_micros},
    tenant::{Stored, Table, Tenant, Version},
};

/// How far a fine-tuning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The examples are on their way; the provider has not confirmed a job.
    Starting,
    /// The provider has it, and has not begun.
    Queued,
    /// It trains.
    Running,
    /// Its model answers for the tenant.
    Succeeded,
    /// It has ended without a model.
    Failed,
    /// It was stopped at the provider.
    Cancelled,
}

impl State {
    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will come of it.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl From<JobStatus> for State {
    fn from(status: JobStatus) -> Self {
        match status {
            JobStatus::Queued => Self::Queued,
            JobStatus::Running => Self::Running,
            JobStatus::Succeeded => Self::Succeeded,
            JobStatus::Failed => Self::Failed,
            JobStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// One row of `ai.fine_tunes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FineTune {
    /// A UUIDv7, so that later ones are greater.
    pub id: Uuid,
    /// Alias of the model that is trained further.
    pub base: String,
    /// Name in `bulkhead.providers`.
    pub provider: String,
    /// How far it is.
    pub state: State,
    /// How many examples were sent.
    pub examples: u32,
    /// The provider's id of the examples, until they are deleted there.
    pub file: Option<String>,
    /// The provider's id of the job.
    pub job: Option<String>,
    /// Why it failed, or why it could not be asked for lately.
    pub error: Option<String>,
    /// Microseconds since 1970, UTC.
    pub created_at: i64,
    /// When it was last heard of something new; the same unit.
    pub updated_at: i64,
}

impl FineTune {
    /// One that begins now.
    pub fn new(base: &str, provider: &str, examples: usize) -> Self {
        let now = now_micros();
        Self {
            id: Uuid::now_v7(),
            base: base.to_owned(),
            provider: provider.to_owned(),
            state: State::Starting,
            examples: u32::try_from(examples).unwrap_or(u32::MAX),
            file: None,
            job: None,
            error: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The name that its model gets in this tenant.
    pub fn alias(&self) -> String {
        // The end of the id is chance, its beginning the time.
        format!("fine-tuned-{}", &self.id.simple().to_string()[20..])
    }

    /// What its model's name at the provider carries: equal for nobody else, and no one's name.
    pub fn suffix(&self, tenant: &Tenant) -> String {
        let hash = tenant.keyed_hash("suffix of a fine-tuned model", self.id.as_bytes());
        hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes over what the provider says. Says whether that is news.
    pub fn hear(&mut self, job: &FineTuneJob) -> bool {
        let heard = Self {
            state: job.status.into(),
            error: job.error.clone(),
            job: Some(job.id.clone()),
            ..self.clone()
        };
        self.take_over(heard)
    }

    /// Notes why the provider could not be asked. Says whether that is news.
    pub fn complain(&mut self, error: &Error) -> bool {
        let heard = Self {
            error: Some(error.message().to_owned()),
            ..self.clone()
        };
        self.take_over(heard)
    }

    /// Ends it without a model.
    pub fn fail(&mut self, why: impl Into<String>) {
        let heard = Self {
            state: State::Failed,
            error: Some(why.into()),
            ..self.clone()
        };
        self.take_over(heard);
    }

    fn take_over(&mut self, heard: Self) -> bool {
        let news = *self != heard;
        if news {
            *self = heard;
            self.updated_at = now_micros();
        }
        news
    }

    /// The key of this row.
    pub fn key(&self) -> &[u8] {
        self.id.as_bytes()
    }

    /// The stored value.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    fn decode(stored: &Stored) -> Result<Self> {
        row::decode("fine-tuning", &stored.value)
    }

    /// All of a tenant, the oldest first, and the version to expect when one is changed.
    ///
    /// # Errors
    /// [`Code::Corrupted`](crate::error::Code::Corrupted).
    pub fn all(tenant: &Tenant) -> Result<Vec<(Self, Version)>> {
        let rows = tenant.scan(Table::FineTunes, &[]).map(|found| {
            let (_, stored) = found?;
            Ok((Self::decode(&stored)?, stored.version))
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::testing;

    #[tokio::test]
    async fn rows_are_kept_and_names_tell_nothing() {
        let directory = testing::directory(&["acme", "globex"]).await;
        let acme = testing::tenant(&directory, "acme", "owner", "secret");
        let globex = testing::tenant(&directory, "globex", "owner", "secret");
        let row = FineTune::new("default-large", "openai", 12);
        let mut batch = acme.batch();
        batch.put(Table::FineTunes, row.key(), row.encode().unwrap());
        acme.commit(batch).await.unwrap();
        let kept: Vec<_> = FineTune::all(&acme).unwrap().into_iter().map(|(row, _)| row).collect();
        assert_eq!(kept, std::slice::from_ref(&row));
        assert!(FineTune::all(&globex).unwrap().is_empty());
        let suffix = row.suffix(&acme);
        assert!(suffix.len() == 12 && suffix.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(suffix, row.suffix(&globex));
        assert_ne!(suffix, FineTune::new("default-large", "openai", 12).suffix(&acme));
        assert!(!row.id.simple().to_string().contains(&suffix));
    }

    #[test]
    fn only_news_count_as_heard() {
        let mut row = FineTune::new("default-large", "openai", 12);
        let told = |status, error: Option<&str>| FineTuneJob {
            id: "ftjob-1".to_owned(),
            status,
            model: None,
            error: error.map(str::to_owned),
        };
        assert!(row.hear(&told(JobStatus::Queued, None)));
        assert!(!row.hear(&told(JobStatus::Queued, None)));
        assert!(row.hear(&told(JobStatus::Running, None)));
        assert!(row.hear(&told(JobStatus::Failed, Some("line 1 is bad"))));
        assert!(row.state.has_ended());
        assert_eq!(row.error.as_deref(), Some("line 1 is bad"));
    }
}
