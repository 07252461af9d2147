//! What operators mean once the types are known: a literal beside a column is of the column's type.

use datafusion::{
    common::{DFSchema, Result, ScalarValue},
    logical_expr::{
        Expr, ExprSchemable,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{arithmetic, casts, json_access};
use crate::codec::pgtype::{PgType, Scalar};

/// Plans comparisons of a `uuid`, a `jsonb` or an array with a literal: the literal is checked and
/// brought into the column's form. Operators on JSON become calls.
#[derive(Debug)]
pub struct PgOperators;

impl ExprPlanner for PgOperators {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if let Some(call) = json_access::call(&expr, schema) {
            return Ok(PlannerResult::Planned(call));
        }
        if let Some(call) = arithmetic::checked(&mut expr, schema) {
            return Ok(PlannerResult::Planned(call));
        }
        arithmetic::floats(&mut expr, schema);
        if compares(&expr.op) {
            if is_literal(&expr.right) {
                expr.right = typed(expr.right, &expr.left, schema);
            } else if is_literal(&expr.left) {
                expr.left = typed(expr.left, &expr.right, schema);
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

fn compares(op: &BinaryOperator) -> bool {
    use BinaryOperator::{ArrowAt, AtArrow, Eq, Gt, GtEq, Lt, LtEq, NotEq, PGOverlap};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | AtArrow | ArrowAt | PGOverlap)
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

fn typed(literal: Expr, beside: &Expr, schema: &DFSchema) -> Expr {
    let Ok((_, field)) = beside.to_field(schema) else {
        return literal;
    };
    match PgType::of(&field) {
        PgType::Scalar(Scalar::Uuid) => casts::call("bulkhead_uuid", vec![literal]),
        PgType::Scalar(Scalar::Jsonb) => casts::call("bulkhead_jsonb", vec![literal]),
        PgType::Array(scalar) => {
            let name = Expr::Literal(ScalarValue::Utf8(Some(scalar.name().to_owned())), None);
            casts::call("bulkhead_array", vec![literal, name])
        }
        _ => literal,
    }
}
