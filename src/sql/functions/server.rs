//! PostgreSQL's functions that act on sessions: `pg_sleep`, `pg_notify`, `pg_cancel_backend` and their like.
//!
//! They are bound to one session, are awaited, and are called once for each row.

use std::{hash::Hash, sync::Arc, time::Duration};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{ArrayRef, new_empty_array},
        datatypes::{DataType, FieldRef},
    },
    common::{Result as DfResult, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
        async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl},
    },
};
use futures::future::BoxFuture;

use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    limits,
    sql::{backends::Signal, world::World},
};

/// A value, as it is computed.
pub(super) type Answer = BoxFuture<'static, Result<ScalarValue>>;

/// One of these functions.
pub(super) struct ServerFunction {
    name: &'static str,
    /// How many arguments it takes.
    arguments: &'static [usize],
    returns: Scalar,
    /// Whether it takes effect when the transaction ends, so that one must end after it.
    effect: bool,
    call: fn(Arc<World>, Vec<ScalarValue>) -> Answer,
}

pub(super) const fn function(
    name: &'static str,
    arguments: &'static [usize],
    returns: Scalar,
    call: fn(Arc<World>, Vec<ScalarValue>) -> Answer,
) -> ServerFunction {
    ServerFunction {
        name,
        arguments,
        returns,
        effect: false,
        call,
    }
}

impl ServerFunction {
    /// The same with or without an effect at the end of the transaction.
    pub(super) const fn with_effect(self, effect: bool) -> Self {
        Self { effect, ..self }
    }
}

/// A function of a large object: there are none.
const fn large_object(name: &'static str, arguments: &'static [usize]) -> ServerFunction {
    function(name, arguments, Scalar::Int4, |_, _| {
        Box::pin(async {
            let error = Error::new(Code::Unsupported, "large objects are not supported");
            Err(error.with_hint("use a column of type bytea"))
        })
    })
}

/// Those without a file of their own.
const FUNCTIONS: &[ServerFunction] = &[
    function("pg_sleep", &[1], Scalar::Void, sleep),
    function("pg_notify", &[2], Scalar::Void, notify).with_effect(true),
    function("pg_cancel_backend", &[1], Scalar::Bool, |world, args| {
        signal(world, args, Signal::Cancel)
    }),
    function("pg_terminate_backend", &[1, 2], Scalar::Bool, |world, args| {
        signal(world, args, Signal::Terminate)
    }),
    large_object("lo_creat", &[1]),
    large_object("lo_create", &[1]),
    large_object("lo_open", &[2]),
    large_object("lo_close", &[1]),
    large_object("lo_unlink", &[1]),
    large_object("lo_import", &[1, 2]),
    large_object("lo_export", &[2]),
    large_object("lo_get", &[1, 3]),
    large_object("lo_put", &[3]),
    large_object("lo_from_bytea", &[2]),
    large_object("lo_lseek", &[3]),
    large_object("lo_tell", &[1]),
    large_object("lo_truncate", &[2]),
    large_object("loread", &[2]),
    large_object("lowrite", &[2]),
];

fn all() -> impl Iterator<Item = &'static ServerFunction> {
    FUNCTIONS.iter().chain(super::advisory::FUNCTIONS)
}

/// Whether the function of this name is one that takes effect when the transaction ends.
pub(super) fn has_effect(name: &str) -> bool {
    FUNCTIONS
        .iter()
        .any(|function| function.effect && function.name == name)
}

/// Each of them, bound to a session.
pub(in crate::sql) fn bound(world: &Arc<World>) -> Vec<Arc<ScalarUDF>> {
    let udf = |function: &'static ServerFunction| {
        let counts = function.arguments.iter().map(|count| TypeSignature::Any(*count));
        let bound = Bound {
            function,
            world: world.clone(),
            signature: match function.arguments {
                [0] => Signature::nullary(Volatility::Volatile),
                _ => Signature::one_of(counts.collect(), Volatility::Volatile),
            },
        };
        Arc::new(AsyncScalarUDF::new(Arc::new(bound)).into_scalar_udf())
    };
    all().map(udf).collect()
}

#[derive(Debug)]
struct Bound {
    function: &'static ServerFunction,
    world: Arc<World>,
    signature: Signature,
}

impl std::fmt::Debug for ServerFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
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

impl Bound {
    /// The Arrow type of its value. One of `void` is never looked at; a boolean is the least that there is.
    fn arrow(&self) -> DataType {
        match self.function.returns {
            Scalar::Void => DataType::Boolean,
            scalar => scalar.arrow(),
        }
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
        Ok(self.arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = PgType::Scalar(self.function.returns).field(self.function.name, true);
        Ok(Arc::new(field.with_data_type(self.arrow())))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let message = format!("{} cannot be called here", self.function.name);
        let error = Error::new(Code::Unsupported, message);
        Err(error.with_hint("call it in the SELECT list or in FROM").into())
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Bound {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let mut values = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let row = super::scalar::row_args(&args.args, row)?;
            // All of PostgreSQL's are strict, except for the two that take what is NULL for nothing.
            let strict = self.function.name != "pg_notify";
            values.push(match strict && row.iter().any(ScalarValue::is_null) {
                true => ScalarValue::try_from(self.arrow())?,
                false => (self.function.call)(self.world.clone(), row).await?,
            });
        }
        let array: ArrayRef = match values.is_empty() {
            true => new_empty_array(&self.arrow()),
            false => ScalarValue::iter_to_array(values)?,
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The value of a function that gives none.
pub(super) const NOTHING: ScalarValue = ScalarValue::Boolean(Some(true));

fn wrong(name: &str) -> Error {
    Error::new(
        Code::UndefinedFunction,
        format!("function {name} does not exist for arguments of these types"),
    )
    .with_hint("add explicit type casts")
}

/// An integer argument; text is read as one, as PostgreSQL does with a literal of no type.
pub(super) fn integer(name: &str, args: &[ScalarValue], at: usize) -> Result<i64> {
    match args.get(at).map(|value| value.cast_to(&DataType::Int64)) {
        Some(Ok(ScalarValue::Int64(Some(number)))) => Ok(number),
        _ => Err(wrong(name)),
    }
}

fn text(args: &[ScalarValue], at: usize) -> Option<String> {
    match args.get(at)?.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(text)) => text,
        _ => None,
    }
}

fn sleep(_: Arc<World>, args: Vec<ScalarValue>) -> Answer {
    Box::pin(async move {
        let seconds = match args.first().map(|value| value.cast_to(&DataType::Float64)) {
            Some(Ok(ScalarValue::Float64(Some(seconds)))) => seconds,
            _ => return Err(wrong("pg_sleep")),
        };
        // statement_timeout ends it before that, at the latest.
        let longest = limits::STATEMENT_TIMEOUT.as_secs_f64() * 2.0;
        if seconds > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(seconds.min(longest))).await;
        }
        Ok(NOTHING)
    })
}

fn notify(world: Arc<World>, args: Vec<ScalarValue>) -> Answer {
    Box::pin(async move {
        world.tenant()?;
        let channel = text(&args, 0).unwrap_or_default();
        let payload = text(&args, 1).unwrap_or_default();
        world.desk().said.lock().say(&channel, &payload)?;
        Ok(NOTHING)
    })
}

fn signal(world: Arc<World>, args: Vec<ScalarValue>, signal: Signal) -> Answer {
    Box::pin(async move {
        let pid = integer("pg_cancel_backend", &args, 0)?;
        let tenant = world.tenant()?;
        let found = match i32::try_from(pid) {
            Ok(pid) => tenant.state.backends.signal(tenant, pid, signal)?,
            Err(_) => false,
        };
        if !found {
            let message = format!("PID {pid} is not a PostgreSQL backend process");
            world.desk().warn(message);
        }
        Ok(ScalarValue::Boolean(Some(found)))
    })
}
