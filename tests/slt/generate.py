"""Writes into the files of this folder what PostgreSQL answers; says which records changed.

    generate.py postgresql://postgres:pw-postgres@127.0.0.1:PORT/postgres [FILE.slt ...]

The server is the reference of the tests (tests/clients/reference.py). A paragraph of a file that is neither a comment
nor a record of sqllogictest is taken for a new statement and becomes one. Each file runs in a database of its own, as
`owner`. The expectation of a record is all of: its SQLSTATE; or the types of its columns and its rows as text, columns
separated by tabs; or the number of rows that it changed.
"""

import pathlib
import sys

import psycopg
from psycopg import pq

# One letter for each type; tests/slt.rs has the same.
TYPES = {
    16: "B", 17: "Y", 20: "L", 21: "S", 23: "I", 25: "T", 114: "J", 700: "R", 701: "F", 1042: "C", 1043: "V",
    1082: "D", 1083: "M", 1114: "P", 1184: "Z", 1186: "E", 1700: "N", 2950: "U", 3802: "K",
    # bool, bytea, int8, int2, int4, text, numeric, float8, varchar, date, timestamp, timestamptz, uuid, jsonb
    **dict.fromkeys([1000, 1001, 1016, 1005, 1007, 1009, 1231, 1022, 1015, 1182, 1115, 1185, 2951, 3807, 1021], "A"),
}  # fmt: skip
COUNTED = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")


def escaped(value):
    if value is None:
        return "NULL"
    text = value.decode().replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text or "(empty)"


def record(connection, sql):
    """The record of this statement, without the empty line that ends it."""
    result = connection.exec_(sql.encode())
    if result.status == pq.ExecStatus.TUPLES_OK:
        types = "".join(TYPES.get(result.ftype(i), "X") for i in range(result.nfields))
        rows = [
            "\t".join(escaped(result.get_value(row, i)) for i in range(result.nfields)) for row in range(result.ntuples)
        ]
        return "\n".join([f"query {types}", sql, "----", *rows])
    if result.status == pq.ExecStatus.COMMAND_OK:
        counted = result.command_status.split(b" ")[0] in COUNTED
        return f"statement {'count ' + str(result.command_tuples) if counted else 'ok'}\n{sql}"
    if result.status == pq.ExecStatus.FATAL_ERROR:
        state = result.error_field(pq.DiagnosticField.SQLSTATE).decode()
        return f"statement error ({state})\n{sql}"
    sys.exit(f"{pq.ExecStatus(result.status).name}: {sql}")


def statement(paragraph):
    """The SQL of a record or of a new statement."""
    lines = paragraph.split("\n")
    if lines[0].split(" ")[0] in ("statement", "query"):
        lines = lines[1:]
    return "\n".join(lines[: lines.index("----")] if "----" in lines else lines).strip().removesuffix(";")


def generate(admin, parameters, path):
    name = f"slt_{path.stem}"
    admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    admin.execute(f"CREATE DATABASE {name} OWNER owner")
    connections = {}
    out, count = [], 0
    for paragraph in path.read_text().strip().split("\n\n"):
        paragraph = paragraph.strip("\n")
        head, lines = [], paragraph.split("\n")
        session = "default"
        while lines and lines[0].split(" ")[0] in ("#", "connection"):
            if lines[0].startswith("connection"):
                session = lines[0].split(" ")[1]
            head.append(lines.pop(0))
        if lines:
            if session not in connections:
                parameters |= {"dbname": name, "user": "owner", "password": "pw-owner"}
                connections[session] = psycopg.connect(**parameters, client_encoding="utf8").pgconn
            head.append(record(connections[session], statement("\n".join(lines))))
            count += 1
        out.append("\n".join(head))
        if out[-1] != paragraph:
            print(f"{path.name}: {out[-1]}\n")
    for connection in connections.values():
        connection.finish()
    path.write_text("\n\n".join(out) + "\n")
    return count


def main():
    folder = pathlib.Path(__file__).parent
    files = [pathlib.Path(f) for f in sys.argv[2:]] or sorted(folder.glob("*.slt"))
    with psycopg.connect(sys.argv[1], autocommit=True) as admin:
        parameters = {"host": admin.info.host, "port": admin.info.port}
        counts = {path.name: generate(admin, parameters, path) for path in files}
    print(counts, sum(counts.values()), "records")


main()
