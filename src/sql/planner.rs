//! Names become tables, functions and types: the planner's view of one session.
//!
//! DataFusion's SQL planner asks a context provider what a name means. Ours answers from one
//! [`World`] and from lists that hold nothing of a tenant, follows the session's `search_path`,
//! and never looks at a file.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, SchemaRef},
    catalog::{SchemaProvider, TableFunctionArgs, TableProvider},
    common::{DFSchema, Result as DfResult, TableReference, plan_err},
    config::ConfigOptions,
    datasource::{cte_worktable::CteWorkTable, provider_as_source},
    logical_expr::{
        AggregateUDF, Expr, Extension, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource,
        WindowUDF,
        planner::{
            ContextProvider, ExprPlanner, PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
            TypePlanner,
        },
        simplify::SimplifyContext,
    },
    optimizer::simplify_expressions::ExprSimplifier,
    sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, TableFactor},
};

use super::{
    calls::TableCall,
    functions::{self, Function},
    pg,
    relations::{self, RelationProvider},
    tables,
    world::World,
};
use crate::{
    error::{Code, Error},
    table::schema::Oid,
};

/// What names mean in one session.
pub(super) struct Names {
    pub(super) world: Arc<World>,
    /// Functions made for this session; looked up before the shared ones.
    pub(super) bound: HashMap<String, Arc<ScalarUDF>>,
    pub(super) pg_catalog: Arc<dyn SchemaProvider>,
    pub(super) information_schema: Arc<dyn SchemaProvider>,
    pub(super) relation_planners: Vec<Arc<dyn RelationPlanner>>,
}

/// A name of [`Context::extra`] that no text can spell.
pub(super) const LOCAL: &str = "\u{1}local";

/// The same, with the settings that a statement runs under.
pub(super) struct Context<'a> {
    pub(super) names: &'a Arc<Names>,
    pub(super) path: Vec<String>,
    pub(super) options: &'a ConfigOptions,
    /// Tables whose policies are being planned.
    pub(super) within: Vec<Oid>,
    /// How many views this is planned for, one in the other.
    pub(super) depth: usize,
    /// Relations of this statement alone, looked up first.
    pub(super) extra: &'a [(String, Arc<dyn TableProvider>)],
}

impl Names {
    pub(super) fn new(
        world: Arc<World>,
        bound: Vec<Arc<ScalarUDF>>,
        pg_catalog: Arc<dyn SchemaProvider>,
        information_schema: Arc<dyn SchemaProvider>,
    ) -> Self {
        let mut by_name = HashMap::new();
        for udf in bound.into_iter().chain(functions::bind(&world)) {
            for alias in udf.aliases() {
                by_name.insert(alias.clone(), udf.clone());
            }
            by_name.insert(udf.name().to_owned(), udf);
        }
        let relation_planners: Vec<Arc<dyn RelationPlanner>> = vec![
            Arc::new(Calls { world: world.clone() }),
            Arc::new(pg::from::PgRelations),
        ];
        Self {
            world,
            bound: by_name,
            pg_catalog,
            information_schema,
            relation_planners,
        }
    }
}

impl Context<'_> {
    fn table(&self, schema: &str, table: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        match schema {
            // Their lookups are in memory and never wait.
            "pg_catalog" => futures::executor::block_on(self.names.pg_catalog.table(table)),
            "information_schema" => futures::executor::block_on(self.names.information_schema.table(table)),
            _ => match relations::find(&self.names.world, schema, table)? {
                Some(r) => Ok(Some(Arc::new(RelationProvider::new(r, self.names.world.clone())))),
                None => tables::provider::find(self, schema, table),
            },
        }
    }

    fn resolve(&self, name: &TableReference) -> DfResult<Option<Arc<dyn TableProvider>>> {
        if let Some(catalog) = name.catalog()
            && catalog != self.names.world.database()
        {
            return Ok(None);
        }
        if let Some(schema) = name.schema() {
            return self.table(schema, name.table());
        }
        if let Some((_, table)) = self.extra.iter().find(|(own, _)| own == name.table()) {
            return Ok(Some(table.clone()));
        }
        let named = self.path.iter().any(|p| p == "pg_catalog");
        let first = (!named).then_some("pg_catalog");
        let temporary = self.names.world.temp_schema();
        let before = temporary.as_deref().into_iter().chain(first);
        for schema in before.chain(self.path.iter().map(String::as_str)) {
            if let Some(table) = self.table(schema, name.table())? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        match self.resolve(&name)? {
            Some(table) => Ok(provider_as_source(table)),
            None => Err(Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist")).into()),
        }
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DfResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> DfResult<Arc<dyn TableSource>> {
        let shared = self.names.world.engine().shared();
        let Some(function) = shared.table_functions.get(name) else {
            return Err(undefined(name));
        };
        // Arguments must be constants: what computes to one is one.
        let nothing = DFSchema::empty();
        let simplify = SimplifyContext::builder()
            .with_config_options(Arc::new(self.options.clone()))
            .build();
        let simplifier = ExprSimplifier::new(simplify);
        let args = args
            .into_iter()
            .map(|arg| simplifier.simplify(simplifier.coerce(arg, &nothing)?))
            .collect::<DfResult<Vec<_>>>()?;
        let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&args, &shared.template))?;
        Ok(provider_as_source(provider))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.names.world.engine().shared().expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.names.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(pg::types::PgTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let (name, names) = (name.to_lowercase(), self.names);
        let known = || {
            let bound = names.bound.get(&name);
            bound
                .or_else(|| names.world.engine().shared().scalar.get(&name))
                .cloned()
        };
        functions::bind_call(&name, &names.world).or_else(known)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.names
            .world
            .engine()
            .shared()
            .aggregate
            .get(bare(name).as_str())
            .cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.names
            .world
            .engine()
            .shared()
            .window
            .get(bare(name).as_str())
            .cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.options
    }

    // Real names are offered to no one, for DataFusion puts its guesses into error texts; with none
    // at all it would call that a defect.
    fn udf_names(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![String::new()]
    }
}

fn bare(name: &str) -> String {
    let name = name.to_lowercase();
    name.strip_prefix("pg_catalog.").map(str::to_owned).unwrap_or(name)
}

fn undefined(name: &str) -> datafusion::error::DataFusionError {
    Error::new(Code::UndefinedFunction, format!("function {name} does not exist"))
        .with_hint("\\df lists the functions; check the number and names of the arguments")
        .into()
}

/// Our table functions in FROM.
#[derive(Debug)]
struct Calls {
    world: Arc<World>,
}

impl RelationPlanner for Calls {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let (name, args, alias) = match &relation {
            TableFactor::Table {
                name,
                args: Some(args),
                alias,
                with_ordinality: false,
                ..
            } => (name, &args.args, alias),
            TableFactor::Function {
                name,
                args,
                alias,
                with_ordinality: false,
                ..
            } => (name, args, alias),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let called = name.to_string().to_lowercase();
        if let Some(function) = functions::find(&self.world, &called)
            && function.is_table()
        {
            let alias = alias.clone();
            let plan = self.plan_call(function, args.clone(), context)?;
            return Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))));
        }
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}

impl Calls {
    fn plan_args(&self, args: Vec<FunctionArg>, context: &mut dyn RelationPlannerContext) -> DfResult<Vec<Expr>> {
        let nothing = DFSchema::empty();
        args.into_iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => context.sql_to_expr(expr, &nothing),
                other => plan_err!("unsupported function argument {other}"),
            })
            .collect()
    }

    fn plan_call(
        &self,
        function: &'static Function,
        args: Vec<FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<LogicalPlan> {
        let args = self.plan_args(args, context)?;
        let call = TableCall::try_new(function, self.world.clone(), args)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(call) });
        let name = function.name.rsplit('.').next().unwrap_or(function.name);
        LogicalPlanBuilder::from(plan).alias(name)?.build()
    }
}

/// The last part of a possibly qualified name.
pub(super) fn last_part(name: &ast::ObjectName) -> String {
    name.0
        .last()
        .and_then(|p| p.as_ident())
        .map(|i| i.value.to_lowercase())
        .unwrap_or_default()
}
