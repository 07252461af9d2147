//! A tenant's own tables, views and sequences in SQL: what makes, changes, writes and reads them.
//!
//! What exists:
//! - [`parse`], [`parse_create`], [`parse_alter`], [`parse_column`], [`cursor`]: statements from tokens into [`ddl`]; [`run`] runs them
//! - [`definitions`]: a change of the catalog; [`create`], [`create_as`], [`constraint`], [`index`], [`alter`],
//!   [`rename`], [`drop`], [`view`], [`policy`], [`schema`], [`sequences`]: the changes that there are
//! - [`validate`]: rows that are there already, judged by what was added; [`rewrite`]: rows written anew
//! - [`rights`]: who may do what; [`names`], [`types`], [`expressions`], [`references`]: parts of definitions
//! - [`temporary`]: tables of one session; [`describe`]: all of it for `pg_catalog`
//!
//! Reading: [`provider`], [`scan`], [`lookup`], [`point`]; [`origin`]: whose columns a result has; [`security`]: what row policies let pass; [`nearest`]: `vector_search`;
//! [`ranked`]: the rows nearest to a vector, found in [`shards`] of vectors in memory, or by [`exact`] comparison, by
//! a scan ([`nearest_scan`]) or directly ([`search`]); [`direct`]: what needs no plan at each run
//!
//! Writing:
//! - [`pieces`], [`compute`]: parts of a statement planned alone, and computed over rows at hand
//! - [`rules`], [`assign`]: what a table asks of its rows, and the way of a value into a column
//! - [`write`], [`insert`], [`conflict`], [`by_key`]: statements planned
//! - [`change`], [`upsert`], [`apply`], [`foreign`]: statements run
//! - [`truncate`], [`copy_in`]: the others that write; [`locking`]: SELECT that locks

mod alter;
mod apply;
mod assign;
mod by_key;
mod change;
mod compute;
mod conflict;
mod constraint;
pub(super) mod copy_in;
mod create;
mod create_as;
pub(super) mod cursor;
pub(super) mod ddl;
mod definitions;
pub(super) mod describe;
pub(super) mod direct;
mod drop;
mod exact;
mod expressions;
mod foreign;
mod index;
mod insert;
pub(super) mod locking;
mod lookup;
mod names;
pub(super) mod nearest;
pub(super) mod nearest_scan;
pub(super) mod origin;
pub(super) mod parse;
mod parse_alter;
mod parse_column;
mod parse_create;
pub(super) mod pieces;
mod point;
mod policy;
pub(super) mod provider;
mod ranked;
mod references;
mod rename;
mod rewrite;
pub(super) mod rights;
pub(super) mod rules;
mod run;
pub(super) mod scan;
mod schema;
mod search;
mod security;
mod sequences;
pub(super) mod shards;
pub(super) mod temporary;
mod truncate;
mod types;
mod upsert;
mod validate;
mod view;
pub(super) mod write;
