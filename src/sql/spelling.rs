//! PostgreSQL's spellings that the parser does not take, turned into ones that it does, token by token.

use datafusion::sql::sqlparser::{
    ast::{Insert, SetExpr, Statement},
    tokenizer::{Token, TokenWithSpan, Whitespace},
};

use crate::error::{Code, Error, Result};

/// `OVERRIDING { SYSTEM | USER } VALUE`, which stands in no place of the parser's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overriding {
    /// Values given for identity columns that are always generated are taken.
    System,
    /// Values given for identity columns are ignored.
    User,
}

/// How a parsed INSERT says that it overrides: in two flags of other dialects, which [`mark`] makes ours.
pub(super) fn overriding(insert: &Insert) -> Option<Overriding> {
    match (insert.ignore, insert.overwrite) {
        (true, _) => Some(Overriding::System),
        (_, true) => Some(Overriding::User),
        _ => None,
    }
}

/// The word of a token where it is a bare one, in upper case.
fn word(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    }
}

/// The tokens as the parser takes them, and what was said besides.
pub(super) fn plain(mut tokens: Vec<TokenWithSpan>) -> (Vec<TokenWithSpan>, Option<Overriding>) {
    // Positions of what is no white space, with its words.
    let real: Vec<(usize, Option<String>)> = tokens
        .iter()
        .enumerate()
        .filter(|(_, t)| !matches!(t.token, Token::Whitespace(_) | Token::EOF))
        .map(|(at, t)| (at, word(t)))
        .collect();
    let is = |i: usize, wanted: &str| real.get(i).is_some_and(|(_, word)| word.as_deref() == Some(wanted));
    let mut overriding = None;
    let mut blank = Vec::new();
    let mut listed: Vec<(usize, usize)> = Vec::new();
    let modes = ["BEGIN", "START", "SET"].iter().any(|first| is(0, first));
    let mut of = None;
    for i in 0..real.len() {
        if modes && is(i, "DEFERRABLE") {
            blank.push(i);
            let before = match is(i.wrapping_sub(1), "NOT") {
                true => {
                    blank.push(i - 1);
                    i.wrapping_sub(2)
                }
                false => i.wrapping_sub(1),
            };
            let comma = |i: usize| real.get(i).is_some_and(|(at, _)| tokens[*at].token == Token::Comma);
            blank.extend([before, i + 1].into_iter().find(|i| comma(*i)));
        }
        if is(i, "FOR") && is(i + 1, "NO") && is(i + 2, "KEY") && is(i + 3, "UPDATE") {
            blank.extend([i + 1, i + 2]);
        }
        if is(i, "FOR") && is(i + 1, "KEY") && is(i + 2, "SHARE") {
            blank.push(i + 1);
        }
        if is(i, "OVERRIDING") && is(i + 2, "VALUE") && (is(i + 1, "SYSTEM") || is(i + 1, "USER")) {
            overriding = Some(match is(i + 1, "SYSTEM") {
                true => Overriding::System,
                false => Overriding::User,
            });
            blank.extend([i, i + 1, i + 2]);
        }
        // FOR UPDATE OF a, b: each gets a clause of its own.
        let locks = is(i, "UPDATE") || is(i, "SHARE");
        if locks && is(i + 1, "OF") && (1..=3).any(|back| is(i.wrapping_sub(back), "FOR")) {
            of = Some(i);
        }
        match of {
            Some(kind) if i > kind + 1 => match (&tokens[real[i].0].token, &real[i].1) {
                (Token::Comma, _) => listed.push((i, kind)),
                (Token::Period | Token::Word(_), word)
                    if !matches!(word.as_deref(), Some("NOWAIT" | "SKIP" | "FOR" | "LIMIT")) => {}
                _ => of = None,
            },
            _ => {}
        }
    }
    if is(0, "ABORT") {
        tokens[real[0].0].token = Token::make_keyword("ROLLBACK");
    }
    identity_options(&mut tokens, &real);
    conflict_predicate(&tokens, &real, &mut blank);
    for i in blank {
        if let Some((at, _)) = real.get(i) {
            tokens[*at].token = Token::Whitespace(Whitespace::Space);
        }
    }
    for (comma, kind) in listed.into_iter().rev() {
        let at = real[comma].0;
        let span = tokens[at].span;
        let space = Token::Whitespace(Whitespace::Space);
        let again = [
            space.clone(),
            Token::make_keyword("FOR"),
            space.clone(),
            tokens[real[kind].0].token.clone(),
            space.clone(),
            Token::make_keyword("OF"),
            space,
        ];
        tokens.splice(at..=at, again.map(|token| TokenWithSpan { token, span }));
    }
    (tokens, overriding)
}

/// `AS IDENTITY (...)`: PostgreSQL takes the options in any order, the parser in one.
fn identity_options(tokens: &mut [TokenWithSpan], real: &[(usize, Option<String>)]) {
    const ORDER: [&str; 6] = ["INCREMENT", "MINVALUE", "MAXVALUE", "START", "CACHE", "CYCLE"];
    let place = |word: &Option<String>| ORDER.iter().position(|known| word.as_deref() == Some(known));
    for open in 2..real.len() {
        let identity = real[open - 1].1.as_deref() == Some("IDENTITY") && real[open - 2].1.as_deref() == Some("AS");
        if !identity || tokens[real[open].0].token != Token::LParen {
            continue;
        }
        let rest = &real[open + 1..];
        let Some(length) = rest.iter().position(|(at, _)| tokens[*at].token == Token::RParen) else {
            return;
        };
        // Each option with its words, and its place in the parser's order.
        let mut options: Vec<(usize, Vec<Token>)> = Vec::new();
        for (i, (at, word)) in rest[..length].iter().enumerate() {
            let token = tokens[*at].token.clone();
            let after_no = i > 0 && rest[i - 1].1.as_deref() == Some("NO");
            let begins = match word.as_deref() {
                Some("NO") => rest.get(i + 1).and_then(|(_, next)| place(next)),
                _ if after_no => None,
                _ => place(word),
            };
            match (begins, options.last_mut()) {
                (Some(place), _) => options.push((place, vec![token])),
                (None, Some((_, words))) => words.push(token),
                (None, None) => return,
            }
        }
        options.sort_by_key(|(place, _)| *place);
        let ordered = options.into_iter().flat_map(|(_, words)| words);
        for ((at, _), token) in rest[..length].iter().zip(ordered) {
            tokens[*at].token = token;
        }
    }
}

/// `ON CONFLICT (...) WHERE ... DO`: the predicate only helps PostgreSQL to find a partial index.
fn conflict_predicate(tokens: &[TokenWithSpan], real: &[(usize, Option<String>)], blank: &mut Vec<usize>) {
    let is = |i: usize, wanted: &str| real.get(i).is_some_and(|(_, word)| word.as_deref() == Some(wanted));
    let token = |i: usize| real.get(i).map(|(at, _)| &tokens[*at].token);
    let Some(start) = (0..real.len()).find(|&i| is(i, "ON") && is(i + 1, "CONFLICT")) else {
        return;
    };
    if token(start + 2) != Some(&Token::LParen) {
        return;
    }
    let mut depth = 0usize;
    let mut from = None;
    for i in start + 2..real.len() {
        match token(i) {
            Some(Token::LParen) => depth += 1,
            Some(Token::RParen) => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            _ if is(i, "WHERE") && from.is_none() => from = Some(i),
            _ if is(i, "DO") => {
                blank.extend(from.into_iter().flat_map(|from| from..i));
                return;
            }
            _ => {}
        }
    }
}

/// Puts what was said besides into the statement's INSERT.
///
/// # Errors
/// 42601 where there is no INSERT, or one in another dialect's words.
pub(super) fn mark(statement: &mut Statement, said: Option<Overriding>) -> Result<()> {
    match statement {
        Statement::Insert(insert) => {
            if insert.ignore || insert.overwrite || insert.replace_into {
                return Err(Error::new(Code::Syntax, "syntax error in INSERT"));
            }
            insert.ignore = said == Some(Overriding::System);
            insert.overwrite = said == Some(Overriding::User);
            Ok(())
        }
        Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => mark(statement, said),
        Statement::Query(query) => match query.body.as_mut() {
            SetExpr::Insert(inner) => mark(inner, said),
            _ => in_list(query, said),
        },
        _ => refuse(said),
    }
}

/// INSERTs in WITH: the words are for the one there is.
fn in_list(query: &mut datafusion::sql::sqlparser::ast::Query, said: Option<Overriding>) -> Result<()> {
    let ctes = query.with.iter_mut().flat_map(|with| with.cte_tables.iter_mut());
    let mut inserts: Vec<_> = ctes
        .filter_map(|cte| match cte.query.body.as_mut() {
            SetExpr::Insert(insert) => Some(insert),
            _ => None,
        })
        .collect();
    match inserts.as_mut_slice() {
        [] => refuse(said),
        [one] => mark(one, said),
        all if said.is_none() => all.iter_mut().try_for_each(|one| mark(one, None)),
        _ => Err(Error::new(
            Code::Unsupported,
            "OVERRIDING with several INSERTs is not supported",
        )),
    }
}

fn refuse(said: Option<Overriding>) -> Result<()> {
    match said {
        None => Ok(()),
        Some(_) => Err(Error::new(Code::Syntax, "syntax error at or near \"OVERRIDING\"")),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::{
        ast::Statement, dialect::PostgreSqlDialect, parser::Parser, tokenizer::Tokenizer,
    };

    use super::*;

    fn read(sql: &str) -> Statement {
        let dialect = PostgreSqlDialect {};
        let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().unwrap();
        let (tokens, said) = plain(tokens);
        let mut statement = Parser::new(&dialect)
            .with_tokens_with_locations(tokens)
            .parse_statement()
            .unwrap();
        mark(&mut statement, said).unwrap();
        statement
    }

    #[test]
    fn postgresql_spellings_become_the_parsers() {
        assert_eq!(
            read("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE").to_string(),
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY"
        );
        assert_eq!(
            read("SELECT 1 FROM t, u FOR NO KEY UPDATE OF t, u SKIP LOCKED").to_string(),
            "SELECT 1 FROM t, u FOR UPDATE OF t FOR UPDATE OF u SKIP LOCKED"
        );
        assert_eq!(read("ABORT WORK").to_string(), "ROLLBACK");
        assert_eq!(read("SELECT 1 AS abort").to_string(), "SELECT 1 AS abort");
        assert_eq!(
            read("CREATE TABLE t (a int GENERATED BY DEFAULT AS IDENTITY (START 100 NO CYCLE INCREMENT BY 10))")
                .to_string(),
            read("CREATE TABLE t (a int GENERATED BY DEFAULT AS IDENTITY (INCREMENT BY 10 START 100 NO CYCLE))")
                .to_string()
        );
        assert_eq!(
            read("SELECT 1 FROM t FOR KEY SHARE").to_string(),
            "SELECT 1 FROM t FOR SHARE"
        );
        let Statement::Insert(insert) = read("INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1)") else {
            panic!("no INSERT");
        };
        assert_eq!(overriding(&insert), Some(Overriding::System));
        assert_eq!(
            read("INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE (b > 0) AND c DO NOTHING").to_string(),
            "INSERT INTO t VALUES (1) ON CONFLICT(a) DO NOTHING"
        );
    }

    #[test]
    fn words_of_other_dialects_stay_errors() {
        let dialect = PostgreSqlDialect {};
        let mut foreign = Parser::parse_sql(&dialect, "INSERT OVERWRITE TABLE t SELECT 1").unwrap();
        assert_eq!(mark(&mut foreign[0], None).unwrap_err().code(), Code::Syntax);
        let mut select = Parser::parse_sql(&dialect, "SELECT 1").unwrap();
        assert!(mark(&mut select[0], Some(Overriding::User)).is_err());
    }
}
