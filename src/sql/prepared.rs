//! From a parsed statement to a plan that can be run many times.
//!
//! A query's plan is analysed and optimized once. It is kept with its placeholders; running it
//! fills them in and makes the physical plan. A plan in which the optimizer would have frozen the
//! time of planning (`now()`) is optimized at each run instead.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use datafusion::{
    arrow::datatypes::{DataType, Field, FieldRef, Schema},
    common::{
        ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, Volatility},
    sql::{
        planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel},
        sqlparser::ast::{self, SetExpr, Statement},
    },
};

use super::{
    array_parameters,
    chain::{self, Chain},
    complaints::from_datafusion,
    dml, functions,
    guard::{Kind, Parsed},
    hoist,
    kept::Kept,
    pg,
    planner::Context,
    rewrite,
    session::{Column, Session},
    tables::direct::Direct,
    tables::{locking::LockingQuery, origin::origin, pieces::Extra, write::TableWrite},
    world::World,
};
use crate::{
    codec::pgtype::{self, PgType, Scalar},
    error::{Code, Error, Result},
    table::schema::Catalog,
};

/// A planned statement.
#[derive(Clone)]
pub struct Prepared {
    /// Types of the parameters `$1`, `$2`, ...
    pub parameters: Vec<PgType>,
    /// Columns of the rows it gives; empty if it gives none.
    pub columns: Vec<Column>,
    /// Whether it gives rows.
    pub returns_rows: bool,
    pub(super) plan: Plan,
    pub(super) parsed: Parsed,
    /// Types as the client declared them, to plan again with.
    pub(super) declared: Vec<Option<PgType>>,
    /// What existed when it was planned.
    pub(super) catalog: Option<Arc<Catalog>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    /// A text without a statement: running it gives [`Answer::Empty`](super::session::Answer::Empty).
    pub fn empty() -> Arc<Self> {
        Arc::new(Self {
            parameters: Vec::new(),
            columns: Vec::new(),
            returns_rows: false,
            plan: Plan::Command,
            parsed: Parsed {
                kind: Kind::Nothing,
                text: String::new(),
            },
            declared: Vec::new(),
            catalog: None,
        })
    }
}

/// How a statement is run.
#[derive(Clone)]
pub(super) enum Plan {
    Query(Arc<Query>),
    Write(Arc<dml::Write>),
    /// Of a table of the tenant's own.
    TableWrite(Arc<TableWrite>),
    /// A query that locks rows.
    Locking(Arc<LockingQuery>),
    /// With writes in its WITH.
    Chain(Arc<Chain>),
    /// Anything else: run from its syntax.
    Command,
}

/// A query ready to run.
pub(super) struct Query {
    pub(super) plan: LogicalPlan,
    /// Whether [`Query::plan`] is already optimized.
    pub(super) optimized: bool,
    /// Whether it calls a function that changes something.
    pub(super) effect: bool,
    /// Whether that function commits by itself.
    pub(super) alone: bool,
    /// Types the plan's placeholders have; the client's may differ and are cast.
    pub(super) placeholders: Vec<DataType>,
    pub(super) tag: &'static str,
    /// The search path it was planned under.
    pub(super) path: Vec<String>,
    /// Its physical plan.
    pub(super) kept: Kept,
    /// How it is answered without one, once it is known whether it is.
    pub(super) direct: OnceLock<Option<Direct>>,
}

impl Session {
    /// A plan that was made for another state of the catalog must be made again.
    pub(super) fn is_current(&self, prepared: &Prepared) -> Result<bool> {
        let same_path = match &prepared.plan {
            Plan::Query(query) => query.path == self.settings.lock().path(),
            _ => true,
        };
        let same_catalog = match (&prepared.catalog, &prepared.plan) {
            (None, _) | (_, Plan::Command) => true,
            (Some(then), _) => self.catalog()?.is_some_and(|now| Arc::ptr_eq(then, &now)),
        };
        Ok(same_path && same_catalog)
    }

    /// Plans a statement.
    pub(super) fn plan(&self, parsed: &Parsed, declared: &[Option<PgType>]) -> Result<Prepared> {
        let command = |columns: Vec<Column>| Prepared {
            parameters: Vec::new(),
            returns_rows: !columns.is_empty(),
            columns,
            plan: Plan::Command,
            parsed: parsed.clone(),
            declared: declared.to_vec(),
            catalog: None,
        };
        let statement = match &parsed.kind {
            Kind::Sql(statement) => statement,
            Kind::Fetch(fetch) => return Ok(command(self.fetch_columns(fetch))),
            _ => return Ok(command(Vec::new())),
        };
        match &**statement {
            Statement::Query(query) if chain::is_chain(query) => self.plan_chain(query, parsed, declared),
            Statement::Query(query) => match written(query) {
                Some((with, write)) => self.plan_any_write(write, with, parsed, declared),
                None if !query.locks.is_empty() => self.plan_locking((**query).clone(), parsed, declared),
                None => self.plan_query((**statement).clone(), parsed, declared, "SELECT"),
            },
            Statement::Explain { .. } => Ok(command(vec![super::explain::explain_column(statement)?])),
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
                self.plan_any_write((**statement).clone(), None, parsed, declared)
            }
            Statement::ShowVariable { variable } => Ok(command(super::commands::show_columns(variable))),
            Statement::Execute { name, .. } => {
                let inner = self.named(name.as_ref())?;
                Ok(Prepared {
                    columns: inner.columns.clone(),
                    returns_rows: inner.returns_rows,
                    ..command(Vec::new())
                })
            }
            _ => Ok(command(Vec::new())),
        }
    }

    /// The prepared statement that EXECUTE names.
    pub(super) fn named(&self, name: Option<&ast::ObjectName>) -> Result<Arc<Prepared>> {
        let name = name.map(super::planner::last_part).unwrap_or_default();
        self.statement(&name).ok_or_else(|| {
            Error::new(
                Code::InvalidStatementName,
                format!("prepared statement \"{name}\" does not exist"),
            )
        })
    }

    pub(super) fn plan_query(
        &self,
        statement: Statement,
        parsed: &Parsed,
        declared: &[Option<PgType>],
        tag: &'static str,
    ) -> Result<Prepared> {
        let (plan, parameters, placeholders) = self.logical(statement, declared)?;
        let told = plan.clone();
        let effect = calls(&plan, |f| functions::has_effect(f.name()))?;
        let alone =
            effect && (self.world.operator().is_ok() || calls(&plan, |f| functions::ALONE.contains(&f.name()))?);
        let frozen = timely(&plan)?;
        let (plan, optimized) = match frozen {
            true => (plan, false),
            false => (self.optimized(&plan)?, true),
        };
        let columns = match optimized {
            true => columns_as(&told, plan.schema().as_arrow()),
            false => columns_as(&told, self.analyzed(&plan)?.schema().as_arrow()),
        };
        let path = self.settings.lock().path();
        Ok(Prepared {
            parameters,
            columns,
            returns_rows: true,
            plan: Plan::Query(Arc::new(Query {
                plan,
                optimized,
                effect,
                alone,
                placeholders,
                tag,
                path,
                kept: Kept::default(),
                direct: OnceLock::new(),
            })),
            parsed: parsed.clone(),
            declared: declared.to_vec(),
            catalog: self.catalog()?,
        })
    }

    /// A plan that is ready to become a physical one.
    pub(super) fn optimized(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        let optimized = self.state.optimize(plan).and_then(hoist::hoist);
        optimized.map_err(from_datafusion)
    }

    /// What exists, as the running statement sees it.
    pub(super) fn catalog(&self) -> Result<Option<Arc<Catalog>>> {
        match &*self.world {
            World::Tenant(world) => Ok(Some(world.view()?.catalog().clone())),
            World::Operator(_) => Ok(None),
        }
    }

    /// The plan with the types that its rows will have.
    fn analyzed(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        let options = self.state.config_options();
        let analyzer = self.state.analyzer();
        analyzer
            .execute_and_check(plan.clone(), options, |_, _| {})
            .map_err(from_datafusion)
    }

    /// The logical plan of a statement, the wire types of its parameters, and the types its
    /// placeholders have in the plan.
    pub(super) fn logical(
        &self,
        statement: Statement,
        declared: &[Option<PgType>],
    ) -> Result<(LogicalPlan, Vec<PgType>, Vec<DataType>)> {
        self.logical_in(statement, declared, &Extra::default())
    }

    /// The same for a piece of a statement, which knows more.
    pub(super) fn logical_in(
        &self,
        mut statement: Statement,
        declared: &[Option<PgType>],
        extra: &Extra,
    ) -> Result<(LogicalPlan, Vec<PgType>, Vec<DataType>)> {
        let mut told: HashMap<usize, PgType> = pg::dialect::parameter_types(&statement).into_iter().collect();
        pg::dialect::rewrite(&mut statement);
        told.extend(rewrite::rewrite(&mut statement, &self.world)?);
        told.extend(&extra.told);
        pg::literals::rewrite(&mut statement);
        let count = placeholders_in(&statement)?.max(declared.len());
        let mut types: Vec<Option<PgType>> = (0..count)
            .map(|i| match declared.get(i).copied().flatten() {
                Some(PgType::Scalar(Scalar::Unknown)) | None => told.get(&(i + 1)).copied(),
                known => known,
            })
            .collect();
        let arrays = array_parameters::compared(&statement, |n| {
            types.get(n.wrapping_sub(1)).is_some_and(Option::is_none)
        });
        if let Some((plain, numbers)) = arrays
            && let Ok(plan) = self.try_logical(&plain, &types, extra)
        {
            let inferred = plan.get_parameter_fields().map_err(from_datafusion)?;
            for number in numbers {
                let field = inferred.get(&format!("${number}")).cloned().flatten();
                let known = types.get_mut(number - 1);
                if let (Some(PgType::Scalar(of)), Some(known)) = (field.map(|f| PgType::of(&f)), known) {
                    *known = Some(PgType::Array(of));
                }
            }
        }
        let plan = match self.try_logical(&statement, &types, extra) {
            Err(_) if types.iter().any(Option::is_none) => {
                // Where nothing tells a parameter's type it is text, as in PostgreSQL.
                let texts: Vec<_> = types.iter().map(|t| t.or(Some(PgType::TEXT))).collect();
                let plan = self.try_logical(&statement, &texts, extra)?;
                types = texts;
                plan
            }
            other => other?,
        };
        let inferred = plan.get_parameter_fields().map_err(from_datafusion)?;
        let mut placeholders = Vec::with_capacity(count);
        let mut parameters = Vec::with_capacity(count);
        for (i, known) in types.into_iter().enumerate() {
            let field = inferred.get(&format!("${}", i + 1)).cloned().flatten();
            let in_plan = field.as_ref().map(|f| PgType::of(f)).or(known).unwrap_or(PgType::TEXT);
            placeholders.push(field.map_or_else(|| in_plan.arrow(), |f| f.data_type().clone()));
            parameters.push(
                declared
                    .get(i)
                    .copied()
                    .flatten()
                    .filter(|t| *t != PgType::Scalar(Scalar::Unknown))
                    .unwrap_or(in_plan),
            );
        }
        Ok((plan, parameters, placeholders))
    }

    fn try_logical(&self, statement: &Statement, types: &[Option<PgType>], extra: &Extra) -> Result<LogicalPlan> {
        let mut tables = extra.tables.clone();
        tables.extend(self.with_rows.lock().iter().cloned());
        let context = Context {
            names: &self.names,
            path: self.settings.lock().path(),
            options: self.state.config_options(),
            within: Vec::new(),
            depth: 0,
            extra: &tables,
        };
        planned(&context, statement.clone(), types)
    }
}

/// The plan of a statement that has no parameters.
///
/// # Errors
/// Whatever is wrong with it.
pub(super) fn plan_with(context: &Context<'_>, mut statement: Statement) -> Result<LogicalPlan> {
    pg::dialect::rewrite(&mut statement);
    rewrite::rewrite(&mut statement, &context.names.world)?;
    pg::literals::rewrite(&mut statement);
    planned(context, statement, &[])
}

fn planned(context: &Context<'_>, statement: Statement, types: &[Option<PgType>]) -> Result<LogicalPlan> {
    let options = ParserOptions::new()
        .with_map_string_types_to_utf8view(false)
        .with_parse_float_as_decimal(true)
        .with_support_varchar_with_length(true)
        .with_default_null_ordering(NullOrdering::NullsMax);
    let types: Vec<Option<FieldRef>> = types.iter().map(|t| t.map(|t| Arc::new(parameter(t)))).collect();
    let mut planner_context = PlannerContext::new().with_prepare_param_data_types(types);
    SqlToRel::new_with_options(context, options)
        .sql_statement_to_plan_with_context(statement, &mut planner_context)
        .map_err(from_datafusion)
}

/// The statement of `WITH ... INSERT`, which the parser takes for a query, and its WITH.
fn written(query: &ast::Query) -> Option<(Option<ast::With>, Statement)> {
    match query.body.as_ref() {
        SetExpr::Insert(write) | SetExpr::Update(write) | SetExpr::Delete(write) => {
            Some((query.with.clone(), write.clone()))
        }
        _ => None,
    }
}

/// The values of the parameters as the plan's placeholders want them.
pub(super) fn values(
    params: &[datafusion::arrow::array::ArrayRef],
    placeholders: &[DataType],
) -> Result<Vec<ScalarValue>> {
    params
        .iter()
        .zip(placeholders)
        .map(|(array, wanted)| {
            let value = ScalarValue::try_from_array(array, 0).map_err(from_datafusion)?;
            if value.data_type() == *wanted {
                return Ok(value);
            }
            value.cast_to(wanted).map_err(from_datafusion)
        })
        .collect()
}

/// How a parameter stands in a plan: what may be the name of a relation, function or type is text until the cast that
/// it is in looks it up.
fn parameter(pg_type: PgType) -> Field {
    let field = pg_type.field("parameter", true);
    match pg_type {
        PgType::Scalar(Scalar::Regclass | Scalar::Regproc | Scalar::Regtype) => field.with_data_type(DataType::Utf8),
        _ => field,
    }
}

/// The columns of a plan as the client sees them.
pub(super) fn columns_of(plan: &LogicalPlan) -> Vec<Column> {
    columns_as(plan, plan.schema().as_arrow())
}

/// The columns of a plan whose rows will have this schema.
fn columns_as(plan: &LogicalPlan, rows: &Schema) -> Vec<Column> {
    let types = pg::output::types(plan, rows);
    let fields = plan.schema().fields().iter().zip(types).enumerate();
    let one = |(at, (field, pg_type)): (usize, (&FieldRef, PgType))| Column {
        pg_type,
        origin: origin(plan, at),
        ..column(field)
    };
    fields.map(one).collect()
}

pub(super) fn column(field: &Field) -> Column {
    Column {
        name: pg::names::shown(field.name()).to_owned(),
        pg_type: PgType::of(field),
        type_modifier: pgtype::modifier_of(field),
        origin: None,
    }
}

pub(super) fn text_column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        pg_type: PgType::TEXT,
        type_modifier: -1,
        origin: None,
    }
}

/// Whether the time of a statement, or what else holds for one alone, is in a plan.
pub(super) fn timely(plan: &LogicalPlan) -> Result<bool> {
    calls(plan, |f| f.signature().volatility == Volatility::Stable)
}

/// Whether a plan calls a scalar function of this kind anywhere; asks of each until one is.
pub(super) fn calls(
    plan: &LogicalPlan,
    mut kind: impl FnMut(&datafusion::logical_expr::ScalarUDF) -> bool,
) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::ScalarFunction(call) = e
                    && kind(&call.func)
                {
                    found = true;
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(from_datafusion)?;
    Ok(found)
}

/// The highest parameter number in a statement.
fn placeholders_in(statement: &Statement) -> Result<usize> {
    use std::ops::ControlFlow;
    let mut most = 0usize;
    let outcome: ControlFlow<Error> = ast::visit_expressions(statement, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
        {
            match name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) {
                Some(n) if n > 0 && n <= crate::limits::PARAMETERS => most = most.max(n),
                _ => {
                    return ControlFlow::Break(Error::new(
                        Code::UndefinedParameter,
                        format!("there is no parameter {name}"),
                    ));
                }
            }
        }
        ControlFlow::Continue(())
    });
    match outcome {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(most),
    }
}
