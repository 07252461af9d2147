//! Tables and views of a tenant as the planner sees them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{Constraint, Constraints, Result as DfResult, Statistics},
    datasource::ViewTable,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
    sql::sqlparser::ast::{Expr as SqlExpr, Ident, SelectItem},
};

use super::{
    expressions::Over,
    lookup::{self, Access},
    rights::{self, Privilege},
    scan::TableScanExec,
    security::{self, Barrier},
    view,
};
use crate::{
    error::{Code, Error, Result},
    sql::{
        planner::{Context, Names},
        world::{TenantWorld, World},
    },
    table::{
        Database, TableData,
        schema::{IndexKey, KeyOf, Oid, PolicyCommand, Relation, TableDef},
    },
};

/// The relation of a name as the session sees it now.
///
/// # Errors
/// 42501 for a table of another session; those of planning a view.
pub(in crate::sql) fn find(
    context: &Context<'_>,
    schema: &str,
    name: &str,
) -> DfResult<Option<Arc<dyn TableProvider>>> {
    let World::Tenant(world) = &*context.names.world else {
        return Ok(None);
    };
    let catalog = world.view()?.catalog().clone();
    match world.find_in(&catalog, schema, name) {
        Some(Relation::Table(table)) => {
            let mut found = UserTable::new(context.names, table);
            found.within.clone_from(&context.within);
            Ok(Some(Arc::new(found)))
        }
        Some(found @ Relation::View(view)) => {
            rights::require(world, found, Privilege::Select)?;
            let plan = view::plan(context, view)?;
            Ok(Some(Arc::new(ViewTable::new(plan, Some(view.query.clone())))))
        }
        Some(Relation::Sequence(_)) | None => Ok(None),
    }
}

/// A column as an item of a query.
pub(super) fn named(column: &str) -> SelectItem {
    SelectItem::UnnamedExpr(SqlExpr::Identifier(Ident::with_quote('"', column)))
}

/// A table, read as the session sees it when it is read. Row policies apply unless it is told otherwise.
pub(in crate::sql) struct UserTable {
    names: Arc<Names>,
    /// As it was planned.
    pub(super) def: Arc<TableDef>,
    schema: SchemaRef,
    /// The primary key: a query grouped by it may give other columns.
    constraints: Constraints,
    /// Commands whose policies rows must pass.
    commands: Vec<PolicyCommand>,
    /// Whether policies are left out, and rights with them.
    raw: bool,
    /// The first column, of row ids, if there is one.
    row_column: Option<String>,
    /// Tables whose policies are being planned.
    within: Vec<Oid>,
    /// Read this instead of what the session sees.
    moment: Option<Database>,
    /// Filters of a query around the policies, of which equalities may find the rows.
    hints: Vec<Expr>,
}

impl std::fmt::Debug for UserTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserTable({})", self.def.name)
    }
}

/// The primary key by its columns' places.
fn primary_key(table: &TableDef) -> Option<Constraint> {
    let keys = &table.primary_key()?.keys;
    let place = |key: &IndexKey| match key.key {
        KeyOf::Column(id) => table.columns.iter().position(|column| column.id == id),
        KeyOf::Expression(_) => None,
    };
    keys.iter()
        .map(place)
        .collect::<Option<Vec<_>>>()
        .map(Constraint::PrimaryKey)
}

impl UserTable {
    /// A table as SELECT reads it.
    pub(in crate::sql) fn new(names: &Arc<Names>, def: &Arc<TableDef>) -> Self {
        Self {
            names: names.clone(),
            def: def.clone(),
            schema: def.arrow(),
            constraints: Constraints::new_unverified(primary_key(def).into_iter().collect()),
            commands: vec![PolicyCommand::Select],
            raw: false,
            row_column: None,
            within: Vec::new(),
            moment: None,
            hints: Vec::new(),
        }
    }

    /// A table as UPDATE and DELETE read the rows they change: those that the policies of the command let pass, and
    /// where the statement `reads` them those of SELECT too, with the row ids in a first column of this name.
    pub(in crate::sql) fn to_change(
        names: &Arc<Names>,
        def: &Arc<TableDef>,
        command: PolicyCommand,
        reads: bool,
        row_column: &str,
    ) -> Self {
        let mut table = Self::new(names, def).with_row_ids(row_column);
        if !reads {
            table.commands.clear();
        }
        table.commands.push(command);
        table
    }

    /// A table without rights and policies, for what the server itself looks at.
    pub(in crate::sql) fn raw(names: &Arc<Names>, def: &Arc<TableDef>) -> Self {
        Self {
            raw: true,
            ..Self::new(names, def)
        }
    }

    /// The same with the row ids in a first column of this name.
    pub(in crate::sql) fn with_row_ids(mut self, row_column: &str) -> Self {
        let own = Arc::new(Field::new(row_column, DataType::UInt64, true));
        let fields: Vec<_> = std::iter::once(own)
            .chain(self.def.arrow().fields().iter().cloned())
            .collect();
        self.schema = Arc::new(Schema::new(fields));
        self.row_column = Some(row_column.to_owned());
        // It would name columns by places that are no longer theirs.
        self.constraints = Constraints::default();
        self
    }

    /// The same, reading another moment than the session sees.
    pub(in crate::sql) fn at(mut self, moment: Database) -> Self {
        self.moment = Some(moment);
        self
    }

    /// The table and the number of the column at a place of the schema; the row ids have none.
    pub(super) fn column(&self, at: usize) -> Option<(Oid, i16)> {
        let at = at.checked_sub(usize::from(self.row_column.is_some()))?;
        let number = i16::try_from(self.def.columns.get(at)?.id).ok()?;
        Some((self.def.oid, number))
    }

    pub(super) fn world(&self) -> Result<&TenantWorld> {
        self.names.world.tenant()
    }

    /// Its definition as planned, if it is read as SELECT does.
    pub(super) fn plain(&self) -> Option<&Arc<TableDef>> {
        let plain = !self.raw && self.row_column.is_none() && self.moment.is_none() && self.within.is_empty();
        (plain && self.commands == [PolicyCommand::Select]).then_some(&self.def)
    }

    /// The table as it is now; `None` where policies concern its rows.
    ///
    /// # Errors
    /// As for a scan.
    pub(super) async fn unpoliced(&self) -> Result<Option<Arc<TableData>>> {
        let data = self.data().await?;
        let concerned = security::concerns(self.world()?, data.def());
        Ok((!concerned).then_some(data))
    }

    /// The table as it is now, with the columns that were planned.
    async fn data(&self) -> Result<Arc<TableData>> {
        let moment = match &self.moment {
            Some(moment) => moment.clone(),
            None => {
                self.world()?.lock_for_reading(self.def.oid).await?;
                self.world()?.view()?
            }
        };
        let gone = || {
            let text = format!("relation \"{}\" does not exist", self.def.name);
            Error::new(Code::UndefinedTable, text)
        };
        let now = moment.catalog().table(self.def.oid).ok_or_else(gone)?.clone();
        let changed = || Error::new(Code::Unsupported, "cached plan must not change result type");
        for column in &self.def.columns {
            let same = now.column_of(column.id).ok_or_else(changed)?;
            if (same.pg_type, same.type_modifier) != (column.pg_type, column.type_modifier) {
                return Err(changed());
            }
        }
        if !self.raw {
            let table = Relation::Table(now);
            for command in &self.commands {
                let privilege = match command {
                    PolicyCommand::Select | PolicyCommand::All => Privilege::Select,
                    PolicyCommand::Insert => Privilege::Insert,
                    PolicyCommand::Update => Privilege::Update,
                    PolicyCommand::Delete => Privilege::Delete,
                };
                rights::require(self.world()?, &table, privilege)?;
            }
        }
        moment.table(self.def.oid).await
    }

    fn scan_raw(
        &self,
        data: Arc<TableData>,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<TableScanExec> {
        let mut conditions = lookup::conditions(filters, &self.def, false);
        conditions.extend(lookup::conditions(&self.hints, &self.def, true));
        let access = match conditions.is_empty() {
            true => Access::Scan(Vec::new()),
            false => lookup::choose(&data, &conditions)?,
        };
        self.scan_by(data, projection, access, limit)
    }

    /// The scan of rows that are found in this way.
    fn scan_by(
        &self,
        data: Arc<TableData>,
        projection: Option<&Vec<usize>>,
        access: Access,
        limit: Option<usize>,
    ) -> Result<TableScanExec> {
        let (columns, row_at, schema) = self.columns_of(projection)?;
        Ok(TableScanExec::new(data, columns, access, row_at, limit, schema))
    }

    /// The columns of a projection, where the row ids are among them, and the schema of both.
    pub(super) fn columns_of(&self, projection: Option<&Vec<usize>>) -> Result<(Vec<u16>, Option<usize>, SchemaRef)> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let hidden = usize::from(self.row_column.is_some());
        let row_at = wanted.iter().position(|&at| at < hidden);
        let columns = wanted
            .iter()
            .filter_map(|at| self.def.columns.get(at.checked_sub(hidden)?));
        let columns: Vec<u16> = columns.map(|column| column.id).collect();
        let schema = Arc::new(self.schema.project(wanted).map_err(Error::internal)?);
        Ok((columns, row_at, schema))
    }

    /// The rows that policies let pass, behind a barrier.
    async fn scan_policed(
        &self,
        state: &dyn Session,
        now: &TableDef,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let columns = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema.project(columns).map_err(Error::internal)?);
        let mut items: Vec<SelectItem> = columns.iter().map(|&at| named(self.schema.field(at).name())).collect();
        if items.is_empty() {
            // Rows are counted only; they need some column to be made of.
            items.push(super::expressions::item(SqlExpr::Value(
                datafusion::sql::sqlparser::ast::Value::Boolean(true).into(),
            )));
        }
        let row_column = self.row_column.as_deref();
        let inner = self.plan_policed(state, now, row_column, items, filters).await?;
        Ok(Arc::new(Barrier::new(inner, &self.def.name, schema)))
    }

    /// The plan of some items of the rows that policies let pass, with the row ids in a column of this name.
    pub(super) async fn plan_policed(
        &self,
        state: &dyn Session,
        now: &TableDef,
        row_column: Option<&str>,
        items: Vec<SelectItem>,
        filters: &[Expr],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.within.contains(&self.def.oid) {
            let text = format!(
                "infinite recursion detected in policy for relation \"{}\"",
                self.def.name
            );
            return Err(Error::new(Code::InvalidObjectDefinition, text));
        }
        let world = self.world()?;
        let mut condition: Option<SqlExpr> = None;
        for &command in &self.commands {
            let using = SqlExpr::Nested(Box::new(security::using(world, now, command)?));
            condition = Some(match condition {
                None => using,
                Some(former) => SqlExpr::BinaryOp {
                    left: Box::new(former),
                    op: datafusion::sql::sqlparser::ast::BinaryOperator::And,
                    right: Box::new(using),
                },
            });
        }
        let mut inner = Self::raw(&self.names, &self.def);
        if let Some(name) = row_column {
            inner = inner.with_row_ids(name);
        }
        inner.moment.clone_from(&self.moment);
        // Only equalities of stored values: nothing in them can fail or tell.
        inner.hints = filters.to_vec();
        let mut within = self.within.clone();
        within.push(self.def.oid);
        let over = Over {
            names: &self.names,
            options: state.config_options(),
            alias: &self.def.name,
            table: Arc::new(inner),
            within,
        };
        let plan = over.plan(items, condition)?;
        state
            .create_physical_plan(&plan)
            .await
            .map_err(crate::sql::complaints::from_datafusion)
    }
}

#[async_trait]
impl TableProvider for UserTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        None
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match lookup::understands(filter, &self.def) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let data = self.data().await?;
        // As they are now, whatever was planned.
        let now = data.def().clone();
        let policed = !self.raw && security::concerns(self.world()?, &now);
        if let Some(nearest) = self.scan_nearest(state, &data, policed, projection, filters).await? {
            return Ok(Arc::new(nearest));
        }
        if policed {
            return Ok(self.scan_policed(state, &now, projection, filters).await?);
        }
        Ok(Arc::new(self.scan_raw(data, projection, filters, limit)?))
    }
}
