//! `ai.create_conversation`, `ai.add_message`, `ai.rate_message`, `ai.delete_conversation` and
//! `ai.set_training_consent`: into the transaction; its commit writes.

use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use futures::future::BoxFuture;

use super::{
    Args,
    ai::{one, one_text},
    t,
};
use crate::{
    ai::conversation::{Body, Conversation, rating},
    codec::pgtype::Scalar,
    error::Result,
    sql::{documents, world::World},
};

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
