// What each dtype costs in quality: KL divergence to f32 and perplexity, on the demo model and on the random checkpoints of the
// suite. Writes docs/quality.md; every number there comes from here.
//
//   node tools/run.mjs exec node tools/quality.ts

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Binary, wasm } from "../packages/backend-wasm/src/index.ts";
import { type Checkpoint, type DType, type Model, openCheckpoint, readJson } from "../packages/core/src/index.ts";
import { folder } from "../packages/core/src/node/index.ts";

const at = (path: string) => new URL(`../${path}`, import.meta.url);
const binaries = ["relaxed", "simd"] satisfies Binary[];
const dtypes = ["f32", "bf16", "q8", "q4"] satisfies DType[];
/** Random weights: dense in both layouts, with a keep window, with experts. */
const fixtures = ["native", "legacy", "rope-linear", "window", "moe"];

interface Subject {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  readonly texts: readonly Int32Array<ArrayBuffer>[];
}

/** Logits (tokens, vocabulary) of each text. */
async function logitsOf(model: Model, texts: Subject["texts"]): Promise<Float32Array[]> {
  const found: Float32Array[] = [];
  for (const tokens of texts) {
    const sequence = model.sequence();
    const [inside] = await model.inspect([{ sequence, tokens }], ["logits"]);
    sequence.close();
    found.push(inside!.get("logits")!.data);
  }
  return found;
}

/** ln p of every id of one row of logits. */
function logSoftmax(logits: Float32Array): Float64Array {
  const highest = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY);
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - highest);
  const normalizer = highest + Math.log(total);
  return Float64Array.from(logits, (logit) => logit - normalizer);
}

const rowOf = (data: Float32Array, row: number, width: number) => data.subarray(row * width, (row + 1) * width);

/** Mean and worst KL(exact ‖ found) in nats, the share of tokens whose most likely successor is the same, and the perplexity of
 *  the texts under `found`. */
function measure(exact: Float32Array[], found: Float32Array[], { texts, checkpoint }: Subject) {
  const width = checkpoint.config.vocabSize;
  let [sum, worst, same, count, lost, scored] = [0, 0, 0, 0, 0, 0];
  texts.forEach((text, number) => {
    for (let row = 0; row < text.length; row++) {
      const [p, q] = [exact[number]!, found[number]!].map((data) => logSoftmax(rowOf(data, row, width)));
      let divergence = 0;
      for (let id = 0; id < width; id++) divergence += Math.exp(p![id]!) * (p![id]! - q![id]!);
      sum += divergence;
      worst = Math.max(worst, divergence);
      if (p!.indexOf(Math.max(...p!)) === q!.indexOf(Math.max(...q!))) same++;
      count++;
      if (row + 1 < text.length) {
        lost -= q![text[row + 1]!]!;
        scored++;
      }
    }
  });
  return { mean: Math.max(0, sum / count), worst, same: same / count, perplexity: Math.exp(lost / scored), count };
}

/** Ids of a generator (Numerical Recipes), the same in every run. */
function someIds(length: number, vocabulary: number): Int32Array<ArrayBuffer> {
  let state = 11;
  return Int32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * vocabulary);
  });
}

async function subjects(): Promise<Subject[]> {
  const demo = folder(fileURLToPath(at("packages/demo-model/")));
  const golden = (await readJson(demo, "golden.json")) as unknown as {
    entries: { ids: number[]; continuation: number[]; endsAfter: number }[];
  };
  const texts = (whole: boolean) =>
    golden.entries.map(({ ids, continuation, endsAfter }) =>
      Int32Array.from([...ids, ...(whole ? continuation : continuation.slice(0, endsAfter + 1))]),
    );
  const checkpoint = await openCheckpoint(demo);
  const random = fixtures.map(async (name): Promise<Subject> => {
    const checkpoint = await openCheckpoint(folder(fileURLToPath(at(`packages/conformance/fixtures/${name}/`))));
    return { name, checkpoint, texts: [someIds(120, checkpoint.config.vocabSize)] };
  });
  return [
    { name: "demo model", checkpoint, texts: texts(false) },
    { name: "demo model, forced on", checkpoint, texts: texts(true) },
    ...(await Promise.all(random)),
  ];
}

const scientific = (value: number) => (value === 0 ? "0" : value.toExponential(1));
const lines: string[] = [];
for (const subject of await subjects()) {
  for (const binary of binaries) {
    const backend = await wasm({ binary, threads: 1 }).open();
    let exact: Float32Array[] | undefined;
    for (const dtype of dtypes) {
      const model = await backend.load(subject.checkpoint, {
        dtype,
        context: Math.max(...subject.texts.map((text) => text.length)),
      });
      const found = await logitsOf(model, subject.texts);
      exact ??= found;
      const { mean, worst, same, perplexity, count } = measure(exact, found, subject);
      const numbers = [scientific(mean), scientific(worst), `${(100 * same).toFixed(1)} %`, perplexity.toFixed(3)];
      lines.push(`| ${[subject.name, count, binary, dtype, ...numbers].join(" | ")} |`);
      model.close();
    }
    await backend.close();
  }
}

writeFileSync(
  at("docs/quality.md"),
  `# What a dtype costs

Made by \`tools/quality.ts\`, which explains how; do not edit the numbers.

Weights as \`bf16\`, \`q8\` (8 bits and one f32 scale for each 32) and \`q4\` (4 bits) against the same model as \`f32\`, on
\`@doge-lm/wasm\`. The biases of the dynamic mask stay f32 under all three. The relaxed binary multiplies bytes: under \`q8\` and \`q4\` it
rounds the inputs of a matrix, with a scale for each block of 32, to 7 and to 8 bits, and holds keys and values in 8 bits, which queries and
weights of 7 bits read. In the plain binary inputs have 16 bits; there, and under \`bf16\`, keys and values are bf16.

- **Mean KL**, **worst KL**: nats, from f32's distribution of the next token to this one's, over all tokens.
- **Same choice**: tokens after which the most likely next one is the same as under f32.
- **Perplexity**: of the texts. Those of the demo model are its prompts with the answers transformers writes, to the end of text;
  "forced on" has 200 tokens after each prompt, end of text or not, where the model was never trained to speak and where, past the keep
  window, one key more or less moves a whole row; the others are random
  ids under random weights, so that their perplexity lies near the size of the vocabulary and only differences tell something.

Where something is chosen (\`window\`: the keys that stay; \`moe\`: the experts) rounding may turn a choice, and a random model has
no reason to be robust to that.

| checkpoint | tokens | binary | dtype | mean KL | worst KL | same choice | perplexity |
| --- | ---: | --- | --- | ---: | ---: | ---: | ---: |
${lines.join("\n")}

The suite holds every backend to bounds on the mean (\`packages/conformance/src/tolerances.ts\`): \`klDemo\` and
\`klActivations\`.
`,
);
