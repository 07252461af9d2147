//! Expressions that are kept as text: parsed, planned over one table, judged when they are made.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::TableProvider,
    config::ConfigOptions,
    datasource::empty::EmptyTable,
    logical_expr::LogicalPlan,
    sql::sqlparser::ast::{
        self, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, Statement, TableAlias, TableFactor, Visit, Visitor,
    },
};

use super::cursor::fold;
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    sql::{
        guard::{self, Kind},
        pg,
        planner::{Context, LOCAL, Names},
        prepared,
    },
    table::schema::{Oid, TableDef},
};

/// Where expressions are planned: over the columns of one table, which its own queries read through policies.
pub(in crate::sql) struct Over<'a> {
    pub(in crate::sql) names: &'a Arc<Names>,
    pub(in crate::sql) options: &'a ConfigOptions,
    /// What the table is called.
    pub(in crate::sql) alias: &'a str,
    /// Where its rows come from.
    pub(in crate::sql) table: Arc<dyn TableProvider>,
    /// Tables whose policies are being planned, so that none is planned within itself.
    pub(in crate::sql) within: Vec<Oid>,
}

impl<'a> Over<'a> {
    /// Over no rows of these columns.
    pub(in crate::sql) fn nothing(
        names: &'a Arc<Names>,
        options: &'a ConfigOptions,
        alias: &'a str,
        schema: SchemaRef,
    ) -> Self {
        Self {
            names,
            options,
            alias,
            table: Arc::new(EmptyTable::new(schema)),
            within: Vec::new(),
        }
    }

    /// The plan of `SELECT items FROM table WHERE filter`.
    ///
    /// # Errors
    /// Whatever is wrong with the expressions.
    pub(in crate::sql) fn plan(&self, items: Vec<SelectItem>, filter: Option<Expr>) -> Result<LogicalPlan> {
        let mut statement = template()?;
        let Some(select) = select_of(&mut statement) else {
            return Err(Error::internal("the template of a query is none"));
        };
        select.projection = items;
        select.selection = filter;
        for from in &mut select.from {
            if let TableFactor::Table { name, alias, .. } = &mut from.relation {
                *name = ObjectName::from(vec![Ident::with_quote('"', LOCAL)]);
                *alias = Some(TableAlias {
                    explicit: true,
                    name: Ident::with_quote('"', self.alias),
                    columns: Vec::new(),
                    at: None,
                });
            }
        }
        let extra = [(LOCAL.to_owned(), self.table.clone())];
        let context = Context {
            names: self.names,
            path: stored_path(),
            options: self.options,
            extra: &extra,
            within: self.within.clone(),
            depth: 0,
        };
        prepared::plan_with(&context, statement)
    }
}

/// The search path of what is kept: names of relations in it are qualified.
pub(in crate::sql) fn stored_path() -> Vec<String> {
    ["public", "ai", "bulkhead"].map(str::to_owned).to_vec()
}

fn template() -> Result<Statement> {
    statement("SELECT 1 FROM t AS t WHERE true")
}

fn select_of(statement: &mut Statement) -> Option<&mut ast::Select> {
    match statement {
        Statement::Query(query) => match query.body.as_mut() {
            SetExpr::Select(select) => Some(select),
            _ => None,
        },
        _ => None,
    }
}

fn statement(text: &str) -> Result<Statement> {
    let mut parsed = guard::parse(text)?;
    match parsed.pop().map(|one| one.kind) {
        Some(Kind::Sql(statement)) if parsed.is_empty() => Ok(*statement),
        _ => Err(Error::internal("kept text is no statement of the parser's")),
    }
}

/// A kept expression.
///
/// # Errors
/// XX000 where it is none: it was one when it was kept.
pub(in crate::sql) fn expression(text: &str) -> Result<Expr> {
    let mut statement = statement(&format!("SELECT ({text})"))?;
    let item = select_of(&mut statement).and_then(|select| select.projection.pop());
    match item {
        Some(SelectItem::UnnamedExpr(Expr::Nested(expr))) => Ok(*expr),
        Some(SelectItem::UnnamedExpr(expr)) => Ok(expr),
        _ => Err(Error::internal("kept text is no expression")),
    }
}

/// A kept query.
///
/// # Errors
/// As [`expression`].
pub(in crate::sql) fn query(text: &str) -> Result<Box<Query>> {
    match statement(text)? {
        Statement::Query(query) => Ok(query),
        _ => Err(Error::internal("kept text is no query")),
    }
}

/// An expression as an item of a query.
pub(in crate::sql) fn item(expr: Expr) -> SelectItem {
    SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', "value"),
    }
}

/// Where an expression stands, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) enum Place {
    Default,
    Check,
    Generated,
    Index,
    IndexPredicate,
    Policy,
}

impl Place {
    fn subqueries(self) -> Option<&'static str> {
        match self {
            Self::Default => Some("cannot use subquery in DEFAULT expression"),
            Self::Check => Some("cannot use subquery in check constraint"),
            Self::Generated => Some("cannot use subquery in column generation expression"),
            Self::Index => Some("cannot use subquery in index expression"),
            Self::IndexPredicate => Some("cannot use subquery in index predicate"),
            Self::Policy => None,
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT expressions",
            Self::Check => "check constraints",
            Self::Generated => "column generation expressions",
            Self::Index => "index expressions",
            Self::IndexPredicate => "index predicates",
            Self::Policy => "policy expressions",
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Self::Check => "CHECK",
            Self::Policy => "POLICY",
            _ => "WHERE",
        }
    }
}

/// The type of an expression over a table's columns.
///
/// # Errors
/// Whatever is wrong with it, also what may not stand in this place.
pub(in crate::sql) fn check(
    names: &Arc<Names>,
    options: &ConfigOptions,
    table: &TableDef,
    expr: &Expr,
    place: Place,
) -> Result<PgType> {
    if let Some(text) = place.subqueries()
        && has_subquery(expr)
    {
        return Err(Error::new(Code::Unsupported, text));
    }
    let schema = match place {
        Place::Default => {
            if !columns_in(expr, None).is_empty() {
                let text = "cannot use column reference in DEFAULT expression";
                return Err(Error::new(Code::Unsupported, text));
            }
            Arc::new(arrow::datatypes::Schema::empty())
        }
        _ => table.arrow(),
    };
    let over = Over::nothing(names, options, &table.name, schema);
    let plan = over.plan(vec![item(expr.clone())], None)?;
    let aggregates = plan_has(&plan, |node| {
        matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Window(_))
    });
    if aggregates && place != Place::Policy {
        let text = format!("aggregate functions are not allowed in {}", place.plural());
        return Err(Error::new(Code::GroupingError, text));
    }
    let field = plan.schema().field(0);
    let found = PgType::of(field);
    let boolean = matches!(place, Place::Check | Place::Policy | Place::IndexPredicate);
    let null = field.data_type() == &arrow::datatypes::DataType::Null;
    if boolean && found != PgType::Scalar(Scalar::Bool) && !null {
        let text = format!(
            "argument of {} must be type boolean, not type {}",
            place.argument(),
            type_name(found, -1)
        );
        return Err(Error::new(Code::DatatypeMismatch, text));
    }
    Ok(found)
}

fn plan_has(plan: &LogicalPlan, kind: impl Fn(&LogicalPlan) -> bool) -> bool {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    let mut found = false;
    let _ = plan.apply(|node| {
        found |= kind(node);
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// A type as `format_type` prints it.
pub(in crate::sql) fn type_name(pg_type: PgType, modifier: i32) -> String {
    pg::types::format_type(pg_type.oid().cast_signed(), modifier).unwrap_or_else(|| pg_type.name())
}

/// Whether a value of one type may be assigned to a column of another without a cast being written.
pub(in crate::sql) fn assignable(from: PgType, to: PgType) -> bool {
    let kind = |scalar: Scalar| match scalar {
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Float4 | Scalar::Float8 | Scalar::Numeric => 'N',
        Scalar::Text | Scalar::Varchar | Scalar::Bpchar | Scalar::Name | Scalar::Char | Scalar::Unknown => 'S',
        Scalar::Date | Scalar::Timestamp | Scalar::Timestamptz => 'D',
        Scalar::Time => 't',
        Scalar::Interval => 'T',
        Scalar::Bool => 'B',
        Scalar::Json | Scalar::Jsonb => 'J',
        Scalar::Oid | Scalar::Regclass | Scalar::Regproc | Scalar::Regtype => 'O',
        Scalar::Vector | Scalar::Halfvec => 'V',
        Scalar::Uuid => 'U',
        Scalar::Bytea => 'b',
        Scalar::Void => 'v',
        Scalar::Int2vector | Scalar::Oidvector => '2',
        Scalar::Aclitem => 'a',
        Scalar::Tsvector | Scalar::Tsquery => 'K',
    };
    match (from, to) {
        _ if from == to => true,
        // Everything has a text form, and assignment takes it.
        (PgType::Scalar(_) | PgType::Array(_), PgType::Scalar(to)) if kind(to) == 'S' => true,
        (PgType::Scalar(from), PgType::Scalar(to)) => {
            kind(from) == kind(to)
                || matches!((kind(from), kind(to)), ('N', 'O') | ('O', 'N'))
                || matches!((kind(from), kind(to)), ('D' | 'T', 't') | ('t', 'T'))
        }
        (PgType::Array(from), PgType::Array(to)) => kind(from) == kind(to),
        (PgType::Array(from), PgType::Scalar(to)) => kind(from) == 'N' && kind(to) == 'V',
        (PgType::Scalar(from), PgType::Array(to)) => kind(from) == 'V' && matches!(to, Scalar::Float4 | Scalar::Float8),
    }
}

/// Whether an expression is a literal whose type its place decides.
pub(in crate::sql) fn is_untyped(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_untyped(inner),
        Expr::Value(value) => matches!(
            value.value,
            ast::Value::SingleQuotedString(_)
                | ast::Value::EscapedStringLiteral(_)
                | ast::Value::DollarQuotedString(_)
                | ast::Value::Null
        ),
        _ => false,
    }
}

/// Whether there is a query in an expression.
fn has_subquery(expr: &Expr) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.visit(&mut Find).is_break()
}

/// Names of columns that an expression uses; with a table, those of its columns only.
pub(in crate::sql) fn columns_in(expr: &Expr, table: Option<&TableDef>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let _: ControlFlow<()> = ast::visit_expressions(expr, |expr| {
        let ident = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        if let Some(ident) = ident
            && !is_keyword_function(ident)
        {
            found.insert(fold(ident));
        }
        ControlFlow::Continue(())
    });
    if let Some(table) = table {
        found.retain(|name| table.column(name).is_some());
    }
    found
}

/// Words that stand for calls without brackets.
fn is_keyword_function(ident: &Ident) -> bool {
    let words = [
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "current_user",
        "session_user",
        "user",
        "current_role",
        "current_catalog",
        "current_schema",
    ];
    ident.quote_style.is_none() && words.contains(&ident.value.to_lowercase().as_str())
}

/// Whether a plan calls a function that gives another value each time.
///
/// # Errors
/// None in practice.
pub(in crate::sql) fn calls_volatile(plan: &LogicalPlan) -> Result<bool> {
    use datafusion::{
        common::tree_node::{TreeNode, TreeNodeRecursion},
        logical_expr::{Expr as Planned, Volatility},
    };
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Planned::ScalarFunction(call) = e {
                    found |= call.func.signature().volatility == Volatility::Volatile;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(crate::sql::complaints::from_datafusion)?;
    Ok(found)
}
