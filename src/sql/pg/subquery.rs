//! Sub-queries that stand for one value: `(SELECT ...)` and `ARRAY(SELECT ...)`.
//!
//! DataFusion takes a correlated one only where it is an aggregate. A plain `(SELECT x ...)` becomes
//! `(SELECT bulkhead_single(x) ...)`, an aggregate that, as PostgreSQL does, refuses a second row.

use std::{collections::HashSet, ops::ControlFlow, sync::LazyLock};

use arrow::{
    array::{ArrayRef, AsArray},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue},
    functions_aggregate::all_default_aggregate_functions,
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
    sql::sqlparser::ast::{
        Expr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectNamePart,
        OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef,
        TableFactor, TableWithJoins, Value, Values, Visit, Visitor,
    },
};

use super::{
    dialect::{call, take},
    function::fail,
};
use crate::error::Code;

static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let all = all_default_aggregate_functions();
    all.iter()
        .flat_map(|f| std::iter::once(f.name().to_owned()).chain(f.aliases().iter().cloned()))
        .collect()
});

/// Makes `ARRAY(query)`'s query one that gives its rows as an array.
pub fn array(query: &mut Query) {
    let order = ordering(query);
    if let Some(item) = plain(query, order.as_deref())
        && query.limit_clause.is_none()
    {
        let order = order.unwrap_or_default();
        query.order_by = None;
        set(item(query), "array_agg", order);
        return;
    }
    // Anything else is aggregated from outside, in the order it comes.
    let inner = std::mem::replace(query, query_of(Vec::new()));
    let column = TableAliasColumnDef {
        name: Ident::new("c"),
        data_type: None,
    };
    let alias = TableAlias {
        explicit: true,
        name: Ident::new("bulkhead_rows"),
        columns: vec![column],
        at: None,
    };
    let derived = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(inner),
        alias: Some(alias),
        sample: None,
    };
    *query = query_of(vec![Expr::Identifier(Ident::new("c"))]);
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.from.push(TableWithJoins {
            relation: derived,
            joins: Vec::new(),
        });
        set(select.projection.first_mut(), "array_agg", Vec::new());
    }
}

/// Makes a scalar sub-query an aggregate, where it is not one.
pub fn single(query: &mut Query) {
    let order = ordering(query);
    let Some(item) = plain(query, order.as_deref()) else {
        return;
    };
    if let SetExpr::Select(select) = query.body.as_ref()
        && select.from.is_empty()
    {
        return;
    }
    match &query.limit_clause {
        None => {
            query.order_by = None;
            set(item(query), "bulkhead_single", Vec::new());
        }
        Some(LimitClause::LimitOffset {
            limit: Some(Expr::Value(n)),
            offset: None,
            limit_by,
        }) if limit_by.is_empty() && matches!(&n.value, Value::Number(n, _) if n == "1") => {
            query.order_by = None;
            query.limit_clause = None;
            set(item(query), "first_value", order.unwrap_or_default());
        }
        Some(_) => {}
    }
}

/// The ORDER BY expressions, numbers replaced by what they stand for; `None` where there are none.
fn ordering(query: &Query) -> Option<Vec<OrderByExpr>> {
    let OrderBy {
        kind: OrderByKind::Expressions(list),
        ..
    } = query.order_by.as_ref()?
    else {
        return None;
    };
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let mut list = list.clone();
    for item in &mut list {
        if let (Expr::Value(n), Some(SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. })) =
            (&item.expr, select.projection.first())
            && matches!(&n.value, Value::Number(..))
        {
            item.expr = e.clone();
        }
    }
    Some(list)
}

type Item = fn(&mut Query) -> Option<&mut SelectItem>;

/// The one item of a plain SELECT: no grouping, no aggregate, no DISTINCT, nothing set-returning.
fn plain(query: &Query, order: Option<&[OrderByExpr]>) -> Option<Item> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let Select {
        projection,
        distinct: None,
        having: None,
        ..
    } = select.as_ref()
    else {
        return None;
    };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    let (1, Some(SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. })) =
        (projection.len(), projection.first())
    else {
        return None;
    };
    let foreign_order = query.order_by.is_some() && order.is_none();
    if grouped || foreign_order || query.fetch.is_some() || Visit::visit(e, &mut Aggregates { depth: 0 }).is_break() {
        return None;
    }
    Some(|query| match query.body.as_mut() {
        SetExpr::Select(select) => select.projection.first_mut(),
        _ => None,
    })
}

/// Stops at an aggregate of this query, not of one within it.
struct Aggregates {
    depth: usize,
}

impl Visitor for Aggregates {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            _ if self.depth > 0 => ControlFlow::Continue(()),
            Expr::Function(Function { name, over, .. }) => {
                let name = name
                    .0
                    .last()
                    .and_then(ObjectNamePart::as_ident)
                    .map(|i| i.value.to_lowercase())
                    .unwrap_or_default();
                let several = matches!(name.as_str(), "unnest" | "bulkhead_single");
                if over.is_some() || several || AGGREGATES.contains(&name) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn set(item: Option<&mut SelectItem>, function: &str, order: Vec<OrderByExpr>) {
    let Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
        return;
    };
    let mut made = call(function, vec![take(expr)]);
    if let Expr::Function(Function {
        args: FunctionArguments::List(list),
        ..
    }) = &mut made
        && !order.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    *expr = made;
}

/// `SELECT items` from nothing.
pub fn query_of(items: Vec<Expr>) -> Query {
    let body = SetExpr::Values(Values {
        explicit_row: false,
        value_keyword: false,
        rows: Vec::new(),
    });
    let mut query = Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    if !items.is_empty() {
        let projection = items.into_iter().map(SelectItem::UnnamedExpr).collect();
        query.body = Box::new(SetExpr::Select(Box::new(select_of(projection))));
    }
    query
}

fn select_of(projection: Vec<SelectItem>) -> Select {
    use datafusion::sql::sqlparser::ast::{SelectFlavor, helpers::attached_token::AttachedToken};
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}

/// The aggregate `bulkhead_single(x)`: the only row's value, NULL for no row, an error for more.
pub fn aggregate() -> AggregateUDF {
    AggregateUDF::new_from_impl(Single {
        signature: Signature::any(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Single {
    signature: Signature,
}

impl AggregateUDFImpl for Single {
    fn name(&self) -> &'static str {
        "bulkhead_single"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let missing = || DataFusionError::Internal("bulkhead_single has one argument".to_owned());
        arguments.first().cloned().ok_or_else(missing)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.iter().map(|f| f.data_type().clone()).collect();
        let metadata = arguments.first().map(|f| f.metadata().clone()).unwrap_or_default();
        Ok(Field::new(self.name(), self.return_type(&types)?, true)
            .with_metadata(metadata)
            .into())
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new("value", arguments.return_field.data_type().clone(), true);
        Ok(vec![value.into(), Field::new("rows", DataType::Int64, true).into()])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One {
            value: ScalarValue::try_from(arguments.return_type())?,
            rows: 0,
        }))
    }
}

#[derive(Debug)]
struct One {
    value: ScalarValue,
    rows: i64,
}

impl One {
    fn add(&mut self, rows: i64, value: impl FnOnce() -> Result<ScalarValue>) -> Result<()> {
        self.rows += rows;
        match (rows, self.rows) {
            (0, _) => Ok(()),
            (_, 1) => {
                self.value = value()?;
                Ok(())
            }
            _ => Err(fail(
                Code::CardinalityViolation,
                "more than one row returned by a subquery used as an expression",
            )),
        }
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(column) = values.first() else { return Ok(()) };
        self.add(column.len() as i64, || ScalarValue::try_from_array(column, 0))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [value, rows] = states else { return Ok(()) };
        for (i, rows) in rows.as_primitive::<Int64Type>().iter().enumerate() {
            self.add(rows.unwrap_or(0), || ScalarValue::try_from_array(value, i))?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(Some(self.rows))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }
}
