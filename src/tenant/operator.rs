//! [`Operator`]: creates, changes and drops tenants, sees amounts, and never obtains a [`super::Tenant`].

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    batch::{self, AMOUNTS_BY_DAY, Batch, Sums, amounts_key, amounts_read},
    committer::Request,
    directory::{Directory, Dropped, Live, OPERATOR_DATABASE, Record, TenantSettings},
    plane::{Plane, State},
    seal::{self, Keys, Stored},
    table::{Access, Table},
    users::{self, Role, UserRecord},
};
use crate::{
    codec::key,
    error::{Code, Error, Result},
    limits,
};

/// A finished login at `dbname=bulkhead`. Reaches the operator's own tables, who exists, and
/// amounts; no value of any tenant.
#[derive(Clone)]
pub struct Operator {
    directory: Arc<Directory>,
    name: String,
}

/// A tenant to be made, with its first owner.
pub struct NewTenant {
    /// `[a-z][a-z0-9_-]{1,62}`, and not one of PostgreSQL's or this server's own databases.
    pub name: String,
    /// A row of [`Table::Tiers`].
    pub tier: String,
    /// Where its data must stay, if anywhere.
    pub region: Option<String>,
    /// Name of the first user, who is an owner.
    pub owner: String,
    /// The owner's password, or a verifier in PostgreSQL's form.
    pub password: String,
}

/// What to change about a tenant; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct AlterTenant {
    /// A row of [`Table::Tiers`].
    pub tier: Option<String>,
    /// Whether it is locked out.
    pub suspended: Option<bool>,
    /// Whether AI functions may be called.
    pub ai_enabled: Option<bool>,
}

/// What the operator sees of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantInfo {
    /// Its name. Several dropped tenants may have had one name.
    pub name: String,
    /// Its number, never used again.
    pub id: u64,
    /// Its tier.
    pub tier: String,
    /// Its region, if one was said.
    pub region: Option<String>,
    /// `active`, `suspended` or `dropped`.
    pub state: &'static str,
    /// Whether AI functions may be called.
    pub ai_enabled: bool,
    /// Microseconds since 1970.
    pub created_at_micros: i64,
}

/// The record of a drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The name it had.
    pub tenant: String,
    /// Its number.
    pub id: u64,
    /// Microseconds since 1970.
    pub dropped_at_micros: i64,
    /// Names the destroyed key, 32 hex digits.
    pub key_fingerprint: String,
    /// How many cells were removed.
    pub cells: u64,
    /// Its amounts over all days, which stay on the operator's plane.
    pub amounts: Sums,
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operator").field(&self.name).finish()
    }
}

impl fmt::Debug for NewTenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTenant")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Operator {
    /// For a finished login.
    pub(super) fn mint(directory: Arc<Directory>, name: String) -> Self {
        Self { directory, name }
    }

    /// Who logged in.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a tenant and its owner. Of two at once with one name one fails with
    /// [`Code::DuplicateObject`]. Other errors: [`Code::UndefinedObject`] (tier),
    /// [`Code::InvalidParameterValue`] (names, password), and those of a commit.
    pub async fn create_tenant(&self, new: NewTenant) -> Result<()> {
        let directory = self.directory.clone();
        super::blocking(move || directory.create_tenant(&new)).await
    }

    /// Changes a tenant; sessions see it at their next statement. Fails with
    /// [`Code::UndefinedObject`] for an unknown tenant or tier.
    pub async fn alter_tenant(&self, name: &str, change: AlterTenant) -> Result<()> {
        let (directory, name) = (self.directory.clone(), name.to_owned());
        super::blocking(move || directory.alter_tenant(&name, change)).await
    }

    /// What the operator has set for a tenant. Fails with [`Code::UndefinedObject`].
    pub fn settings(&self, name: &str) -> Result<TenantSettings> {
        let live = self.directory.find(name).ok_or_else(|| unknown(name))?;
        let settings = live.settings.read().unwrap_or_else(PoisonError::into_inner);
        Ok(settings.clone())
    }

    /// Replaces the plan of a tenant by what `change` makes of its settings. Of several changes at
    /// once each sees what the one before has made. Sessions see it at their next statement. Errors
    /// are [`Code::UndefinedObject`], those of `change` and those of a commit.
    pub async fn set_plan(
        &self,
        name: &str,
        change: impl FnOnce(&TenantSettings) -> Result<Vec<u8>> + Send + 'static,
    ) -> Result<()> {
        let (directory, name) = (self.directory.clone(), name.to_owned());
        let set = move |record: &mut Record| change(&record.settings()).map(|plan| record.plan = plan.into());
        super::blocking(move || directory.change(&name, set)).await
    }

    /// Locks a tenant out at once, destroys its key and removes its cells. Works while it is
    /// connected and on a full disk. A crash in between is finished at the next start.
    pub async fn drop_tenant(&self, name: &str) -> Result<Erasure> {
        let (directory, name) = (self.directory.clone(), name.to_owned());
        super::blocking(move || directory.drop_tenant(&name)).await
    }

    /// Everyone there ever was, in order of creation.
    pub fn tenants(&self) -> Vec<TenantInfo> {
        let records = self.directory.records.read().unwrap_or_else(PoisonError::into_inner);
        let info = |record: &Record| TenantInfo {
            name: record.name.clone(),
            id: record.id,
            tier: record.tier.clone(),
            region: record.region.clone(),
            state: match record {
                Record { dropped: Some(_), .. } => "dropped",
                Record { suspended: true, .. } => "suspended",
                _ => "active",
            },
            ai_enabled: record.ai_enabled,
            created_at_micros: record.created_at_micros,
        };
        records.values().map(info).collect()
    }

    /// What tenants have [published](Batch::publish) in a series, as id, point and sums in this
    /// order; dropped tenants included. [`Operator::tenants`] has the names.
    pub fn amounts(&self, series: u8) -> Result<Vec<(u64, i64, Sums)>> {
        self.directory.amounts(series, &[])
    }

    /// A value of the operator's own tables.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Stored>> {
        batch::check_access(table, Access::Operator)?;
        self.directory.operator.get(table, key)
    }

    /// Values of the operator's own tables, as [`Tenant::scan`](super::Tenant::scan).
    pub fn scan(&self, table: Table, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Stored)>> + Send + use<> {
        self.directory.operator.scan_as(Access::Operator, table, prefix)
    }

    /// An empty set of changes to the operator's own tables.
    pub fn batch(&self) -> Batch {
        Batch::new(self.directory.operator.clone())
    }

    /// As [`Tenant::commit`](super::Tenant::commit). Published tables that it touches are published
    /// when it returns.
    pub async fn commit(&self, batch: Batch) -> Result<()> {
        let touched = batch.tables();
        let mut request = batch.seal(&self.directory.operator, Access::Operator, None)?;
        self.directory.published.reload_after(&mut request, touched.into_iter());
        self.directory.committer.submit(request).await
    }
}

impl Directory {
    fn create_tenant(&self, new: &NewTenant) -> Result<()> {
        check_name(&new.name)?;
        let owner = UserRecord::new(&new.owner, &new.password, Role::Owner)?;
        let mut keyring = self.keyring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(&new.name).is_some() {
            return Err(Error::new(
                Code::DuplicateObject,
                format!("tenant \"{}\" already exists", new.name),
            ));
        }
        self.check_tier(&new.tier)?;
        let record = Record {
            id: self.next_id()?,
            name: new.name.clone(),
            tier: new.tier.clone(),
            region: new.region.clone(),
            suspended: false,
            ai_enabled: true,
            created_at_micros: now_micros(),
            dropped: None,
            plan: Arc::default(),
        };
        let keys = Keys::derive(keyring.add(record.id)?);
        let plane = Arc::new(Plane::new(record.id, keys, self.store.clone()));
        let commit = || {
            let mut request = Request::new(plane.clone());
            record.write(&mut request, &self.operator)?;
            request.write(
                &plane,
                Table::Users,
                &users::key(&plane, &owner.name),
                Some(&owner.encode()?),
            )?;
            self.committer.submit_blocking(request)
        };
        if let Err(error) = commit() {
            if let Err(again) = keyring.destroy(record.id) {
                tracing::warn!(error = %again, "a key slot stays in use until the next start");
            }
            return Err(error);
        }
        let live = Arc::new(Live::new(&record, plane));
        self.records
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(record.id, record);
        self.live
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(new.name.clone(), live);
        Ok(())
    }

    fn alter_tenant(&self, name: &str, change: AlterTenant) -> Result<()> {
        self.change(name, |record| {
            if let Some(tier) = change.tier {
                self.check_tier(&tier)?;
                record.tier = tier;
            }
            record.suspended = change.suspended.unwrap_or(record.suspended);
            record.ai_enabled = change.ai_enabled.unwrap_or(record.ai_enabled);
            Ok(())
        })
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Record) -> Result<()>) -> Result<()> {
        let _one_at_a_time = self.keyring.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.find(name).ok_or_else(|| unknown(name))?;
        let mut record = self.record(live.plane.id)?;
        change(&mut record)?;
        let mut request = Request::new(self.operator.clone());
        record.write(&mut request, &self.operator)?;
        self.committer.submit_blocking(request)?;
        live.plane.set_state(if record.suspended {
            State::Suspended
        } else {
            State::Active
        });
        *live.settings.write().unwrap_or_else(PoisonError::into_inner) = record.settings();
        self.records
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(record.id, record);
        Ok(())
    }

    fn drop_tenant(&self, name: &str) -> Result<Erasure> {
        let mut keyring = self.keyring.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.find(name).ok_or_else(|| unknown(name))?;
        let mut record = self.record(live.plane.id)?;
        let dropped = Dropped {
            at_micros: now_micros(),
            key_fingerprint: live.plane.keys.fingerprint(),
        };
        record.dropped = Some(dropped.clone());
        record.plan = Arc::default();
        let before = live.plane.state();
        // From here the committer refuses commits of it, so nothing is written behind the purge.
        live.plane.set_state(State::Dropped);
        let mut request = Request::new(self.operator.clone());
        request.frees_space = true;
        if let Err(error) = record
            .write(&mut request, &self.operator)
            .and_then(|()| self.committer.submit_blocking(request))
        {
            live.plane.set_state(before);
            return Err(error);
        }
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.records
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(record.id, record.clone());
        live.forget();
        keyring.destroy(record.id)?;
        let cells = self.purge(record.id)?;
        let mut amounts = Sums::default();
        let prefix = &amounts_key(record.id, AMOUNTS_BY_DAY, 0)[..9];
        for (_, _, sums) in self.amounts(AMOUNTS_BY_DAY, prefix)? {
            amounts.add(&sums)?;
        }
        let Dropped {
            at_micros: dropped_at_micros,
            key_fingerprint,
        } = dropped;
        Ok(Erasure {
            tenant: record.name,
            id: record.id,
            dropped_at_micros,
            key_fingerprint,
            cells,
            amounts,
        })
    }

    fn record(&self, id: u64) -> Result<Record> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::internal("a tenant without a record"))
    }

    fn next_id(&self) -> Result<u64> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= limits::TENANTS {
            return Err(Error::new(
                Code::LimitReached,
                format!("there were {} tenants already", limits::TENANTS),
            ));
        }
        Ok(records.last_key_value().map_or(0, |(id, _)| *id) + 1)
    }

    fn check_tier(&self, tier: &str) -> Result<()> {
        let mut at = Vec::new();
        key::put_bytes(&mut at, tier.as_bytes());
        match self.operator.get(Table::Tiers, &at)? {
            Some(_) => Ok(()),
            None => Err(Error::new(
                Code::UndefinedObject,
                format!("tier \"{tier}\" does not exist"),
            )),
        }
    }

    fn amounts(&self, series: u8, prefix: &[u8]) -> Result<Vec<(u64, i64, Sums)>> {
        let mut amounts = Vec::new();
        for row in self.operator.scan(Table::Amounts, prefix) {
            let (at, stored) = row?;
            let read = amounts_read(&at).zip(Sums::decode(&stored.value));
            let ((id, of, point), sums) = read.ok_or_else(|| seal::corrupted(Table::Amounts))?;
            if of == series {
                amounts.push((id, point, sums));
            }
        }
        Ok(amounts)
    }
}

fn check_name(name: &str) -> Result<()> {
    let shaped = name.len() >= 2
        && name.len() <= limits::NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if !shaped {
        let text = "a tenant's name is a letter a-z, then 1 to 62 of a-z, 0-9, _ and -";
        return Err(Error::new(Code::InvalidParameterValue, text));
    }
    match [OPERATOR_DATABASE, "postgres", "template0", "template1"].contains(&name) {
        true => Err(Error::new(
            Code::InvalidParameterValue,
            format!("the name \"{name}\" is reserved"),
        )),
        false => Ok(()),
    }
}

fn unknown(name: &str) -> Error {
    Error::new(Code::UndefinedObject, format!("tenant \"{name}\" does not exist"))
}

fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}
