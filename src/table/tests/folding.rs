//! Folds against commits of others, step by step.

use super::{
    super::{cells::Entry, fold::plan},
    *,
};
use crate::tenant::Table;

/// A table with rows 1 to 10.
async fn ten(tables: &Arc<Tables>, tenant: &Tenant) -> Oid {
    let note = create(tables, tenant).await;
    let mut writes = WriteSet::default();
    let first = tables.allocate_rows(note, 10);
    (0..10).for_each(|n| writes.insert(note, first + n, row(n as i64, "text", 1)));
    commit(tables, tenant, &writes).await.expect("a commit");
    note
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fold_waits_for_commits_that_are_under_way() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = ten(&tables, &tenant).await;
    let mut writes = WriteSet::default();
    writes.delete(note, 3);
    writes.update(note, 4, row(4, "changed", 2));
    let mut under_way = tenant.batch();
    tables.fill(&mut under_way, &writes).expect("a batch");
    let folding = tables.clone();
    let fold = tokio::spawn(async move { folding.fold(note).await });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    tenant.commit(under_way).await.expect("a commit");
    fold.await.expect("a fold").expect("a fold");
    let seen = all(&tables.latest(), note).await;
    assert_eq!(seen.len(), 9);
    close(tables).await;
    let again = Tables::open(tenant).await.expect("tables");
    assert_eq!(all(&again.latest(), note).await, seen);
}

#[tokio::test]
async fn a_commit_while_a_fold_commits_makes_the_fold_lose() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = ten(&tables, &tenant).await;
    let fence = Entry::Fence(note).key();
    let watching = tables.folding.watch(note);
    let version = tenant
        .get(Table::Catalog, &fence)
        .expect("a read")
        .map(|fence| fence.version);
    let change = |row_id| {
        let mut writes = WriteSet::default();
        writes.delete(note, row_id);
        writes
    };
    commit(&tables, &tenant, &change(1)).await.expect("a commit");
    let touched = watching.commit().expect("not truncated");
    assert!(touched.contains(&1) && !touched.contains(&2));
    commit(&tables, &tenant, &change(2)).await.expect("a commit");
    let mut fold = tenant.batch();
    fold.expect(Table::Catalog, &fence, version);
    fold.put(Table::Settings, b"fold", Vec::new());
    assert_eq!(
        tenant.commit(fold).await.expect_err("it lost").code(),
        Code::SerializationFailure
    );
    let mut writes = WriteSet::default();
    writes.truncate(note, tables.allocate_oids(1));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    assert!(watching.commit().is_none(), "nothing is left to fold");
    drop(watching);
    tables.fold(note).await.expect("a fold");
}

#[tokio::test]
async fn blocks_may_reach_over_each_other() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let base = tables.latest();
    // Of a transaction that commits late: its rows lie between those of another.
    let mut writes = WriteSet::default();
    let first = tables.allocate_rows(note, 1);
    writes.insert(note, first, row(1, "first", 1));
    let between: Vec<_> = (2..=11).map(|id| (id, "between", Some(1))).collect();
    let late = tables
        .write_block(&base, note, &batch(&super::note(note), &between))
        .await
        .expect("a block");
    let last = tables.allocate_rows(note, 1);
    writes.insert(note, last, row(12, "last", 1));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    tables.fold(note).await.expect("a fold");
    let mut writes = WriteSet::default();
    writes.insert_block(late);
    commit(&tables, &tenant, &writes).await.expect("a commit");
    close(tables).await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let table = tables.latest().table(note).await.expect("the table");
    assert!((first..=last).all(|row| table.contains(row)) && !table.contains(last + 1));
    let mut writes = WriteSet::default();
    writes.delete(note, last);
    writes.delete(note, first + 5);
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let seen = all(&tables.latest(), note).await;
    assert_eq!(seen.len(), 10);
    tables.fold(note).await.expect("a fold");
    assert_eq!(all(&tables.latest(), note).await, seen);
    close(tables).await;
    let again = Tables::open(tenant).await.expect("tables");
    assert_eq!(all(&again.latest(), note).await, seen);
}

#[tokio::test]
async fn rows_that_change_while_they_are_folded_lie_over_the_block() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = ten(&tables, &tenant).await;
    let watching = tables.folding.watch(note);
    let state = tables.latest().state(note).expect("loaded");
    let mut writes = WriteSet::default();
    writes.delete(note, 3);
    writes.update(note, 4, row(4, "changed", 2));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let seen = all(&tables.latest(), note).await;
    for part in plan(&state, true) {
        tables.fold_part(&watching, &state, part).await.expect("a fold");
    }
    drop(watching);
    let latest = tables.latest();
    assert_eq!(
        latest.state(note).expect("loaded").rows.len(),
        1,
        "one row changed and is in no block"
    );
    assert_eq!(all(&latest, note).await, seen);
    close(tables).await;
    let again = Tables::open(tenant).await.expect("tables");
    assert_eq!(all(&again.latest(), note).await, seen);
}
