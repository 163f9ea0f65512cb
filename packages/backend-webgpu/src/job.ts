// A job: what one call of the contract computes, as units of work that are written into submits. It lays out the memory of the
// call (call.ts), then gives its units in order; model.ts decides how many go into one submit.
import { keyValueWidth, queryWidth, type Routing, type SampleRow } from "@doge-lm/core";
import type { PagedSequence as GpuSequence } from "@doge-lm/core/backend-kit";
import { CallMemory, type Dispatch, ROW, ROW_WORDS, TOKEN_WORDS } from "./call.ts";
import { JOURNAL } from "./kernels/attention.ts";
import { DRAWN } from "./kernels/draw.ts";
import type { Machine } from "./machine.ts";
import { DISPATCH_COST } from "./pace.ts";
import type { PageWork } from "./pages.ts";
import { Pass, pageBytes, qkvStride } from "./program.ts";
import { strideOf } from "./weights.ts";

export type Kind = "forward" | "score" | "sample" | "inspect";

/** One row of a call. */
export interface Task {
  readonly sequence: GpuSequence;
  /** Ids of the sequence before the call: those from here on are the row's own. */
  readonly before: number;
  /** Tokens to draw, and how. */
  readonly count: number;
  readonly drawing?: Omit<SampleRow, "sequence" | "tokens"> | undefined;
}

/** Work that goes into one submit as a whole. */
export interface Unit {
  /** In multiply-adds. */
  readonly cost: number;
  encode(encoder: Encoder): void;
}

/** A command buffer being written: one compute pass, interrupted by copies only. */
export class Encoder {
  readonly #machine: Machine;
  readonly #encoder: GPUCommandEncoder;
  #open: GPUComputePassEncoder | null = null;
  cost = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#encoder = machine.gpu.device.createCommandEncoder();
  }

  get pass(): Pass {
    this.#open ??= this.#encoder.beginComputePass();
    return new Pass(this.#machine.gpu, this.#open);
  }

  copy(from: GPUBuffer, fromBytes: number, to: GPUBuffer, toBytes: number, bytes: number): void {
    this.#open?.end();
    this.#open = null;
    this.#encoder.copyBufferToBuffer(from, fromBytes, to, toBytes, bytes);
  }

  submit(): void {
    this.#open?.end();
    this.#open = null;
    this.#machine.gpu.device.queue.submit([this.#encoder.finish()]);
  }
}

/** Tokens whose keys are kept together where none is evicted: more would be too many workgroups for one dispatch. */
const PLAIN_TILE = 1024;

interface Token {
  readonly id: number;
  readonly position: number;
  readonly task: number;
}
/** Tokens that go through the layers together. */
interface Group {
  readonly from: number;
  count: number;
  /** Routed together, under "reference" routing. */
  readonly span: boolean;
}

/** What inspect copies from inside: where the numbers of each of a row's own tokens go, in numbers. */
export interface Inside {
  readonly hidden: number;
  readonly logits: number;
  /** (layers, own) */
  readonly bias: number;
  readonly value: number;
  readonly count: number;
}

export class Job {
  readonly memory = new CallMemory();
  readonly tokens: Token[] = [];
  readonly inside: Inside;
  /** Own tokens of all rows. */
  readonly own: number;
  /** Words of one draw among the results. */
  readonly width: number;
  readonly #machine: Machine;
  readonly #kind: Kind;
  readonly #tasks: readonly Task[];
  readonly #layers: boolean;
  readonly #units: Unit[] = [];
  readonly #step: Unit[][] = [];
  readonly #filtered: boolean;
  readonly #drawers: number[];
  readonly #groups: Group[];
  #rowsAt = 0;

  constructor(machine: Machine, routing: Routing, kind: Kind, tasks: readonly Task[], steps: number, layers: boolean) {
    this.#machine = machine;
    this.#kind = kind;
    this.#tasks = tasks;
    this.#layers = layers;
    const { config } = machine;
    this.own = tasks.reduce((sum, { sequence, before }) => sum + sequence.length - before, 0);
    const alternatives = tasks.map(({ drawing }) => drawing?.alternatives);
    const told = kind === "sample" && alternatives.some((count) => count !== undefined);
    this.width = told ? 2 + 2 * Math.max(...alternatives.map((count) => count ?? 0)) : 1;
    this.#filtered = tasks.some(({ count, drawing }) => {
      const { topK = 0, topP = 1, temperature = 0 } = drawing?.sampling ?? {};
      return count > 0 && temperature > 0 && ((topK > 0 && topK < config.vocabSize) || topP < 1);
    });
    const hidden = this.own * config.hiddenSize;
    const logits = this.own * config.vocabSize;
    const bias = layers ? config.layers * this.own * config.biasHeads : 0;
    const value = layers ? config.layers * this.own * keyValueWidth(config) : 0;
    this.inside = {
      hidden: 0,
      logits: hidden,
      bias: hidden + logits,
      value: hidden + logits + bias,
      count: hidden + logits + bias + value,
    };

    this.#drawers = tasks.flatMap(({ count }, index) => (count > 0 ? [index] : []));
    this.#groups = this.#plan(routing);
    this.#rowsAt = this.memory.take(tasks.length * ROW_WORDS);
    const decodeAt = this.memory.take(this.#drawers.length * TOKEN_WORDS);
    tasks.forEach((task, index) => {
      this.#writeRow(task, index);
    });
    this.#drawers.forEach((task, index) => {
      const at = decodeAt + index * TOKEN_WORDS;
      this.memory.set(at, DRAWN.idle);
      this.memory.set(at + 2, this.#rowOf(task));
      this.memory.set(this.#rowOf(task) + ROW.token, at);
    });
    this.#prepareUnits();
    if (this.#drawers.length > 0)
      for (let step = 0; step < steps; step++) this.#step.push(this.#stepUnits(decodeAt, step));
  }

  /** Up to the logits that follow what was given; draws come first in the first step. */
  get units(): readonly Unit[] {
    return this.#units;
  }

  /** One more token for every row that draws on; `step` counts the draws before it in the same submit. */
  step(step: number): readonly Unit[] {
    return this.#step[step]!;
  }

  /** What the program needs behind the head. */
  get ending(): string | null {
    if (this.#kind === "sample") return this.#drawers.length > 0 ? this.#drawing : null;
    return this.#kind === "score" ? "score" : this.#kind === "inspect" ? "rmsnorm" : null;
  }

  get #drawing(): string {
    return `draw${this.#filtered ? " filtered" : ""}${this.width > 1 ? " told" : ""}`;
  }

  get rows(): number {
    return this.#tasks.length;
  }

  /** Most tokens of a group. */
  get largest(): number {
    return Math.max(Math.min(this.#machine.group, this.#drawers.length), ...this.#groups.map(({ count }) => count), 1);
  }

  /** Bytes of results: of `steps` draws, or of scores. */
  resultBytes(steps: number): number {
    if (this.#kind === "score") return this.own * 4;
    return steps * this.#tasks.length * this.width * 4;
  }

  #rowOf(task: number): number {
    return this.#rowsAt + task * ROW_WORDS;
  }

  /** The tokens to evaluate, rows one after the other, and how they are cut: groups of any rows, but spans that are routed
   *  together on their own. */
  #plan(routing: Routing): Group[] {
    const { config, group: most } = this.#machine;
    const groups: Group[] = [];
    this.#tasks.forEach(({ sequence: { timeline } }, task) => {
      for (const { from, to } of timeline.pending()) {
        const span = config.experts !== null && routing === "reference" && to - from > 1;
        for (let position = from; position < to; position++) {
          const index = this.tokens.push({ id: timeline.ids[position]!, position, task }) - 1;
          const group = groups.at(-1);
          const fits = group !== undefined && (span ? position > from : !group.span && group.count < most);
          if (fits) group.count++;
          else groups.push({ from: index, count: 1, span });
        }
      }
    });
    return groups;
  }

  #writeRow({ sequence, count, drawing }: Task, index: number): void {
    const { memory } = this;
    const { vocabSize } = this.#machine.config;
    const row = this.#rowOf(index);
    memory.set(row + ROW.pages, memory.list(sequence.cache.pages));
    memory.set(row + ROW.reach, sequence.cache.reach);
    memory.set(row + ROW.left, count);
    memory.set(row + ROW.position, sequence.length);
    memory.set(row + ROW.index, index);
    if (drawing === undefined || count === 0) return;
    const { sampling, allowed } = drawing;
    memory.setFloat(row + ROW.temperature, sampling.temperature);
    memory.set(row + ROW.topK, sampling.topK < vocabSize ? sampling.topK : 0);
    memory.setFloat(row + ROW.topP, sampling.topP);
    memory.setFloat(row + ROW.minP, sampling.minP);
    memory.setFloat(row + ROW.penalty, sampling.repetitionPenalty);
    memory.set(row + ROW.seed, sampling.seed);
    memory.set(row + ROW.stops, sampling.stop.length);
    memory.set(row + ROW.stopsAt, memory.list(sampling.stop));
    const bits = (vocabSize + 31) >> 5;
    if (allowed !== undefined) memory.set(row + ROW.allowed, memory.list(allowed.subarray(0, bits)));
    if (sampling.repetitionPenalty === 1) return;
    const seen = memory.take(bits);
    memory.set(row + ROW.seen, seen);
    for (const id of sequence.timeline.ids) memory.setBit(seen, id);
  }

  /** Work on pages, then every group of what was given. */
  #prepareUnits(): void {
    const { memory } = this;
    const first = memory.take(this.tokens.length * TOKEN_WORDS);
    this.tokens.forEach(({ id, position, task }, index) => {
      const at = first + index * TOKEN_WORDS;
      memory.set(at, id);
      memory.set(at + 1, position);
      memory.set(at + 2, this.#rowOf(task));
    });
    let own = 0;
    /** By token: the place of what it was asked for; undefined: nothing. */
    const wanted = this.tokens.map(({ position, task }) => {
      const { sequence, before, count } = this.#tasks[task]!;
      const last = position + 1 === sequence.length;
      if (this.#kind === "forward") return last ? task : undefined;
      if (this.#kind === "sample") return last && count > 0 ? task : undefined;
      if (this.#kind === "inspect") return position >= before ? own++ : undefined;
      if (position === 0 && before === 0) own++; // the first of a sequence follows nothing
      return position + 1 >= before && !last ? own++ : undefined;
    });
    for (const { from, count, span } of this.#groups) {
      this.#units.push(...this.#groupUnits(first + from * TOKEN_WORDS, from, count, span));
      const asked = [];
      for (let index = from; index < from + count; index++) {
        if (wanted[index] !== undefined) asked.push({ place: index - from, token: index, to: wanted[index] });
      }
      for (let at = 0; at < asked.length; at += this.#machine.headRows) {
        this.#units.push(
          this.#headUnit(asked.slice(at, at + this.#machine.headRows), first + from * TOKEN_WORDS, count),
        );
      }
    }
  }

  /** A group through all layers: a unit each, so that a submit may end between them. */
  #groupUnits(first: number, from: number, count: number, span: boolean): Unit[] {
    const { config } = this.#machine;
    const { hiddenSize } = config;
    const common = { count, first, base: 0, span: span ? count : 0 };
    const all = this.memory.dispatch(common);
    const tokens = this.tokens.slice(from, from + count);
    const tiles = this.#tiles(common, tokens);
    const cost = this.#layerCost(
      tokens.reduce((sum, { position }) => sum + position + 1, 0),
      count,
    );
    const units: Unit[] = [
      {
        cost: DISPATCH_COST,
        encode: ({ pass }) => this.#embed(pass, this.#machine.groups.read, all, count, hiddenSize),
      },
    ];
    for (let layer = 0; layer < config.layers; layer++) {
      units.push({
        cost,
        encode: (encoder) => this.#layer(encoder, layer, all, count, tiles, from),
      });
    }
    return units;
  }

  /** How a group's keys are kept and read: all at once by "step", or in tiles by "keep" and "attend". */
  #tiles(common: Partial<Dispatch>, tokens: readonly Token[]): readonly Tile[] {
    const rows = new Set(tokens.map(({ task }) => task));
    if (rows.size === tokens.length)
      return [{ part: "step", dispatch: this.memory.dispatch(common), count: tokens.length, stretches: 0 }];
    const plain = (task: number) => {
      const { sequence, count } = this.#tasks[task]!;
      return sequence.cache.isPlain(sequence.length + count);
    };
    const most = tokens.every(({ task }) => plain(task)) ? PLAIN_TILE : JOURNAL;
    const tiles: Tile[] = [];
    for (let from = 0; from < tokens.length; from += most) {
      const part = tokens.slice(from, from + most);
      const stretches: number[] = [];
      part.forEach(({ task }, index) => {
        // Keys that each stand in the slot of their position do not wait for each other.
        if (index > 0 && part[index - 1]!.task === task && !plain(task)) stretches[stretches.length - 1]!++;
        else stretches.push(index, 1);
      });
      const list = this.memory.list(stretches);
      const dispatch = this.memory.dispatch({
        ...common,
        ...{
          count: part.length,
          first: common.first! + from * TOKEN_WORDS,
          base: from,
          list,
          listed: stretches.length / 2,
        },
      });
      tiles.push({ part: "tile", dispatch, count: part.length, stretches: stretches.length / 2 });
    }
    return tiles;
  }

  #embed(pass: Pass, call: GPUBindGroup, dispatch: number, count: number, hiddenSize: number): void {
    for (const part of this.#machine.program.embed) {
      pass.run(part, call, dispatch, Math.ceil(strideOf(hiddenSize) / 4 / 64), count);
    }
  }

  #layer(
    encoder: Encoder,
    number: number,
    dispatch: number,
    count: number,
    tiles: readonly Tile[],
    from: number | null,
  ): void {
    const { program, groups, config } = this.#machine;
    const { pass } = encoder;
    const call = groups.read;
    const layer = program.layers[number]!;
    pass.matmul(layer.qkv, call, dispatch, count);
    for (const tile of tiles) {
      if (tile.part === "step") {
        pass.units(layer.attention.step, call, tile.dispatch, tile.count * config.kvHeads);
        continue;
      }
      pass.units(layer.attention.keep, call, tile.dispatch, tile.stretches * config.kvHeads);
      pass.units(layer.attention.attend, call, tile.dispatch, tile.count * config.heads);
    }
    pass.matmul(layer.output, call, dispatch, count);
    pass.matmul(layer.gated, call, dispatch, count);
    if (layer.experts !== null) {
      pass.matmul(layer.experts.router, call, dispatch, count);
      if (layer.experts.sort !== null) pass.run(layer.experts.sort, call, dispatch, Math.ceil((2 * count) / 32));
      pass.run(layer.experts.choose, call, dispatch, Math.ceil(count / 32));
      for (const part of layer.experts.down)
        pass.run(part, call, dispatch, Math.ceil(config.experts!.perToken / 32), count);
    }
    pass.matmul(layer.down, call, dispatch, count);
    if (layer.experts !== null) {
      for (const part of layer.experts.up) {
        pass.run(part, call, dispatch, Math.ceil(Math.ceil(config.hiddenSize / 4) / 32), count);
      }
    }
    if (this.#layers && from !== null) this.#copyInside(encoder, number, from, count);
  }

  /** Values and biases of a group's own tokens, for inspect. */
  #copyInside(encoder: Encoder, layer: number, from: number, count: number): void {
    const { config, activations, staging } = this.#machine;
    const width = keyValueWidth(config);
    const { bias, value } = this.inside;
    let own = 0;
    this.tokens.forEach(({ position, task }, index) => {
      if (position < this.#tasks[task]!.before) return;
      const place = layer * this.own + own++;
      if (index < from || index >= from + count) return;
      const at = (index - from) * qkvStride(config) + queryWidth(config) + width;
      encoder.copy(activations.qkv, at * 4, staging[0]!, (value + place * width) * 4, width * 4);
      encoder.copy(
        activations.qkv,
        (at + width) * 4,
        staging[0]!,
        (bias + place * config.biasHeads) * 4,
        config.biasHeads * 4,
      );
    });
  }

  /** The logits of some tokens of a group, and what they are for. */
  #headUnit(
    asked: readonly { readonly place: number; readonly token: number; readonly to: number | undefined }[],
    first: number,
    count: number,
  ): Unit {
    const { memory } = this;
    const machine = this.#machine;
    const { config } = machine;
    const { vocabSize, hiddenSize } = config;
    const rows = asked.length;
    const outsAt = memory.list(asked.map(({ place }) => place));
    const list =
      this.#kind === "sample"
        ? memory.list(asked.map(({ to }) => this.#rowOf(to!)))
        : this.#kind === "score"
          ? memory.list(asked.flatMap(({ token, to }) => [this.tokens[token + 1]!.id, to!]))
          : 0;
    const dispatch = memory.dispatch({ count, first, outs: rows, outsAt, list, listed: rows, ...this.#results(0) });
    return {
      cost: this.#headCost(rows),
      encode: (encoder) => {
        const { program, logits, staging, activations, groups } = machine;
        encoder.pass.matmul(program.head, groups.read, dispatch, rows);
        if (this.#kind === "sample") this.#draw(encoder.pass, dispatch, rows);
        if (this.#kind === "score") encoder.pass.units(program.occasional("score"), groups.score, dispatch, rows);
        if (this.#kind === "inspect")
          encoder.pass.run(program.occasional("rmsnorm"), groups.read, dispatch, Math.ceil(count / 32));
        asked.forEach(({ place, to }, row) => {
          if (this.#kind === "forward")
            encoder.copy(logits, row * vocabSize * 4, staging[0]!, to! * vocabSize * 4, vocabSize * 4);
          if (this.#kind !== "inspect") return;
          const { hidden, logits: logitsAt } = this.inside;
          encoder.copy(logits, row * vocabSize * 4, staging[0]!, (logitsAt + to! * vocabSize) * 4, vocabSize * 4);
          const stride = strideOf(hiddenSize);
          encoder.copy(
            activations.hidden,
            place * stride * 4,
            staging[0]!,
            (hidden + to! * hiddenSize) * 4,
            hiddenSize * 4,
          );
        });
      },
    };
  }

  #results(step: number): Partial<Dispatch> {
    return { step, rows: this.#tasks.length, rowsAt: this.#rowsAt, width: this.width };
  }

  #draw(pass: Pass, dispatch: number, rows: number): void {
    const { program, groups } = this.#machine;
    pass.units(program.occasional(this.#drawing), groups.draw, dispatch, rows);
  }

  /** One decoding step, of groups of the rows that draw. */
  #stepUnits(decodeAt: number, step: number): Unit[] {
    const { memory } = this;
    const machine = this.#machine;
    const { config, group: most, headRows } = machine;
    const units: Unit[] = [];
    for (let from = 0; from < this.#drawers.length; from += most) {
      const drawers = this.#drawers.slice(from, from + most);
      const count = drawers.length;
      const first = decodeAt + from * TOKEN_WORDS;
      const all = memory.dispatch({ count, first });
      const tiles: Tile[] = [{ part: "step", dispatch: all, count, stretches: 0 }];
      const heads: { dispatch: number; rows: number }[] = [];
      for (let at = 0; at < count; at += headRows) {
        const rows = Math.min(headRows, count - at);
        const outsAt = memory.list(Array.from({ length: rows }, (_, index) => at + index));
        const list = memory.list(drawers.slice(at, at + rows).map((task) => this.#rowOf(task)));
        heads.push({
          rows,
          dispatch: memory.dispatch({ count, first, outs: rows, outsAt, list, listed: rows, ...this.#results(step) }),
        });
      }
      const keys = drawers.reduce((sum, task) => sum + this.#tasks[task]!.sequence.length, 0);
      units.push({
        cost: config.layers * this.#layerCost(keys, count) + this.#headCost(count),
        encode: (encoder) => {
          const { pass } = encoder;
          const { groups } = machine;
          this.#embed(pass, groups.read, all, count, config.hiddenSize);
          for (let layer = 0; layer < config.layers; layer++) this.#layer(encoder, layer, all, count, tiles, null);
          for (const { dispatch, rows } of heads) {
            pass.matmul(machine.program.head, groups.read, dispatch, rows);
            this.#draw(pass, dispatch, rows);
          }
        },
      });
    }
    return units;
  }

  /** Pages that are copied, and keys that are forgotten, before anything is written. */
  pageWork(work: PageWork): Unit | null {
    if (work.copies.length === 0 && work.resets.length === 0) return null;
    const { config } = this.#machine;
    const threads = Math.max(pageBytes(config).keys / 16, pageBytes(config).values / 4, pageBytes(config).meta / 4);
    const copies = waves(work.copies).map((wave) => ({
      dispatch: this.memory.dispatch({ list: this.memory.list(wave.flat()) }),
      pages: wave.length,
    }));
    const resets = this.memory.dispatch({ list: this.memory.list(work.resets.flat()) });
    return {
      cost: DISPATCH_COST,
      encode: ({ pass }) => {
        const { program, groups } = this.#machine;
        for (const { copy, reset } of program.layers) {
          for (const { dispatch, pages } of copies)
            pass.run(copy, groups.read, dispatch, Math.ceil(threads / 64), pages);
          if (reset !== null) pass.run(reset, groups.read, resets, work.resets.length);
        }
      },
    };
  }

  /** Multiply-adds of some tokens in a layer that together see so many keys. */
  #layerCost(keys: number, tokens: number): number {
    const { hiddenSize, intermediateSize, heads, headDim } = this.#machine.config;
    const widths = qkvStride(this.#machine.config) + queryWidth(this.#machine.config) + 3 * intermediateSize;
    return 5 * DISPATCH_COST + tokens * hiddenSize * widths + 2 * keys * heads * headDim;
  }

  #headCost(rows: number): number {
    const { hiddenSize, vocabSize } = this.#machine.config;
    return 2 * DISPATCH_COST + rows * vocabSize * (hiddenSize + 50);
  }
}

/** Copies in the order they were asked for, cut where one writes a page that an earlier one reads or writes. */
function waves(copies: readonly (readonly [number, number])[]): (readonly [number, number])[][] {
  const all: (readonly [number, number])[][] = [];
  let touched = new Set<number>();
  for (const [from, to] of copies) {
    if (all.length === 0 || touched.has(to) || all.at(-1)!.some(([, earlier]) => earlier === from)) {
      all.push([]);
      touched = new Set();
    }
    all.at(-1)!.push([from, to]);
    touched.add(from).add(to);
  }
  return all;
}

/** Tokens whose keys are kept before any of them attends. */
interface Tile {
  readonly part: "step" | "tile";
  readonly dispatch: number;
  readonly count: number;
  readonly stretches: number;
}
