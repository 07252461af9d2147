//! What reaches the log at which level, what waits, and what comes back when a commit fails.

use std::sync::Arc;

use super::*;
use crate::tenant::{Directory, Table, testing};

async fn log() -> (Arc<Directory>, Arc<Log>) {
    let directory = testing::directory(&["acme"]).await;
    let tenant = testing::tenant(&directory, "acme", "owner", "secret");
    (directory, Arc::new(Log::new(tenant)))
}

async fn set_level(directory: &Arc<Directory>, level: Level) {
    let operator = testing::operator(directory, "operator's");
    let change = operator.set_plan("acme", move |settings| {
        let mut plan = TenantPlan::decode(&settings.plan)?;
        plan.logging = level;
        plan.encode()
    });
    change.await.unwrap();
}

fn stored(log: &Log) -> Vec<Entry> {
    let head = log.tenant.log_head().unwrap();
    log.tenant.log(head).map(|link| read(&link.unwrap()).unwrap()).collect()
}

fn actions(log: &Log) -> Vec<String> {
    stored(log).into_iter().map(|entry| entry.action).collect()
}

fn of(class: Class, action: &str) -> Entry {
    Entry::now("ada", class, action)
}

#[test]
fn an_entry_survives_storage() {
    let refused = Error::new(Code::InsufficientPrivilege, "no");
    let mut entry = of(Class::Write, "INSERT")
        .on("t")
        .with(&json!({"rows": 3}))
        .failed(&refused);
    assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
    assert!(!entry.allowed && entry.detail.contains("42501") && entry.detail.contains("\"no\""));
    let bytes = entry.encode();
    for end in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..end]).is_err());
    }
    assert!(Entry::decode(&[&bytes[..], &[0]].concat()).is_err());
    entry.object = "é".repeat(limits::AUDIT_NAME_BYTES);
    let kept = Entry::decode(&entry.encode()).unwrap().object;
    assert!(kept.len() <= limits::AUDIT_NAME_BYTES && entry.object.starts_with(&kept) && !kept.is_empty());
}

#[test]
fn what_fails_without_being_refused_does_not_tell_its_words() {
    let entry = of(Class::Write, "INSERT").failed(&Error::new(Code::InvalidText, "invalid input: \"my secret\""));
    assert!(entry.allowed && entry.detail.contains("22P02") && !entry.detail.contains("secret"));
}

#[tokio::test]
async fn b22_the_level_says_what_is_logged() {
    let (directory, log) = log().await;
    let refused = Error::new(Code::LimitReached, "limit");
    for (level, wanted) in [
        (Level::None, &[][..]),
        (Level::Standard, &["write", "refused"]),
        (Level::Full, &["write", "read", "refused"]),
        (Level::Prompts, &["write", "read", "refused"]),
    ] {
        set_level(&directory, level).await;
        let before = stored(&log).len();
        log.note(&of(Class::Write, "write"));
        log.note(&of(Class::Read, "read"));
        log.note(&of(Class::Read, "refused").failed(&refused));
        log.flush().await.unwrap();
        assert_eq!(actions(&log)[before..], *wanted, "{level:?}");
        assert_eq!(log.prompt("p").is_some(), level == Level::Prompts);
    }
    assert_eq!(log.tenant.check_log().unwrap().fault, None);
}

#[tokio::test]
async fn what_waits_goes_before_what_is_committed_and_comes_back_if_that_fails() {
    let (_directory, log) = log().await;
    log.note(&of(Class::Login, "first"));
    let mut batch = log.tenant.batch();
    log.write(&mut batch, [&of(Class::Write, "second")]);
    let absent = log.tenant.get(Table::Documents, b"k").unwrap();
    assert!(absent.is_none());
    let mut other = log.tenant.batch();
    other.put(Table::Documents, b"k", vec![1]);
    log.tenant.commit(other).await.unwrap();
    batch.expect(Table::Documents, b"k", None);
    assert!(log.tenant.commit(batch).await.is_err());
    assert_eq!(actions(&log), <[String; 0]>::default());
    let mut batch = log.tenant.batch();
    log.note(&of(Class::Session, "noted later").failed(&Error::new(Code::NotReady, "")));
    log.write(&mut batch, [&of(Class::Write, "third")]);
    log.tenant.commit(batch).await.unwrap();
    assert_eq!(actions(&log), ["first", "noted later", "third"]);
    log.flush().await.unwrap();
    assert_eq!(stored(&log).len(), 3, "nothing is told twice");
}

#[tokio::test]
async fn what_there_is_no_room_for_is_counted() {
    let (_directory, log) = log().await;
    for _ in 0..limits::AUDIT_WAITING + 7 {
        log.note(&of(Class::Settings, "s"));
    }
    log.flush().await.unwrap();
    let entries = stored(&log);
    assert_eq!(entries.len(), limits::AUDIT_WAITING + 1);
    let overflow = entries.iter().find(|entry| entry.class == Class::Audit).unwrap();
    assert_eq!(overflow.detail, json!({"entries": 7}).to_string());
    assert_eq!(log.tenant.check_log().unwrap().fault, None);
}

#[tokio::test]
async fn refused_logins_are_told_once() {
    let (directory, log) = log().await;
    for _ in 0..2 {
        assert!(testing::log_in(&directory, "acme", "owner", "wrong").is_err());
    }
    for _ in 0..2 {
        log.flush().await.unwrap();
    }
    let entries = stored(&log);
    assert_eq!(entries.len(), 1);
    let told = (&*entries[0].user, entries[0].allowed, &*entries[0].detail);
    assert_eq!(told, ("", false, "{\"attempts\":2}"));
}

#[tokio::test]
async fn a_dropped_tenants_entries_are_forgotten() {
    let (directory, log) = log().await;
    log.note(&of(Class::Write, "w"));
    testing::operator(&directory, "operator's")
        .drop_tenant("acme")
        .await
        .unwrap();
    log.flush().await.unwrap();
    assert!(log.waiting().entries.is_empty());
}
