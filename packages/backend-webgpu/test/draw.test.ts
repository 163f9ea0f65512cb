// The draw kernel alone, on logits of every kind, against core's draw(): all filters, in the list of the likely and in the passes over all.
import { defaultSampling, draw as drawOf, logSumExp, mostLikely, type Sampling } from "@doge-lm/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findAdapter, openDevice } from "../src/adapter.ts";
import { CallMemory, ROW, ROW_WORDS, TOKEN_WORDS } from "../src/call.ts";
import { Gpu, USAGE } from "../src/device.ts";
import { DRAWN, draw } from "../src/kernels/draw.ts";
import { type Kernel, unitsToGroups } from "../src/kernels/kernel.ts";
import { software } from "./software.ts";
import { variants } from "./support.ts";

const answer = await software().probe();
const why = answer.available ? "" : ` (skipped: ${answer.why})`;
/** A software adapter compiles kernels with barriers for seconds. */
const timeout = 300_000;

interface Case {
  readonly kind: string;
  readonly logits: Float32Array<ArrayBuffer>;
  readonly sampling: Sampling;
  readonly position: number;
  readonly seen: readonly number[];
  readonly allowed: Uint32Array | undefined;
}

/** Numbers from 0 to 1 by a linear congruential generator (Numerical Recipes). */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
}
const normal = (next: () => number) => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());

/** Logits by their kind: a number for each id, of a generator. */
const KINDS: { readonly [kind: string]: (next: () => number, size: number) => (id: number) => number } = {
  normal: (next) => () => 3 * normal(next),
  flat: (next) => () => 0.01 * normal(next),
  large: (next) => () => 1e4 * normal(next),
  equal: () => () => -2.5,
  // About ten ids for each score near the top.
  ties: (next, size) => () => Math.round((normal(next) * size) / 40) * 0.01,
  // More equals at any cut than the list has room for, where the vocabulary has as many.
  "many ties": (next) => () => Math.round(2 * next()),
  "mostly -Infinity": (next) => () => (next() < 0.1 ? normal(next) : Number.NEGATIVE_INFINITY),
  "one finite": (next, size) => {
    const only = Math.floor(next() * size);
    return (id) => (id === only ? -3 : Number.NEGATIVE_INFINITY);
  },
  // Two zeros are one number.
  zeros: (next) => () => (next() < 0.5 ? -0 : 0),
  // All of the likely stand with one lane.
  "one lane": (next) => (id) => (id % 256 === 7 ? 5 : 0) + normal(next),
  infinite: (next) => (id) => (id % 300 === 3 ? Number.POSITIVE_INFINITY : normal(next)),
};

const TOP_K = [0, 1, 2, 50, 128, 255, 256, 257, 600, 1_000_000];

/** Every kind with every topK, the other options as they come. */
function casesOf(vocabulary: number, kinds = Object.keys(KINDS), topKs = TOP_K): Case[] {
  const next = uniform(vocabulary);
  const some = <T>(...of: readonly T[]): T => of[Math.floor(next() * of.length)]!;
  return kinds.flatMap((kind) =>
    topKs.map((topK) => {
      const logit = KINDS[kind]!(next, vocabulary);
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => logit(id));
      const sampling = {
        ...defaultSampling,
        temperature: some(1, 1, 0.7, 3, 0.05),
        topK,
        topP: some(1, 1, 1, 0, 0.1, 0.5, 0.9, 0.999),
        minP: some(0, 0, 0, 0.02),
        repetitionPenalty: some(1, 1, 1.3),
        seed: Math.floor(next() * 1e9),
      };
      const seen = Array.from({ length: 20 }, () => Math.floor(next() * vocabulary));
      const allowed = some(undefined, undefined, undefined, 0.3, 0.005);
      return {
        kind,
        logits,
        sampling,
        position: Math.floor(next() * 1000),
        seen,
        allowed: allowed && mask(vocabulary, allowed),
      };
    }),
  );

  function mask(size: number, share: number): Uint32Array {
    const words = new Uint32Array(Math.ceil(size / 32));
    for (let id = 0; id < size; id++) if (next() < share) words[id >> 5]! |= 1 << (id & 31);
    return words;
  }
}

const describeCase = ({ kind, sampling, allowed, logits }: Case) =>
  `${kind}, ${logits.length} ids, ${allowed === undefined ? "" : "some allowed, "}${JSON.stringify(sampling)}`;

/** What core draws. Sums of f32 may cut one id further or less: also what it draws a ten-thousandth beside the cuts. */
function wantedOf({ logits, sampling, position, seen, allowed }: Case): Set<number> {
  if (!logits.some(Number.isFinite)) return new Set([DRAWN.numerical]);
  const nudges = sampling.topP < 1 || sampling.minP > 0 ? [1, 1 - 1e-4, 1 + 1e-4] : [1];
  const ids = nudges.map((nudge) => {
    const { topP, minP } = sampling;
    const nudged = { ...sampling, topP: topP < 1 ? Math.min(topP * nudge, 1) : 1, minP: minP * nudge };
    return drawOf(logits, seen, position, nudged, allowed);
  });
  return new Set(ids.map((id) => (id < 0 ? DRAWN.nothing : id)));
}

describe.skipIf(!answer.available).each(["barrier-free", "base", "subgroups"])(
  `draw, %s${why}`,
  { timeout },
  (name) => {
    const variant = variants[name]!;
    let gpu: Gpu;
    let release: () => void;

    beforeAll(async () => {
      const found = await findAdapter({ software: true });
      if ("why" in found) throw new Error(found.why);
      release = found.release;
      gpu = new Gpu(await openDevice(found, false), variant, { lazy: true });
    });
    afterAll(() => {
      gpu.device.destroy();
      release();
    });

    /** The id drawn for each case, and how often the passes over all scores were taken for it, in one dispatch. */
    async function drawn(cases: readonly Case[]): Promise<{ id: number; cuts: number }[]> {
      const kernel = draw(variant, true, false);
      const code = kernel.code
        .replace("fn cutOf(", "var<private> cuts: u32;\n$&")
        .replace("var target_ = wanted;", "$& cuts++;")
        .replace("results[at] = chosen;", "$& results[at + 1u] = cuts;");
      const found = await run({ ...kernel, code }, cases, 2);
      return found.map((words) => ({ id: words[0]!, cuts: words[1]! }));
    }

    /** The `width` words that a kernel of draws leaves for each case, in one dispatch. */
    async function run(kernel: Kernel, cases: readonly Case[], width: number): Promise<Uint32Array[]> {
      const { pipeline, layouts } = await gpu.pipeline(kernel);
      const vocabulary = cases[0]!.logits.length;
      const memory = new CallMemory();
      const rows = cases.map(({ sampling, position, seen, allowed }, index) => {
        const row = memory.take(ROW_WORDS);
        const words = { left: 2, position, index, topK: sampling.topK, seed: sampling.seed };
        for (const [word, value] of Object.entries(words)) memory.set(row + ROW[word as keyof typeof words], value);
        const { temperature, topP, minP, repetitionPenalty: penalty } = sampling;
        for (const [word, value] of Object.entries({ temperature, topP, minP, penalty }))
          memory.setFloat(row + ROW[word as "topP"], value);
        memory.set(row + ROW.token, memory.take(TOKEN_WORDS));
        if (allowed !== undefined) memory.set(row + ROW.allowed, memory.list(allowed));
        const bits = memory.take(Math.ceil(vocabulary / 32));
        for (const id of seen) memory.setBit(bits, id);
        memory.set(row + ROW.seen, bits);
        return row;
      });
      const listed = cases.length;
      memory.dispatch({ list: memory.list(rows), listed, rows: listed, width });
      const logits = new Float32Array(listed * vocabulary);
      cases.forEach((one, index) => {
        logits.set(one.logits, index * vocabulary);
      });
      const { device } = gpu;
      const bytes = listed * width * 4;
      const filled = (label: string, words: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>) => {
        const buffer = gpu.storage(label, words.byteLength);
        device.queue.writeBuffer(buffer, 0, words);
        return buffer;
      };
      const results = gpu.storage("results", bytes);
      const staging = gpu.buffer("staging", bytes, USAGE.mapRead | USAGE.copyTarget);
      const shape = gpu.uniform("shape", Uint32Array.of(vocabulary, 0, 0, 0));
      const own = gpu.group(layouts[0], [filled("logits", logits), shape]);
      const grid = { buffer: gpu.uniform("grid", memory.grids), size: 256 };
      const call = gpu.group(layouts[1], [grid, filled("call", memory.words.slice()), results]);
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, own);
      pass.setBindGroup(1, call, [0]);
      pass.dispatchWorkgroups(unitsToGroups(variant, listed));
      pass.end();
      encoder.copyBufferToBuffer(results, 0, staging, 0, bytes);
      device.queue.submit([encoder.finish()]);
      const found = new Uint32Array(await gpu.read(staging, bytes));
      return cases.map((_, index) => found.slice(width * index, width * (index + 1)));
    }

    /** Those of the ids that are not core's. */
    function wrong(cases: readonly Case[], found: readonly { readonly id: number }[]): string[] {
      return cases.flatMap((one, index) => {
        const wanted = wantedOf(one);
        const { id } = found[index]!;
        return wanted.has(id) ? [] : [`${describeCase(one)}: ${id}, not ${[...wanted].join(" or ")}`];
      });
    }

    test.each([5, 250])("of %i ids, fewer than the lanes", async (vocabulary) => {
      const cases = casesOf(vocabulary, Object.keys(KINDS), [0, 1, 2, 50, 249, 1_000_000]);
      expect(wrong(cases, await drawn(cases))).toEqual([]);
    });

    test("of 2,051 ids", async () => {
      const cases = casesOf(2051);
      expect(wrong(cases, await drawn(cases))).toEqual([]);
    });

    test("of 32,768 ids", async () => {
      const cases = casesOf(32_768, ["normal", "ties", "many ties"], [0, 50, 600]);
      expect(wrong(cases, await drawn(cases))).toEqual([]);
    });

    test.each([5, 250, 2051])("ln p of %i ids, and of the most likely", async (vocabulary) => {
      const most = 5;
      const kinds = ["normal", "ties", "mostly -Infinity", "one finite", "infinite"];
      // Of five ids none may be finite in "mostly -Infinity".
      const cases = casesOf(vocabulary, kinds, [0, 50]).filter(({ logits }) => logits.some(Number.isFinite));
      const found = await run(draw(variant, true, true), cases, 2 + 2 * most);
      for (const [index, words] of found.entries()) {
        const { logits, kind } = cases[index]!;
        const floats = new Float32Array(words.buffer);
        const id = words[0]!;
        if (id === DRAWN.nothing) continue;
        if (logits.includes(Number.POSITIVE_INFINITY)) {
          expect(floats[1], kind).toBeNaN();
          continue;
        }
        const normalizer = logSumExp(logits);
        const best = mostLikely(logits, most);
        expect([...words.slice(2, 2 + most)], kind).toEqual([...best]);
        for (const [at, of] of [[1, id], ...Array.from(best, (of, rank) => [2 + most + rank, of])] as [
          number,
          number,
        ][]) {
          const wanted = logits[of]! - normalizer;
          if (wanted === Number.NEGATIVE_INFINITY) expect(floats[at], kind).toBe(wanted);
          else expect(Math.abs(floats[at]! - wanted), `${kind}: ln p of ${of}`).toBeLessThan(1e-4);
        }
      }
    });

    test.skipIf(variant.serial)(
      "passes over all scores are taken for what the list cannot hold, and for nothing else",
      async () => {
        const expected: readonly (readonly [kind: string, cuts: number, Partial<Sampling>])[] = [
          ...[1, 2, 50, 128].map((topK) => ["normal", 0, { topK }] as const),
          ["normal", 0, { topK: 50, topP: 0.9, minP: 0.01 }],
          ["normal", 0, { topK: 50, repetitionPenalty: 1.3 }],
          ["normal", 0, { topP: 0 }],
          ["normal", 0, { topP: 0.5 }],
          ["normal", 0, { topK: 1_000_000 }],
          ["flat", 0, { topK: 50, topP: 0.999 }],
          ["one lane", 0, { topK: 50 }],
          ["ties", 0, { topK: 50, topP: 0.9 }],
          ["normal", 1, { topK: 255 }],
          ["normal", 1, { topK: 600 }],
          ["normal", 2, { topK: 600, topP: 0.9 }],
          ["flat", 1, { topP: 0.9 }],
          ["equal", 1, { topK: 50 }],
          ["many ties", 2, { topK: 50, topP: 0.9 }],
        ];
        const cases = expected.map(([kind, , sampling]) => ({
          ...casesOf(4099, [kind], [0])[0]!,
          sampling: { ...defaultSampling, ...sampling },
          allowed: undefined,
        }));
        const found = await drawn(cases);
        expect(wrong(cases, found)).toEqual([]);
        expect(expected.map(([kind, , sampling], index) => [kind, found[index]!.cuts, sampling])).toEqual(expected);
        // Of few allowed ids the list holds all.
        const few = { ...cases[9]!, allowed: new Uint32Array(129).fill(0x11) };
        expect(await drawn([{ ...few, sampling: { ...defaultSampling, topK: 400, topP: 0.99 } }])).toMatchObject([
          { cuts: 0 },
        ]);
      },
    );
  },
);
