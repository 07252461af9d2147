// node-postgres with tables of one's own: text and binary results, pool, cursor, COPY, transactions, pgvector.
import pg from "pg";
import Cursor from "pg-cursor";
import copy from "pg-copy-streams";
import pgvector from "pgvector/pg";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { attempt, every, place, say } from "./transcript.mjs";

try {
  const wrong = new pg.Client({ ...place, password: "wrong" });
  await wrong.connect();
} catch (error) {
  say("wrong password", error.code);
}
const c = new pg.Client(place);
const notices = [];
c.on("notice", (n) => notices.push([n.severity, n.code, n.message]));
await c.connect();
await c.query("CREATE EXTENSION IF NOT EXISTS vector");
const code = (oid) => (oid < 10000 ? oid : "an extension's");
const run = (key, ...query) =>
  attempt(key, async () => {
    const found = await c.query(...query);
    if (Array.isArray(found)) return found.map((f) => [f.command, f.rowCount, f.rows]);
    return [found.command, found.rowCount, found.fields.map((f) => [f.name, code(f.dataTypeID), f.dataTypeModifier, f.format]), found.rows];
  });

for (const [i, statement] of every.entries()) await run(`every ${i}`, statement);
const columns = (await c.query("SELECT * FROM every LIMIT 0")).fields.map((f) => f.name);
for (const column of columns) {
  const query = `SELECT ${column} FROM every ${["d", "ad"].includes(column) ? "WHERE id <> 3" : ""} ORDER BY id`;
  await run(`read ${column}`, query);
  if (!["n", "n2", "iv", "ti", "vec", "an", "ab", "af", "ad", "au", "atz", "u", "j", "jb", "d"].includes(column)) await run(`read ${column} binary`, { text: query, binary: true, rowMode: "array" });
}
await pgvector.registerTypes(c);
await run("vectors", "SELECT id, vec FROM every ORDER BY id");
await run("nearest", "SELECT id, vec <-> $1 AS d FROM every WHERE vec IS NOT NULL ORDER BY d", [pgvector.toSql([1, 2, 3])]);

const values = [
  ["bool", true], ["int", 5], ["int8", "1099511627776"], ["numeric", "1.50"], ["float8", 1.25], ["text", "häß"], ["bytea", Buffer.from([0, 255])],
  ["date", "2024-02-29"], ["timestamp", "2024-02-29 01:02:03"], ["timestamptz", new Date(Date.UTC(2024, 1, 29))], ["uuid", "00000000-0000-0000-0000-000000000007"],
  ["json", { a: [1] }], ["jsonb", JSON.stringify([1, null])], ["int[]", [1, null, 3]], ["text[]", ["a", null, "b,\"c\""]], ["interval", "1 day"],
];
for (const [name, value] of values) await run(`send ${name}`, `SELECT $1::${name} AS x, pg_typeof($1::${name})::text`, [value]);
await run("null", "SELECT $1::text AS x", [null]);

await run("create", "CREATE TABLE note (id serial PRIMARY KEY, title text UNIQUE NOT NULL, n numeric(6,2), data jsonb, made timestamptz DEFAULT now())");
await run("insert", "INSERT INTO note (title, n, data) VALUES ($1, $2, $3), ('two', 2, NULL) RETURNING id, title, n, data", ["one", 1.005, { k: [1] }]);
await run("update", { text: "UPDATE note SET n = n + $1 WHERE title = $2", values: ["0.5", "one"] });
for (let i = 0; i < 2; i++) await run(`named ${i}`, { name: "by title", text: "SELECT id, n FROM note WHERE title = $1", values: [["one", "two"][i]] });
await run("row mode", { text: "SELECT 1 AS a, 2 AS a", rowMode: "array" });
await run("several", "SELECT 1 AS x; UPDATE note SET n = 9 WHERE id = 2; SELECT count(*) FROM note");
await run("delete", "DELETE FROM note WHERE id = $1 RETURNING title", [2]);

await run("begin", "BEGIN");
await run("in it", "INSERT INTO note (title) VALUES ('undone')");
await run("savepoint", "SAVEPOINT s");
await run("fails", "INSERT INTO note (title) VALUES ('one')");
await run("aborted", "SELECT 1");
await run("back", "ROLLBACK TO SAVEPOINT s");
await run("goes on", "SELECT count(*)::int FROM note");
await run("rollback", "ROLLBACK");
await run("left", "SELECT title FROM note ORDER BY id");
for (const [key, query, args] of [
  ["null value", "INSERT INTO note (title) VALUES (NULL) RETURNING id"], ["no table", "SELECT * FROM nosuch"], ["no column", "SELECT nosuch FROM note"],
  ["syntax", "SELEC 1"], ["zero", "SELECT 1/$1::int", [0]], ["bad value", "SELECT $1::int", ["x"]], ["bad count", "SELECT $1::int, $2::int", [1]],
  ["overflow", "UPDATE note SET n = 99999"], ["dimension", "UPDATE every SET vec = '[1]'"],
]) {
  if (key !== "null value") await run(key, query, args);
}

const pool = new pg.Pool({ ...place, max: 4 });
await attempt("pool", async () => (await Promise.all([...Array(12).keys()].map((i) => pool.query("SELECT $1::int * 2 AS x", [i])))).map((r) => r.rows[0].x));
await attempt("pool transaction", async () => {
  const one = await pool.connect();
  try {
    await one.query("BEGIN");
    await one.query("INSERT INTO note (title) VALUES ($1)", ["by the pool"]);
    await one.query("COMMIT");
  } finally {
    one.release();
  }
  return (await pool.query("SELECT count(*)::int AS n FROM note")).rows;
});
await pool.end();

await attempt("cursor", async () => {
  const cursor = c.query(new Cursor("SELECT x FROM generate_series(1, $1::int) AS g(x)", [10]));
  const seen = [await cursor.read(3), await cursor.read(3)];
  await cursor.close();
  return seen.map((rows) => rows.map((r) => r.x));
});

await run("copy table", "CREATE TABLE bulk (i int PRIMARY KEY, t text, f float8)");
const copyIn = (query, text) => attempt(query, async () => {
  const stream = c.query(copy.from(query));
  await pipeline(Readable.from([text]), stream);
  return stream.rowCount;
});
await copyIn("COPY bulk FROM STDIN", "1\tone\t1.5\n2\t\\N\t\\N\n");
await copyIn("COPY bulk FROM STDIN WITH (FORMAT csv, HEADER)", 'i,t,f\n3,"a,""b""",\n');
await copyIn("COPY bulk FROM STDIN WITH (NULL 'x')", "4\tx\tbad\n");
await attempt("copy out", async () => {
  const parts = [];
  for await (const part of c.query(copy.to("COPY (SELECT * FROM bulk ORDER BY i) TO STDOUT"))) parts.push(part);
  return Buffer.concat(parts).toString();
});
await run("copied", "SELECT * FROM bulk ORDER BY i");

await attempt("listen", async () => {
  const heard = new Promise((resolve) => c.once("notification", (n) => resolve([n.channel, n.payload])));
  await c.query("LISTEN chatter");
  const other = new pg.Client(place);
  await other.connect();
  await other.query("SELECT pg_notify('chatter', 'hello')");
  await other.end();
  return await heard;
});
await run("tables", "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1");
await run("columns", "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = 'note' ORDER BY ordinal_position");
await run("notice", "DROP TABLE IF EXISTS nosuch");
say("notices", notices);
await run("drop", "DROP TABLE note, bulk, every");
await c.end();
say("done", true);
