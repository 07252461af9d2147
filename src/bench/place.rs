//! Where the bench runs: a Bulkhead started here, or somebody's PostgreSQL; what was made there, and its removal.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bulkhead::{
    config::VectorBench,
    limits,
    server::ServerOptions,
    sql::EngineOptions,
    tenant::{MasterKey, OpenOptions},
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio_postgres::{CancelToken, Client, Config, NoTls, config::SslMode};

use super::{Failure, Result, failed, mib};
use crate::Running;

/// Of every table on a server that is not ours.
const PREFIX: &str = "bulkhead_bench_";
/// Removing must not hang on a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server to measure.
pub(super) struct Place {
    server: Config,
    own: Option<Own>,
    ef_search: Option<usize>,
    tenants: usize,
    dimensions: usize,
    made: Mutex<Made>,
}

/// A server in this process, on threads of its own.
struct Own {
    running: Option<Running>,
    address: SocketAddr,
    threads: Option<Runtime>,
    directory: PathBuf,
    admin: String,
    owner: String,
}

/// What is to be removed.
#[derive(Default)]
struct Made {
    tables: Vec<String>,
    extension: bool,
    /// Of every connection: a statement that still runs would hold what is to be removed.
    running: Vec<CancelToken>,
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl Place {
    /// Starts the server, where none is given.
    pub(super) async fn open(config: &VectorBench) -> Result<Self> {
        let mut place = Self {
            server: Config::new(),
            own: None,
            ef_search: config.ef_search,
            tenants: config.tenants,
            dimensions: config.dimensions,
            made: Mutex::default(),
        };
        match &config.url {
            Some(url) => place.server = Config::clone(url),
            None => {
                let own = Own::start(config.data.clone()).await?;
                let address = own.address;
                place.server.host(address.ip().to_string()).port(address.port());
                place
                    .server
                    .ssl_mode(SslMode::Disable)
                    .application_name("bulkhead bench");
                place.own = Some(own);
            }
        }
        Ok(place)
    }

    /// Makes the tenants, or sees that nothing on the server is in the way, and makes it speak pgvector.
    pub(super) async fn prepare(&self) -> Result<()> {
        if let Some(own) = &self.own {
            let operator = self.login("bulkhead", "admin", &own.admin).await?;
            let sql = "SELECT bulkhead.create_tenant($1, tier => 'pro', owner => 'owner', password => $2)";
            let create = operator
                .prepare(sql)
                .await
                .map_err(|e| failed("creating tenants", &e))?;
            for tenant in 0..self.tenants {
                let created = operator.query(&create, &[&name(tenant), &own.owner]).await;
                created.map_err(|e| failed("creating a tenant", &e))?;
            }
            return Ok(());
        }
        let client = self.session(&self.server).await?;
        let wrong = |e: tokio_postgres::Error| failed("looking around", &e);
        let names: Vec<String> = (0..self.tenants).map(|tenant| self.table(tenant)).collect();
        for names in names.chunks(1000) {
            let sql = "SELECT relname::text FROM pg_class WHERE relname = ANY($1) ORDER BY 1 LIMIT 1";
            if let Some(row) = client.query_opt(sql, &[&names]).await.map_err(wrong)? {
                let taken: String = row.get(0);
                return Err(Failure(format!(
                    "the server has a relation named {taken} already; the bench overwrites nothing: drop it, or use another \
                     database"
                )));
            }
        }
        let there = client
            .query_opt("SELECT 1 FROM pg_extension WHERE extname = 'vector'", &[])
            .await;
        if there.map_err(wrong)?.is_none() {
            self.made.lock().extension = true;
            if let Err(error) = client.batch_execute("CREATE EXTENSION vector").await {
                self.made.lock().extension = false;
                return Err(failed("this server does not speak pgvector", &error));
            }
        }
        Ok(())
    }

    /// What answers there.
    pub(super) async fn describe(&self) -> Result<String> {
        let client = self.connect(0).await?;
        let sql = "SELECT version(), (SELECT extversion FROM pg_extension WHERE extname = 'vector')";
        let row = client
            .query_one(sql, &[])
            .await
            .map_err(|e| failed("asking for the version", &e))?;
        let wrong = |e: tokio_postgres::Error| failed("reading the version", &e);
        let version: String = row.try_get(0).map_err(wrong)?;
        let pgvector: Option<String> = row.try_get(1).map_err(wrong)?;
        let place = if self.own.is_some() {
            "started here, a tenant each"
        } else {
            "a table each"
        };
        Ok(format!(
            "{version}; pgvector {}; {place}",
            pgvector.as_deref().unwrap_or("built in")
        ))
    }

    /// Whether a connection belongs to one tenant.
    pub(super) fn is_walled(&self) -> bool {
        self.own.is_some()
    }

    /// A connection that can search a tenant's table.
    pub(super) async fn connect(&self, tenant: usize) -> Result<Client> {
        let client = match &self.own {
            Some(own) => self.login(&name(tenant), "owner", &own.owner).await?,
            None => self.session(&self.server).await?,
        };
        if let Some(ef) = self.ef_search {
            let sql = format!("SET hnsw.ef_search = {ef}");
            client.batch_execute(&sql).await.map_err(|e| failed(&sql, &e))?;
        }
        Ok(client)
    }

    async fn login(&self, tenant: &str, user: &str, password: &str) -> Result<Client> {
        let mut server = self.server.clone();
        server.dbname(tenant).user(user).password(password);
        self.session(&server).await
    }

    async fn session(&self, server: &Config) -> Result<Client> {
        let (client, connection) = server.connect(NoTls).await.map_err(|e| failed("connecting", &e))?;
        tokio::spawn(connection);
        if self.own.is_none() {
            self.made.lock().running.push(client.cancel_token());
        }
        Ok(client)
    }

    /// The table of a tenant.
    pub(super) fn table(&self, tenant: usize) -> String {
        format!("{PREFIX}{:05}", tenant + 1)
    }

    /// Makes it.
    pub(super) async fn create(&self, tenant: usize, client: &Client) -> Result<String> {
        let table = self.table(tenant);
        let dimensions = self.dimensions;
        // Before: an interruption may come while the server works.
        self.made.lock().tables.push(table.clone());
        let sql = format!("CREATE TABLE {table} (id bigint PRIMARY KEY, embedding vector({dimensions}) NOT NULL)");
        if let Err(error) = client.batch_execute(&sql).await {
            self.made.lock().tables.pop();
            return Err(failed(&sql, &error));
        }
        Ok(table)
    }

    /// Resident memory of a server in this process, in bytes.
    pub(super) fn memory(&self) -> Option<u64> {
        self.own.as_ref()?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib << 10)
    }

    /// What is on disk, where that can be known.
    pub(super) async fn disk(&self, tenants: usize) -> Result<Option<String>> {
        if let Some(own) = &self.own {
            return Ok(Some(format!("{} in the data directory", mib(bytes_of(&own.directory)))));
        }
        let client = self.connect(0).await?;
        let (mut table, mut indexes) = (0, 0);
        for tenant in 0..tenants {
            let name = self.table(tenant);
            table += number(&client, &format!("SELECT pg_table_size('{name}')")).await?;
            indexes += number(&client, &format!("SELECT pg_indexes_size('{name}')")).await?;
        }
        let [table, indexes] = [table, indexes].map(|bytes| u64::try_from(bytes).unwrap_or(0));
        Ok((table + indexes > 0).then(|| format!("{} of tables and {} of indexes", mib(table), mib(indexes))))
    }

    /// Removes what was made, and stops what was started.
    pub(super) async fn close(&mut self) -> Result<()> {
        if let Some(mut own) = self.own.take() {
            return own.stop().await;
        }
        let removed = tokio::time::timeout(PATIENCE, self.remove()).await;
        removed.unwrap_or_else(|_| {
            Err(Failure(format!(
                "not everything could be removed in {PATIENCE:?}; {}",
                self.left()
            )))
        })
    }

    async fn remove(&self) -> Result<()> {
        let running = std::mem::take(&mut self.made.lock().running);
        for token in running {
            // Most are closed by now, which is as good.
            let _ = token.cancel_query(NoTls).await;
        }
        let nothing = {
            let made = self.made.lock();
            made.tables.is_empty() && !made.extension
        };
        if nothing {
            return Ok(());
        }
        let client = self.session(&self.server).await;
        let client = client.map_err(|Failure(e)| Failure(format!("{e}; {}", self.left())))?;
        loop {
            let Some(table) = self.made.lock().tables.last().cloned() else {
                break;
            };
            let dropped = client.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await;
            dropped.map_err(|e| Failure(format!("{}; {}", failed("removing", &e).0, self.left())))?;
            self.made.lock().tables.pop();
        }
        if self.made.lock().extension {
            let dropped = client.batch_execute("DROP EXTENSION IF EXISTS vector").await;
            dropped.map_err(|e| failed("the extension vector, which was not there before, stays", &e))?;
            self.made.lock().extension = false;
        }
        Ok(())
    }

    fn left(&self) -> String {
        let made = self.made.lock();
        match (made.tables.first(), made.tables.last()) {
            (Some(first), Some(last)) => format!("tables {first} to {last} are left on the server"),
            _ => "no table is left on the server".to_owned(),
        }
    }
}

impl Own {
    async fn start(directory: PathBuf) -> Result<Self> {
        let (admin, owner) = (password(), password());
        let open = OpenOptions {
            data: directory.clone(),
            master_key: MasterKey::File(None),
            min_free_bytes: limits::MIN_FREE_BYTES,
            admin_password: Some(admin.clone()),
        };
        let listen = ServerOptions {
            listen: "127.0.0.1:0".to_owned(),
            tls: None,
            require_tls: false,
        };
        // Of its own, so that client and server share processors and nothing else.
        let threads = crate::threads().map_err(Failure)?;
        let started = threads.spawn(async move { Running::start(open, &listen, EngineOptions::default()).await });
        let started = match started.await {
            Ok(Ok(running)) => Ok(running),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(error) => Err(Failure(error.to_string())),
        };
        match started {
            Ok(running) => Ok(Self {
                address: running.address,
                running: Some(running),
                threads: Some(threads),
                directory,
                admin,
                owner,
            }),
            Err(failure) => {
                threads.shutdown_background();
                let _ = std::fs::remove_dir_all(&directory);
                Err(failure)
            }
        }
    }

    async fn stop(&mut self) -> Result<()> {
        let (Some(running), Some(threads)) = (self.running.take(), &self.threads) else {
            return Ok(());
        };
        let stopped = threads.spawn(running.stop()).await;
        Ok(stopped.map_err(|e| Failure(e.to_string()))??)
    }
}

/// The tenant's name on our own server.
fn name(tenant: usize) -> String {
    format!("bench-{:05}", tenant + 1)
}

/// The number that a statement gives.
pub(super) async fn number(client: &Client, sql: &str) -> Result<i64> {
    let row = client.query_one(sql, &[]).await.map_err(|e| failed(sql, &e))?;
    row.try_get(0).map_err(|e| failed(sql, &e))
}

fn bytes_of(directory: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(of) if of.is_dir() => bytes_of(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
