//! ON CONFLICT as it runs.

use std::{collections::HashMap, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array},
    compute::{concat_batches, take},
    datatypes::Schema,
};

use super::{
    apply::{Changed, Effects, keys_of, places_of, read_rows, taken},
    change::{batch, concurrent, sets_a_key},
    conflict::{Conflict, ConflictUpdate},
    rules::Rules,
    security::Judge,
};
use crate::{
    error::{Code, Error, Result},
    sql::{session::Session, transaction::Isolation},
    table::{
        Mode,
        schema::{PolicyCommand, RowId},
    },
};

impl Session {
    /// ON CONFLICT. Gives the rows that were inserted or updated, in order.
    pub(super) async fn insert_or(
        &self,
        rules: &Rules,
        conflict: &Conflict,
        rows: RecordBatch,
        params: &[ArrayRef],
        effects: &mut Effects,
    ) -> Result<RecordBatch> {
        let (fresh, there) = self.conflicts(rules, conflict, &rows).await?;
        let inserted = taken(&rows, &fresh)?;
        let mut of: Vec<(usize, RecordBatch, usize)> = Vec::new();
        if let Some(update) = &conflict.update {
            let (at, new) = self
                .update_conflicting(rules, update, &rows, there, params, effects)
                .await?;
            of.extend(at.into_iter().enumerate().map(|(i, at)| (at, new.clone(), i)));
        }
        self.insert_rows(rules, &inserted, effects).await?;
        of.extend(fresh.iter().enumerate().map(|(i, at)| (*at, inserted.clone(), i)));
        of.sort_by_key(|(at, ..)| *at);
        let parts: Vec<RecordBatch> = of.iter().map(|(_, rows, i)| rows.slice(*i, 1)).collect();
        concat_batches(&rules.schema, &parts).map_err(Error::internal)
    }

    /// Which rows are new, and which are there already under which number.
    async fn conflicts(
        &self,
        rules: &Rules,
        conflict: &Conflict,
        rows: &RecordBatch,
    ) -> Result<(Vec<usize>, Vec<(usize, RowId)>)> {
        let world = self.world.tenant()?;
        let def = &rules.def;
        let judges = |oid| conflict.arbiters.is_empty() || conflict.arbiters.contains(&oid);
        let indexes: Vec<_> = def.indexes.iter().filter(|i| i.unique && judges(i.oid)).collect();
        let mut there: HashMap<usize, RowId> = HashMap::new();
        let mut skipped = vec![false; rows.num_rows()];
        for index in indexes {
            let Some(places) = places_of(def, index).filter(|_| index.predicate.is_none()) else {
                continue;
            };
            let columns: Vec<ArrayRef> = places.iter().map(|&p| rows.column(p).clone()).collect();
            let keys = keys_of(index, &columns, rows.num_rows())?;
            let present: Vec<_> = keys.iter().flatten().cloned().collect();
            world.lock_keys(def.oid, index.oid, &present, Mode::Exclusive).await?;
            let table = world.newest()?.table(def.oid).await?;
            let mut seen = std::collections::HashSet::new();
            for (at, key) in keys.iter().enumerate() {
                let Some(key) = key else { continue };
                match table.lookup(index.oid, key).first() {
                    Some(row) => {
                        there.entry(at).or_insert(*row);
                    }
                    None if there.contains_key(&at) || skipped[at] => {}
                    None if seen.insert(key) => {}
                    // The same key twice in one statement.
                    None if conflict.update.is_none() => skipped[at] = true,
                    None => return Err(second_time()),
                }
            }
        }
        let fresh = (0..rows.num_rows())
            .filter(|at| !there.contains_key(at) && !skipped[*at])
            .collect();
        let mut there: Vec<(usize, RowId)> = there.into_iter().collect();
        there.sort_unstable();
        Ok((fresh, there))
    }

    /// DO UPDATE. Gives the places of the rows that were updated, and the rows as they are then.
    async fn update_conflicting(
        &self,
        rules: &Rules,
        update: &ConflictUpdate,
        rows: &RecordBatch,
        there: Vec<(usize, RowId)>,
        params: &[ArrayRef],
        effects: &mut Effects,
    ) -> Result<(Vec<usize>, RecordBatch)> {
        let world = self.world.tenant()?;
        let def = &rules.def;
        let none = || Ok((Vec::new(), RecordBatch::new_empty(rules.schema.clone())));
        if there.is_empty() {
            return none();
        }
        let ids: Vec<RowId> = there.iter().map(|(_, row)| *row).collect();
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let mode = match sets_a_key(def, &update.sets) {
            true => Mode::Exclusive,
            false => Mode::NoKeyExclusive,
        };
        world.lock_rows(def.oid, &distinct, mode).await?;
        if world.isolation() != Isolation::ReadCommitted && !world.unchanged(def.oid, &distinct)? {
            return Err(concurrent());
        }
        // Keys are locked, so these are the rows that have them: as they are by now.
        let (found, old) = read_rows(&world.newest()?, def, &ids).await?;
        if found.len() != ids.len() {
            return Err(concurrent());
        }
        let places: Vec<usize> = there.iter().map(|(at, _)| *at).collect();
        let excluded = taken(rows, &places)?;
        let both = old.columns().iter().chain(excluded.columns()).cloned().collect();
        let fields = old
            .schema()
            .fields()
            .iter()
            .chain(excluded.schema().fields())
            .cloned()
            .collect::<Vec<_>>();
        let both = batch(Arc::new(Schema::new(fields)), both, ids.len())?;
        let mut values = update.compute.run(self, &both, params).await?;
        let (mut at, mut ids, mut old) = (places, ids, old);
        if update.filtered
            && let Some(verdict) = values.pop()
        {
            let verdict = verdict
                .as_boolean_opt()
                .ok_or_else(|| Error::new(Code::DatatypeMismatch, "argument of WHERE must be type boolean"))?
                .clone();
            let kept: Vec<usize> = (0..ids.len())
                .filter(|&i| verdict.is_valid(i) && verdict.value(i))
                .collect();
            let chosen = UInt64Array::from_iter_values(kept.iter().map(|&k| k as u64));
            values = values
                .iter()
                .map(|v| take(v, &chosen, None).map_err(Error::internal))
                .collect::<Result<_>>()?;
            old = taken(&old, &kept)?;
            at = kept.iter().map(|&k| at[k]).collect();
            ids = kept.iter().map(|&k| ids[k]).collect();
        }
        let mut once = std::collections::HashSet::new();
        if !ids.iter().all(|id| once.insert(*id)) {
            return Err(second_time());
        }
        if ids.is_empty() {
            return none();
        }
        let new = self.with_sets(rules, &old, &update.sets, &values).await?;
        let judges = [Judge::Seen(PolicyCommand::Select), Judge::Seen(PolicyCommand::Update)];
        self.check_policies(def, &judges, &old).await?;
        let new = self
            .judged(rules, new, &[Judge::new_rows(PolicyCommand::Update, true)])
            .await?;
        let changed = Changed {
            ids,
            old,
            new: new.clone(),
        };
        self.update_rows(rules, changed, effects).await?;
        Ok((at, new))
    }
}

/// 21000.
fn second_time() -> Error {
    Error::new(
        Code::CardinalityViolation,
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .with_hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}
