//! A corpus against its twins: a naive BM25, a full sort, and a corpus built afresh.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::corpus::*;
use super::embedder::embed;
use super::filter::Filter;
use super::fusion::fuse;
use super::terms::{Terms, words};
use crate::error::Code;
use crate::vector::{Cancel, Embedding, Metric};

/// A document as the tests make it up: an id, a title, chunks of text, and a kind to filter by.
#[derive(Clone, Debug)]
struct Made {
    id: u8,
    title: String,
    chunks: Vec<String>,
    kind: u8,
}

impl Made {
    fn entry(&self) -> DocumentEntry {
        let id = u128::from(self.id);
        let chunks = self.chunks.iter().zip(0..).map(|(text, no)| ChunkEntry {
            id: Uuid::from_u128(id << 16 | no as u128),
            no,
            terms: Terms::of(text),
            embedding: vector(text),
        });
        DocumentEntry {
            id: Uuid::from_u128(id),
            title: self.title.clone(),
            metadata: Arc::new(json!({ "kind": self.kind })),
            space: Space::default(),
            chunks: chunks.collect(),
        }
    }
}

/// Three numbers, often equal, sometimes opposite and sometimes all zero, so that ties, obtuse angles and NaN are met.
fn vector(text: &str) -> Embedding {
    let count = |letter| text.matches(letter).count().min(2) as f32;
    let numbers = [('a', 'd'), ('b', 'e'), ('c', 'f')].map(|(more, less)| count(more) - count(less));
    Embedding::new(numbers.to_vec()).unwrap()
}

fn made() -> impl Strategy<Value = Made> {
    let text = "([abcdef] |and |[abc][de] ){0,12}";
    (0u8..12, "([abcx] ){0,3}", prop::collection::vec(text, 0..4), 0u8..3).prop_map(|(id, title, chunks, kind)| Made {
        id,
        title,
        chunks,
        kind,
    })
}

fn corpus(documents: &[Made]) -> Corpus {
    let mut corpus = Corpus::default();
    for document in documents {
        corpus.upsert(document.entry()).unwrap();
    }
    corpus
}

fn alone(base: &Corpus, hidden: &HashSet<Uuid>, query: &SearchQuery) -> Vec<Hit> {
    Layers {
        base,
        overlay: None,
        hidden,
    }
    .search(query)
    .unwrap()
}

/// BM25 as the paper writes it, over all chunks, one at a time.
fn naive_bm25(documents: &HashMap<u8, Made>, query: &str) -> Vec<(u128, f64)> {
    let stems = |text: &str| -> Vec<String> {
        words(text)
            .filter(|word| !word.is_stop())
            .map(|word| word.stem())
            .collect()
    };
    let chunks: Vec<(u128, Vec<String>)> = documents
        .values()
        .flat_map(|made| {
            made.chunks.iter().enumerate().map(|(no, text)| {
                let all = stems(text).into_iter().chain(stems(&made.title)).collect();
                (u128::from(made.id) << 16 | no as u128, all)
            })
        })
        .collect();
    let average = chunks.iter().map(|(_, terms)| terms.len()).sum::<usize>() as f64 / chunks.len().max(1) as f64;
    let asked: HashSet<String> = stems(query).into_iter().collect();
    let score = |terms: &[String]| -> f64 {
        asked
            .iter()
            .map(|term| {
                let holders = chunks.iter().filter(|(_, terms)| terms.contains(term)).count() as f64;
                let rarity = (1.0 + (chunks.len() as f64 - holders + 0.5) / (holders + 0.5)).ln();
                let count = terms.iter().filter(|held| *held == term).count() as f64;
                rarity * count * 1.9 / (count + 0.9 * (0.6 + 0.4 * terms.len() as f64 / average))
            })
            .sum()
    };
    chunks
        .iter()
        .map(|(id, terms)| (*id, score(terms)))
        .filter(|(_, score)| *score > 0.0)
        .collect()
}

/// The score that no chunk can reach.
fn naive_ceiling(documents: &HashMap<u8, &Made>, query: &str) -> f64 {
    let stems = |text: &str| -> HashSet<String> {
        let words = words(text).filter(|word| !word.is_stop());
        words.map(|word| word.stem()).collect()
    };
    let chunks: Vec<HashSet<String>> = documents
        .values()
        .flat_map(|made| made.chunks.iter().map(|text| &stems(text) | &stems(&made.title)))
        .collect();
    let rarity = |term: &String| {
        let holders = chunks.iter().filter(|terms| terms.contains(term)).count() as f64;
        (1.0 + (chunks.len() as f64 - holders + 0.5) / (holders + 0.5)).ln()
    };
    stems(query).iter().map(|term| rarity(term) * 1.9).sum()
}

proptest! {
    #[test]
    fn keyword_scores_agree_with_a_naive_bm25(documents in prop::collection::vec(made(), 0..30), query in "([abcdefx] |ad ){0,4}") {
        let mut latest = HashMap::new();
        for document in &documents {
            latest.insert(document.id, document.clone());
        }
        let expected: HashMap<u128, f64> = naive_bm25(&latest, &query).into_iter().collect();
        let query = SearchQuery { text: &query, embedding: None, k: 1000, mode: Mode::Keyword, filter: None };
        let hits = alone(&corpus(&documents), &HashSet::new(), &query);
        prop_assert_eq!(hits.len(), expected.len());
        for (hit, rank) in hits.iter().zip(1..) {
            prop_assert_eq!(hit.rank, rank);
            prop_assert!((hit.score - expected[&hit.chunk.as_u128()]).abs() < 1e-9);
        }
        prop_assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
    }

    #[test]
    fn a_fused_ranking_agrees_with_scoring_every_chunk(
        documents in prop::collection::vec(made(), 0..40),
        query in "([abcdefx] |ad ){0,4}",
        k in prop::sample::select(vec![0usize, 1, 2, 7, usize::MAX]),
        arranged in any::<bool>(),
    ) {
        let corpus = corpus(&documents);
        if let Some(vectors) = corpus.vectors().filter(|_| arranged) {
            vectors.build(&Cancel::new(), None).unwrap();
        }
        let ask = |mode, k, embedding| {
            let query = SearchQuery { text: &query, embedding, k, mode, filter: None };
            alone(&corpus, &HashSet::new(), &query)
        };
        let embedding = vector(&query);
        let keyword: HashMap<Uuid, f64> = ask(Mode::Keyword, usize::MAX, None).iter().map(|hit| (hit.chunk, hit.score)).collect();
        let latest: HashMap<u8, &Made> = documents.iter().map(|made| (made.id, made)).collect();
        let ceiling = naive_ceiling(&latest, &query);
        let mut all: Vec<(f64, Uuid, i32, Uuid)> = Vec::new();
        for entry in latest.values().map(|made| made.entry()) {
            for chunk in entry.chunks {
                let cosine = 1.0 - Metric::Cosine.distance(embedding.as_slice(), chunk.embedding.as_slice());
                let words = keyword.get(&chunk.id).copied().unwrap_or(0.0);
                all.push((-fuse(words, ceiling, cosine), entry.id, chunk.no, chunk.id));
            }
        }
        // Sums in another order differ in their last digits.
        let rounded = |score: f64| (score * 1e9).round() as i64;
        all.sort_by_key(|one| (rounded(one.0), one.1, one.2));
        all.truncate(k);
        let hits = ask(Mode::Hybrid, k, Some((Space::default(), &embedding)));
        let of_twin: Vec<(i64, Uuid)> = all.iter().map(|(score, .., chunk)| (rounded(-score), *chunk)).collect();
        let mut found: Vec<(i64, Uuid, i32, Uuid)> = hits.iter().map(|hit| (-rounded(hit.score), hit.document, hit.chunk_no, hit.chunk)).collect();
        found.sort();
        let found: Vec<(i64, Uuid)> = found.into_iter().map(|(score, .., chunk)| (-score, chunk)).collect();
        prop_assert_eq!(found, of_twin);
    }

    #[test]
    fn layers_agree_with_a_corpus_built_afresh(
        committed in prop::collection::vec(made(), 0..20),
        changed in prop::collection::vec(made(), 0..6),
        deleted in prop::collection::hash_set(0u8..12, 0..4),
        query in "([abcdefx] |ad ){0,4}",
        k in prop::sample::select(vec![0usize, 1, 3, usize::MAX]),
        kind in prop::option::of(0u8..4),
        mode in prop::sample::select(vec![Mode::Hybrid, Mode::Vector, Mode::Keyword]),
    ) {
        let base = corpus(&committed);
        let overlay = corpus(&changed);
        let hidden: HashSet<Uuid> = deleted.iter().map(|id| Uuid::from_u128(u128::from(*id))).collect();
        let layers = Layers { base: &base, overlay: Some(&overlay), hidden: &hidden };

        let mut latest: HashMap<u8, &Made> = committed.iter().map(|made| (made.id, made)).collect();
        latest.retain(|id, _| !deleted.contains(id));
        latest.extend(changed.iter().map(|made| (made.id, made)));
        // A hash map's order: the order of insertion must not matter either.
        let fresh = corpus(&latest.values().copied().cloned().collect::<Vec<_>>());
        let none = HashSet::new();
        let plain = Layers { base: &fresh, overlay: None, hidden: &none };

        let filter = kind.map(|kind| Filter::new(json!({ "kind": kind })).unwrap());
        let embedding = vector(&query);
        let search = SearchQuery { text: &query, embedding: Some((Space::default(), &embedding)), k, mode, filter: filter.as_ref() };
        let hits = layers.search(&search).unwrap();
        prop_assert_eq!(&hits, &plain.search(&search).unwrap());

        let wanted = |made: &&&Made| kind.is_none_or(|kind| made.kind == kind);
        let matches: usize = latest.values().filter(wanted).map(|made| made.chunks.len()).sum();
        if mode != Mode::Keyword {
            prop_assert_eq!(hits.len(), matches.min(k));
        }
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::L1] {
            let near = layers.nearest(metric, embedding.as_slice(), k, filter.as_ref()).unwrap();
            prop_assert_eq!(near.len(), matches.min(k));
            let fresh = plain.nearest(metric, embedding.as_slice(), k, filter.as_ref()).unwrap();
            // As text, because NaN is not equal to itself.
            prop_assert_eq!(format!("{near:?}"), format!("{fresh:?}"));
            prop_assert!(near.is_sorted_by(|a, b| b.distance.is_nan() || a.distance <= b.distance));
        }
    }
}

#[test]
fn churn_is_compacted_and_changes_nothing() {
    let make = |id: u8, turn: usize| Made {
        id,
        title: format!("title{id}"),
        chunks: (0..3).map(|no| format!("a b{no} turn{turn} word{id}")).collect(),
        kind: id % 3,
    };
    let mut churned = Corpus::default();
    for turn in 0..200 {
        for id in 0..12 {
            churned.upsert(make(id, turn).entry()).unwrap();
        }
        churned.remove(Uuid::from_u128(3));
    }
    let fresh = corpus(
        &(0..12)
            .filter(|id| *id != 3)
            .map(|id| make(id, 199))
            .collect::<Vec<_>>(),
    );
    assert_eq!((churned.len(), churned.documents()), (33, 11));
    for mode in [Mode::Hybrid, Mode::Keyword] {
        let embedding = vector("a b");
        let query = SearchQuery {
            text: "word7 b1 turn3 turn199",
            embedding: Some((Space::default(), &embedding)),
            k: 50,
            mode,
            filter: None,
        };
        let none = HashSet::new();
        assert_eq!(alone(&churned, &none, &query), alone(&fresh, &none, &query));
    }
    for id in 0..12 {
        assert_eq!(churned.remove(Uuid::from_u128(id)), id != 3);
    }
    assert!(churned.is_empty() && churned.dimensions().is_none());
}

#[test]
fn a_wrong_length_is_refused_and_changes_nothing() {
    let document = Made {
        id: 1,
        title: String::new(),
        chunks: vec!["a".into(), "b".into()],
        kind: 0,
    };
    let mut base = corpus(std::slice::from_ref(&document));
    let mut wrong = Made {
        id: 2,
        ..document.clone()
    }
    .entry();
    wrong.chunks[1].embedding = embed("four").unwrap();
    assert_eq!(
        base.upsert(wrong).unwrap_err().message(),
        "expected 3 dimensions, not 1024"
    );
    assert_eq!((base.len(), base.documents()), (2, 1));
    let none = HashSet::new();
    let layers = Layers {
        base: &base,
        overlay: None,
        hidden: &none,
    };
    let error = layers.nearest(Metric::L2, &[1.0, 2.0], 1, None).unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::DataException, "expected 3 dimensions, not 2")
    );
    let embedding = embed("a").unwrap();
    for mode in [Mode::Hybrid, Mode::Vector] {
        let query = SearchQuery {
            text: "a",
            embedding: Some((Space::default(), &embedding)),
            k: 1,
            mode,
            filter: None,
        };
        assert_eq!(layers.search(&query).unwrap_err().code(), Code::DataException);
    }
    // The only document may come back with vectors of another length.
    let mut alone = document.entry();
    for chunk in &mut alone.chunks {
        chunk.embedding = embed("another embedder").unwrap();
    }
    base.upsert(alone).unwrap();
    assert_eq!((base.len(), base.dimensions()), (2, Some(1024)));
    assert_eq!(
        "bm25".parse::<Mode>().unwrap_err().message(),
        "mode must be 'hybrid', 'vector' or 'keyword'"
    );
}

#[test]
fn vectors_of_two_models_are_never_compared() {
    let made = |id: u8| Made {
        id,
        title: String::new(),
        chunks: vec!["a b".to_owned()],
        kind: 0,
    };
    let mut base = corpus(&[made(1)]);
    // Of equal length, yet of another model.
    let mut other = made(2).entry();
    other.space = Space(1);
    assert_eq!(base.upsert(other.clone()).unwrap_err().code(), Code::DataException);
    assert_eq!((base.documents(), base.space()), (1, Space(0)));

    let mut overlay = Corpus::of(Space(1));
    overlay.upsert(other).unwrap();
    let (hidden, embedding) = (HashSet::new(), vector("a"));
    let query = |space| SearchQuery {
        text: "a",
        embedding: Some((space, &embedding)),
        k: 5,
        mode: Mode::Hybrid,
        filter: None,
    };
    let search = |overlay, space| {
        let layers = Layers {
            base: &base,
            overlay,
            hidden: &hidden,
        };
        layers.search(&query(space)).map(|hits| hits.len())
    };
    assert_eq!(search(None, Space(0)).unwrap(), 1);
    assert_eq!(search(None, Space(1)).unwrap_err().code(), Code::DataException);
    for space in [Space(0), Space(1)] {
        assert_eq!(search(Some(&overlay), space).unwrap_err().code(), Code::DataException);
    }
}

/// Numbers in a few directions, as those of texts are.
fn direction(i: usize) -> Embedding {
    let mut state = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let group = i % 12;
    let numbers = (0..24).map(|d| number() + f32::from(u8::from(d % 12 == group)));
    Embedding::new(numbers.collect::<Vec<f32>>()).unwrap()
}

#[test]
fn a_graph_gives_what_comparing_all_gives() {
    const DOCUMENTS: usize = 2_000;
    let entry = |i: usize, of: usize| DocumentEntry {
        id: Uuid::from_u128(i as u128 + 1),
        title: String::new(),
        metadata: Arc::new(json!({ "part": i % 100 })),
        space: Space::default(),
        chunks: vec![ChunkEntry {
            id: Uuid::from_u128((i as u128 + 1) << 64),
            no: 0,
            terms: Terms::of(&format!("word{} word{}", i % 7, i % 300)),
            embedding: direction(of),
        }],
    };
    let mut corpus = Corpus::default();
    (0..DOCUMENTS).for_each(|i| corpus.upsert(entry(i, i)).unwrap());
    let vectors = corpus.vectors().unwrap();
    assert!(vectors.build(&Cancel::new(), None).unwrap() && vectors.in_graph() > DOCUMENTS / 2);
    // Deleted and changed after the graph was built.
    let mut of: HashMap<usize, usize> = (0..DOCUMENTS).map(|i| (i, i)).collect();
    for i in (0..DOCUMENTS).step_by(50) {
        of.remove(&i);
        assert!(corpus.remove(entry(i, i).id));
        of.insert(i + 1, i + 100_000);
        corpus.upsert(entry(i + 1, i + 100_000)).unwrap();
    }
    let none = HashSet::new();
    let layers = Layers {
        base: &corpus,
        overlay: None,
        hidden: &none,
    };
    for (i, now) in &of {
        let found = layers
            .nearest(Metric::Cosine, direction(*now).as_slice(), 1, None)
            .unwrap();
        assert_eq!(found[0].document, entry(*i, *i).id, "every stored vector finds itself");
    }
    let (mut found, mut wanted) = (0, 0);
    for query in (0..100).map(|i| direction(i + 500_000)) {
        for part in [None, Some(7), Some(100)] {
            let filter = part.map(|part| Filter::new(json!({ "part": part })).unwrap());
            let mut all: Vec<(f64, Uuid)> = of
                .iter()
                .filter(|(i, _)| part.is_none_or(|part| *i % 100 == part))
                .map(|(i, now)| {
                    let distance = Metric::Cosine.distance(query.as_slice(), direction(*now).as_slice());
                    (distance, entry(*i, *i).id)
                })
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            all.truncate(10);
            let near = layers
                .nearest(Metric::Cosine, query.as_slice(), 10, filter.as_ref())
                .unwrap();
            assert_eq!(near.len(), all.len());
            wanted += all.len();
            found += near
                .iter()
                .filter(|near| all.iter().any(|(_, id)| *id == near.document))
                .count();
        }
    }
    assert!(found * 1000 >= wanted * 995, "{found} of {wanted}");
}
