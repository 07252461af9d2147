//! What was measured, as the page `tests/clients/COMPATIBILITY.md`, and that page read back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::script::Unit;

/// Longest text of a statement in a list.
const SHOWN: usize = 160;

/// One file.
pub struct Client {
    pub name: String,
    pub units: Vec<Unit>,
    /// Statements of the fixture that failed: the file ran on less than its clients had.
    pub unprepared: Vec<String>,
}

impl Client {
    pub fn working(&self) -> usize {
        self.units.iter().filter(|u| u.failure.is_none()).count()
    }
}

/// White space folded, cut to a readable length, and nothing that would end a table's cell.
fn shown(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short.replace('|', "\\|").replace('`', "'")
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// The page: a table of counts, and every statement that does not work, with the reason.
pub fn page(clients: &[Client]) -> String {
    let mut out = String::from(
        "# What clients send, and how much of it works\n\n\
         Written by `BULKHEAD_REPLAY_WRITE=1 cargo test --test replay`; the same test fails if a client gets worse. Every\n\
         statement of the wire logs in `../shared/clients` is sent again as it was sent, by the simple or the extended\n\
         protocol with the parameter types and values of the log. It works if it succeeds with a tag of the same kind, the\n\
         same columns (number, names, type OIDs) and parameter types and leaves the same transaction status; an error in\n\
         the log must be an error with the same SQLSTATE.\n\n\
         | client | statements | work | share |\n|---|---|---|---|\n",
    );
    let (mut all, mut working) = (0, 0);
    for client in clients {
        let (n, w) = (client.units.len(), client.working());
        let _ = writeln!(out, "| {} | {n} | {w} | {} |", client.name, percent(w, n));
        (all, working) = (all + n, working + w);
    }
    let _ = writeln!(out, "| all | {all} | {working} | {} |", percent(working, all));
    out.push_str("\n## What does not work\n\n| client, line | statement | reason |\n|---|---|---|\n");
    for client in clients {
        for unit in &client.units {
            if let Some(reason) = &unit.failure {
                let (sql, reason) = (shown(&unit.sql), shown(reason));
                let _ = writeln!(out, "| {} {} | `{sql}` | {reason} |", client.name, unit.line);
            }
        }
    }
    out
}

/// Statements that work, per client, in a page.
pub fn counts(page: &str) -> BTreeMap<String, usize> {
    let cells = page.lines().map(|l| l.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .filter_map(|c| match c[..] {
            ["", name, total, working, _, ""] if total.parse::<usize>().is_ok() => {
                Some((name.to_owned(), working.parse().ok()?))
            }
            _ => None,
        })
        .collect()
}

/// Clients of which fewer statements work than the page says.
pub fn worse(page: &str, clients: &[Client]) -> Vec<String> {
    let before = counts(page);
    let fell = |c: &Client| {
        before
            .get(&c.name)
            .is_none_or(|n| c.working() < *n)
            .then(|| c.name.clone())
    };
    clients.iter().filter_map(fell).collect()
}

/// A list for people who work on it: failures grouped by reason, most frequent first, statements in full.
pub fn list(clients: &[Client]) -> String {
    let mut groups: BTreeMap<String, Vec<(String, &Unit)>> = BTreeMap::new();
    let mut out = String::new();
    for client in clients {
        for failed in &client.unprepared {
            let _ = writeln!(out, "{}: fixture: {failed}", client.name);
        }
        for unit in &client.units {
            if let Some(reason) = &unit.failure {
                groups
                    .entry(reason.clone())
                    .or_default()
                    .push((client.name.clone(), unit));
            }
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, units)| std::cmp::Reverse(units.len()));
    for (reason, units) in groups {
        let _ = writeln!(out, "\n## {} x {reason}\n", units.len());
        for (name, unit) in units {
            let _ = writeln!(
                out,
                "[{name}:{}] {}",
                unit.line,
                unit.sql.split_whitespace().collect::<Vec<_>>().join(" ")
            );
        }
    }
    out.push_str("\n# Works, and yet differs\n");
    for client in clients {
        for unit in client.units.iter().filter(|u| u.failure.is_none()) {
            if let Some(remark) = &unit.remark {
                let sql = unit.sql.split_whitespace().collect::<Vec<_>>().join(" ");
                let _ = writeln!(out, "[{}:{}] {remark}: {sql}", client.name, unit.line);
            }
        }
    }
    out
}
