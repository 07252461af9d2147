//! Arguments become a [`Config`], the server runs until it is told to stop, and the exit code says
//! how that went: 0 as asked, 1 failed at run time, 2 wrong use or setting.

use std::{error::Error as _, io::Write, net::SocketAddr, process::ExitCode, sync::Arc};

use bulkhead::{
    ai::trust::Authorities,
    config::{self, Command, Config, LogLevel},
    error::{Error, Result},
    limits,
    server::{Server, ServerOptions},
    sql::{Engine, EngineOptions},
    tenant::{Directory, FIRST_OPERATOR, Generated, OpenOptions},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

mod bench;
mod demo;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(tell_where));
    let command = match config::from_process() {
        Ok(command) => command,
        Err(refusal) if refusal.exit_code() == 0 => {
            say(refusal.to_string().trim_end());
            return ExitCode::SUCCESS;
        }
        Err(refusal) => {
            complain(refusal.to_string().trim_end());
            return ExitCode::from(refusal.exit_code());
        }
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            complain(&format!("bulkhead: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), String> {
    let runtime = threads()?;
    match command {
        Command::Serve(config) => {
            log_to_stderr(config.log_level);
            // As a task, so that everything runs on threads with the stack asked for above.
            let served = runtime.block_on(runtime.spawn(serve(*config)));
            served.map_err(|e| e.to_string())?.map_err(|e| with_causes(&e))
        }
        Command::Demo(config) => {
            log_to_stderr(LogLevel::Error);
            let shown = runtime.block_on(runtime.spawn(demo::run(config)));
            shown.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
        }
        Command::BenchVectors(config) => {
            log_to_stderr(LogLevel::Error);
            raise_open_files();
            let measured = runtime.block_on(runtime.spawn(bench::run(*config)));
            measured.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
        }
    }
}

/// Threads with the stack that statements need.
fn threads() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(limits::STACK_BYTES)
        .build()
        .map_err(|e| format!("cannot start threads: {e}"))
}

/// Every connection is a file to the system, whose default of 1,024 is less than we promise.
fn raise_open_files() {
    let wanted = (limits::CONNECTIONS + limits::PENDING_LOGINS) as u64 * 2;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(got) if got >= wanted => {}
        Ok(got) => tracing::warn!(
            got,
            wanted,
            "few open files are allowed; raise the limit for more connections"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be read"),
    }
}

async fn serve(config: Config) -> Result<()> {
    raise_open_files();
    let told_to_stop = told_to_stop()?;
    let open = OpenOptions {
        data: config.data,
        master_key: config.master_key,
        min_free_bytes: config.min_free_bytes,
        admin_password: config.admin_password,
    };
    let listen = ServerOptions {
        listen: config.listen.to_string(),
        tls: config.tls,
        require_tls: config.require_tls,
    };
    let authorities = config.provider_ca.as_deref().map(Authorities::load).transpose()?;
    let options = EngineOptions {
        authorities: authorities.unwrap_or_default(),
        vector_memory: config.vector_memory,
    };
    let running = Running::start(open, &listen, options).await?;
    say(&format!("listening on {}", running.address));
    tracing::info!(address = %running.address, region = config.region, "serving");
    told_to_stop.await;
    tracing::info!("stopping");
    running.stop().await
}

/// A server with everything under it.
struct Running {
    address: SocketAddr,
    directory: Arc<Directory>,
    server: JoinHandle<()>,
    stop_server: CancellationToken,
    background: JoinHandle<()>,
    stop_background: CancellationToken,
}

impl Running {
    /// Opens the data directory and listens.
    async fn start(open: OpenOptions, listen: &ServerOptions, options: EngineOptions) -> Result<Self> {
        let (directory, generated) = Directory::open(open)?;
        // At once: whatever fails after this, the password is stored and is not shown again.
        if let Some(Generated(password)) = generated {
            say(&format!(
                "operator '{FIRST_OPERATOR}' was created with the password {password} (shown this once)"
            ));
        }
        let engine = Engine::with(directory.clone(), options)?;
        let server = Server::bind(listen, engine.clone()).await?;
        let (stop_server, stop_background) = (CancellationToken::new(), CancellationToken::new());
        Ok(Self {
            address: server.local_addr(),
            directory,
            server: tokio::spawn(server.run(stop_server.clone().cancelled_owned())),
            stop_server,
            background: tokio::spawn(engine.background(stop_background.clone())),
            stop_background,
        })
    }

    /// Lets running statements finish (for a bounded time), writes what is still in memory, closes.
    async fn stop(self) -> Result<()> {
        self.stop_server.cancel();
        self.server.await.map_err(Error::internal)?;
        // Only now: the last statements are counted too.
        self.stop_background.cancel();
        self.background.await.map_err(Error::internal)?;
        let directory = self.directory;
        tokio::task::spawn_blocking(move || directory.close())
            .await
            .map_err(Error::internal)
    }
}

/// Returns a future that ends with the first SIGINT or SIGTERM from now on.
fn told_to_stop() -> Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn log_to_stderr(level: LogLevel) {
    use tracing::level_filters::LevelFilter;
    let (ours, others) = match level {
        LogLevel::Off => (LevelFilter::OFF, LevelFilter::OFF),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::ERROR),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let filter = Targets::new().with_default(others).with_target("bulkhead", ours);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

/// Says where a panic happened and no more: its text may hold what rows or keys hold.
fn tell_where(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    match panic.location() {
        Some(place) => complain(&format!("thread {thread} panicked at {place}")),
        None => complain(&format!("thread {thread} panicked at an unknown place")),
    }
}

/// A closed stdout is no reason to stop serving.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whoever starts the server may see the causes that clients may not.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
