//! `bulkhead bench`: what is measured, how much of it, and on which server.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, builder::RangedU64ValueParser};
use tokio_postgres::config::SslMode;

use super::Refusal;
use crate::limits;

/// What libpq reads the password from where a URL has none.
pub(super) const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// A checked configuration of `bulkhead bench vectors`.
pub struct VectorBench {
    /// How many tenants, each with a table of its own.
    pub tenants: usize,
    /// Vectors in each table.
    pub per_tenant: usize,
    /// Numbers in each vector.
    pub dimensions: usize,
    /// How many connections search at a time; each of these is measured.
    pub connections: Vec<usize>,
    /// How many neighbours a search asks for.
    pub k: usize,
    /// What all random numbers come from.
    pub seed: u64,
    /// Searches of one round, over all tenants and connections.
    pub queries: usize,
    /// `hnsw.ef_search` of every session; the server's own default without it.
    pub ef_search: Option<usize>,
    /// A PostgreSQL with pgvector; without it a server is started on `data`.
    pub url: Option<Box<tokio_postgres::Config>>,
    /// The temporary directory to make, use and remove.
    pub data: PathBuf,
}

#[derive(Subcommand)]
pub(super) enum BenchAction {
    /// Isolated vector search over the wire: latency, throughput and recall of many tenants' private indexes
    ///
    /// Makes one table of vectors for each tenant, loads it with COPY, builds an HNSW index (m = 16, ef_construction = 200,
    /// cosine) and runs `ORDER BY embedding <=> $1 LIMIT k` as a prepared statement with a binary parameter. Recall is measured
    /// against distances that this program computes itself. Everything that it made is removed at the end, also after an error
    /// or Ctrl-C.
    ///
    /// Without --url it measures a Bulkhead that it starts on a temporary directory; every tenant is a tenant. With --url it
    /// measures that server, where every tenant is a table named bulkhead_bench_NNNNN. Server settings can be given in the URL, as in
    /// 'postgresql://me@localhost/db?options=-c%20maintenance_work_mem%3D1GB'. The password may be in PGPASSWORD.
    Vectors(VectorFlags),
}

fn range(from: u64, to: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(from..=to)
}

#[derive(Args)]
pub(super) struct VectorFlags {
    /// Tenants, each with a private table and index
    #[arg(long, value_name = "N", default_value = "10", value_parser = range(1, 99_999))]
    tenants: usize,
    /// Vectors of each tenant
    #[arg(long, value_name = "M", default_value = "1000", value_parser = range(1, 10_000_000))]
    per_tenant: usize,
    /// Dimensions of the vectors
    #[arg(long, value_name = "D", default_value = "384", value_parser = range(1, limits::VECTOR_DIMENSIONS as u64))]
    dim: usize,
    /// A PostgreSQL server with pgvector to measure instead of a Bulkhead started here (plaintext only)
    #[arg(long, value_name = "postgresql://...")]
    url: Option<String>,
    /// Connections that search at the same time; several numbers are measured one after the other
    #[arg(long, value_name = "C,...", default_value = "1,8", value_delimiter = ',', value_parser = range(1, 1000))]
    connections: Vec<usize>,
    /// Neighbours that a search asks for
    #[arg(long, value_name = "K", default_value = "10", value_parser = range(1, limits::SEARCH_K as u64))]
    k: usize,
    /// Seed of the vectors and of the order of searches
    #[arg(long, value_name = "S", default_value_t = 42)]
    seed: u64,
    /// Searches in each of the 5 rounds
    #[arg(long, value_name = "Q", default_value = "2000", value_parser = range(1, 10_000_000))]
    queries: usize,
    /// hnsw.ef_search of every session [default: the server's]
    #[arg(long, value_name = "EF", value_parser = range(1, 1000))]
    ef_search: Option<usize>,
}

impl VectorFlags {
    /// What the flags say; `password` is for a URL that has none.
    pub(super) fn check(self, scratch: &Path, password: Option<String>) -> Result<VectorBench, Refusal> {
        let url = self.url.map(|url| server(&url, password)).transpose()?;
        Ok(VectorBench {
            tenants: self.tenants,
            per_tenant: self.per_tenant,
            dimensions: self.dim,
            connections: self.connections,
            k: self.k,
            seed: self.seed,
            queries: self.queries,
            ef_search: self.ef_search,
            url: url.map(Box::new),
            data: scratch.join(format!("bulkhead-bench-{}", uuid::Uuid::new_v4().simple())),
        })
    }
}

/// The server that a URL names. No complaint repeats the URL: it may hold a password.
fn server(url: &str, password: Option<String>) -> Result<tokio_postgres::Config, Refusal> {
    let allowed = "allowed: postgresql://USER:PASSWORD@HOST:PORT/DATABASE";
    if !["postgresql://", "postgres://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(Refusal::wrong(format!("--url is not a postgresql:// URL; {allowed}")));
    }
    let mut server: tokio_postgres::Config = url
        .parse()
        .map_err(|error| Refusal::wrong(format!("--url: {}; {allowed}", reason(&error))))?;
    if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
        return Err(Refusal::wrong(format!("--url names no host; {allowed}")));
    }
    if server.get_user().is_none() {
        return Err(Refusal::wrong(format!("--url names no user; {allowed}")));
    }
    if server.get_ssl_mode() == SslMode::Require {
        return Err(Refusal::wrong(
            "--url asks for sslmode=require, and the bench speaks plaintext; measure over a loopback address or a tunnel",
        ));
    }
    server.ssl_mode(SslMode::Disable).application_name("bulkhead bench");
    if let (None, Some(password)) = (server.get_password(), password) {
        server.password(password);
    }
    Ok(server)
}

/// What a connection string has wrong.
fn reason(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
