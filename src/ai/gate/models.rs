//! Which model a call goes to: request over tenant over tier, then clamped.

use crate::{
    error::{Code, Error, Result},
    ledger::{
        model::{BUILTIN, Kind, Model, Models},
        own_model::OwnModel,
        plan::TenantPlan,
        provider::{OwnKey, ProviderRow, Providers, Secret},
        tier::Tier,
        usage::now_micros,
    },
    tenant::Tenant,
};

/// Where a model runs.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The endpoint.
    pub row: ProviderRow,
    /// The tenant's own key, used for this tenant only and instead of the operator's.
    pub own_key: Option<Secret>,
}

impl Upstream {
    /// The provider of this name as this tenant calls it, if there is one.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn find(tenant: &Tenant, providers: &Providers, name: &str) -> Result<Option<Self>> {
        let Some(row) = providers.get(name).cloned() else {
            return Ok(None);
        };
        let own_key = OwnKey::find(tenant, name)?.map(|own| own.api_key);
        Ok(Some(Self { row, own_key }))
    }
}

/// A model that a call may use.
#[derive(Clone, Debug)]
pub struct Target {
    /// The model, by the name it was asked for.
    pub model: Model,
    /// `None` for what is built in.
    pub upstream: Option<Upstream>,
    /// For a model of the tenant's own: what it was made from. Its price stands in where the model has none.
    pub base: Option<Model>,
}

/// What a choice of model is made from.
pub struct Choice<'a> {
    /// Whose call it is.
    pub tenant: &'a Tenant,
    /// The operator's models.
    pub models: &'a Models,
    /// The operator's providers.
    pub providers: &'a Providers,
    /// What the operator set for the tenant.
    pub plan: &'a TenantPlan,
    /// The tenant's tier.
    pub tier: &'a Tier,
}

impl Choice<'_> {
    /// The chat model for a call: the one asked for, else the tenant's own preferred one, else the one set for
    /// the tenant, else the tier's. The second value tells of a fallback.
    ///
    /// # Errors
    /// 42704 for a name that does not exist here, be it nobody's or another tenant's; 55000 for a model that is
    /// retired or has no provider; 42501 if the provider is outside of the tenant's region.
    /// What the tenant has of its own answers only while its tier has fine-tuning.
    pub fn chat(&self, asked: Option<&str>) -> Result<(Target, Option<String>)> {
        if let Some(name) = asked {
            return self.named(name, Kind::Chat);
        }
        if self.tier.fine_tuning
            && let Some(own) = OwnModel::all(self.tenant)?.into_iter().find(|own| own.preferred)
        {
            return self.named(&own.alias, Kind::Chat);
        }
        self.named(self.default_chat(), Kind::Chat)
    }

    /// The operator's chat model of this name, or the tenant's default one, for making another of it.
    ///
    /// # Errors
    /// See [`Choice::chat`].
    pub fn base(&self, asked: Option<&str>) -> Result<Target> {
        let name = asked.unwrap_or_else(|| self.default_chat());
        match self.models.get(name) {
            Some(model) if model.kind == Kind::Chat => self.target(model.clone(), None),
            _ => Err(unknown(name)),
        }
    }

    fn default_chat(&self) -> &str {
        self.plan.model.as_deref().unwrap_or(&self.tier.model)
    }

    /// The embedding model of a name.
    ///
    /// # Errors
    /// See [`Choice::chat`].
    pub fn embedding(&self, name: &str) -> Result<Target> {
        self.named(name, Kind::Embedding).map(|(target, _)| target)
    }

    /// The model that made vectors which are stored, whatever it is called by now.
    ///
    /// # Errors
    /// 55000 if its provider is gone, 42501 if that is outside of the tenant's region.
    pub fn embedder(&self, provider: &str, model: &str) -> Result<Target> {
        let model = Model {
            name: model.to_owned(),
            provider: provider.to_owned(),
            model: model.to_owned(),
            kind: Kind::Embedding,
            context_tokens: i32::MAX,
            max_output_tokens: 0,
            retires_at_micros: None,
        };
        self.target(model, None)
    }

    fn named(&self, name: &str, kind: Kind) -> Result<(Target, Option<String>)> {
        if kind == Kind::Chat
            && let Some(own) = OwnModel::find(self.tenant, name)?
        {
            // The operator may have taken the base away: then it is the default that it stands on.
            let base = self.models.get(&own.base);
            let base = base.or_else(|| self.models.get(self.default_chat()));
            let base = base.ok_or_else(|| unknown(&own.base))?;
            if own.retired_at_micros.is_some_and(|at| at <= now_micros()) {
                return Ok((self.target(base.clone(), None)?, Some(own.fallback(&base.name))));
            }
            if !self.tier.fine_tuning {
                let told = format!(
                    "the tenant's tier has no models of its own; \"{}\" answers instead of \"{name}\"",
                    base.name
                );
                return Ok((self.target(base.clone(), None)?, Some(told)));
            }
            return Ok((self.target(own.on(base), Some(base.clone()))?, None));
        }
        match self.models.get(name) {
            Some(model) if model.kind == kind => Ok((self.target(model.clone(), None)?, None)),
            _ => Err(unknown(name)),
        }
    }

    fn target(&self, model: Model, base: Option<Model>) -> Result<Target> {
        if model.retires_at_micros.is_some_and(|at| at <= now_micros()) {
            return Err(Error::new(
                Code::NotReady,
                format!("model \"{}\" is no longer served by its provider", model.name),
            )
            .with_hint("ask for another model, or the operator names a new one in bulkhead.models"));
        }
        if model.provider == BUILTIN {
            return Ok(Target {
                model,
                upstream: None,
                base,
            });
        }
        let upstream = Upstream::find(self.tenant, self.providers, &model.provider)?.ok_or_else(|| {
            Error::new(
                Code::NotReady,
                format!("model \"{}\" has no provider at the moment", model.name),
            )
            .with_hint("the operator adds it to bulkhead.providers, or sets provider 'builtin' in bulkhead.models")
        })?;
        // What a region holds must not leave it through a prompt either.
        if let Some(region) = self.tenant.settings().region.as_deref()
            && upstream.row.region.as_deref() != Some(region)
        {
            return Err(Error::new(
                Code::InsufficientPrivilege,
                format!("model \"{}\" runs outside of this tenant's region", model.name),
            )
            .with_detail(r#"{"rule":"data_residency"}"#)
            .with_hint("ask for a model whose provider is in the region"));
        }
        Ok(Target {
            model,
            upstream: Some(upstream),
            base,
        })
    }
}

fn unknown(name: &str) -> Error {
    Error::new(Code::UndefinedObject, format!("model \"{name}\" does not exist"))
        .with_hint("leave model out to use the default; bulkhead.models lists those there are")
}
