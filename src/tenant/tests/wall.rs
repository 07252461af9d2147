//! What keeps tenants apart: seals, planes, batches, drops, per-tenant state.

use super::*;

const TABLE: Table = Table::Documents;

#[tokio::test]
async fn tenants_with_the_same_keys_see_their_own_values() {
    let directory = testing::directory(&["acme", "umbra"]).await;
    let (acme, umbra) = (owner(&directory, "acme"), owner(&directory, "umbra"));
    put(&acme, TABLE, b"k", b"of acme").await.expect("a commit");
    assert_eq!(value(&umbra, TABLE, b"k"), None);
    put(&umbra, TABLE, b"k", b"of umbra").await.expect("a commit");
    assert_eq!(value(&acme, TABLE, b"k"), Some(b"of acme".to_vec()));
    for scan in [
        umbra.scan(TABLE, &[]).collect::<Vec<_>>(),
        umbra.scan_from(TABLE, &[], None).collect(),
    ] {
        let values: Vec<_> = scan.into_iter().map(|row| row.expect("a row").1.value).collect();
        assert_eq!(values, [b"of umbra".to_vec()]);
    }
    assert_ne!(acme.keyed_hash("l", b"x"), umbra.keyed_hash("l", b"x"));
    assert_ne!(acme.keyed_hash("l", b"x"), acme.keyed_hash("m", b"x"));
    assert_ne!(acme.keyed_hash("ab", b"c"), acme.keyed_hash("a", b"bc"));
    let mut removal = umbra.batch();
    removal.delete(TABLE, b"k");
    umbra.commit(removal).await.expect("a commit");
    assert_eq!(value(&acme, TABLE, b"k"), Some(b"of acme".to_vec()));
}

#[tokio::test]
async fn a_sealed_value_opens_nowhere_else() {
    let directory = testing::directory(&["acme", "umbra"]).await;
    let (acme, umbra) = (owner(&directory, "acme"), owner(&directory, "umbra"));
    for length in [10, 20_000] {
        put(&umbra, TABLE, b"k", &vec![1; length]).await.expect("a commit");
        put(&acme, TABLE, b"k", &vec![2; length]).await.expect("a commit");
        put(&acme, TABLE, b"other", &vec![3; length]).await.expect("a commit");
        put(&acme, Table::Chunks, b"k", &vec![4; length])
            .await
            .expect("a commit");
        let places: [(&Tenant, Table, &[u8]); 3] = [
            (&umbra, TABLE, b"k"),
            (&acme, TABLE, b"other"),
            (&acme, Table::Chunks, b"k"),
        ];
        for from in places {
            transplant(&directory, from, (&acme, TABLE, b"k"));
            let error = acme.get(TABLE, b"k").expect_err("a foreign value");
            assert_eq!((error.code(), error.code().sqlstate()), (Code::Corrupted, "XX001"));
            assert_eq!(error.message(), "a stored value could not be opened (table documents)");
            let rows: Vec<_> = acme.scan(TABLE, b"k").collect();
            assert_eq!(rows.len(), 1, "a scan ends with the error");
            assert_eq!(
                code(rows.into_iter().collect::<Result<Vec<_>>>()),
                Some(Code::Corrupted)
            );
        }
    }
}

#[test]
fn the_seal_binds_plane_table_key_and_length() {
    let keys = seal::Keys::derive(&seal::random_key().expect("a key"));
    let sealed = keys.seal(1, TABLE, b"k", b"value").expect("cells").concat();
    let open = |plane, table, key: &[u8], cell: &[u8]| keys.open(plane, table, key, cell.to_vec()).map(|s| s.value);
    assert_eq!(open(1, TABLE, b"k", &sealed), Some(b"value".to_vec()));
    assert_eq!(open(2, TABLE, b"k", &sealed), None);
    assert_eq!(open(1, Table::Chunks, b"k", &sealed), None);
    assert_eq!(open(1, TABLE, b"l", &sealed), None);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(open(1, TABLE, b"k", &changed), None, "byte {at}");
        assert_eq!(open(1, TABLE, b"k", &sealed[..at]), None, "cut at {at}");
    }
    let again = keys.seal(1, TABLE, b"k", b"value").expect("cells").concat();
    assert_ne!(sealed, again, "every sealing has its own nonce");
    assert!(!format!("{keys:?}").contains(char::is_numeric));
}

#[tokio::test]
async fn no_plain_text_reaches_the_store() {
    let directory = testing::directory(&["acme"]).await;
    let acme = owner(&directory, "acme");
    acme.create_user("canary-user", "canary-pass", Role::Member, None)
        .await
        .expect("a user");
    put(&acme, TABLE, b"k", b"canary-value").await.expect("a commit");
    for (key, cell) in cells(&directory) {
        let bytes = [key, cell].concat();
        assert!(!bytes.windows(7).any(|w| w == b"canary-"));
    }
}

#[tokio::test]
async fn a_batch_is_committed_by_its_own_tenant_only() {
    let directory = testing::directory(&["acme", "umbra"]).await;
    let (acme, umbra) = (owner(&directory, "acme"), owner(&directory, "umbra"));
    let secret = || {
        let mut batch = acme.batch();
        batch.put(TABLE, b"k", b"of acme".to_vec());
        batch
    };
    assert_eq!(code(umbra.commit(secret()).await), Some(Code::Internal));
    let mut merged = umbra.batch();
    merged.merge(secret());
    assert_eq!(code(umbra.commit(merged).await), Some(Code::Internal));
    assert_eq!(
        code(testing::operator(&directory, "operator's").commit(secret()).await),
        Some(Code::Internal)
    );
    assert_eq!(value(&umbra, TABLE, b"k"), None);
    acme.commit(secret()).await.expect("a commit");
}

#[tokio::test]
async fn tables_of_the_directory_and_of_the_operator_are_out_of_reach() {
    let directory = testing::directory(&["acme"]).await;
    let (acme, operator) = (owner(&directory, "acme"), testing::operator(&directory, "operator's"));
    for &table in Table::ALL {
        let ours = table.access() == table::Access::Tenant;
        let expected = if ours { None } else { Some(Code::Internal) };
        let mut write = acme.batch();
        write.put(table, b"k", vec![]);
        assert_eq!(code(acme.get(table, b"k")), expected);
        assert_eq!(code(acme.scan(table, &[]).collect::<Result<Vec<_>>>()), expected);
        assert_eq!(
            code(acme.scan_from(table, &[], None).collect::<Result<Vec<_>>>()),
            expected
        );
        assert_eq!(code(acme.commit(write).await), expected);
        let expected = if table.access() == table::Access::Operator {
            None
        } else {
            Some(Code::Internal)
        };
        let mut write = operator.batch();
        write.put(table, b"k", vec![]);
        assert_eq!(code(operator.get(table, b"k")), expected);
        assert_eq!(code(operator.scan(table, &[]).collect::<Result<Vec<_>>>()), expected);
        assert_eq!(code(operator.commit(write).await), expected);
    }
    let mut amounts = operator.batch();
    amounts.publish(AMOUNTS_BY_DAY, 0, &Sums(vec![1]));
    assert_eq!(code(operator.commit(amounts).await), Some(Code::Internal));
}

#[tokio::test]
async fn a_dropped_tenant_is_gone_and_a_new_one_of_its_name_has_nothing_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme", "umbra"]).await;
    let operator = testing::operator(&directory, "admin's");
    let acme = owner(&directory, "acme");
    acme.create_user("second", "secret", Role::Member, None)
        .await
        .expect("a user");
    let mut batch = acme.batch();
    batch.put(TABLE, b"k", vec![1; 10_000]);
    batch.publish(AMOUNTS_BY_DAY, 3, &Sums(vec![5]));
    batch.publish(AMOUNTS_BY_DAY, -4, &Sums(vec![6, 1]));
    batch.publish(1, 3, &Sums(vec![100]));
    acme.commit(batch).await.expect("a commit");
    let (hash, serial) = (acme.keyed_hash("l", b"x"), acme.serial());
    let caches = PerTenant::new();
    let cache = caches.open(&acme, || 1);
    let mut late = acme.batch();
    late.put(TABLE, b"late", vec![1]);
    let late = late
        .seal(
            &directory.find("acme").expect("a tenant").plane,
            table::Access::Tenant,
            None,
        )
        .expect("a request");
    let ring = std::fs::read(folder.path().join("keyring")).expect("the keyring");
    let mut scan = acme.scan(TABLE, &[]);

    let erasure = operator.drop_tenant("acme").await.expect("an erasure");
    assert_eq!(
        (erasure.tenant.as_str(), erasure.cells, erasure.amounts),
        ("acme", 3 + 2, Sums(vec![11, 1]))
    );
    assert_eq!(erasure.key_fingerprint.len(), 32);
    let gone = Some(Code::InvalidAuthorization);
    assert_eq!(code(acme.check_open()), gone);
    assert_eq!(code(acme.get(TABLE, b"k")), gone);
    assert_eq!(code(acme.scan(TABLE, &[]).collect::<Result<Vec<_>>>()), gone);
    assert_eq!(scan.next().and_then(code), gone, "a scan under way ends too");
    assert_eq!(code(acme.users()), gone);
    assert_eq!(code(put(&acme, TABLE, b"k", b"again").await), gone);
    assert_eq!(code(acme.commit(acme.batch()).await), gone);
    assert_eq!(code(acme.create_user("u", "secret", Role::Member, None).await), gone);
    assert_eq!(
        code(directory.committer.submit(late).await),
        gone,
        "sealed before, committed after"
    );
    assert_eq!(
        code(testing::log_in(&directory, "acme", "owner", "secret")),
        Some(Code::InvalidPassword)
    );
    assert_eq!(code(operator.drop_tenant("acme").await), Some(Code::UndefinedObject));
    assert!(
        cells(&directory)
            .iter()
            .all(|(key, _)| key[..8] != erasure.id.to_be_bytes())
    );
    let wiped = std::fs::read(folder.path().join("keyring")).expect("the keyring");
    let slot = ring
        .chunks(128)
        .position(|slot| slot[8..16] == erasure.id.to_be_bytes())
        .expect("a slot");
    assert!(
        wiped[slot * 128..][..128].iter().all(|&b| b == 0),
        "its key is gone from the disk"
    );
    let mut visits = 0;
    caches.for_each(|_| visits += 1);
    assert_eq!((visits, Arc::strong_count(&cache)), (0, 1), "its cache is forgotten");
    caches.open(&acme, || 2);
    caches.for_each(|_| visits += 1);
    assert_eq!(visits, 0, "nothing is kept for it any more");

    operator
        .create_tenant(testing::new_tenant("acme"))
        .await
        .expect("a tenant");
    let again = owner(&directory, "acme");
    assert_eq!(again.users().expect("users").len(), 1);
    assert_eq!(value(&again, TABLE, b"k"), None);
    assert_ne!(again.keyed_hash("l", b"x"), hash);
    assert_ne!(again.serial(), serial);
    assert_eq!(code(acme.check_open()), gone, "an old handle stays dead");
    assert_eq!(*caches.open(&again, || 3), 3);
    let states: Vec<_> = operator.tenants().into_iter().map(|t| (t.name, t.state)).collect();
    let expected = [("acme", "dropped"), ("umbra", "active"), ("acme", "active")];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)));
    let bills = operator.amounts(AMOUNTS_BY_DAY).expect("amounts");
    let day = |day, sums| (erasure.id, day, Sums(sums));
    assert_eq!(bills, [day(-4, vec![6, 1]), day(3, vec![5])], "bills stay");
    assert_eq!(operator.amounts(1).expect("amounts"), [day(3, vec![100])]);
    assert!(operator.amounts(2).expect("amounts").is_empty());

    // As if the power had failed before the key was wiped and the cells removed.
    let stem = table::stem(erasure.id, TABLE, b"left");
    directory
        .store
        .apply([(table::cell(&stem, 0), Some(vec![1]))].into())
        .expect("a change");
    let umbra = owner(&directory, "umbra");
    put(&umbra, TABLE, b"k", b"kept").await.expect("a commit");
    let mut ring_now = std::fs::read(folder.path().join("keyring")).expect("the keyring");
    ring_now.extend_from_slice(&ring[slot * 128..][..128]);
    drop((acme, again, umbra, scan, operator, directory));
    std::fs::write(folder.path().join("keyring"), ring_now).expect("the keyring");
    let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
    assert!(
        cells(&directory)
            .iter()
            .all(|(key, _)| key[..8] != erasure.id.to_be_bytes())
    );
    let ring = std::fs::read(folder.path().join("keyring")).expect("the keyring");
    assert!(ring.chunks(128).all(|slot| slot[8..16] != erasure.id.to_be_bytes()));
    assert_eq!(value(&owner(&directory, "umbra"), TABLE, b"k"), Some(b"kept".to_vec()));
}

#[tokio::test]
async fn nothing_is_read_between_the_drop_and_the_removal_of_its_cells() {
    let directory = testing::directory(&["acme"]).await;
    let acme = owner(&directory, "acme");
    put(&acme, TABLE, b"k", b"v").await.expect("a commit");
    directory
        .find("acme")
        .expect("a tenant")
        .plane
        .set_state(plane::State::Dropped);
    let gone = Some(Code::InvalidAuthorization);
    assert_eq!(code(acme.get(TABLE, b"k")), gone);
    assert_eq!(acme.scan(TABLE, &[]).next().map(code), Some(gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tenants_made_with_one_name_one_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &[]).await;
    let operator = testing::operator(&directory, "admin's");
    let made = futures::future::join_all((0..8).map(|_| operator.create_tenant(testing::new_tenant("acme")))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    assert!(
        made.into_iter()
            .filter_map(code)
            .all(|code| code == Code::DuplicateObject)
    );
    assert_eq!(operator.tenants().len(), 1);
}

#[tokio::test]
async fn a_tenant_that_could_not_be_committed_leaves_no_key() {
    let (store, directory) = faulty(&[]).await;
    let operator = testing::operator(&directory, "admin's");
    store.used.store(1 << 40, Ordering::SeqCst);
    assert_eq!(
        code(operator.create_tenant(testing::new_tenant("acme")).await),
        Some(Code::DiskFull)
    );
    assert_eq!(directory.keyring.lock().expect("a keyring").planes(), [0]);
    assert!(operator.tenants().is_empty());
    store.used.store(0, Ordering::SeqCst);
    operator
        .create_tenant(testing::new_tenant("acme"))
        .await
        .expect("a tenant");
}

#[tokio::test]
async fn per_tenant_state_is_made_once_and_never_shared() {
    let directory = testing::directory(&["acme", "umbra"]).await;
    let caches = PerTenant::new();
    let (acme, umbra) = (owner(&directory, "acme"), owner(&directory, "umbra"));
    let first = caches.open(&acme, || "acme's");
    assert_eq!(*caches.open(&umbra, || "umbra's"), "umbra's");
    assert!(Arc::ptr_eq(
        &first,
        &caches.open(&owner(&directory, "acme"), || "again")
    ));
    let other = testing::directory(&["acme"]).await;
    assert_eq!(
        *caches.open(&owner(&other, "acme"), || "of another directory"),
        "of another directory"
    );
}

#[tokio::test]
async fn what_the_operator_publishes_is_seen_when_its_commit_returns() {
    let directory = testing::directory(&["acme"]).await;
    let (acme, operator) = (owner(&directory, "acme"), testing::operator(&directory, "operator's"));
    let before = acme.published(Published::Tiers);
    assert_eq!(before.rows.len(), 1);
    let mut batch = operator.batch();
    batch.put(Table::Tiers, b"gold", b"row".to_vec());
    batch.put(Table::Providers, b"key", b"secret".to_vec());
    operator.commit(batch).await.expect("a commit");
    let after = acme.published(Published::Tiers);
    assert!(after.generation > before.generation && after.rows.len() == 2);
    assert_eq!(acme.published(Published::Models).rows, []);
    let row = || (Table::Models, b"m".to_vec(), b"model".to_vec());
    assert!(
        directory
            .seed(vec![row(), (Table::Tiers, b"t".to_vec(), vec![])])
            .expect("seeded")
    );
    assert!(
        !directory.seed(vec![row()]).expect("not again"),
        "only empty tables are seeded"
    );
    assert_eq!(
        acme.published(Published::Models).rows,
        [(b"m".to_vec(), b"model".to_vec())]
    );
    assert_eq!(acme.published(Published::Tiers).rows.len(), 2);
    assert_eq!(
        code(directory.seed(vec![(Table::Users, vec![], vec![])])),
        Some(Code::Internal)
    );
}

#[tokio::test]
async fn a_plan_is_kept_and_seen_and_no_change_of_it_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme", "umbra"]).await;
    let operator = testing::operator(&directory, "admin's");
    let acme = owner(&directory, "acme");
    assert!(acme.settings().plan.is_empty());
    let changes = (0..16u8).map(|n| {
        let operator = operator.clone();
        tokio::spawn(async move {
            let append = move |settings: &TenantSettings| Ok([&settings.plan, &[n][..]].concat());
            operator.set_plan("acme", append).await.expect("a change");
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.expect("a task");
    }
    let refused = |_: &TenantSettings| Err(Error::new(Code::InsufficientPrivilege, "no"));
    assert_eq!(
        code(operator.set_plan("acme", refused).await),
        Some(Code::InsufficientPrivilege)
    );
    let unknown = operator.set_plan("nobody", |_| Ok(vec![1])).await;
    assert_eq!(code(unknown), Some(Code::UndefinedObject));
    assert_eq!(code(operator.settings("nobody")), Some(Code::UndefinedObject));
    let change = AlterTenant {
        ai_enabled: Some(false),
        ..AlterTenant::default()
    };
    operator.alter_tenant("acme", change).await.expect("a change");
    let plan = acme.settings().plan;
    let mut sorted = plan.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..16).collect::<Vec<u8>>());
    assert!(owner(&directory, "umbra").settings().plan.is_empty());
    drop((acme, operator, directory));

    let directory = on_disk(folder.path(), &[]).await;
    let operator = testing::operator(&directory, "admin's");
    assert_eq!(owner(&directory, "acme").settings().plan, plan);
    assert_eq!(operator.settings("acme").expect("settings").plan, plan);
    operator.drop_tenant("acme").await.expect("an erasure");
    let records = directory.records.read().expect("records");
    assert!(
        records.values().all(|record| record.plan.is_empty()),
        "what was said of it goes with it"
    );
}
