//! The scripted provider's chat models.

use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::server::{Open, Script, Shared, Step, body, done, error, fault, number};
use super::words;

/// One call.
pub struct Chat {
    shared: Arc<Shared>,
    key: String,
    model: String,
    /// The last message.
    asked: String,
    prompt_tokens: i64,
    stream: bool,
}

impl Chat {
    pub fn new(shared: &Arc<Shared>, sent: Value, key: String) -> Self {
        let messages = sent["messages"].as_array().cloned().unwrap_or_default();
        let content = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
        Self {
            shared: Arc::clone(shared),
            key,
            model: sent["model"].as_str().unwrap_or_default().to_owned(),
            asked: messages.last().map(content).unwrap_or_default(),
            prompt_tokens: messages.iter().map(|message| words(&content(message))).sum(),
            stream: sent["stream"].as_bool().unwrap_or(false),
        }
    }

    pub async fn answer(self, open: Open) -> Response {
        let nth = self.shared.nth_call(&self.model, &self.asked);
        if self.shared.is_gone(&self.model) {
            let text = format!("The model `{}` does not exist", self.model);
            return done(open, error(404, &text, "model_not_found"));
        }
        let open = match fault(&self.model, &self.key, nth, open).await {
            Ok(response) => return response,
            Err(open) => open,
        };
        if let Some(ms) = number(&self.model, "wait-") {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
        }
        if self.stream && self.model != "no-stream" {
            let head = [(header::CONTENT_TYPE, "text/event-stream")];
            return (head, body(self.script(), open)).into_response();
        }
        match self.model.as_str() {
            "error-inside" => done(open, axum::Json(self.error()).into_response()),
            "cut" | "cut-first" | "cut-quiet" => {
                let start = Step::Send("{\"choices\": [".to_owned());
                let head = [
                    (header::CONTENT_TYPE, "application/json"),
                    (header::CONTENT_LENGTH, "1000"),
                ];
                (head, body(Box::new([start, Step::Cut].into_iter()), open)).into_response()
            }
            _ => done(open, axum::Json(self.whole()).into_response()),
        }
    }

    fn text(&self) -> String {
        match number(&self.model, "words-") {
            Some(n) => (0..n).map(|i| format!("w{i} ")).collect(),
            None => self.asked.clone(),
        }
    }

    fn usage(&self) -> Value {
        let (prompt, completion) = (self.prompt_tokens, words(&self.text()));
        match self.model.as_str() {
            "no-usage" => Value::Null,
            "negative-usage" => json!({"prompt_tokens": prompt, "completion_tokens": -5, "total_tokens": prompt - 5}),
            "absurd-usage" => json!({"prompt_tokens": 9_223_372_036_854_775_808u64, "completion_tokens": 1}),
            "text-usage" => json!({"prompt_tokens": "seven", "completion_tokens": 1}),
            _ => json!({
                "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
                "prompt_tokens_details": {"cached_tokens": prompt / 2},
                "completion_tokens_details": {"reasoning_tokens": 0},
            }),
        }
    }

    /// The model that it says has answered.
    fn answerer(&self) -> &str {
        if self.model == "other-model" {
            "somebody-elses-model"
        } else {
            &self.model
        }
    }

    fn error(&self) -> Value {
        json!({"error": {"message": format!("overloaded, key {}", self.key), "code": "server_error"}})
    }

    fn whole(&self) -> Value {
        let text = self.text();
        let content = match self.model.as_str() {
            "null-content" => Value::Null,
            "parts" => json!([{"type": "text", "text": text}, {"type": "odd"}, {"type": "text", "text": "!"}]),
            _ => json!(text),
        };
        let mut whole = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": self.answerer(),
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": self.usage(),
        });
        if self.model == "odd" {
            whole = json!({"choices": [{"message": {"content": text, "new_field": [1, {}]}}], "x": {"y": null}});
        }
        whole
    }

    fn chunk(&self, delta: Value, reason: Option<&str>) -> Step {
        // The id is the same in every answer: nothing may depend on it.
        let mut chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.answerer(),
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": null,
        });
        if self.model == "usage-first" && delta_is_first(&chunk) {
            chunk["usage"] = self.usage();
        }
        Step::Send(format!("data: {chunk}\n\n"))
    }

    fn script(self) -> Script {
        let send = |text: &str| Step::Send(text.to_owned());
        let word = |text: &str| self.chunk(json!({"content": text}), None);
        let first = self.chunk(json!({"role": "assistant", "content": ""}), None);
        let meeting = number(&self.model, "meet-");
        let delay = number(&self.model, "slow-stream-").or(meeting.map(|_| 200));
        match self.model.as_str() {
            "endless" => {
                let start = [first].into_iter();
                return Box::new(start.chain(std::iter::repeat_with(move || {
                    self.chunk(json!({"content": "and so on "}), None)
                })));
            }
            "endless-line" => {
                let start = [first, send("data: {\"choices\": \"")].into_iter();
                return Box::new(start.chain(std::iter::repeat_with(|| Step::Send("x".repeat(8 << 10)))));
            }
            _ => {}
        }
        let mut steps = vec![first];
        steps.extend(meeting.map(Step::Meet));
        for text in self.text().split_inclusive(' ') {
            if let Some(most) = delay {
                steps.push(Step::Wait(rand::random_range(0..=most)));
            }
            steps.push(word(text));
        }
        match self.model.as_str() {
            "cut" => {
                steps.truncate(2);
                steps.push(Step::Wait(20));
                steps.push(Step::Cut);
            }
            "cut-first" => steps = vec![Step::Cut],
            "cut-quiet" => steps.truncate(2),
            "stall-after" => {
                steps.truncate(2);
                steps.push(Step::Hang);
            }
            "error-inside" => {
                steps.truncate(2);
                steps.push(Step::Send(format!("data: {}\n\n", self.error())));
            }
            "bad-event" => {
                steps.truncate(2);
                steps.push(send("data: {\"choices\": [{\n\n"));
            }
            "odd" => {
                steps.insert(
                    1,
                    send(": keep-alive\r\n\r\nevent: ping\ndata: {\"type\": \"ping\"}\n\n"),
                );
                steps.push(self.chunk(json!({}), Some("stop")));
            }
            _ => {
                steps.push(self.chunk(json!({}), Some("stop")));
                let usage = self.usage();
                if !usage.is_null() && self.model != "usage-first" {
                    steps.push(Step::Send(format!(
                        "data: {}\n\n",
                        json!({"choices": [], "usage": usage})
                    )));
                }
                if self.model != "no-done" {
                    steps.push(send("data: [DONE]\n\n"));
                }
            }
        }
        Box::new(steps.into_iter())
    }
}

fn delta_is_first(chunk: &Value) -> bool {
    !chunk["choices"][0]["delta"]["role"].is_null()
}
