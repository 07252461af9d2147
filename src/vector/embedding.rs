//! `Vec<f32>` becomes [`Embedding`] at the door: of a sane length, every number finite.

use std::fmt;
use std::sync::Arc;

use crate::error::{Code, Error, Result};
use crate::limits;

/// Characters of a wrong literal that an error repeats.
const ECHO_CHARS: usize = 40;

/// A vector that may be stored and compared: 1 to [`limits::VECTOR_DIMENSIONS`] finite numbers.
/// Cloning shares the numbers.
#[derive(Clone, PartialEq)]
pub struct Embedding(Arc<[f32]>);

impl Embedding {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Code::DataException`] when there are none, or one is NaN or infinite; [`Code::TooLarge`]
    /// above [`limits::VECTOR_DIMENSIONS`]. The texts are pgvector's.
    pub fn new(values: impl Into<Arc<[f32]>>) -> Result<Self> {
        let values = values.into();
        if values.is_empty() {
            return Err(Error::new(Code::DataException, "vector must have at least 1 dimension"));
        }
        if values.len() > limits::VECTOR_DIMENSIONS {
            return Err(too_many());
        }
        for value in values.iter() {
            if value.is_nan() {
                return Err(Error::new(Code::DataException, "NaN not allowed in vector"));
            }
            if value.is_infinite() {
                return Err(Error::new(Code::DataException, "infinite value not allowed in vector"));
            }
        }
        Ok(Self(values))
    }

    /// The same vector, if it has this many dimensions.
    ///
    /// # Errors
    /// [`Code::DataException`] `expected 3 dimensions, not 2`.
    pub fn with_dimensions(self, expected: usize) -> Result<Self> {
        check_dimensions(expected, self.dimensions())?;
        Ok(self)
    }

    /// How many numbers.
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Four bytes a number, little-endian: the form in which a vector is stored.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// The opposite of [`Embedding::to_le_bytes`].
    ///
    /// # Errors
    /// [`Code::DataException`] when the bytes are not whole numbers, and as [`Embedding::new`].
    pub fn from_le_bytes(bytes: &[u8]) -> Result<Self> {
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(Error::new(
                Code::DataException,
                "a vector's bytes must be a multiple of 4",
            ));
        }
        Self::new(
            numbers
                .iter()
                .map(|number| f32::from_le_bytes(*number))
                .collect::<Vec<_>>(),
        )
    }
}

/// [`Code::DataException`] `expected 3 dimensions, not 2`, unless they are the same.
pub(super) fn check_dimensions(expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::new(
        Code::DataException,
        format!("expected {expected} dimensions, not {got}"),
    ))
}

impl fmt::Debug for Embedding {
    /// The length only: a vector is a tenant's data and has no place in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedding({} dimensions)", self.dimensions())
    }
}

impl fmt::Display for Embedding {
    /// `[1,2.5,-3e-07]`, as PostgreSQL prints a vector.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "[" } else { "," })?;
            write_real(*value, f)?;
        }
        f.write_str("]")
    }
}

/// A number as PostgreSQL's `real` prints it: the shortest digits that read back the same, with
/// an exponent of at least two digits below 1e-4 and from 1e6.
fn write_real(value: f32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) {
        return write!(f, "{value}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => write!(f, "{digits}e-{exponent:0>2}"),
            None => write!(f, "{digits}e+{exponent:0>2}"),
        },
        None => f.write_str(&text),
    }
}

/// Reads pgvector's literal, `[1,2,3]`, with white space allowed around every part.
///
/// # Errors
/// [`Code::InvalidText`] for anything else, [`Code::NumericOutOfRange`] for a number beyond
/// `real`, and as [`Embedding::new`].
pub fn parse_vector(text: &str) -> Result<Embedding> {
    let syntax = |detail: &'static str| {
        let message = format!("invalid input syntax for type vector: \"{}\"", echo(text));
        let error = Error::new(Code::InvalidText, message);
        if detail.is_empty() {
            error
        } else {
            error.with_detail(detail)
        }
    };
    let Some(inner) = text.trim_ascii().strip_prefix('[') else {
        return Err(syntax("Vector contents must start with \"[\"."));
    };
    let Some((inner, after)) = inner.split_once(']') else {
        return Err(syntax("Unexpected end of input."));
    };
    if !after.is_empty() {
        return Err(syntax("Junk after closing right brace."));
    }
    if inner.trim_ascii().is_empty() {
        return Embedding::new(Vec::new());
    }
    let mut values = Vec::new();
    for part in inner.split(',') {
        if values.len() == limits::VECTOR_DIMENSIONS {
            return Err(too_many());
        }
        let part = part.trim_ascii();
        let value: f32 = part.parse().map_err(|_| syntax(""))?;
        if value.is_infinite() && part.contains(|c: char| c.is_ascii_digit()) {
            let message = format!("\"{}\" is out of range for type vector", echo(part));
            return Err(Error::new(Code::NumericOutOfRange, message));
        }
        values.push(value);
    }
    Embedding::new(values)
}

fn too_many() -> Error {
    let message = format!("vector cannot have more than {} dimensions", limits::VECTOR_DIMENSIONS);
    Error::new(Code::TooLarge, message)
}

/// The beginning of a text, for an error: enough to recognise it, never megabytes of it.
fn echo(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Code, String) {
        let error = parse_vector(text).unwrap_err();
        (error.code(), error.message().to_owned())
    }

    #[test]
    fn literals_are_read_and_printed_as_postgresql_does() {
        for (text, printed) in [
            ("[1,2,3]", "[1,2,3]"),
            (" [ 1.50 ,\t-2e3,.25 ]\n", "[1.5,-2000,0.25]"),
            (
                "[1000000,123456,1e-5,1e-4,-0,3.4e38]",
                "[1e+06,123456,1e-05,0.0001,-0,3.4e+38]",
            ),
            ("[1e-60]", "[0]"),
        ] {
            let vector = parse_vector(text).unwrap();
            assert_eq!(vector.to_string(), printed, "{text}");
            assert_eq!(Embedding::from_le_bytes(&vector.to_le_bytes()).unwrap(), vector);
        }
    }

    #[test]
    fn wrong_literals_have_pgvectors_errors() {
        for text in [
            "", "1,2", "[1,2", "[1,2]3", "[1,,2]", "[,]", "[a]", "[1 2]", "{1}", "[[1]]", "[1,]",
        ] {
            let (code, message) = refused(text);
            assert_eq!(code, Code::InvalidText, "{text}");
            assert_eq!(message, format!("invalid input syntax for type vector: \"{text}\""));
        }
        assert_eq!(
            refused("[]"),
            (Code::DataException, "vector must have at least 1 dimension".into())
        );
        assert_eq!(
            refused("[1,NaN]"),
            (Code::DataException, "NaN not allowed in vector".into())
        );
        assert_eq!(
            refused("[-inf]"),
            (Code::DataException, "infinite value not allowed in vector".into())
        );
        assert_eq!(
            refused("[4e38]"),
            (
                Code::NumericOutOfRange,
                "\"4e38\" is out of range for type vector".into()
            )
        );
        let long = format!("[{}1]", "1,".repeat(limits::VECTOR_DIMENSIONS));
        assert_eq!(
            refused(&long),
            (Code::TooLarge, "vector cannot have more than 16000 dimensions".into())
        );
        assert!(refused(&"é".repeat(1 << 20)).1.len() < 200);
    }

    #[test]
    fn lengths_are_checked() {
        let vector = Embedding::new(vec![1.0, 2.0]).unwrap();
        let error = vector.clone().with_dimensions(3).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::DataException, "expected 3 dimensions, not 2")
        );
        assert!(vector.with_dimensions(2).is_ok());
        assert_eq!(
            Embedding::from_le_bytes(&[0; 5]).unwrap_err().code(),
            Code::DataException
        );
    }
}
