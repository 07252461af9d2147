//! tokio-postgres, whose parameters and results are binary: types, prepared statements, portals, COPY, transactions.

use std::error::Error;
use std::fmt::Write;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Place;
use super::common::server::{connect, password_of};

/// A value as its bytes on the wire.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A parameter given as its bytes.
#[derive(Debug)]
struct Given(Vec<u8>);

impl ToSql for Given {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An extension's type has another number in each database.
fn type_name(ty: &Type) -> String {
    let number = if ty.oid() < 10_000 {
        ty.oid().to_string()
    } else {
        "an extension's".to_owned()
    };
    format!("{} {number}", ty.name())
}

fn told(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return format!("! {error}");
    };
    format!(
        "! {} {} detail={:?} table={:?} column={:?} constraint={:?} position={:?}",
        db.code().code(),
        db.message(),
        db.detail(),
        db.table(),
        db.column(),
        db.constraint(),
        db.position()
    )
}

struct Notes(String);

impl Notes {
    fn say(&mut self, key: &str, value: impl std::fmt::Display) {
        let value = value.to_string().replace('\n', "\\n").replace('\t', "\\t");
        writeln!(self.0, "{key}\t{value}").expect("a string can be written");
    }

    /// Parameters, columns and rows of a prepared statement, every value as its bytes.
    async fn binary(&mut self, client: &Client, key: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
        let asked = async {
            let statement = client.prepare(sql).await?;
            let columns: Vec<String> = statement
                .columns()
                .iter()
                .map(|c| format!("{} {}", c.name(), type_name(c.type_())))
                .collect();
            let wanted: Vec<String> = statement.params().iter().map(type_name).collect();
            let rows = client.query(&statement, parameters).await?;
            let rows: Vec<String> = rows
                .iter()
                .map(|row| {
                    let value = |i| {
                        row.get::<usize, Option<Raw>>(i)
                            .map_or("NULL".to_owned(), |raw| hex(&raw.0))
                    };
                    (0..row.len()).map(value).collect::<Vec<_>>().join(" ")
                })
                .collect();
            Ok(format!(
                "({}) [{}] {}",
                wanted.join(", "),
                columns.join(", "),
                rows.join(" | ")
            ))
        };
        let answer: Result<String, tokio_postgres::Error> = asked.await;
        self.say(key, answer.unwrap_or_else(|e| told(&e)));
    }

    /// Rows as text, and tags, by the simple protocol.
    async fn simple(&mut self, client: &Client, key: &str, sql: &str) {
        let answer = client.simple_query(sql).await.map(|messages| {
            let mut all = Vec::new();
            for message in &messages {
                match message {
                    SimpleQueryMessage::Row(row) => {
                        let value = |i| row.get(i).unwrap_or("NULL").to_owned();
                        all.push((0..row.len()).map(value).collect::<Vec<_>>().join(","));
                    }
                    SimpleQueryMessage::CommandComplete(n) => all.push(format!("#{n}")),
                    _ => {}
                }
            }
            all.join(" | ")
        });
        self.say(key, answer.unwrap_or_else(|e| told(&e)));
    }
}

/// The transcript.
pub async fn tables(place: Place) -> String {
    let mut notes = Notes(String::new());
    let client = connect(place.port, &place.database, "owner", &password_of("owner")).await;
    let mut client = client.expect("logged in");
    let every = include_str!("../clients/every.sql");
    for (i, statement) in every.split(";\n").filter(|s| !s.trim().is_empty()).enumerate() {
        notes.simple(&client, &format!("every {i}"), statement).await;
    }
    let columns = client.prepare("SELECT * FROM every").await.expect("prepared");
    for column in columns.columns() {
        let sql = format!("SELECT {} FROM every ORDER BY id", column.name());
        notes
            .binary(&client, &format!("binary {}", column.name()), &sql, &[])
            .await;
        notes.simple(&client, &format!("text {}", column.name()), &sql).await;
    }
    // Each value goes out again as it came in.
    for column in columns.columns() {
        let name = column.name();
        let sql = format!("SELECT {name} FROM every WHERE id = 1");
        let key = format!("sent {name}");
        let row = client.query_one(&sql, &[]).await;
        let Ok(Ok(Raw(bytes))) = row.map(|row| row.try_get(0)) else {
            notes.say(&key, "no such row");
            continue;
        };
        let given = Given(bytes);
        let sql = format!("SELECT count(*) FROM every WHERE {name} = $1");
        notes.binary(&client, &key, &sql, &[&given]).await;
    }
    let one = "SELECT $1 + 1, $2 || 'x', $3::numeric, $4::text[] FROM every WHERE id = $5 AND t = $6 LIMIT $7";
    let numeric = Given(vec![0, 1, 0, 0, 0, 0, 0, 2, 0, 5]);
    let list: &[Option<&str>] = &[Some("a"), None];
    notes
        .binary(
            &client,
            "parameters",
            one,
            &[&1_i32, &"y", &numeric, &list, &1_i32, &"text", &5_i64],
        )
        .await;
    for (key, bytes) in [
        ("short int", vec![0, 0, 1]),
        ("long int", vec![0; 5]),
        ("empty int", vec![]),
    ] {
        notes.binary(&client, key, "SELECT $1::int4", &[&Given(bytes)]).await;
    }
    notes
        .binary(&client, "bad text", "SELECT $1::text", &[&Given(vec![0xff])])
        .await;
    notes
        .binary(&client, "zero in text", "SELECT $1::text", &[&Given(vec![b'a', 0])])
        .await;
    notes
        .binary(&client, "bad jsonb", "SELECT $1::jsonb", &[&Given(vec![2, b'1'])])
        .await;
    notes
        .binary(&client, "bad array", "SELECT $1::int[]", &[&Given(vec![0, 0, 0, 9])])
        .await;
    notes
        .binary(
            &client,
            "bad vector",
            "SELECT $1::vector",
            &[&Given(vec![0, 2, 0, 0, 0])],
        )
        .await;
    notes
        .binary(&client, "bad bool", "SELECT $1::bool", &[&Given(vec![2])])
        .await;
    notes
        .binary(&client, "bad uuid", "SELECT $1::uuid", &[&Given(vec![1; 15])])
        .await;

    let create = "CREATE TABLE note (id serial PRIMARY KEY, title text UNIQUE NOT NULL, n int8, v vector(2))";
    notes.simple(&client, "create", create).await;
    let insert = "INSERT INTO note (title, n) VALUES ($1, $2) RETURNING id, title";
    notes.binary(&client, "insert", insert, &[&"one", &1_i64]).await;
    notes.binary(&client, "insert again", insert, &[&"one", &1_i64]).await;
    notes
        .binary(&client, "insert null", insert, &[&None::<&str>, &1_i64])
        .await;
    for (key, sql) in [
        ("no table", "SELECT * FROM nosuch"),
        ("no column", "SELECT nosuch FROM note"),
        ("syntax", "SELECT FROM note WHERE"),
        ("two statements", "SELECT 1; SELECT 2"),
        ("undetermined", "SELECT $1"),
        ("hole", "SELECT $2::int"),
        ("empty", ""),
        ("comment", "-- nothing"),
    ] {
        match client.prepare(sql).await {
            Ok(s) => notes.say(key, format!("{:?} {}", s.params(), s.columns().len())),
            Err(e) => notes.say(key, told(&e)),
        }
    }
    let counted = client
        .execute("UPDATE note SET n = n + $1 WHERE title = $2", &[&2_i64, &"one"])
        .await;
    notes.say("counted", counted.expect("updated"));
    notes.simple(&client, "several", "INSERT INTO note (title) VALUES ('a'), ('b'); SELECT count(*) FROM note; DELETE FROM note WHERE title = 'b'").await;
    notes
        .simple(
            &client,
            "several fail",
            "INSERT INTO note (title) VALUES ('c'); SELECT 1/0",
        )
        .await;
    notes
        .simple(&client, "after failing", "SELECT title FROM note ORDER BY id")
        .await;

    transactions(&mut client, &mut notes).await;
    // A failed COPY leaves no trace in the connections of the others.
    let port = place.port;
    let fresh = async || {
        let client = connect(port, &place.database, "owner", &password_of("owner")).await;
        client.expect("logged in")
    };
    copies(fresh, &mut notes).await;
    notes.simple(&client, "drop", "DROP TABLE note, every, bulk").await;
    notes.say("done", true);
    notes.0
}

async fn transactions(client: &mut Client, notes: &mut Notes) {
    let mut outer = client.transaction().await.expect("begun");
    outer
        .execute("INSERT INTO note (title) VALUES ('outer')", &[])
        .await
        .expect("inserted");
    let inner = outer.savepoint("s").await.expect("a savepoint");
    let failed = inner.execute("INSERT INTO note (title) VALUES ('outer')", &[]).await;
    notes.say("in a savepoint", told(&failed.expect_err("a duplicate")));
    inner.rollback().await.expect("rolled back");
    let portal = outer.bind("SELECT id FROM note ORDER BY id", &[]).await.expect("bound");
    let mut sizes = Vec::new();
    loop {
        let rows = outer.query_portal(&portal, 2).await.expect("rows");
        sizes.push(rows.len());
        if rows.len() < 2 {
            break;
        }
    }
    notes.say("portal", format!("{sizes:?}"));
    outer.commit().await.expect("committed");
    let level = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .expect("begun");
    let failed = level.execute("DELETE FROM note", &[]).await;
    notes.say("read only", told(&failed.expect_err("read only")));
    level.rollback().await.expect("rolled back");
    let (a, b) = futures::join!(
        client.query("SELECT 1", &[]),
        client.query("SELECT count(*) FROM note", &[])
    );
    notes.say("pipelined", format!("{} {}", a.expect("a").len(), b.expect("b").len()));
    notes
        .simple(client, "left", "SELECT title FROM note ORDER BY title")
        .await;
}

async fn copies(fresh: impl AsyncFn() -> Client, notes: &mut Notes) {
    let create = "CREATE TABLE bulk (i int PRIMARY KEY, t text, f float8)";
    notes.simple(&fresh().await, "bulk", create).await;
    for (key, sql, parts) in [
        (
            "text",
            "COPY bulk FROM STDIN",
            vec!["1\ta", "b\t1.5\n2\t\\N\t\\N", "\n"],
        ),
        (
            "csv",
            "COPY bulk FROM STDIN (FORMAT csv, HEADER)",
            vec!["i,t,f\n3,\"x,\"\"y\"\"\",\n"],
        ),
        ("bad", "COPY bulk FROM STDIN", vec!["4\ta\tx\n"]),
        ("unknown column", "COPY bulk (nosuch) FROM STDIN", vec![]),
        ("unknown table", "COPY nosuch FROM STDIN", vec![]),
    ] {
        let client = fresh().await;
        let copied = async {
            let sink = client.copy_in::<_, Bytes>(sql).await?;
            futures::pin_mut!(sink);
            for part in parts {
                sink.send(Bytes::from_static(part.as_bytes())).await?;
            }
            sink.finish().await
        };
        let answer: Result<u64, tokio_postgres::Error> = copied.await;
        notes.say(
            &format!("copy {key}"),
            answer.map_or_else(|e| told(&e), |n| n.to_string()),
        );
    }
    // Head, flags, no extension; one row of three fields; the end.
    let mut all = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
    all.put_i16(3);
    for field in [&9_i32.to_be_bytes()[..], b"bin", &0.5_f64.to_be_bytes()] {
        all.put_i32(field.len() as i32);
        all.put_slice(field);
    }
    let cut = all.clone().freeze().slice(..all.remaining() - 4);
    all.put_i16(-1);
    for (key, bytes) in [("binary", all.freeze()), ("binary cut", cut)] {
        let client = fresh().await;
        let copied = async {
            let sink = client
                .copy_in::<_, Bytes>("COPY bulk FROM STDIN (FORMAT binary)")
                .await?;
            futures::pin_mut!(sink);
            sink.send(bytes).await?;
            sink.finish().await
        };
        let answer: Result<u64, tokio_postgres::Error> = copied.await;
        notes.say(
            &format!("copy {key}"),
            answer.map_or_else(|e| told(&e), |n| n.to_string()),
        );
    }
    for options in ["", "(FORMAT csv, HEADER)", "(FORMAT binary)"] {
        let sql = format!("COPY (SELECT * FROM bulk ORDER BY i) TO STDOUT {options}");
        let client = fresh().await;
        let copied = async {
            let parts: Vec<Bytes> = client.copy_out(&sql).await?.boxed().try_collect().await?;
            Ok::<_, tokio_postgres::Error>(hex(&parts.concat()))
        };
        notes.say(
            &format!("copy out {options}"),
            copied.await.unwrap_or_else(|e| told(&e)),
        );
    }
}
