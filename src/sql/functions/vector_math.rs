//! pgvector's functions from vectors to vectors: `+`, `-`, `*`, `||`, `l2_normalize`, `subvector`.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, AsArray, Float32Builder, ListBuilder},
        datatypes::{DataType, FieldRef, Float32Type},
    },
    common::{DataFusionError, Result as DfResult, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};

use super::vector::{Vectors, wrong_type};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error},
    limits::VECTOR_DIMENSIONS,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Add,
    Subtract,
    Multiply,
    Concatenate,
    Normalize,
    /// `(vector, start, count)`, the first dimension being 1.
    Part,
}

const FUNCTIONS: &[(&str, Kind, usize)] = &[
    ("vector_add", Kind::Add, 2),
    ("vector_sub", Kind::Subtract, 2),
    ("vector_mul", Kind::Multiply, 2),
    ("vector_concat", Kind::Concatenate, 2),
    ("l2_normalize", Kind::Normalize, 1),
    ("subvector", Kind::Part, 3),
];

/// Every one of them.
pub(in crate::sql) fn all() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS
        .iter()
        .map(|&(name, kind, arguments)| {
            let signature = Signature::any(arguments, Volatility::Immutable);
            Arc::new(ScalarUDF::from(VectorMath { name, kind, signature }))
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct VectorMath {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

fn data(message: String) -> DataFusionError {
    Error::new(Code::DataException, message).into()
}

impl ScalarUDFImpl for VectorMath {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DfResult<DataType> {
        Ok(Scalar::Vector.arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let half = args.arg_fields.iter().any(|f| PgType::of(f) == Scalar::Halfvec.into());
        let of = if half { Scalar::Halfvec } else { Scalar::Vector };
        Ok(Arc::new(PgType::from(of).field(self.name, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let of_vectors = if self.kind == Kind::Part { 1 } else { args.args.len() };
        let vectors = args.args.iter().take(of_vectors).map(Vectors::new);
        let vectors = vectors.collect::<DfResult<Vec<_>>>()?;
        let numbers = args.args.iter().skip(of_vectors).map(|n| n.to_array(rows));
        let numbers = numbers.collect::<DfResult<Vec<_>>>()?;
        let number =
            |at: usize, row: usize| match ScalarValue::try_from_array(&numbers[at], row)?.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(n) => Ok::<_, DataFusionError>(n),
                _ => Ok(None),
            };
        let mut out = ListBuilder::new(Float32Builder::new());
        for row in 0..rows {
            let made = match (self.kind, &vectors[..]) {
                (Kind::Part, [vector]) => match (vector.row(row), number(0, row)?, number(1, row)?) {
                    (Some(vector), Some(start), Some(count)) => Some(part(vector, start, count)?),
                    _ => None,
                },
                (Kind::Normalize, [vector]) => vector.row(row).map(normalized),
                (kind, [a, b]) => match (a.row(row), b.row(row)) {
                    (Some(a), Some(b)) => Some(combined(kind, a, b)?),
                    _ => None,
                },
                _ => return Err(wrong_type(self.name).into()),
            };
            match made {
                Some(values) => out.append_value(values.into_iter().map(Some)),
                None => out.append_null(),
            }
        }
        let array: Arc<dyn Array> = Arc::new(out.finish());
        debug_assert!(
            array
                .as_list::<i32>()
                .values()
                .as_primitive_opt::<Float32Type>()
                .is_some()
        );
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

fn combined(kind: Kind, a: &[f32], b: &[f32]) -> DfResult<Vec<f32>> {
    if kind == Kind::Concatenate {
        if a.len() + b.len() > VECTOR_DIMENSIONS {
            let message = format!("vector cannot have more than {VECTOR_DIMENSIONS} dimensions");
            return Err(Error::new(Code::TooLarge, message).into());
        }
        return Ok([a, b].concat());
    }
    if a.len() != b.len() {
        let (n, m) = (a.len(), b.len());
        return Err(data(format!("different vector dimensions {n} and {m}")));
    }
    let each = a.iter().zip(b).map(|(x, y)| match kind {
        Kind::Add => x + y,
        Kind::Subtract => x - y,
        _ => x * y,
    });
    let values: Vec<f32> = each.collect();
    match values.iter().any(|v| v.is_infinite()) {
        true => Err(Error::new(Code::NumericOutOfRange, "value out of range: overflow").into()),
        false => Ok(values),
    }
}

/// Of length 1; the zero vector stays as it is.
fn normalized(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let scaled = |x: &f32| if norm > 0.0 { (f64::from(*x) / norm) as f32 } else { 0.0 };
    vector.iter().map(scaled).collect()
}

fn part(vector: &[f32], start: i64, count: i64) -> DfResult<Vec<f32>> {
    let none = || data("vector must have at least 1 dimension".to_owned());
    let end = start.saturating_add(count).min(vector.len() as i64 + 1);
    let start = start.max(1);
    if count < 1 || end <= start {
        return Err(none());
    }
    let range = usize::try_from(start - 1).unwrap_or(0)..usize::try_from(end - 1).unwrap_or(0);
    vector.get(range).map(<[f32]>::to_vec).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_computed_as_pgvector_does() {
        assert_eq!(normalized(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(normalized(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(part(&[1.0, 2.0, 3.0], 2, 9).ok(), Some(vec![2.0, 3.0]));
        assert_eq!(part(&[1.0, 2.0, 3.0], -1, 3).ok(), Some(vec![1.0]));
        assert!(part(&[1.0], 2, 1).is_err() && part(&[1.0], 1, 0).is_err());
        assert_eq!(combined(Kind::Multiply, &[2.0], &[3.0]).ok(), Some(vec![6.0]));
        assert_eq!(combined(Kind::Concatenate, &[2.0], &[3.0]).ok(), Some(vec![2.0, 3.0]));
        assert!(combined(Kind::Add, &[1.0], &[1.0, 2.0]).is_err());
        assert!(combined(Kind::Add, &[f32::MAX], &[f32::MAX]).is_err());
    }
}
