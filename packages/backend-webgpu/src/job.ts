// A job: what one call of the contract computes, as units of work that are written into submits. It lays out the memory of the
// call (call.ts), then gives its units in order; submits.ts decides how many go into one submit.
import { keyValueWidth, queryWidth, type Routing } from "@doge-lm/core";
import { type Group, type PendingToken, planGroups, type Task, type Verb } from "@doge-lm/core/backend-kit";
import { qkvStride } from "./activations.ts";
import { CallMemory, type Dispatch, ROW, ROW_WORDS, TOKEN_WORDS } from "./call.ts";
import { writeRow } from "./call-row.ts";
import { DISPATCH_COST, headCost, layerCost } from "./costs.ts";
import type { Encoder, Unit } from "./encoder.ts";
import { headsTogether } from "./kernels/attend.ts";
import { DRAWN } from "./kernels/draw.ts";
import type { Machine } from "./machine.ts";
import type { Pass } from "./pass.ts";
import type { BoundLayer } from "./program.ts";
import { type Range, readOf, stepOf, type Table, type Tile, tiles } from "./tiles.ts";
import { strideOf } from "./weights.ts";

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
  readonly tokens: readonly PendingToken[];
  readonly inside: Inside;
  /** Own tokens of all rows. */
  readonly own: number;
  /** Words of one draw among the results. */
  readonly width: number;
  readonly #machine: Machine;
  readonly #verb: Verb;
  readonly #tasks: readonly Task[];
  readonly #tables: Table[] = [];
  readonly #layers: boolean;
  readonly #units: Unit[] = [];
  readonly #step: Unit[][] = [];
  /** Whether a row draws by topK or topP. */
  readonly filtered: boolean;
  readonly #drawers: number[];
  readonly #groups: readonly Group[];
  #rowsAt = 0;

  constructor(machine: Machine, routing: Routing, verb: Verb, tasks: readonly Task[], steps: number, layers: boolean) {
    this.#machine = machine;
    this.#verb = verb;
    this.#tasks = tasks;
    this.#layers = layers;
    const { config } = machine;
    this.own = tasks.reduce((sum, { sequence, before }) => sum + sequence.length - before, 0);
    const alternatives = tasks.map(({ drawing }) => drawing?.alternatives);
    const told = verb === "sample" && alternatives.some((count) => count !== undefined);
    this.width = told ? 2 + 2 * Math.max(...alternatives.map((count) => count ?? 0)) : 1;
    this.filtered = tasks.some(({ count, drawing }) => {
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
    ({ tokens: this.tokens, groups: this.#groups } = planGroups(config, routing, machine.group, tasks));
    this.#rowsAt = this.memory.take(tasks.length * ROW_WORDS);
    const decodeAt = this.memory.take(this.#drawers.length * TOKEN_WORDS);
    const { vocabSize } = config;
    tasks.forEach((task, index) => {
      this.#tables.push(writeRow(this.memory, this.#rowOf(index), task, index, vocabSize));
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
    if (this.#verb === "sample") return this.#drawers.length > 0 ? this.#drawing : null;
    return this.#verb === "score" ? "score" : this.#verb === "inspect" ? "rmsnorm" : null;
  }

  get #drawing(): string {
    return `draw${this.filtered ? " filtered" : ""}${this.width > 1 ? " told" : ""}`;
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
    if (this.#verb === "score") return this.own * 4;
    return steps * this.#tasks.length * this.width * 4;
  }

  #rowOf(task: number): number {
    return this.#rowsAt + task * ROW_WORDS;
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
      if (this.#verb === "forward") return last ? task : undefined;
      if (this.#verb === "sample") return last && count > 0 ? task : undefined;
      if (this.#verb === "inspect") return position >= before ? own++ : undefined;
      if (position === 0 && before === 0) own++; // the first of a sequence follows nothing
      return position + 1 >= before && !last ? own++ : undefined;
    });
    for (const { from, count, span } of this.#groups) {
      const asked = [];
      for (let index = from; index < from + count; index++) {
        if (wanted[index] !== undefined) asked.push({ place: index - from, token: index, to: wanted[index] });
      }
      // Tokens that are routed together need each other to the end.
      const unread = span ? 0 : (asked[0]?.place ?? count);
      this.#units.push(...this.#groupUnits(first + from * TOKEN_WORDS, from, count, span, unread));
      for (let at = 0; at < asked.length; at += this.#machine.headRows) {
        this.#units.push(
          this.#headUnit(asked.slice(at, at + this.#machine.headRows), first + from * TOKEN_WORDS, count),
        );
      }
    }
  }

  /** A group through all layers: a unit each, so that a submit may end between them. Of the last layer, the first `unread` tokens
   *  leave only keys and values: nobody reads what else it would make of them. */
  #groupUnits(first: number, from: number, count: number, span: boolean, unread: number): Unit[] {
    const { config } = this.#machine;
    const { hiddenSize, heads } = config;
    const common = { count, first, base: 0, span: span ? count : 0 };
    const all: Range = { dispatch: this.memory.dispatch(common), count };
    const tokens = this.tokens.slice(from, from + count);
    const cut = tiles(this.memory, this.#tasks, this.#tables, common, tokens, unread, heads);
    const read = readOf(this.memory, common, all, 0, unread);
    const cost = layerCost(
      this.#machine.config,
      tokens.reduce((sum, { position }) => sum + position + 1, 0),
      count,
    );
    const units: Unit[] = [
      {
        cost: DISPATCH_COST,
        encode: ({ pass }) => this.#embed(pass, this.#machine.groups.read, all, hiddenSize),
      },
    ];
    for (let layer = 0; layer < config.layers; layer++) {
      const last = layer === config.layers - 1;
      units.push({
        cost,
        encode: (encoder) => this.#layer(encoder, layer, all, last ? read : all, cut, from),
      });
    }
    return units;
  }

  #embed(pass: Pass, call: GPUBindGroup, { dispatch, count }: Range, hiddenSize: number): void {
    for (const part of this.#machine.program.embed) {
      pass.run(part, call, dispatch, Math.ceil(strideOf(hiddenSize) / 4 / 64), count);
    }
  }

  /** All of a group's tokens through one layer, or those behind its attention that are read. */
  #layer(encoder: Encoder, number: number, all: Range, read: Range, cut: readonly Tile[], from: number | null): void {
    const { program, groups } = this.#machine;
    const { pass } = encoder;
    const call = groups.read;
    const layer = program.layers[number]!;
    const { dispatch, count } = read;
    const [first] = cut;
    const sliced = first!.part === "step" && first!.count === 1 ? layer.sliced : null;
    if (sliced !== null) {
      // With the output its bias is kept, whether anybody reads the rest or not.
      pass.units(sliced.slices, call, first!.dispatch, sliced.teams);
      pass.matmul(sliced.output, call, first!.dispatch, 1);
    } else {
      pass.matmul(layer.qkv, call, all.dispatch, all.count);
      for (const tile of cut) this.#attention(pass, layer.attention, tile, read === all ? tile : tile.read);
      pass.matmul(layer.output, call, dispatch, count);
    }
    const mlp = sliced?.mlp ?? null;
    if (mlp !== null) pass.units(mlp.bound, call, dispatch, mlp.teams);
    else this.#feedForward(pass, layer, read);
    if (this.#layers && from !== null) this.#copyInside(encoder, number, from, all.count);
  }

  /** The feed-forward of what is read of a layer, with its experts. */
  #feedForward(pass: Pass, layer: BoundLayer, { dispatch, count }: Range): void {
    const { groups, config } = this.#machine;
    const call = groups.read;
    pass.matmul(layer.gated, call, dispatch, count);
    if (layer.experts !== null) {
      pass.matmul(layer.experts.router, call, dispatch, count);
      pass.units(layer.experts.choose, call, dispatch, count);
      for (const part of layer.experts.down) pass.units(part, call, dispatch, config.experts!.perToken, count);
    }
    pass.matmul(layer.down, call, dispatch, count);
    if (layer.experts !== null) {
      for (const part of layer.experts.up) {
        pass.run(part, call, dispatch, Math.ceil(Math.ceil(config.hiddenSize / 4) / 32), count);
      }
    }
  }

  /** Keep a tile's keys, and what of it is read attends. */
  #attention(pass: Pass, attention: BoundLayer["attention"], tile: Tile, read: Range): void {
    const { groups, config } = this.#machine;
    const call = groups.read;
    if (tile.part === "step") {
      pass.units(attention.step, call, tile.dispatch, tile.count * config.kvHeads);
      return;
    }
    pass.units(attention.keep, call, tile.dispatch, tile.stretches * config.kvHeads);
    pass.units(attention.attend, call, read.dispatch, (read.count * config.heads) / headsTogether(config));
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
      this.#verb === "sample"
        ? memory.list(asked.map(({ to }) => this.#rowOf(to!)))
        : this.#verb === "score"
          ? memory.list(asked.flatMap(({ token, to }) => [this.tokens[token + 1]!.id, to!]))
          : 0;
    const dispatch = memory.dispatch({ count, first, outs: rows, outsAt, list, listed: rows, ...this.#results(0) });
    return {
      cost: headCost(this.#machine.config, rows),
      encode: (encoder) => {
        const { program, logits, staging, activations, groups } = machine;
        encoder.pass.matmul(program.head, groups.read, dispatch, rows);
        if (this.#verb === "sample") this.#draw(encoder.pass, dispatch, rows);
        if (this.#verb === "score") encoder.pass.units(program.occasional("score"), groups.score, dispatch, rows);
        if (this.#verb === "inspect")
          encoder.pass.run(program.occasional("rmsnorm"), groups.read, dispatch, Math.ceil(count / 32));
        asked.forEach(({ place, to }, row) => {
          if (this.#verb === "forward")
            encoder.copy(logits, row * vocabSize * 4, staging[0]!, to! * vocabSize * 4, vocabSize * 4);
          if (this.#verb !== "inspect") return;
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
      const tables = drawers.map((task) => this.#tables[task]!);
      const all = stepOf(memory, tables, { count, first });
      const cut = [all];
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
        cost: config.layers * layerCost(this.#machine.config, keys, count) + headCost(this.#machine.config, count),
        encode: (encoder) => {
          const { pass } = encoder;
          const { groups } = machine;
          this.#embed(pass, groups.read, all, config.hiddenSize);
          for (let layer = 0; layer < config.layers; layer++) this.#layer(encoder, layer, all, all, cut, null);
          for (const { dispatch, rows } of heads) {
            pass.matmul(machine.program.head, groups.read, dispatch, rows);
            this.#draw(pass, dispatch, rows);
          }
        },
      });
    }
    return units;
  }
}
