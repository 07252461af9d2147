//! Bytes that sort, values in cells, and the names of types.
//!
//! Nothing here knows a tenant: these are pure functions over bytes and Arrow fields.

pub mod key;
pub mod pgtype;
