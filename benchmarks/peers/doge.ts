// Doge as one of the peers: the same requests, answered by @doge-lm/wasm on random weights of the shape.

import { randomCheckpoint } from "../../apps/cli/src/bench/random-checkpoint.ts";
import { configOf } from "../../apps/cli/src/bench/shapes.ts";
import { wasm } from "../../packages/backend-wasm/src/index.ts";
import { revectorize } from "../../packages/backend-wasm/src/revectorize.ts";
import type { Capabilities, DType, Sequence } from "../../packages/core/src/index.ts";
import { defaultSampling } from "../../packages/core/src/index.ts";
// @ts-expect-error: plain JavaScript, as all peers are.
import { options, serve } from "./serve.mjs";

// As the command line does it: beside V8's flag, the tiles for wider vectors.
const wide = process.execArgv.includes("--experimental-wasm-revectorize");
if (wide) await revectorize();
const { shape, kind, threads } = options() as { shape: string; kind: DType; threads: number };
const backend = await wasm({ threads }).open();
const model = await backend.load(randomCheckpoint(configOf(shape, false)!), { dtype: kind, context: 2048 });
const sampling = { ...defaultSampling, temperature: 0, stop: [] };
/** As generate() asks for them. */
const chunk = 64;
let sequence: Sequence | undefined;

async function read(ids: readonly number[]): Promise<void> {
  sequence?.close();
  sequence = model.sequence();
  await model.sample([{ sequence, tokens: Int32Array.from(ids), count: 1, sampling }]);
}

const { device }: Capabilities = backend.can;
await serve({
  name: `doge${wide ? " revectorized" : ""}`,
  version: device,
  read,
  async write(ids: readonly number[], count: number) {
    await read(ids);
    const start = performance.now();
    for (let left = count; left > 0; left -= chunk) {
      const row = { sequence: sequence!, tokens: new Int32Array(0), count: Math.min(chunk, left), sampling };
      await model.sample([row]);
    }
    return performance.now() - start;
  },
});
