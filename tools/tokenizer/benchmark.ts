// How fast the fast tokenizer is, beside core's own, the library @huggingface/tokenizers and the copying of the text alone: every
// candidate in turn, medians, one hash for all ids. Prints the table of packages/tokenizer-fast/README.md.
//
//   npm run tokenizer -- benchmark [FOLDER] [--json]       a folder with a tokenizer; default the demo model's
import { globSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createTokenizer } from "@doge-lm/core";
import { createFastTokenizer, trainTokenizer } from "@doge-lm/tokenizer-fast";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { hashOfIds, hashOfTexts, idList, line } from "../../packages/tokenizer-fast/test/lines.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const ROUNDS = 5;
/** What the slow candidates encode; the fast one is measured on all of the text too. */
const SLICE = 300_000;
const MOST = 4_000_000;

/** English prose of known versions: READMEs and changelogs of the installed packages, without code, tables and addresses. */
function prose(): string {
  const texts = new Set<string>();
  for (const file of globSync("*/node_modules/{*,@*/*}/{README,CHANGELOG}.md", {
    cwd: join(root, "node_modules", ".pnpm"),
  }).sort()) {
    const text = readFileSync(join(root, "node_modules", ".pnpm", file), "utf8");
    texts.add(text.replace(/```[\s\S]*?```|<[^>]*>|https?:\S+|^\s*[|[].*$/gm, ""));
  }
  return [...texts].join("\n").slice(0, MOST).toWellFormed();
}

const demo = join(root, "packages", "demo-model");
const { values: flags, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean" } } });
const [folder = demo] = positionals;
const json = JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8"));
const config = JSON.parse(readFileSync(join(folder, "tokenizer_config.json"), "utf8"));
const all = prose();
const slice = all.slice(0, SLICE);
const lines = all.split("\n");

const startFast = performance.now();
const fast = await createFastTokenizer(json, config);
fast.encode("");
const createMs = performance.now() - startFast;
const own = createTokenizer(json, config);
const library = new Library(json, config);
const sliceIds = fast.encode(slice);
const allIds = fast.encode(all);
const space = new Uint8Array(3 * all.length);

interface Candidate {
  readonly name: string;
  readonly text: string;
  readonly work: () => unknown;
}
const candidates: readonly Candidate[] = [
  { name: "encode, fast", text: slice, work: () => fast.encode(slice) },
  { name: "encode, core", text: slice, work: () => own.encode(slice) },
  { name: "encode, @huggingface/tokenizers", text: slice, work: () => library.encode(slice).ids },
  { name: "encode, fast, all of the text", text: all, work: () => fast.encode(all) },
  { name: "encodeBatch, fast, line by line", text: all, work: () => fast.encodeBatch(lines) },
  { name: "copying the text as UTF-8 alone", text: all, work: () => new TextEncoder().encodeInto(all, space) },
  { name: "decode, fast", text: all, work: () => fast.decode(allIds) },
  { name: "decode, core", text: all, work: () => own.decode(allIds) },
];
const hash = hashOfIds([sliceIds]);
for (const ids of [own.encode(slice), library.encode(slice).ids as number[]]) {
  if (hashOfIds([ids]) !== hash) throw new Error("The candidates give different ids: there is nothing to compare.");
}
if (fast.decode(allIds) !== own.decode(allIds)) throw new Error("The candidates decode to different texts.");

/** Milliseconds by the clock, and those that this thread computed: on a machine that does other things too they differ. */
const times = candidates.map((): { clock: number[]; thread: number[] } => ({ clock: [], thread: [] }));
const threadMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
};
for (let round = 0; round <= ROUNDS; round++) {
  candidates.forEach(({ work }, index) => {
    const [start, startThread] = [performance.now(), threadMs()];
    work();
    // The first round warms the compilers up.
    if (round === 0) return;
    times[index]!.clock.push(performance.now() - start);
    times[index]!.thread.push(threadMs() - startThread);
  });
}
const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;
const speeds = candidates.map(({ text }, index) => {
  const { clock, thread } = times[index]!;
  const kilobytes = Buffer.byteLength(text) / 1000;
  return { clock: kilobytes / median(clock), thread: kilobytes / median(thread) };
});
const startTraining = performance.now();
await trainTokenizer(lines, { vocabSize: 8000 });
const trainMs = performance.now() - startTraining;

const megabytes = (text: string): string => `${(Buffer.byteLength(text) / 1e6).toFixed(2)} MB`;
const rate = (speed: number): string => speed.toFixed(speed < 10 ? 2 : speed < 100 ? 1 : 0);
/** What the Rust library gave for seeded lines and id lists, as committed, with the demo model's tokenizer. */
function identities() {
  const file = join(root, "packages", "tokenizer-fast", "test", "fixtures", "goldens.json");
  const { encoded, decoded } = JSON.parse(readFileSync(file, "utf8")) as { encoded: string[]; decoded: string[] };
  const hundred = <T>(block: number, make: (index: number) => T): T[] =>
    Array.from({ length: 100 }, (_, index) => make(100 * block + index));
  const wrong = (goldens: readonly string[], hash: (block: number) => string): number =>
    goldens.filter((golden, block) => hash(block) !== golden).length;
  return [
    {
      what: "blocks of 100 seeded lines, encoded, against the Rust library's ids",
      count: encoded.length,
      different: wrong(encoded, (block) => hashOfIds(hundred(block, (index) => fast.encode(line(index))))),
    },
    {
      what: "blocks of 100 seeded id lists, decoded, against the Rust library's texts",
      count: decoded.length,
      different: wrong(decoded, (block) => {
        const lists = hundred(block, (index) => idList(index, fast.size));
        return hashOfTexts(lists.flatMap((ids) => [fast.decode(ids, { skipSpecial: false }), fast.decode(ids)]));
      }),
    },
  ];
}

const ratio = speeds[0]!.thread / speeds[2]!.thread;
if (flags.json) {
  console.log(
    JSON.stringify({
      // What took no time that the thread's clock could see has no speed.
      candidates: candidates
        .map(({ name, text }, index) => ({ name, bytes: Buffer.byteLength(text), ...speeds[index]! }))
        .filter(({ clock, thread }) => Number.isFinite(clock) && Number.isFinite(thread)),
      ...{ ratio, vocabulary: fast.size, hash, textHash: hashOfTexts([all]), readyMs: createMs, trainMs },
      identities: [
        { what: `ids of the text, against @huggingface/tokenizers and core`, count: sliceIds.length, different: 0 },
        { what: "ids decoded, against core", count: allIds.length, different: 0 },
        ...(folder === demo ? identities() : []),
      ],
    }),
  );
  process.exit(0);
}
console.log(
  "| what | text | MB/s by the clock | MB/s of the thread | against @huggingface/tokenizers |\n|---|---|---|---|---|",
);
candidates.forEach(({ name, text }, index) => {
  const { clock, thread } = speeds[index]!;
  const ratio = name.startsWith("encode") ? `${(thread / speeds[2]!.thread).toFixed(0)} ×` : "";
  console.log(`| ${name} | ${megabytes(text)} | ${rate(clock)} | ${rate(thread)} | ${ratio} |`);
});
console.log(
  `\n${cpus()[0]!.model}, one thread, Node ${process.versions.node}; medians of ${ROUNDS} rounds, in turn. Vocabulary of ${fast.size} ids. ` +
    `${sliceIds.length} ids for the ${megabytes(slice)} (${(Buffer.byteLength(slice) / sliceIds.length).toFixed(2)} bytes each), hash ${hash}; text ${hashOfTexts([all])}. ` +
    `Ready after ${createMs.toFixed(0)} ms. Learning 8,000 ids from ${megabytes(all)} took ${(trainMs / 1000).toFixed(1)} s.`,
);
