//! Login: names and a proof in, a [`Tenant`] or an [`Operator`] out. The only place that mints either.
//!
//! Unknown names go through the same steps as known ones, with a decoy for the stored verifier:
//! the same messages of the same lengths, the same look-ups and hashes, the same delays and text.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{
    directory::{Directory, Live, OPERATOR_DATABASE},
    handle::{self, Tenant},
    operator::Operator,
    plane::{Plane, State},
    scram::{self, Binding, Exchange, SALT_BYTES, Verifier},
    seal,
    table::Table,
    users::{self, User, UserRecord},
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// Who has logged in.
#[derive(Debug)]
pub enum Login {
    /// A user of a tenant.
    Tenant(Tenant, User),
    /// Whoever runs the server.
    Operator(Operator),
}

/// The end of a login.
#[derive(Debug)]
pub struct Verdict {
    /// Wait this long, holding nothing, before the answer is sent, be it good or bad.
    pub delay: Duration,
    /// The login and the server-final-message, or what to tell the client.
    pub outcome: Result<(Login, Vec<u8>)>,
}

/// A login under way: [`Attempt::first`], then [`Attempt::last`].
pub struct Attempt {
    directory: Arc<Directory>,
    dbname: String,
    user: String,
    peer: IpAddr,
    target: Target,
    /// The tenant that was named, if there is one: its log tells how many it refused.
    named: Option<Arc<Live>>,
    verifier: Verifier,
    exchange: Option<Exchange>,
}

/// Whom the names mean.
enum Target {
    Nobody,
    Tenant(Arc<Live>),
    Operator,
}

impl Directory {
    /// Starts a login. Unknown names get a decoy and fail at the end like a wrong password.
    pub fn attempt(self: &Arc<Self>, dbname: &str, user: &str, peer: IpAddr) -> Attempt {
        let live = self.find(dbname);
        let (target, plane, table) = match live {
            _ if dbname == OPERATOR_DATABASE => (Target::Operator, &self.operator, Table::Operators),
            Some(ref live) => (Target::Tenant(live.clone()), &live.plane, Table::Users),
            None => (Target::Nobody, &self.decoy.plane, Table::Users),
        };
        let decoy = self.decoy_verifier(dbname, user);
        let (target, verifier) = match self.look_up(plane, table, user) {
            Some(record) => (target, record.verifier),
            None => (Target::Nobody, decoy),
        };
        let (dbname, user) = (dbname.to_owned(), user.to_owned());
        Attempt {
            directory: self.clone(),
            dbname,
            user,
            peer,
            target,
            named: live,
            verifier,
            exchange: None,
        }
    }

    /// The stored record, at the same cost whether there is one or not.
    fn look_up(&self, plane: &Plane, table: Table, user: &str) -> Option<UserRecord> {
        match users::find(plane, table, user) {
            Ok(Some((record, _))) => return Some(record),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a login met a record that cannot be read"),
        }
        let decoy = &self.decoy.plane;
        let key = users::key(decoy, "decoy");
        std::hint::black_box(decoy.keys.open(decoy.id, Table::Users, &key, self.decoy.sealed.clone()));
        None
    }

    /// Stable for the names, and telling nothing of them without the server's secret.
    fn decoy_verifier(&self, dbname: &str, user: &str) -> Verifier {
        let part = |label: &[u8]| seal::hmac(&self.decoy.secret, &[label, dbname.as_bytes(), user.as_bytes()]);
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&part(b"salt")[..SALT_BYTES]);
        let (stored_key, server_key) = (part(b"stored"), part(b"server"));
        Verifier {
            salt,
            iterations: limits::SCRAM_ITERATIONS,
            stored_key,
            server_key,
        }
    }
}

impl Attempt {
    /// The mechanisms to offer, the preferred one first.
    pub fn mechanisms(&self, binding: &Binding) -> &'static [&'static str] {
        scram::mechanisms(binding)
    }

    /// Takes the client-first-message, answers the server-first-message. Fails with
    /// [`Code::ProtocolViolation`]; the attempt is then over.
    pub fn first(&mut self, mechanism: &str, client_first: &[u8], binding: Binding) -> Result<Vec<u8>> {
        self.exchange = None;
        let nonce = BASE64.encode(&seal::random_key()?[..18]);
        let (exchange, answer) = Exchange::begin(mechanism, client_first, &binding, &self.verifier, &nonce)?;
        self.exchange = Some(exchange);
        Ok(answer)
    }

    /// Takes the client-final-message and decides. Unknown tenant, unknown user and wrong password
    /// are one [`Code::InvalidPassword`] with one text; a suspended tenant is told
    /// [`Code::NotReady`], but only after the right password.
    pub fn last(self, client_final: &[u8]) -> Verdict {
        let Some(exchange) = &self.exchange else {
            let error = Error::new(Code::ProtocolViolation, "the SCRAM messages are out of order");
            return Verdict {
                delay: Duration::ZERO,
                outcome: Err(error),
            };
        };
        let proven = exchange
            .finish(&self.verifier, client_final)
            .and_then(|answer| answer.ok_or_else(wrong));
        let outcome = proven.and_then(|answer| Ok((self.log_in()?, answer)));
        // Being told "suspended" takes the right password, so it counts as one.
        let success = outcome
            .as_ref()
            .err()
            .is_none_or(|error| error.code() == Code::NotReady);
        if let (false, Some(live)) = (success, &self.named) {
            live.refused_logins.fetch_add(1, Ordering::Relaxed);
        }
        let delay = self
            .directory
            .throttle
            .record(&self.dbname, &self.user, self.peer, success, Instant::now());
        Verdict { delay, outcome }
    }

    /// After a proof. The record is read again: the user may have been dropped or changed meanwhile.
    fn log_in(&self) -> Result<Login> {
        let (plane, table) = match &self.target {
            Target::Nobody => return Err(wrong()),
            Target::Tenant(live) => (&live.plane, Table::Users),
            Target::Operator => (&self.directory.operator, Table::Operators),
        };
        let record = match users::find(plane, table, &self.user) {
            Ok(Some((record, _))) if record.verifier == self.verifier => record,
            _ => return Err(wrong()),
        };
        match &self.target {
            Target::Nobody => Err(wrong()),
            Target::Operator => Ok(Login::Operator(Operator::mint(self.directory.clone(), record.name))),
            Target::Tenant(live) => match live.plane.state() {
                State::Dropped => Err(wrong()),
                State::Suspended => Err(handle::suspended()),
                State::Active => {
                    let tenant = Tenant::mint(self.directory.clone(), live.clone());
                    Ok(Login::Tenant(
                        tenant,
                        User {
                            name: record.name,
                            role: record.role,
                            verifier: Some(record.verifier),
                        },
                    ))
                }
            },
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("dbname", &self.dbname)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn wrong() -> Error {
    Error::new(Code::InvalidPassword, "password authentication failed")
}
