//! `ai.ingest`, `ai.search`, `vector_search`, `ai.embed`, `ai.rag` and what they cost.

use std::{sync::Arc, time::Instant};

use datafusion::{
    arrow::{
        array::{ArrayRef, Int32Array, RecordBatch, StringArray},
        datatypes::{Field, Schema},
    },
    common::ScalarValue,
};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Args, Columns, fields, t};
use crate::{
    ai::{
        corpus::{Mode, SearchQuery},
        filter::Filter,
        prompt::Passage,
        tokens,
    },
    codec::pgtype::Scalar,
    error::{Code, Error, Result},
    ledger::{books, money::Day, usage::Operation},
    limits,
    sql::{
        documents::{Chunk, Document, now_micros},
        metering::{self, Call},
        relations::{
            self,
            rows::{self, Cell},
        },
        world::{TenantWorld, World},
    },
    vector::{Embedding, Metric},
};

pub(super) const SEARCH_COLUMNS: Columns = &[
    ("rank", t(Scalar::Int4)),
    ("score", t(Scalar::Float8)),
    ("document_id", t(Scalar::Uuid)),
    ("chunk_id", t(Scalar::Uuid)),
    ("chunk_no", t(Scalar::Int4)),
    ("title", t(Scalar::Text)),
    ("content", t(Scalar::Text)),
    ("metadata", t(Scalar::Jsonb)),
];

pub(super) const COSTS_COLUMNS: Columns = &[
    ("total", t(Scalar::Numeric)),
    ("llm", t(Scalar::Numeric)),
    ("database", t(Scalar::Numeric)),
    ("vector_search", t(Scalar::Numeric)),
];

type Answer = BoxFuture<'static, Result<RecordBatch>>;

/// One row of one column.
pub(super) fn one(field: Field, array: ArrayRef) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).map_err(Error::internal)
}

pub(super) fn one_text(scalar: Scalar, text: &str) -> Result<RecordBatch> {
    one(t(scalar).field("value", true), Arc::new(StringArray::from(vec![text])))
}

/// How many rows a search may give.
pub(super) fn k(args: &Args, place: usize) -> Result<usize> {
    match args.int(place)? {
        n if n < 0 => Err(Error::new(Code::InvalidParameterValue, "k must not be negative")),
        n => Ok(usize::try_from(n).unwrap_or(usize::MAX).min(limits::SEARCH_K)),
    }
}

fn check_query(text: &str) -> Result<()> {
    match text.len() {
        n if n > limits::QUERY_BYTES => Err(Error::new(
            Code::TooLarge,
            format!(
                "a query of {n} bytes is too large: at most {} bytes are allowed",
                limits::QUERY_BYTES
            ),
        )),
        _ => Ok(()),
    }
}

pub(super) fn ingest(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let now = now_micros();
        let document = Document {
            id: Uuid::now_v7(),
            title: args.text_or_null(0).unwrap_or_default().to_owned(),
            content: args.text(1)?.to_owned(),
            metadata: args.text_or_null(2).unwrap_or("{}").to_owned(),
            user_id: world.acting_user(),
            created_at: now,
            updated_at: now,
            chunks: 0,
        };
        let id = document.id.to_string();
        relations::insert_documents(world, vec![document]).await?;
        one_text(Scalar::Uuid, &id)
    })
}

/// One result of a search with its rows.
pub(super) struct Found {
    rank: i32,
    score: f64,
    chunk: Chunk,
    title: String,
    metadata: String,
    ids: (String, String),
}

impl From<Found> for Passage {
    fn from(found: Found) -> Self {
        Self {
            document: found.chunk.document_id,
            chunk: found.chunk.id,
            title: found.title,
            content: found.chunk.content,
            score: found.score,
        }
    }
}

/// Searches this transaction's view of the tenant and fetches the rows of the results.
pub(super) async fn find(
    world: &TenantWorld,
    text: &str,
    k: usize,
    mode: Mode,
    filter: Option<&Filter>,
) -> Result<Vec<Found>> {
    check_query(text)?;
    let embedded = match mode {
        Mode::Keyword => None,
        Mode::Hybrid | Mode::Vector => {
            world.state.meter.vector_search(&world.acting_user());
            Some(text)
        }
    };
    let search = world.search(embedded, |layers, embedding| {
        layers.search(&SearchQuery {
            text,
            embedding,
            k,
            mode,
            filter,
        })
    });
    let hits = search.await?;
    let mut found = Vec::with_capacity(hits.len());
    for hit in hits {
        // A document that was deleted since the index was read is no result.
        let Some(document) = world.document(hit.document)? else {
            continue;
        };
        let Some(chunk) = world.chunk(hit.document, hit.chunk_no as u32, false)? else {
            continue;
        };
        found.push(Found {
            rank: found.len() as i32 + 1,
            score: hit.score,
            ids: (chunk.id.to_string(), chunk.document_id.to_string()),
            title: document.title,
            metadata: document.metadata,
            chunk,
        });
    }
    Ok(found)
}

pub(super) fn filter(args: &Args, place: usize) -> Result<Option<Filter>> {
    args.text_or_null(place).map(Filter::parse).transpose()
}

pub(super) fn search(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let mode: Mode = args.text(3)?.parse()?;
        let found = find(world, args.text(0)?, k(&args, 1)?, mode, filter(&args, 2)?.as_ref()).await?;
        rows::batch(fields(SEARCH_COLUMNS), &found, |f, column| match column {
            0 => Cell::Int(f.rank.into()),
            1 => Cell::Float(f.score),
            2 => Cell::Text(&f.ids.1),
            3 => Cell::Text(&f.ids.0),
            4 => Cell::Int(f.chunk.no.into()),
            5 => Cell::Text(&f.title),
            6 => Cell::Text(&f.chunk.content),
            7 => Cell::Text(&f.metadata),
            _ => Cell::Null,
        })
    })
}

/// The columns of `vector_search(table, ...)`. The table must be known when the statement is planned.
pub(super) fn searched_columns(world: &World, table: Option<&ScalarValue>) -> Result<Vec<Field>> {
    world.tenant()?;
    let Some(ScalarValue::Utf8(Some(table))) = table else {
        return Err(Error::new(
            Code::InvalidParameterValue,
            "vector_search: the table must be a constant",
        )
        .with_hint("SELECT * FROM vector_search('chunks', 'text', 5)"));
    };
    check_searched(table)?;
    Ok(chunks_with_distance())
}

fn chunks_with_distance() -> Vec<Field> {
    let mut columns: Vec<Field> = relations::CHUNK_COLUMNS.iter().map(|(n, t)| t.field(n, true)).collect();
    columns.push(t(Scalar::Float8).field("distance", true));
    columns
}

/// Only tables with a vector can be searched.
fn check_searched(table: &str) -> Result<()> {
    let table = table.to_lowercase();
    match table.strip_prefix("ai.").unwrap_or(&table) {
        "chunks" => Ok(()),
        "documents" => Err(
            Error::new(Code::InvalidParameterValue, "table \"documents\" has no vector column")
                .with_hint("search 'chunks', or use ai.search"),
        ),
        _ => Err(Error::new(
            Code::UndefinedTable,
            format!("relation \"{table}\" does not exist"),
        )),
    }
}

pub(super) fn vector_search(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        check_searched(args.text(0)?)?;
        let k = k(&args, 2)?;
        let vector = args.vector(1).map(Embedding::new).transpose()?;
        let text = match vector {
            Some(_) => None,
            None => Some(args.text(1)?),
        };
        text.map_or(Ok(()), check_query)?;
        world.state.meter.vector_search(&world.acting_user());
        let search = world.search(text, |layers, embedded| {
            let query = vector.as_ref().or(embedded.map(|(_, vector)| vector));
            let query = query.ok_or_else(|| Error::internal("a search has no vector"))?;
            layers.nearest(Metric::Cosine, query.as_slice(), k, None)
        });
        let near = search.await?;
        let mut found = Vec::with_capacity(near.len());
        for hit in near {
            let Some(document) = world.document(hit.document)? else {
                continue;
            };
            let Some(chunk) = world.chunk(hit.document, hit.chunk_no as u32, true)? else {
                continue;
            };
            let ids = (chunk.id.to_string(), chunk.document_id.to_string());
            found.push((chunk, ids, document.metadata, hit.distance));
        }
        rows::batch(
            chunks_with_distance(),
            &found,
            |(chunk, ids, metadata, distance), column| match column == relations::CHUNK_COLUMNS.len() {
                true => Cell::Float(*distance),
                false => relations::chunk_cell(chunk, ids, metadata, column),
            },
        )
    })
}

pub(super) fn embed(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let started = Instant::now();
        let text = args.text(0)?;
        check_query(text)?;
        let gateway = world.gateway().await?;
        let target = world.embedding_model(&gateway, args.text_or_null(1)).await?;
        let mut embeddings = world
            .engine
            .gate
            .embed(&gateway.caller, &target, &[text.to_owned()])
            .await?;
        let embedding = embeddings
            .pop()
            .ok_or_else(|| Error::internal("a text has no vector"))?;
        if target.upstream.is_none() {
            let call = Call {
                operation: Operation::Embed,
                model: &target.model.model,
                prompt_tokens: tokens::count_tokens(text) as i64,
                completion_tokens: 0,
                started,
            };
            metering::settle(world, &metering::line(&world.state.meter, &world.acting_user(), &call)?).await?;
        }
        rows::batch(vec![t(Scalar::Vector).field("value", true)], &[embedding], |e, _| {
            Cell::Vector(e.as_slice())
        })
    })
}

pub(super) fn count_tokens(_world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let count = i32::try_from(tokens::count_tokens(args.text(0)?)).unwrap_or(i32::MAX);
        one(
            t(Scalar::Int4).field("value", true),
            Arc::new(Int32Array::from(vec![count])),
        )
    })
}

pub(super) fn tenant_costs(world: Arc<World>, args: Args) -> Answer {
    Box::pin(async move {
        let world = world.tenant()?;
        let costs = books::total_costs(&world.state.meter, Day(args.date(0)?), Day(args.date(1)?))?;
        let total = costs.total()?;
        rows::batch(fields(COSTS_COLUMNS), &[(total, costs)], |(total, costs), column| {
            Cell::Nano(match column {
                0 => total.0,
                1 => costs.llm.0,
                2 => costs.database.0,
                _ => costs.vector_search.0,
            })
        })
    })
}

/// Gives how many answers were forgotten. At once, in a transaction too: answers are no rows.
pub(super) fn clear_cache(world: Arc<World>, _args: Args) -> Answer {
    Box::pin(async move {
        let held = world.tenant()?.state.cache.clear().await?;
        let held = i32::try_from(held).unwrap_or(i32::MAX);
        one(
            t(Scalar::Int4).field("value", true),
            Arc::new(Int32Array::from(vec![held])),
        )
    })
}

pub(super) fn current_tenant(world: Arc<World>, _args: Args) -> Answer {
    Box::pin(async move { one_text(Scalar::Text, world.database()) })
}
