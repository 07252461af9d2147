//! The provider's key stays where it belongs, and nothing comes from the environment.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bulkhead::ai::provider::Upstreams;
use bulkhead::error::Error;
use bulkhead::ledger::provider::{ProviderRow, Secret};

use super::{KEY, answer, canary, patience, prompt, row, row_at, scripted};

/// Whether a text tells the key, or enough of it.
fn tells(text: &str) -> bool {
    KEY.as_bytes()
        .windows(8)
        .any(|part| text.contains(std::str::from_utf8(part).expect("keys are ASCII")))
}

#[tokio::test]
async fn no_message_tells_the_key() {
    assert!(tells(&format!("x{KEY}x")) && !tells("sk-test-"[..7].trim()));
    for model in ["unauthorized", "forbidden", "error-inside"] {
        for stream in [false, true] {
            let failure = answer(&Upstreams::new(), &row(), &prompt(model, &canary(), stream))
                .await
                .unwrap_err();
            assert!(failure.message.contains("[hidden]"), "{model}: {}", failure.message);
            let shown = format!("{failure:?} {failure}");
            let error = Error::from(failure);
            let shown = format!("{shown} {error:?} {:?} {:?}", error.detail(), error.hint());
            assert!(!tells(&shown), "{shown}");
        }
    }
    assert!(!tells(&format!("{:?}", row())));
}

/// What a subscriber for everything has written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_holds_neither_keys_nor_texts() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For this thread, on which this test's runtime runs everything.
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::trace!("it listens");
    let upstreams = Upstreams::new();
    let mut texts = Vec::new();
    for model in [
        "echo",
        "unauthorized",
        "status-500",
        "html",
        "bad-json",
        "bad-event",
        "no-choices",
        "error-inside",
        "cut",
    ] {
        for stream in [false, true] {
            texts.push(canary());
            let request = prompt(model, &texts[texts.len() - 1], stream);
            let ended = answer(&upstreams, &row(), &request).await;
            assert_eq!(
                ended.is_ok(),
                model == "echo" || (model == "bad-event" && !stream),
                "{model}"
            );
        }
    }
    drop(guard);
    let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(written.contains("it listens"));
    assert!(!tells(&written), "{written}");
    for text in texts {
        assert!(!written.contains(text.split(' ').nth(1).unwrap()), "{written}");
    }
    for said in ["Bad gateway", "scripted 500", "surprise"] {
        assert!(!written.contains(said), "{written}");
    }
}

#[tokio::test]
async fn keys_do_not_share_connections() {
    let upstreams = Upstreams::new();
    let own = Secret::new("own-key-of-a-tenant").unwrap();
    let mut connections: [Vec<u64>; 3] = Default::default();
    let keyless = ProviderRow { api_key: None, ..row() };
    for _ in 0..3 {
        for (who, (row, key)) in [(row(), None), (row(), Some(&own)), (keyless.clone(), None)]
            .iter()
            .enumerate()
        {
            let text = canary();
            let request = prompt("echo", &text, false);
            drop(upstreams.chat(row, *key, &request, patience()).await.unwrap());
            let entry = scripted().log_of(&text).remove(0);
            let sent = entry["headers"]["authorization"].as_str();
            let expected = [
                Some(format!("Bearer {KEY}")),
                Some("Bearer own-key-of-a-tenant".to_owned()),
                None,
            ];
            assert_eq!(sent, expected[who].as_deref());
            connections[who].push(entry["connection"].as_u64().unwrap());
        }
    }
    for connections in &mut connections {
        connections.dedup();
        assert_eq!(connections.len(), 1, "calls one after another use one connection");
    }
    assert!(connections[0] != connections[1] && connections[1] != connections[2] && connections[0] != connections[2]);
}

/// Set in the process in which this test is the caller with a hostile environment.
const CALLER: &str = "BULKHEAD_TEST_UPSTREAM";

#[tokio::test]
async fn nothing_comes_from_the_environment() {
    if let Ok(url) = std::env::var(CALLER) {
        let row = ProviderRow {
            api_key: None,
            ..row_at(&url)
        };
        answer(
            &Upstreams::new(),
            &row,
            &prompt("echo", "from the hostile environment", true),
        )
        .await
        .unwrap();
        return;
    }
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command
        .args(["--exact", "secrets::nothing_comes_from_the_environment"])
        .env(CALLER, scripted().base_url());
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env(name, "http://127.0.0.1:9");
    }
    for name in [
        "OPENAI_API_KEY",
        "OPENAI_ADMIN_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
    ] {
        command.env(name, "foreign-value");
    }
    command
        .env("OPENAI_BASE_URL", "http://127.0.0.1:9/foreign-value")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let log = scripted().log_of("from the hostile environment");
    assert_eq!(log.len(), 1, "the call reached the provider itself");
    assert!(!log[0].to_string().contains("foreign-value"), "{}", log[0]);
    let headers = log[0]["headers"].as_object().unwrap();
    let mut names: Vec<&str> = headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept", "content-length", "content-type", "host", "user-agent"]
    );
}
