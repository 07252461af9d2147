//! What makes two calls the same.

use super::{Epoch, Hash};
use crate::{ai::conversation::Role, tenant::Tenant};

/// Everything that an answer depends on. Nothing of it comes from the caller's own naming of tenants
/// or keys.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who acts: an answer may hold what only this user may read.
    pub user: &'a str,
    /// The function: `complete`, `rag`.
    pub operation: &'a str,
    /// The provider after the alias was resolved, and the model there.
    pub provider: &'a str,
    /// See `provider`.
    pub model: &'a str,
    /// Every parameter of the call by name, clamped, in a fixed order: `max_tokens`, `temperature`, `k`,
    /// `filter`, tools.
    pub parameters: &'a [(&'a str, &'a str)],
    /// The version of the tenant's system prompt.
    pub prompt_version: u32,
    /// All that the model is told, the system prompt included; for RAG the question.
    pub messages: &'a [(Role, &'a str)],
    /// The state of the documents that are searched.
    pub corpus: Option<Epoch>,
}

impl Request<'_> {
    /// The hash of all of it under the tenant's key.
    pub fn hash(&self, tenant: &Tenant) -> Hash {
        tenant.keyed_hash("call of a model", &self.bytes())
    }

    /// Two requests have the same bytes only if they are equal: each text is preceded by its length,
    /// each list by its count.
    fn bytes(&self) -> Vec<u8> {
        // Every field by name: one more will not compile until it is part of the bytes.
        let Self {
            user,
            operation,
            provider,
            model,
            parameters,
            prompt_version,
            messages,
            corpus,
        } = *self;
        let mut bytes = Vec::with_capacity(256);
        for text in [user, operation, provider, model] {
            put(&mut bytes, text);
        }
        count(&mut bytes, parameters.len());
        for (name, value) in parameters {
            put(&mut bytes, name);
            put(&mut bytes, value);
        }
        bytes.extend(prompt_version.to_be_bytes());
        count(&mut bytes, messages.len());
        for (role, content) in messages {
            put(&mut bytes, role.as_str());
            put(&mut bytes, content);
        }
        match corpus {
            Some(epoch) => {
                bytes.push(1);
                bytes.extend(epoch.bytes());
            }
            None => bytes.push(0),
        }
        bytes
    }
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend((count as u64).to_be_bytes());
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    count(bytes, text.len());
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ai::cache::CorpusEpoch;

    const BASE: Request<'_> = Request {
        user: "ada",
        operation: "complete",
        provider: "openai",
        model: "gpt-4o",
        parameters: &[("max_tokens", "10"), ("temperature", "0.7")],
        prompt_version: 1,
        messages: &[(Role::System, "be brief"), (Role::User, "hello")],
        corpus: None,
    };

    /// One change each; all of them are other calls, to each other too.
    #[test]
    fn whatever_differs_is_another_call() {
        let epoch = CorpusEpoch::new();
        let (first, _) = (epoch.now(), epoch.advance());
        let others = [
            Request { user: "bob", ..BASE },
            Request { user: "", ..BASE },
            Request {
                operation: "rag",
                ..BASE
            },
            Request {
                provider: "ollama",
                ..BASE
            },
            Request {
                model: "gpt-4o-mini",
                ..BASE
            },
            Request {
                parameters: &[("max_tokens", "10")],
                ..BASE
            },
            Request {
                parameters: &[("max_tokens", "11"), ("temperature", "0.7")],
                ..BASE
            },
            Request {
                parameters: &[("temperature", "0.7"), ("max_tokens", "10")],
                ..BASE
            },
            Request {
                prompt_version: 2,
                ..BASE
            },
            Request {
                messages: &[(Role::User, "be brief"), (Role::User, "hello")],
                ..BASE
            },
            Request {
                messages: &[(Role::System, "be brief"), (Role::User, "hello ")],
                ..BASE
            },
            Request {
                messages: &[(Role::User, "hello"), (Role::System, "be brief")],
                ..BASE
            },
            Request {
                messages: &[(Role::System, "be brief")],
                ..BASE
            },
            Request {
                corpus: Some(first),
                ..BASE
            },
            Request {
                corpus: Some(epoch.now()),
                ..BASE
            },
            Request {
                corpus: Some(CorpusEpoch::new().now()),
                ..BASE
            },
            // The same bytes, cut elsewhere.
            Request {
                user: "adacomplete",
                operation: "",
                ..BASE
            },
            Request {
                user: "ad",
                operation: "acomplete",
                ..BASE
            },
            Request {
                provider: "open",
                model: "aigpt-4o",
                ..BASE
            },
            Request {
                messages: &[(Role::System, "be briefuserhello")],
                ..BASE
            },
            Request {
                messages: &[(Role::System, "be brie"), (Role::User, "fhello")],
                ..BASE
            },
            Request {
                parameters: &[("max_tokens", "10temperature"), ("", "0.7")],
                ..BASE
            },
        ];
        let mut seen = HashSet::from([BASE.bytes()]);
        for other in others {
            assert!(seen.insert(other.bytes()), "{other:?}");
        }
        assert!(!seen.insert(Request { user: "ada", ..BASE }.bytes()));
    }
}
