//! DDL from tokens: what is not read here does not exist on this server.
//!
//! The words are read in PostgreSQL's own order; only column definitions, constraints, types and
//! expressions go through the foreign parser.

use datafusion::sql::sqlparser::{
    ast::{SetExpr, Statement, Value},
    parser::Parser,
    tokenizer::Token,
};

use super::{
    cursor::{Cursor, Parsed, Refused, unsupported},
    ddl::{CommentOn, CreateTableAs, Ddl, Grant, GrantOn, Kind, LockMode, Name},
    parse_alter, parse_create,
};
use crate::error::{Code, Error, Result};

/// The first words of statements that are read here.
pub(in crate::sql) fn reads(first: &str, second: &str) -> bool {
    match first {
        "CREATE" => !matches!(second, "USER" | "ROLE" | "EXTERNAL" | "UNBOUNDED"),
        "ALTER" | "DROP" => !matches!(second, "USER" | "ROLE"),
        "COMMENT" | "GRANT" | "REVOKE" | "REINDEX" | "VACUUM" | "ANALYZE" | "CLUSTER" | "LOCK" => true,
        _ => false,
    }
}

/// `SELECT ... INTO t ...` as the table that it makes; what is left of the statement is its query.
///
/// # Errors
/// 0A000 for a name that is none.
pub(in crate::sql) fn select_into(statement: &mut Statement) -> Result<Option<Ddl>> {
    let Statement::Query(query) = statement else {
        return Ok(None);
    };
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Ok(None);
    };
    let Some(into) = select.into.take() else {
        return Ok(None);
    };
    let name = match super::parse_column::object_name(&into.name) {
        Ok(name) => name,
        Err(Refused::Error(error)) => return Err(error),
        Err(Refused::Syntax(error)) => return Err(Error::new(Code::Syntax, error.to_string())),
    };
    Ok(Some(Ddl::CreateTableAs(CreateTableAs {
        name,
        if_not_exists: false,
        temporary: into.temporary,
        passing: false,
        columns: Vec::new(),
        query: query.clone(),
        with_data: true,
    })))
}

/// Reads one statement to its end.
pub(in crate::sql) fn parse(parser: Parser<'_>) -> Parsed<Ddl> {
    let mut c = Cursor::new(parser);
    let ddl = statement(&mut c)?;
    match c.ended() {
        true => Ok(ddl),
        false => c.wrong(),
    }
}

fn statement(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    if c.take("CREATE") {
        return parse_create::create(c);
    }
    if c.take("ALTER") {
        return parse_alter::alter(c);
    }
    if c.take("DROP") {
        return drop_any(c);
    }
    if c.take("COMMENT") {
        return comment(c);
    }
    if c.take("GRANT") {
        return grant(c, false);
    }
    if c.take("REVOKE") {
        return grant(c, true);
    }
    if c.take("LOCK") {
        return lock(c);
    }
    maintain(c)
}

pub(super) fn not_ours<T>(c: &Cursor<'_>, verb: &str) -> Parsed<T> {
    let mut words = vec![verb.to_owned()];
    if let Token::Word(word) = &c.parser.peek_token_ref().token {
        words.push(word.value.to_uppercase());
    }
    let what = words.join(" ");
    let outside = [
        "DATABASE",
        "FUNCTION",
        "PROCEDURE",
        "TABLESPACE",
        "LANGUAGE",
        "SERVER",
        "FOREIGN",
        "SUBSCRIPTION",
    ];
    if verb == "CREATE" && outside.iter().any(|word| c.at(0, word)) {
        return Err(
            Error::new(Code::InsufficientPrivilege, format!("permission denied: {what}"))
                .with_hint("a session reaches its own tenant's data only, never files, code or other databases")
                .into(),
        );
    }
    unsupported(what)
}

/// The kind of object named next.
pub(super) fn kind(c: &mut Cursor<'_>) -> Option<Kind> {
    [Kind::Table, Kind::View, Kind::Index, Kind::Sequence, Kind::Schema]
        .into_iter()
        .find(|kind| c.take(kind.tag()))
}

fn drop_any(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    if let Some(kind) = kind(c) {
        if kind == Kind::Index {
            c.take("CONCURRENTLY");
        }
        let if_exists = c.take("IF EXISTS");
        let names = c.list(Cursor::name)?;
        let cascade = c.cascade();
        return Ok(Ddl::Drop {
            kind,
            names,
            if_exists,
            cascade,
        });
    }
    if c.take("POLICY") {
        let if_exists = c.take("IF EXISTS");
        let name = c.ident()?;
        c.expect("ON")?;
        let table = c.name()?;
        c.cascade();
        return Ok(Ddl::DropPolicy { name, table, if_exists });
    }
    if c.take("EXTENSION") {
        let if_exists = c.take("IF EXISTS");
        let names = c.list(Cursor::ident)?;
        c.cascade();
        return Ok(Ddl::DropExtension { names, if_exists });
    }
    not_ours(c, "DROP")
}

fn comment(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    c.expect("ON")?;
    let on = if let Some(kind) = kind(c) {
        CommentOn::Relation(kind, c.name()?)
    } else if c.take("COLUMN") {
        let (table, column) = c.column_name()?;
        CommentOn::Column(table, column)
    } else if c.at(0, "CONSTRAINT") || c.at(0, "POLICY") {
        let what = if c.take("CONSTRAINT") { "constraint" } else { "policy" };
        c.take("POLICY");
        let name = c.ident()?;
        c.expect("ON")?;
        CommentOn::Part(what, name, c.name()?)
    } else if c.take("EXTENSION") || c.take("DATABASE") {
        c.ident()?;
        CommentOn::Nothing
    } else {
        return not_ours(c, "COMMENT ON");
    };
    c.expect("IS")?;
    let text = match c.take("NULL") {
        true => None,
        false => match c.parser.parse_value()?.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            Value::DollarQuotedString(quoted) => Some(quoted.value),
            _ => {
                c.parser.prev_token();
                return c.wrong();
            }
        },
    };
    Ok(Ddl::Comment { on, text })
}

/// Privileges of tables by their bits.
pub(in crate::sql) const PRIVILEGES: [&str; 7] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "REFERENCES",
    "TRIGGER",
];

fn grant(c: &mut Cursor<'_>, revoke: bool) -> Parsed<Ddl> {
    if revoke && c.take("GRANT OPTION FOR") {
        return unsupported("GRANT OPTION");
    }
    let mut privileges = 0_u8;
    if c.take("ALL") {
        c.take("PRIVILEGES");
        privileges = 0x7f;
    } else {
        for word in c.list(Cursor::ident)? {
            // USAGE, CREATE, CONNECT and TEMPORARY are of other things than tables.
            match PRIVILEGES.iter().position(|known| known.eq_ignore_ascii_case(&word)) {
                Some(bit) => privileges |= 1 << bit,
                None if matches!(word.as_str(), "usage" | "create" | "connect" | "temporary" | "temp") => {}
                None if c.at(0, "TO") || c.at(0, "FROM") => return unsupported("GRANT of a role"),
                None => {
                    let text = format!("unrecognized privilege type \"{word}\"");
                    return Err(Error::new(Code::Syntax, text).into());
                }
            }
            if c.parser.peek_token_ref().token == Token::LParen {
                return unsupported("GRANT on columns");
            }
        }
    }
    c.expect("ON")?;
    let on = if c.take("ALL TABLES IN SCHEMA") {
        GrantOn::AllTables(c.list(Cursor::ident)?)
    } else if c.take("ALL SEQUENCES IN SCHEMA") {
        GrantOn::AllSequences(c.list(Cursor::ident)?)
    } else if c.take("SEQUENCE") {
        GrantOn::Sequences(c.list(Cursor::name)?)
    } else if c.take("SCHEMA") {
        GrantOn::Schemas(c.list(Cursor::ident)?)
    } else if c.take("DATABASE") {
        GrantOn::Database(c.list(Cursor::ident)?)
    } else if ["FUNCTION", "TYPE", "LANGUAGE", "ALL", "LARGE", "FOREIGN"]
        .iter()
        .any(|w| c.at(0, w))
    {
        return not_ours(c, if revoke { "REVOKE ON" } else { "GRANT ON" });
    } else {
        c.take("TABLE");
        GrantOn::Tables(c.list(Cursor::name)?)
    };
    c.expect(if revoke { "FROM" } else { "TO" })?;
    let to = c.list(Cursor::who)?;
    if !revoke && c.at(0, "WITH") {
        return unsupported("WITH GRANT OPTION");
    }
    if revoke {
        c.cascade();
    }
    Ok(Ddl::Grant(Grant {
        revoke,
        privileges,
        on,
        to,
    }))
}

fn lock(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    c.take("TABLE");
    let names = c.list(|c| {
        c.take("ONLY");
        c.name()
    })?;
    let mut mode = LockMode::Exclusive;
    if c.take("IN") {
        mode = if c.take("ACCESS SHARE") || c.take("ROW SHARE") {
            LockMode::None
        } else if c.take("ROW EXCLUSIVE") {
            LockMode::Write
        } else if c.take("SHARE UPDATE EXCLUSIVE")
            || c.take("SHARE ROW EXCLUSIVE")
            || c.take("ACCESS EXCLUSIVE")
            || c.take("EXCLUSIVE")
        {
            LockMode::Exclusive
        } else {
            c.expect("SHARE")?;
            LockMode::Share
        };
        c.expect("MODE")?;
    }
    let nowait = c.take("NOWAIT");
    Ok(Ddl::Lock { names, mode, nowait })
}

fn maintain(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    let (tag, reindex) = match c.ident()?.as_str() {
        "vacuum" => ("VACUUM", false),
        "analyze" => ("ANALYZE", false),
        "cluster" => ("CLUSTER", false),
        _ => ("REINDEX", true),
    };
    if c.parser.peek_token_ref().token == Token::LParen {
        c.options()?;
    }
    for word in ["FULL", "FREEZE", "VERBOSE", "ANALYZE"] {
        if !reindex {
            c.take(word);
        }
    }
    let mut names: Vec<Name> = Vec::new();
    let mut of = Kind::Table;
    if reindex {
        let database = c.at(0, "DATABASE") || c.at(0, "SYSTEM");
        of = match kind(c) {
            Some(of @ (Kind::Table | Kind::Index | Kind::Schema)) => of,
            _ if database => {
                c.ident()?;
                return match c.ended() {
                    true => Ok(Ddl::Maintain { tag, kind: of, names }),
                    false => c.ident().map(|_| Ddl::Maintain { tag, kind: of, names }),
                };
            }
            _ => return c.wrong(),
        };
        c.take("CONCURRENTLY");
    }
    if !c.ended() {
        names = c.list(|c| {
            let name = c.name()?;
            if c.parser.peek_token_ref().token == Token::LParen {
                c.columns()?;
            }
            if c.take("USING") {
                c.ident()?;
            }
            Ok(name)
        })?;
    }
    Ok(Ddl::Maintain { tag, kind: of, names })
}
