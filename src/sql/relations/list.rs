//! Relations of the gateway, and those of the operator's plane.

use super::{Relation, RelationPlane, ledger, operator, providers};
use crate::{
    sql::functions::READERS,
    tenant::Role,
};

/// What a tenant sees of models, money and limits.
pub(super) const GATEWAY: &[Relation] = &[
    Relation {
        schema: "bulkhead",
        name: "models",
        plane: RelationPlane::Tenant(READERS),
        columns: operator::OWN_MODEL_COLUMNS,
        read: operator::read_own_models,
        write: None,
        key: None,
        vector: None,
        comment: "Names that may be given as a model.",
    },
    Relation {
        schema: "bulkhead",
        name: "provider_keys",
        plane: RelationPlane::Tenant(&[Role::Owner]),
        columns: providers::KEY_COLUMNS,
        read: providers::read_keys,
        write: None,
        key: None,
        vector: None,
        comment: "Providers that are called with a key of this tenant's; set by bulkhead.set_provider_key.",
    },
];

/// The operator's.
pub(super) const OPERATOR: &[Relation] = &[
    Relation {
        schema: "bulkhead",
        name: "tenants",
        plane: RelationPlane::Operator,
        columns: operator::TENANT_COLUMNS,
        read: operator::read_tenants,
        write: None,
        key: None,
        vector: None,
        comment: "Tenants; change them with bulkhead.create_tenant, alter_tenant and drop_tenant.",
    },
    Relation {
        schema: "bulkhead",
        name: "tiers",
        plane: RelationPlane::Operator,
        columns: operator::TIER_COLUMNS,
        read: operator::read_tiers,
        write: Some(operator::write_tiers),
        key: None,
        vector: None,
        comment: "What each tier may do.",
    },
    Relation {
        schema: "bulkhead",
        name: "providers",
        plane: RelationPlane::Operator,
        columns: providers::PROVIDER_COLUMNS,
        read: providers::read_providers,
        write: Some(providers::write_providers),
        key: None,
        vector: None,
        comment: "OpenAI-compatible endpoints; api_key can be written and is never shown.",
    },
    Relation {
        schema: "bulkhead",
        name: "models",
        plane: RelationPlane::Operator,
        columns: operator::MODEL_COLUMNS,
        read: operator::read_models,
        write: Some(operator::write_models),
        key: None,
        vector: None,
        comment: "Aliases by which tiers, tenants and SQL name a model.",
    },
    Relation {
        schema: "bulkhead",
        name: "model_prices",
        plane: RelationPlane::Operator,
        columns: operator::PRICE_COLUMNS,
        read: operator::read_prices,
        write: Some(operator::write_prices),
        key: None,
        vector: None,
        comment: "Prices by model and date, in nano-USD a token.",
    },
    Relation {
        schema: "bulkhead",
        name: "costs",
        plane: RelationPlane::Operator,
        columns: ledger::TENANT_COSTS_COLUMNS,
        read: ledger::read_all_costs,
        write: None,
        key: None,
        vector: None,
        comment: "Costs of every tenant by day; amounts only.",
    },
    Relation {
        schema: "bulkhead",
        name: "usage",
        plane: RelationPlane::Operator,
        columns: ledger::TENANT_USAGE_COLUMNS,
        read: ledger::read_all_usage,
        write: None,
        key: None,
        vector: None,
        comment: "Counts and costs of every tenant by day and kind; amounts only.",
    },
];
