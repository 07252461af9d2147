//! A tenant's audit log: who did what, and what was refused.
//!
//! An entry goes to disk in the commit of what it tells of. What has no commit (a read, a refusal, a login)
//! waits in memory for the tenant's next commit, at most [`limits::METER_INTERVAL`], so that no statement
//! waits for a disk because of it; a crash loses at most that. The store numbers the entries and binds each to the
//! one before ([`chain`](crate::codec::chain)). What is logged says the tenant's [`Level`]; texts that users
//! write are no part of an entry, prompts only where the level asks for them.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::json;
use uuid::Uuid;

use crate::{
    codec::chain::Link,
    error::{Code, Error, Result},
    ledger::{
        account::Recorder,
        plan::{Level, TenantPlan},
        usage::{UsageLine, now_micros},
    },
    limits,
    tenant::{Batch, Tenant, TenantSettings},
};

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Logins.
    Login,
    /// The shape of tables.
    Ddl,
    /// Users and their rights.
    Users,
    /// Rows read.
    Read,
    /// Rows written.
    Write,
    /// Calls of models.
    Ai,
    /// What the owner sets for the tenant.
    Settings,
    /// The session's own affairs; logged when refused.
    Session,
    /// The log itself.
    Audit,
}

impl Class {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Login,
        Self::Ddl,
        Self::Users,
        Self::Read,
        Self::Write,
        Self::Ai,
        Self::Settings,
        Self::Session,
        Self::Audit,
    ];

    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Ddl => "ddl",
            Self::Users => "users",
            Self::Read => "read",
            Self::Write => "write",
            Self::Ai => "ai",
            Self::Settings => "settings",
            Self::Session => "session",
            Self::Audit => "audit",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in microseconds since 1970 UTC.
    pub at_micros: i64,
    /// Who, inside the tenant; empty where nobody proved who it was.
    pub user: String,
    /// What it is about.
    pub class: Class,
    /// What was done: a command, a function, an operation.
    pub action: String,
    /// To what; may be empty.
    pub object: String,
    /// JSON text of an object, or nothing.
    pub detail: String,
    /// Whether it was allowed; a failure of what was allowed has its `sqlstate` in the detail.
    pub allowed: bool,
}

impl Entry {
    /// An entry of something that happens now and is allowed.
    pub fn now(user: &str, class: Class, action: impl Into<String>) -> Self {
        Self {
            at_micros: now_micros(),
            user: user.to_owned(),
            class,
            action: action.into(),
            object: String::new(),
            detail: String::new(),
            allowed: true,
        }
    }

    /// To what it was done.
    #[must_use]
    pub fn on(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// What else there is to tell: a JSON object.
    #[must_use]
    pub fn with(mut self, detail: &serde_json::Value) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// Adds to the detail.
    pub fn tell(&mut self, name: &str, value: serde_json::Value) {
        let mut detail: serde_json::Value = serde_json::from_str(&self.detail).unwrap_or_else(|_| json!({}));
        detail[name] = value;
        self.detail = detail.to_string();
    }

    /// Takes in another entry of the same kind: from here on it stands for several statements.
    pub fn absorb(&mut self, other: &Entry) {
        let number = |detail: &str, name: &str| {
            let detail: serde_json::Value = serde_json::from_str(detail).ok()?;
            detail.get(name)?.as_u64()
        };
        let statements = number(&self.detail, "statements").unwrap_or(1) + 1;
        let rows = number(&self.detail, "rows").unwrap_or(0) + number(&other.detail, "rows").unwrap_or(0);
        self.detail = json!({"rows": rows, "statements": statements}).to_string();
    }

    /// The same, of something that failed or was refused.
    #[must_use]
    pub fn failed(mut self, error: &Error) -> Self {
        self.allowed = !is_refusal(error);
        self.tell("sqlstate", json!(error.code().sqlstate()));
        // What refuses names rules and objects; other errors may name values.
        if !self.allowed {
            self.tell("message", json!(cut(error.message(), limits::AUDIT_MESSAGE_BYTES)));
        }
        self
    }

    /// As stored: moment (8 bytes), allowed (1), then class, user, action, object and detail, each with its
    /// length (4) before it; numbers are big-endian. With it and [`hash`](crate::codec::chain::hash) the chain can
    /// be verified outside.
    pub fn encode(&self) -> Vec<u8> {
        let texts = [
            self.class.as_str(),
            cut(&self.user, limits::AUDIT_NAME_BYTES),
            cut(&self.action, limits::AUDIT_NAME_BYTES),
            cut(&self.object, limits::AUDIT_NAME_BYTES),
            &self.detail,
        ];
        let mut bytes = self.at_micros.to_be_bytes().to_vec();
        bytes.push(u8::from(self.allowed));
        for text in texts {
            bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// What [`Entry::encode`] made.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes).ok_or_else(|| Error::new(Code::Corrupted, "a stored entry of the audit log cannot be read"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk()?;
        let (&allowed, mut rest) = rest.split_first()?;
        let mut text = || {
            let (length, after) = rest.split_first_chunk()?;
            let (text, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = after;
            String::from_utf8(text.to_vec()).ok()
        };
        let class = text()?;
        let entry = Self {
            class: *Class::ALL.iter().find(|known| known.as_str() == class)?,
            at_micros: i64::from_be_bytes(*at),
            user: text()?,
            action: text()?,
            object: text()?,
            detail: text()?,
            allowed: allowed == 1,
        };
        rest.is_empty().then_some(entry)
    }
}

/// Whether an error says that something may not be done, by right or by limit.
pub fn is_refusal(error: &Error) -> bool {
    [Code::InsufficientPrivilege, Code::LimitReached, Code::NotReady].contains(&error.code())
}

/// At most so many bytes of a text, whole characters.
fn cut(text: &str, most: usize) -> &str {
    match text.len() <= most {
        true => text,
        false => &text[..text.floor_char_boundary(most)],
    }
}

/// The log of one tenant. Lives in a [`PerTenant`](crate::tenant::PerTenant).
pub struct Log {
    tenant: Tenant,
    /// The plan's bytes and the level in them, as read last.
    level: Mutex<Option<(Arc<[u8]>, Level)>>,
    waiting: Mutex<Waiting>,
}

/// What waits for a commit.
#[derive(Debug, Default)]
struct Waiting {
    /// Encoded.
    entries: Vec<Vec<u8>>,
    /// How many there was no room for.
    lost: u64,
}

impl Log {
    /// The log of this tenant; nothing waits.
    pub fn new(tenant: Tenant) -> Self {
        Self {
            tenant,
            level: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// How much is logged, as of now. A plan that cannot be read asks for the usual.
    pub fn level(&self) -> Level {
        let plan = self.tenant.settings().plan;
        let mut known = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, level)) if Arc::ptr_eq(of, &plan) => *level,
            _ => {
                let level = match TenantPlan::decode(&plan) {
                    Ok(plan) => plan.logging,
                    Err(error) => {
                        tracing::error!(%error, "a tenant's plan cannot be read; its log goes on as usual");
                        Level::default()
                    }
                };
                *known = Some((plan, level));
                level
            }
        }
    }

    /// Whether such an entry belongs into the log: at [`Level::Standard`] all but reads that are allowed.
    pub fn wants(&self, class: Class, allowed: bool) -> bool {
        match self.level() {
            Level::None => false,
            Level::Standard => class != Class::Read || !allowed,
            Level::Full | Level::Prompts => true,
        }
    }

    /// The prompt of a call, if the log tells it.
    pub fn prompt(&self, prompt: &str) -> Option<Arc<str>> {
        (self.level() == Level::Prompts).then(|| cut(prompt, limits::AUDIT_PROMPT_BYTES).into())
    }

    /// Notes what has no commit of its own; it goes with the next one. Touches memory only.
    pub fn note(&self, entry: &Entry) {
        if !self.wants(entry.class, entry.allowed) {
            return;
        }
        let mut waiting = self.waiting();
        match waiting.entries.len() < limits::AUDIT_WAITING {
            true => waiting.entries.push(entry.encode()),
            false => waiting.lost += 1,
        }
    }

    /// Puts entries into the commit of what they tell of, behind those that wait.
    pub fn write<'a>(self: &Arc<Self>, batch: &mut Batch, entries: impl IntoIterator<Item = &'a Entry>) {
        let wanted = entries
            .into_iter()
            .filter(|entry| self.wants(entry.class, entry.allowed));
        let mut wanted = wanted.map(Entry::encode).peekable();
        if wanted.peek().is_some() {
            self.drain_into(batch);
            wanted.for_each(|entry| batch.append(entry));
        }
    }

    /// Moves some of what waits into a batch of this tenant. If that is dropped or its commit fails, it waits again.
    pub fn drain_into(self: &Arc<Self>, batch: &mut Batch) {
        let refused = match self.level() {
            Level::None => 0,
            _ => self.tenant.take_refused_logins(),
        };
        let taken = {
            let mut waiting = self.waiting();
            let first = waiting.entries.len().min(limits::AUDIT_A_COMMIT);
            let rest = waiting.entries.split_off(first);
            let entries = mem::replace(&mut waiting.entries, rest);
            let lost = mem::take(&mut waiting.lost);
            Waiting { entries, lost }
        };
        if refused == 0 && taken.lost == 0 && taken.entries.is_empty() {
            return;
        }
        taken.entries.iter().for_each(|entry| batch.append(entry.clone()));
        if refused > 0 {
            let mut entry = Entry::now("", Class::Login, "login").with(&json!({"attempts": refused}));
            entry.allowed = false;
            batch.append(entry.encode());
        }
        if taken.lost > 0 {
            let entry = Entry::now("", Class::Audit, "overflow").with(&json!({"entries": taken.lost}));
            batch.append(entry.encode());
        }
        let drained = Drained {
            log: self.clone(),
            taken: Some((taken, refused)),
        };
        batch.on_durable(move || drained.written());
    }

    /// Commits all that waits. A tenant that no longer exists forgets it.
    ///
    /// # Errors
    /// Those of a commit; what waits then goes on waiting.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        loop {
            let mut batch = self.tenant.batch();
            self.drain_into(&mut batch);
            if batch.is_empty() {
                return Ok(());
            }
            match self.tenant.commit(batch).await {
                Ok(()) => {}
                Err(error) if error.code() == Code::InvalidAuthorization => {
                    *self.waiting() = Waiting::default();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the account of the tenant write an entry beside each line of a call.
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        let log = self.clone();
        Arc::new(move |line, prompt, batch| log.write(batch, [&of_call(line, prompt)]))
    }

    /// Never held over an `.await` or while another lock is taken.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({})", self.tenant.name())
    }
}

/// What writes an entry beside the line of a call that a former process left.
pub fn recorder_of_orphans(settings: &TenantSettings) -> Recorder {
    let level = TenantPlan::decode(&settings.plan).map_or(Level::default(), |plan| plan.logging);
    Arc::new(move |line, _, batch| {
        if level != Level::None {
            batch.append(of_call(line, None).encode());
        }
    })
}

/// The entry of a call that has a line in the ledger.
pub fn of_call(line: &UsageLine, prompt: Option<&str>) -> Entry {
    let mut detail = json!({
        "usage_id": line.id.to_string(), "status": line.status.as_str(), "prompt_tokens": line.prompt_tokens,
        "completion_tokens": line.completion_tokens, "cost_usd": line.cost.to_string(),
    });
    if let Some(conversation) = line.conversation_id.as_ref().map(Uuid::to_string) {
        detail["conversation_id"] = json!(conversation);
    }
    if let Some(prompt) = prompt {
        detail["prompt"] = json!(prompt);
    }
    let entry = Entry::now(&line.user_id, Class::Ai, line.operation.as_str());
    entry.on(&*line.model).with(&detail)
}

/// An entry as read back.
///
/// # Errors
/// See [`Entry::decode`].
pub fn read(link: &Link) -> Result<Entry> {
    Entry::decode(&link.payload)
}

/// Entries in a batch. Dropped without [`Drained::written`], it lets them wait again.
struct Drained {
    log: Arc<Log>,
    taken: Option<(Waiting, u64)>,
}

impl Drained {
    fn written(mut self) {
        self.taken = None;
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some((mut taken, refused)) = self.taken.take() {
            self.log.tenant.give_back_refused_logins(refused);
            let mut waiting = self.log.waiting();
            taken.entries.append(&mut waiting.entries);
            waiting.entries = taken.entries;
            waiting.lost += taken.lost;
        }
    }
}

#[cfg(test)]
mod tests;
