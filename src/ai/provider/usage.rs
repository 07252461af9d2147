//! What a provider says a call used, believed only if it can be true.

use serde_json::Value;

use crate::limits;

/// Tokens of one call. Cached are part of the prompt's, reasoning part of the completion's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedUsage {
    /// Tokens sent.
    pub prompt: i64,
    /// Those of them that the provider had in its cache.
    pub cached: i64,
    /// Tokens generated.
    pub completion: i64,
    /// Those of them that nobody sees.
    pub reasoning: i64,
}

/// A provider's report, judged. The only way to a [`ReportedUsage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Report {
    /// There is none.
    #[default]
    Missing,
    /// It can be true.
    Believed(ReportedUsage),
    /// It is negative, absurd or no number.
    Absurd,
}

impl Report {
    /// Reads the `usage` of a reply or of a chunk.
    pub fn read(usage: &Value) -> Self {
        let Value::Object(fields) = usage else {
            return if usage.is_null() { Self::Missing } else { Self::Absurd };
        };
        let first = |names: [&str; 2]| names.iter().find_map(|name| fields.get(*name));
        let inside = |names: [&str; 2], name: &str| first(names).and_then(|details| details.get(name));
        let prompt = first(["prompt_tokens", "input_tokens"]);
        let completion = first(["completion_tokens", "output_tokens"]);
        if prompt.is_none_or(Value::is_null) && completion.is_none_or(Value::is_null) {
            return Self::Missing;
        }
        let read = || {
            let prompt = tokens(prompt)?;
            let mut completion = tokens(completion)?;
            let cached = tokens(inside(
                ["prompt_tokens_details", "input_tokens_details"],
                "cached_tokens",
            ))?;
            let details = ["completion_tokens_details", "output_tokens_details"];
            let reasoning = tokens(inside(details, "reasoning_tokens"))?;
            // Some count reasoning beside the completion; their total tells.
            if reasoning > 0 && tokens(fields.get("total_tokens")) == Some(prompt + completion + reasoning) {
                completion += reasoning;
            }
            (cached <= prompt && reasoning <= completion).then_some(ReportedUsage {
                prompt,
                cached,
                completion,
                reasoning,
            })
        };
        read().map_or(Self::Absurd, Self::Believed)
    }

    /// The report if it is believed.
    pub fn believed(self) -> Option<ReportedUsage> {
        match self {
            Self::Believed(usage) => Some(usage),
            Self::Missing | Self::Absurd => None,
        }
    }
}

/// A count; none is 0. `None` for what no call can have.
fn tokens(value: Option<&Value>) -> Option<i64> {
    let count = match value {
        None | Some(Value::Null) => 0,
        Some(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(count), _) => count,
            // 12.0 is 12; a cast of what is too large stays too large.
            (None, Some(count)) if count.fract() == 0.0 => count as i64,
            _ => return None,
        },
        Some(_) => return None,
    };
    (0..=limits::CALL_TOKENS).contains(&count).then_some(count)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_can_be_true_is_believed() {
        let usage = |prompt, cached, completion, reasoning| {
            Report::Believed(ReportedUsage {
                prompt,
                cached,
                completion,
                reasoning,
            })
        };
        let most = limits::CALL_TOKENS;
        for (report, expected) in [
            (
                json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}),
                usage(7, 0, 3, 0),
            ),
            (json!({"prompt_tokens": 7, "total_tokens": 7}), usage(7, 0, 0, 0)),
            (
                json!({"prompt_tokens": 7.0, "completion_tokens": null}),
                usage(7, 0, 0, 0),
            ),
            (json!({"input_tokens": 7, "output_tokens": 3}), usage(7, 0, 3, 0)),
            (
                json!({"prompt_tokens": most, "completion_tokens": 0, "odd": {}}),
                usage(most, 0, 0, 0),
            ),
            (
                json!({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 7},
                       "completion_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 10}),
                usage(7, 7, 3, 2),
            ),
            (
                json!({"prompt_tokens": 7, "completion_tokens": 3,
                       "completion_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 15}),
                usage(7, 0, 8, 5),
            ),
            (
                json!({"prompt_tokens": 7, "prompt_tokens_details": null}),
                usage(7, 0, 0, 0),
            ),
            (json!(null), Report::Missing),
            (json!({}), Report::Missing),
            (
                json!({"prompt_tokens": null, "completion_tokens": null}),
                Report::Missing,
            ),
            (json!("many"), Report::Absurd),
            (json!({"prompt_tokens": -1, "completion_tokens": 3}), Report::Absurd),
            (json!({"prompt_tokens": 7, "completion_tokens": -3}), Report::Absurd),
            (
                json!({"prompt_tokens": 7, "completion_tokens": 9_223_372_036_854_775_808u64}),
                Report::Absurd,
            ),
            (json!({"prompt_tokens": most + 1}), Report::Absurd),
            (json!({"prompt_tokens": 1e300}), Report::Absurd),
            (json!({"prompt_tokens": 0.5}), Report::Absurd),
            (json!({"prompt_tokens": "7"}), Report::Absurd),
            (
                json!({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 8}}),
                Report::Absurd,
            ),
            (
                json!({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": -8}}),
                Report::Absurd,
            ),
            (
                json!({"prompt_tokens": 7, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 4}}),
                Report::Absurd,
            ),
        ] {
            assert_eq!(Report::read(&report), expected, "{report}");
            assert_eq!(
                Report::read(&report).believed().is_some(),
                matches!(expected, Report::Believed(_))
            );
        }
    }
}
