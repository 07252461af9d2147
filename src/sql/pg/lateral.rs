//! Lateral sub-queries that are made of the row beside them: `LATERAL (SELECT f(t.a))`,
//! `unnest(t.list)`.
//!
//! DataFusion looks for filters to join on and finds none there. Such a join becomes a projection of
//! its left side, with an unnest where there was one.

use std::collections::HashMap;

use datafusion::{
    common::{
        Column, Result, TableReference, UnnestOptions,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, logical_plan::Join, utils::conjunction},
    optimizer::AnalyzerRule,
};

/// Turns joins with a lateral row of expressions into projections.
#[derive(Debug)]
pub struct LateralColumns;

impl AnalyzerRule for LateralColumns {
    fn name(&self) -> &str {
        "bulkhead_lateral_columns"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up(|node| match node {
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => columns(join),
            other => Ok(Transformed::no(other)),
        })
        .map(|t| t.data)
    }
}

/// A column of the sub-query: under which name, made of what.
type Made = ((Option<TableReference>, String), Expr);

fn columns(join: Join) -> Result<Transformed<LogicalPlan>> {
    let is_lateral = |plan: &LogicalPlan| match plan {
        LogicalPlan::SubqueryAlias(alias) => matches!(alias.input.as_ref(), LogicalPlan::Subquery(_)),
        other => matches!(other, LogicalPlan::Subquery(_)),
    };
    let over = || beside(join.left.as_ref().clone(), &join.right);
    let Some((plan, made)) = is_lateral(&join.right).then(over).transpose()?.flatten() else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let own = join.left.schema().columns().into_iter().map(Expr::Column);
    let named = made
        .into_iter()
        .map(|((qualifier, name), e)| e.alias_qualified(qualifier, name));
    let items: Vec<Expr> = own.chain(named).collect();
    let mut plan = LogicalPlanBuilder::from(plan).project(items)?;
    let on = join.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
    if let Some(predicate) = conjunction(on.chain(join.filter.clone())) {
        plan = plan.filter(predicate)?;
    }
    Ok(Transformed::yes(plan.build()?))
}

/// The rows of `left`, each with those of a sub-query made of it alone: the new plan and the
/// sub-query's columns as expressions over it. `None` for a sub-query that reads anything else.
fn beside(left: LogicalPlan, plan: &LogicalPlan) -> Result<Option<(LogicalPlan, Vec<Made>)>> {
    match plan {
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Ok(Some((left, Vec::new()))),
        LogicalPlan::Subquery(subquery) => beside(left, &subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => {
            let requalify = |((_, name), e): Made| ((Some(alias.alias.clone()), name), e);
            let below = beside(left, &alias.input)?;
            Ok(below.map(|(plan, made)| (plan, made.into_iter().map(requalify).collect())))
        }
        LogicalPlan::Projection(projection) => {
            let Some((plan, below)) = beside(left, &projection.input)? else {
                return Ok(None);
            };
            let below = by_column(below);
            let mut made = Vec::new();
            for (expr, (qualifier, field)) in projection.expr.iter().zip(projection.schema.iter()) {
                let Some(expr) = above(expr, &below)? else {
                    return Ok(None);
                };
                made.push(((qualifier.cloned(), field.name().clone()), expr));
            }
            Ok(Some((plan, made)))
        }
        LogicalPlan::Filter(filter) => {
            let Some((plan, made)) = beside(left, &filter.input)? else {
                return Ok(None);
            };
            let Some(predicate) = above(&filter.predicate, &by_column(made.clone()))? else {
                return Ok(None);
            };
            Ok(Some((LogicalPlanBuilder::from(plan).filter(predicate)?.build()?, made)))
        }
        LogicalPlan::Unnest(unnest) => {
            let Some((plan, made)) = beside(left, &unnest.input)? else {
                return Ok(None);
            };
            // Every column gets a name that nothing of the left side has, then the lists are unnested.
            let first = plan.schema().fields().len();
            let own = plan.schema().columns().into_iter().map(Expr::Column);
            let name = |i: usize| format!("bulkhead_lateral_{}", first + i);
            let items: Vec<Expr> = own
                .chain(made.iter().enumerate().map(|(i, (_, e))| e.clone().alias(name(i))))
                .collect();
            let wide = LogicalPlanBuilder::from(plan).project(items)?;
            let lists = made.iter().enumerate().filter(|(_, ((q, n), _))| {
                let column = Column::new(q.clone(), n.clone());
                unnest.exec_columns.contains(&column)
            });
            let lists: Vec<Column> = lists.map(|(i, _)| Column::from_name(name(i))).collect();
            let options = UnnestOptions::new().with_preserve_nulls(false);
            let plan = wide.unnest_columns_with_options(lists, options)?.build()?;
            let names = unnest.schema.iter().map(|(q, f)| (q.cloned(), f.name().clone()));
            let columns = (0..made.len()).map(|i| Expr::Column(Column::from_name(name(i))));
            Ok((made.len() == unnest.schema.fields().len()).then(|| (plan, names.zip(columns).collect())))
        }
        _ => Ok(None),
    }
}

fn by_column(made: Vec<Made>) -> HashMap<Column, Expr> {
    made.into_iter()
        .map(|((q, name), e)| (Column::new(q, name), e))
        .collect()
}

/// An expression of the sub-query over the new plan; `None` where it holds more than columns.
fn above(expr: &Expr, below: &HashMap<Column, Expr>) -> Result<Option<Expr>> {
    if expr.exists(|e| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)
        ))
    })? {
        return Ok(None);
    }
    let replaced = expr.clone().unalias().transform_up(|e| {
        Ok(match e {
            Expr::Column(c) => match below.get(&c) {
                Some(e) => Transformed::yes(e.clone()),
                None => Transformed::no(Expr::Column(c)),
            },
            Expr::OuterReferenceColumn(_, c) => Transformed::yes(Expr::Column(c)),
            e => Transformed::no(e),
        })
    })?;
    Ok(Some(replaced.data))
}
