//! What tenants have made themselves: tables with their rows, views and sequences.
//!
//! A tenant's [`Tables`] keep the newest [`Database`]: one immutable value, which a statement takes as its snapshot
//! by cloning it. A transaction gathers a [`WriteSet`] and sees [`Database::with`] it; [`Tables::fill`] makes a commit
//! of it, and whoever hears of the commit finds it in [`Tables::latest`]. Rows are rows at first, in memory and as
//! one cell each; the work in the background folds them into blocks of sealed columns, of which memory holds heads
//! only. Writers keep out of each other's way by [`Locks`]; nobody waits to read.
//!
//! ```text
//! schema    what exists, as plain data      row      rows as bytes           build     Arrow from rows
//! key       index keys                      index    one index               block     columns, heads, marks
//! blocks    the blocks of a table           state    one table               scan      reading all of it
//! snapshot  Database, TableData             write    WriteSet                store     Tables: commits
//! load      from cells                      cells    keys of cells           garbage   what nobody reads
//! locks     who may change what             sequence numbers given once      background  folding, removing
//! cache     columns at hand                  fold     rows to blocks          queues    who waits for whom
//! difference  what changed between moments
//! ```

mod background;
mod block;
mod blocks;
mod build;
mod cache;
mod cells;
mod difference;
mod fold;
mod garbage;
mod index;
mod key;
mod load;
mod locks;
mod queues;
mod row;
mod scan;
pub mod schema;
mod sequence;
mod snapshot;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use index::{Expressions, IndexScan};
pub use key::{Key, key};
pub use locks::{LockInfo, Locks, Mark, Mode, Owner, Resource, Wait};
pub use row::{Row, decode, encode, encode_all};
pub use scan::{Bound, BoundOp, ROW_COLUMN, Scan};
pub use sequence::Sequences;
pub use snapshot::{Database, TableData, not_unique};
pub use store::Tables;
pub use write::{NewBlock, WriteSet};
