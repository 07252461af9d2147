//! Work in the background, as rows that tell how far it is: `bulkhead.jobs`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::documents::{decode, encode, now_micros};
use crate::{
    ai::corpus::Space,
    error::{Code, Error, Result},
    tenant::{Batch, Table, Tenant},
};

/// Who is named on the usage lines of a job.
pub(super) const USER: &str = "bulkhead";

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Embeds a tenant's chunks by another model; see [`super::reembed`].
    ReEmbed,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ReEmbed => "re-embed",
        }
    }
}

/// One row of `bulkhead.jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// The space that it fills.
    pub(super) space: Space,
    /// Chunks that are embedded, of so many.
    pub(super) done: i64,
    pub(super) total: i64,
    /// What it waits for, or why it failed.
    pub(super) message: Option<String>,
    /// Microseconds since 1970, UTC.
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

impl Job {
    /// A job that is about to run.
    pub(super) fn new(space: Space) -> Self {
        let now = now_micros();
        Self {
            id: Uuid::now_v7(),
            kind: Kind::ReEmbed,
            state: State::Running,
            space,
            done: 0,
            total: 0,
            message: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Puts the row, as of now, into a batch.
    pub(super) fn put(&mut self, batch: &mut Batch) -> Result<()> {
        self.updated_at = now_micros().max(self.updated_at + 1);
        batch.put(Table::Jobs, self.id.as_bytes(), encode(self)?);
        Ok(())
    }
}

/// The jobs of a tenant, the oldest first.
pub(super) fn all(tenant: &Tenant) -> impl Iterator<Item = Result<Job>> + use<> {
    tenant
        .scan(Table::Jobs, &[])
        .map(|row| row.and_then(|(_, stored)| decode(&stored.value)))
}

/// The job that fills a space.
pub(super) fn of_space(tenant: &Tenant, space: Space) -> Result<Option<Job>> {
    let jobs: Vec<Job> = all(tenant).collect::<Result<_>>()?;
    Ok(jobs.into_iter().rfind(|job| job.space == space))
}

/// What lets a job that failed be tried again, to be committed.
///
/// # Errors
/// 42704 for an id that is none, 55000 for a job that did not fail.
pub(super) fn retry(tenant: &Tenant, id: Uuid) -> Result<Batch> {
    let stored = tenant
        .get(Table::Jobs, id.as_bytes())?
        .ok_or_else(|| Error::new(Code::UndefinedObject, format!("job {id} does not exist")))?;
    let mut job: Job = decode(&stored.value)?;
    if job.state != State::Failed {
        return Err(Error::new(
            Code::NotReady,
            format!(
                "job {id} is {}: only one that failed can be tried again",
                job.state.as_str()
            ),
        ));
    }
    job.state = State::Queued;
    job.message = None;
    let mut batch = tenant.batch();
    batch.expect(Table::Jobs, id.as_bytes(), Some(stored.version));
    job.put(&mut batch)?;
    Ok(batch)
}
