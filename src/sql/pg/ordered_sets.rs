//! Aggregates over values in order that give one of them: `percentile_disc(0.5) WITHIN GROUP (ORDER BY x)` and `mode()`.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, UInt32Array},
    compute::{SortOptions, cast, concat, is_not_null, partition, sort_to_indices, take},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue, plan_err, utils::SingleRowListArrayBuilder},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use super::function::fail;
use crate::error::Code;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// The first value of which at least such a part of all is as small.
    Percentile,
    /// The most frequent value, the first of those.
    Mode,
}

/// Both.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let make = |kind| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(OrderedSet { kind, signature }))
    };
    vec![make(Kind::Percentile), make(Kind::Mode)]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSet {
    kind: Kind,
    signature: Signature,
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Percentile => "percentile_disc",
            Kind::Mode => "mode",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match (self.kind, arguments) {
            (Kind::Percentile, [value, fraction]) if fraction.is_numeric() || fraction.is_null() => {
                Ok(vec![value.clone(), DataType::Float64])
            }
            (Kind::Mode, [value]) => Ok(vec![value.clone()]),
            _ => Err(fail(
                Code::UndefinedFunction,
                format!(
                    "function {} does not exist with these arguments: it needs WITHIN GROUP (ORDER BY ...)",
                    self.name()
                ),
            )),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [value, ..] => Ok(value.clone()),
            [] => plan_err!("{} needs WITHIN GROUP", self.name()),
        }
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        match arguments {
            // With the type that it is in PostgreSQL.
            [value, ..] => Ok(Arc::new(Field::clone(value).with_name(self.name()).with_nullable(true))),
            [] => plan_err!("{} needs WITHIN GROUP", self.name()),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(self.return_type(&types(arguments.input_fields))?, true);
        Ok(vec![Arc::new(Field::new("values", DataType::List(item.into()), true))])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let fraction = match (self.kind, arguments.exprs.get(1)) {
            (Kind::Percentile, Some(fraction)) => {
                let nothing = arrow::array::RecordBatch::new_empty(Arc::new(arguments.schema.clone()));
                let value = match fraction.evaluate(&nothing)? {
                    ColumnarValue::Scalar(value) => value.cast_to(&DataType::Float64)?,
                    ColumnarValue::Array(_) => {
                        return Err(fail(
                            Code::Unsupported,
                            "a percentile that differs from row to row is not supported",
                        ));
                    }
                };
                match value {
                    ScalarValue::Float64(Some(part)) if (0.0..=1.0).contains(&part) => Some(part),
                    ScalarValue::Float64(None) => None,
                    other => {
                        let text = format!("percentile value {other} is not between 0 and 1");
                        return Err(fail(Code::NumericOutOfRange, text));
                    }
                }
            }
            _ => None,
        };
        let Some(order) = arguments.order_bys.first() else {
            let text = format!("WITHIN GROUP is required for ordered-set aggregate {}", self.name());
            return Err(fail(Code::WrongObjectType, text));
        };
        Ok(Box::new(Values {
            kind: self.kind,
            fraction,
            data_type: self.return_type(&types(arguments.expr_fields))?,
            order: SortOptions {
                descending: order.options.descending,
                nulls_first: false,
            },
            pieces: Vec::new(),
        }))
    }
}

fn types(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

/// The values of one group that are not NULL.
#[derive(Debug)]
struct Values {
    kind: Kind,
    fraction: Option<f64>,
    data_type: DataType,
    order: SortOptions,
    pieces: Vec<ArrayRef>,
}

impl Values {
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let there = arrow::compute::filter(values, &is_not_null(values)?)?;
        if !there.is_empty() {
            self.pieces.push(cast(&there, &self.data_type)?);
        }
        Ok(())
    }

    fn all(&self) -> Result<Option<ArrayRef>> {
        let pieces: Vec<&dyn Array> = self.pieces.iter().map(AsRef::as_ref).collect();
        match pieces.is_empty() {
            true => Ok(None),
            false => Ok(Some(concat(&pieces)?)),
        }
    }

    /// The place of the value that is asked for, among these in order.
    fn place(&self, sorted: &ArrayRef) -> Result<Option<usize>> {
        Ok(match (self.kind, self.fraction) {
            (Kind::Percentile, Some(part)) => {
                let place = (part * sorted.len() as f64).ceil() as usize;
                Some(place.clamp(1, sorted.len()) - 1)
            }
            (Kind::Percentile, None) => None,
            (Kind::Mode, _) => {
                let runs = partition(std::slice::from_ref(sorted))?.ranges();
                // The first of the longest ones.
                let longest = runs.iter().rev().max_by_key(|run| run.len());
                longest.map(|run| run.start)
            }
        })
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.first().map_or(Ok(()), |values| self.add(values))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let none = || ScalarValue::try_from(&self.data_type);
        let Some(all) = self.all()? else { return none() };
        let order: UInt32Array = sort_to_indices(&all, Some(self.order), None)?;
        let sorted = take(&all, &order, None)?;
        match self.place(&sorted)? {
            Some(at) => ScalarValue::try_from_array(&sorted, at),
            None => none(),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + self
                .pieces
                .iter()
                .map(|piece| piece.get_array_memory_size())
                .sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let all = match self.all()? {
            Some(all) => all,
            None => arrow::array::new_empty_array(&self.data_type),
        };
        let list = SingleRowListArrayBuilder::new(all).build_list_scalar();
        Ok(vec![list])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states.first().and_then(|states| states.as_list_opt::<i32>()) else {
            return Ok(());
        };
        lists.iter().flatten().try_for_each(|values| self.add(&values))
    }
}
