//! What one running statement knows of itself: since when it runs, what it asked models and what that cost.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use datafusion::common::ScalarValue;
use parking_lot::Mutex;

use super::{
    commitment::Commitment, cursor::CursorInfo, listen::Said, session::Notice, settings::Settings, tables::builds::Ask,
};
use crate::{
    ai::gate::Purse,
    error::{Code, Error, Result},
    ledger::money::Nano,
    limits,
    table::schema::Oid,
};

/// What a session and the functions it calls share.
pub(super) struct Desk {
    pub(super) settings: Arc<Mutex<Settings>>,
    /// Messages for the client.
    pub(super) notices: Mutex<Vec<Notice>>,
    /// The session's cursors, for `pg_cursors`.
    pub(super) cursors: Mutex<Vec<CursorInfo>>,
    /// The channels it listens to, for `pg_listening_channels()`.
    pub(super) channels: Mutex<BTreeSet<String>>,
    /// What its transaction has to say.
    pub(super) said: Mutex<Said>,
    /// Tables that its transaction made and that are dropped at its end.
    pub(super) passing: Mutex<Vec<Oid>>,
    /// Graphs that are to be built when its transaction has committed.
    pub(super) builds: Mutex<Vec<Ask>>,
    statement: Mutex<Arc<Statement>>,
    /// Whether the running statement is a transaction of its own.
    alone: AtomicBool,
    commitment: Arc<Commitment>,
}

impl Desk {
    pub(super) fn new(settings: Arc<Mutex<Settings>>, commitment: Arc<Commitment>) -> Self {
        Self {
            settings,
            notices: Mutex::default(),
            cursors: Mutex::default(),
            channels: Mutex::default(),
            said: Mutex::default(),
            passing: Mutex::default(),
            builds: Mutex::default(),
            statement: Mutex::new(Arc::new(Statement::new(limits::STATEMENT_TIMEOUT))),
            alone: AtomicBool::new(false),
            commitment,
        }
    }

    /// A statement begins that may take so long; `alone` if it is a transaction of its own.
    pub(super) fn begin(&self, timeout: Duration, alone: bool) {
        *self.statement.lock() = Arc::new(Statement {
            commitment: self.commitment.clone(),
            ..Statement::new(timeout)
        });
        self.alone.store(alone, Ordering::Relaxed);
    }

    /// Whether the running statement is a transaction of its own.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// The running statement.
    pub(super) fn statement(&self) -> Arc<Statement> {
        self.statement.lock().clone()
    }

    /// Tells the client something beside the answer.
    pub(super) fn notice(&self, message: String, hint: Option<String>) {
        self.tell("NOTICE", "00000", message, hint);
    }

    /// Warns the client.
    pub(super) fn warn(&self, message: String) {
        self.tell("WARNING", "01000", message, None);
    }

    fn tell(&self, severity: &'static str, code: &'static str, message: String, hint: Option<String>) {
        let mut notices = self.notices.lock();
        if notices.iter().any(|told| told.message == message) {
            return; // once is enough, however many rows it is true of
        }
        if notices.len() < limits::STATEMENT_NOTICES {
            notices.push(Notice {
                severity,
                code,
                message,
                hint,
            });
        }
    }
}

/// One execution of a statement.
pub(super) struct Statement {
    /// When it must have ended.
    pub(super) deadline: Instant,
    /// What its calls of models cost and may still cost, in nano-USD.
    committed: AtomicI64,
    /// Most it may cost, if that is set; known once it calls a model.
    most: OnceLock<Option<Nano>>,
    answers: Mutex<HashMap<(&'static str, Vec<ScalarValue>), ScalarValue>>,
    commitment: Arc<Commitment>,
}

impl Statement {
    /// A statement that begins now.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            committed: AtomicI64::new(0),
            most: OnceLock::new(),
            answers: Mutex::default(),
            commitment: Arc::default(),
        }
    }

    /// Sets the most that its calls of models may cost. Only the first time counts.
    pub(super) fn limit(&self, most: Option<Nano>) {
        self.most.get_or_init(|| most);
    }

    fn most(&self) -> Option<Nano> {
        self.most.get().copied().flatten()
    }

    /// What a function answered to these arguments earlier in this statement.
    pub(super) fn known(&self, function: &'static str, args: &[ScalarValue]) -> Option<ScalarValue> {
        let answers = self.answers.lock();
        match answers.is_empty() {
            true => None,
            false => answers.get(&(function, args.to_vec())).cloned(),
        }
    }

    /// Keeps an answer for the rest of the statement; beyond [`limits::STATEMENT_ANSWERS`] it is asked again.
    pub(super) fn learn(&self, function: &'static str, args: &[ScalarValue], value: &ScalarValue) {
        let mut answers = self.answers.lock();
        if answers.len() < limits::STATEMENT_ANSWERS {
            answers.insert((function, args.to_vec()), value.clone());
        }
    }
}

impl Purse for Statement {
    fn set_aside(&self, cost: Nano) -> Result<()> {
        let Some(most) = self.most() else { return Ok(()) };
        let before = self.committed.fetch_add(cost.0, Ordering::SeqCst);
        if before.checked_add(cost.0).is_none_or(|sum| sum > most.0) {
            self.committed.fetch_sub(cost.0, Ordering::SeqCst);
            let detail = serde_json::json!({
                "limit": "ai.max_statement_usd", "used": Nano(before).to_string(), "capacity": most.to_string(),
                "needed": cost.to_string(),
            });
            return Err(Error::new(
                Code::LimitReached,
                format!("this statement could cost more than ai.max_statement_usd ({most} USD) allows"),
            )
            .with_detail(detail.to_string())
            .with_hint("raise ai.max_statement_usd, lower max_tokens, or ask for fewer rows"));
        }
        Ok(())
    }

    fn settling(&self) -> Box<dyn Send> {
        Box::new(self.commitment.settling())
    }

    fn spent(&self, set_aside: Nano, cost: Nano) {
        if self.most().is_some() {
            self.committed.fetch_sub(set_aside.0 - cost.0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_stops_before_it_passes_its_sum() {
        let statement = Statement::new(Duration::from_secs(1));
        statement.limit(Some(Nano(100)));
        statement.limit(None);
        statement.set_aside(Nano(60)).unwrap();
        let refused = statement.set_aside(Nano(60)).unwrap_err();
        assert_eq!(refused.code(), Code::LimitReached);
        statement.spent(Nano(60), Nano(10));
        statement.set_aside(Nano(90)).unwrap();
        assert!(statement.set_aside(Nano(1)).is_err());
        assert!(statement.set_aside(Nano(i64::MAX)).is_err());
        let free = Statement::new(Duration::from_secs(1));
        free.set_aside(Nano(i64::MAX)).unwrap();
        free.set_aside(Nano(i64::MAX)).unwrap();
    }

    #[test]
    fn answers_are_kept_by_function_and_input() {
        let statement = Statement::new(Duration::from_secs(1));
        let (one, two) = ([ScalarValue::from("one")], [ScalarValue::from("two")]);
        statement.learn("f", &one, &ScalarValue::from(1));
        assert_eq!(statement.known("f", &one), Some(ScalarValue::from(1)));
        assert_eq!(statement.known("g", &one), None);
        assert_eq!(statement.known("f", &two), None);
    }
}
