//! `SELECT ... FROM t WHERE key = $1`: found in an index and computed directly, without a plan for each run.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch},
        datatypes::{DataType, SchemaRef},
    },
    common::DFSchemaRef,
    datasource::{TableProvider, source_as_provider},
    logical_expr::{Expr, FetchType, LogicalPlan, SkipType, TableScan},
};

use super::{by_key::KeyLookup, compute::Compute, direct::cast, provider::UserTable};
use crate::{
    error::{Error, Result},
    sql::{complaints::from_datafusion, session::Session},
};

/// See the module.
pub(in crate::sql) struct Point {
    provider: Arc<dyn TableProvider>,
    lookup: KeyLookup,
    /// Columns that are read.
    columns: Vec<u16>,
    condition: Compute,
    values: Compute,
    schema: SchemaRef,
    parameters: Vec<DataType>,
}

/// The parts of a plan that reads one table and computes.
struct Shape<'p> {
    /// `None` for the columns as they are read.
    values: Option<&'p [Expr]>,
    /// Of what the values are computed: the columns read, under the names that the values know.
    named: &'p DFSchemaRef,
    filter: &'p Expr,
    /// Of what the filter is computed.
    read: &'p DFSchemaRef,
    scan: &'p TableScan,
}

impl<'p> Shape<'p> {
    /// What stands around one row and changes nothing about it is left out.
    fn of(mut plan: &'p LogicalPlan) -> Option<Self> {
        let (mut values, mut named) = (None, None);
        loop {
            plan = match plan {
                LogicalPlan::Limit(limit) if named.is_none() => {
                    let all = matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)))
                        && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(1..))));
                    all.then_some(limit.input.as_ref())?
                }
                LogicalPlan::Sort(sort) if named.is_none() => {
                    let plain = sort.expr.iter().all(|by| matches!(by.expr, Expr::Column(_)));
                    plain.then_some(sort.input.as_ref())?
                }
                LogicalPlan::Projection(projection) if named.is_none() => {
                    values = Some(projection.expr.as_slice());
                    named = Some(projection.input.schema());
                    &projection.input
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    named = named.or(Some(&alias.schema));
                    &alias.input
                }
                LogicalPlan::Filter(filter) => {
                    let LogicalPlan::TableScan(scan) = filter.input.as_ref() else {
                        return None;
                    };
                    let read = filter.input.schema();
                    return Some(Self {
                        values,
                        named: named.unwrap_or(read),
                        filter: &filter.predicate,
                        read,
                        scan,
                    });
                }
                _ => return None,
            };
        }
    }
}

impl Point {
    /// `None` where a plan does more than to look at one whole key of one table. `parameters` are the types of its
    /// placeholders.
    ///
    /// # Errors
    /// Those of the expressions.
    pub(super) fn find(session: &Session, plan: &LogicalPlan, parameters: &[DataType]) -> Result<Option<Self>> {
        let Some(shape) = Shape::of(plan) else { return Ok(None) };
        let provider = source_as_provider(&shape.scan.source).map_err(from_datafusion)?;
        let any: &dyn std::any::Any = provider.as_ref();
        let Some(def) = any.downcast_ref::<UserTable>().and_then(UserTable::plain) else {
            return Ok(None);
        };
        let Some(lookup) = KeyLookup::find(session, def, &shape.scan.table_name, shape.filter, parameters)? else {
            return Ok(None);
        };
        let all = (0..def.columns.len()).collect();
        let wanted = shape.scan.projection.as_ref().unwrap_or(&all);
        let columns = wanted
            .iter()
            .filter_map(|at| def.columns.get(*at))
            .map(|c| c.id)
            .collect();
        let condition = Compute::new(&session.state, vec![shape.filter.clone()], shape.read, parameters)?;
        let values = match shape.values {
            Some(values) => values.to_vec(),
            None => shape.named.columns().into_iter().map(Expr::Column).collect(),
        };
        let values = Compute::new(&session.state, values, shape.named, parameters)?;
        // None are known where a plan is needed.
        if condition.columns().is_none() || values.columns().is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            lookup,
            columns,
            condition,
            values,
            schema: plan.schema().inner().clone(),
            parameters: parameters.to_vec(),
            provider,
        }))
    }

    /// The answer; `None` where it takes a plan now, whatever was so when this was made.
    ///
    /// # Errors
    /// Those of a scan of the table, and of the expressions.
    pub(super) async fn read(&self, session: &Session, params: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        let any: &dyn std::any::Any = self.provider.as_ref();
        let Some(table) = any.downcast_ref::<UserTable>() else {
            return Ok(None);
        };
        let Some(data) = table.unpoliced().await? else {
            return Ok(None);
        };
        let params = cast(params, &self.parameters)?;
        let Some(found) = self.lookup.rows(session, &data, &params).await? else {
            return Ok(None);
        };
        let rows = data.get(&found, &self.columns, false)?;
        let rows = match self
            .condition
            .run(session, &rows, &params)
            .await?
            .first()
            .map(|v| v.as_boolean_opt().cloned())
        {
            Some(Some(verdict)) if verdict.true_count() == rows.num_rows() => rows,
            Some(Some(verdict)) => {
                datafusion::arrow::compute::filter_record_batch(&rows, &verdict).map_err(Error::internal)?
            }
            _ => return Ok(None),
        };
        let values = self.values.run(session, &rows, &params).await?;
        // Of another type than was promised: the plan knows better.
        Ok(RecordBatch::try_new(self.schema.clone(), values).ok())
    }
}
