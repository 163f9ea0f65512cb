// Model: the contract's verbs as jobs for the device.
//
// Behind core's checked(): calls come one at a time, with valid arguments, on live sequences of this model.
import type {
  Config,
  Details,
  Drawn,
  DType,
  Floats,
  Model,
  Routing,
  Row,
  SampleRow,
  Sequence,
  Tensor,
  Tokens,
} from "@doge-lm/core";
import { keyValueWidth, trace, tracing } from "@doge-lm/core";
import { Breath, numerical, Pace, Pages, Sequences, type Task, transposed, type Verb } from "@doge-lm/core/backend-kit";
import { Encoder, type Unit } from "./encoder.ts";
import { Job } from "./job.ts";
import { DRAWN } from "./kernels/draw.ts";
import type { Machine } from "./machine.ts";
import { pageUnit } from "./page-work.ts";
import type { PageQueue } from "./pages.ts";

/** Submits on their way while the host reads the results of an earlier one. */
const IN_FLIGHT = 2;
/** Most tokens drawn in one submit: what is computed in vain behind a stop is less than that. */
const MOST_STEPS = 32;
/** Tokens of a call's first submit, which is written while the device waits, and how much longer each one is than the one before it:
 *  while a submit runs the host writes the next, which on a fast device takes it nearly as long. */
const FIRST_STEPS = 4;
const GROWTH = 1.15;
/** Units of a submit behind which more follow: the device begins while the host still writes the rest. */
const UNITS_AHEAD = 8;

/** A submit aims at this: short enough for a page to stay smooth and for no watchdog to wake. */
const SLICE_MS = 16;
/** Multiply-adds per millisecond before anything is measured: between a software adapter and a small GPU. */
const FIRST_RATE = 4e6;

export interface ModelOptions {
  /** As the checkpoint has it. */
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly room: number;
  /** Tokens drawn in one submit; undefined: as many as the pace allows. */
  readonly tokensPerSubmit: number | undefined;
}

/** What has been read of one row's draws. */
interface Reading {
  readonly ids: number[];
  readonly logprobs: number[];
  readonly topIds: number[];
  readonly topLogprobs: number[];
  done: boolean;
  /** Nothing more was allowed: the logits after the last id were seen. */
  exhausted: boolean;
}

export class GpuModel implements Model {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly details: Details;
  readonly #options: ModelOptions;
  readonly #pages: PageQueue;
  readonly #sequences: Sequences;
  readonly #pace = new Pace(SLICE_MS, FIRST_RATE);
  #machine: Machine | null;

  constructor(machine: Machine, pages: PageQueue, options: ModelOptions) {
    this.config = options.config;
    this.context = options.context;
    this.dtype = options.dtype;
    this.routing = options.routing;
    this.details = { kvDtype: machine.kvDtype };
    this.#options = options;
    this.#machine = machine;
    this.#pages = pages;
    const { routing, room } = options;
    this.#sequences = new Sequences(new Pages(pages.shape, pages), { scope: "webgpu", routing, room });
  }

  get room(): number {
    return this.#sequences.room;
  }

  sequence(): Sequence {
    return this.#sequences.open();
  }

  forward(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    const { vocabSize } = this.config;
    return this.#call("forward", rows, async (job, machine, tasks) => {
      const bytes = tasks.length * vocabSize * 4;
      await this.#run(job, machine, signal, "forward");
      const all = new Float32Array(await this.#read(machine, 0, bytes, "forward"));
      return tasks.map((_, row) => all.slice(row * vocabSize, (row + 1) * vocabSize));
    });
  }

  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("score", rows, async (job, machine, tasks) => {
      await this.#run(job, machine, signal, "score", job.own * 4);
      const all =
        job.own === 0 ? new Float32Array(0) : new Float32Array(await this.#read(machine, 0, job.own * 4, "score"));
      let from = 0;
      return tasks.map(({ sequence, before }, row) => {
        const scores = all.slice(from, from + sequence.length - before);
        from += scores.length;
        if (before === 0 && scores.length > 0) scores[0] = 0; // the first token of a sequence follows nothing
        if (scores.some(Number.isNaN)) throw numerical("webgpu", row);
        return scores;
      });
    });
  }

  sample(rows: readonly SampleRow[], signal?: AbortSignal): Promise<Drawn[]> {
    return this.#call("sample", rows, async (job, machine, tasks) => {
      const readings = await this.#draw(job, machine, tasks, signal);
      return tasks.map(({ sequence, drawing }, index) => {
        const { ids, logprobs, topIds, topLogprobs, exhausted } = readings[index]!;
        const stopped = ids.length > 0 && drawing!.sampling.stop.includes(ids.at(-1)!);
        sequence.drew(ids, stopped, exhausted ? ids.length : Math.max(0, ids.length - 1));
        return {
          ids: ids.length === 0 ? noTokens : Int32Array.from(ids),
          logprobs: logprobs.length === 0 ? noFloats : Float32Array.from(logprobs),
          topIds: topIds.length === 0 ? noTokens : Int32Array.from(topIds),
          topLogprobs: topLogprobs.length === 0 ? noFloats : Float32Array.from(topLogprobs),
        };
      });
    });
  }

  /** Names it has: "hidden", "logits", "layers.N.bias" and "layers.N.value". */
  inspect(
    rows: readonly Row[],
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, Tensor>[]> {
    const inside = names.some((name) => name.startsWith("layers."));
    return this.#call(
      "inspect",
      rows,
      async (job, machine, tasks) => {
        await this.#run(job, machine, signal, "inspect");
        const { count } = job.inside;
        const all = count === 0 ? noFloats : new Float32Array(await this.#read(machine, 0, count * 4, "inspect"));
        let from = 0;
        return tasks.map(({ sequence, before }) => {
          const own = sequence.length - before;
          const tensors = this.#tensors(job, all, new Set(names), from, own, inside);
          from += own;
          return tensors;
        });
      },
      inside,
    );
  }

  close(): void {
    this.#machine?.destroy();
    this.#machine = null;
  }

  #tensors(
    job: Job,
    all: Floats,
    names: ReadonlySet<string>,
    from: number,
    own: number,
    inside: boolean,
  ): Map<string, Tensor> {
    const { hiddenSize, vocabSize, biasHeads, layers } = this.config;
    const tensors = new Map<string, Tensor>();
    const add = (name: string, at: number, place: number, width: number, turned = false) => {
      if (!names.has(name)) return;
      const data = all.slice(at + place * width, at + (place + own) * width);
      tensors.set(
        name,
        turned ? { shape: [width, own], data: transposed(data, width) } : { shape: [own, width], data },
      );
    };
    add("hidden", job.inside.hidden, from, hiddenSize);
    add("logits", job.inside.logits, from, vocabSize);
    for (let layer = 0; inside && layer < layers; layer++) {
      add(`layers.${layer}.bias`, job.inside.bias, layer * job.own + from, biasHeads, true);
      add(`layers.${layer}.value`, job.inside.value, layer * job.own + from, keyValueWidth(this.config));
    }
    return tensors;
  }

  /** Append the rows' tokens and run a job over what is pending. */
  #call<T>(
    verb: Verb,
    rows: readonly (Row & Partial<SampleRow>)[],
    run: (job: Job, machine: Machine, tasks: readonly Task[]) => Promise<T[]>,
    inside = false,
  ): Promise<T[]> {
    return this.#sequences.call(verb, rows, (tasks) => {
      const machine = this.#machine!;
      machine.gpu.assertAlive();
      return run(new Job(machine, this.routing, verb, tasks, this.#steps(tasks), inside), machine, tasks);
    });
  }

  /** Draws of one submit. */
  #steps(tasks: readonly Task[]): number {
    const most = Math.max(0, ...tasks.map(({ count }) => count));
    return Math.min(this.#options.tokensPerSubmit ?? MOST_STEPS, most);
  }

  /** The job's memory on the device, with the work on pages that goes before it. */
  async #begin(job: Job, machine: Machine, staging: number, ring: number, steps: number): Promise<Unit[]> {
    const pages = pageUnit(this.#pages.work, machine, job.memory);
    await machine.ensure({
      tokens: Math.max(job.largest, Math.min(machine.group, 16)),
      call: job.memory.words.byteLength,
      grids: job.memory.grids.byteLength,
      results: Math.max(16, job.resultBytes(steps)),
      staging,
      ring,
    });
    if (job.ending !== null) await machine.program.need(job.ending);
    // From here on the first submit is certain to follow.
    this.#pages.workDone();
    machine.write(job.memory.words, job.memory.grids);
    return pages === null ? [...job.units] : [pages, ...job.units];
  }

  /** Run what the job was given, and copy `bytes` of results to the first staging buffer. */
  async #run(job: Job, machine: Machine, signal: AbortSignal | undefined, verb: Verb, bytes = 0): Promise<void> {
    const needed = {
      ...{ forward: job.rows * this.config.vocabSize * 4, inspect: job.inside.count * 4 },
      ...{ score: job.own * 4, sample: 0 },
    }[verb];
    const units = await this.#begin(job, machine, needed, needed > 0 ? 1 : 0, 0);
    const encoder = await this.#submitAll(units, machine, signal, verb);
    if (bytes > 0) encoder.copy(machine.results, 0, machine.staging[0]!, 0, bytes);
    this.#submit(encoder, verb);
    if (needed === 0) await machine.gpu.finished();
  }

  /** Write units into submits; the last one is left open. Work of about the pace's budget, in one submit or several, is waited for
   *  before the next but one begins. */
  async #submitAll(
    units: readonly Unit[],
    machine: Machine,
    signal: AbortSignal | undefined,
    verb: Verb,
  ): Promise<Encoder> {
    let encoder = new Encoder(machine);
    let before: Promise<void> | null = null;
    let [cost, written] = [0, 0];
    let start = performance.now();
    for (const unit of units) {
      if (cost > 0 && cost + unit.cost > this.#pace.budget) {
        const [own, since] = [cost, start];
        this.#submit(encoder, verb);
        encoder = new Encoder(machine);
        try {
          await before;
          before = machine.gpu.finished().then(() => this.#pace.measured(own, performance.now() - since));
          await new Breath(signal, "webgpu").pause();
        } catch (error) {
          await machine.gpu.finished();
          throw error;
        }
        [cost, written, start] = [0, 0, performance.now()];
      } else if (written === UNITS_AHEAD) {
        this.#submit(encoder, verb);
        encoder = new Encoder(machine);
        written = 0;
      }
      unit.encode(encoder);
      cost += unit.cost;
      written++;
    }
    encoder.cost = cost; // of all that is not yet waited for
    return encoder;
  }

  #submit(encoder: Encoder, name: string): void {
    encoder.submit();
    if (tracing()) trace({ scope: "webgpu", kind: "submit", name, start: performance.now() });
  }

  async #read(machine: Machine, ring: number, bytes: number, name: string): Promise<ArrayBuffer> {
    const start = performance.now();
    const data = await machine.gpu.read(machine.staging[ring]!, bytes);
    if (tracing())
      trace({ scope: "webgpu", kind: "readback", name, bytes, start, duration: performance.now() - start });
    return data;
  }

  /** Prompts, then draws: K tokens to a submit, while the ids of the submit before are being read. */
  async #draw(job: Job, machine: Machine, tasks: readonly Task[], signal: AbortSignal | undefined): Promise<Reading[]> {
    const readings = tasks.map(
      ({ count }): Reading => ({
        ...{ ids: [], logprobs: [], topIds: [], topLogprobs: [], done: count === 0, exhausted: count === 0 },
      }),
    );
    const steps = this.#steps(tasks);
    const bytes = job.resultBytes(1);
    const units = await this.#begin(job, machine, bytes * steps, steps > 0 ? IN_FLIGHT + 1 : 0, steps);
    let encoder = await this.#submitAll(units, machine, signal, "sample");
    if (steps === 0) {
      this.#submit(encoder, "sample");
      await machine.gpu.finished();
      return readings;
    }
    let wanted = Math.max(...tasks.map(({ count }) => count));
    let ring = 0;
    let first = true; // the first submit begins with a draw from the prompt's logits
    let longest = FIRST_STEPS;
    const reading: Promise<ArrayBuffer>[] = [];
    const starts: { at: number; cost: number }[] = [];
    let done = false;
    try {
      while (!done) {
        if (wanted > 0 && reading.length <= IN_FLIGHT) {
          let drawn = 0;
          const most = Math.min(steps, wanted);
          const chunk = Math.max(1, Math.min(most, this.#options.tokensPerSubmit ?? Math.floor(longest)));
          longest *= GROWTH;
          while (drawn < chunk) {
            if (!(first && drawn === 0)) {
              const next = job.step(drawn);
              const cost = next.reduce((sum, unit) => sum + unit.cost, 0);
              const full = this.#options.tokensPerSubmit === undefined && encoder.cost + cost > this.#pace.budget;
              if (drawn > 0 && full) break;
              for (const unit of next) unit.encode(encoder);
              encoder.cost += cost;
            }
            drawn++;
          }
          first = false;
          encoder.copy(machine.results, 0, machine.staging[ring]!, 0, bytes * drawn);
          starts.push({ at: performance.now(), cost: encoder.cost });
          this.#submit(encoder, "sample");
          encoder = new Encoder(machine);
          const read = this.#read(machine, ring, bytes * drawn, "sample");
          read.catch(() => {});
          reading.push(read);
          ring = (ring + 1) % machine.staging.length;
          wanted -= drawn;
          if (wanted > 0 && reading.length < IN_FLIGHT) {
            await new Breath(signal, "webgpu").pause();
            continue;
          }
        }
        const words = new Uint32Array(await reading.shift()!);
        const { at, cost } = starts.shift()!;
        this.#pace.measured(cost, performance.now() - (reading.length > 0 ? Math.max(at, starts[0]!.at - 0) : at));
        collect(words, tasks, readings, job.width);
        done = readings.every((row) => row.done) || (wanted === 0 && reading.length === 0);
        await new Breath(signal, "webgpu").pause();
      }
      await Promise.all(reading);
      return readings;
    } catch (error) {
      await Promise.allSettled(reading);
      throw error;
    }
  }
}

/** Take the draws of one submit: (steps, rows, width) words. Errors: "numerical". */
function collect(words: Uint32Array, tasks: readonly Task[], readings: readonly Reading[], width: number): void {
  const floats = new Float32Array(words.buffer);
  for (let from = 0; from < words.length; from += tasks.length * width) {
    tasks.forEach(({ drawing, count }, row) => {
      const reading = readings[row]!;
      if (reading.done) return;
      const at = from + row * width;
      const id = words[at]!;
      if (id === DRAWN.numerical) throw numerical("webgpu", row);
      if (id === DRAWN.idle || id === DRAWN.nothing) {
        reading.done = true;
        reading.exhausted = id === DRAWN.nothing;
        return;
      }
      reading.ids.push(id);
      if (drawing?.alternatives !== undefined) {
        const { alternatives } = drawing;
        const most = (width - 2) / 2;
        reading.logprobs.push(floats[at + 1]!);
        for (let rank = 0; rank < alternatives; rank++) {
          reading.topIds.push(words[at + 2 + rank]!);
          reading.topLogprobs.push(floats[at + 2 + most + rank]!);
        }
      }
      if (reading.ids.length === count || drawing!.sampling.stop.includes(id)) reading.done = true;
    });
  }
}

const noTokens: Tokens = new Int32Array(0);
const noFloats: Floats = new Float32Array(0);
