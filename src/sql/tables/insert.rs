//! INSERT, planned: where its rows come from, and what becomes of those that are there already.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
        compute::concat,
        datatypes::DataType,
    },
    common::DFSchema,
    logical_expr::{Expr, LogicalPlan},
    sql::sqlparser::ast::{
        Expr as SqlExpr, Insert, OnInsert, Query, SelectItem, SetExpr, TableObject, UnaryOperator, Value, With,
    },
};

use super::{
    assign::{self, From},
    compute::{Compute, one_row},
    conflict::{Conflict, ConflictPieces},
    pieces::{self, Pieces, column_name, fold, from_named, parse_expression},
    rules::{origin, qualified},
    write::{Action, Planned, TableWrite, place_of},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    sql::{
        complaints::from_datafusion,
        prepared::{self, timely},
        session::Session,
        spelling::{Overriding, overriding},
    },
    table::schema::{Identity, TableDef},
};

/// Where rows come from and go to.
pub(in crate::sql) struct InsertPlan {
    /// Places of the columns that are given.
    pub(super) places: Vec<usize>,
    pub(super) source: Source,
    pub(super) conflict: Option<Conflict>,
    /// Places whose given values are not taken: OVERRIDING USER VALUE.
    pub(super) ignored: Vec<usize>,
}

pub(super) enum Source {
    /// `VALUES`, and one row of nothing for `DEFAULT VALUES`.
    Rows {
        rows: Vec<Vec<Cell>>,
        /// What the cells compute.
        computed: Compute,
        from: Vec<From>,
    },
    Query {
        plan: LogicalPlan,
        optimized: bool,
        from: Vec<From>,
    },
    /// Rows that come from elsewhere.
    Given,
}

/// One value of VALUES.
pub(super) enum Cell {
    Default,
    Null,
    /// A literal without a type.
    Text(String),
    Number(String),
    Bool(bool),
    /// A parameter, from 0, and its type.
    Parameter(usize),
    /// One of the computed values.
    Computed(usize),
}

impl InsertPlan {
    pub(super) fn query(&self) -> Option<(&LogicalPlan, bool)> {
        match &self.source {
            Source::Query { plan, optimized, .. } => Some((plan, *optimized)),
            Source::Rows { .. } | Source::Given => None,
        }
    }
}

impl Session {
    pub(in crate::sql) fn plan_table_insert(
        &self,
        def: &Arc<TableDef>,
        with: Option<With>,
        mut insert: Insert,
        declared: &[Option<PgType>],
    ) -> Result<Planned> {
        if insert.partitioned.is_some()
            || !insert.after_columns.is_empty()
            || !insert.assignments.is_empty()
            || insert.output.is_some()
            || !matches!(insert.table, TableObject::TableName(_))
        {
            return Err(Error::new(Code::Syntax, "syntax error in INSERT"));
        }
        let alias = insert
            .table_alias
            .as_ref()
            .map_or_else(|| def.name.clone(), |a| fold(&a.alias));
        let named = insert.columns.iter().map(|name| place_of(def, &column_name(name)?));
        let named: Vec<usize> = named.collect::<Result<_>>()?;
        for (at, place) in named.iter().enumerate() {
            if named[..at].contains(place) {
                let text = format!("column \"{}\" specified more than once", def.columns[*place].name);
                return Err(Error::new(Code::DuplicateColumn, text));
            }
        }
        let mut pieces = Pieces::new(self, declared);
        let overriding = overriding(&insert);
        let mut source = insert.source.take();
        if let (Some(with), Some(query)) = (with, source.as_mut()) {
            query.with = Some(merged(with, query.with.take()));
        }
        let planned = match source {
            None => PlannedSource::Rows(vec![Vec::new()], Vec::new()),
            Some(query) if is_values(&query) => plan_values(&mut pieces, def, &named, *query)?,
            Some(query) => plan_query(&mut pieces, def, &named, *query)?,
        };
        let width = planned.width();
        let places = match (named.is_empty(), &planned) {
            (_, PlannedSource::Rows(rows, _)) if rows.iter().all(Vec::is_empty) => Vec::new(),
            (true, _) if width > def.columns.len() => return Err(more_expressions()),
            (true, _) => (0..width).collect(),
            (false, _) if width > named.len() => return Err(more_expressions()),
            (false, _) if width < named.len() => {
                let text = "INSERT has more target columns than expressions";
                return Err(Error::new(Code::Syntax, text));
            }
            (false, _) => named,
        };
        let ignored = check_given(def, &places, &planned, overriding)?;
        let conflict = match insert.on.take() {
            None => None,
            Some(OnInsert::OnConflict(on)) => Some(ConflictPieces::plan(&mut pieces, def, &alias, on)?),
            Some(_) => return Err(Error::new(Code::Syntax, "syntax error at or near \"DUPLICATE\"")),
        };
        let returned = match insert.returning.take() {
            None => None,
            Some(items) => {
                let shape = pieces.shape(def.arrow());
                let plan = pieces.plan(pieces::select(None, items, vec![from_named(&shape, &alias)], None))?;
                let columns = prepared::columns_of(&plan);
                Some((super::compute::projected(plan)?.0, columns))
            }
        };
        let (parameters, placeholders) = pieces.finish();
        let source = match planned {
            PlannedSource::Rows(rows, exprs) => {
                let empty = Arc::new(DFSchema::empty());
                let from = exprs
                    .iter()
                    .map(|(sql, expr)| origin(sql, expr, &empty))
                    .collect::<Result<_>>()?;
                let exprs = exprs.into_iter().map(|(_, expr)| expr).collect();
                Source::Rows {
                    rows,
                    computed: Compute::new(&self.state, exprs, &empty, &placeholders)?,
                    from,
                }
            }
            PlannedSource::Query(plan, from) => {
                let optimized = !timely(&plan)?;
                let plan = match optimized {
                    true => self.state.optimize(&plan).map_err(from_datafusion)?,
                    false => plan,
                };
                Source::Query { plan, optimized, from }
            }
        };
        let conflict = conflict.map(|c| c.finish(self, def, &placeholders)).transpose()?;
        let (returning, columns) = match returned {
            None => (None, None),
            Some((exprs, columns)) => {
                let over = qualified(def, &alias)?;
                (
                    Some(Compute::new(&self.state, exprs, &over, &placeholders)?),
                    Some(columns),
                )
            }
        };
        Ok(Planned {
            write: TableWrite {
                def: def.clone(),
                rules: self.rules(def)?,
                action: Action::Insert(InsertPlan {
                    places,
                    source,
                    conflict,
                    ignored,
                }),
                reads: returning.is_some(),
                returning,
                placeholders,
            },
            parameters,
            columns,
        })
    }

    /// The rows of VALUES, each column as the table keeps it; `None` for DEFAULT.
    pub(super) async fn cells(
        &self,
        def: &TableDef,
        places: &[usize],
        source: (&[Vec<Cell>], &Compute, &[From]),
        params: (&[ArrayRef], &[PgType]),
    ) -> Result<Vec<Vec<Option<ArrayRef>>>> {
        let (rows, computed, from) = source;
        let values = computed.run(self, &one_row(), params.0).await?;
        let known = Known {
            computed: &values,
            from,
            params: params.0,
            types: params.1,
        };
        let column = |(at, place): (usize, &usize)| known.column(rows, at, &def.columns[*place]);
        places.iter().enumerate().map(column).collect()
    }
}

/// Values that cells refer to.
struct Known<'a> {
    computed: &'a [ArrayRef],
    from: &'a [From],
    params: &'a [ArrayRef],
    types: &'a [PgType],
}

impl Known<'_> {
    /// A column's values: one array where no row says DEFAULT, else one for each row.
    fn column(
        &self,
        rows: &[Vec<Cell>],
        at: usize,
        column: &crate::table::schema::ColumnDef,
    ) -> Result<Vec<Option<ArrayRef>>> {
        let cells = || rows.iter().filter_map(|row| row.get(at));
        if let Some(text) = texts(cells(), column) {
            return Ok(vec![Some(assign::assign(&text, From::Unknown, column)?)]);
        }
        if let Some(numbers) = numbers(cells()) {
            return Ok(vec![Some(assign::assign(
                &numbers,
                From::Typed(Scalar::Int8.into()),
                column,
            )?)]);
        }
        let mut values = Vec::with_capacity(rows.len());
        for cell in cells() {
            values.push(match self.value(cell) {
                None => None,
                Some((value, from)) => Some(assign::assign(&value, from, column)?),
            });
        }
        if values.len() > 1 && values.iter().all(Option::is_some) {
            let all: Vec<&dyn Array> = values.iter().flatten().map(AsRef::as_ref).collect();
            return Ok(vec![Some(concat(&all).map_err(Error::internal)?)]);
        }
        Ok(values)
    }

    fn value(&self, cell: &Cell) -> Option<(ArrayRef, From)> {
        Some(match cell {
            Cell::Default => return None,
            Cell::Null => (Arc::new(StringArray::from(vec![None::<&str>])), From::Unknown),
            Cell::Text(text) => (Arc::new(StringArray::from(vec![text.as_str()])), From::Unknown),
            Cell::Bool(truth) => (
                Arc::new(BooleanArray::from(vec![*truth])),
                From::Typed(Scalar::Bool.into()),
            ),
            Cell::Number(number) => match (number.parse::<i64>(), number.parse::<f64>()) {
                (Ok(whole), _) => {
                    let small = i32::try_from(whole).is_ok();
                    let scalar = if small { Scalar::Int4 } else { Scalar::Int8 };
                    (Arc::new(Int64Array::from(vec![whole])), From::Typed(scalar.into()))
                }
                (_, Ok(float)) => (
                    Arc::new(Float64Array::from(vec![float])),
                    From::Typed(Scalar::Numeric.into()),
                ),
                _ => (Arc::new(StringArray::from(vec![number.as_str()])), From::Unknown),
            },
            Cell::Parameter(at) => (self.params.get(*at)?.clone(), From::Typed(*self.types.get(*at)?)),
            Cell::Computed(at) => (self.computed.get(*at)?.clone(), *self.from.get(*at)?),
        })
    }
}

/// Literals as text, where the column takes them all as such.
fn texts<'c>(cells: impl Iterator<Item = &'c Cell>, column: &crate::table::schema::ColumnDef) -> Option<ArrayRef> {
    use Scalar::{Bpchar, Float4, Float8, Numeric, Text, Varchar};
    let exact = matches!(
        column.pg_type,
        PgType::Scalar(Numeric | Float4 | Float8 | Text | Varchar | Bpchar)
    );
    let texts: Option<Vec<Option<&str>>> = cells
        .map(|cell| match cell {
            Cell::Null => Some(None),
            Cell::Text(text) => Some(Some(text.as_str())),
            // A number is exact as it is written.
            Cell::Number(number) if exact => Some(Some(number.as_str())),
            _ => None,
        })
        .collect();
    texts.map(|texts| Arc::new(StringArray::from(texts)) as ArrayRef)
}

/// Whole numbers.
fn numbers<'c>(cells: impl Iterator<Item = &'c Cell>) -> Option<ArrayRef> {
    let numbers: Option<Vec<Option<i64>>> = cells
        .map(|cell| match cell {
            Cell::Null => Some(None),
            Cell::Number(number) => number.parse().ok().map(Some),
            _ => None,
        })
        .collect();
    numbers.map(|numbers| Arc::new(Int64Array::from(numbers)) as ArrayRef)
}

/// Rows as they were planned.
enum PlannedSource {
    Rows(Vec<Vec<Cell>>, Vec<(SqlExpr, Expr)>),
    Query(LogicalPlan, Vec<From>),
}

impl PlannedSource {
    fn width(&self) -> usize {
        match self {
            Self::Rows(rows, _) => rows.first().map_or(0, Vec::len),
            Self::Query(plan, _) => plan.schema().fields().len(),
        }
    }

    /// Whether anything but DEFAULT is given for a column.
    fn gives(&self, at: usize) -> bool {
        match self {
            Self::Rows(rows, _) => rows
                .iter()
                .any(|row| !matches!(row.get(at), Some(Cell::Default) | None)),
            Self::Query(..) => true,
        }
    }
}

fn more_expressions() -> Error {
    Error::new(Code::Syntax, "INSERT has more expressions than target columns")
}

fn merged(mut outer: With, inner: Option<With>) -> With {
    if let Some(inner) = inner {
        outer.recursive |= inner.recursive;
        outer.cte_tables.extend(inner.cte_tables);
    }
    outer
}

/// Whether a query is a plain list of rows.
fn is_values(query: &Query) -> bool {
    let plain =
        query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let mut subqueries = false;
    if let SetExpr::Values(values) = query.body.as_ref() {
        let _ = datafusion::sql::sqlparser::ast::visit_expressions(values, |e| {
            subqueries |= matches!(
                e,
                SqlExpr::Subquery(_) | SqlExpr::Exists { .. } | SqlExpr::InSubquery { .. }
            );
            std::ops::ControlFlow::<()>::Continue(())
        });
        return plain && !(subqueries && values.rows.len() > 1);
    }
    false
}

fn plan_values(pieces: &mut Pieces<'_>, def: &TableDef, named: &[usize], query: Query) -> Result<PlannedSource> {
    let SetExpr::Values(values) = *query.body else {
        return Err(Error::internal("VALUES are none"));
    };
    let (mut rows, mut computed) = (Vec::with_capacity(values.rows.len()), Vec::new());
    let width = values.rows.first().map_or(0, |row| row.content.len());
    for row in values.rows {
        if row.content.len() != width {
            return Err(Error::new(Code::Syntax, "VALUES lists must all be the same length"));
        }
        let cells = row.content.into_iter().enumerate().map(|(at, expr)| {
            let place = named.get(at).copied().unwrap_or(at);
            cell(pieces, def.columns.get(place).map(|c| c.pg_type), expr, &mut computed)
        });
        rows.push(cells.collect::<Vec<_>>());
    }
    if computed.is_empty() {
        return Ok(PlannedSource::Rows(rows, Vec::new()));
    }
    let items: Vec<SelectItem> = computed
        .iter()
        .enumerate()
        .map(|(i, sql)| pieces::item(SqlExpr::clone(sql), "v", i))
        .collect();
    let (exprs, _) = pieces.expressions(items, Vec::new())?;
    if exprs.len() != computed.len() {
        return Err(Error::new(
            Code::GroupingError,
            "aggregate functions are not allowed in VALUES",
        ));
    }
    Ok(PlannedSource::Rows(rows, computed.into_iter().zip(exprs).collect()))
}

fn cell(pieces: &mut Pieces<'_>, wanted: Option<PgType>, expr: SqlExpr, computed: &mut Vec<SqlExpr>) -> Cell {
    if pieces::is_default(&expr) {
        return Cell::Default;
    }
    if let Some(number) = pieces::placeholder(&expr) {
        pieces.bare(number, wanted.unwrap_or(PgType::TEXT));
        return Cell::Parameter(number - 1);
    }
    match &expr {
        SqlExpr::Value(value) => match &value.value {
            Value::Null => return Cell::Null,
            Value::Boolean(truth) => return Cell::Bool(*truth),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => return Cell::Text(text.clone()),
            Value::DollarQuotedString(text) => return Cell::Text(text.value.clone()),
            Value::Number(number, _) => return Cell::Number(number.to_string()),
            _ => {}
        },
        SqlExpr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: inner,
        } => {
            if let SqlExpr::Value(value) = inner.as_ref()
                && let Value::Number(number, _) = &value.value
            {
                return Cell::Number(format!("-{number}"));
            }
        }
        _ => {}
    }
    computed.push(expr);
    Cell::Computed(computed.len() - 1)
}

fn plan_query(pieces: &mut Pieces<'_>, def: &TableDef, named: &[usize], mut query: Query) -> Result<PlannedSource> {
    let wanted = |at: usize| def.columns.get(named.get(at).copied().unwrap_or(at));
    let mut unknown = Vec::new();
    match query.body.as_mut() {
        SetExpr::Select(select) => {
            for (at, item) in select.projection.iter().enumerate() {
                let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
                    // What a wildcard stands for is not known here.
                    break;
                };
                if pieces::is_unknown(expr) {
                    unknown.push(at);
                }
                if let (Some(number), Some(column)) = (pieces::placeholder(expr), wanted(at)) {
                    pieces.tell(number, column.pg_type);
                }
            }
        }
        // DEFAULT in a list of rows that is more than that.
        SetExpr::Values(values) => {
            for row in &mut values.rows {
                for (at, expr) in row.content.iter_mut().enumerate() {
                    if pieces::is_default(expr) {
                        *expr = match wanted(at).and_then(|c| c.default.as_deref()) {
                            Some(default) => parse_expression(default)?,
                            None => SqlExpr::Value(Value::Null.into()),
                        };
                    } else if let (Some(number), Some(column)) = (pieces::placeholder(expr), wanted(at)) {
                        pieces.tell(number, column.pg_type);
                    }
                }
            }
        }
        _ => {}
    }
    let statement = datafusion::sql::sqlparser::ast::Statement::Query(Box::new(query));
    let plan = pieces.plan(statement)?;
    let fields = plan.schema().fields().iter().enumerate();
    let from = fields.map(|(at, field)| match field.data_type() {
        DataType::Null => From::Unknown,
        _ if unknown.contains(&at) => From::Unknown,
        _ => From::Typed(PgType::of(field)),
    });
    let from = from.collect();
    Ok(PlannedSource::Query(plan, from))
}

/// Refuses values for columns that the server computes. Gives the places whose values are not taken.
fn check_given(
    def: &TableDef,
    places: &[usize],
    source: &PlannedSource,
    overriding: Option<Overriding>,
) -> Result<Vec<usize>> {
    let mut ignored = Vec::new();
    for (at, &place) in places.iter().enumerate() {
        let column = &def.columns[place];
        if !source.gives(at) {
            continue;
        }
        let refused = |what: &str| {
            let text = format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name);
            Error::new(Code::GeneratedAlways, text).with_detail(format!("Column \"{}\" {what}", column.name))
        };
        if column.generated.is_some() {
            return Err(refused("is a generated column."));
        }
        match (column.identity, overriding) {
            (Some(_), Some(Overriding::User)) => ignored.push(place),
            (Some(Identity::Always), None) => {
                return Err(refused("is an identity column defined as GENERATED ALWAYS.")
                    .with_hint("Use OVERRIDING SYSTEM VALUE to override."));
            }
            _ => {}
        }
    }
    Ok(ignored)
}

/// The columns of a query's rows, each as the table keeps it.
///
/// # Errors
/// Those of the casts.
pub(super) fn assigned_columns(
    def: &TableDef,
    places: &[usize],
    from: &[From],
    rows: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    let columns = rows.columns().iter().zip(places).zip(from);
    columns
        .map(|((values, place), from)| assign::assign(values, *from, &def.columns[*place]))
        .collect()
}
