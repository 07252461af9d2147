//! Who exists, and the process's one store.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    committer::{Committer, Request},
    disk::{self, MasterKey},
    keyring::Keyring,
    per::Forget,
    plane::{Plane, State},
    published::Publications,
    seal::{self, Key, Keys},
    table::{Access, Table},
    throttle::Throttle,
    users::{self, Role, UserRecord},
    vault::{Memory, Store},
};
use crate::{
    codec::key,
    error::{Code, Error, Result},
};

/// The operator's database name; no tenant can have it.
pub const OPERATOR_DATABASE: &str = "bulkhead";
/// The operator made at the first start.
pub const FIRST_OPERATOR: &str = "admin";

/// How to open a data directory.
pub struct OpenOptions {
    /// The directory, made if it does not exist.
    pub data: PathBuf,
    /// See [`MasterKey`].
    pub master_key: MasterKey,
    /// Free bytes on its disk below which only deletes are accepted.
    pub min_free_bytes: u64,
    /// The password of the operator [`FIRST_OPERATOR`]. When given, it replaces the stored one.
    pub admin_password: Option<String>,
}

/// The operator's password, made at the first start because none was given. Shown once.
pub struct Generated(pub String);

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generated(..)")
    }
}

/// Who exists; owns the store. Gives access to nothing by itself: see
/// [`Directory::attempt`](Directory::attempt).
pub struct Directory {
    pub(super) store: Arc<dyn Store>,
    pub(super) committer: Committer,
    /// Plane 0.
    pub(super) operator: Arc<Plane>,
    pub(super) published: Arc<Publications>,
    /// Tenants that can log in, by name.
    pub(super) live: RwLock<HashMap<String, Arc<Live>>>,
    /// Everyone there ever was, by id.
    pub(super) records: RwLock<BTreeMap<u64, Record>>,
    /// Held for a whole change of who exists, on threads that may block.
    pub(super) keyring: Mutex<Keyring>,
    pub(super) throttle: Throttle,
    pub(super) decoy: Decoy,
    /// Dropped last.
    _lock: Option<File>,
}

/// What answers for names that do not exist.
pub(super) struct Decoy {
    pub secret: Key,
    /// Looked into for unknown tenants; nothing is stored under its id.
    pub plane: Arc<Plane>,
    /// Opened when no user was found, as a user's record would be.
    pub sealed: Vec<u8>,
}

/// The id of [`Decoy::plane`]. Ids of tenants count up from 1.
const DECOY_ID: u64 = u64::MAX;

/// A tenant that exists.
pub(super) struct Live {
    pub name: String,
    pub plane: Arc<Plane>,
    /// Unlike ids unique in the process, whatever directories it has open.
    pub serial: u64,
    pub settings: RwLock<TenantSettings>,
    /// Held while users change.
    pub users: Mutex<()>,
    /// How often they have changed since the start.
    pub users_changed: AtomicU64,
    /// Held while calls of a former process are settled; whether an account was opened meanwhile.
    pub taken_over: tokio::sync::Mutex<bool>,
    /// Logins refused that its log does not tell of yet.
    pub refused_logins: AtomicU64,
    /// Who keeps something for it; `None` once dropped.
    forget: Mutex<Option<Vec<Weak<dyn Forget>>>>,
}

/// What the operator has set for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSettings {
    /// Key of a row of [`Table::Tiers`].
    pub tier: String,
    /// Where its data must stay, if that is said.
    pub region: Option<String>,
    /// Suspended tenants cannot log in, and [`Tenant::check_open`](super::Tenant::check_open) fails.
    pub suspended: bool,
    /// Whether AI functions may be called.
    pub ai_enabled: bool,
    /// What else the operator has set; its shape is the ledger's affair. Empty at first.
    pub plan: Arc<[u8]>,
}

/// What is stored of a tenant on the operator's plane. Kept when it is dropped, for its bills.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: u64,
    pub name: String,
    pub tier: String,
    pub region: Option<String>,
    pub suspended: bool,
    pub ai_enabled: bool,
    pub created_at_micros: i64,
    pub dropped: Option<Dropped>,
    /// Stored behind the rest, to the end of the value.
    #[serde(skip)]
    pub plan: Arc<[u8]>,
}

/// See [`Record::dropped`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dropped {
    pub at_micros: i64,
    pub key_fingerprint: String,
}

impl Record {
    pub fn write(&self, request: &mut Request, operator: &Plane) -> Result<()> {
        let mut value = postcard::to_stdvec(self).map_err(Error::internal)?;
        value.extend_from_slice(&self.plan);
        let mut at = Vec::new();
        key::put_i64(&mut at, self.id as i64);
        request.write(operator, Table::Tenants, &at, Some(&value))
    }

    fn read(value: &[u8]) -> Result<Self> {
        let (record, plan) = postcard::take_from_bytes::<Self>(value).map_err(|_| seal::corrupted(Table::Tenants))?;
        let plan = plan.into();
        Ok(Self { plan, ..record })
    }

    pub fn settings(&self) -> TenantSettings {
        TenantSettings {
            tier: self.tier.clone(),
            region: self.region.clone(),
            suspended: self.suspended,
            ai_enabled: self.ai_enabled,
            plan: self.plan.clone(),
        }
    }
}

impl Live {
    pub fn new(record: &Record, plane: Arc<Plane>) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        plane.set_state(if record.suspended {
            State::Suspended
        } else {
            State::Active
        });
        Self {
            name: record.name.clone(),
            plane,
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            settings: RwLock::new(record.settings()),
            users: Mutex::new(()),
            users_changed: AtomicU64::new(0),
            taken_over: tokio::sync::Mutex::new(false),
            refused_logins: AtomicU64::new(0),
            forget: Mutex::new(Some(Vec::new())),
        }
    }

    /// False if it is dropped already.
    pub fn when_dropped(&self, forget: Weak<dyn Forget>) -> bool {
        let mut list = self.forget.lock().unwrap_or_else(PoisonError::into_inner);
        list.as_mut().map(|list| list.push(forget)).is_some()
    }

    /// Tells everyone who keeps something for it.
    pub fn forget(&self) {
        let list = self.forget.lock().unwrap_or_else(PoisonError::into_inner).take();
        for keeper in list.into_iter().flatten().filter_map(|weak| weak.upgrade()) {
            keeper.forget(self.serial);
        }
    }
}

impl Directory {
    /// Opens or creates a data directory. Errors name the file and what to do.
    pub fn open(options: OpenOptions) -> Result<(Arc<Self>, Option<Generated>)> {
        let disk::Opened { store, keyring, lock } = disk::open(&options.data, options.master_key)?;
        let admin = options.admin_password.as_deref();
        Self::start(Arc::new(store), keyring, Some(lock), options.min_free_bytes, admin)
    }

    /// The twin: the same directory over a map in memory, for tests of what stands on it.
    pub fn in_memory(admin_password: &str) -> Result<Arc<Self>> {
        Ok(Self::start(
            Arc::new(Memory::default()),
            Keyring::in_memory()?,
            None,
            0,
            Some(admin_password),
        )?
        .0)
    }

    pub(super) fn start(
        store: Arc<dyn Store>,
        keyring: Keyring,
        lock: Option<File>,
        min_free_bytes: u64,
        admin_password: Option<&str>,
    ) -> Result<(Arc<Self>, Option<Generated>)> {
        let lost = || Error::new(Code::Corrupted, "the file keyring lacks a tenant's key");
        let data_key = keyring.key(0).ok_or_else(lost)?;
        let operator = Arc::new(Plane::new(0, Keys::derive(data_key), store.clone()));
        let secret: Key = zeroize::Zeroizing::new(operator.keys.hash("decoy", &[]));
        let decoy = Decoy::new(secret, store.clone())?;
        let mut directory = Self {
            committer: Committer::start(store.clone(), min_free_bytes)?,
            published: Arc::new(Publications::load(operator.clone())?),
            store,
            operator,
            live: RwLock::default(),
            records: RwLock::default(),
            keyring: Mutex::new(keyring),
            throttle: Throttle::new(),
            decoy,
            _lock: lock,
        };
        directory.load()?;
        let generated = directory.first_operator(admin_password)?;
        Ok((Arc::new(directory), generated))
    }

    /// Reads who exists, and finishes drops that a crash interrupted.
    fn load(&mut self) -> Result<()> {
        let mut keyring = self.keyring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = BTreeMap::new();
        for row in self.operator.scan(Table::Tenants, &[]) {
            let record = Record::read(&row?.1.value)?;
            records.insert(record.id, record);
        }
        for plane in keyring.planes() {
            if plane != 0 && records.get(&plane).is_none_or(|record| record.dropped.is_some()) {
                keyring.destroy(plane)?;
            }
        }
        let mut live = HashMap::new();
        for record in records.values() {
            if record.dropped.is_some() {
                self.purge(record.id)?;
                continue;
            }
            let data_key = keyring.key(record.id).ok_or_else(|| {
                Error::new(Code::Corrupted, "the file keyring lacks a tenant's key")
                    .with_hint("restore the whole data directory from one backup")
            })?;
            let plane = Arc::new(Plane::new(record.id, Keys::derive(data_key), self.store.clone()));
            live.insert(record.name.clone(), Arc::new(Live::new(record, plane)));
        }
        drop(keyring);
        self.live = RwLock::new(live);
        self.records = RwLock::new(records);
        Ok(())
    }

    /// Removes every cell of a plane, and counts them.
    pub(super) fn purge(&self, id: u64) -> Result<u64> {
        let mut cells = 0;
        loop {
            let page = Plane::cell_keys(&*self.store, id, PURGE_CELLS)?;
            if page.is_empty() {
                return Ok(cells);
            }
            cells += page.len() as u64;
            let mut request = Request::new(self.operator.clone());
            request.purge(page);
            self.committer.submit_blocking(request)?;
        }
    }

    fn first_operator(&self, password: Option<&str>) -> Result<Option<Generated>> {
        let found = users::find(&self.operator, Table::Operators, FIRST_OPERATOR)?;
        let (password, generated) = match (found, password) {
            (Some((record, _)), Some(password)) if record.verifier.is_of(password) => return Ok(None),
            (Some(_), None) => return Ok(None),
            (_, Some(password)) => (password.to_owned(), false),
            (None, None) => (URL_SAFE_NO_PAD.encode(&seal::random_key()?[..18]), true),
        };
        let record = UserRecord::new(FIRST_OPERATOR, &password, Role::Owner)?;
        let mut request = Request::new(self.operator.clone());
        let key = users::key(&self.operator, FIRST_OPERATOR);
        request.write(&self.operator, Table::Operators, &key, Some(&record.encode()?))?;
        self.committer.submit_blocking(request)?;
        Ok(generated.then_some(Generated(password)))
    }

    /// Writes rows of published tables that are still empty, all in one commit, and tells whether
    /// there were any. Called once at the start, before anyone is served.
    pub fn seed(&self, rows: Vec<(Table, Vec<u8>, Vec<u8>)>) -> Result<bool> {
        let mut request = Request::new(self.operator.clone());
        let mut any = false;
        let mut empty = BTreeMap::new();
        for (table, key, value) in rows {
            super::batch::check_access(table, Access::Operator)?;
            let empty = match empty.get(&table) {
                Some(&known) => known,
                None => {
                    let none = self.operator.scan(table, &[]).next().transpose()?.is_none();
                    *empty.entry(table).or_insert(none)
                }
            };
            if empty {
                request.write(&self.operator, table, &key, Some(&value))?;
                any = true;
            }
        }
        if any {
            self.published.reload_after(&mut request, empty.keys().copied());
            self.committer.submit_blocking(request)?;
        }
        Ok(any)
    }

    /// Whether storage has failed: nothing is acknowledged any more and only a restart helps.
    pub fn failed(&self) -> bool {
        self.committer.failed()
    }

    /// Commits what waits and syncs; later commits fail with [`Code::Shutdown`]. Blocks until done.
    pub fn close(&self) {
        self.committer.close();
    }

    /// The tenant of a name, if it can log in.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Live>> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }
}

/// Cells removed in one commit when a plane is purged.
const PURGE_CELLS: usize = 1024;

impl Decoy {
    fn new(secret: Key, store: Arc<dyn Store>) -> Result<Self> {
        let plane = Arc::new(Plane::new(DECOY_ID, Keys::derive(&secret), store));
        let record = UserRecord::new("decoy", &URL_SAFE_NO_PAD.encode(*seal::random_key()?), Role::Member)?;
        let cells = plane
            .keys
            .seal(DECOY_ID, Table::Users, &users::key(&plane, "decoy"), &record.encode()?)?;
        Ok(Self {
            secret,
            plane,
            sealed: cells.concat(),
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.committer.close();
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directory(..)")
    }
}
