//! `bulkhead.providers`, whose keys are written and never read, and the keys of a tenant's own.
//!
//! A stored key never becomes a value of a row: what is read, compared, copied and returned is
//! [`MASK`], the same for every key.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use futures::future::BoxFuture;

use super::{
    Change, Out, Scan,
    operator::{Row, changed_key, duplicate, each},
    rows::{self, Cell},
    t,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    ledger::{
        model::Model,
        provider::{OwnKey, ProviderRow, Secret, origin},
    },
    limits,
    sql::{functions::fields, world::World},
    tenant::{Operator, Table},
};

/// What is shown in place of a key that is set.
const MASK: &str = "********";

pub(super) const PROVIDER_COLUMNS: &[(&str, PgType)] = &[
    ("name", t(Scalar::Text)),
    ("base_url", t(Scalar::Text)),
    ("api_key", t(Scalar::Text)),
    ("region", t(Scalar::Text)),
    ("timeout_ms", t(Scalar::Int4)),
];

pub(super) const KEY_COLUMNS: &[(&str, PgType)] = &[("provider", t(Scalar::Text)), ("set_at", t(Scalar::Timestamptz))];

fn cell(provider: &ProviderRow, column: usize) -> Cell<'_> {
    match column {
        0 => Cell::Text(&provider.name),
        1 => Cell::Text(&provider.base_url),
        2 => provider.api_key.as_ref().map_or(Cell::Null, |_| Cell::Text(MASK)),
        3 => provider.region.as_deref().map_or(Cell::Null, Cell::Text),
        4 => Cell::Int(provider.timeout_ms.into()),
        _ => Cell::Null,
    }
}

pub(super) fn read_providers(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for row in world.operator()?.operator.scan(Table::Providers, &[]) {
        let provider = ProviderRow::decode(&row?.1.value)?;
        if !out.push(|column| cell(&provider, column))? {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_keys(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for own in OwnKey::all(&world.tenant()?.tenant)? {
        let more = out.push(|column| match column {
            0 => Cell::Text(&own.provider),
            _ => Cell::Time(own.set_at_micros),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// A row as it was given, the key as text.
struct Given {
    name: String,
    base_url: String,
    api_key: Option<String>,
    region: Option<String>,
    timeout_ms: i32,
}

impl Given {
    fn read(row: &Row<'_>) -> Result<Self> {
        let timeout = match row.is_null(4) {
            true => i64::try_from(limits::PROVIDER_TIMEOUT.as_millis()).map_err(Error::internal)?,
            false => row.int(4)?,
        };
        Ok(Self {
            name: row.text(0)?,
            base_url: row.text(1)?,
            api_key: row.text_or_null(2),
            region: row.text_or_null(3),
            timeout_ms: i32::try_from(timeout).map_err(Error::internal)?,
        })
    }

    fn with_key(self, api_key: Option<Secret>) -> ProviderRow {
        ProviderRow {
            name: self.name,
            base_url: self.base_url,
            api_key,
            region: self.region,
            timeout_ms: self.timeout_ms,
        }
    }

    /// A new row. The mask is no key: it was read from another row.
    fn inserted(mut self) -> Result<ProviderRow> {
        let key = match self.api_key.take() {
            Some(key) if key == MASK => Err(Error::new(
                Code::InvalidParameterValue,
                "the key of another provider cannot be copied",
            )),
            key => key.as_deref().map(Secret::new).transpose(),
        }?;
        Ok(self.with_key(key))
    }

    /// The row with its former key, unless another one is given.
    fn updated(mut self, stored: &ProviderRow, assigned: &[String]) -> Result<ProviderRow> {
        let given = match self.api_key.take() {
            Some(key) if key == MASK => stored.api_key.clone(),
            _ if !assigned.iter().any(|a| a == "api_key") => stored.api_key.clone(),
            key => return Ok(self.with_key(key.as_deref().map(Secret::new).transpose()?)),
        };
        // Sent to another host, the key could be read there.
        if given.is_some() && origin(&self.base_url)? != origin(&stored.base_url)? {
            return Err(Error::new(
                Code::InsufficientPrivilege,
                format!("the key of provider \"{}\" belongs to its present host", self.name),
            )
            .with_hint("set api_key in the same statement: to the key of the new host, or to NULL"));
        }
        Ok(self.with_key(given))
    }
}

fn stored(operator: &Operator, name: &str) -> Result<Option<ProviderRow>> {
    let stored = operator.get(Table::Providers, &ProviderRow::key(name))?;
    stored.map(|row| ProviderRow::decode(&row.value)).transpose()
}

/// Refuses to remove a provider that a model is reached through.
fn check_unused(operator: &Operator, name: &str) -> Result<()> {
    for row in operator.scan(Table::Models, &[]) {
        let model = Model::decode(&row?.1.value)?;
        if model.provider == name {
            let message = format!("provider \"{name}\" is still used by model \"{}\"", model.name);
            return Err(Error::new(Code::ForeignKeyViolation, message)
                .with_hint("give the model another provider in bulkhead.models, or delete it"));
        }
    }
    Ok(())
}

pub(super) fn write_providers(world: Arc<World>, change: Change) -> BoxFuture<'static, Result<RecordBatch>> {
    Box::pin(async move {
        let _one_at_a_time = world.engine().operator_writes.lock().await;
        let operator = &world.operator()?.operator;
        let mut batch = operator.batch();
        let mut written = Vec::new();
        match change {
            Change::Insert(rows) => {
                for given in each(&rows, Given::read)? {
                    let repeated = written.iter().any(|row: &ProviderRow| row.name == given.name);
                    if repeated || stored(operator, &given.name)?.is_some() {
                        return Err(duplicate(&["name"]));
                    }
                    written.push(given.inserted()?);
                }
            }
            Change::Update(rows, assigned) => {
                changed_key(&assigned, &["name"])?;
                for given in each(&rows, Given::read)? {
                    // Deleted since it was read.
                    if let Some(former) = stored(operator, &given.name)? {
                        written.push(given.updated(&former, &assigned)?);
                    }
                }
            }
            Change::Delete(rows) => {
                for given in each(&rows, Given::read)? {
                    check_unused(operator, &given.name)?;
                    batch.delete(Table::Providers, &ProviderRow::key(&given.name));
                }
                if !batch.is_empty() {
                    operator.commit(batch).await?;
                }
                return Ok(rows);
            }
        }
        for row in &written {
            batch.put(Table::Providers, &ProviderRow::key(&row.name), row.encode()?);
        }
        if !batch.is_empty() {
            operator.commit(batch).await?;
        }
        rows::batch(fields(PROVIDER_COLUMNS), &written, cell)
    })
}
