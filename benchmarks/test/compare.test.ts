// What is compared and what is planned: ties, verdicts, prompts, and which engine is asked for what.
import { readFileSync } from "node:fs";
import { checked } from "@doge-lm/core";
import { reference } from "@doge-lm/reference";
import { afterAll, describe, expect, test } from "vitest";
import { openDemoModel } from "../../packages/conformance/src/demo.ts";
import { agree } from "../compare.ts";
import { ordinary, plan, quick } from "../plan.ts";
import { fixtureSubjects, openSubject, titleOf } from "../subjects.ts";
import { agreeing, expect as drawn, type Expected, joined, within } from "../truth.ts";

const nothing = (): void => {};
const closers: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closers) await close();
});

describe("agreement", () => {
  const extent = { texts: 2, steps: 6, looked: 2, lookedSteps: 6 };
  const open = async (name: Parameters<typeof openSubject>[0] = "fixture:native") => {
    const subject = await openSubject(name);
    closers.push(subject.close);
    const backend = checked(await reference().open());
    const model = await backend.load(subject.checkpoint, { context: 64 });
    const expected = await drawn("reference", model, subject.prompts(2, 0), extent, nothing);
    return { subject, backend, expected };
  };

  test("of a backend with itself is perfect; parts of a truth make the whole", async () => {
    const { subject, backend, expected } = await open();
    const found = await agree(backend, "fixture:native", subject, "f32", expected, undefined, nothing);
    expect(found).toMatchObject({ rows: 12, maxDifference: 0, meanKl: 0, sameChoice: 1, sameTokens: 12, sameTexts: 2 });
    expect(found).toMatchObject({ agrees: true, differences: [] });
    const model = await backend.load(subject.checkpoint, { context: 64 });
    const one = { ...extent, texts: 1, looked: 1 };
    const parts: Expected[] = [];
    for (const first of [0, 1]) parts.push(await drawn("reference", model, subject.prompts(1, first), one, nothing));
    expect(joined(parts)).toEqual(expected);
    const less = within(expected, { texts: 1, steps: 2, looked: 1, lookedSteps: 2 });
    expect(less.logits[0]).toHaveLength(2 * expected.vocabulary);
  });

  test("is refused for ids that are no tie, and not for a tie", async () => {
    const { subject, backend, expected } = await open();
    /** The truth says another id at step 2 of text 1, by this margin; what follows is another text. */
    const other = (margin: number): Expected => {
      const ids = expected.ids.map((one) => one.slice());
      const deviations = expected.deviations.map((one) => one.slice());
      ids[1]![2] = ids[1]![2]! === 0 ? 1 : 0;
      deviations[1]![2] = margin;
      return { ...expected, ids, deviations, logits: [expected.logits[0]!, new Float32Array(0)] };
    };
    const compared = (margin: number) =>
      agree(backend, "fixture:native", subject, "f32", other(margin), undefined, nothing);
    const clear = await compared(0.5);
    expect(clear).toMatchObject({ agrees: false, sameTokens: 8, sameTexts: 1, rows: 6 });
    expect(clear.differences).toMatchObject([{ text: 1, step: 2, tie: false }]);
    expect(clear.why).toMatch(/text 1 has the id \d+ at step 2 where \d+ leads by/);
    const tie = await compared(1e-4);
    expect(tie).toMatchObject({ agrees: true, why: null });
    expect(tie.differences).toMatchObject([{ tie: true }]);
  });

  test("is refused for logits that are apart or no numbers, whatever is chosen", async () => {
    const { subject, backend, expected } = await open();
    const compared = (change: (logit: number) => number) => {
      const logits = expected.logits.map((all) => all.map((logit, at) => (at === 5 ? change(logit) : logit)));
      return agree(backend, "fixture:native", subject, "f32", { ...expected, logits }, undefined, nothing);
    };
    const apart = await compared((logit) => logit + 0.01);
    expect(apart).toMatchObject({ agrees: false, sameTexts: 2 });
    expect(apart.why).toMatch(/logits are .* apart/);
    expect((await compared(() => Number.NaN)).agrees).toBe(false);
  });

  test("of rounded weights is the KL of the table, to the same weights where they are random", async () => {
    const { subject, backend, expected } = await open();
    const rounded = await backend.load(subject.checkpoint, { dtype: "q8", context: 64 });
    const alike = await drawn("reference", rounded, subject.prompts(2, 0), extent, nothing);
    const found = await agree(backend, "fixture:native", subject, "q8", expected, alike, nothing);
    expect(found).toMatchObject({ agrees: true, alikeKl: 0 });
    expect(found.meanKl).toBeGreaterThan(0);
    // Weights of 4 bits are not those of 8.
    const wrong = await agree(backend, "fixture:native", subject, "q4", expected, alike, nothing);
    expect(wrong).toMatchObject({ agrees: false });
    expect(wrong.why).toMatch(/the mean KL to the same weights is/);
    // Where keys are chosen the table says nothing.
    const chosen = await open("fixture:window");
    const free = await agree(chosen.backend, "fixture:window", chosen.subject, "q4", chosen.expected, alike, nothing);
    expect(free).toMatchObject({ bound: null, agrees: true });
  });

  test("of the texts that all are compared with: ties are not looked at, differences refused", async () => {
    const { expected } = await open();
    const [steps, ids] = [4, expected.ids.map((one) => one.slice())];
    const exact = within(expected, { texts: 2, steps, looked: 2, lookedSteps: steps });
    const found = { sameTokens: 8, ties: 0, maxDifference: 0 };
    expect(agreeing(exact, expected)).toMatchObject({ why: null, found });
    ids[0]![1] = ids[0]![1]! === 0 ? 1 : 0;
    const tied = { ...exact, margins: exact.margins.map(() => new Float32Array(steps)) };
    const held = agreeing(tied, { ...expected, ids });
    expect(held).toMatchObject({ why: null, found: { sameTokens: 5, ties: 1 } });
    expect(held.joined.logits.map(({ length }) => length)).toEqual([0, steps * expected.vocabulary]);
    const refused = agreeing(exact, { ...expected, ids }).why;
    expect(refused).toMatch(/text 0 has the id \d+ at step 1, not \d+, which leads by/);
  });
});

describe("subjects", () => {
  test("the prompts are 1,000 different chats that fit the demo model, made as transformers makes them", async () => {
    const lines = JSON.parse(readFileSync(new URL("../prompts.json", import.meta.url), "utf8")) as unknown[];
    expect(new Set(lines.map((line) => JSON.stringify(line))).size).toBe(1000);
    const subject = await openSubject("demo");
    closers.push(subject.close);
    const prompts = subject.prompts(1000, 0);
    const { maxPositions, window } = subject.checkpoint.config;
    expect(Math.max(...prompts.map(({ length }) => length)) + 64).toBeLessThanOrEqual(maxPositions);
    // Some outgrow the keep window.
    expect(prompts.filter(({ length }) => length + 64 > window!).length).toBeGreaterThan(10);
    expect(new Set(prompts.map((ids) => ids.join())).size).toBe(1000);
    expect(subject.prompts(3, 7)[0]).toEqual(prompts[7]);
    expect(() => subject.prompts(2, 999)).toThrow("There are 1000 prompts");
    const demo = await openDemoModel();
    if (typeof demo === "string") throw new Error(demo);
    closers.push(demo.close);
    // The header, the system's line and the answer's header are those of the golden chat.
    const golden = demo.texts.find(({ messages }) => messages?.length === 1)!;
    const frame = (ids: ArrayLike<number>): number[] => [...Array.from(ids).slice(0, 25), ...Array.from(ids).slice(-6)];
    expect(frame(prompts[0]!)).toEqual(frame(golden.ids));
  });

  test("every layout of the suite is one", async () => {
    expect(fixtureSubjects.length).toBeGreaterThanOrEqual(11);
    const backend = checked(await reference().open());
    for (const name of fixtureSubjects) {
      const { checkpoint, prompts, close } = await openSubject(name);
      expect(prompts(2, 0).map(({ length }) => length)).toEqual([24, 24]);
      // Long enough for the texts of `npm run agreement`.
      expect((await backend.load(checkpoint, { context: 64 })).context).toBe(64);
      await close();
    }
    expect(titleOf("shape:20m moe")).toBe("20m with experts (random)");
    await expect(openSubject("shape:7b")).rejects.toThrow("There is no shape 7b.");
  });
});

describe("the plan", () => {
  const dtypes = ["f32", "bf16", "q8", "q4"] as const;
  const here = (name: string, small = false) => ({ name, small, dtypes });
  const engines = [here("wasm"), here("wasm revectorized"), here("wasm x2"), here("webgpu", true)];
  const all = [...engines, here("reference", true)];

  test("asks small engines for the smallest shape alone, once", () => {
    const small = plan(all, ordinary).filter(({ engine }) => ["webgpu", "reference"].includes(engine));
    expect(new Set(small.map(({ shape, rows }) => `${shape} ${rows}`))).toEqual(new Set(["20m 1"]));
    expect(small.filter(({ engine }) => engine === "reference")).toHaveLength(1);
    expect(small.every(({ prompt, decode }) => prompt <= 16 && decode <= 8)).toBe(true);
    // A GPU that is one is asked for everything.
    const large = plan([here("webgpu")], ordinary);
    expect(new Set(large.map(({ shape }) => shape))).toEqual(new Set(["20m", "60m"]));
  });

  test("has every dtype of every fast engine, rows and experts of one, and no timing twice", () => {
    const timings = plan(all, ordinary);
    for (const shape of ["20m", "60m"]) {
      for (const name of ["wasm", "wasm x2"]) {
        const own = timings.filter((one) => one.engine === name && one.shape === shape);
        expect(own.map(({ dtype }) => dtype)).toEqual(["f32", "q8", "q4"]);
      }
    }
    const more = timings.filter(({ rows, moe }) => rows > 1 || moe);
    expect(new Set(more.map(({ engine }) => engine))).toEqual(new Set(["wasm revectorized"]));
    const keys = timings.map(({ engine, shape, moe, dtype, rows }) => [engine, shape, moe, dtype, rows].join());
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("is short when it is to be quick, and asks for no dtype that an engine lacks", () => {
    const timings = plan(all, quick);
    expect(timings.length).toBeLessThan(10);
    expect(timings.some(({ engine }) => engine === "wasm")).toBe(false);
    expect(plan([here("cuda")], quick).length).toBeGreaterThan(0);
    const poor = plan([{ ...here("cuda"), dtypes: ["f32"] }], ordinary);
    expect(poor.every(({ dtype }) => dtype === "f32")).toBe(true);
  });
});
