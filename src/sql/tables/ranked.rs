//! `ORDER BY embedding <=> $1 LIMIT k` over a tenant's own table: the rows are found before the scan is planned, and
//! the scan reads these alone.
//!
//! Which rows may be given comes first: those that policies let pass, of these those that the statement asks for. Then
//! the nearest of them are looked for ([`super::shards`]). Wherever something stands in the way the table is read as
//! ever: the sort above is right with all rows too.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, UInt64Type},
};
use datafusion::{
    catalog::Session,
    common::DFSchema,
    logical_expr::{Expr, utils::split_conjunction},
    physical_expr::PhysicalExpr,
    physical_plan::execute_stream,
};
use futures::StreamExt;

use super::{
    exact::check,
    lookup::{self, Access, Ranked},
    provider::{UserTable, named},
    scan::TableScanExec,
    shards::{self, Found, Seen, Wanted},
};
use crate::{
    error::{Error, Result},
    limits,
    sql::{complaints::from_datafusion, functions::vector::Vectors, nearest::Request, run::constant, settings},
    table::{
        TableData,
        schema::{IndexMethod, KeyOf, RowId, TableDef},
    },
    vector::{Cancel, Metric},
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
    ) -> Result<Option<TableScanExec>> {
        let Some(request) = Request::among(filters) else {
            return Ok(None);
        };
        if data.rows() < limits::SHARD_ROWS {
            return Ok(None);
        }
        let Some(wanted) = self.wanted(state, data.def(), &request)? else {
            return Ok(None);
        };
        let mut matching = None;
        if policed {
            matching = Some(self.allowed(state, data.def(), filters).await?);
        }
        if let Some(predicate) = request.predicate {
            matching = Some(self.fulfilling(state, data, predicate, matching).await?);
        }
        let tables = self.world()?.opened()?;
        let seen = Seen {
            view: data.clone(),
            latest: tables.latest().loaded(self.def.oid),
            matching,
        };
        let vectors = self.world()?.state.vectors.clone();
        let (k, column, metric) = (wanted.k, request.column, wanted.metric);
        let (query, column_id) = (wanted.query.clone(), wanted.column);
        let found = match vectors.is_quick(&seen, &wanted) {
            true => vectors.nearest(&seen, &wanted, &Cancel::new())?,
            false => {
                let searched = aside(move |stop| Ok((vectors.nearest(&seen, &wanted, stop)?, seen.matching)));
                match searched.await? {
                    (Some(found), _) => Some(found),
                    // Rows without a vector are among the nearest: the sort finds which.
                    (None, Some(rows)) => Some(Found { rows, method: None }),
                    (None, None) => None,
                }
            }
        };
        let Some(found) = found else { return Ok(None) };
        tracing::trace!(k, rows = found.rows.len(), method = ?found.method, "nearest rows");
        let ranked = Ranked {
            index: found.method.map(|_| index_of(data.def(), column_id, &column, metric)),
            method: found.method,
            column,
            metric,
            query,
        };
        let rows = found.rows;
        let access = Access::Nearest { rows, ranked };
        Ok(Some(self.scan_by(data.clone(), projection, access, None)?))
    }

    /// What is asked for, once all of it is known.
    fn wanted(&self, state: &dyn Session, now: &TableDef, request: &Request) -> Result<Option<Wanted>> {
        let number = |expr: &Expr| -> Result<Option<usize>> {
            let Some(value) = constant(expr).map_err(from_datafusion)? else {
                return Ok(None);
            };
            match value.cast_to(&DataType::Int64).map_err(from_datafusion)? {
                datafusion::common::ScalarValue::Int64(Some(number)) => Ok(usize::try_from(number).ok()),
                _ => Ok(None),
            }
        };
        let (Some(fetch), Some(skip)) = (number(&request.fetch)?, number(&request.skip)?) else {
            return Ok(None);
        };
        let k = fetch.saturating_add(skip);
        if k == 0 || k > limits::SEARCH_K {
            return Ok(None);
        }
        // By its number: the name may have changed since the statement was planned.
        let planned = self.def.column(&request.column);
        let Some(column) = planned.and_then(|column| now.column_of(column.id)) else {
            return Ok(None);
        };
        // What fails here fails in the ordinary way too, or is not computed there.
        let Ok(Some(query)) = vector(state, &request.query) else {
            return Ok(None);
        };
        if shards::dimensions(column) != Some(query.len()) {
            return Ok(None);
        }
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

    /// The rows that policies let pass.
    async fn allowed(&self, state: &dyn Session, now: &TableDef, filters: &[Expr]) -> Result<Vec<RowId>> {
        let items = vec![named(ROW)];
        let plan = self.plan_policed(state, now, Some(ROW), items, filters).await?;
        let mut rows = execute_stream(plan, state.task_ctx()).map_err(from_datafusion)?;
        let mut allowed = Vec::new();
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(from_datafusion)?;
            let ids = batch
                .columns()
                .first()
                .and_then(|ids| ids.as_primitive_opt::<UInt64Type>());
            let ids = ids.ok_or_else(|| Error::internal("a batch lacks its row ids"))?;
            allowed.extend_from_slice(ids.values());
        }
        Ok(allowed)
    }

    /// The rows that fulfil a predicate, of some or of all.
    async fn fulfilling(
        &self,
        state: &dyn Session,
        data: &Arc<TableData>,
        predicate: Expr,
        of: Option<Vec<RowId>>,
    ) -> Result<Vec<RowId>> {
        let names: std::collections::HashSet<&str> = predicate
            .column_refs()
            .into_iter()
            .map(|column| column.name.as_str())
            .collect();
        let columns = self
            .def
            .columns
            .iter()
            .filter(|column| names.contains(column.name.as_str()));
        let (ids, mut fields): (Vec<u16>, Vec<_>) = columns.map(|column| (column.id, column.field())).unzip();
        let schema = DFSchema::try_from(Schema::new(fields.clone())).map_err(from_datafusion)?;
        let access = match of {
            Some(rows) => Access::Rows {
                index: String::new(),
                rows,
            },
            None => {
                let parts: Vec<Expr> = split_conjunction(&predicate).into_iter().cloned().collect();
                let conditions = lookup::conditions(&parts, &self.def, false);
                lookup::choose(data, &conditions)?
            }
        };
        let condition = state
            .create_physical_expr(predicate, &schema)
            .map_err(from_datafusion)?;
        fields.push(Field::new(ROW, DataType::UInt64, false));
        let (row_at, schema) = (ids.len(), Arc::new(Schema::new(fields)));
        let scan = TableScanExec::new(data.clone(), ids, access, Some(row_at), None, schema);
        aside(move |stop| {
            let mut found = Vec::new();
            for batch in scan.batches() {
                check(stop)?;
                let batch = batch.map_err(from_datafusion)?;
                keep(&batch, &condition, row_at, &mut found)?;
            }
            Ok(found)
        })
        .await
    }
}

/// Adds the ids of the rows of which a condition is true.
fn keep(batch: &RecordBatch, condition: &Arc<dyn PhysicalExpr>, row_at: usize, found: &mut Vec<RowId>) -> Result<()> {
    let value = condition.evaluate(batch).map_err(from_datafusion)?;
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

/// The name of the index that the tenant made for a column and a distance, or of what is kept without one.
fn index_of(table: &TableDef, id: u16, column: &str, metric: Metric) -> String {
    let class = match metric {
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
    match made {
        Some(index) => index.name.clone(),
        None => format!("{}_{column}_nearest", table.name),
    }
}
