// postgres.js with tables of one's own: tagged templates, helpers, arrays, transactions, cursors, COPY, LISTEN.
import postgres from "postgres";
import { attempt, every, place, say } from "./transcript.mjs";

const notices = [];
const options = { ...place, max: 3, onnotice: (n) => notices.push([n.severity, n.code, n.message]) };
await attempt("wrong password", async () => {
  const wrong = postgres({ ...options, password: "wrong", connect_timeout: 5 });
  try {
    return await wrong`SELECT 1`;
  } finally {
    await wrong.end();
  }
});
const sql = postgres(options);
const rows = (found) => [found.command, found.count, found.columns?.map((c) => [c.name, c.type < 10000 ? c.type : "an extension's"]), [...found].map((r) => ({ ...r }))];
const run = (key, query) => attempt(key, async () => rows(await query));
await run("extension", sql`CREATE EXTENSION IF NOT EXISTS vector`);
for (const [i, statement] of every.entries()) await run(`every ${i}`, sql.unsafe(statement));
for (const column of ["id", "b", "i2", "i4", "i8", "f4", "f8", "n", "n2", "t", "v", "c", "y", "ti", "ts", "tz", "iv", "u", "j", "jb", "ai", "at", "ab", "af", "an", "au", "atz", "vec"]) {
  await run(`read ${column}`, sql`SELECT ${sql(column)} FROM every WHERE id < 3 ORDER BY id`);
}
await run("where", sql`SELECT id FROM every WHERE i4 > ${0} AND t = ${"text"} AND d < ${"2025-01-01"} AND id = ANY(${[1, 2, 3]})`);
await run("in", sql`SELECT id FROM every WHERE id IN ${sql([1, 3, 9])} ORDER BY id`);
await run("send", sql`SELECT ${true}::bool AS b, ${7}::int AS i, ${12345678901n}::int8 AS l, ${"1.50"}::numeric AS n, ${1.5}::float8 AS f, ${"häß"} || 'x' AS t, ${Buffer.from([0, 255])}::bytea AS y, ${new Date(0)}::timestamptz AS z, ${sql.json({ a: [1] })} AS j, ${sql.array([1, 2])}::int[] AS a`);
await run("null", sql`SELECT ${null}::text AS x`);
await run("create", sql`CREATE TABLE note (id serial PRIMARY KEY, title text UNIQUE NOT NULL, n numeric(6,2), data jsonb, tags text[], v vector(2))`);
await run("insert", sql`INSERT INTO note ${sql([{ title: "one", n: 1.5, data: { k: 1 }, tags: ["a"] }, { title: "two", n: null, data: null, tags: [] }])} RETURNING *`);
await run("update", sql`UPDATE note SET ${sql({ title: "uno", n: 2 })} WHERE title = ${"one"} RETURNING id, title, n`);
await run("upsert", sql`INSERT INTO note (title, n) VALUES ('uno', 5) ON CONFLICT (title) DO UPDATE SET n = note.n + excluded.n RETURNING n`);
await run("vector", sql`UPDATE note SET v = ${"[1,2]"} WHERE title = ${"two"} RETURNING v, v <-> ${"[1,1]"} AS d`);
await run("fragments", sql`SELECT title FROM note WHERE true ${sql`AND n IS NULL`} ORDER BY ${sql("id")}`);
await attempt("transaction", () => sql.begin(async (tx) => {
  await tx`INSERT INTO note (title) VALUES ('in')`;
  await tx.savepoint(async (sp) => {
    await sp`INSERT INTO note (title) VALUES ('sp')`;
    throw new Error("back");
  }).catch(() => {});
  return rows(await tx`SELECT title FROM note ORDER BY id`);
}));
await attempt("rolled back", () => sql.begin(async (tx) => {
  await tx`INSERT INTO note (title) VALUES ('lost')`;
  await tx`INSERT INTO note (title) VALUES ('uno')`;
}));
await attempt("pipelined", () => sql.begin((tx) => [tx`SELECT 1 AS x`, tx`SELECT count(*)::int AS n FROM note`]).then((all) => all.map(rows)));
await attempt("read only", () => sql.begin("read only", (tx) => tx`DELETE FROM note`));
await run("left", sql`SELECT title FROM note ORDER BY id`);
await run("no table", sql`SELECT * FROM nosuch`);
await run("syntax", sql`SELEC 1`);
await run("zero", sql`SELECT 1/${0}::int`);
await run("bad", sql`SELECT ${"x"}::int`);
await run("simple", sql.unsafe("SELECT 1 AS x; SELECT 2 AS y").simple().then((all) => ({ command: "several", count: all.length, columns: [], [Symbol.iterator]: () => all.flat().values() })));
await attempt("cursor", async () => {
  const seen = [];
  await sql`SELECT x FROM generate_series(1, 7) AS g(x)`.cursor(3, (part) => seen.push(part.map((r) => r.x)));
  return seen;
});
await attempt("for each", async () => {
  let sum = 0;
  await sql`SELECT x FROM generate_series(1, 100) AS g(x)`.forEach((row) => (sum += row.x));
  return sum;
});
await attempt("values", async () => [...(await sql`SELECT 1, 'x'`.values())]);
await attempt("describe", async () => {
  const found = await sql`SELECT id, title FROM note WHERE id = ${1} AND title = ${"x"}`.describe();
  return [found.types, found.columns.map((c) => [c.name, c.type])];
});
await attempt("at once", async () => (await Promise.all([...Array(20).keys()].map((i) => sql`SELECT ${i}::int AS x`))).map((r) => r[0].x));
await attempt("copy in", async () => {
  const stream = await sql`COPY note (title, n) FROM STDIN`.writable();
  await new Promise((resolve, reject) => stream.on("error", reject).on("finish", resolve).end("copied\t1.5\nalso\t\\N\n"));
  return rows(await sql`SELECT title, n FROM note WHERE title IN ('copied', 'also') ORDER BY 1`);
});
await attempt("copy out", async () => {
  const parts = [];
  for await (const part of await sql`COPY (SELECT title, n FROM note ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)`.readable()) parts.push(part);
  return Buffer.concat(parts).toString();
});
await attempt("listen", async () => {
  let heard;
  const said = new Promise((resolve) => (heard = resolve));
  const { unlisten } = await sql.listen("chatter", heard);
  await sql.notify("chatter", "hello");
  const payload = await said;
  await unlisten();
  return payload;
});
await attempt("reserved", async () => {
  const one = await sql.reserve();
  try {
    await one`SET application_name = 'reserved'`;
    return rows(await one`SHOW application_name`);
  } finally {
    one.release();
  }
});
await run("columns", sql`SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'note' ORDER BY ordinal_position`);
await run("drop", sql`DROP TABLE IF EXISTS note, every, nosuch`);
say("notices", notices);
await sql.end();
say("done", true);
