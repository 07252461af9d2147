//! `bulkhead.audit_log`: the entries of a tenant's own log, the oldest first.

use std::fmt::Write;

use super::{Out, Scan, rows::Cell, t};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Result,
    policy::audit,
    sql::{pg::json, world::World},
};

pub(super) const COLUMNS: &[(&str, PgType)] = &[
    ("seq", t(Scalar::Int8)),
    ("at", t(Scalar::Timestamptz)),
    ("user_id", t(Scalar::Text)),
    ("class", t(Scalar::Text)),
    ("action", t(Scalar::Text)),
    ("object", t(Scalar::Text)),
    ("detail", t(Scalar::Jsonb)),
    ("allowed", t(Scalar::Bool)),
    ("hash", t(Scalar::Text)),
    ("prev_hash", t(Scalar::Text)),
];

/// Bytes as hexadecimal digits.
pub(in crate::sql) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
    }
    text
}

fn some(text: &str) -> Cell<'_> {
    match text {
        "" => Cell::Null,
        text => Cell::Text(text),
    }
}

/// What waits in memory is written first: an entry has its number and its hash from the store.
pub(super) fn read(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let world = world.tenant()?;
    if let Err(error) = tokio::runtime::Handle::current().block_on(world.state.log.flush()) {
        tracing::debug!(%error, "entries of an audit log stay in memory");
    }
    for link in world.tenant.log(world.tenant.log_head()?) {
        let link = link?;
        let entry = audit::read(&link)?;
        let (hash, prev) = (hex(&link.hash), hex(&link.prev));
        let detail = match &*entry.detail {
            "" => String::new(),
            detail => json::canonical(detail)?,
        };
        let more = out.push(|column| match column {
            0 => Cell::Int(i64::try_from(link.seq).unwrap_or(i64::MAX)),
            1 => Cell::Time(entry.at_micros),
            2 => some(&entry.user),
            3 => Cell::Text(entry.class.as_str()),
            4 => Cell::Text(&entry.action),
            5 => some(&entry.object),
            6 => some(&detail),
            7 => Cell::Bool(entry.allowed),
            8 => Cell::Text(&hash),
            _ => Cell::Text(&prev),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}
