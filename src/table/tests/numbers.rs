//! Sequences: each number once.

use std::collections::HashSet;

use super::*;
use crate::{codec::pgtype::Scalar, table::schema::SequenceDef};

fn sequence(increment: i64, min: i64, max: i64, cycle: bool) -> SequenceDef {
    SequenceDef {
        oid: 100_001,
        schema: "public".to_owned(),
        name: "numbers".to_owned(),
        owner: "owner".to_owned(),
        pg_type: Scalar::Int8.into(),
        start: if increment > 0 { min } else { max },
        increment,
        min,
        max,
        cycle,
        owned_by: None,
        comment: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_number_is_given_twice_not_even_after_a_crash() {
    let (_directory, tenant) = acme().await;
    let def = sequence(1, 1, i64::MAX, false);
    let mut given = HashSet::new();
    for _crash in 0..4 {
        let tables = Tables::open(tenant.clone()).await.expect("tables");
        let takers = (0..4).map(|taker| {
            let (tables, def) = (tables.clone(), def.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                for n in 0..20 {
                    taken.extend(
                        tables
                            .sequences()
                            .next(&def, (n * taker) % 9 + 1)
                            .await
                            .expect("numbers"),
                    );
                }
                taken
            })
        });
        for taker in takers.collect::<Vec<_>>() {
            for number in taker.await.expect("a taker") {
                assert!(given.insert(number), "{number} was given twice");
            }
        }
        let (last, called) = tables.sequences().last(&def).await.expect("the last");
        assert!(called && last == *given.iter().max().expect("numbers"));
    }
}

#[tokio::test]
async fn sequences_end_cycle_and_are_set() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let sequences = tables.sequences();
    let mut def = sequence(3, 1, 8, false);
    assert_eq!(sequences.last(&def).await.expect("the start"), (1, false));
    assert_eq!(sequences.next(&def, 3).await.expect("numbers"), [1, 4, 7]);
    let error = sequences.next(&def, 1).await.expect_err("the end");
    assert_eq!(error.code(), Code::SequenceExhausted);
    assert_eq!(
        error.message(),
        "nextval: reached maximum value of sequence \"numbers\" (8)"
    );
    def.cycle = true;
    assert_eq!(sequences.next(&def, 4).await.expect("numbers"), [1, 4, 7, 1]);
    sequences.set(&def, 5, false).await.expect("in range");
    assert_eq!(sequences.next(&def, 2).await.expect("numbers"), [5, 8]);
    sequences.set(&def, 2, true).await.expect("in range");
    assert_eq!(sequences.next(&def, 1).await.expect("a number"), [5]);
    assert_eq!(
        sequences.set(&def, 9, true).await.expect_err("out of range").code(),
        Code::NumericOutOfRange
    );
    let down = SequenceDef {
        oid: 100_002,
        ..sequence(-2, -4, -1, false)
    };
    assert_eq!(sequences.next(&down, 2).await.expect("numbers"), [-1, -3]);
    assert_eq!(
        sequences.next(&down, 1).await.expect_err("the end").code(),
        Code::SequenceExhausted
    );
    let edge = SequenceDef {
        oid: 100_003,
        start: i64::MAX,
        ..sequence(1, 1, i64::MAX, false)
    };
    assert_eq!(sequences.next(&edge, 1).await.expect("the last"), [i64::MAX]);
    assert_eq!(
        sequences.next(&edge, 1).await.expect_err("the end").code(),
        Code::SequenceExhausted
    );
}

#[tokio::test]
async fn a_restart_is_part_of_its_transaction() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let def = sequence(1, 1, 1000, false);
    assert_eq!(tables.sequences().next(&def, 2).await.expect("numbers"), [1, 2]);
    let mut writes = WriteSet::default();
    writes.restart_sequence(def.oid, 1);
    assert_eq!(tables.sequences().next(&def, 1).await.expect("a number"), [3]);
    commit(&tables, &tenant, &writes).await.expect("a commit");
    assert_eq!(tables.sequences().next(&def, 1).await.expect("a number"), [1]);
    let again = Tables::open(tenant).await.expect("tables");
    assert_eq!(again.sequences().next(&def, 1).await.expect("a number"), [34]);
    assert!(again.allocate_oids(1) > def.oid, "a sequence's number was given again");
}
