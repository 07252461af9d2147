//! What a session's `pg_catalog` shows: its own tenant's users, the fixed relations and functions,
//! its own settings and prepared statements.

use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};

use datafusion::error::DataFusionError;
use parking_lot::Mutex;

use super::{
    backends, functions, pg, relations,
    settings::{self, Settings},
    tables,
    world::World,
};
use crate::{error::Result, sql::documents::now_micros, tenant::Role};

/// OIDs of ours start here, as PostgreSQL's user objects do.
const FIRST_OID: i32 = 16_400;
/// Users' OIDs start here.
const FIRST_USER_OID: i32 = 20_000;

/// Makes snapshots of one session's catalog.
pub(super) struct SessionCatalog {
    world: Arc<World>,
    settings: Arc<Mutex<Settings>>,
    prepared: Arc<Mutex<Vec<(String, String)>>>,
    pid: Arc<AtomicI32>,
    started_micros: i64,
}

impl std::fmt::Debug for SessionCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionCatalog")
    }
}

impl SessionCatalog {
    pub(super) fn new(
        world: Arc<World>,
        settings: Arc<Mutex<Settings>>,
        prepared: Arc<Mutex<Vec<(String, String)>>>,
        pid: Arc<AtomicI32>,
    ) -> Self {
        Self {
            world,
            settings,
            prepared,
            pid,
            started_micros: now_micros(),
        }
    }

    /// The users of the tenant. A user who is no owner sees themselves and the owners.
    fn users(&self) -> Result<Vec<pg::catalog::UserInfo>> {
        let me = self.world.user().to_owned();
        let World::Tenant(world) = &*self.world else {
            return Ok(vec![pg::catalog::UserInfo {
                name: me,
                oid: FIRST_USER_OID,
                is_owner: true,
            }]);
        };
        let users = world.tenant.users()?;
        let all = world.user.role == Role::Owner;
        Ok(users
            .into_iter()
            .enumerate()
            .filter(|(_, u)| all || u.role == Role::Owner || u.name == me)
            .map(|(i, u)| pg::catalog::UserInfo {
                oid: FIRST_USER_OID + i as i32,
                is_owner: u.role == Role::Owner,
                name: u.name,
            })
            .collect())
    }

    fn schemas(&self, owner: &str) -> Result<Vec<pg::catalog::SchemaInfo>> {
        let relation = |(i, r): (usize, &'static relations::Relation)| pg::catalog::RelationInfo {
            name: r.name.to_owned(),
            oid: FIRST_OID + 100 + i as i32,
            kind: r.kind(),
            owner: owner.to_owned(),
            comment: Some(r.comment.to_owned()),
            columns: (1..)
                .zip(r.columns)
                .map(|(number, (name, pg_type))| pg::catalog::ColumnInfo {
                    not_null: *name == "id",
                    ..pg::catalog::ColumnInfo::plain(number, name, *pg_type)
                })
                .collect(),
            indexes: match r.columns.first() {
                Some(("id", _)) if r.kind() == 'r' => vec![pg::catalog::IndexInfo {
                    name: format!("{}_pkey", r.name),
                    oid: FIRST_OID + 500 + i as i32,
                    columns: vec![1],
                    unique: true,
                    primary: true,
                    constraint: true,
                    method: "btree".to_owned(),
                    ..pg::catalog::IndexInfo::default()
                }],
                _ => Vec::new(),
            },
            rows: -1.0,
            allowed: if r.write.is_some() { 0x0f } else { 0x01 },
            ..pg::catalog::RelationInfo::default()
        };
        let of = |schema: &str| {
            relations::visible(&self.world)
                .enumerate()
                .filter(|(_, r)| r.schema == schema)
                .map(relation)
                .collect()
        };
        let schema = |name: &str, oid| pg::catalog::SchemaInfo {
            name: name.to_owned(),
            oid,
            relations: of(name),
            ..pg::catalog::SchemaInfo::default()
        };
        let mut schemas = match &*self.world {
            World::Tenant(world) => tables::describe::schemas(world, &world.view()?),
            World::Operator(_) => vec![schema("public", 2200)],
        };
        schemas.extend([schema("ai", FIRST_OID), schema("bulkhead", FIRST_OID + 1)]);
        Ok(schemas)
    }
}

impl pg::catalog::Snapshots for SessionCatalog {
    fn snapshot(&self) -> Result<Arc<pg::catalog::CatalogSnapshot>, DataFusionError> {
        let users = self.users()?;
        let owner = users
            .iter()
            .find(|u| u.is_owner)
            .map_or_else(|| self.world.user().to_owned(), |u| u.name.clone());
        let schemas = self.schemas(&owner)?;
        let settings = self.settings.lock();
        let functions = functions::visible(&self.world).enumerate().map(|(i, f)| {
            let (schema, name) = f.name.split_once('.').unwrap_or(("public", f.name));
            pg::catalog::FunctionInfo {
                schema: schema.to_owned(),
                name: name.to_owned(),
                oid: FIRST_OID + 1000 + i as i32,
                arguments: f.signature(),
                result: f.result(),
                description: None,
            }
        });
        Ok(Arc::new(pg::catalog::CatalogSnapshot {
            database: self.world.database().to_owned(),
            user: self.world.user().to_owned(),
            schemas,
            search_path: settings.path(),
            functions: functions.collect(),
            settings: settings::SETTINGS
                .iter()
                .map(|s| pg::catalog::SettingInfo {
                    name: s.name.to_owned(),
                    value: settings.get(s),
                    reset: s.default.to_owned(),
                    description: s.description.to_owned(),
                })
                .collect(),
            prepared: self.prepared.lock().clone(),
            channels: self.world.desk().channels.lock().iter().cloned().collect(),
            activity: match &*self.world {
                World::Tenant(world) => world.state.backends.list(world),
                World::Operator(_) => Vec::new(),
            },
            locks: match &*self.world {
                World::Tenant(world) => backends::locks(world),
                World::Operator(_) => Vec::new(),
            },
            builds: match &*self.world {
                World::Tenant(world) => world.state.vectors.building(world),
                World::Operator(_) => Vec::new(),
            },
            cursors: self.world.desk().cursors.lock().clone(),
            pid: self.pid.load(Ordering::Relaxed),
            started_micros: self.started_micros,
            application_name: settings::find("application_name")
                .map(|s| settings.get(s))
                .unwrap_or_default(),
            users,
        }))
    }
}
