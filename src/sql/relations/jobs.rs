//! `bulkhead.jobs`: work in the background of this tenant.

use super::{Out, Scan, rows::Cell, t};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Result,
    sql::{jobs, world::World},
};

pub(super) const JOB_COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("kind", t(Scalar::Text)),
    ("state", t(Scalar::Text)),
    ("done", t(Scalar::Int8)),
    ("total", t(Scalar::Int8)),
    ("message", t(Scalar::Text)),
    ("created_at", t(Scalar::Timestamptz)),
    ("updated_at", t(Scalar::Timestamptz)),
];

pub(super) fn read_jobs(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for job in jobs::all(&world.tenant()?.tenant) {
        let job = job?;
        let id = job.id.to_string();
        let wanted = out.push(|column| match column {
            0 => Cell::Text(&id),
            1 => Cell::Text(job.kind.as_str()),
            2 => Cell::Text(job.state.as_str()),
            3 => Cell::Int(job.done),
            4 => Cell::Int(job.total),
            5 => job.message.as_deref().map_or(Cell::Null, Cell::Text),
            6 => Cell::Time(job.created_at),
            _ => Cell::Time(job.updated_at),
        })?;
        if !wanted {
            break;
        }
    }
    Ok(())
}
