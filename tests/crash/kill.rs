//! SIGKILL in the middle of commits: 200 cycles, several writers (X01, X02, X16 of THREATS.md).
//!
//! The model is what each writer remembers: it writes numbered documents one statement (or one transaction of two) at
//! a time, and keeps the last number that was acknowledged. After each crash the database must hold, of each writer,
//! the numbers from 0 on without a gap, at least up to that one and at most one unit further; each with all of its
//! chunks and its usage line; and the books must balance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::common::server::{Server, Spec, connect, fresh_dir, password_of, rows};
use crate::common::{Seed, nano};

/// SIGKILLs in all, over this many directories at once.
const CYCLES: u64 = 200;
const LANES: u64 = 4;
/// Of which the last commits two documents at a time.
const WRITERS: usize = 4;
/// Every so many cycles everything is read back, else titles only.
const FULL_CHECK_EVERY: u64 = 10;
const T: &str = "acme";

/// Texts of one, two and more chunks.
fn texts() -> Vec<String> {
    let long = |n: usize| {
        (0..n)
            .map(|i| format!("Sentence number {i} tells of wharf {} and crane {}. ", i * 7, i * 13))
            .collect()
    };
    vec![
        "A short note.".to_owned(),
        "Another note, a little longer than the first.".to_owned(),
        long(30),
        long(70),
    ]
}

/// Number `n` of writer `w`; its text follows from its number.
fn title(w: usize, n: i64) -> String {
    format!("{w} {n}")
}

/// What one document of each text amounts to, found out on a server that nobody kills.
struct Measure {
    chunks: Vec<usize>,
    /// Of one commit, however many documents it embeds.
    usage_lines: usize,
}

const USAGE: &str =
    "SELECT count(*) FROM bulkhead.usage WHERE operation NOT LIKE 'statement%' AND operation NOT LIKE 'vector%'";

async fn measure() -> Measure {
    let server = Server::start("measure");
    server.create_tenants(&[T]).await;
    let client = server.connect(T, "owner").await;
    let mut chunks = Vec::new();
    for (i, text) in texts().iter().enumerate() {
        let insert = "INSERT INTO ai.documents (title, content) VALUES ($1, $2)";
        client
            .execute(insert, &[&title(0, i as i64), text])
            .await
            .expect("inserted");
        let sql = format!(
            "SELECT count(*) FROM chunks c JOIN documents d ON d.id = c.document_id WHERE d.title = '{}'",
            title(0, i as i64)
        );
        chunks.push(rows(&client, &sql).await[0][0].parse().expect("a count"));
    }
    let lines: usize = rows(&client, USAGE).await[0][0].parse().expect("a count");
    assert_eq!(chunks[0], 1);
    assert!(chunks[3] > 2, "{chunks:?}");
    assert!(
        lines > 0 && lines.is_multiple_of(chunks.len()),
        "each insert has its usage lines: {lines}"
    );
    Measure {
        usage_lines: lines / chunks.len(),
        chunks,
    }
}

/// Writes until the server is gone.
async fn write(port: u16, w: usize, acknowledged: Arc<AtomicI64>) {
    let Ok(client) = connect(port, T, "owner", &password_of("owner")).await else {
        return;
    };
    let texts = texts();
    let insert = "INSERT INTO ai.documents (title, content) VALUES ($1, $2)";
    let Ok(insert) = client.prepare(insert).await else {
        return;
    };
    loop {
        let n = acknowledged.load(Ordering::SeqCst) + 1;
        let text = |n: i64| &texts[n as usize % texts.len()];
        if w + 1 < WRITERS {
            if client.execute(&insert, &[&title(w, n), text(n)]).await.is_err() {
                return;
            }
            acknowledged.store(n, Ordering::SeqCst);
        } else {
            let both = async {
                client.batch_execute("BEGIN").await?;
                client.execute(&insert, &[&title(w, n), text(n)]).await?;
                client.execute(&insert, &[&title(w, n + 1), text(n + 1)]).await?;
                client.batch_execute("COMMIT").await
            };
            if both.await.is_err() {
                return;
            }
            acknowledged.store(n + 1, Ordering::SeqCst);
        }
    }
}

/// Compares the database with what the writers remember, and lets them remember what is there.
async fn compare(server: &Server, acknowledged: &[Arc<AtomicI64>], measure: &Measure, full: bool) {
    let client = server.connect(T, "owner").await;
    let mut found: Vec<Vec<i64>> = vec![Vec::new(); WRITERS];
    for row in rows(&client, "SELECT title FROM documents").await {
        let (w, n) = row[0].split_once(' ').expect("our own titles");
        found[w.parse::<usize>().expect("a writer")].push(n.parse().expect("a number"));
    }
    for (w, numbers) in found.iter_mut().enumerate() {
        numbers.sort_unstable();
        let known = acknowledged[w].load(Ordering::SeqCst);
        let last = numbers.len() as i64 - 1;
        let gapless = numbers.iter().enumerate().all(|(i, n)| i as i64 == *n);
        assert!(gapless, "writer {w} has a gap, or a number twice: {numbers:?}");
        assert!(
            last >= known,
            "LOST: writer {w} was told of {known}, and there are only {last}"
        );
        let unit = if w + 1 < WRITERS { 1 } else { 2 };
        assert!(
            last <= known + unit,
            "writer {w} asked for {known} and one more, and there is {last}"
        );
        assert!(
            unit == 1 || numbers.len() % 2 == 0,
            "HALF a transaction of writer {w}: {last}"
        );
        acknowledged[w].store(last, Ordering::SeqCst);
    }
    if !full {
        return;
    }
    let counted = "SELECT d.title, count(c.id), min(c.chunk_no), max(c.chunk_no), count(c.embedding) \
                   FROM documents d LEFT JOIN chunks c ON c.document_id = d.id GROUP BY d.id, d.title";
    for row in rows(&client, counted).await {
        let n: usize = row[0]
            .split_once(' ')
            .and_then(|(_, n)| n.parse().ok())
            .expect("our own titles");
        let chunks = measure.chunks[n % measure.chunks.len()];
        let expected = [
            chunks.to_string(),
            "0".to_owned(),
            (chunks - 1).to_string(),
            chunks.to_string(),
        ];
        assert_eq!(row[1..], expected, "HALF a document: {}", row[0]);
    }
    let orphans = "SELECT count(*) FROM chunks c LEFT JOIN documents d ON c.document_id = d.id WHERE d.id IS NULL";
    assert_eq!(rows(&client, orphans).await, [["0"]], "chunks without their document");
    let lines: usize = rows(&client, USAGE).await[0][0].parse().expect("a count");
    let commits = |(w, numbers): (usize, &Vec<i64>)| numbers.len() / if w + 1 < WRITERS { 1 } else { 2 };
    let commits: usize = found.iter().enumerate().map(commits).sum();
    assert_eq!(lines, commits * measure.usage_lines, "usage lines and commits differ");
    // Two writers finish a keyword search; what is found is what is there.
    let hits = rows(
        &client,
        "SELECT count(*) FROM ai.search('wharf crane', k => 10000, mode => 'keyword')",
    )
    .await;
    let long: usize = rows(
        &client,
        "SELECT count(*) FROM chunks WHERE content LIKE '%wharf%' OR content LIKE '%crane%'",
    )
    .await[0][0]
        .parse()
        .expect("a count");
    assert_eq!(
        hits[0][0],
        long.min(10_000).to_string(),
        "the keyword index and the chunks differ"
    );
    balance(&client).await;
}

/// The day's costs are the sum of the lines.
async fn balance(client: &tokio_postgres::Client) {
    let sql = "SELECT (SELECT coalesce(sum(cost_usd), 0) FROM bulkhead.usage), (SELECT coalesce(sum(total_cost_usd), 0) FROM bulkhead.costs)";
    let mut last = Vec::new();
    for _ in 0..10 {
        last = rows(client, sql).await.remove(0);
        if nano(&last[0]) == nano(&last[1]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await; // a flush of counts between the two reads
    }
    panic!("lines and totals differ: {last:?}");
}

/// sled writes values above its own limit to files that it never syncs; there must be none.
fn assert_no_blobs(server: &Server) {
    let mut folders = vec![server.spec.data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the data directory can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                let blobs = path.file_name().is_some_and(|n| n == "blobs");
                let inside = std::fs::read_dir(&path).map(Iterator::count).unwrap_or(0);
                assert!(!blobs || inside == 0, "{} holds {inside} files", path.display());
                folders.push(path);
            }
        }
    }
}

async fn lane(lane: u64, measure: Arc<Measure>) -> i64 {
    let mut seed = Seed(0xb01d_0000 + lane);
    let dir = fresh_dir("crash");
    let spec = Spec {
        args: vec!["--log-level".to_owned(), "warn".to_owned()],
        ..Spec::on(&dir.join("data"))
    };
    let mut server = Server::with(spec);
    server.create_tenants(&[T]).await;
    let acknowledged: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicI64::new(-1))).collect();
    let cycles = CYCLES / LANES;
    let mut idle = 0;
    for cycle in 0..cycles {
        let before: i64 = acknowledged.iter().map(|a| a.load(Ordering::SeqCst)).sum();
        let port = server.port;
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| tokio::spawn(write(port, w, acknowledged[w].clone())))
            .collect();
        // From the moment that the first writer is acknowledged, a random instant.
        let mut waited = 0;
        while acknowledged.iter().map(|a| a.load(Ordering::SeqCst)).sum::<i64>() == before && waited < 5_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            waited += 1;
        }
        tokio::time::sleep(Duration::from_micros(seed.below(60_000))).await;
        server.kill();
        for writer in writers {
            writer.await.expect("a writer does not panic");
        }
        let after: i64 = acknowledged.iter().map(|a| a.load(Ordering::SeqCst)).sum();
        idle += u64::from(after == before);
        server.again();
        let full = cycle % FULL_CHECK_EVERY == FULL_CHECK_EVERY - 1 || cycle + 1 == cycles;
        compare(&server, &acknowledged, &measure, full).await;
        assert_no_blobs(&server);
    }
    assert!(
        idle < cycles / 10,
        "{idle} of {cycles} cycles acknowledged nothing: the test tests nothing"
    );
    server.assert_alive();
    drop(server);
    let _ = std::fs::remove_dir_all(dir);
    acknowledged.iter().map(|a| a.load(Ordering::SeqCst) + 1).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_in_the_middle_of_commits() {
    let measure = Arc::new(measure().await);
    let lanes: Vec<_> = (0..LANES).map(|i| tokio::spawn(lane(i, measure.clone()))).collect();
    let mut documents = 0;
    for lane in lanes {
        documents += lane.await.expect("a lane kept its promises");
    }
    println!("{CYCLES} SIGKILLs among {documents} acknowledged documents: none lost, no half, order kept");
}

/// Creating tenants is all or nothing too (X08).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_while_tenants_are_created() {
    let mut server = Server::start("crash-create");
    let mut seed = Seed(42);
    let mut made: BTreeMap<String, bool> = BTreeMap::new();
    for cycle in 0..10 {
        let operator = server.operator().await;
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let acknowledged = Arc::new(AtomicI64::new(0));
        let counter = acknowledged.clone();
        let creating = tokio::spawn(async move {
            for i in 0.. {
                let name = format!("t{cycle}-{i}");
                let _ = told.send((name.clone(), false));
                let sql = format!("SELECT bulkhead.create_tenant('{name}', owner => 'owner', password => 'pw-owner')");
                if operator.batch_execute(&sql).await.is_err() {
                    return;
                }
                let _ = told.send((name, true));
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        // Some are made, however slow the machine is; then at any moment of the next.
        let some = 1 + i64::try_from(seed.below(3)).unwrap_or(0);
        while acknowledged.load(Ordering::SeqCst) < some {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(seed.below(60))).await;
        server.kill();
        creating.await.expect("no panic");
        while let Ok((name, done)) = heard.try_recv() {
            made.insert(name, done);
        }
        server.again();
        let operator = server.operator().await;
        let there: Vec<String> = rows(&operator, "SELECT name FROM bulkhead.tenants")
            .await
            .into_iter()
            .flatten()
            .collect();
        for (name, done) in &mut made {
            let exists = there.contains(name);
            assert!(exists || !*done, "LOST: tenant {name}");
            let login = connect(server.port, name, "owner", &password_of("owner")).await;
            assert_eq!(login.is_ok(), exists, "HALF a tenant: {name}");
            if !exists {
                let sql = format!("SELECT bulkhead.create_tenant('{name}', owner => 'owner', password => 'pw-owner')");
                operator
                    .batch_execute(&sql)
                    .await
                    .unwrap_or_else(|e| panic!("{name} cannot be made again: {e:?}"));
            }
            *done = true;
        }
    }
    assert!(made.len() > 10, "only {} tenants: the test tests nothing", made.len());
}
