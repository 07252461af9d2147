"""asyncpg with tables of one's own: all in binary, prepared, with its own COPY, cursors, pool and introspection."""

import asyncio
import datetime
import decimal
import io
import json
import uuid

import asyncpg
import numpy
from pgvector.asyncpg import register_vector
from transcript import EVERY, URL, attempt_async, done, say

try:
    asyncio.run(asyncpg.connect(URL.replace("pw-owner", "wrong")))
except asyncpg.InvalidPasswordError as error:
    say("wrong password", error.sqlstate)


async def main():
    c = await asyncpg.connect(URL)
    await c.execute("CREATE EXTENSION IF NOT EXISTS vector")

    def fetch(key, query, *args):
        return attempt_async(key, lambda: c.fetch(query, *args))

    def execute(key, query, *args):
        return attempt_async(key, lambda: c.execute(query, *args))

    for i, statement in enumerate(EVERY):
        await execute(f"every {i}", statement)
    columns = [a.name for a in (await c.prepare("SELECT * FROM every")).get_attributes()]
    for column in columns:
        if column != "vec":
            await fetch(f"read {column}", f"SELECT {column} FROM every ORDER BY id")
    await fetch("read vec as text", "SELECT vec::text FROM every ORDER BY id")
    await register_vector(c)
    await fetch("read vec", "SELECT vec FROM every ORDER BY id")

    statement = await c.prepare("SELECT id, t, n2, vec, ai FROM every WHERE id = $1 AND i4 > $2::int8")
    say("parameters", [p.name for p in statement.get_parameters()])
    say("attributes", [[a.name, a.type.name, a.type.kind, a.type.schema] for a in statement.get_attributes() if a.name != "vec"])
    await attempt_async("prepared", lambda: statement.fetchrow(1, 0))
    await attempt_async("prepared again", lambda: statement.fetchval(1, 0, column=1))

    zone = datetime.timezone.utc
    for name, value in [
        ("bool", True), ("int2", -5), ("int4", 5), ("int8", 2**40), ("numeric", decimal.Decimal("-12345678901234567890.0100")),
        ("float4", 1.5), ("float8", 1.25), ("text", "häß"), ("varchar(3)", "abc"), ("char(4)", "ab"), ("bytea", b"\x00\xff"),
        ("date", datetime.date(2024, 2, 29)), ("time", datetime.time(1, 2, 3, 4)), ("timestamp", datetime.datetime(2024, 2, 29, 1, 2, 3, 4)),
        ("timestamptz", datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=zone)), ("interval", datetime.timedelta(days=1, seconds=5, microseconds=7)),
        ("uuid", uuid.UUID(int=7)), ("json", '{"a": [1]}'), ("jsonb", '{"a": [1]}'), ("int[]", [1, None, 3]), ("int[]", [[1, 2], [3, 4]]),
        ("text[]", ["a", None, "b,c"]), ("numeric[]", [decimal.Decimal("1.50")]), ("timestamptz[]", [datetime.datetime(2024, 2, 29, tzinfo=zone)]),
        ("uuid[]", [uuid.UUID(int=1)]), ("vector", numpy.array([1, 2.5, -3])), ("vector(2)", [1, 2]),
    ]:  # fmt: skip
        await fetch(f"send {name} {type(value).__name__}", f"SELECT $1::{name} AS x, pg_typeof($1::{name})::text, $1::{name} IS NULL", value)
        await fetch(f"send {name} null", f"SELECT $1::{name} AS x", None)
    await fetch("wrong type", "SELECT $1::int", "x")
    await fetch("wrong count", "SELECT $1::int", 1, 2)
    await fetch("inferred", "SELECT $1 + 1, $2 || 'x', id FROM every WHERE id = $3 AND t = $4 AND d < $5 LIMIT $6", 1, "y", 1, "text", datetime.date(2025, 1, 1), 5)
    await fetch("any", "SELECT id FROM every WHERE id = ANY($1::int[]) ORDER BY id", [1, 3])
    await fetch("undetermined", "SELECT $1 IS NULL", 1)

    await c.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await fetch("json codec", "SELECT $1::jsonb, jb FROM every WHERE id = 1", {"k": [1, None]})

    # Writing.
    await execute("create", "CREATE TABLE note (id serial PRIMARY KEY, title text UNIQUE NOT NULL, n numeric(6, 2), tags text[], v vector(2))")
    await fetch("insert", "INSERT INTO note (title, n, tags, v) VALUES ($1, $2, $3, $4) RETURNING *", "one", decimal.Decimal("1.005"), ["a"], [1, 2])
    await attempt_async("executemany", lambda: c.executemany("INSERT INTO note (title, n) VALUES ($1, $2)", [(f"m{i}", i) for i in range(5)]))
    await attempt_async("fetchmany", lambda: c.fetchmany("INSERT INTO note (title) VALUES ($1) RETURNING id, title", [("x",), ("y",)]))
    await execute("update", "UPDATE note SET n = n + $1 WHERE title LIKE $2", decimal.Decimal("0.5"), "m%")
    await execute("delete", "DELETE FROM note WHERE title = $1", "y")
    await fetch("rows", "SELECT id, title, n, tags FROM note ORDER BY id")
    await attempt_async("executemany fails", lambda: c.executemany("INSERT INTO note (title) VALUES ($1)", [("new",), ("one",)]))
    await fetch("nothing of it", "SELECT count(*) FROM note WHERE title = 'new'")
    await execute("script", "INSERT INTO note (title) VALUES ('s1'); INSERT INTO note (title) VALUES ('s2'); SELECT 1")
    await execute("script fails", "INSERT INTO note (title) VALUES ('s3'); SELECT 1/0")
    await fetch("script undone", "SELECT title FROM note WHERE title LIKE 's%' ORDER BY 1")

    # Errors.
    for key, query in [
        ("duplicate", "INSERT INTO note (title) VALUES ('one')"), ("null", "INSERT INTO note (title) VALUES (NULL)"),
        ("no table", "SELECT * FROM nosuch"), ("no column", "SELECT nosuch FROM note"), ("syntax", "SELECT 1 +"),
        ("zero", "SELECT 1/0"), ("overflow", "INSERT INTO note (title, n) VALUES ('big', 100000)"),
        ("dimension", "INSERT INTO note (title, v) VALUES ('v', '[1,2,3]')"),
    ]:  # fmt: skip
        await fetch(key, query)

    # Transactions.
    async def nested():
        async with c.transaction():
            await c.execute("INSERT INTO note (title) VALUES ('outer')")
            try:
                async with c.transaction():
                    await c.execute("INSERT INTO note (title) VALUES ('inner')")
                    await c.execute("INSERT INTO note (title) VALUES ('one')")
            except asyncpg.UniqueViolationError:
                pass
            async with c.transaction():
                await c.execute("INSERT INTO note (title) VALUES ('second')")
        return await c.fetch("SELECT title FROM note WHERE title IN ('outer', 'inner', 'second') ORDER BY 1")

    await attempt_async("nested", nested)

    async def level():
        async with c.transaction(isolation="repeatable_read", readonly=True):
            seen = [await c.fetchval("SHOW transaction_isolation"), await c.fetchval("SHOW transaction_read_only")]
            try:
                await c.execute("DELETE FROM note")
            except asyncpg.PostgresError as error:
                seen.append(error.sqlstate)
        return seen

    await attempt_async("level", level)

    # Cursors.
    async def cursors():
        async with c.transaction():
            seen = [r[0] async for r in c.cursor("SELECT x FROM generate_series(1, $1::int) AS g(x)", 7, prefetch=3)]
            far = await c.cursor("SELECT x FROM generate_series(1, 10) AS g(x)")
            return [seen, await far.fetchrow(), await far.fetch(2), await far.forward(3), await far.fetch(100)]

    await attempt_async("cursors", cursors)

    # COPY.
    await execute("copy table", "CREATE TABLE bulk (i int PRIMARY KEY, t text, n numeric, d date, z timestamptz, a int[], v vector(2))")
    zoned = datetime.datetime(2024, 1, 1, tzinfo=zone)
    records = [(i, f"t{i}", decimal.Decimal(i) / 4, datetime.date(2024, 1, 1), zoned, [i, None], [i, 1]) for i in range(4)]
    await attempt_async("copy records", lambda: c.copy_records_to_table("bulk", records=records))
    await attempt_async("copy some columns", lambda: c.copy_records_to_table("bulk", records=[(10, "ten")], columns=["i", "t"]))
    await attempt_async("copy duplicate", lambda: c.copy_records_to_table("bulk", records=[(20, "a"), (20, "b")], columns=["i", "t"]))

    async def copy_out(**more):
        out = io.BytesIO()
        tag = await c.copy_from_query("SELECT i, t, n, d, a FROM bulk WHERE i < $1 ORDER BY i", 20, output=out, **more)
        return [tag, out.getvalue()]

    await attempt_async("copy out", lambda: copy_out())
    await attempt_async("copy out csv", lambda: copy_out(format="csv", header=True))
    await attempt_async("copy out binary", lambda: copy_out(format="binary"))
    await attempt_async("copy in csv", lambda: c.copy_to_table("bulk", source=io.BytesIO(b"t,i\nx,30\n,31\n"), format="csv", header=True, columns=["t", "i"]))
    await attempt_async("copy in bad", lambda: c.copy_to_table("bulk", source=io.BytesIO(b"40\tx\nfour\ty\n"), columns=["i", "t"]))
    await fetch("copied", "SELECT i, t, v FROM bulk ORDER BY i")

    # LISTEN, pool, reset.
    heard = asyncio.Queue()
    await c.add_listener("chatter", lambda *said: heard.put_nowait(said[2:]))
    async with asyncpg.create_pool(URL, min_size=1, max_size=3) as pool:
        await attempt_async("pool", lambda: pool.fetchval("SELECT count(*) FROM bulk"))

        async def at_once():
            return sorted(await asyncio.gather(*[pool.fetchval("SELECT $1::int * 2", i) for i in range(9)]))

        await attempt_async("pool at once", at_once)
        await attempt_async("notify", lambda: pool.execute("SELECT pg_notify('chatter', 'from the pool')"))
    await attempt_async("heard", lambda: asyncio.wait_for(heard.get(), 10))

    async def cancelled():
        try:
            await c.fetch("SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 1000) b", timeout=0.5)
        except asyncio.TimeoutError:
            return ["timed out", await c.fetchval("SELECT 'usable'")]

    await attempt_async("cancelled", cancelled)
    await attempt_async("reset", lambda: c.reset())
    await execute("alter", "ALTER TABLE note ADD COLUMN extra int DEFAULT 5")
    await fetch("after alter", "SELECT * FROM note WHERE title = 'one'")
    await fetch("empty result", "SELECT id FROM note WHERE false")
    say("settings", [c.get_settings().server_encoding, c.get_settings().client_encoding, c.get_server_version()[:1]])
    await execute("drop", "DROP TABLE note, bulk, every")
    await c.close()


asyncio.run(main())
done()
