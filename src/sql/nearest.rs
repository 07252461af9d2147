//! `ORDER BY embedding <=> $1 LIMIT k` reads k rows, not all of them.
//!
//! An optimizer rule recognises the shape and hands the query vector to the scan as one more filter,
//! [`NAME`], which the relation answers from the tenant's index. The sort above stays: it orders the
//! k rows, and it would still be right if the scan ignored the filter. As a filter of the scan the
//! vector may be a parameter of a prepared statement. A tenant's own table is also told what its rows
//! must fulfil, so that the k nearest of those are read: see [`Request`].

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, AsArray},
        datatypes::{DataType, Float32Type},
    },
    common::{
        Column, DFSchema, Result as DfResult, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    datasource::source_as_provider,
    logical_expr::{
        ColumnarValue, Expr, Filter, Limit, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature, Sort, SubqueryAlias, TableScan, Volatility, expr::ScalarFunction, lit, utils::conjunction,
    },
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

use super::{
    complaints::from_datafusion,
    functions,
    kept::Constant,
    pg::casts::{TO_VECTOR, vectors_of_text},
    relations::{Relation, RelationProvider},
    run::constant,
    tables::provider::UserTable,
};
use crate::{
    error::{Code, Error, Result},
    limits,
    vector::Metric,
};

/// The function that stands for the request in a scan's filters.
const NAME: &str = "bulkhead_nearest";

/// Distances that are near when they are small.
const METRICS: &[(&str, Metric)] = &[
    ("cosine_distance", Metric::Cosine),
    ("l2_distance", Metric::L2),
    ("negative_inner_product", Metric::InnerProduct),
    ("l1_distance", Metric::L1),
];

/// The rows nearest to a vector.
#[derive(Clone, Debug)]
pub(super) struct Nearest {
    pub(super) metric: Metric,
    query: Constant,
    pub(super) k: usize,
}

impl Nearest {
    /// The request among a scan's filters, if there is one.
    pub(super) fn among(filters: &[Expr]) -> DfResult<Option<Self>> {
        filters.iter().find_map(Self::of).transpose()
    }

    /// Whether a filter is a request.
    pub(super) fn is(filter: &Expr) -> bool {
        matches!(filter, Expr::ScalarFunction(call) if call.func.name() == NAME)
    }

    fn of(filter: &Expr) -> Option<DfResult<Self>> {
        let Expr::ScalarFunction(call) = filter else {
            return None;
        };
        if !Self::is(filter) {
            return None;
        }
        let wanted = || Error::new(Code::Unsupported, "the vector of a nearest search must be a constant");
        let [query, Expr::Literal(ScalarValue::Utf8(Some(name)), _), fetch, skip] = call.args.as_slice() else {
            return Some(Err(wanted().into()));
        };
        let metric = METRICS.iter().find(|(n, _)| n == name).map(|(_, m)| *m)?;
        // Of a number that is not known, or of more rows than a search gives, all rows are read.
        let k = rows(fetch)?
            .checked_add(rows(skip)?)
            .filter(|k| *k <= limits::SEARCH_K)?;
        let query = Constant::of(query).ok_or_else(|| wanted().into());
        Some(query.map(|query| Self { metric, query, k }))
    }

    /// The vector that the run at hand asks for.
    pub(super) fn query(&self) -> Result<Vec<f32>> {
        floats(&self.query.get()).map_err(from_datafusion)
    }
}

/// A number of rows, once it is known.
fn rows(expr: &Expr) -> Option<usize> {
    match constant(expr).ok()??.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(Some(rows)) => usize::try_from(rows).ok(),
        _ => None,
    }
}

/// What a vector is made of without a look at rows: a constant, or a parameter, which may be a text.
fn vector_constant(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Literal(..) | Expr::Placeholder(_) => Some(expr),
        Expr::ScalarFunction(call) if call.func.name() == TO_VECTOR => match call.args.first() {
            Some(parameter @ Expr::Placeholder(_)) => Some(parameter),
            _ => None,
        },
        _ => None,
    }
}

fn floats(value: &ScalarValue) -> DfResult<Vec<f32>> {
    let wanted = crate::codec::pgtype::Scalar::Vector.arrow();
    let value = match value {
        ScalarValue::Utf8(_) => ScalarValue::try_from_array(&vectors_of_text(&value.to_array()?)?, 0)?,
        known => known.cast_to(&wanted)?,
    };
    match value {
        ScalarValue::List(list) if list.len() == 1 && !list.is_null(0) => {
            let values = list.value(0);
            Ok(values
                .as_primitive::<Float32Type>()
                .iter()
                .map(|v| v.unwrap_or(f32::NAN))
                .collect())
        }
        // The distance to NULL is NULL for every row; any k of them are the answer.
        _ => Ok(Vec::new()),
    }
}

/// The rule.
#[derive(Debug)]
pub(super) struct NearestRule;

impl OptimizerRule for NearestRule {
    fn name(&self) -> &str {
        "nearest"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let pushed = match &plan {
            LogicalPlan::Sort(sort) => match sort.fetch.map(i64::try_from) {
                Some(Ok(fetch)) => push_sort(sort, &lit(fetch), &lit(0i64)),
                _ => None,
            },
            // The numbers are parameters: what is literal is in the sort already.
            LogicalPlan::Limit(limit) => push_limit(limit),
            _ => None,
        };
        Ok(match pushed {
            Some(pushed) => Transformed::yes(pushed),
            None => Transformed::no(plan),
        })
    }
}

/// What a plan is searched for, as the node at hand would say it.
struct Wish {
    /// The distance.
    by: Expr,
    /// What rows must fulfil.
    predicates: Vec<Expr>,
    /// How many rows, and how many before them.
    fetch: Expr,
    skip: Expr,
}

fn push_limit(limit: &Limit) -> Option<LogicalPlan> {
    let zero = || lit(0i64);
    let fetch = limit.fetch.as_deref()?;
    let skip = limit.skip.as_deref().cloned().unwrap_or_else(zero);
    let input = push_to_sort(&limit.input, fetch, &skip)?;
    Some(LogicalPlan::Limit(Limit {
        input: Arc::new(input),
        ..limit.clone()
    }))
}

fn push_to_sort(plan: &LogicalPlan, fetch: &Expr, skip: &Expr) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => push_sort(sort, fetch, skip),
        LogicalPlan::Projection(projection) => {
            let input = push_to_sort(&projection.input, fetch, skip)?;
            let projection = Projection::try_new(projection.expr.clone(), Arc::new(input));
            projection.ok().map(LogicalPlan::Projection)
        }
        _ => None,
    }
}

fn push_sort(sort: &Sort, fetch: &Expr, skip: &Expr) -> Option<LogicalPlan> {
    let [by] = sort.expr.as_slice() else { return None };
    if !by.asc || by.nulls_first || sort.fetch.is_some_and(|k| k > limits::SEARCH_K) {
        return None;
    }
    let wish = Wish {
        // A folded constant leaves an alias around the distance.
        by: by.expr.clone().unalias(),
        predicates: Vec::new(),
        fetch: fetch.clone(),
        skip: skip.clone(),
    };
    Some(LogicalPlan::Sort(Sort {
        input: Arc::new(push(&sort.input, wish)?),
        ..sort.clone()
    }))
}

impl Wish {
    /// The same in the words of what lies beneath: each column of `schema` is what `beneath` says of its place.
    fn beneath(self, schema: &DFSchema, beneath: impl Fn(usize) -> Option<Expr>) -> Option<Self> {
        let mut known = true;
        let mut translated = |expr: Expr| {
            let replaced = expr.transform(|expr| {
                let Expr::Column(column) = &expr else {
                    return Ok(Transformed::no(expr));
                };
                match schema.maybe_index_of_column(column).and_then(&beneath) {
                    Some(replaced) => Ok(Transformed::new(
                        replaced,
                        true,
                        datafusion::common::tree_node::TreeNodeRecursion::Jump,
                    )),
                    None => {
                        known = false;
                        Ok(Transformed::no(expr))
                    }
                }
            });
            replaced.ok().map(|replaced| replaced.data)
        };
        let by = translated(self.by)?.unalias();
        let predicates = self.predicates.into_iter().map(translated).collect::<Option<_>>()?;
        known.then_some(Self { by, predicates, ..self })
    }
}

/// The same plan with the request in its scan, if every step down to the scan keeps all rows or says which.
fn push(plan: &LogicalPlan, mut wish: Wish) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let of = |place: usize| projection.expr.get(place).map(|expr| expr.clone().unalias());
            let wish = wish.beneath(&projection.schema, of)?;
            let input = push(&projection.input, wish)?;
            Projection::try_new(projection.expr.clone(), Arc::new(input))
                .ok()
                .map(LogicalPlan::Projection)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = alias.input.schema();
            let of = |place: usize| Some(Expr::Column(Column::from(inner.qualified_field(place))));
            let wish = wish.beneath(&alias.schema, of)?;
            let input = push(&alias.input, wish)?;
            SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())
                .ok()
                .map(LogicalPlan::SubqueryAlias)
        }
        LogicalPlan::Filter(filter) => {
            wish.predicates.push(filter.predicate.clone());
            let input = push(&filter.input, wish)?;
            Filter::try_new(filter.predicate.clone(), Arc::new(input))
                .ok()
                .map(LogicalPlan::Filter)
        }
        LogicalPlan::TableScan(scan) => request(scan, wish).map(LogicalPlan::TableScan),
        _ => None,
    }
}

/// Whether an expression has one value for one row, whenever it is computed, and needs nothing beside the row.
fn is_plain(expr: &Expr) -> bool {
    let odd = |e: &Expr| {
        Ok(match e {
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::GroupingSet(_)
            | Expr::Unnest(_) => true,
            Expr::ScalarFunction(call) => functions::has_effect(call.func.name()),
            _ => false,
        })
    };
    !expr.is_volatile() && !expr.exists(odd).unwrap_or(true)
}

fn request(scan: &TableScan, wish: Wish) -> Option<TableScan> {
    let Expr::ScalarFunction(call) = &wish.by else {
        return None;
    };
    let (name, _) = METRICS.iter().find(|(name, _)| *name == call.func.name())?;
    if scan.fetch.is_some() || scan.filters.iter().any(Nearest::is) {
        return None;
    }
    let provider = source_as_provider(&scan.source).ok()?;
    let any: &dyn std::any::Any = provider.as_ref();
    if let Some(table) = any.downcast_ref::<UserTable>() {
        let named = |e: &Expr| match e {
            Expr::Column(column) if table.has_vectors(&column.name) => Some(column.name.clone()),
            _ => None,
        };
        let [a, b] = call.args.as_slice() else { return None };
        let (column, query) = match (named(a), named(b)) {
            (Some(column), None) => (column, b),
            (None, Some(column)) => (column, a),
            _ => return None,
        };
        let predicates: Vec<Expr> = wish
            .predicates
            .into_iter()
            .chain(scan.filters.iter().cloned())
            .collect();
        if query.any_column_refs() || !predicates.iter().chain([query]).all(is_plain) {
            return None;
        }
        let mut args = vec![query.clone(), lit(*name), wish.fetch, wish.skip, lit(column)];
        args.extend(conjunction(predicates));
        return Some(with_filter(scan, args));
    }
    let relation = relation_of(scan)?;
    let is_vector = |e: &Expr| matches!(e, Expr::Column(c) if relation.vector == Some(c.name.as_str()));
    let query = match call.args.as_slice() {
        [column, query] | [query, column] if is_vector(column) => query,
        _ => return None,
    };
    if !wish.predicates.is_empty() || !scan.filters.is_empty() {
        return None;
    }
    let query = vector_constant(query)?.clone();
    Some(with_filter(scan, vec![query, lit(*name), wish.fetch, wish.skip]))
}

fn with_filter(scan: &TableScan, args: Vec<Expr>) -> TableScan {
    let mut scan = scan.clone();
    let filter = Expr::ScalarFunction(ScalarFunction::new_udf(marker(), args));
    scan.filters.push(filter);
    scan
}

/// A request to a tenant's own table.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) metric: Metric,
    /// The name of the column of vectors.
    pub(super) column: String,
    /// Constant once parameters are known.
    pub(super) query: Expr,
    /// How many rows, and how many before them.
    pub(super) fetch: Expr,
    pub(super) skip: Expr,
    /// What rows must fulfil beside the table's policies.
    pub(super) predicate: Option<Expr>,
}

impl Request {
    /// The metric of a distance that is near when it is small.
    pub(super) fn metric_of(function: &str) -> Option<Metric> {
        METRICS.iter().find(|(name, _)| *name == function).map(|(_, m)| *m)
    }

    /// The request among a scan's filters, if there is one.
    pub(super) fn among(filters: &[Expr]) -> Option<Self> {
        let call = filters.iter().find_map(|filter| match filter {
            Expr::ScalarFunction(call) if Nearest::is(filter) => Some(call),
            _ => None,
        })?;
        let [
            query,
            Expr::Literal(ScalarValue::Utf8(Some(name)), _),
            fetch,
            skip,
            Expr::Literal(ScalarValue::Utf8(Some(column)), _),
            predicate @ ..,
        ] = call.args.as_slice()
        else {
            return None;
        };
        Some(Self {
            metric: Self::metric_of(name)?,
            column: column.clone(),
            query: query.clone(),
            fetch: fetch.clone(),
            skip: skip.clone(),
            predicate: predicate.first().cloned(),
        })
    }
}

fn relation_of(scan: &TableScan) -> Option<&'static Relation> {
    let provider = source_as_provider(&scan.source).ok()?;
    let any: &dyn std::any::Any = provider.as_ref();
    any.downcast_ref::<RelationProvider>().map(|p| p.relation)
}

fn marker() -> Arc<ScalarUDF> {
    static MADE: std::sync::LazyLock<Arc<ScalarUDF>> = std::sync::LazyLock::new(|| {
        Arc::new(ScalarUDF::from(Marker {
            signature: Signature::variadic_any(Volatility::Volatile),
        }))
    });
    MADE.clone()
}

/// Never evaluated: the relation takes it out of its filters.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(Error::internal("a nearest search was evaluated as a filter").into())
    }
}
