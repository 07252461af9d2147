//! The rows nearest to a vector as a node of the physical plan: looked for when it is run, not when it is planned.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{DataFusionError, Result as DfResult, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::{
    lookup::Access,
    ranked::{Outcome, Sought},
    scan::TableScanExec,
};
use crate::{
    sql::pg::catalog::quote_ident,
    vector::{Embedding, Method, Metric, Trace},
};

/// See the module.
pub(in crate::sql) struct NearestScan {
    sought: Arc<Sought>,
    columns: Vec<u16>,
    row_at: Option<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    /// How the last run found its rows.
    ran: Arc<Mutex<Option<Trace>>>,
}

/// How the rows are found, for EXPLAIN.
pub(in crate::sql) struct Told {
    pub(in crate::sql) table: String,
    /// What is searched; `None` where the vectors of the table are compared one by one.
    pub(in crate::sql) index: Option<String>,
    /// The order, as PostgreSQL shows the one that an index gives.
    pub(in crate::sql) order: String,
    /// `None` while it is not known.
    pub(in crate::sql) method: Option<Method>,
    /// What a run looked at: candidates, and those of them whose vectors it compared.
    pub(in crate::sql) visited: Option<(usize, usize)>,
}

impl NearestScan {
    /// `schema` has the columns in their order, with the row ids' at `row_at`.
    pub(super) fn new(sought: Arc<Sought>, columns: Vec<u16>, row_at: Option<usize>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            sought,
            columns,
            row_at,
            schema,
            properties: Arc::new(properties),
            ran: Arc::default(),
        }
    }

    /// How the rows are found, or were found by the last run.
    pub(in crate::sql) fn told(&self) -> Told {
        let wanted = &self.sought.wanted;
        let operator = match wanted.metric {
            Metric::Cosine => "<=>",
            Metric::L2 => "<->",
            Metric::InnerProduct => "<#>",
            Metric::L1 => "<+>",
        };
        let query = Embedding::new(wanted.query.as_slice()).map(|query| query.to_string());
        let (column, query) = (quote_ident(self.sought.column()), query.unwrap_or_default());
        let mut told = Told {
            table: self.sought.data.def().name.clone(),
            index: self.sought.index(),
            order: format!("({column} {operator} '{query}'::vector)"),
            method: None,
            visited: None,
        };
        // How a search among the rows that policies let pass went tells how many they are.
        if self.sought.is_policed() {
            return told;
        }
        match *self.ran.lock() {
            None => told.method = self.sought.expected(),
            Some(trace) => {
                told.index = told.index.filter(|_| trace.method.is_some());
                told.method = Some(trace.method.unwrap_or(Method::Exact));
                told.visited = Some((trace.estimated.max(trace.compared), trace.compared));
            }
        }
        told
    }
}

impl fmt::Debug for NearestScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NearestScan: {}", self.sought.data.def().name)
    }
}

impl DisplayAs for NearestScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ExecutionPlan for NearestScan {
    fn name(&self) -> &str {
        "NearestScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (sought, ran) = (self.sought.clone(), self.ran.clone());
        let (columns, row_at, schema) = (self.columns.clone(), self.row_at, self.schema.clone());
        let rows = async move {
            let Outcome { found, matching } = sought.find(&context).await?;
            *ran.lock() = found.as_ref().map(|found| found.trace);
            // Where rows without a vector are among the nearest, the sort above finds which.
            let access = match found.map(|found| found.rows).or(matching) {
                Some(rows) => Access::Rows {
                    index: String::new(),
                    rows,
                },
                None => Access::Scan(Vec::new()),
            };
            let scan = TableScanExec::new(sought.data.clone(), columns, access, row_at, None, schema);
            Ok::<_, DataFusionError>(scan.execute(partition, context)?)
        };
        let rows = futures::stream::once(rows).try_flatten().boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }
}
