//! `WHERE key = $1` through an index; `UPDATE` and `DELETE` of it computed directly, without a plan for each run.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array},
        compute::filter_record_batch,
        datatypes::DataType,
    },
    common::{DFSchema, TableReference},
    logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, utils::split_conjunction},
};

use super::compute::{Compute, one_row};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Error, Result},
    sql::{complaints::from_datafusion, session::Session},
    table::{
        Database, TableData, key,
        schema::{KeyOf, Oid, RowId, TableDef},
    },
};

/// The rows of one whole key that a condition names, through an index.
pub(super) struct KeyLookup {
    index: Oid,
    /// The key's values, of no column.
    keys: Compute,
}

impl KeyLookup {
    /// `None` where the condition does not name one whole key of `def`, which it knows as `table`.
    ///
    /// # Errors
    /// Those of the expressions.
    pub(super) fn find(
        session: &Session,
        def: &TableDef,
        table: &TableReference,
        condition: &Expr,
        parameters: &[DataType],
    ) -> Result<Option<Self>> {
        let conjuncts = split_conjunction(condition);
        let of_column = |id: u16| {
            let column = def.column_of(id)?;
            conjuncts.iter().find_map(|e| equal_to(e, table, &column.name))
        };
        let unique = def.indexes.iter().filter(|i| i.unique && i.predicate.is_none());
        for index in unique {
            let ids: Option<Vec<u16>> = index
                .keys
                .iter()
                .map(|key| match &key.key {
                    KeyOf::Column(id) => Some(*id),
                    KeyOf::Expression(_) => None,
                })
                .collect();
            let Some(ids) = ids else { continue };
            let Some(values) = ids.iter().map(|id| of_column(*id)).collect::<Option<Vec<&Expr>>>() else {
                continue;
            };
            let empty = Arc::new(DFSchema::empty());
            let fitting =
                ids.iter().zip(&values).map(|(id, value)| {
                    let (_, field) = value.to_field(&empty).map_err(from_datafusion)?;
                    Ok::<_, Error>(def.column_of(*id).is_some_and(|column| {
                        comparable(field.data_type(), column.pg_type, column.field().data_type())
                    }))
                });
            if !fitting.collect::<Result<Vec<_>>>()?.into_iter().all(|fits| fits) {
                continue;
            }
            let values = values.into_iter().cloned().collect();
            let keys = Compute::new(&session.state, values, &empty, parameters)?;
            // None are known where a plan is needed.
            return Ok(keys.columns().is_some().then_some(Self { index: index.oid, keys }));
        }
        Ok(None)
    }

    /// The rows; `None` where the index is not kept in memory.
    ///
    /// # Errors
    /// Those of the expressions.
    pub(super) async fn rows(
        &self,
        session: &Session,
        table: &TableData,
        params: &[ArrayRef],
    ) -> Result<Option<Vec<RowId>>> {
        let index = table.def().indexes.iter().find(|i| i.oid == self.index);
        let Some(index) = index.filter(|_| table.has_index(self.index)) else {
            return Ok(None);
        };
        let keys = self.keys.run(session, &one_row(), params).await?;
        Ok(Some(match key(&keys, 0, index)? {
            (_, true) => Vec::new(),
            (key, false) => table.lookup(self.index, &key),
        }))
    }
}

/// See the module.
pub(super) struct ByKey {
    lookup: KeyLookup,
    /// The whole condition, then the values to set, over the row's number and its columns.
    computed: Compute,
}

impl ByKey {
    /// `None` where the condition does not name one whole key, or needs a plan.
    pub(super) fn find(
        session: &Session,
        def: &TableDef,
        alias: &str,
        input: &LogicalPlan,
        new_values: &[Expr],
        parameters: &[DataType],
    ) -> Result<Option<Self>> {
        let LogicalPlan::Filter(filter) = input else {
            return Ok(None);
        };
        let table = TableReference::bare(alias.to_owned());
        let Some(lookup) = KeyLookup::find(session, def, &table, &filter.predicate, parameters)? else {
            return Ok(None);
        };
        let mut exprs = vec![filter.predicate.clone()];
        exprs.extend(new_values.iter().cloned());
        let computed = Compute::new(&session.state, exprs, input.schema(), parameters)?;
        Ok(computed.columns().is_some().then_some(Self { lookup, computed }))
    }

    /// The row, if it is there and fulfils the whole condition: its number, its columns, and the values to set.
    ///
    /// # Errors
    /// Those of the expressions and of reading.
    pub(super) async fn read(
        &self,
        session: &Session,
        view: &Database,
        def: &TableDef,
        params: &[ArrayRef],
    ) -> Result<RecordBatchParts> {
        let table = view.table(def.oid).await?;
        let ids: Vec<u16> = def.columns.iter().map(|c| c.id).collect();
        let found = match self.lookup.rows(session, &table, params).await? {
            Some(found) => found,
            // The index is not kept in memory: every row is looked at.
            None => {
                let mut all = Vec::new();
                for batch in table.scan(Vec::new(), Vec::new(), true) {
                    let batch = batch?;
                    let rows = batch
                        .columns()
                        .last()
                        .and_then(|c| c.as_any().downcast_ref::<UInt64Array>().cloned());
                    all.extend(rows.iter().flat_map(|r| r.values().iter().copied()));
                }
                all
            }
        };
        let rows = table.get(&found, &ids, true)?;
        let mut columns = rows.columns().to_vec();
        columns.rotate_right(1);
        let schema = super::rules::with_rows(def, "row");
        let rows = RecordBatch::try_new(schema, columns).map_err(Error::internal)?;
        let mut computed = self.computed.run(session, &rows, params).await?;
        let values = computed.split_off(1.min(computed.len()));
        let Some(verdict) = computed.first().and_then(|v| v.as_boolean_opt()) else {
            return Err(Error::internal("a condition is no truth value"));
        };
        if verdict.true_count() == verdict.len() {
            return Ok((rows, values));
        }
        let kept = filter_record_batch(&rows, verdict).map_err(Error::internal)?;
        let filtered = values
            .iter()
            .map(|v| datafusion::arrow::compute::filter(v, verdict).map_err(Error::internal));
        Ok((kept, filtered.collect::<Result<_>>()?))
    }
}

/// Rows by number and columns, and values computed of them.
pub(super) type RecordBatchParts = (RecordBatch, Vec<ArrayRef>);

/// The constant that a condition says a column equals.
fn equal_to<'e>(expr: &'e Expr, table: &TableReference, column: &str) -> Option<&'e Expr> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = expr
    else {
        return None;
    };
    let is = |e: &Expr| matches!(e, Expr::Column(c) if c.name == column && c.relation.as_ref() == Some(table));
    let value = match (is(left), is(right)) {
        (true, false) => right,
        (false, true) => left,
        _ => return None,
    };
    let constant = value.column_refs().is_empty() && !value.is_volatile();
    constant.then_some(value)
}

/// Whether the bytes of a key tell the same as a comparison of these types.
fn comparable(given: &DataType, pg_type: PgType, kept: &DataType) -> bool {
    let integer = |t: &DataType| matches!(t, DataType::Int16 | DataType::Int32 | DataType::Int64);
    if matches!(pg_type, PgType::Scalar(Scalar::Bpchar)) {
        return false;
    }
    given == kept || integer(given) && integer(kept)
}
