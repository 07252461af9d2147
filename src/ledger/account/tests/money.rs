//! Budgets under load, claims of providers, and commits that fail.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;
use crate::tenant::Sums;

const BUDGET: i64 = 1_000;

/// Audits on a thread of its own until it is stopped, and fails if the books did not balance or a
/// budget was passed.
struct Sampler {
    /// How often the books were seen.
    seen: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Sampler {
    fn start(house: &House) -> Self {
        let (seen, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (account, tenant) = (house.account.clone(), house.tenant.clone());
        let (counting, stopping) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::SeqCst) {
                if let Ok(imbalances) = account.audit() {
                    assert_eq!(imbalances, []);
                    counting.fetch_add(1, Ordering::SeqCst);
                }
                for found in tenant.scan(Table::Counters, &[0]) {
                    let (key, _) = found.unwrap();
                    let sums = tenant.sums(Table::Counters, &key).unwrap().unwrap();
                    assert!(sums.0[0] + sums.0[1] <= BUDGET, "overshoot: {sums:?}");
                }
            }
        });
        Self { seen, stop, thread }
    }

    /// Goes on when the books were seen as they are now.
    async fn look(&self) {
        let seen = self.seen.load(Ordering::SeqCst);
        // The second from now on began after now.
        until(|| self.seen.load(Ordering::SeqCst) >= seen + 2 || self.thread.is_finished()).await;
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f01_of_a_thousand_calls_at_once_a_budget_for_ten_admits_ten() {
    let house = House::with_budget(Window::Month, BUDGET).await;
    let sampler = Sampler::start(&house);
    let mut calls = JoinSet::new();
    for n in 0..1_000 {
        let account = house.account.clone();
        calls.spawn(async move {
            let user = format!("user{}", n % 7);
            account.reserve(Ask { user, ..ask(60, 40) }).await
        });
    }
    let mut admitted = Vec::new();
    while let Some(outcome) = calls.join_next().await {
        match outcome.unwrap() {
            Ok(reservation) => admitted.push(reservation),
            Err(error) => assert_eq!(detail(&error)["limit"], "monthly_budget"),
        }
    }
    assert_eq!(admitted.len(), 10);
    assert_eq!(house.counted(Window::Month), (0, BUDGET));
    println!(
        "1000 calls at once, a budget for 10: {} admitted, {} nano-USD above it",
        admitted.len(),
        house.counted(Window::Month).1 - BUDGET
    );
    assert_eq!(house.reservations(), 10);
    sampler.look().await;
    let mut settling = JoinSet::new();
    for reservation in admitted {
        settling.spawn(reservation.settle(end(60, 40), house.batch()));
    }
    while let Some(line) = settling.join_next().await {
        assert_eq!(line.unwrap().unwrap().cost, Nano(100));
    }
    sampler.look().await;
    sampler.stop();
    assert_eq!(house.counted(Window::Month), (BUDGET, 0));
    assert_eq!((house.lines().len(), house.reservations()), (10, 0));
    assert!(house.account.reserve(ask(1, 0)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f01_calls_that_settle_meanwhile_make_room_and_never_too_much() {
    let house = House::with_budget(Window::Day, BUDGET).await;
    let sampler = Sampler::start(&house);
    let mut calls = JoinSet::new();
    for n in 0..200_i64 {
        let (account, batch) = (house.account.clone(), house.batch());
        calls.spawn(async move {
            let user = format!("user{}", n % 5);
            match account.reserve(Ask { user, ..ask(60, 40) }).await {
                Ok(reservation) if n % 9 == 0 => {
                    drop(reservation);
                    Some(60)
                }
                Ok(reservation) => Some(reservation.settle(end(10, n % 20), batch).await.unwrap().cost.0),
                Err(error) => {
                    assert_eq!(detail(&error)["limit"], "daily_budget");
                    None
                }
            }
        });
    }
    let mut spent = 0;
    let mut admitted = 0;
    while let Some(cost) = calls.join_next().await {
        let cost = cost.unwrap();
        spent += cost.unwrap_or(0);
        admitted += usize::from(cost.is_some());
    }
    until(|| house.reservations() == 0).await; // those dropped settle in the background
    until(|| house.counted(Window::Day).1 == 0).await;
    sampler.look().await;
    sampler.stop();
    assert!(admitted >= 10, "{admitted}");
    assert_eq!(house.counted(Window::Day), (spent, 0));
    assert_eq!(house.lines().iter().map(|line| line.cost.0).sum::<i64>(), spent);
    assert_eq!(house.lines().len(), admitted);
}

#[tokio::test]
async fn f09_a_claim_is_bounded_by_the_reservation_and_flagged() {
    // prompt, cached, completion, reasoning as claimed; then prompt, cached, completion, cost, estimated as booked.
    // Reserved: 100 prompt, 50 completion at input 10, cached 5, output 20, reasoning 30: 1,000 + 1,500.
    let cases = [
        ([100, 0, 50, 0], (100, 0, 50, 2_000, false)),
        ([100, 40, 50, 50], (100, 40, 50, 600 + 200 + 1_500, false)),
        ([110, 0, 10, 0], (110, 0, 10, 1_300, false)), // another tokenizer, within the sum reserved
        ([-1, 0, 10, 0], (100, 0, 10, 1_200, true)),
        ([100, 0, -1, 0], (100, 0, 50, 2_000, true)),
        ([100, -5, 10, -5], (100, 0, 10, 1_200, true)),
        ([100, 200, 10, 20], (100, 100, 10, 500 + 300, true)),
        ([1_000, 0, 50, 0], (100, 0, 50, 2_000, true)),
        ([100, 0, 100_000, 0], (100, 0, 50, 2_000, true)),
        (
            [i64::MAX, i64::MAX, i64::MAX, i64::MAX],
            (100, 100, 50, 500 + 1_500, true),
        ),
        ([i64::MIN, i64::MIN, i64::MIN, i64::MIN], (100, 0, 50, 2_000, true)),
        ([0, 0, 0, 0], (0, 0, 0, 0, false)),
    ];
    let house = House::new().await;
    for ([prompt, cached, completion, reasoning], (p, c, o, cost, estimated)) in cases {
        let ask = Ask {
            price: Some(price([10, 5, 20, 30, 0])),
            ..ask(100, 50)
        };
        let claimed = End {
            cached,
            reasoning,
            ..end(prompt, completion)
        };
        let reservation = house.account.reserve(ask).await.unwrap();
        assert_eq!(reservation.reserved(), Nano(2_500));
        let line = reservation.settle(claimed, house.batch()).await.unwrap();
        let booked = (
            line.prompt_tokens,
            line.cached_tokens,
            line.completion_tokens,
            line.cost.0,
            line.estimated,
        );
        assert_eq!(booked, (p, c, o, cost, estimated), "{claimed:?}");
    }
    assert_eq!(house.account.audit().unwrap(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f09_no_claim_costs_or_counts_more_than_was_reserved(
        prompt in 0_i64..10_000, completion in 0_i64..10_000,
        prices in prop::array::uniform5(0_i64..1_000_000),
        claim: [i64; 4], small in prop::array::uniform4(-5_i64..12_000), use_small: bool, embed: bool,
    ) {
        let operation = if embed { Operation::Embed } else { Operation::Rag };
        let ask = Ask { price: Some(price(prices)), operation, ..ask(prompt, completion) };
        let call = super::super::call::Call::new(&ask, NOON).unwrap();
        let [p, cached, c, reasoning] = if use_small { small } else { claim };
        let claimed = End { cached, reasoning, ..end(p, c) };
        let line = call.line(&claimed).unwrap();
        prop_assert!(line.cost >= Nano::ZERO && line.cost <= call.amount);
        prop_assert!(line.prompt_tokens >= 0 && line.completion_tokens >= 0);
        prop_assert!(line.prompt_tokens + line.completion_tokens <= call.tokens());
        prop_assert!(line.cached_tokens >= 0 && line.cached_tokens <= line.prompt_tokens);
        let as_claimed = line.prompt_tokens == p && line.cached_tokens == cached && line.completion_tokens == c;
        prop_assert!(line.estimated || as_claimed, "what was changed is flagged");
        prop_assert!(call.orphaned().cost == call.amount);
    }
}

#[tokio::test]
async fn a_dropped_reservation_is_cancelled_and_its_input_charged() {
    let house = House::with_budget(Window::Month, BUDGET).await;
    let reservation = house.account.reserve(ask(60, 40)).await.unwrap();
    let id = reservation.id();
    drop(reservation);
    until(|| house.counted(Window::Month).1 == 0).await;
    let [line] = &house.lines()[..] else { panic!() };
    assert_eq!(
        (line.id, line.status, line.cost, line.estimated),
        (id, Status::Cancelled, Nano(60), true)
    );
    assert_eq!(house.counted(Window::Month), (60, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_call_goes_out_owes_nothing() {
    let house = House::with_budget(Window::Month, BUDGET).await;
    for durable in [true, false] {
        let mut reserving = Box::pin(house.account.reserve(Ask { durable, ..ask(60, 40) }));
        // Polled until the decision is made, and never again.
        poll_until(&mut reserving, || house.counted(Window::Month).1 > 0).await;
        drop(reserving);
        until(|| house.counted(Window::Month).1 == 0 && house.reservations() == 0).await;
    }
    assert_eq!(house.lines(), []);
    assert_eq!(house.counted(Window::Month), (0, 0));
    let levels = house.account.rate_limits(Some("alice")).unwrap();
    assert!(levels.iter().all(|row| row.remaining == row.capacity), "{levels:?}");
    assert_eq!(house.account.audit().unwrap(), []);
}

/// Shifts the counters on disk, so that commits which add to one at its end fail.
async fn jam(house: &House, by: [i64; 2]) {
    let mut batch = house.batch();
    let found: Vec<_> = house
        .tenant
        .scan(Table::Counters, &[0])
        .map(|row| row.unwrap().0)
        .collect();
    assert!(!found.is_empty());
    for key in found {
        batch.add(Table::Counters, &key, &Sums(by.to_vec()));
    }
    house.tenant.commit(batch).await.unwrap();
}

#[tokio::test]
async fn a_reservation_whose_commit_fails_takes_nothing_in_memory_either() {
    let house = House::with_budget(Window::Month, BUDGET).await;
    house.call(ask(60, 40), end(10, 0)).await.unwrap();
    jam(&house, [0, i64::MAX - 20]).await;
    let before = house.account.rate_limits(None).unwrap();
    for _ in 0..30 {
        let error = house.account.reserve(ask(60, 40)).await.unwrap_err();
        assert_eq!(error.code(), Code::NumericOutOfRange);
    }
    assert_eq!(house.counted(Window::Month), (10, 0));
    assert_eq!(house.account.rate_limits(None).unwrap(), before);
    jam(&house, [0, 20 - i64::MAX]).await;
    house.call(ask(60, 40), end(10, 0)).await.unwrap();
    assert_eq!(house.counted(Window::Month), (20, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn the_money_is_written_even_if_what_goes_with_it_cannot_be() {
    let house = House::with_budget(Window::Month, BUDGET).await;
    let reservation = house.account.reserve(ask(60, 40)).await.unwrap();
    let mut extra = house.batch();
    extra.put(Table::Messages, b"m", vec![1]);
    extra.expect(
        Table::Messages,
        b"absent",
        Some(
            house
                .tenant
                .get(Table::Reservations, reservation.id().as_bytes())
                .unwrap()
                .unwrap()
                .version,
        ),
    );
    let error = reservation.settle(end(60, 10), extra).await.unwrap_err();
    assert_eq!(error.code(), Code::SerializationFailure);
    assert_eq!(house.tenant.get(Table::Messages, b"m").unwrap(), None);
    assert_eq!(house.counted(Window::Month), (70, 0));
    assert_eq!((house.lines().len(), house.reservations()), (1, 0));

    let reservation = house.account.reserve(ask(60, 40)).await.unwrap();
    let mut extra = house.batch();
    extra.put(Table::Messages, b"m", vec![1]);
    reservation.settle(end(60, 10), extra).await.unwrap();
    assert!(house.tenant.get(Table::Messages, b"m").unwrap().is_some());
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn a_settlement_that_cannot_be_written_stays_reserved_and_is_written_later() {
    let house = House::with_budget(Window::Month, BUDGET).await;
    let stuck = house.account.reserve(ask(60, 40)).await.unwrap();
    let other = house.account.reserve(ask(60, 40)).await.unwrap();
    jam(&house, [i64::MAX - 20, 0]).await;
    assert!(stuck.settle(end(60, 10), house.batch()).await.is_err());
    assert_eq!(house.counted(Window::Month), (0, 200));
    jam(&house, [20 - i64::MAX, 0]).await;
    other.settle(end(60, 20), house.batch()).await.unwrap();
    until(|| house.counted(Window::Month).1 == 0).await;
    assert_eq!(house.counted(Window::Month), (150, 0));
    assert_eq!((house.lines().len(), house.reservations()), (2, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn builtin_calls_write_once_and_count_all_the_same() {
    let house = House::with_budget(Window::Month, 100).await;
    let builtin = || Ask {
        durable: false,
        ..ask(60, 40)
    };
    let reservation = house.account.reserve(builtin()).await.unwrap();
    assert_eq!(house.reservations(), 0);
    assert_eq!(house.counted(Window::Month), (0, 100));
    assert!(house.account.reserve(builtin()).await.is_err());
    assert_eq!(house.account.audit().unwrap(), []);
    reservation.settle(end(60, 0), house.batch()).await.unwrap();
    assert_eq!(house.counted(Window::Month), (60, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

#[tokio::test]
async fn soft_budgets_alert_and_let_pass_and_used_up_ones_stop_free_calls_too() {
    let house = House::new().await;
    house
        .plan
        .lock()
        .unwrap()
        .set_budget(Window::Day, Some(Nano(10)), false)
        .unwrap();
    house.call(ask(60, 40), end(60, 40)).await.unwrap();
    assert_eq!(house.account.alerts().unwrap().len(), 3);
    house
        .plan
        .lock()
        .unwrap()
        .set_budget(Window::Day, Some(Nano(100)), true)
        .unwrap();
    let free = Ask {
        price: None,
        ..ask(60, 40)
    };
    let detail = refused(house.account.reserve(free).await);
    assert_eq!(detail["limit"], "daily_budget");
    assert_eq!(detail["used"].to_string().parse::<f64>().unwrap(), 1e-7);
    assert_eq!(detail["retry_after_ms"], 12 * 3_600 * 1_000);
    assert_eq!(detail["resets_at"], "2026-07-16T00:00:00.000Z");
    house.pass(DAY / 2 - 1);
    assert!(house.account.reserve(ask(1, 1)).await.is_err());
    house.pass(1);
    house.call(ask(1, 1), end(1, 1)).await.unwrap();
}

#[tokio::test]
async fn thresholds_are_told_once_a_window_when_they_are_durable() {
    let mut house = House::with_budget(Window::Month, 1_000).await;
    let mut told = house.account.subscribe();
    let mut thresholds = |house: &House| {
        let mut new = Vec::new();
        while let Ok(alert) = told.try_recv() {
            assert!(house.account.alerts().unwrap().contains(&alert));
            let data: serde_json::Value = serde_json::from_str(&alert.data).unwrap();
            assert_eq!(data["window"], "month");
            new.push(data["threshold"].as_i64().unwrap());
        }
        new
    };
    let spend = |amount| house.call(ask(amount, 0), end(amount, 0));
    spend(499).await.unwrap();
    assert_eq!(thresholds(&house), [0_i64; 0]);
    spend(1).await.unwrap();
    assert_eq!(thresholds(&house), [50]);
    spend(310).await.unwrap();
    assert_eq!(thresholds(&house), [80]);
    spend(50).await.unwrap();
    assert_eq!(thresholds(&house), [0_i64; 0]);
    for _ in 0..3 {
        assert!(spend(500).await.is_err()); // used up as far as it can be
    }
    until(|| house.account.alerts().unwrap().len() >= 3).await;
    tokio::task::yield_now().await;
    house.restart().await;
    house.call(ask(100, 0), end(100, 0)).await.unwrap();
    assert!(house.call(ask(100, 0), end(100, 0)).await.is_err());
    assert_eq!(house.account.alerts().unwrap().len(), 3);
    house.pass(31 * DAY);
    house.call(ask(900, 0), end(900, 0)).await.unwrap();
    assert_eq!(house.account.alerts().unwrap().len(), 5);
}

#[tokio::test]
async fn owners_set_lower_budgets_for_all_or_one_and_never_higher_ones() {
    let mut house = House::with_budget(Window::Month, 1_000).await;
    let account = house.account.clone();
    for (window, amount) in [(Window::Month, 1_001), (Window::Day, 1_001), (Window::Month, -1)] {
        let error = account.set_budget(None, window, Nano(amount), true).unwrap_err();
        assert_eq!(error.code(), Code::InvalidParameterValue);
    }
    apply(
        &account,
        account.set_budget(None, Window::Month, Nano(800), true).unwrap(),
    )
    .await;
    let of_bob = account.set_budget(Some("bob".to_owned()), Window::Day, Nano(100), true);
    apply(&account, of_bob.unwrap()).await;
    house.restart().await;
    let by = |user: &str| Ask {
        user: user.to_owned(),
        ..ask(100, 0)
    };
    house.call(by("bob"), end(100, 0)).await.unwrap();
    assert_eq!(
        refused(house.account.reserve(by("bob")).await)["limit"],
        "user_daily_budget"
    );
    for _ in 0..7 {
        house.call(by("alice"), end(100, 0)).await.unwrap();
    }
    assert_eq!(
        refused(house.account.reserve(by("alice")).await)["limit"],
        "monthly_budget"
    );
    let rows = house.account.budgets(Some("bob")).unwrap();
    let bob = rows.iter().find(|row| row.user.is_some()).unwrap();
    assert_eq!((bob.spent, bob.remaining, bob.hard), (Nano(100), Nano(0), true));
    apply(&house.account, house.account.clear_budget(None, Window::Month).unwrap()).await;
    house.call(by("alice"), end(100, 0)).await.unwrap();
}

#[tokio::test]
async fn f15_what_is_affordable_is_admitted_and_a_token_more_is_not() {
    let house = House::with_budget(Window::Month, 1_000).await;
    house.call(ask(123, 0), end(123, 0)).await.unwrap();
    let price = price([2, 3, 7, 5, 0]);
    let most = house.account.affordable("alice", &price, 100).unwrap().unwrap();
    assert_eq!(most, (1_000 - 123 - 300) / 7);
    let with = |completion| Ask {
        price: Some(price.clone()),
        ..ask(100, completion)
    };
    assert!(house.account.reserve(with(most + 1)).await.is_err());
    drop(house.account.reserve(with(most)).await.unwrap());
    assert_eq!(house.account.affordable("alice", &price, 1_000).unwrap(), Some(0));
}

#[tokio::test]
async fn a_refusal_is_the_end_of_a_budget_only_where_little_is_left() {
    let house = House::with_budget(Window::Day, 100).await;
    assert!(house.account.reserve(ask(101, 0)).await.is_err());
    house.call(ask(79, 0), end(79, 0)).await.unwrap();
    let held = house.account.reserve(ask(21, 0)).await.unwrap();
    assert!(house.account.reserve(ask(1, 0)).await.is_err());
    assert_eq!(house.account.alerts().unwrap().len(), 1, "50 % are spent");
    held.settle(end(2, 0), house.batch()).await.unwrap();
    assert!(house.account.reserve(ask(20, 0)).await.is_err());
    until(|| house.account.alerts().unwrap().len() >= 3).await;
    let last = house.account.alerts().unwrap().pop().unwrap();
    assert!(last.message.contains("used up (0.000000081 USD)"), "{}", last.message);
}
