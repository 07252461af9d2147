//! One corpus as a search sees it: which of its chunks may be ranked, which are near, which hold the words.

use std::collections::HashSet;

use super::corpus::{COMPARED, Corpus, EQUALS, Slot, Tie};
use super::filter::Filter;
use super::fusion::fuse;
use crate::error::Result;
use crate::vector::{self, Embedding, Metric, Options, RowSet, Shard, TopK};

/// One corpus of the layers, and which of its slots may be ranked.
pub(super) struct View<'a> {
    pub corpus: &'a Corpus,
    shard: &'a Shard,
    /// Live slots that the transaction does not see.
    pub hidden: Vec<usize>,
    /// The ids of these.
    hidden_ids: RowSet,
    /// Slots that the filter leaves, by id; absent when every live slot may be ranked.
    matching: Option<RowSet>,
}

impl<'a> View<'a> {
    /// `None` for a corpus without chunks.
    pub fn of(corpus: &'a Corpus, hidden: Vec<usize>, filter: Option<&Filter>) -> Option<Self> {
        let ids = |places: &mut Vec<usize>| {
            places.sort_unstable();
            places.iter().map(|place| corpus.slots[*place].id).collect::<RowSet>()
        };
        let matching = filter.map(|filter| {
            let held = corpus.documents.values();
            let wanted = held.filter(|held| filter.matches(&held.metadata));
            // Sets grow fastest in order.
            ids(&mut wanted.flat_map(|held| held.slots.clone()).collect())
        });
        let mut hidden = hidden;
        Some(Self {
            corpus,
            shard: corpus.vectors()?,
            hidden_ids: ids(&mut hidden),
            hidden,
            matching,
        })
    }

    /// Whether a slot may be ranked.
    pub fn allows(&self, slot: usize) -> bool {
        let Slot { id, live, .. } = self.corpus.slots[slot];
        let matches = |rows: &RowSet| rows.contains(id);
        live && self.matching.as_ref().is_none_or(matches) && !self.hidden_ids.contains(id)
    }

    /// Where a slot stands among equally good ones.
    pub fn tie(&self, layer: usize, slot: usize) -> Tie {
        let Slot { document, no, .. } = self.corpus.slots[slot];
        (document, no, layer, slot)
    }

    fn options<'b>(&'b self, matching: Option<&'b RowSet>) -> Options<'b> {
        Options {
            filter: matching.map(vector::Filter::Rows),
            hidden: Some(&self.hidden_ids),
            ..Options::default()
        }
    }

    fn slots_of(&self, hits: &[vector::Hit]) -> Vec<(f64, usize)> {
        let found = hits
            .iter()
            .filter_map(|hit| Some((hit.distance, self.corpus.place(hit.id)?)));
        found.collect()
    }

    /// The slots nearest to a vector, nearest first, NaN last: `k` of them and all that are as near as the last, or as
    /// many as match.
    ///
    /// # Errors
    /// [`Code::DataException`](crate::error::Code::DataException) for a vector of another length.
    pub fn nearest(&self, metric: Metric, query: &[f32], k: usize) -> Result<Vec<(f64, usize)>> {
        if metric != Metric::Cosine {
            return self.scan(metric, query, k);
        }
        let mut wanted = k.saturating_add(EQUALS);
        loop {
            let (hits, _) = self
                .shard
                .search_traced(query, wanted, &self.options(self.matching.as_ref()))?;
            let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
            let cut = match (k.checked_sub(1).and_then(|last| hits.get(last)), hits.last()) {
                (Some(last_wanted), Some(last)) => same(last_wanted.distance, last.distance),
                _ => false,
            };
            if hits.len() < wanted || !cut {
                return Ok(self.slots_of(&hits));
            }
            wanted = wanted.saturating_mul(2);
        }
    }

    /// The same for a distance for which the vectors are not arranged, by comparing all.
    fn scan(&self, metric: Metric, query: &[f32], k: usize) -> Result<Vec<(f64, usize)>> {
        let mut top = TopK::new(k);
        self.shard.moment().scan(metric, query, |id, distance| {
            if let Some(slot) = self.corpus.place(id)
                && self.allows(slot)
            {
                top.push(distance, self.tie(0, slot));
            }
        })?;
        let nearest = top.into_sorted().into_iter();
        Ok(nearest.map(|(distance, (.., slot))| (distance, slot)).collect())
    }

    /// Offers the slots that may be among the `k` best by [`fuse`], given each slot's score by words.
    ///
    /// Whatever is not among the nearest is no nearer than the last of these. So of the rest only those can be better
    /// than what is found already whose words alone make up for that: Fagin, Lotem & Naor 2001, "Optimal aggregation
    /// algorithms for middleware".
    ///
    /// # Errors
    /// [`Code::DataException`](crate::error::Code::DataException) for a vector of another length.
    pub fn fuse(
        &self,
        scores: &[f64],
        ceiling: f64,
        embedding: &Embedding,
        k: usize,
        layer: usize,
        top: &mut TopK<Tie>,
    ) -> Result<()> {
        let query = embedding.as_slice();
        let mut offer = |slot: usize, cosine: f64| {
            top.push(-fuse(scores[slot], ceiling, cosine), self.tie(layer, slot));
            top.bound()
        };
        let near = self.nearest(Metric::Cosine, query, k)?;
        let mut bound = f64::INFINITY;
        for (distance, slot) in &near {
            bound = offer(*slot, 1.0 - distance);
        }
        let Some((farthest, _)) = near.last().filter(|_| k > 0) else {
            return Ok(());
        };
        let mut seen: HashSet<usize> = near.iter().map(|(_, slot)| *slot).collect();
        // A vector without direction comes last among the near ones, and counts as one at a right angle.
        if near.iter().any(|(distance, _)| distance.is_nan() || *distance > 1.0) {
            for slot in self.corpus.aimless.iter().filter_map(|id| self.corpus.place(*id)) {
                if self.allows(slot) && seen.insert(slot) {
                    bound = offer(slot, f64::NAN);
                }
            }
        }
        let best_of_others = 1.0 - farthest;
        let may_be_better = |score: f64, bound: f64| -fuse(score, ceiling, best_of_others) <= bound;
        let mut others: Vec<(f64, usize)> = (0..)
            .zip(scores)
            .filter(|(_, score)| **score > 0.0 && may_be_better(**score, bound))
            .filter(|(slot, _)| self.allows(*slot) && !seen.contains(slot))
            .map(|(slot, score)| (*score, slot))
            .collect();
        others.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for others in others.chunks(COMPARED) {
            // The best of the rest decides for all of it.
            if !others.first().is_some_and(|(score, _)| may_be_better(*score, bound)) {
                break;
            }
            let mut ids: Vec<u64> = others.iter().map(|(_, slot)| self.corpus.slots[*slot].id).collect();
            ids.sort_unstable();
            let rows: RowSet = ids.into_iter().collect();
            let (hits, _) = self
                .shard
                .search_traced(query, rows.len(), &self.options(Some(&rows)))?;
            for (distance, slot) in self.slots_of(&hits) {
                bound = offer(slot, 1.0 - distance);
            }
        }
        Ok(())
    }
}
