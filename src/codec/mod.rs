//! Bytes that sort, the names of types, and values as PostgreSQL writes and reads them.
//!
//! Nothing here knows a tenant: these are pure functions over bytes and Arrow fields.

pub mod array_text;
pub mod chain;
pub(crate) mod datetime;
pub mod key;
pub(crate) mod numeric;
pub mod pgtype;
pub(crate) mod zone;
