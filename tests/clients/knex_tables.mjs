// knex with tables of one's own: schema builder, alterations, query builder, migrations, transactions.
import knexed from "knex";
import { attempt, place, say } from "./transcript.mjs";

const knex = knexed({ client: "pg", connection: place, pool: { min: 0, max: 4 } });
const run = (key, work) => attempt(key, work);
await run("extension", async () => (await knex.raw("CREATE EXTENSION IF NOT EXISTS vector")).command);
const migrations = [
  {
    name: "001_first",
    up: async (k) => {
      await k.schema.createTable("users", (t) => {
        t.increments("id");
        t.string("email", 60).notNullable().unique();
        t.integer("age").unsigned().defaultTo(18);
        t.boolean("active").defaultTo(true);
        t.decimal("balance", 10, 2);
        t.jsonb("data").defaultTo("{}");
        t.specificType("tags", "text[]");
        t.specificType("v", "vector(2)");
        t.uuid("key").defaultTo(k.fn.uuid());
        t.timestamps(true, true);
        t.index(["age"], "users_age");
      });
      await k.schema.createTable("posts", (t) => {
        t.bigIncrements("id");
        t.integer("user_id").references("id").inTable("users").onDelete("CASCADE");
        t.text("body");
        t.date("day");
        t.float("score");
        t.double("exact");
        t.smallint("small");
        t.binary("raw");
        t.time("at");
        t.check("?? <> ??", ["small", "score"], "not_same");
      });
    },
    down: async (k) => {
      await k.schema.dropTable("posts");
      await k.schema.dropTable("users");
    },
  },
];
const migrationSource = { getMigrations: async () => migrations, getMigrationName: (m) => m.name, getMigration: async (m) => m };
await run("migrate", () => knex.migrate.latest({ migrationSource }));
await run("migrate again", () => knex.migrate.latest({ migrationSource }));
await run("has", async () => [await knex.schema.hasTable("users"), await knex.schema.hasTable("nosuch"), await knex.schema.hasColumn("users", "email")]);
await run("column info", () => knex("users").columnInfo());
await run("insert", () => knex("users").insert([{ email: "a@x", age: 30, balance: 10.5, data: { k: [1] }, tags: ["p", "q"], v: "[1,2]" }, { email: "b@x" }]).returning(["id", "email", "age", "active", "balance", "data", "tags", "v"]));
await run("posts", () => knex("posts").insert([{ user_id: 1, body: "one", day: "2024-02-29", score: 1.5, exact: 2.25, small: 3, raw: Buffer.from([0, 255]), at: "01:02:03" }, { user_id: 1, body: "two" }, { user_id: 2, body: "three" }], "id"));
await run("select", () => knex("posts").select("id", "body", "score", "exact", "small", "raw", "at").orderBy("id"));
await run("where", () => knex("users").where("age", ">", 20).orWhereNull("balance").whereIn("email", ["a@x", "b@x"]).orderBy("id", "desc").pluck("email"));
await run("first", () => knex("users").where({ email: "a@x" }).first("id", "age"));
await run("join", () => knex("users as u").leftJoin("posts as p", "p.user_id", "u.id").select("u.email", "p.body").orderBy("p.id"));
await run("group", () => knex("posts").select("user_id").count("* as n").max("id as last").groupBy("user_id").having(knex.raw("count(*) > 0")).orderBy("user_id"));
await run("sub-query", () => knex("users").whereExists(knex("posts").whereRaw("posts.user_id = users.id").where("body", "two")).pluck("email"));
await run("with", () => knex.with("busy", knex("posts").select("user_id").count("* as n").groupBy("user_id")).select("*").from("busy").orderBy("user_id"));
await run("union", () => knex.select("email as x").from("users").union([knex.select("body as x").from("posts")]).orderBy("x"));
await run("json", () => knex("users").select(knex.raw("data -> 'k' ->> 0 AS k")).whereRaw("data @> ?", [JSON.stringify({ k: [1] })]));
await run("jsonb path", () => knex("users").jsonExtract("data", "$.k[0]", "first").orderBy("id"));
await run("update", () => knex("users").where("id", 1).update({ age: knex.raw("age + 1"), tags: ["z"] }, ["age", "tags"]));
await run("increment", () => knex("users").where("id", 2).increment("age", 5));
await run("upsert", () => knex("users").insert({ email: "a@x", age: 99 }).onConflict("email").merge(["age"]).returning(["id", "age"]));
await run("ignore", () => knex("users").insert({ email: "a@x" }).onConflict("email").ignore().returning("id"));
await run("distinct on", () => knex("posts").distinctOn("user_id").select("user_id", "id").orderBy([{ column: "user_id" }, { column: "id", order: "desc" }]));
await run("window", () => knex("posts").select("id").rowNumber("rn", "id", "user_id").orderBy("id"));
await run("vector", () => knex("users").select("id", knex.raw("v <-> ? AS d", ["[1,1]"])).whereNotNull("v").orderBy("d"));
await run("transaction", () => knex.transaction(async (trx) => {
  await trx("users").insert({ email: "in@x" });
  await trx.transaction(async (inner) => {
    await inner("users").insert({ email: "inner@x" });
    throw new Error("back");
  }).catch(() => {});
  return await trx("users").pluck("email").orderBy("id");
}));
await run("rolled back", () => knex.transaction(async (trx) => {
  await trx("users").insert({ email: "lost@x" });
  await trx("users").insert({ email: "a@x" });
}, { isolationLevel: "repeatable read" }));
await run("check", () => knex("posts").insert({ small: 1, score: 1 }));
await run("no table", () => knex("nosuch").select("*"));
await run("for update", () => knex.transaction((trx) => trx("users").where("id", 1).forUpdate().pluck("email")));
await run("batch", () => knex.batchInsert("posts", [...Array(25).keys()].map((i) => ({ body: `b${i}` })), 10).then((all) => all.length));
await run("alter", () => knex.schema.alterTable("users", (t) => {
  t.string("nick", 10).defaultTo("none");
  t.renameColumn("active", "enabled");
  t.dropColumn("key");
  t.integer("age").notNullable().alter();
  t.dropIndex(["age"], "users_age");
  t.unique(["nick", "email"], { indexName: "nick_email" });
}).then(() => "altered"));
await run("altered", () => knex("users").columnInfo());
await run("rename", () => knex.schema.renameTable("posts", "articles").then(() => knex("articles").count("* as n")));
await run("rename back", () => knex.schema.renameTable("articles", "posts").then(() => "renamed"));
await run("view", () => knex.schema.createView("adults", (v) => v.as(knex("users").select("email").where("age", ">=", 18))).then(() => knex("adults").orderBy("email").pluck("email")));
await run("truncate", () => knex("posts").truncate().then(() => knex("posts").count("* as n")));
await run("delete", () => knex("users").where("email", "like", "in%").del(["email"]));
await run("drop view", () => knex.schema.dropView("adults").then(() => "dropped"));
await run("raw", async () => (await knex.raw("SELECT ?? FROM ?? WHERE id = ?", ["email", "users", 1])).rows);
await run("roll back migration", () => knex.migrate.rollback({ migrationSource }));
await run("drop", async () => {
  await knex.schema.dropTable("knex_migrations");
  await knex.schema.dropTable("knex_migrations_lock");
  return (await knex("information_schema.tables").where("table_schema", "public").count("* as n"))[0].n;
});
await knex.destroy();
say("done", true);
