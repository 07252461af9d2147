//! What a session's statements leave in the audit log.
//!
//! What writes is told in the commit that writes it: its entry stands in the session's [`Trail`] until then.
//! A read, a failure and a refusal have no commit, and are noted for the next one. See [`audit`].

use std::sync::Arc;

use datafusion::{
    common::tree_node::TreeNodeRecursion,
    logical_expr::LogicalPlan,
    sql::sqlparser::ast::{self, Statement},
};
use serde_json::json;

use super::{
    calls::TableCall,
    functions,
    guard::{Kind, Parsed},
    prepared::{self, Plan, Prepared, Query},
    session::{Session, Status},
    world::{TenantWorld, World},
};
use crate::{
    ai::gate::Call,
    error::{Error, Result},
    limits,
    policy::audit::{self, Class, Entry},
    tenant::Batch,
};

/// A session's statements that the log does not tell of yet.
#[derive(Default)]
pub(super) struct Trail {
    /// The running statement, if it may write.
    running: Option<Entry>,
    /// Statements of the open transaction that wrote.
    behind: Vec<Entry>,
    /// Whether the refusal of the running statement is told already.
    told: bool,
    /// Whether it is told that the statement reads; what then fails amid its rows is told again only if refused.
    read_told: bool,
}

impl Trail {
    /// Lets the running statement stand behind until its transaction ends.
    fn leave(&mut self) {
        let Some(entry) = self.running.take() else { return };
        if self.behind.len() >= limits::AUDIT_TRAIL {
            let alike = |other: &&mut Entry| {
                (other.class, &other.action, &other.object) == (entry.class, &entry.action, &entry.object)
            };
            if let Some(other) = self.behind.iter_mut().rev().find(alike) {
                other.absorb(&entry);
                return;
            }
        }
        self.behind.push(entry);
    }

    /// All that the next commit tells of.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.behind.iter().chain(&self.running)
    }
}

/// What a statement is, as the log tells it.
struct Subject {
    class: Class,
    action: String,
    object: String,
}

impl Subject {
    fn new(class: Class, action: impl Into<String>) -> Self {
        Self {
            class,
            action: action.into(),
            object: String::new(),
        }
    }

    /// What a parsed statement does; of a query its plan tells more.
    fn of(parsed: &Parsed, plan: Option<&Plan>) -> Self {
        match &parsed.kind {
            Kind::User(statement) => Self {
                object: statement.names().join(", "),
                ..Self::new(Class::Users, statement.tag())
            },
            Kind::Copy(copy) => match copy.read_by() {
                Ok(query) => Self {
                    object: first_relation(query),
                    ..Self::new(Class::Read, "COPY")
                },
                Err(table) => Self {
                    object: table.to_string(),
                    ..Self::new(Class::Write, "COPY")
                },
            },
            // The name is the statement's third word or later; the whole is in no entry, for defaults may hold values.
            Kind::Ddl(_) => Self::new(Class::Ddl, words(&parsed.text, 3)),
            Kind::CurrentOf(_) => Self::new(Class::Write, words(&parsed.text, 1)),
            Kind::Channel(_) | Kind::Declare(_) | Kind::Fetch(_) | Kind::Close(_) | Kind::Nothing => {
                Self::new(Class::Session, words(&parsed.text, 1))
            }
            Kind::Sql(statement) => Self::of_sql(statement, plan),
        }
    }

    fn of_sql(statement: &Statement, plan: Option<&Plan>) -> Self {
        let on_first = |class, action: String| Self {
            class,
            action,
            object: first_relation(statement),
        };
        match statement {
            Statement::Query(_) => match plan {
                Some(Plan::Query(query)) if query.effect => Self::of_effects(query),
                Some(Plan::TableWrite(write)) => Self {
                    object: write.def.name.clone(),
                    ..Self::new(Class::Write, write.word())
                },
                _ => on_first(Class::Read, "SELECT".to_owned()),
            },
            Statement::Insert(_) => on_first(Class::Write, "INSERT".to_owned()),
            Statement::Update(_) => on_first(Class::Write, "UPDATE".to_owned()),
            Statement::Delete(_) => on_first(Class::Write, "DELETE".to_owned()),
            Statement::Merge { .. } => on_first(Class::Write, "MERGE".to_owned()),
            Statement::Truncate { .. } => on_first(Class::Write, "TRUNCATE".to_owned()),
            Statement::Copy { to, .. } => {
                let class = if *to { Class::Read } else { Class::Write };
                on_first(class, "COPY".to_owned())
            }
            Statement::Set(_)
            | Statement::Reset(_)
            | Statement::ShowVariable { .. }
            | Statement::StartTransaction { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint { .. }
            | Statement::ReleaseSavepoint { .. }
            | Statement::Prepare { .. }
            | Statement::Execute { .. }
            | Statement::Deallocate { .. }
            | Statement::Discard { .. }
            | Statement::Declare { .. }
            | Statement::Fetch { .. }
            | Statement::Close { .. }
            | Statement::CreateExtension(_)
            | Statement::Explain { .. } => Self::new(Class::Session, words(&statement.to_string(), 1)),
            // Whatever else there is or will be changes what the tenant has.
            other => on_first(Class::Ddl, words(&other.to_string(), 2)),
        }
    }

    /// A query that calls functions which change something. A call of a model has an entry of its own.
    fn of_effects(query: &Query) -> Self {
        let mut names = Vec::new();
        let seen = prepared::calls(&query.plan, |f| {
            let ours = functions::all().find(|ours| ours.effect && ours.name == f.name());
            names.extend(ours.map(|ours| ours.name).filter(|name| !names.contains(name)));
            false
        });
        names.retain(|name| *name != "ai.chat");
        match (&names[..], seen.is_ok()) {
            ([], true) => Self::new(Class::Read, "SELECT"),
            ([first, ..], true) if names.iter().all(|name| name.starts_with("bulkhead.")) => Self {
                object: names[1..].join(", "),
                ..Self::new(Class::Settings, *first)
            },
            _ => Self::new(Class::Write, names.join(", ")),
        }
    }
}

/// The first words of a statement, upper case: what precedes anything that a user has named.
fn words(text: &str, most: usize) -> String {
    let word = |word: &&str| word.len() <= 20 && word.chars().all(|c| c.is_ascii_alphabetic());
    let words: Vec<_> = text.split_whitespace().take_while(word).take(most).collect();
    words.join(" ").to_ascii_uppercase()
}

fn first_relation(statement: &Statement) -> String {
    let mut first = String::new();
    let _ = ast::visit_relations(statement, |name| {
        first = name.to_string();
        std::ops::ControlFlow::Break(())
    });
    first
}

/// The tables and table functions that a plan reads.
fn read_by(plan: &LogicalPlan) -> String {
    let mut names: Vec<String> = Vec::new();
    let _ = plan.apply_with_subqueries(|node| {
        let name = match node {
            LogicalPlan::TableScan(scan) => Some(scan.table_name.to_string()),
            LogicalPlan::Extension(node) => {
                let call = node.node.as_any().downcast_ref::<TableCall>();
                call.map(|call| call.function_name().to_owned())
            }
            _ => None,
        };
        names.extend(name.filter(|name| !names.contains(name)));
        Ok(TreeNodeRecursion::Continue)
    });
    names.sort();
    names.join(", ")
}

impl TenantWorld {
    fn entry(&self, Subject { class, action, object }: Subject) -> Entry {
        Entry::now(&self.acting_user(), class, action).on(object)
    }

    /// How many rows the running statement writes.
    pub(super) fn wrote(&self, rows: u64) {
        if let Some(entry) = &mut self.trail.lock().running {
            entry.tell("rows", json!(rows));
        }
    }

    /// Puts what the session wrote since its last commit into the one that is about to come.
    pub(super) fn log_into(&self, batch: &mut Batch) {
        self.state.log.write(batch, self.trail.lock().entries());
    }

    /// That commit is on disk.
    pub(super) fn logged(&self) {
        let mut trail = self.trail.lock();
        trail.running = None;
        trail.behind.clear();
    }

    /// Commits what a statement changes by itself, and its entry.
    ///
    /// # Errors
    /// Those of a commit.
    pub(super) async fn commit(&self, mut batch: Batch) -> Result<()> {
        self.log_into(&mut batch);
        self.tenant.commit(batch).await?;
        self.logged();
        Ok(())
    }

    /// The transaction ended: what its commit did not tell of had nothing to write, or could not be written.
    fn ended(&self, outcome: &Result<()>) {
        for entry in std::mem::take(&mut self.trail.lock().behind) {
            match outcome {
                Ok(()) => self.state.log.note(&entry),
                Err(error) => self.state.log.note(&entry.failed(error)),
            }
        }
    }

    /// The transaction was rolled back.
    pub(super) fn rolled_back(&self) {
        for mut entry in std::mem::take(&mut self.trail.lock().behind) {
            entry.tell("rolled_back", json!(true));
            self.state.log.note(&entry);
        }
    }

    /// A call of a model did not come to be; where it was refused, that is told here and not again for the statement.
    pub(super) fn refused_call(&self, call: &Call, error: &Error) {
        if audit::is_refusal(error) {
            let entry = Entry::now(&self.acting_user(), Class::Ai, call.operation.as_str());
            self.state.log.note(&entry.on(&*call.target.model.name).failed(error));
            self.trail.lock().told = true;
        }
    }
}

impl Drop for TenantWorld {
    /// The session is over, whatever it was doing.
    fn drop(&mut self) {
        self.trail.lock().leave();
        self.rolled_back();
        self.forget_temporary();
    }
}

impl Session {
    /// A user has logged in.
    pub(super) fn trail_login(&self) {
        if let World::Tenant(world) = &*self.world {
            let entry = Entry::now(&world.user.name, Class::Login, "login");
            let detail = json!({"role": world.user.role.as_str()});
            world.state.log.note(&entry.with(&detail));
        }
    }

    /// The transaction ended.
    pub(super) fn trail_committed(&self, outcome: &Result<()>) {
        if let World::Tenant(world) = &*self.world {
            world.ended(outcome);
        }
    }

    /// A text or a statement is looked at that may be refused before it runs.
    pub(super) fn trail_clear(&self) {
        if let World::Tenant(world) = &*self.world {
            *self.ran.lock() = None;
            world.trail.lock().told = false;
        }
    }

    /// A text was refused before it was known what it is.
    pub(super) fn trail_unread(&self, text: &str, error: &Error) {
        if let World::Tenant(world) = &*self.world
            && audit::is_refusal(error)
        {
            let entry = world.entry(Subject::new(Class::Session, words(text, 2)));
            world.state.log.note(&entry.failed(error));
        }
    }

    /// A statement could not be planned.
    pub(super) fn trail_unplanned(&self, parsed: &Parsed, error: &Error) {
        if let World::Tenant(world) = &*self.world
            && audit::is_refusal(error)
        {
            let entry = world.entry(Subject::of(parsed, None));
            world.state.log.note(&entry.failed(error));
        }
    }

    /// A statement begins.
    pub(super) fn trail_begin(&self, prepared: &Arc<Prepared>) {
        let World::Tenant(world) = &*self.world else { return };
        let subject = self.executed(prepared);
        let of = Subject::of(&subject.parsed, Some(&subject.plan));
        let running = match of.class {
            Class::Read | Class::Session | Class::Users => None,
            _ => Some(world.entry(of)),
        };
        *self.ran.lock() = Some(subject);
        let mut trail = world.trail.lock();
        trail.running = running;
        (trail.told, trail.read_told) = (false, false);
    }

    /// What EXECUTE runs.
    fn executed(&self, prepared: &Arc<Prepared>) -> Arc<Prepared> {
        let named = match &prepared.parsed.kind {
            Kind::Sql(statement) => match &**statement {
                Statement::Execute { name, .. } => self.named(name.as_ref()).ok(),
                _ => None,
            },
            _ => None,
        };
        named.unwrap_or_else(|| prepared.clone())
    }

    /// It did what it was to do; of a query the rows are still to come. `copies`: it may wait for rows to write.
    pub(super) fn trail_ended(&self, copies: bool) {
        let World::Tenant(world) = &*self.world else { return };
        if copies && world.trail.lock().running.is_some() {
            return;
        }
        let (done, last) = {
            let mut trail = world.trail.lock();
            if self.status != Status::Idle {
                trail.leave(); // until the transaction ends
            }
            (trail.running.take(), self.ran.lock().clone())
        };
        if let Some(entry) = done {
            world.state.log.note(&entry); // there was nothing to commit
        }
        if let Some(read) = last.as_deref().and_then(|last| self.read(last))
            && world.state.log.wants(Class::Read, true)
            && !read.object.is_empty()
        {
            world.state.log.note(&world.entry(read));
            world.trail.lock().read_told = true;
        }
    }

    /// What a statement reads, if that is all it does.
    fn read(&self, prepared: &Prepared) -> Option<Subject> {
        let subject = Subject::of(&prepared.parsed, Some(&prepared.plan));
        match (&prepared.plan, subject.class) {
            (Plan::Query(query), Class::Read) => Some(Subject {
                object: read_by(&query.plan),
                ..subject
            }),
            (_, Class::Read) => Some(subject),
            _ => None,
        }
    }

    /// A statement failed, before its rows or amid them.
    pub(super) fn trail_failed(&self, error: &Error) {
        let World::Tenant(world) = &*self.world else { return };
        let (running, last, told) = {
            let mut trail = world.trail.lock();
            let told = match audit::is_refusal(error) {
                true => std::mem::take(&mut trail.told),
                false => std::mem::take(&mut trail.read_told),
            };
            (trail.running.take(), self.ran.lock().take(), told)
        };
        if told {
            return;
        }
        let entry = running.or_else(|| {
            let last = last?;
            let of = self.read(&last);
            Some(world.entry(of.unwrap_or_else(|| Subject::of(&last.parsed, Some(&last.plan)))))
        });
        if let Some(entry) = entry {
            let entry = entry.failed(error);
            if entry.class != Class::Session || !entry.allowed {
                world.state.log.note(&entry);
            }
        }
    }
}
