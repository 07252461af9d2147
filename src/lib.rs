//! Bulkhead stores many customers' documents, vectors, conversations and LLM spend in one binary, and
//! speaks the PostgreSQL protocol. Each customer is a tenant, and the walls between tenants are structure.
//!
//! # The house, ground to top
//!
//! A module uses only those above it in this list.
//!
//! - [`error`]: what can go wrong, and what to do then
//! - [`limits`]: how much of anything
//! - [`codec`]: bytes that sort, and PostgreSQL's types in Arrow
//! - [`tenant`]: the wall: who exists, the sealed store, logins
//! - [`ledger`]: what was used and what it costs; budgets, limits, reservations
//! - [`policy`]: what a tenant must comply with; its audit log
//! - [`table`]: what a tenant has made: tables, their rows, transactions on them
//! - [`vector`]: checked embeddings, distances, exact search
//! - [`ai`]: chunking, retrieval, the gate to models, conversations, the response cache
//! - [`sql`]: from text to rows inside one tenant
//! - [`wire`]: the protocol, byte by byte
//! - [`server`]: listeners and their end
//! - [`config`]: flags, environment and file
//!
//! # The life of one query
//!
//! A socket is accepted by [`server::Server`] and handed to [`wire`], which checks every frame before
//! anything decodes it. The login is an exchange with [`tenant::Attempt`]; its last step gives a
//! [`tenant::Login`], and that is all a [`sql::Session`] is opened with. Text arrives, is judged
//! against an allow-list and measured before it is parsed in full, is planned against a catalog made
//! of that one tenant's relations, and is read through [`tenant::Tenant`], which adds the key prefix
//! and opens every value with the tenant's own key. Rows leave as Arrow batches that [`wire`] encodes
//! as it sends them. What was written waits in the session's transaction, and becomes one
//! [`tenant::Batch`] with its line of the [`ledger`]; when that is on disk the client hears of it.
//!
//! # The life of one call of a model
//!
//! [`ai::gate`] resolves the model, lowers what is asked to what tier, model and budgets allow, and asks
//! [`ledger::Account`] to reserve the worst case: one lock of the tenant decides over all budgets and rate
//! limits, one commit makes it durable. Then [`ai::provider`] is called, once. How that ended becomes one
//! usage line, in one commit with the counters, the freed reservation and whatever belongs to the answer;
//! only then is it given, or tried again. A reservation that a crash left is settled when the process starts
//! again, as if all of it had been used.
//!
//! # Invariants
//!
//! - Only [`tenant::Attempt::last`] makes a [`tenant::Tenant`]; only a `Tenant` reaches a tenant's data. (Calls that a
//!   crash left unsettled are settled at the start through a [`tenant::Recovery`], which reaches nothing else.)
//! - An entry of the audit log is on disk exactly if the commit is that it tells of; only the committer numbers them.
//! - Only [`tenant::PerTenant`] keeps state for all tenants together, and it opens when shown a `Tenant`.
//! - Only [`tenant`] names sled, only [`sql`] names DataFusion, only [`wire`] names pgwire,
//!   only [`ai`] names async-openai and reqwest.
//! - Nothing is sent to a provider that is not reserved; nothing is given that is not settled.
//! - Only what is on disk is acknowledged; after a failed sync nothing is acknowledged again.
//! - Only [`ledger::books::record`] writes a usage line, and it adds the day's sums in the same batch.
//! - Never does a message hold another tenant's name or value, or a defect's cause.
//! - Never does a setting, an argument or a column choose the tenant.

pub mod ai;
pub mod codec;
pub mod config;
pub mod error;
pub mod ledger;
pub mod limits;
pub mod policy;
pub mod server;
pub mod sql;
pub mod table;
pub mod tenant;
pub mod vector;
pub mod wire;
