//! Expressions over rows that are at hand: what a write sets, checks and returns.
//!
//! Planned once and kept. Where they are plain they are evaluated directly, with parameters as columns beside the
//! row's; with sub-queries or functions that wait they become a plan over the rows at each run.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array},
        compute::{concat_batches, sort_to_indices, take},
        datatypes::{DataType, Field, Schema},
    },
    common::{
        Column, DFSchema, DFSchemaRef, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::{MemTable, provider_as_source},
    execution::SessionState,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Volatility, simplify::SimplifyContext},
    optimizer::simplify_expressions::ExprSimplifier,
    physical_expr::PhysicalExpr,
};

use crate::{
    error::{Code, Error, Result},
    sql::{complaints::from_datafusion, run::gather, session::Session},
};

/// What is computed of each row.
pub(in crate::sql) struct Compute {
    exprs: Vec<Expr>,
    /// Of the rows.
    schema: DFSchemaRef,
    /// The same with the parameters that the expressions name behind.
    extended: DFSchemaRef,
    /// Which parameters these are, from 0.
    named: Vec<usize>,
    how: How,
}

enum How {
    /// Made once.
    Made(Vec<Arc<dyn PhysicalExpr>>),
    /// Made at each run: the time of the statement is in them.
    Timely,
    /// A plan at each run.
    Planned,
}

/// The column of rows' numbers.
const NUMBER: &str = "\u{1}n";

/// The name of a parameter's column; no client can type it.
fn parameter_name(id: &str) -> String {
    format!("\u{1}{id}")
}

impl Compute {
    /// `exprs` as the SQL planner made them over `schema`; `parameters` are the types of `$1`, `$2`, ...
    ///
    /// # Errors
    /// 42803 for aggregates, which have no rows to be of; those of types that do not go together.
    pub(in crate::sql) fn new(
        state: &SessionState,
        exprs: Vec<Expr>,
        schema: &DFSchemaRef,
        parameters: &[DataType],
    ) -> Result<Self> {
        let mut fields: Vec<(Option<_>, Arc<Field>)> = schema.iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        let mut named = Vec::new();
        for (i, data_type) in parameters.iter().enumerate() {
            let id = format!("${}", i + 1);
            if !names(&exprs, &id)? {
                continue;
            }
            named.push(i);
            let name = parameter_name(&id);
            fields.push((None, Arc::new(Field::new(name, data_type.clone(), true))));
        }
        let extended = DFSchema::new_with_metadata(fields, schema.metadata().clone()).map_err(from_datafusion)?;
        let mut made = Self {
            exprs,
            schema: schema.clone(),
            extended: Arc::new(extended),
            named,
            how: How::Planned,
        };
        made.how = match made.kind()? {
            How::Made(_) => How::Made(made.physical(state)?),
            other => other,
        };
        Ok(made)
    }

    /// How many values it gives of a row.
    pub(in crate::sql) fn len(&self) -> usize {
        self.exprs.len()
    }

    /// Columns of the rows that are looked at; `None` where that is not known.
    pub(in crate::sql) fn columns(&self) -> Option<Vec<&Column>> {
        match self.how {
            How::Planned => None,
            How::Made(_) | How::Timely => Some(self.exprs.iter().flat_map(Expr::column_refs).collect()),
        }
    }

    /// What the expressions ask for.
    fn kind(&self) -> Result<How> {
        let (mut timely, mut planned, mut refused) = (false, false, None);
        for expr in &self.exprs {
            let looked = expr.apply(|e| {
                match e {
                    Expr::AggregateFunction(_) => refused = Some("aggregate functions are not allowed here"),
                    Expr::WindowFunction(_) => refused = Some("window functions are not allowed here"),
                    Expr::Unnest(_) => refused = Some("set-returning functions are not allowed here"),
                    Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..) => planned = true,
                    Expr::ScalarFunction(call) => {
                        planned |= call.func.as_async().is_some();
                        timely |= call.func.signature().volatility == Volatility::Stable;
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            });
            looked.map_err(from_datafusion)?;
        }
        match refused {
            Some(what) => Err(Error::new(Code::GroupingError, what)),
            None if planned => Ok(How::Planned),
            None if timely => Ok(How::Timely),
            None => Ok(How::Made(Vec::new())),
        }
    }

    fn physical(&self, state: &SessionState) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let context = SimplifyContext::builder()
            .with_schema(self.extended.clone())
            .with_config_options(state.config_options().clone())
            .with_query_execution_start_time(state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let one = |expr: &Expr| {
            let expr = expr
                .clone()
                .transform(|e| {
                    Ok(match e {
                        Expr::Placeholder(placeholder) => {
                            Transformed::yes(Expr::Column(Column::new_unqualified(parameter_name(&placeholder.id))))
                        }
                        other => Transformed::no(other),
                    })
                })?
                .data
                .unalias_nested()
                .data;
            let expr = simplifier.coerce(expr, &self.extended)?;
            // What fails of itself fails when a row is there to fail for.
            let expr = simplifier.simplify(expr.clone()).unwrap_or(expr);
            state.create_physical_expr(expr, &self.extended)
        };
        self.exprs.iter().map(|e| one(e).map_err(from_datafusion)).collect()
    }

    /// The values of each row of `rows`, whose columns are those of the schema. `params` are of length 1.
    ///
    /// # Errors
    /// Those of the expressions.
    pub(in crate::sql) async fn run(
        &self,
        session: &Session,
        rows: &RecordBatch,
        params: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>> {
        let timely;
        let exprs = match &self.how {
            How::Made(exprs) => exprs,
            How::Timely => {
                timely = self.physical(&session.state)?;
                &timely
            }
            How::Planned => return self.plan_and_run(session, rows, params).await,
        };
        if exprs.is_empty() {
            return Ok(Vec::new());
        }
        let count = rows.num_rows();
        let mut columns = rows.columns().to_vec();
        for at in &self.named {
            let param = params
                .get(*at)
                .ok_or_else(|| Error::internal("a parameter has no value"))?;
            columns.push(match count {
                1 => param.clone(),
                _ => ScalarValue::try_from_array(param, 0)
                    .and_then(|value| value.to_array_of_size(count))
                    .map_err(from_datafusion)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.extended.inner().clone(), columns, &options)
            .map_err(Error::internal)?;
        exprs
            .iter()
            .map(|expr| {
                expr.evaluate(&rows)
                    .and_then(|v| v.into_array(count))
                    .map_err(from_datafusion)
            })
            .collect()
    }

    async fn plan_and_run(&self, session: &Session, rows: &RecordBatch, params: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let plan = self.plan_over(rows)?;
        let values = params
            .iter()
            .map(|param| ScalarValue::try_from_array(param, 0))
            .collect::<Result<Vec<_>, _>>()
            .map_err(from_datafusion)?;
        let plan = match values.is_empty() {
            true => plan,
            false => plan.with_param_values(values).map_err(from_datafusion)?,
        };
        let physical = session.physical_of(&plan, false).await?;
        let schema = physical.schema();
        let batches = gather(session.stream(physical)?).await?;
        let batch = concat_batches(&schema, &batches).map_err(Error::internal)?;
        if batch.num_rows() != rows.num_rows() {
            return Err(Error::new(
                Code::Unsupported,
                "set-returning functions are not allowed here",
            ));
        }
        // A join with a sub-query keeps no order.
        let Some((numbers, values)) = batch.columns().split_last() else {
            return Err(Error::internal("rows without their numbers"));
        };
        let order = sort_to_indices(numbers, None, None).map_err(Error::internal)?;
        values
            .iter()
            .map(|v| take(v, &order, None).map_err(Error::internal))
            .collect()
    }

    /// A plan of the expressions over a table that holds the rows.
    fn plan_over(&self, rows: &RecordBatch) -> Result<LogicalPlan> {
        let named = |i: usize| format!("c{i}");
        let fields = self.schema.fields().iter().enumerate();
        let fields = fields.map(|(i, f)| f.as_ref().clone().with_name(named(i)).with_nullable(true));
        let number = Field::new(NUMBER, DataType::UInt64, true);
        let schema = Arc::new(Schema::new(fields.chain([number]).collect::<Vec<_>>()));
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from_iter_values(0..rows.num_rows() as u64)));
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(Error::internal)?;
        let table = MemTable::try_new(schema, vec![vec![batch]]).map_err(from_datafusion)?;
        let number = || Expr::Column(Column::new_unqualified(NUMBER));
        let given = self.schema.iter().enumerate().map(|(i, (qualifier, field))| {
            Expr::Column(Column::new_unqualified(named(i))).alias_qualified(qualifier.cloned(), field.name())
        });
        let exprs = self.exprs.iter().enumerate();
        let exprs = exprs.map(|(i, e)| e.clone().unalias_nested().data.alias(format!("e{i}")));
        LogicalPlanBuilder::scan("\u{1}rows", provider_as_source(Arc::new(table)), None)
            .and_then(|leaf| leaf.project(given.chain([number()])))
            .and_then(|rows| rows.project(exprs.chain([number()])))
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)
    }
}

/// Whether expressions name a parameter.
fn names(exprs: &[Expr], id: &str) -> Result<bool> {
    let is = |e: &Expr| Ok(matches!(e, Expr::Placeholder(placeholder) if placeholder.id == id));
    for expr in exprs {
        if expr.exists(is).map_err(from_datafusion)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The one row of no columns, over which constants are computed.
pub(in crate::sql) fn one_row() -> RecordBatch {
    no_columns(1)
}

/// So many rows of no columns.
pub(in crate::sql) fn no_columns(rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .unwrap_or_else(|_| RecordBatch::new_empty(Arc::new(Schema::empty())))
}

/// The expressions of a planned `SELECT ...` and what they are over.
///
/// # Errors
/// 42803 where the SELECT does more than compute.
pub(in crate::sql) fn projected(plan: LogicalPlan) -> Result<(Vec<Expr>, LogicalPlan)> {
    match plan {
        LogicalPlan::Projection(projection) => Ok((projection.expr, Arc::unwrap_or_clone(projection.input))),
        LogicalPlan::Subquery(_) | LogicalPlan::Aggregate(_) => Err(Error::new(
            Code::GroupingError,
            "aggregate functions are not allowed here",
        )),
        other => {
            let columns = other.schema().columns();
            Ok((columns.into_iter().map(Expr::Column).collect(), other))
        }
    }
}
