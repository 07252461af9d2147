//! Functions of DataFusion's whose results have another type than PostgreSQL's: lengths and places are `integer`, not
//! unsigned 64-bit numbers.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::{
        compute::cast,
        datatypes::{DataType, FieldRef},
    },
    common::Result as DfResult,
    logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature},
};

use crate::codec::pgtype::{PgType, Scalar};

const INT4: PgType = PgType::Scalar(Scalar::Int4);

/// Functions and the types of their results in PostgreSQL.
const RETYPED: &[(&str, PgType)] = &[
    ("array_ndims", INT4),
    ("array_position", INT4),
    ("array_positions", PgType::Array(Scalar::Int4)),
    ("bit_length", INT4),
    ("cardinality", INT4),
    ("character_length", INT4),
    ("octet_length", INT4),
    ("regexp_count", INT4),
    ("regexp_instr", INT4),
    ("strpos", INT4),
];

/// The function as PostgreSQL types it.
pub(super) fn retyped(udf: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match RETYPED.iter().find(|(name, _)| *name == udf.name()) {
        Some(&(_, to)) => Arc::new(ScalarUDF::from(Retyped { inner: udf, to })),
        None => udf,
    }
}

#[derive(Debug)]
struct Retyped {
    inner: Arc<ScalarUDF>,
    to: PgType,
}

impl PartialEq for Retyped {
    fn eq(&self, other: &Self) -> bool {
        self.inner.name() == other.inner.name()
    }
}

impl Eq for Retyped {}

impl Hash for Retyped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

impl ScalarUDFImpl for Retyped {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.to.arrow())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(self.to.field(self.inner.name(), true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> DfResult<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let types: Vec<FieldRef> = arguments.arg_fields.clone();
        let scalars: Vec<Option<&datafusion::common::ScalarValue>> = arguments
            .args
            .iter()
            .map(|a| match a {
                ColumnarValue::Scalar(s) => Some(s),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let field = self.inner.return_field_from_args(ReturnFieldArgs {
            arg_fields: &types,
            scalar_arguments: &scalars,
        })?;
        let to = self.to.arrow();
        let inner = ScalarFunctionArgs {
            return_field: field,
            ..arguments.clone()
        };
        match self.inner.invoke_with_args(inner)? {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(cast(&array, &to)?)),
            ColumnarValue::Scalar(scalar) => Ok(ColumnarValue::Scalar(scalar.cast_to(&to)?)),
        }
    }
}
