//! Every way in which a provider fails, and that nothing is sent twice.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bulkhead::ai::provider::{Billed, Event, Failure, Kind, Upstreams, backoff};
use bulkhead::error::{Code, Error};
use bulkhead::ledger::provider::ProviderRow;
use bulkhead::limits;
use futures::StreamExt;

use super::common::provider::Provider;
use super::common::server::PATIENCE;
use super::{answer, canary, patience, prompt, row, row_at, scripted};

/// The failure of a call, and how often the server was asked.
async fn failure(model: &str, stream: bool) -> (Failure, usize) {
    let text = canary();
    let failure = answer(&Upstreams::new(), &row(), &prompt(model, &text, stream))
        .await
        .unwrap_err();
    (failure, scripted().log_of(&text).len())
}

#[tokio::test]
async fn statuses_become_kinds_and_nothing_is_sent_again() {
    let quota = |seconds: Option<u64>| Kind::Quota {
        retry_after: seconds.map(Duration::from_secs),
    };
    for stream in [false, true] {
        for (model, status, kind, billed, retryable) in [
            ("unauthorized", 401, Kind::Auth, Billed::Nothing, false),
            ("forbidden", 403, Kind::Auth, Billed::Nothing, false),
            ("quota", 429, quota(None), Billed::Nothing, true),
            ("quota-after", 429, quota(Some(1)), Billed::Nothing, true),
            ("quota-spent", 429, quota(None), Billed::Nothing, false),
            ("context-exceeded", 400, Kind::Rejected, Billed::Nothing, false),
            ("redirect", 307, Kind::Rejected, Billed::Nothing, false),
            ("status-500", 500, Kind::Server, Billed::Maybe, true),
            ("status-503", 503, Kind::Server, Billed::Maybe, true),
            ("status-529", 529, Kind::Server, Billed::Maybe, true),
            ("html", 502, Kind::Server, Billed::Maybe, true),
        ] {
            let (failure, asked) = failure(model, stream).await;
            let found = (failure.status, failure.kind, failure.billed, failure.retryable);
            assert_eq!(found, (Some(status), kind, billed, retryable), "{model}");
            assert!(!failure.message.is_empty() || model == "redirect");
            assert_eq!(asked, 1, "{model} was sent again");
        }
    }
    assert!(scripted().log().iter().all(|entry| entry["path"] != "/elsewhere"));
}

#[tokio::test]
async fn what_cannot_be_read_is_malformed() {
    for (model, streamed, whole) in [
        ("bad-json", Kind::Malformed, Kind::Malformed),
        ("no-choices", Kind::Malformed, Kind::Malformed),
        ("error-inside", Kind::Server, Kind::Server),
        ("cut", Kind::Cut, Kind::Cut),
        ("cut-first", Kind::Cut, Kind::Cut),
        ("cut-quiet", Kind::Cut, Kind::Cut),
    ] {
        for (stream, kind) in [(true, streamed), (false, whole)] {
            let (failure, asked) = failure(model, stream).await;
            assert_eq!(
                (failure.kind, failure.billed),
                (kind, Billed::Maybe),
                "{model} {stream}"
            );
            assert_eq!(failure.status.unwrap_or(200), 200);
            assert_eq!(asked, 1, "{model} was sent again");
        }
    }
    assert_eq!(failure("bad-event", true).await.0.kind, Kind::Malformed);
}

#[tokio::test]
async fn a_stream_that_breaks_gives_what_came_and_is_not_tried_again() {
    for (model, kind) in [
        ("cut", Kind::Cut),
        ("cut-quiet", Kind::Cut),
        ("error-inside", Kind::Server),
    ] {
        let request = prompt(model, &canary(), true);
        let mut stream = Upstreams::new().chat(&row(), None, &request, patience()).await.unwrap();
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            Event::Delta("canary ".to_owned())
        );
        let failure = stream.next().await.unwrap().unwrap_err();
        // A part was delivered: another attempt would repeat it.
        assert_eq!((failure.kind, failure.retryable), (kind, false), "{model}");
        assert!(stream.next().await.is_none());
        assert_eq!(stream.told().model.as_deref(), Some(model));
        assert_eq!(stream.told().usage, None);
    }
    assert!(failure("cut-first", true).await.0.retryable);
}

#[tokio::test]
async fn replies_without_end_are_cut_off() {
    for (model, stream) in [
        ("endless", true),
        ("endless-line", true),
        ("huge", true),
        ("huge", false),
    ] {
        let (failure, asked) = failure(model, stream).await;
        assert_eq!(
            (failure.kind, failure.billed, asked),
            (Kind::TooLarge, Billed::Maybe, 1),
            "{model}"
        );
    }
    // What may come is bounded by what was asked for.
    let most = |max_tokens| {
        let mut request = prompt("endless", &canary(), true);
        request.max_tokens = max_tokens;
        request
    };
    let mut lengths = Vec::new();
    for max_tokens in [1, 1_000] {
        let mut stream = Upstreams::new()
            .chat(&row(), None, &most(max_tokens), patience())
            .await
            .unwrap();
        let mut length = 0;
        while let Some(Ok(Event::Delta(text))) = stream.next().await {
            length += text.len();
        }
        assert!(length < limits::PROVIDER_REPLY_BASE_BYTES + max_tokens as usize * limits::PROVIDER_TOKEN_BYTES);
        lengths.push(length);
    }
    assert!(lengths[0] < lengths[1]);
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let upstreams = Upstreams::new();
    let hasty = ProviderRow {
        timeout_ms: 150,
        ..row()
    };
    for (model, stream) in [("stall", false), ("stall", true), ("stall-after", true)] {
        // Bounded by the provider's own timeout alone, then by the statement's deadline.
        for (row, within) in [(&hasty, PATIENCE * 10), (&row(), Duration::from_millis(150))] {
            let deadline = Instant::now() + within;
            let request = prompt(model, &canary(), stream);
            let failed = async {
                match upstreams.chat(row, None, &request, deadline).await {
                    Err(failure) => failure,
                    Ok(stream) => stream
                        .filter_map(async |event| event.err())
                        .boxed()
                        .next()
                        .await
                        .unwrap(),
                }
            };
            let failure = tokio::time::timeout(PATIENCE, failed)
                .await
                .expect("a silent call ends");
            assert_eq!(
                (failure.kind, failure.billed, failure.retryable),
                (Kind::Timeout, Billed::Maybe, false)
            );
            assert_eq!(Error::from(failure).code(), Code::QueryCanceled);
        }
    }
    let (text, past) = (canary(), Instant::now());
    let failure = upstreams
        .chat(&row(), None, &prompt("echo", &text, true), past)
        .await
        .err()
        .unwrap();
    assert_eq!((failure.kind, failure.billed), (Kind::Timeout, Billed::Nothing));
    assert!(
        scripted().log_of(&text).is_empty(),
        "nothing is sent after the deadline"
    );
}

#[tokio::test]
async fn a_provider_that_is_not_there_costs_nothing() {
    let mut provider = Provider::start();
    let (upstreams, row) = (Upstreams::new(), row_at(&provider.base_url()));
    answer(&upstreams, &row, &prompt("echo", "hello", false)).await.unwrap();
    provider.kill();
    // The idle connection may have to be found broken first.
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(
            answer(&upstreams, &row, &prompt("echo", "hello", false))
                .await
                .unwrap_err(),
        );
    }
    let last = kinds.pop().unwrap();
    assert_eq!(
        (last.kind, last.billed, last.retryable, last.status),
        (Kind::Connect, Billed::Nothing, true, None)
    );
    assert_eq!(Error::from(last).code(), Code::ProviderFailed);
    // Neither is one that does not speak TLS; to find out, TLS must be set up.
    let plain = scripted().base_url().replace("http://", "https://");
    let failure = answer(&upstreams, &row_at(&plain), &prompt("echo", "hello", true))
        .await
        .unwrap_err();
    assert_eq!((failure.kind, failure.billed), (Kind::Connect, Billed::Nothing));
    let nowhere = row_at("http://no-such-host.invalid/v1");
    let failure = answer(&upstreams, &nowhere, &prompt("echo", "hello", true))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Connect);
}

/// F05: attempts are the caller's, each on its own, as many as the limit says.
#[tokio::test]
async fn attempts_are_counted_by_the_caller() {
    for (model, answered, attempts) in [
        ("status-500-once", true, 2),
        ("status-503-times-2", true, 3),
        ("status-500", false, usize::from(limits::PROVIDER_ATTEMPTS)),
        ("quota-spent", false, 1),
        ("context-exceeded", false, 1),
    ] {
        let (upstreams, text) = (Upstreams::new(), canary());
        let mut attempt = 1;
        let said = loop {
            match answer(&upstreams, &row(), &prompt(model, &text, false)).await {
                Ok((said, _)) => break Some(said),
                Err(failure) => match backoff(attempt, &failure, Duration::from_secs(60)) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => break None,
                },
            }
            attempt += 1;
        };
        assert_eq!(said, answered.then(|| text.clone()), "{model}");
        assert_eq!(scripted().log_of(&text).len(), attempts, "{model}");
        assert_eq!(usize::from(attempt), attempts, "{model}");
    }
}

/// A server of raw bytes: `head`, then `filler` for ever.
fn raw(head: &'static [u8], filler: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let _ = socket.read(&mut [0; 64 << 10]);
            let mut sent = socket.write_all(head);
            while sent.is_ok() && !filler.is_empty() {
                sent = socket.write_all(filler);
            }
        }
    });
    format!("http://{address}/v1")
}

#[tokio::test]
async fn bytes_that_are_no_http_and_complaints_without_end() {
    let upstreams = Upstreams::new();
    let ask = async |url: &str| {
        answer(&upstreams, &row_at(url), &prompt("echo", "hello", false))
            .await
            .unwrap_err()
    };
    for (head, filler) in [
        (b"SSH-2.0-OpenSSH_9.6\r\n".as_slice(), b"".as_slice()),
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b"x-padding: yes\r\n"),
    ] {
        let failure = ask(&raw(head, filler)).await;
        assert_eq!((failure.kind, failure.billed), (Kind::Cut, Billed::Maybe));
    }
    let failure = ask(&raw(b"HTTP/1.1 500 Oops\r\n\r\n", &[b'o'; 4096])).await;
    assert_eq!((failure.kind, failure.status), (Kind::Server, Some(500)));
    assert!(
        failure.message.starts_with("ooo") && failure.message.chars().count() <= limits::PROVIDER_MESSAGE_CHARS + 1
    );
    let long = raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
        &[b' '; 4096],
    );
    assert_eq!(ask(&long).await.kind, Kind::TooLarge);
}
