//! Casts between PostgreSQL's plain types: `bulkhead_cast(value, 'type', modifier)`, which [`super::dialect`] calls instead
//! of the cast. Text is read as PostgreSQL reads it, printed as it prints it; numbers are rounded, not cut off, and what
//! does not fit is an error.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        IntervalMonthDayNanoArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
    },
    compute::{CastOptions, cast, cast_with_options},
    datatypes::{DataType, Decimal128Type, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano},
};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{
        ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
    },
};

use super::{function::fail, text::Texts, types};
use crate::{
    codec::{
        datetime, numeric,
        pgtype::{PgType, Scalar},
    },
    error::Code,
};

/// Name of the function.
pub const CAST: &str = "bulkhead_cast";

/// The types it casts to.
pub fn is_plain(scalar: Scalar) -> bool {
    use Scalar::{
        Bool, Bpchar, Date, Float4, Float8, Int2, Int4, Int8, Interval, Name, Numeric, Text, Time, Timestamp,
        Timestamptz, Varchar,
    };
    matches!(
        scalar,
        Bool | Bpchar
            | Date
            | Float4
            | Float8
            | Int2
            | Int4
            | Int8
            | Interval
            | Name
            | Numeric
            | Text
            | Time
            | Timestamp
            | Timestamptz
            | Varchar
    )
}

/// The function, made once.
pub fn function() -> Arc<ScalarUDF> {
    static MADE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let any = vec![TypeSignature::Any(2), TypeSignature::Any(3)];
        let signature = Signature::one_of(any, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Convert { signature }))
    });
    MADE.clone()
}

/// The cast of an expression to a type.
pub fn to(expr: Expr, scalar: Scalar) -> Expr {
    function().call(vec![expr, Expr::Literal(scalar.name().into(), None)])
}

#[derive(Debug)]
struct Convert {
    signature: Signature,
}

impl PartialEq for Convert {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Convert {}

impl Hash for Convert {
    fn hash<H: Hasher>(&self, state: &mut H) {
        CAST.hash(state);
    }
}

fn wanted(arguments: &[Option<&ScalarValue>]) -> Result<(Scalar, i32)> {
    let scalar = match arguments.get(1) {
        Some(Some(ScalarValue::Utf8(Some(name)))) => PgType::from_name(name),
        _ => None,
    };
    let modifier = match arguments.get(2) {
        Some(Some(value)) => match value.cast_to(&DataType::Int32) {
            Ok(ScalarValue::Int32(Some(modifier))) => modifier,
            _ => -1,
        },
        _ => -1,
    };
    match scalar {
        Some(PgType::Scalar(scalar)) if is_plain(scalar) => Ok((scalar, modifier)),
        _ => {
            let name = match arguments.get(1) {
                Some(Some(ScalarValue::Utf8(Some(name)))) => name.as_str(),
                _ => "",
            };
            Err(fail(Code::UndefinedObject, format!("type \"{name}\" does not exist")))
        }
    }
}

impl ScalarUDFImpl for Convert {
    fn name(&self) -> &str {
        CAST
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(DataFusionError::Internal(format!("{CAST} tells a field, not a type")))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let (scalar, modifier) = wanted(arguments.scalar_arguments)?;
        let field = PgType::from(scalar).field_of(CAST, true, if scalar == Scalar::Numeric { modifier } else { -1 });
        if scalar != Scalar::Numeric || modifier >= 0 {
            return Ok(Arc::new(field));
        }
        // A numeric of no given scale keeps the digits it has.
        let from = arguments.arg_fields.first().map(|f| f.data_type());
        let kept = match (from, arguments.scalar_arguments.first()) {
            (Some(decimal @ DataType::Decimal128(..)), _) => decimal.clone(),
            (Some(DataType::Int16), _) => DataType::Decimal128(5, 0),
            (Some(DataType::Int32), _) => DataType::Decimal128(10, 0),
            (Some(DataType::Int64), _) => DataType::Decimal128(19, 0),
            (_, Some(Some(ScalarValue::Utf8(Some(literal))))) => match written_scale(literal) {
                Some(scale) => DataType::Decimal128(38, scale),
                None => field.data_type().clone(),
            },
            _ => field.data_type().clone(),
        };
        Ok(Arc::new(field.with_data_type(kept)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(first), Some(from)) = (arguments.args.first(), arguments.arg_fields.first()) else {
            return Err(fail(Code::UndefinedFunction, "a cast needs a value"));
        };
        let target = arguments.return_field.data_type();
        let scalar = match PgType::of(&arguments.return_field) {
            PgType::Scalar(scalar) => scalar,
            PgType::Array(_) => return Err(DataFusionError::Internal("a cast to an array".to_owned())),
        };
        let constant = matches!(first, ColumnarValue::Scalar(_));
        let input = first.to_array(if constant { 1 } else { arguments.number_rows })?;
        let output = convert(&input, PgType::of(from), scalar, target)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?)),
            false => Ok(ColumnarValue::Array(output)),
        }
    }
}

/// Digits after the point of a plain number.
fn written_scale(literal: &str) -> Option<i8> {
    let digits = literal.trim().trim_start_matches(['-', '+']);
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let fraction = digits.split_once('.').map_or("", |(_, fraction)| fraction);
    (plain && digits.len() <= 38).then(|| i8::try_from(fraction.len()).ok())?
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The values of one type as those of a plain type.
pub fn convert(input: &ArrayRef, from: PgType, to: Scalar, target: &DataType) -> Result<ArrayRef> {
    let data_type = input.data_type();
    if data_type.is_null() {
        return Ok(new_null_array(target, input.len()));
    }
    match to {
        Scalar::Text | Scalar::Varchar | Scalar::Name | Scalar::Bpchar => {
            if data_type == target && matches!(from, PgType::Scalar(_)) {
                return Ok(input.clone());
            }
            let texts = Texts::new(input, from)?;
            let each = (0..input.len()).map(|row| texts.text(row));
            Ok(Arc::new(each.collect::<Result<StringArray>>()?))
        }
        _ if is_text(data_type) => parsed(input, to, target),
        _ if data_type == target => Ok(input.clone()),
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => integers(input, to, target),
        Scalar::Numeric => decimals(input, target),
        Scalar::Bool => match data_type {
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Ok(cast(input, target)?),
            _ => Err(impossible(from, to)),
        },
        Scalar::Float4 | Scalar::Float8 if data_type.is_numeric() => {
            let output = cast(input, target)?;
            match super::arithmetic::became_infinite(input, &output) {
                true => Err(out_of_range(to)),
                false => Ok(output),
            }
        }
        Scalar::Date | Scalar::Time | Scalar::Timestamp | Scalar::Timestamptz if data_type.is_temporal() => {
            Ok(checked(input, target)?)
        }
        Scalar::Interval if matches!(data_type, DataType::Interval(_) | DataType::Duration(_)) => {
            Ok(cast(input, target)?)
        }
        Scalar::Interval if matches!(data_type, DataType::Time64(_)) => {
            let micros = cast(&cast(input, &Scalar::Time.arrow())?, &DataType::Int64)?;
            let micros = micros.as_primitive::<Int64Type>();
            let intervals = micros
                .iter()
                .map(|m| m.map(|m| IntervalMonthDayNano::new(0, 0, m.saturating_mul(1000))));
            Ok(Arc::new(intervals.collect::<IntervalMonthDayNanoArray>()))
        }
        _ => Err(impossible(from, to)),
    }
}

fn name(pg_type: PgType) -> String {
    types::format_type(pg_type.oid().cast_signed(), -1).unwrap_or_default()
}

pub(super) fn impossible(from: PgType, to: Scalar) -> DataFusionError {
    let (from, to) = (name(from), name(to.into()));
    fail(Code::CannotCoerce, format!("cannot cast type {from} to {to}"))
}

fn checked(input: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(input, target, &options)?)
}

fn out_of_range(to: Scalar) -> DataFusionError {
    fail(Code::NumericOutOfRange, format!("{} out of range", name(to.into())))
}

fn integers(input: &ArrayRef, to: Scalar, target: &DataType) -> Result<ArrayRef> {
    let whole: ArrayRef = match input.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let floats = cast(input, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            // Rounded to the nearest, halves to the even one. 2^63 itself does not fit.
            let each = floats.iter().map(|f| match f.map(f64::round_ties_even) {
                Some(f) if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&f) => {
                    Ok(Some(f as i64))
                }
                Some(_) => Err(out_of_range(to)),
                None => Ok(None),
            });
            Arc::new(each.collect::<Result<Int64Array>>()?)
        }
        DataType::Decimal128(_, scale) => {
            let scale = u32::from(scale.unsigned_abs());
            let unit = 10_i128.pow(scale.min(38));
            let decimals = input.as_primitive::<Decimal128Type>();
            let each = decimals
                .iter()
                .map(|d| match d.map(|d| i64::try_from(rounded(d, unit))) {
                    Some(Ok(whole)) => Ok(Some(whole)),
                    Some(Err(_)) => Err(out_of_range(to)),
                    None => Ok(None),
                });
            Arc::new(each.collect::<Result<Int64Array>>()?)
        }
        DataType::Boolean | DataType::Int16 | DataType::Int32 | DataType::Int64 => input.clone(),
        other if other.is_integer() => cast(input, &DataType::Int64)?,
        other => return Err(impossible(PgType::of_arrow(other), to)),
    };
    checked(&whole, target).map_err(|_| out_of_range(to))
}

/// Division that rounds halves away from zero.
fn rounded(value: i128, unit: i128) -> i128 {
    let (whole, rest) = (value / unit, value % unit);
    match rest.unsigned_abs() >= unit.unsigned_abs().div_ceil(2) && unit > 1 {
        true => whole + value.signum(),
        false => whole,
    }
}

fn field_overflow(precision: u8, scale: i8) -> DataFusionError {
    let whole = i32::from(precision) - i32::from(scale);
    let error = crate::error::Error::new(Code::NumericOutOfRange, "numeric field overflow").with_detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{whole}."
    ));
    DataFusionError::External(Box::new(error))
}

fn decimals(input: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = *target else {
        return Err(DataFusionError::Internal("numeric is kept in another type".to_owned()));
    };
    match input.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let texts = Texts::new(input, PgType::of_arrow(input.data_type()))?;
            let each = (0..input.len()).map(|row| texts.text(row));
            let text: ArrayRef = Arc::new(each.collect::<Result<StringArray>>()?);
            parsed(&text, Scalar::Numeric, target)
        }
        other if other.is_numeric() => checked(input, target).map_err(|_| field_overflow(precision, scale)),
        other => Err(impossible(PgType::of_arrow(other), Scalar::Numeric)),
    }
}

/// Reads text.
fn parsed(input: &ArrayRef, to: Scalar, target: &DataType) -> Result<ArrayRef> {
    let text = cast(input, &DataType::Utf8)?;
    let text = text.as_string::<i32>();
    let wrong = |t: &str| {
        let code = match to {
            Scalar::Date | Scalar::Time | Scalar::Timestamp | Scalar::Timestamptz | Scalar::Interval => {
                // In the form of one, and none.
                let digits = t.chars().filter(char::is_ascii_digit).count();
                let formed = t.chars().all(|c| c.is_ascii_digit() || "-:./+TZ ".contains(c));
                match digits >= 3 && formed && to != Scalar::Interval {
                    true => {
                        return fail(
                            Code::DatetimeOverflow,
                            format!("date/time field value out of range: \"{t}\""),
                        );
                    }
                    false => Code::InvalidDatetime,
                }
            }
            _ => Code::InvalidText,
        };
        fail(
            code,
            format!("invalid input syntax for type {}: \"{t}\"", name(to.into())),
        )
    };
    fn each<T, C: FromIterator<Option<T>>>(text: &StringArray, read: impl Fn(&str) -> Result<T>) -> Result<C> {
        text.iter().map(|t| t.map(&read).transpose()).collect()
    }
    let output: ArrayRef = match to {
        Scalar::Bool => Arc::new(each::<_, BooleanArray>(text, |t| boolean(t).ok_or_else(|| wrong(t)))?),
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => {
            let (least, most) = match to {
                Scalar::Int2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
                Scalar::Int4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
                _ => (i64::MIN, i64::MAX),
            };
            let read = |t: &str| {
                let fits = |n: i128| i64::try_from(n).ok().filter(|n| (least..=most).contains(n));
                let too_large = || {
                    let what = name(to.into());
                    fail(
                        Code::NumericOutOfRange,
                        format!("value \"{t}\" is out of range for type {what}"),
                    )
                };
                match integer(t) {
                    Some(Some(number)) => fits(number).ok_or_else(too_large),
                    Some(None) => Err(too_large()),
                    None => Err(wrong(t)),
                }
            };
            Arc::new(each::<_, Int64Array>(text, read)?)
        }
        Scalar::Float4 | Scalar::Float8 => {
            let read = |t: &str| {
                let value = float(t).ok_or_else(|| wrong(t))?;
                let finite = t.contains(|c: char| c.is_ascii_digit());
                let infinite = match to {
                    Scalar::Float4 => (value as f32).is_infinite(),
                    _ => value.is_infinite(),
                };
                match infinite && finite {
                    true => {
                        let what = name(to.into());
                        Err(fail(
                            Code::NumericOutOfRange,
                            format!("\"{t}\" is out of range for type {what}"),
                        ))
                    }
                    false => Ok(value),
                }
            };
            Arc::new(each::<_, Float64Array>(text, read)?)
        }
        Scalar::Numeric => {
            let DataType::Decimal128(precision, scale) = *target else {
                return Err(DataFusionError::Internal("numeric is kept in another type".to_owned()));
            };
            let most = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
            let read = |t: &str| {
                let ours = |e| DataFusionError::External(Box::new(e));
                let value = numeric::from_text(t, u32::from(scale.unsigned_abs())).map_err(ours)?;
                match value.unsigned_abs() < most.unsigned_abs() {
                    true => Ok(value),
                    false => Err(field_overflow(precision, scale)),
                }
            };
            Arc::new(each::<_, Decimal128Array>(text, read)?.with_precision_and_scale(precision, scale)?)
        }
        Scalar::Date => Arc::new(each::<_, Date32Array>(text, |t| {
            datetime::date(t).ok_or_else(|| wrong(t))
        })?),
        Scalar::Time => Arc::new(each::<_, Time64MicrosecondArray>(text, |t| {
            datetime::time(t).ok_or_else(|| wrong(t))
        })?),
        Scalar::Timestamp | Scalar::Timestamptz => {
            let zoned = to == Scalar::Timestamptz;
            let read = |t: &str| datetime::timestamp(t, zoned).ok_or_else(|| wrong(t));
            let times: TimestampMicrosecondArray = each(text, read)?;
            Arc::new(times.with_data_type(to.arrow()))
        }
        _ => Arc::new(each::<_, IntervalMonthDayNanoArray>(text, |t| {
            let read = datetime::interval(t).ok_or_else(|| wrong(t))?;
            let nanos = read.micros.checked_mul(1000);
            let nanos = nanos.ok_or_else(|| fail(Code::DatetimeOverflow, "interval out of range"))?;
            Ok(IntervalMonthDayNano::new(read.months, read.days, nanos))
        })?),
    };
    match output.data_type() == target {
        true => Ok(output),
        false => checked(&output, target),
    }
}

/// `true` and `false` as PostgreSQL takes them: any unambiguous beginning of a word.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    match text.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ if begins("true", 1) || begins("yes", 1) || text == "on" => Some(true),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Some(false),
        _ => None,
    }
}

/// A whole number; `Some(None)` where it has the form of one and is too large for anything.
fn integer(text: &str) -> Option<Option<i128>> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().ok())
}

fn float(text: &str) -> Option<f64> {
    let text = text.trim();
    let lower = text.trim_start_matches(['-', '+']).to_ascii_lowercase();
    let word = matches!(lower.as_str(), "nan" | "inf" | "infinity");
    let number = lower.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    (word || number).then(|| text.parse().ok())?
}
