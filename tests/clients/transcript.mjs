// What the scripts of Node clients share: a transcript of a line for each thing that was seen.
import fs from "node:fs";

export const url = process.argv[2];
const parts = new URL(url);
export const place = {
  host: parts.hostname,
  port: Number(parts.port),
  user: parts.username,
  password: parts.password,
  database: parts.pathname.slice(1),
};
export const every = fs
  .readFileSync(new URL("every.sql", import.meta.url), "utf8")
  .split(";\n")
  .map((s) => s.trim())
  .filter(Boolean);

export function shown(value) {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "bigint") return `${value}n`;
  if (Buffer.isBuffer(value) || value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString("hex")}`;
  if (value instanceof Date) return `Date ${Number.isNaN(value.getTime()) ? "invalid" : value.toISOString()}`;
  if (Array.isArray(value)) return `[${[...value].map(shown).join(", ")}]`;
  if (typeof value === "object") {
    const name = value.constructor?.name === "Object" || !value.constructor?.name ? "" : `${value.constructor.name} `;
    const entries = Object.entries(value).map(([k, v]) => `${k}: ${shown(v)}`);
    return `${name}{${entries.join(", ")}}`;
  }
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

export function say(key, value) {
  console.log(`${key}\t${shown(value)}`);
}

export async function attempt(key, work) {
  try {
    const value = await work();
    say(key, value);
    return value;
  } catch (error) {
    const cause = error.code ? error : error.cause ?? error;
    if (!cause.code) {
      console.log(`${key}\t! ${cause.name}: ${String(cause.message).split("\n")[0]}`);
      return undefined;
    }
    const told = ["detail", "table", "table_name", "column", "column_name", "constraint", "constraint_name", "position"]
      .filter((f) => cause[f])
      .map((f) => `${f}=${cause[f]}`);
    console.log(`${key}\t! ${cause.code} ${String(cause.message).replaceAll("\n", " / ")} ${told.join(" ")}`);
    return undefined;
  }
}
