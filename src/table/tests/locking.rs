//! Who waits for whom.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::*;

type Locking<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

const ROW: Resource = Resource::Row(1, 1);
const OTHER: Resource = Resource::Row(1, 2);
const THIRD: Resource = Resource::Row(1, 3);

fn owners<const N: usize>() -> (Arc<Locks>, [Owner; N]) {
    let locks = Arc::<Locks>::default();
    let owners = std::array::from_fn(|_| locks.owner());
    (locks, owners)
}

/// A request that waits forever, after its first step.
fn ask(owner: &Owner, resource: Resource, mode: Mode) -> Locking<'_> {
    Box::pin(owner.lock(resource, mode, Wait::Forever))
}

fn poll(request: &mut Locking<'_>) -> Poll<Result<()>> {
    request.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn is_granted(request: &mut Locking<'_>) -> bool {
    match poll(request) {
        Poll::Ready(outcome) => outcome.map(|()| true).expect("no error"),
        Poll::Pending => false,
    }
}

fn refusal(request: &mut Locking<'_>) -> Option<Code> {
    match poll(request) {
        Poll::Ready(Err(error)) => Some(error.code()),
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}

#[test]
fn modes_conflict_as_in_postgresql() {
    use Mode::{Exclusive, IntentWrite, KeyShared, NoKeyExclusive, Shared};
    let together = [
        (KeyShared, KeyShared),
        (KeyShared, Shared),
        (KeyShared, NoKeyExclusive),
        (KeyShared, IntentWrite),
        (Shared, Shared),
        (IntentWrite, IntentWrite),
    ];
    let all = [KeyShared, Shared, IntentWrite, NoKeyExclusive, Exclusive];
    for one in all {
        for other in all {
            let (_, [a, b]) = owners();
            assert!(a.try_lock(ROW, one));
            let expected = together.contains(&(one, other)) || together.contains(&(other, one));
            assert_eq!(b.try_lock(ROW, other), expected, "{one:?} {other:?}");
            assert!(!expected || a.try_lock(ROW, one), "what is held is held");
        }
    }
}

#[test]
fn first_come_first_served() {
    let (_, [a, b, c, d]) = owners();
    assert!(a.try_lock(ROW, Mode::Shared));
    let mut writer = ask(&b, ROW, Mode::Exclusive);
    assert!(!is_granted(&mut writer));
    // It would go with the one who holds it, but not past the one who waits.
    let (mut third, mut fourth) = (ask(&c, ROW, Mode::Shared), ask(&d, ROW, Mode::Shared));
    assert!(!is_granted(&mut third) && !is_granted(&mut fourth));
    a.release_transaction();
    assert!(is_granted(&mut writer) && !is_granted(&mut third));
    drop(writer);
    b.release_transaction();
    assert!(is_granted(&mut third) && is_granted(&mut fourth));
}

#[test]
fn a_request_that_is_dropped_leaves_the_queue_and_loses_nobody_a_turn() {
    let (locks, [a, b, c]) = owners();
    assert!(a.try_lock(ROW, Mode::Exclusive));
    let (mut second, mut third) = (ask(&b, ROW, Mode::Exclusive), ask(&c, ROW, Mode::Exclusive));
    assert!(!is_granted(&mut second) && !is_granted(&mut third));
    drop(second);
    a.release_transaction();
    assert!(is_granted(&mut third));
    drop(third);
    c.release_transaction();
    // Granted, and dropped before it looked.
    assert!(a.try_lock(ROW, Mode::Exclusive));
    let (mut second, mut third) = (ask(&b, ROW, Mode::Exclusive), ask(&c, ROW, Mode::Exclusive));
    assert!(!is_granted(&mut second) && !is_granted(&mut third));
    a.release_transaction();
    drop(second);
    assert!(is_granted(&mut third));
    drop(third);
    drop((a, b, c));
    assert_eq!(locks.list(), []);
}

#[test]
fn who_would_close_a_circle_is_refused() {
    let (_, [a, b]) = owners();
    assert!(a.try_lock(ROW, Mode::Exclusive) && b.try_lock(OTHER, Mode::Exclusive));
    let mut first = ask(&a, OTHER, Mode::Exclusive);
    assert!(!is_granted(&mut first));
    assert_eq!(
        refusal(&mut ask(&b, ROW, Mode::Exclusive)),
        Some(Code::DeadlockDetected)
    );
    b.release_transaction();
    assert!(is_granted(&mut first));

    let (_, [a, b, c]) = owners();
    assert!(a.try_lock(ROW, Mode::Exclusive) && b.try_lock(OTHER, Mode::Exclusive) && c.try_lock(THIRD, Mode::Shared));
    let (mut first, mut second) = (ask(&a, OTHER, Mode::Shared), ask(&b, THIRD, Mode::Exclusive));
    assert!(!is_granted(&mut first) && !is_granted(&mut second));
    assert_eq!(
        refusal(&mut ask(&c, ROW, Mode::KeyShared)),
        Some(Code::DeadlockDetected)
    );
    c.release_transaction();
    assert!(is_granted(&mut second));

    // Both read, both want to write.
    let (_, [a, b]) = owners();
    assert!(a.try_lock(ROW, Mode::Shared) && b.try_lock(ROW, Mode::Shared));
    let mut first = ask(&a, ROW, Mode::Exclusive);
    assert!(!is_granted(&mut first));
    assert_eq!(
        refusal(&mut ask(&b, ROW, Mode::Exclusive)),
        Some(Code::DeadlockDetected)
    );
    b.release_transaction();
    assert!(is_granted(&mut first));
}

#[test]
fn a_circle_through_the_queue_is_one_too() {
    let (_, [a, b, c]) = owners();
    assert!(a.try_lock(ROW, Mode::Shared) && b.try_lock(OTHER, Mode::Exclusive));
    let mut writer = ask(&c, ROW, Mode::Exclusive);
    assert!(!is_granted(&mut writer));
    // Behind the writer, who waits for a.
    let mut behind = ask(&b, ROW, Mode::Shared);
    assert!(!is_granted(&mut behind));
    assert_eq!(
        refusal(&mut ask(&a, OTHER, Mode::Exclusive)),
        Some(Code::DeadlockDetected)
    );
    // Who holds it already goes before those who wait for it.
    assert!(a.try_lock(ROW, Mode::KeyShared));
    let mut upgrade = ask(&a, ROW, Mode::Exclusive);
    assert!(is_granted(&mut upgrade));
}

#[test]
fn a_savepoint_keeps_what_was_locked_before() {
    let (_, [a, b]) = owners();
    assert!(a.try_lock(ROW, Mode::Shared));
    let mark = a.mark();
    assert!(a.try_lock(ROW, Mode::Exclusive) && a.try_lock(OTHER, Mode::Exclusive));
    a.release_to(mark);
    assert!(b.try_lock(OTHER, Mode::Exclusive) && b.try_lock(ROW, Mode::Shared));
    assert!(!b.try_lock(ROW, Mode::Exclusive));
    a.release_transaction();
    assert!(b.try_lock(ROW, Mode::Exclusive));
}

#[test]
fn locks_of_the_session_outlive_the_transaction_and_are_counted() {
    let (locks, [a, b]) = owners();
    let resource = Resource::Advisory(7);
    assert!(
        a.try_lock_session(resource.clone(), Mode::Exclusive) && a.try_lock_session(resource.clone(), Mode::Exclusive)
    );
    assert!(a.try_lock(resource.clone(), Mode::Exclusive));
    a.release_transaction();
    assert!(!b.try_lock(resource.clone(), Mode::Shared));
    assert!(a.unlock_session(&resource, Mode::Exclusive));
    assert!(!b.try_lock(resource.clone(), Mode::Shared));
    assert!(a.unlock_session(&resource, Mode::Exclusive));
    assert!(!a.unlock_session(&resource, Mode::Exclusive));
    assert!(b.try_lock(resource.clone(), Mode::Shared));
    assert!(b.try_lock_session(OTHER, Mode::Shared));
    drop(b);
    assert_eq!(locks.list(), []);
    assert!(a.try_lock(resource, Mode::Exclusive));
}

#[tokio::test]
async fn waiting_ends_when_it_must() {
    let (_, [a, b]) = owners();
    assert!(a.try_lock(ROW, Mode::Exclusive));
    let refused = b.lock(ROW, Mode::Shared, Wait::NoWait).await.expect_err("no wait");
    assert_eq!(refused.code(), Code::LockNotAvailable);
    let until = tokio::time::Instant::now() + Duration::from_millis(20);
    let refused = b
        .lock(ROW, Mode::Shared, Wait::Until(until))
        .await
        .expect_err("a timeout");
    assert_eq!(refused.code(), Code::LockNotAvailable);
    a.release_transaction();
    b.lock(ROW, Mode::Shared, Wait::Until(until)).await.expect("it is free");
}

#[tokio::test]
async fn many_rows_lock_their_table() {
    let (locks, [a, b]) = owners();
    assert!(b.try_lock(Resource::Table(1), Mode::IntentWrite));
    let rows: Vec<RowId> = (0..=crate::limits::ROW_LOCKS as u64).collect();
    let refused = a
        .lock_rows(1, &rows, Mode::Exclusive, Wait::NoWait)
        .await
        .expect_err("b writes");
    assert_eq!(refused.code(), Code::LockNotAvailable);
    b.release_transaction();
    a.lock_rows(1, &rows, Mode::Exclusive, Wait::NoWait)
        .await
        .expect("the table");
    assert_eq!(locks.list().len(), 1);
    a.lock_rows(1, &rows[..10], Mode::Exclusive, Wait::NoWait)
        .await
        .expect("held");
    assert_eq!(locks.list().len(), 1);
}

/// Eight sessions add to two counters, each reading, pausing and writing under a lock. Some give up while they wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_under_contention() {
    let locks = Arc::<Locks>::default();
    let counters: Arc<[parking_lot::Mutex<u64>; 2]> = Arc::default();
    let session = |session: u64| {
        let (owner, counters) = (locks.owner(), counters.clone());
        tokio::spawn(async move {
            let mut added = 0;
            for round in 0..200 {
                let at = (session + round) % 2;
                let request = owner.lock(Resource::Row(1, at), Mode::Exclusive, Wait::Forever);
                if round % 7 > 0 {
                    request.await.expect("the lock");
                } else if tokio::time::timeout(Duration::from_micros(50), request).await.is_err() {
                    continue;
                }
                let read = *counters[at as usize].lock();
                tokio::task::yield_now().await;
                *counters[at as usize].lock() = read + 1;
                added += 1;
                owner.release_transaction();
            }
            added
        })
    };
    let sessions: Vec<_> = (0..8).map(session).collect();
    let mut added = 0;
    for session in sessions {
        added += session.await.expect("a session");
    }
    assert_eq!(counters.iter().map(|counter| *counter.lock()).sum::<u64>(), added);
    assert_eq!(locks.list(), []);
}
