//! `+`, `-` and `*` that fail where the result does not fit, as PostgreSQL's do; DataFusion's integers would wrap, its
//! floats become infinite.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{Array, ArrayRef, AsArray, Datum, Decimal128Array},
    compute::kernels::numeric,
    datatypes::{DataType, Decimal128Type, FieldRef, Float32Type, Float64Type, i256},
    error::ArrowError,
};
use datafusion::{
    common::{DFSchema, Result, ScalarValue, plan_err},
    logical_expr::{
        ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
        Volatility, planner::RawBinaryExpr,
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::function::fail;
use crate::{codec::pgtype::PgType, error::Code};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    /// Of decimals.
    Divide,
    /// Of floats.
    DivideFloats,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    operation: Operation,
    signature: Signature,
}

static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 5]> = LazyLock::new(|| {
    let make = |name, operation| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Checked {
            name,
            operation,
            signature,
        }))
    };
    [
        make("bulkhead_add", Operation::Add),
        make("bulkhead_subtract", Operation::Subtract),
        make("bulkhead_multiply", Operation::Multiply),
        make("bulkhead_divide", Operation::Divide),
        make("bulkhead_divide_floats", Operation::DivideFloats),
    ]
});

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64)
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// The checked form of an operation on two integers or floats; an operand of integers that is a parameter of no type is of the other's.
pub(super) fn checked(expr: &mut RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let function = match expr.op {
        BinaryOperator::Plus => &FUNCTIONS[0],
        BinaryOperator::Minus => &FUNCTIONS[1],
        BinaryOperator::Multiply => &FUNCTIONS[2],
        _ => return None,
    };
    let left = known(&expr.left, schema);
    let right = known(&expr.right, schema);
    match (&left, &right) {
        (Some(left), Some(right)) if is_integer(left) && is_integer(right) => {}
        (Some(left), Some(right))
            if (is_float(left) && (is_float(right) || is_integer(right))) || (is_integer(left) && is_float(right)) => {}
        (Some(left), None) if is_integer(left) => adopt(&mut expr.right, left)?,
        (None, Some(right)) if is_integer(right) => adopt(&mut expr.left, right)?,
        _ => return None,
    }
    Some(function.call(vec![expr.left.clone(), expr.right.clone()]))
}

/// Division of numerics and of floats, which fails for a divisor of zero; numerics have sixteen digits after the point,
/// or as many as an operand has.
pub(super) fn divided(expr: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    if expr.op != BinaryOperator::Divide {
        return None;
    }
    let (left, right) = (known(&expr.left, schema)?, known(&expr.right, schema)?);
    let exact = |t: &DataType| is_integer(t) || matches!(t, DataType::Decimal128(..));
    let float = |t: &DataType| is_integer(t) || is_float(t);
    let function = match (&left, &right) {
        (a, b) if is_integer(a) && is_integer(b) => return None,
        (a, b) if exact(a) && exact(b) => &FUNCTIONS[3],
        (a, b) if float(a) && float(b) => &FUNCTIONS[4],
        _ => return None,
    };
    Some(function.call(vec![expr.left.clone(), expr.right.clone()]))
}

/// A numeric beside a float is a float, as PostgreSQL has it; DataFusion would make both decimals.
pub(super) fn floats(expr: &mut RawBinaryExpr, schema: &DFSchema) {
    let (Some(left), Some(right)) = (known(&expr.left, schema), known(&expr.right, schema)) else {
        return;
    };
    let float = |e: &Expr| e.clone().cast_to(&DataType::Float64, schema);
    if is_float(&left) && is_decimal(&right) {
        if let Ok(cast) = float(&expr.right) {
            expr.right = cast;
        }
    } else if is_decimal(&left)
        && is_float(&right)
        && let Ok(cast) = float(&expr.left)
    {
        expr.left = cast;
    }
}

fn known(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    match expr {
        Expr::Placeholder(p) => p.field.as_ref().map(|f| f.data_type().clone()),
        other => other.get_type(schema).ok(),
    }
}

/// Gives a parameter a type.
fn adopt(expr: &mut Expr, data_type: &DataType) -> Option<()> {
    let Expr::Placeholder(placeholder) = expr else {
        return None;
    };
    placeholder.field = Some(Arc::new(PgType::of_arrow(data_type).field("parameter", true)));
    Some(())
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let width = |t: &DataType| match t {
            DataType::Int16 | DataType::Null => Some(0),
            DataType::Int32 => Some(1),
            DataType::Int64 => Some(2),
            _ => None,
        };
        let exact = |t: &DataType| match t {
            DataType::Int16 => DataType::Decimal128(5, 0),
            DataType::Int32 => DataType::Decimal128(10, 0),
            DataType::Int64 => DataType::Decimal128(19, 0),
            other => other.clone(),
        };
        match arguments {
            [left, right] if self.operation == Operation::Divide => Ok(vec![exact(left), exact(right)]),
            [left, right] if self.operation == Operation::DivideFloats || is_float(left) || is_float(right) => {
                let single = [left, right].iter().all(|t| **t == DataType::Float32);
                let to = if single { DataType::Float32 } else { DataType::Float64 };
                Ok(vec![to.clone(), to])
            }
            [left, right] => match (width(left), width(right)) {
                (Some(a), Some(b)) => {
                    let wider = [DataType::Int16, DataType::Int32, DataType::Int64][a.max(b)].clone();
                    Ok(vec![wider.clone(), wider])
                }
                _ => plan_err!("{} takes integers or floats", self.name),
            },
            _ => plan_err!("{} takes two arguments", self.name),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let coerced = self.coerce_types(arguments)?;
        Ok(match (self.operation, &coerced[..]) {
            (Operation::Divide, [DataType::Decimal128(_, a), DataType::Decimal128(_, b)]) => {
                DataType::Decimal128(38, QUOTIENT_SCALE.max(*a).max(*b).min(38))
            }
            (_, [first, ..]) => first.clone(),
            _ => DataType::Null,
        })
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let data_type = self.return_type(&types)?;
        let field = PgType::of_arrow(&data_type).field(self.name, true);
        Ok(Arc::new(field.with_data_type(data_type)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &arguments.args[..] else {
            return plan_err!("{} takes two arguments", self.name);
        };
        let constant = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        if matches!(self.operation, Operation::Divide | Operation::DivideFloats) {
            let rows = if constant { 1 } else { arguments.number_rows };
            let (left, right) = (left.to_array(rows)?, right.to_array(rows)?);
            let array = match self.operation {
                Operation::Divide => quotients(&left, &right, arguments.return_field.data_type())?,
                _ => {
                    let quotients = float_quotients(&left, &right)?;
                    check_finite(&quotients, &[left, right])?;
                    quotients
                }
            };
            return match constant {
                true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
                false => Ok(ColumnarValue::Array(array)),
            };
        }
        let result = match (left, right) {
            (ColumnarValue::Array(a), ColumnarValue::Array(b)) => self.compute(a, b),
            (ColumnarValue::Array(a), ColumnarValue::Scalar(b)) => self.compute(a, &b.to_scalar()?),
            (ColumnarValue::Scalar(a), ColumnarValue::Array(b)) => self.compute(&a.to_scalar()?, b),
            (ColumnarValue::Scalar(a), ColumnarValue::Scalar(b)) => self.compute(&a.to_scalar()?, &b.to_scalar()?),
        };
        let array = match result {
            Ok(array) => array,
            Err(ArrowError::ArithmeticOverflow(_)) => {
                let name = match arguments.return_field.data_type() {
                    DataType::Int16 => "smallint",
                    DataType::Int32 => "integer",
                    _ => "bigint",
                };
                return Err(fail(Code::NumericOutOfRange, format!("{name} out of range")));
            }
            Err(other) => return Err(other.into()),
        };
        if is_float(array.data_type()) && any_infinite(&array) {
            let rows = array.len();
            check_finite(&array, &[left.to_array(rows)?, right.to_array(rows)?])?;
        }
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

/// Digits after the point of a quotient.
const QUOTIENT_SCALE: i8 = 16;

fn by_zero() -> datafusion::common::DataFusionError {
    fail(Code::DivisionByZero, "division by zero")
}

/// Quotients rounded half away from zero.
fn quotients(left: &ArrayRef, right: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let (DataType::Decimal128(_, a), DataType::Decimal128(_, b), DataType::Decimal128(_, s)) =
        (left.data_type(), right.data_type(), to)
    else {
        return plan_err!("a division of decimals has decimals");
    };
    let too_large = || fail(Code::NumericOutOfRange, "value overflows numeric format");
    let shift = i32::from(*s) - i32::from(*a) + i32::from(*b);
    let power = |n: i32| {
        i256::from_i128(10)
            .checked_pow(u32::try_from(n).unwrap_or(0))
            .ok_or_else(too_large)
    };
    let (up, down) = (power(shift.max(0))?, power((-shift).max(0))?);
    let (left, right) = (
        left.as_primitive::<Decimal128Type>(),
        right.as_primitive::<Decimal128Type>(),
    );
    let each = left.iter().zip(right).map(|(left, right)| {
        let (Some(left), Some(right)) = (left, right) else {
            return Ok(None);
        };
        if right == 0 {
            return Err(by_zero());
        }
        let left = i256::from_i128(left).checked_mul(up).ok_or_else(too_large)?;
        let right = i256::from_i128(right).checked_mul(down).ok_or_else(too_large)?;
        let (whole, rest) = (left / right, left % right);
        let twice = rest
            .wrapping_abs()
            .checked_mul(i256::from_i128(2))
            .ok_or_else(too_large)?;
        let away = match (twice >= right.wrapping_abs(), left.is_negative() == right.is_negative()) {
            (false, _) => i256::ZERO,
            (true, true) => i256::ONE,
            (true, false) => i256::MINUS_ONE,
        };
        whole.wrapping_add(away).to_i128().map(Some).ok_or_else(too_large)
    });
    let values = each.collect::<Result<Decimal128Array>>()?;
    Ok(Arc::new(values.with_data_type(to.clone())))
}

fn float_quotients(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let zero = match right.data_type() {
        DataType::Float32 => right.as_primitive::<Float32Type>().iter().flatten().any(|v| v == 0.0),
        _ => right.as_primitive::<Float64Type>().iter().flatten().any(|v| v == 0.0),
    };
    match zero {
        true => Err(by_zero()),
        false => Ok(numeric::div(left, right)?),
    }
}

/// The values of floats that are infinite, row by row.
fn infinite(array: &ArrayRef) -> Vec<bool> {
    match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().iter();
            values.map(|v| v.is_some_and(f32::is_infinite)).collect()
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().iter();
            values.map(|v| v.is_some_and(f64::is_infinite)).collect()
        }
        _ => vec![false; array.len()],
    }
}

fn any_infinite(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => array
            .as_primitive::<Float32Type>()
            .values()
            .iter()
            .any(|v| v.is_infinite()),
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .any(|v| v.is_infinite()),
        _ => false,
    }
}

/// Whether a value is infinite that was not before a cast.
pub(super) fn became_infinite(before: &ArrayRef, after: &ArrayRef) -> bool {
    any_infinite(after) && infinite(after) != infinite(before)
}

/// Finite operands do not give infinity.
fn check_finite(results: &ArrayRef, operands: &[ArrayRef]) -> Result<()> {
    if !any_infinite(results) {
        return Ok(());
    }
    let operands: Vec<Vec<bool>> = operands.iter().map(infinite).collect();
    let overflows = |(row, infinite): (usize, &bool)| *infinite && operands.iter().all(|operand| !operand[row]);
    match infinite(results).iter().enumerate().any(overflows) {
        true => Err(fail(Code::NumericOutOfRange, "value out of range: overflow")),
        false => Ok(()),
    }
}

impl Checked {
    fn compute(&self, left: &dyn Datum, right: &dyn Datum) -> std::result::Result<Arc<dyn Array>, ArrowError> {
        match self.operation {
            Operation::Add => numeric::add(left, right),
            Operation::Subtract => numeric::sub(left, right),
            Operation::Multiply => numeric::mul(left, right),
            Operation::Divide | Operation::DivideFloats => numeric::div(left, right),
        }
    }
}
