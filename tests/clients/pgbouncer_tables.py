"""Clients behind pgbouncer (Debian's), in session and in transaction pooling, with SCRAM on both sides.

    pgbouncer_tables.py URL
"""

import asyncio
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import asyncpg
import psycopg
import sqlalchemy
from transcript import DATABASE, HOST, PASSWORD, PORT, USER, attempt, attempt_async, done, say

PROGRAM = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")


def start(folder, mode):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
    (folder / f"{mode}.ini").write_text(
        f"[databases]\n{DATABASE} = host={HOST} port={PORT} dbname={DATABASE}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = {mode}\n"
        f"default_pool_size = 2\nmax_client_conn = 50\nignore_startup_parameters = extra_float_digits\n"
    )
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    log = open(folder / f"{mode}.log", "wb")
    bouncer = subprocess.Popen([PROGRAM, *user, folder / f"{mode}.ini"], stdout=log, stderr=log)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return bouncer, f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"
        except OSError:
            time.sleep(0.05)
    sys.exit((folder / f"{mode}.log").read_text())


def with_psycopg(mode, url):
    # pgbouncer 1.18 knows no prepared statements in transaction pooling.
    threshold = 5 if mode == "session" else None
    c = psycopg.connect(url, prepare_threshold=threshold)
    run = lambda key, query, args=None: attempt(f"{mode} {key}", lambda: (lambda f: f.fetchall() if f.description else f.statusmessage)(c.execute(query, args)), c.rollback)  # noqa: E731
    run("create", "CREATE TABLE note (id serial PRIMARY KEY, title text UNIQUE, v vector(2))")
    run("insert", "INSERT INTO note (title, v) VALUES (%s, '[1,2]'), ('two', NULL) RETURNING id, title, v", ("one",))
    c.commit()
    for i in range(8):
        c.execute("SELECT title FROM note WHERE id = %s", (1,)).fetchone()
    run("rollback", "DELETE FROM note")
    c.rollback()
    run("left", "SELECT count(*) FROM note")
    run("duplicate", "INSERT INTO note (title) VALUES ('one')")
    run("savepoint", "SAVEPOINT s")
    run("release", "RELEASE s")
    run("local", "SET LOCAL application_name = 'here'")
    run("shown", "SHOW application_name")
    c.commit()

    def copy():
        with c.cursor() as cursor, cursor.copy("COPY note (title) FROM STDIN") as into:
            into.write("three\nfour\n")
        c.commit()
        return cursor.rowcount

    attempt(f"{mode} copy", copy, c.rollback)
    with c.cursor("far") as cursor:
        cursor.execute("SELECT title FROM note ORDER BY id")
        say(f"{mode} cursor", [cursor.fetchmany(2), cursor.fetchall()])
    c.commit()
    many = [psycopg.connect(url, prepare_threshold=None) for _ in range(1 if mode == "session" else 6)]
    for i, other in enumerate(many):
        other.execute("INSERT INTO note (title) VALUES (%s)", (f"many {i}",))
        other.commit()
    say(f"{mode} many", c.execute("SELECT count(*) FROM note WHERE title LIKE 'many%'").fetchone())
    for other in many:
        other.close()
    c.commit()
    if mode == "session":
        c.execute("SET application_name = 'kept'")
        c.execute("PREPARE mine AS SELECT 1")
        c.commit()
        say("session keeps", c.execute("SHOW application_name").fetchone())
        c.execute("CREATE TEMP TABLE mine_only (x int)")
        c.commit()
        c.close()
        with psycopg.connect(url) as next_one:
            # The reset query of pgbouncer is DISCARD ALL.
            say("session reset", next_one.execute("SELECT count(*) FROM pg_prepared_statements").fetchone())
            attempt("session reset of temporary tables", lambda: next_one.execute("SELECT * FROM mine_only").fetchall(), next_one.rollback)
    else:
        c.close()


async def with_asyncpg(mode, url):
    c = await asyncpg.connect(url, statement_cache_size=0 if mode == "transaction" else 100)

    async def work():
        async with c.transaction():
            await c.execute("INSERT INTO note (title) VALUES ($1)", f"asyncpg {mode}")
            return await c.fetch("SELECT title FROM note WHERE title LIKE $1 ORDER BY 1", "asyncpg%")

    await attempt_async(f"{mode} asyncpg", work)

    async def cancelled():
        try:
            await c.fetch("SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 1000) b", timeout=0.5)
        except asyncio.TimeoutError:
            return ["timed out", await c.fetchval("SELECT 'usable'")]

    await attempt_async(f"{mode} asyncpg cancelled", cancelled)
    await c.close()


def with_sqlalchemy(mode, url):
    for driver in ("psycopg2", "psycopg"):
        engine = sqlalchemy.create_engine(url.replace("postgresql://", f"postgresql+{driver}://"), poolclass=sqlalchemy.NullPool, connect_args={"prepare_threshold": None} if driver == "psycopg" else {})
        with engine.begin() as connection:
            say(f"{mode} {driver}", [c["name"] for c in sqlalchemy.inspect(connection).get_columns("note")])
            say(f"{mode} {driver} rows", connection.execute(sqlalchemy.text("SELECT count(*) > 5 FROM note")).scalar())


with tempfile.TemporaryDirectory(prefix="bulkhead-pgbouncer-") as folder:
    folder = pathlib.Path(folder)
    folder.chmod(0o777)
    for mode in ("session", "transaction"):
        bouncer, url = start(folder, mode)
        try:
            try:
                psycopg.connect(url.replace(PASSWORD, "wrong"))
            except psycopg.OperationalError as error:
                say(f"{mode} wrong password", "failed" in str(error))
            with psycopg.connect(url) as c:
                c.execute("CREATE EXTENSION IF NOT EXISTS vector")
            with_psycopg(mode, url)
            asyncio.run(with_asyncpg(mode, url))
            with_sqlalchemy(mode, url)
            with psycopg.connect(url) as c:
                say(f"{mode} drop", c.execute("DROP TABLE note").statusmessage)
        finally:
            bouncer.terminate()
            bouncer.wait(20)
done()
