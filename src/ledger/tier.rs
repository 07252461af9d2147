//! Tiers: what a tenant may use, as the operator's rows of `bulkhead.tiers`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    money::{NANO, Nano},
    published::FromRows,
    row,
};
use crate::{codec::key, error::Result, tenant::Published};

/// One row of `bulkhead.tiers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// The name that tenants carry.
    pub name: String,
    /// Alias in `bulkhead.models` of the chat model.
    pub model: String,
    /// Most tokens of one answer.
    pub max_tokens: i32,
    /// Sampling temperature in thousandths: 700 is 0.7.
    pub temperature_milli: i32,
    /// Tokens a UTC day.
    pub tokens_per_day: i64,
    /// Tokens a minute.
    pub tokens_per_minute: i64,
    /// Budget of a calendar month.
    pub monthly_budget: Nano,
    /// Whether `ai.fine_tune` is allowed.
    pub fine_tuning: bool,
    /// Whether a system prompt of the tenant's own is allowed.
    pub custom_prompt: bool,
    /// Calls of models a minute.
    pub requests_per_minute: i64,
    /// Calls of models at once.
    pub concurrent_calls: i64,
}

impl Tier {
    /// The key of this row.
    pub fn key(&self) -> Vec<u8> {
        Self::key_of(&self.name)
    }

    /// The key of the row of this name.
    pub fn key_of(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        key::put_bytes(&mut bytes, name.as_bytes());
        bytes
    }

    /// The stored value.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// [`Code::Corrupted`](crate::error::Code::Corrupted).
    pub fn decode(value: &[u8]) -> Result<Self> {
        row::decode("tier", value)
    }
}

/// The three tiers of a new data directory.
pub fn defaults() -> [Tier; 3] {
    let tier =
        |name: &str, model: &str, max_tokens, temperature_milli, tokens: [i64; 2], usd: i64, calls: [i64; 2]| Tier {
            name: name.to_owned(),
            model: model.to_owned(),
            max_tokens,
            temperature_milli,
            tokens_per_day: tokens[0],
            tokens_per_minute: tokens[1],
            monthly_budget: Nano(usd * NANO),
            fine_tuning: false,
            custom_prompt: false,
            requests_per_minute: calls[0],
            concurrent_calls: calls[1],
        };
    [
        tier("free", "default-small", 500, 700, [50_000, 1_000], 5, [60, 4]),
        tier("pro", "default-large", 2_000, 700, [500_000, 10_000], 200, [600, 16]),
        Tier {
            fine_tuning: true,
            custom_prompt: true,
            ..tier(
                "enterprise",
                "default-large",
                4_000,
                300,
                [5_000_000, 100_000],
                5_000,
                [6_000, 64],
            )
        },
    ]
}

/// All tiers of one generation, by name.
#[derive(Clone, Debug, Default)]
pub struct Tiers(BTreeMap<String, Tier>);

impl Tiers {
    /// The tier of this name.
    pub fn get(&self, name: &str) -> Option<&Tier> {
        self.0.get(name)
    }

    /// Every tier, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tier> {
        self.0.values()
    }
}

impl FromRows for Tiers {
    const KIND: Published = Published::Tiers;

    fn from_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Self> {
        let tiers = rows
            .iter()
            .map(|(_, value)| Tier::decode(value).map(|tier| (tier.name.clone(), tier)));
        Ok(Self(tiers.collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_survive_storage() {
        for tier in defaults() {
            assert_eq!(Tier::decode(&tier.encode().unwrap()).unwrap(), tier);
        }
        let [free, _, enterprise] = defaults();
        assert_eq!(free.monthly_budget.to_string(), "5.000000000");
        assert!(enterprise.fine_tuning && !free.fine_tuning);
        assert!(Tier::decode(&[]).is_err());
        assert!(Tier::decode(&[9, 1, 2]).is_err());
        let mut long = free.encode().unwrap();
        long.push(0);
        assert!(Tier::decode(&long).is_err());
    }
}
