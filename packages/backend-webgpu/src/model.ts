// Model: the contract's verbs as jobs for the device, and what their numbers mean; submits.ts runs them.
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
import { keyValueWidth } from "@doge-lm/core";
import { numerical, Pages, Sequences, type Task, transposed, type Verb } from "@doge-lm/core/backend-kit";
import { Job } from "./job.ts";
import type { Machine } from "./machine.ts";
import type { PageQueue } from "./pages.ts";
import { Submits } from "./submits.ts";

export interface ModelOptions {
  /** As the checkpoint has it. */
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly room: number;
  /** Tokens drawn in one submit; undefined: as many as the pace allows. */
  readonly tokensPerSubmit: number | undefined;
  /** Waited for before draws by topK or topP. */
  readonly judge: (() => Promise<void>) | undefined;
}

export class GpuModel implements Model {
  readonly config: Config;
  readonly dtype: DType;
  readonly routing: Routing;
  readonly context: number;
  readonly details: Details;
  readonly #sequences: Sequences;
  readonly #judge: (() => Promise<void>) | undefined;
  /** Null once it is closed. */
  #submits: Submits | null;

  constructor(machine: Machine, pages: PageQueue, options: ModelOptions) {
    this.config = options.config;
    this.context = options.context;
    this.dtype = options.dtype;
    this.routing = options.routing;
    this.details = { kvDtype: machine.kvDtype };
    this.#submits = new Submits(machine, pages, options.tokensPerSubmit);
    this.#judge = options.judge;
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
    return this.#call("forward", rows, async (job, submits, tasks) => {
      const bytes = tasks.length * vocabSize * 4;
      await submits.run(job, "forward", bytes, 0, signal);
      const all = new Float32Array(await submits.read(0, bytes, "forward"));
      return tasks.map((_, row) => all.slice(row * vocabSize, (row + 1) * vocabSize));
    });
  }

  score(rows: readonly Row[], signal?: AbortSignal): Promise<Floats[]> {
    return this.#call("score", rows, async (job, submits, tasks) => {
      const bytes = job.own * 4;
      await submits.run(job, "score", bytes, bytes, signal);
      const all = bytes === 0 ? noFloats : new Float32Array(await submits.read(0, bytes, "score"));
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
    return this.#call("sample", rows, async (job, submits, tasks) => {
      if (job.filtered) await this.#judge?.();
      const readings = await submits.draw(job, tasks, signal);
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
      async (job, submits, tasks) => {
        const bytes = job.inside.count * 4;
        await submits.run(job, "inspect", bytes, 0, signal);
        const all = bytes === 0 ? noFloats : new Float32Array(await submits.read(0, bytes, "inspect"));
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
    this.#submits?.machine.destroy();
    this.#submits = null;
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
    run: (job: Job, submits: Submits, tasks: readonly Task[]) => Promise<T[]>,
    inside = false,
  ): Promise<T[]> {
    return this.#sequences.call(verb, rows, (tasks) => {
      const submits = this.#submits!;
      submits.machine.gpu.assertAlive();
      return run(new Job(submits.machine, this.routing, verb, tasks, submits.steps(tasks), inside), submits, tasks);
    });
  }
}

const noTokens: Tokens = new Int32Array(0);
const noFloats: Floats = new Float32Array(0);
