//! Rows written anew, because a column has another type or is new and each row has its own value.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    datasource::MemTable,
    sql::sqlparser::ast::{Expr, Ident, SelectItem},
};
use futures::StreamExt;

use super::{
    definitions::Change,
    expressions::{self, Over, type_name},
    provider::UserTable,
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{complaints::from_datafusion, session::Session},
    table::{
        Database, encode,
        schema::{Catalog, ColumnDef, Oid, TableDef},
    },
};

/// The column of row ids, which no column of a user's is called.
const ROW: &str = crate::table::ROW_COLUMN;

/// Columns whose values are made anew.
#[derive(Debug, Default)]
pub(super) struct Rewrite {
    /// By column id: the expression over the table as it was; `None` is the column itself in its new type, or the
    /// default of a new one.
    columns: BTreeMap<u16, Option<String>>,
    /// New columns that have one value in all rows.
    constants: Vec<u16>,
}

impl Rewrite {
    /// A new column takes its default in every row.
    pub(super) fn fill(&mut self, column: u16) {
        self.columns.insert(column, None);
    }

    /// The default is the same in all rows, which need not be written for it.
    pub(super) fn constant(&mut self, column: u16) {
        self.constants.push(column);
    }

    /// A column gets another type.
    pub(super) fn convert(&mut self, column: u16, using: Option<String>) {
        self.columns.insert(column, using);
        self.constants.retain(|other| *other != column);
    }
}

impl Change<'_> {
    /// Whether a default is computed for each row by itself.
    pub(super) fn is_volatile(&self, text: &str) -> Result<bool> {
        let expr = expressions::expression(text)?;
        let schema = Arc::new(Schema::empty());
        let options = self.session.state.config_options();
        let over = Over::nothing(&self.session.names, options, "t", schema);
        let plan = over.plan(vec![expressions::item(expr)], None)?;
        expressions::calls_volatile(&plan)
    }
}

/// Makes the values of a table's new and changed columns. `before` is the table as it was, `moment` what the session
/// saw then.
///
/// # Errors
/// Whatever the expressions fail with.
pub(super) async fn run(session: &Session, before: &Arc<TableDef>, moment: &Database, rewrite: &Rewrite) -> Result<()> {
    if rewrite.columns.is_empty() {
        return Ok(());
    }
    let world = session.world.tenant()?;
    let view = world.newest()?;
    let Some(after) = view.catalog().table(before.oid).cloned() else {
        return Ok(());
    };
    let data = moment.table(before.oid).await?;
    if data.rows() == 0 {
        return Ok(());
    }
    let kept = |id: &u16| after.column_of(*id).is_some();
    if rewrite
        .columns
        .keys()
        .filter(|id| kept(id))
        .all(|id| rewrite.constants.contains(id))
    {
        return set_missing(session, &after, &rewrite.constants).await;
    }
    let source = UserTable::raw(&session.names, before)
        .with_row_ids(ROW)
        .at(moment.clone());
    let over = Over {
        names: &session.names,
        options: session.state.config_options(),
        alias: &before.name,
        table: Arc::new(source),
        within: Vec::new(),
    };
    let row = Expr::Identifier(Ident::with_quote('"', ROW));
    let mut items = vec![SelectItem::UnnamedExpr(row)];
    for column in &after.columns {
        let former = before.column_of(column.id);
        let expr = match (rewrite.columns.get(&column.id), former) {
            (Some(Some(text)), Some(_)) => expressions::expression(text)?,
            (_, Some(former)) => Expr::Identifier(Ident::with_quote('"', former.name.clone())),
            (_, None) => match (&column.default, &column.generated, column.identity, column.sequence) {
                (_, _, Some(_), Some(sequence)) => next_of(view.catalog(), sequence)?,
                (Some(text), ..) | (_, Some(text), ..) => expressions::expression(text)?,
                _ => expressions::expression("NULL")?,
            },
        };
        items.push(typed(column, expr)?);
    }
    let plan = over.plan(items, None)?;
    let mut rows = session.stream(session.physical_of(&plan, false).await?)?;
    let storage = world.opened()?.allocate_oids(1);
    world.write_tables(|writes| writes.truncate(before.oid, storage));
    let schema = after.arrow();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let Some((ids, columns)) = batch.columns().split_first() else {
            continue;
        };
        let columns: Vec<ArrayRef> = columns
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| arrow::compute::cast(column, field.data_type()).map_err(Error::internal))
            .collect::<Result<_>>()?;
        check_lengths(&after, &columns)?;
        if batch.num_rows() >= limits::SCAN_ROWS / 2 {
            let batch = RecordBatch::try_new(schema.clone(), columns).map_err(Error::internal)?;
            let tables = world.opened()?.clone();
            let block = tables.write_block(&world.newest()?, before.oid, &batch).await?;
            world.write_tables(|writes| writes.insert_block(block));
            continue;
        }
        let Some(ids) = ids.as_any().downcast_ref::<UInt64Array>() else {
            return Err(Error::internal("rows without their ids"));
        };
        let columns: Vec<(u16, ArrayRef)> = after.columns.iter().map(|c| c.id).zip(columns).collect();
        for (at, id) in ids.values().iter().enumerate() {
            let row = encode(&columns, at)?;
            world.write_tables(|writes| writes.insert(before.oid, *id, row));
        }
    }
    Ok(())
}

/// An expression in the type of a column.
fn typed(column: &ColumnDef, expr: Expr) -> Result<SelectItem> {
    let name = type_name(column.pg_type, -1);
    let modifier = match column.pg_type {
        // The length is checked, not cut to.
        crate::codec::pgtype::PgType::Scalar(
            crate::codec::pgtype::Scalar::Varchar | crate::codec::pgtype::Scalar::Bpchar,
        ) => name,
        _ => type_name(column.pg_type, column.type_modifier),
    };
    let cast = expressions::expression(&format!("CAST((0) AS {modifier})"))?;
    let Expr::Cast {
        kind,
        data_type,
        format,
        array,
        ..
    } = cast
    else {
        return Err(Error::internal("a cast is parsed as something else"));
    };
    Ok(SelectItem::ExprWithAlias {
        expr: Expr::Cast {
            kind,
            expr: Box::new(expr),
            data_type,
            format,
            array,
        },
        alias: Ident::with_quote('"', column.name.clone()),
    })
}

fn next_of(catalog: &Catalog, sequence: Oid) -> Result<Expr> {
    let Some(relation) = catalog.relations.get(&sequence) else {
        return Err(Error::internal("a column's sequence is not there"));
    };
    let (schema, name) = relation.name();
    expressions::expression(&super::create::next_value(schema, name))
}

/// # Errors
/// 22001 for text that is longer than its column takes.
fn check_lengths(table: &TableDef, columns: &[ArrayRef]) -> Result<()> {
    use arrow::array::AsArray;
    for (column, array) in table.columns.iter().zip(columns) {
        let scalar = match column.pg_type {
            crate::codec::pgtype::PgType::Scalar(scalar) => scalar,
            crate::codec::pgtype::PgType::Array(_) => continue,
        };
        use crate::codec::pgtype::Scalar::{Bpchar, Varchar};
        if !matches!(scalar, Varchar | Bpchar) || column.type_modifier < 4 {
            continue;
        }
        let most = usize::try_from(column.type_modifier - 4).unwrap_or(usize::MAX);
        let too_long = |text: &str| text.trim_end_matches(' ').chars().count() > most;
        if array
            .as_string_opt::<i32>()
            .is_some_and(|texts| texts.iter().flatten().any(too_long))
        {
            let of = type_name(column.pg_type, column.type_modifier);
            return Err(Error::new(Code::StringTooLong, format!("value too long for type {of}")));
        }
    }
    Ok(())
}

/// What former rows have in new columns, computed once.
async fn set_missing(session: &Session, after: &Arc<TableDef>, constants: &[u16]) -> Result<()> {
    let world = session.world.tenant()?;
    let mut table = TableDef::clone(after);
    for id in constants {
        let Some(column) = table.columns.iter().find(|column| column.id == *id) else {
            continue;
        };
        let Some(text) = &column.default else { continue };
        let item = typed(column, expressions::expression(text)?)?;
        let field = Field::new("nothing", DataType::Boolean, true);
        let schema = Arc::new(Schema::new(vec![field]));
        let one: ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true]));
        let one = RecordBatch::try_new(schema.clone(), vec![one]).map_err(Error::internal)?;
        let source = MemTable::try_new(schema, vec![vec![one]]).map_err(from_datafusion)?;
        let over = Over {
            names: &session.names,
            options: session.state.config_options(),
            alias: &after.name,
            table: Arc::new(source),
            within: Vec::new(),
        };
        let plan = over.plan(vec![item], None)?;
        let rows = crate::sql::run::gather(session.stream(session.physical_of(&plan, false).await?)?).await?;
        let Some(value) = rows
            .iter()
            .find(|batch| batch.num_rows() == 1)
            .map(|batch| batch.column(0).clone())
        else {
            return Err(Error::internal("a default has no value"));
        };
        let value = arrow::compute::cast(&value, column.field().data_type()).map_err(Error::internal)?;
        check_lengths(
            &TableDef {
                columns: vec![column.clone()],
                ..table.clone()
            },
            std::slice::from_ref(&value),
        )?;
        let missing = match value.is_null(0) {
            true => None,
            false => Some(encode(&[(*id, value)], 0)?.as_bytes().to_vec()),
        };
        for column in table.columns.iter_mut().filter(|column| column.id == *id) {
            column.missing.clone_from(&missing);
        }
    }
    let mut catalog = Catalog::clone(world.newest()?.catalog());
    catalog.version = super::definitions::next_version(catalog.version);
    catalog
        .relations
        .insert(table.oid, crate::table::schema::Relation::Table(Arc::new(table)));
    world.write_tables(|writes| writes.set_catalog(Arc::new(catalog)));
    Ok(())
}
