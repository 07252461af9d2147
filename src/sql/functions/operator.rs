//! The operator's functions: create, alter and drop tenants.

use std::sync::Arc;

use datafusion::arrow::{
    array::{RecordBatch, StringArray},
    datatypes::Schema,
};
use futures::future::BoxFuture;

use super::{Args, t};
use crate::{
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    ledger::books::Amounts,
    sql::{pg, world::World},
    tenant::{AlterTenant, NewTenant},
};

type Answer = BoxFuture<'static, Result<RecordBatch>>;

fn one(scalar: Scalar, text: &str) -> Result<RecordBatch> {
    let schema = Schema::new(vec![t(scalar).field("value", true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(vec![text]))]).map_err(Error::internal)
}

pub(super) fn create_tenant(world: Arc<World>, args: Args) -> Answer {
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

pub(super) fn alter_tenant(world: Arc<World>, args: Args) -> Answer {
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

pub(super) fn drop_tenant(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let erasure = world.operator()?.operator.drop_tenant(args.text(0)?).await?;
        let billed = match erasure.amounts.0.is_empty() {
            true => Amounts::default(),
            false => Amounts::from_sums(&erasure.amounts)?,
        };
        let dropped_at = chrono::DateTime::from_timestamp_micros(erasure.dropped_at_micros).unwrap_or_default();
        let certificate = serde_json::json!({
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
