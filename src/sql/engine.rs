//! The process's one engine: what all sessions share, none of which holds anything of a tenant.
//!
//! Functions, optimizer rules and planners are made once here. A tenant gets a copy of the shared state
//! with a memory pool of its own, and each of its sessions a copy of that (reference counts).

use std::{collections::HashMap, sync::Arc};

use datafusion::object_store::ObjectStore;
use datafusion::{
    catalog::TableFunction,
    common::{DataFusionError, Result as DfResult},
    execution::{
        SessionState, SessionStateBuilder, SessionStateDefaults,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        object_store::ObjectStoreRegistry,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF, planner::ExprPlanner},
    prelude::SessionConfig,
};
use futures::{StreamExt, stream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{builtin, calls, functions, nearest::NearestRule, pg, reembed, world::TenantState, yielding::Yielding};
use crate::{
    ai::{gate::Gate, provider::Upstreams, tokens, trust::Authorities, webhook::Webhooks},
    error::{Code, Error, Result},
    ledger::{
        self, account,
        meter::{self, Meter},
        model::Models,
        price::Prices,
        provider::Providers,
        published::Cached,
        tier::Tiers,
        usage::now_micros,
    },
    limits,
    policy::audit,
    tenant::{Directory, PerTenant, Tenant},
    vector::{self, Pool},
};

/// Everything that sessions share.
pub struct Engine {
    directory: Arc<Directory>,
    shared: Shared,
    pub(super) tenants: PerTenant<TenantState>,
    meters: Arc<PerTenant<Meter>>,
    pub(super) prices: Arc<Cached<Prices>>,
    pub(super) models: Cached<Models>,
    pub(super) tiers: Arc<Cached<Tiers>>,
    pub(super) gate: Gate,
    pub(super) webhooks: Arc<Webhooks>,
    pub(super) providers: Cached<Providers>,
    /// What the vectors of all tenants share.
    pool: Arc<Pool>,
    /// Wakes the work that embeds documents anew.
    pub(super) reembed: Notify,
    /// What the operator's sessions start from: query memory of theirs together.
    pub(super) operator_state: SessionState,
    /// Held from the checks of a change to the operator's tables to its commit.
    pub(super) operator_writes: tokio::sync::Mutex<()>,
}

/// What an engine may be told.
pub struct EngineOptions {
    /// Certificates of these are trusted at providers and webhooks, too.
    pub authorities: Authorities,
    /// Bytes that the vectors of all tenants may take in memory.
    pub vector_memory: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            authorities: Authorities::default(),
            vector_memory: limits::VECTOR_MEMORY_BYTES,
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// Functions and planners by name, and the state that sessions copy.
pub(super) struct Shared {
    pub(super) scalar: HashMap<String, Arc<ScalarUDF>>,
    pub(super) aggregate: HashMap<String, Arc<AggregateUDF>>,
    pub(super) window: HashMap<String, Arc<WindowUDF>>,
    pub(super) table_functions: HashMap<String, Arc<TableFunction>>,
    pub(super) expr_planners: Vec<Arc<dyn ExprPlanner>>,
    /// The state without a tenant that every session starts from.
    pub(super) template: SessionState,
}

impl Engine {
    /// An engine over this directory; writes the default tiers, models and prices into a new one.
    ///
    /// # Errors
    /// Those of the directory.
    pub fn new(directory: Arc<Directory>) -> Result<Arc<Self>> {
        Self::with(directory, EngineOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// Those of the directory.
    pub fn with(directory: Arc<Directory>, options: EngineOptions) -> Result<Arc<Self>> {
        let authorities = options.authorities;
        directory.seed(ledger::defaults()?)?;
        // The tokenizer's table takes a fifth of a second to load; the first statement need not wait.
        std::thread::spawn(|| tokens::count_tokens("warm"));
        std::thread::spawn(vector::calibrate);
        let shared = Shared::new()?;
        Ok(Arc::new(Self {
            directory,
            operator_state: shared.state()?,
            shared,
            tenants: PerTenant::new(),
            meters: Arc::new(PerTenant::new()),
            prices: Arc::default(),
            models: Cached::default(),
            tiers: Arc::default(),
            gate: Gate::new(Upstreams::trusting(authorities.clone())),
            webhooks: Arc::new(Webhooks::trusting(authorities)),
            providers: Cached::default(),
            pool: Pool::new(options.vector_memory),
            reembed: Notify::new(),
            operator_writes: tokio::sync::Mutex::default(),
        }))
    }

    /// Who exists.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Work that goes on beside the sessions, until `stop`: what a former process left is settled, counts and logs are written each second, what has
    /// expired is deleted each hour, fine-tunings are followed, and documents are embedded anew where another model
    /// was set.
    pub async fn background(self: Arc<Self>, stop: CancellationToken) {
        let recovery = stop.run_until_cancelled(self.recover());
        let purger = stop.run_until_cancelled(self.purger());
        let tuner = stop.run_until_cancelled(self.tuner());
        let reembedder = stop.run_until_cancelled(reembed::run(&self));
        tokio::join!(
            meter::flusher(self.meters.clone(), stop.clone()),
            self.auditor(&stop),
            recovery,
            purger,
            tuner,
            reembedder
        );
    }

    /// Settles what a former process left, of every tenant.
    async fn recover(&self) {
        let directory = self.directory.clone();
        let found = tokio::task::spawn_blocking(move || directory.recoveries()).await;
        let recoveries = match found.map_err(Error::internal).flatten() {
            Ok(recoveries) => recoveries,
            Err(error) => {
                tracing::error!(%error, "calls of a former process cannot be read; they are settled at logins");
                return;
            }
        };
        for recovery in recoveries {
            let recorder = audit::recorder_of_orphans(&recovery.settings());
            if let Err(error) = account::recover(&recovery, &recorder).await {
                tracing::error!(%error, "calls of a former process cannot be settled; the next login tries again");
            }
        }
    }

    /// Writes what waits for the audit logs each [`limits::METER_INTERVAL`], and once more when told to stop.
    async fn auditor(&self, stop: &CancellationToken) {
        let mut failing = false;
        loop {
            let pause = tokio::time::sleep(limits::METER_INTERVAL);
            let stopped = stop.run_until_cancelled(pause).await.is_none();
            // At once, so that all of them share a few syncs of the disk.
            let flushed = stream::iter(self.open_tenants()).map(|state| async move { state.log.flush().await });
            let outcomes: Vec<_> = flushed.buffer_unordered(limits::GROUP_COMMITS).collect().await;
            let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).next();
            match failed {
                Some(error) if !failing => tracing::warn!(%error, "entries of audit logs stay in memory"),
                None if failing => tracing::info!("entries of audit logs are written again"),
                _ => {}
            }
            failing = failed.is_some();
            if stopped {
                return;
            }
        }
    }

    /// What the process keeps of each tenant that had a session since the start.
    pub(super) fn open_tenants(&self) -> Vec<Arc<TenantState>> {
        let mut all = Vec::new();
        self.tenants.for_each(|state| all.push(Arc::clone(state)));
        all
    }

    /// Deletes what has expired, of tenants that had a session since the start; of others nobody sees it.
    async fn purger(&self) {
        loop {
            tokio::time::sleep(limits::PURGE_INTERVAL).await;
            for state in self.open_tenants() {
                if let Err(error) = state.purge(now_micros()).await {
                    tracing::warn!(%error, "what has expired could not be deleted; it is tried again");
                }
            }
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What the process keeps for this tenant.
    pub(super) fn tenant(&self, tenant: &Tenant) -> Arc<TenantState> {
        let meter = self
            .meters
            .open(tenant, || Meter::new(tenant.clone(), self.prices.clone()));
        let mut new = false;
        let state = self.tenants.open(tenant, || {
            new = true;
            TenantState::new(meter, &self.pool)
        });
        if new {
            self.reembed.notify_one();
        }
        state
    }
}

impl Shared {
    /// The shared rules and functions with query memory of its own. Registers every function anew: a tenant's is
    /// made once, and its sessions take copies.
    pub(super) fn state(&self) -> Result<SessionState> {
        let builder = SessionStateBuilder::new_from_existing(self.template.clone());
        Ok(builder.with_runtime_env(runtime(limits::TENANT_QUERY_BYTES)?).build())
    }

    fn new() -> Result<Self> {
        let mut scalar = HashMap::new();
        let ours = functions::vector::all()
            .into_iter()
            .chain(functions::vector_math::all())
            .chain(pg::shared());
        for udf in builtin::scalar_functions().into_iter().chain(ours) {
            for alias in udf.aliases() {
                scalar.insert(alias.clone(), udf.clone());
            }
            scalar.insert(udf.name().to_owned(), udf);
        }
        let mut aggregate = HashMap::new();
        for udf in builtin::aggregate_functions()
            .into_iter()
            .chain([Arc::new(pg::subquery::aggregate())])
            .chain(pg::json_make::aggregates())
            .chain(pg::ordered_sets::aggregates())
        {
            for alias in udf.aliases() {
                aggregate.insert(alias.clone(), udf.clone());
            }
            aggregate.insert(udf.name().to_owned(), udf);
        }
        let mut window = HashMap::new();
        for udf in SessionStateDefaults::default_window_functions() {
            window.insert(udf.name().to_owned(), udf);
        }
        let table_functions = SessionStateDefaults::default_table_functions()
            .into_iter()
            .filter(|f| builtin::TABLE_FUNCTIONS.contains(&f.name()))
            .map(|f| (f.name().to_owned(), f))
            .collect();
        let mut config = SessionConfig::new()
            .with_target_partitions(1)
            .with_create_default_catalog_and_schema(true);
        let options = config.options_mut();
        options.sql_parser.map_string_types_to_utf8view = false;
        options.sql_parser.enable_ident_normalization = true;
        options.sql_parser.default_null_ordering = "nulls_max".to_owned();
        options.sql_parser.parse_float_as_decimal = true;
        options.execution.time_zone = Some("UTC".to_owned());
        // Reused plans must not carry filters that a former run narrowed.
        options.optimizer.enable_dynamic_filter_pushdown = false;
        options.explain.logical_plan_only = false;
        let template = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_file_formats(Vec::new())
            .with_table_factories(HashMap::new())
            // After DataFusion's own rules, in this order.
            .with_analyzer_rule(Arc::new(pg::lateral::LateralColumns))
            .with_analyzer_rule(Arc::new(pg::apply::ApplySubqueries))
            .with_optimizer_rule(Arc::new(NearestRule))
            .with_physical_optimizer_rule(Arc::new(Yielding))
            .with_query_planner(Arc::new(calls::Planner))
            .with_runtime_env(runtime(limits::TENANT_QUERY_BYTES)?)
            .build();
        let mut expr_planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(pg::operators::PgOperators)];
        expr_planners.extend(SessionStateDefaults::default_expr_planners());
        Ok(Self {
            scalar,
            aggregate,
            window,
            table_functions,
            expr_planners,
            template,
        })
    }
}

/// Memory of its own, no files, no URLs.
fn runtime(bytes: usize) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .with_object_store_registry(Arc::new(NoStores))
        .build_arc()
        .map_err(Error::internal)
}

/// The registry that knows no store and takes none: no plan can open a file or a URL.
#[derive(Debug)]
struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _url: &url::Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, _url: &url::Url) -> DfResult<Arc<dyn ObjectStore>> {
        Err(DataFusionError::from(Error::new(
            Code::InsufficientPrivilege,
            "a session reaches its own tenant's data only, never files or URLs",
        )))
    }
}
