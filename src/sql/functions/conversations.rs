//! `ai.create_conversation`, `ai.add_message`, `ai.rate_message`, `ai.delete_conversation` and
//! `ai.set_training_consent`: into the transaction; its commit writes.

use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use futures::future::BoxFuture;

use super::{
    Args, Function, Kind, Plane, READERS, Returns,
    ai::{one, one_text},
    parameter, t,
};
use crate::{
    ai::conversation::{Body, Conversation, rating},
    codec::pgtype::Scalar,
    error::Result,
    sql::{documents, world::World},
};

/// Conversations of the user who acts.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "ai.create_conversation",
        parameters: &[
            parameter("title", Kind::Text, Some("NULL")),
            parameter("retention_days", Kind::Int, Some("NULL")),
            parameter("metadata", Kind::Jsonb, Some("'{}'")),
        ],
        returns: Returns::Value(t(Scalar::Uuid)),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: create,
    },
    Function {
        name: "ai.add_message",
        parameters: &[
            parameter("conversation_id", Kind::Uuid, None),
            parameter("role", Kind::Text, None),
            parameter("content", Kind::Text, None),
        ],
        returns: Returns::Value(t(Scalar::Uuid)),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: add_message,
    },
    Function {
        name: "ai.rate_message",
        parameters: &[
            parameter("message_id", Kind::Uuid, None),
            parameter("rating", Kind::Int, None),
        ],
        returns: Returns::Value(t(Scalar::Uuid)),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: rate_message,
    },
    Function {
        name: "ai.delete_conversation",
        parameters: &[parameter("id", Kind::Uuid, None)],
        returns: Returns::Value(t(Scalar::Uuid)),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: delete,
    },
    Function {
        name: "ai.set_training_consent",
        parameters: &[parameter("consent", Kind::Bool, None)],
        returns: Returns::Value(t(Scalar::Bool)),
        plane: Plane::Tenant(READERS),
        effect: true,
        call: set_training_consent,
    },
];

type Answer = BoxFuture<'static, Result<RecordBatch>>;

pub(super) fn create(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let (metadata, _) = documents::metadata(args.text_or_null(2).unwrap_or("{}"))?;
        let conversation = Conversation::new(
            &world.acting_user(),
            args.text_or_null(0),
            metadata,
            args.int_or_null(1),
            documents::now_micros(),
        )?;
        let id = conversation.id.to_string();
        world.tx.lock().conversations_mut().create(conversation);
        one_text(Scalar::Uuid, &id)
    })
}

pub(super) fn add_message(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let id = args.uuid(0)?;
        let body = Body::new(args.text(1)?.parse()?, args.text(2)?)?;
        let (stored, user) = world.conversations();
        let mut tx = world.tx.lock();
        let message = tx.conversations_mut().append(&stored, &user, id, body)?;
        one_text(Scalar::Uuid, &message.to_string())
    })
}

/// Gives the message's id back.
pub(super) fn rate_message(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let (message, rating) = (args.uuid(0)?, rating(args.int(1)?)?);
        let (stored, user) = world.conversations();
        let mut tx = world.tx.lock();
        tx.conversations_mut().rate(&stored, &user, message, rating)?;
        one_text(Scalar::Uuid, &message.to_string())
    })
}

/// Gives the conversation's id back.
pub(super) fn delete(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let id = args.uuid(0)?;
        let (stored, user) = world.conversations();
        world.tx.lock().conversations_mut().delete(&stored, &user, id)?;
        one_text(Scalar::Uuid, &id.to_string())
    })
}

/// Gives what was said back.
pub(super) fn set_training_consent(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let given = args.bool(0)?;
        let user = world.acting_user();
        world.tx.lock().conversations_mut().consent(&user, given);
        one(
            t(Scalar::Bool).field("value", true),
            Arc::new(BooleanArray::from(vec![given])),
        )
    })
}
