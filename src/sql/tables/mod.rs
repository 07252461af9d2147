//! A tenant's own tables in SQL: what statements plan, write and check.
//!
//! - [`pieces`], [`compute`]: parts of a statement planned alone, and computed over rows at hand
//! - [`rules`], [`assign`]: what a table asks of its rows, and the way of a value into a column
//! - [`write`], [`insert`], [`conflict`], [`by_key`]: statements planned
//! - [`change`], [`apply`], [`foreign`]: statements run
//! - [`target`]: the written table as its plan reads it

mod apply;
mod assign;
mod by_key;
mod change;
mod compute;
mod conflict;
mod foreign;
mod insert;
pub(super) mod pieces;
pub(super) mod rules;
mod target;
pub(super) mod write;
