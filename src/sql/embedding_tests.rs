//! Changes of the embedding model as the store sees them. The second model is the built-in one under another name:
//! no network is needed, and its vectors are as long as the first one's.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    documents::{self, Vector},
    engine::Engine,
    jobs::{self, State},
    session::Session,
    testing::{run, tenant},
    world::TenantWorld,
};
use crate::{
    ai::corpus::Space,
    error::{Code, Result},
    ledger::{
        model::{self, BUILTIN, DEFAULT_EMBEDDING, Model},
        price::{self, Price},
    },
    tenant::{Directory, Table, testing},
    vector::{Embedding, Metric},
};

async fn opened() -> (Arc<Directory>, Arc<Engine>, Session) {
    let directory = Directory::in_memory("operator's").unwrap();
    let engine = Engine::new(directory.clone()).unwrap();
    let operator = testing::operator(&directory, "operator's");
    operator.create_tenant(testing::new_tenant("acme")).await.unwrap();
    let login = testing::log_in(&directory, "acme", "owner", "secret").unwrap();
    let session = Session::open(engine.clone(), login, &[]).await.unwrap();
    (directory, engine, session)
}

/// Points the default to the built-in model under this name.
async fn set_default(directory: &Arc<Directory>, engine: &Engine, name: &str) {
    let operator = testing::operator(directory, "operator's");
    let (mut batch, [.., default]) = (operator.batch(), model::defaults());
    assert_eq!(default.name, DEFAULT_EMBEDDING);
    let price = Price {
        model: name.to_owned(),
        ..price::defaults().find(|price| price.provider == BUILTIN).unwrap()
    };
    let model = Model {
        model: name.to_owned(),
        ..default
    };
    batch.put(Table::Models, &model.key(), model.encode().unwrap());
    batch.put(Table::Prices, &price.key(), price.encode().unwrap());
    operator.commit(batch).await.unwrap();
    engine.reembed.notify_one();
}

/// Space, model and length of every vector that is stored.
fn vectors(world: &TenantWorld) -> Vec<(u8, String, usize)> {
    let rows = world.tenant.scan(Table::Vectors, &[]);
    rows.map(|row| {
        let (key, stored) = row.unwrap();
        let vector: Vector = documents::decode(&stored.value).unwrap();
        (key[3], vector.model, vector.values.len())
    })
    .collect()
}

async fn settled(world: &TenantWorld, model: &str) {
    for _ in 0..6_000 {
        let spaces = world.state.embeddings.current().unwrap();
        if spaces.active.model == model && spaces.stale.is_empty() && spaces.next.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", world.state.embeddings.current());
}

#[tokio::test]
async fn a_change_of_the_model_leaves_one_vector_a_chunk() {
    let (directory, engine, mut session) = opened().await;
    for n in 0..70 {
        let sql = format!("INSERT INTO documents (title, content) VALUES ('t{n}', 'the harbour number{n}')");
        run(&mut session, &sql).await.unwrap();
    }
    let stop = CancellationToken::new();
    let background = tokio::spawn(engine.clone().background(stop.clone()));
    set_default(&directory, &engine, "other").await;
    settled(tenant(&session), "other").await;
    let all = vectors(tenant(&session));
    assert_eq!((all.len(), &all[0]), (70, &(1, "other".to_owned(), all[0].2)));
    assert!(all.iter().all(|vector| *vector == all[0]));
    // A commit that a statement has under way holds the next change up.
    let held = tenant(&session).state.embeddings.shared().await;
    set_default(&directory, &engine, "third").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(tenant(&session).state.embeddings.current().unwrap().next, None);
    drop(held);
    settled(tenant(&session), "third").await;
    run(&mut session, "DELETE FROM documents WHERE title <> 't3'")
        .await
        .unwrap();
    assert_eq!(vectors(tenant(&session)).len(), 1);
    let jobs: Vec<_> = jobs::all(&tenant(&session).tenant).map(Result::unwrap).collect();
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job.state == State::Succeeded && job.done == 70));
    stop.cancel();
    background.await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_was_begun_before_commits_by_the_new_model() {
    let (directory, engine, mut session) = opened().await;
    run(&mut session, "INSERT INTO documents (title, content) VALUES ('a', 'b')")
        .await
        .unwrap();
    let login = testing::log_in(&directory, "acme", "owner", "secret").unwrap();
    let mut other = Session::open(engine.clone(), login, &[]).await.unwrap();
    run(
        &mut other,
        "BEGIN; INSERT INTO documents (title, content) VALUES ('c', 'd')",
    )
    .await
    .unwrap();
    run(
        &mut other,
        "SAVEPOINT s; INSERT INTO documents (title, content) VALUES ('e', 'f')",
    )
    .await
    .unwrap();
    let stop = CancellationToken::new();
    let background = tokio::spawn(engine.clone().background(stop.clone()));
    set_default(&directory, &engine, "other").await;
    settled(tenant(&session), "other").await;
    run(&mut other, "INSERT INTO documents (title, content) VALUES ('g', 'h')")
        .await
        .unwrap();
    run(&mut other, "ROLLBACK TO s; COMMIT").await.unwrap();
    let all = vectors(tenant(&session));
    assert_eq!(all.len(), 2);
    assert!(
        all.iter().all(|(space, model, _)| (*space, &**model) == (1, "other")),
        "{all:?}"
    );
    stop.cancel();
    background.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_written_while_the_model_changes_are_found() {
    let (directory, engine, mut session) = opened().await;
    for n in 0..200 {
        let sql = format!("INSERT INTO documents (title, content) VALUES ('t{n}', 'the harbour number{n}')");
        run(&mut session, &sql).await.unwrap();
    }
    let stop = CancellationToken::new();
    let background = tokio::spawn(engine.clone().background(stop.clone()));
    let login = testing::log_in(&directory, "acme", "owner", "secret").unwrap();
    let mut other = Session::open(engine.clone(), login, &[]).await.unwrap();
    let written = CancellationToken::new();
    let enough = written.clone();
    let writer = tokio::spawn(async move {
        let mut more = 0;
        while !enough.is_cancelled() {
            let sql = format!("INSERT INTO documents (title, content) VALUES ('m{more}', 'the harbour {more}')");
            run(&mut other, &sql).await.unwrap();
            more += 1;
        }
        more
    });
    for model in ["other", "third", "fourth"] {
        set_default(&directory, &engine, model).await;
        settled(tenant(&session), model).await;
    }
    written.cancel();
    let documents = 200 + writer.await.unwrap();
    let world = tenant(&session);
    let found = world.search(Some("harbour"), |layers, embedding| {
        let query = embedding.map(|(_, vector)| vector.as_slice()).unwrap_or_default();
        layers.nearest(Metric::Cosine, query, usize::MAX, None)
    });
    assert_eq!(found.await.unwrap().len(), documents);
    assert_eq!(vectors(world).len(), documents);
    stop.cancel();
    background.await.unwrap();
}

#[tokio::test]
async fn vectors_of_another_length_are_refused() {
    let (_directory, _engine, mut session) = opened().await;
    run(&mut session, "INSERT INTO documents (title, content) VALUES ('a', 'b')")
        .await
        .unwrap();
    let embeddings = &tenant(&session).state.embeddings;
    let of = |values: &[f32]| [Embedding::new(values.to_vec()).unwrap()];
    let refused = embeddings.check_dimensions(Space(0), &of(&[1.0, 2.0])).unwrap_err();
    assert_eq!(refused.code(), Code::DataException);
    // A space without vectors takes any.
    embeddings.check_dimensions(Space(9), &of(&[1.0, 2.0])).unwrap();
}
