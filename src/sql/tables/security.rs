//! Row policies: which rows a user's statements see, and which they may write.
//!
//! Without policies a table with row security shows nothing. What a policy lets pass is computed in a plan of
//! its own, behind [`Barrier`], so that nothing of the query around it is ever computed for another row.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::SchemaRef,
};
use datafusion::{
    common::{Result as DfResult, tree_node::TreeNodeRecursion},
    datasource::MemTable,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
    sql::sqlparser::ast::{BinaryOperator, Expr, Ident, SelectItem, Value},
};
use futures::StreamExt;

use super::{
    expressions::{self, Over},
    rights,
};
use crate::{
    error::{Code, Error, Result},
    sql::{complaints::from_datafusion, run::gather, session::Session, world::TenantWorld},
    table::schema::{PolicyCommand, PolicyDef, TableDef},
};

/// Whether a table's policies concern the session's user: its owner is exempt, and so are owners of the tenant,
/// unless row security is forced.
pub(in crate::sql) fn concerns(world: &TenantWorld, table: &TableDef) -> bool {
    table.row_security && (table.force_row_security || !rights::owns(world, &table.owner))
}

/// Whether messages may show values of a table's rows: not where the session's user may not read it, nor where
/// policies decide which rows are read, for a statement can change rows that it does not see.
pub(in crate::sql) fn may_show(world: &TenantWorld, table: &TableDef) -> bool {
    !concerns(world, table) && rights::may_read(world, table)
}

fn policies<'t>(
    world: &'t TenantWorld,
    table: &'t TableDef,
    command: PolicyCommand,
) -> impl Iterator<Item = &'t PolicyDef> {
    table.policies.iter().filter(move |policy| {
        let command = policy.command == PolicyCommand::All || policy.command == command;
        command && (policy.roles.is_empty() || policy.roles.iter().any(|role| rights::means(world, role)))
    })
}

fn literal(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).into())
}

fn joined(exprs: impl IntoIterator<Item = Expr>, op: BinaryOperator) -> Option<Expr> {
    let nested = exprs.into_iter().map(|expr| Expr::Nested(Box::new(expr)));
    nested.reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    })
}

/// The condition under which rows that are there are seen by this command: any permissive policy, and all
/// restrictive ones.
///
/// # Errors
/// XX000 for a policy that is no expression.
pub(in crate::sql) fn using(world: &TenantWorld, table: &TableDef, command: PolicyCommand) -> Result<Expr> {
    let (mut any, mut all) = (Vec::new(), Vec::new());
    for policy in policies(world, table, command) {
        if let Some(text) = &policy.using {
            let expr = expressions::expression(text)?;
            if policy.permissive {
                any.push(expr)
            } else {
                all.push(expr)
            }
        }
    }
    let any = joined(any, BinaryOperator::Or).unwrap_or_else(|| literal(false));
    Ok(joined(std::iter::once(any).chain(all), BinaryOperator::And).unwrap_or_else(|| literal(false)))
}

/// The conditions that rows must fulfil, each with the name of the restrictive policy that it is of.
fn checks(
    world: &TenantWorld,
    table: &TableDef,
    command: PolicyCommand,
    seen: bool,
) -> Result<Vec<(Option<String>, Expr)>> {
    let (mut any, mut all) = (Vec::new(), Vec::new());
    for policy in policies(world, table, command) {
        // What is seen is told by USING alone.
        let own = policy
            .check
            .as_ref()
            .filter(|_| !seen && command != PolicyCommand::Select);
        if let Some(text) = own.or(policy.using.as_ref()) {
            let expr = expressions::expression(text)?;
            match policy.permissive {
                true => any.push(expr),
                false => all.push((Some(policy.name.clone()), expr)),
            }
        }
    }
    let any = joined(any, BinaryOperator::Or).unwrap_or_else(|| literal(false));
    Ok(std::iter::once((None, any)).chain(all).collect())
}

/// By which policies rows are judged.
#[derive(Clone, Copy, Debug)]
pub(in crate::sql) enum Judge {
    /// Rows as a command writes them: by WITH CHECK, and where the statement reads them too by what SELECT sees.
    New { command: PolicyCommand, read: bool },
    /// Rows that are there, which ON CONFLICT found by a key: by USING.
    Seen(PolicyCommand),
}

impl Judge {
    pub(in crate::sql) fn new_rows(command: PolicyCommand, read: bool) -> Self {
        Self::New { command, read }
    }
}

impl Session {
    /// Refuses rows that a table's policies do not let pass. `rows` has the table's columns, in their order.
    ///
    /// # Errors
    /// 42501; whatever the policies' expressions fail with.
    pub(in crate::sql) async fn check_policies(
        &self,
        table: &TableDef,
        judges: &[Judge],
        rows: &RecordBatch,
    ) -> Result<()> {
        let world = self.world.tenant()?;
        if !concerns(world, table) || rows.num_rows() == 0 {
            return Ok(());
        }
        let mut wanted: Vec<(Option<String>, Expr, bool)> = Vec::new();
        for judge in judges {
            let (command, seen, read) = match *judge {
                Judge::New { command, read } => (command, false, read),
                Judge::Seen(command) => (command, true, false),
            };
            let mut found = checks(world, table, command, seen)?;
            if read {
                found.extend(checks(world, table, PolicyCommand::Select, true)?);
            }
            wanted.extend(found.into_iter().map(|(name, expr)| (name, expr, seen)));
        }
        let items: Vec<SelectItem> = wanted
            .iter()
            .enumerate()
            .map(|(at, (_, expr, _))| SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias: Ident::with_quote('"', format!("c{at}")),
            })
            .collect();
        let source = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).map_err(from_datafusion)?;
        let over = Over {
            names: &self.names,
            options: self.state.config_options(),
            alias: &table.name,
            table: Arc::new(source),
            within: vec![table.oid],
        };
        let plan = over.plan(items, None)?;
        for batch in gather(self.stream(self.physical_of(&plan, false).await?)?).await? {
            for (column, (name, _, seen)) in batch.columns().iter().zip(&wanted) {
                let passed = column
                    .as_boolean_opt()
                    .is_some_and(|c| c.null_count() == 0 && c.true_count() == c.len());
                if !passed {
                    let policy = name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
                    let using = if *seen { " (USING expression)" } else { "" };
                    let text = format!(
                        "new row violates row-level security policy{policy}{using} for table \"{}\"",
                        table.name
                    );
                    return Err(Error::new(Code::InsufficientPrivilege, text).with_table(&table.schema, &table.name));
                }
            }
        }
        Ok(())
    }
}

/// What row policies let pass. To the optimizer and to EXPLAIN it is a leaf: nothing can be moved into it, and
/// nothing of how many rows it has refused comes out.
pub(in crate::sql) struct Barrier {
    inner: Arc<dyn ExecutionPlan>,
    table: String,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl Barrier {
    pub(super) fn new(inner: Arc<dyn ExecutionPlan>, table: &str, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            inner,
            table: table.to_owned(),
            schema,
            properties: Arc::new(properties),
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableScanExec: {} by policies", self.table)
    }
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &str {
        "PolicyScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let rows = datafusion::physical_plan::execute_stream(self.inner.clone(), context)?;
        let schema = self.schema.clone();
        let rows = rows.map(move |batch| {
            let batch = batch?;
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            // One that is counted only has a column that nobody asked for.
            let columns = batch.columns().iter().take(schema.fields().len()).cloned().collect();
            Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }
}
