//! A restart, clean or not, answers the same questions the same way.

use crate::common::server::{Server, rows};

const T: &str = "acme";

/// All that a user sees of documents, searches and answers, but for what each call books anew.
async fn answers(server: &Server) -> Vec<Vec<Vec<String>>> {
    let client = server.connect(T, "owner").await;
    // What an answer costs is to be the same, so it has to be made each time.
    client.batch_execute("SET ai.cache = off").await.expect("a setting");
    let mut all = Vec::new();
    for sql in [
        "SELECT id, title, content, metadata, user_id, created_at, updated_at FROM documents ORDER BY id",
        "SELECT id, document_id, chunk_no, content, token_count, embedding, embedding_model FROM chunks ORDER BY document_id, chunk_no",
        "SELECT name, role FROM bulkhead.users ORDER BY name",
    ] {
        all.push(rows(&client, sql).await);
    }
    for question in [
        "Where is the lamp?",
        "What does the tide carry?",
        "lighthouse keeper",
        "When does the ferry leave?",
        "nothing of the kind",
    ] {
        for mode in ["hybrid", "vector", "keyword"] {
            let sql = format!(
                "SELECT rank, score, document_id, chunk_id, chunk_no, title FROM ai.search('{question}', k => 8, mode => '{mode}')"
            );
            all.push(rows(&client, &sql).await);
        }
        let sql = format!(
            "SELECT answer, citations, model, prompt_tokens, completion_tokens, cost_usd FROM ai.rag('{question}')"
        );
        all.push(rows(&client, &sql).await);
        let sql = format!("SELECT id, embedding <=> ai.embed('{question}') AS d FROM chunks ORDER BY d LIMIT 5");
        all.push(rows(&client, &sql).await);
    }
    let operations = "SELECT operation, count(*) FROM bulkhead.usage WHERE operation = 'ingest' GROUP BY operation";
    all.push(rows(&client, operations).await);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_answer_the_same() {
    let mut server = Server::start("same");
    server.create_tenants(&[T]).await;
    server.widen_tiers().await;
    let client = server.connect(T, "owner").await;
    client
        .batch_execute("CREATE USER bob PASSWORD 'pw-bob'")
        .await
        .expect("made");
    let insert = "INSERT INTO documents (title, content, metadata) VALUES ($1, $2, '{\"k\": 1}')";
    for i in 0..30 {
        let content = format!(
            "Entry {i}: the lamp of lighthouse {i} burns {} hours. The tide carries {} logs. The ferry leaves at {}.",
            i * 3 % 17,
            i * 5 % 11,
            i % 24
        );
        client
            .execute(insert, &[&format!("Log {i}"), &content])
            .await
            .expect("inserted");
    }
    let long: String = (0..200).map(|i| format!("Paragraph {i} about the keeper. ")).collect();
    client.execute(insert, &[&"Long", &long]).await.expect("inserted");
    client
        .batch_execute("UPDATE documents SET content = 'The lamp was moved.' WHERE title = 'Log 3'")
        .await
        .expect("changed");
    client
        .batch_execute("DELETE FROM documents WHERE title IN ('Log 4', 'Log 5')")
        .await
        .expect("deleted");
    drop(client);
    let before = answers(&server).await;
    assert_eq!(before[0].len(), 29);
    assert!(before[3].len() == 8, "{:?}", before[3]);
    assert_eq!(answers(&server).await, before, "asked twice without a restart");
    assert_eq!(server.stop().code(), Some(0));
    server.again();
    assert_eq!(answers(&server).await, before, "after a clean restart");
    server.kill();
    server.again();
    assert_eq!(answers(&server).await, before, "after SIGKILL");
    server.assert_alive();
}
