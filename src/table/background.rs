//! Work in the background of a tenant's tables: folding what has gathered, removing cells that nobody reads any more.

use std::sync::{Arc, Weak};

use super::{
    block::Head,
    cells::{self, Entry},
    garbage::{Garbage, Shared},
    schema::Oid,
    store::Tables,
};
use crate::{
    error::{Code, Error, Result},
    limits,
    tenant::{Batch, Table},
};

/// Runs as long as the tables are there.
pub(super) async fn run(home: Weak<Tables>, shared: Arc<Shared>) {
    loop {
        shared.wake.notified().await;
        if home.strong_count() == 0 {
            return;
        }
        let sweeper = shared.clone();
        let swept = tokio::task::spawn_blocking(move || sweep(&sweeper)).await;
        let mut done = swept.map_err(Error::internal).flatten();
        for table in shared.take_wanted() {
            let Some(tables) = home.upgrade() else { return };
            done = done.and(fold(&tables, table).await);
        }
        if let Err(error) = done {
            // Cells are found again when the tenant is opened next, and a table is folded after its next change.
            tracing::warn!(%error, "work on tables in the background failed");
            tokio::time::sleep(limits::FOLD_REST).await;
        }
    }
}

async fn fold(tables: &Arc<Tables>, table: Oid) -> Result<()> {
    match tables.fold_table(table, false).await {
        // It lost against commits, or the table is gone.
        Err(error) if matches!(error.code(), Code::SerializationFailure | Code::UndefinedTable) => Ok(()),
        other => other,
    }
}

/// Removes what was left.
fn sweep(shared: &Shared) -> Result<()> {
    for garbage in shared.take_garbage() {
        match garbage {
            Garbage::Block { storage, no, columns } => {
                let mut batch = shared.tenant.batch();
                delete_columns(&mut batch, storage, no, &columns);
                batch.delete(Table::Catalog, &Entry::PendingBlock(storage, no).key());
                shared.tenant.commit_blocking(batch)?;
            }
            Garbage::Rows { storage, rows } => {
                for rows in rows.chunks(limits::GARBAGE_CELLS) {
                    let mut batch = shared.tenant.batch();
                    rows.iter()
                        .for_each(|&row| batch.delete(Table::Rows, &cells::row(storage, row)));
                    shared.tenant.commit_blocking(batch)?;
                }
            }
            Garbage::Storage(storage) => sweep_storage(shared, storage)?,
        }
    }
    Ok(())
}

fn sweep_storage(shared: &Shared, storage: Oid) -> Result<()> {
    let tenant = &shared.tenant;
    let prefix = cells::storage(storage);
    // Each round begins anew: a scan would see what it has removed.
    loop {
        let rows = tenant.scan(Table::Rows, &prefix).take(limits::GARBAGE_CELLS);
        let keys = rows.map(|cell| Ok(cell?.0)).collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            break;
        }
        let mut batch = tenant.batch();
        keys.iter().for_each(|key| batch.delete(Table::Rows, key));
        tenant.commit_blocking(batch)?;
    }
    // One at a time: they are large.
    for cell in tenant.scan(Table::Graphs, &prefix) {
        let mut batch = tenant.batch();
        batch.delete(Table::Graphs, &cell?.0);
        tenant.commit_blocking(batch)?;
    }
    for cell in tenant.scan(Table::BlockHeads, &prefix) {
        let (key, stored) = cell?;
        let head: Head = cells::decode(&stored.value)?;
        let no = cells::read_head(&key).ok_or_else(super::row::corrupted)?;
        let columns: Vec<_> = head.columns.iter().map(|column| (column.id, column.parts)).collect();
        let mut batch = tenant.batch();
        delete_columns(&mut batch, storage, no, &columns);
        batch.delete(Table::BlockHeads, &key);
        tenant.commit_blocking(batch)?;
    }
    let mut batch = tenant.batch();
    batch.delete(Table::Catalog, &Entry::Fence(storage).key());
    batch.delete(Table::Catalog, &Entry::Garbage(storage).key());
    tenant.commit_blocking(batch)
}

fn delete_columns(batch: &mut Batch, storage: Oid, no: u32, columns: &[(u16, u16)]) {
    for &(column, parts) in columns {
        for part in 0..parts {
            batch.delete(Table::Blocks, &cells::column(storage, no, column, part));
        }
    }
}
