// Decoding alone: what Dawn's options and the kernels' forms change, and what the host takes to write dispatches down.
import { type DType, defaultSampling } from "@doge-lm/core";
import { randomCheckpoint, randomIds } from "../../../../apps/cli/src/bench/random-checkpoint.ts";
import { configOf } from "../../../../apps/cli/src/bench/shapes.ts";
import type { WebgpuOptions } from "../../src/index.ts";
import { provider } from "./dawn.ts";
import { DECODE, goOn, PROMPT, REPS, round, thisStep } from "./steps.ts";
import { greedy, nothing } from "./text.ts";

/** What the host takes to write dispatches down, by as few hooks as can be: from a pass's beginning to the end of its submit, and
 *  of that finish() and submit(). */
class Writing {
  written = 0;
  finish = 0;
  submit = 0;
  #begun = 0;
  readonly onDevice = (device: GPUDevice): GPUDevice => {
    const create = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (descriptor) => {
      this.#begun = performance.now();
      const encoder = create(descriptor);
      const finish = encoder.finish.bind(encoder);
      encoder.finish = () => {
        const start = performance.now();
        const buffer = finish();
        this.finish += performance.now() - start;
        return buffer;
      };
      return encoder;
    };
    const submit = device.queue.submit.bind(device.queue);
    device.queue.submit = (buffers) => {
      const start = performance.now();
      const result = submit(buffers);
      const now = performance.now();
      this.submit += now - start;
      this.written += now - this.#begun;
      return result;
    };
    return device;
  };
}

/** Tokens per second behind 16 tokens and behind a prompt, greedy, seeded and filtered; the prompt; the host. */
export async function decoding(shape: string, dtype: DType, options: WebgpuOptions = {}): Promise<object> {
  const config = configOf(shape, false)!;
  const writing = new Writing();
  const backend = await provider({ ...options, onDevice: writing.onDevice }).open();
  const model = await backend.load(randomCheckpoint(config), {
    dtype,
    context: PROMPT + DECODE + 16,
    room: PROMPT + DECODE + 16,
  });
  const ids = randomIds(PROMPT, config.vocabSize, 1);
  const sequence = model.sequence();
  const own = thisStep();
  const write = async (from: number, sampling = greedy) => {
    goOn(own);
    sequence.rewind(0);
    await model.sample([{ sequence, tokens: ids.slice(0, from), count: 1, sampling: greedy }]);
    [writing.written, writing.finish, writing.submit] = [0, 0, 0];
    const start = performance.now();
    for (let togo = DECODE; togo > 0; togo -= 64)
      await model.sample([{ sequence, tokens: nothing, count: Math.min(64, togo), sampling }]);
    return performance.now() - start;
  };
  const read = async () => {
    sequence.rewind(0);
    const start = performance.now();
    await model.sample([{ sequence, tokens: ids, count: 1, sampling: greedy }]);
    return performance.now() - start;
  };
  const rate = async (from: number, sampling = greedy, reps = Math.min(4, REPS)) => {
    const all: number[] = [];
    for (let rep = 0; rep <= reps; rep++) all.push(await write(from, sampling));
    return round((1000 * DECODE) / Math.min(...all.slice(1)));
  };
  const filters = { ...defaultSampling, temperature: 0.8, topK: 50, topP: 0.95, seed: 3, stop: [] };
  const near = await rate(16);
  const each = (milliseconds: number) => round((1000 * milliseconds) / DECODE / (4 * config.layers + 3));
  const host = { written: each(writing.written), finish: each(writing.finish), submit: each(writing.submit) };
  const prompts = [await read(), await read(), await read()];
  const result = {
    ...{ decode: near, decodeFar: await rate(PROMPT, greedy, 1), prefillMs: round(Math.min(...prompts)) },
    ...{ seeded: await rate(16, { ...filters, topK: 0, topP: 1 }, 1), filtered: await rate(16, filters, 1) },
    hostMicrosecondsPerDispatch: host,
  };
  model.close();
  await backend.close();
  return result;
}
