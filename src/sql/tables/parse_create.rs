//! CREATE statements from tokens.

use datafusion::sql::sqlparser::{ast::Expr, tokenizer::Token};

use super::{
    cursor::{Cursor, Parsed, unsupported},
    ddl::{
        CreateIndex, CreatePolicy, CreateTable, CreateTableAs, CreateView, Ddl, Element, Including, Key,
        SequenceOptions,
    },
    parse::not_ours,
    parse_column::{column, constraint},
};
use crate::{
    error::{Code, Error},
    table::schema::PolicyCommand,
};

/// What follows CREATE.
pub(super) fn create(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    let or_replace = c.take("OR REPLACE");
    c.take("GLOBAL");
    c.take("LOCAL");
    let temporary = c.take("TEMPORARY") || c.take("TEMP");
    let unlogged = !temporary && c.take("UNLOGGED");
    if !or_replace && c.take("TABLE") {
        return create_table(c, temporary);
    }
    if !unlogged && c.take("VIEW") {
        return create_view(c, or_replace, temporary);
    }
    if !or_replace && c.take("SEQUENCE") {
        let if_not_exists = c.take("IF NOT EXISTS");
        let name = c.name()?;
        let options = sequence_options(c)?;
        return Ok(Ddl::CreateSequence {
            name,
            if_not_exists,
            temporary,
            options,
        });
    }
    if or_replace || temporary || unlogged {
        return not_ours(c, "CREATE");
    }
    if c.at(0, "INDEX") || c.at(0, "UNIQUE") {
        return create_index(c);
    }
    if c.take("SCHEMA") {
        return create_schema(c);
    }
    if c.take("POLICY") {
        return create_policy(c);
    }
    if c.take("EXTENSION") {
        let if_not_exists = c.take("IF NOT EXISTS");
        let name = c.ident()?;
        c.take("WITH");
        loop {
            if c.take("SCHEMA") {
                c.ident()?;
            } else if c.take("VERSION") {
                c.parser.next_token();
            } else if !c.take("CASCADE") {
                return Ok(Ddl::CreateExtension { name, if_not_exists });
            }
        }
    }
    if c.at(0, "MATERIALIZED") {
        return unsupported("CREATE MATERIALIZED VIEW");
    }
    not_ours(c, "CREATE")
}

fn create_table(c: &mut Cursor<'_>, temporary: bool) -> Parsed<Ddl> {
    let if_not_exists = c.take("IF NOT EXISTS");
    let name = c.name()?;
    if c.at(0, "OF") || c.at(0, "PARTITION") {
        return unsupported("CREATE TABLE OF a type or partition");
    }
    // `CREATE TABLE t (a, b) AS SELECT ...` has names alone between its brackets.
    let named_only = {
        let mut at = 1;
        let word = |at| matches!(c.parser.peek_nth_token_ref(at).token, Token::Word(_));
        let is = |at, token: Token| c.parser.peek_nth_token_ref(at).token == token;
        let mut ok = is(0, Token::LParen);
        while ok && word(at) && is(at + 1, Token::Comma) {
            at += 2;
        }
        ok = ok && word(at) && is(at + 1, Token::RParen);
        ok
    };
    let mut columns = Vec::new();
    if named_only {
        columns = c.columns()?;
    }
    if named_only || !matches!(c.parser.peek_token_ref().token, Token::LParen) {
        let passing = table_options(c, temporary)?;
        c.expect("AS")?;
        let query = c.query()?;
        let with_data = !c.take("WITH NO DATA");
        c.take("WITH DATA");
        return Ok(Ddl::CreateTableAs(CreateTableAs {
            name,
            if_not_exists,
            temporary,
            passing,
            columns,
            query,
            with_data,
        }));
    }
    c.expect_token(&Token::LParen)?;
    let mut elements = Vec::new();
    if !c.token(&Token::RParen) {
        elements = c.list(element)?;
        c.expect_token(&Token::RParen)?;
    }
    let passing = table_options(c, temporary)?;
    Ok(Ddl::CreateTable(CreateTable {
        name,
        if_not_exists,
        temporary,
        passing,
        elements,
    }))
}

fn element(c: &mut Cursor<'_>) -> Parsed<Element> {
    if c.take("LIKE") {
        let table = c.name()?;
        let mut including = Including::default();
        loop {
            let on = match (c.take("INCLUDING"), c.take("EXCLUDING")) {
                (true, _) => true,
                (_, true) => false,
                _ => return Ok(Element::Like { table, including }),
            };
            match c.ident()?.as_str() {
                "all" => {
                    including = Including {
                        defaults: on,
                        constraints: on,
                        indexes: on,
                        identity: on,
                        generated: on,
                        comments: on,
                    }
                }
                "defaults" => including.defaults = on,
                "constraints" => including.constraints = on,
                "indexes" => including.indexes = on,
                "identity" => including.identity = on,
                "generated" => including.generated = on,
                "comments" => including.comments = on,
                "storage" | "statistics" | "compression" => {}
                _ => {
                    c.parser.prev_token();
                    return c.wrong();
                }
            }
        }
    }
    Ok(match constraint(c)? {
        Some(constraint) => Element::Constraint(Box::new(constraint)),
        None => Element::Column(Box::new(column(c)?)),
    })
}

/// What may follow the columns; none of it changes anything here, or it is refused. Whether it is ON COMMIT DROP.
fn table_options(c: &mut Cursor<'_>, temporary: bool) -> Parsed<bool> {
    let mut passing = false;
    loop {
        if c.at(0, "INHERITS") || c.at(0, "PARTITION") {
            let what = if c.at(0, "INHERITS") {
                "table inheritance"
            } else {
                "PARTITION BY"
            };
            return unsupported(what);
        }
        if c.take("USING") {
            if c.ident()? != "heap" {
                return unsupported("this table access method");
            }
        } else if c.at(0, "WITH") && c.parser.peek_nth_token_ref(1).token == Token::LParen {
            c.take("WITH");
            c.options()?;
        } else if c.take("WITHOUT OIDS") {
        } else if c.at(0, "ON") {
            if !temporary {
                let text = "ON COMMIT can only be used on temporary tables";
                return Err(Error::new(Code::InvalidTableDefinition, text).into());
            }
            if c.take("ON COMMIT DROP") {
                passing = true;
            } else if !c.take("ON COMMIT PRESERVE ROWS") {
                return unsupported("ON COMMIT DELETE ROWS");
            }
        } else if c.take("TABLESPACE") {
            c.ident()?;
        } else {
            return Ok(passing);
        }
    }
}

fn create_view(c: &mut Cursor<'_>, or_replace: bool, temporary: bool) -> Parsed<Ddl> {
    let name = c.name()?;
    let columns = match c.parser.peek_token_ref().token {
        Token::LParen => c.columns()?,
        _ => Vec::new(),
    };
    if c.take("WITH") {
        for (option, value) in c.options()? {
            let on = matches!(value.to_lowercase().as_str(), "true" | "on" | "1" | "yes");
            match option.as_str() {
                "security_invoker" if on => {}
                "security_barrier" => {}
                _ => return unsupported(format!("the option {option} of a view with this value")),
            }
        }
    }
    c.expect("AS")?;
    let query = c.query()?;
    if c.at(0, "WITH") {
        return unsupported("WITH CHECK OPTION");
    }
    Ok(Ddl::CreateView(CreateView {
        name,
        or_replace,
        temporary,
        columns,
        query,
    }))
}

fn create_index(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    let unique = c.take("UNIQUE");
    c.expect("INDEX")?;
    let concurrently = c.take("CONCURRENTLY");
    let if_not_exists = c.take("IF NOT EXISTS");
    let name = match c.at(0, "ON") {
        true => None,
        false => Some(c.ident()?),
    };
    c.expect("ON")?;
    c.take("ONLY");
    let table = c.name()?;
    let method = match c.take("USING") {
        true => c.ident()?,
        false => "btree".to_owned(),
    };
    c.expect_token(&Token::LParen)?;
    let keys = c.list(index_key)?;
    c.expect_token(&Token::RParen)?;
    let include = match c.take("INCLUDE") {
        true => c.columns()?,
        false => Vec::new(),
    };
    let nulls_not_distinct = c.take("NULLS NOT DISTINCT");
    c.take("NULLS DISTINCT");
    let options = match c.take("WITH") {
        true => c.options()?,
        false => Vec::new(),
    };
    if c.take("TABLESPACE") {
        c.ident()?;
    }
    let predicate = match c.take("WHERE") {
        true => Some(c.expr()?),
        false => None,
    };
    Ok(Ddl::CreateIndex(CreateIndex {
        name,
        table,
        if_not_exists,
        concurrently,
        unique,
        method,
        keys,
        include,
        nulls_not_distinct,
        options,
        predicate,
    }))
}

fn index_key(c: &mut Cursor<'_>) -> Parsed<Key> {
    let key = c.parser.parse_create_index_expr()?;
    let mut expr = key.column.expr;
    while let Expr::Nested(inner) = expr {
        expr = *inner;
    }
    let operator_class = key.operator_class.and_then(|class| {
        let ident = class.0.last().and_then(|part| part.as_ident())?;
        Some(super::cursor::fold(ident))
    });
    Ok(Key {
        expr,
        operator_class,
        descending: key.column.options.asc == Some(false),
        nulls_first: key.column.options.nulls_first,
    })
}

/// Options of a sequence, as far as there are any.
pub(super) fn sequence_options(c: &mut Cursor<'_>) -> Parsed<SequenceOptions> {
    let mut o = SequenceOptions::default();
    loop {
        if c.take("AS") {
            o.data_type = Some(c.parser.parse_data_type()?);
        } else if c.take("INCREMENT") {
            c.take("BY");
            o.increment = Some(c.integer()?);
        } else if c.take("NO MINVALUE") {
            o.min = Some(None);
        } else if c.take("NO MAXVALUE") {
            o.max = Some(None);
        } else if c.take("MINVALUE") {
            o.min = Some(Some(c.integer()?));
        } else if c.take("MAXVALUE") {
            o.max = Some(Some(c.integer()?));
        } else if c.take("START") {
            c.take("WITH");
            o.start = Some(c.integer()?);
        } else if c.take("RESTART") {
            let with = c.take("WITH");
            let number = matches!(c.parser.peek_token_ref().token, Token::Number(..) | Token::Minus);
            o.restart = Some(if with || number { Some(c.integer()?) } else { None });
        } else if c.take("CACHE") {
            c.integer()?;
        } else if c.take("NO CYCLE") {
            o.cycle = Some(false);
        } else if c.take("CYCLE") {
            o.cycle = Some(true);
        } else if c.take("OWNED BY NONE") {
            o.owned_by = Some(None);
        } else if c.take("OWNED BY") {
            o.owned_by = Some(Some(c.column_name()?));
        } else {
            return Ok(o);
        }
    }
}

fn create_schema(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    let if_not_exists = c.take("IF NOT EXISTS");
    let mut name = None;
    if !c.at(0, "AUTHORIZATION") {
        name = Some(c.ident()?);
    }
    let owner = match c.take("AUTHORIZATION") {
        true => Some(c.who()?),
        false => None,
    };
    if !c.ended() {
        return unsupported("CREATE SCHEMA with further statements in it");
    }
    Ok(Ddl::CreateSchema {
        name,
        owner,
        if_not_exists,
    })
}

fn create_policy(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    let name = c.ident()?;
    c.expect("ON")?;
    let table = c.name()?;
    let mut permissive = true;
    if c.take("AS") {
        permissive = match c.ident()?.as_str() {
            "permissive" => true,
            "restrictive" => false,
            other => {
                let error = Error::new(Code::Syntax, format!("unrecognized row security option \"{other}\""));
                return Err(error
                    .with_hint("Only PERMISSIVE or RESTRICTIVE policies are supported currently.")
                    .into());
            }
        };
    }
    let mut command = PolicyCommand::All;
    if c.take("FOR") {
        command = match c.ident()?.as_str() {
            "all" => PolicyCommand::All,
            "select" => PolicyCommand::Select,
            "insert" => PolicyCommand::Insert,
            "update" => PolicyCommand::Update,
            "delete" => PolicyCommand::Delete,
            _ => {
                c.parser.prev_token();
                return c.wrong();
            }
        };
    }
    let roles = match c.take("TO") {
        true => c.list(Cursor::who)?,
        false => Vec::new(),
    };
    let (using, check) = policy_conditions(c)?;
    Ok(Ddl::CreatePolicy(CreatePolicy {
        name,
        table,
        permissive,
        command,
        roles,
        using,
        check,
    }))
}

pub(super) fn policy_conditions(c: &mut Cursor<'_>) -> Parsed<(Option<Expr>, Option<Expr>)> {
    let using = match c.take("USING") {
        true => Some(c.bracketed()?),
        false => None,
    };
    let check = match c.take("WITH CHECK") {
        true => Some(c.bracketed()?),
        false => None,
    };
    Ok((using, check))
}
