// onnxruntime, native (--runtime node) or its WebAssembly build (--runtime web) run in Node, whose V8 is a browser's: it stands for
// transformers.js, which adds its own JavaScript on top.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { options, serve, versionOf } from "./serve.mjs";

const { shape, kind, threads, models, runtime } = options({ runtime: { type: "string" } });
const web = runtime === "web";
const ort = web ? await import("onnxruntime-web") : (await import("onnxruntime-node")).default;
const file = join(models, `llama-${shape}-${kind}.onnx`);
const {
  layers,
  kv_heads: heads,
  head_dim: width,
} = JSON.parse(readFileSync(join(models, `llama-${shape}.onnx.json`), "utf8"));
if (web) {
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  globalThis.crossOriginIsolated ||= true; // Node shares memory without asking
}
const session = await ort.InferenceSession.create(web ? new Uint8Array(readFileSync(file)) : file, {
  graphOptimizationLevel: "all",
  executionProviders: [web ? "wasm" : "cpu"],
  intraOpNumThreads: threads,
  interOpNumThreads: 1,
  logSeverityLevel: 3,
});

const names = Array.from({ length: layers }, (_, layer) => ["key", "value"].map((part) => `${layer}.${part}`)).flat();
const empty = () =>
  Object.fromEntries(
    names.map((name) => [
      `past_key_values.${name}`,
      new ort.Tensor("float32", new Float32Array(0), [1, heads, 0, width]),
    ]),
  );

/** Append `ids`, `total` tokens with them; the most likely next one and the state. */
async function step(ids, past, total) {
  const output = await session.run({
    ...past,
    input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
    seqlens_k: new ort.Tensor("int32", Int32Array.of(total - 1), [1]),
    total_sequence_length: new ort.Tensor("int32", Int32Array.of(total), []),
  });
  const logits = output.logits.data;
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  const state = Object.fromEntries(names.map((name) => [`past_key_values.${name}`, output[`present.${name}`]]));
  return [best, state];
}

await serve({
  name: web ? "onnxruntime-web" : "onnxruntime-node",
  version: versionOf(`onnxruntime-${web ? "web" : "node"}`),
  async read(ids) {
    await step(ids, empty(), ids.length);
  },
  async write(ids, count) {
    let [id, past] = await step(ids, empty(), ids.length);
    const start = performance.now();
    for (let drawn = 1; drawn <= count; drawn++) [id, past] = await step([id], past, ids.length + drawn);
    return performance.now() - start;
  },
});
