//! Functions by which a tenant's owner sets what belongs to the whole tenant.

use std::sync::Arc;

use datafusion::arrow::{
    array::{BooleanArray, RecordBatch},
    datatypes::Schema,
};
use futures::future::BoxFuture;

use super::{Args, Columns, Function, Kind, Plane, READERS, Returns, fields, operator::window, parameter, t};
use crate::{
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    ledger::provider::{OwnKey, Secret},
    limits,
    sql::{
        jobs,
        relations::audit::hex,
        relations::rows::{self, Cell},
        world::World,
    },
    tenant::{Role, Table},
};

type Answer = BoxFuture<'static, Result<RecordBatch>>;

/// These functions.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "bulkhead.set_provider_key",
        parameters: &[
            parameter("provider", Kind::Text, None),
            parameter("api_key", Kind::Text, None),
        ],
        returns: Returns::Value(t(Scalar::Bool)),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: true,
        call: set_provider_key,
    },
    Function {
        name: "bulkhead.set_budget",
        parameters: &[
            parameter("window", Kind::Text, None),
            parameter("amount_usd", Kind::Usd, None),
            parameter("hard", Kind::Bool, Some("true")),
            parameter("user", Kind::Text, Some("NULL")),
        ],
        returns: Returns::Value(t(Scalar::Bool)),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: true,
        call: set_budget,
    },
    Function {
        name: "bulkhead.retry_job",
        parameters: &[parameter("id", Kind::Uuid, None)],
        returns: Returns::Value(t(Scalar::Bool)),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: true,
        call: retry_job,
    },
    Function {
        name: "bulkhead.verify_audit",
        parameters: &[],
        returns: Returns::Both(AUDIT_COLUMNS),
        plane: Plane::Tenant(&[Role::Owner]),
        effect: false,
        call: verify_audit,
    },
    Function {
        name: "bulkhead.check_limit",
        parameters: &[parameter("tokens", Kind::Int, None)],
        returns: Returns::Table(LIMIT_COLUMNS),
        plane: Plane::Tenant(READERS),
        effect: false,
        call: check_limit,
    },
];

const LIMIT_COLUMNS: Columns = &[
    ("allowed", t(Scalar::Bool)),
    ("remaining", t(Scalar::Int8)),
    ("retry_after_ms", t(Scalar::Int8)),
];

const AUDIT_COLUMNS: Columns = &[
    ("ok", t(Scalar::Bool)),
    ("entries", t(Scalar::Int8)),
    ("head_seq", t(Scalar::Int8)),
    ("head_hash", t(Scalar::Text)),
    ("broken_at", t(Scalar::Int8)),
    ("problem", t(Scalar::Text)),
];

/// Looks whether the audit log is whole. Its head, noted elsewhere, shows later that all of it was not replaced.
fn verify_audit(world: Arc<World>, _args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        // On a full disk the rest is looked at all the same.
        if let Err(error) = world.state.log.flush().await {
            tracing::debug!(%error, "entries of an audit log stay in memory");
        }
        let tenant = world.tenant.clone();
        let checking = tokio::task::spawn_blocking(move || tenant.check_log());
        let found = checking.await.map_err(Error::internal)??;
        let number = |n: u64| Cell::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let row = (found, hex(&found.head.hash));
        rows::batch(fields(AUDIT_COLUMNS), &[row], |(found, hash), column| {
            match (column, found.fault) {
                (0, fault) => Cell::Bool(fault.is_none()),
                (1, _) => number(found.entries),
                (2, _) => number(found.head.seq),
                (3, _) => Cell::Text(hash),
                (4, Some(fault)) => number(fault.seq),
                (_, Some(fault)) => Cell::Text(fault.what),
                (_, None) => Cell::Null,
            }
        })
    })
}

/// One row of one boolean.
fn truth(value: bool) -> Result<RecordBatch> {
    let schema = Schema::new(vec![t(Scalar::Bool).field("value", true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(BooleanArray::from(vec![value]))]).map_err(Error::internal)
}

/// Sets the key with which this tenant's calls of a provider are made, or takes it away; tells whether there is one now.
fn set_provider_key(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let provider = args.text(0)?;
        let world = world.tenant()?;
        let mut batch = world.tenant.batch();
        let key = OwnKey::key(provider);
        match args.text_or_null(1).map(Secret::new).transpose()? {
            // A key may be taken away from a provider that is gone.
            None => batch.delete(Table::Secrets, &key),
            Some(_) if world.engine.providers.get(&world.tenant)?.get(provider).is_none() => {
                return Err(Error::new(
                    Code::UndefinedObject,
                    format!("provider \"{provider}\" does not exist"),
                ));
            }
            Some(secret) => batch.put(Table::Secrets, &key, OwnKey::now(provider, secret).encode()?),
        }
        world.commit(batch).await?;
        truth(args.text_or_null(1).is_some())
    })
}

/// Sets, or with NULL takes away, a budget of the tenant's own; tells whether there is one now.
fn set_budget(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let (window, amount, hard) = (window(args.text(0)?)?, args.usd_or_null(1)?, args.bool(2)?);
        let user = args.text_or_null(3).map(str::to_owned);
        if user
            .as_ref()
            .is_some_and(|user| user.is_empty() || user.len() > limits::NAME_BYTES)
        {
            return Err(Error::new(
                Code::InvalidParameterValue,
                "a user's name has 1 to 63 bytes",
            ));
        }
        let account = world.tenant()?.account().await?;
        let batch = match amount {
            Some(amount) => account.set_budget(user, window, amount, hard)?,
            None => account.clear_budget(user, window)?,
        };
        world.tenant()?.commit(batch).await?;
        truth(amount.is_some())
    })
}

/// Lets a job that failed be tried again.
fn retry_job(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        world.commit(jobs::retry(&world.tenant, args.uuid(0)?)?).await?;
        world.engine.reembed.notify_one();
        truth(true)
    })
}

fn check_limit(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let found = world.account().await?.check_limit(&world.acting_user(), args.int(0)?)?;
        rows::batch(fields(LIMIT_COLUMNS), &[found], |found, column| match column {
            0 => Cell::Bool(found.allowed),
            1 => Cell::Int(found.remaining),
            _ => found.retry_after_ms.map_or(Cell::Null, Cell::Int),
        })
    })
}
