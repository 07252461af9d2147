//! A shard against a list of its rows, in every state that writes, coding, building and reading back
//! can bring it to.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::rotation::mix;
use super::state::SEGMENT_ROWS;
use super::*;
use crate::error::Code;

pub(super) const METRICS: [Metric; 4] = [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::L1];
pub(super) const METHODS: [Option<Method>; 4] = [None, Some(Method::Exact), Some(Method::Codes), Some(Method::Graph)];

fn embedding(values: &[f32]) -> Embedding {
    Embedding::new(values.to_vec()).unwrap()
}

/// Rows in a few groups, as texts are.
pub(super) fn grouped(count: usize, dimensions: usize, seed: u64) -> Vec<(u64, Embedding)> {
    let mut state = seed;
    let mut number = || (mix(&mut state) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let middles: Vec<f32> = (0..8 * dimensions).map(|_| number()).collect();
    let row = |i: usize| {
        let middle = &middles[i % 8 * dimensions..][..dimensions];
        middle.iter().map(|x| x + number() * 0.7).collect::<Vec<f32>>()
    };
    let rows: Vec<Vec<f32>> = (0..count).map(row).collect();
    (0..).zip(rows).map(|(id, row)| (id, embedding(&row))).collect()
}

fn filled(metric: Metric, rows: &[(u64, Embedding)]) -> Shard {
    let shard = Shard::new(metric, rows[0].1.dimensions());
    shard.insert(rows).unwrap();
    shard
}

pub(super) fn built(metric: Metric, rows: &[(u64, Embedding)]) -> Shard {
    let shard = filled(metric, rows);
    assert!(shard.build(&Cancel::new(), None).unwrap());
    assert!(shard.in_graph() > 0);
    shard
}

/// The twin: every distance, then a sort.
pub(super) fn naive<'a>(
    metric: Metric,
    rows: impl Iterator<Item = (u64, &'a Embedding)>,
    query: &[f32],
    k: usize,
) -> Vec<Hit> {
    let mut all: Vec<Hit> = rows
        .map(|(id, row)| Hit {
            id,
            distance: metric.distance(query, row.as_slice()) + 0.0,
        })
        .collect();
    all.sort_by(|a, b| {
        let nan_last = a.distance.is_nan().cmp(&b.distance.is_nan());
        nan_last
            .then(a.distance.partial_cmp(&b.distance).unwrap_or(std::cmp::Ordering::Equal))
            .then(a.id.cmp(&b.id))
    });
    all.truncate(k);
    all
}

fn same(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-5 * (1.0 + a.abs())
}

/// How many of `hits` are as near as the twin's; everything else must hold for each.
pub(super) fn check(
    metric: Metric,
    hits: &[Hit],
    twin: &[Hit],
    query: &[f32],
    rows: &BTreeMap<u64, Embedding>,
) -> usize {
    assert_eq!(hits.len(), twin.len(), "always as many as match, up to k");
    let mut ids: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
    for hit in hits {
        let row = rows.get(&hit.id).expect("a row that is there and may be given");
        assert!(
            same(hit.distance, metric.distance(query, row.as_slice())),
            "exact distances"
        );
    }
    for pair in hits.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert!(a.distance <= b.distance || b.distance.is_nan(), "ascending, NaN last");
        assert!(a.distance != b.distance || a.id < b.id, "equal distances by id");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), hits.len(), "no row twice");
    let far = twin.last().map_or(0.0, |hit| hit.distance);
    let near = |hit: &&Hit| far.is_nan() || hit.distance <= far || hit.distance <= far + 1e-5 * (1.0 + far.abs());
    hits.iter().filter(near).count()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<(u64, Vec<f32>)>),
    Remove(Vec<u64>),
    Code,
    Build,
    Reopen,
    Search {
        query: Vec<f32>,
        k: usize,
        filter: u64,
        hidden: Vec<u64>,
        overlay: Vec<(u64, Vec<f32>)>,
    },
}

const PROPERTY_DIMENSIONS: usize = 5;

fn vectors() -> impl Strategy<Value = Vec<f32>> {
    // Few values, so that equal vectors and equal distances are common, and some that cannot be coded.
    let value = prop::sample::select(vec![-1f32, -0.0, 0.0, 0.0, 0.5, 1.0, 2.0, 3.0]);
    let usual = prop::collection::vec(value, PROPERTY_DIMENSIONS);
    let odd = prop::sample::select(vec![
        vec![0.0; PROPERTY_DIMENSIONS],
        vec![f32::MAX; PROPERTY_DIMENSIONS],
        vec![1e-30; PROPERTY_DIMENSIONS],
        vec![f32::MIN_POSITIVE / 4.0; PROPERTY_DIMENSIONS],
        vec![1e14, 0.0, -1e14, 3.0, 1.0],
    ]);
    prop_oneof![9 => usual, 1 => odd]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = |most| prop::collection::vec((0u64..60, vectors()), 0..most);
    let k = prop::sample::select(vec![0usize, 1, 3, 10, 70, 1 << 31]);
    let hidden = prop::collection::vec(0u64..60, 0..4);
    let step = prop_oneof![
        4 => rows(30).prop_map(Step::Insert),
        2 => prop::collection::vec(0u64..60, 0..12).prop_map(Step::Remove),
        1 => Just(Step::Code),
        1 => Just(Step::Build),
        1 => Just(Step::Reopen),
        6 => (vectors(), k, 1u64..5, hidden, rows(3))
            .prop_map(|(query, k, filter, hidden, overlay)| Step::Search { query, k, filter, hidden, overlay }),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_history_gives_what_a_list_of_the_rows_gives(metric in prop::sample::select(METRICS.to_vec()), steps in steps()) {
        let mut shard = Shard::new(metric, PROPERTY_DIMENSIONS);
        let mut model: BTreeMap<u64, Embedding> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(rows) => {
                    let rows: Vec<(u64, Embedding)> = rows.iter().map(|(id, row)| (*id, embedding(row))).collect();
                    shard.insert(&rows).unwrap();
                    model.extend(rows);
                }
                Step::Remove(ids) => {
                    let removed = ids.iter().filter(|id| model.remove(id).is_some()).count();
                    prop_assert_eq!(shard.remove(&ids), removed);
                }
                Step::Code => {
                    shard.code_rows(1);
                }
                Step::Build => {
                    shard.build(&Cancel::new(), None).unwrap();
                }
                Step::Reopen => {
                    if let Some(bytes) = shard.sealed() {
                        let rows = model.iter().map(|(id, row)| (*id, row));
                        shard = Shard::open(metric, PROPERTY_DIMENSIONS, &bytes, rows).unwrap();
                    }
                }
                Step::Search { query, k, filter, hidden, overlay } => {
                    let hidden: RowSet = hidden.into_iter().chain(overlay.iter().map(|(id, _)| *id)).collect();
                    let overlay: BTreeMap<u64, Vec<f32>> = overlay.into_iter().collect();
                    let over: Vec<(u64, &[f32])> = overlay.iter().map(|(id, row)| (*id, row.as_slice())).collect();
                    let rows: RowSet = (0..60u64).filter(|id| id.is_multiple_of(filter)).collect();
                    let keeps = |id: u64| id.is_multiple_of(filter);
                    let mut given: BTreeMap<u64, Embedding> = model
                        .iter()
                        .filter(|(id, _)| keeps(**id) && !hidden.contains(**id))
                        .map(|(id, row)| (*id, row.clone()))
                        .collect();
                    given.extend(overlay.iter().map(|(id, row)| (*id, embedding(row))));
                    let twin = naive(metric, given.iter().map(|(id, row)| (*id, row)), &query, k);
                    for method in METHODS {
                        for filter in [Some(Filter::Rows(&rows)), Some(Filter::Where(&keeps)), None] {
                            if filter.is_none() && !rows.contains(1) {
                                continue;
                            }
                            let options = Options {
                                filter,
                                method,
                                hidden: Some(&hidden),
                                overlay: &over,
                                ef: (k == 3).then_some(1),
                                ..Options::default()
                            };
                            let hits = shard.search(&query, k, &options).unwrap();
                            check(metric, &hits, &twin, &query, &given);
                            if method == Some(Method::Exact) {
                                prop_assert_eq!(
                                    hits.iter().map(|hit| hit.id).collect::<Vec<_>>(),
                                    twin.iter().map(|hit| hit.id).collect::<Vec<_>>()
                                );
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(shard.len(), model.len());
        }
    }
}

#[test]
fn every_method_finds_the_nearest_in_every_metric_and_length() {
    for (dimensions, count) in [(3, 300), (48, 400), (130, 200)] {
        let mut rows = grouped(count + 20, dimensions, 7);
        let queries = rows.split_off(count);
        let all: BTreeMap<u64, Embedding> = rows.iter().cloned().collect();
        for metric in METRICS {
            let shard = built(metric, &rows);
            for method in METHODS {
                let (mut found, mut wanted) = (0, 0);
                for (_, query) in &queries {
                    let query = query.as_slice();
                    let twin = naive(metric, rows.iter().map(|(id, row)| (*id, row)), query, 10);
                    let options = Options {
                        method,
                        ..Options::default()
                    };
                    let (hits, trace) = shard.search_traced(query, 10, &options).unwrap();
                    assert!(method.is_none() || trace.method == method, "{trace:?}");
                    found += check(metric, &hits, &twin, query, &all);
                    wanted += twin.len();
                }
                let recall = found as f64 / wanted as f64;
                assert!(
                    recall >= 0.97,
                    "{metric:?} {method:?} {dimensions} dimensions: {recall}"
                );
            }
        }
    }
}

#[test]
fn every_stored_vector_finds_itself() {
    let rows = grouped(500, 24, 3);
    for metric in [Metric::Cosine, Metric::L2, Metric::L1] {
        let shard = built(metric, &rows);
        for ef in [1, 16, 40] {
            let options = Options {
                method: Some(Method::Graph),
                ef: Some(ef),
                ..Options::default()
            };
            for (id, row) in &rows {
                let hits = shard.search(row.as_slice(), 1, &options).unwrap();
                assert_eq!(hits[0].id, *id, "{metric:?} ef {ef}");
            }
        }
    }
}

/// THREATS B04: a filter that selects one row or none, `ef` 1, `k` 0, beyond all rows and 2^31.
#[test]
fn a_filter_never_takes_rows_from_the_answer() {
    let rows = grouped(1000, 16, 5);
    let shard = built(Metric::Cosine, &rows);
    let query = grouped(1, 16, 6)[0].1.clone();
    for selected in [
        vec![],
        vec![777u64],
        (0..1000).filter(|id| id % 97 == 0).collect(),
        (0..1000).collect(),
    ] {
        let set: RowSet = selected.iter().copied().collect();
        let only: BTreeMap<u64, Embedding> = rows.iter().filter(|(id, _)| set.contains(*id)).cloned().collect();
        for k in [0, 1, 10, 5000, 1 << 31] {
            for method in METHODS {
                let options = Options {
                    ef: Some(1),
                    filter: Some(Filter::Rows(&set)),
                    method,
                    ..Options::default()
                };
                let hits = shard.search(query.as_slice(), k, &options).unwrap();
                let twin = naive(
                    Metric::Cosine,
                    only.iter().map(|(id, row)| (*id, row)),
                    query.as_slice(),
                    k,
                );
                check(Metric::Cosine, &hits, &twin, query.as_slice(), &only);
            }
        }
    }
    // A walk that meets hidden rows only does not end the search.
    let near = naive(
        Metric::Cosine,
        rows.iter().map(|(id, row)| (*id, row)),
        query.as_slice(),
        1000,
    );
    let hidden: RowSet = near[..990].iter().map(|hit| hit.id).collect();
    for method in METHODS {
        let options = Options {
            ef: Some(1),
            hidden: Some(&hidden),
            method,
            ..Options::default()
        };
        let hits = shard.search(query.as_slice(), 10, &options).unwrap();
        let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
        assert_eq!(ids(&hits), ids(&near[990..]), "{method:?}");
    }
    let empty = Shard::new(Metric::L2, 3);
    assert!(
        empty
            .search(&[1.0; 3], 1 << 31, &Options::default())
            .unwrap()
            .is_empty()
    );
    assert!(!empty.build(&Cancel::new(), None).unwrap());
}

/// THREATS B05: numbers that a graph builder cannot stand, and equal vectors by the ten thousand.
#[test]
fn bad_vectors_and_duplicates_do_no_harm() {
    let mut rows = grouped(300, 8, 9);
    let zero = embedding(&[0.0; 8]);
    let same = embedding(&[0.3; 8]);
    rows.extend((300..320).map(|id| (id, zero.clone())));
    rows.extend((320..330).map(|id| (id, embedding(&[f32::MAX; 8]))));
    rows.extend((330..340).map(|id| (id, embedding(&[f32::MIN_POSITIVE / 8.0; 8]))));
    rows.extend((1000..11_000).map(|id| (id, same.clone())));
    let all: BTreeMap<u64, Embedding> = rows.iter().cloned().collect();
    for metric in METRICS {
        let shard = built(metric, &rows);
        let memory = shard.memory();
        assert!(memory.per_row() < 40.0, "equal vectors are kept once: {memory:?}");
        let usual = grouped(300, 8, 9);
        for query in [&same, &zero, &usual[4].1, &embedding(&[f32::MAX; 8])] {
            for k in [1, 5, 10_400] {
                let twin = naive(metric, rows.iter().map(|(id, row)| (*id, row)), query.as_slice(), k);
                for method in METHODS {
                    let options = Options {
                        method,
                        ..Options::default()
                    };
                    let (hits, trace) = shard.search_traced(query.as_slice(), k, &options).unwrap();
                    let near = check(metric, &hits, &twin, query.as_slice(), &all);
                    assert!(
                        near * 10 >= twin.len() * 9,
                        "{metric:?} {method:?} {near} of {}",
                        twin.len()
                    );
                    assert!(trace.compared <= 400, "equal vectors are compared once: {trace:?}");
                }
            }
        }
        let error = shard.search(&[1.0; 7], 1, &Options::default()).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::DataException, "expected 8 dimensions, not 7")
        );
        let wrong = [(5, usual[0].1.clone()), (6, embedding(&[1.0; 9]))];
        assert_eq!(shard.insert(&wrong).unwrap_err().code(), Code::DataException);
        assert_eq!(shard.len(), rows.len());
    }
}

/// THREATS B06: deleted and changed rows are gone at once, after a build, and when they are deleted
/// while one runs.
#[test]
fn deleted_rows_are_never_given() {
    let rows = grouped(800, 12, 11);
    let mut model: BTreeMap<u64, Embedding> = rows.iter().cloned().collect();
    let shard = built(Metric::L2, &rows);
    let ask = |model: &BTreeMap<u64, Embedding>| {
        for (_, query) in rows.iter().step_by(7) {
            for method in METHODS {
                let options = Options {
                    method,
                    ..Options::default()
                };
                let hits = shard.search(query.as_slice(), 20, &options).unwrap();
                let twin = naive(
                    Metric::L2,
                    model.iter().map(|(id, row)| (*id, row)),
                    query.as_slice(),
                    20,
                );
                check(Metric::L2, &hits, &twin, query.as_slice(), model);
            }
        }
    };
    let gone: Vec<u64> = (0..800).filter(|id| id % 7 == 0).collect();
    assert_eq!(shard.remove(&gone), gone.len());
    assert_eq!(shard.remove(&gone), 0);
    gone.iter().for_each(|id| drop(model.remove(id)));
    ask(&model);
    // Changed rows move.
    let moved: Vec<(u64, Embedding)> = (1..50).map(|id| (id * 3, rows[700].1.clone())).collect();
    shard.insert(&moved).unwrap();
    model.extend(moved);
    ask(&model);
    std::thread::scope(|scope| {
        let build = scope.spawn(|| shard.build(&Cancel::new(), None).unwrap());
        for id in (2..800).filter(|id| id % 5 == 0) {
            assert_eq!(shard.remove(&[id]) == 1, model.remove(&id).is_some());
            let options = Options::default();
            let hits = shard.search(rows[id as usize].1.as_slice(), 3, &options).unwrap();
            assert!(hits.iter().all(|hit| hit.id != id));
        }
        assert!(build.join().unwrap());
    });
    assert_eq!(shard.len(), model.len());
    ask(&model);
    assert!(shard.build(&Cancel::new(), None).unwrap());
    ask(&model);
    let rest: Vec<u64> = model.keys().copied().collect();
    shard.remove(&rest);
    assert!(shard.is_empty());
    assert!(shard.search(&[0.5; 12], 5, &Options::default()).unwrap().is_empty());
}

/// THREATS D09, as far as it is the shard's: searches and writes go on while a graph is built, a build
/// ends when told, and a walk is never wider than it may be.
#[test]
fn a_build_stops_nobody_and_can_be_stopped() {
    let rows = grouped(1500, 16, 13);
    let shard = filled(Metric::Cosine, &rows);
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(cancel.is_cancelled());
    assert!(!shard.build(&cancel, None).unwrap());
    assert_eq!((shard.in_graph(), shard.len()), (0, 1500));
    std::thread::scope(|scope| {
        let build = scope.spawn(|| shard.build(&Cancel::new(), None).unwrap());
        let mut searches = 0;
        let mut id = 1500;
        while !build.is_finished() {
            let hits = shard.search(rows[5].1.as_slice(), 10, &Options::default()).unwrap();
            assert_eq!((hits.len(), hits[0].id), (10, 5));
            shard.insert(&[(id, rows[(id % 1500) as usize].1.clone())]).unwrap();
            (id, searches) = (id + 1, searches + 1);
        }
        assert!(build.join().unwrap() && searches > 0);
        assert_eq!(shard.len() as u64, id);
    });
    let options = Options {
        ef: Some(1 << 40),
        method: Some(Method::Graph),
        ..Options::default()
    };
    let (hits, trace) = shard.search_traced(rows[5].1.as_slice(), 10, &options).unwrap();
    assert_eq!((hits.len(), hits[0].id), (10, 5));
    assert_ne!(trace.method, Some(Method::Graph));
}

#[test]
fn what_is_due_is_done_and_then_nothing_is() {
    let rows = grouped(40 * SEGMENT_ROWS + 900, 8, 23);
    let shard = Shard::new(Metric::L2, 8);
    assert_eq!(shard.due(), None);
    let mut done = 0;
    for rows in rows.chunks(500) {
        shard.insert(rows).unwrap();
        while shard.work(&Cancel::new(), None).unwrap() {
            done += 1;
            assert!(done < 100, "work comes to an end");
        }
    }
    assert!(done > 0);
    assert_eq!(shard.len(), rows.len());
    let most: Vec<u64> = (0..rows.len() as u64).filter(|id| id % 4 > 0).collect();
    if shard.in_graph() > 0 {
        shard.remove(&most);
        assert_eq!(shard.due(), Some(Due::Build));
    }
}
