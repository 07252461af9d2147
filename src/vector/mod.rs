//! Vectors: checked embeddings, distances, and exact nearest-neighbour search.
//!
//! Nothing here knows a tenant or touches a disk. An [`Embedding`] is finite and of a sane length,
//! so that no later step has to ask; [`Metric`] has pgvector's meanings; an [`Arena`] holds the
//! vectors of one index and answers by scanning all of them, which is exact and, for the sizes of
//! a tenant, fast.

mod arena;
mod embedding;
mod kernel;
mod metric;
mod top;

pub use arena::Arena;
pub use embedding::{Embedding, parse_vector};
pub use metric::Metric;
pub use top::TopK;
