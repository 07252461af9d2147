//! The tables and views of the schemas `ai` and `bulkhead`: constant lists.
//!
//! A relation reads from one session's [`World`] and nothing else. Planning, `\d`,
//! `information_schema` and the leak tests all iterate [`visible`] ones.

mod accounts;
pub(super) mod audit;
mod conversations;
mod documents;
mod fine_tunes;
mod jobs;
mod ledger;
mod list;
pub(super) mod operator;
mod providers;
pub(super) mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{Schema, SchemaRef},
    },
    catalog::{Session, TableProvider},
    common::{Result as DfResult, ScalarValue},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{BinaryExpr, Expr, Operator as Op, TableProviderFilterPushDown, TableType},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchReceiverStreamBuilder,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::{
    functions::{ACCOUNTANTS, READERS},
    kept::Constant,
    nearest::Nearest,
    world::World,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    tenant::Role,
};
use rows::{Cell, Rows};

pub(super) use documents::{CHUNK_COLUMNS, chunk_cell, insert as insert_documents};

/// One relation.
pub(super) struct Relation {
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) plane: RelationPlane,
    pub(super) columns: &'static [(&'static str, PgType)],
    /// Sends every row to `out`, until that says to stop.
    read: fn(&World, &Scan, &mut Out<'_>) -> Result<()>,
    /// How rows are written; `None` for views.
    pub(super) write: Option<Write>,
    /// The column whose value may be looked up without a scan.
    key: Option<&'static str>,
    /// The column by which the nearest rows are found without a scan.
    pub(super) vector: Option<&'static str>,
    pub(super) comment: &'static str,
}

/// Where a relation exists.
#[derive(Clone, Copy, Debug)]
pub(super) enum RelationPlane {
    Tenant(&'static [Role]),
    Operator,
}

/// Rows to be written, with all of the relation's columns.
pub(super) enum Change {
    /// NULL asks for the default.
    Insert(RecordBatch),
    /// The rows as they shall be, and the names of the assigned columns.
    Update(RecordBatch, Vec<String>),
    /// The rows to delete.
    Delete(RecordBatch),
}

/// Carries out a change and gives the rows as written (or as deleted), for `RETURNING`.
pub(super) type Write = fn(Arc<World>, Change) -> BoxFuture<'static, Result<RecordBatch>>;

/// What a scan wants.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Columns by their place in the relation.
    pub(super) columns: Vec<usize>,
    /// Only the rows whose key is one of these.
    pub(super) keys: Option<Vec<Uuid>>,
    /// Only the rows nearest to a vector.
    pub(super) nearest: Option<Nearest>,
}

/// Takes rows and passes them on in batches.
pub(super) struct Out<'a> {
    rows: Rows,
    columns: &'a [usize],
    send: &'a mut dyn FnMut(RecordBatch) -> bool,
}

/// Rows of one batch.
const BATCH_ROWS: usize = 1024;

impl Out<'_> {
    /// Adds a row; false when nobody wants more.
    pub(super) fn push<'c>(&mut self, mut cell: impl FnMut(usize) -> Cell<'c>) -> Result<bool> {
        let columns = self.columns;
        self.rows.push(|i| cell(columns[i]));
        if self.rows.len() < BATCH_ROWS {
            return Ok(true);
        }
        let batch = self.rows.finish()?;
        Ok((self.send)(batch))
    }
}

const fn t(scalar: Scalar) -> PgType {
    PgType::Scalar(scalar)
}

/// The relations of what a tenant holds and uses; [`list`] has the others.
const RELATIONS: &[Relation] = &[
    Relation {
        schema: "ai",
        name: "documents",
        plane: RelationPlane::Tenant(READERS),
        columns: documents::DOCUMENT_COLUMNS,
        read: documents::read_documents,
        write: Some(documents::write),
        key: Some("id"),
        vector: None,
        comment: "Documents; inserting one chunks, embeds and indexes it.",
    },
    Relation {
        schema: "ai",
        name: "chunks",
        plane: RelationPlane::Tenant(READERS),
        columns: documents::CHUNK_COLUMNS,
        read: documents::read_chunks,
        write: None,
        key: Some("document_id"),
        vector: Some("embedding"),
        comment: "The pieces of the documents that searches find.",
    },
    Relation {
        schema: "ai",
        name: "conversations",
        plane: RelationPlane::Tenant(READERS),
        columns: conversations::CONVERSATION_COLUMNS,
        read: conversations::read_conversations,
        write: None,
        key: Some("id"),
        vector: None,
        comment: "Your conversations, the newest first; written by ai.create_conversation and ai.delete_conversation.",
    },
    Relation {
        schema: "ai",
        name: "messages",
        plane: RelationPlane::Tenant(READERS),
        columns: conversations::MESSAGE_COLUMNS,
        read: conversations::read_messages,
        write: None,
        key: Some("conversation_id"),
        vector: None,
        comment: "The messages of your conversations; written by ai.add_message and ai.rate_message.",
    },
    Relation {
        schema: "bulkhead",
        name: "usage",
        plane: RelationPlane::Tenant(ACCOUNTANTS),
        columns: ledger::USAGE_COLUMNS,
        read: ledger::read_usage,
        write: None,
        key: None,
        vector: None,
        comment: "One line for each billable event.",
    },
    Relation {
        schema: "bulkhead",
        name: "costs",
        plane: RelationPlane::Tenant(ACCOUNTANTS),
        columns: ledger::COSTS_COLUMNS,
        read: ledger::read_costs,
        write: None,
        key: None,
        vector: None,
        comment: "Costs by day.",
    },
    Relation {
        schema: "bulkhead",
        name: "cache_stats",
        plane: RelationPlane::Tenant(ACCOUNTANTS),
        columns: ledger::CACHE_COLUMNS,
        read: ledger::read_cache,
        write: None,
        key: None,
        vector: None,
        comment: "What the response cache holds and what it has saved.",
    },
    Relation {
        schema: "bulkhead",
        name: "model_prices",
        plane: RelationPlane::Tenant(ACCOUNTANTS),
        columns: operator::PRICE_COLUMNS,
        read: operator::read_prices,
        write: None,
        key: None,
        vector: None,
        comment: "Prices by model and date, in nano-USD a token.",
    },
    Relation {
        schema: "bulkhead",
        name: "users",
        plane: RelationPlane::Tenant(&[Role::Owner]),
        columns: operator::USER_COLUMNS,
        read: operator::read_users,
        write: None,
        key: None,
        vector: None,
        comment: "Users of this tenant.",
    },
];

/// The relations of this session's plane.
pub(super) fn visible(world: &World) -> impl Iterator<Item = &'static Relation> + use<'_> {
    let all = RELATIONS.iter().chain(list::GATEWAY).chain(list::OPERATOR);
    all.filter(move |r| match (r.plane, world) {
        (RelationPlane::Operator, World::Operator(_)) | (RelationPlane::Tenant(_), World::Tenant(_)) => true,
        (RelationPlane::Operator, World::Tenant(_)) | (RelationPlane::Tenant(_), World::Operator(_)) => false,
    })
}

/// The relation of a name in this session's plane, or 42501 where the role may not read it.
pub(super) fn find(world: &World, schema: &str, name: &str) -> Result<Option<&'static Relation>> {
    let Some(relation) = visible(world).find(|r| r.schema == schema && r.name == name) else {
        return Ok(None);
    };
    if let (RelationPlane::Tenant(roles), Some(role)) = (relation.plane, world.role())
        && !roles.contains(&role)
    {
        return Err(Error::new(
            Code::InsufficientPrivilege,
            format!("permission denied for relation {name}"),
        )
        .with_hint(format!("users of role {} may not read it", role.as_str())));
    }
    Ok(Some(relation))
}

impl Relation {
    /// `r` for a table, `v` for a view, as in `pg_class.relkind`.
    pub(super) fn kind(&self) -> char {
        if self.write.is_some() || self.name == "chunks" {
            'r'
        } else {
            'v'
        }
    }

    /// Its columns as Arrow fields.
    pub(super) fn arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns.iter().map(|(n, t)| t.field(n, true)).collect::<Vec<_>>(),
        ))
    }
}

/// A relation of one session as a table of DataFusion's.
pub(super) struct RelationProvider {
    pub(super) relation: &'static Relation,
    world: Arc<World>,
    schema: SchemaRef,
}

impl std::fmt::Debug for RelationProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.relation.name)
    }
}

impl RelationProvider {
    pub(super) fn new(relation: &'static Relation, world: Arc<World>) -> Self {
        Self {
            relation,
            world,
            schema: relation.arrow(),
        }
    }

    /// The constants of `column = 'id'` or `column IN ('id', ...)`; where they are parameters that are not known
    /// yet, as many of nothing.
    fn keys(&self, filter: &Expr) -> Option<Vec<Option<Constant>>> {
        let column = self.relation.key?;
        let is_key = |e: &Expr| matches!(e, Expr::Column(c) if c.name == column);
        let id = |e: &Expr| Constant::will_be(e).then(|| Constant::of(e));
        match filter {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Op::Eq,
                right,
            }) => {
                let value = match (is_key(left), is_key(right)) {
                    (true, _) => id(right)?,
                    (_, true) => id(left)?,
                    _ => return None,
                };
                Some(vec![value])
            }
            Expr::InList(list) if !list.negated && is_key(&list.expr) => list.list.iter().map(id).collect(),
            _ => None,
        }
    }
}

#[async_trait]
impl TableProvider for RelationProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        if self.relation.kind() == 'r' {
            TableType::Base
        } else {
            TableType::View
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|f| match self.keys(f) {
                _ if Nearest::is(f) => TableProviderFilterPushDown::Exact,
                Some(_) => TableProviderFilterPushDown::Inexact,
                None => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = projection
            .cloned()
            .unwrap_or_else(|| (0..self.relation.columns.len()).collect());
        let schema = Arc::new(self.schema.project(&columns)?);
        let keys = filters.iter().find_map(|f| self.keys(f));
        let part = Part {
            relation: self.relation,
            world: self.world.clone(),
            columns,
            keys: keys.and_then(|keys| keys.into_iter().collect()),
            nearest: Nearest::among(filters)?,
            schema: schema.clone(),
        };
        Ok(Arc::new(StreamingTableExec::try_new(
            schema,
            vec![Arc::new(part)],
            None,
            [],
            false,
            limit,
        )?))
    }
}

struct Part {
    relation: &'static Relation,
    world: Arc<World>,
    columns: Vec<usize>,
    keys: Option<Vec<Constant>>,
    nearest: Option<Nearest>,
    schema: SchemaRef,
}

impl Part {
    /// What the run at hand asks for.
    fn scan(&self) -> Scan {
        // Text that is no id equals no id.
        let id = |key: &Constant| match key.get() {
            ScalarValue::Utf8(Some(text)) => Uuid::parse_str(&text).ok(),
            _ => None,
        };
        Scan {
            columns: self.columns.clone(),
            keys: self.keys.as_ref().map(|keys| keys.iter().filter_map(id).collect()),
            nearest: self.nearest.clone(),
        }
    }
}

/// What EXPLAIN says of it.
impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.relation.name)?;
        match (&self.keys, &self.nearest) {
            (Some(_), _) => write!(f, " by index {}_pkey", self.relation.name),
            (None, Some(_)) => write!(f, " by index {}_hnsw", self.relation.name),
            (None, None) => Ok(()),
        }
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads on a thread of its own, so that a page from disk never stops the async threads; two
    /// batches wait at most, so that a slow reader stops the scan.
    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let sender = builder.tx();
        let (relation, world, scan) = (self.relation, self.world.clone(), self.scan());
        let schema = self.schema.clone();
        builder.spawn_blocking(move || {
            let mut send = |batch| sender.blocking_send(Ok(batch)).is_ok();
            let mut out = Out {
                rows: Rows::new(schema),
                columns: &scan.columns,
                send: &mut send,
            };
            (relation.read)(&world, &scan, &mut out)?;
            if out.rows.len() > 0 {
                let rest = out.rows.finish()?;
                (out.send)(rest);
            }
            Ok(())
        });
        builder.build()
    }
}
