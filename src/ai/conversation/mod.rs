//! Conversations: rows of one user in one tenant, how they grow, and what of them a model is shown.
//!
//! A conversation is one row and each of its messages another. Their keys begin with a keyed hash
//! of the user's name, and the tenant adds its own id before that: a look-up in another user's name
//! reads other keys and finds nothing, so that a foreign conversation and one that never existed
//! are the same to it. [`store`] reads, [`staged`] gathers changes until they are committed,
//! [`turns`] lets one change a conversation at a time, [`window`] chooses what fits a model's memory.

pub mod staged;
pub mod store;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod window;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::{Code, Error, Result},
    ledger::{money::Nano, row},
    limits,
};

pub use staged::Staged;
pub use store::Conversations;
pub use turns::Turns;

/// Microseconds in a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// Who said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// What the model is told before the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered to the model's call.
    Tool,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Role] = &[Role::System, Role::User, Role::Assistant, Role::Tool];

    /// Its name in SQL and to providers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = Error;

    /// # Errors
    /// [`Code::InvalidParameterValue`] naming the allowed values.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|r| r.as_str() == text).ok_or_else(|| {
            Error::new(
                Code::InvalidParameterValue,
                "role must be 'system', 'user', 'assistant' or 'tool'",
            )
        })
    }
}

/// One conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// A UUIDv7, so that later ones are greater.
    pub id: Uuid,
    /// Whose it is; nobody else sees it.
    pub user_id: String,
    /// What the user calls it.
    pub title: Option<String>,
    /// Microseconds since 1970, UTC.
    pub created_at: i64,
    /// When its last message came; the same unit.
    pub updated_at: i64,
    /// How many messages there are; they are numbered from 1 without gaps.
    pub message_count: u32,
    /// Canonical JSON text of an object.
    pub metadata: String,
    /// Days after the last message when it is no longer there; `None` is never.
    pub retention_days: Option<u32>,
    /// What stands for its oldest messages in a model's memory.
    pub summary: Option<Summary>,
}

/// Text that stands for the first messages of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The number of the last message that it stands for.
    pub covers: u32,
    /// The text.
    pub text: String,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// A UUIDv7.
    pub id: Uuid,
    /// Where it was said.
    pub conversation_id: Uuid,
    /// Its number in the conversation, from 1.
    pub seq: u32,
    /// When it came: microseconds since 1970, UTC.
    pub created_at: i64,
    /// 1 to 5, once the user has rated it.
    pub rating: Option<u8>,
    /// What was said.
    pub body: Body,
}

/// What of a message is known before it has a place in a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// Tokens of `content`.
    pub tokens: u32,
    /// The model that said it.
    pub model: Option<String>,
    /// What it cost to say.
    pub cost: Option<Nano>,
    /// JSON text of an array, where documents were quoted.
    pub citations: Option<String>,
}

impl Conversation {
    /// A conversation without messages that begins at `now` (microseconds since 1970, UTC).
    /// `metadata` is canonical JSON text of an object.
    ///
    /// # Errors
    /// [`Code::TooLarge`] for title and metadata, [`Code::InvalidParameterValue`] for the retention.
    pub fn new(
        user: &str,
        title: Option<&str>,
        metadata: String,
        retention_days: Option<i64>,
        now: i64,
    ) -> Result<Self> {
        check_bytes("title", title.unwrap_or_default(), limits::TITLE_BYTES)?;
        check_bytes("metadata", &metadata, limits::METADATA_BYTES)?;
        let days = |days| match u32::try_from(days) {
            Ok(days @ 1..=limits::RETENTION_DAYS) => Ok(days),
            _ => Err(Error::new(
                Code::InvalidParameterValue,
                format!("retention_days must be between 1 and {}", limits::RETENTION_DAYS),
            )
            .with_hint("leave it out to keep the conversation until it is deleted")),
        };
        Ok(Self {
            id: Uuid::now_v7(),
            user_id: user.to_owned(),
            title: title.map(str::to_owned),
            created_at: now,
            updated_at: now,
            message_count: 0,
            metadata,
            retention_days: retention_days.map(days).transpose()?,
            summary: None,
        })
    }

    /// Whether its time is over: then nobody sees it, and it waits to be purged.
    pub fn has_expired(&self, now: i64) -> bool {
        self.retention_days
            .is_some_and(|days| now >= self.updated_at.saturating_add(i64::from(days) * DAY_MICROS))
    }

    /// Puts a message at its end, and gives the message its number.
    fn grow(&mut self, message: &mut Message) -> Result<()> {
        if self.message_count >= limits::CONVERSATION_MESSAGES {
            return Err(Error::new(
                Code::TooLarge,
                format!("a conversation has at most {} messages", limits::CONVERSATION_MESSAGES),
            )
            .with_hint("begin another conversation"));
        }
        self.message_count += 1;
        message.seq = self.message_count;
        self.updated_at = self.updated_at.max(message.created_at);
        Ok(())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    fn decode(value: &[u8]) -> Result<Self> {
        row::decode("conversation", value)
    }
}

impl Message {
    fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    fn decode(value: &[u8]) -> Result<Self> {
        row::decode("message", value)
    }
}

impl Body {
    /// What a person, a program or a tool said: no model, no cost, no citations.
    ///
    /// # Errors
    /// [`Code::TooLarge`].
    pub fn new(role: Role, content: &str) -> Result<Self> {
        check_bytes("message", content, limits::MESSAGE_BYTES)?;
        let tokens = super::tokens::count_tokens(content);
        Ok(Self {
            role,
            content: content.to_owned(),
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            model: None,
            cost: None,
            citations: None,
        })
    }
}

/// A rating as it is stored.
///
/// # Errors
/// [`Code::InvalidParameterValue`] outside of 1 to 5.
pub fn rating(asked: i64) -> Result<u8> {
    match u8::try_from(asked) {
        Ok(rating @ 1..=5) => Ok(rating),
        _ => Err(Error::new(
            Code::InvalidParameterValue,
            "rating must be between 1 (bad) and 5 (good)",
        )),
    }
}

/// The one answer for a conversation that this user does not have, whoever else may have it.
pub fn not_found() -> Error {
    Error::new(Code::NoDataFound, "conversation not found").with_hint("SELECT id, title FROM ai.conversations")
}

/// The same for a message.
pub fn message_not_found() -> Error {
    Error::new(Code::NoDataFound, "message not found").with_hint("SELECT id, seq, role FROM ai.messages")
}

fn check_bytes(what: &str, text: &str, most: usize) -> Result<()> {
    match text.len() {
        bytes if bytes > most => Err(Error::new(
            Code::TooLarge,
            format!("{what} of {bytes} bytes is too large: at most {most} bytes are allowed"),
        )),
        _ => Ok(()),
    }
}
