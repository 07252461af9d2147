//! `+`, `-` and `*` of integers that fail where the result does not fit, as PostgreSQL's do; DataFusion's would wrap.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{Array, Datum},
    compute::kernels::numeric,
    datatypes::{DataType, FieldRef},
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
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    operation: Operation,
    signature: Signature,
}

static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 3]> = LazyLock::new(|| {
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

/// The checked form of an operation on two integers; an operand that is a parameter of no type is of the other's.
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
        (Some(left), None) if is_integer(left) => adopt(&mut expr.right, left)?,
        (None, Some(right)) if is_integer(right) => adopt(&mut expr.left, right)?,
        _ => return None,
    }
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
        match arguments {
            [left, right] => match (width(left), width(right)) {
                (Some(a), Some(b)) => {
                    let wider = [DataType::Int16, DataType::Int32, DataType::Int64][a.max(b)].clone();
                    Ok(vec![wider.clone(), wider])
                }
                _ => plan_err!("{} takes integers", self.name),
            },
            _ => plan_err!("{} takes two arguments", self.name),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.coerce_types(arguments)?.swap_remove(0))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let returned = PgType::of_arrow(&self.return_type(&types)?);
        Ok(Arc::new(returned.field(self.name, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &arguments.args[..] else {
            return plan_err!("{} takes two arguments", self.name);
        };
        let constant = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
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
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

impl Checked {
    fn compute(&self, left: &dyn Datum, right: &dyn Datum) -> std::result::Result<Arc<dyn Array>, ArrowError> {
        match self.operation {
            Operation::Add => numeric::add(left, right),
            Operation::Subtract => numeric::sub(left, right),
            Operation::Multiply => numeric::mul(left, right),
        }
    }
}
