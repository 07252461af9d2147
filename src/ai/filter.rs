//! A condition on documents' metadata: PostgreSQL's `metadata @> filter`.

use serde_json::{Number, Value};

use crate::error::{Code, Error, Result};
use crate::limits;

/// Most values in one filter, containers included. Comparing arrays takes their sizes'
/// product, and the other side is bounded by [`limits::METADATA_BYTES`].
const FILTER_VALUES: usize = 256;

/// What a document's metadata must contain. Keys and values are data and nothing else: there are
/// no operators in it, and no key that means a tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Value);

impl Filter {
    /// Checks the size and depth of a condition.
    ///
    /// # Errors
    /// [`Code::TooComplex`] beyond 256 values or [`limits::JSON_DEPTH`] levels.
    pub fn new(condition: Value) -> Result<Self> {
        let mut values = 0;
        let mut level = vec![&condition];
        for depth in 0.. {
            values += level.len();
            if values > FILTER_VALUES {
                return Err(Error::new(
                    Code::TooComplex,
                    format!("a filter may have at most {FILTER_VALUES} values"),
                ));
            }
            if level.is_empty() {
                break;
            }
            if depth == limits::JSON_DEPTH {
                let message = format!("a filter may be nested at most {} levels deep", limits::JSON_DEPTH);
                return Err(Error::new(Code::TooComplex, message));
            }
            level = level.into_iter().flat_map(children).collect();
        }
        Ok(Self(condition))
    }

    /// Reads a condition from JSON text.
    ///
    /// # Errors
    /// [`Code::InvalidText`] when it is not JSON, [`Code::TooLarge`] above
    /// [`limits::METADATA_BYTES`], and as [`Filter::new`].
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > limits::METADATA_BYTES {
            return Err(Error::new(
                Code::TooLarge,
                format!("a filter may have at most {} bytes", limits::METADATA_BYTES),
            ));
        }
        let condition = serde_json::from_str(text).map_err(|_| {
            Error::new(
                Code::InvalidText,
                "invalid input syntax for type json: the filter is not JSON",
            )
        })?;
        Self::new(condition)
    }

    /// Whether this metadata contains the condition, as `jsonb`'s `@>` has it: objects by key,
    /// arrays as sets, scalars by value, and an array may contain a bare scalar at the top.
    pub fn matches(&self, metadata: &Value) -> bool {
        match (metadata, &self.0) {
            (Value::Array(have), want) if is_scalar(want) => have.iter().any(|have| same_scalar(have, want)),
            (have, want) => contains(have, want),
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

/// Recursion follows the condition, whose depth is bounded.
fn contains(have: &Value, want: &Value) -> bool {
    match (have, want) {
        (Value::Object(have), Value::Object(want)) => want
            .iter()
            .all(|(key, want)| have.get(key).is_some_and(|have| contains(have, want))),
        (Value::Array(have), Value::Array(want)) => {
            want.iter().all(|want| have.iter().any(|have| contains(have, want)))
        }
        (have, want) => same_scalar(have, want),
    }
}

fn same_scalar(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Null, Value::Null) => true,
        _ => false,
    }
}

/// 1 and 1.0 are the same number; large integers are compared as integers.
fn same_number(a: &Number, b: &Number) -> bool {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(metadata: &str, filter: &str) -> bool {
        Filter::parse(filter)
            .unwrap()
            .matches(&serde_json::from_str(metadata).unwrap())
    }

    #[test]
    fn containment_is_that_of_postgresql() {
        // Checked against PostgreSQL's documentation of jsonb containment, section 8.14.3.
        for (metadata, filter, expected) in [
            (r#"{"a":1,"b":2}"#, r#"{}"#, true),
            (r#"{"a":1,"b":2}"#, r#"{"a":1}"#, true),
            (r#"{"a":1.0}"#, r#"{"a":1}"#, true),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false),
            (r#"{"a":1}"#, r#"{"a":"1"}"#, false),
            (r#"{"a":null}"#, r#"{"a":null}"#, true),
            (r#"{}"#, r#"{"a":null}"#, false),
            (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":1}}"#, true),
            (r#"{"foo":{"bar":"baz"}}"#, r#"{"bar":"baz"}"#, false),
            (r#"{"tags":["x","y"]}"#, r#"{"tags":["y"]}"#, true),
            (r#"{"tags":["x","y"]}"#, r#"{"tags":"y"}"#, false),
            (r#"{"tags":[]}"#, r#"{"tags":[]}"#, true),
            (r#"[1,2,3]"#, r#"[3,1,1]"#, true),
            (r#"[1,2,[1,3]]"#, r#"[1,3]"#, false),
            (r#"[1,2,[1,3]]"#, r#"[[1,3]]"#, true),
            (r#"["foo","bar"]"#, r#""bar""#, true),
            (r#""bar""#, r#"["bar"]"#, false),
            (r#"[1]"#, r#"{}"#, false),
            (r#"null"#, r#"{}"#, false),
            (r#"true"#, r#"true"#, true),
        ] {
            assert_eq!(matches(metadata, filter), expected, "{metadata} @> {filter}");
        }
    }

    #[test]
    fn keys_and_values_are_only_data() {
        assert!(!matches(r#"{"a":1}"#, r#"{"$or":[{"a":1},{"b":1}]}"#));
        assert!(matches(r#"{"$or":[{"a":1}]}"#, r#"{"$or":[{"a":1}]}"#));
        assert!(!matches(r#"{"x":"y"}"#, r#"{"x":"y' OR 1=1 --"}"#));
        assert!(!matches(r#"{"a":1}"#, r#"{"tenant_id":1}"#));
        let key = "k".repeat(1 << 20);
        assert_eq!(
            Filter::parse(&format!("{{\"{key}\":1}}")).unwrap_err().code(),
            Code::TooLarge
        );
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Filter::parse(&nested(limits::JSON_DEPTH)).is_ok());
        assert_eq!(
            Filter::parse(&nested(limits::JSON_DEPTH + 1)).unwrap_err().code(),
            Code::TooComplex
        );
        assert_eq!(Filter::parse(&nested(30_000)).unwrap_err().code(), Code::InvalidText);
        let wide = format!("[{}1]", "1,".repeat(FILTER_VALUES));
        assert_eq!(Filter::parse(&wide).unwrap_err().code(), Code::TooComplex);
        assert_eq!(Filter::parse("{a:1}").unwrap_err().code(), Code::InvalidText);
    }
}
