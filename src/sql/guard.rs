//! Judges a text before anything is planned: which statements exist here, and how large they may be.
//!
//! Text becomes tokens, tokens are measured (depth, chain lengths, list sizes) *before* the
//! recursive parser sees them, and the parsed statement must be one of an allow-list. What comes
//! out is [`Parsed`], which only this file makes; nothing later asks again.

use datafusion::sql::sqlparser::{
    ast::{self, Query, SetExpr, Statement, TableFactor, Visit, Visitor},
    dialect::PostgreSqlDialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace},
};
use std::ops::ControlFlow;

use super::{
    copy::Copy,
    cursor::{Declare, Fetch},
    listen::Channel,
    spelling::{self, Overriding},
    tables::{cursor::Refused, ddl::Ddl, parse},
    users::UserStatement,
    words::Words,
};
use crate::{
    error::{Code, Error, Result},
    limits,
};

/// One allowed statement.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub(super) kind: Kind,
    /// The statement's own text, for `pg_prepared_statements`; without its literals where they may be secret.
    pub(super) text: String,
}

impl Parsed {
    /// Whether it looks at relations, so that what it sees of them is settled when it begins.
    pub(super) fn looks(&self) -> bool {
        match &self.kind {
            Kind::Sql(statement) => !matches!(
                **statement,
                Statement::Set(_)
                    | Statement::ShowVariable { .. }
                    | Statement::Reset(_)
                    | Statement::StartTransaction { .. }
                    | Statement::Commit { .. }
                    | Statement::Rollback { .. }
                    | Statement::Savepoint { .. }
                    | Statement::ReleaseSavepoint { .. }
                    | Statement::Deallocate { .. }
                    | Statement::Discard { .. }
            ),
            Kind::Ddl(_) | Kind::Copy(_) | Kind::Declare(_) | Kind::CurrentOf(_) => true,
            _ => false,
        }
    }
}

/// Words of statements that carry secrets: none of their literals is kept or listed.
const SECRET_WORDS: &[&str] = &["api_key", "password", "providers", "set_provider_key", "create_tenant"];
/// What stands in a kept text for a literal of such a statement.
const HIDDEN: &str = "'********'";

/// What an allowed statement is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// One statement of the parser's.
    Sql(Box<Statement>),
    /// What changes what exists.
    Ddl(Box<Ddl>),
    /// `CREATE | ALTER | DROP USER`.
    User(UserStatement),
    /// `LISTEN`, `UNLISTEN`, `NOTIFY`.
    Channel(Channel),
    Copy(Box<Copy>),
    Declare(Box<Declare>),
    /// `FETCH` and `MOVE`.
    Fetch(Fetch),
    /// `CLOSE name`; none is all.
    Close(Option<String>),
    /// A write to the row on which this cursor stands.
    CurrentOf(String),
    /// A text without a statement.
    Nothing,
}

/// Parses a text of any number of statements. Comments and empty statements give nothing.
pub(super) fn parse(sql: &str) -> Result<Vec<Parsed>> {
    if sql.len() > limits::STATEMENT_BYTES {
        return Err(Error::new(
            Code::TooLarge,
            format!(
                "statement of {} bytes is too large: at most {} are allowed",
                sql.len(),
                limits::STATEMENT_BYTES
            ),
        )
        .with_hint("send large values as parameters, or split the statement"));
    }
    let dialect = PostgreSqlDialect {};
    let mut tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|e| syntax(sql, &e.message, Some((e.location.line, e.location.column))))?;
    if tokens.len() > limits::STATEMENT_TOKENS {
        return Err(too_complex(format!(
            "statement has more than {} tokens",
            limits::STATEMENT_TOKENS
        )));
    }
    join_l1(&mut tokens);
    measure(&tokens)?;
    tokens
        .split(|t| t.token == Token::SemiColon)
        .filter(|part| {
            part.iter()
                .any(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF))
        })
        .map(|part| one(sql, part, &dialect))
        .collect()
}

fn one(sql: &str, tokens: &[TokenWithSpan], dialect: &PostgreSqlDialect) -> Result<Parsed> {
    let text = text_of(sql, tokens);
    if let Some(kind) = by_words(tokens)? {
        return Ok(Parsed { kind, text });
    }
    if let Some(kind) = by_grammar(sql, tokens, dialect)? {
        return Ok(Parsed { kind, text });
    }
    if parse::reads(&word_at(tokens, 0), &word_at(tokens, 1)) {
        let parser = parser(tokens, dialect).0;
        let ddl = parse::parse(parser).map_err(|refused| match refused {
            Refused::Syntax(error) => wrong(sql, error),
            Refused::Error(error) => error,
        })?;
        ddl.queries().try_for_each(allow_parts)?;
        ddl.expressions().try_for_each(allow_parts)?;
        let kind = Kind::Ddl(Box::new(ddl));
        return Ok(Parsed { kind, text });
    }
    let mut statement = read(sql, tokens, dialect)?;
    let into = parse::select_into(&mut statement)?;
    allow(&statement)?;
    let kind = match into {
        Some(ddl) => Kind::Ddl(Box::new(ddl)),
        None => Kind::Sql(Box::new(statement)),
    };
    Ok(Parsed { kind, text })
}

/// One statement of the parser's, if it is allowed.
fn statement(sql: &str, tokens: &[TokenWithSpan], dialect: &PostgreSqlDialect) -> Result<Statement> {
    let statement = read(sql, tokens, dialect)?;
    allow(&statement)?;
    Ok(statement)
}

fn parser<'d>(tokens: &[TokenWithSpan], dialect: &'d PostgreSqlDialect) -> (Parser<'d>, Option<Overriding>) {
    let (tokens, said) = spelling::plain(spell_out_table(tokens));
    let parser = Parser::new(dialect)
        .with_recursion_limit(limits::STATEMENT_DEPTH * 4)
        .with_tokens_with_locations(tokens);
    (parser, said)
}

fn wrong(sql: &str, error: ParserError) -> Error {
    match error {
        ParserError::RecursionLimitExceeded => too_complex("statement is nested too deeply".into()),
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => syntax(sql, &message, None),
    }
}

/// One statement of the parser's, not judged yet.
fn read(sql: &str, tokens: &[TokenWithSpan], dialect: &PostgreSqlDialect) -> Result<Statement> {
    let (mut parser, said) = parser(tokens, dialect);
    let statement = parser
        .parse_statement()
        .and_then(|statement| match parser.peek_token().token {
            Token::EOF => Ok(statement),
            _ => parser.expected("end of statement", parser.peek_token()),
        });
    let mut statement = statement.map_err(|e| wrong(sql, e))?;
    spelling::mark(&mut statement, said)?;
    Ok(statement)
}

/// A query that was put together here, of names that a client gave.
pub(super) fn query_of(text: &str) -> Result<Statement> {
    match parse(text)?.pop().map(|parsed| parsed.kind) {
        Some(Kind::Sql(statement)) => Ok(*statement),
        _ => Err(Error::internal("a query of ours is none")),
    }
}

/// Statements with a grammar of their own around a query of the parser's.
fn by_grammar(sql: &str, tokens: &[TokenWithSpan], dialect: &PostgreSqlDialect) -> Result<Option<Kind>> {
    let query = |tokens: &[TokenWithSpan]| match tokens.iter().all(|t| matches!(t.token, Token::Whitespace(_))) {
        true => Err(Error::new(Code::Syntax, "syntax error at end of input")),
        false => statement(sql, tokens, dialect),
    };
    let mut words = Words::new(sql, tokens);
    Ok(Some(match words.word(0).as_str() {
        "COPY" => Kind::Copy(Box::new(Copy::parse(words, &query)?)),
        "DECLARE" => Kind::Declare(Box::new(Declare::parse(words, &query)?)),
        "FETCH" | "MOVE" => Kind::Fetch(Fetch::parse(words)?),
        "LISTEN" | "UNLISTEN" | "NOTIFY" => Kind::Channel(Channel::parse(words)?),
        "CLOSE" => {
            words.must("CLOSE")?;
            let all = words.word(0) == "ALL";
            let name = words.name()?;
            words.end()?;
            Kind::Close((!all).then_some(name))
        }
        "UPDATE" | "DELETE" => match words.current_of() {
            Some(name) => Kind::CurrentOf(name),
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

/// The 1-based number of the character at a line and column, as errors give it.
pub(super) fn position(sql: &str, line: u64, column: u64) -> usize {
    let byte = offset(sql, line, column);
    sql[..byte.min(sql.len())].chars().count() + 1
}

/// An unquoted word in capitals; empty for anything else.
fn word_at(tokens: &[TokenWithSpan], at: usize) -> String {
    let mut real = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    match real.nth(at).map(|t| &t.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => String::new(),
    }
}

/// Statements which the parser does not know in PostgreSQL's form, told by their first words.
fn by_words(tokens: &[TokenWithSpan]) -> Result<Option<Kind>> {
    let words: Vec<&Token> = tokens
        .iter()
        .map(|t| &t.token)
        .filter(|t| !matches!(t, Token::Whitespace(_)))
        .collect();
    let word = |i: usize| match words.get(i) {
        Some(Token::Word(w)) if w.quote_style.is_none() => w.value.to_ascii_uppercase(),
        Some(Token::Mul) => "*".to_owned(),
        _ => String::new(),
    };
    Ok(match (word(0).as_str(), word(1).as_str()) {
        ("CREATE" | "ALTER" | "DROP", "USER" | "ROLE") => Some(Kind::User(UserStatement::parse(&words)?)),
        ("CREATE", "EXTERNAL" | "UNBOUNDED") => return Err(forbidden("CREATE EXTERNAL TABLE")),
        _ => None,
    })
}

/// A statement as it may be kept and listed.
pub(super) fn keepable(text: &str) -> String {
    let dialect = PostgreSqlDialect {};
    match Tokenizer::new(&dialect, text).tokenize_with_location() {
        Ok(tokens) => text_of(text, &tokens),
        Err(_) => HIDDEN.to_owned(),
    }
}

/// pgvector's `<+>`, which the tokenizer takes for three operators.
fn join_l1(tokens: &mut [TokenWithSpan]) {
    let apart = [Token::Lt, Token::Plus, Token::Gt];
    for at in 2..tokens.len() {
        let three = &mut tokens[at - 2..=at];
        let adjacent = three.windows(2).all(|pair| pair[0].span.end == pair[1].span.start);
        if adjacent && three.iter().map(|t| &t.token).eq(&apart) {
            three[0].token = Token::CustomBinaryOperator("<+>".to_owned());
            three[1].token = Token::Whitespace(Whitespace::Space);
            three[2].token = Token::Whitespace(Whitespace::Space);
        }
    }
}

/// `TABLE t` is `SELECT * FROM t`, which the parser knows.
fn spell_out_table(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut tokens = tokens.to_vec();
    let first = tokens.iter().position(|t| !matches!(t.token, Token::Whitespace(_)));
    if let Some(at) = first
        && let Token::Word(word) = &tokens[at].token
        && word.keyword == Keyword::TABLE
    {
        let span = tokens[at].span;
        let space = || Token::Whitespace(Whitespace::Space);
        let spelled = [
            Token::make_keyword("SELECT"),
            space(),
            Token::Mul,
            space(),
            Token::make_keyword("FROM"),
            space(),
        ];
        tokens.splice(at..=at, spelled.map(|token| TokenWithSpan { token, span }));
    }
    tokens
}

/// The part of the text that these tokens were read from, or the tokens without literals where these may be secret.
fn text_of(sql: &str, tokens: &[TokenWithSpan]) -> String {
    let secret = |t: &TokenWithSpan| matches!(&t.token, Token::Word(w) if SECRET_WORDS.iter().any(|s| w.value.eq_ignore_ascii_case(s)));
    if tokens.iter().any(secret) {
        let kept = tokens.iter().map(|t| match &t.token {
            Token::EOF => String::new(),
            Token::Whitespace(_) => " ".to_owned(),
            Token::Word(word) if word.quote_style.is_none() => word.value.clone(),
            token @ (Token::Comma
            | Token::LParen
            | Token::RParen
            | Token::Period
            | Token::Eq
            | Token::RArrow
            | Token::DoubleColon
            | Token::Placeholder(_)
            | Token::Mul) => token.to_string(),
            _ => HIDDEN.to_owned(),
        });
        return kept.collect::<String>().trim().to_owned();
    }
    let mut real = tokens
        .iter()
        .filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    let Some(first) = real.next() else { return String::new() };
    let last = real.next_back().unwrap_or(first);
    let from = offset(sql, first.span.start.line, first.span.start.column);
    let to = offset(sql, last.span.end.line, last.span.end.column).max(from);
    sql.get(from..to).unwrap_or(sql).to_owned()
}

/// Byte offset of a line and column, both from 1.
fn offset(sql: &str, line: u64, column: u64) -> usize {
    let start: usize = match line {
        0 | 1 => 0,
        n => sql
            .match_indices('\n')
            .nth(n as usize - 2)
            .map_or(sql.len(), |(i, _)| i + 1),
    };
    sql[start..]
        .char_indices()
        .nth(column.saturating_sub(1) as usize)
        .map_or(sql.len(), |(i, _)| start + i)
}

/// A parser's complaint in PostgreSQL's words and with its caret position.
fn syntax(sql: &str, message: &str, at: Option<(u64, u64)>) -> Error {
    let at = at.or_else(|| {
        let (_, place) = message.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
    });
    let plain = message.rsplit_once(" at Line: ").map_or(message, |(m, _)| m);
    let text = match plain.split_once(", found: ") {
        Some((_, "EOF")) => "syntax error at end of input".to_owned(),
        Some((_, found)) => format!("syntax error at or near \"{}\"", short(found)),
        None => format!("syntax error: {}", short(plain)),
    };
    let error = Error::new(Code::Syntax, text);
    match at {
        Some((line, column)) if line > 0 => error.with_position(position(sql, line, column)),
        _ => error,
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn too_complex(message: String) -> Error {
    Error::new(Code::TooComplex, message).with_hint("split the statement, or send lists as array parameters")
}

/// Keywords that are never an operator. Every other one may be, and counts as one.
#[rustfmt::skip] // a list to read across
const PLAIN_WORDS: &[Keyword] = &[
    Keyword::NoKeyword, Keyword::SELECT, Keyword::FROM, Keyword::WHERE, Keyword::GROUP, Keyword::ORDER, Keyword::BY,
    Keyword::HAVING, Keyword::LIMIT, Keyword::OFFSET, Keyword::ASC, Keyword::DESC, Keyword::NULLS, Keyword::FIRST,
    Keyword::LAST, Keyword::AS, Keyword::ON, Keyword::USING, Keyword::JOIN, Keyword::LEFT, Keyword::RIGHT, Keyword::INNER,
    Keyword::OUTER, Keyword::FULL, Keyword::CROSS, Keyword::WHEN, Keyword::THEN, Keyword::ELSE, Keyword::END, Keyword::ALL,
    Keyword::NULL, Keyword::TRUE, Keyword::FALSE, Keyword::DISTINCT, Keyword::VALUES, Keyword::TEXT, Keyword::INT,
    Keyword::BIGINT, Keyword::DATE, Keyword::VALUE, Keyword::NAME, Keyword::TYPE, Keyword::KEY, Keyword::USER,
];

/// An upper estimate of how deep the parsed statement is, without parsing it: along any path the
/// depth is at most the open brackets plus all operators at each of their levels since a comma.
/// Only brackets and commas give depth back: `CASE`, `WHEN` and `END` might be names to the parser.
fn measure(tokens: &[TokenWithSpan]) -> Result<()> {
    #[derive(Default)]
    struct Level {
        chain: usize,
        items: usize,
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut level = Level::default();
    let (mut depth, mut relations) = (0usize, 0usize);
    for token in tokens {
        let operator = match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                levels.push(std::mem::take(&mut level));
                depth += 1;
                false
            }
            closing @ (Token::RParen | Token::RBracket | Token::RBrace) => {
                if let Some(outer) = levels.pop() {
                    depth -= std::mem::replace(&mut level, outer).chain + 1;
                }
                // One subscript after the other nests.
                *closing == Token::RBracket
            }
            Token::SemiColon => {
                levels.clear();
                level = Level::default();
                (depth, relations) = (0, 0);
                false
            }
            Token::Comma => {
                depth -= std::mem::take(&mut level.chain);
                level.items += 1;
                if level.items >= limits::LIST_ITEMS {
                    let message = format!("a list has more than {} items", limits::LIST_ITEMS);
                    return Err(too_complex(message));
                }
                false
            }
            Token::Word(word) => {
                use Keyword::{EXCEPT, FROM, INTERSECT, JOIN, MINUS, UNION};
                relations += usize::from(matches!(word.keyword, JOIN | FROM | UNION | EXCEPT | INTERSECT | MINUS));
                check_relations(relations)?;
                !PLAIN_WORDS.contains(&word.keyword)
            }
            Token::Whitespace(_)
            | Token::EOF
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::DoubleQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period => false,
            // Everything else is an operator of some kind, and may lengthen a chain.
            _ => true,
        };
        level.chain += usize::from(operator);
        depth += usize::from(operator);
        if depth > limits::STATEMENT_DEPTH {
            return Err(too_complex(format!(
                "statement is nested too deeply: more than {} levels of brackets and chained operators",
                limits::STATEMENT_DEPTH
            )));
        }
    }
    Ok(())
}

fn check_relations(count: usize) -> Result<()> {
    match count > limits::STATEMENT_RELATIONS {
        true => Err(too_complex(format!(
            "statement names more than {} relations",
            limits::STATEMENT_RELATIONS
        ))),
        false => Ok(()),
    }
}

/// The allow-list. A statement that is not named here does not exist on this server.
fn allow(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Query(query) => allow_query(query),
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => allow_parts(statement),
        Statement::Truncate(truncate) if truncate.partitions.is_none() && truncate.on_cluster.is_none() => Ok(()),
        Statement::Explain { statement, .. } => allow(statement),
        Statement::Prepare { statement, .. } => allow(statement),
        Statement::Set(_)
        | Statement::ShowVariable { .. }
        | Statement::Reset(_)
        | Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. }
        | Statement::Execute { .. }
        | Statement::Deallocate { .. }
        | Statement::Discard { .. } => Ok(()),
        refused => Err(refuse(refused)),
    }
}

fn forbidden(name: &str) -> Error {
    Error::new(Code::InsufficientPrivilege, format!("permission denied: {name}"))
        .with_hint("a session reaches its own tenant's data only, never files, URLs or roles")
}

fn refuse(statement: &Statement) -> Error {
    // Its first words, up to where the user's own names or paths may begin.
    let text = statement.to_string();
    let name = text.split_whitespace().next().unwrap_or_default().to_owned();
    // What reaches outside the database, or towards other roles, is forbidden rather than missing.
    match matches!(statement, Statement::Load { .. } | Statement::AttachDatabase { .. }) {
        true => forbidden(&name),
        false => Error::new(Code::Unsupported, format!("{name} is not supported")),
    }
}

fn allow_query(query: &Query) -> Result<()> {
    allow_parts(query)
}

/// What may stand inside an allowed statement, and how many relations and subqueries so far.
#[derive(Default)]
struct Parts(usize);

impl Parts {
    fn one_more(&mut self) -> ControlFlow<Error> {
        self.0 += 1;
        check_relations(self.0 - 1).map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }
}

impl Visitor for Parts {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        self.one_more()?;
        match set_expr(&query.body) {
            Some(error) => ControlFlow::Break(error),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        self.one_more()?;
        match factor {
            TableFactor::Table { name, .. } if quoted_as_text(name) => ControlFlow::Break(Error::new(
                Code::Syntax,
                format!("syntax error at or near {}", short(&name.to_string())),
            )),
            TableFactor::Table {
                sample: None,
                json_path: None,
                partitions,
                version: None,
                ..
            } if partitions.is_empty() => ControlFlow::Continue(()),
            TableFactor::Derived { .. }
            | TableFactor::Function { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break(Error::new(Code::Unsupported, "this form of FROM item is not supported")),
        }
    }
}

/// `FROM 'path'`, which the parser takes and PostgreSQL does not.
fn quoted_as_text(name: &ast::ObjectName) -> bool {
    let quote = |part: &ast::ObjectNamePart| part.as_ident().and_then(|i| i.quote_style);
    name.0.iter().any(|part| quote(part) == Some('\''))
}

fn set_expr(body: &SetExpr) -> Option<Error> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => {
            Some(Error::new(Code::Unsupported, "SELECT INTO is not supported"))
        }
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) | SetExpr::Query(_) => None,
        SetExpr::SetOperation { left, right, .. } => set_expr(left).or_else(|| set_expr(right)),
        // The parts of it are visited as those of the query around it.
        SetExpr::Insert(Statement::Insert(_))
        | SetExpr::Update(Statement::Update(_))
        | SetExpr::Delete(Statement::Delete(_)) => None,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) => {
            Some(Error::new(Code::Syntax, "syntax error in a statement inside a query"))
        }
        SetExpr::Merge(_) => Some(Error::new(Code::Unsupported, "MERGE is not supported")),
    }
}

fn allow_parts(part: &impl Visit) -> Result<()> {
    match part.visit(&mut Parts::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}
