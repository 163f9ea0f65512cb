// Writes crate/src/unicode_tables.rs from the tables of @doge-lm/core, so that both cut words alike: node scripts/unicode.mjs
import { readFileSync, writeFileSync } from "node:fs";

const core = readFileSync(new URL("../../core/src/unicode.ts", import.meta.url), "utf8");
const table = (name) => {
  const [, source] = new RegExp(`const ${name} =([^;]*);`).exec(core);
  return [...source.matchAll(/"([^"]*)"/g)].map(([, part]) => part).join("");
};
const lines = (text) =>
  text
    .match(/.{1,110}(?: |$)/g)
    .map((line) => `    ${line.trimEnd()}`)
    .join(" \\\n");

writeFileSync(
  new URL("../crate/src/unicode_tables.rs", import.meta.url),
  `//! Written by scripts/unicode.mjs from packages/core/src/unicode.ts: the ranges of \\p{L} and \\p{N} in ascending order, base 36:
//! the gap from the end of the range before, then ":" and its length less one.

pub const LETTERS: &str = "\\
${lines(table("LETTERS"))}";

pub const NUMBERS: &str = "\\
${lines(table("NUMBERS"))}";
`,
);
