//! The books: lines and their sums by day, written together and read together.

use std::collections::BTreeMap;

use super::{
    meter::Meter,
    money::{Day, Nano, out_of_range},
    usage::{Class, UsageLine},
};
use crate::{
    codec::key,
    error::{Code, Error, Result},
    tenant::{AMOUNTS_BY_DAY, Batch, Sums, Table, Tenant},
};

/// How often a reader starts again because counts were written while it read.
const READ_ATTEMPTS: usize = 100;

/// What was used on one day: the row of `bulkhead.costs`, and the meaning of the numbers of
/// [`Table::Costs`] and of the operator's amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Tokens of models, sent and received.
    pub llm_tokens: i64,
    /// What they cost.
    pub llm: Nano,
    /// Statements.
    pub db_queries: i64,
    /// What they cost.
    pub database: Nano,
    /// Vector searches.
    pub vector_searches: i64,
    /// What they cost.
    pub vector_search: Nano,
}

impl Amounts {
    /// What one line adds.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn of(line: &UsageLine) -> Result<Self> {
        let mut amounts = Self::default();
        match line.operation.class() {
            Class::Llm => {
                let tokens = line.prompt_tokens.checked_add(line.completion_tokens);
                (amounts.llm_tokens, amounts.llm) = (tokens.ok_or_else(out_of_range)?, line.cost);
            }
            Class::Database => (amounts.db_queries, amounts.database) = (line.count, line.cost),
            Class::Vector => (amounts.vector_searches, amounts.vector_search) = (line.count, line.cost),
        }
        Ok(amounts)
    }

    /// The sum.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn plus(self, other: Self) -> Result<Self> {
        let count = |a: i64, b: i64| a.checked_add(b).ok_or_else(out_of_range);
        Ok(Self {
            llm_tokens: count(self.llm_tokens, other.llm_tokens)?,
            llm: self.llm.plus(other.llm)?,
            db_queries: count(self.db_queries, other.db_queries)?,
            database: self.database.plus(other.database)?,
            vector_searches: count(self.vector_searches, other.vector_searches)?,
            vector_search: self.vector_search.plus(other.vector_search)?,
        })
    }

    /// What everything costs.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn total(&self) -> Result<Nano> {
        self.llm.plus(self.database)?.plus(self.vector_search)
    }

    /// As the store adds them up.
    pub fn to_sums(self) -> Sums {
        Sums(vec![
            self.llm_tokens,
            self.llm.0,
            self.db_queries,
            self.database.0,
            self.vector_searches,
            self.vector_search.0,
        ])
    }

    /// As the store gives them back.
    ///
    /// # Errors
    /// [`Code::Corrupted`] if these are not six numbers.
    pub fn from_sums(sums: &Sums) -> Result<Self> {
        match sums.0[..] {
            [llm_tokens, llm, db_queries, database, vector_searches, vector_search] => Ok(Self {
                llm_tokens,
                llm: Nano(llm),
                db_queries,
                database: Nano(database),
                vector_searches,
                vector_search: Nano(vector_search),
            }),
            _ => Err(Error::new(Code::Corrupted, "a stored day of costs cannot be read")),
        }
    }
}

/// Writes a line: the line itself, its day's sums and the operator's copy of them go into the same
/// batch, so that all are stored or none. Every line of the ledger is written here.
///
/// # Errors
/// [`Code::NumericOutOfRange`]. The batch then holds nothing of the line.
pub fn record(batch: &mut Batch, line: &UsageLine) -> Result<()> {
    let (value, sums) = (line.encode()?, Amounts::of(line)?.to_sums());
    batch.put(Table::Usage, line.key(), value);
    batch.add(Table::Costs, &day_key(line.day()), &sums);
    batch.publish(AMOUNTS_BY_DAY, line.day().0.into(), &sums);
    Ok(())
}

fn day_key(day: Day) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::put_i64(&mut bytes, i64::from(day.0));
    bytes
}

/// Every usage line of the meter's tenant, by time: what is stored, then what still waits in memory.
/// A line that is written meanwhile comes once.
pub fn usage(meter: &Meter) -> impl Iterator<Item = Result<UsageLine>> + Send + use<> {
    // What waits is read first: a line that is stored later is then in both places, never in none.
    let mut waiting: BTreeMap<_, _> = meter.pending().into_iter().map(|line| (line.id, line)).collect();
    let mut stored = meter.tenant().scan(Table::Usage, &[]);
    let mut stored_ended = false;
    std::iter::from_fn(move || {
        if !stored_ended {
            match stored.next() {
                Some(Ok((_, found))) => {
                    let line = UsageLine::decode(&found.value);
                    if let Ok(line) = &line {
                        waiting.remove(&line.id);
                    }
                    return Some(line);
                }
                Some(Err(e)) => return Some(Err(e)),
                None => stored_ended = true,
            }
        }
        waiting.pop_first().map(|(_, line)| Ok(line))
    })
}

/// The costs of the meter's tenant by day, ascending, with what still waits in memory. Days outside
/// of `from..=to` are left out.
///
/// # Errors
/// [`Code::NumericOutOfRange`], [`Code::Corrupted`], and [`Code::SerializationFailure`] if counts
/// were written again and again while this read.
pub fn costs(meter: &Meter, from: Day, to: Day) -> Result<Vec<(Day, Amounts)>> {
    read_costs(meter, from, to, || ())
}

/// `meanwhile` runs between any two looks at the books, where tests let others write.
fn read_costs(meter: &Meter, from: Day, to: Day, mut meanwhile: impl FnMut()) -> Result<Vec<(Day, Amounts)>> {
    for _ in 0..READ_ATTEMPTS {
        let waiting = meter.pending();
        meanwhile();
        let before = stored(meter.tenant(), &waiting)?;
        meanwhile();
        let days = stored_days(meter.tenant(), from, to)?;
        meanwhile();
        // A line that was stored on neither side of the reading is in no sum; one on both is in.
        if stored(meter.tenant(), &waiting)? != before {
            continue;
        }
        let mut days: BTreeMap<Day, Amounts> = days.into_iter().collect();
        for (line, stored) in waiting.iter().zip(before) {
            if !stored && (from..=to).contains(&line.day()) {
                let day = days.entry(line.day()).or_default();
                *day = day.plus(Amounts::of(line)?)?;
            }
        }
        return Ok(days.into_iter().collect());
    }
    Err(Error::new(
        Code::SerializationFailure,
        "the costs changed too often while they were read; try again",
    ))
}

/// [`costs`] added up over a period, both ends included.
///
/// # Errors
/// See [`costs`].
pub fn total_costs(meter: &Meter, from: Day, to: Day) -> Result<Amounts> {
    costs(meter, from, to)?
        .into_iter()
        .try_fold(Amounts::default(), |sum, (_, day)| sum.plus(day))
}

/// Which of these lines are stored.
fn stored(tenant: &Tenant, lines: &[UsageLine]) -> Result<Vec<bool>> {
    lines
        .iter()
        .map(|line| Ok(tenant.get(Table::Usage, line.key())?.is_some()))
        .collect()
}

fn stored_days(tenant: &Tenant, from: Day, to: Day) -> Result<Vec<(Day, Amounts)>> {
    let mut days = Vec::new();
    let end = Day(to.0.saturating_add(1));
    for found in tenant.scan_from(Table::Costs, &day_key(from), Some(&day_key(end))) {
        let (key, _) = found?;
        let day = key::take_i64(&key)
            .and_then(|(day, _)| i32::try_from(day).ok())
            .map(Day);
        let sums = tenant.sums(Table::Costs, &key)?;
        if let (Some(day), Some(sums)) = (day, sums) {
            days.push((day, Amounts::from_sums(&sums)?));
        }
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ledger, tenant::testing};

    const EVER: (Day, Day) = (Day(i32::MIN), Day(i32::MAX));

    async fn meter() -> Arc<Meter> {
        let directory = testing::directory(&["acme"]).await;
        directory.seed(ledger::defaults().unwrap()).unwrap();
        Arc::new(Meter::new(
            testing::tenant(&directory, "acme", "owner", "secret"),
            Arc::default(),
        ))
    }

    fn flush(meter: &Arc<Meter>) {
        // Without tokio's budget, which a loop inside of one task would use up.
        futures::executor::block_on(tokio::task::unconstrained(meter.flush())).unwrap();
    }

    fn total(days: Vec<(Day, Amounts)>) -> i64 {
        days.iter().map(|(_, day)| day.db_queries).sum()
    }

    #[tokio::test]
    async fn costs_are_exact_wherever_a_write_comes_between() {
        for write_at in 0..4 {
            let meter = meter().await;
            meter.statement("owner");
            flush(&meter);
            meter.statement("owner");
            let mut looks = 0;
            let days = read_costs(&meter, EVER.0, EVER.1, || {
                if looks == write_at {
                    flush(&meter);
                }
                looks += 1;
            });
            assert_eq!(total(days.unwrap()), 2, "written at look {write_at}");
        }
    }

    #[tokio::test]
    async fn endless_writing_ends_in_an_error_and_not_in_a_wrong_sum() {
        let meter = meter().await;
        meter.statement("owner");
        let mut looks = 0;
        let outcome = read_costs(&meter, EVER.0, EVER.1, || {
            looks += 1;
            match looks % 3 {
                2 => flush(&meter), // between the reading of lines and that of sums
                _ => meter.statement("owner"),
            }
        });
        assert_eq!(outcome.unwrap_err().code(), Code::SerializationFailure);
        assert_eq!(looks, 3 * READ_ATTEMPTS);
    }

    #[tokio::test]
    async fn a_line_written_while_lines_are_listed_comes_once() {
        for write_at in 0..4 {
            let meter = meter().await;
            for user in ["a", "b", "c"] {
                meter.statement(user);
            }
            flush(&meter);
            meter.statement("d");
            let mut listed = Vec::new();
            let mut lines = usage(&meter);
            for n in 0.. {
                if n == write_at {
                    flush(&meter);
                }
                match lines.next() {
                    Some(line) => listed.push(line.unwrap().user_id),
                    None => break,
                }
            }
            listed.sort();
            assert_eq!(listed, ["a", "b", "c", "d"], "written before line {write_at}");
        }
    }
}
