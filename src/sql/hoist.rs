//! Calls of models where DataFusion awaits none: inside of other calls, in ORDER BY, GROUP BY and windows.
//!
//! DataFusion awaits a function that stands in the SELECT list, in WHERE or in an aggregate. A call elsewhere gets
//! a projection of its own below the node that needs it, whose column takes its place. Done after everything else
//! is optimized, so that nothing puts the two together again.

use datafusion::{
    common::{
        Column, DFSchema, Result as DfResult,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, Projection},
};
use std::sync::Arc;

/// The plan with each such call where it is awaited.
pub(super) fn hoist(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let hoisted = plan.transform_up_with_subqueries(|node| {
        // What stands alone in these is awaited as it is.
        let awaited = match &node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => true,
            LogicalPlan::Sort(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => false,
            _ => return Ok(Transformed::no(node)),
        };
        let mut calls = Vec::new();
        let mut exprs = Vec::new();
        for expr in node.expressions() {
            exprs.push(lift(expr, awaited, &mut calls)?);
        }
        match calls.is_empty() {
            true => Ok(Transformed::no(node)),
            false => below(&node, exprs, calls).map(Transformed::yes),
        }
    });
    Ok(hoisted?.data)
}

/// Replaces calls by columns; with `keep` only those that stand inside of another one.
fn lift(expr: Expr, keep: bool, calls: &mut Vec<Expr>) -> DfResult<Expr> {
    let lifted = expr.transform_down(|expr| {
        let Expr::ScalarFunction(mut call) = expr else {
            return Ok(Transformed::no(expr));
        };
        if call.func.as_async().is_none() {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        }
        let replaced = match keep {
            true => {
                let args = call.args.into_iter().map(|arg| lift(arg, false, calls));
                call.args = args.collect::<DfResult<_>>()?;
                Expr::ScalarFunction(call)
            }
            false => {
                calls.push(Expr::ScalarFunction(call));
                Expr::Column(Column::from_name(name(calls.len() - 1)))
            }
        };
        Ok(Transformed::new(replaced, true, TreeNodeRecursion::Jump))
    });
    Ok(lifted?.data)
}

/// No column of a user's has such a name.
fn name(call: usize) -> String {
    format!("\u{1}call {call}")
}

fn columns(schema: &DFSchema) -> impl Iterator<Item = Expr> {
    schema.columns().into_iter().map(Expr::Column)
}

/// The node over a projection that makes the calls, with the columns that it had.
fn below(node: &LogicalPlan, exprs: Vec<Expr>, calls: Vec<Expr>) -> DfResult<LogicalPlan> {
    let input = node.inputs().into_iter().next().cloned().unwrap_or_default();
    let (before, added) = (input.schema().fields().len(), calls.len());
    let named = calls.into_iter().enumerate().map(|(n, call)| call.alias(name(n)));
    let made = columns(input.schema()).chain(named).collect();
    let made = LogicalPlan::Projection(Projection::try_new(made, Arc::new(input))?);
    let made = hoist_in(made)?;
    let schema = node.schema();
    let called = |expr: Expr, field: usize| {
        let (qualifier, field) = schema.qualified_field(field);
        match expr.qualified_name() == (qualifier.cloned(), field.name().clone()) {
            true => expr,
            false => expr.alias_qualified(qualifier.cloned(), field.name()),
        }
    };
    if matches!(node, LogicalPlan::Projection(_)) {
        let exprs = exprs.into_iter().enumerate().map(|(n, expr)| called(expr, n));
        return Projection::try_new(exprs.collect(), Arc::new(made)).map(LogicalPlan::Projection);
    }
    let rebuilt = node.with_new_exprs(exprs, vec![made])?;
    // An aggregate gives what it computes; the others give their input, and a window what it computes behind that.
    let passes = !matches!(node, LogicalPlan::Aggregate(_));
    let given: Vec<Expr> = columns(rebuilt.schema()).collect();
    let kept = (0..schema.fields().len()).map(|n| {
        let at = if passes && n >= before { n + added } else { n };
        called(given[at].clone(), n)
    });
    Projection::try_new(kept.collect(), Arc::new(rebuilt)).map(LogicalPlan::Projection)
}

/// The calls of the new projection may hold others.
fn hoist_in(projection: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut calls = Vec::new();
    let exprs = projection.expressions().into_iter();
    let exprs: Vec<Expr> = exprs
        .map(|expr| lift(expr, true, &mut calls))
        .collect::<DfResult<_>>()?;
    match calls.is_empty() {
        true => Ok(projection),
        false => below(&projection, exprs, calls),
    }
}
