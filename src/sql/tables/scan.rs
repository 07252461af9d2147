//! Rows of a table as a node of the physical plan.

use std::{fmt, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use datafusion::{
    common::{DataFusionError, Result as DfResult, Statistics, stats::Precision, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        statistics::StatisticsArgs,
        stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter},
    },
};

use super::lookup::Access;
use crate::{
    limits,
    table::{TableData, schema::RowId},
};

/// Reads one table of one snapshot.
pub(in crate::sql) struct TableScanExec {
    data: Arc<TableData>,
    columns: Vec<u16>,
    access: Access,
    /// Where the row ids are among the columns.
    row_at: Option<usize>,
    limit: Option<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl TableScanExec {
    /// `schema` has the columns in their order, with the row ids' at `row_at`.
    pub(super) fn new(
        data: Arc<TableData>,
        columns: Vec<u16>,
        access: Access,
        row_at: Option<usize>,
        limit: Option<usize>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            data,
            columns,
            access,
            row_at,
            limit,
            schema,
            properties: Arc::new(properties),
        }
    }

    /// The name of the table that is read.
    pub(in crate::sql) fn table(&self) -> &str {
        &self.data.def().name
    }

    /// The name of the index that finds the rows, if one does.
    pub(in crate::sql) fn index(&self) -> Option<&str> {
        match &self.access {
            Access::Rows { index, .. } => Some(index),
            Access::Scan(_) => None,
        }
    }

    pub(super) fn batches(&self) -> Batches {
        let source = match &self.access {
            Access::Scan(bounds) => {
                let scan = self
                    .data
                    .scan(self.columns.clone(), bounds.clone(), self.row_at.is_some());
                Source::Scan(Box::new(scan))
            }
            Access::Rows { rows, .. } => Source::Rows(rows.clone(), 0),
        };
        Batches {
            data: self.data.clone(),
            columns: self.columns.clone(),
            row_at: self.row_at,
            source,
            left: self.limit.unwrap_or(usize::MAX),
            schema: self.schema.clone(),
        }
    }
}

enum Source {
    Scan(Box<crate::table::Scan>),
    Rows(Vec<RowId>, usize),
}

/// The batches of a scan, read as they are asked for.
pub(super) struct Batches {
    data: Arc<TableData>,
    columns: Vec<u16>,
    row_at: Option<usize>,
    source: Source,
    left: usize,
    schema: SchemaRef,
}

impl Iterator for Batches {
    type Item = DfResult<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = match &mut self.source {
            Source::Scan(scan) => scan.next()?,
            Source::Rows(rows, at) => {
                let from = *at;
                let to = rows.len().min(from + limits::SCAN_ROWS);
                if from == to {
                    return None;
                }
                *at = to;
                self.data.get(&rows[from..to], &self.columns, self.row_at.is_some())
            }
        };
        Some(batch.map_err(DataFusionError::from).and_then(|batch| {
            let rows = batch.num_rows().min(self.left);
            self.left -= rows;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let mut columns = batch.slice(0, rows).columns().to_vec();
            if let Some(at) = self.row_at
                && let Some(ids) = columns.pop()
            {
                columns.insert(at, ids);
            }
            Ok(RecordBatch::try_new_with_options(
                self.schema.clone(),
                columns,
                &options,
            )?)
        }))
    }
}

impl fmt::Debug for TableScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index() {
            Some(index) => write!(f, "TableScanExec: {} by index {index}", self.table()),
            None => write!(f, "TableScanExec: {}", self.table()),
        }
    }
}

impl DisplayAs for TableScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ExecutionPlan for TableScanExec {
    fn name(&self) -> &str {
        "TableScanExec"
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

    /// How many rows there are is known, where nothing but a limit leaves some out.
    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> DfResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Access::Scan(bounds) = &self.access
            && bounds.is_empty()
        {
            let rows = usize::try_from(self.data.rows()).unwrap_or(usize::MAX);
            statistics.num_rows = Precision::Exact(rows.min(self.limit.unwrap_or(usize::MAX)));
        }
        Ok(Arc::new(statistics))
    }

    /// A few rows are read at once; many on a thread of their own, so that a page from disk never stops the async
    /// threads. Two batches wait at most, so that a slow reader stops the scan.
    fn execute(&self, _: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let mut batches = self.batches();
        let rows = match &self.access {
            Access::Scan(_) => usize::try_from(self.data.rows()).unwrap_or(usize::MAX),
            Access::Rows { rows, .. } => rows.len(),
        };
        if rows <= limits::INLINE_ROWS {
            let rows = futures::stream::iter(batches);
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)));
        }
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            for batch in &mut batches {
                let failed = batch.is_err();
                if sender.blocking_send(batch).is_err() || failed {
                    break;
                }
            }
            Ok(())
        });
        Ok(builder.build())
    }
}
