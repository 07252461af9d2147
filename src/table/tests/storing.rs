//! Commits, views, savepoints, blocks and restarts, one after the other.

use super::*;

#[tokio::test]
async fn what_is_committed_is_seen_by_later_snapshots_and_after_a_restart() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let before = tables.latest();
    before.table(note).await.expect("the table");

    let mut writes = WriteSet::default();
    let first = tables.allocate_rows(note, 2);
    writes.insert(note, first, row(1, "one", 10));
    writes.insert(note, first + 1, row(2, "two", None));
    assert_eq!(all(&before.with(&writes).expect("a view"), note).await.len(), 2);
    assert_eq!(all(&tables.latest(), note).await, []);
    commit(&tables, &tenant, &writes).await.expect("a commit");

    let expected = [
        (first, 1, "one".to_owned(), Some(10)),
        (first + 1, 2, "two".to_owned(), None),
    ];
    assert_eq!(all(&tables.latest(), note).await, expected);
    assert_eq!(all(&before, note).await, [], "a snapshot changed");
    assert_eq!(by_id(&tables.latest(), note, 2).await, [first + 1]);

    let again = Tables::open(tenant).await.expect("tables");
    assert_eq!(all(&again.latest(), note).await, expected);
    assert_eq!(by_id(&again.latest(), note, 2).await, [first + 1]);
    assert_eq!(
        again.allocate_rows(note, 1),
        first + 2,
        "a row's number was given again"
    );
    assert!(again.allocate_oids(1) > note + 2, "an OID was given again");
}

#[tokio::test]
async fn savepoints_are_clones() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let base = tables.latest();
    base.table(note).await.expect("the table");
    let mut writes = WriteSet::default();
    writes.insert(note, 1, row(1, "one", 1));
    base.with(&writes).expect("a view");
    let savepoint = writes.clone();
    writes.delete(note, 1);
    writes.insert(note, 2, row(2, "two", 2));
    let view = base.with(&writes).expect("a view");
    assert_eq!(all(&view, note).await, [(2, 2, "two".to_owned(), Some(2))]);
    assert!(by_id(&view, note, 1).await.is_empty());
    let view = base.with(&savepoint).expect("a view");
    assert_eq!(all(&view, note).await, [(1, 1, "one".to_owned(), Some(1))]);
    assert_eq!(by_id(&view, note, 1).await, [1]);
}

#[tokio::test]
async fn a_snapshot_from_before_a_table_was_loaded_sees_it_as_it_was() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let mut writes = WriteSet::default();
    writes.insert(note, 1, row(1, "old", 1));
    commit(&tables, &tenant, &writes).await.expect("a commit");

    let again = Tables::open(tenant.clone()).await.expect("tables");
    let before = again.latest();
    again.latest().table(note).await.expect("the table");
    let mut writes = WriteSet::default();
    writes.update(note, 1, row(1, "new", 1));
    commit(&again, &tenant, &writes).await.expect("a commit");
    assert_eq!(all(&before, note).await[0].2, "old");
    assert_eq!(all(&again.latest(), note).await[0].2, "new");
}

#[tokio::test]
async fn blocks_are_read_changed_and_loaded_like_rows() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let base = tables.latest();
    let def = base.table(note).await.expect("the table").def().clone();
    let mut writes = WriteSet::default();
    let many: Vec<_> = (0..1000).map(|n| (n, "many", Some(n as i32 % 10))).collect();
    let block = tables
        .write_block(&base, note, &batch(&def, &many))
        .await
        .expect("a block");
    let first = block.first_row();
    writes.insert_block(block);
    let view = base.with(&writes).expect("a view");
    assert_eq!(by_id(&view, note, 7).await, [first + 7]);
    writes.delete(note, first + 7);
    writes.update(note, first + 8, row(8, "changed", 3));
    let view = base.with(&writes).expect("a view");
    let seen = all(&view, note).await;
    assert_eq!(seen.len(), 999);
    assert!(by_id(&view, note, 7).await.is_empty());
    commit(&tables, &tenant, &writes).await.expect("a commit");
    assert_eq!(all(&tables.latest(), note).await, seen);

    let mut writes = WriteSet::default();
    writes.delete(note, first + 9);
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let again = Tables::open(tenant).await.expect("tables");
    let loaded = all(&again.latest(), note).await;
    assert_eq!(loaded.len(), 998);
    assert_eq!(loaded, all(&tables.latest(), note).await);
    assert_eq!(loaded.iter().find(|note| note.1 == 8).expect("a row").2, "changed");
    let data = again.latest().table(note).await.expect("the table");
    let got = data
        .get(&[first + 8, first, 99_999, first + 1], &[1, 2, 3], true)
        .expect("rows");
    assert_eq!(notes(&got).iter().map(|note| note.1).collect::<Vec<_>>(), [8, 0, 1]);
}
