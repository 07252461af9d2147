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
        if let Some(call) = text_search(&expr, schema) {
            return Ok(PlannerResult::Planned(call));
        }
        if let Some(call) = temporal::call(&expr, schema) {
            return Ok(PlannerResult::Planned(call));
        }
        arithmetic::floats(&mut expr, schema);
        if let Some(call) = arithmetic::checked(&mut expr, schema) {
            return Ok(PlannerResult::Planned(call));
        }
        if let Some(call) = arithmetic::divided(&expr, schema) {
            return Ok(PlannerResult::Planned(call));
        }
        if expr.op == BinaryOperator::PGOverlap
            && let Some(has_any) = SHARED_ARRAYS.as_ref()
        {
            let left = typed_if_literal(expr.left, &expr.right, schema);
            let right = typed_if_literal(expr.right, &left, schema);
            return Ok(PlannerResult::Planned(has_any.call(vec![left, right])));
        }
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

/// What `@@`, `||` and `&&` are on texts, `tsvector`s and `tsquery`s.
fn text_search(expr: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let kind = |e: &Expr| match e.to_field(schema).map(|(_, field)| PgType::of(&field)) {
        Ok(PgType::Scalar(scalar)) => Some(scalar),
        _ => None,
    };
    let (left, right) = (kind(&expr.left), kind(&expr.right));
    let known = |name: &str| SHARED.iter().find(|f| f.name() == name);
    let of = |name: &str, e: &Expr| known(name).map(|f| f.call(vec![e.clone()]));
    let (a, b) = (&expr.left, &expr.right);
    let (name, a, b) = match (&expr.op, left, right) {
        (BinaryOperator::AtAt, Some(Scalar::Tsquery), _) => ("bulkhead_ts_match", vector_of(b, right, of)?, a.clone()),
        (BinaryOperator::AtAt, Some(Scalar::Tsvector), Some(Scalar::Tsquery)) => {
            ("bulkhead_ts_match", a.clone(), b.clone())
        }
        (BinaryOperator::AtAt, Some(Scalar::Tsvector), _) => {
            ("bulkhead_ts_match", a.clone(), of("bulkhead_tsquery", b)?)
        }
        (BinaryOperator::AtAt, Some(_), Some(Scalar::Tsquery)) => {
            ("bulkhead_ts_match", vector_of(a, left, of)?, b.clone())
        }
        (BinaryOperator::AtAt, Some(Scalar::Text | Scalar::Varchar), _) => {
            ("bulkhead_ts_match", of("to_tsvector", a)?, of("plainto_tsquery", b)?)
        }
        (BinaryOperator::StringConcat, Some(Scalar::Tsvector), _) => ("bulkhead_tsvector_concat", a.clone(), b.clone()),
        (BinaryOperator::StringConcat, Some(Scalar::Tsquery), _) => ("tsquery_or", a.clone(), b.clone()),
        (BinaryOperator::PGOverlap, Some(Scalar::Tsquery), _) => ("tsquery_and", a.clone(), b.clone()),
        _ => return None,
    };
    known(name).map(|f| f.call(vec![a, b]))
}

/// A text as a `tsvector`.
fn vector_of(expr: &Expr, kind: Option<Scalar>, of: impl Fn(&str, &Expr) -> Option<Expr>) -> Option<Expr> {
    match kind {
        Some(Scalar::Tsvector) => Some(expr.clone()),
        _ => of("to_tsvector", expr),
    }
}

static SHARED: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(super::function::shared);

/// A literal, or a parameter of no type, beside a vector is one.
fn vector_beside(expr: Expr) -> Expr {
    match expr {
        literal if is_literal(&literal) => casts::call(casts::TO_VECTOR, vec![literal]),
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let field = Some(PgType::from(Scalar::Vector).field(&id, true).into());
            Expr::Placeholder(Placeholder { id, field })
        }
        other => other,
    }
}

/// DataFusion's `array_has_any`.
static SHARED_ARRAYS: LazyLock<Option<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let all = datafusion::execution::SessionStateDefaults::default_scalar_functions();
    all.into_iter().find(|f| f.name() == "array_has_any")
});

fn typed_if_literal(expr: Expr, beside: &Expr, schema: &DFSchema) -> Expr {
    match is_literal(&expr) {
        true => typed(expr, beside, schema),
        false => expr,
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
        PgType::Scalar(Scalar::Vector | Scalar::Halfvec) => casts::call(casts::TO_VECTOR, vec![literal]),
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
