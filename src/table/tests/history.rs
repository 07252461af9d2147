//! Random histories against a model: a map of rows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is done next. Numbers choose among the rows that are there.
#[derive(Clone, Debug)]
enum Step {
    Insert { id: i64, rank: Option<i32> },
    InsertBlock { rows: usize },
    Update { row: usize, rank: i32 },
    Rename { row: usize, id: i64 },
    Delete { row: usize },
    Truncate,
    Savepoint,
    RollBackToSavepoint,
    RollBack,
    Commit,
    CommitDuringFold,
    Fold,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let row = || 0..1000usize;
    prop_oneof![
        4 => (0..50i64, prop::option::of(0..5i32)).prop_map(|(id, rank)| Step::Insert { id, rank }),
        1 => (1..40usize).prop_map(|rows| Step::InsertBlock { rows }),
        4 => (row(), 0..5i32).prop_map(|(row, rank)| Step::Update { row, rank }),
        2 => (row(), 0..50i64).prop_map(|(row, id)| Step::Rename { row, id }),
        3 => row().prop_map(|row| Step::Delete { row }),
        1 => Just(Step::Truncate),
        1 => Just(Step::Savepoint),
        1 => Just(Step::RollBackToSavepoint),
        1 => Just(Step::RollBack),
        4 => Just(Step::Commit),
        2 => Just(Step::CommitDuringFold),
        2 => Just(Step::Fold),
        1 => Just(Step::Reopen),
    ]
}

type Model = BTreeMap<RowId, (i64, Option<i32>)>;

struct World {
    tenant: Tenant,
    /// `None` for a moment only: while it is opened again.
    tables: Option<Arc<Tables>>,
    note: Oid,
    base: Database,
    writes: WriteSet,
    savepoint: Option<(WriteSet, Model)>,
    committed: Model,
    now: Model,
    /// A snapshot and what it must show for good.
    old: (Database, Model),
}

impl World {
    async fn new(tenant: Tenant) -> Self {
        let tables = Tables::open(tenant.clone()).await.expect("tables");
        let note = create(&tables, &tenant).await;
        let base = tables.latest();
        base.table(note).await.expect("the table");
        Self {
            tenant,
            tables: Some(tables),
            note,
            old: (base.clone(), Model::new()),
            base,
            writes: WriteSet::default(),
            savepoint: None,
            committed: Model::new(),
            now: Model::new(),
        }
    }

    fn tables(&self) -> &Arc<Tables> {
        self.tables.as_ref().expect("tables")
    }

    fn pick(&self, row: usize) -> Option<RowId> {
        let nth = row.checked_rem(self.now.len())?;
        self.now.keys().nth(nth).copied()
    }

    fn begin(&mut self) {
        self.writes = WriteSet::default();
        self.savepoint = None;
        self.base = self.tables().latest();
    }

    async fn take(&mut self, step: Step) {
        let note = self.note;
        match step {
            Step::Insert { id, rank } => {
                let row = self.tables().allocate_rows(note, 1);
                self.writes.insert(note, row, super::row(id, "text", rank));
                self.now.insert(row, (id, rank));
            }
            Step::InsertBlock { rows } => {
                let view = self.base.with(&self.writes).expect("a view");
                let notes: Vec<_> = (0..rows as i64).map(|n| (n, "text", Some(1))).collect();
                let block = batch(&super::note(note), &notes);
                let block = self.tables().write_block(&view, note, &block).await.expect("a block");
                let first = block.first_row();
                self.now
                    .extend((0..rows).map(|n| (first + n as u64, (n as i64, Some(1)))));
                self.writes.insert_block(block);
            }
            Step::Update { row, rank } => {
                let Some(row) = self.pick(row) else { return };
                let note = self.now.get_mut(&row).expect("a note");
                note.1 = Some(rank);
                self.writes.update(self.note, row, super::row(note.0, "text", rank));
            }
            Step::Rename { row, id } => {
                let Some(row) = self.pick(row) else { return };
                let note = self.now.get_mut(&row).expect("a note");
                note.0 = id;
                self.writes.update(self.note, row, super::row(id, "text", note.1));
            }
            Step::Delete { row } => {
                let Some(row) = self.pick(row) else { return };
                self.now.remove(&row);
                self.writes.delete(note, row);
            }
            Step::Truncate => {
                self.now.clear();
                self.writes.truncate(note, self.tables().allocate_oids(1));
            }
            Step::Savepoint => {
                self.savepoint = Some((self.writes.clone(), self.now.clone()));
                self.old = (self.tables().latest(), self.committed.clone());
            }
            Step::RollBackToSavepoint => {
                if let Some((writes, now)) = self.savepoint.clone() {
                    (self.writes, self.now) = (writes, now);
                }
            }
            Step::RollBack => {
                self.now = self.committed.clone();
                self.begin();
            }
            Step::Commit => {
                commit(self.tables(), &self.tenant, &self.writes)
                    .await
                    .expect("a commit");
                self.committed = self.now.clone();
                self.begin();
            }
            Step::CommitDuringFold => {
                let tables = self.tables().clone();
                let fold = tokio::spawn(async move { tables.fold(note).await });
                tokio::task::yield_now().await;
                commit(self.tables(), &self.tenant, &self.writes)
                    .await
                    .expect("a commit");
                self.committed = self.now.clone();
                fold.await.expect("a fold").expect("a fold");
                self.begin();
            }
            Step::Fold => self.tables().fold(note).await.expect("a fold"),
            Step::Reopen => {
                self.now = self.committed.clone();
                close(self.tables.take().expect("tables")).await;
                self.tables = Some(Tables::open(self.tenant.clone()).await.expect("tables"));
                self.base = self.tables().latest();
                self.base.table(note).await.expect("the table");
                // One from before would belong to a process that is gone.
                self.old = (self.base.clone(), self.committed.clone());
                self.begin();
            }
        }
    }

    async fn check(&self) {
        check(&self.base.with(&self.writes).expect("a view"), self.note, &self.now).await;
        check(&self.tables().latest(), self.note, &self.committed).await;
        check(&self.old.0, self.note, &self.old.1).await;
    }
}

/// Compares a table with the model: by scan, by both indexes, row by row.
async fn check(database: &Database, note: Oid, model: &Model) {
    let expected: Vec<Note> = model
        .iter()
        .map(|(row, (id, rank))| (*row, *id, "text".to_owned(), *rank))
        .collect();
    assert_eq!(all(database, note).await, expected);
    let data = database.table(note).await.expect("the table");
    let by = |index: Oid, reverse| data.range(index, (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded), reverse);
    let mut by_id: Vec<(i64, RowId)> = model.iter().map(|(row, (id, _))| (*id, *row)).collect();
    by_id.sort_unstable();
    let expected: Vec<RowId> = by_id.iter().map(|(_, row)| *row).collect();
    assert_eq!(by(note + 1, false).collect::<Vec<_>>(), expected);
    // NULLS LAST.
    let mut by_rank: Vec<_> = model
        .iter()
        .map(|(row, (_, rank))| (rank.is_none(), *rank, *row))
        .collect();
    by_rank.sort_unstable();
    let expected: Vec<RowId> = by_rank.iter().rev().map(|(_, _, row)| *row).collect();
    assert_eq!(by(note + 2, true).collect::<Vec<_>>(), expected);
    let asked: Vec<RowId> = model.keys().rev().copied().collect();
    let got = data.get(&asked, &[1, 2, 3], true).expect("rows");
    assert_eq!(notes(&got).iter().map(|note| note.0).collect::<Vec<_>>(), asked);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_what_a_map_would_be(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (_directory, tenant) = acme().await;
            let mut world = World::new(tenant).await;
            for step in steps {
                world.take(step).await;
                world.check().await;
            }
            world.take(Step::RollBack).await;
            world.take(Step::Reopen).await;
            world.check().await;
        });
    }
}
