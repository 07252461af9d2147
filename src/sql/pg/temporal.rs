//! Operators on dates, times and intervals, where DataFusion has none or others than PostgreSQL's.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    common::{DFSchema, Result, ScalarValue},
    logical_expr::{
        ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
        Volatility, planner::RawBinaryExpr,
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    function::fail,
    moments::{self, DAY, Interval, Moment, Moments},
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

/// What an operator computes from two values that are not NULL.
type Compute = fn(Moment, Moment) -> Result<Moment>;

struct Operation {
    name: &'static str,
    returns: Scalar,
    compute: Compute,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "bulkhead_date_plus_days",
        returns: Scalar::Date,
        compute: |a, b| days(a, b, 1),
    },
    Operation {
        name: "bulkhead_date_minus_days",
        returns: Scalar::Date,
        compute: |a, b| days(a, b, -1),
    },
    Operation {
        name: "bulkhead_date_minus_date",
        returns: Scalar::Int4,
        compute: |a, b| match (a, b) {
            (Moment::Date(a), Moment::Date(b)) => Ok(Moment::Exact(i128::from(a) - i128::from(b), 0)),
            _ => Ok(Moment::Null),
        },
    },
    Operation {
        name: "bulkhead_moment_plus_span",
        returns: Scalar::Timestamp,
        compute: |a, b| moved(a, b, false),
    },
    Operation {
        name: "bulkhead_moment_minus_span",
        returns: Scalar::Timestamp,
        compute: |a, b| moved(a, b, true),
    },
    Operation {
        name: "bulkhead_moment_minus_moment",
        returns: Scalar::Interval,
        compute: |a, b| match (micros(&a)?, micros(&b)?) {
            (Some(a), Some(b)) => Ok(Moment::Span(moments::between(a, b)?)),
            _ => Ok(Moment::Null),
        },
    },
    Operation {
        name: "bulkhead_time_plus_span",
        returns: Scalar::Time,
        compute: |a, b| clock(a, b, 1),
    },
    Operation {
        name: "bulkhead_time_minus_span",
        returns: Scalar::Time,
        compute: |a, b| clock(a, b, -1),
    },
    Operation {
        name: "bulkhead_time_minus_time",
        returns: Scalar::Interval,
        compute: |a, b| match (a, b) {
            (Moment::Time(a), Moment::Time(b)) => Ok(Moment::Span(Interval {
                months: 0,
                days: 0,
                micros: a - b,
            })),
            _ => Ok(Moment::Null),
        },
    },
    Operation {
        name: "bulkhead_span_plus_span",
        returns: Scalar::Interval,
        compute: |a, b| spans(a, b, false),
    },
    Operation {
        name: "bulkhead_span_minus_span",
        returns: Scalar::Interval,
        compute: |a, b| spans(a, b, true),
    },
    Operation {
        name: "bulkhead_span_times",
        returns: Scalar::Interval,
        compute: |a, b| match (a, moments::number(&b)) {
            (Moment::Span(span), Some(factor)) => Ok(Moment::Span(moments::scaled(span, factor)?)),
            _ => Ok(Moment::Null),
        },
    },
    Operation {
        name: "bulkhead_span_divided",
        returns: Scalar::Interval,
        compute: |a, b| match (a, moments::number(&b)) {
            (_, Some(0.0)) => Err(fail(Code::DivisionByZero, "division by zero")),
            (Moment::Span(span), Some(divisor)) => Ok(Moment::Span(moments::scaled(span, 1.0 / divisor)?)),
            _ => Ok(Moment::Null),
        },
    },
    Operation {
        name: "bulkhead_span_length",
        returns: Scalar::Numeric,
        compute: |a, _| match a {
            Moment::Span(span) => Ok(Moment::Exact(moments::length(span), 0)),
            _ => Ok(Moment::Null),
        },
    },
];

fn days(date: Moment, days: Moment, sign: i128) -> Result<Moment> {
    match (date, days) {
        (Moment::Date(date @ (i32::MAX | i32::MIN)), _) => Ok(Moment::Date(date)),
        (Moment::Date(date), Moment::Exact(days, 0)) => match i32::try_from(i128::from(date) + sign * days) {
            Ok(date) => Ok(Moment::Date(date)),
            Err(_) => Err(fail(Code::DatetimeOverflow, "date out of range")),
        },
        _ => Ok(Moment::Null),
    }
}

fn micros(value: &Moment) -> Result<Option<i64>> {
    Ok(match value {
        Moment::Stamp(t) | Moment::Zoned(t) => Some(*t),
        Moment::Date(days) => Some(moments::midnight(*days)?),
        _ => None,
    })
}

fn moved(from: Moment, span: Moment, back: bool) -> Result<Moment> {
    let span = match span {
        Moment::Span(span) => span,
        Moment::Time(micros) => Interval {
            months: 0,
            days: 0,
            micros,
        },
        _ => return Ok(Moment::Null),
    };
    let span = if back { moments::negated(span) } else { span };
    Ok(match micros(&from)? {
        Some(from) => Moment::Stamp(moments::later(from, span)?),
        None => Moment::Null,
    })
}

fn clock(time: Moment, span: Moment, sign: i64) -> Result<Moment> {
    match (time, span) {
        (Moment::Time(time), Moment::Span(span)) => {
            let moved = i128::from(time) + i128::from(sign) * i128::from(span.micros);
            Ok(Moment::Time(moved.rem_euclid(i128::from(DAY)) as i64))
        }
        _ => Ok(Moment::Null),
    }
}

fn spans(a: Moment, b: Moment, back: bool) -> Result<Moment> {
    let (Moment::Span(a), Moment::Span(b)) = (a, b) else {
        return Ok(Moment::Null);
    };
    let b = if back { moments::negated(b) } else { b };
    let sum = (|| {
        Some(Interval {
            months: a.months.checked_add(b.months)?,
            days: a.days.checked_add(b.days)?,
            micros: a.micros.checked_add(b.micros)?,
        })
    })();
    sum.map(Moment::Span)
        .ok_or_else(|| fail(Code::DatetimeOverflow, "interval out of range"))
}

/// What a type counts as here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Date,
    Time,
    Stamp,
    Zoned,
    Span,
    Whole,
    Number,
}

fn sort(expr: &Expr, schema: &DFSchema) -> Option<Sort> {
    let data_type = match expr {
        Expr::Placeholder(p) => p.field.as_ref()?.data_type().clone(),
        other => other.get_type(schema).ok()?,
    };
    Some(match data_type {
        DataType::Date32 | DataType::Date64 => Sort::Date,
        DataType::Time32(_) | DataType::Time64(_) => Sort::Time,
        DataType::Timestamp(_, None) => Sort::Stamp,
        DataType::Timestamp(_, Some(_)) => Sort::Zoned,
        DataType::Interval(_) | DataType::Duration(_) => Sort::Span,
        DataType::Int16 | DataType::Int32 | DataType::Int64 => Sort::Whole,
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => Sort::Number,
        _ => return None,
    })
}

static MADE: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let make = |operation: &'static Operation| {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Temporal { operation, signature }))
    };
    OPERATIONS.iter().map(make).collect()
});

/// The functions, made once.
pub fn shared() -> impl Iterator<Item = Arc<ScalarUDF>> {
    MADE.iter().cloned()
}

/// The call that an operator on dates, times and intervals stands for; none where DataFusion's own is right.
pub(super) fn call(expr: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    use BinaryOperator::{Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Multiply, NotEq, Plus};
    let (left, right) = (sort(&expr.left, schema)?, sort(&expr.right, schema)?);
    let function = |name: &str| MADE.iter().find(|f| f.name() == name).cloned();
    if matches!(expr.op, Eq | NotEq | Lt | LtEq | Gt | GtEq) && (left, right) == (Sort::Span, Sort::Span) {
        let length = function("bulkhead_span_length")?;
        let of = |e: &Expr| length.call(vec![e.clone(), Expr::Literal(ScalarValue::Null, None)]);
        let op = match expr.op {
            Eq => datafusion::logical_expr::Operator::Eq,
            NotEq => datafusion::logical_expr::Operator::NotEq,
            Lt => datafusion::logical_expr::Operator::Lt,
            LtEq => datafusion::logical_expr::Operator::LtEq,
            Gt => datafusion::logical_expr::Operator::Gt,
            _ => datafusion::logical_expr::Operator::GtEq,
        };
        return Some(datafusion::logical_expr::binary_expr(
            of(&expr.left),
            op,
            of(&expr.right),
        ));
    }
    let (name, swap) = match (&expr.op, left, right) {
        (Plus, Sort::Date, Sort::Whole) => ("bulkhead_date_plus_days", false),
        (Plus, Sort::Whole, Sort::Date) => ("bulkhead_date_plus_days", true),
        (Minus, Sort::Date, Sort::Whole) => ("bulkhead_date_minus_days", false),
        (Minus, Sort::Date, Sort::Date) => ("bulkhead_date_minus_date", false),
        (Plus, Sort::Date, Sort::Span | Sort::Time) => ("bulkhead_moment_plus_span", false),
        (Plus, Sort::Span | Sort::Time, Sort::Date) => ("bulkhead_moment_plus_span", true),
        (Minus, Sort::Date, Sort::Span) => ("bulkhead_moment_minus_span", false),
        (Minus, Sort::Date | Sort::Stamp | Sort::Zoned, Sort::Date | Sort::Stamp | Sort::Zoned) => {
            ("bulkhead_moment_minus_moment", false)
        }
        (Plus, Sort::Time, Sort::Span) => ("bulkhead_time_plus_span", false),
        (Plus, Sort::Span, Sort::Time) => ("bulkhead_time_plus_span", true),
        (Minus, Sort::Time, Sort::Span) => ("bulkhead_time_minus_span", false),
        (Minus, Sort::Time, Sort::Time) => ("bulkhead_time_minus_time", false),
        (Plus, Sort::Span, Sort::Span) => ("bulkhead_span_plus_span", false),
        (Minus, Sort::Span, Sort::Span) => ("bulkhead_span_minus_span", false),
        (Multiply, Sort::Span, Sort::Whole | Sort::Number) => ("bulkhead_span_times", false),
        (Multiply, Sort::Whole | Sort::Number, Sort::Span) => ("bulkhead_span_times", true),
        (Divide, Sort::Span, Sort::Whole | Sort::Number) => ("bulkhead_span_divided", false),
        _ => return None,
    };
    let (left, right) = (expr.left.clone(), expr.right.clone());
    let arguments = if swap { vec![right, left] } else { vec![left, right] };
    Some(function(name)?.call(arguments))
}

struct Temporal {
    operation: &'static Operation,
    signature: Signature,
}

impl std::fmt::Debug for Temporal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.operation.name)
    }
}

impl PartialEq for Temporal {
    fn eq(&self, other: &Self) -> bool {
        self.operation.name == other.operation.name
    }
}

impl Eq for Temporal {}

impl Hash for Temporal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.operation.name.hash(state);
    }
}

impl ScalarUDFImpl for Temporal {
    fn name(&self) -> &str {
        self.operation.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.operation.returns {
            Scalar::Numeric => DataType::Decimal128(38, 0),
            scalar => scalar.arrow(),
        })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        let field = PgType::from(self.operation.returns).field(self.name(), true);
        Ok(Arc::new(field.with_data_type(self.return_type(&[])?)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke(&arguments, self.operation.returns.into(), |values| match values {
            [Moment::Null, _] => Ok(Moment::Null),
            [a, Moment::Null] if self.operation.name != "bulkhead_span_length" => {
                let _ = a;
                Ok(Moment::Null)
            }
            [a, b] => (self.operation.compute)(a.clone(), b.clone()),
            _ => Ok(Moment::Null),
        })
    }
}

/// Runs a function of moments over rows.
pub(super) fn invoke(
    arguments: &ScalarFunctionArgs,
    returns: PgType,
    compute: impl Fn(&[Moment]) -> Result<Moment>,
) -> Result<ColumnarValue> {
    let constant = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { arguments.number_rows };
    let mut columns = Vec::with_capacity(arguments.args.len());
    for (value, field) in arguments.args.iter().zip(&arguments.arg_fields) {
        columns.push(Moments::new(&value.to_array(rows)?, PgType::of(field))?);
    }
    let row = |row: usize| {
        let values = columns.iter().map(|c| c.at(row)).collect::<Result<Vec<_>>>()?;
        compute(&values)
    };
    let values = (0..rows).map(row).collect::<Result<Vec<_>>>()?;
    let output = moments::array(returns, arguments.return_field.data_type(), values)?;
    match constant {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?)),
        false => Ok(ColumnarValue::Array(output)),
    }
}
