//! The books balance, whatever is counted, committed, refused or lost on the way.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::{
    ledger::{
        self,
        books::{Amounts, costs, total_costs, usage},
        price::{Price, defaults},
    },
    tenant::{AMOUNTS_BY_DAY, Directory, Sums, Table, testing},
};

const EVER: (Day, Day) = (Day(i32::MIN), Day(i32::MAX));
const DAY: i64 = 86_400_000_000;

async fn house(tenants: &[&str]) -> Arc<Directory> {
    let directory = testing::directory(tenants).await;
    directory.seed(ledger::defaults().unwrap()).unwrap();
    directory
}

fn meter(directory: &Arc<Directory>, tenant: &str, clock: fn() -> i64) -> Arc<Meter> {
    let tenant = testing::tenant(directory, tenant, "owner", "secret");
    Arc::new(Meter::with_clock(tenant, Arc::default(), clock))
}

fn lines(meter: &Meter) -> Vec<UsageLine> {
    usage(meter).collect::<Result<_>>().unwrap()
}

fn sum_of(lines: &[UsageLine]) -> Amounts {
    lines
        .iter()
        .try_fold(Amounts::default(), |sum, line| sum.plus(Amounts::of(line)?))
        .unwrap()
}

fn total(meter: &Meter) -> Amounts {
    total_costs(meter, EVER.0, EVER.1).unwrap()
}

fn noon() -> i64 {
    20_000 * DAY + DAY / 2
}

#[tokio::test]
async fn counts_are_seen_at_once_and_written_once() {
    let directory = house(&["acme"]).await;
    let meter = meter(&directory, "acme", noon);
    for _ in 0..10 {
        meter.statement("owner");
    }
    meter.statement("bob");
    meter.vector_search("owner");
    let seen = total(&meter);
    assert_eq!((seen.db_queries, seen.database), (11, Nano(11 * 200)));
    assert_eq!((seen.vector_searches, seen.vector_search), (1, Nano(1_000)));
    assert_eq!(lines(&meter).len(), 3);

    meter.flush().await.unwrap();
    assert_eq!(meter.pending(), []);
    assert_eq!(total(&meter), seen);
    assert_eq!(lines(&meter).len(), 3);
    meter.flush().await.unwrap();
    assert_eq!(lines(&meter).len(), 3);
    assert!(
        lines(&meter)
            .iter()
            .all(|line| line.price_id.is_some() && line.day() == Day(20_000))
    );
    let written = testing::operator(&directory, "operator's")
        .amounts(AMOUNTS_BY_DAY)
        .unwrap();
    assert_eq!(written, [(1, 20_000, seen.to_sums())]);
}

#[tokio::test]
async fn a_batch_that_is_not_written_gives_its_counts_back() {
    let directory = house(&["acme"]).await;
    let meter = meter(&directory, "acme", noon);
    meter.statement("owner");
    let mut batch = meter.tenant().batch();
    meter.drain_into(&mut batch).unwrap();
    meter.statement("owner");
    assert_eq!(meter.pending().len(), 2, "one line leaves, one is new");
    assert_eq!(total(&meter).db_queries, 2);
    drop(batch);
    assert_eq!(meter.pending().len(), 1, "they are one line again");
    assert_eq!(total(&meter).db_queries, 2);

    let mut refused = meter.tenant().batch();
    refused.expect(Table::Settings, b"k", None);
    refused.put(Table::Settings, b"k", vec![1]);
    meter.tenant().commit(refused).await.unwrap();
    let mut refused = meter.tenant().batch();
    refused.expect(Table::Settings, b"k", None);
    meter.drain_into(&mut refused).unwrap();
    let error = meter.tenant().commit(refused).await.unwrap_err();
    assert_eq!(error.code(), Code::SerializationFailure);
    assert_eq!(meter.pending().len(), 1);
    meter.flush().await.unwrap();
    assert_eq!((total(&meter).db_queries, lines(&meter).len()), (2, 1));
}

#[tokio::test]
async fn counts_go_out_with_any_commit_of_the_tenant() {
    let directory = house(&["acme"]).await;
    let meter = meter(&directory, "acme", noon);
    meter.statement("owner");
    let mut batch = meter.tenant().batch();
    batch.put(Table::Documents, b"d", b"text".to_vec());
    meter.drain_into(&mut batch).unwrap();
    meter.tenant().commit(batch).await.unwrap();
    assert_eq!(meter.pending(), []);
    assert_eq!(total(&meter).db_queries, 1);
}

#[tokio::test]
async fn midnight_starts_another_day() {
    static NOW: AtomicI64 = AtomicI64::new(DAY - 1);
    let directory = house(&["acme"]).await;
    let meter = meter(&directory, "acme", || NOW.load(Ordering::SeqCst));
    meter.statement("owner");
    NOW.store(DAY, Ordering::SeqCst);
    meter.statement("owner");
    meter.statement("owner");
    for _ in 0..2 {
        let days: HashMap<Day, Amounts> = costs(&meter, EVER.0, EVER.1).unwrap().into_iter().collect();
        assert_eq!((days[&Day(0)].db_queries, days[&Day(1)].db_queries), (1, 2));
        assert_eq!(total_costs(&meter, Day(1), Day(1)).unwrap().db_queries, 2);
        assert_eq!(total_costs(&meter, Day(2), Day(9)).unwrap(), Amounts::default());
        meter.flush().await.unwrap();
    }
}

#[tokio::test]
async fn what_has_no_price_costs_nothing_and_says_so() {
    let directory = testing::directory(&["acme"]).await;
    let meter = meter(&directory, "acme", noon);
    meter.statement("owner");
    meter.statement("owner");
    let [line] = &meter.pending()[..] else {
        panic!("one line")
    };
    assert_eq!((line.count, line.cost, line.price_id.as_deref()), (2, Nano::ZERO, None));
}

#[tokio::test]
async fn a_new_price_starts_another_line() {
    // Once as a row of its own, once by changing the row that there is.
    for (valid_from, ids) in [
        (
            Day(19_999),
            ["database/statement@1970-01-01", "database/statement@2024-10-03"],
        ),
        (
            Day(0),
            ["database/statement@1970-01-01", "database/statement@1970-01-01"],
        ),
    ] {
        let directory = house(&["acme"]).await;
        let meter = meter(&directory, "acme", noon);
        meter.statement("owner");
        let mut batch = meter.tenant().batch();
        meter.drain_into(&mut batch).unwrap();
        let dearer = defaults().find(|price| price.model == STATEMENT).unwrap();
        let dearer = Price {
            valid_from,
            input: Nano(300),
            ..dearer
        };
        let operator = testing::operator(&directory, "operator's");
        let mut prices = operator.batch();
        prices.put(Table::Prices, &dearer.key(), dearer.encode().unwrap());
        operator.commit(prices).await.unwrap();
        meter.statement("owner");
        drop(batch);
        meter.flush().await.unwrap();
        assert_eq!(total(&meter).database, Nano(500));
        let mut found: Vec<_> = lines(&meter).into_iter().filter_map(|line| line.price_id).collect();
        found.sort();
        assert_eq!(found, ids);
    }
}

#[tokio::test]
async fn a_dropped_tenant_is_forgotten() {
    let directory = house(&["acme", "umbra"]).await;
    let (gone, stays) = (meter(&directory, "acme", noon), meter(&directory, "umbra", noon));
    gone.statement("owner");
    stays.statement("owner");
    testing::operator(&directory, "operator's")
        .drop_tenant("acme")
        .await
        .unwrap();
    gone.flush().await.unwrap();
    stays.flush().await.unwrap();
    assert_eq!(gone.pending(), []);
    assert_eq!(total(&stays).db_queries, 1);
}

#[tokio::test]
async fn the_flusher_writes_in_time_and_at_its_end() {
    let directory = house(&["acme", "umbra"]).await;
    let meters = Arc::new(PerTenant::new());
    let tenants = ["acme", "umbra"].map(|name| testing::tenant(&directory, name, "owner", "secret"));
    let [acme, umbra] = tenants.map(|tenant| meters.open(&tenant, || Meter::new(tenant.clone(), Arc::default())));
    let stop = CancellationToken::new();
    let task = tokio::spawn(flusher(meters, stop.clone()));
    acme.statement("owner");
    umbra.vector_search("owner");
    tokio::time::sleep(limits::METER_INTERVAL * 3 / 2).await;
    assert_eq!((acme.pending().len(), umbra.pending().len()), (0, 0));
    acme.statement("owner");
    stop.cancel();
    task.await.unwrap();
    assert_eq!(acme.pending(), []);
    assert_eq!((total(&acme).db_queries, total(&umbra).vector_searches), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_every_count_once_while_others_write() {
    let directory = house(&["acme"]).await;
    let meter = meter(&directory, "acme", noon);
    let writer = tokio::spawn({
        let meter = meter.clone();
        async move {
            for n in 1..=300 {
                meter.statement("owner");
                if n % 3 == 0 {
                    meter.flush().await.unwrap();
                }
            }
        }
    });
    let (mut seen, mut reads) = (0, 0);
    while !writer.is_finished() {
        let sum = total(&meter).db_queries;
        let listed = sum_of(&lines(&meter)).db_queries;
        assert!(seen <= sum && sum <= listed, "{seen} <= {sum} <= {listed}");
        (seen, reads) = (listed, reads + 1);
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert_eq!(
        (total(&meter).db_queries, sum_of(&lines(&meter)).db_queries),
        (300, 300),
        "after {reads} reads"
    );
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Statements(u8, i64),
    Search(u8),
    Call {
        prompt: i64,
        completion: i64,
        cost: i64,
        status: usize,
    },
    Flush,
    Abandon,
    Refuse,
    NextDay,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tokens = 0..1_000_000_i64;
    let call = (
        tokens.clone(),
        tokens.clone(),
        tokens,
        0..ledger::usage::Status::ALL.len(),
    );
    proptest::collection::vec(
        prop_oneof![
            (0..3_u8, 1..20_i64).prop_map(|(user, n)| Step::Statements(user, n)),
            (0..3_u8).prop_map(Step::Search),
            call.prop_map(|(prompt, completion, cost, status)| Step::Call {
                prompt,
                completion,
                cost,
                status
            }),
            Just(Step::Flush),
            Just(Step::Abandon),
            Just(Step::Refuse),
            Just(Step::NextDay),
        ],
        0..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn sums_equal_lines_after_any_history(history in steps()) {
        static NOW: AtomicI64 = AtomicI64::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            NOW.store(noon(), Ordering::SeqCst);
            let directory = house(&["acme"]).await;
            let meter = meter(&directory, "acme", || NOW.load(Ordering::SeqCst));
            let mut model = Amounts::default();
            for step in history {
                run(step, &meter, &mut model, &NOW).await;
                assert_eq!(total(&meter), model);
                assert_eq!(sum_of(&lines(&meter)), model);
            }
            meter.flush().await.unwrap();
            let mut published = Sums::default();
            for (_, _, day) in testing::operator(&directory, "operator's").amounts(AMOUNTS_BY_DAY).unwrap() {
                published.add(&day).unwrap();
            }
            published.add(&Sums(vec![0; 6])).unwrap();
            assert_eq!(Amounts::from_sums(&published).unwrap(), model);
            assert_eq!(sum_of(&lines(&meter)), model);
        });
    }
}

async fn run(step: Step, meter: &Arc<Meter>, model: &mut Amounts, now: &AtomicI64) {
    match step {
        Step::Statements(user, n) => {
            (0..n).for_each(|_| meter.statement(&format!("u{user}")));
            model.db_queries += n;
            model.database = model.database.plus(Nano(200).times(n).unwrap()).unwrap();
        }
        Step::Search(user) => {
            meter.vector_search(&format!("u{user}"));
            model.vector_searches += 1;
            model.vector_search = model.vector_search.plus(Nano(1_000)).unwrap();
        }
        Step::Call {
            prompt,
            completion,
            cost,
            status,
        } => {
            let mut line = UsageLine::at(now.load(Ordering::SeqCst), "u0", Operation::Rag, "m");
            (line.prompt_tokens, line.completion_tokens, line.cost) = (prompt, completion, Nano(cost));
            line.status = ledger::usage::Status::ALL[status];
            let mut batch = meter.tenant().batch();
            books::record(&mut batch, &line).unwrap();
            meter.drain_into(&mut batch).unwrap();
            meter.tenant().commit(batch).await.unwrap();
            model.llm_tokens += prompt + completion;
            model.llm = model.llm.plus(Nano(cost)).unwrap();
        }
        Step::Flush => meter.flush().await.unwrap(),
        Step::Abandon => {
            let mut batch = meter.tenant().batch();
            meter.drain_into(&mut batch).unwrap();
        }
        Step::Refuse => {
            let mut batch = meter.tenant().batch();
            batch.expect(Table::Prices, b"none", None); // not a tenant's table: refused before anything is written
            meter.drain_into(&mut batch).unwrap();
            assert!(meter.tenant().commit(batch).await.is_err());
        }
        Step::NextDay => {
            now.fetch_add(DAY, Ordering::SeqCst);
        }
    }
}
