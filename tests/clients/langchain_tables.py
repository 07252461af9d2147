"""LangChain's PGVector and PGVectorStore (langchain-postgres) with an embedding that needs no model."""

import hashlib
import uuid
import warnings

import sqlalchemy
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from transcript import URL, attempt, done, say

warnings.simplefilter("ignore")
from langchain_postgres import Column, PGEngine, PGVector, PGVectorStore  # noqa: E402
from langchain_postgres.v2.indexes import DistanceStrategy, HNSWIndex, HNSWQueryOptions  # noqa: E402

DRIVER = URL.replace("postgresql://", "postgresql+psycopg://")


class Hashed(Embeddings):
    """Eight numbers of each word's hash, added up: the same words give the same vector on every machine."""

    def embed_query(self, text):
        total = [0.125] * 8
        for word in text.lower().split():
            for i, byte in enumerate(hashlib.sha256(word.encode()).digest()[:8]):
                total[i] += byte / 256 - 0.5
        return total

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


TEXTS = [
    ("The Rhine flows past Cologne.", {"kind": "river", "n": 1}), ("The lamp is in the attic.", {"kind": "room", "n": 2}),
    ("Returns are free for thirty days.", {"kind": "shop", "n": 3, "tags": ["a", "b"]}), ("Cologne has a cathedral.", {"kind": "town", "n": 4}),
]  # fmt: skip
IDS = [str(uuid.UUID(int=i + 1)) for i in range(len(TEXTS))]


def told(found):
    out = []
    for item in found:
        document, score = item if isinstance(item, tuple) else (item, None)
        out.append([document.page_content, document.metadata, None if score is None else round(float(score), 5)])
    return out


# PGVector: its own two tables.
store = PGVector(embeddings=Hashed(), collection_name="docs", connection=DRIVER, use_jsonb=True)
documents = [Document(text, metadata=data) for text, data in TEXTS]
attempt("add", lambda: store.add_documents(documents, ids=IDS))
attempt("again", lambda: store.add_documents(documents[:1], ids=IDS[:1]))
attempt("search", lambda: told(store.similarity_search("Which river flows past Cologne.", k=2)))
attempt("scores", lambda: told(store.similarity_search_with_score("The lamp", k=3)))
for name, condition in [
    ("equal", {"kind": "river"}), ("in", {"kind": {"$in": ["river", "town"]}}), ("greater", {"n": {"$gt": 2}}), ("between", {"n": {"$between": (2, 3)}}),
    ("like", {"kind": {"$like": "r%"}}), ("ilike", {"kind": {"$ilike": "R%"}}), ("and", {"$and": [{"n": {"$gte": 2}}, {"kind": {"$ne": "room"}}]}),
    ("or", {"$or": [{"n": 1}, {"kind": "shop"}]}), ("exists", {"tags": {"$exists": True}}), ("not", {"$not": {"kind": "river"}}),
]:  # fmt: skip
    attempt(f"filter {name}", lambda: sorted(d.metadata["n"] for d in store.similarity_search("Cologne", k=10, filter=condition)))
attempt("mmr", lambda: told(store.max_marginal_relevance_search("Cologne", k=2, fetch_k=4)))
attempt("by ids", lambda: sorted(d.page_content for d in store.get_by_ids(IDS[:2])))
attempt("delete", lambda: store.delete(IDS[:1]))
attempt("left", lambda: sorted(d.metadata["n"] for d in store.similarity_search("Cologne", k=10)))
for strategy in ("l2", "inner", "cosine"):
    other = PGVector(embeddings=Hashed(), collection_name=f"by {strategy}", connection=DRIVER, distance_strategy=strategy)
    attempt(f"{strategy} add", lambda: other.add_texts([t for t, _ in TEXTS], metadatas=[m for _, m in TEXTS], ids=[f"{strategy}{i}" for i in range(4)]))
    attempt(f"{strategy} search", lambda: told(other.similarity_search_with_score("the attic", k=2)))
attempt("retriever", lambda: [d.page_content for d in store.as_retriever(search_kwargs={"k": 1}).invoke("lamp attic")])
engine = sqlalchemy.create_engine(DRIVER)
attempt("tables", lambda: sorted(sqlalchemy.inspect(engine).get_table_names()))
attempt("drop", store.drop_tables)

# PGVectorStore: a table with columns of one's own.
pool = PGEngine.from_connection_string(DRIVER.replace("+psycopg", "+asyncpg"))
attempt("init", lambda: pool.init_vectorstore_table("own", 8, metadata_columns=[Column("kind", "TEXT"), Column("n", "INTEGER")], id_column=Column("langchain_id", "UUID", nullable=False)))
attempt("init again", lambda: pool.init_vectorstore_table("own", 8))
attempt("init over", lambda: pool.init_vectorstore_table("own", 8, metadata_columns=[Column("kind", "TEXT"), Column("n", "INTEGER")], overwrite_existing=True))
made = lambda **more: PGVectorStore.create_sync(engine=pool, embedding_service=Hashed(), table_name="own", metadata_columns=["kind", "n"], **more)  # noqa: E731
attempt("create", lambda: made() is not None)
own = made()
attempt("own add", lambda: own.add_documents(documents, ids=IDS))
attempt("own upsert", lambda: own.add_documents([Document("The Rhine flows past Basel.", metadata={"kind": "river", "n": 10})], ids=IDS[:1]))
attempt("own search", lambda: told(own.similarity_search("Rhine flows", k=2)))
attempt("own scores", lambda: told(own.similarity_search_with_score("lamp attic", k=2)))
for name, condition in [
    ("equal", {"kind": "river"}), ("greater", {"n": {"$gt": 2}}), ("in", {"kind": {"$in": ["shop", "room"]}}), ("like", {"kind": {"$like": "t%"}}),
    ("and", {"$and": [{"n": {"$gte": 3}}, {"kind": {"$ne": "river"}}]}), ("between", {"n": {"$between": (2, 4)}}), ("exists", {"kind": {"$exists": True}}),
]:  # fmt: skip
    attempt(f"own filter {name}", lambda: sorted(d.metadata["n"] for d in own.similarity_search("Cologne", k=10, filter=condition)))
attempt("own mmr", lambda: told(own.max_marginal_relevance_search("Cologne", k=2, fetch_k=4)))
attempt("own by ids", lambda: sorted(d.page_content for d in own.get_by_ids(IDS[:2])))
attempt("own index", lambda: own.apply_vector_index(HNSWIndex(name="own_hnsw", distance_strategy=DistanceStrategy.COSINE_DISTANCE)))
attempt("own indexed", lambda: own.is_valid_index("own_hnsw"))
attempt("own options", lambda: told(made(index_query_options=HNSWQueryOptions(ef_search=50)).similarity_search("lamp", k=1)))
attempt("own index dropped", lambda: own.drop_vector_index("own_hnsw"))
attempt("own delete", lambda: own.delete(IDS[1:2]))
attempt("own left", lambda: sorted(d.metadata["n"] for d in own.similarity_search("x", k=10)))
attempt("own drop", lambda: pool.drop_table("own"))
say("nothing left", sqlalchemy.inspect(engine).get_table_names())
done()
