//! PostgreSQL's face: what clients ask a server about itself, and how they spell it.
//!
//! Pure functions of a [`catalog::CatalogSnapshot`], which a session makes from its own tenant, and of
//! constants. Nothing here is kept between sessions but what is the same for everybody.
//!
//! - [`catalog`]: the snapshot; [`builtin`]: what PostgreSQL brings along, as data
//! - [`relations`]: `pg_catalog` and `information_schema`, filled by [`fill`], [`fixed`], [`info`] and their `_more`
//! - [`literals`], [`arithmetic`], [`aggregates`], [`output`]: numbers, and types, as PostgreSQL has them
//! - [`functions`], [`function`], [`casts`], [`convert`], [`text`], [`strings`], [`any_value`], [`mathematics`], [`json_access`], [`json_change`], [`json_make`]: scalar functions
//! - [`clock`], [`temporal`], [`series`], [`to_char`] over [`moments`]: dates, times and intervals
//! - `ts`, `ts_functions`: text search
//! - [`dialect`], [`spelling`], [`names`], [`subquery`], `tuples`: the statement rewritten before it is planned
//! - [`types`], [`operators`], [`from`], [`lateral`], [`apply`], [`apply_exec`]: extensions of DataFusion's planner

pub mod aggregates;
pub mod any_value;
pub mod apply;
pub mod apply_exec;
pub mod arithmetic;
pub mod builtin;
pub mod casts;
pub mod catalog;
pub mod clock;
pub mod convert;
pub mod dialect;
mod dialect_calls;
pub mod fill;
mod fill_more;
mod fill_sessions;
pub mod fixed;
pub mod from;
pub mod function;
pub mod functions;
pub mod info;
pub mod json;
pub mod json_access;
pub mod json_change;
pub mod json_make;
pub mod lateral;
pub mod literals;
pub mod mathematics;
pub mod moments;
pub mod names;
pub mod operators;
pub mod ordered_sets;
pub mod output;
pub mod print;
pub mod relations;
pub mod rows;
pub mod series;
pub mod spelling;
pub mod strings;
pub mod subquery;
pub mod temporal;
pub mod text;
pub mod to_char;
mod to_char_number;
mod ts;
mod ts_functions;
mod tuples;
pub mod types;

pub use function::{bound, shared};

#[cfg(test)]
pub(crate) mod tests;
