//! A transaction's own writes: seen by its session, and by nobody else until they are on disk.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    documents::{self, Document, Written, chunk_key, vector_key},
    embedding::Spaces,
    settings::Settings,
    transaction::{Deferred, Seen},
};
use crate::{
    ai::{
        conversation::Staged,
        corpus::{Corpus, Space},
    },
    error::Result,
    table::{Mark, WriteSet},
    tenant::{Batch, Table, Version},
};

/// What a transaction has written so far. Reads go through it first.
#[derive(Default)]
pub(super) struct Tx {
    writes: Writes,
    savepoints: Vec<Savepoint>,
    /// What its statements see of the tenant's tables.
    pub(super) seen_tables: Seen,
    /// The written documents of one space, searchable.
    overlay: Corpus,
    /// Versions of the rows that the running statement has read, for the check at commit.
    seen: HashMap<Uuid, Version>,
}

#[derive(Clone, Debug, Default)]
struct Writes {
    /// The document as this transaction leaves it; `None` is a deletion.
    documents: BTreeMap<Uuid, Option<Arc<Written>>>,
    /// What was stored when this transaction first wrote the document: its version and number of chunks.
    before: HashMap<Uuid, Option<(Version, u32)>>,
    conversations: Staged,
    tables: WriteSet,
    /// Foreign keys to be looked at before the commit.
    deferred: Deferred,
}

/// `SAVEPOINT name`: everything as it was then.
struct Savepoint {
    name: String,
    writes: Writes,
    settings: Settings,
    /// Locks held then, if the session had taken any by that time.
    locks: Option<Mark>,
}

/// One change of the search index, applied in commit order.
#[derive(Debug)]
pub(super) enum Change {
    Upsert(Arc<Written>),
    Remove(Uuid),
}

impl Change {
    /// Which document it changes.
    pub(super) fn document(&self) -> Uuid {
        match self {
            Self::Upsert(written) => written.document.id,
            Self::Remove(id) => *id,
        }
    }
}

impl Tx {
    /// Whether nothing was written.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.documents.is_empty() && self.writes.conversations.is_empty() && self.writes.tables.is_empty()
    }

    /// Whether what is searched differs from what is committed.
    pub(super) fn has_documents(&self) -> bool {
        !self.writes.documents.is_empty()
    }

    /// Changes of the tenant's tables.
    pub(super) fn tables(&self) -> &WriteSet {
        &self.writes.tables
    }

    /// The same, to change them. What its statements see is made again.
    pub(super) fn tables_mut(&mut self) -> &mut WriteSet {
        self.seen_tables.changed();
        &mut self.writes.tables
    }

    /// Foreign keys to be looked at before the commit.
    pub(super) fn deferred(&self) -> &Deferred {
        &self.writes.deferred
    }

    /// The same, to change them.
    pub(super) fn deferred_mut(&mut self) -> &mut Deferred {
        &mut self.writes.deferred
    }

    /// The conversations' changes.
    pub(super) fn conversations(&self) -> &Staged {
        &self.writes.conversations
    }

    /// The same, to change them.
    pub(super) fn conversations_mut(&mut self) -> &mut Staged {
        &mut self.writes.conversations
    }

    /// The document as this transaction leaves it; the outer `None` means it did not touch it.
    pub(super) fn document(&self, id: Uuid) -> Option<Option<&Arc<Written>>> {
        self.writes.documents.get(&id).map(Option::as_ref)
    }

    /// Everything written, in id order.
    pub(super) fn documents(&self) -> impl Iterator<Item = (Uuid, Option<&Arc<Written>>)> {
        self.writes.documents.iter().map(|(id, w)| (*id, w.as_ref()))
    }

    /// The written documents as a searchable index, if there are any, and the ids it replaces or hides.
    pub(super) fn layer(&self) -> (Option<&Corpus>, HashSet<Uuid>) {
        let overlay = (self.overlay.documents() > 0).then_some(&self.overlay);
        (overlay, self.writes.documents.keys().copied().collect())
    }

    /// The written documents whose vectors are not of this space.
    pub(super) fn outside(&self, space: Space) -> Vec<Arc<Written>> {
        let written = self.writes.documents.values().flatten();
        written.filter(|w| w.entry.space != space).cloned().collect()
    }

    /// Whether there are such.
    pub(super) fn has_strays(&self, space: Space) -> bool {
        let mut written = self.writes.documents.values().flatten();
        written.any(|w| w.entry.space != space)
    }

    /// Puts documents that were embedded anew in the place of what they were, where that still stands.
    ///
    /// # Errors
    /// Those of the index.
    pub(super) fn replace(&mut self, former: &[Arc<Written>], embedded: Vec<Arc<Written>>) -> Result<()> {
        for (former, embedded) in former.iter().zip(embedded) {
            let held = self.writes.documents.get_mut(&former.document.id);
            if let Some(held @ Some(_)) = held
                && held.as_ref().is_some_and(|written| Arc::ptr_eq(written, former))
            {
                *held = Some(embedded);
            }
        }
        self.index()
    }

    /// Makes the index anew, of the documents that are of the newest space. The others are embedded by its
    /// model before anything is searched.
    fn index(&mut self) -> Result<()> {
        let written = || self.writes.documents.values().flatten();
        let space = written().map(|w| w.entry.space).max().unwrap_or_default();
        self.overlay = Corpus::of(space);
        for one in self.writes.documents.values().flatten() {
            if one.entry.space == space {
                self.overlay.upsert(one.entry.clone())?;
            }
        }
        Ok(())
    }

    /// Remembers which version of a row a scan has read.
    pub(super) fn saw(&mut self, id: Uuid, version: Version) {
        self.seen.insert(id, version);
    }

    /// Forgets what former statements read.
    pub(super) fn forget_seen(&mut self) {
        self.seen.clear();
    }

    /// The version that the running statement read of a row.
    pub(super) fn seen(&self, id: Uuid) -> Option<Version> {
        self.seen.get(&id).copied()
    }

    /// Writes a document. `before` is what is stored (its version and number of chunks), or `None`
    /// for a new id; only the first write of a transaction counts.
    ///
    /// # Errors
    /// Those of the index, with nothing changed.
    pub(super) fn put(&mut self, written: Arc<Written>, before: Option<(Version, u32)>) -> Result<()> {
        let (id, space) = (written.document.id, written.entry.space);
        if self.overlay.space() == space {
            self.overlay.upsert(written.entry.clone())?;
        }
        self.writes.before.entry(id).or_insert(before);
        self.writes.documents.insert(id, Some(written));
        match self.overlay.space() == space {
            true => Ok(()),
            false => self.index(),
        }
    }

    /// Deletes a document.
    pub(super) fn delete(&mut self, id: Uuid, before: Option<(Version, u32)>) {
        self.overlay.remove(id);
        self.writes.before.entry(id).or_insert(before);
        self.writes.documents.insert(id, None);
    }

    /// `SAVEPOINT name`.
    pub(super) fn savepoint(&mut self, name: &str, settings: Settings, locks: Option<Mark>) {
        self.savepoints.push(Savepoint {
            name: name.to_owned(),
            writes: self.writes.clone(),
            settings,
            locks,
        });
    }

    /// `RELEASE name`: false when there is none.
    pub(super) fn release(&mut self, name: &str) -> bool {
        let at = self.savepoints.iter().rposition(|s| s.name == name);
        at.inspect(|&at| self.savepoints.truncate(at)).is_some()
    }

    /// `ROLLBACK TO name`: the savepoint stays. Gives the settings and the locks of then; `None` when there is none.
    pub(super) fn rollback_to(&mut self, name: &str) -> Result<Option<(Settings, Option<Mark>)>> {
        let Some(at) = self.savepoints.iter().rposition(|s| s.name == name) else {
            return Ok(None);
        };
        self.savepoints.truncate(at + 1);
        let savepoint = &self.savepoints[at];
        self.writes = savepoint.writes.clone();
        let then = (savepoint.settings.clone(), savepoint.locks);
        self.seen_tables.changed();
        self.index()?;
        Ok(Some(then))
    }

    /// A statement failed: nothing that was written since the last savepoint is of any use. Gives the locks of then.
    ///
    /// # Errors
    /// Those of the index.
    pub(super) fn abort(&mut self) -> Result<Option<Mark>> {
        self.seen_tables.changed();
        let last = self.savepoints.last();
        self.writes = last.map_or_else(Writes::default, |s| s.writes.clone());
        let locks = last.and_then(|s| s.locks);
        self.index()?;
        Ok(locks)
    }

    /// Puts the written documents into a batch that fails as a whole if another commit touched one
    /// of them since. Gives the changes of the index, for when the batch is on disk.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn fill(&self, batch: &mut Batch, spaces: &Spaces) -> Result<Vec<Change>> {
        let active = spaces.active.space;
        let next = spaces.next.as_ref().map(|next| next.space);
        let Writes { documents, before, .. } = &self.writes;
        let mut changes = Vec::with_capacity(documents.len());
        for (&id, written) in documents {
            let before = before.get(&id).copied().flatten();
            if written.is_none() && before.is_none() {
                continue;
            }
            batch.expect(Table::Documents, id.as_bytes(), before.map(|(version, _)| version));
            let kept = match written {
                Some(written) => {
                    put(batch, &written.document)?;
                    for chunk in &written.chunks {
                        batch.put(Table::Chunks, &chunk_key(id, chunk.no), documents::encode(chunk)?);
                        let vector = documents::encode(&chunk.vector)?;
                        batch.put(Table::Vectors, &vector_key(active, id, chunk.no), vector);
                    }
                    changes.push(Change::Upsert(written.clone()));
                    written.document.chunks
                }
                None => {
                    batch.delete(Table::Documents, id.as_bytes());
                    changes.push(Change::Remove(id));
                    0
                }
            };
            let stored = before.map_or(0, |(_, chunks)| chunks);
            for no in kept..stored {
                batch.delete(Table::Chunks, &chunk_key(id, no));
                batch.delete(Table::Vectors, &vector_key(active, id, no));
            }
            // What was embedded of the former text is made again before the next space is used.
            for (space, no) in next
                .into_iter()
                .flat_map(|space| (0..stored).map(move |no| (space, no)))
            {
                batch.delete(Table::Vectors, &vector_key(space, id, no));
            }
        }
        Ok(changes)
    }

    /// Whether committing it only takes things away.
    pub(super) fn only_deletes(&self) -> bool {
        self.writes.documents.values().all(Option::is_none)
            && self.writes.conversations.only_deletes()
            && self.writes.tables.only_deletes()
    }

    /// Tokens embedded by the writes that stand.
    pub(super) fn embedded_tokens(&self) -> i64 {
        self.writes
            .documents
            .values()
            .flatten()
            .map(|w| w.embedded_tokens)
            .sum()
    }
}

fn put(batch: &mut Batch, document: &Document) -> Result<()> {
    batch.put(Table::Documents, document.key(), documents::encode(document)?);
    Ok(())
}
