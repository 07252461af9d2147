//! What was used, and what it costs: integers of nano-USD, never floats.
//!
//! Prices, models and tiers are the operator's rows ([`price`], [`model`], [`tier`]); every billable
//! event becomes a [`usage`] line. Only [`books::record`] writes one, and it adds the same amounts to
//! the tenant's day and to the operator's in the same batch, so that the sums equal the lines at
//! every crash point. What is too frequent for a commit of its own waits in a [`meter`]. Calls of models
//! are reserved before they are made and settled after, in the tenant's [`account`].

pub mod account;
pub mod alert;
pub mod books;
pub mod bucket;
pub mod budget;
pub mod litellm;
pub mod meter;
pub mod model;
pub mod money;
pub mod own_model;
pub mod plan;
pub mod price;
pub mod provider;
pub mod published;
pub(crate) mod row;
pub mod tier;
pub mod usage;

pub use account::Account;
pub use meter::Meter;

use crate::{error::Result, tenant::Table};

/// A row of the operator's plane: table, key, value.
pub type Row = (Table, Vec<u8>, Vec<u8>);

/// The rows that a new data directory starts with: tiers, models and prices.
///
/// # Errors
/// None in practice: the rows are constants.
pub fn defaults() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for tier in tier::defaults() {
        rows.push((Table::Tiers, tier.key(), tier.encode()?));
    }
    for model in model::defaults() {
        rows.push((Table::Models, model.key(), model.encode()?));
    }
    for price in price::defaults() {
        rows.push((Table::Prices, price.key(), price.encode()?));
    }
    Ok(rows)
}
