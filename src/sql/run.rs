//! Running what was planned.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        datatypes::DataType,
    },
    common::{ParamValues, Result as DfResult, ScalarValue, tree_node::Transformed},
    logical_expr::{EmptyRelation, Expr, FetchType, Limit, LogicalPlan},
    physical_plan::{ExecutionPlan, execute_stream},
};
use futures::{StreamExt, TryStreamExt};

use super::{
    complaints::from_datafusion,
    guard::Kind,
    kept::{self, Taken},
    pg::convert::CAST,
    prepared::{self, Plan, Prepared, Query},
    session::{Answer, RowStream, RowTag, Session, Status},
    shown,
    tables::direct::Direct,
    world::World,
    yielding,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

impl Session {
    /// Runs a statement that may run now.
    pub(super) async fn run(&mut self, prepared: &Arc<Prepared>, params: &[ArrayRef]) -> Result<Answer> {
        if params.len() != prepared.parameters.len() {
            return Err(Error::new(
                Code::ProtocolViolation,
                format!(
                    "the statement has {} parameters, {} were given",
                    prepared.parameters.len(),
                    params.len()
                ),
            ));
        }
        if let (Plan::TableWrite(write), World::Tenant(world)) = (&prepared.plan, &*self.world) {
            self.check_writable(write.word())?;
            if !write.locks_late() {
                // Before the statement looks at anything: what it waits for here it sees.
                world.lock_for_writing(write.def.oid).await?;
                world.begin_statement()?;
            }
        }
        if !self.is_current(prepared)? {
            let again = Arc::new(self.plan(&prepared.parsed, &prepared.declared)?);
            if again.columns != prepared.columns {
                return Err(Error::new(Code::Unsupported, "cached plan must not change result type"));
            }
            return Box::pin(self.run(&again, params)).await;
        }
        match &prepared.plan {
            Plan::Query(query) => self.run_query(query, prepared, params).await,
            Plan::Write(write) => self.run_write(write, prepared, params).await,
            Plan::TableWrite(write) => self.run_table_write(write, prepared, params).await,
            Plan::Locking(query) => self.run_locking(query, prepared, params).await,
            Plan::Chain(chain) => Box::pin(self.run_chain(chain, prepared, params)).await,
            Plan::Command => match &prepared.parsed.kind {
                Kind::Sql(statement) => self.run_command(statement).await,
                Kind::Ddl(ddl) => self.run_ddl(ddl).await,
                Kind::User(statement) => self.run_user(statement).await,
                Kind::Channel(channel) => self.run_channel(channel),
                Kind::Copy(copy) => self.run_copy(copy).await,
                Kind::Declare(declare) => self.declare(declare, &prepared.parsed.text).await,
                Kind::Fetch(fetch) => self.fetch(fetch).await,
                Kind::Close(name) => self.close_cursor(name.as_deref()),
                Kind::CurrentOf(name) => self.current_of(name),
                Kind::Nothing => Ok(Answer::Empty),
            },
        }
    }

    pub(super) async fn run_query(
        &mut self,
        query: &Query,
        prepared: &Prepared,
        params: &[ArrayRef],
    ) -> Result<Answer> {
        let rows = match self.read_directly(query, params).await? {
            Some(rows) => Box::pin(futures::stream::once(async { Ok(rows) })),
            None => self.read_planned(query, params).await?,
        };
        let rows = match shown::any_named(&prepared.columns) {
            true => shown::by_name(
                &prepared.columns,
                rows,
                self.catalog.snapshot().map_err(from_datafusion)?,
            ),
            false => rows,
        };
        let (columns, tag) = (prepared.columns.clone(), RowTag(query.tag));
        if !query.effect {
            return Ok(Answer::Rows { columns, rows, tag });
        }
        // What it changed must be on disk before its result is shown.
        if query.alone {
            self.check_alone()?;
        }
        if query.alone {
            self.point_of_no_return();
        }
        let batches = gather(rows).await?;
        if self.status == Status::Idle {
            self.commit().await?;
        }
        Ok(Answer::Rows {
            columns,
            rows: Box::pin(futures::stream::iter(batches.into_iter().map(Ok))),
            tag,
        })
    }

    /// The answer of a query that needs no plan.
    pub(super) async fn read_directly(&self, query: &Query, params: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        if !query.optimized || query.effect {
            return Ok(None);
        }
        let direct = match query.direct.get() {
            Some(direct) => direct,
            None => {
                let found = Direct::find(self, &query.plan, &query.placeholders)?;
                query.direct.get_or_init(|| found)
            }
        };
        match direct {
            Some(direct) => direct.read(self, params).await,
            None => Ok(None),
        }
    }

    pub(super) async fn read_planned(&self, query: &Query, params: &[ArrayRef]) -> Result<RowStream> {
        let (plan, running) = self.kept_or_made(query, params).await?;
        let rows = self.stream(plan)?;
        Ok(match running {
            // The plan is free for its next run when these rows are no longer read.
            Some(running) => Box::pin(rows.inspect(move |_| {
                let _ = &running;
            })),
            None => rows,
        })
    }

    /// The physical plan that a prepared statement keeps, or one made for this run.
    async fn kept_or_made(
        &self,
        query: &Query,
        params: &[ArrayRef],
    ) -> Result<(Arc<dyn ExecutionPlan>, Option<kept::Running>)> {
        if !query.optimized {
            return Ok((self.physical(query, params).await?, None));
        }
        let values = prepared::values(params, &query.placeholders)?;
        match query.kept.take(&query.plan, &values)? {
            Taken::Plan(plan, running) => return Ok((plan, Some(running))),
            Taken::Make(plan, cells) => match self.physical_of(&plan, true).await {
                Ok(plan) => {
                    let running = query.kept.keep(&plan, cells);
                    return Ok((plan, Some(running)));
                }
                // What needs a constant where there is a parameter.
                Err(_) => query.kept.give_up(),
            },
            Taken::Nothing => {}
        }
        Ok((self.physical(query, params).await?, None))
    }

    /// What commits by itself can be no part of a transaction: neither of one that BEGIN opened, nor of a message of
    /// several statements, nor of one that has written something.
    fn check_alone(&self) -> Result<()> {
        let (open, several) = match &*self.world {
            World::Tenant(world) => (self.status == Status::Open || !world.tx.lock().is_empty(), self.several),
            // What an operator does is applied at once, as each of its changes is.
            World::Operator(_) => (self.status == Status::Open, false),
        };
        match open || several {
            false => Ok(()),
            true => Err(Error::new(
                Code::ActiveTransaction,
                "this function cannot run inside a transaction block or beside other statements of one message",
            )
            .with_hint("send it by itself, outside of BEGIN")),
        }
    }

    /// The physical plan of a query with its parameters filled in.
    pub(super) async fn physical(&self, query: &Query, params: &[ArrayRef]) -> Result<Arc<dyn ExecutionPlan>> {
        let filled;
        let plan = match params.is_empty() {
            true => &query.plan,
            false => {
                let values = prepared::values(params, &query.placeholders)?;
                let plan = query.plan.clone().with_param_values(ParamValues::from(values));
                filled = plan.and_then(with_plain_limits).map_err(from_datafusion)?;
                &filled
            }
        };
        self.physical_of(plan, query.optimized).await
    }

    pub(super) async fn physical_of(&self, plan: &LogicalPlan, optimized: bool) -> Result<Arc<dyn ExecutionPlan>> {
        let now;
        let plan = match optimized {
            true => plan,
            false => {
                now = self.optimized(plan)?;
                &now
            }
        };
        let made = self.state.query_planner().create_physical_plan(plan, &self.state).await;
        let plan = made.map_err(from_datafusion)?;
        match &self.watch {
            Some(watch) => yielding::watched(plan, watch).map_err(from_datafusion),
            None => Ok(plan),
        }
    }

    /// The rows of a plan.
    pub(super) fn stream(&self, plan: Arc<dyn ExecutionPlan>) -> Result<RowStream> {
        let rows = execute_stream(plan, self.task.clone()).map_err(from_datafusion)?;
        Ok(Box::pin(rows.map_err(from_datafusion)))
    }
}

/// The plan with a number in each LIMIT and OFFSET, where a parameter came with casts: nothing folds them once the
/// plan is optimized.
fn with_plain_limits(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plain = |expr: Box<Expr>| -> DfResult<Box<Expr>> {
        Ok(match constant(&expr)? {
            Some(value) => Box::new(Expr::Literal(value.cast_to(&DataType::Int64)?, None)),
            None => expr,
        })
    };
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Limit(limit) => {
            let limit = Limit {
                skip: limit.skip.map(plain).transpose()?,
                fetch: limit.fetch.map(plain).transpose()?,
                input: limit.input,
            };
            // As the optimizer does where it knows the number: a sort of no rows cannot be run.
            let none = matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0))));
            Ok(Transformed::yes(match none {
                true => LogicalPlan::EmptyRelation(EmptyRelation {
                    produce_one_row: false,
                    schema: limit.input.schema().clone(),
                }),
                false => LogicalPlan::Limit(limit),
            }))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// The value of a literal under any casts.
pub(super) fn constant(expr: &Expr) -> DfResult<Option<ScalarValue>> {
    Ok(match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Alias(alias) => constant(&alias.expr)?,
        Expr::Cast(cast) => match constant(&cast.expr)? {
            Some(value) => Some(value.cast_to(cast.field.data_type())?),
            None => None,
        },
        Expr::ScalarFunction(call) if call.func.name() == CAST => match call.args.first() {
            Some(cast) => constant(cast)?,
            None => None,
        },
        _ => None,
    })
}

/// All rows at once, for statements whose effect comes before their answer.
pub(super) async fn gather(mut rows: RowStream) -> Result<Vec<RecordBatch>> {
    let (mut batches, mut bytes) = (Vec::new(), 0usize);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        bytes += batch.get_array_memory_size();
        if bytes > limits::TENANT_QUERY_BYTES {
            return Err(
                Error::new(Code::OutOfMemory, "the statement changes too many rows at once")
                    .with_hint("change fewer rows in one statement"),
            );
        }
        batches.push(batch);
    }
    Ok(batches)
}
