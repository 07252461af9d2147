//! `SELECT ... FROM t ORDER BY embedding <=> $1 LIMIT k`: the rows are found in memory, fetched by their numbers and
//! computed directly, without a plan for each run.
//!
//! What is taken is a chain of projections, filters, one sort and limits over one scan that a request was pushed into
//! ([`crate::sql::nearest`]). Each expression is told in the columns of the table; the distance by which rows are
//! sorted is known from the search, so that vectors are not read for it.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, Float64Array, RecordBatch},
        datatypes::{DataType, Field, Fields, Schema, SchemaRef},
    },
    common::{
        Column, DFSchema, DFSchemaRef, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::{TableProvider, source_as_provider},
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, TableScan, expr_rewriter::unnormalize_col, utils::split_conjunction,
    },
};

use super::{
    compute::{Compute, one_row},
    direct::cast,
    provider::UserTable,
    ranked::{Outcome, Predicate, count},
};
use crate::{
    error::{Error, Result},
    limits,
    sql::{
        complaints::from_datafusion,
        functions::vector::Vectors,
        nearest::{Nearest, Request},
        session::Session,
    },
    vector::Metric,
};

/// The column of distances: a name that no text can spell.
const DISTANCE: &str = "\u{1}distance";

/// See the module.
pub(in crate::sql) struct Search {
    provider: Arc<dyn TableProvider>,
    request: Request,
    query: Compute,
    /// How many rows are left out and how many are given, innermost first.
    limits: Vec<(Count, Option<Count>)>,
    /// Columns that are read. What is computed is computed of these, and of the distance after them.
    columns: Vec<u16>,
    read: SchemaRef,
    values: Compute,
    schema: SchemaRef,
    parameters: Vec<DataType>,
}

/// How many rows.
enum Count {
    Known(usize),
    /// Known once parameters are.
    Asked(Expr),
}

/// A plan told in the columns of the one table that it reads.
struct Shape<'p> {
    scan: &'p TableScan,
    request: Request,
    /// What each column of the plan is.
    columns: Vec<Expr>,
    limits: Vec<(Count, Option<Count>)>,
    sorted: bool,
}

impl<'p> Shape<'p> {
    /// `None` where something else is in the plan.
    fn of(plan: &'p LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let request = Request::among(&scan.filters).filter(|_| scan.fetch.is_none())?;
                let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
                Some(Self {
                    scan,
                    request,
                    columns,
                    limits: Vec::new(),
                    sorted: false,
                })
            }
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Projection(projection) => {
                let mut shape = Self::of(&projection.input)?;
                let schema = projection.input.schema();
                let columns = projection.expr.iter().map(|expr| shape.told(expr, schema));
                shape.columns = columns.collect::<Option<_>>()?;
                Some(shape)
            }
            LogicalPlan::Filter(filter) => {
                let shape = Self::of(&filter.input)?;
                let predicate = shape.told(&filter.predicate, filter.input.schema())?;
                // What rows must fulfil is part of the request, unless rows are left out of those that were found.
                let asked = shape.request.predicate.iter().flat_map(split_conjunction);
                let asked: Vec<&Expr> = asked.collect();
                let known = split_conjunction(&predicate).iter().all(|part| asked.contains(part));
                (known && !shape.sorted).then_some(shape)
            }
            LogicalPlan::Sort(sort) => {
                let mut shape = Self::of(&sort.input)?;
                let [by] = sort.expr.as_slice() else { return None };
                let distance = shape.told(&by.expr, sort.input.schema())?;
                let fits = by.asc && !by.nulls_first && !shape.sorted && shape.is_distance(&distance);
                shape.sorted = true;
                if let Some(fetch) = sort.fetch {
                    shape.limits.push((Count::Known(0), Some(Count::Known(fetch))));
                }
                fits.then_some(shape)
            }
            LogicalPlan::Limit(limit) => {
                let mut shape = Self::of(&limit.input)?;
                let skip = limit.skip.as_deref().map_or(Some(Count::Known(0)), Count::of)?;
                let fetch = limit.fetch.as_deref().map(|fetch| Count::of(fetch).ok_or(()));
                shape.limits.push((skip, fetch.transpose().ok()?));
                shape.sorted.then_some(shape)
            }
            _ => None,
        }
    }

    /// An expression over columns of a part of the plan.
    fn told(&self, expr: &Expr, schema: &DFSchema) -> Option<Expr> {
        let mut known = true;
        let told = expr.clone().transform(|expr| {
            let Expr::Column(column) = &expr else {
                return Ok(Transformed::no(expr));
            };
            let place = schema.maybe_index_of_column(column);
            Ok(match place.and_then(|place| self.columns.get(place)) {
                Some(told) => Transformed::new(told.clone(), true, TreeNodeRecursion::Jump),
                None => {
                    known = false;
                    Transformed::no(expr)
                }
            })
        });
        let told = told.ok()?.data.unalias_nested().data;
        known.then_some(told)
    }

    /// Whether an expression is the distance that is asked for.
    fn is_distance(&self, expr: &Expr) -> bool {
        let Expr::ScalarFunction(call) = expr else {
            return false;
        };
        let is_column = |e: &Expr| matches!(e, Expr::Column(column) if column.name == self.request.column);
        let is_query = |e: &Expr| *e == self.request.query;
        Request::metric_of(call.func.name()) == Some(self.request.metric)
            && match call.args.as_slice() {
                [a, b] => is_column(a) && is_query(b) || is_query(a) && is_column(b),
                _ => false,
            }
    }

    /// The values of the plan's columns, of the table's columns and the distance.
    fn values(&self) -> Result<Vec<Expr>> {
        let one = |expr: &Expr| {
            let replaced = expr.clone().transform_down(|expr| {
                Ok(match self.is_distance(&expr) {
                    true => Transformed::new(
                        Expr::Column(Column::new_unqualified(DISTANCE)),
                        true,
                        TreeNodeRecursion::Jump,
                    ),
                    false => Transformed::no(expr),
                })
            });
            Ok(replaced.map_err(from_datafusion)?.data)
        };
        self.columns.iter().map(one).collect()
    }
}

impl Count {
    /// `None` for NULL, and for less than none.
    fn of(expr: &Expr) -> Option<Self> {
        match expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))) {
            Ok(true) => Some(Self::Asked(expr.clone())),
            _ => count(expr).ok().flatten().map(Self::Known),
        }
    }

    fn get(&self, params: &[ArrayRef]) -> Result<Option<usize>> {
        match self {
            Self::Known(count) => Ok(Some(*count)),
            Self::Asked(expr) => count(&filled(expr, params)?),
        }
    }
}

/// An expression with its parameters.
fn filled(expr: &Expr, params: &[ArrayRef]) -> Result<Expr> {
    let filled = expr.clone().transform(|expr| {
        let Expr::Placeholder(placeholder) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let number = placeholder.id.strip_prefix('$').and_then(|id| id.parse::<usize>().ok());
        let Some(param) = number.and_then(|number| params.get(number.checked_sub(1)?)) else {
            return Ok(Transformed::no(expr));
        };
        Ok(Transformed::yes(Expr::Literal(
            ScalarValue::try_from_array(param, 0)?,
            None,
        )))
    });
    Ok(filled.map_err(from_datafusion)?.data)
}

impl Search {
    /// `None` where a plan does more than to find the rows of one table that are nearest to a vector. `parameters` are
    /// the types of its placeholders.
    ///
    /// # Errors
    /// Those of the expressions.
    pub(super) fn find(session: &Session, plan: &LogicalPlan, parameters: &[DataType]) -> Result<Option<Self>> {
        let Some(shape) = Shape::of(plan).filter(|shape| shape.sorted) else {
            return Ok(None);
        };
        let provider = source_as_provider(&shape.scan.source).map_err(from_datafusion)?;
        let any: &dyn std::any::Any = provider.as_ref();
        let Some(def) = any.downcast_ref::<UserTable>().and_then(UserTable::plain) else {
            return Ok(None);
        };
        let beside = |filter: &&Expr| !Nearest::is(filter);
        let asked: Vec<&Expr> = shape.request.predicate.iter().flat_map(split_conjunction).collect();
        if !shape
            .scan
            .filters
            .iter()
            .filter(beside)
            .flat_map(split_conjunction)
            .all(|f| asked.contains(&f))
        {
            return Ok(None);
        }
        let values = shape.values()?;
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        let (scanned, used): (&DFSchemaRef, Vec<&Column>) = (
            &shape.scan.projected_schema,
            values.iter().flat_map(Expr::column_refs).collect(),
        );
        for (qualifier, field) in scanned.iter() {
            let name = Column::from((qualifier, field));
            if let Some(column) = def.column(field.name()).filter(|_| used.contains(&&name)) {
                columns.push(column.id);
                fields.push((qualifier.cloned(), field.clone()));
            }
        }
        fields.push((None, Arc::new(Field::new(DISTANCE, DataType::Float64, true))));
        let read = Arc::new(Schema::new(fields.iter().map(|(_, f)| f.clone()).collect::<Fields>()));
        let over = DFSchema::new_with_metadata(fields, std::collections::HashMap::new()).map_err(from_datafusion)?;
        let values = Compute::new(&session.state, values, &Arc::new(over), parameters)?;
        let empty = Arc::new(DFSchema::empty());
        let query = Compute::new(&session.state, vec![shape.request.query.clone()], &empty, parameters)?;
        // None are known where a plan is needed.
        if values.columns().is_none() || query.columns().is_none() {
            return Ok(None);
        }
        // Rows are read of one table: a scan names columns alone.
        let request = Request {
            predicate: shape.request.predicate.map(unnormalize_col),
            ..shape.request
        };
        Ok(Some(Self {
            provider,
            request,
            query,
            limits: shape.limits,
            columns,
            read,
            values,
            schema: plan.schema().inner().clone(),
            parameters: parameters.to_vec(),
        }))
    }

    /// The answer; `None` where it takes a plan now.
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
        let (Some(fetch), Some(skip)) = (
            count(&filled(&self.request.fetch, &params)?)?,
            count(&filled(&self.request.skip, &params)?)?,
        ) else {
            return Ok(None);
        };
        let k = fetch.saturating_add(skip);
        // So many rows are given in batches.
        if k > limits::INLINE_ROWS {
            return Ok(None);
        }
        // What fails here fails with a plan too, or is not computed there.
        let Ok(query) = self.query.run(session, &one_row(), &params).await else {
            return Ok(None);
        };
        let Some(Ok(query)) = query.into_iter().next().map(|q| Vectors::new(&ColumnarValue::Array(q))) else {
            return Ok(None);
        };
        let Some(query) = query.row(0).map(<[f32]>::to_vec) else {
            return Ok(None);
        };
        let Some(wanted) = table.wanted(data.def(), &self.request, query, k)? else {
            return Ok(None);
        };
        let predicate = match &self.request.predicate {
            Some(predicate) => Some(Predicate::new(&session.state, &table.def, filled(predicate, &params)?)?),
            None => None,
        };
        let sought = table.sought(&data, wanted, None, predicate)?;
        let Outcome { found: Some(found), .. } = sought.find(&session.task).await? else {
            return Ok(None);
        };
        let mut range = 0..found.rows.len();
        for (skip, fetch) in &self.limits {
            let fetch = fetch.as_ref().map(|fetch| fetch.get(&params)).transpose()?;
            let (Some(skip), Some(fetch)) = (skip.get(&params)?, fetch.unwrap_or(Some(usize::MAX))) else {
                return Ok(None);
            };
            range.start = range.start.saturating_add(skip).min(range.end);
            range.end = range.end.min(range.start.saturating_add(fetch));
        }
        let (rows, distances) = (&found.rows[range.clone()], &found.distances[range]);
        let mut columns = match self.columns.is_empty() {
            true => Vec::new(),
            false => data.get(rows, &self.columns, false)?.columns().to_vec(),
        };
        let distances = distances.iter().map(|distance| self.shown(*distance));
        columns.push(Arc::new(Float64Array::from_iter_values(distances)));
        if columns.iter().any(|column| column.len() != rows.len()) {
            return Err(Error::internal("a row that was found is not there"));
        }
        let rows = RecordBatch::try_new(self.read.clone(), columns).map_err(Error::internal)?;
        let values = self.values.run(session, &rows, &params).await?;
        // Of another type than was promised: the plan knows better.
        Ok(RecordBatch::try_new(self.schema.clone(), values).ok())
    }

    /// A distance as the operator gives it: the inner product of zero is negated.
    fn shown(&self, distance: f64) -> f64 {
        match self.request.metric {
            Metric::InnerProduct if distance == 0.0 => -0.0,
            _ => distance,
        }
    }
}
