//! DataFusion's and Arrow's errors in PostgreSQL's words and codes.
//!
//! Our own errors travel through DataFusion as `External` and come out as they went in. What is
//! left is told apart by type, and by text only where DataFusion has no type for it. Texts never
//! list columns or functions the user did not name.

use datafusion::{arrow::error::ArrowError, common::SchemaError, error::DataFusionError};

use crate::error::{Code, Error};

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

/// What the user is told.
pub(super) fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => external(inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_datafusion(*inner),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => from_datafusion(first),
            None => Error::internal("an empty collection of errors"),
        },
        DataFusionError::Shared(inner) => shared(&inner),
        DataFusionError::ArrowError(inner, _) => from_arrow(*inner),
        DataFusionError::SchemaError(inner, _) => from_schema(&inner),
        DataFusionError::ResourcesExhausted(_) => out_of_memory(),
        DataFusionError::NotImplemented(text) => not_implemented(&text),
        DataFusionError::Plan(text) => from_plan(&text),
        DataFusionError::Execution(text) => from_execution(&text),
        DataFusionError::SQL(inner, _) => {
            Error::new(Code::Syntax, format!("syntax error: {}", short(&inner.to_string())))
        }
        DataFusionError::Configuration(text) => Error::new(Code::InvalidParameterValue, short(&text)),
        DataFusionError::Internal(text) => from_internal(&text),
        other => Error::internal(other),
    }
}

fn external(inner: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match inner.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(inner) => match inner.downcast::<DataFusionError>() {
            Ok(wrapped) => from_datafusion(*wrapped),
            Err(inner) => match inner.downcast::<ArrowError>() {
                Ok(arrow) => from_arrow(*arrow),
                // The optimizer compiles constant patterns with a crate of its own.
                Err(other) if other.to_string().starts_with("regex parse error") => invalid_regex(),
                Err(other) => Error::internal(other),
            },
        },
    }
}

/// An error that several partitions share can only be looked at.
fn shared(inner: &DataFusionError) -> Error {
    match inner {
        DataFusionError::External(e) => match e.downcast_ref::<Error>() {
            Some(ours) => ours.copy(),
            None => Error::internal(e),
        },
        DataFusionError::Context(_, e) | DataFusionError::Diagnostic(_, e) => shared(e),
        DataFusionError::Shared(e) => shared(e),
        DataFusionError::ArrowError(e, _) => arrow_text(e),
        DataFusionError::ResourcesExhausted(_) => out_of_memory(),
        DataFusionError::Execution(text) => from_execution(text),
        DataFusionError::Plan(text) => from_plan(text),
        DataFusionError::NotImplemented(text) => not_implemented(text),
        other => Error::internal(other),
    }
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(200).collect()
}

fn out_of_memory() -> Error {
    Error::new(Code::OutOfMemory, "this tenant's query memory is used up")
        .with_hint("read fewer rows or columns at once, or wait for other statements to end")
}

fn not_implemented(text: &str) -> Error {
    let known = [
        "Unsupported binary operator",
        "Unsupported ast node",
        "Unsupported SQL type",
    ];
    match known.iter().find(|k| text.starts_with(**k)) {
        Some(what) => Error::new(Code::Unsupported, what.replace("ast node", "syntax").to_owned()),
        None => Error::new(Code::Unsupported, short(text)),
    }
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            if let Some(table) = &field.relation
                && !valid_fields
                    .iter()
                    .any(|valid| valid.relation.as_ref().is_some_and(|r| r.table() == table.table()))
            {
                let text = format!("missing FROM-clause entry for table \"{}\"", table.table());
                return Error::new(Code::UndefinedTable, text);
            }
            let name = match &field.relation {
                Some(relation) => format!("{}.{}", relation.table(), field.name),
                None => format!("\"{}\"", field.name),
            };
            Error::new(Code::UndefinedColumn, format!("column {name} does not exist"))
        }
        SchemaError::AmbiguousReference { field } => Error::new(
            Code::AmbiguousColumn,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(
                Code::DuplicateColumn,
                format!("column \"{name}\" is specified more than once"),
            )
            .with_hint("give the columns different names with AS")
        }
    }
}

fn from_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => external(inner),
        other => arrow_text(&other),
    }
}

fn arrow_text(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new(Code::DivisionByZero, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => out_of_range(),
        ArrowError::CastError(text) | ArrowError::ParseError(text) => cast(text),
        ArrowError::InvalidArgumentError(text) | ArrowError::ComputeError(text) => from_execution(text),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.copy(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(e) => shared(e),
                None => Error::internal(inner),
            },
        },
        ArrowError::NotYetImplemented(text) => not_implemented(text),
        ArrowError::MemoryError(_) => out_of_memory(),
        other => Error::internal(other),
    }
}

fn out_of_range() -> Error {
    Error::new(Code::NumericOutOfRange, "value out of range")
}

/// Arrow's cast errors name the value: it is the user's own row or literal, which they may read.
fn cast(text: &str) -> Error {
    let value = text.split('\'').nth(1).map(short);
    let kind = text
        .rsplit("value of ")
        .next()
        .and_then(|t| t.split_whitespace().next())
        .unwrap_or_default();
    let kind = kind.strip_suffix(" type").unwrap_or(kind);
    let (name, code) = match kind.trim_end_matches(',') {
        "Int8" | "Int16" => ("smallint", Code::InvalidText),
        "Int32" => ("integer", Code::InvalidText),
        "Int64" | "UInt64" => ("bigint", Code::InvalidText),
        "Float32" => ("real", Code::InvalidText),
        "Float64" => ("double precision", Code::InvalidText),
        "Boolean" | "boolean" => ("boolean", Code::InvalidText),
        t if t.starts_with("Date") => ("date", Code::InvalidDatetime),
        t if t.starts_with("Time") => ("timestamp", Code::InvalidDatetime),
        t if t.starts_with("Decimal") => ("numeric", Code::InvalidText),
        _ if text.contains("imestamp") => ("timestamp", Code::InvalidDatetime),
        _ if text.contains("nterval") => ("interval", Code::InvalidDatetime),
        _ if ["out of range", "overflow", "Can't cast value"]
            .iter()
            .any(|w| text.contains(w)) =>
        {
            return out_of_range();
        }
        _ => return Error::new(Code::InvalidText, "a value cannot be converted to the wanted type"),
    };
    let numeric = |v: &str| v.contains(|c: char| c.is_ascii_digit()) && !v.contains(|c: char| c.is_alphabetic());
    match value {
        // `2024-13-45` has the form of a date, and is none.
        Some(v) if name == "date" && numeric(&v) && v.split('-').count() == 3 => Error::new(
            Code::DatetimeOverflow,
            format!("date/time field value out of range: \"{v}\""),
        ),
        // A number that exists but does not fit is another mistake than one that is no number.
        Some(v) if name.ends_with("int") | (name == "integer") && v.trim().parse::<i128>().is_ok() => Error::new(
            Code::NumericOutOfRange,
            format!("value \"{v}\" is out of range for type {name}"),
        ),
        Some(v) => Error::new(code, format!("invalid input syntax for type {name}: \"{v}\"")),
        None if text.contains("out of range") || text.contains("overflow") || text.contains("Can't cast value") => {
            Error::new(Code::NumericOutOfRange, format!("{name} out of range"))
        }
        None => Error::new(code, format!("invalid input syntax for type {name}")),
    }
}

fn invalid_regex() -> Error {
    Error::new(Code::InvalidRegex, "invalid regular expression")
}

fn from_execution(text: &str) -> Error {
    let lower = text.to_lowercase();
    let has = |word: &str| lower.contains(word);
    if has("divide by zero") || has("division by zero") {
        return Error::new(Code::DivisionByZero, "division by zero");
    }
    if has("overflow") || has("out of range") {
        return out_of_range();
    }
    if has("regex") || has("regular expression") {
        return invalid_regex();
    }
    if has("timestamp") || has("parsing date") || has("date part") {
        return Error::new(Code::InvalidDatetime, short(text));
    }
    if has("subquery") && (has("more than one row") || has("returned more")) {
        return Error::new(
            Code::CardinalityViolation,
            "more than one row returned by a subquery used as an expression",
        );
    }
    if has("no value found for placeholder") || has("placeholder") {
        return Error::new(Code::UndefinedParameter, short(text));
    }
    Error::new(Code::DataException, short(text))
}

fn from_plan(text: &str) -> Error {
    if text.contains("Step cannot be zero") {
        return Error::new(Code::InvalidParameterValue, "step size cannot equal zero");
    }
    let quoted = || text.split('\'').nth(1).map(short).unwrap_or_default();
    let has = |word: &str| text.contains(word);
    if has("Invalid function") {
        return Error::new(Code::UndefinedFunction, format!("function {} does not exist", quoted()))
            .with_hint("\\df lists the functions; check the number and types of the arguments");
    }
    if has("coerc")
        || has("No function matches")
        || has("does not support zero arguments")
        || has("expects") && has("argument")
    {
        return Error::new(
            Code::UndefinedFunction,
            "no function or operator matches the given argument types",
        )
        .with_hint("add explicit casts");
    }
    if has("must be in the GROUP BY clause")
        || has("must appear in the GROUP BY")
        || has("could not be resolved from available columns")
    {
        return Error::new(
            Code::GroupingError,
            "a column must appear in the GROUP BY clause or be used in an aggregate function",
        );
    }
    if has("Aggregate functions are not allowed in the WHERE clause") {
        return Error::new(Code::GroupingError, "aggregate functions are not allowed in WHERE");
    }
    if has("Aggregate function calls cannot be nested") {
        return Error::new(Code::GroupingError, "aggregate function calls cannot be nested");
    }
    if has("For SELECT DISTINCT, ORDER BY expressions") {
        return Error::new(
            Code::InvalidColumnReference,
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
        );
    }
    if has("Order by column out of bounds") {
        let place: String = text
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        return Error::new(
            Code::InvalidColumnReference,
            format!("ORDER BY position {place} is not in select list"),
        );
    }
    if has("laceholder") {
        return Error::new(
            Code::DatatypeMismatch,
            "could not determine the data type of a parameter",
        )
        .with_hint("add a cast such as $1::text");
    }
    if has("Column count doesn't match") || has("number of columns") || has("columns in") {
        return Error::new(Code::Syntax, "the numbers of columns and of values differ");
    }
    if has("require unique expression names") || has("duplicate") {
        return Error::new(Code::DuplicateColumn, "two columns have one name").with_hint("rename one with AS");
    }
    if has("not found") && has("able") {
        return Error::new(
            Code::UndefinedTable,
            format!("relation \"{}\" does not exist", quoted()),
        );
    }
    if has("Unsupported") || has("not supported") || has("not yet supported") || has("only supported") {
        return Error::new(Code::Unsupported, short(text));
    }
    if has("convert") || has("cast") || has("Cannot") || has("type") {
        return Error::new(Code::DatatypeMismatch, short(text));
    }
    Error::new(Code::Syntax, short(text))
}

/// A few of DataFusion's internal errors are users' mistakes; the rest is a defect and says no more.
fn from_internal(text: &str) -> Error {
    if text.contains("async functions should not be called directly") {
        return Error::new(Code::Unsupported, "this function cannot be called here")
            .with_hint("call it in the SELECT list or in FROM");
    }
    Error::internal(text)
}
