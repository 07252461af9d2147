//! Rows and keys of every type: what goes in comes out, keys sort as PostgreSQL does, damage is told.

use std::cmp::Ordering;

use arrow::{
    array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
        IntervalMonthDayNanoArray, ListArray, Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
    },
    datatypes::{Float32Type, IntervalMonthDayNano},
};
use proptest::prelude::*;

use super::*;
use crate::codec::pgtype::PgType;

/// A table with a column of every type there is, arrays too.
fn every_type() -> TableDef {
    let mut def = note(1);
    let types = Scalar::ALL.iter().flat_map(|&scalar| {
        let array = (scalar.array_oid() != 0).then_some(PgType::Array(scalar));
        [Some(PgType::Scalar(scalar)), array].into_iter().flatten()
    });
    def.columns = (1u16..)
        .zip(types)
        .map(|(id, pg_type)| ColumnDef {
            pg_type,
            ..column(id, &format!("c{id}"), Scalar::Text)
        })
        .collect();
    def.indexes.clear();
    def
}

/// Values of a type, with a NULL among them.
fn some_of(data_type: &arrow::datatypes::DataType, seed: i64) -> ArrayRef {
    use arrow::datatypes::{DataType, TimeUnit};
    let n = |at: i64| {
        seed.wrapping_mul(31)
            .wrapping_add(at)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)
    };
    let numbers = [Some(n(1)), None, Some(n(2)), Some(0), Some(-1)];
    let texts = numbers.map(|n| n.map(|n| format!("é\0{}", "x".repeat(n.unsigned_abs() as usize % 40))));
    match data_type {
        DataType::Null => new_null_array(data_type, numbers.len()),
        DataType::Boolean => Arc::new(BooleanArray::from_iter(numbers.map(|n| n.map(|n| n % 2 == 0)))),
        DataType::Int16 => Arc::new(Int16Array::from_iter(numbers.map(|n| n.map(|n| n as i16)))),
        DataType::Int32 => Arc::new(Int32Array::from_iter(numbers.map(|n| n.map(|n| n as i32)))),
        DataType::Int64 => Arc::new(Int64Array::from_iter(numbers)),
        DataType::Float32 => Arc::new(Float32Array::from_iter(numbers.map(|n| n.map(|n| n as f32 / 3.0)))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(numbers.map(|n| n.map(|n| n as f64 / 3.0)))),
        DataType::Date32 => Arc::new(Date32Array::from_iter(numbers.map(|n| n.map(|n| n as i32)))),
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(Time64MicrosecondArray::from_iter(numbers)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(TimestampMicrosecondArray::from_iter(numbers).with_timezone_opt(zone.clone()))
        }
        DataType::Interval(_) => Arc::new(IntervalMonthDayNanoArray::from_iter(
            numbers.map(|n| n.map(|n| IntervalMonthDayNano::new(n as i32, (n >> 8) as i32, n))),
        )),
        DataType::Decimal128(precision, scale) => {
            let wide = numbers.map(|n| n.map(|n| i128::from(n) * 1_000_003));
            let array = Decimal128Array::from_iter(wide).with_precision_and_scale(*precision, *scale);
            Arc::new(array.expect("a decimal"))
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter(texts)),
        DataType::Binary => Arc::new(BinaryArray::from_iter(texts.map(|text| text.map(String::into_bytes)))),
        DataType::List(item) => {
            let items = some_of(item.data_type(), seed + 1);
            let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 0, 0, 3, 0]);
            let nulls = vec![true, true, false, true, true].into();
            Arc::new(ListArray::new(item.clone(), offsets, items, Some(nulls)))
        }
        other => panic!("no column is of type {other}"),
    }
}

fn columns_of(def: &TableDef, seed: i64) -> Vec<(u16, ArrayRef)> {
    def.columns
        .iter()
        .map(|column| (column.id, some_of(column.field().data_type(), seed)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn rows_of_every_type_come_back(seed: i32) {
        let def = every_type();
        let columns = columns_of(&def, i64::from(seed));
        let rows = encode_all(&columns).expect("rows");
        let again: Vec<Row> = rows.iter().map(|row| Row::from_bytes(row.as_bytes())).collect();
        let ids: Vec<u16> = def.columns.iter().rev().map(|column| column.id).collect();
        let read = decode(&again.iter().collect::<Vec<_>>(), &def, &ids).expect("a batch");
        for ((id, written), read) in columns.iter().rev().zip(read.columns()) {
            prop_assert_eq!(written, read, "column {}", id);
        }
        prop_assert_eq!(encode(&columns, 3).expect("a row"), rows[3].clone());
    }

    #[test]
    fn damaged_rows_are_refused_and_never_panic(seed: i32, cut in 0..400usize, at in 0..4000usize, bits in 1..=255u8) {
        let def = every_type();
        let rows = encode_all(&columns_of(&def, i64::from(seed))).expect("rows");
        let ids: Vec<u16> = def.columns.iter().map(|column| column.id).collect();
        let bytes = rows[0].as_bytes();
        let cut = &bytes[..bytes.len().saturating_sub(cut + 1)];
        let error = decode(&[&Row::from_bytes(cut)], &def, &ids).expect_err("a row that ends early");
        prop_assert_eq!(error.code(), Code::Corrupted);
        let mut turned = bytes.to_vec();
        let place = at % turned.len();
        turned[place] ^= bits;
        if let Err(error) = decode(&[&Row::from_bytes(&turned)], &def, &ids) {
            prop_assert_eq!(error.code(), Code::Corrupted);
        }
    }

    #[test]
    fn keys_sort_as_their_values(a: i64, b: i64, x: f64, y: f64, s: Vec<u8>, t: Vec<u8>, descending: bool, nulls_first: bool) {
        let mut index = index(1, "i", &[1], false);
        (index.keys[0].descending, index.keys[0].nulls_first) = (descending, nulls_first);
        let expect = |array: ArrayRef, order: Ordering| -> std::result::Result<(), TestCaseError> {
            let keys = [0, 1, 2].map(|at| key(std::slice::from_ref(&array), at, &index).expect("a key"));
            let expected = if descending { order.reverse() } else { order };
            prop_assert_eq!(keys[0].0.cmp(&keys[1].0), expected);
            prop_assert!(keys[2].1 && !keys[0].1);
            for (key, _) in &keys[..2] {
                prop_assert_eq!(keys[2].0.cmp(key), if nulls_first { Ordering::Less } else { Ordering::Greater });
            }
            Ok(())
        };
        let float = |x: f64, y: f64| match (x.is_nan(), y.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => x.partial_cmp(&y).expect("numbers"),
        };
        expect(Arc::new(Int64Array::from(vec![Some(a), Some(b), None])), a.cmp(&b))?;
        let small = [a as i16, b as i16];
        expect(Arc::new(Int16Array::from(vec![Some(small[0]), Some(small[1]), None])), small[0].cmp(&small[1]))?;
        expect(Arc::new(Float64Array::from(vec![Some(x), Some(y), None])), float(x, y))?;
        expect(Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(y), None])), float(f64::NAN, y))?;
        expect(Arc::new(Float64Array::from(vec![Some(-0.0), Some(0.0), None])), Ordering::Equal)?;
        expect(Arc::new(BinaryArray::from_opt_vec(vec![Some(&s), Some(&t), None])), s.cmp(&t))?;
        let wide = [i128::from(a) * 7, i128::from(b) * 7];
        expect(Arc::new(Decimal128Array::from(vec![Some(wide[0]), Some(wide[1]), None])), wide[0].cmp(&wide[1]))?;
        let lists = [&s, &t].map(|list| Some(list.iter().map(|&n| Some(f32::from(n))).collect::<Vec<_>>()));
        let [one, other] = lists;
        expect(Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([one, other, None])), s.cmp(&t))?;
    }
}

#[test]
fn keys_of_other_widths_and_equal_intervals_are_equal() {
    let index = index(1, "i", &[1], false);
    let of = |array: ArrayRef| key(&[array], 0, &index).expect("a key").0;
    let wide = of(Arc::new(Int64Array::from(vec![-7])));
    assert_eq!(of(Arc::new(Int16Array::from(vec![-7]))), wide);
    assert_eq!(of(Arc::new(Int32Array::from(vec![-7]))), wide);
    let interval = |months, days| {
        let one = IntervalMonthDayNano::new(months, days, 0);
        of(Arc::new(IntervalMonthDayNanoArray::from(vec![one])))
    };
    assert_eq!(interval(1, 0), interval(0, 30));
    assert!(interval(0, 29) < interval(1, 0));
}

#[test]
fn a_column_that_was_added_has_its_default_in_rows_that_were_there() {
    let mut def = note(1);
    let old = row(1, "old", 5);
    let default: ArrayRef = Arc::new(StringArray::from(vec!["new"]));
    def.columns.push(ColumnDef {
        missing: Some(encode(&[(4, default)], 0).expect("a row").as_bytes().to_vec()),
        ..column(4, "added", Scalar::Text)
    });
    def.columns.push(column(5, "empty", Scalar::Bool));
    def.columns.remove(1);
    let read = decode(&[&old, &old], &def, &[5, 4, 1]).expect("a batch");
    assert_eq!(read.column(1).as_string::<i32>().value(1), "new");
    assert_eq!(read.column(0).null_count(), 2);
    assert_eq!(read.column(2).as_primitive::<Int64Type>().value(0), 1);
    let wrong = encode(&[(4, Arc::new(Int64Array::from(vec![1])) as ArrayRef)], 0).expect("a row");
    def.columns[2].missing = Some(wrong.as_bytes().to_vec());
    assert_eq!(
        decode(&[&old], &def, &[4]).expect_err("another type").code(),
        Code::Corrupted
    );
}
