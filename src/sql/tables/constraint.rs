//! Constraints of tables: made, named, and looked at in what PostgreSQL demands of them.

use super::{
    ddl::{Constraint, ConstraintKind, ForeignKey, Kind},
    definitions::{Change, wrong_kind},
    expressions::{self, Place, type_name},
    names,
    rights::{self, Privilege},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    table::schema::{CheckDef, ForeignKeyDef, IndexDef, IndexKey, IndexMethod, KeyOf, Oid, Relation, TableDef},
};

/// What was added, so that rows that are there already are judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Unique(Oid),
    Check(Oid),
    ForeignKey(Oid),
    NotNull(u16),
}

impl Change<'_> {
    /// Adds constraints in PostgreSQL's order: checks, keys, references.
    pub(super) async fn add_constraints(
        &mut self,
        table: &mut TableDef,
        constraints: &[Constraint],
    ) -> Result<Vec<Added>> {
        let mut added = Vec::new();
        for constraint in constraints {
            if let Some(name) = &constraint.name {
                let twice = constraints.iter().filter(|c| c.name.as_ref() == Some(name)).count() > 1;
                if twice || names::constraint_exists(table, name) {
                    let text = format!("constraint \"{name}\" for relation \"{}\" already exists", table.name);
                    return Err(Error::new(Code::DuplicateObject, text));
                }
            }
            if let ConstraintKind::Check(expr) = &constraint.kind {
                added.push(self.add_check(table, constraint.name.as_deref(), expr)?);
            }
        }
        let keys = constraints.iter().filter_map(|constraint| match &constraint.kind {
            ConstraintKind::Key {
                primary,
                nulls_not_distinct,
                columns,
            } => Some((constraint.name.as_deref(), *primary, *nulls_not_distinct, columns)),
            _ => None,
        });
        let mut keys: Vec<_> = keys.collect();
        keys.sort_by_key(|key| !key.1);
        for (name, primary, nulls_not_distinct, columns) in keys {
            self.add_key(table, name, primary, nulls_not_distinct, columns, &mut added)?;
        }
        for constraint in constraints {
            match &constraint.kind {
                ConstraintKind::UsingIndex { primary, index } => {
                    self.use_index(table, constraint.name.as_deref(), *primary, index, &mut added)?;
                }
                ConstraintKind::ForeignKey(key) => {
                    added.push(self.add_foreign_key(table, constraint.name.as_deref(), key).await?);
                }
                ConstraintKind::Check(_) | ConstraintKind::Key { .. } => {}
            }
        }
        Ok(added)
    }

    fn add_check(
        &mut self,
        table: &mut TableDef,
        name: Option<&str>,
        expr: &datafusion::sql::sqlparser::ast::Expr,
    ) -> Result<Added> {
        self.check_expression(table, expr, Place::Check)?;
        let used = expressions::columns_in(expr, Some(table));
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                let only = if used.len() == 1 {
                    used.first().map_or("", String::as_str)
                } else {
                    ""
                };
                names::generated(&table.name, only, "check", |name| names::constraint_exists(table, name))
            }
        };
        let oid = self.oid();
        table.checks.push(CheckDef {
            oid,
            name,
            condition: expr.to_string(),
        });
        Ok(Added::Check(oid))
    }

    fn add_key(
        &mut self,
        table: &mut TableDef,
        name: Option<&str>,
        primary: bool,
        nulls_not_distinct: bool,
        columns: &[String],
        added: &mut Vec<Added>,
    ) -> Result<()> {
        let what = if primary { "primary key" } else { "unique" };
        let mut keys: Vec<IndexKey> = Vec::with_capacity(columns.len());
        for column in columns {
            let Some(found) = table.column(column) else {
                let text = format!("column \"{column}\" named in key does not exist");
                return Err(Error::new(Code::UndefinedColumn, text));
            };
            let key = KeyOf::Column(found.id);
            if keys.iter().any(|k| k.key == key) {
                let text = format!("column \"{column}\" appears twice in {what} constraint");
                return Err(Error::new(Code::DuplicateColumn, text));
            }
            check_ordered(found.pg_type, "btree")?;
            keys.push(IndexKey {
                key,
                descending: false,
                nulls_first: false,
                operator_class: None,
            });
        }
        if primary && table.primary_key().is_some() {
            let text = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
            return Err(Error::new(Code::InvalidTableDefinition, text));
        }
        let new_here = |index: &IndexDef| added.contains(&Added::Unique(index.oid));
        if name.is_none()
            && !primary
            && table
                .indexes
                .iter()
                .any(|i| new_here(i) && i.keys == keys && i.nulls_not_distinct == nulls_not_distinct)
        {
            // Said twice, made once.
            return Ok(());
        }
        let name = match name {
            Some(name) => {
                if self.taken(&table.schema, name) || table.indexes.iter().any(|i| i.name == name) {
                    let text = format!("relation \"{name}\" already exists");
                    return Err(Error::new(Code::DuplicateTable, text));
                }
                name.to_owned()
            }
            None => self.key_name(table, primary, columns),
        };
        if primary {
            for column in &mut table.columns {
                if columns.contains(&column.name) && !column.not_null {
                    column.not_null = true;
                    added.push(Added::NotNull(column.id));
                }
            }
        }
        let oid = self.oid();
        table.indexes.push(IndexDef {
            oid,
            name,
            keys,
            include: Vec::new(),
            unique: true,
            nulls_not_distinct,
            primary,
            constraint: true,
            method: IndexMethod::Btree,
            predicate: None,
            comment: None,
        });
        added.push(Added::Unique(oid));
        Ok(())
    }

    fn key_name(&self, table: &TableDef, primary: bool, columns: &[String]) -> String {
        let taken = |name: &str| {
            self.taken(&table.schema, name)
                || table.name == name
                || table.indexes.iter().any(|i| i.name == name)
                || names::constraint_exists(table, name)
        };
        match primary {
            true => names::generated(&table.name, "", "pkey", taken),
            false => names::generated(&table.name, &columns.join("_"), "key", taken),
        }
    }

    /// ADD PRIMARY KEY or UNIQUE USING INDEX: the index becomes the constraint's, and takes its name.
    fn use_index(
        &mut self,
        table: &mut TableDef,
        name: Option<&str>,
        primary: bool,
        index: &str,
        added: &mut Vec<Added>,
    ) -> Result<()> {
        let has_primary = table.primary_key().is_some();
        let Some(found) = table.indexes.iter_mut().find(|i| i.name == index) else {
            return Err(Error::new(
                Code::UndefinedObject,
                format!("index \"{index}\" does not exist"),
            ));
        };
        let refuse = |text: String| Err(Error::new(Code::WrongObjectType, text));
        if found.constraint {
            let text = format!("index \"{index}\" is already associated with a constraint");
            return Err(Error::new(Code::NotReady, text));
        }
        if !found.unique {
            return refuse(format!("\"{index}\" is not a unique index"));
        }
        if found.predicate.is_some() {
            return refuse(format!("\"{index}\" is a partial index"));
        }
        let columns: Option<Vec<u16>> = found
            .keys
            .iter()
            .map(|key| match key.key {
                KeyOf::Column(id) => Some(id),
                KeyOf::Expression(_) => None,
            })
            .collect();
        let Some(columns) = columns else {
            return refuse(format!("index \"{index}\" contains expressions"));
        };
        if primary && has_primary {
            let text = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
            return Err(Error::new(Code::InvalidTableDefinition, text));
        }
        found.constraint = true;
        found.primary = primary;
        if let Some(name) = name.filter(|name| *name != index) {
            let text = format!("ALTER TABLE / ADD CONSTRAINT USING INDEX will rename index \"{index}\" to \"{name}\"");
            name.clone_into(&mut found.name);
            self.notice("00000", text);
        }
        for column in table.columns.iter_mut().filter(|c| primary && columns.contains(&c.id)) {
            if !column.not_null {
                column.not_null = true;
                added.push(Added::NotNull(column.id));
            }
        }
        Ok(())
    }

    async fn add_foreign_key(&mut self, table: &mut TableDef, name: Option<&str>, key: &ForeignKey) -> Result<Added> {
        let own = key.table.name == table.name && key.table.schema.as_ref().is_none_or(|s| *s == table.schema);
        let parent = match own && self.catalog.table(table.oid).is_none() {
            true => table.clone(),
            false => match self.relation(&key.table)? {
                Relation::Table(parent) if parent.oid == table.oid => table.clone(),
                found @ Relation::Table(parent) => {
                    rights::require(self.world, found, Privilege::References)?;
                    TableDef::clone(parent)
                }
                Relation::View(_) | Relation::Sequence(_) => {
                    let error = wrong_kind(&key.table.name, Kind::Table);
                    let text = format!("referenced relation {}", error.message());
                    return Err(Error::new(Code::WrongObjectType, text));
                }
            },
        };
        if super::temporary::is_temporary(&table.schema) != super::temporary::is_temporary(&parent.schema) {
            let (from, to) = match super::temporary::is_temporary(&table.schema) {
                true => ("temporary", "temporary"),
                false => ("permanent", "permanent"),
            };
            let text = format!("constraints on {from} tables may reference only {to} tables");
            return Err(Error::new(Code::InvalidTableDefinition, text));
        }
        let columns = column_ids(table, &key.columns)?;
        let referenced = match key.referenced.is_empty() {
            false => column_ids(&parent, &key.referenced)?,
            true => match parent.primary_key() {
                Some(primary) => key_columns(primary),
                None => {
                    let text = format!("there is no primary key for referenced table \"{}\"", parent.name);
                    return Err(Error::new(Code::UndefinedObject, text));
                }
            },
        };
        if columns.len() != referenced.len() {
            let text = "number of referencing and referenced columns for foreign key disagree";
            return Err(Error::new(Code::InvalidForeignKey, text));
        }
        let same = |index: &&IndexDef| {
            let keys = key_columns(index);
            let usable = index.unique && index.predicate.is_none() && keys.len() == index.keys.len();
            usable && keys.len() == referenced.len() && keys.iter().all(|id| referenced.contains(id))
        };
        if !parent.indexes.iter().any(|index| same(&index)) {
            let text = format!(
                "there is no unique constraint matching given keys for referenced table \"{}\"",
                parent.name
            );
            return Err(Error::new(Code::InvalidForeignKey, text));
        }
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                let taken = |name: &str| names::constraint_exists(table, name);
                names::generated(&table.name, &key.columns.join("_"), "fkey", taken)
            }
        };
        for (own, other) in columns.iter().zip(&referenced) {
            let (Some(own), Some(other)) = (table.column_of(*own), parent.column_of(*other)) else {
                continue;
            };
            if !comparable(own.pg_type, other.pg_type) {
                let text = format!("foreign key constraint \"{name}\" cannot be implemented");
                let detail = format!(
                    "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                    own.name,
                    other.name,
                    type_name(own.pg_type, -1),
                    type_name(other.pg_type, -1)
                );
                return Err(Error::new(Code::DatatypeMismatch, text).with_detail(detail));
            }
        }
        if parent.oid != table.oid {
            // Nobody deletes a row of it between the look at the rows and the commit.
            self.lock_table(parent.oid).await?;
        }
        let oid = self.oid();
        table.foreign_keys.push(ForeignKeyDef {
            oid,
            name,
            columns,
            references: parent.oid,
            referenced,
            on_delete: key.on_delete,
            on_update: key.on_update,
            deferrable: key.deferrable,
            deferred: key.deferred,
        });
        Ok(Added::ForeignKey(oid))
    }
}

/// The columns of an index, without its expressions.
pub(super) fn key_columns(index: &IndexDef) -> Vec<u16> {
    let column = |key: &IndexKey| match key.key {
        KeyOf::Column(id) => Some(id),
        KeyOf::Expression(_) => None,
    };
    index.keys.iter().filter_map(column).collect()
}

fn column_ids(table: &TableDef, names: &[String]) -> Result<Vec<u16>> {
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        let Some(column) = table.column(name) else {
            let text = format!("column \"{name}\" referenced in foreign key constraint does not exist");
            return Err(Error::new(Code::UndefinedColumn, text));
        };
        if ids.contains(&column.id) {
            let text = format!("column \"{name}\" appears twice in foreign key constraint");
            return Err(Error::new(Code::DuplicateColumn, text));
        }
        ids.push(column.id);
    }
    Ok(ids)
}

/// Whether keys of these types are compared.
fn comparable(own: PgType, other: PgType) -> bool {
    let text = |t: PgType| matches!(t, PgType::Scalar(Scalar::Text | Scalar::Varchar | Scalar::Bpchar));
    let number = |t: PgType| {
        matches!(
            t,
            PgType::Scalar(Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Numeric)
        )
    };
    let date = |t: PgType| {
        matches!(
            t,
            PgType::Scalar(Scalar::Date | Scalar::Timestamp | Scalar::Timestamptz)
        )
    };
    own == other || (text(own) && text(other)) || (number(own) && number(other)) || (date(own) && date(other))
}

/// # Errors
/// 42704 for a type whose values have no order.
pub(super) fn check_ordered(pg_type: PgType, method: &str) -> Result<()> {
    let unordered = match pg_type {
        PgType::Scalar(scalar) => matches!(scalar, Scalar::Json | Scalar::Void | Scalar::Unknown),
        PgType::Array(scalar) => matches!(scalar, Scalar::Json | Scalar::Vector | Scalar::Halfvec),
    };
    let vector = matches!(pg_type, PgType::Scalar(Scalar::Vector | Scalar::Halfvec));
    match unordered || (vector && method != "btree") {
        false => Ok(()),
        true => Err(no_class(pg_type, method)),
    }
}

pub(super) fn no_class(pg_type: PgType, method: &str) -> Error {
    let text = format!(
        "data type {} has no default operator class for access method \"{method}\"",
        type_name(pg_type, -1)
    );
    Error::new(Code::UndefinedObject, text).with_hint(
        "You must specify an operator class for the index or define a default operator class for the data type.",
    )
}
