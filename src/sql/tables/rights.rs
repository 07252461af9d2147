//! Who may do what with which table: the tenant's users, its roles, and everyone in it.

use crate::{
    error::{Code, Error, Result},
    sql::world::TenantWorld,
    table::schema::{Grant, Relation, TableDef},
    tenant::Role,
};

use super::ddl::{Kind, Who};

/// Stands before the name of a role, and of `public`, where a user's name could stand: no user's name has
/// a control character.
const ROLE: char = '\u{1}';

/// What may be done with a table: bits of [`Grant::privileges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) enum Privilege {
    /// SELECT.
    Select = 0,
    /// INSERT.
    Insert = 1,
    /// UPDATE.
    Update = 2,
    /// DELETE.
    Delete = 3,
    /// TRUNCATE.
    Truncate = 4,
    /// REFERENCES.
    References = 5,
}

/// Whether the session's user has every right on what this user owns: it owns it too, or is an owner of the
/// tenant.
pub(in crate::sql) fn owns(world: &TenantWorld, owner: &str) -> bool {
    world.user.role == Role::Owner || world.user.name == owner
}

/// Whether a name in a list of grantees or of a policy's roles means the session's user.
pub(in crate::sql) fn means(world: &TenantWorld, name: &str) -> bool {
    match name.strip_prefix(ROLE) {
        Some("public") => true,
        Some(role) => role == world.user.role.as_str(),
        None => name == world.user.name,
    }
}

/// What is kept for a user or role that a statement names.
///
/// # Errors
/// 42704 for a name that is neither.
pub(in crate::sql) fn kept(world: &TenantWorld, who: &Who) -> Result<String> {
    match who {
        Who::Public => Ok(format!("{ROLE}public")),
        Who::CurrentUser => Ok(world.user.name.clone()),
        Who::Named(name) => {
            if world.tenant.users()?.iter().any(|user| user.name == *name) {
                return Ok(name.clone());
            }
            match Role::parse(name) {
                Some(role) => Ok(format!("{ROLE}{}", role.as_str())),
                None => Err(Error::new(
                    Code::UndefinedObject,
                    format!("role \"{name}\" does not exist"),
                )),
            }
        }
    }
}

/// A kept name as it is shown.
pub(in crate::sql) fn shown(kept: &str) -> &str {
    kept.strip_prefix(ROLE).unwrap_or(kept)
}

fn granted(world: &TenantWorld, owner: &str, grants: &[Grant], privilege: Privilege) -> bool {
    let bit = 1_u8 << privilege as u8;
    owns(world, owner) || grants.iter().any(|g| g.privileges & bit != 0 && means(world, &g.to))
}

/// Whether the session's user may do this with a table or view; a sequence is its owner's, and its table's.
pub(in crate::sql) fn may(world: &TenantWorld, relation: &Relation, privilege: Privilege) -> bool {
    match relation {
        Relation::Table(table) => granted(world, &table.owner, &table.grants, privilege),
        Relation::View(view) => granted(world, &view.owner, &view.grants, privilege),
        Relation::Sequence(sequence) => owns(world, &sequence.owner),
    }
}

/// Whether the session's user may read a table.
pub(in crate::sql) fn may_read(world: &TenantWorld, table: &TableDef) -> bool {
    granted(world, &table.owner, &table.grants, Privilege::Select)
}

/// What a relation is called in messages.
pub(in crate::sql) fn kind_of(relation: &Relation) -> Kind {
    match relation {
        Relation::Table(_) => Kind::Table,
        Relation::View(_) => Kind::View,
        Relation::Sequence(_) => Kind::Sequence,
    }
}

/// Refuses what the session's user may not do.
///
/// # Errors
/// 42501.
pub(in crate::sql) fn require(world: &TenantWorld, relation: &Relation, privilege: Privilege) -> Result<()> {
    match may(world, relation, privilege) {
        true => Ok(()),
        false => Err(denied(kind_of(relation), relation.name().1)),
    }
}

pub(in crate::sql) fn denied(kind: Kind, name: &str) -> Error {
    let text = format!("permission denied for {} {name}", kind.word());
    Error::new(Code::InsufficientPrivilege, text)
}

/// Refuses who is not the owner.
///
/// # Errors
/// 42501.
pub(in crate::sql) fn require_owner(world: &TenantWorld, kind: Kind, owner: &str, name: &str) -> Result<()> {
    match owns(world, owner) {
        true => Ok(()),
        false => Err(Error::new(
            Code::InsufficientPrivilege,
            format!("must be owner of {} {name}", kind.word()),
        )),
    }
}

/// Refuses users who make nothing: they read.
///
/// # Errors
/// 42501.
pub(in crate::sql) fn require_creator(world: &TenantWorld, schema: &str) -> Result<()> {
    match world.user.role {
        Role::Owner | Role::Member | Role::Service => Ok(()),
        Role::Analyst => Err(denied(Kind::Schema, schema).with_hint("users of role analyst create nothing")),
    }
}

impl TenantWorld {
    /// Refuses to drop users that own something, or that a grant or a policy names: another user of that name would
    /// have it all.
    ///
    /// # Errors
    /// 2BP01, with what it is in the detail; those of opening the tenant's tables.
    pub(in crate::sql) async fn check_owns_nothing(&self, names: &[String]) -> Result<()> {
        let latest = self.tables().await?.latest();
        let catalog = latest.catalog();
        for name in names {
            let mut lines = Vec::new();
            let schemas = catalog.schemas.values().filter(|schema| schema.owner == *name);
            lines.extend(schemas.map(|schema| format!("owner of schema {}", schema.name)));
            for relation in catalog.relations.values() {
                let what = format!("{} {}", kind_of(relation).word(), relation.name().1);
                if relation.owner() == name {
                    lines.push(format!("owner of {what}"));
                }
                let grants = match relation {
                    Relation::Table(table) => table.grants.as_slice(),
                    Relation::View(view) => view.grants.as_slice(),
                    Relation::Sequence(_) => &[],
                };
                if grants.iter().any(|grant| grant.to == *name) {
                    lines.push(format!("privileges for {what}"));
                }
                if let Relation::Table(table) = relation {
                    let policies = table.policies.iter().filter(|policy| policy.roles.contains(name));
                    lines.extend(policies.map(|policy| format!("target of policy {} on {what}", policy.name)));
                }
            }
            if !lines.is_empty() {
                let text = format!("role \"{name}\" cannot be dropped because some objects depend on it");
                return Err(Error::new(Code::DependentObjects, text)
                    .with_detail(lines.join("\n"))
                    .with_hint("drop them, or give them to another user with ALTER TABLE ... OWNER TO"));
            }
        }
        Ok(())
    }
}
