//! A log as exchanges: what one connection sends up to the server's next answer, each message with the answer in the log.

use std::collections::{HashMap, VecDeque};

use super::log::{Entry, Heard, Log, Said};

/// A statement as a client sent it: a whole simple query, or a parsed one with all that was done with it.
#[derive(Debug)]
pub struct Unit {
    pub line: usize,
    pub sql: String,
    /// Why it does not count as working; the first reason.
    pub failure: Option<String>,
    /// It works, and yet something is not as in the log.
    pub remark: Option<String>,
}

/// A message, the statement that it belongs to, and its answer in the log.
#[derive(Debug)]
pub struct Step {
    pub said: Said,
    pub unit: Option<usize>,
    pub heard: Vec<Heard>,
}

/// Messages of one connection that are sent together.
#[derive(Debug)]
pub struct Exchange {
    pub who: u32,
    pub steps: Vec<Step>,
}

/// What is known of a connection while its messages are sorted.
#[derive(Default)]
struct Side {
    pending: Vec<Step>,
    statements: HashMap<String, usize>,
    portals: HashMap<String, Option<usize>>,
    heard: VecDeque<Heard>,
}

impl Side {
    /// The answers to this message, taken off the queue.
    fn answers(&mut self, said: &Said) -> Vec<Heard> {
        let mut taken = Vec::new();
        let ready = |heard: &Heard| matches!(heard, Heard::Ready(_));
        match said {
            Said::Startup(_) | Said::Query(_) => {
                while let Some(heard) = self.heard.pop_front() {
                    let last = ready(&heard);
                    taken.push(heard);
                    if last {
                        break;
                    }
                }
            }
            Said::Sync => taken.extend(self.heard.pop_front_if(|h| ready(h))),
            Said::Describe(..) => {
                let parameters = |h: &mut Heard| matches!(h, Heard::Parameters(_));
                taken.extend(self.heard.pop_front_if(parameters));
                taken.extend(
                    self.heard
                        .pop_front_if(|h| matches!(h, Heard::Columns(_) | Heard::NoData)),
                );
            }
            Said::Execute(..) => {
                while self
                    .heard
                    .front()
                    .is_some_and(|h| matches!(h, Heard::Row(_) | Heard::CopyOut))
                {
                    taken.extend(self.heard.pop_front());
                }
                let end = |h: &mut Heard| matches!(h, Heard::Complete(_) | Heard::Suspended | Heard::Empty);
                taken.extend(self.heard.pop_front_if(end));
            }
            _ => {}
        }
        taken
    }
}

/// The statements of a log, and the exchanges in the order in which they were sent.
pub fn script(log: &Log) -> (Vec<Unit>, Vec<Exchange>) {
    let mut units: Vec<Unit> = Vec::new();
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut sides: HashMap<u32, Side> = HashMap::new();
    for Entry { who, what, .. } in &log.heard {
        sides.entry(*who).or_default().heard.push_back(what.clone());
    }
    let mut open: Vec<u32> = Vec::new();
    for Entry { who, line, what } in &log.said {
        let side = sides.entry(*who).or_default();
        if !open.contains(who) {
            open.push(*who);
        }
        let mut unit_of = |sql: &str| {
            let sql = sql.to_owned();
            units.push(Unit {
                line: *line,
                sql,
                failure: None,
                remark: None,
            });
            units.len() - 1
        };
        let unit = match what {
            // Whoever wrote the log has cut it: what the client sent is not known.
            Said::Query(sql) | Said::Parse { sql, .. } if sql.contains('\u{2026}') => None,
            Said::Query(sql) => Some(unit_of(sql)),
            Said::Parse { name, sql, .. } => {
                let unit = unit_of(sql);
                side.statements.insert(name.clone(), unit);
                Some(unit)
            }
            Said::Bind { portal, statement, .. } => {
                let unit = side.statements.get(statement).copied();
                side.portals.insert(portal.clone(), unit);
                unit
            }
            Said::Describe(b'S', name) => side.statements.get(name).copied(),
            Said::Describe(_, name) | Said::Execute(name, _) => side.portals.get(name).copied().flatten(),
            _ => None,
        };
        let heard = side.answers(what);
        let step = Step {
            said: what.clone(),
            unit,
            heard,
        };
        match what {
            Said::CopyData(_) | Said::CopyDone(_) => {
                if let Some(last) = exchanges.iter_mut().rfind(|e| e.who == *who) {
                    last.steps.push(step);
                }
            }
            _ => {
                side.pending.push(step);
                if matches!(what, Said::Startup(_) | Said::Query(_) | Said::Sync) {
                    exchanges.push(Exchange {
                        who: *who,
                        steps: std::mem::take(&mut side.pending),
                    });
                }
            }
        }
    }
    for who in open {
        let mut steps = sides
            .get_mut(&who)
            .map(|side| std::mem::take(&mut side.pending))
            .unwrap_or_default();
        if !steps.is_empty() {
            steps.push(Step {
                said: Said::Sync,
                unit: None,
                heard: Vec::new(),
            });
            exchanges.push(Exchange { who, steps });
        }
    }
    (units, exchanges)
}
