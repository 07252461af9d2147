//! CREATE TABLE: columns, their types, defaults and sequences. Constraints are [`super::constraint`]'s.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::Expr;

use super::{
    ddl::{Column, Constraint, CreateTable, Element, Including, Name, SequenceOptions},
    definitions::Change,
    expressions::{self, Place},
    names, sequences,
    types::{declared, default_text},
};
use crate::{
    error::{Code, Error, Result},
    limits,
    sql::pg::catalog::quote_ident,
    table::schema::{CheckDef, ColumnDef, Identity, IndexDef, KeyOf, Oid, Relation, TableDef},
};

/// Names that PostgreSQL's own hidden columns have, and ours.
const HIDDEN: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "_row"];

impl Change<'_> {
    /// CREATE TABLE. `None` where it exists already and that is no error.
    pub(super) async fn create_table(&mut self, stmt: &CreateTable) -> Result<Option<Oid>> {
        let schema = self.creation_schema(&stmt.name, stmt.temporary)?;
        if self.skip_existing(&schema, &stmt.name.name, stmt.if_not_exists)? {
            return Ok(None);
        }
        let mut table = self.empty_table(&schema, &stmt.name.name);
        let mut constraints: Vec<Constraint> = Vec::new();
        let mut likes: Vec<(Arc<TableDef>, Including)> = Vec::new();
        for element in &stmt.elements {
            match element {
                Element::Column(column) => {
                    self.add_column(&mut table, column)?;
                    constraints.extend(column.constraints.iter().cloned());
                }
                Element::Constraint(constraint) => constraints.push(constraint.as_ref().clone()),
                Element::Like {
                    table: source,
                    including,
                } => {
                    let source = self.like(&mut table, source, *including)?;
                    likes.push((source, *including));
                }
            }
        }
        for (source, including) in likes {
            self.like_rest(&mut table, &source, including)?;
        }
        // Defaults are judged once every column is there: a generated one may use a later one.
        for at in 0..table.columns.len() {
            self.check_column(&table, at)?;
        }
        self.add_constraints(&mut table, &constraints).await?;
        let oid = table.oid;
        if stmt.passing {
            self.world.desk.passing.lock().push(oid);
        }
        self.put_table(table);
        Ok(Some(oid))
    }

    /// A table without columns.
    pub(super) fn empty_table(&self, schema: &str, name: &str) -> TableDef {
        TableDef {
            oid: self.oid(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            owner: self.world.user.name.clone(),
            columns: Vec::new(),
            next_column: 1,
            indexes: Vec::new(),
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            policies: Vec::new(),
            row_security: false,
            force_row_security: false,
            grants: Vec::new(),
            comment: None,
        }
    }

    /// Whether there is nothing to do, because the name is taken and that is no error.
    ///
    /// # Errors
    /// 42P07 where it is one.
    pub(super) fn skip_existing(&self, schema: &str, name: &str, if_not_exists: bool) -> Result<bool> {
        if if_not_exists && self.taken(schema, name) {
            self.notice("42P07", format!("relation \"{name}\" already exists, skipping"));
            return Ok(true);
        }
        self.check_free(schema, name)?;
        Ok(false)
    }

    /// Adds a column, with its sequence if it has one, but none of its constraints.
    ///
    /// # Errors
    /// What is wrong with its name or type.
    pub(super) fn add_column(&mut self, table: &mut TableDef, column: &Column) -> Result<()> {
        let declared = declared(&column.data_type)?;
        let mut def = self.new_column(table, &column.name)?;
        def.pg_type = declared.pg_type;
        def.type_modifier = declared.modifier;
        def.not_null = column.not_null == Some(true);
        if declared.serial || column.identity.is_some() {
            if column.not_null == Some(false) {
                let text = format!("conflicting NULL/NOT NULL declarations for column \"{}\"", column.name);
                return Err(Error::new(Code::Syntax, text));
            }
            if declared.serial && column.default.is_some() {
                let text = format!(
                    "multiple default values specified for column \"{}\" of table \"{}\"",
                    column.name, table.name
                );
                return Err(Error::new(Code::Syntax, text));
            }
            def.not_null = true;
            let (identity, options) = match &column.identity {
                Some((identity, options)) => (Some(*identity), options.clone()),
                None => (None, SequenceOptions::default()),
            };
            self.own_sequence(table, &mut def, identity, &options)?;
        }
        if let Some(expr) = &column.default {
            def.default = Some(default_text(expr, def.pg_type));
        }
        if let Some(expr) = &column.generated {
            def.generated = Some(expr.to_string());
        }
        table.columns.push(def);
        Ok(())
    }

    /// A column of this name and of no type yet.
    pub(super) fn new_column(&self, table: &mut TableDef, name: &str) -> Result<ColumnDef> {
        if table.column(name).is_some() {
            let text = format!("column \"{name}\" specified more than once");
            return Err(Error::new(Code::DuplicateColumn, text));
        }
        check_column_name(name)?;
        if table.columns.len() >= limits::TABLE_COLUMNS {
            let text = format!("tables can have at most {} columns", limits::TABLE_COLUMNS);
            return Err(Error::new(Code::TooLarge, text));
        }
        let id = table.next_column;
        table.next_column = id.checked_add(1).ok_or_else(|| {
            Error::new(Code::TooLarge, "the table has had too many columns").with_hint("make the table anew")
        })?;
        Ok(ColumnDef {
            id,
            name: name.to_owned(),
            pg_type: crate::codec::pgtype::PgType::TEXT,
            type_modifier: -1,
            not_null: false,
            default: None,
            generated: None,
            identity: None,
            sequence: None,
            missing: None,
            comment: None,
        })
    }

    /// Makes the sequence of a serial or identity column.
    pub(super) fn own_sequence(
        &mut self,
        table: &TableDef,
        column: &mut ColumnDef,
        identity: Option<Identity>,
        options: &SequenceOptions,
    ) -> Result<()> {
        if identity.is_some() && !sequences::is_integer(column.pg_type) {
            let text = "identity column type must be smallint, integer, or bigint";
            return Err(Error::new(Code::InvalidParameterValue, text));
        }
        let taken = |name: &str| self.taken(&table.schema, name) || (table.name == name);
        let name = names::generated(&table.name, &column.name, "seq", taken);
        let mut sequence = self.new_sequence(&table.schema, &name, Some(column.pg_type), options)?;
        sequence.owned_by = Some((table.oid, column.id));
        sequence.owner.clone_from(&table.owner);
        column.sequence = Some(sequence.oid);
        column.identity = identity;
        if identity.is_none() {
            column.default = Some(next_value(&sequence.schema, &sequence.name));
        }
        self.catalog
            .relations
            .insert(sequence.oid, Relation::Sequence(Arc::new(sequence)));
        Ok(())
    }

    /// Judges a column's default or generation expression.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub(super) fn check_column(&self, table: &TableDef, at: usize) -> Result<()> {
        let column = &table.columns[at];
        if let Some(text) = column.default.as_deref().filter(|_| column.sequence.is_none()) {
            let expr = expressions::expression(text)?;
            self.check_assigned(table, column, &expr, Place::Default)?;
        }
        let Some(text) = &column.generated else { return Ok(()) };
        let expr = expressions::expression(text)?;
        let used = expressions::columns_in(&expr, Some(table));
        if let Some(other) = table
            .columns
            .iter()
            .find(|c| c.generated.is_some() && used.contains(&c.name))
        {
            let text = format!(
                "cannot use generated column \"{}\" in column generation expression",
                other.name
            );
            return Err(Error::new(Code::InvalidObjectDefinition, text)
                .with_detail("A generated column cannot reference another generated column."));
        }
        self.check_assigned(table, column, &expr, Place::Generated)
    }

    fn check_assigned(&self, table: &TableDef, column: &ColumnDef, expr: &Expr, place: Place) -> Result<()> {
        let found = self.check_expression(table, expr, place)?;
        if expressions::assignable(found, column.pg_type) || expressions::is_untyped(expr) {
            return Ok(());
        }
        let what = if place == Place::Default {
            "default"
        } else {
            "generation"
        };
        let text = format!(
            "column \"{}\" is of type {} but {what} expression is of type {}",
            column.name,
            expressions::type_name(column.pg_type, -1),
            expressions::type_name(found, -1)
        );
        Err(Error::new(Code::DatatypeMismatch, text).with_hint("You will need to rewrite or cast the expression."))
    }

    /// The type of an expression over a table's columns.
    pub(super) fn check_expression(
        &self,
        table: &TableDef,
        expr: &Expr,
        place: Place,
    ) -> Result<crate::codec::pgtype::PgType> {
        let options = self.session.state.config_options();
        expressions::check(&self.session.names, options, table, expr, place)
    }

    /// Columns of LIKE.
    fn like(&mut self, table: &mut TableDef, source: &Name, including: Including) -> Result<Arc<TableDef>> {
        let source = match self.relation(source)? {
            Relation::Table(source) => source.clone(),
            Relation::View(_) | Relation::Sequence(_) => {
                return Err(super::definitions::wrong_kind(&source.name, super::ddl::Kind::Table));
            }
        };
        for from in &source.columns {
            let mut def = self.new_column(table, &from.name)?;
            def.pg_type = from.pg_type;
            def.type_modifier = from.type_modifier;
            def.not_null = from.not_null;
            if including.defaults && from.identity.is_none() {
                def.default.clone_from(&from.default);
            }
            if including.generated {
                def.generated.clone_from(&from.generated);
            }
            if including.comments {
                def.comment.clone_from(&from.comment);
            }
            if including.identity && from.identity.is_some() {
                self.own_sequence(table, &mut def, from.identity, &SequenceOptions::default())?;
            }
            table.columns.push(def);
        }
        Ok(source)
    }

    /// Constraints and indexes of LIKE.
    fn like_rest(&mut self, table: &mut TableDef, source: &TableDef, including: Including) -> Result<()> {
        let renumbered = |id: u16| {
            let name = &source.column_of(id)?.name;
            table.column(name).map(|column| column.id)
        };
        let mut indexes: Vec<IndexDef> = Vec::new();
        if including.indexes {
            for from in &source.indexes {
                let mut index = from.clone();
                index.oid = self.oid();
                for key in &mut index.keys {
                    if let KeyOf::Column(id) = &mut key.key {
                        *id = renumbered(*id).unwrap_or(*id);
                    }
                }
                index.include = index.include.iter().filter_map(|&id| renumbered(id)).collect();
                indexes.push(index);
            }
        }
        for mut index in indexes {
            index.name = self.index_name(table, &index);
            for key in &index.keys {
                if let (true, KeyOf::Column(id)) = (index.primary, &key.key)
                    && let Some(column) = table.columns.iter_mut().find(|c| c.id == *id)
                {
                    column.not_null = true;
                }
            }
            table.indexes.push(index);
        }
        if including.constraints {
            for check in &source.checks {
                table.checks.push(CheckDef {
                    oid: self.oid(),
                    ..check.clone()
                });
            }
        }
        Ok(())
    }
}

/// # Errors
/// 42701 for a name that the server keeps for itself.
pub(super) fn check_column_name(name: &str) -> Result<()> {
    match HIDDEN.contains(&name) {
        true => Err(Error::new(
            Code::DuplicateColumn,
            format!("column name \"{name}\" conflicts with a system column name"),
        )),
        false => Ok(()),
    }
}

/// The default of a serial column.
pub(super) fn next_value(schema: &str, name: &str) -> String {
    let quoted = format!("{}.{}", quote_ident(schema), quote_ident(name));
    format!("nextval('{}'::regclass)", quoted.replace('\'', "''"))
}
