//! `ai.conversations` and `ai.messages`: those of the user who acts, with the transaction's own changes.

use super::{Out, Scan, rows::Cell, t};
use crate::{
    ai::conversation::{Conversation, Conversations, Message, Staged},
    codec::pgtype::{PgType, Scalar},
    error::{Code, Result},
    sql::world::World,
};

pub(super) const CONVERSATION_COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("user_id", t(Scalar::Text)),
    ("title", t(Scalar::Text)),
    ("created_at", t(Scalar::Timestamptz)),
    ("updated_at", t(Scalar::Timestamptz)),
    ("message_count", t(Scalar::Int4)),
    ("metadata", t(Scalar::Jsonb)),
];

pub(super) const MESSAGE_COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("conversation_id", t(Scalar::Uuid)),
    ("seq", t(Scalar::Int4)),
    ("role", t(Scalar::Text)),
    ("content", t(Scalar::Text)),
    ("tokens", t(Scalar::Int4)),
    ("model", t(Scalar::Text)),
    ("cost_usd", t(Scalar::Numeric)),
    ("citations", t(Scalar::Jsonb)),
    ("rating", t(Scalar::Int4)),
    ("created_at", t(Scalar::Timestamptz)),
];

fn conversation_cell<'a>(conversation: &'a Conversation, id: &'a str, column: usize) -> Cell<'a> {
    match column {
        0 => Cell::Text(id),
        1 => Cell::Text(&conversation.user_id),
        2 => conversation.title.as_deref().map_or(Cell::Null, Cell::Text),
        3 => Cell::Time(conversation.created_at),
        4 => Cell::Time(conversation.updated_at),
        5 => Cell::Int(conversation.message_count.into()),
        6 => Cell::Text(&conversation.metadata),
        _ => Cell::Null,
    }
}

fn message_cell<'a>(message: &'a Message, ids: &'a (String, String), column: usize) -> Cell<'a> {
    let body = &message.body;
    match column {
        0 => Cell::Text(&ids.0),
        1 => Cell::Text(&ids.1),
        2 => Cell::Int(message.seq.into()),
        3 => Cell::Text(body.role.as_str()),
        4 => Cell::Text(&body.content),
        5 => Cell::Int(body.tokens.into()),
        6 => body.model.as_deref().map_or(Cell::Null, Cell::Text),
        7 => body.cost.map_or(Cell::Null, |cost| Cell::Nano(cost.0)),
        8 => body.citations.as_deref().map_or(Cell::Null, Cell::Text),
        9 => message.rating.map_or(Cell::Null, |rating| Cell::Int(rating.into())),
        10 => Cell::Time(message.created_at),
        _ => Cell::Null,
    }
}

/// The conversations that a scan asks for, the newest first. `visit` says whether it wants more.
fn each(world: &World, scan: &Scan, mut visit: impl FnMut(&Reader, Conversation) -> Result<bool>) -> Result<()> {
    let world = world.tenant()?;
    let (stored, user) = world.conversations();
    let staged = world.tx.lock().conversations().clone();
    let reader = Reader { stored, staged, user };
    if let Some(keys) = &scan.keys {
        let mut keys = keys.clone();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.dedup();
        for id in keys {
            let conversation = match reader.staged.find(&reader.stored, &reader.user, id) {
                Err(error) if error.code() == Code::NoDataFound => continue,
                found => found?,
            };
            if !visit(&reader, conversation)? {
                break;
            }
        }
        return Ok(());
    }
    for conversation in reader.staged.list(&reader.stored, &reader.user) {
        if !visit(&reader, conversation?)? {
            break;
        }
    }
    Ok(())
}

struct Reader {
    stored: Conversations,
    staged: Staged,
    user: String,
}

pub(super) fn read_conversations(world: &World, scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    each(world, scan, |_, conversation| {
        let id = conversation.id.to_string();
        out.push(|column| conversation_cell(&conversation, &id, column))
    })
}

pub(super) fn read_messages(world: &World, scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    each(world, scan, |reader, conversation| {
        let messages = reader.staged.messages(&reader.stored, &reader.user, conversation.id);
        for message in messages {
            let message = message?;
            let ids = (message.id.to_string(), message.conversation_id.to_string());
            if !out.push(|column| message_cell(&message, &ids, column))? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}
