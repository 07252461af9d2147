//! Functions of numbers that have no result for some of them: DataFusion's give infinity or NaN there, PostgreSQL's fail.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{Array, AsArray, Float64Array},
        compute::cast,
        datatypes::{DataType, FieldRef, Float64Type},
    },
    common::Result as DfResult,
    logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature},
};

use crate::error::{Code, Error};

/// What is wrong with the arguments of one row, if anything is.
type Judge = fn(&[f64]) -> Option<(Code, &'static str)>;

const OUTSIDE: (Code, &str) = (Code::NumericOutOfRange, "input is out of range");

/// The functions that are judged, and whether finite arguments may not give infinity.
const JUDGED: &[(&str, Judge, bool)] = &[
    ("acos", |n| n.iter().any(|x| x.abs() > 1.0).then_some(OUTSIDE), false),
    ("acosh", |n| n.iter().any(|x| *x < 1.0).then_some(OUTSIDE), false),
    ("asin", |n| n.iter().any(|x| x.abs() > 1.0).then_some(OUTSIDE), false),
    ("atanh", |n| n.iter().any(|x| x.abs() > 1.0).then_some(OUTSIDE), false),
    ("cosh", |_| None, true),
    ("exp", |_| None, true),
    ("ln", logarithm, false),
    ("log", logarithm, false),
    ("log10", logarithm, false),
    ("log2", logarithm, false),
    ("power", power, true),
    ("sinh", |_| None, true),
    ("sqrt", |n| n.iter().any(|x| *x < 0.0).then_some(NEGATIVE_ROOT), false),
];

const NEGATIVE_ROOT: (Code, &str) = (
    Code::InvalidPowerArgument,
    "cannot take square root of a negative number",
);

fn logarithm(numbers: &[f64]) -> Option<(Code, &'static str)> {
    let code = Code::InvalidLogArgument;
    if numbers.contains(&0.0) {
        return Some((code, "cannot take logarithm of zero"));
    }
    let negative = numbers.iter().any(|x| *x < 0.0);
    negative.then_some((code, "cannot take logarithm of a negative number"))
}

fn power(numbers: &[f64]) -> Option<(Code, &'static str)> {
    let code = Code::InvalidPowerArgument;
    match numbers {
        [base, exponent] if *base == 0.0 && *exponent < 0.0 => {
            Some((code, "zero raised to a negative power is undefined"))
        }
        [base, exponent] if *base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 => {
            Some((
                code,
                "a negative number raised to a non-integer power yields a complex result",
            ))
        }
        _ => None,
    }
}

/// The function as PostgreSQL has it.
pub(super) fn judged(udf: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match JUDGED.iter().find(|(name, ..)| *name == udf.name()) {
        Some(&(_, judge, bounded)) => Arc::new(ScalarUDF::from(Judged {
            inner: udf,
            judge: Judging(judge),
            bounded,
        })),
        None => udf,
    }
}

#[derive(Clone, Copy)]
struct Judging(Judge);

impl std::fmt::Debug for Judging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("judge")
    }
}

#[derive(Debug)]
struct Judged {
    inner: Arc<ScalarUDF>,
    judge: Judging,
    bounded: bool,
}

impl PartialEq for Judged {
    fn eq(&self, other: &Self) -> bool {
        self.inner.name() == other.inner.name()
    }
}

impl Eq for Judged {}

impl Hash for Judged {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

fn floats(value: &ColumnarValue, rows: usize) -> DfResult<Float64Array> {
    let array = cast(&value.to_array(rows)?, &DataType::Float64)?;
    Ok(array.as_primitive::<Float64Type>().clone())
}

impl ScalarUDFImpl for Judged {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, args: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, args: &[DataType]) -> DfResult<Vec<DataType>> {
        self.inner.coerce_types(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns = args
            .args
            .iter()
            .map(|a| floats(a, rows))
            .collect::<DfResult<Vec<_>>>()?;
        let of_row = |row: usize| -> Option<Vec<f64>> {
            let each = columns.iter().map(|c| c.is_valid(row).then(|| c.value(row)));
            each.collect()
        };
        for row in 0..rows {
            if let Some((code, text)) = of_row(row).and_then(|numbers| (self.judge.0)(&numbers)) {
                return Err(Error::new(code, text).into());
            }
        }
        let result = self.inner.invoke_with_args(args)?;
        if self.bounded {
            let results = floats(&result, rows)?;
            let overflows = |row: usize| {
                results.is_valid(row)
                    && results.value(row).is_infinite()
                    && of_row(row).is_some_and(|numbers| numbers.iter().all(|x| x.is_finite()))
            };
            if (0..rows).any(overflows) {
                return Err(Error::new(Code::NumericOutOfRange, "value out of range: overflow").into());
            }
        }
        Ok(result)
    }
}
