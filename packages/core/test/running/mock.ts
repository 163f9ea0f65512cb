// A backend of a few lines for the tests of what runs above one: its logits are a hash of the ids so far, it evaluates a token
// per task so that an abort can come in between, and it can be told to misbehave.

import { noteProven } from "../../src/contract/proven.ts";
import type { Backend, Checkpoint, Config, Floats, Model, Provider, Row, Sequence, Tensor } from "../../src/index.ts";
import { aborted, DogeError, nextTask, pcg3d, sampleByForward, scoreByForward, Timeline } from "../../src/index.ts";

export const config: Config = {
  generation: "native",
  vocabSize: 40,
  hiddenSize: 8,
  intermediateSize: 16,
  layers: 1,
  heads: 2,
  kvHeads: 1,
  headDim: 4,
  normEpsilon: 1e-6,
  maxPositions: 32,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: true,
  biasHeads: 1,
  window: null,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: 0,
  eosIds: [1],
  padId: 2,
};
export const checkpoint = (over: Partial<Config> = {}): Checkpoint => ({
  config: { ...config, ...over },
  tensors: new Map(),
  read: async () => new Uint8Array(),
});

/** Logits (vocab) that follow `ids`. */
export function logitsAfter(ids: ArrayLike<number>, vocabulary = config.vocabSize): Floats {
  let state = 17;
  for (let index = 0; index < ids.length; index++) state = pcg3d(state, ids[index]!, index);
  return Float32Array.from({ length: vocabulary }, (_, id) => (pcg3d(id, state, 5) / 2 ** 32) * 8);
}

class MockSequence implements Sequence {
  readonly timeline: Timeline;
  readonly live: Set<MockSequence>;
  constructor(timeline: Timeline, live: Set<MockSequence>) {
    this.timeline = timeline;
    this.live = live.add(this);
  }
  get closed() {
    return !this.live.has(this);
  }
  get length() {
    return this.timeline.length;
  }
  fork() {
    return new MockSequence(this.timeline.fork(), this.live);
  }
  rewind(length: number) {
    this.timeline.rewind(length);
  }
  close() {
    this.live.delete(this);
  }
}

export class MockBackend implements Backend {
  readonly name: string;
  readonly can = { device: "a few lines", dtypes: ["f32" as const, "q8" as const], trains: false };
  /** What reached the backend, in order. */
  readonly log: string[] = [];
  /** The next call of a model rejects with this. */
  fail: unknown;
  /** Logits after this id are NaN. */
  nanAfter = -1;
  /** The models' logits, when a test wants its own. */
  logits = logitsAfter;
  closed = false;
  /** Told before every call of a model. */
  onCall: (name: string, rows: readonly (Row & { readonly count?: number })[], config: Config) => unknown = () => {};

  constructor(name = "mock") {
    this.name = name;
  }

  async load({ config }: Checkpoint, options: { context?: number | undefined } = {}): Promise<Model> {
    const context = options.context ?? config.maxPositions;
    const live = new Set<MockSequence>();
    let running = 0;
    const timelineOf = (sequence: Sequence) => (sequence as MockSequence).timeline;

    const room = () => 4 * context - [...live].reduce((sum, { length }) => sum + length, 0);

    /** Append and yield the logits after every token; whole or not at all. */
    const evaluate = async (rows: readonly Row[], signal?: AbortSignal): Promise<Floats[][]> => {
      const before = rows.map(({ sequence }) => [sequence.length, timelineOf(sequence).held] as const);
      const results: Floats[][] = [];
      try {
        for (const { sequence, tokens } of rows) {
          if ((sequence as MockSequence).closed) throw new Error("the mock got a closed sequence");
          const from = sequence.length;
          timelineOf(sequence).append(tokens);
          const ids = timelineOf(sequence).ids;
          const every: Floats[] = [];
          for (let end = Math.min(from + 1, ids.length); end <= ids.length; end++) {
            await nextTask();
            if (signal?.aborted) throw aborted(signal, "mock");
            const last = ids[end - 1];
            const nan = last === this.nanAfter;
            every.push(
              nan
                ? new Float32Array(config.vocabSize).fill(Number.NaN)
                : this.logits(ids.subarray(0, end), config.vocabSize),
            );
          }
          results.push(every);
        }
        return results;
      } catch (error) {
        rows.forEach(({ sequence }, index) => {
          sequence.rewind(before[index]![0]);
          timelineOf(sequence).held = before[index]![1];
        });
        throw error;
      }
    };
    /** One call at a time is what checked() promises. */
    const alone = async <T>(name: string, rows: readonly Row[], work: () => Promise<T>): Promise<T> => {
      if (running++ > 0) throw new Error("the mock got two calls at once");
      this.log.push(name);
      try {
        await nextTask();
        await this.onCall(name, rows, config);
        if (this.fail !== undefined) {
          const failure = this.fail;
          this.fail = undefined;
          throw failure;
        }
        return await work();
      } finally {
        running--;
      }
    };
    const forward: Model["forward"] = async (rows, signal) => (await evaluate(rows, signal)).map((all) => all.at(-1)!);
    const inspect: Model["inspect"] = async (rows, _names, signal) =>
      (await evaluate(rows, signal)).map((all, index): ReadonlyMap<string, Tensor> => {
        const count = rows[index]!.tokens.length;
        const data = new Float32Array(count * config.vocabSize);
        all.slice(-count || all.length).forEach((logits, at) => {
          if (at < count) data.set(logits, at * config.vocabSize);
        });
        return new Map([["logits", { shape: [count, config.vocabSize], data }]]);
      });
    const derived = { forward, inspect, context, routing: "per-token" as const };
    const sample = sampleByForward(derived, timelineOf);
    const score = scoreByForward(derived, timelineOf);
    return {
      config,
      dtype: "f32",
      routing: "per-token",
      context,
      get room() {
        return room();
      },
      sequence: () => {
        this.log.push("sequence");
        return new MockSequence(new Timeline("per-token"), live);
      },
      forward: (rows, signal) => alone("forward", rows, () => forward(rows, signal)),
      inspect: (rows, names, signal) => alone("inspect", rows, () => inspect(rows, names, signal)),
      sample: (rows, signal) =>
        alone(`sample ${rows.map((row) => row.count)}`, rows, () => {
          const needed = rows.reduce((sum, { tokens, count }) => sum + tokens.length + count, 0);
          if (needed > room())
            throw new DogeError("no-room", `${needed} tokens do not fit: there is room for ${room()}.`);
          return sample(rows, signal);
        }),
      score: (rows, signal) => alone("score", rows, () => score(rows, signal)),
      close: () => {
        this.log.push("close model");
      },
    };
  }

  async close(): Promise<void> {
    this.log.push("close backend");
    this.closed = true;
  }
}

/** One that a choice takes at its word: its answers are right by definition. */
export function mockProvider(backend = new MockBackend()): Provider {
  noteProven(backend);
  return { name: backend.name, probe: async () => ({ available: true, ...backend.can }), open: async () => backend };
}
