//! How fast: printed, never asserted. `cargo test --release --lib table::tests::speed -- --ignored --nocapture`

use std::time::Instant;

use arrow::{
    array::{BooleanArray, Float64Array, TimestampMicrosecondArray},
    compute::sum,
};

use super::*;
use crate::limits;

const ROWS: usize = 1_000_000;

/// `id bigint PRIMARY KEY` and seven more columns.
fn wide(oid: Oid) -> TableDef {
    let mut def = note(oid);
    def.columns.extend([
        column(4, "amount", Scalar::Float8),
        column(5, "big", Scalar::Int8),
        column(6, "flag", Scalar::Bool),
        column(7, "at", Scalar::Timestamp),
        column(8, "word", Scalar::Text),
    ]);
    def.indexes.truncate(1);
    def
}

fn rows(def: &TableDef, from: usize, count: usize) -> RecordBatch {
    let ids = || (from..from + count).map(|n| n as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids())),
        Arc::new(StringArray::from_iter_values(ids().map(|n| format!("body of row {n}")))),
        Arc::new(Int32Array::from_iter_values(ids().map(|n| (n % 100) as i32))),
        Arc::new(Float64Array::from_iter_values(ids().map(|n| n as f64 / 7.0))),
        Arc::new(Int64Array::from_iter_values(ids().map(|n| n * 31))),
        Arc::new(ids().map(|n| Some(n % 2 == 0)).collect::<BooleanArray>()),
        Arc::new(TimestampMicrosecondArray::from_iter_values(ids())),
        Arc::new(StringArray::from_iter_values(ids().map(|n| format!("w{}", n % 1000)))),
    ];
    RecordBatch::try_new(def.arrow(), columns).expect("a batch")
}

fn say(what: &str, rows: usize, begin: Instant) {
    let took = begin.elapsed();
    let each = took.as_nanos() as f64 / rows as f64;
    eprintln!("{what:<44} {:>9.1} ms {each:>9.1} ns each", took.as_secs_f64() * 1e3);
}

/// Resident memory in MB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0usize)
        >> 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_million_rows() {
    let (_folder, tenant) = on_disk().await;
    let tables = Tables::open(tenant.clone()).await.expect("tables");
    let oid = tables.allocate_oids(3);
    let mut writes = WriteSet::default();
    writes.set_catalog(with_table(tables.latest().catalog(), wide(oid)));
    commit(&tables, &tenant, &writes).await.expect("a table");
    let def = wide(oid);
    let batches: Vec<_> = (0..ROWS)
        .step_by(limits::BLOCK_ROWS)
        .map(|at| rows(&def, at, limits::BLOCK_ROWS.min(ROWS - at)))
        .collect();
    eprintln!("{:<44} {:>6} MB", "memory with the batches made", resident());

    let begin = Instant::now();
    let base = tables.latest();
    let mut writes = WriteSet::default();
    for batch in &batches {
        let block = tables.write_block(&base, oid, batch).await.expect("a block");
        writes.insert_block(block);
    }
    say("write 1M x 8 as blocks", ROWS, begin);
    let begin = Instant::now();
    commit(&tables, &tenant, &writes).await.expect("a commit");
    say("commit, primary key built", ROWS, begin);
    drop((writes, batches));
    eprintln!("{:<44} {:>6} MB", "memory after", resident());

    for round in ["first", "second"] {
        let begin = Instant::now();
        let table = tables.latest().table(oid).await.expect("the table");
        let read: usize = table
            .scan((1..=8).collect(), Vec::new(), false)
            .map(|b| b.expect("a batch").num_rows())
            .sum();
        assert_eq!(read, ROWS);
        say(&format!("{round} scan of 8 columns"), ROWS, begin);
        let begin = Instant::now();
        let total: i64 = table
            .scan(vec![3, 5], Vec::new(), false)
            .map(|batch| sum(batch.expect("a batch").column(1).as_primitive::<Int64Type>()).unwrap_or(0))
            .sum();
        say(&format!("{round} scan of 2 columns, sum {total}"), ROWS, begin);
    }
    let table = tables.latest().table(oid).await.expect("the table");
    let begin = Instant::now();
    for n in 0..10_000i64 {
        let value: ArrayRef = Arc::new(Int64Array::from(vec![n * 97 % ROWS as i64]));
        let (key, _) = key(&[value], 0, &table.def().indexes[0]).expect("a key");
        let found = table.lookup(oid + 1, &key);
        assert_eq!(
            table
                .get(&found, &[1, 2, 3, 4, 5, 6, 7, 8], false)
                .expect("a row")
                .num_rows(),
            1
        );
    }
    say("lookup of a row by key, 8 columns", 10_000, begin);

    let begin = Instant::now();
    let base = tables.latest();
    let mut writes = WriteSet::default();
    for n in 0..5_000 {
        let columns: Vec<_> = (1..).zip(rows(&def, ROWS + n, 1).columns().to_vec()).collect();
        writes.insert(oid, tables.allocate_rows(oid, 1), encode(&columns, 0).expect("a row"));
        base.with(&writes).expect("a view");
    }
    say("insert a row, seeing it at once", 5_000, begin);
    let begin = Instant::now();
    commit(&tables, &tenant, &writes).await.expect("a commit");
    say("commit of these", 5_000, begin);

    let begin = Instant::now();
    let mut writes = WriteSet::default();
    for n in 0..100_000 {
        let columns: Vec<_> = (1..).zip(rows(&def, n, 1).columns().to_vec()).collect();
        writes.update(
            oid,
            1 + (n as u64 * 7919) % ROWS as u64,
            encode(&columns, 0).expect("a row"),
        );
    }
    commit(&tables, &tenant, &writes).await.expect("a commit");
    say("update of 100,000 rows, one commit", 100_000, begin);
    drop(writes);
    let begin = Instant::now();
    let table = tables.latest().table(oid).await.expect("the table");
    let read: usize = table
        .scan((1..=8).collect(), Vec::new(), false)
        .map(|b| b.expect("a batch").num_rows())
        .sum();
    say("scan of 8 columns with 100,000 changed", read, begin);
    drop(table);
    let begin = Instant::now();
    tables.fold(oid).await.expect("a fold");
    say("fold of all of it", ROWS, begin);
    let begin = Instant::now();
    let again = Tables::open(tenant).await.expect("tables");
    again.latest().table(oid).await.expect("the table");
    say("load after a restart", ROWS, begin);
    eprintln!("{:<44} {:>6} MB", "memory at the end", resident());
}
