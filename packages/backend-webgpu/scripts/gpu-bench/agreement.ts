// Whether the device computes what the reference computes, and what the conformance suite says.
import { join } from "node:path";
import { checks, runCheck, Stage, tolerances } from "@doge-lm/conformance/checks";
import { type Config, defaultSampling, type Floats, type Model } from "@doge-lm/core";
import { folder } from "@doge-lm/core/node";
import { reference } from "@doge-lm/reference";
import { randomCheckpoint, randomIds } from "../../../../apps/cli/src/bench/random-checkpoint.ts";
import { configOf } from "../../../../apps/cli/src/bench/shapes.ts";
import type { WebgpuOptions } from "../../src/index.ts";
import { provider } from "./dawn.ts";
import { goOn, left, round, say, thisStep, values } from "./steps.ts";
import { greedy, nothing } from "./text.ts";

const scaleOf = (numbers: Floats): number =>
  Math.sqrt(numbers.reduce((sum, value) => sum + value * value, 0) / numbers.length);

/** How far some numbers are from others, in their size. */
function apart(a: Floats, b: Floats): { max: number; rms: number } {
  const scale = scaleOf(b);
  let [max, squares] = [0, 0];
  b.forEach((value, index) => {
    const gap = Math.abs(a[index]! - value) / scale;
    max = Math.max(max, gap);
    squares += gap * gap;
  });
  return { max: round(max), rms: round(Math.sqrt(squares / b.length)) };
}

const AGREEING = 40;
/** Logits, scores and draws of every dtype against the reference's. */
export async function agreement(): Promise<object> {
  const config: Config = { ...configOf("tiny", false)!, vocabSize: 4096 };
  const checkpoint = randomCheckpoint(config, 5);
  const ids = randomIds(AGREEING, config.vocabSize, 3);
  const run = async (model: Model) => {
    const sequence = model.sequence();
    const [prompt] = await model.forward([{ sequence, tokens: ids }]);
    const drawn: number[] = [];
    for (const count of [1, 31])
      drawn.push(...(await model.sample([{ sequence, tokens: nothing, count, sampling: greedy }]))[0]!.ids);
    const seeded = { ...defaultSampling, temperature: 0.9, topK: 50, topP: 0.95, seed: 11, stop: [] };
    const [sampled] = await model.sample([{ sequence, tokens: nothing, count: 32, sampling: seeded }]);
    const other = model.sequence();
    const [score] = await model.score([{ sequence: other, tokens: ids }]);
    return { prompt: prompt!, drawn, sampled: [...sampled!.ids], score: score! };
  };
  const same = (a: readonly number[], b: readonly number[]) => {
    const first = a.findIndex((id, index) => id !== b[index]);
    return first < 0 ? a.length : first;
  };
  const truth = await reference().open();
  const device = await provider().open();
  const found: { [dtype: string]: object } = {};
  for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
    const [theirs, ours] = [await truth.load(checkpoint, { dtype }), await device.load(checkpoint, { dtype })];
    const [wanted, got] = [await run(theirs), await run(ours)];
    theirs.close();
    ours.close();
    found[dtype] = {
      logits: apart(got.prompt, wanted.prompt),
      scores: apart(got.score, wanted.score),
      greedy: `${same(got.drawn, wanted.drawn)} of ${wanted.drawn.length}`,
      seeded: `${same(got.sampled, wanted.sampled)} of ${wanted.sampled.length}`,
    };
  }
  await device.close();
  return found;
}

/** Tokens before the steps: more than all slices of a head take in one turn. */
const SLICED = 700;
const STEPS = 8;
/** Steps of one text, whose keys are dealt to slices, against steps of two texts, whose keys are not: layers of the published widths, far
 *  behind the first turn of the slices. Logits by the suite's table; ids may differ where two logits lie as close as that.
 *  Errors: what is further apart. */
export async function slicing(options: WebgpuOptions = {}, shapes = ["60m", "320m"]): Promise<object> {
  const own = thisStep();
  const device = await provider(options).open();
  const found: { [what: string]: object } = {};
  const wrong: string[] = [];
  for (const shape of shapes) {
    const config: Config = { ...configOf(shape, false)!, layers: 1, vocabSize: 4096 };
    const checkpoint = randomCheckpoint(config, 7);
    const ids = randomIds(SLICED + STEPS, config.vocabSize, 9);
    for (const dtype of ["f32", "q8"] as const) {
      goOn(own);
      const model = await device.load(checkpoint, { dtype, context: 1024, room: 4096 });
      const tolerance = dtype === "f32" ? tolerances.repeated : tolerances.roundedRepeat;
      const behind = async (length: number) => {
        const sequence = model.sequence();
        await model.sample([{ sequence, tokens: ids.slice(0, length), count: 0, sampling: greedy }]);
        return sequence;
      };
      const [one, two] = [await behind(SLICED), await behind(SLICED)];
      const beside = two.fork();
      let max = 0;
      for (let at = SLICED; at < SLICED + STEPS; at++) {
        const tokens = ids.slice(at, at + 1);
        const [alone] = await model.forward([{ sequence: one, tokens }]);
        const [together, copy] = await model.forward([two, beside].map((sequence) => ({ sequence, tokens })));
        max = Math.max(max, apart(alone!, together!).max, apart(alone!, copy!).max);
      }
      const draw = { tokens: nothing, count: 32, sampling: greedy };
      const [alone] = await model.sample([{ ...draw, sequence: one }]);
      const [together] = await model.sample([two, beside].map((sequence) => ({ ...draw, sequence })));
      const first = alone!.ids.findIndex((id, index) => id !== together!.ids[index]);
      let margin: number | undefined;
      if (first >= 0) {
        const tokens = Int32Array.of(ids.at(-1)!, ...alone!.ids.slice(0, first));
        const [logits] = await model.forward([{ sequence: await behind(SLICED + STEPS - 1), tokens }]);
        margin = round(Math.abs(logits![alone!.ids[first]!]! - logits![together!.ids[first]!]!) / scaleOf(logits!));
      }
      model.close();
      const what = `${shape} ${dtype}`;
      found[what] = { logits: max, ids: `${first < 0 ? 32 : first} of 32`, margin };
      if (!(max <= tolerance)) wrong.push(`${what}: logits are ${max} apart, allowed ${tolerance}`);
      if (margin !== undefined && margin > 2 * tolerance)
        wrong.push(`${what}: id ${first} is another, with a margin of ${margin}, allowed ${2 * tolerance}`);
    }
  }
  await device.close();
  if (wrong.length > 0) throw new Error(`${wrong.join("; ")}; in all: ${JSON.stringify(found)}`);
  return found;
}

/** As many of its checks as there is time for. */
export async function conformance(): Promise<object> {
  if (values.fixtures === undefined) throw new Error("there are no fixtures: give --fixtures");
  const mine = thisStep();
  const own = provider();
  const answer = await own.probe();
  if (!answer.available) throw new Error(answer.why);
  const fixtures = values.fixtures;
  const subject = {
    provider: own,
    can: answer,
    notes: { fixtures: async (name: string) => folder(join(fixtures, name)) },
  };
  const stage = new Stage(subject);
  const end = performance.now() + Math.min(24_000, left() - 4000);
  const failures: string[] = [];
  const skips: string[] = [];
  let [passed, unseen] = [0, 0];
  for (const check of checks) {
    if (performance.now() > end || mine.is) {
      unseen++;
      continue;
    }
    const why = check.ring === "text" ? "the demo model is not here" : check.skip?.(subject);
    if (why !== undefined) {
      skips.push(check.name);
      continue;
    }
    const start = performance.now();
    try {
      await runCheck(check, stage);
      passed++;
    } catch (error) {
      failures.push(`${check.ring}: ${check.name}: ${(error as Error).message}`);
      say(`     FAIL ${failures.at(-1)}`);
    }
    const taken = performance.now() - start;
    if (passed % 20 === 0) say(`     ${passed} passed, ${failures.length} failed so far`);
    if (taken > 2000) say(`     ${check.ring}: ${check.name} took ${Math.round(taken)} ms`);
  }
  await stage.close();
  return { passed, failed: failures.length, skipped: skips.length, unseen, failures };
}
