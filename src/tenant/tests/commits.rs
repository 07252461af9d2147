//! Commits: the twin, expectations, counters, full and failing disks, large values.

use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;

const TABLE: Table = Table::Documents;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, usize),
    Delete(u8),
    Add(u8, i64),
    ExpectPresent(u8),
    ExpectAbsent(u8),
    Reread,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..6u8;
    prop_oneof![
        4 => (key.clone(), prop_oneof![0..200usize, 4000..4200usize, 8_000..13_000usize]).prop_map(|(k, n)| Op::Put(k, n)),
        2 => key.clone().prop_map(Op::Delete),
        2 => (key.clone(), any::<i64>()).prop_map(|(k, n)| Op::Add(k, n / 4)),
        1 => key.clone().prop_map(Op::ExpectPresent),
        1 => key.prop_map(Op::ExpectAbsent),
        1 => Just(Op::Reread),
    ]
}

fn fill(tenant: &Tenant, ops: &[Op]) -> Batch {
    let mut batch = tenant.batch();
    for op in ops {
        match *op {
            Op::Put(key, length) => batch.put(TABLE, &[7, key], vec![key; length]),
            Op::Delete(key) => batch.delete(TABLE, &[7, key]),
            Op::Add(key, n) => batch.add(Table::Costs, &[key], &Sums(vec![n, 1])),
            Op::ExpectPresent(key) => {
                let version = tenant
                    .get(TABLE, &[7, key])
                    .expect("a value")
                    .map(|stored| stored.version);
                batch.expect(TABLE, &[7, key], version);
            }
            Op::ExpectAbsent(key) => batch.expect(TABLE, &[7, key], None),
            Op::Reread => {
                let mut other = tenant.batch();
                other.put(Table::Settings, b"merged", ops.len().to_le_bytes().to_vec());
                batch.merge(other);
            }
        }
    }
    batch
}

fn dump(tenant: &Tenant) -> Vec<(Vec<u8>, Vec<u8>)> {
    let tables = [TABLE, Table::Costs, Table::Settings].into_iter();
    let rows: Vec<_> = tables
        .flat_map(|table| tenant.scan(table, &[]))
        .collect::<Result<_>>()
        .expect("rows");
    for (key, stored) in rows.iter().filter(|(key, _)| key.len() == 2) {
        assert_eq!(tenant.get(TABLE, key).expect("a value").as_ref(), Some(stored));
    }
    rows.into_iter().map(|(key, stored)| (key, stored.value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sled_and_its_twin_agree(history in prop::collection::vec(prop::collection::vec(op(), 1..8), 1..12)) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let twin_directory = runtime.block_on(testing::directory(&["acme"]));
        let directory = runtime.block_on(on_disk(folder.path(), &["acme"]));
        let (twin, tenant) = (owner(&twin_directory, "acme"), owner(&directory, "acme"));
        for ops in &history {
            let expected = twin.commit_blocking(fill(&twin, ops));
            let got = runtime.block_on(tenant.commit(fill(&tenant, ops)));
            prop_assert_eq!(code(got), code(expected));
            prop_assert_eq!(dump(&tenant), dump(&twin));
            let range = |t: &Tenant| t.scan_from(TABLE, &[7, 1], Some(&[7, 4])).map(|r| r.map(|r| r.0)).collect::<Result<Vec<_>>>();
            prop_assert_eq!(range(&tenant).expect("rows"), range(&twin).expect("rows"));
        }
        // Ids and tables are equal, so the cells must be too, leftovers included.
        let keys = |d: &Directory| cells(d).into_iter().map(|(key, _)| key).filter(|key| key[8] != Table::Users as u8 && key[8] < 64).collect::<Vec<_>>();
        prop_assert_eq!(keys(&directory), keys(&twin_directory));
        let before = dump(&tenant);
        drop((tenant, directory));
        let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
        prop_assert_eq!(dump(&owner(&directory, "acme")), before);
    }
}

#[tokio::test]
async fn the_first_committer_wins() {
    let tenant = owner(&testing::directory(&["acme"]).await, "acme");
    put(&tenant, TABLE, b"k", b"one").await.expect("a commit");
    let version = tenant.get(TABLE, b"k").expect("a read").map(|stored| stored.version);
    let change = |to: &[u8]| {
        let mut batch = tenant.batch();
        batch.expect(TABLE, b"k", version);
        batch.put(TABLE, b"k", to.to_vec());
        batch.put(TABLE, b"beside", to.to_vec());
        batch
    };
    // Both are in the queue before either is decided.
    let (first, second) = tokio::join!(tenant.commit(change(b"two")), tenant.commit(change(b"three")));
    first.expect("the first");
    assert_eq!(code(second), Some(Code::SerializationFailure));
    assert_eq!(value(&tenant, TABLE, b"k"), Some(b"two".to_vec()));
    assert_eq!(
        value(&tenant, TABLE, b"beside"),
        Some(b"two".to_vec()),
        "all of a commit or nothing"
    );

    let mut absent = tenant.batch();
    absent.expect(TABLE, b"k", None);
    assert_eq!(code(tenant.commit(absent).await), Some(Code::SerializationFailure));
    let mut gone = tenant.batch();
    gone.expect(TABLE, b"nothing here", version);
    assert_eq!(code(tenant.commit(gone).await), Some(Code::SerializationFailure));
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_lose_no_update() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme"]).await;
    let tenant = owner(&directory, "acme");
    let committers = (0..16).map(|n| {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                let mut batch = tenant.batch();
                batch.add(Table::Costs, b"total", &Sums(vec![n, 1]));
                batch.add(Table::Costs, b"total", &Sums(vec![0, 1, 5]));
                batch.publish(AMOUNTS_BY_DAY, 20_000, &Sums(vec![n]));
                tenant.commit(batch).await.expect("a commit");
            }
        })
    });
    for committer in committers.collect::<Vec<_>>() {
        committer.await.expect("a committer");
    }
    let expected = Sums(vec![20 * 120, 16 * 20 * 2, 16 * 20 * 5]);
    assert_eq!(tenant.sums(Table::Costs, b"total").expect("a read"), Some(expected));
    let amounts = testing::operator(&directory, "admin's")
        .amounts(AMOUNTS_BY_DAY)
        .expect("amounts");
    assert_eq!(amounts, [(1, 20_000, Sums(vec![20 * 120]))]);
}

#[tokio::test]
async fn a_counter_that_overflows_fails_its_commit_only() {
    let tenant = owner(&testing::directory(&["acme"]).await, "acme");
    let add = |n| {
        let mut batch = tenant.batch();
        batch.add(Table::Costs, b"c", &Sums(vec![n]));
        batch.put(TABLE, b"beside", vec![1]);
        batch
    };
    tenant.commit(add(i64::MAX)).await.expect("a commit");
    let mut removal = tenant.batch();
    removal.delete(TABLE, b"beside");
    tenant.commit(removal).await.expect("a commit");
    assert_eq!(code(tenant.commit(add(1)).await), Some(Code::NumericOutOfRange));
    assert_eq!(value(&tenant, TABLE, b"beside"), None);
    assert_eq!(
        tenant.sums(Table::Costs, b"c").expect("a read"),
        Some(Sums(vec![i64::MAX]))
    );
    let mut twice = add(i64::MAX);
    twice.add(Table::Costs, b"c", &Sums(vec![1]));
    assert_eq!(code(tenant.commit(twice).await), Some(Code::NumericOutOfRange));
}

#[tokio::test]
async fn callbacks_run_in_commit_order_before_the_answer_and_never_after_a_failure() {
    let (store, directory) = faulty(&["acme"]).await;
    let tenant = owner(&directory, "acme");
    let ran = Arc::new(AtomicUsize::new(0));
    let commit = |expected: usize| {
        let (mut batch, ran) = (tenant.batch(), ran.clone());
        batch.put(TABLE, b"k", vec![expected as u8]);
        batch.on_durable(move || assert_eq!(ran.fetch_add(1, Ordering::SeqCst), expected));
        tenant.commit(batch)
    };
    let (a, b, c) = tokio::join!(commit(0), commit(1), commit(2));
    a.and(b).and(c).expect("commits");
    assert_eq!(ran.load(Ordering::SeqCst), 3);
    let mut panics = tenant.batch();
    panics.on_durable(|| panic!("a callback's defect"));
    tenant.commit(panics).await.expect("a commit");
    store.sync_fails.store(true, Ordering::SeqCst);
    assert_eq!(code(commit(3).await), Some(Code::Io));
    assert_eq!(ran.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn after_a_failed_sync_or_write_nothing_is_acknowledged_again() {
    let faults: [fn(&Faulty) -> &AtomicBool; 2] = [|store| &store.sync_fails, |store| &store.apply_fails];
    for fault in faults {
        let (store, directory) = faulty(&["acme"]).await;
        let tenant = owner(&directory, "acme");
        put(&tenant, TABLE, b"k", b"kept").await.expect("a commit");
        fault(&store).store(true, Ordering::SeqCst);
        assert!(!directory.failed());
        assert_eq!(code(put(&tenant, TABLE, b"k", b"lost?").await), Some(Code::Io));
        fault(&store).store(false, Ordering::SeqCst); // fsync says "failed" once, then "fine"
        let error = put(&tenant, TABLE, b"k", b"later")
            .await
            .expect_err("no acknowledgement");
        assert_eq!(error.message(), "storage failed; restart");
        let mut removal = tenant.batch();
        removal.delete(TABLE, b"k");
        assert_eq!(code(tenant.commit(removal).await), Some(Code::Io));
        let left = value(&tenant, TABLE, b"k").expect("not deleted");
        assert_ne!(left, b"later", "nor is anything written");
        assert!(directory.failed());
    }
}

#[tokio::test]
async fn a_full_disk_takes_deletes_and_recovers_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme", "umbra"]).await;
    let tenant = owner(&directory, "acme");
    put(&tenant, TABLE, b"k", b"v").await.expect("a commit");
    directory.committer.set_min_free_bytes(u64::MAX);
    assert_eq!(code(put(&tenant, TABLE, b"l", b"v").await), Some(Code::DiskFull));
    let mut add = tenant.batch();
    add.add(Table::Costs, b"c", &Sums(vec![1]));
    assert_eq!(code(tenant.commit(add).await), Some(Code::DiskFull));
    assert_eq!(value(&tenant, TABLE, b"k"), Some(b"v".to_vec()), "reads go on");
    let mut removal = tenant.batch();
    removal.delete(TABLE, b"k");
    tenant.commit(removal).await.expect("deletes go on");
    testing::operator(&directory, "admin's")
        .drop_tenant("umbra")
        .await
        .expect("drops go on");
    directory.committer.set_min_free_bytes(0);
    put(&tenant, TABLE, b"l", b"v").await.expect("a commit");
}

#[tokio::test]
async fn the_size_of_a_group_counts_against_free_space() {
    let (store, directory) = faulty(&["acme"]).await;
    store.used.store((1 << 40) - 10_000, Ordering::SeqCst);
    let tenant = owner(&directory, "acme");
    put(&tenant, TABLE, b"k", &[0; 5_000]).await.expect("room for it");
    assert_eq!(
        code(put(&tenant, TABLE, b"k", &[0; 11_000]).await),
        Some(Code::DiskFull)
    );
}

#[tokio::test]
async fn bounds_of_keys_values_and_commits() {
    let tenant = owner(&testing::directory(&["acme"]).await, "acme");
    let longest = vec![7; crate::limits::KEY_BYTES];
    put(&tenant, TABLE, &longest, b"v").await.expect("the longest key");
    assert_eq!(
        code(put(&tenant, TABLE, &[&longest[..], b"+"].concat(), b"v").await),
        Some(Code::TooLarge)
    );
    let over = vec![0; crate::limits::VALUE_BYTES + 1];
    assert_eq!(code(put(&tenant, TABLE, b"k", &over).await), Some(Code::TooLarge));
    let mut batch = tenant.batch();
    for n in 0..=(crate::limits::COMMIT_BYTES / crate::limits::VALUE_BYTES) as u8 {
        batch.put(TABLE, &[n], vec![n; crate::limits::VALUE_BYTES]);
    }
    assert_eq!(code(tenant.commit(batch).await), Some(Code::TooLarge));
    assert_eq!(tenant.scan(TABLE, &[]).count(), 1);
}

#[tokio::test]
async fn large_values_round_trip_shrink_and_make_no_blobs() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme"]).await;
    let tenant = owner(&directory, "acme");
    for round in 0..2u8 {
        let large: Vec<u8> = (0..crate::limits::VALUE_BYTES)
            .map(|n| (n / 4096) as u8 ^ round)
            .collect();
        put(&tenant, TABLE, b"large", &large).await.expect("a commit");
        assert!(value(&tenant, TABLE, b"large") == Some(large));
    }
    assert_eq!(cells_of(&directory, &tenant, TABLE, b"large").len(), 4097);
    // Many long keys side by side fill sled's index pages, many middling values its leaves.
    let mut batch = tenant.batch();
    for n in 0..2_000u32 {
        let mut key = n.wrapping_mul(0x9E37_79B9).to_be_bytes().to_vec();
        key.resize(crate::limits::KEY_BYTES, 9);
        key.rotate_left(4 * (n % 2) as usize);
        batch.put(Table::Chunks, &key, vec![1; 3_900]);
    }
    tenant.commit(batch).await.expect("a commit");
    put(&tenant, TABLE, b"large", b"small").await.expect("a commit");
    assert_eq!(cells_of(&directory, &tenant, TABLE, b"large").len(), 1, "no leftovers");
    assert_eq!(value(&tenant, TABLE, b"large"), Some(b"small".to_vec()));
    let blobs = || {
        std::fs::read_dir(folder.path().join("store/blobs"))
            .expect("a folder")
            .count()
    };
    assert_eq!(blobs(), 0, "sled never syncs blobs");
    drop((tenant, directory));
    let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
    assert_eq!(owner(&directory, "acme").scan(Table::Chunks, &[]).count(), 2_000);
    assert_eq!(blobs(), 0);
    assert!(
        cells(&directory)
            .iter()
            .all(|(_, cell)| cell.len() <= crate::limits::CELL_BYTES)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_never_see_half_of_a_value() {
    let tenant = owner(&testing::directory(&["acme"]).await, "acme");
    put(&tenant, TABLE, b"k", &[0; 20_000]).await.expect("a commit");
    let done = Arc::new(AtomicBool::new(false));
    let readers = (0..2).map(|n| {
        let (tenant, done) = (tenant.clone(), done.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                let read = match n {
                    0 => tenant.get(TABLE, b"k").expect("a read").expect("a value").value,
                    _ => {
                        tenant
                            .scan(TABLE, &[])
                            .next()
                            .expect("a row")
                            .expect("a readable row")
                            .1
                            .value
                    }
                };
                assert!(read.iter().all(|&b| b == read[0]) && read.len() == 20_000 + usize::from(read[0]) * 5_000);
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for n in 0..100u32 {
        let byte = (n % 5) as u8;
        put(&tenant, TABLE, b"k", &vec![byte; 20_000 + usize::from(byte) * 5_000])
            .await
            .expect("a commit");
    }
    done.store(true, Ordering::SeqCst);
    readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
}

#[tokio::test]
async fn a_value_replaced_between_two_of_its_cells_is_read_again() {
    let (store, directory) = faulty(&["acme"]).await;
    let tenant = owner(&directory, "acme");
    put(&tenant, TABLE, b"k", &[1; 20_000]).await.expect("a commit");
    let old = cells_of(&directory, &tenant, TABLE, b"k");
    put(&tenant, TABLE, b"k", &[2; 9_000]).await.expect("a commit");
    let new = cells_of(&directory, &tenant, TABLE, b"k");
    let change = |from: &Cells, to: &Cells| -> Changes {
        let removed = from.iter().map(|(key, _)| (key.clone(), None));
        removed
            .chain(to.iter().map(|(key, cell)| (key.clone(), Some(cell.clone()))))
            .collect()
    };
    for (before, after, expected) in [(&old, &new, Some(vec![2; 9_000])), (&new, &old, Some(vec![1; 20_000]))] {
        store.apply(change(&old, before)).expect("a change");
        *store.meanwhile.lock().expect("no panic") = change(before, after);
        assert_eq!(value(&tenant, TABLE, b"k"), expected);
    }
    store.apply(change(&new, &old)).expect("a change");
    *store.meanwhile.lock().expect("no panic") = change(&old, &Cells::new());
    assert_eq!(value(&tenant, TABLE, b"k"), None, "removed meanwhile");
}

#[tokio::test]
async fn close_commits_what_waits_and_refuses_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme"]).await;
    let tenant = owner(&directory, "acme");
    let mut waiting = Box::pin(put(&tenant, TABLE, b"k", b"v"));
    let handed_over = futures::poll!(&mut waiting);
    directory.close();
    match handed_over {
        std::task::Poll::Ready(done) => done.expect("a commit"),
        std::task::Poll::Pending => (&mut waiting).await.expect("handed over before the close"),
    }
    assert_eq!(code(put(&tenant, TABLE, b"l", b"v").await), Some(Code::Shutdown));
    assert!(!directory.failed());
    drop(waiting);
    drop((tenant, directory));
    let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
    assert_eq!(value(&owner(&directory, "acme"), TABLE, b"k"), Some(b"v".to_vec()));
}
