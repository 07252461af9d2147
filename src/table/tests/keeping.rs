//! What stays on disk and what goes: definitions, dropped and emptied tables, blocks of transactions that never came.

use super::*;
use crate::tenant::Table;

/// How many cells a tenant has of each kind that tables write.
fn cells(tenant: &Tenant) -> [usize; 4] {
    let count = |table| {
        tenant
            .scan(table, &[])
            .collect::<Result<Vec<_>>>()
            .expect("cells")
            .len()
    };
    [Table::Catalog, Table::Rows, Table::BlockHeads, Table::Blocks].map(count)
}

/// Waits for the work in the background.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came to this: {what}");
}

const SOME: [(i64, &str, Option<i32>); 3] = [(1, "one", Some(1)), (2, "two", None), (3, "three", Some(3))];

/// A table with three rows and a block of five, whose first is gone: too few for it to be folded.
async fn filled(tables: &Arc<Tables>, tenant: &Tenant) -> Oid {
    let note = create(tables, tenant).await;
    let base = tables.latest();
    let five: Vec<_> = (1..=5).map(|id| (id, "block", Some(1))).collect();
    let mut writes = WriteSet::default();
    let block = tables
        .write_block(&base, note, &batch(&super::note(note), &five))
        .await
        .expect("a block");
    writes.delete(note, block.first_row());
    writes.insert_block(block);
    for (id, body, rank) in [(4, "four", 4), (5, "five", 5), (6, "six", 6)] {
        writes.insert(note, tables.allocate_rows(note, 1), row(id, body, rank));
    }
    commit(tables, tenant, &writes).await.expect("a commit");
    note
}

fn without(catalog: &Catalog, table: Oid) -> Arc<Catalog> {
    let mut catalog = catalog.clone();
    catalog.relations.remove(&table);
    Arc::new(catalog)
}

#[tokio::test]
async fn a_dropped_table_goes_when_its_last_reader_does() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let empty = cells(&tenant);
    let note = filled(&tables, &tenant).await;
    let reader = tables.latest();
    let mut writes = WriteSet::default();
    writes.set_catalog(without(reader.catalog(), note));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    drop(writes);
    assert_eq!(
        tables.latest().table(note).await.expect_err("gone").code(),
        Code::UndefinedTable
    );
    assert_eq!(all(&reader, note).await.len(), 7, "a reader lost its table");
    assert_eq!(cells(&tenant)[3], 3, "columns that are read were removed");
    drop(reader);
    // What is left is the next OID.
    until("no cells", || {
        cells(&tenant)[1..] == empty[1..] && cells(&tenant)[0] == 1
    })
    .await;
}

#[tokio::test]
async fn a_dropped_table_goes_after_a_restart_too() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = filled(&tables, &tenant).await;
    let mut writes = WriteSet::default();
    writes.set_catalog(without(tables.latest().catalog(), note));
    let reader = tables.latest();
    commit(&tables, &tenant, &writes).await.expect("a commit");
    close(tables).await;
    let again = Tables::open(tenant.clone()).await.expect("tables");
    until("no cells", || cells(&tenant) == [1, 0, 0, 0]).await;
    assert!(again.latest().catalog().relations.is_empty());
    drop((reader, writes));
}

#[tokio::test]
async fn truncate_is_undone_by_a_rollback_and_seen_by_no_older_snapshot() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = filled(&tables, &tenant).await;
    let before = tables.latest();
    let mut writes = WriteSet::default();
    writes.insert(note, tables.allocate_rows(note, 1), row(7, "own", 7));
    writes.truncate(note, tables.allocate_oids(1));
    let view = before.with(&writes).expect("a view");
    assert_eq!(all(&view, note).await, []);
    let row = tables.allocate_rows(note, 1);
    writes.insert(note, row, super::row(1, "after", 1));
    let (view, some) = (
        before.with(&writes).expect("a view"),
        batch(&super::note(note), &SOME[1..]),
    );
    writes.insert_block(tables.write_block(&view, note, &some).await.expect("a block"));
    assert_eq!(all(&tables.latest(), note).await.len(), 7);
    commit(&tables, &tenant, &writes).await.expect("a commit");
    drop((writes, view));
    let expected = all(&tables.latest(), note).await;
    assert_eq!(expected.iter().map(|note| note.1).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(all(&before, note).await.len(), 7);
    drop(before);
    until("one block, one row", || cells(&tenant)[1..] == [1, 1, 3]).await;
    let again = Tables::open(tenant.clone()).await.expect("tables");
    assert_eq!(all(&again.latest(), note).await, expected);
    let mut writes = WriteSet::default();
    writes.truncate(note, again.allocate_oids(1));
    commit(&again, &tenant, &writes).await.expect("a commit");
    drop(writes);
    assert_eq!(all(&again.latest(), note).await, []);
    until("no cells", || cells(&tenant)[1..] == [0, 0, 0]).await;
}

#[tokio::test]
async fn blocks_of_a_transaction_that_never_comes_are_removed() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let base = tables.latest();
    base.table(note).await.expect("the table");
    let before = cells(&tenant);
    let block = tables
        .write_block(&base, note, &batch(&super::note(note), &SOME))
        .await
        .expect("a block");
    assert_eq!(cells(&tenant), [before[0] + 1, 0, 0, 3]);
    let mut writes = WriteSet::default();
    writes.insert_block(block);
    assert_eq!(all(&base.with(&writes).expect("a view"), note).await.len(), 3);
    assert_eq!(all(&tables.latest(), note).await, []);
    drop(writes);
    until("no columns", || cells(&tenant) == before).await;
}

#[tokio::test]
async fn what_a_crash_left_is_removed_and_its_number_not_given_again() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let some = batch(&super::note(note), &SOME);
    let left = tables
        .write_block(&tables.latest(), note, &some)
        .await
        .expect("a block");
    std::mem::forget(left);
    close(tables).await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let latest = tables.latest();
    assert_eq!(all(&latest, note).await, []);
    // Before or after what was left is removed: nobody waits for that.
    let mut writes = WriteSet::default();
    writes.insert_block(tables.write_block(&latest, note, &some).await.expect("a block"));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    // The next OID, the table, one block of three columns.
    until("one block", || cells(&tenant) == [2, 0, 1, 3]).await;
    close(tables).await;
    let again = Tables::open(tenant).await.expect("tables");
    let state = again
        .latest()
        .table(note)
        .await
        .map(|_| again.latest().state(note))
        .expect("the table");
    let numbers: Vec<u32> = state
        .expect("loaded")
        .blocks
        .iter()
        .map(|placed| placed.block.no)
        .collect();
    assert_eq!(numbers, [2]);
    assert_eq!(all(&again.latest(), note).await.len(), 3);
}

#[tokio::test]
async fn damage_is_told_by_its_table_only() {
    for damage in [Table::Rows, Table::BlockHeads, Table::Blocks] {
        let (_directory, tenant) = acme().await;
        let tables = Tables::open(tenant.clone()).await.expect("tables");
        let (whole, hurt) = (filled(&tables, &tenant).await, filled(&tables, &tenant).await);
        close(tables).await;
        for bytes in [vec![], vec![1, 255, 255], vec![7; 40]] {
            let mut batch = tenant.batch();
            for cell in tenant.scan(damage, &hurt.to_be_bytes()) {
                batch.put(damage, &cell.expect("a cell").0, bytes.clone());
            }
            tenant.commit(batch).await.expect("a commit");
            let again = Tables::open(tenant.clone()).await.expect("the catalog is whole");
            let latest = again.latest();
            assert_eq!(all(&latest, whole).await.len(), 7);
            let read = match latest.table(hurt).await {
                Ok(table) => table
                    .scan(vec![1, 2, 3], Vec::new(), false)
                    .collect::<Result<Vec<_>>>()
                    .map(drop),
                Err(error) => Err(error),
            };
            assert_eq!(
                read.expect_err("damage").code(),
                Code::Corrupted,
                "{damage:?} {bytes:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_directory_is_opened_again() {
    let (folder, tenant) = on_disk().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = filled(&tables, &tenant).await;
    tables.fold(note).await.expect("a fold");
    let mut writes = WriteSet::default();
    writes.insert(note, tables.allocate_rows(note, 1), row(7, "seven", 7));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let expected = all(&tables.latest(), note).await;
    assert_eq!(expected.len(), 8);
    close(tables).await;
    drop((writes, tenant));
    let mut directory = None;
    for _ in 0..100 {
        // sled's threads may outlive it for a moment.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        directory = Directory::open(options(&folder)).ok();
        if directory.is_some() {
            break;
        }
    }
    let (directory, _) = directory.expect("the directory again");
    let tenant = testing::tenant(&directory, "acme", "owner", "secret");
    let tables = Tables::open(tenant).await.expect("tables");
    assert_eq!(all(&tables.latest(), note).await, expected);
}
