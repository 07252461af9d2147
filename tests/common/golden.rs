//! Golden scripts: `session> SQL;` and under it what must come back. One script, one promise.
//!
//! A session is named `tenant`, `tenant/user` or `tenant/user#2`; `tenant` alone is its owner, `bulkhead` the operator.
//! Tenants that a script mentions exist before it starts, unless it creates them itself. `\c` in place of a
//! statement ends a session; its name's next use logs in anew. A user's password is `pw-` and the name.
//!
//! Expected lines: for rows `a|b` of column names, one line a row, `(n rows)` (only that where there are none); for a
//! failure `ERROR 42P01` or, where the text is promised too, `ERROR 42P01: text`; for a command its tag, or nothing.
//! Ids and times of the run are `{uuid}`, `{time}`, `{today}`. `BULKHEAD_BLESS=1` writes what came into the scripts.
//!
//! The runner knows its server only as [`World`] and [`Speaker`], so that the same scripts run in process too.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::picture::masked;
use super::raw::{Frame, Raw, cells, columns, fields};
use super::server::{Server, password_of};

/// What came back for one piece of SQL text, in order.
pub type Outcome = Vec<Part>;

/// Values of one row as text; none is NULL.
pub type Row = Vec<Option<String>>;

/// One part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A result set, each value as PostgreSQL's text of it.
    Rows {
        columns: Vec<String>,
        rows: Vec<Vec<Option<String>>>,
    },
    /// The tag of a command without rows.
    Done(String),
    /// A notice or warning.
    Notice {
        severity: String,
        code: String,
        message: String,
    },
    /// The failure that ended it.
    Error { code: String, message: String },
}

/// A session that runs SQL text as a simple query does.
#[allow(async_fn_in_trait)]
pub trait Speaker {
    /// Runs the text and returns all that came back.
    async fn run(&mut self, sql: &str) -> Outcome;
}

/// A server, or its engine without the sockets.
#[allow(async_fn_in_trait)]
pub trait World {
    /// Its sessions.
    type Speaker: Speaker;
    /// Creates a tenant with a user `owner`.
    async fn create_tenant(&mut self, name: &str);
    /// A new session. Err: the login failed with this.
    async fn open(&mut self, tenant: &str, user: &str) -> Result<Self::Speaker, Part>;
}

impl Speaker for Raw {
    async fn run(&mut self, sql: &str) -> Outcome {
        let frames = self.query(sql).await;
        let mut parts = Vec::new();
        let mut open: Option<(Vec<String>, Vec<Row>)> = None;
        for frame in &frames {
            match frame.tag {
                b'T' => open = Some((columns(frame).into_iter().map(|c| c.name).collect(), Vec::new())),
                b'D' => {
                    let text = |c: Option<Vec<u8>>| c.map(|b| String::from_utf8_lossy(&b).into_owned());
                    let row = cells(frame).into_iter().map(text).collect();
                    open.as_mut().expect("a row comes after its description").1.push(row);
                }
                b'C' => match open.take() {
                    Some((columns, rows)) => parts.push(Part::Rows { columns, rows }),
                    None => parts.push(Part::Done(String::from_utf8_lossy(&frame.body).replace('\0', ""))),
                },
                b'E' | b'N' => parts.push(complaint(frame)),
                _ => {}
            }
        }
        if frames.last().is_none_or(|f| f.tag != b'Z') {
            parts.push(Part::Error {
                code: "closed".to_owned(),
                message: "the connection ended".to_owned(),
            });
        }
        parts
    }
}

fn complaint(frame: &Frame) -> Part {
    let mut of = fields(frame);
    let mut take = |c| of.remove(&c).unwrap_or_default();
    let (severity, code, message) = (take('S'), take('C'), take('M'));
    if frame.tag == b'E' {
        Part::Error { code, message }
    } else {
        Part::Notice {
            severity,
            code,
            message,
        }
    }
}

/// A real server over real sockets.
pub struct Sockets(pub Server);

impl World for Sockets {
    type Speaker = Raw;

    async fn create_tenant(&mut self, name: &str) {
        self.0.create_tenants(&[name]).await;
    }

    async fn open(&mut self, tenant: &str, user: &str) -> Result<Raw, Part> {
        let mut raw = self.0.socket().await;
        match raw.login(tenant, user, &password_of(user)).await {
            Ok(_) => Ok(raw),
            Err(frames) => Err(complaint(frames.last().expect("a refused login gets a reason"))),
        }
    }
}

/// A line of a script and what belongs to it.
enum Step {
    /// Kept as it is.
    Prose(String),
    Statement {
        session: String,
        sql: String,
        expected: Vec<String>,
        line: usize,
    },
}

fn prompt(line: &str) -> Option<(&str, &str)> {
    let (name, sql) = line.split_once('>')?;
    let named = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-/#".contains(c));
    named.then(|| (name, sql.trim_start()))
}

fn read(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open = false; // within a statement that has not ended yet
    let mut expecting = false;
    for (i, line) in text.lines().enumerate() {
        match (steps.last_mut(), prompt(line)) {
            (Some(Step::Statement { sql, .. }), _) if open => {
                sql.push('\n');
                sql.push_str(line);
                open = !line.trim_end().ends_with(';');
                expecting = !open;
            }
            (_, Some((session, sql))) => {
                open = !sql.trim_end().ends_with(';') && sql.trim() != "\\c";
                expecting = !open;
                let (session, sql) = (session.to_owned(), sql.to_owned());
                steps.push(Step::Statement {
                    session,
                    sql,
                    expected: Vec::new(),
                    line: i + 1,
                });
            }
            (Some(Step::Statement { expected, .. }), None)
                if expecting && !line.is_empty() && !line.starts_with('#') =>
            {
                expected.push(line.to_owned());
            }
            _ => {
                expecting = false;
                steps.push(Step::Prose(line.to_owned()));
            }
        }
    }
    steps
}

fn shown(value: Option<&String>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() => "''".to_owned(),
        Some(text) => masked(text).replace('\\', "\\\\").replace('\n', "\\n"),
    }
}

/// The outcome as lines, with as much detail as the script asks for.
fn lines(outcome: &Outcome, expected: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for part in outcome {
        match part {
            Part::Rows { columns, rows } => {
                if !rows.is_empty() {
                    lines.push(columns.join("|"));
                }
                lines.extend(
                    rows.iter()
                        .map(|r| r.iter().map(|v| shown(v.as_ref())).collect::<Vec<_>>().join("|")),
                );
                lines.push(format!(
                    "({} row{})",
                    rows.len(),
                    if rows.len() == 1 { "" } else { "s" }
                ));
            }
            Part::Done(_) if expected.is_empty() && outcome.len() == 1 => {}
            Part::Done(tag) => lines.push(tag.clone()),
            Part::Notice {
                severity,
                code,
                message,
            } => lines.push(format!("{severity} {code}: {}", masked(message))),
            Part::Error { code, message } => {
                let short = format!("ERROR {code}");
                let text_promised = expected.iter().any(|e| e.starts_with("ERROR ") && e.contains(": "));
                lines.push(if text_promised {
                    format!("{short}: {}", masked(message))
                } else {
                    short
                });
            }
        }
    }
    lines
}

/// `tenant/user#2` as tenant and user.
fn who(session: &str) -> (&str, &str) {
    let session = session.split('#').next().unwrap_or(session);
    match session.split_once('/') {
        Some((tenant, user)) => (tenant, user),
        None if session == "bulkhead" => ("bulkhead", "admin"),
        None => (session, "owner"),
    }
}

/// Every script of `tests/golden`, in order of name.
pub fn scripts() -> Vec<PathBuf> {
    let dir = super::tests_dir().join("golden");
    let mut all: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "sql"))
        .collect();
    all.sort();
    all
}

/// Runs one script in a world of its own. Err: each difference, as a reader wants it.
pub async fn run<W: World>(script: &Path, world: &mut W) -> Result<(), String> {
    let bless = std::env::var_os("BULKHEAD_BLESS").is_some();
    let text = std::fs::read_to_string(script).unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    let steps = read(&text);
    for tenant in mentioned(&steps, &text) {
        world.create_tenant(&tenant).await;
    }
    let mut sessions: HashMap<String, W::Speaker> = HashMap::new();
    let (mut blessed, mut wrong, mut ran) = (String::new(), String::new(), 0);
    for step in steps {
        let (session, sql, expected, line) = match step {
            Step::Prose(line) => {
                let _ = writeln!(blessed, "{line}");
                continue;
            }
            Step::Statement {
                session,
                sql,
                expected,
                line,
            } => (session, sql, expected, line),
        };
        let _ = writeln!(blessed, "{session}> {sql}");
        if sql.trim() == "\\c" {
            sessions.remove(&session);
            continue;
        }
        ran += 1;
        let opened = match sessions.remove(&session) {
            Some(speaker) => Ok(speaker),
            None => world.open(who(&session).0, who(&session).1).await,
        };
        let outcome = match opened {
            Err(refused) => vec![refused],
            Ok(mut speaker) => {
                let outcome = speaker.run(&sql).await;
                sessions.insert(session.clone(), speaker);
                outcome
            }
        };
        let came = lines(&outcome, &expected);
        came.iter().for_each(|l| {
            let _ = writeln!(blessed, "{l}");
        });
        if came != expected {
            let at = script.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(
                wrong,
                "{at}:{line}: {session}> {sql}\n  expected:\n    {}\n  came:\n    {}\n  in full: {outcome:?}",
                expected.join("\n    "),
                came.join("\n    ")
            );
        }
    }
    assert!(ran > 0, "{} has no statement", script.display());
    if bless {
        std::fs::write(script, blessed).unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        return Ok(());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// The tenants to create before the script starts.
fn mentioned(steps: &[Step], text: &str) -> Vec<String> {
    let mut tenants: Vec<String> = Vec::new();
    for step in steps {
        let Step::Statement { session, .. } = step else {
            continue;
        };
        let tenant = who(session).0;
        let made_later =
            text.contains(&format!("create_tenant('{tenant}'")) || text.contains(&format!("# no tenant {tenant}"));
        if tenant != "bulkhead" && !made_later && !tenants.iter().any(|t| t == tenant) {
            tenants.push(tenant.to_owned());
        }
    }
    tenants
}
