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

/// Blocks of ten rows: ids 0 to 9, 10 to 19, ...
async fn tens(tables: &Arc<Tables>, tenant: &Tenant, blocks: i64) -> Oid {
    let note = create(tables, tenant).await;
    let base = tables.latest();
    let mut writes = WriteSet::default();
    for block in 0..blocks {
        let body = format!("{}{block}", "long ".repeat(20));
        let ten: Vec<_> = (block * 10..block * 10 + 10)
            .map(|n| (n, body.as_str(), (block > 0).then_some(n as i32)))
            .collect();
        let block = tables
            .write_block(&base, note, &batch(&super::note(note), &ten))
            .await
            .expect("a block");
        writes.insert_block(block);
    }
    commit(tables, tenant, &writes).await.expect("a commit");
    note
}

#[tokio::test]
async fn bounds_leave_out_blocks_and_never_a_row() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = tens(&tables, &tenant, 10).await;
    let table = tables.latest().table(note).await.expect("the table");
    let number = |n: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![n])) };
    let blocks = |column, op, value: ArrayRef| table.scan(vec![1], vec![Bound { column, op, value }], false).blocks();
    assert_eq!(blocks(1, BoundOp::Eq, number(35)), 1);
    assert_eq!(blocks(1, BoundOp::Lt, number(30)), 3);
    assert_eq!(blocks(1, BoundOp::LtEq, number(30)), 4);
    assert_eq!(blocks(1, BoundOp::Gt, number(89)), 1);
    assert_eq!(blocks(1, BoundOp::GtEq, number(89)), 2);
    assert_eq!(
        blocks(
            1,
            BoundOp::In,
            Arc::new(Int64Array::from(vec![Some(5), None, Some(95), Some(500)]))
        ),
        2
    );
    assert_eq!(
        blocks(3, BoundOp::GtEq, Arc::new(Int32Array::from(vec![0]))),
        9,
        "ranks of the first are all NULL"
    );
    assert_eq!(
        blocks(1, BoundOp::Eq, Arc::new(StringArray::from(vec!["35"]))),
        10,
        "another type says nothing"
    );
    // Texts are bounded by their beginnings, which are equal here.
    assert_eq!(
        blocks(2, BoundOp::Eq, Arc::new(StringArray::from(vec!["long long"]))),
        0
    );
    assert_eq!(
        blocks(2, BoundOp::Gt, Arc::new(StringArray::from(vec!["long ".repeat(20)]))),
        10
    );
    assert_eq!(blocks(2, BoundOp::Lt, Arc::new(StringArray::from(vec!["a"]))), 0);
    for op in [BoundOp::Eq, BoundOp::Lt, BoundOp::LtEq, BoundOp::Gt, BoundOp::GtEq] {
        for n in 0..100 {
            let bounds = vec![Bound {
                column: 1,
                op,
                value: number(n),
            }];
            let read = table.scan(vec![1], bounds, false);
            let ids: Vec<i64> = read
                .flat_map(|b| {
                    b.expect("a batch")
                        .column(0)
                        .as_primitive::<Int64Type>()
                        .values()
                        .to_vec()
                })
                .collect();
            let fulfils = |id: i64| match op {
                BoundOp::Lt => id < n,
                BoundOp::LtEq => id <= n,
                BoundOp::Gt => id > n,
                BoundOp::GtEq => id >= n,
                BoundOp::Eq | BoundOp::In => id == n,
            };
            assert!(
                (0..100).filter(|&id| fulfils(id)).all(|id| ids.contains(&id)),
                "{op:?} {n}"
            );
        }
    }
    let parts: usize = (0..3)
        .flat_map(|part| table.scan_part(vec![1], Vec::new(), false, part, 3))
        .map(|batch| batch.expect("a batch").num_rows())
        .sum();
    assert_eq!(parts, 100);
}

#[tokio::test]
async fn reading_keeps_within_the_cache() {
    let cache = super::super::cache::Cache::new(1000);
    let array: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for n in 0..100 {
        cache.put((1, n, 1), array.clone(), 100);
        assert!(cache.bytes() <= 1000);
        cache.get((1, 0, 1)).expect("what is used stays");
    }
    assert!(cache.get((1, 50, 1)).is_none() && cache.get((1, 99, 1)).is_some());
    cache.put((1, 99, 1), array.clone(), 50);
    cache.remove((1, 99, 1));
    assert!(cache.get((1, 99, 1)).is_none() && cache.bytes() == 900);
    cache.put((2, 1, 1), array, 400);
    assert_eq!(cache.bytes(), 900, "too large to keep");
}

#[tokio::test]
async fn too_many_rows_in_memory_are_refused_and_deletes_go_on() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    tables.shared.set_memory(50_000);
    let mut writes = WriteSet::default();
    let add = |writes: &mut WriteSet, rows: i64| {
        for n in 0..rows {
            writes.insert(note, tables.allocate_rows(note, 1), row(n, "text", 1));
        }
    };
    add(&mut writes, 100);
    commit(&tables, &tenant, &writes).await.expect("room");
    add(&mut writes, 1000);
    let base = tables.latest();
    assert_eq!(base.with(&writes).expect_err("no room").code(), Code::OutOfMemory);
    assert_eq!(
        commit(&tables, &tenant, &writes).await.expect_err("no room").code(),
        Code::OutOfMemory
    );
    assert_eq!(all(&tables.latest(), note).await.len(), 100);
    tables.shared.set_memory(1_000);
    let mut writes = WriteSet::default();
    (1..=100).for_each(|row| writes.delete(note, row));
    commit(&tables, &tenant, &writes).await.expect("a delete");
    assert_eq!(all(&tables.latest(), note).await, []);
}

#[tokio::test]
async fn what_gathers_is_folded_by_itself() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let mut writes = WriteSet::default();
    let first = tables.allocate_rows(note, crate::limits::FOLD_ROWS as u64);
    for n in 0..crate::limits::FOLD_ROWS as u64 {
        writes.insert(note, first + n, row(n as i64, "text", 1));
    }
    commit(&tables, &tenant, &writes).await.expect("a commit");
    drop(writes);
    let before = tables.latest();
    let rows = |database: &Database| database.state(note).expect("loaded").rows.len();
    for _ in 0..3000 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        if rows(&tables.latest()) == 0 {
            break;
        }
    }
    let after = tables.latest();
    assert_eq!(rows(&after), 0);
    assert!(
        before.same_row(&after, note, first) && after.same_row(&before, note, first + 1),
        "a fold changes no row"
    );
    let mut writes = WriteSet::default();
    writes.update(note, first, row(0, "other", 1));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    assert!(!before.same_row(&tables.latest(), note, first) && !after.same_row(&tables.latest(), note, first));
    assert!(after.same_row(&tables.latest(), note, first + 1));
    // Most of a block goes: what is left becomes a smaller one.
    let mut writes = WriteSet::default();
    (0..3000).for_each(|n| writes.delete(note, first + n));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    drop((writes, before, after));
    let marked = |database: &Database| {
        let state = database.state(note).expect("loaded");
        state.blocks.iter().map(|placed| placed.marks.count()).sum::<usize>()
    };
    for _ in 0..3000 {
        if marked(&tables.latest()) == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(marked(&tables.latest()), 0);
    let left = crate::limits::FOLD_ROWS - 3000;
    assert_eq!(all(&tables.latest(), note).await.len(), left);
    close(tables).await;
    let again = Tables::open(tenant).await.expect("tables");
    assert_eq!(all(&again.latest(), note).await.len(), left);
}
