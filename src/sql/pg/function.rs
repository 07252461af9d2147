//! A plain function over the values of one row, as a scalar function of DataFusion.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
    },
};

use super::{
    catalog::{CatalogSnapshot, Snapshots},
    functions::{BOUND, SHARED},
    rows::{Value, array, read},
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error},
};

/// Wraps an error of ours so that it comes out of DataFusion as it went in.
pub fn fail(code: Code, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(code, message)))
}

/// What a function does with the arguments of one row.
#[derive(Clone, Copy)]
pub enum Body {
    /// Needs nothing but its arguments; not called when one of them is NULL.
    Strict(fn(&[Value]) -> Result<Value>),
    /// Needs nothing but its arguments, which may be NULL.
    Plain(fn(&[Value]) -> Result<Value>),
    /// Needs the snapshot; not called when an argument is NULL.
    Bound(fn(&CatalogSnapshot, &[Value]) -> Result<Value>),
}

/// A function of PostgreSQL's, of any number of arguments of any types.
#[derive(Clone, Copy)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it returns.
    pub returns: PgType,
    /// What it does.
    pub body: Body,
}

/// The functions that need no tenant.
pub fn shared() -> Vec<Arc<ScalarUDF>> {
    static MADE: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
        let own = SHARED
            .iter()
            .chain(super::json_access::FUNCTIONS)
            .chain(super::json_change::FUNCTIONS)
            .chain(super::strings::FUNCTIONS)
            .chain(super::ts_functions::FUNCTIONS)
            .chain(super::any_value::FUNCTIONS)
            .map(|f| Arc::new(ScalarUDF::new_from_impl(PgFunction::new(f, None))));
        own.chain(super::casts::shared())
            .chain(super::json_make::scalars())
            .chain(super::mathematics::shared())
            .chain([super::convert::function()])
            .chain(super::temporal::shared())
            .chain(super::clock::shared())
            .chain([super::series::function()])
            .chain(super::any_value::shared())
            .collect()
    });
    MADE.clone()
}

/// The functions of one session.
pub fn bound(snapshots: &Arc<dyn Snapshots>) -> Vec<Arc<ScalarUDF>> {
    let make = |f| Arc::new(ScalarUDF::new_from_impl(PgFunction::new(f, Some(snapshots.clone()))));
    BOUND.iter().map(make).collect()
}

struct PgFunction {
    function: Function,
    signature: &'static Signature,
    snapshots: Option<Arc<dyn Snapshots>>,
}

/// Any number of arguments of any types: a literal may stand for an OID, a name for a relation.
pub(super) static ANY: LazyLock<Signature> = LazyLock::new(|| {
    Signature::one_of(
        vec![TypeSignature::Nullary, TypeSignature::VariadicAny],
        Volatility::Stable,
    )
});

impl PgFunction {
    fn new(function: &Function, snapshots: Option<Arc<dyn Snapshots>>) -> Self {
        Self {
            function: *function,
            signature: &ANY,
            snapshots,
        }
    }

    fn call(&self, snapshot: Option<&CatalogSnapshot>, arguments: &[Value]) -> Result<Value> {
        let has_null = arguments.contains(&Value::Null);
        match self.function.body {
            Body::Plain(body) => body(arguments),
            Body::Strict(_) | Body::Bound(_) if has_null => Ok(Value::Null),
            Body::Strict(body) => body(arguments),
            Body::Bound(body) => match snapshot {
                Some(snapshot) => body(snapshot, arguments),
                None => Err(DataFusionError::Internal(format!(
                    "{} has no session",
                    self.function.name
                ))),
            },
        }
    }
}

impl std::fmt::Debug for PgFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

impl PartialEq for PgFunction {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.snapshots, &other.snapshots) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same && self.function.name == other.function.name
    }
}

impl Eq for PgFunction {}

impl Hash for PgFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for PgFunction {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.function.returns.arrow())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(self.function.returns.field(self.function.name, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let snapshot = self.snapshots.as_ref().map(|s| s.snapshot()).transpose()?;
        let scalar = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { arguments.number_rows };
        let inputs = arguments
            .args
            .iter()
            .map(|a| a.to_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let row = |i| {
            self.call(
                snapshot.as_deref(),
                &inputs.iter().map(|a| read(a.as_ref(), i)).collect::<Vec<_>>(),
            )
        };
        let values = (0..rows).map(row).collect::<Result<Vec<_>>>()?;
        let output = array(self.function.returns, &values);
        if scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?))
        } else {
            Ok(ColumnarValue::Array(output))
        }
    }
}
