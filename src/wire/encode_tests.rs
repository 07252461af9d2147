//! Tests of the row encoding: against known bytes, and there and back through [`super::super::decode`].

use std::sync::Arc;

use arrow::{
    array::{
        BinaryArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float32Array, Int64Array,
        LargeStringArray, ListArray, NullArray, StringViewArray, TimestampSecondArray, UInt32Array, UInt64Array,
    },
    datatypes::{Field, Int32Type, Schema},
};
use proptest::prelude::*;

use super::{super::decode, *};

fn cell(pg_type: PgType, format: Format, array: ArrayRef) -> Result<Option<Vec<u8>>> {
    let column = Column {
        name: "c".into(),
        pg_type,
        type_modifier: -1,
        origin: None,
    };
    let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap();
    let mut out = BytesMut::new();
    Rows::new(&[column], &[format], &batch)?.put(0, &mut out)?;
    assert_eq!(out[0], b'D');
    assert_eq!(
        i32::from_be_bytes(out[1..5].try_into().unwrap()) as usize,
        out.len() - 1
    );
    assert_eq!(out[5..7], [0, 1]);
    let length = i32::from_be_bytes(out[7..11].try_into().unwrap());
    Ok((length >= 0).then(|| out[11..11 + length as usize].to_vec()))
}

fn text(scalar: Scalar, array: impl Array + 'static) -> String {
    let bytes = cell(scalar.into(), Format::Text, Arc::new(array)).unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Text in, Arrow, text out; then binary out, Arrow, and the same array again.
fn there_and_back(pg_type: PgType, input: &str, output: &str) {
    let array = decode::parameter(pg_type, Format::Text, Some(input.as_bytes())).unwrap();
    assert_eq!(array.data_type(), &pg_type.arrow(), "{pg_type:?}");
    let text = cell(pg_type, Format::Text, array.clone()).unwrap().unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), output);
    let binary = cell(pg_type, Format::Binary, array.clone()).unwrap().unwrap();
    assert_eq!(
        &decode::parameter(pg_type, Format::Binary, Some(&binary)).unwrap(),
        &array,
        "{pg_type:?}"
    );
}

#[test]
fn every_type_goes_there_and_back() {
    for (scalar, input, output) in [
        (Scalar::Bool, " TRUE", "t"),
        (Scalar::Bytea, "\\xDEad", "\\xdead"),
        (Scalar::Bytea, "a\\\\\\001", "\\x615c01"),
        (Scalar::Char, "r", "r"),
        (Scalar::Name, "docs", "docs"),
        (Scalar::Int8, "-9223372036854775808", "-9223372036854775808"),
        (Scalar::Int2, "7", "7"),
        (Scalar::Int4, "+42", "42"),
        (Scalar::Oid, "4294967295", "4294967295"),
        (Scalar::Text, "\u{e4}", "\u{e4}"),
        (Scalar::Json, "{\"a\": 1}", "{\"a\": 1}"),
        (Scalar::Jsonb, "[1]", "[1]"),
        (Scalar::Float4, "1.5", "1.5"),
        (Scalar::Float8, "-inf", "-Infinity"),
        (Scalar::Varchar, "", ""),
        (Scalar::Date, "2026-01-01", "2026-01-01"),
        (Scalar::Date, "infinity", "infinity"),
        (Scalar::Time, "01:02:03.5", "01:02:03.5"),
        (Scalar::Timestamp, "2026-01-01T10:00:00", "2026-01-01 10:00:00"),
        (Scalar::Timestamptz, "2026-01-01 10:00:00+02", "2026-01-01 08:00:00+00"),
        (Scalar::Timestamptz, "-infinity", "-infinity"),
        (Scalar::Interval, "1 day 2 hours", "1 day 02:00:00"),
        (Scalar::Numeric, "-12345.678900001", "-12345.678900001"),
        (
            Scalar::Uuid,
            "{3DFAC4C0-69a4-4fc8-b02e-f6f78d257ae4}",
            "3dfac4c0-69a4-4fc8-b02e-f6f78d257ae4",
        ),
        (Scalar::Vector, "[1, 2.5,-3e-7]", "[1,2.5,-3e-07]"),
        (Scalar::Halfvec, "[1,2.5]", "[1,2.5]"),
    ] {
        there_and_back(scalar.into(), input, output);
        let null = decode::parameter(scalar.into(), Format::Binary, None).unwrap();
        assert_eq!(cell(scalar.into(), Format::Text, null).unwrap(), None);
    }
    // The name of a type is looked up by the statement that it is sent to.
    let name = decode::parameter(Scalar::Regtype.into(), Format::Text, Some(b"int4")).unwrap();
    assert_eq!(name.data_type(), &arrow::datatypes::DataType::Utf8);
    assert_eq!(
        cell(Scalar::Regtype.into(), Format::Text, name).unwrap().as_deref(),
        Some(&b"int4"[..])
    );
    for (item, input, output) in [
        (Scalar::Int4, "{1,NULL,3}", "{1,NULL,3}"),
        (
            Scalar::Text,
            r#"{a,"b c","","NULL","q\"\\",NULL}"#,
            r#"{a,"b c","","NULL","q\"\\",NULL}"#,
        ),
        (Scalar::Text, "{}", "{}"),
        (
            Scalar::Timestamptz,
            "{\"2026-01-01 00:00:00+00\"}",
            "{\"2026-01-01 00:00:00+00\"}",
        ),
        (Scalar::Vector, "{\"[1,2]\"}", "{\"[1,2]\"}"),
        (
            Scalar::Uuid,
            "{3dfac4c069a44fc8b02ef6f78d257ae4}",
            "{3dfac4c0-69a4-4fc8-b02e-f6f78d257ae4}",
        ),
    ] {
        there_and_back(PgType::Array(item), input, output);
    }
}

#[test]
fn captured_binary_forms() {
    let binary = |scalar: Scalar, input: &str| {
        let array = decode::parameter(scalar.into(), Format::Text, Some(input.as_bytes())).unwrap();
        cell(scalar.into(), Format::Binary, array).unwrap().unwrap()
    };
    assert_eq!(
        binary(Scalar::Vector, "[1,2,3]"),
        *b"\0\x03\0\0\x3f\x80\0\0\x40\0\0\0\x40\x40\0\0"
    );
    assert_eq!(binary(Scalar::Jsonb, "{}"), *b"\x01{}");
    assert_eq!(binary(Scalar::Date, "2026-01-01"), *b"\0\0\x25\x19");
    assert_eq!(binary(Scalar::Halfvec, "[1]"), *b"\0\x01\0\0\x3c\0");
    let array = decode::parameter(PgType::Array(Scalar::Text), Format::Text, Some(b"{a}")).unwrap();
    let bytes = cell(PgType::Array(Scalar::Text), Format::Binary, array)
        .unwrap()
        .unwrap();
    assert_eq!(bytes, *b"\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x01\0\0\0\x01\0\0\0\x01a");
}

#[test]
fn other_arrow_layouts_are_taken() {
    assert_eq!(text(Scalar::Text, StringViewArray::from(vec!["v"])), "v");
    assert_eq!(text(Scalar::Text, LargeStringArray::from(vec!["l"])), "l");
    assert_eq!(
        text(Scalar::Text, ["d"].into_iter().collect::<DictionaryArray<Int32Type>>()),
        "d"
    );
    assert_eq!(text(Scalar::Text, Int64Array::from(vec![5])), "5");
    assert_eq!(text(Scalar::Int4, Int64Array::from(vec![5])), "5");
    assert_eq!(text(Scalar::Oid, UInt32Array::from(vec![u32::MAX])), "4294967295");
    assert_eq!(text(Scalar::Regclass, StringViewArray::from(vec!["docs"])), "docs");
    assert_eq!(
        text(Scalar::Numeric, UInt64Array::from(vec![u64::MAX])),
        "18446744073709551615"
    );
    assert_eq!(
        text(
            Scalar::Uuid,
            FixedSizeBinaryArray::try_from_iter([[0x11; 16]].into_iter()).unwrap()
        ),
        "11111111-1111-1111-1111-111111111111"
    );
    assert_eq!(
        text(Scalar::Timestamp, TimestampSecondArray::from(vec![1])),
        "1970-01-01 00:00:01"
    );
    assert_eq!(text(Scalar::Bytea, BinaryArray::from(vec![&b"\x01"[..]])), "\\x01");
    assert_eq!(text(Scalar::Void, NullArray::new(1)), "");
    assert_eq!(
        cell(PgType::TEXT, Format::Text, Arc::new(NullArray::new(1))).unwrap(),
        None
    );
    let scaled = Decimal128Array::from(vec![150])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(text(Scalar::Numeric, scaled), "1.50");
    for (nano, shown) in [
        (12_345_678_900_000, "12345.6789"),
        (0, "0"),
        (-100_000, "-0.0001"),
        (100_000_000_000, "100"),
    ] {
        let unscaled = Decimal128Array::from(vec![nano])
            .with_precision_and_scale(38, 9)
            .unwrap();
        assert_eq!(text(Scalar::Numeric, unscaled), shown);
    }
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
    assert_eq!(
        cell(PgType::of_arrow(list.data_type()), Format::Text, Arc::new(list))
            .unwrap()
            .unwrap(),
        *b"{1,NULL}"
    );
    let fixed = arrow::array::FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Float32, true)),
        2,
        Arc::new(Float32Array::from(vec![1.0, 2.0])),
        None,
    );
    assert_eq!(text(Scalar::Vector, fixed), "[1,2]");
}

#[test]
fn a_value_that_does_not_fit_is_an_error_and_leaves_no_bytes() {
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
    assert_eq!(
        cell(Scalar::Int4.into(), Format::Text, wide).unwrap_err().code(),
        Code::NumericOutOfRange
    );
    let column = Column {
        name: "c".into(),
        pg_type: Scalar::Uuid.into(),
        type_modifier: -1,
        origin: None,
    };
    let batch = RecordBatch::try_from_iter([("c", Arc::new(StringArray::from(vec!["no"])) as ArrayRef)]).unwrap();
    let rows = Rows::new(&[column], &[Format::Binary], &batch).unwrap();
    let mut out = BytesMut::from(&b"kept"[..]);
    assert!(rows.put(0, &mut out).is_err());
    assert_eq!(out, "kept");
    assert!(Rows::new(&[], &[], &batch).is_err());
}

proptest! {
    #[test]
    fn array_texts_come_back(items in proptest::collection::vec(proptest::option::of(".{0,6}"), 0..6)) {
        prop_assume!(items.iter().flatten().all(|item| !item.contains('\0')));
        let list: ListArray = {
            let strings: StringArray = items.iter().map(Option::as_deref).collect();
            let offsets = arrow::buffer::OffsetBuffer::from_lengths([items.len()]);
            ListArray::new(Arc::new(Field::new("item", DataType::Utf8, true)), offsets, Arc::new(strings), None)
        };
        let array: ArrayRef = Arc::new(list);
        for format in [Format::Text, Format::Binary] {
            let bytes = cell(PgType::Array(Scalar::Text), format, array.clone()).unwrap().unwrap();
            prop_assert_eq!(&decode::parameter(PgType::Array(Scalar::Text), format, Some(&bytes)).unwrap(), &array);
        }
    }
}
