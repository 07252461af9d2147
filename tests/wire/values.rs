//! Every type, as text and in binary, both ways. The bytes are PostgreSQL's and pgvector's.

use crate::common::canary::hex;
use crate::common::raw::{Raw, bind, cells, code, columns, describe, execute, parse, text_rows};
use crate::{T, served};

/// Type, OID, a literal of it, its text as PostgreSQL prints it, its binary form in hexadecimal.
#[rustfmt::skip]
const VALUES: &[(&str, u32, &str, &str, &str)] = &[
    ("bool", 16, "true", "t", "01"),
    ("bool", 16, "f", "f", "00"),
    ("int2", 21, "-2", "-2", "fffe"),
    ("int4", 23, "1", "1", "00000001"),
    ("int4", 23, "-2147483648", "-2147483648", "80000000"),
    ("int8", 20, "1099511627776", "1099511627776", "0000010000000000"),
    ("int8", 20, "9223372036854775807", "9223372036854775807", "7fffffffffffffff"),
    ("float4", 700, "1.5", "1.5", "3fc00000"),
    ("float4", 700, "1e-10", "1e-10", "2edbe6ff"),
    ("float8", 701, "-2.25", "-2.25", "c002000000000000"),
    ("float8", 701, "1e+100", "1e+100", "54b249ad2594c37d"),
    ("float8", 701, "NaN", "NaN", "7ff8000000000000"),
    ("float8", 701, "-Infinity", "-Infinity", "fff0000000000000"),
    ("numeric", 1700, "12345.6789", "12345.6789", "0003000100000004000109291a85"),
    ("numeric", 1700, "0", "0", "0000000000000000"),
    ("numeric", 1700, "-0.0001", "-0.0001", "0001ffff400000040001"),
    ("numeric", 1700, "100", "100", "00010000000000000064"),
    ("text", 25, "häh", "häh", "68c3a468"),
    ("text", 25, "", "", ""),
    ("varchar", 1043, "vc", "vc", "7663"),
    ("bytea", 17, "\\xdeadbeef", "\\xdeadbeef", "deadbeef"),
    ("bytea", 17, "\\x", "\\x", ""),
    ("date", 1082, "2000-01-02", "2000-01-02", "00000001"),
    ("date", 1082, "1969-12-31", "1969-12-31", "ffffd532"),
    ("time", 1083, "00:00:01.5", "00:00:01.5", "000000000016e360"),
    ("timestamp", 1114, "2000-01-01 00:00:01", "2000-01-01 00:00:01", "00000000000f4240"),
    ("timestamptz", 1184, "2000-01-01 00:00:01+00", "2000-01-01 00:00:01+00", "00000000000f4240"),
    ("timestamptz", 1184, "2000-01-01 02:00:01.25+02", "2000-01-01 00:00:01.25+00", "00000000001312d0"),
    ("interval", 1186, "1 month 2 days 3 seconds", "1 mon 2 days 00:00:03", "00000000002dc6c00000000200000001"),
    ("uuid", 2950, "6F9619FF-8b86-d011-b42d-00c04fc964ff", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "6f9619ff8b86d011b42d00c04fc964ff"),
    ("json", 114, "{\"b\":1,  \"a\":2}", "{\"b\":1,  \"a\":2}", "7b2262223a312c20202261223a327d"),
    ("jsonb", 3802, "{\"b\":1}", "{\"b\": 1}", "017b2262223a20317d"),
    ("int4[]", 1007, "{1,NULL,2}", "{1,NULL,2}", "00000001000000010000001700000003000000010000000400000001ffffffff0000000400000002"),
    ("text[]", 1009, "{a,\"b c\"}", "{a,\"b c\"}", "0000000100000000000000190000000200000001000000016100000003622063"),
    ("vector", 16385, "[1,2,3]", "[1,2,3]", "000300003f8000004000000040400000"),
    ("vector", 16385, "[ 0.1 , -2e-3 ]", "[0.1,-0.002]", "000200003dcccccdbb03126f"),
    ("halfvec", 16387, "[1,2]", "[1,2]", "000200003c004000"),
];

async fn binary(raw: &mut Raw, sql: &str) -> Vec<String> {
    let frames = raw.prepared(sql, &[], 1).await;
    assert_eq!(code(&frames), None, "{sql}: {frames:?}");
    let row = frames
        .iter()
        .find(|f| f.tag == b'D')
        .unwrap_or_else(|| panic!("{sql}: no row"));
    cells(row)
        .into_iter()
        .map(|c| c.map_or("NULL".to_owned(), |b| hex(&b)))
        .collect()
}

/// From a literal to text and to binary.
#[tokio::test]
async fn literals_out() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let mut wrong = Vec::new();
    for (kind, oid, literal, text, bytes) in VALUES {
        let sql = format!("SELECT '{literal}'::{kind} AS v");
        let frames = raw.query(&sql).await;
        if code(&frames).is_some() {
            wrong.push(format!("{sql}: {frames:?}"));
            continue;
        }
        let described = columns(&frames[0]).remove(0);
        let shown = text_rows(&frames).remove(0).remove(0);
        let sent = binary(&mut raw, &sql).await.remove(0);
        if (described.oid, shown.as_str(), sent.as_str()) != (*oid, *text, *bytes) {
            wrong.push(format!("{sql}: type {} text {shown} binary {sent}", described.oid));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
        .collect()
}

/// From a parameter in either format to a result in the other.
#[tokio::test]
async fn parameters_in_and_out() {
    let server = served().await;
    let mut raw = server.raw(T, "owner").await;
    let mut wrong = Vec::new();
    for (kind, oid, literal, text, bytes) in VALUES {
        let as_bytes = unhex(bytes);
        for (declared, sql) in [
            (0, format!("SELECT $1::{kind} AS v")),
            (*oid, "SELECT $1 AS v".to_owned()),
        ] {
            let run = |format: i16, value: Vec<u8>, result: i16| {
                let bound = bind("", "", &[format], &[Some(&value)], &[result]);
                vec![parse("", &sql, &[declared]), bound, describe(b'P', ""), execute("", 0)]
            };
            for (format, value, result, expected) in [
                (0, literal.as_bytes().to_vec(), 0, hex(text.as_bytes())),
                (0, literal.as_bytes().to_vec(), 1, (*bytes).to_owned()),
                (1, as_bytes.clone(), 0, hex(text.as_bytes())),
                (1, as_bytes.clone(), 1, (*bytes).to_owned()),
            ] {
                let frames = raw.extended(&run(format, value, result)).await;
                let row = frames.iter().find(|f| f.tag == b'D').map(cells);
                let came = row.and_then(|mut r| r.remove(0)).map(|b| hex(&b));
                if came.as_ref() != Some(&expected) {
                    wrong.push(format!(
                        "{sql} ({declared}) with {literal}, {format} to {result}: {came:?}, {:?}",
                        code(&frames)
                    ));
                }
            }
            let null = raw
                .extended(&[
                    parse("", &sql, &[declared]),
                    bind("", "", &[], &[None], &[1]),
                    execute("", 0),
                ])
                .await;
            if text_rows(&null) != [["NULL"]] {
                wrong.push(format!("{sql} ({declared}) with NULL: {null:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Text and bytes that are no value of the type.
#[tokio::test]
async fn values_that_are_none() {
    let mut server = served().await;
    let mut raw = server.raw(T, "owner").await;
    for (kind, text, expected) in [
        ("bool", "maybe", "22P02"),
        ("int2", "40000", "22003"),
        ("int4", "1.5", "22P02"),
        ("int8", "", "22P02"),
        ("float8", "1,5", "22P02"),
        ("float4", "1e99", "22003"),
        ("numeric", "1e", "22P02"),
        ("bytea", "\\xz0", "22"),
        ("date", "2000-13-01", "22008"),
        ("date", "hello", "22007"),
        ("time", "25:00", "22008"),
        ("timestamp", "x", "22007"),
        ("interval", "x", "22007"),
        ("uuid", "1234", "22P02"),
        ("json", "{", "22P02"),
        ("jsonb", "{\"a\":\"\\u0000\"}", "22P05"),
        ("int4[]", "{1,2", "22P02"),
        ("int4[]", "{x}", "22P02"),
        ("vector", "[1,NaN]", "22000"),
    ] {
        // By class for dates and for what PostgreSQL has a finer code.
        let frames = raw
            .prepared(&format!("SELECT $1::{kind}"), &[Some(text.as_bytes())], 0)
            .await;
        let state = code(&frames).unwrap_or_else(|| panic!("{kind} takes {text:?}: {frames:?}"));
        assert_eq!(state[..2], expected[..2], "{kind} {text:?}: {state}");
    }
    let oids: Vec<u32> = VALUES.iter().map(|v| v.1).collect();
    for oid in oids {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x00\x00\x00",
            &[0xff; 7],
            &[0xff; 40],
            &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1],
        ] {
            let parts = [
                parse("", "SELECT $1 IS NULL", &[oid]),
                bind("", "", &[1], &[Some(bytes)], &[]),
                execute("", 0),
            ];
            let frames = raw.extended(&parts).await;
            let state = code(&frames);
            let fine = state
                .as_deref()
                // 42804: an array of another type, as PostgreSQL calls it.
                .is_none_or(|s| s.starts_with("22") || s == "54000" || s == "08P01" || s == "42804");
            assert!(fine, "{oid} {bytes:?}: {state:?}");
            assert_eq!(
                frames.last().map(|f| f.tag),
                Some(b'Z'),
                "{oid} {bytes:?}: the session ended"
            );
        }
    }
    assert_eq!(text_rows(&raw.query("SELECT 1").await), [["1"]]);
    server.assert_alive();
}

/// The columns of documents and chunks in binary, as drivers ask for them.
#[tokio::test]
async fn tables_in_binary() {
    let server = served().await;
    let client = server.connect(T, "owner").await;
    let insert = "INSERT INTO documents (title, content, metadata) VALUES ($1, $2, '{\"k\": [1, 2]}')";
    assert_eq!(
        client
            .execute(insert, &[&"t", &"some content"])
            .await
            .expect("inserted"),
        1
    );
    let row = client
        .query_one(
            "SELECT title, content, id::text, created_at <= now() FROM documents",
            &[],
        )
        .await
        .expect("a row");
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, bool>(3)),
        ("t", "some content", true)
    );
    let id: String = row.get(2);
    let row = client
        .query_one("SELECT count(*) FROM chunks WHERE document_id = $1::text::uuid", &[&id])
        .await
        .expect("a row");
    assert_eq!(row.get::<_, i64>(0), 1);
    let row = client
        .query_one("SELECT rank, score, title FROM ai.search($1, k => 1)", &[&"content"])
        .await
        .expect("a row");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(2)), (1, "t"));
    assert!(row.get::<_, f64>(1).is_finite());
    let row = client
        .query_one("SELECT ai.rag($1)", &[&"what content?"])
        .await
        .expect("an answer");
    assert!(!row.get::<_, String>(0).is_empty());
    // A vector in binary is what its text says.
    let mut raw = server.raw(T, "owner").await;
    let sql = "SELECT embedding FROM chunks";
    let shown = text_rows(&raw.query(sql).await).remove(0).remove(0);
    let numbers: Vec<f32> = shown
        .trim_matches(['[', ']'])
        .split(',')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let expected = numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    assert_eq!(
        binary(&mut raw, sql).await[0],
        format!("{:04x}0000{}", numbers.len(), hex(&expected))
    );
}
