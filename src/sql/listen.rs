//! `LISTEN bulkhead_alerts`: the alerts of the session's own tenant as they happen.
//!
//! As in PostgreSQL, LISTEN and UNLISTEN take effect when their transaction commits, and a client is
//! told between its transactions only.

use tokio::sync::broadcast::{
    Receiver, Sender,
    error::{RecvError, TryRecvError},
};

use super::{
    guard::ALERTS,
    session::{Answer, Session, Status},
    world::World,
};
use crate::{
    error::{Code, Error, Result},
    ledger::alert::Alert,
};

/// What a client that listens is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel.
    pub channel: &'static str,
    /// The alert as JSON.
    pub payload: String,
}

/// What a session listens to.
#[derive(Default)]
pub(super) struct Listening {
    alerts: Option<Receiver<String>>,
    /// What the running transaction asks for.
    wanted: Option<bool>,
}

impl Listening {
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// The transaction ended.
    pub(super) fn end_transaction(&mut self, committed: bool, subscribe: impl FnOnce() -> Option<Receiver<String>>) {
        match self.wanted.take().filter(|_| committed) {
            Some(true) if self.alerts.is_none() => self.alerts = subscribe(),
            Some(false) => self.alerts = None,
            _ => {}
        }
    }

    /// Those that came since the last call. Who is too slow loses the oldest; `bulkhead.alerts` has them all.
    fn take(&mut self) -> Vec<String> {
        let mut payloads = Vec::new();
        while let Some(alerts) = &mut self.alerts {
            match alerts.try_recv() {
                Ok(payload) => payloads.push(payload),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => self.alerts = None,
            }
        }
        payloads
    }

    /// The next one, if ever.
    async fn next(&mut self) -> String {
        while let Some(alerts) = &mut self.alerts {
            match alerts.recv().await {
                Ok(payload) => return payload,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.alerts = None,
            }
        }
        std::future::pending().await
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

fn notification(payload: String) -> Notification {
    Notification {
        channel: ALERTS,
        payload,
    }
}

impl Session {
    /// `LISTEN bulkhead_alerts` or, with false, `UNLISTEN`.
    pub(super) fn listen(&mut self, on: bool) -> Result<Answer> {
        if on && self.world.operator().is_ok() {
            return Err(
                Error::new(Code::Unsupported, "the operator's plane has no channel to listen to")
                    .with_hint("read bulkhead.alerts"),
            );
        }
        self.listening.wanted = Some(on);
        if self.status == Status::Idle {
            self.end_listening(true);
        }
        Ok(Answer::Done {
            tag: if on { "LISTEN" } else { "UNLISTEN" }.to_owned(),
        })
    }

    /// The transaction ended: what it asked for takes effect, or is forgotten.
    pub(super) fn end_listening(&mut self, committed: bool) {
        let world = self.world.clone();
        self.listening.end_transaction(committed, || match &*world {
            World::Tenant(world) => Some(world.state.alerts.subscribe()),
            World::Operator(_) => None,
        });
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
        self.listening.take().into_iter().map(notification).collect()
    }

    /// Waits for the next one; for ever where nothing is listened to. Dropping the future loses nothing.
    pub async fn notification(&mut self) -> Notification {
        notification(self.listening.next().await)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    #[tokio::test]
    async fn it_begins_and_ends_with_the_commit() {
        let (sender, _) = broadcast::channel(4);
        let mut listening = Listening::default();
        let ask = |listening: &mut Listening, on, committed| {
            listening.wanted = Some(on);
            listening.end_transaction(committed, || Some(sender.subscribe()));
        };
        ask(&mut listening, true, false);
        sender.send("1".to_owned()).unwrap_err();
        ask(&mut listening, true, true);
        sender.send("2".to_owned()).unwrap();
        // Again, and what is on its way stays.
        ask(&mut listening, true, true);
        assert_eq!(listening.next().await, "2");
        sender.send("3".to_owned()).unwrap();
        ask(&mut listening, false, false);
        assert_eq!(listening.take(), ["3"]);
        ask(&mut listening, false, true);
        assert!(listening.alerts.is_none() && sender.receiver_count() == 0);
    }

    #[tokio::test]
    async fn who_is_slow_gets_the_newest_and_the_end_is_silence() {
        let (sender, receiver) = broadcast::channel(2);
        let mut listening = Listening {
            alerts: Some(receiver),
            wanted: None,
        };
        for n in 1..=5 {
            sender.send(n.to_string()).unwrap();
        }
        assert_eq!(listening.next().await, "4");
        drop(sender);
        assert_eq!(listening.take(), ["5"]);
        let silence = tokio::time::timeout(std::time::Duration::from_millis(10), listening.next());
        assert!(silence.await.is_err());
    }
}
