//! Tests of what is refused on the way in; what is taken is tested with the encoder.

use proptest::prelude::*;

use super::*;

fn refused(pg_type: impl Into<PgType>, text: &str) -> (&'static str, String) {
    let error = parameter(pg_type.into(), Format::Text, Some(text.as_bytes())).unwrap_err();
    (error.code().sqlstate(), error.message().to_owned())
}

#[test]
fn wrong_text_is_refused_in_postgresqls_words() {
    for (scalar, text, code, message) in [
        (
            Scalar::Int4,
            "x",
            "22P02",
            "invalid input syntax for type integer: \"x\"",
        ),
        (Scalar::Int4, "", "22P02", "invalid input syntax for type integer: \"\""),
        (
            Scalar::Int4,
            "3000000000",
            "22003",
            "value \"3000000000\" is out of range for type integer",
        ),
        (
            Scalar::Int2,
            "1.5",
            "22P02",
            "invalid input syntax for type smallint: \"1.5\"",
        ),
        (
            Scalar::Bool,
            "o",
            "22P02",
            "invalid input syntax for type boolean: \"o\"",
        ),
        (
            Scalar::Float8,
            "1e999",
            "22003",
            "\"1e999\" is out of range for type double precision",
        ),
        (
            Scalar::Float4,
            "1e-99",
            "22003",
            "\"1e-99\" is out of range for type real",
        ),
        (
            Scalar::Numeric,
            "1,5",
            "22P02",
            "invalid input syntax for type numeric: \"1,5\"",
        ),
        (
            Scalar::Date,
            "soon",
            "22007",
            "invalid input syntax for type date: \"soon\"",
        ),
        (Scalar::Uuid, "1", "22P02", "invalid input syntax for type uuid: \"1\""),
        (Scalar::Json, "{", "22P02", "invalid input syntax for type json"),
        (
            Scalar::Bytea,
            "\\x1",
            "22P02",
            "invalid input syntax for type bytea: \"\\x1\"",
        ),
        (Scalar::Vector, "1,2", "22P02", "invalid input syntax for type vector"),
        (Scalar::Vector, "[1,]", "22P02", "invalid input syntax for type vector"),
        (Scalar::Vector, "[]", "22000", "vector must have at least 1 dimension"),
        (Scalar::Vector, "[NaN]", "22000", "NaN not allowed in vector"),
        (
            Scalar::Vector,
            "[1,inf]",
            "22000",
            "infinite value not allowed in vector",
        ),
        (
            Scalar::Vector,
            "[4e38]",
            "22003",
            "value is out of range for type vector",
        ),
        (
            Scalar::Text,
            "a\0b",
            "22021",
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ),
    ] {
        assert_eq!(refused(scalar, text), (code, message.to_owned()));
    }
    assert_eq!(refused(PgType::Array(Scalar::Int4), "{x}").0, "22P02");
    assert_eq!(
        refused(PgType::Array(Scalar::Int4), "1").1,
        "malformed array literal: \"1\""
    );
    let long = format!("[{}1]", "1,".repeat(limits::VECTOR_DIMENSIONS));
    assert_eq!(refused(Scalar::Vector, &long).0, "54000");
}

#[test]
fn wrong_binary_is_refused() {
    let code = |pg_type: PgType, bytes: &[u8]| {
        parameter(pg_type, Format::Binary, Some(bytes))
            .unwrap_err()
            .code()
            .sqlstate()
    };
    for scalar in [
        Scalar::Int4,
        Scalar::Date,
        Scalar::Interval,
        Scalar::Uuid,
        Scalar::Numeric,
        Scalar::Vector,
    ] {
        assert_eq!(code(scalar.into(), b"xyz"), "22P03", "{scalar:?}");
    }
    assert_eq!(code(Scalar::Jsonb.into(), b"\x02{}"), "22P03");
    assert_eq!(code(Scalar::Text.into(), b"\xff"), "22021");
    assert_eq!(code(Scalar::Vector.into(), b"\0\x01\0\0\x7f\xc0\0\0"), "22000");
    let ints = PgType::Array(Scalar::Int4);
    assert_eq!(
        code(ints, b"\0\0\0\x01\0\0\0\0\0\0\0\x17\x7f\xff\xff\xff\0\0\0\x01"),
        "22P03"
    );
    assert_eq!(code(ints, b"\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\0\0\0\0\x01"), "42804");
    assert_eq!(code(ints, b"\0\0\0\x02\0\0\0\0\0\0\0\x17"), "0A000");
    assert_eq!(code(ints, b"\0\0\0\0\0\0\0\0\0\0\0\x17x"), "22P03");
}

#[test]
fn names_inside_an_array_are_numbers() {
    let array = |text: &str| parameter(PgType::Array(Scalar::Regclass), Format::Text, Some(text.as_bytes()));
    for text in ["{}", "{16384,NULL}"] {
        assert_eq!(
            array(text).unwrap().data_type(),
            &PgType::Array(Scalar::Regclass).arrow(),
            "{text}"
        );
    }
    assert_eq!(array("{docs}").unwrap_err().code().sqlstate(), "22P02");
}

proptest! {
    #[test]
    fn no_bytes_panic(
        scalar in proptest::sample::select(Scalar::ALL),
        array in any::<bool>(),
        binary in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let pg_type = if array { PgType::Array(scalar) } else { PgType::Scalar(scalar) };
        let format = if binary { Format::Binary } else { Format::Text };
        let arrow = match pg_type {
            PgType::Scalar(scalar) if names(scalar) && !binary => DataType::Utf8,
            pg_type => pg_type.arrow(),
        };
        if let Ok(array) = parameter(pg_type, format, Some(&bytes)) {
            prop_assert_eq!(array.len(), 1);
            prop_assert_eq!(array.data_type(), &arrow);
        }
    }
}
