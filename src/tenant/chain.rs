//! The log of a tenant: entries that are [chained](crate::codec::chain), and what they say nobody knows here.
//!
//! Only the committer appends, one commit after the other, so entries stand in the order of commits and
//! no number is left out; an entry is stored exactly if the commit is that it belongs to. The entries of one
//! commit are one value under their first number. A value of its own, the head, says how far the log goes,
//! so that a missing end is seen, too.

use std::sync::Arc;

use super::{plane::Plane, seal, table::Table};
use crate::{
    codec::chain::{self, Checked, Fault, Head, Link},
    error::{Code, Result},
};

/// Where the head is stored; entries count from 1.
pub(super) const HEAD_KEY: [u8; 8] = 0_u64.to_be_bytes();

/// The head as stored now.
pub(super) fn head(plane: &Plane) -> Result<Head> {
    match plane.get(Table::Audit, &HEAD_KEY)? {
        None => Ok(Head::default()),
        Some(stored) => Head::decode(&stored.value).ok_or_else(|| seal::corrupted(Table::Audit)),
    }
}

/// The entries up to a head that was read before. Ends after the first error.
pub(super) fn read(plane: &Arc<Plane>, head: Head) -> impl Iterator<Item = Result<Link>> + Send + use<> {
    let values = plane.scan_from(Table::Audit, &1_u64.to_be_bytes(), None);
    let links = values.flat_map(|found| {
        let links = found
            .and_then(|(key, stored)| chain::links(&key, &stored.value).ok_or_else(|| seal::corrupted(Table::Audit)));
        match links {
            Ok(links) => links.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        }
    });
    // What was appended since does not belong to this head.
    links.take_while(move |link| link.as_ref().map_or(true, |link| link.seq <= head.seq))
}

/// Looks at every entry.
pub(super) fn check(plane: &Arc<Plane>) -> Result<Checked> {
    match head(plane) {
        Ok(head) => chain::check(head, read(plane, head)),
        Err(error) if error.code() == Code::Corrupted => Ok(Checked {
            head: Head::default(),
            entries: 0,
            fault: Some(Fault {
                seq: 0,
                what: "the head of the log cannot be read",
            }),
        }),
        Err(error) => Err(error),
    }
}
