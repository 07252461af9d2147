//! Making JSON of values: `to_json`, `json_build_object`, `json_agg` and the like, each also as `jsonb`.
//!
//! `json` keeps the order of keys and PostgreSQL's own spacing of each function; `jsonb` is brought into its one form.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, StringArray},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature, TypeSignature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use super::{
    function::fail,
    json::{self, write_text},
    text::Texts,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
    limits::FUNCTION_RESULT_BYTES,
};

/// Writes the JSON of one value of a column.
pub struct Jsons {
    array: ArrayRef,
    pg_type: PgType,
    texts: Texts,
    items: Vec<(String, Jsons)>,
}

impl Jsons {
    /// The column `array` of this type.
    pub fn new(array: &ArrayRef, pg_type: PgType) -> Result<Self> {
        let texts = Texts::new(array, pg_type)?;
        let items = match array.data_type() {
            DataType::List(field) if matches!(pg_type, PgType::Array(_)) || nested(field) => {
                let item = match pg_type {
                    PgType::Array(scalar) if !nested(field) => PgType::Scalar(scalar),
                    _ => PgType::of(field),
                };
                vec![(String::new(), Self::new(array.as_list::<i32>().values(), item)?)]
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                columns
                    .map(|(column, field)| {
                        let name = super::names::shown(field.name()).to_owned();
                        Ok((name, Self::new(column, PgType::of(field))?))
                    })
                    .collect::<Result<_>>()?
            }
            _ => Vec::new(),
        };
        Ok(Self {
            array: array.clone(),
            pg_type,
            texts,
            items,
        })
    }

    /// Appends the JSON of a row.
    pub fn put(&self, row: usize, out: &mut String) -> Result<()> {
        if self.array.is_null(row) || self.array.data_type().is_null() {
            out.push_str("null");
            return Ok(());
        }
        match (self.array.data_type(), &self.items[..]) {
            (DataType::List(_), [(_, items)]) => {
                let list: &ListArray = self.array.as_list::<i32>();
                let (from, to) = (
                    list.value_offsets()[row] as usize,
                    list.value_offsets()[row + 1] as usize,
                );
                out.push('[');
                for at in from..to {
                    if at > from {
                        out.push(',');
                    }
                    items.put(at, out)?;
                }
                out.push(']');
                Ok(())
            }
            (DataType::Struct(_), fields) => {
                out.push('{');
                for (at, (name, column)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    column.put(row, out)?;
                }
                out.push('}');
                Ok(())
            }
            _ => {
                let text = self.texts.text(row)?.unwrap_or_default();
                self.put_text(&text, out);
                Ok(())
            }
        }
    }

    fn put_text(&self, text: &str, out: &mut String) {
        use Scalar::{Bool, Date, Float4, Float8, Int2, Int4, Int8, Json, Jsonb, Numeric, Timestamp, Timestamptz};
        match self.pg_type {
            PgType::Scalar(Json | Jsonb | Bool) => out.push_str(text),
            PgType::Scalar(Int2 | Int4 | Int8 | Numeric | Float4 | Float8) if !text.contains(['N', 'I']) => {
                out.push_str(text);
            }
            PgType::Scalar(Timestamp | Date) => write_text(&text.replacen(' ', "T", 1), out),
            PgType::Scalar(Timestamptz) => {
                let text = text.replacen(' ', "T", 1);
                // ISO 8601 wants minutes in an offset.
                let short = text.rfind(['+', '-']).is_some_and(|at| text.len() - at == 3);
                write_text(&if short { text + ":00" } else { text }, out);
            }
            _ => write_text(text, out),
        }
    }
}

fn nested(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Struct(_) | DataType::List(_)) && field.metadata().is_empty()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shape {
    /// The value itself.
    Value,
    /// `{"k" : v, ...}` of the arguments.
    Object,
    /// `[v, ...]` of the arguments.
    Array,
}

const SCALARS: &[(&str, Shape, Scalar)] = &[
    ("to_json", Shape::Value, Scalar::Json),
    ("to_jsonb", Shape::Value, Scalar::Jsonb),
    ("row_to_json", Shape::Value, Scalar::Json),
    ("array_to_json", Shape::Value, Scalar::Json),
    ("json_build_object", Shape::Object, Scalar::Json),
    ("jsonb_build_object", Shape::Object, Scalar::Jsonb),
    ("json_build_array", Shape::Array, Scalar::Json),
    ("jsonb_build_array", Shape::Array, Scalar::Jsonb),
];

const AGGREGATES: &[(&str, Shape, Scalar)] = &[
    ("json_agg", Shape::Array, Scalar::Json),
    ("jsonb_agg", Shape::Array, Scalar::Jsonb),
    ("json_object_agg", Shape::Object, Scalar::Json),
    ("jsonb_object_agg", Shape::Object, Scalar::Jsonb),
];

/// The scalar functions.
pub fn scalars() -> Vec<Arc<ScalarUDF>> {
    let make = |&(name, shape, to): &(&'static str, Shape, Scalar)| {
        Arc::new(ScalarUDF::new_from_impl(Make { name, shape, to }))
    };
    SCALARS.iter().map(make).collect()
}

/// The aggregates.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let make = |&(name, shape, to): &(&'static str, Shape, Scalar)| {
        let arguments = if shape == Shape::Object { 2 } else { 1 };
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(Gather {
            name,
            shape,
            to,
            signature,
        }))
    };
    AGGREGATES.iter().map(make).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Make {
    name: &'static str,
    shape: Shape,
    to: Scalar,
}

impl Hash for Make {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

static ANY: LazyLock<Signature> = LazyLock::new(|| {
    Signature::one_of(
        vec![TypeSignature::Nullary, TypeSignature::VariadicAny],
        Volatility::Immutable,
    )
});

/// A value as the text that a key of an object is.
fn key(texts: &Texts, row: usize) -> Result<String> {
    texts
        .text(row)?
        .ok_or_else(|| fail(Code::InvalidParameterValue, "null value not allowed for object key"))
}

fn finished(made: String, to: Scalar) -> Result<String> {
    match to {
        Scalar::Jsonb => json::canonical(&made).map_err(|e| DataFusionError::External(Box::new(e))),
        _ => Ok(made),
    }
}

impl ScalarUDFImpl for Make {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &ANY
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(PgType::from(self.to).field(self.name, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { arguments.number_rows };
        let mut columns = Vec::with_capacity(arguments.args.len());
        for (value, field) in arguments.args.iter().zip(&arguments.arg_fields) {
            columns.push(Jsons::new(&value.to_array(rows)?, PgType::of(field))?);
        }
        let wrong = |message: &str| Err(fail(Code::InvalidParameterValue, message));
        match (self.shape, columns.len()) {
            (Shape::Value, 0) => return wrong("a value is missing"),
            (Shape::Object, n) if n % 2 == 1 => return wrong("argument list must have even number of elements"),
            _ => {}
        }
        let row = |row: usize| -> Result<Option<String>> {
            let mut out = String::new();
            match self.shape {
                Shape::Value => {
                    if columns[0].array.is_null(row) {
                        return Ok(None);
                    }
                    columns[0].put(row, &mut out)?;
                }
                Shape::Array => {
                    out.push('[');
                    for (at, column) in columns.iter().enumerate() {
                        out.push_str(if at == 0 { "" } else { ", " });
                        column.put(row, &mut out)?;
                    }
                    out.push(']');
                }
                Shape::Object => {
                    out.push('{');
                    for (at, pair) in columns.chunks_exact(2).enumerate() {
                        out.push_str(if at == 0 { "" } else { ", " });
                        write_text(&key(&pair[0].texts, row)?, &mut out);
                        out.push_str(" : ");
                        pair[1].put(row, &mut out)?;
                    }
                    out.push('}');
                }
            }
            finished(out, self.to).map(Some)
        };
        let output: StringArray = (0..rows).map(row).collect::<Result<_>>()?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(output))),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Gather {
    name: &'static str,
    shape: Shape,
    to: Scalar,
    signature: Signature,
}

impl AggregateUDFImpl for Gather {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field(&self, _: &[FieldRef]) -> Result<FieldRef> {
        Ok(Arc::new(PgType::from(self.to).field(self.name, true)))
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Field::new("made", DataType::Utf8, true).into()])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let types = arguments.expr_fields.iter().map(|f| PgType::of(f)).collect();
        Ok(Box::new(Gathered {
            shape: self.shape,
            to: self.to,
            types,
            made: None,
        }))
    }
}

#[derive(Debug)]
struct Gathered {
    shape: Shape,
    to: Scalar,
    types: Vec<PgType>,
    made: Option<String>,
}

impl Gathered {
    fn between(&mut self) -> &mut String {
        match &mut self.made {
            Some(made) => {
                made.push_str(", ");
                made
            }
            none => none.insert(String::new()),
        }
    }
}

impl Accumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let of = |at: usize| self.types.get(at).copied().unwrap_or(PgType::TEXT);
        let columns = values
            .iter()
            .enumerate()
            .map(|(at, array)| Jsons::new(array, of(at)))
            .collect::<Result<Vec<_>>>()?;
        let rows = values.first().map_or(0, |array| array.len());
        let shape = self.shape;
        for row in 0..rows {
            let made = self.between();
            match (shape, &columns[..]) {
                (Shape::Object, [name, value]) => {
                    write_text(&key(&name.texts, row)?, made);
                    made.push_str(" : ");
                    value.put(row, made)?;
                }
                (_, [value, ..]) => value.put(row, made)?,
                _ => {}
            }
            if made.len() as u64 > FUNCTION_RESULT_BYTES {
                return Err(fail(Code::TooLarge, "the aggregated JSON is too large"));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for part in states
            .iter()
            .filter_map(|s| s.as_string_opt::<i32>())
            .flatten()
            .flatten()
        {
            self.between().push_str(part);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let whole = self.made.take().map(|made| match self.shape {
            Shape::Object => format!("{{ {made} }}"),
            _ => format!("[{made}]"),
        });
        let whole = whole.map(|whole| finished(whole, self.to)).transpose()?;
        Ok(ScalarValue::Utf8(whole))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Utf8(self.made.take())])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.made.as_ref().map_or(0, String::capacity)
    }
}
