//! `sum` and `avg` as PostgreSQL types them: the average of integers is numeric, the sum of bigints is numeric, and both
//! take pgvector's vectors. Everything else is DataFusion's own function.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Float32Array, ListArray},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type},
};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue, plan_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use super::function::fail;
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sum,
    Average,
}

/// The function as PostgreSQL has it, where it differs.
pub fn typed(udf: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let kind = match udf.name() {
        "sum" => Kind::Sum,
        "avg" => Kind::Average,
        _ => return udf,
    };
    Arc::new(AggregateUDF::new_from_impl(Typed {
        kind,
        inner: udf,
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug)]
struct Typed {
    kind: Kind,
    inner: Arc<AggregateUDF>,
    signature: Signature,
}

impl PartialEq for Typed {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Typed {}

impl Hash for Typed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

fn is_vector(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(item) if item.data_type() == &DataType::Float32)
}

fn takes_vectors(arguments: &AccumulatorArgs) -> bool {
    arguments.expr_fields.first().is_some_and(|f| is_vector(f.data_type()))
}

fn takes_int4(arguments: &AccumulatorArgs) -> bool {
    let first = arguments.expr_fields.first();
    first.is_some_and(|f| *f.data_type() == DataType::Int32)
}

/// Four-byte integers as eight-byte ones.
fn widened(values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let wide = |values: &ArrayRef| match values.data_type() {
        DataType::Int32 => Ok(cast(values, &DataType::Int64)?),
        _ => Ok(values.clone()),
    };
    values.iter().map(wide).collect()
}

/// A sum of `int4` in 64 bits.
#[derive(Debug)]
struct Widened(Box<dyn Accumulator>);

impl Accumulator for Widened {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(&widened(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(&widened(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }
}

/// The same for groups.
struct WidenedGroups(Box<dyn GroupsAccumulator>);

impl GroupsAccumulator for WidenedGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.0.update_batch(&widened(values)?, groups, filter, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.0.evaluate(emit)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.0.merge_batch(states, groups, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(&widened(values)?, filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

impl AggregateUDFImpl for Typed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = arguments else {
            return plan_err!("{} takes one argument", self.name());
        };
        // An average has four digits more than what is averaged: sixteen, as PostgreSQL's mostly do.
        let wanted = match (self.kind, argument) {
            (_, vector) if is_vector(vector) => vector.clone(),
            (Kind::Average, DataType::Int16 | DataType::Int32) => DataType::Decimal128(22, 12),
            (Kind::Average, DataType::Int64) => DataType::Decimal128(31, 12),
            (Kind::Average, DataType::Decimal128(precision, scale)) if *scale < 12 => {
                DataType::Decimal128((precision + (12 - scale).unsigned_abs()).min(38), 12)
            }
            (Kind::Sum, DataType::Int64 | DataType::UInt64) => DataType::Decimal128(20, 0),
            // Left as it is and widened when it is added: were it made an int8 here, the next look would take it for one.
            (Kind::Sum, DataType::Int8 | DataType::Int16 | DataType::Int32) => DataType::Int32,
            (_, DataType::Float32 | DataType::Null) => DataType::Float64,
            (Kind::Average, other) if other.is_integer() => DataType::Decimal128(31, 12),
            (_, DataType::Float64 | DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Duration(_)) => {
                argument.clone()
            }
            (Kind::Sum, DataType::Interval(_)) => argument.clone(),
            _ => {
                let name = super::types::format_type(PgType::of_arrow(argument).oid().cast_signed(), -1);
                let message = format!("function {}({}) does not exist", self.name(), name.unwrap_or_default());
                return Err(DataFusionError::External(Box::new(
                    crate::error::Error::new(Code::UndefinedFunction, message).with_hint(
                        "No function matches the given name and argument types. You might need to add explicit type \
                         casts.",
                    ),
                )));
            }
        };
        Ok(vec![wanted])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [vector] if is_vector(vector) => Ok(vector.clone()),
            [DataType::Int8 | DataType::Int16 | DataType::Int32] if self.kind == Kind::Sum => Ok(DataType::Int64),
            _ => self.inner.return_type(&self.coerce_types(arguments)?),
        }
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        match arguments {
            [vector] if is_vector(vector.data_type()) => {
                let of = match PgType::of(vector) {
                    half @ PgType::Scalar(Scalar::Halfvec) => half,
                    _ => Scalar::Vector.into(),
                };
                Ok(Arc::new(of.field(self.name(), true)))
            }
            _ => {
                let types: Vec<DataType> = arguments.iter().map(|f| f.data_type().clone()).collect();
                Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
            }
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if arguments.input_fields.first().is_some_and(|f| is_vector(f.data_type())) {
            let sums = Field::new("item", DataType::Float64, true);
            return Ok(vec![
                Field::new("sums", DataType::List(sums.into()), true).into(),
                Field::new("rows", DataType::Int64, true).into(),
            ]);
        }
        self.inner.state_fields(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if takes_vectors(&arguments) {
            return Ok(Box::new(Vectors {
                kind: self.kind,
                sums: Vec::new(),
                rows: 0,
            }));
        }
        let widened = takes_int4(&arguments);
        let made = self.inner.accumulator(arguments)?;
        Ok(if widened { Box::new(Widened(made)) } else { made })
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs) -> bool {
        !takes_vectors(&arguments) && self.inner.groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let widened = takes_int4(&arguments);
        let made = self.inner.create_groups_accumulator(arguments)?;
        Ok(if widened { Box::new(WidenedGroups(made)) } else { made })
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if takes_vectors(&arguments) {
            return self.accumulator(arguments);
        }
        let widened = takes_int4(&arguments);
        let made = self.inner.create_sliding_accumulator(arguments)?;
        Ok(if widened { Box::new(Widened(made)) } else { made })
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Sums by dimension, in 64 bits.
#[derive(Debug)]
struct Vectors {
    kind: Kind,
    sums: Vec<f64>,
    rows: i64,
}

impl Vectors {
    fn add(&mut self, values: impl ExactSizeIterator<Item = f64>, rows: i64) -> Result<()> {
        if self.rows == 0 {
            self.sums = values.collect();
        } else if values.len() == self.sums.len() {
            self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        } else {
            return Err(fail(
                Code::DataException,
                format!("different vector dimensions {} and {}", self.sums.len(), values.len()),
            ));
        }
        self.rows += rows;
        Ok(())
    }
}

fn list<T: Array + 'static>(values: T) -> ListArray {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    ListArray::new(field, offsets, Arc::new(values), None)
}

impl Accumulator for Vectors {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(lists) = values.first().and_then(|v| v.as_list_opt::<i32>()) else {
            return Ok(());
        };
        for vector in lists.iter().flatten() {
            let vector = vector.as_primitive::<Float32Type>();
            self.add(vector.values().iter().map(|v| f64::from(*v)), 1)?;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [sums, rows] = states else { return Ok(()) };
        for (sums, rows) in sums
            .as_list::<i32>()
            .iter()
            .zip(rows.as_primitive::<Int64Type>().iter())
        {
            if let (Some(sums), Some(rows @ 1..)) = (sums, rows) {
                self.add(sums.as_primitive::<Float64Type>().values().iter().copied(), rows)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.rows == 0 {
            return ScalarValue::try_from(&Scalar::Vector.arrow());
        }
        let divisor = match self.kind {
            Kind::Sum => 1.0,
            Kind::Average => self.rows as f64,
        };
        let values: Vec<f32> = self.sums.iter().map(|sum| (sum / divisor) as f32).collect();
        if values.iter().any(|v| v.is_infinite()) {
            return Err(fail(Code::NumericOutOfRange, "value out of range: overflow"));
        }
        Ok(ScalarValue::List(Arc::new(list(Float32Array::from(values)))))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sums = arrow::array::Float64Array::from(std::mem::take(&mut self.sums));
        Ok(vec![
            ScalarValue::List(Arc::new(list(sums))),
            ScalarValue::Int64(Some(self.rows)),
        ])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.capacity() * size_of::<f64>()
    }
}
