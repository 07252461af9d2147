//! Graphs of shards as cells of their tenant, so that a restart need not build them again.
//!
//! ```text
//! Graphs      storage column metric 0                  which generation there is, and of how many pieces
//!             storage column metric 1 generation piece a piece of it
//! ```
//!
//! The pieces of a generation are written before its head, and the head names one generation only: what a crash or a
//! later generation left is never read, and removed with the next one. What is read is compared with the rows that
//! there are; so a graph that is behind them, or of another moment of them, gives no wrong answer.

use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    table::schema::Oid,
    tenant::{Table, Tenant},
    vector::Metric,
};

/// Bytes of a piece: one commit, for which others wait.
const PIECE_BYTES: usize = 1 << 20;
const _: () = assert!(PIECE_BYTES < crate::limits::VALUE_BYTES);
/// The most pieces that a head may name.
const PIECES: u32 = 64 << 10;

/// Where one graph is stored.
pub(super) struct Graphs {
    tenant: Tenant,
    prefix: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    generation: u32,
    pieces: u32,
}

impl Graphs {
    pub fn of(tenant: &Tenant, storage: Oid, column: u16, metric: Metric) -> Self {
        let metric = match metric {
            Metric::Cosine => 0,
            Metric::L2 => 1,
            Metric::InnerProduct => 2,
            Metric::L1 => 3,
        };
        let mut prefix = storage.to_be_bytes().to_vec();
        prefix.extend_from_slice(&column.to_be_bytes());
        prefix.push(metric);
        Self {
            tenant: tenant.clone(),
            prefix,
        }
    }

    fn head_key(&self) -> Vec<u8> {
        [self.prefix.as_slice(), &[0]].concat()
    }

    fn pieces_key(&self) -> Vec<u8> {
        [self.prefix.as_slice(), &[1]].concat()
    }

    fn piece_key(&self, generation: u32, piece: u32) -> Vec<u8> {
        [
            self.pieces_key().as_slice(),
            &generation.to_be_bytes(),
            &piece.to_be_bytes(),
        ]
        .concat()
    }

    fn head(&self) -> Result<Option<Head>> {
        let stored = self.tenant.get(Table::Graphs, &self.head_key())?;
        // One that cannot be read is none: it is derived.
        Ok(stored.and_then(|stored| postcard::from_bytes(&stored.value).ok()))
    }

    /// Whether there is one.
    ///
    /// # Errors
    /// Those of reading.
    pub fn exist(&self) -> Result<bool> {
        Ok(self.head()?.is_some())
    }

    /// What was written last; `None` if there is none, or not all of it.
    ///
    /// # Errors
    /// Those of reading, among them [`Code::Corrupted`](crate::error::Code::Corrupted) for cells that are not this
    /// tenant's or not what was stored under their keys.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        let Some(head) = self.head()? else { return Ok(None) };
        let mut bytes = Vec::new();
        for piece in 0..head.pieces.min(PIECES) {
            let key = self.piece_key(head.generation, piece);
            match self.tenant.get(Table::Graphs, &key)? {
                Some(stored) => bytes.extend_from_slice(&stored.value),
                None => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    /// Stores a graph in place of the former one. Takes as long as the disk does: for a background thread.
    ///
    /// # Errors
    /// Those of committing; what was stored before is still there then.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let former = self.head().unwrap_or_default();
        let generation = former.map_or(1, |head| head.generation.wrapping_add(1));
        let mut pieces = 0;
        for piece in bytes.chunks(PIECE_BYTES) {
            let mut batch = self.tenant.batch();
            batch.put(Table::Graphs, &self.piece_key(generation, pieces), piece.to_vec());
            self.tenant.commit_blocking(batch)?;
            pieces += 1;
        }
        let head = postcard::to_stdvec(&Head { generation, pieces }).map_err(crate::error::Error::internal)?;
        let mut batch = self.tenant.batch();
        batch.put(Table::Graphs, &self.head_key(), head);
        self.tenant.commit_blocking(batch)?;
        self.remove_pieces(Some(generation))
    }

    /// Removes what is stored.
    ///
    /// # Errors
    /// Those of committing.
    pub fn remove(&self) -> Result<()> {
        let mut batch = self.tenant.batch();
        batch.delete(Table::Graphs, &self.head_key());
        self.tenant.commit_blocking(batch)?;
        self.remove_pieces(None)
    }

    fn remove_pieces(&self, except: Option<u32>) -> Result<()> {
        let all = self.pieces_key();
        let kept = except.map(|generation| [all.as_slice(), &generation.to_be_bytes()].concat());
        for cell in self.tenant.scan(Table::Graphs, &all) {
            // One that cannot be opened ends this: it is in nobody's way.
            let (key, _) = cell?;
            if kept.as_ref().is_some_and(|kept| key.starts_with(kept)) {
                continue;
            }
            let mut batch = self.tenant.batch();
            batch.delete(Table::Graphs, &key);
            self.tenant.commit_blocking(batch)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::testing;

    fn cells(tenant: &Tenant) -> usize {
        tenant.scan(Table::Graphs, &[]).count()
    }

    #[tokio::test]
    async fn a_graph_is_its_tenants_own_and_the_last_one_written() {
        let directory = testing::directory(&["acme", "umbra"]).await;
        let acme = testing::tenant(&directory, "acme", "owner", "secret");
        let umbra = testing::tenant(&directory, "umbra", "owner", "secret");
        tokio::task::spawn_blocking(move || {
            let graphs = Graphs::of(&acme, 7, 2, Metric::Cosine);
            assert!(!graphs.exist().unwrap() && graphs.read().unwrap().is_none());
            let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 5).map(|i| (i % 251) as u8).collect();
            graphs.write(&bytes).unwrap();
            assert_eq!(graphs.read().unwrap().as_deref(), Some(bytes.as_slice()));
            assert_eq!(cells(&acme), 4);
            // Another one's, another column's, another metric's, another storage's.
            for other in [
                Graphs::of(&umbra, 7, 2, Metric::Cosine),
                Graphs::of(&acme, 7, 3, Metric::Cosine),
                Graphs::of(&acme, 7, 2, Metric::L2),
                Graphs::of(&acme, 8, 2, Metric::Cosine),
            ] {
                assert!(!other.exist().unwrap() && other.read().unwrap().is_none());
                other.remove().unwrap();
            }
            assert_eq!((cells(&acme), cells(&umbra)), (4, 0));
            graphs.write(b"newer").unwrap();
            assert_eq!(graphs.read().unwrap().as_deref(), Some(&b"newer"[..]));
            assert_eq!(cells(&acme), 2, "nothing of the former one is left");

            // A crash before the head was written: the former one counts, and what was written goes with the next.
            let mut batch = acme.batch();
            batch.put(Table::Graphs, &graphs.piece_key(3, 0), b"half".to_vec());
            acme.commit_blocking(batch).unwrap();
            assert_eq!(graphs.read().unwrap().as_deref(), Some(&b"newer"[..]));
            // Of which a piece is missing there is none.
            let mut batch = acme.batch();
            batch.delete(Table::Graphs, &graphs.piece_key(2, 0));
            acme.commit_blocking(batch).unwrap();
            assert!(graphs.exist().unwrap() && graphs.read().unwrap().is_none());
            graphs.write(b"newest").unwrap();
            assert_eq!(
                (graphs.read().unwrap().as_deref(), cells(&acme)),
                (Some(&b"newest"[..]), 2)
            );
            graphs.remove().unwrap();
            assert_eq!(cells(&acme), 0);
        })
        .await
        .unwrap();
    }
}
