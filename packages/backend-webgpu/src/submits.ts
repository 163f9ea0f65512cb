// How a job runs on the device: its memory, its units in submits that are short enough, and what is read back while the next one runs.
import { trace, tracing } from "@doge-lm/core";
import { Breath, numerical, Pace, type Task } from "@doge-lm/core/backend-kit";
import { Encoder, type Unit } from "./encoder.ts";
import type { Job } from "./job.ts";
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

/** What has been read of one row's draws. */
export interface Reading {
  readonly ids: number[];
  readonly logprobs: number[];
  readonly topIds: number[];
  readonly topLogprobs: number[];
  done: boolean;
  /** Nothing more was allowed: the logits after the last id were seen. */
  exhausted: boolean;
}

export class Submits {
  readonly machine: Machine;
  readonly #pages: PageQueue;
  /** Tokens drawn in one submit; undefined: as many as the pace allows. */
  readonly #tokensPerSubmit: number | undefined;
  /** Of what is given, and of draws: many tokens share the reading of a weight, one token has it to itself, so that by their
   *  multiply-adds prompts are ten to forty times as fast. */
  readonly #prompts = new Pace(SLICE_MS, FIRST_RATE);
  readonly #steps = new Pace(SLICE_MS, FIRST_RATE);

  constructor(machine: Machine, pages: PageQueue, tokensPerSubmit: number | undefined) {
    this.machine = machine;
    this.#pages = pages;
    this.#tokensPerSubmit = tokensPerSubmit;
  }

  /** Most draws of one submit of these. */
  steps(tasks: readonly Task[]): number {
    const most = Math.max(0, ...tasks.map(({ count }) => count));
    return Math.min(this.#tokensPerSubmit ?? MOST_STEPS, most);
  }

  /** The job's memory on the device, with the work on pages that goes before it. */
  async #begin(job: Job, staging: number, ring: number, steps: number): Promise<Unit[]> {
    const machine = this.machine;
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

  /** Run what the job was given. `staging`: bytes that will be read of it; 0: none, and it has ended. `results`: how many of them are
   *  copied from the results, where the job's ending leaves none in staging by itself. */
  async run(job: Job, name: string, staging: number, results: number, signal: AbortSignal | undefined): Promise<void> {
    const units = await this.#begin(job, staging, staging > 0 ? 1 : 0, 0);
    const encoder = await this.#submitAll(units, signal, name);
    if (results > 0) encoder.copy(this.machine.results, 0, this.machine.staging[0]!, 0, results);
    this.#submit(encoder, name);
    if (staging === 0) await this.machine.gpu.finished();
  }

  /** Write units into submits; the last one is left open. Work of about the pace's budget, in one submit or several, is waited for
   *  before the next but one begins. */
  async #submitAll(units: readonly Unit[], signal: AbortSignal | undefined, name: string): Promise<Encoder> {
    const machine = this.machine;
    let encoder = new Encoder(machine);
    let before: Promise<void> | null = null;
    let [cost, written] = [0, 0];
    let start = performance.now();
    let end = start; // of what was waited for last: the device had nothing of what follows before
    for (const unit of units) {
      if (cost > 0 && cost + unit.cost > this.#prompts.budget) {
        const [own, since] = [cost, start];
        this.#submit(encoder, name);
        encoder = new Encoder(machine);
        try {
          await before;
          before = machine.gpu.finished().then(() => {
            const now = performance.now();
            this.#prompts.measured(own, now - Math.max(since, end));
            end = now;
          });
          before.catch(() => {}); // a loss while nobody waits for it: whoever waits next hears of it
          await new Breath(signal, "webgpu").pause();
        } catch (error) {
          await machine.gpu.finished();
          throw error;
        }
        [cost, written, start] = [0, 0, performance.now()];
      } else if (written === UNITS_AHEAD) {
        this.#submit(encoder, name);
        encoder = new Encoder(machine);
        written = 0;
      }
      unit.encode(encoder);
      cost += unit.cost;
      written++;
    }
    encoder.filled = cost / this.#prompts.budget; // with all that is not yet waited for
    return encoder;
  }

  #submit(encoder: Encoder, name: string): void {
    encoder.submit();
    if (tracing()) trace({ scope: "webgpu", kind: "submit", name, start: performance.now() });
  }

  /** Bytes from the beginning of a staging buffer. */
  async read(ring: number, bytes: number, name: string): Promise<ArrayBuffer> {
    const start = performance.now();
    const data = await this.machine.gpu.read(this.machine.staging[ring]!, bytes);
    if (tracing())
      trace({ scope: "webgpu", kind: "readback", name, bytes, start, duration: performance.now() - start });
    return data;
  }

  /** Prompts, then draws: K tokens to a submit, while the ids of the submit before are being read. */
  async draw(job: Job, tasks: readonly Task[], signal: AbortSignal | undefined): Promise<Reading[]> {
    const machine = this.machine;
    const readings = tasks.map(
      ({ count }): Reading => ({
        ...{ ids: [], logprobs: [], topIds: [], topLogprobs: [], done: count === 0, exhausted: count === 0 },
      }),
    );
    const steps = this.steps(tasks);
    const bytes = job.resultBytes(1);
    const units = await this.#begin(job, bytes * steps, steps > 0 ? IN_FLIGHT + 1 : 0, steps);
    let encoder = await this.#submitAll(units, signal, "sample");
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
          let cost = 0;
          const most = Math.min(steps, wanted);
          const chunk = Math.max(1, Math.min(most, this.#tokensPerSubmit ?? Math.floor(longest)));
          longest *= GROWTH;
          while (drawn < chunk) {
            if (!(first && drawn === 0)) {
              const next = job.step(drawn);
              const own = next.reduce((sum, unit) => sum + unit.cost, 0);
              const full = encoder.filled + (cost + own) / this.#steps.budget > 1;
              if (drawn > 0 && full && this.#tokensPerSubmit === undefined) break;
              for (const unit of next) unit.encode(encoder);
              cost += own;
            }
            drawn++;
          }
          encoder.copy(machine.results, 0, machine.staging[ring]!, 0, bytes * drawn);
          // The end of a prompt is in the first: what that takes says nothing of steps.
          starts.push({ at: performance.now(), cost: first ? 0 : cost });
          first = false;
          this.#submit(encoder, "sample");
          encoder = new Encoder(machine);
          const read = this.read(ring, bytes * drawn, "sample");
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
        if (cost > 0) this.#steps.measured(cost, performance.now() - (starts[0]?.at ?? at));
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
        if (Number.isNaN(floats[at + 1]!)) throw numerical("webgpu", row);
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
