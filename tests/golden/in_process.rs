//! The engine without sockets, files and processes: scripts run against the library itself.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bulkhead::error::Error;
use bulkhead::sql::{Answer, CopyAnswer, Engine, Session};
use bulkhead::tenant::{Binding, Directory};
use bulkhead::wire::text_rows;
use futures::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::common::golden::{Outcome, Part, Speaker, World};
use crate::common::scram::Scram;
use crate::common::server::{ADMIN_PASSWORD, password_of};

/// An engine over the in-memory twin of the store.
pub struct InProcess {
    engine: Arc<Engine>,
    _background: DropGuard,
}

impl InProcess {
    pub fn start() -> Self {
        let directory = Directory::in_memory(ADMIN_PASSWORD).expect("memory can be written");
        let engine = Engine::new(directory).expect("an engine over an empty store");
        let stop = CancellationToken::new();
        tokio::spawn(engine.clone().background(stop.clone()));
        Self {
            engine,
            _background: stop.drop_guard(),
        }
    }
}

impl World for InProcess {
    type Speaker = Local;

    async fn create_tenant(&mut self, name: &str) {
        let mut operator = self.open("bulkhead", "admin").await.expect("the operator logs in");
        let sql = format!(
            "SELECT bulkhead.create_tenant('{name}', tier => 'free', owner => 'owner', password => '{}')",
            password_of("owner")
        );
        let made = operator.run(&sql).await;
        assert!(
            matches!(made.as_slice(), [Part::Rows { .. }]),
            "create_tenant {name}: {made:?}"
        );
    }

    async fn open(&mut self, tenant: &str, user: &str) -> Result<Local, Part> {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut attempt = self.engine.directory().attempt(tenant, user, peer);
        let mut scram = Scram::plain("inprocessnonce");
        let first = attempt.first("SCRAM-SHA-256", scram.first().as_bytes(), Binding::Plain);
        let first = String::from_utf8(first.map_err(|e| part(&e))?).expect("SCRAM is text");
        let verdict = attempt.last(scram.last(&first, &password_of(user)).as_bytes());
        tokio::time::sleep(verdict.delay).await;
        let (login, proof) = verdict.outcome.map_err(|e| part(&e))?;
        let proof = String::from_utf8(proof).expect("SCRAM is text");
        assert!(scram.proven(&proof), "the server does not know the verifier: {proof}");
        let session = Session::open(self.engine.clone(), login, &[]).await;
        session.map(|session| Local { session }).map_err(|e| part(&e))
    }
}

fn part(error: &Error) -> Part {
    Part::Error {
        code: error.code().sqlstate().to_owned(),
        message: error.message().to_owned(),
    }
}

/// A session that is asked as the wire's simple protocol asks it.
pub struct Local {
    session: Session,
}

impl Speaker for Local {
    async fn run(&mut self, sql: &str) -> Outcome {
        let mut parts = Vec::new();
        let failed = self.statements(sql, &mut parts).await;
        if let Err(error) = &failed {
            self.session.failed(error);
            self.notices(&mut parts);
            parts.push(part(error));
        }
        if let Err(error) = self.session.end_implicit(failed.is_ok()).await {
            self.session.failed(&error);
            parts.push(part(&error));
        }
        if let Some(builds) = self.session.take_builds() {
            builds.ended().await;
        }
        self.notices(&mut parts);
        parts
    }
}

impl Local {
    async fn statements(&mut self, sql: &str, parts: &mut Outcome) -> Result<(), Error> {
        let statements = self.session.parse(sql)?;
        for (at, statement) in statements.iter().enumerate() {
            if statements.len() > 1 {
                self.session.begin_implicit(true);
            }
            let prepared = self.session.prepare(statement, &[]).await?;
            let part = match self.session.execute(&prepared, &[]).await? {
                Answer::Rows { columns, mut rows, .. } => {
                    let mut all = Vec::new();
                    while let Some(batch) = rows.next().await {
                        all.extend(text_rows(&columns, &batch?)?);
                    }
                    let columns = columns.into_iter().map(|c| c.name).collect();
                    Some(Part::Rows { columns, rows: all })
                }
                Answer::Done { tag } => Some(Part::Done(tag)),
                // As over a socket, where a script sees no more of it than the tag.
                Answer::Copy(CopyAnswer::Out { mut rows, .. }) => {
                    let mut count = 0;
                    while let Some(batch) = rows.next().await {
                        count += batch?.num_rows();
                    }
                    Some(Part::Done(format!("COPY {count}")))
                }
                Answer::Copy(CopyAnswer::In { .. }) => panic!("a script has nothing to copy from: {sql}"),
                Answer::Empty => None,
            };
            if at + 1 == statements.len() {
                self.session.end_implicit(true).await?;
            }
            self.notices(parts);
            parts.extend(part);
        }
        Ok(())
    }

    fn notices(&mut self, parts: &mut Outcome) {
        parts.extend(self.session.take_notices().into_iter().map(|n| Part::Notice {
            severity: n.severity.to_owned(),
            code: n.code.to_owned(),
            message: n.message,
        }));
    }
}
