//! INSERT, UPDATE and DELETE of a tenant's own tables, planned.
//!
//! What a statement reads is planned as a SELECT, so that views, functions and policies mean what they always mean.
//! What it computes of the rows themselves is planned as expressions over them.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, Field},
    common::{Column as PlanColumn, DFSchema, DFSchemaRef, TableReference},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
    sql::sqlparser::ast::{
        Assignment, AssignmentTarget, Delete, Expr as SqlExpr, FromTable, SelectItem, SetExpr, TableFactor,
        TableWithJoins, Update, UpdateTableFromKind, With,
    },
};

use super::{
    assign::From,
    by_key::ByKey,
    compute::{Compute, projected},
    insert::InsertPlan,
    pieces::{self, Pieces, column_name, column_of, fold, fresh, from_named},
    provider::UserTable,
    rules::{Rules, origin},
    security,
};
use crate::{
    error::{Code, Error, Result},
    sql::{
        complaints::from_datafusion,
        prepared::{self, timely},
        session::{Column, Session},
    },
    table::schema::{Identity, PolicyCommand, TableDef},
};

/// A planned write.
pub(in crate::sql) struct TableWrite {
    pub(in crate::sql) def: Arc<TableDef>,
    pub(super) rules: Arc<Rules>,
    pub(super) action: Action,
    /// What RETURNING computes of the rows as they are then, and of what was read beside them.
    pub(super) returning: Option<Compute>,
    /// Whether it reads rows of the table, so that the user must be allowed to see them.
    pub(super) reads: bool,
    /// Types of the parameters in the plans.
    pub(super) placeholders: Vec<DataType>,
}

/// What is done.
pub(super) enum Action {
    Insert(InsertPlan),
    Update(ChangePlan),
    Delete(ChangePlan),
}

/// Which rows are changed or deleted, and what is computed of them.
pub(super) struct ChangePlan {
    /// Gives the row's number, all columns of the table, the values to set, and what RETURNING reads beside.
    pub(super) input: LogicalPlan,
    pub(super) optimized: bool,
    pub(super) sets: Vec<Set>,
    /// The same rows found by their key.
    pub(super) by_key: Option<ByKey>,
}

/// One column that UPDATE sets.
pub(super) struct Set {
    /// Its place in the table.
    pub(super) place: usize,
    /// Where its values come from; `None` for DEFAULT.
    pub(super) from: Option<From>,
}

impl TableWrite {
    /// What the statement does, in PostgreSQL's word.
    pub(in crate::sql) fn word(&self) -> &'static str {
        match self.action {
            Action::Insert(_) => "INSERT",
            Action::Update(_) => "UPDATE",
            Action::Delete(_) => "DELETE",
        }
    }

    /// What EXPLAIN calls it, and the table.
    pub(in crate::sql) fn verb(&self) -> (&'static str, &str) {
        let verb = match self.action {
            Action::Insert(_) => "Insert",
            Action::Update(_) => "Update",
            Action::Delete(_) => "Delete",
        };
        (verb, &self.def.name)
    }

    /// The command tag, without the number of rows.
    pub(super) fn tag(&self) -> &'static str {
        match self.action {
            Action::Insert(_) => "INSERT 0",
            Action::Update(_) => "UPDATE",
            Action::Delete(_) => "DELETE",
        }
    }

    /// Whether it locks its table only when it knows how many rows it writes.
    pub(in crate::sql) fn locks_late(&self) -> bool {
        matches!(&self.action, Action::Insert(insert) if insert.query().is_some())
    }

    /// The plan of the rows that it reads, for EXPLAIN; `None` where it reads none.
    pub(in crate::sql) fn input(&self) -> Option<(&LogicalPlan, bool)> {
        match &self.action {
            Action::Insert(insert) => insert.query(),
            Action::Update(change) | Action::Delete(change) => Some((&change.input, change.optimized)),
        }
    }
}

/// A planned write with what the client is told of it.
pub(in crate::sql) struct Planned {
    pub(in crate::sql) write: TableWrite,
    pub(in crate::sql) parameters: Vec<crate::codec::pgtype::PgType>,
    /// Columns of RETURNING; `None` without.
    pub(in crate::sql) columns: Option<Vec<Column>>,
}

/// What UPDATE and DELETE share.
struct Parts {
    with: Option<With>,
    alias: String,
    /// FROM or USING.
    beside: Vec<TableWithJoins>,
    selection: Option<SqlExpr>,
    returning: Option<Vec<SelectItem>>,
}

/// An assignment as it is written: the column's place, and the value; `None` is DEFAULT.
pub(super) type Assigned = Vec<(usize, Option<SqlExpr>)>;

/// The name and alias of the table that a statement names.
pub(in crate::sql) fn named(
    factor: &TableFactor,
) -> Result<(&datafusion::sql::sqlparser::ast::ObjectName, Option<String>)> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } => match alias {
            Some(alias) if !alias.columns.is_empty() => Err(Error::new(Code::Syntax, "syntax error at or near \"(\"")),
            alias => Ok((name, alias.as_ref().map(|a| fold(&a.name)))),
        },
        _ => Err(Error::new(Code::Syntax, "a table is to be written, and this is none")),
    }
}

impl Session {
    pub(in crate::sql) fn plan_table_update(
        &self,
        def: &Arc<TableDef>,
        with: Option<With>,
        update: Update,
        declared: &[Option<crate::codec::pgtype::PgType>],
    ) -> Result<Planned> {
        let beside = match update.from {
            None => Vec::new(),
            Some(UpdateTableFromKind::AfterSet(from)) => from,
            Some(UpdateTableFromKind::BeforeSet(_)) => return Err(Error::new(Code::Syntax, "syntax error in UPDATE")),
        };
        if !update.table.joins.is_empty()
            || !update.order_by.is_empty()
            || update.limit.is_some()
            || update.or.is_some()
        {
            return Err(Error::new(Code::Syntax, "syntax error in UPDATE"));
        }
        let (_, alias) = named(&update.table.relation)?;
        let assigned = assignments(def, update.assignments)?;
        let parts = Parts {
            with,
            alias: alias.unwrap_or_else(|| def.name.clone()),
            beside,
            selection: update.selection,
            returning: update.returning,
        };
        self.plan_change(def, parts, Some(assigned), declared)
    }

    pub(in crate::sql) fn plan_table_delete(
        &self,
        def: &Arc<TableDef>,
        with: Option<With>,
        delete: Delete,
        declared: &[Option<crate::codec::pgtype::PgType>],
    ) -> Result<Planned> {
        if !delete.order_by.is_empty() || delete.limit.is_some() || !delete.tables.is_empty() {
            return Err(Error::new(Code::Syntax, "syntax error in DELETE"));
        }
        let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
        let alias = match tables.as_slice() {
            [one] if one.joins.is_empty() => named(&one.relation)?.1,
            _ => return Err(Error::new(Code::Syntax, "syntax error in DELETE")),
        };
        let parts = Parts {
            with,
            alias: alias.unwrap_or_else(|| def.name.clone()),
            beside: delete.using.unwrap_or_default(),
            selection: delete.selection,
            returning: delete.returning,
        };
        self.plan_change(def, parts, None, declared)
    }

    /// `SELECT row, new values, returned values FROM target, beside WHERE selection`, taken apart again.
    fn plan_change(
        &self,
        def: &Arc<TableDef>,
        parts: Parts,
        assigned: Option<Assigned>,
        declared: &[Option<crate::codec::pgtype::PgType>],
    ) -> Result<Planned> {
        let Parts {
            with,
            alias,
            beside,
            selection,
            returning,
        } = parts;
        let mut pieces = Pieces::new(self, declared);
        let row_column = fresh("row");
        let command = match assigned {
            Some(_) => PolicyCommand::Update,
            None => PolicyCommand::Delete,
        };
        // What a statement reads of the rows that it changes, the user must be allowed to see.
        let reads = selection.is_some() || returning.is_some() || !beside.is_empty();
        let target = UserTable::to_change(&self.names, def, command, reads, &row_column);
        let name = pieces.table(Arc::new(target));
        let alone = beside.is_empty() && with.is_none();
        let mut from = vec![from_named(&name, &alias)];
        from.extend(beside);
        let mut items = vec![pieces::item(column_of(&alias, &row_column), "row", 0)];
        let update = assigned.is_some();
        let assigned = assigned.unwrap_or_default();
        for (i, (place, value)) in assigned.iter().enumerate() {
            if let Some(value) = value {
                if let Some(number) = pieces::placeholder(value) {
                    pieces.tell(number, def.columns[*place].pg_type);
                }
                items.push(pieces::item(value.clone(), "set", i));
            }
        }
        let given = items.len();
        let returns = returning.is_some();
        items.extend(returning.into_iter().flatten());
        let plan = pieces.plan(pieces::select(with, items, from, selection))?;
        let columns = prepared::columns_of(&plan);
        let (mut exprs, input) = projected(plan)?;
        if exprs.len() < given {
            return Err(Error::new(
                Code::GroupingError,
                "aggregate functions are not allowed here",
            ));
        }
        // A wildcard in RETURNING knows nothing of row numbers.
        let returned: Vec<(Expr, Column)> = exprs
            .split_off(given)
            .into_iter()
            .zip(columns.into_iter().skip(given))
            .collect();
        let (returned, columns): (Vec<Expr>, Vec<Column>) =
            returned.into_iter().filter(|(e, _)| !is_column(e, &row_column)).unzip();
        let schema = input.schema().clone();
        let mut values = exprs.into_iter().skip(1);
        let mut sets = Vec::with_capacity(assigned.len());
        let mut new_values = Vec::new();
        for (place, sql) in &assigned {
            let from = match sql {
                None => None,
                Some(sql) => {
                    let Some(value) = values.next() else {
                        return Err(Error::internal("an assignment lost its value"));
                    };
                    let from = origin(sql, &value, &schema)?;
                    new_values.push(value);
                    Some(from)
                }
            };
            sets.push(Set { place: *place, from });
        }
        let layout = Layout::new(def, &alias, &row_column, &schema, &returned)?;
        let input_columns = layout.input(&new_values);
        let (parameters, placeholders) = pieces.finish();
        let policed = security::concerns(self.world.tenant()?, def);
        let by_key = match (alone && !policed, layout.beside.is_empty()) {
            (true, true) => ByKey::find(self, def, &alias, &input, &new_values, &placeholders)?,
            _ => None,
        };
        let source = LogicalPlanBuilder::from(input)
            .project(input_columns)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let optimized = !timely(&source)?;
        let source = match optimized {
            true => self.state.optimize(&source).map_err(from_datafusion)?,
            false => source,
        };
        let returning = match returns {
            true => Some(Compute::new(
                &self.state,
                returned,
                &layout.returned(def, &alias)?,
                &placeholders,
            )?),
            false => None,
        };
        let change = ChangePlan {
            input: source,
            optimized,
            sets,
            by_key,
        };
        Ok(Planned {
            write: TableWrite {
                def: def.clone(),
                rules: self.rules(def)?,
                action: match update {
                    true => Action::Update(change),
                    false => Action::Delete(change),
                },
                returning,
                reads,
                placeholders,
            },
            parameters,
            columns: returns.then_some(columns),
        })
    }
}

/// Where columns are in what a change reads.
struct Layout {
    own: Vec<PlanColumn>,
    row: PlanColumn,
    /// Columns of other relations that RETURNING reads.
    beside: Vec<(Option<TableReference>, Arc<Field>)>,
}

impl Layout {
    fn new(def: &TableDef, alias: &str, row_column: &str, schema: &DFSchema, returned: &[Expr]) -> Result<Self> {
        let table = TableReference::bare(alias.to_owned());
        let own = |name: &str| PlanColumn::new(Some(table.clone()), name);
        // A sub-query may read any of them.
        let all = returned.iter().any(reads_anything);
        let read: HashSet<&PlanColumn> = returned.iter().flat_map(Expr::column_refs).collect();
        let beside = schema.iter().filter(|(qualifier, field)| {
            *qualifier != Some(&table) && (all || read.contains(&PlanColumn::new(qualifier.cloned(), field.name())))
        });
        Ok(Self {
            own: def.columns.iter().map(|c| own(&c.name)).collect(),
            row: own(row_column),
            beside: beside.map(|(q, f)| (q.cloned(), f.clone())).collect(),
        })
    }

    /// The row's number, its columns, the new values, and what is read beside.
    fn input(&self, new_values: &[Expr]) -> Vec<Expr> {
        let own = [&self.row].into_iter().chain(&self.own).cloned().map(Expr::Column);
        let values = new_values.iter().enumerate();
        let values = values.map(|(i, e)| e.clone().unalias_nested().data.alias(format!("\u{1}set{i}")));
        let beside = self.beside.iter();
        let beside = beside.map(|(q, f)| Expr::Column(PlanColumn::new(q.clone(), f.name())));
        own.chain(values).chain(beside).collect()
    }

    /// What RETURNING is over: the table's columns, and what is read beside.
    fn returned(&self, def: &TableDef, alias: &str) -> Result<DFSchemaRef> {
        let table = TableReference::bare(alias.to_owned());
        let own = def.columns.iter().map(|c| (Some(table.clone()), Arc::new(c.field())));
        let fields = own.chain(self.beside.iter().cloned()).collect();
        let schema = DFSchema::new_with_metadata(fields, std::collections::HashMap::new()).map_err(from_datafusion)?;
        Ok(Arc::new(schema))
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Column(column) => column.name == name,
        Expr::Alias(alias) => is_column(&alias.expr, name),
        _ => false,
    }
}

fn reads_anything(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    expr.exists(|e| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
        ))
    })
    .unwrap_or(true)
}

/// The place of a column that is written.
///
/// # Errors
/// 42703.
pub(super) fn place_of(def: &TableDef, name: &str) -> Result<usize> {
    def.columns.iter().position(|c| c.name == name).ok_or_else(|| {
        Error::new(
            Code::UndefinedColumn,
            format!("column \"{name}\" of relation \"{}\" does not exist", def.name),
        )
    })
}

/// What `SET` assigns, one column after the other.
///
/// # Errors
/// 42703, 42601 for a column that is set twice, 428C9 for one that the server computes.
pub(super) fn assignments(def: &TableDef, assignments: Vec<Assignment>) -> Result<Assigned> {
    let mut assigned: Assigned = Vec::new();
    for Assignment { target, value } in assignments {
        match target {
            AssignmentTarget::ColumnName(name) => assigned.push((place_of(def, &column_name(&name)?)?, Some(value))),
            AssignmentTarget::Tuple(names) => {
                let values = members(value, names.len())?;
                for (name, value) in names.iter().zip(values) {
                    assigned.push((place_of(def, &column_name(name)?)?, Some(value)));
                }
            }
        }
    }
    let mut seen = HashSet::new();
    for (place, value) in &mut assigned {
        let column = &def.columns[*place];
        if !seen.insert(*place) {
            let text = format!("multiple assignments to same column \"{}\"", column.name);
            return Err(Error::new(Code::Syntax, text));
        }
        if value.as_ref().is_some_and(pieces::is_default) {
            *value = None;
        }
        let what = match (&column.generated, column.identity) {
            _ if value.is_none() => continue,
            (Some(_), _) => "is a generated column.",
            (None, Some(Identity::Always)) => "is an identity column defined as GENERATED ALWAYS.",
            (None, Some(Identity::ByDefault) | None) => continue,
        };
        let text = format!("column \"{}\" can only be updated to DEFAULT", column.name);
        return Err(Error::new(Code::GeneratedAlways, text).with_detail(format!("Column \"{}\" {what}", column.name)));
    }
    Ok(assigned)
}

/// Whether an item of a SELECT list calls an aggregate that everybody knows.
fn is_aggregate(item: &SelectItem) -> bool {
    const NAMES: &[&str] = &["avg", "bool_and", "bool_or", "count", "max", "min", "string_agg", "sum"];
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
        return false;
    };
    matches!(expr, SqlExpr::Function(call) if NAMES.contains(&call.name.to_string().to_lowercase().as_str()))
}

/// The members of `(a, b) = ...`.
fn members(value: SqlExpr, count: usize) -> Result<Vec<SqlExpr>> {
    let differ = || Error::new(Code::Syntax, "number of columns does not match number of values");
    let values = match value {
        SqlExpr::Tuple(values) => values,
        SqlExpr::Nested(inner) if count == 1 => vec![*inner],
        SqlExpr::Nested(inner) => return members(*inner, count),
        SqlExpr::Function(call) if call.name.to_string().eq_ignore_ascii_case("row") => {
            return match call.args {
                datafusion::sql::sqlparser::ast::FunctionArguments::List(list) => {
                    let value = |a| match a {
                        datafusion::sql::sqlparser::ast::FunctionArg::Unnamed(
                            datafusion::sql::sqlparser::ast::FunctionArgExpr::Expr(e),
                        ) => Some(e),
                        _ => None,
                    };
                    let values: Option<Vec<_>> = list.args.into_iter().map(value).collect();
                    values.filter(|v| v.len() == count).ok_or_else(differ)
                }
                _ => Err(differ()),
            };
        }
        // Each column takes its own item of the list.
        SqlExpr::Subquery(query) => {
            let SetExpr::Select(select) = query.body.as_ref() else {
                return Err(Error::new(Code::Unsupported, "SET (a, b) = (this) is not supported"));
            };
            if select.projection.len() != count {
                return Err(differ());
            }
            // One that names no column would be given for each row where another is an aggregate of all.
            let constant = |item: &SelectItem| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    matches!(expr, SqlExpr::Value(_) | SqlExpr::Cast { .. }).then(|| expr.clone())
                }
                _ => None,
            };
            let one = |at: usize| {
                let mut query = query.clone();
                if let SetExpr::Select(select) = query.body.as_mut() {
                    let whole = select.projection.iter().any(is_aggregate) && !select.from.is_empty();
                    let item = select.projection.swap_remove(at);
                    if let (true, Some(value)) = (whole, constant(&item)) {
                        return value;
                    }
                    select.projection = vec![item];
                }
                SqlExpr::Subquery(query)
            };
            (0..count).map(one).collect()
        }
        _ if count == 1 => vec![value],
        _ => {
            return Err(Error::new(
                Code::Unsupported,
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
            ));
        }
    };
    match values.len() == count {
        true => Ok(values),
        false => Err(differ()),
    }
}
