//! Bulkhead stores many customers' documents, vectors and LLM spend, and speaks the Postgres
//! protocol.
pub mod ai;
pub mod codec;
pub mod config;
pub mod error;
pub mod ledger;
pub mod limits;
pub mod server;
pub mod sql;
pub mod tenant;
pub mod vector;
pub mod wire;
