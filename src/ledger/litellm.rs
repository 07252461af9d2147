//! LiteLLM's price file: a JSON object of models with their prices in USD a token.
//!
//! Prices are read as decimal text, never as floats, and become whole nano-USD a token. One rule for
//! what is finer than that: it is rounded up, so that a provider is never paid more than a tenant was
//! charged, and listed in [`Import::rounded`]. (10⁻⁹ USD a token is a millionth token for 0.001 USD;
//! chat models cost 20 to 100,000 times that.)

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::Value;

use super::{
    model::Kind,
    money::{Day, Nano},
    price::Price,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// Digits after the decimal point of a price in USD that are kept.
const DECIMALS: i64 = 9;
/// The entry that documents the format.
const SAMPLE: &str = "sample_spec";
/// Modes whose answers are charged by the token.
const CHAT_MODES: [&str; 3] = ["chat", "completion", "responses"];

/// What a price file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// One row for each model that has a price.
    pub prices: Vec<Price>,
    /// What the file says of these models beside prices.
    pub models: Vec<Known>,
    /// Prices finer than a nano-USD a token.
    pub rounded: Vec<Rounded>,
    /// Models that cost more per token in long prompts, which rows of prices cannot say: these hold the
    /// price of short ones.
    pub long_context: Vec<String>,
    /// Entries that were left out.
    pub skipped: Vec<Skipped>,
}

/// A model as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// As in [`Price::provider`].
    pub provider: String,
    /// As in [`Price::model`].
    pub model: String,
    /// What it does.
    pub kind: Kind,
    /// Tokens it takes, if that is said.
    pub max_input_tokens: Option<i64>,
    /// Most tokens of one answer, if that is said.
    pub max_output_tokens: Option<i64>,
    /// The day from which the provider stops serving it, if that is said.
    pub retires_on: Option<Day>,
}

/// A price that was rounded up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rounded {
    /// Its entry.
    pub name: String,
    /// Its field.
    pub field: &'static str,
    /// As it stands in the file, in USD.
    pub usd: String,
    /// What it became.
    pub nano: Nano,
}

/// An entry that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// Reads a price file. Its prices hold from `valid_from` on.
///
/// The provider is `litellm_provider`, the model the entry's name without the provider before a
/// slash. What has no price of its own is charged as the whole it is part of: cached input as input,
/// reasoning as output. For embeddings the input price is the embedding price.
///
/// # Errors
/// [`Code::InvalidText`] if it is no JSON object, [`Code::TooLarge`] over
/// [`limits::PRICE_FILE_BYTES`]. An entry that cannot be used is listed in [`Import::skipped`].
pub fn import(json: &str, valid_from: Day) -> Result<Import> {
    if json.len() > limits::PRICE_FILE_BYTES {
        let most = limits::PRICE_FILE_BYTES;
        return Err(Error::new(
            Code::TooLarge,
            format!("a price file has at most {most} bytes"),
        ));
    }
    let file: BTreeMap<String, Value> = serde_json::from_str(&numbers_as_text(json)).map_err(|e| {
        Error::new(Code::InvalidText, "the price file is not a JSON object of models")
            .with_hint("give the content of LiteLLM's model_prices_and_context_window.json")
            .with_source(e)
    })?;
    let mut import = Import::default();
    let mut seen = BTreeMap::new();
    for (name, fields) in &file {
        if name == SAMPLE {
            continue;
        }
        let mut rounded = Vec::new();
        let read = entry(name, fields, valid_from, &mut rounded).and_then(|(price, known)| {
            let place = (price.provider.clone(), price.model.clone());
            match seen.insert(place, name) {
                // `gpt-4o` and `openai/gpt-4o` are one model; BTreeMap's order makes the choice stable.
                Some(first) => Err(format!("the model is listed as {first} already")),
                None => Ok((price, known)),
            }
        });
        match read {
            Ok((price, known)) => {
                import.prices.push(price);
                import.models.push(known);
                import.rounded.append(&mut rounded);
                if has_long_context_price(fields) {
                    import.long_context.push(name.clone());
                }
            }
            Err(why) => import.skipped.push(Skipped {
                name: name.clone(),
                why,
            }),
        }
    }
    Ok(import)
}

/// One model, or why it is left out.
fn entry(name: &str, fields: &Value, valid_from: Day, rounded: &mut Vec<Rounded>) -> Result<(Price, Known), String> {
    let text = |field: &str| fields.get(field).and_then(Value::as_str);
    let provider = text("litellm_provider").ok_or("it names no litellm_provider")?;
    let kind = match text("mode") {
        Some("embedding") => Kind::Embedding,
        Some(mode) if CHAT_MODES.contains(&mode) => Kind::Chat,
        Some(mode) => return Err(format!("mode {mode} is not charged by the token")),
        None => return Err("it names no mode".to_owned()),
    };
    let model = name
        .strip_prefix(provider)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(name);
    if model.is_empty() || provider.is_empty() {
        return Err("it has no name".to_owned());
    }
    let mut cost = |field: &'static str| -> Result<Option<Nano>, String> {
        let usd = match fields.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(usd)) => usd,
            Some(_) => return Err(format!("{field} is not a number")),
        };
        let (nano, exact) = nano(usd).ok_or_else(|| format!("{field} is not a price"))?;
        if !exact {
            rounded.push(Rounded {
                name: name.to_owned(),
                field,
                usd: usd.clone(),
                nano,
            });
        }
        Ok(Some(nano))
    };
    let input = cost("input_cost_per_token")?.ok_or("it has no input_cost_per_token")?;
    let output = cost("output_cost_per_token")?;
    let cached = cost("cache_read_input_token_cost")?;
    let reasoning = cost("output_cost_per_reasoning_token")?;
    let mut price = Price {
        provider: provider.to_owned(),
        model: model.to_owned(),
        valid_from,
        input: Nano::ZERO,
        cached_input: Nano::ZERO,
        output: Nano::ZERO,
        reasoning: Nano::ZERO,
        embedding: Nano::ZERO,
    };
    match kind {
        Kind::Embedding => price.embedding = input,
        Kind::Chat => {
            price.input = input;
            price.cached_input = cached.unwrap_or(input);
            price.output = output.ok_or("it has no output_cost_per_token")?;
            price.reasoning = reasoning.unwrap_or(price.output);
        }
    }
    if price.key().len() > limits::KEY_BYTES {
        return Err("its name is too long".to_owned());
    }
    let count = |field: &str| text(field).and_then(|count| count.parse::<i64>().ok());
    let known = Known {
        provider: price.provider.clone(),
        model: price.model.clone(),
        kind,
        max_input_tokens: count("max_input_tokens"),
        max_output_tokens: count("max_output_tokens").or_else(|| count("max_tokens")),
        retires_on: text("deprecation_date").and_then(|date| {
            let date = date.parse::<NaiveDate>().ok()?;
            Some(Day(date.to_epoch_days()))
        }),
    };
    Ok((price, known))
}

/// Such as `input_cost_per_token_above_200k_tokens`.
fn has_long_context_price(fields: &Value) -> bool {
    let names = fields.as_object().into_iter().flat_map(|fields| fields.keys());
    names.into_iter().any(|name| name.contains("_cost_per_token_above_"))
}

/// Puts every number of a JSON text in quotes, so that no parser makes a float of it.
fn numbers_as_text(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 8);
    let (mut in_string, mut escaped, mut in_number) = (false, false, false);
    for c in json.chars() {
        let of_number = c.is_ascii_digit() || matches!(c, '-' | '+' | '.') || (in_number && matches!(c, 'e' | 'E'));
        if !in_string && in_number != of_number {
            out.push('"');
            in_number = of_number;
        }
        if in_string {
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
        } else if c == '"' {
            in_string = true;
        }
        out.push(c);
    }
    if in_number {
        out.push('"');
    }
    out
}

/// USD in decimal or scientific notation as nano-USD, rounded up, and whether that is exact. `None`
/// if it is no such number, negative, or beyond `i64`.
fn nano(usd: &str) -> Option<(Nano, bool)> {
    let (mantissa, exponent) = match usd.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (usd, 0),
    };
    let mantissa = mantissa.strip_prefix('+').unwrap_or(mantissa);
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some((Nano::ZERO, true));
    }
    // The price is `digits` x 10^shift nano-USD.
    let shift = exponent
        .checked_sub(i64::try_from(part.len()).ok()?)?
        .checked_add(DECIMALS)?;
    if shift >= 0 {
        let zeros = u32::try_from(shift).ok()?;
        let value = digits.parse::<i64>().ok()?.checked_mul(10_i64.checked_pow(zeros)?)?;
        return Some((Nano(value), true));
    }
    let cut = usize::try_from(shift.unsigned_abs()).ok()?;
    let (kept, lost) = digits.split_at(digits.len().saturating_sub(cut));
    let exact = lost.bytes().all(|b| b == b'0');
    let kept = match kept {
        "" => 0,
        kept => kept.parse::<i64>().ok()?,
    };
    Some((Nano(kept.checked_add(i64::from(!exact))?), exact))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_are_exact_or_rounded_up() {
        let cases = [
            ("1.5e-07", 150, true),
            ("1.5E-7", 150, true),
            ("0.00000015", 150, true),
            ("+2e-6", 2_000, true),
            ("2.50e-06", 2_500, true),
            ("1e-9", 1, true),
            ("0.000000001", 1, true),
            ("2e-10", 1, false),
            ("1.0000001e-9", 2, false),
            ("1.10e-9", 2, false),
            ("7.5e-8", 75, true),
            ("1e-400", 1, false),
            ("0", 0, true),
            ("0.0e5", 0, true),
            ("0e-99999999", 0, true),
            ("0.06", 60_000_000, true),
            ("15", 15_000_000_000, true),
            ("1e9", 1_000_000_000_000_000_000, true),
            (".5", 500_000_000, true),
            ("9223372036.854775807", i64::MAX, true),
        ];
        for (usd, expected, exact) in cases {
            assert_eq!(nano(usd), Some((Nano(expected), exact)), "{usd}");
        }
        for bad in [
            "",
            "-1e-7",
            "1e10",
            "9223372036.854775808",
            "1e",
            "e5",
            "1.2.3",
            "0x10",
            "NaN",
            "1e99999999999999999999",
            "1e9223372036854775807",
            "1,5",
            " 1",
            "--1",
        ] {
            assert_eq!(nano(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_of_litellm_becomes_rows_of_prices() {
        let file = r#"{
            "sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of ...", "mode": "one of ..."},
            "gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 128000,
                "max_output_tokens": 16384, "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07,
                "cache_read_input_token_cost": 7.5e-08, "deprecation_date": "2027-01-06"},
            "openai/gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1,
                "output_cost_per_token": 1},
            "groq/qwen \"3\\": {"litellm_provider": "groq", "mode": "chat", "max_tokens": 8192,
                "input_cost_per_token": "2.9e-7", "output_cost_per_token": 5.9e-7,
                "output_cost_per_reasoning_token": 6.1e-7,
                "input_cost_per_token_above_128k_tokens": 5e-7},
            "text-embedding-3-small": {"litellm_provider": "openai", "mode": "embedding",
                "input_cost_per_token": 2e-08, "output_cost_per_token": 0.0},
            "tiny-embedding": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-10},
            "dall-e-3": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_pixel": 1e-8},
            "refund": {"litellm_provider": "x", "mode": "chat", "input_cost_per_token": -1e-7, "output_cost_per_token": 0},
            "odd": {"litellm_provider": "x", "mode": "chat", "input_cost_per_token": [1], "output_cost_per_token": 0},
            "half": {"litellm_provider": "x", "mode": "chat", "input_cost_per_token": 1e-7},
            "nobody's": {"mode": "chat", "input_cost_per_token": 1e-7}, "list": [1, 2], "none": null
        }"#;
        let import = import(file, Day(20_000)).unwrap();
        let rows = import
            .prices
            .iter()
            .map(|p| {
                (
                    p.id(),
                    [p.input, p.cached_input, p.output, p.reasoning, p.embedding].map(|n| n.0),
                )
            })
            .collect::<Vec<_>>();
        assert_eq!(
            rows,
            [
                ("openai/gpt-4o-mini@2024-10-04".to_owned(), [150, 75, 600, 600, 0]),
                ("groq/qwen \"3\\@2024-10-04".to_owned(), [290, 290, 590, 610, 0]),
                ("openai/text-embedding-3-small@2024-10-04".to_owned(), [0, 0, 0, 0, 20]),
                ("openai/tiny-embedding@2024-10-04".to_owned(), [0, 0, 0, 0, 1]),
            ]
        );
        let mini = &import.models[0];
        assert_eq!(
            (mini.kind, mini.max_input_tokens, mini.max_output_tokens),
            (Kind::Chat, Some(128_000), Some(16_384))
        );
        assert_eq!(mini.retires_on.unwrap().to_string(), "2027-01-06");
        assert_eq!(import.models[1].max_output_tokens, Some(8_192));
        assert_eq!(import.models[2].kind, Kind::Embedding);
        let [rounded] = &import.rounded[..] else {
            panic!("{:?}", import.rounded)
        };
        assert_eq!(
            (&*rounded.name, rounded.field, &*rounded.usd, rounded.nano),
            ("tiny-embedding", "input_cost_per_token", "2e-10", Nano(1))
        );
        assert_eq!(import.long_context, ["groq/qwen \"3\\"]);
        let skipped = import.skipped.iter().map(|s| &*s.name).collect::<Vec<_>>();
        assert_eq!(
            skipped,
            [
                "dall-e-3",
                "half",
                "list",
                "nobody's",
                "none",
                "odd",
                "openai/gpt-4o-mini",
                "refund"
            ]
        );
    }

    #[test]
    fn what_is_no_price_file_is_refused() {
        for bad in ["", "[]", "1", "{", "{\"a\": 1e}x", "\"text\""] {
            assert_eq!(import(bad, Day(0)).unwrap_err().code(), Code::InvalidText, "{bad}");
        }
        let long = " ".repeat(limits::PRICE_FILE_BYTES + 1);
        assert_eq!(import(&long, Day(0)).unwrap_err().code(), Code::TooLarge);
        assert_eq!(import("{}", Day(0)).unwrap(), Import::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_decimal_notation_of_an_amount_is_that_amount(
            amount in 0..i64::MAX / 10, point in 0_usize..20, zeros in 0_usize..5,
        ) {
            // amount nano-USD with the point moved and the exponent moved back
            let digits = format!("{}{amount}", "0".repeat(21));
            let (whole, part) = digits.split_at(digits.len() - point);
            let text = format!("{whole}.{part}{}e{}", "0".repeat(zeros), point as i64 - 9);
            prop_assert_eq!(nano(&text), Some((Nano(amount), true)));
        }

        #[test]
        fn rounding_up_adds_less_than_one(amount in 0_i64..1_000_000_000, finer in 1_i64..1_000) {
            let text = format!("{amount}.{finer:03}e-9");
            prop_assert_eq!(nano(&text), Some((Nano(amount + 1), false)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}", json in "[{}\\[\\]:,\"0-9eE+. a-z\\\\-]{0,80}") {
            let _ = nano(&text);
            let quoted = numbers_as_text(&json);
            let (plain, quoted) = (serde_json::from_str::<Value>(&json), serde_json::from_str::<Value>(&quoted));
            // What was JSON stays JSON, of the same shape.
            prop_assert!(plain.is_err() || quoted.is_ok(), "{json}");
        }
    }
}
