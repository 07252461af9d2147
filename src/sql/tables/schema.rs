//! Schemas, comments and grants.

use std::sync::Arc;

use super::{
    ddl::{CommentOn, Grant, GrantOn, Kind, Name, Who},
    definitions::{Change, undefined, wrong_kind},
    rights::{self, kind_of, require_creator, require_owner},
};
use crate::{
    error::{Code, Error, Result},
    table::schema::{Grant as Granted, Relation, SchemaDef},
};

/// # Errors
/// 42939 for a name that PostgreSQL keeps, 42P06 for one that is taken.
pub(super) fn check_new(change: &Change<'_>, name: &str) -> Result<()> {
    if name.starts_with("pg_") {
        return Err(
            Error::new(Code::ReservedName, format!("unacceptable schema name \"{name}\""))
                .with_detail("The prefix \"pg_\" is reserved for system schemas."),
        );
    }
    match change.check_schema(name) {
        Ok(()) => Err(Error::new(
            Code::DuplicateSchema,
            format!("schema \"{name}\" already exists"),
        )),
        Err(_) => Ok(()),
    }
}

impl Change<'_> {
    /// CREATE SCHEMA.
    pub(super) fn create_schema(&mut self, name: Option<&str>, owner: Option<&Who>, if_not_exists: bool) -> Result<()> {
        require_creator(self.world, "database")?;
        let owner = match owner {
            Some(who) => self.new_owner(who)?,
            None => self.world.user.name.clone(),
        };
        let name = name.map_or_else(|| owner.clone(), str::to_owned);
        if let Err(error) = check_new(self, &name) {
            if if_not_exists && error.code() == Code::DuplicateSchema {
                self.notice("42P06", format!("schema \"{name}\" already exists, skipping"));
                return Ok(());
            }
            return Err(error);
        }
        let schema = SchemaDef {
            oid: self.oid(),
            name: name.clone(),
            owner,
            comment: None,
        };
        self.catalog.schemas.insert(name, Arc::new(schema));
        Ok(())
    }

    /// COMMENT ON. An empty text takes it away.
    pub(super) fn comment(&mut self, on: &CommentOn, text: Option<&str>) -> Result<()> {
        let text = text.filter(|text| !text.is_empty()).map(str::to_owned);
        match on {
            CommentOn::Relation(Kind::Schema, name) => {
                let Some(schema) = self.catalog.schemas.get(&name.name).cloned() else {
                    self.check_schema(&name.name)?;
                    let text = format!("must be owner of schema {name}");
                    return Err(Error::new(Code::InsufficientPrivilege, text));
                };
                require_owner(self.world, Kind::Schema, &schema.owner, &schema.name)?;
                let changed = SchemaDef {
                    comment: text,
                    ..SchemaDef::clone(&schema)
                };
                self.catalog.schemas.insert(name.name.clone(), Arc::new(changed));
            }
            CommentOn::Relation(Kind::Index, name) => {
                let Some((table, index)) = self.find_index(name)? else {
                    return Err(undefined(Kind::Table, name));
                };
                require_owner(self.world, Kind::Index, &table.owner, &index.name)?;
                let mut table = crate::table::schema::TableDef::clone(&table);
                for other in table.indexes.iter_mut().filter(|other| other.oid == index.oid) {
                    other.comment.clone_from(&text);
                }
                self.put_table(table);
            }
            CommentOn::Relation(kind, name) => {
                let found = self.relation(name)?.clone();
                if kind_of(&found) != *kind {
                    return Err(wrong_kind(&name.name, *kind));
                }
                require_owner(self.world, *kind, found.owner(), &name.name)?;
                let changed = match found {
                    Relation::Table(mut table) => {
                        Arc::make_mut(&mut table).comment = text;
                        Relation::Table(table)
                    }
                    Relation::View(mut view) => {
                        Arc::make_mut(&mut view).comment = text;
                        Relation::View(view)
                    }
                    Relation::Sequence(mut sequence) => {
                        Arc::make_mut(&mut sequence).comment = text;
                        Relation::Sequence(sequence)
                    }
                };
                self.catalog.relations.insert(changed.oid(), changed);
            }
            CommentOn::Column(table, column) => {
                let mut table = crate::table::schema::TableDef::clone(&*self.owned_table(table)?);
                super::alter::existing_mut(&mut table, column)?.comment = text;
                self.put_table(table);
            }
            CommentOn::Part(what, name, table) => {
                let table = self.owned_table(table)?;
                let found = match *what {
                    "policy" => table.policies.iter().any(|policy| policy.name == *name),
                    _ => super::names::constraint_exists(&table, name),
                };
                if !found {
                    let text = format!("{what} \"{name}\" for table \"{}\" does not exist", table.name);
                    return Err(Error::new(Code::UndefinedObject, text));
                }
            }
            CommentOn::Nothing => {}
        }
        Ok(())
    }

    /// GRANT and REVOKE.
    pub(super) fn grant(&mut self, grant: &Grant) -> Result<()> {
        let to: Vec<String> = grant
            .to
            .iter()
            .map(|who| rights::kept(self.world, who))
            .collect::<Result<_>>()?;
        let names: Vec<Name> = match &grant.on {
            GrantOn::Tables(names) => names.clone(),
            GrantOn::Sequences(names) => {
                for name in names {
                    let found = self.relation(name)?;
                    if kind_of(found) != Kind::Sequence {
                        return Err(wrong_kind(&name.name, Kind::Sequence));
                    }
                    require_owner(self.world, Kind::Sequence, found.owner(), found.name().1)?;
                }
                // Who may write a table may take numbers of its sequences.
                return Ok(());
            }
            GrantOn::AllTables(schemas) => {
                let mut names = Vec::new();
                for schema in schemas {
                    self.check_schema(schema)?;
                    let inside = self.catalog.relations.values().filter(|r| r.name().0 == schema);
                    names.extend(inside.filter(|r| kind_of(r) != Kind::Sequence).map(|r| Name {
                        database: None,
                        schema: Some(schema.clone()),
                        name: r.name().1.to_owned(),
                    }));
                }
                names
            }
            GrantOn::Schemas(schemas) | GrantOn::AllSequences(schemas) => {
                // Every user of the tenant may use every schema; what is in it has rights of its own.
                return schemas.iter().try_for_each(|schema| self.check_schema(schema));
            }
            GrantOn::Database(databases) => {
                let own = self.session.world.database();
                return match databases.iter().find(|name| *name != own) {
                    Some(other) => Err(Error::new(
                        Code::UndefinedDatabase,
                        format!("database \"{other}\" does not exist"),
                    )),
                    None => Ok(()),
                };
            }
        };
        for name in names {
            let mut found = self.relation(&name)?.clone();
            require_owner(self.world, kind_of(&found), found.owner(), found.name().1)?;
            let grants = match &mut found {
                Relation::Table(table) => &mut Arc::make_mut(table).grants,
                Relation::View(view) => &mut Arc::make_mut(view).grants,
                Relation::Sequence(_) => continue,
            };
            for to in &to {
                let held = grants.iter_mut().find(|held| held.to == *to);
                match (grant.revoke, held) {
                    (false, Some(held)) => held.privileges |= grant.privileges,
                    (true, Some(held)) => held.privileges &= !grant.privileges,
                    (false, None) => grants.push(Granted {
                        to: to.clone(),
                        privileges: grant.privileges,
                    }),
                    (true, None) => {}
                }
            }
            grants.retain(|held| held.privileges != 0);
            self.catalog.relations.insert(found.oid(), found);
        }
        Ok(())
    }
}
