// What every peer is: a process that has loaded its model and times one repetition for each line that it is sent, so that several
// engines can take turns. Lines in: "prefill 512", "decode PROMPT COUNT". Lines out: one JSON object for each, the first says who.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

/** --shape 60m --kind q8_0 --threads 1 --models FOLDER, of every peer. */
export function options(more = {}) {
  const string = { type: "string" };
  const { values } = parseArgs({
    options: { shape: string, kind: string, threads: string, models: string, ...more },
  });
  return { ...values, threads: Number(values.threads) };
}

/** The version of an installed package. */
export const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")).version;

/** Seeded ids that are ordinary words in every peer's vocabulary. */
export function ids(count) {
  let state = 7;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state % 31000) + 300;
  });
}

/** Serve `engine`: { name, version, read(ids), write(ids, count) }. `read` evaluates a prompt up to its first new token; `write`
 *  reads a prompt, then gives the milliseconds that `count` more tokens took. */
export async function serve({ name, version, read, write }) {
  const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  await read(ids(32));
  await write(ids(4), 8);
  say({ name, version });
  for await (const line of createInterface({ input: process.stdin })) {
    const [verb, first, count] = line.split(" ");
    const prompt = ids(Number(first));
    if (verb === "prefill") {
      const start = performance.now();
      const told = await read(prompt);
      say({ milliseconds: told ?? performance.now() - start });
    } else if (verb === "decode") say({ milliseconds: await write(prompt, Number(count)) });
    else say({ error: `unknown request ${JSON.stringify(line)}` });
  }
  process.exit(0);
}
