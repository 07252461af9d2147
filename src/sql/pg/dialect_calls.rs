//! Calls, lists and operators in PostgreSQL's spelling: the parts of an expression that [`super::dialect`] rewrites.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Subscript, UnaryOperator, Value,
};

use super::{
    dialect::{WITHOUT_PARENTHESES, bare, call, plain, single_name, take, text},
    from, series, subquery,
};
use crate::codec::pgtype::Scalar;

pub(super) fn function(expr: &mut Expr) {
    let Expr::Function(f) = expr else { return };
    let qualified = f.name.0.len() > 1;
    bare(&mut f.name);
    let Some(name) = single_name(&f.name) else { return };
    if let (FunctionArguments::Subquery(query), "array") = (&mut f.args, name.as_str()) {
        let mut query = std::mem::replace(query, Box::new(empty_query()));
        subquery::array(&mut query);
        *expr = call("bulkhead_or_empty", vec![Expr::Subquery(query)]);
        return;
    }
    let rename = |f: &mut Function, to: &str| f.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(to))]);
    match name.as_str() {
        _ if matches!(f.args, FunctionArguments::None) && WITHOUT_PARENTHESES.contains(&name.as_str()) => {
            *expr = call(&name, Vec::new());
        }
        // PostgreSQL's takes out every occurrence.
        "array_remove" => rename(f, "array_remove_all"),
        "every" => rename(f, "bool_and"),
        "array_cat" => rename(f, "array_concat"),
        "transaction_timestamp" | "statement_timestamp" | "localtimestamp"
            if arguments(f).is_none_or(|a| a.is_empty()) =>
        {
            let now = call("now", Vec::new());
            *expr = match name.as_str() {
                "localtimestamp" => plain(now, Scalar::Timestamp, -1),
                _ => now,
            };
        }
        "age" if arguments(f).is_some_and(|a| a.len() == 1) => {
            if let FunctionArguments::List(list) = &mut f.args {
                let today = FunctionArg::Unnamed(FunctionArgExpr::Expr(call("current_date", Vec::new())));
                list.args.insert(0, today);
            }
        }
        "make_interval" => named_arguments(f, &["years", "months", "weeks", "days", "hours", "mins", "secs"]),
        "json_agg" | "jsonb_agg" => {
            let (each, join) = match name.as_str() {
                "json_agg" => ("to_json", "bulkhead_json_join"),
                _ => ("to_jsonb", "bulkhead_jsonb_join"),
            };
            if let FunctionArguments::List(list) = &mut f.args
                && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = &mut list.args[..]
            {
                *value = call(each, vec![take(value)]);
                rename(f, "array_agg");
                let gathered = take(expr);
                *expr = call(join, vec![gathered]);
            }
        }
        "row_number" | "rank" | "dense_rank" if f.over.is_some() => *expr = plain(take(expr), Scalar::Int8, -1),
        "ntile" if f.over.is_some() => *expr = plain(take(expr), Scalar::Int4, -1),
        _ if from::json_list(&name).is_some() => {
            if let Some(list) = from::json_list(&name) {
                rename(f, list);
            }
            let rows = take(expr);
            *expr = call("unnest", vec![rows]);
        }
        // The literal is an empty array, or the text it looks like: the first argument's type tells.
        "coalesce" if arguments(f).is_some_and(|a| matches!(a.as_slice(), [_, last] if is_empty_array(last))) => {
            rename(f, "bulkhead_or_empty");
        }
        "_pg_expandarray" => {
            rename(f, "bulkhead_expandarray");
            let rows = take(expr);
            *expr = call("unnest", vec![rows]);
        }
        "pg_listening_channels" => {
            let channels = take(expr);
            *expr = call("unnest", vec![channels]);
        }
        "generate_series" => {
            rename(f, series::SERIES);
            let series = take(expr);
            *expr = call("unnest", vec![series]);
        }
        "generate_subscripts" => {
            if let Some(list) = arguments(f).and_then(|a| a.into_iter().next()) {
                let upper = call("array_upper", vec![list, one()]);
                *expr = call("unnest", vec![call(series::SERIES, vec![one(), upper])]);
            }
        }
        // A name made bare must not be quoted in a way that DataFusion takes literally.
        _ if qualified => rename(f, &name),
        _ => {}
    }
}

/// Named arguments to their places, 0 into the gaps.
fn named_arguments(f: &mut Function, names: &[&str]) {
    let FunctionArguments::List(list) = &mut f.args else {
        return;
    };
    let mut places: Vec<Option<Expr>> = vec![None; names.len()];
    let mut next = 0;
    for argument in list.args.drain(..) {
        let (at, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(next), value),
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                ..
            }
            | FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (names.iter().position(|n| name.value.eq_ignore_ascii_case(n)), value),
            _ => continue,
        };
        next += 1;
        if let Some(place) = at.and_then(|at| places.get_mut(at)) {
            *place = Some(value);
        }
    }
    let zero = || Expr::value(Value::Number("0".to_owned(), false));
    let values = places.into_iter().map(|p| p.unwrap_or_else(zero));
    list.args = values.map(|v| FunctionArg::Unnamed(FunctionArgExpr::Expr(v))).collect();
}

/// Literals without a type beside casts to one, in a list whose items have one type: they are cast, too.
pub(super) fn same_casts<'a>(items: impl Iterator<Item = &'a mut Expr>) {
    let mut items: Vec<&mut Expr> = items.collect();
    let found = items.iter().find_map(|item| match &**item {
        Expr::Cast { data_type, .. } => Some(data_type.clone()),
        Expr::TypedString(typed) => Some(typed.data_type.clone()),
        _ => None,
    });
    let Some(data_type) = found else { return };
    for item in &mut items {
        let literal = |v: &Value| matches!(v, Value::SingleQuotedString(_) | Value::Null);
        if matches!(&**item, Expr::Value(value) if literal(&value.value)) {
            **item = Expr::Cast {
                kind: CastKind::DoubleColon,
                expr: Box::new(take(item)),
                data_type: data_type.clone(),
                array: false,
                format: None,
            };
        }
    }
}

/// `x LIKE ANY (ARRAY[a, b])` as several comparisons.
pub(super) fn like_any(expr: &mut Expr) {
    let (Expr::Like { any, pattern, .. } | Expr::ILike { any, pattern, .. }) = expr else {
        return;
    };
    let mut list = pattern.as_ref();
    while let Expr::Nested(inner) = list {
        list = inner;
    }
    let Expr::Array(array) = list else { return };
    if !*any {
        return;
    }
    let patterns = array.elem.clone();
    let each = patterns.into_iter().map(|one| {
        let mut like = expr.clone();
        if let Expr::Like { any, pattern, .. } | Expr::ILike { any, pattern, .. } = &mut like {
            *any = false;
            **pattern = one;
        }
        like
    });
    let either = each.reduce(|a, b| Expr::BinaryOp {
        left: Box::new(a),
        op: BinaryOperator::Or,
        right: Box::new(b),
    });
    if let Some(either) = either {
        *expr = Expr::Nested(Box::new(either));
    }
}

fn is_empty_array(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(v) if matches!(&v.value, Value::SingleQuotedString(s) if s == "{}"))
}

fn one() -> Expr {
    Expr::value(Value::Number("1".to_owned(), false))
}

/// The arguments where all are positional expressions.
fn arguments(f: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &f.args else {
        return None;
    };
    let each = |a: &FunctionArg| match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
        _ => None,
    };
    list.args.iter().map(each).collect()
}

fn empty_query() -> Query {
    subquery::query_of(Vec::new())
}

/// `x = ANY ('{a,b}')`: the literal is an array of whatever it holds.
pub(super) fn array_literal(right: &mut Box<Expr>) {
    let Expr::Value(value) = right.as_ref() else { return };
    let Value::SingleQuotedString(literal) = &value.value else {
        return;
    };
    let Some(elements) = super::casts::parse_array(literal) else {
        return;
    };
    let numbers = !elements.is_empty() && elements.iter().flatten().all(|e| e.parse::<i64>().is_ok());
    let element = if numbers { "int8" } else { "text" };
    **right = call("bulkhead_array", vec![text(literal), text(element)]);
}

/// `= ANY (SELECT ...)` is IN, `<> ALL (SELECT ...)` is NOT IN.
pub(super) fn quantified(expr: &mut Expr) {
    let (left, negated, right) = match expr {
        Expr::AnyOp {
            left,
            compare_op: BinaryOperator::Eq,
            right,
            ..
        } => (left, false, right),
        Expr::AllOp {
            left,
            compare_op: BinaryOperator::NotEq,
            right,
        } => (left, true, right),
        _ => return,
    };
    match right.as_mut() {
        Expr::Subquery(query) => {
            let subquery = std::mem::replace(query, Box::new(empty_query()));
            *expr = Expr::InSubquery {
                expr: Box::new(take(left)),
                subquery,
                negated,
            };
        }
        list if negated => {
            let has = Expr::AnyOp {
                left: Box::new(take(left)),
                compare_op: BinaryOperator::Eq,
                right: Box::new(take(list)),
                is_some: false,
            };
            *expr = Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(has),
            };
        }
        _ => {}
    }
}

/// `(row).field` as `row['field']`; of `table.column[1]` the first dots name the column.
pub(super) fn fields(root: &Expr, access_chain: &mut [AccessExpr]) {
    let mut naming = matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    for access in access_chain {
        match access {
            AccessExpr::Dot(Expr::Identifier(field)) if !naming => {
                *access = AccessExpr::Subscript(Subscript::Index {
                    index: text(&field.value),
                });
            }
            AccessExpr::Dot(_) => {}
            AccessExpr::Subscript(subscript) => {
                naming = false;
                if let Subscript::Slice {
                    lower_bound,
                    upper_bound,
                    ..
                } = subscript
                {
                    let last = || Expr::value(Value::Number(i32::MAX.to_string(), false));
                    lower_bound.get_or_insert_with(one);
                    upper_bound.get_or_insert_with(last);
                }
            }
        }
    }
}
