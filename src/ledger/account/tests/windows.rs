//! Windows that turn, zones that change, prices and tiers that change under way.

use super::*;

#[tokio::test]
async fn a_zone_that_changes_takes_along_what_was_spent_and_what_is_reserved() {
    let house = House::with_budget(Window::Day, 1_000).await;
    house.call(ask(100, 0), end(100, 0)).await.unwrap(); // 12:00 UTC
    house.pass(5 * 3_600 * SECOND);
    let running = house.account.reserve(ask(40, 30)).await.unwrap(); // 17:00 UTC
    let builtin = house
        .account
        .reserve(Ask {
            durable: false,
            ..ask(4, 3)
        })
        .await
        .unwrap();
    assert_eq!(house.counted(Window::Day), (100, 77));

    house.plan.lock().unwrap().timezone = "Asia/Tokyo".to_owned(); // its day began at 15:00 UTC
    let probe = house.account.reserve(ask(1, 0)).await.unwrap();
    assert_eq!(house.counted(Window::Day), (0, 78));
    assert_eq!(house.counted(Window::Month), (100, 78));
    assert_eq!(house.account.audit().unwrap(), []);
    running.settle(end(40, 10), house.batch()).await.unwrap();
    builtin.settle(end(4, 1), house.batch()).await.unwrap();
    assert_eq!(house.counted(Window::Day), (55, 1));
    assert_eq!(house.account.audit().unwrap(), []);

    house.plan.lock().unwrap().timezone = "UTC".to_owned();
    probe.settle(end(1, 0), house.batch()).await.unwrap();
    house.call(ask(1, 0), end(1, 0)).await.unwrap();
    assert_eq!(house.counted(Window::Day), (157, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn a_crash_after_the_zone_has_changed_leaves_books_that_balance() {
    let mut house = House::with_budget(Window::Day, 1_000).await;
    std::mem::forget(house.account.reserve(ask(40, 30)).await.unwrap());
    house.plan.lock().unwrap().timezone = "Pacific/Auckland".to_owned(); // its day began at 12:00 UTC
    house.call(ask(1, 0), end(1, 0)).await.unwrap();
    house.restart().await;
    assert_eq!(house.counted(Window::Day), (71, 0));
    assert_eq!(house.account.audit().unwrap(), []);
    house.plan.lock().unwrap().timezone = "UTC".to_owned();
    house.restart().await;
    assert_eq!(house.counted(Window::Day), (71, 0));
}

#[tokio::test]
async fn a_clock_put_back_meets_what_it_spent_before() {
    let house = House::with_budget(Window::Day, 100).await;
    house.call(ask(100, 0), end(100, 0)).await.unwrap();
    house.pass(DAY);
    house.call(ask(100, 0), end(100, 0)).await.unwrap();
    house.wall.fetch_sub(DAY, Ordering::SeqCst);
    assert_eq!(refused(house.account.reserve(ask(1, 0)).await)["limit"], "daily_budget");
    house.wall.fetch_add(2 * DAY, Ordering::SeqCst);
    house.call(ask(100, 0), end(100, 0)).await.unwrap();
}

#[tokio::test]
async fn f17_a_downgrade_lets_running_calls_end_and_binds_new_ones() {
    let house = House::new().await;
    let mut running = Vec::new();
    for _ in 0..100 {
        running.push(house.account.reserve(ask(6, 4)).await.unwrap());
    }
    let small = Tier {
        tokens_per_minute: 50,
        concurrent_calls: 1,
        monthly_budget: Nano(1_500),
        ..wide()
    };
    put_tier(&house.directory, &small).await;
    assert_eq!(
        house.account.reserve(ask(51, 0)).await.unwrap_err().code(),
        Code::TooLarge
    );
    assert!(house.account.reserve(ask(1, 0)).await.is_err());
    for reservation in running {
        let line = reservation.settle(end(6, 4), house.batch()).await.unwrap();
        assert_eq!((line.cost, line.estimated), (Nano(10), false));
    }
    assert_eq!(house.counted(Window::Month), (1_000, 0));
    house.pass(60 * SECOND);
    let one = house.account.reserve(ask(25, 0)).await.unwrap();
    assert_eq!(
        refused(house.account.reserve(ask(1, 0)).await)["limit"],
        "concurrent_calls"
    );
    one.settle(end(25, 0), house.batch()).await.unwrap();
    assert_eq!(
        refused(house.account.reserve(ask(26, 0)).await)["limit"],
        "tokens_per_minute"
    );
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn f08_a_price_that_changes_under_way_is_that_of_the_reservation() {
    let house = House::new().await;
    let old = Ask {
        price: Some(price([3, 3, 3, 3, 0])),
        ..ask(10, 10)
    };
    let reservation = house.account.reserve(old).await.unwrap();
    house.pass(DAY);
    let mut new = price([5, 5, 5, 5, 0]);
    new.valid_from = Day::of_micros(NOON + DAY);
    house
        .call(
            Ask {
                price: Some(new),
                ..ask(10, 10)
            },
            end(10, 10),
        )
        .await
        .unwrap();
    let line = reservation.settle(end(10, 10), house.batch()).await.unwrap();
    assert_eq!(
        (line.cost, line.price_id.as_deref()),
        (Nano(60), Some("openai/m@1970-01-01"))
    );
    let lines = house.lines();
    assert!(
        lines
            .iter()
            .any(|line| line.cost == Nano(100) && line.price_id.as_deref() == Some("openai/m@2026-07-16"))
    );
}

/// Ids of lines lead; whoever forges a line does not change what is counted.
#[tokio::test]
async fn f18_an_attempt_is_counted_under_its_own_id_and_only_once() {
    let house = House::new().await;
    let first = ask(10, 0);
    let second = Ask {
        attempt: 1,
        ..first.clone()
    };
    let a = house.account.reserve(first.clone()).await.unwrap();
    let twice = house.account.reserve(first.clone()).await.unwrap_err();
    assert_eq!(twice.code(), Code::Internal);
    let b = house.account.reserve(second).await.unwrap();
    assert_eq!((a.id().as_bytes()[15], b.id().as_bytes()[15]), (0, 1));
    assert_eq!(a.id().as_bytes()[..15], b.id().as_bytes()[..15]);
    a.settle(end(10, 0), house.batch()).await.unwrap();
    let again = house.account.reserve(first).await.unwrap_err();
    assert_eq!(again.code(), Code::SerializationFailure);
    b.settle(end(10, 0), house.batch()).await.unwrap();
    assert_eq!(house.counted(Window::Month), (20, 0));
    let negative = house.account.reserve(ask(-10, 0)).await.unwrap_err();
    assert_eq!(negative.code(), Code::InvalidParameterValue);
    assert!(house.account.reserve(ask(i64::MAX, i64::MAX)).await.is_err());
    assert_eq!(house.lines().len(), 2);
}
