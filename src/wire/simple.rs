//! The simple protocol: a text of statements, run one after the other as one transaction.

use arrow::array::ArrayRef;
use pgwire::messages::response::EmptyQueryResponse;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Trouble,
    connection::{Connection, row_description},
    decode,
    portal::{Rows, Sent},
    values::Format,
};
use crate::{
    error::{Code, Error, Result},
    sql::{Answer, Constant, Prepared},
};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Runs a text; ReadyForQuery is the caller's. Several statements are one implicit transaction, and
    /// the last one's CommandComplete is sent only when that is committed.
    pub(super) async fn query(&mut self, text: &str) -> Result<(), Trouble> {
        // As in PostgreSQL, a simple query ends what the extended protocol left unnamed.
        self.portals.remove("");
        self.session.drop_statement("");
        let statements = self.running().run(async { self.session.parse(text) }).await?;
        let Some(last) = statements.len().checked_sub(1) else {
            self.channel.put(&EmptyQueryResponse::new())?;
            return Ok(());
        };
        for (at, statement) in statements.iter().enumerate() {
            if last > 0 {
                self.begin_implicit(true);
            }
            let mut running = self.running();
            let (mut prepared, constants) = running.run(self.session.prepare_lifted(statement)).await?;
            let params = match values(&prepared, &constants) {
                Ok(params) => params,
                // The whole statement tells better what is wrong with it.
                Err(_) => {
                    prepared = running.run(self.session.prepare(statement, &[])).await?;
                    Vec::new()
                }
            };
            if prepared.parameters.len() > params.len() {
                return Err(Error::new(Code::UndefinedParameter, "there is no parameter $1").into());
            }
            let binary = self.session.is_binary(&prepared);
            let tag = match running.run(self.session.execute(&prepared, &params)).await? {
                Answer::Rows { columns, rows, tag } => {
                    let format = match binary {
                        true => Format::Binary,
                        false => Format::Text,
                    };
                    let formats = vec![format; columns.len()];
                    let description = row_description(&columns, &formats)?;
                    let mut rows = Rows::new(columns, formats, rows, tag);
                    rows.fetch(&mut running).await?;
                    self.channel.put(&description)?;
                    match rows.send(&mut self.channel, &mut running, None).await? {
                        Sent::All(tag) => Some(tag),
                        Sent::Suspended => None,
                    }
                }
                Answer::Done { tag } => Some(tag),
                Answer::Copy(copy) => Some(self.copy(copy, &mut running).await?),
                Answer::Empty => None,
            };
            drop(running);
            if at == last {
                self.end_implicit(true).await?;
            }
            self.await_builds().await?;
            match tag {
                Some(tag) => self.complete(&tag)?,
                None => self.channel.put(&EmptyQueryResponse::new())?,
            }
        }
        Ok(())
    }
}

/// The values of a statement's parameters that were taken out of its text.
fn values(prepared: &Prepared, constants: &[Constant]) -> Result<Vec<ArrayRef>> {
    let each = prepared.parameters.iter().zip(constants);
    each.map(|(pg_type, constant)| decode::parameter(*pg_type, Format::Text, Some(constant.text.as_bytes())))
        .collect()
}
