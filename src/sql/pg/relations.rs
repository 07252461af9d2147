//! The schemas `pg_catalog` and `information_schema` as DataFusion sees them.
//!
//! A provider holds a [`Snapshots`] and a constant, so that making one is cheap; rows are made when
//! a plan runs, from the snapshot of that moment. A relation that can never have rows plans to an
//! empty one, which lets the optimizer drop what is joined to it.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{SchemaProvider, Session, TableProvider},
    common::{DataFusionError, Result, ToDFSchema},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{EmptyRelation, Expr, LogicalPlan, TableType},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};

use super::{
    builtin::{self, Relation},
    catalog::{CatalogSnapshot, Snapshots},
    fill::FILLS,
    info::INFO,
    rows::Rows,
};

/// `pg_catalog` of one session.
pub fn pg_catalog(snapshots: Arc<dyn Snapshots>) -> Arc<dyn SchemaProvider> {
    Arc::new(SystemSchema {
        name: "pg_catalog",
        snapshots,
    })
}

/// `information_schema` of one session.
pub fn information_schema(snapshots: Arc<dyn Snapshots>) -> Arc<dyn SchemaProvider> {
    Arc::new(SystemSchema {
        name: "information_schema",
        snapshots,
    })
}

#[derive(Debug)]
struct SystemSchema {
    name: &'static str,
    snapshots: Arc<dyn Snapshots>,
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        builtin::RELATIONS
            .iter()
            .filter(|r| r.schema == self.name)
            .map(|r| r.name.to_owned())
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = |relation| {
            Arc::new(SystemTable {
                relation,
                snapshots: self.snapshots.clone(),
            }) as _
        };
        Ok(builtin::find(self.name, name).map(table))
    }

    fn table_exist(&self, name: &str) -> bool {
        builtin::find(self.name, name).is_some()
    }
}

type Own = fn(&CatalogSnapshot, &mut Rows);

/// How a relation gets its rows, by schema and name.
struct Source {
    fixed: Option<fn(&mut Rows)>,
    own: Option<Own>,
}

static SOURCES: LazyLock<HashMap<(&str, &str), Source>> = LazyLock::new(|| {
    let catalog = FILLS.iter().map(|f| {
        (
            ("pg_catalog", f.relation),
            Source {
                fixed: f.fixed,
                own: f.own,
            },
        )
    });
    let info = INFO.iter().map(|(name, own)| {
        (
            ("information_schema", *name),
            Source {
                fixed: None,
                own: Some(*own),
            },
        )
    });
    catalog.chain(info).collect()
});

/// Rows that are the same for everybody, made once.
static FIXED: LazyLock<HashMap<&str, RecordBatch>> = LazyLock::new(|| {
    let make = |f: &super::fill::Fill| {
        let mut rows = Rows::of(builtin::find("pg_catalog", f.relation)?);
        f.fixed?(&mut rows);
        Some((f.relation, rows.finish().ok()?))
    };
    FILLS.iter().filter_map(make).collect()
});

static EMPTY: LazyLock<HashMap<(&str, &str), LogicalPlan>> = LazyLock::new(|| {
    let empty = builtin::RELATIONS
        .iter()
        .filter(|r| !SOURCES.contains_key(&(r.schema, r.name)));
    let plan = |r: &'static Relation| {
        let schema = r.arrow.clone().to_dfschema_ref().ok()?;
        Some((
            (r.schema, r.name),
            LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: false,
                schema,
            }),
        ))
    };
    empty.filter_map(plan).collect()
});

#[derive(Debug)]
struct SystemTable {
    relation: &'static Relation,
    snapshots: Arc<dyn Snapshots>,
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.relation.arrow.clone()
    }

    fn table_type(&self) -> TableType {
        if self.relation.kind == "r" {
            TableType::Base
        } else {
            TableType::View
        }
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        EMPTY
            .get(&(self.relation.schema, self.relation.name))
            .map(Cow::Borrowed)
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = Scan {
            relation: self.relation,
            snapshots: self.snapshots.clone(),
        };
        let schema = self.relation.arrow.clone();
        Ok(Arc::new(StreamingTableExec::try_new(
            schema,
            vec![Arc::new(scan)],
            projection,
            None,
            false,
            limit,
        )?))
    }
}

/// One run over a relation: the fixed rows, then those of the snapshot.
struct Scan {
    relation: &'static Relation,
    snapshots: Arc<dyn Snapshots>,
}

/// What EXPLAIN says of it.
impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.relation.name)
    }
}

impl Scan {
    fn batches(&self) -> Result<Vec<RecordBatch>> {
        let Some(source) = SOURCES.get(&(self.relation.schema, self.relation.name)) else {
            return Ok(Vec::new());
        };
        let mut batches = Vec::new();
        if source.fixed.is_some() {
            batches.extend(FIXED.get(self.relation.name).cloned());
        }
        if let Some(own) = source.own {
            let mut rows = Rows::of(self.relation);
            own(self.snapshots.snapshot()?.as_ref(), &mut rows);
            batches.push(rows.finish()?);
        }
        Ok(batches)
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.relation.arrow
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches: Vec<Result<RecordBatch, DataFusionError>> = match self.batches() {
            Ok(batches) => batches.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        Box::pin(RecordBatchStreamAdapter::new(
            self.relation.arrow.clone(),
            futures::stream::iter(batches),
        ))
    }
}
