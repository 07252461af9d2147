//! From cells to what is in memory: the catalog at open, a table at first use.

use std::{collections::HashMap, sync::Arc};

use super::{
    block::{Block, Fate, Head},
    cells::{self, Entry},
    garbage::{Garbage, Shared, Storage},
    row::{self, Row, corrupted},
    schema::{Catalog, FIRST_OID, Oid, Relation, RowId, SchemaDef, TableDef},
    state::TableState,
};
use crate::{
    error::Result,
    tenant::{Batch, Table, Tenant},
};

/// The mark of a row that is gone from its block.
pub(super) const GONE: [u8; 1] = [0];
const _: () = assert!(GONE[0] != row::VERSION);

/// What the catalog's cells hold.
pub(super) struct Opened {
    pub catalog: Catalog,
    /// The storages of tables that have another number than the table.
    pub storages: HashMap<Oid, Oid>,
    /// What was not finished.
    pub garbage: Vec<Garbage>,
    pub next_oid: Oid,
}

/// Reads the catalog.
///
/// # Errors
/// [`crate::error::Code::Corrupted`] for a damaged cell, those of reading.
pub(super) fn open(tenant: &Tenant) -> Result<Opened> {
    let mut opened = Opened {
        catalog: Catalog {
            version: 1,
            ..Catalog::default()
        },
        storages: HashMap::new(),
        garbage: Vec::new(),
        next_oid: FIRST_OID,
    };
    let Opened {
        catalog,
        storages,
        garbage,
        next_oid,
    } = &mut opened;
    for cell in tenant.scan(Table::Catalog, &[]) {
        let (key, stored) = cell?;
        let entry = Entry::read(&key).ok_or_else(corrupted)?;
        let oid = match entry {
            Entry::Next => cells::decode::<Oid>(&stored.value)?.saturating_sub(1),
            Entry::Schema(oid) => {
                let schema: SchemaDef = cells::decode(&stored.value)?;
                catalog.schemas.insert(schema.name.clone(), Arc::new(schema));
                oid
            }
            Entry::Relation(oid) => {
                let relation: Relation = cells::decode(&stored.value)?;
                let inner = inner_oids(&relation);
                catalog.relations.insert(oid, relation);
                inner.max(oid)
            }
            Entry::Storage(oid) => {
                let storage = cells::decode(&stored.value)?;
                storages.insert(oid, storage);
                storage.max(oid)
            }
            Entry::PendingBlock(storage, no) => {
                let columns = cells::decode(&stored.value)?;
                garbage.push(Garbage::Block { storage, no, columns });
                storage
            }
            Entry::Fence(storage) => storage,
            Entry::Garbage(storage) => {
                garbage.push(Garbage::Storage(storage));
                storage
            }
        };
        *next_oid = (*next_oid).max(oid.saturating_add(1));
    }
    // A number that a sequence of a transaction had that never came must not go to another sequence.
    for cell in tenant.scan(Table::Sequences, &[]) {
        let oid = cell?.0.try_into().map(Oid::from_be_bytes).map_err(|_| corrupted())?;
        *next_oid = (*next_oid).max(oid.saturating_add(1));
    }
    Ok(opened)
}

/// The greatest number of what is defined within a relation.
fn inner_oids(relation: &Relation) -> Oid {
    let Relation::Table(table) = relation else { return 0 };
    let indexes = table.indexes.iter().map(|index| index.oid);
    let checks = table.checks.iter().map(|check| check.oid);
    let foreign = table.foreign_keys.iter().map(|key| key.oid);
    let policies = table.policies.iter().map(|policy| policy.oid);
    indexes.chain(checks).chain(foreign).chain(policies).max().unwrap_or(0)
}

/// Puts what differs between two catalogs into a batch.
///
/// # Errors
/// [`crate::error::Code::Internal`] in practice never.
pub(super) fn put_changes(batch: &mut Batch, old: &Catalog, new: &Catalog) -> Result<()> {
    for (name, schema) in &new.schemas {
        if old.schemas.get(name) != Some(schema) {
            batch.put(
                Table::Catalog,
                &Entry::Schema(schema.oid).key(),
                cells::encode(&**schema)?,
            );
        }
    }
    let schema_oids = |catalog: &Catalog| catalog.schemas.values().map(|schema| schema.oid).collect::<Vec<_>>();
    let kept = schema_oids(new);
    for oid in schema_oids(old).into_iter().filter(|oid| !kept.contains(oid)) {
        batch.delete(Table::Catalog, &Entry::Schema(oid).key());
    }
    for (&oid, relation) in &new.relations {
        let same = old.relations.get(&oid).is_some_and(|old| same(old, relation));
        if !same {
            batch.put(Table::Catalog, &Entry::Relation(oid).key(), cells::encode(relation)?);
        }
    }
    for &oid in old.relations.keys().filter(|oid| !new.relations.contains_key(oid)) {
        batch.delete(Table::Catalog, &Entry::Relation(oid).key());
    }
    Ok(())
}

/// Most relations are the same ones.
fn same(one: &Relation, other: &Relation) -> bool {
    match (one, other) {
        (Relation::Table(one), Relation::Table(other)) => Arc::ptr_eq(one, other) || one == other,
        (Relation::View(one), Relation::View(other)) => Arc::ptr_eq(one, other) || one == other,
        (Relation::Sequence(one), Relation::Sequence(other)) => Arc::ptr_eq(one, other) || one == other,
        (Relation::Table(_) | Relation::View(_) | Relation::Sequence(_), _) => false,
    }
}

/// A table as it is stored.
pub(super) struct Loaded {
    pub state: TableState,
    /// After all rows and blocks.
    pub next_row: RowId,
    pub next_block: u32,
    /// Marks of rows that are in no block.
    pub strays: Vec<RowId>,
}

/// Reads a table: the heads of its blocks, its rows, and what its indexes need.
///
/// # Errors
/// [`crate::error::Code::Corrupted`] for a damaged cell, those of reading.
pub(super) fn table(shared: &Arc<Shared>, def: Arc<TableDef>, storage: Oid) -> Result<Loaded> {
    let tenant = &shared.tenant;
    let mut state = TableState::empty(def, Storage::new(storage, shared.clone()));
    let (mut next_row, mut next_block, mut strays) = (1, 1, Vec::new());
    for cell in tenant.scan(Table::BlockHeads, &cells::storage(storage)) {
        let (key, stored) = cell?;
        let no = cells::read_head(&key).ok_or_else(corrupted)?;
        let head: Head = cells::decode(&stored.value)?;
        let block = Block::new(shared.clone(), storage, no, head, Fate::Live)?;
        next_row = next_row.max(block.last().saturating_add(1));
        next_block = next_block.max(no.saturating_add(1));
        state.place_block(Arc::new(block), Arc::default());
    }
    for cell in tenant.scan(Table::Rows, &cells::storage(storage)) {
        let (key, stored) = cell?;
        let row = cells::read_row(&key).ok_or_else(corrupted)?;
        next_row = next_row.max(row.saturating_add(1));
        match stored.value.first() {
            Some(&row::VERSION) => state.put(row, Some(Row::from_bytes(&stored.value))),
            _ if stored.value != GONE => return Err(corrupted()),
            _ if state.blocks.find(row).is_some() => state.put(row, None),
            _ => strays.push(row),
        }
    }
    state.build_indexes()?;
    Ok(Loaded {
        state,
        next_row,
        next_block,
        strays,
    })
}
