"""pgvector-python with psycopg 3, SQLAlchemy and numpy, as its README shows it."""

import numpy
import psycopg
from pgvector.psycopg import Vector, register_vector
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Index, Integer, Text, create_engine, delete, func, insert, inspect, select, text, update
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from transcript import URL, attempt, done, say

c = psycopg.connect(URL, autocommit=True)
c.execute("CREATE EXTENSION IF NOT EXISTS vector")
register_vector(c)


def run(key, query, args=None, **more):
    def work():
        cursor = c.execute(query, args, **more)
        return cursor.fetchall() if cursor.description else cursor.statusmessage

    return attempt(key, work)


run("create", "CREATE TABLE items (id bigserial PRIMARY KEY, embedding vector(3))")
for vector in (numpy.array([1, 1, 1]), Vector([2, 2, 2]), numpy.array([1, 1, 2], dtype=numpy.float32)):
    run("insert", "INSERT INTO items (embedding) VALUES (%s) RETURNING id", (vector,))
run("insert null", "INSERT INTO items (embedding) VALUES (%s)", (None,))
run("wrong", "INSERT INTO items (embedding) VALUES (%s)", (numpy.array([1, 2]),))
for binary in (False, True):
    run(f"read {binary}", "SELECT * FROM items ORDER BY id", binary=binary)
one = numpy.array([1, 1, 1])
for operator in ("<->", "<#>", "<=>"):
    run(f"nearest {operator}", f"SELECT id, embedding {operator} %s AS d FROM items WHERE embedding IS NOT NULL ORDER BY d, id LIMIT 5", (one,))
run("distance", "SELECT embedding <-> %s FROM items WHERE id = 3", (one,))
run("within", "SELECT id FROM items WHERE embedding <-> %s < 1.5 ORDER BY id", (one,))
run("average", "SELECT avg(embedding), sum(embedding) FROM items")


def copied():
    with c.cursor().copy("COPY items (embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.set_types(["vector"])
        for i in range(20):
            copy.write_row([numpy.array([i, i % 3, i % 7])])


attempt("copy", copied)
run("hnsw", "CREATE INDEX ON items USING hnsw (embedding vector_l2_ops)")
run("hnsw with", "CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)")
run("ef_search", "SET hnsw.ef_search = 100")
run("by index", "SELECT id, embedding FROM items ORDER BY embedding <-> %s, id LIMIT 4", (numpy.array([9, 1, 2]),))
run("progress", "SELECT phase FROM pg_stat_progress_create_index")
run("casts", "SELECT embedding::real[], embedding::text FROM items WHERE id = 3")
run("from array", "SELECT ARRAY[1,2,3]::vector, %s::real[]::vector", ([1.5, 2.5],))
run("functions", "SELECT l2_distance(embedding, %(v)s), cosine_distance(embedding, %(v)s), inner_product(embedding, %(v)s), vector_dims(embedding), vector_norm(embedding) FROM items WHERE id = 2", {"v": one})
run("drop", "DROP TABLE items")

engine = create_engine(URL.replace("postgresql://", "postgresql+psycopg://"))


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id = mapped_column(Integer, primary_key=True)
    label = mapped_column(Text)
    embedding = mapped_column(VECTOR(3))
    __table_args__ = (Index("item_hnsw", "embedding", postgresql_using="hnsw", postgresql_with={"m": 16, "ef_construction": 64}, postgresql_ops={"embedding": "vector_l2_ops"}),)


attempt("create_all", lambda: Base.metadata.create_all(engine))
with Session(engine) as session:
    session.add_all([Item(label="a", embedding=[1, 1, 1]), Item(label="b", embedding=[2, 2, 2]), Item(label="c", embedding=numpy.array([1, 1, 2])), Item(label="d")])
    attempt("add", session.commit, session.rollback)
    attempt("scalars", lambda: [(i.label, i.embedding) for i in session.scalars(select(Item).order_by(Item.id))], session.rollback)
    for name in ("l2_distance", "max_inner_product", "cosine_distance"):
        by = lambda: getattr(Item.embedding, name)([1, 1, 1])
        attempt(f"order by {name}", lambda: session.execute(select(Item.label, by()).where(Item.embedding.is_not(None)).order_by(by(), Item.id).limit(5)).all(), session.rollback)
    attempt("filter", lambda: session.scalars(select(Item.label).filter(Item.embedding.l2_distance([1, 1, 1]) < 1.1).order_by(Item.id)).all(), session.rollback)
    attempt("avg", lambda: session.scalars(select(func.avg(Item.embedding))).all(), session.rollback)
    attempt("bulk", lambda: session.execute(insert(Item).returning(Item.label), [{"label": "e", "embedding": [5, 5, 5]}, {"label": "f", "embedding": None}]).all(), session.rollback)
    attempt("update", lambda: session.execute(update(Item).where(Item.label == "f").values(embedding=[6, 6, 6])).rowcount, session.rollback)
    attempt("delete", lambda: session.execute(delete(Item).where(Item.label == "e")).rowcount, session.rollback)
    attempt("commit", session.commit, session.rollback)
    attempt("too many", lambda: session.execute(text("INSERT INTO item (embedding) VALUES ('[1]')")), session.rollback)
inspector = inspect(engine)
attempt("columns", lambda: [(x["name"], str(x["type"]), x["nullable"]) for x in inspector.get_columns("item")])
attempt("indexes", lambda: inspector.get_indexes("item"))
with engine.begin() as connection:
    attempt("ivfflat or not", lambda: connection.execute(text("SELECT count(*) FROM item")).scalar())
attempt("drop_all", lambda: Base.metadata.drop_all(engine))
done()
