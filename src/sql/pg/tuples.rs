//! Rows in comparisons: `(a, b) = (1, 2)`, `(a, b) IN (...)`, `ROW(a, b) IS NULL`, `OVERLAPS`; and comparisons with
//! all or any rows of a sub-query. All become what the planner knows: comparisons of single values, and EXISTS.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, TableWithJoins, UnaryOperator, Value,
};

use super::{
    dialect::{single_name, take},
    subquery,
};

/// The relation that a sub-query becomes.
const ROWS: &str = "bulkhead_compared";

/// Rewrites what compares with a sub-query, before its parts are looked at.
pub(super) fn before(expr: &mut Expr) {
    match expr {
        // A sign binds tighter than a power here.
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: inner,
        } if matches!(
            inner.as_ref(),
            Expr::BinaryOp {
                op: BinaryOperator::PGExp,
                ..
            }
        ) =>
        {
            let mut power = take(inner);
            negate_first(&mut power);
            *expr = power;
        }
        Expr::AnyOp { .. } | Expr::AllOp { .. } => quantified(expr),
        Expr::InSubquery {
            expr: left,
            subquery,
            negated,
        } => {
            let Some(left) = members(left) else { return };
            let (width, negated) = (left.len(), *negated);
            let query = std::mem::replace(subquery, Box::new(subquery::query_of(Vec::new())));
            let columns = (0..width).map(column).collect();
            let equal = all(pairs(left, columns, BinaryOperator::Eq), BinaryOperator::And);
            let equal = match negated {
                // Where it cannot be told whether a row is the same, NOT IN does not hold.
                true => Expr::IsNotFalse(Box::new(equal)),
                false => equal,
            };
            *expr = exists(query, width, equal, negated);
        }
        _ => {}
    }
}

/// Rewrites what compares rows, after its parts were.
pub(super) fn after(expr: &mut Expr) {
    let made = match expr {
        Expr::BinaryOp { left, op, right } => match (members(left), members(right)) {
            (Some(left), Some(right)) if left.len() == right.len() && !left.is_empty() => compared(left, op, right),
            _ => None,
        },
        Expr::IsNull(inner) => members(inner).map(|items| {
            let each = items.into_iter().map(|e| Expr::IsNull(Box::new(e)));
            all(each.collect(), BinaryOperator::And)
        }),
        Expr::IsNotNull(inner) => members(inner).map(|items| {
            let each = items.into_iter().map(|e| Expr::IsNotNull(Box::new(e)));
            all(each.collect(), BinaryOperator::And)
        }),
        Expr::IsDistinctFrom(left, right) => both(left, right).map(|(left, right)| {
            let each = left.into_iter().zip(right);
            let each = each.map(|(a, b)| Expr::IsDistinctFrom(Box::new(a), Box::new(b)));
            all(each.collect(), BinaryOperator::Or)
        }),
        Expr::IsNotDistinctFrom(left, right) => both(left, right).map(|(left, right)| {
            let each = left.into_iter().zip(right);
            let each = each.map(|(a, b)| Expr::IsNotDistinctFrom(Box::new(a), Box::new(b)));
            all(each.collect(), BinaryOperator::And)
        }),
        Expr::InList {
            expr: left,
            list,
            negated,
        } => members(left).and_then(|left| {
            let rows: Vec<Vec<Expr>> = list.iter().map(members).collect::<Option<_>>()?;
            if rows.is_empty() || rows.iter().any(|row| row.len() != left.len()) {
                return None;
            }
            let each = rows.into_iter().map(|row| {
                let equal = pairs(left.clone(), row, BinaryOperator::Eq);
                all(equal, BinaryOperator::And)
            });
            let any = all(each.collect(), BinaryOperator::Or);
            Some(match *negated {
                true => Expr::UnaryOp {
                    op: UnaryOperator::Not,
                    expr: Box::new(any),
                },
                false => any,
            })
        }),
        _ => None,
    };
    if let Some(made) = made {
        *expr = made;
    }
}

fn both(left: &Expr, right: &Expr) -> Option<(Vec<Expr>, Vec<Expr>)> {
    let (left, right) = (members(left)?, members(right)?);
    (left.len() == right.len() && !left.is_empty()).then_some((left, right))
}

/// The members of `(a, b)` and of `ROW(a, b)`.
fn members(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(items) => Some(items.clone()),
        Expr::Nested(inner) => members(inner),
        Expr::Function(f) if single_name(&f.name).as_deref() == Some("row") => {
            let FunctionArguments::List(list) = &f.args else {
                return None;
            };
            let each = |a: &FunctionArg| match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
                _ => None,
            };
            list.args.iter().map(each).collect()
        }
        _ => None,
    }
}

fn compared(left: Vec<Expr>, op: &BinaryOperator, right: Vec<Expr>) -> Option<Expr> {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or, Overlaps};
    Some(match op {
        Eq => all(pairs(left, right, Eq), And),
        NotEq => all(pairs(left, right, NotEq), Or),
        Lt | LtEq | Gt | GtEq => {
            let strict = match op {
                Lt | LtEq => Lt,
                _ => Gt,
            };
            // The last members decide where all before them are equal.
            let mut pairs = left.into_iter().zip(right).rev();
            let (a, b) = pairs.next()?;
            pairs.fold(binary(a, op.clone(), b), |rest, (a, b)| {
                let tie = binary(binary(a.clone(), Eq, b.clone()), And, rest);
                binary(binary(a, strict.clone(), b), Or, tie)
            })
        }
        Overlaps => {
            let ((s1, e1), (s2, e2)) = (period(left)?, period(right)?);
            let call = super::dialect::call;
            let first = |s: &Expr, e: &Expr| call("least", vec![s.clone(), e.clone()]);
            let last = |s: &Expr, e: &Expr| call("greatest", vec![s.clone(), e.clone()]);
            // Half-open periods; two that begin together overlap even where they are moments.
            let one = binary(first(&s1, &e1), Lt, last(&s2, &e2));
            let other = binary(first(&s2, &e2), Lt, last(&s1, &e1));
            let together = binary(first(&s1, &e1), Eq, first(&s2, &e2));
            binary(binary(one, And, other), Or, together)
        }
        _ => return None,
    })
}

/// Beginning and end of a period, which is given by two moments or by one and an interval.
fn period(items: Vec<Expr>) -> Option<(Expr, Expr)> {
    let [start, end] = <[Expr; 2]>::try_from(items).ok()?;
    let long = match &end {
        Expr::Interval(_) => true,
        Expr::TypedString(typed) => typed.data_type.to_string().eq_ignore_ascii_case("interval"),
        Expr::Cast { data_type, .. } => data_type.to_string().to_uppercase().starts_with("INTERVAL"),
        _ => false,
    };
    Some(match long {
        true => (start.clone(), binary(start, BinaryOperator::Plus, end)),
        false => (start, end),
    })
}

fn pairs(left: Vec<Expr>, right: Vec<Expr>, op: BinaryOperator) -> Vec<Expr> {
    let each = left.into_iter().zip(right);
    each.map(|(a, b)| binary(a, op.clone(), b)).collect()
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }))
}

/// All of them under one operator, as a tree no deeper than it must be.
fn all(mut each: Vec<Expr>, op: BinaryOperator) -> Expr {
    match each.len() {
        0 => Expr::value(Value::Boolean(op == BinaryOperator::And)),
        1 => each.remove(0),
        n => {
            let rest = each.split_off(n / 2);
            binary(all(each, op.clone()), op.clone(), all(rest, op))
        }
    }
}

fn negate_first(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::PGExp,
            ..
        } => negate_first(left),
        first => {
            *first = Expr::Nested(Box::new(Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: Box::new(take(first)),
            }));
        }
    }
}

fn query_of(expr: &mut Expr) -> Option<&mut Box<Query>> {
    match expr {
        Expr::Subquery(query) => Some(query),
        Expr::Nested(inner) => query_of(inner),
        _ => None,
    }
}

/// `x > ANY (SELECT ...)`: there is such a row. `x > ALL (SELECT ...)`: there is no other.
fn quantified(expr: &mut Expr) {
    let (left, op, right, any) = match expr {
        Expr::AnyOp {
            left,
            compare_op,
            right,
            ..
        } => (left, compare_op, right, true),
        Expr::AllOp {
            left,
            compare_op,
            right,
        } => (left, compare_op, right, false),
        _ => return,
    };
    let Some(query) = query_of(right) else { return };
    let query = std::mem::replace(query, Box::new(subquery::query_of(Vec::new())));
    let left = take(left);
    *expr = match (&*op, any, members(&left)) {
        (BinaryOperator::Eq, true, None) | (BinaryOperator::NotEq, false, None) => Expr::InSubquery {
            expr: Box::new(left),
            subquery: query,
            negated: !any,
        },
        (op, _, items) => {
            let items = items.unwrap_or_else(|| vec![left]);
            let width = items.len();
            let columns: Vec<Expr> = (0..width).map(column).collect();
            let holds = match items.len() {
                1 => all(pairs(items, columns, op.clone()), BinaryOperator::And),
                _ => match compared(items, op, columns) {
                    Some(holds) => holds,
                    None => return,
                },
            };
            match any {
                true => exists(query, width, holds, false),
                false => exists(query, width, Expr::IsNotTrue(Box::new(holds)), true),
            }
        }
    };
}

fn column(at: usize) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new(ROWS), Ident::new(format!("c{at}"))])
}

/// `EXISTS (SELECT 1 FROM (query) AS rows (c0, c1) WHERE predicate)`.
fn exists(query: Box<Query>, width: usize, predicate: Expr, negated: bool) -> Expr {
    let columns = (0..width).map(|at| TableAliasColumnDef {
        name: Ident::new(format!("c{at}")),
        data_type: None,
    });
    let rows = TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::new(ROWS),
            columns: columns.collect(),
            at: None,
        }),
        sample: None,
    };
    let mut made = subquery::query_of(vec![Expr::value(Value::Number("1".to_owned(), false))]);
    if let SetExpr::Select(select) = made.body.as_mut() {
        select.from = vec![TableWithJoins {
            relation: rows,
            joins: Vec::new(),
        }];
        select.selection = Some(predicate);
    }
    Expr::Exists {
        subquery: Box::new(made),
        negated,
    }
}
