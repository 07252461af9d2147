//! [`Tenant`]: the one way to a tenant's data.

use std::{
    fmt,
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
};

use super::{
    batch::{self, Batch, Sums},
    chain,
    directory::{Directory, Live, TenantSettings},
    per::Forget,
    plane::State,
    published::{Publication, Published},
    seal::{self, Stored},
    table::{Access, Table},
    users::{self, Change, Role, User, UserRecord},
};
use crate::{
    codec::chain::{Checked, Head, Link},
    error::{Code, Error, Result},
};

/// Possession of this is permission to a tenant's data, and there is no other way to it. Only
/// [`Attempt::last`](super::Attempt::last) makes one. Once the tenant is dropped, everything here
/// fails with [`Code::InvalidAuthorization`].
#[derive(Clone)]
pub struct Tenant {
    directory: Arc<Directory>,
    live: Arc<Live>,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tenant").field(&self.live.name).finish()
    }
}

impl Tenant {
    /// For a finished login.
    pub(super) fn mint(directory: Arc<Directory>, live: Arc<Live>) -> Self {
        Self { directory, live }
    }

    /// The tenant's name: the `dbname` of its logins.
    pub fn name(&self) -> &str {
        &self.live.name
    }

    /// What the operator has set, as of now.
    pub fn settings(&self) -> TenantSettings {
        self.live
            .settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Fails with [`Code::InvalidAuthorization`] when dropped and [`Code::NotReady`] when suspended.
    /// Costs an atomic read: call it for every statement.
    pub fn check_open(&self) -> Result<()> {
        match self.live.plane.state() {
            State::Active => Ok(()),
            State::Suspended => Err(suspended()),
            State::Dropped => self.live.plane.check_exists(),
        }
    }

    /// One value. Fails with [`Code::Corrupted`] if what is stored does not open as this tenant's.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Stored>> {
        batch::check_access(table, Access::Tenant)?;
        self.live.plane.get(table, key)
    }

    /// Values whose keys start with `prefix`, in key order, read as the iterator advances. It is no
    /// snapshot: a commit meanwhile may be seen in part, though never half of one value. Ends after
    /// the first error.
    pub fn scan(&self, table: Table, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Stored)>> + Send + use<> {
        self.live.plane.scan_as(Access::Tenant, table, prefix)
    }

    /// The same for keys from `from` (included) to `to` (excluded; `None` is the table's end).
    pub fn scan_from(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Stored)>> + Send + use<> {
        let scan = self.live.plane.scan_from(table, from, to);
        scan.refused(batch::check_access(table, Access::Tenant).err())
    }

    /// An empty set of changes.
    pub fn batch(&self) -> Batch {
        Batch::new(self.live.plane.clone())
    }

    /// Makes the changes, all or none, durable when it returns. Sealing happens on the caller's
    /// thread. Dropping the future after its first await does not undo anything.
    ///
    /// Fails with [`Code::SerializationFailure`] when an expectation does not hold,
    /// [`Code::NumericOutOfRange`] when a counter overflows, [`Code::TooLarge`] over the limits of
    /// keys, values and commits, [`Code::DiskFull`] when only deletes are accepted,
    /// [`Code::Shutdown`] after close and [`Code::Io`] after storage has failed.
    pub async fn commit(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return self.live.plane.check_exists();
        }
        let request = batch.seal(&self.live.plane, Access::Tenant, Some(&self.directory.operator))?;
        self.directory.committer.submit(request).await
    }

    /// The same for threads outside the runtime.
    pub fn commit_blocking(&self, batch: Batch) -> Result<()> {
        futures::executor::block_on(tokio::task::unconstrained(self.commit(batch)))
    }

    /// Counters written by [`Batch::add`].
    pub fn sums(&self, table: Table, key: &[u8]) -> Result<Option<Sums>> {
        let Some(stored) = self.get(table, key)? else {
            return Ok(None);
        };
        Sums::decode(&stored.value)
            .map(Some)
            .ok_or_else(|| seal::corrupted(table))
    }

    /// See [`Keyed::keyed_hash`].
    pub fn keyed_hash(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        Keyed::keyed_hash(self, label, bytes)
    }

    /// The users, by name.
    pub fn users(&self) -> Result<Vec<User>> {
        users::list(&self.live.plane)
    }

    /// Adds a user; `entry` goes to the [log](Batch::append) in the same commit. `password` may be a verifier in
    /// PostgreSQL's form (`SCRAM-SHA-256$...`). Fails with [`Code::DuplicateObject`] or
    /// [`Code::InvalidParameterValue`].
    pub async fn create_user(&self, name: &str, password: &str, role: Role, entry: Option<Vec<u8>>) -> Result<()> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let change = move || Ok(Change::Create(UserRecord::new(&name, &password, role)?));
        self.change_users(change, entry).await
    }

    /// Changes password, role or both. Fails with [`Code::UndefinedObject`], or
    /// [`Code::InvalidParameterValue`] also when no owner would be left.
    pub async fn alter_user(
        &self,
        name: &str,
        password: Option<&str>,
        role: Option<Role>,
        entry: Option<Vec<u8>>,
    ) -> Result<()> {
        let (name, password) = (name.to_owned(), password.map(str::to_owned));
        let change = move || Change::alter(name, password.as_deref(), role);
        self.change_users(change, entry).await
    }

    /// Removes a user; errors as for [`Tenant::alter_user`].
    pub async fn drop_user(&self, name: &str, entry: Option<Vec<u8>>) -> Result<()> {
        let name = name.to_owned();
        self.change_users(move || Ok(Change::Drop { name }), entry).await
    }

    async fn change_users(
        &self,
        change: impl FnOnce() -> Result<Change> + Send + 'static,
        entry: Option<Vec<u8>>,
    ) -> Result<()> {
        let tenant = self.clone();
        super::blocking(move || {
            let change = change()?; // hashes a password: before the lock
            let _one_at_a_time = tenant.live.users.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = change.apply(&tenant.live, |mut request| {
                request.append(entry.into_iter().collect())?;
                tenant.directory.committer.submit_blocking(request)
            });
            tenant.live.users_changed.fetch_add(1, Ordering::SeqCst);
            changed
        })
        .await
    }

    /// How often users have changed since the start: as long as it is the same, so is what [`Tenant::admits`]
    /// says. Costs an atomic read.
    pub fn users_changed(&self) -> u64 {
        self.live.users_changed.load(Ordering::SeqCst)
    }

    /// Whether this user could log in again as it did: it exists, has the same password and no lower role.
    pub fn admits(&self, user: &User) -> Result<bool> {
        let found = users::find(&self.live.plane, Table::Users, &user.name)?;
        Ok(found.is_some_and(|(record, _)| {
            user.verifier.as_ref() == Some(&record.verifier) && (record.role == user.role || record.role == Role::Owner)
        }))
    }

    /// The same user after a change of its own: the session that made it goes on.
    pub fn admitted_again(&self, user: &User) -> Result<Option<User>> {
        let found = users::find(&self.live.plane, Table::Users, &user.name)?;
        Ok(found.map(|(record, _)| User {
            name: record.name,
            role: user.role,
            verifier: Some(record.verifier),
        }))
    }

    /// Where the log ends. Fails with [`Code::Corrupted`].
    pub fn log_head(&self) -> Result<Head> {
        chain::head(&self.live.plane)
    }

    /// The entries of the log from the first on, up to a head that was read before. Ends after the first error.
    pub fn log(&self, head: Head) -> impl Iterator<Item = Result<Link>> + Send + use<> {
        chain::read(&self.live.plane, head)
    }

    /// Looks whether every entry of the log is there and as it was written. Errors are those of reading;
    /// damage is part of the answer.
    pub fn check_log(&self) -> Result<Checked> {
        chain::check(&self.live.plane)
    }

    /// How many logins this tenant has refused since the last call: unknown users and wrong passwords.
    pub fn take_refused_logins(&self) -> u64 {
        self.live.refused_logins.swap(0, Ordering::Relaxed)
    }

    /// Counts refused logins again that could not be written.
    pub fn give_back_refused_logins(&self, count: u64) {
        self.live.refused_logins.fetch_add(count, Ordering::Relaxed);
    }

    /// Rows that the operator publishes to all tenants.
    pub fn published(&self, published: Published) -> Arc<Publication> {
        self.directory.published.get(published)
    }

    pub(super) fn parts(&self) -> (Arc<Directory>, Arc<Live>) {
        (self.directory.clone(), self.live.clone())
    }

    pub(super) fn serial(&self) -> u64 {
        self.live.serial
    }

    pub(super) fn when_dropped(&self, forget: Weak<dyn Forget>) -> bool {
        self.live.when_dropped(forget)
    }
}

/// What makes keys that must not show what they stand for.
pub trait Keyed {
    /// HMAC-SHA-256 under a key of this tenant: equal for equal label and bytes, unrelated to any
    /// other tenant's.
    fn keyed_hash(&self, label: &str, bytes: &[u8]) -> [u8; 32];
}

impl Keyed for Tenant {
    fn keyed_hash(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        self.live.plane.keys.hash(&format!("data:{label}"), bytes)
    }
}

/// For statements and logins alike.
pub(super) fn suspended() -> Error {
    Error::new(Code::NotReady, "tenant is suspended").with_hint("ask the operator of this server")
}
