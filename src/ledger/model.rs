//! Models: the aliases that tiers and SQL use, as the operator's rows of `bulkhead.models`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{published::FromRows, row};
use crate::{codec::key, error::Result, tenant::Published};

/// The provider that needs no network: built-in embedder and extractive answerer.
pub const BUILTIN: &str = "builtin";
/// Model id of the built-in answerer.
pub const BUILTIN_EXTRACTIVE: &str = "builtin-extractive";
/// Model id of the built-in embedder.
pub const BUILTIN_HASH: &str = "builtin-hash-1024";
/// Alias of the embedding model that every tenant uses.
pub const DEFAULT_EMBEDDING: &str = "default-embedding";

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Answers messages.
    Chat,
    /// Turns text into a vector.
    Embedding,
}

impl Kind {
    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
        }
    }

    /// The kind of this name in SQL.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Chat, Self::Embedding]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// One row of `bulkhead.models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The alias.
    pub name: String,
    /// Name in `bulkhead.providers`, or [`BUILTIN`].
    pub provider: String,
    /// The provider's own name of the model.
    pub model: String,
    /// What it does.
    pub kind: Kind,
    /// Tokens of prompt and answer together.
    pub context_tokens: i32,
    /// Most tokens of one answer; 0 for an embedding.
    pub max_output_tokens: i32,
    /// When the provider stops serving it, in microseconds since 1970 UTC.
    pub retires_at_micros: Option<i64>,
}

impl Model {
    /// The key of this row.
    pub fn key(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        key::put_bytes(&mut bytes, self.name.as_bytes());
        bytes
    }

    /// The stored value.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// [`Code::Corrupted`](crate::error::Code::Corrupted).
    pub fn decode(value: &[u8]) -> Result<Self> {
        row::decode("model", value)
    }
}

/// The models of a new data directory: all built in.
pub fn defaults() -> [Model; 3] {
    let model = |name: &str, model: &str, kind, context_tokens, max_output_tokens| Model {
        name: name.to_owned(),
        provider: BUILTIN.to_owned(),
        model: model.to_owned(),
        kind,
        context_tokens,
        max_output_tokens,
        retires_at_micros: None,
    };
    [
        model("default-small", BUILTIN_EXTRACTIVE, Kind::Chat, 8_192, 4_096),
        model("default-large", BUILTIN_EXTRACTIVE, Kind::Chat, 8_192, 4_096),
        model(DEFAULT_EMBEDDING, BUILTIN_HASH, Kind::Embedding, 8_192, 0),
    ]
}

/// All models of one generation, by alias.
#[derive(Clone, Debug, Default)]
pub struct Models(BTreeMap<String, Model>);

impl Models {
    /// The model behind this alias.
    pub fn get(&self, alias: &str) -> Option<&Model> {
        self.0.get(alias)
    }

    /// Every model, by alias.
    pub fn iter(&self) -> impl Iterator<Item = &Model> {
        self.0.values()
    }
}

impl FromRows for Models {
    const KIND: Published = Published::Models;

    fn from_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Self> {
        let models = rows
            .iter()
            .map(|(_, value)| Model::decode(value).map(|model| (model.name.clone(), model)));
        Ok(Self(models.collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_survive_storage() {
        for model in defaults() {
            assert_eq!(Model::decode(&model.encode().unwrap()).unwrap(), model);
            assert_eq!(Kind::parse(model.kind.as_str()), Some(model.kind));
        }
        assert_eq!(Kind::parse("CHAT"), None);
    }
}
