//! A change of what exists, from its first lock to the transaction's writes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    ddl::{Kind, Name},
    names,
    rights::{self, require_creator, require_owner},
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{
        session::{Notice, Session},
        world::TenantWorld,
    },
    table::{
        Database, Mode, Resource, Tables,
        schema::{Catalog, IndexDef, Oid, Relation, TableDef},
    },
};

/// Versions of catalogs are unique within the process: one that was rolled back never comes again.
static VERSION: AtomicU64 = AtomicU64::new(1);

/// Schemas that nobody makes anything in.
const FIXED_SCHEMAS: &[&str] = &["ai", "bulkhead", "pg_catalog", "information_schema"];

/// One statement's change of the catalog. Nothing is changed until [`Change::finish`].
pub(super) struct Change<'s> {
    pub(super) session: &'s Session,
    pub(super) world: &'s TenantWorld,
    tables: Arc<Tables>,
    /// What the session sees, before the change.
    pub(super) base: Database,
    /// What it will see.
    pub(super) catalog: Catalog,
    /// Tables whose rows the change reads or writes are locked already.
    locked: Vec<Oid>,
}

impl<'s> Change<'s> {
    /// Waits until nobody else changes the catalog.
    ///
    /// # Errors
    /// Those of locks; 42501 on the operator's plane.
    pub(super) async fn begin(session: &'s Session) -> Result<Self> {
        let world = session.world.tenant()?;
        world.lock(Resource::Catalog, Mode::Exclusive).await?;
        let base = world.newest()?;
        let catalog = Catalog::clone(base.catalog());
        Ok(Self {
            session,
            world,
            tables: world.opened()?.clone(),
            base,
            catalog,
            locked: Vec::new(),
        })
    }

    /// The same to look only: without a lock, and never to be finished.
    pub(super) fn look(session: &'s Session) -> Result<Self> {
        let world = session.world.tenant()?;
        let base = world.view()?;
        let catalog = Catalog::clone(base.catalog());
        Ok(Self {
            session,
            world,
            tables: world.opened()?.clone(),
            base,
            catalog,
            locked: Vec::new(),
        })
    }

    /// Makes the change this transaction's.
    ///
    /// # Errors
    /// 54000 where the tenant would hold too much.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.catalog.relations.len() > limits::TENANT_RELATIONS {
            return Err(Error::new(
                Code::TooLarge,
                format!("a tenant holds at most {} relations", limits::TENANT_RELATIONS),
            ));
        }
        self.catalog.version = next_version(self.base.catalog().version);
        let catalog = Arc::new(self.catalog);
        self.world.write_tables(|writes| writes.set_catalog(catalog));
        Ok(())
    }

    /// Waits until nobody else reads under a lock, or writes, this table.
    pub(super) async fn lock_table(&mut self, oid: Oid) -> Result<()> {
        if !self.locked.contains(&oid) {
            self.world.lock(Resource::Table(oid), Mode::Exclusive).await?;
            self.locked.push(oid);
            // Whoever held it may have committed rows.
            self.base = self.world.newest()?;
        }
        Ok(())
    }

    /// A number for something new.
    pub(super) fn oid(&self) -> Oid {
        // The tables were opened when the change began.
        self.tables.allocate_oids(1)
    }

    pub(super) fn notice(&self, code: &'static str, message: impl Into<String>) {
        notice(self.world, code, message);
    }

    /// The schema that a new thing of this name goes into.
    ///
    /// # Errors
    /// 3F000 where there is none; 42501 where nobody or not this user makes anything.
    pub(super) fn creation_schema(&self, name: &Name, temporary: bool) -> Result<String> {
        self.check_database(name)?;
        if temporary || name.schema.as_deref() == Some("pg_temp") {
            if temporary && name.schema.as_deref().is_some_and(|s| s != "pg_temp") {
                let text = "cannot create temporary relation in non-temporary schema";
                return Err(Error::new(Code::InvalidTableDefinition, text));
            }
            require_creator(self.world, "pg_temp")?;
            return Ok(self.world.temp_schema().to_owned());
        }
        let schema = match &name.schema {
            Some(schema) => schema.clone(),
            None => {
                let path = self.session.settings.lock().path();
                let found = path.into_iter().find(|schema| self.schema_exists(schema));
                found.ok_or_else(|| Error::new(Code::InvalidSchemaName, "no schema has been selected to create in"))?
            }
        };
        self.check_schema(&schema)?;
        if FIXED_SCHEMAS.contains(&schema.as_str()) || schema.starts_with("pg_temp") {
            return Err(rights::denied(Kind::Schema, &schema));
        }
        require_creator(self.world, &schema)?;
        if let Some(def) = self.catalog.schemas.get(&schema)
            && !rights::owns(self.world, &def.owner)
        {
            return Err(rights::denied(Kind::Schema, &schema));
        }
        Ok(schema)
    }

    fn schema_exists(&self, schema: &str) -> bool {
        schema == "public" || FIXED_SCHEMAS.contains(&schema) || self.catalog.schemas.contains_key(schema)
    }

    /// # Errors
    /// 3F000 for a schema that does not exist.
    pub(super) fn check_schema(&self, schema: &str) -> Result<()> {
        match self.schema_exists(schema) || self.world.is_temp_schema(schema) {
            true => Ok(()),
            false => Err(Error::new(
                Code::InvalidSchemaName,
                format!("schema \"{schema}\" does not exist"),
            )),
        }
    }

    fn check_database(&self, name: &Name) -> Result<()> {
        match &name.database {
            Some(database) if *database != self.session.world.database() => Err(Error::new(
                Code::Unsupported,
                format!("cross-database references are not implemented: \"{database}.{name}\""),
            )),
            _ => Ok(()),
        }
    }

    /// The schemas in which a name is looked up, in order.
    pub(super) fn searched(&self, name: &Name) -> Result<Vec<String>> {
        self.check_database(name)?;
        Ok(match &name.schema {
            Some(schema) if schema == "pg_temp" => self.world.temp_schema_if_any().into_iter().collect(),
            Some(schema) => vec![schema.clone()],
            None => {
                let path = self.session.settings.lock().path();
                self.world.temp_schema_if_any().into_iter().chain(path).collect()
            }
        })
    }

    /// The relation of a name.
    ///
    /// # Errors
    /// 42P01; 42501 for relations of the server's own.
    pub(super) fn relation(&self, name: &Name) -> Result<&Relation> {
        self.find(name)?.ok_or_else(|| undefined(Kind::Table, name))
    }

    /// The same, `None` where there is none.
    pub(super) fn find(&self, name: &Name) -> Result<Option<&Relation>> {
        for schema in self.searched(name)? {
            if let Some(found) = self.world.find_in(&self.catalog, &schema, &name.name) {
                return Ok(Some(found));
            }
            if self.is_fixed(&schema, &name.name) {
                let text = format!("permission denied: \"{}\" is the server's own", name.name);
                return Err(Error::new(Code::InsufficientPrivilege, text));
            }
        }
        Ok(None)
    }

    pub(super) fn is_fixed(&self, schema: &str, name: &str) -> bool {
        match schema {
            "pg_catalog" | "information_schema" => crate::sql::pg::builtin::RELATIONS
                .iter()
                .any(|r| r.schema == schema && r.name == name),
            _ => crate::sql::relations::visible(&self.session.world).any(|r| r.schema == schema && r.name == name),
        }
    }

    /// The table of a name, which the user owns.
    ///
    /// # Errors
    /// 42P01, 42809 and 42501.
    pub(super) fn owned_table(&self, name: &Name) -> Result<Arc<TableDef>> {
        match self.relation(name)? {
            Relation::Table(table) => {
                require_owner(self.world, Kind::Table, &table.owner, &table.name)?;
                Ok(table.clone())
            }
            Relation::View(_) | Relation::Sequence(_) => Err(wrong_kind(&name.name, Kind::Table)),
        }
    }

    /// The table and index of an index's name.
    pub(super) fn find_index(&self, name: &Name) -> Result<Option<(Arc<TableDef>, IndexDef)>> {
        for schema in self.searched(name)? {
            let mut tables = self.catalog.tables().filter(|table| table.schema == schema);
            let found = tables.find_map(|table| {
                let index = table.indexes.iter().find(|index| index.name == name.name)?;
                Some((table.clone(), index.clone()))
            });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Puts a table in the place of its former self, or as a new one.
    pub(super) fn put_table(&mut self, table: TableDef) {
        self.catalog
            .relations
            .insert(table.oid, Relation::Table(Arc::new(table)));
    }

    /// Whether a relation or index of the schema has the name.
    pub(super) fn taken(&self, schema: &str, name: &str) -> bool {
        names::relation_exists(&self.catalog, schema, name)
    }

    /// # Errors
    /// 42P07 where the name is taken.
    pub(super) fn check_free(&self, schema: &str, name: &str) -> Result<()> {
        match self.taken(schema, name) {
            true => Err(Error::new(
                Code::DuplicateTable,
                format!("relation \"{name}\" already exists"),
            )),
            false => Ok(()),
        }
    }
}

/// A version above `base` that nothing else in the process has.
pub(super) fn next_version(base: u64) -> u64 {
    VERSION.fetch_max(base.saturating_add(1), Ordering::Relaxed);
    VERSION.fetch_add(1, Ordering::Relaxed)
}

/// A message beside the answer.
pub(in crate::sql) fn notice(world: &TenantWorld, code: &'static str, message: impl Into<String>) {
    world.desk.notices.lock().push(Notice {
        severity: "NOTICE",
        code,
        message: message.into(),
        hint: None,
    });
}

pub(super) fn undefined(kind: Kind, name: &Name) -> Error {
    let word = match kind {
        Kind::Table => "relation",
        other => other.word(),
    };
    let code = match kind {
        Kind::Index => Code::UndefinedObject,
        Kind::Schema => Code::InvalidSchemaName,
        Kind::Table | Kind::View | Kind::Sequence => Code::UndefinedTable,
    };
    Error::new(code, format!("{word} \"{name}\" does not exist"))
}

pub(super) fn wrong_kind(name: &str, wanted: Kind) -> Error {
    let article = if wanted == Kind::Index { "an" } else { "a" };
    Error::new(
        Code::WrongObjectType,
        format!("\"{name}\" is not {article} {}", wanted.word()),
    )
}
