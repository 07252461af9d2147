//! Documents become chunks, terms and embeddings; questions become ranked passages and answers.
//!
//! Computation is pure and works on one tenant's data, handed in by the caller: a text is cut by
//! [`chunking`], reduced to [`terms::Terms`] for keyword search and to a vector by [`embedder`], and both are
//! kept in a [`corpus::Corpus`]. [`corpus::Layers::search`] ranks chunks, [`prompt::pack`] fits the best into a
//! token budget, and [`answerer`] answers from them by quoting. Models elsewhere are called by [`gate`], which
//! reserves, retries and settles, through [`provider`]. What is remembered of the answers is stored through a
//! [`Tenant`](crate::tenant::Tenant): conversations by [`conversation`], answers that may be given again by
//! [`cache`]. Models of one tenant's own are made by [`fine_tune`]; [`webhook`] posts its alerts.

pub mod answerer;
pub mod cache;
pub mod chunking;
pub mod conversation;
pub mod corpus;
#[cfg(test)]
mod corpus_tests;
pub mod embedder;
pub mod filter;
pub mod fine_tune;
mod fusion;
pub mod gate;
mod hash;
mod postings;
pub mod prompt;
pub mod provider;
mod sentences;
mod stemmer;
pub mod terms;
pub mod tokens;
pub mod trust;
mod view;
pub mod webhook;
