//! The sqllogictest files of tests/slt, whose expectations PostgreSQL wrote (tests/slt/generate.py), on a real server:
//! rows as text, types of columns, numbers of changed rows, SQLSTATEs. Each file has a tenant of its own. What differs
//! must be listed in tests/slt/differences.txt with its reason, and what is listed must differ.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use common::reference::{Reference, judge, known};
use common::server::{Server, connect, password_of, state};
use common::{skipped, tests_dir};
use sqllogictest::{AsyncDB, ColumnType, DBOutput, Record, Runner, parse_file, strict_column_validator};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Fewer records than this are not what the files are for.
const LEAST_RECORDS: usize = 1_000;

/// A type as the letter that tests/slt/generate.py gives to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Letter(char);

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        Some(Self(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl Letter {
    fn of(ty: &Type) -> Self {
        Self(match *ty {
            Type::BOOL => 'B',
            Type::BYTEA => 'Y',
            Type::INT8 => 'L',
            Type::INT2 => 'S',
            Type::INT4 => 'I',
            Type::TEXT => 'T',
            Type::JSON => 'J',
            Type::FLOAT4 => 'R',
            Type::FLOAT8 => 'F',
            Type::BPCHAR => 'C',
            Type::VARCHAR => 'V',
            Type::DATE => 'D',
            Type::TIME => 'M',
            Type::TIMESTAMP => 'P',
            Type::TIMESTAMPTZ => 'Z',
            Type::INTERVAL => 'E',
            Type::NUMERIC => 'N',
            Type::UUID => 'U',
            Type::JSONB => 'K',
            Type::BOOL_ARRAY
            | Type::BYTEA_ARRAY
            | Type::INT8_ARRAY
            | Type::INT2_ARRAY
            | Type::INT4_ARRAY
            | Type::TEXT_ARRAY
            | Type::NUMERIC_ARRAY
            | Type::FLOAT4_ARRAY
            | Type::FLOAT8_ARRAY
            | Type::VARCHAR_ARRAY
            | Type::DATE_ARRAY
            | Type::TIMESTAMP_ARRAY
            | Type::TIMESTAMPTZ_ARRAY
            | Type::UUID_ARRAY
            | Type::JSONB_ARRAY => 'A',
            _ => 'X',
        })
    }
}

/// One session of the server.
struct Session(Client);

#[async_trait]
impl AsyncDB for Session {
    type Error = tokio_postgres::Error;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, Self::Error> {
        // The types are told by Describe; the simple protocol then gives every value as text.
        let described = self.0.prepare(sql).await?;
        let types: Vec<Letter> = described.columns().iter().map(|c| Letter::of(c.type_())).collect();
        let mut rows = Vec::new();
        let mut changed = 0;
        for message in self.0.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::Row(row) => rows.push((0..row.len()).map(|i| escaped(row.get(i))).collect()),
                SimpleQueryMessage::CommandComplete(n) => changed = n,
                _ => {}
            }
        }
        Ok(if types.is_empty() && rows.is_empty() {
            DBOutput::StatementComplete(changed)
        } else {
            DBOutput::Rows { types, rows }
        })
    }

    async fn shutdown(&mut self) {}

    fn error_sql_state(error: &Self::Error) -> Option<String> {
        Some(state(error))
    }
}

fn escaped(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n")
            .replace('\r', "\\r"),
    }
}

/// To the letter: no white space is trimmed and no column is joined to another.
fn same_rows(_: fn(&String) -> String, actual: &[Vec<String>], expected: &[String]) -> bool {
    actual.iter().map(|row| row.join("\t")).eq(expected.iter().cloned())
}

fn files() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(tests_dir().join("slt")).expect("our own folder");
    let mut files: Vec<PathBuf> = folder.map(|e| e.expect("an entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "slt"));
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// The SQL in one line, by which a record is named. One that comes again in a file is numbered.
fn name_of(sql: &str, seen: &mut BTreeMap<String, usize>) -> String {
    let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let n = seen.entry(sql.clone()).and_modify(|n| *n += 1).or_insert(1);
    if *n == 1 { sql } else { format!("{sql} ({n})") }
}

/// Runs a file: how many records it has, and those that came out otherwise.
async fn run(port: u16, database: &str, file: &Path) -> (usize, BTreeMap<String, String>) {
    let database = database.to_owned();
    let mut runner = Runner::new(move || {
        let database = database.clone();
        async move {
            let client = connect(port, &database, "owner", &password_of("owner")).await?;
            Ok(Session(client))
        }
    });
    runner.with_validator(same_rows);
    runner.with_column_validator(strict_column_validator);
    let records = parse_file::<Letter>(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let (mut count, mut seen, mut wrong) = (0, BTreeMap::new(), BTreeMap::new());
    for record in records {
        let sql = match &record {
            Record::Statement { sql, .. } | Record::Query { sql, .. } => Some(sql.clone()),
            _ => None,
        };
        let outcome = runner.run_async(record).await;
        let Some(sql) = sql else { continue };
        count += 1;
        let name = name_of(&sql, &mut seen);
        if let Err(error) = outcome {
            let told = error.display(false).to_string();
            wrong.insert(name, format!("  {}", told.trim().replace('\n', "\n  ")));
        }
    }
    (count, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulkhead_answers_as_postgresql() {
    let mut server = Server::start("slt");
    server.widen_tiers().await;
    let list = tests_dir().join("slt/differences.txt");
    let (mut total, mut differ, mut complaints) = (0, 0, Vec::new());
    for file in files() {
        let stem = stem(&file);
        let tenant = stem.replace('_', "-");
        server.create_tenants(&[&tenant]).await;
        let (count, wrong) = run(server.port, &tenant, &file).await;
        eprintln!("{stem}: {} of {count} records as PostgreSQL", count - wrong.len());
        total += count;
        differ += wrong.len();
        let judged = judge(&wrong, &known(&list, &stem));
        complaints.extend(judged.into_iter().map(|c| format!("{stem}: {c}")));
    }
    server.assert_alive();
    assert!(total >= LEAST_RECORDS, "only {total} records");
    assert!(
        complaints.is_empty(),
        "{} complaints; {differ} of {total} records differ\n\n{}",
        complaints.len(),
        complaints.join("\n\n")
    );
}

/// That the files say what PostgreSQL says, and that this program can tell: the runner above, on PostgreSQL itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_answers_as_the_files_say() {
    let reference = match Reference::shared() {
        Ok(reference) => reference,
        Err(why) => return skipped(&format!("the files on PostgreSQL: {why}")),
    };
    for file in files() {
        let database = format!("slt_{}", stem(&file));
        reference.database(&database).await;
        let (count, wrong) = run(reference.port, &database, &file).await;
        let shown: Vec<String> = wrong.iter().map(|(sql, how)| format!("{sql}\n{how}")).collect();
        assert!(
            count > 0 && wrong.is_empty(),
            "{}:\n{}",
            file.display(),
            shown.join("\n")
        );
    }
}
