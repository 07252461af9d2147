//! Temporary tables: in a schema of the session's own, gone with it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    ddl::{Kind, Name},
    definitions::Change,
};
use crate::{
    error::Result,
    sql::{
        session::Session,
        world::{TenantWorld, World},
    },
    table::{
        Mode, Resource, Tables, Wait, WriteSet,
        schema::{Catalog, Relation},
    },
    tenant::Tenant,
};

/// Begins the names of sessions' own schemas.
const PREFIX: &str = "pg_temp_";

/// Numbers of sessions' own schemas, within the process: none outlives it.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl TenantWorld {
    /// The schema of the session's temporary tables; made when it is first asked for.
    pub(in crate::sql) fn temp_schema(&self) -> &str {
        self.temporary
            .get_or_init(|| format!("{PREFIX}{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The same, if there is one.
    pub(in crate::sql) fn temp_schema_if_any(&self) -> Option<String> {
        self.temporary.get().cloned()
    }

    /// A relation by its schema and name; `pg_temp` is the session's own, and that of another is nobody's.
    pub(in crate::sql) fn find_in<'c>(&self, catalog: &'c Catalog, schema: &str, name: &str) -> Option<&'c Relation> {
        match schema {
            "pg_temp" => catalog.find(self.temporary.get()?, name),
            other if is_temporary(other) && !self.is_temp_schema(other) => None,
            _ => catalog.find(schema, name),
        }
    }

    /// Whether this is the session's own schema.
    pub(in crate::sql) fn is_temp_schema(&self, schema: &str) -> bool {
        self.temporary.get().is_some_and(|own| own == schema)
    }
}

impl World {
    /// The schema of the session's temporary tables, if it has any.
    pub(in crate::sql) fn temp_schema(&self) -> Option<String> {
        match self {
            Self::Tenant(world) => world.temp_schema_if_any(),
            Self::Operator(_) => None,
        }
    }
}

/// Whether a schema is some session's own.
pub(in crate::sql) fn is_temporary(schema: &str) -> bool {
    schema.starts_with(PREFIX)
}

/// Drops what is temporary: of one schema, or of all where none is named, when the tenant's tables are opened and no
/// session has any yet.
///
/// # Errors
/// Those of locking and committing.
pub(in crate::sql) async fn forget(tenant: &Tenant, tables: &Arc<Tables>, schema: Option<&str>) -> Result<()> {
    let gone = |relation: &Relation| match schema {
        Some(schema) => relation.name().0 == schema,
        None => is_temporary(relation.name().0),
    };
    if !tables.latest().catalog().relations.values().any(gone) {
        return Ok(());
    }
    let owner = tables.locks().owner();
    owner.lock(Resource::Catalog, Mode::Exclusive, Wait::Forever).await?;
    let mut catalog = Catalog::clone(tables.latest().catalog());
    catalog.relations.retain(|_, relation| !gone(relation));
    catalog.version = super::definitions::next_version(catalog.version);
    let mut writes = WriteSet::default();
    writes.set_catalog(Arc::new(catalog));
    let mut batch = tenant.batch();
    tables.fill(&mut batch, &writes)?;
    tenant.commit(batch).await
}

impl TenantWorld {
    /// Drops the session's temporary tables; a session that ends waits for nothing.
    pub(in crate::sql) fn forget_temporary(&self) {
        let (Some(schema), Some(tables)) = (self.temporary.get().cloned(), self.state.tables.get().cloned()) else {
            return;
        };
        let tenant = self.tenant.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = forget(&tenant, &tables, Some(&schema)).await {
                    // They are dropped when the tenant's tables are opened again.
                    tracing::warn!(%error, "temporary tables of a session could not be dropped");
                }
            });
        }
    }

    /// DISCARD TEMP: drops them now.
    ///
    /// # Errors
    /// Those of locking and committing.
    pub(in crate::sql) async fn discard_temporary(&self) -> Result<()> {
        match (self.temporary.get(), self.state.tables.get()) {
            (Some(schema), Some(tables)) => forget(&self.tenant, tables, Some(schema)).await,
            _ => Ok(()),
        }
    }
}

impl Session {
    /// Drops what ON COMMIT DROP was said of, as a part of the transaction that ends.
    ///
    /// # Errors
    /// Those of DROP TABLE.
    pub(in crate::sql) async fn drop_passing(&self) -> Result<()> {
        let passing = std::mem::take(&mut *self.world.desk().passing.lock());
        if passing.is_empty() {
            return Ok(());
        }
        let mut change = Change::begin(self).await?;
        // What a savepoint took back, or was dropped already, is none.
        let there = passing.iter().filter_map(|oid| change.catalog.table(*oid));
        let named = there.map(|table| Name {
            database: None,
            schema: Some(table.schema.clone()),
            name: table.name.clone(),
        });
        let names: Vec<Name> = named.collect();
        change.drop_named(Kind::Table, &names, true, true).await?;
        change.finish()
    }
}
