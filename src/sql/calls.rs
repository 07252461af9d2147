//! A table function as a node of the plan, so that its arguments may be parameters of a prepared
//! statement and are evaluated when it runs.

use std::{fmt, hash::Hash, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{Schema, SchemaRef},
    },
    catalog::Session,
    common::{DFSchema, DFSchemaRef, DataFusionError, Result as DfResult, ScalarValue},
    execution::{SendableRecordBatchStream, TaskContext, context::QueryPlanner},
    logical_expr::{
        Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::PhysicalExpr,
    physical_plan::{
        ColumnarValue, ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
    physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner},
};

use futures::{StreamExt, TryStreamExt};

use super::{
    functions::{Args, Function},
    pg::apply_exec::ApplyPlanner,
    world::World,
};

/// A call of a table function.
#[derive(Clone)]
pub(super) struct TableCall {
    function: &'static Function,
    world: Arc<World>,
    args: Vec<Expr>,
    schema: DFSchemaRef,
}

impl TableCall {
    /// The node for `function(args)`; its columns may depend on constant arguments.
    pub(super) fn try_new(function: &'static Function, world: Arc<World>, mut args: Vec<Expr>) -> DfResult<Self> {
        for (arg, parameter) in args.iter_mut().zip(function.parameters) {
            if let Expr::Placeholder(placeholder) = arg
                && placeholder.field.is_none()
            {
                placeholder.field = Some(Arc::new(parameter.kind.pg_type().field(parameter.name, true)));
            }
        }
        let constants: Vec<Option<ScalarValue>> = args
            .iter()
            .map(|arg| match arg {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            })
            .collect();
        let columns = function.table_schema(&world, &constants)?;
        let schema = Arc::new(DFSchema::try_from(Schema::new(columns))?);
        Ok(Self {
            function,
            world,
            args,
            schema,
        })
    }
}

impl TableCall {
    /// The function's name.
    pub(super) fn function_name(&self) -> &'static str {
        self.function.name
    }
}

impl fmt::Debug for TableCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UserDefinedLogicalNodeCore::fmt_for_explain(self, f)
    }
}

impl PartialEq for TableCall {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name && self.args == other.args
    }
}

impl Eq for TableCall {}

impl PartialOrd for TableCall {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self.function.name, &self.args).partial_cmp(&(other.function.name, &other.args))
    }
}

impl Hash for TableCall {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
        self.args.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for TableCall {
    fn name(&self) -> &str {
        "FunctionScan"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.args.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionScan: {}", self.function.name)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, _inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        Ok(Self {
            args: exprs,
            ..self.clone()
        })
    }
}

/// DataFusion's planner, and our two nodes.
#[derive(Debug)]
pub(super) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, state: &dyn Session) -> DfResult<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Planner), Arc::new(ApplyPlanner)])
            .create_physical_plan(plan, state)
            .await
    }
}

#[async_trait]
impl ExtensionPlanner for Planner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        _physical: &[Arc<dyn ExecutionPlan>],
        state: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(call) = node.as_any().downcast_ref::<TableCall>() else {
            return Ok(None);
        };
        let nothing = DFSchema::empty();
        let args = call
            .args
            .iter()
            .map(|arg| state.create_physical_expr(arg.clone(), &nothing))
            .collect::<DfResult<Vec<_>>>()?;
        let schema: SchemaRef = Arc::new(call.schema.as_arrow().clone());
        let stream = CallStream {
            function: call.function,
            world: call.world.clone(),
            args,
            schema: schema.clone(),
        };
        let plan = StreamingTableExec::try_new(schema, vec![Arc::new(stream)], None, [], false, None)?;
        Ok(Some(Arc::new(plan)))
    }
}

struct CallStream {
    function: &'static Function,
    world: Arc<World>,
    args: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

/// What EXPLAIN says of it.
impl fmt::Debug for CallStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {}", self.function.name)
    }
}

impl CallStream {
    fn values(&self) -> DfResult<Vec<ScalarValue>> {
        let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
        self.args
            .iter()
            .map(|arg| match arg.evaluate(&nothing)? {
                ColumnarValue::Scalar(value) => Ok(value),
                ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
            })
            .collect()
    }
}

impl PartitionStream for CallStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (function, world, values) = (self.function, self.world.clone(), self.values());
        let schema = self.schema.clone();
        let rows = futures::stream::once(async move {
            let args = Args::new(function, values?)?;
            let batches = function.rows(world, args).map_err(DataFusionError::from);
            Ok::<_, DataFusionError>(
                batches.map(move |batch| Ok(RecordBatch::try_new(schema.clone(), batch?.columns().to_vec())?)),
            )
        })
        .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}
