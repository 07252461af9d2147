//! PostgreSQL types of a query's columns, where Arrow and DataFusion do not carry them: `name` through CASE, `oid`
//! through a sub-query, the element of `array_agg`.
//!
//! A column is followed down the plan to what it is made of. The type found counts only if values of it are kept in the
//! Arrow type that the column has; else the natural match of that Arrow type does.

use datafusion::{
    arrow::datatypes::{DataType, Field, FieldRef, Schema},
    common::ScalarValue,
    logical_expr::{
        Aggregate, Expr, ExprSchemable, LogicalPlan, Window, WindowFunctionDefinition, expr::AggregateFunction,
    },
};

use crate::codec::pgtype::{PG_TYPE, PgType, Scalar};

/// Levels of a plan or an expression that are followed.
const DEPTH: usize = 64;

/// The type of each column of a plan whose rows have this schema once types are settled.
pub fn types(plan: &LogicalPlan, rows: &Schema) -> Vec<PgType> {
    let fields = plan.schema().fields().iter().zip(rows.fields());
    let each = |(at, (planned, row)): (usize, (&FieldRef, &FieldRef))| {
        let kept_as = |found: &PgType| kept(*found, row.data_type());
        let stored = Some(PgType::of(planned)).filter(kept_as);
        let found = column(plan, at, DEPTH).filter(kept_as);
        found.or(stored).unwrap_or_else(|| PgType::of(row))
    };
    fields.enumerate().map(each).collect()
}

/// Whether values of a type are kept in this Arrow type, whatever the names of fields within it.
pub fn kept(pg_type: PgType, data_type: &DataType) -> bool {
    match (pg_type, data_type) {
        (PgType::Array(item), DataType::List(field)) => kept(PgType::Scalar(item), field.data_type()),
        (PgType::Scalar(Scalar::Numeric), DataType::Decimal128(..)) => true,
        (PgType::Scalar(Scalar::Vector | Scalar::Halfvec), DataType::List(field)) => {
            field.data_type() == &DataType::Float32
        }
        (PgType::Scalar(scalar), DataType::List(field)) if let Some(item) = scalar.vector_item() => {
            kept(PgType::Scalar(item), field.data_type())
        }
        // It is sent as nothing, whatever it is kept in.
        (PgType::Scalar(Scalar::Void), _) => true,
        (PgType::Scalar(scalar), data_type) => scalar.arrow() == *data_type,
        _ => false,
    }
}

fn column(plan: &LogicalPlan, at: usize, depth: usize) -> Option<PgType> {
    let depth = depth.checked_sub(1)?;
    match plan {
        LogicalPlan::Projection(p) => expression(p.expr.get(at)?, &p.input, depth),
        LogicalPlan::Aggregate(aggregate) => aggregated(aggregate, at, depth),
        LogicalPlan::Window(Window { input, window_expr, .. }) => match at.checked_sub(input.schema().fields().len()) {
            Some(at) => expression(window_expr.get(at)?, input, depth),
            None => column(input, at, depth),
        },
        LogicalPlan::Filter(filter) => column(&filter.input, at, depth),
        LogicalPlan::Sort(sort) => column(&sort.input, at, depth),
        LogicalPlan::Limit(limit) => column(&limit.input, at, depth),
        LogicalPlan::Repartition(repartition) => column(&repartition.input, at, depth),
        LogicalPlan::SubqueryAlias(alias) => column(&alias.input, at, depth),
        LogicalPlan::Subquery(subquery) => column(&subquery.subquery, at, depth),
        LogicalPlan::Distinct(distinct) => column(distinct.input(), at, depth),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            let whole = plan.schema().fields().len() == left + join.right.schema().fields().len();
            match at.checked_sub(left) {
                Some(at) if whole => column(&join.right, at, depth),
                None => column(&join.left, at, depth),
                Some(_) => declared(plan.schema().field(at + left)),
            }
        }
        LogicalPlan::Union(union) => first(union.inputs.iter().map(|input| column(input, at, depth))),
        LogicalPlan::RecursiveQuery(query) => column(&query.static_term, at, depth),
        _ => declared(plan.schema().fields().get(at)?),
    }
}

fn aggregated(aggregate: &Aggregate, at: usize, depth: usize) -> Option<PgType> {
    let fields = aggregate.schema.fields().len();
    match at.checked_sub(fields - aggregate.aggr_expr.len()) {
        Some(at) => expression(aggregate.aggr_expr.get(at)?, &aggregate.input, depth),
        None => match aggregate.group_expr.get(at)? {
            Expr::GroupingSet(_) => declared(aggregate.schema.field(at)),
            group => expression(group, &aggregate.input, depth),
        },
    }
}

/// The first of several that is known: what PostgreSQL takes where all can become it.
fn first(types: impl Iterator<Item = Option<PgType>>) -> Option<PgType> {
    types.into_iter().flatten().next()
}

fn declared(field: &Field) -> Option<PgType> {
    match field.data_type() {
        DataType::Null => None,
        _ => Some(PgType::of(field)),
    }
}

/// The type of an expression over a plan; `None` for NULL and for literals that take the type of what is beside them.
fn expression(expr: &Expr, input: &LogicalPlan, depth: usize) -> Option<PgType> {
    let depth = depth.checked_sub(1)?;
    let each = |exprs: &[Expr]| first(exprs.iter().map(|e| expression(e, input, depth)));
    match expr {
        Expr::Alias(alias) => expression(&alias.expr, input, depth),
        Expr::Column(named) => {
            let at = input.schema().maybe_index_of_column(named)?;
            column(input, at, depth)
        }
        Expr::Literal(ScalarValue::Utf8(_), None) => None,
        Expr::Literal(value, _) if value.data_type().is_null() => None,
        Expr::Cast(cast) => match cast.field.metadata().get(PG_TYPE) {
            Some(name) => PgType::from_name(name),
            None => match expression(&cast.expr, input, depth) {
                // A cast that DataFusion put there keeps what it was.
                Some(inner) if kept(inner, cast.field.data_type()) => Some(inner),
                _ => declared(&cast.field),
            },
        },
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then);
            let in_order = case.else_expr.iter().chain(results);
            first(in_order.map(|e| expression(e, input, depth)))
        }
        Expr::ScalarSubquery(subquery) => column(&subquery.subquery, 0, depth),
        Expr::OuterReferenceColumn(field, _) => declared(field),
        Expr::Unnest(unnest) => item(expression(&unnest.expr, input, depth)?),
        Expr::ScalarFunction(call) => match call.func.name() {
            "coalesce" | "greatest" | "least" | "nullif" | "bulkhead_or_empty" => each(&call.args),
            "array_element" => item(expression(call.args.first()?, input, depth)?),
            "make_array" => list(each(&call.args)?),
            "array_append" | "array_concat" | "array_remove" | "array_remove_all" | "array_replace_all"
            | "array_slice" | "array_distinct" | "array_sort" | "array_reverse" => {
                expression(call.args.first()?, input, depth)
            }
            "array_prepend" => expression(call.args.get(1)?, input, depth),
            _ => made(expr, input),
        },
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            of_aggregate(func.name(), &params.args, input, depth).or_else(|| made(expr, input))
        }
        Expr::WindowFunction(call) => {
            let name = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(f) => f.name(),
                WindowFunctionDefinition::WindowUDF(f) => f.name(),
            };
            of_aggregate(name, &call.params.args, input, depth).or_else(|| made(expr, input))
        }
        _ => made(expr, input),
    }
}

/// Aggregates whose result is of the type of their argument, or an array of it.
fn of_aggregate(name: &str, arguments: &[Expr], input: &LogicalPlan, depth: usize) -> Option<PgType> {
    let argument = expression(arguments.first()?, input, depth);
    match name {
        "min" | "max" | "first_value" | "last_value" | "nth_value" | "lag" | "lead" | "bulkhead_single" => argument,
        "array_agg" => list(argument?),
        _ => None,
    }
}

fn made(expr: &Expr, input: &LogicalPlan) -> Option<PgType> {
    expr.to_field(input.schema())
        .ok()
        .and_then(|(_, field)| declared(&field))
}

fn item(pg_type: PgType) -> Option<PgType> {
    match pg_type {
        PgType::Array(scalar) => Some(PgType::Scalar(scalar)),
        PgType::Scalar(scalar) => scalar.vector_item().map(PgType::Scalar),
    }
}

fn list(pg_type: PgType) -> Option<PgType> {
    match pg_type {
        PgType::Scalar(scalar) if scalar.array_oid() != 0 => Some(PgType::Array(scalar)),
        array @ PgType::Array(_) => Some(array),
        PgType::Scalar(_) => None,
    }
}
