"""pandas with SQLAlchemy and with psycopg 3 and psycopg2: to_sql in its ways, read_sql with types, chunks, dates."""

import datetime
import warnings

import numpy
import pandas
import psycopg2
import sqlalchemy
from transcript import URL, attempt, done, say

warnings.simplefilter("ignore")
engine = sqlalchemy.create_engine(URL.replace("postgresql://", "postgresql+psycopg://"))
other = sqlalchemy.create_engine(URL.replace("postgresql://", "postgresql+psycopg2://"))
frame = pandas.DataFrame(
    {
        "i": pandas.array([1, 2, 3], dtype="int64"),
        "small": pandas.array([1, None, 3], dtype="Int16"),
        "f": [1.5, numpy.nan, -2.25],
        "s": ["a", None, "ü,\"q\""],
        "b": [True, False, True],
        "t": pandas.to_datetime(["2024-02-29 12:34:56.789", None, "1999-12-31"], format="ISO8601"),
        "z": pandas.to_datetime(["2024-02-29 12:00", None, "1999-12-31"], utc=True, format="ISO8601"),
        "d": [datetime.date(2024, 2, 29), None, datetime.date(1999, 12, 31)],
    }
)


def told(frame):
    types = [f"{name} {kind}" for name, kind in frame.dtypes.items()]
    rows = [[None if v is None or v is pandas.NaT or v is pandas.NA or (isinstance(v, float) and v != v) else str(v) for v in row] for row in frame.itertuples(index=False)]
    return [types, rows]


for name, to in (("psycopg", engine), ("psycopg2", other)):
    attempt(f"{name} to_sql", lambda: frame.to_sql("frame", to, index=False, if_exists="replace"))
    attempt(f"{name} read_sql_table", lambda: told(pandas.read_sql_table("frame", to)))
    attempt(f"{name} read_sql_query", lambda: told(pandas.read_sql_query("SELECT * FROM frame ORDER BY i", to)))
    attempt(f"{name} append", lambda: frame.to_sql("frame", to, index=False, if_exists="append", method="multi"))
    attempt(f"{name} chunks", lambda: frame.to_sql("frame", to, index=False, if_exists="append", chunksize=2))
    attempt(f"{name} fail", lambda: frame.to_sql("frame", to, index=False))
    attempt(f"{name} grouped", lambda: told(pandas.read_sql("SELECT b, count(*) AS n, avg(f) AS f, sum(i) AS s FROM frame GROUP BY b ORDER BY b", to)))
    attempt(f"{name} parameters", lambda: told(pandas.read_sql(sqlalchemy.text("SELECT i, s FROM frame WHERE i > :low ORDER BY i"), to, params={"low": 1})))
    attempt(f"{name} chunked", lambda: [len(c) for c in pandas.read_sql("SELECT * FROM frame ORDER BY i", to, chunksize=4)])
    attempt(f"{name} index", lambda: frame.set_index("i").to_sql("indexed", to, if_exists="replace", dtype={"s": sqlalchemy.VARCHAR(20), "f": sqlalchemy.Numeric(10, 3)}))
    attempt(f"{name} indexed", lambda: told(pandas.read_sql_table("indexed", to, index_col="i", parse_dates=["d"], columns=["s", "f", "d"])))
    attempt(f"{name} has_table", lambda: [pandas.io.sql.has_table("frame", to), pandas.io.sql.has_table("nosuch", to)])
    attempt(f"{name} columns", lambda: [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in sqlalchemy.inspect(to).get_columns("indexed")])
    attempt(f"{name} indexes", lambda: sqlalchemy.inspect(to).get_indexes("indexed"))

# COPY, as the manual of pandas shows it for `method`.
def by_copy(table, connection, keys, rows):
    import csv
    import io

    text = io.StringIO()
    csv.writer(text).writerows(rows)
    text.seek(0)
    with connection.connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table.name} ({', '.join(keys)}) FROM STDIN WITH CSV", text)


attempt("copy", lambda: frame[["i", "s", "b"]].to_sql("copied", other, index=False, method=by_copy, if_exists="replace"))
attempt("copied", lambda: told(pandas.read_sql("SELECT * FROM copied ORDER BY i", other)))
with psycopg2.connect(URL) as plain:
    attempt("plain connection", lambda: told(pandas.read_sql_query("SELECT i, s, d FROM frame WHERE i = %(i)s LIMIT 1", plain, params={"i": 3})))
attempt("nullable types", lambda: told(pandas.read_sql("SELECT i, small, b FROM frame WHERE i < 3 ORDER BY i LIMIT 2", engine, dtype_backend="numpy_nullable")))
with engine.begin() as c:
    for table in ("frame", "indexed", "copied"):
        c.execute(sqlalchemy.text(f"DROP TABLE IF EXISTS {table}"))
say("empty", sqlalchemy.inspect(engine).get_table_names())
done()
