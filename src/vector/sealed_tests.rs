//! Codes and graphs as bytes: what comes back, and what damage does.

use std::collections::BTreeMap;

use super::rotation::mix;
use super::shard_tests::{METHODS, METRICS, built, check, grouped, naive};
use super::*;
use crate::error::Code;

#[test]
fn a_sealed_shard_comes_back_and_damage_is_an_error() {
    let rows = grouped(300, 20, 17);
    let query = rows[33].1.as_slice();
    for metric in METRICS {
        let shard = built(metric, &rows);
        let bytes = shard.sealed().unwrap();
        // Since then one row has changed, one is gone and one is new.
        let mut now: BTreeMap<u64, Embedding> = rows.iter().cloned().collect();
        now.insert(40, rows[33].1.clone());
        now.remove(&33);
        now.insert(9999, rows[33].1.clone());
        let opened = Shard::open(metric, 20, &bytes, now.iter().map(|(id, row)| (*id, row))).unwrap();
        assert_eq!(opened.len(), 300);
        assert_eq!(opened.in_graph(), shard.in_graph() - 2, "a changed row is a new one");
        let hits = opened.search(query, 10, &Options::default()).unwrap();
        let twin = naive(metric, now.iter().map(|(id, row)| (*id, row)), query, 10);
        assert!(check(metric, &hits, &twin, query, &now) >= 9);

        // Codes only: vectors are fetched, and only those of rows that are there.
        let unchanged: RowSet = (0..300).filter(|id| ![33, 40].contains(id)).collect();
        let lean = Shard::open_codes(metric, 20, &bytes, &unchanged).unwrap();
        lean.insert(&[(40, now[&40].clone()), (9999, now[&9999].clone())])
            .unwrap();
        let fetch = |ids: &[u64], give: &mut dyn FnMut(usize, &[f32])| {
            for (place, id) in ids.iter().enumerate() {
                give(
                    place,
                    now.get(id)
                        .ok_or_else(|| crate::error::Error::internal("gone"))?
                        .as_slice(),
                );
            }
            Ok(())
        };
        for method in METHODS {
            let options = Options {
                method,
                fetch: Some(&fetch),
                ..Options::default()
            };
            let hits = lean.search(query, 10, &options).unwrap();
            assert!(check(metric, &hits, &twin, query, &now) >= 9);
            let none = Options {
                method,
                ..Options::default()
            };
            assert_eq!(lean.search(query, 10, &none).unwrap_err().code(), Code::Internal);
        }
        assert!(lean.memory().bytes < opened.memory().bytes - 250 * 20 * 4);
        assert_eq!(lean.build(&Cancel::new(), None).unwrap_err().code(), Code::Internal);
        assert!(lean.build(&Cancel::new(), Some(&fetch)).unwrap());
        let options = Options {
            fetch: Some(&fetch),
            ..Options::default()
        };
        assert!(check(metric, &lean.search(query, 10, &options).unwrap(), &twin, query, &now) >= 9);

        let other = METRICS.into_iter().find(|other| *other != metric).unwrap();
        let none = || std::iter::empty();
        for wrong in [
            Shard::open(other, 20, &bytes, none()),
            Shard::open(metric, 19, &bytes, none()),
        ] {
            assert_eq!(wrong.err().unwrap().code(), Code::Corrupted);
        }
    }
    let bytes = built(Metric::L2, &rows).sealed().unwrap();
    let none = || std::iter::empty();
    for length in (0..bytes.len()).step_by(97) {
        assert_eq!(
            Shard::open(Metric::L2, 20, &bytes[..length], none())
                .err()
                .unwrap()
                .code(),
            Code::Corrupted
        );
    }
    let mut state = 1;
    for at in (0..bytes.len()).step_by(211) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (mix(&mut state) % 8);
        assert_eq!(
            Shard::open(Metric::L2, 20, &damaged, none()).err().unwrap().code(),
            Code::Corrupted
        );
    }
}

#[test]
fn wrong_numbers_under_a_right_checksum_are_an_error_and_never_a_panic() {
    let rows = grouped(200, 6, 19);
    for metric in [Metric::Cosine, Metric::L1] {
        let bytes = built(metric, &rows).sealed().unwrap();
        let body = &bytes[..bytes.len() - 8];
        let (mut refused, mut state) = (0, 2);
        for at in (0..body.len()).step_by(41) {
            let mut wrong = body.to_vec();
            wrong[at] = mix(&mut state) as u8;
            let wrong = super::sealed::with_checksum(wrong);
            match Shard::open(metric, 6, &wrong, rows.iter().map(|(id, row)| (*id, row))) {
                Ok(shard) => {
                    // A wrong code or link may go unseen; rows and distances may not be wrong by it.
                    let all: BTreeMap<u64, Embedding> = rows.iter().cloned().collect();
                    for method in METHODS {
                        let options = Options {
                            method,
                            ..Options::default()
                        };
                        let query = rows[3].1.as_slice();
                        let hits = shard.search(query, 7, &options).unwrap();
                        let twin = naive(metric, rows.iter().map(|(id, row)| (*id, row)), query, 7);
                        check(metric, &hits, &twin, query, &all);
                    }
                }
                Err(error) => {
                    assert_eq!(error.code(), Code::Corrupted);
                    refused += 1;
                }
            }
        }
        assert!(refused > 20, "{refused}");
    }
}
