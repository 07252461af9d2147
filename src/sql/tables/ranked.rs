//! `ORDER BY embedding <=> $1 LIMIT k` over a tenant's own table: what is looked for, and how its rows are found.
//!
//! Which rows may be given comes first: those that policies let pass, of these those that the statement asks for. Then
//! the nearest of them are looked for ([`super::shards`]). Nothing is looked for while a statement is planned: a scan
//! does it when it is run ([`super::nearest_scan`]), and so does the direct way ([`super::search`]). Wherever something
//! stands in the way the table is read as ever: the sort above is right with all rows too.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
};
use datafusion::{
    catalog::Session,
    common::{DFSchema, ScalarValue},
    execution::TaskContext,
    logical_expr::{Expr, utils::split_conjunction},
    physical_expr::PhysicalExpr,
    physical_plan::{ExecutionPlan, execute_stream},
};
use futures::StreamExt;

use super::{
    exact::check,
    lookup::{self, Access, Condition},
    nearest_scan::NearestScan,
    provider::{UserTable, named},
    scan::TableScanExec,
    shards::{self, Found, Seen, Vectors as Shards, Wanted},
};
use crate::{
    error::{Error, Result},
    limits,
    sql::{complaints::from_datafusion, functions::vector::Vectors, nearest::Request, run::constant, settings},
    table::{
        TableData,
        schema::{IndexMethod, KeyOf, RowId, TableDef},
    },
    vector::{Cancel, Method, Metric},
};

/// The column of row ids in plans of this module: a name that no text can spell.
const ROW: &str = "\u{1}row";

/// Ends work on another thread when nobody waits for it any more.
struct Waiting(Cancel);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs what may take long on a thread of its own.
async fn aside<T: Send + 'static>(work: impl FnOnce(&Cancel) -> Result<T> + Send + 'static) -> Result<T> {
    let waiting = Waiting(Cancel::new());
    let stop = waiting.0.clone();
    tokio::task::spawn_blocking(move || work(&stop))
        .await
        .map_err(Error::internal)?
}

/// A search that is ready to run.
pub(super) struct Sought {
    pub(super) data: Arc<TableData>,
    /// What is committed; `None` for a table that is not.
    latest: Option<Arc<TableData>>,
    shards: Arc<Shards>,
    pub(super) wanted: Wanted,
    /// Gives the ids of rows that policies let pass.
    policed: Option<Arc<dyn ExecutionPlan>>,
    predicate: Option<Predicate>,
}

/// What a search has found.
pub(super) struct Outcome {
    /// `None` where rows without a vector are among the nearest: the table is to be read.
    pub(super) found: Option<Found>,
    /// The rows that may be given; all without it.
    pub(super) matching: Option<Vec<RowId>>,
}

impl Sought {
    /// Finds the rows.
    ///
    /// # Errors
    /// Those of reading, of policies and of the predicate.
    pub(super) async fn find(self: &Arc<Self>, task: &Arc<TaskContext>) -> Result<Outcome> {
        let allowed = match &self.policed {
            Some(plan) => Some(ids(plan.clone(), task.clone()).await?),
            None => None,
        };
        let access = match (&self.predicate, allowed) {
            (None, allowed) => Choice::Given(allowed),
            (Some(_), Some(rows)) => Choice::Of(Access::Rows {
                index: String::new(),
                rows,
            }),
            (Some(predicate), None) => Choice::Of(lookup::choose(&self.data, &predicate.conditions)?),
        };
        let quick = match &access {
            Choice::Given(None) => {
                self.data.rows() < limits::SHARD_ROWS || self.shards.is_quick(&self.seen(None), &self.wanted)
            }
            Choice::Given(Some(rows)) | Choice::Of(Access::Rows { rows, .. }) => rows.len() <= limits::NEAREST_FEW,
            Choice::Of(Access::Scan(_)) => self.data.rows() < limits::SHARD_ROWS,
        };
        match quick {
            true => self.answer(access, &Cancel::new()),
            false => {
                let this = self.clone();
                aside(move |stop| this.answer(access, stop)).await
            }
        }
    }

    fn answer(&self, access: Choice, stop: &Cancel) -> Result<Outcome> {
        let matching = match (access, &self.predicate) {
            (Choice::Given(rows), _) => rows,
            (Choice::Of(access), Some(predicate)) => Some(predicate.rows(&self.data, access, stop)?),
            (Choice::Of(_), None) => return Err(Error::internal("rows are to fulfil no predicate")),
        };
        let seen = self.seen(matching);
        let found = self.shards.nearest(&seen, &self.wanted, stop)?;
        Ok(Outcome {
            found,
            matching: seen.matching,
        })
    }

    fn seen(&self, matching: Option<Vec<RowId>>) -> Seen {
        Seen {
            view: self.data.clone(),
            latest: self.latest.clone(),
            matching,
        }
    }

    /// Whether policies choose among the rows: then nothing is told of how many there are.
    pub(super) fn is_policed(&self) -> bool {
        self.policed.is_some()
    }

    /// How a shard will be searched, as far as that is known before.
    pub(super) fn expected(&self) -> Option<Method> {
        let all = self.policed.is_none() && self.predicate.is_none();
        let shard = all.then(|| self.shards.expected(&self.data, &self.wanted));
        shard.flatten().filter(|_| self.latest.is_some())
    }

    /// The name of the index that the tenant made for a column and a distance, or of what is kept without one.
    pub(super) fn index(&self) -> Option<String> {
        self.latest.as_ref()?;
        let (table, id) = (self.data.def(), self.wanted.column);
        let class = match self.wanted.metric {
            Metric::Cosine => "_cosine_ops",
            Metric::L2 => "_l2_ops",
            Metric::InnerProduct => "_ip_ops",
            Metric::L1 => "_l1_ops",
        };
        let made = table.indexes.iter().find(|index| {
            let approximate = matches!(index.method, IndexMethod::Hnsw { .. } | IndexMethod::Ivfflat { .. });
            let fits = index.keys.first().is_some_and(|key| {
                // pgvector's default of ivfflat.
                let named = key.operator_class.as_deref().unwrap_or("vector_l2_ops");
                matches!(key.key, KeyOf::Column(of) if of == id) && named.ends_with(class)
            });
            approximate && fits && index.predicate.is_none()
        });
        Some(match made {
            Some(index) => index.name.clone(),
            None => format!("{}_{}_nearest", table.name, self.column()),
        })
    }

    /// The name of the column of vectors.
    pub(super) fn column(&self) -> &str {
        let column = self.data.def().column_of(self.wanted.column);
        column.map(|column| column.name.as_str()).unwrap_or_default()
    }
}

/// How the rows that may be given are known.
enum Choice {
    /// These, or all.
    Given(Option<Vec<RowId>>),
    /// Those of them that fulfil the predicate.
    Of(Access),
}

/// The ids that a plan gives.
async fn ids(plan: Arc<dyn ExecutionPlan>, task: Arc<TaskContext>) -> Result<Vec<RowId>> {
    let mut rows = execute_stream(plan, task).map_err(from_datafusion)?;
    let mut all = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(from_datafusion)?;
        let ids = batch
            .columns()
            .first()
            .and_then(|ids| ids.as_primitive_opt::<UInt64Type>());
        let ids = ids.ok_or_else(|| Error::internal("a batch lacks its row ids"))?;
        all.extend_from_slice(ids.values());
    }
    Ok(all)
}

/// What rows must fulfil beside policies.
pub(super) struct Predicate {
    condition: Arc<dyn PhysicalExpr>,
    /// The columns that it looks at, and the row ids after them.
    columns: Vec<u16>,
    schema: SchemaRef,
    /// What of it an index may know.
    conditions: Vec<Condition>,
}

impl Predicate {
    /// Of an expression whose parameters are filled in.
    ///
    /// # Errors
    /// Those of the expression.
    pub(super) fn new(state: &dyn Session, table: &TableDef, predicate: Expr) -> Result<Self> {
        let names: std::collections::HashSet<&str> = predicate
            .column_refs()
            .into_iter()
            .map(|column| column.name.as_str())
            .collect();
        let columns = table
            .columns
            .iter()
            .filter(|column| names.contains(column.name.as_str()));
        let (columns, mut fields): (_, Vec<_>) = columns.map(|column| (column.id, column.field())).unzip();
        let schema = DFSchema::try_from(Schema::new(fields.clone())).map_err(from_datafusion)?;
        let parts: Vec<Expr> = split_conjunction(&predicate).into_iter().cloned().collect();
        let conditions = lookup::conditions(&parts, table, false);
        let condition = state
            .create_physical_expr(predicate, &schema)
            .map_err(from_datafusion)?;
        fields.push(Field::new(ROW, DataType::UInt64, false));
        Ok(Self {
            condition,
            columns,
            schema: Arc::new(Schema::new(fields)),
            conditions,
        })
    }

    /// The rows that fulfil it, of those that are found in this way.
    fn rows(&self, data: &Arc<TableData>, access: Access, stop: &Cancel) -> Result<Vec<RowId>> {
        let row_at = self.columns.len();
        let scan = TableScanExec::new(
            data.clone(),
            self.columns.clone(),
            access,
            Some(row_at),
            None,
            self.schema.clone(),
        );
        let mut found = Vec::new();
        for batch in scan.batches() {
            check(stop)?;
            self.keep(&batch.map_err(from_datafusion)?, row_at, &mut found)?;
        }
        Ok(found)
    }

    /// Adds the ids of the rows of which it is true.
    fn keep(&self, batch: &RecordBatch, row_at: usize, found: &mut Vec<RowId>) -> Result<()> {
        let value = self.condition.evaluate(batch).map_err(from_datafusion)?;
        let value = value.into_array(batch.num_rows()).map_err(from_datafusion)?;
        let wrong = || Error::internal("a condition is not true or false");
        let truth = value.as_boolean_opt().ok_or_else(wrong)?;
        let ids = batch
            .column(row_at)
            .as_primitive_opt::<UInt64Type>()
            .ok_or_else(wrong)?;
        let rows = ids.values().iter().enumerate();
        found.extend(
            rows.filter(|(at, _)| truth.is_valid(*at) && truth.value(*at))
                .map(|(_, row)| *row),
        );
        Ok(())
    }
}

impl UserTable {
    /// Whether a column holds vectors of one length.
    pub(in crate::sql) fn has_vectors(&self, column: &str) -> bool {
        self.def.column(column).and_then(shards::dimensions).is_some()
    }

    /// The scan that answers a request; `None` where the table is to be read as ever.
    pub(super) async fn scan_nearest(
        &self,
        state: &dyn Session,
        data: &Arc<TableData>,
        policed: bool,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Option<NearestScan>> {
        let Some(request) = Request::among(filters) else {
            return Ok(None);
        };
        if data.rows() < limits::SHARD_ROWS {
            return Ok(None);
        }
        let (Some(fetch), Some(skip)) = (count(&request.fetch)?, count(&request.skip)?) else {
            return Ok(None);
        };
        // What fails here fails in the ordinary way too, or is not computed there.
        let Ok(Some(query)) = vector(state, &request.query) else {
            return Ok(None);
        };
        let k = fetch.saturating_add(skip);
        let Some(wanted) = self.wanted(data.def(), &request, query, k)? else {
            return Ok(None);
        };
        let allowed = match policed {
            true => {
                let items = vec![named(ROW)];
                Some(self.plan_policed(state, data.def(), Some(ROW), items, filters).await?)
            }
            false => None,
        };
        let predicate = request.predicate.map(|p| Predicate::new(state, &self.def, p));
        let sought = self.sought(data, wanted, allowed, predicate.transpose()?)?;
        let (columns, row_at, schema) = self.columns_of(projection)?;
        Ok(Some(NearestScan::new(sought, columns, row_at, schema)))
    }

    /// A search of the table.
    pub(super) fn sought(
        &self,
        data: &Arc<TableData>,
        wanted: Wanted,
        policed: Option<Arc<dyn ExecutionPlan>>,
        predicate: Option<Predicate>,
    ) -> Result<Arc<Sought>> {
        let world = self.world()?;
        Ok(Arc::new(Sought {
            data: data.clone(),
            latest: world.opened()?.latest().loaded(self.def.oid),
            shards: world.state.vectors.clone(),
            wanted,
            policed,
            predicate,
        }))
    }

    /// What is asked for, where the table as it is now has it.
    pub(super) fn wanted(
        &self,
        now: &TableDef,
        request: &Request,
        query: Vec<f32>,
        k: usize,
    ) -> Result<Option<Wanted>> {
        if k == 0 || k > limits::SEARCH_K {
            return Ok(None);
        }
        // By its number: the name may have changed since the statement was planned.
        let planned = self.def.column(&request.column);
        let column = planned.and_then(|column| now.column_of(column.id));
        let Some(column) = column.filter(|column| shards::dimensions(column) == Some(query.len())) else {
            return Ok(None);
        };
        Ok(Some(Wanted {
            column: column.id,
            metric: request.metric,
            query,
            k,
            ef: self.ef()?,
        }))
    }

    /// `hnsw.ef_search` where it is not the default, by which the promised recall decides.
    fn ef(&self) -> Result<Option<usize>> {
        let setting = settings::find("hnsw.ef_search")?;
        let value = self.world()?.desk.settings.lock().get(setting);
        Ok(value.parse().ok().filter(|_| value != setting.default))
    }
}

/// The number that a LIMIT or an OFFSET is, once its parameters are filled in; `None` for NULL and for none that counts.
pub(super) fn count(expr: &Expr) -> Result<Option<usize>> {
    let Some(value) = constant(expr).map_err(from_datafusion)? else {
        return Ok(None);
    };
    match value.cast_to(&DataType::Int64).map_err(from_datafusion)? {
        ScalarValue::Int64(Some(number)) => Ok(usize::try_from(number).ok()),
        _ => Ok(None),
    }
}

/// The vector that an expression without columns is; `None` for NULL, and while a parameter is not known.
fn vector(state: &dyn Session, expr: &Expr) -> Result<Option<Vec<f32>>> {
    let nothing = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .map_err(Error::internal)?;
    let computed = state
        .create_physical_expr(expr.clone(), &DFSchema::empty())
        .and_then(|expr| expr.evaluate(&nothing))
        .and_then(|value| Vectors::new(&value));
    let vectors = computed.map_err(from_datafusion)?;
    Ok(vectors.row(0).map(<[f32]>::to_vec))
}
