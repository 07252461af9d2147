//! Names of result columns as PostgreSQL gives them, kept unique for DataFusion.
//!
//! An expression without an alias gets PostgreSQL's name as one. DataFusion wants names of one SELECT
//! to differ and PostgreSQL does not mind equal ones: a repeated name gets a mark and a number, which
//! [`shown`] takes off again where columns are described to the client.

use std::{collections::HashSet, ops::ControlFlow};

use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType as SqlType, Expr, FunctionArguments, Ident, ObjectNamePart, OrderByKind, Query, Select,
    SelectItem, SetExpr, TrimWhereField, Value, VisitorMut,
};

use super::types;

/// Stands before the number that makes a repeated name unique; no client can type it unquoted.
const MARK: char = '\u{1}';

/// A column's name as the client is to see it.
pub fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// Gives names to the columns of every SELECT.
pub(super) struct Namer;

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        number_order(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_columns(select);
        ControlFlow::Continue(())
    }
}

/// `SELECT DISTINCT f(x) ... ORDER BY f(x)` orders by number 1: the name given to f(x) would hide it.
fn number_order(query: &mut Query) {
    let (SetExpr::Select(select), Some(order)) = (query.body.as_ref(), &mut query.order_by) else {
        return;
    };
    let OrderByKind::Expressions(list) = &mut order.kind else {
        return;
    };
    if select.distinct.is_none() {
        return;
    }
    let expression = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => None,
        SelectItem::UnnamedExpr(expr) => Some(expr.to_string()),
        _ => None,
    };
    let items: Vec<Option<String>> = select.projection.iter().map(expression).collect();
    for by in list {
        let text = by.expr.to_string();
        if let Some(at) = items.iter().position(|i| i.as_ref() == Some(&text)) {
            by.expr = Expr::value(Value::Number((at + 1).to_string(), false));
        }
    }
}

fn name_columns(select: &mut Select) {
    let is_wild = |i: &SelectItem| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let wild = select.projection.iter().any(is_wild);
    let mut seen = HashSet::new();
    for item in &mut select.projection {
        let (expr, given) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.clone())),
            _ => continue,
        };
        let column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) && given.is_none();
        let name = match &given {
            Some(alias) if alias.quote_style.is_none() => alias.value.to_lowercase(),
            Some(alias) => alias.value.clone(),
            None => name_of(expr),
        };
        // A wildcard may bring a column of the same name, so a plain column beside it is marked too.
        let fresh = seen.insert(name.clone()) && !(wild && column);
        if fresh && (column || given.is_some()) {
            continue;
        }
        let unique = if fresh {
            name
        } else {
            format!("{name}{MARK}{}", seen.len())
        };
        seen.insert(unique.clone());
        let expr = super::dialect::take(expr);
        *item = SelectItem::ExprWithAlias {
            expr,
            alias: Ident::with_quote('"', unique),
        };
    }
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        ident.value.to_lowercase()
    }
}

fn name_of(expr: &Expr) -> String {
    named(expr).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// The name of an expression, and whether it is better than the name of a type cast to.
fn named(expr: &Expr) -> Option<(String, bool)> {
    let strong = |name: &str| Some((name.to_owned(), true));
    match expr {
        Expr::Identifier(ident) => Some((folded(ident), true)),
        Expr::CompoundIdentifier(parts) => parts.last().map(|i| (folded(i), true)),
        Expr::Function(f) => {
            let last = f.name.0.last().and_then(ObjectNamePart::as_ident).map(folded)?;
            let name = if matches!(f.args, FunctionArguments::Subquery(_)) {
                last.to_lowercase()
            } else {
                last
            };
            Some((name, true))
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => named(inner),
        Expr::Cast { expr, data_type, .. } => match named(expr) {
            Some((name, true)) => Some((name, true)),
            _ => type_name(data_type).map(|n| (n, false)),
        },
        Expr::TypedString(typed) => type_name(&typed.data_type).map(|n| (n, false)),
        Expr::Interval(_) => Some(("interval".to_owned(), false)),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(named) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".to_owned(), false)),
        },
        Expr::Subquery(query) => first_column(query).map(|n| (n, true)),
        Expr::Exists { .. } => strong("exists"),
        Expr::Array(_) => strong("array"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(field))) => Some((folded(field), true)),
            _ => named(root),
        },
        _ => None,
    }
}

fn type_name(data_type: &SqlType) -> Option<String> {
    match (types::resolve(data_type), data_type) {
        (Some((pg_type, _)), _) => Some(pg_type.name().trim_start_matches('_').to_owned()),
        (None, SqlType::Custom(name, _)) => types::custom_name(name),
        (None, _) => None,
    }
}

fn first_column(query: &Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    match select.projection.first()? {
        SelectItem::UnnamedExpr(expr) => named(expr).map(|(name, _)| name),
        SelectItem::ExprWithAlias { alias, .. } => Some(shown(&folded(alias)).to_owned()),
        _ => None,
    }
}
