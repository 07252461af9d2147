//! `ai.fine_tune_dataset`, `ai.fine_tune`, `ai.register_model`: models of the tenant's own; and
//! `bulkhead.webhook_secret`.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use futures::future::BoxFuture;

use super::{
    Args, Columns, Function, Kind, Plane, Returns,
    ai::{one, one_text},
    fields, parameter, t,
};
use crate::{
    ai::{conversation::rating, fine_tune::dataset, webhook},
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    ledger::{model::BUILTIN, own_model::OwnModel, plan::TenantPlan, provider::OwnKey, usage::now_micros},
    limits,
    sql::{
        gateway::Gateway,
        relations::rows::{self, Cell},
        world::{TenantWorld, World},
    },
    tenant::Role,
};

type Answer = BoxFuture<'static, Result<RecordBatch>>;

const DATASET_COLUMNS: Columns = &[("line", t(Scalar::Text))];

/// These functions.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "ai.fine_tune_dataset",
        parameters: &[parameter("min_rating", Kind::Int, Some("4"))],
        returns: Returns::Table(DATASET_COLUMNS),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: false,
        call: fine_tune_dataset,
    },
    Function {
        name: "ai.fine_tune",
        parameters: &[
            parameter("base_model", Kind::Text, None),
            parameter("min_rating", Kind::Int, Some("4")),
        ],
        returns: Returns::Value(t(Scalar::Uuid)),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: true,
        call: fine_tune,
    },
    Function {
        name: "ai.register_model",
        parameters: &[
            parameter("alias", Kind::Text, None),
            parameter("model", Kind::Text, None),
            parameter("provider", Kind::Text, Some("NULL")),
            parameter("base", Kind::Text, Some("NULL")),
            parameter("preferred", Kind::Bool, Some("false")),
        ],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: true,
        call: register_model,
    },
    Function {
        name: "bulkhead.webhook_secret",
        parameters: &[],
        returns: Returns::Value(t(Scalar::Text)),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: false,
        call: webhook_secret,
    },
];

/// Refuses tiers without models of their own.
fn check_tier(world: &TenantWorld) -> Result<()> {
    match world.state.tier(&world.engine)? {
        tier if tier.fine_tuning => Ok(()),
        tier => Err(Error::new(
            Code::InsufficientPrivilege,
            format!("tier \"{}\" has no models of its own", tier.name),
        )
        .with_hint("the operator moves the tenant to a tier whose fine_tuning is true, such as enterprise")),
    }
}

/// The examples as committed by now: what the transaction has changed is not among them yet.
async fn lines(world: &TenantWorld, min_rating: u8) -> Result<Vec<String>> {
    let tenant = world.tenant.clone();
    let read = move || dataset::lines(&tenant, min_rating, now_micros());
    tokio::task::spawn_blocking(read).await.map_err(Error::internal)?
}

fn fine_tune_dataset(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        check_tier(world)?;
        let lines = lines(world, rating(args.int(0)?)?).await?;
        rows::batch(fields(DATASET_COLUMNS), &lines, |line, _| Cell::Text(line))
    })
}

/// Gives the id of the row in `ai.fine_tunes`.
fn fine_tune(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        check_tier(world)?;
        let (base, min_rating) = (args.text(0)?, rating(args.int(1)?)?);
        let gateway = world.gateway().await?;
        let target = gateway.base_model(Some(base))?;
        let lines = lines(world, min_rating).await?;
        let (count, least) = (lines.len(), limits::FINE_TUNE_EXAMPLES);
        if count < least {
            let detail = serde_json::json!({"examples": count, "needed": least});
            return Err(Error::new(
                Code::NotReady,
                format!("there are {count} examples, and fine-tuning takes {least} or more"),
            )
            .with_detail(detail.to_string())
            .with_hint(
                "an example is a run of replies rated min_rating or more, of users who have called \
                 ai.set_training_consent(true); ai.fine_tune_dataset() shows them",
            ));
        }
        let id = world.start_fine_tune(&gateway.caller, &target, &lines).await?;
        (gateway.caller.notice)(format!(
            "{count} examples were sent; what the provider charges for training is not known here, and booked as 0"
        ));
        one_text(Scalar::Uuid, &id.to_string())
    })
}

/// Gives the alias back.
fn register_model(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        check_tier(world)?;
        let gateway = world.gateway().await?;
        let base = gateway.base_model(args.text_or_null(3))?.model;
        let own = OwnModel {
            alias: alias(&gateway, args.text(0)?)?,
            provider: args.text_or_null(2).unwrap_or(&base.provider).to_owned(),
            model: model(args.text(1)?)?,
            base: base.name,
            preferred: args.bool(4)?,
            at_micros: now_micros(),
            retired_at_micros: None,
        };
        check_owned(world, &gateway, &own)?;
        world.register(&own).await?;
        one_text(Scalar::Text, &own.alias)
    })
}

fn alias(gateway: &Gateway, alias: &str) -> Result<String> {
    let shaped = (1..=limits::NAME_BYTES).contains(&alias.len())
        && alias
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !shaped {
        return Err(Error::new(
            Code::InvalidParameterValue,
            "an alias is 1 to 63 of a-z, A-Z, 0-9, _, - and .",
        ));
    }
    match gateway.models().get(alias) {
        None => Ok(alias.to_owned()),
        Some(_) => Err(
            Error::new(Code::DuplicateObject, format!("model \"{alias}\" already exists"))
                .with_hint("choose an alias that is not in bulkhead.models"),
        ),
    }
}

fn model(name: &str) -> Result<String> {
    let fits = (1..=limits::PROVIDER_ID_BYTES).contains(&name.len());
    match fits && name.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(name.to_owned()),
        false => Err(Error::new(
            Code::InvalidParameterValue,
            format!(
                "a provider's name of a model is 1 to {} printable ASCII characters without blanks",
                limits::PROVIDER_ID_BYTES
            ),
        )),
    }
}

/// Refuses a model that may be another tenant's. Under the operator's key, or where there are no keys, the provider
/// would answer with whatever model is named, that of another tenant included.
fn check_owned(world: &TenantWorld, gateway: &Gateway, own: &OwnModel) -> Result<()> {
    if own.provider == BUILTIN {
        return Err(Error::new(
            Code::InvalidParameterValue,
            "register_model: provider must be one of bulkhead.providers",
        ));
    }
    let Some(provider) = gateway.providers().get(&own.provider) else {
        return Err(Error::new(
            Code::UndefinedObject,
            format!("provider \"{}\" does not exist", own.provider),
        ));
    };
    let same = |provider: &str, model: &str| (provider, model) == (own.provider.as_str(), own.model.as_str());
    let offered = gateway.models().iter().any(|model| same(&model.provider, &model.model));
    let trained = OwnModel::all(&world.tenant)?
        .iter()
        .any(|known| same(&known.provider, &known.model));
    let has_account = provider.api_key.is_some() && OwnKey::find(&world.tenant, &own.provider)?.is_some();
    if offered || trained || has_account {
        return Ok(());
    }
    Err(Error::new(
        Code::InsufficientPrivilege,
        format!("this tenant has no account of its own at provider \"{}\"", own.provider),
    )
    .with_hint(
        "set its key with bulkhead.set_provider_key: only a model of that account can be registered, and a provider \
         that the operator calls without a key has no accounts",
    ))
}

/// What the alerts of the webhook are signed with; NULL while there is none.
fn webhook_secret(world: Arc<World>, _args: Args) -> Answer {
    Box::pin(async move {
        let tenant = &world.tenant()?.tenant;
        let plan = TenantPlan::decode(&tenant.settings().plan)?;
        let secret = plan.webhook.map(|url| webhook::secret(tenant, &url));
        one(
            t(Scalar::Text).field("value", true),
            Arc::new(StringArray::from(vec![secret])),
        )
    })
}
