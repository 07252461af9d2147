//! The tables of the store and the keys of their cells.
//!
//! A cell's key is tenant id (8 bytes, big-endian; 0 is the operator's plane), table (1), logical
//! key, part (2 bytes, big-endian). Only this folder ever sees one.

use crate::limits;

macro_rules! tables {
    ($( $(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $access:ident; )*) => {
        /// What a stored value belongs to. Below 64 lie a tenant's tables, from 64 on the operator's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Table { $( $(#[$doc])* $variant = $number, )* }

        impl Table {
            /// Every table.
            pub const ALL: &'static [Table] = &[ $( Table::$variant, )* ];

            /// The name used in messages.
            pub const fn name(self) -> &'static str { match self { $( Self::$variant => $name, )* } }

            /// Who may read and write it through the public methods.
            pub(super) const fn access(self) -> Access { match self { $( Self::$variant => Access::$access, )* } }
        }
    };
}

tables! {
    /// Users of the tenant; read and written only through [`Tenant`](super::Tenant)'s user methods.
    Users = 1, "users", Directory;
    /// Documents.
    Documents = 2, "documents", Tenant;
    /// Chunks of documents.
    Chunks = 3, "chunks", Tenant;
    /// Usage events.
    Usage = 4, "usage", Tenant;
    /// Rolled-up costs.
    Costs = 5, "costs", Tenant;
    /// Settings of the tenant.
    Settings = 6, "settings", Tenant;
    /// Conversations of a user.
    Conversations = 7, "conversations", Tenant;
    /// Messages of conversations.
    Messages = 8, "messages", Tenant;
    /// Budgets that the tenant's owner set.
    Budgets = 9, "budgets", Tenant;
    /// What is spent and reserved, by window.
    Counters = 10, "counters", Tenant;
    /// Calls of models that are not settled yet.
    Reservations = 11, "reservations", Tenant;
    /// Levels of the rate limits.
    Buckets = 12, "buckets", Tenant;
    /// Thresholds that were passed.
    Alerts = 13, "alerts", Tenant;
    /// Answers that may be given again.
    Cache = 14, "cache", Tenant;
    /// Answers of calls that carried an idempotency key.
    Replays = 15, "replays", Tenant;
    /// Work in the background.
    Jobs = 16, "jobs", Tenant;
    /// Fine-tuning jobs.
    FineTunes = 17, "fine_tunes", Tenant;
    /// Models that only this tenant has.
    OwnModels = 18, "own_models", Tenant;
    /// The tenant's own keys of providers.
    Secrets = 19, "secrets", Tenant;
    /// Vectors of chunks, by embedding model.
    Vectors = 20, "vectors", Tenant;
    /// What the tenant has made: schemas, tables, views, sequences.
    Catalog = 21, "catalog", Tenant;
    /// Rows of tables that are not in a block, and marks of those that were deleted from one.
    Rows = 22, "rows", Tenant;
    /// What each block of a table's rows holds; one that is not here does not exist.
    BlockHeads = 23, "block_heads", Tenant;
    /// Columns of blocks.
    Blocks = 24, "blocks", Tenant;
    /// Numbers that sequences have reached.
    Sequences = 25, "sequences", Tenant;
    /// Graphs over vectors of tables, by storage, column and metric. Derived from rows.
    Graphs = 26, "graphs", Tenant;
    /// The tenant's log; written only by [`Batch::append`](super::Batch::append).
    Audit = 40, "audit_log", Directory;
    /// Who exists; read and written only by the directory.
    Tenants = 64, "tenants", Directory;
    /// Tiers, published to all.
    Tiers = 65, "tiers", Operator;
    /// Models, published to all.
    Models = 66, "models", Operator;
    /// Prices, published to all.
    Prices = 67, "prices", Operator;
    /// Providers, published to all; their keys are shown to nobody.
    Providers = 68, "providers", Operator;
    /// Numbers of the tenants for the operator, written by [`Batch::publish`](super::Batch::publish).
    Amounts = 69, "amounts", Directory;
    /// Operators; read and written only by the directory.
    Operators = 70, "operators", Directory;
}

/// See [`Table::access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Tenant,
    Operator,
    /// This folder only.
    Directory,
}

/// Everything of a cell's key but the part.
pub(super) fn stem(plane: u64, table: Table, key: &[u8]) -> Vec<u8> {
    let mut stem = Vec::with_capacity(STEM_HEAD + key.len() + PART_BYTES);
    stem.extend_from_slice(&plane.to_be_bytes());
    stem.push(table as u8);
    stem.extend_from_slice(key);
    stem
}

/// The key of one cell of a value.
pub(super) fn cell(stem: &[u8], part: usize) -> Vec<u8> {
    const { assert!(limits::VALUE_CELLS <= u16::MAX as usize) };
    [stem, &(part as u16).to_be_bytes()].concat()
}

/// Stem and part of a cell's key; `None` for one that this program did not write.
pub(super) fn split(cell: &[u8]) -> Option<(&[u8], usize)> {
    let (stem, part) = cell.split_last_chunk::<PART_BYTES>()?;
    (stem.len() >= STEM_HEAD).then(|| (stem, usize::from(u16::from_be_bytes(*part))))
}

/// The logical key in a stem.
pub(super) fn logical(stem: &[u8]) -> &[u8] {
    &stem[STEM_HEAD..]
}

/// The first key after all that start with `prefix`; `None` after the last.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

const STEM_HEAD: usize = 9;
const PART_BYTES: usize = 2;
