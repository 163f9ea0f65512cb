// doge bench, once its options are read: make or open the weights, load them, time them, measure the ceilings, put it together.
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import type { Checkpoint, ChooseOptions, Config, DType, Model, Provider, Routing } from "@doge-lm/core";
import { checked, choose, DogeError, openCheckpoint, tensorShapes, weightBytes } from "@doge-lm/core";
import { openFiles } from "../hub.ts";
import { type Ceilings, measureCeilings } from "./ceiling.ts";
import { costsOf, type GpuCosts, type Watch, type Watched } from "./gpu.ts";
import { longest, type Measured, measure, type Plan } from "./measure.ts";
import { randomCheckpoint } from "./random-checkpoint.ts";
import { configOf, shapeNames } from "./shapes.ts";
import { type Work, workOf } from "./work.ts";

export interface BenchOptions extends Plan {
  /** The name of a shape, or a folder. */
  readonly shape: string;
  readonly moe: boolean;
  readonly dtype: DType;
  readonly routing: Routing | undefined;
  readonly providers: readonly Provider[];
  readonly choosing: Pick<ChooseOptions, "wanted" | "spares">;
  /** What watches the GPU of a provider that has one. */
  readonly watch?: Watch;
  readonly tell: (what: string) => void;
}

/** Shares are of the shortest time that the measured ceilings allow; rates are totals over rows. */
export interface BenchResult {
  readonly shape: string;
  readonly moe: boolean;
  readonly params: number;
  readonly backend: string;
  readonly device: string;
  readonly dtype: DType;
  readonly threads: number;
  readonly rows: number;
  readonly prompt: number;
  readonly decode: number;
  readonly reps: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: { readonly [context: string]: number };
  readonly firstTokenMs: number;
  readonly loadMs: number;
  /** The most memory that the process had, and how much of it came with loading and running. */
  readonly peakBytes: number;
  readonly grownBytes: number;
  /** What the weights, and the state of all rows at the longest context, take by the shape alone. */
  readonly weightBytes: number;
  readonly stateBytes: number;
  readonly kvDtype: string | null;
  readonly binary: string | null;
  readonly revectorized: boolean | null;
  /** Per token and row, rows sharing the weights. */
  readonly bytesPerToken: { readonly [context: string]: number };
  readonly macsPerToken: { readonly prefill: number; readonly [context: string]: number };
  /** null where nothing measures them: a GPU without timestamps, or one that is not reached by WebGPU. */
  readonly ceilings: Ceilings | null;
  /** `decode` is at the first context. */
  readonly ceilingShare: { readonly prefill: number | null; readonly decode: number | null };
  readonly decodeCeilingShare: { readonly [context: string]: number };
  /** What driving the GPU takes; null on the CPU. */
  readonly gpu: GpuCosts | null;
  readonly samples: {
    readonly prefillMs: readonly number[];
    readonly decodeMs: { [context: string]: readonly number[] };
  };
  readonly hash: string;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly system: string;
    readonly node: string;
    readonly v8: string;
  };
}

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

const peakBytes = (): number => process.resourceUsage().maxRSS * 1024;

export async function bench(options: BenchOptions): Promise<BenchResult> {
  const { shape, moe, dtype, routing, providers, choosing, watch, tell } = options;
  const known = configOf(shape, moe);
  if (known === null && !shape.includes("/") && !existsSync(shape)) {
    throw new DogeError(
      "invalid-argument",
      `There is no shape ${JSON.stringify(shape.slice(0, 200))}: --shape takes ${shapeNames.join(", ")}, the folder of a model, or its name on a hub.`,
    );
  }
  const files = known === null ? await openFiles(shape, {}) : null;
  try {
    const checkpoint: Checkpoint = known === null ? await openCheckpoint(files!) : randomCheckpoint(known);
    const { config } = checkpoint;
    const plan = fit(options, config);
    tell("opening the backend");
    const chosen = await choose(providers, { ...choosing, config, dtype, routing });
    const backend = checked(chosen.backend);
    try {
      tell("loading");
      const before = process.memoryUsage.rss();
      const context = longest(plan);
      const start = performance.now();
      const model = await backend.load(checkpoint, { dtype, routing, context, room: context * plan.rows });
      const loadMs = performance.now() - start;
      const measured = await measure(model, plan, tell, watch?.watched?.counter);
      const memory = { peakBytes: peakBytes(), grownBytes: Math.max(0, peakBytes() - before) };
      const work = workOf(config, model.dtype, keyBytes(model, config), numberOf(model.details?.weightBytes));
      const { details = {}, device, threads = 1 } = backend.can;
      const gpu = gpuCosts(plan, measured, watch?.watched, details.software === true);
      model.close();
      tell("measuring the ceilings");
      const reads = work.weightBytes + plan.rows * work.stateBytes(plan.contexts[0] ?? plan.prompt);
      let ceilings: Ceilings | null = null;
      if (watch?.watched !== undefined) {
        ceilings = await watch.watched.ceilings(dtype, details.software === true, reads);
      } else if (details.processor !== "gpu") ceilings = await measureCeilings(dtype, threads, reads);
      return {
        ...{ shape, moe: config.experts !== null, params: work.parameters },
        ...{ backend: backend.name, device, dtype: model.dtype, threads },
        ...{ rows: plan.rows, prompt: plan.prompt, decode: plan.decode, reps: plan.reps },
        ...rates(plan, measured),
        ...{ firstTokenMs: measured.firstTokenMs, loadMs, ...memory },
        weightBytes: numberOf(model.details?.weightBytes) ?? allBytes(config, model.dtype),
        stateBytes: plan.rows * work.stateBytes(context),
        kvDtype: keyType(model),
        binary: details.binary === undefined ? null : String(details.binary),
        revectorized: details.revectorized === undefined ? null : Boolean(details.revectorized),
        ...costs(plan, work),
        ...{ ceilings, ...shares(plan, measured, work, ceilings), gpu },
        samples: { prefillMs: measured.prefillMs, decodeMs: Object.fromEntries(measured.decodeMs) },
        hash: measured.hash,
        machine: machine(),
      };
    } finally {
      await backend.close();
    }
  } finally {
    await files?.close?.();
  }
}

/** The plan without contexts that the model does not reach. Errors: "invalid-argument" when the prompt does not fit. */
function fit(options: BenchOptions, config: Config): Plan {
  const { prompt, decode, rows, reps } = options;
  const limit = config.maxPositions;
  if (prompt >= limit) {
    throw new DogeError(
      "invalid-argument",
      `--prompt is ${prompt}: the model's context holds ${limit}, one of them new.`,
      {
        scope: "cli",
      },
    );
  }
  const contexts = options.contexts.filter(
    (context) => context <= limit && longest({ ...options, contexts: [context] }) <= limit,
  );
  return { prompt, decode, rows, reps, contexts };
}

function gpuCosts(
  { decode, contexts: [first] }: Plan,
  { counts, decodeMs }: Measured,
  watched: Watched | undefined,
  software: boolean,
): GpuCosts | null {
  const counted = first === undefined ? undefined : counts.get(first);
  if (watched === undefined || counted === undefined) return null;
  return costsOf(counted, decode, decodeMs.get(first!)!.at(-1)!, watched.clock, software);
}

function rates({ prompt, decode, rows }: Plan, { prefillMs, decodeMs }: Measured) {
  const perSecond = (tokens: number, times: readonly number[]): number => (1000 * rows * tokens) / median(times);
  return {
    prefillTokensPerSecond: perSecond(prompt, prefillMs),
    decodeTokensPerSecond: Object.fromEntries(
      [...decodeMs].map(([context, times]) => [context, perSecond(decode, times)]),
    ),
  };
}

function costs(plan: Plan, work: Work) {
  const linear = work.layerMacs + work.headMacs;
  return {
    bytesPerToken: Object.fromEntries(
      plan.contexts.map((context) => [context, Math.round(work.weightBytes / plan.rows + work.stateBytes(context))]),
    ),
    macsPerToken: {
      prefill: Math.round(promptMacs(plan, work) / plan.prompt),
      ...Object.fromEntries(plan.contexts.map((context) => [context, linear + work.attentionMacs(context)])),
    },
  };
}

/** Multiply-adds of one prompt: the head works on its last token alone. */
const promptMacs = ({ prompt }: Plan, work: Work): number =>
  prompt * work.layerMacs + work.headMacs + work.promptAttentionMacs(prompt);

/** The shortest time the ceilings allow over the time it took. A step waits for its bytes or for its multiply-adds, whichever
 *  takes longer; a prompt is bound by multiply-adds. */
function shares(plan: Plan, { prefillMs, decodeMs }: Measured, work: Work, ceilings: Ceilings | null) {
  if (ceilings === null) return { ceilingShare: { prefill: null, decode: null }, decodeCeilingShare: {} };
  const { rows, prompt, decode } = plan;
  const { bytesPerSecond, floatMacsPerSecond, macsPerSecond } = ceilings;
  const linear = prompt * work.layerMacs + work.headMacs;
  const attention = work.promptAttentionMacs(prompt);
  const prefill = rows * (linear / macsPerSecond + attention / floatMacsPerSecond);
  const step = (context: number): number => {
    const bytes = work.weightBytes + rows * work.stateBytes(context);
    const macs = (work.layerMacs + work.headMacs) / macsPerSecond + work.attentionMacs(context) / floatMacsPerSecond;
    return Math.max(bytes / bytesPerSecond, rows * macs);
  };
  const decodes = [...decodeMs].map(([context, times]): [number, number] => {
    // The text grows while it is timed: its middle stands for it.
    const middle = (context === 16 ? 16 + decode : context) - decode / 2;
    return [context, (1000 * decode * step(middle)) / median(times)];
  });
  return {
    ceilingShare: { prefill: (1000 * prefill) / median(prefillMs), decode: decodes[0]?.[1] ?? null },
    decodeCeilingShare: Object.fromEntries(decodes),
  };
}

/** How keys and values are held: what the model tells, else what the contract says of f32. */
function keyType(model: Model): string | null {
  const told = model.details?.kvDtype;
  return told === undefined ? (model.dtype === "f32" ? "f32" : null) : String(told);
}

/** Bytes of a number of keys and values. */
function keyBytes(model: Model, { headDim }: Config): number {
  const type = keyType(model) ?? "";
  // Keys have an f32 scale for each 32 channels, values one for each head.
  if (type === "q8") return 1 + (4 / 32 + 4 / headDim) / 2;
  return /^(bf|f)16$/.test(type) ? 2 : 4;
}

const numberOf = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined);

const allBytes = (config: Config, dtype: DType): number =>
  [...tensorShapes(config)].reduce((sum, [name, shape]) => sum + weightBytes(name, shape, dtype), 0);

function machine(): BenchResult["machine"] {
  const list = cpus();
  return {
    cpu: list[0]?.model.trim() ?? "unknown",
    cores: list.length,
    system: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    v8: process.versions.v8,
  };
}
