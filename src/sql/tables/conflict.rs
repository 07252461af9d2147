//! ON CONFLICT, planned: which keys count, and what is done with a row that is there already.

use datafusion::{
    arrow::datatypes::DataType,
    common::DFSchemaRef,
    logical_expr::Expr,
    sql::sqlparser::ast::{ConflictTarget, Expr as SqlExpr, OnConflict, OnConflictAction},
};

use super::{
    compute::Compute,
    pieces::{self, Pieces, fold, from_named},
    rules::origin,
    write::{Set, assignments, place_of},
};
use crate::{
    error::{Code, Error, Result},
    sql::session::Session,
    table::schema::{IndexDef, KeyOf, Oid, TableDef},
};

/// See the module.
pub(super) struct Conflict {
    /// Indexes whose keys count; none means all.
    pub(super) arbiters: Vec<Oid>,
    pub(super) update: Option<ConflictUpdate>,
}

/// DO UPDATE.
pub(super) struct ConflictUpdate {
    pub(super) sets: Vec<Set>,
    /// The values to set, then WHERE where there is one, over the table's row and the one that was to be inserted.
    pub(super) compute: Compute,
    pub(super) filtered: bool,
}

/// The name of the row that was to be inserted.
const EXCLUDED: &str = "excluded";

/// The same before its parameters are all known.
pub(super) struct ConflictPieces {
    arbiters: Vec<Oid>,
    update: Option<(Vec<Set>, Vec<Expr>, DFSchemaRef, bool)>,
}

impl ConflictPieces {
    pub(super) fn plan(pieces: &mut Pieces<'_>, def: &TableDef, alias: &str, on: OnConflict) -> Result<Self> {
        let arbiters = match on.conflict_target {
            None => Vec::new(),
            Some(ConflictTarget::Columns(columns)) => {
                let places = columns.iter().map(|name| place_of(def, &fold(name)));
                let mut ids: Vec<u16> = places.map(|p| p.map(|p| def.columns[p].id)).collect::<Result<_>>()?;
                ids.sort_unstable();
                ids.dedup();
                let matching: Vec<Oid> = def
                    .indexes
                    .iter()
                    .filter(|i| i.unique && is_over(i, &ids))
                    .map(|i| i.oid)
                    .collect();
                if matching.is_empty() {
                    return Err(Error::new(
                        Code::InvalidColumnReference,
                        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                    ));
                }
                matching
            }
            Some(ConflictTarget::OnConstraint(name)) => {
                let name = name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default();
                let named = def.indexes.iter().find(|i| i.name == name && i.constraint && i.unique);
                let named = named.ok_or_else(|| {
                    let text = format!("constraint \"{name}\" for table \"{}\" does not exist", def.name);
                    Error::new(Code::UndefinedObject, text)
                })?;
                vec![named.oid]
            }
        };
        let update = match on.action {
            OnConflictAction::DoNothing => None,
            OnConflictAction::DoUpdate(_) if arbiters.is_empty() => {
                return Err(Error::new(
                    Code::Syntax,
                    "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                )
                .with_hint("For example, ON CONFLICT (column_name)."));
            }
            OnConflictAction::DoUpdate(update) => {
                Some(plan_update(pieces, def, alias, update.assignments, update.selection)?)
            }
        };
        Ok(Self { arbiters, update })
    }

    pub(super) fn finish(self, session: &Session, _def: &TableDef, parameters: &[DataType]) -> Result<Conflict> {
        let update = self.update.map(|(sets, exprs, schema, filtered)| {
            let compute = Compute::new(&session.state, exprs, &schema, parameters)?;
            Ok::<_, Error>(ConflictUpdate {
                sets,
                compute,
                filtered,
            })
        });
        Ok(Conflict {
            arbiters: self.arbiters,
            update: update.transpose()?,
        })
    }
}

/// Whether an index is over just these columns, in any order.
fn is_over(index: &IndexDef, ids: &[u16]) -> bool {
    let mut own = Vec::with_capacity(index.keys.len());
    for key in &index.keys {
        match &key.key {
            KeyOf::Column(id) => own.push(*id),
            KeyOf::Expression(_) => return false,
        }
    }
    own.sort_unstable();
    own == ids
}

fn plan_update(
    pieces: &mut Pieces<'_>,
    def: &TableDef,
    alias: &str,
    set: Vec<datafusion::sql::sqlparser::ast::Assignment>,
    selection: Option<SqlExpr>,
) -> Result<(Vec<Set>, Vec<Expr>, DFSchemaRef, bool)> {
    let assigned = assignments(def, set)?;
    let (own, excluded) = (pieces.shape(def.arrow()), pieces.shape(def.arrow()));
    let mut items = Vec::new();
    for (i, (place, value)) in assigned.iter().enumerate() {
        if let Some(value) = value {
            if let Some(number) = pieces::placeholder(value) {
                pieces.tell(number, def.columns[*place].pg_type);
            }
            items.push(pieces::item(value.clone(), "set", i));
        }
    }
    let filtered = selection.is_some();
    items.extend(selection.map(|s| pieces::item(s, "where", 0)));
    let nothing = items.is_empty();
    if nothing {
        items.push(pieces::item(pieces::parse_expression("NULL")?, "set", 0));
    }
    let from = vec![from_named(&own, alias), from_named(&excluded, EXCLUDED)];
    let (mut exprs, input) = pieces.expressions(items, from)?;
    if nothing {
        exprs.clear();
    }
    let schema = input.schema().clone();
    let mut values = exprs.iter();
    let sets = assigned.iter().map(|(place, sql)| {
        let from = match (sql, sql.as_ref().and_then(|_| values.next())) {
            (Some(sql), Some(value)) => Some(origin(sql, value, &schema)?),
            _ => None,
        };
        Ok(Set { place: *place, from })
    });
    let sets = sets.collect::<Result<_>>()?;
    Ok((sets, exprs, schema, filtered))
}
