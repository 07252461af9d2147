//! `x = ANY($1)`: a parameter of which nothing tells the type is an array of what it is compared with. DataFusion infers
//! the types of parameters in plain comparisons only, so the statement is planned once as if it were one.

use std::{collections::BTreeSet, ops::ControlFlow};

use datafusion::sql::sqlparser::ast::{Expr, Statement, Value, VisitMut, VisitorMut};

/// The statement with a plain comparison in place of each ANY and ALL of a bare parameter, and the numbers of these
/// parameters; `None` if there are none among those of unknown type.
pub(super) fn compared(statement: &Statement, unknown: impl Fn(usize) -> bool) -> Option<(Statement, BTreeSet<usize>)> {
    let mut plain = statement.clone();
    let mut visitor = Compared {
        unknown,
        found: BTreeSet::new(),
    };
    let _ = VisitMut::visit(&mut plain, &mut visitor);
    (!visitor.found.is_empty()).then_some((plain, visitor.found))
}

struct Compared<F> {
    unknown: F,
    found: BTreeSet<usize>,
}

/// The number of a bare parameter.
fn number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => number(inner),
        _ => None,
    }
}

impl<F: Fn(usize) -> bool> VisitorMut for Compared<F> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::AnyOp {
            left,
            compare_op,
            right,
            ..
        }
        | Expr::AllOp {
            left,
            compare_op,
            right,
        } = expr
            && let Some(number) = number(right).filter(|number| (self.unknown)(*number))
        {
            self.found.insert(number);
            *expr = Expr::BinaryOp {
                left: left.clone(),
                op: compare_op.clone(),
                right: right.clone(),
            };
        }
        ControlFlow::Continue(())
    }
}
