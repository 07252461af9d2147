//! Foreign keys: parents that must be there, children that go along, and what is looked at before the commit.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt64Array, new_null_array},
    compute::take,
    row::{RowConverter, SortField},
};

use super::{
    apply::{Changed, Effects, columns_at, keys_of, places_in, read_rows, split_rows},
    rules::shown,
    security,
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{
        session::Session,
        transaction::{Check, Deferred, Isolation},
        world::{TenantWorld, World},
    },
    table::{
        Database, Mode, Resource, TableData, key,
        schema::{Catalog, ForeignKeyDef, IndexDef, Oid, ReferentialAction, RowId, TableDef},
    },
};

/// A unique index over just these columns, and for each of its keys the place among them.
fn index_over<'d>(def: &'d TableDef, data: &TableData, columns: &[u16]) -> Option<(&'d IndexDef, Vec<usize>)> {
    use crate::table::schema::KeyOf;
    def.indexes.iter().find_map(|index| {
        let of = |key: &crate::table::schema::IndexKey| match &key.key {
            KeyOf::Column(id) => columns.iter().position(|c| c == id),
            KeyOf::Expression(_) => None,
        };
        let places: Vec<usize> = index.keys.iter().map(of).collect::<Option<_>>()?;
        let all = (0..columns.len()).all(|c| places.contains(&c)) && places.len() == columns.len();
        (all && index.predicate.is_none() && data.has_index(index.oid)).then_some((index, places))
    })
}

/// The foreign keys that refer to a table.
fn referring(catalog: &Catalog, parent: Oid) -> Vec<(Arc<TableDef>, ForeignKeyDef)> {
    let of = |child: &Arc<TableDef>| {
        let keys = child.foreign_keys.iter().filter(|fk| fk.references == parent);
        keys.map(|fk| (child.clone(), fk.clone())).collect::<Vec<_>>()
    };
    catalog.tables().flat_map(of).collect()
}

/// Rows whose columns are equal to one of some keys. `columns` are the table's, `keys` in the same order.
async fn rows_with(moment: &Database, def: &TableDef, columns: &[u16], keys: &[ArrayRef]) -> Result<Vec<RowId>> {
    let data = moment.table(def.oid).await?;
    let count = keys.first().map_or(0, |k| k.len());
    let has_null = |at: usize| keys.iter().any(|k| k.is_null(at));
    if let Some((index, places)) = index_over(def, &data, columns) {
        let ordered: Vec<ArrayRef> = places.iter().map(|&p| keys[p].clone()).collect();
        let mut rows = BTreeSet::new();
        for at in (0..count).filter(|&at| !has_null(at)) {
            rows.extend(data.lookup(index.oid, &key(&ordered, at, index)?.0));
        }
        return Ok(rows.into_iter().collect());
    }
    let wanted = values_of(def, columns, keys)?;
    let converter = converter(def, columns)?;
    let set: std::collections::HashSet<Vec<u8>> = {
        let rows = converter.convert_columns(&wanted).map_err(Error::internal)?;
        (0..count)
            .filter(|&at| !has_null(at))
            .map(|at| rows.row(at).as_ref().to_vec())
            .collect()
    };
    let mut found = Vec::new();
    for batch in data.scan(columns.to_vec(), Vec::new(), true) {
        let (ids, batch) = split_rows(&batch?)?;
        let rows = converter.convert_columns(batch.columns()).map_err(Error::internal)?;
        let equal = (0..ids.len()).filter(|&at| set.contains(rows.row(at).as_ref()));
        found.extend(equal.map(|at| ids[at]));
    }
    Ok(found)
}

fn converter(def: &TableDef, columns: &[u16]) -> Result<RowConverter> {
    let places = places_in(def, columns)?;
    let fields = places
        .iter()
        .map(|&p| SortField::new(def.columns[p].field().data_type().clone()));
    RowConverter::new(fields.collect()).map_err(Error::internal)
}

/// Keys in the types of a table's columns: those of two tables may differ in width.
fn values_of(def: &TableDef, columns: &[u16], keys: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let places = places_in(def, columns)?;
    let cast = |(key, place): (&ArrayRef, &usize)| {
        let wanted = def.columns[*place].field();
        datafusion::arrow::compute::cast(key, wanted.data_type()).map_err(Error::internal)
    };
    keys.iter().zip(&places).map(cast).collect()
}

fn names(def: &TableDef, columns: &[u16]) -> String {
    let names: Vec<&str> = columns
        .iter()
        .filter_map(|id| def.column_of(*id))
        .map(|c| c.name.as_str())
        .collect();
    names.join(", ")
}

fn values(keys: &[ArrayRef], at: usize) -> Result<String> {
    Ok(keys
        .iter()
        .map(|k| shown(k, at))
        .collect::<Result<Vec<_>>>()?
        .join(", "))
}

/// The values of a key for a message, where the session's user may see the rows of the table that has them.
fn shown_key(world: &TenantWorld, of: &TableDef, keys: &[ArrayRef], at: usize) -> Result<Option<String>> {
    security::may_show(world, of).then(|| values(keys, at)).transpose()
}

/// A child without a parent.
fn no_parent(child: &TableDef, parent: &TableDef, fk: &ForeignKeyDef, shown_key: Option<String>) -> Error {
    let text = format!(
        "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
        child.name, fk.name
    );
    let key = shown_key.map_or_else(String::new, |key| format!(" ({})=({key})", names(child, &fk.columns)));
    Error::new(Code::ForeignKeyViolation, text)
        .with_detail(format!("Key{key} is not present in table \"{}\".", parent.name))
        .with_table(&child.schema, &child.name)
        .with_constraint(&fk.name)
}

/// A parent with children.
fn referenced(parent: &TableDef, child: &TableDef, fk: &ForeignKeyDef, shown_key: Option<String>) -> Error {
    let text = format!(
        "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
        parent.name, fk.name, child.name
    );
    let error = Error::new(Code::ForeignKeyViolation, text)
        .with_table(&child.schema, &child.name)
        .with_constraint(&fk.name);
    match shown_key {
        None => error,
        Some(key) => error.with_detail(format!(
            "Key ({})=({key}) is still referenced from table \"{}\".",
            names(parent, &fk.referenced),
            child.name
        )),
    }
}

fn find_key(def: &TableDef, fk: Oid) -> Result<&ForeignKeyDef> {
    let found = def.foreign_keys.iter().find(|k| k.oid == fk);
    found.ok_or_else(|| Error::internal("a foreign key is gone"))
}

impl Session {
    /// What becomes of the rows that refer to keys that are gone or changed.
    pub(super) async fn follow_keys(
        &self,
        def: &TableDef,
        old: &RecordBatch,
        new: Option<&RecordBatch>,
        effects: &mut Effects,
    ) -> Result<()> {
        let world = self.world.tenant()?;
        let catalog = world.view()?.catalog().clone();
        for (child, fk) in referring(&catalog, def.oid) {
            let places = places_in(def, &fk.referenced)?;
            let before = columns_at(old, &places);
            let after = new.map(|new| columns_at(new, &places));
            // Rows whose key is no more what it was.
            let gone: Vec<usize> = match &after {
                None => (0..old.num_rows()).collect(),
                Some(after) => (0..old.num_rows())
                    .filter(|&at| before.iter().zip(after).any(|(b, a)| b.slice(at, 1) != a.slice(at, 1)))
                    .collect(),
            };
            let gone: Vec<usize> = gone
                .into_iter()
                .filter(|&at| before.iter().all(|b| !b.is_null(at)))
                .collect();
            if gone.is_empty() {
                continue;
            }
            let at = UInt64Array::from_iter_values(gone.iter().map(|&g| g as u64));
            let pick = |c: &ArrayRef| take(c, &at, None).map_err(Error::internal);
            let keys: Vec<ArrayRef> = before.iter().map(pick).collect::<Result<_>>()?;
            let action = if new.is_some() { fk.on_update } else { fk.on_delete };
            if action == ReferentialAction::NoAction {
                effects.orphans.push((child.oid, fk.oid, keys));
                continue;
            }
            let newest = world.newest()?;
            let ids = rows_with(&newest, &child, &fk.columns, &keys).await?;
            if ids.is_empty() {
                continue;
            }
            if action == ReferentialAction::Restrict {
                let key = match keys.first().map(|k| k.len()) {
                    Some(1) => shown_key(world, def, &keys, 0)?,
                    _ => None,
                };
                return Err(referenced(def, &child, &fk, key));
            }
            let new_keys = after
                .map(|after| after.iter().map(pick).collect::<Result<Vec<_>>>())
                .transpose()?;
            self.act(&child, &fk, action, (&keys, new_keys.as_deref()), ids, effects)
                .await?;
        }
        Ok(())
    }

    /// Changes or removes the referencing rows.
    async fn act(
        &self,
        child: &Arc<TableDef>,
        fk: &ForeignKeyDef,
        action: ReferentialAction,
        keys: (&[ArrayRef], Option<&[ArrayRef]>),
        ids: Vec<RowId>,
        effects: &mut Effects,
    ) -> Result<()> {
        let world = self.world.tenant()?;
        world.lock_for_writing(child.oid).await?;
        world.lock_rows(child.oid, &ids, Mode::Exclusive).await?;
        if world.isolation() != Isolation::ReadCommitted && !world.unchanged(child.oid, &ids)? {
            return Err(super::change::concurrent());
        }
        // Looked at again: while it waited for the locks rows may have changed.
        let newest = world.newest()?;
        let still = rows_with(&newest, child, &fk.columns, keys.0).await?;
        let ids: Vec<RowId> = still.into_iter().filter(|id| ids.contains(id)).collect();
        let (ids, old) = read_rows(&newest, child, &ids).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let places = places_in(child, &fk.columns)?;
        let rules = self.rules(child)?;
        let mut columns = old.columns().to_vec();
        match (action, keys.1) {
            (ReferentialAction::Cascade, None) => {
                return self.delete_rows(child, &ids, &old, effects).await;
            }
            (ReferentialAction::Cascade, Some(new_keys)) => {
                let matching = places_of_keys(child, fk, keys.0, &columns_at(&old, &places))?;
                let new_keys = values_of(child, &fk.columns, new_keys)?;
                let at = UInt64Array::from_iter_values(matching);
                for (place, values) in places.iter().zip(&new_keys) {
                    columns[*place] = take(values, &at, None).map_err(Error::internal)?;
                }
            }
            (ReferentialAction::SetDefault, _) => {
                for &place in &places {
                    columns[place] = rules.default(self, place, ids.len()).await?;
                }
            }
            _ => {
                for &place in &places {
                    columns[place] = new_null_array(columns[place].data_type(), ids.len());
                }
            }
        }
        let new = RecordBatch::try_new(rules.schema.clone(), columns).map_err(Error::internal)?;
        let new = rules.generate(self, new).await?;
        rules.check(self, &new).await?;
        self.update_rows(&rules, Changed { ids, old, new }, effects).await
    }

    /// Looks at what the statement left to be looked at, or leaves it to the commit where the key is deferred.
    pub(super) async fn settle(&self, effects: Effects) -> Result<()> {
        let world = self.world.tenant()?;
        let catalog = world.view()?.catalog().clone();
        for (child, fk, ids) in effects.children {
            let Some(def) = catalog.table(child) else { continue };
            let key = find_key(def, fk)?;
            match key.deferred {
                true => self.defer(ids.iter().map(|id| Check::Parent(child, fk, *id))),
                false => self.check_parents(&catalog, def, key, &ids).await?,
            }
        }
        for (child, fk, keys) in effects.orphans {
            let Some(def) = catalog.table(child) else { continue };
            let key = find_key(def, fk)?;
            match key.deferred {
                true => self.defer([Check::Children(child, fk)]),
                false => self.check_orphans(&catalog, def, key, &keys).await?,
            }
        }
        Ok(())
    }

    fn defer(&self, checks: impl IntoIterator<Item = Check>) {
        if let World::Tenant(world) = &*self.world {
            let mut tx = world.tx.lock();
            let deferred: &mut Deferred = tx.deferred_mut();
            Arc::make_mut(deferred).extend(checks);
        }
    }

    /// Refuses rows whose parents are not there. Parents are locked, so that they stay.
    async fn check_parents(
        &self,
        catalog: &Catalog,
        child: &TableDef,
        fk: &ForeignKeyDef,
        ids: &[RowId],
    ) -> Result<()> {
        let world = self.world.tenant()?;
        let Some(parent) = catalog.table(fk.references) else {
            return Err(Error::internal("a referenced table is gone"));
        };
        let newest = world.newest()?;
        let children = newest.table(child.oid).await?;
        for ids in ids.chunks(limits::BULK_ROWS) {
            let keys = children.get(ids, &fk.columns, false)?.columns().to_vec();
            let rows = keys.first().map_or(0, |k| k.len());
            let whole: Vec<usize> = (0..rows).filter(|&at| keys.iter().all(|k| !k.is_null(at))).collect();
            if whole.is_empty() {
                continue;
            }
            // KEY SHARE of what is to stay; the table's own lock keeps those out who lock it as a whole.
            world.lock(Resource::Table(parent.oid), Mode::KeyShared).await?;
            let mut locked = BTreeSet::new();
            loop {
                let newest = world.newest()?;
                let found = parents(&newest, parent, fk, &keys, &whole).await?;
                let mut rows = BTreeSet::new();
                for (at, row) in whole.iter().zip(&found) {
                    match row {
                        Some(row) => rows.extend((!locked.contains(row)).then_some(*row)),
                        None => {
                            let key = shown_key(world, child, &keys, *at)?;
                            return Err(no_parent(child, parent, fk, key));
                        }
                    }
                }
                if rows.is_empty() {
                    break;
                }
                let wanted: Vec<RowId> = rows.iter().copied().collect();
                match wanted.len() > limits::ROW_LOCKS {
                    true => world.lock(Resource::Table(parent.oid), Mode::Shared).await?,
                    false => world.lock_rows(parent.oid, &wanted, Mode::KeyShared).await?,
                }
                locked.extend(rows);
            }
        }
        Ok(())
    }

    /// Refuses that rows refer to keys that are gone.
    async fn check_orphans(
        &self,
        catalog: &Catalog,
        child: &TableDef,
        fk: &ForeignKeyDef,
        keys: &[ArrayRef],
    ) -> Result<()> {
        let world = self.world.tenant()?;
        let Some(parent) = catalog.table(fk.references) else {
            return Ok(());
        };
        let newest = world.newest()?;
        // A key that another row has by now is not gone.
        let all: Vec<usize> = (0..keys.first().map_or(0, |k| k.len())).collect();
        let found = parents(&newest, parent, fk, keys, &all).await?;
        let gone: Vec<u64> = all
            .iter()
            .zip(&found)
            .filter(|(_, row)| row.is_none())
            .map(|(at, _)| *at as u64)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let at = UInt64Array::from(gone);
        let keys: Vec<ArrayRef> = keys
            .iter()
            .map(|k| take(k, &at, None).map_err(Error::internal))
            .collect::<Result<_>>()?;
        let ids = rows_with(&newest, child, &fk.columns, &keys).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let (_, rows) = read_rows(&newest, child, &ids[..1]).await?;
        let own = columns_at(&rows, &places_in(child, &fk.columns)?);
        Err(referenced(parent, child, fk, shown_key(world, parent, &own, 0)?))
    }

    /// What was left to the commit.
    ///
    /// # Errors
    /// 23503.
    pub(in crate::sql) async fn check_deferred(&self) -> Result<()> {
        let World::Tenant(world) = &*self.world else {
            return Ok(());
        };
        let deferred = world.tx.lock().deferred().clone();
        if deferred.is_empty() {
            return Ok(());
        }
        let newest = world.newest()?;
        let catalog = newest.catalog().clone();
        let mut rows: std::collections::BTreeMap<(Oid, Oid), Vec<RowId>> = std::collections::BTreeMap::new();
        for check in deferred.iter() {
            match check {
                Check::Parent(child, fk, row) => rows.entry((*child, *fk)).or_default().push(*row),
                Check::Children(child, fk) => {
                    // Every referencing row is looked at: their parents tell.
                    let Some(def) = catalog.table(*child) else { continue };
                    let data = newest.table(def.oid).await?;
                    for batch in data.scan(Vec::new(), Vec::new(), true) {
                        rows.entry((*child, *fk)).or_default().extend(split_rows(&batch?)?.0);
                    }
                }
            }
        }
        for ((child, fk), ids) in rows {
            let Some(def) = catalog.table(child) else { continue };
            let Some(key) = def.foreign_keys.iter().find(|k| k.oid == fk) else {
                continue;
            };
            self.check_parents(&catalog, def, key, &ids).await?;
        }
        Ok(())
    }
}

/// For each of some keys the row of the referenced table that has it.
async fn parents(
    moment: &Database,
    parent: &TableDef,
    fk: &ForeignKeyDef,
    keys: &[ArrayRef],
    at: &[usize],
) -> Result<Vec<Option<RowId>>> {
    let data = moment.table(parent.oid).await?;
    if let Some((index, places)) = index_over(parent, &data, &fk.referenced) {
        let ordered: Vec<ArrayRef> = places.iter().map(|&p| keys[p].clone()).collect();
        let rows = keys.first().map_or(0, |k| k.len());
        let all = keys_of(index, &ordered, rows)?;
        let one = |at: &usize| {
            all[*at]
                .as_ref()
                .and_then(|key| data.lookup(index.oid, key).first().copied())
        };
        return Ok(at.iter().map(one).collect());
    }
    let converter = converter(parent, &fk.referenced)?;
    let wanted = values_of(parent, &fk.referenced, keys)?;
    let wanted = converter.convert_columns(&wanted).map_err(Error::internal)?;
    let mut rows = std::collections::HashMap::new();
    for batch in data.scan(fk.referenced.clone(), Vec::new(), true) {
        let (ids, batch) = split_rows(&batch?)?;
        let own = converter.convert_columns(batch.columns()).map_err(Error::internal)?;
        for (i, id) in ids.iter().enumerate() {
            rows.insert(own.row(i).as_ref().to_vec(), *id);
        }
    }
    Ok(at
        .iter()
        .map(|at| rows.get(wanted.row(*at).as_ref()).copied())
        .collect())
}

/// For each referencing row the place of the key that it has.
fn places_of_keys(child: &TableDef, fk: &ForeignKeyDef, keys: &[ArrayRef], own: &[ArrayRef]) -> Result<Vec<u64>> {
    let converter = converter(child, &fk.columns)?;
    let keys = converter
        .convert_columns(&values_of(child, &fk.columns, keys)?)
        .map_err(Error::internal)?;
    let own = converter.convert_columns(own).map_err(Error::internal)?;
    let places: std::collections::HashMap<Vec<u8>, u64> = keys
        .iter()
        .enumerate()
        .map(|(i, row)| (row.as_ref().to_vec(), i as u64))
        .collect();
    let place = |row: datafusion::arrow::row::Row<'_>| places.get(row.as_ref()).copied();
    let found: Option<Vec<u64>> = own.iter().map(place).collect();
    found.ok_or_else(|| Error::internal("a referencing row has another key"))
}
