//! ALTER TABLE.

use std::sync::Arc;

use super::{
    constraint::{Added, key_columns},
    create::check_column_name,
    ddl::{Alter, AlterAny, Column, Kind, Name, Who},
    definitions::{Change, undefined},
    drop::Dropping,
    expressions::{self, Place, assignable, type_name},
    references,
    rewrite::Rewrite,
    rights::{self, require_owner},
    types::{declared, default_text},
};
use crate::{
    error::{Code, Error, Result},
    table::schema::{ColumnDef, Oid, Relation, TableDef},
};

/// What is left to do with the rows once the definitions are changed.
pub(super) struct Altered {
    pub(super) table: Oid,
    /// The table as it was.
    pub(super) before: Arc<TableDef>,
    pub(super) added: Vec<Added>,
    pub(super) rewrite: Rewrite,
    /// Views whose texts were changed, and policies: they must still mean something.
    pub(super) views: Vec<Oid>,
}

impl Change<'_> {
    /// ALTER TABLE. `None` where it does not exist and that is no error, or is no table.
    pub(super) async fn alter_table(
        &mut self,
        name: &Name,
        if_exists: bool,
        actions: &[Alter],
    ) -> Result<Option<Altered>> {
        let found = match self.find(name)? {
            Some(found) => found.clone(),
            None if if_exists => {
                self.notice("00000", format!("relation \"{name}\" does not exist, skipping"));
                return Ok(None);
            }
            None => return Err(undefined(Kind::Table, name)),
        };
        let Relation::Table(before) = &found else {
            let kind = rights::kind_of(&found);
            for action in actions {
                let action = match action {
                    Alter::RenameTo(to) => AlterAny::RenameTo(to.clone()),
                    Alter::SetSchema(to) => AlterAny::SetSchema(to.clone()),
                    Alter::OwnerTo(who) => AlterAny::OwnerTo(who.clone()),
                    _ => return Err(super::definitions::wrong_kind(&name.name, Kind::Table)),
                };
                self.alter_any(kind, name, false, &action)?;
            }
            return Ok(None);
        };
        require_owner(self.world, Kind::Table, &before.owner, &before.name)?;
        let oid = before.oid;
        self.lock_table(oid).await?;
        let mut altered = Altered {
            table: oid,
            before: before.clone(),
            added: Vec::new(),
            rewrite: Rewrite::default(),
            views: Vec::new(),
        };
        for action in actions {
            let Some(table) = self.catalog.table(oid) else {
                return Err(undefined(Kind::Table, name));
            };
            let mut table = TableDef::clone(table);
            self.alter_one(&mut table, action, &mut altered).await?;
        }
        Ok(Some(altered))
    }

    async fn alter_one(&mut self, table: &mut TableDef, action: &Alter, altered: &mut Altered) -> Result<()> {
        match action {
            Alter::AddColumn { if_not_exists, column } => {
                if table.column(&column.name).is_some() {
                    let text = format!(
                        "column \"{}\" of relation \"{}\" already exists",
                        column.name, table.name
                    );
                    if *if_not_exists {
                        self.notice("42701", format!("{text}, skipping"));
                        return Ok(());
                    }
                    return Err(Error::new(Code::DuplicateColumn, text));
                }
                self.add_later(table, column, altered).await?;
            }
            Alter::DropColumn {
                if_exists,
                name,
                cascade,
            } => {
                let Some(column) = table.column(name) else {
                    let text = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
                    if *if_exists {
                        self.notice("00000", format!("{text}, skipping"));
                        return Ok(());
                    }
                    return Err(Error::new(Code::UndefinedColumn, text));
                };
                let what = format!("column {name} of table {}", super::drop::bare(&self.catalog, table.oid));
                return Dropping::column(table.oid, column.id).apply(self, &what, *cascade);
            }
            Alter::RenameColumn { from, to } => {
                let column = existing(table, from)?.id;
                if table.column(to).is_some() {
                    let text = format!("column \"{to}\" of relation \"{}\" already exists", table.name);
                    return Err(Error::new(Code::DuplicateColumn, text));
                }
                check_column_name(to)?;
                altered.views.extend(self.rename_column(table, column, to)?);
            }
            Alter::RenameTo(to) => {
                self.put_table(table.clone());
                return self.rename_relation(table.oid, to);
            }
            Alter::SetSchema(to) => {
                self.put_table(table.clone());
                return self.move_relation(table.oid, to);
            }
            Alter::OwnerTo(who) => table.owner = self.new_owner(who)?,
            Alter::SetDefault { column, value } => self.set_default(table, column, value)?,
            Alter::DropDefault(column) => {
                let column = plain(table, column)?;
                column.default = None;
            }
            Alter::SetNotNull(column) => {
                let column = existing_mut(table, column)?;
                if !column.not_null {
                    column.not_null = true;
                    altered.added.push(Added::NotNull(column.id));
                }
            }
            Alter::DropNotNull(column) => {
                let found = existing(table, column)?;
                if table
                    .primary_key()
                    .is_some_and(|key| key_columns(key).contains(&found.id))
                {
                    let text = format!("column \"{column}\" is in a primary key");
                    return Err(Error::new(Code::InvalidTableDefinition, text));
                }
                if found.identity.is_some() {
                    let text = format!(
                        "column \"{column}\" of relation \"{}\" is an identity column",
                        table.name
                    );
                    return Err(Error::new(Code::Syntax, text));
                }
                existing_mut(table, column)?.not_null = false;
            }
            Alter::SetType {
                column,
                data_type,
                using,
            } => self.set_type(table, column, data_type, using.as_ref(), altered)?,
            Alter::AddIdentity {
                column,
                identity,
                options,
            } => {
                let mut def = plain(table, column)?.clone();
                if !def.not_null {
                    let text = format!(
                        "column \"{column}\" of relation \"{}\" must be declared NOT NULL before identity can be added",
                        table.name
                    );
                    return Err(Error::new(Code::NotReady, text));
                }
                if def.default.is_some() {
                    let text = format!(
                        "column \"{column}\" of relation \"{}\" already has a default value",
                        table.name
                    );
                    return Err(Error::new(Code::NotReady, text));
                }
                self.own_sequence(table, &mut def, Some(*identity), options)?;
                *existing_mut(table, column)? = def;
            }
            Alter::DropIdentity { column, if_exists } => {
                let (name, found) = (table.name.clone(), existing_mut(table, column)?);
                if found.identity.take().is_none() {
                    let text = format!("column \"{column}\" of relation \"{name}\" is not an identity column");
                    match if_exists {
                        true => self.notice("00000", format!("{text}, skipping")),
                        false => return Err(Error::new(Code::NotReady, text)),
                    }
                } else if let Some(sequence) = found.sequence.take() {
                    self.catalog.relations.remove(&sequence);
                }
            }
            Alter::DropExpression { column, if_exists } => {
                let (name, found) = (table.name.clone(), existing_mut(table, column)?);
                if found.generated.take().is_none() {
                    let text = format!("column \"{column}\" of relation \"{name}\" is not a stored generated column");
                    match if_exists {
                        true => self.notice("00000", format!("{text}, skipping")),
                        false => return Err(Error::new(Code::NotReady, text)),
                    }
                }
            }
            Alter::AddConstraint(constraint) => {
                let added = self.add_constraints(table, std::slice::from_ref(constraint)).await?;
                altered.added.extend(added);
            }
            Alter::DropConstraint {
                if_exists,
                name,
                cascade,
            } => return self.drop_constraint(table, name, *if_exists, *cascade),
            Alter::RenameConstraint { from, to } => self.rename_constraint(table, from, to)?,
            Alter::RowSecurity(on) => table.row_security = *on,
            Alter::ForceRowSecurity(on) => table.force_row_security = *on,
            Alter::Nothing(column) => {
                if let Some(column) = column {
                    existing(table, column)?;
                }
            }
            Alter::Validate(name) => {
                if !super::names::constraint_exists(table, name) {
                    return Err(no_constraint(table, name));
                }
            }
        }
        self.put_table(table.clone());
        Ok(())
    }

    /// ADD COLUMN.
    async fn add_later(&mut self, table: &mut TableDef, column: &Column, altered: &mut Altered) -> Result<()> {
        self.add_column(table, column)?;
        let at = table.columns.len() - 1;
        self.check_column(table, at)?;
        let def = table.columns[at].clone();
        let constant = def.default.as_deref().filter(|_| def.sequence.is_none());
        if def.sequence.is_some() || def.generated.is_some() {
            altered.rewrite.fill(def.id);
        } else if let Some(text) = constant {
            altered.rewrite.fill(def.id);
            if !self.is_volatile(text)? {
                altered.rewrite.constant(def.id);
            }
        }
        if def.not_null {
            altered.added.push(Added::NotNull(def.id));
        }
        let added = self.add_constraints(table, &column.constraints).await?;
        altered.added.extend(added);
        Ok(())
    }

    fn set_default(
        &self,
        table: &mut TableDef,
        column: &str,
        value: &datafusion::sql::sqlparser::ast::Expr,
    ) -> Result<()> {
        let def = plain(table, column)?;
        def.default = Some(default_text(value, def.pg_type));
        // A serial column's sequence stays its own; its default is now another.
        let at = table.columns.iter().position(|c| c.name == column).unwrap_or_default();
        let mut judged = table.clone();
        judged.columns[at].sequence = None;
        self.check_column(&judged, at)
    }

    fn set_type(
        &self,
        table: &mut TableDef,
        column: &str,
        data_type: &datafusion::sql::sqlparser::ast::DataType,
        using: Option<&datafusion::sql::sqlparser::ast::Expr>,
        altered: &mut Altered,
    ) -> Result<()> {
        let was = existing(table, column)?.clone();
        let to = declared(data_type)?;
        let refuse = |text: &str, detail: String| Err(Error::new(Code::Unsupported, text).with_detail(detail));
        for relation in self.catalog.relations.values() {
            if let Relation::View(view) = relation
                && references::columns_of_view(&self.catalog, view).contains(&(table.oid, was.id))
            {
                let detail = format!("rule _RETURN on view {} depends on column \"{column}\"", view.name);
                return refuse("cannot alter type of a column used by a view or rule", detail);
            }
        }
        for policy in &table.policies {
            if references::columns_of_policy(table, policy).contains(&was.id) {
                let detail = format!(
                    "policy {} on table {} depends on column \"{column}\"",
                    policy.name, table.name
                );
                return refuse("cannot alter type of a column used in a policy definition", detail);
            }
        }
        for other in &table.columns {
            let text = other.generated.as_deref().unwrap_or_default();
            if other.id != was.id && references::columns_of_text(table, text).contains(&was.id) {
                let detail = format!("Column \"{column}\" is used by generated column \"{}\".", other.name);
                return refuse("cannot alter type of a column used by a generated column", detail);
            }
        }
        let name = type_name(to.pg_type, -1);
        match using {
            Some(expr) => {
                self.check_expression(&altered.before.clone(), expr, Place::Index)?;
            }
            None if assignable(was.pg_type, to.pg_type) => {}
            None => {
                let text = format!("column \"{column}\" cannot be cast automatically to type {name}");
                let hint = format!(
                    "You might need to specify \"USING {column}::{}\".",
                    type_name(to.pg_type, to.modifier)
                );
                return Err(Error::new(Code::DatatypeMismatch, text).with_hint(hint));
            }
        }
        let def = existing_mut(table, column)?;
        (def.pg_type, def.type_modifier) = (to.pg_type, to.modifier);
        def.missing = None;
        altered.rewrite.convert(def.id, using.map(ToString::to_string));
        let at = table.columns.iter().position(|c| c.name == column).unwrap_or_default();
        self.check_column(table, at).map_err(|error| match error.code() {
            Code::DatatypeMismatch => {
                let text = format!("default for column \"{column}\" cannot be cast automatically to type {name}");
                Error::new(Code::DatatypeMismatch, text)
            }
            _ => error,
        })?;
        // Everything that was true of the former values must be true of the new ones.
        for check in &table.checks {
            self.check_expression(table, &expressions::expression(&check.condition)?, Place::Check)?;
            altered.added.push(Added::Check(check.oid));
        }
        let unique = table.indexes.iter().filter(|index| index.unique);
        altered.added.extend(unique.map(|index| Added::Unique(index.oid)));
        let keys = table
            .foreign_keys
            .iter()
            .filter(|key| key.columns.contains(&def_id(table, column)));
        altered.added.extend(keys.map(|key| Added::ForeignKey(key.oid)));
        Ok(())
    }

    fn drop_constraint(&mut self, table: &TableDef, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        let mut table = table.clone();
        if let Some(index) = table.indexes.iter().find(|i| i.constraint && i.name == name) {
            let what = format!(
                "constraint {name} on table {}",
                super::drop::bare(&self.catalog, table.oid)
            );
            return Dropping::index(table.oid, index.oid).apply(self, &what, cascade);
        }
        let before = table.checks.len() + table.foreign_keys.len();
        table.checks.retain(|check| check.name != name);
        table.foreign_keys.retain(|key| key.name != name);
        if table.checks.len() + table.foreign_keys.len() == before {
            if if_exists {
                let text = format!(
                    "constraint \"{name}\" of relation \"{}\" does not exist, skipping",
                    table.name
                );
                self.notice("00000", text);
                return Ok(());
            }
            return Err(no_constraint(&table, name));
        }
        self.put_table(table);
        Ok(())
    }

    fn rename_constraint(&self, table: &mut TableDef, from: &str, to: &str) -> Result<()> {
        if super::names::constraint_exists(table, to) {
            let text = format!("constraint \"{to}\" for relation \"{}\" already exists", table.name);
            return Err(Error::new(Code::DuplicateObject, text));
        }
        if let Some(index) = table.indexes.iter_mut().find(|i| i.constraint && i.name == from) {
            self.check_free(&table.schema, to)?;
            to.clone_into(&mut index.name);
        } else if let Some(check) = table.checks.iter_mut().find(|check| check.name == from) {
            to.clone_into(&mut check.name);
        } else if let Some(key) = table.foreign_keys.iter_mut().find(|key| key.name == from) {
            to.clone_into(&mut key.name);
        } else {
            let text = format!("constraint \"{from}\" for table \"{}\" does not exist", table.name);
            return Err(Error::new(Code::UndefinedObject, text));
        }
        Ok(())
    }

    /// The user that something is given to. Who is no owner of the tenant gives to nobody else.
    ///
    /// # Errors
    /// 42704 and 42501.
    pub(super) fn new_owner(&self, who: &Who) -> Result<String> {
        let name = match who {
            Who::CurrentUser => self.world.user.name.clone(),
            Who::Named(name) => name.clone(),
            Who::Public => "public".to_owned(),
        };
        if !self.world.tenant.users()?.iter().any(|user| user.name == name) {
            return Err(Error::new(
                Code::UndefinedObject,
                format!("role \"{name}\" does not exist"),
            ));
        }
        match rights::owns(self.world, &name) {
            true => Ok(name),
            false => Err(Error::new(
                Code::InsufficientPrivilege,
                format!("must be able to SET ROLE \"{name}\""),
            )),
        }
    }
}

fn no_constraint(table: &TableDef, name: &str) -> Error {
    let text = format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name);
    Error::new(Code::UndefinedObject, text)
}

fn def_id(table: &TableDef, column: &str) -> u16 {
    table.column(column).map_or(0, |column| column.id)
}

fn missing(table: &str, name: &str) -> Error {
    let text = format!("column \"{name}\" of relation \"{table}\" does not exist");
    Error::new(Code::UndefinedColumn, text)
}

/// # Errors
/// 42703.
pub(super) fn existing<'t>(table: &'t TableDef, name: &str) -> Result<&'t ColumnDef> {
    table.column(name).ok_or_else(|| missing(&table.name, name))
}

pub(super) fn existing_mut<'t>(table: &'t mut TableDef, name: &str) -> Result<&'t mut ColumnDef> {
    let found = table.columns.iter_mut().find(|column| column.name == name);
    found.ok_or_else(|| missing(&table.name, name))
}

/// A column whose values nothing else makes.
fn plain<'t>(table: &'t mut TableDef, name: &str) -> Result<&'t mut ColumnDef> {
    let of = table.name.clone();
    let column = existing_mut(table, name)?;
    if column.identity.is_some() {
        let text = format!("column \"{name}\" of relation \"{of}\" is an identity column");
        return Err(Error::new(Code::Syntax, text));
    }
    if column.generated.is_some() {
        let text = format!("column \"{name}\" of relation \"{of}\" is a generated column");
        return Err(Error::new(Code::Syntax, text));
    }
    Ok(column)
}
