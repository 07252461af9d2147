//! `bulkhead bench vectors`: many tenants' private vector search, measured by a client over the wire.
//!
//! The same statements go to a Bulkhead that is started here and to any PostgreSQL with pgvector, so that the two can be
//! compared on one machine. What a search should have found is computed here ([`data`]), not asked of the server.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bulkhead::config::VectorBench;
use bytes::{BufMut, BytesMut};
use futures::pin_mut;
use tokio_postgres::{
    Client,
    binary_copy::BinaryCopyInWriter,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use self::{
    data::{Query, Source},
    place::Place,
    rounds::Searches,
};
use crate::{say, told_to_stop};

mod data;
mod place;
mod rounds;

/// As in pgvector's own documentation; the same for every server.
const INDEX_OPTIONS: &str = "m = 16, ef_construction = 200";
/// How long an index that a server goes on building after CREATE INDEX is waited for.
const BUILDING: Duration = Duration::from_secs(3600);

/// Why there is no result.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bench failed: {}", self.0)
    }
}

impl From<bulkhead::error::Error> for Failure {
    fn from(error: bulkhead::error::Error) -> Self {
        Self(crate::with_causes(&error))
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// A vector in pgvector's binary form: dimensions, an unused number, and the numbers, all big-endian.
#[derive(Debug)]
struct Vector(Vec<f32>);

impl ToSql for Vector {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_u16(u16::try_from(self.0.len())?);
        out.put_u16(0);
        self.0.iter().for_each(|x| out.put_f32(*x));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

/// Measures, prints, and removes what was made: also after an error, Ctrl-C or SIGTERM.
pub async fn run(config: VectorBench) -> Result<()> {
    let told_to_stop = told_to_stop()?;
    tokio::pin!(told_to_stop);
    let mut place = Place::open(&config).await?;
    let measured = tokio::select! {
        measured = vectors(&config, &place) => measured,
        () = &mut told_to_stop => Err(Failure("interrupted".to_owned())),
    };
    let removed = place.close().await;
    match (measured, removed) {
        (Err(Failure(first)), Err(Failure(second))) => Err(Failure(format!("{first}; then {second}"))),
        (measured, removed) => measured.and(removed),
    }
}

async fn vectors(config: &VectorBench, place: &Place) -> Result<()> {
    let VectorBench {
        tenants,
        per_tenant,
        dimensions,
        k,
        seed,
        queries,
        ..
    } = config;
    say(&format!(
        "{tenants} tenants x {per_tenant} vectors of {dimensions} dimensions, nearest {k} by cosine distance, seed {seed}; \
         {queries} searches a round"
    ));
    place.prepare().await?;
    say(&format!("server    {}", place.describe().await?));
    let before = place.memory();
    let searches = load(config, place).await?;
    build(config, place).await?;
    let found = searches.judge(place).await?;
    say(&found);
    size(config, place, before).await?;
    searches.measure(place, config).await
}

/// Makes and fills the tables, one tenant after the other; what each should answer is computed on the way.
async fn load(config: &VectorBench, place: &Place) -> Result<Searches> {
    let source = Source::new(config.seed, config.dimensions);
    let distinct = (config.queries / config.tenants).clamp(1, data::QUERIES);
    let (mut busy, mut answers) = (Duration::ZERO, Vec::with_capacity(config.tenants));
    for tenant in 0..config.tenants {
        let (source, rows, k) = (source.clone(), config.per_tenant, config.k);
        let made = tokio::task::spawn_blocking(move || {
            let rows = source.rows(tenant, rows);
            let queries = source.queries(tenant, distinct, &rows, k);
            (rows, queries)
        });
        let (rows, queries): (Vec<Vec<f32>>, Vec<Query>) = made.await.map_err(|e| Failure(e.to_string()))?;
        let client = place.connect(tenant).await?;
        let table = place.create(tenant, &client).await?;
        let begun = Instant::now();
        copy(&client, &table, rows).await?;
        busy += begun.elapsed();
        answers.push(queries);
    }
    let rows = config.tenants * config.per_tenant;
    say(&format!("load      {} by COPY, one connection", rate(rows, busy)));
    Ok(Searches::new(config, answers))
}

async fn copy(client: &Client, table: &str, rows: Vec<Vec<f32>>) -> Result<()> {
    let wrong = |e: tokio_postgres::Error| failed(&format!("COPY into {table}"), &e);
    let probe = client.prepare("SELECT $1::vector").await.map_err(wrong)?;
    let vector = probe.params().first().cloned().unwrap_or(Type::TEXT);
    let sql = format!("COPY {table} (id, embedding) FROM STDIN WITH (FORMAT binary)");
    let sink = client.copy_in(&sql).await.map_err(wrong)?;
    let writer = BinaryCopyInWriter::new(sink, &[Type::INT8, vector]);
    pin_mut!(writer);
    for (id, row) in (0_i64..).zip(rows) {
        writer.as_mut().write(&[&id, &Vector(row)]).await.map_err(wrong)?;
    }
    writer.finish().await.map_err(wrong)?;
    // Without it a planner may not know yet that the table is worth an index.
    client.batch_execute(&format!("ANALYZE {table}")).await.map_err(wrong)
}

async fn build(config: &VectorBench, place: &Place) -> Result<()> {
    let mut busy = Duration::ZERO;
    for tenant in 0..config.tenants {
        let client = place.connect(tenant).await?;
        let table = place.table(tenant);
        let sql = format!("CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops) WITH ({INDEX_OPTIONS})");
        let building = format!(
            "SELECT count(*) FROM pg_stat_progress_create_index WHERE relid IN \
             (SELECT oid FROM pg_class WHERE relname = '{table}')"
        );
        let begun = Instant::now();
        let built = client.batch_execute(&sql).await;
        built.map_err(|e| failed(&sql, &e))?;
        // PostgreSQL is done now. Who builds behind the statement's back says so here.
        while place::number(&client, &building).await? > 0 {
            if begun.elapsed() > BUILDING {
                return Err(Failure(format!(
                    "the index of {table} is still being built after {BUILDING:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        busy += begun.elapsed();
    }
    let rows = config.tenants * config.per_tenant;
    say(&format!(
        "build     {} with {INDEX_OPTIONS}, one connection",
        rate(rows, busy)
    ));
    Ok(())
}

async fn size(config: &VectorBench, place: &Place, before: Option<u64>) -> Result<()> {
    let rows = (config.tenants * config.per_tenant) as u64;
    let raw = rows * config.dimensions as u64 * size_of::<f32>() as u64;
    let memory = match (before, place.memory()) {
        (Some(before), Some(after)) => {
            let grown = after.saturating_sub(before);
            format!(
                "{} more resident after loading, building and searching once: {} bytes a vector",
                mib(grown),
                grown / rows
            )
        }
        _ => "not known of a server elsewhere".to_owned(),
    };
    say(&format!("memory    {memory} (the numbers alone: {})", mib(raw)));
    if let Some(disk) = place.disk(config.tenants).await? {
        say(&format!("disk      {disk}"));
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn rate(rows: usize, busy: Duration) -> String {
    let seconds = busy.as_secs_f64();
    format!(
        "{rows} vectors in {seconds:.2} s: {:.0} per second",
        rows as f64 / seconds.max(1e-9)
    )
}

fn failed(what: &str, error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(db) => {
            let more = [db.detail(), db.hint()].into_iter().flatten();
            let more: String = more.map(|more| format!(" ({more})")).collect();
            Failure(format!("{what}: {} {}{more}", db.code().code(), db.message()))
        }
        None => {
            let cause = std::error::Error::source(error)
                .map(|e| format!(": {e}"))
                .unwrap_or_default();
            Failure(format!("{what}: {error}{cause}"))
        }
    }
}
