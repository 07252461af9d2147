//! Looking into JSON: `->`, `->>`, `#>`, `#>>`, `?`, `@>` and the functions beside them.

use std::sync::{Arc, LazyLock};

use datafusion::{
    common::{DFSchema, DataFusionError, Result},
    logical_expr::{Expr, ExprSchemable, ScalarUDF, expr::Placeholder, planner::RawBinaryExpr},
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    casts,
    function::{Body, Function, fail, shared},
    json::{Json, parse},
    rows::Value,
};
use crate::{
    ai::filter::Filter,
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error},
};

const TEXT: PgType = PgType::TEXT;
const BOOL: PgType = PgType::Scalar(Scalar::Bool);
const INT4: PgType = PgType::Scalar(Scalar::Int4);
const JSON: PgType = PgType::Scalar(Scalar::Json);
const JSONB: PgType = PgType::Scalar(Scalar::Jsonb);

const fn strict(name: &'static str, returns: PgType, body: fn(&[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Strict(body),
    }
}

/// The functions, those behind operators included. They need no tenant.
pub(super) const FUNCTIONS: &[Function] = &[
    strict("json_array_length", INT4, length),
    strict("jsonb_array_length", INT4, length),
    strict("json_typeof", TEXT, kind),
    strict("jsonb_typeof", TEXT, kind),
    strict("json_extract_path", JSON, |a| found(a, steps(a), false)),
    strict("jsonb_extract_path", JSONB, |a| found(a, steps(a), false)),
    strict("json_extract_path_text", TEXT, |a| found(a, steps(a), true)),
    strict("jsonb_extract_path_text", TEXT, |a| found(a, steps(a), true)),
    strict("bulkhead_json_path", JSON, |a| found(a, listed(a), false)),
    strict("bulkhead_jsonb_path", JSONB, |a| found(a, listed(a), false)),
    strict("bulkhead_json_path_text", TEXT, |a| found(a, listed(a), true)),
    strict("bulkhead_json_field", JSON, |a| field(a, false)),
    strict("bulkhead_jsonb_field", JSONB, |a| field(a, false)),
    strict("bulkhead_json_field_text", TEXT, |a| field(a, true)),
    strict("bulkhead_jsonb_contains", BOOL, |a| contains(a, 0, 1)),
    strict("bulkhead_jsonb_contained", BOOL, |a| contains(a, 1, 0)),
    strict("bulkhead_jsonb_exists", BOOL, exists),
];

fn ours(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn text(arguments: &[Value], at: usize) -> Result<&str> {
    match arguments.get(at) {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(fail(Code::DatatypeMismatch, "a json value is expected here")),
    }
}

fn whole(arguments: &[Value]) -> Result<Json> {
    parse(text(arguments, 0)?).map_err(ours)
}

fn length(arguments: &[Value]) -> Result<Value> {
    let wrong = |what| {
        Err(fail(
            Code::InvalidParameterValue,
            format!("cannot get array length of a {what}"),
        ))
    };
    match whole(arguments)? {
        Json::Array(items) => Ok(i64::try_from(items.len()).unwrap_or(i64::MAX).into()),
        Json::Object(_) => wrong("non-array"),
        _ => wrong("scalar"),
    }
}

fn kind(arguments: &[Value]) -> Result<Value> {
    Ok(match whole(arguments)? {
        Json::Array(_) => "array",
        Json::Object(_) => "object",
        Json::Text(_) => "string",
        Json::Plain(word) => match word.as_str() {
            "null" => "null",
            "true" | "false" => "boolean",
            _ => "number",
        },
    }
    .into())
}

/// A step into a value: a key of an object, or a place in an array, from its end if negative.
fn step(value: Json, to: &Value, text_counts: bool) -> Option<Json> {
    match (value, to) {
        (Json::Object(mut entries), Value::Text(key)) => entries.remove(&(key.len(), key.clone())),
        (Json::Array(mut items), place) => {
            let place = match place {
                Value::Int(place) => *place,
                Value::Text(place) if text_counts => place.trim().parse().ok()?,
                _ => return None,
            };
            let from = if place < 0 { i64::try_from(items.len()).ok()? } else { 0 };
            let at = usize::try_from(from.checked_add(place)?).ok()?;
            (at < items.len()).then(|| items.swap_remove(at))
        }
        _ => None,
    }
}

/// As JSON; or as text, where JSON's null is NULL and a string is its characters.
fn shown(value: Option<Json>, as_text: bool) -> Value {
    match value {
        Some(Json::Plain(word)) if as_text && word == "null" => Value::Null,
        Some(Json::Text(text)) if as_text => Value::Text(text),
        Some(value) => Value::Text(value.canonical()),
        None => Value::Null,
    }
}

fn field(arguments: &[Value], as_text: bool) -> Result<Value> {
    let to = arguments.get(1).unwrap_or(&Value::Null);
    Ok(shown(step(whole(arguments)?, to, false), as_text))
}

fn steps(arguments: &[Value]) -> &[Value] {
    arguments.get(1..).unwrap_or_default()
}

fn listed(arguments: &[Value]) -> &[Value] {
    match arguments.get(1) {
        Some(Value::List(steps)) => steps,
        _ => &[],
    }
}

fn found(arguments: &[Value], steps: &[Value], as_text: bool) -> Result<Value> {
    let mut steps = steps.iter();
    let end = steps.try_fold(whole(arguments)?, |value, to| step(value, to, true));
    Ok(shown(end, as_text))
}

fn contains(arguments: &[Value], have: usize, want: usize) -> Result<Value> {
    let want = Filter::parse(text(arguments, want)?).map_err(ours)?;
    let have = serde_json::from_str(text(arguments, have)?)
        .map_err(|_| fail(Code::InvalidText, "invalid input syntax for type json"))?;
    Ok(want.matches(&have).into())
}

/// Whether a string is a key of the object, an item of the array, or the value itself.
fn exists(arguments: &[Value]) -> Result<Value> {
    let wanted = text(arguments, 1)?;
    let is_it = |value: &Json| matches!(value, Json::Text(text) if text == wanted);
    Ok(match whole(arguments)? {
        Json::Object(entries) => entries.contains_key(&(wanted.len(), wanted.to_owned())),
        Json::Array(items) => items.iter().any(is_it),
        value => is_it(&value),
    }
    .into())
}

/// The call that an operator on a `json` or `jsonb` stands for; none where it is another operator,
/// or is on other types.
pub(super) fn call(expr: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    use BinaryOperator::{
        Arrow, ArrowAt, AtArrow, HashArrow, HashLongArrow, HashMinus, LongArrow, Minus, Question, QuestionAnd,
        QuestionPipe, StringConcat,
    };
    let (_, left) = expr.left.to_field(schema).ok()?;
    let binary = match PgType::of(&left) {
        PgType::Scalar(Scalar::Jsonb) => true,
        PgType::Scalar(Scalar::Json) => false,
        _ => return None,
    };
    let name = match (&expr.op, binary) {
        (Arrow, true) => "bulkhead_jsonb_field",
        (Arrow, false) => "bulkhead_json_field",
        (LongArrow, _) => "bulkhead_json_field_text",
        (HashArrow, true) => "bulkhead_jsonb_path",
        (HashArrow, false) => "bulkhead_json_path",
        (HashLongArrow, _) => "bulkhead_json_path_text",
        (StringConcat, true) => "bulkhead_jsonb_concat",
        (Minus, true) => "bulkhead_jsonb_delete",
        (HashMinus, true) => "bulkhead_jsonb_delete_path",
        (QuestionPipe, true) => "bulkhead_jsonb_exists_any",
        (QuestionAnd, true) => "bulkhead_jsonb_exists_all",
        (Question, true) => "bulkhead_jsonb_exists",
        (AtArrow, true) => "bulkhead_jsonb_contains",
        (ArrowAt, true) => "bulkhead_jsonb_contained",
        _ => return None,
    };
    let right = match (&expr.op, expr.right.clone()) {
        (HashArrow | HashLongArrow | HashMinus | QuestionPipe | QuestionAnd, right @ Expr::Literal(..)) => {
            let element = Expr::Literal(Scalar::Text.name().into(), None);
            casts::call("bulkhead_array", vec![right, element])
        }
        // A parameter of no type is what PostgreSQL would take it for.
        (op, Expr::Placeholder(Placeholder { id, field: None })) => {
            let pg_type = match op {
                HashArrow | HashLongArrow | HashMinus | QuestionPipe | QuestionAnd => PgType::Array(Scalar::Text),
                AtArrow | ArrowAt | StringConcat => JSONB,
                _ => TEXT,
            };
            let field = Some(pg_type.field(&id, true).into());
            Expr::Placeholder(Placeholder { id, field })
        }
        (_, right) => right,
    };
    static SHARED: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(shared);
    let function = SHARED.iter().find(|f| f.name() == name)?;
    Some(function.call(vec![expr.left.clone(), right]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, arguments: &[Value]) -> String {
        let function = FUNCTIONS.iter().find(|f| f.name == name).unwrap();
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
    fn operators_look_where_postgresql_looks() {
        // Checked against PostgreSQL's documentation of functions on JSON, section 9.16.
        let value = || Value::from(r#"{"a": {"b": ["foo", 1.50, null]}, "t": "x\ny", "n": null}"#);
        let array = || Value::from(r#"[{"a":"foo"},{"b":"bar"},{"c":"baz"}]"#);
        let path = |text: &str| Value::from(text.split(',').collect::<Vec<_>>());
        for (name, value, to, expected) in [
            ("bulkhead_jsonb_field", array(), Value::Int(2), r#"{"c": "baz"}"#),
            ("bulkhead_jsonb_field", array(), Value::Int(-3), r#"{"a": "foo"}"#),
            ("bulkhead_jsonb_field", array(), Value::Int(3), "Null"),
            ("bulkhead_jsonb_field", array(), Value::Int(i64::MIN), "Null"),
            ("bulkhead_jsonb_field", array(), "0".into(), "Null"),
            ("bulkhead_jsonb_field", value(), "t".into(), r#""x\ny""#),
            ("bulkhead_json_field_text", value(), "t".into(), "x\ny"),
            ("bulkhead_json_field_text", value(), "n".into(), "Null"),
            ("bulkhead_jsonb_field", value(), "n".into(), "null"),
            ("bulkhead_jsonb_field", value(), Value::Int(0), "Null"),
            ("bulkhead_jsonb_path", value(), path("a,b"), r#"["foo", 1.50, null]"#),
            ("bulkhead_json_path_text", value(), path("a,b,1"), "1.50"),
            ("bulkhead_json_path_text", value(), path("a,b,-3"), "foo"),
            ("bulkhead_json_path_text", value(), path("a,x,1"), "Null"),
            ("bulkhead_jsonb_exists", value(), "a".into(), "Bool(true)"),
            ("bulkhead_jsonb_exists", r#"["a"]"#.into(), "a".into(), "Bool(true)"),
            ("bulkhead_jsonb_exists", r#"["a"]"#.into(), "b".into(), "Bool(false)"),
            (
                "bulkhead_jsonb_contains",
                value(),
                r#"{"a":{"b":[1.5]}}"#.into(),
                "Bool(true)",
            ),
            ("bulkhead_jsonb_contained", "{}".into(), value(), "Bool(true)"),
        ] {
            assert_eq!(run(name, &[value, to.clone()]), expected, "{name} {to:?}");
        }
    }

    #[test]
    fn kinds_and_lengths() {
        for (text, kind, length) in [
            ("[1,[2]]", "array", "Int(2)"),
            ("{}", "object", "cannot get array length of a non-array"),
            ("\"x\"", "string", "cannot get array length of a scalar"),
            ("-1.5", "number", "scalar"),
            ("true", "boolean", "scalar"),
            ("null", "null", "scalar"),
        ] {
            assert_eq!(run("jsonb_typeof", &[text.into()]), kind);
            let got = run("jsonb_array_length", &[text.into()]);
            assert!(got.contains(length), "{text}: {got}");
        }
    }
}
