//! Expressions of a plan as PostgreSQL would print them, as far as they are of its kind.

use std::sync::Arc;

use datafusion::{
    common::ScalarValue,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr,
        expressions::{
            BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
            NotExpr,
        },
    },
};

use crate::{codec::pgtype::PgType, sql::pg};

/// Deeper parts of an expression are not printed: nobody reads them, and the stack is finite.
const DEPTH: usize = 64;

/// An expression.
pub(super) fn print(expr: &Arc<dyn PhysicalExpr>) -> String {
    at_depth(expr, 0)
}

/// A key of a sort.
pub(super) fn sort_key(key: &PhysicalSortExpr) -> String {
    let mut text = print(&key.expr);
    let (descending, nulls_first) = (key.options.descending, key.options.nulls_first);
    if descending {
        text.push_str(" DESC");
    }
    // Nulls come last, or first where the order is descending, unless it is said.
    if nulls_first != descending {
        text.push_str(if nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
    }
    text
}

fn at_depth(expr: &Arc<dyn PhysicalExpr>, depth: usize) -> String {
    if depth > DEPTH {
        return "...".to_owned();
    }
    let inner = |expr: &Arc<dyn PhysicalExpr>| at_depth(expr, depth + 1);
    let list = |exprs: &[Arc<dyn PhysicalExpr>]| exprs.iter().map(inner).collect::<Vec<_>>().join(", ");
    if let Some(column) = expr.downcast_ref::<Column>() {
        return pg::catalog::quote_ident(pg::names::shown(column.name()));
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return constant(literal.value());
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (inner(binary.left()), inner(binary.right()));
        return format!("({left} {} {right})", operator(*binary.op()));
    }
    if let Some(not) = expr.downcast_ref::<NotExpr>() {
        return format!("(NOT {})", inner(not.arg()));
    }
    if let Some(null) = expr.downcast_ref::<IsNullExpr>() {
        return format!("({} IS NULL)", inner(null.arg()));
    }
    if let Some(null) = expr.downcast_ref::<IsNotNullExpr>() {
        return format!("({} IS NOT NULL)", inner(null.arg()));
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
        return format!("(- {})", inner(negative.arg()));
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        let not = if like.negated() { "!" } else { "" };
        let star = if like.case_insensitive() { "*" } else { "" };
        return format!("({} {not}~~{star} {})", inner(like.expr()), inner(like.pattern()));
    }
    if let Some(among) = expr.downcast_ref::<InListExpr>() {
        let (value, items) = (inner(among.expr()), list(among.list()));
        return match among.negated() {
            false => format!("({value} = ANY (ARRAY[{items}]))"),
            true => format!("({value} <> ALL (ARRAY[{items}]))"),
        };
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let pg_type = PgType::of_arrow(cast.cast_type());
        let name = i32::try_from(pg_type.oid()).ok();
        let name = name.and_then(|oid| pg::types::format_type(oid, -1));
        let name = name.unwrap_or_else(|| pg_type.name());
        return match cast.expr().downcast_ref::<Column>() {
            Some(_) => format!("({})::{name}", inner(cast.expr())),
            None => format!("{}::{name}", inner(cast.expr())),
        };
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return format!("{}({})", call.name(), list(call.args()));
    }
    // What stands around another without a sign of itself.
    if let [only] = expr.children().as_slice()
        && expr.to_string() == only.to_string()
    {
        return inner(only);
    }
    let text = expr.to_string();
    let shown: String = text.chars().take(300).collect();
    shown
}

fn operator(op: Operator) -> String {
    match op {
        Operator::NotEq => "<>".to_owned(),
        Operator::LikeMatch => "~~".to_owned(),
        Operator::ILikeMatch => "~~*".to_owned(),
        Operator::NotLikeMatch => "!~~".to_owned(),
        Operator::NotILikeMatch => "!~~*".to_owned(),
        Operator::RegexMatch => "~".to_owned(),
        Operator::RegexIMatch => "~*".to_owned(),
        Operator::RegexNotMatch => "!~".to_owned(),
        Operator::RegexNotIMatch => "!~*".to_owned(),
        Operator::StringConcat => "||".to_owned(),
        other => other.to_string(),
    }
}

fn constant(value: &ScalarValue) -> String {
    let quoted = |text: &str, name: &str| {
        let shown: String = text.chars().take(200).collect();
        format!("'{}'::{name}", shown.replace('\'', "''"))
    };
    match value {
        value if value.is_null() => "NULL".to_owned(),
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            quoted(text, "text")
        }
        ScalarValue::Boolean(Some(truth)) => truth.to_string(),
        ScalarValue::Int8(_)
        | ScalarValue::Int16(_)
        | ScalarValue::Int32(_)
        | ScalarValue::Int64(_)
        | ScalarValue::UInt8(_)
        | ScalarValue::UInt16(_)
        | ScalarValue::UInt32(_)
        | ScalarValue::UInt64(_) => value.to_string(),
        other => {
            let pg_type = PgType::of_arrow(&other.data_type());
            let name = i32::try_from(pg_type.oid()).ok();
            let name = name.and_then(|oid| pg::types::format_type(oid, -1));
            quoted(&other.to_string(), &name.unwrap_or_else(|| pg_type.name()))
        }
    }
}
