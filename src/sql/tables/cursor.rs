//! Reads words, names and lists out of a statement, with the foreign parser for expressions and types.

use datafusion::sql::sqlparser::{
    ast::{Expr, Ident, Query},
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::{
    ddl::{Name, Who},
    names::cut,
};
use crate::error::{Code, Error};

/// Why a statement was not taken.
#[derive(Debug)]
pub(in crate::sql) enum Refused {
    /// It is not SQL of ours.
    Syntax(ParserError),
    /// It is understood and refused.
    Error(Error),
}

impl From<ParserError> for Refused {
    fn from(error: ParserError) -> Self {
        Self::Syntax(error)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

pub(super) type Parsed<T> = Result<T, Refused>;

/// A place in a statement.
pub(super) struct Cursor<'a> {
    pub(super) parser: Parser<'a>,
}

pub(super) fn unsupported<T>(what: impl Into<String>) -> Parsed<T> {
    Err(Error::new(Code::Unsupported, format!("{} is not supported", what.into())).into())
}

impl<'a> Cursor<'a> {
    pub(super) fn new(parser: Parser<'a>) -> Self {
        Self { parser }
    }

    /// Whether the token `ahead` is this unquoted word.
    pub(super) fn at(&self, ahead: usize, word: &str) -> bool {
        match &self.parser.peek_nth_token_ref(ahead).token {
            Token::Word(w) => w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word),
            _ => false,
        }
    }

    /// Takes these words if they are next.
    pub(super) fn take(&mut self, words: &str) -> bool {
        let count = words.split(' ').count();
        if !words.split(' ').enumerate().all(|(i, word)| self.at(i, word)) {
            return false;
        }
        for _ in 0..count {
            self.parser.next_token();
        }
        true
    }

    /// Takes these words, which must be next.
    pub(super) fn expect(&mut self, words: &str) -> Parsed<()> {
        match self.take(words) {
            true => Ok(()),
            false => self.wrong(),
        }
    }

    /// A syntax error at the next token.
    pub(super) fn wrong<T>(&self) -> Parsed<T> {
        Ok(self.parser.expected("other", self.parser.peek_token())?)
    }

    pub(super) fn token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Parsed<()> {
        match self.token(token) {
            true => Ok(()),
            false => self.wrong(),
        }
    }

    pub(super) fn ended(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }

    pub(super) fn ident(&mut self) -> Parsed<String> {
        match &self.parser.peek_token_ref().token {
            Token::Word(_) => Ok(fold(&self.parser.parse_identifier()?)),
            _ => self.wrong(),
        }
    }

    /// A possibly qualified name.
    pub(super) fn name(&mut self) -> Parsed<Name> {
        let mut parts = vec![self.ident()?];
        while self.token(&Token::Period) {
            parts.push(self.ident()?);
        }
        name_of(parts)
    }

    /// `schema.table.column`.
    pub(super) fn column_name(&mut self) -> Parsed<(Name, String)> {
        let mut parts = vec![self.ident()?];
        while self.token(&Token::Period) {
            parts.push(self.ident()?);
        }
        match parts.pop() {
            Some(column) if !parts.is_empty() => Ok((name_of(parts)?, column)),
            _ => Err(Error::new(Code::Syntax, "column name must be qualified").into()),
        }
    }

    pub(super) fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.token(&Token::Comma) {
            all.push(one(self)?);
        }
        Ok(all)
    }

    /// `(a, b)`.
    pub(super) fn columns(&mut self) -> Parsed<Vec<String>> {
        self.expect_token(&Token::LParen)?;
        let columns = self.list(Self::ident)?;
        self.expect_token(&Token::RParen)?;
        Ok(columns)
    }

    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        Ok(self.parser.parse_expr()?)
    }

    /// `(expr)`.
    pub(super) fn bracketed(&mut self) -> Parsed<Expr> {
        self.expect_token(&Token::LParen)?;
        let expr = self.expr()?;
        self.expect_token(&Token::RParen)?;
        Ok(expr)
    }

    pub(super) fn query(&mut self) -> Parsed<Box<Query>> {
        Ok(self.parser.parse_query()?)
    }

    pub(super) fn who(&mut self) -> Parsed<Who> {
        self.take("GROUP");
        for word in ["CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"] {
            if self.take(word) {
                return Ok(Who::CurrentUser);
            }
        }
        Ok(match self.take("PUBLIC") {
            true => Who::Public,
            false => Who::Named(self.ident()?),
        })
    }

    pub(super) fn integer(&mut self) -> Parsed<i64> {
        let minus = self.token(&Token::Minus);
        if !minus {
            self.token(&Token::Plus);
        }
        let Token::Number(number, _) = self.parser.peek_token_ref().token.clone() else {
            return self.wrong();
        };
        let signed = if minus { format!("-{number}") } else { number };
        let Ok(value) = signed.parse() else {
            let text = format!("value \"{signed}\" is out of range for type bigint");
            return Err(Error::new(Code::NumericOutOfRange, text).into());
        };
        self.parser.next_token();
        Ok(value)
    }

    /// `CASCADE`, `RESTRICT` or neither: whether it cascades.
    pub(super) fn cascade(&mut self) -> bool {
        if self.take("CASCADE") {
            return true;
        }
        self.take("RESTRICT");
        false
    }

    /// `(name = value, name, ...)`, as text.
    pub(super) fn options(&mut self) -> Parsed<Vec<(String, String)>> {
        self.expect_token(&Token::LParen)?;
        let options = self.list(|c| {
            let mut name = c.ident()?;
            while c.token(&Token::Period) {
                name = format!("{name}.{}", c.ident()?);
            }
            let mut value = String::from("true");
            if c.token(&Token::Eq) {
                let minus = c.token(&Token::Minus);
                value = match c.parser.next_token().token {
                    Token::Word(w) => w.value,
                    Token::Number(n, _) if minus => format!("-{n}"),
                    Token::Number(n, _) => n,
                    Token::SingleQuotedString(s) => s,
                    _ => {
                        c.parser.prev_token();
                        return c.wrong();
                    }
                };
            }
            Ok((name.to_lowercase(), value))
        })?;
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }
}

/// An identifier as it is meant: folded unless quoted, at most 63 bytes.
pub(in crate::sql) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => cut(&ident.value),
        None => cut(&ident.value.to_lowercase()),
    }
}

pub(super) fn name_of(mut parts: Vec<String>) -> Parsed<Name> {
    let name = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    let database = parts.pop();
    match parts.is_empty() {
        true => Ok(Name { database, schema, name }),
        false => Err(Error::new(Code::Syntax, "improper qualified name (too many dotted names)").into()),
    }
}
