"""psycopg 3 with tables of one's own: every type in text and binary, COPY, pipelines, cursors, transactions."""

import datetime
import decimal
import uuid

import numpy
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import class_row, dict_row, namedtuple_row, scalar_row
from psycopg.types.json import Json, Jsonb
from transcript import DATABASE, EVERY, HOST, PASSWORD, PORT, URL, USER, attempt, code, done, say

try:
    psycopg.connect(host=HOST, port=PORT, user=USER, dbname=DATABASE, password="wrong")
except psycopg.OperationalError as error:
    say("wrong password", "password authentication failed" in str(error))

c = psycopg.connect(URL)
c.execute("CREATE EXTENSION IF NOT EXISTS vector")
c.commit()
notices = []
c.add_notice_handler(lambda d: notices.append((d.severity, d.sqlstate, d.message_primary)))


def run(key, query, args=None, binary=None, **more):
    def work():
        cursor = c.cursor(binary=bool(binary), **more)
        cursor.execute(query, args, binary=binary) if binary is not None else cursor.execute(query, args)
        if cursor.description is None:
            return [cursor.statusmessage, cursor.rowcount]
        return [cursor.statusmessage, [(d.name, code(d.type_code), d.internal_size, d.precision, d.scale) for d in cursor.description], cursor.fetchall()]

    return attempt(key, work, c.rollback)


for i, statement in enumerate(EVERY):
    run(f"every {i}", statement)
    c.commit()
columns = [d.name for d in c.execute("SELECT * FROM every LIMIT 0").description]
for binary in (False, True):
    for column in columns:
        if column not in ("vec", "ad", "d", "ts", "tz", "iv"):
            run(f"read {column} binary={binary}", f"SELECT {column} FROM every ORDER BY id", binary=binary)
    for column in ("d", "ts", "tz", "iv", "ad", "atz"):
        run(f"read {column} binary={binary}", f"SELECT {column} FROM every WHERE id < 4 ORDER BY id", binary=binary)
register_vector(c)
for binary in (False, True):
    run(f"read vec binary={binary}", "SELECT id, vec FROM every ORDER BY id", binary=binary)
    run(f"where binary={binary}", "SELECT id FROM every WHERE i4 > %s AND t = ANY(%s) ORDER BY id", (0, ["text", "x"]), binary=binary)

# Parameters of every type, there and back; `%b` sends binary, `%t` text.
values = [
    ("bool", True), ("int", 5), ("int8", 2**40), ("numeric", decimal.Decimal("1.50")), ("float8", 1.25), ("text", "häß"),
    ("bytea", b"\x00\xff"), ("date", datetime.date(2024, 2, 29)), ("time", datetime.time(1, 2, 3)),
    ("timestamp", datetime.datetime(2024, 2, 29, 1, 2, 3, 4)),
    ("timestamptz", datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.timezone.utc)),
    ("interval", datetime.timedelta(days=1, seconds=5)), ("uuid", uuid.UUID(int=7)), ("json", Json({"a": [1]})),
    ("jsonb", Jsonb({"a": [1]})), ("int[]", [1, None, 3]), ("text[]", ["a", None, "b,c"]), ("vector", numpy.array([1, 2, 3])),
]  # fmt: skip
for name, value in values:
    for form in "btes"[:2]:
        run(f"send {name} {form}", f"SELECT %{form}::{name} AS x, pg_typeof(%{form}::{name})::text", (value, value))
run("untyped", "SELECT %s, %s || 'x'", ("a", "b"))
run("null", "SELECT %s::int, %s::text IS NULL", (None, None))

# Writing with parameters, RETURNING, executemany, row factories.
run("create", "CREATE TABLE note (id serial PRIMARY KEY, title text NOT NULL, body text, n numeric(6, 2), made timestamptz DEFAULT now())")
run("insert", "INSERT INTO note (title, n) VALUES (%s, %s) RETURNING id, title, n", ("one", decimal.Decimal("1.005")))


def many():
    cursor = c.cursor()
    cursor.executemany("INSERT INTO note (title, body) VALUES (%s, %s) RETURNING id", [("two", "b"), ("three", None), ("four", "d")], returning=True)
    ids = [cursor.fetchone()]
    while cursor.nextset():
        ids.append(cursor.fetchone())
    return [cursor.rowcount, ids]


attempt("executemany returning", many, c.rollback)
run("update", "UPDATE note SET body = %s WHERE body IS NULL", ("new",))
run("delete", "DELETE FROM note WHERE title = %s RETURNING title", ("four",))
run("dict", "SELECT id, title FROM note ORDER BY id", row_factory=dict_row)
run("namedtuple", "SELECT id, title FROM note ORDER BY id", row_factory=namedtuple_row)
run("scalar", "SELECT title FROM note ORDER BY id", row_factory=scalar_row)
c.commit()

# Transactions and savepoints.
def nested():
    with c.transaction():
        c.execute("INSERT INTO note (title) VALUES ('outer')")
        try:
            with c.transaction():
                c.execute("INSERT INTO note (title) VALUES ('inner')")
                raise ValueError
        except ValueError:
            pass
        with c.transaction("named", force_rollback=True):
            c.execute("INSERT INTO note (title) VALUES ('forced back')")
    return c.execute("SELECT title FROM note ORDER BY id").fetchall()


attempt("nested", nested, c.rollback)
c.commit()
run("fails", "UPDATE note SET title = NULL, made = '2024-02-29' WHERE id = 1")
for key, query in [
    ("duplicate", "INSERT INTO note (id, title) VALUES (1, 'x')"), ("no table", "SELECT * FROM nosuch"),
    ("no column", "SELECT id, nosuch FROM note"), ("syntax", "SELECT * FORM note"), ("zero", "SELECT 1/0"),
    ("cast", "SELECT 'x'::int"), ("range", "SELECT 99999999999::int"), ("no function", "SELECT nosuch(1)"),
    ("dimension", "UPDATE every SET vec = '[1,2]'"), ("too long", "UPDATE every SET v = repeat('x', 21)"),
]:  # fmt: skip
    run(key, query)


def aborted():
    try:
        c.execute("SELECT nosuch")
    except psycopg.Error:
        pass
    status = c.info.transaction_status.name
    try:
        c.execute("SELECT 1")
    except psycopg.Error as error:
        status += " " + error.sqlstate
    c.rollback()
    return status + " " + c.info.transaction_status.name


attempt("aborted", aborted, c.rollback)


def serializable():
    c.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    c.read_only = True
    level = c.execute("SHOW transaction_isolation").fetchone()
    c.rollback()
    c.isolation_level = None
    c.read_only = None
    return level


attempt("isolation", serializable, c.rollback)

# COPY in text, csv and binary.
run("copy table", "CREATE TABLE bulk (i int PRIMARY KEY, t text, n numeric, d date, z timestamptz, y bytea, a int[], v vector(2))")


def copy_in():
    with c.cursor() as cursor, cursor.copy("COPY bulk FROM STDIN") as copy:
        for i in range(3):
            copy.write_row((i, f"t\t{i}", decimal.Decimal(i) / 4, datetime.date(2024, 1, i + 1), None, bytes([i]), [i, None], numpy.array([i, 1])))
    return cursor.rowcount


def copy_binary():
    with c.cursor() as cursor, cursor.copy("COPY bulk (i, t, n, d, z, y, a, v) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "numeric", "date", "timestamptz", "bytea", "int4[]", "vector"])
        for i in range(3, 6):
            zoned = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
            copy.write_row((i, "ü", decimal.Decimal("-1.50"), datetime.date(1999, 1, 1), zoned, b"", [], numpy.array([i, 2])))
    return cursor.rowcount


def copy_out(options):
    with c.cursor() as cursor, cursor.copy(f"COPY (SELECT * FROM bulk ORDER BY i) TO STDOUT {options}") as copy:
        return b"".join(bytes(part) for part in copy)


def copy_rows():
    with c.cursor() as cursor, cursor.copy("COPY (SELECT i, t, n, d, a FROM bulk ORDER BY i) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "numeric", "date", "int4[]"])
        return list(copy.rows())


attempt("copy in", copy_in, c.rollback)
attempt("copy binary", copy_binary, c.rollback)
c.commit()
attempt("copy out", lambda: copy_out(""), c.rollback)
attempt("copy out csv", lambda: copy_out("(FORMAT csv, HEADER, NULL 'nil')"), c.rollback)
attempt("copy out delimiter", lambda: copy_out("(FORMAT csv, DELIMITER '|', FORCE_QUOTE *)"), c.rollback)
attempt("copy out binary", lambda: copy_out("(FORMAT binary)"), c.rollback)
attempt("copy rows", copy_rows, c.rollback)


def copy_text(table, text, options=""):
    with c.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN {options}") as copy:
        copy.write(text)
    return cursor.rowcount


attempt("copy csv", lambda: copy_text("bulk (i, t)", 'i,t\n10,"a ""q"", b"\n11,\n12,""\n', "(FORMAT csv, HEADER)"), c.rollback)
run("copied", "SELECT i, t FROM bulk WHERE i >= 10 ORDER BY i")
c.commit()
attempt("copy bad value", lambda: copy_text("bulk (i, t)", "20\tx\nbad\ty\n"), c.rollback)
attempt("copy bad count", lambda: copy_text("bulk (i, t)", "20\n"), c.rollback)
attempt("copy duplicate", lambda: copy_text("bulk (i, t)", "20\ta\n20\tb\n"), c.rollback)


def copy_abandoned():
    with c.cursor() as cursor, cursor.copy("COPY bulk (i) FROM STDIN") as copy:
        copy.write("21\n")
        raise ValueError("abandoned")


attempt("copy abandoned", copy_abandoned, c.rollback)
run("nothing half-written", "SELECT count(*) FROM bulk")

# Server-side cursors, stream, pipeline.
def named():
    with c.cursor(name="far", scrollable=True) as cursor:
        cursor.execute("SELECT x FROM generate_series(1, 10) AS g(x)")
        out = [cursor.fetchone(), cursor.fetchmany(3)]
        cursor.scroll(-1)
        out.append(cursor.fetchone())
        cursor.scroll(0, mode="absolute")
        return [*out, len(cursor.fetchall())]


attempt("named cursor", named, c.rollback)


def stream():
    with c.cursor() as cursor:
        return list(cursor.stream("SELECT x FROM generate_series(1, 4) AS g(x)"))


def pipeline():
    with c.pipeline():
        cursors = [c.execute("INSERT INTO note (title) VALUES (%s) RETURNING title", (f"p{i}",)) for i in range(3)]
        return [x.fetchone() for x in cursors]


attempt("pipeline", pipeline, c.rollback)


def pipeline_error():
    try:
        with c.pipeline():
            c.execute("INSERT INTO note (title) VALUES ('lost')")
            c.execute("SELECT 1/0")
            c.execute("INSERT INTO note (title) VALUES ('skipped')")
    except psycopg.Error as error:
        c.rollback()
        return [error.sqlstate, c.execute("SELECT count(*) FROM note WHERE title IN ('lost', 'skipped')").fetchone()]


attempt("pipeline error", pipeline_error, c.rollback)
c.commit()
attempt("stream", stream, c.rollback)
c.commit()
for _ in range(7):
    c.execute("SELECT id FROM note WHERE title = %s", ("one",), prepare=True).fetchone()
run("prepared survives", "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql")
run("alter", "ALTER TABLE note ADD COLUMN extra int DEFAULT 3")
run("after alter", "SELECT * FROM note WHERE title = %s AND made IS NULL", ("one",))
run("multiple", "SELECT 1; SELECT 2")
run("composed", sql.SQL("SELECT {} FROM {} WHERE {} = {}").format(sql.Identifier("title"), sql.Identifier("note"), sql.Identifier("id"), sql.Literal(1)))
c.commit()

# LISTEN and NOTIFY, two-way.
c.autocommit = True
run("listen", "LISTEN chatter")
with psycopg.connect(URL, autocommit=True) as other:
    other.execute("NOTIFY chatter, 'hello'")
    other.execute("SELECT pg_notify('chatter', 'again')")
attempt("notified", lambda: [(n.channel, n.payload) for n in c.notifies(timeout=10, stop_after=2)])
run("unlisten", "UNLISTEN *")
run("do nothing", "")
run("notices", "DROP TABLE IF EXISTS nosuch")
say("notices", notices)
run("drop", "DROP TABLE note, bulk, every")
say("status", [c.info.transaction_status.name, c.info.server_version >= 160000, c.info.dbname, c.info.user, c.info.parameter_status("standard_conforming_strings"), c.info.parameter_status("DateStyle"), c.info.parameter_status("integer_datetimes")])
c.close()
done()
