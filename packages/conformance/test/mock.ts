// A backend without mathematics: its logits are a hash of a sequence's ids. It keeps the contract, so the checks that need no
// golden pass on it; and every fault of `Faults` can be put in, so that the check meant to find it can be seen to do so.
import {
  aborted,
  type Backend,
  type Checkpoint,
  type Config,
  checkedProvider,
  DogeError,
  type Drawn,
  type Floats,
  keptSet,
  type LoadOptions,
  logProbabilities,
  type Model,
  mostLikely,
  nextTask,
  noise,
  type Provider,
  type Row,
  type SampleRow,
  type Sampling,
  type Sequence,
  type Tensor,
} from "@doge-lm/core";

export type Fault =
  | "mixes sequences"
  | "sees the company"
  | "sees the future"
  | "forks share their state"
  | "a deep rewind leaves traces"
  | "a repeated row appends again"
  | "aborted calls stay"
  | "aborted draws stay"
  | "scores are shifted"
  | "inspect is one off"
  | "results are reused"
  | "capabilities change"
  | "room has no end"
  | "unused room is lost"
  | "forks cost room"
  | "ignores the seed"
  | "hashes seed plus position"
  | "counts positions from the chunk"
  | "counts positions by row"
  | "noise is half as strong"
  | "temperature is ignored"
  | "top-k is one too many"
  | "top-p drops the crossing token"
  | "top-p before top-k"
  | "min-p is absolute"
  | "penalty counts occurrences"
  | "penalty forgets drawn ids"
  | "penalty after logprobs"
  | "mask holds for one draw"
  | "mask after the filters"
  | "stop is left out"
  | "stop does not hold"
  | "stop outlives a rewind"
  | "stops in the prompt"
  | "one stop ends all rows"
  | "count 0 draws"
  | "alternatives are unsorted"
  | "unasked logprobs";

/** What a sequence is: its ids, each with a stamp of its own (forks share them), and a trace that healthy ones never get. */
class MockSequence implements Sequence {
  ids: number[] = [];
  stamps: number[] = [];
  held = false;
  trace = 0;
  readonly model: MockModel;

  constructor(model: MockModel) {
    this.model = model;
    model.open.add(this);
  }

  get length(): number {
    return this.ids.length;
  }

  append(ids: ArrayLike<number>): void {
    for (let index = 0; index < ids.length; index++) {
      this.ids.push(ids[index]!);
      this.stamps.push(this.model.stamp++);
      this.held = false;
    }
  }

  fork(): Sequence {
    const child = new MockSequence(this.model);
    const shared = this.model.fault === "forks share their state";
    child.ids = shared ? this.ids : [...this.ids];
    child.stamps =
      this.model.fault === "forks cost room" ? this.stamps.map(() => this.model.stamp++) : [...this.stamps];
    child.held = this.held;
    child.trace = this.trace;
    return child;
  }

  rewind(length: number): void {
    if (length >= this.ids.length) return;
    if (this.model.fault === "a deep rewind leaves traces" && this.ids.length - length > 64) this.trace++;
    this.ids.length = length;
    this.stamps.length = length;
    if (this.model.fault !== "stop outlives a rewind") this.held = false;
  }

  close(): void {
    this.model.open.delete(this);
  }
}

class MockModel implements Model {
  readonly config: Config;
  readonly dtype;
  readonly routing;
  readonly context: number;
  readonly fault: Fault | undefined;
  readonly open = new Set<MockSequence>();
  stamp = 0;
  readonly #capacity: number;
  #lost = 0;
  #last = 0;
  readonly #reused: Floats;

  constructor(config: Config, options: LoadOptions, fault: Fault | undefined) {
    this.config = config;
    this.dtype = options.dtype ?? "f32";
    this.routing = config.experts === null ? ("per-token" as const) : (options.routing ?? "reference");
    this.context = options.context ?? config.maxPositions;
    this.#capacity = options.room ?? 4 * this.context;
    this.fault = fault;
    this.#reused = new Float32Array(config.vocabSize);
  }

  get room(): number {
    const used = new Set<number>();
    for (const { stamps } of this.open) for (const stamp of stamps) used.add(stamp);
    return this.#capacity - used.size - this.#lost;
  }

  sequence(): Sequence {
    return new MockSequence(this);
  }

  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#whole(rows, 0, async (row, sequence) => {
      await this.#append(sequence, row, signal);
      const logits = this.#logits(sequence, sequence.length, rows.length);
      if (this.fault !== "results are reused") return logits;
      this.#reused.set(logits);
      return this.#reused;
    });
  }

  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#whole(rows, 0, async (row, sequence) => {
      const past = sequence.length;
      await this.#append(sequence, row, signal);
      const shift = this.fault === "scores are shifted" ? 1 : 0;
      return Float32Array.from(row.tokens, (id, at) =>
        past + at === 0 ? 0 : logProbabilities(this.#logits(sequence, past + at + shift, 1))[id]!,
      );
    });
  }

  inspect(rows: readonly Row[], names: readonly string[], signal?: AbortSignal) {
    return this.#whole(rows, 0, async (row, sequence) => {
      const past = sequence.length;
      await this.#append(sequence, row, signal);
      const seen = new Map<string, Tensor>();
      for (const [name, width] of [
        ["logits", this.config.vocabSize],
        ["hidden", this.config.hiddenSize],
      ] as const) {
        if (!names.includes(name)) continue;
        const data = new Float32Array(row.tokens.length * width);
        const shift = this.fault === "inspect is one off" ? 0 : 1;
        for (let at = 0; at < row.tokens.length; at++) {
          data.set(this.#logits(sequence, past + at + shift, 1).subarray(0, width), at * width);
        }
        seen.set(name, { shape: [row.tokens.length, width], data });
      }
      return seen as ReadonlyMap<string, Tensor>;
    });
  }

  sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]> {
    let ended = false;
    return this.#whole(rows, 1, async (row, sequence, index) => {
      await this.#append(sequence, row, signal);
      if (this.fault === "stops in the prompt" && row.sampling.stop.includes(sequence.ids.at(-1)!))
        sequence.held = true;
      const found = {
        ids: [] as number[],
        logprobs: [] as number[],
        topIds: [] as number[],
        topLogprobs: [] as number[],
      };
      const prompt = sequence.length;
      const count = this.fault === "count 0 draws" ? Math.max(1, row.count) : row.count;
      while (
        found.ids.length < Math.min(count, this.context - prompt) &&
        (!sequence.held || this.fault === "stop does not hold")
      ) {
        if (this.fault === "one stop ends all rows" && ended) break;
        await this.#heed(signal);
        const logits = this.#logits(sequence, sequence.length, rows.length);
        const id = this.#draw(logits, sequence, row, prompt, index);
        if (id < 0) break;
        const k = row.alternatives;
        if (k !== undefined || this.fault === "unasked logprobs") {
          const shown =
            this.fault === "penalty after logprobs" ? this.#penalised(logits, sequence, row.sampling, prompt) : logits;
          const ln = logProbabilities(shown);
          const best = mostLikely(shown, k ?? 0);
          if (this.fault === "alternatives are unsorted") best.reverse();
          found.logprobs.push(ln[id]!);
          found.topIds.push(...best);
          for (const top of best) found.topLogprobs.push(ln[top]!);
        }
        const stopped = row.sampling.stop.includes(id);
        if (stopped && this.fault === "stop is left out") break;
        sequence.append([id]);
        found.ids.push(id);
        sequence.held = stopped;
        ended ||= stopped;
        if (stopped) break;
      }
      if (this.fault === "unused room is lost") this.#lost += row.count - found.ids.length;
      return {
        ids: Int32Array.from(found.ids),
        logprobs: Float32Array.from(found.logprobs),
        topIds: Int32Array.from(found.topIds),
        topLogprobs: Float32Array.from(found.topLogprobs),
      };
    });
  }

  close(): void {
    this.open.clear();
  }

  #penalised(logits: Floats, sequence: MockSequence, { repetitionPenalty }: Sampling, prompt: number): Floats {
    const scores = logits.slice();
    const past = this.fault === "penalty forgets drawn ids" ? sequence.ids.slice(0, prompt) : sequence.ids;
    for (const id of this.fault === "penalty counts occurrences" ? past : new Set(past)) {
      scores[id] = scores[id]! < 0 ? scores[id]! * repetitionPenalty : scores[id]! / repetitionPenalty;
    }
    return scores;
  }

  /** Core's draw, by its parts: a fault changes what goes in. */
  #draw(logits: Floats, sequence: MockSequence, row: SampleRow, prompt: number, index: number): number {
    const { fault } = this;
    const sampling = { ...row.sampling, repetitionPenalty: 1 };
    let { allowed } = row;
    let position = sequence.length;
    let { seed } = sampling;
    if (fault === "ignores the seed") seed = 0;
    if (fault === "counts positions from the chunk") position -= prompt;
    if (fault === "counts positions by row") position += index;
    if (fault === "hashes seed plus position") [seed, position] = [(seed + position) >>> 0, 0];
    if (fault === "temperature is ignored" && sampling.temperature > 0) sampling.temperature = 1;
    if (fault === "top-k is one too many" && sampling.topK > 0) sampling.topK++;
    if (fault === "mask holds for one draw" && sequence.length > prompt) allowed = undefined;
    const scores = this.#penalised(logits, sequence, row.sampling, prompt);
    let kept: { ids: ArrayLike<number>; probabilities: ArrayLike<number> };
    if (fault === "top-p before top-k") {
      const nucleus = keptSet(scores, [], { ...sampling, topK: 0, minP: 0, allowed });
      const some = Float32Array.from(scores, (score, id) =>
        nucleus.ids.includes(id) ? score : Number.NEGATIVE_INFINITY,
      );
      kept = keptSet(some, [], { ...sampling, topP: 1 });
    } else if (fault === "mask after the filters") {
      const all = keptSet(scores, [], sampling);
      const some = Float32Array.from(scores, (score, id) => (all.ids.includes(id) ? score : Number.NEGATIVE_INFINITY));
      kept = all.ids.some((id) => allowed === undefined || (allowed[id >> 5]! >>> (id & 31)) & 1)
        ? keptSet(some, [], { temperature: sampling.temperature, allowed })
        : all;
    } else kept = keptSet(scores, [], { ...sampling, allowed });
    const strength = fault === "noise is half as strong" ? 0.5 : 1;
    const best = Math.max(...Array.from(kept.probabilities));
    let mass = 0;
    let winner = -1;
    let top = Number.NEGATIVE_INFINITY;
    for (const at of Array.from(kept.ids, (_, i) => i).sort(
      (a, b) => kept.probabilities[b]! - kept.probabilities[a]!,
    )) {
      const [id, p] = [kept.ids[at]!, kept.probabilities[at]!];
      mass += p;
      if (fault === "top-p drops the crossing token" && sampling.topP < 1 && p < best && mass > 0.999) continue;
      if (fault === "min-p is absolute" && sampling.minP > 0 && p < sampling.minP && p < best) continue;
      const score = Math.log(p) + strength * noise(id, position, seed);
      if (score > top) [winner, top] = [id, score];
    }
    return winner;
  }

  /** Logits after the first `length` ids: numbers of standard deviation 1.5 from a hash of them. */
  #logits(sequence: MockSequence, length: number, company: number): Floats {
    let state = 2166136261 ^ sequence.trace;
    for (let at = 0; at < length; at++) state = Math.imul(state ^ (sequence.ids[at]! + 1), 16777619);
    if (this.fault === "mixes sequences") state ^= this.#last;
    if (this.fault === "sees the company") state ^= company;
    if (this.fault === "sees the future") state ^= sequence.ids.at(-1)!;
    this.#last = sequence.ids.at(-1) ?? 0;
    return Float32Array.from({ length: this.config.vocabSize }, () => {
      let sum = 0;
      for (let part = 0; part < 4; part++) {
        state = Math.imul(state, 1664525) + 1013904223;
        sum += ((state ^ (state >>> 15)) >>> 0) / 2 ** 32 - 0.5;
      }
      return sum * 2.6;
    });
  }

  async #heed(signal: AbortSignal | undefined): Promise<void> {
    await nextTask();
    if (signal?.aborted) throw aborted(signal);
  }

  async #append(sequence: MockSequence, { tokens }: Row, signal: AbortSignal | undefined): Promise<void> {
    if (tokens.length === 0 && this.fault === "a repeated row appends again") sequence.trace++;
    for (let from = 0; from < tokens.length; from += 512) {
      if (from > 0) await this.#heed(signal);
      sequence.append(tokens.slice(from, from + 512));
    }
  }

  /** All rows or none. */
  async #whole<R extends Row, T>(
    rows: readonly R[],
    draws: number,
    one: (row: R, sequence: MockSequence, index: number) => Promise<T>,
  ): Promise<T[]> {
    const needed = rows.reduce((sum, row) => {
      const count = draws * ((row as unknown as SampleRow).count ?? 0);
      return sum + row.tokens.length + Math.min(count, this.context - row.sequence.length - row.tokens.length);
    }, 0);
    if (needed > this.room && this.fault !== "room has no end") {
      throw new DogeError("no-room", `${needed} tokens need room and ${this.room} are left.`);
    }
    const before = rows.map(({ sequence }) => {
      const { ids, stamps, held } = sequence as MockSequence;
      return { ids: [...ids], stamps: [...stamps], held };
    });
    try {
      const results: T[] = [];
      for (const [index, row] of rows.entries()) results.push(await one(row, row.sequence as MockSequence, index));
      return results;
    } catch (error) {
      const stays = this.fault === "aborted calls stay" || (draws > 0 && this.fault === "aborted draws stay");
      if (!stays) for (const [index, { sequence }] of rows.entries()) Object.assign(sequence, before[index]);
      throw error;
    }
  }
}

/** A provider of the mock, healthy or with one fault. */
export function mock(fault?: Fault): Provider {
  const dtypes = Object.freeze(["f32"] as const);
  const provider = checkedProvider({
    name: "mock",
    probe: async () => ({ available: true, device: "hash", dtypes, trains: false }),
    open: async (): Promise<Backend> => ({
      name: "mock",
      can: { device: fault === "capabilities change" ? "other hash" : "hash", dtypes, trains: false },
      async load(checkpoint: Checkpoint, options: LoadOptions = {}) {
        // Read the weights, as a backend does, so that aborts and faults while reading are met.
        for (const [name, { shape }] of checkpoint.tensors) {
          await checkpoint.read(name, 0, shape.length === 0 ? 0 : 2, options.signal);
          if (options.signal?.aborted) throw aborted(options.signal);
        }
        return new MockModel(checkpoint.config, options, fault);
      },
      async close() {},
    }),
  });
  return provider;
}
