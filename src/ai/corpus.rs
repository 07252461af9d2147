//! The searchable form of one tenant's documents, kept in memory and up to date with every
//! commit: vectors, postings, metadata. It is derived from the stored rows and can be rebuilt.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::filter::Filter;
use super::postings::{Postings, Statistics, ceiling};
use super::terms::Terms;
use super::view::View;
use crate::error::{Code, Error, Result};
use crate::vector::{Embedding, Metric, Shard, Tended, TopK};

/// Words of a title that count towards each of its document's chunks.
const TITLE_WORDS: usize = 64;
/// Tombstones below this number are never worth a compaction.
const COMPACT_MIN: usize = 64;
/// Chunks that are looked for beyond those wanted, so that equally near ones at the end are seen to be so.
pub(super) const EQUALS: usize = 4;
/// Chunks whose vectors are compared at a time when they are looked for by their words.
pub(super) const COMPARED: usize = 128;

/// The vectors that one embedding model gave one tenant's chunks, numbered in the order in which the models came
/// into use. A distance between vectors of two spaces means nothing, be they of equal length or not: none is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Space(pub u32);

/// A document as it enters a [`Corpus`].
#[derive(Clone, Debug)]
pub struct DocumentEntry {
    /// The document's id.
    pub id: Uuid,
    /// Its title; the first 64 words are indexed with every chunk.
    pub title: String,
    /// What filters are compared with.
    pub metadata: Arc<Value>,
    /// Where the vectors of its chunks are from.
    pub space: Space,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkEntry>,
}

/// A chunk as it enters a [`Corpus`].
#[derive(Clone, Debug)]
pub struct ChunkEntry {
    /// The chunk's id.
    pub id: Uuid,
    /// Its number within the document, from 0.
    pub no: i32,
    /// [`Terms::of`] its text, without the title.
    pub terms: Terms,
    /// Its vector; all of a corpus are of one space and have the same length.
    pub embedding: Embedding,
}

/// One tenant's documents, searchable.
#[derive(Default)]
pub struct Corpus {
    space: Space,
    /// Absent while there is no chunk. For the cosine; its rows are the ids of the slots below.
    shard: Option<Tended>,
    postings: Postings,
    /// By ascending id.
    pub(super) slots: Vec<Slot>,
    /// Slots that are not removed.
    live: usize,
    /// The id of the next slot.
    next: u64,
    /// Ids of the chunks whose vectors have no direction: their cosine counts as 0.
    pub(super) aimless: BTreeSet<u64>,
    pub(super) documents: HashMap<Uuid, Held>,
}

pub(super) struct Slot {
    /// Never used again: a place may be, after tombstones are dropped.
    pub id: u64,
    pub document: Uuid,
    pub chunk: Uuid,
    pub no: i32,
    pub live: bool,
}

pub(super) struct Held {
    pub metadata: Arc<Value>,
    pub slots: Range<usize>,
}

impl Corpus {
    /// Without documents, for vectors of this space.
    pub fn of(space: Space) -> Self {
        Self {
            space,
            ..Self::default()
        }
    }

    /// Which vectors it holds.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The ids of its documents, in no order.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.documents.keys().copied()
    }

    /// Adds a document, in place of any former version of it.
    ///
    /// # Errors
    /// [`Code::DataException`] when an embedding is of another space or its length is not that of the
    /// others; nothing has changed then.
    pub fn upsert(&mut self, document: DocumentEntry) -> Result<()> {
        same(self.space, document.space)?;
        let others = self.len() > self.documents.get(&document.id).map_or(0, |held| held.slots.len());
        let mut expected = self.dimensions().filter(|_| others);
        for chunk in &document.chunks {
            let dimensions = chunk.embedding.dimensions();
            let expected = *expected.get_or_insert(dimensions);
            if expected != dimensions {
                let message = format!("expected {expected} dimensions, not {dimensions}");
                return Err(Error::new(Code::DataException, message));
            }
        }
        self.remove(document.id);
        let title = Terms::of_first(&document.title, TITLE_WORDS);
        let first = self.slots.len();
        let mut rows = Vec::with_capacity(document.chunks.len());
        for chunk in document.chunks {
            let id = self.next;
            self.next += 1;
            let vector = chunk.embedding.as_slice();
            if Metric::Cosine.distance(vector, vector).is_nan() {
                self.aimless.insert(id);
            }
            self.postings.push(&chunk.terms, &title);
            self.slots.push(Slot {
                id,
                document: document.id,
                chunk: chunk.id,
                no: chunk.no,
                live: true,
            });
            rows.push((id, chunk.embedding));
        }
        if let Some((_, vector)) = rows.first() {
            let new = || Tended::new(Shard::new(Metric::Cosine, vector.dimensions()));
            self.shard.get_or_insert_with(new).insert(&rows)?;
        }
        self.live += rows.len();
        let slots = first..self.slots.len();
        self.documents.insert(
            document.id,
            Held {
                metadata: document.metadata,
                slots,
            },
        );
        Ok(())
    }

    /// Removes a document; false if it was not there.
    pub fn remove(&mut self, document: Uuid) -> bool {
        let Some(held) = self.documents.remove(&document) else {
            return false;
        };
        if held.slots.is_empty() {
            return true;
        }
        let mut ids = Vec::with_capacity(held.slots.len());
        for place in held.slots {
            let slot = &mut self.slots[place];
            slot.live = false;
            self.aimless.remove(&slot.id);
            ids.push(slot.id);
            self.postings.remove(place);
        }
        self.live -= ids.len();
        if let Some(shard) = &self.shard {
            shard.remove(&ids);
        }
        // A third of the slots: each removal then pays for copying at most two others.
        let dead = self.slots.len() - self.live;
        if self.live == 0 || (dead >= COMPACT_MIN && dead * 3 > self.slots.len()) {
            self.compact();
        }
        true
    }

    fn compact(&mut self) {
        if self.live == 0 {
            // The next document may come from another embedder, with another length.
            self.shard = None;
        }
        let mut next = 0..;
        let moved: Vec<Option<usize>> = self
            .slots
            .iter()
            .map(|slot| if slot.live { next.next() } else { None })
            .collect();
        self.postings.compact(&moved);
        self.slots.retain(|slot| slot.live);
        for held in self.documents.values_mut() {
            let length = held.slots.len();
            let start = moved.get(held.slots.start).copied().flatten().unwrap_or(0);
            held.slots = start..start + length;
        }
    }

    /// Where its vectors are, once it has some: to be [arranged](Tended::arrange) in the background.
    pub fn vectors(&self) -> Option<&Tended> {
        self.shard.as_ref()
    }

    /// How many chunks it holds.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether it holds no chunk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many documents it holds.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// The length of its embeddings, once it has one.
    pub fn dimensions(&self) -> Option<usize> {
        self.shard.as_ref().map(|shard| shard.dimensions())
    }

    /// The place of the slot with this id.
    pub(super) fn place(&self, id: u64) -> Option<usize> {
        self.slots.binary_search_by_key(&id, |slot| slot.id).ok()
    }

    fn slots_of<'a>(&'a self, documents: impl Iterator<Item = &'a Uuid>) -> Vec<usize> {
        documents
            .filter_map(|id| self.documents.get(id))
            .flat_map(|held| held.slots.clone())
            .collect()
    }
}

fn same(expected: Space, given: Space) -> Result<()> {
    match expected == given {
        true => Ok(()),
        false => Err(Error::new(
            Code::DataException,
            "vectors of two embedding models cannot be compared",
        )),
    }
}

/// What a search is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Keywords and vector, fused. The default.
    Hybrid,
    /// By the cosine of the embeddings only.
    Vector,
    /// By BM25 only: chunks that hold no term of the query are not results.
    Keyword,
}

impl std::str::FromStr for Mode {
    type Err = Error;

    /// # Errors
    /// [`Code::InvalidParameterValue`] naming the allowed values.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "hybrid" => Ok(Mode::Hybrid),
            "vector" => Ok(Mode::Vector),
            "keyword" => Ok(Mode::Keyword),
            _ => Err(Error::new(
                Code::InvalidParameterValue,
                "mode must be 'hybrid', 'vector' or 'keyword'",
            )),
        }
    }
}

/// A search over documents.
pub struct SearchQuery<'a> {
    /// The words to look for.
    pub text: &'a str,
    /// Their embedding, and the space it is of; without one a hybrid search goes by keywords alone.
    pub embedding: Option<(Space, &'a Embedding)>,
    /// Most results; none gives none.
    pub k: usize,
    /// What to rank by.
    pub mode: Mode,
    /// Which documents to rank; all without one.
    pub filter: Option<&'a Filter>,
}

/// A chunk that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its document.
    pub document: Uuid,
    /// The chunk.
    pub chunk: Uuid,
    /// Its number within the document.
    pub chunk_no: i32,
    /// How well it fits, larger is better: hybrid at most 1; vector the cosine; keyword the BM25.
    pub score: f64,
    /// Its place among the results, from 1.
    pub rank: i32,
}

/// A chunk near a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Its document.
    pub document: Uuid,
    /// The chunk.
    pub chunk: Uuid,
    /// Its number within the document.
    pub chunk_no: i32,
    /// How far; NaN for an all-zero vector by cosine.
    pub distance: f64,
}

/// What one transaction sees: the committed corpus, without what it has changed, and its own
/// changes on top. A search gives what it would give on a corpus built of just these documents.
#[derive(Clone, Copy)]
pub struct Layers<'a> {
    /// What is committed.
    pub base: &'a Corpus,
    /// The transaction's own documents; they hide those of `base` with the same id.
    pub overlay: Option<&'a Corpus>,
    /// Documents of `base` that the transaction has deleted or changed.
    pub hidden: &'a HashSet<Uuid>,
}

/// Equal scores are ordered by document, then by chunk, so that the order survives a restart.
pub(super) type Tie = (Uuid, i32, usize, usize);

impl<'a> Layers<'a> {
    fn views(&self, filter: Option<&Filter>) -> Vec<View<'a>> {
        let hidden = match self.overlay {
            Some(overlay) => {
                let changed = overlay.documents.keys().filter(|id| !self.hidden.contains(*id));
                self.base.slots_of(self.hidden.iter().chain(changed))
            }
            None => self.base.slots_of(self.hidden.iter()),
        };
        let layers = [(Some(self.base), hidden), (self.overlay, Vec::new())];
        let views = layers
            .into_iter()
            .filter_map(|(corpus, hidden)| View::of(corpus?, hidden, filter));
        views.collect()
    }

    /// The best chunks for a query, best first: always as many as match, up to `k`.
    ///
    /// # Errors
    /// [`Code::DataException`] when the embedding's space or length is not that of the corpus,
    /// [`Code::InvalidParameterValue`] for [`Mode::Vector`] without an embedding.
    pub fn search(&self, query: &SearchQuery) -> Result<Vec<Hit>> {
        let embedding = match (query.mode, query.embedding) {
            (Mode::Keyword, _) => None,
            (Mode::Vector, None) => {
                return Err(Error::new(
                    Code::InvalidParameterValue,
                    "a vector search needs an embedding",
                ));
            }
            (_, Some((space, embedding))) => {
                same(self.base.space, space)?;
                if let Some(overlay) = self.overlay {
                    same(overlay.space, space)?;
                }
                Some(embedding)
            }
            (Mode::Hybrid, None) => None,
        };
        let views = self.views(query.filter);
        let terms: Vec<u64> = match query.mode {
            Mode::Vector => Vec::new(),
            _ => Terms::of(query.text).counts().iter().map(|(hash, _)| *hash).collect(),
        };
        let mut sums = Statistics::default();
        for view in &views {
            view.corpus
                .postings
                .count(&terms, view.corpus.len(), &view.hidden, &mut sums);
        }
        let ceiling = ceiling(&sums);

        // Scores are negated: the heap keeps the smallest.
        let mut top = TopK::new(query.k);
        for (layer, view) in views.iter().enumerate() {
            let scores = || view.corpus.postings.score(&terms, &sums);
            match (query.mode, embedding) {
                (Mode::Vector, Some(embedding)) => {
                    for (distance, slot) in view.nearest(Metric::Cosine, embedding.as_slice(), query.k)? {
                        top.push(-(1.0 - distance), view.tie(layer, slot));
                    }
                }
                (_, Some(embedding)) => view.fuse(&scores(), ceiling, embedding, query.k, layer, &mut top)?,
                (_, None) => {
                    for (slot, score) in scores().into_iter().enumerate() {
                        if score > 0.0 && view.allows(slot) {
                            top.push(-score, view.tie(layer, slot));
                        }
                    }
                }
            }
        }
        let hits = top
            .into_sorted()
            .into_iter()
            .zip(1..)
            .map(|((negated, (document, no, layer, slot)), rank)| Hit {
                document,
                chunk: views[layer].corpus.slots[slot].chunk,
                chunk_no: no,
                score: if negated.is_nan() { 0.0 } else { -negated },
                rank,
            });
        Ok(hits.collect())
    }

    /// The chunks nearest to a vector, nearest first, NaN last: always as many as match, up to `k`.
    ///
    /// # Errors
    /// [`Code::DataException`] when the vector's length is not that of the corpus.
    pub fn nearest(&self, metric: Metric, query: &[f32], k: usize, filter: Option<&Filter>) -> Result<Vec<Neighbour>> {
        let views = self.views(filter);
        let mut top = TopK::new(k);
        for (layer, view) in views.iter().enumerate() {
            for (distance, slot) in view.nearest(metric, query, k)? {
                top.push(distance, view.tie(layer, slot));
            }
        }
        let found = top
            .into_sorted()
            .into_iter()
            .map(|(distance, (document, no, layer, slot))| Neighbour {
                document,
                chunk: views[layer].corpus.slots[slot].chunk,
                chunk_no: no,
                distance,
            });
        Ok(found.collect())
    }
}
