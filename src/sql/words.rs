//! A cursor over the tokens of one statement, for the statements that the SQL parser does not take in
//! PostgreSQL's form.

use datafusion::sql::sqlparser::{
    ast::{Ident, ObjectName},
    tokenizer::{Token, TokenWithSpan},
};

use super::{guard, pg::catalog};
use crate::error::{Code, Error, Result};

/// The tokens of a statement that are no white space.
pub(super) struct Words<'a> {
    sql: &'a str,
    tokens: &'a [TokenWithSpan],
    /// The places in `tokens` of those that count.
    real: Vec<usize>,
    at: usize,
}

impl<'a> Words<'a> {
    /// The tokens, which were read from `sql`.
    pub(super) fn new(sql: &'a str, tokens: &'a [TokenWithSpan]) -> Self {
        let real = tokens.iter().enumerate();
        let real = real.filter(|(_, t)| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
        Self {
            sql,
            tokens,
            real: real.map(|(at, _)| at).collect(),
            at: 0,
        }
    }

    fn place(&self, ahead: usize) -> Option<usize> {
        self.real.get(self.at + ahead).copied()
    }

    fn token(&self, ahead: usize) -> Option<&'a TokenWithSpan> {
        self.tokens.get(self.place(ahead)?)
    }

    /// The next token.
    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.token(0).map(|t| &t.token)
    }

    /// The unquoted word that many tokens ahead, in capitals; empty if there is none.
    pub(super) fn word(&self, ahead: usize) -> String {
        match self.token(ahead).map(|t| &t.token) {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    /// Takes this word, if it is next.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.word(0) == keyword;
        self.at += usize::from(found);
        found
    }

    /// Takes one of these words, if one is next.
    pub(super) fn one_of(&mut self, keywords: &[&'static str]) -> Option<&'static str> {
        keywords.iter().copied().find(|keyword| self.keyword(keyword))
    }

    /// Takes this word, which must be next.
    pub(super) fn must(&mut self, keyword: &str) -> Result<()> {
        match self.keyword(keyword) {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    /// Takes this token, if it is next.
    pub(super) fn symbol(&mut self, symbol: &Token) -> bool {
        let found = self.peek() == Some(symbol);
        self.at += usize::from(found);
        found
    }

    /// A name: folded, unless it is quoted.
    pub(super) fn name(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Word(word)) if matches!(word.quote_style, None | Some('"')) => {
                self.at += 1;
                Ok(match word.quote_style {
                    Some(_) => word.value.clone(),
                    None => word.value.to_lowercase(),
                })
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A name of several parts; each comes out as it is meant, quoted where it must be.
    pub(super) fn object_name(&mut self) -> Result<ObjectName> {
        let meant = |name: String| match catalog::quote_ident(&name) == name {
            true => Ident::new(name),
            false => Ident::with_quote('"', name),
        };
        let mut parts = vec![meant(self.name()?)];
        while self.symbol(&Token::Period) {
            parts.push(meant(self.name()?));
        }
        Ok(ObjectName::from(parts))
    }

    /// `(a, b)`.
    pub(super) fn names(&mut self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        if !self.symbol(&Token::LParen) {
            return Err(self.unexpected());
        }
        loop {
            names.push(self.name()?);
            if self.symbol(&Token::RParen) {
                return Ok(names);
            }
            if !self.symbol(&Token::Comma) {
                return Err(self.unexpected());
            }
        }
    }

    /// A text literal.
    pub(super) fn string(&mut self) -> Result<String> {
        let text = match self.peek() {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => text.clone(),
            Some(Token::DollarQuotedString(text)) => text.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(text)
    }

    /// A whole number, signed or not.
    pub(super) fn integer(&mut self) -> Result<i64> {
        let start = self.at;
        let negative = self.symbol(&Token::Minus);
        if !negative {
            self.symbol(&Token::Plus);
        }
        if let Some(Token::Number(digits, false)) = self.peek()
            && let Ok(number) = digits.parse::<i64>()
        {
            self.at += 1;
            return Ok(if negative { -number } else { number });
        }
        let error = self.unexpected();
        self.at = start;
        Err(error)
    }

    /// What stands between this bracket, which must be next, and the one that closes it.
    pub(super) fn group(&mut self) -> Result<&'a [TokenWithSpan]> {
        let Some(open) = self.place(0).filter(|_| self.peek() == Some(&Token::LParen)) else {
            return Err(self.unexpected());
        };
        let mut depth = 0_usize;
        while let Some(place) = self.place(0) {
            match self.tokens[place].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(&self.tokens[open + 1..place]);
            }
        }
        Err(self.unexpected())
    }

    /// How many tokens are left.
    pub(super) fn left(&self) -> usize {
        self.real.len() - self.at
    }

    /// The cursor of a `WHERE CURRENT OF name` that ends the statement, perhaps with a RETURNING after it.
    pub(super) fn current_of(&self) -> Option<String> {
        let at = (0..self.left())
            .find(|&at| self.word(at) == "WHERE" && self.word(at + 1) == "CURRENT" && self.word(at + 2) == "OF")?;
        let mut name = Self {
            real: self.real.clone(),
            at: self.at + at + 3,
            ..*self
        };
        name.name().ok()
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [TokenWithSpan] {
        let rest = self.place(0).map_or(&[][..], |place| &self.tokens[place..]);
        self.at = self.real.len();
        rest
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected()),
        }
    }

    /// The complaint about the next token.
    pub(super) fn unexpected(&self) -> Error {
        match self.token(0) {
            None => Error::new(Code::Syntax, "syntax error at end of input"),
            Some(found) => {
                let shown: String = found.token.to_string().chars().take(80).collect();
                let position = guard::position(self.sql, found.span.start.line, found.span.start.column);
                Error::new(Code::Syntax, format!("syntax error at or near \"{shown}\"")).with_position(position)
            }
        }
    }
}
