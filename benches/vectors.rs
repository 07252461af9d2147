//! Vector search in process: recall beside latency, for every method; builds, filters, deletions,
//! inserts while searching, memory; beside hnswlib where python3 has it.
//!
//! `cargo bench --bench vectors [-- NAME...]`, where a NAME is one of `debian10k`, `debian`,
//! `clustered10k`, `clustered100k`, `random10k`, `kernels`; without one, all but `debian`. The Debian
//! embeddings are read from `../shared/data` and said to be skipped where that is absent. Times are
//! medians over queries of the fastest of several passes: other work on a machine only adds to them.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead::vector::{Cancel, Embedding, Filter, Method, Metric, Options, RowSet, Shard};

const SEED: u64 = 20_240_601;
const DIMENSIONS: usize = 384;
const K: usize = 10;
const QUERIES: usize = 500;
const PASSES: usize = 5;
/// After this long no further pass begins.
const LONGEST: Duration = Duration::from_secs(4);
const BLOCK: usize = 1000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runs = |name: &str| match wanted.is_empty() {
        true => name != "debian",
        false => wanted.iter().any(|wanted| wanted == name),
    };
    println!("seed {SEED}, {DIMENSIONS} dimensions, nearest {K} by cosine, {QUERIES} queries, best of {PASSES} passes");
    if runs("kernels") {
        kernels();
    }
    for (name, rows) in [("debian10k", 10_000), ("debian", usize::MAX)] {
        if runs(name) {
            match debian(rows) {
                Some(data) => run(name, &data),
                None => println!("\n{name}: SKIPPED, ../shared/data/debian.f16 is not there"),
            }
        }
    }
    for (name, rows) in [("clustered10k", 10_000), ("clustered100k", 100_000)] {
        if runs(name) {
            run(name, &clustered(rows));
        }
    }
    if runs("random10k") {
        run("random10k", &random(10_000));
    }
}

struct Data {
    rows: Vec<Embedding>,
    queries: Vec<Embedding>,
}

/// A generator of uniform and normal numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        let (a, b) = (self.uniform().max(1e-12), self.uniform());
        ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

fn embedding(mut values: Vec<f32>) -> Embedding {
    let length = values.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    values.iter_mut().for_each(|x| *x /= length);
    Embedding::new(values).expect("finite numbers")
}

/// Sixty-four topics, each spread in a space of forty-eight directions that all topics share, as
/// embeddings of short texts are.
fn clustered(rows: usize) -> Data {
    const TOPICS: usize = 64;
    const DIRECTIONS: usize = 48;
    let mut numbers = Numbers(SEED);
    let topics: Vec<Vec<f32>> = (0..TOPICS).map(|_| numbers.normals(DIMENSIONS)).collect();
    let directions: Vec<Vec<f32>> = (0..DIRECTIONS).map(|_| numbers.normals(DIMENSIONS)).collect();
    let mut one = || {
        let topic = &topics[numbers.next() as usize % TOPICS];
        let mut values: Vec<f32> = topic.iter().map(|x| x * 0.5).collect();
        for direction in &directions {
            let along = numbers.normal() / (DIRECTIONS as f32).sqrt() * 0.9;
            values.iter_mut().zip(direction).for_each(|(x, y)| *x += along * y);
        }
        values.iter_mut().for_each(|x| *x += numbers.normal() * 0.2);
        embedding(values)
    };
    Data {
        rows: (0..rows).map(|_| one()).collect(),
        queries: (0..QUERIES).map(|_| one()).collect(),
    }
}

fn random(rows: usize) -> Data {
    let mut numbers = Numbers(SEED);
    let mut one = || embedding(numbers.normals(DIMENSIONS));
    Data {
        rows: (0..rows).map(|_| one()).collect(),
        queries: (0..QUERIES).map(|_| one()).collect(),
    }
}

/// Rows spread evenly over the Debian packages; queries are the held-out descriptions.
fn debian(rows: usize) -> Option<Data> {
    let read = |name: &str| {
        let bytes = fs::read(Path::new("../shared/data").join(name)).ok()?;
        let numbers = bytes
            .chunks_exact(2)
            .map(|pair| half(u16::from_le_bytes([pair[0], pair[1]])));
        let numbers: Vec<f32> = numbers.collect();
        Some(
            numbers
                .chunks_exact(DIMENSIONS)
                .map(|row| embedding(row.to_vec()))
                .collect::<Vec<_>>(),
        )
    };
    let all = read("debian.f16")?;
    let queries = read("debian-queries.f16")?;
    let step = (all.len() / rows.min(all.len())).max(1);
    Some(Data {
        rows: all.into_iter().step_by(step).take(rows).collect(),
        queries: queries.into_iter().step_by(4).take(QUERIES).collect(),
    })
}

fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// Distance of each query's k-th nearest row that passes, and how many pass.
fn truths(data: &Data, passes: &dyn Fn(u64) -> bool) -> Vec<(f64, usize)> {
    let truth = |query: &Embedding| {
        let rows = (0u64..).zip(&data.rows).filter(|(id, _)| passes(*id));
        let mut all: Vec<f64> = rows
            .map(|(_, row)| Metric::Cosine.distance(query.as_slice(), row.as_slice()))
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        (
            all.get(K.min(all.len()).wrapping_sub(1)).copied().unwrap_or(-1.0),
            K.min(all.len()),
        )
    };
    data.queries.iter().map(truth).collect()
}

struct Outcome {
    recall: f64,
    p50: f64,
    p99: f64,
    rows: usize,
}

fn measure(shard: &Shard, data: &Data, options: &Options, truths: &[(f64, usize)]) -> Outcome {
    let (mut found, mut wanted, mut rows) = (0, 0, 0);
    let mut best: Option<(f64, f64)> = None;
    let begun = Instant::now();
    for pass in 0..PASSES {
        let mut times: Vec<f64> = Vec::with_capacity(data.queries.len());
        for (query, (farthest, count)) in data.queries.iter().zip(truths) {
            let start = Instant::now();
            let hits = std::hint::black_box(shard.search(query.as_slice(), K, options).expect("a search"));
            times.push(start.elapsed().as_nanos() as f64 / 1e3);
            if pass == 0 {
                rows += hits.len();
                let near = hits.iter().filter(|hit| hit.distance <= farthest + 1e-9);
                found += near.count().min(*count);
                wanted += count;
            }
        }
        times.sort_unstable_by(f64::total_cmp);
        let now = (times[times.len() / 2], times[times.len() * 99 / 100]);
        best = Some(best.map_or(now, |best| if now.0 < best.0 { now } else { best }));
        if begun.elapsed() > LONGEST {
            break;
        }
    }
    let (p50, p99) = best.unwrap_or_default();
    Outcome {
        recall: f64::from(found as u32) / f64::from(wanted.max(1) as u32),
        p50,
        p99,
        rows,
    }
}

fn show(what: &str, outcome: &Outcome) {
    let Outcome { recall, p50, p99, rows } = outcome;
    println!("  {what:<34} recall {recall:.4}  p50 {p50:>8.1} us  p99 {p99:>8.1} us  rows {rows}");
}

fn run(name: &str, data: &Data) {
    println!("\n{name}: {} rows", data.rows.len());
    let truth = truths(data, &|_| true);
    let shard = Shard::new(Metric::Cosine, DIMENSIONS);
    let rows: Vec<(u64, Embedding)> = (0..).zip(data.rows.iter().cloned()).collect();
    let start = Instant::now();
    rows.chunks(BLOCK)
        .for_each(|rows| shard.insert(rows).expect("an insert"));
    println!("  inserted {:.0} rows/s", rate(data, start));
    let all = Options::default();
    let with = |method| Options {
        method: Some(method),
        ..all
    };
    show("exact", &measure(&shard, data, &with(Method::Exact), &truth));
    let start = Instant::now();
    while shard.due() == Some(bulkhead::vector::Due::Code) {
        shard.work(&Cancel::new(), None).expect("coding");
    }
    let start = if shard.due().is_some() {
        let start = Instant::now();
        assert!(shard.build(&Cancel::new(), None).expect("a build"));
        start
    } else {
        start
    };
    println!("  built {:.0} rows/s", rate(data, start));
    let memory = shard.memory();
    let raw = DIMENSIONS * size_of::<f32>();
    println!(
        "  {:.0} bytes a row, {:.2} x the vectors",
        memory.per_row(),
        memory.per_row() / raw as f64
    );
    show("codes", &measure(&shard, data, &with(Method::Codes), &truth));
    for ef in [16, 24, 32, 40, 64, 100, 150, 200] {
        let options = Options {
            ef: Some(ef),
            ..with(Method::Graph)
        };
        show(&format!("graph, ef {ef}"), &measure(&shard, data, &options, &truth));
    }
    for recall in [0.99, 0.995, 0.999] {
        let options = Options { recall, ..all };
        let (_, trace) = shard
            .search_traced(data.queries[0].as_slice(), K, &options)
            .expect("a search");
        let what = format!("as it chooses for recall {recall}");
        show(&what, &measure(&shard, data, &options, &truth));
        println!("    {trace:?}");
    }
    filters(&shard, data);
    sealed(&shard, data, &rows, &truth);
    deletes(&shard, data);
    inserts(&shard, data);
    hnswlib(data, &truth);
}

fn rate(data: &Data, start: Instant) -> f64 {
    data.rows.len() as f64 / start.elapsed().as_secs_f64()
}

fn filters(shard: &Shard, data: &Data) {
    for percent in [0.01, 1.0, 10.0, 50.0] {
        let mut numbers = Numbers(SEED + 1);
        let count = data.rows.len() as u64;
        let set: RowSet = (0..count).filter(|_| numbers.uniform() * 100.0 < percent).collect();
        let truth = truths(data, &|id| set.contains(id));
        for method in [None, Some(Method::Exact)] {
            let options = Options {
                filter: Some(Filter::Rows(&set)),
                method,
                ..Options::default()
            };
            let (_, trace) = shard
                .search_traced(data.queries[0].as_slice(), K, &options)
                .expect("a search");
            let what = format!("filter {percent} %, {:?}", trace.method.unwrap_or(Method::Exact));
            show(&what, &measure(shard, data, &options, &truth));
        }
    }
}

fn sealed(shard: &Shard, data: &Data, rows: &[(u64, Embedding)], truth: &[(f64, usize)]) {
    let start = Instant::now();
    let Some(bytes) = shard.sealed() else { return };
    println!("  sealed {} bytes in {:?}", bytes.len(), start.elapsed());
    let start = Instant::now();
    let all = rows.iter().map(|(id, embedding)| (*id, embedding));
    let opened = Shard::open(Metric::Cosine, DIMENSIONS, &bytes, all).expect("sealed bytes");
    println!(
        "  opened with rows in {:?}, {} in the graph",
        start.elapsed(),
        opened.in_graph()
    );
    let ids: RowSet = rows.iter().map(|(id, _)| *id).collect();
    let start = Instant::now();
    let lean = Shard::open_codes(Metric::Cosine, DIMENSIONS, &bytes, &ids).expect("sealed bytes");
    println!("  opened codes only in {:?}", start.elapsed());
    let raw = DIMENSIONS * size_of::<f32>();
    let memory = lean.memory();
    println!(
        "  {:.0} bytes a row, {:.2} x the vectors",
        memory.per_row(),
        memory.per_row() / raw as f64
    );
    let fetch = |ids: &[u64], give: &mut dyn FnMut(usize, &[f32])| {
        for (place, id) in ids.iter().enumerate() {
            give(place, rows[*id as usize].1.as_slice());
        }
        Ok(())
    };
    let options = Options {
        fetch: Some(&fetch),
        ..Options::default()
    };
    show("codes only, vectors fetched", &measure(&lean, data, &options, truth));
}

/// One row in seven is deleted; then searched.
fn deletes(shard: &Shard, data: &Data) {
    let gone: Vec<u64> = (0..data.rows.len() as u64).filter(|id| id % 7 == 3).collect();
    let start = Instant::now();
    let count = shard.remove(&gone);
    println!("  deleted {count} in {:?}", start.elapsed());
    let truth = truths(data, &|id| id % 7 != 3);
    show(
        "one in seven deleted",
        &measure(shard, data, &Options::default(), &truth),
    );
    let back: Vec<(u64, Embedding)> = gone.iter().map(|id| (*id, data.rows[*id as usize].clone())).collect();
    shard.insert(&back).expect("an insert");
}

/// Searches while another thread writes and codes as fast as it can.
fn inserts(shard: &Shard, data: &Data) {
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0usize;
            while !ends.load(Ordering::Relaxed) {
                let id = (data.rows.len() + written % 20_000) as u64;
                let row = data.rows[written * 31 % data.rows.len()].clone();
                shard.insert(&[(id, row)]).expect("an insert");
                written += 1;
                if written.is_multiple_of(1024) && shard.due() == Some(bulkhead::vector::Due::Code) {
                    shard.work(&Cancel::new(), None).expect("coding");
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            written
        });
        let mut times: Vec<f64> = Vec::new();
        for query in data.queries.iter().cycle().take(4 * QUERIES) {
            let start = Instant::now();
            std::hint::black_box(
                shard
                    .search(query.as_slice(), K, &Options::default())
                    .expect("a search"),
            );
            times.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        ends.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer");
        times.sort_unstable_by(f64::total_cmp);
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("  while {written} rows were inserted        p50 {p50:>8.1} us  p99 {p99:>8.1} us");
    });
}

/// The same data, queries and sizes in hnswlib, one thread.
fn hnswlib(data: &Data, truth: &[(f64, usize)]) {
    const SCRIPT: &str = r"
import sys, time
try:
    import hnswlib, numpy as np
except ImportError:
    print('  hnswlib: SKIPPED, python3 has no hnswlib and numpy'); sys.exit()
folder, n, q, d, k = sys.argv[1], *map(int, sys.argv[2:6])
rows = np.fromfile(folder + '/rows', '<f4').reshape(n, d)
queries = np.fromfile(folder + '/queries', '<f4').reshape(q, d)
far = np.fromfile(folder + '/truth', '<f8')
index = hnswlib.Index('cosine', d)
index.init_index(n, M=16, ef_construction=200, random_seed=1)
index.set_num_threads(1)
t = time.perf_counter(); index.add_items(rows, num_threads=1); t = time.perf_counter() - t
print(f'  hnswlib built {n / t:.0f} rows/s')
for ef in (16, 24, 32, 40, 64, 100, 150, 200):
    index.set_ef(ef)
    found = 0
    for i in range(q):
        _, dist = index.knn_query(queries[i:i+1], k, num_threads=1)
        found += int((dist[0] <= far[i] + 1e-6).sum())
    best = 1e9
    for _ in range(5):
        times = []
        for i in range(q):
            one = queries[i:i+1]
            t = time.perf_counter(); index.knn_query(one, k, num_threads=1); times.append(time.perf_counter() - t)
        best = min(best, sorted(times)[q // 2])
    what = f'hnswlib, ef {ef}'
    print(f'  {what:<34} recall {min(found, q * k) / (q * k):.4f}  p50 {best * 1e6:8.1f} us')
";
    let folder = tempfile::tempdir().expect("a directory");
    let write = |name: &str, rows: &[Embedding]| {
        let mut file = fs::File::create(folder.path().join(name)).expect("a file");
        rows.iter()
            .for_each(|row| file.write_all(&row.to_le_bytes()).expect("space"));
    };
    write("rows", &data.rows);
    write("queries", &data.queries);
    let far: Vec<u8> = truth.iter().flat_map(|(far, _)| far.to_le_bytes()).collect();
    fs::write(folder.path().join("truth"), far).expect("a file");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let sizes = [data.rows.len(), data.queries.len(), DIMENSIONS, K].map(|n| n.to_string());
    let mut command = Command::new(python);
    command.arg("-c").arg(SCRIPT).arg(folder.path()).args(sizes);
    match command.output() {
        Ok(output) => print!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => println!("  hnswlib: SKIPPED, there is no python3"),
    }
}

fn kernels() {
    println!("\nkernels, nanoseconds a vector in the processor's cache");
    for line in bulkhead::vector::kernel_timings(DIMENSIONS) {
        println!("  {line}");
    }
}
