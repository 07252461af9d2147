//! What goes out comes in again, and what PostgreSQL would not read is refused in its words.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::{
    codec::pgtype::{PgType, Scalar},
    limits,
    sql::Header,
    wire::{encode, text_rows},
};

type Row = Vec<Option<String>>;

fn columns(types: &[Scalar]) -> Vec<Column> {
    let column = |(name, scalar): (char, &Scalar)| Column {
        name: name.to_string(),
        pg_type: PgType::Scalar(*scalar),
        type_modifier: -1,
        origin: None,
    };
    ('a'..).zip(types).map(column).collect()
}

/// A format of so many columns.
fn format(kind: CopyKind, width: usize) -> CopyFormat {
    let csv = kind == CopyKind::Csv;
    CopyFormat {
        kind,
        delimiter: if csv { b',' } else { b'\t' },
        null: if csv { "" } else { "\\N" }.to_owned(),
        header: Header::No,
        quote: b'"',
        escape: b'"',
        force_quote: vec![false; width],
        force_not_null: vec![false; width],
        force_null: vec![false; width],
    }
}

/// Reads pieces of input; rows as text.
fn read(columns: &[Column], format: &CopyFormat, pieces: &[&[u8]]) -> Result<Vec<Row>> {
    let mut parser = Parser::new("t", columns, format.clone());
    let mut rows = Vec::new();
    let drain = |parser: &mut Parser, rows: &mut Vec<Row>| -> Result<()> {
        while let Some(batch) = parser.batch()? {
            rows.extend(text_rows(columns, &batch)?);
        }
        Ok(())
    };
    for piece in pieces {
        parser.push(&Bytes::copy_from_slice(piece))?;
        drain(&mut parser, &mut rows)?;
    }
    parser.finish();
    drain(&mut parser, &mut rows)?;
    Ok(rows)
}

/// The same input whole and byte by byte must be read alike.
fn both(columns: &[Column], format: &CopyFormat, input: &[u8]) -> Result<Vec<Row>> {
    let whole = read(columns, format, &[input]);
    let single: Vec<&[u8]> = input.chunks(1).collect();
    let pieces = read(columns, format, &single);
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (Err(whole), Err(pieces)) => {
            assert_eq!((whole.message(), whole.context()), (pieces.message(), pieces.context()))
        }
        _ => panic!("{whole:?} and {pieces:?}"),
    }
    whole
}

fn texts(rows: &[&[Option<&str>]]) -> Vec<Row> {
    let row = |row: &&[Option<&str>]| row.iter().map(|v| v.map(str::to_owned)).collect();
    rows.iter().map(row).collect()
}

/// SQLSTATE, message and context.
fn refused(types: &[Scalar], format: &CopyFormat, input: &[u8]) -> (&'static str, String, String) {
    let error = both(&columns(types), format, input).unwrap_err();
    let context = error.context().unwrap_or_default().to_owned();
    (error.code().sqlstate(), error.message().to_owned(), context)
}

const TEXT2: &[Scalar] = &[Scalar::Text, Scalar::Text];

#[test]
fn text_is_read_as_postgresql_reads_it() {
    let format = format(CopyKind::Text, 2);
    for (input, expected) in [
        (
            &b"a\tb\n\\N\t\\\\N\n"[..],
            texts(&[&[Some("a"), Some("b")], &[None, Some("\\N")]]),
        ),
        (b"a\tb", texts(&[&[Some("a"), Some("b")]])),
        (b"\t\n", texts(&[&[Some(""), Some("")]])),
        (
            b"x\\ty\t\\b\\f\\n\\r\\v\\\\\n",
            texts(&[&[Some("x\ty"), Some("\u{8}\u{c}\n\r\u{b}\\")]]),
        ),
        (b"\\101\\x42\\xg\t\\q\\.\n", texts(&[&[Some("ABxg"), Some("q.")]])),
        (b"a\\\nb\tc\n", texts(&[&[Some("a\nb"), Some("c")]])),
        (b"a\\\tb\tc\n", texts(&[&[Some("a\tb"), Some("c")]])),
        (b"a\tb\n\\.\nrubbish\tof\tany\tkind", texts(&[&[Some("a"), Some("b")]])),
        (
            b"a\tb\r\nc\td\r\n",
            texts(&[&[Some("a"), Some("b")], &[Some("c"), Some("d")]]),
        ),
        (
            b"a\tb\rc\td\r",
            texts(&[&[Some("a"), Some("b")], &[Some("c"), Some("d")]]),
        ),
        (b"a\t\xc3\xa4\n", texts(&[&[Some("a"), Some("ä")]])),
        (b"\\.\n", texts(&[])),
        (b"", texts(&[])),
    ] {
        let rows = both(&columns(TEXT2), &format, input).unwrap();
        assert_eq!(rows, expected, "{:?}", String::from_utf8_lossy(input));
    }
    // A line without anything is an empty value where there is one column.
    let one = both(&columns(&[Scalar::Text]), &format, b"\n\n").unwrap();
    assert_eq!(one, texts(&[&[Some("")], &[Some("")]]));
}

#[test]
fn csv_is_read_as_postgresql_reads_it() {
    let plain = format(CopyKind::Csv, 2);
    for (input, expected) in [
        (
            &b"a,b\n,\"\"\n"[..],
            texts(&[&[Some("a"), Some("b")], &[None, Some("")]]),
        ),
        (b"\"a\"\"b\",\"c,\nd\"\n", texts(&[&[Some("a\"b"), Some("c,\nd")]])),
        (b"x\"y\"z,\" q \"\n", texts(&[&[Some("xyz"), Some(" q ")]])),
        (b"a\\n,\\N\n", texts(&[&[Some("a\\n"), Some("\\N")]])),
        (
            b"\"a\r\nb\",c\r\nd,e\r\n",
            texts(&[&[Some("a\r\nb"), Some("c")], &[Some("d"), Some("e")]]),
        ),
        (b"a,b\n\\.\nc", texts(&[&[Some("a"), Some("b")]])),
        (b"\\.x,b\n", texts(&[&[Some("\\.x"), Some("b")]])),
    ] {
        let rows = both(&columns(TEXT2), &plain, input).unwrap();
        assert_eq!(rows, expected, "{:?}", String::from_utf8_lossy(input));
    }
    let other = CopyFormat {
        delimiter: b';',
        quote: b'\'',
        escape: b'\\',
        null: "NIL".to_owned(),
        force_not_null: vec![true, false],
        force_null: vec![false, true],
        ..plain.clone()
    };
    let input = b"NIL;NIL\n'NIL';'NIL'\n'it\\'s \\\\ \\n';'a''b'\n";
    let expected = texts(&[
        &[Some("NIL"), None],
        &[Some("NIL"), None],
        &[Some("it's \\ \\n"), Some("ab")],
    ]);
    assert_eq!(both(&columns(TEXT2), &other, input).unwrap(), expected);
    let headed = CopyFormat {
        header: Header::Yes,
        ..plain.clone()
    };
    assert_eq!(
        both(&columns(TEXT2), &headed, b"x,y,z\n1,2\n").unwrap(),
        texts(&[&[Some("1"), Some("2")]])
    );
    let matched = CopyFormat {
        header: Header::Match,
        ..plain
    };
    assert_eq!(
        both(&columns(TEXT2), &matched, b"a,b\n1,2\n").unwrap(),
        texts(&[&[Some("1"), Some("2")]])
    );
    assert_eq!(
        refused(TEXT2, &matched, b"a\n1,2\n").1,
        "wrong number of fields in header line: got 1, expected 2"
    );
    assert_eq!(
        refused(TEXT2, &matched, b"a,c\n1,2\n").1,
        "column name mismatch in header line field 2: got \"c\", expected \"b\""
    );
}

#[test]
fn what_is_no_row_is_refused_in_postgresqls_words() {
    let text = format(CopyKind::Text, 2);
    let csv = format(CopyKind::Csv, 2);
    let types = &[Scalar::Int4, Scalar::Text];
    for (format, input, code, message, context) in [
        (
            &text,
            &b"1\ta\n2\n"[..],
            "22P04",
            "missing data for column \"b\"",
            "COPY t, line 2: \"2\"",
        ),
        (
            &text,
            b"1\ta\tx\n",
            "22P04",
            "extra data after last expected column",
            "COPY t, line 1: \"1\ta\tx\"",
        ),
        (
            &text,
            b"1\ta\nx\tb\n",
            "22P02",
            "invalid input syntax for type integer: \"x\"",
            "COPY t, line 2, column a: \"x\"",
        ),
        (
            &text,
            b"1\ta\n3000000000\tb\n",
            "22003",
            "value \"3000000000\" is out of range for type integer",
            "COPY t, line 2, column a: \"3000000000\"",
        ),
        (
            &text,
            b"1\ta\n2\tb\r\n",
            "22P04",
            "literal carriage return found in data",
            "COPY t, line 2",
        ),
        (
            &text,
            b"1\ta\r\n2\tb\n",
            "22P04",
            "literal newline found in data",
            "COPY t, line 2",
        ),
        (
            &text,
            b"\\.x\n",
            "22P04",
            "end-of-copy marker corrupt",
            "COPY t, line 1",
        ),
        (
            &text,
            b"1\ta\r\n\\.\n",
            "22P04",
            "end-of-copy marker does not match previous newline style",
            "COPY t, line 2",
        ),
        (
            &csv,
            b"1,\"a\n2,b\n",
            "22P04",
            "unterminated CSV quoted field",
            "COPY t, line 3: \"1,\"a\n2,b\n\"",
        ),
        (
            &csv,
            b"1,a\n2,\"b\r\"\r\n",
            "22P04",
            "unquoted carriage return found in data",
            "COPY t, line 2",
        ),
        (
            &csv,
            b"\"1\n\",a\nx,b\n",
            "22P02",
            "invalid input syntax for type integer: \"x\"",
            "COPY t, line 3, column a: \"x\"",
        ),
        (
            &text,
            b"1\t\xff\n",
            "22021",
            "invalid byte sequence for encoding \"UTF8\": 0xff",
            "COPY t, line 1, column b: \"\u{fffd}\"",
        ),
        (
            &text,
            b"1\ta\\000\n",
            "22021",
            "invalid byte sequence for encoding \"UTF8\": 0x00",
            "COPY t, line 1, column b: \"a\0\"",
        ),
    ] {
        let expected = (code, message.to_owned(), context.to_owned());
        assert_eq!(
            refused(types, format, input),
            expected,
            "{:?}",
            String::from_utf8_lossy(input)
        );
    }
    // The first wrong row is told, whichever column is read first.
    let two = refused(&[Scalar::Int4, Scalar::Int4], &text, b"1\tx\ny\t2\n");
    assert_eq!(two.2, "COPY t, line 1, column b: \"x\"");
    let long = [b"1\ta\n", &b"x".repeat(300)[..], b"\tb\n"].concat();
    assert!(refused(types, &text, &long).2.ends_with("xxx...\""));
    let large = vec![b'x'; limits::COPY_ROW_BYTES + 1];
    let error = read(&columns(TEXT2), &text, &[&large, b"y"]).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
}

fn binary(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut bytes = out::BINARY_HEADER.to_vec();
    for row in rows {
        bytes.extend((row.len() as i16).to_be_bytes());
        for value in *row {
            bytes.extend(value.map_or(-1, |v| v.len() as i32).to_be_bytes());
            bytes.extend(value.unwrap_or_default());
        }
    }
    bytes
}

#[test]
fn binary_is_read_and_broken_binary_is_not() {
    let format = format(CopyKind::Binary, 2);
    let types = &[Scalar::Int4, Scalar::Text];
    let good = binary(&[&[Some(&[0, 0, 0, 7]), Some(b"x")], &[None, None]]);
    let expected = texts(&[&[Some("7"), Some("x")], &[None, None]]);
    for end in [&b""[..], b"\xff\xff"] {
        let input = [&good[..], end].concat();
        assert_eq!(both(&columns(types), &format, &input).unwrap(), expected);
    }
    let header = out::BINARY_HEADER;
    let with = |from: usize, bytes: &[u8]| {
        let mut header = header.to_vec();
        header[from..from + bytes.len()].copy_from_slice(bytes);
        header
    };
    for (input, message) in [
        (b"1\ta\n".to_vec(), "COPY file signature not recognized"),
        (vec![], "COPY file signature not recognized"),
        (header[..15].to_vec(), "COPY file signature not recognized"),
        (with(11, &[0, 1, 0, 0]), "invalid COPY file header (WITH OIDS)"),
        (
            with(11, &[0, 2, 0, 0]),
            "unrecognized critical flags in COPY file header",
        ),
        (
            with(15, &[255, 255, 255, 255]),
            "invalid COPY file header (missing length)",
        ),
        (with(15, &[0, 0, 0, 4]), "unexpected EOF in COPY data"),
        (binary(&[&[None]]), "row field count is 1, expected 2"),
        ([&good[..], b"\0"].concat(), "unexpected EOF in COPY data"),
        (good[..good.len() - 1].to_vec(), "unexpected EOF in COPY data"),
        (
            [&good[..], b"\xff\xff\0"].concat(),
            "received copy data after EOF marker",
        ),
        (
            [&header[..], b"\0\x02\xff\xff\xff\xfe"].concat(),
            "invalid field size in column \"a\"",
        ),
    ] {
        let (code, told, _) = refused(types, &format, &input);
        assert_eq!((code, told.as_str()), ("22P04", message), "{input:?}");
    }
    let short = binary(&[&[Some(&[0, 7]), None]]);
    let (code, _, context) = refused(types, &format, &short);
    assert_eq!((code, context.as_str()), ("22P03", "COPY t, line 1, column a"));
    let large = [&header[..], b"\0\x02\x7f\xff\xff\xff"].concat();
    assert_eq!(refused(types, &format, &large).0, "54000");
}

#[test]
fn a_header_may_be_longer_and_its_extension_is_skipped() {
    let mut input = out::BINARY_HEADER.to_vec();
    input[18] = 3;
    input.extend(b"abc\0\x01\0\0\0\x01x");
    let rows = both(&columns(&[Scalar::Text]), &format(CopyKind::Binary, 1), &input).unwrap();
    assert_eq!(rows, texts(&[&[Some("x")]]));
}

/// The CopyData of rows of text.
fn written(format: &CopyFormat, columns: &[Column], rows: &[Row]) -> Vec<Vec<u8>> {
    let width = columns.len();
    let array = |c: usize| Arc::new(rows.iter().map(|r| r[c].as_deref()).collect::<StringArray>()) as ArrayRef;
    let batch = RecordBatch::try_from_iter((0..width).map(|c| (columns[c].name.clone(), array(c)))).unwrap();
    let each = if format.kind == CopyKind::Binary {
        Format::Binary
    } else {
        Format::Text
    };
    let prepared = encode::Rows::new(columns, &vec![each; width], &batch).unwrap();
    let mut encoder = Encoder::new(format.clone(), columns);
    let mut out = BytesMut::new();
    let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    encoder.begin(&names, &mut out).unwrap();
    (0..rows.len()).for_each(|row| encoder.put(&prepared, row, &mut out).unwrap());
    encoder.end(&mut out).unwrap();
    let mut messages = Vec::new();
    let mut rest = &out[..];
    while let [b'd', a, b, c, d, tail @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        messages.push(tail[..length].to_vec());
        rest = &tail[length..];
    }
    assert!(rest.is_empty());
    messages
}

#[test]
fn what_is_written_is_what_postgresql_writes() {
    let rows = texts(&[
        &[Some("plain"), None],
        &[Some("tab\t\\ and\nline\r\u{8}"), Some("")],
        &[Some("a,\"b\""), Some("\\N")],
    ]);
    let lines = |format: &CopyFormat| String::from_utf8(written(format, &columns(TEXT2), &rows).concat()).unwrap();
    let text = format(CopyKind::Text, 2);
    assert_eq!(
        lines(&text),
        "plain\t\\N\ntab\\t\\\\ and\\nline\\r\\b\t\na,\"b\"\t\\\\N\n"
    );
    let csv = format(CopyKind::Csv, 2);
    assert_eq!(
        lines(&csv),
        "plain,\n\"tab\t\\ and\nline\r\u{8}\",\"\"\n\"a,\"\"b\"\"\",\\N\n"
    );
    let forced = CopyFormat {
        header: Header::Yes,
        force_quote: vec![true, false],
        null: "nil".to_owned(),
        escape: b'\\',
        ..csv
    };
    assert_eq!(
        lines(&forced),
        "a,b\n\"plain\",nil\n\"tab\t\\\\ and\nline\r\u{8}\",\n\"a,\\\"b\\\"\",\\N\n"
    );
    let binary = format(CopyKind::Binary, 2);
    let messages = written(&binary, &columns(TEXT2), &rows);
    assert!(
        messages[0].starts_with(b"PGCOPY\n\xff\r\n\0") && messages[0].len() > 19,
        "with the first row"
    );
    assert_eq!(messages.last().unwrap(), &[0xff, 0xff]);
    // `\.` alone on a line would end the data.
    let one = written(
        &format(CopyKind::Csv, 1),
        &columns(&[Scalar::Text]),
        &texts(&[&[Some("\\.")]]),
    );
    assert_eq!(one.concat(), b"\"\\.\"\n");
}

proptest! {
    #[test]
    fn what_goes_out_comes_in_again(
        kind in proptest::sample::select(vec![CopyKind::Text, CopyKind::Csv, CopyKind::Binary]),
        rows in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of("[ab,;\"'\\\\.Nn\t\r\n\u{e4}]{0,6}"), 3),
            0..8,
        ),
        piece in 1..9_usize,
        odd in any::<bool>(),
    ) {
        let columns = columns(&[Scalar::Text, Scalar::Varchar, Scalar::Text]);
        let mut format = format(kind, 3);
        if odd && kind == CopyKind::Csv {
            format.delimiter = b';';
            format.quote = b'\'';
            format.escape = b'\\';
        }
        let bytes = written(&format, &columns, &rows).concat();
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        let back = read(&columns, &format, &pieces).unwrap();
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn c29_no_bytes_panic(
        kind in proptest::sample::select(vec![CopyKind::Text, CopyKind::Csv, CopyKind::Binary]),
        bytes in proptest::collection::vec(proptest::sample::select(b"\\.N1,\"\t\r\n\0\xff\xc3".to_vec()), 0..60),
        headed in any::<bool>(),
    ) {
        let columns = columns(&[Scalar::Int4, Scalar::Text]);
        let bytes = match (kind, headed) {
            (CopyKind::Binary, true) => [&out::BINARY_HEADER[..], &bytes].concat(),
            _ => bytes,
        };
        let _ = read(&columns, &format(kind, 2), &[&bytes]);
    }
}
