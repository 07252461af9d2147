//! CREATE TABLE AS and SELECT INTO.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::sql::sqlparser::ast::Statement;
use futures::StreamExt;

use super::{ddl::CreateTableAs, definitions::Change};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    limits,
    sql::{prepared, session::Session},
    table::{encode, schema::TableDef},
};

/// Makes a table of a query's rows. The number of rows; `None` where the table exists already and that is no error.
///
/// # Errors
/// Those of CREATE TABLE and of the query.
pub(super) async fn run(session: &Session, stmt: &CreateTableAs) -> Result<Option<u64>> {
    let mut change = Change::begin(session).await?;
    let schema = change.creation_schema(&stmt.name, stmt.temporary)?;
    if change.skip_existing(&schema, &stmt.name.name, stmt.if_not_exists)? {
        return Ok(None);
    }
    let plan = prepared::plan_with(&session.context(), Statement::Query(stmt.query.clone()))?;
    let columns = prepared::columns_of(&plan);
    if stmt.columns.len() > columns.len() {
        return Err(Error::new(Code::Syntax, "too many column names were specified"));
    }
    let mut table = change.empty_table(&schema, &stmt.name.name);
    for (at, column) in columns.iter().enumerate() {
        let name = stmt.columns.get(at).unwrap_or(&column.name);
        let mut def = change.new_column(&mut table, name)?;
        def.pg_type = match column.pg_type {
            PgType::Scalar(Scalar::Unknown | Scalar::Void) => PgType::TEXT,
            other => other,
        };
        def.type_modifier = column.type_modifier;
        table.columns.push(def);
    }
    // Planned before the table is there, which must not be read.
    let physical = session.physical_of(&plan, false).await?;
    let table = Arc::new(table);
    if stmt.passing {
        change.world.desk.passing.lock().push(table.oid);
    }
    change.put_table(TableDef::clone(&table));
    change.finish()?;
    match stmt.with_data {
        true => fill(session, &table, physical).await.map(Some),
        false => Ok(None),
    }
}

async fn fill(
    session: &Session,
    table: &TableDef,
    plan: Arc<dyn datafusion::physical_plan::ExecutionPlan>,
) -> Result<u64> {
    let world = session.world.tenant()?;
    let mut rows = session.stream(plan)?;
    let schema = table.arrow();
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows() as u64;
        let arrays: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| {
                arrow::compute::cast(column, field.data_type())
                    .map_err(|e| crate::sql::complaints::from_datafusion(e.into()))
            })
            .collect::<Result<_>>()?;
        let tables = world.opened()?.clone();
        if batch.num_rows() >= limits::SCAN_ROWS / 2 {
            let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(Error::internal)?;
            let block = tables.write_block(&world.newest()?, table.oid, &batch).await?;
            world.write_tables(|writes| writes.insert_block(block));
            continue;
        }
        let first = tables.allocate_rows(table.oid, batch.num_rows() as u64);
        let arrays: Vec<(u16, ArrayRef)> = table.columns.iter().map(|c| c.id).zip(arrays).collect();
        for at in 0..batch.num_rows() {
            let row = encode(&arrays, at)?;
            world.write_tables(|writes| writes.insert(table.oid, first + at as u64, row));
        }
    }
    Ok(count)
}
