//! What COPY says: both spellings of its options, and what is refused.

use super::*;
use crate::sql::guard;

fn parsed(sql: &str) -> Result<Copy> {
    match guard::parse(sql)?.pop().map(|parsed| parsed.kind) {
        Some(Kind::Copy(copy)) => Ok(*copy),
        other => panic!("{sql}: {other:?}"),
    }
}

fn columns() -> Vec<Column> {
    ["a", "b"].map(crate::sql::prepared::text_column).to_vec()
}

fn format(sql: &str) -> Result<CopyFormat> {
    let copy = parsed(sql)?;
    let out = !matches!(copy.what, What::In(..));
    copy.options.format(out, &columns())
}

#[test]
fn both_spellings_say_the_same() {
    for (old, new) in [
        ("copy t from stdin", "COPY t FROM STDIN (FORMAT text)"),
        ("copy t from stdin csv", "COPY t FROM STDIN WITH (FORMAT 'csv')"),
        ("copy binary t to stdout", "COPY t TO STDOUT (FORMAT BINARY)"),
        ("copy t from stdin binary", "COPY t FROM STDIN (FORMAT binary)"),
        (
            "copy t to stdout with csv header delimiter as '|' null as 'x' quote '''' escape E'\\\\'",
            "COPY t TO STDOUT (FORMAT csv, HEADER, DELIMITER '|', NULL 'x', QUOTE $$'$$, ESCAPE '\\')",
        ),
        (
            "copy t to stdout csv force quote b",
            "COPY t TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (b), HEADER off)",
        ),
        (
            "copy t from stdin csv force not null a, b force null a",
            "COPY t FROM STDIN (FORMAT csv, FORCE_NOT_NULL *, FORCE_NULL (a))",
        ),
        (
            "copy t from stdin using delimiters '|'",
            "COPY t FROM STDIN (DELIMITER '|', ENCODING 'UTF-8')",
        ),
        ("copy t from stdin with freeze", "COPY t FROM STDIN WITH (FREEZE on)"),
    ] {
        assert_eq!(format(old).unwrap(), format(new).unwrap(), "{old}");
    }
    let all = format("COPY t FROM STDIN (FORMAT csv, FORCE_NOT_NULL (b), FORCE_NULL *, HEADER match)").unwrap();
    assert_eq!(all.force_not_null, [false, true]);
    assert_eq!(all.force_null, [true, true]);
    assert_eq!(all.header, Header::Match);
}

#[test]
fn names_are_folded_and_quoted_and_never_become_sql() {
    let text = |sql: &str| match parsed(sql).unwrap().what {
        What::Out(query) => query.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        text("COPY Public.T (A, \"B\") TO STDOUT"),
        "SELECT \"a\", \"B\" FROM \"public\".\"t\""
    );
    assert_eq!(text("COPY \"t\"\"; DROP\" TO STDOUT"), "SELECT * FROM \"t\"\"; DROP\"");
}

#[test]
fn a20_nothing_but_the_client_is_an_end() {
    for sql in [
        "COPY t TO '/tmp/x'",
        "COPY (SELECT 1) TO '/tmp/x'",
        "COPY t FROM '/etc/passwd'",
        "COPY t FROM E'/etc/passwd' CSV",
        "COPY t TO $$/tmp/x$$",
        "COPY t TO PROGRAM 'id'",
        "COPY t FROM PROGRAM 'id'",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "COPY t TO 's3://bucket/key'",
    ] {
        assert_eq!(parsed(sql).unwrap_err().code(), Code::InsufficientPrivilege, "{sql}");
    }
}

#[test]
fn what_postgresql_refuses_is_refused_with_its_code() {
    for (sql, code) in [
        ("COPY t", "42601"),
        ("COPY t TO", "42601"),
        ("COPY t FROM STDIN WITH", "00000"),
        ("COPY t FROM STDIN nonsense", "42601"),
        ("COPY t FROM STDIN (nonsense)", "42601"),
        ("COPY t FROM STDIN (FORMAT csv", "42601"),
        ("COPY t FROM STDIN (FORMAT xml)", "22023"),
        ("COPY t FROM STDIN (FORMAT csv, FORMAT text)", "42601"),
        ("COPY t FROM STDIN (HEADER maybe)", "42601"),
        ("COPY t (a, a) FROM STDIN", "42701"),
        ("COPY t FROM STDIN (DELIMITER 'ab')", "0A000"),
        ("COPY t FROM STDIN (DELIMITER E'\\n')", "22023"),
        ("COPY t FROM STDIN (DELIMITER 'a')", "22023"),
        ("COPY t FROM STDIN (NULL E'x\\n')", "22023"),
        ("COPY t FROM STDIN (DELIMITER '|', NULL 'a|b')", "0A000"),
        ("COPY t FROM STDIN (QUOTE '|')", "0A000"),
        ("COPY t FROM STDIN (FORMAT csv, QUOTE ',')", "22023"),
        ("COPY t FROM STDIN (FORMAT csv, NULL '\"')", "0A000"),
        ("COPY t FROM STDIN (FORMAT binary, DELIMITER ',')", "42601"),
        ("COPY t FROM STDIN (FORMAT binary, HEADER)", "0A000"),
        ("COPY t FROM STDIN (FORMAT csv, FORCE_QUOTE *)", "0A000"),
        ("COPY t TO STDOUT (FORMAT csv, FORCE_NULL (a))", "0A000"),
        ("COPY t TO STDOUT (FORMAT csv, FORCE_QUOTE (nosuch))", "42P10"),
        ("COPY t FROM STDIN (FORMAT csv, FORCE_NULL (nosuch))", "42P10"),
        ("COPY t TO STDOUT (FORMAT csv, HEADER match)", "0A000"),
        ("COPY t FROM STDIN (ENCODING 'nosuch')", "22023"),
        ("COPY t FROM STDIN WHERE a > 1", "0A000"),
        ("COPY (SELECT 1) FROM STDIN", "42601"),
        ("COPY (BEGIN) TO STDOUT", "42601"),
        ("COPY (INSERT INTO t VALUES (1)) TO STDOUT", "0A000"),
        ("COPY (CREATE TABLE x (a int)) TO STDOUT", "0A000"),
        ("COPY () TO STDOUT", "42601"),
        ("COPY (SELECT 1 TO STDOUT", "42601"),
    ] {
        let code_of = |result: Result<CopyFormat>| result.map_or_else(|e| e.code().sqlstate(), |_| "00000");
        assert_eq!(code_of(format(sql)), code, "{sql}");
    }
}
