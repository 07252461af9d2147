//! Types of columns as they are declared.

use datafusion::sql::sqlparser::ast::{DataType, Expr, Value};

use super::expressions::type_name;
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    sql::pg,
};

/// Most digits of a numeric, characters of a varchar and dimensions of a vector, as in PostgreSQL and pgvector.
const NUMERIC_DIGITS: i32 = 1000;
const CHARACTERS: i32 = 10_485_760;
const VECTOR_DIMENSIONS: i32 = 16_000;

/// A declared type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) pg_type: PgType,
    pub(super) modifier: i32,
    /// One of the serial forms.
    pub(super) serial: bool,
}

/// The type that a column is declared with.
///
/// # Errors
/// 42704 for one that is not served, 22023 for a modifier out of range.
pub(super) fn declared(data_type: &DataType) -> Result<Declared> {
    if let DataType::Custom(name, modifiers) = data_type
        && let [part] = name.0.as_slice()
        && let Some(ident) = part.as_ident()
        && ident.quote_style.is_none()
        && modifiers.is_empty()
    {
        let serial = match ident.value.to_lowercase().as_str() {
            "smallserial" | "serial2" => Some(Scalar::Int2),
            "serial" | "serial4" => Some(Scalar::Int4),
            "bigserial" | "serial8" => Some(Scalar::Int8),
            _ => None,
        };
        if let Some(scalar) = serial {
            return Ok(Declared {
                pg_type: scalar.into(),
                modifier: -1,
                serial: true,
            });
        }
    }
    let undefined = || {
        Error::new(
            Code::UndefinedObject,
            format!("type \"{}\" does not exist", lower(data_type)),
        )
    };
    let (pg_type, modifier) = pg::types::resolve(data_type).ok_or_else(undefined)?;
    if matches!(pg_type, PgType::Scalar(Scalar::Unknown | Scalar::Void)) {
        let text = format!("column has pseudo-type {}", pg_type.name());
        return Err(Error::new(Code::InvalidTableDefinition, text));
    }
    check_modifier(pg_type, modifier)?;
    Ok(Declared {
        pg_type,
        modifier,
        serial: false,
    })
}

fn lower(data_type: &DataType) -> String {
    data_type.to_string().trim_matches('"').to_lowercase()
}

fn check_modifier(pg_type: PgType, modifier: i32) -> Result<()> {
    let (PgType::Scalar(scalar) | PgType::Array(scalar)) = pg_type;
    let invalid = |text: String| Err(Error::new(Code::InvalidParameterValue, text));
    match scalar {
        Scalar::Varchar | Scalar::Bpchar if modifier >= 0 => {
            let word = if scalar == Scalar::Varchar { "varchar" } else { "char" };
            match modifier - 4 {
                ..1 => invalid(format!("length for type {word} must be at least 1")),
                1..=CHARACTERS => Ok(()),
                _ => invalid(format!("length for type {word} cannot exceed {CHARACTERS}")),
            }
        }
        Scalar::Numeric if modifier >= 4 => {
            let (precision, scale) = ((modifier - 4) >> 16, (modifier - 4) & 0x7ff);
            if !(1..=NUMERIC_DIGITS).contains(&precision) {
                return invalid(format!(
                    "NUMERIC precision {precision} must be between 1 and {NUMERIC_DIGITS}"
                ));
            }
            match scale <= precision {
                true => Ok(()),
                false => Err(Error::new(
                    Code::Unsupported,
                    "a numeric whose scale is larger than its precision is not supported",
                )),
            }
        }
        Scalar::Vector | Scalar::Halfvec if modifier != -1 => match modifier {
            ..1 => invalid(format!("dimensions for type {} must be at least 1", scalar.name())),
            1..=VECTOR_DIMENSIONS => Ok(()),
            _ => invalid(format!(
                "dimensions for type {} cannot exceed {VECTOR_DIMENSIONS}",
                scalar.name()
            )),
        },
        _ => Ok(()),
    }
}

/// A default as it is kept and shown: literals name their type, as PostgreSQL prints them.
pub(super) fn default_text(expr: &Expr, pg_type: PgType) -> String {
    match expr {
        Expr::Nested(inner) => default_text(inner, pg_type),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(_) | Value::Null => {
                format!("{}::{}", value.value, type_name(pg_type, -1))
            }
            Value::EscapedStringLiteral(text) => {
                let plain = Value::SingleQuotedString(text.clone());
                format!("{plain}::{}", type_name(pg_type, -1))
            }
            Value::Boolean(value) => value.to_string(),
            _ => expr.to_string(),
        },
        _ => expr.to_string(),
    }
}
