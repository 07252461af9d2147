//! Columns and constraints out of CREATE TABLE and ALTER TABLE.

use datafusion::sql::sqlparser::ast::{
    self, ColumnOption, ConstraintCharacteristics, DeferrableInitial, Expr, GeneratedAs, Ident, IndexColumn,
    NullsDistinctOption, TableConstraint,
};

use super::{
    cursor::{Cursor, Parsed, fold, unsupported},
    ddl::{Column, Constraint, ConstraintKind, ForeignKey, Name, SequenceOptions},
};
use crate::{
    error::{Code, Error},
    table::schema::{Identity, ReferentialAction},
};

/// A column and what is said of it.
pub(super) fn column(c: &mut Cursor<'_>) -> Parsed<Column> {
    let def = c.parser.parse_column_def()?;
    let mut column = Column {
        name: fold(&def.name),
        data_type: def.data_type,
        not_null: None,
        default: None,
        generated: None,
        identity: None,
        constraints: Vec::new(),
    };
    for option in def.options {
        let name = option.name.as_ref().map(fold);
        add_option(&mut column, name, option.option)?;
    }
    if column.default.is_some() && column.identity.is_some() {
        let text = format!("both default and identity specified for column \"{}\"", column.name);
        return Err(Error::new(Code::Syntax, text).into());
    }
    if column.generated.is_some() && (column.default.is_some() || column.identity.is_some()) {
        let what = if column.default.is_some() {
            "default"
        } else {
            "identity"
        };
        let text = format!(
            "both {what} and generation expression specified for column \"{}\"",
            column.name
        );
        return Err(Error::new(Code::Syntax, text).into());
    }
    Ok(column)
}

fn add_option(column: &mut Column, name: Option<String>, option: ColumnOption) -> Parsed<()> {
    let twice = |what: &str, column: &Column| -> Parsed<()> {
        let text = format!("multiple {what} specified for column \"{}\"", column.name);
        Err(Error::new(Code::Syntax, text).into())
    };
    match option {
        ColumnOption::Null | ColumnOption::NotNull => {
            let not_null = matches!(option, ColumnOption::NotNull);
            if column.not_null.is_some_and(|former| former != not_null) {
                let text = format!("conflicting NULL/NOT NULL declarations for column \"{}\"", column.name);
                return Err(Error::new(Code::Syntax, text).into());
            }
            column.not_null = Some(not_null);
        }
        ColumnOption::Default(value) => {
            if column.default.is_some() {
                return twice("default values", column);
            }
            column.default = Some(value);
        }
        ColumnOption::PrimaryKey(key) => {
            immediate(&key.characteristics)?;
            let kind = ConstraintKind::Key {
                primary: true,
                nulls_not_distinct: false,
                columns: vec![column.name.clone()],
            };
            column.constraints.push(Constraint { name, kind });
        }
        ColumnOption::Unique(key) => {
            immediate(&key.characteristics)?;
            let kind = ConstraintKind::Key {
                primary: false,
                nulls_not_distinct: matches!(key.nulls_distinct, NullsDistinctOption::NotDistinct),
                columns: vec![column.name.clone()],
            };
            column.constraints.push(Constraint { name, kind });
        }
        ColumnOption::Check(check) => {
            enforced(check.enforced)?;
            let kind = ConstraintKind::Check(*check.expr);
            column.constraints.push(Constraint { name, kind });
        }
        ColumnOption::ForeignKey(mut key) => {
            key.columns = vec![Ident::with_quote('"', column.name.clone())];
            let kind = ConstraintKind::ForeignKey(foreign_key(key)?);
            column.constraints.push(Constraint { name, kind });
        }
        ColumnOption::Generated {
            generated_as,
            sequence_options,
            generation_expr,
            generation_expr_mode,
            ..
        } => match (generated_as, generation_expr) {
            (GeneratedAs::Always | GeneratedAs::ExpStored, Some(expr)) => {
                if matches!(generation_expr_mode, Some(ast::GeneratedExpressionMode::Virtual) | None)
                    && !matches!(generated_as, GeneratedAs::ExpStored)
                {
                    return unsupported("a virtual generated column");
                }
                if column.generated.is_some() {
                    return twice("generation clauses", column);
                }
                column.generated = Some(expr);
            }
            (kind, None) => {
                if column.identity.is_some() {
                    return twice("identity specifications", column);
                }
                let identity = match kind {
                    GeneratedAs::Always => Identity::Always,
                    GeneratedAs::ByDefault => Identity::ByDefault,
                    GeneratedAs::ExpStored => return unsupported("this generated column"),
                };
                column.identity = Some((identity, identity_options(sequence_options.unwrap_or_default())?));
            }
            (GeneratedAs::ByDefault, Some(_)) => return unsupported("this generated column"),
        },
        // There is one order of text.
        ColumnOption::Collation(collation) if is_plain(&collation) => {}
        other => return unsupported(other.to_string()),
    }
    Ok(())
}

fn is_plain(collation: &ast::ObjectName) -> bool {
    let last = collation.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|ident| matches!(ident.value.as_str(), "C" | "POSIX" | "default" | "ucs_basic"))
}

fn identity_options(options: Vec<ast::SequenceOptions>) -> Parsed<SequenceOptions> {
    let mut o = SequenceOptions::default();
    for option in options {
        match option {
            ast::SequenceOptions::IncrementBy(n, _) => o.increment = Some(integer(&n)?),
            ast::SequenceOptions::MinValue(n) => o.min = Some(n.as_ref().map(integer).transpose()?),
            ast::SequenceOptions::MaxValue(n) => o.max = Some(n.as_ref().map(integer).transpose()?),
            ast::SequenceOptions::StartWith(n, _) => o.start = Some(integer(&n)?),
            ast::SequenceOptions::Cache(_) => {}
            // The parser's flag says whether NO was there.
            ast::SequenceOptions::Cycle(no) => o.cycle = Some(!no),
        }
    }
    Ok(o)
}

fn integer(expr: &Expr) -> Parsed<i64> {
    expr.to_string()
        .replace(' ', "")
        .parse()
        .map_err(|_| Error::new(Code::Syntax, format!("syntax error at or near \"{expr}\"")).into())
}

/// A table's constraint, if one is next.
pub(super) fn constraint(c: &mut Cursor<'_>) -> Parsed<Option<Constraint>> {
    let begins = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"];
    if c.at(0, "EXCLUDE") {
        return unsupported("EXCLUDE");
    }
    if !begins.iter().any(|word| c.at(0, word)) {
        return Ok(None);
    }
    let Some(parsed) = c.parser.parse_optional_table_constraint()? else {
        return c.wrong();
    };
    // What sqlparser leaves: NOT VALID is checked all the same.
    c.take("NOT VALID");
    let (name, kind) = match parsed {
        TableConstraint::PrimaryKey(key) => {
            immediate(&key.characteristics)?;
            let kind = ConstraintKind::Key {
                primary: true,
                nulls_not_distinct: false,
                columns: key_columns(&key.columns)?,
            };
            (key.name, kind)
        }
        TableConstraint::Unique(key) => {
            immediate(&key.characteristics)?;
            let kind = ConstraintKind::Key {
                primary: false,
                nulls_not_distinct: matches!(key.nulls_distinct, NullsDistinctOption::NotDistinct),
                columns: key_columns(&key.columns)?,
            };
            (key.name, kind)
        }
        TableConstraint::Check(check) => {
            enforced(check.enforced)?;
            (check.name, ConstraintKind::Check(*check.expr))
        }
        TableConstraint::ForeignKey(key) => (key.name.clone(), ConstraintKind::ForeignKey(foreign_key(key)?)),
        TableConstraint::PrimaryKeyUsingIndex(using) | TableConstraint::UniqueUsingIndex(using)
            if using.characteristics.is_some() =>
        {
            return unsupported("a deferrable unique constraint");
        }
        TableConstraint::PrimaryKeyUsingIndex(using) => {
            let kind = ConstraintKind::UsingIndex {
                primary: true,
                index: fold(&using.index_name),
            };
            (using.name, kind)
        }
        TableConstraint::UniqueUsingIndex(using) => {
            let kind = ConstraintKind::UsingIndex {
                primary: false,
                index: fold(&using.index_name),
            };
            (using.name, kind)
        }
        other @ (TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_)) => {
            return unsupported(other.to_string());
        }
    };
    let name = name.as_ref().map(fold);
    Ok(Some(Constraint { name, kind }))
}

fn key_columns(columns: &[IndexColumn]) -> Parsed<Vec<String>> {
    let name = |column: &IndexColumn| match &column.column.expr {
        Expr::Identifier(ident) => Ok(fold(ident)),
        other => Err(Error::new(Code::Syntax, format!("syntax error at or near \"{other}\"")).into()),
    };
    columns.iter().map(name).collect()
}

fn enforced(enforced: Option<bool>) -> Parsed<()> {
    match enforced {
        Some(false) => unsupported("NOT ENFORCED"),
        Some(true) | None => Ok(()),
    }
}

/// Keys are checked when a row is written.
fn immediate(characteristics: &Option<ConstraintCharacteristics>) -> Parsed<()> {
    match characteristics {
        Some(c) if c.deferrable == Some(true) || matches!(c.initially, Some(DeferrableInitial::Deferred)) => {
            unsupported("a deferrable unique constraint")
        }
        _ => Ok(()),
    }
}

fn foreign_key(key: ast::ForeignKeyConstraint) -> Parsed<ForeignKey> {
    if matches!(
        key.match_kind,
        Some(ast::ConstraintReferenceMatchKind::Full | ast::ConstraintReferenceMatchKind::Partial)
    ) {
        return unsupported("MATCH FULL or PARTIAL");
    }
    let deferred = |c: &ConstraintCharacteristics| matches!(c.initially, Some(DeferrableInitial::Deferred));
    let characteristics = key.characteristics.as_ref();
    enforced(characteristics.and_then(|c| c.enforced))?;
    let action = |action: Option<ast::ReferentialAction>| match action {
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
        Some(ast::ReferentialAction::NoAction) | None => ReferentialAction::NoAction,
    };
    Ok(ForeignKey {
        columns: key.columns.iter().map(fold).collect(),
        table: object_name(&key.foreign_table)?,
        referenced: key.referred_columns.iter().map(fold).collect(),
        on_delete: action(key.on_delete),
        on_update: action(key.on_update),
        deferrable: characteristics.is_some_and(|c| c.deferrable == Some(true) || deferred(c)),
        deferred: characteristics.is_some_and(deferred),
    })
}

/// A name of the parser's as ours.
pub(in crate::sql) fn object_name(name: &ast::ObjectName) -> Parsed<Name> {
    let mut parts: Vec<String> = Vec::new();
    for part in &name.0 {
        match part.as_ident() {
            Some(ident) => parts.push(fold(ident)),
            None => return unsupported(name.to_string()),
        }
    }
    super::cursor::name_of(parts)
}
