//! The operator's tables: tenants, tiers, models and prices; and a tenant's users.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use futures::future::BoxFuture;

use super::{Change, Out, Scan, rows::Cell, t};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    ledger::{
        model::{Kind, Model},
        money::{Day, Nano},
        price::Price,
        tier::Tier,
    },
    sql::world::World,
    tenant::{Published, Table},
};

pub(super) const TENANT_COLUMNS: &[(&str, PgType)] = &[
    ("name", t(Scalar::Text)),
    ("tier", t(Scalar::Text)),
    ("region", t(Scalar::Text)),
    ("state", t(Scalar::Text)),
    ("ai_enabled", t(Scalar::Bool)),
    ("created_at", t(Scalar::Timestamptz)),
];

pub(super) const USER_COLUMNS: &[(&str, PgType)] = &[("name", t(Scalar::Text)), ("role", t(Scalar::Text))];

pub(super) const TIER_COLUMNS: &[(&str, PgType)] = &[
    ("name", t(Scalar::Text)),
    ("model", t(Scalar::Text)),
    ("max_tokens", t(Scalar::Int4)),
    ("temperature", t(Scalar::Float8)),
    ("tokens_per_day", t(Scalar::Int8)),
    ("tokens_per_minute", t(Scalar::Int8)),
    ("monthly_budget_usd", t(Scalar::Numeric)),
    ("fine_tuning", t(Scalar::Bool)),
    ("custom_prompt", t(Scalar::Bool)),
    ("requests_per_minute", t(Scalar::Int8)),
    ("concurrent_calls", t(Scalar::Int8)),
];

pub(super) const MODEL_COLUMNS: &[(&str, PgType)] = &[
    ("name", t(Scalar::Text)),
    ("provider", t(Scalar::Text)),
    ("model", t(Scalar::Text)),
    ("kind", t(Scalar::Text)),
    ("context_tokens", t(Scalar::Int4)),
    ("max_output_tokens", t(Scalar::Int4)),
    ("retires_at", t(Scalar::Timestamptz)),
];

pub(super) const PRICE_COLUMNS: &[(&str, PgType)] = &[
    ("provider", t(Scalar::Text)),
    ("model", t(Scalar::Text)),
    ("valid_from", t(Scalar::Date)),
    ("input_nanousd", t(Scalar::Int8)),
    ("cached_input_nanousd", t(Scalar::Int8)),
    ("output_nanousd", t(Scalar::Int8)),
    ("reasoning_nanousd", t(Scalar::Int8)),
    ("embedding_nanousd", t(Scalar::Int8)),
];

pub(super) fn read_tenants(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for tenant in world.operator()?.operator.tenants() {
        let more = out.push(|column| match column {
            0 => Cell::Text(&tenant.name),
            1 => Cell::Text(&tenant.tier),
            2 => tenant.region.as_deref().map_or(Cell::Null, Cell::Text),
            3 => Cell::Text(tenant.state),
            4 => Cell::Bool(tenant.ai_enabled),
            5 => Cell::Time(tenant.created_at_micros),
            _ => Cell::Null,
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_users(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for user in world.tenant()?.tenant.users()? {
        let more = out.push(|column| match column {
            0 => Cell::Text(&user.name),
            _ => Cell::Text(user.role.as_str()),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// Every row of one of the operator's tables. Tenants read what is published to them.
fn stored(world: &World, table: Table, published: Published) -> Result<Vec<Vec<u8>>> {
    match world {
        World::Tenant(world) => Ok(world
            .tenant
            .published(published)
            .rows
            .iter()
            .map(|(_, v)| v.clone())
            .collect()),
        World::Operator(world) => world.operator.scan(table, &[]).map(|row| Ok(row?.1.value)).collect(),
    }
}

pub(super) fn read_tiers(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for value in stored(world, Table::Tiers, Published::Tiers)? {
        let tier = Tier::decode(&value)?;
        let more = out.push(|column| match column {
            0 => Cell::Text(&tier.name),
            1 => Cell::Text(&tier.model),
            2 => Cell::Int(tier.max_tokens.into()),
            3 => Cell::Float(f64::from(tier.temperature_milli) / 1000.0),
            4 => Cell::Int(tier.tokens_per_day),
            5 => Cell::Int(tier.tokens_per_minute),
            6 => Cell::Nano(tier.monthly_budget.0),
            7 => Cell::Bool(tier.fine_tuning),
            8 => Cell::Bool(tier.custom_prompt),
            9 => Cell::Int(tier.requests_per_minute),
            10 => Cell::Int(tier.concurrent_calls),
            _ => Cell::Null,
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_models(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for value in stored(world, Table::Models, Published::Models)? {
        let model = Model::decode(&value)?;
        let more = out.push(|column| match column {
            0 => Cell::Text(&model.name),
            1 => Cell::Text(&model.provider),
            2 => Cell::Text(&model.model),
            3 => Cell::Text(model.kind.as_str()),
            4 => Cell::Int(model.context_tokens.into()),
            5 => Cell::Int(model.max_output_tokens.into()),
            6 => model.retires_at_micros.map_or(Cell::Null, Cell::Time),
            _ => Cell::Null,
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_prices(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for value in stored(world, Table::Prices, Published::Prices)? {
        let price = Price::decode(&value)?;
        let more = out.push(|column| match column {
            0 => Cell::Text(&price.provider),
            1 => Cell::Text(&price.model),
            2 => Cell::Date(price.valid_from.0),
            3 => Cell::Int(price.input.0),
            4 => Cell::Int(price.cached_input.0),
            5 => Cell::Int(price.output.0),
            6 => Cell::Int(price.reasoning.0),
            7 => Cell::Int(price.embedding.0),
            _ => Cell::Null,
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// One row of a batch, with the names of its columns for complaints.
struct Row<'a> {
    rows: &'a RecordBatch,
    row: usize,
}

impl Row<'_> {
    fn missing(&self, column: usize) -> Error {
        let schema = self.rows.schema();
        let name = schema.field(column).name();
        Error::new(
            Code::NotNull,
            format!("null value in column \"{name}\" violates not-null constraint"),
        )
    }

    fn text(&self, column: usize) -> Result<String> {
        let array = self.rows.column(column).as_string::<i32>();
        match array.is_null(self.row) {
            true => Err(self.missing(column)),
            false => Ok(array.value(self.row).to_owned()),
        }
    }

    fn int(&self, column: usize) -> Result<i64> {
        let array = self.rows.column(column);
        match array.is_null(self.row) {
            true => Err(self.missing(column)),
            false => Ok(match array.as_primitive_opt::<Int32Type>() {
                Some(small) => small.value(self.row).into(),
                None => array.as_primitive::<Int64Type>().value(self.row),
            }),
        }
    }

    fn not_negative(&self, column: usize) -> Result<i64> {
        match self.int(column)? {
            n if n < 0 => {
                let schema = self.rows.schema();
                let name = schema.field(column).name();
                Err(Error::new(
                    Code::CheckViolation,
                    format!("column \"{name}\" must not be negative"),
                ))
            }
            n => Ok(n),
        }
    }

    fn small(&self, column: usize) -> Result<i32> {
        let n = self.not_negative(column)?;
        i32::try_from(n).map_err(|_| Error::new(Code::NumericOutOfRange, "integer out of range"))
    }

    fn bool(&self, column: usize) -> bool {
        let array = self.rows.column(column).as_boolean();
        !array.is_null(self.row) && array.value(self.row)
    }
}

fn each<T>(rows: &RecordBatch, read: impl Fn(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    (0..rows.num_rows()).map(|row| read(&Row { rows, row })).collect()
}

/// A row's key and value.
type Encoded = (Vec<u8>, Vec<u8>);

/// Writes rows of one of the operator's tables; each commit stands alone.
fn write<T>(
    world: Arc<World>,
    change: Change,
    table: Table,
    keys: &'static [&'static str],
    read: fn(&Row<'_>) -> Result<T>,
    encode: fn(&T) -> Result<Encoded>,
) -> BoxFuture<'static, Result<RecordBatch>>
where
    T: Send + 'static,
{
    Box::pin(async move {
        let operator = &world.operator()?.operator;
        let mut batch = operator.batch();
        let rows = match change {
            Change::Insert(rows) => {
                for row in each(&rows, read)? {
                    let (key, value) = encode(&row)?;
                    if operator.get(table, &key)?.is_some() {
                        return Err(
                            Error::new(Code::UniqueViolation, "duplicate key value violates the primary key")
                                .with_hint(format!("the key is ({})", keys.join(", "))),
                        );
                    }
                    batch.expect(table, &key, None);
                    batch.put(table, &key, value);
                }
                rows
            }
            Change::Update(rows, assigned) => {
                if let Some(key) = assigned.iter().find(|a| keys.contains(&a.as_str())) {
                    return Err(
                        Error::new(Code::Unsupported, format!("key column \"{key}\" cannot be changed"))
                            .with_hint("insert a new row and delete the old one"),
                    );
                }
                for row in each(&rows, read)? {
                    let (key, value) = encode(&row)?;
                    batch.put(table, &key, value);
                }
                rows
            }
            Change::Delete(rows) => {
                for row in each(&rows, read)? {
                    batch.delete(table, &encode(&row)?.0);
                }
                rows
            }
        };
        if !batch.is_empty() {
            operator.commit(batch).await?;
        }
        Ok(rows)
    })
}

pub(super) fn write_tiers(world: Arc<World>, change: Change) -> BoxFuture<'static, Result<RecordBatch>> {
    let read = |row: &Row<'_>| {
        let temperature = row.rows.column(3).as_primitive::<Float64Type>();
        let temperature = if temperature.is_null(row.row) {
            0.7
        } else {
            temperature.value(row.row)
        };
        if !(0.0..=2.0).contains(&temperature) {
            return Err(Error::new(Code::CheckViolation, "temperature must be between 0 and 2"));
        }
        let budget = row.rows.column(6).as_primitive::<Decimal128Type>();
        if budget.is_null(row.row) {
            return Err(row.missing(6));
        }
        let monthly_budget = Nano::from_decimal(budget.value(row.row))?;
        if monthly_budget < Nano::ZERO {
            return Err(Error::new(
                Code::CheckViolation,
                "monthly_budget_usd must not be negative",
            ));
        }
        Ok(Tier {
            name: row.text(0)?,
            model: row.text(1)?,
            max_tokens: row.small(2)?,
            temperature_milli: (temperature * 1000.0).round() as i32,
            tokens_per_day: row.not_negative(4)?,
            tokens_per_minute: row.not_negative(5)?,
            monthly_budget,
            fine_tuning: row.bool(7),
            custom_prompt: row.bool(8),
            requests_per_minute: row.not_negative(9)?,
            concurrent_calls: row.not_negative(10)?,
        })
    };
    write(world, change, Table::Tiers, &["name"], read, |tier| {
        Ok((tier.key(), tier.encode()?))
    })
}

pub(super) fn write_models(world: Arc<World>, change: Change) -> BoxFuture<'static, Result<RecordBatch>> {
    let read = |row: &Row<'_>| {
        let kind = row.text(3)?;
        let retires = row.rows.column(6).as_primitive::<TimestampMicrosecondType>();
        Ok(Model {
            name: row.text(0)?,
            provider: row.text(1)?,
            model: row.text(2)?,
            kind: Kind::parse(&kind)
                .ok_or_else(|| Error::new(Code::CheckViolation, "kind must be 'chat' or 'embedding'"))?,
            context_tokens: row.small(4)?,
            max_output_tokens: row.small(5)?,
            retires_at_micros: (!retires.is_null(row.row)).then(|| retires.value(row.row)),
        })
    };
    write(world, change, Table::Models, &["name"], read, |model| {
        Ok((model.key(), model.encode()?))
    })
}

pub(super) fn write_prices(world: Arc<World>, change: Change) -> BoxFuture<'static, Result<RecordBatch>> {
    let read = |row: &Row<'_>| {
        let valid_from = row.rows.column(2).as_primitive::<Date32Type>();
        if valid_from.is_null(row.row) {
            return Err(row.missing(2));
        }
        Ok(Price {
            provider: row.text(0)?,
            model: row.text(1)?,
            valid_from: Day(valid_from.value(row.row)),
            input: Nano(row.int(3)?),
            cached_input: Nano(row.int(4)?),
            output: Nano(row.int(5)?),
            reasoning: Nano(row.int(6)?),
            embedding: Nano(row.int(7)?),
        })
    };
    let keys = &["provider", "model", "valid_from"];
    write(world, change, Table::Prices, keys, read, |price| {
        Ok((price.key(), price.encode()?))
    })
}
