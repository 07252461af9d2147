//! What a crash leaves is settled once.

use super::*;

/// As a crash does: nobody settles, nobody drops.
fn lose(reservation: Reservation) {
    std::mem::forget(reservation);
}

#[tokio::test]
async fn f04_x11_a_call_lost_in_a_crash_is_settled_once_at_what_was_reserved() {
    let mut house = House::with_budget(Window::Month, 1_000).await;
    house.call(ask(50, 50), end(20, 10)).await.unwrap();
    let lost = house.account.reserve(ask(60, 40)).await.unwrap();
    let id = lost.id();
    lose(lost);
    assert_eq!(house.reservations(), 1);
    for _ in 0..3 {
        house.restart().await;
        assert_eq!(house.reservations(), 0);
        assert_eq!(house.counted(Window::Month), (130, 0));
        assert_eq!(house.account.audit().unwrap(), []);
    }
    let lines = house.lines();
    let orphan = lines.iter().find(|line| line.id == id).unwrap();
    assert_eq!(
        (orphan.status, orphan.estimated, orphan.cost),
        (Status::Orphaned, true, Nano(100))
    );
    assert_eq!(
        (orphan.prompt_tokens, orphan.completion_tokens, orphan.at_micros),
        (60, 40, NOON)
    );
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn f03_a_crash_before_the_reservation_is_written_costs_nothing() {
    let mut house = House::with_budget(Window::Month, 1_000).await;
    // Handed over to nobody, and of builtin models: neither is owed to a provider.
    lose(
        house
            .account
            .reserve(Ask {
                durable: false,
                ..ask(60, 40)
            })
            .await
            .unwrap(),
    );
    house.restart().await;
    assert_eq!(house.lines(), []);
    assert_eq!(house.counted(Window::Month), (0, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn x11_a_call_stays_in_the_window_in_which_it_was_reserved() {
    let mut house = House::with_budget(Window::Day, 100).await;
    let settled = house.account.reserve(ask(30, 20)).await.unwrap();
    lose(house.account.reserve(ask(30, 20)).await.unwrap());
    house.pass(DAY);
    settled.settle(end(30, 0), house.batch()).await.unwrap();
    assert_eq!(house.counted(Window::Day), (0, 0));
    house.restart().await;
    assert_eq!(house.counted(Window::Day), (0, 0));
    assert_eq!(house.counted(Window::Month), (80, 0));
    assert!(house.lines().iter().all(|line| line.at_micros == NOON));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn many_orphans_are_settled_however_many() {
    let mut house = House::new().await;
    let many = crate::limits::ORPHANS_A_COMMIT + 3;
    for n in 0..many {
        let user = format!("user{}", n % 3);
        lose(house.account.reserve(Ask { user, ..ask(1, 1) }).await.unwrap());
    }
    house.restart().await;
    assert_eq!((house.lines().len(), house.reservations()), (many, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn f12_rate_limits_survive_a_restart() {
    let tier = Tier {
        tokens_per_day: 1_000,
        ..wide()
    };
    let mut house = House::with_tier(tier).await;
    house.call(ask(600, 100), end(600, 100)).await.unwrap();
    lose(house.account.reserve(ask(200, 0)).await.unwrap());
    house.restart().await;
    let check = house.account.check_limit("alice", 101).unwrap();
    assert_eq!((check.allowed, check.remaining), (false, 100));
    assert_eq!(check.retry_after_ms, Some(86_400));
    house.wall.fetch_sub(30 * DAY, Ordering::SeqCst); // nothing is gained from a clock put back
    house.restart().await;
    assert_eq!(house.account.check_limit("alice", 0).unwrap().remaining, 100);
    house.wall.fetch_add(30 * DAY, Ordering::SeqCst);
    house.wall.fetch_add(DAY / 10, Ordering::SeqCst);
    house.restart().await;
    assert_eq!(house.account.check_limit("alice", 0).unwrap().remaining, 200);
}

#[tokio::test]
async fn an_account_without_counters_counts_the_lines_there_are() {
    let mut house = House::with_budget(Window::Month, 1_000).await;
    house.call(ask(60, 40), end(60, 40)).await.unwrap();
    let mut batch = house.batch();
    for found in house.tenant.scan(Table::Counters, &[]) {
        batch.delete(Table::Counters, &found.unwrap().0);
    }
    house.tenant.commit(batch).await.unwrap();
    house.restart().await;
    assert_eq!(house.counted(Window::Month), (100, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

/// What settles at a start is told of its own kind of commit only; an account that is open keeps its calls.
#[tokio::test]
async fn x11_a_start_settles_without_a_login_what_no_open_account_has() {
    let house = House::with_budget(Window::Month, 1_000).await;
    let running = house.account.reserve(ask(60, 40)).await.unwrap();
    let recorder: Recorder = Arc::new(|_, _, batch| batch.append(b"told".to_vec()));
    let [recovery] = &house.directory.recoveries().unwrap()[..] else {
        panic!("one tenant has reservations")
    };
    // This process has made the call, and it is under way.
    crate::ledger::account::recover(recovery, &recorder).await.unwrap();
    assert_eq!((house.reservations(), house.lines().len()), (1, 0));
    running.settle(end(1, 1), house.batch()).await.unwrap();
    assert!(house.directory.recoveries().unwrap().is_empty());
}

#[tokio::test]
async fn a_recovery_reaches_reservations_and_what_settles_them() {
    let house = House::new().await;
    let recovery = house.tenant.recovery();
    for table in [Table::Documents, Table::Settings, Table::Secrets, Table::Costs] {
        let mut batch = recovery.batch();
        batch.put(table, b"k", vec![1]);
        assert_eq!(
            recovery.commit(batch).await.unwrap_err().code(),
            Code::Internal,
            "{table:?}"
        );
    }
    let mut batch = recovery.batch();
    batch.expect(Table::Secrets, b"k", None);
    assert_eq!(recovery.commit(batch).await.unwrap_err().code(), Code::Internal);
}
