//! TRUNCATE.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::sql::sqlparser::ast::{CascadeOption, Truncate, TruncateIdentityOption};

use super::rights::{self, Privilege};
use crate::{
    error::{Code, Error, Result},
    sql::{session::Session, transaction::Isolation},
    table::{
        Mode, Resource,
        schema::{Oid, Relation, TableDef},
    },
};

impl Session {
    /// Empties tables.
    ///
    /// # Errors
    /// 0A000 where another table refers to one of them and is not emptied too; 42P01, 42501, 25006.
    pub(in crate::sql) async fn truncate(&mut self, truncate: &Truncate) -> Result<()> {
        self.check_writable("TRUNCATE TABLE")?;
        let cascade = truncate.cascade == Some(CascadeOption::Cascade);
        let mut wanted: Vec<Arc<TableDef>> = Vec::new();
        for target in &truncate.table_names {
            let Some(def) = self.own_table(&target.name)? else {
                return Err(match self.target(&target.name) {
                    Err(error) => error,
                    Ok(relation) => Error::new(
                        Code::InsufficientPrivilege,
                        format!("permission denied for table {}", relation.name),
                    ),
                });
            };
            wanted.push(def);
        }
        let world = self.world.tenant()?;
        for def in &wanted {
            world.lock(Resource::Table(def.oid), Mode::Exclusive).await?;
        }
        if world.isolation() == Isolation::ReadCommitted {
            world.look_again()?;
        }
        let catalog = world.view()?.catalog().clone();
        let mut emptied: BTreeMap<Oid, Arc<TableDef>> = BTreeMap::new();
        let mut notices = Vec::new();
        while let Some(def) = wanted.pop() {
            let Some(def) = catalog.table(def.oid).cloned() else {
                let text = format!("relation \"{}\" does not exist", def.name);
                return Err(Error::new(Code::UndefinedTable, text));
            };
            rights::require(world, &Relation::Table(def.clone()), Privilege::Truncate)?;
            emptied.insert(def.oid, def.clone());
            let refers = |t: &&Arc<TableDef>| t.foreign_keys.iter().any(|fk| fk.references == def.oid);
            for child in catalog.tables().filter(refers) {
                if emptied.contains_key(&child.oid) || wanted.iter().any(|w| w.oid == child.oid) {
                    continue;
                }
                if !cascade {
                    let text = "cannot truncate a table referenced in a foreign key constraint";
                    return Err(Error::new(Code::Unsupported, text)
                        .with_detail(format!("Table \"{}\" references \"{}\".", child.name, def.name))
                        .with_hint(format!(
                            "Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.",
                            child.name
                        )));
                }
                world.lock(Resource::Table(child.oid), Mode::Exclusive).await?;
                notices.push(format!("truncate cascades to table \"{}\"", child.name));
                wanted.push(child.clone());
            }
        }
        let tables = world.tables().await?.clone();
        for def in emptied.values() {
            world.view()?.table(def.oid).await?;
            let storage = tables.allocate_oids(1);
            world.write_tables(|writes| writes.truncate(def.oid, storage));
            if truncate.identity == Some(TruncateIdentityOption::Restart) {
                for sequence in def.columns.iter().filter_map(|c| c.sequence) {
                    if let Some(Relation::Sequence(sequence)) = catalog.relations.get(&sequence) {
                        world.write_tables(|writes| writes.restart_sequence(sequence.oid, sequence.start));
                    }
                }
            }
        }
        for notice in notices {
            self.notice("NOTICE", "00000", notice);
        }
        Ok(())
    }
}
