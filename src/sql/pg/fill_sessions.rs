//! What is in the catalog relations that tell of sessions: their own things, and each other.

use super::{
    catalog::{CatalogSnapshot, DATABASE_OID},
    rows::{Rows, Value},
};
use crate::sql::backends::Activity;

fn value(v: impl Into<Value>) -> Value {
    v.into()
}

pub(super) fn activity(s: &CatalogSnapshot, rows: &mut Rows) {
    // A session without a socket knows of itself all the same.
    let own = Activity {
        pid: s.pid,
        user: s.user.clone(),
        application: s.application_name.clone(),
        started: s.started_micros,
        changed: s.started_micros,
        state: "active",
        ..Activity::default()
    };
    let known = s.activity.iter().any(|activity| activity.pid == s.pid);
    for activity in s.activity.iter().chain((!known).then_some(&own)) {
        let application = match activity.pid == s.pid {
            true => &s.application_name,
            false => &activity.application,
        };
        rows.add(&[
            ("datid", value(DATABASE_OID)),
            ("datname", value(&s.database)),
            ("pid", value(activity.pid)),
            ("usesysid", value(s.user_oid(&activity.user))),
            ("usename", value(&activity.user)),
            ("application_name", value(application)),
            ("backend_start", value(activity.started)),
            ("xact_start", value(activity.transaction_started)),
            ("query_start", value(activity.statement_started)),
            ("state_change", value(activity.changed)),
            ("state", value(activity.state)),
            ("query", value(&activity.query)),
            ("backend_type", value("client backend")),
        ]);
    }
}

pub(super) fn builds(s: &CatalogSnapshot, rows: &mut Rows) {
    for build in &s.builds {
        let none = |known: bool| value(known.then_some(0_i64));
        let known = build.table.is_some();
        let [blocks_done, blocks_total] = build.blocks;
        let [tuples_done, tuples_total] = build.tuples;
        rows.add(&[
            ("pid", value(build.pid)),
            ("datid", value(DATABASE_OID)),
            ("datname", value(&s.database)),
            ("relid", value(build.table.map(i64::from))),
            ("index_relid", value(build.index.map(i64::from))),
            ("command", value(known.then_some("CREATE INDEX"))),
            ("phase", value(build.phase)),
            ("lockers_total", none(known)),
            ("lockers_done", none(known)),
            ("current_locker_pid", none(known)),
            ("blocks_total", value(blocks_total)),
            ("blocks_done", value(blocks_done)),
            ("tuples_total", value(tuples_total)),
            ("tuples_done", value(tuples_done)),
            ("partitions_total", none(known)),
            ("partitions_done", none(known)),
        ]);
    }
}

pub(super) fn prepared(s: &CatalogSnapshot, rows: &mut Rows) {
    for (name, text) in &s.prepared {
        rows.add(&[
            ("name", value(name)),
            ("statement", value(text)),
            ("from_sql", value(false)),
        ]);
    }
}

pub(super) fn cursors(s: &CatalogSnapshot, rows: &mut Rows) {
    for cursor in &s.cursors {
        rows.add(&[
            ("name", value(&cursor.name)),
            ("statement", value(&cursor.statement)),
            ("is_holdable", value(cursor.holdable)),
            ("is_binary", value(cursor.binary)),
            ("is_scrollable", value(cursor.scrollable)),
            ("creation_time", value(cursor.created_micros)),
        ]);
    }
}

pub(super) fn locks(s: &CatalogSnapshot, rows: &mut Rows) {
    for lock in &s.locks {
        rows.add(&[
            ("locktype", value(lock.kind)),
            ("database", value(DATABASE_OID)),
            ("relation", value(lock.relation)),
            ("classid", value(lock.advisory.map(|(high, _, _)| high))),
            ("objid", value(lock.advisory.map(|(_, low, _)| low))),
            ("objsubid", value(lock.advisory.map(|(_, _, count)| count))),
            ("pid", value(lock.pid)),
            ("mode", value(lock.mode)),
            ("granted", value(lock.granted)),
            ("fastpath", value(false)),
        ]);
    }
}
