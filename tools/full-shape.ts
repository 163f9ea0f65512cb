// The shape of the smallest published Doge (20M: 8 layers of 256, 32,768 ids) with seeded random weights, on the WebGPU backend
// and on the WebAssembly backend: one prompt and eight tokens after it must give the same logits. For continuous integration:
// small models never fill a tile, a page table or a grid. Without a GPU it runs on SwiftShader.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Backend, type Config, memoryCheckpoint, tensorShapes } from "../packages/core/src/index.ts";
import "./patient-dawn.ts";
import { softwareGpu } from "./software-gpu.mjs";

const config: Config = {
  generation: "native",
  vocabSize: 32_768,
  hiddenSize: 256,
  intermediateSize: 512,
  layers: 8,
  heads: 2,
  kvHeads: 1,
  headDim: 128,
  normEpsilon: 1e-6,
  maxPositions: 2048,
  rope: { type: "dynamic", theta: 10_000, factor: 4 },
  qkNorm: true,
  biasHeads: 1,
  window: 2048,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: null,
  eosIds: [],
  padId: null,
};
const PROMPT = 24;
const TOKENS = 8;
/** Of the logits' standard deviation: two f32 passes that sum in different orders, as in the conformance suite. */
const TOLERANCE = 1e-4;

/** Numerical Recipes' generator; standard deviations that keep what flows through at about 1. */
function weights(): Map<string, Float32Array> {
  let state = 7;
  return new Map(
    Array.from(tensorShapes(config), ([name, shape]) => {
      const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
      const [middle, spread] = shape.length === 1 ? [1, 0.2] : [0, 1.7 / Math.sqrt(shape.at(-1)!)];
      for (let index = 0; index < values.length; index++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        values[index] = middle + spread * (state / 2147483648 - 1);
      }
      return [name, values];
    }),
  );
}

/** Logits after the prompt and after each token; each next token is the one most likely to `first`. */
async function run(backend: Backend, given: readonly number[] | undefined) {
  const model = await backend.load(memoryCheckpoint(config, weights()), { context: 64 });
  const sequence = model.sequence();
  const ids: number[] = [];
  const all: Float32Array[] = [];
  let tokens = Int32Array.from({ length: PROMPT }, (_, index) => (index * index * 977 + 5) % config.vocabSize);
  const start = performance.now();
  let prompt = 0;
  for (let step = 0; step <= TOKENS; step++) {
    const [logits] = await model.forward([{ sequence, tokens }]);
    if (step === 0) prompt = performance.now() - start;
    all.push(logits!);
    const id = given?.[step] ?? logits!.indexOf(Math.max(...logits!));
    ids.push(id);
    tokens = Int32Array.of(id);
  }
  const rest = (performance.now() - start - prompt) / TOKENS;
  console.log(`${backend.can.device}: ${PROMPT} tokens in ${prompt.toFixed(0)} ms, then ${rest.toFixed(0)} ms each`);
  model.close();
  await backend.close();
  return { all, ids };
}

const found = softwareGpu();
const { DOGE_REQUIRE = "", VK_ADD_DRIVER_FILES, VK_DRIVER_FILES } = process.env;
if (found.env !== undefined && (VK_ADD_DRIVER_FILES ?? VK_DRIVER_FILES) === undefined) {
  // The libraries are looked for where a process starts.
  const again = spawnSync(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url)], {
    env: { ...process.env, ...found.env },
    stdio: "inherit",
  });
  process.exit(again.status ?? 1);
}
const [{ wasm }, { webgpu }] = await Promise.all([
  import("../packages/backend-wasm/src/index.ts"),
  import("../packages/backend-webgpu/src/index.ts"),
]);
const provider = webgpu({ software: true });
const answer = await provider.probe();
if (!answer.available) {
  console.log(`skipped: ${answer.why}`);
  process.exit(DOGE_REQUIRE.split(",").includes("webgpu") ? 1 : 0);
}
const expected = await run(await wasm().open(), undefined);
const { all } = await run(await provider.open(), expected.ids);
let worst = 0;
expected.all.forEach((logits, step) => {
  const mean = logits.reduce((sum, logit) => sum + logit, 0) / logits.length;
  const deviation = Math.sqrt(logits.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / logits.length);
  logits.forEach((logit, id) => {
    const apart = Math.abs(logit - all[step]![id]!) / deviation;
    worst = apart > worst || Number.isNaN(apart) ? apart : worst;
  });
});
console.log(`${worst.toExponential(2)} standard deviations apart at most; ${TOLERANCE} allowed`);
process.exit(worst <= TOLERANCE ? 0 : 1);
