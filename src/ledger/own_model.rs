//! Models that only one tenant has, as rows of that tenant.

use serde::{Deserialize, Serialize};

use super::{model::Model, row};
use crate::{
    codec,
    error::Result,
    tenant::{Table, Tenant},
};

/// A model that only one tenant has: fine-tuned for it, or trained elsewhere and registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnModel {
    /// The alias.
    pub alias: String,
    /// Name in `bulkhead.providers`.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// Alias of the model it was made from, which is used where this one is gone.
    pub base: String,
    /// Whether it answers where no model is asked for.
    pub preferred: bool,
    /// When it was registered, in microseconds since 1970 UTC.
    pub at_micros: i64,
    /// Since when the provider no longer serves it.
    pub retired_at_micros: Option<i64>,
}

impl OwnModel {
    /// The key of this row.
    pub fn key(&self) -> Vec<u8> {
        key(&self.alias)
    }

    /// The stored value.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    /// The tenant's model of this alias.
    ///
    /// # Errors
    /// [`Code::Corrupted`](crate::error::Code::Corrupted).
    pub fn find(tenant: &Tenant, alias: &str) -> Result<Option<Self>> {
        let stored = tenant.get(Table::OwnModels, &key(alias))?;
        stored.map(|stored| row::decode("model", &stored.value)).transpose()
    }

    /// All models of the tenant.
    ///
    /// # Errors
    /// [`Code::Corrupted`](crate::error::Code::Corrupted).
    pub fn all(tenant: &Tenant) -> Result<Vec<Self>> {
        tenant
            .scan(Table::OwnModels, &[])
            .map(|found| row::decode("model", &found?.1.value))
            .collect()
    }

    /// As a row of models; what it does not say is its base's.
    pub fn on(&self, base: &Model) -> Model {
        Model {
            name: self.alias.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            retires_at_micros: self.retired_at_micros,
            ..base.clone()
        }
    }
}

fn key(alias: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::key::put_bytes(&mut bytes, alias.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::model, tenant::testing};

    #[tokio::test]
    async fn a_model_is_its_tenants_only() {
        let directory = testing::directory(&["acme", "globex"]).await;
        let acme = testing::tenant(&directory, "acme", "owner", "secret");
        let globex = testing::tenant(&directory, "globex", "owner", "secret");
        let own = OwnModel {
            alias: "support".to_owned(),
            provider: "openai".to_owned(),
            model: "ft:gpt:1".to_owned(),
            base: "default-large".to_owned(),
            preferred: true,
            at_micros: 1,
            retired_at_micros: None,
        };
        let mut batch = acme.batch();
        batch.put(Table::OwnModels, &own.key(), own.encode().unwrap());
        acme.commit(batch).await.unwrap();
        assert_eq!(OwnModel::find(&acme, "support").unwrap(), Some(own.clone()));
        assert_eq!(OwnModel::all(&acme).unwrap(), std::slice::from_ref(&own));
        assert_eq!(OwnModel::find(&globex, "support").unwrap(), None);
        assert!(OwnModel::all(&globex).unwrap().is_empty());
        let [_, large, _] = model::defaults();
        let model = own.on(&large);
        assert_eq!(
            (&*model.name, &*model.provider, &*model.model),
            ("support", "openai", "ft:gpt:1")
        );
        assert_eq!(model.context_tokens, large.context_tokens);
    }
}
