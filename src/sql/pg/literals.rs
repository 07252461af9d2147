//! Numbers as PostgreSQL types them: `1` is an integer, `3000000000` a bigint, what is larger or has a point is numeric.
//!
//! DataFusion's planner makes every whole number 64 bits wide. [`rewrite`] runs last before planning and puts a cast
//! around each number that 32 bits hold; where a bare number means something else (`ORDER BY 1`, `LIMIT 1`, window
//! frames) it takes the cast off again.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType as SqlType, Distinct, Expr, Fetch, Function, GroupByExpr, LimitClause, OrderBy,
    OrderByKind, Query, Select, Statement, UnaryOperator, Value, VisitMut, VisitorMut, WindowFrame, WindowFrameBound,
    WindowType,
};

use super::dialect::take;

/// Tells our casts from those of the statement: nobody else gives this type a display width.
const WIDTH: Option<u64> = Some(4);
/// Digits that a decimal has room for.
const DIGITS: usize = 38;

/// Types every number of a statement.
pub fn rewrite(statement: &mut Statement) {
    let _ = VisitMut::visit(statement, &mut Numbers);
}

struct Numbers;

impl VisitorMut for Numbers {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(OrderBy {
            kind: OrderByKind::Expressions(list),
            ..
        }) = &mut query.order_by
        {
            list.iter_mut().for_each(|by| bare(&mut by.expr));
        }
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.iter_mut().for_each(all_bare);
                offset.iter_mut().for_each(|o| all_bare(&mut o.value));
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                all_bare(offset);
                all_bare(limit);
            }
            None => {}
        }
        if let Some(Fetch {
            quantity: Some(quantity),
            ..
        }) = &mut query.fetch
        {
            all_bare(quantity);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let GroupByExpr::Expressions(list, _) = &mut select.group_by {
            list.iter_mut().for_each(grouped);
        }
        if let Some(Distinct::On(list)) = &mut select.distinct {
            list.iter_mut().for_each(bare);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(value) => {
                if let Value::Number(number, _) = &value.value {
                    let number = number.to_string();
                    *expr = typed(&number);
                }
            }
            Expr::UnaryOp {
                op: UnaryOperator::Plus,
                expr: inner,
            } => *expr = take(inner),
            Expr::Function(Function {
                over: Some(WindowType::WindowSpec(spec)),
                ..
            }) => {
                spec.order_by.iter_mut().for_each(|by| bare(&mut by.expr));
                spec.window_frame.iter_mut().for_each(frame);
            }
            Expr::Interval(interval) => bare(&mut interval.value),
            Expr::Between {
                expr: value,
                negated,
                low,
                high,
            } if is_decimal(low) || is_decimal(high) => {
                let (value, low, high) = (take(value), take(low), take(high));
                let from = compared(value.clone(), BinaryOperator::GtEq, low);
                let both = compared(from, BinaryOperator::And, compared(value, BinaryOperator::LtEq, high));
                *expr = not_if(*negated, both);
            }
            Expr::InList {
                expr: value,
                list,
                negated,
            } if list.iter().any(is_decimal) => {
                let value = take(value);
                let each = std::mem::take(list)
                    .into_iter()
                    .map(|item| compared(value.clone(), BinaryOperator::Eq, item));
                let any = each.reduce(|a, b| compared(a, BinaryOperator::Or, b));
                let negated = *negated;
                if let Some(any) = any {
                    *expr = not_if(negated, any);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What a number in SQL is, by how it is written.
fn typed(number: &str) -> Expr {
    let plain = number.replace('_', "");
    let literal = |text: String| Expr::value(Value::Number(text, false));
    if plain.parse::<i32>().is_ok() {
        return Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(literal(plain)),
            data_type: SqlType::Int4(WIDTH),
            array: false,
            format: None,
        };
    }
    if plain.parse::<i64>().is_ok() {
        return literal(plain);
    }
    match decimal(&plain) {
        Some(written_out) => literal(written_out),
        // Wider than a decimal here: as a float it is at least near.
        None => Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(Expr::value(Value::SingleQuotedString(plain))),
            data_type: SqlType::DoublePrecision,
            array: false,
            format: None,
        },
    }
}

/// The number without exponent and with a point, if its digits fit.
fn decimal(number: &str) -> Option<String> {
    let (digits, exponent) = match number.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    if point.unsigned_abs() as usize > DIGITS {
        return None;
    }
    let (before, after) = if point <= 0 {
        (
            "0".to_owned(),
            format!("{}{all}", "0".repeat(point.unsigned_abs() as usize)),
        )
    } else {
        let point = point as usize;
        while all.len() < point {
            all.push('0');
        }
        (all[..point].to_owned(), all[point..].to_owned())
    };
    let before = before.trim_start_matches('0');
    if before.len() + after.len() > DIGITS {
        return None;
    }
    let before = if before.is_empty() { "0" } else { before };
    Some(format!("{before}.{after}"))
}

/// Whether this is the type that a number was cast to here.
pub fn is_literal_type(data_type: &SqlType) -> bool {
    matches!(data_type, SqlType::Int4(WIDTH))
}

fn ours(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast { data_type, .. } if is_literal_type(data_type))
}

/// Takes our cast off a number.
fn bare(expr: &mut Expr) {
    if ours(expr)
        && let Expr::Cast { expr: inner, .. } = expr
    {
        *expr = take(inner);
    }
}

/// The same within an expression.
fn all_bare(expr: &mut Expr) {
    struct Bare;
    impl VisitorMut for Bare {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            bare(expr);
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(expr, &mut Bare);
}

/// Numbers of columns in GROUP BY, also within grouping sets.
fn grouped(expr: &mut Expr) {
    match expr {
        Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
            sets.iter_mut().flatten().for_each(bare);
        }
        Expr::Tuple(items) => items.iter_mut().for_each(bare),
        other => bare(other),
    }
}

fn frame(frame: &mut WindowFrame) {
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let WindowFrameBound::Preceding(Some(n)) | WindowFrameBound::Following(Some(n)) = bound {
            bare(n);
        }
    }
}

fn is_decimal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(&value.value, Value::Number(n, _) if n.to_string().contains('.')),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        }
        | Expr::Nested(expr) => is_decimal(expr),
        _ => false,
    }
}

fn compared(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }))
}

fn not_if(negated: bool, expr: Expr) -> Expr {
    match negated {
        true => Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(expr),
        },
        false => expr,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect("it parses");
        rewrite(&mut statements[0]);
        statements[0].to_string()
    }

    #[test]
    fn numbers_are_typed_and_places_are_not() {
        assert_eq!(rewritten("SELECT 1"), "SELECT CAST(1 AS INT4(4))");
        assert_eq!(rewritten("SELECT 3000000000"), "SELECT 3000000000");
        assert_eq!(rewritten("SELECT 99999999999999999999"), "SELECT 99999999999999999999.");
        assert_eq!(
            rewritten("SELECT a FROM t GROUP BY 1, ROLLUP (2) ORDER BY 1 LIMIT 2 OFFSET 3"),
            "SELECT a FROM t GROUP BY 1, ROLLUP (2) ORDER BY 1 LIMIT 2 OFFSET 3"
        );
        assert_eq!(
            rewritten("SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) FROM t"),
            "SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) FROM t"
        );
        assert_eq!(
            rewritten("SELECT a BETWEEN 0.5 AND 1 FROM t"),
            "SELECT ((a >= 0.5) AND (a <= CAST(1 AS INT4(4)))) FROM t"
        );
    }

    #[test]
    fn decimals_are_written_out() {
        assert_eq!(decimal("1.10").as_deref(), Some("1.10"));
        assert_eq!(decimal("1e3").as_deref(), Some("1000."));
        assert_eq!(decimal("1.5e-3").as_deref(), Some("0.0015"));
        assert_eq!(decimal(".5").as_deref(), Some("0.5"));
        assert_eq!(decimal("1e60"), None);
        assert_eq!(decimal("1e999999999999"), None);
    }
}
