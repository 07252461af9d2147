//! Temporary tables: in a schema of the session's own, gone with it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sql::world::{TenantWorld, World};

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
