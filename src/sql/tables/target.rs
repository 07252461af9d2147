//! The table that a statement writes, as its plan reads it: with the number of each row in a column of its own.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    catalog::{Session, TableProvider},
    common::Result as DfResult,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, TableType},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchReceiverStreamBuilder,
        streaming::{PartitionStream, StreamingTableExec},
    },
};

use super::rules::with_rows;
use crate::{
    error::{Error, Result},
    sql::world::World,
    table::{TableData, schema::TableDef},
};

/// See the module.
pub(in crate::sql) struct TargetTable {
    world: Arc<World>,
    def: Arc<TableDef>,
    schema: SchemaRef,
}

impl std::fmt::Debug for TargetTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.def.name)
    }
}

impl TargetTable {
    /// `row_column` names the column of the rows' numbers, which is the first.
    pub(in crate::sql) fn new(world: Arc<World>, def: Arc<TableDef>, row_column: &str) -> Self {
        let schema = with_rows(&def, row_column);
        Self { world, def, schema }
    }
}

#[async_trait]
impl TableProvider for TargetTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection
            .cloned()
            .unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&wanted)?);
        let data = self.world.tenant()?.view()?.table(self.def.oid).await?;
        let part = Part {
            data,
            def: self.def.clone(),
            wanted,
            schema: schema.clone(),
        };
        let exec = StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct Part {
    data: Arc<TableData>,
    def: Arc<TableDef>,
    /// Places in the target's schema.
    wanted: Vec<usize>,
    schema: SchemaRef,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.def.name)
    }
}

impl Part {
    /// A batch of the scan, its row numbers last, as the target's columns.
    fn arrange(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let last = batch.num_columns().saturating_sub(1);
        let mut next = 0;
        let columns = self.wanted.iter().map(|&place| match place {
            0 => batch.column(last).clone(),
            _ => {
                next += 1;
                batch.column(next - 1).clone()
            }
        });
        RecordBatch::try_new(self.schema.clone(), columns.collect()).map_err(Error::internal)
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads on a thread of its own: blocks come from disk.
    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let sender = builder.tx();
        let places = self.wanted.iter().filter(|place| **place > 0);
        let ids = places
            .filter_map(|place| self.def.columns.get(place - 1))
            .map(|c| c.id)
            .collect();
        let part = Part {
            data: self.data.clone(),
            def: self.def.clone(),
            wanted: self.wanted.clone(),
            schema: self.schema.clone(),
        };
        builder.spawn_blocking(move || {
            for batch in part.data.scan(ids, Vec::new(), true) {
                if sender.blocking_send(Ok(part.arrange(&batch?)?)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }
}
