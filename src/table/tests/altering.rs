//! Tables that change under their rows: columns come and go, indexes are built, types change.

use super::*;

async fn alter(tables: &Arc<Tables>, tenant: &Tenant, def: TableDef) -> WriteSet {
    let mut writes = WriteSet::default();
    writes.set_catalog(with_table(tables.latest().catalog(), def));
    commit(tables, tenant, &writes).await.expect("a commit");
    writes
}

/// A note in a block and one that is a row.
async fn two(tables: &Arc<Tables>, tenant: &Tenant) -> Oid {
    let note = create(tables, tenant).await;
    let mut writes = WriteSet::default();
    let some = batch(&super::note(note), &[(1, "block", Some(7))]);
    writes.insert_block(
        tables
            .write_block(&tables.latest(), note, &some)
            .await
            .expect("a block"),
    );
    writes.insert(note, tables.allocate_rows(note, 1), row(2, "row", 7));
    commit(tables, tenant, &writes).await.expect("a commit");
    note
}

#[tokio::test]
async fn columns_are_added_and_dropped_without_touching_rows() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = two(&tables, &tenant).await;
    let before = tables.latest();
    let mut def = super::note(note);
    let default: ArrayRef = Arc::new(Int32Array::from(vec![42]));
    def.columns.push(ColumnDef {
        missing: Some(encode(&[(4, default)], 0).expect("a row").as_bytes().to_vec()),
        ..column(4, "added", Scalar::Int4)
    });
    def.columns.remove(1);
    alter(&tables, &tenant, def.clone()).await;
    let again = Tables::open(tenant.clone()).await.expect("tables");
    for database in [tables.latest(), again.latest()] {
        let table = database.table(note).await.expect("the table");
        let read: Vec<_> = table
            .scan(vec![4, 1], Vec::new(), false)
            .map(|b| b.expect("a batch"))
            .collect();
        assert_eq!(read.len(), 2);
        assert!(
            read.iter()
                .all(|b| b.column(0).as_primitive::<Int32Type>().value(0) == 42)
        );
        let both = table.get(&[1, 2], &[4], true).expect("rows");
        assert_eq!(both.column(0).as_primitive::<Int32Type>().values(), &[42, 42]);
    }
    assert_eq!(
        all(&before, note).await.len(),
        2,
        "the column is still there for older snapshots"
    );
    tables.fold(note).await.expect("a fold");
    assert_eq!(tables.latest().table(note).await.expect("the table").rows(), 2);
}

#[tokio::test]
async fn a_new_index_has_the_rows_that_are_there_and_tells_duplicates() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = two(&tables, &tenant).await;
    let mut def = super::note(note);
    let oid = tables.allocate_oids(2);
    def.indexes.push(index(oid, "by_body", &[2], true));
    def.indexes.push(index(oid + 1, "by_rank", &[3], true));
    let mut writes = WriteSet::default();
    let base = tables.latest();
    writes.set_catalog(with_table(base.catalog(), def.clone()));
    let view = base.with(&writes).expect("a view");
    let table = view.table(note).await.expect("the table");
    table.check_unique(oid).expect("no duplicates");
    assert_eq!(
        table.check_unique(oid + 1).expect_err("two sevens").code(),
        Code::UniqueViolation
    );
    let value: ArrayRef = Arc::new(StringArray::from(vec!["block"]));
    let (body, _) = key(&[value], 0, &def.indexes[2]).expect("a key");
    assert_eq!(table.lookup(oid, &body), [1]);
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let latest = tables.latest().table(note).await.expect("the table");
    assert_eq!(latest.lookup(oid, &body), [1]);
    assert!(!base.table(note).await.expect("the table").has_index(oid));

    // NULLs are no duplicates, unless the index says so.
    def.indexes.pop();
    def.indexes.push(index(oid + 2, "by_null", &[3], true));
    let mut writes = WriteSet::default();
    let base = tables.latest();
    writes.update(note, 1, row(1, "block", None));
    writes.update(note, 2, row(2, "row", None));
    writes.set_catalog(with_table(base.catalog(), def.clone()));
    let table = base
        .with(&writes)
        .expect("a view")
        .table(note)
        .await
        .expect("the table");
    table.check_unique(oid + 2).expect("NULLs are distinct");
    def.indexes[3].nulls_not_distinct = true;
    writes.set_catalog(with_table(base.catalog(), def));
    let table = base
        .with(&writes)
        .expect("a view")
        .table(note)
        .await
        .expect("the table");
    assert_eq!(
        table.check_unique(oid + 2).expect_err("two NULLs").code(),
        Code::UniqueViolation
    );
}

#[tokio::test]
async fn a_type_changes_by_writing_every_row_anew() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let note = two(&tables, &tenant).await;
    let mut def = super::note(note);
    def.columns[2] = column(3, "rank", Scalar::Text);
    let base = tables.latest();
    let mut writes = WriteSet::default();
    writes.set_catalog(with_table(base.catalog(), def));
    writes.truncate(note, tables.allocate_oids(1));
    for row in [1, 2] {
        let rank: ArrayRef = Arc::new(StringArray::from(vec!["seven"]));
        let id: ArrayRef = Arc::new(Int64Array::from(vec![row as i64]));
        writes.insert(note, row, encode(&[(1, id), (3, rank)], 0).expect("a row"));
    }
    commit(&tables, &tenant, &writes).await.expect("a commit");
    assert_eq!(all(&base, note).await.len(), 2);
    let again = Tables::open(tenant).await.expect("tables");
    for database in [tables.latest(), again.latest()] {
        let table = database.table(note).await.expect("the table");
        let read = table.get(&[2, 1], &[3], false).expect("rows");
        assert_eq!(read.column(0).as_string::<i32>().value(1), "seven");
        let value: ArrayRef = Arc::new(StringArray::from(vec!["seven"]));
        let (rank, _) = key(&[value], 0, &table.def().indexes[1]).expect("a key");
        assert_eq!(table.lookup(note + 2, &rank), [1, 2]);
    }
}

/// Keys of `lower(body) WHERE rank > 0`, as SQL would give them.
struct Lower;

impl Expressions for Lower {
    fn keys(
        &self,
        _: &TableDef,
        _: &IndexDef,
        rows: &RecordBatch,
    ) -> Result<(Vec<ArrayRef>, Option<arrow::array::BooleanArray>)> {
        let lower: StringArray = rows
            .column(1)
            .as_string::<i32>()
            .iter()
            .map(|s| s.map(str::to_lowercase))
            .collect();
        let within = rows
            .column(2)
            .as_primitive::<Int32Type>()
            .iter()
            .map(|rank| rank.map(|rank| rank > 0));
        Ok((vec![Arc::new(lower)], Some(within.collect())))
    }
}

#[tokio::test]
async fn an_index_over_an_expression_has_its_part_of_the_rows() {
    let (_directory, tenant) = acme().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    tables.set_expressions(Arc::new(Lower));
    let note = two(&tables, &tenant).await;
    let mut def = super::note(note);
    let mut computed = index(tables.allocate_oids(1), "lower", &[2], true);
    computed.keys[0].key = KeyOf::Expression("lower(body)".to_owned());
    computed.predicate = Some("rank > 0".to_owned());
    let oid = computed.oid;
    def.indexes.push(computed.clone());
    alter(&tables, &tenant, def).await;
    let of = |text: &str| {
        let value: ArrayRef = Arc::new(StringArray::from(vec![text]));
        key(&[value], 0, &computed).expect("a key").0
    };
    let mut writes = WriteSet::default();
    let row = |id, body, rank| super::row(id, body, rank);
    writes.insert(note, tables.allocate_rows(note, 3), row(3, "LOUD", Some(1)));
    writes.insert(note, 4, row(4, "out", Some(0)));
    writes.insert(note, 5, row(5, "null", None));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let mut writes = WriteSet::default();
    writes.update(note, 2, row(2, "ROW", Some(0)));
    commit(&tables, &tenant, &writes).await.expect("a commit");
    let again = Tables::open(tenant).await.expect("tables");
    again.set_expressions(Arc::new(Lower));
    for database in [tables.latest(), again.latest()] {
        let table = database.table(note).await.expect("the table");
        assert!(table.keeps_index(oid) && !table.has_index(oid));
        let found = ["loud", "out", "null", "block", "row"].map(|text| table.lookup(oid, &of(text)));
        assert_eq!(found, [vec![3], vec![], vec![], vec![1], vec![]]);
        table.check_unique(oid).expect("no duplicates");
    }
}
