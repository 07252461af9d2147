//! What the operator is shown of an account is what the tenant's own rows say.

use std::collections::BTreeMap;

use super::*;
use crate::{
    codec::key,
    ledger::alert::{self, alerts},
};

/// Spent and reserved by window and its first moment.
type Windows = BTreeMap<(u8, i64), Vec<i64>>;

impl House {
    /// As it is stored for the tenant.
    fn stored(&self) -> Windows {
        let found = self.tenant.scan(Table::Counters, &[0]).map(|row| row.unwrap().0);
        let window = |at: Vec<u8>| {
            let sums = self.tenant.sums(Table::Counters, &at).unwrap().unwrap();
            let series = Window::ALL
                .into_iter()
                .find(|window| *window as u8 == at[1])
                .unwrap()
                .series();
            ((series, key::take_i64(&at[2..]).unwrap().0), sums.0)
        };
        found.map(window).collect()
    }

    /// As the operator sees it.
    fn shown(&self) -> Windows {
        let operator = testing::operator(&self.directory, "operator's");
        let of_window = |window: Window| {
            let rows = operator.amounts(window.series()).unwrap().into_iter();
            rows.map(move |(_, start, sums)| ((window.series(), start), sums.0))
        };
        Window::ALL.into_iter().flat_map(of_window).collect()
    }

    fn alerts_shown(&self) -> Vec<i64> {
        let operator = testing::operator(&self.directory, "operator's");
        let mut counts = vec![0; alert::THRESHOLDS.len()];
        for (_, _, sums) in operator.amounts(alert::SERIES).unwrap() {
            counts.iter_mut().zip(sums.0).for_each(|(count, more)| *count += more);
        }
        counts
    }
}

#[tokio::test]
async fn windows_shown_are_those_stored_through_calls_crashes_and_zones() {
    let mut house = House::with_budget(Window::Day, 1_000).await;
    let mut steps = 0;
    let mut check = |house: &House| {
        assert_eq!(house.shown(), house.stored(), "after step {steps}");
        assert_eq!(house.account.audit().unwrap(), [], "after step {steps}");
        steps += 1;
    };
    house.call(ask(100, 50), end(100, 20)).await.unwrap();
    check(&house);
    let running = house.account.reserve(ask(40, 30)).await.unwrap();
    check(&house);
    assert!(
        house.shown().values().any(|sums| sums[1] == 70),
        "what is reserved is shown"
    );
    for zone in ["Asia/Tokyo", "UTC", "America/New_York", "UTC"] {
        house.plan.lock().unwrap().timezone = zone.to_owned();
        house.call(ask(7, 0), end(7, 0)).await.unwrap();
        check(&house);
        house.pass(5 * 3_600 * SECOND);
    }
    running.settle(end(40, 10), house.batch()).await.unwrap();
    check(&house);
    std::mem::forget(house.account.reserve(ask(11, 0)).await.unwrap());
    check(&house);
    house.restart().await;
    check(&house);
    drop(house.account.reserve(ask(13, 0)).await.unwrap());
    house.call(ask(1, 0), end(1, 0)).await.unwrap();
    check(&house);
    house.pass(40 * DAY);
    house.call(ask(3, 0), end(3, 0)).await.unwrap();
    check(&house);
    assert!(house.shown().len() > 3, "several windows were counted");
}

#[tokio::test]
async fn every_alert_is_counted_once_and_nothing_of_it_is_told() {
    let house = House::with_budget(Window::Day, 100).await;
    house.call(ask(60, 0), end(60, 0)).await.unwrap();
    assert_eq!(house.alerts_shown(), [1, 0, 0]);
    house.call(ask(40, 0), end(40, 0)).await.unwrap();
    assert_eq!(house.alerts_shown(), [1, 1, 1]);
    refused(house.account.reserve(ask(1, 0)).await);
    house.pass(DAY);
    house.call(ask(55, 0), end(55, 0)).await.unwrap();
    assert_eq!(house.alerts_shown(), [2, 1, 1]);
    assert_eq!(alerts(&house.tenant).unwrap().len(), 4);
    let payload = alerts(&house.tenant).unwrap()[0].payload();
    let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(payload["data"]["threshold"], 50);
    assert_eq!(payload["at"], "2026-07-15T12:00:00.000Z");
}
