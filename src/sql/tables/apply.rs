//! Rows into a transaction: checked, their keys locked and compared, written, and followed by what hangs on them.

use std::collections::{HashMap, HashSet};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array},
    compute::take,
};
use futures::future::BoxFuture;

use super::{
    compute::Compute,
    rules::{Rules, shown},
    security::{self, Judge},
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{session::Session, world::TenantWorld},
    table::{
        Database, Key, Mode, Resource, Row, encode_all, key,
        schema::{IndexDef, IndexMethod, KeyOf, Oid, RowId, TableDef},
    },
};

/// Rows as they were and as they become, column by column.
pub(super) struct Changed {
    pub(super) ids: Vec<RowId>,
    pub(super) old: RecordBatch,
    pub(super) new: RecordBatch,
}

/// What a statement has yet to look at, when all that it writes is written.
#[derive(Default)]
pub(super) struct Effects {
    /// Referencing rows, by table and foreign key: their parents must be there.
    pub(super) children: Vec<(Oid, Oid, Vec<RowId>)>,
    /// Keys that are gone, by referencing table and foreign key: nothing may refer to them.
    pub(super) orphans: Vec<(Oid, Oid, Vec<ArrayRef>)>,
    /// How deep actions have gone.
    pub(super) depth: usize,
}

/// The unique indexes whose keys are columns, with the places of these.
fn unique_indexes(def: &TableDef) -> impl Iterator<Item = (&IndexDef, Vec<usize>)> {
    def.indexes
        .iter()
        .filter(|i| i.unique && i.predicate.is_none())
        .filter_map(|index| {
            let ordered = matches!(index.method, IndexMethod::Btree | IndexMethod::Hash);
            Some((index, places_of(def, index).filter(|_| ordered)?))
        })
}

/// The places of an index's columns; `None` where a key is an expression.
pub(super) fn places_of(def: &TableDef, index: &IndexDef) -> Option<Vec<usize>> {
    let place = |key: &crate::table::schema::IndexKey| match &key.key {
        KeyOf::Column(id) => def.columns.iter().position(|c| c.id == *id),
        KeyOf::Expression(_) => None,
    };
    index.keys.iter().map(place).collect()
}

/// Some of a batch's columns.
pub(super) fn columns_at(rows: &RecordBatch, places: &[usize]) -> Vec<ArrayRef> {
    places.iter().map(|&place| rows.column(place).clone()).collect()
}

/// The key of each row; `None` where a NULL in it equals nothing.
pub(super) fn keys_of(index: &IndexDef, columns: &[ArrayRef], rows: usize) -> Result<Vec<Option<Key>>> {
    let one = |at| {
        let (key, has_null) = key(columns, at, index)?;
        Ok((!has_null || index.nulls_not_distinct).then_some(key))
    };
    (0..rows).map(one).collect()
}

/// Rows at some places, in that order.
pub(super) fn taken(rows: &RecordBatch, places: &[usize]) -> Result<RecordBatch> {
    let places = UInt64Array::from_iter_values(places.iter().map(|&p| p as u64));
    let columns = rows
        .columns()
        .iter()
        .map(|c| take(c, &places, None).map_err(Error::internal));
    RecordBatch::try_new(rows.schema(), columns.collect::<Result<_>>()?).map_err(Error::internal)
}

fn duplicate(world: &TenantWorld, def: &TableDef, index: &IndexDef, columns: &[ArrayRef], at: usize) -> Error {
    let names = index.keys.iter().filter_map(|key| match &key.key {
        KeyOf::Column(id) => def.column_of(*id).map(|c| c.name.as_str()),
        KeyOf::Expression(text) => Some(text.as_str()),
    });
    let names: Vec<&str> = names.collect();
    let values: Result<Vec<String>> = columns.iter().map(|c| shown(c, at)).collect();
    let error = Error::new(
        Code::UniqueViolation,
        format!("duplicate key value violates unique constraint \"{}\"", index.name),
    )
    .with_table(&def.schema, &def.name)
    .with_constraint(&index.name);
    match values {
        Ok(values) if security::may_show(world, def) => error.with_detail(format!(
            "Key ({})=({}) already exists.",
            names.join(", "),
            values.join(", ")
        )),
        _ => error,
    }
}

impl Session {
    /// Judges rows as they are to be: row policies, NOT NULL, CHECK. Gives them with their generated columns.
    pub(super) async fn judged(&self, rules: &Rules, rows: RecordBatch, judges: &[Judge]) -> Result<RecordBatch> {
        let rows = rules.generate(self, rows).await?;
        self.check_policies(&rules.def, judges, &rows).await?;
        rules.check(self, &rows).await?;
        Ok(rows)
    }

    /// Keys that are computed, of rows that are in the index.
    async fn computed_keys(&self, index: &IndexDef, of: &Compute, rows: &RecordBatch) -> Result<Vec<Option<Key>>> {
        let mut values = of.run(self, rows, &[]).await?;
        let within = values.pop().ok_or_else(|| Error::internal("an index without keys"))?;
        let within = within
            .as_boolean_opt()
            .ok_or_else(|| Error::internal("a predicate is no truth value"))?;
        let keys = keys_of(index, &values, rows.num_rows())?.into_iter().enumerate();
        Ok(keys
            .map(|(at, key)| key.filter(|_| within.is_valid(at) && within.value(at)))
            .collect())
    }

    /// Refuses rows whose computed keys others have. Every row is looked at, for such indexes are not kept.
    async fn claim_computed(&self, rules: &Rules, rows: &RecordBatch, mine: &HashSet<RowId>) -> Result<()> {
        let def = &rules.def;
        let world = self.world.tenant()?;
        for (oid, of) in &rules.computed {
            let Some(index) = def.indexes.iter().find(|i| i.oid == *oid) else {
                continue;
            };
            let keys = self.computed_keys(index, of, rows).await?;
            let present: Vec<Key> = keys.iter().flatten().cloned().collect();
            if present.is_empty() {
                continue;
            }
            world.lock_keys(def.oid, index.oid, &present, Mode::Exclusive).await?;
            let taken = || {
                let text = format!("duplicate key value violates unique constraint \"{}\"", index.name);
                Error::new(Code::UniqueViolation, text)
                    .with_table(&def.schema, &def.name)
                    .with_constraint(&index.name)
            };
            let wanted: HashSet<&Key> = present.iter().collect();
            if wanted.len() < present.len() {
                return Err(taken());
            }
            let table = world.newest()?.table(def.oid).await?;
            for part in table.scan(all_columns(def), Vec::new(), true) {
                let (ids, part) = split_rows(&part?)?;
                let others = self.computed_keys(index, of, &part).await?;
                let mut others = ids.iter().zip(&others).filter(|(id, _)| !mine.contains(id));
                if others.any(|(_, key)| key.as_ref().is_some_and(|key| wanted.contains(key))) {
                    return Err(taken());
                }
            }
        }
        Ok(())
    }

    /// Refuses new rows whose keys are there already. Keys are locked first, so that nobody else brings them meanwhile.
    pub(super) async fn claim_keys(&self, rules: &Rules, rows: &RecordBatch) -> Result<()> {
        let def = &rules.def;
        self.claim_computed(rules, rows, &HashSet::new()).await?;
        let world = self.world.tenant()?;
        for (index, places) in unique_indexes(def) {
            let columns = columns_at(rows, &places);
            let keys = keys_of(index, &columns, rows.num_rows())?;
            let present: Vec<Key> = keys.iter().flatten().cloned().collect();
            if present.is_empty() {
                continue;
            }
            world.lock_keys(def.oid, index.oid, &present, Mode::Exclusive).await?;
            let table = world.newest()?.table(def.oid).await?;
            let mut seen = HashSet::with_capacity(present.len());
            for (at, key) in keys.iter().enumerate() {
                let Some(key) = key else { continue };
                if !seen.insert(key) || !table.lookup(index.oid, key).is_empty() {
                    return Err(duplicate(world, def, index, &columns, at));
                }
            }
        }
        Ok(())
    }

    /// Writes new rows that were judged. Gives their numbers.
    pub(super) async fn insert_rows(
        &self,
        rules: &Rules,
        rows: &RecordBatch,
        effects: &mut Effects,
    ) -> Result<Vec<RowId>> {
        let def = &rules.def;
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.claim_keys(rules, rows).await?;
        let world = self.world.tenant()?;
        let tables = world.tables().await?;
        // It must be loaded before it is written.
        world.view()?.table(def.oid).await?;
        let encoded = encoded(def, rows)?;
        let first = tables.allocate_rows(def.oid, encoded.len() as u64);
        let ids: Vec<RowId> = (first..).take(encoded.len()).collect();
        world.write_tables(|writes| {
            for (id, row) in ids.iter().zip(encoded) {
                writes.insert(def.oid, *id, row);
            }
        });
        for fk in &def.foreign_keys {
            effects.children.push((def.oid, fk.oid, ids.clone()));
        }
        Ok(ids)
    }

    /// Writes rows as they become, judged, whose locks are held.
    pub(super) async fn update_rows(&self, rules: &Rules, changed: Changed, effects: &mut Effects) -> Result<()> {
        let def = &rules.def;
        let world = self.world.tenant()?;
        let Changed { ids, old, new } = changed;
        if ids.is_empty() {
            return Ok(());
        }
        let mine: HashSet<RowId> = ids.iter().copied().collect();
        self.claim_computed(rules, &new, &mine).await?;
        for (index, places) in unique_indexes(def) {
            let (before, after) = (columns_at(&old, &places), columns_at(&new, &places));
            if before == after {
                continue;
            }
            let (old_keys, new_keys) = (keys_of(index, &before, ids.len())?, keys_of(index, &after, ids.len())?);
            let moved = || (0..ids.len()).filter(|&at| old_keys[at] != new_keys[at]);
            let touched: Vec<Key> = moved()
                .flat_map(|at| [&old_keys[at], &new_keys[at]])
                .flatten()
                .cloned()
                .collect();
            world.lock_keys(def.oid, index.oid, &touched, Mode::Exclusive).await?;
            let table = world.newest()?.table(def.oid).await?;
            let mut places_of_key: HashMap<&Key, usize> = HashMap::with_capacity(ids.len());
            for key in new_keys.iter().flatten() {
                *places_of_key.entry(key).or_default() += 1;
            }
            for at in moved() {
                let Some(key) = &new_keys[at] else { continue };
                let there = table.lookup(index.oid, key).iter().any(|row| !mine.contains(row));
                if there || places_of_key.get(key).is_some_and(|count| *count > 1) {
                    return Err(duplicate(world, def, index, &after, at));
                }
            }
        }
        let encoded = encoded(def, &new)?;
        world.write_tables(|writes| {
            for (id, row) in ids.iter().zip(encoded) {
                writes.update(def.oid, *id, row);
            }
        });
        for fk in &def.foreign_keys {
            let places = places_in(def, &fk.columns)?;
            let (before, after) = (columns_at(&old, &places), columns_at(&new, &places));
            if before != after {
                effects.children.push((def.oid, fk.oid, ids.clone()));
            }
        }
        self.follow(def, &old, Some(&new), effects).await
    }

    /// Removes rows whose locks are held.
    pub(super) async fn delete_rows(
        &self,
        def: &TableDef,
        ids: &[RowId],
        old: &RecordBatch,
        effects: &mut Effects,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let world = self.world.tenant()?;
        for (index, places) in unique_indexes(def) {
            let keys = keys_of(index, &columns_at(old, &places), ids.len())?;
            let keys: Vec<Key> = keys.into_iter().flatten().collect();
            world.lock_keys(def.oid, index.oid, &keys, Mode::Exclusive).await?;
        }
        world.write_tables(|writes| {
            for id in ids {
                writes.delete(def.oid, *id);
            }
        });
        self.follow(def, old, None, effects).await
    }

    /// [`Session::follow_keys`], which may come back to rows of other tables.
    fn follow<'s>(
        &'s self,
        def: &'s TableDef,
        old: &'s RecordBatch,
        new: Option<&'s RecordBatch>,
        effects: &'s mut Effects,
    ) -> BoxFuture<'s, Result<()>> {
        Box::pin(async move {
            effects.depth += 1;
            if effects.depth > limits::CASCADES {
                return Err(Error::new(Code::TooComplex, "actions of foreign keys go too deep"));
            }
            let done = self.follow_keys(def, old, new, effects).await;
            effects.depth -= 1;
            done
        })
    }
}

/// Rows as they are stored.
fn encoded(def: &TableDef, rows: &RecordBatch) -> Result<Vec<Row>> {
    let columns: Vec<(u16, ArrayRef)> = def
        .columns
        .iter()
        .map(|c| c.id)
        .zip(rows.columns().iter().cloned())
        .collect();
    encode_all(&columns)
}

/// The places of columns by id.
pub(super) fn places_in(def: &TableDef, ids: &[u16]) -> Result<Vec<usize>> {
    let place = |id: &u16| def.columns.iter().position(|c| c.id == *id);
    let places: Option<Vec<usize>> = ids.iter().map(place).collect();
    places.ok_or_else(|| Error::internal("a constraint names a column that is gone"))
}

impl TenantWorld {
    /// Locks keys to the end of the transaction.
    pub(super) async fn lock_keys(&self, table: Oid, index: Oid, keys: &[Key], mode: Mode) -> Result<()> {
        let wait = self.wait();
        self.owner()?.lock_keys(table, index, keys, mode, wait).await
    }

    /// Locks rows to the end of the transaction.
    pub(super) async fn lock_rows(&self, table: Oid, rows: &[RowId], mode: Mode) -> Result<()> {
        let wait = self.wait();
        self.owner()?.lock_rows(table, rows, mode, wait).await
    }

    /// Whether locked rows are still what the running statement has read.
    pub(super) fn unchanged(&self, table: Oid, rows: &[RowId]) -> Result<bool> {
        let (seen, latest) = (self.snapshot()?, self.opened()?.latest());
        Ok(seen.version() == latest.version() || rows.iter().all(|row| seen.same_row(&latest, table, *row)))
    }

    /// The lock that every writer of a table's rows holds.
    pub(in crate::sql) async fn lock_for_writing(&self, table: Oid) -> Result<()> {
        self.lock(Resource::Table(table), Mode::IntentWrite).await
    }
}

/// All columns of a table.
pub(super) fn all_columns(def: &TableDef) -> Vec<u16> {
    def.columns.iter().map(|c| c.id).collect()
}

/// The numbers of a batch's rows, which are its last column, and the batch without them.
///
/// # Errors
/// An internal one where there are none.
pub(super) fn split_rows(batch: &RecordBatch) -> Result<(Vec<RowId>, RecordBatch)> {
    let last = batch.num_columns().saturating_sub(1);
    let numbers = batch
        .columns()
        .last()
        .and_then(|c| c.as_any().downcast_ref::<UInt64Array>());
    let numbers = numbers
        .ok_or_else(|| Error::internal("rows without numbers"))?
        .values()
        .to_vec();
    let places: Vec<usize> = (0..last).collect();
    Ok((numbers, batch.project(&places).map_err(Error::internal)?))
}

/// Rows of a table in a moment, with their numbers.
///
/// # Errors
/// Those of reading.
pub(super) async fn read_rows(moment: &Database, def: &TableDef, ids: &[RowId]) -> Result<(Vec<RowId>, RecordBatch)> {
    let table = moment.table(def.oid).await?;
    split_rows(&table.get(ids, &all_columns(def), true)?)
}
