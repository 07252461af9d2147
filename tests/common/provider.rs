//! A scripted server with OpenAI's interface, as a process of its own: its answers, faults and delays are chosen by the
//! model's name, and what it was sent can be read back.
//!
//! A test binary starts itself again to be it, so there is nothing to install. It ends with the process that started
//! it. It listens on a free port of the loopback interface; its base URL ends in `/v1`.
//!
//! | chat model | what it does |
//! |---|---|
//! | `echo` | repeats the last message, streamed word by word; `usage` counts words |
//! | `slow-stream-<ms>` | the same, each chunk after a random delay of up to so many milliseconds |
//! | `meet-<n>` | as `slow-stream-200`, once `n` such streams are open (works once) |
//! | `wait-<ms>` | the same after this delay, streamed at once |
//! | `words-<n>` | `n` words, whatever was asked |
//! | `status-<code>`, `..-once`, `..-times-<n>` | this status always, or for the first calls with the same last message, then `echo` |
//! | `unauthorized`, `forbidden` | 401, 403; the text repeats the key |
//! | `quota`, `quota-after`, `quota-spent` | 429: plain, with `retry-after: 1`, with code `insufficient_quota` |
//! | `quota-after-once` | 429 with `retry-after: 1`, then `echo` |
//! | `context-exceeded` | 400 |
//! | `redirect` | 307 to another path of itself |
//! | `bad-json`, `bad-event`, `no-choices`, `html` | replies, or an event of a stream, that cannot be read |
//! | `error-inside` | a success that holds an error object, after a first delta if streamed; the text repeats the key |
//! | `cut`, `cut-first`, `cut-quiet` | the connection is cut after some text, before any, or the stream just ends |
//! | `no-done` | a whole answer without `[DONE]` |
//! | `no-usage`, `negative-usage`, `absurd-usage`, `text-usage`, `usage-first` | `usage` absent, wrong, or in the first chunk |
//! | `other-model` | says that another model answered |
//! | `null-content`, `parts`, `odd` | content null, in parts, among unknown fields |
//! | `no-stream` | one JSON value though a stream was asked for |
//! | `endless`, `endless-line`, `huge` | a stream, a line or one reply without end |
//! | `stall`, `stall-after` | nothing comes, or nothing after the first delta |
//!
//! | embedding model | what it does |
//! |---|---|
//! | `embed-<d>` | vectors of `d` dimensions by [`vector`] |
//! | `embed-<d>-wait-<ms>` | the same after this delay |
//! | `embed-<d>-<how>` | `shuffled` order, one `missing`, one `double` index, one of another `dimension`, one `null` number, or one of the faults above |
//!
//! Fine-tuning: `POST /v1/files`, `DELETE /v1/files/{id}`, `POST /v1/fine_tuning/jobs`, `GET` and `POST .../cancel` of a
//! job. A job on `tune-<n>` succeeds at its `n`-th poll, one on `tune-fail-<n>` fails then, `tune-stall` never answers; its model `ft:<model>:<suffix>:<n>`
//! is an `echo` until `POST /retire`, and then a 404. `POST /hook` is a webhook that takes everything, `/hook/<fault>` one
//! with a fault of the above. For tests: `GET /log`, `GET /counters`, `POST /forget`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

// Paths, because benchmarks include this file from elsewhere.
#[path = "provider/chat.rs"]
mod chat;
#[path = "provider/server.rs"]
mod server;

/// Set in the process that is the server.
const WANTED: &str = "BULKHEAD_SCRIPTED_PROVIDER";
const GREETING: &str = "scripted provider on ";

/// A running scripted provider; dropping it ends it.
pub struct Provider {
    child: Child,
    address: SocketAddr,
    _output: BufReader<ChildStdout>,
}

impl Provider {
    /// Starts one.
    pub fn start() -> Self {
        let this = std::env::current_exe().expect("a test binary knows where it is");
        let (_, module) = module_path!().split_once("::").unwrap_or_default();
        let mut child = Command::new(this)
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                &format!("{module}::scripted_provider"),
            ])
            .env(WANTED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a test binary can start itself");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let address = loop {
            let mut line = String::new();
            let read = output.read_line(&mut line).expect("its output can be read");
            assert!(read > 0, "the scripted provider did not start");
            if let Some((_, address)) = line.trim().split_once(GREETING) {
                break address.parse().expect("it prints its address");
            }
        };
        Self {
            child,
            address,
            _output: output,
        }
    }

    /// What stands in `bulkhead.providers.base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in order of arrival: `connection` (a number per connection), `method`, `path`, `headers`
    /// (lower case), `body` (JSON, or text), `model`.
    pub fn log(&self) -> Vec<Value> {
        match self.ask("GET", "/log") {
            Value::Array(entries) => entries,
            other => panic!("no log: {other}"),
        }
    }

    /// The entries whose body contains this text.
    pub fn log_of(&self, text: &str) -> Vec<Value> {
        let mut log = self.log();
        log.retain(|entry| entry["body"].to_string().contains(text));
        log
    }

    /// `connections` accepted, `requests` received, replies `open` now, `finished`, and `aborted` because the other
    /// side was gone.
    pub fn counter(&self, name: &str) -> u64 {
        self.ask("GET", "/counters")[name]
            .as_u64()
            .expect("a counter of this name")
    }

    /// Empties the log; counters and jobs stay.
    pub fn forget(&self) {
        self.ask("POST", "/forget");
    }

    /// From now on no fine-tuned model is there.
    pub fn retire(&self) {
        self.ask("POST", "/retire");
    }

    /// Kills it: connections break, later ones are refused.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn ask(&self, method: &str, path: &str) -> Value {
        let mut socket = TcpStream::connect(self.address).expect("the scripted provider listens");
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        .expect("it takes a request");
        let mut reply = Vec::new();
        socket.read_to_end(&mut reply).expect("it answers");
        let reply = String::from_utf8_lossy(&reply);
        let (_, body) = reply.split_once("\r\n\r\n").expect("a reply has a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The vector that `embed-<d>` gives to a text: of unit length, near for texts that share words.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sums = vec![0f32; dimensions];
    for word in text.split_whitespace() {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        sums[(hash % dimensions as u64) as usize] += 1.0;
    }
    let length = sums.iter().map(|sum| sum * sum).sum::<f32>().sqrt();
    if length == 0.0 {
        sums[0] = 1.0;
        return sums;
    }
    sums.iter().map(|sum| sum / length).collect()
}

/// How it counts tokens.
pub fn words(text: &str) -> i64 {
    text.split_whitespace().count() as i64
}

/// Whether this process was started to be the server.
pub fn is_wanted() -> bool {
    std::env::var_os(WANTED).is_some()
}

/// Serves until the process that started this one is gone.
pub fn serve() {
    // The pipe closes however the starter ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let _ = rlimit::increase_nofile_limit(16_384);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        println!("{GREETING}{}", listener.local_addr().expect("its address"));
        server::run(listener).await;
    });
}

#[test]
#[ignore = "is the scripted provider itself, started by tests that need it"]
fn scripted_provider() {
    if is_wanted() {
        serve();
    }
}
