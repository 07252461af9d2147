//! Functions of DataFusion's whose result can be far larger than their arguments: what a call would
//! produce is summed up first, and refused above a cap, because no memory pool counts it.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DataType, FieldRef},
    common::{Result as DfResult, ScalarValue},
    logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature},
};

use crate::{
    error::{Code, Error},
    limits,
};

/// Bytes that one row of a call produces at most.
type Size = fn(&[ScalarValue]) -> Option<u64>;

/// The functions that exist here in a bounded form.
pub(super) const BOUNDED: &[(&str, Size)] = &[
    ("generate_series", series),
    ("range", series),
    ("repeat", repeat),
    ("lpad", pad),
    ("rpad", pad),
];

/// The bounded form of a function, if it has one.
pub(super) fn bounded(udf: Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let (name, size) = *BOUNDED.iter().find(|(name, _)| *name == udf.name())?;
    Some(Arc::new(ScalarUDF::from(Bounded {
        name,
        inner: udf,
        size: SizeOf(size),
    })))
}

fn int(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(n)) => n,
        _ => None,
    }
}

fn bytes(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(Some(s)) | ScalarValue::LargeUtf8(Some(s)) | ScalarValue::Utf8View(Some(s)) => s.len() as u64,
        _ => 0,
    }
}

fn series(args: &[ScalarValue]) -> Option<u64> {
    let (start, stop) = match args {
        [stop] => (0, int(stop)?),
        [start, stop, ..] => (int(start)?, int(stop)?),
        [] => return None,
    };
    let step = args.get(2).and_then(int).unwrap_or(1).unsigned_abs().max(1);
    Some((stop.abs_diff(start) / step).saturating_add(1).saturating_mul(8))
}

fn repeat(args: &[ScalarValue]) -> Option<u64> {
    let [text, times, ..] = args else { return None };
    Some(bytes(text).saturating_mul(u64::try_from(int(times)?).unwrap_or(0)))
}

fn pad(args: &[ScalarValue]) -> Option<u64> {
    let [text, length, ..] = args else { return None };
    Some(bytes(text).max(u64::try_from(int(length)?).unwrap_or(0).saturating_mul(4)))
}

#[derive(Clone, Copy)]
struct SizeOf(Size);

impl std::fmt::Debug for SizeOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("size")
    }
}

#[derive(Debug)]
struct Bounded {
    name: &'static str,
    inner: Arc<ScalarUDF>,
    size: SizeOf,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Bounded {}

impl std::hash::Hash for Bounded {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.name
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
        let mut total = 0u64;
        for row in 0..rows {
            let values = args
                .args
                .iter()
                .map(|arg| match arg {
                    ColumnarValue::Scalar(value) => Ok(value.clone()),
                    ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
                })
                .collect::<DfResult<Vec<_>>>()?;
            total = total.saturating_add((self.size.0)(&values).unwrap_or(0));
            if total > limits::FUNCTION_RESULT_BYTES {
                return Err(Error::new(
                    Code::TooLarge,
                    format!(
                        "{} would produce more than {} bytes",
                        self.name,
                        limits::FUNCTION_RESULT_BYTES
                    ),
                )
                .with_hint("ask for less in one call, or generate rows in FROM")
                .into());
            }
        }
        self.inner.invoke_with_args(args)
    }
}
