//! The wall: who exists, who may log in, and the store behind both. The only folder that names sled.
//!
//! A [`Directory`] owns the store. A login ([`Directory::attempt`], [`Attempt::first`],
//! [`Attempt::last`]) ends in a [`Tenant`] or an [`Operator`], and all reads and writes are methods
//! of those two. A `Tenant` adds its own id to every key and opens every value with its own data
//! key, so a value of another tenant, should it ever be read, does not open.
//!
//! - Only [`Attempt::last`] makes a [`Tenant`]. No function takes a tenant's id and touches data.
//! - Only a [`Recovery`] reaches anything of a tenant without a login: reservations that a former process left, and
//!   what settles them.
//! - Only the committer's thread changes the store; a commit returns when it is on disk.
//! - Only a tenant commits its own [`Batch`], and only numbers pass to the operator's plane
//!   ([`Batch::publish`]).
//! - Only [`PerTenant`] keeps state for all tenants together, and it opens when shown a `Tenant`.
//! - Never does a read of one tenant wait for a lock of ours that another holds. (sled itself lets
//!   readers wait while it applies a batch in memory.)
//!
//! ```text
//! table     the tables, keys of cells          seal     data keys, AEAD        keyring   wrapped keys
//! vault     Store: sled, BTreeMap              disk     opening a directory    plane     reads of one id
//! batch     changes, expectations, counters    committer  groups, sync, acknowledge
//! chain     a tenant's log, bound by hashes
//! scram     RFC 5802, pure                     throttle   slower guessing      login     mints
//! users     records of users                   directory  who exists           operator  changes that
//! handle    Tenant                             per        PerTenant            published rows for all
//! recovery  settling what a crash left
//! ```
//!
//! # What the compiler refuses
//!
//! Each pair differs in one line. A login gives a `Tenant`; nothing else does:
//!
//! ```
//! use bulkhead::tenant::{Login, Tenant};
//! fn enter(login: Login) -> Option<Tenant> {
//!     match login {
//!         Login::Tenant(tenant, _user) => Some(tenant),
//!         Login::Operator(operator) => None,
//!     }
//! }
//! ```
//! ```compile_fail,E0624
//! use bulkhead::tenant::{Login, Tenant};
//! fn enter(login: Login) -> Option<Tenant> {
//!     match login {
//!         Login::Tenant(tenant, _user) => Some(tenant),
//!         Login::Operator(operator) => Some(Tenant::mint(unreachable!(), unreachable!())),
//!     }
//! }
//! ```
//!
//! A directory knows every tenant and hands none out:
//!
//! ```
//! use bulkhead::tenant::Directory;
//! fn look(directory: &std::sync::Arc<Directory>, peer: std::net::IpAddr) {
//!     let _attempt = directory.attempt("acme", "ada", peer);
//! }
//! ```
//! ```compile_fail,E0624
//! use bulkhead::tenant::Directory;
//! fn look(directory: &std::sync::Arc<Directory>, peer: std::net::IpAddr) {
//!     let _live = directory.find("acme");
//! }
//! ```
//!
//! What the process keeps per tenant opens when shown the tenant, not its name:
//!
//! ```
//! use bulkhead::tenant::{PerTenant, Tenant};
//! fn cached(cache: &PerTenant<Vec<u8>>, tenant: &Tenant) -> usize {
//!     cache.open(tenant, Vec::new).len()
//! }
//! ```
//! ```compile_fail,E0308
//! use bulkhead::tenant::{PerTenant, Tenant};
//! fn cached(cache: &PerTenant<Vec<u8>>, tenant: &Tenant) -> usize {
//!     cache.open(tenant.name(), Vec::new).len()
//! }
//! ```
//!
//! A batch belongs to the tenant that made it (another's `commit` refuses it at run time):
//!
//! ```
//! use bulkhead::tenant::{Batch, Tenant};
//! fn begin(tenant: &Tenant) -> Batch {
//!     tenant.batch()
//! }
//! ```
//! ```compile_fail,E0624
//! use bulkhead::tenant::{Batch, Tenant};
//! fn begin(tenant: &Tenant) -> Batch {
//!     Batch::new(unreachable!())
//! }
//! ```
//!
//! An operator sees amounts, and has no way to a tenant's plane:
//!
//! ```
//! use bulkhead::tenant::Operator;
//! fn bill(operator: &Operator) -> bool {
//!     operator.amounts(0).is_ok()
//! }
//! ```
//! ```compile_fail,E0616
//! use bulkhead::tenant::Operator;
//! fn bill(operator: &Operator) -> bool {
//!     operator.directory.amounts(0, &[]).is_ok()
//! }
//! ```
//!
//! The store has no name outside:
//!
//! ```
//! use bulkhead::tenant::Table;
//! ```
//! ```compile_fail,E0603
//! use bulkhead::tenant::vault::Store;
//! ```

mod batch;
mod chain;
mod committer;
mod directory;
mod disk;
mod handle;
mod keyring;
mod login;
mod operator;
mod per;
mod plane;
mod published;
mod recovery;
mod scram;
mod seal;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod throttle;
mod users;
mod vault;

pub use batch::{AMOUNTS_BY_DAY, Batch, Sums};
pub use directory::{Directory, FIRST_OPERATOR, Generated, OPERATOR_DATABASE, OpenOptions, TenantSettings};
pub use disk::MasterKey;
pub use handle::{Keyed, Tenant};
pub use login::{Attempt, Login, Verdict};
pub use operator::{AlterTenant, Erasure, NewTenant, Operator, TenantInfo};
pub use per::PerTenant;
pub use published::{Publication, Published};
pub use recovery::Recovery;
pub use scram::Binding;
pub use seal::{Stored, Version};
pub use table::Table;
pub use users::{Role, User};

use crate::error::{Error, Result};

/// Runs what may wait for locks or the disk on a thread where that is allowed, to its end even if
/// the caller stops waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
