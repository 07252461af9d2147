//! Sends what a log's clients sent, and judges each answer by the one in the log.
//!
//! A statement works if it succeeds with a tag of the same kind and the same columns (number, names, type OIDs) and
//! parameter types as in the log, and leaves the same transaction status; where the log has an error, the SQLSTATE is the
//! same. After a failure the transaction status of the log is restored, so that one failure is counted once.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;

use crate::common::raw::{self, Frame, Raw};
use crate::common::server::{PATIENCE, Server, password_of};

use super::log::{Heard, Said};
use super::oids::Oids;
use super::script::{Exchange, Step, Unit};

/// A statement that takes longer hangs.
const HANG: Duration = Duration::from_secs(45);
const _: () = assert!(HANG.as_secs() < PATIENCE.as_secs());
/// Rows sent for a COPY of which the log shows the first and the number.
const COPIED_ROWS: usize = 2_000;

/// One file's connections.
pub struct Run<'a> {
    pub server: &'a Server,
    pub tenant: &'a str,
    connections: HashMap<u32, Raw>,
    startups: HashMap<u32, Vec<(String, String)>>,
    oids: Oids,
}

/// What a message was answered with: frames up to the one that ends the answer.
struct Answer {
    frames: Vec<Frame>,
}

impl Answer {
    fn error(&self) -> Option<String> {
        let said = raw::message(&self.frames)?;
        Some(format!("{} {said}", raw::code(&self.frames).unwrap_or_default()))
    }
}

impl<'a> Run<'a> {
    pub fn new(server: &'a Server, tenant: &'a str) -> Self {
        let (connections, startups) = Default::default();
        Self {
            server,
            tenant,
            connections,
            startups,
            oids: Oids::default(),
        }
    }

    /// Sends one exchange and judges it.
    pub async fn exchange(&mut self, exchange: &Exchange, units: &mut [Unit]) {
        let who = exchange.who;
        if let [
            Step {
                said: Said::Startup(parameters),
                ..
            },
        ] = &exchange.steps[..]
        {
            self.startups.insert(who, parameters.clone());
            self.connections.remove(&who);
            return;
        }
        let Some(mut connection) = self.connection(who).await else {
            let failed = exchange.steps.iter().filter_map(|s| s.unit);
            failed.for_each(|unit| fail(units, Some(unit), || "no connection".to_owned()));
            return;
        };
        let heard = timeout(HANG, self.sent(&mut connection, exchange, units)).await;
        match heard {
            Ok(Some(status)) => {
                self.settle(&mut connection, exchange, status, units).await;
                self.connections.insert(who, connection);
            }
            Ok(None) => fail(units, first_open(exchange, units), || {
                "the server closed the connection".to_owned()
            }),
            Err(_) => fail(units, first_open(exchange, units), || "no answer in time".to_owned()),
        }
    }

    /// This connection, opened if it is not open.
    async fn connection(&mut self, who: u32) -> Option<Raw> {
        if let Some(open) = self.connections.remove(&who) {
            return Some(open);
        }
        let logged = self.startups.get(&who).cloned().unwrap_or_default();
        let mut parameters = vec![("user", "owner"), ("database", self.tenant)];
        let rest = logged.iter().filter(|(key, _)| key != "user" && key != "database");
        parameters.extend(rest.map(|(key, value)| (key.as_str(), value.as_str())));
        let mut connection = self.server.socket().await;
        match connection.login_with(&parameters, &password_of("owner")).await {
            Ok(_) => Some(connection),
            Err(frames) => {
                eprintln!("{}: c{who} cannot log in with {parameters:?}: {frames:?}", self.tenant);
                None
            }
        }
    }

    /// The transaction status after the exchange; none: the connection is closed.
    async fn sent(&mut self, connection: &mut Raw, exchange: &Exchange, units: &mut [Unit]) -> Option<char> {
        let copied = |s: &&Step| matches!(s.said, Said::CopyData(_) | Said::CopyDone(_));
        let messages = exchange
            .steps
            .iter()
            .filter(|s| !copied(s))
            .map(|s| self.oids.message(&s.said));
        let messages: Vec<Vec<u8>> = messages.collect();
        connection.say(&messages).await;
        let mut skipping = false;
        for step in exchange.steps.iter().filter(|s| !copied(s)) {
            if let Said::Query(_) = step.said {
                let copy: Vec<&Step> = exchange.steps.iter().filter(copied).collect();
                let frames = query(connection, &copy).await?;
                let status = status(&frames);
                self.judge_query(step, frames, units);
                return status;
            }
            if let Said::Sync = step.said {
                return status(&connection.until(b'Z').await);
            }
            if skipping {
                fail(units, step.unit, || {
                    "not reached: a statement sent with it failed".to_owned()
                });
                continue;
            }
            let answer = answer(connection, &step.said).await?;
            if let Some(error) = answer.error() {
                fail(units, step.unit, || error);
                skipping = true;
            } else {
                self.judge(step, &answer.frames, units);
            }
        }
        None
    }

    /// Compares transaction statuses, and brings about that of the log if another has come of a failure.
    async fn settle(&mut self, connection: &mut Raw, exchange: &Exchange, status: char, units: &mut [Unit]) {
        let logged = exchange
            .steps
            .iter()
            .flat_map(|s| &s.heard)
            .rev()
            .find_map(|h| match h {
                Heard::Ready(status) => Some(*status),
                _ => None,
            });
        let Some(logged) = logged.filter(|logged| *logged != status) else {
            return;
        };
        let last = exchange.steps.iter().rev().find_map(|s| s.unit);
        fail(units, last, || format!("transaction status {status}, not {logged}"));
        let repair = match (status, logged) {
            ('E', 'T') => "ROLLBACK; BEGIN",
            ('I', 'T') => "BEGIN",
            (_, 'I') => "ROLLBACK",
            _ => return,
        };
        connection.query(repair).await;
    }

    fn judge(&mut self, step: &Step, frames: &[Frame], units: &mut [Unit]) {
        let Some(last) = frames.last() else {
            return;
        };
        for heard in &step.heard {
            match heard {
                Heard::Parameters(logged) => {
                    let got = frames
                        .iter()
                        .find(|f| f.tag == b't')
                        .map(parameters)
                        .unwrap_or_default();
                    let wanted: Vec<u32> = logged.iter().map(|&oid| self.oids.ours(oid)).collect();
                    if wanted != got {
                        fail(units, step.unit, || format!("parameter types {got:?}, not {wanted:?}"));
                    }
                }
                Heard::Columns(logged) => self.judge_columns(step, Some(last), logged, units),
                Heard::NoData if last.tag == b'T' => {
                    fail(units, step.unit, || "has columns, the log has none".to_owned());
                }
                _ => {}
            }
        }
        if let Said::Execute(..) = step.said {
            self.judge_rows(step, &step.heard, frames, units);
            let logged = step.heard.iter().find_map(ending);
            self.judge_end(step, logged, ended(last), units);
        }
    }

    /// One simple query: its results in order.
    fn judge_query(&mut self, step: &Step, frames: Vec<Frame>, units: &mut [Unit]) {
        let answer = Answer { frames };
        let logged_error = step.heard.iter().find_map(|h| match h {
            Heard::Error(code) => Some(code.clone()),
            _ => None,
        });
        match (answer.error(), logged_error) {
            (Some(error), None) => return fail(units, step.unit, || error),
            (None, Some(code)) => return fail(units, step.unit, || format!("succeeds, the log has error {code}")),
            (Some(error), Some(code)) if !error.starts_with(&code) => {
                return fail(units, step.unit, || format!("{error}; the log has error {code}"));
            }
            _ => {}
        }
        if step.heard.is_empty() {
            return; // the log does not know the answer
        }
        let mut described = answer.frames.iter().filter(|f| f.tag == b'T');
        for heard in &step.heard {
            if let Heard::Columns(logged) = heard {
                let got = described.next();
                self.judge_columns(step, got, logged, units);
            }
        }
        self.judge_rows(step, &step.heard, &answer.frames, units);
        let mut ends = answer.frames.iter().filter(|f| b"CIs".contains(&f.tag));
        for logged in step.heard.iter().filter_map(ending) {
            self.judge_end(
                step,
                Some(logged),
                ends.next().map_or("nothing".to_owned(), ended),
                units,
            );
        }
    }

    fn judge_columns(&self, step: &Step, got: Option<&Frame>, logged: &[(String, u32)], units: &mut [Unit]) {
        let Some(got) = got.filter(|f| f.tag == b'T') else {
            return fail(units, step.unit, || "no columns, the log has some".to_owned());
        };
        let got: Vec<(String, u32)> = raw::columns(got).into_iter().map(|c| (c.name, c.oid)).collect();
        if got.len() != logged.len() {
            let (n, m) = (got.len(), logged.len());
            return fail(units, step.unit, || format!("{n} columns, not {m}"));
        }
        for (n, (got, logged)) in got.iter().zip(logged).enumerate() {
            let wanted = (logged.0.clone(), self.oids.ours(logged.1));
            if *got != wanted {
                let ((name, oid), (wanted_name, wanted_oid)) = (got, wanted);
                return fail(units, step.unit, || {
                    format!("column {} is {name}:{oid}, not {wanted_name}:{wanted_oid}", n + 1)
                });
            }
        }
    }

    fn judge_rows(&mut self, step: &Step, heard: &[Heard], frames: &[Frame], units: &mut [Unit]) {
        let Some(Heard::Row(logged)) = heard.iter().find(|h| matches!(h, Heard::Row(_))) else {
            return;
        };
        let copies = heard.iter().any(|h| matches!(h, Heard::CopyOut));
        match frames.iter().find(|f| f.tag == b'D') {
            Some(row) => self.oids.learn(logged, &raw::cells(row)),
            None if copies => {}
            None => remark(units, step.unit, "no rows, the log has some"),
        }
    }

    fn judge_end(&self, step: &Step, logged: Option<String>, got: String, units: &mut [Unit]) {
        let Some(logged) = logged else {
            return;
        };
        let kind = |tag: &str| {
            tag.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ')
                .to_owned()
        };
        let both_rows = |tag: &str| tag == "suspended" || tag.starts_with("SELECT");
        if kind(&logged) != kind(&got) && !(both_rows(&logged) && both_rows(&got)) {
            fail(units, step.unit, || format!("ends with {got}, not {logged}"));
        } else if logged != got {
            remark(units, step.unit, &format!("{got}, the log has {logged}"));
        }
    }
}

/// Records the first failure of a statement.
fn fail(units: &mut [Unit], unit: Option<usize>, reason: impl FnOnce() -> String) {
    if let Some(unit) = unit.and_then(|u| units.get_mut(u)) {
        unit.failure.get_or_insert_with(reason);
    }
}

fn remark(units: &mut [Unit], unit: Option<usize>, what: &str) {
    if let Some(unit) = unit.and_then(|u| units.get_mut(u)) {
        unit.remark.get_or_insert_with(|| what.to_owned());
    }
}

/// The statement of the exchange that has not failed yet.
fn first_open(exchange: &Exchange, units: &[Unit]) -> Option<usize> {
    let of_steps = || exchange.steps.iter().filter_map(|s| s.unit);
    of_steps().find(|&u| units[u].failure.is_none()).or(of_steps().next())
}

fn status(frames: &[Frame]) -> Option<char> {
    frames.last().filter(|f| f.tag == b'Z').map(|f| f.body[0] as char)
}

fn parameters(frame: &Frame) -> Vec<u32> {
    let oids = frame.body[2..].chunks_exact(4);
    oids.map(|o| u32::from_be_bytes(o.try_into().expect("four bytes")))
        .collect()
}

/// How a statement ended, from its last frame.
fn ended(frame: &Frame) -> String {
    match frame.tag {
        b'C' => String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned(),
        b's' => "suspended".to_owned(),
        b'I' => "empty".to_owned(),
        tag => format!("message {}", tag as char),
    }
}

fn ending(heard: &Heard) -> Option<String> {
    match heard {
        Heard::Complete(tag) => Some(tag.clone()),
        Heard::Suspended => Some("suspended".to_owned()),
        Heard::Empty => Some("empty".to_owned()),
        _ => None,
    }
}

/// The frames that answer one message of the extended protocol, its last one or an error at the end.
async fn answer(connection: &mut Raw, said: &Said) -> Option<Answer> {
    let ends: &[u8] = match said {
        Said::Parse { .. } => b"1E",
        Said::Bind { .. } => b"2E",
        Said::Close(..) => b"3E",
        Said::Describe(..) => b"TnE",
        Said::Execute(..) => b"CIsE",
        _ => return Some(Answer { frames: Vec::new() }),
    };
    let mut frames = Vec::new();
    loop {
        let frame = connection.frame().await?;
        let last = ends.contains(&frame.tag);
        frames.push(frame);
        if last {
            return Some(Answer { frames });
        }
    }
}

/// All frames that answer a simple query; a COPY is given the data of the log.
async fn query(connection: &mut Raw, copy: &[&Step]) -> Option<Vec<Frame>> {
    let mut frames = Vec::new();
    loop {
        let frame = connection.frame().await?;
        let tag = frame.tag;
        frames.push(frame);
        match tag {
            b'Z' => return Some(frames),
            b'G' => connection.say(&copied(copy)).await,
            _ => {}
        }
    }
}

/// The data of a COPY: as logged, and, where the log shows the first rows and their number, rows counted on.
fn copied(copy: &[&Step]) -> Vec<Vec<u8>> {
    let data: Vec<&Vec<u8>> = copy
        .iter()
        .filter_map(|s| match &s.said {
            Said::CopyData(data) => Some(data),
            _ => None,
        })
        .collect();
    let count = copy.iter().find_map(|s| match s.said {
        Said::CopyDone(count) => Some(count),
        _ => None,
    });
    let mut messages: Vec<Vec<u8>> = data.iter().map(|d| raw::message_of(b'd', d)).collect();
    for n in data.len() + 1..count.unwrap_or(0).min(COPIED_ROWS) {
        messages.push(raw::message_of(b'd', format!("{n}\t1\t0\t\n").as_bytes()));
    }
    messages.push(raw::message_of(b'c', &[]));
    messages
}
