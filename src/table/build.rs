//! Arrow columns from stored values.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
        Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder, ListArray, NullArray,
        StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit},
};

use super::row::{Reader, corrupted, kind};
use crate::error::{Error, Result};

/// A column that grows by stored values.
pub(super) enum Builder {
    Null(usize),
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    /// With the scale.
    Decimal(Decimal128Builder, i8),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    List {
        field: FieldRef,
        items: Box<Builder>,
        offsets: Vec<i32>,
        valid: Vec<bool>,
    },
}

/// The same for every variant that wraps one of Arrow's builders.
macro_rules! each {
    ($self:expr, $builder:ident => $do:expr, $null:pat => $for_null:expr, $list:pat => $for_list:expr) => {
        match $self {
            $null => $for_null,
            Self::Bool($builder) => $do,
            Self::Int16($builder) => $do,
            Self::Int32($builder) => $do,
            Self::Int64($builder) => $do,
            Self::Float32($builder) => $do,
            Self::Float64($builder) => $do,
            Self::Decimal($builder, _) => $do,
            Self::Text($builder) => $do,
            Self::Bytes($builder) => $do,
            Self::Date($builder) => $do,
            Self::Time($builder) => $do,
            Self::Timestamp($builder) => $do,
            Self::Interval($builder) => $do,
            $list => $for_list,
        }
    };
}

impl Builder {
    /// An empty column of a type.
    ///
    /// # Errors
    /// [`crate::error::Code::Internal`] for a type that no column has.
    pub fn of(data_type: &DataType, rows: usize) -> Result<Self> {
        Ok(match data_type {
            DataType::Null => Self::Null(0),
            DataType::Boolean => Self::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Int16 => Self::Int16(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Self::Int32(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float32 => Self::Float32(Float32Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            DataType::Decimal128(_, scale) => {
                let builder = Decimal128Builder::with_capacity(rows).with_data_type(data_type.clone());
                Self::Decimal(builder, *scale)
            }
            DataType::Utf8 => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
            DataType::Binary => Self::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
            DataType::Date32 => Self::Date(Date32Builder::with_capacity(rows)),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let builder = TimestampMicrosecondBuilder::with_capacity(rows);
                Self::Timestamp(builder.with_timezone_opt(zone.clone()))
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Self::Interval(IntervalMonthDayNanoBuilder::with_capacity(rows))
            }
            DataType::List(field) => Self::List {
                field: field.clone(),
                items: Box::new(Self::of(field.data_type(), 0)?),
                offsets: vec![0],
                valid: Vec::with_capacity(rows),
            },
            other => return Err(Error::internal(format!("no column is of type {other}"))),
        })
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        each!(self, builder => builder.len(), Self::Null(len) => *len, Self::List { valid, .. } => valid.len())
    }

    /// Appends NULL.
    pub fn push_null(&mut self) {
        each!(
            self,
            builder => builder.append_null(),
            Self::Null(len) => *len += 1,
            Self::List { offsets, valid, .. } => {
                offsets.push(offsets.last().copied().unwrap_or_default());
                valid.push(false);
            }
        );
    }

    /// Appends the value that the reader is at, which must be of the column's type.
    ///
    /// # Errors
    /// [`crate::error::Code::Corrupted`].
    pub fn push(&mut self, kind: u8, from: &mut Reader<'_>) -> Result<()> {
        if kind == kind::NULL {
            self.push_null();
            return Ok(());
        }
        match (self, kind) {
            (Self::Bool(builder), kind::TRUE) => builder.append_value(true),
            (Self::Bool(builder), kind::FALSE) => builder.append_value(false),
            (Self::Int16(builder), kind::INT16) => builder.append_value(i16::from_le_bytes(from.array()?)),
            (Self::Int32(builder), kind::INT32) => builder.append_value(i32::from_le_bytes(from.array()?)),
            (Self::Int64(builder), kind::INT64) => builder.append_value(i64::from_le_bytes(from.array()?)),
            (Self::Float32(builder), kind::FLOAT32) => builder.append_value(f32::from_le_bytes(from.array()?)),
            (Self::Float64(builder), kind::FLOAT64) => builder.append_value(f64::from_le_bytes(from.array()?)),
            (Self::Decimal(builder, scale), kind::DECIMAL) => {
                if from.array()? != [scale.cast_unsigned()] {
                    return Err(corrupted());
                }
                builder.append_value(i128::from_le_bytes(from.array()?));
            }
            (Self::Text(builder), kind::TEXT) => {
                let length = from.length()?;
                builder.append_value(std::str::from_utf8(from.take(length)?).map_err(|_| corrupted())?);
            }
            (Self::Bytes(builder), kind::BYTES) => {
                let length = from.length()?;
                builder.append_value(from.take(length)?);
            }
            (Self::Date(builder), kind::DATE) => builder.append_value(i32::from_le_bytes(from.array()?)),
            (Self::Time(builder), kind::TIME) => builder.append_value(i64::from_le_bytes(from.array()?)),
            (Self::Timestamp(builder), kind::TIMESTAMP) => builder.append_value(i64::from_le_bytes(from.array()?)),
            (Self::Interval(builder), kind::INTERVAL) => builder.append_value(IntervalMonthDayNano::new(
                i32::from_le_bytes(from.array()?),
                i32::from_le_bytes(from.array()?),
                i64::from_le_bytes(from.array()?),
            )),
            (
                Self::List {
                    items, offsets, valid, ..
                },
                kind::LIST,
            ) => {
                for _ in 0..from.length()? {
                    let [kind] = from.array()?;
                    items.push(kind, from)?;
                }
                offsets.push(i32::try_from(items.len()).map_err(Error::internal)?);
                valid.push(true);
            }
            (
                Self::List {
                    items, offsets, valid, ..
                },
                kind::FLOATS,
            ) => {
                let Self::Float32(floats) = &mut **items else {
                    return Err(corrupted());
                };
                let bytes = from.length()?.checked_mul(4).ok_or_else(corrupted)?;
                for float in from.take(bytes)?.as_chunks::<4>().0 {
                    floats.append_value(f32::from_le_bytes(*float));
                }
                offsets.push(i32::try_from(items.len()).map_err(Error::internal)?);
                valid.push(true);
            }
            _ => return Err(corrupted()),
        }
        Ok(())
    }

    /// The column.
    ///
    /// # Errors
    /// [`crate::error::Code::Internal`] when lists do not fit Arrow's form.
    pub fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Null(len) => Arc::new(NullArray::new(len)),
            Self::List {
                field,
                items,
                offsets,
                valid,
            } => {
                let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(ListArray::try_new(field, offsets, items.finish()?, nulls).map_err(Error::internal)?)
            }
            Self::Bool(mut builder) => finished(builder.finish()),
            Self::Int16(mut builder) => finished(builder.finish()),
            Self::Int32(mut builder) => finished(builder.finish()),
            Self::Int64(mut builder) => finished(builder.finish()),
            Self::Float32(mut builder) => finished(builder.finish()),
            Self::Float64(mut builder) => finished(builder.finish()),
            Self::Decimal(mut builder, _) => finished(builder.finish()),
            Self::Text(mut builder) => finished(builder.finish()),
            Self::Bytes(mut builder) => finished(builder.finish()),
            Self::Date(mut builder) => finished(builder.finish()),
            Self::Time(mut builder) => finished(builder.finish()),
            Self::Timestamp(mut builder) => finished(builder.finish()),
            Self::Interval(mut builder) => finished(builder.finish()),
        })
    }
}

fn finished(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}
