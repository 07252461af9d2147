//! Identical calls at once are one call.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Hash;

/// Calls under way, by key.
pub(super) struct Flights<T> {
    running: Mutex<HashMap<Hash, Running<T>>>,
}

struct Running<T> {
    /// What is called; a key may be asked to stand for something else.
    what: Hash,
    landed: watch::Receiver<Option<Arc<T>>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
        }
    }
}

/// How a caller takes part.
pub(super) enum Join<T> {
    /// Nobody else makes this call.
    Lead(Lead<T>),
    /// Someone does.
    Follow(Follow<T>),
    /// Someone makes another call under this key.
    Other,
}

/// Whoever makes the call. Dropped without [`Lead::land`], the others are told that there is nothing.
pub(super) struct Lead<T> {
    flights: Arc<Flights<T>>,
    key: Hash,
    landed: watch::Sender<Option<Arc<T>>>,
}

/// Whoever waits for it.
pub(super) struct Follow<T>(watch::Receiver<Option<Arc<T>>>);

impl<T> Flights<T> {
    pub(super) fn join(self: &Arc<Self>, key: Hash, what: Hash) -> Join<T> {
        let mut running = self.running.lock();
        match running.get(&key) {
            Some(flight) if flight.what != what => Join::Other,
            Some(flight) => Join::Follow(Follow(flight.landed.clone())),
            None => {
                let (sender, landed) = watch::channel(None);
                running.insert(key, Running { what, landed });
                Join::Lead(Lead {
                    flights: self.clone(),
                    key,
                    landed: sender,
                })
            }
        }
    }
}

impl<T> Lead<T> {
    /// Gives what the call gave to all who wait.
    pub(super) fn land(self, value: T) {
        self.landed.send_replace(Some(Arc::new(value)));
    }
}

impl<T> Drop for Lead<T> {
    /// Before the sender goes: whoever is woken by that finds the key free.
    fn drop(&mut self) {
        self.flights.running.lock().remove(&self.key);
    }
}

impl<T> Follow<T> {
    /// What the leader's call gave; `None` if it gave nothing.
    pub(super) async fn landed(mut self) -> Option<Arc<T>> {
        match self.0.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        }
    }
}
