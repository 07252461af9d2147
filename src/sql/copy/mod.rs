//! `COPY ... TO STDOUT` and `COPY ... FROM STDIN`, without the bytes: those are [`crate::wire`]'s.
//!
//! COPY out is a query like any other, planned and run by the session, so that it sees what a SELECT sees.
//! COPY in takes rows of the target's columns as batches and writes all of them or none: [`Session::copy_in`]
//! is the one way in, whatever the target is.

mod options;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, new_null_array},
        compute::concat_batches,
    },
    sql::sqlparser::{
        ast::{ObjectName, Statement},
        tokenizer::{Token, TokenWithSpan},
    },
};
use futures::{Stream, StreamExt};

pub use options::{CopyFormat, CopyKind, Header};

use super::{
    guard::{Kind, Parsed},
    relations::{Change, Relation},
    session::{Answer, Column, RowStream, Session, Status},
    tables::copy_in::CopyTable,
    words::Words,
    world::World,
};
use crate::{
    codec::pgtype::PgType,
    error::{Code, Error, Result},
    limits,
};
use options::Options;

/// A parsed COPY.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    what: What,
    options: Options,
}

impl Copy {
    /// The query whose rows it sends, or the table into which it writes.
    pub(super) fn read_by(&self) -> std::result::Result<&Statement, &ObjectName> {
        match &self.what {
            What::Query(query) | What::Out(query) => Ok(query),
            What::In(table, _) => Err(table),
        }
    }
}

#[derive(Clone, Debug)]
enum What {
    /// `COPY (query) TO STDOUT`.
    Query(Box<Statement>),
    /// `COPY table TO STDOUT`: the query of its columns, and its own.
    Out(Box<Statement>),
    /// `COPY table FROM STDIN`; no columns are all of them.
    In(ObjectName, Vec<String>),
}

/// What COPY has the wire do.
pub enum CopyAnswer {
    /// Send these rows.
    Out {
        /// Their columns.
        columns: Vec<Column>,
        /// The rows.
        rows: RowStream,
        /// How they are written.
        format: CopyFormat,
    },
    /// Read rows of this target and give them to [`Session::copy_in`].
    In {
        /// Where they go.
        target: CopyTarget,
        /// How they are written.
        format: CopyFormat,
    },
}

/// Where the rows of a `COPY FROM STDIN` go.
pub struct CopyTarget {
    /// The relation's name, for messages.
    pub name: String,
    /// The columns that are given, in the order in which they are given. A batch holds exactly these, each in
    /// the Arrow type of [`PgType::field_of`].
    pub columns: Vec<Column>,
    pub(super) into: CopyInto,
}

/// What is written.
pub(super) enum CopyInto {
    /// A relation of the fixed ones.
    Relation(&'static Relation),
    /// A table of the tenant's own.
    Table(Box<CopyTable>),
}

impl Copy {
    /// Parses the tokens of a COPY; `query` parses and judges what stands in brackets.
    pub(super) fn parse(mut words: Words<'_>, query: &dyn Fn(&[TokenWithSpan]) -> Result<Statement>) -> Result<Self> {
        words.must("COPY")?;
        let mut options = Options::default();
        if words.word(0) == "BINARY" && !matches!(words.word(1).as_str(), "FROM" | "TO") {
            words.must("BINARY")?;
            options.binary();
        }
        if words.peek() == Some(&Token::LParen) {
            let inner = query(words.group()?)?;
            check_query(&inner)?;
            words.must("TO")?;
            end_point(&mut words, "STDOUT")?;
            options.parse(&mut words)?;
            let what = What::Query(Box::new(inner));
            return Ok(Self { what, options });
        }
        let table = words.object_name()?;
        let columns = match words.peek() {
            Some(Token::LParen) => words.names()?,
            _ => Vec::new(),
        };
        for (at, column) in columns.iter().enumerate() {
            if columns[..at].contains(column) {
                let message = format!("column \"{column}\" specified more than once");
                return Err(Error::new(Code::DuplicateColumn, message));
            }
        }
        let what = match words.one_of(&["FROM", "TO"]) {
            Some("FROM") => {
                end_point(&mut words, "STDIN")?;
                What::In(table, columns)
            }
            Some(_) => {
                end_point(&mut words, "STDOUT")?;
                What::Out(Box::new(super::guard::query_of(&select_text(&table, &columns))?))
            }
            None => return Err(words.unexpected()),
        };
        options.parse(&mut words)?;
        Ok(Self { what, options })
    }
}

/// Only what gives rows may stand in the brackets.
fn check_query(statement: &Statement) -> Result<()> {
    let returning = match statement {
        Statement::Query(_) => true,
        Statement::Insert(insert) => insert.returning.is_some(),
        Statement::Update(update) => update.returning.is_some(),
        Statement::Delete(delete) => delete.returning.is_some(),
        _ => return Err(Error::new(Code::Syntax, "COPY takes a query in its brackets")),
    };
    match returning {
        true => Ok(()),
        false => Err(Error::new(Code::Unsupported, "COPY query must have a RETURNING clause")),
    }
}

/// The client is the only end there is: a file, a program or a URL is outside of the wall.
fn end_point(words: &mut Words<'_>, named: &str) -> Result<()> {
    // PostgreSQL takes either name in either direction.
    if words.one_of(&["STDIN", "STDOUT"]).is_some() {
        return Ok(());
    }
    let outside = match words.peek() {
        Some(Token::Word(word)) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case("PROGRAM"),
        Some(Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::DollarQuotedString(_)) => true,
        _ => false,
    };
    match outside {
        true => Err(Error::new(
            Code::InsufficientPrivilege,
            "permission denied to COPY to or from a file or a program",
        )
        .with_hint(format!(
            "COPY reaches the client only: use {named}, as psql's \\copy does"
        ))),
        false => Err(words.unexpected()),
    }
}

fn select_text(table: &ObjectName, columns: &[String]) -> String {
    let quoted: Vec<String> = columns
        .iter()
        .map(|column| format!("\"{}\"", column.replace('"', "\"\"")))
        .collect();
    let list = match quoted.is_empty() {
        true => "*".to_owned(),
        false => quoted.join(", "),
    };
    let parts: Vec<String> = table
        .0
        .iter()
        .filter_map(|part| part.as_ident())
        .map(|part| format!("\"{}\"", part.value.replace('"', "\"\"")))
        .collect();
    format!("SELECT {list} FROM {}", parts.join("."))
}

impl Session {
    /// Begins a COPY.
    pub(super) async fn run_copy(&mut self, copy: &Copy) -> Result<Answer> {
        match &copy.what {
            What::Query(query) | What::Out(query) => {
                let answer = self.run_inner(query).await?;
                let Answer::Rows { columns, rows, .. } = answer else {
                    return Err(Error::internal("the query of a COPY gives no rows"));
                };
                let format = copy.options.format(true, &columns)?;
                Ok(Answer::Copy(CopyAnswer::Out { columns, rows, format }))
            }
            What::In(table, columns) => {
                let target = self.copy_target(table, columns)?;
                let format = copy.options.format(false, &target.columns)?;
                Ok(Answer::Copy(CopyAnswer::In { target, format }))
            }
        }
    }

    /// Plans and runs a statement that stands inside another.
    pub(super) async fn run_inner(&mut self, statement: &Statement) -> Result<Answer> {
        let parsed = Parsed {
            text: String::new(),
            kind: Kind::Sql(Box::new(statement.clone())),
        };
        let prepared = Arc::new(self.plan(&parsed, &[])?);
        if !prepared.parameters.is_empty() {
            return Err(Error::new(Code::UndefinedParameter, "there is no parameter $1"));
        }
        Box::pin(self.run(&prepared, &[])).await
    }

    /// What a `COPY table (columns) FROM STDIN` writes.
    fn copy_target(&self, table: &ObjectName, columns: &[String]) -> Result<CopyTarget> {
        if let Some(def) = self.own_table(table)? {
            let (into, columns) = self.copy_table(&def, columns)?;
            return Ok(CopyTarget {
                name: def.name.clone(),
                columns,
                into: CopyInto::Table(Box::new(into)),
            });
        }
        let relation = self.target(table)?;
        if relation.write.is_none() {
            let error = Error::new(
                Code::InsufficientPrivilege,
                format!("{} cannot be written", relation.name),
            );
            return Err(error.with_hint("it is derived by the server"));
        }
        let missing = |name: &str| {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", relation.name);
            Error::new(Code::UndefinedColumn, message)
        };
        let column = |(name, pg_type): &(&str, PgType)| Column {
            name: (*name).to_owned(),
            pg_type: *pg_type,
            type_modifier: -1,
            origin: None,
        };
        let columns = match columns.is_empty() {
            true => relation.columns.iter().map(column).collect(),
            false => columns
                .iter()
                .map(|name| {
                    let found = relation.columns.iter().find(|(n, _)| n == name);
                    found.map(column).ok_or_else(|| missing(name))
                })
                .collect::<Result<_>>()?,
        };
        Ok(CopyTarget {
            name: relation.name.to_owned(),
            columns,
            into: CopyInto::Relation(relation),
        })
    }

    /// Writes all rows of a COPY, or none: an error of theirs or of the writing undoes it. Gives their number.
    ///
    /// `rows` yields batches of the target's columns, and ends with an error where the client gave up or sent
    /// what is no row.
    ///
    /// # Errors
    /// That of `rows`; 53200 for more rows than one statement may change; those of the target and of a commit.
    pub async fn copy_in(
        &mut self,
        target: &CopyTarget,
        rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    ) -> Result<u64> {
        let count = match &target.into {
            CopyInto::Table(table) => {
                let count = self.copy_into_table(table, rows).await?;
                self.world.tenant()?.wrote(count);
                count
            }
            CopyInto::Relation(relation) => self.copy_into_relation(relation, target, rows).await?,
        };
        if let World::Tenant(world) = &*self.world {
            world.wrote(count);
        }
        if self.status == Status::Idle {
            self.commit().await?;
        }
        self.trail_ended(false);
        Ok(count)
    }

    /// A fixed relation takes all rows at once: what cannot be read must not have cost a call of a model.
    async fn copy_into_relation(
        &mut self,
        relation: &'static Relation,
        target: &CopyTarget,
        mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    ) -> Result<u64> {
        let Some(writer) = relation.write else {
            return Err(Error::internal("a view was written"));
        };
        if self.world.operator().is_ok() && self.status == Status::Open {
            return Err(Error::new(
                Code::ActiveTransaction,
                "the operator's tables cannot be changed inside a transaction block",
            ));
        }
        let schema = relation.arrow();
        let places: Vec<Option<usize>> = relation
            .columns
            .iter()
            .map(|(name, _)| target.columns.iter().position(|c| c.name == *name))
            .collect();
        let (mut batches, mut bytes) = (Vec::new(), 0_usize);
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            bytes += batch.get_array_memory_size();
            if bytes > limits::TENANT_QUERY_BYTES {
                let error = Error::new(Code::OutOfMemory, "the statement changes too many rows at once");
                return Err(error.with_hint("change fewer rows in one statement"));
            }
            // NULL asks for the default.
            let column = |(place, field): (&Option<usize>, &Arc<_>)| -> ArrayRef {
                let field: &datafusion::arrow::datatypes::Field = field;
                match place {
                    Some(place) => batch.column(*place).clone(),
                    None => new_null_array(field.data_type(), batch.num_rows()),
                }
            };
            let columns = places.iter().zip(schema.fields()).map(column).collect();
            batches.push(RecordBatch::try_new(schema.clone(), columns).map_err(Error::internal)?);
        }
        let rows = concat_batches(&schema, &batches).map_err(Error::internal)?;
        drop(batches);
        let count = rows.num_rows() as u64;
        if let World::Tenant(world) = &*self.world {
            world.tx.lock().forget_seen();
        }
        if self.world.operator().is_ok() {
            self.point_of_no_return();
        }
        writer(self.world.clone(), Change::Insert(rows)).await?;
        Ok(count)
    }
}
