//! `generate_series` of moments: `bulkhead_moments(from, to, step)` gives them as a list, for `unnest`.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{ArrayRef, ListArray, TimestampMicrosecondArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};

use super::{
    function::fail,
    moments::{self, Moment, Moments},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
    limits::FUNCTION_RESULT_BYTES,
};

/// The function, made once.
pub fn function() -> Arc<ScalarUDF> {
    static MADE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::any(3, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Series { signature }))
    });
    MADE.clone()
}

#[derive(Debug, PartialEq, Eq)]
struct Series {
    signature: Signature,
}

impl Hash for Series {
    fn hash<H: Hasher>(&self, state: &mut H) {
        "series".hash(state);
    }
}

impl ScalarUDFImpl for Series {
    fn name(&self) -> &'static str {
        "bulkhead_moments"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let zoned = arguments
            .iter()
            .take(2)
            .any(|t| matches!(t, DataType::Timestamp(_, Some(_))));
        let item = if zoned { Scalar::Timestamptz } else { Scalar::Timestamp };
        Ok(PgType::Array(item).arrow())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::List(item) = arguments.return_field.data_type().clone() else {
            return Err(fail(Code::DatatypeMismatch, "a series of moments is a list"));
        };
        let constant = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { arguments.number_rows };
        let mut columns = Vec::with_capacity(arguments.args.len());
        for (value, field) in arguments.args.iter().zip(&arguments.arg_fields) {
            columns.push(Moments::new(&value.to_array(rows)?, PgType::of(field))?);
        }
        let (mut all, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows {
            let values = columns.iter().map(|c| c.at(row)).collect::<Result<Vec<_>>>()?;
            let before = all.len();
            valid.push(put(&values, &mut all)?);
            lengths.push(all.len() - before);
        }
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(all).with_data_type(item.data_type().clone()));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let lists: ArrayRef = Arc::new(ListArray::try_new(item, offsets, times, Some(NullBuffer::from(valid)))?);
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&lists, 0)?)),
            false => Ok(ColumnarValue::Array(lists)),
        }
    }
}

/// Appends a series; false where an end of it is NULL.
fn put(values: &[Moment], into: &mut Vec<i64>) -> Result<bool> {
    let [
        Moment::Stamp(from) | Moment::Zoned(from),
        Moment::Stamp(to) | Moment::Zoned(to),
        Moment::Span(step),
    ] = values
    else {
        return Ok(false);
    };
    let direction = moments::length(*step).signum();
    if direction == 0 {
        return Err(fail(Code::InvalidParameterValue, "step size cannot equal zero"));
    }
    let mut at = *from;
    while (direction > 0 && at <= *to) || (direction < 0 && at >= *to) {
        into.push(at);
        if (into.len() * size_of::<i64>()) as u64 > FUNCTION_RESULT_BYTES {
            return Err(fail(Code::TooLarge, "the series is too long"));
        }
        at = moments::later(at, *step)?;
    }
    Ok(true)
}
