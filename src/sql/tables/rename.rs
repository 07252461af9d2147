//! New names and schemas for what exists, also in the texts that are kept.

use std::{ops::ControlFlow, sync::Arc};

use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, ObjectName, Query, SelectItem, TableAlias, TableFactor, VisitMut, VisitorMut,
};

use super::{
    create::next_value,
    cursor::fold,
    ddl::{AlterAny, Kind, Name},
    definitions::{Change, undefined, wrong_kind},
    expressions, references,
    rights::{kind_of, require_owner},
    temporary::is_temporary,
};
use crate::{
    error::{Code, Error, Result},
    table::schema::{KeyOf, Oid, Relation, SchemaDef, TableDef},
};

impl Change<'_> {
    /// RENAME TO, SET SCHEMA and OWNER TO of views, sequences, indexes and schemas.
    pub(super) fn alter_any(&mut self, kind: Kind, name: &Name, if_exists: bool, action: &AlterAny) -> Result<()> {
        match kind {
            Kind::Index => self.alter_index(name, if_exists, action),
            Kind::Schema => self.alter_schema(name, action),
            Kind::Table | Kind::View | Kind::Sequence => {
                let found = match self.find(name)? {
                    Some(found) => found.clone(),
                    None if if_exists => {
                        self.notice("00000", format!("relation \"{name}\" does not exist, skipping"));
                        return Ok(());
                    }
                    None => return Err(undefined(Kind::Table, name)),
                };
                if kind_of(&found) != kind {
                    return Err(wrong_kind(&name.name, kind));
                }
                require_owner(self.world, kind, found.owner(), found.name().1)?;
                match action {
                    AlterAny::RenameTo(to) => self.rename_relation(found.oid(), to),
                    AlterAny::SetSchema(to) => self.move_relation(found.oid(), to),
                    AlterAny::OwnerTo(who) => {
                        let owner = self.new_owner(who)?;
                        self.update(found.oid(), |relation| match relation {
                            Relation::Table(table) => Arc::make_mut(table).owner = owner,
                            Relation::View(view) => Arc::make_mut(view).owner = owner,
                            Relation::Sequence(sequence) => Arc::make_mut(sequence).owner = owner,
                        });
                        Ok(())
                    }
                    AlterAny::SetOptions(_) | AlterAny::ResetOptions(_) | AlterAny::Nothing => Ok(()),
                }
            }
        }
    }

    fn update(&mut self, oid: Oid, change: impl FnOnce(&mut Relation)) {
        if let Some(relation) = self.catalog.relations.get_mut(&oid) {
            change(relation);
        }
    }

    fn alter_index(&mut self, name: &Name, if_exists: bool, action: &AlterAny) -> Result<()> {
        let Some((table, index)) = self.find_index(name)? else {
            if if_exists {
                self.notice("00000", format!("relation \"{name}\" does not exist, skipping"));
                return Ok(());
            }
            return match self.find(name)? {
                Some(_) => Err(wrong_kind(&name.name, Kind::Index)),
                None => Err(undefined(Kind::Table, name)),
            };
        };
        require_owner(self.world, Kind::Index, &table.owner, &index.name)?;
        match action {
            AlterAny::RenameTo(to) => {
                self.check_free(&table.schema, to)?;
                let mut table = TableDef::clone(&table);
                for other in table.indexes.iter_mut().filter(|other| other.oid == index.oid) {
                    to.clone_into(&mut other.name);
                }
                self.put_table(table);
                Ok(())
            }
            AlterAny::SetOptions(set) => self.set_options(&table, &index, set, &[]),
            AlterAny::ResetOptions(reset) => self.set_options(&table, &index, &[], reset),
            AlterAny::Nothing => Ok(()),
            AlterAny::SetSchema(_) | AlterAny::OwnerTo(_) => Err(wrong_kind(&name.name, Kind::Table)),
        }
    }

    fn alter_schema(&mut self, name: &Name, action: &AlterAny) -> Result<()> {
        self.check_schema(&name.name)?;
        let Some(schema) = self.catalog.schemas.get(&name.name).cloned() else {
            let text = format!("must be owner of schema {name}");
            return Err(Error::new(Code::InsufficientPrivilege, text));
        };
        require_owner(self.world, Kind::Schema, &schema.owner, &schema.name)?;
        match action {
            AlterAny::OwnerTo(who) => {
                let owner = self.new_owner(who)?;
                let changed = SchemaDef {
                    owner,
                    ..SchemaDef::clone(&schema)
                };
                self.catalog.schemas.insert(schema.name.clone(), Arc::new(changed));
                Ok(())
            }
            AlterAny::RenameTo(to) => {
                super::schema::check_new(self, to)?;
                let inside = self.catalog.relations.values();
                let inside: Vec<Oid> = inside
                    .filter(|r| r.name().0 == schema.name)
                    .map(Relation::oid)
                    .collect();
                let renamed = SchemaDef {
                    name: to.clone(),
                    ..SchemaDef::clone(&schema)
                };
                self.catalog.schemas.remove(&schema.name);
                self.catalog.schemas.insert(to.clone(), Arc::new(renamed));
                for oid in inside {
                    self.place(oid, to, None);
                }
                Ok(())
            }
            AlterAny::SetSchema(_) | AlterAny::SetOptions(_) | AlterAny::ResetOptions(_) | AlterAny::Nothing => {
                Err(wrong_kind(&name.name, Kind::Table))
            }
        }
    }

    /// RENAME TO.
    pub(super) fn rename_relation(&mut self, oid: Oid, to: &str) -> Result<()> {
        let Some(relation) = self.catalog.relations.get(&oid) else {
            return Ok(());
        };
        let schema = relation.name().0.to_owned();
        self.check_free(&schema, to)?;
        self.place(oid, &schema, Some(to));
        Ok(())
    }

    /// SET SCHEMA: a table's own sequences go with it.
    pub(super) fn move_relation(&mut self, oid: Oid, to: &str) -> Result<()> {
        let Some(relation) = self.catalog.relations.get(&oid) else {
            return Ok(());
        };
        let (from, name) = relation.name();
        let (from, name) = (from.to_owned(), name.to_owned());
        if from == to {
            return Ok(());
        }
        if is_temporary(&from) || is_temporary(to) || to == "pg_temp" {
            let text = "cannot move objects into or out of temporary schemas";
            return Err(Error::new(Code::Unsupported, text));
        }
        let target = Name {
            database: None,
            schema: Some(to.to_owned()),
            name: name.clone(),
        };
        self.creation_schema(&target, false)?;
        if self.taken(to, &name) {
            let text = format!("relation \"{name}\" already exists in schema \"{to}\"");
            return Err(Error::new(Code::DuplicateTable, text));
        }
        let owned: Vec<Oid> = self
            .catalog
            .relations
            .values()
            .filter_map(|relation| match relation {
                Relation::Sequence(s) if s.owned_by.is_some_and(|(table, _)| table == oid) => Some(s.oid),
                _ => None,
            })
            .collect();
        for oid in owned.into_iter().chain([oid]) {
            self.place(oid, to, None);
        }
        Ok(())
    }

    /// Puts a relation into a schema, under its own name or another, and names it so wherever it is read.
    fn place(&mut self, oid: Oid, schema: &str, name: Option<&str>) {
        let Some(relation) = self.catalog.relations.get(&oid) else {
            return;
        };
        let was = (relation.name().0.to_owned(), relation.name().1.to_owned());
        let is = (schema.to_owned(), name.unwrap_or(&was.1).to_owned());
        let sequence = matches!(relation, Relation::Sequence(_));
        let readers: Vec<(Oid, Vec<Oid>)> = match sequence {
            true => Vec::new(),
            false => self.readers(),
        };
        let users: Vec<(Oid, u16)> = match sequence {
            false => Vec::new(),
            true => self.defaults_with(oid),
        };
        for (reader, reads) in readers {
            if reads.contains(&oid) {
                self.update(reader, |relation| rename_in_relation(relation, &was, &is));
            }
        }
        self.update(oid, |relation| {
            let (at_schema, at_name) = match relation {
                Relation::Table(table) => {
                    let table = Arc::make_mut(table);
                    (&mut table.schema, &mut table.name)
                }
                Relation::View(view) => {
                    let view = Arc::make_mut(view);
                    (&mut view.schema, &mut view.name)
                }
                Relation::Sequence(sequence) => {
                    let sequence = Arc::make_mut(sequence);
                    (&mut sequence.schema, &mut sequence.name)
                }
            };
            (*at_schema, *at_name) = is.clone();
        });
        for (table, column) in users {
            self.update(table, |relation| {
                if let Relation::Table(table) = relation {
                    let columns = &mut Arc::make_mut(table).columns;
                    for column in columns.iter_mut().filter(|c| c.id == column) {
                        column.default = Some(next_value(&is.0, &is.1));
                    }
                }
            });
        }
    }

    /// Tables and views with the relations that their texts read.
    fn readers(&self) -> Vec<(Oid, Vec<Oid>)> {
        let catalog = &self.catalog;
        let reads = |relation: &Relation| match relation {
            Relation::View(view) => view.depends.clone(),
            Relation::Table(table) => {
                let policies = table.policies.iter();
                policies
                    .flat_map(|policy| references::relations_of_policy(catalog, policy))
                    .collect()
            }
            Relation::Sequence(_) => Vec::new(),
        };
        catalog.relations.values().map(|r| (r.oid(), reads(r))).collect()
    }

    /// Columns whose defaults take numbers of a sequence.
    fn defaults_with(&self, sequence: Oid) -> Vec<(Oid, u16)> {
        let mut found = Vec::new();
        for table in self.catalog.tables() {
            for column in &table.columns {
                let default = column.default.as_deref().unwrap_or_default();
                if references::sequences_of_default(&self.catalog, default).contains(&sequence) {
                    found.push((table.oid, column.id));
                }
            }
        }
        found
    }

    /// RENAME COLUMN, in the table's own texts and in views. Gives the views whose texts were changed.
    pub(super) fn rename_column(&mut self, table: &mut TableDef, column: u16, to: &str) -> Result<Vec<Oid>> {
        let Some(from) = table.column_of(column).map(|c| c.name.clone()) else {
            return Ok(Vec::new());
        };
        let views: Vec<Oid> = self
            .catalog
            .relations
            .values()
            .filter_map(|relation| match relation {
                Relation::View(view)
                    if references::columns_of_view(&self.catalog, view).contains(&(table.oid, column)) =>
                {
                    Some(view.oid)
                }
                _ => None,
            })
            .collect();
        for view in &views {
            let (from, to) = (from.clone(), to.to_owned());
            self.update(*view, |relation| {
                if let Relation::View(view) = relation
                    && let Ok(mut query) = expressions::query(&view.query)
                {
                    rename_columns(query.as_mut(), &from, &to);
                    Arc::make_mut(view).query = query.to_string();
                }
            });
        }
        for def in table.columns.iter_mut().filter(|c| c.id == column) {
            to.clone_into(&mut def.name);
        }
        let renamed = |text: &mut String| -> Result<()> {
            let mut expr = expressions::expression(text)?;
            rename_columns(&mut expr, &from, to);
            *text = expr.to_string();
            Ok(())
        };
        for def in &mut table.columns {
            def.generated.as_mut().map_or(Ok(()), renamed)?;
        }
        for check in &mut table.checks {
            renamed(&mut check.condition)?;
        }
        for index in &mut table.indexes {
            index.predicate.as_mut().map_or(Ok(()), renamed)?;
            for key in &mut index.keys {
                if let KeyOf::Expression(text) = &mut key.key {
                    renamed(text)?;
                }
            }
        }
        for policy in &mut table.policies {
            policy.using.as_mut().map_or(Ok(()), renamed)?;
            policy.check.as_mut().map_or(Ok(()), renamed)?;
        }
        Ok(views)
    }
}

/// Renames a relation in the texts of a view or of a table's policies.
fn rename_in_relation(relation: &mut Relation, was: &(String, String), is: &(String, String)) {
    match relation {
        Relation::View(view) => {
            if let Ok(mut query) = expressions::query(&view.query) {
                rename_tables(query.as_mut(), was, is);
                Arc::make_mut(view).query = query.to_string();
            }
        }
        Relation::Table(table) => {
            for policy in &mut Arc::make_mut(table).policies {
                for text in policy.using.iter_mut().chain(&mut policy.check) {
                    if let Ok(mut expr) = expressions::expression(text) {
                        rename_tables(&mut expr, was, is);
                        *text = expr.to_string();
                    }
                }
            }
        }
        Relation::Sequence(_) => {}
    }
}

/// Renames a relation in FROM; what calls its columns by its name goes on doing so.
fn rename_tables(part: &mut impl VisitMut, was: &(String, String), is: &(String, String)) {
    struct Rename<'a>(&'a (String, String), &'a (String, String));
    impl VisitorMut for Rename<'_> {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, alias, .. } = factor
                && let [schema, table] = name.0.as_slice()
                && let (Some(schema), Some(table)) = (schema.as_ident(), table.as_ident())
                && (fold(schema), fold(table)) == *self.0
            {
                if alias.is_none() && self.0.1 != self.1.1 {
                    *alias = Some(TableAlias {
                        explicit: true,
                        name: Ident::with_quote('"', self.0.1.clone()),
                        columns: Vec::new(),
                        at: None,
                    });
                }
                let parts = [&self.1.0, &self.1.1].map(|part| Ident::with_quote('"', part.clone()));
                *name = ObjectName::from(parts.to_vec());
            }
            ControlFlow::Continue(())
        }
    }
    let _ = part.visit(&mut Rename(was, is));
}

/// Renames a column wherever its name stands; items of queries keep the name that they had.
fn rename_columns(part: &mut impl VisitMut, from: &str, to: &str) {
    struct Rename<'a>(&'a str, &'a str);
    impl VisitorMut for Rename<'_> {
        type Break = ();
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            if let ast::SetExpr::Select(select) = query.body.as_mut() {
                for item in &mut select.projection {
                    let name = match item {
                        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(fold(ident)),
                        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(fold),
                        _ => None,
                    };
                    if name.as_deref() == Some(self.0)
                        && let SelectItem::UnnamedExpr(expr) = item
                    {
                        *item = SelectItem::ExprWithAlias {
                            expr: expr.clone(),
                            alias: Ident::with_quote('"', self.0),
                        };
                    }
                }
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let ident = match expr {
                Expr::Identifier(ident) => Some(ident),
                Expr::CompoundIdentifier(parts) => parts.last_mut(),
                _ => None,
            };
            if let Some(ident) = ident
                && fold(ident) == self.0
            {
                *ident = Ident::with_quote('"', self.1);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = part.visit(&mut Rename(from, to));
}
