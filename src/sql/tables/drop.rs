//! DROP, and what depends on what.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    ddl::{Kind, Name},
    definitions::{Change, wrong_kind},
    references,
    rights::{kind_of, require_owner},
};
use crate::{
    error::{Code, Error, Result},
    table::schema::{Catalog, KeyOf, Oid, Relation, TableDef},
};

/// What goes, and what goes with it.
#[derive(Debug, Default)]
pub(super) struct Dropping {
    relations: BTreeSet<Oid>,
    /// Columns by table and id.
    columns: BTreeSet<(Oid, u16)>,
    /// Indexes that foreign keys need, by table and index.
    indexes: BTreeSet<(Oid, Oid)>,
    foreign_keys: BTreeSet<(Oid, Oid)>,
    policies: BTreeSet<(Oid, Oid)>,
    defaults: BTreeSet<(Oid, u16)>,
    /// Lines of DETAIL: what depends, on what.
    lines: Vec<(String, String)>,
}

impl Dropping {
    /// Drops these relations.
    pub(super) fn relations(oids: impl IntoIterator<Item = Oid>) -> Self {
        Self {
            relations: oids.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Drops a column.
    pub(super) fn column(table: Oid, column: u16) -> Self {
        Self {
            columns: BTreeSet::from([(table, column)]),
            ..Self::default()
        }
    }

    /// Drops an index or the constraint that it is of.
    pub(super) fn index(table: Oid, index: Oid) -> Self {
        Self {
            indexes: BTreeSet::from([(table, index)]),
            ..Self::default()
        }
    }

    fn line(&mut self, what: String, on: &str) {
        self.lines.push((what, on.to_owned()));
    }

    /// Adds everything that needs what goes, until nothing more does.
    fn spread(&mut self, catalog: &Catalog) {
        loop {
            let before = self.lines.len();
            for relation in catalog.relations.values() {
                match relation {
                    Relation::Table(table) if !self.relations.contains(&table.oid) => self.spread_table(catalog, table),
                    Relation::View(view) if !self.relations.contains(&view.oid) => {
                        let needed = view.depends.iter().find(|oid| self.relations.contains(oid));
                        let on = match needed {
                            Some(oid) => name_of(catalog, *oid),
                            None => match references::columns_of_view(catalog, view)
                                .into_iter()
                                .find(|column| self.columns.contains(column))
                            {
                                Some((table, column)) => column_name(catalog, table, column),
                                None => continue,
                            },
                        };
                        self.relations.insert(view.oid);
                        self.line(format!("view {}", bare(catalog, view.oid)), &on);
                    }
                    Relation::Sequence(sequence) if !self.relations.contains(&sequence.oid) => {
                        // Goes silently with the column that owns it.
                        if let Some((table, column)) = sequence.owned_by
                            && (self.relations.contains(&table) || self.columns.contains(&(table, column)))
                        {
                            self.relations.insert(sequence.oid);
                        }
                    }
                    Relation::Table(_) | Relation::View(_) | Relation::Sequence(_) => {}
                }
            }
            if self.lines.len() == before {
                break;
            }
        }
    }

    fn spread_table(&mut self, catalog: &Catalog, table: &TableDef) {
        let here = format!("table {}", bare(catalog, table.oid));
        for key in &table.foreign_keys {
            if self.foreign_keys.contains(&(table.oid, key.oid)) {
                continue;
            }
            let own_columns = key.columns.iter().any(|id| self.columns.contains(&(table.oid, *id)));
            if own_columns {
                // Goes silently with the column.
                self.foreign_keys.insert((table.oid, key.oid));
                continue;
            }
            let on = if self.relations.contains(&key.references) {
                Some(name_of(catalog, key.references))
            } else {
                let parent = catalog.table(key.references);
                let needs = |&(of, index): &(Oid, Oid)| {
                    of == key.references
                        && parent.is_some_and(|parent| {
                            let index = parent.indexes.iter().find(|i| i.oid == index);
                            index.is_some_and(|i| i.unique && same_columns(i, &key.referenced))
                                && only_index(parent, &key.referenced, &self.indexes)
                        })
                };
                let of_index = self.indexes.iter().find(|pair| needs(pair)).map(|&(of, index)| {
                    let name = catalog
                        .table(of)
                        .and_then(|t| t.indexes.iter().find(|i| i.oid == index));
                    format!("index {}", name.map(|i| i.name.as_str()).unwrap_or_default())
                });
                let of_column = || {
                    let id = key
                        .referenced
                        .iter()
                        .find(|id| self.columns.contains(&(key.references, **id)))?;
                    Some(column_name(catalog, key.references, *id))
                };
                of_index.or_else(of_column)
            };
            if let Some(on) = on {
                self.foreign_keys.insert((table.oid, key.oid));
                self.line(format!("constraint {} on {here}", key.name), &on);
            }
        }
        for policy in &table.policies {
            if self.policies.contains(&(table.oid, policy.oid)) {
                continue;
            }
            let reads = references::relations_of_policy(catalog, policy);
            let on = match reads.iter().find(|oid| self.relations.contains(oid)) {
                Some(oid) => Some(name_of(catalog, *oid)),
                None => {
                    let columns = references::columns_of_policy(table, policy);
                    let gone = columns.iter().find(|id| self.columns.contains(&(table.oid, **id)));
                    gone.map(|id| column_name(catalog, table.oid, *id))
                }
            };
            if let Some(on) = on {
                self.policies.insert((table.oid, policy.oid));
                self.line(format!("policy {} on {here}", policy.name), &on);
            }
        }
        for column in &table.columns {
            let (Some(default), false) = (&column.default, self.defaults.contains(&(table.oid, column.id))) else {
                continue;
            };
            if self.columns.contains(&(table.oid, column.id)) {
                continue;
            }
            let sequences = references::sequences_of_default(catalog, default);
            if let Some(oid) = sequences.iter().find(|oid| self.relations.contains(oid)) {
                self.defaults.insert((table.oid, column.id));
                let what = format!("default value for column {} of {here}", column.name);
                self.line(what, &name_of(catalog, *oid));
            }
        }
        for column in &table.columns {
            let (Some(text), false) = (&column.generated, self.columns.contains(&(table.oid, column.id))) else {
                continue;
            };
            let used = references::columns_of_text(table, text);
            if let Some(id) = used.iter().find(|id| self.columns.contains(&(table.oid, **id))) {
                let on = column_name(catalog, table.oid, *id);
                self.columns.insert((table.oid, column.id));
                self.line(column_name(catalog, table.oid, column.id), &on);
            }
        }
    }

    /// Takes everything out of the catalog.
    ///
    /// # Errors
    /// 2BP01 where something else depends on it and it does not cascade.
    pub(super) fn apply(mut self, change: &mut Change<'_>, what: &str, cascade: bool) -> Result<()> {
        self.spread(&change.catalog);
        if !self.lines.is_empty() && !cascade {
            let lines: Vec<String> = self
                .lines
                .iter()
                .map(|(what, on)| format!("{what} depends on {on}"))
                .collect();
            let text = format!("cannot drop {what} because other objects depend on it");
            return Err(Error::new(Code::DependentObjects, text)
                .with_detail(lines.join("\n"))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        match self.lines.as_slice() {
            [] => {}
            [(one, _)] => change.notice("00000", format!("drop cascades to {one}")),
            many => change.notice("00000", format!("drop cascades to {} other objects", many.len())),
        }
        let catalog = &mut change.catalog;
        catalog.relations.retain(|oid, _| !self.relations.contains(oid));
        for relation in catalog.relations.values_mut() {
            let Relation::Table(table) = relation else { continue };
            let oid = table.oid;
            let touched = [
                self.foreign_keys.iter().any(|(of, _)| *of == oid),
                self.policies.iter().any(|(of, _)| *of == oid),
                self.defaults.iter().any(|(of, _)| *of == oid),
                self.columns.iter().any(|(of, _)| *of == oid),
                self.indexes.iter().any(|(of, _)| *of == oid),
            ];
            if !touched.contains(&true) {
                continue;
            }
            let table = Arc::make_mut(table);
            table
                .foreign_keys
                .retain(|key| !self.foreign_keys.contains(&(oid, key.oid)));
            table
                .policies
                .retain(|policy| !self.policies.contains(&(oid, policy.oid)));
            table.indexes.retain(|index| !self.indexes.contains(&(oid, index.oid)));
            for column in &mut table.columns {
                if self.defaults.contains(&(oid, column.id)) {
                    column.default = None;
                }
            }
            drop_columns(table, |id| self.columns.contains(&(oid, id)));
        }
        for relation in catalog.relations.values_mut() {
            if let Relation::Sequence(sequence) = relation
                && let Some((table, _)) = sequence.owned_by
                && self.relations.contains(&table)
            {
                Arc::make_mut(sequence).owned_by = None;
            }
        }
        Ok(())
    }
}

/// Takes columns out of a table, with the indexes and checks that are on them.
fn drop_columns(table: &mut TableDef, gone: impl Fn(u16) -> bool) {
    let former = table.clone();
    table.columns.retain(|column| !gone(column.id));
    let uses = |text: &str| references::columns_of_text(&former, text).into_iter().any(&gone);
    table.indexes.retain(|index| {
        let keys = index.keys.iter().any(|key| match &key.key {
            KeyOf::Column(id) => gone(*id),
            KeyOf::Expression(text) => uses(text),
        });
        !(keys || index.include.iter().any(|id| gone(*id)) || index.predicate.as_deref().is_some_and(&uses))
    });
    table.checks.retain(|check| !uses(&check.condition));
}

fn same_columns(index: &crate::table::schema::IndexDef, columns: &[u16]) -> bool {
    let keys = super::constraint::key_columns(index);
    keys.len() == columns.len() && keys.iter().all(|id| columns.contains(id))
}

/// Whether no other unique index than those that go has these columns.
fn only_index(table: &TableDef, columns: &[u16], gone: &BTreeSet<(Oid, Oid)>) -> bool {
    let mut others = table.indexes.iter().filter(|i| !gone.contains(&(table.oid, i.oid)));
    !others.any(|i| i.unique && i.predicate.is_none() && same_columns(i, columns))
}

/// `schema.name` unless it is in `public`.
pub(super) fn bare(catalog: &Catalog, oid: Oid) -> String {
    match catalog.relations.get(&oid).map(Relation::name) {
        Some(("public", name)) => name.to_owned(),
        Some((schema, name)) if super::temporary::is_temporary(schema) => name.to_owned(),
        Some((schema, name)) => format!("{schema}.{name}"),
        None => oid.to_string(),
    }
}

fn name_of(catalog: &Catalog, oid: Oid) -> String {
    let word = catalog.relations.get(&oid).map_or("relation", |r| kind_of(r).word());
    format!("{word} {}", bare(catalog, oid))
}

fn column_name(catalog: &Catalog, table: Oid, column: u16) -> String {
    let name = catalog
        .table(table)
        .and_then(|t| t.column_of(column))
        .map(|c| c.name.as_str());
    format!("column {} of table {}", name.unwrap_or_default(), bare(catalog, table))
}

impl Change<'_> {
    /// DROP TABLE, VIEW, SEQUENCE, INDEX and SCHEMA. Gives the tables that went.
    pub(super) async fn drop_named(&mut self, kind: Kind, all: &[Name], if_exists: bool, cascade: bool) -> Result<()> {
        match kind {
            Kind::Schema => self.drop_schemas(all, if_exists, cascade).await,
            Kind::Index => {
                for name in all {
                    self.drop_index(name, if_exists, cascade).await?;
                }
                Ok(())
            }
            Kind::Table | Kind::View | Kind::Sequence => self.drop_relations(kind, all, if_exists, cascade).await,
        }
    }

    async fn drop_relations(&mut self, kind: Kind, all: &[Name], if_exists: bool, cascade: bool) -> Result<()> {
        let mut oids = Vec::new();
        for name in all {
            let found = match self.find(name)? {
                Some(found) => found.clone(),
                None if if_exists => {
                    self.missing(kind, name);
                    continue;
                }
                None => {
                    let text = format!("{} \"{name}\" does not exist", kind.word());
                    return Err(Error::new(Code::UndefinedTable, text));
                }
            };
            if kind_of(&found) != kind {
                let is = kind_of(&found);
                let article = if is == Kind::Index { "an" } else { "a" };
                return Err(wrong_kind(&name.name, kind).with_hint(format!(
                    "Use DROP {} to remove {article} {}.",
                    is.tag(),
                    is.word()
                )));
            }
            require_owner(self.world, kind, found.owner(), found.name().1)?;
            if let Relation::Sequence(sequence) = &found
                && let Some((table, column)) = sequence.owned_by
                && let Some(table) = self.catalog.table(table)
                && let Some(column) = table.column_of(column)
                && column.identity.is_some()
            {
                let owner = format!("column {} of table {}", column.name, bare(&self.catalog, table.oid));
                let text = format!("cannot drop sequence {} because {owner} requires it", sequence.name);
                return Err(
                    Error::new(Code::DependentObjects, text).with_hint(format!("You can drop {owner} instead."))
                );
            }
            oids.push(found.oid());
        }
        for oid in &oids {
            if self.catalog.table(*oid).is_some() {
                self.lock_table(*oid).await?;
            }
        }
        let what = match oids.as_slice() {
            [one] => format!("{} {}", kind.word(), bare(&self.catalog, *one)),
            _ => "desired object(s)".to_owned(),
        };
        Dropping::relations(oids).apply(self, &what, cascade)
    }

    fn missing(&self, kind: Kind, name: &Name) {
        self.notice("00000", format!("{} \"{name}\" does not exist, skipping", kind.word()));
    }

    async fn drop_index(&mut self, name: &Name, if_exists: bool, cascade: bool) -> Result<()> {
        let Some((table, index)) = self.find_index(name)? else {
            if if_exists {
                self.missing(Kind::Index, name);
                return Ok(());
            }
            if self.find(name)?.is_some() {
                return Err(wrong_kind(&name.name, Kind::Index));
            }
            let text = format!("index \"{name}\" does not exist");
            return Err(Error::new(Code::UndefinedObject, text));
        };
        require_owner(self.world, Kind::Index, &table.owner, &index.name)?;
        if index.constraint {
            let owner = format!("constraint {} on table {}", index.name, bare(&self.catalog, table.oid));
            let text = format!("cannot drop index {} because {owner} requires it", index.name);
            return Err(Error::new(Code::DependentObjects, text).with_hint(format!("You can drop {owner} instead.")));
        }
        self.lock_table(table.oid).await?;
        Dropping::index(table.oid, index.oid).apply(self, &format!("index {}", index.name), cascade)
    }

    async fn drop_schemas(&mut self, all: &[Name], if_exists: bool, cascade: bool) -> Result<()> {
        for name in all {
            let Some(schema) = self.catalog.schemas.get(&name.name).cloned() else {
                if self.check_schema(&name.name).is_ok() {
                    let text = format!("must be owner of schema {name}");
                    return Err(Error::new(Code::InsufficientPrivilege, text));
                }
                if if_exists {
                    self.missing(Kind::Schema, name);
                    continue;
                }
                let text = format!("schema \"{name}\" does not exist");
                return Err(Error::new(Code::InvalidSchemaName, text));
            };
            require_owner(self.world, Kind::Schema, &schema.owner, &schema.name)?;
            let inside: Vec<Relation> = self
                .catalog
                .relations
                .values()
                .filter(|relation| relation.name().0 == schema.name)
                .cloned()
                .collect();
            if !inside.is_empty() && !cascade {
                let lines: Vec<String> = inside
                    .iter()
                    .map(|r| {
                        let name = bare(&self.catalog, r.oid());
                        format!("{} {name} depends on schema {}", kind_of(r).word(), schema.name)
                    })
                    .collect();
                let text = format!("cannot drop schema {} because other objects depend on it", schema.name);
                return Err(Error::new(Code::DependentObjects, text)
                    .with_detail(lines.join("\n"))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            for relation in &inside {
                if let Relation::Table(table) = relation {
                    self.lock_table(table.oid).await?;
                }
            }
            let what = format!("schema {}", schema.name);
            // Sequences that tables own go with these, unsaid.
            let owned = |relation: &&Relation| matches!(relation, Relation::Sequence(s) if s.owned_by.is_some());
            let said: Vec<&Relation> = inside.iter().filter(|relation| !owned(relation)).collect();
            match said.as_slice() {
                [] => {}
                [one] => {
                    let text = format!("drop cascades to {}", name_of(&self.catalog, one.oid()));
                    self.notice("00000", text);
                }
                many => self.notice("00000", format!("drop cascades to {} other objects", many.len())),
            }
            Dropping::relations(inside.iter().map(Relation::oid)).apply(self, &what, true)?;
            self.catalog.schemas.remove(&schema.name);
        }
        Ok(())
    }
}
