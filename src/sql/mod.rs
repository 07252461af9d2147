//! SQL: from text to rows, inside one tenant.
//!
//! A text is judged by `guard`, rewritten into what DataFusion plans by `rewrite` and `pg`,
//! planned by names that mean one session's `world`, and run by [`Session`]. Only this folder
//! names DataFusion.

mod admission;
mod array_parameters;
mod backends;
mod bounded;
mod builtin;
#[cfg(test)]
mod cache_tests;
mod calls;
mod catalog;
mod chain;
mod commands;
mod commitment;
mod complaints;
mod copy;
mod cursor;
#[cfg(test)]
mod direct_tests;
mod dml;
mod documents;
mod effects;
mod embedding;
#[cfg(test)]
mod embedding_tests;
mod engine;
mod estimate;
mod explain;
mod functions;
mod gateway;
mod guard;
mod hoist;
mod index;
mod jobs;
mod judged;
mod kept;
mod lift;
mod listen;
mod metering;
mod nearest;
mod pg;
mod planner;
mod plans;
mod prepared;
mod reembed;
mod relations;
mod retyped;
mod rewrite;
mod run;
mod session;
mod settings;
#[cfg(test)]
mod settings_tests;
mod shown;
mod spelling;
mod startup;
mod statement;
mod statements;
mod tables;
#[cfg(test)]
mod testing;
mod trail;
mod transaction;
mod tuning;
mod tx;
mod users;
mod words;
mod world;
mod yielding;

pub use commitment::{Commitment, HOLD_TICK, Hold};
pub use copy::{CopyAnswer, CopyFormat, CopyKind, CopyTarget, Header};
pub use engine::{Engine, EngineOptions};
pub use guard::Parsed;
pub use lift::Constant;
pub use listen::Notification;
pub(crate) use pg::json;
pub use prepared::Prepared;
pub use session::{Answer, Column, Notice, RowStream, RowTag, Session};
pub use tables::builds::Builds;
pub use yielding::Watch;
