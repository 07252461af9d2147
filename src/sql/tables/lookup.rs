//! How rows are found: by an index where the filters name its columns, else in the blocks that may hold them.
//!
//! What is chosen is a hint: every filter is applied again above.

use std::ops::Bound as Edge;

use arrow::array::ArrayRef;
use datafusion::{
    common::ScalarValue,
    logical_expr::{BinaryExpr, Expr, Operator, utils::split_conjunction},
};

use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Result,
    limits,
    table::{
        Bound, BoundOp, Key, TableData, key,
        schema::{ColumnDef, IndexDef, KeyOf, RowId, TableDef},
    },
};

/// Where the rows of a scan come from.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// All, save the blocks that cannot hold what is wanted.
    Scan(Vec<Bound>),
    /// These, found by the named index.
    Rows { index: String, rows: Vec<RowId> },
}

/// One filter that an index or a block's bounds understand: `column op value`.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    column: u16,
    op: BoundOp,
    values: Vec<ScalarValue>,
}

/// Whether a filter is understood, for the planner that asks before there are values.
pub(super) fn understands(filter: &Expr, table: &TableDef) -> bool {
    let side = |expr: &Expr| column_of(expr, table).is_some();
    let value = |expr: &Expr| matches!(expr, Expr::Literal(..) | Expr::Placeholder(_));
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            op_of(*op).is_some() && (side(left) && value(right) || side(right) && value(left))
        }
        Expr::InList(list) => !list.negated && side(&list.expr) && list.list.iter().all(value),
        Expr::Between(between) => {
            !between.negated && side(&between.expr) && value(&between.low) && value(&between.high)
        }
        Expr::Column(_) => side(filter),
        _ => false,
    }
}

/// The conditions among filters that are joined by AND. With `equal` only equalities.
pub(super) fn conditions(filters: &[Expr], table: &TableDef, equal: bool) -> Vec<Condition> {
    let mut found = Vec::new();
    for filter in filters.iter().flat_map(split_conjunction) {
        one(filter, table, &mut found);
    }
    if equal {
        found.retain(|c| matches!(c.op, BoundOp::Eq | BoundOp::In));
    }
    found
}

fn one(filter: &Expr, table: &TableDef, found: &mut Vec<Condition>) {
    let mut add = |column: &ColumnDef, op: BoundOp, values: Vec<Option<ScalarValue>>| {
        if let Some(values) = values.into_iter().collect::<Option<Vec<_>>>() {
            found.push(Condition {
                column: column.id,
                op,
                values,
            });
        }
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let Some(op) = op_of(*op) else { return };
            if let Some(column) = column_of(left, table) {
                add(column, op, vec![literal(right, column)]);
            } else if let Some(column) = column_of(right, table) {
                let turned = match op {
                    BoundOp::Lt => BoundOp::Gt,
                    BoundOp::LtEq => BoundOp::GtEq,
                    BoundOp::Gt => BoundOp::Lt,
                    BoundOp::GtEq => BoundOp::LtEq,
                    BoundOp::Eq | BoundOp::In => op,
                };
                add(column, turned, vec![literal(left, column)]);
            }
        }
        Expr::InList(list) if !list.negated => {
            if let Some(column) = column_of(&list.expr, table) {
                let values = list.list.iter().map(|value| literal(value, column)).collect();
                add(column, BoundOp::In, values);
            }
        }
        Expr::Between(between) if !between.negated => {
            if let Some(column) = column_of(&between.expr, table) {
                add(column, BoundOp::GtEq, vec![literal(&between.low, column)]);
                add(column, BoundOp::LtEq, vec![literal(&between.high, column)]);
            }
        }
        Expr::Column(_) => {
            if let Some(column) = column_of(filter, table)
                && column.pg_type == PgType::Scalar(Scalar::Bool)
            {
                add(column, BoundOp::Eq, vec![Some(ScalarValue::Boolean(Some(true)))]);
            }
        }
        _ => {}
    }
}

fn op_of(op: Operator) -> Option<BoundOp> {
    Some(match op {
        Operator::Eq => BoundOp::Eq,
        Operator::Lt => BoundOp::Lt,
        Operator::LtEq => BoundOp::LtEq,
        Operator::Gt => BoundOp::Gt,
        Operator::GtEq => BoundOp::GtEq,
        _ => return None,
    })
}

/// The column that an expression is, also under a cast that loses nothing.
fn column_of<'t>(expr: &Expr, table: &'t TableDef) -> Option<&'t ColumnDef> {
    let column = match expr {
        Expr::Column(column) => table.column(&column.name)?,
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Column(column) => {
                let column = table.column(&column.name)?;
                widens(column.pg_type, cast.field.data_type()).then_some(column)?
            }
            _ => return None,
        },
        _ => return None,
    };
    // Values of these are equal in more ways than their stored forms are.
    let plain = !matches!(
        column.pg_type,
        PgType::Array(_) | PgType::Scalar(Scalar::Bpchar | Scalar::Json | Scalar::Jsonb | Scalar::Interval)
    );
    let vector = matches!(column.pg_type, PgType::Scalar(Scalar::Vector | Scalar::Halfvec));
    (plain && !vector).then_some(column)
}

fn widens(from: PgType, to: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType;
    match from {
        PgType::Scalar(Scalar::Int2) => {
            matches!(
                to,
                DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)
            )
        }
        PgType::Scalar(Scalar::Int4) => matches!(to, DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)),
        PgType::Scalar(Scalar::Int8) => matches!(to, DataType::Decimal128(..)),
        PgType::Scalar(Scalar::Float4) => matches!(to, DataType::Float64),
        PgType::Scalar(Scalar::Text | Scalar::Varchar | Scalar::Name | Scalar::Uuid) => matches!(to, DataType::Utf8),
        _ => false,
    }
}

/// A literal in the type of the column; `None` for NULL, and for what the type does not hold exactly.
fn literal(expr: &Expr, column: &ColumnDef) -> Option<ScalarValue> {
    let Expr::Literal(value, _) = expr else { return None };
    if value.is_null() {
        return None;
    }
    let field = column.field();
    let wanted = field.data_type();
    if value.data_type() == *wanted {
        return Some(value.clone());
    }
    let cast = value.cast_to(wanted).ok().filter(|cast| !cast.is_null())?;
    let back = cast.cast_to(&value.data_type()).ok()?;
    (back == *value).then_some(cast)
}

/// Chooses how to read.
///
/// # Errors
/// Those of making keys.
pub(super) fn choose(data: &TableData, conditions: &[Condition]) -> Result<Access> {
    let def = data.def();
    let mut best: Option<(usize, bool, &IndexDef)> = None;
    for index in def
        .indexes
        .iter()
        .filter(|i| i.predicate.is_none() && data.has_index(i.oid))
    {
        let Some(columns) = index.keys.iter().map(column_key).collect::<Option<Vec<u16>>>() else {
            continue;
        };
        let equal = columns
            .iter()
            .take_while(|&&id| equal_to(conditions, id).is_some())
            .count();
        let range = columns
            .get(equal)
            .is_some_and(|&id| conditions.iter().any(|c| c.column == id));
        let better = best.is_none_or(|(most, ranged, _)| (equal, range) > (most, ranged));
        if (equal > 0 || range) && better {
            best = Some((equal, range, index));
        }
    }
    if let Some((equal, _, index)) = best
        && let Some(rows) = find(data, index, equal, conditions)?
    {
        return Ok(Access::Rows {
            index: index.name.clone(),
            rows,
        });
    }
    let mut bounds = Vec::with_capacity(conditions.len());
    for condition in conditions {
        if let Ok(value) = ScalarValue::iter_to_array(condition.values.iter().cloned()) {
            bounds.push(Bound {
                column: condition.column,
                op: condition.op,
                value,
            });
        }
    }
    Ok(Access::Scan(bounds))
}

fn column_key(key: &crate::table::schema::IndexKey) -> Option<u16> {
    match key.key {
        KeyOf::Column(id) => Some(id),
        KeyOf::Expression(_) => None,
    }
}

fn equal_to(conditions: &[Condition], column: u16) -> Option<&Condition> {
    conditions
        .iter()
        .find(|c| c.column == column && matches!(c.op, BoundOp::Eq | BoundOp::In))
}

/// The rows that an index finds; `None` where they are so many that a scan is better.
fn find(data: &TableData, index: &IndexDef, equal: usize, conditions: &[Condition]) -> Result<Option<Vec<RowId>>> {
    let columns: Vec<u16> = index.keys.iter().filter_map(column_key).collect();
    // Every combination of the values that the first columns are equal to.
    let mut prefixes: Vec<Vec<ArrayRef>> = vec![Vec::new()];
    for &id in &columns[..equal] {
        let Some(condition) = equal_to(conditions, id) else {
            break;
        };
        if prefixes.len().saturating_mul(condition.values.len()) > limits::INDEX_KEYS {
            return Ok(None);
        }
        let mut longer = Vec::with_capacity(prefixes.len() * condition.values.len());
        for prefix in &prefixes {
            for value in &condition.values {
                let Ok(array) = value.to_array() else { return Ok(None) };
                longer.push(prefix.iter().cloned().chain([array]).collect());
            }
        }
        prefixes = longer;
    }
    let most = limits::INDEX_ROWS.max(usize::try_from(data.rows() / 8).unwrap_or(usize::MAX));
    let mut rows = Vec::new();
    for prefix in prefixes {
        if equal == columns.len() {
            rows.extend(data.lookup(index.oid, &key(&prefix, 0, index)?.0));
        } else {
            let range = match columns.get(equal) {
                Some(&id) => range(index, &prefix, equal, id, conditions)?,
                None => return Ok(None),
            };
            rows.extend(data.range(index.oid, range, false).take(most + 1));
        }
        if rows.len() > most {
            return Ok(None);
        }
    }
    // In the order of the blocks that hold them, and none twice: a list may name a value twice.
    rows.sort_unstable();
    rows.dedup();
    Ok(Some(rows))
}

/// The range of keys that begin with `prefix` and whose next column, `column`, is within its conditions.
fn range(
    index: &IndexDef,
    prefix: &[ArrayRef],
    equal: usize,
    column: u16,
    conditions: &[Condition],
) -> Result<(Edge<Key>, Edge<Key>)> {
    let all = match prefix.is_empty() {
        true => Edge::Unbounded,
        false => Edge::Included(key(prefix, 0, index)?.0),
    };
    let (mut from, mut to) = (all.clone(), all);
    for condition in conditions.iter().filter(|c| c.column == column) {
        let Some(array) = condition.values.first().and_then(|value| value.to_array().ok()) else {
            continue;
        };
        let columns: Vec<ArrayRef> = prefix.iter().cloned().chain([array]).collect();
        let at = key(&columns, 0, index)?.0;
        let (lower, edge) = match condition.op {
            BoundOp::Gt => (true, Edge::Excluded(at)),
            BoundOp::GtEq => (true, Edge::Included(at)),
            BoundOp::Lt => (false, Edge::Excluded(at)),
            BoundOp::LtEq => (false, Edge::Included(at)),
            BoundOp::Eq | BoundOp::In => continue,
        };
        // Keys of a descending column run the other way.
        match lower != index.keys[equal].descending {
            true => from = edge,
            false => to = edge,
        }
    }
    Ok((from, to))
}
