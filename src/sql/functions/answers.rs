//! `ai.complete`, `ai.rag`, `ai.chat`, and their streams.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Args, Columns,
    ai::{filter, find, k, one_text},
    fields, t,
};
use crate::{
    ai::{
        conversation::{Body, Role, Staged, window},
        corpus::Mode,
        prompt::Passage,
        provider::Message,
        tokens::Encoding,
    },
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    ledger::usage::now_micros,
    limits,
    sql::{
        gateway::{Gateway, Given, Searched, Wishes},
        relations::rows::{self, Cell},
        settings::Memory,
        world::{TenantWorld, World},
    },
};

pub(super) const RAG_COLUMNS: Columns = CHAT_COLUMNS.split_at(CHAT_COLUMNS.len() - 1).0;

/// Those of `ai.rag`, and the message that the answer is.
pub(super) const CHAT_COLUMNS: Columns = &[
    ("answer", t(Scalar::Text)),
    ("citations", t(Scalar::Jsonb)),
    ("model", t(Scalar::Text)),
    ("prompt_tokens", t(Scalar::Int4)),
    ("completion_tokens", t(Scalar::Int4)),
    ("cost_usd", t(Scalar::Numeric)),
    ("cached", t(Scalar::Bool)),
    ("usage_id", t(Scalar::Uuid)),
    ("message_id", t(Scalar::Uuid)),
];

/// One row for each piece of the answer as it comes. Those of `ai.rag_stream` end with a row without text that
/// has the citations.
pub(super) const STREAM_COLUMNS: Columns = &[("seq", t(Scalar::Int4)), ("content", t(Scalar::Text))];
pub(super) const RAG_STREAM_COLUMNS: Columns = &[
    ("seq", t(Scalar::Int4)),
    ("content", t(Scalar::Text)),
    ("citations", t(Scalar::Jsonb)),
];

type Answer = BoxFuture<'static, Result<RecordBatch>>;
type Rows = BoxStream<'static, Result<RecordBatch>>;

/// Thousandths of a temperature.
fn temperature(args: &Args, place: usize) -> Result<Option<i32>> {
    match args.float_or_null(place) {
        None => Ok(None),
        Some(t) if (0.0..=2.0).contains(&t) => Ok(Some((t * 1000.0).round() as i32)),
        Some(_) => Err(Error::new(
            Code::InvalidParameterValue,
            "temperature must be between 0 and 2",
        )),
    }
}

fn check_prompt(text: &str) -> Result<()> {
    match text.len() {
        n if n > limits::PROMPT_BYTES => Err(Error::new(
            Code::TooLarge,
            format!(
                "a prompt of {n} bytes is too large: at most {} bytes are allowed",
                limits::PROMPT_BYTES
            ),
        )),
        _ => Ok(()),
    }
}

/// The wishes of `complete(prompt, model, max_tokens, temperature, system)`.
pub(in crate::sql) fn completion_wishes(args: &Args) -> Result<Wishes> {
    Ok(Wishes {
        model: args.text_or_null(1).map(str::to_owned),
        max_tokens: args.int_or_null(2),
        temperature_milli: temperature(args, 3)?,
        system: args.text_or_null(4).map(str::to_owned),
        ..Wishes::default()
    })
}

pub(super) fn complete(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let prompt = args.text(0)?;
        check_prompt(prompt)?;
        let gateway = world.gateway().await?;
        let call = gateway.completion(prompt, completion_wishes(&args)?)?;
        one_text(Scalar::Text, &gateway.ask(world, &call, None).await?.text)
    })
}

/// What is found for a question, as passages of a prompt; and what to know it by.
async fn passages(world: &TenantWorld, args: &Args, question: &str) -> Result<(Vec<Passage>, Searched)> {
    // Read before the search: what is found may be newer than it says, never older.
    let epoch = world.corpus_epoch();
    let (k, filter) = (k(args, 1)?, filter(args, 2)?);
    let found = find(world, question, k, Mode::Hybrid, filter.as_ref()).await?;
    let searched = Searched {
        k,
        filter: args.text_or_null(2).map(str::to_owned),
        epoch,
    };
    Ok((found.into_iter().map(Passage::from).collect(), searched))
}

pub(super) fn rag(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let question = args.text(0)?;
        let gateway = world.gateway().await?;
        let (passages, searched) = passages(world, &args, question).await?;
        let call = gateway.answer_from(question, &passages, rag_wishes(&args))?;
        let given = gateway.ask(world, &call, Some(&searched)).await?;
        row(RAG_COLUMNS, &given, None)
    })
}

pub(in crate::sql) fn rag_wishes(args: &Args) -> Wishes {
    Wishes {
        model: args.text_or_null(3).map(str::to_owned),
        max_tokens: args.int_or_null(4),
        ..Wishes::default()
    }
}

fn row(columns: Columns, given: &Given, message: Option<Uuid>) -> Result<RecordBatch> {
    let row = (given, given.line.id.to_string(), message.map(|id| id.to_string()));
    rows::batch(
        fields(columns),
        &[row],
        |(given, usage_id, message), column| match column {
            0 => Cell::Text(&given.text),
            1 => Cell::Text(&given.citations),
            2 => Cell::Text(&given.line.model),
            3 => Cell::Int(given.line.prompt_tokens),
            4 => Cell::Int(given.line.completion_tokens),
            5 => Cell::Nano(given.line.cost.0),
            6 => Cell::Bool(given.cached),
            7 => Cell::Text(usage_id),
            _ => message.as_deref().map_or(Cell::Null, Cell::Text),
        },
    )
}

pub(super) fn chat(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let (id, message) = (args.uuid(0)?, args.text(1)?);
        let said = Body::new(Role::User, message)?;
        let (stored, user) = world.conversations();
        // By itself, the statement writes both messages in the commit that settles the call; in a transaction they
        // are the transaction's, and only what the call cost is written at once.
        let at_once = world.desk.is_alone() && world.tx.lock().is_empty();
        let mut turn = Staged::default();
        let _held = match at_once {
            true => {
                turn.append(&stored, &user, id, said.clone())?;
                Some(world.state.turns.hold(&turn).await)
            }
            false => None,
        };
        let (conversation, messages) = {
            let tx = world.tx.lock();
            let conversation = tx.conversations().find(&stored, &user, id)?;
            let messages = tx.conversations().messages(&stored, &user, id);
            (conversation, messages.collect::<Result<Vec<_>>>()?)
        };
        let gateway = world.gateway().await?;
        let wishes = Wishes {
            model: args.text_or_null(4).map(str::to_owned),
            conversation_id: Some(id),
            ..Wishes::default()
        };
        let target = gateway.chat_model(wishes.model.as_deref())?;
        let settings = world.call_settings();
        let memory = window::Memory {
            tokens: settings
                .memory_tokens
                .min(usize::try_from(target.model.context_tokens / 2).unwrap_or(0)),
            last: (settings.memory == Memory::LastN).then_some(settings.memory_messages),
            summary: settings.memory == Memory::Summary,
        };
        let encoding = Encoding::of_model(&target.model.model);
        let mut summary = conversation.summary.clone();
        if let Some(covered) = window::to_summarise(&messages, summary.as_ref(), memory, encoding) {
            let text = summarise(
                world,
                &gateway,
                &messages,
                summary.as_ref().map(|s| &*s.text),
                covered.clone(),
                id,
            )
            .await?;
            let made = window::summary(*covered.end(), &text);
            match at_once {
                true => turn.summarise(&stored, &user, id, made.clone())?,
                false => {
                    let mut tx = world.tx.lock();
                    tx.conversations_mut().summarise(&stored, &user, id, made.clone())?;
                }
            }
            summary = Some(made);
        }
        let shown = window::history(&messages, message, summary.as_ref(), memory, encoding)?;
        let (mut system, mut earlier) = (Vec::new(), Vec::new());
        for one in shown.messages {
            match one.role {
                Role::System => system.push(one.content.into_owned()),
                // A tool's answer without the call's id is text to a model.
                Role::User | Role::Tool => earlier.push(Message::user(one.content)),
                Role::Assistant => earlier.push(Message::assistant(one.content)),
            }
        }
        let wishes = Wishes { earlier, ..wishes };
        let mut call = match args.bool_or_null(2).unwrap_or(true) {
            true => {
                let filter = None;
                let found = find(world, message, k(&args, 3)?, Mode::Hybrid, filter).await?;
                let passages: Vec<Passage> = found.into_iter().map(Passage::from).collect();
                gateway.answer_from(message, &passages, wishes)?
            }
            false => gateway.completion(message, wishes)?,
        };
        call.operation = crate::ledger::usage::Operation::Chat;
        for text in system {
            call.system.push_str("\n\n");
            call.system.push_str(&text);
        }
        let mut message_id = None;
        let answered = gateway
            .converse(world, &call, |batch, answer, citations| {
                let reply = Body {
                    model: Some(answer.line.model.clone()),
                    cost: Some(answer.line.cost),
                    citations: Some(citations.to_owned()),
                    ..Body::new(Role::Assistant, &answer.text)?
                };
                if at_once {
                    message_id = Some(turn.append(&stored, &user, id, reply)?);
                    turn.fill(&world.tenant, batch, now_micros())?;
                } else {
                    let mut tx = world.tx.lock();
                    let staged = tx.conversations_mut();
                    staged.append(&stored, &user, id, said.clone())?;
                    message_id = Some(staged.append(&stored, &user, id, reply)?);
                }
                Ok(())
            })
            .await?;
        row(CHAT_COLUMNS, &answered, message_id)
    })
}

/// The text that stands for messages a model is no longer shown.
async fn summarise(
    world: &TenantWorld,
    gateway: &Gateway,
    messages: &[crate::ai::conversation::Message],
    former: Option<&str>,
    covered: std::ops::RangeInclusive<u32>,
    conversation: Uuid,
) -> Result<String> {
    let mut prompt = String::from(former.unwrap_or_default());
    for message in messages.iter().filter(|m| covered.contains(&m.seq)) {
        prompt.push_str(&format!("\n{}: {}", message.body.role.as_str(), message.body.content));
    }
    prompt.push_str("\n\nSummarise this conversation: facts, names, numbers, decisions, open questions.");
    let wishes = Wishes {
        max_tokens: Some(limits::SUMMARY_TOKENS as i64),
        conversation_id: Some(conversation),
        ..Wishes::default()
    };
    let call = gateway.completion(&prompt, wishes)?;
    Ok(gateway.ask(world, &call, None).await?.text)
}

/// Runs `work` and gives the pieces it sends as rows while it runs; then the row made of its answer, if any.
fn stream(
    columns: Columns,
    mut pieces: mpsc::Receiver<String>,
    work: impl Future<Output = Result<Given>> + Send + 'static,
    last: fn(Given) -> Option<String>,
) -> Rows {
    let (done, answer) = tokio::sync::oneshot::channel();
    let mut seq = 0;
    let texts = stream::poll_fn(move |cx| pieces.poll_recv(cx)).map(|text| Ok((text, None)));
    let work = work.map(move |outcome| match outcome {
        // The reader of the last row may have left.
        Ok(answered) => {
            let _ = done.send(answered);
            None
        }
        Err(error) => Some(Err(error)),
    });
    let last = async move { answer.await.ok().and_then(last) };
    stream::select(texts, stream::once(work).filter_map(futures::future::ready))
        .chain(stream::once(last).filter_map(|row| async move { row.map(|row| Ok((String::new(), Some(row)))) }))
        .map(move |row| {
            let (text, citations): (String, Option<String>) = row?;
            seq += 1;
            rows::batch(
                fields(columns),
                &[(seq, text, citations)],
                |(seq, text, citations), column| match column {
                    0 => Cell::Int(*seq),
                    1 => Cell::Text(text),
                    _ => citations.as_deref().map_or(Cell::Null, Cell::Text),
                },
            )
        })
        .boxed()
}

pub(super) fn complete_stream(world: Arc<World>, args: Args) -> Rows {
    let (pieces, received) = mpsc::channel(limits::STREAM_PIECES);
    let work = async move {
        let world = world.tenant()?;
        let prompt = args.text(0)?;
        check_prompt(prompt)?;
        let gateway = world.gateway().await?;
        let wishes = Wishes {
            pieces: Some(pieces),
            ..completion_wishes(&args)?
        };
        let call = gateway.completion(prompt, wishes)?;
        gateway.ask(world, &call, None).await
    };
    stream(STREAM_COLUMNS, received, work, |_| None)
}

pub(super) fn rag_stream(world: Arc<World>, args: Args) -> Rows {
    let (pieces, received) = mpsc::channel(limits::STREAM_PIECES);
    let work = async move {
        let world = world.tenant()?;
        let question = args.text(0)?;
        let gateway = world.gateway().await?;
        let (passages, ..) = passages(world, &args, question).await?;
        let wishes = Wishes {
            pieces: Some(pieces),
            ..rag_wishes(&args)
        };
        let call = gateway.answer_from(question, &passages, wishes)?;
        gateway.ask(world, &call, None).await
    };
    stream(RAG_STREAM_COLUMNS, received, work, |given| Some(given.citations))
}
