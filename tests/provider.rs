//! Calls of models elsewhere, against a scripted server with OpenAI's interface in a process of its own.
//! Rows of THREATS.md are named by their ids.

mod common;

#[path = "provider/answers.rs"]
mod answers;
#[path = "provider/drops.rs"]
mod drops;
#[path = "provider/faults.rs"]
mod faults;
#[path = "provider/https.rs"]
mod https;
#[path = "provider/secrets.rs"]
mod secrets;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bulkhead::ai::provider::{ChatRequest, Event, Failure, Finish, Message, Role, Upstreams};
use bulkhead::ledger::provider::{ProviderRow, Secret};
use common::provider::Provider;
use futures::StreamExt;

/// The key in every call that does not bring its own.
const KEY: &str = "sk-test-9Qw7Er5Ty3Ui1Op0";

/// A server for tests that do not mind sharing one.
fn scripted() -> &'static Provider {
    static SHARED: OnceLock<Provider> = OnceLock::new();
    SHARED.get_or_init(Provider::start)
}

fn row_at(base_url: &str) -> ProviderRow {
    ProviderRow {
        name: "scripted".to_owned(),
        base_url: base_url.to_owned(),
        api_key: Some(Secret::new(KEY).expect("a key")),
        region: None,
        timeout_ms: 60_000,
    }
}

fn row() -> ProviderRow {
    row_at(&scripted().base_url())
}

/// Only a hang takes this long.
fn patience() -> Instant {
    Instant::now() + common::server::PATIENCE
}

fn prompt(model: &str, text: &str, stream: bool) -> ChatRequest {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    ChatRequest {
        model: model.to_owned(),
        messages: vec![message(Role::System, "Be brief."), message(Role::User, text)],
        max_tokens: 100,
        temperature_milli: Some(700),
        stream,
    }
}

/// Text and end of an answer, or the failure that ended it.
async fn answer(upstreams: &Upstreams, row: &ProviderRow, request: &ChatRequest) -> Result<(String, Finish), Failure> {
    let mut stream = upstreams.chat(row, None, request, patience()).await?;
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event? {
            Event::Delta(more) => text.push_str(&more),
            Event::Finish(finish) => {
                assert!(stream.next().await.is_none(), "the end comes last");
                return Ok((text, finish));
            }
        }
    }
    panic!("a stream ended without an end");
}

/// A text that no other call has.
fn canary() -> String {
    format!("canary {} of this call", uuid::Uuid::new_v4().simple())
}

/// Waits until this holds; panics when it never does.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = patience();
    while !holds() {
        assert!(Instant::now() < patience, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
