//! Which column of which table a column of a result is, where it is one as it stands: what drivers ask more about.

use datafusion::{
    datasource::source_as_provider,
    logical_expr::{Expr, LogicalPlan},
};

use super::provider::UserTable;
use crate::table::schema::Oid;

/// The table and the number of the column that the column at this place of a plan's rows is; `None` for what is
/// computed and for relations of the server's own.
pub(in crate::sql) fn origin(plan: &LogicalPlan, at: usize) -> Option<(Oid, i16)> {
    match plan {
        LogicalPlan::Projection(projection) => below(&projection.input, projection.expr.get(at)?),
        LogicalPlan::Aggregate(aggregate) => below(&aggregate.input, aggregate.group_expr.get(at)?),
        LogicalPlan::Filter(filter) => origin(&filter.input, at),
        LogicalPlan::Sort(sort) => origin(&sort.input, at),
        LogicalPlan::Limit(limit) => origin(&limit.input, at),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, at),
        LogicalPlan::Subquery(subquery) => origin(&subquery.subquery, at),
        LogicalPlan::Window(window) => (at < window.input.schema().fields().len())
            .then(|| origin(&window.input, at))
            .flatten(),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            match at.checked_sub(left) {
                None => origin(&join.left, at),
                Some(at) => origin(&join.right, at),
            }
        }
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = (provider.as_ref() as &dyn std::any::Any).downcast_ref::<UserTable>()?;
            let at = match &scan.projection {
                Some(columns) => *columns.get(at)?,
                None => at,
            };
            table.column(at)
        }
        _ => None,
    }
}

fn below(input: &LogicalPlan, expr: &Expr) -> Option<(Oid, i16)> {
    match expr {
        Expr::Column(column) => origin(input, input.schema().maybe_index_of_column(column)?),
        Expr::Alias(alias) => below(input, &alias.expr),
        _ => None,
    }
}
