//! A [`Function`] as DataFusion calls it in a SELECT list: once for each row, awaited.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

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

use futures::{StreamExt, TryStreamExt, stream};

use super::{Args, Function};
use crate::{
    error::{Code, Error},
    limits,
    sql::world::World,
};

/// The scalar form of a function, bound to one session.
pub(super) fn udf(function: &'static Function, world: &Arc<World>) -> Arc<ScalarUDF> {
    let bound = Bound {
        function,
        world: world.clone(),
        call: Arc::default(),
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
    /// What tells one call from another that reads the same, where each is to be made.
    call: Arc<()>,
    signature: Signature,
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
            && Arc::ptr_eq(&self.world, &other.world)
            && Arc::ptr_eq(&self.call, &other.call)
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
        .with_hint("call it in the SELECT list of a subquery, and use its result here")
        .into())
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Bound {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = (0..args.number_rows)
            .map(|row| row_args(&args.args, row))
            .collect::<DfResult<Vec<_>>>()?;
        let one_by_one = self.function.effect || super::sequences::NAMES.contains(&self.function.name);
        let values = match one_by_one {
            true => self.one_by_one(rows).await?,
            false => self.once_each(rows).await?,
        };
        let array: ArrayRef = match values.is_empty() {
            true => datafusion::arrow::array::new_empty_array(&self.function.value_type().arrow()),
            false => ScalarValue::iter_to_array(values)?,
        };
        Ok(ColumnarValue::Array(array))
    }
}

pub(super) fn row_args(args: &[ColumnarValue], row: usize) -> DfResult<Vec<ScalarValue>> {
    args.iter()
        .map(|arg| match arg {
            ColumnarValue::Scalar(value) => Ok(value.clone()),
            ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
        })
        .collect()
}

impl Bound {
    /// What changes something is done for every row, in order.
    async fn one_by_one(&self, rows: Vec<Vec<ScalarValue>>) -> DfResult<Vec<ScalarValue>> {
        let mut values = Vec::with_capacity(rows.len());
        for args in rows {
            values.push(self.value(args).await?);
        }
        Ok(values)
    }

    /// What only answers is asked once in a statement for each distinct input, some of them at a time.
    async fn once_each(&self, rows: Vec<Vec<ScalarValue>>) -> DfResult<Vec<ScalarValue>> {
        let statement = self.world.desk().statement();
        let mut answers: HashMap<&[ScalarValue], ScalarValue> = HashMap::new();
        let mut asked = Vec::new();
        let mut seen = HashSet::new();
        for args in &rows {
            if !seen.insert(&args[..]) {
                continue;
            }
            match statement.known(self.function.name, args) {
                Some(value) => drop(answers.insert(args, value)),
                None => asked.push(args.clone()),
            }
        }
        let asked_for = asked.clone();
        let calls = asked.into_iter().map(|args| self.value(args)).collect::<Vec<_>>();
        let calls = stream::iter(calls).buffered(limits::STATEMENT_CALLS);
        let values = calls.try_collect::<Vec<_>>().await?;
        for (args, value) in asked_for.iter().zip(values) {
            statement.learn(self.function.name, args, &value);
            answers.insert(args, value);
        }
        rows.iter()
            .map(|args| {
                let value = answers.get(&args[..]).cloned();
                value.ok_or_else(|| Error::internal("a call has no answer").into())
            })
            .collect()
    }

    async fn value(&self, args: Vec<ScalarValue>) -> DfResult<ScalarValue> {
        let answered = (self.function.call)(self.world.clone(), Args::new(self.function, args)?).await;
        match answered {
            Ok(batch) => ScalarValue::try_from_array(batch.column(0), 0),
            Err(error) if self.forgives(&error) => {
                let told = format!("{} gave NULL: {error}", self.function.name);
                self.world.desk().notice(told, None);
                ScalarValue::try_from(self.function.value_type().arrow())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether `ai.on_error = 'null'` stands for this failure: one of a provider, a limit or a budget, in a
    /// function that only answers.
    fn forgives(&self, error: &Error) -> bool {
        let codes = [
            Code::ProviderFailed,
            Code::LimitReached,
            Code::QueryCanceled,
            Code::TooLarge,
        ];
        !self.function.effect
            && self.function.name.starts_with("ai.")
            && codes.contains(&error.code())
            && self.world.desk().settings.lock().call().null_on_error
    }
}
