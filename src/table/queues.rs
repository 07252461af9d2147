//! Who holds what, who waits for it in which order, and whether that closes a circle.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::oneshot;

use super::locks::{LockInfo, MODES, Mode, Resource};

/// What is held and waited for.
#[derive(Default)]
pub(super) struct Queues {
    entries: HashMap<Resource, Entry>,
    /// What each owner waits for.
    waiting: HashMap<u64, Vec<Resource>>,
    tickets: u64,
}

#[derive(Default)]
struct Entry {
    holders: Vec<Holder>,
    queue: VecDeque<Waiter>,
}

struct Holder {
    owner: u64,
    /// Modes held to the end of the transaction, as bits.
    transaction: u8,
    /// How often each mode is held for the session.
    session: [u32; MODES.len()],
}

struct Waiter {
    owner: u64,
    ticket: u64,
    mode: Mode,
    session: bool,
    granted: oneshot::Sender<()>,
}

impl Holder {
    fn modes(&self) -> u8 {
        let session = MODES.iter().filter(|mode| self.session[**mode as usize] > 0);
        session.fold(self.transaction, |bits, mode| bits | mode.bit())
    }
}

impl Entry {
    fn held_by(&self, owner: u64) -> u8 {
        let own = self.holders.iter().find(|holder| holder.owner == owner);
        own.map_or(0, Holder::modes)
    }

    fn hold(&mut self, owner: u64, mode: Mode, session: bool) {
        let at = self
            .holders
            .iter()
            .position(|holder| holder.owner == owner)
            .unwrap_or_else(|| {
                self.holders.push(Holder {
                    owner,
                    transaction: 0,
                    session: [0; MODES.len()],
                });
                self.holders.len() - 1
            });
        match session {
            true => self.holders[at].session[mode as usize] += 1,
            false => self.holders[at].transaction |= mode.bit(),
        }
    }

    /// Owners that a waiter of the queue (or one that would come at `at`) waits for.
    fn blockers(&self, at: usize, owner: u64, mode: Mode) -> Vec<u64> {
        let holders = self
            .holders
            .iter()
            .filter(|holder| holder.modes() & mode.conflicts() != 0);
        let before = self
            .queue
            .iter()
            .take(at)
            .filter(|waiter| waiter.mode.bit() & mode.conflicts() != 0);
        let owners = holders
            .map(|holder| holder.owner)
            .chain(before.map(|waiter| waiter.owner));
        owners.filter(|&other| other != owner).collect()
    }
}

impl Queues {
    /// Where a request would stand in the queue: who holds the resource already goes before who does not, or the two
    /// would wait for each other.
    fn position(entry: &Entry, owner: u64) -> usize {
        if entry.held_by(owner) == 0 {
            return entry.queue.len();
        }
        let holds = |waiter: &Waiter| entry.held_by(waiter.owner) != 0;
        entry.queue.iter().take_while(|waiter| holds(waiter)).count()
    }

    /// Takes a lock that needs no waiting.
    pub fn try_lock(&mut self, owner: u64, resource: &Resource, mode: Mode, session: bool) -> bool {
        let entry = self.entries.entry(resource.clone()).or_default();
        let at = Self::position(entry, owner);
        let free = entry.blockers(at, owner, mode).is_empty();
        if free {
            entry.hold(owner, mode, session);
        }
        free
    }

    /// Begins to wait. `None` if it would wait for itself.
    pub fn wait(
        &mut self,
        owner: u64,
        resource: &Resource,
        mode: Mode,
        session: bool,
    ) -> Option<(u64, oneshot::Receiver<()>)> {
        let (granted, done) = oneshot::channel();
        self.tickets += 1;
        let ticket = self.tickets;
        let entry = self.entries.entry(resource.clone()).or_default();
        let waiter = Waiter {
            owner,
            ticket,
            mode,
            session,
            granted,
        };
        entry.queue.insert(Self::position(entry, owner), waiter);
        self.waiting.entry(owner).or_default().push(resource.clone());
        if self.waits_for_itself(owner) {
            self.leave(owner, ticket, resource);
            return None;
        }
        Some((ticket, done))
    }

    /// Whether `owner` waits, through others, for itself.
    fn waits_for_itself(&self, owner: u64) -> bool {
        let (mut seen, mut next) = (HashSet::new(), vec![owner]);
        while let Some(one) = next.pop() {
            for resource in self.waiting.get(&one).into_iter().flatten() {
                let Some(entry) = self.entries.get(resource) else {
                    continue;
                };
                for (at, waiter) in entry.queue.iter().enumerate().filter(|(_, waiter)| waiter.owner == one) {
                    for blocker in entry.blockers(at, one, waiter.mode) {
                        if blocker == owner {
                            return true;
                        }
                        if seen.insert(blocker) {
                            next.push(blocker);
                        }
                    }
                }
            }
        }
        false
    }

    /// Grants what is free now, in order.
    fn grant(&mut self, resource: &Resource) {
        let Some(entry) = self.entries.get_mut(resource) else {
            return;
        };
        let mut at = 0;
        while let Some(waiter) = entry.queue.get(at) {
            if !entry.blockers(at, waiter.owner, waiter.mode).is_empty() {
                at += 1;
                continue;
            }
            let Some(waiter) = entry.queue.remove(at) else { break };
            entry.hold(waiter.owner, waiter.mode, waiter.session);
            forget(&mut self.waiting, waiter.owner, resource);
            // If it is gone it has left the queue, or its request gives the lock back.
            let _ = waiter.granted.send(());
        }
        if entry.holders.is_empty() && entry.queue.is_empty() {
            self.entries.remove(resource);
        }
    }

    /// Takes something from an owner, and lets others have it.
    pub fn release(&mut self, owner: u64, resource: &Resource, mode: Mode, session: bool) {
        let Some(entry) = self.entries.get_mut(resource) else {
            return;
        };
        if let Some(at) = entry.holders.iter().position(|holder| holder.owner == owner) {
            let holder = &mut entry.holders[at];
            match session {
                true => holder.session[mode as usize] = holder.session[mode as usize].saturating_sub(1),
                false => holder.transaction &= !mode.bit(),
            }
            if entry.holders[at].modes() == 0 {
                entry.holders.swap_remove(at);
            }
        }
        self.grant(resource);
    }
}

fn forget(waiting: &mut HashMap<u64, Vec<Resource>>, owner: u64, resource: &Resource) {
    if let Some(resources) = waiting.get_mut(&owner) {
        if let Some(at) = resources.iter().position(|waited| waited == resource) {
            resources.swap_remove(at);
        }
        if resources.is_empty() {
            waiting.remove(&owner);
        }
    }
}

impl Queues {
    /// Takes a waiter out of the queue; false if it is not there any more.
    pub fn leave(&mut self, owner: u64, ticket: u64, resource: &Resource) -> bool {
        let Some(entry) = self.entries.get_mut(resource) else {
            return false;
        };
        let at = entry.queue.iter().position(|waiter| waiter.ticket == ticket);
        let waited = at.and_then(|at| entry.queue.remove(at)).is_some();
        if waited {
            forget(&mut self.waiting, owner, resource);
            self.grant(resource);
        }
        waited
    }
}

impl Queues {
    /// The modes that an owner holds to the end of its transaction.
    pub fn of_transaction(&self, owner: u64, resource: &Resource) -> u8 {
        let entry = self.entries.get(resource);
        let holder = entry.and_then(|entry| entry.holders.iter().find(|holder| holder.owner == owner));
        holder.map_or(0, |holder| holder.transaction)
    }

    /// Every lock that is held or waited for.
    pub fn list(&self) -> Vec<LockInfo> {
        let mut list = Vec::new();
        for (resource, entry) in &self.entries {
            let mut add = |owner, mode, granted| {
                list.push(LockInfo {
                    resource: resource.clone(),
                    owner,
                    mode,
                    granted,
                });
            };
            for holder in &entry.holders {
                let modes = holder.modes();
                MODES
                    .iter()
                    .filter(|mode| modes & mode.bit() != 0)
                    .for_each(|mode| add(holder.owner, *mode, true));
            }
            entry
                .queue
                .iter()
                .for_each(|waiter| add(waiter.owner, waiter.mode, false));
        }
        list
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
