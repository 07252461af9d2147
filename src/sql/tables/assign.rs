//! Values on their way into a column: PostgreSQL's assignment casts, its modifiers and its errors.
//!
//! A literal without a type takes the column's. A value of another type is converted where PostgreSQL would without
//! being asked, and refused otherwise. `varchar(n)`, `char(n)`, `numeric(p,s)`, `timestamp(p)` and `vector(n)` hold.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, StringArray, new_null_array},
    compute::{CastOptions, cast_with_options, kernels::arity::unary},
    datatypes::{
        DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Time64MicrosecondType, TimeUnit,
        TimestampMicrosecondType,
    },
    error::ArrowError,
    util::display::FormatOptions,
};

use crate::{
    codec::pgtype::{PgType, Scalar, numeric_modifier},
    error::{Code, Error, Result},
    sql::{complaints::from_datafusion, pg},
    table::schema::ColumnDef,
};

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) enum From {
    /// Literals without a type, as text.
    Unknown,
    /// Expressions of a type.
    Typed(PgType),
}

/// The values in the form that the column keeps.
///
/// # Errors
/// 42804 where there is no such assignment; 22001, 22003, 22007, 22P02 and 22000 where a value does not fit.
pub(in crate::sql) fn assign(values: &ArrayRef, from: From, column: &ColumnDef) -> Result<ArrayRef> {
    let field = column.field();
    let wanted = field.data_type();
    if values.data_type() == &DataType::Null || values.null_count() == values.len() {
        return Ok(new_null_array(wanted, values.len()));
    }
    let as_is = from == From::Typed(column.pg_type) && values.data_type() == wanted;
    let converted = match as_is {
        true => values.clone(),
        false => convert(values, from, column, wanted)?,
    };
    modified(converted, column, as_is)
}

/// The name of a type as PostgreSQL prints it.
pub(in crate::sql) fn type_name(pg_type: PgType, modifier: i32) -> String {
    pg::types::format_type(pg_type.oid().cast_signed(), modifier).unwrap_or_else(|| pg_type.name())
}

fn is_text(pg_type: PgType) -> bool {
    use Scalar::{Bpchar, Char, Name, Text, Unknown, Varchar};
    matches!(pg_type, PgType::Scalar(Text | Varchar | Bpchar | Name | Char | Unknown))
}

fn is_number(pg_type: PgType) -> bool {
    use Scalar::{Float4, Float8, Int2, Int4, Int8, Numeric, Oid, Regclass, Regproc, Regtype};
    matches!(
        pg_type,
        PgType::Scalar(Int2 | Int4 | Int8 | Float4 | Float8 | Numeric | Oid | Regclass | Regproc | Regtype)
    )
}

/// Whether a value of one type is put into a column of another without being asked.
fn assignable(from: PgType, to: PgType) -> bool {
    use Scalar::{Date, Halfvec, Interval, Json, Jsonb, Time, Timestamp, Timestamptz, Uuid, Vector, Void};
    if from == to || is_text(to) || from == PgType::Scalar(Void) {
        return true;
    }
    match (from, to) {
        _ if is_number(from) => is_number(to),
        // Functions of DataFusion's give these as text.
        (_, PgType::Scalar(Uuid | Json | Jsonb)) if is_text(from) => true,
        (PgType::Scalar(Date), PgType::Scalar(Timestamp | Timestamptz)) => true,
        (PgType::Scalar(Timestamp | Timestamptz), PgType::Scalar(Date | Time | Timestamp | Timestamptz)) => true,
        (PgType::Scalar(Time), PgType::Scalar(Interval)) | (PgType::Scalar(Interval), PgType::Scalar(Time)) => true,
        (PgType::Scalar(Json | Jsonb), PgType::Scalar(Json | Jsonb)) => true,
        (PgType::Scalar(Vector | Halfvec), PgType::Scalar(Vector | Halfvec)) => true,
        (PgType::Array(of), PgType::Scalar(Vector | Halfvec)) => is_number(of.into()),
        (PgType::Scalar(Vector | Halfvec), PgType::Array(Scalar::Float4)) => true,
        (PgType::Array(from), PgType::Array(to)) => assignable(from.into(), to.into()),
        _ => false,
    }
}

fn convert(values: &ArrayRef, from: From, column: &ColumnDef, wanted: &DataType) -> Result<ArrayRef> {
    let to = column.pg_type;
    if let From::Typed(from) = from
        && !assignable(from, to)
    {
        let (to, from) = (type_name(to, -1), type_name(from, -1));
        let name = &column.name;
        return Err(Error::new(
            Code::DatatypeMismatch,
            format!("column \"{name}\" is of type {to} but expression is of type {from}"),
        )
        .with_hint("You will need to rewrite or cast the expression."));
    }
    if is_text(to) {
        return cast(values, &DataType::Utf8);
    }
    let dimensions = match to {
        PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => usize::try_from(column.type_modifier).ok(),
        _ => None,
    };
    let values = match from {
        From::Unknown => trimmed(values)?,
        From::Typed(_) => values.clone(),
    };
    if let Some(converted) = pg::casts::convert(&values, to, dimensions.filter(|n| *n > 0)) {
        return converted.map_err(from_datafusion);
    }
    let text = matches!(
        values.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    match wanted {
        DataType::Int16 | DataType::Int32 | DataType::Int64 if !text => {
            // numeric rounds a half away from zero, floats to the even neighbour.
            let round = match from {
                From::Typed(PgType::Scalar(Scalar::Numeric)) => f64::round,
                _ => f64::round_ties_even,
            };
            integers(&values, wanted, to, round)
        }
        DataType::Float32 | DataType::Float64 if !text => number(&values, wanted, to),
        DataType::Decimal128(..) => decimals(&values, wanted, column),
        _ => cast(&values, wanted),
    }
}

fn strict() -> CastOptions<'static> {
    CastOptions {
        safe: false,
        format_options: FormatOptions::default(),
    }
}

fn cast(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    cast_with_options(values, to, &strict()).map_err(|e| from_datafusion(e.into()))
}

/// Literals without the white space around them, which no type but text keeps.
fn trimmed(values: &ArrayRef) -> Result<ArrayRef> {
    let text = cast(values, &DataType::Utf8)?;
    let outside = |v: &str| v.starts_with(char::is_whitespace) || v.ends_with(char::is_whitespace);
    if !text.as_string::<i32>().iter().flatten().any(outside) {
        return Ok(text);
    }
    let inner = text.as_string::<i32>().iter().map(|v| v.map(str::trim));
    Ok(Arc::new(inner.collect::<StringArray>()))
}

/// Rounds what has a fraction, as PostgreSQL does.
fn integers(values: &ArrayRef, wanted: &DataType, to: PgType, round: fn(f64) -> f64) -> Result<ArrayRef> {
    let whole = match values.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let floats = cast(values, &DataType::Float64)?;
            let floats: Float64Array = unary(floats.as_primitive::<Float64Type>(), round);
            if floats.iter().flatten().any(|v| !v.is_finite()) {
                return Err(out_of_range(to));
            }
            Arc::new(floats) as ArrayRef
        }
        DataType::Decimal128(_, scale) if *scale > 0 => {
            number(values, &DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0), to)?
        }
        _ => values.clone(),
    };
    number(&whole, wanted, to)
}

fn number(values: &ArrayRef, wanted: &DataType, to: PgType) -> Result<ArrayRef> {
    cast_with_options(values, wanted, &strict()).map_err(|error| match error {
        ArrowError::CastError(_) | ArrowError::ArithmeticOverflow(_) | ArrowError::InvalidArgumentError(_) => {
            out_of_range(to)
        }
        other => from_datafusion(other.into()),
    })
}

fn out_of_range(to: PgType) -> Error {
    Error::new(Code::NumericOutOfRange, format!("{} out of range", type_name(to, -1)))
}

fn decimals(values: &ArrayRef, wanted: &DataType, column: &ColumnDef) -> Result<ArrayRef> {
    let converted = cast_with_options(values, wanted, &strict());
    converted.map_err(|error| {
        let text = error.to_string();
        let large = ["too large", "overflow", "precision"]
            .iter()
            .any(|word| text.contains(word));
        match (large, numeric_modifier(column.type_modifier)) {
            (true, Some((precision, scale))) => numeric_overflow(precision, scale),
            (true, None) => Error::new(Code::NumericOutOfRange, "value overflows numeric format"),
            (false, _) => from_datafusion(error.into()),
        }
    })
}

fn numeric_overflow(precision: u8, scale: i8) -> Error {
    let whole = i16::from(precision) - i16::from(scale);
    let less = if whole == 0 {
        "1".to_owned()
    } else {
        format!("10^{whole}")
    };
    Error::new(Code::NumericOutOfRange, "numeric field overflow").with_detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than {less}."
    ))
}

/// Makes the column's modifier hold. `kept` are values that may come from the same column.
fn modified(values: ArrayRef, column: &ColumnDef, kept: bool) -> Result<ArrayRef> {
    let modifier = column.type_modifier;
    match column.pg_type {
        PgType::Scalar(scalar @ (Scalar::Varchar | Scalar::Bpchar)) => {
            let most = usize::try_from(modifier - 4).ok().filter(|_| modifier > 4);
            if most.is_none() && scalar == Scalar::Varchar {
                return Ok(values);
            }
            lengths(values, column, most)
        }
        PgType::Scalar(Scalar::Numeric) => match numeric_modifier(modifier) {
            Some((precision, scale)) => within(values, precision, scale),
            None => Ok(values),
        },
        PgType::Scalar(Scalar::Timestamp | Scalar::Timestamptz) if (0..6).contains(&modifier) => {
            let zone = match values.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let unit = 10_i64.pow((6 - modifier).unsigned_abs());
            let rounded = values
                .as_primitive::<TimestampMicrosecondType>()
                .unary::<_, TimestampMicrosecondType>(|v| round(v, unit));
            Ok(Arc::new(
                rounded.with_data_type(DataType::Timestamp(TimeUnit::Microsecond, zone)),
            ))
        }
        PgType::Scalar(Scalar::Time) if (0..6).contains(&modifier) => {
            let unit = 10_i64.pow((6 - modifier).unsigned_abs());
            let rounded = values
                .as_primitive::<Time64MicrosecondType>()
                .unary::<_, Time64MicrosecondType>(|v| round(v, unit));
            Ok(Arc::new(rounded))
        }
        PgType::Scalar(Scalar::Vector | Scalar::Halfvec) if kept => {
            let dimensions = usize::try_from(modifier).ok().filter(|n| *n > 0);
            match pg::casts::convert(&values, column.pg_type, dimensions) {
                Some(checked) => checked.map_err(from_datafusion),
                None => Ok(values),
            }
        }
        _ => Ok(values),
    }
}

fn round(value: i64, unit: i64) -> i64 {
    let down = value - value.rem_euclid(unit);
    match value.rem_euclid(unit) * 2 >= unit {
        true => down.saturating_add(unit),
        false => down,
    }
}

/// `char(n)` is kept without the spaces at its end, which count for nothing; `varchar(n)` loses those beyond n.
fn lengths(values: ArrayRef, column: &ColumnDef, most: Option<usize>) -> Result<ArrayRef> {
    let padded = column.pg_type == PgType::Scalar(Scalar::Bpchar);
    let texts = values.as_string::<i32>();
    let fits = |v: &str| most.is_none_or(|most| v.len() <= most) && !(padded && v.ends_with(' '));
    if texts.iter().flatten().all(fits) {
        return Ok(values);
    }
    let too_long = || {
        let name = type_name(column.pg_type, column.type_modifier);
        Error::new(Code::StringTooLong, format!("value too long for type {name}"))
    };
    let kept = texts.iter().map(|value| {
        let Some(value) = value else { return Ok(None) };
        let end = match most.and_then(|most| value.char_indices().nth(most)) {
            Some((at, _)) if value[at..].chars().all(|c| c == ' ') => at,
            Some(_) => return Err(too_long()),
            None => value.len(),
        };
        let kept = &value[..end];
        Ok(Some(if padded { kept.trim_end_matches(' ') } else { kept }))
    });
    Ok(Arc::new(kept.collect::<Result<StringArray>>()?))
}

/// Arrow checks digits only where it converts.
fn within(values: ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let Some(decimals) = values.as_primitive_opt::<Decimal128Type>() else {
        return Ok(values);
    };
    let limit = 10_i128.checked_pow(precision.into());
    let fits = |v: i128| limit.is_none_or(|limit| v.unsigned_abs() < limit.unsigned_abs());
    match decimals.iter().flatten().all(fits) {
        true => Ok(values),
        false => Err(numeric_overflow(precision, scale)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, Int64Array};

    use super::*;

    fn column(scalar: Scalar, type_modifier: i32) -> ColumnDef {
        ColumnDef {
            id: 1,
            name: "c".to_owned(),
            pg_type: scalar.into(),
            type_modifier,
            not_null: false,
            default: None,
            generated: None,
            identity: None,
            sequence: None,
            missing: None,
            comment: None,
        }
    }

    fn text(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn fails(values: &ArrayRef, from: From, column: &ColumnDef) -> (&'static str, String) {
        let error = assign(values, from, column).unwrap_err();
        (error.code().sqlstate(), error.message().to_owned())
    }

    const INT8: From = From::Typed(PgType::Scalar(Scalar::Int8));
    const FLOAT8: From = From::Typed(PgType::Scalar(Scalar::Float8));

    #[test]
    fn literals_take_the_columns_type() {
        let int = column(Scalar::Int4, -1);
        let ok = assign(&text(&[" 12 ", "-3"]), From::Unknown, &int).unwrap();
        assert_eq!(ok.as_ref(), &Int32Array::from(vec![12, -3]) as &dyn Array);
        assert_eq!(
            fails(&text(&["abc"]), From::Unknown, &int),
            ("22P02", "invalid input syntax for type integer: \"abc\"".to_owned())
        );
        assert_eq!(
            fails(&text(&["99999999999"]), From::Unknown, &int),
            (
                "22003",
                "value \"99999999999\" is out of range for type integer".to_owned()
            )
        );
        assert_eq!(
            fails(&text(&["x"]), From::Unknown, &column(Scalar::Uuid, -1)).0,
            "22P02"
        );
    }

    #[test]
    fn what_has_a_type_is_converted_only_where_postgresql_does() {
        let int = column(Scalar::Int4, -1);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![2.5, 3.5, -0.6]));
        let rounded = assign(&floats, FLOAT8, &int).unwrap();
        assert_eq!(rounded.as_ref(), &Int32Array::from(vec![2, 4, -1]) as &dyn Array);
        let large: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert_eq!(fails(&large, INT8, &int), ("22003", "integer out of range".to_owned()));
        assert_eq!(
            fails(&text(&["1"]), From::Typed(PgType::TEXT), &int),
            (
                "42804",
                "column \"c\" is of type integer but expression is of type text".to_owned()
            )
        );
        assert_eq!(fails(&large, INT8, &column(Scalar::Bool, -1)).0, "42804");
        let shown = assign(&large, INT8, &column(Scalar::Text, -1)).unwrap();
        assert_eq!(shown.as_string::<i32>().value(0), i64::MAX.to_string());
    }

    #[test]
    fn modifiers_hold() {
        let varchar = column(Scalar::Varchar, 3 + 4);
        let kept = assign(&text(&["äöü", "ab   "]), From::Unknown, &varchar).unwrap();
        assert_eq!(kept.as_ref(), &StringArray::from(vec!["äöü", "ab "]) as &dyn Array);
        assert_eq!(
            fails(&text(&["abcd"]), From::Unknown, &varchar),
            ("22001", "value too long for type character varying(3)".to_owned())
        );
        let char = column(Scalar::Bpchar, 3 + 4);
        let kept = assign(&text(&["a  ", "b"]), From::Unknown, &char).unwrap();
        assert_eq!(kept.as_ref(), &StringArray::from(vec!["a", "b"]) as &dyn Array);
        let money = column(Scalar::Numeric, ((4 << 16) | 2) + 4);
        let kept = assign(&text(&["12.345"]), From::Unknown, &money).unwrap();
        assert_eq!(kept.as_primitive::<Decimal128Type>().value(0), 1235);
        assert_eq!(
            fails(&text(&["100"]), From::Unknown, &money),
            ("22003", "numeric field overflow".to_owned())
        );
        let thousand: ArrayRef = Arc::new(Int64Array::from(vec![1000]));
        assert_eq!(fails(&thousand, INT8, &money).0, "22003");
        let vector = column(Scalar::Vector, 3);
        assert_eq!(
            fails(&text(&["[1,2]"]), From::Unknown, &vector),
            ("22000", "expected 3 dimensions, not 2".to_owned())
        );
        let short = column(Scalar::Timestamp, 0);
        let kept = assign(&text(&["2024-01-01 00:00:00.6"]), From::Unknown, &short).unwrap();
        let second = kept.as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!(second, 1_704_067_201_000_000);
    }
}
