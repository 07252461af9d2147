//! PostgreSQL's spellings, turned into ones that DataFusion's planner takes.
//!
//! [`rewrite`] walks the parsed statement and knows no particular query. What it cannot decide
//! without types is decided later, by [`super::operators`] and [`super::from`].

use std::{collections::BTreeMap, ops::ControlFlow};

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType as SqlType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select, Statement, Subscript,
    TableFactor, TableFunctionArgs, TypedString, UnaryOperator, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use super::{convert, from, names, subquery, types};
use crate::codec::pgtype::{PgType, Scalar};

/// Rewrites a statement in place. To be called once, after the statement was judged and before it
/// is planned.
pub fn rewrite(statement: &mut Statement) {
    let _ = VisitMut::visit(statement, &mut names::Namer);
    let _ = VisitMut::visit(statement, &mut Rewriter);
}

/// Types that casts in the statement as the client sent it give to its parameters, by number from 1.
pub fn parameter_types(statement: &Statement) -> BTreeMap<usize, PgType> {
    let mut found = Parameters(BTreeMap::new());
    let _ = Visit::visit(statement, &mut found);
    found.0
}

struct Parameters(BTreeMap<usize, PgType>);

impl Visitor for Parameters {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Expr::Value(value) = expr.as_ref()
            && let Value::Placeholder(name) = &value.value
            && let Some(number) = name.strip_prefix('$').and_then(|n| n.parse().ok())
            && let Some((pg_type, _)) = types::resolve(data_type)
        {
            self.0.entry(number).or_insert(pg_type);
        }
        ControlFlow::Continue(())
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut tables = TableOids(BTreeMap::new());
        factors(select).for_each(|factor| tables.add(factor));
        VisitMut::visit(select, &mut tables)?;
        let values = ValuesOf(factors(select).filter_map(json_alias).collect());
        match values.0.is_empty() {
            true => ControlFlow::Continue(()),
            false => VisitMut::visit(select, &mut { values }),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        function_in_from(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { op, .. } => operator(op),
            Expr::Collate { expr: inner, .. } => *expr = take(inner),
            Expr::Cast { .. } | Expr::TypedString(_) => cast(expr),
            Expr::Interval(_) => interval(expr),
            Expr::Extract { field, expr: from, .. } => {
                let field = text(&field.to_string().trim_matches('\'').to_lowercase());
                *expr = call("bulkhead_extract", vec![field, take(from)]);
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                *expr = call("timezone", vec![take(time_zone), take(timestamp)]);
            }
            Expr::Function(_) => function(expr),
            Expr::Identifier(ident) if ident.quote_style.is_none() => {
                let name = ident.value.to_lowercase();
                if WITHOUT_PARENTHESES.contains(&name.as_str()) {
                    *expr = call(&name, Vec::new());
                }
            }
            Expr::AnyOp { compare_op, right, .. } | Expr::AllOp { compare_op, right, .. } => {
                operator(compare_op);
                array_literal(right);
                quantified(expr);
            }
            Expr::Like {
                pattern, escape_char, ..
            }
            | Expr::ILike {
                pattern, escape_char, ..
            } => {
                if let Some(escape) = escape_char.take() {
                    **pattern = call("bulkhead_pattern", vec![take(pattern), Expr::Value(escape)]);
                }
            }
            Expr::Subquery(query) => subquery::single(query),
            Expr::CompoundFieldAccess { root, access_chain } => fields(root, access_chain),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn factors(select: &Select) -> impl Iterator<Item = &TableFactor> {
    select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation)))
}

/// The alias of a function in FROM whose one column is called `value`.
fn json_alias(factor: &TableFactor) -> Option<String> {
    let (TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. }) = factor else {
        return None;
    };
    let mut name = name.clone();
    bare(&mut name);
    let alias = alias.as_ref().filter(|a| a.columns.is_empty())?;
    let one = from::json_list(&single_name(&name)?)?;
    (one != from::KEYS).then(|| alias.name.value.clone())
}

/// The name of such a function stands for its value.
struct ValuesOf(Vec<String>);

impl VisitorMut for ValuesOf {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && self.0.contains(&name.value)
        {
            *expr = Expr::CompoundIdentifier(vec![name.clone(), Ident::new("value")]);
        }
        ControlFlow::Continue(())
    }
}

/// Puts the OID of a table, looked up by its name, in place of its hidden column `tableoid`.
struct TableOids(BTreeMap<String, String>);

impl TableOids {
    fn add(&mut self, factor: &TableFactor) {
        if let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = factor
            && let Some(last) = name.0.last().and_then(ObjectNamePart::as_ident)
        {
            let called = alias.as_ref().map_or(last, |a| &a.name);
            self.0.insert(called.value.clone(), name.to_string());
        }
    }
}

impl VisitorMut for TableOids {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let table = match expr {
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column] if column.value == "tableoid" => self.0.get(&table.value),
                _ => None,
            },
            Expr::Identifier(column) if column.value == "tableoid" && self.0.len() == 1 => self.0.values().next(),
            _ => None,
        };
        if let Some(table) = table {
            *expr = call("bulkhead_regclass", vec![text(table)]);
        }
        ControlFlow::Continue(())
    }
}

/// Functions that SQL calls without parentheses.
const WITHOUT_PARENTHESES: &[&str] = &[
    "current_catalog",
    "current_role",
    "current_schema",
    "current_user",
    "session_user",
    "user",
];

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments
        .into_iter()
        .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
        .collect();
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

/// Takes a schema of PostgreSQL's own off a name; functions of others keep theirs.
fn bare(name: &mut ObjectName) {
    let own = |part: &ObjectNamePart| {
        let ident = part.as_ident();
        ident.is_some_and(|i| {
            ["pg_catalog", "information_schema"]
                .iter()
                .any(|s| i.value.eq_ignore_ascii_case(s))
        })
    };
    if let [schema, _] = name.0.as_slice()
        && own(schema)
    {
        name.0.remove(0);
    }
}

/// The name of a function where it is a single one, in lower case unless quoted.
pub(super) fn single_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(|i| {
            if i.quote_style.is_some() {
                i.value.clone()
            } else {
                i.value.to_lowercase()
            }
        }),
        _ => None,
    }
}

fn operator(op: &mut BinaryOperator) {
    if let BinaryOperator::PGCustomBinaryOperator(parts) = op
        && let Some(symbol) = parts.last()
    {
        *op = match symbol.as_str() {
            "~" => BinaryOperator::PGRegexMatch,
            "~*" => BinaryOperator::PGRegexIMatch,
            "!~" => BinaryOperator::PGRegexNotMatch,
            "!~*" => BinaryOperator::PGRegexNotIMatch,
            "~~" => BinaryOperator::PGLikeMatch,
            "~~*" => BinaryOperator::PGILikeMatch,
            "!~~" => BinaryOperator::PGNotLikeMatch,
            "!~~*" => BinaryOperator::PGNotILikeMatch,
            "=" => BinaryOperator::Eq,
            "<>" => BinaryOperator::NotEq,
            "<" => BinaryOperator::Lt,
            "<=" => BinaryOperator::LtEq,
            ">" => BinaryOperator::Gt,
            ">=" => BinaryOperator::GtEq,
            "+" => BinaryOperator::Plus,
            "-" => BinaryOperator::Minus,
            "*" => BinaryOperator::Multiply,
            "/" => BinaryOperator::Divide,
            "%" => BinaryOperator::Modulo,
            "||" => BinaryOperator::StringConcat,
            "@>" => BinaryOperator::AtArrow,
            "<@" => BinaryOperator::ArrowAt,
            "&" => BinaryOperator::BitwiseAnd,
            "|" => BinaryOperator::BitwiseOr,
            other => BinaryOperator::PGCustomBinaryOperator(vec![other.to_owned()]),
        };
    }
}

/// What the argument of a cast is, as far as the rewritten tree tells.
fn reg_kind(expr: &Expr) -> Option<&'static str> {
    let inner = if let Expr::Nested(inner) = expr {
        inner.as_ref()
    } else {
        expr
    };
    let Expr::Function(f) = inner else { return None };
    match single_name(&f.name)?.as_str() {
        "bulkhead_regclass" => Some("regclass"),
        "bulkhead_regtype" => Some("regtype"),
        "bulkhead_regproc" => Some("regproc"),
        "bulkhead_regnamespace" => Some("regnamespace"),
        "bulkhead_regrole" => Some("regrole"),
        _ => None,
    }
}

/// The function that casts to an OID alias type.
fn reg_function(data_type: &SqlType) -> Option<&'static str> {
    let name = match data_type {
        SqlType::Regclass => return Some("bulkhead_regclass"),
        SqlType::Custom(name, _) => types::custom_name(name)?,
        _ => return None,
    };
    match name.as_str() {
        "regclass" => Some("bulkhead_regclass"),
        "regtype" => Some("bulkhead_regtype"),
        "regproc" | "regprocedure" => Some("bulkhead_regproc"),
        "regnamespace" => Some("bulkhead_regnamespace"),
        "regrole" => Some("bulkhead_regrole"),
        _ => None,
    }
}

fn cast(expr: &mut Expr) {
    if let Expr::TypedString(TypedString { data_type, value, .. }) = expr {
        *expr = Expr::Cast {
            kind: CastKind::DoubleColon,
            expr: Box::new(Expr::Value(value.clone())),
            data_type: data_type.clone(),
            array: false,
            format: None,
        };
    }
    let Expr::Cast {
        kind: CastKind::Cast | CastKind::DoubleColon,
        expr: inner,
        data_type,
        array: false,
        format: None,
    } = expr
    else {
        return;
    };
    if let Some(function) = reg_function(data_type) {
        *expr = call(function, vec![take(inner)]);
        return;
    }
    let Some((pg_type, modifier)) = types::resolve(data_type) else {
        return;
    };
    let number = |n: i32| Expr::value(Value::Number(n.to_string(), false));
    *expr = match pg_type {
        PgType::Scalar(Scalar::Text | Scalar::Varchar | Scalar::Name) if reg_kind(inner).is_some() => {
            let kind = reg_kind(inner).map(text);
            call("bulkhead_regtext", [take(inner)].into_iter().chain(kind).collect())
        }
        PgType::Scalar(Scalar::Uuid) => call("bulkhead_uuid", vec![take(inner)]),
        PgType::Scalar(Scalar::Json) => call("bulkhead_json", vec![take(inner)]),
        PgType::Scalar(Scalar::Jsonb) => call("bulkhead_jsonb", vec![take(inner)]),
        PgType::Scalar(Scalar::Bytea) => call("bulkhead_bytea", vec![take(inner)]),
        PgType::Scalar(Scalar::Vector) => call("bulkhead_vector", vec![take(inner), number(modifier)]),
        PgType::Scalar(Scalar::Halfvec) => call("bulkhead_halfvec", vec![take(inner), number(modifier)]),
        PgType::Array(element) => call("bulkhead_array", vec![take(inner), text(element.name())]),
        PgType::Scalar(scalar @ (Scalar::Varchar | Scalar::Bpchar)) if modifier > 4 => {
            let whole = plain(take(inner), Scalar::Text, -1);
            plain(call("left", vec![whole, number(modifier - 4)]), scalar, -1)
        }
        PgType::Scalar(scalar) if convert::is_plain(scalar) => plain(take(inner), scalar, modifier),
        _ => return,
    };
}

/// A cast to a plain type.
fn plain(expr: Expr, to: Scalar, modifier: i32) -> Expr {
    let mut arguments = vec![expr, text(to.name())];
    if modifier >= 0 {
        arguments.push(text(&modifier.to_string()));
    }
    call(convert::CAST, arguments)
}

/// `INTERVAL '1' DAY` and `INTERVAL '1 day 02:00'` as the cast of a text.
fn interval(expr: &mut Expr) {
    let Expr::Interval(interval) = expr else { return };
    let Expr::Value(value) = interval.value.as_ref() else {
        return;
    };
    let Value::SingleQuotedString(written) = &value.value else {
        return;
    };
    let written = match &interval.leading_field {
        Some(unit) if written.trim().parse::<f64>().is_ok() => format!("{written} {unit}"),
        _ => written.clone(),
    };
    *expr = plain(text(&written), Scalar::Interval, -1);
}

fn function(expr: &mut Expr) {
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
            let series = take(expr);
            *expr = call("unnest", vec![series]);
        }
        "generate_subscripts" => {
            if let Some(list) = arguments(f).and_then(|a| a.into_iter().next()) {
                let upper = Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(call("array_upper", vec![list, one()])),
                    data_type: SqlType::BigInt(None),
                    array: false,
                    format: None,
                };
                *expr = call("unnest", vec![call("generate_series", vec![one(), upper])]);
            }
        }
        // A name made bare must not be quoted in a way that DataFusion takes literally.
        _ if qualified => rename(f, &name),
        _ => {}
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
fn array_literal(right: &mut Box<Expr>) {
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
fn quantified(expr: &mut Expr) {
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
fn fields(root: &Expr, access_chain: &mut [AccessExpr]) {
    let mut naming = matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    for access in access_chain {
        match access {
            AccessExpr::Dot(Expr::Identifier(field)) if !naming => {
                *access = AccessExpr::Subscript(Subscript::Index {
                    index: text(&field.value),
                });
            }
            AccessExpr::Dot(_) => {}
            AccessExpr::Subscript(_) => naming = false,
        }
    }
}

/// A function in FROM may use what stands left of it, as in PostgreSQL.
fn function_in_from(factor: &mut TableFactor) {
    match factor {
        TableFactor::Table {
            name,
            args: Some(TableFunctionArgs { args, .. }),
            alias,
            with_ordinality,
            ..
        } => {
            bare(name);
            let lateral = args.iter().any(names_column);
            if lateral || *with_ordinality {
                let (name, args) = (name.clone(), std::mem::take(args));
                let (alias, with_ordinality) = (alias.take(), *with_ordinality);
                *factor = TableFactor::Function {
                    lateral,
                    name,
                    args,
                    with_ordinality,
                    alias,
                };
            }
        }
        TableFactor::Function { name, .. } => bare(name),
        _ => {}
    }
}

fn names_column(argument: &FunctionArg) -> bool {
    struct Columns;
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(i) if i.quote_style.is_none() && WITHOUT_PARENTHESES.contains(&i.value.as_str()) => {
                    ControlFlow::Continue(())
                }
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(argument, &mut Columns).is_break()
}
