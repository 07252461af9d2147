//! The arguments of one call, each as its parameter takes it.

use datafusion::{
    arrow::{
        array::{Array, AsArray},
        datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType, Float32Type},
    },
    common::{Result as DfResult, ScalarValue},
};

use uuid::Uuid;

use super::Function;
use crate::{
    error::{Code, Error, Result},
    ledger::money::Nano,
};

/// The checked arguments of one call, in the order of the parameters.
pub(in crate::sql) struct Args {
    pub(super) function: &'static Function,
    values: Vec<ScalarValue>,
}

impl Args {
    /// Casts every value to its parameter's type.
    pub(in crate::sql) fn new(function: &'static Function, values: Vec<ScalarValue>) -> DfResult<Self> {
        let values = values
            .into_iter()
            .zip(function.parameters)
            .map(|(value, parameter)| match value.data_type() {
                DataType::Null => Ok(ScalarValue::Null),
                given => value.cast_to(&parameter.kind.arrow(&given)),
            })
            .collect::<DfResult<_>>()?;
        Ok(Self { function, values })
    }

    fn value(&self, i: usize) -> &ScalarValue {
        self.values.get(i).unwrap_or(&ScalarValue::Null)
    }

    fn missing(&self, i: usize) -> Error {
        let name = self.function.parameters.get(i).map_or("argument", |p| p.name);
        Error::new(
            Code::InvalidParameterValue,
            format!("{}: {name} must not be null", self.function.name),
        )
    }

    pub(in crate::sql) fn text_or_null(&self, i: usize) -> Option<&str> {
        match self.value(i) {
            ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
                Some(text)
            }
            _ => None,
        }
    }

    pub(in crate::sql) fn text(&self, i: usize) -> Result<&str> {
        self.text_or_null(i).ok_or_else(|| self.missing(i))
    }

    pub(in crate::sql) fn int_or_null(&self, i: usize) -> Option<i64> {
        match self.value(i) {
            ScalarValue::Int32(n) => n.map(i64::from),
            _ => None,
        }
    }

    pub(in crate::sql) fn bigint(&self, i: usize) -> Result<i64> {
        match self.value(i) {
            ScalarValue::Int64(Some(n)) => Ok(*n),
            _ => Err(self.missing(i)),
        }
    }

    pub(in crate::sql) fn int(&self, i: usize) -> Result<i64> {
        self.int_or_null(i).ok_or_else(|| self.missing(i))
    }

    /// An amount of USD, exactly as it was written.
    pub(in crate::sql) fn usd_or_null(&self, i: usize) -> Result<Option<Nano>> {
        let whole = |n: i128| Nano::from_text(&n.to_string()).map(Some);
        match self.value(i) {
            value if value.is_null() => Ok(None),
            ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
                Nano::from_text(text).map(Some)
            }
            ScalarValue::Int16(Some(n)) => whole((*n).into()),
            ScalarValue::Int32(Some(n)) => whole((*n).into()),
            ScalarValue::Int64(Some(n)) => whole((*n).into()),
            ScalarValue::Decimal128(Some(unscaled), _, scale) => {
                let decimal = Decimal128Type::format_decimal(*unscaled, DECIMAL128_MAX_PRECISION, *scale);
                Nano::from_text(&decimal).map(Some)
            }
            _ => {
                let name = self.function.parameters.get(i).map_or("argument", |p| p.name);
                let text = format!("{}: {name} must be numeric", self.function.name);
                Err(Error::new(Code::DatatypeMismatch, text)
                    .with_hint("write it out, such as 12.50, or cast to numeric"))
            }
        }
    }

    pub(in crate::sql) fn bool_or_null(&self, i: usize) -> Option<bool> {
        match self.value(i) {
            ScalarValue::Boolean(b) => *b,
            _ => None,
        }
    }

    pub(in crate::sql) fn bool(&self, i: usize) -> Result<bool> {
        self.bool_or_null(i).ok_or_else(|| self.missing(i))
    }

    pub(in crate::sql) fn uuid(&self, i: usize) -> Result<Uuid> {
        let text = self.text(i)?;
        Uuid::parse_str(text).map_err(|_| {
            let shown: String = text.chars().take(40).collect();
            Error::new(
                Code::InvalidText,
                format!("invalid input syntax for type uuid: \"{shown}\""),
            )
        })
    }

    pub(in crate::sql) fn float_or_null(&self, i: usize) -> Option<f64> {
        match self.value(i) {
            ScalarValue::Float64(x) => *x,
            _ => None,
        }
    }

    /// Days since 1970.
    pub(in crate::sql) fn date(&self, i: usize) -> Result<i32> {
        match self.value(i) {
            ScalarValue::Date32(Some(day)) => Ok(*day),
            _ => Err(self.missing(i)),
        }
    }

    /// A vector, where the argument is one.
    pub(in crate::sql) fn vector(&self, i: usize) -> Option<Vec<f32>> {
        match self.value(i) {
            ScalarValue::List(list) if list.len() == 1 && !list.is_null(0) => {
                let values = list.value(0);
                let values = values.as_primitive_opt::<Float32Type>()?;
                Some(values.iter().map(|v| v.unwrap_or(f32::NAN)).collect())
            }
            _ => None,
        }
    }
}
