//! Chat completions: the request as servers of this kind want it, the answer as a stream.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, stream::BoxStream};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    events::Events,
    exchange::{Reply, Unread, Upstream},
    failure::{Failure, Kind},
    usage::{Report, ReportedUsage},
};
use crate::{ledger::provider::Secret, limits};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// Instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Self::by(Role::System, content)
    }

    /// What the person says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::by(Role::User, content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::by(Role::Assistant, content)
    }

    fn by(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// What is asked of a chat model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// The provider's name of the model.
    pub model: String,
    /// The prompt.
    pub messages: Vec<Message>,
    /// Most tokens of the answer.
    pub max_tokens: i32,
    /// Sampling temperature in thousandths; absent for models that take none.
    pub temperature_milli: Option<i32>,
    /// Whether the answer is wanted as it is made.
    pub stream: bool,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Some more text; never empty.
    Delta(String),
    /// The answer is complete. Comes once and last.
    Finish(Finish),
}

/// How a call ended, as the provider tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// What it says was used; absent if it does not say, or cannot be believed.
    pub usage: Option<ReportedUsage>,
    /// A usage was reported that cannot be true.
    pub usage_absurd: bool,
    /// The model that it says has answered.
    pub model: Option<String>,
    /// Why it stopped: `stop`, `length`, `content_filter`, ...
    pub reason: Option<String>,
}

/// The request on the wire.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Body<'a> {
    fn new(request: &'a ChatRequest, openai: bool) -> Self {
        let most = Some(request.max_tokens);
        // OpenAI's reasoning models refuse the old name, other servers do not know the new one.
        let (max_tokens, max_completion_tokens) = if openai { (None, most) } else { (most, None) };
        Self {
            model: &request.model,
            messages: &request.messages,
            max_tokens,
            max_completion_tokens,
            temperature: request.temperature_milli.map(|milli| f64::from(milli) / 1000.0),
            stream: request.stream,
            stream_options: request.stream.then_some(StreamOptions { include_usage: true }),
        }
    }
}

/// Sends a request; the answer's text comes with the stream.
pub(super) async fn chat(
    upstream: &Upstream,
    key: Option<&Secret>,
    request: &ChatRequest,
    deadline: Instant,
) -> Result<ChatStream, Failure> {
    let body = Body::new(request, upstream.openai);
    let api = upstream.api(key, deadline);
    let sent = api.chat().create_byot::<_, Unread>(&body).await;
    let most = usize::try_from(request.max_tokens)
        .unwrap_or(0)
        .saturating_mul(limits::PROVIDER_TOKEN_BYTES)
        .saturating_add(limits::PROVIDER_REPLY_BASE_BYTES);
    let mut reply = Reply::of(sent, key, deadline, most).await?;
    let mut answer = Answer {
        status: reply.status(),
        key: key.cloned(),
        report: Report::Missing,
        model: None,
        reason: None,
    };
    if request.stream && !reply.is_json() {
        let chunks = futures::stream::try_unfold(reply, |mut reply| async move {
            Ok(reply.chunk().await?.map(|chunk| (chunk, reply)))
        });
        return Ok(ChatStream {
            answer,
            source: Source::Live {
                chunks: Box::pin(chunks),
                events: Events::default(),
                ended: false,
            },
            delivered: false,
        });
    }
    let body = reply.whole().await?;
    let part = answer.absorb(&body)?;
    if !part.is_choice {
        return Err(answer.failure(Kind::Malformed));
    }
    let finish = Event::Finish(answer.told());
    Ok(ChatStream {
        answer,
        source: Source::Ready(part.text.map(Event::Delta).into_iter().chain([finish]).collect()),
        delivered: false,
    })
}

/// An answer as it arrives: [`Event::Delta`]s, then [`Event::Finish`] or a [`Failure`], then the end.
///
/// Dropping it before its end closes its connection to the provider.
pub struct ChatStream {
    answer: Answer,
    source: Source,
    delivered: bool,
}

enum Source {
    Live {
        chunks: BoxStream<'static, Result<Bytes, Failure>>,
        events: Events,
        /// No more chunks come.
        ended: bool,
    },
    Ready(VecDeque<Event>),
}

impl ChatStream {
    /// What the provider has told so far: all there is to know when the stream has failed.
    pub fn told(&self) -> Finish {
        self.answer.told()
    }

    /// The last event; drops the connection.
    fn end(&mut self, event: Result<Event, Failure>) -> Poll<Option<Result<Event, Failure>>> {
        self.source = Source::Ready(VecDeque::new());
        Poll::Ready(Some(event.map_err(|failure| Failure {
            // Whoever has seen a part must not be sent the answer of another attempt.
            retryable: failure.retryable && !self.delivered,
            ..failure
        })))
    }
}

impl Stream for ChatStream {
    type Item = Result<Event, Failure>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let (chunks, events, ended) = match &mut this.source {
                Source::Ready(parts) => return Poll::Ready(parts.pop_front().map(Ok)),
                Source::Live { chunks, events, ended } => (chunks, events, ended),
            };
            if let Some(data) = events.next() {
                if data == b"[DONE]" {
                    return this.end(Ok(Event::Finish(this.told())));
                }
                match this.answer.absorb(&data) {
                    Ok(Part { text: Some(text), .. }) => {
                        this.delivered = true;
                        return Poll::Ready(Some(Ok(Event::Delta(text))));
                    }
                    Ok(_) => continue,
                    Err(failure) => return this.end(Err(failure)),
                }
            }
            if *ended {
                // Not every server says [DONE], but all say why they stopped.
                return match this.answer.reason {
                    Some(_) => this.end(Ok(Event::Finish(this.told()))),
                    None => this.end(Err(this.answer.failure(Kind::Cut))),
                };
            }
            match ready!(chunks.as_mut().poll_next(context)) {
                Some(Ok(bytes)) => {
                    if events.feed(&bytes).is_err() {
                        return this.end(Err(this.answer.failure(Kind::TooLarge)));
                    }
                }
                Some(Err(failure)) => return this.end(Err(failure)),
                None => {
                    events.end();
                    *ended = true;
                }
            }
        }
    }
}

/// What is gathered from a reply or its chunks.
struct Answer {
    status: u16,
    key: Option<Secret>,
    report: Report,
    model: Option<String>,
    reason: Option<String>,
}

/// What one reply or chunk adds.
struct Part {
    text: Option<String>,
    is_choice: bool,
}

impl Answer {
    /// Reads a reply or the data of a chunk. What it does not know it skips.
    fn absorb(&mut self, data: &[u8]) -> Result<Part, Failure> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(data) else {
            return Err(self.failure(Kind::Malformed));
        };
        if let Some(error) = fields.get("error").filter(|error| !error.is_null()) {
            return Err(Failure::of_error_object(self.status, error, self.key.as_ref()));
        }
        match fields.get("usage").map(Report::read) {
            None | Some(Report::Missing) => {}
            Some(report) => self.report = report,
        }
        if let Some(model) = fields.get("model").and_then(Value::as_str) {
            self.model = Some(model.chars().take(limits::PROVIDER_ID_BYTES).collect());
        }
        let choices = fields.get("choices").and_then(Value::as_array);
        let Some(choice) = choices.and_then(|choices| choices.first()) else {
            return Ok(Part {
                text: None,
                is_choice: false,
            });
        };
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.reason = Some(reason.chars().take(limits::PROVIDER_ID_BYTES).collect());
        }
        let said = ["delta", "message"].into_iter().find_map(|name| choice.get(name));
        let text = said.and_then(|said| said.get("content")).map(text_of);
        Ok(Part {
            text: text.filter(|text| !text.is_empty()),
            is_choice: said.is_some(),
        })
    }

    fn told(&self) -> Finish {
        Finish {
            usage: self.report.believed(),
            usage_absurd: self.report == Report::Absurd,
            model: self.model.clone(),
            reason: self.reason.clone(),
        }
    }

    fn failure(&self, kind: Kind) -> Failure {
        Failure {
            status: Some(self.status),
            ..Failure::new(kind)
        }
    }
}

/// Content is a string, null, or a list of parts of which some are text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect(),
        _ => String::new(),
    }
}
