//! ALTER statements from tokens.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{
    cursor::{Cursor, Parsed, unsupported},
    ddl::{Alter, AlterAny, Ddl, Kind},
    parse::kind,
    parse_column::{column, constraint},
    parse_create::{policy_conditions, sequence_options},
};
use crate::table::schema::Identity;

/// What follows ALTER.
pub(super) fn alter(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    if c.take("POLICY") {
        return alter_policy(c);
    }
    let Some(kind) = kind(c) else {
        let word = match &c.parser.peek_token_ref().token {
            Token::Word(word) => word.value.to_uppercase(),
            _ => return c.wrong(),
        };
        return unsupported(format!("ALTER {word}"));
    };
    let if_exists = c.take("IF EXISTS");
    if kind == Kind::Table {
        c.take("ONLY");
    }
    let name = c.name()?;
    if kind == Kind::Table {
        c.token(&Token::Mul);
        let actions = c.list(table_action)?;
        return Ok(Ddl::AlterTable {
            name,
            if_exists,
            actions,
        });
    }
    let action = if c.take("RENAME TO") {
        AlterAny::RenameTo(c.ident()?)
    } else if c.take("SET SCHEMA") {
        AlterAny::SetSchema(c.ident()?)
    } else if c.take("OWNER TO") {
        AlterAny::OwnerTo(c.who()?)
    } else if kind == Kind::Sequence {
        let options = sequence_options(c)?;
        return Ok(Ddl::AlterSequence {
            name,
            if_exists,
            options,
        });
    } else if kind == Kind::View && (c.at(0, "RENAME") || c.at(0, "ALTER")) {
        // PostgreSQL takes some of a table's actions for views; those that there are need none of a view.
        return unsupported("ALTER VIEW of a column");
    } else if c.take("SET TABLESPACE") {
        c.ident()?;
        AlterAny::Nothing
    } else if c.take("SET") {
        let options = c.options()?;
        match kind {
            Kind::Index => AlterAny::SetOptions(options),
            Kind::Table | Kind::View | Kind::Sequence | Kind::Schema => AlterAny::Nothing,
        }
    } else if c.take("RESET") {
        let options = c.options()?;
        match kind {
            Kind::Index => AlterAny::ResetOptions(options.into_iter().map(|(name, _)| name).collect()),
            Kind::Table | Kind::View | Kind::Sequence | Kind::Schema => AlterAny::Nothing,
        }
    } else {
        return c.wrong();
    };
    Ok(Ddl::Alter {
        kind,
        name,
        if_exists,
        action,
    })
}

fn alter_policy(c: &mut Cursor<'_>) -> Parsed<Ddl> {
    let name = c.ident()?;
    c.expect("ON")?;
    let table = c.name()?;
    let (mut rename, mut roles, mut using, mut check) = (None, None, None, None);
    if c.take("RENAME TO") {
        rename = Some(c.ident()?);
    } else {
        if c.take("TO") {
            roles = Some(c.list(Cursor::who)?);
        }
        (using, check) = policy_conditions(c)?;
    }
    Ok(Ddl::AlterPolicy {
        name,
        table,
        rename,
        roles,
        using,
        check,
    })
}

fn table_action(c: &mut Cursor<'_>) -> Parsed<Alter> {
    if c.take("ADD") {
        return add(c);
    }
    if c.take("DROP") {
        return drop_part(c);
    }
    if c.take("ALTER") {
        c.take("COLUMN");
        let column = c.ident()?;
        return alter_column(c, column);
    }
    if c.take("RENAME") {
        if c.take("TO") {
            return Ok(Alter::RenameTo(c.ident()?));
        }
        let constraint = c.take("CONSTRAINT");
        if !constraint {
            c.take("COLUMN");
        }
        let from = c.ident()?;
        c.expect("TO")?;
        let to = c.ident()?;
        return Ok(match constraint {
            true => Alter::RenameConstraint { from, to },
            false => Alter::RenameColumn { from, to },
        });
    }
    if c.take("SET SCHEMA") {
        return Ok(Alter::SetSchema(c.ident()?));
    }
    if c.take("OWNER TO") {
        return Ok(Alter::OwnerTo(c.who()?));
    }
    if c.take("ENABLE ROW LEVEL SECURITY") {
        return Ok(Alter::RowSecurity(true));
    }
    if c.take("DISABLE ROW LEVEL SECURITY") {
        return Ok(Alter::RowSecurity(false));
    }
    if c.take("FORCE ROW LEVEL SECURITY") {
        return Ok(Alter::ForceRowSecurity(true));
    }
    if c.take("NO FORCE ROW LEVEL SECURITY") {
        return Ok(Alter::ForceRowSecurity(false));
    }
    if c.take("VALIDATE CONSTRAINT") {
        return Ok(Alter::Validate(c.ident()?));
    }
    if c.take("REPLICA IDENTITY") {
        if c.take("USING INDEX") || !c.ended() {
            c.ident()?;
        }
        return Ok(Alter::Nothing(None));
    }
    if c.take("SET WITHOUT CLUSTER") || c.take("SET WITHOUT OIDS") || c.take("SET LOGGED") || c.take("SET UNLOGGED") {
        return Ok(Alter::Nothing(None));
    }
    if c.take("CLUSTER ON") {
        c.ident()?;
        return Ok(Alter::Nothing(None));
    }
    if c.take("SET TABLESPACE") {
        c.ident()?;
        return Ok(Alter::Nothing(None));
    }
    if c.take("SET") || c.take("RESET") {
        c.options()?;
        return Ok(Alter::Nothing(None));
    }
    for word in ["ENABLE", "DISABLE", "INHERIT", "NO", "ATTACH", "DETACH", "OF", "NOT"] {
        if c.at(0, word) {
            return unsupported(format!("ALTER TABLE {word}"));
        }
    }
    c.wrong()
}

fn add(c: &mut Cursor<'_>) -> Parsed<Alter> {
    if let Some(constraint) = constraint(c)? {
        return Ok(Alter::AddConstraint(constraint));
    }
    c.take("COLUMN");
    let if_not_exists = c.take("IF NOT EXISTS");
    Ok(Alter::AddColumn {
        if_not_exists,
        column: Box::new(column(c)?),
    })
}

fn drop_part(c: &mut Cursor<'_>) -> Parsed<Alter> {
    let constraint = c.take("CONSTRAINT");
    if !constraint {
        c.take("COLUMN");
    }
    let if_exists = c.take("IF EXISTS");
    let name = c.ident()?;
    let cascade = c.cascade();
    Ok(match constraint {
        true => Alter::DropConstraint {
            if_exists,
            name,
            cascade,
        },
        false => Alter::DropColumn {
            if_exists,
            name,
            cascade,
        },
    })
}

fn alter_column(c: &mut Cursor<'_>, column: String) -> Parsed<Alter> {
    if c.take("SET DEFAULT") {
        return Ok(Alter::SetDefault {
            column,
            value: c.expr()?,
        });
    }
    if c.take("DROP DEFAULT") {
        return Ok(Alter::DropDefault(column));
    }
    if c.take("SET NOT NULL") {
        return Ok(Alter::SetNotNull(column));
    }
    if c.take("DROP NOT NULL") {
        return Ok(Alter::DropNotNull(column));
    }
    if c.take("DROP IDENTITY") {
        let if_exists = c.take("IF EXISTS");
        return Ok(Alter::DropIdentity { column, if_exists });
    }
    if c.take("DROP EXPRESSION") {
        let if_exists = c.take("IF EXISTS");
        return Ok(Alter::DropExpression { column, if_exists });
    }
    if c.take("ADD GENERATED") {
        let identity = match c.take("ALWAYS") {
            true => Identity::Always,
            false => {
                c.expect("BY DEFAULT")?;
                Identity::ByDefault
            }
        };
        c.expect("AS IDENTITY")?;
        let mut options = Default::default();
        if c.token(&Token::LParen) {
            options = sequence_options(c)?;
            c.expect_token(&Token::RParen)?;
        }
        return Ok(Alter::AddIdentity {
            column,
            identity,
            options,
        });
    }
    for word in ["SET STORAGE", "SET COMPRESSION"] {
        if c.take(word) {
            c.ident()?;
            return Ok(Alter::Nothing(Some(column)));
        }
    }
    if c.take("SET STATISTICS") {
        c.integer()?;
        return Ok(Alter::Nothing(Some(column)));
    }
    if c.at(0, "SET") && c.parser.peek_nth_token_ref(1).token == Token::LParen {
        c.take("SET");
        c.options()?;
        return Ok(Alter::Nothing(Some(column)));
    }
    if c.at(0, "SET") && (c.at(1, "GENERATED") || c.at(1, "START") || c.at(1, "INCREMENT")) {
        return unsupported("changing an identity column");
    }
    if c.take("SET DATA TYPE") || c.take("TYPE") {
        let data_type = c.parser.parse_data_type()?;
        if c.take("COLLATE") {
            c.name()?;
        }
        let using = match c.take("USING") {
            true => Some(c.expr()?),
            false => None,
        };
        return Ok(Alter::SetType {
            column,
            data_type,
            using,
        });
    }
    c.wrong()
}
