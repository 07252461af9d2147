//! Worked cases of the price formula, from a price file to the usage line.

use super::*;
use crate::ledger::{litellm, price::Prices, published::FromRows};

const FILE: &str = r#"{
    "gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.5e-07, "cache_read_input_token_cost": 7.5e-08, "output_cost_per_token": 6e-07},
    "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06, "cache_read_input_token_cost": 1.25e-06, "output_cost_per_token": 1e-05},
    "o4-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.1e-06, "cache_read_input_token_cost": 2.75e-07, "output_cost_per_token": 4.4e-06},
    "thinker": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-07, "cache_read_input_token_cost": 3e-08, "output_cost_per_token": 2.5e-06, "output_cost_per_reasoning_token": 3.5e-06},
    "text-embedding-3-small": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08},
    "text-embedding-3-large": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 1.3e-07},
    "cheapest": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-09, "cache_read_input_token_cost": 1e-09, "output_cost_per_token": 2e-09}
}"#;

/// Model; prompt, cached, completion and reasoning tokens; nano-USD. Worked outside of this program
/// in decimal arithmetic, from the USD prices above.
const CASES: &[(&str, [i64; 4], i64)] = &[
    ("gpt-4o-mini", [1, 0, 0, 0], 150),
    ("gpt-4o-mini", [0, 0, 1, 0], 600),
    ("gpt-4o-mini", [1, 1, 0, 0], 75),
    ("gpt-4o-mini", [1, 0, 1, 0], 750),
    ("gpt-4o-mini", [1_000, 0, 500, 0], 450_000),
    ("gpt-4o-mini", [1_000, 1_000, 500, 0], 375_000),
    ("gpt-4o-mini", [1_000, 999, 500, 500], 375_075),
    ("gpt-4o-mini", [128_000, 0, 16_384, 0], 29_030_400),
    ("gpt-4o-mini", [1_000_000, 0, 1_000_000, 0], 750_000_000),
    ("gpt-4o-mini", [0, 0, 0, 0], 0),
    ("gpt-4o", [1, 0, 1, 0], 12_500),
    ("gpt-4o", [1, 1, 1, 1], 11_250),
    ("gpt-4o", [2_006, 1_920, 300, 0], 5_615_000),
    ("gpt-4o", [7_777, 128, 333, 0], 22_612_500),
    ("gpt-4o", [1_000_000, 500_000, 0, 0], 1_875_000_000),
    ("o4-mini", [75, 0, 1_186, 1_024], 5_300_900),
    ("o4-mini", [75, 64, 1_186, 1_186], 5_248_100),
    ("o4-mini", [3, 1, 2, 1], 11_275),
    ("o4-mini", [200_000, 199_999, 100_000, 99_999], 495_000_825),
    ("thinker", [1, 0, 1, 1], 3_800),
    ("thinker", [1, 0, 1, 0], 2_800),
    ("thinker", [500, 100, 2_000, 1_500], 6_623_000),
    ("thinker", [1_048_576, 1_048_575, 65_535, 65_534], 260_829_050),
    ("thinker", [10, 10, 10, 10], 35_300),
    ("text-embedding-3-small", [1, 0, 0, 0], 20),
    ("text-embedding-3-small", [8_191, 0, 0, 0], 163_820),
    ("text-embedding-3-small", [10_000_000, 0, 0, 0], 200_000_000),
    ("text-embedding-3-large", [1, 0, 0, 0], 130),
    ("text-embedding-3-large", [513, 0, 0, 0], 66_690),
    ("cheapest", [1, 0, 0, 0], 1),
    ("cheapest", [1, 1, 1, 0], 3),
    ("cheapest", [10_000_000, 0, 10_000_000, 0], 30_000_000),
];

/// The prices of a file from one day on, and those of another from a later day on.
fn prices(files: &[(&str, i32)]) -> Prices {
    let rows = files.iter().flat_map(|(file, from)| {
        let import = litellm::import(file, Day(*from)).unwrap();
        assert_eq!((import.rounded.len(), import.skipped.len()), (0, 0));
        import.prices
    });
    let rows = rows.map(|price| (price.key(), price.encode().unwrap()));
    Prices::from_rows(&rows.collect::<Vec<_>>()).unwrap()
}

fn priced(prices: &Prices, model: &str, [prompt, _, completion, _]: [i64; 4], day: Day) -> Ask {
    let price = prices.get("openai", model, day).unwrap();
    let operation = match price.embedding > Nano::ZERO {
        true => Operation::Embed,
        false => Operation::Complete,
    };
    Ask {
        model: model.to_owned(),
        price: Some(price.clone()),
        operation,
        ..ask(prompt, completion)
    }
}

#[tokio::test]
async fn f08_worked_cases_are_exact_to_the_nano() {
    const { assert!(CASES.len() >= 30) };
    let house = House::new().await;
    let prices = prices(&[(FILE, 0)]);
    for (model, tokens, expected) in CASES {
        let [prompt, cached, completion, reasoning] = *tokens;
        let ended = End {
            cached,
            reasoning,
            ..end(prompt, completion)
        };
        let line = house
            .call(priced(&prices, model, *tokens, Day(20_000)), ended)
            .await
            .unwrap();
        assert_eq!(
            (line.cost, line.estimated),
            (Nano(*expected), false),
            "{model} {tokens:?}"
        );
        assert_eq!(
            (line.prompt_tokens, line.cached_tokens, line.completion_tokens),
            (prompt, cached, completion)
        );
    }
    let sum: i64 = CASES.iter().map(|(.., cost)| cost).sum();
    assert_eq!(house.counted(Window::Month), (sum, 0));
    assert_eq!(house.account.audit().unwrap(), []);
}

/// Prices are halved on the 16th; a call belongs to the day on which it was reserved.
#[tokio::test]
async fn f08_a_price_that_changes_in_mid_month_holds_from_its_day_on() {
    let house = House::new().await;
    let change = Day::of_micros(NOON).0 + 1;
    let halved = r#"{"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.25e-6,
        "cache_read_input_token_cost": 6.25e-7, "output_cost_per_token": 0.000005}}"#;
    let prices = prices(&[(FILE, 0), (halved, change)]);
    let tokens = [1_000, 0, 100, 0];
    let today = |house: &House| Day::of_micros(house.wall.load(Ordering::SeqCst));
    // Before: 1,000 x 2,500 + 100 x 10,000. After: half of it.
    let before = house
        .call(priced(&prices, "gpt-4o", tokens, today(&house)), end(1_000, 100))
        .await
        .unwrap();
    assert_eq!(before.cost, Nano(3_500_000));
    let across = house
        .account
        .reserve(priced(&prices, "gpt-4o", tokens, today(&house)))
        .await
        .unwrap();
    house.pass(DAY);
    let after = house
        .call(priced(&prices, "gpt-4o", tokens, today(&house)), end(1_000, 100))
        .await
        .unwrap();
    let across = across.settle(end(1_000, 100), house.batch()).await.unwrap();
    assert_eq!((after.cost, across.cost), (Nano(1_750_000), Nano(3_500_000)));
    assert_eq!(before.price_id.as_deref(), Some("openai/gpt-4o@1970-01-01"));
    assert_eq!(across.price_id, before.price_id);
    assert_eq!(after.price_id.as_deref(), Some("openai/gpt-4o@2026-07-16"));
    assert_eq!(house.counted(Window::Month), (8_750_000, 0));
}
