//! Reading one user's conversations, and purging those whose time is over.
//!
//! ```text
//! Conversations   0, user (32), id (16, inverted: the newest comes first)    Conversation
//!                 1, user (32)                                               Consent
//! Messages        0, user (32), conversation (16), number (4)                Message
//!                 1, user (32), message (16)                                 conversation, number
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Conversation, Message};
use crate::{
    error::{Code, Result},
    ledger::row,
    tenant::{Batch, Stored, Table, Tenant, Version},
};

const ROWS: u8 = 0;
const CONSENTS: u8 = 1;
const PLACES: u8 = 1;

/// The stored conversations of one user, as of one moment. Those whose time is over by then are not
/// among them.
#[derive(Clone)]
pub struct Conversations {
    tenant: Tenant,
    user: Owner,
    now: i64,
}

/// What a user's name becomes in keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner([u8; 32]);

/// Whether a user's conversations may train a model.
#[derive(Debug, Serialize, Deserialize)]
struct Consent {
    user_id: String,
    given: bool,
}

impl Owner {
    pub(super) fn of(tenant: &Tenant, user: &str) -> Self {
        Self(tenant.keyed_hash("conversations of a user", user.as_bytes()))
    }

    fn prefix(&self, kind: u8) -> Vec<u8> {
        [&[kind], &self.0[..]].concat()
    }

    pub(super) fn row(&self, id: Uuid) -> Vec<u8> {
        let inverted = (!id.as_u128()).to_be_bytes();
        [&self.prefix(ROWS)[..], &inverted].concat()
    }

    fn messages(&self, id: Uuid) -> Vec<u8> {
        [&self.prefix(ROWS)[..], id.as_bytes()].concat()
    }

    pub(super) fn message(&self, id: Uuid, seq: u32) -> Vec<u8> {
        [&self.messages(id)[..], &seq.to_be_bytes()].concat()
    }

    pub(super) fn place(&self, message: Uuid) -> Vec<u8> {
        [&self.prefix(PLACES)[..], message.as_bytes()].concat()
    }

    pub(super) fn consent(&self) -> Vec<u8> {
        self.prefix(CONSENTS)
    }
}

impl Conversations {
    /// Those of a user at `now` (microseconds since 1970, UTC).
    pub fn of(tenant: &Tenant, user: &str, now: i64) -> Self {
        Self {
            tenant: tenant.clone(),
            user: Owner::of(tenant, user),
            now,
        }
    }

    /// When this is.
    pub fn now(&self) -> i64 {
        self.now
    }

    pub(super) fn owner(&self) -> Owner {
        self.user
    }

    /// One of them, and the version to expect when it is changed.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn find(&self, id: Uuid) -> Result<Option<(Conversation, Version)>> {
        let Some(stored) = self.tenant.get(Table::Conversations, &self.user.row(id))? else {
            return Ok(None);
        };
        let conversation = Conversation::decode(&stored.value)?;
        Ok((!conversation.has_expired(self.now)).then_some((conversation, stored.version)))
    }

    /// All of them, the newest first, read as the iterator advances.
    pub fn list(&self) -> impl Iterator<Item = Result<Conversation>> + use<> {
        let now = self.now;
        self.tenant
            .scan(Table::Conversations, &self.user.prefix(ROWS))
            .map(|row| Conversation::decode(&row?.1.value))
            .filter(move |row| row.as_ref().map_or(true, |c| !c.has_expired(now)))
    }

    /// The messages of a conversation that [`Conversations::find`] or [`Conversations::list`] gave, in order.
    pub fn messages(&self, id: Uuid) -> impl Iterator<Item = Result<Message>> + use<> {
        self.tenant
            .scan(Table::Messages, &self.user.messages(id))
            .map(|row| Message::decode(&row?.1.value))
    }

    /// The same without those before number `from`, which are not read.
    pub fn messages_from(&self, id: Uuid, from: u32) -> impl Iterator<Item = Result<Message>> + use<> {
        let end = self.user.message(id, u32::MAX);
        self.tenant
            .scan_from(Table::Messages, &self.user.message(id, from), Some(&end))
            .map(|row| Message::decode(&row?.1.value))
    }

    /// One message by its number.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn message(&self, id: Uuid, seq: u32) -> Result<Option<Message>> {
        let stored = self.tenant.get(Table::Messages, &self.user.message(id, seq))?;
        stored.map(|s| Message::decode(&s.value)).transpose()
    }

    /// The conversation of a message, and its number there.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn place(&self, message: Uuid) -> Result<Option<(Uuid, u32)>> {
        let stored = self.tenant.get(Table::Messages, &self.user.place(message))?;
        stored.map(|s| row::decode("place of a message", &s.value)).transpose()
    }
}

/// The users who agreed that their conversations train a model, by name.
///
/// # Errors
/// [`Code::Corrupted`].
pub fn consenting(tenant: &Tenant) -> Result<Vec<String>> {
    let mut users = Vec::new();
    for stored in tenant.scan(Table::Conversations, &[CONSENTS]) {
        let consent: Consent = row::decode("consent", &stored?.1.value)?;
        if consent.given {
            users.push(consent.user_id);
        }
    }
    users.sort_unstable();
    Ok(users)
}

pub(super) fn put_consent(tenant: &Tenant, batch: &mut Batch, user: &str, given: bool) -> Result<()> {
    let consent = Consent {
        user_id: user.to_owned(),
        given,
    };
    let key = Owner::of(tenant, user).consent();
    batch.put(Table::Conversations, &key, row::encode(&consent)?);
    Ok(())
}

pub(super) fn put_place(batch: &mut Batch, user: Owner, message: &Message) -> Result<()> {
    let place = row::encode(&(message.conversation_id, message.seq))?;
    batch.put(Table::Messages, &user.place(message.id), place);
    Ok(())
}

/// Deletes a conversation's row and all its messages.
pub(super) fn delete(tenant: &Tenant, batch: &mut Batch, user: Owner, id: Uuid) -> Result<()> {
    batch.delete(Table::Conversations, &user.row(id));
    for row in tenant.scan(Table::Messages, &user.messages(id)) {
        let (key, Stored { value, .. }) = row?;
        batch.delete(Table::Messages, &key);
        batch.delete(Table::Messages, &user.place(Message::decode(&value)?.id));
    }
    Ok(())
}

/// Deletes the tenant's conversations whose time is over at `now`, and says how many there were.
///
/// # Errors
/// Those of reading and committing. What was purged before stays so.
pub async fn purge(tenant: &Tenant, now: i64) -> Result<usize> {
    let expired = {
        let tenant = tenant.clone();
        let scan = move || -> Result<Vec<_>> {
            let mut expired = Vec::new();
            for row in tenant.scan(Table::Conversations, &[ROWS]) {
                let (_, stored) = row?;
                let conversation = Conversation::decode(&stored.value)?;
                if conversation.has_expired(now) {
                    expired.push((conversation.user_id, conversation.id, stored.version));
                }
            }
            Ok(expired)
        };
        tokio::task::spawn_blocking(scan)
            .await
            .map_err(crate::error::Error::internal)??
    };
    let mut purged = 0;
    for (user, id, version) in expired {
        let user = Owner::of(tenant, &user);
        let mut batch = tenant.batch();
        batch.expect(Table::Conversations, &user.row(id), Some(version));
        delete(tenant, &mut batch, user, id)?;
        match tenant.commit(batch).await {
            Ok(()) => purged += 1,
            // A message was written just before its time was over: it has another day.
            Err(error) if error.code() == Code::SerializationFailure => {}
            Err(error) => return Err(error),
        }
    }
    Ok(purged)
}
