//! Transactions over the tenant's own tables: what their statements see, what they lock, how they end.
//!
//! Each statement of READ COMMITTED sees what was committed when it began; those of REPEATABLE READ and
//! SERIALIZABLE see what was committed when the first of them began. Own writes lie on top.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::array::{ArrayRef, Int64Array},
    sql::sqlparser::ast::TransactionMode,
};
use tokio::time::Instant;

use super::{
    commands::mode_settings,
    session::{Session, Status},
    settings,
    world::{TenantState, TenantWorld, World},
};
use crate::{
    error::{Code, Error, Result},
    table::{
        Database, Mode, Owner, Resource, Tables, Wait, WriteSet,
        schema::{Oid, Relation, RowId},
    },
};

/// How much of others' commits a transaction sees. READ UNCOMMITTED is READ COMMITTED, as in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// What was committed before each statement.
    ReadCommitted,
    /// What was committed before its first statement; a row changed by another since fails with 40001.
    RepeatableRead,
    /// As if transactions ran one after the other: what is read is locked against writers.
    Serializable,
}

/// What a transaction's statements see.
#[derive(Default)]
pub(super) struct Seen {
    isolation: Option<Isolation>,
    /// What is committed, as of the statement or the transaction.
    snapshot: Option<Database>,
    /// The same with the transaction's own writes on top.
    view: Option<Database>,
    /// Whether a table was read that is locked against writers.
    read: bool,
    /// Whether own writes are not seen until the statement ends.
    held: bool,
}

impl Seen {
    /// Own writes changed.
    pub(super) fn changed(&mut self) {
        if !self.held {
            self.view = None;
        }
    }

    /// What is seen now is seen until [`Seen::release`], whatever is written.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// Own writes are seen again.
    pub(super) fn release(&mut self) {
        (self.held, self.view) = (false, None);
    }

    /// Whether a statement of the transaction has looked at anything.
    pub(super) fn has_begun(&self) -> bool {
        self.isolation.is_some()
    }

    /// The level that the transaction has, once it has begun.
    pub(super) fn isolation(&self) -> Option<Isolation> {
        self.isolation
    }

    /// A statement begins: `latest` is what is committed. Kept only where the level wants it.
    fn begin(&mut self, latest: &Database, isolation: Isolation) {
        let isolation = *self.isolation.get_or_insert(isolation);
        if self.snapshot.is_none() || isolation == Isolation::ReadCommitted {
            self.look(latest.clone());
        }
    }

    /// Sees another committed state.
    fn look(&mut self, snapshot: Database) {
        self.snapshot = Some(snapshot);
        self.view = None;
    }
}

/// A row whose foreign keys are looked at before the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Check {
    /// A row of the referencing table: `(table, foreign key, row)`.
    Parent(Oid, Oid, RowId),
    /// A row of the referenced table is gone or has another key: `(referencing table, foreign key)`.
    Children(Oid, Oid),
}

/// Foreign keys to be looked at before the commit.
pub(super) type Deferred = Arc<BTreeSet<Check>>;

impl TenantState {
    /// The tenant's tables, opened at first need.
    ///
    /// # Errors
    /// Those of reading the catalog.
    pub(super) async fn tables(&self) -> Result<&Arc<Tables>> {
        let open = || async {
            let tenant = self.meter.tenant();
            let tables = Tables::open(tenant.clone()).await?;
            super::tables::temporary::forget(tenant, &tables, None).await?;
            Ok(tables)
        };
        self.tables.get_or_try_init(open).await
    }
}

impl TenantWorld {
    /// The tenant's tables; see [`TenantState::tables`].
    pub(super) async fn tables(&self) -> Result<&Arc<Tables>> {
        self.state.tables().await
    }

    /// The tenant's tables, which the session opened before it planned anything.
    pub(super) fn opened(&self) -> Result<&Arc<Tables>> {
        let tables = self.state.tables.get();
        tables.ok_or_else(|| Error::internal("tables are used before they are opened"))
    }

    /// What the running statement sees: a snapshot with this transaction's own writes.
    ///
    /// # Errors
    /// Those of laying the writes over the snapshot.
    pub(super) fn view(&self) -> Result<Database> {
        let tables = self.opened()?;
        let mut tx = self.tx.lock();
        if let Some(view) = &tx.seen_tables.view {
            return Ok(view.clone());
        }
        let snapshot = tx.seen_tables.snapshot.get_or_insert_with(|| tables.latest()).clone();
        let view = match tx.tables().is_empty() {
            true => snapshot,
            false => snapshot.with(tx.tables())?,
        };
        tx.seen_tables.view = Some(view.clone());
        Ok(view)
    }

    /// What is committed as the running statement sees it, without own writes.
    pub(super) fn snapshot(&self) -> Result<Database> {
        let tables = self.opened()?;
        let mut tx = self.tx.lock();
        Ok(tx.seen_tables.snapshot.get_or_insert_with(|| tables.latest()).clone())
    }

    /// What is committed now, with own writes on top: what constraints are judged by.
    ///
    /// # Errors
    /// Those of laying the writes over it.
    pub(super) fn newest(&self) -> Result<Database> {
        let latest = self.opened()?.latest();
        let tx = self.tx.lock();
        match tx.tables().is_empty() {
            true => Ok(latest),
            false => latest.with(tx.tables()),
        }
    }

    /// A statement in READ COMMITTED found that what it is to change was changed: it looks again.
    pub(super) fn look_again(&self) -> Result<()> {
        let latest = self.opened()?.latest();
        self.tx.lock().seen_tables.look(latest);
        Ok(())
    }

    /// The level of the running transaction.
    pub(super) fn isolation(&self) -> Isolation {
        let begun = self.tx.lock().seen_tables.isolation();
        begun.unwrap_or_else(|| self.asked_isolation())
    }

    fn asked_isolation(&self) -> Isolation {
        let settings = self.desk.settings.lock();
        let asked = settings::find("transaction_isolation")
            .map(|s| settings.get(s))
            .unwrap_or_default();
        match asked.as_str() {
            "serializable" => Isolation::Serializable,
            "repeatable read" => Isolation::RepeatableRead,
            _ => Isolation::ReadCommitted,
        }
    }

    /// A statement begins.
    pub(super) fn begin_statement(&self) -> Result<()> {
        let latest = self.opened()?.latest();
        let asked = self.asked_isolation();
        self.tx.lock().seen_tables.begin(&latest, asked);
        Ok(())
    }

    /// Changes what the transaction writes to tables.
    pub(super) fn write_tables<T>(&self, change: impl FnOnce(&mut WriteSet) -> T) -> T {
        change(self.tx.lock().tables_mut())
    }

    /// What the session's locks belong to.
    pub(super) fn owner(&self) -> Result<&Owner> {
        let tables = self.opened()?;
        Ok(self.owner.get_or_init(|| tables.locks().owner()))
    }

    /// Takes a lock to the end of the transaction, waiting no longer than `lock_timeout`.
    ///
    /// # Errors
    /// 40P01, and 55P03 after that time.
    pub(super) async fn lock(&self, resource: Resource, mode: Mode) -> Result<()> {
        let wait = self.wait();
        self.owner()?.lock(resource, mode, wait).await
    }

    /// How long `lock_timeout` lets a lock be waited for.
    pub(super) fn wait(&self) -> Wait {
        let longest = self.desk.settings.lock().duration("lock_timeout");
        longest.map_or(Wait::Forever, |longest| Wait::Until(Instant::now() + longest))
    }

    /// In SERIALIZABLE, locks a table that is about to be read against writers: what the transaction sees of it is
    /// what is committed, from here to its end.
    ///
    /// # Errors
    /// 40001 where another transaction has changed it since this one looked; 40P01, 55P03.
    pub(super) async fn lock_for_reading(&self, table: Oid) -> Result<()> {
        if self.isolation() != Isolation::Serializable {
            return Ok(());
        }
        self.lock(Resource::Table(table), Mode::Shared).await?;
        // Loaded in both, or in neither. One that this transaction made is in neither.
        let seen = self.snapshot()?;
        if seen.catalog().table(table).is_some() {
            seen.table(table).await?;
        }
        let (seen, latest) = (self.snapshot()?, self.opened()?.latest());
        let first = !std::mem::replace(&mut self.tx.lock().seen_tables.read, true);
        if seen.same_table(&latest, table) {
            return Ok(());
        }
        if first {
            // Nothing was read that would have to stay as it was.
            return self.look_again();
        }
        Err(Error::new(
            Code::SerializationFailure,
            "could not serialize access due to read/write dependencies among transactions",
        )
        .with_hint("run the transaction again"))
    }

    /// Gives back the locks of the transaction.
    pub(super) fn release_locks(&self) {
        if let Some(owner) = self.owner.get() {
            owner.release_transaction();
        }
    }

    /// 25006 in a transaction that only reads.
    ///
    /// # Errors
    /// That.
    pub(super) fn check_writable(&self, what: &str) -> Result<()> {
        match self.desk.settings.lock().is_on("transaction_read_only") {
            false => Ok(()),
            true => Err(Error::new(
                Code::ReadOnlyTransaction,
                format!("cannot execute {what} in a read-only transaction"),
            )),
        }
    }
}

impl Session {
    /// Opens the tenant's tables and looks at what is committed, for a statement that is planned or run now.
    pub(super) async fn look(&self) -> Result<()> {
        let World::Tenant(world) = &*self.world else {
            return Ok(());
        };
        world.tables().await?;
        if self.status == Status::Idle {
            // Each statement is a transaction of its own.
            world.tx.lock().seen_tables = Seen::default();
        }
        world.begin_statement()
    }

    /// Lets go of the snapshot between statements, outside of transactions.
    pub fn look_away(&self) {
        if let World::Tenant(world) = &*self.world
            && self.status == Status::Idle
        {
            world.tx.lock().seen_tables = Seen::default();
        }
    }

    /// The next numbers of a sequence, for a column that takes them by default.
    ///
    /// # Errors
    /// 2200H, and those of committing.
    pub(super) async fn next_values(&self, sequence: Oid, count: usize) -> Result<ArrayRef> {
        let world = self.world.tenant()?;
        let view = world.view()?;
        let Some(Relation::Sequence(def)) = view.catalog().relations.get(&sequence) else {
            return Err(Error::internal("a column's sequence is gone"));
        };
        let numbers = world.tables().await?.sequences().next(def, count as u64).await?;
        if let Some(last) = numbers.last() {
            world.given.lock().note(sequence, *last);
        }
        Ok(Arc::new(Int64Array::from(numbers)))
    }

    /// Drops what a failed statement of an open transaction has written and locked.
    pub(super) fn abort(&self) {
        let World::Tenant(world) = &*self.world else { return };
        let aborted = world.tx.lock().abort();
        match (aborted, world.owner.get()) {
            (_, None) => {}
            (Ok(Some(mark)), Some(owner)) => owner.release_to(mark),
            (_, Some(owner)) => owner.release_transaction(),
        }
    }

    /// `SAVEPOINT name`.
    pub(super) fn savepoint(&self, name: &str) {
        let World::Tenant(world) = &*self.world else { return };
        let locks = world.owner.get().map(Owner::mark);
        let settings = self.settings.lock().clone();
        world.tx.lock().savepoint(name, settings, locks);
    }

    /// `ROLLBACK TO name`: whether there is such a savepoint.
    ///
    /// # Errors
    /// Those of the index of documents.
    pub(super) fn rollback_to(&mut self, name: &str) -> Result<bool> {
        let World::Tenant(world) = &*self.world else {
            return Ok(true);
        };
        let found = world.tx.lock().rollback_to(name)?;
        let Some((settings, locks)) = found else {
            return Ok(false);
        };
        match (locks, world.owner.get()) {
            (_, None) => {}
            (Some(mark), Some(owner)) => owner.release_to(mark),
            (None, Some(owner)) => owner.release_transaction(),
        }
        self.settings.lock().return_to(settings);
        self.settings_returned();
        Ok(true)
    }

    /// The modes of BEGIN and SET TRANSACTION.
    ///
    /// # Errors
    /// 25001 for another isolation level, or for more than reading, once a statement has looked at anything.
    pub(super) fn set_modes(&mut self, modes: &[TransactionMode]) -> Result<()> {
        let begun = match &*self.world {
            World::Tenant(world) => world.tx.lock().seen_tables.has_begun(),
            World::Operator(_) => false,
        };
        for (name, value) in mode_settings(modes) {
            let is = settings::find(name).map(|s| self.settings.lock().get(s))?;
            if begun && is != value {
                let what = match (name, value) {
                    ("transaction_isolation", _) => {
                        Some("SET TRANSACTION ISOLATION LEVEL must be called before any query")
                    }
                    (_, "off") => Some("transaction read-write mode must be set before any query"),
                    _ => None,
                };
                if let Some(what) = what {
                    return Err(Error::new(Code::ActiveTransaction, what));
                }
            }
            self.set(name, value, true)?;
        }
        Ok(())
    }

    /// The modes of the running transaction, as settings.
    pub(super) fn modes(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings.lock();
        let of = |name| Some((name, settings.get(settings::find(name).ok()?)));
        ["transaction_isolation", "transaction_read_only"]
            .into_iter()
            .filter_map(of)
            .collect()
    }

    /// 25006 in a transaction that only reads.
    ///
    /// # Errors
    /// That.
    pub(super) fn check_writable(&self, what: &str) -> Result<()> {
        match &*self.world {
            World::Tenant(world) => world.check_writable(what),
            World::Operator(_) => Ok(()),
        }
    }
}
