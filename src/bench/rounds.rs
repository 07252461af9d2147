//! Searches, judged once and then timed.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bulkhead::config::VectorBench;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};

use super::{
    Failure, Result,
    data::{Numbers, Query},
    failed,
    place::Place,
};
use crate::say;

/// Timed rounds, after one that is not; what is printed is their median.
const ROUNDS: usize = 5;
/// Tables that are searched at a time: with a wall around each, more need more connections than a server allows.
const WAVE: usize = 500;
/// What the wire itself costs.
const ONE: &str = "SELECT 1";

/// What is searched for, by tenant.
pub(super) struct Searches {
    queries: Arc<Vec<Vec<Query>>>,
    k: usize,
    /// How many rows every search must give.
    expected: usize,
    seed: u64,
}

/// A statement prepared for one tenant's table.
#[derive(Clone)]
struct Lane {
    client: Arc<Client>,
    statement: Statement,
    tenant: usize,
}

/// What one round took.
struct Round {
    each: Vec<Duration>,
    all: Duration,
    rows: usize,
}

impl Round {
    fn microseconds(&self, quantile: f64) -> f64 {
        let at = (self.each.len() as f64 * quantile) as usize;
        let found = self.each.get(at.min(self.each.len().saturating_sub(1)));
        found.map_or(0.0, |each| each.as_secs_f64() * 1e6)
    }

    fn rate(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64().max(1e-9)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Searches {
    pub(super) fn new(config: &VectorBench, queries: Vec<Vec<Query>>) -> Self {
        Self {
            queries: Arc::new(queries),
            k: config.k,
            expected: config.k.min(config.per_tenant),
            seed: config.seed,
        }
    }

    fn sql(&self, place: &Place, tenant: usize) -> String {
        format!(
            "SELECT id FROM {} ORDER BY embedding <=> $1 LIMIT {}",
            place.table(tenant),
            self.k
        )
    }

    async fn lane(&self, place: &Place, client: &Arc<Client>, tenant: usize) -> Result<Lane> {
        let sql = self.sql(place, tenant);
        let statement = client.prepare(&sql).await.map_err(|e| failed(&sql, &e))?;
        let client = client.clone();
        Ok(Lane {
            client,
            statement,
            tenant,
        })
    }

    /// Runs each search once; says what was found, and how the first of them was slower than those after it.
    pub(super) async fn judge(&self, place: &Place) -> Result<String> {
        let (mut found, mut wanted, mut missing, mut searches) = (0, 0, 0, 0);
        let (mut worst, mut plan, mut first) = (1.0_f64, String::new(), Vec::new());
        let shared = Arc::new(place.connect(0).await?);
        for (tenant, queries) in self.queries.iter().enumerate() {
            let client = match place.is_walled() && tenant > 0 {
                true => Arc::new(place.connect(tenant).await?),
                false => shared.clone(),
            };
            let lane = self.lane(place, &client, tenant).await?;
            let mut here = 0;
            for (n, query) in queries.iter().enumerate() {
                let begun = Instant::now();
                let rows = lane.search(query).await?;
                if n == 0 {
                    first.push(begun.elapsed());
                }
                let ids: HashSet<i64> = rows.into_iter().collect();
                here += ids.iter().filter(|id| query.nearest.contains(id)).count();
                missing += self.expected.saturating_sub(ids.len());
                searches += 1;
            }
            let of = queries.len() * self.expected;
            worst = worst.min(here as f64 / of as f64);
            (found, wanted) = (found + here, wanted + of);
            if tenant == 0 {
                plan = self.plan(place, &client).await?;
            }
        }
        first.sort_unstable();
        let first = Round {
            each: first,
            all: Duration::ZERO,
            rows: 0,
        };
        let heading = format!("recall@{}", self.k);
        Ok(format!(
            "plan      {plan}\nfirst     p50 {:.0} us, p99 {:.0} us: each tenant's first search\n{:<9} {:.4}, lowest of a \
             tenant {worst:.4}, of {searches} searches against exact distances\nmissing   {missing} of {} rows",
            first.microseconds(0.5),
            first.microseconds(0.99),
            heading,
            found as f64 / wanted as f64,
            searches * self.expected
        ))
    }

    /// How the server says that it searches.
    async fn plan(&self, place: &Place, client: &Client) -> Result<String> {
        let Some(query) = self.queries.first().and_then(|queries| queries.first()) else {
            return Ok(String::new());
        };
        let numbers: Vec<String> = query.vector.0.iter().map(f32::to_string).collect();
        let sql = self.sql(place, 0).replace("$1", &format!("'[{}]'", numbers.join(",")));
        let sql = format!("EXPLAIN (COSTS OFF) {sql}");
        let lines = client.simple_query(&sql).await.map_err(|e| failed("EXPLAIN", &e))?;
        let lines = lines.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let scan = lines
            .map(|line| line.trim().trim_start_matches("->").trim())
            .find(|line| line.contains("Scan"));
        Ok(scan.unwrap_or("unknown").to_owned())
    }

    /// Times rounds of searches for each number of connections, and prints them.
    pub(super) async fn measure(&self, place: &Place, config: &VectorBench) -> Result<()> {
        say(&format!(
            "\nmedian of {ROUNDS} rounds; prepared, binary; times in us as the client sees them"
        ));
        say(&format!(
            "{:>11} | {:>8} {:>8} {:>9} {:>21} | {:>8} of SELECT 1",
            "connections", "p50", "p99", "per s", "p50 of rounds", "p50"
        ));
        for count in &config.connections {
            let count = *count;
            let (rounds, wire) = self.rounds(place, count, config.queries).await?;
            let missing: usize = rounds
                .iter()
                .map(|r| (r.each.len() * self.expected).saturating_sub(r.rows))
                .sum();
            let halves: Vec<f64> = rounds.iter().map(|round| round.microseconds(0.5)).collect();
            let least = halves.iter().copied().fold(f64::INFINITY, f64::min);
            let most = halves.iter().copied().fold(0.0, f64::max);
            let range = format!("{least:.0} to {most:.0}");
            let lost = match missing {
                0 => String::new(),
                missing => format!("; {missing} ROWS MISSING"),
            };
            say(&format!(
                "{count:>11} | {:>8.0} {:>8.0} {:>9.0} {:>21} | {:>8.0}{lost}",
                median(halves.iter().copied()),
                median(rounds.iter().map(|round| round.microseconds(0.99))),
                median(rounds.iter().map(Round::rate)),
                range,
                median(wire.iter().map(|round| round.microseconds(0.5))),
            ));
        }
        Ok(())
    }

    /// Rounds of searches and of [`ONE`], spread over all tenants and so many connections at work.
    async fn rounds(&self, place: &Place, count: usize, searches: usize) -> Result<(Vec<Round>, Vec<Round>)> {
        let tenants = self.queries.len();
        // Who searches what: every tenant by one worker at least, every worker at one tenant at least.
        let pairs: Vec<(usize, usize)> = (0..tenants.max(count)).map(|n| (n % count, n % tenants)).collect();
        let wave = WAVE.max(count);
        let empty = || {
            (0..ROUNDS).map(|_| Round {
                each: Vec::new(),
                all: Duration::ZERO,
                rows: 0,
            })
        };
        let (mut rounds, mut wire): (Vec<Round>, Vec<Round>) = (empty().collect(), empty().collect());
        for (number, pairs) in pairs.chunks(wave).enumerate() {
            let workers = self.workers(place, count, pairs).await?;
            let share = (searches * pairs.len())
                .div_ceil(tenants.max(count) * workers.len())
                .max(1);
            for round in 0..=ROUNDS {
                let stream = (number * (ROUNDS + 1) + round) as u64;
                let searched = self.round(&workers, share, stream, true).await?;
                let alone = self.round(&workers, share.min(200), stream, false).await?;
                // The first one warms up.
                if let Some(round) = round.checked_sub(1) {
                    rounds[round].add(searched);
                    wire[round].add(alone);
                }
            }
        }
        for round in rounds.iter_mut().chain(&mut wire) {
            round.each.sort_unstable();
        }
        Ok((rounds, wire))
    }

    async fn workers(&self, place: &Place, count: usize, pairs: &[(usize, usize)]) -> Result<Vec<Vec<Lane>>> {
        let mut workers: Vec<Vec<Lane>> = Vec::new();
        for worker in 0..count {
            let mut lanes: Vec<Lane> = Vec::new();
            for (_, tenant) in pairs.iter().filter(|(of, _)| *of == worker) {
                let client = match lanes.last() {
                    Some(lane) if !place.is_walled() => lane.client.clone(),
                    _ => Arc::new(place.connect(*tenant).await?),
                };
                lanes.push(self.lane(place, &client, *tenant).await?);
            }
            if !lanes.is_empty() {
                workers.push(lanes);
            }
        }
        Ok(workers)
    }

    /// All workers at once, each `share` searches at tenants in random order.
    async fn round(&self, workers: &[Vec<Lane>], share: usize, stream: u64, search: bool) -> Result<Round> {
        let mut ready = Vec::new();
        for (worker, lanes) in workers.iter().enumerate() {
            let mut numbers = Numbers::of(self.seed ^ stream, worker as u64);
            let one = match lanes.first() {
                Some(lane) => lane.client.prepare(ONE).await.map_err(|e| failed(ONE, &e))?,
                None => continue,
            };
            let (lanes, queries) = (lanes.clone(), self.queries.clone());
            ready.push(async move {
                let (mut each, mut rows) = (Vec::with_capacity(share), 0);
                for _ in 0..share {
                    let lane = &lanes[if search { numbers.below(lanes.len()) } else { 0 }];
                    let queries = &queries[lane.tenant];
                    let query = &queries[numbers.below(queries.len())];
                    let begun = Instant::now();
                    rows += match search {
                        true => lane.search(query).await?.len(),
                        false => lane.client.query(&one, &[]).await.map_err(|e| failed(ONE, &e))?.len(),
                    };
                    each.push(begun.elapsed());
                }
                Ok::<_, Failure>((each, rows))
            });
        }
        let begun = Instant::now();
        // Whoever drops this ends the searches too.
        let mut tasks: JoinSet<_> = ready.into_iter().collect();
        let mut round = Round {
            each: Vec::new(),
            all: Duration::ZERO,
            rows: 0,
        };
        while let Some(done) = tasks.join_next().await {
            let (each, rows) = done.map_err(|e| Failure(e.to_string()))??;
            round.each.extend(each);
            round.rows += rows;
        }
        round.all = begun.elapsed();
        Ok(round)
    }
}

impl Round {
    fn add(&mut self, other: Self) {
        self.each.extend(other.each);
        self.all += other.all;
        self.rows += other.rows;
    }
}

impl Lane {
    /// The ids that a search gives.
    async fn search(&self, query: &Query) -> Result<Vec<i64>> {
        let wrong = |e: tokio_postgres::Error| failed("a search", &e);
        let rows = self
            .client
            .query(&self.statement, &[&query.vector])
            .await
            .map_err(wrong)?;
        rows.iter().map(|row| row.try_get(0).map_err(wrong)).collect()
    }
}
