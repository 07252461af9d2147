//! Functions over values of any type, where DataFusion has none or another one: they look at the types they are given.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{Array, BooleanArray, StringArray},
    datatypes::{DataType, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
    },
};

use super::{
    function::{Body, Function, fail},
    json,
    rows::Value,
    text::Texts,
    types,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
    limits::FUNCTION_RESULT_BYTES,
};

const TEXT: PgType = PgType::TEXT;
const INT4: PgType = PgType::Scalar(Scalar::Int4);

const fn strict(name: &'static str, returns: PgType, body: fn(&[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Strict(body),
    }
}

/// Functions of the values of one row.
pub(super) const FUNCTIONS: &[Function] = &[
    strict("array_length", INT4, |a| Ok(dimension(a).map(|n| n as i64).into())),
    strict("array_dims", TEXT, |a| match a.first() {
        Some(Value::List(items)) if !items.is_empty() => Ok(bounds(items).into()),
        _ => Ok(Value::Null),
    }),
    strict("width_bucket", INT4, width_bucket),
    strict("bulkhead_json_join", PgType::Scalar(Scalar::Json), |a| {
        Ok(joined(a).into())
    }),
    strict("bulkhead_jsonb_join", PgType::Scalar(Scalar::Jsonb), |a| {
        let whole = json::canonical(&joined(a));
        whole
            .map(Value::Text)
            .map_err(|e| datafusion::common::DataFusionError::External(Box::new(e)))
    }),
];

/// The length of an array in one of its dimensions.
fn dimension(arguments: &[Value]) -> Option<usize> {
    let (Some(mut value), Some(Value::Int(wanted))) = (arguments.first(), arguments.get(1)) else {
        return None;
    };
    for _ in 1..*wanted {
        match value {
            Value::List(items) => value = items.first()?,
            _ => return None,
        }
    }
    match value {
        Value::List(items) if *wanted > 0 && !items.is_empty() => Some(items.len()),
        _ => None,
    }
}

fn bounds(items: &[Value]) -> String {
    let inner = match items.first() {
        Some(Value::List(items)) => bounds(items),
        _ => String::new(),
    };
    format!("[1:{}]{inner}", items.len())
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn width_bucket(arguments: &[Value]) -> Result<Value> {
    let numbers: Vec<f64> = arguments.iter().filter_map(number).collect();
    let [value, low, high, count] = numbers[..] else {
        return Err(fail(
            Code::UndefinedFunction,
            "function width_bucket does not exist for these arguments",
        ));
    };
    if count < 1.0 {
        return Err(fail(Code::InvalidParameterValue, "count must be greater than zero"));
    }
    if low == high {
        return Err(fail(
            Code::InvalidParameterValue,
            "lower bound cannot equal upper bound",
        ));
    }
    let place = ((value - low) / (high - low) * count).floor() + 1.0;
    Ok(Value::Int(place.clamp(0.0, count + 1.0) as i64))
}

fn joined(arguments: &[Value]) -> String {
    let mut out = String::from("[");
    if let Some(Value::List(items)) = arguments.first() {
        for (at, item) in items.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { ", " });
            match item {
                Value::Text(json) => out.push_str(json),
                _ => out.push_str("null"),
            }
        }
    }
    out.push(']');
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    TypeOf,
    Uuid,
    Concat,
    /// With a separator first.
    ConcatWith,
}

const ANY: &[(&str, Kind)] = &[
    ("pg_typeof", Kind::TypeOf),
    ("gen_random_uuid", Kind::Uuid),
    ("concat", Kind::Concat),
    ("concat_ws", Kind::ConcatWith),
];

/// Functions that look at the types of their arguments.
pub fn shared() -> impl Iterator<Item = Arc<ScalarUDF>> {
    ANY.iter()
        .map(|&(name, kind)| Arc::new(ScalarUDF::new_from_impl(OfAny { name, kind })))
}

#[derive(Debug, PartialEq, Eq)]
struct OfAny {
    name: &'static str,
    kind: Kind,
}

impl Hash for OfAny {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

static STABLE: LazyLock<Signature> = LazyLock::new(|| {
    let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
    Signature::one_of(any, Volatility::Immutable)
});
static VOLATILE: LazyLock<Signature> = LazyLock::new(|| Signature::nullary(Volatility::Volatile));

impl ScalarUDFImpl for OfAny {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        match self.kind {
            Kind::Uuid => &VOLATILE,
            _ => &STABLE,
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        let field = match self.kind {
            // A name, which is what is shown of a regtype.
            Kind::TypeOf => PgType::from(Scalar::Regtype)
                .field(self.name, true)
                .with_data_type(DataType::Utf8),
            Kind::Uuid => PgType::from(Scalar::Uuid).field(self.name, false),
            _ => TEXT.field(self.name, true),
        };
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.kind {
            Kind::TypeOf => {
                let name = match arguments.arg_fields.first() {
                    Some(field) if field.data_type().is_null() => "unknown".to_owned(),
                    Some(field) => types::format_type(PgType::of(field).oid().cast_signed(), -1).unwrap_or_default(),
                    None => return Err(fail(Code::UndefinedFunction, "function pg_typeof() does not exist")),
                };
                Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
            }
            Kind::Uuid => {
                let made = (0..arguments.number_rows).map(|_| Some(uuid::Uuid::new_v4().to_string()));
                Ok(ColumnarValue::Array(Arc::new(made.collect::<StringArray>())))
            }
            Kind::Concat => concat(&arguments, None),
            Kind::ConcatWith => concat(&arguments, Some(0)),
        }
    }
}

fn concat(arguments: &ScalarFunctionArgs, separator: Option<usize>) -> Result<ColumnarValue> {
    let constant = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { arguments.number_rows };
    let mut columns = Vec::with_capacity(arguments.args.len());
    for (value, field) in arguments.args.iter().zip(&arguments.arg_fields) {
        let array = value.to_array(rows)?;
        let truth = array.as_any().downcast_ref::<BooleanArray>().cloned();
        columns.push((Texts::new(&array, PgType::of(field))?, truth));
    }
    let cell = |at: usize, row: usize| -> Result<Option<String>> {
        let (texts, truth) = &columns[at];
        match truth {
            Some(truth) if truth.is_valid(row) => Ok(Some(if truth.value(row) { "t" } else { "f" }.to_owned())),
            _ => texts.text(row),
        }
    };
    let mut total = 0_u64;
    let mut row = |row: usize| -> Result<Option<String>> {
        let between = match separator {
            Some(at) if at < columns.len() => match cell(at, row)? {
                Some(between) => between,
                None => return Ok(None),
            },
            _ => String::new(),
        };
        let mut parts = Vec::new();
        for at in separator.map_or(0, |at| at + 1)..columns.len() {
            parts.extend(cell(at, row)?);
        }
        let made = parts.join(&between);
        total += made.len() as u64;
        match total > FUNCTION_RESULT_BYTES {
            true => Err(fail(Code::TooLarge, "the text made is too large")),
            false => Ok(Some(made)),
        }
    };
    let output: StringArray = (0..rows).map(&mut row).collect::<Result<_>>()?;
    match constant {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?)),
        false => Ok(ColumnarValue::Array(Arc::new(output))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_have_dimensions() {
        let nested = Value::List(vec![Value::from(vec![1, 2, 3]), Value::from(vec![4, 5, 6])]);
        assert_eq!(dimension(&[nested.clone(), Value::Int(1)]), Some(2));
        assert_eq!(dimension(&[nested.clone(), Value::Int(2)]), Some(3));
        assert_eq!(dimension(&[Value::List(Vec::new()), Value::Int(1)]), None);
        assert_eq!(bounds(&[nested]), "[1:1][1:2][1:3]");
    }
}
