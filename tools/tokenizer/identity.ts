// Compares the fast tokenizer with the Rust library and with @huggingface/tokenizers: generated lines, a line around every code
// point, decoding of generated ids. Or writes the goldens of packages/tokenizer-fast/test from the Rust library's answers.
//
//   node tools/tokenizer/identity.ts PYTHON FOLDER [LINES [SEED]]     FOLDER holds tokenizer.json; default a million lines
//   node tools/tokenizer/identity.ts PYTHON --goldens
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createFastTokenizer } from "@doge-lm/tokenizer-fast";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { letters, numbers } from "../../packages/core/src/unicode.ts";
import { around, glued, hashOfIds, hashOfTexts, idList, line } from "../../packages/tokenizer-fast/test/lines.ts";
import { startOracle } from "./oracle.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const fixtures = join(root, "packages", "tokenizer-fast", "test", "fixtures");
const BLOCK = 1000;
/** What is learnt from the demo corpus for the goldens. */
const TRAININGS = [
  { pattern: "llama3", special: ["<|begin_of_text|>", "<|end_of_text|>"], size: 800, least: 0, limit: null },
  { pattern: "gpt2", special: [], size: 600, least: 3, limit: null },
  { pattern: "llama3", special: [], size: 30000, least: 2, limit: 6 },
];

const [python, folder, count = "1000000", seed] = process.argv.slice(2);
if (python === undefined || folder === undefined)
  throw new Error("Usage: identity.ts PYTHON FOLDER [LINES [SEED]] | PYTHON --goldens");
if (folder === "--goldens") await writeGoldens(python);
else await compare(python, folder, Number(count), seed === undefined ? undefined : Number(seed));

/** Blocks of lines made by `make` from the numbers below `limit`; null leaves a number out. */
function* blocks(limit: number, make: (index: number) => string | null): Generator<string[]> {
  let block: string[] = [];
  for (let index = 0; index < limit; index++) {
    const text = make(index);
    if (text !== null) block.push(text);
    if (block.length === BLOCK || index === limit - 1) {
      yield block;
      block = [];
    }
  }
}

/** Planes 4 to 13 have no characters, 15 and 16 are private: there a sample is enough. Surrogates are none. */
function swept(code: number): boolean {
  const plane = code >> 16;
  return plane < 4 || plane === 14 ? code < 0xd800 || code > 0xdfff : code % 64 === 0;
}

/** Whether this engine takes a character for a letter or a number that the Rust library's tables do not, or the other way round. */
function younger(text: string): boolean {
  const of = (kinds: string) => new RegExp(`[${kinds}]`, "u");
  const pairs = [
    [of("\\p{L}"), of(letters)],
    [of("\\p{N}"), of(numbers)],
  ] as const;
  return [...text].some((one) => pairs.some(([engine, table]) => engine.test(one) !== table.test(one)));
}

async function compare(python: string, folder: string, lines: number, seed?: number): Promise<void> {
  const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), "utf8"));
  const [json, config] = [read("tokenizer.json"), read("tokenizer_config.json")];
  const fast = await createFastTokenizer(json, config);
  const library = new Library(json, config);
  const oracle = startOracle(python, join(folder, "tokenizer.json"));
  const sets = [
    { name: `${lines} generated lines`, texts: blocks(lines, (index) => line(index, seed)) },
    { name: `${lines / 10} lines of special tokens`, texts: blocks(lines / 10, (index) => glued(index, seed)) },
    {
      name: "a line around every code point of planes 0 to 3 and 14, and every 64th of the others",
      texts: blocks(0x110000, (code) => (swept(code) ? around(code) : null)),
    },
  ];
  let wrong = 0;
  for (const { name, texts } of sets) {
    let [total, ids, different, differentToLibrary, youngerToo] = [0, 0, 0, 0, 0];
    const hashes: string[] = [];
    for (const block of texts) {
      // Neither library takes lone surrogates: here they are U+FFFD first.
      const wellFormed = block.map((text) => text.toWellFormed());
      const wanted = await oracle.ask<number[][]>({ encode: wellFormed });
      const found = fast.encodeBatch(block);
      hashes.push(hashOfIds(wanted));
      let start = 0;
      block.forEach((text, index) => {
        const end = found.ends[index]!;
        const mine = found.ids.subarray(start, end).join();
        start = end;
        total++;
        if (mine !== wanted[index]!.join()) {
          if (different++ < 10) console.log(`differs from the Rust library: ${JSON.stringify(text)}`);
        }
        if (mine !== library.encode(wellFormed[index]!).ids.join()) {
          if (younger(text)) youngerToo++;
          else console.log(`differs from @huggingface/tokenizers: ${JSON.stringify(text)}`);
          differentToLibrary++;
        }
      });
      ids += found.ids.length;
    }
    console.log(
      `${name}: ${total} texts, ${ids} ids, ${different} differ from the Rust library, ` +
        `${differentToLibrary} from @huggingface/tokenizers, of which ${youngerToo} have a letter or number younger than Unicode 16; hash ${hashOfTexts(hashes)}`,
    );
    wrong += different;
  }

  const lists = Array.from({ length: lines / 10 }, (_, index) => idList(index, fast.size, seed));
  let different = 0;
  for (let at = 0; at < lists.length; at += BLOCK) {
    const some = lists.slice(at, at + BLOCK);
    const wanted = await oracle.ask<string[][]>({ decode: some });
    some.forEach((ids, index) => {
      const stream = fast.stream({ skipSpecial: false });
      const pieces = ids.map((id) => stream.push([id])).join("") + stream.end();
      if (pieces !== wanted[index]![0] && different++ < 10) console.log(`streams differently: ${ids}`);
      const mine = [fast.decode(ids, { skipSpecial: false }), fast.decode(ids)];
      if (mine.join("\0") !== wanted[index]!.join("\0") && different++ < 10) console.log(`decodes differently: ${ids}`);
    });
  }
  console.log(`${lists.length} id lists decoded, whole and as streams, ${different} differ from the Rust library`);
  await oracle.close();
  process.exitCode = wrong + different === 0 ? 0 : 1;
}

/** Hashes for the demo model's tokenizer, in blocks, so that a difference can be found; and learnt vocabularies. */
async function writeGoldens(python: string): Promise<void> {
  const oracle = startOracle(python, join(root, "packages", "demo-model", "tokenizer.json"));
  const hashed = async (count: number, make: (index: number) => string): Promise<string[]> => {
    const hashes: string[] = [];
    for (let at = 0; at < count; at += 100) {
      const texts = Array.from({ length: 100 }, (_, index) => make(at + index).toWellFormed());
      hashes.push(hashOfIds(await oracle.ask<number[][]>({ encode: texts })));
    }
    return hashes;
  };
  const encoded = await hashed(4000, line);
  const special = await hashed(1000, glued);
  const decoded: string[] = [];
  const { size } = await createFastTokenizer(
    JSON.parse(readFileSync(join(root, "packages", "demo-model", "tokenizer.json"), "utf8")),
  );
  for (let at = 0; at < 2000; at += 100) {
    const lists = Array.from({ length: 100 }, (_, index) => idList(at + index, size));
    const texts = await oracle.ask<string[][]>({ decode: lists });
    decoded.push(hashOfTexts(texts.flat()));
  }
  await oracle.close();
  writeFileSync(join(fixtures, "goldens.json"), `${JSON.stringify({ encoded, special, decoded })}\n`);

  const trainer = startOracle(python, "--train");
  const corpus = readFileSync(join(fixtures, "corpus.txt"), "utf8").split("\n");
  const runs = [];
  for (const task of TRAININGS) {
    const model = await trainer.ask<object>({ ...task, texts: corpus });
    runs.push({ ...task, ...model });
  }
  await trainer.close();
  writeFileSync(join(fixtures, "trained.json"), `${JSON.stringify(runs)}\n`);
}
