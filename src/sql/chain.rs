//! Writes in WITH: `WITH x AS (INSERT ... RETURNING ...) SELECT ... FROM x`.
//!
//! Each such part is a write of its own, whose RETURNING is a relation for the parts behind it and for the statement
//! itself. All of them see what was there when the statement began, and commit together.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, RecordBatchOptions},
        datatypes::{Field, Schema},
    },
    catalog::TableProvider,
    datasource::{MemTable, empty::EmptyTable},
    sql::sqlparser::ast::{Cte, Query, SetExpr, Statement, With},
};

use super::{
    complaints::from_datafusion,
    guard::{Kind, Parsed},
    prepared::{Plan, Prepared},
    run::gather,
    session::{Answer, Column, Session, Status},
    tables::pieces::{fold, placeholders},
    world::World,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
};

/// A planned statement with writes in its WITH.
pub(super) struct Chain {
    parts: Vec<Part>,
    /// What is left of the statement.
    last: Parsed,
}

struct Part {
    name: String,
    /// Names of its columns, where WITH gives them.
    columns: Vec<String>,
    parsed: Parsed,
}

fn writes(cte: &Cte) -> bool {
    matches!(
        cte.query.body.as_ref(),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_)
    )
}

/// Whether a statement has writes in its WITH.
pub(super) fn is_chain(query: &Query) -> bool {
    query
        .with
        .as_ref()
        .is_some_and(|with| with.cte_tables.iter().any(writes))
}

fn parsed_as(parsed: &Parsed, query: Query) -> Parsed {
    Parsed {
        kind: Kind::Sql(Box::new(Statement::Query(Box::new(query)))),
        text: parsed.text.clone(),
    }
}

/// The parts in the order they are written, and what is left.
fn apart(query: &Query, parsed: &Parsed) -> Chain {
    let mut last = query.clone();
    let Some(with) = last.with.take() else {
        return Chain {
            parts: Vec::new(),
            last: parsed_as(parsed, last),
        };
    };
    let mut plain: Vec<Cte> = Vec::new();
    let mut parts = Vec::new();
    for cte in with.cte_tables {
        if !writes(&cte) {
            plain.push(cte);
            continue;
        }
        let mut query = *cte.query;
        // All before it, for one may be read through another; what is not read costs no run.
        if !plain.is_empty() || query.with.is_some() {
            let own = query.with.take().map(|own| own.cte_tables).unwrap_or_default();
            query.with = Some(With {
                with_token: with.with_token.clone(),
                recursive: with.recursive,
                cte_tables: plain.iter().cloned().chain(own).collect(),
            });
        }
        parts.push(Part {
            name: fold(&cte.alias.name),
            columns: cte.alias.columns.iter().map(|column| fold(&column.name)).collect(),
            parsed: parsed_as(parsed, query),
        });
    }
    last.with = (!plain.is_empty()).then_some(With {
        cte_tables: plain,
        ..with
    });
    Chain {
        parts,
        last: parsed_as(parsed, last),
    }
}

/// The fields of a part's rows.
fn fields(part: &Part, columns: &[Column]) -> Vec<Field> {
    let named = columns.iter().enumerate();
    let named = named.map(|(at, column)| {
        let name = part.columns.get(at).unwrap_or(&column.name);
        column.pg_type.field(name, true)
    });
    named.collect()
}

impl Session {
    /// Plans a statement with writes in its WITH.
    ///
    /// # Errors
    /// Whatever is wrong with a part.
    pub(super) fn plan_chain(&self, query: &Query, parsed: &Parsed, declared: &[Option<PgType>]) -> Result<Prepared> {
        let chain = apart(query, parsed);
        self.with_rows.lock().clear();
        let planned = self.plan_parts(&chain, declared);
        self.with_rows.lock().clear();
        let (last, parameters) = planned?;
        Ok(Prepared {
            parameters,
            columns: last.columns,
            returns_rows: last.returns_rows,
            plan: Plan::Chain(Arc::new(chain)),
            parsed: parsed.clone(),
            declared: declared.to_vec(),
            catalog: self.catalog()?,
        })
    }

    fn plan_parts(&self, chain: &Chain, declared: &[Option<PgType>]) -> Result<(Prepared, Vec<PgType>)> {
        let mut known: BTreeMap<usize, PgType> = BTreeMap::new();
        let mut note = |parsed: &Parsed, planned: &Prepared| {
            let Kind::Sql(statement) = &parsed.kind else { return };
            for number in placeholders(statement) {
                if let Some(pg_type) = planned.parameters.get(number - 1) {
                    known.entry(number).or_insert(*pg_type);
                }
            }
        };
        let mut changed = Vec::new();
        for part in &chain.parts {
            let planned = self.plan(&part.parsed, declared)?;
            note(&part.parsed, &planned);
            if let Plan::TableWrite(write) = &planned.plan
                && write.word() != "INSERT"
            {
                if changed.contains(&write.def.oid) {
                    return Err(twice(&write.def.name));
                }
                changed.push(write.def.oid);
            }
            if planned.returns_rows {
                let schema = Schema::new(fields(part, &planned.columns));
                self.relation(&part.name, Arc::new(EmptyTable::new(Arc::new(schema))));
            }
        }
        let last = self.plan(&chain.last, declared)?;
        if let Plan::TableWrite(write) = &last.plan
            && write.word() != "INSERT"
            && changed.contains(&write.def.oid)
        {
            return Err(twice(&write.def.name));
        }
        note(&chain.last, &last);
        let count = known.keys().last().copied().unwrap_or(0).max(declared.len());
        let declared = |number: usize| declared.get(number - 1).copied().flatten();
        let one = |number: usize| {
            let known = known.get(&number).copied();
            known.or_else(|| declared(number)).unwrap_or(PgType::TEXT)
        };
        Ok((last, (1..=count).map(one).collect()))
    }

    fn relation(&self, name: &str, rows: Arc<dyn TableProvider>) {
        self.with_rows.lock().push((name.to_owned(), rows));
    }

    /// Runs it: the parts in order, then what is left.
    pub(super) async fn run_chain(
        &mut self,
        chain: &Chain,
        prepared: &Prepared,
        params: &[ArrayRef],
    ) -> Result<Answer> {
        let alone = self.status == Status::Idle;
        if alone {
            // No part commits by itself.
            self.status = Status::Implicit;
        }
        let answer = self.run_parts(chain, prepared, params).await;
        if alone {
            self.status = Status::Idle;
        }
        self.end_chain();
        let answer = answer?;
        if alone {
            self.commit().await?;
        }
        Ok(answer)
    }

    /// What the parts gave and held is gone; to be called also where a statement was broken off.
    pub(super) fn end_chain(&self) {
        self.with_rows.lock().clear();
        if let World::Tenant(world) = &*self.world {
            world.tx.lock().seen_tables.release();
        }
    }

    async fn run_parts(&mut self, chain: &Chain, prepared: &Prepared, params: &[ArrayRef]) -> Result<Answer> {
        let declared: Vec<Option<PgType>> = prepared.parameters.iter().copied().map(Some).collect();
        self.with_rows.lock().clear();
        self.hold(chain, &declared).await?;
        for part in &chain.parts {
            let planned = Arc::new(self.plan(&part.parsed, &declared)?);
            let given = params.get(..planned.parameters.len()).unwrap_or(params);
            let answer = match &planned.plan {
                Plan::TableWrite(write) => {
                    self.check_writable(write.word())?;
                    self.run_table_write(write, &planned, given).await?
                }
                Plan::Write(write) => self.run_write(write, &planned, given).await?,
                _ => return Err(Error::internal("a part of WITH is no write")),
            };
            if let Answer::Rows { columns, rows, .. } = answer {
                let batches = gather(rows).await?;
                self.relation(&part.name, table(fields(part, &columns), batches)?);
            }
        }
        let planned = Arc::new(self.plan(&chain.last, &declared)?);
        let given = params.get(..planned.parameters.len()).unwrap_or(params);
        let answer = match &planned.plan {
            Plan::Query(query) => self.run_query(query, &planned, given).await?,
            Plan::Write(write) => self.run_write(write, &planned, given).await?,
            Plan::TableWrite(write) => {
                self.check_writable(write.word())?;
                self.run_table_write(write, &planned, given).await?
            }
            Plan::Locking(query) => self.run_locking(query, &planned, given).await?,
            Plan::Chain(_) | Plan::Command => return Err(Error::internal("WITH is before no query")),
        };
        // All of it, before the statement commits.
        Ok(match answer {
            Answer::Rows { columns, rows, tag } => {
                let batches = gather(rows).await?;
                Answer::Rows {
                    columns,
                    rows: Box::pin(futures::stream::iter(batches.into_iter().map(Ok))),
                    tag,
                }
            }
            other => other,
        })
    }

    /// Locks what the parts write, and holds what is there then for all of them to see.
    async fn hold(&self, chain: &Chain, declared: &[Option<PgType>]) -> Result<()> {
        let World::Tenant(world) = &*self.world else {
            return Ok(());
        };
        let mut tables = Vec::new();
        for part in &chain.parts {
            let planned = self.plan(&part.parsed, declared)?;
            if let Plan::TableWrite(write) = &planned.plan {
                tables.push(write.def.oid);
            }
            if planned.returns_rows {
                let schema = Schema::new(fields(part, &planned.columns));
                self.relation(&part.name, Arc::new(EmptyTable::new(Arc::new(schema))));
            }
        }
        if let Plan::TableWrite(write) = &self.plan(&chain.last, declared)?.plan {
            tables.push(write.def.oid);
        }
        self.with_rows.lock().clear();
        for table in tables {
            world.lock_for_writing(table).await?;
        }
        world.begin_statement()?;
        world.view()?;
        world.tx.lock().seen_tables.hold();
        Ok(())
    }
}

fn twice(table: &str) -> Error {
    Error::new(
        Code::Unsupported,
        format!("rows of \"{table}\" cannot be changed by two parts of one statement"),
    )
    .with_hint("change them in two statements of one transaction")
}

/// The rows of RETURNING as a relation.
fn table(fields: Vec<Field>, batches: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
    let fields: Vec<Field> = match batches.first() {
        // Their types are known better now.
        Some(first) => {
            let columns = fields.into_iter().zip(first.columns());
            columns
                .map(|(field, array)| field.with_data_type(array.data_type().clone()))
                .collect()
        }
        None => fields,
    };
    let schema = Arc::new(Schema::new(fields));
    let batches = batches.into_iter().map(|batch| {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options).map_err(Error::internal)
    });
    let batches = batches.collect::<Result<Vec<_>>>()?;
    let table = MemTable::try_new(schema.clone(), vec![batches]).map_err(from_datafusion)?;
    Ok(Arc::new(table))
}
