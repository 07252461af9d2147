//! `vector_search('table', ...)` of a tenant's own table: the query that it stands for.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, Ident, Query, Statement, TableAlias, TableFactor, Value,
};

use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    sql::{
        guard,
        pg::catalog::{quote_ident, split_name},
        world::World,
    },
    table::schema::Relation,
};

/// The rows of the table nearest to a vector, or to a text, by its first column of vectors. `None` where the name is
/// none of the tenant's own tables, or is not known yet.
///
/// # Errors
/// 22023 for a table without vectors.
pub(in crate::sql) fn search(world: &World, args: &[FunctionArg]) -> Result<Option<Box<Query>>> {
    let World::Tenant(world) = world else { return Ok(None) };
    let [table, query, k] = args else { return Ok(None) };
    let (Some(table), Some(query), Some(k)) = (expr(table), expr(query), expr(k)) else {
        return Ok(None);
    };
    let Some(name) = text(table) else { return Ok(None) };
    let view = world.view()?;
    let Some(parts) = split_name(name) else { return Ok(None) };
    let path = world.desk.settings.lock().path();
    let found = match parts.as_slice() {
        [name] => {
            let own = world.temp_schema_if_any();
            let mut schemas = own.iter().chain(&path);
            schemas.find_map(|schema| view.catalog().find(schema, name))
        }
        [schema, name] => view.catalog().find(schema, name),
        _ => None,
    };
    let columns: Vec<(String, PgType)> = match found {
        Some(Relation::Table(table)) => table.columns.iter().map(|c| (c.name.clone(), c.pg_type)).collect(),
        Some(Relation::View(view)) => view.columns.iter().map(|(name, of, _)| (name.clone(), *of)).collect(),
        Some(Relation::Sequence(_)) | None => return Ok(None),
    };
    let is_vector = |of: PgType| matches!(of, PgType::Scalar(Scalar::Vector | Scalar::Halfvec));
    let Some((column, _)) = columns.into_iter().find(|(_, of)| is_vector(*of)) else {
        let text = format!("table \"{name}\" has no vector column");
        return Err(Error::new(Code::InvalidParameterValue, text));
    };
    let (schema, name) = found.map(Relation::name).unwrap_or_default();
    let (schema, name, column) = (quote_ident(schema), quote_ident(name), quote_ident(&column));
    let wanted = match text(query) {
        Some(text) if !text.trim_start().starts_with('[') => format!("ai.embed({query})"),
        Some(_) => format!("CAST({query} AS vector)"),
        None if matches!(query, Expr::Value(value) if matches!(value.value, Value::Placeholder(_))) => {
            format!("CAST({query} AS vector)")
        }
        None => format!("({query})"),
    };
    let distance = format!("{column} <=> {wanted}");
    let query = format!("SELECT *, {distance} AS distance FROM {schema}.{name} ORDER BY {distance} LIMIT {k}");
    match guard::query_of(&query)? {
        Statement::Query(query) => Ok(Some(query)),
        _ => Err(Error::internal("a search is no query")),
    }
}

fn expr(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// A literal, also one that is cast to text.
fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => text(inner),
        Expr::Cast {
            kind: CastKind::DoubleColon | CastKind::Cast,
            expr,
            data_type: DataType::Text,
            ..
        } => text(expr),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Puts the query in the place of the call.
pub(in crate::sql) fn replace(factor: &mut TableFactor, query: Box<Query>) {
    let alias = match factor {
        TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } => alias.take(),
        _ => None,
    };
    *factor = TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias: Some(alias.unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::new("vector_search"),
            columns: Vec::new(),
            at: None,
        })),
        sample: None,
    };
}

/// Leaves the call as it was.
pub(in crate::sql) fn give_back(factor: &mut TableFactor, given: Vec<FunctionArg>) {
    match factor {
        TableFactor::Table { args: Some(args), .. } => args.args = given,
        TableFactor::Function { args, .. } => *args = given,
        _ => {}
    }
}
