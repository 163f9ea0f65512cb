// A model as callers have it, then counted and with the device's clock; and where the time goes, kernel by kernel.
import type { Backend, DType, Model } from "@doge-lm/core";
import { randomCheckpoint, randomIds } from "../../../../apps/cli/src/bench/random-checkpoint.ts";
import { configOf } from "../../../../apps/cli/src/bench/shapes.ts";
import { workOf } from "../../../../apps/cli/src/bench/work.ts";
import { benchGpuKernels, KernelWatch } from "../../../../benchmarks/gpu-kernels.ts";
import { Counter } from "../../src/counter.ts";
import type { WebgpuOptions } from "../../src/index.ts";
import { adapterName, provider } from "./dawn.ts";
import { memoryOf } from "./memory.ts";
import { DECODE, goOn, median, PROMPT, REPS, round, say, thisStep, values } from "./steps.ts";
import { greedy, hash, nothing } from "./text.ts";

/** Opens a backend that is counted and has a clock. */
async function watched(
  options: WebgpuOptions = {},
): Promise<{ backend: Backend; counter: Counter; watch: KernelWatch }> {
  const [counter, watch] = [new Counter(), new KernelWatch()];
  const onDevice = (device: GPUDevice) => counter.onDevice(watch.onDevice(device));
  return { backend: await provider({ ...options, onDevice }).open(), counter, watch };
}

/** Decode behind 16 tokens and near the prompt's length, and read the prompt. */
export async function times(shape: string, dtype: DType, options: WebgpuOptions = {}, reps = REPS): Promise<object> {
  const config = configOf(shape, false)!;
  const checkpoint = randomCheckpoint(config);
  const ids = randomIds(PROMPT, config.vocabSize, 1);
  const context = PROMPT + DECODE + 16;
  const own = thisStep();
  const measure = async (model: Model, counter?: Counter) => {
    const sequence = model.sequence();
    const read = async (): Promise<number> => {
      goOn(own);
      sequence.rewind(0);
      const start = performance.now();
      await model.sample([{ sequence, tokens: ids, count: 1, sampling: greedy }]);
      return performance.now() - start;
    };
    const write = async (from: number): Promise<{ ms: number; ids: number[] }> => {
      sequence.rewind(0);
      await model.sample([{ sequence, tokens: ids.slice(0, from), count: 1, sampling: greedy }]);
      counter?.reset();
      const start = performance.now();
      const drawn: number[] = [];
      for (let togo = DECODE; togo > 0; togo -= 64) {
        goOn(own);
        const [part] = await model.sample([{ sequence, tokens: nothing, count: Math.min(64, togo), sampling: greedy }]);
        drawn.push(...part!.ids);
      }
      return { ms: performance.now() - start, ids: drawn };
    };
    const start = performance.now();
    const firstPromptMs = await read();
    while (performance.now() - start < 300) await write(16);
    const prefill: number[] = [];
    const decode: number[] = [];
    let text: number[] = [];
    for (let rep = 0; rep < reps; rep++) {
      prefill.push(await read());
      const written = await write(16);
      decode.push(written.ms);
      if (rep > 0 && written.ids.join() !== text.join()) throw new Error("the same text drew other ids");
      text = written.ids;
    }
    const counts = counter === undefined ? undefined : { ...counter.counts };
    const far: number[] = [];
    for (let rep = 0; rep < Math.min(3, reps); rep++) far.push((await write(PROMPT)).ms);
    const one: number[] = [];
    sequence.rewind(0);
    await model.sample([{ sequence, tokens: ids.slice(0, 16), count: 1, sampling: greedy }]);
    for (let token = 0; token < 4 * reps; token++) {
      const start = performance.now();
      await model.sample([{ sequence, tokens: nothing, count: 1, sampling: greedy }]);
      one.push(performance.now() - start);
    }
    sequence.close();
    return {
      decode: round((1000 * DECODE) / median(decode)),
      best: round((1000 * DECODE) / Math.min(...decode)),
      decodeFar: round((1000 * DECODE) / median(far)),
      prefillMs: round(median(prefill)),
      firstPromptMs: round(firstPromptMs),
      oneTokenMs: round(median(one)),
      ids: hash(Int32Array.from(text)),
      counts,
    };
  };
  const load = async (backend: Backend) => {
    const start = performance.now();
    const model = await backend.load(checkpoint, { dtype, context, room: context });
    return { model, loadMs: round(performance.now() - start) };
  };
  // First as callers have it; then counted, with the device's clock.
  const plain = await provider(options).open();
  const first = await load(plain);
  const told = await measure(first.model);
  say(`     ${shape} ${dtype} as callers have it: ${JSON.stringify(told)}`);
  first.model.close();
  const { device, warnings } = plain.can;
  await plain.close();
  const { backend, counter, watch } = await watched(options);
  const { model } = await load(backend);
  const { counts, ids: countedIds, decode: countedDecode } = await measure(model, counter);
  if (countedIds !== told.ids) throw new Error("a device that is watched drew other ids");
  // By the device's own clock: one call of 64 draws, and one prompt.
  const repeater = watch.repeater!;
  const sequence = model.sequence();
  const clocks: { [what: string]: number[] } = { draws: [], prompt: [] };
  for (let rep = 0; rep < 3; rep++) {
    goOn(own);
    sequence.rewind(0);
    await model.sample([{ sequence, tokens: ids.slice(0, 16), count: 1, sampling: greedy }]);
    clocks.draws!.push(
      await repeater.time(() => model.sample([{ sequence, tokens: nothing, count: 64, sampling: greedy }])),
    );
    sequence.rewind(0);
    clocks.prompt!.push(
      await repeater.time(() => model.sample([{ sequence, tokens: ids, count: 1, sampling: greedy }])),
    );
  }
  sequence.close();
  const keyBytes = model.details?.kvDtype === "f16" ? 2 : 4;
  model.close();
  await backend.close();
  const work = workOf(config, dtype, keyBytes);
  const bytes = work.weightBytes + work.stateBytes(16 + DECODE / 2);
  const memory = values.memory === undefined ? memoryOf(await adapterName()) : Number(values.memory);
  const { dispatches, submits, encodeMs, bytesOut, writes, creates } = counts!;
  return {
    ...{ device, warnings, ...told, counts: undefined, countedDecode, loadMs: first.loadMs },
    ...{ dispatchesPerToken: dispatches / DECODE, submits, writes, creates, bytesOut },
    encodeMicrosecondsPerDispatch: round((1000 * encodeMs) / dispatches),
    microsecondsPerDispatch: round((1e6 * DECODE) / told.decode / dispatches),
    clock: repeater.clock,
    gpuMicrosecondsPerToken: round((1000 * median(clocks.draws!)) / 64),
    gpuMicrosecondsPerDispatch: round(((1000 * median(clocks.draws!)) / 64) * (DECODE / dispatches)),
    gpuPromptMs: round(median(clocks.prompt!)),
    bytesPerToken: Math.round(bytes),
    // Of what the memory gives; left out where that is not known.
    share: memory && round((told.decode * bytes) / memory),
    gpuShare: memory && round(bytes / ((median(clocks.draws!) / 64 / 1000) * memory)),
    promptMacsPerSecond: round(
      (PROMPT * work.layerMacs + work.headMacs + work.promptAttentionMacs(PROMPT)) / (told.prefillMs / 1000),
    ),
  };
}

/** Where the time goes: every kernel of a token, and of a prompt of 64. */
export const profile = (shape: string, dtype: DType) => async () => {
  const { backend, watch } = await watched({ tokensPerSubmit: 1 });
  const kernels = await benchGpuKernels(backend, watch, shape, dtype, () => {});
  await backend.close();
  for (const { what, kernel, dispatches, microseconds, share, bytes, macs } of kernels) {
    say(
      `     ${shape} ${dtype} ${what.padEnd(6)} ${kernel.padEnd(28)} ${String(dispatches).padStart(4)} x ${microseconds.toFixed(2).padStart(8)} us  ${(100 * share).toFixed(1).padStart(5)} %${bytes > 0 ? `  ${(bytes / microseconds / 1e3).toFixed(0)} GB/s` : ""}${macs > 0 ? `  ${(macs / microseconds / 1e6).toFixed(2)} TMAC/s` : ""}`,
    );
  }
  return { kernels };
};
