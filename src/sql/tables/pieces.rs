//! The parts of a write, planned one by one as queries of their own, with one list of parameters for all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use datafusion::{
    arrow::datatypes::{DataType, SchemaRef},
    catalog::TableProvider,
    datasource::empty::EmptyTable,
    logical_expr::{Expr, LogicalPlan},
    sql::sqlparser::{
        ast::{
            self, Expr as SqlExpr, Ident, ObjectName, SelectItem, SetExpr, Statement, TableAlias, TableFactor,
            TableWithJoins, Value, With,
        },
        dialect::PostgreSqlDialect,
        parser::Parser,
    },
};

use super::compute::projected;
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    limits,
    sql::{
        dml::{empty_select, query_of},
        session::Session,
    },
};

/// What planning a piece knows beside the statement.
#[derive(Default)]
pub(in crate::sql) struct Extra {
    /// Types of parameters that their places tell, by number from 1.
    pub(in crate::sql) told: HashMap<usize, PgType>,
    /// Relations that stand for names nobody else has.
    pub(in crate::sql) tables: Vec<(String, Arc<dyn TableProvider>)>,
}

/// Plans pieces.
pub(in crate::sql) struct Pieces<'s> {
    session: &'s Session,
    declared: &'s [Option<PgType>],
    extra: Extra,
    known: BTreeMap<usize, (PgType, DataType)>,
}

impl<'s> Pieces<'s> {
    pub(in crate::sql) fn new(session: &'s Session, declared: &'s [Option<PgType>]) -> Self {
        Self {
            session,
            declared,
            extra: Extra::default(),
            known: BTreeMap::new(),
        }
    }

    /// A relation for the statement alone; gives the name that stands for it.
    pub(in crate::sql) fn table(&mut self, provider: Arc<dyn TableProvider>) -> String {
        let name = fresh("table");
        self.extra.tables.push((name.clone(), provider));
        name
    }

    /// A relation of these columns, to plan expressions over.
    pub(in crate::sql) fn shape(&mut self, schema: SchemaRef) -> String {
        self.table(Arc::new(EmptyTable::new(schema)))
    }

    /// A parameter stands alone where a value of this type is wanted.
    pub(in crate::sql) fn tell(&mut self, number: usize, pg_type: PgType) {
        self.extra.told.entry(number).or_insert(pg_type);
    }

    /// A parameter that is in no piece but is given as it is.
    pub(in crate::sql) fn bare(&mut self, number: usize, pg_type: PgType) {
        self.tell(number, pg_type);
        let pg_type = self.declared(number).unwrap_or(pg_type);
        self.known.entry(number).or_insert((pg_type, pg_type.arrow()));
    }

    fn declared(&self, number: usize) -> Option<PgType> {
        let declared = self.declared.get(number - 1).copied().flatten();
        declared.filter(|t| *t != PgType::Scalar(Scalar::Unknown))
    }

    /// The logical plan of a query.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub(in crate::sql) fn plan(&mut self, statement: Statement) -> Result<LogicalPlan> {
        let numbers = placeholders(&statement);
        let (plan, parameters, placeholders) = self.session.logical_in(statement, self.declared, &self.extra)?;
        for number in numbers {
            if let (Some(pg_type), Some(data_type)) = (parameters.get(number - 1), placeholders.get(number - 1)) {
                self.extra.told.entry(number).or_insert(*pg_type);
                self.known.entry(number).or_insert((*pg_type, data_type.clone()));
            }
        }
        Ok(plan)
    }

    /// The expressions of a `SELECT` list over relations, and what they are over.
    ///
    /// # Errors
    /// Those of planning; 42803 for aggregates.
    pub(in crate::sql) fn expressions(
        &mut self,
        items: Vec<SelectItem>,
        from: Vec<TableWithJoins>,
    ) -> Result<(Vec<Expr>, LogicalPlan)> {
        projected(self.plan(select(None, items, from, None))?)
    }

    /// Types of the parameters as the client gives them, and as the plans have them.
    pub(in crate::sql) fn finish(self) -> (Vec<PgType>, Vec<DataType>) {
        let count = self.known.keys().last().copied().unwrap_or(0).max(self.declared.len());
        let one = |number: usize| {
            let known = self.known.get(&number).cloned();
            let pg_type = self
                .declared(number)
                .or(known.as_ref().map(|k| k.0))
                .unwrap_or(PgType::TEXT);
            let data_type = known.map_or_else(|| pg_type.arrow(), |k| k.1);
            (pg_type, data_type)
        };
        (1..=count).map(one).unzip()
    }
}

/// A name that no client can know.
pub(in crate::sql) fn fresh(what: &str) -> String {
    format!("\u{1}{what}{}", uuid::Uuid::new_v4().simple())
}

/// The numbers of a statement's parameters; those that are none are judged elsewhere.
pub(in crate::sql) fn placeholders(statement: &Statement) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    let _: ControlFlow<()> = ast::visit_expressions(statement, |expr| {
        numbers.extend(placeholder(expr));
        ControlFlow::Continue(())
    });
    numbers
}

/// The number of a parameter.
pub(in crate::sql) fn placeholder(expr: &SqlExpr) -> Option<usize> {
    match expr {
        SqlExpr::Value(value) => match &value.value {
            Value::Placeholder(name) => {
                let number = name.strip_prefix('$')?.parse().ok()?;
                (1..=limits::PARAMETERS).contains(&number).then_some(number)
            }
            _ => None,
        },
        SqlExpr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

/// `SELECT items FROM from WHERE selection`.
pub(in crate::sql) fn select(
    with: Option<With>,
    items: Vec<SelectItem>,
    from: Vec<TableWithJoins>,
    selection: Option<SqlExpr>,
) -> Statement {
    let select = ast::Select {
        projection: items,
        from,
        selection,
        ..empty_select()
    };
    let mut query = query_of(SetExpr::Select(Box::new(select)));
    query.with = with;
    Statement::Query(Box::new(query))
}

/// A name that is taken as it is written here.
pub(in crate::sql) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// `name AS alias` in FROM.
pub(in crate::sql) fn from_named(name: &str, alias: &str) -> TableWithJoins {
    TableWithJoins {
        relation: TableFactor::Table {
            name: ObjectName::from(vec![quoted(name)]),
            alias: Some(TableAlias {
                explicit: true,
                name: quoted(alias),
                columns: vec![],
                at: None,
            }),
            args: None,
            with_hints: vec![],
            version: None,
            with_ordinality: false,
            partitions: vec![],
            json_path: None,
            sample: None,
            index_hints: vec![],
        },
        joins: vec![],
    }
}

/// `table.column`.
pub(in crate::sql) fn column_of(table: &str, column: &str) -> SqlExpr {
    SqlExpr::CompoundIdentifier(vec![quoted(table), quoted(column)])
}

/// An item of a SELECT list under a name that keeps it apart from all others.
pub(in crate::sql) fn item(expr: SqlExpr, what: &str, number: usize) -> SelectItem {
    SelectItem::ExprWithAlias {
        expr,
        alias: quoted(&format!("\u{1}{what}{number}")),
    }
}

/// An expression that the catalog keeps as text.
///
/// # Errors
/// An internal one where it is none.
pub(in crate::sql) fn parse_expression(sql: &str) -> Result<SqlExpr> {
    Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(limits::STATEMENT_DEPTH * 4)
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(Error::internal)
}

/// Whether an expression is a literal without a type of its own.
pub(in crate::sql) fn is_unknown(expr: &SqlExpr) -> bool {
    match expr {
        SqlExpr::Value(value) => matches!(
            value.value,
            Value::SingleQuotedString(_)
                | Value::DollarQuotedString(_)
                | Value::EscapedStringLiteral(_)
                | Value::UnicodeStringLiteral(_)
                | Value::Null
        ),
        SqlExpr::Nested(inner) => is_unknown(inner),
        _ => false,
    }
}

/// Whether an expression is the word DEFAULT.
pub(in crate::sql) fn is_default(expr: &SqlExpr) -> bool {
    matches!(expr, SqlExpr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// A name as PostgreSQL folds it.
pub(in crate::sql) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The single name of a column that is written.
///
/// # Errors
/// 0A000 for a part of a column's value.
pub(in crate::sql) fn column_name(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [part] => part
            .as_ident()
            .map(fold)
            .ok_or_else(|| Error::new(Code::Syntax, "syntax error in the name of a column")),
        _ => Err(Error::new(
            Code::Unsupported,
            "writing a part of a column is not supported",
        )),
    }
}
