//! What operators mean once the types are known: a literal beside a column is of the column's type.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result, ScalarValue},
    logical_expr::{
        Expr, ExprSchemable, ScalarUDF,
        expr::Placeholder,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{arithmetic, casts, convert, json_access, temporal};
use crate::{
    codec::pgtype::{PgType, Scalar},
    sql::functions::vector_math,
};

/// Plans comparisons of what is no text with a literal: the literal is checked and
/// brought into the column's form. Operators on JSON become calls.
#[derive(Debug)]
pub struct PgOperators;

impl ExprPlanner for PgOperators {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if let Some(call) = json_access::call(&expr, schema) {
            return Ok(PlannerResult::Planned(call));
        }
        if let Some(function) = of_vectors(&expr, schema) {
            let (left, right) = (vector_beside(expr.left), vector_beside(expr.right));
            return Ok(PlannerResult::Planned(function.call(vec![left, right])));
        }
        if let Some(call) = temporal::call(&expr, schema) {
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

/// The function of an arithmetic operator where an operand is a vector.
fn of_vectors(expr: &RawBinaryExpr, schema: &DFSchema) -> Option<Arc<ScalarUDF>> {
    let name = match expr.op {
        BinaryOperator::Plus => "vector_add",
        BinaryOperator::Minus => "vector_sub",
        BinaryOperator::Multiply => "vector_mul",
        BinaryOperator::StringConcat => "vector_concat",
        _ => return None,
    };
    let vector = |e: &Expr| {
        let found = e.to_field(schema).map(|(_, field)| PgType::of(&field));
        matches!(found, Ok(PgType::Scalar(Scalar::Vector | Scalar::Halfvec)))
    };
    if !vector(&expr.left) && !vector(&expr.right) {
        return None;
    }
    static MADE: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(vector_math::all);
    MADE.iter().find(|f| f.name() == name).cloned()
}

/// A literal, or a parameter of no type, beside a vector is one.
fn vector_beside(expr: Expr) -> Expr {
    match expr {
        literal if is_literal(&literal) => casts::call("bulkhead_vector", vec![literal]),
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let field = Some(PgType::from(Scalar::Vector).field(&id, true).into());
            Expr::Placeholder(Placeholder { id, field })
        }
        other => other,
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
        PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => casts::call("bulkhead_vector", vec![literal]),
        PgType::Scalar(Scalar::Jsonb) => casts::call("bulkhead_jsonb", vec![literal]),
        PgType::Array(scalar) => {
            let name = Expr::Literal(ScalarValue::Utf8(Some(scalar.name().to_owned())), None);
            casts::call("bulkhead_array", vec![literal, name])
        }
        PgType::Scalar(scalar) if convert::is_plain(scalar) && scalar.arrow() != DataType::Utf8 => {
            convert::to(literal, scalar)
        }
        _ => literal,
    }
}
