//! The scripted provider's side of the wire: connections, the log, faults, embeddings, fine-tuning.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use serde_json::{Value, json};

use super::chat::Chat;
use super::{vector, words};

/// Serves this listener for ever.
pub async fn run(listener: tokio::net::TcpListener) {
    let shared = Arc::new(Shared::default());
    let app = axum::Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(&shared))
        .into_make_service_with_connect_info::<Connection>();
    let _ = axum::serve(Counting { listener, shared }, app).await;
}

/// What all connections share.
#[derive(Default)]
pub struct Shared(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    log: Vec<Value>,
    counters: HashMap<&'static str, u64>,
    /// How often a model was called with a last message.
    calls: HashMap<(String, String), usize>,
    /// Streams that have met at [`Step::Meet`].
    met: u64,
    files: usize,
    jobs: Vec<Job>,
    /// Whether the models of all jobs are gone.
    retired: bool,
}

struct Job {
    model: String,
    suffix: String,
    polls: usize,
    cancelled: bool,
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many calls of this model with this text came before.
    pub fn nth_call(&self, model: &str, text: &str) -> usize {
        self.with(|seen| {
            let calls = seen.calls.entry((model.to_owned(), text.to_owned())).or_default();
            *calls += 1;
            *calls - 1
        })
    }

    /// Whether this is the model of a job, and gone.
    pub fn is_gone(&self, model: &str) -> bool {
        model.starts_with("ft:") && self.with(|seen| seen.retired)
    }

    fn count(&self, name: &'static str, by: i64) {
        self.with(|seen| {
            let counter = seen.counters.entry(name).or_default();
            *counter = counter.wrapping_add_signed(by);
        });
    }
}

/// Gives every connection a number.
struct Counting {
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
}

impl Listener for Counting {
    type Io = tokio::net::TcpStream;
    type Addr = u64;

    async fn accept(&mut self) -> (Self::Io, u64) {
        let (socket, _) = Listener::accept(&mut self.listener).await;
        let _ = socket.set_nodelay(true);
        self.shared.count("connections", 1);
        (socket, self.shared.with(|seen| seen.counters["connections"]))
    }

    fn local_addr(&self) -> std::io::Result<u64> {
        Ok(0)
    }
}

#[derive(Clone)]
struct Connection(u64);

impl Connected<IncomingStream<'_, Counting>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Counting>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A reply under way; tells whether the other side stayed to its end.
pub struct Open {
    shared: Arc<Shared>,
    finished: bool,
}

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.count("open", 1);
        Self {
            shared: Arc::clone(shared),
            finished: false,
        }
    }
}

impl Open {
    fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.count("open", -1);
        self.shared.count(if self.finished { "finished" } else { "aborted" }, 1);
    }
}

/// What a body does next.
pub enum Step {
    Send(String),
    Wait(u64),
    /// Until so many streams are here.
    Meet(u64),
    Cut,
    Hang,
}

pub type Script = Box<dyn Iterator<Item = Step> + Send>;

pub fn body(script: Script, open: Open) -> Body {
    let chunks = futures::stream::unfold((script, open), |(mut script, mut open)| async move {
        loop {
            let sent = match script.next() {
                None => {
                    open.finish();
                    return None;
                }
                Some(Step::Send(text)) => Ok(Bytes::from(text)),
                Some(Step::Wait(ms)) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    continue;
                }
                Some(Step::Meet(n)) => {
                    open.shared.with(|seen| seen.met += 1);
                    while open.shared.with(|seen| seen.met) < n {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    continue;
                }
                Some(Step::Cut) => {
                    open.finish();
                    Err(std::io::Error::other("cut"))
                }
                Some(Step::Hang) => std::future::pending().await,
            };
            return Some((sent, (script, open)));
        }
    });
    Body::from_stream(chunks)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Connection(connection)): ConnectInfo<Connection>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    let path = uri.path();
    let own = shared.with(|seen| match (method.as_str(), path) {
        ("GET", "/log") => Some(Value::Array(seen.log.clone())),
        ("GET", "/counters") => {
            let names = ["connections", "requests", "open", "finished", "aborted"];
            let counts = names.map(|name| (name.to_owned(), json!(seen.counters.get(name).unwrap_or(&0))));
            Some(Value::Object(counts.into_iter().collect()))
        }
        ("POST", "/retire") => {
            seen.retired = true;
            Some(Value::Null)
        }
        ("POST", "/forget") => {
            seen.log.clear();
            Some(Value::Null)
        }
        _ => None,
    });
    if let Some(own) = own {
        return axum::Json(own).into_response();
    }
    let open = Open::new(&shared);
    let sent: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let logged = if sent.is_null() {
        json!(String::from_utf8_lossy(&bytes))
    } else {
        sent.clone()
    };
    let header_texts = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), Value::String(value))
    });
    let header_texts = header_texts.collect::<serde_json::Map<_, _>>();
    shared.count("requests", 1);
    shared.with(|seen| {
        seen.log.push(json!({
            "connection": connection, "method": method.as_str(), "path": path, "headers": header_texts,
            "body": logged, "model": sent["model"],
        }));
    });
    let key = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = key.unwrap_or("Bearer none").trim_start_matches("Bearer ").to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["v1", "chat", "completions"]) => Chat::new(&shared, sent, key).answer(open).await,
        ("POST", ["v1", "embeddings"]) => embeddings(&shared, sent, &key, open).await,
        ("POST", ["hook", how @ ..]) => {
            let nth = shared.nth_call("hook", &sent.to_string());
            match fault(how.first().unwrap_or(&""), &key, nth, open).await {
                Ok(response) => response,
                Err(open) => done(open, axum::Json(json!({"ok": true})).into_response()),
            }
        }
        ("POST", ["v1", "fine_tuning", "jobs"]) if sent["model"] == "tune-stall" => std::future::pending().await,
        (_, ["v1", "files" | "fine_tuning", ..]) => done(open, fine_tuning(&shared, &method, &parts[1..], &sent)),
        _ => done(open, error(404, "no such path", "not_found")),
    }
}

pub fn done(mut open: Open, response: Response) -> Response {
    open.finish();
    response
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status")
}

pub fn error(code: u16, message: &str, word: &str) -> Response {
    let body = json!({"error": {"message": message, "type": word, "param": null, "code": word}});
    (status(code), axum::Json(body)).into_response()
}

/// A number at the end of a model's name.
pub fn number(model: &str, prefix: &str) -> Option<u64> {
    model.strip_prefix(prefix)?.parse().ok()
}

/// Faults that chat and embeddings share; `nth` is how many calls like this one came before.
pub async fn fault(model: &str, key: &str, nth: usize, open: Open) -> Result<Response, Open> {
    let retry_after = |mut response: Response| {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        response
    };
    if let Some(rest) = model.strip_prefix("status-") {
        let (code, times) = match rest.split_once('-') {
            None => (rest, usize::MAX),
            Some((code, "once")) => (code, 1),
            Some((code, times)) => (code, number(times, "times-").unwrap_or(1) as usize),
        };
        if nth >= times {
            return Err(open);
        }
        let code = code.parse().expect("status-<code>");
        return Ok(done(
            open,
            error(code, &format!("scripted {code}, call {nth}"), "scripted"),
        ));
    }
    let response = match model {
        "unauthorized" => error(401, &format!("Incorrect API key provided: {key}."), "invalid_api_key"),
        "forbidden" => error(403, &format!("Key '{key}' may not do this"), "forbidden"),
        "quota" => error(429, "Rate limit reached", "rate_limit_exceeded"),
        "quota-after" => retry_after(error(429, "Rate limit reached", "rate_limit_exceeded")),
        "quota-after-once" if nth == 0 => retry_after(error(429, "Rate limit reached", "rate_limit_exceeded")),
        "quota-spent" => error(429, "You exceeded your current quota", "insufficient_quota"),
        "context-exceeded" => error(400, "maximum context length is 10 tokens", "context_length_exceeded"),
        "redirect" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        "html" => (
            StatusCode::BAD_GATEWAY,
            [(header::CONTENT_TYPE, "text/html")],
            "<html>Bad gateway</html>",
        )
            .into_response(),
        "bad-json" => ([(header::CONTENT_TYPE, "application/json")], "{\"choices\": [{\"mess").into_response(),
        "no-choices" => axum::Json(json!({"object": "surprise"})).into_response(),
        "huge" => {
            let filler = "x".repeat(64 << 10);
            let start = Step::Send("{\"choices\": [{\"message\": {\"content\": \"".to_owned());
            let script = std::iter::once(start).chain(std::iter::repeat_with(move || Step::Send(filler.clone())));
            let head = [(header::CONTENT_TYPE, "application/json")];
            return Ok((head, body(Box::new(script), open)).into_response());
        }
        "stall" => std::future::pending().await,
        _ => return Err(open),
    };
    Ok(done(open, response))
}

async fn embeddings(shared: &Shared, sent: Value, key: &str, open: Open) -> Response {
    let model = sent["model"].as_str().unwrap_or_default();
    let (dimensions, how) = match model
        .strip_prefix("embed-")
        .map(|rest| rest.split_once('-').unwrap_or((rest, "")))
    {
        Some((dimensions, how)) => (dimensions.parse::<usize>().ok(), how),
        None => (None, model),
    };
    let texts: Vec<&str> = match &sent["input"] {
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    let nth = shared.nth_call(model, texts.first().unwrap_or(&""));
    let open = match fault(how, key, nth, open).await {
        Ok(response) => return response,
        Err(open) => open,
    };
    let Some(dimensions) = dimensions else {
        return done(open, error(404, "no such model", "model_not_found"));
    };
    if let Some(millis) = number(how, "wait-") {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let mut data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text, dimensions)}))
        .collect();
    match how {
        "shuffled" => data.reverse(),
        "missing" => drop(data.pop()),
        "double" => data[0]["index"] = json!(texts.len() - 1),
        "dimension" => data[0]["embedding"] = json!(vector(texts[0], dimensions + 1)),
        "null" => data[0]["embedding"][0] = Value::Null,
        _ => {}
    }
    let tokens: i64 = texts.iter().map(|text| words(text)).sum();
    let usage = match how {
        "no-usage" => Value::Null,
        "negative-usage" => json!({"prompt_tokens": -tokens, "total_tokens": -tokens}),
        _ => json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    };
    done(
        open,
        axum::Json(json!({"object": "list", "data": data, "model": model, "usage": usage})).into_response(),
    )
}

fn fine_tuning(shared: &Shared, method: &Method, path: &[&str], sent: &Value) -> Response {
    let text = |name: &str| sent[name].as_str().unwrap_or_default().to_owned();
    shared.with(|seen| match (method.as_str(), path) {
        ("POST", ["files"]) => {
            seen.files += 1;
            let id = format!("file-{}", seen.files);
            axum::Json(json!({"id": id, "object": "file", "purpose": "fine-tune"})).into_response()
        }
        ("DELETE", ["files", id]) => axum::Json(json!({"id": id, "object": "file", "deleted": true})).into_response(),
        ("POST", ["fine_tuning", "jobs"]) => {
            seen.jobs.push(Job {
                model: text("model"),
                suffix: text("suffix"),
                polls: 0,
                cancelled: false,
            });
            seen.jobs[seen.jobs.len() - 1].reply(seen.jobs.len())
        }
        (_, ["fine_tuning", "jobs", id, rest @ ..]) => {
            let number = number(id, "ftjob-").unwrap_or(0) as usize;
            let Some(job) = number.checked_sub(1).and_then(|at| seen.jobs.get_mut(at)) else {
                return error(404, "no such job", "not_found");
            };
            match (method.as_str(), rest) {
                ("GET", []) => job.polls += 1,
                ("POST", ["cancel"]) => job.cancelled = true,
                _ => return error(404, "no such path", "not_found"),
            }
            job.reply(number)
        }
        _ => error(404, "no such path", "not_found"),
    })
}

impl Job {
    fn reply(&self, number: usize) -> Response {
        let (fails, after) = match self.model.strip_prefix("tune-fail-") {
            Some(after) => (true, after),
            None => (false, self.model.strip_prefix("tune-").unwrap_or("1")),
        };
        let ended = self.polls >= after.parse().unwrap_or(1);
        let status = match (self.cancelled, ended, fails) {
            (true, ..) => "cancelled",
            (_, true, true) => "failed",
            (_, true, false) => "succeeded",
            _ if self.polls == 0 => "validating_files",
            _ => "running",
        };
        let model = (status == "succeeded").then(|| format!("ft:{}:{}:{number}", self.model, self.suffix));
        let error = (status == "failed").then(|| json!({"code": "invalid_training_file", "message": "line 1 is bad"}));
        axum::Json(json!({
            "id": format!("ftjob-{number}"), "object": "fine_tuning.job", "model": self.model, "status": status,
            "fine_tuned_model": model, "error": error, "trained_tokens": null,
        }))
        .into_response()
    }
}
