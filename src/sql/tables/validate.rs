//! Rows that are there already, judged by what was added to their table.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    compute::cast,
};
use datafusion::{
    common::Column,
    functions_aggregate::expr_fn::count,
    logical_expr::{self, LogicalPlan, LogicalPlanBuilder, col, lit, utils::conjunction},
    sql::sqlparser::ast::{Expr, Ident, SelectItem, UnaryOperator, Value},
};
use futures::StreamExt;

use super::{
    constraint::{Added, key_columns},
    expressions::{self, Over},
    provider::UserTable,
};
use crate::{
    error::{Code, Error, Result},
    sql::{complaints::from_datafusion, session::Session},
    table::{
        Database, TableData, key, not_unique,
        schema::{ForeignKeyDef, IndexDef, IndexKey, KeyOf, Oid, TableDef},
    },
};

/// Judges the rows of a table by what was added to it.
///
/// # Errors
/// 23502, 23503, 23505 and 23514, for the first row that is not as it must be.
pub(super) async fn validate(session: &Session, table: Oid, added: &[Added]) -> Result<()> {
    let moment = session.world.tenant()?.newest()?;
    let data = moment.table(table).await?;
    let def = data.def().clone();
    if data.rows() == 0 {
        return Ok(());
    }
    for one in added {
        match one {
            Added::NotNull(column) => not_null(&data, &def, *column).await?,
            Added::Unique(oid) if data.has_index(*oid) => {
                let (data, index) = (data.clone(), *oid);
                blocking(move || data.check_unique(index)).await?;
            }
            Added::Unique(oid) => {
                if let Some(index) = def.indexes.iter().find(|index| index.oid == *oid)
                    && repeated(session, &moment, &def, index).await?
                {
                    return Err(not_unique(index));
                }
            }
            Added::Check(oid) => {
                if let Some(check) = def.checks.iter().find(|check| check.oid == *oid)
                    && violated(session, &moment, &def, &check.condition).await?
                {
                    let text = format!(
                        "check constraint \"{}\" of relation \"{}\" is violated by some row",
                        check.name, def.name
                    );
                    let error = Error::new(Code::CheckViolation, text).with_table(&def.schema, &def.name);
                    return Err(error.with_constraint(&check.name));
                }
            }
            Added::ForeignKey(oid) => {
                if let Some(key) = def.foreign_keys.iter().find(|key| key.oid == *oid) {
                    references(&moment, &data, &def, key).await?;
                }
            }
        }
    }
    Ok(())
}

/// Whether two rows have one key of an index over expressions, or over some rows.
async fn repeated(session: &Session, moment: &Database, def: &Arc<TableDef>, index: &IndexDef) -> Result<bool> {
    let item = |(at, key): (usize, &IndexKey)| {
        let expr = match &key.key {
            KeyOf::Column(id) => {
                let name = def.column_of(*id).map(|column| column.name.clone()).unwrap_or_default();
                Expr::Identifier(Ident::with_quote('"', name))
            }
            KeyOf::Expression(text) => expressions::expression(text)?,
        };
        let alias = Ident::with_quote('"', format!("key{at}"));
        Ok(SelectItem::ExprWithAlias { expr, alias })
    };
    let items = index.keys.iter().enumerate().map(item).collect::<Result<_>>()?;
    let predicate = index.predicate.as_deref().map(expressions::expression).transpose()?;
    let keys = over(session, moment, def).plan(items, predicate)?;
    let columns: Vec<logical_expr::Expr> = keys.schema().columns().into_iter().map(col).collect();
    let mut keys = LogicalPlanBuilder::from(keys);
    if !index.nulls_not_distinct {
        keys = keys
            .filter(conjunction(columns.iter().cloned().map(logical_expr::Expr::is_not_null)).unwrap_or(lit(true)))
            .map_err(from_datafusion)?;
    }
    let count = count(lit(1i64)).alias("rows of a key");
    let plan = keys
        .aggregate(columns, [count])
        .and_then(|groups| groups.filter(col(Column::new_unqualified("rows of a key")).gt(lit(1i64))))
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    has_rows(session, &plan).await
}

async fn has_rows(session: &Session, plan: &LogicalPlan) -> Result<bool> {
    let mut rows = session.stream(session.physical_of(plan, false).await?)?;
    while let Some(batch) = rows.next().await {
        if batch?.num_rows() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where expressions are planned over the rows of a table.
fn over<'a>(session: &'a Session, moment: &Database, def: &'a Arc<TableDef>) -> Over<'a> {
    Over {
        names: &session.names,
        options: session.state.config_options(),
        alias: &def.name,
        table: Arc::new(UserTable::raw(&session.names, def).at(moment.clone())),
        within: Vec::new(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

async fn not_null(data: &Arc<TableData>, def: &TableDef, column: u16) -> Result<()> {
    let mut scan = data.scan(vec![column], Vec::new(), false);
    let found = blocking(move || {
        scan.try_fold(false, |found, batch| {
            Ok(found || batch?.column(0).logical_null_count() > 0)
        })
    });
    if !found.await? {
        return Ok(());
    }
    let name = def.column_of(column).map_or("", |column| column.name.as_str());
    let text = format!("column \"{name}\" of relation \"{}\" contains null values", def.name);
    Err(Error::new(Code::NotNull, text)
        .with_table(&def.schema, &def.name)
        .with_column(name))
}

/// Whether a condition is false for some row.
async fn violated(session: &Session, moment: &Database, def: &Arc<TableDef>, condition: &str) -> Result<bool> {
    let not = Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(Expr::Nested(Box::new(expressions::expression(condition)?))),
    };
    let one = expressions::item(Expr::Value(Value::Boolean(true).into()));
    let plan = over(session, moment, def).plan(vec![one], Some(not))?;
    has_rows(session, &plan).await
}

/// Every key of the referencing rows is in the referenced table.
async fn references(moment: &Database, data: &Arc<TableData>, def: &TableDef, of: &ForeignKeyDef) -> Result<()> {
    let parent = moment.table(of.references).await?;
    let target = parent.def().clone();
    let wanted: BTreeSet<u16> = of.referenced.iter().copied().collect();
    let index = target.indexes.iter().find(|index| {
        let keys: BTreeSet<u16> = key_columns(index).into_iter().collect();
        index.unique && index.predicate.is_none() && index.keys.len() == wanted.len() && keys == wanted
    });
    let Some(index) = index.cloned() else {
        return Err(Error::internal("a foreign key references no index"));
    };
    // Own columns in the order of the index's.
    let mut columns = Vec::with_capacity(of.columns.len());
    let mut types = Vec::with_capacity(of.columns.len());
    for id in key_columns(&index) {
        let at = of.referenced.iter().position(|referenced| *referenced == id);
        if let (Some(own), Some(column)) = (at.and_then(|at| of.columns.get(at)), target.column_of(id)) {
            columns.push(*own);
            types.push(column.field().data_type().clone());
        }
    }
    let scan = data.scan(columns, Vec::new(), false);
    let index_oid = index.oid;
    let missing = blocking(move || {
        for batch in scan {
            let batch: RecordBatch = batch?;
            let keys = batch.columns().iter().zip(&types);
            let keys: Vec<ArrayRef> = keys
                .map(|(column, to)| cast(column, to).map_err(Error::internal))
                .collect::<Result<_>>()?;
            for at in 0..batch.num_rows() {
                let (one, null) = key(&keys, at, &index)?;
                if !null && parent.lookup(index_oid, &one).is_empty() {
                    let values: Vec<String> = batch
                        .columns()
                        .iter()
                        .map(|column| arrow::util::display::array_value_to_string(column, at).unwrap_or_default())
                        .collect();
                    return Ok(Some(values.join(", ")));
                }
            }
        }
        Ok(None)
    });
    let Some(values) = missing.await? else { return Ok(()) };
    let names = of.columns.iter().filter_map(|id| def.column_of(*id));
    let names: Vec<&str> = names.map(|column| column.name.as_str()).collect();
    let text = format!(
        "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
        def.name, of.name
    );
    let detail = format!(
        "Key ({})=({values}) is not present in table \"{}\".",
        names.join(", "),
        target.name
    );
    Err(Error::new(Code::ForeignKeyViolation, text)
        .with_detail(detail)
        .with_table(&def.schema, &def.name)
        .with_constraint(&of.name))
}
