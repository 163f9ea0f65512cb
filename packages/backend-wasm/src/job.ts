// Writes a job for the kernels (descriptor.ts) behind a model's weights and pages, and reads back what came of it.
import type { Drawn, Floats, Routing, SampleRow, Tensor, Tokens } from "@doge-lm/core";
import { keyValueWidth } from "@doge-lm/core";
import { planGroups, type Task, transposed, type Verb } from "@doge-lm/core/backend-kit";
import * as D from "./descriptor.ts";
import type { Heap } from "./heap.ts";
import { type Layout, roundUp } from "./layout.ts";
import type { HeapPages } from "./pages.ts";
import { spins } from "./threads.ts";

const kinds = {
  forward: D.KIND_FORWARD,
  score: D.KIND_SCORE,
  sample: D.KIND_SAMPLE,
  inspect: D.KIND_INSPECT,
} as const satisfies Record<Verb, number>;

/** Where a row's results are. */
interface RowPlan extends DrawingPlan {
  /** Where the addresses of its pages are, and they. */
  readonly pages: readonly number[];
}

const words = (count: number): number => count * 4;

export class Job {
  readonly at: number;
  readonly #heap: Heap;
  readonly #layout: Layout;
  readonly #tasks: readonly Task[];
  readonly #rows: RowPlan[];
  readonly #plan: ReturnType<typeof planGroups>;
  readonly #cursors: number;
  /** Logits, scores or hidden states, by verb. */
  readonly #out: number;
  readonly #logitsOut: number;
  readonly #biasOut: number;
  readonly #valueOut: number;

  /** From address `from` on, behind every page in use. Errors: "out-of-memory" when the memory cannot grow to hold the call. `layers`: inspect looks into the
   *  layers. */
  constructor(
    heap: Heap,
    pages: HeapPages,
    from: number,
    routing: Routing,
    verb: Verb,
    tasks: readonly Task[],
    layers = false,
  ) {
    const { layout } = pages;
    this.#heap = heap;
    this.#layout = layout;
    this.#tasks = tasks;
    const { config, tile } = layout;
    const plan = planGroups(config, routing, tile, tasks);
    this.#plan = plan;

    // Addresses first, so that the memory grows once.
    let end = roundUp(from, 64);
    const take = (bytes: number): number => {
      const address = end;
      end = roundUp(end + bytes, 64);
      return address;
    };
    const bits = words((config.vocabSize + 31) >> 5);
    const largest = Math.max(Math.min(tile, tasks.length), ...plan.groups.map((group) => group.count));
    this.at = take(D.JOB_BYTES);
    const rowsAt = take(tasks.length * D.ROW_BYTES);
    const tokensAt = take(Math.max(plan.tokens.length, tasks.length) * D.TOKEN_BYTES);
    const groupsAt = take(Math.max(plan.groups.length, Math.ceil(tasks.length / tile)) * D.GROUP_BYTES);
    const stream = take(largest * layout.hiddenStride);
    const update = take(largest * layout.hiddenStride);
    const normed = take(largest * layout.hiddenStride);
    const router = take(largest * layout.routerStride);
    const ownBytes = 2 * D.FEW * layout.hiddenStride;
    const own = take(layout.threads * ownBytes);
    const cursors = take(layout.threads * D.CURSOR_BYTES);
    const dealt = take(layout.threads * D.DEALT_BYTES);
    const zeroedTo = end;
    this.#rows = tasks.map((task, index): RowPlan => {
      const { count, drawing } = task;
      const { alternatives } = drawing ?? {};
      const held = task.sequence.cache.pages.map((page) => pages.address(page));
      return {
        record: rowsAt + index * D.ROW_BYTES,
        pages: [take(words(held.length)), ...held],
        ids: take(words(count)),
        logprobs: alternatives === undefined ? 0 : take(words(count)),
        topIds: take(words(count * (alternatives ?? 0))),
        topLogprobs: take(words(count * (alternatives ?? 0))),
        allowed: drawing?.allowed === undefined ? 0 : take(bits),
        seen: drawing === undefined || drawing.sampling.repetitionPenalty === 1 ? 0 : take(bits),
        stops: take(words(drawing?.sampling.stop.length ?? 0)),
      };
    });
    const appended = tasks.reduce((sum, { sequence, before }) => sum + sequence.length - before, 0);
    const total = plan.tokens.length;
    const inspects = verb === "inspect";
    const outBytes = {
      forward: tasks.length * config.vocabSize,
      score: appended,
      sample: 0,
      inspect: appended * config.hiddenSize,
    };
    this.#out = take(words(outBytes[verb]));
    this.#logitsOut = inspects ? take(words(appended * config.vocabSize)) : 0;
    this.#biasOut = layers ? take(words(config.layers * total * config.biasHeads)) : 0;
    this.#valueOut = layers ? take(words(config.layers * total * keyValueWidth(config))) : 0;
    heap.reserve(end, "This call");

    // The padding of the streams takes part in sums: it has to be zero.
    heap.bytes.fill(0, this.at, zeroedTo);
    const word = this.#writer(this.at);
    word(D.JOB_MODEL, layout.model);
    word(D.JOB_KIND, kinds[verb]);
    word(D.JOB_ROWS, tasks.length);
    word(D.JOB_ROWS_AT, rowsAt);
    word(D.JOB_TOKENS, total);
    word(D.JOB_TOKENS_AT, tokensAt);
    word(D.JOB_GROUPS, plan.groups.length);
    word(D.JOB_GROUPS_AT, groupsAt);
    word(D.JOB_STREAM, stream);
    word(D.JOB_UPDATE, update);
    word(D.JOB_NORMED, normed);
    word(D.JOB_ROUTER, router);
    word(D.JOB_ROUTER_STRIDE, layout.routerStride);
    word(D.JOB_THREADS, layout.threads);
    word(D.JOB_CURSORS_AT, cursors);
    word(D.JOB_OWN, own);
    word(D.JOB_OWN_BYTES, ownBytes);
    word(D.JOB_SPINS, spins(layout.threads));
    word(D.JOB_PATIENCE, spins(layout.threads));
    word(D.JOB_DEALT_AT, dealt);
    for (let thread = 0; thread < layout.threads; thread++) {
      const cursorWord = this.#writer(cursors + thread * D.CURSOR_BYTES);
      cursorWord(D.CURSOR_GROUPS, plan.groups.length);
      cursorWord(D.CURSOR_FAILED, -1);
    }
    this.#cursors = cursors;
    word(D.JOB_HIDDEN_OUT, inspects ? this.#out : 0);
    word(D.JOB_LOGITS_OUT, this.#logitsOut);
    word(D.JOB_BIAS_OUT, this.#biasOut);
    word(D.JOB_VALUE_OUT, this.#valueOut);
    tasks.forEach((task, index) => {
      this.#writeRow(task, this.#rows[index]!);
    });
    this.#writeTokens(verb, tokensAt);
    plan.groups.forEach((group, index) => {
      const groupWord = this.#writer(groupsAt + index * D.GROUP_BYTES);
      groupWord(D.GROUP_FROM, group.from);
      groupWord(D.GROUP_COUNT, group.count);
      groupWord(D.GROUP_SPAN, group.span ? 1 : 0);
    });
  }

  /** Whether there is anything to compute. */
  get empty(): boolean {
    return this.#plan.groups.length === 0;
  }

  /** The row whose logits are no numbers. */
  get failed(): number {
    const rows = Array.from(
      { length: this.#layout.threads },
      (_, thread) => this.#heap.words[(this.#cursors + thread * D.CURSOR_BYTES + D.CURSOR_FAILED) / 4]!,
    );
    return Math.min(...rows.filter((row) => row >= 0));
  }

  /** After "forward": the logits of each row. */
  logits(): Floats[] {
    const { vocabSize } = this.#layout.config;
    return this.#tasks.map((_, index) => this.#floats(this.#out + words(index * vocabSize), vocabSize));
  }

  /** After "score": ln p of each row's own tokens. */
  scores(): Floats[] {
    let from = this.#out;
    return this.#tasks.map(({ sequence, before }) => {
      const count = sequence.length - before;
      const scores = this.#floats(from, count);
      if (before === 0 && count > 0) scores[0] = 0; // the first token of a sequence follows nothing
      from += words(count);
      return scores;
    });
  }

  /** After "sample": what a row drew, whether its last id is a stop id, and how many of the ids drawn are in the cache. */
  drawn(index: number): { readonly drawn: Drawn; readonly stopped: boolean; readonly evaluated: number } {
    const row = this.#rows[index]!;
    const { alternatives } = this.#tasks[index]!.drawing ?? {};
    const field = (offset: number) => this.#heap.words[(row.record + offset) / 4]!;
    const count = field(D.ROW_DRAWN);
    const tops = count * (alternatives ?? 0);
    return {
      drawn: {
        ids: count === 0 ? noTokens : this.#tokens(row.ids, count),
        logprobs: alternatives === undefined ? noFloats : this.#floats(row.logprobs, count),
        topIds: tops === 0 ? noTokens : this.#tokens(row.topIds, tops),
        topLogprobs: tops === 0 ? noFloats : this.#floats(row.topLogprobs, tops),
      },
      stopped: field(D.ROW_STOPPED) === 1,
      // A row left with nothing to draw has seen the logits after its last id; all others stop before that.
      evaluated: field(D.ROW_LEFT) < 0 ? count : Math.max(0, count - 1),
    };
  }

  /** After "inspect": the named tensors of each row's own tokens. */
  tensors(names: ReadonlySet<string>): ReadonlyMap<string, Tensor>[] {
    const { config } = this.#layout;
    let own = 0;
    let evaluated = 0;
    return this.#tasks.map(({ sequence, before }, task) => {
      const count = sequence.length - before;
      const pending = this.#plan.tokens.filter((token) => token.task === task).length;
      const tensors = new Map<string, Tensor>();
      const add = (name: string, shape: readonly number[], data: () => Floats) => {
        if (names.has(name)) tensors.set(name, { shape, data: data() });
      };
      const rows = (at: number, first: number, width: number) => this.#floats(at + words(first * width), count * width);
      const own0 = own;
      add("hidden", [count, config.hiddenSize], () => rows(this.#out, own0, config.hiddenSize));
      add("logits", [count, config.vocabSize], () => rows(this.#logitsOut, own0, config.vocabSize));
      const first = evaluated + pending - count;
      for (let layer = 0; this.#biasOut !== 0 && layer < config.layers; layer++) {
        const from = layer * this.#plan.tokens.length + first;
        const heads = config.biasHeads;
        add(`layers.${layer}.bias`, [heads, count], () => transposed(rows(this.#biasOut, from, heads), heads));
        const width = keyValueWidth(config);
        add(`layers.${layer}.value`, [count, width], () => rows(this.#valueOut, from, width));
      }
      own += count;
      evaluated += pending;
      return tensors;
    });
  }

  #writer(at: number): (offset: number, value: number) => void {
    const { data } = this.#heap;
    return (offset, value) => data.setUint32(at + offset, value, true);
  }

  #floats(at: number, count: number): Floats {
    return this.#heap.floats.slice(at / 4, at / 4 + count) as Floats;
  }

  #tokens(at: number, count: number): Tokens {
    return this.#heap.words.slice(at / 4, at / 4 + count) as Tokens;
  }

  #writeRow({ sequence, count, drawing }: Task, row: RowPlan): void {
    const { words: memory } = this.#heap;
    const [pagesAt, ...pages] = row.pages;
    memory.set(pages, pagesAt! / 4);
    const word = this.#writer(row.record);
    word(D.ROW_PAGES, pagesAt!);
    word(D.ROW_LEFT, count);
    word(D.ROW_POSITION, sequence.length);
    word(D.ROW_REACH, sequence.cache.reach);
    if (drawing !== undefined)
      writeDrawing(this.#heap, row, drawing, sequence.timeline.ids, this.#layout.config.vocabSize);
  }

  #writeTokens(verb: Verb, tokensAt: number): void {
    const { tokens } = this.#plan;
    let own = 0; // the row's own tokens so far, all rows together
    tokens.forEach(({ id, position, task }, index) => {
      const { sequence, before, count } = this.#tasks[task]!;
      const last = position + 1 === sequence.length;
      // score needs the logits before a row's own tokens, inspect those after them.
      let out = 0;
      if (verb === "forward" && last) out = this.#out + words(task * this.#layout.config.vocabSize);
      if (verb === "sample" && last && count > 0) out = 1;
      if (verb === "inspect" && position >= before) out = ++own;
      if (verb === "score") {
        if (position === 0 && before === 0) own++; // its own place stays unwritten: it follows nothing
        if (position + 1 >= before && !last) out = this.#out + words(own++);
      }
      const word = this.#writer(tokensAt + index * D.TOKEN_BYTES);
      word(D.TOKEN_ID, id);
      word(D.TOKEN_POSITION, position);
      word(D.TOKEN_ROW, this.#rows[task]!.record);
      word(D.TOKEN_OUT, out);
    });
  }
}

/** Where the lists of a row's drawing are; 0 where there is none. */
export interface DrawingPlan {
  readonly record: number;
  readonly ids: number;
  readonly logprobs: number;
  readonly topIds: number;
  readonly topLogprobs: number;
  readonly allowed: number;
  readonly seen: number;
  readonly stops: number;
}

/** Writes how a row draws: its options, what is allowed, and which ids `past` has. */
export function writeDrawing(
  heap: Heap,
  row: DrawingPlan,
  { sampling, allowed, alternatives = 0 }: Pick<SampleRow, "sampling" | "allowed" | "alternatives">,
  past: Int32Array,
  vocabulary: number,
): void {
  const { words: memory, bytes, data } = heap;
  const word = (offset: number, value: number) => data.setUint32(row.record + offset, value, true);
  word(D.ROW_IDS_OUT, row.ids);
  word(D.ROW_LOGPROBS_OUT, row.logprobs);
  word(D.ROW_TOP_IDS_OUT, row.topIds);
  word(D.ROW_TOP_LOGPROBS_OUT, row.topLogprobs);
  word(D.ROW_ALTERNATIVES, alternatives);
  word(D.ROW_ALLOWED, row.allowed);
  word(D.ROW_SEEN, row.seen);
  word(D.ROW_STOPS, sampling.stop.length);
  word(D.ROW_STOPS_AT, row.stops);
  word(D.ROW_TOP_K, sampling.topK);
  word(D.ROW_SEED, sampling.seed);
  data.setFloat64(row.record + D.ROW_TEMPERATURE, sampling.temperature, true);
  data.setFloat64(row.record + D.ROW_TOP_P, sampling.topP, true);
  data.setFloat64(row.record + D.ROW_MIN_P, sampling.minP, true);
  data.setFloat64(row.record + D.ROW_PENALTY, sampling.repetitionPenalty, true);
  memory.set(sampling.stop, row.stops / 4);
  const size = words((vocabulary + 31) >> 5);
  if (allowed !== undefined) {
    bytes.fill(0, row.allowed, row.allowed + size);
    memory.set(new Int32Array(allowed.buffer, allowed.byteOffset, Math.min(allowed.length, size / 4)), row.allowed / 4);
  }
  if (row.seen !== 0) {
    bytes.fill(0, row.seen, row.seen + size);
    for (const id of past) memory[row.seen / 4 + (id >> 5)]! |= 1 << (id & 31);
  }
}

const noTokens: Tokens = new Int32Array(0);
const noFloats: Floats = new Float32Array(0);
