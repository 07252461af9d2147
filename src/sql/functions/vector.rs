//! pgvector's functions over whole columns. Pure: made once, shared by all sessions.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Float64Builder, Int32Builder},
        datatypes::{DataType, FieldRef, Float32Type},
    },
    common::{Result as DfResult, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};

use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error},
    sql::pg::casts,
    vector::Metric,
};

/// What a function computes from its vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Distance(Measure),
    Dims,
    Norm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Measure {
    Cosine,
    L2,
    NegativeInner,
    Inner,
    L1,
}

const FUNCTIONS: &[(&str, Kind)] = &[
    ("cosine_distance", Kind::Distance(Measure::Cosine)),
    ("l2_distance", Kind::Distance(Measure::L2)),
    ("negative_inner_product", Kind::Distance(Measure::NegativeInner)),
    ("inner_product", Kind::Distance(Measure::Inner)),
    ("l1_distance", Kind::Distance(Measure::L1)),
    ("vector_dims", Kind::Dims),
    ("vector_norm", Kind::Norm),
];

/// Every vector function.
pub(in crate::sql) fn all() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS
        .iter()
        .map(|&(name, kind)| {
            let arguments = if matches!(kind, Kind::Distance(_)) { 2 } else { 1 };
            let signature = Signature::any(arguments, Volatility::Immutable);
            Arc::new(ScalarUDF::from(VectorFunction { name, kind, signature }))
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct VectorFunction {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for VectorFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns().arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(self.returns().field(self.name, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let all_scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let vectors = args.args.iter().map(Vectors::new).collect::<DfResult<Vec<_>>>()?;
        let array = match (self.kind, vectors.as_slice()) {
            (Kind::Distance(measure), [a, b]) => distances(measure, a, b, rows)?,
            (Kind::Dims, [a]) => {
                let mut out = Int32Builder::with_capacity(rows);
                (0..rows).for_each(|i| out.append_option(a.row(i).map(|v| v.len() as i32)));
                Arc::new(out.finish())
            }
            (Kind::Norm, [a]) => {
                let mut out = Float64Builder::with_capacity(rows);
                let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
                (0..rows).for_each(|i| out.append_option(a.row(i).map(norm)));
                Arc::new(out.finish())
            }
            _ => return Err(wrong_type(self.name).into()),
        };
        match all_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

impl VectorFunction {
    fn returns(&self) -> PgType {
        PgType::Scalar(if self.kind == Kind::Dims {
            Scalar::Int4
        } else {
            Scalar::Float8
        })
    }
}

pub(super) fn wrong_type(name: &str) -> Error {
    Error::new(
        Code::UndefinedFunction,
        format!("function {name} does not exist for these arguments"),
    )
    .with_hint("its arguments are vectors: write '[1,2,3]'::vector")
}

fn distances(measure: Measure, a: &Vectors, b: &Vectors, rows: usize) -> DfResult<ArrayRef> {
    let mut out = Float64Builder::with_capacity(rows);
    for i in 0..rows {
        let (Some(x), Some(y)) = (a.row(i), b.row(i)) else {
            out.append_null();
            continue;
        };
        if x.len() != y.len() {
            return Err(Error::new(
                Code::DataException,
                format!("different vector dimensions {} and {}", x.len(), y.len()),
            )
            .into());
        }
        let distance = match measure {
            Measure::Cosine => Metric::Cosine.distance(x, y),
            Measure::L2 => Metric::L2.distance(x, y),
            Measure::NegativeInner => Metric::InnerProduct.distance(x, y),
            Measure::Inner => -Metric::InnerProduct.distance(x, y),
            Measure::L1 => Metric::L1.distance(x, y),
        };
        // Of one sign, so that it sorts after all numbers.
        out.append_value(if distance.is_nan() { f64::NAN } else { distance });
    }
    Ok(Arc::new(out.finish()))
}

/// A column of vectors, or one vector for all rows; read in place, never copied.
pub(in crate::sql) struct Vectors {
    array: ArrayRef,
    constant: bool,
}

impl Vectors {
    pub(in crate::sql) fn new(value: &ColumnarValue) -> DfResult<Self> {
        let (array, constant) = match value {
            ColumnarValue::Array(array) => (array.clone(), false),
            ColumnarValue::Scalar(value) => (value.to_array()?, true),
        };
        let array = match array.data_type() {
            DataType::Null => datafusion::arrow::compute::cast(&array, &Scalar::Vector.arrow())?,
            DataType::List(item) if item.data_type() == &DataType::Float32 => array,
            DataType::List(_) | DataType::FixedSizeList(..) | DataType::LargeList(_) => {
                datafusion::arrow::compute::cast(&array, &Scalar::Vector.arrow())?
            }
            DataType::Utf8 => casts::vectors_of_text(&array)?,
            _ => return Err(wrong_type("of vectors").into()),
        };
        Ok(Self { array, constant })
    }

    /// The vector of a row; `None` for NULL.
    pub(in crate::sql) fn row(&self, row: usize) -> Option<&[f32]> {
        let list = self.array.as_list::<i32>();
        let row = if self.constant { 0 } else { row };
        if list.is_null(row) {
            return None;
        }
        let values = list.values().as_primitive::<Float32Type>().values();
        let (from, to) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
        values.get(from as usize..to as usize)
    }
}
