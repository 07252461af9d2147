//! Changes of conversations that wait for their commit.
//!
//! What is kept is what was asked for, not the rows that come of it: a message gets its number when
//! the commit reads the conversation. So a commit that meets another one reads again and goes
//! through, no message is lost, and no number is given twice.

use std::{
    collections::{BTreeMap, HashMap},
    iter,
};

use uuid::Uuid;

use super::{
    Body, Conversation, Conversations, Message, Summary, message_not_found, not_found,
    store::{self, Owner},
};
use crate::{
    error::{Code, Result},
    tenant::{Batch, Table, Tenant, Version},
};

/// Changes of one tenant's conversations, of one or several users.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    changes: BTreeMap<(String, Uuid), Change>,
    consents: BTreeMap<String, bool>,
}

#[derive(Clone, Debug, Default)]
struct Change {
    /// The row, if it is not stored yet.
    created: Option<Conversation>,
    deleted: bool,
    /// With the numbers they would have if nobody else appended.
    appended: Vec<Message>,
    /// By the number of a stored message.
    rated: HashMap<u32, u8>,
    summary: Option<Summary>,
}

/// The versions of the rows that a batch was made from, in the order of their names.
pub type Basis = Vec<Option<Version>>;

impl Staged {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.consents.is_empty()
    }

    /// Whether committing it only takes things away.
    pub fn only_deletes(&self) -> bool {
        self.consents.is_empty() && self.changes.values().all(|c| c.deleted)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &(String, Uuid)> {
        self.changes.keys()
    }

    fn change(&self, user: &str, id: Uuid) -> Option<&Change> {
        self.changes.get(&(user.to_owned(), id))
    }

    fn change_mut(&mut self, user: &str, id: Uuid) -> &mut Change {
        self.changes.entry((user.to_owned(), id)).or_default()
    }

    /// Adds a conversation.
    pub fn create(&mut self, conversation: Conversation) {
        let (user, id) = (conversation.user_id.clone(), conversation.id);
        self.change_mut(&user, id).created = Some(conversation);
    }

    /// A user's conversation with these changes. `stored` are that user's.
    ///
    /// # Errors
    /// [`Code::NoDataFound`] for one that the user does not have, [`Code::Corrupted`].
    pub fn find(&self, stored: &Conversations, user: &str, id: Uuid) -> Result<Conversation> {
        let change = self.change(user, id);
        let before = match change.and_then(|c| c.created.as_ref()) {
            Some(created) => Some(created.clone()),
            None => stored.find(id)?.map(|(row, _)| row),
        };
        before.and_then(|row| with(row, change)).ok_or_else(not_found)
    }

    /// A user's conversations with these changes, the newest first.
    pub fn list<'a>(
        &'a self,
        stored: &Conversations,
        user: &'a str,
    ) -> impl Iterator<Item = Result<Conversation>> + use<'a> {
        let own = self
            .changes
            .range((user.to_owned(), Uuid::nil())..=(user.to_owned(), Uuid::max()));
        let mut created = own
            .rev()
            .filter_map(|(_, change)| with(change.created.clone()?, Some(change)))
            .peekable();
        let mut stored = stored
            .list()
            .filter_map(move |row| match row {
                Ok(row) => {
                    let change = self.change(user, row.id);
                    with(row, change).map(Ok)
                }
                Err(error) => Some(Err(error)),
            })
            .peekable();
        iter::from_fn(move || match (created.peek(), stored.peek()) {
            (Some(new), Some(Ok(old))) if new.id < old.id => stored.next(),
            (Some(_), _) => created.next().map(Ok),
            (None, _) => stored.next(),
        })
    }

    /// The messages of a conversation that [`Staged::find`] or [`Staged::list`] gave, in order.
    pub fn messages<'a>(
        &'a self,
        stored: &Conversations,
        user: &str,
        id: Uuid,
    ) -> impl Iterator<Item = Result<Message>> + use<'a> {
        let change = self.change(user, id);
        let stored = stored.messages(id).map(move |message| {
            let mut message = message?;
            if let Some(rating) = change.and_then(|c| c.rated.get(&message.seq)) {
                message.rating = Some(*rating);
            }
            Ok(message)
        });
        let appended = change.map_or(&[][..], |c| &c.appended);
        stored.chain(appended.iter().cloned().map(Ok))
    }

    /// Puts a message at a conversation's end and gives its id. Its number is decided by the commit.
    ///
    /// # Errors
    /// Those of [`Staged::find`], and [`Code::TooLarge`] for a conversation that is full.
    pub fn append(&mut self, stored: &Conversations, user: &str, id: Uuid, body: Body) -> Result<Uuid> {
        let mut conversation = self.find(stored, user, id)?;
        let mut message = Message {
            id: Uuid::now_v7(),
            conversation_id: id,
            seq: 0,
            created_at: stored.now(),
            rating: None,
            body,
        };
        conversation.grow(&mut message)?;
        let message_id = message.id;
        self.change_mut(user, id).appended.push(message);
        Ok(message_id)
    }

    /// Rates a message of a user's.
    ///
    /// # Errors
    /// [`Code::NoDataFound`] for one that the user does not have, [`Code::Corrupted`].
    pub fn rate(&mut self, stored: &Conversations, user: &str, message: Uuid, rating: u8) -> Result<()> {
        let own = self.changes.iter_mut().filter(|((u, _), c)| u == user && !c.deleted);
        for (_, change) in own {
            if let Some(appended) = change.appended.iter_mut().find(|m| m.id == message) {
                appended.rating = Some(rating);
                return Ok(());
            }
        }
        let (id, seq) = stored.place(message)?.ok_or_else(message_not_found)?;
        self.find(stored, user, id).map_err(|error| match error.code() {
            Code::NoDataFound => message_not_found(),
            _ => error,
        })?;
        self.change_mut(user, id).rated.insert(seq, rating);
        Ok(())
    }

    /// Lets a text stand for the first messages of a conversation in a model's memory. One that
    /// stands for fewer messages than the stored one changes nothing.
    ///
    /// # Errors
    /// Those of [`Staged::find`].
    pub fn summarise(&mut self, stored: &Conversations, user: &str, id: Uuid, summary: Summary) -> Result<()> {
        self.find(stored, user, id)?;
        self.change_mut(user, id).summary = Some(summary);
        Ok(())
    }

    /// Deletes a conversation with all its messages.
    ///
    /// # Errors
    /// Those of [`Staged::find`].
    pub fn delete(&mut self, stored: &Conversations, user: &str, id: Uuid) -> Result<()> {
        self.find(stored, user, id)?;
        let change = self.change_mut(user, id);
        *change = Change {
            created: change.created.take(),
            deleted: true,
            ..Change::default()
        };
        Ok(())
    }

    /// Notes whether a user's conversations may train a model.
    pub fn consent(&mut self, user: &str, given: bool) {
        self.consents.insert(user.to_owned(), given);
    }

    /// Puts the changes into a batch that fails as a whole if one of the conversations was changed
    /// since it was read here. `now` in microseconds since 1970, UTC.
    ///
    /// # Errors
    /// [`Code::NoDataFound`] where a conversation is gone by now, [`Code::TooLarge`] where it is
    /// full, [`Code::Corrupted`].
    pub fn fill(&self, tenant: &Tenant, batch: &mut Batch, now: i64) -> Result<Basis> {
        let mut basis = Vec::with_capacity(self.changes.len());
        for ((user, id), change) in &self.changes {
            let stored = Conversations::of(tenant, user, now);
            let found = match change.created {
                Some(_) => None,
                None => stored.find(*id)?,
            };
            let version = found.as_ref().map(|(_, version)| *version);
            if change.fill(tenant, batch, &stored, *id, found)? {
                batch.expect(Table::Conversations, &stored.owner().row(*id), version);
                basis.push(version);
            }
        }
        for (user, given) in &self.consents {
            store::put_consent(tenant, batch, user, *given)?;
        }
        Ok(basis)
    }

    /// Commits the changes together with what `rest` puts beside them, and reads again as often as
    /// another commit came first. Each time that happens another one went through, so it ends.
    ///
    /// # Errors
    /// Those of [`Staged::fill`], of `rest` and of a commit; [`Code::SerializationFailure`] only for
    /// what `rest` expects.
    pub async fn commit(
        &self,
        tenant: &Tenant,
        now: i64,
        mut rest: impl FnMut(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        let mut last = None;
        loop {
            let mut batch = tenant.batch();
            let basis = self.fill(tenant, &mut batch, now)?;
            rest(&mut batch)?;
            match tenant.commit(batch).await {
                Err(conflict) if conflict.code() == Code::SerializationFailure => {
                    // The same rows as before: what conflicts is not a conversation.
                    if basis.is_empty() || last.as_ref() == Some(&basis) {
                        return Err(conflict);
                    }
                    last = Some(basis);
                }
                outcome => return outcome,
            }
        }
    }
}

impl Change {
    /// Puts one conversation's changes into a batch; false if there is nothing to do. `found` is
    /// what is stored.
    fn fill(
        &self,
        tenant: &Tenant,
        batch: &mut Batch,
        stored: &Conversations,
        id: Uuid,
        found: Option<(Conversation, Version)>,
    ) -> Result<bool> {
        let user = stored.owner();
        if self.deleted {
            // One that this transaction made, or that someone else has deleted by now, is gone.
            if found.is_some() {
                store::delete(tenant, batch, user, id)?;
            }
            return Ok(found.is_some());
        }
        let before = match &self.created {
            Some(created) => created.clone(),
            None => found.ok_or_else(not_found)?.0,
        };
        let mut row = before.clone();
        for message in &self.appended {
            let mut message = message.clone();
            row.grow(&mut message)?;
            put_message(batch, user, &message)?;
            store::put_place(batch, user, &message)?;
        }
        for (seq, rating) in &self.rated {
            if let Some(mut message) = stored.message(id, *seq)? {
                message.rating = Some(*rating);
                put_message(batch, user, &message)?;
            }
        }
        row.adopt(self.summary.as_ref());
        // A rating alone leaves the row as it is; it is expected all the same, lest a message be
        // written into a conversation that is being deleted.
        if row != before || self.created.is_some() {
            batch.put(Table::Conversations, &user.row(id), row.encode()?);
        }
        Ok(true)
    }
}

impl Conversation {
    /// Takes over a summary that stands for more messages than its own.
    fn adopt(&mut self, summary: Option<&Summary>) {
        let covered = self.summary.as_ref().map_or(0, |s| s.covers);
        if let Some(summary) = summary.filter(|s| s.covers > covered && s.covers <= self.message_count) {
            self.summary = Some(summary.clone());
        }
    }
}

fn put_message(batch: &mut Batch, user: Owner, message: &Message) -> Result<()> {
    let key = user.message(message.conversation_id, message.seq);
    batch.put(Table::Messages, &key, message.encode()?);
    Ok(())
}

/// A stored or created row as its changes leave it; `None` where they delete it.
fn with(mut row: Conversation, change: Option<&Change>) -> Option<Conversation> {
    let Some(change) = change else { return Some(row) };
    if change.deleted {
        return None;
    }
    for message in &change.appended {
        row.message_count += 1;
        row.updated_at = row.updated_at.max(message.created_at);
    }
    row.adopt(change.summary.as_ref());
    Some(row)
}
