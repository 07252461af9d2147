//! LISTEN, UNLISTEN and NOTIFY: channels of the session's own tenant, and `bulkhead_alerts`, in which the server
//! tells its alerts as they happen.
//!
//! As in PostgreSQL, LISTEN, UNLISTEN and NOTIFY take effect when their transaction commits, and a client is
//! told between its transactions only.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use tokio::sync::broadcast::{
    Receiver, Sender,
    error::{RecvError, TryRecvError},
};

use super::{
    session::{Answer, Session, Status},
    words::Words,
    world::{TenantState, World},
};
use crate::{
    error::{Code, Error, Result},
    ledger::alert::Alert,
    limits,
};

/// The channel of the server's own: everybody may listen, nobody may notify.
pub(super) const ALERTS: &str = "bulkhead_alerts";

/// What a client that listens is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// The channel.
    pub channel: Cow<'static, str>,
    /// What is said; of an alert, JSON.
    pub payload: String,
    /// The number of the session that said it; 0 for the server.
    pub pid: i32,
}

/// Notifications of one transaction, to all who may listen.
pub(super) type Told = Arc<[Notification]>;

/// `LISTEN`, `UNLISTEN` and `NOTIFY`.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    Listen(String),
    /// None is all.
    Unlisten(Option<String>),
    Notify(String, String),
}

impl Channel {
    /// Parses the tokens of such a statement.
    pub(super) fn parse(mut words: Words<'_>) -> Result<Self> {
        use datafusion::sql::sqlparser::tokenizer::Token;
        let verb = words.one_of(&["LISTEN", "UNLISTEN", "NOTIFY"]);
        let parsed = match verb {
            Some("UNLISTEN") if words.symbol(&Token::Mul) => Self::Unlisten(None),
            Some("UNLISTEN") => Self::Unlisten(Some(words.name()?)),
            Some("LISTEN") => Self::Listen(words.name()?),
            _ => {
                let channel = words.name()?;
                let payload = match words.symbol(&Token::Comma) {
                    true => words.string()?,
                    false => String::new(),
                };
                Self::Notify(channel, payload)
            }
        };
        words.end()?;
        Ok(parsed)
    }
}

/// What a transaction has to say when it commits: each thing once, in the order in which it was first said.
#[derive(Default)]
pub(super) struct Said {
    said: Vec<(String, String)>,
    known: HashSet<(String, String)>,
}

impl Said {
    /// Says something in a channel.
    ///
    /// # Errors
    /// 22023 for a bad name or payload, 42501 for the server's own channel, 54000 for too much of it.
    pub(super) fn say(&mut self, channel: &str, payload: &str) -> Result<()> {
        check_channel(channel)?;
        if channel == ALERTS {
            let message = format!("permission denied for channel {ALERTS}");
            return Err(Error::new(Code::InsufficientPrivilege, message).with_hint("only the server notifies it"));
        }
        if payload.len() > limits::NOTIFY_BYTES {
            return Err(Error::new(Code::InvalidParameterValue, "payload string too long"));
        }
        let new = (channel.to_owned(), payload.to_owned());
        if self.known.contains(&new) {
            return Ok(());
        }
        if self.said.len() >= limits::TRANSACTION_NOTIFIES {
            return Err(Error::new(Code::TooLarge, "too many notifications in the NOTIFY queue"));
        }
        self.known.insert(new.clone());
        self.said.push(new);
        Ok(())
    }

    /// How much was said so far.
    pub(super) fn mark(&self) -> usize {
        self.said.len()
    }

    /// Takes back what was said after a mark.
    pub(super) fn take_back(&mut self, mark: usize) {
        for said in self.said.drain(mark.min(self.said.len())..) {
            self.known.remove(&said);
        }
    }
}

fn check_channel(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(Error::new(Code::InvalidParameterValue, "channel name cannot be empty")),
        1..=limits::NAME_BYTES => Ok(()),
        _ => Err(Error::new(Code::InvalidParameterValue, "channel name too long")),
    }
}

/// What a session listens to.
#[derive(Default)]
pub(super) struct Listening {
    alerts: Option<Receiver<String>>,
    told: Option<Receiver<Told>>,
    channels: BTreeSet<String>,
    /// What came together with what was given first.
    ready: Vec<Notification>,
    /// What the running transaction asks for, in order.
    wanted: Vec<Channel>,
    /// How many notifications came too fast to be kept.
    lost: u64,
}

impl Listening {
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// How much the running transaction has asked for.
    pub(super) fn mark(&self) -> usize {
        self.wanted.len()
    }

    /// Forgets what was asked for after a mark.
    pub(super) fn take_back(&mut self, mark: usize) {
        self.wanted.truncate(mark);
    }

    /// The transaction ended.
    fn end_transaction(&mut self, committed: bool, state: Option<&TenantState>) {
        let wanted = std::mem::take(&mut self.wanted);
        let Some(state) = state.filter(|_| committed) else {
            return;
        };
        for channel in wanted {
            match channel {
                Channel::Listen(name) => {
                    if name == ALERTS && self.alerts.is_none() {
                        self.alerts = Some(state.alerts.subscribe());
                    }
                    self.channels.insert(name);
                }
                Channel::Unlisten(Some(name)) => {
                    self.channels.remove(&name);
                }
                Channel::Unlisten(None) => self.channels.clear(),
                Channel::Notify(..) => {}
            }
        }
        if !self.channels.contains(ALERTS) {
            self.alerts = None;
        }
        if self.channels.iter().any(|name| name != ALERTS) {
            self.told.get_or_insert_with(|| state.told.subscribe());
        } else {
            self.told = None;
        }
        let channels = &self.channels;
        self.ready
            .retain(|notification| channels.contains(&*notification.channel));
    }

    /// Keeps of what was told what is listened to.
    fn keep(&mut self, told: &Told) {
        let heard = told.iter().filter(|n| self.channels.contains(&*n.channel));
        self.ready.extend(heard.cloned());
    }

    /// Those that came since the last call. Who is too slow loses the oldest.
    fn take(&mut self) -> Vec<Notification> {
        loop {
            match self.told.as_mut().map(Receiver::try_recv) {
                Some(Ok(told)) => self.keep(&told),
                Some(Err(TryRecvError::Lagged(missed))) => self.lost += missed,
                Some(Err(TryRecvError::Closed)) => self.told = None,
                Some(Err(TryRecvError::Empty)) | None => break,
            }
        }
        let mut taken = std::mem::take(&mut self.ready);
        loop {
            match self.alerts.as_mut().map(Receiver::try_recv) {
                Some(Ok(payload)) => taken.push(alert(payload)),
                // `bulkhead.alerts` has them all.
                Some(Err(TryRecvError::Lagged(_))) => {}
                Some(Err(TryRecvError::Closed)) => self.alerts = None,
                Some(Err(TryRecvError::Empty)) | None => return taken,
            }
        }
    }

    /// Waits until something is there; for ever where nothing is listened to.
    async fn wait(&mut self) {
        async fn next<T: Clone>(receiver: &mut Option<Receiver<T>>) -> Result<T, RecvError> {
            match receiver {
                Some(receiver) => receiver.recv().await,
                None => std::future::pending().await,
            }
        }
        while self.ready.is_empty() {
            tokio::select! {
                told = next(&mut self.told) => match told {
                    Ok(told) => self.keep(&told),
                    Err(RecvError::Lagged(missed)) => self.lost += missed,
                    Err(RecvError::Closed) => self.told = None,
                },
                payload = next(&mut self.alerts) => match payload {
                    Ok(payload) => self.ready.push(alert(payload)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => self.alerts = None,
                },
            }
        }
    }
}

/// Passes the alerts of an account on to those who listen, as long as there is one.
pub(super) async fn forward(mut alerts: Receiver<Alert>, to: Sender<String>) {
    loop {
        match alerts.recv().await {
            // Without a listener there is nobody to tell.
            Ok(alert) => drop(to.send(alert.payload())),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn alert(payload: String) -> Notification {
    Notification {
        channel: ALERTS.into(),
        payload,
        pid: 0,
    }
}

impl Session {
    /// `LISTEN`, `UNLISTEN`, `NOTIFY`.
    pub(super) fn run_channel(&mut self, channel: &Channel) -> Result<Answer> {
        let tag = match channel {
            Channel::Listen(_) => "LISTEN",
            Channel::Unlisten(_) => "UNLISTEN",
            Channel::Notify(..) => "NOTIFY",
        };
        if self.world.operator().is_ok() && !matches!(channel, Channel::Unlisten(_)) {
            return Err(
                Error::new(Code::Unsupported, "the operator's plane has no channel to listen to")
                    .with_hint("read bulkhead.alerts"),
            );
        }
        match channel {
            Channel::Notify(name, payload) => self.world.desk().said.lock().say(name, payload)?,
            Channel::Listen(name) => {
                check_channel(name)?;
                let listened = self.listening.channels.len() + self.listening.wanted.len();
                if listened >= limits::SESSION_CHANNELS {
                    let message = format!("a session may listen to {} channels", limits::SESSION_CHANNELS);
                    return Err(Error::new(Code::TooLarge, message));
                }
                self.listening.wanted.push(channel.clone());
            }
            Channel::Unlisten(_) => self.listening.wanted.push(channel.clone()),
        }
        if self.status == Status::Idle {
            self.end_listening(true);
        }
        Ok(Answer::Done { tag: tag.to_owned() })
    }

    /// The transaction ended: what it asked for takes effect and what it said is told, or both are forgotten.
    pub(super) fn end_listening(&mut self, committed: bool) {
        let state = match &*self.world {
            World::Tenant(world) => Some(&*world.state),
            World::Operator(_) => None,
        };
        self.listening.end_transaction(committed, state);
        let desk = self.world.desk();
        desk.channels.lock().clone_from(&self.listening.channels);
        let said = std::mem::take(&mut *desk.said.lock()).said;
        let Some(state) = state.filter(|_| committed && !said.is_empty()) else {
            return;
        };
        let pid = self.backend_pid();
        let told = said.into_iter().map(|(channel, payload)| Notification {
            channel: channel.into(),
            payload,
            pid,
        });
        // Without a listener there is nobody to tell.
        let _ = state.told.send(told.collect());
    }

    /// Tells the sessions of this tenant that listen.
    #[cfg(test)]
    pub(crate) fn alert(&self, payload: &str) {
        if let World::Tenant(world) = &*self.world {
            let _ = world.state.alerts.send(payload.to_owned());
        }
    }

    /// What is to be told now. To be asked between transactions only.
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        let taken = self.listening.take();
        let lost = std::mem::take(&mut self.listening.lost);
        if lost > 0 {
            let message = format!("{lost} transactions' notifications came faster than they were read, and are lost");
            self.notice("WARNING", "01000", message);
        }
        taken
    }

    /// Waits until there is something to tell; for ever where nothing is listened to. Dropping the future loses
    /// nothing.
    pub async fn notified(&mut self) {
        self.listening.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_says_each_thing_once_and_may_take_it_back() {
        let mut said = Said::default();
        said.say("a", "1").unwrap();
        said.say("a", "1").unwrap();
        let mark = said.mark();
        assert_eq!(mark, 1);
        said.say("a", "2").unwrap();
        said.say("b", "1").unwrap();
        said.take_back(mark);
        said.say("a", "2").unwrap();
        assert_eq!(
            said.said,
            [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]
        );
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let mut said = Said::default();
        let mut code = |channel: &str, payload: &str| said.say(channel, payload).map_err(|e| e.code());
        assert_eq!(code("", ""), Err(Code::InvalidParameterValue));
        assert_eq!(code(&"x".repeat(64), ""), Err(Code::InvalidParameterValue));
        assert_eq!(code("a", &"x".repeat(8_000)), Err(Code::InvalidParameterValue));
        assert_eq!(code("a", &"x".repeat(7_999)), Ok(()));
        assert_eq!(code(ALERTS, ""), Err(Code::InsufficientPrivilege));
        for n in 1..limits::TRANSACTION_NOTIFIES {
            said.say("a", &n.to_string()).unwrap();
        }
        assert_eq!(said.say("a", "one more").unwrap_err().code(), Code::TooLarge);
        said.say("a", "1").unwrap();
    }
}
