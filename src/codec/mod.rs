//! Bytes that sort, the names of types, and array literals.
//!
//! Nothing here knows a tenant: these are pure functions over bytes and Arrow fields.

pub mod array_text;
pub mod chain;
pub mod key;
pub mod pgtype;
