//! A [`Function`] as DataFusion calls it in a SELECT list: once for each row, awaited.

use std::{hash::Hash, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::ArrayRef,
        datatypes::{DataType, FieldRef},
    },
    common::{Result as DfResult, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl},
    },
};

use super::{Args, Function};
use crate::{
    error::{Code, Error},
    sql::world::World,
};

/// The scalar form of a function, bound to one session.
pub(super) fn udf(function: &'static Function, world: &Arc<World>) -> Arc<ScalarUDF> {
    let bound = Bound {
        function,
        world: world.clone(),
        signature: Signature::any(function.parameters.len(), Volatility::Volatile),
    };
    let bound = match function.parameters.is_empty() {
        true => Bound {
            signature: Signature::nullary(Volatility::Volatile),
            ..bound
        },
        false => bound,
    };
    Arc::new(AsyncScalarUDF::new(Arc::new(bound)).into_scalar_udf())
}

#[derive(Debug)]
struct Bound {
    function: &'static Function,
    world: Arc<World>,
    signature: Signature,
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name && Arc::ptr_eq(&self.world, &other.world)
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DfResult<DataType> {
        Ok(self.function.value_type().arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(self.function.value_type().field(self.function.name, true)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(Error::new(
            Code::Unsupported,
            format!("{} cannot be called here", self.function.name),
        )
        .with_hint("call it in the SELECT list or in FROM")
        .into())
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Bound {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let mut values = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let row_args = args
                .args
                .iter()
                .map(|arg| match arg {
                    ColumnarValue::Scalar(value) => Ok(value.clone()),
                    ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
                })
                .collect::<DfResult<Vec<_>>>()?;
            let batch = (self.function.call)(self.world.clone(), Args::new(self.function, row_args)?).await?;
            values.push(ScalarValue::try_from_array(batch.column(0), 0)?);
        }
        let array: ArrayRef = match values.is_empty() {
            true => datafusion::arrow::array::new_empty_array(&self.function.value_type().arrow()),
            false => ScalarValue::iter_to_array(values)?,
        };
        Ok(ColumnarValue::Array(array))
    }
}
