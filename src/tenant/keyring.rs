//! The keyring: every plane's data key, wrapped by the master key, in a file of fixed slots.
//!
//! It lies outside of sled because sled's log keeps old values for a while. Dropping a tenant
//! overwrites its slot with zeros and syncs: what was sealed with that key is then unreadable,
//! wherever copies of it lie. (A file system or disk that keeps old versions of overwritten blocks
//! keeps the wrapped key too; without the master key that is worth nothing.)

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt};

use super::seal::{self, FORMAT, Key, WRAPPED_BYTES};
use crate::error::{Code, Error, Result};

/// Divides a disk's sector, so that a slot is written whole or not at all.
const SLOT_BYTES: usize = 128;
const USED: u8 = 0xB1;
const _: () = assert!(16 + WRAPPED_BYTES <= SLOT_BYTES);

/// The data keys of all planes; plane 0 is the operator's.
pub(super) struct Keyring {
    master: Key,
    /// `None` in memory.
    file: Option<File>,
    /// Which plane lies in which slot; `None` is free.
    slots: Vec<Option<u64>>,
    keys: HashMap<u64, Key>,
}

impl Keyring {
    /// A keyring that lives in memory, with a key for plane 0.
    pub fn in_memory() -> Result<Self> {
        let mut ring = Self {
            master: seal::random_key()?,
            file: None,
            slots: Vec::new(),
            keys: HashMap::new(),
        };
        ring.add(0)?;
        Ok(ring)
    }

    /// Reads all slots, checking the master key on the first. A new file gets a key for plane 0.
    pub fn open(master: Key, file: File) -> Result<Self> {
        let length = file.metadata().map_err(io)?.len();
        let mut ring = Self {
            master,
            file: None,
            slots: Vec::new(),
            keys: HashMap::new(),
        };
        for slot in 0..length / SLOT_BYTES as u64 {
            let mut bytes = [0; SLOT_BYTES];
            file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64).map_err(io)?;
            let plane = ring.read_slot(&bytes)?;
            if slot == 0 && plane.is_some_and(|p| p != 0) {
                return Err(damaged());
            }
            ring.slots.push(plane);
        }
        ring.file = Some(file);
        if !ring.keys.contains_key(&0) {
            if ring.slots.iter().any(Option::is_some) {
                return Err(damaged());
            }
            ring.add(0)?;
        }
        Ok(ring)
    }

    fn read_slot(&mut self, bytes: &[u8; SLOT_BYTES]) -> Result<Option<u64>> {
        if bytes.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let plane = bytes[8..16].iter().fold(0, |n, &b| n << 8 | u64::from(b));
        let mut wrapped = [0; WRAPPED_BYTES];
        wrapped.copy_from_slice(&bytes[16..16 + WRAPPED_BYTES]);
        if bytes[0] != USED || bytes[1] != FORMAT || self.keys.contains_key(&plane) {
            return Err(damaged());
        }
        let key = seal::unwrap(&self.master, plane, &wrapped).ok_or_else(|| match plane {
            0 => Error::new(Code::Io, "the master key does not fit this data directory")
                .with_hint("start with the key that it was created with; without it the data cannot be read"),
            _ => damaged(),
        })?;
        self.keys.insert(plane, key);
        Ok(Some(plane))
    }

    /// The data key of a plane.
    pub fn key(&self, plane: u64) -> Option<&Key> {
        self.keys.get(&plane)
    }

    /// The planes that have a key.
    pub fn planes(&self) -> Vec<u64> {
        self.keys.keys().copied().collect()
    }

    /// Makes a data key for a plane; it is on disk when this returns.
    pub fn add(&mut self, plane: u64) -> Result<&Key> {
        let key = seal::random_key()?;
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let mut bytes = [0; SLOT_BYTES];
        bytes[0] = USED;
        bytes[1] = FORMAT;
        bytes[8..16].copy_from_slice(&plane.to_be_bytes());
        bytes[16..16 + WRAPPED_BYTES].copy_from_slice(&seal::wrap(&self.master, plane, &key)?);
        self.write(slot, &bytes)?;
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(plane);
        Ok(self.keys.entry(plane).or_insert(key))
    }

    /// Destroys the data key of a plane; it is gone from the disk when this returns.
    pub fn destroy(&mut self, plane: u64) -> Result<()> {
        let Some(slot) = self.slots.iter().position(|&used| used == Some(plane)) else {
            return Ok(());
        };
        self.write(slot, &[0; SLOT_BYTES])?;
        self.slots[slot] = None;
        self.keys.remove(&plane);
        Ok(())
    }

    fn write(&self, slot: usize, bytes: &[u8; SLOT_BYTES]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_all_at(bytes, (slot * SLOT_BYTES) as u64).map_err(io)?;
        file.sync_all().map_err(io)
    }
}

fn io(cause: std::io::Error) -> Error {
    Error::new(Code::Io, "the keyring could not be read or written").with_source(cause)
}

fn damaged() -> Error {
    Error::new(Code::Corrupted, "the file keyring is damaged").with_hint("restore the data directory from a backup")
}
