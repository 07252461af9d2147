//! One connection's session: its tenant, its settings, its transaction, its prepared statements.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use datafusion::{
    arrow::array::{ArrayRef, RecordBatch},
    catalog::TableProvider,
    execution::{SessionState, TaskContext},
    sql::sqlparser::ast,
};
use futures::Stream;
use parking_lot::Mutex;

use super::{
    admission::Admission,
    backends::Registered,
    catalog::SessionCatalog,
    commitment::Commitment,
    copy::CopyAnswer,
    cursor::Cursors,
    effects::Marks,
    engine::Engine,
    functions,
    guard::{self, Kind, Parsed},
    listen::Listening,
    pg,
    planner::Names,
    plans::Plans,
    prepared::Prepared,
    settings::{self, Asker, Settings},
    statement::Desk,
    tables::{builds::Building, rules::Rules},
    world::{Connection, OperatorWorld, TenantWorld, World},
    yielding::Watch,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
    limits,
    table::schema::Oid,
    tenant::{Batch, Login, Role},
};

/// Rows as they come.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// One column of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name as PostgreSQL would give it.
    pub name: String,
    /// Its type on the wire.
    pub pg_type: PgType,
    /// `atttypmod`; -1 where there is none.
    pub type_modifier: i32,
    /// The table and the number of the column that it is, where it is one.
    pub origin: Option<(Oid, i16)>,
}

/// What a statement gives.
pub enum Answer {
    /// Rows, and the tag to end with.
    Rows {
        /// Their columns.
        columns: Vec<Column>,
        /// The rows.
        rows: RowStream,
        /// The command tag.
        tag: RowTag,
    },
    /// No rows.
    Done {
        /// The command tag, complete.
        tag: String,
    },
    /// A COPY, which the wire carries out.
    Copy(CopyAnswer),
    /// There was no statement.
    Empty,
}

/// A command tag that ends with the number of rows: `SELECT`, `INSERT 0`, `UPDATE`.
#[derive(Clone, Copy, Debug)]
pub struct RowTag(pub &'static str);

impl RowTag {
    /// The tag for so many rows.
    pub fn render(self, rows: u64) -> String {
        match self.0 {
            "EXPLAIN" | "SHOW" => self.0.to_owned(),
            word => format!("{word} {rows}"),
        }
    }
}

/// A message beside the answer.
#[derive(Clone, Debug)]
pub struct Notice {
    /// `NOTICE` or `WARNING`.
    pub severity: &'static str,
    /// SQLSTATE.
    pub code: &'static str,
    /// The sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Each statement commits by itself.
    Idle,
    /// Several statements of one message, committed together at its end.
    Implicit,
    /// After BEGIN.
    Open,
    /// After an error in an open transaction.
    Failed,
}

/// One connection's session.
pub struct Session {
    pub(super) world: Arc<World>,
    pub(super) state: SessionState,
    /// What plans run in. It knows no functions: a plan has those that it calls.
    pub(super) task: Arc<TaskContext>,
    pub(super) names: Arc<Names>,
    pub(super) catalog: Arc<dyn pg::catalog::Snapshots>,
    pub(super) settings: Arc<Mutex<Settings>>,
    pub(super) status: Status,
    pub(super) notices: Vec<Notice>,
    pub(super) listening: Listening,
    pub(super) cursors: Cursors,
    pub(super) marks: Marks,
    pub(super) changed: Vec<&'static str>,
    pub(super) statements: HashMap<String, Arc<Prepared>>,
    /// Those of texts that come again.
    pub(super) plans: Plans,
    /// What ran last, as far as it may still fail. Its functions hold the world, so the world may not hold it.
    pub(super) ran: Mutex<Option<Arc<Prepared>>>,
    pid: Arc<AtomicI32>,
    commitment: Arc<Commitment>,
    /// Whether other statements are part of the message.
    pub(super) several: bool,
    pub(super) watch: Option<Arc<dyn Watch>>,
    /// What tables ask of their rows, by table.
    pub(super) rules: Mutex<HashMap<Oid, Arc<Rules>>>,
    /// What writes in the running statement's WITH gave.
    pub(super) with_rows: Mutex<Vec<(String, Arc<dyn TableProvider>)>>,
    pub(super) admission: Admission,
    pub(super) registered: Option<Registered>,
    pub(super) listed: Arc<Mutex<Vec<(String, String)>>>,
    /// Builds that the last commit began.
    pub(super) builds: Vec<Building>,
    _connection: Option<Connection>,
}

impl Session {
    /// Opens the session of a finished login. `startup` are the client's startup parameters; those
    /// that are settings are set, the rest is ignored.
    ///
    /// # Errors
    /// 53300 at the tenant's connection limit; 22023 for a setting's bad value.
    pub async fn open(engine: Arc<Engine>, login: Login, startup: &[(String, String)]) -> Result<Self> {
        let settings = Arc::new(Mutex::new(Settings::default()));
        let commitment = Arc::new(Commitment::default());
        let desk = Arc::new(Desk::new(settings.clone(), commitment.clone()));
        let (world, state, connection) = match login {
            Login::Tenant(tenant, user) => {
                tenant.check_open()?;
                let kept = engine.tenant(&tenant);
                let connection = kept.connect(limits::TENANT_CONNECTIONS)?;
                let state = kept.session_state(&engine)?;
                let world = TenantWorld {
                    tenant,
                    user,
                    state: kept,
                    engine: engine.clone(),
                    tx: Mutex::default(),
                    owner: OnceLock::new(),
                    desk,
                    trail: Mutex::default(),
                    acting_for: Mutex::default(),
                    given: Mutex::default(),
                    temporary: OnceLock::new(),
                };
                (World::Tenant(Box::new(world)), state, Some(connection))
            }
            Login::Operator(operator) => {
                let state = engine.operator_state.clone();
                (
                    World::Operator(Box::new(OperatorWorld {
                        operator,
                        engine: engine.clone(),
                        desk,
                    })),
                    state,
                    None,
                )
            }
        };
        let world = Arc::new(world);
        settings.lock().fix("session_authorization", world.user().to_owned());
        let (listed, pid) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicI32::new(0)));
        let catalog: Arc<dyn pg::catalog::Snapshots> = Arc::new(SessionCatalog::new(
            world.clone(),
            settings.clone(),
            listed.clone(),
            pid.clone(),
        ));
        let names = Arc::new(Names::new(
            world.clone(),
            pg::bound(&catalog)
                .into_iter()
                .chain(functions::settings::bound(&settings))
                .chain(functions::server::bound(&world))
                .collect(),
            pg::relations::pg_catalog(catalog.clone()),
            pg::relations::information_schema(catalog.clone()),
        ));
        let none = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
        let task = TaskContext::new(
            None,
            state.session_id().to_owned(),
            state.config().clone(),
            none.0,
            none.1,
            none.2,
            none.3,
            state.runtime_env().clone(),
        );
        let mut session = Self {
            with_rows: Mutex::default(),
            admission: Admission::of(&world),
            registered: None,
            world,
            state,
            task: Arc::new(task),
            names,
            catalog,
            settings,
            status: Status::Idle,
            notices: Vec::new(),
            listening: Listening::default(),
            cursors: Cursors::default(),
            marks: Marks::default(),
            changed: Vec::new(),
            statements: HashMap::new(),
            plans: Plans::default(),
            ran: Mutex::default(),
            pid,
            commitment,
            several: false,
            watch: None,
            rules: Mutex::default(),
            listed,
            builds: Vec::new(),
            _connection: connection,
        };
        session.start(startup)?;
        if let World::Tenant(world) = &*session.world
            && let Err(error) = world.account().await
        {
            // What a crash left of calls cannot be settled: calls of models will say so, the rest goes on.
            tracing::error!(%error, "the account of a tenant cannot be opened");
        }
        session.trail_login();
        Ok(session)
    }

    /// Tells the session the number its client cancels it by.
    pub fn set_backend_pid(&mut self, pid: i32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// The number its client cancels it by; 0 if it has none.
    pub(super) fn backend_pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Lets statements that compute for long ask whether they must end, and others end them.
    pub fn set_watch(&mut self, watch: Arc<dyn Watch>) {
        self.register(self.backend_pid(), watch.clone());
        self.watch = Some(watch);
    }

    /// Parses and judges a text; comments alone give nothing.
    ///
    /// # Errors
    /// 42601, 54000, 54001, 0A000 and 42501.
    pub fn parse(&self, sql: &str) -> Result<Vec<Parsed>> {
        self.trail_clear();
        guard::parse(sql).inspect_err(|error| self.trail_unread(sql, error))
    }

    /// Plans a statement. `types` are the parameter types the client declares.
    ///
    /// # Errors
    /// Whatever is wrong with the statement.
    pub async fn prepare(&mut self, parsed: &Parsed, types: &[Option<PgType>]) -> Result<Arc<Prepared>> {
        self.check_alive()?;
        self.check_not_failed(parsed)?;
        self.trail_clear();
        if parsed.looks() {
            self.look().await?;
        }
        let planned = self.plan(parsed, types);
        Ok(Arc::new(
            planned.inspect_err(|error| self.trail_unplanned(parsed, error))?,
        ))
    }

    /// Runs a prepared statement. `params` are arrays of length 1, in the Arrow form of the
    /// prepared parameters' types.
    ///
    /// # Errors
    /// Whatever goes wrong; the caller then calls [`Session::failed`].
    pub async fn execute(&mut self, prepared: &Arc<Prepared>, params: &[ArrayRef]) -> Result<Answer> {
        self.check_alive()?;
        self.check_not_failed(&prepared.parsed)?;
        if let World::Tenant(world) = &*self.world {
            world.state.meter.statement(&world.acting_user());
        }
        self.show_active(&prepared.parsed.text);
        let alone = self.status == Status::Idle;
        self.world.desk().begin(self.statement_timeout(), alone);
        // What now() is for this statement.
        self.state.mark_start_execution();
        self.sync_asker();
        self.trail_begin(prepared);
        if prepared.parsed.looks() {
            self.look().await?;
        }
        let answer = self.run(prepared, params).await?;
        self.trail_ended(matches!(answer, Answer::Copy(_)));
        Ok(answer)
    }

    /// The statements that follow commit together; `several` if they are of one message.
    pub fn begin_implicit(&mut self, several: bool) {
        self.several = several;
        if self.status == Status::Idle {
            self.status = Status::Implicit;
        }
    }

    /// The message ended: commits what its statements wrote, or drops it.
    ///
    /// # Errors
    /// Those of a commit.
    pub async fn end_implicit(&mut self, ok: bool) -> Result<()> {
        self.several = false;
        if self.status != Status::Implicit {
            self.look_away();
            return Ok(());
        }
        match ok {
            true => self.commit().await,
            false => {
                self.rollback();
                Ok(())
            }
        }
    }

    /// A statement failed: an open transaction is aborted, an implicit one rolled back.
    pub fn failed(&mut self, error: &Error) {
        self.trail_failed(error);
        self.end_chain();
        match self.status {
            Status::Open | Status::Failed => {
                self.status = Status::Failed;
                self.abort();
            }
            Status::Idle | Status::Implicit => self.rollback(),
        }
    }

    /// The byte of ReadyForQuery.
    pub fn status(&self) -> u8 {
        match self.status {
            Status::Idle | Status::Implicit => b'I',
            Status::Open => b'T',
            Status::Failed => b'E',
        }
    }

    /// Whether the running statement can still be taken back. The caller says when a statement begins.
    pub fn commitment(&self) -> Arc<Commitment> {
        self.commitment.clone()
    }

    /// From here on the running statement must not be interrupted.
    pub(super) fn point_of_no_return(&self) {
        self.commitment.no_return();
    }

    /// The longest a statement may run.
    pub fn statement_timeout(&self) -> Duration {
        self.settings.lock().statement_timeout()
    }

    /// How long the client may be silent now: as set, and never longer than the server allows.
    pub fn idle_timeout(&self) -> Duration {
        let (name, most) = match self.status() {
            b'I' => ("idle_session_timeout", limits::IDLE_SESSION),
            _ => ("idle_in_transaction_session_timeout", limits::IDLE_TRANSACTION),
        };
        self.settings.lock().duration(name).map_or(most, |set| set.min(most))
    }

    /// Messages for the client since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let mut notices = std::mem::take(&mut self.notices);
        notices.append(&mut self.world.desk().notices.lock());
        notices
    }

    pub(super) fn set(&mut self, name: &str, value: &str, local: bool) -> Result<()> {
        let asker = self.asker();
        let reported = self.settings.lock().set(name, value, local, asker)?;
        self.settings_changed(reported);
        Ok(())
    }

    pub(super) fn reset(&mut self, name: &str) -> Result<()> {
        let asker = self.asker();
        let reported = self.settings.lock().reset(name, asker)?;
        self.settings_changed(reported);
        Ok(())
    }

    pub(super) fn reset_all(&mut self) {
        self.settings.lock().reset_all();
        self.settings_returned();
    }

    /// Settings are again what they were at a savepoint.
    pub(super) fn settings_returned(&mut self) {
        self.changed
            .extend(settings::SETTINGS.iter().filter(|s| s.reported).map(|s| s.name));
        self.settings_changed(None);
    }

    /// Brings what depends on settings up to date.
    fn settings_changed(&mut self, reported: Option<&'static str>) {
        self.changed.extend(reported);
        if let World::Tenant(world) = &*self.world {
            *world.acting_for.lock() = self.settings.lock().end_user();
        }
    }

    /// set_config() asks the settings themselves who asks.
    fn sync_asker(&self) {
        let asker = self.asker();
        self.settings.lock().asker = asker;
    }

    fn asker(&self) -> Asker {
        Asker {
            service: self.world.role() == Some(Role::Service),
            in_transaction: matches!(self.status, Status::Open | Status::Implicit),
        }
    }

    pub(super) fn check_not_failed(&self, parsed: &Parsed) -> Result<()> {
        let ends = matches!(&parsed.kind, Kind::Sql(s) if matches!(**s, ast::Statement::Rollback { .. } | ast::Statement::Commit { .. }));
        match self.status {
            Status::Failed if !ends => Err(Error::new(
                Code::InFailedTransaction,
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    /// Commits the transaction's writes with whatever counts wait to be written.
    pub(super) async fn commit(&mut self) -> Result<()> {
        let was = std::mem::replace(&mut self.status, Status::Idle);
        let outcome = match self.hold_cursors().await {
            Ok(()) => self.check_deferred().await,
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(()) => self.drop_passing().await,
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(()) => self.write().await,
            Err(error) => Err(error),
        };
        self.trail_committed(&outcome);
        // Only now: what was changed is on disk, and whoever waited for it sees it.
        self.forget_transaction();
        self.settings.lock().end_transaction(outcome.is_ok());
        self.end_effects(outcome.is_ok());
        self.settings_changed(None);
        match &outcome {
            Ok(()) => self.begin_builds().await,
            Err(_) if matches!(was, Status::Open | Status::Failed) => self.rollback(),
            Err(_) => {}
        }
        outcome
    }

    async fn write(&self) -> Result<()> {
        let World::Tenant(world) = &*self.world else {
            return Ok(());
        };
        let (tx, _turn, spaces, commits) = loop {
            let active = world.state.embeddings.current()?.active.space;
            let strays = world.tx.lock().has_strays(active);
            if strays && let Err(error) = world.spaces().await {
                *world.tx.lock() = Default::default();
                return Err(error);
            }
            let tx = std::mem::take(&mut *world.tx.lock());
            if tx.is_empty() {
                return Ok(());
            }
            let turn = world.state.turns.hold(tx.conversations()).await;
            let commits = match tx.has_documents() {
                true => Some(world.state.embeddings.shared().await),
                false => None,
            };
            let spaces = world.state.embeddings.current()?;
            if !tx.has_strays(spaces.active.space) {
                break (tx, turn, spaces, commits);
            }
            // The embedding model was changed just now.
            *world.tx.lock() = tx;
        };
        self.point_of_no_return();
        // Again from the start where another commit changed a conversation first.
        let rest = |batch: &mut Batch| {
            super::metering::embedded(&world.state.meter, &world.acting_user(), batch, tx.embedded_tokens())?;
            let changes = tx.fill(batch, &spaces)?;
            world.log_into(batch);
            if !tx.tables().is_empty() {
                world.opened()?.fill(batch, tx.tables())?;
            }
            // Deletes are accepted on a full disk; with counts beside them they would not be.
            if !tx.only_deletes() {
                world.state.meter.drain_into(batch)?;
            }
            if tx.has_documents() {
                let (apply, commits) = (world.state.apply_when_durable(changes), commits.clone());
                batch.on_durable(move || {
                    apply();
                    drop(commits);
                });
            }
            Ok(())
        };
        let now = super::documents::now_micros();
        let outcome = tx.conversations().commit(&world.tenant, now, rest).await;
        if outcome.is_ok() && !tx.tables().is_empty() {
            world.state.vectors.committed(world.opened()?);
        }
        outcome.inspect(|()| world.logged())
    }

    /// Drops the transaction's writes.
    pub(super) fn rollback(&mut self) {
        self.status = Status::Idle;
        if let World::Tenant(world) = &*self.world {
            world.rolled_back();
        }
        self.forget_transaction();
        self.settings.lock().end_transaction(false);
        self.end_effects(false);
        self.settings_changed(None);
    }

    /// The transaction is over: its writes, its snapshot and its locks go.
    fn forget_transaction(&self) {
        if let World::Tenant(world) = &*self.world {
            *world.tx.lock() = Default::default();
            world.release_locks();
        }
    }

    pub(super) fn notice(&mut self, severity: &'static str, code: &'static str, message: impl Into<String>) {
        self.notices.push(Notice {
            severity,
            code,
            message: message.into(),
            hint: None,
        });
    }
}
