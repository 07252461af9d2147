//! `SELECT ... FOR UPDATE` and its kind: rows are read, locked, and read again where they changed meanwhile.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        datatypes::{DataType, UInt64Type},
    },
    common::ScalarValue,
    logical_expr::LogicalPlan,
    sql::sqlparser::ast::{
        GroupByExpr, Ident, LimitClause, LockClause, LockType, NonBlock, ObjectName, ObjectNamePart, Query, SelectItem,
        SetExpr, Statement, TableAlias, TableFactor,
    },
};

use super::{
    change::concurrent,
    compute::{Compute, one_row, projected},
    pieces::{self, Pieces, column_of, fold, fresh, quoted},
    provider::UserTable,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
    limits,
    sql::{
        complaints::from_datafusion,
        guard::Parsed,
        prepared::{self, Plan, Prepared, timely},
        run::gather,
        session::{Answer, RowTag, Session, Status},
        transaction::Isolation,
    },
    table::{
        Mode, Resource,
        schema::{Oid, PolicyCommand, RowId},
    },
};

/// A planned query that locks rows.
pub(in crate::sql) struct LockingQuery {
    plan: LogicalPlan,
    optimized: bool,
    /// Places of the columns that the client gets.
    shown: Vec<usize>,
    /// Tables, the places of their rows' numbers, and how they are locked.
    locks: Vec<(Oid, usize, Mode)>,
    wait: Option<NonBlock>,
    /// OFFSET and LIMIT, which count locked rows only where others are skipped.
    window: Option<(Compute, bool, bool)>,
    placeholders: Vec<DataType>,
}

impl LockingQuery {
    /// The plan of its rows, for EXPLAIN.
    pub(in crate::sql) fn input(&self) -> (&LogicalPlan, bool) {
        (&self.plan, self.optimized)
    }
}

fn not_with(what: &str) -> Error {
    Error::new(Code::Unsupported, format!("FOR UPDATE is not allowed with {what}"))
}

/// What a clause asks of rows.
fn mode_of(clause: &LockClause) -> Mode {
    match clause.lock_type {
        LockType::Update => Mode::Exclusive,
        LockType::Share => Mode::Shared,
    }
}

impl Session {
    /// Plans a query whose rows are locked.
    ///
    /// # Errors
    /// 0A000 for what has no rows to lock; 42P01 for a name of OF that is not in FROM; 25006.
    pub(in crate::sql) fn plan_locking(
        &self,
        mut query: Query,
        parsed: &Parsed,
        declared: &[Option<PgType>],
    ) -> Result<Prepared> {
        self.check_writable("SELECT FOR UPDATE")?;
        let clauses = std::mem::take(&mut query.locks);
        let wait = clauses.iter().rev().find_map(|clause| clause.nonblock);
        let skip = wait == Some(NonBlock::SkipLocked);
        let mut pieces = Pieces::new(self, declared);
        let SetExpr::Select(select) = query.body.as_mut() else {
            return Err(not_with("UNION/INTERSECT/EXCEPT"));
        };
        if select.distinct.is_some() {
            return Err(not_with("DISTINCT clause"));
        }
        if !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty()) || select.having.is_some() {
            return Err(not_with("GROUP BY clause"));
        }
        let mut named: Vec<String> = Vec::new();
        let mut rows = Vec::new();
        for factor in select.from.iter_mut().flat_map(|from| {
            std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation))
        }) {
            let TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } = factor
            else {
                continue;
            };
            let called = alias.as_ref().map(|a| fold(&a.name)).or_else(|| last_of(name));
            let Some(called) = called else { continue };
            named.push(called.clone());
            let wanted = clauses.iter().filter(|clause| {
                clause
                    .of
                    .as_ref()
                    .is_none_or(|of| last_of(of).as_ref() == Some(&called))
            });
            let Some(mode) = wanted.map(mode_of).max_by_key(|mode| *mode as u8) else {
                continue;
            };
            let Some(def) = self.own_table(name)? else {
                return Err(
                    Error::new(Code::Unsupported, format!("rows of \"{called}\" cannot be locked"))
                        .with_hint("write without locking: a conflicting commit fails with 40001 and can be retried"),
                );
            };
            let row_column = fresh("row");
            let target = UserTable::to_change(&self.names, &def, PolicyCommand::Update, true, &row_column);
            *name = ObjectName::from(vec![quoted(&pieces.table(std::sync::Arc::new(target)))]);
            if alias.is_none() {
                *alias = Some(TableAlias {
                    explicit: true,
                    name: quoted(&called),
                    columns: vec![],
                    at: None,
                });
            }
            rows.push((def.oid, called, row_column, mode));
        }
        for of in clauses.iter().filter_map(|clause| clause.of.as_ref()) {
            if !named.iter().any(|name| last_of(of).as_ref() == Some(name)) {
                let text = format!("relation \"{of}\" in FOR UPDATE clause not found in FROM clause");
                return Err(Error::new(Code::UndefinedTable, text));
            }
        }
        for (at, (_, called, row_column, _)) in rows.iter().enumerate() {
            select
                .projection
                .push(pieces::item(column_of(called, row_column), "lock", at));
        }
        let window = match skip {
            true => window_of(&mut query)?,
            false => None,
        };
        let plan = pieces.plan(Statement::Query(Box::new(query)))?;
        if has_aggregate(&plan) {
            return Err(not_with("aggregate functions"));
        }
        let window = match window {
            None => None,
            Some((items, offset, limit)) => {
                let plan = pieces.plan(pieces::select(None, items, Vec::new(), None))?;
                Some((projected(plan)?.0, offset, limit))
            }
        };
        let (parameters, placeholders) = pieces.finish();
        let all = prepared::columns_of(&plan);
        let fields = plan.schema().fields().clone();
        let hidden = |name: &str| name.starts_with("\u{1}lock") || rows.iter().any(|(_, _, row, _)| name == row);
        let shown: Vec<usize> = (0..fields.len()).filter(|&at| !hidden(fields[at].name())).collect();
        let mut locks = Vec::with_capacity(rows.len());
        for (at, (oid, _, _, mode)) in rows.iter().enumerate() {
            let name = format!("\u{1}lock{at}");
            let place = fields.iter().position(|f| *f.name() == name);
            let place = place.ok_or_else(|| Error::internal("a locked row has no number"))?;
            locks.push((*oid, place, *mode));
        }
        let optimized = !timely(&plan)?;
        let plan = match optimized {
            true => self.state.optimize(&plan).map_err(from_datafusion)?,
            false => plan,
        };
        let window = window
            .map(|(exprs, offset, limit)| {
                let empty = std::sync::Arc::new(datafusion::common::DFSchema::empty());
                Ok::<_, Error>((Compute::new(&self.state, exprs, &empty, &placeholders)?, offset, limit))
            })
            .transpose()?;
        Ok(Prepared {
            parameters,
            columns: shown.iter().map(|&at| all[at].clone()).collect(),
            returns_rows: true,
            plan: Plan::Locking(Arc::new(LockingQuery {
                plan,
                optimized,
                shown,
                locks,
                wait,
                window,
                placeholders,
            })),
            parsed: parsed.clone(),
            declared: declared.to_vec(),
            catalog: self.catalog()?,
        })
    }

    pub(in crate::sql) async fn run_locking(
        &mut self,
        query: &LockingQuery,
        prepared: &Prepared,
        params: &[ArrayRef],
    ) -> Result<Answer> {
        let values = prepared::values(params, &query.placeholders)?;
        let world = self.world.tenant()?;
        for (table, ..) in &query.locks {
            // Against those who lock the table as a whole.
            world.lock(Resource::Table(*table), Mode::KeyShared).await?;
        }
        world.begin_statement()?;
        let plan = match values.is_empty() {
            true => query.plan.clone(),
            false => query
                .plan
                .clone()
                .with_param_values(values.clone())
                .map_err(from_datafusion)?,
        };
        let (offset, limit) = self.window(query, &values).await?;
        let mut looks = 0;
        let batches = loop {
            let physical = self.physical_of(&plan, query.optimized).await?;
            let batches = gather(self.stream(physical)?).await?;
            if query.wait == Some(NonBlock::SkipLocked) {
                break self.take_free(query, batches, offset, limit)?;
            }
            let mut changed = false;
            for (table, place, mode) in &query.locks {
                let ids = numbers(&batches, *place)?;
                match query.wait {
                    Some(_) => {
                        for id in &ids {
                            if !world.owner()?.try_lock(Resource::Row(*table, *id), *mode) {
                                return Err(Error::new(
                                    Code::LockNotAvailable,
                                    "could not obtain lock on row in relation",
                                ));
                            }
                        }
                    }
                    None => world.lock_rows(*table, &ids, *mode).await?,
                }
                changed |= !world.unchanged(*table, &ids)?;
            }
            if !changed {
                break batches;
            }
            looks += 1;
            if world.isolation() != Isolation::ReadCommitted || looks > limits::LOOKS {
                return Err(concurrent());
            }
            world.look_again()?;
        };
        let shown = batches
            .iter()
            .map(|batch| batch.project(&query.shown).map_err(Error::internal));
        let shown = shown.collect::<Result<Vec<_>>>()?;
        if self.status == Status::Idle {
            self.commit().await?;
        }
        Ok(Answer::Rows {
            columns: prepared.columns.clone(),
            rows: Box::pin(futures::stream::iter(shown.into_iter().map(Ok))),
            tag: RowTag("SELECT"),
        })
    }

    /// OFFSET and LIMIT of a query that skips what is locked.
    async fn window(&self, query: &LockingQuery, values: &[ScalarValue]) -> Result<(usize, usize)> {
        let Some((compute, has_offset, has_limit)) = &query.window else {
            return Ok((0, usize::MAX));
        };
        let params = values
            .iter()
            .map(|v| v.to_array().map_err(from_datafusion))
            .collect::<Result<Vec<_>>>()?;
        let mut found = compute.run(self, &one_row(), &params).await?.into_iter();
        let mut next = |has: bool, none: usize| -> Result<usize> {
            let Some(value) = found.next().filter(|_| has) else {
                return Ok(none);
            };
            if value.is_null(0) {
                return Ok(none);
            }
            let value =
                datafusion::arrow::compute::cast(&value, &DataType::Int64).map_err(|e| from_datafusion(e.into()))?;
            let value = value.as_primitive::<datafusion::arrow::datatypes::Int64Type>().value(0);
            usize::try_from(value)
                .map_err(|_| Error::new(Code::InvalidParameterValue, "LIMIT and OFFSET must not be negative"))
        };
        let offset = match has_offset {
            true => next(true, 0)?,
            false => 0,
        };
        let limit = match has_limit {
            true => next(true, usize::MAX)?,
            false => usize::MAX,
        };
        Ok((offset, limit))
    }

    /// The rows that nobody has locked, as many as are wanted; they are locked.
    fn take_free(
        &self,
        query: &LockingQuery,
        batches: Vec<RecordBatch>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<RecordBatch>> {
        let world = self.world.tenant()?;
        let (mut taken, mut skipped) = (Vec::new(), 0);
        for batch in batches {
            for at in 0..batch.num_rows() {
                if taken.len() >= limit {
                    return Ok(taken);
                }
                let row = batch.slice(at, 1);
                let mut free = true;
                for (table, place, mode) in &query.locks {
                    for id in numbers(std::slice::from_ref(&row), *place)? {
                        free &= world.owner()?.try_lock(Resource::Row(*table, id), *mode)
                            // One that changed since is another row than was asked for.
                            && world.unchanged(*table, &[id])?;
                    }
                }
                if !free {
                    continue;
                }
                if skipped < offset {
                    skipped += 1;
                    continue;
                }
                taken.push(row);
            }
        }
        Ok(taken)
    }
}

/// Rows by number; an outer join has none where it has no row.
fn numbers(batches: &[RecordBatch], place: usize) -> Result<Vec<RowId>> {
    let mut ids = BTreeSet::new();
    for batch in batches {
        let column = batch.column(place).as_primitive_opt::<UInt64Type>();
        let column = column.ok_or_else(|| Error::internal("a locked row has no number"))?;
        ids.extend(column.iter().flatten());
    }
    Ok(ids.into_iter().collect())
}

fn last_of(name: &ObjectName) -> Option<String> {
    name.0
        .last()
        .and_then(ObjectNamePart::as_ident)
        .map(|i: &Ident| fold(i))
}

/// Takes LIMIT and OFFSET out of a query: the expressions, and which there are.
fn window_of(query: &mut Query) -> Result<Option<(Vec<SelectItem>, bool, bool)>> {
    if query.fetch.is_some() {
        return Err(
            Error::new(Code::Unsupported, "FETCH FIRST with SKIP LOCKED is not supported").with_hint("use LIMIT"),
        );
    }
    let (limit, offset) = match query.limit_clause.take() {
        None => return Ok(None),
        Some(LimitClause::LimitOffset { limit, offset, .. }) => (limit, offset.map(|o| o.value)),
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
    };
    let (has_offset, has_limit) = (offset.is_some(), limit.is_some());
    let exprs = offset.into_iter().chain(limit).enumerate();
    let items = exprs.map(|(i, e)| pieces::item(e, "window", i)).collect();
    Ok(Some((items, has_offset, has_limit)))
}

fn has_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => {
            plan.inputs().into_iter().any(has_aggregate)
        }
        _ => false,
    }
}
