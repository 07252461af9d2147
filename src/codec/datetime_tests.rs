//! Tests of the date and time texts, apart from them to keep both readable.

use proptest::prelude::*;

use super::*;

fn written(put: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    put(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn dates_print_and_read() {
    for (value, text) in [
        (0, "1970-01-01"),
        (EPOCH_DAYS, "2000-01-01"),
        (-719_162, "0001-01-01"),
        (-719_163, "0001-12-31 BC"),
        (2_932_896, "9999-12-31"),
        (2_932_897, "10000-01-01"),
        (i32::MAX, "infinity"),
        (i32::MIN, "-infinity"),
    ] {
        assert_eq!(written(|out| put_date(value, out)), text);
        assert_eq!(date(text), Some(value), "{text}");
    }
    assert_eq!(date("2026-01-01 +01"), Some(20_454));
    assert_eq!(date("2026-01-01T10:00:00Z"), Some(20_454));
    for text in [
        "",
        "2026-13-01",
        "2026-02-29",
        "2026-1",
        "x",
        "2026-01-01 x",
        "0000-01-01",
        "2026-01-01 25:00",
    ] {
        assert_eq!(date(text), None, "{text}");
    }
}

#[test]
fn timestamps_print_and_read() {
    for (value, text) in [
        (0, "1970-01-01 00:00:00"),
        (-1, "1969-12-31 23:59:59.999999"),
        (1_500_000, "1970-01-01 00:00:01.5"),
        (EPOCH_MICROS, "2000-01-01 00:00:00"),
        (i64::MAX, "infinity"),
    ] {
        assert_eq!(written(|out| put_timestamp(value, false, out)), text);
        assert_eq!(timestamp(text, false), Some(value), "{text}");
    }
    assert_eq!(written(|out| put_timestamp(0, true, out)), "1970-01-01 00:00:00+00");
    for text in [
        "1970-01-01 02:00:00+02",
        "1970-01-01T00:00:00.000Z",
        "1969-12-31 18:30:00-0530",
        "1970-01-01",
    ] {
        assert_eq!(timestamp(text, true), Some(0), "{text}");
    }
    assert_eq!(timestamp("1970-01-01 02:00:00+02", false), Some(7_200_000_000));
    assert_eq!(time("12:34:56.5"), Some(45_296_500_000));
    assert_eq!(time("12:34+01"), Some(45_240_000_000));
    assert_eq!(time("24:00:01"), None);
    assert_eq!(written(|out| put_time(45_296_500_000, out)), "12:34:56.5");
}

#[test]
fn intervals_print_as_in_postgresql() {
    for (months, days, micros, text) in [
        (0, 0, 0, "00:00:00"),
        (14, 3, 14_706_700_000, "1 year 2 mons 3 days 04:05:06.7"),
        (0, -1, 7_200_000_000, "-1 days +02:00:00"),
        (-14, 3, 0, "-1 years -2 mons +3 days"),
        (0, 0, -1, "-00:00:00.000001"),
        (0, 1, 0, "1 day"),
    ] {
        let value = Interval { months, days, micros };
        assert_eq!(written(|out| put_interval(value, out)), text);
        assert_eq!(interval(text), Some(value), "{text}");
    }
    let of = |months, days, micros| Some(Interval { months, days, micros });
    assert_eq!(interval("P1Y2M3DT4H5M6.7S"), of(14, 3, 14_706_700_000));
    assert_eq!(interval("1.5 days"), of(0, 1, 43_200_000_000));
    assert_eq!(interval("@ 1 week 2h ago"), of(0, -7, -7_200_000_000));
    assert_eq!(interval("90"), of(0, 0, 90_000_000));
    assert_eq!(interval("P0D"), of(0, 0, 0));
    for text in ["", "P", "1 fortnight", "ago", "1 day ago 2 days", "1e400 days", "PT"] {
        assert_eq!(interval(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn days_come_back(value in -2_000_000_i32..50_000_000) {
        prop_assert_eq!(date(&written(|out| put_date(value, out))), Some(value));
    }

    #[test]
    fn moments_come_back(value in -60_000_000_000_000_000_i64..200_000_000_000_000_000) {
        prop_assert_eq!(timestamp(&written(|out| put_timestamp(value, true, out)), true), Some(value));
    }

    #[test]
    fn intervals_come_back(months in any::<i16>(), days in any::<i16>(), micros in -10_i64.pow(14)..10_i64.pow(14)) {
        let value = Interval { months: months.into(), days: days.into(), micros };
        prop_assert_eq!(interval(&written(|out| put_interval(value, out))), Some(value));
    }

    #[test]
    fn no_text_panics(text in "[-+:. 0-9TZPYMDHSWa-z@\u{e9}]{0,30}") {
        let _ = (date(&text), time(&text), timestamp(&text, true), interval(&text));
    }
}
