//! Answers, streams, embeddings and fine-tuning as servers of different kinds give them.

use std::sync::Arc;

use bulkhead::ai::provider::{Event, JobStatus, Kind, ReportedUsage, Upstreams};
use futures::StreamExt;
use serde_json::json;

use super::common::provider::{Provider, vector, words};
use super::{KEY, answer, canary, patience, prompt, row, row_at, scripted};

#[tokio::test]
async fn whole_and_streamed_answers_are_the_same() {
    let upstreams = Upstreams::new();
    for stream in [false, true] {
        let text = canary();
        let (said, finish) = answer(&upstreams, &row(), &prompt("echo", &text, stream))
            .await
            .unwrap();
        assert_eq!(said, text);
        assert_eq!(finish.reason.as_deref(), Some("stop"));
        assert_eq!(finish.model.as_deref(), Some("echo"));
        let prompt = words("Be brief.") + words(&text);
        let usage = ReportedUsage {
            prompt,
            cached: prompt / 2,
            completion: words(&text),
            reasoning: 0,
        };
        assert_eq!((finish.usage, finish.usage_absurd), (Some(usage), false));
        let log = scripted().log_of(&text);
        assert_eq!(log.len(), 1);
        let mut body = json!({
            "model": "echo",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
            "max_tokens": 100, "temperature": 0.7, "stream": stream,
        });
        if stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        assert_eq!(log[0]["body"], body);
        assert_eq!(log[0]["path"], "/v1/chat/completions");
        assert_eq!(log[0]["headers"]["authorization"], format!("Bearer {KEY}"));
    }
}

#[tokio::test]
async fn tokens_arrive_before_the_answer_is_complete() {
    let text = canary();
    let upstreams = Upstreams::new();
    // This server never completes it, so what arrives has arrived before.
    let request = prompt("stall-after", &text, true);
    let mut stream = upstreams.chat(&row(), None, &request, patience()).await.unwrap();
    assert_eq!(
        stream.next().await.unwrap().unwrap(),
        Event::Delta("canary ".to_owned())
    );
    assert!(futures::poll!(stream.next()).is_pending());
    assert_eq!(stream.told().model.as_deref(), Some("stall-after"));
}

#[tokio::test]
async fn odd_servers_are_understood() {
    let upstreams = Upstreams::new();
    for stream in [false, true] {
        for (model, expected) in [
            ("null-content", ""),
            ("parts", "{}!"),
            ("odd", "{}"),
            ("no-stream", "{}"),
            ("no-done", "{}"),
        ] {
            let text = canary();
            let (said, _) = answer(&upstreams, &row(), &prompt(model, &text, stream)).await.unwrap();
            if stream && matches!(model, "null-content" | "parts") {
                assert_eq!(said, text, "{model}");
            } else {
                assert_eq!(said, expected.replace("{}", &text), "{model} {stream}");
            }
        }
        let finish_of = async |model: &str| {
            let (said, finish) = answer(&upstreams, &row(), &prompt(model, "two words", stream))
                .await
                .unwrap();
            assert_eq!(said, "two words");
            finish
        };
        assert_eq!(
            finish_of("other-model").await.model.as_deref(),
            Some("somebody-elses-model")
        );
        assert_eq!(finish_of("usage-first").await.usage.unwrap().prompt, 4);
        for (model, absurd) in [
            ("no-usage", false),
            ("negative-usage", true),
            ("absurd-usage", true),
            ("text-usage", true),
        ] {
            let finish = finish_of(model).await;
            assert_eq!((finish.usage, finish.usage_absurd), (None, absurd), "{model} {stream}");
        }
    }
    // More than was asked for, but not absurdly more: the caller sees and judges it.
    let (said, finish) = answer(&upstreams, &row(), &prompt("words-300", "many", true))
        .await
        .unwrap();
    assert_eq!((words(&said), finish.usage.unwrap().completion), (300, 300));
}

#[tokio::test]
async fn embeddings_come_in_the_order_of_the_texts() {
    let upstreams = Upstreams::new();
    let texts = ["the harbour opens", "a refund is paid", ""];
    for model in ["embed-384", "embed-384-shuffled"] {
        let embedded = upstreams.embed(&row(), None, model, &texts, patience()).await.unwrap();
        assert_eq!(embedded.vectors, texts.map(|text| vector(text, 384)));
        assert_eq!((embedded.usage, embedded.usage_absurd), (Some(7), false));
        assert_eq!(embedded.model.as_deref(), Some(model));
    }
    let odd = async |model: &str| upstreams.embed(&row(), None, model, &texts, patience()).await;
    let silent = odd("embed-8-no-usage").await.unwrap();
    assert_eq!((silent.usage, silent.usage_absurd), (None, false));
    let negative = odd("embed-8-negative-usage").await.unwrap();
    assert_eq!((negative.usage, negative.usage_absurd), (None, true));
    for model in [
        "embed-8-missing",
        "embed-8-double",
        "embed-8-dimension",
        "embed-8-null",
        "embed-8-bad-json",
    ] {
        assert_eq!(odd(model).await.unwrap_err().kind, Kind::Malformed, "{model}");
    }
    assert_eq!(odd("embed-8-status-503").await.unwrap_err().kind, Kind::Server);
    assert_eq!(odd("embed-8-huge").await.unwrap_err().kind, Kind::TooLarge);
}

#[tokio::test]
async fn a_model_is_trained_used_and_its_file_deleted() {
    let (upstreams, row) = (Upstreams::new(), row());
    let line = format!("{{\"messages\": [\"{}\"]}}", canary());
    let file = upstreams
        .upload_examples(&row, None, line.clone().into(), patience())
        .await
        .unwrap();
    let uploaded = scripted().log_of(&line.replace('"', "\\\""));
    assert_eq!(uploaded.len(), 1, "the examples arrive as they are");
    let form = uploaded[0]["body"].as_str().unwrap();
    assert!(
        form.contains("filename=\"training.jsonl\"") && form.contains("fine-tune"),
        "{form}"
    );

    let job = upstreams
        .create_fine_tune(&row, None, ("tune-2", &file, "bk"), patience())
        .await
        .unwrap();
    assert_eq!((job.status, &job.model), (JobStatus::Queued, &None));
    let poll = async |id: &str| upstreams.fine_tune(&row, None, id, patience()).await.unwrap();
    assert_eq!(poll(&job.id).await.status, JobStatus::Running);
    let done = poll(&job.id).await;
    assert_eq!((done.status, done.id == job.id), (JobStatus::Succeeded, true));
    let (said, _) = answer(&upstreams, &row, &prompt(&done.model.unwrap(), "trained", true))
        .await
        .unwrap();
    assert_eq!(said, "trained");

    let failing = ("tune-fail-1", file.as_str(), "bk");
    let failing = upstreams
        .create_fine_tune(&row, None, failing, patience())
        .await
        .unwrap();
    let failed = poll(&failing.id).await;
    assert_eq!((failed.status, failed.model), (JobStatus::Failed, None));
    assert_eq!(failed.error.as_deref(), Some("line 1 is bad"));

    let slow = upstreams
        .create_fine_tune(&row, None, ("tune-9", &file, "bk"), patience())
        .await
        .unwrap();
    let stopped = upstreams
        .cancel_fine_tune(&row, None, &slow.id, patience())
        .await
        .unwrap();
    assert_eq!(stopped.status, JobStatus::Cancelled);
    upstreams.delete_file(&row, None, &file, patience()).await.unwrap();
    let unknown = upstreams
        .fine_tune(&row, None, "ftjob-4000", patience())
        .await
        .unwrap_err();
    assert_eq!((unknown.kind, unknown.status), (Kind::Rejected, Some(404)));
    let requests = scripted().log().len();
    let escaping = upstreams
        .fine_tune(&row, None, "../../files", patience())
        .await
        .unwrap_err();
    assert_eq!((escaping.kind, escaping.status), (Kind::Rejected, None));
    assert!(scripted().log().len() >= requests && scripted().log_of("../").is_empty());
}

/// B27: 1,000 streams at once, chunks at random times, one id for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_a_thousand_streams_keep_to_themselves() {
    let _ = rlimit::increase_nofile_limit(16_384);
    let provider = Provider::start();
    let (upstreams, row) = (Arc::new(Upstreams::new()), row_at(&provider.base_url()));
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (upstreams, row) = (upstreams.clone(), row.clone());
        streams.spawn(async move {
            let text = canary();
            // The server goes on when all of them are open.
            let (said, _) = answer(&upstreams, &row, &prompt("meet-1000", &text, true))
                .await
                .unwrap();
            (text, said)
        });
    }
    let mut ended = 0;
    while let Some(stream) = streams.join_next().await {
        let (text, said) = stream.unwrap();
        assert_eq!(said, text);
        ended += 1;
    }
    assert_eq!((ended, provider.counter("connections") >= 1_000), (1_000, true));
}
