//! Calls that carry an idempotency key: repeated with the same content, they give the first answer.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Answer, Hash, Request,
    flight::{Flights, Join, Lead},
};
use crate::{
    error::{Code, Error, Result},
    ledger::{row, usage::now_micros},
    limits,
    tenant::{Batch, Table, Tenant},
};

#[derive(Serialize, Deserialize)]
struct Replay {
    at: i64,
    what: Hash,
    answer: Answer,
}

impl Replay {
    fn is_over(&self, now: i64) -> bool {
        const LIFE: Duration = limits::REPLAY_LIFE;
        now >= self.at.saturating_add(LIFE.as_micros() as i64)
    }
}

/// One tenant's calls with idempotency keys, for [`limits::REPLAY_LIFE`].
pub struct Replays {
    tenant: Tenant,
    clock: fn() -> i64,
    flights: Arc<Flights<Answer>>,
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replays({:?})", self.tenant)
    }
}

/// What an idempotency key asks for.
#[derive(Debug)]
pub enum Asked {
    /// It was called before: the answer of then.
    Replay(Arc<Answer>),
    /// It was not: the caller makes the call, others with the same key wait.
    Run(Claim),
}

/// The duty to make a call. Dropped without [`Claim::store`], it passes to one of those who wait, and
/// nothing is remembered.
pub struct Claim {
    key: Vec<u8>,
    at: i64,
    what: Hash,
    lead: Lead<Answer>,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim")
    }
}

impl Replays {
    /// Those of a tenant; keep one for all its sessions.
    pub fn new(tenant: Tenant) -> Arc<Self> {
        Self::with_clock(tenant, now_micros)
    }

    /// [`Replays::new`] with a clock that gives microseconds since 1970 UTC.
    pub fn with_clock(tenant: Tenant, clock: fn() -> i64) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            clock,
            flights: Arc::default(),
        })
    }

    /// The answer of the call that this user made with this key, or the duty to make it. Waits while
    /// it is under way elsewhere.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] if the key stands for another call, or is empty or too long.
    pub async fn ask(self: &Arc<Self>, key: &str, request: &Request<'_>) -> Result<Asked> {
        if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES {
            return Err(Error::new(
                Code::InvalidParameterValue,
                format!("an idempotency key has 1 to {} bytes", limits::IDEMPOTENCY_KEY_BYTES),
            ));
        }
        let user = self.tenant.keyed_hash("replays of a user", request.user.as_bytes());
        let name = self
            .tenant
            .keyed_hash("idempotency key", &[&user[..], key.as_bytes()].concat());
        // The documents may have changed since: the repeated call is the same all the same.
        let what = Request {
            corpus: None,
            ..*request
        }
        .hash(&self.tenant);
        loop {
            match self.flights.join(name, what) {
                Join::Other => return Err(other_call()),
                Join::Follow(flight) => {
                    if let Some(answer) = flight.landed().await {
                        return Ok(Asked::Replay(answer));
                    }
                }
                Join::Lead(lead) => {
                    let now = (self.clock)();
                    let stored = self.tenant.get(Table::Replays, &name)?;
                    let replay: Option<Replay> = stored.map(|s| row::decode("replay", &s.value)).transpose()?;
                    return match replay.filter(|replay| !replay.is_over(now)) {
                        Some(replay) if replay.what == what => Ok(Asked::Replay(Arc::new(replay.answer))),
                        Some(_) => Err(other_call()),
                        None => Ok(Asked::Run(Claim {
                            key: name.to_vec(),
                            at: now,
                            what,
                            lead,
                        })),
                    };
                }
            }
        }
    }

    /// Deletes what is older than [`limits::REPLAY_LIFE`], and says how many.
    ///
    /// # Errors
    /// Those of reading and committing.
    pub async fn purge(&self) -> Result<usize> {
        let (tenant, now) = (self.tenant.clone(), (self.clock)());
        let scan = move || -> Result<(Batch, usize)> {
            let (mut batch, mut over) = (tenant.batch(), 0);
            for stored in tenant.scan(Table::Replays, &[]) {
                let (key, stored) = stored?;
                let replay: Replay = row::decode("replay", &stored.value)?;
                if replay.is_over(now) {
                    // Unless it is used anew meanwhile.
                    batch.delete(Table::Replays, &key);
                    batch.expect(Table::Replays, &key, Some(stored.version));
                    over += 1;
                }
            }
            Ok((batch, over))
        };
        let (batch, over) = tokio::task::spawn_blocking(scan).await.map_err(Error::internal)??;
        self.tenant.commit(batch).await?;
        Ok(over)
    }
}

impl Claim {
    /// Puts the answer into the batch that settles its call. Once that is on disk, those who wait are
    /// given it.
    ///
    /// # Errors
    /// None in practice: the answer is text and numbers.
    pub fn store(self, batch: &mut Batch, answer: Answer) -> Result<()> {
        let replay = Replay {
            at: self.at,
            what: self.what,
            answer,
        };
        batch.put(Table::Replays, &self.key, row::encode(&replay)?);
        let lead = self.lead;
        batch.on_durable(move || lead.land(replay.answer));
        Ok(())
    }
}

fn other_call() -> Error {
    Error::new(
        Code::InvalidParameterValue,
        "this idempotency key was used for another call",
    )
    .with_hint("use a new key for a new call")
}
