//! PostgreSQL beside the server under test: the same script runs against both, and what they print is compared.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use super::server::{connect, fresh_dir};
use super::{tests_dir, tools};

/// PostgreSQL 16 with pgvector from the package pgserver; it ends with this value, or with this process.
pub struct Reference {
    pub port: u16,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Reference {
    /// On a directory of its own; `durable` as one runs it in earnest, else without fsync. An error is a reason to skip.
    pub fn start(durable: bool) -> Result<Self, String> {
        let python = tools::python()?;
        let mut command = Command::new(python);
        command
            .args(["-W", "ignore"])
            .arg(tests_dir().join("clients/reference.py"))
            .arg(fresh_dir("reference"))
            .args(durable.then_some("durable"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("python runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("read");
        let port = line.trim().strip_prefix("listening on ").and_then(|p| p.parse().ok());
        let Some(port) = port else {
            panic!("PostgreSQL did not start: {line:?} {:?}", child.wait());
        };
        let stdin = child.stdin.take();
        Ok(Self { port, child, stdin })
    }

    /// One for all tests of this process.
    pub fn shared() -> Result<&'static Self, &'static str> {
        static SHARED: OnceLock<Result<Reference, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(false))
            .as_ref()
            .map_err(String::as_str)
    }

    /// A new database of `owner`.
    pub async fn database(&self, name: &str) {
        let admin = connect(self.port, "postgres", "postgres", "pw-postgres").await;
        let admin = admin.expect("PostgreSQL takes connections");
        for sql in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name} OWNER owner"),
        ] {
            admin.batch_execute(&sql).await.expect("a database of our own");
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a script saw: a key and a value a line. A key that comes again is numbered.
pub type Transcript = BTreeMap<String, String>;

/// Reads the lines `key<TAB>value`; lines without a tab belong to the value before them.
pub fn transcript(text: &str) -> Transcript {
    let mut found = Transcript::new();
    let mut last = None;
    for line in text.lines() {
        let Some((key, value)) = line.split_once('\t') else {
            if let Some(value) = last.as_ref().and_then(|key| found.get_mut(key)) {
                let value: &mut String = value;
                value.push('\n');
                value.push_str(line);
            }
            continue;
        };
        let numbered = |n: usize| if n == 1 { key.to_owned() } else { format!("{key} ({n})") };
        let free = (1..).map(numbered).find(|k| !found.contains_key(k));
        let key = free.expect("there is always another number");
        found.insert(key.clone(), value.to_owned());
        last = Some(key);
    }
    found
}

/// The keys under which the two differ, each with what was expected and what came.
pub fn differences(expected: &Transcript, actual: &Transcript) -> BTreeMap<String, String> {
    let keys: std::collections::BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    keys.into_iter()
        .filter(|key| expected.get(*key) != actual.get(*key))
        .map(|key| {
            let value = |t: &Transcript| t.get(key).map_or("(nothing)", String::as_str).to_owned();
            (
                key.clone(),
                format!("  PostgreSQL: {}\n  Bulkhead:   {}", value(expected), value(actual)),
            )
        })
        .collect()
}

/// A list of known differences: `group<TAB>key<TAB>reason` a line, `#` begins a remark.
pub fn known(list: &Path, group: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(list).unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut found = BTreeMap::new();
    for line in lines {
        let parts: Vec<&str> = line.split('\t').collect();
        let [of, key, reason] = parts[..] else {
            panic!("{}: not three parts: {line}", list.display());
        };
        assert!(!reason.trim().is_empty(), "{}: no reason: {line}", list.display());
        if of == group {
            found.insert(key.to_owned(), reason.to_owned());
        }
    }
    found
}

/// Complaints: differences that are not known, and known ones that are none.
pub fn judge(found: &BTreeMap<String, String>, known: &BTreeMap<String, String>) -> Vec<String> {
    let unknown = found
        .iter()
        .filter(|(key, _)| !known.contains_key(*key))
        .map(|(key, how)| format!("{key}\n{how}"));
    let stale = known
        .keys()
        .filter(|key| !found.contains_key(*key))
        .map(|key| format!("{key}\n  is listed as different and is not: take it off the list"));
    unknown.chain(stale).collect()
}
