//! INSERT, UPDATE and DELETE.
//!
//! DataFusion plans the rows (defaults and casts included); the relation's own writer takes them
//! into the transaction, and `RETURNING` is a query over the rows as written.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        compute::concat_batches,
        datatypes::DataType,
    },
    datasource::{MemTable, provider_as_source, source_as_provider},
    logical_expr::{DmlStatement, LogicalPlan, LogicalPlanBuilder, WriteOp},
    sql::sqlparser::ast::{
        self, Assignment, AssignmentTarget, Expr, FromTable, Ident, Insert, ObjectName, Query, Select, SelectItem,
        SetExpr, Statement, TableFactor, TableObject,
    },
};

use super::{
    complaints::from_datafusion,
    guard::Parsed,
    prepared::{self, Plan, Prepared},
    relations::{self, Change, Relation, RelationProvider},
    run::gather,
    session::{Answer, RowTag, Session, Status},
    tables::{pieces, write::named},
    world::World,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
    table::schema::TableDef,
};

/// A planned write.
pub(super) struct Write {
    relation: &'static Relation,
    action: Action,
    /// Gives rows of all the relation's columns.
    input: LogicalPlan,
    placeholders: Vec<DataType>,
    /// The query of `RETURNING`, over a table of the relation's name.
    returning: Option<Statement>,
}

impl Write {
    /// What it does and to which relation, for EXPLAIN.
    pub(super) fn verb(&self) -> (&'static str, &'static str) {
        let verb = match self.action {
            Action::Insert => "Insert",
            Action::Update(_) => "Update",
            Action::Delete => "Delete",
        };
        (verb, self.relation.name)
    }

    /// What it does, as SQL says it.
    pub(super) fn word(&self) -> &'static str {
        match self.action {
            Action::Insert => "INSERT",
            Action::Update(_) => "UPDATE",
            Action::Delete => "DELETE",
        }
    }

    /// The plan of the rows, for EXPLAIN.
    pub(super) fn input(&self) -> &LogicalPlan {
        &self.input
    }
}

enum Action {
    Insert,
    Update(Vec<String>),
    Delete,
}

impl Session {
    pub(super) fn plan_write(
        &self,
        mut statement: Statement,
        parsed: &Parsed,
        declared: &[Option<PgType>],
    ) -> Result<Prepared> {
        let (name, returning) = take_returning(&mut statement)?;
        let relation = self.target(&name)?;
        if relation.write.is_none() {
            return Err(Error::new(
                Code::InsufficientPrivilege,
                format!("{} cannot be written", relation.name),
            )
            .with_hint("it is derived by the server"));
        }
        let assigned = match &mut statement {
            Statement::Insert(insert) => {
                check_insert(insert)?;
                name_insert_columns(insert, relation);
                Vec::new()
            }
            Statement::Update(update) => assigned(&update.assignments)?,
            _ => Vec::new(),
        };
        let (plan, parameters, placeholders) = self.logical(statement, declared)?;
        let LogicalPlan::Dml(DmlStatement { op, input, target, .. }) = plan else {
            return Err(Error::internal("a write was planned as something else"));
        };
        let planned = source_as_provider(&target).map_err(from_datafusion)?;
        if !(planned.as_ref() as &dyn std::any::Any).is::<RelationProvider>() {
            return Err(Error::new(
                Code::InsufficientPrivilege,
                "system tables cannot be written",
            ));
        }
        let action = match op {
            WriteOp::Insert(_) => Action::Insert,
            WriteOp::Update => Action::Update(assigned),
            WriteOp::Delete => Action::Delete,
            _ => return Err(Error::new(Code::Unsupported, "this statement is not supported")),
        };
        let returning = returning.map(|items| returning_query(&name, items));
        let columns = match &returning {
            Some(query) => self.returning_plan(query, relation, Vec::new())?.1,
            None => Vec::new(),
        };
        let input = self.optimized(&input)?;
        Ok(Prepared {
            parameters,
            returns_rows: returning.is_some(),
            columns,
            plan: Plan::Write(Arc::new(Write {
                relation,
                action,
                input,
                placeholders,
                returning,
            })),
            parsed: parsed.clone(),
            declared: declared.to_vec(),
            catalog: self.catalog()?,
        })
    }

    /// Plans a write of a table of the tenant's own, or of a relation of ours. `with` is what stands before it.
    pub(super) fn plan_any_write(
        &self,
        statement: Statement,
        with: Option<ast::With>,
        parsed: &Parsed,
        declared: &[Option<PgType>],
    ) -> Result<Prepared> {
        let def = match self.own_table(&written_name(&statement)?)? {
            Some(def) => def,
            None if with.is_none() => return self.plan_write(statement, parsed, declared),
            None => {
                self.target(&written_name(&statement)?)?;
                return Err(Error::new(
                    Code::Unsupported,
                    "WITH is not supported in a write of this relation",
                ));
            }
        };
        let planned = match statement {
            Statement::Insert(insert) => self.plan_table_insert(&def, with, insert, declared)?,
            Statement::Update(update) => self.plan_table_update(&def, with, update, declared)?,
            Statement::Delete(delete) => self.plan_table_delete(&def, with, delete, declared)?,
            _ => return Err(Error::internal("this is no write")),
        };
        let returns_rows = planned.columns.is_some();
        Ok(Prepared {
            parameters: planned.parameters,
            columns: planned.columns.unwrap_or_default(),
            returns_rows,
            plan: Plan::TableWrite(planned.write.into()),
            parsed: parsed.clone(),
            declared: declared.to_vec(),
            catalog: self.catalog()?,
        })
    }

    /// The table of the tenant's own that a name means in this session; `None` where it means one of ours.
    ///
    /// # Errors
    /// 42809 and 55000 for what is no table.
    pub(super) fn own_table(&self, name: &ObjectName) -> Result<Option<Arc<TableDef>>> {
        use crate::table::schema::Relation as Own;
        let World::Tenant(world) = &*self.world else {
            return Ok(None);
        };
        let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(pieces::fold).collect();
        let view = world.view()?;
        let catalog = view.catalog();
        let found = match parts.as_slice() {
            [table] => {
                let path = self.settings.lock().path();
                let mut found = None;
                for schema in world.temp_schema_if_any().into_iter().chain(path) {
                    found = catalog.find(&schema, table);
                    if found.is_some() || relations::find(&self.world, &schema, table).is_ok_and(|r| r.is_some()) {
                        break;
                    }
                }
                found
            }
            [schema, table] => world.find_in(catalog, schema, table),
            [database, schema, table] if *database == self.world.database() => world.find_in(catalog, schema, table),
            _ => None,
        };
        match found {
            None => Ok(None),
            Some(Own::Table(def)) => Ok(Some(def.clone())),
            Some(Own::View(view)) => Err(Error::new(
                Code::NotReady,
                format!("view \"{}\" cannot be written", view.name),
            )
            .with_hint("write the table that it shows")),
            Some(Own::Sequence(sequence)) => Err(Error::new(
                Code::WrongObjectType,
                format!("cannot change sequence \"{}\"", sequence.name),
            )),
        }
    }

    /// The relation that a statement writes.
    pub(super) fn target(&self, name: &ObjectName) -> Result<&'static Relation> {
        let parts: Vec<String> = name
            .0
            .iter()
            .filter_map(|p| p.as_ident())
            .map(|i| {
                if i.quote_style.is_some() {
                    i.value.clone()
                } else {
                    i.value.to_lowercase()
                }
            })
            .collect();
        let undefined = || Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist"));
        match parts.as_slice() {
            [table] => {
                for schema in self.settings.lock().path() {
                    if let Some(found) = relations::find(&self.world, &schema, table)? {
                        return Ok(found);
                    }
                }
                Err(undefined())
            }
            [schema, table] => relations::find(&self.world, schema, table)?.ok_or_else(undefined),
            [catalog, schema, table] if *catalog == self.world.database() => {
                relations::find(&self.world, schema, table)?.ok_or_else(undefined)
            }
            _ => Err(undefined()),
        }
    }

    pub(super) async fn run_write(
        &mut self,
        write: &Write,
        prepared: &Prepared,
        params: &[ArrayRef],
    ) -> Result<Answer> {
        if matches!(*self.world, World::Operator(_)) && matches!(self.status, Status::Open) {
            return Err(Error::new(
                Code::ActiveTransaction,
                "the operator's tables cannot be changed inside a transaction block",
            ));
        }
        if let World::Tenant(world) = &*self.world {
            world.tx.lock().forget_seen();
        }
        let values = prepared::values(params, &write.placeholders)?;
        let plan = match values.is_empty() {
            true => write.input.clone(),
            false => write.input.clone().with_param_values(values).map_err(from_datafusion)?,
        };
        let rows = gather(self.stream(self.physical_of(&plan, true).await?)?).await?;
        let schema = write.relation.arrow();
        let rows: Vec<RecordBatch> = rows
            .into_iter()
            .map(|batch| match write.action {
                // A filter's input has the scan's columns; all of them stand in their places.
                _ if batch.num_columns() == schema.fields().len() => {
                    RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(Error::internal)
                }
                _ => Err(Error::internal("a write has other columns than its relation")),
            })
            .collect::<Result<_>>()?;
        let rows = concat_batches(&schema, &rows).map_err(Error::internal)?;
        let count = rows.num_rows() as u64;
        let Some(writer) = write.relation.write else {
            return Err(Error::internal("a view was written"));
        };
        let (change, tag) = match &write.action {
            Action::Insert => (Change::Insert(rows), "INSERT 0"),
            Action::Update(assigned) => (Change::Update(rows, assigned.clone()), "UPDATE"),
            Action::Delete => (Change::Delete(rows), "DELETE"),
        };
        if self.world.operator().is_ok() {
            self.point_of_no_return();
        }
        if let World::Tenant(world) = &*self.world {
            world.wrote(count);
        }
        let written = writer(self.world.clone(), change).await?;
        // Before the commit: an error in RETURNING undoes the write.
        let returned = match &write.returning {
            Some(query) => {
                let (plan, _) = self.returning_plan(query, write.relation, vec![written])?;
                Some(gather(self.stream(self.physical_of(&plan, false).await?)?).await?)
            }
            None => None,
        };
        if self.status == Status::Idle {
            self.commit().await?;
        }
        Ok(match returned {
            Some(rows) => Answer::Rows {
                columns: prepared.columns.clone(),
                rows: Box::pin(futures::stream::iter(rows.into_iter().map(Ok))),
                tag: RowTag(tag),
            },
            None => Answer::Done {
                tag: RowTag(tag).render(count),
            },
        })
    }

    /// The plan of RETURNING over these rows, and its columns.
    fn returning_plan(
        &self,
        query: &Statement,
        relation: &'static Relation,
        rows: Vec<RecordBatch>,
    ) -> Result<(LogicalPlan, Vec<super::session::Column>)> {
        let (plan, _, _) = self.logical(query.clone(), &[])?;
        let columns = prepared::columns_of(&plan);
        let table = MemTable::try_new(relation.arrow(), vec![rows]).map_err(from_datafusion)?;
        let source = provider_as_source(Arc::new(table));
        let plan = swap_scan(plan, &source)?;
        Ok((plan, columns))
    }
}

/// The same plan reading from `source` instead of the relation.
fn swap_scan(plan: LogicalPlan, source: &Arc<dyn datafusion::logical_expr::TableSource>) -> Result<LogicalPlan> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    plan.transform_up(|node| match node {
        LogicalPlan::TableScan(scan) => {
            let scan =
                LogicalPlanBuilder::scan(scan.table_name.clone(), source.clone(), scan.projection.clone())?.build()?;
            Ok(Transformed::yes(scan))
        }
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
    .map_err(from_datafusion)
}

/// The target's name, and the RETURNING list, which DataFusion does not plan.
fn take_returning(statement: &mut Statement) -> Result<(ObjectName, Option<Vec<SelectItem>>)> {
    let unsupported = |what: &str| Error::new(Code::Unsupported, format!("{what} is not supported"));
    let of_table = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => Ok(name.clone()),
        _ => Err(unsupported("writing to this")),
    };
    match statement {
        Statement::Insert(insert) => {
            let TableObject::TableName(name) = &insert.table else {
                return Err(unsupported("INSERT into this"));
            };
            Ok((name.clone(), insert.returning.take()))
        }
        Statement::Update(update) => {
            if update.from.is_some() || !update.table.joins.is_empty() {
                return Err(unsupported("UPDATE ... FROM"));
            }
            Ok((of_table(&update.table.relation)?, update.returning.take()))
        }
        Statement::Delete(delete) => {
            if delete.using.is_some() {
                return Err(unsupported("DELETE ... USING"));
            }
            let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
            match tables.as_slice() {
                [one] if one.joins.is_empty() => Ok((of_table(&one.relation)?, delete.returning.take())),
                _ => Err(unsupported("DELETE from more than one table")),
            }
        }
        _ => Err(unsupported("this statement")),
    }
}

/// The name of the relation that a statement writes.
fn written_name(statement: &Statement) -> Result<ObjectName> {
    let syntax = || Error::new(Code::Syntax, "syntax error: a table is to be written, and this is none");
    match statement {
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => Ok(name.clone()),
            _ => Err(syntax()),
        },
        Statement::Update(update) => named(&update.table.relation).map(|(name, _)| name.clone()),
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
            match tables.as_slice() {
                [one] if one.joins.is_empty() => named(&one.relation).map(|(name, _)| name.clone()),
                _ => Err(syntax()),
            }
        }
        _ => Err(syntax()),
    }
}

fn returning_query(name: &ObjectName, items: Vec<SelectItem>) -> Statement {
    let select = Select {
        projection: items,
        from: vec![ast::TableWithJoins {
            relation: ast::TableFactor::Table {
                name: name.clone(),
                alias: None,
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
        }],
        ..empty_select()
    };
    Statement::Query(Box::new(query_of(SetExpr::Select(Box::new(select)))))
}

pub(super) fn empty_select() -> Select {
    Select {
        select_token: ast::helpers::attached_token::AttachedToken::empty(),
        optimizer_hints: vec![],
        select_modifiers: None,
        distinct: None,
        top: None,
        top_before_distinct: false,
        projection: vec![],
        exclude: None,
        into: None,
        from: vec![],
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: ast::GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    }
}

pub(super) fn query_of(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}

fn check_insert(insert: &Insert) -> Result<()> {
    if insert.on.is_some() {
        return Err(Error::new(
            Code::Unsupported,
            "ON CONFLICT is not supported for this table",
        ));
    }
    Ok(())
}

/// `INSERT INTO t VALUES (...)` may give fewer values than there are columns: the rest are defaults.
fn name_insert_columns(insert: &mut Insert, relation: &Relation) {
    if !insert.columns.is_empty() {
        return;
    }
    let width = insert.source.as_ref().and_then(|q| match q.body.as_ref() {
        SetExpr::Values(values) => values.rows.iter().map(|r| r.content.len()).max(),
        SetExpr::Select(select)
            if select
                .projection
                .iter()
                .all(|i| !matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))) =>
        {
            Some(select.projection.len())
        }
        _ => None,
    });
    if let Some(width) = width.filter(|w| *w < relation.columns.len()) {
        insert.columns = relation.columns[..width]
            .iter()
            .map(|(n, _)| ObjectName::from(vec![Ident::with_quote('"', *n)]))
            .collect();
    }
    // DEFAULT in a row is the column's default, which NULL asks for here.
    if let Some(SetExpr::Values(values)) = insert.source.as_mut().map(|q| q.body.as_mut()) {
        for expr in values.rows.iter_mut().flat_map(|r| r.content.iter_mut()) {
            if matches!(expr, Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
            {
                *expr = Expr::Value(ast::Value::Null.into());
            }
        }
    }
}

fn assigned(assignments: &[Assignment]) -> Result<Vec<String>> {
    assignments
        .iter()
        .map(|assignment| match &assignment.target {
            AssignmentTarget::ColumnName(name) => Ok(super::planner::last_part(name)),
            AssignmentTarget::Tuple(_) => Err(Error::new(Code::Unsupported, "SET (a, b) = ... is not supported")),
        })
        .collect()
}
