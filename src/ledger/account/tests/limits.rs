//! Rate limits of calls: all or nothing, exact waits, turns in order.

use tokio::task::JoinSet;

use super::*;

fn minute(tokens: i64) -> Tier {
    Tier {
        tokens_per_minute: tokens,
        ..wide()
    }
}

#[tokio::test]
async fn f13_a_denial_by_one_limit_takes_nothing_of_another() {
    let tier = Tier {
        tokens_per_day: 1_000,
        tokens_per_minute: 600,
        requests_per_minute: 3,
        ..wide()
    };
    let house = House::with_tier(tier).await;
    let levels = || {
        house
            .account
            .rate_limits(None)
            .unwrap()
            .iter()
            .map(|row| row.remaining)
            .collect::<Vec<_>>()
    };
    house.call(ask(500, 0), end(500, 0)).await.unwrap();
    assert_eq!(levels()[..3], [100, 500, 2]);
    for _ in 0..100 {
        assert_eq!(
            refused(house.account.reserve(ask(101, 0)).await)["limit"],
            "tokens_per_minute"
        );
    }
    assert_eq!(levels()[..3], [100, 500, 2]);
    house.pass(60 * SECOND);
    house.call(ask(500, 0), end(500, 0)).await.unwrap();
    assert_eq!(levels()[..2], [100, 0]);
    assert_eq!(
        refused(house.account.reserve(ask(90, 0)).await)["limit"],
        "tokens_per_day"
    );
    assert_eq!(levels()[0], 100);
    assert_eq!(house.counted(Window::Month), (1_000, 0));
    assert_eq!(house.reservations(), 0);
    let error = house.account.reserve(ask(601, 0)).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    assert_eq!(levels()[0], 100);
}

#[tokio::test]
async fn f14_a_retry_after_the_time_named_passes_all_limits() {
    let tier = Tier {
        tokens_per_day: 10_000,
        tokens_per_minute: 700,
        requests_per_minute: 2,
        ..wide()
    };
    let house = House::with_tier(tier).await;
    house.call(ask(700, 0), end(700, 0)).await.unwrap();
    house.call(ask(0, 0), end(0, 0)).await.unwrap();
    let denied = refused(house.account.reserve(ask(300, 0)).await);
    let after = denied["retry_after_ms"].as_i64().unwrap();
    assert_eq!((&denied["limit"], after), (&"requests_per_minute".into(), 30_000));
    assert_eq!((&denied["used"], &denied["capacity"]), (&2.into(), &2.into()));
    house.pass((after - 1) * 1_000);
    assert_eq!(refused(house.account.reserve(ask(300, 0)).await)["retry_after_ms"], 1);
    house.pass(1_000);
    house.call(ask(300, 0), end(300, 0)).await.unwrap();
}

#[tokio::test]
async fn what_an_answer_did_not_take_comes_back() {
    let house = House::with_tier(minute(1_000)).await;
    house.call(ask(100, 900), end(100, 50)).await.unwrap();
    assert_eq!(house.account.check_limit("alice", 850).unwrap().remaining, 850);
    let lost = house.account.reserve(ask(50, 800)).await.unwrap();
    assert!(house.account.reserve(ask(1, 0)).await.is_err());
    lost.settle(
        End {
            status: Status::Error,
            ..end(0, 0)
        },
        house.batch(),
    )
    .await
    .unwrap();
    house.call(ask(850, 0), end(850, 0)).await.unwrap();
}

#[tokio::test]
async fn to_ask_for_a_limit_takes_nothing() {
    let house = House::with_tier(minute(1_000)).await;
    for _ in 0..10 {
        let check = house.account.check_limit("alice", 1_000).unwrap();
        assert_eq!(
            (check.allowed, check.remaining, check.retry_after_ms),
            (true, 1_000, Some(0))
        );
    }
    let never = house.account.check_limit("alice", 1_001).unwrap();
    assert_eq!((never.allowed, never.retry_after_ms), (false, None));
    assert!(house.account.check_limit("alice", -1).is_err());
}

#[tokio::test]
async fn users_have_limits_of_their_own_within_the_tenants() {
    let house = House::with_tier(minute(1_000)).await;
    house.plan.lock().unwrap().user_limits.tokens_per_minute = Some(300);
    let by = |user: &str, tokens| Ask {
        user: user.to_owned(),
        ..ask(tokens, 0)
    };
    house.call(by("a", 300), end(300, 0)).await.unwrap();
    assert_eq!(
        refused(house.account.reserve(by("a", 1)).await)["limit"],
        "user_tokens_per_minute"
    );
    house.call(by("b", 300), end(300, 0)).await.unwrap();
    house.call(by("c", 300), end(300, 0)).await.unwrap();
    assert_eq!(
        refused(house.account.reserve(by("d", 101)).await)["limit"],
        "tokens_per_minute"
    );
    assert_eq!(house.account.check_limit("d", 1).unwrap().remaining, 100);
    assert_eq!(house.account.check_limit("a", 1).unwrap().remaining, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f10_no_more_calls_run_at_once_and_pass_a_minute_than_allowed() {
    let tier = Tier {
        concurrent_calls: 7,
        requests_per_minute: 40,
        ..wide()
    };
    let house = House::with_tier(tier).await;
    let mut admitted = Vec::new();
    for round in 0..10 {
        let mut calls = JoinSet::new();
        for _ in 0..64 {
            let account = house.account.clone();
            calls.spawn(async move { account.reserve(ask(1, 1)).await });
        }
        let mut running = Vec::new();
        while let Some(outcome) = calls.join_next().await {
            running.extend(outcome.unwrap());
        }
        assert!(running.len() <= 7);
        admitted.push(running.len());
        for reservation in running {
            reservation.settle(end(1, 1), house.batch()).await.unwrap();
        }
        // The wall clock is stepped both ways; only the steady one refills.
        house
            .wall
            .fetch_add(if round % 2 == 0 { DAY } else { -DAY }, Ordering::SeqCst);
    }
    assert_eq!(admitted, [7, 7, 7, 7, 7, 5, 0, 0, 0, 0]);
    house.steady.fetch_add(3 * SECOND, Ordering::SeqCst); // 3 s at 40 a minute
    let mut running = Vec::new();
    for _ in 0..5 {
        running.extend(house.account.reserve(ask(1, 1)).await);
    }
    assert_eq!(running.len(), 2);
}

/// A waiting call, told from the others by its tokens.
fn waiting(tokens: i64) -> Ask {
    Ask {
        wait: Duration::from_secs(50),
        ..ask(tokens, 0)
    }
}

#[tokio::test]
async fn who_waits_gets_what_comes_free_in_order_and_before_those_who_do_not() {
    let house = House::with_tier(Tier {
        concurrent_calls: 1,
        ..wide()
    })
    .await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let may_end = Arc::new(tokio::sync::Semaphore::new(0));
    let first = house.account.reserve(ask(1, 0)).await.unwrap();
    let mut waiters = JoinSet::new();
    for n in 0..5 {
        let (account, batch) = (house.account.clone(), house.batch());
        let (order, may_end) = (order.clone(), may_end.clone());
        waiters.spawn(async move {
            let reservation = account.reserve(waiting(n)).await.unwrap();
            order.lock().unwrap().push(n);
            may_end.acquire().await.unwrap().forget();
            reservation.settle(end(n, 0), batch).await.unwrap();
        });
        for _ in 0..10 {
            tokio::task::yield_now().await; // each stands in line before the next one comes
        }
    }
    assert!(house.account.reserve(ask(1, 0)).await.is_err());
    first.settle(end(1, 0), house.batch()).await.unwrap();
    for n in 1..=5 {
        assert!(house.account.reserve(ask(1, 0)).await.is_err(), "others were first");
        until(|| order.lock().unwrap().len() >= n).await;
        assert!(house.account.reserve(ask(1, 0)).await.is_err());
        may_end.add_permits(1);
    }
    while let Some(waiter) = waiters.join_next().await {
        waiter.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    drop(house.account.reserve(ask(1, 0)).await.unwrap());
}

#[tokio::test]
async fn tokens_that_come_free_are_kept_for_the_first_in_line() {
    let house = House::with_tier(minute(1_000)).await;
    let running = house.account.reserve(ask(1, 999)).await.unwrap();
    house.pass(10 * SECOND);
    let account = house.account.clone();
    let large = tokio::spawn(async move { account.reserve(waiting(900)).await });
    until(|| house.account.state().claim.is_some()).await;
    // 166 tokens are there, and belong to the one that waits for 900.
    assert_eq!(
        refused(house.account.reserve(ask(100, 0)).await)["limit"],
        "tokens_per_minute"
    );
    running.settle(end(1, 0), house.batch()).await.unwrap();
    large
        .await
        .unwrap()
        .unwrap()
        .settle(end(900, 0), house.batch())
        .await
        .unwrap();
    house.call(ask(99, 0), end(99, 0)).await.unwrap();
}

#[tokio::test]
async fn who_would_wait_in_vain_hears_it_at_once_and_leaves_no_claim() {
    let house = House::with_tier(minute(1_000)).await;
    house
        .plan
        .lock()
        .unwrap()
        .set_budget(Window::Month, Some(Nano(5_000)), true)
        .unwrap();
    house.call(ask(1_000, 0), end(1_000, 0)).await.unwrap();
    let short = Ask {
        wait: Duration::from_secs(5),
        ..ask(1_000, 0)
    };
    assert_eq!(refused(house.account.reserve(short).await)["retry_after_ms"], 60_000);
    let never = Ask {
        wait: Duration::from_secs(5),
        ..ask(1_001, 0)
    };
    assert_eq!(house.account.reserve(never).await.unwrap_err().code(), Code::TooLarge);
    assert!(house.account.state().claim.is_none());
    let mut gone = Box::pin(house.account.reserve(waiting(700)));
    poll_until(&mut gone, || house.account.state().claim.is_some()).await;
    drop(gone);
    assert!(house.account.state().claim.is_none());
    house.pass(60 * SECOND);
    house.call(ask(1_000, 0), end(1_000, 0)).await.unwrap();
}
