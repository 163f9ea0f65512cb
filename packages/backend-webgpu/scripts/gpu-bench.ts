// What only a GPU can tell about this backend, for a machine with nothing installed: bundled by gpu-pack.mjs, run by gpu-run.sh.
// Each step has a time limit of its own and is told in a line as soon as it is done, so that a step that hangs or fails takes nothing
// of the others with it.
//
//   node bench.mjs --dawn dawn.node [--seconds 75] [--json FILE] [--fixtures FOLDER] [--only open,profile,...] [--shapes 20m,60m,160m]
import { createHash } from "node:crypto";
import { writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { checks, runCheck, Stage } from "@doge-lm/conformance/checks";
import { type Backend, type Config, type DType, defaultSampling, type Floats, type Model } from "@doge-lm/core";
import { folder } from "@doge-lm/core/node";
import { reference } from "@doge-lm/reference";
import { randomCheckpoint, randomIds } from "../../../apps/cli/src/bench/random-checkpoint.ts";
import { configOf } from "../../../apps/cli/src/bench/shapes.ts";
import { workOf } from "../../../apps/cli/src/bench/work.ts";
import { benchGpuKernels, KernelWatch } from "../../../benchmarks/gpu-kernels.ts";
import { Counter } from "../src/counter.ts";
import { type WebgpuOptions, webgpu } from "../src/index.ts";

const { values } = parseArgs({
  options: {
    dawn: { type: "string" },
    seconds: { type: "string", default: "75" },
    json: { type: "string" },
    fixtures: { type: "string" },
    only: { type: "string" },
    /** Bytes per second that the memory of the GPU gives. */
    memory: { type: "string", default: "4.3e12" },
    shapes: { type: "string", default: "60m,20m,160m" },
    prompt: { type: "string", default: "512" },
    decode: { type: "string", default: "256" },
    reps: { type: "string", default: "5" },
    software: { type: "boolean", default: false },
  },
});
const [PROMPT, DECODE, MEMORY, REPS] = [values.prompt, values.decode, values.memory, values.reps].map(Number) as [
  number,
  number,
  number,
  number,
];
const began = performance.now();
const left = (): number => Number(values.seconds) * 1000 - (performance.now() - began);
const results: { [step: string]: unknown } = {};

const say = (line: string): void => {
  // At once, whatever becomes of the process.
  writeSync(1, `${line}\n`);
};
const round = (value: number): number => Number(value.toPrecision(4));
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;
const save = (): void => {
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 1)}\n`);
};

/** Whether the step that runs is late: it ends before its next repetition, so that it takes no time from the next step. */
let late = { is: false };
/** Errors: when the step that asked is late. */
function goOn(own: typeof late): void {
  if (own.is) throw new Error("late");
}

/** One step: its result, or why it has none. */
async function step(name: string, seconds: number, work: () => Promise<unknown>): Promise<void> {
  if (values.only !== undefined && !values.only.split(",").some((wanted) => name.startsWith(wanted))) return;
  const limit = Math.min(seconds * 1000, left());
  if (limit < 1000) {
    results[name] = { skipped: "no time is left" };
    say(`skip ${name}: no time is left`);
    return;
  }
  const start = performance.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const own = { is: false };
  late = own;
  try {
    const over = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        own.is = true;
        reject(new Error(`not done in ${round(limit / 1000)} s`));
      }, limit);
    });
    const result = await Promise.race([work(), over]);
    results[name] = result;
    say(`ok   ${name} (${Math.round(performance.now() - start)} ms) ${JSON.stringify(result)}`);
  } catch (error) {
    const { message, stack } = error as Error;
    results[name] = { error: message, stack };
    say(`FAIL ${name} (${Math.round(performance.now() - start)} ms) ${message}`);
  } finally {
    clearTimeout(timer);
    save();
  }
}

// --- The GPU -----------------------------------------------------------------------------------------------------------------------

interface Dawn {
  create(options: string[]): GPU;
  readonly globals: object;
}
/** Dawn's instances must stay reachable while they are used. */
const instances: GPU[] = [];
let dawn: Dawn | undefined;
const always = ["disable-dawn-features=timestamp_quantization"];
function gpu(options: readonly string[] = always): GPU {
  dawn ??= createRequire(import.meta.url)(values.dawn ?? "webgpu") as Dawn;
  const made = dawn.create([...options]);
  instances.push(made);
  return made;
}
let shared: GPU | undefined;
const theGpu = (): GPU => {
  shared ??= gpu();
  return shared;
};
const provider = (options: WebgpuOptions = {}) => webgpu({ gpu: theGpu(), software: values.software, ...options });

await step("adapter", 20, async () => {
  const start = performance.now();
  const own = theGpu();
  const created = performance.now();
  const adapter = await own.requestAdapter({ powerPreference: "high-performance" });
  const requested = performance.now();
  if (adapter === null) throw new Error("Dawn gives no adapter: no Vulkan driver was found, or it refused it");
  const { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } =
    adapter.info;
  const limits: { [name: string]: number } = {};
  for (const name in adapter.limits) {
    if (/Storage|Compute|BufferSize|BindGroups|Uniform|Immediate/.test(name))
      limits[name] = Number((adapter.limits as unknown as { [name: string]: number })[name]);
  }
  return {
    ...{ vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize },
    features: [...adapter.features].sort(),
    language: [...(own.wgslLanguageFeatures ?? [])].sort(),
    limits,
    createMs: round(created - start),
    adapterMs: round(requested - created),
    node: process.version,
  };
});

/** Probe, known answer and pipelines of a model: what a caller waits for, without the weights. */
async function opening(): Promise<object> {
  const config: Config = { ...configOf(values.shapes!.split(",")[0]!, false)!, layers: 1, vocabSize: 256 };
  const checkpoint = randomCheckpoint(config);
  let mark = performance.now();
  const since = () => {
    const now = performance.now();
    const taken = round(now - mark);
    mark = now;
    return taken;
  };
  const begin = performance.now();
  let deviceAt = 0;
  const compiled: { name: string; from: number; ms: number }[] = [];
  const onDevice = (device: GPUDevice): GPUDevice => {
    deviceAt = performance.now();
    const compile = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = async (descriptor) => {
      const start = performance.now();
      const pipeline = await compile(descriptor);
      compiled.push({
        name: descriptor.label ?? "",
        from: Math.round(start - begin),
        ms: Math.round(performance.now() - start),
      });
      return pipeline;
    };
    return device;
  };
  const own = provider({ onDevice });
  const answer = await own.probe();
  if (!answer.available) throw new Error(answer.why);
  const probeMs = since();
  const opened = performance.now();
  const backend = await own.open();
  const openMs = since();
  const model = await backend.load(checkpoint, { dtype: "q8", context: 64 });
  const pipelinesMs = since();
  model.close();
  const { device, warnings } = backend.can;
  await backend.close();
  compiled.sort((a, b) => b.ms - a.ms);
  const slowest = compiled.slice(0, 6).map(({ name, from, ms }) => `${name} @${from} ${ms} ms`);
  const deviceMs = round(deviceAt - opened);
  return {
    device,
    warnings,
    probeMs,
    deviceMs,
    openMs,
    pipelinesMs,
    pipelines: compiled.length,
    slowest,
    totalMs: round(probeMs + openMs + pipelinesMs),
  };
}
await step("open cold", 40, opening);
await step("open warm", 20, opening);

// --- Times -------------------------------------------------------------------------------------------------------------------------

const greedy = { ...defaultSampling, temperature: 0, stop: [] };
const nothing = new Int32Array(0);
const hash = (data: Int32Array | Floats): string =>
  createHash("sha256")
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest("hex")
    .slice(0, 12);

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

/** Decoding alone: what Dawn's options and the kernels' forms change, and what the host takes. */
async function decoding(shape: string, dtype: DType, options: WebgpuOptions = {}): Promise<object> {
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
  const own = late;
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
  const each = (milliseconds: number) => round((1000 * milliseconds) / DECODE / (5 * config.layers + 3));
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

/** Opens a backend that is counted and has a clock. */
async function watched(
  options: WebgpuOptions = {},
): Promise<{ backend: Backend; counter: Counter; watch: KernelWatch }> {
  const [counter, watch] = [new Counter(), new KernelWatch()];
  const onDevice = (device: GPUDevice) => counter.onDevice(watch.onDevice(device));
  return { backend: await provider({ ...options, onDevice }).open(), counter, watch };
}

/** Decode behind 16 tokens and near the prompt's length, and read the prompt. */
async function times(shape: string, dtype: DType, options: WebgpuOptions = {}, reps = REPS): Promise<object> {
  const config = configOf(shape, false)!;
  const checkpoint = randomCheckpoint(config);
  const ids = randomIds(PROMPT, config.vocabSize, 1);
  const context = PROMPT + DECODE + 16;
  const own = late;
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
    share: round((told.decode * bytes) / MEMORY),
    gpuShare: round(bytes / ((median(clocks.draws!) / 64 / 1000) * MEMORY)),
    promptMacsPerSecond: round(
      (PROMPT * work.layerMacs + work.headMacs + work.promptAttentionMacs(PROMPT)) / (told.prefillMs / 1000),
    ),
  };
}

const [main, ...others] = values.shapes!.split(",") as [string, ...string[]];
await step(`times ${main} q8`, 30, () => times(main, "q8"));

/** Where the time goes: every kernel of a token, and of a prompt of 64. */
const profile = (shape: string, dtype: DType) => async () => {
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
await step(`profile ${main} q8`, 15, profile(main, "q8"));

// --- Agreement ---------------------------------------------------------------------------------------------------------------------

const AGREEING = 40;
await step("agreement", 20, async () => {
  const config: Config = { ...configOf("tiny", false)!, vocabSize: 4096 };
  const checkpoint = randomCheckpoint(config, 5);
  const ids = randomIds(AGREEING, config.vocabSize, 3);
  const run = async (model: Model) => {
    const sequence = model.sequence();
    const [prompt] = await model.forward([{ sequence, tokens: ids }]);
    const drawn: number[] = [];
    for (const count of [1, 31])
      drawn.push(...(await model.sample([{ sequence, tokens: nothing, count, sampling: greedy }]))[0]!.ids);
    const seeded = { ...defaultSampling, temperature: 0.9, topK: 50, topP: 0.95, seed: 11, stop: [] };
    const [sampled] = await model.sample([{ sequence, tokens: nothing, count: 32, sampling: seeded }]);
    const other = model.sequence();
    const [score] = await model.score([{ sequence: other, tokens: ids }]);
    return { prompt: prompt!, drawn, sampled: [...sampled!.ids], score: score! };
  };
  const apart = (a: Floats, b: Floats): { max: number; rms: number } => {
    const scale = Math.sqrt(b.reduce((sum, value) => sum + value * value, 0) / b.length);
    let [max, squares] = [0, 0];
    b.forEach((value, index) => {
      const gap = Math.abs(a[index]! - value) / scale;
      max = Math.max(max, gap);
      squares += gap * gap;
    });
    return { max: round(max), rms: round(Math.sqrt(squares / b.length)) };
  };
  const same = (a: readonly number[], b: readonly number[]) => {
    const first = a.findIndex((id, index) => id !== b[index]);
    return first < 0 ? a.length : first;
  };
  const truth = await reference().open();
  const device = await provider().open();
  const found: { [dtype: string]: object } = {};
  for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
    const [theirs, ours] = [await truth.load(checkpoint, { dtype }), await device.load(checkpoint, { dtype })];
    const [wanted, got] = [await run(theirs), await run(ours)];
    theirs.close();
    ours.close();
    found[dtype] = {
      logits: apart(got.prompt, wanted.prompt),
      scores: apart(got.score, wanted.score),
      greedy: `${same(got.drawn, wanted.drawn)} of ${wanted.drawn.length}`,
      seeded: `${same(got.sampled, wanted.sampled)} of ${wanted.sampled.length}`,
    };
  }
  await device.close();
  return found;
});

// --- The suite -------------------------------------------------------------------------------------------------------------------

await step("conformance", 30, async () => {
  if (values.fixtures === undefined) throw new Error("there are no fixtures: give --fixtures");
  const mine = late;
  const own = provider();
  const answer = await own.probe();
  if (!answer.available) throw new Error(answer.why);
  const fixtures = values.fixtures;
  const subject = {
    provider: own,
    can: answer,
    notes: { fixtures: async (name: string) => folder(join(fixtures, name)) },
  };
  const stage = new Stage(subject);
  const end = performance.now() + Math.min(24_000, left() - 4000);
  const failures: string[] = [];
  const skips: string[] = [];
  let [passed, unseen] = [0, 0];
  for (const check of checks) {
    if (performance.now() > end || mine.is) {
      unseen++;
      continue;
    }
    const why = check.ring === "text" ? "the demo model is not here" : check.skip?.(subject);
    if (why !== undefined) {
      skips.push(check.name);
      continue;
    }
    const start = performance.now();
    try {
      await runCheck(check, stage);
      passed++;
    } catch (error) {
      failures.push(`${check.ring}: ${check.name}: ${(error as Error).message}`);
      say(`     FAIL ${failures.at(-1)}`);
    }
    const taken = performance.now() - start;
    if (passed % 20 === 0) say(`     ${passed} passed, ${failures.length} failed so far`);
    if (taken > 2000) say(`     ${check.ring}: ${check.name} took ${Math.round(taken)} ms`);
  }
  await stage.close();
  return { passed, failed: failures.length, skipped: skips.length, unseen, failures };
});

// --- The other dtypes and sizes ----------------------------------------------------------------------------------------------------

for (const dtype of ["q8", "f32", "bf16", "q4"] as const)
  await step(`decoding ${main} ${dtype}`, 10, () => decoding(main, dtype));
for (const shape of others) await step(`decoding ${shape} q8`, 12, () => decoding(shape, "q8"));

// --- What Dawn can be asked for ----------------------------------------------------------------------------------------------------

for (const asked of ["disable_robustness", "skip_validation", "vulkan_enable_f16_on_nvidia"]) {
  const options = [...always, `enable-dawn-features=${asked}`];
  await step(`decoding ${main} q8, ${asked}`, 8, () => decoding(main, "q8", { gpu: gpu(options) }));
}
await step(`decoding ${main} q8, no vulkan memory model`, 8, () =>
  decoding(main, "q8", { gpu: gpu(["disable-dawn-features=timestamp_quantization,use_vulkan_memory_model"]) }),
);
for (const [name, variant] of Object.entries({ unpacked: { packed: false }, base: { subgroups: false } }))
  await step(`decoding ${main} q8, ${name}`, 8, () => decoding(main, "q8", { variant }));

await step(`profile ${main} f32`, 12, profile(main, "f32"));

say(`done in ${Math.round(performance.now() - began)} ms`);
save();
// Dawn's instances keep a process alive.
process.exit(Object.values(results).some((result) => (result as { error?: string }).error !== undefined) ? 1 : 0);
