//! What our dialect adds to the parsed statement, before it is planned: named arguments and
//! defaults of our functions, and pgvector's operators.

use std::{collections::HashMap, ops::ControlFlow};

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, OrderBy,
    OrderByKind, Query, SelectItem, SetExpr, Statement, TableFactor, UnaryOperator, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

use super::{
    functions::{self, Function, Kind},
    tables,
    world::World,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
};

/// Rewrites a statement; gives the types that calls of our functions tell of its parameters, by
/// number from 1.
pub(super) fn rewrite(statement: &mut Statement, world: &World) -> Result<HashMap<usize, PgType>> {
    let mut dialect = Dialect {
        world,
        parameters: HashMap::new(),
    };
    match VisitMut::visit(statement, &mut dialect) {
        ControlFlow::Continue(()) => Ok(dialect.parameters),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Dialect<'a> {
    world: &'a World,
    parameters: HashMap<usize, PgType>,
}

impl Dialect<'_> {
    fn saw(&mut self, expr: &Expr, pg_type: PgType) {
        if let Some(number) = placeholder(expr) {
            self.parameters.entry(number).or_insert(pg_type);
        }
    }

    /// Named arguments to their places, defaults into the gaps.
    fn arrange(&mut self, function: &'static Function, args: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
        function.check_role(self.world)?;
        let mut places: Vec<Option<Expr>> = vec![None; function.parameters.len()];
        let mut position = 0;
        for arg in args {
            let (place, value) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => {
                    position += 1;
                    (position - 1, value)
                }
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(value),
                    ..
                } => {
                    let name = Expr::Identifier(name);
                    (place_of(function, &name)?, value)
                }
                FunctionArg::ExprNamed {
                    name,
                    arg: FunctionArgExpr::Expr(value),
                    ..
                } => (place_of(function, &name)?, value),
                _ => return Err(no_match(function)),
            };
            match places.get_mut(place) {
                Some(free @ None) => *free = Some(value),
                _ => return Err(no_match(function)),
            }
        }
        let filled = places.into_iter().zip(function.parameters).map(|(value, parameter)| {
            let value = match (value, parameter.default) {
                (Some(value), _) => value,
                (None, Some(default)) => literal(default)?,
                (None, None) => return Err(no_match(function)),
            };
            self.saw(&value, parameter.kind.pg_type());
            let value = match parameter.kind {
                Kind::Usd => exact(value),
                _ => value,
            };
            Ok(FunctionArg::Unnamed(FunctionArgExpr::Expr(value)))
        });
        filled.collect()
    }
}

/// The defaults of the list of functions, which are SQL text.
fn literal(sql: &str) -> Result<Expr> {
    Parser::new(&PostgreSqlDialect {})
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(Error::internal)
}

/// A literal number as the text it was written as, so that it does not become a float.
fn exact(value: Expr) -> Expr {
    fn written(value: &Expr) -> Option<String> {
        match value {
            Expr::Value(literal) => match &literal.value {
                Value::Number(number, _) => Some(number.to_string()),
                _ => None,
            },
            Expr::Nested(inner) => written(inner),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => written(expr).map(|number| format!("-{number}")),
            _ => None,
        }
    }
    match written(&value) {
        Some(number) => Expr::Value(Value::SingleQuotedString(number).into()),
        None => value,
    }
}

/// The place of a named argument. `user` is the one name of ours that the parser takes for a call.
fn place_of(function: &Function, name: &Expr) -> Result<usize> {
    let wanted = match name {
        Expr::Identifier(name) => name.value.to_lowercase(),
        Expr::Function(call) if is_bare(call) => call.name.to_string().to_lowercase(),
        _ => return Err(no_match(function)),
    };
    let place = function.parameters.iter().position(|p| p.name == wanted);
    place.ok_or_else(|| no_match(function))
}

fn is_bare(call: &ast::Function) -> bool {
    match &call.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty(),
        FunctionArguments::Subquery(_) => false,
    }
}

fn no_match(function: &Function) -> Error {
    Error::new(
        Code::UndefinedFunction,
        format!("function {} does not exist with these arguments", function.name),
    )
    .with_hint(format!("it is {}({})", function.name, function.signature()))
}

fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

impl VisitorMut for Dialect<'_> {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let (name, args) = match factor {
            TableFactor::Table {
                name, args: Some(args), ..
            } => (name, &mut args.args),
            TableFactor::Function { name, args, .. } => (name, args),
            _ => return ControlFlow::Continue(()),
        };
        let Some(function) = functions::find(self.world, &name.to_string().to_lowercase()) else {
            return ControlFlow::Continue(());
        };
        match self.arrange(function, std::mem::take(args)) {
            Ok(arranged) => *args = arranged,
            Err(error) => return ControlFlow::Break(error),
        }
        if function.name == "vector_search" {
            let args = std::mem::take(args);
            match tables::nearest::search(self.world, &args) {
                Ok(Some(query)) => tables::nearest::replace(factor, query),
                Ok(None) => tables::nearest::give_back(factor, args),
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }

    /// A function that waits cannot run while rows are sorted: `ORDER BY embedding <=> ai.embed('...')`
    /// computes it once, before.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let Some(OrderBy {
            kind: OrderByKind::Expressions(by),
            ..
        }) = &mut query.order_by
        else {
            return ControlFlow::Continue(());
        };
        for by in by {
            let world = self.world;
            let hoisted: ControlFlow<Error> = ast::visit_expressions_mut(&mut by.expr, |expr| {
                if is_constant_call(expr, world) {
                    match select(expr.clone()) {
                        Ok(subquery) => *expr = subquery,
                        Err(error) => return ControlFlow::Break(error),
                    }
                }
                ControlFlow::Continue(())
            });
            if let ControlFlow::Break(error) = hoisted {
                return ControlFlow::Break(error);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(call) = expr else {
            return ControlFlow::Continue(());
        };
        let name = call.name.to_string().to_lowercase();
        let Some(function) = functions::find(self.world, &name) else {
            return ControlFlow::Continue(());
        };
        let FunctionArguments::List(list) = &mut call.args else {
            return ControlFlow::Break(no_match(function));
        };
        if !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
            return ControlFlow::Break(no_match(function));
        }
        match self.arrange(function, std::mem::take(&mut list.args)) {
            Ok(arranged) => list.args = arranged,
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::BinaryOp { left, op, right } = expr
            && let Some(function) = vector_operator(op)
        {
            let null = || Box::new(Expr::Value(Value::Null.into()));
            let left = std::mem::replace(left, null());
            let right = std::mem::replace(right, null());
            for operand in [&left, &right] {
                self.saw(operand, PgType::Scalar(Scalar::Vector));
            }
            // An operand without a type of its own is a vector.
            let vector = |operand: Box<Expr>| match *operand {
                operand @ Expr::Value(_) => call(super::pg::casts::TO_VECTOR, vec![operand]),
                other => other,
            };
            let (left, right) = (vector(left), vector(right));
            *expr = call(function, vec![left, right]);
        }
        ControlFlow::Continue(())
    }
}

/// Whether this calls one of our functions, without effect, with arguments that no row changes.
fn is_constant_call(expr: &Expr, world: &World) -> bool {
    let Expr::Function(call) = expr else { return false };
    let ours = functions::find(world, &call.name.to_string().to_lowercase()).is_some_and(|f| !f.effect);
    ours && ast::visit_expressions(&call.args, |arg| match arg {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_continue()
}

/// `(SELECT expr)`.
fn select(expr: Expr) -> Result<Expr> {
    let mut subquery = literal("(SELECT NULL)")?;
    if let Expr::Subquery(query) = &mut subquery
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.projection = vec![SelectItem::UnnamedExpr(expr)];
    }
    Ok(subquery)
}

fn vector_operator(op: &BinaryOperator) -> Option<&'static str> {
    match op {
        BinaryOperator::Spaceship => Some("cosine_distance"),
        BinaryOperator::LtDashGt => Some("l2_distance"),
        BinaryOperator::Custom(op) => match op.as_str() {
            "<#>" => Some("negative_inner_product"),
            "<+>" => Some("l1_distance"),
            _ => None,
        },
        _ => None,
    }
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args
        .into_iter()
        .map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a)))
        .collect();
    Expr::Function(ast::Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
