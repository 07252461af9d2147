//! User records: sealed in the tenant's own plane, under a keyed hash of the name.

use std::{fmt, sync::Arc};

use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::{
    directory::Live,
    plane::Plane,
    scram::{SALT_BYTES, Verifier},
    seal::{self, Version},
    table::Table,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// A user inside a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// 1 to [`limits::NAME_BYTES`] bytes; case matters.
    pub name: String,
    /// What the user is for.
    pub role: Role,
    /// What a login proved; `None` where nobody has logged in.
    pub(super) verifier: Option<Verifier>,
}

/// What a user may do; which statements that means is decided above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything in the tenant, users included. At least one user is an owner.
    Owner,
    /// Reads and writes.
    Member,
    /// Reads.
    Analyst,
    /// A program.
    Service,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Role] = &[Role::Owner, Role::Member, Role::Analyst, Role::Service];

    /// The name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
            Self::Analyst => "analyst",
            Self::Service => "service",
        }
    }

    /// The role of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is stored of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UserRecord {
    pub name: String,
    pub role: Role,
    pub verifier: Verifier,
}

impl UserRecord {
    /// Checks name and password; costs the hashing of the latter.
    pub fn new(name: &str, password: &str, role: Role) -> Result<Self> {
        if name.is_empty() || name.len() > limits::NAME_BYTES || name.chars().any(char::is_control) {
            let text = format!(
                "a user name has 1 to {} bytes and no control characters",
                limits::NAME_BYTES
            );
            return Err(Error::new(Code::InvalidParameterValue, text));
        }
        Ok(Self {
            name: name.to_owned(),
            role,
            verifier: fresh_verifier(password)?,
        })
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(Error::internal)
    }

    fn decode(table: Table, bytes: &[u8]) -> Result<Self> {
        postcard::from_bytes(bytes).map_err(|_| seal::corrupted(table))
    }
}

/// The logical key of a user.
pub(super) fn key(plane: &Plane, name: &str) -> [u8; 32] {
    plane.keys.hash("user", name.as_bytes())
}

/// The record of a name in [`Table::Users`] or [`Table::Operators`].
pub(super) fn find(plane: &Plane, table: Table, name: &str) -> Result<Option<(UserRecord, Version)>> {
    let Some(stored) = plane.get(table, &key(plane, name))? else {
        return Ok(None);
    };
    Ok(Some((UserRecord::decode(table, &stored.value)?, stored.version)))
}

/// All of a tenant's users, by name.
pub(super) fn list(plane: &Arc<Plane>) -> Result<Vec<User>> {
    let records = plane
        .scan(Table::Users, &[])
        .map(|row| UserRecord::decode(Table::Users, &row?.1.value));
    let mut users: Vec<User> = records
        .map(|record| {
            record.map(|r| User {
                name: r.name,
                role: r.role,
                verifier: None,
            })
        })
        .collect::<Result<_>>()?;
    users.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(users)
}

fn fresh_verifier(password: &str) -> Result<Verifier> {
    let mut salt = [0; SALT_BYTES];
    rand::rng().fill_bytes(&mut salt);
    Verifier::of_password(password, salt)
}

/// What changes about a user: runs on a thread that may block, one change per tenant at a time.
pub(super) enum Change {
    Create(UserRecord),
    Alter {
        name: String,
        verifier: Option<Verifier>,
        role: Option<Role>,
    },
    Drop {
        name: String,
    },
}

impl Change {
    pub fn alter(name: String, password: Option<&str>, role: Option<Role>) -> Result<Self> {
        Ok(Self::Alter {
            name,
            verifier: password.map(fresh_verifier).transpose()?,
            role,
        })
    }

    /// Commits the change by `commit`. The caller holds the tenant's lock for user changes, which
    /// is what keeps two changes from removing the last two owners.
    pub fn apply(self, live: &Live, commit: impl FnOnce(super::committer::Request) -> Result<()>) -> Result<()> {
        let plane = &live.plane;
        let (name, after) = match self {
            Self::Create(record) => {
                if find(plane, Table::Users, &record.name)?.is_some() {
                    return Err(Error::new(
                        Code::DuplicateObject,
                        format!("user \"{}\" already exists", record.name),
                    ));
                }
                (record.name.clone(), Some(record))
            }
            Self::Alter { name, verifier, role } => {
                let mut record = existing(plane, &name)?;
                record.role = role.unwrap_or(record.role);
                record.verifier = verifier.unwrap_or(record.verifier);
                (name, Some(record))
            }
            Self::Drop { name } => {
                existing(plane, &name)?;
                (name, None)
            }
        };
        let stays_owner = after.as_ref().is_some_and(|record| record.role == Role::Owner);
        let other_owner = || -> Result<bool> {
            Ok(list(plane)?
                .iter()
                .any(|user| user.role == Role::Owner && user.name != name))
        };
        if !stays_owner && !other_owner()? {
            return Err(
                Error::new(Code::InvalidParameterValue, "the last owner of a tenant must stay one")
                    .with_hint("make another user an owner first"),
            );
        }
        let value = after.map(|record| record.encode()).transpose()?;
        let mut request = super::committer::Request::new(plane.clone());
        request.write(plane, Table::Users, &key(plane, &name), value.as_deref())?;
        commit(request)
    }
}

fn existing(plane: &Plane, name: &str) -> Result<UserRecord> {
    let found = find(plane, Table::Users, name)?;
    let missing = || Error::new(Code::UndefinedObject, format!("user \"{name}\" does not exist"));
    found.map(|(record, _)| record).ok_or_else(missing)
}
