//! Bulkhead's own SQL functions: constant lists, one entry each.
//!
//! Registration, argument defaults, `\df` and the tests all iterate [`all`] of them. Pure vector
//! functions, which hold nothing of a session, are in [`vector`].

mod advisory;
mod ai;
pub(super) mod answers;
mod args;
mod conversations;
mod fine_tuning;
mod operator;
mod owner;
pub(super) mod scalar;
pub(super) mod sequences;
pub(super) mod server;
pub(super) mod settings;
pub(super) mod vector;
pub(super) mod vector_math;

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::RecordBatch,
        compute::concat_batches,
        datatypes::{DataType, Field, Schema},
    },
    common::ScalarValue,
    logical_expr::ScalarUDF,
};
use futures::{TryStreamExt, future::BoxFuture, stream::BoxStream};

pub(super) use args::Args;

use super::{pg, world::World};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    tenant::Role,
};

/// One function.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) returns: Returns,
    pub(super) plane: Plane,
    /// Whether it changes something, so that its result may be shown only after the commit.
    pub(super) effect: bool,
    /// Computes the row or rows. A scalar function gives one row whose first column is the value.
    pub(super) call: fn(Arc<World>, Args) -> BoxFuture<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// One parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// SQL text of the default; `None` means that it must be given.
    pub(super) default: Option<&'static str>,
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    BigInt,
    Bool,
    Float,
    Date,
    Jsonb,
    Uuid,
    /// An amount of USD, never by way of a float.
    Usd,
    /// Text to be embedded, or a vector.
    Query,
}

impl Kind {
    pub(super) fn pg_type(self) -> PgType {
        PgType::Scalar(match self {
            Self::Text | Self::Query => Scalar::Text,
            Self::Int => Scalar::Int4,
            Self::BigInt => Scalar::Int8,
            Self::Bool => Scalar::Bool,
            Self::Float => Scalar::Float8,
            Self::Date => Scalar::Date,
            Self::Jsonb => Scalar::Jsonb,
            Self::Uuid => Scalar::Uuid,
            Self::Usd => Scalar::Numeric,
        })
    }

    /// The Arrow type a value is cast to before the call; a query keeps being text or a vector, and an
    /// amount what it is.
    fn arrow(self, given: &DataType) -> DataType {
        match self {
            Self::Usd => given.clone(),
            Self::Query
                if matches!(
                    given,
                    DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
                ) =>
            {
                Scalar::Vector.arrow()
            }
            other => other.pg_type().arrow(),
        }
    }
}

/// The columns of a result.
pub(super) type Columns = &'static [(&'static str, PgType)];

/// What a function gives.
pub(super) enum Returns {
    /// One value.
    Value(PgType),
    /// Rows, in FROM only.
    Table(Columns),
    /// In SELECT the first column's value; in FROM one row.
    Both(Columns),
    /// Rows as they come, in FROM only.
    Stream(Columns, fn(Arc<World>, Args) -> BoxStream<'static, Result<RecordBatch>>),
    /// The columns of the table named by the first argument, and `distance`.
    Searched,
}

/// Where a function exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plane {
    /// In a tenant, for these roles.
    Tenant(&'static [Role]),
    Operator,
    Everywhere,
}

pub(super) const READERS: &[Role] = &[Role::Owner, Role::Member, Role::Service];
pub(super) const ACCOUNTANTS: &[Role] = &[Role::Owner, Role::Member, Role::Service, Role::Analyst];

const fn parameter(name: &'static str, kind: Kind, default: Option<&'static str>) -> Parameter {
    Parameter { name, kind, default }
}

const fn t(scalar: Scalar) -> PgType {
    PgType::Scalar(scalar)
}

/// Every function there is.
pub(super) fn all() -> impl Iterator<Item = &'static Function> {
    FUNCTIONS
        .iter()
        .chain(fine_tuning::FUNCTIONS)
        .chain(conversations::FUNCTIONS)
        .chain(owner::FUNCTIONS)
        .chain(operator::FUNCTIONS)
        .chain(sequences::FUNCTIONS)
}

/// Whether a function changes something, so that its result may be shown only after the commit.
pub(super) fn has_effect(name: &str) -> bool {
    all().any(|ours| ours.effect && ours.name == name) || server::has_effect(name)
}

/// What is asked of a model.
const COMPLETION: &[Parameter] = &[
    parameter("prompt", Kind::Text, None),
    parameter("model", Kind::Text, Some("NULL")),
    parameter("max_tokens", Kind::Int, Some("NULL")),
    parameter("temperature", Kind::Float, Some("NULL")),
    parameter("system", Kind::Text, Some("NULL")),
];

/// What is asked of the documents.
const QUESTION: &[Parameter] = &[
    parameter("question", Kind::Text, None),
    parameter("k", Kind::Int, Some("5")),
    parameter("filter", Kind::Jsonb, Some("NULL")),
    parameter("model", Kind::Text, Some("NULL")),
    parameter("max_tokens", Kind::Int, Some("NULL")),
];

/// Those that read and write what a tenant holds.
const FUNCTIONS: &[Function] = &[
    Function {
        name: "ai.ingest",
        parameters: &[
            parameter("title", Kind::Text, None),
            parameter("content", Kind::Text, None),
            parameter("metadata", Kind::Jsonb, Some("'{}'")),
        ],
        returns: Returns::Value(t(Scalar::Uuid)),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: ai::ingest,
    },
    Function {
        name: "ai.search",
        parameters: &[
            parameter("query", Kind::Text, None),
            parameter("k", Kind::Int, Some("5")),
            parameter("filter", Kind::Jsonb, Some("NULL")),
            parameter("mode", Kind::Text, Some("'hybrid'")),
        ],
        returns: Returns::Table(ai::SEARCH_COLUMNS),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: ai::search,
    },
    Function {
        name: "vector_search",
        parameters: &[
            parameter("table_name", Kind::Text, None),
            parameter("query", Kind::Query, None),
            parameter("k", Kind::Int, Some("5")),
        ],
        returns: Returns::Searched,
        plane: Plane::Tenant(READERS),
        effect: false,
        call: ai::vector_search,
    },
    Function {
        name: "ai.embed",
        parameters: &[
            parameter("content", Kind::Text, None),
            parameter("model", Kind::Text, Some("NULL")),
        ],
        returns: Returns::Value(t(Scalar::Vector)),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: ai::embed,
    },
    Function {
        name: "ai.count_tokens",
        parameters: &[parameter("content", Kind::Text, None)],
        returns: Returns::Value(t(Scalar::Int4)),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: ai::count_tokens,
    },
    Function {
        name: "ai.complete",
        parameters: COMPLETION,
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: answers::complete,
    },
    Function {
        name: "ai.stream",
        parameters: COMPLETION,
        returns: Returns::Stream(answers::STREAM_COLUMNS, answers::complete_stream),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: streamed,
    },
    Function {
        name: "ai.rag_stream",
        parameters: QUESTION,
        returns: Returns::Stream(answers::RAG_STREAM_COLUMNS, answers::rag_stream),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: streamed,
    },
    Function {
        name: "ai.chat",
        parameters: &[
            parameter("conversation_id", Kind::Uuid, None),
            parameter("message", Kind::Text, None),
            parameter("rag", Kind::Bool, Some("true")),
            parameter("k", Kind::Int, Some("5")),
            parameter("model", Kind::Text, Some("NULL")),
        ],
        returns: Returns::Both(answers::CHAT_COLUMNS),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: answers::chat,
    },
    Function {
        name: "ai.rag",
        parameters: QUESTION,
        returns: Returns::Both(answers::RAG_COLUMNS),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: answers::rag,
    },
    Function {
        name: "ai.clear_cache",
        parameters: &[],
        returns: Returns::Value(t(Scalar::Int4)),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: ai::clear_cache,
    },
    Function {
        name: "bulkhead.tenant_costs",
        parameters: &[
            parameter("from_date", Kind::Date, None),
            parameter("to_date", Kind::Date, None),
        ],
        returns: Returns::Table(ai::COSTS_COLUMNS),
        plane: Plane::Tenant(ACCOUNTANTS),
        effect: false,
        call: ai::tenant_costs,
    },
    Function {
        name: "current_tenant",
        parameters: &[],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Everywhere,
        effect: false,
        call: ai::current_tenant,
    },
];

/// Tenants' functions that commit by themselves, and thus stand in no transaction block.
pub(super) const ALONE: &[&str] = &[
    "bulkhead.set_provider_key",
    "bulkhead.set_budget",
    "ai.fine_tune",
    "ai.register_model",
];

/// The function of a name, as far as it exists on this session's plane.
pub(super) fn find(world: &World, name: &str) -> Option<&'static Function> {
    all().find(|f| f.name == name && f.exists_for(world))
}

/// Every function of this session's plane.
pub(super) fn visible(world: &World) -> impl Iterator<Item = &'static Function> {
    all().filter(move |f| f.exists_for(world))
}

/// The scalar forms, bound to a session.
pub(super) fn bind(world: &Arc<World>) -> Vec<Arc<ScalarUDF>> {
    visible(world)
        .filter(|f| !matches!(f.returns, Returns::Table(_) | Returns::Stream(..) | Returns::Searched))
        .map(|f| scalar::udf(f, world))
        .collect()
}

/// A function that gives something else each time: equal calls in a statement are calls of their own.
pub(super) fn bind_call(name: &str, world: &Arc<World>) -> Option<Arc<ScalarUDF>> {
    let sequences = sequences::NAMES.contains(&name);
    let function = sequences.then(|| visible(world).find(|f| f.name == name)).flatten()?;
    Some(scalar::udf(function, world))
}

impl Function {
    fn exists_for(&self, world: &World) -> bool {
        match self.plane {
            Plane::Everywhere => true,
            Plane::Operator => matches!(world, World::Operator(_)),
            Plane::Tenant(_) => matches!(world, World::Tenant(_)),
        }
    }

    /// Whether it may stand in FROM as rows of several columns.
    pub(super) fn is_table(&self) -> bool {
        !matches!(self.returns, Returns::Value(_))
    }

    /// Refuses a role that may not call it.
    pub(super) fn check_role(&self, world: &World) -> Result<()> {
        match (self.plane, world.role()) {
            (Plane::Tenant(roles), Some(role)) if !roles.contains(&role) => Err(Error::new(
                Code::InsufficientPrivilege,
                format!("permission denied for function {}", self.name),
            )
            .with_hint(format!("users of role {} may not call it", role.as_str()))),
            _ => Ok(()),
        }
    }

    /// The columns of its table form; `constants` are the arguments known at plan time.
    pub(super) fn table_schema(&self, world: &World, constants: &[Option<ScalarValue>]) -> Result<Vec<Field>> {
        match self.returns {
            Returns::Table(columns) | Returns::Both(columns) | Returns::Stream(columns, _) => Ok(fields(columns)),
            Returns::Searched => ai::searched_columns(world, constants.first().and_then(Option::as_ref)),
            Returns::Value(pg_type) => Ok(vec![pg_type.field("value", true)]),
        }
    }

    /// What the scalar form gives.
    pub(super) fn value_type(&self) -> PgType {
        match self.returns {
            Returns::Value(pg_type) => pg_type,
            Returns::Both(columns) | Returns::Table(columns) | Returns::Stream(columns, _) => columns[0].1,
            Returns::Searched => PgType::TEXT,
        }
    }

    /// `a text, b integer DEFAULT 5`, as `\df` shows it.
    pub(super) fn signature(&self) -> String {
        let one = |p: &Parameter| match p.default {
            Some(default) => format!("{} {} DEFAULT {default}", p.name, type_name(p.kind.pg_type())),
            None => format!("{} {}", p.name, type_name(p.kind.pg_type())),
        };
        self.parameters.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// What it gives, as `\df` shows it.
    pub(super) fn result(&self) -> String {
        match self.returns {
            Returns::Value(pg_type) => type_name(pg_type),
            Returns::Table(columns) | Returns::Both(columns) | Returns::Stream(columns, _) => {
                let columns: Vec<_> = columns.iter().map(|(n, t)| format!("{n} {}", type_name(*t))).collect();
                format!("TABLE({})", columns.join(", "))
            }
            Returns::Searched => "SETOF record".to_owned(),
        }
    }
}

/// A type as PostgreSQL prints it: `integer`, not `int4`.
fn type_name(pg_type: PgType) -> String {
    i32::try_from(pg_type.oid())
        .ok()
        .and_then(|oid| pg::types::format_type(oid, -1))
        .unwrap_or_else(|| pg_type.name())
}

/// Arrow fields of a column list.
pub(super) fn fields(columns: Columns) -> Vec<Field> {
    columns
        .iter()
        .map(|(name, pg_type)| pg_type.field(name, true))
        .collect()
}

/// All rows of a stream at once.
fn streamed(world: Arc<World>, args: Args) -> BoxFuture<'static, Result<RecordBatch>> {
    Box::pin(async move {
        let function = args.function;
        let batches: Vec<RecordBatch> = function.rows(world.clone(), args).try_collect().await?;
        let schema = Arc::new(Schema::new(function.table_schema(&world, &[])?));
        concat_batches(&schema, &batches).map_err(Error::internal)
    })
}

impl Function {
    /// The rows of one call in FROM, as they come.
    pub(super) fn rows(&self, world: Arc<World>, args: Args) -> BoxStream<'static, Result<RecordBatch>> {
        match self.returns {
            Returns::Stream(_, call) => call(world, args),
            _ => Box::pin(futures::stream::once((self.call)(world, args))),
        }
    }
}
