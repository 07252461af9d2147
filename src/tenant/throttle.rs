//! Guessing gets slower: how long a login's answer is held back after failures before it.
//!
//! Nothing sleeps here. The wire sleeps for the answered time, holding nothing.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::limits;

/// One failure is forgotten after this time, the next after as long again.
const FORGIVE_ONE: Duration = Duration::from_secs(60);
/// The first delay; it doubles from there to [`limits::LOGIN_DELAY_MAX`].
const FIRST_DELAY: Duration = Duration::from_millis(125);
/// Free failures of an address over all users: people behind one address err independently.
const FREE_ADDRESS_FAILURES: u32 = limits::FREE_FAILURES * 10;
/// More than this is not counted, so that an address is forgiven within the hour.
const MOST_FAILURES: u32 = 50;
const _: () = assert!(FREE_ADDRESS_FAILURES < MOST_FAILURES);

/// Failures by (database, user, address) and by address. Of two maps the older is dropped when the
/// newer is full, so memory is bounded and who fails often stays remembered.
pub(super) struct Throttle {
    hasher: RandomState,
    maps: Mutex<[HashMap<u64, Entry>; 2]>,
}

#[derive(Clone, Copy)]
struct Entry {
    failures: u32,
    since: Instant,
}

impl Throttle {
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            maps: Mutex::default(),
        }
    }

    /// Records an attempt's outcome and tells how long to hold its answer back. A right password is
    /// held back as well, or a quick answer would tell a guesser that it is right; but it clears
    /// what this user failed from this address.
    pub fn record(&self, dbname: &str, user: &str, peer: IpAddr, success: bool, now: Instant) -> Duration {
        let network = network(peer);
        let user_key = self.hasher.hash_one((dbname, user, network));
        let address_key = self.hasher.hash_one(network);
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = |key, add: u32| {
            let failures = current(&maps, key, now);
            let counted = (failures + add).min(MOST_FAILURES);
            if add > 0 {
                remember(
                    &mut maps,
                    key,
                    Entry {
                        failures: counted,
                        since: now,
                    },
                );
            }
            counted
        };
        let add = u32::from(!success);
        let (by_user, by_address) = (count(user_key, add), count(address_key, add));
        if success {
            maps.iter_mut().for_each(|map| _ = map.remove(&user_key));
        }
        delay(by_user, limits::FREE_FAILURES).max(delay(by_address, FREE_ADDRESS_FAILURES))
    }

    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.maps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(HashMap::len)
            .sum()
    }
}

fn current(maps: &[HashMap<u64, Entry>; 2], key: u64, now: Instant) -> u32 {
    let Some(entry) = maps.iter().find_map(|map| map.get(&key)) else {
        return 0;
    };
    let forgiven = now.saturating_duration_since(entry.since).as_secs() / FORGIVE_ONE.as_secs();
    entry
        .failures
        .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
}

fn remember(maps: &mut [HashMap<u64, Entry>; 2], key: u64, entry: Entry) {
    if maps[0].len() >= limits::THROTTLE_ENTRIES / 2 && !maps[0].contains_key(&key) {
        maps.swap(0, 1);
        maps[0].clear();
    }
    maps[1].remove(&key);
    maps[0].insert(key, entry);
}

fn delay(failures: u32, free: u32) -> Duration {
    match failures.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY
            .saturating_mul(1 << doublings.min(16))
            .min(limits::LOGIN_DELAY_MAX),
    }
}

/// Whom to count: an address, or for IPv6 the /64 that one customer usually has whole.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}
