//! Prices by date, as the operator's rows of `bulkhead.model_prices`.
//!
//! All prices are whole nano-USD a token, so that a cost is an exact integer sum and nothing is ever
//! rounded here. What the database itself does is priced an event, in the `input` column.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    model::{BUILTIN, BUILTIN_EXTRACTIVE, BUILTIN_HASH},
    money::{Day, Nano, out_of_range},
    published::FromRows,
    row,
};
use crate::{
    codec::key,
    error::{Code, Error, Result},
    tenant::Published,
};

/// The provider of what the database does by itself.
pub const DATABASE: &str = "database";
/// Model id of an executed statement, priced an event.
pub const STATEMENT: &str = "statement";
/// Model id of a vector search, priced an event.
pub const VECTOR_SEARCH: &str = "vector-search";

/// Prices of a new data directory: provider, model, then nano-USD for input, cached input, output,
/// reasoning and embedding. They hold from 1970 on.
const DEFAULTS: &[(&str, &str, [i64; 5])] = &[
    (BUILTIN, BUILTIN_EXTRACTIVE, [10, 10, 40, 40, 0]),
    (BUILTIN, BUILTIN_HASH, [0, 0, 0, 0, 1]),
    (DATABASE, STATEMENT, [200, 0, 0, 0, 0]),
    (DATABASE, VECTOR_SEARCH, [1_000, 0, 0, 0, 0]),
];

/// One row of `bulkhead.model_prices`. Amounts are nano-USD a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Name in `bulkhead.providers`, [`BUILTIN`] or [`DATABASE`].
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// The first UTC day on which it holds.
    pub valid_from: Day,
    /// A token of the prompt; for [`DATABASE`], an event.
    pub input: Nano,
    /// A token of the prompt that the provider had cached.
    pub cached_input: Nano,
    /// A token of the answer.
    pub output: Nano,
    /// A token of the answer spent on reasoning.
    pub reasoning: Nano,
    /// A token turned into a vector.
    pub embedding: Nano,
}

/// How many tokens one call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    prompt: i64,
    cached: i64,
    completion: i64,
    reasoning: i64,
}

impl Tokens {
    /// `cached` of the `prompt` tokens and `reasoning` of the `completion` tokens have prices of their
    /// own.
    ///
    /// # Errors
    /// [`Code::DataException`] if a count is negative or a part is larger than its whole.
    pub fn new(prompt: i64, cached: i64, completion: i64, reasoning: i64) -> Result<Self> {
        if cached < 0 || reasoning < 0 || cached > prompt || reasoning > completion {
            return Err(Error::new(
                Code::DataException,
                format!(
                    "impossible token counts: {cached} cached of {prompt} prompt tokens, {reasoning} reasoning of \
                     {completion} completion tokens"
                ),
            ));
        }
        Ok(Self {
            prompt,
            cached,
            completion,
            reasoning,
        })
    }
}

impl Price {
    /// What names this row in usage lines: `provider/model@2026-01-31`.
    pub fn id(&self) -> String {
        format!("{}/{}@{}", self.provider, self.model, self.valid_from)
    }

    /// The key of this row: provider, model, day.
    pub fn key(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        key::put_bytes(&mut bytes, self.provider.as_bytes());
        key::put_bytes(&mut bytes, self.model.as_bytes());
        key::put_i64(&mut bytes, i64::from(self.valid_from.0));
        bytes
    }

    /// The stored value.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] for a negative price.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let amounts = [
            self.input,
            self.cached_input,
            self.output,
            self.reasoning,
            self.embedding,
        ];
        if amounts.iter().any(|amount| *amount < Nano::ZERO) {
            return Err(Error::new(Code::InvalidParameterValue, "a price cannot be negative"));
        }
        row::encode(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn decode(value: &[u8]) -> Result<Self> {
        row::decode("price", value)
    }

    /// The cost of an answer.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn call(&self, tokens: Tokens) -> Result<Nano> {
        let parts = [
            (self.input, tokens.prompt - tokens.cached),
            (self.cached_input, tokens.cached),
            (self.output, tokens.completion - tokens.reasoning),
            (self.reasoning, tokens.reasoning),
        ];
        parts
            .into_iter()
            .try_fold(Nano::ZERO, |sum, (price, count)| sum.plus(price.times(count)?))
    }

    /// The most that so many tokens sent and received can cost, whichever of them are cached or reasoning.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`].
    pub fn worst(&self, prompt: i64, completion: i64) -> Result<Nano> {
        let input = self.input.max(self.cached_input).times(prompt)?;
        input.plus(self.output.max(self.reasoning).times(completion)?)
    }

    /// The cost of turning `tokens` into vectors.
    ///
    /// # Errors
    /// [`Code::NumericOutOfRange`], also for a negative count.
    pub fn embed(&self, tokens: i64) -> Result<Nano> {
        if tokens < 0 {
            Err(out_of_range())
        } else {
            self.embedding.times(tokens)
        }
    }

    /// The cost of one event of [`DATABASE`].
    pub fn event(&self) -> Nano {
        self.input
    }
}

/// The prices of a new data directory.
pub fn defaults() -> impl Iterator<Item = Price> {
    DEFAULTS.iter().map(
        |(provider, model, [input, cached_input, output, reasoning, embedding])| Price {
            provider: (*provider).to_owned(),
            model: (*model).to_owned(),
            valid_from: Day(0),
            input: Nano(*input),
            cached_input: Nano(*cached_input),
            output: Nano(*output),
            reasoning: Nano(*reasoning),
            embedding: Nano(*embedding),
        },
    )
}

/// All prices of one generation.
#[derive(Clone, Debug, Default)]
pub struct Prices(HashMap<String, HashMap<String, Vec<Price>>>);

impl Prices {
    /// The price of a provider's model on a day: the newest that is valid by then.
    pub fn get(&self, provider: &str, model: &str, day: Day) -> Option<&Price> {
        let history = self.0.get(provider)?.get(model)?;
        let newer = history.partition_point(|price| price.valid_from <= day);
        newer.checked_sub(1).and_then(|last| history.get(last))
    }
}

impl FromRows for Prices {
    const KIND: Published = Published::Prices;

    fn from_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Self> {
        let mut prices = Self::default();
        for (_, value) in rows {
            let price = Price::decode(value)?;
            let models = prices.0.entry(price.provider.clone()).or_default();
            models.entry(price.model.clone()).or_default().push(price);
        }
        for history in prices.0.values_mut().flat_map(HashMap::values_mut) {
            history.sort_by_key(|price| price.valid_from);
        }
        Ok(prices)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{array::uniform4, prelude::*};

    use super::*;

    fn price(valid_from: i32, [input, cached, output, reasoning, embedding]: [i64; 5]) -> Price {
        Price {
            provider: "openai".to_owned(),
            model: "m".to_owned(),
            valid_from: Day(valid_from),
            input: Nano(input),
            cached_input: Nano(cached),
            output: Nano(output),
            reasoning: Nano(reasoning),
            embedding: Nano(embedding),
        }
    }

    fn prices(rows: &[Price]) -> Prices {
        let rows = rows.iter().map(|p| (p.key(), p.encode().unwrap())).collect::<Vec<_>>();
        Prices::from_rows(&rows).unwrap()
    }

    #[test]
    fn a_cost_is_the_sum_of_its_parts() {
        let price = price(0, [150, 75, 600, 700, 20]);
        let tokens = Tokens::new(1_000, 200, 300, 100).unwrap();
        // 800 x 150 + 200 x 75 + 200 x 600 + 100 x 700
        assert_eq!(price.call(tokens).unwrap(), Nano(120_000 + 15_000 + 120_000 + 70_000));
        assert_eq!(price.embed(1_000).unwrap(), Nano(20_000));
        assert_eq!(price.call(Tokens::default()).unwrap(), Nano::ZERO);
        assert_eq!(price.id(), "openai/m@1970-01-01");
    }

    #[test]
    fn ten_million_calls_of_one_token_lose_nothing() {
        let price = price(0, [10, 0, 0, 0, 0]);
        let one = price.call(Tokens::new(1, 0, 0, 0).unwrap()).unwrap();
        let sum = (0..10_000_000).try_fold(Nano::ZERO, |sum, _| sum.plus(one)).unwrap();
        assert_eq!(sum.to_string(), "0.100000000");
    }

    #[test]
    fn extremes_are_errors_and_never_wrap() {
        let dear = price(0, [i64::MAX, 0, i64::MAX, 0, i64::MAX]);
        assert!(dear.call(Tokens::new(1, 0, 0, 0).unwrap()).is_ok());
        assert!(dear.call(Tokens::new(1, 0, 1, 0).unwrap()).is_err());
        assert!(dear.embed(2).is_err());
        assert!(dear.embed(-1).is_err());
        assert!(Tokens::new(1, 2, 0, 0).is_err());
        assert!(Tokens::new(-1, 0, 0, 0).is_err());
        assert!(Tokens::new(0, 0, 1, -1).is_err());
        assert!(Tokens::new(i64::MIN, 0, 0, 0).is_err());
        assert!(price(0, [-1, 0, 0, 0, 0]).encode().is_err());
    }

    #[test]
    fn a_price_change_holds_from_its_day_on() {
        let prices = prices(&[
            price(100, [3, 0, 0, 0, 0]),
            price(10, [2, 0, 0, 0, 0]),
            price(15, [9, 0, 0, 0, 0]),
        ]);
        let input = |day| prices.get("openai", "m", Day(day)).map(|p| p.input.0);
        assert_eq!(
            [9, 10, 14, 15, 99, 100, 5_000].map(input),
            [None, Some(2), Some(2), Some(9), Some(9), Some(3), Some(3)]
        );
        assert!(prices.get("openai", "other", Day(10)).is_none());
        assert!(prices.get("other", "m", Day(10)).is_none());
    }

    #[test]
    fn every_built_in_model_has_a_price() {
        let prices = prices(&defaults().collect::<Vec<_>>());
        for model in super::super::model::defaults() {
            assert!(
                prices.get(&model.provider, &model.model, Day(0)).is_some(),
                "{}",
                model.name
            );
        }
        assert_eq!(prices.get(DATABASE, STATEMENT, Day(20_000)).unwrap().event(), Nano(200));
        assert_eq!(
            prices.get(DATABASE, VECTOR_SEARCH, Day(20_000)).unwrap().event(),
            Nano(1_000)
        );
    }

    proptest! {
        #[test]
        fn costs_equal_wide_arithmetic(p in uniform4(0_i64..1_000_000_000), t in uniform4(0_i64..1_000_000_000)) {
            let price = price(0, [p[0], p[1], p[2], p[3], 0]);
            let tokens = Tokens::new(t[0] + t[1], t[1], t[2] + t[3], t[3]).unwrap();
            let exact: i128 = p.iter().zip(t).map(|(p, t)| i128::from(*p) * i128::from(t)).sum();
            prop_assert_eq!(price.call(tokens).unwrap().decimal(), exact);
        }
    }
}
