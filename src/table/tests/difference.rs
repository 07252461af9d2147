//! In which rows two moments of a table differ, against a comparison of all of them.

use std::collections::BTreeMap;

use super::*;

/// A table at one moment, and what was read of it.
type Seen = (Arc<TableData>, BTreeMap<RowId, Note>);

async fn seen(tables: &Arc<Tables>, note: Oid) -> Seen {
    let database = tables.latest();
    let data = database.table(note).await.expect("the table");
    let rows = all(&database, note).await;
    (data, rows.into_iter().map(|note| (note.0, note)).collect())
}

/// Rows come, change, go, and move into blocks, in an order that a number decides.
async fn history(seed: u64) -> Vec<Seen> {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let mut moments = vec![seen(&tables, note).await];
    let (mut state, mut id) = (seed, 0i64);
    let mut below = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for _ in 0..24 {
        let rows: Vec<RowId> = moments
            .last()
            .map(|(_, rows)| rows.keys().copied().collect())
            .unwrap_or_default();
        let mut writes = WriteSet::default();
        match below(6) {
            0 => {
                for _ in 0..1 + below(3) {
                    id += 1;
                    writes.insert(note, tables.allocate_rows(note, 1), row(id, "new", below(9) as i32));
                }
            }
            1 => {
                let ids = [id + 1, id + 2, id + 3];
                id += 3;
                let some = batch(&super::note(note), &ids.map(|id| (id, "block", Some(below(9) as i32))));
                let block = tables.write_block(&tables.latest(), note, &some).await;
                writes.insert_block(block.expect("a block"));
            }
            2 | 3 if !rows.is_empty() => {
                let at = rows[below(rows.len())];
                let held = &moments[moments.len() - 1].1[&at];
                writes.update(note, at, row(held.1, "changed", below(9) as i32));
            }
            4 if !rows.is_empty() => writes.delete(note, rows[below(rows.len())]),
            _ => {
                tables.fold(note).await.expect("a fold");
            }
        }
        if !writes.is_empty() {
            commit(&tables, &tenant, &writes).await.expect("a commit");
        }
        moments.push(seen(&tables, note).await);
    }
    moments
}

#[tokio::test]
async fn every_row_that_differs_is_named_and_no_row_of_neither() {
    let mut moved = 0;
    for seed in 0..6 {
        let moments = history(seed).await;
        for (then, before) in &moments {
            for (now, after) in &moments {
                let changed = now.changed_since(then, usize::MAX).expect("the same storage");
                assert!(changed.is_sorted_by(|a, b| a < b), "{changed:?}");
                let either = before.keys().chain(after.keys());
                for row in either.filter(|row| before.get(row) != after.get(row)) {
                    assert!(
                        changed.binary_search(row).is_ok(),
                        "seed {seed}: {row} not in {changed:?}"
                    );
                }
                for row in &changed {
                    assert!(
                        before.contains_key(row) || after.contains_key(row),
                        "seed {seed}: {row}"
                    );
                    moved += usize::from(before.get(row) == after.get(row));
                }
                if now.is(then) {
                    assert!(changed.is_empty(), "{changed:?}");
                }
                assert_eq!(now.changed_since(then, changed.len()), Some(changed.clone()));
                if !changed.is_empty() {
                    assert_eq!(now.changed_since(then, 0), None, "{changed:?}");
                }
            }
        }
    }
    assert!(moved > 0, "rows also moved into blocks");
}

#[tokio::test]
async fn it_costs_what_changed_and_a_truncated_table_has_nothing_in_common() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = create(&tables, &tenant).await;
    let mut writes = WriteSet::default();
    for id in 0..300 {
        writes.insert(note, tables.allocate_rows(note, 1), row(id, "old", 1));
    }
    commit(&tables, &tenant, &writes).await.expect("a commit");
    tables.fold(note).await.expect("a fold");
    let (folded, rows) = seen(&tables, note).await;
    // Of a block's 300 rows one goes and one changes: those two and no other.
    let ids: Vec<RowId> = rows.keys().copied().collect();
    let mut writes = WriteSet::default();
    writes.delete(note, ids[17]);
    writes.update(note, ids[200], row(200, "new", 2));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let (changed, _) = seen(&tables, note).await;
    let expected = vec![ids[17], ids[200]];
    assert_eq!(changed.changed_since(&folded, 2), Some(expected.clone()));
    assert_eq!(folded.changed_since(&changed, 2), Some(expected));

    let mut writes = WriteSet::default();
    writes.truncate(note, tables.allocate_oids(1));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let (truncated, rows) = seen(&tables, note).await;
    assert!(rows.is_empty());
    assert_eq!(truncated.changed_since(&changed, usize::MAX), None);
    assert_eq!(changed.changed_since(&truncated, usize::MAX), None);
}
