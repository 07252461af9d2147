//! What the options of an index do to its graph.

use super::shard_tests::{built, grouped};
use super::*;

const FEW: Linking = Linking {
    m: 3,
    ef_construction: 8,
};
const MANY: Linking = Linking {
    m: 24,
    ef_construction: 100,
};

fn linked(rows: &[(u64, Embedding)], linking: Option<Linking>) -> Shard {
    let shard = Shard::new(Metric::L2, rows[0].1.dimensions());
    shard.insert(rows).unwrap();
    shard.set_linking(linking);
    assert!(shard.build(&Cancel::new(), None).unwrap());
    shard
}

/// The most links of a node.
fn most_links(shard: &Shard) -> usize {
    let state = shard.now();
    let graph = state.parts[0].part.graph.clone().unwrap();
    (0..graph.nodes()).map(|node| graph.of(node).len()).max().unwrap()
}

/// Of the ten nearest of some vectors that are not stored, how many a narrow walk finds.
fn recall(shard: &Shard, queries: &[(u64, Embedding)]) -> usize {
    let found = |query: &[f32], method| {
        let options = Options {
            method: Some(method),
            ef: Some(10),
            ..Options::default()
        };
        let hits = shard.search(query, 10, &options).unwrap();
        hits.into_iter().map(|hit| hit.id).collect::<Vec<_>>()
    };
    let of = |(_, query): &(u64, Embedding)| {
        let all = found(query.as_slice(), Method::Exact);
        let walked = found(query.as_slice(), Method::Graph);
        walked.iter().filter(|id| all.contains(id)).count()
    };
    queries.iter().map(of).sum()
}

#[test]
fn a_graph_has_the_links_that_were_asked_for() {
    let all = grouped(1_600, 24, 41);
    let (rows, queries) = all.split_at(1_500);
    let (few, many) = (linked(rows, Some(FEW)), linked(rows, Some(MANY)));
    assert_eq!(most_links(&few), 6);
    assert!((33..=48).contains(&most_links(&many)), "{}", most_links(&many));
    assert!((13..=32).contains(&most_links(&linked(rows, None))));
    assert!(many.memory().bytes > few.memory().bytes);
    let (few, many) = (recall(&few, queries), recall(&many, queries));
    assert!(many > few, "{few} of 1000 with few links, {many} with many");
}

#[test]
fn links_are_chosen_from_as_many_candidates_as_were_asked_for() {
    let rows = grouped(2_000, 32, 43);
    let links = |ef_construction| {
        let shard = linked(&rows, Some(Linking { m: 24, ef_construction }));
        let graph = shard.now().parts[0].part.graph.clone().unwrap();
        graph.links.len()
    };
    let (few, many) = (links(6), links(200));
    assert!(5 * few < 4 * many, "{few} links from few candidates, {many} from many");
}

#[test]
fn a_graph_of_other_options_is_built_again_and_one_that_nobody_asked_for_stays() {
    let rows = grouped(900, 12, 47);
    let shard = built(Metric::L2, &rows);
    assert_eq!(shard.due(), None);
    shard.set_linking(Some(FEW));
    assert_eq!(shard.due(), Some(Due::Build));
    assert!(shard.work(&Cancel::new(), None).unwrap());
    assert_eq!((shard.due(), most_links(&shard)), (None, 6));
    // Its index is dropped: what there is still serves.
    shard.set_linking(None);
    assert_eq!(shard.due(), None);

    shard.build_anew();
    assert_eq!(shard.due(), Some(Due::Build));
    assert!(shard.work(&Cancel::new(), None).unwrap());
    assert_eq!((shard.due(), shard.progress()), (None, None));

    // What is stored knows how it was built.
    shard.set_linking(Some(FEW));
    assert!(shard.build(&Cancel::new(), None).unwrap());
    let sealed = shard.sealed().unwrap();
    let opened = Shard::open(Metric::L2, 12, &sealed, rows.iter().map(|(id, row)| (*id, row))).unwrap();
    for (linking, due) in [
        (None, None),
        (Some(FEW), None),
        (Some(MANY), Some(Due::Build)),
        (Some(Linking::default()), Some(Due::Build)),
    ] {
        opened.set_linking(linking);
        assert_eq!(opened.due(), due, "{linking:?}");
    }
}

#[test]
fn a_build_tells_how_far_it_is() {
    let rows = grouped(2_000, 16, 53);
    let shard = built(Metric::L2, &rows);
    assert_eq!(shard.progress(), None);
    shard.set_linking(Some(FEW));
    let mut seen = Vec::new();
    let worked = shard.work_with(&Cancel::new(), None, &mut || seen.extend(shard.progress()));
    assert!(worked.unwrap() && seen.len() > 20);
    assert!(seen.is_sorted() && seen.iter().all(|(done, total)| done <= total && *total == 2_000));
    assert_eq!(shard.progress(), None);
}

#[test]
fn a_build_begins_again_when_something_else_is_asked_for() {
    let rows = grouped(2_000, 16, 59);
    let shard = built(Metric::L2, &rows);
    shard.set_linking(Some(MANY));
    let mut pauses = 0;
    let worked = shard.work_with(&Cancel::new(), None, &mut || {
        pauses += 1;
        if pauses == 3 {
            shard.set_linking(Some(FEW));
        }
    });
    assert!(worked.unwrap());
    assert_eq!((most_links(&shard), shard.due()), (6, None));
    // And not when nothing is asked for any more.
    shard.set_linking(Some(MANY));
    let mut reached = 0;
    let worked = shard.work_with(&Cancel::new(), None, &mut || {
        shard.set_linking(None);
        reached = reached.max(shard.progress().map_or(0, |(done, _)| done));
    });
    assert!(worked.unwrap() && reached > 1_900 && most_links(&shard) > 6);
}

#[test]
fn a_build_that_is_to_be_anew_is_seen_until_it_has_ended() {
    let rows = grouped(900, 12, 61);
    let shard = built(Metric::L2, &rows);
    shard.build_anew();
    let (mut seen, mut asked) = (0, 0);
    let worked = shard.work_with(&Cancel::new(), None, &mut || {
        seen += usize::from(shard.progress().is_some());
        asked += 1;
    });
    assert!(worked.unwrap() && asked > 5 && seen == asked);
    assert_eq!((shard.due(), shard.progress()), (None, None));
}
