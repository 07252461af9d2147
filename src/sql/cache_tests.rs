//! Answers found in documents, against sessions that write documents: none is ever stale.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use uuid::Uuid;

use super::{
    documents::now_micros,
    engine::Engine,
    session::Session,
    testing::{run, tenant},
    world::TenantWorld,
};
use crate::{
    ai::{
        cache::{self, Looked, Request},
        conversation::{Conversation, Conversations, Role, Staged},
        corpus::{Mode, SearchQuery},
    },
    ledger::money::Nano,
    tenant::{Directory, Table, testing},
};

async fn engine() -> (Arc<Directory>, Arc<Engine>) {
    let directory = Directory::in_memory("operator's").unwrap();
    let engine = Engine::new(directory.clone()).unwrap();
    let operator = testing::operator(&directory, "operator's");
    operator.create_tenant(testing::new_tenant("acme")).await.unwrap();
    (directory, engine)
}

async fn session(directory: &Arc<Directory>, engine: &Arc<Engine>) -> Session {
    let login = testing::log_in(directory, "acme", "owner", "secret").unwrap();
    Session::open(engine.clone(), login, &[]).await.unwrap()
}

/// Every text in which the word stands, as the transaction sees it.
async fn search(world: &TenantWorld, word: &str) -> String {
    let query = SearchQuery {
        text: word,
        embedding: None,
        k: 10,
        mode: Mode::Keyword,
        filter: None,
    };
    let hits = world.search(None, |layers, _| layers.search(&query)).await.unwrap();
    let mut found: Vec<String> = hits
        .iter()
        .filter_map(|hit| world.chunk(hit.document, hit.chunk_no as u32, false).unwrap())
        .map(|chunk| chunk.content)
        .collect();
    found.sort();
    found.join(" / ")
}

/// An answer as a gate would give it: from the cache if it is there, found and stored if not.
/// Whether it was there, and the text.
async fn ask(world: &TenantWorld, word: &str) -> (bool, String) {
    let Some(epoch) = world.corpus_epoch() else {
        return (false, search(world, word).await);
    };
    let messages = [(Role::User, word)];
    let request = Request {
        user: "owner",
        operation: "rag",
        provider: "builtin",
        model: "m",
        parameters: &[],
        prompt_version: 1,
        messages: &messages,
        corpus: Some(epoch),
    };
    let looked = world
        .state
        .cache
        .lookup_or_lead(&request, Duration::from_secs(60))
        .await;
    match looked.unwrap() {
        Looked::Hit(answer) => (true, answer.text.clone()),
        Looked::Lead(guard) => {
            let text = search(world, word).await;
            let answer = cache::Answer {
                text: text.clone(),
                citations: None,
                model: "m".to_owned(),
                prompt_tokens: 1,
                completion_tokens: 1,
                cost: Nano(1),
                usage_id: Uuid::now_v7(),
            };
            let mut batch = world.tenant.batch();
            guard.store(&mut batch, answer).unwrap();
            world.tenant.commit(batch).await.unwrap();
            (false, text)
        }
    }
}

async fn ask_twice(world: &TenantWorld, word: &str) -> String {
    let (_, first) = ask(world, word).await;
    assert_eq!(ask(world, word).await, (true, first.clone()), "nothing has changed");
    first
}

#[tokio::test]
async fn a_changed_document_ends_the_answers_found_before() {
    let (directory, engine) = engine().await;
    let (mut a, b) = (session(&directory, &engine).await, session(&directory, &engine).await);
    assert_eq!(ask_twice(tenant(&b), "lamp").await, "");
    for (sql, expected) in [
        (
            "INSERT INTO documents (title, content) VALUES ('l', 'The lamp is red.')",
            "The lamp is red.",
        ),
        (
            "UPDATE documents SET content = 'The lamp is blue.'",
            "The lamp is blue.",
        ),
        (
            "SELECT ai.ingest('m', 'Another lamp.')",
            "Another lamp. / The lamp is blue.",
        ),
        ("DELETE FROM documents WHERE title = 'l'", "Another lamp."),
        ("DELETE FROM documents", ""),
    ] {
        run(&mut a, sql).await.unwrap();
        assert_eq!(ask(tenant(&b), "lamp").await, (false, expected.to_owned()), "{sql}");
        ask_twice(tenant(&b), "lamp").await;
    }
    // What is no document changes nothing that was found.
    run(&mut a, "SELECT ai.create_conversation('talk')").await.unwrap();
    assert!(ask(tenant(&b), "lamp").await.0);
}

/// A transaction is not given what was found without its own documents, and nobody is given what was
/// found with them.
#[tokio::test]
async fn uncommitted_documents_are_not_cached() {
    let (directory, engine) = engine().await;
    let (mut a, b) = (session(&directory, &engine).await, session(&directory, &engine).await);
    run(
        &mut a,
        "INSERT INTO documents (title, content) VALUES ('l', 'The lamp is red.')",
    )
    .await
    .unwrap();
    assert_eq!(ask_twice(tenant(&b), "lamp").await, "The lamp is red.");
    run(&mut a, "BEGIN").await.unwrap();
    assert!(ask(tenant(&a), "lamp").await.0);
    run(&mut a, "UPDATE documents SET content = 'The lamp is secret.'")
        .await
        .unwrap();
    assert_eq!(ask(tenant(&a), "lamp").await, (false, "The lamp is secret.".to_owned()));
    assert_eq!(ask(tenant(&b), "lamp").await, (true, "The lamp is red.".to_owned()));
    run(&mut a, "ROLLBACK").await.unwrap();
    assert_eq!(ask(tenant(&a), "lamp").await, (true, "The lamp is red.".to_owned()));
}

/// Many ask while one writes: whoever asks after a commit was acknowledged gets no answer of before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_stale_while_documents_change() {
    const VERSIONS: usize = 60;
    let (directory, engine) = engine().await;
    let mut writer = session(&directory, &engine).await;
    run(
        &mut writer,
        "INSERT INTO documents (title, content) VALUES ('l', 'lamp 0')",
    )
    .await
    .unwrap();
    let (written, version) = tokio::sync::watch::channel(0);
    let readers = (0..6).map(|_| {
        let (directory, engine, version) = (directory.clone(), engine.clone(), version.clone());
        tokio::spawn(async move {
            let session = session(&directory, &engine).await;
            let (mut asked, mut hits) = (0, 0);
            loop {
                let acknowledged = *version.borrow();
                let (hit, text) = ask(tenant(&session), "lamp").await;
                let seen: usize = text.strip_prefix("lamp ").unwrap().parse().unwrap();
                assert!(
                    seen >= acknowledged,
                    "version {seen} after {acknowledged} was acknowledged"
                );
                (asked, hits) = (asked + 1, hits + usize::from(hit));
                if acknowledged == VERSIONS {
                    return (asked, hits);
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for next in 1..=VERSIONS {
        run(&mut writer, &format!("UPDATE documents SET content = 'lamp {next}'"))
            .await
            .unwrap();
        written.send(next).unwrap();
    }
    let all = join_all(readers).await.into_iter().map(|r| r.unwrap());
    let (asked, hits) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{VERSIONS} versions, {asked} questions of 6 sessions, {hits} answered from the cache, 0 stale");
    assert!(hits > 0, "the cache was never used, so nothing was shown");
}

#[tokio::test]
async fn what_has_expired_is_deleted_in_the_background() {
    const DAY: i64 = 86_400_000_000;
    let (directory, engine) = engine().await;
    let session = session(&directory, &engine).await;
    let world = tenant(&session);
    let now = now_micros();
    let old = Conversation::new("ada", None, "{}".to_owned(), Some(1), now - 2 * DAY).unwrap();
    let mut staged = Staged::default();
    staged.create(old);
    staged.commit(&world.tenant, now, |_| Ok(())).await.unwrap();
    assert_eq!(Conversations::of(&world.tenant, "ada", now).list().count(), 0);
    assert_eq!(world.tenant.scan(Table::Conversations, &[]).count(), 1);
    world.state.purge(now).await.unwrap();
    assert_eq!(world.tenant.scan(Table::Conversations, &[]).count(), 0);
}
