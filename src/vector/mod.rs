//! Vectors: checked embeddings, distances, and nearest-neighbour search.
//!
//! Nothing here knows a tenant or touches a disk. An [`Embedding`] is finite and of a sane length,
//! so that no later step has to ask; [`Metric`] has pgvector's meanings; a [`Shard`] holds the vectors
//! of one index and answers in the cheapest way that keeps the promised recall: by comparing all, by looking at codes of all, or by a
//! walk in a graph, always with exact distances and always with as many rows as match.
//!
//! Only this folder names hnsw_rs, and only `kernel/` holds `unsafe` code.

mod aligned;
mod build;
mod codes;
mod costs;
mod embedding;
mod graph;
mod kernel;
mod measure;
mod metric;
mod part;
mod pool;
mod rotation;
mod rows;
mod sealed;
mod search;
mod shard;
mod state;
mod top;
mod turns;

#[cfg(test)]
mod linking_tests;
#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod shard_tests;

pub use build::{Cancel, Linking};
pub use costs::{calibrate, kernel_timings};
pub use embedding::{Embedding, parse_vector};
pub use metric::Metric;
pub use pool::{Member, Pool, Share};
pub use rows::RowSet;
pub use search::{Fetch, Filter, Hit, Method, Options, RECALL, Trace};
pub use shard::{Due, Memory, Moment, Shard};
pub use top::TopK;
pub use turns::{Queue, Tended, Turns};
