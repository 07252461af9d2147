//! Documents become chunks, terms and embeddings; questions become ranked passages and answers.
//!
//! Retrieval is pure computation on one tenant's data, handed in by the caller: no tenant, no
//! disk, no network, no clock. A text is cut by [`chunking`], reduced to [`terms::Terms`] for
//! keyword search and to a vector by [`embedder`], and both are kept in a [`corpus::Corpus`].
//! [`corpus::Layers::search`] ranks chunks, [`prompt::pack`] fits the best into a token budget,
//! and [`answerer`] answers from them by quoting.
//!
//! What is remembered of the answers is stored through a [`Tenant`](crate::tenant::Tenant):
//! conversations by [`conversation`], answers that may be given again by [`cache`].

pub mod answerer;
pub mod cache;
pub mod chunking;
pub mod conversation;
pub mod corpus;
#[cfg(test)]
mod corpus_tests;
pub mod embedder;
pub mod filter;
mod fusion;
mod hash;
mod postings;
pub mod prompt;
mod sentences;
mod stemmer;
pub mod terms;
pub mod tokens;
