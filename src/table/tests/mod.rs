//! Tests of the tables: what a transaction and a restart see, against a store in memory and one on disk.

mod altering;
mod difference;
mod folding;
mod history;
mod keeping;
mod locking;
mod numbers;
mod speed;
mod storing;
mod values;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Int32Type, Int64Type, UInt64Type},
};

use super::{
    schema::{Catalog, ColumnDef, IndexDef, IndexKey, IndexMethod, KeyOf, Oid, Relation, RowId, TableDef},
    *,
};
use crate::{
    codec::pgtype::Scalar,
    error::{Code, Result},
    tenant::{Directory, MasterKey, OpenOptions, Tenant, testing},
};

/// A directory with the tenant `acme`.
async fn acme() -> (Arc<Directory>, Tenant) {
    let directory = testing::directory(&["acme"]).await;
    let tenant = testing::tenant(&directory, "acme", "owner", "secret");
    (directory, tenant)
}

/// The same tenant on a disk, in a folder.
async fn on_disk() -> (tempfile::TempDir, Tenant) {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = opened(&folder);
    testing::populate(&directory, "operator's", &["acme"]).await;
    let tenant = testing::tenant(&directory, "acme", "owner", "secret");
    (folder, tenant)
}

/// The directory in a folder, which nothing else has open.
fn opened(folder: &tempfile::TempDir) -> Arc<Directory> {
    Directory::open(options(folder)).expect("a directory").0
}

fn options(folder: &tempfile::TempDir) -> OpenOptions {
    OpenOptions {
        data: folder.path().join("data"),
        master_key: MasterKey::File(None),
        min_free_bytes: 0,
        admin_password: Some("operator's".to_owned()),
    }
}

/// Waits until nothing works on the tables any more, as after the end of a process.
async fn close(tables: Arc<Tables>) {
    let left = Arc::downgrade(&tables);
    drop(tables);
    while left.strong_count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn column(id: u16, name: &str, scalar: Scalar) -> ColumnDef {
    ColumnDef {
        id,
        name: name.to_owned(),
        pg_type: scalar.into(),
        type_modifier: -1,
        not_null: false,
        default: None,
        generated: None,
        identity: None,
        sequence: None,
        missing: None,
        comment: None,
    }
}

fn index(oid: Oid, name: &str, columns: &[u16], unique: bool) -> IndexDef {
    let key = |&id: &u16| IndexKey {
        key: KeyOf::Column(id),
        descending: false,
        nulls_first: false,
        operator_class: None,
    };
    IndexDef {
        oid,
        name: name.to_owned(),
        keys: columns.iter().map(key).collect(),
        include: Vec::new(),
        unique,
        nulls_not_distinct: false,
        primary: unique,
        constraint: unique,
        method: IndexMethod::Btree,
        predicate: None,
        comment: None,
    }
}

/// `note (id bigint PRIMARY KEY, body text, rank int)` with an index on `rank`, whose numbers follow the table's.
fn note(oid: Oid) -> TableDef {
    TableDef {
        oid,
        schema: "public".to_owned(),
        name: format!("note{oid}"),
        owner: "owner".to_owned(),
        columns: vec![
            column(1, "id", Scalar::Int8),
            column(2, "body", Scalar::Text),
            column(3, "rank", Scalar::Int4),
        ],
        next_column: 4,
        indexes: vec![
            index(oid + 1, "note_pkey", &[1], true),
            index(oid + 2, "note_rank", &[3], false),
        ],
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        policies: Vec::new(),
        row_security: false,
        force_row_security: false,
        grants: Vec::new(),
        comment: None,
    }
}

/// The catalog with a table in it, or with another definition of it.
fn with_table(catalog: &Catalog, def: TableDef) -> Arc<Catalog> {
    let mut catalog = catalog.clone();
    catalog.version += 1;
    catalog.relations.insert(def.oid, Relation::Table(Arc::new(def)));
    Arc::new(catalog)
}

/// Makes `note`; its number.
async fn create(tables: &Arc<Tables>, tenant: &Tenant) -> Oid {
    let oid = tables.allocate_oids(3);
    let mut writes = WriteSet::default();
    writes.set_catalog(with_table(tables.latest().catalog(), note(oid)));
    commit(tables, tenant, &writes).await.expect("a table");
    oid
}

async fn commit(tables: &Arc<Tables>, tenant: &Tenant, writes: &WriteSet) -> Result<()> {
    let mut batch = tenant.batch();
    tables.fill(&mut batch, writes)?;
    tenant.commit(batch).await
}

/// Columns of some notes.
fn columns(notes: &[(i64, &str, Option<i32>)]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(notes.iter().map(|note| note.0))),
        Arc::new(StringArray::from_iter_values(notes.iter().map(|note| note.1))),
        Arc::new(notes.iter().map(|note| note.2).collect::<Int32Array>()),
    ]
}

/// One note as a row.
fn row(id: i64, body: &str, rank: impl Into<Option<i32>>) -> Row {
    let columns = columns(&[(id, body, rank.into())]);
    encode(&(1..).zip(columns).collect::<Vec<_>>(), 0).expect("a row")
}

fn batch(def: &TableDef, notes: &[(i64, &str, Option<i32>)]) -> RecordBatch {
    RecordBatch::try_new(def.arrow(), columns(notes)).expect("a batch")
}

/// A note as it was read, with its row.
type Note = (RowId, i64, String, Option<i32>);

fn notes(batch: &RecordBatch) -> Vec<Note> {
    let (ids, bodies) = (
        batch.column(0).as_primitive::<Int64Type>(),
        batch.column(1).as_string::<i32>(),
    );
    let (ranks, rows) = (
        batch.column(2).as_primitive::<Int32Type>(),
        batch.column(3).as_primitive::<UInt64Type>(),
    );
    let note = |at: usize| {
        let rank = ranks.is_valid(at).then(|| ranks.value(at));
        (rows.value(at), ids.value(at), bodies.value(at).to_owned(), rank)
    };
    (0..batch.num_rows()).map(note).collect()
}

/// All notes of a table, by row.
async fn all(database: &Database, table: Oid) -> Vec<Note> {
    let table = database.table(table).await.expect("the table");
    let scan = table.scan(vec![1, 2, 3], Vec::new(), true);
    let mut all: Vec<Note> = scan.flat_map(|batch| notes(&batch.expect("a batch"))).collect();
    all.sort();
    assert_eq!(all.len() as u64, table.rows(), "the count is not what is read");
    all
}

/// The rows that have this id, by the primary key.
async fn by_id(database: &Database, table: Oid, id: i64) -> Vec<RowId> {
    let data = database.table(table).await.expect("the table");
    let value: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    let (key, _) = key(&[value], 0, &data.def().indexes[0]).expect("a key");
    data.lookup(table + 1, &key)
}
