//! A real `bulkhead serve` on a temporary directory: start, stop, kill, restart, and connections to it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use super::raw::Raw;

/// The operator's password in every test.
pub const ADMIN_PASSWORD: &str = "the operator's own secret";
/// Generous: only a hang takes this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The password that tests give to this user.
pub fn password_of(user: &str) -> String {
    if user == "admin" {
        ADMIN_PASSWORD.to_owned()
    } else {
        format!("pw-{user}")
    }
}

/// The server under test.
pub fn binary() -> PathBuf {
    std::env::var_os("BULKHEAD_BIN")
        .map(PathBuf::from)
        .or_else(|| option_env!("CARGO_BIN_EXE_bulkhead").map(PathBuf::from))
        .expect("set BULKHEAD_BIN to the server's binary, or run these as tests of the package")
}

/// A new, empty directory for one test, under cargo's directory for temporary files of tests.
pub fn fresh_dir(name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{n}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the tests' temporary directory can be written");
    dir
}

/// What a process has written so far.
type Said = Arc<Mutex<Vec<u8>>>;

/// How to start one.
#[derive(Clone, Debug)]
pub struct Spec {
    pub data: PathBuf,
    pub listen: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Spec {
    /// A server on this directory and any free port of the loopback interface.
    pub fn on(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            args: vec!["--log-level".to_owned(), "debug".to_owned()],
            env: vec![("BULKHEAD_ADMIN_PASSWORD".to_owned(), ADMIN_PASSWORD.to_owned())],
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    fn spawn(&self) -> (Child, Said, Said) {
        let mut command = Command::new(binary());
        command
            .arg("serve")
            .arg("--data")
            .arg(&self.data)
            .args(["--listen", &self.listen])
            .args(&self.args);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("BULKHEAD_") || key == "RUST_LOG" {
                command.env_remove(key);
            }
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server's binary starts");
        let out = drain(child.stdout.take().expect("piped"));
        let err = drain(child.stderr.take().expect("piped"));
        (child, out, err)
    }
}

/// Gathers all that a pipe gives, so that the server never waits for us.
fn drain(mut pipe: impl Read + Send + 'static) -> Said {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = all.clone();
    std::thread::spawn(move || {
        let mut part = [0; 16 << 10];
        while let Ok(n) = pipe.read(&mut part) {
            if n == 0 {
                break;
            }
            into.lock().unwrap().extend_from_slice(&part[..n]);
        }
    });
    all
}

/// A server that ended instead of getting ready, and all that it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub said: String,
}

/// A running server. Dropping it kills the process and, if it owns its directory, removes that.
pub struct Server {
    child: Child,
    out: Said,
    err: Said,
    earlier: Vec<u8>,
    pub spec: Spec,
    pub port: u16,
    owned: Option<PathBuf>,
}

impl Server {
    /// A server on a directory of its own.
    pub fn start(name: &str) -> Self {
        let dir = fresh_dir(name);
        let mut server = Self::with(Spec::on(&dir.join("data")));
        server.owned = Some(dir);
        server
    }

    /// A server that must get ready.
    pub fn with(spec: Spec) -> Self {
        match Self::attempt(spec) {
            Ok(server) => server,
            Err(ended) => panic!("the server did not start: {}\n{}", ended.status, ended.said),
        }
    }

    /// A server, or what it said when it refused to start.
    pub fn attempt(spec: Spec) -> Result<Self, Ended> {
        let (mut child, out, err) = spec.spawn();
        let begun = Instant::now();
        loop {
            let said = String::from_utf8_lossy(&out.lock().unwrap()).into_owned();
            let ready = said
                .lines()
                .find_map(|l| l.split("listening on ").nth(1))
                .map(str::to_owned);
            if let (Some(address), true) = (ready, said.ends_with('\n')) {
                let port = address.trim().rsplit(':').next().and_then(|p| p.parse().ok());
                let port = port.unwrap_or_else(|| panic!("no port in {address:?}"));
                return Ok(Self {
                    child,
                    out,
                    err,
                    earlier: Vec::new(),
                    spec,
                    port,
                    owned: None,
                });
            }
            if let Some(status) = child.try_wait().expect("our own child") {
                // The threads that drain its output let go of it when all is there.
                while Arc::strong_count(&out) + Arc::strong_count(&err) > 2 && begun.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let mut said = String::from_utf8_lossy(&out.lock().unwrap()).into_owned();
                said.push_str(&String::from_utf8_lossy(&err.lock().unwrap()));
                return Err(Ended { status, said });
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "the server is neither ready nor gone: {}",
                    String::from_utf8_lossy(&err.lock().unwrap())
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything that it has written to its standard and error output, over all restarts.
    pub fn output(&self) -> Vec<u8> {
        let mut all = self.earlier.clone();
        all.extend_from_slice(&self.out.lock().unwrap());
        all.extend_from_slice(&self.err.lock().unwrap());
        all
    }

    /// Panics if any task of the server panicked, and if it is no longer running.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our own child") {
            panic!(
                "the server ended: {status}\n{}",
                String::from_utf8_lossy(&self.output())
            );
        }
        let said = self.output();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("panicked at"), "a task of the server panicked:\n{said}");
    }

    /// Resident memory in bytes, from the kernel.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill exists");
        assert!(sent.success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not stop on SIGTERM");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on the same directory after [`Server::kill`] or [`Server::stop`].
    pub fn again(&mut self) {
        self.kill();
        let earlier = self.output();
        let mut next = Self::with(self.spec.clone());
        std::mem::swap(self, &mut next);
        std::mem::swap(&mut self.owned, &mut next.owned);
        self.earlier = earlier;
    }

    /// A connection, with the password that tests give to the user.
    pub async fn connect(&self, tenant: &str, user: &str) -> Client {
        match connect(self.port, tenant, user, &password_of(user)).await {
            Ok(client) => client,
            Err(e) => panic!("{user}@{tenant} cannot connect: {e:?}"),
        }
    }

    /// A connection to the operator's plane.
    pub async fn operator(&self) -> Client {
        self.connect("bulkhead", "admin").await
    }

    /// Creates tenants, each with a user `owner`.
    pub async fn create_tenants(&self, names: &[&str]) {
        let operator = self.operator().await;
        for name in names {
            let sql = format!(
                "SELECT bulkhead.create_tenant('{name}', tier => 'free', owner => 'owner', password => '{}')",
                password_of("owner")
            );
            operator
                .batch_execute(&sql)
                .await
                .unwrap_or_else(|e| panic!("create_tenant {name}: {e:?}"));
        }
    }

    /// Gives every tier limits that are in no test's way.
    pub async fn widen_tiers(&self) {
        let sql = "UPDATE bulkhead.tiers SET tokens_per_minute = 1000000000, tokens_per_day = 1000000000, \
                   requests_per_minute = 1000000, concurrent_calls = 10000";
        let widened = self.operator().await.batch_execute(sql).await;
        widened.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// A connection that speaks frames, logged in.
    pub async fn raw(&self, tenant: &str, user: &str) -> Raw {
        let mut raw = self.socket().await;
        if let Err(frames) = raw.login(tenant, user, &password_of(user)).await {
            panic!("{user}@{tenant} cannot log in: {frames:?}");
        }
        raw
    }

    /// A connection on which nothing was said yet.
    pub async fn socket(&self) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("the server takes connections");
        stream.set_nodelay(true).expect("a socket option");
        Raw::over(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let said = self.output();
            let tail = &said[said.len().saturating_sub(4000)..];
            eprintln!(
                "--- the server at {}:\n{}",
                self.spec.data.display(),
                String::from_utf8_lossy(tail)
            );
        } else if let Some(dir) = &self.owned {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// A connection of tokio-postgres; its driver ends with it.
pub async fn connect(port: u16, tenant: &str, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .dbname(tenant)
        .user(user)
        .password(password);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// The SQLSTATE of a failure, or the whole of it where the server sent none.
pub fn state(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.code().code().to_owned(),
        None => format!("no answer: {error:?}"),
    }
}

/// The first column of the first row as text, by the simple protocol.
pub async fn one(client: &Client, sql: &str) -> Option<String> {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    messages.iter().find_map(|m| match m {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    })?
}

/// All rows as text, by the simple protocol; NULL is the word.
pub async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let mut rows = Vec::new();
    for message in &messages {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            rows.push(
                (0..row.len())
                    .map(|i| row.get(i).unwrap_or("NULL").to_owned())
                    .collect(),
            );
        }
    }
    rows
}

/// The SQLSTATE that this statement must fail with.
pub async fn fails(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => panic!("succeeded: {sql}"),
        Err(e) => state(&e),
    }
}
