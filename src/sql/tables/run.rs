//! Runs statements of [`super::ddl`].

use super::{
    builds::Ask,
    constraint::Added,
    ddl::{Ddl, Kind, LockMode, Name},
    definitions::{Change, undefined},
    rights::{owns, require_owner},
};
use crate::{
    error::{Code, Error, Result},
    sql::session::{Answer, Session, Status},
    table::{
        Mode, Resource, Wait,
        schema::{Oid, Relation, TableDef},
    },
};

/// The indexes of a table that are to be built anew.
fn asked_of(table: &TableDef) -> impl Iterator<Item = Ask> {
    let indexes = table.indexes.iter();
    indexes.filter_map(|index| Ask::of(table.oid, index, true))
}

/// Extensions whose functions are there already.
const EXTENSIONS: &[&str] = &["vector", "plpgsql"];

impl Session {
    /// Runs a statement that changes what exists. In a transaction that was not begun it commits by itself.
    ///
    /// # Errors
    /// PostgreSQL's, for what is wrong with it.
    pub(in crate::sql) async fn run_ddl(&mut self, ddl: &Ddl) -> Result<Answer> {
        self.check_writable(ddl.tag())?;
        let rows = self.change(ddl).await?;
        if self.status == Status::Idle {
            self.commit().await?;
        }
        Ok(Answer::Done {
            tag: match rows {
                Some(rows) => format!("SELECT {rows}"),
                None => ddl.tag().to_owned(),
            },
        })
    }

    /// Carries out a change; rows where a query made a table.
    async fn change(&self, ddl: &Ddl) -> Result<Option<u64>> {
        match ddl {
            Ddl::CreateTable(stmt) => {
                let mut change = Change::begin(self).await?;
                if let Some(oid) = change.create_table(stmt).await? {
                    change.finish()?;
                    // Nothing is in it; what was said of it must hold for what a table alone can break.
                    self.check_table(oid)?;
                }
            }
            Ddl::CreateIndex(stmt) => {
                if stmt.concurrently && self.status != Status::Idle {
                    return Err(Error::new(
                        Code::ActiveTransaction,
                        "CREATE INDEX CONCURRENTLY cannot run inside a transaction block",
                    ));
                }
                let mut change = Change::begin(self).await?;
                if let Some((oid, added)) = change.create_index(stmt).await? {
                    change.finish()?;
                    self.validate(oid, &added).await?;
                }
            }
            Ddl::CreateSequence {
                name,
                if_not_exists,
                temporary,
                options,
            } => {
                let mut change = Change::begin(self).await?;
                change.create_sequence(name, *if_not_exists, *temporary, options)?;
                change.finish()?;
            }
            Ddl::Drop {
                kind,
                names,
                if_exists,
                cascade,
            } => {
                let mut change = Change::begin(self).await?;
                change.drop_named(*kind, names, *if_exists, *cascade).await?;
                change.finish()?;
            }
            Ddl::CreateExtension { name, if_not_exists } => self.create_extension(name, *if_not_exists)?,
            Ddl::DropExtension { names, if_exists } => {
                for name in names {
                    if EXTENSIONS.contains(&name.as_str()) {
                        let text = format!("must be owner of extension {name}");
                        return Err(Error::new(Code::InsufficientPrivilege, text));
                    }
                    let text = format!("extension \"{name}\" does not exist");
                    match if_exists {
                        true => self.tell("00000", format!("{text}, skipping")),
                        false => return Err(Error::new(Code::UndefinedObject, text)),
                    }
                }
            }
            Ddl::Maintain { tag, kind, names } => self.maintain(tag, *kind, names)?,
            Ddl::Lock { names, mode, nowait } => self.lock_tables(names, *mode, *nowait).await?,
            Ddl::CreateTableAs(stmt) => return super::create_as::run(self, stmt).await,
            Ddl::AlterTable {
                name,
                if_exists,
                actions,
            } => {
                let mut change = Change::begin(self).await?;
                let altered = change.alter_table(name, *if_exists, actions).await?;
                let moment = change.base.clone();
                change.finish()?;
                if let Some(altered) = altered {
                    super::rewrite::run(self, &altered.before, &moment, &altered.rewrite).await?;
                    self.validate(altered.table, &altered.added).await?;
                    self.check_views(&altered.views)?;
                }
            }
            Ddl::CreateView(stmt) => self.simple(|change| change.create_view(stmt)).await?,
            Ddl::AlterSequence {
                name,
                if_exists,
                options,
            } => {
                let mut change = Change::begin(self).await?;
                let restart = change.alter_sequence(name, *if_exists, options)?;
                change.finish()?;
                if let Some((sequence, next)) = restart {
                    let world = self.world.tenant()?;
                    world.write_tables(|writes| writes.restart_sequence(sequence.oid, next));
                }
            }
            Ddl::CreateSchema {
                name,
                owner,
                if_not_exists,
            } => {
                self.simple(|change| change.create_schema(name.as_deref(), owner.as_ref(), *if_not_exists))
                    .await?;
            }
            Ddl::Alter {
                kind,
                name,
                if_exists,
                action,
            } => {
                self.simple(|change| change.alter_any(*kind, name, *if_exists, action))
                    .await?
            }
            Ddl::CreatePolicy(stmt) => self.simple(|change| change.create_policy(stmt)).await?,
            Ddl::AlterPolicy {
                name,
                table,
                rename,
                roles,
                using,
                check,
            } => {
                let roles = roles.as_deref();
                self.simple(|change| {
                    change.alter_policy(name, table, rename.as_deref(), roles, using.as_ref(), check.as_ref())
                })
                .await?;
            }
            Ddl::DropPolicy { name, table, if_exists } => {
                self.simple(|change| change.drop_policy(name, table, *if_exists))
                    .await?;
            }
            Ddl::Comment { on, text } => self.simple(|change| change.comment(on, text.as_deref())).await?,
            Ddl::Grant(grant) => self.simple(|change| change.grant(grant)).await?,
        }
        Ok(None)
    }

    /// A change that looks at no rows.
    async fn simple(&self, change: impl FnOnce(&mut Change<'_>) -> Result<()>) -> Result<()> {
        let mut begun = Change::begin(self).await?;
        change(&mut begun)?;
        begun.finish()
    }

    /// Views whose texts were changed still give what they gave.
    fn check_views(&self, views: &[Oid]) -> Result<()> {
        let catalog = self.world.tenant()?.view()?.catalog().clone();
        let context = self.context();
        for oid in views {
            if let Some(Relation::View(view)) = catalog.relations.get(oid) {
                let plan = super::view::plan(&context, view)?;
                let columns = crate::sql::prepared::columns_of(&plan);
                let same = columns.iter().zip(&view.columns).all(|(is, was)| is.pg_type == was.1);
                if !same || columns.len() != view.columns.len() {
                    let text = format!("cannot rename a column that view \"{}\" uses in this way", view.name);
                    return Err(Error::new(Code::Unsupported, text).with_hint("drop the view first"));
                }
            }
        }
        Ok(())
    }

    fn tell(&self, code: &'static str, text: String) {
        if let Ok(world) = self.world.tenant() {
            super::definitions::notice(world, code, text);
        }
    }

    fn check_table(&self, oid: Oid) -> Result<()> {
        let view = self.world.tenant()?.view()?;
        match view.catalog().table(oid) {
            Some(_) => Ok(()),
            None => Err(Error::internal("a table that was made is not there")),
        }
    }

    fn create_extension(&self, name: &str, if_not_exists: bool) -> Result<()> {
        if !EXTENSIONS.contains(&name) {
            return Err(
                Error::new(Code::Unsupported, format!("extension \"{name}\" is not available"))
                    .with_hint("SELECT name FROM pg_available_extensions lists those that are"),
            );
        }
        // It is there from the start, which scripts that begin with CREATE EXTENSION do not expect.
        if if_not_exists {
            self.tell("42710", format!("extension \"{name}\" already exists, skipping"));
        }
        Ok(())
    }

    /// VACUUM and its like: what is named must be there and one's own.
    fn maintain(&self, tag: &str, kind: Kind, names: &[Name]) -> Result<()> {
        if matches!(tag, "VACUUM") && self.status != Status::Idle {
            let text = format!("{tag} cannot run inside a transaction block");
            return Err(Error::new(Code::ActiveTransaction, text));
        }
        let world = self.world.tenant()?;
        let change = Change::look(self)?;
        for name in names {
            let (owner, found, asked): (_, _, Vec<Ask>) = match kind {
                Kind::Index => match change.find_index(name)? {
                    Some((table, index)) => {
                        let asked = Ask::of(table.oid, &index, true).into_iter().collect();
                        (table.owner.clone(), index.name.clone(), asked)
                    }
                    None => return Err(undefined(Kind::Index, name)),
                },
                Kind::Schema => {
                    change.check_schema(&name.name)?;
                    let tables = change.catalog.tables();
                    let inside = tables.filter(|table| table.schema == name.name && owns(world, &table.owner));
                    world.ask(inside.flat_map(|table| asked_of(table)));
                    return Ok(());
                }
                Kind::Table | Kind::View | Kind::Sequence => {
                    let relation = change.relation(name)?;
                    let asked = match relation {
                        Relation::Table(table) => asked_of(table).collect(),
                        Relation::View(_) | Relation::Sequence(_) => Vec::new(),
                    };
                    (relation.owner().to_owned(), relation.name().1.to_owned(), asked)
                }
            };
            require_owner(world, kind, &owner, &found)?;
            if tag == "REINDEX" {
                world.ask(asked);
            }
        }
        if tag == "REINDEX" && names.is_empty() {
            let tables = change.catalog.tables();
            let own = tables.filter(|table| owns(world, &table.owner));
            world.ask(own.flat_map(|table| asked_of(table)));
        }
        Ok(())
    }

    async fn lock_tables(&self, names: &[Name], mode: LockMode, nowait: bool) -> Result<()> {
        if self.status == Status::Idle {
            let text = "LOCK TABLE can only be used in transaction blocks";
            return Err(Error::new(Code::NoActiveTransaction, text));
        }
        let world = self.world.tenant()?;
        for name in names {
            let oid = {
                let change = Change::look(self)?;
                let relation = change.relation(name)?;
                super::rights::require(world, relation, super::rights::Privilege::Select)?;
                match mode {
                    LockMode::None | LockMode::Share => {}
                    LockMode::Write | LockMode::Exclusive => {
                        super::rights::require(world, relation, super::rights::Privilege::Update)?;
                    }
                }
                relation.oid()
            };
            let mode = match mode {
                LockMode::None => continue,
                LockMode::Write => Mode::IntentWrite,
                LockMode::Share => Mode::Shared,
                LockMode::Exclusive => Mode::Exclusive,
            };
            match nowait {
                true => world.owner()?.lock(Resource::Table(oid), mode, Wait::NoWait).await?,
                false => world.lock(Resource::Table(oid), mode).await?,
            }
        }
        Ok(())
    }

    /// Judges the rows that are there by what was added.
    pub(super) async fn validate(&self, table: Oid, added: &[Added]) -> Result<()> {
        super::validate::validate(self, table, added).await
    }
}

impl Ddl {
    /// The command tag.
    pub(in crate::sql) fn tag(&self) -> &'static str {
        match self {
            Self::CreateTable(_) => "CREATE TABLE",
            Self::CreateTableAs(_) => "CREATE TABLE AS",
            Self::AlterTable { .. } => "ALTER TABLE",
            Self::CreateIndex(_) => "CREATE INDEX",
            Self::CreateView(_) => "CREATE VIEW",
            Self::CreateSequence { .. } => "CREATE SEQUENCE",
            Self::AlterSequence { .. } => "ALTER SEQUENCE",
            Self::CreateSchema { .. } => "CREATE SCHEMA",
            Self::Alter { kind, .. } => match kind {
                Kind::Table => "ALTER TABLE",
                Kind::View => "ALTER VIEW",
                Kind::Index => "ALTER INDEX",
                Kind::Sequence => "ALTER SEQUENCE",
                Kind::Schema => "ALTER SCHEMA",
            },
            Self::Drop { kind, .. } => match kind {
                Kind::Table => "DROP TABLE",
                Kind::View => "DROP VIEW",
                Kind::Index => "DROP INDEX",
                Kind::Sequence => "DROP SEQUENCE",
                Kind::Schema => "DROP SCHEMA",
            },
            Self::CreatePolicy(_) => "CREATE POLICY",
            Self::AlterPolicy { .. } => "ALTER POLICY",
            Self::DropPolicy { .. } => "DROP POLICY",
            Self::Comment { .. } => "COMMENT",
            Self::Grant(grant) => match grant.revoke {
                true => "REVOKE",
                false => "GRANT",
            },
            Self::CreateExtension { .. } => "CREATE EXTENSION",
            Self::DropExtension { .. } => "DROP EXTENSION",
            Self::Maintain { tag, .. } => tag,
            Self::Lock { .. } => "LOCK TABLE",
        }
    }
}
