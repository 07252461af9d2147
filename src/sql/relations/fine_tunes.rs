//! `ai.fine_tunes`: what was or is being trained for the tenant, the oldest first.

use super::{Out, Scan, rows::Cell, t};
use crate::{
    ai::fine_tune::{FineTune, State},
    codec::pgtype::{PgType, Scalar},
    error::Result,
    ledger::own_model::OwnModel,
    sql::world::World,
};

/// `model` is the name by which it can be asked for. The provider's ids are nobody's business.
pub(super) const COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("base_model", t(Scalar::Text)),
    ("status", t(Scalar::Text)),
    ("model", t(Scalar::Text)),
    ("examples", t(Scalar::Int4)),
    ("error", t(Scalar::Text)),
    ("created_at", t(Scalar::Timestamptz)),
    ("updated_at", t(Scalar::Timestamptz)),
];

pub(super) fn read(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let tenant = &world.tenant()?.tenant;
    for (row, _) in FineTune::all(tenant)? {
        let (id, alias) = (row.id.to_string(), row.alias());
        let own = match row.state {
            State::Succeeded => OwnModel::find(tenant, &alias)?,
            _ => None,
        };
        let retired = own.as_ref().is_some_and(|own| own.retired_at_micros.is_some());
        let more = out.push(|column| match column {
            0 => Cell::Text(&id),
            1 => Cell::Text(&row.base),
            2 if retired => Cell::Text("retired"),
            2 => Cell::Text(row.state.as_str()),
            3 => own.as_ref().map_or(Cell::Null, |own| Cell::Text(&own.alias)),
            4 => Cell::Int(row.examples.into()),
            5 => row.error.as_deref().map_or(Cell::Null, Cell::Text),
            6 => Cell::Time(row.created_at),
            _ => Cell::Time(row.updated_at),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}
