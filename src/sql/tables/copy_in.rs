//! COPY FROM STDIN into a tenant's own table.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use futures::{Stream, StreamExt};

use super::{
    apply::Effects,
    assign::From,
    change::{ahead, still_current},
    insert::{InsertPlan, Source, assigned_columns},
    rights::{self, Privilege},
    security::Judge,
    write::place_of,
};
use crate::{
    error::{Code, Error, Result},
    sql::session::{Column, Session},
    table::schema::{PolicyCommand, Relation, TableDef},
};

/// Where the rows of a COPY go.
pub(in crate::sql) struct CopyTable {
    def: Arc<TableDef>,
    plan: InsertPlan,
    from: Vec<From>,
}

impl Session {
    /// A COPY into a table, of these columns or of all that are not generated; and the columns as it wants them.
    ///
    /// # Errors
    /// 42501, 25006, 42703, 42701, and 42P10 for a generated column.
    pub(in crate::sql) fn copy_table(
        &self,
        def: &Arc<TableDef>,
        columns: &[String],
    ) -> Result<(CopyTable, Vec<Column>)> {
        self.check_writable("COPY FROM")?;
        rights::require(self.world.tenant()?, &Relation::Table(def.clone()), Privilege::Insert)?;
        let places: Vec<usize> = match columns.is_empty() {
            true => (0..def.columns.len())
                .filter(|&p| def.columns[p].generated.is_none())
                .collect(),
            false => columns.iter().map(|name| place_of(def, name)).collect::<Result<_>>()?,
        };
        for (at, &place) in places.iter().enumerate() {
            let column = &def.columns[place];
            if places[..at].contains(&place) {
                let text = format!("column \"{}\" specified more than once", column.name);
                return Err(Error::new(Code::DuplicateColumn, text));
            }
            if column.generated.is_some() {
                let text = format!("column \"{}\" is a generated column", column.name);
                return Err(Error::new(Code::InvalidColumnReference, text)
                    .with_detail("Generated columns cannot be used in COPY."));
            }
        }
        let column = |&place: &usize| {
            let column = &def.columns[place];
            Column {
                name: column.name.clone(),
                pg_type: column.pg_type,
                type_modifier: column.type_modifier,
                origin: None,
            }
        };
        let told = places.iter().map(column).collect();
        let from = places
            .iter()
            .map(|&place| From::Typed(def.columns[place].pg_type))
            .collect();
        let table = CopyTable {
            def: def.clone(),
            plan: InsertPlan {
                places,
                source: Source::Given,
                conflict: None,
                ignored: Vec::new(),
            },
            from,
        };
        Ok((table, told))
    }

    /// Writes the rows of a COPY. Gives their number.
    ///
    /// # Errors
    /// That of `rows`, and whatever is wrong with them.
    pub(in crate::sql) async fn copy_into_table(
        &self,
        target: &CopyTable,
        mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    ) -> Result<u64> {
        let CopyTable { def, plan, from } = target;
        let rules = self.rules(def)?;
        let (first, more) = ahead(&mut rows).await?;
        if more {
            let rows = futures::stream::iter(first.into_iter().map(Ok)).chain(rows);
            return self.insert_many(&rules, plan, from, rows).await;
        }
        let world = self.world.tenant()?;
        world.lock_for_writing(def.oid).await?;
        still_current(world, def)?;
        let mut effects = Effects::default();
        let mut count = 0;
        for part in &first {
            let given = assigned_columns(def, &plan.places, from, part)?;
            let given = given.into_iter().map(|c| vec![Some(c)]).collect();
            let part = self.completed(&rules, plan, given, part.num_rows()).await?;
            let part = self
                .judged(&rules, part, &[Judge::new_rows(PolicyCommand::Insert, false)])
                .await?;
            self.insert_rows(&rules, &part, &mut effects).await?;
            count += part.num_rows() as u64;
        }
        self.settle(effects).await?;
        Ok(count)
    }
}
