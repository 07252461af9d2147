//! Runs [`Apply`]: for each row of the input, each sub-query with that row's values in it.
//!
//! Equal outer values are answered once. This costs a plan for each distinct row and is meant for the
//! catalog's small relations; what DataFusion can join does not come here.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{
        Column, DataFusionError, Result, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::{SendableRecordBatchStream, SessionState, TaskContext},
    logical_expr::{
        Expr, LogicalPlan, Subquery, UserDefinedLogicalNode,
        expr::{Exists, InSubquery, SetComparison},
        expr_rewriter::NamePreserver,
    },
    physical_expr::EquivalenceProperties,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
        ReplaceChildrenOptions, collect,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};
use futures::StreamExt;

use super::{
    apply::{Applied, Apply, Kind},
    function::fail,
};
use crate::error::Code;

/// Answers remembered by one run of one sub-query.
const REMEMBERED: usize = 4096;

/// Plans [`Apply`].
#[derive(Debug)]
pub struct ApplyPlanner;

#[async_trait]
impl ExtensionPlanner for ApplyPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _context: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(apply), [input]) = (node.as_any().downcast_ref::<Apply>(), inputs) else {
            return Ok(None);
        };
        let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
            return Err(DataFusionError::Internal(
                "Apply is planned without a session".to_owned(),
            ));
        };
        let mut outer = Vec::with_capacity(apply.subqueries.len());
        for subquery in &apply.subqueries {
            let index = |c: &Column| apply.input.schema().index_of_column(c);
            outer.push(subquery.outer.iter().map(index).collect::<Result<Vec<_>>>()?);
        }
        let schema: SchemaRef = Arc::new(node.schema().as_arrow().clone());
        Ok(Some(Arc::new(ApplyExec::new(
            input.clone(),
            apply.subqueries.clone(),
            outer,
            schema,
            Arc::new(state.clone()),
        ))))
    }
}

struct ApplyExec {
    input: Arc<dyn ExecutionPlan>,
    subqueries: Vec<Applied>,
    /// Where in the input the outer columns of each sub-query are.
    outer: Vec<Vec<usize>>,
    schema: SchemaRef,
    state: Arc<SessionState>,
    properties: Arc<PlanProperties>,
}

impl ApplyExec {
    fn new(
        input: Arc<dyn ExecutionPlan>,
        subqueries: Vec<Applied>,
        outer: Vec<Vec<usize>>,
        schema: SchemaRef,
        state: Arc<SessionState>,
    ) -> Self {
        let partitions = input.properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            input,
            subqueries,
            outer,
            schema,
            state,
            properties: Arc::new(properties),
        }
    }
}

impl fmt::Debug for ApplyExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApplyExec: {} sub-queries", self.subqueries.len())
    }
}

impl DisplayAs for ApplyExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ExecutionPlan for ApplyExec {
    fn name(&self) -> &str {
        "ApplyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop().filter(|_| children.is_empty()) else {
            return Err(DataFusionError::Internal("ApplyExec has one input".to_owned()));
        };
        let (subqueries, outer) = (self.subqueries.clone(), self.outer.clone());
        Ok(Arc::new(Self::new(
            input,
            subqueries,
            outer,
            self.schema.clone(),
            self.state.clone(),
        )))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        let run = Run {
            answers: self.subqueries.iter().map(|_| HashMap::new()).collect(),
            subqueries: self.subqueries.clone(),
            outer: self.outer.clone(),
            schema: self.schema.clone(),
            state: self.state.clone(),
            context,
        };
        let stream = futures::stream::try_unfold((input, run), |(mut input, mut run)| async move {
            match input.next().await {
                Some(batch) => {
                    let batch = run.batch(batch?).await?;
                    Ok(Some((batch, (input, run))))
                }
                None => Ok(None),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream)))
    }
}

struct Run {
    subqueries: Vec<Applied>,
    outer: Vec<Vec<usize>>,
    answers: Vec<HashMap<Vec<ScalarValue>, ScalarValue>>,
    schema: SchemaRef,
    state: Arc<SessionState>,
    context: Arc<TaskContext>,
}

impl Run {
    async fn batch(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for which in 0..self.subqueries.len() {
            let mut values = Vec::with_capacity(batch.num_rows());
            for row in 0..batch.num_rows() {
                let key = self.outer[which]
                    .iter()
                    .map(|&i| ScalarValue::try_from_array(batch.column(i), row));
                values.push(self.answer(which, key.collect::<Result<_>>()?).await?);
            }
            let field = self.schema.field(batch.num_columns() + which);
            columns.push(match values.is_empty() {
                true => arrow::array::new_empty_array(field.data_type()),
                false => ScalarValue::iter_to_array(values)?,
            });
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    async fn answer(&mut self, which: usize, key: Vec<ScalarValue>) -> Result<ScalarValue> {
        if let Some(known) = self.answers[which].get(&key) {
            return Ok(known.clone());
        }
        let subquery = &self.subqueries[which];
        let bound = bind(subquery.plan.as_ref().clone(), &subquery.outer, &key)?;
        // A sub-query of a sub-query comes here again, hence the box.
        let plan = Box::pin(self.state.create_physical_plan(&bound)).await?;
        let batches = collect(plan, self.context.clone()).await?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let answer = match subquery.kind {
            Kind::Exists => ScalarValue::Boolean(Some(rows > 0)),
            Kind::Scalar if rows > 1 => {
                let message = "more than one row returned by a subquery used as an expression";
                return Err(fail(Code::DataException, message));
            }
            Kind::Scalar => match batches.iter().find(|b| b.num_rows() == 1) {
                Some(batch) => ScalarValue::try_from_array(batch.column(0), 0)?,
                None => ScalarValue::try_from(bound.schema().field(0).data_type())?,
            },
        };
        if self.answers[which].len() < REMEMBERED {
            self.answers[which].insert(key, answer.clone());
        }
        Ok(answer)
    }
}

/// The plan with values in place of these outer columns, in sub-queries within it too.
fn bind(plan: LogicalPlan, outer: &[Column], values: &[ScalarValue]) -> Result<LogicalPlan> {
    let bound = plan.transform_up(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|e| {
            let name = names.save(&e);
            Ok(bind_expr(e, outer, values)?.update_data(|e| name.restore(e)))
        })?;
        let node = node.data;
        match node {
            LogicalPlan::Subquery(Subquery {
                subquery,
                outer_ref_columns,
                spans,
            }) => {
                let left: Vec<Expr> = outer_ref_columns.into_iter().filter(|e| !refers(e, outer)).collect();
                Ok(Transformed::yes(match left.is_empty() {
                    true => Arc::unwrap_or_clone(subquery),
                    false => LogicalPlan::Subquery(Subquery {
                        subquery,
                        outer_ref_columns: left,
                        spans,
                    }),
                }))
            }
            node => Ok(Transformed::yes(node.recompute_schema()?)),
        }
    });
    Ok(bound?.data)
}

fn refers(expr: &Expr, outer: &[Column]) -> bool {
    matches!(expr, Expr::OuterReferenceColumn(_, c) if outer.contains(c))
}

fn bind_expr(expr: Expr, outer: &[Column], values: &[ScalarValue]) -> Result<Transformed<Expr>> {
    let within = |s: Subquery| -> Result<Subquery> {
        let subquery = bind(Arc::unwrap_or_clone(s.subquery), outer, values)?;
        let outer_ref_columns = s.outer_ref_columns.into_iter().filter(|e| !refers(e, outer)).collect();
        Ok(Subquery {
            subquery: Arc::new(subquery),
            outer_ref_columns,
            spans: s.spans,
        })
    };
    expr.transform_up(|e| {
        Ok(Transformed::yes(match e {
            Expr::OuterReferenceColumn(field, column) => {
                match outer.iter().position(|c| *c == column).and_then(|i| values.get(i)) {
                    Some(value) => Expr::Literal(
                        value.clone(),
                        Some(field.metadata().clone().into()).filter(|_| !field.metadata().is_empty()),
                    ),
                    None => Expr::OuterReferenceColumn(field, column),
                }
            }
            Expr::ScalarSubquery(s) => Expr::ScalarSubquery(within(s)?),
            Expr::Exists(Exists { subquery, negated }) => Expr::Exists(Exists {
                subquery: within(subquery)?,
                negated,
            }),
            Expr::InSubquery(InSubquery {
                expr,
                subquery,
                negated,
            }) => Expr::InSubquery(InSubquery {
                expr,
                subquery: within(subquery)?,
                negated,
            }),
            Expr::SetComparison(SetComparison {
                expr,
                subquery,
                op,
                quantifier,
            }) => Expr::SetComparison(SetComparison {
                expr,
                subquery: within(subquery)?,
                op,
                quantifier,
            }),
            e => return Ok(Transformed::no(e)),
        }))
    })
}
