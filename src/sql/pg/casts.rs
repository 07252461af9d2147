//! Casts that Arrow does not do, or does otherwise than PostgreSQL: each a scalar function that
//! [`super::dialect`] calls instead of the cast, and whose result names its PostgreSQL type.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, Float32Builder, ListArray, ListBuilder, StringArray, new_null_array,
    },
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float16Type, Float32Type},
};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{
        ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};

use super::{
    convert,
    function::{ANY, fail},
    json,
};
use crate::{
    codec::{
        array_text,
        pgtype::{PgType, Scalar},
    },
    error::Code,
    limits::{LIST_ITEMS, VECTOR_DIMENSIONS},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Text in, checked text out.
    Text(Scalar),
    /// `(text or bytes)`.
    Bytea,
    /// `(text or list of numbers, dimensions or -1)`.
    Vector(Scalar),
    /// `(text or list, name of the element's type)`.
    Array,
    /// `(list)`: NULL becomes an empty list, as `ARRAY(SELECT ...)` of no rows is.
    /// `(text, text)`: NULL becomes the other.
    OrEmpty,
    /// `(list)`: a list of `{x, n}`, the elements with their numbers.
    Expand,
}

const CASTS: &[(&str, Kind)] = &[
    ("bulkhead_uuid", Kind::Text(Scalar::Uuid)),
    ("bulkhead_json", Kind::Text(Scalar::Json)),
    ("bulkhead_jsonb", Kind::Text(Scalar::Jsonb)),
    ("bulkhead_bytea", Kind::Bytea),
    (TO_VECTOR, Kind::Vector(Scalar::Vector)),
    ("bulkhead_halfvec", Kind::Vector(Scalar::Halfvec)),
    ("bulkhead_array", Kind::Array),
    ("bulkhead_or_empty", Kind::OrEmpty),
    ("bulkhead_expandarray", Kind::Expand),
];

/// Makes a vector of a text or of an array.
pub const TO_VECTOR: &str = "bulkhead_vector";

static VECTOR: LazyLock<Signature> = LazyLock::new(|| Signature::variadic_any(Volatility::Immutable));

static MADE: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let make = |&(name, kind)| Arc::new(ScalarUDF::new_from_impl(CastFunction { name, kind }));
    CASTS.iter().map(make).collect()
});

/// The functions, made once.
pub fn shared() -> impl Iterator<Item = Arc<ScalarUDF>> {
    MADE.iter().cloned()
}

/// A call of one of them; where there is none of the name, its first argument.
pub(super) fn call(name: &str, mut arguments: Vec<Expr>) -> Expr {
    match MADE.iter().find(|f| f.name() == name) {
        Some(function) => function.call(arguments),
        None => arguments.swap_remove(0),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CastFunction {
    name: &'static str,
    kind: Kind,
}

impl Hash for CastFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for CastFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        match self.kind {
            // One text is one vector at any time: a plan with it is optimized once.
            Kind::Vector(_) => &VECTOR,
            _ => &ANY,
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(DataFusionError::Internal(format!(
            "{} tells a field, not a type",
            self.name
        )))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let first = arguments.arg_fields.first();
        let field = match self.kind {
            Kind::Text(scalar) | Kind::Vector(scalar) => PgType::Scalar(scalar).field(self.name, true),
            Kind::Bytea => PgType::Scalar(Scalar::Bytea).field(self.name, true),
            Kind::Array => {
                let name = match arguments.scalar_arguments.get(1) {
                    Some(Some(ScalarValue::Utf8(Some(name)))) => name.as_str(),
                    _ => "text",
                };
                let element = PgType::from_name(name).unwrap_or(PgType::TEXT);
                let PgType::Scalar(scalar) = element else {
                    return Err(fail(Code::Unsupported, "arrays have one dimension"));
                };
                PgType::Array(scalar).field(self.name, true)
            }
            Kind::OrEmpty => match first {
                Some(list) => list.as_ref().clone().with_nullable(true),
                None => return Err(fail(Code::UndefinedFunction, "an array is missing")),
            },
            Kind::Expand => {
                let element = match first.map(|f| f.data_type()) {
                    Some(DataType::List(item)) => item.data_type().clone(),
                    _ => return Err(fail(Code::DatatypeMismatch, "_pg_expandarray needs an array")),
                };
                let fields = [Field::new("x", element, true), Field::new("n", DataType::Int32, true)];
                let row = Field::new("item", DataType::Struct(fields.into_iter().collect()), true);
                Field::new(self.name, DataType::List(Arc::new(row)), true)
            }
        };
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = arguments.args.first() else {
            return Err(fail(Code::UndefinedFunction, format!("{} needs a value", self.name)));
        };
        let scalar = matches!(first, ColumnarValue::Scalar(_));
        let input = first.to_array(if scalar { 1 } else { arguments.number_rows })?;
        let to = arguments.return_field.data_type();
        let output = match self.kind {
            _ if input.data_type() == &DataType::Null => new_null_array(to, input.len()),
            Kind::Text(of) => checked_text(&input, of)?,
            Kind::Bytea => bytea(&input)?,
            Kind::Vector(of) => {
                let dimensions = match arguments.args.get(1) {
                    Some(ColumnarValue::Scalar(n)) => match n.cast_to(&DataType::Int64) {
                        Ok(ScalarValue::Int64(Some(n))) => usize::try_from(n).ok(),
                        _ => None,
                    },
                    _ => None,
                };
                vectors(&input, to, dimensions.filter(|n| *n > 0), of == Scalar::Halfvec)?
            }
            Kind::Array => lists(&input, to)?,
            Kind::OrEmpty => match arguments.args.get(1) {
                Some(other) if !matches!(input.data_type(), DataType::List(_)) => {
                    let other = cast(&other.to_array(input.len())?, input.data_type())?;
                    arrow::compute::kernels::zip::zip(&arrow::compute::is_not_null(&input)?, &input, &other)?
                }
                _ => or_empty(&input)?,
            },
            Kind::Expand => expand(&input, to)?,
        };
        if scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?))
        } else {
            Ok(ColumnarValue::Array(output))
        }
    }
}

/// Values in the Arrow form of a type that has functions here: `uuid`, `json`, `jsonb`, `bytea`, vectors (of so many
/// dimensions, where that is told) and arrays. `None` for another type.
pub fn convert(input: &ArrayRef, to: PgType, dimensions: Option<usize>) -> Option<Result<ArrayRef>> {
    let null = input.data_type() == &DataType::Null;
    Some(match to {
        _ if null => Ok(new_null_array(&to.arrow(), input.len())),
        PgType::Scalar(of @ (Scalar::Uuid | Scalar::Json | Scalar::Jsonb)) => checked_text(input, of),
        PgType::Scalar(Scalar::Bytea) => bytea(input),
        PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => {
            vectors(input, &to.arrow(), dimensions, to == PgType::Scalar(Scalar::Halfvec))
        }
        PgType::Array(_) => lists(input, &to.arrow()),
        // Text is read as a cast reads it. A numeric's digits are its column's.
        PgType::Scalar(scalar)
            if is_text(input.data_type()) && convert::is_plain(scalar) && scalar != Scalar::Numeric =>
        {
            convert::convert(input, PgType::TEXT, scalar, &to.arrow())
        }
        PgType::Scalar(_) => return None,
    })
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn each_text<T>(input: &ArrayRef, f: impl Fn(&str) -> Result<T>) -> Result<Vec<Option<T>>> {
    let text = cast(input, &DataType::Utf8)?;
    text.as_string::<i32>()
        .iter()
        .map(|value| value.map(&f).transpose())
        .collect()
}

fn checked_text(input: &ArrayRef, of: Scalar) -> Result<ArrayRef> {
    let ours = |e: crate::error::Error| DataFusionError::External(Box::new(e));
    let check = |text: &str| match of {
        Scalar::Uuid => uuid(text),
        Scalar::Jsonb => json::canonical(text).map_err(ours),
        _ => json::check(text).map(|()| text.to_owned()).map_err(ours),
    };
    if of == Scalar::Uuid && (input.data_type().is_numeric() || input.data_type() == &DataType::Boolean) {
        return Err(convert::impossible(PgType::of_arrow(input.data_type()), of));
    }
    if of == Scalar::Uuid
        && let DataType::FixedSizeBinary(16) = input.data_type()
    {
        let bytes = input.as_fixed_size_binary();
        let print = |b: Option<&[u8]>| Some(uuid::Uuid::from_slice(b?).ok()?.to_string());
        return Ok(Arc::new(bytes.iter().map(print).collect::<StringArray>()));
    }
    Ok(Arc::new(each_text(input, check)?.into_iter().collect::<StringArray>()))
}

fn uuid(text: &str) -> Result<String> {
    // PostgreSQL takes braces, and hyphens after any group of four digits.
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let digits: String = inner.chars().filter(|c| *c != '-').collect();
    match uuid::Uuid::try_parse(&digits) {
        Ok(uuid) if digits.len() == 32 && !inner.starts_with('-') => Ok(uuid.to_string()),
        _ => Err(invalid("uuid")),
    }
}

fn invalid(of: &str) -> DataFusionError {
    fail(Code::InvalidText, format!("invalid input syntax for type {of}"))
}

fn bytea(input: &ArrayRef) -> Result<ArrayRef> {
    if !is_text(input.data_type()) {
        return Ok(cast(input, &DataType::Binary)?);
    }
    let parse = |text: &str| match text.strip_prefix("\\x") {
        Some(hex) => {
            let digits: Vec<u32> = hex
                .chars()
                .filter(|c| !c.is_whitespace())
                .map(|c| c.to_digit(16))
                .collect::<Option<_>>()
                .ok_or_else(|| invalid("bytea"))?;
            match digits.len() % 2 {
                0 => Ok(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()),
                _ => Err(fail(
                    Code::InvalidParameterValue,
                    "invalid hexadecimal data: odd number of digits",
                )),
            }
        }
        None => escaped(text).ok_or_else(|| invalid("bytea")),
    };
    let values: Vec<Option<Vec<u8>>> = each_text(input, parse)?;
    Ok(Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>()))
}

/// The escape format: `\\` is a backslash, `\ooo` a byte in octal.
fn escaped(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'\\' {
            out.push(byte);
            at += 1;
        } else if bytes.get(at + 1) == Some(&b'\\') {
            out.push(b'\\');
            at += 2;
        } else {
            let octal = std::str::from_utf8(bytes.get(at + 1..at + 4)?).ok()?;
            out.push(u8::from_str_radix(octal, 8).ok()?);
            at += 4;
        }
    }
    Some(out)
}

/// The vectors with the precision of a halfvec.
fn halves(input: &ArrayRef) -> Result<ArrayRef> {
    let lists = input.as_list::<i32>();
    let values = lists.values().as_primitive::<Float32Type>();
    let half = |v: f32| <Float16Type as ArrowPrimitiveType>::Native::from_f32(v).to_f32();
    if values.iter().flatten().any(|v| v.is_finite() && half(v).is_infinite()) {
        return Err(fail(
            Code::NumericOutOfRange,
            "a value is out of range for type halfvec",
        ));
    }
    let DataType::List(field) = lists.data_type() else {
        return Ok(input.clone());
    };
    let rounded = values.unary::<_, Float32Type>(half);
    let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
    Ok(Arc::new(ListArray::try_new(
        field.clone(),
        offsets,
        Arc::new(rounded),
        nulls,
    )?))
}

/// Vectors written as text.
pub fn vectors_of_text(input: &ArrayRef) -> Result<ArrayRef> {
    vectors(input, &Scalar::Vector.arrow(), None, false)
}

fn vectors(input: &ArrayRef, to: &DataType, dimensions: Option<usize>, half: bool) -> Result<ArrayRef> {
    let output: ArrayRef = if is_text(input.data_type()) {
        let mut builder = ListBuilder::new(Float32Builder::new());
        for vector in each_text(input, vector)? {
            match vector {
                Some(values) => builder.append_value(values.into_iter().map(Some)),
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish())
    } else if input.data_type() == to {
        input.clone()
    } else if matches!(
        input.data_type(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
    ) {
        cast(input, to)?
    } else {
        let from = PgType::of_arrow(input.data_type()).oid().cast_signed();
        let from = super::types::format_type(from, -1).unwrap_or_default();
        return Err(fail(Code::CannotCoerce, format!("cannot cast type {from} to vector")));
    };
    let output = match half {
        true => halves(&output)?,
        false => output,
    };
    let lists = output.as_list::<i32>();
    for value in lists.iter().flatten() {
        check_vector(
            value.as_primitive::<Float32Type>().values(),
            value.null_count(),
            dimensions,
        )?;
    }
    Ok(output)
}

fn check_vector(values: &[f32], nulls: usize, dimensions: Option<usize>) -> Result<()> {
    let complain = |message: String| Err(fail(Code::DataException, message));
    match (values.len(), dimensions) {
        _ if nulls > 0 => Err(fail(Code::NullValueNotAllowed, "array must not contain nulls")),
        (0, _) => complain("vector must have at least 1 dimension".to_owned()),
        (n, _) if n > VECTOR_DIMENSIONS => {
            let message = format!("vector cannot have more than {VECTOR_DIMENSIONS} dimensions");
            Err(fail(Code::TooLarge, message))
        }
        (n, Some(expected)) if n != expected => complain(format!("expected {expected} dimensions, not {n}")),
        _ if values.iter().any(|v| v.is_nan()) => complain("NaN not allowed in vector".to_owned()),
        _ if values.iter().any(|v| v.is_infinite()) => complain("infinite value not allowed in vector".to_owned()),
        _ => Ok(()),
    }
}

fn vector(text: &str) -> Result<Vec<f32>> {
    let wrong = || {
        let shown: String = text.chars().take(100).collect();
        fail(
            Code::InvalidText,
            format!("invalid input syntax for type vector: \"{shown}\""),
        )
    };
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .ok_or_else(wrong)?;
    if inner.trim().is_empty() {
        return Ok(Vec::new());
    }
    let number = |t: &str| {
        let t = t.trim();
        match t.parse::<f32>() {
            Ok(value) if value.is_infinite() && t.contains(|c: char| c.is_ascii_digit()) => Err(fail(
                Code::NumericOutOfRange,
                format!("\"{t}\" is out of range for type vector"),
            )),
            Ok(value) => Ok(value),
            Err(_) => Err(wrong()),
        }
    };
    inner.split(',').map(number).collect()
}

fn lists(input: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if !is_text(input.data_type()) {
        return match input.data_type() {
            from if from == to => Ok(input.clone()),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Ok(cast(input, to)?),
            _ => Err(fail(
                Code::DatatypeMismatch,
                "only text and arrays can be cast to an array",
            )),
        };
    }
    let mut builder = ListBuilder::new(arrow::array::StringBuilder::new());
    for elements in each_text(input, |text| parse_array(text).ok_or_else(malformed))? {
        match elements {
            Some(elements) if elements.len() > LIST_ITEMS => {
                return Err(fail(
                    Code::TooLarge,
                    format!("an array literal has more than {LIST_ITEMS} elements"),
                ));
            }
            Some(elements) => builder.append_value(elements),
            None => builder.append_null(),
        }
    }
    let lists = builder.finish();
    let (Some(PgType::Scalar(scalar)), DataType::List(item)) = (element_of(to), to) else {
        return Ok(cast(&lists, to)?);
    };
    let values: ArrayRef = match scalar {
        scalar if convert::is_plain(scalar) => {
            convert::convert(lists.values(), PgType::TEXT, scalar, item.data_type())?
        }
        _ => cast(lists.values(), item.data_type())?,
    };
    let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
    Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, nulls)?))
}

/// The type that elements of a list in this Arrow type are read as.
fn element_of(list: &DataType) -> Option<PgType> {
    match list {
        DataType::List(item) => Some(PgType::of(item)),
        _ => None,
    }
}

fn malformed() -> DataFusionError {
    fail(Code::InvalidText, "malformed array literal")
}

/// The elements of a one-dimensional array literal such as `{a,"b c",NULL}`; `None` where malformed.
pub fn parse_array(text: &str) -> Option<Vec<Option<String>>> {
    array_text::items(text).ok()
}

fn or_empty(input: &ArrayRef) -> Result<ArrayRef> {
    let Some(lists) = input.as_list_opt::<i32>() else {
        return Ok(input.clone());
    };
    let DataType::List(item) = lists.data_type() else {
        return Ok(input.clone());
    };
    if lists.null_count() == 0 {
        return Ok(input.clone());
    }
    // A NULL list may still cover values: its length becomes 0, so they are taken out.
    let kept: Vec<ArrayRef> = lists.iter().flatten().collect();
    let values = match kept.as_slice() {
        [] => new_null_array(item.data_type(), 0),
        kept => arrow::compute::concat(&kept.iter().map(|a| a.as_ref()).collect::<Vec<_>>())?,
    };
    let lengths = lists.iter().map(|l| l.map_or(0, |l| l.len()));
    Ok(Arc::new(ListArray::try_new(
        item.clone(),
        OffsetBuffer::from_lengths(lengths),
        values,
        None,
    )?))
}

fn expand(input: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let (lists, DataType::List(item)) = (input.as_list::<i32>(), to) else {
        return Err(fail(Code::DatatypeMismatch, "_pg_expandarray needs an array"));
    };
    let DataType::Struct(fields) = item.data_type() else {
        return Err(fail(Code::DatatypeMismatch, "_pg_expandarray needs an array"));
    };
    let numbers = lists.iter().flat_map(|l| 1..=l.map_or(0, |l| l.len()) as i32);
    let numbers: ArrayRef = Arc::new(numbers.collect::<arrow::array::Int32Array>());
    let dense = or_empty(input)?;
    let dense = dense.as_list::<i32>();
    let from = dense.value_offsets().first().copied().unwrap_or(0) as usize;
    let elements = dense.values().slice(from, numbers.len());
    let rows = arrow::array::StructArray::try_new(fields.clone(), vec![elements, numbers], None)?;
    let lengths = dense.iter().map(|l| l.map_or(0, |l| l.len()));
    Ok(Arc::new(ListArray::try_new(
        item.clone(),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(rows),
        None,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_literals_are_read_as_postgresql_does() {
        let read = |text| {
            parse_array(text).map(|e| {
                e.into_iter()
                    .map(|e| e.unwrap_or("NULL!".into()))
                    .collect::<Vec<_>>()
                    .join("|")
            })
        };
        assert_eq!(read("{}").as_deref(), Some(""));
        assert_eq!(
            read("{a, \"b \\\"c\" ,NULL,\"NULL\",d e }").as_deref(),
            Some("a|b \"c|NULL!|NULL|d e")
        );
        assert_eq!(read("{a"), None);
        assert_eq!(read("{a,}"), None);
        assert_eq!(read("{{a},{b}}"), None);
    }

    #[test]
    fn uuids_bytes_and_vectors_are_checked() {
        let hex = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        assert_eq!(uuid("{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}").ok().as_deref(), Some(hex));
        assert!(uuid("a0eebc99").is_err());
        assert_eq!(escaped("a\\\\b\\101"), Some(b"a\\bA".to_vec()));
        assert_eq!(escaped("\\9"), None);
        assert_eq!(vector("[1, 2.5,-3e1]").ok(), Some(vec![1.0, 2.5, -30.0]));
        assert!(vector("1,2").is_err() && vector("[1,,2]").is_err());
        assert!(check_vector(&[1.0], 0, Some(2)).is_err() && check_vector(&[f32::NAN], 0, None).is_err());
    }
}
