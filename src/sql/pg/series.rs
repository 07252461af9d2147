//! `generate_series` as a list, for `unnest`: of integers, numerics and moments.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, ListArray, TimestampMicrosecondArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
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

/// Name of the function.
pub(super) const SERIES: &str = "bulkhead_series";

/// The function, made once.
pub fn function() -> Arc<ScalarUDF> {
    static MADE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let counts = vec![TypeSignature::Any(2), TypeSignature::Any(3)];
        let signature = Signature::one_of(counts, Volatility::Immutable);
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
        SERIES.hash(state);
    }
}

impl ScalarUDFImpl for Series {
    fn name(&self) -> &'static str {
        SERIES
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let any = |is: fn(&DataType) -> bool| arguments.iter().take(2).any(is);
        let scale = arguments.iter().map(|t| match t {
            DataType::Decimal128(_, scale) => *scale,
            _ => -1,
        });
        let scale = scale.max().unwrap_or(-1);
        let item = if any(|t| matches!(t, DataType::Timestamp(_, Some(_)))) {
            Scalar::Timestamptz
        } else if any(DataType::is_temporal) {
            Scalar::Timestamp
        } else if scale >= 0 {
            let item = Field::new("item", DataType::Decimal128(38, scale), true);
            return Ok(DataType::List(item.into()));
        } else if arguments.iter().any(|t| matches!(t, DataType::Int64)) {
            Scalar::Int8
        } else {
            Scalar::Int4
        };
        Ok(PgType::Array(item).arrow())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::List(item) = arguments.return_field.data_type().clone() else {
            return Err(fail(Code::DatatypeMismatch, "a series is a list"));
        };
        let scale = match item.data_type() {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
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
            valid.push(put(&values, scale, &mut all)?);
            lengths.push(all.len() - before);
        }
        let narrow = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
        let values: ArrayRef = match item.data_type() {
            DataType::Int32 => Arc::new(all.iter().map(|n| i32::try_from(*n).ok()).collect::<Int32Array>()),
            DataType::Int64 => Arc::new(all.into_iter().map(narrow).collect::<Int64Array>()),
            decimal @ DataType::Decimal128(..) => Arc::new(Decimal128Array::from(all).with_data_type(decimal.clone())),
            times => {
                let micros: TimestampMicrosecondArray = all.into_iter().map(narrow).collect::<Vec<i64>>().into();
                Arc::new(micros.with_data_type(times.clone()))
            }
        };
        let offsets = OffsetBuffer::from_lengths(lengths);
        let lists: ArrayRef = Arc::new(ListArray::try_new(
            item,
            offsets,
            values,
            Some(NullBuffer::from(valid)),
        )?);
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&lists, 0)?)),
            false => Ok(ColumnarValue::Array(lists)),
        }
    }
}

fn zero_step() -> datafusion::common::DataFusionError {
    fail(Code::InvalidParameterValue, "step size cannot equal zero")
}

fn room(values: &[i128]) -> Result<()> {
    match size_of_val(values) as u64 > FUNCTION_RESULT_BYTES {
        true => Err(fail(Code::TooLarge, "the series is too long")),
        false => Ok(()),
    }
}

/// Appends a series; false where an end of it is NULL.
fn put(values: &[Moment], scale: i8, into: &mut Vec<i128>) -> Result<bool> {
    let unit = |n: &Moment| match n {
        Moment::Exact(n, own) => Some(n * 10_i128.pow(u32::from((scale - own).unsigned_abs()))),
        _ => None,
    };
    match values {
        [
            Moment::Stamp(from) | Moment::Zoned(from),
            Moment::Stamp(to) | Moment::Zoned(to),
            Moment::Span(step),
        ] => {
            let direction = moments::length(*step).signum();
            if direction == 0 {
                return Err(zero_step());
            }
            let mut at = *from;
            while (direction > 0 && at <= *to) || (direction < 0 && at >= *to) {
                into.push(at.into());
                room(into)?;
                at = moments::later(at, *step)?;
            }
            Ok(true)
        }
        [from, to, rest @ ..] => {
            let step = rest
                .first()
                .map_or(Some(10_i128.pow(u32::from(scale.unsigned_abs()))), unit);
            let (Some(from), Some(to), Some(step)) = (unit(from), unit(to), step) else {
                return Ok(false);
            };
            if step == 0 {
                return Err(zero_step());
            }
            let mut at = from;
            while (step > 0 && at <= to) || (step < 0 && at >= to) {
                into.push(at);
                room(into)?;
                at += step;
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_end_where_postgresqls_do() {
        let whole = |n: i128| Moment::Exact(n, 0);
        let run = |values: &[Moment], scale| {
            let mut all = Vec::new();
            put(values, scale, &mut all).map(|_| all).ok()
        };
        assert_eq!(run(&[whole(1), whole(3)], 0), Some(vec![1, 2, 3]));
        assert_eq!(run(&[whole(3), whole(1), whole(-2)], 0), Some(vec![3, 1]));
        assert_eq!(run(&[whole(1), whole(0)], 0), Some(vec![]));
        assert_eq!(
            run(&[Moment::Exact(5, 1), whole(2), Moment::Exact(5, 1)], 1),
            Some(vec![5, 10, 15, 20])
        );
        assert_eq!(run(&[whole(1), whole(3), whole(0)], 0), None);
        assert_eq!(run(&[whole(1), whole(i128::from(i64::MAX))], 0), None);
        assert_eq!(run(&[Moment::Null, whole(3)], 0), Some(vec![]));
    }
}
