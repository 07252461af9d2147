//! Calls inside of statements: distinct inputs, sums, streams, conversations, and the demo with models of one's own.

use std::process::Command;

use crate::common::provider::Provider;
use crate::common::raw::{bind, code, execute, parse, query, text_rows};
use crate::common::server::{binary, fails, one, rows};
use crate::{lines, run, served};

/// One call for each distinct input of a statement, however many rows have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_for_each_distinct_input() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    run(&client, "SET ai.cache = off").await;
    let sql = "SELECT DISTINCT ai.complete('input ' || (n % 5)::text, system => '') FROM generate_series(1, 20000) AS g(n) ORDER BY 1";
    let answers: Vec<_> = rows(&client, sql).await.into_iter().flatten().collect();
    assert_eq!(answers, ["input 0", "input 1", "input 2", "input 3", "input 4"]);
    assert_eq!(provider.log_of("input ").len(), 5);
    assert_eq!(lines(&client).await.len(), 5);
}

/// `ai.max_statement_usd` stops a statement before it passes the sum; `ai.on_error = 'null'` gives NULL instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_has_its_own_limit() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    run(&client, "SET ai.cache = off").await;
    run(&client, "SET ai.max_statement_usd = '0.0001'").await;
    let many = "SELECT count(ai.complete('number ' || n::text, max_tokens => 20, system => '')) FROM generate_series(1, 200) AS g(n)";
    assert_eq!(fails(&client, many).await, "53400");
    let spent = "SELECT COALESCE(sum(cost_usd), 0) <= 0.0001 FROM bulkhead.usage WHERE operation = 'complete'";
    assert_eq!(one(&client, spent).await.as_deref(), Some("t"));
    run(&client, "SET ai.on_error = 'null'").await;
    let some: i64 = one(&client, many).await.expect("a count").parse().expect("a number");
    assert!((1..200).contains(&some), "{some} answers");
}

/// A stream's rows are read before its answer is complete: this provider never completes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_before_the_answer_is_complete() {
    let provider = Provider::start();
    let server = served(&provider, "stall-after", &["acme"]).await;
    let mut raw = server.raw("acme", "owner").await;
    raw.say(&[query("SELECT content FROM ai.stream('first words', system => '')")])
        .await;
    let first = raw.until(b'D').await;
    assert_eq!(text_rows(&first).len(), 1);
}

/// The pieces of a stream are the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_the_whole_answer() {
    let provider = Provider::start();
    let server = served(&provider, "slow-stream-20", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    let pieces = rows(
        &client,
        "SELECT seq, content FROM ai.stream('every word of it', system => '')",
    )
    .await;
    assert!(pieces.len() > 1, "{pieces:?}");
    let seqs: Vec<_> = pieces
        .iter()
        .map(|row| row[0].parse::<usize>().expect("a number"))
        .collect();
    assert_eq!(seqs, (1..=pieces.len()).collect::<Vec<_>>());
    assert_eq!(
        pieces.iter().map(|row| &*row[1]).collect::<String>(),
        "every word of it"
    );
    assert_eq!(lines(&client).await[0][1..], ["4", "4", "1900", "f"]);
}

/// What a conversation is told again: its messages in order, with the system prompt; and nothing of another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_remember() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    let id = one(&client, "SELECT ai.create_conversation('one')")
        .await
        .expect("an id");
    let other = one(&client, "SELECT ai.create_conversation('two')")
        .await
        .expect("an id");
    for (id, message) in [(&id, "I am Ada"), (&other, "I am Bob"), (&id, "Who am I?")] {
        run(&client, &format!("SELECT ai.chat('{id}', '{message}', rag => false)")).await;
    }
    let body = &provider.log_of("Who am I?").remove(0)["body"];
    let told: Vec<(String, String)> = body["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| {
            (
                m["role"].as_str().unwrap_or("").to_owned(),
                m["content"].as_str().unwrap_or("").to_owned(),
            )
        })
        .collect();
    assert_eq!(told[0].0, "system");
    let rest: Vec<(&str, &str)> = told[1..].iter().map(|(role, content)| (&**role, &**content)).collect();
    assert_eq!(
        rest,
        [("user", "I am Ada"), ("assistant", "I am Ada"), ("user", "Who am I?")]
    );
    assert!(told[0].1.contains("acme"));
    let messages = rows(
        &client,
        &format!("SELECT seq, role, content FROM ai.messages WHERE conversation_id = '{id}' ORDER BY seq"),
    )
    .await;
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[3], ["4", "assistant", "Who am I?"]);
    // A failed call leaves no half of a turn.
    crate::use_model(&server.operator().await, "bad-json").await;
    assert_eq!(
        fails(&client, &format!("SELECT ai.chat('{id}', 'lost')")).await,
        "58030"
    );
    let count = format!("SELECT count(*) FROM ai.messages WHERE conversation_id = '{id}'");
    assert_eq!(one(&client, &count).await.as_deref(), Some("4"));
}

/// The demo runs as it is with a provider that only configuration names.
#[test]
fn the_demo_with_a_provider() {
    let provider = Provider::start();
    let dir = crate::common::server::fresh_dir("demo");
    let sql = format!(
        "INSERT INTO bulkhead.providers (name, base_url, api_key) VALUES ('mine', '{}', 'sk-mine');
         INSERT INTO bulkhead.model_prices (provider, model, valid_from, input_nanousd, cached_input_nanousd, output_nanousd, reasoning_nanousd, embedding_nanousd)
             VALUES ('mine', 'echo', '2020-01-01', 150, 75, 600, 600, 0);
         UPDATE bulkhead.models SET provider = 'mine', model = 'echo' WHERE kind = 'chat';",
        provider.base_url()
    );
    let file = dir.join("operator.sql");
    std::fs::write(&file, sql).expect("a file");
    let done = Command::new(binary())
        .args(["demo", "--once", "--operator-sql"])
        .arg(&file)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(provider.log_of("backups").len(), 2, "one call for each tenant");
    let _ = std::fs::remove_dir_all(dir);
}

/// What commits by itself stands in no transaction, be it opened by BEGIN, by other statements of one message, or by
/// what was written before in a pipeline; nothing of the message then happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_by_itself_stands_alone() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    let insert = "INSERT INTO documents (title, content) VALUES ('t', 'c')";
    for alone in [
        "SELECT bulkhead.set_budget('day', 1)",
        "SELECT bulkhead.set_provider_key('up', 'sk-of-acme-0123456789')",
    ] {
        for sql in [
            format!("{insert}; {alone}"),
            format!("{alone}; {insert}"),
            format!("BEGIN; {alone}"),
        ] {
            assert_eq!(fails(&client, &sql).await, "25001", "{sql}");
            run(&client, "ROLLBACK").await;
        }
        // In one cycle of the extended protocol, after a write that is not committed yet.
        let mut raw = server.raw("acme", "owner").await;
        let run = |sql: &str| [parse("", sql, &[]), bind("", "", &[], &[], &[]), execute("", 0)];
        let frames = raw.extended(&[run(insert), run(alone)].concat()).await;
        assert_eq!(code(&frames).as_deref(), Some("25001"));
        assert_eq!(code(&raw.extended(&run(alone)).await), None);
    }
    let found = "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM bulkhead.provider_keys WHERE set_at IS NOT NULL), \
                 (SELECT count(*) FROM bulkhead.budgets WHERE set_by = 'owner')";
    assert_eq!(rows(&client, found).await, [["0", "1", "1"]]);
}

/// A cancel that comes while an answer is being written, or about to be given, does not take the money and keep the
/// answer: what is answered 57014 is on the ledger as cancelled, what is `ok` there was answered. Of a conversation
/// the same: its messages are there exactly if they were told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_cancelled_was_cancelled() {
    let provider = Provider::start();
    let server = served(&provider, "wait-5", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    run(&client, "SET ai.cache = off").await;
    let conversation = one(&client, "SELECT ai.create_conversation()").await.expect("an id");
    let (mut answered, mut cancelled) = (0, 0);
    for round in 0..120_u64 {
        let sql = match round % 2 {
            0 => "SELECT ai.complete('hello', max_tokens => 5, system => '')".to_owned(),
            _ => format!("SELECT ai.chat('{conversation}', 'hello', rag => false)"),
        };
        let token = client.cancel_token();
        let cancel = async {
            tokio::time::sleep(std::time::Duration::from_micros(5_000 + round * 977 % 40_000)).await;
            token
                .cancel_query(tokio_postgres::NoTls)
                .await
                .expect("a cancel request");
        };
        let (outcome, ()) = tokio::join!(client.simple_query(&sql), cancel);
        match outcome {
            Ok(_) => answered += 1,
            Err(error) => {
                assert_eq!(crate::common::server::state(&error), "57014");
                cancelled += 1;
            }
        }
    }
    // What was cancelled is settled in the background.
    let open = "SELECT count(*) FROM bulkhead.budgets WHERE reserved_usd > 0";
    while one(&client, open).await.as_deref() != Some("0") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    println!("{answered} answered, {cancelled} cancelled");
    assert!(answered > 0 && cancelled > 0);
    let ok = lines(&client).await.into_iter().filter(|line| line[0] == "ok").count();
    assert_eq!(ok, answered, "lines of answers and answers");
    let told = "SELECT (SELECT count(*) FROM messages), (SELECT 2 * count(*) FROM bulkhead.usage WHERE operation = 'chat' AND status = 'ok')";
    let told = rows(&client, told).await.remove(0);
    assert_eq!(told[0], told[1], "messages and those of answers");
}

/// A call may stand wherever a value may: inside of another call, in ORDER BY, GROUP BY and windows; still once for
/// each distinct input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_stands_wherever_a_value_does() {
    let provider = Provider::start();
    let server = served(&provider, "echo", &["acme"]).await;
    let client = server.connect("acme", "owner").await;
    run(&client, "SET ai.cache = off").await;
    let x = |inner: &str| format!("ai.complete({inner}, system => '')");
    let values = "(VALUES ('b', 2), ('a', 1), ('b', 3)) AS v(t, n)";
    for (sql, expected, calls) in [
        (
            format!(
                "SELECT {}",
                x(&format!("'1 ' || {}", x(&format!("'2 ' || {}", x("'3'")))))
            ),
            vec![vec!["1 2 3"]],
            3,
        ),
        (
            format!("SELECT n AS m, {} FROM {values}", x(&format!("upper({})", x("t")))),
            vec![vec!["2", "B"], vec!["1", "A"], vec!["3", "B"]],
            4,
        ),
        (
            format!("SELECT t, n FROM {values} ORDER BY {}, n DESC", x("t")),
            vec![vec!["a", "1"], vec!["b", "3"], vec!["b", "2"]],
            2,
        ),
        (
            format!("SELECT {} AS word, max(n) FROM {values} GROUP BY 1 ORDER BY 1", x("t")),
            vec![vec!["a", "1"], vec!["b", "3"]],
            2,
        ),
        (
            format!(
                "SELECT max(n), count(*) FROM {values} GROUP BY {} ORDER BY 1",
                x(&x("t"))
            ),
            vec![vec!["1", "1"], vec!["3", "2"]],
            2,
        ),
        (
            format!(
                "SELECT n, row_number() OVER (ORDER BY {}, n) FROM {values} ORDER BY n",
                x("t")
            ),
            vec![vec!["1", "1"], vec!["2", "2"], vec!["3", "3"]],
            2,
        ),
        (
            format!("SELECT t FROM {values} WHERE {} = 'a'", x(&x("t"))),
            vec![vec!["a"]],
            2,
        ),
        (
            format!("SELECT string_agg({}, ',' ORDER BY n) FROM {values}", x("t")),
            vec![vec!["a,b,b"]],
            2,
        ),
    ] {
        provider.forget();
        assert_eq!(rows(&client, &sql).await, expected, "{sql}");
        assert_eq!(provider.log_of("").len(), calls, "{sql}");
    }
    // In the arguments of a table function there are no rows to await it for.
    assert_eq!(
        fails(&client, &format!("SELECT * FROM ai.search({})", x("'a'"))).await,
        "0A000"
    );
}
