//! The operator's tables: tenants, tiers, models and prices; and what a tenant sees of them and of its users.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use futures::{FutureExt, future::BoxFuture};

use super::{Change, Out, Scan, rows::Cell, t};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    ledger::{
        model::{BUILTIN, BUILTIN_EXTRACTIVE, BUILTIN_HASH, DEFAULT_EMBEDDING, Kind, Model},
        money::{Day, Nano},
        own_model::OwnModel,
        plan::TenantPlan,
        price::Price,
        provider::ProviderRow,
        tier::Tier,
    },
    limits,
    sql::world::World,
    tenant::{Operator, Published, Table},
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

/// What a tenant is told of the models it may name.
pub(super) const OWN_MODEL_COLUMNS: &[(&str, PgType)] = &[
    ("name", t(Scalar::Text)),
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

/// The operator's models, then the tenant's own.
pub(super) fn read_own_models(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let world = world.tenant()?;
    let models = world.engine.models.get(&world.tenant)?;
    let own = OwnModel::all(&world.tenant)?;
    let own = own.iter().filter_map(|own| Some(own.on(models.get(&own.base)?)));
    for model in models.iter().cloned().chain(own) {
        let more = out.push(|column| match column {
            0 => Cell::Text(&model.name),
            1 => Cell::Text(model.kind.as_str()),
            2 => Cell::Int(model.context_tokens.into()),
            3 => Cell::Int(model.max_output_tokens.into()),
            _ => model.retires_at_micros.map_or(Cell::Null, Cell::Time),
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
pub(super) struct Row<'a> {
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

    pub(super) fn is_null(&self, column: usize) -> bool {
        self.rows.column(column).is_null(self.row)
    }

    pub(super) fn text_or_null(&self, column: usize) -> Option<String> {
        let array = self.rows.column(column).as_string::<i32>();
        (!array.is_null(self.row)).then(|| array.value(self.row).to_owned())
    }

    pub(super) fn text(&self, column: usize) -> Result<String> {
        self.text_or_null(column).ok_or_else(|| self.missing(column))
    }

    pub(super) fn int(&self, column: usize) -> Result<i64> {
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

pub(super) fn each<T>(rows: &RecordBatch, read: impl Fn(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    (0..rows.num_rows()).map(|row| read(&Row { rows, row })).collect()
}

/// Refuses a row whose key is there already.
pub(super) fn duplicate(keys: &[&str]) -> Error {
    Error::new(Code::UniqueViolation, "duplicate key value violates the primary key")
        .with_hint(format!("the key is ({})", keys.join(", ")))
}

/// Refuses an UPDATE that assigns a column of the key.
pub(super) fn changed_key(assigned: &[String], keys: &[&str]) -> Result<()> {
    match assigned.iter().find(|a| keys.contains(&a.as_str())) {
        Some(key) => Err(
            Error::new(Code::Unsupported, format!("key column \"{key}\" cannot be changed"))
                .with_hint("insert a new row and delete the old one"),
        ),
        None => Ok(()),
    }
}

/// A row's key and value.
type Encoded = (Vec<u8>, Vec<u8>);

/// What is to become of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stored,
    Deleted,
}

/// Writes rows of one of the operator's tables; each commit stands alone. `check` sees the other tables.
fn write<T>(
    world: Arc<World>,
    change: Change,
    table: Table,
    keys: &'static [&'static str],
    read: fn(&Row<'_>) -> Result<T>,
    encode: fn(&T) -> Result<Encoded>,
    check: fn(&Operator, &T, Fate) -> Result<()>,
) -> BoxFuture<'static, Result<RecordBatch>>
where
    T: Send + 'static,
{
    Box::pin(async move {
        let _one_at_a_time = world.engine().operator_writes.lock().await;
        let operator = &world.operator()?.operator;
        let mut batch = operator.batch();
        let rows = match change {
            Change::Insert(rows) => {
                let mut inserted = BTreeSet::new();
                for row in each(&rows, read)? {
                    check(operator, &row, Fate::Stored)?;
                    let (key, value) = encode(&row)?;
                    if operator.get(table, &key)?.is_some() || !inserted.insert(key.clone()) {
                        return Err(duplicate(keys));
                    }
                    batch.expect(table, &key, None);
                    batch.put(table, &key, value);
                }
                rows
            }
            Change::Update(rows, assigned) => {
                changed_key(&assigned, keys)?;
                for row in each(&rows, read)? {
                    check(operator, &row, Fate::Stored)?;
                    let (key, value) = encode(&row)?;
                    batch.put(table, &key, value);
                }
                rows
            }
            Change::Delete(rows) => {
                for row in each(&rows, read)? {
                    check(operator, &row, Fate::Deleted)?;
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
    let encode = |tier: &Tier| Ok((tier.key(), tier.encode()?));
    write(world, change, Table::Tiers, &["name"], read, encode, check_tier)
}

/// A tier names a chat model, and stays as long as a tenant has it.
fn check_tier(operator: &Operator, tier: &Tier, fate: Fate) -> Result<()> {
    match fate {
        Fate::Stored => check_model(operator, &tier.model, Kind::Chat, Code::ForeignKeyViolation),
        Fate::Deleted => match operator
            .tenants()
            .iter()
            .find(|t| t.tier == tier.name && t.state != "dropped")
        {
            Some(tenant) => Err(still_used("tier", &tier.name, &format!("tenant \"{}\"", tenant.name))),
            None => Ok(()),
        },
    }
}

fn still_used(what: &str, name: &str, by: &str) -> Error {
    Error::new(
        Code::ForeignKeyViolation,
        format!("{what} \"{name}\" is still used by {by}"),
    )
}

/// Refuses an alias that is no model of this kind, with this code.
pub(in crate::sql) fn check_model(operator: &Operator, alias: &str, kind: Kind, code: Code) -> Result<()> {
    let mut key = Vec::new();
    crate::codec::key::put_bytes(&mut key, alias.as_bytes());
    let stored = operator.get(Table::Models, &key)?;
    match stored.map(|row| Model::decode(&row.value)).transpose()? {
        Some(model) if model.kind == kind => Ok(()),
        found => {
            let wrong = match found {
                Some(_) => format!("model \"{alias}\" is no {} model", kind.as_str()),
                None => format!("model \"{alias}\" does not exist"),
            };
            Err(Error::new(code, wrong).with_hint("models are the rows of bulkhead.models"))
        }
    }
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
    let encode = |model: &Model| Ok((model.key(), model.encode()?));
    let engine = world.engine().clone();
    let written = write(
        world,
        change,
        Table::Models,
        &["name"],
        read,
        encode,
        |operator, model, fate| {
            check_users(operator, model, fate)?;
            match fate {
                Fate::Stored => check_fields(operator, model),
                Fate::Deleted => Ok(()),
            }
        },
    );
    Box::pin(written.inspect(move |_| engine.reembed.notify_one()))
}

/// What a model says of itself must be possible.
fn check_fields(operator: &Operator, model: &Model) -> Result<()> {
    let violated = |text: &str| Err(Error::new(Code::CheckViolation, text));
    if model.name.is_empty() || model.name.len() > limits::NAME_BYTES || model.model.is_empty() {
        return violated("name and model must not be empty, and a name has at most 63 bytes");
    }
    if model.context_tokens < 1 {
        return violated("context_tokens must be positive");
    }
    let most = model.max_output_tokens;
    if most > model.context_tokens || (model.kind == Kind::Chat && most < 1) {
        return violated("max_output_tokens must be positive and no more than context_tokens");
    }
    let built_in = match model.kind {
        Kind::Chat => BUILTIN_EXTRACTIVE,
        Kind::Embedding => BUILTIN_HASH,
    };
    if model.provider == BUILTIN {
        return match model.model == built_in {
            true => Ok(()),
            false => violated(&format!("the built-in {} model is {built_in}", model.kind.as_str())),
        };
    }
    match operator.get(Table::Providers, &ProviderRow::key(&model.provider))? {
        Some(_) => Ok(()),
        None => Err(Error::new(
            Code::ForeignKeyViolation,
            format!("provider \"{}\" does not exist", model.provider),
        )
        .with_hint("insert it into bulkhead.providers first")),
    }
}

/// Refuses to take a model, or its kind, from those that name it.
fn check_users(operator: &Operator, model: &Model, fate: Fate) -> Result<()> {
    let gone = |kind| fate == Fate::Deleted || model.kind != kind;
    if model.name == DEFAULT_EMBEDDING && gone(Kind::Embedding) {
        return Err(still_used(
            "embedding model",
            &model.name,
            "tenants without one of their own",
        ));
    }
    for row in operator.scan(Table::Tiers, &[]) {
        let tier = Tier::decode(&row?.1.value)?;
        if tier.model == model.name && gone(Kind::Chat) {
            return Err(still_used(
                "chat model",
                &model.name,
                &format!("tier \"{}\"", tier.name),
            ));
        }
    }
    for tenant in operator.tenants().iter().filter(|tenant| tenant.state != "dropped") {
        let plan = TenantPlan::decode(&operator.settings(&tenant.name)?.plan)?;
        let by = || format!("tenant \"{}\"", tenant.name);
        if plan.model.as_ref() == Some(&model.name) && gone(Kind::Chat) {
            return Err(still_used("chat model", &model.name, &by()));
        }
        if plan.embedding_model.as_ref() == Some(&model.name) && gone(Kind::Embedding) {
            return Err(still_used("embedding model", &model.name, &by()));
        }
    }
    Ok(())
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
    let encode = |price: &Price| Ok((price.key(), price.encode()?));
    write(world, change, Table::Prices, keys, read, encode, |_, _, _| Ok(()))
}
