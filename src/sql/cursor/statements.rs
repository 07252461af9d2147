//! What DECLARE, FETCH and MOVE say.

use datafusion::sql::sqlparser::{ast::Statement, tokenizer::TokenWithSpan};

use crate::{
    error::{Code, Error, Result},
    sql::words::Words,
};

/// `DECLARE name [BINARY] [[NO] SCROLL] CURSOR [{WITH | WITHOUT} HOLD] FOR query`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Declare {
    pub(super) name: String,
    pub(super) binary: bool,
    pub(super) scroll: bool,
    pub(super) hold: bool,
    pub(super) query: Box<Statement>,
}

/// `FETCH` or `MOVE`.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Fetch {
    pub(super) name: String,
    pub(super) way: Way,
    pub(super) moves: bool,
}

/// Which rows are asked for; `None` is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) enum Way {
    Forward(Option<u64>),
    Backward(Option<u64>),
    Absolute(i64),
    Relative(i64),
}

impl Way {
    /// So many rows forward, or backward if it is negative.
    fn rows(count: i64) -> Self {
        match count {
            0.. => Self::Forward(Some(count.unsigned_abs())),
            _ => Self::Backward(Some(count.unsigned_abs())),
        }
    }

    /// No rows backward are no rows forward.
    pub(super) fn plain(self) -> Self {
        match self {
            Self::Backward(Some(0)) => Self::Forward(Some(0)),
            way => way,
        }
    }
}

impl Declare {
    /// Parses the tokens of a DECLARE; `query` parses and judges the rest.
    pub(in crate::sql) fn parse(
        mut words: Words<'_>,
        query: &dyn Fn(&[TokenWithSpan]) -> Result<Statement>,
    ) -> Result<Self> {
        words.must("DECLARE")?;
        let name = words.name()?;
        let (mut binary, mut scroll, mut no_scroll) = (false, false, false);
        loop {
            match words.one_of(&["BINARY", "INSENSITIVE", "ASENSITIVE", "SCROLL", "NO", "CURSOR"]) {
                Some("BINARY") => binary = true,
                Some("SCROLL") => scroll = true,
                Some("NO") => {
                    words.must("SCROLL")?;
                    no_scroll = true;
                }
                // A cursor never sees what comes after it: both are the case.
                Some("INSENSITIVE" | "ASENSITIVE") => {}
                Some(_) => break,
                None => return Err(words.unexpected()),
            }
        }
        if scroll && no_scroll {
            return Err(Error::new(
                Code::InvalidCursorDefinition,
                "cannot specify both SCROLL and NO SCROLL",
            ));
        }
        let hold = match words.one_of(&["WITH", "WITHOUT"]) {
            Some(with) => {
                words.must("HOLD")?;
                with == "WITH"
            }
            None => false,
        };
        words.must("FOR")?;
        if words.peek().is_none() {
            return Err(words.unexpected());
        }
        let unexpected = words.unexpected();
        match query(words.rest())? {
            statement @ Statement::Query(_) => Ok(Self {
                name,
                binary,
                scroll,
                hold,
                query: Box::new(statement),
            }),
            _ => Err(unexpected),
        }
    }
}

impl Fetch {
    /// Parses the tokens of a FETCH or MOVE.
    pub(in crate::sql) fn parse(mut words: Words<'_>) -> Result<Self> {
        let moves = words.one_of(&["FETCH", "MOVE"]) == Some("MOVE");
        // A cursor may have the name of a direction: then nothing comes after it.
        let way = match words.left() == 1 {
            true => Way::Forward(Some(1)),
            false => way(&mut words)?,
        };
        let _ = words.one_of(&["FROM", "IN"]);
        let name = words.name()?;
        words.end()?;
        Ok(Self { name, way, moves })
    }
}

fn way(words: &mut Words<'_>) -> Result<Way> {
    const WORDS: &[&str] = &[
        "NEXT", "PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "ALL", "FORWARD", "BACKWARD",
    ];
    let Some(word) = words.one_of(WORDS) else {
        return Ok(words.integer().map_or(Way::Forward(Some(1)), Way::rows));
    };
    Ok(match word {
        "PRIOR" => Way::Backward(Some(1)),
        "FIRST" => Way::Absolute(1),
        "LAST" => Way::Absolute(-1),
        "ABSOLUTE" => Way::Absolute(words.integer()?),
        "RELATIVE" => Way::Relative(words.integer()?),
        "ALL" => Way::Forward(None),
        "FORWARD" if words.keyword("ALL") => Way::Forward(None),
        "FORWARD" => words.integer().map_or(Way::Forward(Some(1)), Way::rows),
        "BACKWARD" if words.keyword("ALL") => Way::Backward(None),
        "BACKWARD" => match words.integer() {
            Ok(count) => Way::rows(count.checked_neg().unwrap_or(i64::MAX)),
            Err(_) => Way::Backward(Some(1)),
        },
        _ => Way::Forward(Some(1)),
    })
}
