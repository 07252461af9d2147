//! PostgreSQL's spellings, turned into ones that DataFusion's planner takes.
//!
//! [`rewrite`] walks the parsed statement and knows no particular query. What it cannot decide
//! without types is decided later, by [`super::operators`] and [`super::from`].

use std::{collections::BTreeMap, ops::ControlFlow};

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType as SqlType, Expr, Fetch, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, LimitClause, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SetExpr, Statement, TableFactor, TableFunctionArgs, TypedString, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use super::{
    convert,
    dialect_calls::{array_literal, fields, function, like_any, quantified, same_casts},
    from, names, spelling, subquery, tuples, types,
};
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

/// The number of a parameter that stands alone.
fn parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => parameter(inner),
        _ => None,
    }
}

impl Visitor for Parameters {
    type Break = ();

    /// What counts rows is a bigint.
    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let (limit, offset) = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => (limit.as_ref(), offset.as_ref().map(|o| &o.value)),
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
            None => (None, None),
        };
        let fetch = query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref());
        for number in [limit, offset, fetch].into_iter().flatten().filter_map(parameter) {
            self.0.entry(number).or_insert(PgType::Scalar(Scalar::Int8));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Expr::Value(_) = expr.as_ref()
            && let Some(number) = parameter(expr)
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
        let rows = RowsOf(factors(select).filter_map(derived).collect());
        if !rows.0.is_empty() {
            VisitMut::visit(select, &mut { rows })?;
        }
        let values = ValuesOf(factors(select).filter_map(json_alias).collect());
        match values.0.is_empty() {
            true => ControlFlow::Continue(()),
            false => VisitMut::visit(select, &mut { values }),
        }
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_first(query);
        if let SetExpr::Values(values) = query.body.as_mut() {
            let columns = values.rows.first().map_or(0, |row| row.len());
            for at in 0..columns {
                same_casts(values.rows.iter_mut().filter_map(|row| row.get_mut(at)));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        tuples::before(expr);
        match expr {
            Expr::Array(array) => same_casts(array.elem.iter_mut()),
            Expr::Like { .. } | Expr::ILike { .. } => like_any(expr),
            Expr::Value(value) => {
                if let Value::UnicodeStringLiteral(text) | Value::NationalStringLiteral(text) = &mut value.value {
                    value.value = Value::SingleQuotedString(std::mem::take(text));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        function_in_from(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        spelling::respell(expr);
        tuples::after(expr);
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

/// FETCH FIRST n ROWS ONLY is LIMIT n.
fn fetch_first(query: &mut Query) {
    let Some(Fetch {
        with_ties: false,
        percent: false,
        quantity,
    }) = &mut query.fetch
    else {
        return;
    };
    let one = || Expr::value(Value::Number("1".to_owned(), false));
    let most = quantity.take().unwrap_or_else(one);
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset {
                limit: Some(most),
                offset: None,
                limit_by: Vec::new(),
            });
        }
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = Some(most),
        Some(LimitClause::OffsetCommaLimit { limit, .. }) => *limit = most,
    }
    query.fetch = None;
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

/// The alias of a sub-query in FROM and the names of its columns, where they can be told.
fn derived(factor: &TableFactor) -> Option<(String, Vec<String>)> {
    let TableFactor::Derived {
        subquery,
        alias: Some(alias),
        ..
    } = factor
    else {
        return None;
    };
    let folded = |ident: &Ident| match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    };
    let named: Vec<String> = alias.columns.iter().map(|c| folded(&c.name)).collect();
    if !named.is_empty() {
        return Some((alias.name.value.clone(), named));
    }
    let SetExpr::Select(select) = subquery.body.as_ref() else {
        return None;
    };
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(folded(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(folded),
        _ => None,
    };
    let columns: Option<Vec<String>> = select.projection.iter().map(name).collect();
    columns.map(|columns| (alias.name.value.clone(), columns))
}

/// `to_json(s)` of a sub-query's alias is the JSON of its row.
struct RowsOf(Vec<(String, Vec<String>)>);

impl VisitorMut for RowsOf {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        const OF_ROWS: &[&str] = &["row_to_json", "to_json", "to_jsonb", "json_agg", "jsonb_agg"];
        if let Expr::Function(f) = expr
            && single_name(&f.name).is_some_and(|name| OF_ROWS.contains(&name.as_str()))
            && let FunctionArguments::List(list) = &mut f.args
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = &mut list.args[..]
            && let Expr::Identifier(name) = value
            && let Some((alias, columns)) = self.0.iter().find(|(alias, _)| *alias == name.value)
            && !columns.contains(alias)
        {
            let fields = columns.iter().flat_map(|column| {
                let of = [Ident::new(alias), Ident::with_quote('"', column)];
                [text(names::shown(column)), Expr::CompoundIdentifier(of.into())]
            });
            *value = call("named_struct", fields.collect());
        }
        ControlFlow::Continue(())
    }
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
pub(super) const WITHOUT_PARENTHESES: &[&str] = &[
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

pub(super) fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

/// Takes a schema of PostgreSQL's own off a name; functions of others keep theirs.
pub(super) fn bare(name: &mut ObjectName) {
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
        if let SqlType::Custom(name, _) = data_type
            && let Some(name) = types::custom_name(name)
        {
            *expr = call(convert::CAST, vec![take(inner), text(&name)]);
        }
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
        PgType::Scalar(Scalar::Tsvector) => call("bulkhead_tsvector", vec![take(inner)]),
        PgType::Scalar(Scalar::Tsquery) => call("bulkhead_tsquery", vec![take(inner)]),
        PgType::Scalar(Scalar::Bytea) => call("bulkhead_bytea", vec![take(inner)]),
        PgType::Scalar(Scalar::Vector) => call(super::casts::TO_VECTOR, vec![take(inner), number(modifier)]),
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
pub(super) fn plain(expr: Expr, to: Scalar, modifier: i32) -> Expr {
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
