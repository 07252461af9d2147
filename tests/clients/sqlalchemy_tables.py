"""SQLAlchemy 2 with psycopg 3 and psycopg2, and asyncpg in its asynchronous form: schema, ORM, Core, reflection."""

import asyncio
import datetime
import decimal
import enum
import uuid

from sqlalchemy import (
    ARRAY, JSON, BigInteger, Boolean, CheckConstraint, Column, Date, DateTime, Float, ForeignKey, Identity, Index, Integer, Interval,
    LargeBinary, MetaData, Numeric, Sequence, SmallInteger, String, Table, Text, Time, UniqueConstraint, Uuid, case, cast, column,
    create_engine, delete, exists, func, inspect, literal, select, table, text, true, tuple_, update, values,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, REAL, aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, joinedload, mapped_column, relationship, selectinload
from transcript import URL, attempt, attempt_async, done, say


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30), unique=True)
    born: Mapped[datetime.date | None]
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (
        CheckConstraint("price >= 0", name="price_positive"),
        UniqueConstraint("author_id", "title", name="one_title"),
        Index("book_made", "made"),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id", ondelete="CASCADE"))
    price: Mapped[decimal.Decimal | None] = mapped_column(Numeric(8, 2))
    data: Mapped[dict | None] = mapped_column(JSONB)
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    key: Mapped[uuid.UUID] = mapped_column(Uuid, server_default=func.gen_random_uuid())
    made: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    sold: Mapped[bool] = mapped_column(server_default=true())
    author: Mapped[Author] = relationship(back_populates="books")


EVERY = Table(
    "kinds", MetaData(), Column("id", Integer, primary_key=True), Column("b", Boolean), Column("i2", SmallInteger), Column("i8", BigInteger),
    Column("f4", REAL), Column("f8", DOUBLE_PRECISION), Column("f", Float), Column("n", Numeric(12, 3)), Column("s", String(10)),
    Column("t", Text, comment="a comment"), Column("y", LargeBinary), Column("d", Date), Column("ti", Time), Column("ts", DateTime),
    Column("tz", DateTime(timezone=True)), Column("iv", Interval), Column("u", Uuid), Column("j", JSON), Column("jb", JSONB),
    Column("ai", ARRAY(Integer)), Column("at", ARRAY(Text)), Column("dflt", Integer, server_default="7"), comment="all kinds",
)  # fmt: skip
ROW = {
    "id": 1, "b": True, "i2": -3, "i8": 2**40, "f4": 1.5, "f8": 2.25, "f": 0.1, "n": decimal.Decimal("12.3456"), "s": "short", "t": "häß%:x",
    "y": b"\x00\xff", "d": datetime.date(2024, 2, 29), "ti": datetime.time(1, 2, 3), "ts": datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
    "tz": datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc), "iv": datetime.timedelta(days=2, seconds=3), "u": uuid.UUID(int=5),
    "j": {"a": [1, None]}, "jb": [1, {"b": True}], "ai": [1, None], "at": ["x", "y,z"],
}  # fmt: skip


def reflection(key, connection):
    inspector = inspect(connection)

    def clean(found):
        return [{k: str(v) for k, v in sorted(x.items())} for x in found]

    for name in ("author", "book", "kinds"):
        attempt(f"{key} columns {name}", lambda: clean(inspector.get_columns(name)), connection.rollback)
        attempt(f"{key} pk {name}", lambda: inspector.get_pk_constraint(name), connection.rollback)
        attempt(f"{key} indexes {name}", lambda: sorted(clean(inspector.get_indexes(name)), key=str), connection.rollback)
        attempt(f"{key} fk {name}", lambda: inspector.get_foreign_keys(name), connection.rollback)
        attempt(f"{key} unique {name}", lambda: inspector.get_unique_constraints(name), connection.rollback)
        attempt(f"{key} check {name}", lambda: inspector.get_check_constraints(name), connection.rollback)
        attempt(f"{key} comment {name}", lambda: inspector.get_table_comment(name), connection.rollback)
    attempt(f"{key} tables", lambda: sorted(inspector.get_table_names()), connection.rollback)
    attempt(f"{key} views", lambda: [inspector.get_view_names(), inspector.get_view_definition("cheap")], connection.rollback)
    attempt(f"{key} schemas", lambda: "public" in inspector.get_schema_names(), connection.rollback)
    attempt(f"{key} sequences", lambda: sorted(inspector.get_sequence_names()), connection.rollback)
    attempt(f"{key} has", lambda: [inspector.has_table("book"), inspector.has_table("nosuch"), inspector.has_index("book", "book_made"), inspector.has_sequence("counter")], connection.rollback)
    attempt(f"{key} enums", lambda: inspector.get_enums(), connection.rollback)

    def everything():
        found = MetaData()
        found.reflect(connection)
        return sorted(f"{t.name}: {', '.join(f'{c.name} {c.type}' for c in t.columns)}; {len(t.indexes)} {sorted(f.target_fullname for f in t.foreign_keys)}" for t in found.tables.values())

    attempt(f"{key} reflect", everything, connection.rollback)


def core(key, connection):
    def run(name, statement, args=None):
        def work():
            result = connection.execute(statement, args) if args is not None else connection.execute(statement)
            return [tuple(r) for r in result] if result.returns_rows else result.rowcount

        return attempt(f"{key} {name}", work, connection.rollback)

    run("insert kinds", EVERY.insert(), ROW)
    run("insert empty", EVERY.insert(), [{"id": 2}, {"id": 3}])
    run("kinds", select(EVERY).order_by(EVERY.c.id))
    run("where", select(EVERY.c.id).where(EVERY.c.d < datetime.date(2025, 1, 1), EVERY.c.t.like("h%"), EVERY.c.n.between(1, 20)))
    run("json", select(EVERY.c.jb[1]["b"].as_boolean(), EVERY.c.j["a"][0].as_integer(), EVERY.c.jb.contains([1])).where(EVERY.c.id == 1))
    run("arrays", select(EVERY.c.ai[1], EVERY.c.at.any("x"), func.array_length(EVERY.c.ai, 1)).where(EVERY.c.id == 1))
    run("upsert", insert(EVERY).values(id=1, s="new").on_conflict_do_update(index_elements=["id"], set_={"s": "upserted"}).returning(EVERY.c.id, EVERY.c.s))
    run("upsert nothing", insert(EVERY).values(id=1).on_conflict_do_nothing().returning(EVERY.c.id))
    run("update returning", update(EVERY).where(EVERY.c.id == 2).values(i8=EVERY.c.dflt * 2, b=True).returning(EVERY.c.i8, EVERY.c.b))
    run("in", select(EVERY.c.id).where(EVERY.c.id.in_([1, 3, 9])).order_by(EVERY.c.id.desc()))
    run("in empty", select(EVERY.c.id).where(EVERY.c.id.in_([])))
    run("tuples", select(EVERY.c.id).where(tuple_(EVERY.c.id, EVERY.c.dflt).in_([(1, 7), (2, 8)])))
    run("case", select(case((EVERY.c.id > 1, "many"), else_="one"), cast(EVERY.c.id, String), func.coalesce(EVERY.c.s, "none")).order_by(EVERY.c.id))
    run("aggregates", select(func.count(), func.sum(EVERY.c.id), func.string_agg(cast(EVERY.c.id, Text), aggregate_order_by(literal(","), EVERY.c.id.desc()))))
    run("window", select(EVERY.c.id, func.row_number().over(order_by=EVERY.c.id.desc())).order_by(EVERY.c.id))
    numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 5))
    run("recursive", select(func.sum(numbers.c.n)))
    run("values", select(values(column("a", Integer), column("b", Text), name="v").data([(1, "x"), (2, "y")])))
    run("lateral", select(EVERY.c.id, func.unnest(EVERY.c.ai).label("x")).order_by(EVERY.c.id, "x"))
    run("exists", select(exists().where(EVERY.c.id == 99)))
    run("distinct on", select(EVERY.c.dflt, EVERY.c.id).distinct(EVERY.c.dflt).order_by(EVERY.c.dflt, EVERY.c.id.desc()))
    run("for update", select(EVERY.c.id).where(EVERY.c.id == 1).with_for_update())
    run("dates", select(func.date_trunc("month", EVERY.c.ts), func.extract("year", EVERY.c.d), EVERY.c.d + datetime.timedelta(days=1)).where(EVERY.c.id == 1))
    run("text", text("SELECT :a + 1, :b || 'x'"), {"a": 1, "b": "y"})
    run("delete", delete(EVERY).where(EVERY.c.id == 3).returning(EVERY.c.id))
    run("sequence", select(Sequence("counter").next_value()))
    connection.commit()
    run("duplicate", EVERY.insert(), {"id": 1})
    run("no table", select(text("*")).select_from(table("nosuch")))


def orm(key, session):
    def tell(name, work):
        return attempt(f"{key} {name}", work, session.rollback)

    ada = Author(name="Ada", born=datetime.date(1815, 12, 10), books=[Book(title="Notes", price=decimal.Decimal("9.995"), data={"k": [1]}, tags=["x"]), Book(title="Letters")])
    session.add_all([ada, Author(name="Bob")])
    tell("flush", session.flush)
    tell("ids", lambda: [ada.id, [(b.id, b.author_id, b.sold, b.price) for b in ada.books]])
    tell("commit", session.commit)
    tell("refreshed", lambda: [ada.name, ada.born, [(b.title, b.price, b.data, b.tags, b.key is not None, b.made is not None) for b in ada.books]])
    tell("joined", lambda: [(a.name, [b.title for b in a.books]) for a in session.scalars(select(Author).options(joinedload(Author.books)).order_by(Author.name)).unique()])
    tell("selectin", lambda: [(a.name, len(a.books)) for a in session.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.name))])
    other = aliased(Book)
    tell("aliased", lambda: [tuple(r) for r in session.execute(select(Book.title, other.title).join(other, other.author_id == Book.author_id).where(Book.id < other.id))])
    tell("grouped", lambda: [tuple(r) for r in session.execute(select(Author.name, func.count(Book.id)).outerjoin(Book).group_by(Author.id).order_by(Author.name))])

    def changed():
        ada.name = "Ada L."
        ada.books[0].price += 1
        ada.books[0].data = {"new": True}
        session.commit()
        return [ada.name, ada.books[0].price, ada.books[0].data]

    tell("changed", changed)

    def nested():
        with session.begin_nested():
            session.add(Author(name="Cy"))
        try:
            with session.begin_nested():
                session.add(Author(name="Cy"))
        except Exception as error:
            said = error.orig.__class__.__name__
        session.commit()
        return [said, session.scalar(select(func.count()).select_from(Author))]

    tell("nested", nested)

    def negative():
        session.add(Book(title="free", author_id=ada.id, price=-1))
        session.flush()

    tell("check", negative)

    def orphan():
        session.add(Book(title="lost", author_id=999))
        session.flush()

    tell("foreign key", orphan)

    def removed():
        session.delete(session.get(Author, ada.id))
        session.commit()
        return session.scalar(select(func.count()).select_from(Book))

    tell("cascade", removed)
    tell("bulk", lambda: [tuple(r) for r in session.execute(insert(Author).returning(Author.name), [{"name": f"n{i}"} for i in range(3)])])
    tell("bulk update", lambda: session.execute(update(Author).where(Author.name.startswith("n")).values(born=datetime.date(2000, 1, 1))).rowcount)
    tell("stream", lambda: [a.name for a in session.scalars(select(Author).order_by(Author.id).execution_options(yield_per=2))])
    tell("rollback", session.rollback)
    tell("left", lambda: session.scalars(select(Author.name).order_by(Author.name)).all())


SETUP = [
    "CREATE VIEW cheap AS SELECT id, title FROM book WHERE price < 10",
    "CREATE SEQUENCE counter START 5",
]


def whole(key, engine):
    attempt(f"{key} create_all", lambda: Base.metadata.create_all(engine))
    attempt(f"{key} create kinds", lambda: EVERY.metadata.create_all(engine))
    attempt(f"{key} create again", lambda: Base.metadata.create_all(engine))
    for statement in SETUP:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            attempt(f"{key} {statement[:16]}", lambda: connection.execute(text(statement)).rowcount)
    with engine.connect() as connection:
        say(f"{key} dialect", [connection.dialect.default_schema_name, connection.dialect.server_version_info >= (16,), connection.get_isolation_level()])
        core(key, connection)
        connection.commit()
        reflection(key, connection)
    with Session(engine) as session:
        orm(key, session)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        attempt(f"{key} repeatable read", lambda: connection.execute(text("SHOW transaction_isolation")).scalar())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        attempt(f"{key} autocommit", lambda: connection.execute(text("DROP VIEW cheap")).rowcount)
        attempt(f"{key} drop sequence", lambda: connection.execute(text("DROP SEQUENCE counter")).rowcount)
    attempt(f"{key} drop kinds", lambda: EVERY.metadata.drop_all(engine))
    attempt(f"{key} drop_all", lambda: Base.metadata.drop_all(engine))
    attempt(f"{key} nothing left", lambda: inspect(engine).get_table_names())
    engine.dispose()


async def whole_async():
    engine = create_async_engine(URL.replace("postgresql://", "postgresql+asyncpg://"))
    key = "asyncpg"
    async with engine.begin() as connection:
        await connection.run_sync(lambda c: Base.metadata.create_all(c))
        await connection.run_sync(lambda c: EVERY.metadata.create_all(c))
        for statement in SETUP:
            await connection.execute(text(statement))
    async with engine.connect() as connection:
        await connection.run_sync(lambda c: core(key, c))
        await connection.commit()
        await connection.run_sync(lambda c: reflection(key, c))
        result = await connection.stream(select(EVERY.c.id).order_by(EVERY.c.id))
        say(f"{key} streamed", [r[0] async for r in result])
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(Author(name="Ada", books=[Book(title="x", tags=["a", "b"], data={"k": 1}, price=decimal.Decimal("1.50"))]))
        await attempt_async(f"{key} commit", session.commit, session.rollback)
        found = (await session.scalars(select(Author).options(selectinload(Author.books)))).all()
        say(f"{key} found", [(a.name, [(b.title, b.tags, b.data, b.price) for b in a.books]) for a in found])
        session.add(Author(name="Ada"))
        await attempt_async(f"{key} duplicate", session.commit, session.rollback)

    async def at_once(n):
        async with engine.connect() as connection:
            return (await connection.execute(text("SELECT CAST(:n AS int) * 2"), {"n": n})).scalar()

    say(f"{key} at once", await asyncio.gather(*[at_once(n) for n in range(8)]))
    async with engine.begin() as connection:
        await connection.execute(text("DROP VIEW cheap"))
        await connection.execute(text("DROP SEQUENCE counter"))
        await connection.run_sync(lambda c: EVERY.metadata.drop_all(c))
        await connection.run_sync(lambda c: Base.metadata.drop_all(c))
    await engine.dispose()


for driver in ("psycopg", "psycopg2"):
    whole(driver, create_engine(URL.replace("postgresql://", f"postgresql+{driver}://")))
asyncio.run(whole_async())
done()
