//! Tables, views and sequences of tenants: what makes, changes and reads them.
//!
//! - [`parse`], [`parse_alter`], [`parse_column`], [`cursor`]: statements from tokens into [`ddl`]
//! - [`change`]: a change of the catalog; [`create`], [`constraint`], [`index`], [`alter`], [`drop`], [`view`],
//!   [`policy`], [`schema`], [`sequences`], [`grant`]: the changes that there are
//! - [`validate`]: rows that are there already, judged by what was added; [`rewrite`]: rows written anew
//! - [`provider`], [`scan`], [`lookup`]: reading; [`security`]: what row policies let pass
//! - [`rights`]: who may do what; [`names`], [`types`], [`expressions`], [`references`]: parts of definitions
//! - [`temporary`]: tables of one session; [`describe`]: all of it for `pg_catalog`

pub(super) mod change;
mod constraint;
mod create;
pub(super) mod cursor;
pub(super) mod ddl;
mod drop;
pub(super) mod expressions;
mod index;
pub(super) mod names;
pub(super) mod parse;
mod parse_alter;
pub(super) mod parse_column;
pub(super) mod provider;
mod references;
pub(super) mod rights;
mod run;
mod sequences;
pub(super) mod temporary;
mod types;
