//! Usage lines: one for every billable event, or for many statements gathered within a second.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    money::{Day, Nano},
    row,
};
use crate::error::Result;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }

        impl $name {
            /// All of them. New ones are added at the end: their place is what is stored.
            pub const ALL: &'static [$name] = &[ $( $name::$variant, )* ];

            /// Its name in SQL.
            pub const fn as_str(self) -> &'static str { match self { $( $name::$variant => $text, )* } }

            /// The one of this name in SQL.
            pub fn parse(text: &str) -> Option<Self> { Self::ALL.iter().copied().find(|one| one.as_str() == text) }
        }
    };
}

names! {
    /// What was done.
    Operation {
        /// Text turned into vectors, by `ai.embed`, by ingestion or for a search.
        Embed = "embed",
        /// `ai.complete`.
        Complete = "complete",
        /// The answer of `ai.rag`.
        Rag = "rag",
        /// Statements executed.
        Statement = "statement",
        /// Vector searches.
        VectorSearch = "vector_search",
        /// A reply in a conversation.
        Chat = "chat",
        /// A fine-tuning job.
        FineTune = "fine_tune",
    }
}

names! {
    /// How it ended.
    Status {
        /// As asked.
        Ok = "ok",
        /// With an error; what it cost is still owed.
        Error = "error",
        /// The client went away or cancelled.
        Cancelled = "cancelled",
        /// The server stopped before it heard the end.
        Orphaned = "orphaned",
        /// Answered from the tenant's cache.
        CacheHit = "cache_hit",
    }
}

/// Which column of the costs an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Tokens of a model.
    Llm,
    /// Statements.
    Database,
    /// Vector searches.
    Vector,
}

impl Operation {
    /// Its column of the costs.
    pub const fn class(self) -> Class {
        match self {
            Self::Embed | Self::Complete | Self::Rag | Self::Chat | Self::FineTune => Class::Llm,
            Self::Statement => Class::Database,
            Self::VectorSearch => Class::Vector,
        }
    }
}

/// One line of `bulkhead.usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageLine {
    /// Version 7, so that lines sort by time.
    #[serde(with = "row::uuid")]
    pub id: Uuid,
    /// When, in microseconds since 1970 UTC. Its UTC day is the day that is billed.
    pub at_micros: i64,
    /// Who, inside the tenant.
    pub user_id: String,
    /// What.
    pub operation: Operation,
    /// The model's name as in the price table.
    pub model: String,
    /// Tokens sent, cached ones included.
    pub prompt_tokens: i64,
    /// Tokens of the prompt that the provider had cached.
    pub cached_tokens: i64,
    /// Tokens received.
    pub completion_tokens: i64,
    /// What all of it costs.
    pub cost: Nano,
    /// How it ended.
    pub status: Status,
    /// Whether the counts are ours because the provider gave none.
    pub estimated: bool,
    /// How long it took.
    pub latency_ms: i32,
    /// The conversation it belongs to.
    #[serde(with = "row::optional_uuid")]
    pub conversation_id: Option<Uuid>,
    /// [`Price::id`](super::price::Price::id) of the price it was charged by; `None` if there was none.
    pub price_id: Option<String>,
    /// How many events this line stands for: 1 for a call of a model.
    pub count: i64,
}

impl UsageLine {
    /// A line of this moment for one event that took nothing and cost nothing: fill in the rest.
    pub fn now(user_id: &str, operation: Operation, model: &str) -> Self {
        Self::at(now_micros(), user_id, operation, model)
    }

    /// [`UsageLine::now`] at another moment.
    pub fn at(at_micros: i64, user_id: &str, operation: Operation, model: &str) -> Self {
        Self {
            id: Uuid::now_v7(),
            at_micros,
            user_id: user_id.to_owned(),
            operation,
            model: model.to_owned(),
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            cost: Nano::ZERO,
            status: Status::Ok,
            estimated: false,
            latency_ms: 0,
            conversation_id: None,
            price_id: None,
            count: 1,
        }
    }

    /// The UTC day that is billed.
    pub fn day(&self) -> Day {
        Day::of_micros(self.at_micros)
    }

    /// The key of this line.
    pub fn key(&self) -> &[u8] {
        self.id.as_bytes()
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
        row::decode("usage line", value)
    }
}

/// The wall clock in microseconds since 1970 UTC.
pub fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_storage() {
        let mut line = UsageLine::now("alice", Operation::Rag, "default-small");
        line.conversation_id = Some(Uuid::now_v7());
        line.price_id = Some("builtin/m@1970-01-01".to_owned());
        line.cost = Nano(-5);
        line.completion_tokens = i64::MAX;
        assert_eq!(UsageLine::decode(&line.encode().unwrap()).unwrap(), line);
        line.conversation_id = None;
        assert_eq!(UsageLine::decode(&line.encode().unwrap()).unwrap(), line);
        assert!(UsageLine::decode(&line.encode().unwrap()[..20]).is_err());
    }

    #[test]
    fn names_are_distinct_and_found_again() {
        for &operation in Operation::ALL {
            assert_eq!(Operation::parse(operation.as_str()), Some(operation));
        }
        for &status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Operation::parse(""), None);
    }

    #[test]
    fn later_lines_have_greater_keys() {
        let lines = [0; 100].map(|_| UsageLine::now("u", Operation::Statement, "m"));
        assert!(lines.is_sorted_by(|a, b| a.key() < b.key()));
    }
}
