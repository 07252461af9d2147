//! SQL cursors: DECLARE, FETCH, MOVE and CLOSE.
//!
//! A cursor is a query that runs while it is fetched from: nothing is computed ahead but what its plan buffers.
//! One that may be scrolled keeps the rows it has read, and one that outlives its transaction reads them all when
//! that commits; both are bounded by [`limits::CURSOR_BYTES`].

mod rows;
mod statements;

use std::{collections::HashMap, sync::Arc};

use datafusion::sql::sqlparser::ast::Statement;
use tokio::sync::Mutex;

use super::{
    chain,
    prepared::Plan,
    session::{Answer, Column, RowTag, Session, Status},
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::documents::now_micros,
};
use rows::Rows;
pub(super) use statements::{Declare, Fetch, Way};

/// A cursor as `pg_cursors` shows it.
#[derive(Clone, Debug, Default)]
pub struct CursorInfo {
    /// Its name.
    pub name: String,
    /// The statement that declared it.
    pub statement: String,
    /// Whether it outlives its transaction.
    pub holdable: bool,
    /// Whether its rows come in binary form.
    pub binary: bool,
    /// Whether it goes backwards.
    pub scrollable: bool,
    /// When it was declared, in microseconds since 1970.
    pub created_micros: i64,
}

/// The cursors of one session.
#[derive(Default)]
pub(super) struct Cursors {
    open: HashMap<String, Cursor>,
    /// Counts the declared ones, so that a savepoint knows which came after it.
    declared: u64,
}

struct Cursor {
    info: CursorInfo,
    columns: Vec<Column>,
    /// Shared with the answers of FETCH, which are read after the statement has returned.
    rows: Arc<Mutex<Rows>>,
    /// Which one of the session's it is.
    number: u64,
    /// Whether it has outlived its transaction.
    held: bool,
}

fn undefined(name: &str) -> Error {
    Error::new(Code::InvalidCursorName, format!("cursor \"{name}\" does not exist"))
}

impl Cursors {
    /// How many were declared so far.
    pub(super) fn mark(&self) -> u64 {
        self.declared
    }

    /// Closes those that were declared after a mark.
    pub(super) fn roll_back_to(&mut self, mark: u64) {
        self.open.retain(|_, cursor| cursor.number <= mark);
    }

    /// The transaction ended: what it declared is closed, unless it was to be held and it committed.
    pub(super) fn end_transaction(&mut self, committed: bool) {
        self.open
            .retain(|_, cursor| cursor.held || (committed && cursor.info.holdable));
        self.open.values_mut().for_each(|cursor| cursor.held = true);
    }

    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    /// What `pg_cursors` shows, by name.
    pub(super) fn list(&self) -> Vec<CursorInfo> {
        let mut list: Vec<_> = self.open.values().map(|cursor| cursor.info.clone()).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    fn get(&self, name: &str) -> Result<&Cursor> {
        self.open.get(name).ok_or_else(|| undefined(name))
    }
}

impl Session {
    /// `DECLARE`.
    pub(super) async fn declare(&mut self, declare: &Declare, text: &str) -> Result<Answer> {
        if self.status == Status::Idle && !declare.hold {
            return Err(Error::new(
                Code::NoActiveTransaction,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if let Statement::Query(query) = declare.query.as_ref()
            && chain::is_chain(query)
        {
            return Err(Error::new(
                Code::Unsupported,
                "DECLARE CURSOR must not contain data-modifying statements in WITH",
            ));
        }
        if self.cursors.open.contains_key(&declare.name) {
            let message = format!("cursor \"{}\" already exists", declare.name);
            return Err(Error::new(Code::DuplicateCursor, message));
        }
        if self.cursors.open.len() >= limits::SESSION_PORTALS {
            let message = format!("a session may hold {} cursors", limits::SESSION_PORTALS);
            return Err(Error::new(Code::TooLarge, message).with_hint("close those that are no longer used"));
        }
        let Answer::Rows { columns, rows, .. } = self.run_inner(&declare.query).await? else {
            return Err(Error::internal("the query of a cursor gives no rows"));
        };
        let rows = Rows::new(rows, declare.scroll);
        self.cursors.declared += 1;
        let cursor = Cursor {
            info: CursorInfo {
                name: declare.name.clone(),
                statement: text.to_owned(),
                holdable: declare.hold,
                binary: declare.binary,
                scrollable: declare.scroll,
                created_micros: now_micros(),
            },
            columns,
            rows: Arc::new(Mutex::new(rows)),
            number: self.cursors.declared,
            held: false,
        };
        self.cursors.open.insert(declare.name.clone(), cursor);
        self.list_cursors();
        if self.status == Status::Idle {
            self.commit().await?;
        }
        Ok(Answer::Done {
            tag: "DECLARE CURSOR".to_owned(),
        })
    }

    /// `FETCH` and `MOVE`.
    pub(super) async fn fetch(&mut self, fetch: &Fetch) -> Result<Answer> {
        let cursor = self.cursors.get(&fetch.name)?;
        let (rows, columns) = (cursor.rows.clone(), cursor.columns.clone());
        if !fetch.moves
            && let Way::Forward(count) = fetch.way
            && count != Some(0)
            && !cursor.info.scrollable
        {
            return Ok(Answer::Rows {
                columns,
                rows: rows::forward(rows, count),
                tag: RowTag("FETCH"),
            });
        }
        if fetch.moves {
            let count = rows.lock().await.skip(fetch.way).await?;
            return Ok(Answer::Done {
                tag: RowTag("MOVE").render(count),
            });
        }
        let fetched = rows.lock().await.fetch(fetch.way).await?;
        Ok(Answer::Rows {
            columns,
            rows: Box::pin(futures::stream::iter(fetched.into_iter().map(Ok))),
            tag: RowTag("FETCH"),
        })
    }

    /// The columns that FETCH gives; none if there is no such cursor, which running it will say.
    pub(super) fn fetch_columns(&self, fetch: &Fetch) -> Vec<Column> {
        match self.cursors.open.get(&fetch.name) {
            Some(cursor) if !fetch.moves => cursor.columns.clone(),
            _ => Vec::new(),
        }
    }

    /// Whether a statement's rows come in binary form although the client did not ask for it: those of a
    /// binary cursor, fetched by a simple query.
    pub fn is_binary(&self, prepared: &super::Prepared) -> bool {
        match (&prepared.plan, &prepared.parsed.kind) {
            (Plan::Command, super::guard::Kind::Fetch(fetch)) => {
                let cursor = self.cursors.open.get(&fetch.name);
                cursor.is_some_and(|cursor| cursor.info.binary)
            }
            _ => false,
        }
    }

    /// The columns of a cursor of this name, and whether they come in binary form.
    pub fn cursor(&self, name: &str) -> Option<(&[Column], bool)> {
        let cursor = self.cursors.open.get(name)?;
        Some((&cursor.columns, cursor.info.binary))
    }

    /// `CLOSE name`, or `CLOSE ALL`.
    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<Answer> {
        let tag = match name {
            Some(name) => {
                self.cursors.open.remove(name).ok_or_else(|| undefined(name))?;
                "CLOSE CURSOR"
            }
            None => {
                self.cursors.close_all();
                "CLOSE CURSOR ALL"
            }
        };
        self.list_cursors();
        Ok(Answer::Done { tag: tag.to_owned() })
    }

    /// `WHERE CURRENT OF name`: no cursor knows which stored row it stands on.
    pub(super) fn current_of(&self, name: &str) -> Result<Answer> {
        self.cursors.get(name)?;
        Err(Error::new(Code::Unsupported, "WHERE CURRENT OF is not supported")
            .with_hint("fetch the primary key and name it in WHERE"))
    }

    /// Before a commit: reads the rest of what shall outlive it.
    pub(super) async fn hold_cursors(&mut self) -> Result<()> {
        for cursor in self.cursors.open.values() {
            if cursor.info.holdable && !cursor.held {
                cursor.rows.lock().await.read_all().await?;
            }
        }
        Ok(())
    }

    /// Tells the catalog which cursors there are.
    pub(super) fn list_cursors(&self) {
        *self.world.desk().cursors.lock() = self.cursors.list();
    }
}
