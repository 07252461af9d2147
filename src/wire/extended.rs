//! The extended protocol: Parse, Bind, Describe, Execute, Close.

use std::sync::Arc;

use pgwire::messages::{
    data::{NoData, ParameterDescription},
    extendedquery::{
        Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    },
    response::EmptyQueryResponse,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Trouble,
    connection::{Connection, row_description},
    decode, frame,
    portal::{Portal, Sent, State},
    values::Format,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    limits,
    sql::{Answer, Prepared},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Plans a statement and keeps it under its name.
    pub(super) async fn parse(&mut self, parse: Parse) -> Result<(), Trouble> {
        let name = parse.name.unwrap_or_default();
        if name.is_empty() {
            // Gone even if the new one turns out wrong, as in PostgreSQL.
            self.session.drop_statement("");
        } else if self.session.statement(&name).is_some() {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::new(Code::DuplicatePrepared, message).into());
        }
        let types = parse
            .type_oids
            .iter()
            .map(|&oid| declared(oid))
            .collect::<Result<Vec<_>>>()?;
        let prepared = self
            .running()
            .run(self.session.prepare_text(&parse.query, &types))
            .await?;
        self.session.keep_statement(&name, prepared)?;
        Ok(self.channel.put(&ParseComplete::new())?)
    }

    /// Binds values to a statement.
    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Trouble> {
        let portal = bind.portal_name.unwrap_or_default();
        let name = bind.statement_name.unwrap_or_default();
        let prepared = self.prepared(&name)?;
        if portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&portal) {
            return Err(Error::new(Code::DuplicateCursor, format!("cursor \"{portal}\" already exists")).into());
        }
        if self.portals.len() >= limits::SESSION_PORTALS {
            let message = format!("a session may hold {} portals", limits::SESSION_PORTALS);
            return Err(Error::new(Code::TooLarge, message)
                .with_hint("close those that are no longer used")
                .into());
        }
        let (given, wanted) = (bind.parameters.len(), prepared.parameters.len());
        if given != wanted {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement \"{name}\" requires {wanted}"
            );
            return Err(frame::violation(message).into());
        }
        let formats = spread(&bind.parameter_format_codes, given).ok_or_else(|| {
            let formats = bind.parameter_format_codes.len();
            frame::violation(format!(
                "bind message has {formats} parameter formats but {given} parameters"
            ))
        })?;
        let parameters = std::iter::zip(&prepared.parameters, formats)
            .zip(&bind.parameters)
            .map(|((&pg_type, format), value)| decode::parameter(pg_type, format, value.as_deref()))
            .collect::<Result<_>>()?;
        let columns = prepared.columns.len();
        let codes = &bind.result_column_format_codes;
        let formats = spread(codes, columns).ok_or_else(|| {
            let formats = codes.len();
            frame::violation(format!(
                "bind message has {formats} result formats but query has {columns} columns"
            ))
        })?;
        self.portals.insert(
            portal,
            Portal {
                prepared,
                parameters,
                formats,
                state: State::Bound,
            },
        );
        Ok(self.channel.put(&BindComplete::new())?)
    }

    /// Describes a statement (its parameters and columns) or a portal (its columns).
    pub(super) fn describe(&mut self, describe: Describe) -> Result<(), Trouble> {
        let name = describe.name.unwrap_or_default();
        let (prepared, formats) = if describe.target_type == b'S' {
            let prepared = self.prepared(&name)?;
            let types = prepared.parameters.iter().map(|pg_type| pg_type.oid()).collect();
            self.channel.put(&ParameterDescription::new(types))?;
            let formats = vec![Format::Text; prepared.columns.len()];
            (prepared, formats)
        } else if let Some(portal) = self.portals.get(&name) {
            (portal.prepared.clone(), portal.formats.clone())
        } else {
            // A cursor that SQL declared is a portal, too: psycopg asks so for its columns.
            let (columns, binary) = self.session.cursor(&name).ok_or_else(|| no_portal(&name))?;
            let formats = vec![if binary { Format::Binary } else { Format::Text }; columns.len()];
            return Ok(self.channel.put(&row_description(columns, &formats)?)?);
        };
        match prepared.returns_rows {
            true => self.channel.put(&row_description(&prepared.columns, &formats)?)?,
            false => self.channel.put(&NoData::new())?,
        }
        Ok(())
    }

    /// Runs a portal, or goes on sending its rows. After an error the portal is gone.
    pub(super) async fn execute(&mut self, execute: Execute) -> Result<(), Trouble> {
        let name = execute.name.unwrap_or_default();
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        self.begin_implicit(false);
        // Zero and less mean all, as in PostgreSQL.
        let limit = u64::try_from(execute.max_rows).ok().filter(|&rows| rows > 0);
        self.advance(&name, &mut portal, limit).await?;
        self.portals.insert(name, portal);
        Ok(())
    }

    async fn advance(&mut self, name: &str, portal: &mut Portal, limit: Option<u64>) -> Result<(), Trouble> {
        let mut running = self.running();
        let mut tag = None;
        match portal.state {
            State::Bound => {
                let answer = running
                    .run(self.session.execute(&portal.prepared, &portal.parameters))
                    .await?;
                tag = match answer {
                    Answer::Copy(copy) => {
                        portal.state = State::Done;
                        Some(self.copy(copy, &mut running).await?)
                    }
                    answer => portal.started(answer)?,
                };
            }
            State::Rows(_) => {}
            State::Done => return Err(Error::new(Code::NotReady, format!("portal \"{name}\" cannot be run")).into()),
        }
        if let State::Rows(rows) = &mut portal.state {
            match rows.send(&mut self.channel, &mut running, limit).await? {
                Sent::All(counted) => tag = Some(counted),
                Sent::Suspended => return Ok(self.channel.put(&PortalSuspended::new())?),
            }
        }
        match tag {
            Some(tag) => self.complete(&tag)?,
            None => self.channel.put(&EmptyQueryResponse::new())?,
        }
        Ok(())
    }

    /// Closes a statement, with the portals made of it, or a portal. What does not exist is closed already.
    pub(super) fn close(&mut self, close: Close) -> Result<(), Trouble> {
        let name = close.name.unwrap_or_default();
        if close.target_type == b'P' {
            self.portals.remove(&name);
        } else if let Some(prepared) = self.session.statement(&name) {
            self.session.drop_statement(&name);
            self.portals
                .retain(|_, portal| !Arc::ptr_eq(&portal.prepared, &prepared));
        }
        Ok(self.channel.put(&CloseComplete::new())?)
    }

    fn prepared(&self, name: &str) -> Result<Arc<Prepared>> {
        self.session.statement(name).ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            Error::new(Code::InvalidStatementName, message)
        })
    }
}

fn no_portal(name: &str) -> Error {
    Error::new(Code::InvalidCursorName, format!("portal \"{name}\" does not exist"))
}

/// The type a client declares for a parameter; `None` leaves it to the statement.
fn declared(oid: u32) -> Result<Option<PgType>> {
    const UNKNOWN: u32 = Scalar::Unknown.oid();
    match oid {
        0 | UNKNOWN => Ok(None),
        oid => match PgType::from_oid(oid) {
            Some(pg_type) => Ok(Some(pg_type)),
            None => Err(Error::new(
                Code::UndefinedObject,
                format!("type with OID {oid} does not exist"),
            )),
        },
    }
}

/// Format codes for `count` values: none means text, one is for all.
fn spread(codes: &[i16], count: usize) -> Option<Vec<Format>> {
    match codes {
        [] => Some(vec![Format::Text; count]),
        [code] => Some(vec![Format::of(*code); count]),
        codes if codes.len() == count => Some(codes.iter().map(|&code| Format::of(code)).collect()),
        _ => None,
    }
}
