//! Functions by which a tenant's owner sets what belongs to the whole tenant.

use std::sync::Arc;

use datafusion::arrow::{
    array::{BooleanArray, RecordBatch},
    datatypes::Schema,
};
use futures::future::BoxFuture;

use super::{Args, Function, Kind, Plane, Returns, parameter, t};
use crate::{
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    ledger::provider::{OwnKey, Secret},
    sql::world::World,
    tenant::{Role, Table},
};

type Answer = BoxFuture<'static, Result<RecordBatch>>;

/// These functions.
pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "bulkhead.set_provider_key",
    parameters: &[
        parameter("provider", Kind::Text, None),
        parameter("api_key", Kind::Text, None),
    ],
    returns: Returns::Value(t(Scalar::Bool)),
    plane: Plane::Tenant(&[Role::Owner]),
    effect: true,
    call: set_provider_key,
}];

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
        world.tenant.commit(batch).await?;
        truth(args.text_or_null(1).is_some())
    })
}
