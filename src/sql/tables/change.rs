//! INSERT, UPDATE and DELETE as they run.
//!
//! UPDATE and DELETE compute which rows they change under what the statement sees, lock these, and look whether they
//! are still the same: if not, READ COMMITTED looks again at what is committed and computes anew, with the locks kept,
//! and the higher levels fail with 40001. Only then is anything written.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array},
        compute::{concat, concat_batches, filter_record_batch},
        datatypes::{Schema, SchemaRef, UInt64Type},
    },
    common::ScalarValue,
};
use futures::{Stream, StreamExt};

use super::{
    apply::{Changed, Effects},
    assign,
    compute::Compute,
    insert::{InsertPlan, Source, assigned_columns},
    rights::{self, Privilege},
    rules::Rules,
    security::Judge,
    write::{Action, ChangePlan, Set, TableWrite},
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::{
        complaints::from_datafusion,
        prepared::{self, Prepared},
        run::gather,
        session::{Answer, RowTag, Session, Status},
        transaction::Isolation,
        world::TenantWorld,
    },
    table::{
        Mode, Resource,
        schema::{KeyOf, PolicyCommand, Relation, RowId, TableDef},
    },
};

/// What a statement has done.
struct Done {
    count: u64,
    /// Rows as they are then, in order, and what was read beside them; nothing without RETURNING.
    rows: Option<(RecordBatch, Vec<ArrayRef>)>,
}

/// Rows that a change reads.
struct Read {
    ids: Vec<RowId>,
    old: RecordBatch,
    sets: Vec<ArrayRef>,
    beside: Vec<ArrayRef>,
}

/// 40001: a row is no more what the transaction sees.
pub(super) fn concurrent() -> Error {
    Error::new(
        Code::SerializationFailure,
        "could not serialize access due to concurrent update",
    )
    .with_hint("run the transaction again")
}

impl Session {
    pub(in crate::sql) async fn run_table_write(
        &mut self,
        write: &TableWrite,
        prepared: &Prepared,
        params: &[ArrayRef],
    ) -> Result<Answer> {
        let params: Vec<ArrayRef> = prepared::values(params, &write.placeholders)?
            .iter()
            .map(|value| value.to_array().map_err(from_datafusion))
            .collect::<Result<_>>()?;
        self.check_rights(write)?;
        let done = match &write.action {
            Action::Insert(plan) => self.run_insert(write, plan, &params, &prepared.parameters).await?,
            Action::Update(change) => self.run_change(write, change, &params, true).await?,
            Action::Delete(change) => self.run_change(write, change, &params, false).await?,
        };
        let returned = match (&write.returning, done.rows) {
            (Some(compute), Some((rows, beside))) => Some(self.returned(compute, rows, beside, &params).await?),
            _ => None,
        };
        self.world.tenant()?.wrote(done.count);
        if self.status == Status::Idle {
            self.commit().await?;
        }
        Ok(match returned {
            None => Answer::Done {
                tag: RowTag(write.tag()).render(done.count),
            },
            Some(rows) => Answer::Rows {
                columns: prepared.columns.clone(),
                rows: Box::pin(futures::stream::iter([Ok(rows)])),
                tag: RowTag(write.tag()),
            },
        })
    }

    /// Refuses what the user may not do with the table.
    fn check_rights(&self, write: &TableWrite) -> Result<()> {
        let world = self.world.tenant()?;
        let table = Relation::Table(write.def.clone());
        let own = match &write.action {
            Action::Insert(_) => Privilege::Insert,
            Action::Update(_) => Privilege::Update,
            Action::Delete(_) => Privilege::Delete,
        };
        rights::require(world, &table, own)?;
        if let Action::Insert(plan) = &write.action
            && plan.conflict.as_ref().is_some_and(|conflict| conflict.update.is_some())
        {
            rights::require(world, &table, Privilege::Update)?;
        }
        match write.reads {
            true => rights::require(world, &table, Privilege::Select),
            false => Ok(()),
        }
    }

    /// RETURNING.
    async fn returned(
        &self,
        compute: &Compute,
        rows: RecordBatch,
        beside: Vec<ArrayRef>,
        params: &[ArrayRef],
    ) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let fields = rows.schema().fields().iter().cloned().collect::<Vec<_>>();
        let more = beside.iter().enumerate();
        let more = more.map(|(i, a)| {
            Arc::new(datafusion::arrow::datatypes::Field::new(
                format!("b{i}"),
                a.data_type().clone(),
                true,
            ))
        });
        let schema = Arc::new(Schema::new(fields.into_iter().chain(more).collect::<Vec<_>>()));
        let columns = rows.columns().iter().cloned().chain(beside).collect();
        let rows = batch(schema, columns, count)?;
        let values = compute.run(self, &rows, params).await?;
        let fields = values
            .iter()
            .enumerate()
            .map(|(i, v)| datafusion::arrow::datatypes::Field::new(format!("r{i}"), v.data_type().clone(), true));
        batch(Arc::new(Schema::new(fields.collect::<Vec<_>>())), values, count)
    }

    async fn run_change(
        &self,
        write: &TableWrite,
        change: &ChangePlan,
        params: &[ArrayRef],
        update: bool,
    ) -> Result<Done> {
        let world = self.world.tenant()?;
        let def = &write.def;
        let mode = match update && !sets_a_key(def, &change.sets) {
            true => Mode::NoKeyExclusive,
            false => Mode::Exclusive,
        };
        let mut looks = 0;
        let read = loop {
            let read = self.read_change(write, change, params).await?;
            if read.ids.is_empty() {
                break read;
            }
            world.lock_rows(def.oid, &read.ids, mode).await?;
            if world.unchanged(def.oid, &read.ids)? {
                break read;
            }
            looks += 1;
            if world.isolation() != Isolation::ReadCommitted || looks > limits::LOOKS {
                return Err(concurrent());
            }
            world.look_again()?;
        };
        let mut effects = Effects::default();
        let count = read.ids.len() as u64;
        let rows = match update {
            false => {
                self.delete_rows(def, &read.ids, &read.old, &mut effects).await?;
                read.old
            }
            true => {
                let new = self
                    .with_sets(&write.rules, &read.old, &change.sets, &read.sets)
                    .await?;
                let new = self
                    .judged(
                        &write.rules,
                        new,
                        &[Judge::new_rows(PolicyCommand::Update, write.reads)],
                    )
                    .await?;
                let changed = Changed {
                    ids: read.ids,
                    old: read.old,
                    new: new.clone(),
                };
                self.update_rows(&write.rules, changed, &mut effects).await?;
                new
            }
        };
        self.settle(effects).await?;
        Ok(Done {
            count,
            rows: write.returning.is_some().then_some((rows, read.beside)),
        })
    }

    /// The rows to change, each once.
    async fn read_change(&self, write: &TableWrite, change: &ChangePlan, params: &[ArrayRef]) -> Result<Read> {
        let width = write.def.columns.len();
        let given = change.sets.iter().filter(|s| s.from.is_some()).count();
        if let Some(by_key) = &change.by_key {
            let world = self.world.tenant()?;
            world.lock_for_reading(write.def.oid).await?;
            let view = world.view()?;
            let (rows, sets) = by_key.read(self, &view, &write.def, params).await?;
            return Read::of(&rows, width, sets, Vec::new(), &write.rules.schema);
        }
        let values = params.iter().map(|p| ScalarValue::try_from_array(p, 0));
        let values = values.collect::<Result<Vec<_>, _>>().map_err(from_datafusion)?;
        let filled;
        let plan = match values.is_empty() {
            true => &change.input,
            false => {
                filled = change
                    .input
                    .clone()
                    .with_param_values(values)
                    .map_err(from_datafusion)?;
                &filled
            }
        };
        let physical = self.physical_of(plan, change.optimized).await?;
        let schema = physical.schema();
        let batches = gather(self.stream(physical)?).await?;
        let rows = concat_batches(&schema, &batches).map_err(Error::internal)?;
        let rows = first_of_each(rows)?;
        let sets = rows.columns().iter().skip(1 + width).take(given).cloned().collect();
        let beside = rows.columns().iter().skip(1 + width + given).cloned().collect();
        Read::of(&rows, width, sets, beside, &write.rules.schema)
    }

    /// Rows with their new values.
    pub(super) async fn with_sets(
        &self,
        rules: &Rules,
        old: &RecordBatch,
        sets: &[Set],
        values: &[ArrayRef],
    ) -> Result<RecordBatch> {
        let mut columns = old.columns().to_vec();
        let mut values = values.iter();
        for set in sets {
            let column = &rules.def.columns[set.place];
            columns[set.place] = match (set.from, set.from.and_then(|_| values.next())) {
                (Some(from), Some(values)) => assign::assign(values, from, column)?,
                _ => rules.default(self, set.place, old.num_rows()).await?,
            };
        }
        batch(rules.schema.clone(), columns, old.num_rows())
    }

    async fn run_insert(
        &self,
        write: &TableWrite,
        plan: &InsertPlan,
        params: &[ArrayRef],
        types: &[crate::codec::pgtype::PgType],
    ) -> Result<Done> {
        let rules = &write.rules;
        let def = &write.def;
        let rows = match &plan.source {
            Source::Rows { rows, computed, from } => {
                let given = self
                    .cells(def, &plan.places, (rows, computed, from), (params, types))
                    .await?;
                self.completed(rules, plan, given, rows.len()).await?
            }
            Source::Query {
                plan: query,
                optimized,
                from,
            } => {
                let values = params.iter().map(|p| ScalarValue::try_from_array(p, 0));
                let values = values.collect::<Result<Vec<_>, _>>().map_err(from_datafusion)?;
                let filled;
                let query = match values.is_empty() {
                    true => query,
                    false => {
                        filled = query.clone().with_param_values(values).map_err(from_datafusion)?;
                        &filled
                    }
                };
                let mut stream = self.stream(self.physical_of(query, *optimized).await?)?;
                let (first, more) = ahead(&mut stream).await?;
                if more && plan.conflict.is_none() && write.returning.is_none() {
                    let source = futures::stream::iter(first.into_iter().map(Ok)).chain(stream);
                    let count = self.insert_many(rules, plan, from, source).await?;
                    return Ok(Done { count, rows: None });
                }
                let world = self.world.tenant()?;
                world.lock_for_writing(def.oid).await?;
                still_current(world, def)?;
                let mut all = first;
                all.extend(gather(stream).await?);
                let mut parts = Vec::with_capacity(all.len());
                for part in &all {
                    let given = assigned_columns(def, &plan.places, from, part)?;
                    let given = given.into_iter().map(|c| vec![Some(c)]).collect();
                    parts.push(self.completed(rules, plan, given, part.num_rows()).await?);
                }
                concat_batches(&rules.schema, &parts).map_err(Error::internal)?
            }
            Source::Given => return Err(Error::internal("a COPY is no INSERT")),
        };
        let reads = write.returning.is_some() || plan.conflict.is_some();
        let rows = self
            .judged(rules, rows, &[Judge::new_rows(PolicyCommand::Insert, reads)])
            .await?;
        let mut effects = Effects::default();
        let (count, rows) = match &plan.conflict {
            None => {
                self.insert_rows(rules, &rows, &mut effects).await?;
                (rows.num_rows() as u64, rows)
            }
            Some(conflict) => {
                let rows = self.insert_or(rules, conflict, rows, params, &mut effects).await?;
                (rows.num_rows() as u64, rows)
            }
        };
        self.settle(effects).await?;
        Ok(Done {
            count,
            rows: write.returning.is_some().then_some((rows, Vec::new())),
        })
    }

    /// Rows of all columns: those that are given, and defaults.
    pub(super) async fn completed(
        &self,
        rules: &Rules,
        plan: &InsertPlan,
        given: Vec<Vec<Option<ArrayRef>>>,
        count: usize,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; rules.def.columns.len()];
        for (&place, values) in plan.places.iter().zip(given) {
            if plan.ignored.contains(&place) {
                continue;
            }
            columns[place] = match values.as_slice() {
                [Some(whole)] if whole.len() == count => Some(whole.clone()),
                parts if parts.iter().all(Option::is_none) => None,
                parts => {
                    let missing = parts.iter().filter(|p| p.is_none()).count();
                    let defaults = rules.default(self, place, missing).await?;
                    let mut next = 0;
                    let parts: Vec<ArrayRef> = parts
                        .iter()
                        .map(|part| {
                            part.clone().unwrap_or_else(|| {
                                next += 1;
                                defaults.slice(next - 1, 1)
                            })
                        })
                        .collect();
                    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                    Some(concat(&parts).map_err(Error::internal)?)
                }
            };
        }
        let mut whole = Vec::with_capacity(columns.len());
        for (place, column) in columns.into_iter().enumerate() {
            whole.push(match column {
                Some(values) => values,
                None if rules.def.columns[place].generated.is_some() => {
                    new_null_array(rules.schema.field(place).data_type(), count)
                }
                None => rules.default(self, place, count).await?,
            });
        }
        batch(rules.schema.clone(), whole, count)
    }

    /// So many rows that they become blocks at once, and the table is locked instead of their keys.
    pub(super) async fn insert_many(
        &self,
        rules: &Rules,
        plan: &InsertPlan,
        from: &[assign::From],
        mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    ) -> Result<u64> {
        let world = self.world.tenant()?;
        let def = &rules.def;
        world.lock(Resource::Table(def.oid), Mode::Exclusive).await?;
        still_current(world, def)?;
        let tables = world.tables().await?;
        let mut count = 0;
        let mut effects = Effects::default();
        while let Some(part) = rows.next().await {
            let part = part?;
            if part.num_rows() == 0 {
                continue;
            }
            let given = assigned_columns(def, &plan.places, from, &part)?;
            let given = given.into_iter().map(|c| vec![Some(c)]).collect();
            let part = self.completed(rules, plan, given, part.num_rows()).await?;
            let part = self
                .judged(rules, part, &[Judge::new_rows(PolicyCommand::Insert, false)])
                .await?;
            self.claim_keys(rules, &part).await?;
            let newest = world.newest()?;
            newest.table(def.oid).await?;
            let newest = world.newest()?;
            let block = tables.write_block(&newest, def.oid, &part).await?;
            let ids: Vec<RowId> = (block.first_row()..).take(part.num_rows()).collect();
            world.write_tables(|writes| writes.insert_block(block));
            for fk in &def.foreign_keys {
                effects.children.push((def.oid, fk.oid, ids.clone()));
            }
            count += part.num_rows() as u64;
        }
        self.settle(effects).await?;
        Ok(count)
    }
}

/// Refuses a table that another transaction changed while its lock was waited for.
///
/// # Errors
/// 40001.
pub(super) fn still_current(world: &TenantWorld, def: &Arc<TableDef>) -> Result<()> {
    let own = world.tx.lock().tables().catalog().is_some();
    let latest = world.opened()?.latest();
    match own || latest.catalog().table(def.oid).is_some_and(|now| Arc::ptr_eq(now, def)) {
        true => Ok(()),
        false => Err(concurrent()),
    }
}

/// Whether a column of a unique key, or of one that others refer to, is set.
pub(super) fn sets_a_key(def: &TableDef, sets: &[Set]) -> bool {
    let is_key = |id: u16| {
        let keys = def.indexes.iter().filter(|i| i.unique).flat_map(|i| &i.keys);
        let mut keys = keys.map(|key| &key.key);
        keys.any(|key| matches!(key, KeyOf::Column(of) if *of == id) || matches!(key, KeyOf::Expression(_)))
    };
    sets.iter().any(|set| is_key(def.columns[set.place].id))
}

/// The first batches of a stream, and whether there are more than [`limits::BULK_ROWS`] rows in all.
pub(super) async fn ahead(
    rows: &mut (impl Stream<Item = Result<RecordBatch>> + Unpin),
) -> Result<(Vec<RecordBatch>, bool)> {
    let (mut first, mut count) = (Vec::new(), 0);
    while let Some(part) = rows.next().await {
        let part = part?;
        count += part.num_rows();
        first.push(part);
        if count > limits::BULK_ROWS {
            return Ok((first, true));
        }
    }
    Ok((first, false))
}

pub(super) fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(Error::internal)
}

/// A join may give a row several times: it is changed once, as the first of them says.
fn first_of_each(rows: RecordBatch) -> Result<RecordBatch> {
    let Some(ids) = rows.columns().first().and_then(|c| c.as_primitive_opt::<UInt64Type>()) else {
        return Err(Error::internal("rows without numbers"));
    };
    let mut seen = std::collections::HashSet::with_capacity(ids.len());
    let first: datafusion::arrow::array::BooleanArray = ids
        .iter()
        .map(|id| Some(id.is_some_and(|id| seen.insert(id))))
        .collect();
    match first.true_count() == first.len() {
        true => Ok(rows),
        false => filter_record_batch(&rows, &first).map_err(Error::internal),
    }
}

impl Read {
    /// `rows` begin with their numbers and the table's columns.
    fn of(
        rows: &RecordBatch,
        width: usize,
        sets: Vec<ArrayRef>,
        beside: Vec<ArrayRef>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let ids = rows.columns().first().and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let ids = ids
            .ok_or_else(|| Error::internal("rows without numbers"))?
            .values()
            .to_vec();
        let columns = rows.columns().iter().skip(1).take(width).cloned().collect();
        Ok(Self {
            old: batch(schema.clone(), columns, ids.len())?,
            ids,
            sets,
            beside,
        })
    }
}
