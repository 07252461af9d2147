//! Sequences: numbers that are given once, whatever happens to the transaction that asked.
//!
//! What is stored is always ahead of what was given ([`limits::SEQUENCE_AHEAD`]), so that after a crash no number is
//! given again; some are lost then. [`Sequences::next`] waits for the disk once for so many numbers.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    cells,
    schema::{Oid, SequenceDef},
};
use crate::{
    error::{Code, Error, Result},
    limits,
    tenant::{Batch, Table, Tenant},
};

/// The sequences of a tenant.
pub struct Sequences {
    tenant: Tenant,
    known: Mutex<HashMap<Oid, Arc<tokio::sync::Mutex<Option<Reached>>>>>,
}

/// How far a sequence has come.
#[derive(Clone, Copy, Debug)]
struct Reached {
    at: Position,
    /// How many numbers may be given before more are written ahead.
    ahead: u64,
}

/// A number, and whether it was given or is the next to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    value: i64,
    is_called: bool,
}

impl std::fmt::Debug for Sequences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sequences({} known)", self.known.lock().len())
    }
}

impl Position {
    /// The number after; `None` at the end of a sequence that does not cycle.
    fn next(self, def: &SequenceDef) -> Option<Self> {
        let value = match self.is_called {
            false => self.value,
            true => match (self.value.checked_add(def.increment), def.cycle) {
                (Some(next), _) if (def.min..=def.max).contains(&next) => next,
                (_, false) => return None,
                (_, true) if def.increment > 0 => def.min,
                (_, true) => def.max,
            },
        };
        Some(Self { value, is_called: true })
    }
}

impl Sequences {
    pub(super) fn new(tenant: Tenant) -> Self {
        Self {
            tenant,
            known: Mutex::default(),
        }
    }

    /// The next `n` numbers, of at most [`limits::SEQUENCE_NUMBERS`].
    ///
    /// # Errors
    /// [`Code::SequenceExhausted`], with nothing taken; those of committing.
    pub async fn next(&self, def: &SequenceDef, n: u64) -> Result<Vec<i64>> {
        if n > limits::SEQUENCE_NUMBERS {
            return Err(Error::new(Code::TooLarge, "too many numbers of a sequence at once"));
        }
        let slot = self.slot(def.oid);
        let mut slot = slot.lock().await;
        let mut reached = self.reached(&mut slot, def)?;
        let mut numbers = Vec::with_capacity(n as usize);
        for _ in 0..n {
            reached.at = reached.at.next(def).ok_or_else(|| exhausted(def))?;
            numbers.push(reached.at.value);
        }
        match reached.ahead.checked_sub(n) {
            Some(left) => reached.ahead = left,
            None => {
                let mut ahead = reached.at;
                for _ in 0..limits::SEQUENCE_AHEAD {
                    ahead = ahead.next(def).unwrap_or(ahead);
                }
                self.store(def.oid, ahead).await?;
                reached.ahead = limits::SEQUENCE_AHEAD;
            }
        }
        *slot = Some(reached);
        Ok(numbers)
    }

    /// `last_value` and `is_called`.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn last(&self, def: &SequenceDef) -> Result<(i64, bool)> {
        let slot = self.slot(def.oid);
        let mut slot = slot.lock().await;
        let Position { value, is_called } = self.reached(&mut slot, def)?.at;
        Ok((value, is_called))
    }

    /// `setval`.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`], those of committing.
    pub async fn set(&self, def: &SequenceDef, value: i64, is_called: bool) -> Result<()> {
        if !(def.min..=def.max).contains(&value) {
            let (name, min, max) = (&def.name, def.min, def.max);
            let text = format!("setval: value {value} is out of bounds for sequence \"{name}\" ({min}..{max})");
            return Err(Error::new(Code::NumericOutOfRange, text));
        }
        let slot = self.slot(def.oid);
        let mut slot = slot.lock().await;
        let at = Position { value, is_called };
        self.store(def.oid, at).await?;
        *slot = Some(Reached { at, ahead: 0 });
        Ok(())
    }

    /// Puts the next number of a sequence into a batch.
    pub(super) fn put_restart(batch: &mut Batch, oid: Oid, next: i64) -> Result<()> {
        let at = Position {
            value: next,
            is_called: false,
        };
        batch.put(Table::Sequences, &cells::sequence(oid), cells::encode(&at)?);
        Ok(())
    }

    /// Has what was stored read again.
    pub(super) fn forget(&self, oid: Oid) {
        self.known.lock().remove(&oid);
    }

    fn slot(&self, oid: Oid) -> Arc<tokio::sync::Mutex<Option<Reached>>> {
        self.known.lock().entry(oid).or_default().clone()
    }

    fn reached(&self, slot: &mut Option<Reached>, def: &SequenceDef) -> Result<Reached> {
        if let Some(reached) = *slot {
            return Ok(reached);
        }
        let at = match self.tenant.get(Table::Sequences, &cells::sequence(def.oid))? {
            Some(stored) => cells::decode(&stored.value)?,
            None => Position {
                value: def.start,
                is_called: false,
            },
        };
        Ok(*slot.insert(Reached { at, ahead: 0 }))
    }

    async fn store(&self, oid: Oid, at: Position) -> Result<()> {
        let mut batch = self.tenant.batch();
        batch.put(Table::Sequences, &cells::sequence(oid), cells::encode(&at)?);
        self.tenant.commit(batch).await
    }
}

fn exhausted(def: &SequenceDef) -> Error {
    let (name, (word, value)) = (
        &def.name,
        match def.increment > 0 {
            true => ("maximum", def.max),
            false => ("minimum", def.min),
        },
    );
    let text = format!("nextval: reached {word} value of sequence \"{name}\" ({value})");
    Error::new(Code::SequenceExhausted, text)
}
