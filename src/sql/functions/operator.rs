//! The operator's functions: create, alter and drop tenants, and set what one of them gets.

use std::sync::Arc;

use datafusion::arrow::{
    array::{RecordBatch, StringArray},
    datatypes::Schema,
};
use futures::future::BoxFuture;
use serde_json::json;

use super::{Args, Function, Kind, Plane, Returns, parameter, t};
use crate::{
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    ledger::{
        books::Amounts,
        budget::{self, Window},
        litellm,
        model::{self, BUILTIN},
        money::Day,
        plan::{Level, TenantPlan},
        price::{DATABASE, Price, Prices},
        provider::origin,
        published::FromRows,
        tier::Tier,
        usage::now_micros,
    },
    limits,
    sql::{pg, relations::operator::check_model, world::World},
    tenant::{AlterTenant, NewTenant, Operator, Table},
};

type Answer = BoxFuture<'static, Result<RecordBatch>>;

/// The functions of the operator's plane.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "bulkhead.create_tenant",
        parameters: &[
            parameter("name", Kind::Text, None),
            parameter("tier", Kind::Text, Some("'free'")),
            parameter("region", Kind::Text, Some("NULL")),
            parameter("owner", Kind::Text, Some("'owner'")),
            parameter("password", Kind::Text, None),
        ],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Operator,
        effect: true,
        call: create_tenant,
    },
    Function {
        name: "bulkhead.alter_tenant",
        parameters: &[
            parameter("name", Kind::Text, None),
            parameter("tier", Kind::Text, Some("NULL")),
            parameter("state", Kind::Text, Some("NULL")),
            parameter("ai_enabled", Kind::Bool, Some("NULL")),
        ],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Operator,
        effect: true,
        call: alter_tenant,
    },
    Function {
        name: "bulkhead.drop_tenant",
        parameters: &[parameter("name", Kind::Text, None)],
        returns: Returns::Value(t(Scalar::Jsonb)),
        plane: Plane::Operator,
        effect: true,
        call: drop_tenant,
    },
    Function {
        name: "bulkhead.set_tenant",
        parameters: &[
            parameter("tenant", Kind::Text, None),
            parameter("system_prompt", Kind::Text, Some("NULL")),
            parameter("model", Kind::Text, Some("NULL")),
            parameter("timezone", Kind::Text, Some("NULL")),
            parameter("webhook", Kind::Text, Some("NULL")),
            parameter("embedding_model", Kind::Text, Some("NULL")),
            parameter("allow_unpriced", Kind::Bool, Some("NULL")),
            parameter("user_tokens_per_minute", Kind::Int, Some("NULL")),
            parameter("user_tokens_per_day", Kind::Int, Some("NULL")),
            parameter("user_requests_per_minute", Kind::Int, Some("NULL")),
            parameter("user_concurrent_calls", Kind::Int, Some("NULL")),
        ],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Operator,
        effect: true,
        call: set_tenant,
    },
    Function {
        name: "bulkhead.set_compliance",
        parameters: &[
            parameter("tenant", Kind::Text, None),
            parameter("logging_level", Kind::Text, None),
        ],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Operator,
        effect: true,
        call: set_compliance,
    },
    Function {
        name: "bulkhead.set_budget",
        parameters: &[
            parameter("tenant", Kind::Text, None),
            parameter("window", Kind::Text, None),
            parameter("amount_usd", Kind::Usd, None),
            parameter("hard", Kind::Bool, Some("true")),
        ],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Operator,
        effect: true,
        call: set_budget,
    },
    Function {
        name: "bulkhead.import_prices",
        parameters: &[
            parameter("json", Kind::Jsonb, None),
            parameter("valid_from", Kind::Date, Some("NULL")),
        ],
        returns: Returns::Value(t(Scalar::Jsonb)),
        plane: Plane::Operator,
        effect: true,
        call: import_prices,
    },
];

/// How many entries of each kind the report of an import names.
const REPORTED: usize = 100;

fn one(scalar: Scalar, text: &str) -> Result<RecordBatch> {
    let schema = Schema::new(vec![t(scalar).field("value", true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(vec![text]))]).map_err(Error::internal)
}

fn create_tenant(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let new = NewTenant {
            name: args.text(0)?.to_owned(),
            tier: args.text(1)?.to_owned(),
            region: args.text_or_null(2).map(str::to_owned),
            owner: args.text(3)?.to_owned(),
            password: args.text(4)?.to_owned(),
        };
        let name = new.name.clone();
        world.operator()?.operator.create_tenant(new).await?;
        one(Scalar::Text, &name)
    })
}

fn alter_tenant(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let suspended = match args.text_or_null(2) {
            None => None,
            Some("active") => Some(false),
            Some("suspended") => Some(true),
            Some(_) => {
                return Err(Error::new(
                    Code::InvalidParameterValue,
                    "state must be 'active' or 'suspended'",
                ));
            }
        };
        let change = AlterTenant {
            tier: args.text_or_null(1).map(str::to_owned),
            suspended,
            ai_enabled: args.bool_or_null(3),
        };
        world.operator()?.operator.alter_tenant(args.text(0)?, change).await?;
        one(Scalar::Text, args.text(0)?)
    })
}

fn drop_tenant(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let erasure = world.operator()?.operator.drop_tenant(args.text(0)?).await?;
        let billed = match erasure.amounts.0.is_empty() {
            true => Amounts::default(),
            false => Amounts::from_sums(&erasure.amounts)?,
        };
        let dropped_at = chrono::DateTime::from_timestamp_micros(erasure.dropped_at_micros).unwrap_or_default();
        let certificate = json!({
            "tenant": erasure.tenant,
            "tenant_id": erasure.id,
            "dropped_at": dropped_at.to_rfc3339(),
            "key_fingerprint": erasure.key_fingerprint,
            "key_destroyed": true,
            "cells_destroyed": erasure.cells,
            "total_cost_usd": billed.total()?.to_string(),
        });
        one(Scalar::Jsonb, &pg::json::canonical(&certificate.to_string())?)
    })
}

/// What to change about a tenant's plan: `None` leaves it, empty text and a limit of 0 take it away.
struct Wishes {
    system_prompt: Option<String>,
    model: Option<String>,
    timezone: Option<String>,
    webhook: Option<String>,
    embedding_model: Option<String>,
    allow_unpriced: Option<bool>,
    /// Of each user: tokens a minute and a day, calls a minute and at once.
    user_limits: [Option<i64>; 4],
}

impl Wishes {
    fn check(&self, operator: &Operator) -> Result<()> {
        let given = |wish: &Option<String>| wish.clone().filter(|text| !text.is_empty());
        if let Some(alias) = given(&self.model) {
            check_model(operator, &alias, model::Kind::Chat, Code::UndefinedObject)?;
        }
        if let Some(alias) = given(&self.embedding_model) {
            check_model(operator, &alias, model::Kind::Embedding, Code::UndefinedObject)?;
        }
        if let Some(url) = given(&self.webhook) {
            origin(&url)?;
        }
        if let Some(name) = &self.timezone {
            budget::zone(name)?;
        }
        if self.user_limits.iter().flatten().any(|limit| *limit < 0) {
            return Err(Error::new(
                Code::InvalidParameterValue,
                "a limit of a user is at least 1, or 0 for none",
            ));
        }
        let most = limits::SYSTEM_PROMPT_BYTES;
        match &self.system_prompt {
            Some(text) if text.len() > most => Err(Error::new(
                Code::TooLarge,
                format!("a system prompt has at most {most} bytes"),
            )),
            _ => Ok(()),
        }
    }

    fn apply(self, plan: &mut TenantPlan) {
        let or_none = |text: String| Some(text).filter(|text| !text.is_empty());
        if let Some(text) = self.system_prompt {
            let text = or_none(text);
            if text.as_ref() != plan.system_prompt.as_ref().map(|prompt| &prompt.text) {
                plan.set_system_prompt(text, now_micros());
            }
        }
        if let Some(alias) = self.model {
            plan.model = or_none(alias);
        }
        if let Some(alias) = self.embedding_model {
            plan.embedding_model = or_none(alias);
            plan.embedding_set_at_micros = now_micros();
        }
        if let Some(url) = self.webhook {
            plan.webhook = or_none(url);
        }
        if let Some(name) = self.timezone {
            plan.timezone = name;
        }
        plan.allow_unpriced = self.allow_unpriced.unwrap_or(plan.allow_unpriced);
        let own = &mut plan.user_limits;
        let limits = [
            &mut own.tokens_per_minute,
            &mut own.tokens_per_day,
            &mut own.requests_per_minute,
            &mut own.concurrent_calls,
        ];
        for (limit, wish) in limits.into_iter().zip(self.user_limits) {
            if let Some(wish) = wish {
                *limit = Some(wish).filter(|n| *n > 0);
            }
        }
    }
}

/// Refuses a system prompt of its own to a tier without that right.
fn check_prompt(operator: &Operator, tier: &str) -> Result<()> {
    let stored = operator.get(Table::Tiers, &Tier::key_of(tier))?;
    match stored.map(|row| Tier::decode(&row.value)).transpose()? {
        Some(tier) if tier.custom_prompt => Ok(()),
        _ => Err(Error::new(
            Code::InsufficientPrivilege,
            format!("tier \"{tier}\" has no system prompt of its own"),
        )
        .with_hint("move the tenant to a tier whose custom_prompt is true, such as enterprise")),
    }
}

fn set_tenant(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let text = |i| args.text_or_null(i).map(str::to_owned);
        let wishes = Wishes {
            system_prompt: text(1),
            model: text(2),
            timezone: text(3),
            webhook: text(4),
            embedding_model: text(5),
            allow_unpriced: args.bool_or_null(6),
            user_limits: [7, 8, 9, 10].map(|i| args.int_or_null(i)),
        };
        let _one_at_a_time = world.engine().operator_writes.lock().await;
        let operator = world.operator()?.operator.clone();
        wishes.check(&operator)?;
        let inside = operator.clone();
        let change = operator.set_plan(args.text(0)?, move |settings| {
            let prompt = wishes.system_prompt.as_ref().filter(|text| !text.is_empty());
            if prompt.is_some() {
                check_prompt(&inside, &settings.tier)?;
            }
            let mut plan = TenantPlan::decode(&settings.plan)?;
            wishes.apply(&mut plan);
            plan.encode()
        });
        change.await?;
        world.engine().reembed.notify_one();
        one(Scalar::Text, args.text(0)?)
    })
}

/// The window of a name.
pub(super) fn window(name: &str) -> Result<Window> {
    Window::parse(name).ok_or_else(|| Error::new(Code::InvalidParameterValue, "window must be 'day' or 'month'"))
}

fn set_budget(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let (window, amount) = (window(args.text(1)?)?, args.usd_or_null(2)?);
        let hard = args.bool(3)?;
        let operator = &world.operator()?.operator;
        let change = operator.set_plan(args.text(0)?, move |settings| {
            let mut plan = TenantPlan::decode(&settings.plan)?;
            plan.set_budget(window, amount, hard)?;
            plan.encode()
        });
        change.await?;
        one(Scalar::Text, args.text(0)?)
    })
}

/// Sets how much a tenant's audit log tells.
fn set_compliance(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let wanted = args.text(1)?;
        let level = Level::parse(wanted).ok_or_else(|| {
            let names: Vec<_> = Level::ALL.iter().map(|level| level.as_str()).collect();
            Error::new(
                Code::InvalidParameterValue,
                format!("logging_level must be one of {}", names.join(", ")),
            )
        })?;
        let change = world.operator()?.operator.set_plan(args.text(0)?, move |settings| {
            let mut plan = TenantPlan::decode(&settings.plan)?;
            plan.logging = level;
            plan.encode()
        });
        change.await?;
        one(Scalar::Text, args.text(0)?)
    })
}

/// Imports LiteLLM's price file: rows that say something new, valid from a day on (today). Gives a report.
fn import_prices(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        // Null asks for today.
        let day = args.date(1).map_or(Day::of_micros(now_micros()), Day);
        let json = args.text(0)?.to_owned();
        let read = tokio::task::spawn_blocking(move || litellm::import(&json, day));
        let import = read.await.map_err(Error::internal)??;
        let _one_at_a_time = world.engine().operator_writes.lock().await;
        let operator = &world.operator()?.operator;
        let rows = operator
            .scan(Table::Prices, &[])
            .map(|row| row.map(|(key, stored)| (key, stored.value)));
        let known = Prices::from_rows(&rows.collect::<Result<Vec<_>>>()?)?;
        let (mut batch, mut imported, mut unchanged, mut own) = (operator.batch(), 0, 0, Vec::new());
        for price in &import.prices {
            let same = |known: &Price| {
                Price {
                    valid_from: day,
                    ..known.clone()
                } == *price
            };
            if [BUILTIN, DATABASE].contains(&price.provider.as_str()) {
                own.push(json!({"name": price.id(), "why": "its provider is this server"}));
            } else if known.get(&price.provider, &price.model, day).is_some_and(same) {
                unchanged += 1;
            } else {
                batch.put(Table::Prices, &price.key(), price.encode()?);
                imported += 1;
            }
        }
        if !batch.is_empty() {
            operator.commit(batch).await?;
        }
        let rounded = import.rounded.iter();
        let rounded = rounded.map(|r| json!({"name": r.name, "field": r.field, "usd": r.usd, "nanousd": r.nano.0}));
        let skipped = import.skipped.iter().map(|s| json!({"name": s.name, "why": s.why}));
        let skipped_count = import.skipped.len() + own.len();
        let report = json!({
            "valid_from": day.to_string(),
            "imported": imported,
            "unchanged": unchanged,
            "rounded_count": import.rounded.len(),
            "rounded": rounded.take(REPORTED).collect::<Vec<_>>(),
            "long_context_count": import.long_context.len(),
            "long_context": import.long_context.iter().take(REPORTED).collect::<Vec<_>>(),
            "skipped_count": skipped_count,
            "skipped": own.into_iter().chain(skipped).take(REPORTED).collect::<Vec<_>>(),
        });
        one(Scalar::Jsonb, &pg::json::canonical(&report.to_string())?)
    })
}
