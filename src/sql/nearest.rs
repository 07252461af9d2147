//! `ORDER BY embedding <=> $1 LIMIT k` reads k rows, not all of them.
//!
//! An optimizer rule recognises the shape and hands the query vector to the scan as one more filter,
//! [`NAME`], which the relation answers from the tenant's index. The sort above stays: it orders the
//! k rows, and it would still be right if the scan ignored the filter. As a filter of the scan the
//! vector may be a parameter of a prepared statement.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, AsArray},
        datatypes::{DataType, Float32Type},
    },
    common::{Result as DfResult, ScalarValue, tree_node::Transformed},
    datasource::source_as_provider,
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Sort,
        SubqueryAlias, TableScan, Volatility, expr::ScalarFunction, lit,
    },
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

use super::{
    complaints::from_datafusion,
    kept::Constant,
    relations::{Relation, RelationProvider},
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
        let [
            query,
            Expr::Literal(ScalarValue::Utf8(Some(name)), _),
            Expr::Literal(k, _),
        ] = call.args.as_slice()
        else {
            return Some(Err(wanted().into()));
        };
        let metric = METRICS.iter().find(|(n, _)| n == name).map(|(_, m)| *m)?;
        let k = match k {
            ScalarValue::UInt64(Some(k)) => usize::try_from(*k).unwrap_or(limits::SEARCH_K),
            _ => limits::SEARCH_K,
        };
        let query = Constant::of(query).ok_or_else(|| wanted().into());
        Some(query.map(|query| Self { metric, query, k }))
    }

    /// The vector that the run at hand asks for.
    pub(super) fn query(&self) -> Result<Vec<f32>> {
        floats(&self.query.get()).map_err(from_datafusion)
    }
}

fn floats(value: &ScalarValue) -> DfResult<Vec<f32>> {
    let wanted = crate::codec::pgtype::Scalar::Vector.arrow();
    match value.cast_to(&wanted)? {
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
        let LogicalPlan::Sort(Sort {
            expr,
            input,
            fetch: Some(k),
        }) = &plan
        else {
            return Ok(Transformed::no(plan));
        };
        let [by] = expr.as_slice() else {
            return Ok(Transformed::no(plan));
        };
        if !by.asc || *k > limits::SEARCH_K {
            return Ok(Transformed::no(plan));
        }
        // A folded constant leaves an alias around the distance.
        match push(input, &by.expr.clone().unalias(), *k) {
            Some(input) => Ok(Transformed::yes(LogicalPlan::Sort(Sort {
                expr: expr.clone(),
                input: Arc::new(input),
                fetch: Some(*k),
            }))),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The same plan with the request in its scan, if every step down to the scan keeps all rows.
fn push(plan: &LogicalPlan, by: &Expr, k: usize) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let by = match by {
                Expr::Column(column) => {
                    let place = projection.schema.maybe_index_of_column(column)?;
                    projection.expr.get(place)?.clone().unalias()
                }
                other => other.clone(),
            };
            let input = push(&projection.input, &by, k)?;
            Projection::try_new(projection.expr.clone(), Arc::new(input))
                .ok()
                .map(LogicalPlan::Projection)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = push(&alias.input, by, k)?;
            SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())
                .ok()
                .map(LogicalPlan::SubqueryAlias)
        }
        LogicalPlan::TableScan(scan) => request(scan, by, k).map(LogicalPlan::TableScan),
        _ => None,
    }
}

fn request(scan: &TableScan, by: &Expr, k: usize) -> Option<TableScan> {
    let Expr::ScalarFunction(call) = by else { return None };
    let (name, _) = METRICS.iter().find(|(name, _)| *name == call.func.name())?;
    let relation = relation_of(scan)?;
    let is_vector = |e: &Expr| matches!(e, Expr::Column(c) if relation.vector == Some(c.name.as_str()));
    let query = match call.args.as_slice() {
        [column, query] | [query, column] if is_vector(column) => query,
        _ => return None,
    };
    if !matches!(query, Expr::Literal(..) | Expr::Placeholder(_)) || !scan.filters.is_empty() || scan.fetch.is_some() {
        return None;
    }
    let args = vec![query.clone(), lit(*name), lit(k as u64)];
    let filter = Expr::ScalarFunction(ScalarFunction::new_udf(marker(), args));
    Some(TableScan {
        filters: vec![filter],
        ..scan.clone()
    })
}

fn relation_of(scan: &TableScan) -> Option<&'static Relation> {
    let provider = source_as_provider(&scan.source).ok()?;
    let any: &dyn std::any::Any = provider.as_ref();
    any.downcast_ref::<RelationProvider>().map(|p| p.relation)
}

fn marker() -> Arc<ScalarUDF> {
    static MADE: std::sync::LazyLock<Arc<ScalarUDF>> = std::sync::LazyLock::new(|| {
        Arc::new(ScalarUDF::from(Marker {
            signature: Signature::any(3, Volatility::Volatile),
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
