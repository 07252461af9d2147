//! Functions of numbers whose results have the type that PostgreSQL gives them for the type of their argument:
//! `ceil(1.2)` is numeric, `ceil(2)` double precision, `gcd(12, 18)` an integer.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int32Array, Int64Array},
    compute::cast,
    datatypes::{DataType, Decimal128Type, FieldRef, Float64Type, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};

use super::function::fail;
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

/// Digits that a decimal has room for.
const DIGITS: u8 = 38;

/// A number that is not NULL.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i64),
    /// This many units of ten to the minus so much.
    Exact(i128, i8),
    Float(f64),
}

/// What the result is.
#[derive(Clone, Copy)]
enum Returns {
    /// Numeric without digits after the point for numeric, double precision for others.
    Rounded,
    /// Integer for integers, else bigint.
    Whole,
    /// Numeric without digits after the point.
    Exact,
    /// Integer.
    Int4,
}

struct Operation {
    name: &'static str,
    arguments: usize,
    returns: Returns,
    compute: fn(&[Number]) -> Result<Number>,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "sign",
        arguments: 1,
        returns: Returns::Rounded,
        compute: |n| {
            Ok(match n {
                [Number::Exact(v, _)] => Number::Exact(v.signum(), 0),
                [other] => Number::Float(match float(*other) {
                    0.0 => 0.0,
                    value => value.signum(),
                }),
                _ => Number::Whole(0),
            })
        },
    },
    Operation {
        name: "ceil",
        arguments: 1,
        returns: Returns::Rounded,
        compute: |n| Ok(towards(n, f64::ceil, 1)),
    },
    Operation {
        name: "floor",
        arguments: 1,
        returns: Returns::Rounded,
        compute: |n| Ok(towards(n, f64::floor, -1)),
    },
    Operation {
        name: "gcd",
        arguments: 2,
        returns: Returns::Whole,
        compute: |n| {
            let (a, b) = pair(n)?;
            whole(gcd(a, b))
        },
    },
    Operation {
        name: "lcm",
        arguments: 2,
        returns: Returns::Whole,
        compute: |n| {
            let (a, b) = pair(n)?;
            match gcd(a, b) {
                0 => Ok(Number::Whole(0)),
                divisor => whole((a / divisor * b).abs()),
            }
        },
    },
    Operation {
        name: "factorial",
        arguments: 1,
        returns: Returns::Exact,
        compute: |n| {
            let (of, _) = pair(n)?;
            if of < 0 {
                return Err(fail(
                    Code::NumericOutOfRange,
                    "factorial of a negative number is undefined",
                ));
            }
            let product = (1..=of).try_fold(1_i128, |product, x| {
                product.checked_mul(x).filter(|p| *p < 10_i128.pow(38))
            });
            product.map(|p| Number::Exact(p, 0)).ok_or_else(overflow)
        },
    },
    Operation {
        name: "div",
        arguments: 2,
        returns: Returns::Exact,
        compute: |n| match n {
            [a, b] => {
                let ((a, from), (b, to)) = (exact(*a)?, exact(*b)?);
                let scale = from.max(to);
                let (a, b) = (rescaled(a, from, scale)?, rescaled(b, to, scale)?);
                match a.checked_div(b) {
                    Some(quotient) => Ok(Number::Exact(quotient, 0)),
                    None => Err(fail(Code::DivisionByZero, "division by zero")),
                }
            }
            _ => Ok(Number::Whole(0)),
        },
    },
    Operation {
        name: "scale",
        arguments: 1,
        returns: Returns::Int4,
        compute: |n| {
            Ok(match n {
                [Number::Exact(_, scale)] => Number::Whole(i64::from(*scale)),
                _ => Number::Whole(0),
            })
        },
    },
    Operation {
        name: "min_scale",
        arguments: 1,
        returns: Returns::Int4,
        compute: |n| {
            Ok(match n {
                [Number::Exact(value, scale)] => {
                    let zeros = (0..*scale)
                        .take_while(|z| value % 10_i128.pow(1 + z.unsigned_abs() as u32) == 0)
                        .count();
                    Number::Whole(i64::from(*scale) - zeros as i64)
                }
                _ => Number::Whole(0),
            })
        },
    },
];

fn float(number: Number) -> f64 {
    match number {
        Number::Whole(n) => n as f64,
        Number::Exact(value, scale) => value as f64 / 10_f64.powi(i32::from(scale)),
        Number::Float(f) => f,
    }
}

fn exact(number: Number) -> Result<(i128, i8)> {
    match number {
        Number::Whole(n) => Ok((i128::from(n), 0)),
        Number::Exact(value, scale) => Ok((value, scale)),
        Number::Float(f) if f.is_finite() && f.abs() < 1e28 => Ok(((f * 1e9).round() as i128, 9)),
        Number::Float(_) => Err(overflow()),
    }
}

fn rescaled(value: i128, from: i8, to: i8) -> Result<i128> {
    value
        .checked_mul(10_i128.pow((to - from).unsigned_abs().into()))
        .ok_or_else(overflow)
}

fn overflow() -> datafusion::common::DataFusionError {
    fail(Code::NumericOutOfRange, "value overflows numeric format")
}

fn whole(value: i128) -> Result<Number> {
    i64::try_from(value)
        .map(Number::Whole)
        .map_err(|_| fail(Code::NumericOutOfRange, "bigint out of range"))
}

/// Two whole numbers; the second is 0 where there is none.
fn pair(numbers: &[Number]) -> Result<(i128, i128)> {
    let at = |i: usize| {
        numbers
            .get(i)
            .map_or(Ok((0, 0)), |n| exact(*n))
            .map(|(v, s)| v / 10_i128.pow(s.unsigned_abs().into()))
    };
    Ok((at(0)?, at(1)?))
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The next whole number in a direction.
fn towards(numbers: &[Number], of_float: fn(f64) -> f64, direction: i128) -> Number {
    match numbers {
        [Number::Exact(value, scale)] if *scale > 0 => {
            let unit = 10_i128.pow(scale.unsigned_abs().into());
            let cut = value / unit;
            let rest = value % unit;
            Number::Exact(if rest * direction > 0 { cut + direction } else { cut }, 0)
        }
        [Number::Exact(value, _)] => Number::Exact(*value, 0),
        [other] => Number::Float(of_float(float(*other))),
        _ => Number::Whole(0),
    }
}

/// The functions, made once.
pub fn shared() -> Vec<Arc<ScalarUDF>> {
    static MADE: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
        let make = |operation: &'static Operation| {
            let signature = Signature::any(operation.arguments, Volatility::Immutable);
            Arc::new(ScalarUDF::new_from_impl(Mathematics { operation, signature }))
        };
        OPERATIONS.iter().map(make).collect()
    });
    MADE.clone()
}

struct Mathematics {
    operation: &'static Operation,
    signature: Signature,
}

impl std::fmt::Debug for Mathematics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.operation.name)
    }
}

impl PartialEq for Mathematics {
    fn eq(&self, other: &Self) -> bool {
        self.operation.name == other.operation.name
    }
}

impl Eq for Mathematics {}

impl Hash for Mathematics {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.operation.name.hash(state);
    }
}

fn is_exact(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

impl ScalarUDFImpl for Mathematics {
    fn name(&self) -> &str {
        self.operation.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let any_exact = arguments.iter().any(is_exact);
        let small = |d: &DataType| matches!(d, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Null);
        Ok(match self.operation.returns {
            Returns::Rounded if any_exact => DataType::Decimal128(DIGITS, 0),
            Returns::Rounded => DataType::Float64,
            Returns::Whole if arguments.iter().all(small) => DataType::Int32,
            Returns::Whole => DataType::Int64,
            Returns::Exact => DataType::Decimal128(DIGITS, 0),
            Returns::Int4 => DataType::Int32,
        })
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let data_type = self.return_type(&types)?;
        let pg_type = match data_type {
            DataType::Decimal128(..) => PgType::Scalar(Scalar::Numeric),
            _ => PgType::of_arrow(&data_type),
        };
        Ok(Arc::new(pg_type.field(self.name(), true).with_data_type(data_type)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { arguments.number_rows };
        let columns = arguments
            .args
            .iter()
            .map(|a| Numbers::new(&a.to_array(rows)?))
            .collect::<Result<Vec<_>>>()?;
        let row = |row: usize| -> Result<Option<Number>> {
            match columns.iter().map(|c| c.at(row)).collect::<Option<Vec<_>>>() {
                Some(numbers) => (self.operation.compute)(&numbers).map(Some),
                None => Ok(None),
            }
        };
        let values = (0..rows).map(row).collect::<Result<Vec<_>>>()?;
        let output = array(arguments.return_field.data_type(), &values)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?)),
            false => Ok(ColumnarValue::Array(output)),
        }
    }
}

/// A column read as numbers.
struct Numbers(ArrayRef);

impl Numbers {
    fn new(array: &ArrayRef) -> Result<Self> {
        let to = match array.data_type() {
            other if other.is_integer() => DataType::Int64,
            DataType::Decimal128(..) => array.data_type().clone(),
            other if is_exact(other) => DataType::Decimal128(DIGITS, 9),
            _ => DataType::Float64,
        };
        cast(array, &to)
            .map(Self)
            .map_err(|_| fail(Code::InvalidText, "invalid input syntax for type double precision"))
    }

    fn at(&self, row: usize) -> Option<Number> {
        if self.0.is_null(row) {
            return None;
        }
        Some(match self.0.data_type() {
            DataType::Int64 => Number::Whole(self.0.as_primitive::<Int64Type>().value(row)),
            DataType::Decimal128(_, scale) => Number::Exact(self.0.as_primitive::<Decimal128Type>().value(row), *scale),
            _ => Number::Float(self.0.as_primitive::<Float64Type>().value(row)),
        })
    }
}

fn array(data_type: &DataType, values: &[Option<Number>]) -> Result<ArrayRef> {
    let small = |v: Option<Number>| match v {
        Some(Number::Whole(n)) => i32::try_from(n)
            .map(Some)
            .map_err(|_| fail(Code::NumericOutOfRange, "integer out of range")),
        _ => Ok(None),
    };
    let large = |v: Option<Number>| if let Some(Number::Whole(n)) = v { Some(n) } else { None };
    Ok(match data_type {
        DataType::Int32 => Arc::new(values.iter().map(|v| small(*v)).collect::<Result<Int32Array>>()?),
        DataType::Int64 => Arc::new(values.iter().map(|v| large(*v)).collect::<Int64Array>()),
        DataType::Decimal128(precision, scale) => {
            let exact = |v: Option<Number>| v.map(exact).transpose();
            let units = values.iter().map(|v| Ok(exact(*v)?.map(|(value, _)| value)));
            let units = units.collect::<Result<Decimal128Array>>()?;
            Arc::new(units.with_precision_and_scale(*precision, *scale)?)
        }
        _ => Arc::new(values.iter().map(|v| v.map(float)).collect::<Float64Array>()),
    })
}

#[cfg(test)]
mod tests {
    use super::{Number, OPERATIONS};

    #[test]
    fn results_are_postgresqls() {
        let compute = |name: &str, of: &[Number]| {
            let operation = OPERATIONS.iter().find(|o| o.name == name).expect("listed");
            (operation.compute)(of).ok()
        };
        use Number::{Exact, Float, Whole};
        for (name, of, result) in [
            ("sign", vec![Exact(-25, 1)], Some(Exact(-1, 0))),
            ("sign", vec![Whole(-3)], Some(Float(-1.0))),
            ("sign", vec![Float(0.0)], Some(Float(0.0))),
            ("ceil", vec![Exact(12, 1)], Some(Exact(2, 0))),
            ("ceil", vec![Exact(-12, 1)], Some(Exact(-1, 0))),
            ("floor", vec![Exact(-12, 1)], Some(Exact(-2, 0))),
            ("floor", vec![Float(1.7)], Some(Float(1.0))),
            ("gcd", vec![Whole(12), Whole(-18)], Some(Whole(6))),
            ("gcd", vec![Whole(i64::MIN), Whole(0)], None),
            ("lcm", vec![Whole(4), Whole(6)], Some(Whole(12))),
            ("lcm", vec![Whole(0), Whole(6)], Some(Whole(0))),
            ("factorial", vec![Whole(5)], Some(Exact(120, 0))),
            ("factorial", vec![Whole(-1)], None),
            ("factorial", vec![Whole(40)], None),
            ("div", vec![Exact(75, 1), Whole(2)], Some(Exact(3, 0))),
            ("div", vec![Whole(1), Whole(0)], None),
            ("scale", vec![Exact(1500, 3)], Some(Whole(3))),
            ("min_scale", vec![Exact(1500, 3)], Some(Whole(1))),
        ] {
            assert_eq!(compute(name, &of), result, "{name} {of:?}");
        }
    }
}
