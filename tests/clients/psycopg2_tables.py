"""psycopg2 with tables of one's own: its text protocol, execute_values, COPY, named cursors, savepoints."""

import datetime
import decimal
import io
import uuid

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from pgvector.psycopg2 import register_vector
from transcript import EVERY, URL, attempt, code, done, say

psycopg2.extras.register_uuid()
try:
    psycopg2.connect(URL.replace("pw-owner", "wrong"))
except psycopg2.OperationalError as error:
    say("wrong password", "password authentication failed" in str(error))
c = psycopg2.connect(URL)
with c, c.cursor() as cursor:
    cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")


def run(key, query, args=None, **more):
    def work():
        with c.cursor(**more) as cursor:
            cursor.execute(query, args)
            if cursor.description is None:
                return [cursor.statusmessage, cursor.rowcount]
            return [cursor.statusmessage, [(d.name, code(d.type_code)) for d in cursor.description], cursor.fetchall()]

    return attempt(key, work, c.rollback)


for i, statement in enumerate(EVERY):
    run(f"every {i}", statement)
    c.commit()
with c.cursor() as cursor:
    cursor.execute("SELECT * FROM every LIMIT 0")
    columns = [d.name for d in cursor.description]
for column in columns:
    limit = " WHERE id < 4" if column in ("d", "ts", "tz", "iv") else ""
    run(f"read {column}", f"SELECT {column} FROM every{limit} ORDER BY id")
register_vector(c)
run("vectors", "SELECT id, vec FROM every ORDER BY id")
values = [
    True, 5, 2**40, decimal.Decimal("1.50"), 1.25, "häß", datetime.date(2024, 2, 29), datetime.time(1, 2, 3),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc),
    datetime.timedelta(days=1, seconds=5), uuid.UUID(int=7), [1, None, 3], ["a", "b,c"], None, float("nan"), (1, 2),
    psycopg2.Binary(b"\x00\xff"), psycopg2.extras.Json({"a": [1]}),
]  # fmt: skip
for value in values[:-3]:
    run(f"send {value}", "SELECT %s, pg_typeof(%s)::text", (value, value))
run("send tuple", "SELECT 1 IN %s", (values[-3],))
run("send bytes", "SELECT %s", (values[-2],))
run("send json", "SELECT %s::jsonb", (values[-1],))
run("named", "SELECT %(a)s + %(b)s", {"a": 1, "b": 2})

run("create", "CREATE TABLE note (id serial PRIMARY KEY, title text UNIQUE NOT NULL, n numeric(6, 2), v vector(2))")
run("insert", "INSERT INTO note (title, n) VALUES (%s, %s) RETURNING id, n", ("one", 1.005))


def values_of():
    with c.cursor() as cursor:
        rows = [("two", 2, "[1,2]"), ("three", None, None), ("four", 4, "[3,4]")]
        return psycopg2.extras.execute_values(cursor, "INSERT INTO note (title, n, v) VALUES %s RETURNING id, title", rows, fetch=True)


def batch():
    with c.cursor() as cursor:
        psycopg2.extras.execute_batch(cursor, "UPDATE note SET n = %s WHERE title = %s", [(10, "one"), (20, "two"), (30, "nosuch")])
        cursor.executemany("DELETE FROM note WHERE title = %s", [("four",), ("five",)])
        return cursor.rowcount


attempt("execute_values", values_of, c.rollback)
attempt("execute_batch", batch, c.rollback)
run("dict", "SELECT * FROM note ORDER BY id", cursor_factory=psycopg2.extras.RealDictCursor)
run("named tuple", "SELECT id, title FROM note ORDER BY id", cursor_factory=psycopg2.extras.NamedTupleCursor)
c.commit()

# Transactions.
run("savepoint", "SAVEPOINT s")
run("in it", "INSERT INTO note (title) VALUES ('undone')")
run("back", "ROLLBACK TO SAVEPOINT s")
run("release", "RELEASE SAVEPOINT s")
run("after", "INSERT INTO note (title) VALUES ('kept')")
c.commit()
for key, query in [
    ("duplicate", "INSERT INTO note (title) VALUES ('one')"), ("null", "INSERT INTO note (title) VALUES (NULL)"),
    ("no table", "SELECT * FROM nosuch"), ("no column", "SELECT nosuch FROM note"), ("syntax", "SELEC"),
    ("zero", "SELECT 1/0"), ("overflow", "INSERT INTO note (title, n) VALUES ('big', 100000)"),
    ("dimension", "INSERT INTO note (title, v) VALUES ('v', '[1,2,3]')"),
]:  # fmt: skip
    run(key, query)


def status():
    seen = [c.get_transaction_status()]
    with c.cursor() as cursor:
        cursor.execute("SELECT 1")
        seen.append(c.get_transaction_status())
        try:
            cursor.execute("SELECT nosuch")
        except psycopg2.Error:
            seen.append(c.get_transaction_status())
    c.rollback()
    return [*seen, c.get_transaction_status(), c.server_version >= 160000, c.encoding]


attempt("status", status, c.rollback)


def session():
    c.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with c.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        level = cursor.fetchone()
        try:
            cursor.execute("DELETE FROM note")
        except psycopg2.Error as error:
            level += (error.pgcode,)
    c.rollback()
    c.set_session(isolation_level="DEFAULT", readonly=False)
    return level


attempt("session", session, c.rollback)
run("survived", "SELECT title FROM note ORDER BY id")
c.rollback()


# COPY.
run("copy table", "CREATE TABLE bulk (i int PRIMARY KEY, t text, f float8, v vector(2))")
c.commit()


def copy(query, text):
    with c.cursor() as cursor:
        cursor.copy_expert(query, io.StringIO(text))
        return [cursor.rowcount, cursor.statusmessage]


def copied(query):
    out = io.StringIO()
    with c.cursor() as cursor:
        cursor.copy_expert(query, out)
        return [cursor.rowcount, out.getvalue()]


def copy_from():
    with c.cursor() as cursor:
        cursor.copy_from(io.StringIO("5;five;\\N\n6;\\N;1.5\n"), "bulk", sep=";", columns=("i", "t", "f"))
        return cursor.rowcount


def copy_to():
    out = io.StringIO()
    with c.cursor() as cursor:
        cursor.copy_to(out, "bulk", sep="|", null="nil", columns=("i", "t"))
    return sorted(out.getvalue().splitlines())


attempt("copy in", lambda: copy("COPY bulk FROM STDIN", "1\ta\\tb\t1e3\t[1,2]\n2\t\\N\tNaN\t\\N\n\\.\n"), c.rollback)
attempt("copy csv", lambda: copy("COPY bulk (t, i) FROM STDIN WITH CSV HEADER QUOTE '\"'", 't,i\n"x,\ny",3\n,4\n'), c.rollback)
attempt("copy_from", copy_from, c.rollback)
attempt("copy_to", copy_to, c.rollback)
attempt("copy out", lambda: copied("COPY (SELECT * FROM bulk ORDER BY i) TO STDOUT"), c.rollback)
attempt("copy out csv", lambda: copied("COPY (SELECT * FROM bulk ORDER BY i) TO STDOUT WITH CSV HEADER"), c.rollback)
c.commit()
attempt("copy wrong", lambda: copy("COPY bulk FROM STDIN", "7\tx\tnot a number\t\\N\n"), c.rollback)
attempt("copy short", lambda: copy("COPY bulk FROM STDIN", "7\tx\n"), c.rollback)
run("count", "SELECT count(*) FROM bulk")
c.rollback()


# Cursors of the server.
def named():
    with c.cursor("far") as cursor:
        cursor.itersize = 3
        cursor.execute("SELECT i FROM bulk ORDER BY i")
        return [cursor.fetchone(), cursor.fetchmany(2), [row for row in cursor]]


def scroll():
    with c.cursor("scrolls", scrollable=True) as cursor:
        cursor.execute("SELECT i FROM bulk ORDER BY i")
        cursor.scroll(3)
        three = cursor.fetchone()
        cursor.scroll(0, mode="absolute")
        return [three, cursor.fetchone()]


attempt("named cursor", named, c.rollback)
attempt("scrolled", scroll, c.rollback)
c.rollback()
c.autocommit = True
run("listen", "LISTEN chatter")
run("notify", "NOTIFY chatter, 'hello'")
c.poll()
say("notified", [(n.channel, n.payload, n.pid == c.info.backend_pid) for n in c.notifies])
run("notice", "DROP TABLE IF EXISTS nosuch")
say("notices", c.notices)
run("multiple", "SELECT 1; SELECT 2 AS two")
run("empty", "/* nothing */ SELECT")
run("explain", "SELECT 1 AS x WHERE false")
run("reset", "RESET ALL")
run("drop", "DROP TABLE note, bulk, every")
c.close()
done()
