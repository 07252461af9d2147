//! Functions in FROM: sets of rows, and scalar functions as a table of one row.
//!
//! Columns are named as in PostgreSQL: a function of one column gives it the alias's name, else its own.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::{
    common::{Column, DFSchema, Result, ScalarValue, UnnestOptions, metadata::FieldMetadata},
    functions_window::expr_fn::row_number,
    logical_expr::{
        Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Volatility,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    sql::sqlparser::ast::{Expr as SqlExpr, FunctionArg, FunctionArgExpr, TableAlias, TableFactor, TableFunctionArgs},
};

use super::{builtin, casts, convert, dialect::single_name, function::fail, series::SERIES};
use crate::{
    codec::pgtype::{PG_TYPE, PgType, Scalar},
    error::Code,
};

/// Plans functions in FROM that are no table functions of DataFusion.
#[derive(Debug)]
pub struct PgRelations;

struct Called {
    name: String,
    arguments: Vec<SqlExpr>,
    alias: Option<TableAlias>,
    ordinality: bool,
}

impl RelationPlanner for PgRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(called) = called(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        match plan(&called, context)? {
            Some(plan) => {
                let plan = if called.alias.is_some() {
                    plan
                } else {
                    LogicalPlanBuilder::from(plan).alias(called.name)?.build()?
                };
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
                    plan,
                    called.alias,
                ))))
            }
            None => Ok(RelationPlanning::Original(Box::new(relation))),
        }
    }
}

fn called(relation: &TableFactor) -> Option<Called> {
    let expressions = |args: &[FunctionArg]| -> Option<Vec<SqlExpr>> {
        let each = |a: &FunctionArg| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        };
        args.iter().map(each).collect()
    };
    match relation {
        TableFactor::Table {
            name,
            args: Some(TableFunctionArgs { args, .. }),
            alias,
            with_ordinality,
            ..
        }
        | TableFactor::Function {
            name,
            args,
            alias,
            with_ordinality,
            ..
        } => Some(Called {
            name: single_name(name)?,
            arguments: expressions(args)?,
            alias: alias.clone(),
            ordinality: *with_ordinality,
        }),
        TableFactor::UNNEST {
            alias,
            array_exprs,
            with_offset: false,
            with_ordinality,
            ..
        } => Some(Called {
            name: "unnest".to_owned(),
            arguments: array_exprs.clone(),
            alias: alias.clone(),
            ordinality: *with_ordinality,
        }),
        _ => None,
    }
}

/// The list behind `jsonb_object_keys`.
pub(super) const KEYS: &str = "bulkhead_json_keys";

/// The function that gives as a list what a JSON function of one column gives as rows.
pub(super) fn json_list(name: &str) -> Option<&'static str> {
    Some(match name {
        "jsonb_array_elements" => "bulkhead_jsonb_elements",
        "json_array_elements" => "bulkhead_json_elements",
        "jsonb_array_elements_text" | "json_array_elements_text" => "bulkhead_json_elements_text",
        "jsonb_object_keys" | "json_object_keys" => KEYS,
        _ => return None,
    })
}

/// The function that gives the values of `jsonb_each` and its like as a list.
fn json_values(name: &str) -> Option<&'static str> {
    Some(match name {
        "jsonb_each" => "bulkhead_jsonb_values",
        "json_each" => "bulkhead_json_values",
        "jsonb_each_text" | "json_each_text" => "bulkhead_json_values_text",
        _ => return None,
    })
}

fn plan(called: &Called, context: &mut dyn RelationPlannerContext) -> Result<Option<LogicalPlan>> {
    let provider = context.context_provider();
    let known = matches!(
        called.name.as_str(),
        "unnest" | "generate_series" | "generate_subscripts" | "pg_get_keywords" | "_pg_expandarray"
    ) || json_list(&called.name).is_some()
        || json_values(&called.name).is_some();
    if !known && provider.get_function_meta(&called.name).is_none() {
        return Ok(None);
    }
    let none = DFSchema::empty();
    let arguments: Vec<Expr> = called
        .arguments
        .iter()
        .map(|a| context.sql_to_expr(a.clone(), &none))
        .collect::<Result<_>>()?;
    // Without column aliases, one column is named by the alias of the table.
    let column = match &called.alias {
        Some(alias) if alias.columns.is_empty() => context.normalize_ident(alias.name.clone()),
        _ => called.name.clone(),
    };
    let function = |context: &mut dyn RelationPlannerContext, name: &str| {
        let found = context.context_provider().get_function_meta(name);
        found.ok_or_else(|| fail(Code::UndefinedFunction, format!("function {name} does not exist")))
    };
    let rows = match called.name.as_str() {
        name if let Some(list) = json_list(name) => {
            let column = if list == KEYS { column.as_str() } else { "value" };
            unnest(vec![function(context, list)?.call(arguments)], column)?
        }
        name if let Some(values) = json_values(name) => {
            let keys = function(context, KEYS)?.call(arguments.clone());
            let values = function(context, values)?.call(arguments);
            unnest_as(vec![keys, values], &["key".to_owned(), "value".to_owned()])?
        }
        "pg_get_keywords" => keywords()?,
        "unnest" => unnest(arguments, &column)?,
        "pg_listening_channels" => {
            let Some(function) = context.context_provider().get_function_meta(&called.name) else {
                return Ok(None);
            };
            unnest(vec![function.call(arguments)], &column)?
        }
        "_pg_expandarray" => pairs(casts::call("bulkhead_expandarray", arguments))?,
        "generate_series" => series(arguments, &column, context)?,
        "generate_subscripts" => {
            let Some(upper) = context.context_provider().get_function_meta("array_upper") else {
                return Ok(None);
            };
            let upper = upper.call(arguments);
            series(
                vec![Expr::Literal(ScalarValue::Int32(Some(1)), None), upper],
                &column,
                context,
            )?
        }
        name => {
            let Some(function) = context.context_provider().get_function_meta(name) else {
                return Ok(None);
            };
            LogicalPlanBuilder::empty(true)
                .project([function.call(arguments).alias(column)])?
                .build()?
        }
    };
    if called.ordinality {
        let mut items: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
        let number = row_number();
        let numbered = LogicalPlanBuilder::from(rows).window([number.clone()])?;
        items.push(
            Expr::Column(Column::from_name(number.schema_name().to_string()))
                .cast_to(&DataType::Int64, numbered.schema())?
                .alias("ordinality"),
        );
        return Ok(Some(numbered.project(items)?.build()?));
    }
    Ok(Some(rows))
}

/// One column per list; shorter lists are filled up with NULL.
fn unnest(lists: Vec<Expr>, column: &str) -> Result<LogicalPlan> {
    let several = lists.len() > 1;
    let name = |i: usize| {
        if several {
            format!("{column}{}", i + 1)
        } else {
            column.to_owned()
        }
    };
    let names: Vec<String> = (0..lists.len()).map(name).collect();
    unnest_as(lists, &names)
}

fn unnest_as(lists: Vec<Expr>, names: &[String]) -> Result<LogicalPlan> {
    let columns: Vec<Column> = names.iter().map(Column::from_name).collect();
    let items = lists
        .into_iter()
        .zip(&columns)
        .map(|(list, column)| list.alias(column.name.clone()));
    let lists = LogicalPlanBuilder::empty(true).project(items)?.build()?;
    // An element is of the type that the list's metadata names; its own field cannot say so.
    let types: Vec<Option<PgType>> = lists
        .schema()
        .fields()
        .iter()
        .map(|field| match PgType::of(field) {
            PgType::Array(scalar) => Some(PgType::Scalar(scalar)),
            PgType::Scalar(scalar) => scalar.vector_item().map(PgType::Scalar),
        })
        .collect();
    let rows = LogicalPlanBuilder::from(lists)
        .unnest_columns_with_options(columns, UnnestOptions::new().with_preserve_nulls(false))?
        .build()?;
    let fields = rows.schema().fields().clone();
    if !types
        .iter()
        .zip(fields.iter())
        .any(|(t, f)| t.is_some_and(|t| t != PgType::of(f)))
    {
        return Ok(rows);
    }
    let typed = rows.schema().columns().into_iter().zip(types).map(|(column, pg_type)| {
        let name = column.name.clone();
        match pg_type {
            Some(pg_type) => {
                let metadata = HashMap::from([(PG_TYPE.to_owned(), pg_type.name())]);
                Expr::Column(column).alias_with_metadata(name, Some(FieldMetadata::from(metadata)))
            }
            None => Expr::Column(column),
        }
    });
    let typed: Vec<Expr> = typed.collect();
    LogicalPlanBuilder::from(rows).project(typed)?.build()
}

/// The fields of a list of structs as columns.
fn pairs(list: Expr) -> Result<LogicalPlan> {
    let rows = unnest(vec![list], "row")?;
    let row = Expr::Column(Column::from_name("row"));
    let fields: Fields = match row.get_type(rows.schema())? {
        DataType::Struct(fields) => fields,
        _ => return Err(fail(Code::DatatypeMismatch, "an array of rows is expected")),
    };
    let get = |f: &Arc<Field>| {
        datafusion::functions::core::expr_fn::get_field(row.clone(), f.name().as_str()).alias(f.name())
    };
    LogicalPlanBuilder::from(rows).project(fields.iter().map(get))?.build()
}

/// A series of constants streams; one of columns is a list, unnested.
fn series(arguments: Vec<Expr>, column: &str, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let none = DFSchema::empty();
    let narrow = |a: &Expr| matches!(a.get_type(&none), Ok(DataType::Int16 | DataType::Int32));
    let narrow = !arguments.is_empty() && arguments.iter().all(narrow);
    let wide = |a: Expr| match a.get_type(&none) {
        Ok(DataType::Int16 | DataType::Int32) => a.cast_to(&DataType::Int64, &none),
        _ => Ok(a),
    };
    let temporal = |a: &Expr| {
        matches!(
            a.get_type(&none),
            Ok(DataType::Timestamp(..) | DataType::Date32 | DataType::Interval(_) | DataType::Decimal128(..))
        )
    };
    if arguments.iter().any(temporal) {
        // A step that is a literal is an interval; days are moments, as PostgreSQL has them here.
        let step = |(at, a): (usize, Expr)| match (at, a.get_type(&none)) {
            (2, Ok(DataType::Utf8)) => convert::to(a, Scalar::Interval),
            (0 | 1, Ok(DataType::Date32)) => convert::to(a, Scalar::Timestamptz),
            (0 | 1, Ok(DataType::Utf8)) => convert::to(a, Scalar::Timestamp),
            _ => a,
        };
        let arguments: Vec<Expr> = arguments.into_iter().enumerate().map(step).collect();
        let list = context.context_provider().get_function_meta(SERIES);
        return match list {
            Some(list) => unnest(vec![list.call(arguments)], column),
            None => Err(fail(Code::UndefinedFunction, "function generate_series does not exist")),
        };
    }
    let arguments = arguments.into_iter().map(wide).collect::<Result<Vec<_>>>()?;
    let outer = arguments
        .iter()
        .any(|a| a.contains_outer() || !a.column_refs().is_empty() || !is_constant(a));
    let typed = |item: Expr, schema: &DFSchema| match narrow {
        true => item.cast_to(&DataType::Int32, schema),
        false => Ok(item),
    };
    if !outer {
        let source = context
            .context_provider()
            .get_table_function_source("generate_series", arguments)?;
        let scan = LogicalPlanBuilder::scan("generate_series", source, None)?;
        let first = scan.schema().columns().into_iter().next();
        let schema = scan.schema().clone();
        let item = first.map(|c| typed(Expr::Column(c), &schema)).transpose()?;
        return scan.project(item.map(|item| item.alias(column)))?.build();
    }
    match context.context_provider().get_function_meta("generate_series") {
        Some(list) => {
            let rows = unnest(vec![list.call(arguments)], column)?;
            let item = typed(Expr::Column(Column::from_name(column)), rows.schema())?.alias(column);
            LogicalPlanBuilder::from(rows).project([item])?.build()
        }
        None => Err(fail(Code::UndefinedFunction, "function generate_series does not exist")),
    }
}

/// Whether nothing but numbers and casts of them make this up, so that it is known while planning.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::Cast(cast) => is_constant(&cast.expr),
        Expr::Negative(inner) => is_constant(inner),
        Expr::Alias(alias) => is_constant(&alias.expr),
        Expr::ScalarFunction(call) => {
            call.func.signature().volatility == Volatility::Immutable && call.args.iter().all(is_constant)
        }
        Expr::BinaryExpr(binary) => is_constant(&binary.left) && is_constant(&binary.right),
        _ => false,
    }
}

fn keywords() -> Result<LogicalPlan> {
    let text = |t: &str| Expr::Literal(ScalarValue::Utf8(Some(t.to_owned())), None);
    let describe = |kind: char| match kind {
        'C' => "unreserved (cannot be function or type name)",
        'T' => "reserved (can be function or type name)",
        'R' => "reserved",
        _ => "unreserved",
    };
    let rows = builtin::KEYWORDS
        .iter()
        .map(|&(word, kind)| vec![text(word), text(&kind.to_string()), text(describe(kind))]);
    let names = ["word", "catcode", "catdesc"];
    let values = LogicalPlanBuilder::values(rows.collect())?;
    let columns = values.schema().columns();
    values
        .project(columns.into_iter().zip(names).map(|(c, n)| Expr::Column(c).alias(n)))?
        .build()
}
