//! Rows by column name into Arrow: what the catalog relations and functions hand out.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
        ListArray, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::{DataType, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type},
    error::ArrowError,
    util::display::array_value_to_string,
};

use super::builtin::Relation;
use crate::codec::pgtype::{PgType, Scalar};

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer of any width, or an OID, or microseconds since 1970.
    Int(i64),
    /// A float of any width.
    Float(f64),
    /// Text of any type that is text in Arrow.
    Text(String),
    /// An array.
    List(Vec<Value>),
}

macro_rules! values {
    ($( $from:ty => |$v:ident| $to:expr; )*) => { $( impl From<$from> for Value { fn from($v: $from) -> Self { $to } } )* };
}

values! {
    bool => |v| Self::Bool(v);
    i16 => |v| Self::Int(v.into());
    i32 => |v| Self::Int(v.into());
    i64 => |v| Self::Int(v);
    f32 => |v| Self::Float(v.into());
    &str => |v| Self::Text(v.to_owned());
    &String => |v| Self::Text(v.clone());
    String => |v| Self::Text(v);
    char => |v| Self::Text(v.to_string());
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

/// Rows of one relation in the making.
pub struct Rows {
    relation: &'static Relation,
    columns: Vec<Vec<Value>>,
    count: usize,
}

impl Rows {
    /// No rows of this relation.
    pub fn of(relation: &'static Relation) -> Self {
        Self {
            relation,
            columns: relation.columns.iter().map(|_| Vec::new()).collect(),
            count: 0,
        }
    }

    /// Adds a row. A column not named is NULL, or the zero of its type where it is NOT NULL. Names
    /// are found fastest in the order of the columns; a name that does not exist is left out.
    pub fn add(&mut self, values: &[(&str, Value)]) {
        let columns = &self.relation.columns;
        let mut at = 0;
        for (name, value) in values {
            let found = (at..columns.len()).chain(0..at).find(|&i| columns[i].name == *name);
            debug_assert!(found.is_some(), "{} has no column {name}", self.relation.name);
            if let Some(i) = found {
                self.columns[i].push(value.clone());
                at = i + 1;
            }
        }
        self.count += 1;
        for (column, values) in columns.iter().zip(&mut self.columns) {
            if values.len() < self.count {
                values.push(if column.not_null {
                    zero(column.pg_type)
                } else {
                    Value::Null
                });
            }
        }
    }

    /// The rows as one batch.
    pub fn finish(self) -> Result<RecordBatch, ArrowError> {
        let columns = self.relation.columns.iter().zip(&self.columns);
        let arrays = columns.map(|(c, values)| array(c.pg_type, values)).collect();
        RecordBatch::try_new(self.relation.arrow.clone(), arrays)
    }
}

fn zero(pg_type: PgType) -> Value {
    match pg_type {
        PgType::Array(_) => Value::List(Vec::new()),
        PgType::Scalar(Scalar::Bool) => Value::Bool(false),
        PgType::Scalar(Scalar::Float4 | Scalar::Float8) => Value::Float(0.0),
        PgType::Scalar(s) if s.vector_item().is_some() => Value::List(Vec::new()),
        PgType::Scalar(s) if s.arrow() == DataType::Utf8 => Value::Text(String::new()),
        PgType::Scalar(_) => Value::Int(0),
    }
}

/// The values as an array in the Arrow type of this PostgreSQL type. A value that is not of the
/// type is NULL: the callers are ours.
pub fn array(pg_type: PgType, values: &[Value]) -> ArrayRef {
    let int = |v: &Value| match v {
        Value::Int(i) => Some(*i),
        _ => None,
    };
    let float = |v: &Value| match v {
        Value::Float(f) => Some(*f),
        Value::Int(i) => Some(*i as f64),
        _ => None,
    };
    match pg_type.arrow() {
        DataType::Boolean => {
            let bool = |v: &Value| if let Value::Bool(b) = v { Some(*b) } else { None };
            Arc::new(values.iter().map(bool).collect::<BooleanArray>())
        }
        DataType::Int16 => Arc::new(values.iter().map(|v| int(v)?.try_into().ok()).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(values.iter().map(|v| int(v)?.try_into().ok()).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(values.iter().map(int).collect::<Int64Array>()),
        DataType::Float32 => Arc::new(
            values
                .iter()
                .map(|v| float(v).map(|f| f as f32))
                .collect::<Float32Array>(),
        ),
        DataType::Float64 => Arc::new(values.iter().map(float).collect::<Float64Array>()),
        DataType::Timestamp(_, zone) => {
            let times: TimestampMicrosecondArray = values.iter().map(int).collect();
            Arc::new(times.with_timezone_opt(zone))
        }
        DataType::Utf8 => {
            let text = |v: &'_ Value| if let Value::Text(t) = v { Some(t.clone()) } else { None };
            Arc::new(values.iter().map(text).collect::<StringArray>())
        }
        DataType::List(item) => list(pg_type, item, values),
        other => new_null_array(&other, values.len()),
    }
}

fn list(pg_type: PgType, item: Arc<Field>, values: &[Value]) -> ArrayRef {
    let element = match pg_type {
        PgType::Array(scalar) => PgType::Scalar(scalar),
        PgType::Scalar(scalar) => PgType::Scalar(scalar.vector_item().unwrap_or(Scalar::Float4)),
    };
    let elements: Vec<Value> = values
        .iter()
        .filter_map(|v| if let Value::List(l) = v { Some(l) } else { None })
        .flatten()
        .cloned()
        .collect();
    let lengths = values.iter().map(|v| if let Value::List(l) = v { l.len() } else { 0 });
    let nulls: NullBuffer = values.iter().map(|v| matches!(v, Value::List(_))).collect();
    Arc::new(ListArray::new(
        item,
        OffsetBuffer::from_lengths(lengths),
        array(element, &elements),
        Some(nulls),
    ))
}

/// One value of an array. Types that have no [`Value`] of their own are read as their text.
pub fn read(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let int = || array.as_primitive_opt::<Int64Type>().map(|a| a.value(row));
    match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Value::from(array.as_string_view().value(row)),
        DataType::Int16 => Value::from(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Value::from(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => int().into(),
        DataType::Float32 => Value::from(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => elements(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => elements(array.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => elements(array.as_fixed_size_list().value(row).as_ref()),
        other if other.is_integer() => match cast(&array.slice(row, 1), &DataType::Int64) {
            Ok(one) => read(one.as_ref(), 0),
            Err(_) => Value::Null,
        },
        _ => array_value_to_string(array, row).ok().into(),
    }
}

fn elements(array: &dyn Array) -> Value {
    Value::List((0..array.len()).map(|i| read(array, i)).collect())
}
