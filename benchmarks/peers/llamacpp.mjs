// llama.cpp, native, by the prebuilt binaries of node-llama-cpp. Decoding includes its sampler and its JavaScript.
import { join } from "node:path";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { options, serve, versionOf } from "./serve.mjs";

const { shape, kind, threads, models } = options();
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: join(models, `llama-${shape}-${kind}.gguf`), gpuLayers: 0 });
const context = await model.createContext({ contextSize: 2048, batchSize: 512, threads, sequences: 1 });
const sequence = context.getSequence();
const greedy = { temperature: 0, yieldEogToken: true };

await serve({
  name: "llama.cpp",
  version: versionOf("node-llama-cpp"),
  async read(ids) {
    await sequence.clearHistory();
    const start = performance.now();
    for await (const _ of sequence.evaluate(ids, greedy)) break;
    return performance.now() - start;
  },
  async write(ids, count) {
    await sequence.clearHistory();
    let start = 0;
    let drawn = 0;
    for await (const _ of sequence.evaluate(ids, greedy)) {
      if (drawn === 0) start = performance.now();
      if (drawn === count) break;
      drawn++;
    }
    return performance.now() - start;
  },
});
