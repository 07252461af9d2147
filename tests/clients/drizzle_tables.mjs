// drizzle with node-postgres and with postgres.js: schema, relations, its query builder, transactions, vectors.
import { and, asc, cosineDistance, count, desc, eq, gt, ilike, inArray, isNull, l2Distance, relations, sql, sum } from "drizzle-orm";
import { drizzle as overPg } from "drizzle-orm/node-postgres";
import { drizzle as overJs } from "drizzle-orm/postgres-js";
import { migrate as migratePg } from "drizzle-orm/node-postgres/migrator";
import { bigint, boolean, date, doublePrecision, integer, jsonb, numeric, pgTable, real, serial, smallint, text, time, timestamp, uuid, varchar, vector } from "drizzle-orm/pg-core";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import pg from "pg";
import postgres from "postgres";
import { attempt, place, say } from "./transcript.mjs";

const authors = pgTable("authors", { id: serial("id").primaryKey(), name: varchar("name", { length: 30 }).notNull().unique(), born: date("born") });
const books = pgTable("books", {
  id: serial("id").primaryKey(),
  title: text("title").notNull(),
  authorId: integer("author_id").references(() => authors.id, { onDelete: "cascade" }),
  price: numeric("price", { precision: 8, scale: 2 }),
  data: jsonb("data"),
  tags: text("tags").array(),
  sold: boolean("sold").default(false).notNull(),
  made: timestamp("made", { withTimezone: true }).defaultNow(),
  embedding: vector("embedding", { dimensions: 3 }),
});
const kinds = pgTable("kinds", { id: integer("id").primaryKey(), s: smallint("s"), l: bigint("l", { mode: "bigint" }), r: real("r"), f: doublePrecision("f"), t: time("t"), ts: timestamp("ts", { mode: "string" }), u: uuid("u") });
const authorsRelations = relations(authors, ({ many }) => ({ books: many(books) }));
const booksRelations = relations(books, ({ one }) => ({ author: one(authors, { fields: [books.authorId], references: [authors.id] }) }));
const schema = { authors, books, kinds, authorsRelations, booksRelations };

// As drizzle-kit writes it.
const migration = `CREATE TABLE "authors" ("id" serial PRIMARY KEY NOT NULL, "name" varchar(30) NOT NULL, "born" date, CONSTRAINT "authors_name_unique" UNIQUE("name"));
--> statement-breakpoint
CREATE TABLE "books" ("id" serial PRIMARY KEY NOT NULL, "title" text NOT NULL, "author_id" integer, "price" numeric(8, 2), "data" jsonb, "tags" text[], "sold" boolean DEFAULT false NOT NULL, "made" timestamp with time zone DEFAULT now(), "embedding" vector(3));
--> statement-breakpoint
CREATE TABLE "kinds" ("id" integer PRIMARY KEY NOT NULL, "s" smallint, "l" bigint, "r" real, "f" double precision, "t" time, "ts" timestamp, "u" uuid);
--> statement-breakpoint
ALTER TABLE "books" ADD CONSTRAINT "books_author_id_authors_id_fk" FOREIGN KEY ("author_id") REFERENCES "public"."authors"("id") ON DELETE cascade ON UPDATE no action;
--> statement-breakpoint
CREATE INDEX "books_embedding" ON "books" USING hnsw ("embedding" vector_cosine_ops);`;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "drizzle-"));
fs.mkdirSync(path.join(folder, "meta"));
fs.writeFileSync(path.join(folder, "0000_first.sql"), migration);
fs.writeFileSync(path.join(folder, "meta", "_journal.json"), JSON.stringify({ version: "7", dialect: "postgresql", entries: [{ idx: 0, version: "7", when: 1700000000000, tag: "0000_first", breakpoints: true }] }));

async function whole(key, db) {
  const run = (name, work) => attempt(`${key} ${name}`, work);
  await run("insert", () => db.insert(authors).values([{ name: "Ada", born: "1815-12-10" }, { name: "Bob" }]).returning());
  await run("insert books", () => db.insert(books).values([
    { title: "Notes", authorId: 1, price: "9.995", data: { k: [1, null] }, tags: ["x", "y,z"], embedding: [1, 2, 3] },
    { title: "Letters", authorId: 1, embedding: [3, 2, 1] }, { title: "Plain", authorId: 2, price: "5" },
  ]).returning({ id: books.id, title: books.title, price: books.price, data: books.data, tags: books.tags, sold: books.sold, embedding: books.embedding }));
  await run("kinds", () => db.insert(kinds).values({ id: 1, s: -3, l: 2n ** 40n, r: 1.5, f: 2.25, t: "01:02:03", ts: "2024-02-29 01:02:03", u: "00000000-0000-0000-0000-000000000005" }).returning());
  await run("select", () => db.select({ id: books.id, title: books.title }).from(books).where(and(gt(books.id, 1), ilike(books.title, "%L%"))).orderBy(desc(books.id)).limit(5).offset(0));
  await run("join", () => db.select({ name: authors.name, title: books.title }).from(authors).leftJoin(books, eq(books.authorId, authors.id)).orderBy(asc(authors.id), asc(books.id)));
  await run("group", () => db.select({ name: authors.name, n: count(books.id), total: sum(books.price) }).from(authors).leftJoin(books, eq(books.authorId, authors.id)).groupBy(authors.id, authors.name).orderBy(authors.name));
  await run("relations", () => db.query.authors.findMany({ with: { books: { columns: { title: true, price: true }, orderBy: (b, { asc }) => [asc(b.id)] } }, orderBy: (a, { asc }) => [asc(a.id)] }));
  await run("relation one", () => db.query.books.findFirst({ columns: { title: true }, with: { author: true }, where: (b, { eq }) => eq(b.title, "Plain") }));
  await run("update", () => db.update(books).set({ price: sql`${books.price} * 2`, sold: true }).where(inArray(books.id, [1, 3])).returning({ id: books.id, price: books.price, sold: books.sold }));
  await run("upsert", () => db.insert(authors).values({ name: "Ada", born: "2000-01-01" }).onConflictDoUpdate({ target: authors.name, set: { born: sql`excluded.born` } }).returning());
  await run("nothing", () => db.insert(authors).values({ name: "Ada" }).onConflictDoNothing().returning());
  await run("nearest", () => db.select({ id: books.id, d: l2Distance(books.embedding, [3, 2, 1]) }).from(books).where(sql`${books.embedding} IS NOT NULL`).orderBy(cosineDistance(books.embedding, [3, 2, 1])).limit(2));
  await run("null", () => db.select({ title: books.title }).from(books).where(isNull(books.price)));
  await run("sub-query", async () => {
    const cheap = db.$with("cheap").as(db.select({ id: books.id, price: books.price }).from(books).where(gt(books.price, "1")));
    return await db.with(cheap).select().from(cheap).orderBy(cheap.id);
  });
  await run("prepared", () => db.select({ t: books.title }).from(books).where(eq(books.id, sql.placeholder("id"))).prepare("by_id").execute({ id: 2 }));
  await run("transaction", () => db.transaction(async (tx) => {
    await tx.insert(authors).values({ name: "In" });
    await tx.transaction(async (nested) => {
      await nested.insert(authors).values({ name: "Nested" });
      nested.rollback();
    }).catch(() => {});
    return await tx.select({ n: authors.name }).from(authors).orderBy(authors.id);
  }, { isolationLevel: "read committed", accessMode: "read write" }));
  await run("rolled back", () => db.transaction(async (tx) => {
    await tx.insert(authors).values({ name: "Lost" });
    await tx.insert(authors).values({ name: "Ada" });
  }));
  await run("foreign key", () => db.insert(books).values({ title: "x", authorId: 99 }));
  await run("cascade", async () => {
    await db.delete(authors).where(eq(authors.name, "Ada"));
    return await db.select({ n: count() }).from(books);
  });
  await run("raw", async () => [...((await db.execute(sql`SELECT name FROM ${authors} WHERE name <> ${"x"} ORDER BY id`)).rows ?? (await db.execute(sql`SELECT name FROM ${authors} WHERE name <> ${"x"} ORDER BY id`)))].map((r) => r.name));
  await run("count", () => db.$count(authors));
}

const pool = new pg.Pool(place);
const client = postgres({ ...place, onnotice: () => {} });
const pgDb = overPg(pool, { schema });
await pool.query("CREATE EXTENSION IF NOT EXISTS vector");
await attempt("migrate", () => migratePg(pgDb, { migrationsFolder: folder }));
await attempt("migrate again", () => migratePg(pgDb, { migrationsFolder: folder }));
await whole("pg", pgDb);
await pool.query("TRUNCATE authors, books, kinds RESTART IDENTITY");
await whole("postgres.js", overJs(client, { schema }));
await attempt("drop", async () => (await pool.query("DROP TABLE authors, books, kinds; DROP SCHEMA drizzle CASCADE")).length);
await pool.end();
await client.end();
fs.rmSync(folder, { recursive: true });
say("done", true);
