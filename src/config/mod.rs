//! Flags, environment and file become one checked [`Config`].
//!
//! Flags beat the environment, which beats the TOML file. Every layer is first gathered as text
//! with its source, then checked once, so that a complaint can say which setting is wrong, where
//! it came from and what is allowed. An unknown setting is an error too: a misspelt `tls_cert`
//! must not start a server without TLS. Nothing below this module reads the environment.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::bench::VectorBench;
use self::bench::{BenchAction, PASSWORD_VARIABLE};
use self::setting::{
    Given, PREFIX, Places, SETTINGS, Setting, Source, address, boolean, bytes, is_foreign, key_bytes, log_level,
};
use self::setting::{mebibytes, password, region, setting, unknown, variable, wrong};
use crate::{limits, tenant::MasterKey, wire::TlsFiles};

mod bench;
mod setting;
#[cfg(test)]
mod tests;

/// Port of `serve` and `demo` when none is given.
pub const DEFAULT_PORT: u16 = 5433;
/// Data directory of `serve` when none is given.
pub const DEFAULT_DATA: &str = "./bulkhead-data";

/// What the process is asked to do.
pub enum Command {
    /// Run a server until it is told to stop.
    Serve(Box<Config>),
    /// Run a server on a temporary directory and show what it does.
    Demo(DemoConfig),
    /// Measure vector search over the wire.
    BenchVectors(Box<VectorBench>),
}

/// A checked configuration of `bulkhead serve`.
pub struct Config {
    /// Where everything is stored.
    pub data: PathBuf,
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate chain and key; without them the server speaks plaintext.
    pub tls: Option<TlsFiles>,
    /// Whether logins over plaintext are refused.
    pub require_tls: bool,
    /// PEM file of certificate authorities that providers and webhooks may have, beside the system's.
    pub provider_ca: Option<PathBuf>,
    /// Where this server runs, as data-residency rules name it.
    pub region: Option<String>,
    /// Where the key that wraps all tenants' keys comes from.
    pub master_key: MasterKey,
    /// Password of the operator `admin` at the first start.
    pub admin_password: Option<String>,
    /// Free disk space below which writes are refused, in bytes.
    pub min_free_bytes: u64,
    /// Bytes that the vectors of all tenants may take in memory.
    pub vector_memory: usize,
    /// How much is logged to stderr.
    pub log_level: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What needs an operator.
    Error,
    /// What may need one.
    Warn,
    /// Starts, stops and changes of state.
    Info,
    /// Every connection.
    Debug,
    /// Everything.
    Trace,
}

/// A checked configuration of `bulkhead demo`.
pub struct DemoConfig {
    /// Exit after the last step instead of serving until Ctrl-C.
    pub once: bool,
    /// A loopback address.
    pub listen: SocketAddr,
    /// Whether `listen` was asked for; if not, another free port will do.
    pub listen_given: bool,
    /// The temporary directory to make, use and remove.
    pub data: PathBuf,
    /// Whether stdout is a terminal that wants colour (`NO_COLOR` is unset).
    pub colour: bool,
    /// What the operator runs before anything else.
    pub operator_sql: Option<String>,
}

/// Why there is no [`Config`]: what to print, and how the process ends.
#[derive(Debug)]
pub struct Refusal {
    text: String,
    code: u8,
}

impl Refusal {
    fn wrong(text: impl Into<String>) -> Self {
        Self {
            text: format!("bulkhead: {}", text.into()),
            code: 2,
        }
    }

    /// 2 for a wrong use or setting; 0 after `--help` and `--version`.
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Many tenants' documents, vectors, conversations and LLM spend behind the Postgres protocol.
#[derive(Parser)]
#[command(name = "bulkhead", version)]
struct CommandLine {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run a server until SIGINT or SIGTERM
    Serve(Box<ServeFlags>),
    /// Show two tenants on one server: isolation, cited answers, costs
    Demo(DemoFlags),
    /// Measure this server or another over the wire
    #[command(subcommand)]
    Bench(BenchAction),
}

#[derive(Args, Default)]
struct ServeFlags {
    /// Data directory [default: ./bulkhead-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address to listen on [default: 127.0.0.1:5433]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// PEM certificate chain; needs --tls-key
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// PEM private key; needs --tls-cert
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Serve plaintext to other machines; with --tls-cert, also to clients that do not ask for TLS
    #[arg(long)]
    allow_plaintext: bool,
    /// PEM file of certificate authorities to trust at providers and webhooks, beside the system's
    #[arg(long, value_name = "FILE")]
    provider_ca: Option<String>,
    /// Region this server runs in, for data residency
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// TOML file with the same settings; flags and environment beat it
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// File of the master key [default: master.key in the data directory, made at the first start]
    #[arg(long, value_name = "FILE")]
    master_key_file: Option<String>,
    /// Refuse writes when the disk has less free than this [default: 256]
    #[arg(long, value_name = "MIB")]
    min_free_mib: Option<String>,
    /// Memory for the vectors of all tenants, such as 8GiB; the coldest go beyond it [default: half of the machine's]
    #[arg(long, value_name = "BYTES")]
    vector_memory: Option<String>,
    /// off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl ServeFlags {
    fn given(self) -> [(&'static str, Option<String>); 12] {
        [
            ("data", self.data),
            ("listen", self.listen),
            ("tls_cert", self.tls_cert),
            ("tls_key", self.tls_key),
            ("allow_plaintext", self.allow_plaintext.then(|| "true".to_owned())),
            ("provider_ca", self.provider_ca),
            ("region", self.region),
            ("config", self.config),
            ("master_key_file", self.master_key_file),
            ("min_free_mib", self.min_free_mib),
            ("vector_memory", self.vector_memory),
            ("log_level", self.log_level),
        ]
    }
}

#[derive(Args)]
struct DemoFlags {
    /// Exit after the last step instead of serving until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Loopback address to listen on [default: 127.0.0.1:5433, or a free port if that is in use]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// SQL that the operator runs first: providers, models and prices of your own
    #[arg(long, value_name = "FILE")]
    operator_sql: Option<PathBuf>,
}

/// Reads this process's arguments and environment.
///
/// # Errors
/// A [`Refusal`] to print; `--help` and `--version` come back as one whose exit code is 0.
pub fn from_process() -> Result<Command, Refusal> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let scratch = std::env::temp_dir();
    parse(std::env::args_os(), std::env::vars_os(), &scratch, colour)
}

/// [`from_process`] with everything given: arguments (the program's name first), environment, the
/// directory for temporary files, and whether stdout wants colour.
///
/// # Errors
/// See [`from_process`].
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    scratch: &Path,
    colour: bool,
) -> Result<Command, Refusal> {
    let line = CommandLine::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| CommandLine::from_arg_matches(&matches))
        .map_err(|e| Refusal {
            text: e.to_string(),
            code: if e.use_stderr() { 2 } else { 0 },
        })?;
    match line.action {
        Action::Serve(flags) => {
            let raw = RawConfig::gather(*flags, environment)?;
            Ok(Command::Serve(Box::new(raw.check()?)))
        }
        Action::Bench(BenchAction::Vectors(flags)) => {
            let mut environment = environment.into_iter();
            let password = environment.find(|(name, _)| name == PASSWORD_VARIABLE);
            let password = password.and_then(|(_, value)| value.into_string().ok());
            Ok(Command::BenchVectors(Box::new(flags.check(scratch, password)?)))
        }
        Action::Demo(flags) => {
            let given = flags.listen.map(|text| Given::new(text, Source::Flag("listen")));
            let listen_given = given.is_some();
            let listen = given
                .as_ref()
                .map_or(Ok(default_listen()), |g| address(setting("listen"), g))?;
            if !listen.ip().is_loopback() {
                return Err(Refusal::wrong(format!(
                    "--listen {listen}: the demo speaks plaintext and prints its passwords, so it listens on loopback \
                     addresses only; use `bulkhead serve` for others"
                )));
            }
            let data = scratch.join(format!("bulkhead-demo-{}", uuid::Uuid::new_v4().simple()));
            let read = |file: PathBuf| {
                std::fs::read_to_string(&file)
                    .map_err(|e| Refusal::wrong(format!("--operator-sql {}: cannot be read: {e}", file.display())))
            };
            Ok(Command::Demo(DemoConfig {
                operator_sql: flags.operator_sql.map(read).transpose()?,
                once: flags.once,
                listen,
                listen_given,
                data,
                colour,
            }))
        }
    }
}

/// The three layers merged, still as text.
struct RawConfig {
    values: BTreeMap<&'static str, Given>,
}

impl RawConfig {
    fn gather(flags: ServeFlags, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Refusal> {
        let mut values = BTreeMap::new();
        for (name, text) in flags.given() {
            if let Some(text) = text {
                values.insert(name, Given::new(text, Source::Flag(name)));
            }
        }
        for (variable_name, value) in environment {
            let Some(name) = variable_name.to_str().and_then(|n| n.strip_prefix(PREFIX)) else {
                continue;
            };
            if is_foreign(name) {
                continue;
            }
            let found = SETTINGS.iter().find(|s| variable(s.name) == format!("{PREFIX}{name}"));
            let Some(setting) = found else {
                return Err(unknown(&format!("environment {PREFIX}{name}"), |s| {
                    Some(variable(s.name))
                }));
            };
            let source = Source::Environment(setting.name);
            let text = value.into_string().map_err(|_| {
                Refusal::wrong(format!(
                    "{} ({source}) is not valid UTF-8; allowed: {}",
                    setting.name, setting.allowed
                ))
            })?;
            values.entry(setting.name).or_insert(Given::new(text, source));
        }
        if let Some(file) = values
            .get("config")
            .map(|given: &Given| PathBuf::from(given.text.as_str()))
        {
            for (name, given) in read_file(&file)? {
                values.entry(name).or_insert(given);
            }
        }
        Ok(Self { values })
    }

    fn check(mut self) -> Result<Config, Refusal> {
        for (name, given) in &self.values {
            if given.text.is_empty() {
                return Err(wrong(setting(name), given, "is empty"));
            }
        }
        let listen = self.checked("listen", address)?.unwrap_or_else(default_listen);
        let tls = match (self.path("tls_cert"), self.path("tls_key")) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => return Err(self.half("tls_cert", "tls_key")),
            (None, Some(_)) => return Err(self.half("tls_key", "tls_cert")),
        };
        let allow_plaintext = self.checked("allow_plaintext", boolean)?.unwrap_or(false);
        if tls.is_none() && !allow_plaintext && !listen.ip().is_loopback() {
            let from = self
                .values
                .get("listen")
                .map_or_else(String::new, |g| format!(" ({})", g.source));
            return Err(Refusal::wrong(format!(
                "listen{from}: {listen} can be reached from other machines, and there is no TLS; give tls_cert and \
                 tls_key, or listen on 127.0.0.1, or, if something else protects this network, say --allow-plaintext"
            )));
        }
        let master_key = match (self.checked("master_key", key_bytes)?, self.path("master_key_file")) {
            (Some(_), Some(_)) => {
                let other = self
                    .values
                    .get("master_key_file")
                    .map_or_else(String::new, |g| g.source.to_string());
                return Err(Refusal::wrong(format!(
                    "master_key (environment {}) and master_key_file ({other}) are both given; give one",
                    variable("master_key")
                )));
            }
            (Some(bytes), None) => MasterKey::Bytes(bytes),
            (None, file) => MasterKey::File(file),
        };
        Ok(Config {
            listen,
            // Who configures TLS wants it, also against a client that prefers plaintext.
            require_tls: tls.is_some() && !allow_plaintext,
            tls,
            master_key,
            provider_ca: self.path("provider_ca"),
            region: self.checked("region", region)?,
            min_free_bytes: self
                .checked("min_free_mib", mebibytes)?
                .unwrap_or(limits::MIN_FREE_BYTES),
            vector_memory: self.checked("vector_memory", bytes)?.unwrap_or_else(vector_memory),
            log_level: self.checked("log_level", log_level)?.unwrap_or(LogLevel::Info),
            admin_password: self.checked("admin_password", password)?,
            data: self.path("data").unwrap_or_else(|| PathBuf::from(DEFAULT_DATA)),
        })
    }

    fn checked<T>(
        &mut self,
        name: &'static str,
        parse: fn(&'static Setting, &Given) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        self.values
            .get(name)
            .map(|given| parse(setting(name), given))
            .transpose()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.values.get(name).map(|given| PathBuf::from(given.text.as_str()))
    }

    fn half(&self, present: &'static str, absent: &'static str) -> Refusal {
        let from = self
            .values
            .get(present)
            .map_or_else(String::new, |g| format!(" ({})", g.source));
        Refusal::wrong(format!("{present}{from} is given without {absent}; TLS needs both"))
    }
}

/// A part of the memory that this machine has, or that this process may use if that is less.
fn vector_memory() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kibibytes = total.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?;
        kibibytes.checked_mul(1 << 10)
    });
    // Without a bound it says "max".
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max");
    let group = group.ok().and_then(|text| text.trim().parse::<usize>().ok());
    let least = machine.into_iter().chain(group).min();
    least.map_or(limits::VECTOR_MEMORY_BYTES, |bytes| bytes / limits::VECTOR_MEMORY_SHARE)
}

fn read_file(path: &Path) -> Result<Vec<(&'static str, Given)>, Refusal> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Refusal::wrong(format!("config: the file {} cannot be read: {e}", path.display())))?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|e| Refusal::wrong(format!("config: the file {} is not TOML: {e}", path.display())))?;
    let mut given = Vec::new();
    for (name, value) in table {
        let known = SETTINGS.iter().find(|s| s.name == name);
        let Some(setting) = known else {
            let place = format!("'{name}' in file {}", path.display());
            return Err(unknown(&place, |s| {
                (s.places == Places::Everywhere).then(|| s.name.to_owned())
            }));
        };
        if setting.places != Places::Everywhere {
            return Err(Refusal::wrong(format!(
                "{name} does not belong into a file ({}); set the environment variable {}",
                path.display(),
                variable(&name)
            )));
        }
        let source = Source::File(path.to_owned());
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                let given = Given::new(other.type_str().to_owned(), source);
                return Err(wrong(
                    setting,
                    &given,
                    "is not a string, a whole number or a truth value",
                ));
            }
        };
        given.push((setting.name, Given::new(text, source)));
    }
    Ok(given)
}

fn default_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT)
}
