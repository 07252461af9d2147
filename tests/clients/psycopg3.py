"""What an application does with psycopg 3 on the first day. Run by tests/clients.rs with the server's port."""

import datetime
import decimal
import sys
import uuid

import psycopg
from psycopg.rows import dict_row

port = sys.argv[1]
url = f"postgresql://owner:pw-owner@127.0.0.1:{port}/acme"

try:
    psycopg.connect(f"postgresql://owner:wrong@127.0.0.1:{port}/acme")
    raise SystemExit("a wrong password logs in")
except psycopg.OperationalError as error:
    assert "password authentication failed" in str(error), error

with psycopg.connect(url) as connection:
    assert connection.info.server_version == 160006, connection.info.server_version
    assert connection.info.encoding == "utf-8"
    identity = connection.execute("SELECT ai.ingest(%s, %s)", ("Rivers", "The Rhine flows past Cologne.")).fetchone()[0]
    assert isinstance(identity, uuid.UUID), identity
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ai.documents (title, content, metadata) VALUES (%s, %s, %s)",
            [("Returns", "Returns are free for thirty days.", '{"room": "office"}'), ("Attic", "The lamp is in the attic.", "{}")],
        )
        assert cursor.rowcount == 2, cursor.rowcount
    connection.commit()

    for binary in (False, True):
        cursor = connection.cursor(binary=binary, row_factory=dict_row)
        row = cursor.execute("SELECT * FROM ai.documents WHERE title = %s", ("Returns",)).fetchone()
        assert row["content"] == "Returns are free for thirty days." and row["metadata"] == {"room": "office"}, row
        assert isinstance(row["id"], uuid.UUID) and isinstance(row["created_at"], datetime.datetime), row
        row = cursor.execute("SELECT * FROM ai.search(%s, k => 1)", ("Which river flows past Cologne?",)).fetchone()
        assert row["document_id"] == identity and row["rank"] == 1 and isinstance(row["score"], float), row
        row = cursor.execute("SELECT * FROM ai.rag(%s)", ("How long are returns free?",)).fetchone()
        assert "thirty days" in row["answer"] and row["citations"][0]["title"] == "Returns", row
        assert isinstance(row["cost_usd"], decimal.Decimal) and isinstance(row["cached"], bool), row
        row = cursor.execute("SELECT * FROM bulkhead.costs").fetchone()
        assert isinstance(row["date"], datetime.date) and isinstance(row["total_cost_usd"], decimal.Decimal), row
        rows = cursor.execute("SELECT * FROM bulkhead.usage").fetchall()
        assert sum(1 for r in rows if r["operation"] == "rag") >= 1, rows
        row = cursor.execute("SELECT total FROM bulkhead.tenant_costs(%s, %s)", (datetime.date.today() - datetime.timedelta(1), datetime.date.today() + datetime.timedelta(1))).fetchone()
        assert row["total"] >= 0, row
        row = cursor.execute(
            "SELECT %s::int AS i, %s::text AS t, %s::bool AS b, %s::numeric AS n, %s::timestamptz AS z, %s::bytea AS y, %s::uuid AS u, %s::int[] AS a",
            (7, "häh", True, decimal.Decimal("1.50"), datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc), b"\x00\xff", identity, [1, None, 3]),
        ).fetchone()
        assert (row["i"], row["t"], row["b"], row["n"], row["y"], row["u"], row["a"]) == (7, "häh", True, decimal.Decimal("1.50"), b"\x00\xff", identity, [1, None, 3]), row
        assert row["z"] == datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc), row
    # Statements repeated often are prepared by the driver.
    for i in range(12):
        assert connection.execute("SELECT %s::int + 1", (i,)).fetchone()[0] == i + 1
    # A failed statement, a transaction undone, a savepoint.
    try:
        with connection.transaction():
            connection.execute("DELETE FROM ai.documents WHERE title = 'Attic'")
            connection.execute("SELECT nosuch FROM ai.documents")
        raise SystemExit("a column that is none")
    except psycopg.errors.UndefinedColumn as error:
        assert error.diag.sqlstate == "42703"
    assert connection.execute("SELECT count(*) FROM ai.documents").fetchone()[0] == 3
    for statement, expected in [
        ("SELECT * FROM umbra.ai.documents", psycopg.errors.UndefinedTable),
        ("SET ROLE admin", psycopg.errors.InsufficientPrivilege),
        ("SELECT 1/0", psycopg.errors.DivisionByZero),
        ("SELECT '[1,NaN]'::vector", psycopg.errors.DataException),
    ]:
        try:
            with connection.transaction():
                connection.execute(statement)
            raise SystemExit(f"succeeded: {statement}")
        except expected:
            pass

with psycopg.connect(url, autocommit=True) as connection, connection.pipeline():
    results = [connection.execute("SELECT %s::int", (i,)) for i in range(5)]
    assert [r.fetchone()[0] for r in results] == list(range(5))

print("done: psycopg")
