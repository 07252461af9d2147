//! The committer: one thread through which every change of the store goes.
//!
//! It gathers the commits that wait into a group, checks each against the store and those before
//! it, applies the group as one batch, syncs once, runs the callbacks in commit order and only then
//! answers. After a failure of apply or sync nobody can say what is on disk (fsync reports an error
//! once), so it never acknowledges anything again: restart reads what is there.

use std::{
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    batch::Sums,
    chain::HEAD_KEY,
    plane::Plane,
    seal::{self, Header, Version},
    table::{self, Table},
    vault::{Changes, Store},
};
use crate::{
    codec::chain::Head,
    error::{Code, Error, Result},
    limits,
};

/// One commit, sealed.
pub(super) struct Request {
    owner: Arc<Plane>,
    expects: Vec<(Vec<u8>, Option<Version>)>,
    writes: Vec<Write>,
    adds: Vec<Add>,
    /// Of the owner's log.
    entries: Vec<Vec<u8>>,
    /// Cells to remove whatever they hold.
    purge: Vec<Vec<u8>>,
    pub on_durable: Vec<Box<dyn FnOnce() + Send>>,
    /// Goes through on a full disk: what frees space must not wait for space.
    pub frees_space: bool,
    bytes: usize,
}

struct Write {
    table: Table,
    stem: Vec<u8>,
    /// None: remove.
    cells: Option<Vec<Vec<u8>>>,
}

struct Add {
    plane: Arc<Plane>,
    table: Table,
    key: Vec<u8>,
    delta: Sums,
}

impl Request {
    /// A commit of `owner`; refused if that is dropped before its turn.
    pub fn new(owner: Arc<Plane>) -> Self {
        Self {
            owner,
            expects: Vec::new(),
            writes: Vec::new(),
            adds: Vec::new(),
            entries: Vec::new(),
            purge: Vec::new(),
            on_durable: Vec::new(),
            frees_space: false,
            bytes: 0,
        }
    }

    pub fn expect(&mut self, plane: &Plane, table: Table, key: &[u8], version: Option<Version>) {
        self.expects.push((table::stem(plane.id, table, key), version));
    }

    /// Seals a value (`None`: removes it).
    pub fn write(&mut self, plane: &Plane, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let cells = value
            .map(|value| plane.keys.seal(plane.id, table, key, value))
            .transpose()?;
        self.count(key.len() + cells.iter().flatten().map(Vec::len).sum::<usize>())?;
        self.writes.push(Write {
            table,
            stem: table::stem(plane.id, table, key),
            cells,
        });
        Ok(())
    }

    pub fn add(&mut self, plane: &Arc<Plane>, table: Table, key: &[u8], delta: Sums) -> Result<()> {
        self.count(key.len() + delta.0.len() * size_of::<i64>())?;
        self.adds.push(Add {
            plane: plane.clone(),
            table,
            key: key.to_vec(),
            delta,
        });
        Ok(())
    }

    /// Appends to the log of the owner.
    pub fn append(&mut self, entries: Vec<Vec<u8>>) -> Result<()> {
        self.count(entries.iter().map(Vec::len).sum())?;
        self.entries.extend(entries);
        Ok(())
    }

    pub fn purge(&mut self, cells: Vec<Vec<u8>>) {
        self.purge = cells;
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        check_size(self.bytes)
    }

    fn needs_space(&self) -> bool {
        // A deletion is logged on a full disk, too; entries alone wait for space.
        let only_log = self.writes.is_empty() && !self.entries.is_empty();
        let adds = !self.adds.is_empty() || self.writes.iter().any(|write| write.cells.is_some());
        !self.frees_space && (adds || only_log)
    }
}

/// Refuses transactions over [`limits::COMMIT_BYTES`].
pub(super) fn check_size(bytes: usize) -> Result<()> {
    match bytes <= limits::COMMIT_BYTES {
        true => Ok(()),
        false => {
            let most = limits::COMMIT_BYTES;
            Err(Error::new(
                Code::TooLarge,
                format!("a transaction writes more than {most} bytes"),
            ))
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} bytes)", self.bytes)
    }
}

enum Message {
    Commit(Request, oneshot::Sender<Result<()>>),
    /// Makes the thread look at [`Shared::closing`].
    Wake,
}

#[derive(Default)]
struct Shared {
    closing: AtomicBool,
    failed: AtomicBool,
    min_free_bytes: AtomicU64,
}

/// The way to the committer's thread.
pub(super) struct Committer {
    sender: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub fn start(store: Arc<dyn Store>, min_free_bytes: u64) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(limits::COMMIT_QUEUE);
        let shared = Arc::new(Shared {
            min_free_bytes: min_free_bytes.into(),
            ..Shared::default()
        });
        let worker = Worker {
            store,
            shared: shared.clone(),
        };
        let thread = thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || worker.run(receiver))
            .map_err(|e| Error::new(Code::Io, "could not start a thread").with_source(e))?;
        Ok(Self {
            sender,
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a commit over and waits until it is on disk. Once handed over, it happens even if the
    /// caller stops waiting.
    pub async fn submit(&self, request: Request) -> Result<()> {
        if self.shared.closing.load(Ordering::SeqCst) {
            return Err(stopping());
        }
        let (ack, done) = oneshot::channel();
        if self.sender.send(Message::Commit(request, ack)).await.is_err() {
            return Err(self.gone());
        }
        done.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// The same for threads outside the runtime.
    pub fn submit_blocking(&self, request: Request) -> Result<()> {
        // Unconstrained: outside of a task nobody would refill tokio's budget.
        futures::executor::block_on(tokio::task::unconstrained(self.submit(request)))
    }

    /// Whether storage has failed, so that only a restart helps.
    pub fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub fn set_min_free_bytes(&self, bytes: u64) {
        self.shared.min_free_bytes.store(bytes, Ordering::Release);
    }

    /// Commits what waits and ends the thread; later commits fail with [`Code::Shutdown`].
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // A full queue wakes the thread as well.
        let _ = self.sender.try_send(Message::Wake);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked");
        }
    }

    fn gone(&self) -> Error {
        match self.shared.closing.load(Ordering::SeqCst) {
            true => stopping(),
            false => {
                self.shared.failed.store(true, Ordering::Release);
                failed()
            }
        }
    }
}

fn stopping() -> Error {
    Error::new(Code::Shutdown, "the server is stopping")
}

fn failed() -> Error {
    Error::new(Code::Io, "storage failed; restart").with_hint("the server's log has the cause")
}

struct Worker {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
}

type Waiting = (Vec<Box<dyn FnOnce() + Send>>, oneshot::Sender<Result<()>>);

impl Worker {
    fn run(self, mut receiver: mpsc::Receiver<Message>) {
        loop {
            // Before each wait: what was to wake the thread may have come with the group before.
            if self.shared.closing.load(Ordering::SeqCst) {
                receiver.close();
            }
            let Some(first) = receiver.blocking_recv() else { return };
            let mut group = Group {
                store: &*self.store,
                staged: Changes::new(),
            };
            let (mut waiting, mut refused) = (Vec::<Waiting>::new(), Vec::new());
            let (mut bytes, mut next) = (0, Some(first));
            while let Some(message) = next {
                if let Message::Commit(mut request, ack) = message {
                    bytes += request.bytes;
                    match self.admit(&request, bytes).and_then(|()| group.stage(&mut request)) {
                        Ok(()) => waiting.push((request.on_durable, ack)),
                        Err(error) => refused.push((error, ack)),
                    }
                }
                let full = bytes >= limits::GROUP_BYTES || waiting.len() + refused.len() >= limits::GROUP_COMMITS;
                next = if full { None } else { receiver.try_recv().ok() };
            }
            self.finish(group.staged, waiting);
            // Only now: a refusal may be due to a commit of this group, which is on disk by now.
            for (error, ack) in refused {
                let _ = ack.send(Err(error));
            }
        }
    }

    fn admit(&self, request: &Request, group_bytes: usize) -> Result<()> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(failed());
        }
        request.owner.check_exists()?;
        if !request.needs_space() {
            return Ok(());
        }
        let min = self.shared.min_free_bytes.load(Ordering::Acquire);
        match self.store.free_bytes()? >= min.saturating_add(group_bytes as u64) {
            true => Ok(()),
            false => Err(
                Error::new(Code::DiskFull, "the disk is almost full; only deletes are accepted")
                    .with_hint("delete data or ask the operator for space; nothing needs a restart"),
            ),
        }
    }

    fn finish(&self, changes: Changes, waiting: Vec<Waiting>) {
        let written = match changes.is_empty() {
            true => Ok(()),
            false => self.store.apply(changes).and_then(|()| self.store.sync()),
        };
        if let Err(error) = written {
            tracing::error!(%error, "a commit did not reach the disk; nothing is acknowledged from here on");
            self.shared.failed.store(true, Ordering::Release);
        }
        for (callbacks, ack) in waiting {
            if self.shared.failed.load(Ordering::Acquire) {
                let _ = ack.send(Err(failed()));
                continue;
            }
            for callback in callbacks {
                // A panic of one tenant's callback must not end everyone's commits.
                if catch_unwind(AssertUnwindSafe(callback)).is_err() {
                    tracing::error!("a callback of a commit panicked");
                }
            }
            let _ = ack.send(Ok(()));
        }
    }
}

/// The store with the changes of a group laid over it.
struct Group<'a> {
    store: &'a dyn Store,
    staged: Changes,
}

impl Group<'_> {
    /// Adds all of a commit to the group, or nothing.
    fn stage(&mut self, request: &mut Request) -> Result<()> {
        for (stem, expected) in &request.expects {
            let found = self.read(&Changes::new(), &table::cell(stem, 0))?;
            let version = found.map(|cell| Header::read(&cell).map(|header| header.version));
            match (version, expected) {
                (None, None) => {}
                (Some(Some(found)), Some(expected)) if found == *expected => {}
                _ => {
                    return Err(
                        Error::new(Code::SerializationFailure, "another transaction changed this first")
                            .with_hint("run the transaction again"),
                    );
                }
            }
        }
        let mut own: Changes = mem::take(&mut request.purge)
            .into_iter()
            .map(|cell| (cell, None))
            .collect();
        for Write { table, stem, cells } in mem::take(&mut request.writes) {
            self.replace(&mut own, table, &stem, cells.unwrap_or_default())?;
        }
        for Add {
            plane,
            table,
            key,
            delta,
        } in &request.adds
        {
            let stem = table::stem(plane.id, *table, key);
            let mut sums = self.sums(&own, plane, *table, key, &stem)?;
            sums.add(delta)?;
            let cells = plane.keys.seal(plane.id, *table, key, &sums.encode())?;
            self.replace(&mut own, *table, &stem, cells)?;
        }
        if !request.entries.is_empty() {
            self.append(&mut own, &request.owner, &request.entries)?;
        }
        self.staged.append(&mut own);
        Ok(())
    }

    /// Appends to a plane's log, whose head tells number and hash of what comes next.
    fn append(&self, own: &mut Changes, plane: &Plane, entries: &[Vec<u8>]) -> Result<()> {
        let table = Table::Audit;
        let stem = table::stem(plane.id, table, &HEAD_KEY);
        let head = match self.value(own, plane, table, &HEAD_KEY, &stem)? {
            Some(stored) => Head::decode(&stored).ok_or_else(|| seal::corrupted(table))?,
            None => Head::default(),
        };
        let (value, after) = head.extend(entries);
        let key = (head.seq + 1).to_be_bytes();
        let cells = plane.keys.seal(plane.id, table, &key, &value)?;
        self.replace(own, table, &table::stem(plane.id, table, &key), cells)?;
        let cells = plane.keys.seal(plane.id, table, &HEAD_KEY, &after.encode())?;
        self.replace(own, table, &stem, cells)
    }

    fn read(&self, own: &Changes, cell: &[u8]) -> Result<Option<Vec<u8>>> {
        match own.get(cell).or_else(|| self.staged.get(cell)) {
            Some(change) => Ok(change.clone()),
            None => self.store.get(cell),
        }
    }

    /// Puts a value's cells in place of those that are there, however many.
    fn replace(&self, own: &mut Changes, table: Table, stem: &[u8], cells: Vec<Vec<u8>>) -> Result<()> {
        let old = match self.read(own, &table::cell(stem, 0))? {
            Some(cell) => Header::read(&cell).ok_or_else(|| seal::corrupted(table))?.parts,
            None => 0,
        };
        for part in cells.len()..old {
            own.insert(table::cell(stem, part), None);
        }
        for (part, cell) in cells.into_iter().enumerate() {
            own.insert(table::cell(stem, part), Some(cell));
        }
        Ok(())
    }

    fn sums(&self, own: &Changes, plane: &Plane, table: Table, key: &[u8], stem: &[u8]) -> Result<Sums> {
        match self.value(own, plane, table, key, stem)? {
            Some(stored) => Sums::decode(&stored).ok_or_else(|| seal::corrupted(table)),
            None => Ok(Sums::default()),
        }
    }

    /// A value as this group leaves it.
    fn value(&self, own: &Changes, plane: &Plane, table: Table, key: &[u8], stem: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(mut sealed) = self.read(own, &table::cell(stem, 0))? else {
            return Ok(None);
        };
        let parts = Header::read(&sealed).map_or(0, |header| header.parts);
        for part in 1..parts {
            sealed.extend(self.read(own, &table::cell(stem, part))?.unwrap_or_default());
        }
        let stored = plane.keys.open(plane.id, table, key, sealed);
        Ok(Some(stored.ok_or_else(|| seal::corrupted(table))?.value))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        time::Duration,
    };

    use parking_lot::Mutex;

    use super::*;
    use crate::tenant::{
        seal::Keys,
        vault::{Cells, Memory},
    };

    /// Tells when a commit asks for space, and answers when told.
    struct Held {
        memory: Memory,
        asked: Mutex<Sender<()>>,
        answer: Mutex<Receiver<()>>,
    }

    impl Store for Held {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.memory.get(key)
        }

        fn page(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Cells> {
            self.memory.page(from, to, limit)
        }

        fn apply(&self, changes: Changes) -> Result<()> {
            self.memory.apply(changes)
        }

        fn sync(&self) -> Result<()> {
            self.memory.sync()
        }

        fn free_bytes(&self) -> Result<u64> {
            self.asked.lock().send(()).map_err(Error::internal)?;
            self.answer.lock().recv().map_err(Error::internal)?;
            self.memory.free_bytes()
        }
    }

    #[test]
    fn closing_while_a_group_is_gathered_ends_the_thread() -> Result<()> {
        let ((asked, is_asked), (go, answer)) = (channel(), channel());
        let store: Arc<dyn Store> = Arc::new(Held {
            memory: Memory::default(),
            asked: Mutex::new(asked),
            answer: Mutex::new(answer),
        });
        let plane = Arc::new(Plane::new(1, Keys::derive(&seal::random_key()?), store.clone()));
        let committer = Arc::new(Committer::start(store, 0)?);
        let mut request = Request::new(plane.clone());
        request.write(&plane, Table::Users, b"k", Some(b"v"))?;
        let (waiting, closing) = (committer.clone(), committer.clone());
        let commit = thread::spawn(move || waiting.submit_blocking(request));
        is_asked.recv().map_err(Error::internal)?;
        let (closed, is_closed) = channel();
        thread::spawn(move || {
            closing.close();
            closed.send(())
        });
        // Until its message waits beside the commit, so that both are of one group.
        while committer.sender.capacity() == limits::COMMIT_QUEUE {
            thread::yield_now();
        }
        go.send(()).map_err(Error::internal)?;
        assert!(
            is_closed.recv_timeout(Duration::from_secs(30)).is_ok(),
            "the thread goes on"
        );
        commit.join().map_err(|_| Error::internal("the commit panicked"))?
    }
}
