//! The log of a tenant: order, restarts, and everything that somebody with the disk or even the key may do to it.

use super::{super::chain::HEAD_KEY, *};
use crate::codec::chain::{Fault, Head};

/// What one commit appends.
type Entries = Vec<Vec<u8>>;

fn entry(text: &str) -> Entries {
    vec![text.as_bytes().to_vec()]
}

async fn append(tenant: &Tenant, entries: Entries) {
    let mut batch = tenant.batch();
    entries.into_iter().for_each(|entry| batch.append(entry));
    tenant.commit(batch).await.expect("a commit");
}

fn texts(tenant: &Tenant) -> Vec<String> {
    let head = tenant.log_head().expect("a head");
    let links = tenant.log(head).map(|link| link.expect("an entry"));
    links
        .enumerate()
        .map(|(at, link)| {
            assert_eq!(link.seq, at as u64 + 1);
            String::from_utf8(link.payload).expect("text")
        })
        .collect()
}

/// A log of six entries in four commits.
async fn six(directory: &Arc<Directory>, name: &str) -> Tenant {
    let tenant = owner(directory, name);
    append(&tenant, entry("one")).await;
    append(&tenant, vec![b"two".to_vec(), b"three".to_vec()]).await;
    append(&tenant, entry("four")).await;
    append(&tenant, vec![b"five".to_vec(), b"six".to_vec()]).await;
    assert_eq!(texts(&tenant), ["one", "two", "three", "four", "five", "six"]);
    let checked = tenant.check_log().expect("a look");
    assert_eq!((checked.entries, checked.head.seq, checked.fault), (6, 6, None));
    tenant
}

fn fault(tenant: &Tenant) -> Option<Fault> {
    tenant.check_log().expect("a look").fault
}

fn remove(directory: &Directory, tenant: &Tenant, key: u64) {
    let cells = cells_of(directory, tenant, Table::Audit, &key.to_be_bytes());
    assert!(!cells.is_empty());
    let changes = cells.into_iter().map(|(cell, _)| (cell, None)).collect();
    directory.store.apply(changes).expect("a change");
}

/// As somebody does who has the tenant's key.
fn forge(directory: &Directory, tenant: &Tenant, key: &[u8], value: &[u8]) {
    let plane = directory.find(tenant.name()).expect("a tenant").plane.clone();
    let cells = plane.keys.seal(plane.id, Table::Audit, key, value).expect("sealed");
    let stem = table::stem(plane.id, Table::Audit, key);
    let changes = cells.into_iter().enumerate();
    let changes = changes.map(|(part, cell)| (table::cell(&stem, part), Some(cell)));
    directory.store.apply(changes.collect()).expect("a change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b22_commits_at_once_make_one_chain() {
    let directory = testing::directory(&["acme", "globex"]).await;
    let (acme, globex) = (owner(&directory, "acme"), owner(&directory, "globex"));
    let writers = (0..8).map(|writer| {
        let (acme, globex) = (acme.clone(), globex.clone());
        tokio::spawn(async move {
            for n in 0..50 {
                append(&acme, entry(&format!("{writer} {n}"))).await;
                append(&globex, entry("other")).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    let texts = texts(&acme);
    assert_eq!((texts.len(), fault(&acme), fault(&globex)), (400, None, None));
    for writer in 0..8 {
        let own = texts.iter().filter(|text| text.starts_with(&format!("{writer} ")));
        let wanted = (0..50).map(|n| format!("{writer} {n}"));
        assert!(
            own.eq(&wanted.collect::<Vec<_>>()),
            "a writer's entries stand in the order of its commits"
        );
    }
}

#[tokio::test]
async fn b22_a_commit_that_fails_leaves_no_entry_and_no_gap() {
    let directory = testing::directory(&["acme"]).await;
    let tenant = six(&directory, "acme").await;
    put(&tenant, Table::Documents, b"k", b"v").await.expect("a commit");
    let mut batch = tenant.batch();
    batch.append(b"never".to_vec());
    batch.expect(Table::Documents, b"k", None);
    assert_eq!(code(tenant.commit(batch).await), Some(Code::SerializationFailure));
    append(&tenant, entry("seven")).await;
    assert_eq!(texts(&tenant).last().map(String::as_str), Some("seven"));
    assert_eq!(fault(&tenant), None);
}

#[tokio::test]
async fn x12_the_log_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = on_disk(folder.path(), &["acme"]).await;
    let tenant = six(&directory, "acme").await;
    let long = vec![vec![7; 3 * crate::limits::CELL_BYTES]; 3];
    append(&tenant, long).await;
    drop((tenant, directory));
    let directory = open(folder.path(), MasterKey::File(None)).expect("a directory");
    let tenant = owner(&directory, "acme");
    append(&tenant, entry("after")).await;
    assert_eq!((texts(&tenant).len(), fault(&tenant)), (10, None));
}

#[tokio::test]
async fn e12_a_missing_changed_or_moved_entry_is_found() {
    let directory = testing::directory(&["first", "middle", "last", "swap", "forge", "head", "none", "foreign"]).await;
    let found = |tenant: &Tenant| fault(tenant).map(|fault| (fault.seq, fault.what));

    let tenant = six(&directory, "first").await;
    remove(&directory, &tenant, 1);
    assert_eq!(found(&tenant), Some((1, "entries are missing")));

    let tenant = six(&directory, "middle").await;
    remove(&directory, &tenant, 2);
    assert_eq!(found(&tenant), Some((2, "entries are missing")));

    let tenant = six(&directory, "last").await;
    remove(&directory, &tenant, 5);
    assert_eq!(found(&tenant), Some((5, "the last entries are missing")));

    // Another place is another seal.
    let tenant = six(&directory, "swap").await;
    let (one, four) = (1_u64.to_be_bytes(), 4_u64.to_be_bytes());
    transplant(
        &directory,
        (&tenant, Table::Audit, &four),
        (&tenant, Table::Audit, &one),
    );
    assert_eq!(found(&tenant), Some((1, "an entry cannot be read")));
    let stranger = six(&directory, "foreign").await;
    transplant(
        &directory,
        (&stranger, Table::Audit, &one),
        (&tenant, Table::Audit, &one),
    );
    assert_eq!(found(&tenant), Some((1, "an entry cannot be read")));

    // Whoever has the key can seal, and still has to make all that follows anew.
    let tenant = six(&directory, "forge").await;
    let honest = tenant
        .log(tenant.log_head().expect("a head"))
        .map(|link| link.expect("an entry"));
    let third = honest.filter(|link| link.seq == 3).last().expect("the third");
    let (forged, _) = Head {
        seq: 3,
        hash: third.hash,
    }
    .extend(&[b"FOUR".to_vec()]);
    forge(&directory, &tenant, &four, &forged);
    assert_eq!(found(&tenant), Some((5, "an entry does not follow the one before it")));
    let mut changed = forged;
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    forge(&directory, &tenant, &four, &changed);
    assert_eq!(found(&tenant), Some((4, "an entry was changed")));

    let tenant = six(&directory, "head").await;
    let head = tenant.log_head().expect("a head");
    let older = Head { seq: 6, hash: [1; 32] };
    forge(&directory, &tenant, &HEAD_KEY, &older.encode());
    assert_eq!(
        found(&tenant),
        Some((6, "the last entry is not the one that the head names"))
    );
    forge(&directory, &tenant, &HEAD_KEY, b"short");
    assert_eq!(found(&tenant), Some((0, "the head of the log cannot be read")));
    forge(&directory, &tenant, &HEAD_KEY, &head.encode());
    assert_eq!(found(&tenant), None);

    // A log replaced from its first entry on is whole; its head is not the one that was noted elsewhere.
    let tenant = six(&directory, "none").await;
    let noted = tenant.log_head().expect("a head");
    for key in [0, 1, 2, 4, 5] {
        remove(&directory, &tenant, key);
    }
    assert_eq!((found(&tenant), texts(&tenant).len()), (None, 0));
    append(&tenant, entry("one")).await;
    assert_ne!(tenant.log_head().expect("a head"), noted);
}

#[tokio::test]
async fn a_full_disk_takes_deletions_with_their_entries_and_no_entries_alone() {
    let (store, directory) = faulty(&["acme"]).await;
    let tenant = owner(&directory, "acme");
    put(&tenant, Table::Documents, b"k", b"v").await.expect("a commit");
    directory.committer.set_min_free_bytes(1 << 30);
    store.used.store((1 << 40) - 1, Ordering::SeqCst);
    let mut batch = tenant.batch();
    batch.append(b"read".to_vec());
    assert_eq!(code(tenant.commit(batch).await), Some(Code::DiskFull));
    let mut batch = tenant.batch();
    batch.delete(Table::Documents, b"k");
    batch.append(b"deleted".to_vec());
    tenant.commit(batch).await.expect("a deletion");
    assert_eq!((texts(&tenant), fault(&tenant)), (vec!["deleted".to_owned()], None));
}

#[tokio::test]
async fn users_change_with_their_entry() {
    let directory = testing::directory(&["acme"]).await;
    let tenant = owner(&directory, "acme");
    tenant
        .create_user("ada", "secret", Role::Member, Some(b"made".to_vec()))
        .await
        .expect("a user");
    let again = tenant
        .create_user("ada", "secret", Role::Member, Some(b"again".to_vec()))
        .await;
    assert_eq!(code(again), Some(Code::DuplicateObject));
    tenant
        .drop_user("ada", Some(b"dropped".to_vec()))
        .await
        .expect("dropped");
    assert_eq!(texts(&tenant), ["made", "dropped"]);
}

#[tokio::test]
async fn refused_logins_are_counted_for_the_tenant_that_was_named() {
    let directory = testing::directory(&["acme", "globex"]).await;
    for (tenant, user) in [("acme", "owner"), ("acme", "nobody"), ("initech", "owner")] {
        assert_eq!(
            code(testing::log_in(&directory, tenant, user, "wrong")),
            Some(Code::InvalidPassword)
        );
    }
    let (acme, globex) = (owner(&directory, "acme"), owner(&directory, "globex"));
    assert_eq!((acme.take_refused_logins(), globex.take_refused_logins()), (2, 0));
    acme.give_back_refused_logins(2);
    assert_eq!(acme.take_refused_logins(), 2);
    assert_eq!(acme.take_refused_logins(), 0);
}
