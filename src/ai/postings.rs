//! The inverted index: which chunks hold which term, and their BM25 scores.
//!
//! Okapi BM25 as in Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and
//! Beyond", with that paper's BM25F for two fields, text and title: a term of the title counts as
//! [`TITLE_WEIGHT`] terms of the text.

use std::collections::HashMap;

use super::terms::Terms;

/// How soon more of the same term stops to matter. This and [`B`] are the values that Anserini
/// (Yang, Fang & Lin 2017) uses for passages, which differ less in length than documents do.
const K1: f64 = 0.9;
/// How much a long chunk is held against it.
const B: f64 = 0.4;
/// See above.
const TITLE_WEIGHT: u32 = 1;

/// Postings over slots 0, 1, 2... in the order of insertion. Which slots are live is the
/// caller's to know; a removed slot's postings stay until [`Postings::compact`].
#[derive(Default)]
pub(super) struct Postings {
    numbers: HashMap<u64, u32>,
    lists: Vec<List>,
    /// Per slot, its terms' numbers in ascending order, so that a removal can be counted.
    terms: Vec<Box<[u32]>>,
    /// Per slot, its weighted length.
    lengths: Vec<u32>,
    live_length: u64,
}

#[derive(Default)]
struct List {
    /// Live slots with the term.
    live: u32,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    slot: u32,
    text: u16,
    title: u16,
}

/// What the scores of one search are computed from; sums over all that a session sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Statistics {
    pub chunks: u64,
    pub length: u64,
    /// Per query term, how many chunks hold it.
    pub holders: Vec<u64>,
}

impl Postings {
    /// Adds a chunk under the next slot.
    pub fn push(&mut self, text: &Terms, title: &Terms) {
        let slot = self.lengths.len() as u32;
        let mut held: HashMap<u32, Entry> = HashMap::with_capacity(text.counts().len() + title.counts().len());
        for (terms, in_title) in [(text, false), (title, true)] {
            for (hash, count) in terms.counts() {
                let next = self.lists.len() as u32;
                let number = *self.numbers.entry(*hash).or_insert(next);
                if number == next {
                    self.lists.push(List::default());
                }
                let entry = held.entry(number).or_insert(Entry {
                    slot,
                    text: 0,
                    title: 0,
                });
                if in_title {
                    entry.title = *count
                } else {
                    entry.text = *count
                }
            }
        }
        let mut terms: Box<[u32]> = held.keys().copied().collect();
        terms.sort_unstable();
        for (number, entry) in held {
            let list = &mut self.lists[number as usize];
            list.live += 1;
            list.entries.push(entry);
        }
        let length = text
            .length()
            .saturating_add(title.length().saturating_mul(TITLE_WEIGHT));
        self.terms.push(terms);
        self.lengths.push(length);
        self.live_length += u64::from(length);
    }

    /// Counts a live slot out.
    pub fn remove(&mut self, slot: usize) {
        for number in std::mem::take(&mut self.terms[slot]) {
            self.lists[number as usize].live -= 1;
        }
        self.live_length -= u64::from(self.lengths[slot]);
    }

    /// Renumbers the slots; those without a new number go.
    pub fn compact(&mut self, moved: &[Option<usize>]) {
        for list in &mut self.lists {
            list.entries.retain_mut(|entry| match moved[entry.slot as usize] {
                Some(slot) => {
                    entry.slot = slot as u32;
                    true
                }
                None => false,
            });
            list.entries.shrink_to_fit();
        }
        let mut kept = moved.iter().map(Option::is_some);
        self.terms.retain(|_| kept.next().unwrap_or(false));
        let mut kept = moved.iter().map(Option::is_some);
        self.lengths.retain(|_| kept.next().unwrap_or(false));
        // Terms that nothing holds any more go too, or a corpus that changes daily would grow for ever.
        let mut next = 0;
        let renumbered: Vec<Option<u32>> = self
            .lists
            .iter()
            .map(|list| {
                let number = (list.live > 0).then_some(next);
                next += u32::from(list.live > 0);
                number
            })
            .collect();
        self.lists.retain(|list| list.live > 0);
        self.numbers.retain(|_, number| match renumbered[*number as usize] {
            Some(new) => {
                *number = new;
                true
            }
            None => false,
        });
        for number in self.terms.iter_mut().flatten() {
            // A live slot's terms are held at least by that slot, so each has a new number.
            *number = renumbered[*number as usize].unwrap_or(*number);
        }
    }

    /// Adds this index's part to the statistics of a query, without the `hidden` slots (all live).
    pub fn count(&self, query: &[u64], chunks: usize, hidden: &[usize], sums: &mut Statistics) {
        sums.chunks += chunks.saturating_sub(hidden.len()) as u64;
        sums.length += self.live_length - hidden.iter().map(|slot| u64::from(self.lengths[*slot])).sum::<u64>();
        sums.holders.resize(query.len(), 0);
        for (hash, holders) in query.iter().zip(&mut sums.holders) {
            let Some(number) = self.numbers.get(hash) else { continue };
            let hiding = hidden
                .iter()
                .filter(|slot| self.terms[**slot].binary_search(number).is_ok())
                .count();
            *holders += u64::from(self.lists[*number as usize].live) - hiding as u64;
        }
    }

    /// The BM25 score of every slot, dead ones too (their scores mean nothing).
    pub fn score(&self, query: &[u64], sums: &Statistics) -> Vec<f64> {
        let mut scores = vec![0.0; self.lengths.len()];
        let average = sums.length as f64 / (sums.chunks.max(1)) as f64;
        for (hash, holders) in query.iter().zip(&sums.holders) {
            let Some(number) = self.numbers.get(hash) else { continue };
            let rarity = rarity(sums.chunks, *holders);
            for entry in &self.lists[*number as usize].entries {
                let count = f64::from(u32::from(entry.text) + u32::from(entry.title) * TITLE_WEIGHT);
                let length = f64::from(self.lengths[entry.slot as usize]) / average;
                scores[entry.slot as usize] += rarity * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length));
            }
        }
        scores
    }
}

/// The weight of a term that so many chunks hold: Lucene's form of the paper's, never negative.
fn rarity(chunks: u64, holders: u64) -> f64 {
    (1.0 + (chunks.saturating_sub(holders) as f64 + 0.5) / (holders as f64 + 0.5)).ln()
}

/// The score that no chunk can reach: every term of the query, endlessly often.
pub(super) fn ceiling(sums: &Statistics) -> f64 {
    sums.holders
        .iter()
        .map(|holders| rarity(sums.chunks, *holders) * (K1 + 1.0))
        .sum()
}
