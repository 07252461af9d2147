//! Documents and their chunks as rows: what is stored, and how a document becomes chunks.
//!
//! A document is one row, each of its chunks another, and the vector of a chunk a third; all live in the tenant's plane. Keys are
//! random ids (UUIDv7), so they tell nothing of the content. Everything searchable is rebuilt from
//! these rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::embedding::Origin;
use crate::{
    ai::{
        chunking,
        corpus::{ChunkEntry, DocumentEntry, Space},
        terms::Terms,
        tokens,
    },
    error::{Code, Error, Result},
    limits,
    vector::Embedding,
};

/// One row of `ai.documents`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) id: Uuid,
    pub(super) title: String,
    pub(super) content: String,
    /// Canonical JSON text of an object.
    pub(super) metadata: String,
    pub(super) user_id: String,
    /// Microseconds since 1970, UTC.
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
    /// How many chunk rows there are, numbered from 0.
    pub(super) chunks: u32,
}

/// One row of `ai.chunks`. What is stored of its vector is a row of its own, one for each space; see [`Vector`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) id: Uuid,
    pub(super) document_id: Uuid,
    pub(super) no: u32,
    pub(super) content: String,
    pub(super) token_count: i32,
    /// Empty where nobody asked for it.
    #[serde(skip)]
    pub(super) vector: Vector,
}

/// The vector of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Vector {
    /// The provider's name of the model that made it.
    pub(super) model: String,
    pub(super) values: Vec<f32>,
}

/// A document as a transaction will write it: its rows, and its entry in the search index.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) document: Document,
    pub(super) chunks: Vec<Chunk>,
    pub(super) entry: DocumentEntry,
    /// Tokens that the built-in model embedded, for the ledger; a provider's calls are there already.
    pub(super) embedded_tokens: i64,
}

/// A document in pieces, to be embedded.
pub(super) struct Cut {
    document: Document,
    metadata: Arc<serde_json::Value>,
    chunks: Vec<(Chunk, Terms)>,
    /// What is embedded, one for each chunk.
    pub(super) texts: Vec<String>,
}

/// First byte of a stored row.
const ROW_FORMAT: u8 = 1;

/// A row as bytes.
pub(super) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>> {
    postcard::to_extend(row, vec![ROW_FORMAT]).map_err(Error::internal)
}

/// A row from bytes; damage is reported, never guessed around.
pub(super) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T> {
    let damaged = || Error::new(Code::Corrupted, "a stored row has an unknown form");
    match bytes.split_first() {
        Some((&ROW_FORMAT, body)) => postcard::from_bytes(body).map_err(|_| damaged()),
        _ => Err(damaged()),
    }
}

impl Document {
    /// Its key.
    pub(super) fn key(&self) -> &[u8] {
        self.id.as_bytes()
    }
}

/// The key of a document's chunk.
pub(super) fn chunk_key(document: Uuid, no: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(document.as_bytes());
    key[16..].copy_from_slice(&no.to_be_bytes());
    key
}

/// The key of a chunk's vector in a space.
pub(super) fn vector_key(space: Space, document: Uuid, no: u32) -> [u8; 24] {
    let mut key = [0; 24];
    key[..4].copy_from_slice(&space.0.to_be_bytes());
    key[4..].copy_from_slice(&chunk_key(document, no));
    key
}

/// Refuses what is larger than a document may be; the sizes are in bytes.
pub(super) fn check(document: &Document) -> Result<()> {
    let parts = [
        ("title", document.title.len(), limits::TITLE_BYTES),
        ("content", document.content.len(), limits::DOCUMENT_BYTES),
        ("metadata", document.metadata.len(), limits::METADATA_BYTES),
    ];
    for (part, bytes, most) in parts {
        if bytes > most {
            return Err(Error::new(
                Code::TooLarge,
                format!("{part} of {bytes} bytes is too large: at most {most} bytes are allowed"),
            )
            .with_hint("split the document into several"));
        }
    }
    Ok(())
}

/// Parses metadata: a JSON object of bounded depth, in canonical text.
pub(super) fn metadata(text: &str) -> Result<(String, serde_json::Value)> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|_| Error::new(Code::InvalidText, "invalid input syntax for type json"))?;
    if !value.is_object() {
        return Err(Error::new(
            Code::InvalidParameterValue,
            "metadata must be a JSON object",
        ));
    }
    if depth(&value) > limits::JSON_DEPTH {
        return Err(Error::new(
            Code::TooComplex,
            format!("JSON is nested more than {} levels deep", limits::JSON_DEPTH),
        ));
    }
    Ok((super::pg::json::canonical(text)?, value))
}

/// serde_json refuses text deeper than 128 levels, so this recursion is bounded.
fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Chunks and analyses a document. Pure computation, of some milliseconds a megabyte: call it off the async
/// threads when the text is long.
pub(super) fn cut(mut document: Document) -> Result<Cut> {
    check(&document)?;
    let (text, metadata) = metadata(&document.metadata)?;
    document.metadata = text;
    let pieces = chunking::chunk(&document.content);
    let (mut chunks, mut texts) = (Vec::with_capacity(pieces.len()), Vec::with_capacity(pieces.len()));
    for (piece, no) in pieces.into_iter().zip(0..) {
        texts.push(chunking::passage(&document.title, piece));
        let chunk = Chunk {
            id: Uuid::now_v7(),
            document_id: document.id,
            no,
            token_count: i32::try_from(tokens::count_tokens(piece)).unwrap_or(i32::MAX),
            content: piece.to_owned(),
            vector: Vector::default(),
        };
        let terms = Terms::of(&chunk.content);
        chunks.push((chunk, terms));
    }
    document.chunks = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    Ok(Cut {
        document,
        metadata: Arc::new(metadata),
        chunks,
        texts,
    })
}

impl Cut {
    /// What a written document was made from, to be embedded by another model.
    pub(super) fn again(written: &Written) -> Self {
        let terms = written.entry.chunks.iter().map(|chunk| chunk.terms.clone());
        let title = &written.document.title;
        Self {
            document: written.document.clone(),
            metadata: written.entry.metadata.clone(),
            chunks: written.chunks.iter().cloned().zip(terms).collect(),
            texts: written
                .chunks
                .iter()
                .map(|chunk| chunking::passage(title, &chunk.content))
                .collect(),
        }
    }

    /// The document with its vectors, one for each of the texts.
    pub(super) fn embedded(self, origin: &Origin, vectors: impl Iterator<Item = Embedding>) -> Written {
        let (mut chunks, mut entries) = (Vec::new(), Vec::new());
        for ((mut chunk, terms), embedding) in self.chunks.into_iter().zip(vectors) {
            chunk.vector = Vector {
                model: origin.model.clone(),
                values: embedding.as_slice().to_vec(),
            };
            entries.push(ChunkEntry {
                id: chunk.id,
                no: i32::try_from(chunk.no).unwrap_or(i32::MAX),
                terms,
                embedding,
            });
            chunks.push(chunk);
        }
        let embedded_tokens = match origin.is_builtin() {
            true => self.texts.iter().map(|text| tokens::count_tokens(text) as i64).sum(),
            false => 0,
        };
        Written {
            entry: DocumentEntry {
                id: self.document.id,
                title: self.document.title.clone(),
                metadata: self.metadata,
                space: origin.space,
                chunks: entries,
            },
            document: self.document,
            chunks,
            embedded_tokens,
        }
    }
}

/// The index entry of stored rows, as it was when they were written.
pub(super) fn index_entry(document: &Document, chunks: Vec<Chunk>, space: Space) -> Result<DocumentEntry> {
    let metadata = serde_json::from_str(&document.metadata)
        .map_err(|_| Error::new(Code::Corrupted, "a stored document has damaged metadata"))?;
    let chunks = chunks
        .into_iter()
        .map(|chunk| {
            Ok(ChunkEntry {
                id: chunk.id,
                no: i32::try_from(chunk.no).unwrap_or(i32::MAX),
                terms: Terms::of(&chunk.content),
                embedding: Embedding::new(chunk.vector.values)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(DocumentEntry {
        id: document.id,
        title: document.title.clone(),
        metadata: Arc::new(metadata),
        space,
        chunks,
    })
}

/// Now, in microseconds since 1970.
pub(super) fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
