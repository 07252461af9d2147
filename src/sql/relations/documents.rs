//! `ai.documents` and `ai.chunks`: scans that see the transaction's own writes, and DML.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Change, Out, Scan, rows::Cell, t};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    sql::{
        documents::{self, Chunk, Document, Written, now_micros},
        nearest::Nearest,
        world::{TenantWorld, World},
    },
    tenant::{Role, Table, Version},
};

pub(super) const DOCUMENT_COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("title", t(Scalar::Text)),
    ("content", t(Scalar::Text)),
    ("metadata", t(Scalar::Jsonb)),
    ("user_id", t(Scalar::Text)),
    ("created_at", t(Scalar::Timestamptz)),
    ("updated_at", t(Scalar::Timestamptz)),
];

/// The columns of `ai.chunks`, also those of `vector_search('chunks', ...)`.
pub(in crate::sql) const CHUNK_COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("document_id", t(Scalar::Uuid)),
    ("chunk_no", t(Scalar::Int4)),
    ("content", t(Scalar::Text)),
    ("token_count", t(Scalar::Int4)),
    ("embedding", t(Scalar::Vector)),
    ("embedding_model", t(Scalar::Text)),
    ("metadata", t(Scalar::Jsonb)),
];

/// The places in [`CHUNK_COLUMNS`] of what a chunk's vector row holds, and of `metadata`.
const VECTOR_COLUMNS: [usize; 2] = [5, 6];
const METADATA_COLUMN: usize = 7;

fn vector_wanted(scan: &Scan) -> bool {
    scan.columns.iter().any(|column| VECTOR_COLUMNS.contains(column))
}

fn document_cell<'a>(document: &'a Document, id: &'a str, column: usize) -> Cell<'a> {
    match column {
        0 => Cell::Text(id),
        1 => Cell::Text(&document.title),
        2 => Cell::Text(&document.content),
        3 => Cell::Text(&document.metadata),
        4 => Cell::Text(&document.user_id),
        5 => Cell::Time(document.created_at),
        6 => Cell::Time(document.updated_at),
        _ => Cell::Null,
    }
}

/// A chunk's value in a column of [`CHUNK_COLUMNS`].
pub(in crate::sql) fn chunk_cell<'a>(
    chunk: &'a Chunk,
    ids: &'a (String, String),
    metadata: &'a str,
    column: usize,
) -> Cell<'a> {
    match column {
        0 => Cell::Text(&ids.0),
        1 => Cell::Text(&ids.1),
        2 => Cell::Int(chunk.no.into()),
        3 => Cell::Text(&chunk.content),
        4 => Cell::Int(chunk.token_count.into()),
        5 => Cell::Vector(&chunk.vector.values),
        6 => Cell::Text(&chunk.vector.model),
        7 => Cell::Text(metadata),
        _ => Cell::Null,
    }
}

/// Every document of the world in id order, the transaction's own in place of the stored ones.
/// `visit` gets the stored version where there is one, and says whether it wants more.
fn each_document(
    world: &TenantWorld,
    scan: &Scan,
    mut visit: impl FnMut(&Document, Option<Version>, Option<&Arc<Written>>) -> Result<bool>,
) -> Result<()> {
    let own: Vec<(Uuid, Option<Arc<Written>>)> = world.tx.lock().documents().map(|(id, w)| (id, w.cloned())).collect();
    let wanted = |id: &Uuid| scan.keys.as_ref().is_none_or(|keys| keys.contains(id));
    let stored: Box<dyn Iterator<Item = Result<(Uuid, crate::tenant::Stored)>>> = match &scan.keys {
        Some(keys) => {
            let mut keys = keys.clone();
            keys.sort_unstable();
            keys.dedup();
            Box::new(keys.into_iter().filter_map(|id| {
                world
                    .tenant
                    .get(Table::Documents, id.as_bytes())
                    .map(|s| s.map(|s| (id, s)))
                    .transpose()
            }))
        }
        None => Box::new(world.tenant.scan(Table::Documents, &[]).map(|row| {
            let (key, stored) = row?;
            let id = Uuid::from_slice(&key).map_err(|_| Error::new(Code::Corrupted, "a stored document has no id"))?;
            Ok((id, stored))
        })),
    };
    for row in stored {
        let (id, stored) = row?;
        if own.binary_search_by(|(o, _)| o.cmp(&id)).is_ok() {
            continue;
        }
        let document: Document = documents::decode(&stored.value)?;
        if !visit(&document, Some(stored.version), None)? {
            return Ok(());
        }
    }
    for (id, written) in own {
        if let Some(written) = written
            && wanted(&id)
            && !visit(&written.document, None, Some(&written))?
        {
            return Ok(());
        }
    }
    Ok(())
}

pub(super) fn read_documents(world: &World, scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let world = world.tenant()?;
    each_document(world, scan, |document, version, _| {
        if let Some(version) = version {
            world.tx.lock().saw(document.id, version);
        }
        let id = document.id.to_string();
        out.push(|column| document_cell(document, &id, column))
    })
}

pub(super) fn read_chunks(world: &World, scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let world = world.tenant()?;
    if let Some(nearest) = &scan.nearest {
        return read_nearest(world, nearest, scan, out);
    }
    each_document(world, scan, |document, _, written| {
        let mut push = |chunk: &Chunk| {
            let ids = (chunk.id.to_string(), chunk.document_id.to_string());
            out.push(|column| chunk_cell(chunk, &ids, &document.metadata, column))
        };
        if let Some(written) = written {
            for chunk in &written.chunks {
                if !push(chunk)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for row in world.tenant.scan(Table::Chunks, document.key()) {
            let mut chunk: Chunk = documents::decode(&row?.1.value)?;
            if vector_wanted(scan) {
                // A document that is deleted while it is read is read in part.
                match world.with_vector(chunk)? {
                    Some(with) => chunk = with,
                    None => continue,
                }
            }
            if !push(&chunk)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// The nearest chunks, from the index; their rows by key. Runs on a thread for blocking work.
fn read_nearest(world: &TenantWorld, nearest: &Nearest, scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    world.state.meter.vector_search(&world.acting_user());
    let query = nearest.query()?;
    let search = world.search(None, |layers, _| {
        layers.nearest(nearest.metric, &query, nearest.k, None)
    });
    let found = tokio::runtime::Handle::current().block_on(search)?;
    let metadata_wanted = scan.columns.contains(&METADATA_COLUMN);
    for hit in found {
        let Some(chunk) = world.chunk(hit.document, hit.chunk_no as u32, vector_wanted(scan))? else {
            continue;
        };
        let metadata = match metadata_wanted {
            true => world.document(hit.document)?.map(|d| d.metadata).unwrap_or_default(),
            false => String::new(),
        };
        let ids = (chunk.id.to_string(), chunk.document_id.to_string());
        if !out.push(|column| chunk_cell(&chunk, &ids, &metadata, column))? {
            break;
        }
    }
    Ok(())
}

/// INSERT, UPDATE and DELETE: into the transaction; its commit writes.
pub(super) fn write(world: Arc<World>, change: Change) -> BoxFuture<'static, Result<RecordBatch>> {
    Box::pin(async move {
        let world = world.tenant()?;
        match change {
            Change::Insert(rows) => {
                let documents = from_rows(world, &rows)?;
                for document in &documents {
                    check_author(world, document)?;
                    if world.document(document.id)?.is_some() {
                        return Err(Error::new(
                            Code::UniqueViolation,
                            "duplicate key value violates unique constraint \"documents_pkey\"",
                        ));
                    }
                }
                let written = insert(world, documents).await?;
                to_rows(&written)
            }
            Change::Update(rows, assigned) => {
                if let Some(column) = assigned.iter().find(|a| ["id", "created_at"].contains(&a.as_str())) {
                    return Err(Error::new(
                        Code::Unsupported,
                        format!("column \"{column}\" of documents cannot be changed"),
                    ));
                }
                let mut documents = from_rows(world, &rows)?;
                let now = now_micros();
                for document in &mut documents {
                    if assigned.iter().any(|a| a == "user_id") {
                        check_author(world, document)?;
                    }
                    if !assigned.iter().any(|a| a == "updated_at") {
                        document.updated_at = now;
                    }
                }
                let written = insert(world, documents).await?;
                to_rows(&written)
            }
            Change::Delete(rows) => {
                for id in ids(&rows)?.into_iter().flatten() {
                    let before = before(world, id)?;
                    world.tx.lock().delete(id, before);
                }
                Ok(rows)
            }
        }
    })
}

/// A document is written in one's own name; an owner, or a service for its end users, may name others.
fn check_author(world: &TenantWorld, document: &Document) -> Result<()> {
    let free = matches!(world.user.role, Role::Owner | Role::Service);
    match free || document.user_id == world.acting_user() {
        true => Ok(()),
        false => Err(Error::new(
            Code::InsufficientPrivilege,
            "a document cannot be written in another user's name",
        )
        .with_hint("leave user_id out")),
    }
}

/// Chunks and embeds documents and puts them into the transaction.
pub(in crate::sql) async fn insert(world: &TenantWorld, documents: Vec<Document>) -> Result<Vec<Arc<Written>>> {
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    for document in &documents {
        documents::check(document)?;
    }
    let work = move || documents.into_iter().map(documents::cut).collect::<Result<Vec<_>>>();
    let cuts = tokio::task::spawn_blocking(work).await.map_err(Error::internal)??;
    let spaces = world.spaces().await?;
    let written = world.embed_documents(&spaces.active, cuts).await?;
    for one in &written {
        let before = before(world, one.document.id)?;
        world.tx.lock().put(one.clone(), before)?;
    }
    Ok(written)
}

/// The stored version of a document as the running statement read it, and its number of chunks.
fn before(world: &TenantWorld, id: Uuid) -> Result<Option<(Version, u32)>> {
    let Some(stored) = world.tenant.get(Table::Documents, id.as_bytes())? else {
        return Ok(None);
    };
    let document: Document = documents::decode(&stored.value)?;
    let read = world.tx.lock().seen(id).unwrap_or(stored.version);
    Ok(Some((read, document.chunks)))
}

fn ids(rows: &RecordBatch) -> Result<Vec<Option<Uuid>>> {
    let column = rows.column(0).as_string::<i32>();
    (0..column.len())
        .map(|i| match column.is_null(i) {
            true => Ok(None),
            false => Uuid::parse_str(column.value(i)).map(Some).map_err(|_| {
                let shown: String = column.value(i).chars().take(40).collect();
                Error::new(
                    Code::InvalidText,
                    format!("invalid input syntax for type uuid: \"{shown}\""),
                )
            }),
        })
        .collect()
}

fn from_rows(world: &TenantWorld, rows: &RecordBatch) -> Result<Vec<Document>> {
    let text = |column: usize, row: usize| {
        let array = rows.column(column).as_string::<i32>();
        (!array.is_null(row)).then(|| array.value(row).to_owned())
    };
    let time = |column: usize, row: usize| {
        let array = rows.column(column).as_primitive::<TimestampMicrosecondType>();
        (!array.is_null(row)).then(|| array.value(row))
    };
    let (now, user) = (now_micros(), world.acting_user());
    ids(rows)?
        .into_iter()
        .enumerate()
        .map(|(row, id)| {
            Ok(Document {
                id: id.unwrap_or_else(Uuid::now_v7),
                title: text(1, row).unwrap_or_default(),
                content: text(2, row).ok_or_else(|| {
                    Error::new(
                        Code::NotNull,
                        "null value in column \"content\" of relation \"documents\" violates not-null constraint",
                    )
                })?,
                metadata: text(3, row).unwrap_or_else(|| "{}".to_owned()),
                user_id: text(4, row).unwrap_or_else(|| user.clone()),
                created_at: time(5, row).unwrap_or(now),
                updated_at: time(6, row).unwrap_or(now),
                chunks: 0,
            })
        })
        .collect()
}

fn to_rows(written: &[Arc<Written>]) -> Result<RecordBatch> {
    let fields = DOCUMENT_COLUMNS.iter().map(|(n, t)| t.field(n, true)).collect();
    let ids: Vec<(&Document, String)> = written
        .iter()
        .map(|w| (&w.document, w.document.id.to_string()))
        .collect();
    super::rows::batch(fields, &ids, |(document, id), column| {
        document_cell(document, id, column)
    })
}
