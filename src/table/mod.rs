//! What tenants have made themselves: tables with their rows, views and sequences.
//!
//! - [`schema`]: what exists, as plain data

pub mod schema;
