//! Sets of row ids: what a filter selects, what a transaction hides.

/// Rows of one chunk.
const CHUNK_ROWS: u64 = 1 << 16;
/// From this many on a chunk is a bitmap, which is then the smaller form.
const FEW: usize = 4096;
const CHUNK_WORDS: usize = 1024;
const _: () = assert!(CHUNK_WORDS as u64 * 64 == CHUNK_ROWS && FEW * 2 == CHUNK_WORDS * 8);

/// A set of row ids, small for few and for many: by chunks of 65,536 ids, each a sorted list or a
/// bitmap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    /// By the upper 48 bits of the ids, ascending.
    chunks: Vec<(u64, Chunk)>,
    len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Chunk {
    Few(Vec<u16>),
    Many(Box<[u64; CHUNK_WORDS]>),
}

impl RowSet {
    /// Of no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row; false if it was there already. Cheapest in ascending order.
    pub fn insert(&mut self, id: u64) -> bool {
        let (high, low) = (id / CHUNK_ROWS, (id % CHUNK_ROWS) as u16);
        let at = match self.chunks.last() {
            Some((last, _)) if *last == high => self.chunks.len() - 1,
            _ => match self.chunks.binary_search_by_key(&high, |(high, _)| *high) {
                Ok(at) => at,
                Err(at) => {
                    self.chunks.insert(at, (high, Chunk::Few(Vec::new())));
                    at
                }
            },
        };
        let chunk = &mut self.chunks[at].1;
        let added = match chunk {
            Chunk::Few(rows) => {
                let place = match rows.last() {
                    Some(last) if *last < low => Err(rows.len()),
                    _ => rows.binary_search(&low),
                };
                match place {
                    Ok(_) => false,
                    Err(place) => {
                        rows.insert(place, low);
                        true
                    }
                }
            }
            Chunk::Many(words) => {
                let word = &mut words[usize::from(low / 64)];
                let added = *word >> (low % 64) & 1 == 0;
                *word |= 1 << (low % 64);
                added
            }
        };
        if let Chunk::Few(rows) = chunk
            && rows.len() >= FEW
        {
            let mut words = Box::new([0; CHUNK_WORDS]);
            for row in rows {
                words[usize::from(*row / 64)] |= 1 << (*row % 64);
            }
            *chunk = Chunk::Many(words);
        }
        self.len += usize::from(added);
        added
    }

    /// Whether the row is in the set.
    #[inline]
    pub fn contains(&self, id: u64) -> bool {
        let (high, low) = (id / CHUNK_ROWS, (id % CHUNK_ROWS) as u16);
        let at = match self.chunks.as_slice() {
            [] => return false,
            [(only, _)] if *only == high => 0,
            chunks => match chunks.binary_search_by_key(&high, |(high, _)| *high) {
                Ok(at) => at,
                Err(_) => return false,
            },
        };
        match &self.chunks[at].1 {
            Chunk::Few(rows) => rows.binary_search(&low).is_ok(),
            Chunk::Many(words) => words[usize::from(low / 64)] >> (low % 64) & 1 == 1,
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.chunks.iter().flat_map(|(high, chunk)| {
            let first = high * CHUNK_ROWS;
            let few = match chunk {
                Chunk::Few(rows) => rows.as_slice(),
                Chunk::Many(_) => &[],
            };
            let many = match chunk {
                Chunk::Few(_) => &[][..],
                Chunk::Many(words) => &words[..],
            };
            let of_bitmap = many.iter().enumerate().flat_map(move |(n, word)| {
                let mut left = *word;
                std::iter::from_fn(move || {
                    let bit = left.trailing_zeros();
                    left &= left.wrapping_sub(1);
                    (bit < 64).then(|| first + n as u64 * 64 + u64::from(bit))
                })
            });
            few.iter().map(move |row| first + u64::from(*row)).chain(of_bitmap)
        })
    }
}

impl FromIterator<u64> for RowSet {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        let mut set = Self::new();
        for id in ids {
            set.insert(id);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_agrees_with_the_standard_librarys(
            sparse in prop::collection::vec(any::<u64>(), 0..50),
            near in prop::collection::vec(0u64..200_000, 0..50),
            run in (0u64..70_000, 0u64..9_000),
        ) {
            let ids: Vec<u64> = sparse.into_iter().chain(near).chain(run.0..run.0 + run.1).collect();
            let twin: BTreeSet<u64> = ids.iter().copied().collect();
            let mut set = RowSet::new();
            let mut seen = BTreeSet::new();
            for id in &ids {
                prop_assert_eq!(set.insert(*id), seen.insert(*id));
            }
            prop_assert_eq!(set.len(), twin.len());
            prop_assert_eq!(set.is_empty(), twin.is_empty());
            prop_assert!(set.iter().eq(twin.iter().copied()));
            for id in ids.iter().flat_map(|id| [*id, id.wrapping_add(1), id.wrapping_sub(1)]) {
                prop_assert_eq!(set.contains(id), twin.contains(&id));
            }
            prop_assert_eq!(set, twin.into_iter().rev().collect::<RowSet>());
        }
    }
}
