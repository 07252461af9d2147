//! Changing `jsonb`, and taking it apart: `||`, `-`, `#-`, `jsonb_set`, `jsonb_each` and the like.

use std::collections::BTreeMap;

use datafusion::common::{DataFusionError, Result};

use super::{
    function::{Body, Function, fail},
    json::{Json, parse, write_text},
    rows::Value,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

const JSON: PgType = PgType::Scalar(Scalar::Json);
const JSONB: PgType = PgType::Scalar(Scalar::Jsonb);
const TEXTS: PgType = PgType::Array(Scalar::Text);

const fn strict(name: &'static str, returns: PgType, body: fn(&[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Strict(body),
    }
}

/// The functions. Those that begin with `bulkhead_` stand behind operators and functions in FROM.
pub(super) const FUNCTIONS: &[Function] = &[
    strict("bulkhead_jsonb_concat", JSONB, |a| {
        Ok(shown(concat(whole(a, 0)?, whole(a, 1)?)))
    }),
    strict("bulkhead_jsonb_delete", JSONB, |a| {
        Ok(shown(delete(whole(a, 0)?, a.get(1))?))
    }),
    strict("bulkhead_jsonb_delete_path", JSONB, |a| {
        let mut value = whole(a, 0)?;
        let path = texts(a, 1);
        if matches!(value, Json::Plain(_) | Json::Text(_)) {
            return Err(fail(Code::InvalidParameterValue, "cannot delete path in scalar"));
        }
        change(&mut value, &path, &mut |place| *place = None);
        Ok(shown(value))
    }),
    strict("bulkhead_jsonb_exists_any", PgType::Scalar(Scalar::Bool), |a| {
        let value = whole(a, 0)?;
        Ok(texts(a, 1).iter().any(|key| has(&value, key)).into())
    }),
    strict("bulkhead_jsonb_exists_all", PgType::Scalar(Scalar::Bool), |a| {
        let value = whole(a, 0)?;
        Ok(texts(a, 1).iter().all(|key| has(&value, key)).into())
    }),
    strict("jsonb_set", JSONB, set),
    strict("jsonb_insert", JSONB, insert),
    strict("jsonb_strip_nulls", JSONB, |a| Ok(shown(stripped(whole(a, 0)?)))),
    strict("json_strip_nulls", JSON, |a| Ok(shown(stripped(whole(a, 0)?)))),
    strict("jsonb_pretty", PgType::TEXT, |a| {
        let mut out = String::new();
        pretty(&whole(a, 0)?, 0, &mut out);
        Ok(out.into())
    }),
    strict("bulkhead_jsonb_elements", PgType::Array(Scalar::Jsonb), |a| {
        elements(a, false)
    }),
    strict("bulkhead_json_elements", PgType::Array(Scalar::Json), |a| {
        elements(a, false)
    }),
    strict("bulkhead_json_elements_text", TEXTS, |a| elements(a, true)),
    strict("bulkhead_json_keys", TEXTS, |a| {
        Ok(entries(a, "jsonb_object_keys")?
            .into_keys()
            .map(|(_, key)| key)
            .collect::<Vec<_>>()
            .into())
    }),
    strict("bulkhead_jsonb_values", PgType::Array(Scalar::Jsonb), |a| {
        values(a, false)
    }),
    strict("bulkhead_json_values", PgType::Array(Scalar::Json), |a| {
        values(a, false)
    }),
    strict("bulkhead_json_values_text", TEXTS, |a| values(a, true)),
];

fn whole(arguments: &[Value], at: usize) -> Result<Json> {
    match arguments.get(at) {
        Some(Value::Text(text)) => parse(text).map_err(|e| DataFusionError::External(Box::new(e))),
        _ => Err(fail(Code::DatatypeMismatch, "a json value is expected here")),
    }
}

fn texts(arguments: &[Value], at: usize) -> Vec<String> {
    match arguments.get(at) {
        Some(Value::List(items)) => items
            .iter()
            .filter_map(|item| match item {
                Value::Text(text) => Some(text.clone()),
                Value::Int(n) => Some(n.to_string()),
                _ => None,
            })
            .collect(),
        // A literal of no type.
        Some(Value::Text(literal)) => {
            let items = super::casts::parse_array(literal).unwrap_or_default();
            items.into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

fn shown(value: Json) -> Value {
    Value::Text(value.canonical())
}

fn has(value: &Json, key: &str) -> bool {
    let is_it = |value: &Json| matches!(value, Json::Text(text) if text == key);
    match value {
        Json::Object(entries) => entries.contains_key(&(key.len(), key.to_owned())),
        Json::Array(items) => items.iter().any(is_it),
        value => is_it(value),
    }
}

fn concat(left: Json, right: Json) -> Json {
    match (left, right) {
        (Json::Object(mut left), Json::Object(right)) => {
            left.extend(right);
            Json::Object(left)
        }
        (left, right) => {
            let items = |value| match value {
                Json::Array(items) => items,
                other => vec![other],
            };
            let mut all = items(left);
            all.extend(items(right));
            Json::Array(all)
        }
    }
}

/// `-`: a key, several keys, or a place.
fn delete(value: Json, what: Option<&Value>) -> Result<Json> {
    let scalar = |what| fail(Code::InvalidParameterValue, format!("cannot delete from {what}"));
    Ok(match (value, what) {
        (Json::Plain(_) | Json::Text(_), _) => return Err(scalar("scalar")),
        (Json::Object(_), Some(Value::Int(_))) => return Err(scalar("object using integer index")),
        (Json::Object(mut entries), Some(Value::Text(key))) => {
            entries.remove(&(key.len(), key.clone()));
            Json::Object(entries)
        }
        (Json::Array(mut items), Some(Value::Text(key))) => {
            items.retain(|item| !matches!(item, Json::Text(text) if text == key));
            Json::Array(items)
        }
        (Json::Array(mut items), Some(Value::Int(place))) => {
            if let Some(at) = index(*place, items.len()) {
                items.remove(at);
            }
            Json::Array(items)
        }
        (value, Some(Value::List(keys))) => keys.iter().try_fold(value, |value, key| delete(value, Some(key)))?,
        (value, _) => value,
    })
}

/// A place in an array, from its end if negative.
fn index(place: i64, length: usize) -> Option<usize> {
    let from = if place < 0 { i64::try_from(length).ok()? } else { 0 };
    usize::try_from(from.checked_add(place)?).ok().filter(|at| *at < length)
}

/// Hands the value at a path to `f`, which may take it away or put one where an object lacks it.
fn change(value: &mut Json, path: &[String], f: &mut dyn FnMut(&mut Option<Json>)) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    let mut at_step = |place: &mut Option<Json>| match (rest.is_empty(), place) {
        (true, place) => f(place),
        (false, Some(value)) => change(value, rest, f),
        (false, None) => {}
    };
    match value {
        Json::Object(entries) => {
            let key = (step.len(), step.clone());
            let mut place = entries.remove(&key);
            at_step(&mut place);
            if let Some(value) = place {
                entries.insert(key, value);
            }
        }
        Json::Array(items) => {
            if let Some(at) = step.trim().parse().ok().and_then(|place| index(place, items.len())) {
                let mut place = Some(items.remove(at));
                at_step(&mut place);
                if let Some(value) = place {
                    items.insert(at, value);
                }
            }
        }
        _ => {}
    }
}

fn flag(arguments: &[Value], at: usize, default: bool) -> bool {
    match arguments.get(at) {
        Some(Value::Bool(flag)) => *flag,
        _ => default,
    }
}

/// The array that a path's last step is in, with that step.
fn last_array<'a>(value: &'a mut Json, path: &[String]) -> Option<(&'a mut Vec<Json>, i64)> {
    let (step, rest) = path.split_first()?;
    match (value, rest.is_empty()) {
        (Json::Array(items), true) => Some((items, step.trim().parse().ok()?)),
        (Json::Array(items), false) => {
            let at = index(step.trim().parse().ok()?, items.len())?;
            last_array(items.get_mut(at)?, rest)
        }
        (Json::Object(entries), false) => last_array(entries.get_mut(&(step.len(), step.clone()))?, rest),
        _ => None,
    }
}

fn set(arguments: &[Value]) -> Result<Value> {
    let (mut value, path) = (whole(arguments, 0)?, texts(arguments, 1));
    let new = whole(arguments, 2)?.canonical();
    let create = flag(arguments, 3, true);
    if matches!(value, Json::Plain(_) | Json::Text(_)) {
        return Err(fail(Code::InvalidParameterValue, "cannot set path in scalar"));
    }
    let again = |new: &str| parse(new).map_err(|e| DataFusionError::External(Box::new(e)));
    if let Some((items, place)) = last_array(&mut value, &path)
        && index(place, items.len()).is_none()
    {
        // Beyond an end: added at that end.
        if create {
            let at = if place < 0 { 0 } else { items.len() };
            items.insert(at, again(&new)?);
        }
        return Ok(shown(value));
    }
    let mut failed = None;
    change(&mut value, &path, &mut |place| {
        if place.is_some() || create {
            match again(&new) {
                Ok(new) => *place = Some(new),
                Err(error) => failed = Some(error),
            }
        }
    });
    failed.map_or(Ok(shown(value)), Err)
}

fn insert(arguments: &[Value]) -> Result<Value> {
    let (mut value, path, new) = (whole(arguments, 0)?, texts(arguments, 1), whole(arguments, 2)?);
    let after = flag(arguments, 3, false);
    if let Some((items, place)) = last_array(&mut value, &path) {
        let at = match index(place, items.len()) {
            Some(at) => at + usize::from(after),
            None if place < 0 => 0,
            None => items.len(),
        };
        items.insert(at, new);
        return Ok(shown(value));
    }
    let mut taken = false;
    let mut new = Some(new);
    change(&mut value, &path, &mut |place| match place {
        Some(_) => taken = true,
        None => *place = new.take(),
    });
    match taken {
        true => Err(fail(Code::InvalidParameterValue, "cannot replace existing key")),
        false => Ok(shown(value)),
    }
}

/// Without the entries of objects that are null.
fn stripped(value: Json) -> Json {
    match value {
        Json::Object(entries) => {
            let kept = entries
                .into_iter()
                .filter(|(_, v)| !matches!(v, Json::Plain(word) if word == "null"));
            Json::Object(kept.map(|(key, value)| (key, stripped(value))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(stripped).collect()),
        other => other,
    }
}

fn pretty(value: &Json, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.push_str(&"    ".repeat(depth));
    };
    match value {
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                line(depth + 1, out);
                pretty(item, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        Json::Object(entries) => {
            out.push('{');
            for (at, ((_, key), value)) in entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                line(depth + 1, out);
                write_text(key, out);
                out.push_str(": ");
                pretty(value, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
        other => out.push_str(&other.canonical()),
    }
}

fn one(value: Json, as_text: bool) -> Value {
    match value {
        Json::Plain(word) if as_text && word == "null" => Value::Null,
        Json::Text(text) if as_text => Value::Text(text),
        value => shown(value),
    }
}

fn elements(arguments: &[Value], as_text: bool) -> Result<Value> {
    match whole(arguments, 0)? {
        Json::Array(items) => Ok(Value::List(items.into_iter().map(|item| one(item, as_text)).collect())),
        Json::Object(_) => Err(fail(
            Code::InvalidParameterValue,
            "cannot extract elements from an object",
        )),
        _ => Err(fail(
            Code::InvalidParameterValue,
            "cannot extract elements from a scalar",
        )),
    }
}

fn entries(arguments: &[Value], name: &str) -> Result<BTreeMap<(usize, String), Json>> {
    match whole(arguments, 0)? {
        Json::Object(entries) => Ok(entries),
        Json::Array(_) => Err(fail(
            Code::InvalidParameterValue,
            format!("cannot call {name} on an array"),
        )),
        _ => Err(fail(
            Code::InvalidParameterValue,
            format!("cannot call {name} on a scalar"),
        )),
    }
}

fn values(arguments: &[Value], as_text: bool) -> Result<Value> {
    let entries = match whole(arguments, 0)? {
        Json::Object(entries) => entries,
        _ => {
            return Err(fail(
                Code::InvalidParameterValue,
                "cannot call jsonb_each on a non-object",
            ));
        }
    };
    Ok(Value::List(
        entries.into_values().map(|value| one(value, as_text)).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, arguments: &[Value]) -> String {
        let function = FUNCTIONS
            .iter()
            .find(|f| f.name == name)
            .expect("a function of the list");
        let Body::Strict(body) = function.body else {
            unreachable!()
        };
        match body(arguments) {
            Ok(Value::Text(text)) => text,
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn json_changes_as_in_postgresql() {
        let path = |text: &str| Value::from(text.split(',').collect::<Vec<_>>());
        for (name, arguments, expected) in [
            (
                "bulkhead_jsonb_concat",
                vec!["{\"a\":1}".into(), "{\"b\":2}".into()],
                r#"{"a": 1, "b": 2}"#,
            ),
            ("bulkhead_jsonb_concat", vec!["[1]".into(), "2".into()], "[1, 2]"),
            (
                "bulkhead_jsonb_delete",
                vec!["{\"a\":1,\"b\":2}".into(), "a".into()],
                r#"{"b": 2}"#,
            ),
            (
                "bulkhead_jsonb_delete",
                vec!["[1,2,3]".into(), Value::Int(-1)],
                "[1, 2]",
            ),
            (
                "bulkhead_jsonb_delete_path",
                vec!["{\"a\":[1,2]}".into(), path("a,0")],
                r#"{"a": [2]}"#,
            ),
            (
                "jsonb_set",
                vec![
                    "[{\"f1\":1,\"f2\":null},2]".into(),
                    path("0,f1"),
                    "[2,3]".into(),
                    false.into(),
                ],
                r#"[{"f1": [2, 3], "f2": null}, 2]"#,
            ),
            ("jsonb_set", vec!["{}".into(), path("a"), "1".into()], r#"{"a": 1}"#),
            (
                "jsonb_set",
                vec!["{}".into(), path("a"), "1".into(), false.into()],
                "{}",
            ),
            ("jsonb_set", vec!["[1]".into(), path("9"), "2".into()], "[1, 2]"),
            (
                "jsonb_insert",
                vec!["{\"a\":[0,1,2]}".into(), path("a,1"), "9".into()],
                r#"{"a": [0, 9, 1, 2]}"#,
            ),
            (
                "jsonb_strip_nulls",
                vec!["[{\"f1\":1,\"f2\":null},null]".into()],
                r#"[{"f1": 1}, null]"#,
            ),
            (
                "jsonb_pretty",
                vec!["{\"a\":[1]}".into()],
                "{\n    \"a\": [\n        1\n    ]\n}",
            ),
            (
                "bulkhead_jsonb_exists_any",
                vec!["{\"a\":1}".into(), path("x,a")],
                "Bool(true)",
            ),
            (
                "bulkhead_jsonb_exists_all",
                vec!["{\"a\":1}".into(), path("x,a")],
                "Bool(false)",
            ),
            (
                "bulkhead_json_keys",
                vec!["{\"bb\":1,\"a\":2}".into()],
                r#"List([Text("a"), Text("bb")])"#,
            ),
        ] {
            assert_eq!(run(name, &arguments), expected, "{name}");
        }
    }
}
